"""The audit finds what it is there for; else its silence would mean nothing."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab import units
from tests.lab.audit import (
    HISTORY,
    MOST_FILES,
    RUN,
    Timeline,
    broken_chain,
    findings,
    is_part,
    leaked,
)
from tests.lab.hosts import Lab, wait_until
from tests.lab.pair import APP, EVENTS, STATE, Pair, pair
from tests.lab.test_units import wait_for_phase

SPOILER = f"""
import os, subprocess, sys
files = [open("/dev/null") for _ in range({MOST_FILES})]
if os.fork() == 0:
    os._exit(0)
print("ready", flush=True)
sys.stdin.read()
"""


def transition(source: str, target: str) -> dict[str, Any]:
    what = f"{source} -> {target}: because"
    return {"kind": "transition", "FROM": source, "TO": target, "what": what}


def ask(verb: str) -> dict[str, Any]:
    return {"kind": "asked", "VERB": verb, "UNIT": APP, "what": f"{verb} {APP}"}


STARTED = {"kind": "started", "what": "it watches"}


def test_a_life_whose_transitions_join_is_whole() -> None:
    """A new process may begin in any phase, and go on with what the last one asked."""
    first = [STARTED, transition("unknown", "standby"), transition("standby", "takeover")]
    second = [STARTED, ask("start"), transition("takeover", "active")]
    assert broken_chain([*first, ask("start"), *second]) == []


def test_a_gap_between_transitions_is_found() -> None:
    """What lies between them was not told, or did not happen."""
    events = [STARTED, transition("unknown", "standby"), transition("active", "failback")]
    assert broken_chain(events) == ["in standby, and then 'active -> failback: because'"]


@pytest.mark.parametrize(("phase", "verb"), [("standby", "start"), ("active", "stop")])
def test_an_ask_that_fits_no_phase_is_found(phase: str, verb: str) -> None:
    """A start while the primary serves, a stop while we do."""
    events = [STARTED, transition("unknown", phase), ask(verb)]
    assert broken_chain(events) == [f"in {phase} it asked for '{verb} {APP}'"]


def test_a_story_that_is_told_in_part_is_no_other_story() -> None:
    """A journal that was not there for a while has gaps; it has nothing else, nor another order."""
    story = ["one", "two", "three", "two"]
    assert is_part(["one", "two"], story)
    assert is_part([], story)
    assert not is_part(["three", "one"], story)
    assert not is_part(["four"], story)


def test_files_and_dead_children_that_are_kept_are_found() -> None:
    """Of a process that leaks both."""
    with subprocess.Popen(
        [sys.executable, "-c", SPOILER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        wait_until(lambda: len(leaked(process.pid)) == 2, 5, "both are found")
        assert "dead children" in leaked(process.pid)[1]
        process.kill()


def test_what_a_test_leaves_behind_on_its_hosts_is_found(lab: Lab) -> None:
    """A service on two hosts, a temporary file, a half-written one, a wrong word, a torn line."""
    primary = lab.systemd("primary", 2, files={f"/etc/systemd/system/{APP}": units.APP})
    primary.systemctl("start", APP)
    standby = pair(lab, primary=primary).standby
    assert findings(lab) == []
    standby.systemctl("start", APP)
    standby.wait_for_log("possibly two active", 5)
    standby.write(f"{RUN}/.config.last-good.json.tmp", "{")
    standby.write(f"{HISTORY}/intent.json", '{"phase": "sta')
    history = standby.read(EVENTS)
    standby.write(EVENTS, f'{history}{{"at": "20\n')
    word = standby.read(STATE)
    standby.write(STATE, "active_al")
    found = "\n".join(findings(lab))
    assert f"{APP} has processes on primary and standby" in found
    assert ".config.last-good.json.tmp is left behind" in found
    assert "intent.json is no JSON object" in found
    assert "events.jsonl has a line that is no JSON object" in found
    assert "the state word is 'active_al'" in found
    assert f"{APP} has processes" not in "\n".join(findings(lab, two_active=True))
    standby.systemctl("stop", APP)
    standby.run("rm", f"{RUN}/.config.last-good.json.tmp")
    standby.write(f"{HISTORY}/intent.json", standby.read(f"{RUN}/intent.json"))
    lines = [line for line in standby.read(EVENTS).splitlines() if line != '{"at": "20']
    standby.write(EVENTS, "\n".join(lines) + "\n")
    standby.write(STATE, word)
    assert all(json.loads(line) for line in lines)


def test_a_timeline_has_what_was_done_and_what_came_of_it_in_one_order(
    lab: Lab, make_pair: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cut, the verdict, the start, as systemd tells it, and the return."""
    timeline = Timeline(lab)
    timeline.follow(monkeypatch)
    hosts = make_pair()
    hosts.takeover()
    hosts.failback()
    wait_for_phase(hosts.standby, "standby")
    hosts.standby.run("journalctl", "--sync")
    lines = [line.split(maxsplit=2)[2] for line in timeline.lines()]
    wanted = [
        "<- cut",
        "transition: standby -> takeover: the primary stopped answering",
        f"asked: start {APP}",
        f"systemd: Started {APP}.",
        "<- heal",
        "transition: active -> failback: the primary is back",
        f"systemd: Stopped {APP}.",
    ]
    assert is_part(wanted, lines), "\n".join(lines)
