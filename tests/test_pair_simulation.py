"""A pair in virtual time, on the production core: at most one side is active, whatever happens
within the promise of its protection; and the checker can fail, for each of the ways in which one
once did, or could have.
"""

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from failover_monitor import safety
from failover_monitor.contact import Contact
from failover_monitor.detector import Detector
from failover_monitor.leases import Ask, Reply
from failover_monitor.leases.keeper import Keeper, Wish
from failover_monitor.model import SLACK_S, Answer, GuardPolicy, Phase, Verdict
from failover_monitor.monitor import Monitor
from tests import pair_simulation
from tests.pair_simulation import Case, Fault, Outcome, Shape, case_of, part_of, play, prepared
from tests.pair_world import Host, Recorder, Store, World

SEEDS = range(12)
GUARD = Shape()  # the shipped example, with delays exactly as the inequalities demand
LEASE = Shape(ttl_s=15.0)
LIVE = 300  # faults of each class in this ring; a million at a release


def ran(
    script: list[Fault],
    shape: Shape = GUARD,
    *,
    seed: int = 0,
    tune: Callable[[World], object] = lambda world: None,
    rest_s: float = pair_simulation.REST_S,
) -> tuple[World, Outcome]:
    """One script on one pair; what no promise covers is not left out."""
    world = prepared(shape, seed)
    world.unbounded = True
    tune(world)
    return world, play(world, script, rest_s=rest_s)


def worst_of(
    script: list[Fault], shape: Shape = GUARD, tune: Callable[[World], object] = lambda world: None
) -> float:
    """The longest time with two active sides, over some phases and clocks."""
    return max(ran(script, shape, seed=seed, tune=tune)[1].worst_s for seed in SEEDS)


# The promise.


@pytest.mark.parametrize("kind", ["guard", "lease"])
def test_at_most_one_side_is_active(kind: str) -> None:
    """Random faults, and short sequences of them; afterwards one side serves."""
    tallies, failed = part_of(kind, 1, LIVE)
    told = [case_of(kind, seed).shrunk().told() for seed in failed[:1]]
    assert failed == [], told
    assert sum(tally.takeovers for tally in tallies.values()) > LIVE / 10, "nothing happened"


@pytest.mark.parametrize("kind", ["guard", "lease"])
def test_the_lean_monitor_decides_as_the_real_one(kind: str) -> None:
    """Each phase and each effect at the same moment, on random faults."""
    for seed in range(5000, 5120 if kind == "guard" else 5050):
        case = case_of(kind, seed)
        lean, real = case.play(trace=True), case.play(trace=True, monitor_class=Monitor)
        assert lean.timeline == real.timeline, f"seed {seed}"
        assert len(lean.timeline) > 2


def operated(seed: int, what: str) -> pair_simulation.Case:
    """A random case of a lease, with an operator who acts somewhere in it."""
    case, rng = case_of("lease", seed), random.Random(seed)
    wishes = [
        Fault(rng.uniform(0.0, 40.0), what, "S", rng.uniform(5.0, 60.0), rng.uniform(1.0, 60.0))
        for _ in range(rng.choice((1, 2)))
    ]
    return replace(case, script=(*case.script, *wishes))


@pytest.mark.parametrize("what", ["hold", "seize"])
def test_no_operator_makes_two_active_under_a_lease(what: str) -> None:
    """Paused or taken over by hand, at any moment of any fault: the lease alone says who serves."""
    acted = 0
    for seed in range(6000, 6060):
        case = operated(seed, what)
        outcome = case.play(trace=True, monitor_class=Monitor)
        assert outcome.dual_s <= pair_simulation.HARMLESS_S, case.told()
        assert what == "seize" or not outcome.unrest, case.told()
        acted += outcome.takeovers
    assert acted > 5, "nothing happened"


def test_a_paused_host_that_serves_stops_when_its_lease_is_gone() -> None:
    """It is cut off in the pause, and the primary is back: the pause holds no stop that is due."""
    script = [
        Fault(0.0, "crash", "P", amount=40.0),
        Fault(30.0, "hold", "S", amount=150.0),
        Fault(60.0, "isolate", "S", 60.0),
    ]
    for seed in SEEDS:
        world, outcome = ran(script, LEASE, seed=seed)
        assert (outcome.takeovers, outcome.dual_s, outcome.unrest) == (1, 0.0, "")
        assert world.hosts["P"].phase is Phase.SERVING


def test_nobody_takes_over_while_it_is_paused() -> None:
    """A crash in a pause: the takeover comes V after its end, and not before."""
    script = [Fault(0.0, "hold", "S", amount=60.0), Fault(5.0, "crash", "P", amount=200.0)]
    for seed in SEEDS:
        _, outcome = ran(script, LEASE, seed=seed)
        assert outcome.takeovers == 1
        after_s = outcome.first_takeover_s - 60.0 - LEASE.verdict_s
        assert -0.3 <= after_s <= LEASE.interval_s + 0.5


def test_a_crash_leads_to_one_takeover_in_time() -> None:
    """With a network that works: after V + delay, an echo interval later at most."""
    for seed in range(60):
        world, outcome = ran([Fault(0.0, "crash", "P", amount=60.0)], seed=seed)
        policy = world.hosts["S"].policy
        early_s = policy.verdict_s + policy.takeover_delay_s
        assert outcome.takeovers == 1
        assert early_s * 0.998 - 0.01 <= outcome.first_takeover_s
        assert outcome.first_takeover_s <= (early_s + policy.interval_s) * 1.002 + 0.3
        assert not outcome.failed


def test_a_crash_under_a_lease_leads_to_one_takeover_in_time() -> None:
    """As soon as the lease has run out and was asked for again."""
    for seed in range(30):
        _, outcome = ran([Fault(0.0, "crash", "P", amount=80.0)], LEASE, seed=seed)
        assert outcome.takeovers == 1
        assert outcome.first_takeover_s <= LEASE.ttl_s * 1.004 + LEASE.ttl_s / 6 + 0.5
        assert not outcome.failed


def test_the_product_demands_no_less_than_the_inequalities() -> None:
    """What `check` computes is the exact bound, rounded up to a tenth of a second."""
    for shape in (GUARD, replace(GUARD, deadline_s=2.0, stop_limit_s=3.0, check_s=1.0)):
        guard = GuardPolicy(deadline_s=shape.deadline_s, stop_limit_s=shape.stop_limit_s)
        delay_s = safety.takeover_delay_needed_s(shape.verdict_s, guard)
        assert shape.takeover_delay_s <= delay_s + 1e-9 <= shape.takeover_delay_s + 0.1 + 1e-6
        assert shape.boot_hold_s <= safety.boot_hold_needed_s(shape.stop_limit_s)


# Its limits: each of these must be seen to fail, or the checker proves nothing.


def test_only_the_path_between_the_two_is_cut() -> None:
    """A guard that sees the gateway goes on: two active, for as long as the cut lasts."""
    cut = Fault(0.0, "part", "P>S,S>P", 30.0)
    assert worst_of([cut]) > 15.0
    assert worst_of([cut], LEASE) == 0.0


def test_a_paused_virtual_machine() -> None:
    """Its clocks and its watchdog stand still as well: only a fence covers it."""
    script = [Fault(0.0, "pause", "P", amount=40.0), Fault(-1.0, "slow", "P", amount=2.0)]
    assert worst_of(script) > 0.1
    assert worst_of(script, LEASE) > 0.1


def test_a_standby_that_is_cut_off_while_it_serves() -> None:
    """Nothing stops it under a guard alone: the primary returns beside it.  A lease does."""
    script = [Fault(0.0, "crash", "P", amount=20.0), Fault(18.0, "isolate", "S", 30.0)]
    assert worst_of(script) > 5.0
    assert worst_of(script, LEASE) == 0.0


def test_echoes_that_are_lost_while_the_primary_returns() -> None:
    """The boot gate has no time for lost echoes: the standby may see the return too late."""
    slow = Fault(-1.0, "slow", "S", amount=3.9)
    lost = Fault(18.0, "part", "P>S,S>P", 6.0)
    script = [slow, Fault(0.0, "crash", "P", amount=18.5), lost]
    assert worst_of(script) > 0.5
    assert worst_of(script, LEASE) == 0.0


@pytest.mark.parametrize(
    ("short_s", "overlaps"), [(0.0, False), (0.8, True), (1.0, True), (2.0, True), (4.0, True)]
)
def test_the_takeover_delay_is_as_long_as_it_must_be(short_s: float, overlaps: bool) -> None:
    """Units that only a reset ends, a reset that takes the whole slack: every second counts."""
    shape = replace(GUARD, short_s=short_s)
    script = [Fault(-1.0, "immortal", "P"), Fault(0.0, "isolate", "P", 40.0)]
    found_s = 0.0
    for seed in range(60):
        world = prepared(shape, seed)
        world.reset_takes_s = SLACK_S
        at_s = at_an_answer(world)
        late = [replace(fault, at_s=fault.at_s + at_s) for fault in script]
        found_s = max(found_s, play(world, late).worst_s)
    assert (found_s > 0.0) is overlaps
    assert found_s <= short_s


def at_an_answer(world: World) -> float:
    """The moment just after an echo of P was answered, and just before S sends one."""
    world.run_until(-0.05)
    return min(at_s for at_s in (world.hosts["S"].turn_s - 0.001, 3.0) if at_s > 0.0)


def test_the_boot_gate_is_held_as_long_as_it_must_be() -> None:
    """A standby that stops as slowly as it may, and a primary that is back at once."""
    slow = [Fault(-1.0, "slow", "S", amount=4.0), Fault(0.0, "crash", "P", amount=20.0)]
    assert worst_of(slow) == 0.0
    assert worst_of(slow, replace(GUARD, hold_short_s=5.5)) > 0.0


# What went wrong once, here or elsewhere.


@dataclass(frozen=True, kw_only=True)
class Bug:
    """A mistake, planted into the production object; what it does to a script."""

    name: str
    plant: Callable[[pytest.MonkeyPatch], object]
    script: tuple[Fault, ...]
    shape: Shape = GUARD
    tune: Callable[[World], object] = lambda world: None
    harm: Callable[[World, Outcome], float] = lambda world, outcome: outcome.dual_s
    seeds: int = 12


def late_dropped(patch: pytest.MonkeyPatch) -> None:
    take = Detector._primary_answered

    def answered(self: Detector, answer: Answer, now_s: float) -> None:
        if now_s - answer.sent_s <= self.policy.timeout_s:
            take(self, answer, now_s)

    patch.setattr(Detector, "_primary_answered", answered)


def held_not_reset(patch: pytest.MonkeyPatch) -> None:
    """An inconclusive check leaves the count of failed ones as it is."""
    judge = Detector._inconclusive

    def inconclusive(self: Detector, suspicion: Any, now_s: float) -> None:
        failed = suspicion.failed
        judge(self, suspicion, now_s)
        suspicion.failed = failed

    patch.setattr(Detector, "_inconclusive", inconclusive)


def asked_once(patch: pytest.MonkeyPatch) -> None:
    """The references count at the verdict only."""
    judge = Detector._inconclusive

    def inconclusive(self: Detector, suspicion: Any, now_s: float) -> None:
        if suspicion.failed < self.policy.threshold - 1:
            self._fail(suspicion, now_s)
        else:
            judge(self, suspicion, now_s)
            suspicion.failed = self.policy.threshold - 1

    patch.setattr(Detector, "_inconclusive", inconclusive)


def drifts(patch: pytest.MonkeyPatch) -> None:
    """Sleep after work: every late turn moves all later ones."""

    def realign(self: Detector, now_s: float) -> None:
        policy = self.policy
        step_s = policy.serving_interval_s if self._serving else policy.interval_s
        self._next_round_s = now_s + step_s

    patch.setattr(Detector, "_realign", realign)


def counted_from_receipt(patch: pytest.MonkeyPatch) -> None:
    take = Contact.answered

    def answered(self: Contact, answer: Answer, now_s: float) -> None:
        take(self, replace(answer, sent_s=now_s), now_s)

    patch.setattr(Contact, "answered", answered)


def lease_from_receipt(patch: pytest.MonkeyPatch) -> None:
    take = Keeper.replied

    def replied(self: Keeper, reply: Reply, now_s: float) -> None:
        if self._last.number == reply.number:
            self._last = replace(self._last, sent_s=now_s)
        take(self, reply, now_s)

    patch.setattr(Keeper, "replied", replied)


def early_moment(patch: pytest.MonkeyPatch) -> None:
    """The delay begins with the first lost echo, not with the verdict."""
    tell = Detector._set_verdict

    def set_verdict(self: Detector, verdict: Verdict, why: str, now_s: float) -> None:
        start_s = self._suspicion.start_s if self._suspicion else now_s
        tell(self, verdict, why, now_s)
        if verdict is Verdict.DOWN:
            self.verdict_since_s = start_s

    patch.setattr(Detector, "_set_verdict", set_verdict)


def renewed_after_expiry(patch: pytest.MonkeyPatch) -> None:
    """A renewal writes, whoever holds it by now."""
    decide = Store.answer

    def answer(self: Store, host: str, boot: int, lease: tuple[str, int, int], ask: Ask) -> Reply:
        if ask.verb is Wish.RENEW and self.held:
            self.held.holder, self.held.boot, self.held.lease = host, boot, lease
        return decide(self, host, boot, lease, ask)

    def expired(self: Keeper, now_s: float) -> None:
        if self._open and now_s >= self._last.sent_s + self._answer_s:
            self._open = False
        if float("-inf") < self._ours_s <= now_s:
            self._ours_s, self.until_s = now_s + self._again_s, float("-inf")

    patch.setattr(Store, "answer", answer)
    patch.setattr(Keeper, "_pass_time", expired)


def never_fresh(patch: pytest.MonkeyPatch) -> None:
    decide = Store.answer

    def answer(self: Store, host: str, boot: int, lease: tuple[str, int, int], ask: Ask) -> Reply:
        return replace(decide(self, host, boot, lease, ask), fresh=False)

    patch.setattr(Store, "answer", answer)


def no_gate(patch: pytest.MonkeyPatch) -> None:
    """The units start at boot by themselves."""
    booted = Host.booted

    def without(self: Host) -> None:
        self.world.gated = False
        booted(self)

    patch.setattr(Host, "booted", without)


def pause_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(pair_simulation.DEEDS, "suspend", pair_simulation.pause)


def sent_rounds(world: World, outcome: Outcome) -> float:
    """How many rounds too few the standby has sent."""
    del outcome
    monitor = world.hosts["S"].monitor
    assert monitor
    planned = (world.now_s + GUARD.interval_s) / GUARD.interval_s
    return max(0.0, planned - monitor.detector.number - 5)


def takeovers(world: World, outcome: Outcome) -> float:
    del world
    return outcome.takeovers


ISOLATED = Fault(0.0, "isolate", "P", 40.0)
IMMORTAL = Fault(-1.0, "immortal", "P")
PATH = "P>S,S>P"
BUGS = (
    Bug(
        name="sleep after work: the rounds drift",
        plant=drifts,
        script=(Fault(0.0, "starve", "S", 300.0, 0.9),),
        harm=sent_rounds,
    ),
    Bug(
        name="an inconclusive check holds the count instead of resetting it",
        plant=held_not_reset,
        script=(Fault(0.0, "part", PATH, 24.6), Fault(2.9, "isolate", "S", 20.0)),
        shape=replace(GUARD, short_s=GUARD.takeover_delay_s),
        tune=lambda world: setattr(world.hosts["S"], "begins_s", -2.95),
        harm=takeovers,
    ),
    Bug(
        name="the gateway is asked only once, at the verdict",
        plant=asked_once,
        script=(Fault(0.0, "isolate", "S", 20.0), Fault(0.0, "part", PATH, 21.9)),
        shape=replace(GUARD, short_s=GUARD.takeover_delay_s),
        harm=takeovers,
    ),
    Bug(
        name="a late reply is dropped",
        plant=late_dropped,
        script=(Fault(0.0, "delay", "P", 30.0, 0.01),),
        tune=lambda world: setattr(world, "latency_s", 0.6),
        harm=takeovers,
    ),
    Bug(
        name="the watchdog is petted whatever still runs",
        plant=lambda patch: patch.setattr(Monitor, "trusted", property(lambda self: True)),
        script=(ISOLATED, IMMORTAL),
    ),
    Bug(
        name="there is no watchdog",
        plant=lambda patch: patch.setattr(Host, "bite", lambda host: host.kill(0.5)),
        script=(ISOLATED, IMMORTAL),
    ),
    Bug(
        name="contact is counted from the receipt",
        plant=counted_from_receipt,
        script=(
            IMMORTAL,
            Fault(-3.0, "delay", "P", 60.0, 4.0),
            Fault(0.0, "mute", "P", 40.0),
        ),
    ),
    Bug(
        name="the lease is counted from the receipt",
        plant=lease_from_receipt,
        script=(IMMORTAL, Fault(-3.0, "delay", "P", 60.0, 1.3), ISOLATED),
        shape=LEASE,
        tune=lambda world: setattr(world, "reset_takes_s", SLACK_S),
        seeds=60,
    ),
    Bug(
        name="the clock stands still in suspend",
        plant=pause_clock,
        script=(Fault(0.0, "suspend", "P", amount=30.0), Fault(29.0, "part", PATH, 6.0)),
        harm=lambda world, outcome: max(0.0, outcome.dual_s - 0.1),
    ),
    Bug(
        name="there is no boot gate",
        plant=no_gate,
        script=(Fault(0.0, "crash", "P", amount=20.0), Fault(-1.0, "slow", "S", amount=2.0)),
    ),
    Bug(
        name="what ignores SIGTERM is not killed",
        plant=lambda patch: patch.setattr(Host, "kill_unit", lambda host, unit: None),
        script=(ISOLATED, Fault(-1.0, "stubborn", "P", 90.0)),
        tune=lambda world: setattr(world, "bites", False),
    ),
    Bug(
        name="the takeover delay begins with the first lost echo",
        plant=early_moment,
        script=(ISOLATED, IMMORTAL),
    ),
    Bug(
        name="a restart forgets the deadline",
        plant=lambda patch: patch.setattr(Recorder, "kept_time", lambda self: None),
        script=(
            ISOLATED,
            Fault(4.4, "kill", "P", amount=0.9),
            Fault(9.8, "kill", "P", amount=0.9),
            Fault(-1.0, "slow", "P", amount=3.0),
        ),
    ),
    Bug(
        name="a lease is renewed after it expired",
        plant=renewed_after_expiry,
        script=(
            Fault(8.0, "part", "P>A1,P>A2,P>A3," + PATH, 30.0),
            Fault(-1.0, "slow", "S", amount=3.0),
            Fault(20.0, "part", PATH, 40.0),
        ),
        shape=LEASE,
    ),
    Bug(
        name="a new store is not waited for",
        plant=never_fresh,
        script=(
            Fault(0.0, "part", "P>A1,P>A2,P>A3," + PATH, 40.0),
            Fault(5.5, "store forgets"),
            IMMORTAL,
        ),
        shape=LEASE,
    ),
)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_historical_bug_is_found_again(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script is harmless on the production core, and is not once the bug is planted."""

    def harm() -> float:
        played = (ran(list(bug.script), bug.shape, seed=s, tune=bug.tune) for s in range(bug.seeds))
        return max(bug.harm(world, outcome) for world, outcome in played)

    assert harm() == 0.0
    bug.plant(monkeypatch)
    assert harm() > 0.0


# The tools.


def test_a_failing_script_is_shrunk_to_what_matters() -> None:
    """Of five lines the two remain without which it does not fail."""
    noise = (Fault(1.0, "silence", "W", 2.0), Fault(2.0, "starve", "S", 3.0, 0.1))
    script = (*noise, Fault(-1.0, "leave", "P"), ISOLATED, IMMORTAL)
    case = Case("guard", 1, replace(GUARD, short_s=6.5), "sequence", script)
    assert case.play().failed
    assert {fault.what for fault in case.shrunk().script} == {"isolate", "immortal"}
    assert "TWO ACTIVE" in case.shrunk().told()


def test_a_seed_is_one_timeline() -> None:
    """Played twice, it is the same to the last digit."""
    for seed in range(10):
        case = case_of("lease", seed)
        assert case.play(trace=True).timeline == case.play(trace=True).timeline


def command(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *options],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_what_came_of_a_class() -> None:
    """One line for each kind of fault, and one for all, with the seeds."""
    run = command("--faults", "guard", "--count", "40", "--seed", "7", "--workers", "1")
    assert run.returncode == 0, run.stdout
    assert "class guard, seeds 7 to 46: 40 faults, 0.000 dual-active seconds" in run.stdout
    told = command("--faults", "guard", "--count", "1", "--seed", "7", "--trace")
    assert "seed 7 of class guard" in told.stdout
    assert "P: unknown -> serving" in told.stdout
