"""Systemd and D-Bus in trouble at the worst moment: services start and go back all the same."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import units
from tests.lab.hosts import Host, wait_until
from tests.lab.pair import APP, MONITOR, Pair, Standby
from tests.lab.test_units import (
    NOISE_S,
    SLEEPS,
    MakePair,
    asked,
    audit,
    moments,
    service,
    told,
    wait_for_phase,
)

DETECTION_S = 2.5  # at most, with the quick profile
RETURN_S = 1.1  # at most, from the primary's return to our stop
START_S = 0.5
TROUBLE = "/run/trouble"  # there while it lasts
SLOW = service(f"ExecStartPre=/usr/bin/sleep {START_S}\n{SLEEPS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Trouble: how it begins, how it ends, and what it may cost an ask that falls into it."""

    begin: Callable[[Standby], object]
    end: Callable[[Standby], object]
    costs_s: float


def over(standby: Standby) -> None:
    """The end of trouble that ends by itself: systemd answers as before."""
    wait_until(lambda: not standby.exists(TROUBLE), 15, "the trouble is over")
    words = ("systemctl", "show", "--property=Version")
    wait_until(lambda: not standby.run(*words, check=False).returncode, 15, "systemd answers")


def again_and_again(command: str, times: int) -> Callable[[Standby], object]:
    """A command, several times in the next second, while the test goes on."""
    script = f"for k in $(seq {times}); do {command}; sleep 0.2; done; rm {TROUBLE}"

    def begin(standby: Standby) -> None:
        standby.write(TROUBLE, "")
        standby.popen("sh", "-c", script)

    return begin


FAULTS = {
    "reload": Fault(begin=again_and_again("systemctl daemon-reload", 4), end=over, costs_s=2.0),
    "reexec": Fault(begin=again_and_again("systemctl daemon-reexec", 3), end=over, costs_s=2.0),
    "bus-restarted": Fault(
        begin=again_and_again("systemctl restart dbus.service", 2), end=over, costs_s=1.0
    ),
    "bus-stopped": Fault(
        begin=lambda standby: standby.systemctl("stop", "dbus.socket", "dbus.service"),
        end=lambda standby: standby.systemctl("start", "dbus.socket", "dbus.service"),
        costs_s=0.5,
    ),
    "bus-frozen": Fault(
        begin=lambda standby: standby.signal("dbus.service", signal.SIGSTOP),
        end=lambda standby: standby.signal("dbus.service", signal.SIGCONT),
        costs_s=2.5,  # 2 s without an answer, then systemctl
    ),
}


def echoes(gateway: Host) -> int:
    """The echo requests that the gateway's kernel has received."""
    lines: list[str] = []
    counters = Path("/proc/thread-self/net/snmp")
    gateway.namespace.inside(lambda: lines.extend(counters.read_text().splitlines()))
    names, values = [line.split() for line in lines if line.startswith("Icmp: ")]
    return int(values[names.index("InEchos")])


def before_the_verdict(made: Pair) -> float:
    """Cut the primary off; return in the last of the three checks, with the moment of the cut."""
    stamp, answered = made.primary.cut(), echoes(made.gateway)
    # Six rounds a check, and one before the first.
    wait_until(lambda: echoes(made.gateway) - answered >= 14, 5, "the last check has begun")
    assert made.standby.state() == "active_alive"
    return stamp


def after_the_ask(made: Pair) -> float:
    """Cut the primary off; return when systemd has begun what was asked, and not ended it.

    Not earlier: while it takes a message in, PID 1 itself waits for the bus, up to 25 s.
    """
    stamp = made.primary.cut()
    wait_until(lambda: made.standby.running(APP), 5, "the start has begun")
    return stamp


def wait_for(standby: Standby, unit: str, state: str, within: float = 12) -> None:
    """Wait for an ActiveState, also while systemd does not answer."""
    words = ("systemctl", "show", unit, "--value", "-p", "ActiveState")
    wait_until(
        lambda: standby.run(*words, check=False).stdout.strip() == state,
        within,
        f"{unit} is {state}",
    )


def held_by(standby: Standby) -> tuple[int, int]:
    """Descriptors and threads of the monitor."""
    pid = standby.pid_of(MONITOR)
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208


def lets_go(standby: Standby, calm: tuple[int, int]) -> None:
    """The monitor soon holds no more than it did, and has no child left."""
    wait_until(
        lambda: held_by(standby) <= calm and len(standby.pids(MONITOR)) == 1,
        8,
        f"the monitor holds no more than {calm}",
    )


@pytest.mark.parametrize("moment", [before_the_verdict, after_the_ask], ids=["before", "after"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_trouble_stops_neither_takeover_nor_failback(
    make_pair: MakePair,
    fault: Fault,
    moment: Callable[[Pair], float],
) -> None:
    """Both happen in the time of a calm day and what the trouble costs; nothing is left of it."""
    made = make_pair(services={APP: SLOW})
    standby, calm = made.standby, held_by(made.standby)
    stamp = moment(made)
    fault.begin(standby)
    wait_for(standby, APP, "active")
    if fault.end is over:
        over(standby)
    there_s = standby.active_since(APP) - stamp
    assert there_s < DETECTION_S + START_S + fault.costs_s + NOISE_S
    audit(made, APP, phase="active")
    if fault.end is over:
        fault.begin(standby)
    stamp = made.primary.heal()
    wait_for(standby, APP, "inactive")
    if fault.end is over:
        over(standby)
    back_s = standby.inactive_since(APP) - stamp
    print(f"takeover after {there_s:.2f} s, failback after {back_s:.2f} s")
    assert back_s < RETURN_S + fault.costs_s + NOISE_S
    wait_for_phase(standby, "standby")
    started = standby.unit(APP)["InactiveExitTimestampMonotonic"]
    fault.end(standby)
    time.sleep(1.5)  # what was sent in vain would arrive now
    assert standby.unit(APP)["InactiveExitTimestampMonotonic"] == started
    audit(made, phase="standby")
    assert asked(standby) == [f"start {APP}", f"stop {APP}"]
    assert told(standby, "doubt") == []
    assert len(standby.log().splitlines()) < 40
    lets_go(standby, calm)


def test_a_start_that_lies_in_a_frozen_bus_never_comes_true(make_pair: MakePair) -> None:
    """The primary is back before the bus thaws: the late start is not carried out."""
    made = make_pair()
    standby = made.standby
    before_the_verdict(made)
    standby.signal("dbus.service", signal.SIGSTOP)
    wait_until(lambda: asked(standby) == [f"start {APP}"], 5, "a start is asked")
    made.primary.heal()
    standby.wait_for_state("active_alive", RETURN_S + NOISE_S)
    standby.signal("dbus.service", signal.SIGCONT)
    wait_for_phase(standby, "standby")
    time.sleep(3)
    audit(made, phase="standby")
    assert told(standby, "foreign") == []


def test_a_monitor_that_starts_without_a_bus_does_its_work(make_pair: MakePair) -> None:
    """Watching, takeover and failback through systemctl alone; then the bus comes and is used."""
    made = make_pair(watch=False)
    standby = made.standby
    standby.up()
    standby.systemctl("stop", "dbus.socket", "dbus.service")
    standby.watch()
    calm = held_by(standby)
    there_s = made.takeover()
    assert there_s < DETECTION_S + NOISE_S
    audit(made, APP, phase="active")
    back_s = made.failback()
    print(f"takeover after {there_s:.2f} s, failback after {back_s:.2f} s")
    assert back_s < RETURN_S + NOISE_S
    audit(made, phase="standby")
    assert standby.log().count("D-Bus is not usable") == 1
    lets_go(standby, calm)  # every look has a child for a moment
    standby.systemctl("start", "dbus.socket", "dbus.service")
    standby.wait_for_log("D-Bus answers again", 3)
    made.takeover()
    audit(made, APP, phase="active")


def test_a_service_that_dies_while_the_bus_is_gone_is_started_again(make_pair: MakePair) -> None:
    """Without signals the look itself finds it."""
    made = make_pair()
    standby = made.standby
    made.takeover()
    wait_for_phase(standby, "active")
    standby.systemctl("stop", "dbus.socket", "dbus.service")
    stamp = standby.signal(APP, signal.SIGKILL)
    wait_until(lambda: standby.active_since(APP) > stamp, 8, "it runs again")
    assert 0.9 < standby.active_since(APP) - stamp < 1 + 2 + NOISE_S
    audit(made, APP, phase="active")
    assert asked(standby) == [f"start {APP}"] * 2


def test_many_bus_restarts_leave_nothing_behind(make_pair: MakePair) -> None:
    """Descriptors and threads as before, two log lines for each restart at most, and it hears."""
    made = make_pair()
    standby, calm = made.standby, held_by(made.standby)
    lines = len(standby.log().splitlines())
    times = 6
    for _ in range(times):
        standby.systemctl("reset-failed", "dbus.service")
        standby.systemctl("restart", "dbus.service")
        time.sleep(0.5)
    lets_go(standby, calm)
    assert len(standby.log().splitlines()) - lines <= 2 * times
    wait_until(
        lambda: (
            standby.log().count("D-Bus is not usable") == standby.log().count("D-Bus answers again")
        ),
        10,
        "the connection is made anew",
    )
    time.sleep(1.2)  # the loss of the last one may be seen this late
    standby.systemctl("start", APP)
    standby.wait_for_log(f"possibly two active: {APP}", NOISE_S)
    lets_go(standby, calm)


# PID 1 itself.


def frozen_before_the_verdict(made: Pair) -> None:
    """Cut the primary off, stop PID 1 in the last check, and let the verdict come."""
    before_the_verdict(made)
    os.kill(made.standby.init, signal.SIGSTOP)
    made.standby.wait_for_state("active_dead", DETECTION_S + NOISE_S)
    wait_until(lambda: asked(made.standby), 1, "a start is asked")


@pytest.mark.parametrize("frozen_s", [8, 13], ids=["8s", "13s"])  # a wish is given up after 10
def test_a_frozen_pid_1_delays_the_takeover_until_it_thaws_and_no_echo(
    make_pair: MakePair,
    frozen_s: int,
) -> None:
    """Frozen around the verdict: the watch goes on, and at the thaw the service starts once."""
    made = make_pair()
    standby, calm = made.standby, held_by(made.standby)
    frozen_before_the_verdict(made)
    sent, began = echoes(made.gateway), time.monotonic()
    time.sleep(4)
    assert echoes(made.gateway) - sent >= 7  # two a second
    assert not standby.running(APP)
    assert standby.status()["phase"] == "takeover"
    time.sleep(max(0.0, began + frozen_s - time.monotonic()))
    stamp = time.monotonic()
    os.kill(standby.init, signal.SIGCONT)
    standby.wait_for(APP, "active", 5)
    print(f"takeover {standby.active_since(APP) - stamp:.2f} s after the thaw")
    # A wish that was given up is a failed try: a look, then the second before the next one.
    assert standby.active_since(APP) - stamp < 2 + NOISE_S
    since = standby.active_since(APP)
    audit(made, APP, phase="active")
    lets_go(standby, calm)
    assert standby.active_since(APP) == since
    assert told(standby, "doubt") == []
    assert told(standby, "service_failed") == []
    made.failback()
    audit(made, phase="standby")


def test_a_primary_that_returns_while_pid_1_is_frozen_gets_its_services_back(
    make_pair: MakePair,
) -> None:
    """Stop wins, whatever was asked of systemd meanwhile and is only now carried out."""
    made = make_pair()
    standby, calm = made.standby, held_by(made.standby)
    frozen_before_the_verdict(made)
    time.sleep(2.5)  # the start has gone to systemctl as well
    made.primary.heal()
    standby.wait_for_state("active_alive", RETURN_S + NOISE_S)
    time.sleep(2.5)
    os.kill(standby.init, signal.SIGCONT)
    wait_for_phase(standby, "standby", 15)
    time.sleep(2.5)
    audit(made, phase="standby")
    assert told(standby, "foreign") == []
    lets_go(standby, calm)


def test_a_stop_that_pid_1_does_not_carry_out_is_told(make_pair: MakePair) -> None:
    """Frozen while we serve and the primary returns: possibly two active; stopped at the thaw."""
    made = make_pair()
    standby = made.standby
    made.takeover()
    wait_for_phase(standby, "active")
    os.kill(standby.init, signal.SIGSTOP)
    made.primary.heal()
    wait_until(lambda: told(standby, "stop_overdue"), 15, "the stop is overdue")
    back, overdue = moments([told(standby, "verdict")[-1], told(standby, "stop_overdue")[0]])
    assert 10 <= round(overdue - back, 1) < 10 + 3 + NOISE_S
    assert standby.running(APP)
    os.kill(standby.init, signal.SIGCONT)
    standby.wait_for(APP, "inactive", 5)
    audit(made, phase="standby")
    assert set(asked(standby)[1:]) == {f"stop {APP}"}


def test_reexecution_in_the_middle_of_a_hanging_start_forgets_nothing(
    make_pair: MakePair,
) -> None:
    """The job goes on over the re-execution, and the failback cancels it."""
    made = make_pair(services={"hang.service": units.HANGS_IN_START})
    standby = made.standby
    made.primary.cut()
    standby.wait_for("hang.service", "activating", 10)
    pid = standby.pid_of("hang.service")
    standby.systemctl("daemon-reexec")
    time.sleep(1)
    assert standby.pid_of("hang.service") == pid
    assert standby.status()["phase"] == "takeover"
    assert asked(standby) == ["start hang.service"]
    made.primary.heal()
    standby.wait_for("hang.service", "inactive", 5)
    audit(made, phase="standby")
    assert asked(standby) == ["start hang.service", "stop hang.service"]
