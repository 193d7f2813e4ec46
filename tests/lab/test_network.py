"""Everything that can happen to the network between the hosts, and what the standby does then.

Numbers, unless a test says otherwise: a verdict after V = 1.5 s of silence, seen from the first
unanswered echo, so 1.5 to 2.5 s after a cut (`pair.QUICK`).
"""

import socket
import struct
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.lab.hosts import Lab, wait_until
from tests.lab.network import Namespace
from tests.lab.pair import APP, MONITOR, Pair, Standby, pair
from tests.lab.wire import Way

pytestmark = pytest.mark.timeout(120)

MakePair = Callable[..., Pair]

INTERVAL_S, CHECK_S, VERDICT_S, SPACING_S = 1.0, 0.5, 1.5, 0.5 / 6  # T, R, V and g of pair.QUICK
SLACK_S = 1.0  # for a unit to start, on a machine that does other things as well

THERE_AND_BACK = [
    "unknown -> standby: the primary answers",
    "standby -> takeover: the primary stopped answering",
    "takeover -> active: all services run here",
    "active -> failback: the primary is back",
    "failback -> standby: all services are stopped here",
]


def told(standby: Standby, kind: str) -> list[str]:
    """The sentences of all events of one kind."""
    return [event["what"] for event in standby.events() if event["kind"] == kind]


def watched_throughout(standby: Standby) -> None:
    """The monitor is the process that it was, and met nothing that it did not expect."""
    assert standby.unit(MONITOR)["NRestarts"] == "0"
    assert "Traceback" not in standby.journal(MONITOR)
    assert "[ERROR]" not in standby.log()
    assert "[CRITICAL]" not in standby.log()


def nothing_was_done(standby: Standby, unit: str = APP) -> None:
    """No verdict against the primary, no start or stop asked, and the service never ran."""
    assert told(standby, "asked") == []
    assert [line for line in told(standby, "verdict") if "verdict down" in line] == []
    assert standby.active_since(unit) == 0
    assert not standby.running(unit)
    watched_throughout(standby)


def one_failover_and_back(standby: Standby, unit: str = APP) -> None:
    """One takeover, one failback, one start, one stop, in this order, and nothing else."""
    wait_until(lambda: told(standby, "transition") == THERE_AND_BACK, 5, "all transitions are told")
    assert told(standby, "asked") == [f"start {unit}", f"stop {unit}"]
    assert not standby.running(unit)
    watched_throughout(standby)


def stays(standby: Standby, word: str, seconds: float) -> None:
    """For so long the state word is this one and the service does not run."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert standby.state() == word
        assert not standby.running(APP)
        time.sleep(0.1)


def stays_active(standby: Standby, seconds: float) -> None:
    """For so long the primary is held for dead and the service runs, without a restart."""
    begun = standby.active_since(APP)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert standby.state() == "active_dead"
        assert standby.running(APP)
        time.sleep(0.1)
    assert standby.active_since(APP) == begun


def test_a_crashed_primary_is_stood_in_for_until_it_returns(lab: Lab) -> None:
    """The primary loses power: a takeover within T + V; it boots again: the service goes back."""
    primary = lab.systemd("primary", 2)
    standby = pair(lab, primary=primary).standby
    stamp = primary.crash()
    standby.wait_for_state("active_dead", 10)
    standby.wait_for(APP, "active", 10)
    took = standby.active_since(APP) - stamp
    assert VERDICT_S - SPACING_S < took < INTERVAL_S + VERDICT_S + SLACK_S
    assert "verdict down: 3 checks in a row failed" in standby.log()
    stays_active(standby, 3)
    stamp = primary.start()
    standby.wait_for(APP, "inactive", 20)
    assert standby.inactive_since(APP) - stamp < 1.1 + SLACK_S
    standby.wait_for_state("active_alive", 5)
    one_failover_and_back(standby)


def test_a_primary_whose_port_is_cut_is_stood_in_for_until_it_heals(make_pair: MakePair) -> None:
    """The primary's switch port dies and comes back: over and back, each in the promised time."""
    hosts = make_pair()
    assert VERDICT_S - SPACING_S < hosts.takeover() < INTERVAL_S + VERDICT_S + SLACK_S
    assert hosts.standby.state() == "active_dead"
    stays_active(hosts.standby, 2)
    assert hosts.failback() < 1.1 + SLACK_S
    hosts.standby.wait_for_state("active_alive", 5)
    one_failover_and_back(hosts.standby)


def test_a_reboot_of_the_primary_is_bridged_only_when_it_lasts(lab: Lab) -> None:
    """A reboot shorter than V - g changes nothing; one of four seconds is a takeover and back."""
    primary = lab.systemd("primary", 2)
    standby = pair(lab, primary=primary).standby
    boot = primary.boot_id()
    primary.reboot()
    assert primary.boot_id() != boot
    stays(standby, "active_alive", 3)
    nothing_was_done(standby)
    primary.poweroff()
    standby.wait_for(APP, "active", 10)
    stays_active(standby, 2)
    primary.start()
    standby.wait_for(APP, "inactive", 20)
    standby.wait_for_state("active_alive", 5)
    one_failover_and_back(standby)


def test_a_dead_gateway_alone_changes_nothing_and_is_said(make_pair: MakePair) -> None:
    """The gateway dies while the primary lives: nothing happens, and the log says what it means."""
    hosts = make_pair()
    hosts.gateway.cut()
    hosts.standby.wait_for_log("reference 198.51.100.1 is silent", 20)
    hosts.standby.wait_for_log("as it is no takeover can happen", 1)
    assert hosts.standby.state() == "active_alive"
    hosts.gateway.heal()
    hosts.standby.wait_for_log("reference back 198.51.100.1", 10)
    stays(hosts.standby, "active_alive", 2)
    nothing_was_done(hosts.standby)


def test_a_gateway_that_returns_alone_begins_a_full_run_of_checks(make_pair: MakePair) -> None:
    """Both were gone; what was seen meanwhile proves nothing: N new checks, each with an answer."""
    hosts = make_pair()
    hosts.gateway.cut()
    hosts.primary.cut()
    hosts.standby.wait_for_state("unknown", 10)
    stays(hosts.standby, "unknown", 5)
    hosts.standby.wait_for_log("held: the primary has been silent", 5)
    nothing_was_done(hosts.standby)
    stamp = hosts.gateway.heal()
    hosts.standby.wait_for(APP, "active", 10)
    took = hosts.standby.active_since(APP) - stamp
    # The check in which the gateway returned counts, since an echo sent in it was answered.  A
    # kernel that asked for the gateway in vain asks again only after a second: that is T here.
    assert VERDICT_S - CHECK_S < took < VERDICT_S + CHECK_S + INTERVAL_S + SLACK_S
    hosts.standby.wait_for_state("active_dead", 1)
    hosts.failback()
    assert told(hosts.standby, "asked") == [f"start {APP}", f"stop {APP}"]
    watched_throughout(hosts.standby)


@pytest.mark.parametrize("way", ["carrier lost", "carrier kept"])
def test_own_isolation_never_causes_a_takeover(lab: Lab, way: str) -> None:
    """Our own path dies, with and without our noticing a lost carrier, again and again.

    Short outages, since what counts is how they end; the long ones are in test_network_slow.
    """
    standby = pair(lab, wired=way == "carrier kept").standby
    for seconds in (0.7, 1.4, 1.6, 2.3, 3.1, 4.4):
        if way == "carrier lost":
            standby.cut()
        else:
            standby.wire.dead()
        time.sleep(seconds)
        if way == "carrier lost":
            standby.heal()
        else:
            standby.wire.fine()
        time.sleep(0.9)
    standby.wait_for_state("active_alive", 5)
    stays(standby, "active_alive", 3)
    assert "standby -> unknown: no verdict on the primary any more" in standby.log()
    nothing_was_done(standby)


def test_a_blackout_of_three_seconds_changes_nothing_with_the_shipped_numbers(lab: Lab) -> None:
    """T = 3, R = 1.5: outages below V - g = 4.25 s pass, wherever in the interval they begin."""
    primary = lab.plain("primary", 2, wired=True)
    standby = pair(lab, primary=primary, ping_interval=3, retry_interval=1.5).standby
    for seconds in (3.0, 3.0, 3.9):  # begun 0.2, 2.6 and 2 s after a round: long and short silences
        primary.wire.dark(seconds)
        stays(standby, "active_alive", 5.4)
    assert "near miss: the primary answers after" in standby.log()
    nothing_was_done(standby)


def over_cable(lab: Lab) -> Pair:
    """A pair with a second path: a cable from host to host."""
    hosts = pair(lab, watch=False)
    cable = lab.cable("primary", "standby")
    hosts.standby.configure(active_ip=[hosts.primary.address, cable.addresses["primary"]])
    hosts.standby.watch()
    return hosts


def test_either_path_alone_keeps_the_primary_alive(lab: Lab) -> None:
    """Cable dark, LAN path dark, LAN path parted: nothing happens while one way is left."""
    hosts = over_cable(lab)
    standby = hosts.standby
    standby.cables[0].cut()
    stays(standby, "active_alive", 5)
    standby.cables[0].heal()
    time.sleep(1.5)
    hosts.primary.cut()
    stays(standby, "active_alive", 5)
    hosts.primary.heal()
    lab.part("primary", "standby")
    stays(standby, "active_alive", 5)
    nothing_was_done(standby)


def test_both_paths_dark_is_a_dead_primary(lab: Lab) -> None:
    """The primary loses power: no carrier on the cable, silence on the LAN: a takeover in T + V."""
    hosts = over_cable(lab)
    standby = hosts.standby
    stamp = hosts.primary.crash()
    standby.wait_for(APP, "active", 10)
    assert "NO-CARRIER" in standby.run("ip", "link", "show", "eth1").stdout
    took = standby.active_since(APP) - stamp
    assert VERDICT_S - SPACING_S < took < INTERVAL_S + VERDICT_S + SLACK_S
    hosts.primary.start()
    standby.wait_for(APP, "inactive", 10)
    standby.wait_for_state("active_alive", 5)
    one_failover_and_back(standby)


SLOW_BOTH_WAYS = """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
ExecStartPre=/usr/bin/sleep 0.4
ExecStart=/usr/bin/sleep infinity
ExecStop=/usr/bin/sleep 0.4
"""


FLAPS_S = [(1.0, 0.6), (3.2, 0.3), (1.2, 0.3), (2.9, 1.4), (1.1, 0.2), (3.6, 0.9), (4.1, 0.6)]


def test_a_flapping_primary_gets_a_full_run_of_checks_each_time(lab: Lab) -> None:
    """Every verdict has its own V of silence, one job at most is in flight, the end is right."""
    services = {"first.service": SLOW_BOTH_WAYS, "second.service": SLOW_BOTH_WAYS}
    hosts = pair(lab, services=services)
    standby = hosts.standby
    ended = threading.Event()
    crowds: list[str] = []

    def look_for_crowds() -> None:
        while not ended.wait(0.1):
            jobs = standby.systemctl("list-jobs", "--no-legend")
            if len([line for line in jobs.splitlines() if ".service" in line]) > 1:
                crowds.append(jobs)

    looker = threading.Thread(target=look_for_crowds)
    looker.start()
    cuts: list[tuple[datetime, datetime]] = []
    try:
        for dark_s, light_s in FLAPS_S:
            hosts.primary.cut()
            begun = datetime.now(UTC)
            time.sleep(dark_s)
            cuts.append((begun, datetime.now(UTC)))
            hosts.primary.heal()
            time.sleep(light_s)
        for unit in services:
            standby.wait_for(unit, "inactive", 10)
        standby.wait_for_state("active_alive", 5)
        time.sleep(1)
    finally:
        ended.set()
        looker.join()
    assert crowds == []
    verdicts = [at(event) for event in standby.events() if event["what"].startswith("verdict down")]
    # Four outages are longer than T + V; the light after the first of them may pass unseen.
    assert 3 <= len(verdicts) <= 4
    for moment in verdicts:
        inside = [begin for begin, end in cuts if begin <= moment <= end + timedelta(seconds=0.1)]
        assert len(inside) == 1, f"{moment} is in no outage of {cuts}"
        assert moment - inside[0] >= timedelta(seconds=VERDICT_S - SPACING_S - 0.05)
    assert standby.status()["phase"] == "standby"
    hosts.takeover("second.service")
    assert standby.running("first.service")
    watched_throughout(standby)


def at(event: dict[str, Any]) -> datetime:
    """When an event happened; lab and hosts share the wall clock, and hosts have no time zone."""
    return datetime.strptime(f"{event['at']}+0000", "%Y-%m-%d %H:%M:%S,%f%z")


def test_an_ipv6_pair_fails_over_and_back(lab: Lab) -> None:
    """Gateway and primary are IPv6 addresses: the same times, the same story."""
    hosts = pair(lab, watch=False)
    hosts.standby.configure(gateway_ip=hosts.gateway.address6, active_ip=hosts.primary.address6)
    hosts.standby.watch()
    assert VERDICT_S - SPACING_S < hosts.takeover() < INTERVAL_S + VERDICT_S + SLACK_S
    stays_active(hosts.standby, 2)
    assert hosts.failback() < 1.1 + SLACK_S
    one_failover_and_back(hosts.standby)


DEAF = "table inet deaf {{ chain c {{ type filter hook input priority 0;\n{rules}\n}}; }}\n"


def test_either_family_keeps_a_dual_stack_primary_alive(lab: Lab) -> None:
    """One silent family is nothing, both are a death; its ARP and ND replies are no sign of life.

    The primary's kernel drops echo requests and goes on answering for its hardware address.
    """
    hosts = pair(lab, watch=False)
    hosts.standby.configure(active_ip=[hosts.primary.address, hosts.primary.address6])
    hosts.standby.watch()
    only_4, only_6 = "icmp type echo-request drop;", "icmpv6 type echo-request drop;"
    for rules in (only_4, only_6):
        primary_drops(hosts, rules)
        stays(hosts.standby, "active_alive", 4)
    nothing_was_done(hosts.standby)
    primary_drops(hosts, only_4 + only_6)
    hosts.standby.wait_for(APP, "active", 10)
    neighbours = hosts.standby.run("ip", "neigh", "show", hosts.primary.address).stdout
    assert "lladdr" in neighbours
    primary_drops(hosts, "")
    hosts.standby.wait_for(APP, "inactive", 10)
    one_failover_and_back(hosts.standby)


def primary_drops(hosts: Pair, rules: str) -> None:
    """Replace the primary's packet filter."""
    script = "table inet deaf {};\ndelete table inet deaf;\n" + DEAF.format(rules=rules)
    hosts.primary.namespace.run("nft", "-f", "-", feed=script)


def test_a_primary_that_answers_late_is_alive(lab: Lab) -> None:
    """Every answer takes 1.2 s, with a ping_timeout of 1 s: suspicion all the time, no verdict."""
    primary = lab.plain("primary", 2, wired=True)
    standby = pair(lab, primary=primary, retry_interval=0.75, ping_timeout=1).standby
    primary.wire.be(Way(delay_s=0.6))
    stays(standby, "active_alive", 15)
    sluggish = [path["rtt_ms"] for path in standby.status()["primary"]]
    assert sluggish[0] > 1200
    nothing_was_done(standby)


def test_duplicates_and_reordering_change_nothing(lab: Lab) -> None:
    """Doubled and shuffled frames neither kill a living primary nor save a dead one."""
    primary = lab.plain("primary", 2, wired=True)
    hosts = pair(lab, primary=primary)
    way = Way(delay_s=0.02, jitter_s=0.3, duplicate_percent=50, reorder_percent=30)
    primary.wire.be(way)
    stays(hosts.standby, "active_alive", 8)
    nothing_was_done(hosts.standby)
    assert hosts.takeover() < INTERVAL_S + VERDICT_S + 0.64 + SLACK_S  # an answer may be on its way
    stays_active(hosts.standby, 2)
    hosts.failback()
    one_failover_and_back(hosts.standby)


class Forger:
    """A host that answers for the primary: it sees every request, and knows address, id and number.

    It answers with the right payload (which nobody could tell from the primary) or with another.
    """

    def __init__(self, lab: Lab, standby: Standby, primary: str) -> None:
        host = lab.plain("forger", 9)
        self.honest = True
        self.sent = 0
        self._tap = lab.switch.tap(standby.port.name)
        self._out = raw_socket(host.namespace)
        self._addresses = socket.inet_aton(standby.address), socket.inet_aton(primary)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._tap.close()
        self._out.close()

    def _answer(self) -> None:
        standby, primary = self._addresses
        self._tap.settimeout(0.1)
        while not self._ended.is_set():
            try:
                packet = self._tap.recv(2048)[14:]
            except TimeoutError:
                continue
            # An echo request of IPv4 without options, from the standby to the primary.
            if packet[:1] != b"\x45" or packet[9:10] != b"\x01" or packet[20:21] != b"\x08":
                continue
            if packet[12:20] != standby + primary:
                continue
            length = struct.unpack("!H", packet[2:4])[0]
            number, payload = packet[24:28], packet[28:length]
            if not self.honest:
                payload = payload[:-1] + bytes([payload[-1] ^ 1])
            echo = b"\0\0\0\0" + number + payload
            echo = echo[:2] + checksum(echo) + echo[4:]
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(echo), 0, 0, 64, 1, 0)
            self._out.sendto(header + primary + standby + echo, (socket.inet_ntoa(standby), 0))
            self.sent += 1


def raw_socket(namespace: Namespace) -> socket.socket:
    """A socket that sends whole IPv4 packets, under any address."""
    return namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def checksum(data: bytes) -> bytes:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def test_forged_answers_do_not_keep_a_dead_primary_alive(lab: Lab) -> None:
    """Right address, right id, right number, wrong nonce: not an answer, before and after.

    With the right nonce the very same packets pass: the forger's art is not what fails.
    """
    hosts = pair(lab)
    # Requests go on leaving the standby only while it knows a hardware address for the primary.
    known = hosts.standby.run("ip", "neigh", "show", hosts.primary.address, "dev", "eth0").stdout
    mac = known.split()[known.split().index("lladdr") + 1]
    hosts.standby.namespace.ip(
        f"neigh replace {hosts.primary.address} lladdr {mac} dev eth0 nud permanent"
    )
    forger = Forger(lab, hosts.standby, hosts.primary.address)
    try:
        hosts.primary.cut()
        stays(hosts.standby, "active_alive", 4)
        nothing_was_done(hosts.standby)
        honest, stamp = forger.sent, time.monotonic()
        assert honest >= 3
        forger.honest = False
        hosts.standby.wait_for(APP, "active", 10)
        assert hosts.standby.active_since(APP) - stamp < INTERVAL_S + VERDICT_S + SLACK_S
        assert forger.sent - honest > 5
        stays_active(hosts.standby, 3)
    finally:
        forger.close()
    hosts.failback()
    one_failover_and_back(hosts.standby)


def test_a_primary_that_boots_more_slowly_is_waited_for(lab: Lab) -> None:
    """Power returns to both hosts: within startup_grace a primary still silent is not yet dead."""
    hosts = pair(lab, watch=False, startup_grace=20)
    standby = hosts.standby
    standby.systemctl("enable", MONITOR)
    hosts.primary.cut()
    standby.reboot()
    standby.wait_for_state("unknown", 10)
    stays(standby, "unknown", standby.boot_began_s + 14 - time.monotonic())
    assert "startup grace for" in standby.log()
    hosts.primary.heal()
    standby.wait_for_state("active_alive", 5)
    stays(standby, "active_alive", standby.boot_began_s + 24 - time.monotonic())
    nothing_was_done(standby)


def test_a_primary_that_never_came_is_dead_when_the_grace_ends(lab: Lab) -> None:
    """Power returns to the standby alone: a takeover follows the grace, not sooner, not later."""
    grace_s = 9
    hosts = pair(lab, watch=False, startup_grace=grace_s)
    standby = hosts.standby
    standby.systemctl("enable", MONITOR, "pin.service")
    hosts.primary.cut()
    standby.reboot()
    standby.wait_for_state("unknown", 10)
    standby.wait_for(APP, "active", grace_s + 10)
    took = standby.active_since(APP) - standby.boot_began_s
    assert grace_s - 0.1 < took < grace_s + CHECK_S + 1 + SLACK_S  # a PID 1 starts within a second
    standby.wait_for_state("active_dead", 1)
    assert told(standby, "transition")[0] == "unknown -> takeover: the primary does not answer"
    assert told(standby, "asked") == [f"start {APP}"]
    watched_throughout(standby)


FAKED = """\
[Service]
Environment=LD_PRELOAD=libfaketime.so.1 LD_LIBRARY_PATH=/run/faketime
Environment=FAKETIME_TIMESTAMP_FILE=/run/faketime/now FAKETIME_CACHE_DURATION=1
Environment=FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_RESET=1
Environment=NO_FAKE_STAT=1
Restart=no
"""


def test_the_wall_clock_decides_nothing(lab: Lab) -> None:
    """An hour back, an hour forward, in calm and in mid-suspicion: only the log's times change."""
    checks = 8  # libfaketime looks at its file once in one or two seconds
    hosts = pair(lab, watch=False, ping_fail_threshold=checks)
    standby = hosts.standby
    standby.systemctl("start", "pin.service")
    library = standby.run("sh", "-c", "echo /usr/lib/*/faketime").stdout.strip()
    standby.run("sh", "-c", f"mkdir /run/faketime && cp {library}/libfaketime.so.1 /run/faketime/")
    drop_in = f"/etc/systemd/system/{MONITOR}.d/faketime.conf"

    def shift(by: str) -> None:
        standby.write("/run/faketime/new", by + "\n")
        standby.path("/run/faketime/new").rename(standby.path("/run/faketime/now"))

    shift("+0")
    standby.write(drop_in, FAKED)
    standby.systemctl("daemon-reload")
    # libfaketime makes some of Python's short sleeps fail with EINVAL; the monitor sleeps so only
    # while it waits for the reader of its configuration, and then says that it cannot be read.
    start = ("systemctl", "start", MONITOR)
    wait_until(lambda: not standby.run(*start, check=False).returncode, 60, "the monitor starts")
    standby.wait_for_state("active_alive", 10)
    for by in ("-1h", "+1h"):
        shift(by)
        stays(standby, "active_alive", 3)
    nothing_was_done(standby)
    stamp = hosts.primary.cut()
    time.sleep(0.3)
    shift("-1h")
    standby.wait_for(APP, "active", 20)
    took = standby.active_since(APP) - stamp
    # libfaketime makes every look at the clock slow on a machine that is busy.
    assert checks * CHECK_S - SPACING_S < took < INTERVAL_S + checks * CHECK_S + 5
    shift("+1h")
    stays_active(standby, 3)
    assert hosts.failback() < 1.1 + 5
    one_failover_and_back(standby)
    seen = {
        event["what"]: (at(event) - datetime.now(UTC)).total_seconds() for event in standby.events()
    }
    assert seen[THERE_AND_BACK[1]] == pytest.approx(-3600, abs=60)
    assert seen[THERE_AND_BACK[3]] == pytest.approx(3600, abs=60)


LAN_ROUTE = "198.51.100.0/24 dev eth0"
REFUSED = "table inet own {{ chain c {{ type filter hook output priority 0;\n{rule}\n}}; }}\n"


@pytest.mark.parametrize(
    ("undo", "redo"),
    [
        ("addr del 198.51.100.3/24 dev eth0", "addr add 198.51.100.3/24 dev eth0"),
        (f"route del {LAN_ROUTE}", f"route add {LAN_ROUTE} src 198.51.100.3"),
        ("link set eth0 down", "link set eth0 up"),
    ],
    ids=["address", "route", "interface"],
)
def test_a_standby_without_a_way_holds_still_and_resumes(
    make_pair: MakePair, undo: str, redo: str
) -> None:
    """Our address, route or interface is taken away and given back: doubt, and then as before."""
    hosts = make_pair()
    hosts.standby.namespace.ip(undo)
    doubted_then_resumes(hosts, lambda: hosts.standby.namespace.ip(redo))


@pytest.mark.parametrize(
    "rule",
    [
        "icmp type echo-request drop;",
        "icmp type echo-request reject;",
        "ip daddr 198.51.100.2 drop;",
        "ip daddr 198.51.100.1 drop;",
    ],
    ids=["dropped", "rejected", "primary only", "gateway only"],
)
def test_a_packet_filter_of_our_own_is_no_verdict(make_pair: MakePair, rule: str) -> None:
    """What our own kernel refuses to send (EPERM) says nothing about the primary."""
    hosts = make_pair()
    script = REFUSED.format(rule=rule)
    hosts.standby.namespace.run("nft", "-f", "-", feed=script)
    if "100.1" in rule:
        hosts.primary.cut()
    assert "cannot send to" in doubted_then_resumes(
        hosts, lambda: hosts.standby.namespace.run("nft", "delete", "table", "inet", "own")
    )


def doubted_then_resumes(hosts: Pair, mend: Callable[[], object]) -> str:
    """Unknown for as long as it lasts, nothing done; afterwards everything works; gives the log."""
    standby = hosts.standby
    standby.wait_for_state("unknown", 5)
    standby.wait_for_log("evidence dropped: cannot send to", 1)
    stays(standby, "unknown", 5)
    standby.wait_for_log("held: the primary has been silent", 2)
    nothing_was_done(standby)
    hosts.primary.heal()
    mend()
    standby.wait_for_state("active_alive", 5)
    stays(standby, "active_alive", 3)
    nothing_was_done(standby)
    assert hosts.takeover() < INTERVAL_S + VERDICT_S + SLACK_S
    watched_throughout(standby)
    return standby.log()
