"""What the numbers of a configuration amount to, before anything has happened.

Rule: pure.  Every figure follows from the policy alone; all times are seconds.
"""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

from failover_monitor import safety
from failover_monitor.model import (
    KILL_BEFORE_S,
    Evidence,
    Failback,
    FenceFailure,
    Foreign,
    GuardPolicy,
    HookPolicy,
    Policy,
    Role,
)

YEAR_S = 365.25 * 86_400
FALSE_VERDICTS_PER_YEAR = 1 / 1000  # the rate that `loss_tolerated` answers for
HASTY_VERDICT_S = 1.0  # below it, ordinary pauses of hosts and switches look like a crash
HASTY_REFERENCE_S = 0.05  # round trips of this length are ordinary
DEFAULT_TIMEOUT_S = 1.0  # may be longer than a check: nobody chose it
SAME_S = 1e-6  # moments closer than this are one: sums of floats
NAMES_SHOWN = 6  # of a long list
WIDTH = 96
LABEL = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """From the crash to the verdict, with a network of our own that answers."""

    shortest_s: float
    mean_s: float
    longest_s: float


def detection(policy: Policy) -> Detection:
    """V, V + T/2, V + T: the crash falls anywhere between two echo rounds."""
    verdict_s, interval_s = policy.verdict_s, policy.interval_s
    return Detection(
        shortest_s=verdict_s,
        mean_s=verdict_s + interval_s / 2,
        longest_s=verdict_s + interval_s,
    )


def outage_survived_s(policy: Policy) -> float:
    """V - g: whatever is shorter never makes a verdict."""
    return policy.verdict_s - policy.spacing_s


def rounds_before_verdict(policy: Policy) -> int:
    """M: echo rounds that must all stay unanswered."""
    lengths_s = [policy.check_s] * (policy.threshold - 1) + [policy.last_check_s]
    return sum(ceil((length_s - SAME_S) / policy.spacing_s) for length_s in lengths_s)


def loss_tolerated(policy: Policy) -> float:
    """The random loss of round trips (0 to 1) at one false verdict in a thousand years.

    Every T a row of M losses may begin, so p**M = rate * T.  Loss in bursts is another matter:
    only the length of V helps against it.
    """
    per_round = FALSE_VERDICTS_PER_YEAR * policy.interval_s / YEAR_S
    return float(per_round ** (1 / rounds_before_verdict(policy)))


def slowest_reference_s(policy: Policy) -> float:
    """The longest round trip of a reference with which every check still proves something.

    It must answer the round at the start of each check before that check ends; none is shorter
    than the last one.
    """
    return policy.last_check_s


def return_seen_s(policy: Policy) -> float:
    """From the return of the primary until it is seen, beside one round trip."""
    return policy.recovery_threshold * policy.serving_interval_s


def facts(policy: Policy) -> dict[str, Any]:
    """The report for programs; times in seconds, `loss_tolerated` from 0 to 1."""
    told: dict[str, Any] = {
        "role": policy.role.value,
        "enforced": policy.enforced,
        "services": list(policy.services),
    }
    if policy.role is Role.PRIMARY:
        guard = policy.limits
        gone_s = safety.gone_after_s(guard)
        return told | {"gone_after_s": gone_s, "boot_hold_s": guard.boot_hold_s}
    rows = ({"fault": f, "outcome": r.value, "cure": c} for f, r, c in safety.open_rows(policy))
    delay = {"takeover_delay_s": policy.takeover_delay_s}
    return told | numbers(policy) | delay | {"open": list(rows)}


def numbers(policy: Policy) -> dict[str, float]:
    """The figures of a standby."""
    times = detection(policy)
    return {
        "detection_min_s": times.shortest_s,
        "detection_mean_s": times.mean_s,
        "detection_max_s": times.longest_s,
        "outage_survived_s": outage_survived_s(policy),
        "echo_rounds": rounds_before_verdict(policy),
        "loss_tolerated": loss_tolerated(policy),
        "slowest_reference_s": slowest_reference_s(policy),
        "return_seen_s": return_seen_s(policy),
    }


def warnings(policy: Policy) -> tuple[str, ...]:
    """What is allowed, and yet deserves a second thought."""
    slowest_s = slowest_reference_s(policy)
    found = (
        (
            policy.verdict_s < HASTY_VERDICT_S,
            (
                f"the verdict takes only {_seconds(policy.verdict_s)}: a switch that reconverges or"
                " a virtual machine that is moved will look like a crash."
            ),
        ),
        (
            slowest_s < HASTY_REFERENCE_S,
            (
                f"a reference must answer within {_seconds(slowest_s)}: a slower one blocks every"
                " verdict."
            ),
        ),
        (
            policy.timeout_s > max(policy.check_s, DEFAULT_TIMEOUT_S),
            (
                f"ping_timeout ({_seconds(policy.timeout_s)}) is longer than a check"
                f" ({_seconds(policy.check_s)}), which bounds it."
            ),
        ),
        (
            policy.startup_grace_s == 0,
            "startup_grace is 0: when power returns to both hosts, the slower one looks dead.",
        ),
    )
    return tuple(text for applies, text in found if applies)


def report(policy: Policy) -> str:
    """What `check` says about a good configuration."""
    if policy.role is Role.PRIMARY:
        return "\n".join(_row(label, text) for label, text in _guard_story(policy))
    rows = (*_story(policy), *_protections(policy), ("", ""), *_figures(policy))
    lines = [_row(label, text) for label, text in rows]
    if cautions := warnings(policy):
        lines += ["", *(_row("warning", text) for text in cautions)]
    lines += ["", *(_row(label, text) for label, text in _open(policy))]
    return "\n".join(lines)


def _guard_story(policy: Policy) -> Iterator[tuple[str, str]]:
    guard = policy.limits
    others = (*policy.standby, *policy.references)
    yield "this host", "is the primary; a guard stops its services when it is cut off"
    yield "gate", _gate(policy, guard)
    yield "contact", f"{_any_of(others)}: an answer proves that this host is not cut off"
    if policy.lease:
        yield "lease", _lease(policy)
        yield "cut off", f"the lease is not renewed in time: {_stop(policy)}"
    else:
        deadline = _seconds(guard.deadline_s)
        yield "cut off", f"no answer to an echo of the last {deadline}: {_stop(policy)}"
    yield from _hooks(policy)
    yield "", ""
    for number, line in enumerate(safety.arithmetic(policy)):
        yield "" if number else "arithmetic", line
    if not policy.lease:
        gone = _seconds(safety.gone_after_s(guard))
        yield (
            "the standby",
            (
                'needs the same "guard" in its config.json: it must not serve earlier than'
                f" {gone} after this host was cut off"
            ),
        )


def _gate(policy: Policy, guard: GuardPolicy) -> str:
    starts = _in_turn(policy.services)
    if policy.lease:
        return f"starts {starts} when this host holds the lease"
    return f"starts {starts} after {_seconds(guard.boot_hold_s)} of answers without a gap"


def _stop(policy: Policy) -> str:
    limit_s = policy.stop_limit_s
    return (
        f"stops all of them at once, kills what is left after {_seconds(limit_s - KILL_BEFORE_S)},"
        f" and after {_seconds(limit_s)} systemd resets this host"
    )


def _lease(policy: Policy) -> str:
    lease = policy.lease
    if lease is None:
        return ""
    places = ", ".join(_shortened(lease.endpoints))
    return (
        f'"{lease.name}" for {_seconds(lease.ttl_s)} at a time, as "{lease.holder}", from'
        f" {lease.engine} at {places}"
    )


def _service_checks(policy: Policy) -> Iterator[tuple[str, str]]:
    for number, check in enumerate(policy.service_checks):
        use = "its answer holds a takeover"
        if check.trigger:
            use += f"; {check.threshold} failures in a row are a takeover"
        if check.gates:
            use += "; a delayed failback waits for it"
        every = f"every {_seconds(check.interval_s)}"
        yield "" if number else "service checks", f"{check.name}, {every}: {use}"


def _protections(policy: Policy) -> Iterator[tuple[str, str]]:
    yield from _service_checks(policy)
    if policy.neighbour_evidence is not Evidence.NONE:
        whose = {
            Evidence.REFERENCES: "a reference that never answered an echo",
            Evidence.ALL: "a reference that never answered an echo, and of the primary",
        }[policy.neighbour_evidence]
        yield "ARP and ND", f"an answer of {whose} counts"
    if policy.lease:
        yield "lease", f"{_lease(policy)}; only its holder serves"
    if fence := policy.fence:
        tries = f"{fence.retries + 1} tries" if fence.retries else "one try"
        waits = f"{_seconds(policy.takeover_delay_s)} after the verdict"
        fails = {
            FenceFailure.HOLD: "if it fails nothing starts",
            FenceFailure.WAIT_FOR_GUARD: f"if it fails the takeover begins {waits}",
        }[fence.on_failure]
        command = f"{fence.command[0]}, {tries} of at most {_seconds(fence.timeout_s)}"
        yield "fence", f"{command}, must succeed before a takeover; {fails}"
    yield from _hooks(policy)
    if policy.enforced:
        yield "stopping", f"is enforced here, too: {_stop(policy)}"
    if policy.guard:
        yield (
            "relies on",
            (
                "the guard that runs on the primary with these same numbers, and whose way to its"
                " references is the one that this host watches; this host cannot see either"
            ),
        )
    if policy.flap_window_s:
        window = _seconds(policy.flap_window_s)
        yield (
            "flapping",
            (
                f"each takeover of the last {window} makes the next one wait for"
                f" {_seconds(policy.verdict_s)} more; {policy.max_takeovers} of them, and none"
                " before `failover-monitor ack`"
            ),
        )
    for number, line in enumerate(safety.arithmetic(policy)):
        yield "" if number else "arithmetic", line


def _hooks(policy: Policy) -> Iterator[tuple[str, str]]:
    label = "hooks"
    for name in ("pre_takeover", "post_takeover", "pre_failback", "post_failback", "on_event"):
        hook: HookPolicy | None = getattr(policy.hooks, name, None)
        if hook is None:
            continue
        limit = f"for at most {_seconds(hook.timeout_s)}"
        use = {
            "pre_takeover": f"a takeover waits for it {limit}; if it fails "
            + ("nothing starts" if hook.veto else "that is told, and the takeover goes on"),
            "pre_failback": "runs beside the stops, which are enforced here"
            if policy.enforced
            else f"the stops wait for it {limit}",
        }.get(name, f"runs {limit}, nothing waits for it")
        yield label, f"{name}, {hook.command[0]}: {use}"
        label = ""


def _open(policy: Policy) -> Iterator[tuple[str, str]]:
    found = safety.open_rows(policy)
    if not found:
        yield "not safe against", "nothing in the table of docs/safety.md"
    for number, (fault, result, cure) in enumerate(found):
        yield "" if number else "not safe against", f"{fault}: {result}; closed by {cure}"


def _story(policy: Policy) -> tuple[tuple[str, str], ...]:
    delay = ""
    if policy.takeover_delay_s and not policy.waits_for_guard:
        delay = f"waits {_seconds(policy.takeover_delay_s)}, "
    foreign = {
        Foreign.REPORT: "is reported and left alone",
        Foreign.STOP: "is stopped",
    }[policy.foreign_start]
    many = policy.references_required
    proof = f"{many} of them must answer" if many > 1 else "an answer proves our own network"
    return (
        ("primary", f"{_any_of(policy.primary)}: an answer means that it lives"),
        ("references", f"{_any_of(policy.references)}: {proof}"),
        ("all is well", f"an echo round every {_seconds(policy.interval_s)}"),
        ("primary silent", _checks(policy)),
        ("on the verdict", f"{delay}starts {_in_turn(policy.services)}"),
        (
            "",
            (
                "Order is not dependence: the next one is asked when one is active, has failed or"
                " has been starting for 10 s. Put a true dependence into the unit (Requires=,"
                " RequiresMountsFor=)."
            ),
        ),
        ("primary back", _return(policy)),
        ("started by others", f"a service that runs while the primary answers {foreign}"),
    )


def _figures(policy: Policy) -> tuple[tuple[str, str], ...]:
    times, rounds = detection(policy), rounds_before_verdict(policy)
    loss_percent = int(100 * loss_tolerated(policy))
    loss = f"up to {loss_percent} %" if loss_percent else "less than 1 %"
    boot = f"no verdict for {_seconds(policy.startup_grace_s)}, unless the primary was seen"
    return (
        (
            "crash to verdict",
            (
                f"{_seconds(times.shortest_s)} to {_seconds(times.longest_s)},"
                f" mean {_seconds(times.mean_s)}"
            ),
        ),
        ("crash to takeover", _takeover(policy)),
        ("outage survived", f"shorter than {_seconds(outage_survived_s(policy))}, at any moment"),
        (
            "evidence",
            (
                f"{rounds} echo rounds, all unanswered; with random loss of {loss} one false"
                " verdict in 1000 years"
            ),
        ),
        (
            "references",
            f"must answer within {_seconds(slowest_reference_s(policy))}, or no verdict happens",
        ),
        ("return seen", f"within {_seconds(return_seen_s(policy))} and a round trip"),
        *([("after host boot", boot)] if policy.startup_grace_s else []),
    )


def _takeover(policy: Policy) -> str:
    """From the crash until the services are asked to start."""
    times = detection(policy)
    waits = []
    if policy.lease:
        waits.append(f"the end of the primary's lease (up to {_seconds(policy.lease.ttl_s)})")
    if policy.fence:
        waits.append("the fence")
    hook = policy.pre_takeover
    last = f", then the hook (up to {_seconds(hook.timeout_s)})" if hook else ""
    if waits:
        return f"the verdict, then {' and '.join(waits)}{last}"
    delay_s = policy.takeover_delay_s
    shortest, longest = _seconds(times.shortest_s + delay_s), _seconds(times.longest_s + delay_s)
    return f"{shortest} to {longest}{last}"


def _checks(policy: Policy) -> str:
    count, length = policy.threshold, _seconds(policy.check_s)
    lengths = f"{count} checks of {length} in a row"
    if count == 1:
        lengths = f"one check of {_seconds(policy.last_check_s)}"
    elif policy.last_check_s != policy.check_s:
        lengths += f" (the last: {_seconds(policy.last_check_s)})"
    many = policy.references_required
    proof = f"answers from {many} references" if many > 1 else "one from a reference"
    return (
        f"an echo round every {_seconds(policy.spacing_s)}; {lengths} without an answer from the"
        f" primary and with {proof} make the verdict"
    )


def _return(policy: Policy) -> str:
    stops = f"stops {_in_turn(policy.services[::-1])}"
    rounds = policy.recovery_threshold
    answered = "one answered round" if rounds == 1 else f"{rounds} answered rounds in a row"
    match policy.failback:
        case Failback.AUTO:
            return f"after {answered} {stops}"
        case Failback.DELAYED:
            return f"after {answered} and {_seconds(policy.recovery_delay_s)} without a gap {stops}"
        case Failback.MANUAL:
            return f"goes on serving; `failover-monitor failback` {stops}"


def _any_of(addresses: tuple[str, ...]) -> str:
    if len(addresses) == 1:
        return addresses[0]
    return f"any of {', '.join(_shortened(addresses))}"


def _in_turn(services: tuple[str, ...]) -> str:
    return ", then ".join(_shortened(services))


def _shortened(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) <= NAMES_SHOWN:
        return names
    return (*names[: NAMES_SHOWN - 1], f"{len(names) - NAMES_SHOWN + 1} more")


def _seconds(value: float) -> str:
    return f"{round(value, 3):.10g} s"


def _row(label: str, text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=label.ljust(LABEL),
        subsequent_indent=" " * LABEL,
        break_on_hyphens=False,
    )
