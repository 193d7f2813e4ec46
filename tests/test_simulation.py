"""Simulated hours on the production detector: what the simulation skips changes nothing, and in
what it plays there is no false verdict.  The seeds are printed; see `tests.simulation` to replay.
"""

import subprocess
import sys

import pytest

from failover_monitor.detector import Detector
from failover_monitor.model import Answer, Verdict
from tests import simulation
from tests.simulation import GATEWAY, PRIMARY, RTT_S, blackouts, crashes, lossy, shipped

SLACK_S = 1e-6


def play(detector: Detector, *, answered: bool) -> None:
    """The next round, and what comes back."""
    now_s = detector.due_s
    while (round_ := detector.tick(now_s)) is None:
        now_s = detector.due_s
    detector.sent(round_, {})
    detector.answered(Answer(GATEWAY, round_.number, now_s), now_s + RTT_S)
    if answered:
        detector.answered(Answer(PRIMARY, round_.number, now_s), now_s + RTT_S)


def told_after(answered: int) -> list[tuple[float, str]]:
    """What is told of three silences that follow so many answered rounds, and when."""
    detector, story = Detector(shipped(), 0.0), []
    for _ in range(answered):
        play(detector, answered=True)
    detector.told.clear()
    begun_s = detector.due_s
    for lost in (4, 17, 60):
        for number in range(lost + 1):
            play(detector, answered=number == lost)
            since_s = round(detector.due_s - begun_s, 6)
            story += [(since_s, f"{told.notice}: {told.why}") for told in detector.told]
            detector.told.clear()
    return story


def test_answered_rounds_leave_the_detector_as_it_was() -> None:
    """Whatever number of them lies between, the next silence is judged at the same distances."""
    story = told_after(1)
    assert len(story) > 10
    assert told_after(2) == told_after(1000) == story


def test_skipping_answered_rounds_is_as_good_as_playing_them() -> None:
    """As many suspicions in as many hours, within what chance explains."""
    skipped = lossy(shipped(), 60.0, 0.1, seed=11)
    played = lossy(shipped(), 60.0, 0.1, seed=12, skip=False)
    assert played.suspicions > 5000
    # The difference of two counts of about n has a deviation of sqrt(2 n) at most: five of them.
    allowed = 5 * (2 * played.suspicions) ** 0.5
    assert abs(skipped.suspicions - played.suspicions) < allowed
    assert abs(skipped.longest_s - played.longest_s) < 1.0


def test_the_simulation_can_find_a_false_verdict() -> None:
    """A counter that always says zero would prove nothing: at 80 % loss there are some."""
    assert lossy(shipped(), 20.0, 0.8, seed=1).false_verdicts > 0


def test_ten_thousand_hours_at_ten_percent_loss(capsys: pytest.CaptureFixture[str]) -> None:
    """No false verdict on a primary that is alive.  All cores, about 25 CPU-seconds."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--hours", "10000", "--loss", "10"],
        capture_output=True,
        text=True,
        check=False,
    )
    with capsys.disabled():
        print(f"\n{run.stdout.strip()}")
    assert (run.returncode, run.stderr) == (0, "")
    assert "10000 simulated hours at 10 % loss" in run.stdout
    assert " 0 false verdicts" in run.stdout


def test_a_blackout_shorter_than_v_minus_g_is_ridden_through() -> None:
    """A hundred thousand of them, at random moments and of random lengths."""
    tally = blackouts(shipped(), 100_000, seed=3)
    assert tally.false_verdicts == 0
    assert tally.longest_s > shipped().verdict_s - 0.3, "none came near the limit"


def test_a_blackout_longer_than_t_plus_v_is_not() -> None:
    """The counter of verdicts on blackouts can count."""
    policy = shipped()
    detector = Detector(policy, 0.0)
    while detector.due_s < 10.0:
        play(detector, answered=True)
    while detector.due_s < 10.0 + policy.interval_s + policy.verdict_s + 1.0:
        play(detector, answered=False)
    tally = simulation.Tally()
    simulation.count(detector, tally)
    assert (tally.false_verdicts, detector.verdict) == (1, Verdict.DOWN)


def test_crashes_at_random_moments_take_v_to_t_plus_v() -> None:
    """Min, mean and max as `check` prints them: 4.5, 6.0 and 7.5 s with the shipped example."""
    policy = shipped()
    found = crashes(policy, 2000, seed=5)
    mean_s = sum(found) / len(found)
    assert policy.verdict_s - SLACK_S <= min(found) < policy.verdict_s + 0.02
    assert policy.verdict_s + policy.interval_s - 0.02 < max(found)
    assert max(found) <= policy.verdict_s + policy.interval_s + SLACK_S
    assert abs(mean_s - 6.0) < 5 * 0.87 / len(found) ** 0.5
