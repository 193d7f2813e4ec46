"""The decision: given what we remember and what we just saw, what now?

Rule: pure.  One engine for both roles; what differs between them is a table.

How a turn is decided
---------------------
1. `remember` folds what the services look like into the memory of what we asked of them.
2. The first row of the role's TABLE whose source is the current phase, and whose condition holds,
   moves the pair to its target.  No row: the phase stays.
3. WANTED says how the services should look in that phase; `starts` and `stops` ask for what is
   missing.  Asking is no book-keeping: the next look shows what came of it.

While an operator has paused it only the rows of GO_ON are left, and nothing is asked: what must be
stopped in time, because somebody counts on it, is stopped all the same.
"""

from dataclasses import replace

from failover_monitor import guard, machine
from failover_monitor.model import (
    ARMED,
    BY_HAND,
    ENDING,
    INF,
    SERVING,
    Decision,
    Fencing,
    Memory,
    Observation,
    PairState,
    Phase,
    Policy,
    Role,
    Transition,
    Unit,
    Verb,
    Verdict,
)
from failover_monitor.services import noted, remember, starts, stops
from failover_monitor.table import (
    WANTED,
    Facts,
    all_at_rest,
    next_transition,
    stops_wait,
    time_over,
)

TABLES = {Role.STANDBY: machine.TABLE, Role.PRIMARY: guard.TABLE}
GO_ON = (time_over, all_at_rest, machine.paused)  # conditions that hold during a pause, too
PAUSED = {role: tuple(r for r in table if r.when in GO_ON) for role, table in TABLES.items()}
TAKEOVERS_KEPT = 100


def decide(state: PairState, seen: Observation, policy: Policy) -> Decision:
    """Answer one observation.  Pure: same arguments, same answer."""
    state = remember(state, seen, policy)
    if state.flapping and seen.acknowledged:
        state = replace(state, flapping=False, takeovers=())
    state = fenced(state, seen)
    tables = PAUSED if seen.paused else TABLES
    transition = next_transition(tables[policy.role], Facts(state, seen, policy))
    if transition:
        state = enter(state, transition, seen, policy)
    down = seen.verdict is Verdict.DOWN and not seen.paused
    if state.by_hand and state.phase in SERVING and down:
        state = replace(state, by_hand="")  # from now on it is a takeover like any other
    given_up = transition is not None and transition.source is Phase.CLAIM
    if not state.settled and not given_up and settled(state, seen):
        state = replace(state, settled=True)
    facts = Facts(state, seen, policy)
    match WANTED.get(state.phase):
        case Verb.START if not (seen.host_stopping or seen.listening or seen.paused):
            effects = tuple(starts(facts))
        case Verb.STOP if not (stops_wait(facts) or (seen.paused and not policy.enforced)):
            effects = tuple(stops(facts))
        case _:
            effects = ()
    return Decision(state=noted(state, effects, seen.now_s), transition=transition, effects=effects)


def enter(state: PairState, transition: Transition, seen: Observation, policy: Policy) -> PairState:
    """What we remember when a phase begins: nothing of what the last one asked."""
    target = transition.target
    by_hand = of_an_operator(state, transition, seen)
    state = replace(state, phase=target, since_s=seen.now_s, by_hand=by_hand)
    if target in ENDING:
        state = replace(state, ending_s=ending_s(transition.source, seen))
    if target in SERVING and transition.source in SERVING:
        return state
    if target in (Phase.STANDBY, Phase.UNKNOWN, Phase.GATED):
        state = replace(state, leaving=())
    if target is Phase.TAKEOVER:
        state = counted(state, seen.now_s, policy)
    return replace(state, services=tuple(Memory(memory.name) for memory in state.services))


def of_an_operator(state: PairState, transition: Transition, seen: Observation) -> str:
    """Whose takeover this is, from the wish until it is given back or given up."""
    if transition.target not in (Phase.CLAIM, *SERVING):
        return ""
    asked = transition.because == BY_HAND and seen.takeover_asked
    return asked or state.by_hand


def ending_s(source: Phase, seen: Observation) -> float:
    """When this stop should have begun: the limit counts from the end of the proof."""
    proven = source in ARMED or source is Phase.UNKNOWN
    late = proven and -INF < seen.serve_until_s < seen.now_s
    return seen.serve_until_s if late else seen.now_s


def counted(state: PairState, now_s: float, policy: Policy) -> PairState:
    """One more takeover: too many of them in one window, and an operator must look."""
    takeovers = (*state.takeovers, now_s)[-TAKEOVERS_KEPT:]
    close = [at_s for at_s in takeovers if at_s > now_s - policy.flap_window_s]
    return replace(state, takeovers=takeovers, flapping=len(close) >= policy.max_takeovers)


def fenced(state: PairState, seen: Observation) -> PairState:
    """A primary that was switched off is off until it answers where nobody stands in for it.

    Or until an operator paused us there: who works on it may have switched it on.
    """
    done = seen.fence.state is Fencing.DONE
    left = state.phase not in (Phase.CLAIM, *SERVING)
    on = left and (seen.verdict is Verdict.UP or seen.paused != "")
    now = done or (state.fenced and not on)
    return state if now is state.fenced else replace(state, fenced=now)


def fence_due(state: PairState, seen: Observation, policy: Policy) -> bool:
    """Whether the primary should be switched off now.

    To stand in for a silent primary goes on calling for a fence that has failed.
    """
    if state.fenced or seen.host_stopping or seen.paused or seen.listening:
        return False
    if state.phase is Phase.FAILBACK:  # it went away again while we stop
        return machine.primary_gone(Facts(state, seen, policy))
    stands_in = state.phase in SERVING and seen.verdict is Verdict.DOWN
    return state.phase is Phase.CLAIM or stands_in


def hook_due(state: PairState, seen: Observation, policy: Policy) -> bool:
    """Whether the hook before a takeover should run now; it is all that is still missing."""
    facts = Facts(state, seen, policy)
    waits = state.phase in (Phase.CLAIM, Phase.FAILBACK) and not seen.paused
    return waits and machine.hook_next(facts)


def settled(state: PairState, seen: Observation) -> bool:
    """What ran here at boot has been dealt with: from now on a start is somebody's own doing."""
    waits = state.phase is Phase.STANDBY and seen.verdict is not Verdict.UP
    if seen.paused or waits or state.phase in (Phase.UNKNOWN, Phase.CLAIM):
        return False
    return all(unit.state is not Unit.UNKNOWN for unit in seen.units)


def adopt(state: PairState, policy: Policy) -> PairState:
    """Go on under a new list: what left it while it ran here stays ours to stop."""
    names = (memory.name for memory in state.services)
    ours = state.phase in WANTED
    leaving = tuple(name for name in names if ours and name not in policy.services)
    return replace(state, leaving=leaving)
