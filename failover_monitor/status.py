"""How things stand, for people: one line, one summary, one document.

Rule: it only describes.  Nothing here decides, and nothing that decides reads it.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from failover_monitor.contact import Contact
from failover_monitor.detector import Detector
from failover_monitor.model import (
    Answer,
    Notice,
    PairState,
    Phase,
    Policy,
    Role,
    Round,
    Told,
    UnitSeen,
    Verdict,
)
from failover_monitor.samples import Echoes, Samples

STALE_S = 45.0  # a status.json older than this says nothing about now
WORDS = {
    Verdict.UP: "active_alive",
    Verdict.DOWN: "active_dead",
    Verdict.UNKNOWN: "unknown",
}  # the state file keeps the words that operators know
SAYS = {
    Role.STANDBY: {
        Verdict.UP: "the primary answers",
        Verdict.DOWN: "the primary is down",
        Verdict.UNKNOWN: "no verdict on the primary",
    },
    Role.PRIMARY: {
        Verdict.UP: "this host is in contact",
        Verdict.DOWN: "this host is cut off",
        Verdict.UNKNOWN: "no contact yet",
    },
}


def word(role: Role, verdict: Verdict, phase: Phase) -> str:
    """The word for the state file; on the primary it says whether this host may serve."""
    if role is Role.STANDBY:
        return WORDS[verdict]
    if phase is Phase.UNKNOWN:
        return WORDS[Verdict.UNKNOWN]
    return WORDS[Verdict.UP if phase in (Phase.OPENING, Phase.SERVING) else Verdict.DOWN]


@dataclass(slots=True)
class Last:
    """The last answer of one address."""

    at_s: float
    rtt_s: float | None = None  # of the last that we could time


class Status:
    """Collects what was sent and answered, and puts it into words."""

    def __init__(self, now_s: float) -> None:
        self.remark = ""  # what every line should add: a bad configuration, say
        self.attention: tuple[str, ...] = ()  # what an operator should mend
        self.why = ""  # the evidence behind the verdict
        self.samples = Samples(now_s)
        self._last: dict[str, Last] = {}
        self._suspicions = 0
        self._longest_gap_s = 0.0

    def sent(self, address: str, round_: Round) -> None:
        self.samples.sent(address, round_)

    def answered(self, answer: Answer, now_s: float) -> None:
        if answer.error:
            return
        last = self._last.setdefault(answer.address, Last(now_s))
        last.at_s, rtt_s = now_s, self.samples.answered(answer, now_s)
        last.rtt_s = last.rtt_s if rtt_s is None else rtt_s

    def told(self, told: Told, *, judged: bool) -> None:
        """Take a notice of the detector's; `judged`: the silence that it is of has its verdict."""
        if told.notice is Notice.VERDICT:
            self.why = told.why
        if told.notice is Notice.CLEARED and not judged:
            self.samples.near_miss(told.gap_s)
        self._suspicions += told.notice is Notice.SUSPECT
        self._longest_gap_s = max(self._longest_gap_s, told.gap_s)

    def line(
        self, role: Role, state: PairState, verdict: Verdict, units: tuple[UnitSeen, ...]
    ) -> str:
        """One line, for `systemctl status`."""
        services = ", ".join(f"{unit.name} {unit.state}" for unit in units)
        remark = "".join(f"{words}; " for words in (self.remark, *self.attention) if words)
        return f"{remark}{state.phase}: {SAYS[role][verdict]}; {services}"

    def summary(self, now_s: float) -> str:
        """The echoes of the last minutes, and the suspicions since the last summary."""
        found = self.samples.recent(now_s)
        text = ", ".join(in_words(address, echoes) for address, echoes in found.echoes.items())
        text += f"; {self._suspicions} suspicions"
        if self._longest_gap_s:
            text += f", longest silence {self._longest_gap_s:.2f} s"
        self._suspicions, self._longest_gap_s = 0, 0.0
        return text

    def document(
        self,
        now_s: float,
        policy: Policy,
        state: PairState,
        detector: Detector | Contact,
        units: tuple[UnitSeen, ...],
    ) -> dict[str, Any]:
        """Everything, for status.json; `at_s` and `stale_after_s` prove how fresh it is."""
        wall_s = time.time() - now_s

        def at(moment_s: float) -> str:
            return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(wall_s + moment_s))

        recent = self.samples.recent(now_s)

        def path(address: str) -> dict[str, Any]:
            return self._path(address, recent.echoes.get(address, Echoes()), at)

        def service(unit: UnitSeen) -> dict[str, Any]:
            return {**asdict(unit), "since": at(unit.since_s) if unit.since_s else None}

        return {
            "at": at(now_s),
            "at_s": now_s,
            "stale_after_s": STALE_S,
            "role": policy.role.value,
            "state": word(policy.role, detector.verdict, state.phase),
            "phase": state.phase.value,
            "phase_since": at(state.since_s),
            "verdict": detector.verdict.value,
            "verdict_since": at(detector.verdict_since_s),
            "why": self.why,
            "attention": [words for words in (self.remark, *self.attention) if words],
            "quiet_references": list(detector.quiet_references),
            "mute_references": list(detector.mute_references),
            "suspicious": detector.suspicious,
            "flapping": state.flapping,
            "by_hand": state.by_hand,
            "protections": [n for n in ("guard", "fence", "lease") if getattr(policy, n)],
            "failed_checks": detector.failed_checks,
            "next_check_s": round(max(0.0, detector.next_round_s - now_s), 3),
            "check_every_s": round(detector.interval_s, 3),
            "recent_s": round(recent.length_s, 1),  # what the counts of each path are about
            "primary": [path(address) for address in policy.primary],
            "standby": [path(address) for address in policy.standby],
            "references": [path(address) for address in policy.references],
            "units": [service(unit) for unit in units],
        }

    def _path(self, address: str, echoes: Echoes, at: Callable[[float], str]) -> dict[str, Any]:
        """The last minutes of one address, and its last answer."""
        last = self._last.get(address)
        rtt_s = last.rtt_s if last else None
        least, mean, most = echoes.rtt_ms or (None, None, None)
        return {
            "address": address,
            "sent": echoes.sent,
            "answered": echoes.answered,
            "loss_percent": echoes.loss_percent,
            "rtt_ms_min": least,
            "rtt_ms_mean": mean,
            "rtt_ms_max": most,
            "last_answer": at(last.at_s) if last else None,
            "rtt_ms": None if rtt_s is None else round(rtt_s * 1000, 3),
        }


def in_words(address: str, echoes: Echoes) -> str:
    """What became of the echoes to one address."""
    words = f"{address} answered {echoes.answered} of {echoes.sent} echoes"
    if echoes.rtt_ms:
        words += " in {:.1f}/{:.1f}/{:.1f} ms".format(*echoes.rtt_ms)
    return words
