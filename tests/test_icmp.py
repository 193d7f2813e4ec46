"""The ICMP probe on real sockets: it believes the right answer, and nothing else."""

import select
import socket
import struct
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failover_monitor.model import Answer, Round
from failover_monitor.probes import icmp
from failover_monitor.probes.icmp import IcmpProbe, Wire
from tests.cable import (
    BEHIND4,
    DEAD4,
    DEAD6,
    FAR4,
    FAR4_SECOND,
    FAR6,
    FAR6_LINK,
    FAR6_SECOND,
    NEAR4,
    NEAR6,
    Host,
    cable,
    plug,
)

FAR6_SCOPED = f"{FAR6_LINK}%near0"


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    with cable() as pair:
        yield pair


@contextmanager
def probing(
    *addresses: str, clock: Clock | None = None, repair: Collection[str] | None = None
) -> Iterator[IcmpProbe]:
    asked = addresses if repair is None else repair
    probe = IcmpProbe(addresses, clock=clock or Clock(), repair=asked)
    try:
        yield probe
    finally:
        probe.close()


def round_at(number: int, *, repair: bool = False, sent_s: float = 1000.0) -> Round:
    return Round(number, sent_s, repair)


def heard(probe: IcmpProbe, *, enough: int = 1, within_s: float = 2.0) -> list[Answer]:
    """What arrives until there are enough answers, or the time is over."""
    answers: list[Answer] = []
    end_s = time.monotonic() + within_s
    while len(answers) < enough and (left_s := end_s - time.monotonic()) > 0:
        select.select(probe.filenos(), [], [], left_s)
        answers += probe.receive()
    return answers


class Forger:
    """Stands at the far end, whose kernel keeps silent, and answers what it likes."""

    def __init__(self, far: Host, *, is_ipv4: bool = True) -> None:
        self._far, self._is_ipv4 = far, is_ipv4
        if is_ipv4:
            far.sysctl(net__ipv4__icmp_echo_ignore_all=1)
        else:
            far.sysctl(net__ipv6__icmp__echo_ignore_all=1)
        self._sock = self._raw(FAR4 if is_ipv4 else FAR6)

    def close(self) -> None:
        self._sock.close()

    def request(self) -> tuple[int, int, bytes, bytes]:
        """Id, sequence and payload of the next request that arrives, and the whole packet."""
        while True:
            packet = self._sock.recv(2048)
            echo = packet[20:] if self._is_ipv4 else packet
            if echo[0] in (8, 128):
                identity, sequence = struct.unpack_from("!HH", echo, 4)
                return identity, sequence, echo[8:], packet

    def reply(
        self, identity: int, sequence: int, payload: bytes, source: str = "", options: bytes = b""
    ) -> None:
        kind = 0 if self._is_ipv4 else 129
        message = struct.pack("!BBHHH", kind, 0, 0, identity, sequence) + payload
        self.say(message, source, options)

    def unreachable(self, quoted: bytes) -> None:
        """An ICMP error about a packet: host (IPv6: address) unreachable."""
        kind, code = (3, 1) if self._is_ipv4 else (1, 3)
        self.say(struct.pack("!BBHI", kind, code, 0, 0) + quoted)

    def say(self, message: bytes, source: str = "", options: bytes = b"") -> None:
        sock = self._raw(source) if source else self._sock
        if options:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
        if self._is_ipv4:
            message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
        self.say_as_it_is(message, sock)
        if sock is not self._sock:
            sock.close()

    def say_as_it_is(self, message: bytes, sock: socket.socket | None = None) -> None:
        """Without a checksum of our own; an IPv6 socket always adds one."""
        (sock or self._sock).sendto(message, (NEAR4 if self._is_ipv4 else NEAR6, 0))

    def _raw(self, source: str) -> socket.socket:
        with self._far.entered():
            if self._is_ipv4:
                sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            else:
                sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        sock.bind((source, 0))
        sock.settimeout(2)
        return sock


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@pytest.fixture
def forger(hosts: tuple[Host, Host]) -> Iterator[Forger]:
    forger = Forger(hosts[1])
    yield forger
    forger.close()


# Who answers.


@pytest.mark.parametrize("address", [FAR4, FAR6, FAR6_SCOPED, "127.0.0.1", "::1"])
def test_a_living_host_answers_once(hosts: tuple[Host, Host], address: str) -> None:
    """A host that lives gives exactly one answer to each echo, with the round it belongs to."""
    with probing(address) as probe:
        for number in (1, 2, 3):
            assert not probe.send(address, round_at(number, sent_s=1000.0 + number))
            assert heard(probe) == [Answer(address, number, 1000.0 + number)]
        assert probe.receive() == []
        assert probe.stray == 0


def test_an_address_is_known_however_it_is_written(hosts: tuple[Host, Host]) -> None:
    """An answer comes back under the name that was asked, though the kernel spells it shorter."""
    written = "2001:0DB8:0:0::0002"
    with probing(written) as probe:
        assert not probe.send(written, round_at(1))
        assert heard(probe) == [Answer(written, 1, 1000.0)]


def test_one_socket_per_family_serves_all(hosts: tuple[Host, Host]) -> None:
    """Any number of addresses share one socket per address family."""
    with probing(FAR4, FAR4_SECOND, DEAD4) as probe:
        assert len(probe.filenos()) == 1
    with probing(FAR4, FAR6, FAR4_SECOND, FAR6_SCOPED) as probe:
        assert len(probe.filenos()) == 2
        for address in (FAR4, FAR6, FAR4_SECOND, FAR6_SCOPED):
            assert not probe.send(address, round_at(1))
        assert len(heard(probe, enough=4)) == 4


@pytest.mark.parametrize(("address", "near"), [(DEAD4, NEAR4), (DEAD6, NEAR6)])
def test_nobody_there_is_an_error_and_sends_go_on(
    hosts: tuple[Host, Host], address: str, near: str
) -> None:
    """An address that nobody has is told unreachable by our own kernel, and never as a refusal."""
    hosts[0].sysctl(net__ipv4__neigh__near0__retrans_time_ms=20)
    hosts[0].sysctl(net__ipv6__neigh__near0__retrans_time_ms=20)
    with probing(address) as probe:
        assert not probe.send(address, round_at(1))
        (answer,) = heard(probe)
        assert answer.number == 1
        assert answer.error.endswith(f"unreachable from {near}")
        assert not probe.send(address, round_at(2))


def test_a_name_is_refused() -> None:
    """Only addresses are taken; a name would have to be looked up, which blocks."""
    with pytest.raises(ValueError, match="host1"):
        IcmpProbe(["host1"], clock=Clock())


def test_without_the_right_to_send_it_says_what_is_missing(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process without sockets to be had is told what failed."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(icmp.ProbeError, match="cannot open a raw ICMP socket"):
            IcmpProbe([FAR4], clock=Clock())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# What could not be sent.


@pytest.mark.parametrize("address", ["198.18.0.1", "2001:db8:1::1"])
def test_no_route_is_a_reason(hosts: tuple[Host, Host], address: str) -> None:
    """An address to which no route leads was not asked."""
    with probing(address) as probe:
        assert probe.send(address, round_at(1)) == "ENETUNREACH: Network is unreachable"


def test_a_route_into_nowhere_is_a_reason(hosts: tuple[Host, Host]) -> None:
    """A black hole makes the kernel say EINVAL, which must not end the program."""
    with probing(FAR4) as probe:
        hosts[0].ip(f"route add blackhole {FAR4}/32")
        assert probe.send(FAR4, round_at(1)).startswith("EINVAL")


def test_an_interface_that_is_down_is_a_reason(hosts: tuple[Host, Host]) -> None:
    """What is behind an interface that is down was not asked; it is asked again when that is up."""
    near, _ = hosts
    addresses = (FAR4, FAR6, FAR6_SCOPED)
    with probing(*addresses) as probe:
        assert [probe.send(a, round_at(1)) for a in addresses] == ["", "", ""]
        near.ip("link set near0 down")
        assert all(probe.send(a, round_at(2)) for a in addresses)
        near.ip("link set near0 up")
        assert probe.send(FAR4, round_at(3)) == ""


def test_a_lost_carrier_is_a_reason(hosts: tuple[Host, Host]) -> None:
    """The kernel takes packets for a dead cable without a word; we look at the link ourselves."""
    _, far = hosts
    addresses = (FAR4, FAR6, FAR6_SCOPED)
    with probing(*addresses) as probe:
        assert [probe.send(a, round_at(1)) for a in addresses] == ["", "", ""]
        gone = ["no carrier on near0"] * 3
        for _ in range(3):  # the kernel tells of the first one at once, but not of the next
            far.ip("link set far0 down")
            assert [probe.send(a, round_at(2, repair=True)) for a in addresses] == gone
            far.ip("link set far0 up")
            assert [probe.send(a, round_at(2, repair=True)) for a in addresses] == ["", "", ""]
        far.ip("link set far0 down")
        end_s = time.monotonic() + 15
        while [probe.send(a, round_at(3)) for a in addresses] != gone:  # told, a moment later
            assert time.monotonic() < end_s
        far.ip("link set far0 up")
        while [probe.send(a, round_at(4)) for a in addresses] != ["", "", ""]:
            assert time.monotonic() < end_s


def test_an_interface_may_go_and_come_back(hosts: tuple[Host, Host]) -> None:
    """The same sockets go on when the interface was removed and made anew, with another index."""
    near, far = hosts
    addresses = (FAR4, FAR6, FAR6_SCOPED)
    with probing(*addresses) as probe:
        near.ip(
            "link add ballast type veth peer name ballast2",  # takes the next index
            "link set ballast up",
            "link set ballast2 up",
            "address add fe80::7/64 dev ballast nodad",
            "link delete near0",
        )
        assert all(probe.send(a, round_at(1)) for a in addresses)
        assert probe.send(FAR6_SCOPED, round_at(1)) == "no route"  # not through another link
        plug(near, far)
        assert [probe.send(a, round_at(2)) for a in addresses] == ["", "", ""]
        assert {a.address for a in heard(probe, enough=3)} == set(addresses)


@pytest.mark.parametrize("verdict", ["drop", "reject with icmp type admin-prohibited"])
def test_a_local_firewall_is_a_reason(hosts: tuple[Host, Host], verdict: str) -> None:
    """An echo that our own firewall swallowed was not sent."""
    near, _ = hosts
    with probing(FAR4) as probe:
        rule = f"ip protocol icmp icmp type echo-request {verdict};"
        chain = f"chain c {{ type filter hook output priority 0; {rule} }};"
        near.nft(f"table ip t {{ {chain} }};")
        assert probe.send(FAR4, round_at(1)) == "EPERM: Operation not permitted"
        near.nft("delete table ip t")
        assert probe.send(FAR4, round_at(2)) == ""
        assert [a for a in heard(probe, enough=2, within_s=0.2) if not a.error] == [
            Answer(FAR4, 2, 1000.0)
        ]


def test_a_full_send_buffer_is_a_reason(hosts: tuple[Host, Host]) -> None:
    """Where no more fits into the socket, the echo was not sent, and nobody waited for room."""
    with probing(DEAD4) as probe:
        hosts[0].sysctl(net__ipv4__neigh__near0__unres_qlen_bytes=1 << 20)
        sock = next(iter(probe._wires.values())).sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
        reasons = [probe.send(DEAD4, round_at(1)) for _ in range(32)]
        assert reasons[0] == ""
        assert reasons[-1] == "ENOBUFS: No buffer space available"


# What is not believed.


@pytest.mark.parametrize("is_ipv4", [True, False])
def test_only_the_genuine_answer_counts(hosts: tuple[Host, Host], is_ipv4: bool) -> None:
    """A wrong id, sequence, nonce or source, or a truncated reply, is no answer."""
    address = FAR4 if is_ipv4 else FAR6
    forger = Forger(hosts[1], is_ipv4=is_ipv4)
    with probing(address) as probe:
        probe.send(address, round_at(1))
        identity, sequence, nonce, _ = forger.request()
        forger.reply(identity ^ 1, sequence, nonce)
        forger.reply(identity, sequence ^ 1, nonce)
        forger.reply(identity, sequence, bytes(8))
        forger.reply(identity, sequence, nonce[:4])
        forger.reply(identity, sequence, nonce + b"\0")
        forger.reply(identity, sequence, b"")
        forger.say(b"\x00\x00\x00\x00" if is_ipv4 else b"\x81\x00\x00\x00")
        forger.reply(identity, sequence, nonce, source=FAR4_SECOND if is_ipv4 else FAR6_SECOND)
        assert heard(probe, within_s=0.1) == []
        forger.reply(identity, sequence, nonce)
        assert heard(probe) == [Answer(address, 1, 1000.0)]
        assert probe.receive() == []
        assert probe.stray == 6  # without the other id and the stump, which the kernel drops
    forger.close()


def test_a_duplicate_and_a_replay_are_nothing(hosts: tuple[Host, Host], forger: Forger) -> None:
    """The second copy of an answer, at once or after the next echo, is no answer."""
    with probing(FAR4) as probe:
        probe.send(FAR4, round_at(1))
        first = forger.request()[:3]
        forger.reply(*first)
        forger.reply(*first)
        assert heard(probe) == [Answer(FAR4, 1, 1000.0)]
        probe.send(FAR4, round_at(2))
        second = forger.request()[:3]
        forger.reply(*first)
        forger.reply(second[0], second[1], first[2])
        forger.reply(*second)
        assert heard(probe) == [Answer(FAR4, 2, 1000.0)]
        assert probe.stray == 3


def test_a_link_local_answer_counts_only_from_its_own_link(hosts: tuple[Host, Host]) -> None:
    """The same link-local address on another cable is another host."""
    _, far = hosts
    far.sysctl(net__ipv6__icmp__echo_ignore_all=1)
    with probing(FAR6_SCOPED) as probe:
        assert not probe.send(FAR6_SCOPED, round_at(1))
        ((sequence, echo),) = probe._echoes.items()
        wire = echo.target.wire
        reply = struct.pack("!BBHHH", 129, 0, 0, probe._identity, sequence) + echo.nonce
        assert probe._genuine(wire, reply, (FAR6_LINK, 0, 0, echo.scope + 1)) is None
        assert probe._genuine(wire, reply, (FAR6_LINK, 0, 0, echo.scope))


def test_ip_options_do_not_shift_the_answer(hosts: tuple[Host, Host], forger: Forger) -> None:
    """The length of the IP header is read from the packet."""
    with probing(FAR4) as probe:
        probe.send(FAR4, round_at(1))
        forger.reply(*forger.request()[:3], options=b"\x01" * 8)
        assert heard(probe) == [Answer(FAR4, 1, 1000.0)]


@settings(deadline=None, max_examples=300)
@given(
    packet=st.one_of(
        st.binary(max_size=120),
        st.builds(
            lambda length, rest: bytes([0x40 | length]) + rest,
            st.integers(0, 15),
            st.binary(max_size=120),
        ),
        st.builds(
            lambda kind, rest: bytes([0x45, *[0] * 8, 1, *[0] * 10, kind]) + rest,
            st.sampled_from([0, 3, 11]),
            st.binary(max_size=120),
        ),
        st.builds(
            lambda kind, rest: bytes([kind, *[0] * 13, 58, *[0] * 33, 128]) + rest,
            st.sampled_from([1, 3, 129]),
            st.binary(max_size=120),
        ),
    )
)
def test_garbage_is_never_believed(wires: list[Wire], packet: bytes) -> None:
    """Whatever the bytes are, they are taken apart without an error."""
    for wire in wires:
        told = wire.understand(packet, "198.51.100.2")
        assert told is None or len(told.payload) <= len(packet)


@pytest.fixture(scope="module")
def wires() -> Iterator[list[Wire]]:
    with cable():
        made = [Wire(socket.AF_INET, 7), Wire(socket.AF_INET6, 7)]
    yield made
    for wire in made:
        wire.close()


def test_a_corrupt_reply_is_no_answer(hosts: tuple[Host, Host], forger: Forger) -> None:
    """One bit of the ICMP message is wrong, whichever: it is nothing; whole, it is an answer."""
    with probing(FAR4) as probe:
        probe.send(FAR4, round_at(1))
        identity, sequence, nonce, _ = forger.request()
        whole = struct.pack("!BBHHH", 0, 0, 0, identity, sequence) + nonce
        whole = whole[:2] + struct.pack("!H", checksum(whole)) + whole[4:]
        for bit in range(len(whole) * 8):
            corrupt = bytearray(whole)
            corrupt[bit // 8] ^= 1 << bit % 8
            forger.say_as_it_is(bytes(corrupt))
        assert heard(probe, within_s=0.2) == []
        forger.say_as_it_is(whole)
        assert heard(probe) == [Answer(FAR4, 1, 1000.0)]


# ICMP errors.


def test_a_router_says_unreachable(hosts: tuple[Host, Host]) -> None:
    """What a router says about our echo is handed over, with who said it."""
    _, far = hosts
    far.sysctl(net__ipv4__ip_forward=1)
    far.ip("route add unreachable 198.51.100.128/25")
    with probing(BEHIND4) as probe:
        assert not probe.send(BEHIND4, round_at(1))
        assert heard(probe) == [Answer(BEHIND4, 1, 1000.0, f"host unreachable from {FAR4}")]


@pytest.mark.parametrize("is_ipv4", [True, False])
def test_an_error_is_told_once_and_the_echo_may_still_be_answered(
    hosts: tuple[Host, Host], is_ipv4: bool
) -> None:
    """An error that quotes our echo is no end of it: a late answer is still genuine."""
    address = FAR4 if is_ipv4 else FAR6
    forger = Forger(hosts[1], is_ipv4=is_ipv4)
    with probing(address) as probe:
        probe.send(address, round_at(1))
        identity, sequence, nonce, packet = forger.request()
        if not is_ipv4:
            header = struct.pack("!IHBB", 6 << 28, len(packet), 58, 63)
            packet = (
                header
                + socket.inet_pton(socket.AF_INET6, NEAR6)
                + socket.inet_pton(socket.AF_INET6, FAR6)
                + packet
            )
        header_bytes = 20 if is_ipv4 else 40
        quoted = bytearray(packet)
        quoted[16 if is_ipv4 else 24] ^= 1  # about another host
        forger.unreachable(bytes(quoted))
        quoted = bytearray(packet)
        quoted[header_bytes + 6] ^= 1  # another sequence
        forger.unreachable(bytes(quoted))
        quoted = bytearray(packet)
        quoted[header_bytes + 4] ^= 1  # another id
        forger.unreachable(bytes(quoted))
        quoted = bytearray(packet)
        quoted[-1] ^= 1  # another nonce
        forger.unreachable(bytes(quoted))
        quoted = bytearray(packet)
        quoted[header_bytes] = 0 if is_ipv4 else 129  # about a reply
        forger.unreachable(bytes(quoted))
        quoted = bytearray(packet)
        quoted[9 if is_ipv4 else 6] = 17  # about another protocol
        forger.unreachable(bytes(quoted))
        forger.unreachable(packet[:20])
        assert heard(probe, within_s=0.1) == []
        forger.unreachable(packet[: header_bytes + 8])  # all that RFC 792 asks for
        forger.unreachable(packet)
        (error,) = heard(probe)
        assert error.address == address
        assert error.error.endswith(f"unreachable from {address}")
        assert probe.stray == 5  # without the other id, the reply and the stump: see `Wire`
        forger.reply(identity, sequence, nonce)
        assert heard(probe) == [Answer(address, 1, 1000.0)]
    forger.close()


# Time and numbers.


def test_a_late_answer_counts_for_a_minute(hosts: tuple[Host, Host], forger: Forger) -> None:
    """An answer counts up to 60 s after its echo, however many echoes have gone out since."""
    clock = Clock()
    with probing(FAR4, clock=clock) as probe:
        probe.send(FAR4, round_at(1, sent_s=1000.0))
        first = forger.request()[:3]
        probe.send(FAR4, round_at(2, sent_s=1000.5))
        second = forger.request()[:3]
        clock.now_s = 1060.2
        forger.reply(*first)
        forger.reply(*second)
        assert heard(probe) == [Answer(FAR4, 2, 1000.5)]
        assert probe.stray == 1
        assert not probe._echoes


def test_the_sequence_may_wrap(hosts: tuple[Host, Host]) -> None:
    """After 65,535 comes 0, and both are answered."""
    with probing(FAR4) as probe:
        probe._sequence = 65533
        for number in range(4):
            assert not probe.send(FAR4, round_at(number))
        assert [a.number for a in heard(probe, enough=4)] == [0, 1, 2, 3]
        assert probe._sequence == 1


def test_no_more_echoes_are_kept_than_there_are_numbers(hosts: tuple[Host, Host]) -> None:
    """A number that comes round again belongs to the newer echo, and memory stays bounded."""
    hosts[0].ip(f"neigh add {DEAD4} lladdr 02:00:00:00:00:09 dev near0 nud permanent")
    with probing(DEAD4) as probe:
        for number in range(65536 + 10):
            assert not probe.send(DEAD4, round_at(number, sent_s=1000.0 + number / 1e4))
        assert len(probe._echoes) == 65536
        assert next(iter(probe._echoes.values())).number == 10
        assert min(e.number for e in probe._echoes.values()) == 10


# The neighbour's entry.


def test_answers_keep_the_neighbour_entry_good(hosts: tuple[Host, Host]) -> None:
    """While echoes are answered our own entry stays REACHABLE; a round that repairs lets it age."""
    near, _ = hosts
    near.sysctl(net__ipv4__neigh__near0__base_reachable_time_ms=2000)  # so 1 to 3 s
    near.sysctl(net__ipv6__neigh__near0__base_reachable_time_ms=2000)
    states: dict[bool, set[str]] = {}
    with probing(FAR4, FAR6, repair=()) as probe:
        for repair in (False, True):
            for number in range(30):
                for address in (FAR4, FAR6):
                    assert not probe.send(address, round_at(number, repair=repair))
                assert len(heard(probe, enough=2)) == 2
                select.select([], [], [], 0.12)
            entries = near.ip("neigh show dev near0").splitlines()
            states[repair] = {e.split()[-1] for e in entries if e.split()[0] in (FAR4, FAR6)}
    assert states[False] == {"REACHABLE"}
    assert "REACHABLE" not in states[True]


# Floods.


def test_other_programs_pings_do_not_push_our_answer_out(
    hosts: tuple[Host, Host], forger: Forger
) -> None:
    """Replies to other ids never reach our buffer, so that no flood of them can fill it."""
    with probing(FAR4) as probe:
        probe.send(FAR4, round_at(1))
        identity, sequence, nonce, _ = forger.request()
        for number in range(3000):
            forger.reply(identity ^ 1, number, bytes(1000))
        forger.reply(identity, sequence, nonce)
        assert heard(probe) == [Answer(FAR4, 1, 1000.0)]
        assert probe.stray == 0


@pytest.mark.parametrize("is_ipv4", [True, False])
def test_errors_about_others_do_not_push_our_answer_out(
    hosts: tuple[Host, Host], is_ipv4: bool
) -> None:
    """Errors that quote another id, forged without a look at our echoes, never reach our buffer."""
    address = FAR4 if is_ipv4 else FAR6
    forger = Forger(hosts[1], is_ipv4=is_ipv4)
    with probing(address) as probe:
        probe.send(address, round_at(1))
        identity, sequence, nonce, _ = forger.request()
        quoted = struct.pack("!BBHHH", 8 if is_ipv4 else 128, 0, 0, identity ^ 1, sequence) + nonce
        if is_ipv4:
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(quoted), 0, 0, 64, 1, 0)
            header += socket.inet_aton(NEAR4) + socket.inet_aton(FAR4)
        else:
            header = struct.pack("!IHBB", 6 << 28, len(quoted), 58, 64)
            header += b"".join(socket.inet_pton(socket.AF_INET6, a) for a in (NEAR6, FAR6))
        for _ in range(3000):
            forger.unreachable(header + quoted + bytes(400))
        forger.reply(identity, sequence, nonce)
        assert heard(probe) == [Answer(address, 1, 1000.0)]
        assert probe.stray == 0
    forger.close()


def test_a_flood_cannot_hold_the_caller(
    hosts: tuple[Host, Host], forger: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call takes a bounded number of packets; what is left keeps the socket readable."""
    monkeypatch.setattr(icmp, "PACKETS_AT_ONCE", 50)
    with probing(FAR4) as probe:
        probe.send(FAR4, round_at(1))
        identity, sequence, nonce, _ = forger.request()
        for _ in range(120):
            forger.reply(identity, sequence, bytes(8))
        forger.reply(identity, sequence, nonce)
        for strays in (50, 100):
            assert probe.receive() == []
            assert probe.stray == strays
            assert select.select(probe.filenos(), [], [], 0)[0]
        assert heard(probe) == [Answer(FAR4, 1, 1000.0)]


def test_a_closed_probe_is_a_mistake(hosts: tuple[Host, Host]) -> None:
    """Sending through a closed probe is our own fault and no property of the network."""
    with probing(FAR4) as probe:
        pass
    with pytest.raises(OSError, match="Bad file descriptor"):
        probe.send(FAR4, round_at(1))
