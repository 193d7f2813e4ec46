"""The recommendation: computed by hand here, from the silences that were recorded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from failover_monitor import cli
from failover_monitor.console.recommend import (
    MARGIN,
    Past,
    candidates,
    safe,
    threshold_needed,
)
from failover_monitor.files import Paths
from failover_monitor.timing import outage_survived_s
from tests.recorded import (
    GATEWAY,
    PRIMARY,
    Minute,
    as_a_user,
    at,
    lossy_days,
    record,
    record_minutes,
    room,
    silent,
    story,
)
from tests.world import policy_of

FINE, TROUBLE, WRONG_USE, NOT_RUNNING, BAD_CONFIG = 0, 1, 2, 3, 78
DAY_S = 86_400.0
KEYS = {
    "gateway_ip": GATEWAY,
    "active_ip": PRIMARY,
    "ping_interval": 3,
    "ping_fail_threshold": 3,
    "retry_interval": 1.5,
    "services_to_manage": ["app.service"],
}
SHIPPED = policy_of(interval_s=3.0, retry_interval_s=1.5)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paths]:
    at(monkeypatch, 0)
    for paths in room(tmp_path, monkeypatch):
        configure(paths)
        yield paths


def configure(paths: Paths, **keys: Any) -> None:
    paths.config.parent.mkdir(parents=True, exist_ok=True)
    paths.config.write_text(json.dumps(KEYS | keys))


def remember(paths: Paths, minutes: list[Minute | None]) -> None:
    """These minutes end now."""
    record_minutes(paths, minutes, begin_s=-60.0 * len(minutes))


def recommended(paths: Paths, *words: str) -> int:
    return cli.main(["recommend", "--config", str(paths.config), *words])


def document(paths: Paths, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    recommended(paths, "--json", *words)
    return dict(json.loads(capsys.readouterr().out))


def past(*gaps_s: float, reference_ms: float = 0.3) -> Past:
    return Past(
        watched_s=5 * DAY_S,
        first_s=0.0,
        sent=0,
        answered=0,
        gaps_s=tuple(sorted(gaps_s)),
        verdicts=0,
        reference_ms=reference_ms,
    )


def test_the_fastest_safe_value_is_recommended(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """Longest silence 0.9 s: 1.8 s must be survived, and 0.75 s is the first value that does."""
    remember(paths, lossy_days(5, longest_s=0.9))
    assert recommended(paths) == FINE
    told = capsys.readouterr().out
    for words in (
        "recorded   5 d watched since 2026-11-16 03:00\n",
        "echoes     144000 to the primary, 0 of them unanswered\n",
        "that an answer ended, the longest lasted 0.90 s\n",
        "safe       what survives 2 times the longest silence, 1.80 s; V at least 1 s\n",
        "         0.6 s       1.80 s      1.70 s                  0  1.80 to 4.80 s\n",
        "        0.75 s       2.25 s      2.12 s                  0  2.25 to 5.25 s  recommended\n",
        "         1.5 s       4.50 s      4.25 s                  0  4.50 to 7.50 s  today\n",
        '"retry_interval": 0.75 would have been safe:\n',
        "a crash is seen in 2.25 to 5.25 s, today in 4.50 to 7.50 s.\n",
        "Nothing was changed.\n",
    ):
        assert words in told


def test_programs_get_the_numbers(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """Times in seconds; every candidate with what it would have meant."""
    remember(paths, lossy_days(5, longest_s=0.9))
    told = document(paths, capsys)
    assert (told["enough"], told["recommended_s"], told["margin"]) == (True, 0.75, MARGIN)
    assert (told["longest_silence_s"], told["watched_s"]) == (0.9, 5 * DAY_S)
    [today] = [entry for entry in told["candidates"] if entry["today"]]
    assert (today["retry_interval_s"], today["verdict_s"], today["verdicts"]) == (1.5, 4.5, 0)
    assert (today["crash_min_s"], today["crash_max_s"], today["safe"]) == (4.5, 7.5, True)


@pytest.mark.parametrize(("gap_s", "verdicts"), [(4.24, 0), (4.25, 1), (4.26, 1)])
def test_a_silence_is_a_verdict_from_v_less_g_on(gap_s: float, verdicts: int) -> None:
    """V = 4.5 s, g = 0.25 s: the rule of the promise, to the millisecond."""
    [today] = [c for c in candidates(SHIPPED, past(1.0, gap_s)) if c.today]
    assert today.survived_s == 4.25
    assert today.verdicts == verdicts


def test_every_candidate_counts_its_own_verdicts() -> None:
    """Against a count by hand."""
    gaps_s = (0.3, 0.6, 0.9, 1.5, 3.1, 4.2, 9.9)
    for entry in candidates(SHIPPED, past(*gaps_s)):
        by_hand = len([gap_s for gap_s in gaps_s if not gap_s < entry.survived_s])
        assert entry.verdicts == by_hand
        assert entry.safe == (entry.survived_s >= 2 * 9.9)


def test_candidates_are_in_range_and_today_is_among_them() -> None:
    """From 0.05 s to `ping_interval`; an absent value is a candidate, too."""
    for retry_s in (None, 1.5, 0.37):
        policy = policy_of(interval_s=2.0, retry_interval_s=retry_s)
        found = candidates(policy, past())
        assert [c.retry_interval_s for c in found if c.today] == [retry_s]
        values = [c.retry_interval_s for c in found if c.retry_interval_s is not None]
        assert all(0.05 <= value <= 2.0 for value in values)
        assert 2.0 in values
        assert [c.verdict_s for c in found] == sorted(c.verdict_s for c in found)


def test_without_any_silence_the_limits_of_haste_hold() -> None:
    """A verdict within a second, or faster than a reference answers, is never recommended."""
    quick = next(c for c in candidates(SHIPPED, past()) if c.safe)
    assert quick.verdict_s >= 1.0
    slow = next(c for c in candidates(SHIPPED, past(reference_ms=400.0)) if c.safe)
    assert slow.retry_interval_s == 1.0, "the first that is 0.8 s or longer"


def test_where_no_value_is_safe_the_threshold_is_told(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """A silence of 8 s: 16 s must be survived, which takes six checks of 3 s."""
    remember(paths, lossy_days(2, longest_s=8.0))
    assert recommended(paths) == FINE
    told = capsys.readouterr().out
    assert "No retry_interval up to ping_interval (3 s) is safe.\n" in told
    assert "With it as retry_interval, ping_fail_threshold 6 would be.\n" in told
    six = policy_of(interval_s=3.0, retry_interval_s=3.0, threshold=6)
    assert outage_survived_s(six) == 17.75
    assert threshold_needed(SHIPPED, past(8.0)) == 6
    assert threshold_needed(SHIPPED, past(1e6)) is None
    assert not safe(SHIPPED, past(8.0))


def test_todays_value_may_be_the_best(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """Then nothing is to be done."""
    configure(paths, retry_interval=0.75)
    remember(paths, lossy_days(5, longest_s=0.9))
    assert recommended(paths) == FINE
    assert "Today's retry_interval is the fastest" in capsys.readouterr().out


def test_less_than_a_day_is_too_little(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers are shown, nothing is recommended, and scripts see it: 1."""
    remember(paths, lossy_days(0.9))
    assert recommended(paths) == TROUBLE
    told = capsys.readouterr().out
    assert "Too little to recommend anything: 21 h 36 min of watching, a day is the least." in told
    assert "recommended\n" not in told
    assert recommended(paths, "--json") == TROUBLE
    shown = json.loads(capsys.readouterr().out)
    assert (shown["enough"], shown["recommended_s"]) == (False, None)


def test_time_that_nobody_watched_does_not_count(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three days in which the monitor ran for twelve hours."""
    minutes = lossy_days(3)
    remember(paths, [minute if n < 720 else None for n, minute in enumerate(minutes)])
    assert recommended(paths) == TROUBLE
    assert "12 h of watching" in capsys.readouterr().out


def test_only_the_days_that_were_asked_for_count(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """The long silence was the day before."""
    calm: list[Minute | None] = [Minute(gaps_s=(0.2,))] * (2 * 1440)
    remember(paths, [Minute(gaps_s=(5.0,)), *calm])
    assert document(paths, capsys, "--days", "1.9")["longest_silence_s"] == 0.2
    assert document(paths, capsys)["longest_silence_s"] == 5.0


def test_real_verdicts_are_named_and_not_counted(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the primary was gone is not for arithmetic to say."""
    remember(paths, lossy_days(2))
    record(paths, story(SHIPPED, (10, silent(PRIMARY)), end_s=40))
    told = document(paths, capsys)
    assert told["verdicts_down"] == 1
    assert recommended(paths) == FINE
    assert 'verdicts   "down": 1; those silences are not counted here' in capsys.readouterr().out


def test_nothing_is_edited(paths: Paths) -> None:
    """The configuration keeps its bytes and its time."""
    remember(paths, lossy_days(2))
    before = (paths.config.read_bytes(), paths.config.stat().st_mtime_ns)
    names = {path.name for path in paths.config.parent.iterdir()}
    assert recommended(paths) == FINE
    assert (paths.config.read_bytes(), paths.config.stat().st_mtime_ns) == before
    assert {path.name for path in paths.config.parent.iterdir()} == names


def test_what_cannot_be_recommended(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """No samples, a bad configuration, a primary, days that make no sense."""
    assert recommended(paths) == NOT_RUNNING
    assert f"cannot recommend anything: {paths.samples}: No such file" in capsys.readouterr().err
    remember(paths, lossy_days(0.1))
    assert recommended(paths, "--days", "0") == WRONG_USE
    assert "--days must be above 0" in capsys.readouterr().err
    configure(paths, role="primary", standby_ip="198.51.100.3")
    role = {k: v for k, v in json.loads(paths.config.read_text()).items() if k != "active_ip"}
    for name in ("ping_interval", "ping_fail_threshold", "retry_interval"):
        role.pop(name)
    paths.config.write_text(json.dumps(role))
    assert recommended(paths) == TROUBLE
    assert "this host is the primary" in capsys.readouterr().err
    paths.config.write_text("{")
    assert recommended(paths) == BAD_CONFIG
    assert capsys.readouterr().out == ""


def test_piped_is_plain(paths: Paths, tmp_path: Path) -> None:
    """And the library for colours is not loaded."""
    remember(paths, lossy_days(0.1))
    words = ("recommend", "--days", "366", "--config", str(paths.config))
    done = as_a_user(tmp_path, *words)
    assert done.returncode == TROUBLE
    assert "\x1b" not in done.stdout
    assert done.stderr.endswith("['pydantic']\n")
