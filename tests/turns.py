"""One decision with all that it was made from, and the promises that both roles keep.

Rule: a promise is one named statement about one turn; the exhaustive tests of `machine` and `guard`
try it on every turn that they can think of.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

from failover_monitor.decision import TABLES, decide
from failover_monitor.model import (
    ARMED,
    AT_REST,
    ENDING,
    INF,
    KILL_BEFORE_S,
    PATIENCE_S,
    SERVING,
    Decision,
    Memory,
    Observation,
    PairState,
    Phase,
    Policy,
    Transition,
    Unit,
    UnitSeen,
    Verb,
    Verdict,
)
from failover_monitor.services import KILL_AGAIN_S, remember

Thing = TypeVar("Thing")
A, B = "a.service", "b.service"
NOW_S = 1000.0
EVERY = int(os.environ.get("TURNS_EVERY", "1"))  # 1: exhaustive; else every n-th turn is tried
START_PHASES = SERVING | {Phase.OPENING}
STOP_PHASES = ENDING | {Phase.GATED}


@dataclass(frozen=True)
class Turn:
    """One thing that was decided, and on what."""

    policy: Policy
    state: PairState
    seen: Observation
    decision: Decision

    @classmethod
    def of(cls, policy: Policy, state: PairState, seen: Observation) -> "Turn":
        return cls(policy, state, seen, decide(state, seen, policy))

    def unit(self, name: str) -> UnitSeen:
        return next(unit for unit in self.seen.units if unit.name == name)

    def asked(self, *verbs: Verb) -> set[str]:
        return {e.service for e in self.decision.effects if e.verb in verbs}

    @property
    def phase(self) -> Phase:
        return self.decision.state.phase

    @property
    def unrested(self) -> set[str]:
        return {unit.name for unit in self.seen.units if unit.state not in AT_REST}

    @property
    def time_over(self) -> bool:
        return self.seen.now_s >= self.seen.serve_until_s

    def entered(self, *phases: Phase) -> bool:
        return self.phase in phases and self.state.phase not in phases


Promise = Callable[[Turn], bool]


@dataclass
class Judged:
    """What came of trying every promise on every turn."""

    tried: int = 0
    fired: set[Transition] = field(default_factory=set)
    broken: dict[str, Turn] = field(default_factory=dict)  # the first turn that broke it


def judged(turns: Iterable[Turn], promises: tuple[Promise, ...]) -> Judged:
    """Try every promise on every turn."""
    found = Judged()
    for turn in turns:
        found.tried += 1
        if turn.decision.transition:
            found.fired.add(turn.decision.transition)
        for promise in promises:
            if not promise(turn):
                found.broken.setdefault(promise.__name__, turn)
    return found


def some(turns: Iterable[Thing]) -> Iterator[Thing]:
    """All of them, unless somebody is in a hurry."""
    return islice(turns, 0, None, EVERY)


def look(words: str, now_s: float, since_s: float, **options: object) -> Observation:
    """`"down running stopped"`: the verdict, then a and b."""
    verdict, *units = words.split()
    names = (A, B)
    seen = tuple(UnitSeen(names[i], Unit(unit), since_s) for i, unit in enumerate(units))
    observation = Observation(now_s=now_s, verdict=Verdict(verdict), units=seen)
    return replace(observation, **options)  # type: ignore[arg-type]


def in_phase(phase: Phase, *memories: Memory, **options: object) -> PairState:
    state = PairState(phase=phase, settled=True, services=memories)
    return replace(state, **options)  # type: ignore[arg-type]


def asked(decision: Decision) -> list[str]:
    return [f"{effect.verb} {effect.service}" for effect in decision.effects]


# Promises of both roles.


def starts_one_after_the_other(turn: Turn) -> bool:
    """One thing is asked at a time, unless stopping is enforced."""
    stops_in_time = turn.policy.enforced and turn.phase in STOP_PHASES
    return stops_in_time or len(turn.decision.effects) <= 1


def starts_only_what_rests(turn: Turn) -> bool:
    return turn.asked(Verb.START).isdisjoint(turn.unrested)


def starts_only_where_it_may(turn: Turn) -> bool:
    return not turn.asked(Verb.START) or turn.phase in START_PHASES


def starts_nothing_on_a_host_that_stops(turn: Turn) -> bool:
    return not turn.seen.host_stopping or not turn.asked(Verb.START)


def stops_only_what_does_not_rest(turn: Turn) -> bool:
    return turn.asked(Verb.STOP, Verb.KILL) <= turn.unrested


def stops_only_where_it_must(turn: Turn) -> bool:
    return not turn.asked(Verb.STOP, Verb.KILL) or turn.phase in STOP_PHASES


def stops_all_at_once_in_time(turn: Turn) -> bool:
    """Where somebody counts on it, nobody waits for the unit before."""
    if not turn.policy.enforced or not turn.entered(Phase.FAILBACK, Phase.CLOSING):
        return True
    return turn.asked(Verb.STOP, Verb.KILL) == turn.unrested


def ending_s(turn: Turn) -> float:
    """When this stop should have begun: fixed when it begins, by the proof that was held."""
    if turn.state.phase in ENDING:
        return turn.state.ending_s
    until_s = turn.seen.serve_until_s
    held = turn.state.phase in ARMED | {Phase.UNKNOWN} and abs(until_s) < INF
    return min(NOW_S, until_s) if held else NOW_S


def counts_a_stop_from_when_it_should_have_begun(turn: Turn) -> bool:
    """The end of the proof, not the turn that was late to see it; what returns does not move it."""
    expected_s = ending_s(turn) if turn.phase in ENDING else turn.state.ending_s
    return turn.decision.state.ending_s == expected_s


def kill_due_s(turn: Turn) -> float:
    return ending_s(turn) + turn.policy.stop_limit_s - KILL_BEFORE_S


def kills_in_time_and_never_before(turn: Turn) -> bool:
    """What is left one second before the limit is killed, and again every half second."""
    due = turn.policy.enforced and turn.phase in ENDING and kill_due_s(turn) <= NOW_S
    killed = {
        m.name
        for m in turn.decision.state.services
        if m.asked is Verb.KILL and NOW_S - m.asked_s < KILL_AGAIN_S
    }
    return turn.unrested <= killed if due else not turn.asked(Verb.KILL)


def moves_along_a_row(turn: Turn) -> bool:
    transition = turn.decision.transition
    if transition is None:
        return turn.phase is turn.state.phase
    return transition.target is turn.phase and any(
        (row.source, row.target, row.because)
        == (transition.source, transition.target, transition.because)
        for row in TABLES[turn.policy.role]
    )


def waits_before_it_asks_again(turn: Turn) -> bool:
    """What failed is not asked again before its time, in the phase that failed."""
    if turn.decision.transition and turn.state.phase not in SERVING:
        return True
    waiting = {m.name for m in turn.state.services if m.retry_s > NOW_S}
    same = {(m.name, m.asked) for m in turn.state.services}
    return all(
        e.service not in waiting or (e.service, e.verb) not in same for e in turn.decision.effects
    )


def starts_in_order(turn: Turn) -> bool:
    """B is not asked while A could be asked, or is on its way with patience left."""
    if turn.asked(Verb.START) != {B}:
        return True
    memory = next(m for m in turn.decision.state.services if m.name == A)
    state = turn.unit(A).state
    if state is Unit.RUNNING or memory.finished:
        return True
    return memory.retry_s > NOW_S if state in AT_REST else memory.asked_s <= NOW_S - PATIENCE_S


def calls_stopped_only_what_is(turn: Turn) -> bool:
    left = turn.state.phase in ENDING and turn.phase in (Phase.STANDBY, Phase.GATED)
    return not left or not turn.unrested


def calls_running_only_what_is(turn: Turn) -> bool:
    """All of it: or a oneshot that ended well after we had asked for it."""
    began = turn.state.phase in (Phase.TAKEOVER, Phase.OPENING)
    became = began and turn.phase in (Phase.ACTIVE, Phase.SERVING)
    memories = {m.name: m for m in remember(turn.state, turn.seen, turn.policy).services}
    return not became or all(
        unit.state is Unit.RUNNING or memories[unit.name].finished for unit in turn.seen.units
    )


def remembers_what_it_asked(turn: Turn) -> bool:
    asked_for = {m.name: (m.asked, m.asked_s) for m in turn.decision.state.services}
    return all(asked_for[e.service] == (e.verb, NOW_S) for e in turn.decision.effects)


SHARED: tuple[Promise, ...] = (
    starts_one_after_the_other,
    starts_only_what_rests,
    starts_only_where_it_may,
    starts_nothing_on_a_host_that_stops,
    stops_only_what_does_not_rest,
    stops_only_where_it_must,
    stops_all_at_once_in_time,
    counts_a_stop_from_when_it_should_have_begun,
    kills_in_time_and_never_before,
    moves_along_a_row,
    waits_before_it_asks_again,
    starts_in_order,
    calls_stopped_only_what_is,
    calls_running_only_what_is,
    remembers_what_it_asked,
)
