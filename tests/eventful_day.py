"""Records as a monitor leaves them, of a day that had everything: for tests of what reads them.

A sample a minute; at 10:00 the primary dies for twelve minutes, at 14:00 this host is cut off for
five, from 18:00 to 20:00 one echo in ten is lost, at 22:00 the monitor is down for four minutes.
"""

import json
import random
from dataclasses import dataclass, field
from typing import Any

from failover_monitor.files import Paths

PRIMARY, GATEWAY, WITNESS = "198.51.100.2", "198.51.100.1", "198.51.100.9"
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0
DIES_S, TAKES_S, SERVES_S = 10 * HOUR_S + 7.25, 4.5, 0.62  # 4.5 s of silence, then 0.62 s to start
RETURNS_S, GIVES_BACK_S = 10 * HOUR_S + 727.5, 0.31
CUT_OFF_S, HEALED_S = 14 * HOUR_S, 14 * HOUR_S + 300
LOSSY_S, CLEAN_S = 18 * HOUR_S, 20 * HOUR_S
STOPS_S, STARTS_S = 22 * HOUR_S + 13, 22 * HOUR_S + 253
EVIDENCE = (
    "3 checks in a row failed: 18 echo rounds in 4.50 s, none answered by the primary, each check"
    " with an answer from a reference"
)


@dataclass
class Recorded:
    """What has been written so far, and to where."""

    paths: Paths
    events: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)

    def event(self, at_s: float, kind: str, level: str, what: str, **fields: str) -> None:
        self.events.append({"at_s": at_s, "kind": kind, "level": level, "what": what, **fields})

    def verdict(self, at_s: float, verdict: str, why: str) -> None:
        level = "INFO" if verdict == "up" else "WARNING"
        told = {"NOTICE": "verdict", "EVIDENCE": why, "SUBJECT": verdict}
        self.event(at_s, "verdict", level, f"verdict {verdict}: {why}", **told)

    def transition(self, at_s: float, source: str, target: str, because: str, why: str) -> None:
        calm = {source, target} <= {"unknown", "standby"}
        told = {"FROM": source, "TO": target, "BECAUSE": because, "EVIDENCE": why}
        level = "INFO" if calm else "WARNING"
        self.event(at_s, "transition", level, f"{source} -> {target}: {because}", **told)

    def sample(self, at_s: float, phase: str, verdict: str, **more: Any) -> None:
        told = {"at_s": at_s, "length_s": MINUTE_S, "phase": phase, "verdict": verdict}
        self.samples.append(told | {"gaps_s": []} | more)

    def write(self) -> None:
        for path, lines in ((self.paths.events, self.events), (self.paths.samples, self.samples)):
            path.parent.mkdir(parents=True, exist_ok=True)
            lines.sort(key=lambda line: line["at_s"])
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def echoes(chance: random.Random, role: str, *, loss: float, rtt_ms: float) -> dict[str, Any]:
    """A minute of echoes to one address."""
    sent = 20
    answered = sum(chance.random() >= loss for _ in range(sent))
    shortest = rtt_ms * chance.uniform(0.7, 0.9)
    mean = rtt_ms * chance.uniform(1.0, 1.3)
    longest = mean * chance.uniform(1.2, 1.8) * (40 if chance.random() < 0.01 else 1)
    times = [round(value, 3) for value in (shortest, mean, longest)]
    return {"role": role, "sent": sent, "answered": answered, "rtt_ms": times if answered else None}


def standing(day_s: float) -> tuple[str, str]:
    """Phase and verdict at a moment of the day."""
    if DIES_S + TAKES_S <= day_s < RETURNS_S:
        return "active", "down"
    if CUT_OFF_S + 5 <= day_s < HEALED_S:
        return "unknown", "unknown"
    return "standby", "up"


def tell_samples(record: Recorded, begin_s: float, length_s: float) -> None:
    chance = random.Random(7)
    for number in range(int(length_s / MINUTE_S)):
        end_s = (number + 1) * MINUTE_S
        day_s = end_s % DAY_S
        if STOPS_S < day_s <= STARTS_S + MINUTE_S:
            continue
        phase, verdict = standing(day_s)
        isolated, lossy = CUT_OFF_S < day_s <= HEALED_S, LOSSY_S < day_s <= CLEAN_S
        loss = 1.0 if isolated else 0.1 if lossy else 0.0005
        primary = 1.0 if DIES_S < day_s <= RETURNS_S else loss
        gaps_s = [round(chance.expovariate(1 / 0.4) + 0.1, 2)] if chance.random() < loss * 4 else []
        record.sample(
            begin_s + end_s,
            phase,
            verdict,
            gaps_s=[] if primary == 1.0 else gaps_s,
            paths={
                PRIMARY: echoes(chance, "primary", loss=primary, rtt_ms=0.21),
                GATEWAY: echoes(chance, "reference", loss=loss, rtt_ms=0.34),
                WITNESS: echoes(chance, "reference", loss=loss, rtt_ms=11.8),
            },
        )


def tell_day(record: Recorded, begin_s: float) -> None:
    """The events of one day."""
    down_s = begin_s + DIES_S + TAKES_S
    up_s = begin_s + RETURNS_S
    record.verdict(down_s, "down", EVIDENCE)
    record.transition(down_s, "standby", "takeover", "the primary stopped answering", EVIDENCE)
    record.event(down_s, "asked", "INFO", "start app.service", UNIT="app.service", VERB="start")
    record.event(down_s + 0.6, "service", "INFO", "app.service is running", UNIT="app.service")
    serving_s = down_s + SERVES_S
    record.transition(serving_s, "takeover", "active", "all services run here", EVIDENCE)
    record.verdict(up_s, "up", f"{PRIMARY} answered")
    record.transition(up_s, "active", "failback", "the primary is back", f"{PRIMARY} answered")
    record.event(up_s, "asked", "INFO", "stop app.service", UNIT="app.service", VERB="stop")
    back_s = up_s + GIVES_BACK_S
    record.transition(back_s, "failback", "standby", "all services are stopped here", "")
    cut_off_s, healed_s = begin_s + CUT_OFF_S + 5, begin_s + HEALED_S
    record.event(cut_off_s, "doubt", "WARNING", "evidence dropped: Network is unreachable")
    record.verdict(cut_off_s, "unknown", "Network is unreachable")
    record.transition(cut_off_s, "standby", "unknown", "no verdict on the primary any more", "")
    record.verdict(healed_s, "up", f"{PRIMARY} answered")
    record.transition(healed_s, "unknown", "standby", "the primary answers", "")
    record.event(
        begin_s + LOSSY_S + 900, "check", "INFO", "near miss: the primary answers after 2.31 s"
    )
    ended = "failover-monitor ends; services stay as they are"
    record.event(begin_s + STOPS_S, "stopped", "INFO", ended)
    record.event(begin_s + STARTS_S, "started", "INFO", "failover-monitor watches")
    for number in range(int(DAY_S / 600)):
        if not STOPS_S < number * 600 < STARTS_S:
            text = f"summary: standby; {PRIMARY} answered 200 of 200 echoes; 0 suspicions"
            record.event(begin_s + number * 600 + 1, "summary", "INFO", text)


def write_days(paths: Paths, begin_s: float, days: int = 1) -> Recorded:
    """So many such days from a moment on, one like the other."""
    record = Recorded(paths)
    tell_samples(record, begin_s, days * DAY_S)
    for number in range(days):
        tell_day(record, begin_s + number * DAY_S)
    record.write()
    return record
