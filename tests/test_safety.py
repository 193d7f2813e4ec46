"""docs/safety.md does not lie: every cell of its table is played, and its numbers are computed.

What the page promises comes from `safety`; what is seen comes from `truth`, which does not know it.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from failover_monitor import config, timing
from failover_monitor.model import (
    RENEWALS,
    RHO,
    ROUND_TRIP_S,
    SLACK_S,
    Evidence,
    Failback,
    FenceFailure,
    GuardPolicy,
    Policy,
)
from failover_monitor.safety import (
    FAULTS,
    OPEN,
    SERVING_INTERVAL_S,
    Fault,
    Result,
    boot_hold_needed_s,
    gone_after_s,
    lease_margin_s,
    open_rows,
    takeover_delay_needed_s,
    ttl_needed_s,
)
from tests import safety_table, truth
from tests.pair_simulation import links_of
from tests.pair_world import ARBITERS
from tests.safety_table import CABLE, CHECK, COLUMNS, FENCE, LEASE, PRIMARY, WITNESSED

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/safety.md").read_text()
SEEDS = (0, 1)  # clocks, and where between two echoes the fault begins
TENTH_S = 0.1
SAME_S = 1e-6  # sums of floats

GUARDED = COLUMNS["+ guard"]
MAY_FAIL = replace(FENCE, on_failure=FenceFailure.WAIT_FOR_GUARD)
TRIGGER = replace(CHECK, trigger=True)
TOGETHER = {
    "path, trigger": replace(WITNESSED, primary=(PRIMARY, CABLE), service_checks=(TRIGGER,)),
    "trigger, fence": replace(WITNESSED, service_checks=(TRIGGER,), fence=FENCE),
    "guard, path": replace(GUARDED, primary=(PRIMARY, CABLE)),
    "guard, check, fence": replace(
        GUARDED, service_checks=(CHECK,), fence=FENCE, takeover_delay_s=0.0
    ),
    "guard, fence that fails": replace(GUARDED, fence=MAY_FAIL),
    "lease, fence, path": replace(
        WITNESSED, lease=LEASE, fence=FENCE, primary=(PRIMARY, CABLE), failback=Failback.DELAYED
    ),
    "manual": replace(WITNESSED, failback=Failback.MANUAL, startup_grace_s=0.0),
    "neighbours, no grace": replace(
        COLUMNS["gateway alone"], neighbour_evidence=Evidence.ALL, startup_grace_s=0.0
    ),
}

every_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


# The plays.


@every_fault
@pytest.mark.parametrize("column", COLUMNS)
def test_every_cell(fault: Fault, column: str) -> None:
    """What the table says of a fault is what is seen when it happens; 128 cells."""
    policy = COLUMNS[column]
    expected = fault.outcome(policy)
    assert [truth.result(fault.name, policy, seed) for seed in SEEDS] == [expected] * len(SEEDS)


@every_fault
@pytest.mark.parametrize("names", TOGETHER)
def test_protections_together(fault: Fault, names: str) -> None:
    """More than one protection, or another failback: `check` is right there, too."""
    policy = TOGETHER[names]
    assert truth.result(fault.name, policy) is fault.outcome(policy)


def test_every_fault_has_a_play() -> None:
    """No row of the table without one, and no play without a row."""
    assert list(truth.PLAYS) == [fault.name for fault in FAULTS]


def test_a_play_sees_a_broken_promise() -> None:
    """A takeover without the delay that the guard needs: both ran, and it is seen."""
    hasty = replace(GUARDED, takeover_delay_s=0.0)
    fault = "cut off, and the guard hangs or a service will not stop"
    for name, pair in truth.played(fault, hasty, 0):
        pair.close_dual()
        assert max(pair.overlaps_s) > 1.0, name


def test_a_play_sees_a_takeover_of_a_living_primary() -> None:
    """Both its cards are cut off: it lives, the standby cannot know, and it is seen."""
    pair = truth.steady(COLUMNS["+ second path"], 0)
    truth.cut_off(pair)
    assert pair.started == [("S", False)]
    assert pair.seen() is Result.TWO_ACTIVE


@pytest.mark.parametrize("seed", range(3))
def test_a_guard_whose_host_drops_all_icmp_stops(seed: int) -> None:
    """Its own echoes are lost, too: to itself it is cut off, and so nobody overlaps."""
    pair = truth.steady(GUARDED, seed)
    pair.deaf.add("P")
    truth.primary_drops_icmp(pair)
    assert pair.seen() is Result.SAFE


@pytest.mark.parametrize("seed", range(3))
def test_a_second_path_that_leads_to_the_standby_alone_carries_no_lease(seed: int) -> None:
    """The primary loses its lease and answers: it stops, and nobody takes over."""
    pair = truth.steady(replace(COLUMNS["+ lease"], primary=(PRIMARY, CABLE)), seed)
    truth.lasting(pair, [*links_of("P"), *truth.second_card(("G", "W", *ARBITERS))])
    assert pair.seen() is Result.STAYS_DOWN


def test_a_fence_that_fails_means_no_takeover() -> None:
    """Nobody starts anything, whether the primary lives or not."""
    for play, seen in ((truth.cut_off, Result.HOLDS), (truth.host_dies, Result.STAYS_DOWN)):
        pair = truth.steady(COLUMNS["+ fence"], 0)
        pair.fence_fails = True
        play(pair)
        assert pair.seen() is seen


def test_without_the_store_the_primary_stops_and_nobody_new_serves() -> None:
    """A lease that nobody can renew ends; a second host never has it."""
    pair = truth.steady(COLUMNS["+ lease"], 0)
    truth.lasting(pair, [link for arbiter in ARBITERS for link in links_of(arbiter)])
    assert pair.seen() is Result.STAYS_DOWN
    assert pair.ran == {"P"}


# The page.


def test_the_tables_of_the_page_are_generated() -> None:
    """The truth table, and the one of the lab's tests, are what `safety_table` prints."""
    assert safety_table.markdown() in PAGE
    assert safety_table.proofs() in PAGE


def bold_cells(column: str) -> list[tuple[str, str]]:
    """Fault and outcome of the open cells, read from the page."""
    lines = PAGE[PAGE.index("| fault | gateway alone") :].split("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    number = head.index(column)
    cells = [(row[0], row[number]) for row in rows]
    return [(fault, cell.strip("*")) for fault, cell in cells if cell.startswith("**")]


@pytest.mark.parametrize("column", COLUMNS)
def test_check_prints_the_bold_cells(column: str) -> None:
    """What `failover-monitor check` calls open is what the table has in bold, with a cure each."""
    policy = COLUMNS[column]
    told = timing.facts(policy)["open"]
    assert [(row["fault"], row["outcome"]) for row in told] == bold_cells(column)
    assert all(row["cure"] for row in told)
    report = " ".join(timing.report(policy).split())
    for fault, outcome in bold_cells(column):
        assert f"{fault}: {outcome}; closed by" in report


def test_every_outcome_is_explained_on_the_page() -> None:
    """No word of the table without its sentence."""
    for result in Result:
        assert f"*{result.value.capitalize()}*" in PAGE.replace("\n", " "), result


def test_the_worked_example_is_the_arithmetic() -> None:
    """The shipped config.json with a guard: every number on the page is computed."""
    policy = shipped_with({})
    guard, verdict_s = policy.guard, policy.verdict_s
    assert guard
    text = PAGE[PAGE.index("Worked through") :]
    found = re.search(r"V = ([\d.]+) s.*\n.*F = (\d+), stop_limit = (\d+)", text)
    assert found
    assert numbers(found) == [verdict_s, guard.deadline_s, guard.stop_limit_s]
    bound_s = gone_after_s(guard) * (1 + RHO) + ROUND_TRIP_S
    found = re.search(r"\((\d+) \+ (\d+) \+ (\d+)\) 1.001 \+ 0.1 = ([\d.]+) s", text)
    assert found
    assert numbers(found) == [guard.deadline_s, SLACK_S, guard.stop_limit_s, round(bound_s, 2)]
    found = re.search(
        r"= ([\d.]+) s, so takeover_delay = ([\d.]+) s; takeover ([\d.]+) to ([\d.]+) s", text
    )
    assert found
    delay_s = takeover_delay_needed_s(verdict_s, guard)
    assert policy.takeover_delay_s == delay_s
    earliest_s = verdict_s + delay_s
    latest_s = earliest_s + policy.interval_s
    least_s = round(bound_s / (1 - RHO), 2)
    assert numbers(found) == pytest.approx([least_s, delay_s, earliest_s, latest_s])
    found = re.search(r"boot_hold >= .* = ([\d.]+) s, so ([\d.]+) s", text)
    assert found
    held_s = SERVING_INTERVAL_S + SLACK_S + guard.stop_limit_s
    hold_s = (held_s * (1 + RHO) + ROUND_TRIP_S) / (1 - RHO)
    assert numbers(found) == [round(hold_s, 2), boot_hold_needed_s(guard.stop_limit_s)]
    assert guard.boot_hold_s == boot_hold_needed_s(guard.stop_limit_s)


def test_the_fast_example_is_the_arithmetic() -> None:
    """The smallest numbers that a guard may have, on the page."""
    pattern = r'`"guard": (\{.*\})` gives ([\d.]+) s.*\s.*takeover ([\d.]+) to ([\d.]+) s'
    found = re.search(pattern, PAGE)
    assert found
    policy = shipped_with(json.loads(found[1]))
    assert policy.guard
    bound_s = gone_after_s(policy.guard) * (1 + RHO) + ROUND_TRIP_S
    earliest_s = policy.verdict_s + policy.takeover_delay_s
    told = [float(word) for word in found.groups()[1:]]
    expected = [round(bound_s, 2), earliest_s, earliest_s + policy.interval_s]
    assert told == pytest.approx(expected)


def shipped_with(guard: object) -> Policy:
    """The shipped configuration, with addresses that are no examples, and with a guard."""
    text = (ROOT / "config.json").read_text().replace('"192.0.2.', '"198.51.100.')
    keys = json.loads(text) | {"guard": guard}
    return config.parse(json.dumps(keys), ROOT / "config.json").policy


def numbers(found: re.Match[str]) -> list[float]:
    return [float(word) for word in found.groups()]


def test_the_lab_tests_that_the_page_names_exist() -> None:
    """A test that gets another name takes its row along; every row has one."""
    assert list(safety_table.PROOFS) == [fault.name for fault in FAULTS]
    for files in safety_table.PROOFS.values():
        for file, names in files.items():
            text = (ROOT / f"tests/lab/test_{file}.py").read_text()
            for name in names:
                assert re.search(rf"^(async )?def test_{name}\(", text, re.MULTILINE), name


def test_the_commands_of_the_page_exist() -> None:
    """Each can be typed as it stands."""
    told = PAGE[PAGE.index("## How it was tried") :]
    assert "pytest tests/test_safety.py" in told
    modules = re.findall(r"^python -m (tests\.\w+)", told, re.MULTILINE)
    assert set(modules) == {"tests.simulation", "tests.model_check", "tests.safety_table"}
    for module in modules:
        assert (ROOT / f"{module.replace('.', '/')}.py").exists()


# The arithmetic alone.

LENGTHS_S = (1.0, 2.0, 3.3, 5.0, 7.77, 30.0, 600.0)
guards = pytest.mark.parametrize(
    "guard", [GuardPolicy(deadline_s=f, stop_limit_s=t) for f in LENGTHS_S for t in LENGTHS_S[1:]]
)


def late_enough(verdict_s: float, delay_s: float, guard: GuardPolicy) -> bool:
    """(1) and (2), with the standby's clock fast and the primary's slow."""
    taken_over_s = (verdict_s + delay_s) * (1 - RHO)
    return taken_over_s >= gone_after_s(guard) * (1 + RHO) + ROUND_TRIP_S - SAME_S


@guards
def test_the_takeover_delay_is_long_enough_and_no_longer(guard: GuardPolicy) -> None:
    """It keeps the inequality; one tenth of a second less does not."""
    for verdict_s in LENGTHS_S:
        delay_s = takeover_delay_needed_s(verdict_s, guard)
        assert late_enough(verdict_s, delay_s, guard)
        assert delay_s == 0.0 or not late_enough(verdict_s, delay_s - TENTH_S, guard)


@guards
def test_the_takeover_delay_grows_with_the_guard_and_shrinks_with_the_verdict(
    guard: GuardPolicy,
) -> None:
    """More to wait for is never a shorter wait."""
    delays_s = [takeover_delay_needed_s(verdict_s, guard) for verdict_s in LENGTHS_S]
    assert delays_s == sorted(delays_s, reverse=True)
    for slower in (
        replace(guard, deadline_s=guard.deadline_s + 1),
        replace(guard, stop_limit_s=guard.stop_limit_s + 1),
    ):
        assert gone_after_s(slower) == gone_after_s(guard) + 1
        assert takeover_delay_needed_s(1.0, slower) > takeover_delay_needed_s(1.0, guard)


@pytest.mark.parametrize("rounds", [1, 2, 10])
@pytest.mark.parametrize("interval_s", [0.1, 0.5])
@pytest.mark.parametrize("limit_s", LENGTHS_S[1:])
def test_the_boot_hold_is_long_enough_and_no_longer(
    limit_s: float, interval_s: float, rounds: int
) -> None:
    """(3): the standby has seen it and has stopped; one tenth less and it may not have."""
    hold_s = boot_hold_needed_s(limit_s, interval_s, rounds)
    released_s = (rounds * interval_s + limit_s + SLACK_S) * (1 + RHO) + ROUND_TRIP_S
    assert hold_s * (1 - RHO) >= released_s - SAME_S
    assert (hold_s - TENTH_S) * (1 - RHO) < released_s + SAME_S
    assert boot_hold_needed_s(limit_s + 1, interval_s, rounds) > hold_s
    assert boot_hold_needed_s(limit_s, interval_s, rounds + 1) >= hold_s


@pytest.mark.parametrize("ttl_s", [5.0, 15.0, 60.0, 600.0])
@pytest.mark.parametrize("limit_s", LENGTHS_S[1:])
def test_what_runs_on_a_lease_is_gone_before_it_ends(ttl_s: float, limit_s: float) -> None:
    """(4), (5): with the holder's clock slow and the store's fast; the margin grows with the term.

    The store counts from a moment after the sending.
    """
    margin_s = lease_margin_s(ttl_s, limit_s)
    gone_s = (margin_s + limit_s + SLACK_S) / (1 - RHO)
    assert gone_s <= ttl_s / (1 + RHO)
    assert gone_s > ttl_s / (1 + RHO) * (1 - 2 * RHO)  # and not much sooner
    assert lease_margin_s(ttl_s + 1, limit_s) > margin_s > lease_margin_s(ttl_s, limit_s + 1)


@pytest.mark.parametrize("limit_s", LENGTHS_S[1:])
def test_the_shortest_term_leaves_time_for_two_renewals(limit_s: float) -> None:
    """One tenth of a second less does not."""
    ttl_s = ttl_needed_s(limit_s)
    assert lease_margin_s(ttl_s, limit_s) >= 2 * ttl_s / RENEWALS - SAME_S
    less_s = ttl_s - TENTH_S
    assert lease_margin_s(less_s, limit_s) < 2 * less_s / RENEWALS + SAME_S
    assert ttl_needed_s(limit_s + 1) > ttl_s


def test_open_rows_are_the_outcomes_that_are_open() -> None:
    """Each with its fault and what closes it; a policy that closes all leaves none."""
    everything = replace(
        WITNESSED, primary=(PRIMARY, CABLE), lease=LEASE, fence=FENCE, service_checks=(TRIGGER,)
    )
    assert open_rows(everything) == ()
    rows = open_rows(WITNESSED)
    assert rows
    assert all(outcome in OPEN for _, outcome, _ in rows)
