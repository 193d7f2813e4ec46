"""What a configuration is safe against, and the arithmetic behind it.

Rule: pure; every word follows from the policy.  `check` prints it, docs/safety.md explains it,
and a claim that the numbers do not carry is refused when the configuration is read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from failover_monitor.model import (
    RENEWALS,
    RHO,
    ROUND_TRIP_S,
    SLACK_S,
    Evidence,
    Failback,
    GuardPolicy,
    Policy,
)

SERVING_INTERVAL_S = 0.5  # A: of a standby that serves, at most


# The inequalities.  t0 is when the primary is cut off; all clocks run apart by RHO at most.


def gone_after_s(guard: GuardPolicy) -> float:
    """From t0 until nothing runs on the primary: deadline, stop limit, slack.

    The stop limit bounds the orderly stop, the kill and the reset by the watchdog alike.
    """
    return guard.deadline_s + guard.stop_limit_s + SLACK_S


def takeover_delay_needed_s(verdict_s: float, guard: GuardPolicy) -> float:
    """(1) and (2): (V + delay)(1 - rho) >= gone_after (1 + rho) + d, in tenths of a second."""
    least_s = (gone_after_s(guard) * (1 + RHO) + ROUND_TRIP_S) / (1 - RHO) - verdict_s
    return max(0.0, ceil(round(least_s * 10, 6)) / 10)


def boot_hold_needed_s(
    stop_limit_s: float, interval_s: float = SERVING_INTERVAL_S, rounds: int = 1
) -> float:
    """(3): boot_hold (1 - rho) >= (K A + stop limit + slack)(1 + rho) + d."""
    released_s = rounds * interval_s + stop_limit_s + SLACK_S
    return ceil((released_s * (1 + RHO) + ROUND_TRIP_S) / (1 - RHO) * 10) / 10


def lease_margin_s(ttl_s: float, stop_limit_s: float) -> float:
    """(4) and (5): how long the last renewal carries before stopping must begin.

    Stopping, killing and the watchdog's reset fit between that moment and the end of the term.
    """
    return ttl_s * (1 - 2 * RHO) - stop_limit_s - SLACK_S


def ttl_needed_s(stop_limit_s: float) -> float:
    """The term that leaves two renewals' time before stopping must begin."""
    return ceil((stop_limit_s + SLACK_S) / (1 - 2 * RHO - 2 / RENEWALS) * 10) / 10


def arithmetic(policy: Policy) -> tuple[str, ...]:
    """The inequalities with this policy's numbers, a line each."""
    lines = []
    if guard := policy.guard:
        if policy.primary and not policy.lease and not policy.fence_holds:
            have_s = policy.verdict_s + policy.takeover_delay_s
            need_s = gone_after_s(guard)
            lines.append(
                f"(1)(2) earliest takeover {have_s:g} s after the first lost echo; the primary's"
                f" services are gone {need_s:g} s after it is cut off (deadline"
                f" {guard.deadline_s:g} + stop limit {guard.stop_limit_s:g} + slack {SLACK_S:g}):"
                f" {have_s * (1 - RHO):.2f} >= {need_s * (1 + RHO) + ROUND_TRIP_S:.2f}"
            )
        if not policy.lease:
            rounds, interval_s = policy.recovery_threshold, policy.serving_interval_s
            need_s = rounds * interval_s + guard.stop_limit_s + SLACK_S
            lines.append(
                f"(3) the primary waits {guard.boot_hold_s:g} s before it serves again; the standby"
                f" sees it and has stopped within {need_s:g} s:"
                f" {guard.boot_hold_s * (1 - RHO):.2f} >= {need_s * (1 + RHO) + ROUND_TRIP_S:.2f}"
            )
    if lease := policy.lease:
        margin_s = lease_margin_s(lease.ttl_s, policy.stop_limit_s)
        lines.append(
            f"(4)(5) a lease of {lease.ttl_s:g} s is renewed every {lease.ttl_s / RENEWALS:g} s;"
            f" without renewal stopping begins {margin_s:.2f} s after the last one was sent, and"
            f" all is gone {policy.stop_limit_s + SLACK_S:g} s later, within the term"
        )
    return tuple(lines)


# The truth table: what happens in each fault.


class Result(StrEnum):
    """What a fault leads to."""

    TAKEOVER = "takeover"  # rightly
    HOLDS = "holds"  # no takeover, rightly
    SAFE = "safe"  # the services may change hosts, and never run on two
    STAYS_DOWN = "stays down"  # nobody serves although somebody could
    BRIEFLY = "briefly two active"  # until the primary is heard, and one of the two has stopped
    TWO_ACTIVE = "two active"  # until the fault is over


OPEN = frozenset({Result.STAYS_DOWN, Result.BRIEFLY, Result.TWO_ACTIVE})


@dataclass(frozen=True, slots=True)
class Fault:
    """One row: a fault, what it leads to under a policy, and what closes it if it is open."""

    name: str
    outcome: Callable[[Policy], Result]
    cure: str


def two_paths(policy: Policy) -> bool:
    return len(policy.primary) > 1


def until_seen(policy: Policy) -> Result:
    """A primary serves again while we do: with failback "auto" we stop when it is heard."""
    return Result.BRIEFLY if policy.failback is Failback.AUTO else Result.TWO_ACTIVE


def host_dies(policy: Policy) -> Result:
    del policy
    return Result.TAKEOVER


def cut_off(policy: Policy) -> Result:
    if policy.guard or policy.lease or policy.fence_holds:
        return Result.SAFE
    return Result.TWO_ACTIVE


def one_cable_out(policy: Policy) -> Result:
    return path_broken(policy) if two_paths(policy) else cut_off(policy)


def nothing_wrong_with_primary(policy: Policy) -> Result:
    del policy
    return Result.HOLDS


def gateway_then_primary(policy: Policy) -> Result:
    many = len(policy.references) - policy.references_required >= 1
    return Result.TAKEOVER if many else Result.STAYS_DOWN


def path_broken(policy: Policy) -> Result:
    if policy.lease or two_paths(policy):  # with the lease the primary goes on renewing
        return Result.HOLDS
    return Result.SAFE if policy.fence_holds else Result.TWO_ACTIVE


def gateway_filters(policy: Policy) -> Result:
    seen = policy.neighbour_evidence is not Evidence.NONE
    return Result.TAKEOVER if seen else gateway_then_primary(policy)


def primary_filters(policy: Policy) -> Result:
    alive = policy.service_checks or policy.neighbour_evidence is Evidence.ALL
    if alive or policy.lease:
        return Result.HOLDS
    return Result.SAFE if policy.fence_holds else Result.TWO_ACTIVE


def service_dead(policy: Policy) -> Result:
    # With a lease that is refused: the primary's guard leases for the host, not for its service.
    return Result.TAKEOVER if policy.triggered else Result.STAYS_DOWN


def dead_service_returns(policy: Policy) -> Result:
    if service_dead(policy) is not Result.TAKEOVER:
        return Result.HOLDS
    return Result.SAFE if policy.fence_holds else until_seen(policy)


def guard_fails(policy: Policy) -> Result:
    return cut_off(policy)


def paused(policy: Policy) -> Result:
    if policy.fence_holds:
        return Result.SAFE
    # With a lease it is refused at the next renewal, and stops.
    return Result.BRIEFLY if policy.lease else until_seen(policy)


def returns_unseen(policy: Policy) -> Result:
    return Result.SAFE if policy.lease else Result.TWO_ACTIVE


def second_standby(policy: Policy) -> Result:
    return Result.TAKEOVER if policy.lease else Result.TWO_ACTIVE


def returns_while_we_serve(policy: Policy) -> Result:
    return Result.SAFE if policy.lease or policy.guard else until_seen(policy)


def power_returns(policy: Policy) -> Result:
    if policy.startup_grace_s > 0:
        return Result.HOLDS
    returns = returns_while_we_serve(policy)
    return Result.TAKEOVER if policy.fence_holds or returns is Result.SAFE else returns


TRIGGERED = 'a service check with "trigger", where there is neither guard nor lease'
GUARDED = "a guard on the primary, a lease or a fence"
FAULTS = (
    Fault("the primary host dies", host_dies, ""),
    Fault("the primary is cut off from everybody", cut_off, GUARDED),
    Fault("one cable of the primary is out", one_cable_out, f"a second path, {GUARDED}"),
    Fault("the standby is cut off", nothing_wrong_with_primary, ""),
    Fault("the gateway dies, the primary lives", nothing_wrong_with_primary, ""),
    Fault("the gateway dies, then the primary", gateway_then_primary, "witness_ips"),
    Fault("only the path between the two breaks", path_broken, "a second path, a lease or a fence"),
    Fault(
        "the gateway never answers ICMP, and the primary dies",
        gateway_filters,
        "witness_ips, or neighbour_evidence",
    ),
    Fault("the primary begins to drop ICMP", primary_filters, "service_checks, a lease or a fence"),
    Fault(
        "the host is up, its service is dead",
        service_dead,
        TRIGGERED,
    ),
    Fault("a dead service that made us take over comes back", dead_service_returns, "a fence"),
    Fault("cut off, and the guard hangs or a service will not stop", guard_fails, GUARDED),
    Fault("the primary is a virtual machine, paused and resumed", paused, "a fence"),
    Fault(
        "the primary returns while we serve",
        returns_while_we_serve,
        'a guard or a lease; shorter with failback "auto"',
    ),
    Fault("we serve and are cut off, and the primary returns", returns_unseen, "a lease"),
    Fault("two standbys watch one primary", second_standby, "a lease"),
    Fault("power returns to both hosts", power_returns, "startup_grace"),
)


def open_rows(policy: Policy) -> tuple[tuple[str, Result, str], ...]:
    """The faults that this policy leaves open: fault, outcome, cure."""
    outcomes = ((fault, fault.outcome(policy)) for fault in FAULTS)
    return tuple((f.name, outcome, f.cure) for f, outcome in outcomes if outcome in OPEN)
