"""Echoes in, verdict out: is the primary gone, or are we the broken part?

Rule: pure.  No clock, no socket, no log.  The caller says what time it is, what was sent and what
came back; it gets the next echo round to send, the moment of the next deadline, and a verdict.
The caller must feed every answer that has arrived before it asks for judgement with `tick`.

Theory of operation
-------------------
Steady      One echo round every T (every A while we serve).
Suspicion   A round stayed unanswered for the soft timeout.  From now on a round every g.  The
            suspicion is dated from the first round sent after the last answer arrived, and is cut
            into checks of length R.
Check       At its end it fails if at least half of its rounds were sent and k of the n references
            answered one of them each; an answer from the primary would have ended the suspicion.
            What was sent less than the soft timeout before the end proves nothing, since the
            primary's answer to it may be on its way (the first g of a check always counts).  A
            check that does not fail is inconclusive: we may be cut off; the count starts anew.
Verdict     N failed checks in a row.  Dense echoes in a fixed time: any one answer disproves death,
            so all of them must be lost for a mistake.
Doubt       What we could not send or could not time proves nothing: the suspicion is dropped.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import ceil

from failover_monitor.model import INF, Answer, Judged, Notice, Policy, Round, Told, Verdict

HELD_REPEAT_S = 60.0  # a primary that stays silent without a verdict is news again this often
QUIET_ROUNDS = 10  # a reference is called silent after so many unanswered rounds ...
QUIET_S = 10.0  # ... that took at least so long
RTT_GAIN, RTTVAR_GAIN = 1 / 8, 1 / 4  # RFC 6298 §2
SAME_S = 1e-6  # moments closer than this are one: sums of floats


@dataclass(slots=True)
class Check:
    """One window of evidence."""

    start_s: float
    end_s: float
    planned: int = 0  # rounds that the schedule put into it
    sent: int = 0  # of these, really sent
    answered: dict[str, int] = field(default_factory=dict)  # of its echoes, by each reference
    proven_by: set[str] = field(default_factory=set)  # references that answered one in time

    @property
    def half_sent(self) -> bool:
        return self.sent * 2 >= self.planned

    @property
    def answers(self) -> int:
        return sum(self.answered.values())


@dataclass(slots=True)
class Suspicion:
    """The primary has not answered since `start_s`."""

    start_s: float
    next_send_s: float
    check: Check
    failed: int = 0  # checks in a row
    rounds: int = 1  # sent in these checks


@dataclass(slots=True)
class Quiet:
    """One reference: how long it has left us without an answer."""

    answered_s: float
    misses: int = 0  # rounds in a row
    told: bool = False
    proof_s: float = -INF  # when the newest echo that it answered was sent


@dataclass(slots=True)
class Held:
    """A silence that has led to no verdict, and when that is news again."""

    since_s: float
    next_s: float
    checks: int = 0
    conclusive: int = 0


class Detector:
    """Follows one primary.  Moments are CLOCK_BOOTTIME seconds, see `model`."""

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
        """`heard`: references that have answered since this process started."""
        self.policy = policy
        self.verdict = verdict
        self.verdict_since_s = now_s
        self.seen = seen  # the primary has answered since this host booted
        self.answering_since_s: float | None = None  # without a lost check in between
        self.told: list[Told] = []  # the caller takes and clears them
        self.grace_until_s = grace_until_s  # no verdict before, unless `seen`
        self.number = number  # of the last round; grows for as long as the probe lives
        self._serving = False
        self._primary = frozenset(policy.primary)
        self._references = {address: Quiet(now_s) for address in policy.references}
        self._heard = set(heard)
        self._grid_s = self._next_round_s = now_s
        self._silent_since_s: float | None = None  # first round sent after the last answer
        self._suspicion: Suspicion | None = None
        self._doubt_since_s: float | None = None
        self._doubt_why = ""
        self._rtt_s: tuple[float, float] | None = None  # smoothed, and its deviation
        self._streak = self._streak_number = 0  # answered rounds in a row, and the last of them
        self._held: Held | None = None

    # What the caller asks.

    @property
    def due_s(self) -> float:
        """The moment of the next `tick`."""
        if self._suspicion:
            return min(self._suspicion.next_send_s, self._suspicion.check.end_s)
        if self._doubtful_since_s is None:
            return self._next_round_s
        return min(self._next_round_s, self._doubtful_since_s + self.soft_timeout_s)

    @property
    def next_round_s(self) -> float:
        """The moment of the next round."""
        return self._suspicion.next_send_s if self._suspicion else self._next_round_s

    @property
    def interval_s(self) -> float:
        """Between two rounds, as things stand."""
        return self.policy.spacing_s if self._suspicion else self._steady_s

    @property
    def soft_timeout_s(self) -> float:
        """How long a round may stay unanswered before suspicion begins (RFC 6298, bounded)."""
        policy = self.policy
        least_s = policy.spacing_s
        if self._rtt_s:
            rtt_s, deviation_s = self._rtt_s
            least_s = max(least_s, rtt_s + 4 * deviation_s)
        return min(least_s, policy.timeout_s, policy.last_check_s)

    @property
    def suspicious(self) -> bool:
        return self._suspicion is not None

    @property
    def failed_checks(self) -> int:
        """Failed checks in a row, of the N that make the verdict."""
        return self._suspicion.failed if self._suspicion else 0

    @property
    def quiet_references(self) -> tuple[str, ...]:
        return tuple(address for address, quiet in self._references.items() if quiet.told)

    @property
    def mute_references(self) -> tuple[str, ...]:
        """The quiet ones that have never answered: they may filter ICMP."""
        return tuple(address for address in self.quiet_references if address not in self._heard)

    @property
    def heard_references(self) -> frozenset[str]:
        return frozenset(self._heard)

    # What the caller tells.

    def serve(self, serving: bool, now_s: float) -> None:
        """Say whether we serve: then rounds come faster and our isolation changes no verdict."""
        if serving is self._serving:
            return
        waited = self._waiting_for_return
        self._serving = serving
        if waited or self._waiting_for_return:  # nobody judges silence while we wait
            self._suspicion = self._silent_since_s = None
        self._grid_s = self._next_round_s = now_s

    def suspended(self, slept_s: float, now_s: float) -> None:
        """Say that the host was suspended: what was in flight proves nothing."""
        self.forget(f"this host was suspended for {slept_s:.1f} s", now_s)

    def forget(self, why: str, now_s: float) -> None:
        """Drop the evidence: a verdict needs fresh checks from now on."""
        self._doubt(why, now_s)
        self._held = None
        self._grid_s = self._next_round_s = now_s

    def tick(self, now_s: float) -> Round | None:
        """Judge what is due and return the round to send now, if there is one."""
        late_s = now_s - self.due_s
        if late_s > max(1.0, self.policy.check_s / 2):
            self._doubt(f"the timer fired {late_s:.1f} s late", now_s)
            self._grid_s = self._next_round_s = now_s
            self._held = None  # nobody watched, so nobody held
        since_s = self._doubtful_since_s
        if since_s is not None and now_s >= since_s + self.soft_timeout_s - SAME_S:
            self._suspect(since_s, "no answer in time", now_s)
        self._judge(now_s)
        if self._held and now_s >= self._held.next_s:
            self._tell_held(self._held, now_s)
        return self._round(now_s)

    def sent(self, round_: Round, refused: Mapping[str, str]) -> None:
        """Say to which addresses the round could not be sent, and why."""
        now_s = round_.sent_s
        for address, quiet in self._references.items():
            if address not in refused:
                self._count_miss(address, quiet, now_s)
        if why := self._unsendable(refused):
            if self._doubt_since_s is None:
                self._doubt_since_s = now_s
                self._doubt(why, now_s)
            elif (
                now_s - self._doubt_since_s >= self.policy.check_s
                and self._streak_number < round_.number - 1  # else the primary answers all the same
            ):
                self._lose_verdict(why, now_s)
            self._doubt_why = why
            self._begin_held(now_s)
            return
        self._doubt_since_s = None
        if self._silent_since_s is None:
            self._silent_since_s = now_s
            self._begin_held(now_s)
        if self._suspicion:
            self._suspicion.check.sent += 1
            self._suspicion.rounds += 1

    def answered(self, answer: Answer, now_s: float) -> None:
        """Take one answer, or one ICMP error, that has arrived."""
        if answer.address in self._primary:
            if not answer.error:
                self._primary_answered(answer, now_s)
            elif (since_s := self._doubtful_since_s) is not None:
                self._suspect(since_s, answer.error, now_s)  # sooner; V stays as long
        elif not answer.error and (quiet := self._references.get(answer.address)):
            self._reference_answered(answer, quiet, now_s)

    # The primary.

    @property
    def _waiting_for_return(self) -> bool:
        return self._serving and self.verdict is Verdict.DOWN

    @property
    def _doubtful_since_s(self) -> float | None:
        """The beginning of a silence that is not suspicious yet."""
        return None if self._suspicion or self._waiting_for_return else self._silent_since_s

    def _primary_answered(self, answer: Answer, now_s: float) -> None:
        self._measure(now_s - answer.sent_s)
        self._silent_since_s = self._held = None
        self.seen = True
        if self._suspicion:
            gap_s = now_s - self._suspicion.start_s
            self._suspicion = None
            self._tell(Notice.CLEARED, f"the primary answers after {gap_s:.2f} s", gap_s=gap_s)
            self._realign(now_s)
        if answer.number > self._streak_number:
            in_a_row = answer.number == self._streak_number + 1
            self._streak = self._streak + 1 if in_a_row else 1
            self._streak_number = answer.number
        if self.answering_since_s is None or (self._waiting_for_return and self._streak == 1):
            self.answering_since_s = now_s
        enough = self.policy.recovery_threshold if self._waiting_for_return else 1
        if self.verdict is not Verdict.UP and self._streak >= enough:
            self._set_verdict(Verdict.UP, f"{answer.address} answered", now_s)

    def _measure(self, rtt_s: float) -> None:
        """RFC 6298 §2: smoothed round-trip time and its deviation."""
        if self._rtt_s is None:
            self._rtt_s = rtt_s, rtt_s / 2
            return
        smooth_s, deviation_s = self._rtt_s
        self._rtt_s = (
            smooth_s + RTT_GAIN * (rtt_s - smooth_s),
            deviation_s + RTTVAR_GAIN * (abs(smooth_s - rtt_s) - deviation_s),
        )

    def _suspect(self, start_s: float, why: str, now_s: float) -> None:
        spacing_s = self.policy.spacing_s
        check = Check(start_s, start_s + self._check_length_s(0), planned=1, sent=1)
        for address, quiet in self._references.items():
            self._prove(check, address, quiet.proof_s)
        # From the soft timeout on rounds were due: what a late turn did not send is missing.
        due_s = min(now_s, start_s + self.soft_timeout_s)
        steps = max(1, int((due_s - start_s + SAME_S) / spacing_s))
        self._suspicion = Suspicion(start_s, start_s + steps * spacing_s, check)
        self._tell(Notice.SUSPECT, why)

    # The checks.

    def _check_length_s(self, failed: int) -> float:
        last = failed >= self.policy.threshold - 1
        return self.policy.last_check_s if last else self.policy.check_s

    def _judge(self, now_s: float) -> None:
        """Judge every check that has ended."""
        while (suspicion := self._suspicion) and suspicion.check.end_s <= now_s + SAME_S:
            check = suspicion.check
            unsent_s = check.end_s - SAME_S - suspicion.next_send_s
            check.planned += ceil(unsent_s / self.policy.spacing_s)
            self.answering_since_s = None
            conclusive = check.half_sent and len(check.proven_by) >= self.policy.references_required
            if self._held:
                self._held.checks += 1
                self._held.conclusive += conclusive
            if conclusive:
                self._fail(suspicion, now_s)
            else:
                self._inconclusive(suspicion, now_s)
            if self._suspicion:
                end_s = check.end_s + self._check_length_s(suspicion.failed)
                suspicion.check = Check(check.end_s, end_s)
                suspicion.next_send_s = check.end_s  # a check shorter than g needs a round too

    def _fail(self, suspicion: Suspicion, now_s: float) -> None:
        check, threshold = suspicion.check, self.policy.threshold
        suspicion.failed = min(suspicion.failed + 1, threshold)
        self._tell(
            Notice.FAILED,
            f"check {suspicion.failed} of {threshold} failed: {check.sent} rounds sent,"
            f" {self._of_references(len(check.proven_by))} answered {check.answers} echoes,"
            " the primary none",
            check=self._judged(check, failed=True),
        )
        if suspicion.failed < threshold:
            return
        if not self.seen and now_s < self.grace_until_s:
            suspicion.failed = threshold - 1  # the next check may be the one that counts
        elif self.verdict is not Verdict.DOWN:
            self._set_verdict(
                Verdict.DOWN,
                f"{threshold} checks in a row failed: {suspicion.rounds} echo rounds in"
                f" {now_s - suspicion.start_s:.2f} s, none answered by the primary,"
                f" each check with {self._proof_in_words()}",
                now_s,
            )
            if self._serving:
                self._suspicion = None
                self._realign(now_s)

    def _inconclusive(self, suspicion: Suspicion, now_s: float) -> None:
        """Old counts must not outlive the loss of our own network: hold nothing, start anew."""
        check = suspicion.check
        why = f"no reference answered in {self.policy.check_s:g} s"
        if not check.half_sent:
            why = f"only {check.sent} of {check.planned} rounds were sent"
        elif check.answers:
            found, required = len(check.proven_by), self.policy.references_required
            all_of = len(self.policy.references)
            why = f"{found} of {all_of} references answered in time, {required} must"
        suspicion.failed = suspicion.rounds = 0
        suspicion.start_s = check.end_s
        self._tell(Notice.INCONCLUSIVE, why, check=self._judged(check, failed=False))
        self._lose_verdict(why, now_s)

    def _judged(self, check: Check, *, failed: bool) -> Judged:
        """The check for the record."""
        return Judged(
            failed=failed,
            began_s=check.start_s,
            ended_s=check.end_s,
            planned=check.planned,
            sent=check.sent,
            silent=self.policy.primary,
            answered=tuple((a, check.answered.get(a, 0)) for a in self._references),
            in_time=tuple(a for a in self._references if a in check.proven_by),
        )

    def _doubt(self, why: str, now_s: float) -> None:
        """Drop the evidence so far."""
        self._suspicion = None
        self._silent_since_s = self.answering_since_s = None
        self._realign(now_s)
        self._tell(Notice.DOUBT, why)
        if self.verdict is Verdict.DOWN:
            self._lose_verdict(why, now_s)

    # The verdict.

    def _set_verdict(self, verdict: Verdict, why: str, now_s: float) -> None:
        self.verdict, self.verdict_since_s = verdict, now_s
        if verdict is Verdict.DOWN:
            self._held = None
            self._streak = 0
        self._tell(Notice.VERDICT, why, subject=verdict)

    def _lose_verdict(self, why: str, now_s: float) -> None:
        """What we cannot see any more we do not claim, unless we already serve on it."""
        if not self._serving and self.verdict is not Verdict.UNKNOWN:
            self._set_verdict(Verdict.UNKNOWN, why, now_s)
            self._begin_held(now_s)

    # Our own network.

    def _unsendable(self, refused: Mapping[str, str]) -> str:
        policy = self.policy
        if all(address in refused for address in policy.primary):
            return f"cannot send to the primary: {refused[policy.primary[0]]}"
        lost = [address for address in policy.references if address in refused]
        left = len(policy.references) - len(lost)
        if left < policy.references_required:
            who = self._of_references(len(lost)) if left else "any reference"
            return f"cannot send to {who}: {refused[lost[0]]}"
        return ""

    def _reference_answered(self, answer: Answer, quiet: Quiet, now_s: float) -> None:
        quiet.proof_s = max(quiet.proof_s, answer.sent_s)
        if self._suspicion:
            self._prove(self._suspicion.check, answer.address, answer.sent_s)
        if quiet.told:
            quiet.told = False
            again = " again" if answer.address in self._heard else ""
            self._tell(Notice.REFERENCE_BACK, f"it answers{again}", subject=answer.address)
        quiet.misses, quiet.answered_s = 0, now_s
        self._heard.add(answer.address)

    def _prove(self, check: Check, address: str, sent_s: float) -> None:
        """Count an answer of a reference to an echo that was sent then, if it was in the check."""
        if sent_s < check.start_s - SAME_S:
            return
        check.answered[address] = check.answered.get(address, 0) + 1
        # What went out within the first g counts always, however slow the primary is.
        length_s = check.end_s - check.start_s
        first_s = min(self.policy.spacing_s, length_s / 2)
        if sent_s <= check.end_s - min(self.soft_timeout_s, length_s - first_s) + SAME_S:
            check.proven_by.add(address)

    def _count_miss(self, address: str, quiet: Quiet, now_s: float) -> None:
        """Every round is a miss until it is answered."""
        if quiet.misses >= QUIET_ROUNDS and not quiet.told and now_s - quiet.answered_s >= QUIET_S:
            quiet.told = True
            why = f"no answer for {now_s - quiet.answered_s:.0f} s"
            if address not in self._heard:
                why = "it has never answered, it may filter ICMP: cannot tell our own network by it"
            if not self._heard:
                why += "; hint: name a host that answers in witness_ips, or set neighbour_evidence"
            self._tell(Notice.REFERENCE_SILENT, why, subject=address)
        quiet.misses += 1

    def _of_references(self, count: int) -> str:
        """Such as "2 of 3 references"."""
        all_of = len(self.policy.references)
        return f"{count} of {all_of} references" if all_of > 1 else "references"

    def _proof_in_words(self) -> str:
        required = self.policy.references_required
        if required == 1:
            return "an answer from a reference"
        return f"answers from {self._of_references(required)}"

    # Holding still.

    def _begin_held(self, now_s: float) -> None:
        if not self._held and self.verdict is not Verdict.DOWN:
            self._held = Held(now_s, now_s + 2 * self.policy.verdict_s)

    def _tell_held(self, held: Held, now_s: float) -> None:
        required = self.policy.references_required
        who = "references" if required == 1 else self._of_references(required)
        why = f"{who} answer in {held.conclusive} of {held.checks} checks"
        if self._doubt_since_s is not None:
            why = self._doubt_why
        elif not self.seen and now_s < self.grace_until_s:
            why += f", startup grace for {self.grace_until_s - now_s:.0f} s more"
        held.next_s = now_s + max(HELD_REPEAT_S, 2 * self.policy.verdict_s)
        self._tell(Notice.HELD, why, gap_s=now_s - held.since_s)

    # Rounds.

    def _round(self, now_s: float) -> Round | None:
        """The round that is due, if one is; missed ones are not made up for."""
        if suspicion := self._suspicion:
            if now_s < suspicion.next_send_s - SAME_S:
                return None
            spacing_s = self.policy.spacing_s
            slots = 1 + int((now_s - suspicion.next_send_s + SAME_S) / spacing_s)
            suspicion.check.planned += slots
            suspicion.next_send_s += slots * spacing_s
        elif now_s < self._next_round_s - SAME_S:
            return None
        else:
            self._realign(now_s)
        self.number += 1
        return Round(self.number, now_s, self.suspicious or self._waiting_for_return)

    def _realign(self, now_s: float) -> None:
        """The next steady round: the first point of the grid after now."""
        steps = int((now_s - self._grid_s + SAME_S) / self._steady_s) + 1
        self._next_round_s = self._grid_s + steps * self._steady_s

    @property
    def _steady_s(self) -> float:
        return self.policy.serving_interval_s if self._serving else self.policy.interval_s

    def _tell(
        self,
        notice: Notice,
        why: str,
        *,
        subject: str = "",
        gap_s: float = 0.0,
        check: Judged | None = None,
    ) -> None:
        self.told.append(Told(notice, why, subject, gap_s, check))
