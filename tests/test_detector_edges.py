"""The detector at its edges: what a slip of the pen would change unseen (docs/mutation.md)."""

from itertools import pairwise

import pytest

from failover_monitor.detector import HELD_REPEAT_S, QUIET_ROUNDS, QUIET_S, Check, Detector
from failover_monitor.model import Answer, Notice, Verdict
from tests.test_detector import GATEWAY, PRIMARY, RTT_S, SLACK_S, WITNESS, Bench, serving, shipped
from tests.world import policy_of


def test_serving_beside_a_slow_primary_sees_it_die_again() -> None:
    """Its answers take longer than a round; each new round would otherwise begin the wait anew."""
    policy = shipped()
    bench = serving(policy)
    bench.of_primary(answers=True, rtt_s=0.7)
    bench.run(20.0)
    suspicions, rounds = len(bench.notices(Notice.SUSPECT)), len(bench.rounds)
    bench.run(10.0)
    bench.of_primary(answers=False)
    bench.run(0.5)
    bench.of_primary(answers=True)
    bench.run(9.5)
    assert bench.says(Verdict.UP)
    assert 39 <= len(bench.rounds) - rounds <= 41
    assert len(bench.notices(Notice.SUSPECT)) == suspicions
    bench.of_primary(answers=False)
    bench.run(policy.verdict_s + 2.0)
    assert bench.says(Verdict.DOWN)
    sent_s = [round_.sent_s for round_ in bench.rounds[rounds:]]
    assert max(b - a for a, b in pairwise(sent_s)) <= 0.75 + SLACK_S


@pytest.mark.parametrize(
    ("check_s", "sent", "counts"),
    [(1.5, 3, True), (1.5, 2, False), (1.75, 4, True), (1.75, 3, False)],
)
@pytest.mark.parametrize("first", [True, False])
def test_half_of_the_rounds_is_enough(check_s: float, sent: int, counts: bool, first: bool) -> None:
    """Six rounds, or seven: what a late turn did not send is missing, in whichever check."""
    bench = Bench(policy_of(interval_s=3.0, retry_interval_s=check_s))
    bench.run(4.0)
    bench.of_primary(answers=False)
    begin_s = 6.0 + (0.0 if first else check_s)
    bench.run(begin_s + (sent - 1) * 0.25 + 0.01 - bench.now_s)
    before = len(bench.notices(Notice.FAILED))
    bench.freeze(begin_s + check_s - bench.now_s)
    assert len(bench.notices(Notice.FAILED)) - before == counts
    assert len(bench.notices(Notice.INCONCLUSIVE)) == (not counts)


def test_rounds_that_are_missed_inside_a_check_are_missing() -> None:
    """Three of six: the first two and the last."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(2.3)
    bench.freeze(0.95)
    bench.run(0.3)
    [(_, told)] = bench.notices(Notice.FAILED)
    assert told.why.startswith("check 1 of 3 failed: 3 rounds sent")


def test_an_error_while_we_wait_for_the_return_begins_no_suspicion() -> None:
    """The verdict stands: nobody judges silence."""
    bench = serving(shipped())
    bench.of_primary(error="host unreachable")
    suspicions = len(bench.notices(Notice.SUSPECT))
    bench.run(10.0)
    assert not bench.detector.suspicious
    assert len(bench.notices(Notice.SUSPECT)) == suspicions


def test_the_return_is_dated_from_the_first_of_its_answers() -> None:
    """K answered rounds in a row, counted anew after each loss; the delay counts from the first."""
    bench = serving(shipped(recovery_threshold=3))
    bench.of_primary(answers=True)
    first_s = bench.detector.due_s + RTT_S
    bench.run(1.6)
    assert bench.says(Verdict.UP)
    assert bench.detector.answering_since_s == pytest.approx(first_s)


def test_a_detector_that_begins_while_we_serve_needs_all_k_answers() -> None:
    """Neither fewer nor more than one that has watched the primary die."""
    bench = Bench(shipped(recovery_threshold=3), options={"verdict": Verdict.DOWN, "seen": True})
    bench.detector.serve(True, 0.0)
    bench.run(0.9)
    assert bench.says(Verdict.DOWN)
    bench.run(0.3)
    assert bench.says(Verdict.UP)


def test_each_time_of_holding_counts_its_own_checks() -> None:
    """What was told of an earlier silence is over."""
    bench = Bench(shipped())
    for _ in range(2):
        bench.run(4.0)
        bench.of_primary(answers=False)
        bench.of_references(answers=False)
        bench.run(20.0)
        bench.of_primary(answers=True)
        bench.of_references(answers=True)
        bench.run(HELD_REPEAT_S)
    held = [told.why for _, told in bench.notices(Notice.HELD)]
    assert held == ["references answer in 0 of 6 checks"] * 2


def test_ten_rounds_without_an_answer_make_a_reference_silent() -> None:
    """Told with the eleventh; at three seconds each that is half a minute."""
    bench = Bench(shipped())
    bench.of_references(answers=False)
    bench.run(40.0)
    [(silent_s, told)] = bench.notices(Notice.REFERENCE_SILENT)
    assert silent_s == pytest.approx(30.0)
    assert told.subject == GATEWAY
    assert PRIMARY not in bench.detector.quiet_references


def test_holding_still_speaks_of_the_grace_only_while_it_lasts() -> None:
    """A primary that was never seen is held for another reason afterwards."""
    for options in ({"grace_until_s": 3.0}, {"grace_until_s": 60.0, "seen": True}):
        bench = Bench(shipped(), options=options)
        bench.of_primary(answers=False)
        bench.of_references(answers=False)
        bench.run(20.0)
        [(_, told)] = bench.notices(Notice.HELD)
        assert told.why == "references answer in 0 of 6 checks"


def test_in_the_grace_one_check_is_always_left_to_fail() -> None:
    """The one that counts comes after it."""
    bench = Bench(shipped(), options={"grace_until_s": 60.0})
    assert bench.detector.failed_checks == 0
    bench.of_primary(answers=False)
    bench.run(40.0)
    for _ in range(4):
        bench.run(1.5)
        assert bench.detector.failed_checks == 2


def test_what_cannot_be_sent_costs_the_verdict_after_one_check() -> None:
    """A cable that is out for a moment is no news."""
    bench = Bench(policy_of(interval_s=3.0, retry_interval_s=3.0))
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(4.6)
    bench.of_primary(refused="no carrier on eth0")
    bench.run(1.4)
    assert len(bench.notices(Notice.DOUBT)) == 1
    assert bench.says(Verdict.UP)
    bench.run(2.5)
    assert bench.says(Verdict.UNKNOWN)


def test_late_proof_is_none_for_a_primary_that_is_slow() -> None:
    """Its answer to an echo that was sent later in the check may be on its way."""
    bench = Bench(policy_of(interval_s=3.0, retry_interval_s=1.0))
    bench.of_primary(rtt_s=0.95)
    bench.run(31.5)
    bench.of_primary(answers=False)
    begin_s = bench.detector.due_s
    bench.of_references(answers=False)
    for check in range(5):
        bench.run(begin_s + check + 0.2 - bench.now_s)
        bench.of_references(answers=True)
        bench.run(0.25)
        bench.of_references(answers=False)
    assert len(bench.notices(Notice.INCONCLUSIVE)) >= 3
    assert bench.notices(Notice.FAILED) == []


def test_an_answer_sends_the_rounds_back_to_their_grid() -> None:
    """Not one more at once: the suspicion has sent enough."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(5.6)
    bench.of_primary(answers=True)
    bench.run(6.0)
    cleared_s = bench.notices(Notice.CLEARED)[0][0]
    after = [round_.sent_s for round_ in bench.rounds if round_.sent_s >= cleared_s]
    assert after == [pytest.approx(12.0), pytest.approx(15.0)]


@pytest.mark.parametrize("suspended", [True, False], ids=["suspended", "frozen"])
def test_what_was_held_before_nobody_watched_is_over(suspended: bool) -> None:
    """Nobody watched while this host slept, so nobody held."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.of_references(answers=False)
    bench.run(5.0)
    if suspended:
        bench.now_s += 600.0
        bench.detector.suspended(600.0, bench.now_s)
    else:
        bench.freeze(600.0)
    bench.run(12.0)
    [(_, told)] = bench.notices(Notice.HELD)
    assert told.gap_s == pytest.approx(9.0, abs=0.3)


def test_a_suspend_costs_a_verdict_on_which_nobody_serves() -> None:
    """Who was dead then may live now."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(10.0)
    assert bench.says(Verdict.DOWN)
    bench.detector.suspended(600.0, bench.now_s)
    assert bench.says(Verdict.UNKNOWN)
    assert bench.detector.due_s == bench.now_s, "the next round waits for nothing"


def test_a_verdict_is_dated_from_the_first_check_that_counts() -> None:
    """Not from the beginning of our isolation."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.of_references(answers=False)
    bench.run(9.0)
    bench.of_references(answers=True)
    bench.run(8.0)
    told = bench.notices(Notice.VERDICT)[-1][1]
    assert told.why.startswith("3 checks in a row failed: 18 echo rounds in 4.50 s")


@pytest.mark.parametrize("rtt_s", [RTT_S, 0.9])
def test_an_error_that_comes_at_once_hurries_no_round(rtt_s: float) -> None:
    """The next one is due a spacing after the one that was refused, however slow the primary."""
    bench = Bench(shipped())
    bench.of_primary(rtt_s=rtt_s)
    bench.run(4.0)
    bench.of_primary(error="host unreachable", rtt_s=RTT_S)
    bench.run(2.6)
    assert [round_.sent_s for round_ in bench.rounds][-3:] == [6.0, 6.25, 6.5]


def test_a_verdict_names_the_references_that_had_to_answer() -> None:
    """Both of two, where both must."""
    bench = Bench(shipped(references=(GATEWAY, WITNESS), references_required=2))
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(8.0)
    told = bench.notices(Notice.VERDICT)[-1][1]
    assert told.why.endswith("each check with answers from 2 of 2 references")
    held = Bench(shipped(references=(GATEWAY, WITNESS), references_required=2))
    held.of_primary(answers=False)
    held.paths[WITNESS].answers = False
    held.run(12.0)
    assert held.notices(Notice.HELD)[0][1].why == "2 of 2 references answer in 0 of 6 checks"


def test_a_cable_that_is_out_for_a_whole_check_costs_the_verdict_to_the_moment() -> None:
    """Two rounds that could not be sent, a check apart."""
    bench = Bench(policy_of(interval_s=3.0, retry_interval_s=3.0))
    bench.run(7.0)
    bench.of_primary(refused="no carrier on eth0")
    bench.run(4.9)
    assert bench.says(Verdict.UP)
    bench.run(0.2)
    assert bench.says(Verdict.UNKNOWN)


def test_one_answer_is_enough_while_nobody_serves() -> None:
    """K answers are asked of a return alone: a takeover that waits for its delay ends at once."""
    bench = Bench(shipped(recovery_threshold=3))
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(8.0)
    assert bench.says(Verdict.DOWN)
    bench.of_primary(answers=True)
    bench.run(0.3)
    assert bench.says(Verdict.UP)


def test_holding_still_is_told_no_more_often_than_twice_v() -> None:
    """Where a verdict takes longer than half a minute."""
    policy = policy_of(interval_s=10.0, threshold=4)
    assert policy.verdict_s == 31.0
    bench = Bench(policy)
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.of_references(answers=False)
    bench.run(200.0)
    (first_s, _), (second_s, _) = bench.notices(Notice.HELD)[:2]
    assert second_s - first_s == pytest.approx(62.0, abs=0.3)


def test_the_second_half_of_a_short_check_proves_nothing_where_the_primary_is_slow() -> None:
    """Shorter than two spacings: half of it is left for the answer."""
    detector = Detector(policy_of(timeout_s=0.3), 0.0)
    detector.answered(Answer(PRIMARY, 1, 0.0), 0.29)
    assert detector.soft_timeout_s == pytest.approx(0.3)
    for sent_s, counts in ((0.25, False), (0.15, True)):
        check = Check(0.0, 0.3)
        detector._prove(check, GATEWAY, sent_s)
        assert (check.proven_by == {GATEWAY}) is counts


def test_what_a_late_turn_did_not_send_before_the_suspicion_is_missing_too() -> None:
    """Rounds were due from the soft timeout on."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(2.1)
    bench.freeze(1.15)
    bench.run(0.3)
    assert bench.notices(Notice.FAILED) == []
    [(_, told)] = bench.notices(Notice.INCONCLUSIVE)
    assert told.why == "only 2 of 6 rounds were sent"


def test_who_stops_serving_begins_to_watch_anew() -> None:
    """The silence so far was waiting, not evidence: no check of it was ever judged."""
    bench = serving(shipped())
    bench.run(60.0)
    bench.detector.serve(False, bench.now_s)
    assert bench.detector.due_s == bench.now_s, "the next round waits for nothing"
    inconclusive = len(bench.notices(Notice.INCONCLUSIVE))
    bench.run(20.0)
    assert bench.says(Verdict.DOWN)
    assert len(bench.notices(Notice.INCONCLUSIVE)) == inconclusive


def test_answers_that_overtake_each_other_take_no_proof_away() -> None:
    """The newest echo that a reference answered counts."""
    detector = Detector(shipped(), 0.0)
    for sent_s in (5.0, 2.0):
        detector.answered(Answer(GATEWAY, 1, sent_s), 6.0)
    assert detector._references[GATEWAY].proof_s == 5.0


def test_holding_still_names_no_number_where_any_reference_is_enough() -> None:
    """Not "1 of 2": it is not a certain one."""
    bench = Bench(shipped(references=(GATEWAY, WITNESS)))
    bench.of_primary(answers=False)
    bench.of_references(answers=False)
    bench.run(12.0)
    assert bench.notices(Notice.HELD)[0][1].why == "references answer in 0 of 6 checks"


def test_no_more_than_n_checks_are_counted() -> None:
    """Silence that goes on after the verdict adds nothing to it."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(60.0)
    assert bench.says(Verdict.DOWN)
    assert bench.detector.failed_checks == 3


def test_each_cable_that_is_out_is_told_and_has_its_time() -> None:
    """The time between the two, in which we could send, is not counted."""
    bench = Bench(policy_of(interval_s=3.0, retry_interval_s=3.0))
    bench.run(4.0)
    for _ in range(2):
        bench.of_primary(refused="no carrier on eth0")
        bench.run(3.0)
        bench.of_primary(refused="")
        bench.run(3.0)
        assert bench.says(Verdict.UP)
    assert len(bench.notices(Notice.DOUBT)) == 2


@pytest.mark.parametrize(("late_s", "dropped"), [(1.4, False), (1.6, True)])
def test_half_a_check_late_is_too_late(late_s: float, dropped: bool) -> None:
    """Where checks are long; one second where they are short."""
    bench = Bench(policy_of(interval_s=3.0, retry_interval_s=3.0))
    bench.run(4.0)
    bench.freeze(bench.detector.due_s + late_s - bench.now_s)
    assert len(bench.notices(Notice.DOUBT)) == dropped


def test_what_is_told_is_told_in_good_time() -> None:
    """A minute between two of the same; a reference is silent after ten rounds and ten seconds."""
    assert (HELD_REPEAT_S, QUIET_ROUNDS, QUIET_S) == (60.0, 10, 10.0)


def test_nothing_is_proven_before_anybody_has_answered() -> None:
    """Also in the first seconds of a host's life."""
    bench = Bench(shipped())
    bench.of_primary(answers=False)
    bench.of_references(answers=False)
    bench.run(10.0)
    assert bench.notices(Notice.FAILED) == []
    assert {told.why for _, told in bench.notices(Notice.INCONCLUSIVE)} == {
        "no reference answered in 1.5 s"
    }


def test_a_verdict_that_was_lost_is_held_from_then_on() -> None:
    """Nobody serves, and it is said."""
    policy = shipped()
    bench = Bench(policy)
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(8.0)
    assert bench.says(Verdict.DOWN)
    bench.of_references(answers=False)
    bench.run(4.0)
    assert bench.says(Verdict.UNKNOWN)
    lost_s = bench.notices(Notice.VERDICT)[-1][0]
    bench.run(20.0)
    [(held_s, _)] = bench.notices(Notice.HELD)
    assert held_s - lost_s == pytest.approx(2 * policy.verdict_s, abs=0.3)


def test_who_stops_serving_goes_on_with_a_suspicion() -> None:
    """It was judged all the time: the primary had come back, and has gone away again."""
    policy = shipped()
    bench = serving(policy)
    bench.of_primary(answers=True)
    bench.run(5.0)
    bench.of_primary(answers=False)
    silent_s = bench.now_s
    bench.run(2.0)
    bench.detector.serve(False, bench.now_s)
    bench.run(policy.verdict_s)
    assert bench.verdicts[-1] - silent_s <= policy.verdict_s + 0.5


def test_nothing_is_held_while_we_serve_for_a_dead_primary() -> None:
    """Whether its silence lasts or our own cable is out."""
    bench = serving(shipped())
    bench.run(60.0)
    bench.of_primary(refused="no carrier on eth0")
    bench.run(60.0)
    assert bench.notices(Notice.HELD) == []


def test_a_quick_primary_is_not_suspected_sooner_than_a_round_apart() -> None:
    """On a local network an answer takes next to nothing; a late one is no silence yet."""
    bench = Bench(shipped())
    bench.of_primary(answers=True, rtt_s=0.0001)
    bench.run(60.0)
    assert bench.detector.soft_timeout_s == bench.policy.spacing_s
