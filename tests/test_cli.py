"""The commands: what they print, and the exit status that scripts rely on."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import failover_monitor
from failover_monitor import __version__, cli, guard
from failover_monitor.contact import Contact
from failover_monitor.detector import Detector
from failover_monitor.files import Paths, replace_file, take_lock
from failover_monitor.machine import TABLE
from failover_monitor.model import PairState, Phase, Policy, Role, Unit, UnitSeen, Verdict
from failover_monitor.status import STALE_S, Status
from tests.world import policy_of

ROOT = Path(failover_monitor.__file__).parent.parent
FINE, TROUBLE, WRONG_USE, NOT_RUNNING, BAD_CONFIG = 0, 1, 2, 3, 78
GOOD = {
    "gateway_ip": "198.51.100.1",
    "active_ip": "198.51.100.2",
    "ping_interval": 3,
    "ping_fail_threshold": 3,
    "services_to_manage": ["app.service"],
}
PRIMARY = {
    "role": "primary",
    "gateway_ip": "198.51.100.1",
    "standby_ip": "198.51.100.3",
    "services_to_manage": ["app.service"],
}
GUARDED = policy_of(role=Role.PRIMARY, primary=(), standby=("198.51.100.3", "203.0.113.3"))


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The program as its users run it."""
    return subprocess.run(
        [sys.executable, "-m", "failover_monitor", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(GOOD))
    return path


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Everything below a directory of the test's own."""
    paths = Paths(tmp_path)
    paths.run.mkdir(parents=True)
    monkeypatch.setattr(cli, "PATHS", paths)
    return paths


@pytest.fixture
def running(paths: Paths) -> Iterator[Paths]:
    """A monitor holds the lock."""
    lock = take_lock(paths.lock)
    assert lock is not None
    yield paths
    os.close(lock)


def leave_status(
    paths: Paths,
    *,
    verdict: Verdict = Verdict.UP,
    phase: Phase = Phase.STANDBY,
    age_s: float = 0,
    flapping: bool = False,
    policy: Policy | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """What the monitor would have written so long ago."""
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME) - age_s
    policy = policy or policy_of()
    kind = Contact if policy.role is Role.PRIMARY else Detector
    detector = kind(policy, now_s, verdict=verdict)
    units = (UnitSeen("app.service", Unit.FAILED, now_s, "exit-code"),)
    state = PairState(phase=phase, since_s=now_s, flapping=flapping)
    document = Status(now_s).document(now_s, policy, state, detector, units)
    if quiet:
        document["quiet_references"] = list(policy.references)
    replace_file(paths.status, json.dumps(document))
    return document


# check


def test_check_says_what_a_good_configuration_will_do(config: Path) -> None:
    """The numbers, on one screen."""
    for arguments in (("check", str(config)), ("check", "--config", str(config))):
        done = run(*arguments)
        assert (done.returncode, done.stderr) == (FINE, "")
        assert done.stdout.startswith(f"{config} is good.\n")
        assert "app.service" in done.stdout


def test_check_gives_its_numbers_to_programs(config: Path) -> None:
    """Times in seconds."""
    done = run("check", "--json", str(config))
    numbers = json.loads(done.stdout)
    assert (numbers["detection_min_s"], numbers["detection_max_s"]) == (7, 10)
    assert (numbers["role"], numbers["enforced"]) == ("standby", False)
    assert numbers["services"] == ["app.service"]
    assert all(row.keys() == {"fault", "outcome", "cure"} for row in numbers["open"])
    assert "only the path between the two breaks" in {row["fault"] for row in numbers["open"]}


def test_check_of_a_primary(config: Path) -> None:
    """What its guard will do, for people and for programs (install.sh reads them)."""
    config.write_text(json.dumps(PRIMARY))
    done = run("check", str(config))
    assert (done.returncode, done.stderr) == (FINE, "")
    assert "a guard stops its services" in done.stdout
    facts = json.loads(run("check", "--json", str(config)).stdout)
    assert (facts["role"], facts["enforced"]) == ("primary", True)
    assert (facts["services"], facts["boot_hold_s"]) == (["app.service"], 7.7)


def test_check_names_every_problem_at_once(config: Path) -> None:
    """With file, line and column, on stderr; nothing on stdout."""
    config.write_text('{\n "gateway_ip": "198.51.100.999",\n "ping_intervall": 3\n}\n')
    done = run("check", str(config))
    assert (done.returncode, done.stdout) == (BAD_CONFIG, "")
    for words in (f"{config}:2:", f"{config}:3:", "ping_intervall", "active_ip"):
        assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_check_names_the_hook_that_others_could_change(config: Path) -> None:
    """With the path that is not root's alone; nothing of it is run."""
    hook = config.with_name("hook")
    hook.write_text("#!/bin/sh\ntouch ran\n")
    hook.chmod(0o757)
    config.write_text(json.dumps(GOOD | {"hooks": {"on_event": {"command": [str(hook)]}}}))
    done = run("check", str(config))
    assert (done.returncode, done.stdout) == (BAD_CONFIG, "")
    assert f"hooks.on_event.command: {hook} can be written by everybody" in done.stderr
    hook.chmod(0o755)
    assert run("check", str(config)).returncode == FINE


@pytest.mark.parametrize("what", ["missing", "directory"])
def test_check_without_a_readable_file(tmp_path: Path, what: str) -> None:
    """Is a bad configuration, too."""
    path = tmp_path / "config.json"
    if what == "directory":
        path.mkdir()
    done = run("check", str(path))
    assert done.returncode == BAD_CONFIG
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


def test_the_shipped_configuration_is_strict_json_and_still_the_example() -> None:
    """It is refused until its addresses are the user's own."""
    json.loads((ROOT / "config.json").read_text())
    done = run("check", "config.json")
    assert done.returncode == BAD_CONFIG
    assert "example" in done.stderr


# explain


def test_explain_prints_every_row_of_the_table() -> None:
    """In its order, with its sentence."""
    lines = run("explain").stdout.splitlines()
    for row, line in zip(TABLE, lines[1:], strict=False):
        assert line.split()[:2] == [row.source, row.target]
        assert line.endswith(row.because)
        assert row.when.__name__.replace("_", " ") in line


def test_explain_draws_every_row() -> None:
    """As a diagram that the README can show."""
    done = run("explain", "--mermaid")
    assert done.stdout.splitlines() == [
        "stateDiagram-v2",
        *(f"    {row.source} --> {row.target}: {row.because}" for row in TABLE),
    ]


def test_explain_prints_the_guards_table() -> None:
    """The same way, and its diagram."""
    lines = run("explain", "--guard").stdout.splitlines()
    assert len(lines) == len(guard.TABLE) + 3
    for row, line in zip(guard.TABLE, lines[1:], strict=False):
        assert line.split()[:2] == [row.source, row.target]
        assert line.endswith(f" {row.because}")
        assert f" {row.when.__name__.replace('_', ' ')} " in line
    assert run("explain", "--guard", "--mermaid").stdout.splitlines() == [
        "stateDiagram-v2",
        *(f"    {row.source} --> {row.target}: {row.because}" for row in guard.TABLE),
    ]


# status


def test_status_of_no_monitor_at_all(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """It has never run."""
    assert cli.main(["status"]) == NOT_RUNNING
    assert "not running" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "\0\0\0"])
def test_status_of_half_a_document(paths: Paths, text: str) -> None:
    """Nobody is confused by what a full disk left."""
    paths.status.write_text(text)
    assert cli.main(["status"]) == NOT_RUNNING


def test_status_of_a_running_monitor(running: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """Phase, verdict, evidence, services; all of it fresh."""
    leave_status(running)
    assert cli.main(["status"]) == FINE
    told = capsys.readouterr().out
    for words in (
        "phase       standby since",
        "verdict     up since",
        "state word  active_alive",
        "primary     198.51.100.2: has not answered yet",
        "reference   198.51.100.1: has not answered yet",
        "service     app.service failed (exit-code)",
    ):
        assert words in told
    assert re.search(r"^written .*, \d\.\d s ago$", told, re.MULTILINE)
    assert "attention" not in told


def test_status_of_a_monitor_that_has_ended(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it left is history, and says so."""
    leave_status(paths)
    assert cli.main(["status"]) == NOT_RUNNING
    assert "NOT RUNNING: nobody watches" in capsys.readouterr().out


@pytest.mark.parametrize("age_s", [STALE_S + 1, -1000.0])
def test_status_of_a_monitor_that_hangs(
    running: Paths, capsys: pytest.CaptureFixture[str], age_s: float
) -> None:
    """It holds its lock, and has stopped writing; or the host has rebooted since."""
    leave_status(running, age_s=age_s)
    assert cli.main(["status"]) == NOT_RUNNING
    assert "STALE: the monitor has stopped writing" in capsys.readouterr().out


def test_status_for_programs(running: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """The document, with its age and whether anybody stands behind it."""
    leave_status(running, verdict=Verdict.DOWN, phase=Phase.ACTIVE)
    assert cli.main(["status", "--json"]) == FINE
    told = json.loads(capsys.readouterr().out)
    assert (told["phase"], told["verdict"], told["state"]) == ("active", "down", "active_dead")
    assert told["running"] is True
    assert 0 <= told["age_s"] < STALE_S
    assert told["units"][0]["name"] == "app.service"


def test_status_of_a_primary(running: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """Whom its guard echoes, and what the verdict is about."""
    leave_status(running, phase=Phase.SERVING, policy=GUARDED)
    assert cli.main(["status"]) == FINE
    told = capsys.readouterr().out
    for words in (
        "phase       serving since",
        "standby     198.51.100.3: has not answered yet",
        "standby     203.0.113.3: has not answered yet",
        "reference   198.51.100.1: has not answered yet",
    ):
        assert words in told
    assert "primary     " not in told
    assert "attention" not in told


def test_status_says_what_silent_references_mean(
    running: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the standby there is no takeover; the primary lives on the standby's answers."""
    leave_status(running, quiet=True)
    assert cli.main(["status"]) == FINE
    assert "no reference answers: no takeover can happen" in capsys.readouterr().out
    leave_status(running, phase=Phase.SERVING, policy=GUARDED, quiet=True)
    assert cli.main(["status"]) == FINE
    told = capsys.readouterr().out
    assert "no reference answers: the services run only while the standby answers" in told


def test_status_of_a_monitor_that_flaps(running: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs see it in a key of its own."""
    leave_status(running, flapping=True)
    assert cli.main(["status", "--json"]) == FINE
    assert json.loads(capsys.readouterr().out)["flapping"] is True


def test_status_of_an_older_version(running: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """The program is new already, the process that writes is not."""
    document = leave_status(running)
    for key in ("role", "standby", "flapping", "mute_references", "by_hand"):
        del document[key]
    running.status.write_text(json.dumps(document))
    assert cli.main(["status"]) == FINE
    assert "primary     198.51.100.2: has not answered yet" in capsys.readouterr().out
    assert cli.main(["status", "--json"]) == FINE
    assert cli.main(["ack"]) == TROUBLE
    assert cli.main(["failback"]) == TROUBLE


# All of them.


@pytest.mark.parametrize(
    "arguments", [(), ("fly",), ("check", "a", "b"), ("status", "--jsn"), ("run", "--config")]
)
def test_wrong_use(arguments: tuple[str, ...]) -> None:
    """Is 2, with a usage line."""
    done = run(*arguments)
    assert done.returncode == WRONG_USE
    assert done.stderr.startswith("usage: failover-monitor")


def test_the_version() -> None:
    """One line, nothing else."""
    assert run("--version").stdout == f"{__version__}\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_broken_pipe_is_no_traceback(unbuffered: str) -> None:
    """`failover-monitor explain | head -1`, at the first line or when the program ends."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "failover_monitor", "explain"],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (TROUBLE, "")


@pytest.mark.parametrize(
    ("change", "example"),
    [
        ("", True),
        ('"ping_intervall": 3, // 192.0.2.1 is still the example; in a comment', False),
        ('"ping_interval": 0,', False),
    ],
)
def test_install_knows_the_example_by_what_check_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, example: bool
) -> None:
    """An upgrade over a bad file that only mentions such an address must not end well."""
    path = tmp_path / "config.json"
    path.write_text((ROOT / "config.json").read_text().replace("{", f"{{{change}\n", 1))
    assert cli.main(["check", str(path)]) == os.EX_CONFIG
    said = capsys.readouterr().err
    script = (ROOT / "install.sh").read_text()
    found = re.search(r"^still_the_example\(\) .*?^}$", script, re.MULTILINE | re.DOTALL)
    assert found
    words = f'set -euo pipefail\n{found[0]}\nif still_the_example "$1"; then exit 10; fi'
    assert subprocess.run(["bash", "-c", words, "bash", said]).returncode == 10 * example
