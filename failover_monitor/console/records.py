"""What the monitor has written down, read back: events and samples.

Rule: tolerant.  A line that a full disk has torn is left out; no reader ever stops at it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from failover_monitor.files import Paths


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One event, as it was recorded."""

    at_s: float  # seconds since 1970
    kind: str  # a member of `events.Kind`, in lower case
    level: str  # "INFO", "WARNING", ...
    what: str  # the sentence
    fields: dict[str, str]


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
                at_s=float(document.pop("at_s")),
                kind=document.pop("kind"),
                level=document.pop("level", "INFO"),
                what=document.pop("what"),
                fields={name: text for name, text in document.items() if name.isupper()},
            )
        except (KeyError, ValueError, TypeError):
            continue
        if recorded.at_s >= since_s:
            yield recorded


def samples(paths: Paths, since_s: float = 0.0) -> Iterator[Sample]:
    """Every sample since a moment, oldest first."""
    for document in documents(paths.samples):
        try:
            sample = Sample(
                at_s=float(document["at_s"]),
                length_s=float(document["length_s"]),
                phase=document["phase"],
                verdict=document["verdict"],
                paths={name: path_sample(found) for name, found in document["paths"].items()},
                gaps_s=tuple(document["gaps_s"]),
            )
        except (KeyError, ValueError, TypeError, AttributeError):
            continue
        if sample.at_s >= since_s:
            yield sample


def path_sample(document: dict[str, Any]) -> PathSample:
    rtt_ms = document["rtt_ms"]
    return PathSample(
        role=document["role"],
        sent=int(document["sent"]),
        answered=int(document["answered"]),
        rtt_ms=None if rtt_ms is None else (float(rtt_ms[0]), float(rtt_ms[1]), float(rtt_ms[2])),
    )


def documents(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file and of its predecessor, as far as they can be read."""
    for file in (path.with_suffix(f"{path.suffix}.1"), path):
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            try:
                document = json.loads(line)
            except ValueError:
                continue
            if isinstance(document, dict):
                yield document
