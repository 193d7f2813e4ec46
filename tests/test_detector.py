"""The detector keeps its promises whatever the network does (docs/promises.md: 1 to 4).

`Bench` plays one detector as the monitor does, and keeps its own books: what was sent, what was
answered and when.  Every verdict is checked against these books, not against the detector's words.
"""

import heapq
import math
import random
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from failover_monitor.detector import HELD_REPEAT_S, QUIET_ROUNDS, QUIET_S, SAME_S, Detector
from failover_monitor.events import Event, Kind
from failover_monitor.model import Answer, Notice, Policy, Round, Told, Verdict
from failover_monitor.rehearsal import script, story
from tests.world import RESTART_S, policy_of

PRIMARY, CABLE, GATEWAY, WITNESS = "198.51.100.2", "10.0.0.2", "198.51.100.1", "198.51.100.9"
ADDRESSES = (PRIMARY, CABLE, GATEWAY, WITNESS)
RTT_S = 0.001
SLACK_S = 1e-5


@dataclass
class Path:
    """How echoes to one address fare."""

    answers: bool = True
    loss: float = 0.0
    rtt_s: float = RTT_S
    refused: str = ""
    error: str = ""  # an ICMP error comes back instead
    copies: int = 1


@dataclass
class Bench:
    """One detector on a network of paths, in virtual time."""

    policy: Policy
    seed: int = 0
    now_s: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.detector = Detector(self.policy, self.now_s, **self.options)
        self.rng = random.Random(self.seed)
        self.paths = {a: Path() for a in (*self.policy.primary, *self.policy.references)}
        self.flying: list[tuple[float, int, Answer]] = []
        self.echoes = 0
        self.told: list[tuple[float, Told]] = []
        self.rounds: list[Round] = []
        self.sent_s: list[float] = []  # rounds that reached at least one of each kind
        self.alive_s: list[float] = []  # genuine answers of the primary, when they arrived
        self.proof: list[tuple[float, str]] = []  # answers of references: when sent, by whom
        self.verdicts: list[float] = []

    def of_primary(self, **how: Any) -> None:
        self._set(self.policy.primary, how)

    def of_references(self, **how: Any) -> None:
        self._set(self.policy.references, how)

    def _set(self, addresses: tuple[str, ...], how: dict[str, Any]) -> None:
        for address in addresses:
            for name, value in how.items():
                setattr(self.paths[address], name, value)

    def run(self, for_s: float) -> None:
        """Let time pass; every arrival and every deadline on time."""
        end_s = self.now_s + for_s
        while (next_s := self.next_s()) <= end_s:
            self.now_s = max(next_s, self.now_s)
            self.step()
        self.now_s = end_s

    def next_s(self) -> float:
        arrival_s = self.flying[0][0] if self.flying else math.inf
        return min(arrival_s, self.detector.due_s)

    def freeze(self, for_s: float) -> None:
        """Nobody is called; then all that has arrived is taken at once."""
        self.now_s += for_s
        self.step()

    def step(self) -> None:
        """One turn, as `Monitor.look` does it, and its invariants."""
        detector = self.detector
        while self.flying and self.flying[0][0] <= self.now_s:
            self.take(heapq.heappop(self.flying)[2])
        end_s = self.check_end_s()
        before = detector.verdict
        round_ = detector.tick(self.now_s)
        if round_:
            detector.sent(round_, self.send(round_))
        self.note(before, min(end_s, self.now_s))
        assert self.now_s < detector.due_s < math.inf, "a turn without an end"

    def check_end_s(self) -> float:
        detector = self.detector
        if detector._suspicion:
            return detector._suspicion.check.end_s
        if detector._silent_since_s is None:
            return self.now_s
        return detector._silent_since_s + detector._check_length_s(0)

    def take(self, answer: Answer) -> None:
        if not answer.error:
            if answer.address in self.policy.primary:
                self.alive_s.append(self.now_s)
            else:
                self.proof.append((answer.sent_s, answer.address))
        before = self.detector.verdict
        self.detector.answered(answer, self.now_s)
        if answer.error or answer.address not in self.policy.primary:
            assert self.detector.verdict is before, "only the primary's answer is evidence of life"

    def send(self, round_: Round) -> dict[str, str]:
        refused = {}
        for address, path in self.paths.items():
            if path.refused:
                refused[address] = path.refused
            elif self.rng.random() >= path.loss and (path.answers or path.error):
                for _ in range(path.copies):
                    self.echoes += 1
                    answer = Answer(address, round_.number, round_.sent_s, path.error)
                    heapq.heappush(self.flying, (self.now_s + path.rtt_s, self.echoes, answer))
        self.rounds.append(round_)
        if not all(a in refused for a in self.policy.primary) and not all(
            a in refused for a in self.policy.references
        ):
            self.sent_s.append(round_.sent_s)
        return refused

    def note(self, before: Verdict, end_s: float) -> None:
        told, self.detector.told = self.detector.told, []
        for notice in told:
            self.told.append((self.now_s, notice))
            if notice.notice is Notice.VERDICT and notice.subject == Verdict.DOWN:
                assert before is not Verdict.DOWN
                self.verdicts.append(self.now_s)
                self.judge(end_s)

    def judge(self, end_s: float) -> None:
        """A verdict: the promises 1 and 2, from our own books."""
        policy = self.policy
        last_s = max(self.alive_s, default=-math.inf)
        assert self.now_s - last_s >= policy.verdict_s - SLACK_S, "answered within the last V"
        graced = not self.alive_s and not self.options.get("seen")
        for index in range(policy.threshold):
            length_s = policy.last_check_s if index == 0 else policy.check_s
            if graced and index and not self.proven(end_s - length_s, end_s):
                length_s = policy.last_check_s  # checks after the grace are as long as the last
            assert self.proven(end_s - length_s, end_s), f"check {index} before the last"
            end_s -= length_s

    def proven(self, start_s: float, end_s: float) -> bool:
        """A check: k references answered an echo sent in it; half of its rounds were sent."""
        length_s = end_s - start_s
        sent = sum(start_s - SLACK_S <= s < end_s - SLACK_S / 2 for s in self.sent_s)
        answered = {who for sent_s, who in self.proof if start_s - SLACK_S <= sent_s < end_s}
        # Before the soft timeout of the first round no other was due.
        due_s = max(0.0, length_s - self.detector.soft_timeout_s)
        enough = len(answered) >= self.policy.references_required
        return enough and sent >= max(1.0, due_s / self.policy.spacing_s / 2 - 1)

    def says(self, verdict: Verdict) -> bool:
        return self.detector.verdict is verdict

    def notices(self, notice: Notice) -> list[tuple[float, Told]]:
        return [(at_s, told) for at_s, told in self.told if told.notice is notice]


def shipped(**settings: Any) -> Policy:
    return policy_of(interval_s=3.0, retry_interval_s=1.5, **settings)


POLICIES = {
    "five keys": policy_of(),
    "shipped": shipped(),
    "two paths, two references": shipped(primary=(PRIMARY, CABLE), references=(GATEWAY, WITNESS)),
    "both of two references": shipped(references=(GATEWAY, WITNESS), references_required=2),
    "one check": policy_of(threshold=1),
    "one check of one second": policy_of(threshold=1, interval_s=1.0),
    "tiny checks": policy_of(interval_s=0.1, retry_interval_s=0.05, timeout_s=0.05),
    "checks off the grid of rounds": policy_of(interval_s=5.0, retry_interval_s=1.6),
    "five keys, last check shorter than g": policy_of(timeout_s=0.1),
    "both": policy_of(interval_s=1.6, timeout_s=0.05),
    "many": policy_of(interval_s=1.0, retry_interval_s=0.3, threshold=20),
}
every_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)


def policies() -> st.SearchStrategy[Policy]:
    """Any policy that the configuration lets through."""

    @st.composite
    def draw(pick: st.DrawFn) -> Policy:
        interval_s = pick(st.sampled_from((0.1, 0.37, 1.0, 1.6, 3.0, 10.0)))
        fraction = pick(st.sampled_from((None, 0.11, 0.5, 0.77, 1.0)))
        retry_s = None if fraction is None else max(0.05, interval_s * fraction)
        references = pick(st.sampled_from(((GATEWAY,), (GATEWAY, WITNESS))))
        return policy_of(
            interval_s=interval_s,
            retry_interval_s=retry_s,
            threshold=pick(st.sampled_from((1, 2, 3, 7))),
            timeout_s=pick(st.sampled_from((0.05, 0.1, 0.3, 1.0, 5.0))),
            primary=pick(st.sampled_from(((PRIMARY,), (PRIMARY, CABLE)))),
            references=references,
            references_required=pick(st.integers(1, len(references))),
        )

    return draw()


# Promise 3: how long a verdict takes.


@every_policy
def test_a_crash_gives_a_verdict_between_v_and_t_plus_v(policy: Policy) -> None:
    """Wherever between two rounds the crash falls."""
    found = []
    for k in range(20):
        bench = Bench(policy)
        bench.run(policy.interval_s * (2 + k / 20) + RTT_S)
        crashed_s = bench.now_s
        bench.of_primary(answers=False)
        bench.run(policy.interval_s + policy.verdict_s + 0.01)
        assert len(bench.verdicts) == 1
        found.append(bench.verdicts[0] - crashed_s)
    assert policy.verdict_s - SLACK_S <= min(found)
    assert max(found) <= policy.verdict_s + policy.interval_s + SLACK_S


@given(policies(), st.floats(0, 1), st.sampled_from((0.0, 0.1, 0.3)), st.integers(0, 999))
@settings(max_examples=150, deadline=None)
def test_a_crash_after_any_life_gives_a_verdict(
    policy: Policy, phase: float, loss: float, seed: int
) -> None:
    """Losses before the crash change nothing about it: V to T + V after it."""
    bench = Bench(policy, seed=seed)
    bench.of_primary(loss=loss)
    bench.run(policy.interval_s * 5 * (1 + phase))
    bench.of_primary(answers=False, loss=0.0)
    verdicts = len(bench.verdicts)
    crashed_s = max((s for s in bench.alive_s), default=0.0)
    bench.run(policy.interval_s + policy.verdict_s + RTT_S + 0.01)
    if verdicts == 0:
        assert len(bench.verdicts) == 1
        took_s = bench.verdicts[0] - crashed_s
        assert policy.verdict_s - SLACK_S <= took_s
    assert bench.says(Verdict.DOWN)


@every_policy
def test_an_inconclusive_check_costs_at_most_one_more_v(policy: Policy) -> None:
    """The reference misses one check; then N checks follow at once, and all of them count."""
    for missed in range(policy.threshold):
        bench = Bench(policy)
        bench.run(policy.interval_s + 0.5 * policy.interval_s)
        bench.of_primary(answers=False)
        silent_s = 2 * policy.interval_s
        bench.run(silent_s - bench.now_s + missed * policy.check_s - SLACK_S)
        last = missed == policy.threshold - 1
        bench.of_references(answers=False)
        bench.run(policy.last_check_s if last else policy.check_s)
        bench.of_references(answers=True)
        assert bench.verdicts == []
        bench.run(policy.verdict_s + 2 * SLACK_S)
        assert len(bench.verdicts) == 1
        assert [told.notice for _, told in bench.told].count(Notice.INCONCLUSIVE) == 1


@pytest.mark.parametrize("rtt_s", [0.04, 0.3, 0.7, 0.95])
def test_a_slow_primary_delays_no_verdict(rtt_s: float) -> None:
    """A long round trip begins the suspicion later, but not the count."""
    policy = policy_of(threshold=1, interval_s=2.0)
    bench = Bench(policy)
    for path in bench.paths.values():
        path.rtt_s = rtt_s
    bench.run(20.5)
    bench.of_primary(answers=False)
    bench.of_references(rtt_s=RTT_S)
    bench.run(4.0)
    assert bench.verdicts == [pytest.approx(22 + policy.verdict_s)]


def test_icmp_errors_begin_the_suspicion_sooner_and_the_verdict_no_sooner() -> None:
    """Errors are forged and come from routers that lost their path: V stays as long."""
    policy = shipped()
    bench = Bench(policy)
    bench.run(4.0)
    bench.of_primary(error="host unreachable")
    bench.run(2.5)
    assert [at_s for at_s, _ in bench.notices(Notice.SUSPECT)] == [pytest.approx(6.0 + RTT_S)]
    assert bench.notices(Notice.SUSPECT)[0][1].why == "host unreachable"
    bench.run(20.0)
    assert bench.verdicts == [pytest.approx(6.0 + policy.verdict_s)]


def test_an_error_is_neither_life_nor_proof() -> None:
    """An ICMP error of a reference proves nothing about our own network."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_primary(error="host unreachable")
    bench.of_references(error="host unreachable")
    bench.run(100.0)
    assert bench.verdicts == []
    assert bench.says(Verdict.UNKNOWN)


# Promise 1: an answer within the last V - g.


@every_policy
def test_one_answer_in_v_is_life(policy: Policy) -> None:
    """Of all rounds of a suspicion any single one that is answered ends it."""
    bench = Bench(policy)
    bench.run(policy.interval_s * 1.5)
    for k in range(30):
        bench.of_primary(answers=False)
        begun_s = policy.interval_s * math.ceil(bench.now_s / policy.interval_s + SLACK_S)
        before_s = policy.verdict_s - policy.spacing_s - 0.01
        wait_s = begun_s - bench.now_s + before_s * k / 30
        bench.run(wait_s)
        bench.of_primary(answers=True)
        bench.run(policy.spacing_s + 2 * RTT_S)
        assert not bench.detector.suspicious
    assert bench.verdicts == []


def test_a_late_answer_is_an_answer() -> None:
    """An answer to the first echo of the suspicion, V - 0.01 s later, ends it."""
    policy = shipped()
    bench = Bench(policy)
    bench.run(4.0)
    bench.of_primary(rtt_s=policy.verdict_s - 0.01)
    bench.run(20.0)
    assert bench.verdicts == []
    assert bench.notices(Notice.CLEARED)[0][1].gap_s == pytest.approx(4.49)


def test_the_suspicion_is_dated_from_the_first_round_after_the_last_answer() -> None:
    """A late answer does not lend its age to the next silence."""
    policy = shipped()
    bench = Bench(policy)
    bench.run(4.0)
    bench.of_primary(rtt_s=2.0)
    bench.run(2.1)  # the round at 6.0 is on its way
    bench.of_primary(answers=False)
    bench.run(30.0)
    assert bench.verdicts == [pytest.approx(9.0 + policy.verdict_s)]


def test_any_address_of_the_primary_is_enough() -> None:
    """A list of addresses is several paths to one host."""
    bench = Bench(shipped(primary=(PRIMARY, CABLE)))
    bench.paths[PRIMARY].answers = False
    bench.run(100.0)
    assert bench.verdicts == []
    assert bench.notices(Notice.SUSPECT) == []


def test_an_address_without_carrier_is_no_doubt_while_the_other_can_be_tested() -> None:
    """The cable goes dark with the host behind it: that is no reason to hold still."""
    bench = Bench(shipped(primary=(PRIMARY, CABLE)))
    bench.run(4.0)
    bench.paths[CABLE].refused = "no carrier"
    bench.paths[PRIMARY].answers = False
    bench.run(10.0)
    assert bench.verdicts == [pytest.approx(6.0 + 4.5)]


# Promise 2 and 4: our own network.


@every_policy
def test_own_isolation_never_makes_a_verdict(policy: Policy) -> None:
    """However long, and however it ends: the references first, or the primary, or both."""
    for first in ("references", "primary", "both"):
        bench = Bench(policy)
        bench.run(policy.interval_s * 2.3)
        bench.of_primary(answers=False)
        bench.of_references(answers=False)
        bench.run(policy.verdict_s * 7.77)
        assert bench.says(Verdict.UNKNOWN)
        bench.of_primary(answers=first != "references")
        bench.of_references(answers=first != "primary")
        # The references back for N checks would be a verdict; the check under way may be one.
        between_s = 0.9 * (policy.threshold - 2) * policy.check_s
        bench.run(max(0.0, between_s) if first == "references" else policy.verdict_s)
        bench.of_primary(answers=True)
        bench.of_references(answers=True)
        bench.run(policy.verdict_s + policy.interval_s)
        assert bench.verdicts == []
        assert bench.says(Verdict.UP)


def test_the_verdict_is_lost_with_the_first_inconclusive_check() -> None:
    """Then the state word says `unknown`, and the count starts anew."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(3.6)
    assert bench.detector.failed_checks == 1
    bench.of_references(answers=False)
    bench.run(3.1)
    assert bench.says(Verdict.UNKNOWN)
    assert bench.detector.failed_checks == 0
    assert bench.detector.verdict_since_s == pytest.approx(10.5)
    why = bench.notices(Notice.INCONCLUSIVE)[0][1].why
    assert why == "no reference answered in 1.5 s"


def test_a_reference_must_answer_an_echo_of_the_same_check() -> None:
    """An answer to an earlier echo, however late it comes, proves nothing now."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.of_references(rtt_s=1.6)
    bench.run(60.0)
    assert bench.verdicts == []


def test_any_one_reference_is_enough() -> None:
    """The gateway is dead; a witness answers."""
    bench = Bench(shipped(references=(GATEWAY, WITNESS)))
    bench.paths[GATEWAY].answers = False
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(7.0)
    assert len(bench.verdicts) == 1


THIRD = "198.51.100.10"
THREE = (GATEWAY, WITNESS, THIRD)


@pytest.mark.parametrize("required", [1, 2, 3])
@pytest.mark.parametrize("answering", [0, 1, 2, 3])
def test_k_of_n_references_must_answer_in_each_check(required: int, answering: int) -> None:
    """Distinct ones: many answers of one are not two."""
    bench = Bench(shipped(references=THREE, references_required=required))
    bench.run(4.0)
    bench.of_primary(answers=False)
    for address in THREE[answering:]:
        bench.paths[address].answers = False
    bench.run(60.0)
    assert len(bench.verdicts) == (answering >= required)
    if answering >= required:
        told = bench.notices(Notice.FAILED)[0][1].why
        assert f"{answering} of 3 references answered" in told
        proof = f"answers from {required} of 3" if required > 1 else "an answer from a"
        assert f"each check with {proof} reference" in bench.notices(Notice.VERDICT)[-1][1].why
    elif answering:
        why = bench.notices(Notice.INCONCLUSIVE)[0][1].why
        assert why == f"{answering} of 3 references answered in time, {required} must"


def test_k_references_may_answer_one_after_the_other() -> None:
    """In one check, not in one round; and not in two checks."""
    policy = shipped(references=(GATEWAY, WITNESS), references_required=2)
    for change_s, verdicts in ((0.6, 1), (1.5, 0)):
        bench = Bench(policy)
        bench.run(5.9)
        bench.of_primary(answers=False)
        for k in range(round(6 / change_s)):
            bench.paths[GATEWAY].answers = k % 2 == 0
            bench.paths[WITNESS].answers = k % 2 == 1
            bench.run(change_s)
        assert len(bench.verdicts) == verdicts


def test_fewer_than_k_references_that_can_be_asked_are_a_doubt() -> None:
    """What we could not send to too many of them proves nothing; one that is left out may be."""
    policy = shipped(references=THREE, references_required=2)
    for unasked, verdicts in ((1, 1), (2, 0)):
        bench = Bench(policy)
        bench.run(4.0)
        bench.of_primary(answers=False)
        for address in THREE[:unasked]:
            bench.paths[address].refused = "no route"
        bench.run(30.0)
        assert len(bench.verdicts) == verdicts
    assert bench.notices(Notice.DOUBT)[0][1].why == "cannot send to 2 of 3 references: no route"


@pytest.mark.parametrize("rtt_s", [0.05, 0.3, 0.45])
@pytest.mark.parametrize("policy", [policy_of(threshold=1), shipped(threshold=1)])
def test_the_end_of_our_isolation_gives_a_slow_primary_its_time(
    policy: Policy, rtt_s: float
) -> None:
    """A single check, and our network returns at any point of it, a reference answering at once."""
    for k in range(60):
        bench = Bench(policy)
        bench.of_primary(rtt_s=rtt_s)
        bench.run(3 * policy.interval_s - 1.0)
        bench.of_primary(answers=False)
        bench.of_references(answers=False)
        bench.run(1.0 + 2 * policy.last_check_s * k / 60)
        bench.of_primary(answers=True)
        bench.of_references(answers=True)
        bench.run(10.0)
        assert bench.verdicts == [], k


@pytest.mark.parametrize("late_s", [0.0, 0.005])
@pytest.mark.parametrize("rtt_s", [0.04, 0.3, 5.0])
def test_a_slow_primary_leaves_each_check_something_to_prove(rtt_s: float, late_s: float) -> None:
    """However late its answers came: the rounds at the start of a check count, sent a bit late."""
    for policy in (shipped(), policy_of(timeout_s=0.1), policy_of(threshold=1)):
        bench = Bench(policy)
        bench.of_primary(rtt_s=rtt_s)
        bench.run(60.0)
        bench.of_primary(answers=False)
        end_s = bench.now_s + rtt_s + policy.interval_s + policy.verdict_s + 1.0
        while bench.now_s < end_s:
            bench.now_s = max(bench.now_s, bench.next_s() + late_s)
            bench.step()
        assert bench.says(Verdict.DOWN)


def test_references_that_cannot_be_asked_take_nothing_from_a_primary_that_answers() -> None:
    """Said once; the verdict stays, and is lost when the primary falls silent, too."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_references(refused="no route")
    bench.run(60.0)
    assert bench.says(Verdict.UP)
    assert len(bench.notices(Notice.VERDICT)) == 1
    assert len(bench.notices(Notice.DOUBT)) == 1
    bench.of_primary(answers=False)
    bench.run(6.1)
    assert bench.says(Verdict.UNKNOWN)
    assert bench.verdicts == []


@pytest.mark.parametrize("who", ["of_primary", "of_references"])
def test_what_could_not_be_sent_proves_nothing(who: str) -> None:
    """No carrier, no route, no buffer: the suspicion is dropped at once, the verdict after R."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(5.0)  # two checks have failed
    getattr(bench, who)(refused="no carrier on eth0")
    bench.run(0.3)
    assert not bench.detector.suspicious
    assert len(bench.notices(Notice.DOUBT)) == 1
    assert bench.says(Verdict.UP)
    bench.run(60.0)
    assert bench.verdicts == []
    assert bench.says(Verdict.UNKNOWN)
    assert len(bench.notices(Notice.DOUBT)) == 1, "one doubt is news once"
    getattr(bench, who)(refused="")
    restored_s = bench.now_s
    bench.run(8.0)
    assert restored_s + 4.5 <= bench.verdicts[0] <= restored_s + 7.5


def test_a_check_of_which_less_than_half_was_sent_proves_nothing() -> None:
    """Turns that come late, each within its limit, leave too few rounds."""
    policy = policy_of(interval_s=3.0, retry_interval_s=1.5)
    bench = Bench(policy)
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(2.0)
    while bench.now_s < 30.0:
        bench.freeze(0.9)
    assert bench.verdicts == []
    assert bench.notices(Notice.DOUBT) == []
    assert "rounds were sent" in bench.notices(Notice.INCONCLUSIVE)[-1][1].why


@pytest.mark.parametrize("late_s", [1.01, 1.6, 120.0])
def test_a_late_timer_drops_the_evidence(late_s: float) -> None:
    """A frozen process has not seen what it did not send."""
    bench = Bench(policy_of(interval_s=2.0, retry_interval_s=1.0))
    bench.run(3.0)
    bench.of_primary(answers=False)
    bench.run(3.8)
    assert bench.detector.failed_checks == 2
    bench.freeze(bench.detector.due_s - bench.now_s + late_s)
    assert not bench.detector.suspicious
    assert bench.notices(Notice.DOUBT)[0][1].why == f"the timer fired {late_s:.1f} s late"
    bench.run(2.9)
    assert bench.verdicts == []
    bench.run(0.2)
    assert len(bench.verdicts) == 1


@pytest.mark.parametrize(("check_s", "late_s"), [(1.0, 0.9), (3.0, 1.4)])
def test_a_short_delay_drops_nothing(check_s: float, late_s: float) -> None:
    """A timer up to max(1 s, R/2) late costs rounds, not the suspicion."""
    bench = Bench(policy_of(interval_s=3.0, retry_interval_s=check_s))
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(2.5)
    bench.freeze(bench.detector.due_s - bench.now_s + late_s)
    assert bench.detector.suspicious
    assert bench.notices(Notice.DOUBT) == []


# Grace after boot.


def test_no_verdict_in_the_grace_unless_the_primary_was_seen() -> None:
    """Power coming back to both hosts is not a dead primary."""
    bench = Bench(shipped(), options={"grace_until_s": 60.0})
    bench.of_primary(answers=False)
    bench.run(59.9)
    assert bench.verdicts == []
    bench.run(1.6)
    assert len(bench.verdicts) == 1


@pytest.mark.parametrize("options", [{"seen": True}, {}])
def test_having_seen_the_primary_ends_the_grace(options: dict[str, Any]) -> None:
    """Seen by this process, or by an earlier one of this boot."""
    bench = Bench(shipped(), options={"grace_until_s": 600.0, **options})
    bench.run(1.0 if options else 4.0)
    bench.of_primary(answers=False)
    bench.run(12.0)
    assert len(bench.verdicts) == 1


def test_grace_and_isolation_together_need_n_fresh_checks() -> None:
    """The grace ends while the references are silent."""
    bench = Bench(shipped(), options={"grace_until_s": 60.0})
    bench.of_primary(answers=False)
    bench.run(58.0)
    bench.of_references(answers=False)
    bench.run(10.0)
    bench.of_references(answers=True)
    bench.run(3.0)
    assert bench.verdicts == []
    bench.run(1.6)
    assert len(bench.verdicts) == 1


# Serving.


def serving(policy: Policy) -> Bench:
    """A bench whose primary is down and in whose place we serve."""
    bench = Bench(policy)
    bench.run(policy.interval_s * 1.5)
    bench.of_primary(answers=False)
    bench.run(policy.interval_s + policy.verdict_s)
    assert bench.says(Verdict.DOWN)
    bench.detector.serve(True, bench.now_s)
    bench.step()
    return bench


def test_serving_a_round_goes_out_twice_a_second() -> None:
    """The return is seen soon, and the primary's neighbour entry is repaired with each round."""
    bench = serving(shipped())
    before = len(bench.rounds)
    bench.run(10.0)
    assert 19 <= len(bench.rounds) - before <= 21
    assert all(round_.repair for round_ in bench.rounds[before:])
    assert not bench.detector.suspicious


def test_serving_our_isolation_changes_no_verdict() -> None:
    """What we serve on is not forgotten because our cable is out."""
    bench = serving(shipped())
    bench.of_references(answers=False)
    bench.run(60.0)
    bench.of_primary(refused="no carrier")
    bench.run(60.0)
    bench.freeze(30.0)
    assert bench.says(Verdict.DOWN)


def test_the_return_is_seen_with_the_first_answer() -> None:
    """K = 1 is the safest against two active sides."""
    bench = serving(shipped())
    bench.of_primary(answers=True)
    bench.run(0.5 + 2 * RTT_S)
    assert bench.says(Verdict.UP)
    assert bench.detector.seen


def test_a_return_needs_k_answered_rounds_in_a_row() -> None:
    """Two answers, a loss, two answers: still not three in a row."""
    bench = serving(shipped(recovery_threshold=3))
    bench.run(0.1)
    for answers in (True, True, False, True, True):
        bench.of_primary(answers=answers)
        bench.run(0.5)
        assert bench.says(Verdict.DOWN)
    began_s = bench.detector.answering_since_s
    bench.run(0.5)
    assert bench.says(Verdict.UP)
    assert bench.detector.answering_since_s == began_s
    assert began_s is not None
    assert bench.now_s - began_s < 1.6


def test_two_answers_of_one_round_count_once() -> None:
    """Two addresses, or a duplicate, are not two rounds, and break no row of them."""
    bench = serving(shipped(recovery_threshold=3, primary=(PRIMARY, CABLE)))
    bench.of_primary(answers=True, copies=2)
    bench.run(1.2)
    assert bench.says(Verdict.DOWN)
    bench.run(0.4)
    assert bench.says(Verdict.UP)


def test_serving_beside_a_living_primary_sees_it_die_again() -> None:
    """`failback: manual`: the primary answers, we serve, and it goes away once more."""
    policy = shipped()
    bench = serving(policy)
    bench.of_primary(answers=True)
    bench.run(5.0)
    assert bench.says(Verdict.UP)
    bench.of_primary(answers=False)
    silent_s = bench.now_s
    bench.run(6.0)
    assert bench.says(Verdict.DOWN)
    assert policy.verdict_s <= bench.verdicts[-1] - silent_s <= policy.verdict_s + 0.5
    assert not bench.detector.suspicious


def test_answering_since_survives_a_lost_echo_and_not_a_lost_check() -> None:
    """The delay of a delayed failback counts from there."""
    bench = Bench(shipped())
    bench.run(10.0)
    assert bench.detector.answering_since_s == pytest.approx(RTT_S)
    bench.of_primary(answers=False)
    bench.run(3.0)
    bench.of_primary(answers=True)
    bench.run(3.0)
    assert bench.detector.answering_since_s == pytest.approx(RTT_S)
    bench.of_primary(answers=False)
    bench.run(4.6)
    bench.of_primary(answers=True)
    bench.run(3.0)
    assert bench.detector.answering_since_s is not None
    assert bench.detector.answering_since_s > 13.0


# Rounds.


def test_steady_rounds_lie_on_an_absolute_grid() -> None:
    """Never "sleep after work": late turns leave no trace in the times of later rounds."""
    bench = Bench(shipped())
    bench.run(10.0)
    bench.freeze(2.3)
    bench.run(30.0)
    steady = [round_.sent_s for round_ in bench.rounds if round_.sent_s > 13.0]
    assert steady == [pytest.approx(15.0 + 3 * k) for k in range(len(steady))]
    assert not any(round_.repair for round_ in bench.rounds)


@every_policy
def test_suspicious_rounds_come_at_least_every_g(policy: Policy) -> None:
    """And one at the start of each check, so that no check is without a round."""
    bench = Bench(policy)
    bench.run(policy.interval_s * 1.5)
    bench.of_primary(answers=False)
    before = len(bench.rounds)
    bench.run(policy.interval_s / 2 + policy.verdict_s - SLACK_S)
    sent = bench.rounds[before:]
    gaps = [b.sent_s - a.sent_s for a, b in pairwise(sent)]
    assert max(gaps, default=0.0) <= policy.spacing_s + SLACK_S
    for k in range(policy.threshold):
        start_s = sent[0].sent_s + k * policy.check_s
        assert any(abs(round_.sent_s - start_s) < SLACK_S for round_ in sent)
    assert [round_.repair for round_ in sent] == [k > 0 for k in range(len(sent))]


def test_a_tick_before_its_time_does_nothing() -> None:
    """Any wake-up may call; only the deadline counts."""
    bench = Bench(shipped())
    bench.step()
    for _ in range(5):
        bench.now_s += 0.04
        assert bench.detector.tick(bench.now_s) is None
    assert len(bench.rounds) == 1


def test_rounds_are_numbered_without_gaps() -> None:
    """Streaks are counted by these numbers."""
    bench = Bench(shipped(), seed=3)
    bench.of_primary(loss=0.4)
    bench.run(300.0)
    assert [round_.number for round_ in bench.rounds] == list(range(1, len(bench.rounds) + 1))


@every_policy
def test_the_soft_timeout_follows_the_round_trip_within_bounds(policy: Policy) -> None:
    """At least g, at most the timeout and a check."""
    longest_s = min(policy.timeout_s, policy.check_s, policy.last_check_s)
    bench = Bench(policy)
    assert bench.detector.soft_timeout_s == min(policy.spacing_s, longest_s)
    for _ in range(100):
        answer = Answer(PRIMARY, 1, bench.now_s - 30.0)
        bench.detector.answered(answer, bench.now_s)
    assert bench.detector.soft_timeout_s == longest_s


def test_the_soft_timeout_is_that_of_rfc_6298() -> None:
    """SRTT + 4 RTTVAR, with gains of 1/8 and 1/4."""
    detector = Detector(policy_of(timeout_s=60.0, interval_s=60.0), 0.0)
    for rtt_s in (0.4, 0.2, 0.2):
        detector.answered(Answer(PRIMARY, 1, 10.0 - rtt_s), 10.0)
    smoothed_s, deviation_s = 0.4, 0.2
    for rtt_s in (0.2, 0.2):
        deviation_s = 0.75 * deviation_s + 0.25 * abs(smoothed_s - rtt_s)
        smoothed_s = 0.875 * smoothed_s + 0.125 * rtt_s
    assert detector.soft_timeout_s == pytest.approx(smoothed_s + 4 * deviation_s)


# What is told.


def test_each_check_is_told_with_its_numbers() -> None:
    """The evidence behind a verdict can be read."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(6.6)
    assert [told.why for _, told in bench.notices(Notice.FAILED)] == [
        f"check {k} of 3 failed: 6 rounds sent, references answered 6 echoes, the primary none"
        for k in (1, 2, 3)
    ]
    told = bench.notices(Notice.VERDICT)[-1][1]
    assert told.subject == Verdict.DOWN
    assert told.why.startswith("3 checks in a row failed: 18 echo rounds in 4.50 s")


def test_holding_still_is_told_after_twice_v_and_again() -> None:
    """The primary silent without a verdict: said, with how the references fare."""
    policy = shipped()
    bench = Bench(policy)
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.of_references(answers=False)
    bench.run(100.0)
    held = bench.notices(Notice.HELD)
    assert [at_s for at_s, _ in held] == [
        pytest.approx(6.0 + 9.0, abs=0.3),
        pytest.approx(6.0 + 9.0 + HELD_REPEAT_S, abs=0.6),
    ]
    assert held[0][1].why == "references answer in 0 of 6 checks"
    assert held[0][1].gap_s == pytest.approx(9.0, abs=0.3)
    bench.of_primary(answers=True)
    bench.run(200.0)
    assert len(bench.notices(Notice.HELD)) == 2


def test_holding_still_names_the_grace_and_the_missing_carrier() -> None:
    """Why there is no verdict is part of the news."""
    bench = Bench(shipped(), options={"grace_until_s": 60.0})
    bench.of_primary(answers=False)
    bench.run(10.0)
    why = bench.notices(Notice.HELD)[0][1].why
    assert why == "references answer in 6 of 6 checks, startup grace for 51 s more"
    bench = Bench(shipped())
    bench.of_primary(refused="no carrier on eth0")
    bench.run(13.0)
    assert bench.notices(Notice.HELD)[0][1].why == "cannot send to the primary: no carrier on eth0"


def test_a_verdict_ends_the_holding() -> None:
    """A dead primary with a verdict is not held."""
    bench = Bench(shipped())
    bench.run(4.0)
    bench.of_primary(answers=False)
    bench.run(200.0)
    assert len(bench.verdicts) == 1
    assert bench.notices(Notice.HELD) == []


def test_a_silent_reference_is_told_once_and_its_return_too() -> None:
    """After ten rounds and ten seconds without an answer."""
    bench = Bench(shipped(references=(GATEWAY, WITNESS)))
    bench.run(4.0)
    bench.paths[WITNESS].answers = False
    bench.run(100.0)
    silent = bench.notices(Notice.REFERENCE_SILENT)
    assert [told.subject for _, told in silent] == [WITNESS]
    assert silent[0][0] == pytest.approx(6.0 + QUIET_ROUNDS * 3.0)
    assert bench.detector.quiet_references == (WITNESS,)
    bench.paths[WITNESS].answers = True
    bench.run(6.0)
    assert len(bench.notices(Notice.REFERENCE_BACK)) == 1
    assert not bench.detector.quiet_references


def test_a_reference_that_has_never_answered_is_told_as_such() -> None:
    """Once, with what it means; with the cure where none has ever answered."""
    mute = "it has never answered, it may filter ICMP: cannot tell our own network by it"
    hint = "; hint: name a host that answers in witness_ips, or set neighbour_evidence"
    for others_answer in (True, False):
        bench = Bench(shipped(references=(GATEWAY, WITNESS)))
        bench.paths[GATEWAY].answers = False
        bench.paths[WITNESS].answers = others_answer
        bench.run(300.0)
        told = [told for _, told in bench.notices(Notice.REFERENCE_SILENT)]
        quiet = [GATEWAY] if others_answer else [GATEWAY, WITNESS]
        assert [notice.subject for notice in told] == quiet
        assert {notice.why for notice in told} == {mute + ("" if others_answer else hint)}
        assert bench.detector.mute_references == tuple(quiet)
        bench.of_references(answers=True)
        bench.run(6.0)
        assert bench.notices(Notice.REFERENCE_BACK)[0][1].why == "it answers"
        bench.of_references(answers=False)
        bench.run(60.0)
        assert bench.notices(Notice.REFERENCE_SILENT)[-1][1].why.startswith("no answer for")
        assert bench.detector.mute_references == ()


def test_a_detector_that_follows_another_knows_who_has_answered() -> None:
    """A changed configuration does not make a reference one that has never answered."""
    bench = Bench(shipped(), options={"heard": [GATEWAY]})
    assert bench.detector.heard_references == {GATEWAY}
    bench.of_references(answers=False)
    bench.run(60.0)
    assert bench.notices(Notice.REFERENCE_SILENT)[0][1].why.startswith("no answer for")


def test_a_reference_is_not_called_silent_in_less_than_ten_seconds() -> None:
    """Dense rounds are many in a second."""
    bench = Bench(policy_of(interval_s=0.1))
    bench.run(1.05)
    bench.of_references(answers=False)
    bench.run(QUIET_S - 0.2)
    assert bench.notices(Notice.REFERENCE_SILENT) == []
    bench.run(0.4)
    assert len(bench.notices(Notice.REFERENCE_SILENT)) == 1


def test_what_could_not_be_sent_to_a_reference_is_no_silence() -> None:
    """Don't know is not no."""
    bench = Bench(shipped(references=(GATEWAY, WITNESS)))
    bench.run(4.0)
    bench.paths[WITNESS].refused = "no carrier"
    bench.run(100.0)
    assert bench.notices(Notice.REFERENCE_SILENT) == []


def test_notices_come_in_an_order_that_makes_sense() -> None:
    """Nothing is cleared that was not suspected, and nothing fails without a suspicion."""
    for seed in range(20):
        bench = Bench(shipped(references=(GATEWAY, WITNESS)), seed=seed)
        for _ in range(30):
            bench.of_primary(loss=bench.rng.random(), answers=bench.rng.random() < 0.7)
            bench.of_references(loss=bench.rng.random(), answers=bench.rng.random() < 0.7)
            bench.run(bench.rng.random() * 10)
            if bench.rng.random() < 0.1:
                bench.freeze(bench.rng.random() * 3)
        orderly(bench)


def orderly(bench: Bench) -> None:
    suspected, verdict, ended = False, "", False
    for _, told in bench.told:
        match told.notice:
            case Notice.SUSPECT:
                assert not suspected or ended  # serving on the verdict ends it without a word
                suspected, ended = True, False
            case Notice.FAILED | Notice.INCONCLUSIVE:
                assert suspected
            case Notice.CLEARED:
                assert suspected
                suspected = False
            case Notice.DOUBT:
                suspected = False
            case Notice.VERDICT:
                assert told.subject != verdict, "told twice"
                verdict = told.subject
                ended = ended or verdict == Verdict.DOWN
    assert suspected or not bench.detector.suspicious


# Everything at once.


@settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
class AnyNetwork(RuleBasedStateMachine):
    """Rules are faults and time; `Bench` checks every verdict and every deadline."""

    @initialize(policy=policies(), seed=st.integers(0, 9999), grace_s=st.sampled_from((0.0, 20.0)))
    def begin(self, policy: Policy, seed: int, grace_s: float) -> None:
        self.bench = Bench(policy, seed=seed, options={"grace_until_s": grace_s})

    @rule(
        address=st.sampled_from(ADDRESSES),
        answers=st.booleans(),
        loss=st.sampled_from((0.0, 0.0, 0.1, 0.5)),
        rtt_s=st.sampled_from((RTT_S, RTT_S, 0.03, 0.4, 2.0)),
        refused=st.sampled_from(("", "", "", "no carrier")),
        error=st.sampled_from(("", "", "", "host unreachable")),
        copies=st.sampled_from((1, 1, 2)),
    )
    def change(self, address: str, **how: Any) -> None:
        if address in self.bench.paths:
            self.bench._set((address,), how)

    @rule(alive=st.booleans(), ours=st.booleans())
    def change_all(self, alive: bool, ours: bool) -> None:
        self.bench.of_primary(answers=alive, refused="", error="", loss=0.0)
        self.bench.of_references(answers=ours, refused="", error="", loss=0.0, rtt_s=RTT_S)

    @rule(share=st.floats(0.01, 2.5))
    def wait(self, share: float) -> None:
        self.bench.run(share * (self.bench.policy.verdict_s + self.bench.policy.interval_s))

    @rule(seconds=st.sampled_from((0.01, 0.2, 0.7, 1.2, 5.0, 100.0)))
    def freeze(self, seconds: float) -> None:
        self.bench.freeze(seconds)

    @rule(serves=st.booleans())
    def serve(self, serves: bool) -> None:
        """We serve on a verdict alone, and give up serving when it is over."""
        detector = self.bench.detector
        if detector.verdict is Verdict.DOWN and serves:
            detector.serve(True, self.bench.now_s)
        if detector.verdict is Verdict.UP and not serves:
            detector.serve(False, self.bench.now_s)
        self.bench.step()

    @invariant()
    def stays_sound(self) -> None:
        if hasattr(self, "bench"):
            detector = self.bench.detector
            assert 0 <= detector.failed_checks <= detector.policy.threshold
            assert detector.due_s <= self.bench.now_s + detector.policy.interval_s + SAME_S

    def teardown(self) -> None:
        """A crash after all this still gives a verdict, V to T + V later."""
        if not hasattr(self, "bench"):
            return
        bench, policy = self.bench, self.bench.policy
        clean = {"refused": "", "error": "", "loss": 0.0, "rtt_s": RTT_S, "copies": 1}
        bench.of_primary(answers=True, **clean)
        bench.of_references(answers=True, **clean)
        bench.detector.serve(False, bench.now_s)
        bench.step()
        bench.run(5.0 + 2 * policy.interval_s)
        assert bench.says(Verdict.UP)
        orderly(bench)
        before, crashed_s = len(bench.verdicts), bench.now_s
        bench.of_primary(answers=False)
        bench.run(policy.interval_s + policy.verdict_s + 2 * RTT_S)
        assert len(bench.verdicts) == before + 1
        assert bench.verdicts[-1] - crashed_s >= policy.verdict_s - 2 * RTT_S - SLACK_S


TestAnyNetwork = AnyNetwork.TestCase


# Promises 6 and 7.

SILENT_S, CUT_OFF_S, RESTORED_S = 5.0, 5.9, 8.0
CRASH = f"""
services app.service
policy interval=1 retry=0.5
at 0 primary up, gateway up
at {SILENT_S} primary silent
at 20 end
"""
CUT_OFF = f"{CRASH}\nat {CUT_OFF_S} gateway silent\nat {RESTORED_S} gateway up\n"


def takeover_s(life: str, *moves: str) -> float:
    """When a life leads to its one takeover, which ends well."""
    lines = sorted((*life.split("\n"), *moves), key=moment)
    found = [
        (at_s, entry.sentence)
        for at_s, entry in story.play(script.parse("\n".join(lines))).world.log
        if isinstance(entry, Event) and entry.kind is Kind.TRANSITION
    ]
    takeovers = [at_s for at_s, sentence in found if "-> takeover" in sentence]
    assert len(takeovers) == 1, found
    assert found[-1][1].startswith("takeover -> active"), found
    return takeovers[0]


def moment(line: str) -> float:
    return float(line.split()[1]) if line.startswith("at ") else -1.0


@pytest.mark.parametrize("life", [CRASH, CUT_OFF], ids=["crash", "cut off meanwhile"])
def test_a_restart_at_any_point_decides_the_same_and_never_on_less(life: str) -> None:
    """Promise 6: the process is killed every 50 ms of a life in turn."""
    undisturbed_s, verdict_s = takeover_s(life), 1.5
    for k in range(1, 240):
        killed_s = k * 0.05
        found_s = takeover_s(life, f"at {killed_s} kill")
        if killed_s > undisturbed_s:
            assert found_s == undisturbed_s
        elif killed_s < undisturbed_s - SLACK_S:
            assert found_s >= killed_s + RESTART_S + verdict_s - SLACK_S, killed_s
        if life == CUT_OFF:  # the check under way when our network came back may be the first
            assert found_s >= RESTORED_S + verdict_s - 0.5 - SLACK_S, killed_s
        elif killed_s > SILENT_S:
            assert found_s >= undisturbed_s, killed_s


def test_the_same_inputs_give_the_same_log() -> None:
    """Promise 7."""
    for seed in range(5):
        logs = []
        for _ in range(2):
            bench = Bench(shipped(references=(GATEWAY, WITNESS)), seed=seed)
            bench.of_primary(loss=0.5)
            bench.of_references(loss=0.3)
            bench.run(500.0)
            logs.append((bench.told, bench.rounds))
        assert logs[0] == logs[1]
    once, again = (story.play(script.parse(CUT_OFF)).world for _ in range(2))
    assert once.log == again.log
