"""ICMP echoes to every address, through one raw socket per address family for the whole process.

Rule: an answer is genuine only if its source, id, sequence and random nonce are those of an echo
that is still outstanding.  Everything else that arrives is counted and otherwise ignored.  It never
blocks, and what the kernel refuses to send is told as a reason, not as an error.  By choice the
answer of a neighbour (ARP, neighbour discovery) to a question of ours stands for that of its echo;
it carries no secret, so that it is worth as much as the link is trusted.

icmplib opens the sockets, builds the packets and takes answers apart.  The sending is our own,
because icmplib cannot set MSG_CONFIRM and loses errno.
"""

import contextlib
import errno
import secrets
import socket
import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from icmplib import ICMPError, ICMPLibError, ICMPReply, ICMPv4Socket, ICMPv6Socket

from failover_monitor.model import Answer, Round
from failover_monitor.probes.neighbour import (
    Address,
    Neighbours,
    Question,
    Route,
    Routes,
    attach_filter,
    type_filter,
)

KEEP_S = 60.0  # an answer that is later than this is no answer
NEIGHBOUR_S = 1.0  # and a neighbour's than this
SEQUENCES = 1 << 16
NONCE_BYTES = 8
PACKETS_AT_ONCE = 4096  # taken per socket and call, so that a flood cannot hold us for ever
RECEIVE_BUFFER_BYTES = 1 << 20  # asked for; the kernel caps it at net.core.rmem_max
PACKET_BYTES = 2048
CONFIRM_ROUNDS = 2  # an answer to one of the last rounds proves that the neighbour entry is good

SOL_RAW, ICMP_FILTER = 255, 1  # linux/icmp.h; a set bit blocks the type
ICMP6_FILTER = 1  # linux/icmpv6.h; likewise
UNREACHABLE_4, TIME_EXCEEDED_4 = 3, 11  # RFC 792
UNREACHABLE_6, TIME_EXCEEDED_6 = 1, 3  # RFC 4443
IPV4_HEADER, IPV6_HEADER, ICMP_HEADER = 20, 40, 8  # bytes, without options


class ProbeError(Exception):
    """The probe cannot be set up: "cannot X: why", and a hint."""


@dataclass(slots=True, eq=False)
class Target:
    """One address that is asked."""

    name: str  # as the configuration writes it
    address: Address
    wire: "Wire"
    repair: bool  # its neighbour entry is asked anew when a round says so
    neighbour: bool  # its answers as a neighbour count until it has answered an echo
    neighbour_always: bool  # and after
    echoed: bool = False  # it has answered an echo
    answered: int = -CONFIRM_ROUNDS  # the last round that it answered

    @property
    def by_neighbour(self) -> bool:
        """Whether its answers as a neighbour count now."""
        return self.neighbour_always or (self.neighbour and not self.echoed)


@dataclass(slots=True, eq=False)
class Echo:
    """One echo that may still be answered."""

    target: Target
    number: int
    sent_s: float
    nonce: bytes
    scope: int  # index of the interface, where the address names one; else 0
    error_told: bool = False


class Asked(NamedTuple):
    """A question to a neighbour that may still be answered."""

    target: Target
    round: Round
    moment_s: float


class Heard(NamedTuple):
    """What a packet says: an echo reply, or an error with the echo that it quotes."""

    reply: ICMPReply
    payload: bytes  # of the reply, or of the quoted echo as far as it is quoted
    quoted_to: bytes  # the destination of the quoted echo; b"" in a reply


class Wire:
    """The raw socket of one address family."""

    def __init__(self, family: socket.AddressFamily, identity: int) -> None:
        self.is_ipv4 = family == socket.AF_INET
        kind = ICMPv4Socket if self.is_ipv4 else ICMPv6Socket
        try:
            self._icmp = kind(privileged=True)
        except ICMPLibError as error:
            raise ProbeError(
                f"cannot open a raw ICMP socket: {error}\nhint: it needs CAP_NET_RAW"
            ) from error
        self.sock: socket.socket = self._icmp.sock
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if self.is_ipv4:
            self.request, self.reply = 8, 0
            self.errors = frozenset({UNREACHABLE_4, TIME_EXCEEDED_4})
            wanted = type_filter(1, {self.reply, *self.errors})  # it ends at type 31
            self.sock.setsockopt(SOL_RAW, ICMP_FILTER, wanted)
        else:
            self.request, self.reply = 128, 129
            self.errors = frozenset({UNREACHABLE_6, TIME_EXCEEDED_6})
            wanted = type_filter(8, {self.reply, *self.errors})
            self.sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, wanted)
        attach_filter(self.sock, self._program(identity))

    def close(self) -> None:
        self._icmp.close()

    def packet(self, identity: int, sequence: int, payload: bytes) -> bytes:
        """An echo request."""
        made: bytes = self._icmp._create_packet(identity, sequence, payload)  # noqa: SLF001
        return made

    def understand(self, packet: bytes, source: str) -> Heard | None:
        """Take one packet apart; None if it is not an answer to any echo.

        icmplib takes every IP header for one without options, so it is given such a header.
        """
        icmp, ip_header = packet, 0
        if self.is_ipv4:
            icmp, ip_header = _without_ipv4_header(packet), IPV4_HEADER
        if len(icmp) < ICMP_HEADER or (self.is_ipv4 and _corrupt(icmp)):
            return None
        quoted_to = b""
        payload = icmp[ICMP_HEADER:]
        if icmp[0] != self.reply:
            if icmp[0] not in self.errors:
                return None
            quoted_to, quoted = self._quoted(icmp[ICMP_HEADER:])
            if len(quoted) < ICMP_HEADER or quoted[0] != self.request:
                return None
            payload = quoted[ICMP_HEADER:]
            plain_header = bytes(IPV4_HEADER if self.is_ipv4 else IPV6_HEADER)
            icmp = icmp[:ICMP_HEADER] + plain_header + quoted
        reply = self._icmp._parse_reply(bytes(ip_header) + icmp, source, 0.0)  # noqa: SLF001
        return Heard(reply, payload, quoted_to) if reply else None

    def _quoted(self, packet: bytes) -> tuple[bytes, bytes]:
        """Destination and ICMP part of the packet that an error quotes; empty if it has none."""
        if self.is_ipv4:
            if len(packet) < IPV4_HEADER or packet[9] != socket.IPPROTO_ICMP:
                return b"", b""
            return packet[16:20], _without_ipv4_header(packet)
        if len(packet) < IPV6_HEADER or packet[6] != socket.IPPROTO_ICMPV6:
            return b"", b""
        return packet[24:40], packet[IPV6_HEADER:]

    def _program(self, identity: int) -> tuple[tuple[int, int, int, int], ...]:
        """Take only replies to our own id, and errors that quote a request with it.

        So neither other programs' pings nor errors forged without a look at our echoes can fill our
        buffer.  An IPv4 raw socket shows the IP header, an IPv6 one does not.
        """
        take, drop = (0x06, 0, 0, PACKET_BYTES), (0x06, 0, 0, 0)
        into_quote: tuple[tuple[int, int, int, int], ...]
        if self.is_ipv4:
            begin = (0xB1, 0, 0, 0)  # X = length of the IP header
            into_quote = (
                (0x50, 0, 0, ICMP_HEADER),  # A = first byte of the quoted IP header
                (0x54, 0, 0, 0xF),
                (0x64, 0, 0, 2),  # A = its length
                (0x0C, 0, 0, 0),
                (0x07, 0, 0, 0),  # X = length of both
            )
        else:
            begin = (0x01, 0, 0, 0)  # X = 0
            into_quote = ((0x01, 0, 0, IPV6_HEADER),)
        of_error = (
            *into_quote,
            (0x50, 0, 0, ICMP_HEADER),  # A = type of the quoted packet
            (0x15, 0, 3, self.request),  # no request: drop it
            (0x48, 0, 0, ICMP_HEADER + 4),  # A = its id
            (0x15, 0, 1, identity),  # not ours: drop it
            take,
            drop,
        )
        of_reply = (
            (0x48, 0, 0, 4),  # A = id
            (0x15, 0, 1, identity),  # not ours: drop it
            take,
            drop,
        )
        which = ((0x50, 0, 0, 0), (0x15, len(of_error), 0, self.reply))  # A = type; a reply?
        return (begin, *which, *of_error, *of_reply)


class IcmpProbe:
    """Sends echoes and hands over what came back (the Probe protocol)."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        clock: Callable[[], float],
        repair: Collection[str] = (),
        neighbours: Collection[str] = (),
        neighbours_always: Collection[str] = (),
    ) -> None:
        """`repair`: the addresses whose neighbour is asked anew in a round that says so.

        `neighbours`: the addresses whose answers as neighbours count.  They are asked in every
        round, and their ARP reply or advertisement within NEIGHBOUR_S is an answer of that round;
        but only until they have answered an echo: who has does not filter ICMP, and his silence
        means something.  With `neighbours_always` they count also afterwards.

        Raises ValueError for what is not an address, and ProbeError.
        """
        self.stray = 0  # packets that were no genuine first answer to what is outstanding
        self._clock = clock
        self._identity = secrets.randbelow(SEQUENCES)
        self._sequence = secrets.randbelow(SEQUENCES)
        self._echoes: dict[int, Echo] = {}  # by sequence, oldest first
        self._asked: dict[Question, Asked] = {}
        self._round: Round | None = None
        self._targets: dict[str, Target] = {}
        self._wires: dict[socket.AddressFamily, Wire] = {}
        parsed = {name: Address.parse(name) for name in addresses}
        families = frozenset(address.family for address in parsed.values())
        heard = {*neighbours, *neighbours_always}
        counted = frozenset(parsed[name].family for name in parsed if name in heard)
        asked = counted | frozenset(parsed[name].family for name in parsed if name in repair)
        with contextlib.ExitStack() as opened:
            for family in sorted(families):
                wire = opened.enter_context(contextlib.closing(Wire(family, self._identity)))
                self._wires[family] = wire
            try:
                self._routes = opened.enter_context(contextlib.closing(Routes(clock)))
                neighbour = Neighbours(asked, listening=counted)
                self._neighbours = opened.enter_context(contextlib.closing(neighbour))
            except OSError as error:
                raise ProbeError(f"cannot open a netlink or packet socket: {error}") from error
            self._opened = opened.pop_all()
        for name, address in parsed.items():
            self._targets[name] = Target(
                name=name,
                address=address,
                wire=self._wires[address.family],
                repair=name in repair,
                neighbour=name in neighbours,
                neighbour_always=name in neighbours_always,
            )

    def send(self, address: str, round_: Round) -> str:
        """Send one echo.  Returns "" when it left, else why it could not, in a few words."""
        if round_ is not self._round:
            self._round = round_
            self._routes.refresh(all_anew=round_.repair)
        target = self._targets[address]
        route = self._routes.to(target.address)
        if route is None and target.address.scope:
            return "no route"  # without its scope the address would be another host's
        scope = route.link.index if route and target.address.scope else 0
        refused = self._transmit(target, round_, scope)
        if route is None:
            return refused or "no route"
        # Where the link is seen to be down the echo is tried all the same: an answer would be true.
        why = route.obstacle or refused
        if target.by_neighbour or (round_.repair and target.repair):
            self._ask(target, round_, route, counts=target.by_neighbour and not why)
        return why

    def receive(self) -> list[Answer]:
        """Everything that has arrived by now, each echo's reply once and its first error once.

        Takes a limited number from each socket; if there are more, it stays readable.
        """
        now_s = self._clock()
        self._forget_before(now_s - KEEP_S)
        answers = self._echo_answers()
        for question in self._neighbours.receive():
            answer = self._of_neighbour(question, now_s) if question else None
            if answer is None:
                self.stray += 1
            else:
                answers.append(answer)
        return answers

    def filenos(self) -> list[int]:
        wires = [wire.sock.fileno() for wire in self._wires.values()]
        return wires + self._neighbours.filenos()

    def close(self) -> None:
        self._opened.close()

    def _ask(self, target: Target, round_: Round, route: Route, *, counts: bool) -> None:
        """Ask a neighbour.  Its answer, which has no number, is taken for that to the oldest
        question that is outstanding, so that it never proves more than it can.
        """
        question = self._neighbours.ask(target.address, route)
        if question is None or not counts:
            return
        now_s = self._clock()
        before = self._asked.get(question)
        if before is None or before.target is not target or now_s - before.moment_s > NEIGHBOUR_S:
            self._asked = {q: a for q, a in self._asked.items() if now_s - a.moment_s <= KEEP_S}
            self._asked[question] = Asked(target, round_, now_s)

    def _of_neighbour(self, question: Question, now_s: float) -> Answer | None:
        """What a neighbour's answer is worth: nothing if the echo of that round was answered."""
        asked = self._asked.pop(question, None)
        if asked is None or not asked.target.by_neighbour:
            return None
        if asked.round.number <= asked.target.answered or now_s - asked.moment_s > NEIGHBOUR_S:
            return None
        return Answer(asked.target.name, asked.round.number, asked.round.sent_s)

    def _echo_answers(self) -> list[Answer]:
        answers = []
        for wire in self._wires.values():
            for _ in range(PACKETS_AT_ONCE):
                try:
                    packet, source = wire.sock.recvfrom(PACKET_BYTES)
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno == errno.EBADF:  # closed: our own mistake
                        raise
                    continue  # an error that was pending is told once and is then gone
                answer = self._genuine(wire, packet, source)
                if answer is None:
                    self.stray += 1
                else:
                    answers.append(answer)
        return answers

    def _transmit(self, target: Target, round_: Round, scope: int) -> str:
        self._sequence = sequence = (self._sequence + 1) % SEQUENCES
        nonce = secrets.token_bytes(NONCE_BYTES)
        packet = target.wire.packet(self._identity, sequence, nonce)
        where = (target.address.text, 0, 0, scope) if scope else (target.address.text, 0)
        fresh = 0 < round_.number - target.answered <= CONFIRM_ROUNDS
        flags = socket.MSG_CONFIRM if fresh and not round_.repair else 0
        # An echo that is still outstanding under this number has had 65,536 successors.
        self._echoes.pop(sequence, None)
        try:
            target.wire.sock.sendto(packet, flags, where)
        except OSError as error:
            if error.errno == errno.EBADF:  # closed: our own mistake
                raise
            return _in_words(error)
        self._echoes[sequence] = Echo(target, round_.number, round_.sent_s, nonce, scope)
        return ""

    def _genuine(self, wire: Wire, packet: bytes, source: tuple[Any, ...]) -> Answer | None:
        """The answer in a packet, if it is one to an outstanding echo."""
        heard = wire.understand(packet, source[0])
        if heard is None or heard.reply.id != self._identity:
            return None
        echo = self._echoes.get(heard.reply.sequence)
        if echo is None or echo.target.wire is not wire:
            return None
        target = echo.target
        if heard.reply.type == wire.reply:
            if source[0] != target.address.text or heard.payload != echo.nonce:
                return None
            came_through = 0 if wire.is_ipv4 else source[3]  # 0 unless the source is link-local
            if echo.scope and came_through and echo.scope != came_through:
                return None
            del self._echoes[heard.reply.sequence]
            target.answered, target.echoed = echo.number, True
            return Answer(target.name, echo.number, echo.sent_s)
        quoted = heard.payload[:NONCE_BYTES]  # a router need not quote so much of it
        if heard.quoted_to != target.address.packed or not echo.nonce.startswith(quoted):
            return None
        if echo.error_told:
            return None
        echo.error_told = True
        return Answer(target.name, echo.number, echo.sent_s, _error_in_words(heard.reply))

    def _forget_before(self, moment_s: float) -> None:
        while self._echoes:
            sequence = next(iter(self._echoes))
            if self._echoes[sequence].sent_s >= moment_s:
                return
            del self._echoes[sequence]


def _corrupt(icmp: bytes) -> bool:
    """Whether the checksum is wrong (RFC 1071); with IPv6 the kernel has looked already."""
    words = struct.unpack(f"!{(len(icmp) + 1) // 2}H", icmp + bytes(len(icmp) % 2))
    total: int = sum(words)
    return total % 0xFFFF != 0


def _without_ipv4_header(packet: bytes) -> bytes:
    """What follows the IPv4 header, however long that is; b"" if it is not whole."""
    length = (packet[0] & 0xF) * 4 if packet else 0
    return packet[length:] if length >= IPV4_HEADER else b""


def _in_words(error: OSError) -> str:
    name = errno.errorcode.get(error.errno or 0, "error")
    return f"{name}: {error.strerror or error}"


def _error_in_words(reply: ICMPReply) -> str:
    """Such as "host unreachable from 198.51.100.1"."""
    try:
        reply.raise_for_status()
    except ICMPError as error:
        words = str(error).removeprefix("Destination ")
        return f"{words[:1].lower()}{words[1:]} from {reply.source}"
    return f"type {reply.type} from {reply.source}"
