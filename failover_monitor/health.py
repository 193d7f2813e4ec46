"""What the service checks say together: a veto, a verdict, and how long all has been well.

Rule: pure, and UNKNOWN is never evidence.  It neither vetoes nor fails, it ends a row of failures,
and the time that it stands for counts for nobody: while it is the newest answer nothing is known
to be well, and when a PASS follows, the healthy time goes on from where it was.  A FAIL begins it
anew.

Everything here rests on the newest answer of each check, so nothing outlives the next run, and
`checks.runner` sees to it that there is one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from failover_monitor.model import CheckSeen, Outcome, ServiceCheck, Verdict

LATE_S = 3.0  # what a run may be late by, beside its interval and its limit


@dataclass(slots=True)
class Record:
    """What is kept of one check."""

    check: ServiceCheck
    last: CheckSeen | None = None
    failures: int = 0  # definite ones, in a row
    healthy_s: float | None = None  # its first pass after a failure, plus what is not proven
    passed_s: float = 0.0  # its latest pass

    @property
    def outcome(self) -> Outcome:
        return self.last.outcome if self.last else Outcome.UNKNOWN

    @property
    def rhythm_s(self) -> float:
        """No longer than this between two runs."""
        return self.check.interval_s + 2 * self.check.timeout_s + LATE_S

    def heard(self, seen: CheckSeen) -> None:
        if self.last and seen.began_s < self.last.began_s:
            return
        self.failures = self.failures + 1 if seen.outcome is Outcome.FAIL else 0
        if seen.outcome is Outcome.FAIL:
            self.healthy_s = None
        elif seen.outcome is Outcome.PASS:
            if self.healthy_s is None:
                self.healthy_s = seen.ended_s
            elif self.outcome is not Outcome.PASS or seen.ended_s - self.passed_s > self.rhythm_s:
                self.healthy_s += seen.ended_s - self.passed_s
            self.passed_s = seen.ended_s
        self.last = seen


class Health:
    """The service checks of one pair."""

    def __init__(self, checks: Sequence[ServiceCheck]) -> None:
        self._records = {check.name: Record(check) for check in checks}
        self._service = (Verdict.UNKNOWN, 0.0)  # and since when

    def heard(self, seen: CheckSeen, now_s: float) -> None:
        """Take in one run; one of a check that we do not have is ignored."""
        record = self._records.get(seen.name)
        if record is None:
            return
        record.heard(seen)
        verdict = self._judged()
        if verdict is not self._service[0]:
            self._service = verdict, now_s

    def forget(self, now_s: float) -> None:
        """Count failures anew: a dead service needs fresh ones."""
        for record in self._records.values():
            record.failures = 0
        self._service = self._judged(), now_s

    def vetoes(self, silent_since_s: float) -> tuple[str, ...]:
        """Who says that the primary lives although it does not answer echoes since that moment.

        Only runs that began after it count.  A check of which none has ended yet is waited for.
        """
        sentences = []
        for name, record in self._records.items():
            last = record.last
            if last is None or last.began_s <= silent_since_s:
                sentences.append(f"{name} has not had its say yet")
            elif last.outcome is Outcome.PASS:
                sentences.append(f"{name} passes: {last.why}")
        return tuple(sentences)

    @property
    def passing(self) -> tuple[str, ...]:
        """The checks whose newest run passed."""
        return tuple(n for n, record in self._records.items() if record.outcome is Outcome.PASS)

    @property
    def service(self) -> tuple[Verdict, float]:
        """What the checks with `trigger` say of the primary's service, and since when.

        DOWN: one of them has failed `threshold` times in a row.  UP: all of them passed last.
        """
        return self._service

    @property
    def healthy_since_s(self) -> float | None:
        """Since when all checks that a failback waits for have passed; None: they do not.

        None as well when there is no such check.  Time of which nothing is known is left out: the
        moment that is given then lies later than the first pass.
        """
        gates = [r for r in self._records.values() if r.check.gates]
        moments = [
            record.healthy_s
            for record in gates
            if record.outcome is Outcome.PASS and record.healthy_s is not None
        ]
        return max(moments) if gates and len(moments) == len(gates) else None

    def _judged(self) -> Verdict:
        triggers = [record for record in self._records.values() if record.check.trigger]
        if any(record.failures >= record.check.threshold for record in triggers):
            return Verdict.DOWN
        passed = triggers and all(record.outcome is Outcome.PASS for record in triggers)
        return Verdict.UP if passed else Verdict.UNKNOWN
