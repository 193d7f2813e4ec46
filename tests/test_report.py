"""The report tells what was recorded: its story, its plots, and the file it is left in."""

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from failover_monitor import cli
from failover_monitor.console import plots, prose, records, report
from failover_monitor.console.records import PathSample, Recorded, Sample
from failover_monitor.console.story import Story, story_of
from failover_monitor.events import DEBUG
from failover_monitor.files import Paths
from failover_monitor.rehearsal.script import parse
from failover_monitor.rehearsal.story import play
from tests import eventful_day
from tests.eventful_day import DAY_S, DIES_S, HOUR_S, RETURNS_S, SERVES_S, TAKES_S, WITNESS

ROOT = Path(__file__).parent.parent
BASE_S = 1_790_000_000.0
SILENT, FINE, TROUBLE, WRONG_USE = "", 0, 1, 2
GOOD = {
    "gateway_ip": "198.51.100.1",
    "active_ip": "198.51.100.2",
    "ping_interval": 3,
    "retry_interval": 1.5,
    "ping_fail_threshold": 3,
    "services_to_manage": ["app.service"],
}
HOSTILE = "</td></title></svg><script>document.title = 'taken'</script><img src=x onerror=alert(1)>"


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A place where the clocks are changed."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "root")


def ask(paths: Paths, tmp_path: Path, *arguments: str) -> int:
    """The command as it is run, with its files in a directory of the test."""
    options = cli.parser().parse_args(
        ["report", "--config", str(tmp_path / "config.json"), *arguments]
    )
    options.paths = paths
    return report.report(options)


def page_of(paths: Paths, tmp_path: Path, *arguments: str) -> str:
    file = tmp_path / "report.html"
    assert ask(paths, tmp_path, "--html", str(file), *arguments) == FINE
    return file.read_text()


def a_day(paths: Paths) -> Story:
    """The day of `eventful_day`, read back."""
    eventful_day.write_days(paths, BASE_S)
    return story_of(
        list(records.events(paths)), list(records.samples(paths)), BASE_S, BASE_S + DAY_S
    )


def played(name: str, length_s: float = 400.0) -> Story:
    """The story of a scenario that the real monitor has played."""
    script = parse((ROOT / f"tests/scenarios/{name}.txt").read_text())
    told = play(script).world.recorder.told
    events = [
        Recorded(
            at_s=BASE_S + at_s,
            kind=event.kind.name.lower(),
            level="WARNING",
            what=event.sentence,
            fields=event.fields,
        )
        for at_s, event in told
        if event.level > DEBUG
    ]
    return story_of(events, [], BASE_S, BASE_S + length_s)


def sample(
    end_s: float, *, answered: int = 20, rtt_ms: Any = (0.1, 0.2, 0.3), **more: Any
) -> Sample:
    """A minute that ended so many seconds after the beginning."""
    echoes = PathSample(role="primary", sent=20, answered=answered, rtt_ms=rtt_ms)
    told: dict[str, Any] = {"phase": "standby", "verdict": "up", "gaps_s": ()}
    given = told | {"at_s": BASE_S + end_s, "length_s": 60.0, "paths": {"198.51.100.2": echoes}}
    return Sample(**(given | more))


def event(at_s: float, kind: str, **fields: str) -> Recorded:
    return Recorded(at_s=BASE_S + at_s, kind=kind, level="INFO", what=kind, fields=fields)


def told_of(told: Story) -> list[tuple[float, float, str]]:
    """The phases as seconds since the beginning."""
    return [(span.begin_s - BASE_S, span.end_s - BASE_S, span.word) for span in told.phases]


# The story.


def test_a_takeover_is_told_with_its_times(paths: Paths) -> None:
    """Silence, verdict, serving and failback stand where they were recorded."""
    (takeover,) = a_day(paths).episodes
    assert takeover.silent_since_s == pytest.approx(BASE_S + DIES_S)
    assert takeover.began_s == pytest.approx(BASE_S + DIES_S + TAKES_S)
    assert takeover.to_serving_s == pytest.approx(TAKES_S + SERVES_S)
    assert takeover.failback_s == pytest.approx(BASE_S + RETURNS_S)


def test_the_phases_of_a_day_are_exact_and_leave_out_what_nobody_watched(paths: Paths) -> None:
    """From events to the millisecond; the restart is a hole in phases and verdicts."""
    told = a_day(paths)
    assert [(round(begin, 3), word) for begin, _, word in told_of(told)] == [
        (0.0, "standby"),
        (round(DIES_S + TAKES_S, 3), "takeover"),
        (round(DIES_S + TAKES_S + SERVES_S, 3), "active"),
        (RETURNS_S, "failback"),
        (RETURNS_S + eventful_day.GIVES_BACK_S, "standby"),
        (eventful_day.CUT_OFF_S + 5, "unknown"),
        (eventful_day.HEALED_S, "standby"),
        (eventful_day.STARTS_S, "standby"),
    ]
    (hole,) = told.unwatched
    assert hole.begin_s == BASE_S + eventful_day.STOPS_S
    assert hole.end_s == BASE_S + eventful_day.STARTS_S
    assert sum(span.length_s for span in told.verdicts) == pytest.approx(DAY_S - hole.length_s)


def test_the_silence_is_read_from_what_the_detector_really_says() -> None:
    """Its sentence and our reading of it cannot drift apart."""
    (takeover,) = played("a_check_that_gates_no_failback_is_not_waited_for").episodes
    assert takeover.silent_since_s is not None
    assert takeover.began_s - takeover.silent_since_s == pytest.approx(4.5, abs=0.01)
    assert takeover.over_s == pytest.approx(BASE_S + 80.5, abs=0.1)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests/scenarios").glob("*.txt")), ids=lambda p: p.stem
)
def test_every_scenario_makes_a_report(path: Path, tmp_path: Path) -> None:
    """Whatever the monitor can live through: as many takeovers as it had, and no crash."""
    told = played(path.stem)
    page = report.document(told, None, "not read", host="standby", now_s=told.end_s)
    begun = [
        step
        for step in told.events
        if step.kind == "transition"
        and step.fields["TO"] in ("takeover", "closing")
        and step.fields["FROM"] in ("unknown", "standby", "claim", "serving")
    ]
    assert len(told.episodes) == len(begun)
    assert page.count('<section class="episode"') == len(begun)


def test_a_period_knows_what_came_before_it(paths: Paths) -> None:
    """It begins amid a takeover: the phase is active, the takeover is told, and it is the first."""
    eventful_day.write_days(paths, BASE_S, 2)
    begin_s = BASE_S + DAY_S + DIES_S + 60
    told = story_of(
        list(records.events(paths)), list(records.samples(paths)), begin_s, begin_s + HOUR_S
    )
    assert told.phases[0].word == "active"
    assert [one.number for one in told.episodes] == [1]
    assert told.episodes[0].began_s < begin_s


def test_where_samples_are_missing_nobody_watched() -> None:
    """A monitor that was killed leaves no word about it."""
    told = story_of([], [sample(60), sample(120), sample(300), sample(360)], BASE_S, BASE_S + 360)
    assert [(hole.begin_s - BASE_S, hole.end_s - BASE_S) for hole in told.unwatched] == [(120, 240)]
    assert told_of(told) == [(0, 120, "standby"), (240, 360, "standby")]


def test_the_minute_that_is_not_over_is_no_hole() -> None:
    """The last sample is 80 s old: the next is on its way.  After 200 s it is not."""
    told = story_of([], [sample(60)], BASE_S, BASE_S + 140)
    assert not told.unwatched
    told = story_of([], [sample(60)], BASE_S, BASE_S + 260)
    assert [hole.length_s for hole in told.unwatched] == [200]


def test_without_samples_the_events_tell_who_watched() -> None:
    """Nothing before the first event; a stop ends the watch, and a start without a stop as well."""
    events = [
        event(100, "started"),
        event(400, "stopped"),
        event(500, "started"),
        event(700, "summary"),
        event(900, "started"),
        event(3000, "summary"),
    ]
    told = story_of(events, [], BASE_S, BASE_S + 3100)
    holes = [(hole.begin_s - BASE_S, hole.end_s - BASE_S) for hole in told.unwatched]
    assert holes == [(0, 100), (400, 500), (700, 900), (900, 3000)]


def test_a_restart_is_followed_by_the_phase_that_was_left() -> None:
    """After a reboot nothing is known until the first transition, which tells what was before."""
    events = [
        event(0, "transition", FROM="takeover", TO="active"),
        event(100, "started"),
        event(103, "transition", FROM="unknown", TO="standby"),
    ]
    found = told_of(story_of(events, [], BASE_S, BASE_S + 200))
    assert found == [(100, 103, "unknown"), (103, 200, "standby")]


def test_a_closing_of_the_guard_is_over_when_it_serves_again() -> None:
    """On a primary the episode is told to its end."""
    told = played("guard_cut_off_and_back", 120)
    (closing,) = told.episodes
    assert closing.kind == "closing"
    assert closing.over_s == pytest.approx(BASE_S + 67.5, abs=0.1)
    assert prose.episode_in_words(closing).startswith("C1: closing on ")
    assert "; open again at " in prose.episode_in_words(closing)
    assert not told.unwatched


def test_a_reboot_ends_a_takeover() -> None:
    """Its end was recorded as such, and what follows is another one."""
    events = [
        event(0, "transition", FROM="standby", TO="takeover"),
        event(1, "transition", FROM="takeover", TO="active"),
        event(50, "intent_ended"),
        event(51, "started"),
        event(90, "transition", FROM="unknown", TO="takeover"),
    ]
    first, second = story_of(events, [], BASE_S, BASE_S + 100).episodes
    assert (first.over_s, second.began_s, second.over_s) == (BASE_S + 50, BASE_S + 90, None)


@pytest.mark.parametrize(
    ("silences", "since"),
    [
        ((None, "12", "12"), "first unanswered echo"),
        (("12", None, None), "decision"),
        ((None, "12", None), "first unanswered echo, or the decision where none is recorded,"),
    ],
)
def test_the_time_to_takeover_says_from_when(silences: tuple[str | None, ...], since: str) -> None:
    """Of the takeovers that it is about: one whose services never ran, the first, is none."""
    events: list[Recorded] = []
    for at_s, silent_s in zip((0, 100, 200), silences, strict=True):
        told = {"SILENT_S": silent_s} if silent_s else {}
        events += [
            event(at_s, "verdict", SUBJECT="down", **told),
            event(at_s + 1, "transition", FROM="standby", TO="takeover"),
            event(at_s + 4, "transition", FROM="takeover", TO="active"),
            event(at_s + 30, "intent_ended"),
        ]
    del events[2]
    told_story = story_of(events, [], BASE_S, BASE_S + 300)
    assert len(told_story.episodes) == 3
    remarks = {name: remark for name, _, remark in prose.figures(told_story, "standby")}
    assert remarks["Time to takeover"] == f"from the {since} to all services running"


def test_more_answers_than_echoes_are_no_negative_loss() -> None:
    """A file may hold anything."""
    told = story_of([], [sample(60, answered=19), sample(120, answered=21)], BASE_S, BASE_S + 120)
    (path,) = told.paths
    assert [one.loss for one in path.seen] == [0.05, 0.0]
    assert path.loss == 0.0


@pytest.mark.parametrize(
    "harm",
    [
        {"length_s": float("nan")},
        {"length_s": -60.0},
        {"at_s": float("inf")},
        {"phase": 7},
        {"gaps_s": ("long",)},
        {"rtt_ms": (0.1, float("inf"), 3.0)},
        {"rtt_ms": (float("nan"), 0.2, 3.0)},
        {"answered": -3},
    ],
    ids=str,
)
def test_a_sample_that_makes_no_sense_is_left_out(harm: dict[str, Any]) -> None:
    """A file may hold anything; a plot may not."""
    told = story_of([], [sample(60), sample(120, **harm)], BASE_S, BASE_S + 180)
    assert told.samples == 1
    report.document(told, None, "", host="standby", now_s=BASE_S)


def test_words_of_a_story() -> None:
    """A loss is never rounded to nothing."""
    assert [
        prose.percent(share).replace("\N{NO-BREAK SPACE}", " ") for share in (0, 0.00001, 0.004, 1)
    ] == [
        "0 %",
        "under 0.01 %",
        "0.4 %",
        "100 %",
    ]


@pytest.mark.parametrize(
    ("fields", "what", "silent_s"),
    [
        ({"SILENT_S": "4.250"}, "verdict down: any words", 4.25),
        ({"SILENT_S": "soon"}, "verdict down: any words", None),
        ({"SILENT_S": "nan"}, "verdict down: any words", None),
        ({}, f"verdict down: {eventful_day.EVIDENCE}", 4.5),
        ({}, "verdict down: any words", None),
    ],
)
def test_a_takeover_whose_silence_is_not_told_begins_with_its_verdict(
    fields: dict[str, str], what: str, silent_s: float | None
) -> None:
    """The length of the silence is a field of the verdict, or in its sentence, or not known."""
    told = event(50, "verdict", SUBJECT="down", **fields)
    verdict = replace(told, what=what)
    begun = event(50.5, "transition", FROM="standby", TO="takeover")
    serving = event(51, "transition", FROM="takeover", TO="active")
    (one,) = story_of([verdict, begun, serving], [], BASE_S, BASE_S + 60).episodes
    assert one.to_serving_s == pytest.approx(0.5 if silent_s is None else 1.0 + silent_s)
    report.document(
        story_of([verdict, begun, serving], [], BASE_S, BASE_S + 60), None, "", host="a", now_s=0.0
    )


# The plots.


@pytest.mark.parametrize(
    "length_s", [60, 700, 1200, 4000, HOUR_S * 5, DAY_S, 7 * DAY_S, 90 * DAY_S]
)
@pytest.mark.parametrize("at_most", [5, 12])
@pytest.mark.usefixtures("berlin")
def test_times_on_the_axis_are_round_and_few(length_s: float, at_most: int) -> None:
    """Whole minutes, hours or days of local time; at least two, never too many."""
    begin_s = BASE_S + 1234.5
    ticks = plots.time_ticks(begin_s, begin_s + length_s, at_most)
    assert 2 <= len(ticks) <= at_most
    for at_s, label in ticks:
        assert begin_s <= at_s <= begin_s + length_s
        local = time.localtime(at_s)
        shown = {time.strftime(form, local) for form in ("%H:%M", "%H:%M:%S")}
        assert label in shown | {f"{local.tm_mday} {time.strftime('%b', local)}"}


@pytest.mark.parametrize("day", [(2026, 3, 29), (2026, 10, 25)], ids=["spring", "autumn"])
@pytest.mark.usefixtures("berlin")
def test_the_axis_is_right_where_the_clocks_are_changed(day: tuple[int, int, int]) -> None:
    """Every label is what a clock on the wall showed at that moment, and both zones are named."""
    begin_s = time.mktime((*day, 0, 0, 0, 0, 0, -1))
    end_s = time.mktime((*day[:2], day[2] + 1, 0, 0, 0, 0, 0, -1))
    ticks = plots.time_ticks(begin_s, end_s, 12)
    assert [label for _, label in ticks[1:-1]] == [f"{hour:02d}:00" for hour in range(3, 24, 3)]
    assert [time.strftime("%H:%M", time.localtime(at_s)) for at_s, _ in ticks[1:-1]] == [
        label for _, label in ticks[1:-1]
    ]
    assert "CET (UTC+01:00)" in prose.zone(begin_s, end_s)
    assert "CEST (UTC+02:00)" in prose.zone(begin_s, end_s)


def test_round_numbers_are_round() -> None:
    """1, 2, 5, 10 and so on, above and below."""
    assert [plots.round_up(x) for x in (0.011, 0.2, 3, 7, 10, 11)] == pytest.approx(
        [0.02, 0.2, 5, 10, 10, 20]
    )
    assert [plots.round_down(x) for x in (0.011, 0.2, 3, 7, 10)] == pytest.approx(
        [0.01, 0.2, 2, 5, 10]
    )
    assert plots.round_steps(0.1, 5) == pytest.approx([0.1, 0.2, 0.5, 1, 2, 5])


def test_thinning_loses_no_extreme() -> None:
    """One bad minute in a week is in the plot as it was, and the mean is the true mean."""
    samples = [sample(60.0 * (n + 1)) for n in range(10_080)]
    samples[5000] = sample(60.0 * 5001, answered=5, rtt_ms=(0.05, 40.0, 900.0))
    told = story_of([], samples, BASE_S, BASE_S + 7 * DAY_S)
    frame = plots.Frame(begin_s=told.begin_s, end_s=told.end_s)
    found = list(plots.columns(frame, told.paths[0].seen))
    assert len(found) <= plots.WIDE
    assert max(column.loss for column in found) == 0.75
    seen = [column.rtt_ms for column in found if column.rtt_ms]
    assert min(rtt_ms[0] for rtt_ms in seen) == 0.05
    assert max(rtt_ms[2] for rtt_ms in seen) == 900.0
    (spoiled,) = [rtt_ms for rtt_ms in seen if rtt_ms[2] == 900.0]
    rest = (
        sum(
            1
            for one in told.paths[0].seen
            if int(frame.x(one.end_s - 30)) == int(frame.x(BASE_S + 60.0 * 5001 - 30))
        )
        - 1
    )
    assert spoiled[1] == pytest.approx((40.0 * 5 + 0.2 * 20 * rest) / (5 + 20 * rest))


def test_no_line_is_drawn_where_nobody_watched() -> None:
    """Before the hole, after it, and nothing across."""
    samples = [sample(60), sample(120), sample(600), sample(660, answered=0, rtt_ms=None)]
    told = story_of([], samples, BASE_S, BASE_S + 660)
    frame = plots.Frame(begin_s=told.begin_s, end_s=told.end_s)
    runs = list(plots.runs(list(plots.columns(frame, told.paths[0].seen))))
    assert [[c.begin_s - BASE_S for c in run] for run in runs] == [[0, 60], [540]]


def test_a_restart_is_seen_in_a_week() -> None:
    """A minute is a tenth of a pixel: it is drawn wider, and in front of what lies around it."""
    samples = [sample(60.0 * (n + 1)) for n in range(10_080) if n != 5000]
    told = story_of([], samples, BASE_S, BASE_S + 7 * DAY_S)
    frame = plots.Frame(begin_s=told.begin_s, end_s=told.end_s, unwatched=told.unwatched)
    kinds = re.findall(
        r'<rect class="(\w+)[^>]* width="([\d.]+)"', plots.timeline(frame, told.phases, (), "words")
    )
    assert kinds[-1] == ("hole", "2")
    assert ("band", kinds[2][1]) in kinds


def test_every_silence_is_counted_once() -> None:
    """Also those on a round number."""
    gaps_s = [0.1, 0.2, 0.2, 0.5, 1.0, 2.31, 4.9]
    drawn = plots.histogram(gaps_s, plots.WIDE, 4.25, "silences")
    assert sum(int(n) for n in re.findall(r"<title>(\d+) from", drawn)) == len(gaps_s)
    assert "V \N{MINUS SIGN} g = 4.25 s" in drawn


# The page.


def test_what_was_recorded_is_text_and_nothing_else(paths: Paths, tmp_path: Path) -> None:
    """Sentences, evidence, phases, addresses: markup in them is shown, never obeyed."""
    record = eventful_day.write_days(paths, BASE_S)
    record.event(BASE_S + 10, "check", "ERROR", HOSTILE, EVIDENCE=f"why {HOSTILE}")
    record.transition(BASE_S + 11, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    for one in record.samples[:3]:
        one |= {"phase": HOSTILE, "verdict": HOSTILE}
        one["paths"][HOSTILE] = one["paths"][WITNESS] | {"role": HOSTILE}
    record.write()
    told = story_of(
        list(records.events(paths)), list(records.samples(paths)), BASE_S, BASE_S + DAY_S
    )
    page = report.document(told, None, HOSTILE, host=HOSTILE, now_s=BASE_S)
    assert page.count("<script>") == page.count("</script>") == 1
    assert "<img" not in page
    assert page.count("&lt;script&gt;") > 5


def test_half_a_character_does_not_stop_the_report(paths: Paths, tmp_path: Path) -> None:
    """JSON can hold what UTF-8 cannot."""
    record = eventful_day.write_days(paths, BASE_S)
    record.event(BASE_S + 10, "check", "ERROR", "half \ud83d of a character, and \x00")
    record.write()
    assert "half ? of" in page_of(
        paths, tmp_path, "--since", str_of(BASE_S), "--until", str_of(BASE_S + DAY_S)
    )


def str_of(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))


def test_a_week_is_small_and_quick(paths: Paths, tmp_path: Path) -> None:
    """10,080 samples of three addresses: under 3 MB in under 10 s."""
    eventful_day.write_days(paths, BASE_S, 7)
    began_s = time.monotonic()
    page = page_of(
        paths, tmp_path, "--since", str_of(BASE_S), "--until", str_of(BASE_S + 7 * DAY_S)
    )
    assert time.monotonic() - began_s < 10
    assert len(page.encode()) < 3_000_000
    assert page.count('<section class="episode"') == 7


def test_a_flood_of_events_costs_the_least_serious(paths: Paths, tmp_path: Path) -> None:
    """The list is bounded, keeps every error, and says what it left out."""
    record = eventful_day.Recorded(paths)
    for number in range(20_000):
        level = "ERROR" if number % 100 == 0 else "INFO"
        record.event(BASE_S + number, "check", level, f"number {number}, " + "x" * 3000)
    record.write()
    page = page_of(paths, tmp_path, "--since", str_of(BASE_S), "--until", str_of(BASE_S + DAY_S))
    assert page.count('<tr class="error') == 200
    assert page.count('<tr class="info') + 200 == report.LISTED
    assert "The 17,000 least serious events are left out" in page
    assert "(cut here)" in page
    assert len(page) < 10_000_000


def test_a_week_of_flapping_is_small(paths: Paths, tmp_path: Path) -> None:
    """As many takeovers as events.jsonl can hold, and an address that is never the same."""
    record = eventful_day.write_days(paths, BASE_S, 7)
    for number in range(6000):
        at_s = BASE_S + number * 100
        record.transition(at_s, "standby", "takeover", "the primary stopped answering", "")
        record.transition(at_s + 20, "takeover", "failback", "the primary is back", "")
        record.transition(at_s + 30, "failback", "standby", "all services are stopped here", "")
    for number, one in enumerate(record.samples):
        one["paths"][f"address {number}"] = one["paths"][WITNESS]
    record.write()
    page = page_of(
        paths, tmp_path, "--since", str_of(BASE_S), "--until", str_of(BASE_S + 7 * DAY_S)
    )
    assert len(page.encode()) < 3_000_000
    assert page.count('<section class="episode"') == report.DETAILED
    assert "more addresses are not drawn" in page


def test_an_empty_record_is_a_report_that_says_so(paths: Paths, tmp_path: Path) -> None:
    """No file at all, or nothing of this period."""
    page = page_of(paths, tmp_path)
    assert "Nothing is recorded of this period" in page
    assert "Takeovers" not in page
    eventful_day.write_days(paths, BASE_S)
    assert "Nothing is recorded of this period" in page_of(
        paths, tmp_path, "--since", "1h", "--until", str_of(BASE_S - HOUR_S)
    )


def test_one_sample_is_enough_for_a_report(paths: Paths, tmp_path: Path) -> None:
    """And torn lines around it are no obstacle."""
    record = eventful_day.write_days(paths, BASE_S)
    paths.events.unlink()
    line = json.dumps(record.samples[0])
    paths.samples.write_text(f"{line[:50]}\n{line}\n{line[:70]}")
    page = page_of(paths, tmp_path, "--since", str_of(BASE_S), "--until", str_of(BASE_S + 120))
    assert "No takeover is recorded." in page
    assert page.count("<h3>") == 3


def test_the_limit_is_today_s(paths: Paths, tmp_path: Path) -> None:
    """V - g comes from the configuration; without one the report says why it is not marked."""
    eventful_day.write_days(paths, BASE_S)
    period = ("--since", str_of(BASE_S), "--until", str_of(BASE_S + DAY_S))
    page = page_of(paths, tmp_path, *period)
    assert "V \N{MINUS SIGN} g" not in page
    assert "The configuration could not be read" in page
    (tmp_path / "config.json").write_text(json.dumps(GOOD))
    assert "V \N{MINUS SIGN} g = 4.25 s" in page_of(paths, tmp_path, *period)


# The file.


def test_the_file_is_whole_readable_and_replaced(paths: Paths, tmp_path: Path) -> None:
    """0644 whatever the umask, nothing beside it, and the old one is there until the new one is."""
    file = tmp_path / "out" / "report.html"
    file.parent.mkdir()
    file.write_text("old")
    file.chmod(0o600)
    old = os.umask(0o077)
    try:
        assert ask(paths, tmp_path, "--html", str(file)) == FINE
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [found.name for found in file.parent.iterdir()] == ["report.html"]
    assert file.read_text().endswith("</html>")


def test_what_a_link_leads_to_is_written(paths: Paths, tmp_path: Path) -> None:
    """The link stays."""
    target, link = tmp_path / "target.html", tmp_path / "link.html"
    link.symlink_to(target)
    assert ask(paths, tmp_path, "--html", str(link)) == FINE
    assert link.is_symlink()
    assert target.read_text().startswith("<!doctype html>")


def test_a_link_that_leads_to_itself_is_replaced(paths: Paths, tmp_path: Path) -> None:
    """It was no file; now it is."""
    link = tmp_path / "loop.html"
    link.symlink_to(link)
    assert ask(paths, tmp_path, "--html", str(link)) == FINE
    assert link.is_file()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "a directory"),
        ("absent/report.html", "No such file or directory"),
        ("pipe", "no regular file"),
    ],
)
def test_what_cannot_be_written_is_said(
    paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, why: str
) -> None:
    """The place is named with the reason, and nothing is replaced that is no file."""
    os.mkfifo(tmp_path / "pipe")
    assert ask(paths, tmp_path, "--html", str(tmp_path / name)) == TROUBLE
    told = capsys.readouterr().err
    assert told.startswith(f"cannot write '{tmp_path / name}': ")
    assert why in told
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk."""
    file = tmp_path / "out" / "report.html"
    file.parent.mkdir()
    file.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert ask(paths, tmp_path, "--html", str(file)) == TROUBLE
    assert [found.name for found in file.parent.iterdir()] == ["report.html"]
    assert file.read_text() == "old"


def test_a_record_that_may_not_be_read_is_not_taken_for_an_empty_one(
    paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named; a report would say that nobody watched."""
    paths.events.mkdir(parents=True)
    assert ask(paths, tmp_path, "--html", str(tmp_path / "report.html")) == TROUBLE
    assert capsys.readouterr().err == (
        f"cannot report: cannot read '{paths.events}': Is a directory\nhint: run it as root\n"
    )
    assert not (tmp_path / "report.html").exists()


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The program as its users run it."""
    words = [sys.executable, "-m", "failover_monitor", "report", *arguments]
    return subprocess.run(
        words, cwd=ROOT, text=True, check=False, stderr=subprocess.PIPE, timeout=60, **options
    )


def test_a_dash_is_standard_output() -> None:
    """The page and nothing else."""
    done = command("--html", "-", "--since", "1h", stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (FINE, SILENT)
    assert done.stdout.startswith("<!doctype html>")
    assert done.stdout.endswith("</html>")


def test_a_full_disk_behind_standard_output_is_said() -> None:
    """No traceback."""
    with Path("/dev/full").open("w") as full:
        done = command("--html", "-", stdout=full)
    assert done.returncode == TROUBLE
    assert done.stderr == "cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--since", "yesterday"], "'yesterday' is neither a length nor a time\nhint: a length"),
        (["--since", "24"], "'24' is neither"),
        (["--until", "2026-13-01"], "'2026-13-01' is neither"),
        (["--since", "0h"], "is empty"),
        (["--since", "2026-11-21 10:00", "--until", "2026-11-21 09:00"], "is empty"),
        (["--since", "999999999d"], "is too long ago"),
        (["--since", "9999-01-01"], "is empty"),
        (["--since", "1900-01-01"], "is too long ago"),
    ],
    ids=str,
)
def test_a_period_that_cannot_be_is_wrong_use(
    paths: Paths,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    why: str,
) -> None:
    """Said, with a hint, before anything is written."""
    file = tmp_path / "report.html"
    assert ask(paths, tmp_path, "--html", str(file), *arguments) == WRONG_USE
    told = capsys.readouterr().err
    assert told.startswith("cannot report: ")
    assert why in told
    assert not file.exists()


@pytest.mark.parametrize(
    "words", ["24h", "1.5d", "90m", "1d 12h", "2026-11-21", "20261121", "2026-11-21T10:00:00+01:00"]
)
def test_lengths_and_times_are_understood(words: str) -> None:
    """A length before the end, or a time in ISO 8601."""
    now_s = time.mktime((2026, 11, 22, 0, 0, 0, 0, 0, -1))
    expected = {
        "24h": now_s - DAY_S,
        "1.5d": now_s - 1.5 * DAY_S,
        "90m": now_s - 5400,
        "1d 12h": now_s - 1.5 * DAY_S,
        "2026-11-21": now_s - DAY_S,
        "20261121": now_s - DAY_S,
        "2026-11-21T10:00:00+01:00": 1_795_251_600.0,
    }
    assert report.moment_s(words, now_s) == expected[words]
