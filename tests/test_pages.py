"""The pages of documentation: what they tell to type exists, and is played somewhere."""

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from failover_monitor.cli import parser
from failover_monitor.console.agent import HOME
from failover_monitor.files import Paths
from tests.pages import TYPED, Step, missing, play, steps

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CALL = re.compile(r"^(?:\w+# )?(?:sudo )?(failover-monitor [a-z][^|>;&#\n]*)", re.MULTILINE)
INLINE = re.compile(r"`(failover-monitor [a-z][^`]*)`")
LONG = re.compile(r"^(python -m [\w.]+|tests/bench/run)((?: [^\s#]+)*)", re.MULTILINE)
PROMTOOL = re.compile(r"^promtool .*$", re.MULTILINE)
FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)

PAGE = """\
Some words.

```console
standby# cat /proc/uptime
… …
primary# false  # status 1
```

<!-- within 2 s -->

```console
standby# printf 'a\\n' \\
    'b\\n'
a
standby# cat <<'END'
standby# one
END
```

```
standby# not a console
```
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_the_commands_of_a_page(page: Path) -> None:
    """Host, words, status, output, and how long it may take."""
    first, second, third, fourth = steps(page)
    assert first == Step(line=4, host="standby", words="cat /proc/uptime", prints=("… …",))
    assert second == Step(line=6, host="primary", words="false", status=1)
    assert (third.words, third.within_s) == ("printf 'a\\n' \\\n    'b\\n'", 2.0)
    assert third.prints == ("a",)
    assert fourth.words == "cat <<'END'\nstandby# one\nEND"


@pytest.mark.parametrize(
    ("prints", "printed", "lacking"),
    [
        (("a", "c"), "a\nb\nc\n", ""),
        (("c", "a"), "a\nb\nc\n", "a"),
        (("since … ago",), "  since 10:00, 3 s ago\n", ""),
        (("since … ago",), "since 10:00", "since … ago"),
        (("a.b",), "axb", "a.b"),
    ],
)
def test_what_a_command_should_print(prints: tuple[str, ...], printed: str, lacking: str) -> None:
    """Its lines, in order; dots are dots."""
    assert missing(Step(line=1, host="x", words="y", prints=prints), printed) == lacking


def test_a_page_that_lies_is_found(page: Path) -> None:
    """The place and what was printed instead."""

    def run(step: Step) -> tuple[int, str]:
        return (1, "") if step.host == "primary" else (0, "1.0 2.0\n")

    with pytest.raises(AssertionError, match=r"(?s)page.md:12: standby# printf.*no line 'a'"):
        play(page, run)


def test_every_page_with_commands_is_typed() -> None:
    """A page whose commands nobody types would rot; and no page is named that has none."""
    told = {str(path.relative_to(ROOT)) for path in PAGES if any(steps(path))}
    assert told == set(TYPED)


COMMANDS = (ROOT / "docs/commands.md").read_text()


def sections() -> dict[str, str]:
    """The section of each command on the page about them."""
    parts = re.split(r"^#{2,3} (.*)$", COMMANDS, flags=re.MULTILINE)
    return {
        name.strip("`"): text
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
        if name.startswith("`")
    }


def told_options(section: str) -> set[str]:
    """The options in a section's table, without what they take."""
    return set(re.findall(r"^\| `(-[\w-]+)", section, re.MULTILINE))


def of_each_command() -> dict[str, argparse.ArgumentParser]:
    (found,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(found.choices)


def test_every_command_and_option_is_on_the_page_of_commands_and_nothing_else() -> None:
    """What `--help` knows; --help, --version and --config are told once, for all of them."""
    told = {name: told_options(text) for name, text in sections().items() if name != "install.sh"}
    common = {"-h", "--help", "--config"}
    known = {
        name: {word for action in one._actions for word in action.option_strings} - common
        for name, one in of_each_command().items()
    }
    assert told == known
    every = COMMANDS[: COMMANDS.index("## See")]
    assert all(f"`{option}" in every for option in ("--help", "--config", "--version"))


def test_the_options_of_install_are_on_the_page_of_commands() -> None:
    """Those that its own usage names."""
    usage = re.search(
        r"<<'USAGE'\n(.*?)^USAGE$", (ROOT / "install.sh").read_text(), re.DOTALL | re.MULTILINE
    )
    assert usage
    known = set(re.findall(r"^  (--[\w-]+)", usage[1], re.MULTILINE)) - {"--help"}
    assert told_options(sections()["install.sh"]) == known


def test_the_files_on_the_page_of_commands_are_the_programs() -> None:
    """Every path that the program knows by name, and none that it does not."""
    paths = Paths()
    known = {paths.config, paths.state_word, paths.log, paths.events, paths.samples, paths.status}
    known |= {paths.pause()[1], paths.dry_run.run, paths.config.with_name("current")}
    known |= {paths.request("*"), HOME}
    told = re.findall(r"^\| `(/[^`]+)` \|", COMMANDS, re.MULTILINE)
    assert sorted(path.rstrip("/") for path in told) == sorted(map(str, known))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_on_a_page_can_be_parsed(path: Path) -> None:
    """Sub-commands and options exist, with the arguments that the page gives them."""
    text = path.read_text()
    calls = INLINE.findall(FENCE.sub("", text))
    for block in FENCE.findall(text):
        calls += CALL.findall(block.replace("\\\n", " "))
    for call in calls:
        assert parser().parse_args(shlex.split(call)[1:]), call


def long_calls() -> list[tuple[str, str]]:
    """What the pages tell to run that takes minutes to hours: the program and its words."""
    every = "".join(path.read_text() for path in PAGES)
    return sorted(set(LONG.findall("".join(FENCE.findall(every)))))


@pytest.mark.parametrize(("program", "words"), long_calls())
def test_what_takes_hours_knows_its_options(program: str, words: str) -> None:
    """The program exists, takes the values, and its --help names each option."""
    module = "tests.bench" if program == "tests/bench/run" else program.split()[-1]
    given = [sys.executable, "-m", module, *words.split(), "--help"]
    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for option in re.findall(r"--[\w-]+", words):
        assert option in done.stdout


@pytest.mark.parametrize("line", PROMTOOL.findall((ROOT / "docs/notifications.md").read_text()))
def test_promtool_is_called_as_the_page_says(line: str) -> None:
    """In a checkout, word for word."""
    done = subprocess.run(line.split(), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
