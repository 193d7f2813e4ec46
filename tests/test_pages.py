"""The pages of documentation: what they tell to type exists, and is played somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from failover_monitor.cli import parser
from tests.pages import Step, missing, play, steps

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CALL = re.compile(r"^(?:\w+# )?(?:sudo )?(failover-monitor [a-z][^|>;&#]*)", re.MULTILINE)
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


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_on_a_page_can_be_parsed(path: Path) -> None:
    """Sub-commands and options exist, with the arguments that the page gives them."""
    for block in FENCE.findall(path.read_text()):
        for call in CALL.findall(block.replace("\\\n", " ")):
            words = shlex.split(call)[1:]
            assert parser().parse_args(words), call
