"""A toy world for the real monitor: hosts, a wire, services, a clock.

Rule: nothing in it touches the real one.  The monitor, detector, contact, tables and events are the
production code; only the probe, the door to systemd, the recorder, the doors of the protections
(`toys`) and the clock are ordinary small classes.  Scenarios drive it from a script, and the tests'
random lives from a seed.
"""

import heapq
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from failover_monitor.events import Event
from failover_monitor.model import (
    AT_REST,
    INF,
    Answer,
    Effect,
    Phase,
    Policy,
    Role,
    Round,
    Unit,
    UnitSeen,
    Verb,
)
from failover_monitor.monitor import Monitor, Services
from failover_monitor.protections import Protections
from failover_monitor.rehearsal.toys import Store, Toy, toy_doors

LATENCY_S = 0.001
START_S = STOP_S = 0.02
KILL_S = 0.02
RESTART_S = 1.0  # RestartSec= of the monitor's unit
RESTART_SOON_S = 0.1  # and where stopping is enforced
RESET_S = 30.0  # from a reset until the monitor runs again


@dataclass(frozen=True)
class Note:
    """Something that happened in the world, for a timeline."""

    what: str


@dataclass(frozen=True)
class Turn:
    """Something that the story let happen, for a timeline."""

    what: str


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
            answer = heapq.heappop(self.flying)[2]
            self.world.proof_s = max(self.world.proof_s, answer.sent_s)
            yield answer

    def filenos(self) -> Iterable[int]:
        return ()

    def close(self) -> None:
        self.flying.clear()


@dataclass
class Service:
    """One unit and how it behaves."""

    name: str
    state: Unit = Unit.STOPPED
    since_s: float = 0.0
    why: str = ""
    starts_in_s: float = START_S
    stops_in_s: float = STOP_S
    fails: int = 0  # so many starts fail
    oneshot: bool = False
    immortal: bool = False  # hangs in the kernel: not even SIGKILL ends it
    due: tuple[float, Unit] | None = None  # the change under way


class Systemd:
    """The door to systemd: asks are accepted at once, what came of them is seen later."""

    def __init__(self, world: "World", names: Iterable[str]) -> None:
        self.world = world
        self.services = {name: Service(name) for name in names}
        self.watched = tuple(names)
        self.host_stopping = False
        self.gone = False  # neither D-Bus nor systemctl answers
        self.asked: list[tuple[Effect, Phase]] = []  # and the phase that asks

    def seen(self) -> tuple[UnitSeen, ...]:
        if self.gone:
            return tuple(UnitSeen(name, Unit.UNKNOWN) for name in self.watched)
        seen = ((name, self.services[name]) for name in self.watched)
        return tuple(UnitSeen(name, s.state, s.since_s, s.why) for name, s in seen)

    def populated(self, name: str) -> bool:
        """The kernel's word, whatever systemd says."""
        return self.services[name].state not in AT_REST

    def watch(self, units: Iterable[str]) -> None:
        self.watched = tuple(units)
        for name in self.watched:
            self.services.setdefault(name, Service(name))

    def ask(self, effect: Effect) -> None:
        if monitor := self.world.monitor:
            self.asked.append((effect, monitor.state.phase))
        if self.gone:
            return
        match effect.verb:
            case Verb.START:
                self.start(effect.service)
            case Verb.STOP:
                self.stop(effect.service)
            case Verb.KILL:
                self.kill(effect.service)

    @property
    def permitted(self) -> bool:
        """On a guarded primary every unit has a condition: the gate is open."""
        guarded = self.world.policy.role is Role.PRIMARY
        return not guarded or "permit" in self.world.recorder.raised

    def start(self, name: str) -> None:
        service = self.services[name]
        if service.state is Unit.RUNNING:
            return
        if not self.permitted:
            self.become(service, Unit.FAILED, "condition not met")
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

    def kill(self, name: str) -> None:
        service = self.services[name]
        moving = (Unit.RUNNING, Unit.STARTING, Unit.STOPPING)
        if service.state in moving and not service.immortal:
            service.due = (self.world.now_s + KILL_S, Unit.FAILED)

    def die(self, name: str) -> None:
        self.become(self.services[name], Unit.FAILED, "signal")

    def restart(self, name: str, after_s: float) -> None:
        """The unit died and systemd will restart it by itself (Restart=)."""
        if not self.permitted:
            self.become(self.services[name], Unit.FAILED, "condition not met")
            return
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
        return min((s.due[0] for s in self.services.values() if s.due), default=INF)


class Paths:
    """Names of the files that mean something by being there."""

    permit, armed = "permit", "armed"


class Memory:
    """What the monitor leaves for its next process, and an operator for the monitor."""

    lost = 0

    def __init__(self) -> None:
        self.paths = Paths()
        self.last_intent: dict[str, Any] | None = None
        self.raised: set[str] = set()  # files that mean something by being there
        self.until_s: float | None = None
        self.requests: dict[str, str] = {}  # what an operator has left, not taken yet
        self.pause: str | None = None  # the file of the pause; outlives a boot

    def take_request(self, order: str) -> str | None:
        return self.requests.pop(order, None)

    def pause_text(self) -> str | None:
        return self.pause

    def end_pause(self) -> None:
        self.pause = None

    def intent(self, document: dict[str, Any]) -> bool:
        self.last_intent = document
        return True

    def flag(self, name: str, *, raised: bool) -> None:
        (self.raised.add if raised else self.raised.discard)(name)

    def keep_time(self, until_s: float) -> None:
        self.until_s = until_s

    def kept_time(self) -> float | None:
        return self.until_s


class Recorder(Memory):
    """Keeps in memory what the real one would write."""

    def __init__(self, world: "World") -> None:
        super().__init__()
        self.world = world
        self.word = ""
        self.told: list[tuple[float, Event]] = []
        self.words: list[tuple[float, str]] = []
        self.last_status: dict[str, Any] = {}
        self.samples: list[dict[str, Any]] = []

    def ask(self, order: str, by: str = "alice") -> None:
        """An operator leaves a request."""
        wish = {"by": by, "at_s": self.world.now_s, "reason": "a test"}
        self.requests[order] = json.dumps(wish)

    def pause_for(self, length_s: float, by: str = "alice") -> None:
        """An operator pauses it."""
        now_s = self.world.now_s
        pause = {"by": by, "at_s": now_s, "reason": "a test", "length_s": length_s}
        until = f"{now_s + length_s:g} s"
        boot = {"boot_id": str(self.world.boot), "began_s": now_s, "until": until}
        self.pause = json.dumps(pause | boot)

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

    def sample(self, document: dict[str, Any]) -> None:
        self.samples.append(document)


class World:
    """Everything around one monitor.  `run_until` lets virtual time pass."""

    def __init__(self, policy: Policy, *, seed: int = 0, booted_s: float = -1000.0) -> None:
        self.policy = policy
        self.rng = random.Random(seed)  # noqa: S311, the same loss each time
        self.now_s = 0.0
        self.hosts = {a: Host() for a in policy.watched}
        self.plugged = True  # our own port has carrier
        self.dead = False  # the primary is, for sure: it lost its power, or was fenced
        self.network = True  # our own network carries what we send
        self.loss = 0.0  # of a whole echo
        self.latency_s = LATENCY_S
        self.log: list[tuple[float, Event | Note | Turn | str]] = []
        self.boot = 1
        self.booted_s = booted_s
        self.systemd = Systemd(self, policy.services)
        self.recorder = Recorder(self)
        self.wire = Wire(self)
        self.monitor: Monitor | None = None
        self.starts_s = 0.0  # when systemd starts the monitor (again)
        self.frozen_until_s = 0.0
        self.slept_s = 0.0
        self.petted_s = 0.0  # when systemd's watchdog heard of the monitor last
        self.proof_s = -INF  # when the newest echo that was answered had been sent
        self.fenced_s = -INF  # when the fence succeeded last
        self.toys: list[Toy] = []
        self.says: dict[str, str] = {}  # what each service check says
        self.fence_plan = ("succeeds", 2.0)  # and how long a try takes
        self.hook_plan: dict[str, tuple[str, float]] = {}  # how a hook ends, and when
        self.store = Store()

    def begin(self) -> None:
        """The monitor's process starts."""
        self.wire = Wire(self)
        self.petted_s = self.now_s
        self.toys = []
        protections = self.protections()
        intent = self.recorder.last_intent
        self.monitor = Monitor(
            self.policy,
            probe=self.wire,
            services=self.door(),
            recorder=self.recorder,  # type: ignore[arg-type]
            clock=lambda: self.now_s,
            slept=lambda: self.slept_s,
            boot_id=str(self.boot),
            booted_s=self.booted_s,
            alive=self._alive,
            protections=protections,
            wall=lambda: self.now_s,
        )
        self.systemd.watch(self.policy.services)
        if intent:
            self.monitor.resume(intent)
        self.monitor.turn()

    def door(self) -> Services:
        """What the monitor asks: systemd itself."""
        return self.systemd

    def protections(self) -> Protections:
        """The production class; its doors lead to toys."""
        doors = toy_doors(self, self.toys)
        return Protections(self.policy, lambda: self.now_s, lambda: None, doors=doors)

    def _alive(self, line: str, trusted: bool, new_limit: bool) -> None:
        if new_limit and self.monitor:
            self.petted_s = self.now_s + self.monitor.time_left_s - self.policy.stop_limit_s
        elif trusted:
            self.petted_s = self.now_s

    def kill(self, *, away_s: float | None = None) -> None:
        """SIGKILL; systemd writes `unknown` and starts it again."""
        soon = RESTART_SOON_S if self.policy.enforced else RESTART_S
        self.monitor = None
        self.toys = []
        self.recorder.state_word("unknown")
        self.starts_s = self.now_s + (soon if away_s is None else away_s)

    @property
    def watchdog_s(self) -> float:
        """When systemd gives the monitor up; only modelled where stopping is enforced."""
        if self.monitor is None or not self.policy.enforced:
            return INF
        return self.petted_s + self.policy.stop_limit_s

    def bark(self) -> None:
        """The watchdog: the monitor is killed; and the host is reset, if services may run here."""
        if "armed" in self.recorder.raised:
            self.note("the watchdog resets this host")
            self.reboot(takes_s=RESET_S)
        else:
            self.kill()
            self.frozen_until_s = self.now_s

    def note(self, what: str) -> None:
        """For the timeline: something that the monitor has not said."""
        self.log.append((self.now_s, Note(what)))

    def power_off(self) -> None:
        """The primary is fenced."""
        self.fenced_s, self.dead = self.now_s, True
        for address in self.policy.primary:
            self.hosts[address].up = False

    def reboot(self, *, takes_s: float) -> None:
        """The host goes down and comes up with nothing running."""
        self.kill(away_s=takes_s)
        self.boot += 1
        self.booted_s = self.now_s + takes_s
        self.recorder.word = ""
        self.recorder.raised.clear()
        self.recorder.until_s = None
        for service in self.systemd.services.values():
            self.systemd.become(service, Unit.STOPPED)
            service.immortal = False
        self.systemd.host_stopping = False
        self.frozen_until_s = self.now_s

    def freeze(self, for_s: float) -> None:
        self.frozen_until_s = self.now_s + for_s

    def suspend(self, for_s: float) -> None:
        """The host sleeps: CLOCK_BOOTTIME goes on, CLOCK_MONOTONIC does not."""
        self.freeze(for_s)
        self.slept_s += for_s
        self.petted_s += for_s

    def next_s(self) -> float:
        """When something happens next."""
        if self.monitor is None:
            return max(self.starts_s, self.now_s)
        arrival_s = self.wire.flying[0][0] if self.wire.flying else INF
        toys_s = min((toy.due_s() for toy in self.toys), default=INF)
        turn_s = max(min(self.monitor.due_s(), arrival_s, toys_s), self.frozen_until_s)
        return max(self.now_s, min(turn_s, self.systemd.due_s(), self.watchdog_s))

    def step(self, until_s: float) -> None:
        """Go to the next moment at which something happens, `until_s` at the latest."""
        self.now_s = min(self.next_s(), until_s)
        self.systemd.advance()
        if self.monitor is None:
            if self.now_s >= self.starts_s:
                self.begin()
            return
        if self.now_s >= self.watchdog_s:
            self.bark()
        else:
            self.wake()

    def wake(self) -> None:
        """What just changed outside wakes the monitor, as a signal from systemd would."""
        if self.monitor and self.now_s >= self.frozen_until_s:
            for toy in self.toys:
                toy.advance()
            self.monitor.turn()

    def run_until(self, until_s: float) -> None:
        while self.now_s < until_s:
            self.step(until_s)
