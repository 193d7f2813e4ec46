"""What an operator asks for on the command line: who, the risk, what came of it, and exit statuses.

The monitor is a thread that takes requests as the real one does and answers in status.json; what
the real one decides is tested in `test_machine`, `test_orders` and the scenarios.
"""

import json
import os
import pwd
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import failover_monitor
from failover_monitor import cli
from failover_monitor.console import control
from failover_monitor.console.status import KEYS
from failover_monitor.files import Paths, take_lock
from failover_monitor.orders import read_pause, read_request

ROOT = Path(failover_monitor.__file__).parent.parent
FINE, TROUBLE, WRONG_USE, NOT_RUNNING = 0, 1, 2, 3
Told = pytest.CaptureFixture[str]


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Everything below a directory of the test's own; who asks is alice, and has no terminal."""
    paths = Paths(tmp_path)
    for directory in (paths.run, paths.history):
        directory.mkdir(parents=True)
    monkeypatch.setattr(cli, "PATHS", paths)
    monkeypatch.setattr(control, "CONFIRM_S", 10.0)
    monkeypatch.setattr(control, "FOLLOW_S", 10.0)
    monkeypatch.setattr(control, "LOOK_S", 0.01)
    monkeypatch.setattr(control, "who", lambda: "alice")
    monkeypatch.setattr(sys, "stdin", Path(os.devnull).open())  # noqa: SIM115
    return paths


class Standin:
    """A monitor that takes requests; `answers` says what it writes into its status then."""

    def __init__(self, paths: Paths, **document: Any) -> None:
        self.paths = paths
        self.document: dict[str, Any] = {
            "role": "standby",
            "phase": "standby",
            "verdict": "up",
            "why": "198.51.100.2 answered",
            "attention": [],
            "units": [{"name": "app.service", "state": "stopped"}],
            "protections": [],
            "flapping": False,
            "by_hand": "",
            "paused": None,
            "request": None,
            "stale_after_s": 45.0,
        } | document
        self.document = dict.fromkeys(KEYS - {"at_s"}, "") | self.document
        self.answers: dict[str, list[dict[str, Any]]] = {}  # by order: what follows one by one
        self.dropped = ""
        self.taken: dict[str, dict[str, Any]] = {}
        self.works = True
        self._lock = take_lock(paths.lock)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.write()
        self._thread.start()

    def write(self) -> None:
        at_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        temporary = self.paths.run / "status.tmp"
        temporary.write_text(json.dumps({"at_s": at_s} | self.document))
        temporary.replace(self.paths.status)

    def _run(self) -> None:
        while not self._over.wait(0.01):
            if not self.works:
                continue
            for path in self.paths.run.glob("[a-z]*.request"):
                request = json.loads(path.read_text())
                path.unlink()
                self.take(path.stem, request)
            self._heed_pause()

    def take(self, order: str, request: dict[str, Any]) -> None:
        self.taken[order] = request
        if order == "resume":
            for path in self.paths.pause():
                path.unlink(missing_ok=True)
        answer = {"order": order, "at_s": request["at_s"], "dropped": self.dropped}
        self.document["request"] = answer
        for change in self.answers.get(order, [{}]):
            self.document |= change
            self.write()
            time.sleep(0.3)

    def _heed_pause(self) -> None:
        try:
            pause = json.loads(self.paths.pause()[0].read_text())
        except FileNotFoundError:
            pause = None
        if pause != self.document["paused"]:
            self.document["paused"] = pause
            self.write()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        assert self._lock is not None
        os.close(self._lock)


@pytest.fixture
def monitor(paths: Paths) -> Iterator[Callable[..., Standin]]:
    made: list[Standin] = []

    def make(**document: Any) -> Standin:
        made.append(Standin(paths, **document))
        return made[-1]

    yield make
    for standin in made:
        standin.close()


# Who asks.


@pytest.mark.parametrize(
    ("login", "sudo", "name"),
    [("0", "bob", "root"), (str(2**32 - 1), "bob", "bob"), (str(2**32 - 1), "", "root")],
)
def test_who_asked_is_who_has_logged_in(
    monkeypatch: pytest.MonkeyPatch, login: str, sudo: str, name: str
) -> None:
    """Behind sudo and su; what no login has started is who it runs as."""
    real = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self: login if self.name == "loginuid" else real(self)
    )
    monkeypatch.setenv("SUDO_USER", sudo)
    if os.getuid() != 0 and name == "root" and login != "0":
        name = pwd.getpwuid(os.getuid()).pw_name
    assert control.who() == name


def test_who_asked_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user that has been deleted is recorded all the same."""
    monkeypatch.setattr(Path, "read_text", lambda self: "54321")
    assert control.who() == "uid 54321"


@pytest.mark.parametrize(
    ("text", "length_s"),
    [
        ("30m", 1800),
        ("2h", 7200),
        ("1d", 86400),
        ("1h 30min", 5400),
        ("1h30m", 5400),
        ("90", 90),
        ("1.5 hours", 5400),
        ("1w", 604800),
        ("30d", 30 * 86400),
    ],
)
def test_a_span_is_what_systemd_would_read(text: str, length_s: float) -> None:
    """As in systemd.time(7)."""
    assert control.span_s(text) == length_s


@pytest.mark.parametrize(
    "text", ["", "0", "2H", "-5m", "5 lightyears", "h", "30d 1s", "m30", "nan", "1e9"]
)
def test_a_span_that_is_none_is_wrong_use(paths: Paths, capsys: Told, text: str) -> None:
    """Nothing is written."""
    status = cli.main(["pause", f"--for={text}", "--reason", "new disk"])
    assert status == WRONG_USE
    assert f"cannot pause: {text!r} is " in capsys.readouterr().err
    assert not any(path.exists() for path in paths.pause())


# Pause and resume.


def test_a_pause_is_kept_and_confirmed(
    paths: Paths, monitor: Callable[..., Standin], capsys: Told
) -> None:
    """In both places, with who, why, and two hours if nothing is said."""
    monitor()
    assert cli.main(["pause", "--reason", "new disk"]) == FINE
    told = capsys.readouterr().out
    assert "nothing is started or stopped here, the watch goes on" in told
    assert "warning" not in told
    volatile, lasting = paths.pause()
    pause = read_pause(volatile.read_text())
    assert pause is not None
    assert lasting.read_text() == volatile.read_text()
    assert (pause.request.by, pause.request.reason, pause.length_s) == ("alice", "new disk", 7200)
    assert pause.until in told


def test_a_pause_on_a_host_that_serves_says_what_that_means(
    monitor: Callable[..., Standin], capsys: Told
) -> None:
    """A lease that is lost ends it all the same; without one two may serve."""
    standin = monitor(phase="active", verdict="down")
    cli.main(["pause", "--reason", "new disk"])
    assert "then both serve" in capsys.readouterr().out
    standin.document["protections"] = ["lease"]
    cli.main(["pause", "--reason", "new disk"])
    assert "the services are stopped, paused or not" in capsys.readouterr().out


def test_a_pause_without_a_monitor_holds_from_its_start(paths: Paths, capsys: Told) -> None:
    """And is ended the same way."""
    assert cli.main(["pause", "--for", "1d", "--reason", "new disk"]) == FINE
    assert "it holds from its start" in capsys.readouterr().out
    assert all(path.exists() for path in paths.pause())
    assert cli.main(["resume"]) == FINE
    assert "the pause is over" in capsys.readouterr().out
    assert not any(path.exists() for path in paths.pause())


def test_a_pause_that_is_not_confirmed_is_said(
    monitor: Callable[..., Standin], capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monitor hangs: the file is there, and nobody has said that it holds."""
    monkeypatch.setattr(control, "CONFIRM_S", 0.5)
    monitor().works = False
    assert cli.main(["pause", "--reason", "new disk"]) == TROUBLE
    assert "has not said yet" in capsys.readouterr().err


def test_a_pause_needs_a_reason(monitor: Callable[..., Standin]) -> None:
    """Who finds it at three in the morning must not have to guess."""
    monitor()
    with pytest.raises(SystemExit) as ended:
        cli.main(["pause"])
    assert ended.value.code == WRONG_USE
    assert cli.main(["pause", "--reason", " "]) == WRONG_USE


def test_the_guard_of_a_primary_is_not_paused(
    paths: Paths, monitor: Callable[..., Standin], capsys: Told
) -> None:
    """The standby counts on it."""
    monitor(role="primary", phase="serving")
    assert cli.main(["pause", "--reason", "new disk"]) == TROUBLE
    assert "pause the standby" in capsys.readouterr().err
    assert not any(path.exists() for path in paths.pause())


def test_a_pause_that_cannot_be_kept_is_none(
    paths: Paths, monitor: Callable[..., Standin], capsys: Told
) -> None:
    """A full disk, say: an error, and no file in either place."""
    monitor()
    (paths.history / ".pause.json.tmp").mkdir()
    assert cli.main(["pause", "--reason", "new disk"]) == TROUBLE
    told = capsys.readouterr().err
    assert told.startswith(f"cannot pause: {paths.pause()[1]}: ")
    assert "nothing has changed" in told
    assert not any(path.exists() for path in paths.pause())


def test_resume_ends_a_pause_and_is_confirmed(
    paths: Paths, monitor: Callable[..., Standin], capsys: Told
) -> None:
    """Who ended it is recorded, too."""
    standin = monitor()
    cli.main(["pause", "--reason", "new disk"])
    assert cli.main(["resume", "--reason", "done"]) == FINE
    assert "needs fresh checks" in capsys.readouterr().out
    taken = standin.taken["resume"]
    assert (taken["by"], taken["reason"]) == ("alice", "done")
    assert not any(path.exists() for path in paths.pause())


def test_nothing_is_paused(monitor: Callable[..., Standin], capsys: Told) -> None:
    """Exit status 1."""
    monitor()
    assert cli.main(["resume"]) == TROUBLE
    assert capsys.readouterr().err == "cannot resume: nothing is paused\n"


# Takeover.


def taken_over(standin: Standin) -> None:
    running = [{"name": "app.service", "state": "running"}]
    standin.answers["takeover"] = [{"phase": "takeover"}, {"phase": "active", "units": running}]


def test_a_takeover_is_asked_for_and_followed(
    monitor: Callable[..., Standin], capsys: Told
) -> None:
    """Until the services run."""
    standin = monitor()
    taken_over(standin)
    assert cli.main(["takeover", "--yes", "--reason", "new  disk\nbay 2"]) == FINE
    told = capsys.readouterr().out
    assert told.index("both would serve") < told.index("phase takeover")
    assert told.endswith("app.service running\ndone: the services run here\n")
    taken = standin.taken["takeover"]
    assert (taken["by"], taken["reason"]) == ("alice", "new disk bay 2")
    assert read_request(json.dumps(taken)) is not None


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "the primary answers: its services still run there unless you have stopped them"),
        ({"verdict": "unknown", "why": ""}, "our own network is not proven (no evidence yet)"),
        ({"verdict": "down", "why": "3 checks in a row failed"}, "down: 3 checks in a row failed"),
        ({}, "no fence, no lease"),
        ({"protections": ["fence"]}, "it switches the primary off"),
        ({"protections": ["lease"]}, "the lease must be free first"),
        ({"protections": ["guard"]}, "stops nothing while it is in contact"),
        ({"flapping": True}, "takeovers are held"),
        ({"attention": ["no takeover: tcp passes"]}, "attention: no takeover: tcp passes"),
    ],
)
def test_the_risk_is_spelt_out_first(
    monitor: Callable[..., Standin], capsys: Told, document: dict[str, Any], words: str
) -> None:
    """From what is known now; and without a terminal or `--yes` nothing is asked for."""
    standin = monitor(**document)
    assert cli.main(["takeover"]) == WRONG_USE
    told = capsys.readouterr()
    assert words in told.out
    assert "hint: --yes if the risk is known" in told.err
    assert standin.taken == {}


@pytest.mark.parametrize(("typed", "status"), [("takeover", FINE), ("yes", TROUBLE), ("", TROUBLE)])
def test_on_a_terminal_the_word_is_typed(
    monitor: Callable[..., Standin], monkeypatch: pytest.MonkeyPatch, typed: str, status: int
) -> None:
    """Nothing shorter will do."""
    standin = monitor()
    taken_over(standin)
    reader, writer = os.openpty()
    monkeypatch.setattr(sys, "stdin", os.fdopen(writer))
    os.write(reader, f"{typed}\n".encode())
    assert cli.main(["takeover"]) == status
    assert (standin.taken != {}) is (status == FINE)
    os.close(reader)


def test_a_claim_says_what_it_waits_for(
    monitor: Callable[..., Standin], capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to a limit; then where to look."""
    monkeypatch.setattr(control, "FOLLOW_S", 2.0)
    standin = monitor(protections=["lease"])
    waits = "the takeover waits for lease: other holds it"
    standin.answers["takeover"] = [{"phase": "claim"}, {"attention": [waits]}]
    assert cli.main(["takeover", "--yes"]) == TROUBLE
    told = capsys.readouterr()
    assert told.out.count(waits) == 1
    assert "not done after" in told.err


def test_a_claim_that_is_given_up_is_said(monitor: Callable[..., Standin], capsys: Told) -> None:
    """The lease was not free for too long."""
    standin = monitor()
    standin.answers["takeover"] = [{"phase": "claim"}, {"phase": "standby"}]
    assert cli.main(["takeover", "--yes"]) == TROUBLE
    assert "it was given up" in capsys.readouterr().err


def test_a_request_that_is_dropped_is_said(monitor: Callable[..., Standin], capsys: Told) -> None:
    """In the monitor's words."""
    monitor().dropped = "this host is shutting down"
    assert cli.main(["takeover", "--yes"]) == TROUBLE
    assert capsys.readouterr().err == "cannot take over: this host is shutting down\n"


def test_a_request_that_nobody_takes_is_withdrawn(
    paths: Paths,
    monitor: Callable[..., Standin],
    capsys: Told,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A monitor that hangs must not find it when it goes on."""
    monkeypatch.setattr(control, "CONFIRM_S", 0.5)
    monitor().works = False
    assert cli.main(["takeover", "--yes"]) == NOT_RUNNING
    assert "it is withdrawn" in capsys.readouterr().err
    assert not paths.request("takeover").exists()


@pytest.mark.parametrize(
    ("document", "status", "words"),
    [
        (
            {"paused": {"by": "bob"}},
            TROUBLE,
            "cannot take over: paused\nhint: failover-monitor res",
        ),
        ({"phase": "active"}, TROUBLE, "under way already"),
        ({"phase": "claim"}, TROUBLE, "under way already"),
        (
            {"phase": "claim", "attention": ["the takeover waits for hook pre_takeover: failed"]},
            TROUBLE,
            "claim; the takeover waits for hook pre_takeover: failed\nhint: mend the hook;",
        ),
        ({"phase": "failback"}, TROUBLE, "wait until that is over"),
        ({"role": "primary"}, TROUBLE, "ask on the standby"),
        ({"stale_after_s": -1.0}, NOT_RUNNING, "has stopped writing"),
    ],
)
def test_a_takeover_that_makes_no_sense_is_refused(
    monitor: Callable[..., Standin], capsys: Told, document: dict[str, Any], status: int, words: str
) -> None:
    """Before anybody is asked anything."""
    standin = monitor(**document)
    standin.works = False
    assert cli.main(["takeover", "--yes"]) == status
    assert words in capsys.readouterr().err
    assert standin.taken == {}


# Failback and ack.


def test_a_failback_is_followed(monitor: Callable[..., Standin], capsys: Told) -> None:
    """Until the services are stopped here; after a takeover by hand it says what is left to do."""
    standin = monitor(phase="active", by_hand="bob")
    standin.answers["failback"] = [{"phase": "failback"}, {"phase": "standby"}]
    assert cli.main(["failback", "--reason", "disk is in"]) == FINE
    told = capsys.readouterr().out
    assert "see to it that the services run on the primary again" in told
    assert told.endswith("done: the services are stopped here\n")
    assert standin.taken["failback"]["reason"] == "disk is in"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"phase": "standby"}, "we do not serve, the phase is standby"),
        ({"phase": "active", "verdict": "down"}, "the primary does not answer"),
        ({"phase": "active", "verdict": "unknown"}, "the primary does not answer"),
        ({"phase": "active", "paused": {"by": "bob"}}, "hint: failover-monitor resume first"),
        ({"phase": "serving", "role": "primary"}, "this host is the primary"),
    ],
)
def test_a_failback_that_makes_no_sense_is_refused(
    monitor: Callable[..., Standin], capsys: Told, document: dict[str, Any], words: str
) -> None:
    """It says why not."""
    standin = monitor(**document)
    standin.works = False
    assert cli.main(["failback"]) == TROUBLE
    assert words in capsys.readouterr().err
    assert standin.taken == {}


@pytest.mark.parametrize(
    ("flapping", "status", "words"),
    [(False, TROUBLE, "takeovers are not held"), (True, FINE, "takeovers are allowed again")],
)
def test_takeovers_are_allowed_again_when_they_are_held(
    monitor: Callable[..., Standin], capsys: Told, flapping: bool, status: int, words: str
) -> None:
    """It leaves a request, which the monitor takes; else it says why not."""
    standin = monitor(flapping=flapping)
    assert cli.main(["ack"]) == status
    told = capsys.readouterr()
    assert words in told.out + told.err
    assert ("ack" in standin.taken) is flapping


# All of them.


@pytest.mark.parametrize("words", [("takeover", "--yes"), ("failback",), ("ack",)])
def test_nobody_takes_a_request_without_a_monitor(
    paths: Paths, capsys: Told, words: tuple[str, ...]
) -> None:
    """Exit status 3, and no file is left."""
    assert cli.main(list(words)) == NOT_RUNNING
    assert "failover-monitor is not running" in capsys.readouterr().err
    assert not list(paths.run.glob("*.request"))


@pytest.mark.parametrize("words", [("takeover", "--yes"), ("failback",), ("ack",)])
def test_a_torn_status_is_no_traceback(paths: Paths, capsys: Told, words: tuple[str, ...]) -> None:
    """Somebody holds the lock, and status.json is half a file."""
    lock = take_lock(paths.lock)
    assert lock is not None
    paths.status.write_text('{"phase": ')
    assert cli.main(list(words)) == NOT_RUNNING
    assert "no status yet" in capsys.readouterr().err
    os.close(lock)


@pytest.mark.parametrize(
    "words",
    [
        ("takeover", "--yes"),
        ("failback",),
        ("ack",),
        ("resume",),
        ("pause", "--reason", "x"),
    ],
)
def test_without_rights_nothing_is_asked_for(
    paths: Paths, monitor: Callable[..., Standin], words: tuple[str, ...]
) -> None:
    """One sentence and a hint; run as nobody, with the files as the monitor leaves them."""
    phase = "active" if words[0] == "failback" else "standby"
    standin = monitor(phase=phase, flapping=True)
    if words[0] == "resume":
        paths.pause()[0].write_text("{}")
        standin.works = False
    for directory in (paths.root, *paths.root.parents):
        if directory.stat().st_uid == os.getuid() and directory != Path("/"):
            directory.chmod(0o755)
    script = (
        "import os, pwd, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "from pathlib import Path; from failover_monitor import cli;"
        "from failover_monitor.files import Paths;"
        f"cli.PATHS = Paths(Path({str(paths.root)!r})); sys.exit(cli.main({list(words)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == TROUBLE, done.stderr
    assert "Permission denied\nhint: only root may" in done.stderr
    assert "Traceback" not in done.stderr
    assert standin.taken == {}
