"""The guard on the primary, on two real hosts: at no moment do both serve.

The samples are of the kernel's cgroups, a hundred a second, on both hosts.
"""

import os
import signal
import time
from typing import Any

import pytest

from tests.lab import units
from tests.lab.hosts import Lab, wait_until
from tests.lab.overlap import Overlap
from tests.lab.pair import APP, GUARD, MONITOR, Guarded, Pair, pair
from tests.lab.wire import Way

pytestmark = pytest.mark.timeout(200)

DEADLINE_S, LIMIT_S, SLACK_S = 2.0, 3.0, 2.0
GONE_S = DEADLINE_S + LIMIT_S + SLACK_S  # after a cut nothing runs on the primary
TAKEN_S = 15.0  # a takeover on a busy machine: earliest 7.2 s after the cut
RUNS = "/etc/hook.runs"
PERMIT, ARMED = "/run/failover-monitor/permit", "/run/failover-monitor/armed"

# Runs on after its main process has been stopped, outside systemd's sight.
LEAVES_PROCESSES = """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
KillMode=process
ExecStart=/bin/sh -c 'setsid sleep infinity & exec sleep infinity'
"""
NEVER_STOPS = """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
TimeoutStopSec=infinity
ExecStart=/bin/sh -c 'trap "" TERM; while :; do sleep 1; done'
"""


def guarded(
    lab: Lab, *, unit: str = units.APP, enabled: bool = False, deadline: float = 2, **keys: Any
) -> Pair:
    """Both sides of a pair with the guard on the primary, which serves; the standby watches."""
    guard = {**GUARD, "deadline": deadline}
    lab.plain("gateway", 1)
    text = unit + (units.ENABLED.removeprefix(units.APP) if enabled else "")
    primary = lab.add(Guarded(lab, "primary", 2, services={APP: text}, keys={"guard": guard}))
    made = pair(lab, primary=primary, watch=False, guard=guard, **keys)
    if enabled:
        primary.systemctl("enable", APP)
    primary.serves()
    made.standby.watch()
    return made


def test_a_primary_that_is_cut_off_stops_before_the_standby_starts(lab: Lab) -> None:
    """Isolation: stop, takeover, return, failback, and nobody overlaps."""
    p = guarded(lab)
    primary, standby = p.primary, p.standby
    assert isinstance(primary, Guarded)
    with Overlap(APP, (primary, standby)) as seen:
        stamp = primary.cut()
        primary.wait_for(APP, "inactive", 15)
        assert DEADLINE_S - 0.6 <= primary.inactive_since(APP) - stamp <= GONE_S
        assert not primary.exists(PERMIT)
        standby.wait_for(APP, "active", TAKEN_S)
        primary.heal()
        standby.wait_for(APP, "inactive", 10)
        primary.wait_for(APP, "active", 15)
    assert seen.seconds == 0, seen.told()
    assert "serving -> closing: this host may serve no longer" in primary.log()
    assert "gated -> opening: this host may serve" in primary.log()


def test_a_cut_shorter_than_the_deadline_changes_nothing(lab: Lab) -> None:
    """The guard rides through it, and so does the standby."""
    p = guarded(lab)
    with Overlap(APP, (p.primary, p.standby)) as seen:  # type: ignore[arg-type]
        p.primary.cut()
        time.sleep(DEADLINE_S / 2)
        p.primary.heal()
        time.sleep(3)
    assert seen.idle_s == 0, seen.told()
    assert seen.seconds == 0, seen.told()


def test_a_primary_that_crashes_is_taken_over_and_waits_when_it_returns(lab: Lab) -> None:
    """Its service is enabled at boot; the gate holds it until the standby has stopped."""
    p = guarded(lab, enabled=True)
    primary, standby = p.primary, p.standby
    assert isinstance(primary, Guarded)
    primary.crash()
    standby.wait_for(APP, "active", TAKEN_S)
    with Overlap(APP, (primary, standby)) as seen:
        primary.start()
        standby.wait_for(APP, "inactive", 20)
        primary.wait_for(APP, "active", 20)
    assert seen.seconds == 0, seen.told()


@pytest.mark.parametrize("before_s", [0.1, 1.0])
def test_a_guard_that_is_killed_goes_on_with_its_deadline(lab: Lab, before_s: float) -> None:
    """SIGKILL shortly before the deadline: the next process knows when it must stop."""
    p = guarded(lab)
    primary, standby = p.primary, p.standby
    assert isinstance(primary, Guarded)
    with Overlap(APP, (primary, standby)) as seen:
        stamp = primary.cut()
        time.sleep(DEADLINE_S - before_s)
        primary.signal(MONITOR)
        wait_until(lambda: not primary.running(APP), 15, "nothing runs on the primary")
        assert time.monotonic() - stamp <= GONE_S + 0.1
        standby.wait_for(APP, "active", TAKEN_S)
    assert seen.seconds == 0, seen.told()


def test_a_guard_that_hangs_while_cut_off_resets_its_host(lab: Lab) -> None:
    """SIGSTOP: nobody pets the watchdog, PID 1 reboots; the standby serves alone."""
    p = guarded(lab)
    primary, standby = p.primary, p.standby
    assert isinstance(primary, Guarded)
    with Overlap(APP, (primary, standby)) as seen:
        stamp = primary.cut()
        primary.signal(MONITOR, signal.SIGSTOP)
        reset = primary.wait_for_boot(15)
        assert reset - stamp <= GONE_S
        standby.wait_for(APP, "inactive", 30)
        primary.wait_for(APP, "active", 30)
    assert seen.seconds == 0, seen.told()


@pytest.mark.parametrize("unit", [NEVER_STOPS, LEAVES_PROCESSES], ids=["ignores", "leaves"])
def test_what_does_not_stop_is_killed_in_time(lab: Lab, unit: str) -> None:
    """A service that ignores SIGTERM, or leaves processes behind, is gone before the limit."""
    p = guarded(lab, unit=unit)
    primary, standby = p.primary, p.standby
    assert isinstance(primary, Guarded)
    with Overlap(APP, (primary, standby)) as seen:
        stamp = primary.cut()
        wait_until(lambda: not primary.running(APP), 15, "nothing runs on the primary")
        assert time.monotonic() - stamp <= GONE_S
        standby.wait_for(APP, "active", TAKEN_S)
    assert seen.seconds == 0, seen.told()
    assert "kill app.service: it has not stopped in time" in primary.log()


def test_a_frozen_systemd_does_not_keep_the_services_alive(lab: Lab) -> None:
    """PID 1 of the primary stands still: the guard kills through the cgroup by itself."""
    p = guarded(lab)
    primary, standby = p.primary, p.standby
    assert isinstance(primary, Guarded)
    with Overlap(APP, (primary, standby)) as seen:
        os.kill(primary.init, signal.SIGSTOP)
        stamp = primary.cut()
        wait_until(lambda: not primary.running(APP), 15, "nothing runs on the primary")
        assert time.monotonic() - stamp <= GONE_S
        standby.wait_for(APP, "active", TAKEN_S)
        os.kill(primary.init, signal.SIGCONT)
    assert seen.seconds == 0, seen.told()


def test_nothing_starts_while_the_gate_is_closed(lab: Lab) -> None:
    """Neither an operator nor the boot can start a service of a primary that is cut off."""
    p = guarded(lab)
    primary = p.primary
    assert isinstance(primary, Guarded)
    primary.cut()
    primary.wait_for(APP, "inactive", 15)
    primary.systemctl("start", APP)
    time.sleep(0.5)
    assert not primary.running(APP)


def test_only_the_path_between_the_two_breaks_and_both_serve(lab: Lab) -> None:
    """The fault that a guard does not close; both see the gateway.  It is said on the return."""
    lab.plain("gateway", 1)
    primary = lab.add(Guarded(lab, "primary", 2))
    p = pair(lab, primary=primary, watch=False, wired=True, guard=dict(GUARD))
    primary.serves()
    p.standby.watch()
    with Overlap(APP, (primary, p.standby)) as seen:
        p.standby.wire.be(Way(dropped_pairs=((primary.address, p.standby.address),)))
        p.standby.wait_for(APP, "active", TAKEN_S)
        time.sleep(1)
        p.standby.wire.fine()
        p.standby.wait_for(APP, "inactive", 10)
    assert seen.seconds > 0.5


def test_a_guard_that_is_new_on_a_serving_primary_leaves_it_alone(lab: Lab) -> None:
    """Its services ran before it came: no stop, no start, and from now on it guards."""
    lab.plain("gateway", 1)
    primary = lab.add(Guarded(lab, "primary", 2))
    primary.write(PERMIT, "")
    primary.systemctl("start", APP)
    begun = primary.active_since(APP)
    primary.watch()
    wait_until(lambda: "unknown -> serving" in primary.log(), 10, "the guard has adopted it")
    time.sleep(1)
    assert primary.active_since(APP) == begun
    assert primary.exists(ARMED)
    primary.cut()
    primary.wait_for(APP, "inactive", 10)


def test_an_upgrade_of_the_guard_touches_nothing(lab: Lab) -> None:
    """`systemctl restart` of a serving guard: the service runs on, the host is not reset."""
    p = guarded(lab, deadline=6)  # a busy machine takes seconds for a start
    primary = p.primary
    assert isinstance(primary, Guarded)
    begun, boot = primary.active_since(APP), primary.boot_began_s
    for _ in range(3):
        primary.systemctl("restart", MONITOR)
        time.sleep(3)  # a fourth start within ten seconds is refused where a guard enforces
    assert (primary.active_since(APP), primary.boot_began_s) == (begun, boot)
    assert "serving -> closing" not in primary.log()


def test_a_guard_that_is_killed_while_a_slow_service_stops_still_ends_it(lab: Lab) -> None:
    """A restart must not wait for the stop of what is ordered after the guard."""
    p = guarded(lab, unit=NEVER_STOPS)
    primary, standby = p.primary, p.standby
    assert isinstance(primary, Guarded)
    with Overlap(APP, (primary, standby)) as seen:
        stamp = primary.cut()
        primary.wait_for(APP, "deactivating", 15)
        time.sleep(0.2)
        primary.signal(MONITOR)
        wait_until(lambda: not primary.running(APP), 15, "nothing runs on the primary")
        assert time.monotonic() - stamp <= GONE_S
        standby.wait_for(APP, "active", TAKEN_S)
    assert seen.seconds == 0, seen.told()


def test_a_standby_that_shuts_down_takes_its_service_with_it_in_time(lab: Lab) -> None:
    """It serves, goes down in order with a slow service, and the primary returns meanwhile."""
    p = guarded(lab, unit=NEVER_STOPS)
    primary, standby = p.primary, p.standby
    assert isinstance(primary, Guarded)
    primary.cut()
    wait_until(lambda: standby.running(APP), TAKEN_S + 10, "the standby serves")
    with Overlap(APP, (primary, standby)) as seen:
        standby.run("systemctl", "--no-block", "reboot")
        time.sleep(0.5)
        primary.heal()
        wait_until(lambda: primary.running(APP), 30, "the primary serves again")
        time.sleep(2)
    assert seen.seconds == 0, seen.told()


def test_a_guard_that_somebody_ends_comes_back(lab: Lab) -> None:
    """SIGTERM from anybody but `systemctl stop` is no reason to stop guarding."""
    p = guarded(lab)
    primary = p.primary
    assert isinstance(primary, Guarded)
    primary.signal(MONITOR, signal.SIGTERM)
    wait_until(lambda: primary.log().count("watches") == 2, 15, "it watches again")
    primary.systemctl("stop", MONITOR)
    assert primary.unit(MONITOR)["ActiveState"] == "inactive"
    assert primary.running(APP)


def test_a_monitor_that_is_killed_while_its_hook_runs_takes_over_once(lab: Lab) -> None:
    """The hook before the takeover takes its time, and is run again: nobody overlaps."""
    slow = ["/bin/sh", "-c", f"echo run >>{RUNS}; sleep 3"]
    hooks = {"pre_takeover": {"command": slow, "veto": True, "timeout": 20}}
    p = guarded(lab, hooks=hooks)
    primary, standby = p.primary, p.standby
    assert isinstance(primary, Guarded)
    with Overlap(APP, (primary, standby)) as seen:
        primary.cut()
        wait_until(lambda: standby.exists(RUNS), TAKEN_S, "the hook runs")
        standby.signal(MONITOR)
        standby.wait_for(APP, "active", 30)
        primary.heal()
        standby.wait_for(APP, "inactive", 10)
        primary.wait_for(APP, "active", 15)
    assert seen.seconds == 0, seen.told()
    assert standby.read(RUNS) == "run\nrun\n"


def test_a_primary_that_is_back_ends_a_veto(lab: Lab) -> None:
    """The standby never started anything; the primary serves again."""
    hooks = {"pre_takeover": {"command": ["/bin/false"], "veto": True}}
    p = guarded(lab, hooks=hooks)
    primary, standby = p.primary, p.standby
    assert isinstance(primary, Guarded)
    with Overlap(APP, (primary, standby)) as seen:
        primary.cut()
        standby.wait_for_log("it holds the takeover", TAKEN_S)
        primary.wait_for(APP, "inactive", 15)
        primary.heal()
        primary.wait_for(APP, "active", 15)
        standby.wait_for_log("claim -> standby", 10)
    assert seen.seconds == 0, seen.told()
    assert "start app.service" not in standby.log()
