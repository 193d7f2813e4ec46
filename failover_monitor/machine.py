"""The decision: given what we remember and what we just saw, what now?

Rule 1: every reason to start or stop anything is a row of TABLE.  To learn what the program will
do, read the table; to change it, edit the table.
Rule 2: nothing here touches the world.  No await, no clock, no log: time is `Observation.now_s`,
and what should happen is returned, not done.

How a turn is decided
---------------------
1. `remember` folds what the services look like into the memory of what we asked of them.
2. The first row of TABLE whose source is the current phase, and whose condition holds, moves the
   pair to its target.  No row: the phase stays.
3. WANTED says how the services should look in that phase; `starts` and `stops` ask for what is
   missing, in order.  Asking is no book-keeping: the next look shows what came of it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from failover_monitor.model import (
    PATIENCE_S,
    RUNS,
    SERVING,
    Decision,
    Effect,
    Failback,
    Foreign,
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

WANTED = {
    Phase.TAKEOVER: Verb.START,
    Phase.ACTIVE: Verb.START,
    Phase.FAILBACK: Verb.STOP,
}  # the other phases leave the services as they are

AT_REST = frozenset({Unit.STOPPED, Unit.FAILED, Unit.FINISHED})  # serves nobody
RETRY_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # between two tries; the last one for ever after
STEADY_S = 60.0  # a service that ran for so long has earned a quick restart again


@dataclass(frozen=True, slots=True)
class Facts:
    """One turn, as the conditions below see it."""

    state: PairState
    seen: Observation
    policy: Policy


# The conditions.  Each is one plain statement, named so that a row reads as a sentence.


def primary_up(facts: Facts) -> bool:
    return facts.seen.verdict is Verdict.UP


def primary_down(facts: Facts) -> bool:
    waited_s = facts.seen.now_s - facts.seen.verdict_since_s
    down = facts.seen.verdict is Verdict.DOWN
    return down and waited_s >= facts.policy.takeover_delay_s and not facts.seen.host_stopping


def primary_unknown(facts: Facts) -> bool:
    return facts.seen.verdict is Verdict.UNKNOWN


def primary_back(facts: Facts) -> bool:
    if not primary_up(facts):
        return False
    match facts.policy.failback:
        case Failback.AUTO:
            return True
        case Failback.DELAYED:
            since_s = facts.seen.answering_since_s
            waited_s = -1.0 if since_s is None else facts.seen.now_s - since_s
            return waited_s >= facts.policy.recovery_delay_s
        case Failback.MANUAL:
            return False


def operator_asked(facts: Facts) -> bool:
    return primary_up(facts) and facts.seen.failback_asked


def all_running(facts: Facts) -> bool:
    return all(runs(unit, facts.state) for unit in listed(facts))


def one_not_running(facts: Facts) -> bool:
    down = (
        unit.state is not Unit.UNKNOWN and not runs(unit, facts.state) for unit in listed(facts)
    )
    return any(down) and not facts.seen.host_stopping


def any_running(facts: Facts) -> bool:
    return any(unit.state in RUNS for unit in facts.seen.units)


def running_at_boot(facts: Facts) -> bool:
    return primary_up(facts) and not facts.state.settled and any_running(facts)


def foreign_unwanted(facts: Facts) -> bool:
    wanted = facts.policy.foreign_start is Foreign.STOP
    return wanted and primary_up(facts) and any_running(facts)


def all_at_rest(facts: Facts) -> bool:
    return all(unit.state in AT_REST for unit in facts.seen.units)


@dataclass(frozen=True, slots=True)
class Row:
    """From `source`, when `when` holds, to `target`, `because` (for the record)."""

    source: Phase
    when: Callable[[Facts], bool]
    target: Phase
    because: str


# First match wins, so the order of rows is part of the meaning.
TABLE = (
    Row(Phase.UNKNOWN, primary_down, Phase.TAKEOVER, "the primary does not answer"),
    Row(Phase.UNKNOWN, running_at_boot, Phase.FAILBACK, "services ran here before the first look"),
    Row(Phase.UNKNOWN, primary_up, Phase.STANDBY, "the primary answers"),
    #
    Row(Phase.STANDBY, primary_down, Phase.TAKEOVER, "the primary stopped answering"),
    Row(Phase.STANDBY, primary_unknown, Phase.UNKNOWN, "our own network does not answer"),
    Row(Phase.STANDBY, running_at_boot, Phase.FAILBACK, "services ran here before the first look"),
    Row(Phase.STANDBY, foreign_unwanted, Phase.FAILBACK, "somebody started a service here"),
    #
    Row(Phase.TAKEOVER, operator_asked, Phase.FAILBACK, "an operator asked for it"),
    Row(Phase.TAKEOVER, primary_back, Phase.FAILBACK, "the primary came back first"),
    Row(Phase.TAKEOVER, all_running, Phase.ACTIVE, "all services run here"),
    #
    Row(Phase.ACTIVE, operator_asked, Phase.FAILBACK, "an operator asked for it"),
    Row(Phase.ACTIVE, primary_back, Phase.FAILBACK, "the primary is back"),
    Row(Phase.ACTIVE, one_not_running, Phase.TAKEOVER, "a service stopped"),
    #
    Row(Phase.FAILBACK, primary_down, Phase.TAKEOVER, "the primary went away again"),
    Row(Phase.FAILBACK, all_at_rest, Phase.STANDBY, "all services are stopped here"),
)


def decide(state: PairState, seen: Observation, policy: Policy) -> Decision:
    """Answer one observation.  Pure: same arguments, same answer."""
    state = remember(state, seen, policy)
    transition = next_transition(Facts(state, seen, policy))
    if transition:
        state = enter(state, transition, seen)
    if not state.settled and settled(state, seen):
        state = replace(state, settled=True)
    facts = Facts(state, seen, policy)
    match WANTED.get(state.phase):
        case Verb.START if not seen.host_stopping:
            effects = tuple(starts(facts))
        case Verb.STOP:
            effects = tuple(stops(facts))
        case _:
            effects = ()
    return Decision(state=noted(state, effects, seen.now_s), transition=transition, effects=effects)


def next_transition(facts: Facts) -> Transition | None:
    for row in TABLE:
        if row.source is facts.state.phase and row.when(facts):
            return Transition(row.source, row.target, row.because)
    return None


def enter(state: PairState, transition: Transition, seen: Observation) -> PairState:
    """What we remember when a phase begins: nothing of what the last one asked."""
    target = transition.target
    state = replace(state, phase=target, since_s=seen.now_s)
    if target in SERVING and transition.source in SERVING:
        return state
    if target in (Phase.STANDBY, Phase.UNKNOWN):
        state = replace(state, leaving=())
    return replace(state, services=tuple(Memory(memory.name) for memory in state.services))


def settled(state: PairState, seen: Observation) -> bool:
    """What ran here at boot has been dealt with: from now on a start is somebody's own doing."""
    return state.phase is not Phase.UNKNOWN and all(
        unit.state is not Unit.UNKNOWN for unit in seen.units
    )


def adopt(state: PairState, policy: Policy) -> PairState:
    """Go on under a new list: what left it while it ran here stays ours to stop."""
    names = (memory.name for memory in state.services)
    ours = state.phase in WANTED
    leaving = tuple(name for name in names if ours and name not in policy.services)
    return replace(state, leaving=leaving)


# What we remember of the services.


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


def next_due_s(state: PairState, now_s: float) -> float:
    """The next moment at which a retry falls due or patience ends."""
    moments = (t for m in state.services for t in (m.retry_s, m.asked_s + PATIENCE_S))
    return min((t for t in moments if t > now_s), default=float("inf"))


# What to ask.


def runs(unit: UnitSeen, state: PairState) -> bool:
    return unit.state is Unit.RUNNING or memory_of(unit, state).finished


def memory_of(unit: UnitSeen, state: PairState) -> Memory:
    for memory in state.services:
        if memory.name == unit.name:
            return memory
    return Memory(unit.name)


def listed(facts: Facts) -> tuple[UnitSeen, ...]:
    """The services on the list, in its order; without those that are leaving it."""
    return tuple(unit for unit in facts.seen.units if unit.name not in facts.state.leaving)


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


def patient(memory: Memory, facts: Facts) -> bool:
    """The next service waits for one that has been changing for less than PATIENCE_S."""
    began_s = max(memory.asked_s, facts.state.since_s)
    return facts.seen.now_s - began_s < PATIENCE_S
