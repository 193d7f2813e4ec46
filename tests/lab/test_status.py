"""`status` on real hosts: what the network loses is seen, live and in numbers, and its age is told.

And the samples behind it: they outlive the process, and a disk that was full.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from failover_monitor.console import records
from failover_monitor.files import Paths
from tests.lab.hosts import HOST_ENVIRONMENT, Lab, children, wait_until
from tests.lab.pair import EVENTS, MONITOR, STATUS, Guarded, Pair, Standby
from tests.lab.test_files import HISTORY, fill, mounted
from tests.lab.test_guard import guarded
from tests.lab.test_process import RESTART_S, process, wait_for_new_process
from tests.terminal import Terminal
from tests.test_status import SCHEMA, faults

pytestmark = pytest.mark.timeout(180)
MakePair = Callable[..., Pair]
SAMPLES = f"{HISTORY}/samples.jsonl"


def status(standby: Standby, *words: str) -> tuple[int, str]:
    done = standby.run("failover-monitor", "status", *words, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def document(standby: Standby) -> dict[str, Any]:
    """What the command gives to programs; as the schema says."""
    found: dict[str, Any] = json.loads(status(standby, "--json")[1])
    assert list(faults(found, SCHEMA)) == []
    return found


def samples(standby: Standby) -> list[records.Sample]:
    return list(records.samples(Paths(standby.root())))


def line(text: str, label: str) -> str:
    """The line of a label."""
    return next(line for line in text.splitlines() if line.startswith(f"{label:<12}"))


def test_status_shows_what_the_network_loses(make_pair: MakePair) -> None:
    """A fifth of the primary's frames is lost each way: its loss is seen, the gateway has none."""
    made = make_pair()
    standby = made.standby
    calm = document(standby)
    assert [path["loss_percent"] for path in calm["references"]] in ([0.0], [None])
    made.primary.lose(20)
    wait_until(lambda: document(standby)["primary"][0]["loss_percent"], 40, "a loss is seen")
    time.sleep(5)
    made.primary.lose(0)
    standby.systemctl("reload", MONITOR)  # the status is written anew
    wait_until(lambda: not document(standby)["suspicious"], 5, "all is well again")
    seen = document(standby)
    (primary,), (gateway,) = seen["primary"], seen["references"]
    assert 0 < primary["loss_percent"] < 70
    assert gateway["loss_percent"] == 0
    for path in (primary, gateway):
        assert 0 < path["rtt_ms_min"] <= path["rtt_ms_mean"] <= path["rtt_ms_max"] < 1000
    code, text = status(standby)
    assert code == 0
    assert f"loss {primary['loss_percent']:g} % of {primary['sent']} echoes" in line(
        text, "primary"
    )
    assert "loss 0 % of" in line(text, "reference")
    assert line(text, "service").startswith("service     app.service stopped")
    assert "\x1b" not in text
    standby.systemctl("stop", MONITOR)
    kept = samples(standby)
    echoes = [sample.paths[primary["address"]] for sample in kept]
    assert sum(path.answered for path in echoes) < sum(path.sent for path in echoes)
    gaps_s = [gap_s for sample in kept for gap_s in sample.gaps_s]
    assert gaps_s
    assert max(gaps_s) < 1.5  # the verdict would have come then


def test_status_on_a_guarded_primary(lab: Lab) -> None:
    """Its guard echoes the standby and the gateway; document and samples have the same form."""
    made = guarded(lab)
    primary = made.primary
    assert isinstance(primary, Guarded)
    seen = document(primary)
    assert (seen["role"], seen["phase"], seen["primary"]) == ("primary", "serving", [])
    code, text = status(primary)
    assert code == 0
    assert line(text, "role").endswith("primary")
    assert line(text, "standby").startswith(f"standby     {made.standby.address}: answers, ")
    assert line(text, "service").startswith("service     app.service running since 2")
    primary.systemctl("restart", MONITOR)
    (sample, *_) = samples(primary)
    assert {path.role for path in sample.paths.values()} == {"standby", "reference"}


def test_watch_lives_through_everything(make_pair: MakePair) -> None:
    """A takeover, a frozen monitor, a stopped and a new one: one terminal shows them all."""
    made = make_pair()
    standby = made.standby
    words = [*standby.doorway(), "failover-monitor", "status", "--watch"]
    environment = HOST_ENVIRONMENT | {"TERM": "xterm-256color"}
    with Terminal(words, env=environment) as terminal:
        terminal.wait_for("phase       standby since")
        made.takeover()
        terminal.wait_for("phase       active since")
        terminal.wait_for("service     app.service running since")
        made.failback()
        terminal.wait_for("phase       standby since")

        standby.systemctl("reload", MONITOR)  # from now on it tells the watchdog each second
        standby.wait_for_log("was read again", 10)
        standby.signal(MONITOR, signal.SIGSTOP)
        frozen = standby.status()
        standby.write(STATUS, json.dumps(frozen | {"at_s": frozen["at_s"] - 46}))
        terminal.wait_for("STALE: the monitor has stopped writing")
        for mode in ((), ("--json",)):
            code, text = status(standby, *mode)
            assert code == 3
            assert ("STALE" in text) is (mode == ())
        standby.signal(MONITOR, signal.SIGCONT)
        standby.systemctl("reload", MONITOR)
        terminal.wait_until(lambda: "STALE" not in terminal.picture, "it is fresh again")

        standby.systemctl("stop", MONITOR)
        terminal.wait_for("NOT RUNNING: nobody watches")
        standby.systemctl("start", MONITOR)
        terminal.wait_until(
            lambda: "NOT RUNNING" not in terminal.picture and "(0 s)" in terminal.picture,
            "the new monitor is seen",
        )
        (inner,) = children(terminal.process.pid)
        os.kill(inner, signal.SIGINT)
        assert terminal.end() == 0
    assert "Traceback" not in terminal.words


def test_samples_outlive_the_process(make_pair: MakePair) -> None:
    """An orderly end writes what there is; a kill costs less than a minute, and no older line."""
    standby = make_pair().standby
    time.sleep(3)
    standby.systemctl("restart", MONITOR)
    (first,) = samples(standby)
    assert 2 < first.length_s < 30
    assert first.phase == "standby"
    assert all(path.sent == path.answered > 0 for path in first.paths.values())
    old = process(standby)
    standby.signal(MONITOR, signal.SIGKILL)
    wait_for_new_process(standby, old, RESTART_S)
    standby.wait_for_state("active_alive", 10)
    time.sleep(2)
    standby.systemctl("stop", MONITOR)
    kept = samples(standby)
    assert kept[0] == first
    assert len(kept) == 2
    assert kept[1].at_s > first.at_s
    assert kept[1].length_s < kept[1].at_s - first.at_s


def test_samples_come_again_when_a_full_disk_has_room(make_pair: MakePair) -> None:
    """None is written meanwhile, none is torn afterwards, and the watch goes on."""
    made = make_pair(watch=False)
    standby = mounted(made, "/var/log", HISTORY)
    standby.watch()
    standby.systemctl("restart", MONITOR)
    standby.wait_for_state("active_alive", 10)
    before = len(samples(standby))
    fill(standby, f"{HISTORY}/ballast", SAMPLES, EVENTS)
    standby.systemctl("restart", MONITOR)
    standby.wait_for_state("active_alive", 10)
    assert len(samples(standby)) == before
    assert status(standby)[0] == 0
    standby.run("rm", f"{HISTORY}/ballast")
    time.sleep(2)
    standby.systemctl("restart", MONITOR)
    wait_until(lambda: len(samples(standby)) == before + 1, 5, "a sample was written")
    lines = standby.read(SAMPLES).splitlines()
    assert all(json.loads(line) for line in lines if line)
