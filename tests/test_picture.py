"""The picture of the last hour: every column shows what was recorded in it, and nothing else."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from failover_monitor import cli
from failover_monitor.console.picture import ASCII, COLUMNS, Window, drawn
from failover_monitor.console.records import Sample, samples
from failover_monitor.files import Paths
from tests.recorded import (
    BASE_S,
    GATEWAY,
    PRIMARY,
    Minute,
    as_a_user,
    at,
    back,
    on_a_terminal,
    record,
    record_minutes,
    room,
    silent,
    story,
)
from tests.world import policy_of

FINE, WRONG_USE, NOT_RUNNING = 0, 2, 3
HOUR_S = 3600.0
GOLDEN = """\
2026-11-21 03:00:00 to 2026-11-21 04:00:00 UTC, one column is 60 s

primary 198.51.100.2: 6.18 % of 1100 echoes lost; longest round trip 1.78 ms
mean   0.89 ms │                                        ▁▂▂▂▃     ▅▅▅▆▆▇▇▇██
               │                ▁▁▁▂▂▂▃▃▃ ▄▄▅▅▆▆▆▇▇▇██  █████     ██████████
               │▃▃▄▄▄▅▅▅▆▆▆▇▇▇███████████ ████████████  █████     ██████████
          0 ms │█████████████████████████x████████████xx█████     ██████████
loss   0-100 % │···········▁▁▁▁··········█············██·····     ··········

reference 198.51.100.1: 3.64 % of 1100 echoes lost; longest round trip 0.6 ms
mean    0.3 ms │██████████████████████████████████████  █████     ██████████
               │██████████████████████████████████████  █████     ██████████
               │██████████████████████████████████████  █████     ██████████
          0 ms │██████████████████████████████████████xx█████     ██████████
loss   0-100 % │······································██·····     ··········

phase          │?ssssssssssssssssssssssssTFsssssssssss???ssss     ssssssssss
verdict        │uuuuuuuuuuuuuuuuuuuuuuuuuDDuuuuuuuuuuu???uuuu     uuuuuuuuuu
events         │1                        23           4 5
                +---------+---------+---------+---------+---------+---------
                03:00     03:10     03:20     03:30     03:40     03:50

phase    T takeover, F failback, ? unknown, s standby
verdict  D down, ? unknown, u up
loss     · none, █ all
echoes   x no answer at all; blank: nobody watched
1 03:00:00 verdict up: 198.51.100.2 answered
1 03:00:00 unknown -> standby: the primary answers
2 03:25:16 verdict down: 3 checks in a row failed: 18 echo rounds in 4.50...
2 03:25:16 standby -> takeover: the primary stopped answering
2 03:25:16 takeover -> active: all services run here
3 03:26:40 verdict up: 198.51.100.2 answered
3 03:26:40 active -> failback: the primary is back
3 03:26:40 failback -> standby: all services are stopped here
4 03:38:54 verdict unknown: no reference answered in 1.5 s
4 03:38:54 standby -> unknown: no verdict on the primary any more
5 03:40:30 verdict up: 198.51.100.2 answered
5 03:40:30 unknown -> standby: the primary answers
"""


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paths]:
    """Ten seconds after 04:00."""
    at(monkeypatch, HOUR_S + 10)
    yield from room(tmp_path, monkeypatch)


@pytest.fixture
def hour(paths: Paths) -> Paths:
    """A slower and slower primary, some loss, a takeover, an isolation, and five minutes unseen."""
    world = story(
        policy_of(interval_s=3.0, retry_interval_s=1.5),
        (1510, silent(PRIMARY)),
        (1600, back(PRIMARY)),
        (2330, silent(PRIMARY, GATEWAY)),
        (2430, back(PRIMARY, GATEWAY)),
        end_s=HOUR_S,
    )
    record(paths, world)
    minutes: list[Minute | None] = [
        Minute(rtt_ms={PRIMARY: 0.3 + 0.01 * n}, loss={PRIMARY: 0.1 if 10 < n < 15 else 0})
        for n in range(COLUMNS)
    ]
    minutes[25] = Minute(loss={PRIMARY: 1.0}, phase="active", verdict="down")
    for n in (38, 39):
        lost = {PRIMARY: 1.0, GATEWAY: 1.0}
        minutes[n] = Minute(loss=lost, phase="unknown", verdict="unknown")
    minutes[45:50] = [None] * 5
    record_minutes(paths, minutes)
    return paths


def test_an_hour_is_one_picture(hour: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """Round trips, loss, phase, verdict and events over one axis; blank where nobody watched."""
    assert cli.main(["picture"]) == FINE
    assert capsys.readouterr().out == GOLDEN


def test_eighty_columns_are_enough(hour: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the span of time."""
    for hours in ("0.1", "1", "24", "200"):
        assert cli.main(["picture", "--hours", hours]) == FINE
        assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= 80


def test_where_there_are_no_blocks_ascii_is_used(
    hour: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same picture for a terminal of another age; piped has no colours."""
    found = list(samples(hour))
    window = Window(begin_s=BASE_S, end_s=BASE_S + HOUR_S)
    text = "\n".join("".join(t for t, _ in line) for line in drawn(found, [], window, ASCII))
    assert text.isascii()
    assert "|...........----......" not in text
    assert "|##################################" in text
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = as_a_user(tmp_path, "picture", "--hours", "876")
    assert (done.returncode, done.stdout.isascii()) == (FINE, True)
    assert "\x1b" not in done.stdout
    assert done.stderr.endswith("[]\n")


def test_colours_are_for_terminals(hour: Paths, tmp_path: Path) -> None:
    """A takeover is red there."""
    shown = on_a_terminal(tmp_path, "picture", "--hours", "876")
    assert "\x1b[" in shown
    assert "198.51.100.2" in shown


# What a column shows.


def sample(begin_s: float, length_s: float = 60.0) -> Sample:
    return Sample(
        at_s=begin_s + length_s,
        length_s=length_s,
        phase="standby",
        verdict="up",
        paths={},
        gaps_s=(),
    )


@pytest.mark.parametrize("phase_s", [0.0, 0.5, 29.9, 30.0, 30.1, 59.5])
@pytest.mark.parametrize("length_s", [60.0, 60.4, 63.0])
def test_samples_without_a_gap_leave_no_column_out(phase_s: float, length_s: float) -> None:
    """However they lie on the columns, and though each is a little late."""
    window = Window(begin_s=BASE_S, end_s=BASE_S + HOUR_S)
    seen: set[int] = set()
    begin_s = BASE_S - phase_s
    while begin_s < BASE_S + HOUR_S:
        seen.update(window.columns_of(sample(begin_s, length_s)))
        begin_s += length_s
    assert seen == set(range(COLUMNS))


def test_a_gap_of_two_minutes_is_seen(paths: Paths) -> None:
    """Wherever it begins."""
    window = Window(begin_s=BASE_S, end_s=BASE_S + HOUR_S)
    for phase_s in range(0, 60, 7):
        minutes = [n for n in range(-1, COLUMNS + 1) if n not in (30, 31)]
        found = {c for n in minutes for c in window.columns_of(sample(BASE_S + 60 * n + phase_s))}
        assert len(found) in (COLUMNS - 2, COLUMNS - 1)
        assert found < set(range(COLUMNS))


def test_many_samples_make_one_column_and_one_sample_makes_many() -> None:
    """A day has 24 minutes a column; six minutes have ten columns a minute."""
    day = Window(begin_s=BASE_S, end_s=BASE_S + 24 * HOUR_S)
    assert [list(day.columns_of(sample(BASE_S + 60 * n))) for n in (0, 23, 24)] == [[0], [0], [1]]
    brief = Window(begin_s=BASE_S, end_s=BASE_S + 360)
    assert list(brief.columns_of(sample(BASE_S + 60))) == list(range(10, 20))


def test_the_minute_that_is_not_over_is_no_gap(
    hour: Paths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture ends with the newest sample; when that is old, with now."""
    at(monkeypatch, HOUR_S + 59)
    assert cli.main(["picture"]) == FINE
    assert capsys.readouterr().out == GOLDEN
    at(monkeypatch, HOUR_S + 600)
    assert cli.main(["picture"]) == FINE
    told = capsys.readouterr().out
    assert "03:10:00 to 2026-11-21 04:10:00 UTC" in told
    [verdicts] = [line for line in told.splitlines() if line.startswith("verdict        ")]
    assert len(verdicts) == 16 + 50, "ten minutes that nobody watched"


def test_what_happened_after_the_newest_sample_is_in_the_last_column(
    hour: Paths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A takeover of this very minute is in the picture."""
    at(monkeypatch, HOUR_S + 50)
    world = story(policy_of(retry_interval_s=1.5), (3640, silent(PRIMARY)), end_s=3660)
    record(hour, world)
    assert cli.main(["picture"]) == FINE
    told = capsys.readouterr().out
    [phases] = [line for line in told.splitlines() if line.startswith("phase          ")]
    assert phases.endswith("T")


def test_many_events_leave_the_newest(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """And say where the others are."""
    script = [(100.0 * n, (silent if n % 2 else back)(PRIMARY)) for n in range(1, 20)]
    record(paths, story(policy_of(retry_interval_s=1.5), *script, end_s=2100))
    record_minutes(paths, [Minute()] * COLUMNS)
    assert cli.main(["picture"]) == FINE
    told = capsys.readouterr().out.splitlines()
    assert "more before these, see: failover-monitor history" in told[-13]
    assert told[-1].endswith("takeover -> active: all services run here")


# Where there is nothing to draw.


def test_no_samples_are_said_plainly(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """An older version has left none."""
    assert cli.main(["picture"]) == NOT_RUNNING
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"cannot draw a picture: {paths.samples}: No such file")


def test_an_hour_in_which_nobody_watched_is_blank(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last sample is of yesterday."""
    record_minutes(paths, [Minute()] * 10, begin_s=-86_400.0)
    assert cli.main(["picture"]) == FINE
    told = capsys.readouterr().out
    assert "198.51.100" not in told
    assert "phase          │\n" in told


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf", "1e9"])
def test_hours_that_make_no_sense(
    hour: Paths, capsys: pytest.CaptureFixture[str], hours: str
) -> None:
    """Are refused."""
    assert cli.main(["picture", f"--hours={hours}"]) == WRONG_USE
    assert "--hours must be above 0" in capsys.readouterr().err


def test_a_loss_that_is_not_zero_never_looks_like_zero(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five of thousands; and an address that never answers has no round trip at all."""
    minutes = [Minute(sent=600, loss={GATEWAY: 1.0}) for _ in range(COLUMNS)]
    minutes[7].loss[PRIMARY] = 5 / 600
    record_minutes(paths, minutes)
    assert cli.main(["picture"]) == FINE
    told = capsys.readouterr().out
    assert f"primary {PRIMARY}: 0.01 % of 36000 echoes lost; longest round trip 0.6 ms" in told
    assert f"reference {GATEWAY}: 100 % of 36000 echoes lost; no answer" in told


def test_torn_samples_are_left_out(hour: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """The picture is of the others."""
    path = '{"role": "primary", "sent": 1, "answered": 1, "rtt_ms": [1]}'
    odd = ['{"at_s": 1', '{"at_s": 1795230060}', "{}", "[]"]
    odd.append(
        f'{{"at_s": 1795230060, "length_s": 60, "phase": "standby", "verdict": "up",'
        f' "paths": {{"198.51.100.2": {path}}}, "gaps_s": []}}'
    )
    hour.samples.write_text("\n".join([*odd, hour.samples.read_text()]))
    assert cli.main(["picture"]) == FINE
    told = capsys.readouterr()
    assert told.out == GOLDEN
    assert "torn lines, left out: 2" in told.err


def test_numbers_that_no_machine_holds_are_left_out(
    hour: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are valid JSON, and not what was measured."""
    before = hour.samples.read_text()
    whole = json.loads(before.splitlines()[0])
    path = whole["paths"][PRIMARY]
    odd = [
        whole | {"at_s": 10**400},
        whole | {"paths": {PRIMARY: path | {"sent": float("inf")}}},
        whole | {"paths": {PRIMARY: path | {"rtt_ms": [10**400, 1, 1]}}},
    ]
    hour.samples.write_text(before + "".join(f"{json.dumps(line)}\n" for line in odd))
    assert cli.main(["picture"]) == FINE
    assert capsys.readouterr().out == GOLDEN


def test_a_reader_that_has_gone_is_no_traceback(hour: Paths, tmp_path: Path) -> None:
    """`failover-monitor picture | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = as_a_user(tmp_path, "picture", stdout=writer)
    os.close(writer)
    assert "Traceback" not in done.stderr
