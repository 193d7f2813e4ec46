"""Whole nights of an operator on real hosts: what was built in parts, used together, and broken.

Pauses, hooks, orders by hand, reload, restart, messages and the record meet here; each of them has
tests of its own elsewhere.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.hosts import Lab, wait_until
from tests.lab.pair import APP, EVENTS, MONITOR, Pair, Standby, pair
from tests.lab.test_agent import Post, make_told, wait_for_figure  # noqa: F401 - a fixture
from tests.lab.test_control import say
from tests.lab.test_hooks import HOOK, TEXT, hooked, mood, runs, units_left
from tests.lab.test_process import process, wait_for_new_process
from tests.test_status import SCHEMA, faults

pytestmark = pytest.mark.timeout(200)
MakeTold = Callable[..., tuple[Pair, Post]]

V, T, SLACK_S, TURN_S = 1.5, 1.0, 1.5, 3.0  # of the quick profile
RUN, HISTORY = "/run/failover-monitor", "/var/lib/failover-monitor"
VETO = {"pre_takeover": {"command": [HOOK], "timeout": 5, "veto": True}}
KEPT = {  # what a monitor leaves while it runs
    *("status.json", "intent.json", "config.last-good.json", "lock"),
    *("events.jsonl", "samples.jsonl"),
}


def document(standby: Standby) -> dict[str, Any]:
    """The status, which is as the schema says."""
    found: dict[str, Any] = json.loads(say(standby, "status", "--json")[1])
    assert list(faults(found, SCHEMA)) == []
    return found


def left_behind(standby: Standby) -> set[str]:
    """Files of ours that no monitor at rest should leave."""
    found = standby.run("find", RUN, HISTORY, "-type", "f", "-printf", "%f\\n").stdout.split()
    return set(found) - KEPT


def nothing_left(standby: Standby) -> None:
    """Not later than what is being written is written."""
    wait_until(lambda: left_behind(standby) == set(), 3, "no file is left behind")


def why(standby: Standby, *words: str) -> dict[str, Any]:
    return dict(json.loads(standby.run("failover-monitor", "why", "--json", *words).stdout))


def test_a_night_from_a_pause_to_a_failback(make_told: MakeTold) -> None:  # noqa: F811
    """Paused over a crash, resumed, held by a hook, let go by a reload, given back: told in order.

    Doctor calls nothing sure in between, and every document is as its schema says.
    """
    made, post = make_told(hooks=VETO)
    standby = made.standby
    standby.write(HOOK, TEXT, 0o755)
    mood(made, "pre_takeover", "echo no replica; exit 3")
    document(standby)
    assert say(standby, "pause", "--for", "10m", "--reason", "new disk f\udcfcr db")[0] == 0
    post.wait_for("takeovers are paused", 20)
    made.primary.cut()
    standby.wait_for_state("active_dead", T + V + SLACK_S)
    assert document(standby)["paused"]["reason"] == "new disk f?r db"
    status, words = say(standby, "doctor")
    assert (status, "a pause is in force" in words) == (1, True)

    post.wait_for("the primary is down: verdict down", 20)
    assert say(standby, "resume")[0] == 0
    standby.wait_for_log("it holds the takeover", TURN_S + V + T + SLACK_S)
    wait_until(lambda: document(standby)["attention"], 5, "the status says that it waits")
    status, words = say(standby, "takeover", "--yes")
    assert status == 1
    assert "the takeover waits for hook pre_takeover: failed" in words
    assert "hint: mend the hook; or take it out of the configuration" in words
    status, words = say(standby, "doctor")
    assert (status, "nobody serves now" in words) == (1, True)
    assert not standby.running(APP)
    wait_until(lambda: why(standby)["decision"] == ["unknown", "claim"], 5, "why says: a claim")
    post.wait_for("a hook holds the takeover", 30)

    standby.configure(hooks=None)
    standby.systemctl("reload", MONITOR)
    standby.wait_for(APP, "active", 10)
    document(standby)
    post.wait_for("takeover -> active", 30)
    made.failback()
    post.wait_for("OVER: the primary is down", 30)
    wait_until(lambda: document(standby)["phase"] == "standby", 3, "the phase is standby")

    told = [message["title"].partition("] ")[2] for message in post.got]
    moments = [
        next(number for number, title in enumerate(told) if words in title)
        for words in (
            "WARNING: takeovers are paused",
            "WARNING: the primary is down: verdict down",
            "OVER: takeovers are paused",
            "ERROR: a hook holds the takeover (pre_takeover)",
            "CRITICAL: a takeover waits",
            "OVER: a hook holds the takeover",
            "OVER: the primary is down",
        )
    ]
    assert moments == sorted(moments), told
    assert not [title for title in told if "nobody can tell" in title]
    assert why(standby)["decision"] == ["active", "failback", "standby"]
    page = standby.run("failover-monitor", "report", "--html", "-").stdout
    for sentence in ("new disk f?r db", "it holds the takeover", "failback -&gt; standby"):
        assert sentence in page
    wait_for_figure(standby, "takeovers_total", "1.0")
    assert "near miss" not in standby.log()
    nothing_left(standby)
    assert units_left(standby) == ""


def test_killed_at_the_worst_moments_it_goes_on(lab: Lab) -> None:
    """In a claim by hand behind a hook, and in a failback behind one: one takeover, one failback.

    A takeover by hand that nobody carries on is given up; who asked must ask again.
    """
    hang = "test -e /etc/hook.go || sleep 5"
    moods = {"pre_takeover": hang, "pre_failback": hang}
    made = hooked(lab, *moods, "post_failback", moods=moods, timeout=20)
    standby = made.standby
    asked = threading.Thread(target=say, args=(standby, "takeover", "--yes"))
    asked.start()
    wait_until(lambda: runs(made) == ["pre_takeover claim inactive"], 10, "the hook runs")
    old = process(standby)
    standby.signal(MONITOR, signal.SIGKILL)
    wait_for_new_process(standby, old, 20)
    standby.wait_for_state("active_alive", 10)
    asked.join(30)
    assert not standby.running(APP), "the primary lives, and nobody asks any more"
    standby.write("/etc/hook.go", "")
    made.takeover()
    standby.run("rm", "/etc/hook.go")
    made.primary.heal()
    wait_until(lambda: "pre_failback failback active" in runs(made), 10, "the hook runs")
    old = process(standby)
    standby.signal(MONITOR, signal.SIGKILL)
    standby.write("/etc/hook.go", "")
    wait_for_new_process(standby, old, 20)
    standby.wait_for(APP, "inactive", 30)
    wait_until(lambda: "post_failback standby inactive" in runs(made), 20, "the last hook ran")
    wait_until(lambda: units_left(standby) == "", 10, "no unit of a hook is left")
    nothing_left(standby)


@pytest.mark.parametrize("alive", [True, False], ids=["while it runs", "while it is down"])
def test_garbage_in_every_file_keeps_no_takeover_away(lab: Lab, alive: bool) -> None:
    """Somebody's script wrote over all of them: each is said or left aside; readers go on."""
    made = pair(lab)
    standby = made.standby
    if not alive:
        standby.systemctl("stop", MONITOR)
    for garbage in ("\0\xff\n{", "[]\n", '{"at_s": 1e999, "phase": {}, "boot_id": []}\n'):
        for name in ("takeover.request", "ack.request", "pause.json", "intent.json"):
            standby.write(f"{RUN}/{name}", garbage)
        for name in ("pause.json", "intent.json", "events.jsonl", "samples.jsonl"):
            standby.write(f"{HISTORY}/{name}", garbage)
        if alive:
            wait_until(lambda: not standby.exists(f"{RUN}/ack.request"), 5, "it is taken")
    if not alive:
        standby.watch()
    assert made.takeover() <= T + V + SLACK_S
    wait_until(lambda: "takeover -> active" in standby.read(EVENTS), 5, "the history has it")
    for words in (
        ("status",),
        ("history",),
        ("why",),
        ("recommend",),
        ("report", "--html", "-"),
        ("doctor",),
    ):
        status, said = say(standby, *words)
        assert "Traceback" not in said, words
        assert status in (0, 1), words
    made.failback()
    assert not standby.exists(f"{RUN}/takeover.request")
    ours = [line for line in standby.read(EVENTS).splitlines(keepends=True) if '"kind"' in line]
    standby.systemctl("stop", MONITOR)
    standby.write(EVENTS, "".join(ours))  # the audit believes every line


def test_two_commands_at_once_have_one_outcome(lab: Lab) -> None:
    """Two takeovers, a pause and a failback at the same moment: each is told what came of it."""
    made = pair(lab)
    standby = made.standby

    def at_once(*commands: tuple[str, ...]) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = [(-1, "")] * len(commands)

        def run(number: int) -> None:
            found[number] = say(standby, *commands[number])

        threads = [threading.Thread(target=run, args=(n,)) for n in range(len(commands))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return found

    both = at_once(("takeover", "--yes"), ("takeover", "--yes"))
    assert standby.running(APP)
    assert 0 in {status for status, _ in both}, both
    pause, back = at_once(("pause", "--reason", "x"), ("failback",))
    assert pause[0] == 0, pause
    assert back[0] in (0, 1), back
    assert say(standby, "resume")[0] == 0
    if standby.running(APP):
        assert say(standby, "failback")[0] == 0
    wait_until(lambda: document(standby)["phase"] == "standby", 5, "the phase is standby")
    nothing_left(standby)


def test_a_full_disk_takes_no_takeover_away(lab: Lab) -> None:
    """All of /var is full while a hook is due; a pause that would not be kept is refused."""
    made = pair(lab, watch=False, hooks={"pre_takeover": {"command": [HOOK], "timeout": 3}})
    standby = made.standby
    standby.write(HOOK, TEXT, 0o755)
    for path in ("/var/log", HISTORY):
        standby.run("mkdir", "-p", path)
        standby.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "tmpfs", path)
    standby.watch()
    for path in ("/var/log", HISTORY):
        standby.run("sh", "-c", f"yes '' | dd of={path}/ballast bs=1k", check=False)
    made.primary.cut()
    standby.wait_for_state("active_dead", T + V + SLACK_S)
    standby.wait_for(APP, "active", 15)
    assert say(standby, "status")[0] == 0
    assert say(standby, "pause", "--reason", "x")[0] == 1
    for path in ("/var/log", HISTORY):
        standby.run("rm", f"{path}/ballast")
    made.failback()
    time.sleep(1)
    assert document(standby)["paused"] is None


def test_a_frozen_systemd_behind_a_hook_delays_the_takeover_and_loses_none(lab: Lab) -> None:
    """PID 1 hangs when the hook is due: it is given up, and the service runs at the thaw."""
    made = hooked(lab, "pre_takeover", timeout=2)
    standby = made.standby
    made.primary.cut()
    os.kill(standby.init, signal.SIGSTOP)
    try:
        standby.wait_for_state("active_dead", T + V + SLACK_S)
        time.sleep(8)
        assert not standby.running(APP)
    finally:
        os.kill(standby.init, signal.SIGCONT)
    standby.wait_for(APP, "active", 15)
    wait_until(lambda: document(standby)["phase"] == "active", 10, "the phase is active")
    wait_until(lambda: units_left(standby) == "", 20, "no unit of a hook is left")
    made.failback()
