"""What may stand between a verdict and a takeover: service checks, fence, lease, hooks.

Rule: what is not configured is not imported, and answers as if nothing stood in the way.  Like
systemd and the probe they are asked and looked at; none of them is ever waited for.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from failover_monitor.health import Health
from failover_monitor.model import (
    INF,
    SLACK_S,
    CheckSeen,
    FencePolicy,
    FenceSeen,
    HookSeen,
    HooksPolicy,
    HookTold,
    LeasePolicy,
    Outcome,
    Policy,
    ServiceCheck,
)

PROOF_ROUNDS = 2  # a failure that no steady round has proven by then is none

if TYPE_CHECKING:
    from failover_monitor.hooks import Hooks
    from failover_monitor.leases import Engine
    from failover_monitor.leases.keeper import Keeper


class Runner(Protocol):
    """Asks the service checks."""

    hurry: bool

    def receive(self) -> list[CheckSeen]: ...
    async def run(self) -> None: ...


class Fence(Protocol):
    """Switches the primary off for as long as that is wanted."""

    @property
    def seen(self) -> FenceSeen: ...
    def want(self, wanted: bool) -> None: ...


Clock = Callable[[], float]
Changed = Callable[[], None]


class Protections:
    """Everything beside the echo that one policy names."""

    def __init__(
        self,
        policy: Policy,
        clock: Callable[[], float],
        changed: Callable[[], None],
        *,
        before: "Protections | None" = None,
        doors: "Doors | None" = None,
    ) -> None:
        """`before`: what an earlier policy had; parts that stay the same go on, as do its doors."""
        self.policy = policy
        self.doors: Doors = doors or (before.doors if before else DOORS)
        self.health = Health(policy.service_checks)
        self.found: list[CheckSeen] = []  # since the last look
        self._unproven: list[CheckSeen] = []  # failures that wait for an answered echo
        self.runner: Runner | None = None
        self.fence: Fence | None = None
        self.fencing: asyncio.Lock = before.fencing if before else asyncio.Lock()
        self.keeper: Keeper | None = None
        self.engine: Engine | None = None
        self.hooks: Hooks | None = None
        self.leased_since_s: float | None = None
        self.lease_stop_s = -INF  # when services on it must begin to stop
        old = before.policy if before else None
        if before and old and old.service_checks == policy.service_checks:
            self.runner, self.health = before.runner, before.health
        elif policy.service_checks:
            self.runner = self.doors.runner(policy, clock, changed)
        if before and old and old.fence == policy.fence:
            self.fence = before.fence
        elif policy.fence:
            self.fence = self.doors.fence(policy.fence, changed, self.fencing)
        if before and old and old.lease == policy.lease:
            self.keeper, self.engine = before.keeper, before.engine
            self.leased_since_s = before.leased_since_s
            self.lease_stop_s = before.lease_stop_s
        elif policy.lease:
            self.keeper = new_keeper(policy.lease, clock())
            self.engine = self.doors.engine(policy.lease, changed)

        if before and before.hooks and policy.hooks:
            self.hooks = before.hooks
            self.hooks.reload(policy.hooks)
        elif policy.hooks:
            self.hooks = self.doors.hooks(policy.hooks, clock, changed)

    async def run(self) -> None:
        """Keep the service checks going for ever."""
        if self.runner:
            await self.runner.run()
        await asyncio.Event().wait()

    def leave(self, after: "Protections | None" = None) -> None:
        """End what `after`, the next policy's, does not go on with."""
        if self.fence and not (after and after.fence is self.fence):
            self.fence.want(False)
        if self.engine and not (after and after.engine is self.engine):
            self.engine.close()
        if self.hooks and not (after and after.hooks is self.hooks):
            self.hooks.leave()

    # Look.

    def look(self, now_s: float, *, proven: Mapping[str, float], silent: bool) -> None:
        """Take what has come; the lease is asked for, or renewed, when that is due.

        `proven`: by address, when the newest echo that the primary answered was sent; `silent`: it
        leaves echoes unanswered now.
        """
        if self.runner:
            self.found = self.runner.receive()
            self._believe(now_s, proven, silent)
        if self.keeper and self.engine:
            for reply in self.engine.receive():
                self.keeper.replied(reply, now_s)
            if ask := self.keeper.tick(now_s):
                self.engine.send(ask)
            self._keep_time(self.keeper, now_s)

    def _believe(self, now_s: float, proven: Mapping[str, float], silent: bool) -> None:
        """A failure counts when an echo that was sent after it, on the same path, was answered.

        Where the primary is silent, or that path is, the path may be what fails: nobody can tell.
        """
        waiting, self._unproven = (*self._unproven, *self.found), []
        if not waiting:
            return
        paths = {check.name: path_of(check, self.policy) for check in self.policy.service_checks}
        for seen in waiting:
            path = paths.get(seen.name, "")
            proven_s = proven.get(path, -INF) if path else max(proven.values(), default=-INF)
            if seen.outcome is not Outcome.FAIL or seen.ended_s <= proven_s:
                self.health.heard(seen, now_s)
            elif silent or now_s - seen.ended_s > PROOF_ROUNDS * self.policy.interval_s:
                self.health.heard(replace(seen, outcome=Outcome.UNKNOWN), now_s)
            else:
                self._unproven.append(seen)

    def forget(self, now_s: float) -> None:
        """What service checks have failed until now is no evidence."""
        self._unproven = []
        self.health.forget(now_s)

    def _keep_time(self, keeper: "Keeper", now_s: float) -> None:
        """A lease that is gone ended now, at the latest: what runs on it must begin to stop."""
        if not keeper.held(now_s):
            self.leased_since_s = None
            self.lease_stop_s = min(self.lease_stop_s, now_s)
            return
        if self.leased_since_s is None:
            self.leased_since_s = now_s
        self.lease_stop_s = keeper.until_s - self.policy.stop_limit_s - SLACK_S

    @property
    def due_s(self) -> float:
        return self.keeper.due_s if self.keeper else INF

    @property
    def lease_until_s(self) -> float:
        """When services that need the lease must begin to stop; without a lease never."""
        return self.lease_stop_s if self.keeper else INF

    @property
    def lease_why(self) -> str:
        return self.keeper.why if self.keeper else ""

    @property
    def fence_seen(self) -> FenceSeen:
        return self.fence.seen if self.fence else FenceSeen()

    @property
    def hooks_seen(self) -> tuple[HookSeen, HookSeen]:
        """Those that something waits for: `pre_takeover` and `pre_failback`."""
        hooks = self.hooks
        return (hooks.pre_takeover, hooks.pre_failback) if hooks else (HookSeen(), HookSeen())

    @property
    def hooks_told(self) -> list[HookTold]:
        """What became of hooks since this was asked last."""
        if self.hooks is None:
            return []
        told, self.hooks.told = self.hooks.told, []
        return told

    # Ask.

    def want(self, *, lease: bool, fence: bool, hurry: bool) -> None:
        """Say what is wished for from now on; `hurry`: the service checks matter right now."""
        if self.keeper:
            self.keeper.wanted = lease
        if self.fence:
            self.fence.want(fence)
        if self.runner:
            self.runner.hurry = hurry


def path_of(check: ServiceCheck, policy: Policy) -> str:
    """The address of the primary that a check asks; "" = another way to it, or not known."""
    host = check.options.get("host") or urlsplit(check.options.get("url", "")).hostname
    return host if host in policy.primary else ""


def new_runner(policy: Policy, clock: Clock, changed: Changed) -> Runner:
    from failover_monitor.checks.runner import Runner

    return Runner(policy.service_checks, clock, changed)


def new_fence(policy: FencePolicy, changed: Changed, alone: asyncio.Lock) -> Fence:
    from failover_monitor.fence import Fence

    return Fence(policy, changed, alone)


def new_hooks(policy: HooksPolicy, clock: Clock, changed: Changed) -> "Hooks":
    from failover_monitor.hooks import Hooks

    return Hooks(policy, clock, changed)


def new_keeper(policy: LeasePolicy, now_s: float) -> "Keeper":
    from failover_monitor.leases.keeper import Keeper

    return Keeper(policy, now_s)


def new_engine(policy: LeasePolicy, changed: Changed) -> "Engine":
    from failover_monitor.leases import KINDS

    return KINDS[policy.engine](policy, changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """How checks, fence, lease and hooks reach the world; a rehearsal and a dry run have others."""

    runner: Callable[[Policy, Clock, Changed], Runner] = new_runner
    fence: Callable[[FencePolicy, Changed, asyncio.Lock], Fence] = new_fence
    engine: "Callable[[LeasePolicy, Changed], Engine]" = new_engine
    hooks: "Callable[[HooksPolicy, Clock, Changed], Hooks]" = new_hooks


DOORS = Doors()
