"""What `status` shows: the same facts to people, pipes and programs, and honest of its age."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from failover_monitor import cli
from failover_monitor.files import Paths, take_lock
from failover_monitor.model import GuardPolicy, Phase, Policy, Role, ServiceCheck, Unit, Verdict
from failover_monitor.rehearsal.moves import reload
from failover_monitor.status import STALE_S
from tests.terminal import LEAVES, SEQUENCE, Terminal
from tests.test_cli import (
    FINE,
    GUARDED,
    NOT_RUNNING,
    ROOT,
    WRONG_USE,
    leave_status,
    paths,
    run,
    running,
)
from tests.world import World, policy_of

__all__ = ["paths", "running"]  # fixtures

SCHEMA = json.loads((ROOT / "docs/status.schema.json").read_text())
PRIMARY, GATEWAY, STANDBY = "198.51.100.2", "198.51.100.1", "198.51.100.3"
GUARD = policy_of(
    role=Role.PRIMARY, primary=(), standby=(STANDBY,), guard=GuardPolicy(deadline_s=5.0)
)
# The program, with its files below a directory of the test's own.
PROGRAM = """
import sys
from pathlib import Path
from failover_monitor import cli
from failover_monitor.files import Paths
cli.PATHS = Paths(Path(sys.argv[1]))
sys.exit(cli.main(sys.argv[2:]))
"""
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list, tuple),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def faults(value: Any, schema: dict[str, Any], where: str = "$") -> Iterator[str]:
    """What is wrong by the keywords that our schema uses; what it does not describe is wrong."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    known = {"$schema", "$defs", "title", "description", "type", "enum", "minimum", "items"}
    yield from (f"{where}: {word}" for word in schema.keys() - known - {"properties", "required"})
    names = schema.get("type", [])
    types = [
        kind for name in ([names] if isinstance(names, str) else names) for kind in TYPES[name]
    ]
    if types and (not isinstance(value, tuple(types)) or (value is True and bool not in types)):
        yield f"{where}: {value!r} is no {names}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"
    if isinstance(value, int | float) and value < schema.get("minimum", value):
        yield f"{where}: {value!r} is too small"
    if isinstance(value, dict):
        yield from (f"{where}: no {name}" for name in schema["required"] if name not in value)
        for name, entry in value.items():
            if name in schema["properties"]:
                yield from faults(entry, schema["properties"][name], f"{where}.{name}")
            else:
                yield f"{where}.{name} is not described"
    if isinstance(value, list):
        for number, entry in enumerate(value):
            yield from faults(entry, schema["items"], f"{where}[{number}]")


def shown(world: World, until_s: float) -> dict[str, Any]:
    """The status document of a monitor at a moment, as JSON gives it back."""
    if not world.monitor:
        world.begin()
    world.run_until(until_s)
    assert world.monitor
    world.monitor.refresh()
    world.monitor.turn()
    document: dict[str, Any] = json.loads(json.dumps(world.recorder.last_status))
    return document


def program(paths: Paths, *arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(paths.root), *arguments]


def told(paths: Paths, capsys: pytest.CaptureFixture[str], document: dict[str, Any]) -> str:
    """What `status` prints of a document."""
    paths.status.write_text(json.dumps(document))
    assert cli.main(["status"]) == FINE
    return capsys.readouterr().out


# The schema.


@pytest.mark.parametrize("policy", [policy_of(), GUARD], ids=["standby", "primary"])
def test_every_document_is_as_the_schema_says(policy: Policy) -> None:
    """In calm, in suspicion, cut off, and after the return; each key is described."""
    world = World(policy)
    assert list(faults(shown(world, 0.0), SCHEMA)) == []
    assert list(faults(shown(world, 30.0), SCHEMA)) == []
    for address in policy.primary or policy.watched:
        world.hosts[address].up = False
    phases = set()
    for until_s in (33.0, 36.0, 39.0, 60.0):
        document = shown(world, until_s)
        phases.add(document["phase"])
        assert list(faults(document, SCHEMA)) == []
    assert len(phases) > 1
    for host in world.hosts.values():
        host.up = True
    assert list(faults(shown(world, 100.0), SCHEMA)) == []


def test_what_the_command_prints_is_as_the_schema_says(
    running: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the keys that the command adds."""
    leave_status(running)
    assert cli.main(["status", "--json"]) == FINE
    document = json.loads(capsys.readouterr().out)
    assert list(faults(document, SCHEMA)) == []
    assert (document["running"], document["stale"]) == (True, False)
    leave_status(running, age_s=46.0)
    assert cli.main(["status", "--json"]) == NOT_RUNNING
    assert json.loads(capsys.readouterr().out)["stale"] is True


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"phase": "asleep"}, "$.phase: 'asleep' is none of"),
        ({"at_s": -1.0}, "$.at_s: -1.0 is too small"),
        ({"flapping": 1}, "$.flapping: 1 is no boolean"),
        ({"failed_checks": True}, "$.failed_checks: True is no integer"),
        ({"surprise": 1}, "$.surprise is not described"),
        ({"units": [{}]}, "$.units[0]: no name"),
        ({"references": [{"sent": "x"}]}, "$.references[0].sent: 'x' is no integer"),
    ],
)
def test_the_validation_finds_what_is_wrong(change: dict[str, Any], fault: str) -> None:
    """Else the tests above would say nothing."""
    document = {**shown(World(policy_of()), 10.0), **change}
    assert [found for found in faults(document, SCHEMA) if found.startswith(fault)]


def test_the_schema_names_every_word() -> None:
    """A new phase, verdict or unit state belongs into it."""
    properties, unit = SCHEMA["properties"], SCHEMA["$defs"]["unit"]["properties"]
    for kind, schema in (
        (Phase, properties["phase"]),
        (Verdict, properties["verdict"]),
        (Role, properties["role"]),
        (Unit, unit["state"]),
    ):
        assert set(schema["enum"]) == {member.value for member in kind}


def test_a_service_check_is_named_until_it_passes() -> None:
    """Also when nothing has been heard of it yet, as after a start; one that is gone is not."""
    web = ServiceCheck(kind="tcp", name="web", options={}, interval_s=2.0)
    world = World(policy_of(service_checks=(web,)))
    assert shown(world, 0.0)["checks_not_passing"] == ["web"]
    assert shown(world, 30.0)["checks_not_passing"] == []
    world.says["web"] = "fails"
    document = shown(world, 60.0)
    assert document["checks_not_passing"] == ["web"]
    assert list(faults(document, SCHEMA)) == []
    reload(world, service_checks=())
    assert shown(world, 61.0)["checks_not_passing"] == []


# What people see.


def test_status_shows_loss_and_round_trips(
    running: Paths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the last minutes, for each address; none of it for one that has never answered."""
    world = World(policy_of(references=(GATEWAY, "198.51.100.9")))
    world.hosts["198.51.100.9"].up = False
    shown(world, 60.0)
    world.hosts[PRIMARY].up = False
    shown(world, 63.1)
    world.hosts[PRIMARY].up = True
    document = shown(world, 600.0)
    monkeypatch.setattr("time.clock_gettime", lambda clock: 604.0)
    lines = told(running, capsys, document).splitlines()
    primary, gateway, witness = (line for line in lines if " echoes in " in line)
    found = re.fullmatch(
        r"primary     198\.51\.100\.2: answers, loss ([\d.]+) % of 2\d\d echoes"
        r" in 10 min, round trip 1/1/1 ms",
        primary,
    )
    assert found
    assert 0 < float(found[1]) < 10
    assert "reference   198.51.100.1: answers, loss 0 % of 2" in gateway
    assert "reference   198.51.100.9: has not answered yet, loss 100 % of 2" in witness
    assert "round trip" not in witness


def test_a_silent_address_says_how_long(
    running: Paths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it was written: between two writings nobody claims a silence that was not seen."""
    world = World(policy_of(primary=(PRIMARY, "198.51.100.10")))
    shown(world, 60.0)
    world.hosts["198.51.100.10"].up = False
    document = shown(world, 201.0)
    monkeypatch.setattr("time.clock_gettime", lambda clock: 215.0)
    text = told(running, capsys, document)
    assert "primary     198.51.100.2: answers, loss 0 %" in text
    assert re.search(
        r"primary     198\.51\.100\.10: no answer for 2 min [12]\d s, loss [6-7][\d.]+ %", text
    )


def test_what_needs_attention_comes_first(
    running: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then the role, the phase, the verdict; the age comes last."""
    document = {**leave_status(running, quiet=True), "attention": ["two active: mend it"]}
    labels = [line.split("  ")[0] for line in told(running, capsys, document).splitlines()]
    assert labels == [
        *("attention", "attention", "role", "phase", "verdict", "state word"),
        *("primary", "reference", "service", "written", "next check"),
    ]


def test_a_suspicion_is_shown(running: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """The moment at which somebody looks is often this one."""
    document = {**leave_status(running), "suspicious": True, "failed_checks": 2}
    text = told(running, capsys, document)
    assert "suspicion   the primary does not answer, 2 checks in a row failed\n" in text


def test_ages_go_by_the_clock_of_the_document(
    running: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wall clock that has stepped since changes none of them."""
    document = leave_status(running, age_s=10.0)
    document["at"] = "2026-11-21T17:00:00+0000"
    document["phase_since"] = "2026-11-21T14:29:50+0100"
    document["units"][0]["since"] = "2026-11-21T16:59:15+0000"
    text = told(running, capsys, document)
    assert "phase       standby since 2026-11-21T14:29:50+0100 (3 h 30 min)\n" in text
    unit = "app.service failed (exit-code) since 2026-11-21T16:59:15+0000 (55 s)"
    assert f"service     {unit}\n" in text


@pytest.mark.parametrize(
    ("age_s", "words"),
    [
        (0.0, "in 2.0 s, every 3 s"),
        (1.5, "in 0.5 s, every 3 s"),
        (2.5, "in 2.5 s, every 3 s"),
        (15.5, "in 1.5 s, every 3 s"),
        (46.0, "none: nobody watches"),
    ],
)
def test_the_next_check_is_told_from_now(
    running: Paths, capsys: pytest.CaptureFixture[str], age_s: float, words: str
) -> None:
    """The document is some rounds old; who reads it is not."""
    document = {**leave_status(running), "next_check_s": 2.0, "check_every_s": 3.0}
    document["at_s"] = time.clock_gettime(time.CLOCK_BOOTTIME) - age_s
    running.status.write_text(json.dumps(document))
    cli.main(["status"])
    shown_s = float(re.sub(r"[^0-9.]", "", words.split(",")[0]) or 0)
    found = capsys.readouterr().out.partition("next check  ")[2]
    if age_s > STALE_S:
        assert found == f"{words}\n"
        return
    matched = re.fullmatch(r"in ([\d.]+) s, every 3 s\n", found)
    assert matched
    assert float(matched[1]) == pytest.approx(shown_s, abs=0.4)


def test_the_next_check_is_the_next_round(running: Paths) -> None:
    """Rarely in calm, densely in suspicion, and each half second while we serve."""
    world = World(policy_of())
    found = {}
    for until_s, up in ((30.0, True), (33.5, False), (60.0, False)):
        world.hosts[PRIMARY].up = up
        document = shown(world, until_s)
        assert 0 < document["next_check_s"] <= document["check_every_s"]
        found[document["suspicious"], document["phase"]] = document["check_every_s"]
    assert found == {(False, "standby"): 3.0, (True, "standby"): 0.25, (False, "active"): 0.5}


def test_a_failed_service_that_leaves_the_list_is_nobodys_to_mend(running: Paths) -> None:
    """It may have run here, so it is watched until we have stopped; but it is not wanted here."""
    policy = policy_of(services=("app.service", "b.service"))
    world = World(policy)
    world.systemd.services["b.service"].fails = 99
    shown(world, 10.0)
    world.hosts[PRIMARY].up = False
    assert any("b.service does not run" in words for words in shown(world, 60.0)["attention"])
    assert world.monitor
    world.monitor.reload(replace(policy, services=("app.service",)), world.monitor.probe)
    document = shown(world, 80.0)
    assert document["attention"] == []
    assert [unit["name"] for unit in document["units"]] == ["app.service", "b.service"]


def test_words_from_elsewhere_neither_break_lines_nor_draw(
    running: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fence command may have said anything."""
    document = {**leave_status(running), "attention": ["it said: \x1b[2J\nphase active"]}
    text = told(running, capsys, document)
    assert text.startswith("attention   it said: ?[2J phase active\nrole        standby\n")


def test_a_monitor_that_has_not_written_yet(
    running: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """It holds its lock: that is not the same as nobody."""
    assert cli.main(["status"]) == NOT_RUNNING
    assert "has not written its status yet" in capsys.readouterr().err


@pytest.mark.parametrize("text", ['{"at_s": 1}', "[]", "7", '{"at_s": null}', '"at_s"'])
def test_a_document_that_is_not_ours_is_none(running: Paths, text: str) -> None:
    """No traceback, and the status that scripts know."""
    running.status.write_text(text)
    for arguments in (["status"], ["status", "--json"]):
        assert cli.main(arguments) == NOT_RUNNING


def test_a_document_without_the_last_minutes(
    running: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process that writes is of an older version: it is shown without them."""
    document = leave_status(running, policy=GUARDED)
    del document["recent_s"], document["check_every_s"]
    new = ("loss_percent", "rtt_ms_min", "rtt_ms_mean", "rtt_ms_max")
    for path in (*document["standby"], *document["references"]):
        for key in new:
            del path[key]
    for unit in document["units"]:
        del unit["since"]
    text = told(running, capsys, document)
    assert "standby     198.51.100.3: has not answered yet\n" in text
    assert "service     app.service failed (exit-code)\n" in text


# On a terminal.


def test_a_pipe_gets_plain_lines_and_loads_nothing_that_draws(running: Paths) -> None:
    """No escape sequence, and no rich."""
    leave_status(running, phase=Phase.ACTIVE, verdict=Verdict.DOWN)
    loaded = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    words = [sys.executable, "-c", loaded + PROGRAM, str(running.root), "status"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == FINE
    assert "\x1b" not in done.stdout
    assert "failover_monitor.console.status" in done.stderr.split()
    assert "rich" not in done.stderr.split()


def test_a_terminal_gets_colours(running: Paths) -> None:
    """The same words in the same places, and a failed service in red."""
    leave_status(running)
    with Terminal(program(running, "status"), cwd=ROOT) as terminal:
        assert terminal.end() == FINE
    assert "phase       standby since" in terminal.words
    assert "service     app.service failed (exit-code)" in terminal.words
    assert "\x1b[1;31mapp.service failed" in terminal.drawn


def test_a_terminal_without_colours_gets_none(running: Paths) -> None:
    """NO_COLOR (no-color.org) and TERM=dumb."""
    leave_status(running)
    with Terminal(program(running, "status"), cwd=ROOT, env={"TERM": "dumb"}) as terminal:
        assert terminal.end() == FINE
    assert "\x1b" not in terminal.drawn
    with Terminal(program(running, "status"), cwd=ROOT, env={"NO_COLOR": "1"}) as terminal:
        assert terminal.end() == FINE
    assert "\x1b[1;31m" not in terminal.drawn


def test_a_narrow_terminal_loses_no_words(running: Paths) -> None:
    """Long lines go on below themselves."""
    document = leave_status(running)
    document["why"] = "eighteen echo rounds were not answered"
    running.status.write_text(json.dumps(document))
    with Terminal(program(running, "status"), cwd=ROOT, columns=34) as terminal:
        assert terminal.end() == FINE
    lines = terminal.words.splitlines()
    assert all(len(line) <= 34 for line in lines)
    squeezed = re.sub(r"\s+", "", terminal.words)
    assert "eighteenechoroundswerenotanswered" in squeezed


# Live.


def test_watch_follows_the_monitor(paths: Paths) -> None:
    """Nobody, a monitor, its end: each is shown within a second or two; Ctrl-C ends it with 3."""
    with Terminal(program(paths, "status", "--watch"), cwd=ROOT) as terminal:
        terminal.wait_for("failover-monitor is not running")
        lock = take_lock(paths.lock)
        assert lock is not None
        terminal.wait_for("has not written its status yet")
        leave_status(paths)
        terminal.wait_for("phase       standby since")
        leave_status(paths, phase=Phase.ACTIVE, verdict=Verdict.DOWN)
        terminal.wait_for("phase       active since")
        assert "NOT RUNNING" not in terminal.words
        os.close(lock)
        terminal.wait_for("NOT RUNNING: nobody watches")
        terminal.press("\x03")
        assert terminal.end() == NOT_RUNNING
    assert "Traceback" not in terminal.words


@pytest.mark.parametrize("how", ["ctrl-c", "terminated"])
def test_watch_ends_cleanly(running: Paths, how: str) -> None:
    """0 for a fresh status; the old screen is back, with the last picture on it, and the cursor."""
    leave_status(running)
    with Terminal(program(running, "status", "--watch"), cwd=ROOT) as terminal:
        terminal.wait_for("phase       standby since")
        if how == "ctrl-c":
            terminal.press("\x03")
        else:
            terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == FINE
    assert "Traceback" not in terminal.words
    assert LEAVES in terminal.drawn
    after = SEQUENCE.sub("", terminal.drawn.rpartition(LEAVES)[2])
    assert "phase       standby since" in after
    assert terminal.drawn.count("\x1b[?25h") >= terminal.drawn.count("\x1b[?25l") > 0


def test_watch_ages_what_is_no_longer_written(running: Paths) -> None:
    """The monitor hangs: the picture becomes stale by itself."""
    leave_status(running, age_s=43.0)
    with Terminal(program(running, "status", "--watch"), cwd=ROOT) as terminal:
        terminal.wait_for("phase       standby since")
        terminal.wait_for("STALE: the monitor has stopped writing")
        terminal.press("\x03")
        assert terminal.end() == NOT_RUNNING


@pytest.mark.parametrize(("columns", "rows"), [(12, 3), (1, 1), (300, 100)])
def test_watch_on_any_terminal(running: Paths, columns: int, rows: int) -> None:
    """However small; also when it changes its size meanwhile."""
    leave_status(running)
    words = program(running, "status", "--watch")
    with Terminal(words, cwd=ROOT, columns=columns, rows=rows) as terminal:
        wait_for_pictures(terminal, 2)
        terminal.resize(120, 40)
        terminal.wait_for("phase       standby since")
        terminal.press("\x03")
        assert terminal.end() == FINE
    assert "Traceback" not in terminal.words


def wait_for_pictures(terminal: Terminal, count: int) -> None:
    terminal.wait_until(lambda: terminal.drawn.count("\x1b[H") >= count, f"{count} pictures")


def test_watch_on_a_dumb_terminal_tells_news_only(running: Paths) -> None:
    """No escape sequence; one picture below the other, when there is something new."""
    leave_status(running)
    words = program(running, "status", "--watch")
    with Terminal(words, cwd=ROOT, env={"TERM": "dumb"}) as terminal:
        terminal.wait_until(lambda: "next check" in terminal.words, "a first picture")
        leave_status(running, phase=Phase.ACTIVE)
        terminal.wait_until(lambda: terminal.words.count("next check") == 2, "a second picture")
        terminal.press("\x03")
        assert terminal.end() == FINE
    assert "\x1b" not in terminal.drawn
    assert terminal.words.count("phase  ") == 3  # the last one is left behind at the end


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--watch",), "cannot watch: the output is no terminal\nhint: "),
        (("--watch", "--json"), "not allowed with argument"),
    ],
)
def test_watch_needs_a_terminal(arguments: tuple[str, ...], words: str) -> None:
    """In a script it would never end: it is refused, and says what to use."""
    done = run("status", *arguments)
    assert (done.returncode, done.stdout) == (WRONG_USE, "")
    assert words in done.stderr
