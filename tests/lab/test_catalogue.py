"""The faults of the catalogue that no other lab test has, each with the outcome that it must have.

`catalogue.py` has the whole table.  Numbers, unless a test says otherwise, are those of
`pair.QUICK`: a verdict 1.5 to 2.5 s after a cut, a return seen within 1.1 s.
"""

import ast
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab import units
from tests.lab.catalogue import CATALOGUE
from tests.lab.hosts import Host, Lab, SystemdHost, wait_until
from tests.lab.pair import APP, MONITOR, Pair, Standby, pair
from tests.lab.test_files import FAST, fill
from tests.lab.test_network import (
    INTERVAL_S,
    REFUSED,
    SLACK_S,
    VERDICT_S,
    MakePair,
    doubted_then_resumes,
    nothing_was_done,
    one_failover_and_back,
    stays,
    stays_active,
    told,
    watched_throughout,
)
from tests.lab.test_units import asked, wait_for_phase
from tests.lab.wire import DEAD, FINE, Way

pytestmark = pytest.mark.timeout(120)

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
RETURN_S = 1.1  # from the primary's return to our stop, at most
NO_SPIN = 0.3  # of a core; a loop that waits for nothing takes all of it
LONG: dict[str, Any] = {"ping_fail_threshold": 5}  # V = 2.5 s
SHIPPED: dict[str, Any] = {
    "ping_interval": 3,
    "retry_interval": 1.5,
}  # V = 4.5 s


def serving_primary(lab: Lab, *, wired: bool = False) -> SystemdHost:
    """A primary that has the service itself, and starts it at boot."""
    files = {f"/etc/systemd/system/{APP}": units.ENABLED}
    primary = lab.systemd("primary", 2, files=files, wired=wired)
    primary.systemctl("enable", "--now", APP)
    return primary


def overlap_s(primary: SystemdHost, standby: Standby) -> float:
    """How long both hosts served after the primary's last start."""
    return standby.inactive_since(APP) - primary.active_since(APP)


def busy(standby: Standby, seconds: float) -> float:
    """The share of one core that the monitor takes."""

    def used_s() -> float:
        text = (standby.cgroup(MONITOR) / "cpu.stat").read_text()
        return int(text.split()[1]) / 1e6

    began_s, before_s = time.monotonic(), used_s()
    time.sleep(seconds)
    return (used_s() - before_s) / (time.monotonic() - began_s)


def resumes(hosts: Pair) -> None:
    """Nothing was done, and the pair does its work as on the first day."""
    hosts.standby.wait_for_state("active_alive", 10)
    stays(hosts.standby, "active_alive", 2)
    nothing_was_done(hosts.standby)
    assert hosts.takeover() < INTERVAL_S + VERDICT_S + SLACK_S
    watched_throughout(hosts.standby)


# The table.


def existing() -> set[str]:
    """Every test and every scenario, as the catalogue names them."""
    top = Path(__file__).parents[1]
    found = {f"scenarios/{path.name}" for path in (top / "scenarios").glob("*.txt")}
    for path in top.rglob("test_*.py"):
        tree = ast.parse(path.read_text())
        names = [node.name for node in tree.body if isinstance(node, FUNCTIONS)]
        tests = [name for name in names if name.startswith("test_")]
        found |= {f"{path.relative_to(top)}::{name}" for name in tests}
    return found


def test_every_proof_that_the_catalogue_names_exists() -> None:
    """A test that gets another name takes its row along."""
    named = {name for row in CATALOGUE for names in row.proof.values() for name in names}
    assert named - existing() == set()


def test_every_row_of_the_catalogue_has_a_proof_or_says_why_not() -> None:
    """Numbered without gaps; no part of a row is without a test and without a word."""
    assert [row.number for row in CATALOGUE] == list(range(1, len(CATALOGUE) + 1))
    assert [row.number for row in CATALOGUE if not row.proof and not row.without] == []
    assert [row.number for row in CATALOGUE if not all(row.proof.values())] == []


def test_every_test_of_this_file_stands_in_the_catalogue() -> None:
    """A fault that is played here is one of the table's."""
    named = {name for row in CATALOGUE for names in row.proof.values() for name in names}
    here = {name for name in existing() if name.startswith("lab/test_catalogue.py")}
    about_the_table = {name for name in here if "catalogue" in name.partition("::")[2]}
    assert here - about_the_table - named == set()


# The primary: reboots, services, pauses.


def test_a_reboot_is_bridged_when_it_lasts_longer_than_v(lab: Lab) -> None:
    """V = 3 s: 1.5 s without power change nothing, 5 and 9 s are a takeover and back.

    The primary starts its service by itself: both serve for no longer than we need to see it.
    """
    primary = serving_primary(lab)
    standby = pair(lab, primary=primary, ping_fail_threshold=6).standby
    for off_s in (1.5, 5, 9):
        stamp = primary.crash()
        time.sleep(max(0.0, stamp + off_s - time.monotonic()))
        took_over = standby.running(APP)
        assert took_over is (off_s > 4)
        primary.start()
        if not took_over:
            stays(standby, "active_alive", 4)
            nothing_was_done(standby)
            continue
        standby.wait_for(APP, "inactive", 10)
        primary.wait_for(APP, "active", 10)
        assert overlap_s(primary, standby) < RETURN_S + SLACK_S
        wait_for_phase(standby, "standby")
    assert asked(standby) == [f"start {APP}", f"stop {APP}"] * 2
    watched_throughout(standby)


def test_services_that_start_before_the_network_overlap_until_the_first_answer(lab: Lab) -> None:
    """The primary boots and serves while its link is still dead: we stop when it is heard.

    Without a guard on the primary nobody can do better; what is bounded is the time afterwards.
    """
    primary = serving_primary(lab, wired=True)
    standby = pair(lab, primary=primary).standby
    primary.crash()
    standby.wait_for(APP, "active", 10)
    primary.wire.dead()
    primary.start()
    primary.wait_for(APP, "active", 10)
    stays_active(standby, 2)
    stamp = primary.wire.fine()
    standby.wait_for(APP, "inactive", 10)
    assert standby.inactive_since(APP) - stamp < RETURN_S + SLACK_S
    one_failover_and_back(standby)


def test_a_living_host_with_dead_services_is_left_alone(lab: Lab) -> None:
    """Its service is killed, then every process stands still: its kernel answers, so it lives."""
    primary = serving_primary(lab)
    standby = pair(lab, primary=primary).standby
    primary.signal(APP, signal.SIGKILL)
    wait_until(lambda: not primary.running(APP), 5, "the service is dead")
    stays(standby, "active_alive", 4)
    primary.freeze()
    stays(standby, "active_alive", 4)
    primary.thaw()
    nothing_was_done(standby)


def test_a_paused_primary_is_stood_in_for_and_both_serve_until_it_is_seen(lab: Lab) -> None:
    """A virtual machine that stands still for less than V, then for 5 s.

    It wakes up serving: only a fence could prevent that both do, until we have seen and stopped.
    """
    primary = serving_primary(lab)
    standby = pair(lab, primary=primary, **LONG).standby
    served_s = primary.active_since(APP)
    for paused_s in (1.0, 5.0):
        stamp = primary.cut()
        primary.freeze()
        time.sleep(max(0.0, stamp + paused_s - time.monotonic()))
        assert standby.running(APP) is (paused_s > 4)
        primary.thaw()
        woke_s = primary.heal()
        if paused_s < 2:
            stays(standby, "active_alive", 4)
            nothing_was_done(standby)
    standby.wait_for(APP, "inactive", 10)
    assert primary.running(APP)
    assert primary.active_since(APP) == served_s
    assert standby.inactive_since(APP) - woke_s < RETURN_S + SLACK_S
    one_failover_and_back(standby)


def test_a_paused_standby_makes_no_verdict_of_what_it_missed(lab: Lab) -> None:
    """Our own machine stands still and hears nothing, in calm and in mid-suspicion.

    It wakes up to a primary that answers: nothing happens; to a dead one: from fresh checks.
    """
    hosts = pair(lab, **LONG)
    standby = hosts.standby
    pause(hosts, 4)  # the watchdog of ten seconds was last told up to five before
    stays(standby, "active_alive", 4)
    hosts.primary.cut()
    time.sleep(1.5)
    pause(hosts, 4, meanwhile=hosts.primary.heal)
    stays(standby, "active_alive", 4)
    nothing_was_done(standby)
    assert len([line for line in told(standby, "doubt") if "late" in line]) == 2
    hosts.primary.cut()
    time.sleep(1.5)
    stamp = pause(hosts, 4)
    standby.wait_for(APP, "active", 10)
    assert LONG["ping_fail_threshold"] * 0.5 - 0.1 < standby.active_since(APP) - stamp
    watched_throughout(standby)


def pause(hosts: Pair, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> float:
    """Let the standby's machine stand still, deaf as well; the moment it went on."""
    hosts.standby.cut()
    hosts.standby.freeze()
    meanwhile()
    time.sleep(seconds)
    hosts.standby.heal()
    stamp = time.monotonic()
    hosts.standby.thaw()
    return stamp


# Paths that break in part.


def test_a_broken_path_to_a_living_primary_is_two_active_until_it_mends(lab: Lab) -> None:
    """All its links, only our path, only one way of it: it lives unseen, and we take over.

    What pings alone can not tell from a crash is documented; the end of it is bounded.
    """
    primary = serving_primary(lab, wired=True)
    standby = pair(lab, primary=primary).standby
    between = Way(dropped_pairs=((primary.address, standby.address),))
    faults: list[tuple[Callable[[], float], Callable[[], float]]] = [
        (primary.cut, primary.heal),
        (lambda: lab.part("primary", "standby"), lambda: lab.join("primary", "standby")),
        (lambda: primary.wire.be(towards=between, away=FINE), primary.wire.fine),
        (lambda: primary.wire.be(towards=FINE, away=between), primary.wire.fine),
    ]
    for begin, end in faults:
        stamp = begin()
        standby.wait_for(APP, "active", 10)
        assert standby.active_since(APP) - stamp < INTERVAL_S + VERDICT_S + SLACK_S
        assert primary.running(APP)
        stamp = end()
        standby.wait_for(APP, "inactive", 10)
        assert standby.inactive_since(APP) - stamp < RETURN_S + SLACK_S
        wait_for_phase(standby, "standby")
    assert primary.unit(APP)["NRestarts"] == "0"
    assert asked(standby) == [f"start {APP}", f"stop {APP}"] * len(faults)
    watched_throughout(standby)


@pytest.mark.parametrize("way", ["towards", "away"])
def test_one_way_of_our_own_link_lost_is_isolation(lab: Lab, way: str) -> None:
    """We hear nobody, or nobody hears us: no reference answers, so nothing is known."""
    hosts = pair(lab, wired=True)
    hosts.standby.wire.be(**{way: DEAD})
    hosts.standby.wait_for_state("unknown", 5)
    stays(hosts.standby, "unknown", 4)
    hosts.standby.wire.fine()
    resumes(hosts)


def test_short_blackouts_again_and_again_change_nothing(lab: Lab) -> None:
    """0.3 s of every second, then 1.2 s of every 2.3 s: each is shorter than V - g."""
    primary = lab.plain("primary", 2, wired=True)
    standby = pair(lab, primary=primary).standby
    for every_s, for_s in ((1.0, 0.3), (2.3, 1.2)):
        primary.wire.be(Way(dark_every_s=every_s, dark_for_s=for_s))
        stays(standby, "active_alive", 7)
        primary.wire.fine()
        stays(standby, "active_alive", 1.5)
    nothing_was_done(standby)


def test_a_round_trip_shorter_than_v_is_no_verdict(lab: Lab) -> None:
    """0.5, 1.2, 2 and 3 s with the shipped numbers (V = 4.5 s): sluggish is not dead."""
    primary = lab.plain("primary", 2, wired=True)
    standby = pair(lab, primary=primary, **SHIPPED).standby
    for rtt_s in (0.5, 1.2, 2.0, 3.0):
        primary.wire.be(Way(delay_s=rtt_s / 2))
        assert not standby.hears(primary.address, within=rtt_s - 0.2)
        stays(standby, "active_alive", 7)
    nothing_was_done(standby)


# Hardware addresses.


def test_a_new_hardware_address_is_learned_before_the_verdict(make_pair: MakePair) -> None:
    """The primary gets another network card, and neighbour entries on either side go stale."""
    hosts = make_pair()
    standby, primary = hosts.standby, hosts.primary
    wrong = "lladdr 02:00:00:00:00:66 dev eth0"
    faults: list[Callable[[], None]] = [
        lambda: primary.namespace.ip("link set eth0 address 02:00:00:00:00:22"),
        lambda: standby.namespace.ip(f"neigh replace {primary.address} {wrong} nud reachable"),
        lambda: standby.namespace.ip(f"neigh replace {primary.address} {wrong} nud stale"),
        lambda: primary.namespace.ip(f"neigh replace {standby.address} {wrong} nud reachable"),
    ]
    for begin in faults:
        begin()
        stays(standby, "active_alive", 3.5)
    nothing_was_done(standby)
    resumes(hosts)


def test_another_host_with_the_primarys_address_is_the_primary_to_us(lab: Lab) -> None:
    """A duplicate address: no verdict while either answers, and none of it is noticed.

    An echo reply does not say from which host it is; the operator has to find that out otherwise.
    """
    hosts = pair(lab)
    twin = lab.plain("twin", 9)
    twin.namespace.ip(f"addr add {hosts.primary.address}/24 dev eth0")
    stays(hosts.standby, "active_alive", 3)
    hosts.primary.cut()
    stays(hosts.standby, "active_alive", 4)
    nothing_was_done(hosts.standby)
    stamp = twin.cut()
    hosts.standby.wait_for(APP, "active", 10)
    assert hosts.standby.active_since(APP) - stamp < INTERVAL_S + VERDICT_S + SLACK_S
    hosts.failback()
    one_failover_and_back(hosts.standby)


# Our own network.


OWN = "198.51.100.3/24"


@pytest.mark.parametrize(
    "changes",
    [
        ["link set eth0 down", "link set eth0 name lan0", "link set lan0 up"],
        [f"addr change {OWN} dev eth0 valid_lft 60 preferred_lft 60"],
        [f"addr del {OWN} dev eth0", "addr add 198.51.100.33/24 dev eth0"],
    ],
    ids=["interface renamed", "lease renewed", "another address"],
)
def test_a_network_that_changes_under_us_is_followed(
    make_pair: MakePair, changes: list[str]
) -> None:
    """Another name, another life time, another address: no takeover then, and later one in time."""
    hosts = make_pair()
    for change in changes:
        hosts.standby.namespace.ip(change)
        time.sleep(0.3)
    resumes(hosts)


def test_a_flapping_carrier_of_our_own_is_no_verdict(make_pair: MakePair) -> None:
    """Twenty times without and with carrier, in every rhythm between 0.1 and 0.5 s."""
    hosts = make_pair()
    for turn in range(20):
        hosts.standby.cut()
        time.sleep(0.1 + turn % 5 / 10)
        hosts.standby.heal()
        time.sleep(0.5 - turn % 5 / 10 + 0.1)
    resumes(hosts)


def test_whatever_the_kernel_says_when_it_refuses_to_send_is_doubt(make_pair: MakePair) -> None:
    """EHOSTUNREACH, EACCES, EINVAL and ENETUNREACH, from routes to the primary alone."""
    hosts = make_pair()
    standby = hosts.standby
    for kind in ("unreachable", "prohibit", "blackhole", "throw"):
        standby.namespace.ip(f"route add {kind} {hosts.primary.address}/32")
        standby.wait_for_state("unknown", 5)
        assert busy(standby, 3) < NO_SPIN
        assert standby.state() == "unknown"
        standby.namespace.ip(f"route del {kind} {hosts.primary.address}/32")
        standby.wait_for_state("active_alive", 5)
    assert len([line for line in told(standby, "doubt") if "cannot send to" in line]) == 4
    resumes(hosts)


def test_a_queue_of_our_own_that_swallows_everything_is_isolation(make_pair: MakePair) -> None:
    """The kernel says that it has sent, and drops: no reference answers either."""
    hosts = make_pair()
    tc = ("tc", "-n", hosts.standby.namespace.name, "qdisc")
    hosts.standby.namespace.run(*tc, "add", "dev", "eth0", "root", "pfifo", "limit", "0")
    hosts.standby.wait_for_state("unknown", 5)
    stays(hosts.standby, "unknown", 4)
    hosts.standby.namespace.run(*tc, "del", "dev", "eth0", "root")
    resumes(hosts)


def test_without_a_free_descriptor_it_still_takes_over_and_gives_back(
    make_pair: MakePair,
) -> None:
    """EMFILE for whatever it opens: said, lived with, and over when there are descriptors again."""
    hosts = make_pair()
    standby = hosts.standby
    pid = standby.pid_of(MONITOR)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    assert hosts.takeover() < INTERVAL_S + VERDICT_S + SLACK_S
    standby.signal(MONITOR, signal.SIGHUP)
    assert busy(standby, 12) < NO_SPIN  # longer than WatchdogSec=
    assert hosts.failback() < RETURN_S + SLACK_S
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    standby.wait_for_log("Too many open files", 5)
    standby.wait_for_state("active_alive", 5)
    assert standby.pid_of(MONITOR) == pid
    assert hosts.takeover() < INTERVAL_S + VERDICT_S + SLACK_S


# Configuration, files.


def test_reloads_during_a_suspicion_delay_no_verdict(make_pair: MakePair) -> None:
    """SIGHUP again and again between the cut and the verdict: the evidence stays."""
    hosts = make_pair(**LONG)
    standby = hosts.standby
    stamp = hosts.primary.cut()
    time.sleep(0.8)
    while not standby.running(APP):
        standby.signal(MONITOR, signal.SIGHUP)
        time.sleep(0.2)
        assert time.monotonic() - stamp < 10
    standby.wait_for(APP, "active", 5)
    assert standby.active_since(APP) - stamp < INTERVAL_S + 2.5 + SLACK_S
    wait_until(lambda: len(told(standby, "config")) >= 3, 10, "it was reloaded")
    stays_active(standby, 2)
    watched_throughout(standby)


def test_a_full_run_directory_delays_no_takeover(make_pair: MakePair) -> None:
    """No room for status and intent: the usual times, said; and both are written again."""
    hosts = make_pair(watch=False)
    place = "/run/failover-monitor"
    standby = hosts.standby
    standby.up()
    standby.run("mkdir", "-p", place)
    standby.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "tmpfs", place)
    standby.watch()
    fill(standby, f"{place}/ballast")
    assert hosts.takeover() < INTERVAL_S + VERDICT_S + SLACK_S
    assert hosts.failback() < RETURN_S + SLACK_S
    standby.wait_for_log(f"cannot write {place}/status.json: No space left", 5)
    standby.wait_for_log(f"cannot write {place}/intent.json: No space left", 5)
    standby.wait_for_state("active_alive", 5)
    standby.run("rm", f"{place}/ballast")
    assert hosts.takeover() < INTERVAL_S + VERDICT_S + SLACK_S
    wait_for_phase(standby, "active")


# Timing.


def slow(start_s: float, stop_s: float) -> str:
    """A service that takes its time for both."""
    return f"""\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
ExecStartPre=/usr/bin/sleep {start_s}
ExecStart=/usr/bin/sleep infinity
ExecStop=/usr/bin/sleep {stop_s}
"""


def alternate(standby: Standby) -> bool:
    """Whether starts and stops were asked in turn: none twice, none while another is in flight."""
    sentences = asked(standby)
    turns = [f"start {APP}", f"stop {APP}"] * len(sentences)
    return sentences == turns[: len(sentences)]


def test_a_return_at_any_moment_of_a_start_ends_with_the_service_stopped(
    make_pair: MakePair,
) -> None:
    """The primary is back 0, 20, ... 300 ms after our start began, which takes 150 ms."""
    hosts = make_pair(services={APP: slow(0.15, 0.05)}, **FAST)
    standby = hosts.standby
    for step in range(16):
        hosts.primary.cut()
        wait_until(lambda: standby.running(APP), 5, "the start has begun")
        time.sleep(step * 0.02)
        hosts.primary.heal()
        wait_until(lambda: not standby.running(APP), 5, "the service is gone")
        wait_for_phase(standby, "standby")
        assert standby.state() == "active_alive"
        time.sleep(0.2)
        assert not standby.running(APP)
    assert alternate(standby)
    assert len(asked(standby)) == 32
    watched_throughout(standby)


def test_a_death_at_any_moment_of_a_stop_ends_with_the_service_running(
    make_pair: MakePair,
) -> None:
    """The primary dies again 0, 30, ... 330 ms after our stop began, which takes 600 ms."""
    hosts = make_pair(services={APP: slow(0.05, 0.6)}, **FAST)
    standby = hosts.standby
    for step in range(12):
        hosts.takeover()
        wait_for_phase(standby, "active")
        hosts.primary.heal()
        standby.wait_for_state("active_alive", 5)
        time.sleep(step * 0.03)
        hosts.primary.cut()
        standby.wait_for_state("active_dead", 5)
        wait_for_phase(standby, "active")
        standby.wait_for(APP, "active", 5)
        time.sleep(0.2)
        assert standby.running(APP)
        hosts.failback()
        wait_for_phase(standby, "standby")
    assert alternate(standby)
    assert standby.unit(MONITOR)["NRestarts"] == "0"


# IPv6.


@pytest.fixture
def six(lab: Lab) -> Pair:
    """A pair whose gateway and primary are known by their IPv6 addresses alone."""
    hosts = pair(lab, watch=False)
    hosts.standby.configure(gateway_ip=hosts.gateway.address6, active_ip=hosts.primary.address6)
    hosts.standby.watch()
    return hosts


def link_local(host: Host) -> str:
    """A host's address on its link, with our name for that link."""
    words = ("ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link")
    shown = host.namespace.run(*words).split()
    return f"{shown[shown.index('inet6') + 1].partition('/')[0]}%eth0"


def test_a_link_local_pair_fails_over_and_back(lab: Lab) -> None:
    """Addresses with a scope, as IPv6 has them without any router: the same times and story."""
    hosts = pair(lab, watch=False)
    hosts.standby.configure(
        gateway_ip=link_local(hosts.gateway), active_ip=link_local(hosts.primary)
    )
    hosts.standby.watch()
    assert VERDICT_S - 0.1 < hosts.takeover() < INTERVAL_S + VERDICT_S + SLACK_S
    stays_active(hosts.standby, 2)
    assert hosts.failback() < RETURN_S + SLACK_S
    one_failover_and_back(hosts.standby)


def test_an_address_whose_lifetime_runs_out_is_doubt(six: Pair) -> None:
    """Router advertisements stay away until our address is gone; then they are back."""
    own = f"{six.standby.address6}/64 dev eth0"
    six.standby.namespace.ip(f"addr change {own} valid_lft 2 preferred_lft 1")
    six.standby.wait_for_state("unknown", 10)
    stays(six.standby, "unknown", 3)
    six.standby.namespace.ip(f"addr add {own} nodad")
    resumes(six)


@pytest.mark.parametrize("duplicate", [False, True], ids=["unique", "duplicate"])
def test_duplicate_address_detection_is_waited_for(lab: Lab, six: Pair, duplicate: bool) -> None:
    """Our address is not usable for a second, or for as long as another host has it, too."""
    standby = six.standby
    own = f"{standby.address6}/64 dev eth0"
    twin = lab.plain("twin", 9)
    if duplicate:
        twin.namespace.ip(f"addr add {own} nodad")
    standby.namespace.sysctl({"ipv6/conf/eth0/accept_dad": "1"})
    standby.namespace.ip(f"addr del {own}")
    standby.namespace.ip(f"addr add {own}")
    time.sleep(4)
    shown = standby.namespace.run("ip", "-6", "addr", "show", "dev", "eth0")
    assert ("dadfailed" in shown) is duplicate
    nothing_was_done(standby)
    if duplicate:
        twin.cut()
        standby.namespace.ip(f"addr del {own}")
        standby.namespace.ip(f"addr add {own} nodad")
        for host in (six.gateway, six.primary):  # they may have learned the other one's hardware
            host.namespace.ip("neigh flush dev eth0")
    resumes(six)


@pytest.mark.parametrize("rule", ["icmpv6 type echo-request drop;", "ip6 daddr {primary} drop;"])
def test_a_filter_of_our_own_against_icmpv6_is_no_verdict(six: Pair, rule: str) -> None:
    """What our own kernel refuses to send says nothing about the primary."""
    script = REFUSED.format(rule=rule.format(primary=six.primary.address6))
    six.standby.namespace.run("nft", "-f", "-", feed=script)
    doubted_then_resumes(
        six, lambda: six.standby.namespace.run("nft", "delete", "table", "inet", "own")
    )


def test_filtered_neighbour_discovery_of_our_own_is_isolation(six: Pair) -> None:
    """We may neither ask for an address nor tell ours: the gateway is as silent as the primary."""
    rule = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } drop;"
    six.standby.namespace.run("nft", "-f", "-", feed=REFUSED.format(rule=rule))
    for host in (six.standby, six.gateway, six.primary):
        host.namespace.ip("neigh flush dev eth0")
    six.standby.wait_for_state("unknown", 10)
    stays(six.standby, "unknown", 4)
    six.standby.namespace.run("nft", "delete", "table", "inet", "own")
    resumes(six)


# Two standbys.


def test_two_standbys_for_one_primary_both_take_over(lab: Lab) -> None:
    """Neither hears of the other: without a lease one primary has one standby, or both serve."""
    hosts = pair(lab, watch=False)
    standbys = [hosts.standby, lab.add(Standby(lab, "second", 4))]
    for standby in standbys:
        standby.watch()
    hosts.primary.cut()
    for standby in standbys:
        standby.wait_for(APP, "active", 10)
        wait_for_phase(standby, "active")
        assert standby.status()["attention"] == []
    hosts.primary.heal()
    for standby in standbys:
        standby.wait_for(APP, "inactive", 10)
        one_failover_and_back(standby)
