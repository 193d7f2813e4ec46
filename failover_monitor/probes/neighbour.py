"""The way to an address: which interface leads there, and asking the neighbour there anew.

Rule: nothing here is evidence of life by itself.  A route says whether we could send at all; a
question to the neighbour repairs the path (the one who is asked learns our address from it), and
its answer is looked at only where that was chosen, because proxy ARP and switches answer for dead
hosts, and anybody on the link can forge it.  Nothing here blocks.
"""

import contextlib
import errno
import socket
import struct
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, Self

REFRESH_S = 30.0  # look anew this often, though the kernel tells every change
CHANGES_AT_ONCE = 64  # notices taken per round; what is left makes the next round look anew
ANSWERS_AT_ONCE = 1024  # taken per family and call, so that a flood cannot hold us for ever
ANSWER_BYTES = 256

NLMSG_ERROR = 2  # linux/netlink.h
NLM_F_REQUEST = 1
RTM_NEWLINK, RTM_GETLINK, RTM_NEWROUTE, RTM_GETROUTE = 16, 18, 24, 26  # linux/rtnetlink.h
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_VIA, RTA_IP_PROTO = 1, 4, 5, 7, 18, 27
RTM_F_FIB_MATCH = 0x2000  # linux/rtnetlink.h: what the routing tables say, and nothing else
RTCF_REDIRECTED = 0x40000  # linux/in_route.h
IFLA_ADDRESS, IFLA_IFNAME = 1, 3  # linux/if_link.h
IFF_UP, IFF_LOOPBACK, IFF_RUNNING, IFF_NOARP, IFF_LOWER_UP = 0x1, 0x8, 0x40, 0x80, 0x10000
ARPHRD_ETHER = 1  # linux/if_arp.h
ETH_P_IP, ETH_P_ARP = 0x0800, 0x0806  # linux/if_ether.h
ETHER_BROADCAST = b"\xff" * 6
ICMP6_FILTER = 1  # linux/icmpv6.h; a set bit blocks the type
SO_ATTACH_FILTER = 26  # asm-generic/socket.h
PACKET_TYPE = 0xFFFFF004  # linux/filter.h: SKF_AD_OFF + SKF_AD_PKTTYPE
ARP_REPLY, SOLICITATION, ADVERTISEMENT = 2, 135, 136  # RFC 826, RFC 4861
SOLICITED_AND_OVERRIDE = 0x60  # of an advertisement that answers, and is no proxy's
HOP_LIMIT = 255  # less has passed a router
ARP = "!HHBBH6s4s6s4s"  # kinds and lengths, operation, sender's two addresses, target's two
ADVERTISED = "!BBxxB3x16s"  # type, code, flags, target; options follow

# Groups of linux/rtnetlink.h: link, IPv4 address, route and rule, IPv6 address, route and rule.
CHANGES = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x40000


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address, taken apart once."""

    family: socket.AddressFamily
    packed: bytes
    text: str  # as the kernel writes it, without the scope
    scope: str  # name or number of the interface after "%"; "" = none

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for anything but an address; names are not looked up."""
        parsed = ip_address(text)
        family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
        scope = (parsed.scope_id or "") if isinstance(parsed, IPv6Address) else ""
        return cls(
            family=family,
            packed=parsed.packed,
            text=socket.inet_ntop(family, parsed.packed),
            scope=scope,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One interface of ours, as it was last seen."""

    index: int
    name: str
    hardware: int  # ARPHRD_*
    mac: bytes
    flags: int  # IFF_*

    @property
    def obstacle(self) -> str:
        """Why nothing can leave through it, or ""."""
        if not self.flags & IFF_UP:
            return f"{self.name} is down"
        if not self.flags & IFF_LOWER_UP or not self.flags & IFF_RUNNING:
            return f"no carrier on {self.name}"
        return ""

    @property
    def has_neighbours(self) -> bool:
        return self.hardware == ARPHRD_ETHER and not self.flags & (IFF_LOOPBACK | IFF_NOARP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How the kernel would send to an address now."""

    link: Link
    on_link: bool  # no router in between
    source: bytes  # our address on that way, packed; b"" = not known
    obstacle: str  # why nothing can leave, or ""


class Routes:
    """Answers of the kernel's routing, kept until the kernel tells that anything changed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._refresh_s = 0.0
        self._serial = 0
        self._routes: dict[Address, Route] = {}
        self._links: dict[int | str, Link] = {}
        self._asking = _netlink(0)
        try:
            self._changes = _netlink(CHANGES)
        except OSError:
            self._asking.close()
            raise

    def close(self) -> None:
        self._asking.close()
        self._changes.close()

    def refresh(self, *, all_anew: bool = False) -> None:
        """Forget what may have changed, or everything; call it once before each round.

        The kernel may tell of a lost carrier up to a second late (net/core/link_watch.c), but not
        if it is asked.  So in a suspicion, where a second matters, everything is asked anew.
        """
        now_s = self._clock()
        changed = all_anew or now_s >= self._refresh_s
        for _ in range(CHANGES_AT_ONCE):
            try:
                self._changes.recv(1)  # that there is one is all we need to know
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: so many that some were lost
                pass
            changed = True
        if changed:
            self._refresh_s = now_s + REFRESH_S
            self._routes.clear()
            self._links.clear()

    def to(self, address: Address) -> Route | None:
        """The way to an address, or None.  That there is none is never kept."""
        route = self._routes.get(address)
        if route is None:
            route = self._look(address)
            if route is not None:
                self._routes[address] = route
        return route

    def _look(self, address: Address) -> Route | None:
        attributes = _attribute(RTA_DST, address.packed)
        protocol = socket.IPPROTO_ICMP
        if address.family == socket.AF_INET6:
            protocol = socket.IPPROTO_ICMPV6
        attributes += _attribute(RTA_IP_PROTO, bytes([protocol]))  # a rule may name the protocol
        if address.scope:
            scope = self._link(int(address.scope) if address.scope.isdigit() else address.scope)
            if scope is None:
                return None
            attributes += _attribute(RTA_OIF, struct.pack("=I", scope.index))
        flags, told = self._route(address, attributes)
        if RTA_OIF not in told:
            return None
        link = self._link(struct.unpack("=I", told[RTA_OIF])[0])
        if link is None:
            return None
        obstacle = link.obstacle
        if flags & RTCF_REDIRECTED and not obstacle:
            # No router has anything to say about the way to a host on our own link: a redirect of
            # that is forged, or wrong, and who is there then never hears our echo.
            _, tables = self._route(address, attributes, RTM_F_FIB_MATCH)
            if tables and _direct(tables):
                obstacle = "an ICMP redirect leads astray; hint: set accept_redirects to 0"
        return Route(
            link=link,
            on_link=_direct(told),
            source=told.get(RTA_PREFSRC, b""),
            obstacle=obstacle,
        )

    def _route(
        self, address: Address, attributes: bytes, flags: int = 0
    ) -> tuple[int, dict[int, bytes]]:
        """Flags and attributes of the kernel's answer; no attributes where there is no way."""
        header = struct.pack("=8BI", address.family, len(address.packed) * 8, *[0] * 6, flags)
        found = self._ask(RTM_GETROUTE, header + attributes, RTM_NEWROUTE)
        if found is None or len(found) < len(header):
            return 0, {}
        told_flags: int = struct.unpack_from("=8xI", found)[0]
        return told_flags, _attributes(found[len(header) :])

    def _link(self, key: int | str) -> Link | None:
        """The interface with that index or name."""
        if key not in self._links:
            wanted, attributes = 0, b""
            if isinstance(key, int):
                wanted = key
            else:
                attributes = _attribute(IFLA_IFNAME, key.encode() + b"\0")
            header = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, wanted, 0, 0)
            found = self._ask(RTM_GETLINK, header + attributes, RTM_NEWLINK)
            if found is None:
                return None
            _, hardware, index, flags, _ = struct.unpack_from("=BxHiII", found)
            told = _attributes(found[len(header) :])
            self._links[key] = Link(
                index=index,
                name=told[IFLA_IFNAME].rstrip(b"\0").decode(errors="replace"),
                hardware=hardware,
                mac=told.get(IFLA_ADDRESS, b""),
                flags=flags,
            )
        return self._links[key]

    def _ask(self, kind: int, body: bytes, expected: int) -> bytes | None:
        """One question to the kernel, which answers before the send returns."""
        self._serial = (self._serial + 1) & 0xFFFFFFFF
        header = struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST, self._serial, 0)
        with contextlib.suppress(OSError):  # what the kernel does not tell, we do not know
            self._asking.send(header + body)
            while True:
                answer = self._asking.recv(65536)
                length, kind, _, serial, _ = struct.unpack_from("=IHHII", answer)
                if serial == self._serial:
                    return answer[16:length] if kind == expected else None
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was asked of a neighbour, and what a genuine answer must repeat."""

    link: int | str  # the interface as its socket tells it: index with IPv6, name with IPv4
    source: bytes  # our address, packed
    mac: bytes  # our hardware address; b"" with IPv6, where the answer does not name it
    wanted: bytes  # the neighbour's address, packed


class Neighbours:
    """Asks hosts on our own link for their hardware address, in our name, as the kernel would.

    The kernel asks once a second, and only if its own entry has expired.  The host that is asked
    refreshes its entry for us, which may be the one that is missing.
    """

    def __init__(
        self,
        families: frozenset[socket.AddressFamily],
        listening: frozenset[socket.AddressFamily] = frozenset(),
    ) -> None:
        """`families` can be asked; the answers of those in `listening` are looked at, too."""
        self._packets: socket.socket | None = None
        self._solicitations: socket.socket | None = None
        self._replies: socket.socket | None = None
        self._advertisements: socket.socket | None = None
        with contextlib.ExitStack() as opened:
            if socket.AF_INET in families:
                # Protocol 0: it sends, and nothing is ever delivered to it.
                self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
                opened.callback(self._packets.close)
                self._packets.setblocking(False)
            if socket.AF_INET6 in families:
                self._solicitations = opened.enter_context(contextlib.closing(_icmpv6(())))
                self._solicitations.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            if socket.AF_INET in listening:
                self._replies = opened.enter_context(contextlib.closing(_arp_replies()))
            if socket.AF_INET6 in listening:
                self._advertisements = opened.enter_context(contextlib.closing(_advertisements()))
            opened.pop_all()

    def close(self) -> None:
        for sock in (self._packets, self._solicitations, self._replies, self._advertisements):
            if sock is not None:
                sock.close()

    def filenos(self) -> list[int]:
        """Descriptors that become readable when an answer arrives."""
        listening = (self._replies, self._advertisements)
        return [sock.fileno() for sock in listening if sock is not None]

    def ask(self, address: Address, route: Route) -> Question | None:
        """Send one ARP request or neighbour solicitation, where that makes sense.

        Gives what left, or None.
        """
        link = route.link
        if not route.on_link or not route.source or not link.has_neighbours:
            return None
        with contextlib.suppress(OSError):  # the echo of the same round tells what is wrong
            if self._packets is not None and address.family == socket.AF_INET:
                self._packets.sendto(
                    arp_request(link.mac, route.source, address.packed),
                    (link.name, ETH_P_ARP, 0, ARPHRD_ETHER, ETHER_BROADCAST),
                )
                return Question(
                    link=link.name, source=route.source, mac=link.mac, wanted=address.packed
                )
            if self._solicitations is not None and address.family == socket.AF_INET6:
                interface = struct.pack("=16sI", route.source, link.index)
                self._solicitations.sendmsg(
                    [neighbour_solicitation(link.mac, address.packed)],
                    [
                        (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, interface),
                        (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("=i", HOP_LIMIT)),
                    ],
                    0,
                    (solicited_node(address.packed), 0, 0, link.index),
                )
                return Question(
                    link=link.index, source=route.source, mac=b"", wanted=address.packed
                )
        return None

    def receive(self) -> Iterator[Question | None]:
        """For each answer that has arrived the question that it answers; None for anything else."""
        if self._replies is not None:
            for packet, _, where in _arrived(self._replies):
                yield arp_answered(packet, where)
        if self._advertisements is not None:
            for packet, told, _ in _arrived(self._advertisements):
                yield advertised(packet, told)


def arp_answered(packet: bytes, where: Sequence[Any]) -> Question | None:
    """The question that an ARP reply answers (RFC 826).  `where`: as of a packet socket.

    Only what was sent to our own hardware address is a reply to us; the rest is an announcement.
    """
    if len(packet) < struct.calcsize(ARP):
        return None
    *kind, sender_mac, sender, mac, source = struct.unpack_from(ARP, packet)
    link, _, addressed, hardware, *_ = where
    if kind != [ARPHRD_ETHER, ETH_P_IP, 6, 4, ARP_REPLY] or hardware != ARPHRD_ETHER:
        return None
    if addressed != socket.PACKET_HOST or sender_mac == mac or sender_mac[0] & 1:
        return None
    return Question(link=link, source=source, mac=mac, wanted=sender)


def advertised(packet: bytes, told: Sequence[tuple[int, int, bytes]]) -> Question | None:
    """The question that a neighbour advertisement answers (RFC 4861 §4.4).

    `told`: the ancillary data, with hop limit and destination.  The kernel saw to the checksum.
    """
    if len(packet) < struct.calcsize(ADVERTISED):
        return None
    kind, code, flags, wanted = struct.unpack_from(ADVERTISED, packet)
    if (kind, code) != (ADVERTISEMENT, 0) or flags & SOLICITED_AND_OVERRIDE != 0x60:
        return None
    known = {what: value for level, what, value in told if level == socket.IPPROTO_IPV6}
    hop_limit, interface = known.get(socket.IPV6_HOPLIMIT), known.get(socket.IPV6_PKTINFO)
    if hop_limit != struct.pack("=i", HOP_LIMIT) or interface is None:
        return None
    source, link = struct.unpack("=16sI", interface)
    return Question(link=link, source=source, mac=b"", wanted=wanted)


def arp_request(mac: bytes, source: bytes, wanted: bytes) -> bytes:
    """RFC 826: who has `wanted`?  Tell `source` at `mac`."""
    return struct.pack(ARP, ARPHRD_ETHER, ETH_P_IP, 6, 4, 1, mac, source, bytes(6), wanted)


def neighbour_solicitation(mac: bytes, wanted: bytes) -> bytes:
    """RFC 4861 §4.3, with our own hardware address; the kernel fills in the checksum."""
    return struct.pack("!BBHI16sBB6s", SOLICITATION, 0, 0, 0, wanted, 1, 1, mac)


def solicited_node(wanted: bytes) -> str:
    """RFC 4291 §2.7.1: the multicast group to which the owner of an address listens."""
    return f"ff02::1:ff{wanted[13]:02x}:{wanted[14]:02x}{wanted[15]:02x}"


def attach_filter(sock: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    """Let the kernel drop what is of no use, before it fills our buffer.

    A classic BPF program: (code, jump if true, jump if false, operand) each; what is loaded from
    beyond the end of the packet drops it.
    """
    code = array("B", b"".join(struct.pack("=HBBI", *step) for step in program))
    attached = struct.pack("HP", len(program), code.buffer_info()[0])
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)


def type_filter(words: int, wanted: Collection[int]) -> bytes:
    """A bitmap in which every ICMP type but the wanted ones is blocked."""
    blocked = (1 << 32 * words) - 1
    for kind in wanted:
        blocked &= ~(1 << kind)
    return struct.pack(f"={words}I", *(blocked >> 32 * n & 0xFFFFFFFF for n in range(words)))


def _arp_replies() -> socket.socket:
    """Hears the ARP replies that are sent to us."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ARP))
    try:
        sock.setblocking(False)
        attach_filter(
            sock,
            (
                (0x20, 0, 0, PACKET_TYPE),  # A = to whom
                (0x15, 0, 3, socket.PACKET_HOST),  # not to our hardware address: drop it
                (0x28, 0, 0, 6),  # A = operation
                (0x15, 0, 1, ARP_REPLY),  # no reply: drop it
                (0x06, 0, 0, ANSWER_BYTES),  # take it
                (0x06, 0, 0, 0),  # drop it
            ),
        )
        for _ in _arrived(sock):  # what came before the filter answers nothing of ours
            pass
    except OSError:
        sock.close()
        raise
    return sock


def _advertisements() -> socket.socket:
    """Hears the neighbour advertisements that answer a solicitation."""
    sock = _icmpv6((ADVERTISEMENT,))
    try:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        attach_filter(
            sock,
            (
                (0x30, 0, 0, 4),  # A = flags
                (0x54, 0, 0, SOLICITED_AND_OVERRIDE),  # A = these two of them
                (0x15, 0, 1, SOLICITED_AND_OVERRIDE),  # not both are set: drop it
                (0x06, 0, 0, ANSWER_BYTES),  # take it
                (0x06, 0, 0, 0),  # drop it
            ),
        )
    except OSError:
        sock.close()
        raise
    return sock


def _icmpv6(wanted: Collection[int]) -> socket.socket:
    """A raw ICMPv6 socket to which only these types are delivered."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, type_filter(8, wanted))
    except OSError:
        sock.close()
        raise
    return sock


def _arrived(
    sock: socket.socket,
) -> Iterator[tuple[bytes, list[tuple[int, int, bytes]], tuple[Any, ...]]]:
    """Packet, ancillary data and address of everything that waits, up to a limit."""
    for _ in range(ANSWERS_AT_ONCE):
        try:
            packet, told, _, where = sock.recvmsg(ANSWER_BYTES, 256)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.EBADF:  # closed: our own mistake
                raise
            continue  # an error that was pending is told once and is then gone
        yield packet, told, where


def _direct(told: dict[int, bytes]) -> bool:
    """Whether a route has no router in it."""
    return RTA_GATEWAY not in told and RTA_VIA not in told


def _netlink(groups: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        sock.setblocking(False)
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return sock


def _attribute(kind: int, value: bytes) -> bytes:
    """One rtnetlink attribute: length, type, value, padded to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    """All attributes of one rtnetlink message."""
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:  # less than its own header
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found
