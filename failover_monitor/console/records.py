"""What the monitor has written down, read back: events and samples.

Rule: tolerant.  A line that a full disk has torn is left out; no reader ever stops at it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from failover_monitor.files import ODD, Paths, moment

MOST = 10**9  # echoes in a minute: more were never sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One event, as it was recorded."""

    at_s: float  # seconds since 1970
    kind: str  # a member of `events.Kind`, in lower case
    level: str  # "INFO", "WARNING", ...
    what: str  # the sentence
    fields: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRecord:
    """One check of the detector, as the event that came of it has it."""

    failed: bool  # else it proved nothing
    began_s: float  # seconds since 1970
    ended_s: float
    planned: int  # echo rounds that the schedule put into it
    sent: int  # of these, really sent
    silent: tuple[str, ...]  # the primary's addresses: none of them answered
    answered: dict[str, int]  # by reference: how many of its echoes it answered
    in_time: tuple[str, ...]  # the references whose answers counted


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSample:
    """The echoes to one address in one sample."""

    role: str  # "primary", "standby" or "reference"
    sent: int
    answered: int
    rtt_ms: tuple[float, float, float] | None  # shortest, mean, longest; None: no answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """About one minute of watching."""

    at_s: float  # its end, seconds since 1970
    length_s: float
    phase: str
    verdict: str
    paths: dict[str, PathSample]  # by address
    gaps_s: tuple[float, ...]  # how long the primary was silent, for each suspicion that ended


def events(paths: Paths, since_s: float = 0.0) -> Iterator[Recorded]:
    """Every event since a moment, oldest first; also what has been turned over."""
    for document in documents(paths.events):
        try:
            recorded = Recorded(
                at_s=moment(document.pop("at_s")),
                kind=str(document.pop("kind")),
                level=str(document.pop("level", "INFO")),
                what=str(document.pop("what")),
                fields={name: str(text) for name, text in document.items() if name.isupper()},
            )
        except ODD:
            continue
        if recorded.at_s >= since_s:
            yield recorded


def samples(paths: Paths, since_s: float = 0.0) -> Iterator[Sample]:
    """Every sample since a moment, oldest first."""
    for document in documents(paths.samples):
        try:
            sample = Sample(
                at_s=moment(document["at_s"]),
                length_s=moment(document["length_s"]),
                phase=str(document["phase"]),
                verdict=str(document["verdict"]),
                paths={name: path_sample(found) for name, found in document["paths"].items()},
                gaps_s=tuple(moment(gap_s) for gap_s in document["gaps_s"]),
            )
        except ODD:
            continue
        if sample.at_s >= since_s:
            yield sample


def checks(recorded: Recorded) -> tuple[CheckRecord, ...]:
    """The checks behind an event, oldest first; none where it has none, or they are torn."""
    try:
        found = json.loads(recorded.fields.get("CHECKS", "[]"))
        return tuple(
            CheckRecord(
                failed=bool(check["failed"]),
                began_s=moment(recorded.at_s + check["began_s"]),
                ended_s=moment(recorded.at_s + check["ended_s"]),
                planned=count(check["planned"]),
                sent=count(check["sent"]),
                silent=tuple(str(address) for address in check["silent"]),
                answered={name: count(echoes) for name, echoes in check["answered"].items()},
                in_time=tuple(str(address) for address in check["in_time"]),
            )
            for check in found
        )
    except ODD:
        return ()


def ago_s(recorded: Recorded, name: str) -> float | None:
    """The moment that a field gives as seconds before its event."""
    try:
        return moment(recorded.at_s - float(recorded.fields[name]))
    except ODD:
        return None


def count(value: Any) -> int:
    """How many echoes.  Raises what is in ODD."""
    number = int(value)
    if not 0 <= number < MOST:
        raise ValueError(f"{number} is no count of echoes")
    return number


def trouble(path: Path) -> str:
    """Why a record, or a part of it, cannot be read; "" where there is nothing to say."""
    torn = 0
    for file in turned_over(path):
        try:
            lines = file.read_text(errors="replace").splitlines()
        except FileNotFoundError as error:
            if file == path:
                return f"{path}: {error.strerror}"
        except OSError as error:
            return f"{file}: {error.strerror}"
        else:
            torn += sum(1 for line in lines if line and document(line) is None)
    return f"{path}: torn lines, left out: {torn}" if torn else ""


def path_sample(document: dict[str, Any]) -> PathSample:
    rtt_ms = document["rtt_ms"]
    return PathSample(
        role=document["role"],
        sent=count(document["sent"]),
        answered=count(document["answered"]),
        rtt_ms=None
        if rtt_ms is None
        else (moment(rtt_ms[0]), moment(rtt_ms[1]), moment(rtt_ms[2])),
    )


def documents(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file and of its predecessor, as far as they can be read."""
    for file in turned_over(path):
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            if (found := document(line)) is not None:
                yield found


def turned_over(path: Path) -> tuple[Path, Path]:
    """The predecessor of a record, and the record."""
    return path.with_suffix(f"{path.suffix}.1"), path


def document(line: str) -> dict[str, Any] | None:
    """One line, unless it is torn."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
