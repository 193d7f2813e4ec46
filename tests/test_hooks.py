"""Hooks: real commands that succeed, fail, hang, flood, and are not root's alone.

Rule: systemd has no part here; `direct` runs a hook as a child, with the same environment.  What
only systemd does (limits, leftovers, the way out of the sandbox) is tried in tests/lab/test_hooks.
"""

import asyncio
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from failover_monitor import hooks, ownership
from failover_monitor.commands import run_command
from failover_monitor.events import CRITICAL, ERROR, INFO, WARNING, Event, Kind, of_hook
from failover_monitor.hooks import ON_EVENT, Hooks, Job, transient
from failover_monitor.model import (
    Hooking,
    HookPolicy,
    HooksPolicy,
    HookTold,
    Moment,
    Phase,
    Transition,
    Verdict,
)
from failover_monitor.ownership import distrust, unfit
from failover_monitor.rehearsal.toys import ToyHooks
from tests.world import World, policy_of

SOON_S = 10.0  # until then what must come has come, also on a busy machine
POLICY = policy_of(services=("a.service", "b.service"))
CLAIM = Moment(Phase.CLAIM, Verdict.DOWN, "3 checks in a row failed", POLICY)
TAKEOVER = Transition(Phase.CLAIM, Phase.TAKEOVER, "the hook pre_takeover has ended", "hook_ended")
ACTIVE = Transition(Phase.TAKEOVER, Phase.ACTIVE, "all services run here", "all_running")
RESTART = Transition(Phase.ACTIVE, Phase.TAKEOVER, "a service stopped", "one_not_running")
FAILBACK = Transition(Phase.ACTIVE, Phase.FAILBACK, "the primary is back", "primary_back")
STANDBY = Transition(Phase.FAILBACK, Phase.STANDBY, "all services are stopped here", "all_at_rest")
NAMES = ("pre_takeover", "post_takeover", "pre_failback", "post_failback", "on_event")


def direct(job: Job, hook: HookPolicy) -> Sequence[str]:
    words = (f"{name}={value}" for name, value in job.variables.items())
    return ("/usr/bin/env", *words, *hook.command)


NOTHING_RUNS = ("/bin/sh", "-c", f"exit {hooks.NOTHING_RUNS}")


class Stage:
    """A directory of scripts, and the hooks that run them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wanted = False
        self.runs_on: tuple[str, ...] = NOTHING_RUNS
        self.changes = 0
        self.told: list[HookTold] = []
        self.hooks = self.made(HooksPolicy())

    def made(self, policy: HooksPolicy) -> Hooks:
        self.hooks = Hooks(
            policy,
            time.monotonic,
            self._changed,
            launch=direct,
            clear=("/bin/true",),
            runs_on=self.runs_on,
        )
        return self.hooks

    def hook(self, script: str, name: str = "hook", **keys: Any) -> HookPolicy:
        """A command that does this, with its own name as its argument."""
        file = self.path / name
        file.write_text(f'#!/bin/sh\ncd "${{0%/*}}"\n{script}\n')
        file.chmod(0o755)
        return HookPolicy(command=(str(file), name), **keys)

    def chmod(self, hook: HookPolicy, mode: int) -> None:
        Path(hook.command[0]).chmod(mode)

    def turn(self) -> None:
        self.hooks.want(self.wanted, CLAIM)
        told, self.hooks.told = self.hooks.told, []
        self.told += told

    def moved(self, *transitions: Transition) -> None:
        for transition in transitions:
            moment = Moment(transition.target, Verdict.DOWN, transition.because, POLICY)
            self.hooks.moved(transition, moment)

    def event(self, sentence: str, level: int = WARNING, kind: Kind = Kind.HELD) -> None:
        self.hooks.pass_on(Event(kind, level, sentence, {"UNIT": "a.service"}), CLAIM)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        begun_s = time.monotonic()
        while not condition():
            assert time.monotonic() - begun_s < SOON_S, f"{what}: {self.told} {self.runs}"
            self.turn()
            await asyncio.sleep(0.01)
        self.turn()

    async def ended(self, name: str) -> HookTold:
        """Wait until this hook has ended; what was told of it."""

        def found() -> list[HookTold]:
            return [t for t in self.told if t.name == name and t.state is not Hooking.RUNNING]

        await self.until(found, f"{name} has ended")
        return found()[-1]

    @property
    def runs(self) -> list[str]:
        file = self.path / "runs"
        return file.read_text().splitlines() if file.exists() else []

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(hooks, "AGAIN_S", 0.1)
    monkeypatch.setattr(hooks, "STOP_S", 0.0)
    monkeypatch.setattr(hooks, "SLACK_S", 0.0)
    return Stage(tmp_path)


# What a hook is given.


async def test_a_hook_is_told_what_it_is_run_for(stage: Stage) -> None:
    """Its name, phase, verdict, hosts, services and reason; no event outside of on_event."""
    stage.made(HooksPolicy(pre_takeover=stage.hook("env >env")))
    stage.wanted = True
    await stage.ended("pre_takeover")
    given = dict(line.split("=", 1) for line in (stage.path / "env").read_text().splitlines())
    given.pop("FAILOVER_LAB_RUN", None)  # of the room that tests run in
    assert {name: value for name, value in given.items() if name.startswith("FAILOVER_")} == {
        "FAILOVER_HOOK": "pre_takeover",
        "FAILOVER_PHASE": "claim",
        "FAILOVER_VERDICT": "down",
        "FAILOVER_PRIMARY": "198.51.100.2",
        "FAILOVER_SERVICES": "a.service b.service",
        "FAILOVER_WHY": "3 checks in a row failed",
    }


async def test_arguments_are_no_shells(stage: Stage) -> None:
    """Nothing is expanded, split or run."""
    words = ("$HOME", "*", "a b", "; touch broken", "`id`", "%n")
    policy = stage.hook('printf "%s\\n" "$@" >runs')
    hook = HookPolicy(command=(policy.command[0], *words))
    stage.made(HooksPolicy(pre_takeover=hook))
    stage.wanted = True
    await stage.ended("pre_takeover")
    assert stage.runs == list(words)


def test_systemd_is_asked_for_a_unit_with_the_hooks_own_limit() -> None:
    """Dollars are doubled, since systemd expands them; what comes after -- is the command."""
    hook = HookPolicy(command=("/bin/hook", "$HOME", "--wait"), timeout_s=12.5)
    words = list(transient(Job("pre_takeover", {"FAILOVER_WHY": "a b=c"}), hook))
    assert words[words.index("--") + 1 :] == ["/bin/hook", "$$HOME", "--wait"]
    assert "--property=RuntimeMaxSec=12.5" in words
    assert "--setenv=FAILOVER_WHY=a b=c" in words
    (unit,) = (word for word in words if word.startswith("--unit="))
    other = transient(Job("pre_takeover", {}), hook)
    assert unit.startswith("--unit=failover-monitor-hook-pre_takeover-")
    assert unit not in other


# One at a time, in order.


async def test_hooks_run_one_at_a_time_and_in_order(stage: Stage) -> None:
    """None overtakes another, however quickly the phases change."""
    script = 'echo "begin $1" >>runs; sleep 0.05; echo "end $1" >>runs'
    stage.made(HooksPolicy(**{name: stage.hook(script, name) for name in NAMES[:4]}))
    stage.moved(TAKEOVER, ACTIVE, RESTART, ACTIVE, FAILBACK, STANDBY)
    await stage.ended("post_failback")
    order = ("post_takeover", "pre_failback", "post_failback")
    assert stage.runs == [f"{verb} {name}" for name in order for verb in ("begin", "end")]


async def test_a_takeover_comes_before_the_events_that_wait(stage: Stage) -> None:
    """A queue of messages must not delay it."""
    named = {name: stage.hook('echo "$1" >>runs', name) for name in ("pre_takeover", ON_EVENT)}
    stage.made(HooksPolicy(**named))
    stage.event("one")
    stage.event("two")
    stage.wanted = True
    await stage.until(lambda: len(stage.runs) == 3, "all have run")
    assert stage.runs == ["pre_takeover", "on_event", "on_event"]


async def test_a_takeover_ends_the_event_that_is_told_and_it_is_told_again(stage: Stage) -> None:
    """A message that hangs delays nobody, and is not lost."""
    hang = stage.hook('echo "$1" >>runs; test -e pre || exec sleep 300', ON_EVENT)
    first = stage.hook('touch pre; echo "$1" >>runs', "pre_takeover")
    stage.made(HooksPolicy(pre_takeover=first, on_event=hang))
    stage.event("one")
    await stage.until(lambda: stage.runs == ["on_event"], "the event is being told")
    stage.wanted = True
    await stage.until(lambda: len(stage.runs) == 3, "all have run")
    assert stage.runs == ["on_event", "pre_takeover", "on_event"]


async def test_a_takeover_is_complete_once(stage: Stage) -> None:
    """A service that is restarted is no second takeover."""
    stage.made(HooksPolicy(post_takeover=stage.hook("echo ran >>runs")))
    stage.moved(TAKEOVER, ACTIVE)
    await stage.ended("post_takeover")
    stage.told.clear()
    stage.moved(RESTART, ACTIVE)
    stage.turn()
    assert stage.hooks.owed == ()
    stage.moved(FAILBACK, STANDBY, TAKEOVER, ACTIVE)
    await stage.ended("post_takeover")
    assert stage.runs == ["ran", "ran"]


# What a takeover and a failback wait for.


async def test_a_veto_is_tried_again_until_it_succeeds(stage: Stage) -> None:
    """Every failure is told, and that it holds the takeover."""
    script = "echo try >>runs; test $(wc -l <runs) -ge 3 || { echo not yet; exit 4; }"
    stage.made(HooksPolicy(pre_takeover=stage.hook(script, veto=True)))
    stage.wanted = True
    told = await stage.ended("pre_takeover")
    assert (told.state, told.holds) == (Hooking.FAILED, True)
    assert told.why == "it ended with status 4: not yet"
    await stage.until(lambda: stage.hooks.pre_takeover.state is Hooking.DONE, "it succeeded")
    await asyncio.sleep(0.3)
    assert len(stage.runs) == 3


async def test_a_failure_without_veto_is_final(stage: Stage) -> None:
    """Nothing waits for a second try, so there is none."""
    stage.made(HooksPolicy(pre_takeover=stage.hook("echo try >>runs; exit 1")))
    stage.wanted = True
    told = await stage.ended("pre_takeover")
    assert not told.holds
    assert stage.hooks.pre_takeover.state is Hooking.FAILED
    await asyncio.sleep(0.3)
    assert stage.runs == ["try"]


async def test_a_wish_that_is_taken_back_lets_the_hook_end_and_forgets_it(stage: Stage) -> None:
    """Half a change is worse than a whole one; its success is no answer for the next verdict."""
    script = "echo begin >>runs; until test -e go; do sleep 0.01; done; echo end >>runs"
    stage.made(HooksPolicy(pre_takeover=stage.hook(script)))
    stage.wanted = True
    await stage.until(lambda: stage.runs == ["begin"], "it runs")
    stage.wanted = False
    stage.turn()
    (stage.path / "go").touch()
    await stage.ended("pre_takeover")
    assert stage.runs == ["begin", "end"]
    assert stage.hooks.pre_takeover.state is Hooking.IDLE
    stage.wanted = True
    await stage.until(lambda: stage.hooks.pre_takeover.state is Hooking.DONE, "it ran anew")
    assert len(stage.runs) == 4


async def test_a_veto_that_nobody_waits_for_is_not_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The primary answered meanwhile."""
    monkeypatch.setattr(hooks, "AGAIN_S", 1.0)
    stage.made(HooksPolicy(pre_takeover=stage.hook("echo try >>runs; exit 1", veto=True)))
    stage.wanted = True
    await stage.ended("pre_takeover")
    stage.wanted = False
    stage.turn()
    await asyncio.sleep(1.2)
    stage.turn()
    assert stage.runs == ["try"]


async def test_a_failback_sees_its_hook_end(stage: Stage) -> None:
    """From the moment it is asked for until it has ended it is under way."""
    stage.made(HooksPolicy(pre_failback=stage.hook("exit 0")))
    before_s = stage.hooks.pre_failback.since_s
    stage.moved(FAILBACK)
    assert stage.hooks.pre_failback.state is Hooking.RUNNING
    await stage.ended("pre_failback")
    seen = stage.hooks.pre_failback
    assert (seen.state, seen.since_s > before_s) == (Hooking.DONE, True)


async def test_a_failback_does_not_take_an_earlier_ones_hook_for_its_own(stage: Stage) -> None:
    """The primary came, went and came again while the first one ran."""
    script = "echo begin >>runs; until test -e go; do sleep 0.01; done; rm go"
    stage.made(HooksPolicy(pre_failback=stage.hook(script)))
    stage.moved(FAILBACK, TAKEOVER)
    await stage.until(lambda: stage.runs == ["begin"], "the first one runs")
    stage.moved(FAILBACK)
    (stage.path / "go").touch()
    await stage.until(lambda: len(stage.runs) == 2, "the second one runs")
    assert stage.hooks.pre_failback.state is Hooking.RUNNING
    (stage.path / "go").touch()
    await stage.until(lambda: stage.hooks.pre_failback.state is Hooking.DONE, "it has ended")


# Hooks that misbehave.


@pytest.mark.parametrize("script", ["sleep 300", "trap '' TERM; echo hangs; while :; do :; done"])
async def test_a_hook_that_hangs_is_ended_and_the_next_one_runs(stage: Stage, script: str) -> None:
    """Also one that ignores SIGTERM; what it said is kept."""
    named = {"post_takeover": stage.hook(f"echo last; {script}", timeout_s=2.0)}
    named["pre_failback"] = stage.hook("echo ran >>runs", "pre_failback")
    stage.made(HooksPolicy(**named))
    stage.moved(TAKEOVER, ACTIVE, FAILBACK)
    told = await stage.ended("post_takeover")
    assert told.state is Hooking.FAILED
    assert told.why.startswith("it did not end within 2 s: ")
    await stage.until(lambda: stage.runs == ["ran"], "the next one ran")


async def test_a_flood_of_output_is_read_and_forgotten(stage: Stage) -> None:
    """A hundred megabytes: the last line is kept, and no more memory than for a line."""
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    script = "head -c 100000000 /dev/zero; echo; echo done"
    stage.made(HooksPolicy(post_takeover=stage.hook(script)))
    stage.moved(TAKEOVER, ACTIVE)
    told = await stage.ended("post_takeover")
    assert (told.state, told.why) == (Hooking.DONE, "done")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 20_000


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/nonexistent/hook", "/nonexistent/hook does not exist"),
        ("/etc/passwd", "/etc/passwd is not executable"),
        ("/etc", "/etc is not a file"),
    ],
)
async def test_what_cannot_be_run_is_a_failed_hook(stage: Stage, command: str, why: str) -> None:
    """Named, told at ERROR, and the end of it."""
    stage.made(HooksPolicy(post_takeover=HookPolicy(command=(command,))))
    stage.moved(TAKEOVER, ACTIVE)
    told = await stage.ended("post_takeover")
    event = of_hook(told)
    assert (event.level, event.sentence) == (ERROR, f"hook post_takeover failed: {why}")


async def test_a_disk_that_hangs_is_a_failed_hook(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can look who owns the command: it is not run, and nothing waits for the disk."""
    hangs = threading.Event()
    monkeypatch.setattr(hooks, "unfit", lambda _command: hangs.wait(SOON_S) and "")
    monkeypatch.setattr(hooks, "LOOK_S", 0.05)
    stage.made(HooksPolicy(post_takeover=stage.hook("echo ran >>runs")))
    stage.moved(TAKEOVER, ACTIVE)
    told = await stage.ended("post_takeover")
    hangs.set()
    assert told.why.endswith("its disk hangs")
    assert stage.runs == []


@pytest.mark.parametrize("runs_on", ["exit 0", "exit 1", "sleep 60"])
async def test_a_success_that_systemd_only_seems_to_tell_is_none(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, runs_on: str
) -> None:
    """The unit runs on: systemd was re-executed, and systemd-run ended with 0 at once.

    Who cannot be asked whether it does has not said that it does not.
    """
    monkeypatch.setattr(hooks, "CLEAR_S", 0.5)
    stage.runs_on = ("/bin/sh", "-c", runs_on)
    stage.made(HooksPolicy(pre_takeover=stage.hook("exit 0", veto=True)))
    stage.wanted = True
    told = await stage.ended("pre_takeover")
    assert (told.state, told.holds) == (Hooking.FAILED, True)
    assert told.why == "systemd lost sight of it while it ran"


async def test_a_veto_that_a_reload_brings_holds_and_is_tried_again(stage: Stage) -> None:
    """The run began without it: its end is judged by what is wanted now."""
    stage.made(HooksPolicy(pre_takeover=stage.hook("echo ran >>runs; sleep 0.2; exit 1")))
    stage.wanted = True
    await stage.until(lambda: stage.runs, "it runs")
    veto = stage.hook("echo again >>runs", veto=True)
    stage.hooks.reload(HooksPolicy(pre_takeover=veto))
    assert (await stage.ended("pre_takeover")).holds
    await stage.until(lambda: stage.hooks.pre_takeover.state is Hooking.DONE, "it lets go")
    assert stage.runs[0] == "ran"


async def test_a_hook_that_comes_with_a_reload_was_not_asked_in_its_time(stage: Stage) -> None:
    """The failback is under way: nothing waits for what nobody runs."""
    stage.made(HooksPolicy())
    began_s = time.monotonic()
    stage.moved(FAILBACK)
    stage.hooks.reload(HooksPolicy(pre_failback=stage.hook("echo ran >>runs")))
    seen = stage.hooks.pre_failback
    assert seen.state is Hooking.DONE
    assert seen.since_s > began_s


async def test_a_fault_of_our_own_is_a_failed_hook(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A takeover that waits for it does not wait for ever."""

    async def broken(*_words: object, **_options: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(hooks, "run_command", broken)
    stage.made(HooksPolicy(pre_takeover=stage.hook("exit 0")))
    stage.wanted = True
    told = await stage.ended("pre_takeover")
    assert "can't start new thread" in told.why
    assert stage.hooks.pre_takeover.state is Hooking.FAILED
    monkeypatch.setattr(hooks, "run_command", run_command)


# Events.


async def test_an_event_is_passed_on_as_json(stage: Stage) -> None:
    """With the fields that the journal has."""
    stage.made(HooksPolicy(on_event=stage.hook('echo "$FAILOVER_EVENT" >>runs')))
    stage.event("a.service does not run", CRITICAL, Kind.SERVICE_FAILED)
    await stage.until(lambda: stage.runs, "it was told")
    said = json.loads(stage.runs[0])
    assert said.pop("at_s") == pytest.approx(time.time(), abs=SOON_S)
    assert said == {
        "kind": "service_failed",
        "level": "CRITICAL",
        "what": "a.service does not run",
        "UNIT": "a.service",
    }


async def test_less_serious_events_are_not_passed_on(stage: Stage) -> None:
    """`level` is the least that is."""
    stage.made(HooksPolicy(on_event=stage.hook('echo "$FAILOVER_WHY" >>runs', level=ERROR)))
    for level in (INFO, WARNING, ERROR, CRITICAL):
        stage.event(str(level), level)
    await stage.until(lambda: len(stage.runs) == 2, "two were told")
    await asyncio.sleep(0.1)
    stage.turn()
    assert stage.runs == [str(ERROR), str(CRITICAL)]


async def test_a_failure_of_on_event_does_not_feed_itself(stage: Stage) -> None:
    """Its failure is told, and not to itself; that of another hook is."""
    stage.made(HooksPolicy(on_event=stage.hook('echo "$FAILOVER_WHY" >>runs; exit 1')))
    stage.event("one")
    told = await stage.ended(ON_EVENT)
    stage.hooks.pass_on(of_hook(told), CLAIM)
    other = HookTold(name="post_takeover", state=Hooking.FAILED, why="no")
    stage.hooks.pass_on(of_hook(other), CLAIM)
    await stage.until(lambda: len(stage.runs) == 2, "the other one was told")
    await asyncio.sleep(0.1)
    stage.turn()
    assert stage.runs == ["one", "hook post_takeover failed: no"]


async def test_events_that_find_no_room_are_counted_and_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is bounded; the first ones are kept, for they say how it began."""
    monkeypatch.setattr(hooks, "EVENTS_KEPT", 3)
    stage.made(HooksPolicy(on_event=stage.hook('echo "$FAILOVER_WHY" >>runs')))
    for number in range(10):
        stage.event(f"event {number}")
    told = await stage.ended(ON_EVENT)
    await stage.until(lambda: len(stage.runs) == 3, "what was kept was told")
    assert stage.runs == ["event 0", "event 1", "event 2"]
    event = of_hook(told)
    assert event.level == WARNING
    assert "7 events were not passed on" in event.sentence


# Lives of the monitor.


async def test_what_a_process_owed_the_next_one_runs(stage: Stage) -> None:
    """Hooks that waited or ran; a takeover that is not complete yet is remembered as one."""
    policy = HooksPolicy(**{name: stage.hook('echo "$1" >>runs', name) for name in NAMES[:4]})
    stage.made(policy)
    stage.moved(TAKEOVER)
    halfway = stage.hooks.owed
    stage.moved(ACTIVE, FAILBACK)
    owed = stage.hooks.owed
    assert (halfway, owed) == (("post_takeover",), ("post_takeover", "pre_failback"))
    stage.made(policy).resume(owed, Moment(Phase.FAILBACK, Verdict.UP, "", POLICY))
    assert stage.hooks.pre_failback.state is Hooking.RUNNING
    await stage.ended("pre_failback")
    assert stage.runs == ["post_takeover", "pre_failback"]
    stage.made(policy).resume(halfway, replace(CLAIM, phase=Phase.TAKEOVER))
    stage.moved(ACTIVE)
    assert stage.hooks.owed == ("post_takeover",)


async def test_what_was_left_behind_is_ended_before_anything_runs(stage: Stage) -> None:
    """By an earlier process, or by a run that was cut short; not before every run."""
    clear = stage.hook("echo clear >>runs", "clear")
    policy = HooksPolicy(post_takeover=stage.hook("echo ran >>runs"))
    stage.hooks = Hooks(policy, time.monotonic, lambda: None, launch=direct, clear=clear.command)
    for _ in range(2):
        stage.moved(FAILBACK, STANDBY, TAKEOVER, ACTIVE)
        stage.told.clear()
        await stage.ended("post_takeover")
    assert stage.runs == ["clear", "ran", "ran"]


async def test_a_hook_that_leaves_the_configuration_is_not_run(stage: Stage) -> None:
    """The rest of the queue is."""
    both = {name: stage.hook('echo "$1" >>runs', name) for name in ("post_takeover", ON_EVENT)}
    stage.made(HooksPolicy(**both))
    stage.moved(TAKEOVER, ACTIVE)
    stage.event("one")
    stage.hooks.policy = HooksPolicy(on_event=both[ON_EVENT])
    await stage.until(lambda: stage.runs, "the event was told")
    assert stage.runs == ["on_event"]


async def test_who_leaves_waits_for_nothing(stage: Stage) -> None:
    """What waits is forgotten; nothing is started any more."""
    stage.made(HooksPolicy(post_takeover=stage.hook("echo ran >>runs")))
    stage.moved(TAKEOVER, ACTIVE)
    stage.hooks.leave()
    stage.turn()
    await asyncio.sleep(0.1)
    assert stage.runs == []


# In the monitor.


def told_of(world: World) -> list[str]:
    """What on_event was told, in order."""
    assert world.monitor
    made = world.monitor.protections.hooks
    assert isinstance(made, ToyHooks)
    return [job.variables["FAILOVER_WHY"] for job in made.ran if job.name == ON_EVENT]


@pytest.mark.parametrize("how", ["succeeds", "fails"])
def test_the_monitor_passes_its_events_on_and_its_hooks_failures_feed_nothing(how: str) -> None:
    """A verdict, each serious change of phase; a command that always fails makes no events."""
    hook = HookPolicy(command=("hook",))
    world = World(policy_of(hooks=HooksPolicy(on_event=hook)))
    world.hook_plan[ON_EVENT] = how, 1.0
    world.begin()
    world.run_until(10.0)
    world.hosts["198.51.100.2"].up = False
    world.run_until(1000.0)
    verdict, *moves = told_of(world)
    assert verdict.startswith("verdict down: 3 checks in a row failed")
    assert moves == [
        "standby -> takeover: the primary stopped answering",
        "takeover -> active: all services run here",
    ]


def test_without_hooks_nothing_of_them_is_kept() -> None:
    """Neither in memory nor in what the next process reads."""
    world = World(policy_of())
    world.begin()
    world.run_until(10.0)
    assert world.monitor
    assert world.monitor.protections.hooks is None
    assert world.recorder.last_intent is not None
    assert "hooks" not in world.recorder.last_intent


# Whose files they are.


def test_a_command_of_roots_alone_is_trusted(stage: Stage) -> None:
    """As every program of the system is."""
    assert unfit(stage.hook("exit 0").command) == ""
    assert unfit((sys.executable, "/etc/passwd", "no/path", "/nonexistent", "/dev/null")) == ""


@pytest.mark.parametrize(("mode", "who"), [(0o775, "its group"), (0o757, "everybody")])
async def test_a_script_that_others_may_write_is_refused_by_name(
    stage: Stage, mode: int, who: str
) -> None:
    """Looked at before each run: it was good when it ran last."""
    hook = stage.hook("echo ran >>runs")
    stage.made(HooksPolicy(post_takeover=hook))
    stage.moved(TAKEOVER, ACTIVE)
    await stage.ended("post_takeover")
    stage.chmod(hook, mode)
    stage.told.clear()
    stage.moved(FAILBACK, STANDBY, TAKEOVER, ACTIVE)
    told = await stage.ended("post_takeover")
    assert told.why == f"{hook.command[0]} can be written by {who}"
    assert stage.runs == ["ran"]


def test_every_directory_above_is_looked_at(stage: Stage) -> None:
    """Who may write a directory may put another file in the place of one in it."""
    inner = stage.path / "inner"
    inner.mkdir()
    script = inner / "hook"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert distrust((str(script),)) == ""
    inner.chmod(0o775)
    assert distrust((str(script),)) == f"{inner} can be written by its group"
    inner.chmod(0o1777)
    assert distrust((str(script),)) == ""
    os.chown(inner, 65534, 0)
    assert distrust((str(script),)) == f"{inner} belongs to nobody, not to root"


def test_links_are_followed_and_looked_at(stage: Stage) -> None:
    """Where they lead, and whose they are; a ring of them ends."""
    real, link, ring = stage.path / "real", stage.path / "link", stage.path / "ring"
    real.write_text("#!/bin/sh\n")
    link.symlink_to("../" + stage.path.name + "/real")
    assert distrust((str(link),)) == ""
    os.chown(link, 65534, 65534, follow_symlinks=False)
    assert distrust((str(link),)) == f"{link} belongs to nobody, not to root"
    os.chown(link, 0, 0, follow_symlinks=False)
    real.chmod(0o666)
    assert distrust((str(link),)) == f"{real} can be written by everybody"
    ring.symlink_to(ring)
    assert list(ownership.faults(str(ring))) == [f"{ring} leads through too many links"]


def test_a_script_behind_its_interpreter_is_looked_at(stage: Stage) -> None:
    """`/bin/sh /path/of/script` runs the script."""
    script = stage.path / "script"
    script.write_text("true\n")
    os.chown(script, 123456, 0)
    assert unfit(("/bin/sh", str(script))) == f"{script} belongs to user 123456, not to root"
