"""The agent itself: look, tell, count, remember; once a second.

Rule: what it remembers is written before anything is sent that follows from it, so that nothing is
lost, and nothing that went is sent again; after a crash at most what was under way.
"""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from failover_monitor.agent.conditions import Conditions, News
from failover_monitor.agent.courier import Courier, Sends
from failover_monitor.agent.follow import Follower
from failover_monitor.agent.outbox import Outbox, Pace
from failover_monitor.files import ODD, Paths, replace_file
from failover_monitor.model import Role

log = logging.getLogger("failover_monitor.agent")

TURN_S = 1.0
STALE_SEEN_S = 20.0  # beyond the status' own limit: together a minute and a little
METRICS_S = 15.0
CLOSE_S = 5.0  # a message that is under way may still go: apprise gives up after 4 s
SAID_S = 600.0  # the same trouble is logged again so often
STATUS_KEYS = frozenset(  # what is read here of the status document
    {"at_s", "stale_after_s", "role", "phase", "phase_since", "verdict", "suspicious", "units"}
    | {"attention", "references", "quiet_references"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Somebody who is told."""

    name: str
    level: str  # "info", "warning", "error" or "critical"
    sender: Sends


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The clocks, in seconds."""

    wall: Callable[[], float] = time.time
    boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    awake: Callable[[], float] = time.monotonic  # stands still while the host sleeps


class Agent:
    """Follows the monitor's files."""

    def __init__(
        self,
        paths: Paths,
        home: Path,
        targets: tuple[Target, ...],
        textfile: Path | None,
        *,
        role: Role,
        pace: Pace | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`home`: its own directory; `textfile` None: no figures are wanted."""
        self._paths, self._memory, self._textfile = paths, home / "state.json", textfile
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._stale_since_s: float | None = None
        self._metrics_due_s = 0.0
        self._saved = ""
        self._said: dict[str, float] = {}
        kept = self._kept()
        self.conditions = Conditions(kept.get("conditions"))
        self._events = Follower(paths.events, kept.get("events"))
        self._samples = Follower(paths.samples, kept.get("samples"))
        self._lost_before = int(kept.get("lost", 0))
        self._counts = new_counts(kept.get("counts", {})) if textfile else None
        host, boxes = socket.gethostname(), kept.get("outboxes", {})
        levels = logging.getLevelNamesMapping()
        self.couriers = [
            Courier(
                target.name,
                Outbox(levels[target.level.upper()], pace or Pace(), boxes.get(target.name)),
                target.sender,
                lock=self._lock,
                host=host,
                role=role,
                clock=self._clock.wall,
            )
            for target in targets
        ]

    def run(self) -> None:
        """Follow until `stop`; may be called once."""
        self.turn()
        for courier in self.couriers:
            courier.start()
        while not self._over.wait(TURN_S):
            self.turn()
        for courier in self.couriers:
            courier.stop()
        until_s = self._clock.awake() + CLOSE_S
        for courier in self.couriers:
            courier.join(max(0.0, until_s - self._clock.awake()))
        self._save()

    def stop(self) -> None:
        self._over.set()

    def turn(self) -> None:
        """One look at everything."""
        now_s = self._clock.wall()
        status, status_s = self._status(now_s)
        fresh = self._fresh(status)
        found = [*self._read_events(), *self._watch(status, status_s, now_s, fresh=fresh)]
        with self._lock:
            for courier in self.couriers:
                for news in found:
                    courier.outbox.accept(news, now_s)
                courier.outbox.tick(now_s)
        if self._textfile:
            self._read_samples()
            self._write_metrics(status, status_s, now_s, fresh=fresh)
        self._save()

    def _read_events(self) -> Iterator[News]:
        for event in self._events.read():
            if self._counts:
                self._counts.event(event)
            yield from self.conditions.take(event)

    def _read_samples(self) -> None:
        for sample in self._samples.read():
            try:
                if self._counts:
                    self._counts.sample(sample)
            except ODD:
                self._samples.lost += 1

    def _status(self, now_s: float) -> tuple[dict[str, Any] | None, float]:
        """The status document, and when it was written, in seconds since 1970."""
        try:
            document: dict[str, Any] = json.loads(self._paths.status.read_text())
            if not document.keys() >= STATUS_KEYS:
                return None, 0.0
            return document, now_s - (self._clock.boot() - float(document["at_s"]))
        except (OSError, ValueError, TypeError, AttributeError):
            return None, 0.0

    def _fresh(self, status: dict[str, Any] | None) -> bool:
        if status is None:
            return False
        age_s: float = self._clock.boot() - float(status["at_s"])
        return 0 <= age_s <= float(status["stale_after_s"])

    def _watch(
        self, status: dict[str, Any] | None, status_s: float, now_s: float, *, fresh: bool
    ) -> Iterator[News]:
        """The silence of the monitor, and what its status says is over."""
        if fresh and status:
            self._stale_since_s = None
            yield from self.conditions.end("watch", now_s, "the monitor watches again")
            yield from self.conditions.look(status, status_s)
            return
        awake_s = self._clock.awake()
        if self._stale_since_s is None:
            self._stale_since_s = awake_s
        limit_s = STALE_SEEN_S if status else STALE_SEEN_S + 40.0  # none: the host has just booted
        if awake_s - self._stale_since_s >= limit_s:
            seen = "it has left no status since this host booted"
            if status:
                seen = f"its status is {now_s - status_s:.0f} s old"
            sentence = f"the monitor is silent: {seen}"
            yield from self.conditions.begin("watch", status_s or now_s, sentence)

    def _write_metrics(
        self, status: dict[str, Any] | None, status_s: float, now_s: float, *, fresh: bool
    ) -> None:
        from failover_monitor.agent import metrics

        awake_s = self._clock.awake()
        if not self._textfile or not self._counts or awake_s < self._metrics_due_s:
            return
        self._metrics_due_s = awake_s + METRICS_S
        self._counts.events_lost = self._lost
        with self._lock:
            post = [
                metrics.Post(
                    target=courier.target,
                    sent=courier.outbox.sent,
                    failed=courier.outbox.failed,
                    dropped=courier.outbox.dropped,
                    waiting=courier.outbox.waiting,
                )
                for courier in self.couriers
            ]
        seen = metrics.Seen(
            now_s=now_s,
            status=status,
            status_s=status_s,
            fresh=fresh,
            open=self.conditions.open,
            counts=self._counts,
            post=post,
        )
        try:
            metrics.write(self._textfile, seen)
        except OSError as error:
            self._complain(self._textfile, error)

    @property
    def _lost(self) -> int:
        return self._lost_before + self._events.lost + self._samples.lost

    def _save(self) -> None:
        with self._lock:
            boxes = {courier.target: courier.outbox.document for courier in self.couriers}
        document = {
            "events": self._events.document,
            "samples": self._samples.document,
            "conditions": self.conditions.document,
            "outboxes": boxes,
            "lost": self._lost,
            "counts": asdict(self._counts) if self._counts else {},
        }
        text = json.dumps(document)
        if text == self._saved:
            return
        try:
            replace_file(self._memory, text, mode=0o600)
            self._saved = text
        except OSError as error:
            self._complain(self._memory, error)

    def _kept(self) -> dict[str, Any]:
        """What an earlier process remembered; {} where there is nothing to be understood."""
        try:
            kept = json.loads(self._memory.read_text())
            Conditions(kept["conditions"])
            Follower(self._paths.events, kept["events"])
            Follower(self._paths.samples, kept["samples"])
            for box in kept["outboxes"].values():
                Outbox(0, Pace(), box)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("what was remembered is not understood, we begin anew: %r", error)
            return {}
        return dict(kept)

    def _complain(self, path: Path, error: OSError) -> None:
        now_s = self._clock.awake()
        if now_s >= self._said.get(str(path), 0.0):
            self._said[str(path)] = now_s + SAID_S
            log.warning("cannot write %s: %s", path, error.strerror)


def new_counts(kept: dict[str, Any]) -> Any:
    """The figures, as an earlier process left them; prometheus_client is loaded here."""
    from failover_monitor.agent.metrics import Counts

    try:
        return Counts(**kept)
    except TypeError:
        return Counts()
