"""Figures for Prometheus: what the file holds, and that it is whole, readable and true.

Names and words are judged by promtool, the file by node_exporter itself.
"""

import json
import socket
import stat
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from failover_monitor.cli import main
from tests.agent_desk import FAILBACK, TAKEOVER, TWO, Desk, reference, transition
from tests.test_agent import config

PROMTOOL, EXPORTER = "promtool", "prometheus-node-exporter"
PATHS = {
    "198.51.100.2": {"role": "primary", "sent": 20, "answered": 18, "rtt_ms": [0.1, 0.25, 3.0]},
    "198.51.100.1": {"role": "reference", "sent": 20, "answered": 0, "rtt_ms": None},
}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return new_desk(tmp_path)


def new_desk(root: Path, *levels: str) -> Desk:
    return Desk(root, *levels, textfile=root / "failover_monitor.prom")


def figures(desk: Desk) -> dict[str, float]:
    """The file, by name and labels."""
    assert desk.textfile
    found = {}
    for line in desk.textfile.read_text().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name.removeprefix("failover_monitor_")] = float(value)
    return found


def sample(desk: Desk, **keys: Any) -> None:
    """A minute of echoes, as the monitor records it."""
    document = {"at_s": desk.now_s, "length_s": 60.0, "phase": "standby", "verdict": "up",
                "paths": PATHS, "gaps_s": []}  # fmt: skip
    with desk.paths.samples.open("a") as file:
        file.write(json.dumps(document | keys) + "\n")


def test_promtool_finds_nothing_to_blame(desk: Desk) -> None:
    """Units, help, suffixes: as Prometheus wants them, in a file with every figure in it."""
    sample(desk)
    desk.tell(*TAKEOVER, TWO)
    desk.run(20, phase="active", verdict="down")
    assert desk.textfile
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"],
        stdin=desk.textfile.open(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_file_is_whole_and_readable(desk: Desk) -> None:
    """By one rename, and by anybody: node_exporter has no right to ours."""
    desk.run(20)
    assert desk.textfile
    assert stat.S_IMODE(desk.textfile.stat().st_mode) == 0o644
    before = desk.textfile.stat().st_ino
    kept = desk.textfile.open()
    desk.run(20)
    assert desk.textfile.stat().st_ino != before
    assert kept.read().endswith("\n")
    kept.close()
    assert [path.name for path in desk.textfile.parent.glob("*.prom*")] == [desk.textfile.name]


def test_where_the_file_is_a_link_its_end_is_written(tmp_path: Path) -> None:
    """node_exporter's directory is root's: there is a link in it, and it stays one."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    textfile = theirs / "failover_monitor.prom"
    path = config(tmp_path, metrics={"textfile": str(textfile)})
    textfile.write_text("left by an earlier version\n")
    assert main(["agent", "--config", path, "--link", str(ours)]) == 0
    desk = Desk(tmp_path, textfile=textfile)
    desk.run(20)
    assert textfile.is_symlink()
    assert "failover_monitor_up 1.0" in (ours / textfile.name).read_text()
    other = config(tmp_path, metrics={"textfile": str(theirs / "other.prom")})
    assert main(["agent", "--config", other, "--link", str(ours)]) == 0
    assert [path.name for path in theirs.iterdir()] == ["other.prom"]
    for _ in range(2):
        assert main(["agent", "--unlink", str(ours)]) == 0
        assert list(theirs.iterdir()) == []
    path = config(tmp_path, metrics={"textfile": str(textfile)})
    assert main(["agent", "--config", path, "--link", str(ours)]) == 0
    textfile.unlink()
    textfile.write_text("somebody's own\n")
    assert main(["agent", "--unlink", str(ours)]) == 0
    assert textfile.read_text() == "somebody's own\n"
    assert not list(tmp_path.glob("*.link"))


def test_a_directory_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """node_exporter is not installed: said, and messages go on without figures."""
    path = config(tmp_path, metrics={"textfile": str(tmp_path / "none" / "x.prom")})
    assert main(["agent", "--config", path, "--link", str(tmp_path)]) == 1
    assert "hint: node_exporter reads" in capsys.readouterr().err
    desk = Desk(tmp_path, textfile=tmp_path / "none" / "x.prom")
    desk.tell(*TAKEOVER)
    desk.run(20, phase="active", verdict="down")
    assert len(desk.sender.got) == 1


def test_phase_verdict_and_services_are_what_the_status_says(desk: Desk) -> None:
    """One for what is, nought for all the others."""
    units = [{"name": "app.service", "state": "running"}, {"name": "b.service", "state": "failed"}]
    desk.run(20, phase="active", verdict="down", units=units, suspicious=True)
    seen = figures(desk)
    phases = {name: value for name, value in seen.items() if name.startswith("phase{")}
    assert [name for name, value in phases.items() if value] == ['phase{phase="active"}']
    assert len(phases) == 10
    assert seen['verdict{verdict="down"}'] == 1
    assert seen['service_running{unit="app.service"}'] == 1
    assert seen['service_running{unit="b.service"}'] == 0
    assert seen["suspicious"] == 1
    assert seen["phase_start_timestamp_seconds"] == 1_795_230_729
    assert seen["up"] == 1


@pytest.mark.parametrize(
    ("phase", "verdict", "attention", "held"),
    [
        ("standby", "down", "paused by alice until 4; no takeover will happen", 1),
        ("claim", "down", "the takeover waits for hook pre_takeover: failed", 1),
        ("standby", "up", "3 takeovers within 3600 s: no more before an operator says", 0),
        ("active", "down", "", 0),
    ],
)
def test_held_is_a_primary_that_is_silent_while_nothing_is_started(
    desk: Desk, phase: str, verdict: str, attention: str, held: int
) -> None:
    """Whatever holds it, a forgotten pause as well; and never while the primary answers."""
    desk.tell({"kind": "flapping", "level": "CRITICAL", "what": attention})
    desk.run(20, phase=phase, verdict=verdict, attention=[attention])
    assert figures(desk)["held"] == held


def test_a_silent_monitor_is_not_graphed_as_what_it_was(desk: Desk) -> None:
    """Without a fresh status there is no phase, no verdict, no service: only its age."""
    desk.run(20, phase="active")
    assert 'phase{phase="active"}' in figures(desk)
    written_s = desk.now_s
    desk.run(90, watched=False)
    seen = figures(desk)
    assert seen["up"] == 0
    assert seen["status_timestamp_seconds"] == written_s
    assert seen["agent_timestamp_seconds"] > written_s + 60
    assert not [name for name in seen if name.startswith(("phase", "verdict", "service"))]


def test_counters_survive_a_restart(desk: Desk) -> None:
    """Takeovers, echoes and messages go on where they were; what happened meanwhile is in."""
    sample(desk)
    desk.tell(*TAKEOVER)
    desk.run(20, phase="active", verdict="down")
    desk.tell(transition("active", "takeover"), transition("takeover", "active"), *FAILBACK)
    sample(desk)
    desk.restart()
    desk.run(20)
    seen = figures(desk)
    primary, reference_ = (
        f'{{address="198.51.100.{number}",role="{role}"}}'
        for number, role in ((2, "primary"), (1, "reference"))
    )
    assert seen["takeovers_total"] == 1  # a service that is started again is no takeover
    assert seen["failbacks_total"] == 1
    assert seen[f"echoes_sent_total{primary}"] == 40
    assert seen[f"echoes_answered_total{primary}"] == 36
    assert seen[f"echoes_answered_total{reference_}"] == 0
    assert seen['rtt_seconds{address="198.51.100.2",role="primary",stat="mean"}'] == 0.00025
    assert seen['notifications_sent_total{target="target 0"}'] == len(desk.sender.got) == 2


def test_lines_that_were_lost_are_counted(desk: Desk) -> None:
    """Torn, or of another shape; also those before a restart."""
    with desk.paths.events.open("a") as file:
        file.write('{"torn\n')
    sample(desk, paths=3)
    endless = {"role": "primary", "sent": float("inf"), "answered": 0, "rtt_ms": None}
    sample(desk, paths={"198.51.100.2": endless})
    desk.run(20)
    assert figures(desk)["events_lost_total"] == 3
    desk.restart()
    desk.run(20)
    assert figures(desk)["events_lost_total"] == 3


def test_what_goes_on_has_a_figure(tmp_path: Path) -> None:
    """Two active, a silent reference, a failed message: each is there, and goes again."""
    desk = new_desk(tmp_path)
    desk.sender.reachable = False
    desk.tell(TWO, reference(silent=True))
    desk.run(20, attention=["two active"], quiet_references=["198.51.100.1"])
    seen = figures(desk)
    assert seen["two_active_possible"] == 1
    assert seen["attention"] == 1
    assert seen['reference_silent{address="198.51.100.1"}'] == 1
    assert seen['notifications_failed_total{target="target 0"}'] > 0
    assert seen['notifications_waiting{target="target 0"}'] == 2
    desk.run(60)
    seen = figures(desk)
    assert seen["two_active_possible"] == seen['reference_silent{address="198.51.100.1"}'] == 0


def test_node_exporter_gives_the_figures_on_through_the_link(tmp_path: Path) -> None:
    """The real one, on the loopback, with a file that is a link as our service makes it."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    textfile = theirs / "failover_monitor.prom"
    textfile.symlink_to(ours / textfile.name)
    desk = Desk(tmp_path, textfile=textfile)
    desk.run(20)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = (f"--web.listen-address={address}", "--collector.disable-defaults")
    more = ("--collector.textfile", f"--collector.textfile.directory={theirs}")
    exporter = subprocess.Popen([EXPORTER, *words, *more], stderr=subprocess.DEVNULL)
    try:
        page = fetched(f"http://{address}/metrics")
    finally:
        exporter.terminate()
        exporter.wait(10)
    assert "\nfailover_monitor_up 1\n" in page
    assert "\nnode_textfile_scrape_error 0\n" in page


def fetched(url: str) -> str:
    until_s = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310, our own loopback
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"textfile": "x.prom"}, "no absolute path"),
        ({"textfile": "/x.txt"}, "a path that ends in .prom"),
        ({"textfil": "/x.prom"}, "did you mean textfile?"),
        (None, "null is not an object"),
        ("/x.prom", "is not an object"),
        ({}, "is missing"),
    ],
)
def test_a_wrong_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], metrics: Any, words: str
) -> None:
    """At once, with its place, and with what would be right."""
    assert main(["check", config(tmp_path, metrics=metrics)]) == 78
    assert words in capsys.readouterr().err
