"""Random lives of the real monitor in the toy world, each followed by calm.

Whatever happens on the way, every start and stop is justified; when it is over, the pair comes to
rest where it belongs.  `pytest tests/test_lives.py --seed N` replays one life and prints it.
"""

import math
import random
from dataclasses import dataclass, field

import pytest

from failover_monitor.model import (
    SERVING,
    Effect,
    Failback,
    Foreign,
    Phase,
    Policy,
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
SLACK_S = 1e-6

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


@dataclass
class Life:
    """One random life, and the invariants that hold after each of its steps."""

    seed: int
    script: list[str] = field(default_factory=list)

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
            self.perform(self.rng.choice(FAULTS))

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
        for at_s, effect in asked:
            self.justified(at_s, effect)
        if monitor.state.phase is not self.phase:
            self.entered(self.phase, monitor.state.phase)
            self.phase = monitor.state.phase
        detector = monitor.detector
        assert detector.due_s >= world.now_s or world.now_s < world.frozen_until_s
        assert detector.failed_checks <= world.policy.threshold
        if world.recorder.word == "active_dead":
            assert detector.verdict is Verdict.DOWN
        if world.now_s >= world.frozen_until_s:
            assert world.recorder.word == story_word(detector.verdict)
            assert world.recorder.last_intent is not None
            assert world.recorder.last_intent["phase"] == monitor.state.phase.value

    def entered(self, before: Phase, phase: Phase) -> None:
        """No takeover within V of an answer of the primary, and none without the verdict."""
        world, monitor = self.world, self.world.monitor
        assert monitor
        if phase in SERVING and before not in SERVING:
            assert monitor.detector.verdict is Verdict.DOWN
            tallies = [monitor.status._tallies.get(a) for a in world.policy.primary]
            heard_s = max((t.answered_s for t in tallies if t and t.answered_s), default=-math.inf)
            assert world.now_s - heard_s >= world.policy.verdict_s - SLACK_S

    def justified(self, at_s: float, effect: Effect) -> None:
        """No start but in the primary's place, no stop but for a primary that is back."""
        world, monitor = self.world, self.world.monitor
        assert monitor
        phase = monitor.state.phase
        if effect.verb is Verb.START:
            assert phase in SERVING
            assert not world.systemd.host_stopping
            assert effect.service in world.policy.services
        else:
            assert phase is Phase.FAILBACK

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
        self.run(CALM_S / 2)
        self.rests(dead=dead)

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


def story_word(verdict: Verdict) -> str:
    return {"up": "active_alive", "down": "active_dead", "unknown": "unknown"}[verdict.value]


def seeds(request: pytest.FixtureRequest) -> tuple[int, ...]:
    seed: int | None = request.config.getoption("--seed")
    return tuple(range(LIVES)) if seed is None else (seed,)


def test_random_lives_come_to_rest(request: pytest.FixtureRequest) -> None:
    """Each start and stop on the way is justified; calm ends in standby or in active."""
    for seed in seeds(request):
        life = Life(seed)
        try:
            life.live()
            life.calm()
        except AssertionError as error:
            pytest.fail(f"{error}\n{life.told()}")
        if request.config.getoption("--seed") is not None:
            print(life.told())
