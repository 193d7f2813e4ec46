"""The report: one file for a post-mortem, which needs nothing but itself.

Rule: everything that was recorded is text, whatever it says.  The page asks nobody for anything,
and its Content-Security-Policy holds it to that.
"""

import argparse
import base64
import hashlib
import logging
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from failover_monitor import __version__
from failover_monitor.config import ConfigError, load
from failover_monitor.console import plots, records
from failover_monitor.console.lines import span_s, time_of_day
from failover_monitor.console.prose import (
    clock,
    counted,
    figures,
    milliseconds,
    path_words,
    percent,
    sentences,
    title,
    zone,
)
from failover_monitor.console.records import Recorded
from failover_monitor.console.story import Episode, Span, Story, Watched, rank, story_of
from failover_monitor.files import Paths
from failover_monitor.model import Policy, Role
from failover_monitor.text import length
from failover_monitor.timing import outage_survived_s

HERE = Path(__file__).parent
WRONG_USE = 2
CONTEXT_S = 86_400.0  # samples so long before the period tell its first phase
SHORTEST_S = 1.0
LISTED = 3000  # events in the list; with more, the least serious are left out first
DETAILED = 20  # takeovers with a table of their own
STEPS = 60  # of one takeover; lines of a table
PLOTTED = 12  # addresses with a plot
TOLD = 2000  # characters of one sentence


class ReportError(Exception):
    """The report cannot be made; the text says why, and a hint if there is one."""


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture, for wide and for narrow screens."""

    wide: Markup
    narrow: Markup


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: an event, or a step of a takeover."""

    at: str
    after: str
    level: str
    kind: str
    what: str
    evidence: str


def report(options: argparse.Namespace) -> int:
    now_s = time.time()
    try:
        end_s = min(moment_s(options.until, now_s), now_s) if options.until else now_s
        begin_s = moment_s(options.since, end_s)
        if begin_s < 0:
            msg = f"'{options.since}' is too long ago"
            raise ReportError(msg)
        if end_s - begin_s < SHORTEST_S:
            msg = f"the period from {clock(begin_s)} to {clock(end_s)} is empty"
            raise ReportError(msg)
    except ReportError as error:
        print(f"cannot report: {error}", file=sys.stderr)
        return WRONG_USE
    if hidden := unreadable(options.paths):
        print(f"cannot report: {hidden}\nhint: run it as root", file=sys.stderr)
        return 1
    story = story_of(
        list(records.events(options.paths)),
        list(records.samples(options.paths, begin_s - CONTEXT_S)),
        begin_s,
        end_s,
    )
    policy, trouble = policy_of(options.config)
    page = document(story, policy, trouble, host=os.uname().nodename, now_s=now_s)
    return left(page.encode(errors="replace"), options.html)


def unreadable(paths: Paths) -> str:
    """What is there and may not be read, which must not look like an empty record."""
    for path in (paths.events, paths.samples):
        try:
            path.open().close()
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"cannot read '{path}': {error.strerror}"
    return ""


def left(page: bytes, target: str) -> int:
    """Leave the page where it was asked for, and say so."""
    try:
        if target == "-":
            with open(sys.stdout.fileno(), "wb", closefd=False) as out:
                out.write(page)
        else:
            write_whole(Path(target), page)
            print(f"{target}: {len(page) / 1000:.0f} kB; open it in a browser")
    except BrokenPipeError:
        raise
    except OSError as error:
        where = "to standard output" if target == "-" else f"'{target}'"
        print(f"cannot write {where}: {error.strerror}", file=sys.stderr)
        return 1
    except ReportError as error:
        print(f"cannot write '{target}': {error}", file=sys.stderr)
        return 1
    return 0


def write_whole(target: Path, page: bytes) -> None:
    """Write a file of any size whole, under a name that nobody can guess until it is complete."""
    target = Path(os.path.realpath(target))  # what a link leads to is replaced, not the link
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        what = "a directory" if target.is_dir() else "no regular file"
        msg = f"it is {what}\nhint: name a file, or - for standard output"
        raise ReportError(msg)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:64]}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(page)
            os.fchmod(descriptor, 0o644)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def moment_s(words: str, end_s: float) -> float:
    """A time (2026-11-21 10:00, local unless it has a zone), or a length (24h) before `end_s`."""
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromisoformat(words.strip()).timestamp()
    try:
        if words.strip().isdigit():
            raise ValueError  # seconds, for systemd; whoever writes it here means days, or a year
        return end_s - span_s(words)
    except ValueError:
        msg = (
            f"'{words}' is neither a length nor a time\n"
            "hint: a length such as 90m, 24h or 7d, a time such as '2026-11-21 10:00'"
        )
        raise ReportError(msg) from None


def policy_of(config: Path) -> tuple[Policy | None, str]:
    """Today's policy; or why it cannot be had, in one line."""
    try:
        return load(config).policy, ""
    except ConfigError as error:
        return None, str(error).splitlines()[0]


def document(story: Story, policy: Policy | None, trouble: str, *, host: str, now_s: float) -> str:
    """The whole page."""
    style, script = ((HERE / f"report.{kind}").read_text() for kind in ("css", "js"))
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    listed, left_out = listed_events(story.events)
    role = role_of(story, policy)
    limit_s = outage_survived_s(policy) if policy and role == Role.STANDBY else None
    template = environment.get_template("report.html")
    return template.render(
        policy_header=f"default-src 'none'; style-src {digest(style)}; script-src {digest(script)};"
        " img-src data:; base-uri 'none'; form-action 'none'",
        style=Markup(style),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        host=host,
        role=role,
        version=__version__,
        made=clock(now_s),
        begin=clock(story.begin_s),
        end=clock(story.end_s),
        zone=zone(story.begin_s, story.end_s),
        length=length(story.end_s - story.begin_s),
        sentences=list(sentences(story, role, limit_s)),
        figures=figures(story, role),
        nothing=not story.events and not story.samples,
        samples=story.samples,
        episodes=[(one, title(one), list(steps(one))) for one in story.episodes[:DETAILED]],
        episodes_left_out=max(0, len(story.episodes) - DETAILED),
        **pictures(story, limit_s),
        paths=[path_row(path) for path in story.paths[:STEPS]],
        paths_left_out=max(0, len(story.paths) - PLOTTED),
        limit=limit_s,
        trouble=trouble,
        unwatched=[
            (clock(hole.begin_s), clock(hole.end_s), length(hole.length_s))
            for hole in story.unwatched[:STEPS]
        ],
        phases=[
            (clock(span.begin_s), span.word, length(span.length_s)) for span in story.phases[:STEPS]
        ],
        phases_left_out=max(0, len(story.phases) - STEPS) + max(0, len(story.unwatched) - STEPS),
        days=list(days(listed)),
        left_out=left_out,
        filters=filters(listed),
    )


def digest(text: str) -> str:
    """The name by which a Content-Security-Policy allows exactly this style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def role_of(story: Story, policy: Policy | None) -> str:
    """Which side of the pair this is; without a configuration its paths tell."""
    if policy:
        return policy.role.value
    watches_standby = any(path.role == "standby" for path in story.paths)
    return (Role.PRIMARY if watches_standby else Role.STANDBY).value


# ---- pictures


def pictures(story: Story, limit_s: float | None) -> dict[str, Any]:
    """Every plot, with the words that stand for it."""
    frame = plots.Frame(
        begin_s=story.begin_s,
        end_s=story.end_s,
        unwatched=story.unwatched,
        marks=tuple(marks(story)),
    )
    frames = (frame, replace(frame, width=plots.NARROW))
    order = word_order(story.phases)
    shares = ", ".join(f"{word} for {length(story.time_in(word))}" for word in order)
    moments = ", ".join(title(one) for one in story.episodes[:DETAILED])
    told = f"Timeline: {shares or 'no phase is known'}; {moments or 'no takeover is recorded'}."
    bounds_ms = plots.rtt_range(story.paths)
    paths = []
    for path in story.paths[:PLOTTED]:
        words = f"Round-trip times and loss of {path.address}: {path_words(path)}."
        paths.append((path, plot(plots.path_plot(f, path, bounds_ms, words) for f in frames)))
    gaps_s = [gap_s for _, gap_s in story.gaps]
    silences = None
    if gaps_s:
        words = (
            f"Histogram of {counted(len(gaps_s), 'silence')}: the shortest {min(gaps_s):.2f} s,"
            f" the longest {max(gaps_s):.2f} s."
        )
        silences = plot(plots.histogram(gaps_s, frame.width, limit_s, words) for frame in frames)
    return {
        "timeline": plot(
            plots.timeline(frame, story.phases, story.verdicts, told) for frame in frames
        ),
        "path_plots": paths,
        "silences": silences,
        "mark_kinds": list(dict.fromkeys(mark.kind for mark in frame.marks)),
        "words": word_order(story.phases),
        "verdict_words": word_order(story.verdicts),
    }


def plot(both: Iterator[str]) -> Plot:
    wide, narrow = both
    return Plot(Markup(wide), Markup(narrow))  # noqa: S704 - ElementTree has escaped the words


def word_order(spans: Sequence[Span]) -> list[str]:
    """The words of a band, in the order of their first appearance."""
    return list(dict.fromkeys(span.word for span in spans))


def marks(story: Story) -> Iterator[plots.Mark]:
    """The moments that every plot shows."""
    for one in story.episodes:
        letter = one.kind[0].upper()
        found = (
            (one.began_s, f"{letter}{one.number}", one.kind),
            (one.failback_s, f"F{one.number}", "failback"),
        )
        for at_s, name, kind in found:
            if at_s is not None and story.begin_s <= at_s <= story.end_s:
                yield plots.Mark(at_s, name, kind)


def cut(words: str) -> str:
    return words if len(words) <= TOLD else f"{words[:TOLD]} ... (cut here)"


def path_row(path: Watched) -> dict[str, Any]:
    """One line of the table of paths."""
    worst = max(path.seen, key=lambda one: one.loss)
    rtt_ms = [milliseconds(value) for value in path.rtt_ms] if path.rtt_ms else ["", "", ""]
    return {
        "address": path.address,
        "role": path.role,
        "sent": f"{path.sent:,}",
        "loss": percent(path.loss),
        "worst": f"{percent(worst.loss)} at {clock(worst.end_s)}" if worst.loss else "",
        "rtt_ms": rtt_ms,
    }


# ---- events


def steps(one: Episode) -> Iterator[Row]:
    """What happened in one takeover, each with its distance from the beginning."""
    origin_s = one.silent_since_s or one.steps[0].at_s
    if one.silent_since_s is not None:
        words = "the first echo that stayed unanswered (from the verdict's evidence)"
        yield Row(time_of_day(origin_s), "0.00 s", "info", "silence", words, "")
    for event, told in told_already(one.steps[:STEPS]):
        yield row(event, told, f"{event.at_s - origin_s:,.2f} s")
    if len(one.steps) > STEPS:
        words = f"{len(one.steps) - STEPS} more steps, in the list of events"
        yield Row("", "", "info", "more", words, "")


def told_already(events: Sequence[Recorded]) -> Iterator[tuple[Recorded, str]]:
    """Each event with the sentence of the verdict before it: its evidence need not be repeated."""
    verdict = ""
    for event in events:
        yield event, verdict
        if event.kind == "verdict":
            verdict = str(event.what)


def row(event: Recorded, told: str = "", after: str = "") -> Row:
    """One line; `told`: a sentence that the reader has just read."""
    evidence = str(event.fields.get("EVIDENCE", ""))
    what = str(event.what)
    return Row(
        at=time_of_day(event.at_s),
        after=after,
        level=logging.getLevelName(rank(event.level)).lower(),
        kind="summary" if event.kind == "summary" else "event",
        what=cut(what),
        evidence="" if evidence in what or evidence in told else cut(evidence),
    )


def listed_events(events: Sequence[Recorded]) -> tuple[list[Recorded], int]:
    """The events of the list, in order, and how many of the least serious are left out."""
    if len(events) <= LISTED:
        return list(events), 0

    def weight(event: Recorded) -> tuple[int, bool, float]:
        return rank(event.level), event.kind != "summary", event.at_s

    chosen = sorted(events, key=weight)[-LISTED:]
    return sorted(chosen, key=lambda event: event.at_s), len(events) - LISTED


def days(events: Sequence[Recorded]) -> Iterator[tuple[str, list[Row]]]:
    """The list of events, day by day."""

    def day(event: Recorded) -> str:
        return time.strftime("%A %d %B %Y", time.localtime(event.at_s))

    for name, group in groupby(events, key=day):
        yield name, [row(event, told) for event, told in told_already(list(group))]


def filters(events: Sequence[Recorded]) -> list[tuple[str, str, int]]:
    """What the list can be narrowed to: id, words, how many are left."""
    notable = sum(rank(e.level) > logging.INFO or e.kind != "summary" for e in events)
    warnings = sum(rank(event.level) >= logging.WARNING for event in events)
    errors = sum(rank(event.level) >= logging.ERROR for event in events)
    return [
        ("all", "All", len(events)),
        ("notable", "Without the summaries", notable),
        ("warning", "Warnings and worse", warnings),
        ("error", "Errors and worse", errors),
    ]
