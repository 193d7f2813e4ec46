"""The contact is as old as the newest answered echo, whatever the network does.

What is checked is checked against the test's own books: which echo was sent when, and which answer
had come by when.
"""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failover_monitor.contact import GAP_ROUNDS, QUIET_ROUNDS, SAME_S, Contact
from failover_monitor.model import (
    Answer,
    GuardPolicy,
    Notice,
    Policy,
    Role,
    Round,
    Verdict,
)
from tests.world import policy_of

GATEWAY, WITNESS, STANDBY = "198.51.100.1", "198.51.100.9", "198.51.100.3"
ADDRESSES = (GATEWAY, WITNESS, STANDBY)
F_S = 5.0
STEP_S = 0.5


def guarded(deadline_s: float = F_S) -> Policy:
    return policy_of(
        role=Role.PRIMARY,
        primary=(),
        references=(GATEWAY, WITNESS),
        standby=(STANDBY,),
        guard=GuardPolicy(deadline_s=deadline_s),
    )


class Bench:
    """One contact, fed as the monitor feeds it: answers first, then the time."""

    def __init__(self, policy: Policy | None = None, now_s: float = 0.0) -> None:
        self.now_s = now_s
        self.contact = Contact(policy or guarded(), now_s)
        self.rounds: list[Round] = []
        self.notices: list[tuple[float, Notice]] = []

    def turn(self, now_s: float, *answers: Answer) -> None:
        self.now_s = now_s
        for answer in answers:
            self.contact.answered(answer, now_s)
        if round_ := self.contact.tick(now_s):
            self.rounds.append(round_)
            self.contact.sent(round_, {})
        told, self.contact.told = self.contact.told, []
        self.notices += [(now_s, notice.notice) for notice in told]

    def run(
        self, until_s: float, *, answered_by: tuple[str, ...] = (), rtt_s: float = 0.01
    ) -> None:
        """Every round is answered by these hosts."""
        while self.contact.due_s <= until_s:
            sent = len(self.rounds)
            self.turn(self.contact.due_s)
            for round_ in self.rounds[sent:]:
                replies = [Answer(a, round_.number, round_.sent_s) for a in answered_by]
                self.turn(round_.sent_s + 0.01, *replies)

    def verdict(self) -> Verdict:
        return self.contact.verdict

    def silent(self) -> tuple[str, ...]:
        return self.contact.quiet_references

    def told(self, notice: Notice) -> int:
        return sum(told is notice for _, told in self.notices)


def echo(sent_s: float, address: str = GATEWAY, error: str = "") -> Answer:
    return Answer(address, 1, sent_s, error)


# What proves what.


@pytest.mark.parametrize("address", ADDRESSES)
def test_one_answer_of_anybody_is_contact(address: str) -> None:
    """A reference or the standby: the guard is not cut off from everybody."""
    bench = Bench()
    bench.turn(0.0)
    assert bench.verdict() is Verdict.UNKNOWN
    bench.turn(0.2, echo(0.0, address))
    assert bench.verdict() is Verdict.UP
    assert bench.contact.proof_s == 0.0
    assert bench.contact.answering_since_s == 0.2
    assert bench.contact.seen


@pytest.mark.parametrize(
    "answer",
    [echo(1.0, error="host unreachable"), echo(1.0, "203.0.113.7")],
    ids=["error", "alien"],
)
def test_an_error_and_a_stranger_prove_nothing(answer: Answer) -> None:
    """An ICMP error was made by a router on the way, which may be on our side of the cut."""
    bench = Bench()
    bench.turn(1.0)
    bench.turn(1.1, answer)
    assert bench.verdict() is Verdict.UNKNOWN
    assert bench.contact.proof_s == -math.inf
    assert not bench.contact.seen


def test_the_proof_is_the_sending_not_the_arrival() -> None:
    """An answer that took two seconds proves only that the network carried us two seconds ago."""
    bench = Bench()
    bench.turn(10.0, echo(8.0))
    assert bench.contact.proof_s == 8.0
    bench.turn(8.0 + F_S - 0.01)
    assert bench.verdict() is Verdict.UP
    bench.turn(8.0 + F_S)
    assert bench.verdict() is Verdict.DOWN


def test_an_answer_as_old_as_the_deadline_is_no_contact() -> None:
    """It proves the past only."""
    bench = Bench()
    bench.turn(F_S, echo(0.0))
    assert bench.verdict() is Verdict.UNKNOWN
    assert bench.contact.answering_since_s is None
    bench.turn(F_S + 0.9, echo(1.0))
    assert bench.verdict() is Verdict.UP


def test_late_answers_do_not_take_proof_away() -> None:
    """Answers that overtake each other: the newest sending counts."""
    bench = Bench()
    bench.turn(3.0, echo(2.5), echo(1.0), echo(2.0))
    assert bench.contact.proof_s == 2.5


# The verdict, to the moment.


@pytest.mark.parametrize("deadline_s", [1.0, 3.0, 5.0, 20.0])
def test_the_verdict_falls_exactly_at_the_deadline(deadline_s: float) -> None:
    """Counted from the sending of the last echo that was answered."""
    bench = Bench(guarded(deadline_s))
    bench.run(30.0, answered_by=(WITNESS,))
    last_s = bench.contact.proof_s
    assert bench.verdict() is Verdict.UP
    bench.turn(last_s + deadline_s - 1e-3)
    assert bench.verdict() is Verdict.UP
    bench.turn(last_s + deadline_s + SAME_S)
    assert bench.verdict() is Verdict.DOWN
    assert bench.contact.verdict_since_s == pytest.approx(last_s + deadline_s, abs=2 * SAME_S)


@pytest.mark.parametrize("deadline_s", [1.0, 3.0, 5.0, 60.0])
def test_ten_rounds_fit_before_the_deadline(deadline_s: float) -> None:
    """Nine lost echoes in a row stop nothing; and no round is more than half a second away."""
    bench = Bench(guarded(deadline_s))
    bench.run(100.0)
    gaps = {
        round(b.sent_s - a.sent_s, 6) for a, b in zip(bench.rounds, bench.rounds[1:], strict=False)
    }
    assert max(gaps) <= min(STEP_S, deadline_s / 10) + SAME_S


def test_never_up_is_never_down() -> None:
    """Who has answered nobody since boot has no verdict; the time of the proof says enough."""
    bench = Bench()
    bench.run(60.0)
    assert bench.verdict() is Verdict.UNKNOWN
    assert bench.contact.answering_since_s is None


def test_a_late_turn_catches_up_and_sends_one_round() -> None:
    """A burst of echoes after a stall would prove no more than one."""
    bench = Bench()
    bench.turn(0.0)
    bench.turn(7.3)
    assert [round_.sent_s for round_ in bench.rounds] == [0.0, 7.3]
    assert [round_.number for round_ in bench.rounds] == [1, 2]
    assert bench.contact.due_s == 7.5


# Without a gap.


def test_a_gap_ends_the_time_that_the_gate_counts() -> None:
    """Five silent rounds: shorter than the deadline, so the gate is stricter than the guard."""
    bench = Bench()
    bench.run(20.0, answered_by=(GATEWAY,))
    since_s, last_s = bench.contact.answering_since_s, bench.contact.proof_s
    assert since_s == pytest.approx(0.01)
    assert bench.contact.gap_s == 2.5
    bench.turn(last_s + GAP_ROUNDS * STEP_S - 0.01)
    assert bench.contact.answering_since_s == since_s
    bench.turn(last_s + GAP_ROUNDS * STEP_S)
    assert bench.contact.answering_since_s is None
    assert bench.verdict() is Verdict.UP
    bench.turn(bench.now_s + 0.2, echo(bench.now_s + 0.1))
    assert bench.contact.answering_since_s == bench.now_s


def test_a_suspend_begins_the_time_anew_and_the_deadline_counts_on() -> None:
    """While we slept the standby may have taken over."""
    bench = Bench()
    bench.run(10.0, answered_by=(GATEWAY,))
    last_s = bench.contact.proof_s
    bench.contact.suspended(3.0, 13.0)
    assert bench.contact.answering_since_s is None
    assert bench.contact.proof_s == last_s
    assert bench.contact.due_s == 13.0
    bench.turn(last_s + F_S)
    assert bench.verdict() is Verdict.DOWN
    assert bench.told(Notice.DOUBT) == 1


# What people hear.


def test_silence_and_its_end_are_told_once_each() -> None:
    """Suspicion, verdict, and that it is over."""
    bench = Bench()
    bench.run(5.0, answered_by=(GATEWAY,))
    assert {notice for _, notice in bench.notices} == {Notice.VERDICT}
    proof_s = bench.contact.proof_s
    bench.run(20.0)
    assert (bench.told(Notice.SUSPECT), bench.told(Notice.VERDICT)) == (1, 2)
    suspect_s = next(at_s for at_s, notice in bench.notices if notice is Notice.SUSPECT)
    assert suspect_s == pytest.approx(proof_s + 2 * STEP_S)
    assert bench.rounds[-1].repair
    bench.run(22.0, answered_by=(GATEWAY,))
    assert (bench.told(Notice.CLEARED), bench.told(Notice.VERDICT)) == (1, 3)
    assert not bench.rounds[-1].repair


def test_a_host_that_is_silent_for_long_is_told_once_and_when_it_is_back() -> None:
    """It would be missing when it is needed."""
    bench = Bench()
    bench.run(STEP_S * (QUIET_ROUNDS + 5), answered_by=(GATEWAY, STANDBY))
    assert bench.told(Notice.REFERENCE_SILENT) == 1
    assert bench.silent() == (WITNESS,)
    bench.run(bench.now_s + 5.0, answered_by=ADDRESSES)
    assert bench.told(Notice.REFERENCE_BACK) == 1
    assert bench.silent() == ()


def test_a_reference_that_was_not_called_silent_is_not_called_back() -> None:
    """It answers the last round before that."""
    bench = Bench()
    bench.run(STEP_S * (QUIET_ROUNDS - 1) + 0.1)
    assert len(bench.rounds) == QUIET_ROUNDS
    bench.turn(bench.now_s, echo(bench.now_s - 0.1))
    assert (bench.told(Notice.REFERENCE_SILENT), bench.told(Notice.REFERENCE_BACK)) == (0, 0)


def test_a_reference_that_has_never_answered_is_told_apart() -> None:
    """It may filter ICMP; one that answered an earlier object of this process does not."""
    bench = Bench()
    bench.run(5.0, answered_by=(GATEWAY,))
    bench.run(30.0, answered_by=(STANDBY,))
    assert bench.silent() == (GATEWAY, WITNESS)
    assert bench.contact.mute_references == (WITNESS,)
    assert bench.contact.heard_references == {GATEWAY, STANDBY}
    follower = Contact(guarded(), 30.0, heard=bench.contact.heard_references)
    assert follower.heard_references == {GATEWAY, STANDBY}


def test_why_a_reference_is_silent_is_told() -> None:
    """What could not be sent is named; and no other is silent."""
    contact = Contact(guarded(), 0.0)
    for number in range(QUIET_ROUNDS + 1):
        contact.sent(Round(number, 0.0, False), {GATEWAY: "no carrier on eth0"})
        contact.answered(echo(float(number), WITNESS), number + 0.1)
    silent = [told for told in contact.told if told.notice is Notice.REFERENCE_SILENT]
    assert [(told.subject, told.why) for told in silent] == [(GATEWAY, "no carrier on eth0")]


def test_the_end_of_a_silence_says_how_long_it_was() -> None:
    """From the sending of the echo before it, as the deadline counts."""
    contact = Contact(guarded(), 0.0)
    for now_s in (10.0, 13.5):
        contact.answered(echo(now_s - 0.1), now_s)
        contact.tick(now_s + 3.0)
    [cleared] = [told for told in contact.told if told.notice is Notice.CLEARED]
    assert cleared.why == "an answer after 3.60 s"
    assert cleared.gap_s == pytest.approx(3.6)


def test_a_contact_has_no_checks_to_fail() -> None:
    """The guard goes by the age of its proof alone, five seconds where nothing is configured."""
    contact = Contact(policy_of(role=Role.PRIMARY), 0.0)
    assert (contact.suspicious, contact.failed_checks) == (False, 0)
    assert contact.deadline_s == 5.0


# Whatever the network does.

ECHOES = st.lists(
    st.tuples(
        st.sampled_from(ADDRESSES),
        st.one_of(st.none(), st.floats(0.0, 12.0)),  # lost, or the time it takes
        st.booleans(),  # an error comes instead
    ),
    min_size=1,
    max_size=80,
)


@given(ECHOES, st.sampled_from((1.0, 3.0, 5.0)), st.floats(0.01, 3.0))
@settings(max_examples=200, deadline=None)
def test_the_books_and_the_contact_agree(
    echoes: list[tuple[str, float | None, bool]], deadline_s: float, pause_s: float
) -> None:
    """At every turn: the proof, the verdict and what has been without a gap."""
    bench = Bench(guarded(deadline_s))
    contact = bench.contact
    flying: list[tuple[float, Answer]] = []
    up_s = -math.inf  # the newest sending whose answer had arrived in time to prove anything
    now_s = 0.0
    for address, takes_s, failed in echoes:
        sent = len(bench.rounds)
        arrived = [answer for at_s, answer in flying if at_s <= now_s]
        flying = [(at_s, answer) for at_s, answer in flying if at_s > now_s]
        bench.turn(now_s, *arrived)
        genuine = [answer.sent_s for answer in arrived if not answer.error]
        before_s, up_s = up_s, max([up_s, *genuine])
        assert contact.proof_s == up_s
        assert (contact.verdict is Verdict.UP) <= (now_s - up_s < deadline_s)
        if up_s > before_s:
            assert (contact.verdict is Verdict.UP) is (now_s - up_s < deadline_s)
        if contact.answering_since_s is not None:
            assert now_s - up_s < contact.gap_s
            assert contact.answering_since_s <= now_s
        assert contact.due_s > now_s
        for round_ in bench.rounds[sent:]:
            if takes_s is not None:
                error = "unreachable" if failed else ""
                flying.append((now_s + takes_s, Answer(address, round_.number, now_s, error)))
        now_s += pause_s
