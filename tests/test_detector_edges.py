"""The detector at its edges: what a slip of the pen would change unseen (docs/mutation.md)."""

import pytest

from failover_monitor.detector import HELD_REPEAT_S
from failover_monitor.model import Notice, Verdict
from tests.test_detector import GATEWAY, PRIMARY, RTT_S, WITNESS, Bench, serving, shipped
from tests.world import policy_of


def test_serving_beside_a_slow_primary_sees_it_die_again() -> None:
    """Its answers take longer than a round; each new round would otherwise begin the wait anew."""
    policy = shipped()
    bench = serving(policy)
    bench.of_primary(answers=True, rtt_s=0.7)
    bench.run(20.0)
    assert bench.says(Verdict.UP)
    bench.of_primary(answers=False)
    bench.run(policy.verdict_s + 2.0)
    assert bench.says(Verdict.DOWN)


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
    bench = Bench(shipped(), options={"grace_until_s": 3.0})
    bench.of_primary(answers=False)
    bench.of_references(answers=False)
    bench.run(20.0)
    [(_, told)] = bench.notices(Notice.HELD)
    assert told.why == "references answer in 0 of 6 checks"


def test_in_the_grace_one_check_is_always_left_to_fail() -> None:
    """The one that counts comes after it."""
    bench = Bench(shipped(), options={"grace_until_s": 60.0})
    bench.of_primary(answers=False)
    bench.run(40.0)
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
    bench.run(3.1)
    bench.of_primary(answers=True)
    bench.run(5.0)
    cleared_s = bench.notices(Notice.CLEARED)[0][0]
    after = [round_.sent_s for round_ in bench.rounds if round_.sent_s >= cleared_s]
    assert after == [pytest.approx(9.0), pytest.approx(12.0)]


def test_what_was_held_before_a_suspend_is_over() -> None:
    """Nobody watched while this host slept, so nobody held."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.of_references(answers=False)
    bench.run(5.0)
    bench.now_s += 600.0
    bench.detector.suspended(600.0, bench.now_s)
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


def test_an_error_that_comes_at_once_hurries_no_round() -> None:
    """The next one is due a spacing after the one that was refused."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_primary(error="host unreachable")
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
