"""The decision keeps every promise, whatever it remembers and whatever it sees.

Every phase, verdict, pair of unit states and memory is tried; each promise is one named statement.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import pytest

from failover_monitor.machine import (
    AT_REST,
    RETRY_S,
    STEADY_S,
    TABLE,
    WANTED,
    adopt,
    decide,
    next_due_s,
)
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
from tests.world import policy_of

A, B = "a.service", "b.service"
NOW_S = 1000.0
DELAY_S = 30.0
MEMORIES = (
    Memory(A),
    Memory(A, asked=Verb.START, asked_s=NOW_S - 1),
    Memory(A, asked=Verb.START, asked_s=NOW_S - 20, tries=2, retry_s=NOW_S + 1),
    Memory(A, asked=Verb.START, asked_s=NOW_S - 20, tries=2, retry_s=NOW_S - 1),
    Memory(A, asked=Verb.START, asked_s=NOW_S - 90, finished=True),
    Memory(A, asked=Verb.STOP, asked_s=NOW_S - 1),
    Memory(A, asked=Verb.STOP, asked_s=NOW_S - 20, tries=1, retry_s=NOW_S - 1),
)


@dataclass(frozen=True)
class Turn:
    """One thing that was decided, and on what."""

    policy: Policy
    state: PairState
    seen: Observation
    decision: Decision

    def unit(self, name: str) -> UnitSeen:
        return next(unit for unit in self.seen.units if unit.name == name)


def policies() -> Iterator[Policy]:
    for failback, foreign, delay_s in (
        (Failback.AUTO, Foreign.REPORT, 0.0),
        (Failback.AUTO, Foreign.STOP, DELAY_S),
        (Failback.DELAYED, Foreign.REPORT, DELAY_S),
        (Failback.MANUAL, Foreign.STOP, 0.0),
    ):
        yield policy_of(
            services=(A, B),
            failback=failback,
            foreign_start=foreign,
            takeover_delay_s=delay_s,
            recovery_delay_s=60.0,
        )


def observations() -> Iterator[Observation]:
    for verdict, a, b, stopping in product(Verdict, Unit, Unit, (False, True)):
        for verdict_age_s, answering_s, asked in ((DELAY_S, 61.0, False), (1.0, 1.0, True)):
            yield Observation(
                now_s=NOW_S,
                verdict=verdict,
                verdict_since_s=NOW_S - verdict_age_s,
                answering_since_s=NOW_S - answering_s if verdict is Verdict.UP else None,
                units=(UnitSeen(A, a, NOW_S - 5), UnitSeen(B, b, NOW_S - 5)),
                host_stopping=stopping,
                failback_asked=asked,
            )


def states() -> Iterator[PairState]:
    for phase, memory, settled in product(Phase, MEMORIES, (False, True)):
        if memory.finished and phase not in SERVING:
            continue  # a new phase forgets it, see below
        services = (memory, Memory(B))
        yield PairState(phase=phase, since_s=NOW_S - 5, settled=settled, services=services)


def turns() -> Iterator[Turn]:
    """Everything with everything: more than a hundred thousand decisions."""
    seen_all, states_all = tuple(observations()), tuple(states())
    for policy in policies():
        for state, seen in product(states_all, seen_all):
            yield Turn(policy, state, seen, decide(state, seen, policy))


# The promises, each a statement about one turn.


def starts_only_to_stand_in(turn: Turn) -> bool:
    """A start needs a takeover, and no takeover begins without the verdict."""
    starting = any(effect.verb is Verb.START for effect in turn.decision.effects)
    return not starting or turn.decision.state.phase in SERVING


def takes_over_on_the_verdict_alone(turn: Turn) -> bool:
    """And only when the delay is over, and not while the host goes down."""
    if turn.decision.state.phase not in SERVING or turn.state.phase in SERVING:
        return True
    waited_s = turn.seen.now_s - turn.seen.verdict_since_s
    down = turn.seen.verdict is Verdict.DOWN
    return down and waited_s >= turn.policy.takeover_delay_s and not turn.seen.host_stopping


def asks_at_most_one_thing(turn: Turn) -> bool:
    return len(turn.decision.effects) <= 1


def leaves_the_unknown_alone(turn: Turn) -> bool:
    return all(turn.unit(e.service).state is not Unit.UNKNOWN for e in turn.decision.effects)


def starts_only_what_rests(turn: Turn) -> bool:
    starts = (e for e in turn.decision.effects if e.verb is Verb.START)
    return all(turn.unit(effect.service).state in AT_REST for effect in starts)


def stops_only_what_runs(turn: Turn) -> bool:
    stops = (e for e in turn.decision.effects if e.verb is Verb.STOP)
    return all(turn.unit(effect.service).state in RUNS for effect in stops)


def stops_only_in_failback(turn: Turn) -> bool:
    stopping = any(effect.verb is Verb.STOP for effect in turn.decision.effects)
    return not stopping or turn.decision.state.phase is Phase.FAILBACK


def starts_nothing_on_a_host_that_stops(turn: Turn) -> bool:
    return not turn.seen.host_stopping or all(
        effect.verb is Verb.STOP for effect in turn.decision.effects
    )


def gives_back_to_a_living_primary_alone(turn: Turn) -> bool:
    """Nothing that we serve is stopped unless the primary answers."""
    entered = turn.decision.state.phase is Phase.FAILBACK is not turn.state.phase
    return not entered or turn.seen.verdict is Verdict.UP


def gives_back_when_the_policy_says(turn: Turn) -> bool:
    left = turn.state.phase in SERVING and turn.decision.state.phase is Phase.FAILBACK
    if not left or turn.policy.failback is Failback.AUTO or turn.seen.failback_asked:
        return True
    since_s = turn.seen.answering_since_s
    long_enough = since_s is not None and NOW_S - since_s >= turn.policy.recovery_delay_s
    return turn.policy.failback is Failback.DELAYED and long_enough


def serves_on_while_isolated(turn: Turn) -> bool:
    """Not knowing ends no takeover."""
    isolated = turn.seen.verdict is Verdict.UNKNOWN
    return not (isolated and turn.state.phase in SERVING) or turn.decision.state.phase in SERVING


def begins_nothing_while_isolated(turn: Turn) -> bool:
    isolated = turn.seen.verdict is Verdict.UNKNOWN and turn.state.phase not in WANTED
    return not isolated or turn.decision.effects == ()


def moves_along_a_row(turn: Turn) -> bool:
    transition = turn.decision.transition
    if transition is None:
        return turn.decision.state.phase is turn.state.phase
    return transition.target is turn.decision.state.phase and any(
        (row.source, row.target, row.because)
        == (transition.source, transition.target, transition.because)
        for row in TABLE
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
    if [(e.verb, e.service) for e in turn.decision.effects] != [(Verb.START, B)]:
        return True
    memory = next(m for m in turn.decision.state.services if m.name == A)
    state = turn.unit(A).state
    if state is Unit.RUNNING or memory.finished:
        return True
    return memory.retry_s > NOW_S if state in AT_REST else memory.asked_s <= NOW_S - PATIENCE_S


def stops_in_reverse_order(turn: Turn) -> bool:
    if [(e.verb, e.service) for e in turn.decision.effects] != [(Verb.STOP, A)]:
        return True
    return turn.unit(B).state in AT_REST


def is_active_only_when_all_run(turn: Turn) -> bool:
    became = turn.decision.state.phase is Phase.ACTIVE is not turn.state.phase
    memories = {m.name: m for m in turn.decision.state.services}
    return not became or all(
        unit.state is Unit.RUNNING or memories[unit.name].finished for unit in turn.seen.units
    )


def calls_stopped_only_what_is(turn: Turn) -> bool:
    left = turn.state.phase is Phase.FAILBACK and turn.decision.state.phase is Phase.STANDBY
    return not left or all(unit.state in AT_REST for unit in turn.seen.units)


def blames_no_service_it_could_not_see(turn: Turn) -> bool:
    """Active ends because a service is seen not to run, not because systemd is silent."""
    left = turn.state.phase is Phase.ACTIVE and turn.decision.state.phase is Phase.TAKEOVER
    memories = {m.name: m for m in turn.decision.state.services}
    return not left or any(
        unit.state not in (Unit.RUNNING, Unit.UNKNOWN) and not memories[unit.name].finished
        for unit in turn.seen.units
    )


def remembers_what_it_asked(turn: Turn) -> bool:
    asked = {m.name: (m.asked, m.asked_s) for m in turn.decision.state.services}
    return all(asked[e.service] == (e.verb, NOW_S) for e in turn.decision.effects)


PROMISES = (
    starts_only_to_stand_in,
    takes_over_on_the_verdict_alone,
    asks_at_most_one_thing,
    leaves_the_unknown_alone,
    starts_only_what_rests,
    stops_only_what_runs,
    stops_only_in_failback,
    starts_nothing_on_a_host_that_stops,
    gives_back_to_a_living_primary_alone,
    gives_back_when_the_policy_says,
    serves_on_while_isolated,
    begins_nothing_while_isolated,
    moves_along_a_row,
    waits_before_it_asks_again,
    starts_in_order,
    stops_in_reverse_order,
    is_active_only_when_all_run,
    calls_stopped_only_what_is,
    blames_no_service_it_could_not_see,
    remembers_what_it_asked,
)


def test_every_decision_keeps_every_promise() -> None:
    """Exhaustively; and on the way every row fires, every phase is left and reached."""
    fired: set[Transition] = set()
    broken: dict[str, Turn] = {}
    tried = 0
    for turn in turns():
        tried += 1
        if turn.decision.transition:
            fired.add(turn.decision.transition)
        for promise in PROMISES:
            if not promise(turn):
                broken.setdefault(promise.__name__, turn)
    assert broken == {}
    assert tried > 100_000
    rows = {(row.source, row.target, row.because) for row in TABLE}
    assert {(t.source, t.target, t.because) for t in fired} == rows
    assert {t.source for t in fired} == {t.target for t in fired} == set(Phase)


def test_a_decision_settles_at_once() -> None:
    """Deciding again on the same world changes the phase a few times at most, and ends."""
    policies_all, seen_all = tuple(policies()), tuple(observations())
    for state in states():
        for seen in seen_all:
            current = state
            for _ in range(5):
                decision = decide(current, seen, policies_all[1])
                current = decision.state
                if decision.transition is None and decision.effects == ():
                    break
            else:
                pytest.fail(f"never at rest: {state} {seen}")


def test_deciding_is_pure() -> None:
    """The same arguments, the same answer; nothing is kept in between."""
    seen = next(observations())
    for state in states():
        first, again = (decide(state, seen, policy_of(services=(A, B))) for _ in range(2))
        assert first == again


# Single stories.


def look(phase_units: str, now_s: float, since_s: float, **options: object) -> Observation:
    """`"down running stopped"`: the verdict, then a and b."""
    verdict, *units = phase_units.split()
    names = (A, B)
    seen = tuple(UnitSeen(names[i], Unit(unit), since_s) for i, unit in enumerate(units))
    observation = Observation(now_s=now_s, verdict=Verdict(verdict), units=seen)
    return replace(observation, **options)  # type: ignore[arg-type]


def in_phase(phase: Phase, *memories: Memory, **options: object) -> PairState:
    state = PairState(phase=phase, settled=True, services=memories)
    return replace(state, **options)  # type: ignore[arg-type]


def asked(decision: Decision) -> list[str]:
    return [f"{effect.verb} {effect.service}" for effect in decision.effects]


def test_a_start_that_fails_is_tried_again_after_1_2_5_10_20_30_30_seconds() -> None:
    """The wait counts from the failure as it was seen; each try forgets the failure first."""
    policy, now_s, waits = policy_of(services=(A,)), 0.0, []
    decision = decide(in_phase(Phase.TAKEOVER), look("down stopped", now_s, 0.0), policy)
    assert decision.effects == (Effect(Verb.START, A),)
    for _ in range(8):
        failed_s = now_s = now_s + 0.3
        decision = decide(decision.state, look("down failed", now_s, now_s), policy)
        assert decision.effects == ()
        due_s = decision.state.services[0].retry_s
        assert next_due_s(decision.state, now_s) <= due_s
        early = decide(decision.state, look("down failed", due_s - 0.01, now_s), policy)
        assert early.effects == ()
        now_s = due_s
        decision = decide(early.state, look("down failed", now_s, failed_s), policy)
        assert decision.effects == (Effect(Verb.START, A, reset_failed=True),)
        waits.append(round(now_s - failed_s, 6))
    assert waits == [1, 2, 5, 10, 20, 30, 30, 30]
    assert RETRY_S == (1, 2, 5, 10, 20, 30)


def test_a_stopped_unit_is_reset_before_a_second_try_only() -> None:
    """The start limit may hold a unit that is `stopped` and not `failed`."""
    policy = policy_of(services=(A,))
    first = decide(in_phase(Phase.TAKEOVER), look("down stopped", 0.0, 0.0), policy)
    assert not first.effects[0].reset_failed
    waiting = decide(first.state, look("down stopped", 0.1, 0.1), policy)
    again = decide(waiting.state, look("down stopped", 1.1, 0.1), policy)
    assert again.effects[0].reset_failed


def test_a_service_that_ran_long_enough_has_earned_a_quick_restart() -> None:
    """And one that keeps dying has not."""
    policy = policy_of(services=(A,))
    tired = Memory(A, asked=Verb.START, asked_s=0.0, tries=4)
    for ran_s, wait_s in ((STEADY_S - 0.1, RETRY_S[4]), (STEADY_S, RETRY_S[0])):
        state = in_phase(Phase.ACTIVE, tired)
        ran = decide(state, look("down running", 5.0 + ran_s, 5.0), policy)
        died = decide(ran.state, look("down failed", 5.1 + ran_s, 5.1 + ran_s), policy)
        assert died.transition
        assert next_due_s(died.state, 5.1 + ran_s) == pytest.approx(5.1 + ran_s + wait_s)
    since_unknown = decide(in_phase(Phase.ACTIVE, tired), look("down running", 59.9, 0.0), policy)
    assert since_unknown.state.services[0].tries == 4


def test_the_next_service_is_asked_after_patience() -> None:
    """One that hangs in its start holds the others for ten seconds, and no longer."""
    policy = policy_of(services=(A, B))
    first = decide(in_phase(Phase.TAKEOVER), look("down stopped stopped", 0.0, 0.0), policy)
    assert asked(first) == [f"start {A}"]
    for now_s, expected in ((PATIENCE_S - 0.1, []), (PATIENCE_S, [f"start {B}"])):
        turn = decide(first.state, look("down starting stopped", now_s, 0.0), policy)
        assert asked(turn) == expected


def test_patience_counts_from_the_phase_for_what_we_never_asked() -> None:
    """A unit that was already starting when the takeover began gets its ten seconds."""
    policy = policy_of(services=(A, B))
    state = in_phase(Phase.TAKEOVER, since_s=100.0)
    assert not asked(decide(state, look("down starting stopped", 109.9, 50.0), policy))
    assert asked(decide(state, look("down starting stopped", 110.0, 50.0), policy))


@pytest.mark.parametrize("answered_s", [59.9, 60.0])
def test_a_delayed_failback_waits_for_its_delay(answered_s: float) -> None:
    """As long as the primary answers without a gap, to the moment."""
    policy = policy_of(services=(A,), failback=Failback.DELAYED, recovery_delay_s=60.0)
    seen = look("up running", 500.0, 400.0, answering_since_s=500.0 - answered_s)
    decision = decide(in_phase(Phase.ACTIVE), seen, policy)
    assert (decision.state.phase is Phase.FAILBACK) is (answered_s >= 60.0)
    unseen = look("up running", 500.0, 400.0)
    assert decide(in_phase(Phase.ACTIVE), unseen, policy).state.phase is Phase.ACTIVE


def test_a_failed_service_holds_nobody() -> None:
    """While one waits for its next try, the others start."""
    policy = policy_of(services=(A, B))
    failed = Memory(A, asked=Verb.START, asked_s=0.0, tries=1, retry_s=50.0)
    state = in_phase(Phase.TAKEOVER, failed, Memory(B))
    assert asked(decide(state, look("down failed stopped", 10.0, 1.0), policy)) == [f"start {B}"]


def test_a_stop_that_hangs_holds_the_next_for_its_patience() -> None:
    """And a unit that we cannot look at is waited for just as long."""
    policy = policy_of(services=(A, B))
    for state_of_b in ("stopping", "unknown"):
        state = in_phase(Phase.FAILBACK, Memory(A), Memory(B, asked=Verb.STOP, asked_s=3.0))
        words = f"up running {state_of_b}"
        assert asked(decide(state, look(words, 12.9, 3.0), policy)) == []
        assert asked(decide(state, look(words, 13.0, 3.0), policy)) == [f"stop {A}"]


def test_a_stop_that_failed_is_asked_again() -> None:
    """The unit still runs although it was asked to stop: after a second, then two."""
    policy, now_s = policy_of(services=(A,)), 0.0
    decision = decide(in_phase(Phase.FAILBACK), look("up running", now_s, 0.0), policy)
    for wait_s in (1.0, 2.0, 5.0):
        decision = decide(decision.state, look("up running", now_s + 0.1, 0.0), policy)
        assert decision.effects == ()
        now_s += 0.1 + wait_s
        decision = decide(decision.state, look("up running", now_s, 0.0), policy)
        assert decision.effects == (Effect(Verb.STOP, A),)


def test_a_oneshot_that_ended_well_counts_as_running() -> None:
    """If it ended after we started it; one that had ended before is started."""
    policy = policy_of(services=(A,))
    before = decide(in_phase(Phase.TAKEOVER), look("down finished", 10.0, 5.0), policy)
    assert asked(before) == [f"start {A}"]
    after = decide(before.state, look("down finished", 10.2, 10.0), policy)
    assert after.state.phase is Phase.ACTIVE
    assert after.effects == ()
    stays = decide(after.state, look("down stopped", 500.0, 400.0), policy)
    assert stays.state.phase is Phase.ACTIVE
    over = decide(stays.state, look("up finished", 501.0, 10.1), policy)
    assert over.transition
    assert over.state.services == (Memory(A),)


def test_a_oneshot_that_ends_well_forgets_its_failures() -> None:
    """Its retry would otherwise wake the monitor for nothing."""
    policy = policy_of(services=(A,))
    failed = Memory(A, asked=Verb.START, asked_s=10.0, tries=3, retry_s=99.0)
    decision = decide(in_phase(Phase.TAKEOVER, failed), look("down finished", 12.0, 11.0), policy)
    assert decision.state.services == (Memory(A, Verb.START, 10.0, finished=True),)


def test_a_new_phase_forgets_what_the_last_one_asked() -> None:
    """But takeover and active are one: a service that died keeps its back-off."""
    policy = policy_of(services=(A,))
    tired = Memory(A, asked=Verb.START, asked_s=0.0, tries=3)
    back = decide(in_phase(Phase.ACTIVE, tired), look("up stopped", 500.0, 400.0), policy)
    assert back.state.services == (Memory(A),)
    dead = decide(in_phase(Phase.ACTIVE, tired), look("down failed", 500.0, 500.0), policy)
    assert dead.state.phase is Phase.TAKEOVER
    assert dead.state.services[0].tries == 4


def test_the_state_is_dated() -> None:
    """`since_s` is the moment of the transition."""
    decision = decide(in_phase(Phase.STANDBY), look("down stopped", 42.0, 0.0), policy_of())
    assert decision.state.since_s == 42.0


# Settled: what ran here at boot.


def test_what_runs_at_boot_is_stopped_once() -> None:
    """Later starts are somebody's own doing, and reported only."""
    policy = policy_of(services=(A,))
    unsettled = PairState()
    first = decide(unsettled, look("up running", 5.0, 1.0), policy)
    assert (first.state.phase, asked(first)) == (Phase.FAILBACK, [f"stop {A}"])
    assert first.state.settled
    done = decide(first.state, look("up stopped", 6.0, 6.0), policy)
    assert done.state.phase is Phase.STANDBY
    later = decide(done.state, look("up running", 60.0, 60.0), policy)
    assert (later.state.phase, asked(later)) == (Phase.STANDBY, [])


def test_nothing_is_settled_while_a_service_is_unseen() -> None:
    """The first look at it may come after the first verdict."""
    policy = policy_of(services=(A, B))
    first = decide(PairState(), look("up unknown stopped", 5.0, 0.0), policy)
    assert (first.state.phase, first.state.settled) == (Phase.STANDBY, False)
    seen = decide(first.state, look("up running stopped", 6.0, 1.0), policy)
    assert (seen.state.phase, asked(seen)) == (Phase.FAILBACK, [f"stop {A}"])


def test_nothing_is_settled_before_the_first_verdict() -> None:
    """No verdict, no decision about what runs here."""
    decision = decide(PairState(), look("unknown running", 5.0, 0.0), policy_of(services=(A,)))
    assert (decision.state.phase, decision.state.settled) == (Phase.UNKNOWN, False)


def test_foreign_start_stop_needs_an_answering_primary() -> None:
    """While a takeover waits for its delay, what an operator starts is welcome."""
    policy = policy_of(services=(A,), foreign_start=Foreign.STOP, takeover_delay_s=30.0)
    up = decide(in_phase(Phase.STANDBY), look("up running", 5.0, 0.0), policy)
    assert up.state.phase is Phase.FAILBACK
    down = decide(
        in_phase(Phase.STANDBY), look("down running", 5.0, 0.0, verdict_since_s=4.0), policy
    )
    assert (down.state.phase, down.effects) == (Phase.STANDBY, ())


# A list that changes under us.


@pytest.mark.parametrize("phase", list(Phase))
def test_what_leaves_the_list_while_it_serves_stays_ours_to_stop(phase: Phase) -> None:
    """In the phases in which services may run because of us; else it is no longer our concern."""
    state = in_phase(phase, Memory(A), Memory(B))
    adopted = adopt(state, policy_of(services=(B,)))
    assert adopted.leaving == ((A,) if phase in WANTED else ())
    assert adopt(adopted, policy_of(services=(A, B))).leaving == ()


def test_a_leaving_service_is_stopped_at_failback_and_not_started_before() -> None:
    """It is ours until it has stopped, whatever else happens."""
    policy = policy_of(services=(B,))
    state = adopt(in_phase(Phase.TAKEOVER, Memory(A), Memory(B)), policy)
    seen = (UnitSeen(B, Unit.RUNNING), UnitSeen(A, Unit.STOPPED))
    observation = Observation(now_s=9.0, verdict=Verdict.DOWN, units=seen)
    served = decide(state, observation, policy)
    assert (served.state.phase, served.effects) == (Phase.ACTIVE, ())
    seen = (UnitSeen(B, Unit.STOPPED), UnitSeen(A, Unit.RUNNING))
    back = decide(served.state, replace(observation, verdict=Verdict.UP, units=seen), policy)
    assert (back.state.phase, asked(back)) == (Phase.FAILBACK, [f"stop {A}"])
    assert back.state.leaving == (A,)
    seen = (UnitSeen(B, Unit.STOPPED), UnitSeen(A, Unit.STOPPED))
    over = decide(back.state, replace(observation, verdict=Verdict.UP, units=seen), policy)
    assert (over.state.phase, over.state.leaving) == (Phase.STANDBY, ())
    after = decide(over.state, replace(observation, verdict=Verdict.UP, units=seen[:1]), policy)
    assert [memory.name for memory in after.state.services] == [B]


def test_a_new_service_on_the_list_is_started_while_we_serve() -> None:
    """Level-triggered: what should be is compared with what is."""
    policy = policy_of(services=(A, B))
    state = adopt(in_phase(Phase.ACTIVE, Memory(A)), policy)
    decision = decide(state, look("down running stopped", 9.0, 0.0), policy)
    assert (decision.state.phase, asked(decision)) == (Phase.TAKEOVER, [f"start {B}"])


def test_retry_due_is_the_next_future_retry() -> None:
    """What is past wakes nobody."""
    memories = tuple(Memory(A, retry_s=s) for s in (5.0, 20.0, 12.0, 0.0))
    assert next_due_s(in_phase(Phase.TAKEOVER, *memories), 10.0) == 12.0
    assert next_due_s(in_phase(Phase.TAKEOVER, *memories), 12.0) == 20.0
    assert next_due_s(in_phase(Phase.TAKEOVER), 0.0) == float("inf")
