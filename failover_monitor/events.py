"""What is worth telling, and its sentence.

Rule: pure.  An event is made here from what the core decided; files, log and journal are filled
from the same event, so that they cannot contradict each other.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from failover_monitor.model import (
    PATIENCE_S,
    RUNS,
    SERVING,
    Effect,
    Notice,
    PairState,
    Phase,
    Policy,
    Told,
    Transition,
    Unit,
    UnitSeen,
    Verdict,
)

DEBUG, INFO, WARNING, ERROR, CRITICAL = (
    logging.DEBUG,
    logging.INFO,
    logging.WARNING,
    logging.ERROR,
    logging.CRITICAL,
)
DOWN = frozenset({Unit.STOPPED, Unit.FAILED})
STAYS = RUNS | {Unit.STOPPING, Unit.UNKNOWN}  # may still serve


class Kind(Enum):
    """Every kind of event: its MESSAGE_ID in the journal."""

    STARTED = "264a4af8e47a441395263c7a47dee0d3"  # the monitor watches
    STOPPED = "83b78bff8b124d55b39b82b2f5995a6c"  # the monitor ended; services stay as they are
    TRANSITION = "fb93f77cceaa44ad9627940f7bc52481"  # the phase changed
    VERDICT = "e0b35a0d99fa49e08c46a294b6828eff"  # the verdict changed
    HELD = "281d64aae56946caa72d4ba7a4406bc6"  # the primary is silent, and we hold still
    CHECK = "c989bdf32eb24f32b5bb103ef4d99cb9"  # one check, or what began or ended a suspicion
    DOUBT = "899c04c729b647af9421c1d7e6db8281"  # evidence dropped: we may be the broken part
    REFERENCE = "99c18bb470be443099481746a0a7286d"  # a reference went silent, or is back
    ASKED = "f896af70826d4c8faded24e8d63af3f7"  # we asked systemd for a start or a stop
    SERVICE = "55a18c39869a4432bba1185342040cae"  # a service changed
    SERVICE_FAILED = "ef4914671d414b21a6b18ebe3001eef7"  # a service that should run does not
    FOREIGN = "bf85e8f68dea408ea8fd26d354499b44"  # possibly two active
    FAILBACK_WAITS = "6d759194843a4dbd8f5f0cd9ab7ef84a"  # the primary is back, ours serves
    STOP_OVERDUE = "0805a6d28caf49698d52782b7c5d5b3a"  # failback, and ours will not stop
    CONFIG = "e2875143d4274a2e82bcc62487d48627"  # the configuration was read again
    CONFIG_BAD = "745dcc1676914321bb7fa79286c89b65"  # it is bad; the last good one goes on
    INTENT_ENDED = "1b34308668564abcace39837a3f22306"  # a reboot ended a takeover
    SUMMARY = "a11eb831914e40f68acc77a4181cf38f"  # every ten minutes


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, as recorded."""

    kind: Kind
    level: int
    sentence: str
    fields: dict[str, str] = field(default_factory=dict)


LEVELS = {
    Notice.SUSPECT: (Kind.CHECK, DEBUG, "suspicion"),
    Notice.CLEARED: (Kind.CHECK, DEBUG, "suspicion over"),
    Notice.FAILED: (Kind.CHECK, DEBUG, "check failed"),
    Notice.INCONCLUSIVE: (Kind.CHECK, DEBUG, "check inconclusive, the count starts anew"),
    Notice.DOUBT: (Kind.DOUBT, WARNING, "evidence dropped"),
    Notice.HELD: (Kind.HELD, WARNING, "held"),
    Notice.REFERENCE_BACK: (Kind.REFERENCE, INFO, "reference back"),
    Notice.VERDICT: (Kind.VERDICT, WARNING, "verdict"),
}


def of_told(told: Told, *, near_miss_s: float, references_left: int) -> Event:
    """The detector's notice as an event; a suspicion longer than `near_miss_s` is told at INFO."""
    fields = {"NOTICE": told.notice.value, "EVIDENCE": told.why}
    if told.subject:
        fields["SUBJECT"] = told.subject
    if told.notice is Notice.REFERENCE_SILENT:
        sentence = f"reference {told.subject} is silent: {told.why}"
        if references_left == 0:
            sentence += "; without any reference no takeover can happen"
        return Event(Kind.REFERENCE, WARNING, sentence, fields)
    kind, level, words = LEVELS[told.notice]
    if told.notice is Notice.CLEARED and told.gap_s > near_miss_s:
        level, words = INFO, "near miss"
    if told.subject == Verdict.UP:
        level = INFO
    if told.notice is Notice.HELD:
        words = f"held: the primary has been silent for {told.gap_s:.1f} s without a verdict"
    if told.subject:
        words += f" {told.subject}"
    return Event(kind, level, f"{words}: {told.why}", fields)


def of_transition(transition: Transition, evidence: str) -> Event:
    """A change of phase: its sentence, and the evidence behind it."""
    source, target, because = transition.source, transition.target, transition.because
    serious = target in SERVING or source in SERVING or target is Phase.FAILBACK
    return Event(
        Kind.TRANSITION,
        WARNING if serious else INFO,
        f"{source} -> {target}: {because}",
        {"FROM": source.value, "TO": target.value, "BECAUSE": because, "EVIDENCE": evidence},
    )


def of_effect(effect: Effect, tries: int) -> Event:
    """A wish that goes to systemd now."""
    again = f" (try {tries + 1})" if tries else ""
    sentence = f"{effect.verb} {effect.service}{again}"
    return Event(Kind.ASKED, INFO, sentence, {"UNIT": effect.service, "VERB": effect.verb.value})


def of_units(
    before: tuple[UnitSeen, ...],
    now: tuple[UnitSeen, ...],
    started: frozenset[str],
) -> Iterator[Event]:
    """What changed in the services between two looks; `started` are those that should run."""
    old = {unit.name: unit.state for unit in before}
    for unit in now:
        last = old.get(unit.name)
        if last is None or last is unit.state:
            continue
        why = f" ({unit.why})" if unit.why else ""
        fields = {"UNIT": unit.name, "UNIT_STATE": unit.state.value, "WHY": unit.why}
        if unit.name in started and unit.state in DOWN and last is not Unit.UNKNOWN:
            sentence = f"{unit.name} does not run: {unit.state}{why}; it is started again"
            yield Event(Kind.SERVICE_FAILED, ERROR, sentence, fields)
        else:
            calm = unit.state in (Unit.STARTING, Unit.STOPPING)
            level = DEBUG if calm else INFO
            yield Event(Kind.SERVICE, level, f"{unit.name} is {unit.state}{why}", fields)


def attention(
    policy: Policy,
    state: PairState,
    verdict: Verdict,
    units: tuple[UnitSeen, ...],
    now_s: float,
) -> Iterator[Event]:
    """What an operator should mend, as things stand now: CRITICAL if both hosts may serve."""
    asked_s = {memory.name: memory.asked_s for memory in state.services}
    for unit in units:
        fields = {"UNIT": unit.name, "UNIT_STATE": unit.state.value}
        waited_s = now_s - max(state.since_s, asked_s.get(unit.name, 0.0))
        if state.phase in SERVING and unit.state is Unit.FAILED:
            sentence = f"{unit.name} does not run: {unit.why}"
            yield Event(Kind.SERVICE_FAILED, ERROR, sentence, fields)
        elif verdict is Verdict.UP and state.phase is Phase.STANDBY and unit.state in RUNS:
            sentence = f"possibly two active: {unit.name} runs here while the primary answers"
            yield Event(Kind.FOREIGN, CRITICAL, sentence, fields)
        elif verdict is Verdict.UP and state.phase in SERVING and unit.state in RUNS:
            sentence = (
                f"possibly two active: the primary answers and {unit.name} runs here, failback is"
                f" {policy.failback}; give it back with: failover-monitor failback"
            )
            yield Event(Kind.FAILBACK_WAITS, CRITICAL, sentence, fields)
        elif state.phase is Phase.FAILBACK and unit.state in STAYS and waited_s >= PATIENCE_S:
            seconds = now_s - state.since_s
            sentence = f"possibly two active: {unit.name} has not stopped for {seconds:.0f} s"
            yield Event(Kind.STOP_OVERDUE, CRITICAL, sentence, fields)
