"""What the monitor would do in a written story: the production code, in virtual time.

Rule: nothing is sent, started, stopped or written.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from difflib import get_close_matches, unified_diff
from pathlib import Path

from failover_monitor.config import ConfigError, load
from failover_monitor.model import Policy, Role
from failover_monitor.rehearsal.moves import CHOICES, MOVES
from failover_monitor.rehearsal.outcome import outcome_of, sentence
from failover_monitor.rehearsal.script import ScenarioError, Script, missing, parse, policy_of
from failover_monitor.rehearsal.story import Line, lines, play

SHIPPED = Path(__file__).parent.parent / "rehearsal" / "scenarios"
FIRST = "the_primary_dies_and_comes_back"
LEGEND = "Seconds, and: > what the story lets happen, = the state word, * what nobody says."
EXAMPLE = "the example's numbers: no configuration is installed"


def simulate(options: argparse.Namespace) -> int:
    """The command."""
    if options.list:
        return show_list(as_json=options.json)
    name = options.scenario or FIRST
    path = place_of(name)
    if path is None:
        return unknown(name)
    try:
        script = parse(path.read_text(), called(path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        print(f"cannot play {name!r}: {path}: {why}", file=sys.stderr)
        return 1
    except ScenarioError as error:
        print(f"cannot play {name!r}:\n{error}", file=sys.stderr)
        return 1
    try:
        policy, source = chosen(script, options)
    except ConfigError as error:
        print(f"cannot play {name!r}, the configuration is bad:\n{error}", file=sys.stderr)
        return os.EX_CONFIG
    if problems := tuple(missing(script, policy)):
        print(f"cannot play {name!r} with {source}:", file=sys.stderr)
        print(ScenarioError(called(path), problems), file=sys.stderr)
        return 1
    return show(script, policy, source, options)


def place_of(name: str) -> Path | None:
    """A shipped scenario by its name, however it is written, or a file."""
    file = Path(name)
    if "/" in name or file.suffix == ".txt" or os.path.isfile(name):  # noqa: PTH113, never raises
        return file
    return shipped().get(plain(name))


def called(path: Path) -> str:
    """What a message calls a scenario."""
    return path.name if path.parent == SHIPPED else str(path)


def plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_").rstrip("_.")


def shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted(SHIPPED.glob("*.txt"))}


def unknown(name: str) -> int:
    close = get_close_matches(plain(name), shipped(), 1, cutoff=0.4)
    hint = f"did you mean {close[0]}?" if close else "failover-monitor simulate --list"
    print(f"cannot play {name!r}: there is no such scenario and no such file", file=sys.stderr)
    print(f"hint: {hint}", file=sys.stderr)
    return 1


def show_list(*, as_json: bool) -> int:
    """Every shipped scenario and its first sentence, and what can happen in one of your own."""
    stories = {name: first_line(parse(path.read_text()).story) for name, path in shipped().items()}
    if as_json:
        print(json.dumps({"scenarios": stories, "moves": list(MOVES)}, indent=1))
        return 0
    for name, story in stories.items():
        print(f"{name}\n    {story}")
    print("\nWhat can happen in a scenario of your own:")
    print("\n".join(f"    {move}" for move in MOVES))
    print("Words in capitals stand for:")
    for word, choices in CHOICES.items():
        print(f"    {word:<8} {', '.join(choices)}")
    return 0


def first_line(story: str) -> str:
    return story.partition("\n")[0]


def chosen(script: Script, options: argparse.Namespace) -> tuple[Policy, str]:
    """Whose policy is played: that of `--config`, else the scenario's own, else what is installed.

    Raises ConfigError.
    """
    installed: Path = options.paths.config
    if options.config is not None:
        return load(options.config).policy, str(options.config)
    if script.policy:
        return script.policy, "the scenario's own configuration"
    if installed.exists():
        return load(installed).policy, str(installed)
    return policy_of(retry_interval_s=1.5), EXAMPLE


def show(script: Script, policy: Policy, source: str, options: argparse.Namespace) -> int:
    """Play it and print what came of it; 1 if that is not what the scenario expects."""
    played = play(script, policy)
    outcome = outcome_of(played)
    told = list(lines(played.world))
    ending = " ".join((sentence(outcome, played.world.policy), *vain(played.in_vain)))
    difference = differs(script, told)
    if options.json:
        document = {
            "story": script.story,
            "configuration": source,
            "timeline": [asdict(line) for line in told],
            "outcome": {**asdict(outcome), "sentence": ending, "in_vain": played.in_vain},
            "expected": None if script.expected is None else not difference,
        }
        print(json.dumps(document, indent=1))
    else:
        print(f"{script.story}\n\nPlayed with {source}: {in_short(policy)}\n{LEGEND}\n")
        print("".join(map(str, told)))
        print(ending)
    if difference:
        print(f"the timeline is not the expected one:\n{difference}", file=sys.stderr)
        return 1
    return 0


def vain(waited: list[str]) -> list[str]:
    return [f"The story came out otherwise: {what}." for what in waited]


def in_short(policy: Policy) -> str:
    """The numbers that the timeline depends on, and who is who."""
    services = ", ".join(policy.services)
    if policy.role is Role.PRIMARY:
        limits = policy.limits
        return (
            f"the guard of {services}, deadline {limits.deadline_s:g} s, stop limit"
            f" {limits.stop_limit_s:g} s; standby {', '.join(policy.standby)}, references"
            f" {', '.join(policy.references)}."
        )
    return (
        f"{services}; primary {', '.join(policy.primary)}, references"
        f" {', '.join(policy.references)}; verdict after {policy.verdict_s:g} s,"
        f" takeover_delay {policy.takeover_delay_s:g} s, failback {policy.failback}."
    )


def differs(script: Script, told: list[Line]) -> str:
    """The difference to the timeline that the scenario expects; "" = none, or none expected."""
    if script.expected is None:
        return ""
    expected = [line for line in script.expected.splitlines(keepends=True) if not is_story(line)]
    found = [str(line) for line in told if line.kind != "story"]
    return "".join(unified_diff(expected, found, "expected", "played"))


def is_story(line: str) -> bool:
    """A line that says what the story let happen: part of a timeline, but not of what is judged."""
    return line.split()[1:2] == [">"]
