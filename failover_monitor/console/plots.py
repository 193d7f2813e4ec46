"""Plots as SVG: axes with round ticks in local time, bands, bars, and what nobody watched.

Rule: nothing is smoothed away.  Where several samples share a pixel, the shortest of the shortest
and the longest of the longest are drawn, and the highest loss of any of them.

Colours, patterns and type are in report.css; here are shapes, classes and words.  A plot is drawn
once for wide and once for narrow screens, so that its words are never scaled to be unreadable.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import floor, log10
from xml.etree import ElementTree as Xml

from failover_monitor.console.story import HOLE_S, Seen, Span, Watched, joined_rtt_ms

WIDE, NARROW = 960, 360  # CSS pixels
LEFT, RIGHT = 58, 14  # the margins beside every plot
MARKS, LANE, SMALL_LANE, AXIS = 22, 30, 20, 24  # heights
RTT, LOSS, BARS, GAP = 118, 46, 130, 34
THIN_PX = 7.0  # no pattern can be told in less
SEEN_PX = 2.0  # what is narrower is drawn this wide, or it could not be seen
CHARACTER_PX = 6.6  # of the small type, a little generous
STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
DAY_S = 86_400
DAYS = (1, 2, 5, 10, 30, 100)
KNOWN = frozenset(
    {"unknown", "standby", "claim", "takeover", "active", "failback", "gated", "opening"}
    | {"serving", "closing", "up", "down"}
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment with a short name, drawn through every plot."""

    at_s: float
    name: str  # "T1"
    kind: str  # "takeover", "failback" or "closing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The stretch of time that a plot shows, and how wide it is."""

    begin_s: float
    end_s: float
    unwatched: tuple[Span, ...] = ()
    marks: tuple[Mark, ...] = ()
    width: int = WIDE

    @property
    def right(self) -> int:
        return self.width - RIGHT

    def x(self, at_s: float) -> float:
        share = (at_s - self.begin_s) / (self.end_s - self.begin_s)
        return LEFT + min(1.0, max(0.0, share)) * (self.right - LEFT)


@dataclass(frozen=True, slots=True)
class Column:
    """What one column of a plot shows of the samples in it."""

    begin_s: float
    end_s: float
    rtt_ms: tuple[float, float, float] | None
    loss: float


# ---- shapes


def canvas(width: int, height: float, words: str) -> Xml.Element:
    """An empty picture; `words` stand for it where it cannot be seen."""
    return Xml.Element(
        "svg",
        {
            "viewBox": f"0 0 {width} {height:g}",
            "class": "wide" if width == WIDE else "narrow",
            "role": "img",
            "aria-label": words,
        },
    )


def rectangle(
    parent: Xml.Element, left: float, top: float, right: float, height: float, kind: str
) -> Xml.Element:
    """A box that can be seen, however narrow."""
    kind += " thin" if right - left < THIN_PX else ""
    right = max(right, left + SEEN_PX)
    place = {"x": left, "y": top, "width": right - left, "height": height}
    return Xml.SubElement(parent, "rect", {"class": kind} | of_numbers(place))


def text(
    parent: Xml.Element, x: float, y: float, words: str, kind: str, anchor: str = "start"
) -> None:
    place = of_numbers({"x": x, "y": y})
    attributes = {"class": kind, "text-anchor": anchor} | place
    Xml.SubElement(parent, "text", attributes).text = words


def line(parent: Xml.Element, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
    place = of_numbers({"x1": x1, "y1": y1, "x2": x2, "y2": y2})
    Xml.SubElement(parent, "line", {"class": kind} | place)


def of_numbers(numbers: dict[str, float]) -> dict[str, str]:
    return {name: f"{number:.1f}".removesuffix(".0") for name, number in numbers.items()}


def titled(parent: Xml.Element, words: str) -> None:
    """What a pointer that rests on it is told."""
    Xml.SubElement(parent, "title").text = words


def drawn(picture: Xml.Element) -> str:
    return Xml.tostring(picture, encoding="unicode")


# ---- axes


def time_ticks(begin_s: float, end_s: float, at_most: int) -> list[tuple[float, str]]:
    """Round local times: never more than `at_most`, each with its label."""
    local = time.localtime(begin_s)
    length_s = end_s - begin_s
    steps_s = (*STEPS_S, *(days * DAY_S for days in DAYS))
    step_s = next((step for step in steps_s if length_s / step <= at_most - 1), steps_s[-1])
    since_midnight_s = local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec
    ticks: list[tuple[float, str]] = []
    for number in range(since_midnight_s // step_s, since_midnight_s // step_s + at_most + 3):
        seconds = number * step_s
        # As a clock on the wall has it: right also where the clocks are changed.
        day, hour = local.tm_mday + seconds // DAY_S, seconds % DAY_S // 3600
        wall = (local.tm_year, local.tm_mon, day, hour, seconds % 3600 // 60, seconds % 60)
        at_s = time.mktime((*wall, 0, 0, -1))
        if begin_s <= at_s <= end_s and not (ticks and at_s <= ticks[-1][0]):
            ticks.append((at_s, tick_label(at_s, step_s)))
    return ticks


def tick_label(at_s: float, step_s: int) -> str:
    moment = time.localtime(at_s)
    if step_s >= DAY_S or (moment.tm_hour, moment.tm_min, moment.tm_sec) == (0, 0, 0):
        return f"{moment.tm_mday} {time.strftime('%b', moment)}"
    return time.strftime("%H:%M" if step_s >= 60 else "%H:%M:%S", moment)


def time_grid(parent: Xml.Element, frame: Frame, top: float, bottom: float) -> None:
    """A thin line through the plot for every tick."""
    for at_s, _ in ticks_of(frame):
        line(parent, frame.x(at_s), top, frame.x(at_s), bottom + 4, "grid")


def time_labels(parent: Xml.Element, frame: Frame, bottom: float) -> None:
    for at_s, label in ticks_of(frame):
        half = len(label) * CHARACTER_PX / 2
        x = min(max(frame.x(at_s), half), frame.width - half)
        text(parent, x, bottom + 17, label, "tick", "middle")


def ticks_of(frame: Frame) -> list[tuple[float, str]]:
    room = 76 if frame.width == WIDE else 58
    return time_ticks(frame.begin_s, frame.end_s, (frame.right - LEFT) // room + 1)


def round_up(number: float) -> float:
    """The next of 1, 2, 5, 10, ..."""
    power = 10.0 ** floor(log10(number) + 1e-9)
    return next(step * power for step in (1, 2, 5, 10) if step * power >= number * (1 - 1e-9))


def round_down(number: float) -> float:
    """The last of 1, 2, 5, 10, ..."""
    power = 10.0 ** floor(log10(number) + 1e-9)
    return max(step * power for step in (1, 2, 5) if step * power <= number * (1 + 1e-9))


def round_steps(low: float, high: float) -> list[float]:
    """Every 1, 2, 5, 10, ... from one round number to another."""
    found = [low]
    while found[-1] < high * (1 - 1e-9):
        found.append(round_up(found[-1] * 1.5))
    return found


def rtt_range(paths: Iterable[Watched]) -> tuple[float, float] | None:
    """Round numbers around all round-trip times, so that all paths share one axis."""
    found = [rtt_ms for path in paths if (rtt_ms := path.rtt_ms)]
    if not found:
        return None
    low = round_down(max(0.001, min(rtt_ms[0] for rtt_ms in found)))
    high = round_up(max(0.001, *(rtt_ms[2] for rtt_ms in found)))
    return low, high if high > low else low * 10


def number(value: float) -> str:
    return f"{value:.12g}"


# ---- what every plot has


def backdrop(picture: Xml.Element, frame: Frame, top: float, bottom: float) -> None:
    """The ground of a plot, and where nobody watched."""
    rectangle(picture, LEFT, top, frame.right, bottom - top, "ground")
    holes(picture, frame, top, bottom)


def holes(picture: Xml.Element, frame: Frame, top: float, bottom: float) -> None:
    for hole in seen_spans(frame, frame.unwatched):
        left, right = frame.x(hole.begin_s), frame.x(hole.end_s)
        titled(rectangle(picture, left, top, right, bottom - top, "hole"), "nobody watched")


def seen_marks(frame: Frame) -> list[Mark]:
    """The first of each kind in every pixel, in their order."""
    found: dict[tuple[int, str], Mark] = {}
    for mark in sorted(frame.marks, key=lambda mark: mark.at_s):
        found.setdefault((floor(frame.x(mark.at_s)), mark.kind), mark)
    return list(found.values())


def seen_spans(frame: Frame, spans: Iterable[Span]) -> list[Span]:
    """Those that can be told apart, the long ones first: what is short lies in front of them."""
    found: dict[tuple[int, str], Span] = {}
    for span in sorted(spans, key=lambda span: -span.length_s):
        found.setdefault((floor(frame.x(span.begin_s)), span.word), span)
    return list(found.values())


def mark_lines(picture: Xml.Element, frame: Frame, top: float, bottom: float) -> None:
    for kind, found in by_kind(frame):
        strokes = "".join(f"M{frame.x(mark.at_s):.1f} {top:g}V{bottom:g}" for mark in found)
        Xml.SubElement(picture, "path", {"class": f"mark {kind}", "d": strokes})


def mark_names(picture: Xml.Element, frame: Frame) -> None:
    """A flag for every moment, and its name where there is room.

    Those of what begins lie before their moment, those of what ends after it: they never overlap.
    """
    for kind, found in by_kind(frame):
        shape = " 22v-9l9 9z" if kind == "failback" else " 13v9l-9 -9z"
        flags = "".join(f"M{frame.x(mark.at_s):.1f}{shape}" for mark in found)
        Xml.SubElement(picture, "path", {"class": f"sign {kind}", "d": flags})
    taken_to = 0.0
    for mark in seen_marks(frame):
        half = len(mark.name) * CHARACTER_PX / 2 + 3
        middle = min(max(frame.x(mark.at_s), half), frame.width - half)
        if middle - half >= taken_to:
            text(picture, middle, 10, mark.name, "name", "middle")
            taken_to = middle + half


def by_kind(frame: Frame) -> list[tuple[str, list[Mark]]]:
    """The moments that can be told apart: one shape for each kind keeps the page small."""
    marks = seen_marks(frame)
    kinds = dict.fromkeys(mark.kind for mark in marks)
    return [(kind, [mark for mark in marks if mark.kind == kind]) for kind in kinds]


# ---- the plots


def timeline(frame: Frame, phases: Sequence[Span], verdicts: Sequence[Span], words: str) -> str:
    """Phases and verdicts as bands, with the moments above them."""
    bottom = MARKS + LANE + 4 + SMALL_LANE
    picture = canvas(frame.width, bottom + AXIS, words)
    backdrop(picture, frame, MARKS, bottom)
    time_grid(picture, frame, MARKS, bottom)
    time_labels(picture, frame, bottom)
    for name, top, height, found in (
        ("phase", MARKS, LANE, phases),
        ("verdict", MARKS + LANE + 4, SMALL_LANE, verdicts),
    ):
        text(picture, LEFT - 8, top + height / 2 + 4, name, "lane", "end")
        for span in seen_spans(frame, found):
            band(picture, frame, span, top, height)
        holes(picture, frame, top, top + height)  # in front: a restart takes less than a pixel
        mark_lines(picture, frame, top, top + height)
        for span in seen_spans(frame, found):
            band_name(picture, frame, span, top + height / 2 + 4)
    mark_names(picture, frame)
    return drawn(picture)


def band(picture: Xml.Element, frame: Frame, span: Span, top: float, height: float) -> None:
    left, right = frame.x(span.begin_s), frame.x(span.end_s)
    kind = span.word if span.word in KNOWN else "other"
    titled(rectangle(picture, left, top, right, height, f"band {kind}"), span.word)


def band_name(picture: Xml.Element, frame: Frame, span: Span, y: float) -> None:
    """The word of a band, where there is room for it."""
    left, right = frame.x(span.begin_s), frame.x(span.end_s)
    kind = span.word if span.word in KNOWN else "other"
    if right - left > len(span.word) * CHARACTER_PX + 10:
        text(picture, (left + right) / 2, y, span.word, f"in {kind}", "middle")


def columns(frame: Frame, seen: Iterable[Seen]) -> Iterator[Column]:
    """The samples by pixel: the extremes of each stay, only the means are joined."""
    for _, group in groupby(seen, key=lambda one: floor(frame.x((one.begin_s + one.end_s) / 2))):
        together = list(group)
        yield Column(
            min(one.begin_s for one in together),
            max(one.end_s for one in together),
            joined_rtt_ms(one.echoes for one in together),
            max(one.loss for one in together),
        )


def path_plot(
    frame: Frame, path: Watched, bounds_ms: tuple[float, float] | None, words: str
) -> str:
    """Round-trip times of one address as band and line; its loss as bars below."""
    rtt_bottom = MARKS + RTT
    top, bottom = rtt_bottom + GAP, rtt_bottom + GAP + LOSS
    picture = canvas(frame.width, bottom + AXIS, words)
    backdrop(picture, frame, MARKS, rtt_bottom)
    backdrop(picture, frame, top, bottom)
    time_grid(picture, frame, MARKS, rtt_bottom)
    time_grid(picture, frame, top, bottom)
    time_labels(picture, frame, bottom)
    found = list(columns(frame, path.seen))
    if bounds_ms:
        rtt_panel(picture, frame, found, bounds_ms)
    loss_panel(picture, frame, found, top)
    mark_lines(picture, frame, MARKS, rtt_bottom)
    mark_lines(picture, frame, top, bottom)
    mark_names(picture, frame)
    return drawn(picture)


def rtt_panel(
    picture: Xml.Element, frame: Frame, found: Sequence[Column], bounds_ms: tuple[float, float]
) -> None:
    low, high = bounds_ms
    scale = RTT / log10(high / low)

    def y(rtt_ms: float) -> float:
        return MARKS + RTT - log10(max(low, rtt_ms) / low) * scale

    steps = round_steps(low, high)
    decades = [step for step in steps if abs(log10(step) - round(log10(step))) < 1e-9]
    for step in steps if len(steps) <= 6 else decades:
        line(picture, LEFT, y(step), frame.right, y(step), "grid")
        text(picture, LEFT - 8, y(step) + 4, number(step), "tick", "end")
    text(picture, 0, MARKS - 9, "ms", "tick")
    for run in runs(found):
        edges = [(frame.x(c.begin_s), frame.x(c.end_s), c.rtt_ms) for c in run if c.rtt_ms]
        forth = "".join(f"V{y(rtt[2]):.1f}H{right:.1f}" for _, right, rtt in edges)
        back = "".join(f"V{y(rtt[0]):.1f}H{left:.1f}" for left, _, rtt in reversed(edges))
        mean = "".join(f"V{y(rtt[1]):.1f}H{right:.1f}" for _, right, rtt in edges)
        left, _, first = edges[0]
        Xml.SubElement(
            picture,
            "path",
            {"class": "spread", "d": f"M{left:.1f} {y(first[0]):.1f}{forth}{back}z"},
        )
        Xml.SubElement(
            picture, "path", {"class": "mean", "d": f"M{left:.1f} {y(first[1]):.1f}{mean}"}
        )


def runs(found: Sequence[Column]) -> Iterator[list[Column]]:
    """Columns that follow each other without a hole, each with an answer."""
    run: list[Column] = []
    for column in found:
        if run and (column.rtt_ms is None or column.begin_s - run[-1].end_s > HOLE_S):
            yield run
            run = []
        if column.rtt_ms is not None:
            run.append(column)
    if run:
        yield run


def loss_panel(picture: Xml.Element, frame: Frame, found: Sequence[Column], top: float) -> None:
    highest = max((column.loss for column in found), default=0.0) * 100
    full = min(100.0, max(10.0, round_up(highest) if highest else 10.0))
    bottom = top + LOSS
    for share in (0.0, full / 2, full):
        y = bottom - share / full * LOSS
        line(picture, LEFT, y, frame.right, y, "grid")
        text(picture, LEFT - 8, y + 4, f"{number(share)}", "tick", "end")
    text(picture, 0, top - 9, "% lost", "tick")
    bars = []
    for column in found:
        if column.loss > 0:
            left = frame.x(column.begin_s)
            right = max(frame.x(column.end_s), left + SEEN_PX / 2)
            height = max(SEEN_PX, column.loss * 100 / full * LOSS)
            bars.append(f"M{left:.1f} {bottom:g}v{-height:.1f}H{right:.1f}V{bottom:g}z")
    if bars:
        Xml.SubElement(picture, "path", {"class": "lost", "d": "".join(bars)})


def histogram(gaps_s: Sequence[float], width: int, limit_s: float | None, words: str) -> str:
    """How many silences were how long; `limit_s`: from there on a verdict is possible."""
    top, bottom = MARKS + 14, MARKS + 14 + BARS
    picture = canvas(width, bottom + AXIS + 14, words)
    within = [*gaps_s, *([limit_s] if limit_s else [])]
    edges = round_steps(round_down(max(0.01, min(within))), round_up(max(within) * 1.001))
    counts = [sum(low <= gap < high for gap in gaps_s) for low, high in pairwise(edges)]
    counts[0] += sum(gap < edges[0] for gap in gaps_s)
    most = round_up(max(1, *counts))
    step = int(max(1, round_up(most / 5)))
    scale = (width - RIGHT - LEFT) / log10(edges[-1] / edges[0])

    def x(gap_s: float) -> float:
        return LEFT + log10(gap_s / edges[0]) * scale

    rectangle(picture, LEFT, top, width - RIGHT, bottom - top, "ground")
    for count in range(0, int(most) + 1, step):
        y = bottom - count / most * BARS
        line(picture, LEFT, y, width - RIGHT, y, "grid")
        text(picture, LEFT - 8, y + 4, f"{count}", "tick", "end")
    text(picture, 0, top - 9, "silences", "tick")
    for (low, high), count in zip(pairwise(edges), counts, strict=True):
        y = bottom - count / most * BARS
        if count:
            bar = rectangle(picture, x(low) + 1, y, x(high) - 1, bottom - y, "bar")
            titled(bar, f"{count} from {number(low)} s to {number(high)} s")
            if count < most:
                text(picture, (x(low) + x(high)) / 2, y - 4, f"{count}", "name", "middle")
    for edge in edges if (width - LEFT) / len(edges) > 32 else edges[::3]:
        line(picture, x(edge), bottom, x(edge), bottom + 4, "grid")
        text(picture, x(edge), bottom + 17, number(edge), "tick", "middle")
    text(picture, width - RIGHT, bottom + 32, "length of the silence, s", "tick", "end")
    if limit_s:
        label = f"V \N{MINUS SIGN} g = {number(round(limit_s, 3))} s"
        half = len(label) * CHARACTER_PX / 2
        line(picture, x(limit_s), 14, x(limit_s), bottom, "limit")
        text(picture, min(max(x(limit_s), LEFT + half), width - half), 10, label, "name", "middle")
    return drawn(picture)
