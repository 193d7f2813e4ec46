"""A whole pair in virtual time: hosts with clocks of their own, a wire, units, watchdogs, a store.

Rule: what decides is the production `Monitor`, detector, guard, machine and keeper, unchanged; what
is made here is only the world around them.  True time is the world's; every host reads its own
clock, which is off by an offset and runs at a rate of its own.
"""

import heapq
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from failover_monitor import leases
from failover_monitor.decision import decide
from failover_monitor.leases import Ask, Reply
from failover_monitor.leases.keeper import Wish
from failover_monitor.model import (
    ARMED,
    AT_REST,
    ENDING,
    INF,
    PATIENCE_S,
    SERVING,
    Answer,
    Decision,
    Effect,
    LeasePolicy,
    Observation,
    Outcome,
    Phase,
    Policy,
    Role,
    Round,
    Unit,
    UnitSeen,
    Verb,
    Verdict,
)
from failover_monitor.monitor import Monitor
from failover_monitor.rehearsal.world import Memory
from failover_monitor.status import Status

GATEWAY, WITNESS = "198.51.100.1", "203.0.113.1"
ADDRESSES = {"P": "198.51.100.2", "S": "198.51.100.3", "S2": "198.51.100.4"}
NAMES = {address: name for name, address in ADDRESSES.items()} | {GATEWAY: "G", WITNESS: "W"}
ARBITERS = ("A1", "A2", "A3")
EVERYBODY = (*ADDRESSES, "G", "W", *ARBITERS)
ENGINE = "simulated"
TICK_S = 1e-9  # a turn is never so early that its moment has not come
KILLED_S = 0.01  # from SIGKILL to an empty cgroup
EARLY_S = 1e-6  # a threshold is looked at from so long before on


class TornError(Exception):
    """SIGKILL between the record and what it leads to."""


@dataclass(slots=True)
class Managed:
    """One unit on one host, and how it behaves."""

    name: str
    state: Unit = Unit.STOPPED
    since_s: float = 0.0
    starts_in_s: float = 0.02
    stops_in_s: float = 0.02
    deaf: bool = False  # ignores SIGTERM
    immortal: bool = False  # not even SIGKILL ends it; a reset does
    leaves: bool = False  # KillMode=process: its children outlive a stop
    left: bool = False  # and some are there
    due_s: float = INF
    target: Unit = Unit.STOPPED

    @property
    def alive(self) -> bool:
        return self.left or self.state not in AT_REST


class Recorder(Memory):
    """Nobody reads what is told here."""

    def tell(self, event: object) -> None:
        pass

    def state_word(self, word: str) -> None:
        pass

    def status(self, document: dict[str, Any]) -> None:
        pass

    def sample(self, document: dict[str, Any]) -> None:
        pass


class Quiet(Status):
    """A status that nobody reads."""

    def sent(self, address: str, round_: Round) -> None:
        pass

    def answered(self, answer: Answer, now_s: float) -> None:
        pass


class Lean(Monitor):
    """The production monitor without what people read, and without decisions that cannot differ.

    In a phase that leaves the services alone a decision depends on the verdict, the units, the
    lease and a few deadlines.  While none of them has changed or come, the last answer stands.
    That this changes nothing is tested against `Monitor` itself.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.status = Quiet(self.clock())
        self._key: tuple[object, ...] = ()
        self._again_s = -INF  # a decision may differ from then on
        self._moments: tuple[float, ...] = ()
        turn_s = self.policy.stop_limit_s / 4 if self.policy.enforced else 3.0
        self._turn_at_least_s = min(3.0, turn_s)

    def turn(self) -> None:
        now_s = self._turned_s = self.clock()
        self.look(now_s)
        until_s = self._serve_until_s()
        detector = self.detector
        key = (
            self.services.seen(),
            detector.verdict,
            detector.answering_since_s,
            self.protections.leased_since_s,
            self.services.host_stopping,
            now_s < until_s,
            self.orders.pause,
            tuple(self.orders.pending),
            self.state.by_hand,
        )
        if key == self._key and now_s < self._again_s:
            detector.told.clear()
            if until_s < INF and self.state.phase in ARMED:
                self.recorder.until_s = until_s  # type: ignore[attr-defined]
        else:
            self._decide(now_s)
            self._key = key
            self._again_s = self._settled_until_s()
        begun = self.state.phase in ENDING and self.state.since_s == now_s
        self._alive("", self.trusted or begun, begun)

    def _decide(self, now_s: float) -> None:
        changed = True
        while changed:
            seen = self._seen = self.observe(now_s)
            decision = decide(self.state, seen, self.policy)
            changed = decision.transition is not None or decision.effects != ()
            self.record(decision, seen)
            self.act(decision)
        self._moments = tuple(
            at_s for m in self.state.services for at_s in (m.retry_s, m.asked_s + PATIENCE_S)
        )

    def _settled_until_s(self) -> float:
        """Until when the next decision is this one, if nothing but time changes."""
        detector, policy, guard = self.detector, self.policy, self.policy.guard
        if self.state.by_hand:  # an operator's claim is given up when nobody looks any more
            return -INF
        match self.state.phase:
            case Phase.SERVING | Phase.ACTIVE:
                return INF
            case Phase.CLAIM if policy.lease:
                return INF
            case Phase.STANDBY | Phase.CLAIM:
                if detector.verdict is not Verdict.DOWN:
                    return INF
                return detector.verdict_since_s + policy.takeover_delay_s - EARLY_S
            case Phase.GATED if policy.lease:
                return INF
            case Phase.GATED if guard:
                begun_s = detector.answering_since_s
                return INF if begun_s is None else begun_s + guard.boot_hold_s - EARLY_S
            case _:
                return -INF

    def due_s(self) -> float:
        now_s = self._turned_s
        if self._again_s == -INF:
            return super().due_s()
        due_s = min(now_s + self._turn_at_least_s, self.detector.due_s, self.protections.due_s)
        for at_s in (*self._moments, self._serve_until_s()):
            if now_s < at_s < due_s:
                due_s = at_s
        return due_s

    def record(self, decision: Decision, seen: Observation) -> None:
        self.state = decision.state
        self.detector.told.clear()
        self._units = seen.units
        self._keep_flags(seen)

    def intent(self) -> dict[str, Any]:
        """What the last record has written down."""
        self._keep_intent()
        return self._intent


@dataclass(slots=True)
class Clock:
    """local = offset + rate * true"""

    offset_s: float
    rate: float

    def local(self, true_s: float) -> float:
        return self.offset_s + self.rate * true_s

    def true(self, local_s: float) -> float:
        return (local_s - self.offset_s) / self.rate


class Host:
    """P, S or S2: its clock, units, watchdog, and the monitor's process.

    It is the monitor's probe and door to systemd as well.
    """

    def __init__(self, world: "World", name: str, policy: Policy, clock: Clock) -> None:
        self.world = world
        self.name = name
        self.policy = policy
        self.clock = clock
        self.units = tuple(Managed(service) for service in policy.services)
        self.recorder = Recorder()
        self.monitor: Monitor | None = None
        self.monitor_class: type[Monitor] = world.monitor_class
        self.up = True
        self.boot = 1
        self.booted_s = clock.local(-1000.0)
        self.host_stopping = False
        self.flying: list[tuple[float, int, float, str, Answer]] = []
        self.engine: StoreDoor | None = None
        self.begins_s = INF  # the monitor's process
        self.boots_s = INF
        self.halts_s = INF  # an orderly shutdown must be over
        self.watchdog_s = INF
        self.frozen_until_s = -INF  # SIGSTOP
        self.paused_until_s = -INF  # the whole virtual machine
        self.slept_s = 0.0
        self.late_s = 0.0  # turns come so late, at most
        self.turn_s = INF
        self.next_s = INF
        self.petted_s = -INF
        self.limit_s = policy.stop_limit_s  # of the watchdog
        self.torn = False  # the next effect is never asked: SIGKILL comes first
        self.phase = Phase.UNKNOWN
        self._seen: tuple[UnitSeen, ...] | None = None

    # The monitor's process.

    def begin(self) -> None:
        """The process starts: it reads what the last one left, and takes its first turn."""
        world, policy = self.world, self.policy
        self.begins_s = INF
        self.frozen_until_s = -INF
        self.flying.clear()
        world.making = self
        leases.KINDS[ENGINE] = world.door
        monitor = self.monitor = self.monitor_class(
            policy,
            probe=self,
            services=self,
            recorder=self.recorder,  # type: ignore[arg-type]
            clock=self.now_s,
            slept=lambda: self.slept_s,
            boot_id=str(self.boot),
            booted_s=self.booted_s,
            alive=self.alive,
            wall=self.now_s,
        )
        self.petted_s = -INF
        if self.recorder.last_intent:
            monitor.resume(self.recorder.last_intent)
        self.limit_s = policy.stop_limit_s
        self.turn()
        self.set_watchdog()

    def kill(self, away_s: float) -> None:
        """SIGKILL; systemd starts it again."""
        if self.monitor is None:
            return
        if isinstance(self.monitor, Lean):
            self.recorder.last_intent = self.monitor.intent()
        self.monitor = None
        self.phase = Phase.UNKNOWN
        if self.engine:
            self.engine.close()
        self.turn_s = self.watchdog_s = INF
        self.begins_s = self.world.now_s + away_s

    def turn(self) -> None:
        monitor = self.monitor
        if monitor is None:
            return
        try:
            monitor.turn()
        except TornError:
            self.torn = False
            self.kill(self.world.rng.uniform(0.1, 0.9))
            return
        due_s = self.clock.true(monitor.due_s()) + TICK_S
        if self.late_s:
            due_s += self.world.rng.random() * self.late_s
        self.turn_s = due_s
        if monitor.state.phase is not self.phase:
            before, self.phase = self.phase, monitor.state.phase
            self.world.entered(self, before, self.phase)

    def now_s(self) -> float:
        return self.clock.offset_s + self.clock.rate * self.world.now_s

    def alive(self, line: str, trusted: bool, new_limit: bool) -> None:
        """As `Daemon._alive` does it."""
        del line
        if new_limit or (trusted and self.limit_s < self.policy.stop_limit_s):
            self.set_watchdog()
        elif trusted and self.now_s() - self.petted_s >= self.policy.stop_limit_s / 10:
            self.petted_s = self.now_s()
            self.pet()

    def set_watchdog(self) -> None:
        """As `Daemon._set_watchdog` does it; systemd counts anew from here."""
        if self.monitor:
            self.limit_s = self.monitor.time_left_s
            self.pet()

    def pet(self) -> None:
        takes_s = self.limit_s / self.clock.rate + self.world.reset_takes_s
        self.watchdog_s = self.world.now_s + takes_s

    # The probe.

    def send(self, address: str, round_: Round) -> str:
        world, target = self.world, NAMES[address]
        there_s = world.carried(self.name, target)
        if there_s is None or not world.answers(target):
            return ""
        back_s = world.carried(target, self.name)
        if back_s is not None:
            mid_s = world.now_s + there_s
            answer = Answer(address, round_.number, round_.sent_s)
            world.count += 1
            heapq.heappush(self.flying, (mid_s + back_s, world.count, mid_s, target, answer))
        return ""

    def receive(self) -> Iterable[Answer]:
        flying, now_s = self.flying, self.world.now_s + TICK_S
        if not flying or flying[0][0] > now_s:
            return ()
        return self._arrived(now_s)

    def _arrived(self, now_s: float) -> Iterator[Answer]:
        while self.flying and self.flying[0][0] <= now_s:
            yield heapq.heappop(self.flying)[4]

    def filenos(self) -> Iterable[int]:
        return ()

    def close(self) -> None:
        self.flying.clear()

    # The door to systemd.

    def seen(self) -> tuple[UnitSeen, ...]:
        if self._seen is None:
            self._seen = tuple(
                UnitSeen(
                    unit.name,
                    Unit.STOPPING if unit.left and unit.state in AT_REST else unit.state,
                    unit.since_s,
                )
                for unit in self.units
            )
        return self._seen

    def watch(self, units: Iterable[str]) -> None:
        pass

    def populated(self, name: str) -> bool:
        return any(unit.alive for unit in self.units if unit.name == name)

    def ask(self, effect: Effect) -> None:
        if self.torn:
            raise TornError
        self.world.asked(self, effect)
        unit = next(unit for unit in self.units if unit.name == effect.service)
        match effect.verb:
            case Verb.START:
                self.start(unit)
            case Verb.STOP:
                self.stop(unit)
            case Verb.KILL:
                self.kill_unit(unit)

    def start(self, unit: Managed) -> None:
        """The units of a guarded primary start only with the guard's permit."""
        refused = self.policy.role is Role.PRIMARY and "permit" not in self.recorder.raised
        if refused and self.world.gated:
            self.become(unit, Unit.FAILED)
        elif unit.state is not Unit.RUNNING:
            self.become(unit, Unit.STARTING, unit.starts_in_s, Unit.RUNNING)

    def stop(self, unit: Managed) -> None:
        if unit.state in AT_REST:
            return
        endless = unit.deaf or unit.immortal
        if unit.state is not Unit.STOPPING or unit.due_s == INF:
            self.become(unit, Unit.STOPPING, INF if endless else unit.stops_in_s, Unit.STOPPED)

    def kill_unit(self, unit: Managed) -> None:
        if unit.immortal:
            return
        unit.left = False
        if unit.state in AT_REST:
            self.become(unit, unit.state)
        else:
            self.become(unit, Unit.STOPPING, KILLED_S, Unit.STOPPED)
        unit.leaves = False

    def become(
        self, unit: Managed, state: Unit, takes_s: float = INF, target: Unit = Unit.STOPPED
    ) -> None:
        world = self.world
        unit.since_s = unit.since_s if unit.state is state else self.now_s()
        unit.state = state
        unit.due_s, unit.target = world.now_s + takes_s, target
        if state in AT_REST:
            unit.left = unit.left or (unit.leaves and state is Unit.STOPPED)
        self._seen = None
        world.changed(self)

    # The host.

    @property
    def active(self) -> bool:
        """Act_X: a unit is not at rest, or a process of it is left."""
        return any(unit.alive for unit in self.units)

    @property
    def serves(self) -> bool:
        return self.up and all(unit.state is Unit.RUNNING for unit in self.units)

    def down(self, away_s: float) -> None:
        """Power off, or reset by the watchdog: everything is gone at once."""
        self.kill(INF)
        self.up = False
        self.host_stopping = False
        self.frozen_until_s = self.paused_until_s = -INF
        self.recorder.raised.clear()
        self.recorder.until_s = None
        self.begins_s = self.halts_s = INF
        self.boots_s = self.world.now_s + away_s
        self.flying.clear()
        for unit in self.units:
            unit.immortal = unit.left = unit.leaves = False
            self.become(unit, Unit.STOPPED)

    def booted(self) -> None:
        """The kernel answers; the monitor comes a little later, and units try to start at once."""
        world = self.world
        self.up, self.boots_s = True, INF
        self.boot += 1
        self.booted_s = self.now_s()
        self.begins_s = world.now_s + world.rng.uniform(0.2, 1.5)
        if self.policy.role is Role.PRIMARY:
            for unit in self.units:
                self.start(unit)

    def pause(self, for_s: float, *, clock: bool) -> None:
        """The host stands still; its clock goes on (suspend), or does not (a virtual machine)."""
        now_s = self.world.now_s
        self.paused_until_s = now_s + for_s
        if clock:
            self.slept_s += self.clock.rate * for_s
        else:
            self.clock.offset_s -= self.clock.rate * for_s
        self.turn_s = min(self.turn_s, now_s) + for_s
        self.watchdog_s += for_s
        self.begins_s += for_s
        for unit in self.units:
            unit.due_s += for_s
        self.world.changed(self)

    # Time.

    def plan(self) -> float:
        """When something happens here next."""
        next_s = min(self.begins_s, self.boots_s, self.halts_s, self.watchdog_s)
        for unit in self.units:
            next_s = min(next_s, unit.due_s)
        if self.monitor:
            turn_s = self.turn_s
            if self.flying:
                turn_s = min(turn_s, self.flying[0][0])
            if self.engine:
                turn_s = min(turn_s, self.engine.due_s)
            next_s = min(next_s, max(turn_s, self.frozen_until_s))
        self.next_s = next_s if self.paused_until_s == -INF else self.paused_until_s
        return self.next_s

    def step(self) -> None:
        """What is due at this moment."""
        now_s = self.world.now_s
        if self.paused_until_s > -INF:
            self.paused_until_s = -INF
            self.world.changed(self)
            return
        if now_s >= self.boots_s:
            self.booted()
        if now_s >= self.halts_s:
            self.down(self.world.rebooting_s)
        if now_s >= self.watchdog_s:
            self.bite()
        changed = False
        for unit in self.units:
            if now_s >= unit.due_s:
                self.become(unit, unit.target)
                changed = True
        if changed and self.host_stopping and not self.active:
            self.halts_s = min(self.halts_s, now_s + 0.3)
        if now_s >= self.begins_s:
            self.begin()
        elif self.monitor and now_s >= self.frozen_until_s and (changed or self._turn_due(now_s)):
            self.turn()

    def _turn_due(self, now_s: float) -> bool:
        if now_s >= self.turn_s or (self.flying and now_s >= self.flying[0][0]):
            return True
        return self.engine is not None and now_s >= self.engine.due_s

    def bite(self) -> None:
        """Systemd's watchdog: where services may run the host is reset, else the process ends."""
        if "armed" in self.recorder.raised and self.world.bites:
            self.world.say(self, "the watchdog resets the host")
            self.down(self.world.rng.uniform(2.0, 15.0))
        else:
            self.kill(self.world.rng.uniform(0.1, 1.0))


@dataclass(slots=True)
class Held:
    """Who holds the lease, in the store."""

    holder: str
    boot: int
    lease: tuple[str, int, int]
    expires_s: float  # true time


class Store:
    """The arbiters: one memory, reached through any of three members."""

    def __init__(self, world: "World", policy: LeasePolicy, rate: float) -> None:
        self.world = world
        self.ttl_s = policy.ttl_s / rate
        self.held: Held | None = None
        self.settled = True
        self.down_until_s = -INF
        self.slow_s = 0.0  # a request waits so long, at most

    def answer(self, host: str, boot: int, lease: tuple[str, int, int], ask: Ask) -> Reply:
        """One request, at the moment at which it is carried out."""
        now_s = self.world.now_s
        if self.held and now_s >= self.held.expires_s:
            self.held = None
        held, fresh = self.held, not self.settled
        if ask.verb is Wish.ACQUIRE:
            if held and (held.holder, held.boot) != (host, boot):
                return Reply(ask.number, Outcome.FAIL, held.holder)
            self.held = Held(host, boot, lease, now_s + self.ttl_s)
            return Reply(ask.number, Outcome.PASS, host, fresh)
        ours = held is not None and held.lease == lease
        if ask.verb is Wish.RELEASE:
            if ours:
                self.held = None
            return Reply(ask.number, Outcome.PASS)
        if held is None or not ours:
            return Reply(ask.number, Outcome.FAIL, held.holder if held else "")
        self.settled = self.settled or ask.settled
        held.expires_s = now_s + self.ttl_s
        return Reply(ask.number, Outcome.PASS, host)

    def restart(self, *, forgets: bool) -> None:
        """A new leader counts every lease anew; a new store knows of none."""
        if forgets:
            self.held, self.settled = None, False
        elif self.held:
            self.held.expires_s = max(self.held.expires_s, self.world.now_s + self.ttl_s)


class StoreDoor:
    """A host's way to the store; an `Engine`."""

    def __init__(self, host: Host, policy: LeasePolicy) -> None:
        self.host = host
        self.limit_s = policy.ttl_s / 5 * 0.9
        self.due_s = INF  # a reply is there
        self._replies: list[tuple[float, Reply]] = []
        self._lease = (host.name, host.boot, 0)
        self._ask: Ask | None = None

    def send(self, ask: Ask) -> None:
        world, host = self.host.world, self.host
        self._ask = ask
        if ask.verb is Wish.ACQUIRE:
            world.count += 1
            self._lease = (host.name, host.boot, world.count)
        self._replies.append(
            (world.now_s + self.limit_s, Reply(ask.number, Outcome.UNKNOWN, why="no answer"))
        )
        self._plan()
        store, tried_s = world.store, 0.0
        assert store
        for member in world.members(host.name):
            there_s = world.carried(host.name, member)
            if there_s is None:
                tried_s += self.limit_s / len(ARBITERS)
                continue
            slow_s = world.rng.random() * store.slow_s
            world.post(tried_s + there_s + slow_s, self, host.boot, self._lease, ask, member)
            return

    def arrive(self, boot: int, lease: tuple[str, int, int], ask: Ask, member: str) -> None:
        """The request is at the store."""
        world, store = self.host.world, self.host.world.store
        if store is None or world.now_s < store.down_until_s:
            return
        reply = store.answer(self.host.name, boot, lease, ask)
        back_s = world.carried(member, self.host.name)
        if back_s is not None and self._ask is ask:
            self._replies = [(world.now_s + back_s, reply)]
            self._plan()
            self.host.plan()

    def _plan(self) -> None:
        self._replies.sort(key=lambda entry: entry[0])
        self.due_s = self._replies[0][0] if self._replies else INF

    def receive(self) -> list[Reply]:
        now_s = self.host.world.now_s
        if now_s < self.due_s:
            return []
        found = [reply for at_s, reply in self._replies if at_s <= now_s]
        self._replies.clear()
        self._plan()
        return found

    def close(self) -> None:
        self._replies.clear()
        self._ask = None
        self._plan()


class World:
    """The pair, and everything between its hosts."""

    def __init__(
        self,
        policies: dict[str, Policy],
        *,
        seed: int,
        clocks: dict[str, Clock] | None = None,
        monitor_class: type[Monitor] = Lean,
    ) -> None:
        self.now_s = -10.0
        self.rng = random.Random(seed)
        self.monitor_class = monitor_class
        self.count = 0
        self.gated = True  # the units' drop-in with the permit is there
        self.bites = True  # the watchdog resets the host
        self.reset_takes_s = 0.0  # and so long does that take
        self.unbounded = False  # what no promise covers happens as well
        self.rebooting_s = 2.0
        self.latency_s = 0.0005  # one way
        self.cuts: dict[tuple[str, str], int] = {}
        self.losses: list[tuple[frozenset[str], float]] = []
        self.delays: list[tuple[frozenset[str], float]] = []
        self.silent: set[str] = set()  # references that are dead
        self.mail: list[tuple[float, int, tuple[Any, ...]]] = []
        self.making: Host | None = None
        self.timeline: list[tuple[float, str]] | None = None
        self.takeovers = 0
        self.taken_over_s = INF
        self.dual_s = 0.0
        self.worst_s = 0.0
        self.idle_s = 0.0
        self.dual_since_s: float | None = None
        self.idle_since_s: float | None = None
        self.store: Store | None = None
        lease = next(iter(policies.values())).lease
        if lease:
            self.store = Store(self, lease, 1.0 + self.rng.uniform(-1e-3, 1e-3))
        self.hosts = {
            name: Host(self, name, policy, (clocks or {}).get(name) or self._clock())
            for name, policy in policies.items()
        }

    def _clock(self) -> Clock:
        rate = self.rng.choice((-1e-3, 1e-3, 0.0, self.rng.uniform(-1e-3, 1e-3)))
        return Clock(self.rng.uniform(1e3, 1e6), 1.0 + rate)

    def door(self, policy: LeasePolicy, changed: Callable[[], None]) -> StoreDoor:
        del changed
        assert self.making
        self.making.engine = StoreDoor(self.making, policy)
        return self.making.engine

    # The wire.

    def carried(self, source: str, target: str) -> float | None:
        """How long what is sent now takes; None: it is lost."""
        if self.cuts and self.cuts.get((source, target)):
            return None
        for names, loss in self.losses:
            if (source in names or target in names) and self.rng.random() < loss:
                return None
        took_s = self.latency_s
        for names, most_s in self.delays:
            if source in names or target in names:
                took_s += self.rng.random() * most_s
        return took_s

    def answers(self, name: str) -> bool:
        host = self.hosts.get(name)
        if host:
            return host.up and self.now_s >= host.paused_until_s
        return name not in self.silent

    def members(self, name: str) -> Iterable[str]:
        """The members of the store, in the order in which this host tries them."""
        del name
        return ARBITERS

    def cut(self, links: Iterable[tuple[str, str]]) -> None:
        """What is on such a link is lost too."""
        for link in links:
            self.cuts[link] = self.cuts.get(link, 0) + 1
            host = self.hosts.get(link[1])
            if host and host.flying:
                host.flying = [flight for flight in host.flying if flight[3] != link[0]]
                heapq.heapify(host.flying)

    def heal(self, links: Iterable[tuple[str, str]]) -> None:
        for link in links:
            self.cuts[link] -= 1
            if not self.cuts[link]:
                del self.cuts[link]

    def vanish(self, name: str) -> None:
        """A host that goes down answers nothing that has not reached it."""
        for host in self.hosts.values():
            kept = [f for f in host.flying if f[3] != name or f[2] <= self.now_s]
            if len(kept) < len(host.flying):
                heapq.heapify(kept)
                host.flying = kept

    def post(self, after_s: float, door: StoreDoor, *letter: Any) -> None:
        self.count += 1
        heapq.heappush(self.mail, (self.now_s + after_s, self.count, (door, *letter)))

    # What happens.

    def changed(self, host: Host) -> None:
        """A unit or a host changed: who is active, who serves?"""
        del host
        active = sum(
            h.active and self.now_s >= h.paused_until_s and h.up for h in self.hosts.values()
        )
        if active > 1:
            if self.dual_since_s is None:
                self.dual_since_s = self.now_s
                self.say(None, "TWO ACTIVE")
        elif self.dual_since_s is not None:
            self.close_dual()
        served = any(h.serves for h in self.hosts.values())
        if served and self.idle_since_s is not None:
            self.idle_s += self.now_s - self.idle_since_s
            self.idle_since_s = None
        elif not served and self.idle_since_s is None:
            self.idle_since_s = self.now_s

    def close_dual(self) -> None:
        if self.dual_since_s is not None:
            for_s = self.now_s - self.dual_since_s
            self.dual_s += for_s
            self.worst_s = max(self.worst_s, for_s)
            self.dual_since_s = None
            self.say(None, f"one active again, after {for_s:.3f} s")

    def entered(self, host: Host, before: Phase, phase: Phase) -> None:
        if phase is Phase.TAKEOVER and before not in SERVING:
            self.takeovers += 1
            self.taken_over_s = min(self.taken_over_s, self.now_s)
        if self.timeline is not None:
            self.say(host, f"{before} -> {phase}")

    def asked(self, host: Host, effect: Effect) -> None:
        if self.timeline is not None:
            self.say(host, f"asks to {effect.verb} {effect.service}")

    def say(self, host: Host | None, words: str) -> None:
        if self.timeline is not None:
            self.timeline.append((self.now_s, f"{host.name + ': ' if host else ''}{words}"))

    def run_until(self, until_s: float, over: Callable[[], bool] | None = None) -> None:
        """Let time pass; `over` ends it earlier."""
        hosts = tuple(self.hosts.values())
        for host in hosts:
            host.plan()
        while True:
            host = hosts[0]
            for other in hosts[1:]:
                if other.next_s < host.next_s:
                    host = other
            at_s = max(host.next_s, self.now_s)  # what is overdue is due now
            if self.mail and self.mail[0][0] < min(at_s, until_s):
                self.now_s, _, letter = heapq.heappop(self.mail)
                letter[0].arrive(*letter[1:])
                continue
            if at_s >= until_s:
                self.now_s = until_s
                return
            self.now_s = at_s
            up = host.up
            host.step()
            if up and not host.up:
                self.vanish(host.name)
            host.plan()
            if over and over():
                return
