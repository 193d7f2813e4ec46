"""Be told: what the agent makes of the monitor's files, and what its targets get.

A takeover at night is told once, its end is told always, and nobody waits for anybody else.
"""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from failover_monitor.agent.conditions import Conditions, Sort
from failover_monitor.agent.follow import Follower
from failover_monitor.agent.notify import Sender, overhear
from failover_monitor.agent.outbox import ENTRIES, Pace
from failover_monitor.agent.service import Agent, Target
from failover_monitor.agent.words import trial
from failover_monitor.cli import main
from failover_monitor.model import Role
from failover_monitor.settings import NotifyKeys
from tests.agent_desk import DOWN, FAILBACK, TAKEOVER, TWO, UP, Desk, reference, transition

FIVE = {
    "gateway_ip": "198.51.100.1",
    "active_ip": "198.51.100.2",
    "services_to_manage": ["app.service"],
}
HIDDEN = "hunter2secret"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# What is told.


def test_a_takeover_and_its_end_are_a_message_each(desk: Desk) -> None:
    """The whole story of a turn is one message; the end is another, and says since when."""
    desk.tell(*TAKEOVER)
    desk.run(5, phase="active", verdict="down")
    desk.run(600, step_s=15, phase="active", verdict="down")
    desk.tell(*FAILBACK)
    desk.run(5)
    begun, over = desk.sender.subjects
    assert begun.startswith("WARNING: the primary is down")
    assert "takeover -> active" in begun
    assert over.startswith("OVER: the primary is down")
    body = desk.sender.got[0].body
    assert all(event["what"] in body for event in TAKEOVER)
    assert "To do:  look at the primary; on this host: failover-monitor status" in body
    assert "Host:" in body
    assert "(10 min 8 s ago)" in desk.sender.got[1].body


def test_what_is_repeated_every_minute_is_told_once_with_a_count(desk: Desk) -> None:
    """An hour of the same warning is one message, then one with the number; then the end."""
    attention = [TWO["what"]]
    for _ in range(61):
        desk.tell(TWO)
        desk.run(60, step_s=15, attention=attention)
    first, again = desk.sender.got
    assert "two may be active" in first.subject
    assert "systemctl stop" in first.body
    assert "times more" not in first.body
    assert "(told 59 times more)" in again.body
    desk.run(5)
    assert desk.sender.subjects[2].startswith("OVER: two may be active")


def test_an_end_that_nobody_tells_is_seen_in_the_status(desk: Desk) -> None:
    """Attention has no event for its end; a torn line loses one: the status document says it."""
    desk.tell(TWO, reference(silent=True))
    desk.run(5, attention=[TWO["what"]], quiet_references=["198.51.100.1"])
    assert len(desk.sender.got) == 2
    desk.run(60)
    assert [subject[:5] for subject in desk.sender.subjects[2:]] == ["OVER:", "OVER:"]


def test_the_end_is_told_below_the_level(tmp_path: Path) -> None:
    """The message that a reference is back is INFO; who heard of its silence hears of it."""
    desk = Desk(tmp_path, "warning", "critical")
    desk.tell(reference(silent=True))
    desk.run(5, quiet_references=["198.51.100.1"])
    desk.tell(reference(silent=False))
    desk.run(5)
    assert len(desk.senders[0].got) == 2
    assert desk.senders[0].subjects[1].startswith("OVER: a reference is silent (198.51.100.1)")
    assert desk.senders[1].got == []


def test_the_end_is_told_after_a_night_without_a_way_out(desk: Desk) -> None:
    """The uplink died with the primary: both messages go when it is back, in order."""
    desk.sender.reachable = False
    desk.tell(*TAKEOVER)
    desk.run(60, phase="active", verdict="down")
    desk.tell(*FAILBACK)
    desk.run(60)
    assert desk.sender.tries > 100
    desk.sender.reachable = True
    desk.run(5)
    assert [subject.split(":")[0] for subject in desk.sender.subjects] == ["WARNING", "OVER"]
    assert "Late:" in desk.sender.got[0].body


def test_the_end_is_told_after_drops_and_a_restart(desk: Desk) -> None:
    """Its beginning did not fit into the queue, the agent was restarted: the end is still told."""
    desk.sender.reachable = False
    desk.tell(*TAKEOVER)
    desk.run(3, phase="active", verdict="down")
    for number in range(ENTRIES + 50):
        desk.tell({"kind": f"odd{number}", "level": "ERROR", "what": "something else"})
    desk.run(3, phase="active", verdict="down")
    desk.restart()
    desk.tell(*FAILBACK)
    desk.run(3)
    desk.sender.reachable = True
    desk.pace = Pace(messages=1000)
    desk.restart()
    desk.run(300)
    assert any(s.startswith("OVER: the primary is down") for s in desk.sender.subjects)
    assert not any(s.startswith("WARNING: the primary is down") for s in desk.sender.subjects)
    # All but those that fitted: the takeover, the odd ones, and what made room for the end.
    assert "52 messages before this one did not fit" in desk.sender.got[0].body
    assert len(desk.sender.got) == ENTRIES


def test_an_end_that_waits_is_never_dropped(desk: Desk) -> None:
    """It is the oldest of a full queue, and still goes; what goes instead is counted."""
    desk.tell(*TAKEOVER)
    desk.run(5, phase="active", verdict="down")
    desk.sender.reachable = False
    desk.tell(*FAILBACK)
    desk.run(3)
    for number in range(ENTRIES + 5):
        desk.tell({"kind": f"odd{number}", "level": "ERROR", "what": "something else"})
    desk.run(3)
    desk.sender.reachable = True
    desk.run(3)
    assert desk.sender.subjects[1].startswith("OVER: the primary is down")
    assert "6 messages before this one did not fit" in desk.sender.got[1].body


def test_thousands_of_events_are_few_messages(desk: Desk) -> None:
    """A reference that comes and goes all night: bounded, in order, and its last word is right."""
    for _ in range(3000):
        desk.tell(reference(silent=True), reference(silent=False))
    desk.run(30)
    desk.tell(reference(silent=True))
    desk.run(1200, step_s=5, quiet_references=["198.51.100.1"])
    assert len(desk.sender.got) <= 4
    assert desk.sender.subjects[-1].startswith("WARNING: a reference is silent")
    assert "more between them" in desk.sender.got[0].body
    assert (desk.home / "state.json").stat().st_size < 50_000


def test_flapping_never_swallows_the_last_word(desk: Desk) -> None:
    """Turns a minute apart: beyond the limit they are put together, the end is told at last."""
    for _ in range(40):
        desk.tell(*TAKEOVER)
        desk.run(6, step_s=3, phase="active", verdict="down")
        desk.tell(*FAILBACK)
        desk.run(6, step_s=3)
    told = len(desk.sender.got)
    assert told == Pace().messages
    desk.run(700, step_s=5)
    assert told < len(desk.sender.got) <= told + 2
    assert desk.sender.subjects[-1].startswith("OVER: the primary is down")


def test_stale_news_is_summed_up_in_one_message(desk: Desk) -> None:
    """What is older than an hour is one message, and what is fresh is its own."""
    desk.sender.reachable = False
    desk.tell(*TAKEOVER, reference(silent=True))
    desk.run(60, step_s=15, phase="active", verdict="down", quiet_references=["198.51.100.1"])
    desk.tell(*FAILBACK, reference(silent=False))
    desk.run(4000, step_s=15)
    desk.tell(DOWN)
    desk.sender.reachable = True
    desk.run(10, verdict="down")
    late, fresh = desk.sender.got
    assert "LATE: what happened while no message could be sent" in late.subject
    for words in ("takeover -> active", "over: failback -> standby", "is silent", "is back"):
        assert words in late.body
    assert "verdict down" in fresh.subject


def test_the_silence_of_the_monitor_is_told_and_so_is_its_return(desk: Desk) -> None:
    """After a minute, not before; a restart of the monitor is no news."""
    desk.run(10)
    desk.run(40, watched=False)
    desk.run(10)
    assert desk.sender.got == []
    desk.run(59, watched=False)
    assert desk.sender.got == []
    desk.run(15, watched=False)
    assert "CRITICAL: nobody watches" in desk.sender.subjects[0]
    assert "systemctl status failover-monitor" in desk.sender.got[0].body
    desk.restart()
    desk.run(5)
    assert desk.sender.subjects[1].startswith("OVER: nobody watches")
    assert len(desk.sender.got) == 2


def test_a_monitor_that_was_never_there_is_told(desk: Desk) -> None:
    """No status after a boot: a minute of patience, then it is said."""
    desk.paths.status.unlink()
    desk.run(58, watched=False)
    assert desk.sender.got == []
    desk.run(8, watched=False)
    assert "it has left no status" in desk.sender.subjects[0]


def test_a_host_that_slept_is_no_silent_monitor(tmp_path: Path) -> None:
    """The status is as old as the sleep was long; the agent waits for the next one."""
    desk = Desk(tmp_path)
    desk.run(5)
    desk.now_s += 3600
    desk.turn()
    desk.run(15, watched=False)
    desk.run(15)
    assert desk.sender.got == []


def test_a_service_that_dies_again_and_again_is_one_matter(desk: Desk) -> None:
    """Every half minute it runs for a moment: one message, and its end when it is steady."""
    failed = {"kind": "service_failed", "level": "ERROR", "what": "app.service does not run: x",
              "UNIT": "app.service"}  # fmt: skip
    running = {"kind": "service", "level": "INFO", "what": "app.service is running",
               "UNIT": "app.service", "UNIT_STATE": "running"}  # fmt: skip
    runs: dict[str, Any] = {
        "phase": "active",
        "units": [{"name": "app.service", "state": "running"}],
    }
    down: dict[str, Any] = {
        "phase": "active",
        "units": [{"name": "app.service", "state": "starting"}],
    }
    for _ in range(10):
        desk.tell(failed)
        desk.run(25, **down)
        desk.tell(running)
        desk.run(5, **runs)
    assert len(desk.sender.got) == 1
    desk.run(70, **runs)
    assert desk.sender.subjects[1].startswith("OVER: a service does not run here")


def test_a_service_that_fails_and_leaves_the_list_is_no_matter_any_more(desk: Desk) -> None:
    """An operator took it off the list: what is left runs steadily, so it is over."""
    desk.tell(*({"kind": "service_failed", "level": "ERROR", "what": f"{unit} does not run: x",
                 "UNIT": unit} for unit in ("app.service", "db.service")))  # fmt: skip
    units = [{"name": "app.service", "state": "running"}]
    desk.run(50, phase="active", units=units)
    assert len(desk.sender.got) == 1
    desk.run(20, phase="active", units=units)
    assert desk.sender.subjects[1].startswith("OVER: a service does not run here")


def test_who_wants_to_hear_everything_hears_it(tmp_path: Path) -> None:
    """At "info" each start and each service has its message; at "warning" none of them."""
    desk = Desk(tmp_path, "info", "warning")
    for unit in ("a.service", "b.service"):
        for state in ("running", "stopped"):
            desk.tell({"kind": "service", "level": "INFO", "what": f"{unit} is {state}",
                       "UNIT": unit, "UNIT_STATE": state})  # fmt: skip
    desk.tell({"kind": "summary", "level": "INFO", "what": "summary"})
    desk.run(10)
    assert [got.partition("news: ")[2] for got in desk.senders[0].subjects] == [
        *("a.service is running", "a.service is stopped"),
        *("b.service is running", "b.service is stopped"),
    ]
    assert desk.senders[1].got == []


def test_the_guard_on_the_primary_tells_that_it_closes(desk: Desk) -> None:
    """Its phases are others; cut off and back again are told all the same."""
    desk.tell(DOWN, transition("serving", "closing"), transition("closing", "gated"))
    desk.run(5, role="primary", phase="gated", verdict="down")
    desk.tell(transition("gated", "opening"), transition("opening", "serving"))
    desk.run(5, role="primary", phase="serving")
    assert [subject.split(":")[0] for subject in desk.sender.subjects] == ["WARNING", "OVER"]


def test_on_the_primary_it_is_this_host_that_is_cut_off(tmp_path: Path) -> None:
    """The verdict there is about its own contact: nobody is sent to look at the primary."""
    desk = Desk(tmp_path, role=Role.PRIMARY)
    desk.tell(DOWN | {"what": "verdict down: nobody answers"}, transition("serving", "closing"))
    desk.run(5, role="primary", phase="closing", verdict="down")
    unknown = {"kind": "verdict", "level": "WARNING", "what": "verdict unknown: we slept",
               "SUBJECT": "unknown"}  # fmt: skip
    desk.tell(unknown)
    desk.run(5, role="primary", phase="gated", verdict="unknown")
    cut, lost = desk.sender.got
    assert "WARNING: this host is cut off: " in cut.subject
    assert "To do:  look at this host's network" in cut.body
    assert "WARNING: this host does not know whether it is in contact: " in lost.subject
    assert not any("the primary" in message.body for message in (cut, lost))


# How the file is followed.


def test_nothing_is_sent_twice_after_a_restart_and_nothing_is_lost(desk: Desk) -> None:
    """The agent keeps its place: also what happened while it was away is told, once."""
    desk.tell(*TAKEOVER)
    desk.run(5, phase="active", verdict="down")
    desk.restart()
    desk.run(5, phase="active", verdict="down")
    assert len(desk.sender.got) == 1
    desk.tell(*FAILBACK)
    desk.turn_over()
    desk.tell(reference(silent=True))
    desk.restart()
    desk.run(5, quiet_references=["198.51.100.1"])
    assert [s.split(":")[0] for s in desk.sender.subjects] == ["WARNING", "OVER", "WARNING"]


def test_what_waits_survives_a_restart(desk: Desk) -> None:
    """It was queued and not sent: the next process sends it."""
    desk.sender.reachable = False
    desk.tell(*TAKEOVER)
    desk.run(5, phase="active", verdict="down")
    desk.restart()
    desk.sender.reachable = True
    desk.run(3, phase="active", verdict="down")
    assert len(desk.sender.got) == 1


def test_history_from_before_the_first_start_is_no_news(tmp_path: Path) -> None:
    """Who configures notifications is not told of last year."""
    desk = Desk(tmp_path)
    desk.tell(*TAKEOVER)
    (desk.home / "state.json").unlink(missing_ok=True)
    desk.restart()
    desk.run(5)
    assert desk.sender.got == []


def lines(follower: Follower) -> list[str]:
    return [document["what"] for document in follower.read()]


def test_a_torn_line_costs_itself_alone(desk: Desk) -> None:
    """Half a line waits for its other half; one that never gets it is counted and left out."""
    follower = Follower(desk.paths.events)
    whole = desk.line({"what": "one"})
    with desk.paths.events.open("a") as file:
        file.write(whole[:20])
        file.flush()
        assert lines(follower) == []
        file.write(whole[20:] + '{"torn\n' + desk.line({"what": "two"}) + "[]\n3\n\xff\n")
    assert lines(follower) == ["one", "two"]
    assert follower.lost == 4
    assert lines(follower) == []


def test_a_moment_that_no_clock_shows_costs_its_line_alone(desk: Desk) -> None:
    """Valid JSON, and no time: nothing that comes after it is lost, also after a turn-over."""
    follower = Follower(desk.paths.events)
    odd = ("9" * 400, "1e999", "NaN", "1e12", "-1", '"soon"')
    with desk.paths.events.open("a") as file:
        file.writelines(f'{{"at_s": {at_s}, "what": "odd"}}\n' for at_s in odd)
        file.write(f'{{"at_s": "{desk.now_s}", "what": "a text"}}\n')
    desk.tell({"what": "one"})
    assert lines(follower) == ["a text", "one"]
    assert follower.lost == len(odd)
    assert follower.document["last_s"] <= desk.now_s


def test_turned_over_twice_deleted_or_shortened_it_goes_on(desk: Desk) -> None:
    """What can be found is read once, also where an inode number is used again."""
    follower = Follower(desk.paths.events)
    wanted = []
    for number in range(12):
        desk.now_s += 1
        wanted.append(str(number))
        desk.tell({"what": str(number)})
        if number % 3 == 0:
            desk.turn_over()
            desk.now_s += 1
            wanted.append(f"{number} after")
            desk.tell({"what": f"{number} after"})
        if number % 4 == 1:
            follower = Follower(desk.paths.events, json.loads(json.dumps(follower.document)))
        assert lines(follower) == wanted
        wanted.clear()
        if number == 5:
            desk.paths.events.unlink()
            assert lines(follower) == []
        if number == 7:
            desk.paths.events.write_text("")
    desk.turn_over()
    desk.now_s += 1
    desk.tell({"what": "lost"})
    desk.turn_over()
    desk.now_s += 1
    desk.tell({"what": "found"})
    desk.turn_over()
    desk.tell({"what": "last"})
    assert lines(follower) == ["found", "last"]


def test_another_file_with_the_same_inode_number_is_read_from_its_beginning(desk: Desk) -> None:
    """A number is used again at once: the first bytes tell, and so does the length."""
    follower = Follower(desk.paths.events)
    for number in range(3):
        desk.now_s += 1
        desk.tell({"what": str(number)})
    assert lines(follower) == ["0", "1", "2"]
    desk.now_s += 1
    desk.paths.events.write_text("".join(desk.line({"what": f"new {n}"}) for n in range(9)))
    assert lines(follower) == [f"new {n}" for n in range(9)]
    kept = follower.document
    desk.now_s += 1
    desk.paths.events.write_text(desk.line({"what": "short"}))
    follower = Follower(desk.paths.events, kept | {"head": ""})
    assert lines(follower) == ["short"]


def test_a_line_without_an_end_does_not_fill_the_memory(desk: Desk) -> None:
    """Three megabytes without a newline are skipped; what follows is read."""
    follower = Follower(desk.paths.events)
    desk.paths.events.write_text("x" * 3_000_000)
    assert lines(follower) == []
    assert follower.document["offset"] > 2_000_000
    with desk.paths.events.open("a") as file:
        file.write("\n" + desk.line({"what": "after"}))
    assert lines(follower) == ["after"]


def test_a_memory_that_is_spoilt_is_left_behind(desk: Desk) -> None:
    """Half a state file after a power cut: the agent begins anew instead of dying for ever."""
    for text in ("", "{", "[]", '{"conditions": {}}', '{"events": 3}'):
        (desk.home / "state.json").write_text(text)
        desk.restart()
        desk.run(2)


def test_a_full_disk_stops_no_message(desk: Desk) -> None:
    """The memory cannot be written; what is to be told is told."""
    (desk.home / "state.json").mkdir()
    desk.restart()
    desk.tell(*TAKEOVER)
    desk.run(5, phase="active", verdict="down")
    assert len(desk.sender.got) == 1


def test_every_kind_of_event_is_understood() -> None:
    """Also those without their fields, and those that a later version brings."""
    from failover_monitor.events import Kind

    for kind in (*(kind.name.lower() for kind in Kind), "brought_later"):
        bare = {"kind": kind, "at_s": 1.0, "level": "ERROR", "what": "so"}
        found = list(Conditions().take(bare))
        quiet = kind in ("summary", "check", "config", "reference")
        assert bool(found) is not quiet, kind
        assert all(news.sort is not Sort.ENDS for news in found)


PAUSED = {"kind": "paused", "level": "WARNING", "what": "paused by alice until 4", "PAUSE": "lasts"}
RESUMED = {"kind": "paused", "level": "WARNING", "what": "resumed by alice", "PAUSE": "over"}


def test_a_pause_is_told_when_it_begins_and_when_it_ends(desk: Desk) -> None:
    """Its reminders are no news; that old evidence is dropped with it is no fault of a network."""
    for _ in range(3):
        desk.tell(PAUSED)
        desk.run(600, step_s=15, paused={"by": "alice"})
    why = {"EVIDENCE": "the pause is over", "level": "WARNING"}
    doubt = {"kind": "doubt", "what": "evidence dropped: the pause is over", **why}
    verdict = {"kind": "verdict", "what": "verdict unknown", "SUBJECT": "unknown", **why}
    desk.tell(RESUMED, doubt, verdict)
    desk.run(5)
    begun, over = desk.sender.subjects
    assert begun == "WARNING: takeovers are paused: paused by alice until 4"
    assert over == "OVER: takeovers are paused: resumed by alice"
    assert "failover-monitor resume" in desk.sender.got[0].body


def test_a_pause_whose_end_was_lost_is_over_by_the_status(desk: Desk) -> None:
    """The monitor was dead when its end came: nobody told it."""
    desk.tell(PAUSED)
    desk.run(60, paused={"by": "alice"})
    desk.run(10, paused=None)
    assert [subject.split(":")[0] for subject in desk.sender.subjects] == ["WARNING", "OVER"]


FENCE_FAILED = {
    "kind": "fence",
    "level": "ERROR",
    "what": "the fence failed 3 times: status 1",
    "FENCE": "failed",
}
FENCED = {
    "kind": "fence",
    "level": "WARNING",
    "what": "the fence succeeded: the primary is off",
    "FENCE": "done",
}


@pytest.mark.parametrize("mended", [True, False])
def test_a_fence_that_fails_is_told_once_and_so_is_its_end(desk: Desk, mended: bool) -> None:
    """It succeeds at last; or the primary returns before it does."""
    desk.tell(DOWN, transition("standby", "claim"), FENCE_FAILED)
    desk.run(40, phase="claim", verdict="down")
    bodies = [message.body for message in desk.sender.got]
    assert sum(FENCE_FAILED["what"] in body for body in bodies) == 1
    assert any(s.startswith("ERROR: the fence fails") for s in desk.sender.subjects)
    if mended:
        desk.tell(FENCED, transition("claim", "takeover"), transition("takeover", "active"))
        desk.run(5, phase="active", verdict="down")
    else:
        desk.tell(UP, transition("claim", "standby"))
        desk.run(5)
    assert sum(s.startswith("OVER: the fence fails") for s in desk.sender.subjects) == 1
    assert "fence" not in desk.agent.conditions.open


def test_a_check_that_passes_after_a_restart_of_the_monitor_is_over(desk: Desk) -> None:
    """Its first pass is no event: the status says it, and not before it has passed."""
    fails = {"kind": "service_check", "level": "WARNING", "what": "service check app fails: no",
             "CHECK": "app", "OUTCOME": "fail"}  # fmt: skip
    desk.tell(fails)
    desk.run(5, checks_not_passing=["app"])
    desk.tell({"kind": "started", "level": "INFO", "what": "failover-monitor watches"})
    desk.run(5, checks_not_passing=["app"])
    assert len(desk.sender.got) == 1
    desk.run(5, checks_not_passing=[])
    begun, over = desk.sender.subjects
    assert begun.startswith("WARNING: a service check fails (app)")
    assert over.startswith("OVER: a service check fails (app)")


def hook(state: str, **fields: str) -> dict[str, Any]:
    level = "ERROR" if state == "failed" else "INFO"
    return {"kind": "hook", "level": level, "what": f"hook {state}", "HOOK": "pre_takeover",
            "HOOK_STATE": state, **fields}  # fmt: skip


@pytest.mark.parametrize("mended", [True, False])
def test_a_hook_that_holds_the_takeover_is_over_when_it_is(desk: Desk, mended: bool) -> None:
    """It succeeded at last; or the primary came back before it did."""
    for _ in range(4):
        desk.tell(hook("running"), hook("failed", HOLDS="takeover"))
        desk.run(30, phase="claim", verdict="down")
    if mended:
        desk.tell(hook("done"))
    desk.run(10)
    begun, over = desk.sender.subjects
    assert begun.startswith("ERROR: a hook holds the takeover (pre_takeover): hook failed")
    assert over.startswith("OVER: a hook holds the takeover (pre_takeover)")


def test_each_hook_that_fails_and_each_order_that_is_dropped_is_told(desk: Desk) -> None:
    """One of them is no repetition of another; none of them lasts."""
    failed = [hook("failed") | {"HOOK": name} for name in ("post_takeover", "on_event")]
    dropped = [
        {"kind": "operator", "level": "WARNING", "what": f"the {order} is dropped", "ORDER": order}
        for order in ("takeover", "failback")
    ]
    desk.tell(*failed, *dropped)
    desk.run(60)
    assert len(desk.sender.got) == 4
    assert not any(subject.startswith("OVER") for subject in desk.sender.subjects)


# The targets.


class Hook(ThreadingHTTPServer):
    """A webhook on the loopback that keeps what it gets; it can refuse, or hang."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.got: list[dict[str, Any]] = []
        self.status = 200
        self.hangs = threading.Event()
        self.release = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"json://user:{HIDDEN}@127.0.0.1:{self.server_address[1]}/hook"

    @property
    def titles(self) -> list[str]:
        return [str(got["title"]) for got in self.got]


class Answer(BaseHTTPRequestHandler):
    """One request."""

    def do_POST(self) -> None:
        hook = self.server
        assert isinstance(hook, Hook)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if hook.hangs.is_set():
            hook.release.wait(30)
            return
        if hook.status == 200:
            hook.got.append(body)
        self.send_response(hook.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hooks() -> Iterator[list[Hook]]:
    made = [Hook(), Hook()]
    yield made
    for hook in made:
        hook.release.set()
        hook.shutdown()
        hook.server_close()


def wait_until(condition: Any, what: str, within_s: float = 15.0) -> None:
    until_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until_s, what
        time.sleep(0.02)


def test_a_target_that_hangs_delays_nobody_else(
    tmp_path: Path, hooks: list[Hook], caplog: pytest.LogCaptureFixture
) -> None:
    """Through apprise, over a real socket; when it answers again it gets all, in order."""
    hanging, well = hooks
    hanging.hangs.set()
    desk = Desk(tmp_path)
    desk.now_s = time.time()
    overheard = overhear()
    targets = tuple(
        Target(name=name, level="warning", sender=Sender(f"{hook.url}?rto=30", overheard))
        for name, hook in (("hanging", hanging), ("well", well))
    )
    pace = Pace(settle_s=0.2, first_pause_s=0.1, longest_pause_s=0.2)
    agent = Agent(desk.paths, desk.home, targets, None, role=Role.STANDBY, pace=pace)
    thread = threading.Thread(target=agent.run)
    thread.start()
    desk.tell(*TAKEOVER)
    wait_until(lambda: len(well.got) == 1, "the takeover is told")
    desk.tell(*FAILBACK)
    wait_until(lambda: len(well.got) == 2, "the failback is told", 12.0)
    assert hanging.got == []
    hanging.hangs.clear()
    hanging.release.set()
    wait_until(lambda: len(hanging.got) >= 2, "the other one gets both", 20.0)
    agent.stop()
    thread.join(10)
    assert not thread.is_alive()
    for hook in hooks:
        assert "takeover -> active" in hook.titles[0]
        assert "OVER" in hook.titles[-1]
    assert well.got[0]["type"] == "warning"
    assert well.got[1]["type"] == "success"
    assert HIDDEN not in caplog.text
    assert HIDDEN not in (desk.home / "state.json").read_text()


@pytest.mark.parametrize("status", [403, 500])
def test_why_a_message_did_not_go_is_told_without_the_url(hooks: list[Hook], status: int) -> None:
    """What apprise logs is overheard; no piece of the URL is in it."""
    hooks[0].status = status
    sender = Sender(hooks[0].url, overhear())
    why = sender.send(trial("sby"), threading.get_ident())
    assert str(status) in why
    for piece in (HIDDEN, "hook", "127.0.0.1", "user"):
        assert piece not in why
    everything = f"{hooks[0].url} and user and {HIDDEN}"
    assert sender.masked(everything) == "json://*** and *** and ***"
    hooks[0].server_close()
    assert "127.0.0.1" not in sender.send(trial("sby"), threading.get_ident())
    odd = Sender(f"nosuchscheme://{HIDDEN}", overhear())
    assert odd.send(trial("sby"), 0) == "apprise does not understand its URL"


# The command.


def config(tmp_path: Path, **keys: Any) -> str:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(FIVE | keys))
    return str(path)


def test_the_test_says_of_each_target_whether_it_went(
    tmp_path: Path, hooks: list[Hook], capfd: pytest.CaptureFixture[str]
) -> None:
    """0 when all went, 1 when one did not; a name is shown, a URL never."""
    good = {"url": hooks[0].url, "name": "webhook"}
    path = config(tmp_path, notify=[good])
    assert main(["agent", "--test", "--config", path]) == 0
    assert "TEST" in hooks[0].titles[0]
    hooks[1].status = 500
    path = config(tmp_path, notify=[good, {"url": hooks[1].url}])
    assert main(["agent", "--test", "--config", path]) == 1
    said = capfd.readouterr()
    assert said.out == "webhook: it went\nwebhook: it went\n"
    assert "cannot tell json: " in said.err
    assert HIDDEN not in said.err
    assert main(["agent", "--test", "--config", config(tmp_path)]) == 1
    assert "there is no" in capfd.readouterr().err


def test_without_targets_and_figures_it_ends_at_once_and_loads_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit 0, said; neither apprise nor prometheus_client is imported."""
    import subprocess
    import sys

    script = (
        "import sys; from failover_monitor.cli import main;"
        f"status = main(['agent', '--config', {config(tmp_path)!r}]);"
        "loaded = {'apprise', 'prometheus_client', 'requests'} & set(sys.modules);"
        "sys.exit(status or len(loaded))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing to do" in done.stdout


@pytest.mark.parametrize(
    ("notify", "words"),
    [
        ([f"json://u:{HIDDEN}@host"], "is not an object"),
        (f"json://u:{HIDDEN}@host", "is not a list"),
        ([{"url": f"u:{HIDDEN}"}], "is no URL"),
        ([{"url": f"json://u:{HIDDEN}@host\n"}], "is no URL"),
        ([{"url": f"json://u:{HIDDEN}@host", "levle": "info"}], "did you mean level?"),
        ([{"url": f"json://u:{HIDDEN}@host", "level": "debug"}], '"info", "warning"'),
        ([{"url": "json://a", "name": "x"}, {"url": "json://b", "name": "x"}], "already"),
        ([{"name": "x"}], "is missing"),
    ],
)
def test_a_wrong_target_is_told_without_its_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], notify: Any, words: str
) -> None:
    """The place and the key are named; what stands after :// is not shown, in no line."""
    assert main(["agent", "--test", "--config", config(tmp_path, notify=notify)]) == 78
    said = capsys.readouterr().err
    assert words in said
    if "://" in json.dumps(notify):
        assert HIDDEN not in said


def test_a_configuration_never_shows_a_url() -> None:
    """Not even in the words that Python makes of it."""
    assert HIDDEN not in repr(NotifyKeys(url=f"json://u:{HIDDEN}@host"))


def test_while_the_configuration_is_bad_the_last_good_one_goes_on(
    tmp_path: Path, hooks: list[Hook]
) -> None:
    """A typing error elsewhere in the file must not silence the messages."""
    good = tmp_path / "good.json"
    good.write_text(json.dumps(FIVE | {"notify": [{"url": hooks[0].url}]}))
    bad = config(tmp_path, ping_intervall=3)
    assert main(["agent", "--test", "--config", bad, "--last-good", str(good)]) == 0
    good.write_text("{}")
    assert main(["agent", "--test", "--config", bad, "--last-good", str(good)]) == 78
