"""The services: what we remember of each, and what to ask of it next.

Rule: pure.  Both sides of a pair use it: the standby's table and the guard's say how the services
should look in a phase, here it is worked out what is missing, in which order, and how often.
"""

from collections.abc import Iterator
from dataclasses import replace

from failover_monitor.model import (
    AT_REST,
    ENDING,
    INF,
    KILL_BEFORE_S,
    PATIENCE_S,
    RUNS,
    Effect,
    Memory,
    Observation,
    PairState,
    Policy,
    Unit,
    UnitSeen,
    Verb,
)
from failover_monitor.table import WANTED, Facts, listed, memory_of, runs, stop_due_s

RETRY_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # between two tries; the last one for ever after
STEADY_S = 60.0  # a service that ran for so long has earned a quick restart again
KILL_AGAIN_S = 0.5  # a process that was forked while we killed is killed again


def remember(state: PairState, seen: Observation, policy: Policy) -> PairState:
    """Fold one look at the services into the memory of what we asked of them."""
    known = {memory.name: memory for memory in state.services}
    wanted = WANTED.get(state.phase)
    names = (*policy.services, *state.leaving)
    memories = [known.get(name, Memory(name)) for name in names]
    units = {unit.name: unit for unit in seen.units}
    services = tuple(
        learn(memory, units[memory.name], wanted, seen.now_s) if memory.name in units else memory
        for memory in memories
    )
    return state if services == state.services else replace(state, services=services)


def learn(memory: Memory, unit: UnitSeen, wanted: Verb | None, now_s: float) -> Memory:
    """What one look at one service teaches about what we asked of it."""
    if wanted is Verb.START and not memory.finished and ended_well(memory, unit):
        return replace(memory, finished=True, tries=0, retry_s=0.0)
    if memory.asked is None or memory.asked is not wanted:
        return memory
    done = Unit.RUNNING if wanted is Verb.START else Unit.STOPPED
    if unit.state is done:
        long_enough = now_s - max(memory.asked_s, unit.since_s) >= STEADY_S
        return replace(memory, tries=0) if memory.tries and long_enough else memory
    failed = AT_REST if wanted is Verb.START else RUNS
    if unit.state in failed and not memory.finished and not memory.retry_s:
        wait_s = RETRY_S[min(memory.tries, len(RETRY_S) - 1)]
        return replace(memory, tries=memory.tries + 1, retry_s=now_s + wait_s)
    return memory


def ended_well(memory: Memory, unit: UnitSeen) -> bool:
    return (
        unit.state is Unit.FINISHED
        and memory.asked is Verb.START
        and unit.since_s >= memory.asked_s
    )


def noted(state: PairState, effects: tuple[Effect, ...], now_s: float) -> PairState:
    """Remember what is being asked now."""
    if not effects:
        return state
    asked = {effect.service: effect.verb for effect in effects}
    services = tuple(
        replace(memory, asked=asked[memory.name], asked_s=now_s, retry_s=0.0)
        if memory.name in asked
        else memory
        for memory in state.services
    )
    return replace(state, services=services)


def starts(facts: Facts) -> Iterator[Effect]:
    """Ask for what should run, in order; wait for each while there is hope."""
    now_s = facts.seen.now_s
    for unit in listed(facts):
        memory = memory_of(unit, facts.state)
        if runs(unit, facts.state):
            continue
        if unit.state not in AT_REST:
            if patient(memory, facts):
                return
        elif now_s >= memory.retry_s:
            again = unit.state is Unit.FAILED or memory.tries > 0
            yield Effect(Verb.START, unit.name, reset_failed=again)
            return


def stops(facts: Facts) -> Iterator[Effect]:
    """Ask for what should not run, in reverse order; only what runs is stopped."""
    if facts.policy.enforced:
        yield from stops_in_time(facts)
        return
    for unit in reversed(facts.seen.units):
        memory = memory_of(unit, facts.state)
        if unit.state in AT_REST:
            continue
        if unit.state in (Unit.STOPPING, Unit.UNKNOWN):
            if patient(memory, facts):
                return
        elif facts.seen.now_s >= memory.retry_s:
            yield Effect(Verb.STOP, unit.name)
            return


def stops_in_time(facts: Facts) -> Iterator[Effect]:
    """All at once, whatever they look like; and what is left when the time is nearly over dies."""
    now_s = facts.seen.now_s
    time_to_kill = now_s >= kill_due_s(facts.state, facts.policy)
    for unit in reversed(facts.seen.units):
        memory = memory_of(unit, facts.state)
        if unit.state in AT_REST:
            continue
        if time_to_kill:
            if memory.asked is not Verb.KILL or now_s - memory.asked_s >= KILL_AGAIN_S:
                yield Effect(Verb.KILL, unit.name)
        elif memory.asked is None or (unit.state in RUNS and now_s >= memory.retry_s):
            yield Effect(Verb.STOP, unit.name)


def kill_due_s(state: PairState, policy: Policy) -> float:
    """When what is still being stopped is killed; counted from when stopping should have begun."""
    if state.phase not in ENDING or not policy.enforced:
        return INF
    return state.ending_s + max(0.0, policy.stop_limit_s - KILL_BEFORE_S)


def patient(memory: Memory, facts: Facts) -> bool:
    """The next service waits for one that has been changing for less than PATIENCE_S."""
    began_s = max(memory.asked_s, facts.state.since_s)
    return facts.seen.now_s - began_s < PATIENCE_S


def next_due_s(state: PairState, seen: Observation, policy: Policy) -> float:
    """The next moment at which a retry falls due, patience ends or a kill is due."""
    now_s = seen.now_s
    moments = [t for m in state.services for t in (m.retry_s, m.asked_s + PATIENCE_S)]
    killed = any(memory.asked is Verb.KILL for memory in state.services)
    moments += [kill_due_s(state, policy), now_s + KILL_AGAIN_S if killed else INF]
    moments += [seen.serve_until_s, stop_due_s(state, policy)]
    return min(t for t in moments if t > now_s)
