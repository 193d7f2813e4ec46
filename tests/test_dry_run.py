"""A dry run decides as the monitor does, on the same traffic, and touches nothing."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

import pytest

import failover_monitor
from failover_monitor import cli, daemon, dry_run
from failover_monitor.dry_run import (
    LATE_S,
    ImaginedFence,
    ImaginedHooks,
    ImaginedLease,
    ImaginedUnits,
)
from failover_monitor.events import INFO, Event, Kind
from failover_monitor.files import Paths
from failover_monitor.leases.keeper import Ask, Wish
from failover_monitor.model import (
    Effect,
    FencePolicy,
    Fencing,
    LeasePolicy,
    Outcome,
    Policy,
    Unit,
    UnitSeen,
    Verb,
)
from failover_monitor.monitor import Services
from failover_monitor.protections import Doors, Protections
from failover_monitor.rehearsal.script import Script, parse
from failover_monitor.rehearsal.world import World
from tests.cable import FAR4
from tests.test_daemon import DROP, Daemon, Door, events_in, eventually, stop, watch

__all__ = ["watch"]
ROOT = Path(failover_monitor.__file__).parent.parent
APP = "app.service"
SAME_S = 0.1  # real starts and stops of the toy world take 0.02 s, imagined ones nothing
TRAFFIC = (  # moves that a real and an imagined host see alike
    *("HOST up", "HOST silent", "cable dark", "cable lit", "standby unplugged", "standby plugged"),
    *("network lost", "network back", "latency SECONDS", "loss PERCENT", "check CHECK ANSWERS"),
    *("ack", "failback", "reload SETTING...", "freeze SECONDS", "suspend SECONDS", "end"),
    *("primary dies", "primary returns", "UNIT runs"),
)


# Units.


class Look:
    """Units that can only be looked at: whoever asks something of them has no such method."""

    host_stopping = False

    def __init__(self) -> None:
        self.units = {APP: UnitSeen(APP, Unit.STOPPED)}
        self.watched: tuple[str, ...] = ()

    def seen(self) -> tuple[UnitSeen, ...]:
        return tuple(self.units.values())

    def watch(self, units: Sequence[str]) -> None:
        self.watched = tuple(units)

    def populated(self, name: str) -> bool:
        return self.units[name].state is Unit.RUNNING


@pytest.fixture
def look() -> Look:
    return Look()


@dataclass
class Clock:
    now_s: float = 5.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def imagined(look: Look, clock: Clock) -> ImaginedUnits:
    return ImaginedUnits(look, lambda: None, lambda: clock.now_s)  # type: ignore[arg-type]


def test_what_is_asked_to_start_runs_and_what_is_asked_to_stop_rests(
    look: Look, imagined: ImaginedUnits
) -> None:
    """Whatever the real unit does meanwhile."""
    assert imagined.seen() == look.seen()
    imagined.ask(Effect(Verb.START, APP))
    assert imagined.seen() == (UnitSeen(APP, Unit.RUNNING, 5.0, "imagined"),)
    assert imagined.populated(APP) is True
    look.units[APP] = UnitSeen(APP, Unit.RUNNING)
    for verb in (Verb.STOP, Verb.KILL):
        imagined.ask(Effect(verb, APP))
        assert imagined.seen()[0].state is Unit.STOPPED
        assert imagined.populated(APP) is False


def test_after_an_imagined_stop_the_real_unit_is_seen_again(
    look: Look, imagined: ImaginedUnits, clock: Clock
) -> None:
    """So that a service which somebody starts by hand is told of, if a little late."""
    imagined.ask(Effect(Verb.START, APP))
    imagined.ask(Effect(Verb.STOP, APP))
    assert imagined.seen()[0].state is Unit.STOPPED  # and so is the real one: that counts again
    look.units[APP] = UnitSeen(APP, Unit.RUNNING)
    assert imagined.seen()[0].state is Unit.STOPPED
    clock.now_s += LATE_S
    assert imagined.seen()[0].state is Unit.RUNNING


def test_what_another_monitor_starts_hides_no_start_of_ours(
    look: Look, imagined: ImaginedUnits, clock: Clock
) -> None:
    """Nor does its stop: for a while the unit is seen as it was."""
    assert imagined.seen()[0].state is Unit.STOPPED
    look.units[APP] = UnitSeen(APP, Unit.RUNNING)
    clock.now_s += LATE_S - 0.1
    assert imagined.seen()[0].state is Unit.STOPPED
    look.units[APP] = UnitSeen(APP, Unit.STOPPED)
    assert imagined.seen()[0].state is Unit.STOPPED
    look.units[APP] = UnitSeen(APP, Unit.RUNNING)
    clock.now_s += LATE_S - 0.1
    assert imagined.seen()[0].state is Unit.STOPPED
    clock.now_s += 0.2
    assert imagined.seen()[0].state is Unit.STOPPED  # it differs anew since the last look but one


def test_what_cannot_be_seen_is_not_shown_as_it_was(look: Look, imagined: ImaginedUnits) -> None:
    """Never a reason to act."""
    assert imagined.seen()[0].state is Unit.STOPPED
    look.units[APP] = UnitSeen(APP, Unit.UNKNOWN)
    assert imagined.seen()[0].state is Unit.UNKNOWN


@pytest.mark.parametrize("why", ["masked", "not-found"])
def test_what_cannot_be_loaded_does_not_run_in_imagination_either(
    why: str, look: Look, imagined: ImaginedUnits
) -> None:
    """A takeover would fail, and the dry run shows that."""
    look.units[APP] = UnitSeen(APP, Unit.FAILED, why=why)
    imagined.ask(Effect(Verb.START, APP))
    assert imagined.seen() == look.seen()


def test_what_the_host_does_is_seen(look: Look, imagined: ImaginedUnits) -> None:
    """A shutdown, another list of units, what is left of one."""
    look.host_stopping = True
    assert imagined.host_stopping
    imagined.watch(["a.service"])
    assert look.watched == ("a.service",)
    assert imagined.populated("a.service") is None


# Fence and lease.


def test_a_fence_is_never_run(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Its command is named; it is imagined to succeed; a wish that ends is forgotten."""
    left = tmp_path / "left"
    policy = FencePolicy(command=("/usr/bin/touch", str(left)), options={})
    fence = ImaginedFence(policy, lambda: None, asyncio.Lock())
    states = [fence.seen.state]
    for wanted in (True, True, False):
        fence.want(wanted)
        states.append(fence.seen.state)
    assert states == [Fencing.IDLE, Fencing.DONE, Fencing.DONE, Fencing.IDLE]
    assert caplog.messages == ["would run the fence command /usr/bin/touch"]
    assert not left.exists()


def test_a_lease_is_never_acquired(caplog: pytest.LogCaptureFixture) -> None:
    """Granted in imagination; renewals are not worth a line."""
    caplog.set_level(logging.INFO)
    policy = LeasePolicy(engine="etcd", endpoints=("http://198.51.100.9:1",), name="p", holder="us")
    lease = ImaginedLease(policy, lambda: None)
    for number, verb in enumerate((Wish.ACQUIRE, Wish.RENEW, Wish.RELEASE)):
        lease.send(Ask(number, verb, 5.0))
        assert [reply.outcome for reply in lease.receive()] == [Outcome.PASS]
    assert caplog.messages == ["would acquire the lease 'p'", "would release the lease 'p'"]
    lease.close()
    assert lease.receive() == []


def test_whatever_a_policy_lets_act_has_a_door_that_a_dry_run_closes() -> None:
    """Who adds something to a policy that reaches the world must think of the dry run."""
    parts = {name: str(kind) for name, kind in get_type_hints(Policy).items()}
    acting = {name for name, kind in parts.items() if "Policy" in kind} - {"guard"}  # only numbers
    assert acting == {"fence", "lease", "hooks"}
    assert {field.name for field in fields(Doors)} == {"runner", "fence", "engine", "hooks"}


def test_every_line_is_marked() -> None:
    """Also those that are no events; what is only wished for or imagined is told as such."""
    record = logging.makeLogRecord({"msg": "cannot write %s", "args": ("x 100%",)})
    assert dry_run.mark(record)
    assert record.getMessage() == "dry run: cannot write x 100%"
    told = {
        Kind.ASKED: "dry run: would start app.service",
        Kind.FENCE: "dry run: imagined: start app.service",
        Kind.TRANSITION: "dry run: start app.service",
    }
    for kind, sentence in told.items():
        event = Event(kind, INFO, "start app.service")
        record = logging.makeLogRecord({"msg": "%s", "args": (event.sentence,), "event": event})
        dry_run.mark(record)
        assert record.getMessage() == vars(record)["event"].sentence == sentence


# The same decisions.


class DryWorld(World):
    """The same world with a dry run in it: its units stay as they are."""

    def door(self) -> Services:
        return ImaginedUnits(self.systemd, lambda: None, lambda: self.now_s)

    def protections(self) -> Protections:
        checks = super().protections().doors.runner
        doors = Doors(runner=checks, fence=ImaginedFence, engine=ImaginedLease, hooks=ImaginedHooks)
        return Protections(self.policy, lambda: self.now_s, lambda: None, doors=doors)


def decided(world: World, script: Script) -> list[tuple[float, str]]:
    """What was decided and asked in this world, and when."""
    begun = False
    for step in script.steps:
        at_s = step.moment.seconds(world.policy) if step.moment else world.now_s
        if step.anchor == "after":
            at_s += world.now_s
        if at_s > 0 and not begun:
            world.begin()
            begun = True
        world.run_until(at_s)
        for move in step.moves:
            move.perform(world)
            if begun:
                world.wake()
    kinds = (Kind.TRANSITION, Kind.ASKED, Kind.VETO, Kind.HELD)
    told = (found for found in world.log if isinstance(found[1], Event))
    return [(at_s, event.sentence) for at_s, event in told if event.kind in kinds]  # type: ignore[union-attr]


def of_traffic_alone() -> Iterator[Path]:
    """Stories in which only hosts and networks change, and no fence, lease or hook takes time."""
    for path in sorted((ROOT / "tests/scenarios").glob("*.txt")):
        script = parse(path.read_text())
        moves = {move.pattern for step in script.steps for move in step.moves}
        policy = script.policy
        if policy is None or policy.fence or policy.lease or policy.hooks:
            continue
        if moves <= set(TRAFFIC):
            yield path


STORIES = tuple(of_traffic_alone())


def test_there_are_enough_stories_to_compare() -> None:
    """On both sides of a pair."""
    assert len(STORIES) >= 30
    assert any(path.stem.startswith("guard") for path in STORIES)


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_dry_run_decides_what_the_monitor_decides(path: Path) -> None:
    """The same phases, starts and stops for the same reasons, at the same time; none is asked."""
    script = parse(path.read_text())
    assert script.policy
    real = World(script.policy, booted_s=script.booted_s)
    dry = DryWorld(script.policy, booted_s=script.booted_s)
    expected, found = decided(real, script), decided(dry, script)
    assert [sentence for _, sentence in found] == [sentence for _, sentence in expected]
    for (found_s, _), (expected_s, _) in zip(found, expected, strict=True):
        assert abs(found_s - expected_s) <= SAME_S
    assert dry.systemd.asked == []


# The process.


def be_the_dry_run(root: str, config: str) -> None:
    """What the child process runs: the command as it is given, below a directory of the test's."""
    vars(daemon)["Systemd"] = Door
    vars(cli)["PATHS"] = Paths(Path(root))
    sys.exit(cli.main(["run", "--dry-run", "--config", config]))


class DryRun:
    """A dry run beside a monitor, on the same configuration."""

    def __init__(self, watch: Daemon) -> None:
        self.watch, self.paths = watch, watch.paths.dry_run
        script = (
            "import sys; from tests.test_dry_run import be_the_dry_run as run; run(*sys.argv[1:])"
        )
        root = watch.config.parent
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(root), str(watch.config)],
            cwd=ROOT,
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(root / "notify"),
                "UNITS": str(watch.units),
                "ASKED": str(watch.asks),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        watch.processes.append(self.process)

    def events(self) -> list[dict[str, str]]:
        return events_in(self.paths.events)

    def has_told(self, sentence: str) -> bool:
        return any(event["what"] == f"dry run: {sentence}" for event in self.events())


def files_of(root: Path, *apart: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a directory, as it is now, except for those of a dry run."""
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in root.rglob("*")
        if path.is_file() and not any(path.is_relative_to(place) for place in apart)
    }


def test_a_dry_run_alone_touches_nothing(watch: Daemon) -> None:
    """Through a crash and a return: no start, no stop, no word to systemd, no file of others."""
    paths = watch.paths
    paths.run.mkdir(parents=True)
    paths.history.mkdir(parents=True)
    for path in (paths.permit, paths.armed, paths.state_word, paths.log, *paths.intent()):
        path.write_text("of the monitor\n")
    apart = (paths.dry_run.run, paths.dry_run.history)
    before = files_of(paths.root, *apart)
    dry = DryRun(watch)
    eventually(lambda: dry.has_told("unknown -> standby: the primary answers"))
    watch.crash()
    eventually(lambda: dry.has_told("takeover -> active: all services run here"))
    assert dry.has_told("would start app.service")
    assert dry.has_told("app.service is running (imagined)")
    assert dry.paths.state_word.read_text() == "active_dead\n"
    watch.come_back()
    eventually(lambda: dry.has_told("would stop app.service"))
    eventually(lambda: dry.has_told("failback -> standby: all services are stopped here"))
    stop(dry.process)
    assert files_of(paths.root, *apart) == before
    assert watch.asked() == []
    assert not watch.hears("=")
    assert dry.process.stdout
    lines = dry.process.stdout.read().splitlines()
    assert lines
    assert all("] dry run: " in line for line in lines)


def test_a_dry_run_of_a_guard_raises_no_flag_of_the_guard(watch: Daemon) -> None:
    """On the primary: it would stop the services that run, and leaves them alone."""
    watch.be_primary(running=True)
    dry = DryRun(watch)
    eventually(lambda: dry.has_told("unknown -> serving: services ran here before the guard"))
    eventually(dry.paths.armed.exists)
    watch.far.nft(DROP.replace(f"ip daddr {FAR4} drop", "drop"))
    eventually(lambda: dry.has_told("would stop app.service"))
    eventually(lambda: dry.has_told("closing -> gated: all services are stopped here"))
    stop(dry.process)
    assert not watch.paths.permit.exists()
    assert not watch.paths.armed.exists()
    assert watch.asked() == []
    assert json.loads(watch.units.read_text()) == {APP: "running"}
    assert not watch.hears("WATCHDOG")


def test_a_dry_run_beside_the_monitor_says_the_same_at_the_same_time(watch: Daemon) -> None:
    """Both on the same traffic; only one of them acts."""
    process = watch.start()
    dry = DryRun(watch)
    eventually(lambda: watch.word() == "active_alive\n")
    eventually(lambda: dry.has_told("unknown -> standby: the primary answers"))
    watch.crash()
    eventually(lambda: watch.asked() == ["start app.service"])
    eventually(lambda: dry.has_told("takeover -> active: all services run here"))
    watch.come_back()
    eventually(lambda: watch.asked() == ["start app.service", "stop app.service"])
    eventually(lambda: dry.has_told("failback -> standby: all services are stopped here"))
    eventually(lambda: "failback -> standby: all services are stopped here" in watch.history())
    stop(dry.process)
    stop(process)
    real = watch.events()
    for kind in ("transition", "asked"):
        expected = [(event["at_s"], event["what"]) for event in real if event["kind"] == kind]
        found = [(event["at_s"], event["what"]) for event in dry.events() if event["kind"] == kind]
        would = "would " if kind == "asked" else ""
        assert [what for _, what in found] == [f"dry run: {would}{what}" for _, what in expected]
        for (found_s, _), (expected_s, _) in zip(found[1:], expected[1:], strict=True):
            assert abs(float(found_s) - float(expected_s)) < 1.0


def test_two_dry_runs_are_one_too_many(watch: Daemon) -> None:
    """Its lock is its own, and a lock all the same."""
    dry = DryRun(watch)
    eventually(lambda: dry.has_told("unknown -> standby: the primary answers"))
    second = DryRun(watch)
    assert second.process.wait(15) == 1
    assert second.process.stderr
    assert "another monitor holds" in second.process.stderr.read()
    dry.process.send_signal(signal.SIGTERM)
    assert dry.process.wait(15) == 0


def test_status_can_be_asked_of_the_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`status --dry-run` reads what the dry run wrote, `status` what the monitor did."""
    paths = Paths(tmp_path)
    monkeypatch.setattr(cli, "PATHS", paths)
    options = cli.parser().parse_args(["status", "--dry-run"])
    assert options.paths == paths.dry_run
    assert cli.parser().parse_args(["status"]).paths == paths
    assert cli.main(["status", "--dry-run"]) == 3
    assert "it has left no status" in capsys.readouterr().err


def test_the_monitor_itself_never_imports_a_dry_run_or_a_rehearsal() -> None:
    """What is not asked for is not carried."""
    script = (
        "import failover_monitor.daemon, sys;"
        "print(*(n for n in sys.modules if n.startswith('failover_monitor.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = done.stdout.split()
    assert "failover_monitor.monitor" in imported
    assert not [name for name in imported if "dry_run" in name or "rehearsal" in name]
