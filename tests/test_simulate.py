"""simulate: the shipped stories under many configurations, and every way to write a bad one."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from annotated_types import Ge

import failover_monitor
from failover_monitor import cli
from failover_monitor.config import load
from failover_monitor.console import simulate
from failover_monitor.files import Paths
from failover_monitor.model import Policy, Role
from failover_monitor.rehearsal.moves import LEAST, MOVES, READERS, read_move
from failover_monitor.rehearsal.outcome import outcome_of, sentence
from failover_monitor.rehearsal.script import ScenarioError, parse, policy_of
from failover_monitor.rehearsal.story import lines, play
from failover_monitor.settings import GuardKeys, HookKeys, LeaseKeys, Settings

ROOT = Path(failover_monitor.__file__).parent.parent
TIMELINES = Path(__file__).parent / "timelines"
SHIPPED = simulate.shipped()
PROTECTED: dict[str, Any] = {
    "gateway_ip": "198.51.100.1",
    "active_ip": ["198.51.100.2", "198.51.100.12"],
    "witness_ips": ["198.51.100.3"],
    "ping_interval": 3,
    "ping_fail_threshold": 3,
    "retry_interval": 1.5,
    "services_to_manage": ["db.service", "app.service"],
    "service_checks": [{"type": "tcp", "name": "app", "host": "198.51.100.2", "port": 80}],
    "fence": {"command": ["/usr/sbin/fence_example"]},
    "lease": {
        "engine": "etcd",
        "endpoints": ["http://198.51.100.21:2379"],
        "name": "pair",
        "holder": "us",
    },
}
TRIGGERED = {
    **{key: value for key, value in PROTECTED.items() if key not in ("lease", "fence")},
    "service_checks": [{**PROTECTED["service_checks"][0], "trigger": True}],
}
GUARDED = {
    "role": "primary",
    "gateway_ip": "198.51.100.1",
    "standby_ip": "198.51.100.4",
    "services_to_manage": ["db.service", "app.service"],
    "guard": {"deadline": 5, "stop_limit": 5},
}
OF_PROTECTIONS = {  # they need something that the example has not
    "one_path_to_the_primary_goes_dark",
    "the_service_dies_and_its_host_lives",
    "the_fence_fails",
    "somebody_else_holds_the_lease",
    "the_lease_store_falls_silent_while_we_serve",
}
OF_PRIMARY = {
    "this_primary_is_cut_off_and_comes_back",
    "a_service_of_this_primary_ignores_its_stop",
}
OF_ALL = SHIPPED.keys() - OF_PROTECTIONS - OF_PRIMARY
STARTS = {  # stories that lead to a takeover, whatever the timings are
    "the_primary_dies_and_comes_back",
    "a_service_fails_to_start_here",
    "a_service_will_not_stop",
    "the_primary_goes_away_again_during_failback",
    "the_monitor_is_killed_while_it_serves",
    "this_host_reboots_while_it_serves",
}
HOLDS = {  # and stories in which nothing may ever start
    "the_primary_is_silent_for_a_moment",
    "we_lose_our_own_network",
    "our_own_cable_is_out",
    "only_the_gateway_dies",
    "the_primary_answers_again_just_before_the_takeover",
}
TIMINGS: list[dict[str, Any]] = [
    {"interval_s": 0.3, "threshold": 2, "retry_interval_s": 0.1, "timeout_s": 0.1},
    {"interval_s": 1.0, "threshold": 1},
    {"interval_s": 3.0, "threshold": 3},
    {"interval_s": 60.0, "threshold": 5, "retry_interval_s": 20.0},
    {"takeover_delay_s": 45.0},
    {"failback_delayed": True},
    {"startup_grace_s": 300.0},
]
# The shipped example, with the addresses of somebody who has put in his own.
EXAMPLE = json.loads((ROOT / "config.json").read_text().replace("192.0.2.", "198.51.100."))
Configure = Callable[[dict[str, Any]], Path]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    def write(settings: dict[str, Any]) -> Path:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(settings))
        return path

    return write


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The command as its users give it; nothing is installed unless a test does that."""
    monkeypatch.setattr(cli, "PATHS", Paths(tmp_path))

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(["simulate", *arguments])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


Run = Callable[..., tuple[int, str, str]]


def policy_with(timings: dict[str, Any]) -> Policy:
    if "failback_delayed" in timings:
        return policy_of(failback="delayed", recovery_delay_s=90.0)
    return policy_of(**timings)


# The shipped stories.


@pytest.mark.parametrize("name", sorted(OF_ALL))
def test_a_shipped_story_with_the_numbers_of_the_example(
    name: str, configure: Configure, request: pytest.FixtureRequest
) -> None:
    """It comes out as it is written down in timelines/ (accept a change with --rewrite)."""
    played = play(parse(SHIPPED[name].read_text()), load(configure(EXAMPLE)).policy)
    told = "".join(map(str, lines(played.world)))
    told += f"\n{sentence(outcome_of(played), played.world.policy)}\n"
    assert not played.in_vain
    path = TIMELINES / f"{name}.txt"
    if request.config.getoption("--rewrite"):
        path.write_text(told)
    assert told == path.read_text()


@pytest.mark.parametrize("name", sorted(OF_PROTECTIONS | OF_PRIMARY))
def test_a_shipped_story_of_a_protection(
    name: str, configure: Configure, request: pytest.FixtureRequest
) -> None:
    """With check, fence, lease and a second path, or on the guarded primary."""
    settings = {"the_service_dies_and_its_host_lives": TRIGGERED}.get(name, PROTECTED)
    policy = load(configure(GUARDED if name in OF_PRIMARY else settings)).policy
    played = play(parse(SHIPPED[name].read_text()), policy)
    told = "".join(map(str, lines(played.world)))
    told += f"\n{sentence(outcome_of(played), policy)}\n"
    assert not played.in_vain
    path = TIMELINES / f"{name}.txt"
    if request.config.getoption("--rewrite"):
        path.write_text(told)
    assert told == path.read_text()


def test_every_shipped_story_has_its_timeline_and_no_timeline_is_left_over() -> None:
    """A dozen stories or more."""
    assert {path.stem for path in TIMELINES.glob("*.txt")} == SHIPPED.keys()
    assert len(SHIPPED) >= 12


@pytest.mark.parametrize("timings", TIMINGS, ids=lambda t: "-".join(map(str, t.values())))
@pytest.mark.parametrize("name", sorted(STARTS | HOLDS))
def test_a_story_stays_true_with_other_timings(name: str, timings: dict[str, Any]) -> None:
    """Ten times as fast, twenty times as slow, with delays: who takes over does so, and who holds
    still holds still.
    """
    policy = policy_with(timings)
    played = play(parse(SHIPPED[name].read_text()), policy)
    assert bool(outcome_of(played).served_here) is (name in STARTS)
    assert played.in_vain == []


def test_a_story_that_comes_out_otherwise_says_so(run: Run, configure: Configure) -> None:
    """Failback is manual: the services do not go back by themselves."""
    path = configure({**EXAMPLE, "failback": "manual"})
    status, told, _ = run("--config", str(path))
    assert status == 0
    assert "The story came out otherwise" in told
    assert "the phase is not standby but active" in told


# Whose configuration.


def test_the_operators_own_addresses_and_services_are_played(
    run: Run, configure: Configure
) -> None:
    """All of it replaces what a scenario would have had."""
    path = configure(PROTECTED)
    status, told, errors = run("--config", str(path), "the primary dies and comes back")
    assert (status, errors) == (0, "")
    assert (
        f"Played with {path}: db.service, app.service; primary 198.51.100.2, 198.51.100.12" in told
    )
    assert "start db.service" in told
    assert "the fence succeeded: the primary is off" in told
    assert "db.service and app.service ran here from" in told


def test_a_lease_of_the_operator_is_never_asked_for(run: Run, configure: Configure) -> None:
    """What would reach its store, run its checks or ask systemd is not even imported."""
    script = (
        "import sys; from failover_monitor.cli import main; status = main(sys.argv[1:]);"
        "print(*(n for n in sys.modules if n.startswith('failover_monitor.')), file=sys.stderr);"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "simulate", "--config", str(configure(PROTECTED))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "the lease is ours" in done.stdout
    imported = set(done.stderr.split())
    kept_out = ("leases.etcd", "checks.runner", "systemd", "bus", "daemon")
    assert not imported & {f"failover_monitor.{name}" for name in kept_out}


def test_what_is_installed_is_played_where_nothing_is_named(run: Run) -> None:
    """The operator at his standby gives no path."""
    installed = cli.PATHS.config
    installed.parent.mkdir(parents=True)
    installed.write_text(json.dumps({**PROTECTED, "fence": {"command": ["/bin/other"]}}))
    status, told, _ = run()
    assert status == 0
    assert f"Played with {installed}: db.service" in told


def test_without_any_configuration_the_example_is_played(run: Run) -> None:
    """On a laptop, before anything is installed."""
    status, told, _ = run()
    assert status == 0
    assert "no configuration is installed" in told
    assert "app.service ran here from 13.5 s to" in told


def test_a_scenario_with_a_policy_of_its_own_keeps_it(run: Run) -> None:
    """As long as no configuration is named."""
    path = ROOT / "tests/scenarios/takeover_waits_for_its_delay.txt"
    status, told, _ = run(str(path))
    assert status == 0
    assert "the scenario's own configuration" in told
    assert "takeover_delay 6 s" in told


def test_a_bad_configuration_is_refused_as_check_refuses_it(run: Run, configure: Configure) -> None:
    """With its problems, and the same exit status."""
    status, told, errors = run("--config", str(configure({**PROTECTED, "ping_intervall": 3})))
    assert (status, told) == (os.EX_CONFIG, "")
    assert "did you mean ping_interval?" in errors


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("one_path_to_the_primary_goes_dark", 'a second path is one more in "active_ip"'),
        ("the_service_dies_and_its_host_lives", "no service check is configured"),
        ("the_fence_fails", "no fence is configured"),
        ("somebody_else_holds_the_lease", "no lease is configured"),
        ("this_primary_is_cut_off_and_comes_back", "no standby is ever 'gated'"),
    ],
)
def test_what_a_story_needs_and_the_configuration_lacks_is_named(
    name: str, words: str, run: Run, configure: Configure
) -> None:
    """With file, line and the key that would bring it."""
    path = configure(EXAMPLE)
    status, told, errors = run("--config", str(path), name)
    assert (status, told) == (1, "")
    assert errors.startswith(f"cannot play '{name}' with {path}:\n{name}.txt:")
    assert words in errors


def test_a_story_of_a_standby_on_a_primary(run: Run, configure: Configure) -> None:
    """Its roles are not there."""
    status, _, errors = run("--config", str(configure(GUARDED)), "the_primary_dies_and_comes_back")
    assert status == 1
    assert "this story is about a standby" in errors
    assert "no primary is ever 'active'" in errors


# Names, lists, JSON.


@pytest.mark.parametrize(
    "name", ["only_the_gateway_dies", "only the gateway dies", "Only-the-gateway-dies."]
)
def test_a_name_may_be_written_as_a_sentence(name: str, run: Run) -> None:
    """Spaces, dashes or underscores."""
    assert run(name)[0] == 0


def test_an_unknown_name_gets_a_hint(run: Run) -> None:
    """The nearest one, or where to look."""
    status, told, errors = run("only_the_gatway_dies")
    assert (status, told) == (1, "")
    assert errors.endswith("hint: did you mean only_the_gateway_dies?\n")
    assert run("zzz")[2].endswith("hint: failover-monitor simulate --list\n")


def test_the_list_shows_names_sentences_and_moves(run: Run) -> None:
    """What is shipped, and what one's own scenario may say."""
    status, told, _ = run("--list")
    assert status == 0
    for name, path in SHIPPED.items():
        assert f"{name}\n    {path.read_text().partition(chr(10))[0]}\n" in told
    assert "    HOST silent\n" in told
    document = json.loads(run("--list", "--json")[1])
    assert document["scenarios"].keys() == SHIPPED.keys()
    assert document["moves"] == list(MOVES)


def test_the_outcome_for_programs(run: Run) -> None:
    """Figures, and the same sentence."""
    status, told, _ = run("--json", "the_primary_dies_and_comes_back")
    document = json.loads(told)
    assert status == 0
    assert document["outcome"]["served_here"] == [[13.52, pytest.approx(74.0, abs=0.01)]]
    assert document["outcome"]["nobody_s"] == pytest.approx(7.52)
    assert document["outcome"]["sentence"].startswith("app.service ran here from 13.5 s to 74.0 s")
    assert document["expected"] is None
    assert {line["kind"] for line in document["timeline"]} == {"said", "word", "story"}


def test_seconds_that_nobody_can_know_are_not_told(run: Run) -> None:
    """Who is cut off himself does not know whether the primary served."""
    document = json.loads(run("--json", "we_lose_our_own_network")[1])
    assert document["outcome"]["nobody_s"] is None
    assert "cannot be known" in document["outcome"]["sentence"]


# The operator's own file.


OWN = """Somebody pulls the plug twice.

policy   interval=3 threshold=3 retry=1.5

at   10  primary silent
"""


def test_an_expected_timeline_that_comes_out(run: Run, tmp_path: Path) -> None:
    """Exit status 0, and JSON says so."""
    path = ROOT / "tests/scenarios/we_lose_our_own_network.txt"
    assert run(str(path))[0] == 0
    assert json.loads(run("--json", str(path))[1])["expected"] is True
    told = run(str(path))[1]
    begin = told.index("   0.0  ")
    copied = tmp_path / "copied.txt"  # what was printed, the story's moves among it
    copied.write_text(
        path.read_text().partition("----")[0] + "----\n" + told[begin:].partition("\n\n")[0] + "\n"
    )
    assert run(str(copied))[0] == 0


def test_an_expected_timeline_that_differs_is_shown(run: Run, tmp_path: Path) -> None:
    """The difference on stderr, exit status 1."""
    path = tmp_path / "own.txt"
    path.write_text(f"{OWN}at 30 end\n----\n   0.0  = unknown\n   7.0  start app.service\n")
    status, told, errors = run(str(path))
    assert status == 1
    assert "standby -> takeover" in told
    assert "-   7.0  start app.service\n" in errors
    assert "+  16.5  start app.service\n" in errors


@pytest.mark.parametrize(
    ("line", "what", "right"),
    [
        ("at 20 primray up", "'primray' is not known here", "did you mean 'primary'?"),
        (
            "at 20 primary upp",
            "'primary upp' is nothing that can happen",
            "did you mean 'primary up'?",
        ),
        ("at 20 restart", "'restart' is nothing that can happen", "simulate --list"),
        ("at soon primary up", "'soon' is no moment", "seconds, or times of the configuration"),
        ("at 2X primary up", "'2X' is no moment", "2V+5"),
        ("at", "'at' says neither when nor what", "at 10 primary silent"),
        ("at 20", "'20' is followed by nothing", "primary silent"),
        ("once upon", "'upon' is not known here", "one of unknown"),
        ("att 20 primary up", "'att' is not known here", "did you mean 'at'?"),
        ("policy intervall=3", "'intervall' is not known here", "did you mean 'interval'?"),
        ("policy interval=x", "'x' is no number", "a number of 0 or more"),
        ("policy failback=later", "'later' is not known here", "one of auto, delayed, manual"),
        ("at 20 loss many", "'many' is no number", "a number of 0 or more"),
        ("at 20 app.service fails often", "'often' is no whole number", "a whole number"),
        ("at 20 app dies", "'app' is no unit", "a unit's name as systemd has it"),
        ("at 20 lease stolen", "'stolen' is not known here", "one of granted"),
        ("policy interval=0", "'0' is too small for interval", "a number of 0.1 or more"),
        ("policy threshold=0", "'0' is too small for threshold", "a number of 1 or more"),
        ("lease ttl=0", "'0' is too small for ttl", "a number of 5 or more"),
        ("at 20 reload retry=0", "'0' is too small for retry", "a number of 0.05 or more"),
        ("at 20 lease ttl 4.9", "'4.9' is too small for ttl", "a number of 5 or more"),
        ("booted", "'booted' takes one moment", "booted -10"),
        ("role standby", "'role' is not used like this", ""),
    ],
)
def test_a_bad_line_is_told_with_its_place(
    line: str, what: str, right: str, run: Run, tmp_path: Path
) -> None:
    """File, line, what is wrong, what is right; nothing is played."""
    path = tmp_path / "own.txt"
    path.write_text(f"{OWN}{line}\n")
    status, told, errors = run(str(path))
    assert (status, told) == (1, "")
    assert f"{path}:6:" in errors
    assert what in errors
    assert right in errors
    assert f"\n    {line}\n" in errors


def test_a_story_allows_no_less_than_a_configuration() -> None:
    """What is too small for config.json has never been thought of."""
    names = {"interval": "ping_interval", "threshold": "ping_fail_threshold",
             "timeout": "ping_timeout", "retry": "retry_interval",
             "recovery": "recovery_threshold"}  # fmt: skip
    fields = (
        Settings.model_fields | GuardKeys.model_fields | LeaseKeys.model_fields
        | {"hook_timeout": HookKeys.model_fields["timeout"]}
    )  # fmt: skip
    for key, least in LEAST.items():
        metadata = fields[names.get(key, key)].metadata
        assert [bound.ge for bound in metadata if isinstance(bound, Ge)] == [least], key


def test_every_bad_line_is_told_at_once(run: Run, tmp_path: Path) -> None:
    """Not one at a time."""
    path = tmp_path / "own.txt"
    path.write_text(f"{OWN}at 20 primray up\nat x primary up\n")
    errors = run(str(path))[2]
    assert f"{path}:6:" in errors
    assert f"{path}:7:" in errors


@pytest.mark.parametrize(
    "text", ["", "\n\n", "Only a sentence.\n", "A sentence.\n\npolicy interval=3\n"]
)
def test_a_file_in_which_nothing_happens(text: str, run: Run, tmp_path: Path) -> None:
    """Said, with an example of a line."""
    path = tmp_path / "own.txt"
    path.write_text(text)
    status, _, errors = run(str(path))
    assert status == 1
    assert "nothing happens; right: lines such as: at 10 primary silent" in errors


def test_a_file_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    """Missing, a directory, or no text; nor is there a file with a name that no file can have."""
    assert "there is no such scenario and no such file" in run("x" * 300)[2]
    assert "File name too long" in run(f"{'x' * 300}.txt")[2]
    assert "No such file" in run(str(tmp_path / "none.txt"))[2]
    assert "Is a directory" in run(f"{tmp_path}/")[2]
    (tmp_path / "own.txt").write_bytes(b"\xff\xfe\x00")
    status, _, errors = run(str(tmp_path / "own.txt"))
    assert (status, "it is no text" in errors) == (1, True)


def test_a_story_that_goes_back_in_time_is_refused(run: Run, tmp_path: Path) -> None:
    """Two moments in the wrong order are a slip of the pen."""
    path = tmp_path / "own.txt"
    path.write_text(f"{OWN}at 5 primary up\n")
    status, _, errors = run(str(path))
    assert status == 1
    assert f"{path}:6:4: '5' is before the line above" in errors


def test_a_story_that_would_take_for_ever_is_refused(run: Run, tmp_path: Path) -> None:
    """Virtual time costs time, too."""
    path = tmp_path / "own.txt"
    path.write_text(f"{OWN}after 100000V end\n")
    status, _, errors = run(str(path))
    assert (status, "'100000V' is longer than a day" in errors) == (1, True)


# The table of moves.


SAMPLES = {
    "HOST": "gateway",
    "UNIT": "app.service",
    "UNIT...": "app.service",
    "SECONDS": "1.5",
    "PERCENT": "20",
    "TIMES": "2",
    "CHECK": "tcp",
    "NAME": "pre_takeover",
    "ANSWERS": "passes",
    "ENDS": "fails",
    "STORE": "granted",
    "SETTING...": "interval=2",
    "TTL": "20",
}


@pytest.mark.parametrize("pattern", MOVES)
def test_every_move_of_the_table_can_be_read_and_performed(pattern: str) -> None:
    """What `--list` shows can be written, and does something without an error."""
    words = " ".join(SAMPLES.get(word, word) for word in pattern.split())
    move = read_move(words)
    assert move.pattern == pattern
    text = f"A story.\n\ncable\nservice_check tcp\nfence\nlease\nat 1 {words}\nat 90 end\n"
    play(parse(text))


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_can_be_played_and_told(seed: int, run: Run, tmp_path: Path) -> None:
    """Any moves in any order: a timeline and a sentence, never a traceback."""
    rng = random.Random(seed)
    anchors = ("at 0", "after 1", "after 0.5V", "after 20", "once active", "once standby")
    script = [
        f"{rng.choice(anchors)} {' '.join(SAMPLES.get(word, word) for word in pattern.split())}"
        for pattern in rng.choices(tuple(MOVES), k=8)
    ]
    own = ("cable", "service_check tcp trigger", "fence", "lease", "witness")
    path = tmp_path / "own.txt"
    path.write_text("\n".join(("A story.", "", *own, *script, "after 60 end\n")))
    status, told, errors = run(str(path))
    assert (status, errors) == (0, "")
    assert "run here" in told or "ran here" in told


def test_there_is_a_sample_of_every_reader() -> None:
    """So that the test above leaves none out."""
    assert SAMPLES.keys() == READERS.keys()


def test_the_moves_of_a_unit_may_mean_the_first_or_all() -> None:
    """So that a story fits any configuration."""
    text = "A story.\n\nservices a.service b.service\nat 1 service starts\nat 5 end\n"
    systemd = play(parse(text)).world.systemd
    assert [s.name for s in systemd.services.values() if s.state == "running"] == ["a.service"]
    systemd = play(parse(text.replace("service starts", "services starts"))).world.systemd
    assert all(service.state == "running" for service in systemd.services.values())


def test_a_line_must_be_used_as_it_is_meant() -> None:
    """A story's own policy may be that of a primary, too."""
    script = parse("A story.\n\nrole primary\nat 1 end\n")
    assert script.policy
    assert script.policy.role is Role.PRIMARY
    with pytest.raises(ScenarioError):
        parse("A story.\n\nrole nobody\nat 1 end\n")
