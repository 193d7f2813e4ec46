"""Hooks: the operator's own commands around a takeover and a failback, and for events.

Rule: one at a time and in order, each within its time limit, and nothing but a decision waits for
one.  What a takeover or a failback waits for comes before any event; an event's command that is
still running then is ended, and run again afterwards.

A hook is a transient unit of systemd's (`systemd-run`), not a child of ours: it runs outside of our
sandbox, as it does when it is tried by hand, with a cgroup of its own, so that nothing that it
leaves behind survives it, whatever becomes of this process.  docs/decisions/0009-hooks.md.
"""

import asyncio
import itertools
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from failover_monitor.commands import Ended, plain, run_command
from failover_monitor.events import Event, Kind
from failover_monitor.model import (
    Hooking,
    HookPolicy,
    HookSeen,
    HooksPolicy,
    HookTold,
    Moment,
    Phase,
    Transition,
)
from failover_monitor.ownership import unfit

AGAIN_S = 30.0  # between two tries of a veto that failed
EVENTS_KEPT = 100  # events that wait for their turn; further ones are dropped and counted
LOOK_S = 5.0  # the disk must show us who owns the command within this time
STOP_S = 1.0  # from SIGTERM to SIGKILL
CLEAR_S = 5.0  # limit of ending what an earlier process, or a run that was cut short, left behind
SLACK_S = 4.0  # beyond limit and stop: then systemd itself hangs, and we go on without it
UNIT = "failover-monitor-hook-"
CLEAR = ("/usr/bin/systemctl", "--no-ask-password", "stop", f"{UNIT}*.service")
RUNS_ON = ("/usr/bin/systemctl", "--quiet", "is-active", f"{UNIT}*.service")
STARTED_BY = "/usr/bin/systemd-run"
NUMBERS = itertools.count(1)

PRE_TAKEOVER, POST_TAKEOVER = "pre_takeover", "post_takeover"
PRE_FAILBACK, POST_FAILBACK = "pre_failback", "post_failback"
ON_EVENT = "on_event"
WAITED_FOR = (PRE_TAKEOVER, PRE_FAILBACK)
NOTHING_RUNS = 3  # systemctl(1): no unit is active
NOT_EXECUTED = 203  # systemd.exec(5): EXIT_EXEC


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One run of one hook."""

    name: str
    variables: Mapping[str, str]
    wish: int = 0  # of `pre_takeover`: the wish that it belongs to


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one run, and how long the command itself took."""

    ended: Ended
    took_s: float = 0.0


Launch = Callable[[Job, HookPolicy], Sequence[str]]


def transient(job: Job, hook: HookPolicy) -> Sequence[str]:
    """The words that run a hook as a unit of its own, and wait for it."""
    return (
        STARTED_BY,
        *("--quiet", "--wait", "--pipe", "--collect", "--no-ask-password"),
        f"--unit={UNIT}{job.name}-{os.getpid()}-{next(NUMBERS)}.service",
        f"--description=Hook {job.name} of failover-monitor",
        f"--property=RuntimeMaxSec={hook.timeout_s:g}",
        f"--property=TimeoutStopSec={STOP_S:g}",
        *(f"--setenv={name}={value}" for name, value in job.variables.items()),
        "--",
        *(word.replace("$", "$$") for word in hook.command),  # systemd expands $NAME in arguments
    )


class Hooks:
    """The hooks of one pair.  `changed` is called whenever something has become of one.

    `launch` gives the words that run one, `clear` those that end what an earlier run left behind,
    and `runs_on` those that end with `NOTHING_RUNS` when nothing was.
    """

    def __init__(
        self,
        policy: HooksPolicy,
        clock: Callable[[], float],
        changed: Callable[[], None],
        *,
        launch: Launch = transient,
        clear: Sequence[str] = CLEAR,
        runs_on: Sequence[str] = RUNS_ON,
    ) -> None:
        self.policy = policy
        self.told: list[HookTold] = []  # since the last look
        self.pre_takeover = HookSeen()
        self.pre_failback = HookSeen(Hooking.DONE, clock())
        self._clock = clock
        self._changed = changed
        self._launch = launch
        self._clear = clear
        self._runs_on = runs_on
        self._phases: deque[Job] = deque()
        self._events: deque[Job] = deque()
        self._dropped = 0
        self._takes_over = False  # the takeover that began has not been completed yet
        self._wanted = False  # pre_takeover is
        self._wish = 0  # its number
        self._job: Job | None = None  # the one that runs
        self._running: asyncio.Task[Run] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._unclear = True  # a unit of an earlier run may still be there

    # Ask.

    def reload(self, policy: HooksPolicy) -> None:
        """Go on under a new policy; nothing waits for a hook that was not asked in its time."""
        if self.policy.pre_failback is None:
            self.pre_failback = HookSeen(Hooking.DONE, self._clock())
        self.policy = policy

    def want(self, wanted: bool, moment: Moment) -> None:
        """Said in every turn.  True: run `pre_takeover` now.  False: forget its result.

        One that runs goes on to its end: half a change would be worse than a whole one.
        """
        if wanted is not self._wanted:
            self._wanted = wanted
            self._wish += 1
            self._phases = deque(job for job in self._phases if job.name != PRE_TAKEOVER)
            state = Hooking.RUNNING if wanted else Hooking.IDLE
            self.pre_takeover = HookSeen(state, self._clock())
            if wanted:
                self._ask(PRE_TAKEOVER, moment)
        self._begin()

    def moved(self, transition: Transition, moment: Moment) -> None:
        """The phase changed: ask for the hooks that belong there."""
        source, target = transition.source, transition.target
        if target is Phase.TAKEOVER and source is not Phase.ACTIVE:
            self._takes_over = True
        elif target is Phase.ACTIVE and self._takes_over:
            self._takes_over = False
            self._ask(POST_TAKEOVER, moment)
        elif target is Phase.FAILBACK:
            self._takes_over = False
            self._ask(PRE_FAILBACK, moment)
        elif source is Phase.FAILBACK and target is Phase.STANDBY:
            self._ask(POST_FAILBACK, moment)

    def pass_on(self, event: Event, moment: Moment) -> None:
        """Give an event to `on_event`; never one of `on_event` itself."""
        hook = self.policy.on_event
        own = event.kind is Kind.HOOK and event.fields.get("HOOK") == ON_EVENT
        if hook is None or own or event.level < hook.level:
            return
        if len(self._events) >= EVENTS_KEPT:
            self._dropped += 1
            return
        said = {
            "at_s": round(time.time(), 3),
            "kind": event.kind.name.lower(),
            "level": logging.getLevelName(event.level),
            "what": event.sentence,
            **event.fields,
        }
        more = {"FAILOVER_WHY": plain(event.sentence), "FAILOVER_EVENT": json.dumps(said)}
        self._put(self._job_of(ON_EVENT, moment, **more))

    @property
    def owed(self) -> tuple[str, ...]:
        """What the next process should run if this one ends now."""
        running = [self._job] if self._job else []
        names = [job.name for job in (*running, *self._phases)]
        owed = [name for name in names if name not in (PRE_TAKEOVER, ON_EVENT)]
        if self._takes_over:
            owed.append(POST_TAKEOVER)
        return tuple(dict.fromkeys(owed))

    def resume(self, owed: Iterable[str], moment: Moment) -> None:
        """Go on with what an earlier process owed."""
        for name in owed:
            if name == POST_TAKEOVER and moment.phase is Phase.TAKEOVER:
                self._takes_over = True
            elif name in (POST_TAKEOVER, PRE_FAILBACK, POST_FAILBACK):
                self._ask(name, moment)

    def leave(self) -> None:
        """Wait for nothing any more; a unit that runs ends by itself, within its time limit."""
        self._wanted = False
        self._phases.clear()
        self._events.clear()
        if self._worker:
            self._worker.cancel()

    # The queue.

    def _job_of(self, name: str, moment: Moment, **more: str) -> Job:
        variables = {
            "FAILOVER_HOOK": name,
            "FAILOVER_PHASE": moment.phase.value,
            "FAILOVER_VERDICT": moment.verdict.value,
            "FAILOVER_PRIMARY": " ".join(moment.policy.primary),
            "FAILOVER_SERVICES": " ".join(moment.policy.services),
            "FAILOVER_WHY": plain(moment.why),
        }
        return Job(name, variables | more, self._wish if name == PRE_TAKEOVER else 0)

    def _ask(self, name: str, moment: Moment) -> None:
        if getattr(self.policy, name) is None:
            return
        if name == PRE_FAILBACK:
            self.pre_failback = HookSeen(Hooking.RUNNING, self._clock())
        self._put(self._job_of(name, moment))

    def _put(self, job: Job) -> None:
        (self._events if job.name == ON_EVENT else self._phases).append(job)
        if job.name in WAITED_FOR and self._job and self._job.name == ON_EVENT and self._running:
            self._running.cancel()
        self._changed()  # the next turn begins it: there may be no event loop yet

    def _again(self, job: Job) -> None:
        if job.wish == self._wish and self._wanted:
            self._put(job)

    def _begin(self) -> None:
        if (self._phases or self._events) and (self._worker is None or self._worker.done()):
            self._worker = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while found := self._next():
            job, hook = found
            self._running = asyncio.create_task(self._run(job, hook))
            await asyncio.wait({self._running})
            if self._running.cancelled():  # by `_put`: something more urgent is next
                self._events.appendleft(job)
                continue
            failure = self._running.exception()
            lost = Run(Ended(None, why=f"cannot run it: {failure!r}"))
            self._ended(job, hook, lost if failure else self._running.result())

    def _next(self) -> tuple[Job, HookPolicy] | None:
        """Take the job that is to run now; one whose hook has left the configuration is none."""
        self._job = None
        self._changed()
        while queue := self._phases or self._events:
            job = queue.popleft()
            hook: HookPolicy | None = getattr(self.policy, job.name)
            if hook:
                self._job = job
                if job.name != ON_EVENT:
                    self._tell(HookTold(name=job.name, state=Hooking.RUNNING))
                return job, hook
        return None

    async def _run(self, job: Job, hook: HookPolicy) -> Run:
        if refused := await looked_at(hook.command):
            return Run(Ended(None, why=refused))
        if self._unclear:
            await run_command(self._clear, timeout_s=CLEAR_S)
        self._unclear = True
        began_s = self._clock()
        limit_s = hook.timeout_s + STOP_S + SLACK_S
        ended = await run_command(self._launch(job, hook), timeout_s=limit_s)
        took_s = self._clock() - began_s
        # A systemd that is re-executed meanwhile makes systemd-run end at once, with success.
        if ended.status == 0 and job.name in WAITED_FOR:
            runs_on = await run_command(self._runs_on, timeout_s=CLEAR_S)
            if runs_on.status != NOTHING_RUNS:
                return Run(Ended(None, why="systemd lost sight of it while it ran"), took_s)
        self._unclear = ended.status is None or ended.status < 0  # it went, its unit may not have
        return Run(ended, took_s)

    def _ended(self, job: Job, hook: HookPolicy, run: Run) -> None:
        """Tell what became of it, and let who waits for it see it."""
        failed = run.ended.status != 0
        state = Hooking.FAILED if failed else Hooking.DONE
        why = said(run, hook) if failed else run.ended.last_line
        current = job.name == PRE_TAKEOVER and self._wanted and job.wish == self._wish
        present = self.policy.pre_takeover  # a reload may have changed it meanwhile
        holds = failed and current and present is not None and present.veto
        if current:
            since_s = self._clock()
            if state is self.pre_takeover.state:
                since_s = self.pre_takeover.since_s
            self.pre_takeover = HookSeen(state, since_s, why)
        elif job.name == PRE_FAILBACK and all(other.name != PRE_FAILBACK for other in self._phases):
            self.pre_failback = HookSeen(state, self._clock(), why)
        if holds:
            self._later(AGAIN_S, job)
        dropped = 0
        if job.name == ON_EVENT:
            dropped, self._dropped = self._dropped, 0
            if not failed and not dropped:
                return
        told = HookTold(
            name=job.name, state=state, why=why, took_s=run.took_s, holds=holds, dropped=dropped
        )
        self._tell(told)

    def _later(self, after_s: float, job: Job) -> None:
        asyncio.get_running_loop().call_later(after_s, self._again, job)

    def _tell(self, told: HookTold) -> None:
        self.told.append(told)
        self._changed()


async def looked_at(command: Sequence[str]) -> str:
    """Why the command must not be run; "" = it may.  The disk that it lies on may hang."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def answered(why: str) -> None:
        if not answer.done():
            answer.set_result(why)

    def look() -> None:
        try:
            why = unfit(command)
        except OSError as error:
            why = f"cannot look at {error.filename}: {error.strerror}"
        with suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(answered, why)

    threading.Thread(target=look, daemon=True).start()
    await asyncio.wait({answer}, timeout=LOOK_S)
    return answer.result() if answer.done() else f"cannot look at {command[0]}: its disk hangs"


def said(run: Run, hook: HookPolicy) -> str:
    """Why it failed, in our words and the command's last ones."""
    ended, why = run.ended, run.ended.why
    if run.took_s >= hook.timeout_s:
        why = f"it did not end within {hook.timeout_s:g} s"
    elif ended.status == NOT_EXECUTED:
        why = "it cannot be executed"
    return replace(ended, why=why).complaint
