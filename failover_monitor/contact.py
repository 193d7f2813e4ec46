"""Echoes in, contact out: is this host cut off from everybody?

Rule: pure, like `detector`, whose place it takes on the primary.  What counts is when the newest
*answered* echo was *sent*: at that moment the network still carried what this host sent.  There is
no counter; `verdict` is up while that moment is at most the guard's deadline ago.
"""

from collections.abc import Collection, Mapping

from failover_monitor.model import (
    GUARD_INTERVAL_S,
    INF,
    Answer,
    Notice,
    Policy,
    Round,
    Told,
    Verdict,
)

SAME_S = 1e-6  # moments closer than this are one: sums of floats
GAP_ROUNDS = 5  # so many unanswered rounds in a row are a gap
QUIET_ROUNDS = 20  # after so many an address is called silent


class Contact:
    """Follows the references and the standby.  Moments are CLOCK_BOOTTIME seconds."""

    suspicious = False
    failed_checks = 0

    def __init__(
        self,
        policy: Policy,
        now_s: float,
        *,
        verdict: Verdict = Verdict.UNKNOWN,
        seen: bool = False,
        grace_until_s: float = 0.0,
        number: int = 0,
        heard: Collection[str] = (),
    ) -> None:
        """`heard`: who has answered an earlier object of this process."""
        self.policy = policy
        self.verdict = verdict
        self.verdict_since_s = now_s
        self.seen = seen  # somebody has answered since this host booted
        self.answering_since_s: float | None = None  # without a gap
        self.told: list[Told] = []  # the caller takes and clears them
        self.grace_until_s = grace_until_s
        self.number = number  # of the last round; grows for as long as the probe lives
        self.proof_s = -INF  # when the newest answered echo was sent
        self.due_s = now_s
        self._misses = dict.fromkeys(policy.watched, 0)  # unanswered rounds in a row
        self._silent = False
        self._heard = set(heard)

    @property
    def deadline_s(self) -> float:
        """F: proof older than this is none."""
        return self.policy.limits.deadline_s

    @property
    def interval_s(self) -> float:
        """Between two rounds: ten or more before the deadline."""
        return min(GUARD_INTERVAL_S, self.deadline_s / 10)

    @property
    def next_round_s(self) -> float:
        """The moment of the next round."""
        return self.due_s

    @property
    def gap_s(self) -> float:
        """A silence this long ends "without a gap"."""
        return GAP_ROUNDS * self.interval_s

    @property
    def quiet_references(self) -> tuple[str, ...]:
        quiet = self._misses
        return tuple(a for a in self.policy.references if quiet[a] >= QUIET_ROUNDS)

    @property
    def mute_references(self) -> tuple[str, ...]:
        """Quiet, and they have never answered."""
        return tuple(a for a in self.quiet_references if a not in self._heard)

    @property
    def heard_references(self) -> frozenset[str]:
        return frozenset(self._heard)

    def serve(self, serving: bool, now_s: float) -> None:
        """Rounds are as fast as they need to be anyway."""

    def suspended(self, slept_s: float, now_s: float) -> None:
        """What was in flight proves nothing; the deadline counts on."""
        self.answering_since_s = None
        self._tell(Notice.DOUBT, f"this host was suspended for {slept_s:.1f} s")
        self.due_s = now_s

    def tick(self, now_s: float) -> Round | None:
        """Judge the time, and return the round to send now, if there is one."""
        self._judge(now_s)
        if now_s < self.due_s - SAME_S:
            return None
        steps = int((now_s - self.due_s + SAME_S) / self.interval_s) + 1
        self.due_s += steps * self.interval_s
        self.number += 1
        return Round(self.number, now_s, self._silent)

    def sent(self, round_: Round, refused: Mapping[str, str]) -> None:
        """Take what became of a round: address -> why it could not be sent to."""
        for address, misses in self._misses.items():
            if misses == QUIET_ROUNDS and address in self.policy.references:
                why = refused.get(address) or f"no answer in {QUIET_ROUNDS} rounds"
                self._tell(Notice.REFERENCE_SILENT, why, subject=address)
            self._misses[address] = misses + 1

    def answered(self, answer: Answer, now_s: float) -> None:
        """Take one answer, or one ICMP error, that has arrived; an error is no evidence."""
        if answer.error or answer.address not in self._misses:
            return
        long = self._misses[answer.address] > QUIET_ROUNDS
        if long and answer.address in self.policy.references:
            self._tell(Notice.REFERENCE_BACK, "it answers again", subject=answer.address)
        self._misses[answer.address] = 0
        self._heard.add(answer.address)
        if answer.sent_s <= self.proof_s:
            return
        gap_s = now_s - self.proof_s
        self.proof_s, self.seen = answer.sent_s, True
        if self._silent:
            self._silent = False
            self._tell(Notice.CLEARED, f"an answer after {gap_s:.2f} s", gap_s=gap_s)
        if now_s - self.proof_s >= self.deadline_s:
            return  # it proves the past only
        if self.answering_since_s is None:
            self.answering_since_s = now_s
        self._set_verdict(Verdict.UP, f"{answer.address} answered", now_s)

    def _judge(self, now_s: float) -> None:
        age_s = now_s - self.proof_s
        if age_s >= self.gap_s:
            self.answering_since_s = None
        if age_s >= 2 * self.interval_s and not self._silent and self.verdict is Verdict.UP:
            self._silent = True
            self._tell(Notice.SUSPECT, "no reference and no standby answers")
        if age_s >= self.deadline_s and self.verdict is Verdict.UP:
            self._set_verdict(
                Verdict.DOWN,
                f"nobody has answered an echo of the last {self.deadline_s:g} s",
                now_s,
            )

    def _set_verdict(self, verdict: Verdict, why: str, now_s: float) -> None:
        if verdict is self.verdict:
            return
        self.verdict, self.verdict_since_s = verdict, now_s
        self._tell(Notice.VERDICT, why, subject=verdict.value)

    def _tell(self, notice: Notice, why: str, *, subject: str = "", gap_s: float = 0.0) -> None:
        self.told.append(Told(notice, why, subject, gap_s))
