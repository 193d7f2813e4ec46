"""One pair, watched: look, decide, record, act; then wait for the next deadline.

Rule: a turn never waits.  Whatever can block (systemd, the disk, the journal) is asked and seen
later.  The order inside a turn is the safety argument: all answers that have arrived are taken
before anything is judged, and a decision is recorded before anything acts on it, so that after a
crash at any point the record says at least as much as the world does.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from failover_monitor import events, samples
from failover_monitor.contact import Contact
from failover_monitor.decision import adopt, decide, fence_due, hook_due
from failover_monitor.detector import Detector
from failover_monitor.events import Event, Kind, Trail
from failover_monitor.files import Recorder
from failover_monitor.model import (
    ARMED,
    AT_REST,
    ENDING,
    INF,
    RESUMED,
    SERVING,
    Answer,
    Decision,
    Effect,
    FenceSeen,
    Memory,
    Moment,
    Observation,
    Outcome,
    PairState,
    Phase,
    Policy,
    Role,
    Round,
    Transition,
    UnitSeen,
    Verb,
    Verdict,
)
from failover_monitor.orders import Boot, Order, Orders
from failover_monitor.probes import Probe
from failover_monitor.protections import Protections
from failover_monitor.services import next_due_s
from failover_monitor.status import Status, word
from failover_monitor.table import WANTED, Facts

TURN_S = 3.0  # a turn at least so often: a third of WatchdogSec
STATUS_S = 15.0  # status.json is written anew so often, so that its age says something
STATUS_SOON_S = 1.0  # and while something goes on
SLEPT_S = 1.0  # a suspend that matters
SUMMARY_S = 600.0
ATTENTION_S = 60.0  # what should be mended is told again so often
LISTEN_ROUNDS = 3  # unanswered ones, after a restart while we serve, before anything is started
LEAST_TIME_S = 0.5  # for the kill, where the limit of a stop is over when we come to it
DECISIONS = 10  # in one turn, at most: what still changes then waits for the next one
KEPT = WANTED.keys() | {Phase.SERVING}  # phases in which the next process goes on
LEASED = SERVING | {Phase.CLAIM, Phase.FAILBACK}  # in these a standby wants the lease


class Services(Protocol):
    """What the monitor needs of systemd."""

    @property
    def host_stopping(self) -> bool: ...
    def seen(self) -> tuple[UnitSeen, ...]: ...
    def ask(self, effect: Effect) -> None: ...
    def watch(self, units: Sequence[str]) -> None: ...
    def populated(self, name: str) -> bool | None: ...


@dataclass(slots=True)
class ToldOf:
    """What was last told of the protections; only a change is news."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)  # of service checks
    fence: FenceSeen = FenceSeen()  # noqa: RUF009, frozen
    held: bool = False  # the lease


class Monitor:
    """One pair.  `clock` gives CLOCK_BOOTTIME seconds."""

    def __init__(
        self,
        policy: Policy,
        *,
        probe: Probe,
        services: Services,
        recorder: Recorder,
        clock: Callable[[], float],
        slept: Callable[[], float],
        boot_id: str,
        booted_s: float,
        alive: Callable[[str, bool, bool], None],
        protections: Protections | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        now_s = clock()
        self.policy = policy
        self.probe = probe
        self.services = services
        self.recorder = recorder
        self.clock = clock
        self.slept = slept
        self.wall = wall
        self.wake = asyncio.Event()
        self.protections = protections or Protections(policy, clock, self.wake.set)
        self.state = PairState(since_s=now_s)
        self.status = Status(now_s)
        self._boot_id = boot_id
        self._alive = alive  # one line for systemd; whether it may trust us; is it a new limit?
        self._grace_until_s = booted_s + policy.startup_grace_s
        self.detector = detector_of(policy)(policy, now_s, grace_until_s=self._grace_until_s)
        self._proven_until_s = now_s + policy.limits.deadline_s  # by an earlier proof, or grace
        self._kept_until_s = 0.0  # as written down
        self._armed = True  # the flag for systemd is raised, or may be: by an earlier process
        self._listens_until_s = 0.0  # see `Observation.listening`
        self._seen = Observation(now_s=now_s, verdict=Verdict.UNKNOWN)
        self._answered_s = now_s  # when the primary answered last, or the watch began
        self._proven: dict[str, float] = {}  # by address: when the newest answered echo was sent
        self._units: tuple[UnitSeen, ...] = ()
        self._arrived: list[Answer] = []  # since the last look
        self._turned_s, self._slept_s = now_s, slept()
        self._intent: dict[str, Any] = {}
        self._status_due_s = self._status_written_s = now_s
        self._summary_due_s = now_s + SUMMARY_S
        self._told_of = ToldOf()
        self.orders = Orders(Boot(boot_id, booted_s), policy.role)
        self._trail = Trail()
        self._by_the_wall: dict[float, float] = {}  # takeovers
        self._attention: set[tuple[object, ...]] = set()
        self._attention_due_s = 0.0

    # Coming and going.

    def resume(self, intent: dict[str, Any]) -> None:
        """Go on where an earlier process of the same boot was; another boot's intent is history."""
        phase = Phase(intent["phase"])
        now_s, wall_s = self.clock(), self.wall()
        takeovers = tuple(now_s - max(0.0, wall_s - at) for at in intent.get("takeovers", ()))
        flapping = intent.get("flapping", False)
        history = PairState(since_s=now_s, takeovers=takeovers, flapping=flapping)
        if intent["boot_id"] != self._boot_id:
            self.state = history
            if phase in SERVING:
                sentence = "this host rebooted while it served: that takeover is over"
                self.tell(Event(Kind.INTENT_ENDED, events.WARNING, sentence))
            return
        serving = phase in SERVING
        verdict = Verdict(intent["verdict"]) if serving else Verdict.UNKNOWN
        memories = tuple(
            Memory(m["name"], Verb(m["asked"]) if m["asked"] else None, m["asked_s"])
            if not m["finished"]
            else Memory(m["name"], finished=True)
            for m in intent["services"]
        )
        state = replace(
            history,
            phase=phase,
            settled=intent["settled"],
            services=memories,
            fenced=intent.get("fenced", False),
            ending_s=intent.get("ending_s", 0.0),
            by_hand=intent.get("by_hand", "") if serving else "",
        )
        if phase not in KEPT or intent.get("role", Role.STANDBY) != self.policy.role:
            state = replace(state, phase=Phase.UNKNOWN)
        since_s = intent["since_s"] if state.phase in KEPT else now_s
        self.state = replace(adopt(state, self.policy), since_s=since_s)
        self.detector = self._new_detector(verdict, seen=intent["seen"])
        if serving:
            # The primary may have come back since: nothing starts before it had time to say so.
            rounds = self.policy.recovery_threshold + LISTEN_ROUNDS
            self._listens_until_s = now_s + rounds * self.policy.serving_interval_s
            self.status.why = intent["why"]
            self.detector.verdict_since_s = intent["verdict_since_s"]
        if state.phase in ARMED and (until_s := self.recorder.kept_time()) is not None:
            self._proven_until_s = min(self._proven_until_s, until_s)
        if hooks := self.protections.hooks:
            hooks.resume(intent.get("hooks", ()), self._moment(self.status.why))
        self.services.watch(self._watched())

    def reload(self, policy: Policy, probe: Probe) -> None:
        """Go on under a new configuration: the phase stays; evidence stays if it still means it."""
        old, seen = self.policy, self._seen
        self.policy = policy
        # What was proven until now counts on; where nothing had to be, there is time for a proof.
        fresh_s = seen.now_s + (policy.lease.ttl_s if policy.lease else policy.limits.deadline_s)
        until_s = fresh_s if seen.serve_until_s == INF else seen.serve_until_s
        self._proven_until_s = max(self._proven_until_s, until_s)
        self.state = adopt(self.state, policy)
        self._grace_until_s += policy.startup_grace_s - old.startup_grace_s
        if probe is not self.probe:
            self._listen(probe)
            self.probe.close()
            self.probe = probe
            self.status.samples.forget_flying()  # the answers would come to the old one
        if detection(policy) == detection(old):
            self.detector.policy = policy
            self.detector.grace_until_s = self._grace_until_s
        else:
            kept = not set(policy.primary).isdisjoint(old.primary)
            same = kept or self.state.phase in SERVING
            verdict = self.detector.verdict if same else Verdict.UNKNOWN
            since_s = self.detector.verdict_since_s
            self.detector = self._new_detector(verdict, seen=same and self.detector.seen)
            self.detector.verdict_since_s = since_s
        protections = Protections(policy, self.clock, self.wake.set, before=self.protections)
        self.protections.leave(protections)
        self.protections = protections
        self.services.watch(self._watched())
        self.refresh()

    def refresh(self) -> None:
        """What people read is out of date: a turn now."""
        self._status_due_s = 0.0
        self.wake.set()

    def _new_detector(self, verdict: Verdict, *, seen: bool) -> Detector | Contact:
        now_s = self.clock()
        detector = detector_of(self.policy)(
            self.policy,
            now_s,
            verdict=verdict,
            seen=seen,
            grace_until_s=self._grace_until_s,
            number=self.detector.number,
            heard=self.detector.heard_references,
        )
        detector.serve(self.state.phase in SERVING, now_s)
        return detector

    def _watched(self) -> tuple[str, ...]:
        return (*self.policy.services, *self.state.leaving)

    async def run(self) -> None:
        """Turn for ever."""
        loop = asyncio.get_running_loop()
        self._listen(self.probe)
        while True:
            self.turn()
            pause_s = self.due_s() - self.clock()
            timer = loop.call_later(max(0.0, pause_s), self.wake.set)
            await self.wake.wait()
            timer.cancel()
            self.wake.clear()

    def due_s(self) -> float:
        """When the next turn is due, whatever happens before."""
        turn_s = min(TURN_S, self.policy.stop_limit_s / 4) if self.policy.enforced else TURN_S
        return min(
            self._turned_s + turn_s,
            self.detector.due_s,
            self.protections.due_s,
            self.orders.due_s,
            next_due_s(self.state, self._seen, self.policy),
        )

    def _listen(self, probe: Probe) -> None:
        loop = asyncio.get_running_loop()
        for descriptor in self.probe.filenos():
            loop.remove_reader(descriptor)
        for descriptor in probe.filenos():
            loop.add_reader(descriptor, self._arrive)

    def _arrive(self) -> None:
        """Empty the socket at once: one that stays readable would cost a second turn."""
        self._arrived += self.probe.receive()
        if self._arrived:
            self.wake.set()

    # The four verbs.

    def turn(self) -> None:
        """Look, decide, record, act; again for as long as that changes anything."""
        now_s = self._turned_s = self.clock()
        self.look(now_s)
        for _ in range(DECISIONS):
            seen = self._seen = self.observe(now_s)
            decision = decide(self.state, seen, self.policy)
            self.record(decision, seen)
            self.act(decision)
            if decision.transition is None and not decision.effects:
                break
        self._keep_current(now_s)

    def look(self, now_s: float) -> None:
        """Take what has arrived, then judge, then send what is due."""
        slept_s, self._slept_s = self.slept() - self._slept_s, self.slept()
        if max(slept_s, now_s - self.detector.due_s) > SLEPT_S:
            self.status.samples.forget_flying()
        if slept_s > SLEPT_S:
            self.keep_sample(now_s, slept_s=slept_s)
            self.detector.suspended(slept_s, now_s)
        self._heed_operator(now_s)
        arrived, self._arrived = [*self._arrived, *self.probe.receive()], []
        for answer in arrived:
            if answer.address in self.policy.primary and not answer.error:
                self._answered_s = now_s
                proven_s = self._proven.get(answer.address, -INF)
                self._proven[answer.address] = max(proven_s, answer.sent_s)
            self.status.answered(answer, now_s)
            self.detector.answered(answer, now_s)
        if round_ := self.detector.tick(now_s):
            self.detector.sent(round_, self._send(round_))
        silent = self.detector.suspicious or self.detector.verdict is not Verdict.UP
        self.protections.look(now_s, proven=self._proven, silent=silent)

    def _heed_operator(self, now_s: float) -> None:
        """Take what an operator has left.  After a pause nothing that was seen in it counts."""
        recorder, operator, wall_s = self.recorder, self.orders, self.wall()
        for order in Order:
            if (text := recorder.take_request(order)) is not None:
                operator.take(order, text, wall_s)
        if operator.heed(recorder.pause_text(), now_s, wall_s):
            recorder.end_pause()
        ended, operator.ended = operator.ended, False
        if ended and isinstance(self.detector, Detector):
            self.detector.forget(RESUMED, now_s)
            self.protections.forget(now_s)
            # Who serves goes on; but starts nothing that a primary which is back may have by now.
            self._listens_until_s = max(self._listens_until_s, now_s + self.policy.verdict_s)

    def observe(self, now_s: float) -> Observation:
        """All that the machine is told."""
        detector, protections = self.detector, self.protections
        operator, health = self.orders, protections.health
        pre_takeover, pre_failback = protections.hooks_seen
        service, service_since_s = health.service
        silent = detector.verdict is Verdict.DOWN and self.policy.role is Role.STANDBY
        leased = self.policy.role is Role.PRIMARY and self.policy.lease is not None
        return Observation(
            now_s=now_s,
            verdict=detector.verdict,
            verdict_since_s=detector.verdict_since_s,
            answering_since_s=protections.leased_since_s if leased else detector.answering_since_s,
            units=self.services.seen(),
            host_stopping=self.services.host_stopping,
            failback_asked=self.state.phase in SERVING
            and detector.verdict is Verdict.UP
            and Order.FAILBACK in operator.pending,
            takeover_asked=operator.asked(Order.TAKEOVER),
            paused=operator.pause.words if operator.pause else "",
            listening=now_s < self._listens_until_s and detector.verdict is not Verdict.UP,
            acknowledged=self.state.flapping and Order.ACK in operator.pending,
            vetoes=health.vetoes(self._answered_s) if silent else (),
            service=service,
            service_since_s=service_since_s,
            healthy_since_s=health.healthy_since_s,
            fence=protections.fence_seen,
            serve_until_s=self._serve_until_s(),
            pre_takeover=pre_takeover,
            pre_failback=pre_failback,
        )

    def _serve_until_s(self) -> float:
        """When services here must begin to stop: by the lease, else by the guard's last contact."""
        until_s = self.protections.lease_until_s
        if isinstance(self.detector, Contact) and not self.policy.lease:
            until_s = self.detector.proof_s + self.detector.deadline_s
        at_first = self.policy.role is Role.PRIMARY and self.state.phase is Phase.UNKNOWN
        if self.state.phase in ARMED or at_first:  # what was proven before this process counts
            until_s = max(until_s, self._proven_until_s)
        return until_s

    def record(self, decision: Decision, seen: Observation) -> None:
        """Write down what was seen and decided, before anything acts on it."""
        before, self.state = self.state, decision.state
        self._tell_orders()
        self._tell_evidence()
        self._tell_protections(seen)
        ours = before.phase in (*SERVING, Phase.OPENING) and not seen.host_stopping
        started = frozenset(self.policy.services if ours else ())
        for event in events.of_units(self._units, seen.units, started, paused=bool(seen.paused)):
            self.tell(event)
        if self._units != seen.units or decision.transition:
            self._status_due_s = seen.now_s
        self._units = seen.units
        if decision.transition:
            self._tell_transition(decision.transition)
            if hooks := self.protections.hooks:  # what they owe is part of the record
                hooks.moved(decision.transition, self._moment(decision.transition.because))
        self._keep_flags(seen)
        self.recorder.state_word(
            word(self.policy.role, self.detector.verdict, decision.state.phase)
        )
        self._keep_intent()
        tries = {memory.name: memory.tries for memory in before.services}
        for effect in decision.effects:
            self.tell(events.of_effect(effect, tries.get(effect.service, 0)))

    def act(self, decision: Decision) -> None:
        """Ask for what should be; the next look shows what came of it."""
        for effect in decision.effects:
            self.services.ask(effect)
        phase = self.state.phase
        self.detector.serve(phase in SERVING, self.clock())
        self._want(phase)
        self.orders.settle(decision.transition, self.state, self._seen)
        if hooks := self.protections.hooks:
            due = hook_due(self.state, self._seen, self.policy)
            hooks.want(due, self._moment(self.status.why))
        if decision.transition and phase not in SERVING:
            self.services.watch(self._watched())

    def _want(self, phase: Phase) -> None:
        """What should protect us in this phase.  The lease comes first: who has it may fence."""
        guards = self.policy.role is Role.PRIMARY
        idle = all(unit.state in AT_REST for unit in self._units)
        leaves = self.services.host_stopping and idle
        down = self.detector.verdict is Verdict.DOWN
        leased = self._turned_s < self.protections.lease_until_s
        self.protections.want(
            lease=(guards or phase in LEASED) and not leaves,
            fence=leased and fence_due(self.state, self._seen, self.policy),
            hurry=self.detector.suspicious or down or phase in SERVING,
        )

    def _moment(self, why: str) -> Moment:
        return Moment(self.state.phase, self.detector.verdict, why, self.policy)

    def _send(self, round_: Round) -> dict[str, str]:
        refused = {}
        for address in self.policy.watched:
            # Tried: what was refused may be answered all the same.
            self.status.sent(address, round_)
            if why := self.probe.send(address, round_):
                refused[address] = why
        return refused

    # What people and later processes read.

    def tell(self, event: Event) -> None:
        """Record an event: one of our own, or of the process around us."""
        self.recorder.tell(event)
        if hooks := self.protections.hooks:
            hooks.pass_on(event, self._moment(self.status.why))

    def _tell_orders(self) -> None:
        """What an operator asked for, and what became of it."""
        told, self.orders.told = self.orders.told, []
        for found in told:
            self.tell(events.of_order(found))
            self._status_due_s = 0.0  # who asked waits for it

    def _tell_protections(self, seen: Observation) -> None:
        """What service checks, fence and lease have had to say."""
        protections, before = self.protections, self._told_of
        for found in protections.found:
            self.tell(events.of_service_check(before.outcomes.get(found.name), found))
            before.outcomes[found.name] = found.outcome
        protections.found = []
        for told in protections.hooks_told:
            self.tell(events.of_hook(told))
        if event := events.of_fence(before.fence, seen.fence):
            self.tell(event)
        before.fence = seen.fence
        held = protections.leased_since_s is not None
        if held is not before.held:
            self.tell(events.of_lease(held, protections.lease_why))
        before.held = held

    def _tell_evidence(self) -> None:
        told, self.detector.told = self.detector.told, []
        answering = len(self.policy.references) - len(self.detector.quiet_references)
        blind = answering < self.policy.references_required and self.policy.role is Role.STANDBY
        for notice in told:
            numbers = self._trail.numbers(notice, self._turned_s)
            self.status.told(notice, judged=self._trail.judged)
            near_miss_s = INF if self._trail.judged else self.policy.verdict_s / 2
            event = events.of_told(notice, near_miss_s=near_miss_s, blind=blind, numbers=numbers)
            self.tell(event)
            if event.level > events.DEBUG:
                self._status_due_s = 0.0
            self._status_due_s = min(self._status_due_s, self._status_written_s + STATUS_SOON_S)

    def _tell_transition(self, transition: Transition) -> None:
        asker = self.orders.fields(transition)
        self.tell(events.of_transition(transition, self.status.why, asker))

    def _keep_intent(self) -> None:
        """Keep what the next process must know; only a change is written."""
        state = self.state
        intent: dict[str, Any] = {
            "boot_id": self._boot_id,
            "role": self.policy.role.value,
            "phase": state.phase.value,
            "since_s": state.since_s,
            "flapping": state.flapping,
            "fenced": state.fenced,
            "by_hand": state.by_hand,
            "ending_s": state.ending_s,
            "takeovers": self._takeovers_by_the_wall(),
            "settled": state.settled,
            "seen": self.detector.seen,
            "verdict": self.detector.verdict.value,
            "verdict_since_s": self.detector.verdict_since_s,
            "why": self.status.why,
            "ours": state.phase in KEPT,  # services may run here because of us
            "services": [
                {"name": m.name, "asked": m.asked, "asked_s": m.asked_s, "finished": m.finished}
                for m in state.services
            ],
        }
        if hooks := self.protections.hooks:
            intent["hooks"] = list(hooks.owed)
        if intent != self._intent and self.recorder.intent(intent):
            self._intent = intent

    def _takeovers_by_the_wall(self) -> list[float]:
        """For the next boot, which begins to count its seconds anew."""
        known = self._by_the_wall
        offset_s = self.wall() - self._turned_s
        self._by_the_wall = {
            at_s: known.get(at_s, offset_s + at_s) for at_s in self.state.takeovers
        }
        return list(self._by_the_wall.values())

    def _keep_flags(self, seen: Observation) -> None:
        """What others on this host go by: may services start here, might any run here?"""
        phase = self.state.phase
        enforced, armed_before = self.policy.enforced, self._armed
        self._armed = enforced and phase in ARMED
        if enforced or armed_before:  # or under an earlier policy
            self.recorder.flag(self.recorder.paths.armed, raised=self._armed)
        if not enforced:
            return
        if self.policy.role is Role.PRIMARY and phase is not Phase.UNKNOWN:
            may_start = phase in (Phase.OPENING, Phase.SERVING)
            self.recorder.flag(self.recorder.paths.permit, raised=may_start)
        until_s = seen.serve_until_s
        if phase in ARMED and self._kept_until_s != until_s < INF:
            self._kept_until_s = until_s
            self.recorder.keep_time(until_s)

    @property
    def trusted(self) -> bool:
        """Systemd may go on trusting us: nothing that must end is still running."""
        if not self.policy.enforced or self.state.phase not in ENDING:
            return True
        populated = self.services.populated
        return all(u.state in AT_REST or populated(u.name) is False for u in self._units)

    @property
    def time_left_s(self) -> float:
        """From now on systemd waits for so long, at most, before it resets this host.

        The limit of a stop counts from when it should have begun, however late we came to it.
        """
        limit_s = self.policy.stop_limit_s
        if self.trusted:
            return limit_s
        left_s = self.state.ending_s + limit_s - self.clock()
        return min(limit_s, max(LEAST_TIME_S, left_s))

    def _keep_current(self, now_s: float) -> None:
        """Keep status, summary and systemd up to date."""
        line = self.status.line(self.policy.role, self.state, self.detector.verdict, self._units)
        self._tell_orders()
        self._tell_attention(now_s)
        if now_s >= self._summary_due_s:
            self._summary_due_s = now_s + SUMMARY_S
            lost = f"; {self.recorder.lost} log lines lost" if self.recorder.lost else ""
            sentence = f"summary: {line}; {self.status.summary(now_s)}{lost}"
            self.tell(Event(Kind.SUMMARY, events.INFO, sentence))
        if now_s >= self.status.samples.due_s:
            self.keep_sample(now_s)
        if now_s >= self._status_due_s:
            self._status_due_s, self._status_written_s = now_s + STATUS_S, now_s
            self.recorder.status(
                self.status.document(now_s, self.policy, self.state, self.detector, self._units)
                | self.orders.document()
                | {"checks_not_passing": self._not_passing()}
            )
        begun = self.policy.enforced and self.state.phase in ENDING and self.state.since_s == now_s
        self._alive(line, self.trusted, begun)

    def _not_passing(self) -> list[str]:
        """The service checks whose newest run has not passed, or that have had none yet."""
        outcomes, checks = self._told_of.outcomes, self.policy.service_checks
        return [check.name for check in checks if outcomes.get(check.name) is not Outcome.PASS]

    def keep_sample(self, now_s: float, *, slept_s: float = 0.0) -> None:
        """Write down what became of the echoes since the last sample."""
        ended = self.status.samples.end(now_s, slept_s=slept_s)
        if ended.length_s >= samples.SHORT_S:
            line = samples.document(
                ended,
                at_s=self.wall() - slept_s,
                policy=self.policy,
                phase=self.state.phase,
                verdict=self.detector.verdict,
            )
            self.recorder.sample(line)

    def _tell_attention(self, now_s: float) -> None:
        """What an operator should mend: shown while it lasts, told again and again."""
        facts = Facts(self.state, self._seen, self.policy)
        protections = self.protections
        found = tuple(
            events.attention(
                facts, passing=protections.health.passing, lease_why=protections.lease_why
            )
        )
        told = ("UNIT", "VERDICT")  # what makes it another matter, beside how serious it is
        keys: set[tuple[object, ...]] = {
            (event.kind, event.level, *(event.fields.get(name) for name in told)) for event in found
        }
        if keys - self._attention:
            self._status_due_s = self._attention_due_s = now_s
        self._attention = keys
        self.status.attention = tuple(event.sentence for event in found)
        if found and now_s >= self._attention_due_s:
            self._attention_due_s = now_s + ATTENTION_S
            for event in found:
                if event.kind not in (Kind.SERVICE_FAILED, Kind.PAUSED):  # told when they begin
                    self.tell(event)


def detector_of(policy: Policy) -> type[Detector] | type[Contact]:
    return Contact if policy.role is Role.PRIMARY else Detector


def detection(policy: Policy) -> Policy:
    """The part of the policy that the detector's evidence depends on."""
    neutral = Policy(primary=(), references=(), services=())
    kept = (
        *("services", "failback", "foreign_start", "recovery_delay_s", "takeover_delay_s"),
        *("timeout_s", "recovery_threshold", "startup_grace_s"),
        *("service_checks", "fence", "lease", "hooks", "flap_window_s", "max_takeovers"),
    )
    return replace(policy, **{name: getattr(neutral, name) for name in kept})
