"""From events to news: what began, what goes on, what is over.

Rule: pure.  What began and was told has an end that is told, too, and only once; what the events do
not say, because a line was lost or because nobody says it, the status document does.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from failover_monitor.model import RESUMED

SETTLED_S = 2.0  # a status so much younger than an event knows of it
LATE_S = 30.0  # by then the event that should have told the end was lost
STEADY_S = 60.0  # a service that dies again and again is tried every 30 s
REPEATED_S = 150.0  # what goes on is told every 60 s: after so long without, it is over

# Told every minute while they last, and no event tells their end.  But `service_failed` is told
# each time that one fails, and `config` ends `config_bad`.
ATTENTION = frozenset(
    {"foreign", "two_active", "failback_waits", "stop_overdue", "gated", "veto", "flapping"}
    | {"claim", "unenforced", "config_bad", "service_failed"}
)
TWO_ACTIVE = frozenset({"foreign", "two_active", "failback_waits", "stop_overdue"})
SERVING = frozenset({"claim", "takeover", "active", "failback"})
HOME = frozenset({"standby", "serving"})  # where a pair stands when nothing is wrong
SILENT = frozenset({"summary"})

# So long after its latest event the status may say that a matter is over: patience, and by what.
OVER: dict[str, tuple[float, Callable[[dict[str, Any], str], bool]]] = {
    "paused": (SETTLED_S, lambda status, _: not status.get("paused")),
    "hook": (SETTLED_S, lambda status, _: status["phase"] != "claim"),
    "fence": (SETTLED_S, lambda status, _: status["phase"] not in SERVING),
    "check": (SETTLED_S, lambda status, name: name not in status.get("checks_not_passing", [name])),
    "held": (SETTLED_S, lambda status, _: not status["suspicious"]),
    "reference": (LATE_S, lambda status, name: name not in silent_references(status)),
    "network": (LATE_S, lambda status, _: status["verdict"] != "unknown"),
    "primary": (LATE_S, lambda s, _: s["verdict"] == "up" and s["phase"] in HOME),
}


class Sort(StrEnum):
    """What a piece of news says of its matter."""

    BEGINS = "begins"  # or takes its next step
    LASTS = "lasts"  # nothing new
    ENDS = "ends"
    HAPPENED = "happened"  # it neither lasts nor ends


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Something that people may want to hear of."""

    key: str  # the matter: "primary", "reference:198.51.100.1", ...
    sort: Sort
    level: int  # as in logging
    at_s: float  # seconds since 1970
    sentence: str


@dataclass(slots=True, kw_only=True)
class Condition:
    """Something that goes on."""

    since_s: float
    last_s: float  # when it was last told of
    units: list[str] = field(default_factory=list)


class Conditions:
    """What goes on, as far as the events have told."""

    def __init__(self, kept: dict[str, Any] | None = None) -> None:
        """`kept`: what `document` gave to an earlier process."""
        kept = kept or {"phase": "unknown", "open": {}}
        self.phase: str = kept["phase"]
        self.open = {key: Condition(**found) for key, found in kept["open"].items()}
        self._takers: dict[str, Callable[[dict[str, Any]], Iterator[News]]] = {
            "verdict": self._verdict,
            "transition": self._transition,
            "reference": self._reference,
            "service_check": self._service_check,
            "fence": self._fence,
            "lease": self._step,
            "operator": self._step,
            "paused": self._paused,
            "hook": self._hook,
            "held": lambda event: self._begun("held", event),
            "check": lambda event: self._ended("held", event),  # a suspicion that is over
            "config": lambda event: self._ended("config_bad", event),
        }

    @property
    def document(self) -> dict[str, Any]:
        return {"phase": self.phase, "open": {key: asdict(c) for key, c in self.open.items()}}

    def take(self, event: dict[str, Any]) -> Iterator[News]:
        """One event, as it stands in events.jsonl."""
        kind = str(event.get("kind"))
        resumed = kind in ("verdict", "doubt") and event.get("EVIDENCE") == RESUMED
        if kind in SILENT or resumed:
            return
        if kind in ATTENTION:
            yield from self._begun(kind, event)
        elif take := self._takers.get(kind):
            yield from take(event)
        else:
            yield news(matter(event), Sort.HAPPENED, event)

    def look(self, status: dict[str, Any], at_s: float) -> Iterator[News]:
        """A fresh status document, written at `at_s`: what is over, although no event said so."""
        for key, condition in tuple(self.open.items()):
            age_s = at_s - condition.last_s
            if self._over(key, status, age_s):
                sentence = "the monitor sees it no more"
                yield from self._ended(key, {"at_s": at_s, "level": "INFO", "what": sentence})

    def begin(self, key: str, at_s: float, sentence: str) -> Iterator[News]:
        """Something that the monitor cannot tell itself."""
        if key not in self.open:
            yield from self._begun(key, {"at_s": at_s, "level": "CRITICAL", "what": sentence})

    def end(self, key: str, at_s: float, sentence: str) -> Iterator[News]:
        yield from self._ended(key, {"at_s": at_s, "level": "INFO", "what": sentence})

    def _over(self, key: str, status: dict[str, Any], age_s: float) -> bool:
        kind, _, name = key.partition(":")
        if kind == "service_failed":
            return self._service_over(status, age_s)
        if kind in ATTENTION:
            return age_s > (REPEATED_S if status["attention"] else SETTLED_S)
        if kind not in OVER:
            return False
        patience_s, over = OVER[kind]
        return age_s > patience_s and over(status, name)

    def _service_over(self, status: dict[str, Any], age_s: float) -> bool:
        """Those that failed and are still managed run steadily, or none should run here."""
        states = {unit["name"]: unit["state"] for unit in status["units"]}
        failed = states.keys() & set(self.open["service_failed"].units)
        serving = status["phase"] in SERVING | {"serving", "opening"}
        steady = age_s > STEADY_S and all(
            states[name] in ("running", "finished") for name in failed
        )
        return steady or (age_s > SETTLED_S and not serving)

    def _verdict(self, event: dict[str, Any]) -> Iterator[News]:
        verdict = event.get("SUBJECT")
        yield from self._ended("held", event)
        if verdict == "unknown":
            yield from self._begun("network", event)
            return
        yield from self._ended("network", event)
        if verdict == "down":
            yield from self._begun("primary", event, step=True)
        elif verdict == "up" and self.phase in ("standby", "unknown"):
            yield from self._ended("primary", event)
        else:
            yield from self._step(event)

    def _transition(self, event: dict[str, Any]) -> Iterator[News]:
        self.phase = str(event.get("TO"))
        if self.phase in ("claim", "takeover", "closing"):
            yield from self._begun("primary", event, step=True)
        elif self.phase in HOME and "primary" in self.open:
            yield from self._ended("primary", event)
        else:
            yield from self._step(event)

    def _reference(self, event: dict[str, Any]) -> Iterator[News]:
        silent = event.get("NOTICE") == "reference_silent"
        yield from self._turned(f"reference:{event.get('SUBJECT')}", event, bad=silent)

    def _service_check(self, event: dict[str, Any]) -> Iterator[News]:
        bad = event.get("OUTCOME") != "pass"
        yield from self._turned(f"check:{event.get('CHECK')}", event, bad=bad)

    def _fence(self, event: dict[str, Any]) -> Iterator[News]:
        """Its failure is a matter of its own, until it succeeds; all else is a step."""
        failed = event.get("FENCE") == "failed"
        if failed or (event.get("FENCE") == "done" and "fence" in self.open):
            yield from self._turned("fence", event, bad=failed)
        else:
            yield from self._step(event)

    def _paused(self, event: dict[str, Any]) -> Iterator[News]:
        """It is told again while it lasts; that is no news."""
        over = event.get("PAUSE") == "over"
        yield from self._ended("paused", event) if over else self._begun("paused", event)

    def _hook(self, event: dict[str, Any]) -> Iterator[News]:
        """One that holds the takeover lasts until it succeeds; any other run just happened."""
        key = f"hook:{event.get('HOOK')}"
        if event.get("HOLDS"):
            yield from self._begun(key, event)
        elif key in self.open and event.get("HOOK_STATE") == "done":
            yield from self._ended(key, event)
        else:
            yield news(matter(event), Sort.HAPPENED, event)

    def _turned(self, key: str, event: dict[str, Any], *, bad: bool) -> Iterator[News]:
        if bad:
            yield from self._begun(key, event, step=True)
        elif key in self.open:
            yield from self._ended(key, event)

    def _step(self, event: dict[str, Any]) -> Iterator[News]:
        """A step of the primary's story; where there is none, it stands for itself."""
        if "primary" in self.open:
            yield from self._begun("primary", event, step=True)
        else:
            yield news(matter(event), Sort.HAPPENED, event)

    def _begun(self, key: str, event: dict[str, Any], *, step: bool = False) -> Iterator[News]:
        unit = event.get("UNIT")
        known = self.open.get(key)
        found = known or Condition(since_s=event["at_s"], last_s=event["at_s"])
        another = bool(unit) and unit not in found.units
        if another:
            found.units.append(str(unit))
        found.last_s = max(found.last_s, event["at_s"])
        self.open[key] = found
        fresh = known is None or step or another
        yield news(key, Sort.BEGINS if fresh else Sort.LASTS, event)

    def _ended(self, key: str, event: dict[str, Any]) -> Iterator[News]:
        if self.open.pop(key, None):
            yield news(key, Sort.ENDS, event)


def silent_references(status: dict[str, Any]) -> set[str]:
    """Those that are configured now."""
    known = {path["address"] for path in status["references"]}
    return known & set(status["quiet_references"])


def matter(event: dict[str, Any]) -> str:
    """What an event is about that stands for itself."""
    names = ("kind", "TO", "UNIT", "UNIT_STATE", "VERB", "ORDER", "HOOK", "HOOK_STATE")
    about = (event.get(name) for name in names)
    return ":".join(str(word) for word in about if word)


def news(key: str, sort: Sort, event: dict[str, Any]) -> News:
    level = logging.getLevelNamesMapping().get(str(event.get("level")), logging.WARNING)
    sentence = str(event.get("what", ""))
    return News(key=key, sort=sort, level=level, at_s=float(event["at_s"]), sentence=sentence)
