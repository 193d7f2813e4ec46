"""How things stand, read from what the monitor wrote down: once, live, or for programs.

Rule: the age comes first.  What nobody stands behind any more is shown as history, and every mode
ends with 3.  Colours, and what it takes to draw them, are for terminals only.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from failover_monitor.files import Paths, locked
from failover_monitor.text import one_line, span

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

NOT_RUNNING, WRONG_USE = 3, 2
WATCH_S = 1.0  # between two pictures of `--watch`
EVERY_S = 10.0  # between two rounds, where an older version does not say
# What every version has written; what came later has a default where it is read.
KEYS = frozenset(
    {"at", "at_s", "stale_after_s", "phase", "phase_since", "verdict", "verdict_since", "why"}
    | {"state", "attention", "quiet_references", "next_check_s", "primary", "references", "units"}
)


class Tone(StrEnum):
    """How serious a line is: its style on a terminal."""

    PLAIN = ""
    GOOD = "green"
    WARN = "yellow"
    BAD = "bold red"
    DULL = "dim"  # of a stale document


TONES = {
    **dict.fromkeys(("standby", "serving", "up", "running"), Tone.GOOD),
    **dict.fromkeys(("down", "failed"), Tone.BAD),
    **dict.fromkeys(("stopped", "finished"), Tone.PLAIN),
}  # of phases, verdicts and services; all others are on their way: WARN


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the status, such as `phase       standby since ...`."""

    label: str
    text: str
    tone: Tone = Tone.PLAIN

    def __str__(self) -> str:
        return f"{self.label:<11} {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at the monitor's files has shown."""

    document: dict[str, Any] | None
    running: bool
    age_s: float = 0.0

    @property
    def stale(self) -> bool:
        fresh = self.document and 0 <= self.age_s <= self.document["stale_after_s"]
        return not (self.running and fresh)

    @property
    def exit_status(self) -> int:
        return NOT_RUNNING if self.stale else 0

    @property
    def heading(self) -> str:
        """What must be known before anything else; "" if all of it is fresh."""
        if self.document is None and self.running:
            return "failover-monitor runs, and has not written its status yet"
        if self.document is None:
            return (
                "failover-monitor is not running: it has left no status\n"
                "hint: systemctl start failover-monitor"
            )
        if not self.running:
            return "NOT RUNNING: nobody watches.  What was last seen:"
        return "STALE: the monitor has stopped writing.  What was last seen:" if self.stale else ""


def status(options: argparse.Namespace) -> int:
    if options.watch:
        return watch(options.paths)
    seen = look(options.paths)
    if seen.document is None:
        print(seen.heading, file=sys.stderr)
    elif options.json:
        found = {"age_s": round(seen.age_s, 1), "running": seen.running, "stale": seen.stale}
        print(json.dumps({**seen.document, **found}, indent=1))
    elif sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(drawn(seen))
    else:
        print(in_words(seen))
    return seen.exit_status


def read_status(paths: Paths) -> dict[str, Any] | None:
    """What the monitor wrote last; None where there is nothing that can be understood."""
    try:
        document: dict[str, Any] = json.loads(paths.status.read_text())
        return document if document["at_s"] >= 0 and document.keys() >= KEYS else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def look(paths: Paths) -> Look:
    running = locked(paths.lock)  # first: what is read then was written by whoever holds it
    document = read_status(paths)
    if document is None:
        return Look(document=None, running=running)
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - document["at_s"]
    return Look(document=document, running=running, age_s=age_s)


def watch(paths: Paths) -> int:
    """Draw the status each second until Ctrl-C; leaves the last picture on the terminal."""
    if not sys.stdout.isatty():
        print(
            "cannot watch: the output is no terminal\n"
            "hint: failover-monitor status, or status --json for programs",
            file=sys.stderr,
        )
        return WRONG_USE
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the terminal is put right again
    try:
        from rich.console import Console

        console = Console(highlight=False)
        show = follow if console.is_dumb_terminal else redraw
        show(console, paths)
    except KeyboardInterrupt:
        seen = look(paths)
        console.print(drawn(seen))
    return seen.exit_status


def redraw(console: "Console", paths: Paths) -> None:
    """One picture in place of the other, until interrupted."""
    from rich.live import Live

    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(drawn(look(paths)), refresh=True)
            time.sleep(WATCH_S)


def follow(console: "Console", paths: Paths) -> None:
    """One picture below the other whenever there is news, where a terminal cannot go back."""
    told = None
    while True:
        seen = look(paths)
        news = (seen.document and seen.document["at_s"], seen.running, seen.stale)
        if news != told:
            told = news
            console.print(drawn(seen), "")
        time.sleep(WATCH_S)


def in_words(seen: Look) -> str:
    """The status as plain lines."""
    heading = [seen.heading] if seen.heading else []
    return "\n".join([*heading, *map(str, lines(seen))])


def drawn(seen: Look) -> "RenderableType":
    """The status for a terminal, however wide."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, min_width=11)
    grid.add_column(overflow="fold")
    for line in lines(seen):
        grid.add_row(Text(line.label), Text(line.text, Tone.DULL if seen.stale else line.tone))
    return Group(Text(seen.heading, Tone.BAD), grid) if seen.heading else grid


def lines(seen: Look) -> Iterator[Line]:
    """All that there is to say, what needs attention first."""
    document = seen.document
    if document is None:
        return

    def ago(moment: str) -> str:
        return span(before(document, moment) + max(0.0, seen.age_s))

    yield from attention(document)
    if document.get("role"):  # older versions do not say
        yield Line("role", document["role"])
    for label in ("phase", "verdict"):
        word, since = document[label], document[f"{label}_since"]
        why = f": {one_line(document['why'])}" if label == "verdict" else ""
        text = f"{word} since {since} ({ago(since)}){why}"
        yield Line(label, text, TONES.get(word, Tone.WARN))
    yield Line("state word", document["state"])
    if document.get("by_hand"):  # older versions know none
        yield Line("by hand", f"{document['by_hand']} asked for this takeover", Tone.WARN)
    if document.get("suspicious"):
        text = f"the primary does not answer, {document['failed_checks']} checks in a row failed"
        yield Line("suspicion", text, Tone.WARN)
    yield from of_paths(document)
    for unit in document["units"]:
        why = f" ({one_line(unit['why'])})" if unit["why"] else ""
        since = unit.get("since")
        lasts = f" since {since} ({ago(since)})" if since else ""
        tone = TONES.get(unit["state"], Tone.WARN)
        yield Line("service", f"{unit['name']} {unit['state']}{why}{lasts}", tone)
    yield Line("written", f"{document['at']}, {seen.age_s:.1f} s ago")
    yield Line("next check", next_check(seen, document))


def attention(document: dict[str, Any]) -> Iterator[Line]:
    """What an operator should mend."""
    for words in document["attention"]:
        yield Line("attention", one_line(words), Tone.BAD)
    if len(document["quiet_references"]) == len(document["references"]):
        what = "no takeover can happen"
        if document.get("role") == "primary":
            what = "the services run only while the standby answers"
        yield Line("attention", f"no reference answers: {what}", Tone.BAD)


def of_paths(document: dict[str, Any]) -> Iterator[Line]:
    """Each address that is watched: the loss and the round-trip times of the last minutes."""
    minutes = f"{max(1, round(document.get('recent_s', 0) / 60))} min"
    for role, key in (("primary", "primary"), ("standby", "standby"), ("reference", "references")):
        for path in document.get(key, ()):  # older versions know no standby's paths, and no loss
            loss, silent = path.get("loss_percent"), silence(document, path)
            parts = [silent or "answers"]
            if loss is not None:
                parts.append(f"loss {loss:g} % of {path['sent']} echoes in {minutes}")
            if path.get("rtt_ms_mean") is not None:
                times = (path[f"rtt_ms_{which}"] for which in ("min", "mean", "max"))
                parts.append("round trip {:.4g}/{:.4g}/{:.4g} ms".format(*times))
            tone = Tone.WARN if loss else Tone.GOOD
            if silent:
                tone = Tone.BAD
            yield Line(role, f"{path['address']}: {', '.join(parts)}", tone)


def silence(document: dict[str, Any], path: dict[str, Any]) -> str:
    """How long an address had not answered when the document was written; "" if it had."""
    if not path["last_answer"]:
        return "has not answered yet"
    silent_s = before(document, path["last_answer"])
    # The moments are whole seconds; the last round may be on its way.
    expected_s = 2 * document.get("check_every_s", EVERY_S) + 1
    return f"no answer for {span(silent_s)}" if silent_s > expected_s else ""


def next_check(seen: Look, document: dict[str, Any]) -> str:
    """When the next echoes are due: the document was written some rounds ago."""
    if seen.stale:
        return "none: nobody watches"
    left_s, every_s = document["next_check_s"] - seen.age_s, document.get("check_every_s")
    if every_s is None:  # an older version
        return f"in {max(0.0, left_s):.1f} s"
    return f"in {left_s if left_s >= 0 else left_s % every_s:.1f} s, every {every_s:g} s"


def before(document: dict[str, Any], moment: str) -> float:
    """So many seconds before the document was written, by the clock that it went by."""
    written, then = (datetime.fromisoformat(text) for text in (document["at"], moment))
    return (written - then).total_seconds()
