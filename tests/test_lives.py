"""Random lives of the real monitor in the toy world, each followed by calm.

Whatever happens on the way, every start and stop is justified; when it is over, the pair comes to
rest where it belongs.  `pytest tests/test_lives.py --seed N` replays one life and prints it.
"""

import math
import random
from dataclasses import dataclass, field, replace

import pytest

from failover_monitor.model import (
    ARMED,
    AT_REST,
    SERVING,
    SLACK_S,
    Effect,
    Failback,
    FenceFailure,
    FencePolicy,
    Foreign,
    GuardPolicy,
    LeasePolicy,
    Phase,
    Policy,
    Role,
    ServiceCheck,
    Unit,
    Verb,
    Verdict,
)
from tests import story
from tests.world import World, policy_of

LIVES = 300
MOVES = 25
CALM_S = 150.0
A, B, C = "a.service", "b.service", "c.service"
SAME_S = 1e-6
PROTECTED_LIVES = 300
GUARDED_LIVES = 200

FAULTS = (
    *("primary silent", "primary up", "gateway silent", "gateway up") * 3,
    *("primary silent", "primary up") * 3,
    *("cable silent", "cable up", "cable dark", "cable lit", "witness silent", "witness up"),
    *("standby unplugged", "standby plugged", "network lost", "network back") * 2,
    *("latency 0.001", "latency 0.3", "latency 2", "loss 0", "loss 0", "loss 20", "loss 60"),
    *("kill", "stop monitor 3", "stop monitor 40", "reboot 10", "reboot 60"),
    *("freeze 0.4", "freeze 3", "freeze 60", "shutdown", "failback", "failback"),
    *("systemd gone", "systemd back", "systemd back"),
    *("reload interval=2", "reload interval=3 retry=0.5", "reload recovery=2", "reload grace=0"),
    *("reload failback=auto", "reload takeover_delay=5", "reload foreign_start=stop"),
    *(f"list {A} {B}", f"list {B} {A}", f"list {B} {C}", f"list {A}"),
    *(
        f"{name} {what}"
        for name in (A, B)
        for what in (
            "starts",
            "stops",
            "dies",
            "runs",
            "restarts 0.5",
            "fails 2",
            "hangs in start",
            "is mended",
            "stops in 30",
            "stops in 0.02",
        )
    ),
    f"{B} is a oneshot",
)
PROTECTED_FAULTS = (
    *(fault for fault in FAULTS if fault != "failback"),
    *("primary silent", "primary silent", "primary up") * 3,
    *("check tcp passes", "check tcp fails", "check http passes", "check http fails") * 3,
    *("check tcp fails", "check http fails") * 3,
    *("check tcp unknown", "check http hangs"),
    *("fence succeeds after 2", "fence fails after 1", "fence hangs", "fence succeeds after 9") * 2,
    *("lease granted", "lease granted", "lease wanted", "lease unreachable", "lease lost") * 2,
    *("failback", "ack", f"{A} ignores SIGTERM", f"{B} hangs in the kernel"),
)
GUARDED_FAULTS = (
    *("network lost", "network lost", "network back", "gateway silent", "gateway up") * 3,
    *("standby silent", "standby up", "standby unplugged", "standby plugged", "standby plugged"),
    *("latency 0.001", "latency 0.3", "latency 4", "loss 0", "loss 0", "loss 40", "loss 90"),
    *("kill", "freeze 0.4", "freeze 3", "freeze 60", "reboot 10", "shutdown"),
    *("lease granted", "lease granted", "lease wanted", "lease unreachable") * 2,
    *(
        f"{name} {what}"
        for name in (A, B)
        for what in (
            *("starts", "stops", "dies", "restarts 0.5", "fails 2", "hangs in start", "is mended"),
            *("stops in 2", "stops in 0.02", "ignores SIGTERM", "hangs in the kernel"),
        )
    ),
    f"{B} is a oneshot",
)


@dataclass
class Life:
    """One random life, and the invariants that hold after each of its steps."""

    seed: int
    script: list[str] = field(default_factory=list)
    faults = FAULTS
    starting = SERVING
    stopping = frozenset({Phase.FAILBACK})

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.world = World(self.policy(), seed=self.seed, booted_s=self.rng.choice((-1e3, 0.0)))
        self.asked = 0
        self.phase = Phase.UNKNOWN

    def policy(self) -> Policy:
        rng = self.rng
        addresses = [("198.51.100.2",), ("198.51.100.2", story.CABLE)]
        return policy_of(
            primary=addresses[rng.random() < 0.4],
            references=(story.GATEWAY, story.WITNESS)[: rng.choice((1, 2))],
            services=(A, B),
            interval_s=rng.choice((1.0, 3.0)),
            retry_interval_s=rng.choice((None, 0.5, 1.0)),
            threshold=rng.choice((1, 2, 3)),
            failback=rng.choice(list(Failback)),
            recovery_delay_s=rng.choice((5.0, 60.0)),
            recovery_threshold=rng.choice((1, 3)),
            takeover_delay_s=rng.choice((0.0, 0.0, 7.0)),
            startup_grace_s=rng.choice((0.0, 120.0)),
            foreign_start=rng.choice(list(Foreign)),
        )

    def live(self) -> None:
        self.world.begin()
        for _ in range(MOVES):
            self.run(self.rng.choice((0.0, 0.1, 1.0, 5.0, 20.0)) * self.rng.random())
            self.perform(self.rng.choice(self.faults))

    def perform(self, move: str) -> None:
        words = tuple(move.split())
        world = self.world
        host = story.HOSTS.get(words[0])
        of_monitor = words[0] in ("reload", "list", "kill", "stop", "reboot", "freeze", "shutdown")
        if (host and host not in world.hosts) or (of_monitor and world.monitor is None):
            return
        self.script.append(f"at {world.now_s:.6f} {move}")
        story.perform(world, words)
        world.wake()
        self.check()

    def run(self, for_s: float) -> None:
        world, end_s = self.world, self.world.now_s + for_s
        while world.now_s < end_s:
            world.step(end_s)
            self.check()

    def check(self) -> None:
        """The invariants, after each step."""
        world, monitor = self.world, self.world.monitor
        asked, self.asked = world.systemd.asked[self.asked :], len(world.systemd.asked)
        if monitor is None:
            assert asked == []
            return
        for effect, phase in asked:
            self.justified(effect, phase)
        if monitor.state.phase is not self.phase:
            self.entered(self.phase, monitor.state.phase)
            self.phase = monitor.state.phase
        detector = monitor.detector
        assert detector.due_s >= world.now_s or world.now_s < world.frozen_until_s
        assert detector.failed_checks <= world.policy.threshold
        self.invariants()
        if world.now_s >= world.frozen_until_s:
            assert world.recorder.word == self.word()
            assert world.recorder.last_intent is not None
            assert world.recorder.last_intent["phase"] == monitor.state.phase.value

    def word(self) -> str:
        """What the state file should say."""
        assert self.world.monitor
        words = {
            Verdict.UP: "active_alive",
            Verdict.DOWN: "active_dead",
            Verdict.UNKNOWN: "unknown",
        }
        return words[self.world.monitor.detector.verdict]

    def invariants(self) -> None:
        """What a kind of life adds to these."""

    def entered(self, before: Phase, phase: Phase) -> None:
        """No takeover within V of an answer of the primary, and none without the verdict."""
        world, monitor = self.world, self.world.monitor
        assert monitor
        if phase in SERVING and before not in SERVING:
            assert monitor.detector.verdict is Verdict.DOWN
            last = [monitor.status._last.get(a) for a in world.policy.primary]
            heard_s = max((found.at_s for found in last if found), default=-math.inf)
            assert world.now_s - heard_s >= world.policy.verdict_s - SAME_S

    def justified(self, effect: Effect, phase: Phase) -> None:
        """No start but in the primary's place, no stop but for a primary that is back."""
        world = self.world
        if effect.verb is Verb.START:
            assert phase in self.starting
            assert not world.systemd.host_stopping
            assert effect.service in world.policy.services
        else:
            assert phase in self.stopping
            assert effect.verb is Verb.STOP or world.policy.enforced

    def calm(self) -> None:
        """Everything is well again, or the primary is dead for good; then it must come to rest."""
        dead = self.rng.random() < 0.5
        world = self.world
        if world.monitor is None:
            self.run(world.starts_s - world.now_s + 0.1)
        self.run(max(0.0, world.frozen_until_s - world.now_s) + 0.1)
        if world.systemd.host_stopping:
            self.perform("reboot 5")
            self.run(6.0)
        hosts = [name for name, address in story.HOSTS.items() if address in world.hosts]
        for move in (
            *self.amends(dead=dead),
            *("network back", "standby plugged", "loss 0", "latency 0.001", "systemd back"),
            *(f"{name} up" for name in hosts),
            *("cable lit", "list a.service b.service", "reload grace=0 takeover_delay=0"),
            *("a.service is mended", "b.service is mended"),
            *("a.service stops in 0.02", "b.service stops in 0.02"),
        ):
            self.perform(move)
        for service in world.systemd.services.values():
            service.starts_in_s = service.stops_in_s = 0.02
            service.fails = 0
            if service.state in (Unit.STARTING, Unit.STOPPING):  # what hung ends
                world.systemd.become(service, Unit.FAILED)
        if dead:
            for name in hosts:
                if name in ("primary", "cable"):
                    self.perform(f"{name} silent")
        self.run(CALM_S / 2)
        if not dead and world.policy.failback is Failback.MANUAL:
            self.perform("failback")
        self.perform("ack")
        self.run(CALM_S / 2)
        self.rests(dead=dead)

    def amends(self, *, dead: bool) -> tuple[str, ...]:
        """How a kind of life becomes well again."""
        return ()

    def rests(self, *, dead: bool) -> None:
        world, monitor = self.world, self.world.monitor
        assert monitor
        units = {unit.name: unit.state for unit in world.systemd.seen()}
        running = {name for name, state in units.items() if state is Unit.RUNNING}
        finished = {m.name for m in monitor.state.services if m.finished}
        if dead:
            assert monitor.detector.verdict is Verdict.DOWN
            assert monitor.state.phase is Phase.ACTIVE
            assert set(world.policy.services) <= running | finished
        else:
            assert monitor.detector.verdict is Verdict.UP
            assert monitor.state.phase is Phase.STANDBY
            if world.policy.foreign_start is Foreign.STOP:
                assert running == set()
        before = len(world.systemd.asked)
        self.run(40.0)
        assert len(world.systemd.asked) == before, "asks although nothing is wanting"

    def told(self) -> str:
        return f"seed {self.seed}\n" + "\n".join(self.script) + "\n" + story.timeline(self.world)


class ProtectedLife(Life):
    """With service checks, fence, lease and flapping in the mix."""

    faults = PROTECTED_FAULTS
    claimed_s = -math.inf
    flapped = acknowledged = False  # at the last look

    def policy(self) -> Policy:
        rng = self.rng
        plain = super().policy()
        term = LeasePolicy(engine="toy", endpoints=(), name="pair", holder="us")
        lease = rng.choice((None, term))
        guard = rng.choice((None, GuardPolicy(boot_hold_s=7.0)))
        # The primary of a guard or a lease stops its own services: no trigger may stand beside it.
        trigger = not lease and not guard and rng.random() < 0.7
        tcp = ServiceCheck(kind="toy", name="tcp", options={}, trigger=trigger)
        http = ServiceCheck(kind="toy", name="http", options={}, gates_failback=False)
        fence = FencePolicy(
            command=("fence",),
            options={},
            timeout_s=5.0,
            retries=1,
            on_failure=rng.choice(list(FenceFailure)),
        )
        return replace(
            plain,
            service_checks=rng.choice(((), (tcp,), (tcp, http))),
            fence=rng.choice((None, fence)),
            lease=lease,
            guard=guard,
            flap_window_s=rng.choice((0.0, 3000.0)),
            max_takeovers=rng.choice((1, 3)),
            references_required=len(plain.references),
        )

    def entered(self, before: Phase, phase: Phase) -> None:
        """No takeover without fence and lease, beside a veto, or while it flaps."""
        world, monitor = self.world, self.world.monitor
        assert monitor
        if phase is Phase.CLAIM:
            self.claimed_s = world.now_s
        if phase not in SERVING or before in SERVING:
            return
        policy, seen = world.policy, monitor._seen
        assert not seen.host_stopping
        assert not self.flapped or self.acknowledged
        down = seen.verdict is Verdict.DOWN
        if down:
            super().entered(before, phase)
            assert seen.vetoes == ()
        else:
            assert seen.verdict is Verdict.UP
            assert seen.service is Verdict.DOWN
            assert any(check.trigger for check in policy.service_checks)
        if policy.fence and world.fenced_s < self.claimed_s:
            assert policy.fence.on_failure is FenceFailure.WAIT_FOR_GUARD
            assert down
            assert world.now_s - seen.verdict_since_s >= policy.takeover_delay_s - SAME_S
        if policy.lease:
            assert world.store.held_by(world.now_s) == "us"

    def perform(self, move: str) -> None:
        self.acknowledged = self.acknowledged or move == "ack"
        super().perform(move)

    def invariants(self) -> None:
        """For the next look."""
        assert self.world.monitor
        self.flapped = self.world.monitor.state.flapping
        self.acknowledged = self.acknowledged and self.flapped

    def amends(self, *, dead: bool) -> tuple[str, ...]:
        """A fence that would come too late for a primary that answers is no harm in calm."""
        how = "fails" if dead else "passes"
        fence = "fence succeeds after 2" if dead else "fence succeeds after 60"
        return f"check tcp {how}", f"check http {how}", fence, "lease granted", "ack"


class GuardedLife(Life):
    """The guard on the primary: where it is cut off, nothing runs when its time is over."""

    faults = GUARDED_FAULTS
    starting = frozenset({Phase.OPENING})
    stopping = frozenset({Phase.CLOSING, Phase.GATED})

    def policy(self) -> Policy:
        rng = self.rng
        lease = LeasePolicy(engine="toy", endpoints=(), name="pair", holder="us")
        return policy_of(
            role=Role.PRIMARY,
            primary=(),
            standby=(story.STANDBY,),
            references=(story.GATEWAY,),
            services=(A, B),
            guard=GuardPolicy(
                deadline_s=rng.choice((2.0, 5.0)),
                stop_limit_s=5.0,
                boot_hold_s=rng.choice((7.0, 30.0)),
            ),
            lease=rng.choice((None, None, lease)),
        )

    def entered(self, before: Phase, phase: Phase) -> None:
        """The gate opens on a proof that is not too old."""
        if phase in (Phase.OPENING, Phase.SERVING):
            assert self.world.now_s < self.proof_ends_s()

    def word(self) -> str:
        """Whether this host may serve."""
        assert self.world.monitor
        phase = self.world.monitor.state.phase
        may_serve = phase in (Phase.OPENING, Phase.SERVING)
        held_back = phase in (Phase.GATED, Phase.CLOSING)
        return "active_alive" if may_serve else "active_dead" if held_back else "unknown"

    def proof_ends_s(self) -> float:
        world = self.world
        if world.policy.lease:
            return world.store.until_s if world.store.holder == "us" else -math.inf
        assert world.policy.guard
        return world.proof_s + world.policy.guard.deadline_s

    def invariants(self) -> None:
        """Nothing runs for longer after the proof than the standby allows for."""
        world, monitor = self.world, self.world.monitor
        assert monitor
        serving = {n for n, s in world.systemd.services.items() if s.state not in AT_REST}
        raised = world.recorder.raised
        if world.now_s >= world.frozen_until_s:
            assert ("armed" in raised) is (monitor.state.phase in ARMED)
            assert ("permit" in raised) <= (monitor.state.phase in (Phase.OPENING, Phase.SERVING))
        limit_s = 0.0 if world.policy.lease else world.policy.stop_limit_s + SLACK_S
        assert not serving or world.now_s <= self.proof_ends_s() + limit_s + SAME_S

    def rests(self, *, dead: bool) -> None:
        """It serves: cut off or not is over."""
        world, monitor = self.world, self.world.monitor
        assert monitor
        assert monitor.state.phase is Phase.SERVING
        before = len(world.systemd.asked)
        self.run(40.0)
        assert len(world.systemd.asked) == before, "asks although nothing is wanting"

    def amends(self, *, dead: bool) -> tuple[str, ...]:
        return ("lease granted",)


def seeds(request: pytest.FixtureRequest, lives: int) -> tuple[int, ...]:
    seed: int | None = request.config.getoption("--seed")
    return tuple(range(lives)) if seed is None else (seed,)


@pytest.mark.parametrize(
    ("kind", "lives"),
    [(Life, LIVES), (ProtectedLife, PROTECTED_LIVES), (GuardedLife, GUARDED_LIVES)],
    ids=["plain", "protected", "guarded"],
)
def test_random_lives_come_to_rest(
    kind: type[Life], lives: int, request: pytest.FixtureRequest
) -> None:
    """Each start and stop on the way is justified; calm ends where it should."""
    for seed in seeds(request, lives):
        life = kind(seed)
        try:
            life.live()
            life.calm()
        except AssertionError as error:
            pytest.fail(f"{error}\n{life.told()}")
        if request.config.getoption("--seed") is not None:
            print(life.told())
