"""What a decision table is made of: facts, conditions that both roles share, and rows.

Rule: pure.  A condition is one plain statement about the facts, named so that a row reads as a
sentence.  The rows themselves are in `machine` (the standby) and `guard` (the primary).
"""

from collections.abc import Callable
from dataclasses import dataclass

from failover_monitor.model import (
    AT_REST,
    INF,
    RUNS,
    Hooking,
    Memory,
    Observation,
    PairState,
    Phase,
    Policy,
    Transition,
    Unit,
    UnitSeen,
    Verb,
)

WANTED = {
    Phase.TAKEOVER: Verb.START,
    Phase.ACTIVE: Verb.START,
    Phase.FAILBACK: Verb.STOP,
    Phase.GATED: Verb.STOP,
    Phase.OPENING: Verb.START,
    Phase.CLOSING: Verb.STOP,
}  # the other phases leave the services as they are


@dataclass(frozen=True, slots=True)
class Facts:
    """One turn, as the conditions see it."""

    state: PairState
    seen: Observation
    policy: Policy


@dataclass(frozen=True, slots=True)
class Row:
    """From `source`, when `when` holds, to `target`, `because` (for the record)."""

    source: Phase
    when: Callable[[Facts], bool]
    target: Phase
    because: str


def next_transition(table: tuple[Row, ...], facts: Facts) -> Transition | None:
    """The first row that holds."""
    for row in table:
        if row.source is facts.state.phase and row.when(facts):
            return Transition(row.source, row.target, row.because, row.when.__name__)
    return None


# Conditions of both tables.


def all_running(facts: Facts) -> bool:
    return all(runs(unit, facts.state) for unit in listed(facts))


def any_running(facts: Facts) -> bool:
    return any(unit.state in RUNS for unit in facts.seen.units)


def all_at_rest(facts: Facts) -> bool:
    return all(unit.state in AT_REST for unit in facts.seen.units)


def time_over(facts: Facts) -> bool:
    """The guard's contact, or the lease, is too old: our services must begin to stop."""
    return facts.seen.now_s >= facts.seen.serve_until_s


# The hooks in the facts.


def prepared(facts: Facts) -> bool:
    """The hook before a takeover has succeeded; or it has failed, and its failure is no veto."""
    hook, state = facts.policy.pre_takeover, facts.seen.pre_takeover.state
    if hook is None or state is Hooking.DONE:
        return True
    return state is Hooking.FAILED and not hook.veto


def stops_wait(facts: Facts) -> bool:
    """For the hook before a failback, and for no longer than its time limit."""
    hook = facts.seen.pre_failback
    ended = hook.state in (Hooking.DONE, Hooking.FAILED) and hook.since_s > facts.state.since_s
    return facts.seen.now_s < stop_due_s(facts.state, facts.policy) and not ended


def stop_due_s(state: PairState, policy: Policy) -> float:
    """When the stops of a failback begin, whatever the hook before it does; -INF: at once."""
    if policy.pre_failback is None or state.phase is not Phase.FAILBACK:
        return -INF
    return state.since_s + policy.pre_failback.timeout_s


# The services in the facts.


def listed(facts: Facts) -> tuple[UnitSeen, ...]:
    """The services on the list, in its order; without those that are leaving it."""
    return tuple(unit for unit in facts.seen.units if unit.name not in facts.state.leaving)


def runs(unit: UnitSeen, state: PairState) -> bool:
    return unit.state is Unit.RUNNING or memory_of(unit, state).finished


def memory_of(unit: UnitSeen, state: PairState) -> Memory:
    for memory in state.services:
        if memory.name == unit.name:
            return memory
    return Memory(unit.name)
