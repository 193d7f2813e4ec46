"""An attacker on the LAN, as strong as the LAN allows: what he can make the standby believe.

Three of them.  The *blind* one stands at another port of the switch, can send anything under any
address, and sees broadcasts alone.  The *seer* sees every frame of the standby's port, as with a
mirror port.  The *relay* sits in the cable.  The nonce is safe from the first only.
"""

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.lab.hosts import Host, Lab, wait_until
from tests.lab.pair import APP, MONITOR, Pair, Standby, pair
from tests.lab.test_network import (
    INTERVAL_S,
    SLACK_S,
    SPACING_S,
    VERDICT_S,
    checksum,
    nothing_was_done,
    raw_socket,
    stays,
    stays_active,
    told,
    watched_throughout,
)
from tests.lab.wire import Way

pytestmark = pytest.mark.timeout(120)

SOON_S = INTERVAL_S + VERDICT_S + SLACK_S
ECHO_REQUEST, ECHO_REPLY, UNREACHABLE, REDIRECT, TIME_EXCEEDED = 8, 0, 3, 5, 11
ETH_P_ARP = 0x0806


def ipv4(source: str, target: str, body: bytes, protocol: int = socket.IPPROTO_ICMP) -> bytes:
    """A whole packet; the kernel sees to the header's checksum."""
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    return header + socket.inet_aton(source) + socket.inet_aton(target) + body


def icmp(kind: int, code: int, rest: bytes) -> bytes:
    """An ICMP message with its checksum; `rest` is what follows it."""
    message = bytes([kind, code, 0, 0]) + rest
    return message[:2] + checksum(message) + message[4:]


def mac_of(host: Host) -> bytes:
    """The hardware address of its eth0."""
    words = host.run("ip", "-o", "link", "show", "eth0").stdout.split()
    return bytes.fromhex(words[words.index("link/ether") + 1].replace(":", ""))


def arp(operation: int, sender_mac: bytes, sender: str, mac: bytes, target: str) -> bytes:
    """A frame to the hardware address that it names, or to all."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    body += sender_mac + socket.inet_aton(sender) + mac + socket.inet_aton(target)
    return (mac if any(mac) else b"\xff" * 6) + sender_mac + b"\x08\x06" + body + bytes(18)


class Attacker:
    """A host at another port of the switch; what he does he does for as long as a block lasts."""

    def __init__(self, lab: Lab) -> None:
        self.host = lab.plain("attacker", 66)
        self.mac = mac_of(self.host)
        self.sent = 0
        self._lab = lab

    @contextmanager
    def saying(self, packets: Callable[[], list[bytes]], pause_s: float) -> Iterator[None]:
        """Send these IPv4 packets again and again."""
        with self._raw() as out, self._working(lambda: self._send(out, packets()), pause_s):
            yield

    @contextmanager
    def framing(self, frames: list[bytes], pause_s: float) -> Iterator[None]:
        """Send these frames again and again."""
        sock = self.host.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with sock:
            sock.bind(("eth0", 0))
            with self._working(lambda: [sock.send(frame) for frame in frames], pause_s):
                yield

    @contextmanager
    def seeing(self, standby: Standby, react: Callable[[bytes], list[bytes]]) -> Iterator[None]:
        """See every IPv4 packet at the standby's port, and answer it with others."""
        with self._lab.switch.tap(standby.port.name) as tap, self._raw() as out:
            tap.settimeout(0.05)

            def look() -> None:
                try:
                    frame = tap.recv(4096)
                except TimeoutError:
                    return
                if frame[12:14] == b"\x08\x00":
                    self._send(out, react(frame[14:]))

            with self._working(look, 0.0):
                yield

    @contextmanager
    def answering_arp(self, asked: str) -> Iterator[None]:
        """Answer every request for an address with our own hardware address."""
        tap = self.host.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP))
        with tap:
            tap.bind(("eth0", ETH_P_ARP))
            tap.settimeout(0.05)

            def answer() -> None:
                try:
                    frame, where = tap.recvfrom(2048)
                except TimeoutError:
                    return
                question = b"\0\1", socket.inet_aton(asked)
                if where[2] != socket.PACKET_OUTGOING and (frame[20:22], frame[38:42]) == question:
                    asker = socket.inet_ntoa(frame[28:32])
                    tap.send(arp(2, self.mac, asked, frame[22:28], asker))
                    self.sent += 1

            with self._working(answer, 0.0):
                yield

    def _raw(self) -> socket.socket:
        return raw_socket(self.host.namespace)

    def _send(self, out: socket.socket, packets: list[bytes]) -> None:
        for packet in packets:
            out.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
            self.sent += 1

    @contextmanager
    def _working(self, work: Callable[[], object], pause_s: float) -> Iterator[None]:
        ended = threading.Event()
        trouble: list[BaseException] = []

        def go_on() -> None:
            try:
                while not ended.is_set():
                    work()
                    if pause_s:
                        ended.wait(pause_s)
            except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
                trouble.append(error)

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        if trouble:
            raise trouble[0]


def memory_bytes(standby: Standby) -> int:
    """What the monitor's process occupies."""
    pid = standby.unit(MONITOR)["MainPID"]
    text = standby.run("cat", f"/proc/{pid}/smaps_rollup").stdout
    (rss,) = [line for line in text.splitlines() if line.startswith("Rss:")]
    return int(rss.split()[1]) * 1024


def over_and_back(hosts: Pair) -> None:
    """The primary dies now: a takeover in the promised time, neither sooner nor later; and back."""
    assert VERDICT_S - SPACING_S < hosts.takeover() < SOON_S
    stays_active(hosts.standby, 2)
    hosts.failback()
    hosts.standby.wait_for_state("active_alive", 5)
    assert told(hosts.standby, "asked") == [f"start {APP}", f"stop {APP}"]
    watched_throughout(hosts.standby)


def guesses(hosts: Pair) -> list[bytes]:
    """What can be said without having seen anything: replies and errors with guessed numbers."""
    standby, primary = hosts.standby.address, hosts.primary.address
    made = []
    for source in (primary, hosts.gateway.address):
        number = random.randbytes(4)
        made.append(ipv4(source, standby, icmp(ECHO_REPLY, 0, number + random.randbytes(8))))
        echo = bytes([ECHO_REQUEST, 0, 0, 0]) + number + random.randbytes(8)
        quote = ipv4(standby, primary, echo)
        for kind, code, middle in (
            (UNREACHABLE, 1, bytes(4)),
            (UNREACHABLE, 4, bytes(2) + b"\0\x44"),  # an MTU of 68 bytes
            (TIME_EXCEEDED, 0, bytes(4)),
        ):
            made.append(ipv4(source, standby, icmp(kind, code, middle + quote)))
    return made * 20


def test_a_blind_attacker_keeps_nobody_alive_and_kills_nobody(lab: Lab) -> None:
    """Thousands of guesses a second, alive, dead and alive again: all as without him."""
    hosts = pair(lab)
    attacker = Attacker(lab)
    with attacker.saying(lambda: guesses(hosts), pause_s=0.02):
        stays(hosts.standby, "active_alive", 3)
        before_bytes = memory_bytes(hosts.standby)
        stays(hosts.standby, "active_alive", 4)
        nothing_was_done(hosts.standby)
        over_and_back(hosts)
        assert memory_bytes(hosts.standby) - before_bytes < 2 << 20
    assert attacker.sent > 20_000
    assert "via" not in hosts.standby.run("ip", "route", "get", hosts.primary.address).stdout


def redirects(hosts: Pair, attacker: Attacker) -> list[bytes]:
    """In the primary's name: the way to the primary leads through the attacker.

    The first of the two makes the kernel keep an exception for the primary; else it would take no
    redirect for a host on its own link.
    """
    standby, primary = hosts.standby.address, hosts.primary.address
    quote = ipv4(standby, primary, bytes([ECHO_REQUEST, 0, 0, 0]) + bytes(12))
    towards = socket.inet_aton(attacker.host.address)
    return [
        ipv4(primary, standby, icmp(UNREACHABLE, 4, b"\0\0\2\x28" + quote)),
        ipv4(primary, standby, icmp(REDIRECT, 1, towards + quote)),
    ]


def test_a_redirect_to_nowhere_holds_everything_and_is_told(lab: Lab) -> None:
    """A kernel as shipped follows it, from a blind attacker, too: we could not ask, so we hold."""
    hosts = pair(lab)
    attacker = Attacker(lab)
    with attacker.saying(lambda: redirects(hosts, attacker), pause_s=0.1):
        hosts.standby.wait_for_log("cannot send to the primary: an ICMP redirect", 10)
        hosts.standby.wait_for_state("unknown", 10)
        stays(hosts.standby, "unknown", 6)
        nothing_was_done(hosts.standby)


def test_a_redirect_changes_nothing_where_none_is_accepted(lab: Lab) -> None:
    """What docs/safety.md advises: accept_redirects is 0 before anybody forges one."""
    hosts = pair(lab)
    for link in ("all", "eth0"):
        hosts.standby.namespace.sysctl({f"ipv4/conf/{link}/accept_redirects": "0"})
    attacker = Attacker(lab)
    with attacker.saying(lambda: redirects(hosts, attacker), pause_s=0.1):
        stays(hosts.standby, "active_alive", 5)
        nothing_was_done(hosts.standby)
        over_and_back(hosts)


def errors_about(hosts: Pair) -> Callable[[bytes], list[bytes]]:
    """To each echo for the primary every error there is, with the very echo in it."""
    standby, primary = hosts.standby.address, hosts.primary.address

    def react(packet: bytes) -> list[bytes]:
        packet = packet[: struct.unpack_from("!H", packet, 2)[0]]
        ends = socket.inet_aton(standby) + socket.inet_aton(primary)
        if packet[9] != socket.IPPROTO_ICMP or packet[12:20] != ends or packet[20] != ECHO_REQUEST:
            return []
        bad = packet[:-1] + bytes([packet[-1] ^ 1])
        kinds = [(UNREACHABLE, code) for code in range(16)]
        kinds += [(TIME_EXCEEDED, 0), (TIME_EXCEEDED, 1), (REDIRECT, 0), (REDIRECT, 1)]
        return [
            ipv4(source, standby, icmp(kind, code, bytes(4) + quote))
            for kind, code in kinds
            for source in (primary, hosts.gateway.address)
            for quote in (packet, packet[:28], bad)
        ]

    return react


def test_forged_errors_with_the_right_echo_in_them_are_at_most_a_suspicion(lab: Lab) -> None:
    """A seer says unreachable after every echo: no verdict, and none sooner when it is true."""
    hosts = pair(lab)
    attacker = Attacker(lab)
    with attacker.seeing(hosts.standby, errors_about(hosts)):
        stays(hosts.standby, "active_alive", 8)
        nothing_was_done(hosts.standby)
        assert attacker.sent > 500
        over_and_back(hosts)


def test_genuine_answers_played_again_keep_nobody_alive(lab: Lab) -> None:
    """A seer records every answer of the primary and plays them all when it is dead."""
    hosts = pair(lab)
    attacker = Attacker(lab)
    standby, primary = hosts.standby.address, hosts.primary.address
    ends = socket.inet_aton(primary) + socket.inet_aton(standby)
    recorded: set[bytes] = set()

    def record(packet: bytes) -> list[bytes]:
        packet = packet[: struct.unpack_from("!H", packet, 2)[0]]
        if packet[12:20] == ends and packet[20] == ECHO_REPLY:
            recorded.add(packet)
        return []

    with attacker.seeing(hosts.standby, record):
        stays(hosts.standby, "active_alive", 6)
    assert len(recorded) >= 5
    with attacker.saying(lambda: list(recorded), pause_s=0.02):
        over_and_back(hosts)
    assert attacker.sent > 500


def test_every_frame_played_again_later_keeps_nobody_alive(lab: Lab) -> None:
    """A relay in the cable repeats all that the standby got 4 s before."""
    hosts = pair(lab, wired=True)
    hosts.standby.wire.be(towards=Way(replay_after_s=4.0))
    stays(hosts.standby, "active_alive", 6)
    nothing_was_done(hosts.standby)
    over_and_back(hosts)


def test_wrong_bits_and_stumps_change_nothing(lab: Lab) -> None:
    """Every fifth frame each way is bent or cut off: no verdict while it lives, one when not."""
    hosts = pair(lab, wired=True)
    hosts.standby.wire.be(Way(corrupt_percent=15, truncate_percent=5))
    stays(hosts.standby, "active_alive", 10)
    nothing_was_done(hosts.standby)
    stamp = hosts.primary.cut()
    hosts.standby.wait_for(APP, "active", 20)
    # The rounds just before the cut may have been bent, each with 36 %: they are silence, too.
    assert hosts.standby.active_since(APP) - stamp > VERDICT_S - 8 * SPACING_S
    assert "verdict down: 3 checks in a row failed: " in hosts.standby.log()
    watched_throughout(hosts.standby)


def poison(hosts: Pair, attacker: Attacker) -> list[bytes]:
    """Frames that tell the standby that the primary is where the attacker is."""
    ours, primary = mac_of(hosts.standby), hosts.primary.address
    return [
        arp(2, attacker.mac, primary, ours, hosts.standby.address),
        arp(1, attacker.mac, primary, bytes(6), primary),
        arp(2, attacker.mac, primary, b"\xff" * 6, primary),
    ]


@pytest.mark.two_active
def test_forged_arp_is_a_cut_path_and_no_quicker_than_one(lab: Lab) -> None:
    """He draws our echoes to himself and swallows them: that may be a verdict, never before V."""
    hosts = pair(lab)
    attacker = Attacker(lab)
    begun = time.monotonic()
    with attacker.framing(poison(hosts, attacker), pause_s=0.02):
        end = begun + 12
        while time.monotonic() < end and not hosts.standby.running(APP):
            time.sleep(0.05)
        taken_over = hosts.standby.running(APP)
        if taken_over:
            assert hosts.standby.active_since(APP) - begun > VERDICT_S - SPACING_S
    print(f"poisoned ARP: {'a takeover' if taken_over else 'nothing happened'}")
    wait_until(lambda: hosts.standby.state() == "active_alive", 10, "the poison is gone")
    hosts.standby.wait_for(APP, "inactive", 10)
    watched_throughout(hosts.standby)


def test_a_permanent_neighbour_entry_makes_forged_arp_harmless(lab: Lab) -> None:
    """What docs/safety.md advises: the primary's hardware address is written down."""
    hosts = pair(lab)
    attacker = Attacker(lab)
    known = mac_of(hosts.primary).hex(":")
    hosts.standby.namespace.ip(
        f"neigh replace {hosts.primary.address} lladdr {known} dev eth0 nud permanent"
    )
    with attacker.framing(poison(hosts, attacker), pause_s=0.02):
        stays(hosts.standby, "active_alive", 8)
        nothing_was_done(hosts.standby)
        over_and_back(hosts)


def test_announcements_are_no_life_where_neighbours_count(lab: Lab) -> None:
    """Unsolicited ARP for a dead primary, sent to all, keeps it dead: it answers no question."""
    hosts = pair(lab, neighbour_evidence="all")
    attacker = Attacker(lab)
    with attacker.framing(poison(hosts, attacker)[1:], pause_s=0.02):
        assert VERDICT_S - SPACING_S < hosts.takeover() < SOON_S
        stays_active(hosts.standby, 2)
    watched_throughout(hosts.standby)


def test_whoever_answers_our_question_is_believed_where_neighbours_count(lab: Lab) -> None:
    """ARP has no secret: anybody on the link can keep a dead primary alive, where that was chosen.

    Without the choice the same forger keeps nobody alive.
    """
    hosts = pair(lab, neighbour_evidence="all")
    attacker = Attacker(lab)
    with attacker.answering_arp(hosts.primary.address):
        hosts.primary.cut()
        stays(hosts.standby, "active_alive", 6)
        nothing_was_done(hosts.standby)
        assert attacker.sent > 3
        hosts.standby.configure(neighbour_evidence="none")
        hosts.standby.systemctl("reload", MONITOR)
        stamp = time.monotonic()
        hosts.standby.wait_for(APP, "active", 10)
        assert hosts.standby.active_since(APP) - stamp < SOON_S + 1
    watched_throughout(hosts.standby)
