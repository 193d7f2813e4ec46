"""A toy world for the real monitor: hosts, a wire, services, a clock.

The monitor, detector, machine and events are the production code; only the probe, the door to
systemd, the recorder and the clock are ordinary small classes of this file.  Scenarios drive it
from a script, random lives from a seed.
"""

import heapq
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from failover_monitor.events import Event
from failover_monitor.model import (
    Answer,
    Effect,
    Policy,
    Round,
    Unit,
    UnitSeen,
    Verb,
)
from failover_monitor.monitor import Monitor

LATENCY_S = 0.001
START_S = STOP_S = 0.02
RESTART_S = 1.0  # RestartSec= of the monitor's unit


@dataclass
class Host:
    """Something that answers echoes, or does not."""

    up: bool = True
    reachable: bool = True  # False: our interface to it has no carrier


class Wire:
    """The probe: echoes travel through loss and latency."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.flying: list[tuple[float, int, Answer]] = []
        self.echoes = 0

    def send(self, address: str, round_: Round) -> str:
        world, host = self.world, self.world.hosts[address]
        if not (world.plugged and host.reachable):
            return "no carrier on eth0"
        self.echoes += 1
        lost = world.rng.random() < world.loss
        if host.up and not lost and world.network:
            arrival_s = world.now_s + world.latency_s
            answer = Answer(address, round_.number, round_.sent_s)
            heapq.heappush(self.flying, (arrival_s, self.echoes, answer))
        return ""

    def receive(self) -> Iterable[Answer]:
        while self.flying and self.flying[0][0] <= self.world.now_s:
            yield heapq.heappop(self.flying)[2]

    def filenos(self) -> Iterable[int]:
        return ()

    def close(self) -> None:
        self.flying.clear()


@dataclass
class Service:
    """One unit and how it behaves."""

    state: Unit = Unit.STOPPED
    since_s: float = 0.0
    why: str = ""
    starts_in_s: float = START_S
    stops_in_s: float = STOP_S
    fails: int = 0  # so many starts fail
    oneshot: bool = False
    due: tuple[float, Unit] | None = None  # the change under way


class Systemd:
    """The door to systemd: asks are accepted at once, what came of them is seen later."""

    def __init__(self, world: "World", names: Iterable[str]) -> None:
        self.world = world
        self.services = {name: Service() for name in names}
        self.watched = tuple(names)
        self.host_stopping = False
        self.gone = False  # neither D-Bus nor systemctl answers
        self.asked: list[tuple[float, Effect]] = []

    def seen(self) -> tuple[UnitSeen, ...]:
        if self.gone:
            return tuple(UnitSeen(name, Unit.UNKNOWN) for name in self.watched)
        seen = ((name, self.services[name]) for name in self.watched)
        return tuple(UnitSeen(name, s.state, s.since_s, s.why) for name, s in seen)

    def watch(self, units: Iterable[str]) -> None:
        self.watched = tuple(units)
        for name in self.watched:
            self.services.setdefault(name, Service())

    def ask(self, effect: Effect) -> None:
        self.asked.append((self.world.now_s, effect))
        if self.gone:
            return
        self.start(effect.service) if effect.verb is Verb.START else self.stop(effect.service)

    def start(self, name: str) -> None:
        service = self.services[name]
        if service.state is Unit.RUNNING:
            return
        target = Unit.RUNNING
        if service.oneshot:
            target = Unit.FINISHED
        if service.fails > 0:
            service.fails -= 1
            target = Unit.FAILED
        self._begin(service, Unit.STARTING, service.starts_in_s, target)

    def stop(self, name: str) -> None:
        service = self.services[name]
        if service.state in (Unit.RUNNING, Unit.STARTING, Unit.STOPPING):
            self._begin(service, Unit.STOPPING, service.stops_in_s, Unit.STOPPED)

    def die(self, name: str) -> None:
        self.become(self.services[name], Unit.FAILED, "signal")

    def restart(self, name: str, after_s: float) -> None:
        """The unit died and systemd will restart it by itself (Restart=)."""
        self._begin(self.services[name], Unit.STARTING, after_s, Unit.RUNNING)

    def _begin(self, service: Service, state: Unit, takes_s: float, target: Unit) -> None:
        if service.state is not state:
            self.become(service, state)
        service.due = (self.world.now_s + takes_s, target)

    def become(self, service: Service, state: Unit, why: str = "") -> None:
        service.state, service.since_s, service.due = state, self.world.now_s, None
        service.why = why or ("exit-code" if state is Unit.FAILED else "")

    def advance(self) -> bool:
        """Let what is due happen; says whether anything changed."""
        changed = False
        for service in self.services.values():
            if service.due and service.due[0] <= self.world.now_s:
                self.become(service, service.due[1])
                changed = True
        return changed

    def due_s(self) -> float:
        return min((s.due[0] for s in self.services.values() if s.due), default=float("inf"))


class Request:
    """The operator's request file."""

    def __init__(self) -> None:
        self.asked = False

    def exists(self) -> bool:
        return self.asked

    def unlink(self, *, missing_ok: bool) -> None:
        assert missing_ok
        self.asked = False


class Paths:
    """Where requests are."""

    def __init__(self) -> None:
        self.failback_request = Request()


class Recorder:
    """Keeps in memory what the real one would write."""

    lost = 0

    def __init__(self, world: "World") -> None:
        self.world = world
        self.paths = Paths()
        self.word = ""
        self.told: list[tuple[float, Event]] = []
        self.words: list[tuple[float, str]] = []
        self.last_intent: dict[str, Any] | None = None
        self.last_status: dict[str, Any] = {}

    def tell(self, event: Event) -> None:
        self.told.append((self.world.now_s, event))
        self.world.log.append((self.world.now_s, event))

    def state_word(self, word: str) -> None:
        if word != self.word:
            self.word = word
            self.words.append((self.world.now_s, word))
            self.world.log.append((self.world.now_s, word))

    def status(self, document: dict[str, Any]) -> None:
        self.last_status = document

    def intent(self, document: dict[str, Any]) -> bool:
        self.last_intent = document
        return True


class World:
    """Everything around one monitor.  `run_until` lets virtual time pass."""

    def __init__(self, policy: Policy, *, seed: int = 0, booted_s: float = -1000.0) -> None:
        self.policy = policy
        self.rng = random.Random(seed)
        self.now_s = 0.0
        self.hosts = {a: Host() for a in (*policy.primary, *policy.references)}
        self.plugged = True  # our own port has carrier
        self.network = True  # our own network carries what we send
        self.loss = 0.0  # of a whole echo
        self.latency_s = LATENCY_S
        self.log: list[tuple[float, Event | str]] = []
        self.boot = 1
        self.booted_s = booted_s
        self.systemd = Systemd(self, policy.services)
        self.recorder = Recorder(self)
        self.wire = Wire(self)
        self.monitor: Monitor | None = None
        self.starts_s = 0.0  # when systemd starts the monitor (again)
        self.frozen_until_s = 0.0
        self.slept_s = 0.0

    def begin(self) -> None:
        """The monitor's process starts."""
        self.wire = Wire(self)
        intent = self.recorder.last_intent
        self.monitor = Monitor(
            self.policy,
            probe=self.wire,
            services=self.systemd,
            recorder=self.recorder,  # type: ignore[arg-type]
            clock=lambda: self.now_s,
            slept=lambda: self.slept_s,
            boot_id=str(self.boot),
            booted_s=self.booted_s,
            alive=lambda line: None,
        )
        self.systemd.watch(self.policy.services)
        if intent:
            self.monitor.resume(intent)
        self.monitor.turn()

    def kill(self, *, away_s: float = RESTART_S) -> None:
        """SIGKILL; systemd writes `unknown` and starts it again."""
        self.monitor = None
        self.recorder.state_word("unknown")
        self.starts_s = self.now_s + away_s

    def reboot(self, *, takes_s: float) -> None:
        """The host goes down and comes up with nothing running."""
        self.kill(away_s=takes_s)
        self.boot += 1
        self.booted_s = self.now_s + takes_s
        self.recorder.word = ""
        for service in self.systemd.services.values():
            self.systemd.become(service, Unit.STOPPED)
        self.systemd.host_stopping = False

    def freeze(self, for_s: float) -> None:
        self.frozen_until_s = self.now_s + for_s

    def suspend(self, for_s: float) -> None:
        """The host sleeps: CLOCK_BOOTTIME goes on, CLOCK_MONOTONIC does not."""
        self.freeze(for_s)
        self.slept_s += for_s

    def next_s(self) -> float:
        """When something happens next."""
        if self.monitor is None:
            return max(self.starts_s, self.now_s)
        arrival_s = self.wire.flying[0][0] if self.wire.flying else float("inf")
        turn_s = min(self.monitor.due_s(), arrival_s)
        return max(self.now_s, min(max(turn_s, self.frozen_until_s), self.systemd.due_s()))

    def step(self, until_s: float) -> None:
        """Go to the next moment at which something happens, `until_s` at the latest."""
        self.now_s = min(self.next_s(), until_s)
        self.systemd.advance()
        if self.monitor is None:
            if self.now_s >= self.starts_s:
                self.begin()
            return
        if self.now_s >= self.frozen_until_s:
            self.monitor.turn()

    def wake(self) -> None:
        """What just changed outside wakes the monitor, as a signal from systemd would."""
        if self.monitor and self.now_s >= self.frozen_until_s:
            self.monitor.turn()

    def run_until(self, until_s: float) -> None:
        while self.now_s < until_s:
            self.step(until_s)


def policy_of(**settings: Any) -> Policy:
    """A policy for tests: one primary, one gateway, one service."""
    settings.setdefault("primary", ("198.51.100.2",))
    settings.setdefault("references", ("198.51.100.1",))
    settings.setdefault("services", ("app.service",))
    settings.setdefault("startup_grace_s", 0.0)
    return Policy(**settings)
