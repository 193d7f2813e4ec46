"""What a stretch of time amounts to: who watched, which phases, which takeovers, what was lost.

Rule: pure.  It is told all that was recorded; files and the clock are read elsewhere.

All times are seconds since 1970.
"""

import logging
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from math import isfinite

from failover_monitor.console.records import PathSample, Recorded, Sample

INF = float("inf")
HOLE_S = 5.0  # between two samples: shorter is a late turn, longer was not watched
QUIET_S = 900.0  # a monitor that runs leaves a summary every ten minutes
PENDING_S = 90.0  # a sample is written when its minute is over
BEGINS = {"takeover": "takeover", "closing": "closing"}  # the phase that opens an episode
SERVES = frozenset({"active", "serving"})
ENDS = frozenset({"standby", "serving"})  # the phases that end an episode
AFRESH = frozenset({"unknown", "standby"})  # whoever leaves these was in no episode
# What is told of an episode, beside its transitions.
STEPS = frozenset(
    {"transition", "verdict", "asked", "service", "service_failed", "fence", "intent_ended"}
    | {"hook", "operator", "paused", "lease"}
)
SILENCE = re.compile(r"in (\d+(?:\.\d+)?) s, none answered")  # detector.py, in its verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time with one word for it; the word of one that nobody watched is empty."""

    begin_s: float
    end_s: float
    word: str = ""

    @property
    def length_s(self) -> float:
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A takeover, or on the primary a closing, with all that belongs to it."""

    kind: str  # a value of BEGINS
    number: int = 0  # in its period, from 1 on
    began_s: float
    silent_since_s: float | None = None  # the first unanswered echo, if the verdict tells
    serving_s: float | None = None  # all services run here (again)
    failback_s: float | None = None  # the services began to go back
    over_s: float | None = None
    steps: tuple[Recorded, ...]

    @property
    def to_serving_s(self) -> float | None:
        """From the first unanswered echo, or else the decision, to all services running."""
        if self.serving_s is None:
            return None
        return self.serving_s - (self.silent_since_s or self.began_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The echoes to one address in one sample."""

    begin_s: float
    end_s: float
    echoes: PathSample

    @property
    def loss(self) -> float:
        """From 0 to 1."""
        lost = max(0, self.echoes.sent - self.echoes.answered)
        return lost / self.echoes.sent if self.echoes.sent else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """All samples of one address."""

    address: str
    role: str
    seen: tuple[Seen, ...]

    @property
    def sent(self) -> int:
        return sum(one.echoes.sent for one in self.seen)

    @property
    def answered(self) -> int:
        return sum(one.echoes.answered for one in self.seen)

    @property
    def loss(self) -> float:
        """Of the whole stretch, from 0 to 1."""
        return max(0, self.sent - self.answered) / self.sent if self.sent else 0.0

    @property
    def rtt_ms(self) -> tuple[float, float, float] | None:
        """Shortest, mean and longest; None: no answer at all."""
        return joined_rtt_ms(one.echoes for one in self.seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything about one stretch of time."""

    begin_s: float
    end_s: float
    events: tuple[Recorded, ...]
    phases: tuple[Span, ...]
    verdicts: tuple[Span, ...]
    unwatched: tuple[Span, ...]
    episodes: tuple[Episode, ...]
    paths: tuple[Watched, ...]
    gaps: tuple[tuple[float, float], ...]  # when (end of the sample), and how long in seconds
    samples: int

    def time_in(self, *phases: str) -> float:
        """How long the pair stood in these phases, in seconds."""
        return sum(span.length_s for span in self.phases if span.word in phases)


def rank(level: str) -> int:
    """The number of a level; what is not one counts as information."""
    return max(logging.getLevelNamesMapping().get(level, logging.INFO), logging.INFO)


def story_of(
    events: Sequence[Recorded], samples: Sequence[Sample], begin_s: float, end_s: float
) -> Story:
    """The story between two moments; what was recorded before them is told for the context."""
    told = sorted((e for e in events if sound_event(e, end_s)), key=lambda event: event.at_s)
    taken = sorted((s for s in samples if sound_sample(s, end_s)), key=lambda s: s.at_s)
    within = [sample for sample in taken if sample.at_s > begin_s]
    holes = tuple(unwatched(told, taken, begin_s, end_s))
    phases = changes(told, taken, kind="transition", before="FROM", after="TO")
    verdicts = changes(told, taken, kind="verdict", before="", after="SUBJECT")
    return Story(
        begin_s=begin_s,
        end_s=end_s,
        events=tuple(event for event in told if event.at_s >= begin_s),
        phases=tuple(spans(phases, begin_s, end_s, holes)),
        verdicts=tuple(spans(verdicts, begin_s, end_s, holes)),
        unwatched=holes,
        episodes=tuple(
            replace(one, number=number)
            for number, one in enumerate(
                (one for one in episodes(told) if (one.over_s or INF) > begin_s), start=1
            )
        ),
        paths=tuple(watched(within)),
        gaps=tuple((sample.at_s, gap_s) for sample in within for gap_s in sample.gaps_s),
        samples=len(within),
    )


def sound_event(event: Recorded, end_s: float) -> bool:
    """It is what it says it is, and no later than the end: files may hold anything."""
    words = (event.kind, event.level, event.what, *event.fields.values())
    return 0 <= event.at_s <= end_s and all(isinstance(word, str) for word in words)


def sound_sample(sample: Sample, end_s: float) -> bool:
    """It is what it says it is, and begins before the end."""
    echoes = sample.paths.values()
    words = (sample.phase, sample.verdict, *(one.role for one in echoes))
    times_ms = (time_ms for one in echoes for time_ms in one.rtt_ms or ())
    counts = (count for one in echoes for count in (one.sent, one.answered))
    numbers = (sample.at_s, sample.length_s, *sample.gaps_s, *times_ms, *counts)
    return (
        all(isinstance(word, str) for word in words)
        and all(isinstance(n, int | float) and isfinite(n) and n >= 0 for n in numbers)
        and sample.at_s - sample.length_s < end_s
    )


def changes(
    events: Iterable[Recorded], samples: Iterable[Sample], *, kind: str, before: str, after: str
) -> list[tuple[float, str]]:
    """When a phase or a verdict began: exactly from events, to a minute from samples."""
    found: list[tuple[float, str]] = []
    exact_s: list[float] = []
    from_s: float | None = -INF  # since then nothing has told us the word
    for event in events:
        if event.kind == "started":
            from_s = event.at_s
        elif event.kind == kind and event.fields.get(after):
            if from_s is not None and event.fields.get(before):
                found.append((from_s, event.fields[before]))
            found.append((event.at_s, event.fields[after]))
            exact_s.append(event.at_s)
            from_s = None
    for sample in samples:
        begin_s = sample.at_s - sample.length_s
        after_it = bisect_left(exact_s, begin_s - 1.0)
        if after_it == len(exact_s) or exact_s[after_it] > sample.at_s + 1.0:
            found.append((begin_s, sample.phase if kind == "transition" else sample.verdict))
    return sorted(found, key=lambda change: change[0])


def spans(
    found: Iterable[tuple[float, str]], begin_s: float, end_s: float, holes: Sequence[Span]
) -> Iterator[Span]:
    """One span for each word, without what nobody watched (in order, apart from each other)."""
    hole_ends_s = [hole.end_s for hole in holes]
    joined: list[tuple[float, str]] = []
    for at_s, word in found:
        if not joined or joined[-1][1] != word:
            joined.append((at_s, word))
    for (at_s, word), (next_s, _) in pairwise([*joined, (end_s, "")]):
        at_s, until_s = max(at_s, begin_s), min(next_s, end_s)
        for hole in islice(holes, bisect_right(hole_ends_s, at_s), None):
            if hole.begin_s >= until_s:
                break
            if hole.begin_s > at_s:
                yield Span(begin_s=at_s, end_s=hole.begin_s, word=word)
            at_s = hole.end_s
        if until_s > at_s:
            yield Span(begin_s=at_s, end_s=until_s, word=word)


def unwatched(
    events: Sequence[Recorded], samples: Sequence[Sample], begin_s: float, end_s: float
) -> Iterator[Span]:
    """When nobody watched, or nothing could be written down: by the samples, else by the events."""
    first_s = samples[0].at_s - samples[0].length_s if samples else end_s
    edges = list(holes_by_events(events, min(first_s, end_s)))
    stopped_s = max((e.at_s for e in events if e.kind == "stopped"), default=-INF)
    covered_s = first_s
    for sample in samples:
        edges.append((covered_s, sample.at_s - sample.length_s))
        covered_s = max(covered_s, sample.at_s)
    if samples and (stopped_s >= covered_s - HOLE_S or end_s - covered_s > PENDING_S):
        edges.append((covered_s, end_s))
    stops_s = [event.at_s for event in events if event.kind == "stopped"]
    starts_s = [event.at_s for event in events if event.kind == "started"]
    for edge in edges:
        from_s, to_s = tightened(stops_s, starts_s, *edge)
        from_s, to_s = max(from_s, begin_s), min(to_s, end_s)
        if to_s - from_s > HOLE_S:
            yield Span(begin_s=from_s, end_s=to_s)


def tightened(
    stops_s: Sequence[float], starts_s: Sequence[float], from_s: float, to_s: float
) -> tuple[float, float]:
    """What is known exactly of a hole: the monitor said when it ended, and when it began."""
    stop, start = bisect_left(stops_s, from_s), bisect_right(starts_s, to_s) - 1
    stopped = stop < len(stops_s) and stops_s[stop] < to_s
    started = start >= 0 and starts_s[start] > from_s
    return stops_s[stop] if stopped else from_s, starts_s[start] if started else to_s


def holes_by_events(events: Sequence[Recorded], end_s: float) -> Iterator[tuple[float, float]]:
    """Where there are no samples: from a stop to a start, or where not even summaries are."""
    told = [event for event in events if event.at_s < end_s]
    yield -INF, told[0].at_s if told else end_s
    for event, following in pairwise(told):
        length_s = following.at_s - event.at_s
        if event.kind == "stopped" or following.kind == "started" or length_s > QUIET_S:
            yield event.at_s, following.at_s
    if told and (told[-1].kind == "stopped" or end_s - told[-1].at_s > QUIET_S):
        yield told[-1].at_s, end_s


def episodes(events: Iterable[Recorded]) -> Iterator[Episode]:
    """Every takeover (on the primary: every closing), from its verdict to the end of it."""
    prelude: list[Recorded] = []  # what may lead to one
    steps: list[Recorded] = []
    for event in events:
        source, target = event.fields.get("FROM"), event.fields.get("TO")
        if steps and event.kind == "transition" and source in AFRESH:
            yield episode(steps)  # how it ended was not recorded
            steps = []
        if steps:
            if event.kind in STEPS:
                steps.append(event)
            if event.kind == "intent_ended" or target in ENDS:
                yield episode(steps)
                steps = []
        elif target in BEGINS:
            steps, prelude = [*prelude, event], []
        else:
            prelude = leading(prelude, event)
    if steps:
        yield episode(steps)


def leading(prelude: list[Recorded], event: Recorded) -> list[Recorded]:
    """What may lead to a takeover, after one more event: a verdict, then perhaps a claim."""
    if event.kind == "verdict" and event.fields.get("SUBJECT") == "down":
        return [event]
    if event.fields.get("TO") == "claim":
        return [*prelude, event]
    return [] if event.kind in ("verdict", "transition", "started") else prelude


def episode(steps: Sequence[Recorded]) -> Episode:
    """One episode, told by its steps."""

    def first_s(*phases: str) -> float | None:
        return next((step.at_s for step in steps if step.fields.get("TO") in phases), None)

    began = next(step for step in steps if step.fields.get("TO") in BEGINS)
    silent_s = silence_s(steps[0]) if steps[0].kind == "verdict" else None
    last = steps[-1]
    over = last.kind == "intent_ended" or last.fields.get("TO") in ENDS
    return Episode(
        kind=BEGINS[began.fields["TO"]],
        began_s=began.at_s,
        silent_since_s=None if silent_s is None else steps[0].at_s - silent_s,
        serving_s=first_s(*SERVES),
        failback_s=first_s("failback"),
        over_s=last.at_s if over else None,
        steps=tuple(steps),
    )


def silence_s(verdict: Recorded) -> float | None:
    """How long the primary had been silent when this verdict was made, as far as it tells."""
    found = SILENCE.search(verdict.what)
    told = verdict.fields.get("SILENT_S") or (found and found[1])
    try:
        seconds = float(told or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < INF else None


def watched(samples: Iterable[Sample]) -> Iterator[Watched]:
    """The samples by address, the primary first."""
    order = ("primary", "standby", "reference")
    found: dict[tuple[str, str], list[Seen]] = {}
    for sample in samples:
        begin_s = sample.at_s - sample.length_s
        for address, echoes in sample.paths.items():
            one = Seen(begin_s=begin_s, end_s=sample.at_s, echoes=echoes)
            found.setdefault((echoes.role, address), []).append(one)
    places = {role: place for place, role in enumerate(order)}
    for (role, address), seen in sorted(
        found.items(), key=lambda item: places.get(item[0][0], len(order))
    ):
        yield Watched(address=address, role=role, seen=tuple(seen))


def joined_rtt_ms(echoes: Iterable[PathSample]) -> tuple[float, float, float] | None:
    """Of several samples: shortest of the shortest, true mean, longest of the longest."""
    answered = [(one.rtt_ms, max(1, one.answered)) for one in echoes if one.rtt_ms is not None]
    if not answered:
        return None
    return (
        min(rtt_ms[0] for rtt_ms, _ in answered),
        sum(rtt_ms[1] * count for rtt_ms, count in answered) / sum(n for _, n in answered),
        max(rtt_ms[2] for rtt_ms, _ in answered),
    )
