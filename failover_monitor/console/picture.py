"""The last hour, drawn: round-trip times, loss, phase, verdict, events.

Rule: a column shows what was recorded in it and nothing else; where nobody watched it is blank.
Eighty columns are enough, and where the terminal knows no blocks ASCII is.
"""

import argparse
import string
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from failover_monitor.console import records
from failover_monitor.console.history import missing
from failover_monitor.console.lines import (
    STYLES,
    Line,
    day_and_time,
    fault,
    plain,
    show,
    time_of_day,
)
from failover_monitor.console.prose import percent
from failover_monitor.console.records import Recorded, Sample
from failover_monitor.files import Paths

COLUMNS = 60
MARGIN = 16  # left of them: what a row is, its unit, the axis
WIDTH = MARGIN + COLUMNS
TICK = 10  # columns from one time on the axis to the next
ROWS = 4  # of a chart of round-trip times
STEPS = 8  # heights of one glyph
LONGEST_H = 24.0 * 366
RECENT_S = 150.0  # a sample that ended so lately is the newest that there can be
LISTED = 12  # events below the picture
DAY_S = 86_400.0
NO_ANSWER = "x"
MARKS = string.digits[1:] + string.ascii_letters

# The most telling of a column's phases is shown: what passes before what lasts.
PHASES = {
    "takeover": "T",
    "failback": "F",
    "claim": "c",
    "closing": "C",
    "opening": "O",
    "active": "A",
    "serving": "S",
    "unknown": "?",
    "gated": "g",
    "standby": "s",
}
VERDICTS = {"down": "D", "unknown": "?", "up": "u"}
COLOURS = {"T": "bold red", "A": "red", "F": "yellow", "c": "yellow", "C": "yellow", "D": "red"}
MARKED = frozenset({"transition", "verdict", "doubt", "started", "stopped"})  # kinds of events
SERIOUS = frozenset({"ERROR", "CRITICAL"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """What bars are made of: nine heights from nothing to full."""

    heights: str
    nothing_lost: str
    axis: str


BLOCKS = Glyphs(heights=" ▁▂▃▄▅▆▇█", nothing_lost="·", axis="│")
ASCII = Glyphs(heights=" ..--==##", nothing_lost=".", axis="|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The time that is drawn; every column is equally long."""

    begin_s: float
    end_s: float

    @property
    def column_s(self) -> float:
        return (self.end_s - self.begin_s) / COLUMNS

    def column_of(self, at_s: float) -> int:
        """The column of a moment; what came after the newest sample belongs to the last one."""
        return min(COLUMNS - 1, int((at_s - self.begin_s) / self.column_s))

    def columns_of(self, sample: Sample) -> Iterator[int]:
        """The columns that a sample tells of: those that it fills by half, or that hold half of it.

        Samples that follow each other without a gap leave no column out.
        """
        begin_s = sample.at_s - sample.length_s
        least_s = min(sample.length_s, self.column_s) / 2
        first = max(0, int((begin_s - self.begin_s) / self.column_s))
        for column in range(first, COLUMNS):
            from_s = self.begin_s + column * self.column_s
            if from_s >= sample.at_s:
                return
            shared_s = min(sample.at_s, from_s + self.column_s) - max(begin_s, from_s)
            if shared_s >= least_s - 1e-6 and shared_s > 0:
                yield column


@dataclass(slots=True)
class Cell:
    """One path in one column."""

    sent: int = 0
    answered: int = 0
    sum_ms: float = 0.0  # of all answers
    longest_ms: float = 0.0

    @property
    def mean_ms(self) -> float | None:
        return self.sum_ms / self.answered if self.answered else None


def picture(options: argparse.Namespace) -> int:
    paths: Paths = options.paths
    if not 0 < options.hours <= LONGEST_H:
        fault(f"draw the last {options.hours:g} h: --hours must be above 0 and at most a year")
        return 2
    if status := missing(paths, paths.samples, "draw a picture"):
        return status
    now_s = time.time()
    since_s = now_s - options.hours * 3600
    found = list(records.samples(paths, since_s))
    window = window_of(found, now_s, options.hours)
    show(drawn(found, list(records.events(paths, window.begin_s)), window, glyphs_of()))
    return 0


def window_of(found: list[Sample], now_s: float, hours: float) -> Window:
    """It ends with the newest sample: the minute that is not over yet is no gap."""
    newest_s = max((sample.at_s for sample in found), default=0.0)
    end_s = newest_s if now_s - RECENT_S <= newest_s <= now_s else now_s
    return Window(begin_s=end_s - hours * 3600, end_s=end_s)


def glyphs_of() -> Glyphs:
    """Blocks, where they can be written."""
    try:
        f"{BLOCKS.heights}{BLOCKS.axis}".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def drawn(
    found: list[Sample], events: list[Recorded], window: Window, glyphs: Glyphs
) -> Iterator[Line]:
    """The whole picture."""
    zone = time.strftime("%Z", time.localtime(window.begin_s))
    begin, end = (day_and_time(at_s)[:19] for at_s in (window.begin_s, window.end_s))
    yield plain(f"{begin} to {end} {zone}, one column is {window.column_s:g} s")
    for role, address in paths_of(found):
        yield plain("")
        yield from path_rows(role, address, found, window, glyphs)
    marked = [event for event in events if event.kind in MARKED or event.level in SERIOUS]
    marks = marks_of(marked, window)
    phases = band(PHASES, phases_of(found, events, window))
    verdicts = band(VERDICTS, verdicts_of(found, events, window))
    yield plain("")
    yield row("phase", "", phases, glyphs)
    yield row("verdict", "", verdicts, glyphs)
    yield row("events", "", "".join(marks.get(n, " ") for n in range(COLUMNS)), glyphs)
    yield from axis(window)
    yield plain("")
    yield from legend(phases, verdicts, glyphs)
    yield from listed(marked, marks, window)


def paths_of(found: list[Sample]) -> list[tuple[str, str]]:
    """Every path in the samples, the primary's first."""
    roles = {"primary": 0, "standby": 1, "reference": 2}
    paths = {
        (path.role, address): None for sample in found for address, path in sample.paths.items()
    }
    return sorted(paths, key=lambda path: roles.get(path[0], len(roles)))


def path_rows(
    role: str, address: str, found: list[Sample], window: Window, glyphs: Glyphs
) -> Iterator[Line]:
    cells = cells_of(address, found, window)
    sent = sum(s.paths[address].sent for s in found if address in s.paths)
    answered = sum(s.paths[address].answered for s in found if address in s.paths)
    lost = f"{loss_of(sent, answered)} of {sent} echoes lost" if sent else "no echoes"
    longest_ms = max((cell.longest_ms for cell in cells.values()), default=0.0)
    longest = f"longest round trip {longest_ms:.3g} ms" if longest_ms else "no answer"
    yield plain(f"{role} {address}: {lost}; {longest}")
    top_ms = max((cell.mean_ms or 0.0 for cell in cells.values()), default=0.0)
    for number in range(ROWS):
        unit = {0: f"{top_ms:.3g} ms", ROWS - 1: "0 ms"}.get(number, "")
        label = "" if number else "mean"
        bars = (bar(cells.get(n), number, top_ms, glyphs) for n in range(COLUMNS))
        yield row(label, unit, "".join(bars), glyphs)
    yield row(
        "loss", "0-100 %", "".join(lost_of(cells.get(n), glyphs) for n in range(COLUMNS)), glyphs
    )


def loss_of(sent: int, answered: int) -> str:
    """In plain spaces: a terminal may know no others."""
    share = max(0, sent - answered) / sent
    return percent(share).replace("\N{NO-BREAK SPACE}", " ")


def cells_of(address: str, found: list[Sample], window: Window) -> dict[int, Cell]:
    """By column; a column without a cell was not watched."""
    cells: dict[int, Cell] = {}
    for sample in found:
        path = sample.paths.get(address)
        if path is None:
            continue
        for column in window.columns_of(sample):
            cell = cells.setdefault(column, Cell())
            cell.sent += path.sent
            cell.answered += path.answered
            if path.rtt_ms:
                cell.sum_ms += path.rtt_ms[1] * path.answered
                cell.longest_ms = max(cell.longest_ms, path.rtt_ms[2])
    return cells


def bar(cell: Cell | None, number: int, top_ms: float, glyphs: Glyphs) -> str:
    """The glyph of one column in one row of a chart, counted from the top."""
    lowest = number == ROWS - 1
    if cell is None or not cell.sent:
        return " "
    if cell.mean_ms is None:
        return NO_ANSWER if lowest else " "
    height = max(1, round(ROWS * STEPS * cell.mean_ms / top_ms)) if top_ms else 1
    return glyphs.heights[min(STEPS, max(0, height - STEPS * (ROWS - 1 - number)))]


def lost_of(cell: Cell | None, glyphs: Glyphs) -> str:
    if cell is None or not cell.sent:
        return " "
    share = 1 - cell.answered / cell.sent
    if share <= 0:
        return glyphs.nothing_lost
    return glyphs.heights[max(1, min(STEPS, round(STEPS * share)))]


# Bands.


def phases_of(found: list[Sample], events: list[Recorded], window: Window) -> dict[int, set[str]]:
    """The phases in each column: of its samples, and those that ended or began in it."""
    phases: dict[int, set[str]] = {}
    for sample in found:
        for column in window.columns_of(sample):
            phases.setdefault(column, set()).add(sample.phase)
    for event in events:
        if event.kind == "transition" and {"FROM", "TO"} <= event.fields.keys():
            both = {event.fields["FROM"], event.fields["TO"]}
            phases.setdefault(window.column_of(event.at_s), set()).update(both)
    return phases


def verdicts_of(found: list[Sample], events: list[Recorded], window: Window) -> dict[int, set[str]]:
    """The verdicts in each column, in the same way."""
    verdicts: dict[int, set[str]] = {}
    for sample in found:
        for column in window.columns_of(sample):
            verdicts.setdefault(column, set()).add(sample.verdict)
    last = ""
    for event in events:
        if event.kind == "verdict" and "SUBJECT" in event.fields:
            both = {last, event.fields["SUBJECT"]}
            verdicts.setdefault(window.column_of(event.at_s), set()).update(both)
            last = event.fields["SUBJECT"]
    return verdicts


def band(letters: dict[str, str], seen: dict[int, set[str]]) -> str:
    """One letter a column, of the word that comes first in `letters`."""
    return "".join(
        next((letter for word, letter in letters.items() if word in seen.get(n, ())), " ")
        for n in range(COLUMNS)
    )


def marks_of(marked: Iterable[Recorded], window: Window) -> dict[int, str]:
    """The mark of each column that has events, from left to right."""
    columns = sorted({window.column_of(event.at_s) for event in marked})
    return {column: MARKS[number] for number, column in enumerate(columns)}


# Around them.


def row(label: str, unit: str, text: str, glyphs: Glyphs) -> Line:
    letters = tuple((letter, COLOURS.get(letter, "")) for letter in text.rstrip())
    return ((f"{f'{label:<7}{unit:>7}':<{MARGIN - 1}}{glyphs.axis}", "dim"), *letters)


def axis(window: Window) -> Iterator[Line]:
    form = "%m-%d" if window.column_s * TICK >= DAY_S else "%H:%M"
    ticks = range(0, COLUMNS, TICK)
    moments = [window.begin_s + column * window.column_s for column in ticks]
    yield plain(" " * MARGIN + f"+{'-' * (TICK - 1)}" * len(ticks))
    yield plain(
        " " * MARGIN
        + "".join(time.strftime(form, time.localtime(at_s)).ljust(TICK) for at_s in moments)
    )


def legend(phases: str, verdicts: str, glyphs: Glyphs) -> Iterator[Line]:
    for name, letters, shown in (("phase", PHASES, phases), ("verdict", VERDICTS, verdicts)):
        words = [f"{letter} {word}" for word, letter in letters.items() if letter in shown]
        if words:
            yield plain(f"{name:<8} {', '.join(words)}")
    yield plain(f"loss     {glyphs.nothing_lost} none, {glyphs.heights[-1]} all")
    yield plain(f"echoes   {NO_ANSWER} no answer at all; blank: nobody watched")


def listed(marked: list[Recorded], marks: dict[int, str], window: Window) -> Iterator[Line]:
    """The events behind the marks, the newest ones if there are many."""
    if len(marked) > LISTED:
        yield plain(
            f"events   {len(marked) - LISTED} more before these, see: failover-monitor history"
        )
    for event in marked[-LISTED:]:
        mark = marks[window.column_of(event.at_s)]
        text = f"{mark} {time_of_day(event.at_s)[:8]} {event.what}"
        yield ((shortened(text), STYLES.get(event.level, "")),)


def shortened(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."
