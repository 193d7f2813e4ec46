"""A dry run on real hosts, through a real crash: beside the monitor, and alone."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.hosts import wait_until
from tests.lab.pair import APP, EVENTS, MONITOR, STATE, STATUS, UNITS, Guarded, Pair, Standby
from tests.lab.test_process import life, never_started

pytestmark = pytest.mark.timeout(180)
MakePair = Callable[..., Pair]

UNIT = "failover-monitor-dry-run.service"
APART = "dry-run/"
SAME_S = 1.0  # the two begin at different moments of an interval
RUN = "/run/failover-monitor"
# Two monitors see a crash half a second apart at most, so that a second is enough to compare.
QUICK = {"ping_interval": 0.5, "retry_interval": 0.25, "ping_timeout": 0.25}


def begin(host: Standby, phase: str = "standby", within: float = 20) -> None:
    """Start a dry run as an operator does, and wait until it knows how things stand."""
    words = ("failover-monitor", "run", "--dry-run")
    host.run("systemd-run", "--quiet", f"--unit={UNIT}", *words)
    comes_to(host, phase, within)


def comes_to(host: Standby, phase: str, within: float = 15) -> None:
    wait_until(lambda: dry_phase(host) == phase, within, f"the dry run is in {phase}")


def dry_phase(host: Standby) -> Any:
    path = f"{RUN}/{APART}status.json"
    return json.loads(host.read(path))["phase"] if host.exists(path) else ""


def told(host: Standby, path: str, *kinds: str) -> list[tuple[float, str]]:
    """Moment and sentence of each event of these kinds."""
    found = [json.loads(line) for line in host.read(path).splitlines()]
    return [(event["at_s"], event["what"]) for event in found if event["kind"] in kinds]


def of_dry_run(host: Standby, *kinds: str) -> list[tuple[float, str]]:
    return told(host, EVENTS.replace("events.jsonl", f"{APART}events.jsonl"), *kinds)


def moment(found: list[tuple[float, str]], words: str) -> float:
    """When something was told for the first time."""
    return next(at_s for at_s, what in found if words in what)


def test_a_dry_run_says_what_the_monitor_does_and_alone_it_starts_nothing(
    make_pair: MakePair,
) -> None:
    """One dry run beside the monitor, one on a host of its own; the primary dies and returns."""
    made = make_pair(**QUICK)
    second = made.lab.add(Standby(made.lab, "second", 4, keys=QUICK)).up()
    second.systemctl("start", "pin.service")
    begin(made.standby)
    begin(second)
    made.takeover()
    for host in (made.standby, second):
        comes_to(host, "active")
    made.failback()
    for host in (made.standby, second):
        comes_to(host, "standby")
    never_started(second)
    real = told(made.standby, EVENTS, "transition", "asked")
    for host in (made.standby, second):
        dry = of_dry_run(host, "transition", "asked")
        assert all(what.startswith("dry run: ") for _, what in dry)
        for words in ("-> takeover", f"start {APP}", "-> failback", f"stop {APP}"):
            assert abs(moment(dry, words) - moment(real, words)) <= SAME_S, words
        assert moment(dry, f"would start {APP}")
        assert moment(dry, f"would stop {APP}")
        assert f"dry run: would start {APP}" in host.journal(UNIT)


def test_a_dry_run_leaves_the_files_of_the_monitor_alone(make_pair: MakePair) -> None:
    """No state word, no status, no intent, and no event beside its own."""
    made = make_pair(watch=False)
    begin(made.standby)
    made.primary.cut()
    comes_to(made.standby, "active")
    made.standby.systemctl("stop", UNIT)
    for path in (STATE, STATUS, EVENTS, f"{RUN}/intent.json", f"{RUN}/lock", f"{RUN}/armed"):
        assert not made.standby.exists(path), path
    assert made.standby.read(f"{RUN}/{APART}failover_monitor_state") == "unknown\n"
    never_started(made.standby)
    shown = made.standby.run("failover-monitor", "status", "--dry-run", check=False)
    assert shown.returncode == 3
    assert "phase       active" in shown.stdout


def test_a_dry_run_of_a_guard_stops_nothing(make_pair: MakePair) -> None:
    """On a primary without a guard: cut off, it says what it would stop, and nothing is reset."""
    made = make_pair(watch=False)
    primary = made.lab.add(Guarded(made.lab, "guarded", 5)).up()
    primary.run("rm", "-r", f"{UNITS}/{APP}.d", f"{UNITS}/{MONITOR}.d")  # nothing is installed yet
    primary.systemctl("daemon-reload")
    primary.systemctl("start", "pin.service", APP)
    before, boot = life(primary, APP), primary.boot_id()
    begin(primary, "serving")
    primary.cut()
    comes_to(primary, "gated")
    stop = f"would stop {APP}"
    wait_until(lambda: stop in str(of_dry_run(primary, "asked")), 5, "it is recorded")
    assert moment(of_dry_run(primary, "asked"), stop)
    assert (life(primary, APP), primary.boot_id()) == (before, boot)
    for flag in ("permit", "armed"):
        assert not primary.exists(f"{RUN}/{flag}")
