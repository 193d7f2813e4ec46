"""Random lives of the real monitor in the toy world, each followed by calm.

Whatever happens on the way, every start and stop is justified; when it is over, the pair comes to
rest where it belongs.  `pytest tests/test_lives.py --seed N` replays one life and prints it.
"""

import math
import random
from dataclasses import dataclass, field, replace

import pytest

from failover_monitor.events import Kind
from failover_monitor.model import (
    ARMED,
    AT_REST,
    BY_HAND,
    SERVING,
    SLACK_S,
    Effect,
    Failback,
    FenceFailure,
    FencePolicy,
    Foreign,
    GuardPolicy,
    Hooking,
    HookPolicy,
    HooksPolicy,
    LeasePolicy,
    Phase,
    Policy,
    Role,
    ServiceCheck,
    Unit,
    Verb,
    Verdict,
)
from failover_monitor.rehearsal import script, story
from failover_monitor.rehearsal.moves import HOSTS, read_move
from tests.world import World, policy_of

LIVES = 300
MOVES = 25
CALM_S = 150.0
A, B, C = "a.service", "b.service", "c.service"
SAME_S = 1e-6
TURN_S = 3.0  # a pause may have been seen last so long before its end
PROTECTED_LIVES = 300
GUARDED_LIVES = 200
HOOKED_LIVES = 100

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
    *("pause 20", "pause 120", "resume", "takeover", "takeover"),
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
HOOK_NAMES = ("pre_takeover", "post_takeover", "pre_failback", "post_failback")
HOOKED_FAULTS = (
    *FAULTS,
    *("primary silent", "primary silent", "primary up", "kill") * 4,
    *(
        f"hook {name} {how}"
        for name in HOOK_NAMES
        for how in ("succeeds", "succeeds after 5", "fails", "hangs")
    ),
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
        self.paused = False  # at the last look
        self.held_s = -math.inf  # a pause lasted until then

    def policy(self) -> Policy:
        rng = self.rng
        addresses = [("198.51.100.2",), ("198.51.100.2", script.CABLE)]
        return policy_of(
            primary=addresses[rng.random() < 0.4],
            references=(script.GATEWAY, script.WITNESS)[: rng.choice((1, 2))],
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
        absent = words[0] in HOSTS and not HOSTS[words[0]](world.policy)
        of_monitor = words[0] in ("reload", "list", "kill", "stop", "reboot", "freeze", "shutdown")
        if absent or (of_monitor and world.monitor is None):
            return
        self.script.append(f"at {world.now_s:.6f} {move}")
        read_move(move).perform(world)
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
        paused = monitor.orders.pause is not None
        for effect, phase in asked:
            self.justified(effect, phase)
            stops = effect.verb is not Verb.START and world.policy.enforced
            assert stops or not (paused and self.paused)
        self.paused = paused
        self.held_s = world.now_s if paused else self.held_s
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
        if phase in SERVING and before not in SERVING and not self.by_hand():
            assert monitor.detector.verdict is Verdict.DOWN
            assert world.now_s - self.held_s >= world.policy.verdict_s - TURN_S
            last = [monitor.status._last.get(a) for a in world.policy.primary]
            heard_s = max((found.at_s for found in last if found), default=-math.inf)
            assert world.now_s - heard_s >= world.policy.verdict_s - SAME_S

    def by_hand(self) -> bool:
        """An operator asked for this takeover: the evidence has no say, the rest has."""
        moves = [e.fields for _, e in self.world.recorder.told if e.kind is Kind.TRANSITION]
        begun = [move for move in moves if move["TO"] == "takeover" and move["FROM"] != "active"]
        return begun[-1]["BECAUSE"] == BY_HAND

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
        hosts = [name for name, addresses in HOSTS.items() if addresses(world.policy)]
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
        self.lets_go(hosts, dead=dead)
        self.perform("ack")
        self.run(CALM_S / 2)
        self.rests(dead=dead)

    def lets_go(self, hosts: list[str], *, dead: bool) -> None:
        """What an operator has begun ends."""
        world = self.world
        self.perform("resume")
        self.run(CALM_S / 2)
        if world.monitor and world.monitor.state.phase is Phase.CLAIM:  # an operator's, at last
            self.run(world.policy.by_hand_limit_s)
        if not dead:
            for name in hosts:  # an operator's takeover may have fenced it
                self.perform(f"{name} up")
            self.run(5.0)
            self.perform("failback")

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
    back_s = -math.inf  # the primary answered last where nobody stood in for it
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
        if phase not in SERVING or before in SERVING:
            return
        policy, seen = world.policy, monitor._seen
        assert not seen.host_stopping
        by_hand = self.by_hand()
        assert by_hand or not self.flapped or self.acknowledged
        down = seen.verdict is Verdict.DOWN
        if by_hand:
            assert not seen.paused
        elif down:
            super().entered(before, phase)
            assert seen.vetoes == ()
        else:
            assert seen.verdict is Verdict.UP
            assert seen.service is Verdict.DOWN
            assert any(check.trigger for check in policy.service_checks)
        if policy.fence and world.fenced_s <= self.back_s:
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
        up = self.world.monitor.detector.verdict is Verdict.UP
        if up and self.world.monitor.state.phase not in (Phase.CLAIM, *SERVING):
            self.back_s = self.world.now_s
        self.flapped = self.world.monitor.state.flapping
        self.acknowledged = self.acknowledged and self.flapped

    def amends(self, *, dead: bool) -> tuple[str, ...]:
        """A fence that would come too late for a primary that answers is no harm in calm."""
        how = "fails" if dead else "passes"
        fence = "fence succeeds after 2" if dead else "fence succeeds after 60"
        return f"check tcp {how}", f"check http {how}", fence, "lease granted", "ack"


class HookedLife(Life):
    """With hooks that succeed, fail and hang around each takeover and failback."""

    faults = HOOKED_FAULTS

    def policy(self) -> Policy:
        rng = self.rng

        def hook(*, veto: bool = False) -> HookPolicy | None:
            made = HookPolicy(command=("hook",), timeout_s=rng.choice((0.5, 10.0)), veto=veto)
            return rng.choice((made, made, None))

        hooks = HooksPolicy(
            pre_takeover=hook(veto=rng.random() < 0.5),
            post_takeover=hook(),
            pre_failback=hook(),
            post_failback=hook(),
        )
        guard = rng.choice((None, None, GuardPolicy(boot_hold_s=7.0)))
        return replace(super().policy(), hooks=hooks, guard=guard)

    def entered(self, before: Phase, phase: Phase) -> None:
        """The hook before a takeover has ended under the very verdict that it was asked for."""
        super().entered(before, phase)
        assert self.world.monitor
        hook, told = self.world.policy.pre_takeover, self.world.recorder.told
        if phase in SERVING and before not in SERVING and hook:
            ended = {Hooking.DONE} if hook.veto else {Hooking.DONE, Hooking.FAILED}
            states = [
                event.fields["HOOK_STATE"]
                for at_s, event in told
                if event.fields.get("HOOK") == "pre_takeover"
                and at_s >= self.world.monitor.detector.verdict_since_s
            ]
            assert states[-1] in ended

    def justified(self, effect: Effect, phase: Phase) -> None:
        """Where nobody counts on a stop it comes after its hook, or after the hook's time."""
        super().justified(effect, phase)
        monitor, policy = self.world.monitor, self.world.policy
        if effect.verb is Verb.STOP and policy.pre_failback and monitor:
            assert not policy.enforced
            since_s, hook = monitor.state.since_s, monitor._seen.pre_failback
            over = self.world.now_s - since_s >= policy.pre_failback.timeout_s - SAME_S
            ended = hook.state in (Hooking.DONE, Hooking.FAILED) and hook.since_s > since_s
            assert over or ended or monitor.state.phase is not Phase.FAILBACK

    def invariants(self) -> None:
        """Nobody waits for longer than an operator has allowed; a claim is one for a reason."""
        monitor, policy = self.world.monitor, self.world.policy
        assert monitor
        if monitor.state.phase is Phase.CLAIM:
            assert policy.pre_takeover

    def amends(self, *, dead: bool) -> tuple[str, ...]:
        return tuple(f"hook {name} succeeds" for name in HOOK_NAMES)


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
            standby=(script.STANDBY,),
            references=(script.GATEWAY,),
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
    [
        (Life, LIVES),
        (ProtectedLife, PROTECTED_LIVES),
        (HookedLife, HOOKED_LIVES),
        (GuardedLife, GUARDED_LIVES),
    ],
    ids=["plain", "protected", "hooked", "guarded"],
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
