"""What became of the echoes, about a minute at a time: answered or lost, how fast, how long silent.

Rule: pure.  An echo is counted once, when its fate is known (answered, or without an answer for
`LATE_S`), and only if we could time it: what is still on its way is not lost.
"""

from dataclasses import dataclass, field
from typing import Any

from failover_monitor.model import INF, Answer, Phase, Policy, Round, Verdict

SAMPLE_S = 60.0
RECENT_S = 600.0  # "the last minutes" in status and summary
LATE_S = 3.0  # an echo without an answer for so long is lost
SHORT_S = 1.0  # a sample shorter than this says nothing


@dataclass(slots=True)
class Echoes:
    """The echoes to one address whose fate is known."""

    sent: int = 0
    answered: int = 0
    least_s: float = INF
    sum_s: float = 0.0
    most_s: float = 0.0

    @property
    def rtt_ms(self) -> tuple[float, float, float] | None:
        """Shortest, mean and longest round-trip time; None: no answer."""
        if not self.answered:
            return None
        mean_s = self.sum_s / self.answered
        return round(self.least_s * 1e3, 3), round(mean_s * 1e3, 3), round(self.most_s * 1e3, 3)

    @property
    def loss_percent(self) -> float | None:
        """None: no echo whose fate is known."""
        return round(100 * (1 - self.answered / self.sent), 2) if self.sent else None

    def took(self, rtt_s: float) -> None:
        """Count one that was answered after so long."""
        self.sent += 1
        self.answered += 1
        self.least_s, self.most_s = min(self.least_s, rtt_s), max(self.most_s, rtt_s)
        self.sum_s += rtt_s

    def add(self, other: "Echoes") -> None:
        self.sent += other.sent
        self.answered += other.answered
        self.least_s = min(self.least_s, other.least_s)
        self.most_s = max(self.most_s, other.most_s)
        self.sum_s += other.sum_s


@dataclass(slots=True)
class Sample:
    """One stretch of watching; moments are CLOCK_BOOTTIME seconds."""

    began_s: float
    ended_s: float  # so far
    echoes: dict[str, Echoes] = field(default_factory=dict)  # by address
    gaps_s: list[float] = field(default_factory=list)  # of suspicions that ended in an answer

    @property
    def length_s(self) -> float:
        return max(0.0, self.ended_s - self.began_s)


class Samples:
    """Takes echoes, answers and near misses; gives sample after sample, and the recent sum."""

    def __init__(self, now_s: float) -> None:
        self._now = Sample(now_s, now_s)
        self._past: list[Sample] = []
        self._flying: dict[tuple[str, int], float] = {}  # (address, round) -> when it was sent

    @property
    def due_s(self) -> float:
        """When the sample has its length."""
        return self._now.began_s + SAMPLE_S

    def sent(self, address: str, round_: Round) -> None:
        self._flying[address, round_.number] = round_.sent_s

    def answered(self, answer: Answer, now_s: float) -> float | None:
        """Take one answer; its round-trip time, or None where it is late or could not be timed."""
        key = (answer.address, answer.number)
        rtt_s = now_s - self._flying.get(key, -INF)
        if rtt_s >= LATE_S:
            return None
        del self._flying[key]
        self._of(answer.address).took(rtt_s)
        return rtt_s

    def near_miss(self, gap_s: float) -> None:
        """A silence of so long ended in an answer, and no verdict was made of it."""
        self._now.gaps_s.append(gap_s)

    def forget_flying(self) -> None:
        """Nobody was there to time what is on its way: it counts neither as answered nor lost."""
        self._flying.clear()

    def end(self, now_s: float, *, slept_s: float = 0.0) -> Sample:
        """End the sample, where the host fell asleep if it did; the next one begins now."""
        self._settle(now_s)
        ended, self._now = self._now, Sample(now_s, now_s)
        ended.ended_s = now_s - slept_s
        self._past = [*self._recent(now_s), ended]
        return ended

    def recent(self, now_s: float) -> Sample:
        """All of the last minutes in one, for as long as this process has watched."""
        self._settle(now_s)
        parts = [*self._recent(now_s), self._now]
        whole = Sample(now_s - sum(part.length_s for part in parts), now_s)
        for part in parts:
            whole.gaps_s += part.gaps_s
            for address, echoes in part.echoes.items():
                whole.echoes.setdefault(address, Echoes()).add(echoes)
        return whole

    def _recent(self, now_s: float) -> list[Sample]:
        return [sample for sample in self._past if sample.ended_s > now_s - RECENT_S]

    def _of(self, address: str) -> Echoes:
        return self._now.echoes.setdefault(address, Echoes())

    def _settle(self, now_s: float) -> None:
        """What has had no answer for so long is lost."""
        self._now.ended_s = now_s
        late = [key for key, sent_s in self._flying.items() if now_s - sent_s >= LATE_S]
        for address, number in late:
            del self._flying[address, number]
            self._of(address).sent += 1


def document(
    sample: Sample, *, at_s: float, policy: Policy, phase: Phase, verdict: Verdict
) -> dict[str, Any]:
    """The line for samples.jsonl; `at_s`: its end, seconds since 1970; phase and verdict then."""
    roles = (
        ("primary", policy.primary),
        ("standby", policy.standby),
        ("reference", policy.references),
    )
    paths = {}
    for role, addresses in roles:
        for address in addresses:
            echoes = sample.echoes.get(address, Echoes())
            paths[address] = {
                "role": role,
                "sent": echoes.sent,
                "answered": echoes.answered,
                "rtt_ms": echoes.rtt_ms,
            }
    return {
        "at_s": round(at_s, 3),
        "length_s": round(sample.length_s, 3),
        "phase": phase.value,
        "verdict": verdict.value,
        "paths": paths,
        "gaps_s": [round(gap_s, 3) for gap_s in sample.gaps_s],
    }
