"""The standby's decision keeps every promise, whatever it remembers and whatever it sees.

Every phase, verdict, pair of unit states, memory and protection is tried; each promise is one named
statement.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from failover_monitor.decision import TAKEOVERS_KEPT, adopt, decide, fence_due, hook_due
from failover_monitor.machine import FLAP_FACTOR, TABLE
from failover_monitor.model import (
    AT_REST,
    INF,
    PATIENCE_S,
    RUNS,
    SERVING,
    Effect,
    Failback,
    FenceFailure,
    FencePolicy,
    FenceSeen,
    Fencing,
    Foreign,
    GuardPolicy,
    Hooking,
    HookPolicy,
    HookSeen,
    HooksPolicy,
    LeasePolicy,
    Memory,
    Observation,
    PairState,
    Phase,
    Policy,
    ServiceCheck,
    Unit,
    UnitSeen,
    Verb,
    Verdict,
)
from failover_monitor.services import RETRY_S, STEADY_S, kill_due_s, next_due_s
from failover_monitor.table import WANTED
from tests.turns import EVERY, NOW_S, SHARED, A, B, Turn, asked, in_phase, judged, look, some
from tests.world import policy_of

DELAY_S = 30.0
PHASES = tuple(dict.fromkeys(row.source for row in TABLE))  # the standby's
MEMORIES = (
    Memory(A),
    Memory(A, asked=Verb.START, asked_s=NOW_S - 1),
    Memory(A, asked=Verb.START, asked_s=NOW_S - 20, tries=2, retry_s=NOW_S + 1),
    Memory(A, asked=Verb.START, asked_s=NOW_S - 20, tries=2, retry_s=NOW_S - 1),
    Memory(A, asked=Verb.START, asked_s=NOW_S - 90, finished=True),
    Memory(A, asked=Verb.STOP, asked_s=NOW_S - 1),
    Memory(A, asked=Verb.STOP, asked_s=NOW_S - 20, tries=1, retry_s=NOW_S - 1),
)
FEW_MEMORIES = (
    Memory(A, asked=Verb.STOP, asked_s=NOW_S - 0.3),
    Memory(A, asked=Verb.KILL, asked_s=NOW_S - 0.1),
    Memory(A, asked=Verb.KILL, asked_s=NOW_S - 0.6),
)
FEW_UNITS = (
    (Unit.RUNNING, Unit.RUNNING),
    (Unit.STOPPED, Unit.FAILED),
    (Unit.UNKNOWN, Unit.STOPPING),
)
FENCE = FencePolicy(command=("/bin/fence",), options={})
GUARDED_FENCE = replace(FENCE, on_failure=FenceFailure.WAIT_FOR_GUARD)
LEASE = LeasePolicy(engine="etcd", endpoints=("http://198.51.100.11:2379",), name="p", holder="b")
GUARD = GuardPolicy()
TRIGGER = ServiceCheck(kind="tcp", name="tcp", options={}, trigger=True)
HOOK = HookPolicy(command=("/bin/hook",))
HOOKS = HooksPolicy(pre_takeover=HOOK, pre_failback=HOOK)
VETO = HooksPolicy(pre_takeover=replace(HOOK, veto=True), pre_failback=replace(HOOK, timeout_s=3.0))
FLAP_WINDOW_S = 600.0
RECENT = (NOW_S - 500, NOW_S - 300, NOW_S - 200, NOW_S - 100)


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


def protected_policies() -> Iterator[Policy]:
    """Each protection alone, and together."""
    flapping = {"flap_window_s": FLAP_WINDOW_S}
    delayed = {"failback": Failback.DELAYED, "recovery_delay_s": 60.0}
    for settings in (
        {"fence": FENCE, "takeover_delay_s": DELAY_S},
        {"fence": GUARDED_FENCE, "guard": GUARD, "takeover_delay_s": DELAY_S},
        {"guard": GUARD, "takeover_delay_s": DELAY_S},
        {"lease": LEASE},
        {"lease": LEASE, "foreign_start": Foreign.STOP},
        {"lease": LEASE, "fence": FENCE, "failback": Failback.MANUAL},
        {"service_checks": (TRIGGER,)},
        {"service_checks": (replace(TRIGGER, trigger=False),), **delayed},
        {"service_checks": (TRIGGER,), "fence": GUARDED_FENCE, **delayed},
        {"service_checks": (replace(TRIGGER, gates_failback=False),), **delayed},
        flapping,
        {"service_checks": (TRIGGER,), **flapping},
        {"hooks": HOOKS},
        {"hooks": HOOKS, "service_checks": (TRIGGER,)},
        {"hooks": VETO, "foreign_start": Foreign.STOP},
        {"hooks": VETO, "fence": GUARDED_FENCE, "guard": GUARD, "takeover_delay_s": DELAY_S},
        {"hooks": VETO, "fence": FENCE, "failback": Failback.MANUAL},
        {"hooks": HOOKS, "lease": LEASE},
        # The configuration refuses this one; the promises hold all the same.
        {"service_checks": (TRIGGER,), "fence": FENCE, "lease": LEASE},
    ):
        yield policy_of(services=(A, B), **settings)


def observations() -> Iterator[Observation]:
    for verdict, a, b, stopping in product(Verdict, Unit, Unit, (False, True)):
        for verdict_age_s, answering_s, asked_for in ((DELAY_S, 61.0, False), (1.0, 1.0, True)):
            yield observation(
                verdict, (a, b), verdict_age_s, answering_s, stopping=stopping, asked_for=asked_for
            )


def observation(
    verdict: Verdict,
    units: tuple[Unit, Unit],
    verdict_age_s: float,
    answering_s: float,
    *,
    stopping: bool,
    asked_for: bool,
) -> Observation:
    return Observation(
        now_s=NOW_S,
        verdict=verdict,
        verdict_since_s=NOW_S - verdict_age_s,
        answering_since_s=NOW_S - answering_s if verdict is Verdict.UP else None,
        units=(UnitSeen(A, units[0], NOW_S - 5), UnitSeen(B, units[1], NOW_S - 5)),
        host_stopping=stopping,
        failback_asked=asked_for,
    )


def protected_observations(policy: Policy) -> Iterator[Observation]:
    """Whatever the protections of this policy may say, on few units."""
    plain = [
        observation(verdict, units, age_s, age_s * 2.1, stopping=stopping, asked_for=age_s == 1.0)
        for verdict, units, age_s, stopping in product(
            Verdict,
            FEW_UNITS[: 3 if policy.enforced else 2],
            (DELAY_S, 10.0, 1.0) if policy.flap_window_s else (DELAY_S, 1.0),
            (False, True),
        )
    ]
    fences = tuple(FenceSeen(state) for state in Fencing) if policy.fence else (FenceSeen(),)
    untils = (-INF, NOW_S - 3, NOW_S, NOW_S + 1) if policy.lease else (INF,)
    checked = bool(policy.service_checks)
    triggers = any(check.trigger for check in policy.service_checks)
    for seen, fence, until_s in product(plain, fences, untils):
        for vetoes, service, healthy_s in product(
            ((), ("tcp passes",)) if checked else ((),),
            Verdict if triggers else (Verdict.UNKNOWN,),
            (None, 61.0) if policy.failback is Failback.DELAYED else (None,),
        ):
            yield replace(
                seen,
                fence=fence,
                serve_until_s=until_s,
                vetoes=vetoes,
                service=service,
                service_since_s=seen.verdict_since_s,
                healthy_since_s=None if healthy_s is None else NOW_S - healthy_s,
                acknowledged=seen.failback_asked and policy.flap_window_s > 0,
            )


def hooked(policy: Policy, seen: Observation) -> Iterator[Observation]:
    """Whatever the hooks of this policy may have come to; some ended in an earlier phase."""
    if policy.hooks is None:
        yield seen
        return
    ended = [HookSeen(Hooking.DONE, NOW_S - 1), HookSeen(Hooking.FAILED, NOW_S - 1)]
    earlier = [HookSeen(Hooking.DONE, NOW_S - 100)]
    running = [HookSeen(Hooking.RUNNING, NOW_S - 4)]
    failbacks = running if policy.enforced else ended + earlier + running
    for state, failback in product(Hooking, failbacks):
        yield replace(seen, pre_takeover=HookSeen(state, NOW_S - 1), pre_failback=failback)


def states() -> Iterator[PairState]:
    for phase, memory, settled in product(PHASES, MEMORIES, (False, True)):
        if memory.finished and phase not in SERVING:
            continue  # a new phase forgets it, see below
        services = (memory, Memory(B))
        yield PairState(phase=phase, since_s=NOW_S - 5, settled=settled, services=services)


def protected_states(policy: Policy) -> Iterator[PairState]:
    memories = FEW_MEMORIES if policy.enforced else FEW_MEMORIES[:1]
    histories = (((), False), (RECENT[-1:], False), (RECENT, True))
    for phase, memory, (takeovers, flapping), (age_s, late_s) in product(
        PHASES,
        memories,
        histories if policy.flap_window_s else histories[:1],
        ((1.0, 0.0), (1.0, 3.5), (5.0, 0.0)) if policy.enforced else ((5.0, 0.0),),
    ):
        if late_s and phase is not Phase.FAILBACK:
            continue
        for fenced in (False, True) if policy.fence else (False,):
            yield PairState(
                phase=phase,
                since_s=NOW_S - age_s,
                ending_s=NOW_S - age_s - late_s if phase is Phase.FAILBACK else 0.0,
                settled=True,
                takeovers=takeovers,
                flapping=flapping,
                fenced=fenced,
                services=(memory, Memory(B)),
            )


def turns() -> Iterator[Turn]:
    """Everything with everything: more than a hundred thousand decisions."""
    seen_all, states_all = tuple(observations()), tuple(states())
    for policy in policies():
        for state, seen in some(product(states_all, seen_all)):
            yield Turn.of(policy, state, seen)


def protected_turns() -> Iterator[Turn]:
    """And with whatever stands between a verdict and a takeover."""
    for policy in protected_policies():
        states_all = tuple(protected_states(policy))
        for plain, state in some(product(protected_observations(policy), states_all)):
            for seen in hooked(policy, plain):
                yield Turn.of(policy, state, seen)


def operated_turns() -> Iterator[Turn]:
    """And with an operator: who pauses it, or asks for a takeover now or a while ago."""
    wishes = (("", ""), ("alice", ""), ("", "paused by bob"), ("alice", "paused by bob"))
    for policy in (*policies(), *protected_policies()):
        every = 7 if policy.fence or policy.flap_window_s else 3
        states_all = tuple(operated_states(policy))
        for seen in tuple(protected_observations(policy))[::every]:
            for (asked_by, words), state in some(product(wishes, states_all)):
                yield Turn.of(policy, state, replace(seen, takeover_asked=asked_by, paused=words))


def operated_states(policy: Policy) -> Iterator[PairState]:
    for state in protected_states(policy):
        yield state
        if state.phase in (Phase.CLAIM, *SERVING):
            yield replace(state, by_hand="alice")
            yield replace(state, by_hand="alice", since_s=NOW_S - policy.by_hand_limit_s)


# The promises, each a statement about one turn.


def took_over(turn: Turn) -> bool:
    return turn.entered(*SERVING)


def of_an_operator(turn: Turn) -> bool:
    """Somebody asks for this takeover, or has, and still looks."""
    waited = NOW_S - turn.state.since_s < turn.policy.by_hand_limit_s
    return bool(turn.seen.takeover_asked or (turn.state.by_hand and waited))


def waited_s(turn: Turn) -> float:
    return turn.seen.now_s - turn.seen.verdict_since_s


def takes_over_on_a_verdict_alone(turn: Turn) -> bool:
    """The primary is down, or its service is and a check may trigger; never on a dying host."""
    if not took_over(turn):
        return True
    triggers = any(check.trigger for check in turn.policy.service_checks)
    dead = triggers and turn.seen.service is Verdict.DOWN and turn.seen.verdict is Verdict.UP
    reason = turn.seen.verdict is Verdict.DOWN or dead or of_an_operator(turn)
    return reason and not turn.seen.host_stopping


def switched_off(turn: Turn) -> bool:
    """By the fence, now or earlier; and since then, where nobody stood in for it, it has not
    answered, and no operator has had his hands on it.
    """
    stands_in = turn.state.phase in (Phase.CLAIM, *SERVING)
    on = (turn.seen.verdict is Verdict.UP or bool(turn.seen.paused)) and not stands_in
    return turn.seen.fence.state is Fencing.DONE or (turn.state.fenced and not on)


def remembers_what_was_switched_off(turn: Turn) -> bool:
    return turn.decision.state.fenced is switched_off(turn)


def waits_for_its_delay(turn: Turn) -> bool:
    """A fence that did it makes waiting for the guard needless; nothing else does."""
    if not took_over(turn) or turn.seen.verdict is Verdict.UP:
        return True
    if of_an_operator(turn) and (not turn.policy.guard or turn.seen.verdict is Verdict.UNKNOWN):
        return True
    if of_an_operator(turn) and switched_off(turn):
        return True
    guarded = turn.policy.fence and turn.policy.fence.on_failure is FenceFailure.WAIT_FOR_GUARD
    if guarded and switched_off(turn):
        return True
    return waited_s(turn) >= turn.policy.takeover_delay_s


def heeds_every_veto(turn: Turn) -> bool:
    """Of a primary that is silent; one that answers has its service asked instead."""
    return of_an_operator(turn) or not (
        took_over(turn) and turn.seen.verdict is Verdict.DOWN and turn.seen.vetoes
    )


def claims_nothing_while_a_veto_speaks(turn: Turn) -> bool:
    claimed = turn.entered(Phase.CLAIM) and turn.seen.verdict is Verdict.DOWN
    return of_an_operator(turn) or not (claimed and turn.seen.vetoes)


def fences_first(turn: Turn) -> bool:
    """Done; or it failed, and the guard's time is over: but a guard stops no dead service."""
    fence = turn.policy.fence
    if not took_over(turn) or fence is None or switched_off(turn):
        return True
    failed = turn.seen.fence.state is Fencing.FAILED and turn.seen.verdict is Verdict.DOWN
    waits = fence.on_failure is FenceFailure.WAIT_FOR_GUARD
    return failed and waits and waited_s(turn) >= turn.policy.takeover_delay_s


def serves_on_a_lease_alone(turn: Turn) -> bool:
    """Where there is one: none is begun, none goes on without it."""
    return turn.phase not in SERVING or not turn.time_over


def ends_with_its_lease(turn: Turn) -> bool:
    """In this very turn, whatever else holds; and everything is asked to stop."""
    if turn.state.phase not in SERVING or not turn.time_over:
        return True
    return turn.phase is Phase.FAILBACK and turn.asked(Verb.STOP, Verb.KILL) == turn.unrested


def holds_while_it_flaps(turn: Turn) -> bool:
    """Until an operator has looked."""
    flapping = turn.state.flapping and not turn.seen.acknowledged
    began = took_over(turn) or turn.entered(Phase.CLAIM)
    return not (flapping and began) or of_an_operator(turn)


def waits_longer_for_one_that_flaps(turn: Turn) -> bool:
    """V for each recent takeover, three at most."""
    if not took_over(turn) or turn.seen.acknowledged or of_an_operator(turn):
        return True
    window_s = turn.policy.flap_window_s
    count = sum(at_s > NOW_S - window_s for at_s in turn.state.takeovers)
    return waited_s(turn) >= turn.policy.verdict_s * min(count, FLAP_FACTOR)


def prepared(turn: Turn) -> bool:
    """The hook before a takeover succeeded, or it may fail and did; or there is none."""
    hook, state = turn.policy.pre_takeover, turn.seen.pre_takeover.state
    failed = state is Hooking.FAILED and hook is not None and not hook.veto
    return hook is None or state is Hooking.DONE or failed


def runs_its_hook_first(turn: Turn) -> bool:
    return not took_over(turn) or prepared(turn)


def runs_its_hook_after_all_else(turn: Turn) -> bool:
    """When it is asked for, it is all that is missing: with its success a takeover begins."""
    if not hook_due(turn.decision.state, turn.seen, turn.policy):
        return True
    done = replace(turn.seen, pre_takeover=HookSeen(Hooking.DONE, NOW_S))
    return Turn.of(turn.policy, turn.decision.state, done).phase is Phase.TAKEOVER


def stop_is_due(turn: Turn) -> bool:
    """The hook before a failback has ended, or its time is over, or nobody may wait for it."""
    hook = turn.policy.hooks.pre_failback if turn.policy.hooks else None
    seen = turn.seen.pre_failback
    if hook is None or turn.policy.enforced or turn.phase is not Phase.FAILBACK:
        return True
    since_s = turn.decision.state.since_s
    ended = seen.state in (Hooking.DONE, Hooking.FAILED) and seen.since_s > since_s
    return ended or NOW_S - since_s >= hook.timeout_s


def stops_after_its_hook(turn: Turn) -> bool:
    return stop_is_due(turn) or not turn.asked(Verb.STOP, Verb.KILL)


def decides_as_without_hooks_when_they_have_ended(turn: Turn) -> bool:
    """What has said yes, or has no say, changes nothing but the sentence."""
    if turn.policy.hooks is None or not (prepared(turn) and stop_is_due(turn)):
        return True
    plain = decide(turn.state, turn.seen, replace(turn.policy, hooks=None))
    return (plain.state, plain.effects) == (turn.decision.state, turn.decision.effects)


def leaves_the_unknown_alone(turn: Turn) -> bool:
    """Where stopping is enforced, what cannot be seen is stopped all the same."""
    enforced = turn.policy.enforced
    blind = turn.asked(Verb.START) if enforced else turn.asked(*Verb)
    return all(turn.unit(name).state is not Unit.UNKNOWN for name in blind)


def stops_only_what_runs(turn: Turn) -> bool:
    if turn.policy.enforced:
        return True
    return all(turn.unit(name).state in RUNS for name in turn.asked(*Verb) - turn.asked(Verb.START))


def gives_back_to_a_living_primary_alone(turn: Turn) -> bool:
    """Nothing that we serve is stopped unless the primary answers, or our lease is gone."""
    over = turn.state.phase in SERVING and turn.time_over
    return not turn.entered(Phase.FAILBACK) or turn.seen.verdict is Verdict.UP or over


def gives_back_when_the_policy_says(turn: Turn) -> bool:
    left = turn.state.phase in SERVING and turn.phase is Phase.FAILBACK
    if not left or turn.seen.failback_asked or turn.time_over:
        return True
    if turn.state.by_hand:
        return False
    if turn.policy.failback is Failback.AUTO:
        return True
    since_s = turn.seen.answering_since_s
    long_enough = since_s is not None and NOW_S - since_s >= turn.policy.recovery_delay_s
    return turn.policy.failback is Failback.DELAYED and long_enough


def gives_back_to_a_healthy_service_alone(turn: Turn) -> bool:
    """What may trigger a takeover must pass; what gates a failback, for as long as the echoes."""
    left = turn.state.phase in SERVING and turn.phase is Phase.FAILBACK
    checks = turn.policy.service_checks
    if not left or not checks or turn.seen.failback_asked or turn.time_over:
        return True
    if any(check.trigger for check in checks) and turn.seen.service is not Verdict.UP:
        return False
    since_s = turn.seen.healthy_since_s
    long_enough = since_s is not None and NOW_S - since_s >= turn.policy.recovery_delay_s
    return turn.policy.failback is Failback.AUTO or long_enough


def serves_on_while_isolated(turn: Turn) -> bool:
    """Not knowing ends no takeover; a lease that is over does."""
    isolated = turn.seen.verdict is Verdict.UNKNOWN and not turn.time_over
    return not (isolated and turn.state.phase in SERVING) or turn.phase in SERVING


def begins_nothing_while_isolated(turn: Turn) -> bool:
    isolated = turn.seen.verdict is Verdict.UNKNOWN and turn.state.phase not in WANTED
    return not isolated or of_an_operator(turn) or turn.decision.effects == ()


def stops_in_reverse_order(turn: Turn) -> bool:
    if turn.policy.enforced or turn.asked(Verb.STOP) != {A}:
        return True
    return turn.unit(B).state in AT_REST


def blames_no_service_it_could_not_see(turn: Turn) -> bool:
    """Active ends because a service is seen not to run, not because systemd is silent."""
    left = turn.state.phase is Phase.ACTIVE and turn.phase is Phase.TAKEOVER
    memories = {m.name: m for m in turn.decision.state.services}
    return not left or any(
        unit.state not in (Unit.RUNNING, Unit.UNKNOWN) and not memories[unit.name].finished
        for unit in turn.seen.units
    )


def counts_every_takeover(turn: Turn) -> bool:
    """Each is dated; and the last one allowed is the last before an operator looks."""
    known = turn.decision.state.takeovers
    if not took_over(turn):
        return known == turn.state.takeovers or turn.seen.acknowledged
    window_s, most = turn.policy.flap_window_s, turn.policy.max_takeovers
    close = sum(at_s > NOW_S - window_s for at_s in known)
    too_many = window_s > 0 and close >= most
    return known[-1] == NOW_S and turn.decision.state.flapping is too_many


def keeps_hands_off_while_paused(turn: Turn) -> bool:
    """What must be stopped in time is stopped; a claim is given up; nothing else happens."""
    if not turn.seen.paused:
        return True
    ending = turn.policy.enforced and turn.phase is Phase.FAILBACK
    if turn.asked(Verb.START) or (turn.decision.effects and not ending):
        return False
    if turn.phase is turn.state.phase:
        return turn.state.phase is not Phase.CLAIM
    if turn.state.phase is Phase.CLAIM:
        return turn.phase is Phase.UNKNOWN
    over = turn.state.phase in SERVING and turn.phase is Phase.FAILBACK and turn.time_over
    return over or (turn.state.phase is Phase.FAILBACK and not turn.unrested)


def settles_nothing_while_paused(turn: Turn) -> bool:
    """What ran here at boot is looked at afterwards."""
    return not turn.seen.paused or turn.decision.state.settled is turn.state.settled


def obeys_who_asks_for_a_takeover(turn: Turn) -> bool:
    """At once, or as soon as fence and lease agree."""
    waits = turn.state.phase in (Phase.UNKNOWN, Phase.STANDBY) and turn.seen.takeover_asked
    if not waits or turn.seen.paused or turn.seen.host_stopping:
        return True
    return turn.phase in (Phase.CLAIM, *SERVING)


def leaves_there_what_an_operator_moved(turn: Turn) -> bool:
    """A primary that was never away does not come back."""
    moved = turn.state.by_hand and turn.state.phase in SERVING
    asked_for = turn.seen.failback_asked or turn.time_over
    return not moved or asked_for or turn.phase in SERVING


def claims_no_longer_than_somebody_looks(turn: Turn) -> bool:
    """An operator's claim is given up, unless there is a reason without an operator."""
    held = turn.state.phase is Phase.CLAIM and turn.state.by_hand
    lives = turn.seen.verdict is not Verdict.DOWN and turn.seen.service is not Verdict.DOWN
    barred = turn.decision.state.flapping
    if not held or of_an_operator(turn) or not (lives or barred):
        return True
    return turn.phase in (Phase.STANDBY, Phase.UNKNOWN)


def remembers_who_took_over(turn: Turn) -> bool:
    """For as long as it lasts, and the primary has not been down since; a pause counts not."""
    by_hand = turn.decision.state.by_hand
    if turn.phase not in (Phase.CLAIM, *SERVING):
        return by_hand == ""
    if turn.phase in SERVING and turn.seen.verdict is Verdict.DOWN and not turn.seen.paused:
        return by_hand == ""
    return not turn.state.by_hand or by_hand == turn.state.by_hand


PROMISES = (
    *SHARED,
    keeps_hands_off_while_paused,
    settles_nothing_while_paused,
    obeys_who_asks_for_a_takeover,
    leaves_there_what_an_operator_moved,
    claims_no_longer_than_somebody_looks,
    remembers_who_took_over,
    takes_over_on_a_verdict_alone,
    waits_for_its_delay,
    remembers_what_was_switched_off,
    heeds_every_veto,
    claims_nothing_while_a_veto_speaks,
    fences_first,
    serves_on_a_lease_alone,
    ends_with_its_lease,
    runs_its_hook_first,
    runs_its_hook_after_all_else,
    stops_after_its_hook,
    decides_as_without_hooks_when_they_have_ended,
    holds_while_it_flaps,
    waits_longer_for_one_that_flaps,
    leaves_the_unknown_alone,
    stops_only_what_runs,
    gives_back_to_a_living_primary_alone,
    gives_back_when_the_policy_says,
    gives_back_to_a_healthy_service_alone,
    serves_on_while_isolated,
    begins_nothing_while_isolated,
    stops_in_reverse_order,
    blames_no_service_it_could_not_see,
    counts_every_takeover,
)


def test_every_decision_keeps_every_promise() -> None:
    """Exhaustively, with no protection beside the echo."""
    found = judged(turns(), PROMISES)
    assert found.broken == {}
    assert found.tried > 100_000 // EVERY


def test_every_protected_decision_keeps_every_promise() -> None:
    """Exhaustively; and on the way every row fires, every phase is left and reached."""
    found = judged(protected_turns(), PROMISES)
    assert found.broken == {}
    assert found.tried > 100_000 // EVERY
    others = (judged(turns(), ()), judged(operated_turns(), ()))
    fired = found.fired.union(*(other.fired for other in others))
    rows = {(row.source, row.target, row.because) for row in TABLE}
    assert {(t.source, t.target, t.because) for t in fired} == rows
    assert {t.source for t in fired} == {t.target for t in fired} == set(PHASES)


def test_every_operated_decision_keeps_every_promise() -> None:
    """Whatever an operator asks for: fence and lease have their say, and a pause moves nothing."""
    found = judged(operated_turns(), PROMISES)
    assert found.broken == {}
    assert found.tried > 100_000 // EVERY


def settles(state: PairState, seen: Observation, policy: Policy) -> bool:
    """Deciding again on the same world ends soon."""
    for _ in range(6):
        decision = decide(state, seen, policy)
        state = decision.state
        if decision.transition is None and decision.effects == ():
            return True
    return False


def test_a_decision_settles_at_once() -> None:
    """Deciding again on the same world changes the phase a few times at most, and ends."""
    policy, seen_all = tuple(policies())[1], tuple(observations())
    for state, seen in some(product(states(), seen_all)):
        assert settles(state, seen, policy), f"never at rest: {state} {seen}"


def test_a_protected_decision_settles_at_once() -> None:
    """An operator's wish is not granted and taken back for ever."""
    for policy in protected_policies():
        plain_all = tuple(protected_observations(policy))[:: 7 if policy.lease else 1]
        seen_all = tuple(seen for plain in plain_all for seen in hooked(policy, plain))
        for state, seen in some(product(protected_states(policy), seen_all)):
            assert settles(state, seen, policy), f"never at rest: {state} {seen}"


def test_deciding_is_pure() -> None:
    """The same arguments, the same answer; nothing is kept in between."""
    seen = next(observations())
    for state in states():
        first, again = (decide(state, seen, policy_of(services=(A, B))) for _ in range(2))
        assert first == again


# Single stories.


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
        assert next_due_s(decision.state, look("down failed", now_s, now_s), policy) <= due_s
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


def test_a_failure_is_forgotten_before_the_first_try_too() -> None:
    """What failed before this takeover may have used up its start limit."""
    policy = policy_of(services=(A,))
    first = decide(in_phase(Phase.TAKEOVER), look("down failed", 0.0, 0.0), policy)
    assert first.effects == (Effect(Verb.START, A, reset_failed=True),)


def test_a_service_that_ran_long_enough_has_earned_a_quick_restart() -> None:
    """And one that keeps dying has not."""
    policy = policy_of(services=(A,))
    tired = Memory(A, asked=Verb.START, asked_s=0.0, tries=4)
    for ran_s, wait_s in ((STEADY_S - 0.1, RETRY_S[4]), (STEADY_S, RETRY_S[0])):
        state = in_phase(Phase.ACTIVE, tired)
        ran = decide(state, look("down running", 5.0 + ran_s, 5.0), policy)
        seen = look("down failed", 5.1 + ran_s, 5.1 + ran_s)
        died = decide(ran.state, seen, policy)
        assert died.transition
        assert next_due_s(died.state, seen, policy) == pytest.approx(5.1 + ran_s + wait_s)
    since_unknown = decide(in_phase(Phase.ACTIVE, tired), look("down running", 59.9, 0.0), policy)
    assert since_unknown.state.services[0].tries == 4
    asked_late = in_phase(Phase.ACTIVE, replace(tired, asked_s=100.0))
    since_unknown = decide(asked_late, look("down running", 159.9, 0.0), policy)
    assert since_unknown.state.services[0].tries == 4
    assert STEADY_S == 60


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


@pytest.mark.parametrize("guard", [None, GuardPolicy(stop_limit_s=60.0)])
def test_a_stop_that_failed_is_asked_again(guard: GuardPolicy | None) -> None:
    """The unit still runs although it was asked to stop: after a second, then two."""
    policy, now_s = policy_of(services=(A,), guard=guard), 0.0
    decision = decide(in_phase(Phase.FAILBACK), look("up running", now_s, 0.0), policy)
    assert decision.effects == (Effect(Verb.STOP, A),)
    for wait_s in (1.0, 2.0, 5.0):
        decision = decide(decision.state, look("up running", now_s + 0.1, 0.0), policy)
        assert decision.effects == ()
        now_s = decision.state.services[0].retry_s
        assert now_s == pytest.approx(decision.state.services[0].asked_s + 0.1 + wait_s)
        decision = decide(decision.state, look("up running", now_s, 0.0), policy)
        assert decision.effects == (Effect(Verb.STOP, A),)


def test_a_service_that_stayed_stopped_long_enough_has_earned_a_quick_stop() -> None:
    """Somebody starts it again while another one still stops."""
    policy = policy_of(services=(A, B))
    tired = Memory(B, asked=Verb.STOP, asked_s=1.0, tries=4)
    state = in_phase(Phase.FAILBACK, Memory(A, asked=Verb.STOP, asked_s=1.0), tired)
    for stopped_s, wait_s in ((STEADY_S - 0.1, RETRY_S[4]), (STEADY_S, RETRY_S[0])):
        now_s = 5.0 + stopped_s
        rested = decide(state, look("up stopping stopped", now_s, 5.0), policy)
        again = decide(rested.state, look("up stopping running", now_s, now_s), policy)
        assert again.state.services[1].retry_s == pytest.approx(now_s + wait_s)


def test_a_oneshot_that_ended_well_counts_as_running() -> None:
    """If it ended after we started it; one that had ended before is started."""
    policy = policy_of(services=(A,))
    before = decide(in_phase(Phase.TAKEOVER), look("down finished", 10.0, 5.0), policy)
    assert asked(before) == [f"start {A}"]
    still = decide(before.state, look("down finished", 10.1, 5.0), policy)
    assert still.state.phase is Phase.TAKEOVER
    after = decide(before.state, look("down finished", 10.2, 10.0), policy)
    assert after.state.phase is Phase.ACTIVE
    assert after.effects == ()
    stays = decide(after.state, look("down stopped", 500.0, 400.0), policy)
    assert stays.state.phase is Phase.ACTIVE
    assert stays.state.services == after.state.services
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


def test_nothing_is_started_while_a_new_process_still_listens() -> None:
    """The primary may have come back meanwhile; what is to be stopped is stopped all the same."""
    policy = policy_of(services=(A,))
    seen = look("down stopped", 42.0, 0.0, listening=True)
    waits = decide(in_phase(Phase.TAKEOVER), seen, policy)
    assert (waits.state.phase, waits.effects) == (Phase.TAKEOVER, ())
    heard = decide(waits.state, replace(seen, listening=False), policy)
    assert asked(heard) == [f"start {A}"]
    stops = look("up running", 42.0, 0.0, listening=True)
    assert asked(decide(in_phase(Phase.FAILBACK), stops, policy)) == [f"stop {A}"]


# An operator.


@pytest.mark.parametrize("words", ["up stopped", "unknown stopped", "down stopped"])
@pytest.mark.parametrize("phase", [Phase.STANDBY, Phase.UNKNOWN])
def test_an_operator_takes_over_whatever_the_evidence_says(words: str, phase: Phase) -> None:
    """With no fence and no lease at once, also where too many takeovers hold the next one."""
    policy = policy_of(services=(A,), takeover_delay_s=99.0)
    seen = look(words, 42.0, 0.0, takeover_asked="alice", verdict_since_s=41.0)
    decision = decide(in_phase(phase, flapping=True), seen, policy)
    assert (decision.state.phase, asked(decision)) == (Phase.TAKEOVER, [f"start {A}"])
    assert decision.state.by_hand == ("" if words.startswith("down") else "alice")


def test_an_operator_waits_for_the_lease_and_no_longer_than_somebody_looks() -> None:
    """The primary that holds it answers all the while."""
    policy = policy_of(services=(A,), lease=LEASE)
    none = {"serve_until_s": -INF}
    seen = look("up stopped", 100.0, 0.0, takeover_asked="alice", **none)
    claim = decide(in_phase(Phase.STANDBY), seen, policy)
    assert (claim.state.phase, claim.state.by_hand) == (Phase.CLAIM, "alice")
    waits = decide(claim.state, look("up stopped", 159.9, 0.0, **none), policy)
    assert waits.transition is None
    ours = look("up stopped", 159.9, 0.0, serve_until_s=170.0)
    assert decide(waits.state, ours, policy).state.phase is Phase.TAKEOVER
    over = decide(waits.state, look("up stopped", 160.0, 0.0, **none), policy)
    assert (over.state.phase, over.state.by_hand) == (Phase.STANDBY, "")


def test_an_operator_waits_for_the_guard_of_a_silent_primary() -> None:
    """It still stops its services; a guard that is in contact stops nothing."""
    policy = policy_of(services=(A,), guard=GUARD, takeover_delay_s=15.0)
    for silent_s, phase in ((14.9, Phase.CLAIM), (15.0, Phase.TAKEOVER)):
        seen = due("down stopped", silent_s, takeover_asked="alice")
        assert decide(in_phase(Phase.STANDBY), seen, policy).state.phase is phase
    fresh = due("up stopped", 0.0, takeover_asked="alice")
    assert decide(in_phase(Phase.STANDBY), fresh, policy).state.phase is Phase.TAKEOVER


def test_a_claim_by_hand_outlives_our_own_network_while_somebody_looks() -> None:
    """He knows better than our echoes; then it is given up."""
    policy = policy_of(services=(A,), lease=LEASE)
    claim = in_phase(Phase.CLAIM, by_hand="alice", since_s=NOW_S)
    none = {"serve_until_s": -INF}
    still = decide(claim, look("unknown stopped", NOW_S + 59.9, 0.0, **none), policy)
    assert still.transition is None
    over = decide(claim, look("unknown stopped", NOW_S + 60.0, 0.0, **none), policy)
    assert (over.state.phase, over.state.by_hand) == (Phase.UNKNOWN, "")


@pytest.mark.parametrize(("held", "phase"), [(False, Phase.CLAIM), (True, Phase.UNKNOWN)])
def test_a_claim_by_hand_goes_on_for_a_reason_of_its_own(held: bool, phase: Phase) -> None:
    """The primary is gone: nobody has to look.  Where takeovers are held, that is no reason."""
    policy = policy_of(services=(A,), fence=FENCE)
    long_ago_s = NOW_S - policy.by_hand_limit_s
    claim = in_phase(Phase.CLAIM, by_hand="alice", since_s=long_ago_s, flapping=held)
    failed = {"fence": FenceSeen(Fencing.FAILED)}
    decision = decide(claim, due("down stopped", 0.0, **failed), policy)
    assert decision.state.phase is phase


def test_nobody_takes_over_by_hand_on_a_host_that_shuts_down() -> None:
    """Nor claims anything."""
    policy = policy_of(services=(A,), lease=LEASE)
    for until_s in (-INF, INF):
        more = {"host_stopping": True, "serve_until_s": until_s}
        seen = look("up stopped", NOW_S, 0.0, takeover_asked="alice", **more)
        assert decide(in_phase(Phase.STANDBY), seen, policy).transition is None


def test_by_hand_nobody_waits_for_the_guard_of_a_primary_that_is_off() -> None:
    """A fence that succeeded is more than a guard."""
    policy = policy_of(services=(A,), guard=GUARD, fence=FENCE, takeover_delay_s=15.0)
    seen = due("down stopped", 1.0, takeover_asked="alice")
    state = in_phase(Phase.STANDBY, fenced=True, flapping=True)
    assert decide(state, seen, policy).state.phase is Phase.TAKEOVER
    waits = decide(replace(state, fenced=False), seen, policy)
    assert waits.state.phase is Phase.CLAIM


def test_a_takeover_by_hand_becomes_an_ordinary_one_when_the_primary_dies() -> None:
    """Until then it stays; from then on the primary's return ends it."""
    policy = policy_of(services=(A,))
    moved = in_phase(Phase.ACTIVE, by_hand="alice")
    alive = decide(moved, look("up running", 5.0, 0.0), policy)
    assert (alive.state.phase, alive.state.by_hand) == (Phase.ACTIVE, "alice")
    dead = decide(alive.state, look("down running", 6.0, 0.0), policy)
    assert (dead.state.phase, dead.state.by_hand) == (Phase.ACTIVE, "")
    back = decide(dead.state, look("up running", 7.0, 0.0), policy)
    assert back.state.phase is Phase.FAILBACK


def test_a_lease_that_ends_stops_the_services_of_a_paused_host() -> None:
    """Somebody else may serve from then on: the stop begins, is killed, and comes to its end."""
    policy = policy_of(services=(A,), lease=LEASE)
    held = {"paused": "paused by bob", "serve_until_s": 100.0}
    still = decide(in_phase(Phase.ACTIVE), look("up running", 99.9, 0.0, **held), policy)
    assert (still.transition, still.effects) == (None, ())
    over = decide(still.state, look("up running", 100.0, 0.0, **held), policy)
    assert (over.state.phase, asked(over)) == (Phase.FAILBACK, [f"stop {A}"])
    late_s = kill_due_s(over.state, policy)
    killed = decide(over.state, look("up stopping", late_s, 0.0, **held), policy)
    assert asked(killed) == [f"kill {A}"]
    rest = decide(killed.state, look("up failed", late_s + 0.1, 0.0, **held), policy)
    assert (rest.state.phase, rest.effects) == (Phase.STANDBY, ())


# Settled: what ran here at boot.


def test_what_runs_at_boot_is_stopped_after_a_pause() -> None:
    """Until its end nothing is settled, and nothing is stopped."""
    policy = policy_of(services=(A,))
    state = PairState(phase=Phase.STANDBY)
    seen = look("up running", 5.0, 1.0, paused="paused by bob")
    held = decide(state, seen, policy)
    assert (held.state.phase, held.effects, held.state.settled) == (Phase.STANDBY, (), False)
    over = decide(held.state, look("up running", 9.0, 1.0), policy)
    assert (over.state.phase, asked(over)) == (Phase.FAILBACK, [f"stop {A}"])


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


@pytest.mark.parametrize("first", ["up running", "down running"])
def test_a_claim_that_is_given_up_settles_nothing(first: str) -> None:
    """What boot started here while the primary was silent is stopped when it answers."""
    policy = policy_of(services=(A, B), lease=LEASE)
    first += " stopped"
    none = {"serve_until_s": -INF}
    vetoes = {"vetoes": ("tcp passes",)} if first.startswith("down") else {}
    given_up = decide(PairState(phase=Phase.CLAIM), look(first, 5.0, 1.0, **none, **vetoes), policy)
    assert (given_up.state.phase, given_up.effects) == (Phase.STANDBY, ())
    held = decide(given_up.state, look(first, 5.0, 1.0, **none, **vetoes), policy)
    back = decide(held.state, look("up running stopped", 6.0, 1.0, **none), policy)
    stopped = held if held.effects else back
    assert (stopped.state.phase, asked(stopped)) == (Phase.FAILBACK, [f"stop {A}"])


def test_a_takeover_settles_what_ran_at_boot() -> None:
    """It is ours now."""
    decision = decide(PairState(), look("down running", 5.0, 0.0), policy_of(services=(A,)))
    assert (decision.state.phase, decision.state.settled) == (Phase.TAKEOVER, True)


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


def test_the_next_retry_in_the_future_is_due() -> None:
    """What is past wakes nobody; nor does patience that has ended."""
    policy = policy_of()
    memories = tuple(Memory(A, retry_s=s) for s in (5.0, 20.0, 12.0, 0.0))
    for now_s, due_s in ((10.0, 12.0), (12.0, 20.0), (20.0, INF)):
        state = in_phase(Phase.TAKEOVER, *memories)
        assert next_due_s(state, look("down stopped", now_s, 0.0), policy) == due_s
    assert next_due_s(in_phase(Phase.TAKEOVER), look("down", 0.0, 0.0), policy) == INF


def test_the_end_of_patience_is_due() -> None:
    """The next service is asked then."""
    state = in_phase(Phase.TAKEOVER, Memory(A, asked=Verb.START, asked_s=100.0))
    assert next_due_s(state, look("down starting", 104.0, 0.0), policy_of()) == 110.0


def test_the_end_of_the_lease_is_due() -> None:
    """Our services begin to stop then."""
    seen = look("down running", 100.0, 0.0, serve_until_s=102.5)
    assert next_due_s(in_phase(Phase.ACTIVE), seen, policy_of(lease=LEASE)) == 102.5


def test_killing_is_due_a_second_before_the_limit() -> None:
    """Counted from when stopping should have begun; and then again and again."""
    policy = policy_of(services=(A,), guard=GUARD)
    stopping = Memory(A, asked=Verb.STOP, asked_s=80.0)
    for ending_s in (100.0, 99.0):
        state = in_phase(Phase.FAILBACK, stopping, since_s=100.0, ending_s=ending_s)
        assert next_due_s(state, look("up stopping", 100.0, 0.0), policy) == ending_s + 4.0
    assert next_due_s(state, look("up stopping", 100.0, 0.0), policy_of()) == INF
    killed = replace(state, services=(Memory(A, asked=Verb.KILL, asked_s=104.0),))
    assert next_due_s(killed, look("up stopping", 104.1, 0.0), policy) <= 104.6


@pytest.mark.parametrize(("limit_s", "after_s"), [(0.5, 0.0), (1.5, 0.5), (5.0, 4.0)])
def test_a_limit_that_leaves_no_second_kills_at_once(limit_s: float, after_s: float) -> None:
    """But never before stopping begins."""
    policy = policy_of(guard=GuardPolicy(stop_limit_s=limit_s))
    assert kill_due_s(in_phase(Phase.FAILBACK, ending_s=100.0), policy) == 100.0 + after_s


# Protections, to the moment.


def due(words: str, silent_s: float, **options: object) -> Observation:
    """The verdict is that old; the protections say what `options` tell."""
    age = {"verdict_since_s": NOW_S - silent_s, "service_since_s": NOW_S - silent_s}
    return look(words, NOW_S, 0.0, **(age | options))


def test_a_claim_waits_for_the_fence_and_the_lease() -> None:
    """Each is asked for in the phase before the takeover; both together end it."""
    policy = policy_of(services=(A,), fence=FENCE, lease=LEASE)
    claim = decide(in_phase(Phase.STANDBY), due("down stopped", 0.0, serve_until_s=-INF), policy)
    assert (claim.state.phase, claim.effects) == (Phase.CLAIM, ())
    done, ours = {"fence": FenceSeen(Fencing.DONE)}, {"serve_until_s": NOW_S + 9}
    for has in (done | {"serve_until_s": -INF}, ours):
        assert decide(claim.state, due("down stopped", 1.0, **has), policy).transition is None
    taken = decide(claim.state, due("down stopped", 1.0, **done, **ours), policy)
    assert (taken.state.phase, asked(taken)) == (Phase.TAKEOVER, [f"start {A}"])


STANDS_IN = sorted(SERVING)  # in the same order in every process


@pytest.mark.parametrize(
    ("phase", "words", "more", "wanted"),
    [
        *((phase, "down running", {}, True) for phase in (*STANDS_IN, Phase.CLAIM, Phase.FAILBACK)),
        *((phase, "up running", {}, False) for phase in (*STANDS_IN, Phase.FAILBACK)),
        *((phase, "unknown running", {}, False) for phase in (*STANDS_IN, Phase.FAILBACK)),
        *((phase, "down stopped", {}, False) for phase in (Phase.STANDBY, Phase.UNKNOWN)),
        *((phase, "up stopped", {}, True) for phase in (Phase.CLAIM,)),  # an operator's
        (Phase.FAILBACK, "down running", {"vetoes": ("tcp passes",)}, False),
        (Phase.CLAIM, "down stopped", {"paused": "paused by bob"}, False),
        (Phase.CLAIM, "down stopped", {"host_stopping": True}, False),
        (Phase.ACTIVE, "down running", {"listening": True}, False),
    ],
)
def test_who_is_switched_off_and_when(
    phase: Phase, words: str, more: dict[str, Any], wanted: bool
) -> None:
    """A primary that answers never, unless an operator claims; and nothing twice."""
    policy = policy_of(services=(A,), fence=FENCE)
    seen = due(words, 0.0, **more)
    assert fence_due(in_phase(phase), seen, policy) is wanted
    assert not fence_due(in_phase(phase, fenced=True), seen, policy)


def test_a_request_beside_evidence_makes_no_takeover_by_hand() -> None:
    """The primary's service was dead at that moment: its return ends what that began."""
    policy = policy_of(services=(A,), service_checks=(TRIGGER,))
    dead = {"service": Verdict.DOWN, "service_since_s": 0.0}
    seen = due("up stopped", 0.0, takeover_asked="alice", **dead)
    decision = decide(in_phase(Phase.STANDBY), seen, policy)
    assert decision.transition
    assert decision.transition.because == "the primary's service is dead"
    assert decision.state.by_hand == ""


def test_a_failed_fence_waits_for_the_guard_to_the_moment() -> None:
    """`takeover_delay` counts from the verdict, not from the failure."""
    policy = policy_of(services=(A,), fence=GUARDED_FENCE, takeover_delay_s=15.0)
    failed = {"fence": FenceSeen(Fencing.FAILED)}
    for silent_s, phase in ((14.9, Phase.CLAIM), (15.0, Phase.TAKEOVER)):
        seen = due("down stopped", silent_s, **failed)
        assert decide(in_phase(Phase.CLAIM), seen, policy).state.phase is phase


@pytest.mark.parametrize(("count", "factor"), [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_a_flapping_primary_must_stay_away_for_longer(count: int, factor: int) -> None:
    """One V for each takeover within the window, three at most, to the moment."""
    policy = policy_of(services=(A,), flap_window_s=FLAP_WINDOW_S, max_takeovers=9)
    taken = (NOW_S - FLAP_WINDOW_S, *RECENT[:count])
    for early_s in (0.1, 0.0):
        seen = due("down stopped", policy.verdict_s * factor - early_s)
        decision = decide(in_phase(Phase.STANDBY, takeovers=taken), seen, policy)
        assert (decision.transition is None) is (early_s > 0)


def test_a_service_that_flaps_must_stay_dead_for_longer() -> None:
    """As a host that flaps, to the moment."""
    policy = policy_of(services=(A,), service_checks=(TRIGGER,), flap_window_s=FLAP_WINDOW_S)
    state = in_phase(Phase.STANDBY, takeovers=RECENT[-2:])
    for early_s in (0.1, 0.0):
        silent_s = 2 * policy.verdict_s - early_s
        decision = decide(state, due("up stopped", silent_s, service=Verdict.DOWN), policy)
        assert (decision.transition is None) is (early_s > 0)


@pytest.mark.parametrize("gates", [True, False])
def test_what_may_trigger_a_takeover_gates_a_delayed_failback(gates: bool) -> None:
    """Whatever its own key says: it must have passed for as long as the echoes were answered."""
    check = replace(TRIGGER, gates_failback=gates)
    policy = policy_of(services=(A,), service_checks=(check,), failback=Failback.DELAYED)
    well = {"service": Verdict.UP, "answering_since_s": NOW_S - 61}
    for healthy_s, phase in ((59.9, Phase.ACTIVE), (60.0, Phase.FAILBACK)):
        seen = due("up running", 61.0, healthy_since_s=NOW_S - healthy_s, **well)
        assert decide(in_phase(Phase.ACTIVE), seen, policy).state.phase is phase


def test_waiting_for_the_guard_shortens_no_wait_for_one_that_flaps() -> None:
    """The guard's delay is left to the fence; what a flapping primary costs is not."""
    policy = policy_of(services=(A,), fence=GUARDED_FENCE, flap_window_s=FLAP_WINDOW_S)
    for early_s, phase in ((0.1, Phase.STANDBY), (0.0, Phase.CLAIM)):
        seen = due("down stopped", policy.verdict_s - early_s)
        state = in_phase(Phase.STANDBY, takeovers=RECENT[-1:])
        assert decide(state, seen, policy).state.phase is phase


def test_no_more_takeovers_are_kept_than_anybody_asks_for() -> None:
    """A pair that flaps for years does not grow."""
    taken = tuple(float(at_s) for at_s in range(TAKEOVERS_KEPT))
    decision = decide(
        in_phase(Phase.STANDBY, takeovers=taken), due("down stopped", 9.0), policy_of()
    )
    assert decision.state.takeovers == (*taken[1:], NOW_S)
    assert TAKEOVERS_KEPT == 100


def test_the_shortest_window_counts_its_own_takeover() -> None:
    """Where one takeover is the most that is allowed."""
    policy = policy_of(services=(A,), flap_window_s=0.5, max_takeovers=1)
    assert decide(in_phase(Phase.STANDBY), due("down stopped", 9.0), policy).state.flapping


def test_an_ack_where_nothing_flaps_forgets_nothing() -> None:
    """The takeovers so far count on."""
    policy = policy_of(services=(A,), flap_window_s=FLAP_WINDOW_S, max_takeovers=9)
    state = in_phase(Phase.STANDBY, takeovers=RECENT)
    assert decide(state, due("up stopped", 9.0, acknowledged=True), policy).state == replace(
        state, services=(Memory(A),)
    )


def test_the_last_takeover_allowed_holds_the_next_until_ack() -> None:
    """It itself is served to its end."""
    policy = policy_of(services=(A,), flap_window_s=FLAP_WINDOW_S, max_takeovers=3)
    state = in_phase(Phase.STANDBY, takeovers=RECENT[1:3])
    third = decide(state, due("down stopped", 60.0), policy)
    assert (third.state.phase, third.state.flapping) == (Phase.TAKEOVER, True)
    back = replace(third.state, phase=Phase.STANDBY)
    held = decide(back, due("down stopped", 60.0), policy)
    assert (held.state.phase, held.effects) == (Phase.STANDBY, ())
    again = decide(back, due("down stopped", 60.0, acknowledged=True), policy)
    assert (again.state.phase, again.state.flapping) == (Phase.TAKEOVER, False)


def test_a_service_that_is_left_when_time_is_nearly_over_is_killed() -> None:
    """All are asked to stop at once; at four seconds of five what is left is killed, repeatedly."""
    policy = policy_of(services=(A, B), guard=GUARD, failback=Failback.AUTO)
    asked_all = decide(in_phase(Phase.ACTIVE), look("up running running", 100.0, 0.0), policy)
    assert asked(asked_all) == [f"stop {B}", f"stop {A}"]
    words, state = "up stopping stopped", asked_all.state
    for now_s, expected in (
        (103.9, []),
        (104.0, [f"kill {A}"]),
        (104.4, []),
        (104.5, [f"kill {A}"]),
    ):
        decision = decide(state, look(words, now_s, 100.0), policy)
        assert asked(decision) == expected
        state = decision.state


@pytest.mark.parametrize(("veto", "phase"), [(False, Phase.TAKEOVER), (True, Phase.CLAIM)])
def test_a_hook_that_failed_holds_a_takeover_only_where_it_is_a_veto(
    veto: bool, phase: Phase
) -> None:
    """Told in both cases; whether nobody serves is the operator's choice."""
    hooks = HooksPolicy(pre_takeover=replace(HOOK, veto=veto))
    policy = policy_of(services=(A, B), hooks=hooks)
    failed = HookSeen(Hooking.FAILED, NOW_S - 1)
    seen = look("down stopped stopped", NOW_S, NOW_S - 5, pre_takeover=failed)
    assert decide(in_phase(Phase.CLAIM, Memory(A), Memory(B)), seen, policy).state.phase is phase


def test_a_hook_without_fence_and_lease_claims_no_safety() -> None:
    """It says that the hook has ended, not that the primary is sure to serve no more."""
    policy = policy_of(services=(A, B), hooks=HOOKS)
    waiting = look("down stopped stopped", NOW_S, NOW_S - 5)
    state = in_phase(Phase.STANDBY, Memory(A), Memory(B))
    first = decide(state, waiting, policy)
    done = replace(waiting, pre_takeover=HookSeen(Hooking.DONE, NOW_S))
    second = decide(first.state, done, policy)
    assert [t.because for t in (first.transition, second.transition) if t] == [
        "first run the hook pre_takeover",
        "the hook pre_takeover has ended",
    ]


def test_the_end_of_waiting_for_a_hook_is_due() -> None:
    """The stop begins on time, not at the next turn that happens to come."""
    policy = policy_of(services=(A, B), hooks=VETO)
    state = in_phase(Phase.FAILBACK, Memory(A), Memory(B), since_s=NOW_S - 1)
    seen = look("up running running", NOW_S, NOW_S - 5)
    assert next_due_s(state, seen, policy) == NOW_S + 2.0
    assert decide(state, seen, policy).effects == ()
    late = replace(seen, now_s=NOW_S + 2.0)
    assert asked(decide(state, late, policy)) == ["stop b.service"]


@pytest.mark.parametrize("protection", [{"lease": LEASE}, {"guard": GUARD}])
def test_a_stop_that_is_enforced_waits_for_no_hook(protection: dict[str, object]) -> None:
    """Somebody counts on it: the hook runs beside it."""
    policy = policy_of(services=(A, B), hooks=HOOKS, **protection)
    state = in_phase(Phase.FAILBACK, Memory(A), Memory(B), since_s=NOW_S, ending_s=NOW_S)
    seen = look("up running running", NOW_S, NOW_S - 5)
    assert asked(decide(state, seen, policy)) == ["stop b.service", "stop a.service"]
