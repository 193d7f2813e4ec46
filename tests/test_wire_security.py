"""What an enemy can put on the wire: never an answer, no shorter verdict, and nothing breaks.

Rule: the enemy starts from genuine packets, and an oracle that shares no code with the probe says
which of his are still genuine.  He may know everything but the nonce, or, where a test says so, see
all that we send.

A long run of the fuzzers, with any number of examples for each; the seed is printed, and FUZZ_SEED
plays the same examples once more:

    export FUZZ_EXAMPLES=1000000
    python -m tests.lab.enter pytest -s tests/test_wire_security.py -k mutated --timeout 0
"""

import contextlib
import os
import random
import select
import socket
import struct
import tracemalloc
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis import strategies as st

from failover_monitor.model import Answer, Notice, Verdict
from failover_monitor.probes import neighbour
from failover_monitor.probes.icmp import IcmpProbe, Wire
from failover_monitor.probes.neighbour import Question
from tests.cable import FAR4, FAR6, NEAR4, NEAR6, Host, cable
from tests.test_detector import PRIMARY, Bench, shipped
from tests.test_icmp import Clock, Forger, checksum, heard, probing, round_at
from tests.test_neighbour import advertisement_frame, arp_frame

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "2500"))  # all fuzzers together: about 20 s
SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(1 << 32))
ODD = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)

fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(("flip", "set", "cut", "grow", "drop", "insert", "splice", "mend", "mend")),
        st.integers(0, 127),
        st.one_of(st.sampled_from(ODD), st.integers(0, 255)),
    ),
    max_size=6,
)


@pytest.fixture(autouse=True)
def _the_seed() -> None:
    print(f"FUZZ_SEED={SEED} FUZZ_EXAMPLES={EXAMPLES}")


def mutated(packet: bytes, changes: Sequence[Step], other: bytes, mend: int) -> bytes:
    """The packet after these changes; "mend" puts the checksum of what begins at `mend` right."""
    made = bytearray(packet)
    for what, at, value in changes:
        place = at % (len(made) + 1)
        match what:
            case "flip" if place < len(made):
                made[place] ^= 1 << value % 8
            case "set" if place < len(made):
                made[place] = value
            case "cut":
                del made[place:]
            case "grow":
                made += bytes([at]) * value
            case "drop":
                del made[place : place + 1]
            case "insert":
                made.insert(place, value)
            case "splice":
                made[place:] = other[place:]
            case "mend" if len(made) >= mend + 4:
                made[mend + 2 : mend + 4] = bytes(2)
                made[mend + 2 : mend + 4] = struct.pack("!H", checksum(bytes(made[mend:])))
    return bytes(made)


class Target:
    """One echo that is outstanding, and what a genuine host would send about it."""

    def __init__(self, probe: IcmpProbe, address: str) -> None:
        assert not probe.send(address, round_at(1))
        self.probe, self.address = probe, address
        self.sequence, self.echo = next(reversed(probe._echoes.items()))
        self.wire: Wire = self.echo.target.wire
        self.number = struct.pack("!HH", probe._identity, self.sequence)
        echo = bytes([self.wire.request, 0, 0, 0]) + self.number + self.echo.nonce
        packed = (socket.inet_pton(self.echo.target.address.family, a) for a in self._ends())
        near, far = packed
        if self.wire.is_ipv4:
            ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(echo), 0, 0, 64, 1, 0)
            outer, quoted = ip + far + near, ip + near + far + echo
            errors = ((3, 1), (11, 0))
        else:
            quoted = struct.pack("!IHBB", 6 << 28, len(echo), 58, 64) + near + far + echo
            outer, errors = b"", ((1, 3), (3, 0))
        self.begin = len(outer)  # of the ICMP message in what a raw socket shows
        self.reply = outer + self._summed(bytes([self.wire.reply, 0, 0, 0]) + echo[4:])
        self.errors = [outer + self._summed(bytes([*e, *bytes(6)]) + quoted) for e in errors]

    def _ends(self) -> tuple[str, str]:
        return (NEAR4, FAR4) if self.wire.is_ipv4 else (NEAR6, FAR6)

    def _summed(self, icmp: bytes) -> bytes:
        return icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]

    def says(self, packet: bytes, source: str = "") -> Answer | None:
        """What the probe makes of it; the echo is outstanding again afterwards."""
        self.echo.error_told = False
        self.probe._echoes[self.sequence] = self.echo
        source = source or self.address
        where = (source, 0) if self.wire.is_ipv4 else (source, 0, 0, 0)
        return self.probe._genuine(self.wire, packet, where)

    def is_reply(self, packet: bytes) -> bool:
        """The oracle: whether these bytes are what a host sends that has seen our echo."""
        begin = 0
        if self.wire.is_ipv4:
            begin = 4 * (packet[0] % 16) if packet else 0
            if begin < 20 or checksum(packet[begin:]) not in (0, 0xFFFF):
                return False
        kind, rest = packet[begin : begin + 1], packet[begin + 4 :]
        return kind == bytes([self.wire.reply]) and rest == self.number + self.echo.nonce


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, Target]]:
    """An echo to each family, under way to hosts that keep silent."""
    with cable() as (_, far):
        far.sysctl(net__ipv4__icmp_echo_ignore_all=1, net__ipv6__icmp__echo_ignore_all=1)
        with probing(FAR4, FAR6) as probe:
            yield {address: Target(probe, address) for address in (FAR4, FAR6)}


# The parsers.

families = pytest.mark.parametrize("address", [FAR4, FAR6])


@families
def test_the_genuine_packets_are_genuine(targets: dict[str, Target], address: str) -> None:
    """The enemy begins with packets that are believed; else he would prove nothing."""
    target = targets[address]
    assert target.is_reply(target.reply)
    assert target.says(target.reply) == Answer(address, 1, 1000.0)
    assert target.says(target.reply, source="198.51.100.3") is None
    for error in target.errors:
        told = target.says(error)
        assert told is not None
        assert told.error


@families
def test_a_mutated_reply_is_an_answer_only_if_it_still_is_one(
    targets: dict[str, Target], address: str
) -> None:
    """Whatever was done to it: no other bytes than a living host's are life, and nothing raises."""
    target = targets[address]

    @seed(SEED)
    @fuzzed
    @given(steps, st.sampled_from((0, 1)))
    @example([("flip", 20, 0)], 0)
    def run(changes: list[Step], other: int) -> None:
        packet = mutated(target.reply, changes, target.errors[other], target.begin)
        answer = target.says(packet)
        if answer is not None and not answer.error:
            assert target.is_reply(packet)

    run()


@families
def test_a_mutated_error_is_never_an_answer(targets: dict[str, Target], address: str) -> None:
    """What a router says of our echo, bent in any way, may be an error; it is never life."""
    target = targets[address]

    @seed(SEED)
    @fuzzed
    @given(steps, st.sampled_from((0, 1)), st.booleans())
    def run(changes: list[Step], which: int, spliced: bool) -> None:
        other = target.reply if spliced else target.errors[1 - which]
        packet = mutated(target.errors[which], changes, other, target.begin)
        answer = target.says(packet)
        if answer is not None and not answer.error:
            assert target.is_reply(packet)
        if answer is not None and answer.error:
            assert (answer.address, answer.number) == (address, 1)
            assert len(answer.error) < 200

    run()


QUESTION4 = Question(
    link="near0",
    source=socket.inet_aton(NEAR4),
    mac=bytes.fromhex("020000000001"),
    wanted=socket.inet_aton(FAR4),
)
QUESTION6 = Question(
    link=7,
    source=socket.inet_pton(socket.AF_INET6, NEAR6),
    mac=b"",
    wanted=socket.inet_pton(socket.AF_INET6, FAR6),
)
ARP_REPLY = arp_frame(FAR4)[14:]
ARP_REQUEST = arp_frame(FAR4, operation=1)[14:]
ADVERTISEMENT = advertisement_frame(FAR6)[54:]


@seed(SEED)
@fuzzed
@given(steps, st.sampled_from((0, 0, 0, 1, 2, 3, 4)), st.sampled_from((1, 1, 1, 772, 65534)))
def test_a_mutated_arp_reply_answers_only_our_question(
    changes: list[Step], addressed: int, hardware: int
) -> None:
    """An answer is a reply, for what we asked, to our address and hardware address."""
    packet = mutated(ARP_REPLY, changes, ARP_REQUEST, 0)
    found = neighbour.arp_answered(packet, ("near0", 0x0806, addressed, hardware, b""))
    if found == QUESTION4:
        assert (addressed, hardware) == (socket.PACKET_HOST, 1)
        assert packet[:8] == ARP_REPLY[:8]
        assert packet[14:28] == ARP_REPLY[14:28]


@seed(SEED)
@fuzzed
@given(
    steps,
    st.sampled_from((255, 255, 255, 254, 64, 0, -1)),
    st.lists(st.binary(max_size=24), max_size=2),
    st.booleans(),
)
def test_a_mutated_advertisement_answers_only_our_question(
    changes: list[Step], hop_limit: int, junk: list[bytes], whole: bool
) -> None:
    """An answer is solicited, of the host itself, never routed, and for what we asked."""
    packet = mutated(ADVERTISEMENT, changes, bytes(64), 0)
    interface = struct.pack("=16sI", QUESTION6.source, 7)
    told = [(socket.SOL_SOCKET, socket.IPV6_PKTINFO, data) for data in junk]
    told.append((socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("=i", hop_limit)))
    if whole:
        told.append((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, interface))
    if neighbour.advertised(packet, told) == QUESTION6:
        assert whole
        assert hop_limit == 255
        assert packet[:2] == ADVERTISEMENT[:2]
        assert packet[4] & 0x60 == 0x60
        assert packet[8:24] == ADVERTISEMENT[8:24]


@families
def test_forged_packets_leave_nothing_behind(targets: dict[str, Target], address: str) -> None:
    """Thirty thousand of them, and no memory is used that was not used before."""
    target, rng = targets[address], random.Random(SEED)
    packets = []
    for _ in range(500):
        whole = rng.choice((target.reply, *target.errors))
        changes = [(rng.choice(("flip", "cut", "grow", "mend")), rng.randrange(128), 3)] * 3
        packets.append(mutated(whole, changes, target.reply, target.begin))
    for packet in packets:
        target.says(packet)
    tracemalloc.start()
    before_bytes, _ = tracemalloc.get_traced_memory()
    for _ in range(30):
        for packet in packets:
            target.says(packet)
    used_bytes = tracemalloc.get_traced_memory()[0] - before_bytes
    tracemalloc.stop()
    assert used_bytes < 131_072  # of 15,000 packets: nothing of any of them is kept
    assert len(target.probe._echoes) <= 2


# On a real wire.


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    with cable() as pair:
        yield pair


@pytest.fixture
def forger(hosts: tuple[Host, Host]) -> Iterator[Forger]:
    with contextlib.closing(Forger(hosts[1])) as forger:
        yield forger


def test_no_other_kind_of_icmp_message_is_heard_at_all(
    hosts: tuple[Host, Host], forger: Forger
) -> None:
    """Redirects, quenches, requests, timestamps: of all types two are errors and one is life."""
    with probing(FAR4) as probe:
        told = {}
        for kind in range(256):
            probe.send(FAR4, round_at(1))
            *_, packet = forger.request()
            forger.say(struct.pack("!BBHI", kind, 0, 0, 0) + packet)
            for answer in heard(probe, within_s=0.002):
                told[kind] = answer.error
        told = {kind: error for kind, error in told.items() if kind not in (3, 11)}
        assert told == {}


def test_errors_with_every_code_are_errors_once(hosts: tuple[Host, Host], forger: Forger) -> None:
    """Known and unknown codes, right quotes: each echo has one, and its answer still counts."""
    with probing(FAR4) as probe:
        for code in range(256):
            probe.send(FAR4, round_at(1))
            identity, sequence, nonce, packet = forger.request()
            for kind in (3, 11, 3):
                forger.say(struct.pack("!BBHI", kind, code, 0, 0) + packet)
            forger.reply(identity, sequence, nonce)
            error, answer = heard(probe, enough=2)
            assert error.error
            assert answer == Answer(FAR4, 1, 1000.0)
        assert probe.stray == 2 * 256


def test_too_short_and_too_long_replies_are_none(hosts: tuple[Host, Host], forger: Forger) -> None:
    """From nothing to what arrives in fragments; the nonce alone is not enough."""
    with probing(FAR4) as probe:
        probe.send(FAR4, round_at(1))
        identity, sequence, nonce, _ = forger.request()
        for length in range(8):
            forger.reply(identity, sequence, nonce[:length])
        for length in (1, 8, 100, 1400, 2004, 2040, 9000, 60000):
            forger.reply(identity, sequence, nonce + bytes(length))
            forger.reply(identity, sequence, bytes(length) + nonce)
            forger.reply(identity, sequence, (nonce * 7500)[: 8 + length])
        assert heard(probe, within_s=0.2) == []
        forger.reply(identity, sequence, nonce)
        assert heard(probe) == [Answer(FAR4, 1, 1000.0)]


def test_old_answers_played_again_are_never_fresh(hosts: tuple[Host, Host], forger: Forger) -> None:
    """Every answer there was, in any order, again and again, while new echoes are outstanding."""
    rng = random.Random(SEED)
    with probing(FAR4) as probe:
        probe._sequence = 65530  # the numbers wrap meanwhile
        old: list[tuple[int, int, bytes]] = []
        for number in range(1, 30):
            probe.send(FAR4, round_at(number))
            identity, sequence, nonce, _ = forger.request()
            for past in rng.sample(old, len(old)):
                forger.reply(*past)
                forger.reply(identity, sequence, past[2])  # under the new number
            assert heard(probe, within_s=0.01) == []
            forger.reply(identity, sequence, nonce)
            assert heard(probe) == [Answer(FAR4, number, 1000.0)]
            old.append((identity, sequence, nonce))


def test_answers_to_everybody_from_nobody_are_none(
    hosts: tuple[Host, Host], forger: Forger
) -> None:
    """Broadcasts under any source but the one that was asked, though the nonce is right."""
    with probing(FAR4) as probe, hosts[1].entered():
        probe.send(FAR4, round_at(1))
        identity, sequence, nonce, _ = forger.request()
        reply = struct.pack("!BBHHH", 0, 0, 0, identity, sequence) + nonce
        reply = reply[:2] + struct.pack("!H", checksum(reply)) + reply[4:]
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with contextlib.closing(sock):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"far0")
            for source in ("198.51.100.3", "198.51.100.63", "255.255.255.255", NEAR4):
                for to in ("255.255.255.255", "198.51.100.63", "224.0.0.1", NEAR4):
                    header = struct.pack("!BBHHHBBH", 0x45, 0, 36, 0, 0, 64, 1, 0)
                    header += socket.inet_aton(source) + socket.inet_aton(to)
                    with contextlib.suppress(OSError):  # the kernel refuses some of them
                        sock.sendto(header + reply, (to, 0))
        assert heard(probe, within_s=0.2) == []
        forger.reply(identity, sequence, nonce)
        assert heard(probe) == [Answer(FAR4, 1, 1000.0)]


def test_a_storm_of_forged_neighbours_cannot_hold_the_caller(hosts: tuple[Host, Host]) -> None:
    """One call takes a bounded number of them; none of them is an answer."""
    probe = IcmpProbe([FAR4], clock=Clock(), neighbours=[FAR4])
    with contextlib.closing(probe), hosts[1].entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with contextlib.closing(sock):
            sock.bind(("far0", 0))
            frame = arp_frame(FAR4)
            for _ in range(5000):
                sock.send(frame)
        select.select(probe.filenos(), [], [], 1.0)
        for _ in range(10):
            before = probe.stray
            assert probe.receive() == []
            assert probe.stray - before <= neighbour.ANSWERS_AT_ONCE
        assert probe.stray > 0


# What it may do to a verdict.


@settings(deadline=None, max_examples=150)
@given(
    errors_s=st.lists(st.floats(0, 12), max_size=30),
    crash_s=st.floats(4, 9),
    storm_s=st.sampled_from((0.0, 0.01, 0.2)),
    threshold=st.sampled_from((1, 3)),
)
def test_forged_errors_never_shorten_a_verdict(
    errors_s: list[float], crash_s: float, storm_s: float, threshold: int
) -> None:
    """At any time, in any number: V after the first unanswered echo, as without them."""
    moments_s = set(errors_s)
    if storm_s:
        moments_s |= {k * storm_s for k in range(int(20 / storm_s))}
    verdicts = []
    for enemy in (False, True):
        bench = Bench(shipped(threshold=threshold))
        for moment_s in sorted({*moments_s, crash_s}):
            bench.run(max(0.0, moment_s - bench.now_s))
            if moment_s == crash_s:
                bench.of_primary(answers=False)
            if enemy and moment_s in moments_s and bench.rounds:
                round_ = bench.rounds[-1]
                forged = Answer(PRIMARY, round_.number, round_.sent_s, "host unreachable")
                bench.take(forged)
                bench.step()
        bench.run(25.0 - bench.now_s)
        assert bench.says(Verdict.DOWN)
        assert bench.verdicts[0] - crash_s >= bench.policy.verdict_s - 1e-5
        verdicts.append(bench.verdicts[0])
    assert verdicts[1] >= verdicts[0] - 1e-5


def test_forged_errors_about_a_living_primary_are_no_verdict() -> None:
    """After every echo, ahead of the answer: suspicions, each over with the answer."""
    bench = Bench(shipped())
    for _ in range(200):
        bench.run(max(0.0, bench.next_s() - bench.now_s))
        if bench.rounds:
            round_ = bench.rounds[-1]
            bench.take(Answer(PRIMARY, round_.number, round_.sent_s, "host unreachable"))
            bench.step()
    assert bench.verdicts == []
    assert len(bench.notices(Notice.SUSPECT)) > 10
