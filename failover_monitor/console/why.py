"""Why it did what it did: one decision with its row, its evidence and the time that each step took.

Rule: nothing is concluded here that was not recorded.  A step without a record is not shown.

A decision is a row of the table, with the rows that followed from it: from a phase at rest to the
next one (`standby -> takeover -> active`).  Beside it stands when the monitor held still although
the primary was silent.
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from failover_monitor.console import records
from failover_monitor.console.history import as_document, missing
from failover_monitor.console.lines import (
    STYLES,
    Line,
    day_and_time,
    fault,
    iso,
    plain,
    show,
    time_of_day,
)
from failover_monitor.console.records import CheckRecord, Recorded
from failover_monitor.files import Paths, locked

SETTLED = frozenset({"unknown", "standby", "active", "gated", "serving"})  # phases that last
ENDING = frozenset({"failback", "closing"})
# Kinds of holding still.
HELD = frozenset({"held", "doubt", "veto", "claim", "flapping", "gated", "paused"})
EARLIER = 5  # decisions that are named at the end
HELD_SHOWN = 10
LEADING_S = 10.0  # what came so shortly before a decision led to it
LABEL = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision, and what was recorded around it."""

    moves: tuple[Recorded, ...]  # its changes of phase
    before: tuple[Recorded, ...]  # events since the decision before it
    during: tuple[Recorded, ...]  # from its first change of phase to its last; while under way, all
    since: tuple[Recorded, ...]  # from its end to the next decision, or to now

    @property
    def verdict(self) -> Recorded | None:
        """The verdict that it came of, if one came since the decision before it."""
        return self._latest("verdict")

    @property
    def started(self) -> Recorded | None:
        """The start of the monitor itself, if that came since the decision before it."""
        return self._latest("started")

    def _latest(self, kind: str) -> Recorded | None:
        return next((event for event in reversed(self.before) if event.kind == kind), None)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened on the way to a decision."""

    at_s: float
    what: str
    level: str = "INFO"


def why(options: argparse.Namespace) -> int:
    paths: Paths = options.paths
    if status := missing(paths, paths.events, "tell why"):
        return status
    events = list(records.events(paths))
    found = decisions(events)
    if not found:
        return nothing_decided(events, as_json=options.json)
    number = options.number
    if options.at is not None:
        try:
            until_s = end_of(options.at, time.time())
        except ValueError:
            fault(
                f"tell why: --at {options.at!r} is no time", "such as 03:12 or '2026-11-21 03:12'"
            )
            return 2
        number = number_at(found, until_s)
    if number > len(found):
        first = f"the oldest recorded decision is of {day_and_time(found[0].moves[0].at_s)}"
        fault(f"tell why: {first}; there are {len(found)}")
        return 1
    if options.json:
        running = locked(paths.lock)
        print(json.dumps(as_document_of(found, number) | {"running": running}, indent=1))
    else:
        show(told(found, number))
    return 0


def number_at(found: list[Decision], until_s: float) -> int:
    """The latest in the order of the record: the clock may have been set back."""
    latest = (n for n, one in enumerate(reversed(found), 1) if one.moves[0].at_s <= until_s)
    return next(latest, len(found) + 1)


def nothing_decided(events: list[Recorded], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"decision": None, "held_since": held_documents(events)}, indent=1))
        return 0
    since = f", the record begins {day_and_time(events[0].at_s)}" if events else ""
    show([plain(f"nothing has been decided yet{since}"), *held("held still", events)])
    return 0


# From events to decisions.


def decisions(events: Iterable[Recorded]) -> list[Decision]:
    """Every decision, oldest first."""
    events = list(events)
    moves = [n for n, event in enumerate(events) if is_move(event)]
    groups: list[list[int]] = []
    for number in moves:
        if groups and not begins(events[number]):
            groups[-1].append(number)
        else:
            groups.append([number])
    if not groups:
        return []
    afters = [*(group[0] for group in groups[1:]), len(events)]
    ends = [end_index(events, *pair) for pair in zip(groups, afters, strict=True)]
    return [
        Decision(
            moves=tuple(events[n] for n in group),
            before=tuple(events[start : group[0]]),
            during=tuple(events[group[0] : end]),
            since=tuple(events[end:after]),
        )
        for group, start, end, after in zip(groups, [0, *ends[:-1]], ends, afters, strict=True)
    ]


def is_move(event: Recorded) -> bool:
    return event.kind == "transition" and {"FROM", "TO"} <= event.fields.keys()


def begins(move: Recorded) -> bool:
    """Whether this change of phase has a reason of its own, and does not only end another."""
    source, target = move.fields["FROM"], move.fields["TO"]
    return source in SETTLED or target in ENDING or (source in ENDING and target == "takeover")


def end_index(events: list[Recorded], group: list[int], after: int) -> int:
    """Where the events of a decision end: when it came to rest, else before the next verdict."""
    last = group[-1]
    if events[last].fields["TO"] in SETTLED:
        return last + 1
    verdicts = [n for n in range(last, after) if events[n].kind == "verdict"]
    return verdicts[-1] if verdicts else after


# From a decision to its steps.


def steps(decision: Decision) -> list[Step]:
    """What led to it and what came of it, in order."""
    verdict, before = decision.verdict, decision.before
    begun = before.index(verdict) if verdict else leading(decision)
    found = list(of_evidence(verdict)) if verdict else []
    told = [event for event in (*before[begun:], *decision.during) if event.kind != "summary"]
    return found + [of_events(*repeated) for repeated in repeats(told)]


def leading(decision: Decision) -> int:
    """Where the events begin that came just before a decision without a verdict of its own."""
    since_s = decision.moves[0].at_s - LEADING_S
    early = [n for n, event in enumerate(decision.before, 1) if event.at_s < since_s]
    return early[-1] if early else 0


def still_before(decision: Decision) -> tuple[Recorded, ...]:
    """The events before it that are no steps of it."""
    verdict = decision.verdict
    end = decision.before.index(verdict) if verdict else leading(decision)
    return decision.before[:end]


def of_events(first: Recorded, last: Recorded, count: int) -> Step:
    what = last.what
    if count > 1:
        what += f" (told {count} times until {time_of_day(last.at_s)})"
    if is_move(last) and "WHEN" in last.fields:
        what += f" [when {spoken(last.fields['WHEN'])}]"
    return Step(first.at_s, what, last.level)


def of_evidence(event: Recorded) -> Iterator[Step]:
    """The silence behind a verdict: when it began, and each check."""
    silent_s = records.ago_s(event, "SILENT_S")
    if silent_s is not None:
        yield Step(silent_s, "first unanswered echo")
    suspected_s = records.ago_s(event, "SUSPECTED_S")
    if suspected_s is not None:
        yield Step(suspected_s, "suspicion: from now on dense echoes")
    for check in records.checks(event):
        yield Step(check.ended_s, in_words(check))


def in_words(check: CheckRecord) -> str:
    """A check with its echoes."""
    result = "failed" if check.failed else "proved nothing"
    answers = [(name, 0) for name in check.silent]
    answers += [(name, check.answered.get(name, 0)) for name in check.answered]
    echoes = ", ".join(f"{name} answered {count}" for name, count in answers)
    late = [name for name, count in check.answered.items() if count and name not in check.in_time]
    too_late = f" ({', '.join(late)} too late to count)" if late else ""
    return (
        f"check of {check.ended_s - check.began_s:.2f} s {result}:"
        f" {check.sent} of {check.planned} echo rounds sent, {echoes}{too_late}"
    )


def took(decision: Decision) -> list[tuple[str, float]]:
    """The length of each part, in seconds."""
    verdict, moves = decision.verdict, decision.moves
    begun_s, last_s = moves[0].at_s, moves[-1].at_s
    found = []
    if verdict:
        silent_s = records.ago_s(verdict, "SILENT_S")
        if silent_s is not None:
            found.append(("from the first unanswered echo to the verdict", verdict.at_s - silent_s))
        found.append(("from the verdict to the decision", begun_s - verdict.at_s))
    asked = [event.at_s for event in decision.during if event.kind == "asked"]
    if asked:
        found.append(("from there until the first service was asked", asked[0] - begun_s))
    if len(moves) > 1:
        ended = f"from there until the phase was {moves[-1].fields['TO']}"
        found.append((ended, last_s - (asked or [begun_s])[0]))
    return found


# For people.


def told(found: list[Decision], number: int) -> Iterator[Line]:
    decision = found[-number]
    moves, verdict = decision.moves, decision.verdict
    first = moves[0]
    way = " -> ".join([first.fields["FROM"], *(move.fields["TO"] for move in moves)])
    zone = time.strftime("%Z", time.localtime(first.at_s))
    yield labelled("decision", f"{way}, {day_and_time(first.at_s)} {zone}", "bold")
    for move in moves:
        yield labelled("row", row_of(move))
    if evidence := (verdict or first).fields.get("EVIDENCE"):
        yield labelled("evidence" if verdict else "verdict", evidence)
    if started := decision.started:
        yield labelled("started", f"{day_and_time(started.at_s)}: {started.what}")
    for name, seconds in took(decision):
        yield labelled("took", f"{seconds:.2f} s {name}")
    if number == 1 and moves[-1].fields["TO"] not in SETTLED:
        yield labelled("under way", f"the phase is still {moves[-1].fields['TO']}", "yellow")
    yield plain("")
    begun_s: float | None = None
    for step in steps(decision):
        begun_s = step.at_s if begun_s is None else begun_s
        after = f"{step.at_s - begun_s:+.2f} s"
        style = STYLES.get(step.level, "")
        yield (f"  {time_of_day(step.at_s)} {after:>10}  ", "dim"), (step.what, style)
    yield from held("held still before it", still_before(decision))
    yield from held("held still since then", decision.since)
    yield from others(found, number)


def labelled(label: str, text: str, style: str = "") -> Line:
    return (label.ljust(LABEL), "bold"), (text, style)


def row_of(move: Recorded) -> str:
    """Such as "standby -> takeover, when primary down: the primary stopped answering"."""
    fields = move.fields
    when = f", when {spoken(fields['WHEN'])}" if "WHEN" in fields else ""
    reason = f", {fields['REASON']}" if fields.get("REASON") else ""
    asker = f" (by {fields['BY']}{reason})" if "BY" in fields else ""
    return f"{fields['FROM']} -> {fields['TO']}{when}: {fields.get('BECAUSE', move.what)}{asker}"


def spoken(name: str | None) -> str:
    """A condition as the README's table has it."""
    return (name or "").replace("_", " ")


def held(label: str, events: Iterable[Recorded]) -> Iterator[Line]:
    """Each time that it held still; what was told again and again is told once."""
    found = list(repeats(stillness(events)))
    if found:
        yield plain("")
        yield ((label, "bold"),)
    if len(found) > HELD_SHOWN:
        yield plain(f"  {len(found) - HELD_SHOWN} more before these, see: failover-monitor history")
    for first, event, count in found[-HELD_SHOWN:]:
        again = f" (told {count} times since {time_of_day(first.at_s)})" if count > 1 else ""
        style = STYLES.get(event.level, "")
        yield (f"  {day_and_time(event.at_s)}  ", "dim"), (event.what + again, style)
        for check in records.checks(event)[-1:]:
            yield ((f"{'':27}its last {in_words(check)}", "dim"),)


def stillness(events: Iterable[Recorded]) -> Iterator[Recorded]:
    """A kind of holding still, a verdict that was lost, a silence that was long."""
    for event in events:
        lost = event.kind == "verdict" and event.fields.get("SUBJECT") == "unknown"
        if event.kind in HELD or event.kind == "check" or lost:
            yield event


def repeats(events: Iterable[Recorded]) -> Iterator[tuple[Recorded, Recorded, int]]:
    """Events in order; those of holding still that follow each other as one, with their number."""
    for kind, group in groupby(events, key=lambda event: event.kind):
        alike = list(group)
        if kind in HELD:
            yield alike[0], alike[-1], len(alike)
        else:
            yield from ((event, event, 1) for event in alike)


def others(found: list[Decision], number: int) -> Iterator[Line]:
    """The decisions before this one, and how to ask for them."""
    earlier = range(number + 1, len(found) + 1)[:EARLIER]
    if earlier:
        yield plain("")
        yield (("earlier decisions", "bold"),)
    for n in earlier:
        first = found[-n].moves[0]
        yield plain(f"  why -n {n:<4} {day_and_time(first.at_s)}  {first.what}")


# For programs.


def as_document_of(found: list[Decision], number: int) -> dict[str, Any]:
    decision = found[-number]
    verdict, first = decision.verdict, decision.moves[0]
    return {
        "number": number,
        "of": len(found),
        "at": iso(first.at_s),
        "at_s": first.at_s,
        "decision": [first.fields["FROM"], *(move.fields["TO"] for move in decision.moves)],
        "rows": [row_document(move) for move in decision.moves],
        "verdict": as_document(verdict) if verdict else None,
        "started": as_document(decision.started) if decision.started else None,
        "checks": [document_of_check(check) for check in records.checks(verdict)]
        if verdict
        else [],
        "steps": [{"at_s": step.at_s, "what": step.what} for step in steps(decision)],
        "took": [{"what": name, "seconds": round(seconds, 3)} for name, seconds in took(decision)],
        "held_before": held_documents(still_before(decision)),
        "held_since": held_documents(decision.since),
    }


def row_document(move: Recorded) -> dict[str, object]:
    fields = move.fields
    return {
        "at_s": move.at_s,
        "from": fields["FROM"],
        "to": fields["TO"],
        "when": fields.get("WHEN"),
        "because": fields.get("BECAUSE"),
        "by": fields.get("BY"),
        "reason": fields.get("REASON"),
    }


def document_of_check(check: CheckRecord) -> dict[str, object]:
    return {
        "failed": check.failed,
        "began_s": round(check.began_s, 3),
        "ended_s": round(check.ended_s, 3),
        "planned": check.planned,
        "sent": check.sent,
        "silent": list(check.silent),
        "answered": check.answered,
        "in_time": list(check.in_time),
    }


def held_documents(events: Iterable[Recorded]) -> list[dict[str, object]]:
    found = []
    for event in stillness(events):
        checks = [document_of_check(check) for check in records.checks(event)]
        found.append(as_document(event) | {"checks": checks})
    return found


def end_of(text: str, now_s: float) -> float:
    """The last instant that a local time names: "03:12" is all of that minute, "03:12:05" a second.

    Without a date it is the latest one that has been.  Raises ValueError.
    """
    today = time.strftime("%Y-%m-%d", time.localtime(now_s))
    dated = "-" in text
    whole = text.replace("T", " ") if dated else f"{today} {text}"
    forms = (("%Y-%m-%d %H:%M:%S", 1, 0), ("%Y-%m-%d %H:%M", 60, 0), ("%Y-%m-%d", 0, 1))
    for form, length_s, days in forms:
        try:
            moment = time.strptime(whole, form)
            was_yesterday = not dated and local_s(moment) > now_s
            return local_s(moment, days - was_yesterday) + length_s
        except (ValueError, OverflowError):
            continue
    raise ValueError(text)


def local_s(moment: time.struct_time, days: int = 0) -> float:
    """So many days later at the same local time: not every day has 24 hours."""
    year, month, day, hour, minute, second = moment[:6]
    return time.mktime((year, month, day + days, hour, minute, second, 0, 0, -1))
