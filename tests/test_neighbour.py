"""The way to an address, as the kernel sees it, and asking the neighbour, on a real cable."""

import contextlib
import select
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failover_monitor.model import Answer, Round
from failover_monitor.probes import neighbour
from failover_monitor.probes.icmp import IcmpProbe
from failover_monitor.probes.neighbour import Address, Neighbours, Routes
from tests.cable import (
    BEHIND4,
    DEAD4,
    DEAD6,
    FAR4,
    FAR4_SECOND,
    FAR6,
    FAR6_LINK,
    FAR_MAC,
    NEAR4,
    NEAR6,
    NEAR6_LINK,
    NEAR_MAC,
    Host,
    cable,
)

FAR6_SCOPED = f"{FAR6_LINK}%near0"
BOTH = frozenset({socket.AF_INET, socket.AF_INET6})


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    with cable() as pair:
        yield pair


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def routes(hosts: tuple[Host, Host], clock: Clock) -> Iterator[Routes]:
    with contextlib.closing(Routes(clock)) as routes:
        routes.refresh()
        yield routes


@pytest.fixture
def neighbours(hosts: tuple[Host, Host]) -> Iterator[Neighbours]:
    with contextlib.closing(Neighbours(BOTH)) as neighbours:
        yield neighbours


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def way(routes: Routes, address: str) -> neighbour.Route:
    route = routes.to(Address.parse(address))
    assert route is not None
    return route


@contextlib.contextmanager
def sniffing(far: Host, protocol: int) -> Iterator[socket.socket]:
    """Every frame of that protocol that really arrives at the far end."""
    with far.entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    with contextlib.closing(sock):
        with far.entered():
            sock.bind((far.link, protocol))
        yield sock


def frames(sock: socket.socket, *, within_s: float = 0.3) -> list[bytes]:
    """What arrives until nothing has come for a while."""
    seen = []
    while select.select([sock], [], [], within_s)[0]:
        frame, address = sock.recvfrom(2048)
        if address[2] != socket.PACKET_OUTGOING:
            seen.append(frame)
    return seen


def entry(host: Host, address: str) -> str:
    """The host's neighbour entry for an address: "MAC STATE", or ""."""
    for line in host.ip("neigh show").splitlines():
        words = line.split()
        if words[0] == address:
            known = words[words.index("lladdr") + 1] + " " if "lladdr" in words else ""
            return known + words[-1]
    return ""


# The way there.


@pytest.mark.parametrize(
    ("address", "source"), [(FAR4, NEAR4), (FAR6, NEAR6), (FAR6_SCOPED, NEAR6_LINK)]
)
def test_a_host_on_the_cable_is_on_link(routes: Routes, address: str, source: str) -> None:
    """The route names the interface, its hardware address, and our own address on it."""
    route = way(routes, address)
    assert route.on_link
    assert route.link.name == "near0"
    assert route.link.mac == mac(NEAR_MAC)
    assert route.link.has_neighbours
    assert route.source == Address.parse(source).packed
    assert route.obstacle == ""


def test_a_scope_decides_the_way(hosts: tuple[Host, Host], routes: Routes) -> None:
    """A link-local address leads through the interface that it names, whatever routes prefer."""
    hosts[0].ip(
        "link add other0 type veth peer name other1",
        "link set other0 up",
        "link set other1 up",
        "route add fe80::/64 dev other0 metric 1",
    )
    routes.refresh(all_anew=True)
    assert way(routes, FAR6_SCOPED).link.name == "near0"
    assert way(routes, f"{FAR6_LINK}%other0").link.name == "other0"
    index = way(routes, FAR6_SCOPED).link.index
    assert way(routes, f"{FAR6_LINK}%{index}").link.name == "near0"


def test_a_host_behind_a_router_is_not_on_link(routes: Routes) -> None:
    """Where a router is in between, its neighbour is not ours to ask."""
    assert not way(routes, BEHIND4).on_link


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", NEAR4])
def test_ourselves_have_no_neighbours(routes: Routes, address: str) -> None:
    """Loopback leads to nobody that could be asked."""
    assert not way(routes, address).link.has_neighbours


@pytest.mark.parametrize(
    "address", ["198.18.0.1", "2001:db8:1::1", "fe80::2%nosuch0", "fe80::2%99"]
)
def test_where_nothing_leads_there_is_no_route(routes: Routes, address: str) -> None:
    """No route is a value, and it is looked up anew each time."""
    assert routes.to(Address.parse(address)) is None


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
def test_a_route_into_nowhere_is_no_route(
    hosts: tuple[Host, Host], routes: Routes, kind: str
) -> None:
    """Routes that refuse are no way to anybody."""
    hosts[0].ip(f"route add {kind} {FAR4}/32", f"route add {kind} {FAR6}/128")
    routes.refresh()
    assert routes.to(Address.parse(FAR4)) is None
    assert routes.to(Address.parse(FAR6)) is None


def test_a_rule_for_icmp_alone_is_followed(hosts: tuple[Host, Host], routes: Routes) -> None:
    """The kernel is asked for the way that an echo takes, not for that of other traffic."""
    hosts[0].ip(
        f"route add {FAR4} via 198.51.100.3 dev near0 table 99",
        "rule add ipproto icmp table 99",
    )
    routes.refresh()
    assert not way(routes, FAR4).on_link


def test_changes_are_seen_at_the_next_refresh(hosts: tuple[Host, Host], routes: Routes) -> None:
    """A new route, rule or address counts from the next round on."""
    near, _ = hosts
    assert way(routes, FAR4).on_link
    near.ip(f"route add {FAR4}/32 via 198.51.100.3 dev near0")
    assert way(routes, FAR4).on_link
    routes.refresh()
    assert not way(routes, FAR4).on_link


def test_a_dead_cable_is_an_obstacle(hosts: tuple[Host, Host], routes: Routes) -> None:
    """The loss of the carrier is known as soon as the kernel tells it, or at once if asked."""
    _, far = hosts
    assert way(routes, FAR4).obstacle == ""
    far.ip("link set far0 down")
    routes.refresh(all_anew=True)
    assert way(routes, FAR4).obstacle == "no carrier on near0"
    far.ip("link set far0 up")
    routes.refresh(all_anew=True)
    assert way(routes, FAR4).obstacle == ""
    far.ip("link set far0 down")
    end_s = time.monotonic() + 15
    while way(routes, FAR4).obstacle != "no carrier on near0":
        assert time.monotonic() < end_s
        routes.refresh()


@pytest.mark.parametrize("accepted", [1, 0])
def test_a_forged_redirect_is_an_obstacle(
    hosts: tuple[Host, Host], routes: Routes, accepted: int
) -> None:
    """Anybody can draw our echoes to another host so; to a host on the link no router leads.

    A kernel takes no redirect for a host on the link, unless an exception for it is there already:
    one that a forged "fragmentation needed" has made.
    """
    near, far = hosts
    for link in ("all", "near0"):
        near.sysctl(**{f"net__ipv4__conf__{link}__accept_redirects": accepted})
    far.sysctl(net__ipv4__conf__far0__send_redirects=0)
    quoted = struct.pack("!BBHHHBBH", 0x45, 0, 36, 0, 0, 64, 1, 0)
    quoted += socket.inet_aton(NEAR4) + socket.inet_aton(FAR4) + b"\x08" + bytes(15)
    messages = []
    for kind, code, rest in ((3, 4, b"\0\0\2\x28"), (5, 1, socket.inet_aton(FAR4_SECOND))):
        message = struct.pack("!BBH4s", kind, code, 0, rest) + quoted
        total = sum(struct.unpack(f"!{len(message) // 2}H", message)) % 0xFFFF
        messages.append(message[:2] + struct.pack("!H", ~total & 0xFFFF) + message[4:])
    with far.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    near.ip(f"neigh replace {FAR4_SECOND} lladdr {FAR_MAC} dev near0 nud permanent")
    probe = IcmpProbe([FAR4], clock=Clock(), repair=[FAR4])
    with contextlib.closing(sock), contextlib.closing(probe):
        assert not probe.send(FAR4, Round(1, 1000.0, repair=True))
        sock.bind((FAR4, 0))
        end_s = time.monotonic() + (2.0 if accepted else 0.3)
        while time.monotonic() < end_s and "via" not in near.ip(f"route get {FAR4}"):
            for message in messages:
                sock.sendto(message, (NEAR4, 0))
        assert ("via" in near.ip(f"route get {FAR4}")) is bool(accepted)
        assert ("redirect" in probe.send(FAR4, Round(2, 1001.0, repair=True))) is bool(accepted)
    routes.refresh(all_anew=True)
    assert way(routes, BEHIND4).obstacle == ""


def test_nothing_is_asked_while_nothing_changes(routes: Routes, clock: Clock) -> None:
    """In steady state a round costs one look for changes, and no question to the kernel."""
    way(routes, FAR4)
    while select.select([routes._changes], [], [], 1.5)[0]:  # the cable is just being plugged in
        routes.refresh()
        way(routes, FAR4)
    routes._asking.close()
    routes.refresh()
    assert way(routes, FAR4).on_link
    clock.now_s += 31  # but sooner or later it is asked anyhow
    routes.refresh()
    assert routes.to(Address.parse(FAR4)) is None


def test_lost_notices_mean_that_anything_may_have_changed(
    hosts: tuple[Host, Host], routes: Routes
) -> None:
    """A storm of changes overflows the socket; the next round looks anew all the same."""
    near, _ = hosts
    way(routes, FAR4)
    routes._changes.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    near.ip(*(f"route add 198.51.100.{n}/32 dev near0" for n in range(64, 124)))
    near.ip(f"route add {FAR4}/32 via 198.51.100.3 dev near0")
    routes.refresh()
    assert not way(routes, FAR4).on_link


@given(st.binary(max_size=200))
def test_any_attributes_come_to_an_end(data: bytes) -> None:
    """Whatever the bytes are, they are taken apart without an error and without end."""
    assert sum(len(value) for value in neighbour._attributes(data).values()) <= len(data)


# Asking.


def test_an_arp_request_leaves_in_our_name(
    hosts: tuple[Host, Host], routes: Routes, neighbours: Neighbours
) -> None:
    """The far end really sees one broadcast ARP request with our address and hardware address."""
    with sniffing(hosts[1], neighbour.ETH_P_ARP) as sock:
        neighbours.ask(Address.parse(FAR4), way(routes, FAR4))
        (frame,) = frames(sock)
    assert frame[:14] == b"\xff" * 6 + mac(NEAR_MAC) + b"\x08\x06"
    operation, sender_mac, sender, wanted = struct.unpack_from("!H6s4s6x4s", frame, 20)
    assert operation == 1
    assert sender_mac == mac(NEAR_MAC)
    assert sender == socket.inet_aton(NEAR4)
    assert wanted == socket.inet_aton(FAR4)


@pytest.mark.parametrize(("address", "source"), [(FAR6, NEAR6), (FAR6_SCOPED, NEAR6_LINK)])
def test_a_solicitation_leaves_in_our_name(
    hosts: tuple[Host, Host], routes: Routes, neighbours: Neighbours, address: str, source: str
) -> None:
    """The far end sees one solicitation as RFC 4861 wants it: hop limit, group, source."""
    wanted = Address.parse(address).packed
    with sniffing(hosts[1], 0x86DD) as sock:
        neighbours.ask(Address.parse(address), way(routes, address))
        asked = [f for f in frames(sock) if f[20] == 58 and f[54] == 135]
    (frame,) = asked
    assert frame[:6] == b"\x33\x33\xff" + wanted[13:]
    assert frame[21] == 255
    assert frame[22:38] == Address.parse(source).packed
    assert frame[62:78] == wanted
    assert frame[78:86] == b"\x01\x01" + mac(NEAR_MAC)


@pytest.mark.parametrize(
    ("address", "ours"), [(FAR4, NEAR4), (FAR6, NEAR6), (FAR6_SCOPED, NEAR6_LINK)]
)
@pytest.mark.parametrize("before", ["", "FAILED", "wrong"])
def test_who_is_asked_learns_our_address(
    hosts: tuple[Host, Host],
    routes: Routes,
    neighbours: Neighbours,
    address: str,
    ours: str,
    before: str,
) -> None:
    """The far end's entry for us, lost, failed or wrong, is right after it was asked."""
    _, far = hosts
    if before == "FAILED":
        far.ip(f"neigh replace {ours} dev far0 nud failed")
        assert entry(far, ours) in {"FAILED", ""}
    elif before == "wrong":
        far.ip(f"neigh replace {ours} lladdr 02:00:00:00:00:99 dev far0 nud stale")
    neighbours.ask(Address.parse(address), way(routes, address))
    end_s = time.monotonic() + 2
    while not entry(far, ours).startswith(NEAR_MAC):
        assert time.monotonic() < end_s
    assert entry(far, ours).split()[1] in {"STALE", "REACHABLE", "DELAY"}


@pytest.mark.parametrize("address", [FAR4, FAR6])
def test_the_answer_mends_our_own_entry(
    hosts: tuple[Host, Host],
    routes: Routes,
    neighbours: Neighbours,
    address: str,
) -> None:
    """Our entry that went wrong is put right by the answer to our question."""
    near, _ = hosts
    near.sysctl(net__ipv4__neigh__near0__locktime=0)  # else a fresh entry is kept for a second
    near.ip(f"neigh replace {address} lladdr 02:00:00:00:00:99 dev near0 nud stale")
    end_s = time.monotonic() + 2
    while not entry(near, address).startswith(FAR_MAC):
        assert time.monotonic() < end_s
        neighbours.ask(Address.parse(address), way(routes, address))


def test_nobody_is_asked_behind_a_router_or_without_arp(
    hosts: tuple[Host, Host], routes: Routes, neighbours: Neighbours
) -> None:
    """Off-link addresses, loopback and interfaces without ARP are left alone."""
    near, far = hosts
    with sniffing(far, neighbour.ETH_P_ARP) as sock:
        for address in (BEHIND4, "127.0.0.1", NEAR4):
            neighbours.ask(Address.parse(address), way(routes, address))
        near.ip("link set near0 arp off")
        routes.refresh()
        assert not way(routes, FAR4).link.has_neighbours
        neighbours.ask(Address.parse(FAR4), way(routes, FAR4))
        assert frames(sock) == []


def test_a_failure_to_ask_is_no_error(
    hosts: tuple[Host, Host], routes: Routes, neighbours: Neighbours
) -> None:
    """Asking through an interface that is down or gone does nothing."""
    near, _ = hosts
    ways = {address: way(routes, address) for address in (FAR4, FAR6, FAR6_SCOPED)}
    for fault in ("link set near0 down", "link delete near0"):
        near.ip(fault)
        for address, route in ways.items():
            neighbours.ask(Address.parse(address), route)


def test_only_a_repairing_round_asks_and_only_for_the_primary(hosts: tuple[Host, Host]) -> None:
    """The probe asks neighbours in rounds that say so, for the addresses named at the start."""
    near, far = hosts
    near.ip(
        f"neigh add {FAR4} lladdr {FAR_MAC} dev near0 nud permanent",
        f"neigh add 198.51.100.3 lladdr {FAR_MAC} dev near0 nud permanent",
    )
    far.ip(f"neigh add {NEAR4} lladdr {NEAR_MAC} dev far0 nud permanent")
    probe = IcmpProbe([FAR4, "198.51.100.3"], clock=Clock(), repair=[FAR4])
    with contextlib.closing(probe), sniffing(far, neighbour.ETH_P_ARP) as sock:
        for address in (FAR4, "198.51.100.3"):
            assert not probe.send(address, Round(1, 1000.0, repair=False))
        assert frames(sock) == []
        round_ = Round(2, 1001.0, repair=True)
        for address in (FAR4, "198.51.100.3"):
            assert not probe.send(address, round_)
        (frame,) = frames(sock)
        assert frame[38:42] == socket.inet_aton(FAR4)


# Answers of neighbours, where they count.

MUTE = {"net__ipv4__icmp_echo_ignore_all": 1, "net__ipv6__icmp__echo_ignore_all": 1}
ANSWERS = {"net__ipv4__icmp_echo_ignore_all": 0, "net__ipv6__icmp__echo_ignore_all": 0}
on_link = pytest.mark.parametrize("address", [FAR4, FAR6, FAR6_SCOPED])
unclaimed = pytest.mark.parametrize("address", [DEAD4, DEAD6])


def arrived(probe: IcmpProbe, *, enough: int = 1, within_s: float = 2.0) -> list[Answer]:
    """What arrives until there are enough answers, or the time is over; without errors."""
    answers: list[Answer] = []
    end_s = time.monotonic() + within_s
    while len(answers) < enough and (left_s := end_s - time.monotonic()) > 0:
        select.select(probe.filenos(), [], [], left_s)
        answers += [answer for answer in probe.receive() if not answer.error]
    return answers


def arp_frame(
    sender: str,
    *,
    sender_mac: bytes = mac(FAR_MAC),
    operation: int = 2,
    target: str = NEAR4,
    target_mac: bytes = mac(NEAR_MAC),
    sent_to: bytes = mac(NEAR_MAC),
) -> bytes:
    """An ARP packet on the wire; by itself the reply to a question of the near host."""
    packed = socket.inet_aton(sender), socket.inet_aton(target)
    body = struct.pack(
        neighbour.ARP, 1, 0x0800, 6, 4, operation, sender_mac, packed[0], target_mac, packed[1]
    )
    return sent_to + sender_mac + b"\x08\x06" + body + bytes(18)


def advertisement_frame(
    target: str,
    *,
    flags: int = 0x60,
    code: int = 0,
    hop_limit: int = 255,
    sent_to: str = NEAR6,
    wrong_checksum: bool = False,
) -> bytes:
    """A neighbour advertisement on the wire; by itself the answer to the near host's question."""
    wanted, to = (socket.inet_pton(socket.AF_INET6, text) for text in (target, sent_to))
    body = struct.pack("!BBHB3x16sBB6s", 136, code, 0, flags, wanted, 2, 1, mac(FAR_MAC))
    summed = wanted + to + struct.pack("!II", len(body), 58) + body
    total = sum(struct.unpack(f"!{len(summed) // 2}H", summed))
    total = ~(total % 0xFFFF or 0xFFFF) & 0xFFFF ^ wrong_checksum
    header = struct.pack("!IHBB", 6 << 28, len(body), 58, hop_limit) + wanted + to
    body = body[:2] + struct.pack("!H", total) + body[4:]
    return mac(NEAR_MAC) + mac(FAR_MAC) + b"\x86\xdd" + header + body


@contextlib.contextmanager
def injecting(far: Host) -> Iterator[socket.socket]:
    """A socket at the far end that sends any frame."""
    with far.entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with contextlib.closing(sock):
            sock.bind((far.link, 0))
            yield sock


@on_link
@pytest.mark.parametrize("repair", [False, True])
def test_a_neighbour_without_echoes_is_heard_where_that_was_chosen(
    hosts: tuple[Host, Host], address: str, repair: bool
) -> None:
    """It drops ICMP and answers ARP or a solicitation: an answer of that round, or nothing."""
    hosts[1].sysctl(**MUTE)
    for chosen in ([address], []):
        probe = IcmpProbe([address], clock=Clock(), neighbours=chosen)
        with contextlib.closing(probe):
            for number in (1, 2):
                assert not probe.send(address, Round(number, 1000.0 + number, repair))
                expected = [Answer(address, number, 1000.0 + number)] if chosen else []
                assert arrived(probe, within_s=2.0 if chosen else 0.2) == expected


@on_link
def test_who_has_answered_an_echo_once_is_known_by_echoes_alone(
    hosts: tuple[Host, Host], address: str
) -> None:
    """A reference does not filter ICMP, then: its silence means something, and it is not asked."""
    probe = IcmpProbe([address], clock=Clock(), neighbours=[address])
    with contextlib.closing(probe):
        assert not probe.send(address, Round(1, 1000.0, repair=False))
        assert arrived(probe) == [Answer(address, 1, 1000.0)]
        hosts[1].sysctl(**MUTE)
        assert not probe.send(address, Round(2, 1001.0, repair=False))
        assert arrived(probe, within_s=0.3) == []


@on_link
def test_the_primary_may_fall_silent_and_is_heard_as_a_neighbour(
    hosts: tuple[Host, Host], address: str
) -> None:
    """Where that was chosen its answers count always, of a host that answers echoes, too."""
    probe = IcmpProbe([address], clock=Clock(), neighbours_always=[address])
    with contextlib.closing(probe):
        assert not probe.send(address, Round(1, 1000.0, repair=False))
        # If the neighbour was quicker than the echo, there are two.
        assert set(arrived(probe, enough=2, within_s=1.0)) == {Answer(address, 1, 1000.0)}
        hosts[1].sysctl(**MUTE)
        for number in (2, 3):
            assert not probe.send(address, Round(number, 1000.0 + number, repair=number == 3))
            assert arrived(probe) == [Answer(address, number, 1000.0 + number)]
        hosts[1].sysctl(**ANSWERS)


def test_nobody_behind_a_router_is_heard_as_a_neighbour(hosts: tuple[Host, Host]) -> None:
    """The router's answer would be about the router."""
    probe = IcmpProbe([BEHIND4], clock=Clock(), neighbours=[BEHIND4])
    with contextlib.closing(probe):
        assert not probe.send(BEHIND4, Round(1, 1000.0, repair=True))
        assert arrived(probe, within_s=0.3) == []
        assert not probe._asked


def genuine(address: str) -> bytes:
    return arp_frame(address) if address == DEAD4 else advertisement_frame(address)


def forged(address: str) -> dict[str, bytes]:
    """What is nearly an answer for an address that nobody has."""
    if address == DEAD4:
        return {
            "another host's": arp_frame(FAR4),
            "to another address of ours": arp_frame(address, target=DEAD4),
            "about another hardware address": arp_frame(address, target_mac=mac(FAR_MAC)),
            "a request": arp_frame(address, operation=1),
            "a broadcast": arp_frame(address, sent_to=b"\xff" * 6),
            "an announcement": arp_frame(
                address, target=address, target_mac=b"\xff" * 6, sent_to=b"\xff" * 6
            ),
            "from ourselves": arp_frame(address, sender_mac=mac(NEAR_MAC)),
            "from a group": arp_frame(address, sender_mac=b"\x01\x00\x5e\0\0\1"),
            "a stump": arp_frame(address)[:40],
        }
    return {
        "another host's": advertisement_frame(FAR6),
        "unsolicited": advertisement_frame(address, flags=0x20),
        "a proxy's": advertisement_frame(address, flags=0x40),
        "through a router": advertisement_frame(address, hop_limit=254),
        "with a code": advertisement_frame(address, code=1),
        "to another address of ours": advertisement_frame(address, sent_to=NEAR6_LINK),
        "to all": advertisement_frame(address, sent_to="ff02::1"),
        "corrupt": advertisement_frame(address, wrong_checksum=True),
        "a stump": advertisement_frame(address)[:70],
    }


@unclaimed
def test_only_the_answer_to_our_own_question_counts(hosts: tuple[Host, Host], address: str) -> None:
    """Announcements, proxies, other hosts and stumps are nothing; the answer counts once."""
    probe = IcmpProbe([address], clock=Clock(), neighbours=[address])
    with contextlib.closing(probe), injecting(hosts[1]) as sock:
        sock.send(genuine(address))  # before anything was asked
        assert arrived(probe, within_s=0.1) == []
        probe.send(address, Round(1, 1000.0, repair=False))
        for what, frame in forged(address).items():
            sock.send(frame)
            assert arrived(probe, within_s=0.05) == [], what
        sock.send(genuine(address))
        assert arrived(probe) == [Answer(address, 1, 1000.0)]
        sock.send(genuine(address))
        assert arrived(probe, within_s=0.1) == []


@unclaimed
def test_a_question_is_open_for_a_second(hosts: tuple[Host, Host], address: str) -> None:
    """A later answer is none; what comes in time is taken for that to the oldest question."""
    clock = Clock()
    probe = IcmpProbe([address], clock=clock, neighbours=[address])
    with contextlib.closing(probe), injecting(hosts[1]) as sock:
        probe.send(address, Round(1, 1000.0, repair=False))
        clock.now_s += 1.1
        sock.send(genuine(address))
        assert arrived(probe, within_s=0.1) == []
        for number in (2, 3):
            probe.send(address, Round(number, clock.now_s, repair=False))
            clock.now_s += 0.4
        sock.send(genuine(address))
        assert [answer.number for answer in arrived(probe)] == [2]
        sock.send(genuine(address))
        assert arrived(probe, within_s=0.1) == []
        assert not probe._asked


def test_another_links_answer_is_none(hosts: tuple[Host, Host]) -> None:
    """A reply through an interface that was not asked is somebody else's."""
    frame = arp_frame(DEAD4)[14:]
    heard = neighbour.arp_answered(frame, ("near0", 0x0806, socket.PACKET_HOST, 1, b""))
    other = neighbour.arp_answered(frame, ("other0", 0x0806, socket.PACKET_HOST, 1, b""))
    assert heard is not None
    assert other is not None
    assert heard != other
    for wrong in (
        ("near0", 0x0806, socket.PACKET_OTHERHOST, 1, b""),
        ("near0", 0x0806, socket.PACKET_HOST, 772, b""),
    ):
        assert neighbour.arp_answered(frame, wrong) is None


def test_no_neighbour_is_listened_to_unless_that_was_chosen(hosts: tuple[Host, Host]) -> None:
    """Without the choice there is no socket that any ARP reply could wake."""
    with contextlib.closing(IcmpProbe([FAR4, FAR6], clock=Clock(), repair=[FAR4, FAR6])) as probe:
        assert len(probe.filenos()) == 2
    with contextlib.closing(IcmpProbe([FAR4, FAR6], clock=Clock(), neighbours=[FAR4])) as probe:
        assert len(probe.filenos()) == 3
