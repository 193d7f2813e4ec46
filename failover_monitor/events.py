"""What is worth telling, and its sentence.

Rule: pure.  An event is made here from what the core decided; files, log and journal are filled
from the same event, so that they cannot contradict each other.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from failover_monitor import orders
from failover_monitor.model import (
    ENDING,
    PATIENCE_S,
    RUNS,
    SERVING,
    CheckSeen,
    Effect,
    FenceSeen,
    Fencing,
    Hooking,
    HookTold,
    Judged,
    Notice,
    Outcome,
    Phase,
    Role,
    Told,
    Transition,
    Unit,
    UnitSeen,
    Verb,
    Verdict,
)
from failover_monitor.table import Facts, memory_of, prepared, stops_wait

DEBUG, INFO, WARNING, ERROR, CRITICAL = (
    logging.DEBUG,
    logging.INFO,
    logging.WARNING,
    logging.ERROR,
    logging.CRITICAL,
)
CHECKS_KEPT = 12  # of one silence: a long one has thousands
SOON_S = 1.0  # a takeover that waits for no longer is no news
CALM = frozenset({Phase.UNKNOWN, Phase.STANDBY})
DOWN = frozenset({Unit.STOPPED, Unit.FAILED})
STANDS_IN = SERVING | {Phase.FAILBACK}
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
    TWO_ACTIVE = "a1935a4e7e654517812408dd756f7b52"  # the primary's service answers while ours runs
    VETO = "b83e843c9765472db015b696ba241a3c"  # the primary is silent, its service is not
    CLAIM = "b8ee45ee763d46c4b5a498011d23b295"  # a takeover waits for what must come first
    FENCE = "c2f5d109a6af497e82f37236ee901427"  # the fence command: begun, done, failed
    LEASE = "330197bad8db47418c2ef5ae520938e1"  # the lease: ours, or not any more
    SERVICE_CHECK = "44003ae0075b4bc498352df8e18297d2"  # a service check changed its answer
    FLAPPING = "21ee0c71c1514f57b1e95a7a0ca975eb"  # too many takeovers: an operator must look
    GATED = "870aaa8e2c16499388e2562745b738a0"  # the guard holds the services back
    UNENFORCED = "6a5a6e067bab4c119f3d4f4f5903c74d"  # drop-ins of install.sh are missing
    INTENT_ENDED = "1b34308668564abcace39837a3f22306"  # a reboot ended a takeover
    OPERATOR = "f755f050ec5f43feb0b5f9f53be14cc1"  # an operator asked: taken, done, dropped
    PAUSED = "23d73ec276284a9eba96a24d98ba3218"  # an operator's pause: begun, lasting, ended
    HOOK = "6f1c0a7e5d7b4c1d9f6f2c8b3a94e0d5"  # a hook: begun, ended, failed
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


@dataclass(slots=True)
class Trail:
    """The present silence in numbers: with them a verdict, or that there was none, is explained.

    Checks are no events of their own that anybody keeps: random loss would fill the disk with
    them.  What they found is recorded with what came of them.
    """

    since_s: float | None = None  # the first unanswered echo, once a check that began with it ended
    suspected_s: float | None = None
    judged: bool = False  # "down": it was no near miss, whatever ends it
    checks: tuple[Judged, ...] = ()  # the latest ones

    def numbers(self, told: Told, now_s: float) -> dict[str, str]:
        """Take a notice; gives the fields that its event should have.  Times count back from it."""
        if told.notice is Notice.SUSPECT:
            self._begin(now_s)
            self.judged = False
        elif told.notice is Notice.VERDICT and told.subject == Verdict.DOWN:
            self.judged = True
        elif told.check:
            self.since_s = told.check.began_s if self.since_s is None else self.since_s
            self.checks = (*self.checks, told.check)[-CHECKS_KEPT:]
        if told.notice not in EXPLAINED or told.subject == Verdict.UP or self.suspected_s is None:
            return {}
        # A silence without a verdict is told of for as long as it lasts.
        checks = self.checks[-1:] if told.notice is Notice.HELD else self.checks
        fields = {"SUSPECTED_S": f"{now_s - self.suspected_s:.3f}"}
        if self.since_s is not None:
            fields["SILENT_S"] = f"{now_s - self.since_s:.3f}"
        if checks:
            fields["CHECKS"] = json.dumps([in_numbers(check, now_s) for check in checks])
        if told.notice in (Notice.CLEARED, Notice.DOUBT):
            self._begin(None)
        return fields

    def _begin(self, suspected_s: float | None) -> None:
        self.since_s, self.suspected_s, self.checks = None, suspected_s, ()


EXPLAINED = frozenset({Notice.VERDICT, Notice.HELD, Notice.DOUBT, Notice.CLEARED})


def in_numbers(check: Judged, now_s: float) -> dict[str, object]:
    """A check for the record; its times are before `now_s`, so below zero."""
    return {
        "failed": check.failed,
        "began_s": round(check.began_s - now_s, 3),
        "ended_s": round(check.ended_s - now_s, 3),
        "planned": check.planned,
        "sent": check.sent,
        "silent": list(check.silent),
        "answered": dict(check.answered),
        "in_time": list(check.in_time),
    }


def of_told(told: Told, *, near_miss_s: float, blind: bool, numbers: Mapping[str, str]) -> Event:
    """The detector's notice as an event; a suspicion longer than `near_miss_s` is told at INFO.

    `blind`: too few references answer for any takeover.  `numbers`: from the `Trail`.
    """
    fields = {"NOTICE": told.notice.value, "EVIDENCE": told.why, **numbers}
    if told.subject:
        fields["SUBJECT"] = told.subject
    if told.notice is Notice.REFERENCE_SILENT:
        sentence = f"reference {told.subject} is silent: {told.why}"
        if blind:
            sentence += "; as it is no takeover can happen"
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


def of_order(told: orders.Told) -> Event:
    """What became of an operator's wish."""
    kind = Kind.PAUSED if told.paused else Kind.OPERATOR
    level = INFO if told.calm and not told.paused else WARNING
    return Event(kind, level, told.sentence, told.fields)


def of_transition(transition: Transition, evidence: str, asker: dict[str, str]) -> Event:
    """A change of phase: its sentence, the evidence behind it, and who asked for it, if any did."""
    source, target, because = transition.source, transition.target, transition.because
    serious = not {source, target} <= CALM
    fields = {"FROM": source.value, "TO": target.value, "WHEN": transition.when}
    fields |= {"BECAUSE": because, "EVIDENCE": evidence}
    level = WARNING if serious else INFO
    return Event(Kind.TRANSITION, level, f"{source} -> {target}: {because}", fields | asker)


def of_effect(effect: Effect, tries: int) -> Event:
    """A wish that goes to systemd now."""
    fields = {"UNIT": effect.service, "VERB": effect.verb.value}
    if effect.verb is Verb.KILL:
        sentence = f"kill {effect.service}: it has not stopped in time"
        return Event(Kind.ASKED, ERROR, sentence, fields)
    again = f" (try {tries + 1})" if tries else ""
    return Event(Kind.ASKED, INFO, f"{effect.verb} {effect.service}{again}", fields)


def of_fence(before: FenceSeen, now: FenceSeen) -> Event | None:
    """What became of the fence command between two looks."""
    if before.state is now.state or now.state is Fencing.IDLE:
        return None
    fields = {"FENCE": now.state.value, "WHY": now.why}
    match now.state:
        case Fencing.DONE:
            return Event(Kind.FENCE, WARNING, "the fence succeeded: the primary is off", fields)
        case Fencing.FAILED:
            sentence = f"the fence failed {now.tries} times: {now.why}"
            return Event(Kind.FENCE, ERROR, sentence, fields)
        case _:
            return Event(Kind.FENCE, WARNING, "the primary is being fenced", fields)


def of_hook(told: HookTold) -> Event:
    """What became of one of the operator's hooks."""
    fields = {"HOOK": told.name, "HOOK_STATE": told.state.value, "WHY": told.why}
    left_out = f"; {told.dropped} events were not passed on to it" if told.dropped else ""
    match told.state:
        case Hooking.RUNNING:
            return Event(Kind.HOOK, INFO, f"hook {told.name} runs", fields)
        case Hooking.FAILED:
            then = "; it holds the takeover" if told.holds else ""
            fields |= {"HOLDS": "takeover"} if told.holds else {}
            sentence = f"hook {told.name} failed: {told.why}{then}{left_out}"
            return Event(Kind.HOOK, ERROR, sentence, fields)
        case _:
            words = f": {told.why}" if told.why else ""
            sentence = f"hook {told.name} ended after {told.took_s:.1f} s{words}{left_out}"
            return Event(Kind.HOOK, WARNING if told.dropped else INFO, sentence, fields)


def of_lease(held: bool, why: str) -> Event:
    """The lease became ours, or is ours no more."""
    words = "the lease is ours" if held else "the lease is not ours"
    sentence = f"{words}: {why}" if why else words
    return Event(Kind.LEASE, INFO if held else WARNING, sentence, {"WHY": why})


def of_service_check(before: Outcome | None, seen: CheckSeen) -> Event:
    """One run of a service check; a change of its answer is news."""
    calm = before is seen.outcome or (before is None and seen.outcome is Outcome.PASS)
    level = DEBUG if calm else INFO if seen.outcome is Outcome.PASS else WARNING
    answer = {
        Outcome.PASS: "passes",
        Outcome.FAIL: "fails",
        Outcome.UNKNOWN: "cannot tell",
    }[seen.outcome]
    fields = {"CHECK": seen.name, "OUTCOME": seen.outcome.value, "WHY": seen.why}
    sentence = f"service check {seen.name} {answer}: {seen.why}"
    return Event(Kind.SERVICE_CHECK, level, sentence, fields)


def of_units(
    before: tuple[UnitSeen, ...],
    now: tuple[UnitSeen, ...],
    started: frozenset[str],
    *,
    paused: bool = False,
) -> Iterator[Event]:
    """What changed in the services between two looks; `started` are those that should run."""
    again = "it is not started again while paused" if paused else "it is started again"
    old = {unit.name: unit.state for unit in before}
    for unit in now:
        last = old.get(unit.name)
        if last is None or last is unit.state:
            continue
        why = f" ({unit.why})" if unit.why else ""
        fields = {"UNIT": unit.name, "UNIT_STATE": unit.state.value, "WHY": unit.why}
        if unit.name in started and unit.state in DOWN and last is not Unit.UNKNOWN:
            sentence = f"{unit.name} does not run: {unit.state}{why}; {again}"
            yield Event(Kind.SERVICE_FAILED, ERROR, sentence, fields)
        else:
            calm = unit.state in (Unit.STARTING, Unit.STOPPING)
            level = DEBUG if calm else INFO
            yield Event(Kind.SERVICE, level, f"{unit.name} is {unit.state}{why}", fields)


def attention(facts: Facts, *, passing: tuple[str, ...], lease_why: str) -> Iterator[Event]:
    """What an operator should mend, as things stand now: CRITICAL if nobody or both may serve.

    `passing`: the service checks that the primary passes right now.
    """
    for unit in facts.seen.units:
        fields = {"UNIT": unit.name, "UNIT_STATE": unit.state.value}
        for kind, level, sentence in of_one_service(unit, facts, passing):
            yield Event(kind, level, sentence, fields)
    for kind, level, sentence in of_waiting(facts, lease_why):
        yield Event(kind, level, sentence, {"VERDICT": facts.seen.verdict.value})


Found = tuple[Kind, int, str]


def of_one_service(unit: UnitSeen, facts: Facts, passing: tuple[str, ...]) -> Iterator[Found]:
    """A service that runs where or when it should not, or does not where it should."""
    phase, up = facts.state.phase, facts.seen.verdict is Verdict.UP
    well = facts.seen.service is Verdict.UP
    name, runs = unit.name, unit.state in RUNS
    if phase in SERVING and unit.state is Unit.FAILED and name not in facts.state.leaving:
        yield Kind.SERVICE_FAILED, ERROR, f"{name} does not run: {unit.why}"
    elif phase in STANDS_IN and runs and passing:
        told = ", ".join(passing)
        sentence = f"two active: {name} runs here, and the primary passes {told}"
        yield Kind.TWO_ACTIVE, CRITICAL, sentence
    elif phase is Phase.STANDBY and runs and up:
        sentence = f"possibly two active: {name} runs here while the primary answers"
        yield Kind.FOREIGN, CRITICAL, sentence
    elif phase in SERVING and runs and up and not (facts.policy.triggered and not well):
        sentence = f"possibly two active: the primary answers and {name} runs here"
        yield Kind.FAILBACK_WAITS, CRITICAL, f"{sentence}, {kept_by(facts)}"
    elif phase in ENDING and unit.state in STAYS:
        asked_s = memory_of(unit, facts.state).asked_s
        if facts.seen.now_s - max(facts.state.since_s, asked_s) >= PATIENCE_S:
            seconds = facts.seen.now_s - facts.state.since_s
            sentence = f"possibly two active: {name} has not stopped for {seconds:.0f} s"
            if stops_wait(facts):
                sentence += ", the hook pre_failback still runs"
            yield Kind.STOP_OVERDUE, CRITICAL, sentence
    elif phase is Phase.GATED and runs:
        yield Kind.GATED, CRITICAL, f"{name} runs here, although this host may not serve"


def kept_by(facts: Facts) -> str:
    """Why services go on running here although the primary answers."""
    if facts.seen.paused:
        return "failback is paused; end that with: failover-monitor resume"
    why = f"failback is {facts.policy.failback}"
    if facts.state.by_hand:
        why = f"{facts.state.by_hand} took it over by hand"
    return f"{why}; give it back with: failover-monitor failback"


def of_waiting(facts: Facts, lease_why: str) -> Iterator[Found]:
    """Why nobody serves although the primary is silent, or this host holds its services back."""
    state, seen, policy = facts.state, facts.seen, facts.policy
    if seen.paused:
        yield Kind.PAUSED, WARNING, f"{seen.paused}; no takeover will happen"
    down = seen.verdict is Verdict.DOWN and state.phase not in SERVING
    if down and seen.vetoes:
        yield Kind.VETO, WARNING, f"no takeover: {'; '.join(seen.vetoes)}"
    if state.flapping and policy.role is Role.STANDBY:
        sentence = (
            f"{policy.max_takeovers} takeovers within {policy.flap_window_s:g} s: no more before"
            " an operator says: failover-monitor ack"
        )
        yield Kind.FLAPPING, CRITICAL, f"no takeover: {sentence}" if down else sentence
    waits_long = seen.now_s - state.since_s >= SOON_S
    if state.phase is Phase.CLAIM and waits_long and not seen.host_stopping:
        fence = seen.fence
        waits = [f"lease: {lease_why}"] if seen.now_s >= seen.serve_until_s else []
        if policy.fence and not state.fenced and not waits:
            waits.append(f"fence: {fence.state}, {fence.why or 'no answer yet'}")
        if not waits and not prepared(facts):
            hook = seen.pre_takeover
            waits.append(f"hook pre_takeover: {hook.state}, {hook.why or 'no answer yet'}")
        if state.by_hand and policy.guard and not waits:
            waits.append("the guard of the primary")
        lasting = (
            seen.now_s - state.since_s >= PATIENCE_S
            or fence.state is Fencing.FAILED
            or seen.pre_takeover.state is Hooking.FAILED
        )
        level = CRITICAL if lasting else WARNING
        yield Kind.CLAIM, level, f"the takeover waits for {'; '.join(waits) or 'nothing more'}"
    if state.phase is Phase.GATED and waits_long and not seen.host_stopping:
        yield Kind.GATED, WARNING, f"the services are held back: {gated_by(facts, lease_why)}"
    delay_s = policy.takeover_delay_s - (seen.now_s - seen.verdict_since_s)
    held = seen.vetoes or seen.paused
    if down and delay_s > 0 and state.phase in CALM and not held:
        yield Kind.CLAIM, WARNING, f"the takeover waits for takeover_delay ({delay_s:.0f} s more)"


def gated_by(facts: Facts, lease_why: str) -> str:
    """What the gate waits for."""
    since_s, guard = facts.seen.answering_since_s, facts.policy.guard
    if facts.policy.lease:
        return f"lease: {lease_why}"
    if since_s is None or guard is None:
        return "nobody answers, this host is cut off"
    return f"in contact for {facts.seen.now_s - since_s:.0f} of {guard.boot_hold_s:g} s"
