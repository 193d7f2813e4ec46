"""The history: what has happened, as people and programs read it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from failover_monitor import cli
from failover_monitor.console.lines import span_s
from failover_monitor.files import Paths, take_lock
from tests.recorded import (
    BASE_S,
    PRIMARY,
    as_a_user,
    at,
    back,
    on_a_terminal,
    record,
    room,
    silent,
    story,
    write,
)
from tests.world import policy_of

FINE, TROUBLE, WRONG_USE, NOT_RUNNING = 0, 1, 2, 3
NOTE = "note: failover-monitor is not running, nobody watches now\n"


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paths]:
    yield from room(tmp_path, monkeypatch)


@pytest.fixture
def recorded(paths: Paths) -> Paths:
    """A takeover at 03:00:16 and the failback at 03:01:40."""
    policy = policy_of(interval_s=3.0, retry_interval_s=1.5)
    record(paths, story(policy, (10, silent(PRIMARY)), (100, back(PRIMARY)), end_s=130))
    return paths


def test_the_newest_event_comes_last(recorded: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each: local time, level, sentence."""
    assert cli.main(["history", "-n", "3"]) == FINE
    told = capsys.readouterr()
    assert told.out == (
        "2026-11-21 03:01:40.501  INFO      stop app.service\n"
        "2026-11-21 03:01:40.521  INFO      app.service is stopped\n"
        "2026-11-21 03:01:40.521  WARNING   failback -> standby: all services are stopped here\n"
    )
    assert told.err == NOTE


@pytest.mark.parametrize("words", [("history",), ("why",), ("report", "--html", "-")])
def test_the_record_of_a_dry_run_is_read_apart(
    paths: Paths, capfdbinary: pytest.CaptureFixture[bytes], words: tuple[str, ...]
) -> None:
    """And who does not run is named."""
    policy = policy_of(interval_s=3.0, retry_interval_s=1.5)
    record(paths.dry_run, story(policy, (10, silent(PRIMARY)), end_s=30))
    assert cli.main([*words, "--dry-run"]) == FINE
    told = capfdbinary.readouterr()
    assert b"the primary stopped answering" in told.out
    if words[0] == "history":
        assert told.err == b"note: the dry run is not running, nobody watches now\n"
    cli.main(list(words))
    assert b"the primary stopped answering" not in capfdbinary.readouterr().out


def test_twenty_events_are_shown_unless_more_are_asked_for(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last ones; `--since` shows all since then."""
    lines = ({"at_s": BASE_S + n, "kind": "summary", "what": f"number {n}"} for n in range(50))
    write(paths.events, lines)
    for words, first, count in (([], 30, 20), (["-n", "2"], 48, 2), (["-n", "99"], 0, 50)):
        assert cli.main(["history", *words]) == FINE
        told = capsys.readouterr().out.splitlines()
        assert (len(told), told[0].split()[-1]) == (count, str(first))
        assert told[-1].endswith("number 49")


@pytest.mark.parametrize(("span", "count"), [("30s", 31), ("1m", 50), ("30s 5sec", 36), ("7d", 50)])
def test_since_is_a_span_as_systemd_reads_it(
    paths: Paths,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    span: str,
    count: int,
) -> None:
    """Counted back from now."""
    lines = ({"at_s": BASE_S + n, "kind": "summary", "what": f"number {n}"} for n in range(50))
    write(paths.events, lines)
    at(monkeypatch, 49)
    assert cli.main(["history", "--since", span]) == FINE
    assert len(capsys.readouterr().out.splitlines()) == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("90", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800), ("1w", 604_800)),
        *(("2h 30min", 9000), ("1h30m", 5400), ("1.5h", 5400), (" 5 minutes ", 300)),
    ],
)
def test_spans_of_time(text: str, seconds: float) -> None:
    """The words of systemd.time(7) that people use."""
    assert span_s(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "2x", "-2h", "2h ago", "1h,", "nan", "1e5s"])
def test_what_is_no_span_is_refused(
    recorded: Paths, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """With what would be right; wrong use is 2."""
    assert cli.main(["history", f"--since={text}"]) == WRONG_USE
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == (
        f"cannot show the history: --since {text!r} is no span of time\n"
        "hint: such as 30m, 2h, 7d or '1h 30min'\n"
    )


def test_a_level_shows_it_and_what_is_more_serious(
    recorded: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--level warning` leaves out what is only worth knowing."""
    assert cli.main(["history", "--level", "warning"]) == FINE
    told = capsys.readouterr().out.splitlines()
    assert [line.split("  ", 2)[2].strip().split(":")[0] for line in told] == [
        "verdict down",
        "standby -> takeover",
        "takeover -> active",
        "active -> failback",
        "failback -> standby",
    ]
    assert cli.main(["history", "--level", "error"]) == FINE
    told_now = capsys.readouterr()
    assert told_now.out == ""
    assert "nothing like that was recorded" in told_now.err


@pytest.mark.parametrize(
    "words", [("-n", "0"), ("-n", "-3"), ("-n", "x"), ("-n", "9" * 20), ("--level", "loud")]
)
def test_wrong_use(recorded: Paths, words: tuple[str, ...]) -> None:
    """Is refused by the parser."""
    with pytest.raises(SystemExit) as end:
        cli.main(["history", *words])
    assert end.value.code == WRONG_USE


def test_programs_get_the_events_with_their_fields(
    recorded: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list, oldest first; the fields are those of the journal."""
    assert cli.main(["history", "--json", "-n", "1"]) == FINE
    [event] = json.loads(capsys.readouterr().out)
    assert event["at"] == "2026-11-21T03:01:40+0000"
    assert event["at_s"] == BASE_S + 100.521
    assert (event["kind"], event["level"]) == ("transition", "WARNING")
    assert event["fields"]["WHEN"] == "all_at_rest"
    assert event["fields"]["TO"] == "standby"


def test_what_was_turned_over_is_history_too(
    recorded: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record and its predecessor are one."""
    recorded.events.rename(recorded.events.with_suffix(".jsonl.1"))
    write(recorded.events, [{"at_s": BASE_S + 200, "kind": "summary", "what": "the newest"}])
    assert cli.main(["history", "-n", "2"]) == FINE
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("failback -> standby: all services are stopped here")
    assert told[1].endswith("the newest")


def test_torn_lines_are_left_out_and_said(
    recorded: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk has left half a line and a line of nothing; foreign values hurt nobody."""
    text = recorded.events.read_text()
    odd = ['{"at_s": 1e999, "kind": "x", "what": "y"}', '{"at_s": NaN, "kind": 5, "what": []}']
    odd.append(f'{{"at_s": {"9" * 400}, "kind": "x", "what": "y"}}')
    torn = ['{"at": "20', "\0\0\0", "[" * 2000, "[1]"]
    recorded.events.write_text("\n".join([*torn, *odd, text]))
    assert cli.main(["history", "-n", "99"]) == FINE
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == len(text.splitlines())
    assert told.out.endswith("failback -> standby: all services are stopped here\n")
    assert told.err == f"note: {recorded.events}: torn lines, left out: 4\n{NOTE}"


@pytest.mark.parametrize("text", [None, "", '{"at_s": 17'])
@pytest.mark.parametrize("command", ["history", "why"])
def test_no_history_at_all_is_said_plainly(
    paths: Paths, capsys: pytest.CaptureFixture[str], text: str | None, command: str
) -> None:
    """3 while nobody watches, 1 where somebody does."""
    if text is not None:
        paths.events.write_text(text)
    why = {
        None: f"{paths.events}: No such file or directory",
        "": f"{paths.events} is empty",
    }.get(text, f"{paths.events}: torn lines, left out: 1")
    assert cli.main([command]) == NOT_RUNNING
    told = capsys.readouterr()
    assert told.out == ""
    assert f": {why}\nhint: systemctl start failover-monitor\n" in told.err
    lock = take_lock(paths.lock)
    assert lock is not None
    assert cli.main([command]) == TROUBLE
    os.close(lock)
    told_again = capsys.readouterr().err
    assert f": {why}\nhint: the monitor runs, and writes it down" in told_again
    assert "systemctl start" not in told_again


@pytest.mark.parametrize("command", ["history", "why"])
def test_the_record_of_a_dry_run_is_its_own(
    paths: Paths, recorded: Paths, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """With --dry-run the monitor's record is not read, and the dry run's is."""
    assert cli.main([command, "--dry-run"]) == NOT_RUNNING
    assert str(paths.dry_run.events) in capsys.readouterr().err
    paths.dry_run.history.mkdir(parents=True)
    recorded.events.rename(paths.dry_run.events)
    assert cli.main([command, "--dry-run"]) == FINE
    assert "all services are stopped here" in capsys.readouterr().out
    assert cli.main([command]) == NOT_RUNNING


def test_nothing_is_noted_while_somebody_watches(
    recorded: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record is complete, the monitor runs."""
    lock = take_lock(recorded.lock)
    assert lock is not None
    assert cli.main(["history"]) == FINE
    os.close(lock)
    assert capsys.readouterr().err == ""


def test_a_sentence_cannot_command_the_terminal(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """A service check repeats what a foreign host has said."""
    write(paths.events, [{"at_s": BASE_S, "kind": "x", "what": "bad\x1b[2J\nworse\u202e"}])
    assert cli.main(["history"]) == FINE
    assert capsys.readouterr().out.endswith("bad?[2J worse?\n")


@pytest.mark.parametrize("command", ["history", "why"])
def test_colours_are_for_terminals(recorded: Paths, tmp_path: Path, command: str) -> None:
    """Piped is plain, and does not even load the library for it."""
    piped = as_a_user(tmp_path, command)
    assert (piped.returncode, "\x1b" in piped.stdout) == (FINE, False)
    assert piped.stderr.endswith("[]\n")
    shown = on_a_terminal(tmp_path, command)
    assert "\x1b[" in shown
    assert "all services are stopped here" in shown


@pytest.mark.parametrize("command", ["history", "why"])
def test_a_reader_that_has_gone_is_no_traceback(
    recorded: Paths, tmp_path: Path, command: str
) -> None:
    """`failover-monitor history | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = as_a_user(tmp_path, command, stdout=writer)
    os.close(writer)
    assert done.returncode == TROUBLE
    assert "Traceback" not in done.stderr
