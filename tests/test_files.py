"""The few files: written whole or not at all, and never at the price of the watch.

Full and read-only disks are small tmpfs mounts in a mount namespace of a process of its own.
"""

import errno
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import failover_monitor
from failover_monitor import files
from failover_monitor.events import DEBUG, INFO, WARNING, Event, Kind
from failover_monitor.files import (
    INTENT_KEYS,
    LEFT_BYTES,
    Paths,
    Recorder,
    Writer,
    load_intent,
    locked,
    replace_file,
    take_lock,
)

ROOT = Path(failover_monitor.__file__).parent.parent
INTENT = dict.fromkeys(INTENT_KEYS, "x")


class Journal(logging.Handler):
    """Keeps what the journal would get."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path)
    for directory in (paths.log.parent, paths.state_word.parent):
        directory.mkdir(parents=True)
    return paths


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def recorder(paths: Paths, journal: Journal) -> Iterator[Recorder]:
    recorder = Recorder(paths, journal)
    yield recorder
    recorder.close()


def settle(recorder: Recorder) -> None:
    """Until the writer has done all that it was given so far."""
    done = threading.Event()
    recorder.writer.submit(done.set)
    assert done.wait(60.0)


def event(sentence: str, *, level: int = INFO) -> Event:
    return Event(Kind.VERDICT, level, sentence, {"SUBJECT": "down"})


def on_small_disk(script: str, *, size: str = "256k", options: str = "") -> str:
    """Run a script with /mnt a small disk; what it prints."""
    mount = f"mount -t tmpfs -o size={size},mode=0755 tmpfs /mnt"
    prelude = f"{mount} && mkdir -p /mnt/var/log /mnt/var/run {options}"
    done = subprocess.run(
        [
            *("unshare", "-m", "--propagation", "private"),
            *("sh", "-ec", f'{prelude}\nexec "$@"', "sh"),
            *(sys.executable, "-c", PRELUDE + script),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PRELUDE = """
import os, subprocess, sys, threading
from pathlib import Path
from failover_monitor.files import Paths, Recorder, load_intent, replace_file
from tests.test_files import INTENT, Journal, event, settle

paths, journal = Paths(Path("/mnt")), Journal()

def fill():
    with open("/mnt/ballast", "wb", buffering=0) as ballast:
        try:
            while ballast.write(b"x" * 4096): pass
        except OSError:
            pass
"""


# Small files.


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """Written beside it and renamed: old or new, whole in either case."""
    path, over, seen = tmp_path / "word", threading.Event(), set()
    replace_file(path, "a" * 3000)

    def read() -> None:
        while not over.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for k in range(300):
        replace_file(path, "ab"[k % 2] * (1000 + 2000 * (k % 2 == 0)))
    over.set()
    reader.join()
    assert seen <= {"a" * 3000, "b" * 1000}


def test_a_small_file_has_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    """0644 for what everybody may read, 0640 for the configuration."""
    before = os.umask(0o077)
    try:
        replace_file(tmp_path / "a", "x")
        replace_file(tmp_path / "b", "x", mode=0o640)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o640


def test_no_temporary_file_is_left(tmp_path: Path) -> None:
    """Also after the last process died in the middle: it is written over."""
    (tmp_path / ".word.tmp").write_text("left by a killed process, and longer than the new one")
    replace_file(tmp_path / "word", "short")
    assert [path.name for path in tmp_path.iterdir()] == ["word"]
    assert (tmp_path / "word").read_text() == "short"


def test_a_full_disk_leaves_the_old_content() -> None:
    """Half a word would be worse than an old one."""
    told = on_small_disk("""
replace_file(Path("/mnt/word"), "old")
fill()
try:
    replace_file(Path("/mnt/word"), "n" * 100_000)
except OSError as error:
    print(error.strerror)
print(Path("/mnt/word").read_text())
""")
    assert told.splitlines() == ["No space left on device", "old"]


# The recorder on disks that fail.


def test_a_full_disk_is_said_once_and_costs_lines_only() -> None:
    """In the journal; and again when there is room, and then the files are right."""
    told = on_small_disk("""
recorder = Recorder(paths, journal)
recorder.state_word("active_alive")
fill()
recorder.state_word("active_dead")
for k in range(2000):
    recorder.tell(event(f"line {k} " + "x" * 80))
recorder.intent(INTENT)
recorder.status({"big": "x" * 100_000})
recorder.status({"big": "x" * 100_000})
settle(recorder)
print(recorder.lost > 0)
print(sum("status.json: No space" in line for line in journal.lines))
print(sum("failover_monitor.log: No space" in line for line in journal.lines))
print(sum(line.startswith("line ") for line in journal.lines))
os.unlink("/mnt/ballast")
recorder.state_word("active_dead")
recorder.intent(INTENT)
recorder.tell(event("there is room again"))
settle(recorder)
print(paths.state_word.read_text().strip())
print(load_intent(paths) == INTENT)
lines = paths.log.read_text().splitlines()
print("there is room again" in paths.log.read_text(), len(lines) < 2000)
print(all("[" in line for line in lines if "room" in line))
recorder.close()
""")
    assert told.replace("\n", " ") == "True 1 1 2000 active_dead True True True True "


def test_a_read_only_disk_is_said_and_lived_with() -> None:
    """Nothing raises, and the journal gets every line."""
    told = on_small_disk(
        """
recorder = Recorder(paths, journal)
recorder.state_word("active_alive")
recorder.intent(INTENT)
recorder.tell(event("told"))
settle(recorder)
print("told" in journal.lines, recorder.lost > 0)
print(sum("Read-only file system" in line for line in journal.lines) >= 3)
print(load_intent(paths))
recorder.close()
""",
        options="&& mount -o remount,ro /mnt",
    )
    assert told.split() == ["True", "True", "True", "None"]


# The log.


def test_the_log_has_the_lines_that_operators_know(recorder: Recorder, paths: Paths) -> None:
    """`2026-11-21 04:40:33,123 [INFO] message`; what is below INFO is for --debug."""
    recorder.tell(event("it is down", level=WARNING))
    recorder.tell(event("a check", level=DEBUG))
    settle(recorder)
    line = paths.log.read_text()
    assert line.endswith(" [WARNING] it is down\n")
    time.strptime(line.split(",")[0], "%Y-%m-%d %H:%M:%S")
    assert line.count("\n") == 1


def test_debug_shows_each_check(paths: Paths, journal: Journal) -> None:
    """In the log; the history keeps what must be explained later, and not these."""
    recorder = Recorder(paths, journal, debug=True)
    recorder.tell(event("a check", level=DEBUG))
    recorder.close()
    assert paths.log.read_text().endswith(" [DEBUG] a check\n")
    assert not paths.events.exists()


@pytest.mark.parametrize("how", ["moved", "deleted"])
def test_the_log_is_opened_anew_when_it_is_gone(recorder: Recorder, paths: Paths, how: str) -> None:
    """The rotation needs no signal."""
    recorder.tell(event("first"))
    settle(recorder)
    if how == "moved":
        paths.log.rename(paths.log.with_suffix(".log.1"))
    else:
        paths.log.unlink()
    recorder.tell(event("second"))
    settle(recorder)
    assert paths.log.read_text().endswith("second\n")
    assert "first" not in paths.log.read_text()


def test_a_log_without_its_directory_is_counted_and_recovers(
    recorder: Recorder, paths: Paths, journal: Journal
) -> None:
    """Lost lines are told in the summary."""
    paths.log.parent.rename(paths.log.parent.with_name("elsewhere"))
    for k in range(5):
        recorder.tell(event(f"line {k}"))
    settle(recorder)
    settle(recorder)
    lost = recorder.lost
    assert lost >= 5
    paths.log.parent.mkdir()
    recorder.tell(event("back"))
    settle(recorder)
    settle(recorder)
    assert recorder.lost == lost
    assert "back" in paths.log.read_text()
    assert any("can be written again" in line for line in journal.lines)


# History.


def test_the_history_is_one_object_a_line(recorder: Recorder, paths: Paths) -> None:
    """With the fields of the event, as the journal gets them."""
    recorder.tell(event("it is down"))
    settle(recorder)
    told = json.loads(paths.events.read_text())
    assert (told["kind"], told["what"], told["SUBJECT"]) == ("verdict", "it is down", "down")
    assert told["at"]


def test_the_history_turns_over(
    paths: Paths, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file and its predecessor, so that it cannot fill a disk."""
    monkeypatch.setattr(files, "EVENTS_BYTES", 2000)
    recorder = Recorder(paths, journal)
    for k in range(100):
        recorder.tell(event(f"event {k}"))
    recorder.close()
    kept = sorted(path.name for path in paths.history.iterdir())
    assert kept == ["events.jsonl", "events.jsonl.1"]
    assert all((paths.history / name).stat().st_size < 2300 for name in kept)
    texts = [(paths.history / name).read_text() for name in reversed(kept)]
    numbers = [int(json.loads(line)["what"].split()[1]) for line in "".join(texts).splitlines()]
    assert numbers == list(range(numbers[0], 100))


# The state word.


def test_the_state_word_is_written_when_it_changes(recorder: Recorder, paths: Paths) -> None:
    """One word and a newline; what did not change is not written again."""
    recorder.state_word("active_alive")
    assert paths.state_word.read_text() == "active_alive\n"
    inode = paths.state_word.stat().st_ino
    recorder.state_word("active_alive")
    assert paths.state_word.stat().st_ino == inode
    recorder.state_word("unknown")
    assert paths.state_word.read_text() == "unknown\n"


def test_a_state_word_that_could_not_be_written_is_tried_again(
    recorder: Recorder, paths: Paths
) -> None:
    """With the next turn, which says the same word."""
    away = paths.state_word.parent.rename(paths.state_word.parent.with_name("away"))
    recorder.state_word("active_dead")
    away.rename(paths.state_word.parent)
    recorder.state_word("active_dead")
    assert paths.state_word.read_text() == "active_dead\n"


# Intent.


def test_the_intent_comes_back_as_it_was(recorder: Recorder, paths: Paths) -> None:
    """From /run, or after a reboot from the disk."""
    recorder.intent(INTENT)
    assert load_intent(paths) == INTENT
    settle(recorder)
    for path in list(paths.intent())[:1]:
        path.unlink()
    assert load_intent(paths) == INTENT


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", '{"phase": "active"', "null", "[]", "3", '"x"', "{}", "\0" * 200, "\xff\xfe"),
        json.dumps({"phase": "active"}),
        pytest.param("[" * 100_000, id="deeper than anybody reads"),
    ],
)
def test_an_intent_that_is_not_ours_is_none(recorder: Recorder, paths: Paths, text: str) -> None:
    """Half a file, another version: looking again loses nothing."""
    for path in paths.intent():
        path.write_bytes(text.encode("latin-1"))
    assert load_intent(paths) is None


@pytest.mark.parametrize("full", [0, 1], ids=["run", "disk"])
def test_the_copy_that_a_full_file_system_left_behind_is_not_believed(
    recorder: Recorder, paths: Paths, monkeypatch: pytest.MonkeyPatch, full: int
) -> None:
    """It says that nothing of ours runs here: nobody would ever stop it."""
    recorder.intent({**INTENT, "phase": "standby"})
    settle(recorder)
    left, write = list(paths.intent())[full], files.replace_file

    def full_there(path: Path, text: str, **options: Any) -> None:
        if path == left:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, text, **options)

    monkeypatch.setattr(files, "replace_file", full_there)
    recorder.intent({**INTENT, "phase": "active"})
    settle(recorder)
    assert json.loads(left.read_text())["phase"] == "standby"
    assert load_intent(paths) == {**INTENT, "phase": "active"}


def test_a_file_that_does_not_fit_leaves_nothing_behind() -> None:
    """The old content stays, and no half of the new one takes the last room."""
    told = on_small_disk("""
path = Path("/mnt/word")
replace_file(path, "old")
fill()
for _ in range(2):
    try:
        replace_file(path, "new" * 100_000)
    except OSError as error:
        print(error.strerror)
print(path.read_text(), sorted(os.listdir("/mnt")))
""")
    assert told.splitlines() == ["No space left on device"] * 2 + ["old ['ballast', 'var', 'word']"]


def test_an_intent_of_a_newer_version_is_ours(recorder: Recorder, paths: Paths) -> None:
    """It knows more than we ask for: a step back must not forget that we serve."""
    recorder.intent({**INTENT, "more": 1})
    assert load_intent(paths) == {**INTENT, "more": 1}


def test_who_may_only_read_cannot_take_the_lock(paths: Paths) -> None:
    """flock(2) needs no more than an open file: nobody else may open this one."""
    lock = take_lock(paths.lock)
    assert lock is not None
    assert paths.lock.stat().st_mode & 0o777 == 0o600
    os.close(lock)


def test_no_intent_at_all(paths: Paths) -> None:
    """The first start on this host."""
    assert load_intent(paths) is None


# What others on this host go by.


def test_a_flag_is_raised_and_lowered(recorder: Recorder, paths: Paths) -> None:
    """Once is enough; what cannot be written costs a line, not the watch."""
    for raised in (True, True, False, False, True):
        recorder.flag(paths.permit, raised=raised)
        assert paths.permit.exists() is raised
    inode = paths.permit.stat().st_ino
    recorder.flag(paths.permit, raised=True)
    assert paths.permit.stat().st_ino == inode
    recorder.flag(paths.run / "missing" / "flag", raised=True)
    recorder.flag(paths.run / "missing" / "flag", raised=False)


def test_the_time_to_serve_comes_back_to_the_microsecond(recorder: Recorder, paths: Paths) -> None:
    """A killed guard goes on with the deadline that it had."""
    assert recorder.kept_time() is None
    recorder.keep_time(12345.678901234)
    assert recorder.kept_time() == 12345.678901234
    paths.serve_until.write_text("12345.6789 s")
    assert recorder.kept_time() is None


def test_the_drop_ins_are_where_they_are_installed() -> None:
    """Those of install.sh: ours, and a gate for each service that a primary holds back."""
    own, *gates = Paths().drop_ins(["a.service", "b.timer"])
    script = (ROOT / "install.sh").read_text()
    assert own == Path("/etc/systemd/system/failover-monitor.service.d/50-guard.conf")
    assert gates == [
        Path(f"/etc/systemd/system/{unit}.d/50-failover-monitor-gate.conf")
        for unit in ("a.service", "b.timer")
    ]
    assert {own.name, gates[0].name} <= {word.strip('"') for word in re.split(r"[/=\s]", script)}


# The writer.


def test_a_hanging_disk_never_blocks_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What finds no room in the queue is dropped and counted; the rest is done in order."""
    monkeypatch.setattr(files, "QUEUE_LINES", 10)
    writer, hangs, done = Writer(), threading.Event(), []
    writer.submit(hangs.wait)
    begun_s = time.monotonic()
    for k in range(1000):
        writer.submit(lambda k=k: done.append(k))  # type: ignore[misc]
    writer.close(timeout_s=0.1)
    assert time.monotonic() - begun_s < 1.0
    assert 980 < writer.lost < 1000
    hangs.set()
    end_s = time.monotonic() + 5.0
    while len(done) < 1000 - writer.lost and time.monotonic() < end_s:
        time.sleep(0.01)
    assert len(done) == 1000 - writer.lost
    assert done == sorted(done)


def test_a_job_that_fails_does_not_end_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug in one line must not cost all later ones."""
    writer, done = Writer(), []
    writer.submit(lambda: 1 // 0)
    writer.submit(lambda: done.append(1))
    writer.close(timeout_s=5.0)
    assert (writer.lost, done) == (1, [1])
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_closing_waits_for_what_was_given(recorder: Recorder, paths: Paths) -> None:
    """The last lines of a monitor are the ones that are read."""
    for k in range(500):
        recorder.tell(event(f"line {k}"))
    recorder.close()
    assert paths.log.read_text().endswith("line 499\n")


# The lock.


def test_the_lock_is_taken_once(paths: Paths) -> None:
    """And is free again when its holder is gone, however it went."""
    assert not locked(paths.lock)
    held = take_lock(paths.lock)
    assert held is not None
    assert locked(paths.lock)
    assert take_lock(paths.lock) is None
    os.close(held)
    assert not locked(paths.lock)
    again = take_lock(paths.lock)
    assert again is not None
    os.close(again)


def test_asking_about_the_lock_does_not_keep_a_monitor_from_starting(paths: Paths) -> None:
    """`status` in a tight loop holds it for instants only."""
    over, asked = threading.Event(), []

    def ask() -> None:
        while not over.is_set():
            asked.append(locked(paths.lock))

    take = take_lock(paths.lock)
    assert take is not None
    os.close(take)
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    taken: list[Any] = []
    for _ in range(20):
        taken.append(take_lock(paths.lock))
        if taken[-1] is not None:
            os.close(taken[-1])
    over.set()
    asking.join()
    assert None not in taken
    assert asked


def test_the_lock_is_not_inherited(paths: Paths) -> None:
    """A child that outlives us must not look like a monitor that watches."""
    held = take_lock(paths.lock)
    assert held is not None
    child = subprocess.Popen(["sleep", "30"], close_fds=False)
    os.close(held)
    try:
        assert not locked(paths.lock)
    finally:
        child.kill()
        child.wait()


# What an operator leaves.


def test_a_request_is_taken_once(recorder: Recorder, paths: Paths) -> None:
    """Whoever looks next finds nothing."""
    assert recorder.take_request("takeover") is None
    paths.request("takeover").write_text("now")
    assert recorder.take_request("takeover") == "now"
    assert recorder.take_request("takeover") is None


def test_a_request_that_cannot_be_removed_is_not_taken(recorder: Recorder, paths: Paths) -> None:
    """It would be taken again in every turn."""
    paths.request("ack").mkdir()
    assert recorder.take_request("ack") is None


def test_a_pipe_or_a_flood_makes_no_turn_wait(recorder: Recorder, paths: Paths) -> None:
    """In the place of a request or a pause: nothing, or its beginning; and it can be removed."""
    os.mkfifo(paths.request("takeover"))
    assert recorder.take_request("takeover") == ""
    assert not paths.request("takeover").exists()
    with paths.request("failback").open("wb") as flood:
        flood.truncate(1 << 33)
    assert recorder.take_request("failback") == "\0" * LEFT_BYTES
    volatile, _ = paths.pause()
    os.mkfifo(volatile)
    assert recorder.pause_text() == ""
    recorder.end_pause()
    assert not volatile.exists()


def test_a_pause_is_read_again_only_when_it_is_another(recorder: Recorder, paths: Paths) -> None:
    """One `stat` a turn is all it costs."""
    volatile, _ = paths.pause()
    assert recorder.pause_text() is None
    replace_file(volatile, "first")
    assert recorder.pause_text() == "first"
    volatile.chmod(0o600)
    assert recorder.pause_text() == "first"
    replace_file(volatile, "other")
    assert recorder.pause_text() == "other"
    volatile.unlink()
    assert recorder.pause_text() is None


def test_a_pause_comes_back_after_a_reboot(recorder: Recorder, paths: Paths) -> None:
    """/run is empty then; what holds already is not touched."""
    lasting = paths.pause()[1]
    recorder.recall_pause()
    assert recorder.pause_text() is None
    lasting.write_text("until noon")
    recorder.recall_pause()
    assert recorder.pause_text() == "until noon"
    lasting.write_text("an older one")
    recorder.recall_pause()
    assert recorder.pause_text() == "until noon"


def test_the_end_of_a_pause_removes_both_files(recorder: Recorder, paths: Paths) -> None:
    """But not the next pause, which somebody has begun meanwhile."""
    volatile, lasting = paths.pause()
    for text in ("first", "first, in both"):
        volatile.write_text(text)
        lasting.write_text(text)
        recorder.pause_text()
        recorder.end_pause()
        settle(recorder)
        assert not volatile.exists()
        assert not lasting.exists()
    volatile.write_text("first")
    recorder.pause_text()
    for path in (volatile, lasting):
        replace_file(path, "the next one")
    recorder.end_pause()
    settle(recorder)
    assert recorder.pause_text() == lasting.read_text() == "the next one"


def test_a_full_disk_keeps_no_pause() -> None:
    """The command says so, exits with 1, and what held before still does."""
    told = on_small_disk("""
import argparse
from failover_monitor.console import control
for directory in (paths.run, paths.history):
    directory.mkdir(parents=True)
fill()
options = argparse.Namespace(paths=paths, span="1h", reason="new disk")
sys.stderr = sys.stdout
print(control.pause(options), [path.exists() for path in paths.pause()])
""")
    refused, ended = told.splitlines()
    place = "/mnt/var/lib/failover-monitor/pause.json"
    assert refused == f"cannot pause: {place}: No space left on device; nothing has changed"
    assert ended == "1 [False, False]"
