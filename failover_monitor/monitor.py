"""One pair, watched: look, decide, record, act; then wait for the next deadline.

Rule: a turn never waits.  Whatever can block (systemd, the disk, the journal) is asked and seen
later.  The order inside a turn is the safety argument: all answers that have arrived are taken
before anything is judged, and a decision is recorded before anything acts on it, so that after a
crash at any point the record says at least as much as the world does.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from failover_monitor import events
from failover_monitor.detector import Detector
from failover_monitor.events import Event, Kind
from failover_monitor.files import Recorder
from failover_monitor.machine import WANTED, adopt, decide, next_due_s
from failover_monitor.model import (
    SERVING,
    Answer,
    Decision,
    Effect,
    Memory,
    Observation,
    PairState,
    Phase,
    Policy,
    Round,
    Transition,
    UnitSeen,
    Verb,
    Verdict,
)
from failover_monitor.probes import Probe
from failover_monitor.status import WORDS, Status

TURN_S = 3.0  # a turn at least so often: a third of WatchdogSec
STATUS_S = 15.0  # status.json is written anew so often, so that its age says something
STATUS_SOON_S = 1.0  # and while something goes on
SLEPT_S = 1.0  # a suspend that matters
SUMMARY_S = 600.0
ATTENTION_S = 60.0  # what should be mended is told again so often


class Services(Protocol):
    """What the monitor needs of systemd."""

    host_stopping: bool

    def seen(self) -> tuple[UnitSeen, ...]: ...
    def ask(self, effect: Effect) -> None: ...
    def watch(self, units: Sequence[str]) -> None: ...


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
        alive: Callable[[str], None],
    ) -> None:
        now_s = clock()
        self.policy = policy
        self.probe = probe
        self.services = services
        self.recorder = recorder
        self.clock = clock
        self.slept = slept
        self.wake = asyncio.Event()
        self.state = PairState(since_s=now_s)
        self.status = Status()
        self._boot_id = boot_id
        self._alive = alive  # tells systemd that we turn, and one line of how things stand
        self._grace_until_s = booted_s + policy.startup_grace_s
        self.detector = Detector(policy, now_s, grace_until_s=self._grace_until_s)
        self._units: tuple[UnitSeen, ...] = ()
        self._arrived: list[Answer] = []  # since the last look
        self._turned_s, self._slept_s = now_s, slept()
        self._intent: dict[str, Any] = {}
        self._status_due_s = self._status_written_s = now_s
        self._summary_due_s = now_s + SUMMARY_S
        self._attention: set[tuple[Kind, str]] = set()
        self._attention_due_s = 0.0

    # Coming and going.

    def resume(self, intent: dict[str, Any]) -> None:
        """Go on where an earlier process of the same boot was; another boot's intent is history."""
        serving = intent["phase"] in SERVING
        if intent["boot_id"] != self._boot_id:
            if serving:
                sentence = "this host rebooted while it served: that takeover is over"
                self._tell(Event(Kind.INTENT_ENDED, events.WARNING, sentence))
            return
        now_s = self.clock()
        verdict = Verdict(intent["verdict"]) if serving else Verdict.UNKNOWN
        memories = tuple(
            Memory(m["name"], Verb(m["asked"]) if m["asked"] else None, m["asked_s"])
            if not m["finished"]
            else Memory(m["name"], finished=True)
            for m in intent["services"]
        )
        phase = Phase(intent["phase"])
        state = PairState(phase=phase, settled=intent["settled"], services=memories)
        if phase not in WANTED:
            state = replace(state, phase=Phase.UNKNOWN)
        since_s = intent["since_s"] if phase in WANTED else now_s
        self.state = replace(adopt(state, self.policy), since_s=since_s)
        self.detector = self._new_detector(verdict, seen=intent["seen"])
        if serving:
            self.status.why = intent["why"]
            self.detector.verdict_since_s = intent["verdict_since_s"]
        self.services.watch(self._watched())

    def reload(self, policy: Policy, probe: Probe) -> None:
        """Go on under a new configuration: the phase stays; evidence stays if it still means it."""
        old = self.policy
        self.policy = policy
        self.state = adopt(self.state, policy)
        self._grace_until_s += policy.startup_grace_s - old.startup_grace_s
        if probe is not self.probe:
            self._listen(probe)
            self.probe.close()
            self.probe = probe
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
        self.services.watch(self._watched())
        self.refresh()

    def refresh(self) -> None:
        """What people read is out of date: a turn now."""
        self._status_due_s = 0.0
        self.wake.set()

    def _new_detector(self, verdict: Verdict, *, seen: bool) -> Detector:
        now_s = self.clock()
        detector = Detector(
            self.policy,
            now_s,
            verdict=verdict,
            seen=seen,
            grace_until_s=self._grace_until_s,
            number=self.detector.number,
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
        return min(
            self._turned_s + TURN_S, self.detector.due_s, next_due_s(self.state, self._turned_s)
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
        changed = True
        while changed:
            seen = self.observe(now_s)
            decision = decide(self.state, seen, self.policy)
            changed = decision.transition is not None or decision.effects != ()
            self.record(decision, seen)
            self.act(decision)
        self._keep_current(now_s)

    def look(self, now_s: float) -> None:
        """Take what has arrived, then judge, then send what is due."""
        slept_s, self._slept_s = self.slept() - self._slept_s, self.slept()
        if slept_s > SLEPT_S:
            self.detector.suspended(slept_s, now_s)
        arrived, self._arrived = [*self._arrived, *self.probe.receive()], []
        for answer in arrived:
            self.status.answered(answer, now_s)
            self.detector.answered(answer, now_s)
        if round_ := self.detector.tick(now_s):
            self.detector.sent(round_, self._send(round_))

    def observe(self, now_s: float) -> Observation:
        """All that the machine is told."""
        detector = self.detector
        return Observation(
            now_s=now_s,
            verdict=detector.verdict,
            verdict_since_s=detector.verdict_since_s,
            answering_since_s=detector.answering_since_s,
            units=self.services.seen(),
            host_stopping=self.services.host_stopping,
            failback_asked=self.state.phase in SERVING
            and detector.verdict is Verdict.UP
            and self.recorder.paths.failback_request.exists(),
        )

    def record(self, decision: Decision, seen: Observation) -> None:
        """Write down what was seen and decided, before anything acts on it."""
        before, self.state = self.state, decision.state
        self._tell_evidence()
        ours = before.phase in SERVING and not seen.host_stopping
        started = frozenset(self.policy.services if ours else ())
        for event in events.of_units(self._units, seen.units, started):
            self._tell(event)
        if self._units != seen.units or decision.transition:
            self._status_due_s = seen.now_s
        self._units = seen.units
        if decision.transition:
            self._tell_transition(decision.transition)
        self.recorder.state_word(WORDS[self.detector.verdict])
        self._keep_intent()
        tries = {memory.name: memory.tries for memory in before.services}
        for effect in decision.effects:
            self._tell(events.of_effect(effect, tries.get(effect.service, 0)))

    def act(self, decision: Decision) -> None:
        """Ask systemd for what should be; the next look shows what came of it."""
        for effect in decision.effects:
            self.services.ask(effect)
        self.detector.serve(self.state.phase in SERVING, self.clock())
        if self.detector.verdict is not Verdict.UP:  # a wish to fail back ends with its reason
            self.recorder.paths.failback_request.unlink(missing_ok=True)
        if decision.transition and self.state.phase not in SERVING:
            self.services.watch(self._watched())
            self.recorder.paths.failback_request.unlink(missing_ok=True)

    def _send(self, round_: Round) -> dict[str, str]:
        refused = {}
        for address in (*self.policy.primary, *self.policy.references):
            if why := self.probe.send(address, round_):
                refused[address] = why
            else:
                self.status.sent(address)
        return refused

    # What people and later processes read.

    def _tell(self, event: Event) -> None:
        self.recorder.tell(event)

    def _tell_evidence(self) -> None:
        told, self.detector.told = self.detector.told, []
        left = len(self.policy.references) - len(self.detector.quiet_references)
        for notice in told:
            self.status.told(notice)
            near_miss_s = self.policy.verdict_s / 2
            event = events.of_told(notice, near_miss_s=near_miss_s, references_left=left)
            self._tell(event)
            if event.level > events.DEBUG:
                self._status_due_s = 0.0
            self._status_due_s = min(self._status_due_s, self._status_written_s + STATUS_SOON_S)

    def _tell_transition(self, transition: Transition) -> None:
        self._tell(events.of_transition(transition, self.status.why))

    def _keep_intent(self) -> None:
        """Keep what the next process must know; only a change is written."""
        state = self.state
        intent = {
            "boot_id": self._boot_id,
            "phase": state.phase.value,
            "since_s": state.since_s,
            "settled": state.settled,
            "seen": self.detector.seen,
            "verdict": self.detector.verdict.value,
            "verdict_since_s": self.detector.verdict_since_s,
            "why": self.status.why,
            "ours": state.phase in WANTED,  # services may run here because of us
            "services": [
                {"name": m.name, "asked": m.asked, "asked_s": m.asked_s, "finished": m.finished}
                for m in state.services
            ],
        }
        if intent != self._intent and self.recorder.intent(intent):
            self._intent = intent

    def _keep_current(self, now_s: float) -> None:
        """Keep status, summary and systemd up to date."""
        line = self.status.line(self.state, self.detector.verdict, self._units)
        self._tell_attention(now_s)
        if now_s >= self._summary_due_s:
            self._summary_due_s = now_s + SUMMARY_S
            lost = f"; {self.recorder.lost} log lines lost" if self.recorder.lost else ""
            sentence = f"summary: {line}; {self.status.summary()}{lost}"
            self._tell(Event(Kind.SUMMARY, events.INFO, sentence))
        if now_s >= self._status_due_s:
            self._status_due_s, self._status_written_s = now_s + STATUS_S, now_s
            self.recorder.status(
                self.status.document(now_s, self.policy, self.state, self.detector, self._units)
            )
        self._alive(line)

    def _tell_attention(self, now_s: float) -> None:
        """What an operator should mend: shown while it lasts, told if both hosts may serve."""
        verdict = self.detector.verdict
        found = tuple(events.attention(self.policy, self.state, verdict, self._units, now_s))
        began = {(event.kind, event.fields["UNIT"]) for event in found} - self._attention
        self._attention = {(event.kind, event.fields["UNIT"]) for event in found}
        self.status.attention = tuple(event.sentence for event in found)
        if began:
            self._status_due_s = self._attention_due_s = now_s
        if found and now_s >= self._attention_due_s:
            self._attention_due_s = now_s + ATTENTION_S
            for event in found:
                if event.level >= events.CRITICAL:
                    self._tell(event)


def detection(policy: Policy) -> Policy:
    """The part of the policy that the detector's evidence depends on."""
    neutral = Policy(primary=(), references=(), services=())
    kept = (
        *("services", "failback", "foreign_start", "recovery_delay_s", "takeover_delay_s"),
        *("timeout_s", "recovery_threshold", "startup_grace_s"),
    )
    return replace(policy, **{name: getattr(neutral, name) for name in kept})
