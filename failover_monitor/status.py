"""How things stand, for people: one line, one summary, one document.

Rule: it only describes.  Nothing here decides, and nothing that decides reads it.
"""

import time
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
    Told,
    UnitSeen,
    Verdict,
)

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
class Tally:
    """The echoes of one address since the last summary, and its last answer."""

    sent: int = 0
    answered: int = 0
    answered_s: float = 0.0
    rtt_s: float = 0.0


class Status:
    """Counts what was sent and answered, and puts it into words."""

    def __init__(self) -> None:
        self.remark = ""  # what every line should add: a bad configuration, say
        self.attention: tuple[str, ...] = ()  # what an operator should mend
        self.why = ""  # the evidence behind the verdict
        self._tallies: dict[str, Tally] = {}
        self._suspicions = 0
        self._longest_gap_s = 0.0

    def sent(self, address: str) -> None:
        self._tallies.setdefault(address, Tally()).sent += 1

    def answered(self, answer: Answer, now_s: float) -> None:
        if not answer.error:
            tally = self._tallies.setdefault(answer.address, Tally())
            tally.answered += 1
            tally.answered_s, tally.rtt_s = now_s, now_s - answer.sent_s

    def told(self, told: Told) -> None:
        if told.notice is Notice.VERDICT:
            self.why = told.why
        self._suspicions += told.notice is Notice.SUSPECT
        self._longest_gap_s = max(self._longest_gap_s, told.gap_s)

    def line(
        self, role: Role, state: PairState, verdict: Verdict, units: tuple[UnitSeen, ...]
    ) -> str:
        """One line, for `systemctl status`."""
        services = ", ".join(f"{unit.name} {unit.state}" for unit in units)
        remark = "".join(f"{words}; " for words in (self.remark, *self.attention) if words)
        return f"{remark}{state.phase}: {SAYS[role][verdict]}; {services}"

    def summary(self) -> str:
        """The echoes and suspicions since the last summary; begins the next one."""
        echoes = ", ".join(
            f"{address} answered {tally.answered} of {tally.sent} echoes"
            + (f" (last in {tally.rtt_s * 1000:.1f} ms)" if tally.answered else "")
            for address, tally in self._tallies.items()
        )
        text = f"{echoes}; {self._suspicions} suspicions"
        if self._longest_gap_s:
            text += f", longest silence {self._longest_gap_s:.2f} s"
        for tally in self._tallies.values():
            tally.sent = tally.answered = 0
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

        def path(address: str) -> dict[str, Any]:
            tally = self._tallies.get(address, Tally())
            ever = tally.answered_s > 0
            return {
                "address": address,
                "sent": tally.sent,
                "answered": tally.answered,
                "last_answer": at(tally.answered_s) if ever else None,
                "rtt_ms": round(tally.rtt_s * 1000, 3) if ever else None,
            }

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
            "next_check_s": round(max(0.0, detector.due_s - now_s), 3),
            "primary": [path(address) for address in policy.primary],
            "standby": [path(address) for address in policy.standby],
            "references": [path(address) for address in policy.references],
            "units": [asdict(unit) for unit in units],
        }
