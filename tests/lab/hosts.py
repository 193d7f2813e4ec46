"""The hosts of a lab, and the words that a test moves them with.

    with Lab() as lab:
        primary = lab.plain("primary", 2)
        standby = lab.systemd("standby", 3)
        stamp = primary.cut()

Moments are CLOCK_MONOTONIC seconds, as systemd's own timestamps are: lab and hosts share the clock.
"""

import itertools
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.lab import rootfs
from tests.lab.enter import RUN_VARIABLE, hierarchies, remove_cgroup
from tests.lab.network import LAN, LAN6, Cable, LabError, Namespace, Port, Switch, command
from tests.lab.wire import Wire

POLL_S = 0.02
TREES = Path("/run/lab")  # on the tmpfs of the room: nothing of a host is ever on disk
HOST_ENVIRONMENT = {"PATH": rootfs.STANDARD_PATH, "HOME": "/root", "LANG": "C.UTF-8"}

_serial = itertools.count(1)
H = TypeVar("H", bound="Host")


def wait_until(predicate: Callable[[], object], within: float, what: str) -> float:
    """Look every 20 ms until it is so; the seconds that took, or an AssertionError."""
    begun = time.monotonic()
    while True:
        if predicate():
            return time.monotonic() - begun
        if time.monotonic() - begun > within:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(POLL_S)


class Host:
    """What all kinds of hosts have: a name, an address, a port of the switch."""

    ping: tuple[str, ...] = ("ping",)

    def __init__(self, lab: "Lab", name: str, number: int, *, wired: bool = False) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,11}", name) or not 1 <= number <= 254:
            raise LabError(f"cannot have a host {name!r} with number {number}")
        self.lab = lab
        self.name = name
        self.address = f"{LAN}{number}"
        self.address6 = f"{LAN6}{number:x}"
        self.unique = f"{lab.unique}-{name}"
        self.cables: list[Cable] = []
        self.namespace = Namespace(self.unique)
        self.port: Port = lab.switch.plug(name, self.unique, wired=wired)
        self._furnish_network()

    def _furnish_network(self) -> None:
        self.namespace.sysctl(
            {
                # As systemd sets it on every real host; a new namespace starts with nobody.
                "ipv4/ping_group_range": "0 2147483647",
                # Duplicate address detection would keep addresses unusable for the first second.
                "ipv6/conf/default/accept_dad": "0",
                "ipv6/conf/eth0/accept_dad": "0",
            }
        )
        self.namespace.ip(
            "link set lo up",
            f"addr add {self.address}/24 dev eth0",
            f"addr add {self.address6}/64 dev eth0 nodad",
            "link set eth0 up",
        )
        # On every host, since any of them may talk to one whose port has a relay in it.
        self.namespace.finish_checksums("eth0")

    @property
    def wire(self) -> Wire:
        """The relay in this host's port; only hosts made with `wired=True` have one."""
        if not self.port.wire:
            raise LabError(f"{self.name} was made without wired=True")
        return self.port.wire

    def cut(self) -> float:
        """Take the switch port down; the moment it was done."""
        return self.port.cut()

    def heal(self) -> float:
        """Bring the switch port up again; the moment it was done."""
        return self.port.heal()

    def lose(
        self, percent: float = 0, *, towards: float | None = None, away: float | None = None
    ) -> float:
        """Lose a percentage of all frames each way, or per direction; 0 ends it."""
        return self.port.lose(percent, towards=towards, away=away)

    def go_dark(self) -> float:
        """Lose every link at once, as a host without power does."""
        return min([self.port.cut(), *(cable.cut() for cable in self.cables)])

    def light_up(self) -> float:
        """Give every link back; the moment the switch port was up."""
        for cable in self.cables:
            cable.heal()
        return self.port.heal()

    def crash(self) -> float:
        """Lose power; the moment it happened."""
        return self.go_dark()

    def start(self) -> float:
        """Get power again; the moment from which the host is heard."""
        return self.light_up()

    def run(
        self,
        *words: str,
        check: bool = True,
        within: float = 30,
        feed: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host; output as text; a failure raises unless `check=False`."""
        done = subprocess.run(
            [*self.doorway(), *words],
            input=feed,
            timeout=within,
            text=True,
            errors="replace",
            capture_output=True,
            check=False,
            env=HOST_ENVIRONMENT | dict(env or {}),
        )
        if check and done.returncode:
            said = f"{done.stdout}{done.stderr}".strip()
            raise LabError(f"{self.name}: {' '.join(words)!r} ended with {done.returncode}: {said}")
        return done

    def popen(self, *words: str, **options: object) -> "subprocess.Popen[str]":
        """Start a long-running command on the host; options as for subprocess.Popen."""
        given = {"text": True, "env": HOST_ENVIRONMENT, "stdin": subprocess.DEVNULL} | options
        return subprocess.Popen([*self.doorway(), *words], **given)  # type: ignore[call-overload,no-any-return]

    def doorway(self) -> list[str]:
        """The words that, put before a command, make it run on the host."""
        return ["nsenter", f"--net={self.namespace.path}"]

    def hears(self, address: str, *, within: float = 1.0) -> bool:
        """Whether one ping to an address is answered."""
        words = (*self.ping, "-c1", f"-W{within}", address)
        return self.run(*words, check=False, within=within + 5).returncode == 0

    def halt(self) -> None:
        """End what runs on the host, at once; waits for nothing."""

    def close(self) -> None:
        """Remove the host."""
        self.port.close()
        self.namespace.close()


class PlainHost(Host):
    """A namespace only: the kernel answers ping and ARP; commands are the machine's own."""

    @property
    def ping(self) -> tuple[str, ...]:  # type: ignore[override]
        """The hosts' ping: the machine may have none."""
        return ("chroot", str(rootfs.tree()), "ping")


class TreeHost(Host):
    """A host with a file system: an overlay on the room's tmpfs above the shared trees."""

    def __init__(
        self,
        lab: "Lab",
        name: str,
        number: int,
        *,
        layers: Sequence[Path] = (),
        files: Mapping[str, str] | None = None,
        wired: bool = False,
    ) -> None:
        """`layers` lie above the root file system, topmost first; `files` are there at boot."""
        super().__init__(lab, name, number, wired=wired)
        self.home = TREES / self.unique
        self.tree = self.home / "tree"
        for part in ("upper", "work", "tree"):
            (self.home / part).mkdir(parents=True)
        lower = ":".join(str(path) for path in (*layers, rootfs.tree()))
        options = f"lowerdir={lower},upperdir={self.home}/upper,workdir={self.home}/work"
        command("mount", "-t", "overlay", "overlay", "-o", options, str(self.tree))
        self.cgroups = [top / "lab" / lab.run / self.unique for top in hierarchies()]
        for path, text in (files or {}).items():
            self._put(self.tree, path, text, 0o644)

    def root(self) -> Path:
        """The host's own view of `/`, /run and /tmp included."""
        return self.tree

    def path(self, path: str) -> Path:
        """Where a file of the host lies for us; its symbolic links are followed inside the host."""
        return resolved(self.root(), path)

    def read(self, path: str) -> str:
        """The text of a file on the host."""
        return self.path(path).read_text(errors="replace")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file on the host, with the directories above it."""
        self._put(self.root(), path, text, mode)

    def exists(self, path: str) -> bool:
        """Whether a path exists on the host."""
        return self.path(path).exists()

    def freeze(self) -> None:
        """Stop every process of the host.

        Its kernel still answers ping: cut it as well to play a paused virtual machine.
        """
        self._freeze("1")

    def thaw(self) -> None:
        """Let the processes go on."""
        self._freeze("0")

    def _freeze(self, value: str) -> None:
        group = self.cgroups[-1]
        (group / "cgroup.freeze").write_text(value)
        wait_until(
            lambda: f"frozen {value}" in (group / "cgroup.events").read_text(),
            5,
            f"{self.name}: frozen {value}",
        )

    @staticmethod
    def _put(root: Path, path: str, text: str, mode: int) -> None:
        target = resolved(root, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def _spawn(self, words: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
        """Start a process in the host's cgroups: hosts that share one would share their units'."""
        for group in self.cgroups:
            group.mkdir(parents=True, exist_ok=True)
        joined = "; ".join(f"echo $$ > {group}/cgroup.procs" for group in self.cgroups)
        with log.open("ab") as output:
            return subprocess.Popen(
                ["sh", "-ec", f'{joined}; exec "$@"', "sh", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=HOST_ENVIRONMENT,
            )

    def close(self) -> None:
        super().close()
        subprocess.run(["umount", "-l", str(self.tree)], capture_output=True, check=False)
        shutil.rmtree(self.home, ignore_errors=True)
        for group in self.cgroups:
            remove_cgroup(group)


class LightHost(TreeHost):
    """A host without an init: a chroot in namespaces of its own; cheap enough to have many."""

    def __init__(
        self,
        lab: "Lab",
        name: str,
        number: int,
        *,
        layers: Sequence[Path] = (),
        files: Mapping[str, str] | None = None,
        wired: bool = False,
    ) -> None:
        super().__init__(lab, name, number, layers=layers, files=files, wired=wired)
        self._holder: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> float:
        """Make the host's namespaces, held by a process that sleeps."""
        script = """
            cd "$1"
            mount -t proc proc proc
            mount --rbind /dev dev
            mount -t sysfs -o ro sysfs sys
            mount -t tmpfs -o mode=0755 tmpfs run
            mount -t tmpfs tmpfs tmp
            exec chroot . /bin/sh -c 'echo up > /run/up; exec sleep infinity'
        """
        doorway = ["nsenter", f"--net={self.namespace.path}"]
        apart = ["unshare", "-m", "-p", "-f", "--kill-child", "--propagation", "private"]
        words = [*doorway, *apart, "sh", "-ec", script, "sh", str(self.tree)]
        self._holder = self._spawn(words, self.home / "log")
        wait_until(self._is_up, 10, f"{self.name} is up")
        return self.light_up()

    def _is_up(self) -> bool:
        if self._holder and self._holder.poll() is not None:
            raise LabError(f"{self.name} cannot start: {(self.home / 'log').read_text()}")
        child = self._inmost()
        return child is not None and Path(f"/proc/{child}/root/run/up").exists()

    def _inmost(self) -> int | None:
        return next(iter(children(self._holder.pid)), None) if self._holder else None

    def root(self) -> Path:
        return Path(f"/proc/{self._inmost()}/root")

    def doorway(self) -> list[str]:
        return ["nsenter", "-t", str(self._inmost()), "-m", "-n", "-p", "-r", "-w", "--"]

    def popen(self, *words: str, **options: object) -> "subprocess.Popen[str]":
        """Start a long-running command on the host, in its cgroup, so that `freeze` reaches it."""
        process = super().popen(*words, **options)
        for group in self.cgroups:
            (group / "cgroup.procs").write_text(str(process.pid))
        return process

    def halt(self) -> None:
        if self._holder and self._holder.poll() is None:
            (self.cgroups[-1] / "cgroup.freeze").write_text("0")
            self._holder.kill()

    def crash(self) -> float:
        stamp = self.go_dark()
        self.halt()
        self._gone()
        return stamp

    def _gone(self) -> None:
        if self._holder:
            self._holder.wait(10)

    def close(self) -> None:
        self._gone()
        super().close()


class SystemdHost(TreeHost):
    """A booted Debian: its own systemd as PID 1, D-Bus, journald.

    It boots while the test goes on; the first word that needs it waits until it is up.
    """

    def __init__(
        self,
        lab: "Lab",
        name: str,
        number: int,
        *,
        layers: Sequence[Path] = (),
        files: Mapping[str, str] | None = None,
        wired: bool = False,
        capabilities: Sequence[str] = ("CAP_NET_ADMIN", "CAP_IPC_LOCK"),
        binds: Mapping[str, str] | None = None,
    ) -> None:
        """`binds`: path on this machine -> path on the host, read-only."""
        super().__init__(lab, name, number, layers=layers, files=files, wired=wired)
        self._words = [
            "systemd-nspawn",
            f"--directory={self.tree}",
            "--boot",
            "--register=no",
            "--keep-unit",
            f"--network-namespace-path={self.namespace.path}",
            "--console=pipe",
            f"--machine={self.unique}",
            f"--hostname={name}",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            f"--capability={','.join(capabilities)}",
            *(f"--bind-ro={here}:{there}" for here, there in (binds or {}).items()),
        ]
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init: int | None = None
        self._up = False
        self.boot_began_s = 0.0
        self._boot()

    # power

    def _boot(self) -> None:
        self.boot_began_s = time.monotonic()
        self._init, self._up = None, False
        self._nspawn = self._spawn(self._words, self.home / "console")

    @property
    def init(self) -> int:
        """The process id, for us, of the host's PID 1; there from the first moment of the boot."""
        if self._init is None:
            wait_until(self._found_init, 20, f"{self.name} has a PID 1")
        if self._init is None:
            raise AssertionError
        return self._init

    def _found_init(self) -> bool:
        if self._nspawn is None or self._nspawn.poll() is not None:
            raise LabError(f"{self.name} is off; its console said:\n{self.console()}")
        for child in children(self._nspawn.pid):
            try:
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):  # a passing child of nspawn
                continue
            if words[0].endswith(b"systemd"):
                self._init = child
                return True
        return False

    def up(self, within: float = 30) -> Self:
        """Wait until the host has booted: everything that starts at boot has started or failed."""
        if not self._up or self._nspawn is None or self._nspawn.poll() is not None:
            self._up = False
            init = self.init
            try:
                wait_until(lambda: self._booted(init), within, f"{self.name} is up")
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self.console()}") from None
            self._up = True
        return self

    def _booted(self, init: int) -> bool:
        words = ["nsenter", "-t", str(init), "-a", "systemctl", "is-system-running"]
        if self._nspawn is None or self._nspawn.poll() is not None:
            raise LabError(f"{self.name} went off in boot; its console said:\n{self.console()}")
        asked = subprocess.run(
            words, capture_output=True, text=True, check=False, env=HOST_ENVIRONMENT
        )
        return asked.stdout.strip() in {"running", "degraded"}

    def console(self) -> str:
        """What the host printed while it booted."""
        file = self.home / "console"
        return file.read_text(errors="replace") if file.exists() else ""

    def halt(self) -> None:
        if self._nspawn and self._nspawn.poll() is None:
            (self.cgroups[-1] / "cgroup.freeze").write_text("0")
            try:
                # Never nspawn itself: PID 1 and all its children would stay behind.
                os.kill(self.init, signal.SIGKILL)
            except (ProcessLookupError, LabError):
                return

    def _off(self, within: float = 30) -> int:
        """Wait until the host is off; nspawn's status: 133 = it wants to be started again."""
        if self._nspawn is None:
            raise AssertionError
        try:
            status = self._nspawn.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} is not off after {within} s") from None
        self._init, self._up = None, False
        return status

    def crash(self) -> float:
        """Lose power: dark first, then PID 1 and everything below it; the moment it went dark."""
        stamp = self.go_dark()
        self.halt()
        self._off()
        return stamp

    def start(self) -> float:
        """Power on; the moment from which its network is heard.  `up()` waits for the boot."""
        self._boot()
        self.init  # noqa: B018 - a host whose kernel has not started does not answer yet
        return self.light_up()

    def reboot(self, within: float = 60) -> float:
        """Restart in an orderly way; the moment from which its network is heard again."""
        self.run("systemctl", "--no-block", "reboot")
        status = self._off(within)
        if status != 133:
            raise AssertionError(f"{self.name} went off with {status} instead of rebooting")
        self.go_dark()
        return self.start()

    def wait_for_boot(self, within: float = 30) -> float:
        """Wait until the host reboots by itself, then let it; the moment its old system ended."""
        descriptor = os.pidfd_open(self.init)
        try:
            ended, _, _ = select.select([descriptor], [], [], within)
        finally:
            os.close(descriptor)
        if not ended:
            raise AssertionError(f"{self.name} has not rebooted after {within} s")
        stamp = self.go_dark()
        status = self._off()
        if status != 133:
            raise AssertionError(f"{self.name} went off with {status} instead of rebooting")
        self.start()
        return stamp

    def poweroff(self, within: float = 60) -> float:
        """Shut down in an orderly way; the moment it went dark."""
        self.run("systemctl", "--no-block", "poweroff")
        self._off(within)
        return self.go_dark()

    # files and commands

    def root(self) -> Path:
        return Path(f"/proc/{self.up().init}/root")

    def doorway(self) -> list[str]:
        return ["nsenter", "-t", str(self.up().init), "-a", "--"]

    def boot_id(self) -> str:
        """The kernel's name for this boot of this host."""
        return self.run("cat", "/proc/sys/kernel/random/boot_id").stdout.strip()

    # units

    def install_units(self, units: Mapping[str, str]) -> None:
        """Write unit files (name -> text) and let systemd read them."""
        for name, text in units.items():
            self.write(f"/etc/systemd/system/{name}", text)
        self.run("systemctl", "daemon-reload")

    def systemctl(self, *words: str, check: bool = True, within: float = 30) -> str:
        """Run systemctl on the host; what it printed."""
        return self.run("systemctl", *words, check=check, within=within).stdout.strip()

    def unit(self, name: str) -> dict[str, str]:
        """All properties of a unit, as `systemctl show` has them."""
        lines = self.run("systemctl", "show", name).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def active_since(self, name: str) -> float:
        """When a unit last became active; 0 = never, or systemd has forgotten (see `units.pin`)."""
        return self._entered(name, "ActiveEnterTimestampMonotonic")

    def inactive_since(self, name: str) -> float:
        """When a unit last became inactive; 0 = never, or systemd has forgotten."""
        return self._entered(name, "InactiveEnterTimestampMonotonic")

    def _entered(self, name: str, timestamp: str) -> float:
        return int(self.systemctl("show", name, "--value", "-p", timestamp) or 0) / 1e6

    def running(self, name: str) -> bool:
        """Whether a service has a process; looks at the kernel, asks nobody."""
        return bool(self.pids(name))

    def pids(self, name: str) -> list[int]:
        """The processes of a service, as ids for us; looks at the kernel, asks nobody."""
        try:
            text = (self.cgroup(name) / "cgroup.procs").read_text()
        except (FileNotFoundError, OSError):  # ENODEV: removed while we read
            return []
        return [int(word) for word in text.split()]

    def cgroup(self, name: str) -> Path:
        """A service's directory in the unified hierarchy (cpu.stat, cgroup.freeze, ...)."""
        template, instance, _ = name.partition("@")
        inner = f"system-{template.replace('-', chr(92) + 'x2d')}.slice" if instance else ""
        return self.cgroups[-1] / "payload/system.slice" / inner / name

    def pid_of(self, name: str) -> int:
        """The main process of a service, as an id for us."""
        pids = self.pids(name)
        if len(pids) > 1:
            main = self.systemctl("show", name, "--value", "-p", "MainPID")
            pids = [pid for pid in pids if _innermost_pid(pid) == main]
        if not pids:
            raise AssertionError(f"{self.name}: {name} has no process\n{self.journal(name)}")
        return pids[0]

    def signal(self, name: str, number: int = signal.SIGKILL) -> float:
        """Send a signal to the main process of a service; the moment it was sent."""
        pid = self.pid_of(name)
        stamp = time.monotonic()
        os.kill(pid, number)
        return stamp

    def wait_for(self, name: str, state: str, within: float) -> float:
        """Wait for a unit's ActiveState; the seconds that took, or an error that shows why."""
        alive = state in {"active", "reloading", "deactivating"}
        asked_s = 0.0

        def reached() -> bool:
            nonlocal asked_s
            # The kernel is looked at first: asking systemd costs it and us some milliseconds.
            if self.running(name) is not alive and time.monotonic() - asked_s < 0.25:
                return False
            asked_s = time.monotonic()
            return self.systemctl("show", name, "--value", "-p", "ActiveState") == state

        self.up()
        try:
            return wait_until(reached, within, f"{self.name}: {name} is {state}")
        except AssertionError as error:
            shown = self.run("systemctl", "status", "--no-pager", name, check=False).stdout
            raise AssertionError(f"{error}\n{shown}\n{self.journal(lines=40)}") from None

    def journal(self, unit: str = "", *, lines: int = 0, fields: bool = False) -> str:
        """The journal of this boot, of one unit or of all, as text (or as JSON lines)."""
        words = ["journalctl", "-b", "--no-pager", "-o", "json" if fields else "short-monotonic"]
        words += ["-u", unit] if unit else []
        words += ["-n", str(lines)] if lines else []
        return self.run(*words, check=False).stdout

    def close(self) -> None:
        if self._nspawn:
            self._off()
        super().close()


class Lab:
    """One switch and its hosts; all of it ends with the `with` block."""

    def __init__(self) -> None:
        run = os.environ.get(RUN_VARIABLE)
        if not run:
            raise LabError(
                "cannot make a lab outside a lab run\n"
                "hint: python -m tests.lab.enter COMMAND... (for example: pytest tests/lab)"
            )
        self.run = run
        self.unique = f"{os.getpid()}-{next(_serial)}"
        self.hosts: dict[str, Host] = {}
        self.switch = Switch(f"{self.unique}-switch")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def plain(self, name: str, number: int, *, wired: bool = False) -> PlainHost:
        """A host that is a kernel and nothing else."""
        return self.add(PlainHost(self, name, number, wired=wired))

    def light(
        self,
        name: str,
        number: int,
        *,
        layers: Sequence[Path] = (),
        files: Mapping[str, str] | None = None,
        wired: bool = False,
    ) -> LightHost:
        """A host with a file system and no init."""
        return self.add(LightHost(self, name, number, layers=layers, files=files, wired=wired))

    def systemd(
        self,
        name: str,
        number: int,
        *,
        layers: Sequence[Path] = (),
        files: Mapping[str, str] | None = None,
        wired: bool = False,
        binds: Mapping[str, str] | None = None,
    ) -> SystemdHost:
        """A booted Debian."""
        return self.add(
            SystemdHost(self, name, number, layers=layers, files=files, wired=wired, binds=binds)
        )

    def add(self, host: H) -> H:
        """Take in a host of a kind of your own; it ends with the lab."""
        self.hosts[host.name] = host
        return host

    def cable(self, one: str, other: str) -> Cable:
        """A second link between two hosts, beside the switch; addresses in `.addresses`."""
        pair = [self.hosts[one], self.hosts[other]]
        ends = {host.name: (host.unique, f"eth{len(host.cables) + 1}") for host in pair}
        cable = self.switch.cable(ends)
        for host in pair:
            host.cables.append(cable)
            host.namespace.ip(
                f"addr add {cable.addresses[host.name]}/28 dev {ends[host.name][1]}",
                f"link set {ends[host.name][1]} up",
            )
        return cable

    def part(self, one: str, other: str) -> float:
        """Let no frame pass between two hosts over the switch; both still reach all others."""
        return self.switch.part(self.hosts[one].port, self.hosts[other].port)

    def join(self, one: str, other: str) -> float:
        """End `part`."""
        return self.switch.join(self.hosts[one].port, self.hosts[other].port)

    def close(self) -> None:
        """End every host, then take away what they stood on."""
        for host in self.hosts.values():
            host.halt()
        for host in self.hosts.values():
            host.close()
        self.hosts.clear()
        self.switch.close()


def resolved(root: Path, path: str) -> Path:
    """A path below `root`, its links read as inside `root` (/var/run is /run *there*)."""
    parts = [part for part in reversed(path.split("/")) if part not in {"", "."}]
    current: list[str] = []
    while parts:
        part = parts.pop()
        if part == "..":
            current = current[:-1]
            continue
        candidate = root.joinpath(*current, part)
        if not candidate.is_symlink():
            current.append(part)
            continue
        target = str(candidate.readlink())
        if target.startswith("/"):
            current = []
        parts += [step for step in reversed(target.split("/")) if step not in {"", "."}]
    return root.joinpath(*current)


def children(pid: int) -> Iterable[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(word) for word in text.split()]


def _innermost_pid(pid: int) -> str:
    """What a process is called in its own host."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return text.partition("NSpid:")[2].partition("\n")[0].split()[-1]
