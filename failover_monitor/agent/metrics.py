"""Figures for Prometheus, in a file that node_exporter's textfile collector reads.

Rule: the only door to prometheus_client.  What a silent monitor was last seen doing is not a
figure: without a fresh status only its age is told.
"""

import calendar
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from failover_monitor.agent.conditions import TWO_ACTIVE
from failover_monitor.files import replace_file
from failover_monitor.model import Phase, Verdict

RUNS = ("running", "finished")
STATS = ("min", "mean", "max")
NOT_YET = frozenset({Phase.UNKNOWN, Phase.STANDBY, Phase.CLAIM})  # nothing is started in these


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """How one target's messages fare."""

    target: str
    sent: int
    failed: int
    dropped: int
    waiting: int


@dataclass(slots=True, kw_only=True)
class Counts:
    """What is counted for as long as the product is installed."""

    takeovers: int = 0
    failbacks: int = 0
    events_lost: int = 0
    echoes: dict[str, list[Any]] = field(default_factory=dict)  # address: [role, sent, answered]
    rtt_ms: dict[str, list[float]] = field(default_factory=dict)  # of the latest sample

    def event(self, event: dict[str, Any]) -> None:
        if event.get("kind") == "transition":
            target = event.get("TO")
            self.takeovers += target == "takeover" and event.get("FROM") != "active"
            self.failbacks += target == "failback"

    def sample(self, sample: dict[str, Any]) -> None:
        """One line of samples.jsonl.  Raises what a line of another shape raises."""
        echoes: dict[str, list[Any]] = {}
        rtt_ms: dict[str, list[float]] = {}
        for address, path in sample["paths"].items():
            _, sent, answered = self.echoes.get(address, ["", 0, 0])
            found = [path["role"], sent + int(path["sent"]), answered + int(path["answered"])]
            echoes[address] = found
            if path["rtt_ms"] is not None:
                rtt_ms[address] = [float(number) for number in path["rtt_ms"][:3]]
        self.echoes, self.rtt_ms = echoes, rtt_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that one file is made of."""

    now_s: float
    status: dict[str, Any] | None  # None: nobody has ever watched since the host's boot
    status_s: float  # when it was written, seconds since 1970
    fresh: bool
    open: Iterable[str]  # what goes on, by the keys of `conditions`
    counts: Counts
    post: Iterable[Post]


def write(path: Path, seen: Seen) -> None:
    """Write the file whole; where it is a link, to where that leads.  Raises OSError."""
    registry = CollectorRegistry()
    registry.register(_Collected(seen))
    replace_file(path.resolve(), generate_latest(registry).decode(), mode=0o644)


class _Collected(Collector):
    """What prometheus_client asks for the figures."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        yield from of_watch(self._seen)
        if self._seen.fresh and self._seen.status:
            yield from of_status(self._seen.status)
            yield from of_conditions(self._seen, self._seen.status)
        yield from of_counts(self._seen.counts)
        yield from of_post(self._seen.post)


def gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"failover_monitor_{name}", words, value=value)


def labelled(
    name: str, words: str, labels: tuple[str, ...], values: Mapping[Any, float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"failover_monitor_{name}", words, labels=labels)
    for names, value in values.items():
        family.add_metric(names, value)
    return family


def counter(
    name: str, words: str, labels: tuple[str, ...], values: Mapping[Any, float]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"failover_monitor_{name}", words, labels=labels)
    for names, value in values.items():
        family.add_metric(names, value)
    return family


def of_watch(seen: Seen) -> Iterator[Metric]:
    yield gauge("up", "1 while the monitor watches; 0 when its status is stale.", seen.fresh)
    yield gauge("agent_timestamp_seconds", "When this file was written.", seen.now_s)
    if seen.status:
        words = "When the monitor last wrote its status."
        yield gauge("status_timestamp_seconds", words, seen.status_s)


def of_status(status: dict[str, Any]) -> Iterator[Metric]:
    role, phase, verdict = status["role"], status["phase"], status["verdict"]
    yield labelled("info", "The role of this host.", ("role",), {(role,): 1})
    phases = {(name,): float(name == phase) for name in Phase}
    yield labelled("phase", "1 for the present phase.", ("phase",), phases)
    verdicts = {(name,): float(name == verdict) for name in Verdict}
    yield labelled("verdict", "1 for the present verdict.", ("verdict",), verdicts)
    words = "When the present phase began."
    yield gauge("phase_start_timestamp_seconds", words, moment_s(status["phase_since"]))
    running = {(unit["name"],): float(unit["state"] in RUNS) for unit in status["units"]}
    yield labelled("service_running", "1 while the service runs here.", ("unit",), running)
    quiet = set(status["quiet_references"])
    silent = {(path["address"],): float(path["address"] in quiet) for path in status["references"]}
    words = "1 while a reference does not answer."
    yield labelled("reference_silent", words, ("address",), silent)
    words = "1 while the primary leaves echoes unanswered."
    yield gauge("suspicious", words, bool(status["suspicious"]))
    words = "What an operator should mend, in number."
    yield gauge("attention", words, len(status["attention"]))


def of_conditions(seen: Seen, status: dict[str, Any]) -> Iterator[Metric]:
    kinds = {key.partition(":")[0] for key in seen.open}
    words = "1 while the services may run on both hosts."
    yield gauge("two_active_possible", words, bool(kinds & TWO_ACTIVE))
    words = "1 while the primary is silent and nothing is started."
    waits = status["verdict"] == "down" and status["phase"] in NOT_YET
    yield gauge("held", words, waits or "held" in kinds)
    words = "1 while a service that should run here does not."
    yield gauge("service_failed", words, "service_failed" in kinds)


def of_counts(counts: Counts) -> Iterator[Metric]:
    yield counter("takeovers", "Takeovers begun.", (), {(): counts.takeovers})
    yield counter("failbacks", "Failbacks begun.", (), {(): counts.failbacks})
    words = "Lines of the monitor's history that could not be read."
    yield counter("events_lost", words, (), {(): counts.events_lost})
    labels = ("address", "role")
    sent = {(address, role): float(n) for address, (role, n, _) in counts.echoes.items()}
    answered = {(address, role): float(n) for address, (role, _, n) in counts.echoes.items()}
    yield counter("echoes_sent", "Echoes sent.", labels, sent)
    yield counter("echoes_answered", "Echoes answered.", labels, answered)
    rtt = {
        (address, counts.echoes[address][0], stat): number / 1000
        for address, numbers in counts.rtt_ms.items()
        for stat, number in zip(STATS, numbers, strict=False)
    }
    words = "Round-trip time in the last sample, about a minute long."
    yield labelled("rtt_seconds", words, ("address", "role", "stat"), rtt)


def of_post(post: Iterable[Post]) -> Iterator[Metric]:
    label, all_post = ("target",), tuple(post)
    for name, words in (
        ("sent", "Notifications that went."),
        ("failed", "Tries to send a notification that failed."),
        ("dropped", "Notifications that did not fit."),
    ):
        values = {(one.target,): float(getattr(one, name)) for one in all_post}
        yield counter(f"notifications_{name}", words, label, values)
    waiting = {(one.target,): float(one.waiting) for one in all_post}
    yield labelled("notifications_waiting", "Notifications not sent yet.", label, waiting)


def moment_s(text: str) -> float:
    """The moment that status.json writes as 2026-11-21T03:12:09+0000; 0 where it is another."""
    try:
        offset_s = int(text[-5:-2]) * 3600 + int(text[-5] + text[-2:]) * 60
        return calendar.timegm(time.strptime(text[:-5], "%Y-%m-%dT%H:%M:%S")) - offset_s
    except (ValueError, IndexError):
        return 0.0
