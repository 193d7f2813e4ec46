"""Which `retry_interval` would have been safe, by the silences that were recorded.

Rule: it reads, it computes, it edits nothing.  A silence of the primary becomes a verdict when it
lasts V - g or longer (`timing.outage_survived_s`); a value is called safe when what it survives is
MARGIN times the longest silence of all that was recorded.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Any

from failover_monitor.config import ConfigError, load
from failover_monitor.console import records
from failover_monitor.console.history import missing
from failover_monitor.console.lines import Line, day_and_time, fault, plain, show
from failover_monitor.console.records import Sample
from failover_monitor.files import Paths
from failover_monitor.model import Policy, Role
from failover_monitor.text import length
from failover_monitor.timing import (
    HASTY_REFERENCE_S,
    HASTY_VERDICT_S,
    detection,
    outage_survived_s,
)

MARGIN = 2.0  # what is survived, over the longest silence; also over the slowest reference
ENOUGH_S = 86_400.0  # less than a day says nothing about a day
LONGEST_DAYS = 366.0
THRESHOLDS = range(1, 101)  # of `ping_fail_threshold`
CANDIDATES_S = (
    *(0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0),
    *(6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 60.0),
)
BUCKETS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, inf)
LABEL = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What was recorded, as far as it matters here."""

    watched_s: float
    first_s: float  # seconds since 1970
    sent: int  # echoes to the primary
    answered: int
    gaps_s: tuple[float, ...]  # every silence that ended with an answer, ascending
    verdicts: int  # "down": silences that ended with a takeover or another answer of ours
    reference_ms: float  # the slowest minute's mean round trip of a reference

    @property
    def longest_s(self) -> float:
        return self.gaps_s[-1] if self.gaps_s else 0.0

    @property
    def enough(self) -> bool:
        return self.watched_s >= ENOUGH_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One `retry_interval`, and what it would have meant."""

    retry_interval_s: float | None  # None: absent
    today: bool
    verdict_s: float  # V
    survived_s: float  # V - g
    verdicts: int  # recorded silences that would have become one
    crash_min_s: float  # from a crash to the verdict
    crash_max_s: float
    safe: bool


def recommend(options: argparse.Namespace) -> int:
    paths: Paths = options.paths
    if not 0 < options.days <= LONGEST_DAYS:
        fault(f"look at the last {options.days:g} days: --days must be above 0 and at most a year")
        return 2
    try:
        policy = load(options.config).policy
    except ConfigError as error:
        print(error, file=sys.stderr)
        return os.EX_CONFIG
    if policy.role is Role.PRIMARY:
        fault("recommend anything here: this host is the primary, its guard makes no checks")
        return 1
    if status := missing(paths, paths.samples, "recommend anything"):
        return status
    past = past_of(paths, time.time() - options.days * 86_400)
    found = candidates(policy, past)
    best = next((candidate for candidate in found if candidate.safe), None) if past.enough else None
    if options.json:
        print(json.dumps(as_document(past, found, best), indent=1))
    else:
        show(told(policy, past, found, best))
    return 0 if past.enough else 1


def past_of(paths: Paths, since_s: float) -> Past:
    found = list(records.samples(paths, since_s))
    primary = [path for s in found for path in s.paths.values() if path.role == "primary"]
    downs = sum(
        event.kind == "verdict" and event.fields.get("SUBJECT") == "down"
        for event in records.events(paths, since_s)
    )
    return Past(
        watched_s=sum(sample.length_s for sample in found),
        first_s=min((sample.at_s - sample.length_s for sample in found), default=0.0),
        sent=sum(path.sent for path in primary),
        answered=sum(path.answered for path in primary),
        gaps_s=tuple(sorted(gap_s for sample in found for gap_s in sample.gaps_s)),
        verdicts=downs,
        reference_ms=slowest_reference_ms(found),
    )


def slowest_reference_ms(found: list[Sample]) -> float:
    return max(
        (
            path.rtt_ms[1]
            for sample in found
            for path in sample.paths.values()
            if path.role == "reference" and path.rtt_ms
        ),
        default=0.0,
    )


def candidates(policy: Policy, past: Past) -> list[Candidate]:
    """From the fastest to the slowest; today's is among them."""
    values = {value for value in CANDIDATES_S if value <= policy.interval_s}
    values |= {policy.interval_s}
    policies = [replace(policy, retry_interval_s=value) for value in values]
    if policy not in policies:
        policies.append(policy)
    found = (candidate(other, past, today=other == policy) for other in policies)
    return sorted(found, key=lambda c: (c.verdict_s, c.retry_interval_s is None))


def candidate(policy: Policy, past: Past, *, today: bool) -> Candidate:
    times, survived_s = detection(policy), outage_survived_s(policy)
    return Candidate(
        retry_interval_s=policy.retry_interval_s,
        today=today,
        verdict_s=policy.verdict_s,
        survived_s=survived_s,
        verdicts=sum(gap_s >= survived_s for gap_s in past.gaps_s),
        crash_min_s=times.shortest_s,
        crash_max_s=times.longest_s,
        safe=safe(policy, past),
    )


def safe(policy: Policy, past: Past) -> bool:
    """It survives what was seen with room to spare, and the references answer in time."""
    patient = outage_survived_s(policy) >= MARGIN * past.longest_s
    proven_s = max(HASTY_REFERENCE_S, MARGIN * past.reference_ms / 1000)
    return patient and policy.verdict_s >= HASTY_VERDICT_S and policy.last_check_s >= proven_s


def threshold_needed(policy: Policy, past: Past) -> int | None:
    """The least `ping_fail_threshold` that is safe with checks of `ping_interval`."""
    slow = replace(policy, retry_interval_s=policy.interval_s)
    return next((n for n in THRESHOLDS if safe(replace(slow, threshold=n), past)), None)


# For people.


def told(
    policy: Policy, past: Past, found: list[Candidate], best: Candidate | None
) -> Iterator[Line]:
    yield from told_of_past(past)
    yield labelled(
        "safe",
        f"what survives {MARGIN:g} times the longest silence, {MARGIN * past.longest_s:.2f} s;"
        f" V at least {HASTY_VERDICT_S:g} s",
    )
    yield plain("")
    yield plain("retry_interval    verdict V    survives  would be verdicts  crash to verdict")
    for entry in found:
        yield row_of(entry, best)
    yield plain("")
    yield from advice(policy, past, found, best)


def told_of_past(past: Past) -> Iterator[Line]:
    since = f" since {day_and_time(past.first_s)[:16]}" if past.watched_s else ""
    lost = past.sent - past.answered
    yield labelled("recorded", f"{length(past.watched_s)} watched{since}")
    yield labelled("echoes", f"{past.sent} to the primary, {lost} of them unanswered")
    longest = f", the longest lasted {past.longest_s:.2f} s" if past.gaps_s else ""
    yield labelled("suspicions", f"{len(past.gaps_s)} that an answer ended{longest}")
    least_s = 0.0
    for most_s in BUCKETS_S:
        count = sum(least_s <= gap_s < most_s for gap_s in past.gaps_s)
        if count:
            most = "or longer" if most_s == inf else f"to {most_s:g} s"
            yield labelled("", f"{least_s:g} {most}: {count}")
        least_s = most_s
    if past.verdicts:
        yield labelled("verdicts", f'"down": {past.verdicts}; those silences are not counted here:')
        yield labelled(
            "", "whether the primary was really gone, only you know: failover-monitor why"
        )


def labelled(label: str, text: str) -> Line:
    return (label.ljust(LABEL), "bold"), (text, "")


def row_of(entry: Candidate, best: Candidate | None) -> Line:
    value = "absent" if entry.retry_interval_s is None else f"{entry.retry_interval_s:g} s"
    remarks = ["today"] if entry.today else []
    remarks += ["recommended"] if entry is best else []
    text = (
        f"{value:>14}  {entry.verdict_s:>9.2f} s  {entry.survived_s:>8.2f} s"
        f"  {entry.verdicts:>17}  {entry.crash_min_s:.2f} to {entry.crash_max_s:.2f} s"
        f"  {', '.join(remarks)}"
    )
    return ((text, "bold green" if entry is best else "bold" if entry.today else ""),)


def advice(
    policy: Policy, past: Past, found: list[Candidate], best: Candidate | None
) -> Iterator[Line]:
    today = next(entry for entry in found if entry.today)
    if not past.enough:
        yield plain(
            f"Too little to recommend anything: {length(past.watched_s)} of watching, a day is the"
            " least. Look again later; the numbers above are what was seen so far."
        )
    elif best is None:
        yield plain(f"No retry_interval up to ping_interval ({policy.interval_s:g} s) is safe.")
        needed = threshold_needed(policy, past)
        if needed:
            yield plain(f"With it as retry_interval, ping_fail_threshold {needed} would be.")
    elif best.today:
        yield plain("Today's retry_interval is the fastest of these that would have been safe.")
    else:
        yield plain(f'"retry_interval": {best.retry_interval_s:g} would have been safe:')
        yield plain(
            f"a crash is seen in {best.crash_min_s:.2f} to {best.crash_max_s:.2f} s, today in"
            f" {today.crash_min_s:.2f} to {today.crash_max_s:.2f} s."
        )
    yield plain(
        f"A silence is known to within {policy.spacing_s:g} s, and the next days may be worse than"
        " these. Nothing was changed."
    )


# For programs.


def as_document(past: Past, found: list[Candidate], best: Candidate | None) -> dict[str, Any]:
    return {
        "enough": past.enough,
        "watched_s": round(past.watched_s, 1),
        "echoes_sent": past.sent,
        "echoes_answered": past.answered,
        "suspicions": len(past.gaps_s),
        "longest_silence_s": past.longest_s,
        "verdicts_down": past.verdicts,
        "slowest_reference_ms": past.reference_ms,
        "margin": MARGIN,
        "recommended_s": best.retry_interval_s if best else None,
        "candidates": [asdict(entry) for entry in found],
    }
