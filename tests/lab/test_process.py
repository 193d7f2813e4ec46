"""The monitor as a process: killed, frozen, rebooted, stopped, doubled, reconfigured.

None of it may start, stop or restart a service by itself, nor leave a stale state word behind.
"""

import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self

import pytest

from tests.lab import units
from tests.lab.hosts import resolved, wait_until
from tests.lab.pair import APP, CONFIG, EVENTS, LOG, MONITOR, STATE, STATUS, Pair, Standby

pytestmark = pytest.mark.timeout(180)
MakePair = Callable[..., Pair]

T, V = 1.0, 1.5  # of the quick profile: the interval, and from first silence to the verdict
RESTART_S = 12.0  # RestartSec=1 and the start of the process, on a busy machine
SLACK_S = 1.0
LONG = {"ping_fail_threshold": 5}  # five checks of half a second
LONG_V = 2.5
CYCLE = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=exec\n"
SLOW_START = CYCLE + "ExecStartPre=/usr/bin/sleep 4\nExecStart=/usr/bin/sleep infinity\n"
SLOW_STOP = CYCLE + "ExecStart=/usr/bin/sleep infinity\nExecStop=/usr/bin/sleep 4\n"
# Stops before the monitor, and slowly: so the monitor lives on in a host that goes down.
HOLDER = f"[Unit]\nAfter={MONITOR}\n" + SLOW_STOP


class Words:
    """The state words that a reader sees, in order, while the block runs."""

    def __init__(self, standby: Standby) -> None:
        self.seen: list[str] = []
        self._path = standby.path(STATE)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def _follow(self) -> None:
        while not self._over.wait(0.005):
            self._sample()

    def _sample(self) -> None:
        text = self._path.read_text()
        if text[:-1] not in self.seen[-1:]:
            self.seen.append(text[:-1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._sample()


def told(standby: Standby, kind: str) -> list[str]:
    """The sentences of all events of one kind."""
    return [event["what"] for event in standby.events() if event["kind"] == kind]


def wait_for_asked(standby: Standby, *sentences: str, within: float = 10) -> None:
    """Wait until exactly these starts and stops have been asked, since the first boot."""
    wait_until(lambda: told(standby, "asked") == list(sentences), within, f"{sentences} were asked")


def phase(standby: Standby) -> Any:
    return standby.status().get("phase")


def life(standby: Standby, unit: str) -> dict[str, str]:
    """What changes when a unit is started or stopped, or restarted by anybody."""
    names = ("InvocationID", "MainPID", "NRestarts", "ActiveState")
    shown = standby.unit(unit)
    return {name: shown.get(name, "") for name in names}


def never_started(standby: Standby, unit: str = APP) -> None:
    assert life(standby, unit) == {
        "InvocationID": "",
        "MainPID": "0",
        "NRestarts": "0",
        "ActiveState": "inactive",
    }
    assert standby.active_since(unit) == 0


def cut_until_suspicious(made: Pair) -> None:
    """Cut the primary off and wait until it is missed, well before the verdict.

    Needs `**LONG`: then it is missed after 1.1 s at the latest, and the verdict needs 2.5 s.
    """
    made.primary.cut()
    time.sleep(1.5)
    assert made.standby.state() == "active_alive"


def process(standby: Standby) -> int:
    """The monitor's process; 0 while there is none."""
    return int(standby.systemctl("show", MONITOR, "--value", "-p", "MainPID"))


def replaced(standby: Standby, dead: set[int]) -> bool:
    return process(standby) not in dead


def wait_for_new_process(standby: Standby, old: int, within: float) -> float:
    return wait_until(
        lambda: process(standby) not in {0, old} and standby.unit(MONITOR)["SubState"] == "running",
        within,
        "systemd has started the monitor again",
    )


def served(made: Pair, *names: str) -> dict[str, dict[str, str]]:
    """Let the primary die; the lives of our services once all of them run."""
    made.primary.cut()
    for name in names:
        made.standby.wait_for(name, "active", 10)
    wait_until(lambda: phase(made.standby) == "active", 5, "the phase is active")
    return {name: life(made.standby, name) for name in names}


# Killed in every phase.


def test_a_kill_on_standby_starts_nothing(make_pair: MakePair) -> None:
    """Killed while the primary answers: `unknown`, then right again; no service is touched."""
    standby = make_pair().standby
    old = process(standby)
    with Words(standby) as words:
        standby.signal(MONITOR, signal.SIGKILL)
        standby.wait_for_state("unknown", 10)
        assert process(standby) == 0, "before it is started again"
        standby.wait_for_state("active_alive", RESTART_S + T)
    assert words.seen[-2:] == ["unknown", "active_alive"]
    assert set(words.seen) == {"unknown", "active_alive"}
    assert process(standby) != old
    assert told(standby, "asked") == []
    never_started(standby)


def test_a_kill_in_suspicion_only_delays_the_takeover(make_pair: MakePair) -> None:
    """Killed between the first silence and the verdict: the same decision, from fresh checks."""
    made = make_pair(**LONG)
    standby = made.standby
    cut_until_suspicious(made)
    with Words(standby) as words:
        stamp = standby.signal(MONITOR, signal.SIGKILL)
        standby.wait_for(APP, "active", RESTART_S + LONG_V + T + 5)
    took = standby.active_since(APP) - stamp
    assert 1 + LONG_V <= took <= RESTART_S + LONG_V + SLACK_S
    assert words.seen == ["active_alive", "unknown", "active_dead"]
    wait_for_asked(standby, "start app.service")


def test_a_kill_amid_a_takeover_finishes_it(make_pair: MakePair) -> None:
    """Killed while the first of two services starts slowly: that start goes on, the second comes.

    Neither is started a second time.
    """
    made = make_pair(services={"slow.service": SLOW_START, APP: units.APP})
    standby = made.standby
    made.primary.cut()
    standby.wait_for("slow.service", "activating", 5)
    wait_for_asked(standby, "start slow.service")
    before = life(standby, "slow.service")["InvocationID"]
    with Words(standby) as words:
        standby.signal(MONITOR, signal.SIGKILL)
        standby.wait_for("slow.service", "active", 8)
        standby.wait_for(APP, "active", RESTART_S + 3)  # and three silent rounds
    assert standby.active_since(APP) >= standby.active_since("slow.service")
    assert life(standby, "slow.service")["InvocationID"] == before
    wait_until(lambda: phase(standby) == "active", 3, "the phase is active")
    wait_for_asked(standby, "start slow.service", "start app.service")
    assert words.seen == ["active_dead", "unknown", "active_dead"]


def test_a_kill_while_serving_leaves_the_services_alone(make_pair: MakePair) -> None:
    """Killed in the primary's place: the service never notices, and goes back as usual."""
    made = make_pair()
    standby = made.standby
    before = served(made, APP)
    with Words(standby) as words:
        old = process(standby)
        standby.signal(MONITOR, signal.SIGKILL)
        wait_for_new_process(standby, old, RESTART_S)
        standby.wait_for_state("active_dead", 1)
    assert words.seen == ["active_dead", "unknown", "active_dead"]
    assert told(standby, "transition")[2:] == ["takeover -> active: all services run here"]
    assert phase(standby) == "active"
    assert {APP: life(standby, APP)} == before
    wait_for_asked(standby, "start app.service")
    assert made.failback() <= T + SLACK_S
    wait_for_asked(standby, "start app.service", "stop app.service")


def test_a_kill_amid_a_failback_finishes_it(make_pair: MakePair) -> None:
    """Killed while one of two services stops slowly: the other is stopped, too, and stays so."""
    made = make_pair(services={APP: units.APP, "slow.service": SLOW_STOP})
    standby = made.standby
    served(made, APP, "slow.service")
    made.primary.heal()
    standby.wait_for("slow.service", "deactivating", 3)
    starts = ["start app.service", "start slow.service"]
    wait_for_asked(standby, *starts, "stop slow.service")
    assert standby.running(APP)
    with Words(standby) as words:
        standby.signal(MONITOR, signal.SIGKILL)
        standby.wait_for("slow.service", "inactive", 8)
        standby.wait_for(APP, "inactive", RESTART_S)
        wait_until(lambda: phase(standby) == "standby", 3, "the phase is standby")
    assert words.seen == ["active_alive", "unknown", "active_alive"]
    wait_for_asked(standby, *starts, "stop slow.service", "stop app.service")


def test_five_kills_in_a_row_do_not_end_the_watch(make_pair: MakePair) -> None:
    """A monitor that keeps dying is started again each time, and takes over as ever."""
    made = make_pair()
    standby = made.standby
    assert standby.unit(MONITOR)["StartLimitIntervalUSec"] == "0"  # no number of starts is too many
    for _ in range(5):
        dead = {0, process(standby)}
        standby.signal(MONITOR, signal.SIGKILL)
        wait_until(partial(replaced, standby, dead), RESTART_S, "it is started again")
    standby.wait_for_state("active_alive", RESTART_S + T)
    assert standby.unit(MONITOR)["NRestarts"] == "5"
    assert told(standby, "asked") == []
    assert made.takeover() <= T + V + SLACK_S


# Frozen.


def test_a_short_freeze_is_survived(make_pair: MakePair) -> None:
    """Four seconds of standstill while the primary answers change nothing, and are told."""
    standby = make_pair().standby
    old = process(standby)
    with Words(standby) as words:
        standby.signal(MONITOR, signal.SIGSTOP)
        time.sleep(4)  # it last told the watchdog up to five seconds before
        standby.signal(MONITOR, signal.SIGCONT)
        standby.wait_for_log("late", 2)
        time.sleep(T + V)
    assert words.seen == ["active_alive"]
    assert process(standby) == old
    assert phase(standby) == "standby"
    assert told(standby, "asked") == []
    never_started(standby)


def test_evidence_from_before_a_freeze_makes_no_verdict(make_pair: MakePair) -> None:
    """Frozen in mid-suspicion: whatever was counted before is dropped, with all its time."""
    made = make_pair(**LONG)
    standby = made.standby
    cut_until_suspicious(made)
    standby.signal(MONITOR, signal.SIGSTOP)
    made.primary.heal()
    time.sleep(5)
    standby.signal(MONITOR, signal.SIGCONT)
    standby.wait_for_log("late", 2)
    time.sleep(T + LONG_V)
    assert [what for what in told(standby, "verdict") if "down" in what] == []
    assert standby.state() == "active_alive"
    never_started(standby)

    cut_until_suspicious(made)
    standby.signal(MONITOR, signal.SIGSTOP)
    time.sleep(5)
    stamp = standby.signal(MONITOR, signal.SIGCONT)
    standby.wait_for(APP, "active", 8)
    took = standby.active_since(APP) - stamp
    assert LONG_V - 0.05 <= took <= T + LONG_V + SLACK_S
    wait_for_asked(standby, "start app.service")


@pytest.mark.parametrize("way", ["SIGSTOP", "cgroup.freeze"])
def test_a_long_freeze_ends_with_the_watchdog(make_pair: MakePair, way: str) -> None:
    """A monitor that stands still is replaced after WatchdogSec; the services are untouched."""
    made = make_pair()
    standby = made.standby
    before = served(made, APP)
    old = process(standby)
    begun = time.monotonic()
    with Words(standby) as words:
        if way == "SIGSTOP":
            standby.signal(MONITOR, signal.SIGSTOP)
        else:
            (standby.cgroup(MONITOR) / "cgroup.freeze").write_text("1")
        wait_for_new_process(standby, old, 30)
        took = time.monotonic() - begun
        wait_until(lambda: standby.state() == "active_dead", 3, "the word is right again")
    print(f"{way}: replaced after {took:.1f} s")
    assert took >= 7  # the last WATCHDOG=1 is at most 3 s old when the freeze begins
    # With the cgroup, what would write `unknown` is frozen, too.
    between = ["unknown", "active_dead"] if way == "SIGSTOP" else []
    assert words.seen == ["active_dead", *between]
    assert "Watchdog timeout" in standby.journal(MONITOR)
    assert {APP: life(standby, APP)} == before
    wait_for_asked(standby, "start app.service")
    assert made.failback() <= T + SLACK_S


# The host reboots, or goes down.


def test_after_a_reboot_nothing_starts_without_fresh_evidence(make_pair: MakePair) -> None:
    """Rebooted while the primary is dead: the service starts again, but only on a new verdict."""
    made = make_pair()
    standby = made.standby
    served(made, APP)
    standby.reboot()
    standby.wait_for(APP, "active", 20)
    began = int(standby.unit(MONITOR)["ExecMainStartTimestampMonotonic"]) / 1e6
    assert standby.active_since(APP) - began >= V
    wait_for_asked(standby, "start app.service", "start app.service")
    kinds = [event["kind"] for event in standby.events()]
    after = kinds[kinds.index("intent_ended") :]
    assert after.index("started") < after.index("verdict") < after.index("asked")
    assert after.count("asked") == 1


def test_after_a_reboot_a_primary_that_answers_ends_a_manual_takeover(make_pair: MakePair) -> None:
    """Rebooted with `manual` failback after the primary has come back: nothing starts here."""
    made = make_pair(failback="manual")
    standby = made.standby
    served(made, APP)
    made.primary.heal()
    standby.wait_for_state("active_alive", 3)
    assert standby.running(APP)
    standby.reboot()
    standby.wait_for_state("active_alive", 20)
    time.sleep(T + V)
    assert phase(standby) == "standby"
    assert len(told(standby, "intent_ended")) == 1
    assert "takeover is over" in told(standby, "intent_ended")[0]
    wait_for_asked(standby, "start app.service")
    assert not standby.running(APP)
    assert standby.active_since(APP) == 0


def test_a_shutdown_while_serving_is_quick_and_quiet(make_pair: MakePair) -> None:
    """The host goes down with the services on it: no start is asked for, no storm of errors."""
    made = make_pair()
    standby = made.standby
    served(made, APP)
    lines = len(standby.log().splitlines())
    begun = time.monotonic()
    standby.poweroff()
    took = time.monotonic() - begun
    print(f"off after {took:.1f} s")
    assert took < 5
    log = resolved(standby.tree, LOG).read_text().splitlines()[lines:]
    assert log[-1].endswith("stopped; the services stay as they are")
    assert [line for line in log if "[INFO]" not in line] == []
    assert len(log) <= 4
    events = resolved(standby.tree, EVENTS).read_text()
    assert events.count('"kind": "asked"') == 1  # the takeover's own


def test_a_slow_shutdown_while_serving_starts_nothing(make_pair: MakePair) -> None:
    """The services go first and the monitor sees it: in a host that goes down, it lets them."""
    made = make_pair()
    standby = made.standby
    served(made, APP)
    standby.install_units({"holder.service": HOLDER})
    standby.systemctl("start", "holder.service")
    lines = len(standby.log().splitlines())
    standby.poweroff()
    log = resolved(standby.tree, LOG).read_text().splitlines()[lines:]
    assert [line for line in log if "[INFO]" not in line] == []
    assert "app.service is stopped" in "".join(log)
    assert log[-1].endswith("stopped; the services stay as they are")
    assert resolved(standby.tree, EVENTS).read_text().count('"kind": "asked"') == 1


# Stopped, restarted, doubled.


def test_stopping_the_monitor_leaves_the_services_as_they_are(make_pair: MakePair) -> None:
    """Stop, start and restart while serving: the service never notices; no stale word."""
    made = make_pair()
    standby = made.standby
    before = served(made, APP)
    standby.systemctl("stop", MONITOR)
    assert standby.state() == "unknown"
    assert {APP: life(standby, APP)} == before
    standby.systemctl("start", MONITOR)
    standby.wait_for_state("active_dead", 1)
    with Words(standby) as words:
        standby.systemctl("restart", MONITOR)
        standby.wait_for_state("active_dead", 1)
    assert words.seen[-1] == "active_dead"
    assert set(words.seen) <= {"active_dead", "unknown"}
    assert phase(standby) == "active"
    time.sleep(T)
    assert {APP: life(standby, APP)} == before
    wait_for_asked(standby, "start app.service")
    assert made.failback() <= T + SLACK_S


def test_a_second_monitor_by_hand_writes_nothing(make_pair: MakePair) -> None:
    """`failover-monitor run` beside the unit ends with 1, says why, and leaves all files alone."""
    standby = make_pair(ping_interval=20).standby  # a late answer would be written down

    def traces() -> list[object]:
        state, status = (standby.path(path).stat() for path in (STATE, STATUS))
        inodes = [state.st_ino, status.st_ino]
        return [*inodes, state.st_mtime_ns, status.st_mtime_ns, standby.log(), process(standby)]

    # status.json is written every fifteen seconds: just after that nobody but a second one would.
    fresh = standby.status()["at_s"]
    wait_until(lambda: standby.status()["at_s"] != fresh, 18, "status.json was written again")
    before = traces()
    second = standby.run("failover-monitor", "run", check=False)
    assert second.returncode == 1
    assert "another monitor" in second.stderr
    assert traces() == before


def test_a_second_unit_does_not_disturb_the_first(make_pair: MakePair) -> None:
    """A copy of the unit fails again and again; word, log and process of the first stay."""
    standby = make_pair().standby
    old = process(standby)
    copy = standby.read(f"/etc/systemd/system/{MONITOR}")
    log = standby.log()
    with Words(standby) as words:
        standby.install_units({"second.service": copy})
        standby.systemctl("start", "--no-block", "second.service")
        wait_until(
            lambda: int(standby.unit("second.service")["NRestarts"]) >= 2, 60, "it fails twice"
        )
        standby.systemctl("stop", "second.service")
        time.sleep(0.6)  # as long as its ExecStopPost= waits for the lock
    assert "status=1/FAILURE" in standby.journal("second.service")
    assert words.seen == ["active_alive"]
    assert process(standby) == old
    assert standby.log() == log
    assert phase(standby) == "standby"


# Configured anew.


def test_a_good_configuration_counts_from_the_reload(make_pair: MakePair) -> None:
    """Services, timing and addresses change while the phase stays; serving or not."""
    services = dict.fromkeys((APP, "two.service", "three.service"), units.APP)
    made = make_pair(services=services, services_to_manage=[APP])
    standby = made.standby
    old = process(standby)
    standby.configure(
        services_to_manage=[APP, "two.service"],
        ping_interval=0.5,
        retry_interval=0.25,
        active_ip=[f"{made.primary.address}", "198.51.100.9"],
        witness_ips=["198.51.100.8"],
    )
    with Words(standby) as words:
        standby.systemctl("reload", MONITOR)
        standby.wait_for_log("was read again", 10)
        wait_until(lambda: len(standby.status()["primary"]) == 2, 3, "both addresses are asked")
    assert words.seen == ["active_alive"]
    assert told(standby, "transition") == ["unknown -> standby: the primary answers"]
    assert [path["address"] for path in standby.status()["references"]][1:] == ["198.51.100.8"]
    never_started(standby)
    assert made.takeover() <= 0.5 + 0.75 + SLACK_S
    standby.wait_for("two.service", "active", 2)
    wait_until(lambda: phase(standby) == "active", 3, "the phase is active")

    before = {name: life(standby, name) for name in (APP, "two.service")}
    standby.configure(
        services_to_manage=[APP, "two.service", "three.service"],
        active_ip=made.primary.address,
        ping_interval=1,
        retry_interval=0.5,
    )
    with Words(standby) as words:
        standby.systemctl("reload", MONITOR)
        standby.wait_for("three.service", "active", 3)
    assert words.seen == ["active_dead"]
    assert {name: life(standby, name) for name in before} == before
    assert process(standby) == old
    starts = [f"start {name}.service" for name in ("app", "two", "three")]
    wait_for_asked(standby, *starts)
    assert made.failback() <= T + SLACK_S
    wait_until(lambda: phase(standby) == "standby", 3, "the phase is standby")
    stops = [f"stop {name}.service" for name in ("three", "two", "app")]
    wait_for_asked(standby, *starts, *stops)


def test_a_bad_configuration_changes_nothing_at_a_reload(make_pair: MakePair) -> None:
    """Reloaded bad: the old one goes on, log and `systemctl status` say so until it is mended."""
    made = make_pair()
    standby = made.standby
    old = process(standby)
    standby.configure(ping_fail_treshold=1)
    standby.systemctl("reload", MONITOR)
    standby.wait_for_log("is bad, the last good one goes on", 3)
    standby.wait_for_log("ping_fail_treshold", 1)
    wait_until(
        lambda: "is bad, the last good one goes on" in standby.unit(MONITOR)["StatusText"],
        4,
        "systemctl status says so",
    )
    assert process(standby) == old
    assert standby.state() == "active_alive"
    assert made.takeover() <= T + V + SLACK_S
    standby.configure(ping_fail_treshold=None)
    standby.systemctl("reload", MONITOR)
    standby.wait_for_log("was read again", 10)
    wait_until(lambda: "is bad" not in standby.unit(MONITOR)["StatusText"], 4, "the remark is gone")


def test_a_bad_configuration_does_not_end_the_watch_while_serving(make_pair: MakePair) -> None:
    """Restarted with a bad file while serving: the last good one goes on, said every minute."""
    made = make_pair()
    standby = made.standby
    before = served(made, APP)
    standby.write(CONFIG, "{", 0o640)
    standby.systemctl("restart", MONITOR)
    standby.wait_for_state("active_dead", 2)
    wait_until(lambda: len(told(standby, "config_bad")) == 1, 2, "it is said")
    assert "is bad, the last good one goes on" in standby.unit(MONITOR)["StatusText"]
    assert phase(standby) == "active"
    assert {APP: life(standby, APP)} == before
    begun = time.monotonic()
    wait_until(lambda: len(told(standby, "config_bad")) == 2, 65, "it is said again")
    assert time.monotonic() - begun > 50
    assert made.failback() <= T + SLACK_S
    wait_for_asked(standby, "start app.service", "stop app.service")


def test_a_bad_configuration_is_refused_while_not_serving(make_pair: MakePair) -> None:
    """Restarted with a bad file while the primary serves: 78, and systemd leaves it at that."""
    standby = make_pair().standby
    standby.write(CONFIG, "{", 0o640)
    standby.systemctl("restart", MONITOR, check=False)
    time.sleep(1.5)  # RestartSec=1 would be over
    shown = standby.unit(MONITOR)
    assert (shown["ActiveState"], shown["ExecMainStatus"]) == ("failed", "78")
    assert shown["NRestarts"] == "0"
    assert standby.state() == "unknown"
    assert CONFIG in standby.journal(MONITOR, lines=10)
    never_started(standby)


def test_a_service_that_leaves_the_list_stays_ours_to_stop(make_pair: MakePair) -> None:
    """Removed while it serves: it runs on, is not started again, and is stopped at failback.

    A restart of the monitor in between forgets none of it.
    """
    extra = {"two.service": units.APP, "three.service": units.APP}
    made = make_pair(services={APP: units.APP, **extra})
    standby = made.standby
    before = served(made, APP, *extra)
    standby.configure(services_to_manage=[APP])
    standby.systemctl("reload", MONITOR)
    standby.wait_for_log("was read again", 10)
    standby.signal("three.service", signal.SIGKILL)
    standby.wait_for("three.service", "failed", 2)
    old = process(standby)
    standby.signal(MONITOR, signal.SIGKILL)
    wait_for_new_process(standby, old, RESTART_S)
    time.sleep(3)  # a service on the list would be started again after one second
    assert not standby.running("three.service")
    assert {name: life(standby, name) for name in (APP, "two.service")} == {
        name: before[name] for name in (APP, "two.service")
    }
    assert made.failback("two.service") <= T + SLACK_S
    standby.wait_for(APP, "inactive", 2)
    starts = [f"start {name}.service" for name in ("app", "two", "three")]
    wait_for_asked(standby, *starts, "stop two.service", "stop app.service")


def test_ready_means_that_the_first_look_has_been_taken(make_pair: MakePair) -> None:
    """`systemctl start` returns when word and status exist and the services have been seen."""
    made = make_pair(watch=False)
    standby = made.standby
    standby.up()
    standby.systemctl("start", "pin.service")
    standby.systemctl("start", MONITOR)
    status, word = standby.status(), standby.state()
    assert [unit["state"] for unit in status["units"]] == ["stopped"]
    assert word in {"unknown", "active_alive"}
    shown = standby.unit(MONITOR)
    began = int(shown["ExecMainStartTimestampMonotonic"])
    took = (int(shown["ActiveEnterTimestampMonotonic"]) - began) / 1e6
    print(f"ready after {took:.2f} s")
    assert took < 20
    standby.wait_for_state("active_alive", 3)
