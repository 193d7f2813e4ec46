"""What the service checks say together: promises, each for every sequence of answers."""

from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failover_monitor.health import Health
from failover_monitor.model import CheckSeen, Outcome, ServiceCheck, Verdict

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
STEP_S = 5.0  # between the beginnings of two runs
RUN_S = 1.0  # how long one takes

outcomes = st.sampled_from(Outcome)
rows = st.lists(outcomes, max_size=30)
several = st.lists(st.tuples(st.sampled_from(["a", "b"]), outcomes), max_size=40)


def check(name: str = "a", **options: Any) -> ServiceCheck:
    return ServiceCheck(kind="tcp", name=name, options={}, **options)


def seen(outcome: Outcome, began_s: float, name: str = "a") -> CheckSeen:
    return CheckSeen(name, outcome, f"said at {began_s:g}", began_s, began_s + RUN_S)


def tell(health: Health, answers: Sequence[Outcome], start_s: float = 0.0) -> float:
    """One check's runs at its own pace; the moment after the last one."""
    now_s = start_s
    for outcome in answers:
        health.heard(seen(outcome, now_s), now_s + RUN_S)
        now_s += STEP_S
    return now_s


def verdict(health: Health) -> Verdict:
    return health.service[0]


def both(answers: Sequence[tuple[str, Outcome]], **options: Any) -> Health:
    """Two checks, told in turns."""
    health = Health([check("a", **options), check("b", **options)])
    for number, (name, outcome) in enumerate(answers):
        began_s = number * STEP_S
        health.heard(seen(outcome, began_s, name), began_s + RUN_S)
    return health


# Vetoes.


def test_without_service_checks_nobody_vetoes_and_nothing_is_known() -> None:
    """A pair without any decides by the echoes alone."""
    health = Health([])
    assert health.vetoes(0.0) == ()
    assert verdict(health) is Verdict.UNKNOWN
    assert health.healthy_since_s is None


def test_a_check_that_has_not_been_asked_since_the_silence_is_waited_for() -> None:
    """Also when it has passed just before: that was another time."""
    health = Health([check()])
    assert health.vetoes(0.0) == ("a has not had its say yet",)
    health.heard(seen(PASS, 10.0), 11.0)
    assert health.vetoes(10.0) == ("a has not had its say yet",)  # it began no later than that
    assert health.vetoes(10.5) == ("a has not had its say yet",)  # it ended later, that is nothing
    assert health.vetoes(9.9) == ("a passes: said at 10",)


@given(rows, outcomes)
def test_a_veto_is_the_newest_answer_and_never_outlives_the_next_run(
    before: list[Outcome], last: Outcome
) -> None:
    """Whatever was said before: only a PASS vetoes, only the newest, only since the silence."""
    health = Health([check()])
    end_s = tell(health, before)
    health.heard(seen(last, end_s), end_s + RUN_S)
    expected = (f"a passes: said at {end_s:g}",) if last is PASS else ()
    assert health.vetoes(end_s - 0.1) == expected
    assert health.vetoes(-1.0) == expected


@given(several)
def test_unknown_never_vetoes(answers: list[tuple[str, Outcome]]) -> None:
    """A check that cannot be asked holds up nobody, once it has had its say."""
    health = both(answers)
    newest = dict(answers)
    passing = [name for name in ("a", "b") if newest.get(name) is PASS]
    silent = [name for name in ("a", "b") if name not in newest]
    assert len(health.vetoes(-1.0)) == len(passing) + len(silent)


# Failing alone.


@pytest.mark.parametrize("threshold", [1, 2, 3])
def test_as_many_failures_in_a_row_as_the_threshold_says_are_the_verdict(threshold: int) -> None:
    """Not one less."""
    health = Health([check(trigger=True, threshold=threshold)])
    end_s = tell(health, [FAIL] * (threshold - 1))
    assert verdict(health) is Verdict.UNKNOWN
    health.heard(seen(FAIL, end_s), end_s + RUN_S)
    assert health.service == (Verdict.DOWN, end_s + RUN_S)


def test_an_unknown_between_failures_begins_the_count_anew() -> None:
    """Two and two are not four when there is a question mark in between."""
    health = Health([check(trigger=True, threshold=3)])
    end_s = tell(health, [FAIL, FAIL, UNKNOWN, FAIL, FAIL])
    assert verdict(health) is Verdict.UNKNOWN
    tell(health, [FAIL], end_s)
    assert verdict(health) is Verdict.DOWN


@given(rows, st.integers(1, 5))
def test_down_means_definite_failures_in_a_row(answers: list[Outcome], threshold: int) -> None:
    """Exactly then; and UP is exactly a pass."""
    health = Health([check(trigger=True, threshold=threshold)])
    tell(health, answers)
    tail = answers[-threshold:]
    now = verdict(health)
    assert (now is Verdict.DOWN) is (tail == [FAIL] * threshold)
    assert (now is Verdict.UP) is (answers[-1:] == [PASS])


@given(several)
def test_one_check_is_enough_for_down_and_all_are_needed_for_up(
    answers: list[tuple[str, Outcome]],
) -> None:
    """No check can outvote another one's failure."""
    health = both(answers, trigger=True, threshold=2)
    rows = {name: [o for n, o in answers if n == name] for name in ("a", "b")}
    down = any(row[-2:] == [FAIL, FAIL] for row in rows.values())
    up = all(row[-1:] == [PASS] for row in rows.values())
    wanted = Verdict.DOWN if down else Verdict.UP if up else Verdict.UNKNOWN
    assert verdict(health) is wanted


@given(rows)
def test_without_a_trigger_failures_are_no_verdict(answers: list[Outcome]) -> None:
    """A check that may only veto never causes a takeover."""
    health = Health([check(threshold=1)])
    tell(health, answers)
    assert health.service == (Verdict.UNKNOWN, 0.0)


def test_the_moment_of_the_verdict_is_kept_while_it_lasts() -> None:
    """A fourth failure does not make it younger."""
    health = Health([check(trigger=True, threshold=2)])
    tell(health, [FAIL, FAIL, FAIL, FAIL])
    assert health.service == (Verdict.DOWN, STEP_S + RUN_S)
    tell(health, [PASS], 4 * STEP_S)
    assert health.service == (Verdict.UP, 4 * STEP_S + RUN_S)


# Healthy for how long.


def test_healthy_since_is_the_end_of_the_first_pass() -> None:
    """A run may pass at any moment of its time: the latest is the one that is sure."""
    health = Health([check()])
    tell(health, [FAIL, PASS, PASS, PASS])
    assert health.healthy_since_s == STEP_S + RUN_S


@given(rows)
def test_healthy_only_while_the_newest_answer_is_a_pass(answers: list[Outcome]) -> None:
    """UNKNOWN is not healthy; no answer at all is not, either."""
    health = Health([check()])
    tell(health, answers)
    assert (health.healthy_since_s is not None) is (answers[-1:] == [PASS])


@given(rows)
def test_the_healthy_time_is_never_longer_than_what_passes_prove(answers: list[Outcome]) -> None:
    """Since the last FAIL; and only the time between two passes without a question mark counts."""
    health = Health([check()])
    now_s = tell(health, [*answers, PASS])
    since_s = health.healthy_since_s
    assert since_s is not None
    row = [*answers, PASS]
    begin = max((i + 1 for i, outcome in enumerate(row) if outcome is FAIL), default=0)
    tail = row[begin:]
    proven_s = sum(STEP_S for one, two in pairwise(tail) if one is two is PASS)
    assert now_s - STEP_S + RUN_S - since_s == proven_s


def test_a_question_mark_does_not_begin_the_healthy_time_anew() -> None:
    """It only does not count: 10 s before it and 10 s after it are 20 s."""
    health = Health([check()])
    now_s = tell(health, [PASS, PASS, PASS, UNKNOWN, PASS, PASS, PASS])
    assert health.healthy_since_s == now_s - STEP_S + RUN_S - 20.0


def test_time_in_which_nobody_asked_is_not_healthy_time() -> None:
    """The host slept for an hour between two passes: it has seen nothing of that hour."""
    health = Health([check(interval_s=STEP_S, timeout_s=2.0)])
    end_s = tell(health, [PASS, PASS])
    tell(health, [PASS, PASS], end_s + 3600.0)
    assert health.healthy_since_s == end_s + 3600.0 + STEP_S + RUN_S - 2 * STEP_S


def test_the_youngest_of_all_gates_counts_and_others_do_not() -> None:
    """A check that neither gates nor triggers has no voice in a failback."""
    gate, trigger = check("a"), check("b", gates_failback=False, trigger=True)
    neither = check("c", gates_failback=False)
    health = Health([gate, trigger, neither])
    health.heard(seen(PASS, 0.0, "a"), 1.0)
    assert health.healthy_since_s is None
    health.heard(seen(PASS, 5.0, "b"), 6.0)
    health.heard(seen(FAIL, 6.0, "c"), 7.0)
    assert health.healthy_since_s == 6.0
    health.heard(seen(FAIL, 10.0, "b"), 11.0)
    assert health.healthy_since_s is None


def test_with_no_gate_at_all_nothing_is_healthy_or_not() -> None:
    """None is also "there is none": whoever asks knows whether there is one."""
    health = Health([check(gates_failback=False)])
    tell(health, [PASS])
    assert health.healthy_since_s is None


# What does not belong.


def test_answers_of_others_and_old_ones_are_ignored() -> None:
    """A check that was taken off the list, and a run that began before the newest one."""
    health = Health([check(trigger=True, threshold=1)])
    health.heard(seen(PASS, 10.0), 11.0)
    health.heard(seen(FAIL, 9.0), 12.0)
    health.heard(seen(FAIL, 20.0, "gone"), 21.0)
    assert health.service == (Verdict.UP, 11.0)
    assert health.vetoes(-inf) == ("a passes: said at 10",)


@given(several)
def test_what_is_asked_changes_nothing(answers: list[tuple[str, Outcome]]) -> None:
    """Asking twice gives the same twice."""
    health = both(answers, trigger=True)
    first = health.vetoes(-1.0), health.service, health.healthy_since_s
    assert (health.vetoes(-1.0), health.service, health.healthy_since_s) == first


@given(rows)
def test_what_was_failed_before_a_pause_ended_counts_for_nothing(before: list[Outcome]) -> None:
    """A dead service needs as many failures as if it had been well until then."""
    health = Health([check(trigger=True, threshold=3)])
    now_s = tell(health, before)
    health.forget(now_s)
    assert verdict(health) is not Verdict.DOWN
    now_s = tell(health, [FAIL, FAIL], now_s)
    assert verdict(health) is not Verdict.DOWN
    tell(health, [FAIL], now_s)
    assert health.service == (Verdict.DOWN, now_s + RUN_S)
