"""The guard's decision keeps every promise, whatever it remembers and whatever it sees.

Every phase, pair of unit states, memory, age of the contact and of the lease is tried; each promise
is one named statement.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from failover_monitor.decision import decide
from failover_monitor.guard import TABLE
from failover_monitor.model import (
    AT_REST,
    INF,
    GuardPolicy,
    LeasePolicy,
    Memory,
    Observation,
    PairState,
    Phase,
    Policy,
    Role,
    Unit,
    UnitSeen,
    Verb,
    Verdict,
)
from failover_monitor.services import next_due_s
from tests.turns import EVERY, NOW_S, SHARED, A, B, Turn, asked, in_phase, judged, look, some
from tests.world import policy_of

HOLD_S = 30.0
GUARD = GuardPolicy(boot_hold_s=HOLD_S)
LEASE = LeasePolicy(engine="etcd", endpoints=("http://198.51.100.11:2379",), name="p", holder="a")
PHASES = tuple(dict.fromkeys(row.source for row in TABLE))
MEMORIES = (
    Memory(A),
    Memory(A, asked=Verb.START, asked_s=NOW_S - 1),
    Memory(A, asked=Verb.START, asked_s=NOW_S - 20, tries=2, retry_s=NOW_S + 1),
    Memory(A, asked=Verb.STOP, asked_s=NOW_S - 0.3),
    Memory(A, asked=Verb.KILL, asked_s=NOW_S - 0.1),
    Memory(A, asked=Verb.KILL, asked_s=NOW_S - 0.6),
)
MAY_RUN = (Phase.OPENING, Phase.SERVING)


def guarded(**settings: object) -> Policy:
    settings = {"role": Role.PRIMARY, "guard": GUARD, "services": (A, B)} | settings
    return policy_of(**settings)


POLICIES = (guarded(), guarded(lease=LEASE), guarded(guard=None, lease=LEASE))


def observations() -> Iterator[Observation]:
    """Proof that holds since, and until: also what cannot be, such as a proof that is too old."""
    proofs = ((None, -INF), (None, NOW_S - 5), (None, NOW_S), (None, NOW_S + 3))
    proofs += ((1.0, NOW_S + 5), (HOLD_S, NOW_S + 5), (HOLD_S, NOW_S))  # type: ignore[assignment]
    for a, b, (proven_for_s, until_s), stopping in product(Unit, Unit, proofs, (False, True)):
        yield Observation(
            now_s=NOW_S,
            verdict=Verdict.UNKNOWN if proven_for_s is None else Verdict.UP,
            answering_since_s=None if proven_for_s is None else NOW_S - proven_for_s,
            units=(UnitSeen(A, a, NOW_S - 5), UnitSeen(B, b, NOW_S - 5)),
            host_stopping=stopping,
            serve_until_s=until_s,
        )


def states() -> Iterator[PairState]:
    for phase, memory, (age_s, late_s) in product(
        PHASES, MEMORIES, ((1.0, 0.0), (1.0, 3.0), (4.0, 0.0), (9.0, 0.5))
    ):
        if (memory.asked is Verb.KILL or late_s) and phase is not Phase.CLOSING:
            continue  # a new phase forgets it
        yield PairState(
            phase=phase,
            since_s=NOW_S - age_s,
            ending_s=NOW_S - age_s - late_s if phase is Phase.CLOSING else 0.0,
            settled=True,
            services=(memory, Memory(B)),
        )


def turns() -> Iterator[Turn]:
    seen_all = tuple(observations())
    for policy, state, seen in some(product(POLICIES, states(), seen_all)):
        yield Turn.of(policy, state, seen)


# The promises, each a statement about one turn.


def opens_through_the_gate_alone(turn: Turn) -> bool:
    """Proof has held for long enough, holds now, and this host stays up."""
    if not turn.entered(Phase.OPENING):
        return True
    since_s = turn.seen.answering_since_s
    hold_s = 0.0 if turn.policy.lease else HOLD_S
    proven = since_s is not None and NOW_S - since_s >= hold_s
    return proven and not turn.time_over and not turn.seen.host_stopping


def starts_while_opening_alone(turn: Turn) -> bool:
    return not turn.asked(Verb.START) or turn.phase is Phase.OPENING


def closes_at_once(turn: Turn) -> bool:
    """When the proof is too old: in this very turn, whatever else holds."""
    return turn.state.phase not in MAY_RUN or not turn.time_over or turn.phase is Phase.CLOSING


def closes_for_no_other_reason(turn: Turn) -> bool:
    """A guard whose proof holds never stops a service that may run."""
    return not turn.entered(Phase.CLOSING) or turn.time_over


def closes_to_the_end(turn: Turn) -> bool:
    """Contact that returns changes nothing: what was asked to stop would be half gone."""
    if turn.state.phase is not Phase.CLOSING:
        return True
    return turn.phase is (Phase.CLOSING if turn.unrested else Phase.GATED)


def holds_back_at_the_gate(turn: Turn) -> bool:
    """What somebody starts before the gate is open is stopped, in order or not."""
    if turn.phase is not Phase.GATED:
        return True
    asked_before = {m.name for m in turn.decision.state.services if m.asked}
    return turn.unrested <= asked_before


def leaves_alone_what_may_run(turn: Turn) -> bool:
    """A unit's own restarts and an operator's stops are theirs."""
    return turn.phase is not Phase.SERVING or turn.decision.effects == ()


def leaves_alone_what_ran_before_it(turn: Turn) -> bool:
    """A guard that is new on a running primary changes nothing, once proven; before, it waits.

    A start that is merely queued, as at boot, is none that ran: the gate is for it.
    """
    if turn.state.phase is not Phase.UNKNOWN or turn.time_over or not turn.unrested:
        return True
    runs = any(unit.state is Unit.RUNNING for unit in turn.seen.units)
    proven = runs and turn.seen.answering_since_s is not None
    expected = Phase.SERVING if proven else Phase.UNKNOWN
    return turn.phase is expected and turn.decision.effects == ()


def serves_nothing_unproven_for_ever(turn: Turn) -> bool:
    """What ran before the guard came is stopped when no proof arrives in time."""
    over = turn.state.phase is Phase.UNKNOWN and turn.time_over
    if not over or turn.seen.answering_since_s is not None:  # SERVING ends in the next turn then
        return True
    return turn.phase is (Phase.CLOSING if turn.unrested else Phase.GATED)


def kills_only_while_closing(turn: Turn) -> bool:
    return not turn.asked(Verb.KILL) or turn.phase is Phase.CLOSING


PROMISES = (
    *SHARED,
    opens_through_the_gate_alone,
    starts_while_opening_alone,
    closes_at_once,
    closes_for_no_other_reason,
    closes_to_the_end,
    holds_back_at_the_gate,
    leaves_alone_what_may_run,
    leaves_alone_what_ran_before_it,
    serves_nothing_unproven_for_ever,
    kills_only_while_closing,
)


def test_every_decision_of_the_guard_keeps_every_promise() -> None:
    """Exhaustively; and on the way every row fires, every phase is left and reached."""
    found = judged(turns(), PROMISES)
    assert found.broken == {}
    assert found.tried > 50_000 // EVERY
    rows = {(row.source, row.target, row.because) for row in TABLE}
    assert {(t.source, t.target, t.because) for t in found.fired} == rows
    assert {t.source for t in found.fired} == set(PHASES)
    assert {t.target for t in found.fired} == set(PHASES) - {Phase.UNKNOWN}


def test_a_decision_of_the_guard_settles_at_once() -> None:
    """Deciding again on the same world changes the phase a few times at most, and ends."""
    seen_all = tuple(observations())
    for policy, first, seen in some(product(POLICIES, states(), seen_all)):
        state = first
        for _ in range(6):
            decision = decide(state, seen, policy)
            state = decision.state
            if decision.transition is None and decision.effects == ():
                break
        else:
            pytest.fail(f"never at rest: {first} {seen}")


# Single stories.


def proven(words: str, now_s: float, since_s: float, **options: object) -> Observation:
    """The contact holds since then, and for five seconds from now."""
    return look(
        f"up {words}", now_s, 0.0, answering_since_s=since_s, serve_until_s=now_s + 5, **options
    )


@pytest.mark.parametrize(("held_s", "opens"), [(HOLD_S - 0.1, False), (HOLD_S, True)])
def test_the_gate_opens_after_its_hold(held_s: float, opens: bool) -> None:
    """To the moment; then the services start in their order."""
    decision = decide(
        in_phase(Phase.GATED), proven("stopped stopped", 100.0, 100.0 - held_s), guarded()
    )
    assert asked(decision) == ([f"start {A}"] if opens else [])


def test_the_gate_of_a_leaseholder_opens_at_once() -> None:
    """The lease is held by nobody else: there is nobody to wait for."""
    seen = proven("stopped stopped", 100.0, 100.0)
    assert asked(decide(in_phase(Phase.GATED), seen, guarded(lease=LEASE))) == [f"start {A}"]


def test_what_is_left_when_the_time_is_nearly_over_is_killed() -> None:
    """Counted from the end of the proof, not from the turn that was late to see it."""
    policy = guarded()
    late = look("down running running", 101.0, 0.0, serve_until_s=100.0)
    closing = decide(in_phase(Phase.SERVING), late, policy)
    assert asked(closing) == [f"stop {B}", f"stop {A}"]
    assert next_due_s(closing.state, late, policy) == 104.0
    stopping = replace(late, now_s=103.9, units=look("down stopping stopped", 0.0, 101.0).units)
    assert asked(decide(closing.state, stopping, policy)) == []
    assert next_due_s(closing.state, stopping, policy) == 104.0
    killed = decide(closing.state, replace(stopping, now_s=104.0), policy)
    assert asked(killed) == [f"kill {A}"]
    gone = look("down failed stopped", 104.1, 104.1, serve_until_s=100.0)
    assert decide(killed.state, gone, policy).state.phase is Phase.GATED


def test_a_turn_that_comes_very_late_kills_at_once() -> None:
    """The process was frozen for the whole stop limit: there is no time left to ask politely."""
    late = look("down running stopping", 110.0, 0.0, serve_until_s=100.0)
    closing = decide(in_phase(Phase.SERVING), late, guarded())
    assert asked(closing) == [f"kill {B}", f"kill {A}"]


def test_contact_that_returns_while_closing_opens_the_gate_anew() -> None:
    """All stop first; then the hold begins, as at boot."""
    policy = guarded()
    stopping = Memory(A, asked=Verb.STOP, asked_s=99.0)
    state = in_phase(Phase.CLOSING, stopping, since_s=99.0, ending_s=99.0)
    back = decide(state, proven("stopping stopped", 100.0, 99.5), policy)
    assert (back.state.phase, back.effects) == (Phase.CLOSING, ())
    gone = decide(back.state, proven("stopped stopped", 101.0, 99.5), policy)
    assert gone.state.phase is Phase.GATED
    assert decide(gone.state, proven("stopped stopped", 129.4, 99.5), policy).effects == ()
    assert asked(decide(gone.state, proven("stopped stopped", 129.5, 99.5), policy))


def test_what_left_the_list_is_forgotten_at_the_gate() -> None:
    """It has stopped: it is nobody's concern any more."""
    policy = guarded(services=(B,))
    state = in_phase(Phase.CLOSING, Memory(B), Memory(A), leaving=(A,), ending_s=99.0)
    stopped = (UnitSeen(B, Unit.STOPPED), UnitSeen(A, Unit.STOPPED))
    seen = replace(look("down", 100.0, 0.0, serve_until_s=99.0), units=stopped)
    gated = decide(state, seen, policy)
    assert (gated.state.phase, gated.state.leaving) == (Phase.GATED, ())


@pytest.mark.parametrize("unit", [u for u in Unit if u not in AT_REST])
def test_the_guard_stops_what_was_started_before_the_gate(unit: Unit) -> None:
    """Even what it cannot look at."""
    decision = decide(in_phase(Phase.GATED), look(f"unknown {unit}", 50.0, 0.0), guarded())
    assert asked(decision) == [f"stop {A}"]


def test_a_service_that_dies_while_the_guard_serves_is_left_to_systemd() -> None:
    """The guard says where services may run; keeping them running is their unit's business."""
    seen = proven("failed running", 100.0, 0.0)
    decision = decide(in_phase(Phase.SERVING), seen, guarded())
    assert (decision.state.phase, decision.effects) == (Phase.SERVING, ())
