"""Commands in bad surroundings: without rights, without room, without a reader, from another time.

Rule: each is a clear error with the right exit status, and never a traceback.  The program runs in
processes of its own, below a directory of the test's; nothing is sent.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import failover_monitor
from failover_monitor.files import Paths, take_lock
from failover_monitor.model import Phase, Verdict
from tests.test_cli import GOOD, leave_status

FINE, TROUBLE, WRONG_USE, NOT_RUNNING, INTERRUPTED, BAD_CONFIG = 0, 1, 2, 3, 130, 78
ROOT = Path(failover_monitor.__file__).parent.parent
NOBODY = "65534"
PROGRAM = """
import sys
from pathlib import Path
from failover_monitor import cli
from failover_monitor.files import Paths
cli.PATHS = Paths(Path(sys.argv[1]))
sys.exit(cli.main(sys.argv[2:]))
"""
COMMANDS = (
    ("check",),
    ("status",),
    ("status", "--json"),
    ("explain",),
    ("explain", "--guard", "--mermaid"),
    ("failback",),
    ("ack",),
    ("doctor",),
    ("doctor", "--json"),
    ("run",),
)
# Where a command has something to do: what the monitor last wrote.
WHILE: dict[str, dict[str, Any]] = {
    "failback": {"phase": Phase.ACTIVE, "verdict": Verdict.UP},
    "ack": {"flapping": True},
}


@pytest.fixture
def place() -> Iterator[Paths]:
    """A root directory that everybody may look into."""
    directory = Path(tempfile.mkdtemp(prefix="failover-monitor-"))
    directory.chmod(0o755)
    paths = Paths(directory)
    paths.run.mkdir(parents=True)
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text("{")  # nothing is ever looked at on this machine's network
    yield paths
    shutil.rmtree(directory)


@pytest.fixture
def watched(place: Paths) -> Iterator[Paths]:
    """A monitor holds the lock."""
    lock = take_lock(place.lock)
    assert lock is not None
    yield place
    os.close(lock)


def words_of(paths: Paths, *words: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(paths.root), *words]


def run(
    paths: Paths, *words: str, before: tuple[str, ...] = (), **options: Any
) -> subprocess.CompletedProcess[str]:
    """The program, below another root; `before`: words that run it in other surroundings."""
    given: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60, "cwd": ROOT}
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [*before, *words_of(paths, *words)], check=False, **given | options
    )
    told = f"{done.stdout}{done.stderr}"
    assert "Traceback" not in told
    assert "Exception ignored" not in told
    return done


def as_nobody(paths: Paths, *words: str) -> subprocess.CompletedProcess[str]:
    drop = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    return run(paths, *words, before=(*drop, "--"))


# Without rights.


def test_everybody_may_see_the_status(watched: Paths) -> None:
    """It is no secret; who may not look at the lock goes by the age."""
    leave_status(watched)
    done = as_nobody(watched, "status")
    assert (done.returncode, done.stderr) == (FINE, "")
    assert "phase       standby" in done.stdout
    assert as_nobody(watched, "status", "--json").returncode == FINE
    watched.status.chmod(0o600)
    assert as_nobody(watched, "status").returncode == NOT_RUNNING


def test_a_configuration_that_may_not_be_read(place: Paths) -> None:
    """Is a bad one, for `check` and for `doctor`: root's file is root's business."""
    place.config.write_text(json.dumps(GOOD))
    place.config.chmod(0o640)
    for words in (("check",), ("check", "--json"), ("doctor",)):
        done = as_nobody(place, *words, "--config", str(place.config))
        assert (done.returncode, done.stdout) == (BAD_CONFIG, "")
        assert f"{place.config}: cannot be read: Permission denied; right:" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", WHILE)
def test_only_root_may_ask_for_something(watched: Paths, command: str) -> None:
    """One line says what cannot be done, where, and why; no request is left."""
    leave_status(watched, **WHILE[command])
    done = as_nobody(watched, command)
    assert (done.returncode, done.stdout) == (TROUBLE, "")
    assert done.stderr.startswith("cannot ")
    assert "Permission denied\nhint: " in done.stderr
    assert not list(watched.run.glob("*.request*"))


def test_only_root_may_run_the_monitor(place: Paths) -> None:
    """It says which file it cannot have."""
    done = as_nobody(place, "run")
    assert (done.returncode, done.stdout) == (TROUBLE, "")
    assert done.stderr == (
        f"cannot start: {place.lock}: Permission denied\nhint: it needs root; systemd starts it:"
        " systemctl start failover-monitor\n"
    )


def test_a_second_monitor_is_refused(watched: Paths) -> None:
    """The lock is held: it says by whom, in effect, and touches nothing."""
    done = run(watched, "run")
    assert done.returncode == TROUBLE
    assert "another monitor holds" in done.stderr


# From another time.


@pytest.mark.parametrize("age_s", [46.0, 1e9, -1e6])
def test_a_status_that_is_stale(watched: Paths, age_s: float) -> None:
    """Whoever hangs, or wrote before this host booted: 3, and it says so first."""
    leave_status(watched, age_s=min(age_s, time.clock_gettime(time.CLOCK_BOOTTIME)))
    if age_s < 0:
        leave_status(watched, age_s=age_s)
    done = run(watched, "status")
    assert done.returncode == NOT_RUNNING
    assert done.stdout.startswith("STALE")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '"at_s"',
        "{}",
        '{"at_s": 1}',
        '{"at_s": "soon"}',
        '{"at_s": null}',
        '{"at_s": 1, "phase": "standby", "verdict": "up"}',
        "\x00" * 4096,
        "[" * 5000,
    ],
)
@pytest.mark.parametrize("command", ["status", "failback", "ack"])
def test_a_status_of_another_version_is_not_guessed_at(
    watched: Paths, command: str, text: str
) -> None:
    """Keys that are missing, or no document at all: a sentence, and no 0."""
    watched.status.write_text(text)
    done = run(watched, command)
    assert done.returncode in (TROUBLE, NOT_RUNNING)
    assert done.stdout == ""
    assert done.stderr


def test_keys_of_a_later_version_are_no_trouble(watched: Paths) -> None:
    """An upgrade goes on while the monitor runs."""
    document = leave_status(watched)
    watched.status.write_text(json.dumps(document | {"moon": {"phase": "full"}}))
    assert run(watched, "status").returncode == FINE
    assert run(watched, "status", "--json").returncode == FINE


# Without room, without a reader.


@pytest.fixture
def full(watched: Paths) -> Iterator[Paths]:
    """The monitor's directory in /run is a disk of 64 KiB without a byte left."""
    leave_status(watched, phase=Phase.ACTIVE, verdict=Verdict.UP, flapping=True)
    text = watched.status.read_text()
    words = ("mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "tmpfs", str(watched.run))
    subprocess.run(words, check=True)
    lock = take_lock(watched.lock)
    assert lock is not None
    watched.status.write_text(text)
    with (watched.run / "ballast").open("wb", buffering=0) as ballast:
        try:
            while ballast.write(b"x" * 4096):
                pass
        except OSError as error:
            assert error.errno == 28
    yield watched
    os.close(lock)
    subprocess.run(["umount", "--lazy", str(watched.run)], check=True)


@pytest.mark.parametrize("command", WHILE)
def test_a_request_that_finds_no_room(full: Paths, command: str) -> None:
    """It is said, and half a request is never left to be obeyed."""
    done = run(full, command)
    assert (done.returncode, done.stdout) == (TROUBLE, "")
    assert "No space left on device" in done.stderr
    assert done.stderr.startswith("cannot ")
    assert not list(full.run.glob("*.request"))


def test_a_full_disk_is_no_trouble_to_who_only_reads(full: Paths) -> None:
    """Least of all to who wants to know what is wrong."""
    assert run(full, "status").returncode == FINE
    assert run(full, "explain").returncode == FINE
    assert run(full, "check", str(full.config)).returncode == BAD_CONFIG


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_answer_that_finds_no_room(place: Paths, words: tuple[str, ...]) -> None:
    """`failover-monitor ... > /full/disk`: an error on stderr, not half a success."""
    if words[0] in ("check", "doctor"):
        place.config.write_text(json.dumps(GOOD))
    if words[0] == "doctor":
        words = ("doctor", "--help")  # its looks send echoes; its words are written the same way
    with Path("/dev/full").open("w") as disk:
        done = run(
            place,
            *words,
            *(["--config", str(place.config)] if words[0] != "doctor" else []),
            capture_output=False,
            stdout=disk,
            stderr=subprocess.PIPE,
        )
    silent = words[0] in ("failback", "ack", "run", "status")  # these say theirs on stderr
    assert done.returncode == TROUBLE or (silent and done.returncode in (NOT_RUNNING, BAD_CONFIG))
    if not silent:
        assert done.stderr == "cannot write the answer: No space left on device\n"


@pytest.mark.parametrize("words", COMMANDS[:-3], ids=" ".join)
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_output_is_no_traceback(place: Paths, words: tuple[str, ...], closed: str) -> None:
    """Cron and daemons close what they do not want; the exit status stays what it was."""
    place.config.write_text(json.dumps(GOOD))
    expected = run(place, *words, "--config", str(place.config)).returncode
    shell = ("sh", "-c", f'"$@" {closed}', "sh")
    done = run(place, *words, "--config", str(place.config), before=shell)
    assert done.returncode == expected
    if "2>&-" in closed:
        assert done.stderr == ""


@pytest.mark.parametrize("words", [("explain",), ("check",), ("status", "--json")], ids=" ".join)
def test_a_reader_that_has_gone_is_no_traceback(watched: Paths, words: tuple[str, ...]) -> None:
    """`failover-monitor ... | head -1`."""
    leave_status(watched)
    watched.config.write_text(json.dumps(GOOD))
    reader, writer = os.pipe()
    os.close(reader)
    given = (*words, "--config", str(watched.config))
    done = run(watched, *given, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (TROUBLE, "")


# Strange surroundings.


@pytest.mark.parametrize(
    "environment",
    [
        {"LANG": "C", "LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"TERM": "dumb", "NO_COLOR": "1"},
        {"TERM": "", "COLUMNS": "x", "LINES": "-1"},
        {},
    ],
    ids=str,
)
def test_no_environment_is_needed(watched: Paths, environment: dict[str, str]) -> None:
    """No HOME, no locale, no terminal; names that are no ASCII come through as escapes."""
    leave_status(watched)
    odd = watched.root / "한글.json"
    odd.write_text('{"gateway_ip": "게이트웨이"}')
    given: dict[str, Any] = {
        "env": {"PATH": os.environ["PATH"], **environment},
        "errors": "replace",
    }
    assert run(watched, "status", **given).returncode == FINE
    assert run(watched, "explain", **given).returncode == FINE
    done = run(watched, "check", str(odd), **given)
    assert done.returncode == BAD_CONFIG
    assert "gateway_ip" in done.stderr
    odd.write_text(json.dumps(GOOD))
    done = run(watched, "check", str(odd), **given)
    assert done.returncode == FINE
    assert "is good." in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("fly",),
        ("status", "--jsn"),
        ("check", "a", "b"),
        ("doctor", "now"),
        ("doctor", "--config"),
        ("run", "--verbose"),
        ("failback", "--force"),
        ("--json",),
        ("",),
        ("-x",),
    ],
    ids=" ".join,
)
def test_wrong_use_is_two(place: Paths, words: tuple[str, ...]) -> None:
    """With the usage on stderr, and nothing done."""
    done = run(place, *words)
    assert (done.returncode, done.stdout) == (WRONG_USE, "")
    assert done.stderr.startswith("usage: failover-monitor")
    assert list(place.run.iterdir()) == []


def test_ctrl_c_is_130(place: Paths) -> None:
    """Wherever it comes, the import of the command included."""
    place.config.unlink()
    os.mkfifo(place.status)  # it waits for a writer
    with subprocess.Popen(
        words_of(place, "status"), cwd=ROOT, stdout=-1, stderr=-1, text=True
    ) as process:
        writer = os.open(place.status, os.O_WRONLY)  # when this returns, it is about to read
        try:
            stat = Path(f"/proc/{process.pid}/stat")
            while stat.read_text().rpartition(") ")[2][0] not in "SZ":  # and now it waits in there
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            os.close(writer)
    assert (process.returncode, out, err) == (INTERRUPTED, "", "")
