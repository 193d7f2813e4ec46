"""The commands on a page of documentation, and playing them.

A block of ```console holds lines `HOST# COMMAND` and, below each, what it prints: every line given
must be there, in that order, with `…` for whatever differs from day to day.  A command that ends
with another status than 0 says so: `# status 3`.  `<!-- within 10 s -->` before a block: each of
its commands is given again until it says that.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.lab.hosts import wait_until

PROMPT = re.compile(r"(?P<host>\w+)# (?P<words>.*)")
STATUS = re.compile(r"\s+# status (\d+)$")
HERE = re.compile(r"<<'(\w+)'")
WITHIN = re.compile(r"<!-- within (\d+) s -->")
# Typed from top to bottom on fresh hosts, by tests/lab/test_pages.py.
TYPED = ("docs/tutorial.md", "docs/howto.md", "docs/hold-and-hand-over.md", "docs/notifications.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of a page."""

    line: int  # where it stands, from 1
    host: str
    words: str
    status: int = 0
    prints: tuple[str, ...] = ()
    within_s: float = 0.0  # given again for so long, until it prints that


Run = Callable[[Step], tuple[int, str]]  # gives the status, and all that was printed


def steps(page: Path) -> Iterator[Step]:
    """Every command of the page's console blocks."""
    inside, within_s = False, 0.0
    found: list[Step] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```console"
            within_s = within_s if inside else 0.0
        elif not inside:
            given = WITHIN.fullmatch(line)
            within_s = float(given[1]) if given else within_s if not line else 0.0
        elif found and unfinished(found[-1].words):
            found[-1] = with_line(found[-1], line)
        elif match := PROMPT.fullmatch(line):
            found.append(step(match, number, within_s))
        elif found:
            found[-1] = with_print(found[-1], line)
    yield from found


def step(match: re.Match[str], number: int, within_s: float) -> Step:
    words = match["words"]
    status = STATUS.search(words)
    return Step(
        line=number,
        host=match["host"],
        words=STATUS.sub("", words),
        status=int(status[1]) if status else 0,
        within_s=within_s,
    )


def unfinished(words: str) -> bool:
    """Whether the next line belongs to the command: after a backslash, or in a here-document."""
    here = HERE.search(words)
    return words.endswith("\\") or (here is not None and f"\n{here[1]}" not in words)


def with_line(before: Step, line: str) -> Step:
    return replace(before, words=f"{before.words}\n{line}")


def with_print(before: Step, line: str) -> Step:
    return replace(before, prints=(*before.prints, line)) if line.strip() else before


def missing(step: Step, printed: str) -> str:
    """The first line that a command should have printed, and did not; "" = it printed them all."""
    rest = printed.splitlines()
    for wanted in step.prints:
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.strip().split("…")))
        for index, line in enumerate(rest):
            if pattern.fullmatch(line.strip()):
                rest = rest[index + 1 :]
                break
        else:
            return wanted
    return ""


def play(page: Path, run: Run) -> None:
    """Give every command of a page.  Raises AssertionError with the place."""
    for one in steps(page):
        told = ""

        def good(one: Step = one) -> bool:
            nonlocal told
            status, printed = run(one)
            lacking = missing(one, printed)
            told = f"status {status}, no line {lacking!r} in:\n{printed}"
            return status == one.status and not lacking

        try:
            if one.within_s:
                wait_until(good, one.within_s, one.words)
            else:
                assert good()
        except AssertionError:
            place = f"{page.name}:{one.line}: {one.host}# {one.words}"
            raise AssertionError(f"{place}\n{told}") from None
