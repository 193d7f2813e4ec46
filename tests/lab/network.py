"""The switch and its cables: who hears whom.

Every frame of a lab stays between namespaces that the lab made; nothing here knows of an interface
of the machine.  What changes the network returns CLOCK_MONOTONIC seconds: the moment from which
the change counts, which is also the clock of systemd's timestamps.
"""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.lab.wire import ETH_P_ALL, Wire

NETNS = Path("/run/netns")
LAN = "198.51.100."  # RFC 5737, TEST-NET-2
LAN6 = "2001:db8:51:100::"  # RFC 3849
CABLES = "203.0.113."  # RFC 5737, TEST-NET-3; a /28 for each cable

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The lab cannot do what was asked; the text says why."""


def command(*words: str, feed: str | None = None) -> str:
    """Run one program of the machine; its output, or a LabError with what it said."""
    done = subprocess.run(words, input=feed, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise LabError(f"cannot run {' '.join(words)!r}: {said}" + (f"\n{feed}" if feed else ""))
    return done.stdout


class Namespace:
    """One named network namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        command("ip", "netns", "add", name)
        self.path = NETNS / name
        # A socket stays in the namespace it was made in, so no later ioctl has to go there: that
        # makes a cut a single system call, with no fork between the stamp and the effect.
        self.control = self.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def ip(self, *lines: str) -> None:
        """Run lines of `ip` in one go."""
        command("ip", "-n", self.name, "-batch", "-", feed="\n".join(lines) + "\n")

    def run(self, *words: str, feed: str | None = None) -> str:
        """Run a program of the machine in here."""
        return command("nsenter", f"--net={self.path}", *words, feed=feed)

    def sysctl(self, settings: dict[str, str]) -> None:
        """Set values below /proc/sys/net, which always shows the namespace of who looks."""

        def write() -> None:
            for path, value in settings.items():
                Path("/proc/sys/net", path).write_text(value)

        self.inside(write)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives in here, for use from anywhere."""
        made: list[socket.socket] = []
        self.inside(lambda: made.append(socket.socket(family, kind, protocol)))
        return made[0]

    def inside(self, call: Callable[[], None]) -> None:
        """Call something on a thread of its own that has entered this namespace."""
        trouble: list[BaseException] = []

        def entered() -> None:
            try:
                file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if _libc.setns(file, _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), f"cannot enter {self.name}")
                finally:
                    os.close(file)
                call()
            except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
                trouble.append(error)

        thread = threading.Thread(target=entered)
        thread.start()
        thread.join()
        if trouble:
            raise trouble[0]

    def switch_interface(self, name: str, *, up: bool) -> float:
        """Set an interface up or down at once; the moment just before it took effect."""
        packed = struct.pack("16sH14x", name.encode(), 0)
        answer = fcntl.ioctl(self.control, _SIOCGIFFLAGS, packed)
        flags = struct.unpack("16sH14x", answer)[1]
        flags = flags | _IFF_UP if up else flags & ~_IFF_UP
        wanted = struct.pack("16sH14x", name.encode(), flags)
        stamp = time.monotonic()
        fcntl.ioctl(self.control, _SIOCSIFFLAGS, wanted)
        return stamp

    def finish_checksums(self, interface: str) -> None:
        """Let frames leave with whole checksums, as they must when a program relays them."""
        value = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_STXCSUM, 0))
        asked = struct.pack("16sP8x", interface.encode(), ctypes.addressof(value))
        fcntl.ioctl(self.control, _SIOCETHTOOL, asked)

    def close(self) -> None:
        """Remove the name; the kernel removes the rest with its last user."""
        self.control.close()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)


class Port:
    """A socket of the switch, and the host's interface that is plugged into it."""

    def __init__(
        self,
        switch: "Switch",
        host: str,
        interface: str,
        name: str,
        *,
        bridge: str = "br0",
        wired: bool = False,
    ) -> None:
        """`host` is its namespace; with `wired`, frames pass a relay on their way to the switch."""
        self.name = name
        self.interface = interface
        self.wire: Wire | None = None
        self._switch = switch
        self._links = [name]  # what goes down when the link is cut, the host's end first
        self._table = f"loss_{name}".replace("-", "_")
        plug = f"link set {name} master {bridge} up"
        if not wired:
            switch.namespace.ip(
                f"link add {name} type veth peer name {interface} netns {host}", plug
            )
            return
        inner, outer = f"w{name}", f"c{name}"
        self._links.insert(0, inner)
        switch.namespace.ip(
            f"link add {inner} type veth peer name {interface} netns {host}",
            f"link add {name} type veth peer name {outer}",
            f"link set {inner} promisc on up",
            f"link set {outer} promisc on up",
            plug,
        )
        self.wire = Wire(switch.tap(inner), switch.tap(outer))

    def cut(self) -> float:
        """Take the link away, as a dead switch port does: the host loses its carrier."""
        return min(self._switch.namespace.switch_interface(link, up=False) for link in self._links)

    def heal(self) -> float:
        """Give the link back."""
        return max(self._switch.namespace.switch_interface(link, up=True) for link in self._links)

    def lose(
        self, percent: float = 0, *, towards: float | None = None, away: float | None = None
    ) -> float:
        """Lose that percentage of the frames, each way or per direction seen from the switch.

        `towards` is the way to the host, `away` the way from it; 0 ends the loss.
        """
        to_host = percent if towards is None else towards
        from_host = percent if away is None else away
        rules = "".join(
            f'{side} "{self.name}" numgen random mod 10000 < {round(part * 100)} counter drop;\n'
            for side, part in (("oifname", to_host), ("iifname", from_host))
            if part
        )
        return self._switch.rules(self._table, rules)

    def lost(self) -> int:
        """How many frames the present loss has taken."""
        return self._switch.counted(self._table)

    def close(self) -> None:
        """End the relay, if there is one; the links go with their namespaces."""
        if self.wire:
            self.wire.close()


class Cable:
    """A second link, directly between two hosts, beside the switch (a crossover cable).

    Unplugged, or with one end powered off, both ends lose their carrier.
    """

    def __init__(self, switch: "Switch", number: int, ends: dict[str, tuple[str, str]]) -> None:
        """`ends`: host name -> (its namespace, the name its interface gets)."""
        self._namespace = switch.namespace
        bridge = f"x{number}"
        self._namespace.ip(
            f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"link set {bridge} up",
        )
        self.addresses: dict[str, str] = {}  # host name -> its address on this cable
        self.ports: dict[str, Port] = {}
        for place, (host, (namespace, interface)) in enumerate(ends.items(), start=1):
            name = f"x{number}-{place}"
            self.ports[host] = Port(switch, namespace, interface, name, bridge=bridge)
            self.addresses[host] = f"{CABLES}{16 * number + place}"

    def cut(self) -> float:
        """Unplug it."""
        return min(port.cut() for port in self.ports.values())

    def heal(self) -> float:
        """Plug it in again."""
        return max(port.heal() for port in self.ports.values())


class Switch:
    """A bridge in a namespace of its own."""

    def __init__(self, name: str) -> None:
        self.namespace = Namespace(name)
        # Snooping off: without a querier it would hold back neighbour solicitations.
        self.namespace.ip(
            "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            "link set br0 up",
        )
        self._cables = 0

    def plug(self, host: str, namespace: str, *, wired: bool = False) -> Port:
        """Connect a host's eth0."""
        return Port(self, namespace, "eth0", f"p-{host}", wired=wired)

    def tap(self, interface: str) -> socket.socket:
        """A packet socket on one interface of the switch's namespace."""
        tap = self.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        tap.bind((interface, ETH_P_ALL))
        return tap

    def cable(self, ends: dict[str, tuple[str, str]]) -> Cable:
        """Lay a cable beside the switch."""
        self._cables += 1
        return Cable(self, self._cables, ends)

    def part(self, one: Port, other: Port) -> float:
        """Let no frame pass between two ports; both still reach everybody else."""
        rules = "".join(
            f'iifname "{a.name}" oifname "{b.name}" counter drop;\n'
            for a, b in ((one, other), (other, one))
        )
        return self.rules(_between(one, other), rules)

    def join(self, one: Port, other: Port) -> float:
        """End `part`."""
        return self.rules(_between(one, other), "")

    def rules(self, table: str, rules: str) -> float:
        """Replace the rules of one table on forwarded frames, at once; none removes it."""
        script = f"table bridge {table} {{}};\ndelete table bridge {table};\n"
        if rules:
            hook = "type filter hook forward priority 0;"
            script += f"table bridge {table} {{ chain c {{ {hook}\n{rules} }}; }}\n"
        stamp = time.monotonic()
        self.namespace.run("nft", "-f", "-", feed=script)
        return stamp

    def counted(self, table: str) -> int:
        """The packets that the rules of one table have dropped."""
        listed = self.namespace.run("nft", "list", "ruleset", "bridge")
        words = listed.partition(f"table bridge {table} {{")[2].partition("table bridge")[0].split()
        return sum(int(words[k + 1]) for k, word in enumerate(words) if word == "packets")

    def close(self) -> None:
        """Take the switch away, with all its ports."""
        self.namespace.close()


def _between(one: Port, other: Port) -> str:
    first, second = sorted((one.name, other.name))
    return f"part_{first}_{second}".replace("-", "_")
