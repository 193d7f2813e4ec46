"""An operator on real hosts: pauses over a crash, takes over by hand, gives back; who is recorded.

The commands are run as an operator would, on the standby's own command line.
"""

import json
import pwd
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab import units
from tests.lab.hosts import Lab, wait_until
from tests.lab.pair import APP, MONITOR, Pair, Standby, pair

pytestmark = pytest.mark.timeout(180)
MakePair = Callable[..., Pair]

T, V = 1.0, 1.5  # of the quick profile: the interval, and from first silence to the verdict
SLACK_S, TURN_S = 1.0, 3.0
PAUSE = "/var/lib/failover-monitor/pause.json"
HISTORY = "/var/lib/failover-monitor"
NOBODY = 2**32 - 1


def say(standby: Standby, *words: str, within: float = 30) -> tuple[int, str]:
    """A command on the standby, as alice says it by sudo; its exit status and words."""
    env = {"SUDO_USER": "alice"}
    done = standby.run("failover-monitor", *words, check=False, env=env, within=within)
    return done.returncode, done.stdout + done.stderr


def login_user() -> str:
    """Who is logged in here, if anybody is: the kernel keeps that behind sudo, and into a host."""
    try:
        number = int(Path("/proc/self/loginuid").read_text())
    except OSError:
        return "alice"
    return "alice" if number == NOBODY else pwd.getpwuid(number).pw_name


def told(standby: Standby, kind: str) -> list[dict[str, Any]]:
    return [event for event in standby.events() if event["kind"] == kind]


def moves(standby: Standby) -> list[dict[str, Any]]:
    return told(standby, "transition")


def wall_s(monotonic_s: float) -> float:
    """The hosts and this machine share their clocks."""
    return time.time() - time.monotonic() + monotonic_s


def test_a_pause_holds_over_a_crash_a_restart_and_a_reboot(make_pair: MakePair) -> None:
    """Nothing starts; it ends by itself, at its time, and then it takes V of fresh checks."""
    made = make_pair()
    standby = made.standby
    status, words = say(standby, "pause", "--for", "60s", "--reason", "new disk")
    assert status == 0, words
    assert "the watch goes on" in words
    pause = json.loads(standby.read(PAUSE))
    end_s = pause["at_s"] + 60.0
    made.primary.cut()
    standby.wait_for_state("active_dead", T + V + SLACK_S)
    status, words = say(standby, "takeover", "--yes")
    assert (status, words) == (1, "cannot take over: paused\nhint: failover-monitor resume first\n")
    standby.systemctl("reload", MONITOR)
    standby.systemctl("restart", MONITOR)
    standby.wait_for_state("active_dead", T + V + TURN_S)
    shown = standby.systemctl("status", "--no-pager", MONITOR)
    assert f"paused by {login_user()} until {pause['until']}: new disk" in shown
    standby.reboot()
    standby.wait_for_state("active_dead", 20)
    assert pause["until"] in say(standby, "status")[1]
    assert time.time() < end_s - 1.0, "the test was too slow: the pause is over already"
    time.sleep(end_s - time.time() - 0.5)
    assert not standby.running(APP)
    assert standby.active_since(APP) == 0
    standby.wait_for(APP, "active", V + T + TURN_S)
    took_s = wall_s(standby.active_since(APP)) - end_s
    assert V - 0.1 <= took_s <= T + V + SLACK_S
    wait_until(lambda: not standby.exists(PAUSE), 3, "the file of the pause is gone")
    sentences = [event["what"] for event in told(standby, "paused")]
    assert sentences.count(f"paused by {login_user()} until {pause['until']}: new disk;"
                           " no takeover will happen") == 3  # fmt: skip
    assert sentences[-1].startswith("the pause has reached its end")
    assert {event["BY"] for event in told(standby, "paused")} == {login_user()}
    assert all(event["REASON"] == "new disk" for event in told(standby, "paused"))


def test_resume_needs_fresh_evidence(make_pair: MakePair) -> None:
    """What was seen in the pause is no reason: V later, not at once; and nothing is left to end."""
    made = make_pair()
    standby = made.standby
    assert say(standby, "resume") == (1, "cannot resume: nothing is paused\n")
    assert say(standby, "pause", "--reason", "new disk")[0] == 0
    made.primary.cut()
    standby.wait_for_state("active_dead", T + V + SLACK_S)
    time.sleep(1.0)
    stamp = time.monotonic()
    status, words = say(standby, "resume", "--reason", "it is in")
    assert status == 0, words
    standby.wait_for(APP, "active", TURN_S + V + T)
    assert V - 0.1 <= standby.active_since(APP) - stamp <= TURN_S + V + T
    assert any("resumed by" in event["what"] for event in told(standby, "paused"))
    assert not standby.exists(PAUSE)
    assert made.failback() <= T + SLACK_S


def test_a_host_that_serves_goes_on_from_what_is(make_pair: MakePair) -> None:
    """Paused while it serves: it gives nothing back; afterwards it does."""
    made = make_pair()
    standby = made.standby
    made.takeover()
    status, words = say(standby, "pause", "--reason", "new disk")
    assert status == 0, words
    assert "then both serve" in words
    made.primary.heal()
    standby.wait_for_state("active_alive", 3)
    time.sleep(T + V)
    assert standby.running(APP)
    assert "paused" in say(standby, "failback")[1]
    assert say(standby, "resume")[0] == 0
    standby.wait_for(APP, "inactive", TURN_S + T)
    wait_until(lambda: moves(standby)[-1]["TO"] == "standby", 5, "the failback is recorded")
    assert [event["BECAUSE"] for event in moves(standby)][-2] == "the primary is back"


def test_a_service_is_moved_by_hand_and_back(lab: Lab) -> None:
    """The operator stops it on the primary first; both commands end when it is done."""
    primary = lab.systemd("primary", 2, files={f"/etc/systemd/system/{APP}": units.APP})
    made = pair(lab, primary=primary)
    standby = made.standby
    primary.systemctl("start", APP)
    status, words = say(standby, "takeover")
    assert status == 2
    assert "the primary answers: its services still run there unless you have stopped" in words
    assert "hint: --yes if the risk is known" in words
    assert [event["TO"] for event in moves(standby)] == ["standby"]
    primary.systemctl("stop", APP)
    status, words = say(standby, "takeover", "--yes", "--reason", "new disk in the primary")
    assert status == 0, words
    assert words.endswith("done: the services run here\n")
    assert standby.running(APP)
    time.sleep(T + V)
    assert standby.running(APP), "a primary that was never away is not back"
    taken = moves(standby)[1]
    assert (taken["FROM"], taken["TO"], taken["BECAUSE"]) == (
        "standby",
        "takeover",
        "an operator asked for it",
    )
    assert (taken["BY"], taken["REASON"]) == (login_user(), "new disk in the primary")
    assert f"by hand     {login_user()} asked for this takeover" in say(standby, "status")[1]
    entries = standby.run(
        "journalctl", "-o", "json", "--no-pager", "TO=takeover", f"BY={login_user()}"
    ).stdout.splitlines()
    assert len(entries) == 1
    standby.systemctl("restart", MONITOR)
    standby.wait_for_state("active_alive", 10)
    time.sleep(T + V)
    assert standby.running(APP), "a new process knows that it was by hand"
    status, words = say(standby, "failback", "--reason", "done")
    assert status == 0, words
    assert words.endswith("done: the services are stopped here\n")
    assert not standby.running(APP)
    primary.systemctl("start", APP)
    back = [event for event in moves(standby) if event["TO"] == "failback"]
    assert [(event["BY"], event["REASON"]) for event in back] == [(login_user(), "done")]
    made.primary.cut()
    standby.wait_for_state("active_dead", T + V + SLACK_S)
    standby.wait_for(APP, "active", 5)
    primary.systemctl("stop", APP)


def test_after_a_takeover_by_hand_a_primary_that_dies_comes_back(make_pair: MakePair) -> None:
    """From its death on it is a takeover like any other."""
    made = make_pair()
    standby = made.standby
    assert say(standby, "takeover", "--yes")[0] == 0
    made.primary.cut()
    standby.wait_for_state("active_dead", T + V + SLACK_S)
    assert made.failback() <= T + SLACK_S
    wait_until(lambda: standby.status()["phase"] == "standby", 3, "the phase is standby")


@pytest.mark.parametrize(
    "words",
    [("pause", "--reason", "x"), ("takeover", "--yes"), ("failback",), ("ack",), ("resume",)],
    ids=lambda words: words[0],
)
def test_nobody_but_root_may_ask(make_pair: MakePair, words: tuple[str, ...]) -> None:
    """Exit status 1 and one sentence; and nothing happens."""
    made = make_pair(failback="manual", flap_window=600, max_takeovers=1)
    standby = made.standby
    if words[0] in ("failback", "ack"):
        made.takeover()
        made.primary.heal()
        standby.wait_for_state("active_alive", 3)
        wait_until(lambda: standby.status()["phase"] == "active", 3, "the phase is active")
    if words[0] == "resume":
        say(standby, "pause", "--reason", "x")
    before = len(standby.events())
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    done = standby.run(*nobody, "failover-monitor", *words, check=False)
    assert done.returncode == 1, done.stdout
    assert "Permission denied\nhint: only root may" in done.stderr
    time.sleep(T)
    new = standby.events()[before:]
    assert [event["what"] for event in new if event["kind"] in ("operator", "transition")] == []


def test_a_full_disk_keeps_no_pause_and_no_takeover_away(make_pair: MakePair) -> None:
    """A pause that would not survive a reboot is refused; the pair goes on as before."""
    made = make_pair(watch=False)
    standby = made.standby
    standby.up()
    standby.run("mkdir", "-p", HISTORY)
    standby.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "tmpfs", HISTORY)
    standby.watch()
    standby.run("sh", "-c", f"yes '' | dd of={HISTORY}/ballast bs=1k", check=False)
    status, words = say(standby, "pause", "--reason", "new disk")
    assert status == 1
    assert words.startswith(f"cannot pause: {PAUSE}: No space left on device; nothing has changed")
    assert standby.status()["paused"] is None
    assert made.takeover() <= T + V + SLACK_S
    standby.run("rm", f"{HISTORY}/ballast")
    assert say(standby, "pause", "--reason", "new disk")[0] == 0
    assert say(standby, "resume")[0] == 0
    made.failback()
    wait_until(lambda: standby.status()["phase"] == "standby", 3, "the phase is standby")


def test_a_pause_that_nobody_understands_holds_nothing(make_pair: MakePair) -> None:
    """Somebody's editor left half a file: it is said and removed, and the takeover comes."""
    made = make_pair()
    standby = made.standby
    standby.write("/run/failover-monitor/pause.json", '{"by": "alice", ')
    standby.wait_for_log("the file of the pause is not understood: no pause", TURN_S + SLACK_S)
    wait_until(lambda: not standby.exists("/run/failover-monitor/pause.json"), 3, "it is gone")
    assert made.takeover() <= T + V + SLACK_S
