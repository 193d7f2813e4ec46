"""The way to an address: which interface leads there, and asking the neighbour there anew.

Rule: nothing here is evidence of life.  A route says whether we could send at all; a question to
the neighbour repairs the path (the one who is asked learns our address from it), and its answer is
never looked at, because proxy ARP and switches answer for dead hosts.  Nothing here blocks.
"""

import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Self

REFRESH_S = 30.0  # look anew this often, though the kernel tells every change
CHANGES_AT_ONCE = 64  # notices taken per round; what is left makes the next round look anew

NLMSG_ERROR = 2  # linux/netlink.h
NLM_F_REQUEST = 1
RTM_NEWLINK, RTM_GETLINK, RTM_NEWROUTE, RTM_GETROUTE = 16, 18, 24, 26  # linux/rtnetlink.h
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_VIA, RTA_IP_PROTO = 1, 4, 5, 7, 18, 27
IFLA_ADDRESS, IFLA_IFNAME = 1, 3  # linux/if_link.h
IFF_UP, IFF_LOOPBACK, IFF_RUNNING, IFF_NOARP, IFF_LOWER_UP = 0x1, 0x8, 0x40, 0x80, 0x10000
ARPHRD_ETHER = 1  # linux/if_arp.h
ETH_P_ARP = 0x0806
ETHER_BROADCAST = b"\xff" * 6
ICMP6_FILTER = 1  # linux/icmpv6.h; a set bit blocks the type

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
        header = struct.pack("=8BI", address.family, len(address.packed) * 8, *[0] * 6, 0)
        found = self._ask(RTM_GETROUTE, header + attributes, RTM_NEWROUTE)
        if found is None:
            return None
        told = _attributes(found[len(header) :])
        if RTA_OIF not in told:
            return None
        link = self._link(struct.unpack("=I", told[RTA_OIF])[0])
        if link is None:
            return None
        return Route(
            link=link,
            on_link=RTA_GATEWAY not in told and RTA_VIA not in told,
            source=told.get(RTA_PREFSRC, b""),
            obstacle=link.obstacle,
        )

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


class Neighbours:
    """Asks hosts on our own link for their hardware address, in our name, as the kernel would.

    The kernel asks once a second, and only if its own entry has expired.  The host that is asked
    refreshes its entry for us, which may be the one that is missing.
    """

    def __init__(self, families: frozenset[socket.AddressFamily]) -> None:
        self._packets: socket.socket | None = None
        self._solicitations: socket.socket | None = None
        with contextlib.ExitStack() as opened:
            if socket.AF_INET in families:
                # Protocol 0: it sends, and nothing is ever delivered to it.
                self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
                opened.callback(self._packets.close)
                self._packets.setblocking(False)
            if socket.AF_INET6 in families:
                sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
                self._solicitations = sock
                opened.callback(sock.close)
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, b"\xff" * 32)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            opened.pop_all()

    def close(self) -> None:
        for sock in (self._packets, self._solicitations):
            if sock is not None:
                sock.close()

    def ask(self, address: Address, route: Route) -> None:
        """Send one ARP request or neighbour solicitation, where that makes sense."""
        if not route.on_link or not route.source or not route.link.has_neighbours:
            return
        with contextlib.suppress(OSError):  # the echo of the same round tells what is wrong
            if self._packets is not None and address.family == socket.AF_INET:
                self._packets.sendto(
                    arp_request(route.link.mac, route.source, address.packed),
                    (route.link.name, ETH_P_ARP, 0, ARPHRD_ETHER, ETHER_BROADCAST),
                )
            elif self._solicitations is not None and address.family == socket.AF_INET6:
                interface = struct.pack("=16sI", route.source, route.link.index)
                self._solicitations.sendmsg(
                    [neighbour_solicitation(route.link.mac, address.packed)],
                    [
                        (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, interface),
                        (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("=i", 255)),
                    ],
                    0,
                    (solicited_node(address.packed), 0, 0, route.link.index),
                )


def arp_request(mac: bytes, source: bytes, wanted: bytes) -> bytes:
    """RFC 826: who has `wanted`?  Tell `source` at `mac`."""
    return struct.pack("!HHBBH6s4s6x4s", ARPHRD_ETHER, 0x0800, 6, 4, 1, mac, source, wanted)


def neighbour_solicitation(mac: bytes, wanted: bytes) -> bytes:
    """RFC 4861 §4.3, with our own hardware address; the kernel fills in the checksum."""
    return struct.pack("!BBHI16sBB6s", 135, 0, 0, 0, wanted, 1, 1, mac)


def solicited_node(wanted: bytes) -> str:
    """RFC 4291 §2.7.1: the multicast group to which the owner of an address listens."""
    return f"ff02::1:ff{wanted[13]:02x}:{wanted[14]:02x}{wanted[15]:02x}"


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
