"""The evidence behind a decision, and behind each time that nothing was decided.

The events come from the production monitor in the toy world, so every number here was recorded.
"""

import json
import logging
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from failover_monitor import cli
from failover_monitor.console import records
from failover_monitor.console.why import decisions, end_of
from failover_monitor.events import CHECKS_KEPT, Kind
from failover_monitor.files import Paths, take_lock
from failover_monitor.machine import TABLE
from failover_monitor.model import Failback, FencePolicy, Policy, Role, ServiceCheck
from tests.recorded import (
    BASE_S,
    GATEWAY,
    PRIMARY,
    ROLES,
    Minute,
    at,
    back,
    line_of,
    record,
    room,
    sample,
    silent,
    story,
    write,
)
from tests.world import World, policy_of

FINE, TROUBLE, WRONG_USE = 0, 1, 2
STANDBY = "198.51.100.3"
SHIPPED = policy_of(interval_s=3.0, retry_interval_s=1.5)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paths]:
    yield from room(tmp_path, monkeypatch)


@pytest.fixture
def asked(paths: Paths, capsys: pytest.CaptureFixture[str]) -> Any:
    """`asked(world, ...)`: what `why` answers after this world."""

    def ask(world: World, *words: str) -> str:
        record(paths, world)
        assert cli.main(["why", *words]) == FINE
        return capsys.readouterr().out

    return ask


def in_json(asked: Any, world: World, *words: str) -> dict[str, Any]:
    return dict(json.loads(asked(world, "--json", *words)))


def dead(policy: Policy = SHIPPED, *, end_s: float = 40.0) -> World:
    """The primary dies 10 s after 03:00; its first unanswered echo goes out at 12 s."""
    return story(policy, (10, silent(PRIMARY)), end_s=end_s)


# A takeover.


def test_a_takeover_is_explained_at_eight_in_the_morning(asked: Any) -> None:
    """When, what, which row, the echoes of each check, and how long each step took."""
    assert asked(dead()) == (
        "decision   standby -> takeover -> active, 2026-11-21 03:00:16.500 UTC\n"
        "row        standby -> takeover, when primary down: the primary stopped answering\n"
        "row        takeover -> active, when all running: all services run here\n"
        "evidence   3 checks in a row failed: 18 echo rounds in 4.50 s, none answered by the"
        " primary, each check with an answer from a reference\n"
        "took       4.50 s from the first unanswered echo to the verdict\n"
        "took       0.00 s from the verdict to the decision\n"
        "took       0.00 s from there until the first service was asked\n"
        "took       0.02 s from there until the phase was active\n"
        "\n"
        "  03:00:12.000    +0.00 s  first unanswered echo\n"
        "  03:00:12.250    +0.25 s  suspicion: from now on dense echoes\n"
        "  03:00:13.500    +1.50 s  check of 1.50 s failed: 6 of 6 echo rounds sent,"
        " 198.51.100.2 answered 0, 198.51.100.1 answered 6\n"
        "  03:00:15.000    +3.00 s  check of 1.50 s failed: 6 of 6 echo rounds sent,"
        " 198.51.100.2 answered 0, 198.51.100.1 answered 6\n"
        "  03:00:16.500    +4.50 s  check of 1.50 s failed: 6 of 6 echo rounds sent,"
        " 198.51.100.2 answered 0, 198.51.100.1 answered 6\n"
        "  03:00:16.500    +4.50 s  verdict down: 3 checks in a row failed: 18 echo rounds in"
        " 4.50 s, none answered by the primary, each check with an answer from a reference\n"
        "  03:00:16.500    +4.50 s  standby -> takeover: the primary stopped answering"
        " [when primary down]\n"
        "  03:00:16.500    +4.50 s  start app.service\n"
        "  03:00:16.520    +4.52 s  app.service is running\n"
        "  03:00:16.520    +4.52 s  takeover -> active: all services run here"
        " [when all running]\n"
        "\n"
        "earlier decisions\n"
        "  why -n 2    2026-11-21 03:00:00.001  unknown -> standby: the primary answers\n"
    )


def test_programs_get_the_same(asked: Any) -> None:
    """With moments in seconds since 1970."""
    told = in_json(asked, dead())
    assert (told["number"], told["of"]) == (1, 2)
    assert told["decision"] == ["standby", "takeover", "active"]
    assert told["rows"][0] == {
        "at_s": BASE_S + 16.5,
        "from": "standby",
        "to": "takeover",
        "when": "primary_down",
        "because": "the primary stopped answering",
        "by": None,
        "reason": None,
    }
    assert [(c["began_s"] - BASE_S, c["ended_s"] - BASE_S) for c in told["checks"]] == [
        (12.0, 13.5),
        (13.5, 15.0),
        (15.0, 16.5),
    ]
    for check in told["checks"]:
        assert (check["failed"], check["planned"], check["sent"]) == (True, 6, 6)
        assert (check["silent"], check["answered"]) == ([PRIMARY], {GATEWAY: 6})
        assert check["in_time"] == [GATEWAY]
    assert told["verdict"]["fields"]["SILENT_S"] == "4.500"
    assert (told["held_before"], told["held_since"], told["running"]) == ([], [], False)


def test_every_row_that_was_taken_is_a_row_of_the_table(asked: Any) -> None:
    """From, to, condition and sentence, as the code has them."""
    told = in_json(asked, dead())
    table = {(row.source, row.when.__name__, row.target, row.because) for row in TABLE}
    for row in told["rows"]:
        assert (row["from"], row["when"], row["to"], row["because"]) in table


def test_each_reference_has_its_own_count(asked: Any) -> None:
    """Who answered, and who did not, in each check."""
    witness = "198.51.100.9"
    policy = policy_of(
        interval_s=3.0, retry_interval_s=1.5, references=(GATEWAY, witness), references_required=1
    )
    told = in_json(asked, story(policy, (10, silent(PRIMARY, witness)), end_s=40))
    assert [check["answered"] for check in told["checks"]] == [{GATEWAY: 6, witness: 0}] * 3
    assert {tuple(check["in_time"]) for check in told["checks"]} == {(GATEWAY,)}


def test_both_paths_of_a_primary_are_named(asked: Any) -> None:
    """Neither answered."""
    policy = policy_of(interval_s=3.0, retry_interval_s=1.5, primary=(PRIMARY, "203.0.113.2"))
    world = story(policy, (10, silent(PRIMARY, "203.0.113.2")), end_s=40)
    assert "198.51.100.2 answered 0, 203.0.113.2 answered 0, 198.51.100.1 answered 6" in asked(
        world
    )


def test_a_takeover_under_way_says_so(asked: Any) -> None:
    """Its service hangs: everything since belongs to it."""
    world = World(SHIPPED)
    world.systemd.services["app.service"].starts_in_s = 1000.0
    world.begin()
    world.run_until(10)
    silent(PRIMARY)(world)
    world.run_until(60)
    told = asked(world)
    assert told.startswith("decision   standby -> takeover, 2026-11-21 03:00:16.500 UTC\n")
    assert "\nunder way  the phase is still takeover\n" in told
    assert "start app.service\n" in told


def test_a_return_in_mid_takeover_is_a_decision_of_its_own(asked: Any) -> None:
    """With the verdict that it came of."""
    world = World(SHIPPED)
    world.systemd.services["app.service"].starts_in_s = 1000.0
    world.begin()
    world.run_until(10)
    silent(PRIMARY)(world)
    world.run_until(30)
    back(PRIMARY)(world)
    world.run_until(60)
    told = in_json(asked, world)
    assert told["decision"] == ["takeover", "failback", "standby"]
    assert told["rows"][0]["because"] == "the primary came back first"
    assert "under way" not in asked(world, "-n", "2")
    assert told["verdict"]["fields"]["SUBJECT"] == "up"
    before = in_json(asked, world, "-n", "2")
    assert before["decision"] == ["standby", "takeover"]
    assert before["verdict"]["fields"]["SUBJECT"] == "down"


def test_a_failback_names_the_answer(asked: Any) -> None:
    """And when the service was stopped."""
    world = story(SHIPPED, (10, silent(PRIMARY)), (100, back(PRIMARY)), end_s=130)
    told = asked(world)
    assert told.startswith("decision   active -> failback -> standby, 2026-11-21 03:01:40.501 UTC")
    for words in (
        "row        active -> failback, when primary back: the primary is back\n",
        "evidence   198.51.100.2 answered\n",
        "  03:01:40.501    +0.00 s  stop app.service\n",
        "  03:01:40.521    +0.02 s  app.service is stopped\n",
        "  why -n 2    2026-11-21 03:00:16.500  standby -> takeover",
    ):
        assert words in told


def test_a_decision_without_a_verdict_shows_what_came_before_it(asked: Any) -> None:
    """A service died here: no echo had a part in it."""
    world = dead(end_s=60.0)
    world.systemd.die("app.service")
    world.run_until(90)
    told = in_json(asked, world)
    assert told["decision"] == ["active", "takeover", "active"]
    assert told["verdict"] is None
    assert told["rows"][0]["when"] == "one_not_running"
    steps = [step["what"] for step in told["steps"]]
    assert steps[0].startswith("app.service does not run: failed")
    assert "start app.service (try 2)" in steps or "start app.service" in steps


def test_a_fence_is_a_step(asked: Any) -> None:
    """First make sure that the primary is gone: one decision, through the claim."""
    policy = policy_of(
        interval_s=3.0,
        retry_interval_s=1.5,
        fence=FencePolicy(command=("/bin/fence",), options={}, timeout_s=10.0),
    )
    told = in_json(asked, dead(policy))
    assert told["decision"] == ["standby", "claim", "takeover", "active"]
    assert [row["when"] for row in told["rows"]] == ["primary_gone", "gone_for_sure", "all_running"]
    steps = [step["what"] for step in told["steps"]]
    assert "the primary is being fenced" in steps
    assert "the fence succeeded: the primary is off" in steps


def test_who_asked_for_it_is_named(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """Where an operator did, and said why."""
    told = [line_of(at_s, e) for at_s, e in dead().recorder.told if e.level >= logging.INFO]
    write(paths.events, [{**line, "BY": "alice", "REASON": "new disk"} for line in told])
    assert cli.main(["why"]) == FINE
    row = "when primary down: the primary stopped answering (by alice, new disk)\n"
    assert row in capsys.readouterr().out


def test_a_start_of_the_monitor_is_told(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """It explains why nothing was known."""
    started = {"at_s": BASE_S - 1, "kind": "started", "what": "failover-monitor 1 watches"}
    told = [line_of(at_s, e) for at_s, e in dead(end_s=9.0).recorder.told if e.level >= 20]
    write(paths.events, [started, *told])
    assert cli.main(["why"]) == FINE
    words = "started    2026-11-21 02:59:59.000: failover-monitor 1 watches\n"
    assert words in capsys.readouterr().out


def test_the_guard_of_a_primary_is_explained_too(asked: Any) -> None:
    """Cut off from everybody: when it closed, by which row."""
    policy = policy_of(role=Role.PRIMARY, primary=(), standby=("198.51.100.3",))
    told = in_json(asked, story(policy, (10, silent(GATEWAY, "198.51.100.3")), end_s=40))
    assert told["decision"] == ["serving", "closing", "gated"]
    assert told["rows"][0]["when"] == "time_over"
    assert "nobody has answered an echo" in told["verdict"]["what"]


# Which one.


def test_a_decision_is_found_by_its_number_or_its_time(
    asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The K-th latest; or the one that stood at that time."""
    at(monkeypatch, 3600)
    world = story(SHIPPED, (10, silent(PRIMARY)), (100, back(PRIMARY)), end_s=130)
    takeover = asked(world, "-n", "2")
    assert takeover.startswith("decision   standby -> takeover -> active")
    for words in ("03:00", "03:00:16", "03:01:39", "2026-11-21 03:00:30", "2026-11-21T03:01:00"):
        assert asked(world, "--at", words) == takeover, words
    assert asked(world, "--at", "03:01") == asked(world)
    assert asked(world, "--at", "03:00:15") == asked(world, "-n", "3")


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (("-n", "4"), TROUBLE, "the oldest recorded decision is of 2026-11-21 03:00:00.001"),
        (("--at", "2026-11-20"), TROUBLE, "the oldest recorded decision is of"),
        (("--at", "teatime"), WRONG_USE, "--at 'teatime' is no time\nhint: such as 03:12 or"),
        (("--at", "25:00"), WRONG_USE, "--at '25:00' is no time"),
    ],
)
def test_a_decision_that_is_not_there(
    paths: Paths,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    status: int,
    error: str,
) -> None:
    """Is said, with what there is."""
    record(paths, story(SHIPPED, (10, silent(PRIMARY)), (100, back(PRIMARY)), end_s=130))
    assert cli.main(["why", *words]) == status
    told = capsys.readouterr()
    assert told.out == ""
    assert f"cannot tell why: {error}" in told.err


def test_a_time_of_day_is_the_latest_that_has_been(paths: Paths) -> None:
    """At 02:00 "03:12" was yesterday's; and a minute lasts until its end."""
    now_s = BASE_S - 3600
    assert end_of("03:12", now_s) == BASE_S - 86_400 + 13 * 60
    assert end_of("01:12", now_s) == BASE_S - 7200 + 13 * 60


@pytest.mark.parametrize(
    ("words", "now", "end"),
    [
        ("20:00", "2026-10-25 12:00", "2026-10-24 20:01"),  # that night had an hour more
        ("20:00", "2026-03-29 12:00", "2026-03-28 20:01"),  # and this one an hour less
        ("20:00", "2026-03-01 12:00", "2026-02-28 20:01"),
        ("2026-10-25", "2026-11-01 12:00", "2026-10-26 00:00"),
    ],
)
def test_a_time_is_found_beyond_a_change_of_the_clocks(
    paths: Paths, words: str, now: str, end: str
) -> None:
    """Yesterday at eight is eight by yesterday's clock, however long the night was."""
    os.environ["TZ"] = "Europe/Berlin"  # `paths` puts it back
    time.tzset()
    now_s, end_s = (time.mktime(time.strptime(at, "%Y-%m-%d %H:%M")) for at in (now, end))
    assert end_of(words, now_s) == end_s


def test_after_the_clock_was_set_back_the_last_decision_of_that_time_is_shown(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the record: what came before, by a clock that was fast, is older."""
    moves = (
        (7200, "standby", "takeover"),
        (7210, "takeover", "active"),
        (60, "active", "failback"),
    )
    write(
        paths.events,
        (
            {"at_s": BASE_S + at_s, "kind": "transition", "level": "WARNING", "FROM": source,
             "TO": target, "what": f"{source} -> {target}"}
            for at_s, source, target in moves
        ),
    )  # fmt: skip
    assert cli.main(["why", "--at", "2026-11-21 03:30"]) == FINE
    assert capsys.readouterr().out.startswith("decision   active -> failback")
    assert cli.main(["why", "--at", "2026-11-21 06:00"]) == FINE
    assert capsys.readouterr().out.startswith("decision   active -> failback")


# Holding still.


def test_our_own_isolation_says_why_nothing_was_started(asked: Any) -> None:
    """Neither the primary nor the gateway answers: the checks prove nothing."""
    world = story(SHIPPED, (10, silent(PRIMARY, GATEWAY)), end_s=100)
    told = asked(world)
    assert told.startswith("decision   standby -> unknown, 2026-11-21 03:00:13.500 UTC\n")
    for words in (
        "row        standby -> unknown, when primary unknown: no verdict on the primary any more\n",
        "evidence   no reference answered in 1.5 s\n",
        "  03:00:12.000    +0.00 s  first unanswered echo\n",
        "+1.50 s  check of 1.50 s proved nothing: 6 of 6 echo rounds sent, 198.51.100.2 answered 0",
        "held still since then\n",
        "held: the primary has been silent for 69.0 s without a verdict: references answer in 0 of",
        " 46 checks (told 2 times since 03:00:21.000)\n",
        "its last check of 1.50 s proved nothing",
    ):
        assert words in told
    assert "start app.service" not in told
    document = in_json(asked, world)
    assert [event["kind"] for event in document["held_since"]] == ["held", "held"]
    assert [check["failed"] for check in document["held_since"][1]["checks"]] == [False]


def test_isolation_that_is_over_stands_before_the_decision_that_ended_it(asked: Any) -> None:
    """Then the network comes back, and the primary answers."""
    world = story(SHIPPED, (10, silent(PRIMARY, GATEWAY)), (100, back(PRIMARY, GATEWAY)), end_s=130)
    told = in_json(asked, world)
    assert told["decision"] == ["unknown", "standby"]
    assert "held" in [event["kind"] for event in told["held_before"]]


def test_a_veto_is_a_time_of_holding_still(asked: Any) -> None:
    """Silent, but its service answers: no takeover, and why."""
    check = ServiceCheck(kind="tcp", name="tcp 198.51.100.2:80", options={}, interval_s=2.0)
    policy = policy_of(interval_s=3.0, retry_interval_s=1.5, service_checks=(check,))
    told = asked(dead(policy, end_s=100.0))
    assert told.startswith("decision   unknown -> standby")
    held = told[told.index("held still since then") :]
    assert "no takeover: tcp 198.51.100.2:80" in held


def test_a_grace_is_a_time_of_holding_still(paths: Paths, asked: Any) -> None:
    """After boot, on a primary that has never answered."""
    policy = policy_of(interval_s=3.0, retry_interval_s=1.5, startup_grace_s=60.0)
    world = World(policy, booted_s=0.0)
    silent(PRIMARY)(world)
    world.begin()
    world.run_until(50)
    told = asked(world)
    assert told.startswith("nothing has been decided yet, the record begins 2026-11-21 03:00:")
    assert "held still\n" in told
    assert "startup grace for" in told
    assert json.loads(asked(world, "--json"))["decision"] is None


def test_a_near_miss_is_told_with_its_checks(asked: Any) -> None:
    """How near it was: two of three checks had failed."""
    world = story(SHIPPED, (10, silent(PRIMARY)), (15.6, back(PRIMARY)), end_s=30)
    [event] = in_json(asked, world)["held_since"]
    assert event["what"] == "near miss: the primary answers after 3.75 s"
    assert [check["failed"] for check in event["checks"]] == [True, True]


def test_a_silence_that_was_judged_is_no_near_miss(asked: Any) -> None:
    """The primary is away for a while in a pause: nothing was near to happen."""
    world = World(SHIPPED)
    world.begin()
    world.run_until(5)
    world.recorder.pause_for(3600)
    world.run_until(10)
    silent(PRIMARY)(world)
    world.run_until(40)
    back(PRIMARY)(world)
    world.run_until(60)
    held = in_json(asked, world)["held_since"]
    assert [event["kind"] for event in held] == ["paused"]


@pytest.mark.parametrize(
    ("policy", "who"),
    [
        (policy_of(interval_s=3.0, retry_interval_s=1.5, takeover_delay_s=60.0), (PRIMARY,)),
        (policy_of(role=Role.PRIMARY, primary=(), standby=(STANDBY,)), (GATEWAY, STANDBY)),
    ],
    ids=["standby", "guard"],
)
def test_a_silence_that_became_a_verdict_is_no_near_miss(
    policy: Policy, who: tuple[str, ...]
) -> None:
    """Nothing was missed: the verdict came, and was right, on the standby as on the guard."""
    world = story(policy, (10, silent(*who)), (40, back(*who)), end_s=60)
    told = [event for _, event in world.recorder.told]
    assert [e.fields["SUBJECT"] for e in told if e.kind is Kind.VERDICT] == ["up", "down", "up"]
    assert [e.sentence for e in told if "near miss" in e.sentence] == []


def test_dropped_evidence_is_told_with_what_was_dropped(asked: Any) -> None:
    """The host was frozen in mid-suspicion: the checks before it count no more."""
    world = World(SHIPPED)
    world.begin()
    world.run_until(10)
    silent(PRIMARY)(world)
    world.run_until(14)
    world.freeze(30)
    world.run_until(45)
    doubts = [e for e in in_json(asked, world)["held_since"] if e["kind"] == "doubt"]
    assert len(doubts) == 1
    assert [check["failed"] for check in doubts[0]["checks"]] == [True]


def test_what_was_dropped_is_not_told_again(asked: Any) -> None:
    """Our cable is out in mid-suspicion: what is held afterwards rests on no check."""

    def unplug(world: World) -> None:
        world.plugged = False

    world = story(SHIPPED, (10, silent(PRIMARY)), (14, unplug), end_s=100)
    told = in_json(asked, world)
    [doubt], held = told["held_before"], told["held_since"]
    assert (doubt["kind"], len(doubt["checks"])) == ("doubt", 1)
    assert {(event["kind"], len(event["checks"])) for event in held} == {("held", 0)}
    assert "SILENT_S" not in held[0]["fields"]


def test_flapping_is_a_time_of_holding_still(asked: Any) -> None:
    """Too many takeovers: an operator must look."""
    policy = policy_of(interval_s=3.0, retry_interval_s=1.5, flap_window_s=3600.0, max_takeovers=1)
    world = story(
        policy, (10, silent(PRIMARY)), (100, back(PRIMARY)), (150, silent(PRIMARY)), end_s=300
    )
    kinds = {event["kind"] for event in in_json(asked, world)["held_since"]}
    assert "flapping" in kinds


# What it costs.


def test_random_loss_does_not_fill_the_disk_with_checks() -> None:
    """Ten per cent of all echoes lost for an hour: a handful of lines, as before."""
    world = World(SHIPPED, seed=3)
    world.loss = 0.1
    world.begin()
    world.run_until(3600)
    told = [line_of(at_s, e) for at_s, e in world.recorder.told if e.level >= logging.INFO]
    suspicions = [e for _, e in world.recorder.told if e.fields.get("NOTICE") == "suspect"]
    assert len(suspicions) > 50
    assert len(told) < 20
    assert sum(len(json.dumps(line)) for line in told) < 8000


def test_a_day_of_isolation_costs_little(asked: Any) -> None:
    """What is told each minute carries its last check only, and never more than a few are kept."""
    policy = policy_of(interval_s=1.0, retry_interval_s=1.0, threshold=40)
    world = story(policy, (10, silent(PRIMARY)), (40, silent(GATEWAY)), end_s=600)
    events = [line_of(at_s, e) for at_s, e in world.recorder.told if e.kind.name == "HELD"]
    assert len(events) >= 3
    assert {len(json.loads(event["CHECKS"])) for event in events} == {1}
    [lost] = [e for _, e in world.recorder.told if e.fields.get("SUBJECT") == "unknown"]
    assert len(json.loads(lost.fields["CHECKS"])) == CHECKS_KEPT


def test_an_answer_ends_the_trail(asked: Any) -> None:
    """A later verdict carries nothing of an earlier silence."""
    world = story(
        SHIPPED, (10, silent(PRIMARY)), (14, back(PRIMARY)), (40, silent(PRIMARY)), end_s=80
    )
    told = in_json(asked, world)
    assert told["verdict"]["fields"]["SILENT_S"] == "4.500"
    assert len(told["checks"]) == 3
    assert told["checks"][0]["began_s"] == BASE_S + 42


# What was left by others.


def test_the_record_of_an_older_version_is_readable(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without conditions and numbers: what is there is shown."""
    lines = [line_of(at_s, e) for at_s, e in dead().recorder.told if e.level >= logging.INFO]
    for line in lines:
        for name in ("WHEN", "SILENT_S", "SUSPECTED_S", "CHECKS"):
            line.pop(name, None)
    write(paths.events, lines)
    assert cli.main(["why"]) == FINE
    told = capsys.readouterr().out
    assert "row        standby -> takeover: the primary stopped answering\n" in told
    assert "first unanswered echo" not in told


CHECK = {"failed": True, "began_s": -1.0, "ended_s": 0.0, "planned": 3, "sent": 3, "silent": [],
         "answered": {}, "in_time": []}  # fmt: skip


@pytest.mark.parametrize(
    "checks",
    [
        *("", "[", "{}", "[1]", '[{"failed": true}]', "null", '"x"', "[" * 2000),
        json.dumps([CHECK | {"sent": float("inf")}]),
        json.dumps([CHECK | {"began_s": 10**400}]),
    ],
    ids=lambda text: text[:40],
)
def test_torn_checks_are_left_out(
    paths: Paths, capsys: pytest.CaptureFixture[str], checks: str
) -> None:
    """The rest is told all the same."""
    lines = [line_of(at_s, e) for at_s, e in dead().recorder.told if e.level >= logging.INFO]
    write(paths.events, [{**line, "CHECKS": checks, "SILENT_S": "soon"} for line in lines])
    assert cli.main(["why"]) == FINE
    told = capsys.readouterr().out
    assert told.startswith("decision   standby -> takeover -> active")
    assert "check of" not in told


def test_a_history_without_decisions(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """The monitor has just begun to watch."""
    write(paths.events, [{"at_s": BASE_S, "kind": "started", "what": "it watches"}])
    lock = take_lock(paths.lock)
    assert lock is not None
    assert cli.main(["why"]) == FINE
    os.close(lock)
    told = capsys.readouterr()
    assert told.out == "nothing has been decided yet, the record begins 2026-11-21 03:00:00.000\n"
    assert told.err == ""


def test_every_event_belongs_to_one_decision(paths: Paths) -> None:
    """None is lost between two of them, none is told of twice."""
    policy = policy_of(interval_s=3.0, retry_interval_s=1.5, failback=Failback.DELAYED)
    world = story(
        policy,
        (10, silent(PRIMARY)),
        (100, back(PRIMARY)),
        (130, silent(PRIMARY)),
        (200, back(PRIMARY)),
        (400, silent(PRIMARY, GATEWAY)),
        (500, back(PRIMARY, GATEWAY)),
        end_s=600,
    )
    record(paths, world)
    events = list(records.events(paths))
    found = decisions(events)
    covered = [event for decision in found for event in (*decision.before, *decision.during)]
    assert [*covered, *found[-1].since] == events
    assert [event for d in found for event in d.moves] == [
        event for event in events if event.kind == "transition"
    ]


@pytest.mark.parametrize("seed", range(3))
def test_no_record_makes_a_reader_stumble(
    paths: Paths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Lines lost, doubled, out of order, with fields of other types: every reader still answers."""
    at(monkeypatch, 700)
    rng = random.Random(seed)
    script = [(50.0 * n, rng.choice((silent, back))(PRIMARY)) for n in range(1, 12)]
    world = story(SHIPPED, *script, (500, silent(GATEWAY)), end_s=600)
    whole = [line_of(at_s, e) for at_s, e in world.recorder.told if e.level >= logging.INFO]
    odd: tuple[Any, ...] = (None, 7, [], {}, "", "\x1b", "nowhere", -1e308, float("inf"), 10**400)
    for _ in range(40):
        lines = rng.choices(whole, k=rng.randrange(1, 30))
        lines = [
            {**line, rng.choice(list(line)): rng.choice(odd)} if rng.random() < 0.3 else line
            for line in lines
        ]
        write(paths.events, lines)
        write(paths.samples, [*lines, sample(600, Minute(), ROLES)])
        for words in ("why", "why --json", "history", "history --json", "picture"):
            assert cli.main(words.split()) == FINE, lines
        told = capsys.readouterr().out
        assert "\x1b" not in told
