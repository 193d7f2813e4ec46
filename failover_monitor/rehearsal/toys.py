"""Toy protections: what the runner, the fence and the lease's engine are in the toy world.

Rule: they answer in virtual time, as the real ones do in real time; `due_s` says when one has
something new, `advance` makes it so.  Health and keeper are the production code.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from failover_monitor.commands import Ended
from failover_monitor.fence import AGAIN_S, PAUSES_S
from failover_monitor.hooks import Hooks, Job, Run
from failover_monitor.leases.keeper import ANSWER_SHARE, Ask, Reply, Wish
from failover_monitor.model import (
    INF,
    CheckSeen,
    FencePolicy,
    FenceSeen,
    Fencing,
    HookPolicy,
    HooksPolicy,
    LeasePolicy,
    Outcome,
    Policy,
    ServiceCheck,
)
from failover_monitor.protections import Changed, Clock, Doors

if TYPE_CHECKING:
    from failover_monitor.rehearsal.world import World

CHECK_TAKES_S = 0.01
HURRY_S = 1.0
SUCCEEDS = ("succeeds", 1.0)  # a hook, and how long it takes
OTHER = "other"  # who else may hold the lease
SAYS = {"passes": Outcome.PASS, "fails": Outcome.FAIL, "unknown": Outcome.UNKNOWN}


class Toy(Protocol):
    """Something with a time of its own."""

    def due_s(self) -> float: ...
    def advance(self) -> None: ...


# Service checks.


@dataclass
class Asked:
    """One service check's rhythm."""

    check: ServiceCheck
    next_s: float
    began_s: float = -INF
    ends_s: float = INF  # inf: nothing is asked right now


class ToyRunner:
    """Asks every service check; the answers are in `World.says`."""

    def __init__(self, world: "World", checks: Sequence[ServiceCheck]) -> None:
        self.world = world
        self.asked = [Asked(check, world.now_s) for check in checks]
        self.heard: list[CheckSeen] = []
        self._hurry = False

    @property
    def hurry(self) -> bool:
        return self._hurry

    @hurry.setter
    def hurry(self, hurry: bool) -> None:
        if hurry and not self._hurry:
            for asked in self.asked:
                asked.next_s = min(asked.next_s, self.world.now_s)
        self._hurry = hurry

    async def run(self) -> None:
        """Time passes in the world, which calls `advance`."""

    def receive(self) -> list[CheckSeen]:
        heard, self.heard = self.heard, []
        return heard

    def due_s(self) -> float:
        moments = (a.next_s if a.ends_s == INF else a.ends_s for a in self.asked)
        return min(moments, default=INF)

    def advance(self) -> None:
        now_s = self.world.now_s
        for asked in self.asked:
            check = asked.check
            how = self.world.says.get(check.name, "passes")
            if asked.ends_s <= now_s:
                outcome = SAYS.get(how, Outcome.UNKNOWN)
                seen = CheckSeen(check.name, outcome, f"it {how}", asked.began_s, now_s)
                self.heard.append(seen)
                asked.ends_s = INF
            if asked.ends_s == INF and asked.next_s <= now_s:
                asked.began_s = now_s
                asked.ends_s = now_s + (check.timeout_s if how == "hangs" else CHECK_TAKES_S)
                spacing_s = min(check.interval_s, HURRY_S) if self._hurry else check.interval_s
                asked.next_s = now_s + spacing_s


# The fence.


class ToyFence:
    """Runs no command; what becomes of one is in `World.fence_plan`."""

    def __init__(self, world: "World", policy: FencePolicy) -> None:
        self.world = world
        self.policy = policy
        self.seen = FenceSeen()
        self.wanted = False
        self.begins_s = self.ends_s = INF

    def want(self, wanted: bool) -> None:
        if wanted is self.wanted:
            return
        now_s, self.wanted = self.world.now_s, wanted
        self.begins_s, self.ends_s = (now_s if wanted else INF), INF
        self.seen = FenceSeen(Fencing.RUNNING if wanted else Fencing.IDLE)

    def due_s(self) -> float:
        return min(self.begins_s, self.ends_s)

    def advance(self) -> None:
        now_s, (how, takes_s) = self.world.now_s, self.world.fence_plan
        if self.begins_s <= now_s:
            self.begins_s = INF
            self.ends_s = now_s + (self.policy.timeout_s if how == "hangs" else takes_s)
            self.seen = replace(self.seen, tries=self.seen.tries + 1)
            self.world.note("the fence command runs")
        if self.ends_s > now_s:
            return
        self.ends_s = INF
        if how == "succeeds":
            self.world.power_off()
            self.seen = FenceSeen(Fencing.DONE, self.seen.tries, "off")
            return
        tries = self.seen.tries
        over = tries > self.policy.retries
        state = Fencing.FAILED if over else self.seen.state
        why = "no answer within its time limit" if how == "hangs" else "exit status 1"
        self.seen = FenceSeen(state, tries, why)
        self.begins_s = now_s + (AGAIN_S if over else PAUSES_S[min(tries, len(PAUSES_S)) - 1])


# The hooks.


class ToyHooks(Hooks):
    """The production class; it runs no command, what becomes of one is in `World.hook_plan`."""

    def __init__(self, world: "World", policy: HooksPolicy) -> None:
        super().__init__(policy, lambda: world.now_s, lambda: None)
        self.world = world
        self.ends_s = INF  # of the run that is under way
        self.takes_s = 0.0
        self.now: tuple[Job, HookPolicy] | None = None
        self.again: list[tuple[float, Job]] = []
        self.ran: list[Job] = []

    def _begin(self) -> None:
        """Time does it: see `advance`."""

    def _later(self, after_s: float, job: Job) -> None:
        self.again.append((self.world.now_s + after_s, job))

    def due_s(self) -> float:
        waits = self.now is None and (self._phases or self._events)
        return min([self.world.now_s if waits else self.ends_s, *(at_s for at_s, _ in self.again)])

    def advance(self) -> None:
        now_s = self.world.now_s
        for at_s, job in self.again:
            if at_s <= now_s:
                self._again(job)
        self.again = [(at_s, job) for at_s, job in self.again if at_s > now_s]
        if self.now and self.ends_s <= now_s:
            job, hook = self.now
            how, _ = self.world.hook_plan.get(job.name, SUCCEEDS)
            ended = Ended(0) if how == "succeeds" else Ended(1, why="it ended with status 1")
            self.now, self.ends_s = None, INF
            self._ended(job, hook, Run(ended, self.takes_s))
        if self.now is None and (found := self._next()):
            self.now = found
            self.ran.append(found[0])
            how, takes_s = self.world.hook_plan.get(found[0].name, SUCCEEDS)
            self.takes_s = found[1].timeout_s if how == "hangs" else takes_s
            self.ends_s = now_s + self.takes_s


# The lease.


@dataclass
class Store:
    """What all hosts share: who holds the lease, and until when."""

    holder: str = ""
    until_s: float = -INF
    reachable: bool = True
    wanted: bool = False  # by somebody else, who takes it as soon as it is free

    def held_by(self, now_s: float) -> str:
        if now_s >= self.until_s and self.wanted:
            self.holder, self.until_s = OTHER, INF
        return self.holder if now_s < self.until_s else ""

    def obey(self, how: str) -> None:
        """A move of a script."""
        self.reachable = how != "unreachable"
        self.wanted = how == "wanted"
        if how == "refused":
            self.holder, self.until_s = OTHER, INF
        elif how == "lost" or (how == "granted" and self.holder == OTHER):
            self.holder, self.until_s = "", -INF

    def answer(self, ask: Ask, policy: LeasePolicy, now_s: float) -> Reply:
        holder = self.held_by(now_s)
        if ask.verb is Wish.RELEASE:
            if holder == policy.holder:
                self.until_s = -INF
            return Reply(ask.number, Outcome.PASS)
        if holder != policy.holder and (holder or ask.verb is Wish.RENEW):
            why = f"{holder} holds it" if holder else "nobody holds it: it expired"
            return Reply(ask.number, Outcome.FAIL, holder, why=why)
        self.holder, self.until_s = policy.holder, now_s + policy.ttl_s
        return Reply(ask.number, Outcome.PASS, policy.holder)


@dataclass
class ToyEngine:
    """Asks the store, which is as far away as any other host."""

    world: "World"
    policy: LeasePolicy
    replies: list[Reply] = field(default_factory=list)
    coming: tuple[float, Reply] | None = None

    def send(self, ask: Ask) -> None:
        world, store = self.world, self.world.store
        if store.reachable and world.network and world.plugged:
            reply = store.answer(ask, self.policy, world.now_s)
            self.coming = world.now_s + world.latency_s, reply
        else:
            reply = Reply(ask.number, Outcome.UNKNOWN, why="no member answers")
            self.coming = world.now_s + self.policy.ttl_s / ANSWER_SHARE, reply

    def receive(self) -> list[Reply]:
        replies, self.replies = self.replies, []
        return replies

    def close(self) -> None:
        self.coming = None

    def due_s(self) -> float:
        return self.coming[0] if self.coming else INF

    def advance(self) -> None:
        if self.coming and self.coming[0] <= self.world.now_s:
            self.replies.append(self.coming[1])
            self.coming = None


def toy_doors(world: "World", toys: list[Toy]) -> Doors:
    """Doors of the production class that lead to toys, each of which is added to `toys`."""

    def runner(policy: Policy, _clock: Clock, _changed: Changed) -> ToyRunner:
        toys.append(made := ToyRunner(world, policy.service_checks))
        return made

    def fence(policy: FencePolicy, _changed: Changed, _alone: asyncio.Lock) -> ToyFence:
        toys.append(made := ToyFence(world, policy))
        return made

    def engine(policy: LeasePolicy, _changed: Changed) -> ToyEngine:
        toys.append(made := ToyEngine(world, policy))
        return made

    def hooks(policy: HooksPolicy, _clock: Clock, _changed: Changed) -> ToyHooks:
        toys.append(made := ToyHooks(world, policy))
        return made

    return Doors(runner=runner, fence=fence, engine=engine, hooks=hooks)
