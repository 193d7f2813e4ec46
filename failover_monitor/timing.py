"""What the numbers of a configuration amount to, before anything has happened.

Rule: pure.  Every figure follows from the policy alone; all times are seconds.
"""

import textwrap
from dataclasses import dataclass
from math import ceil

from failover_monitor.model import Failback, Foreign, Policy

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


def numbers(policy: Policy) -> dict[str, float]:
    """The figures of the report, for programs; times in seconds, `loss_tolerated` from 0 to 1."""
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
        (
            len(policy.references) == 1,
            (
                "the gateway is the only reference: if it dies before the primary does, there is no"
                " takeover. witness_ips adds another."
            ),
        ),
        (
            len(policy.primary) == 1,
            (
                "the primary has one address: if only the path to it breaks, both hosts will serve."
                " A second path in active_ip, or a guard on the primary, helps."
            ),
        ),
    )
    return tuple(text for applies, text in found if applies)


def report(policy: Policy) -> str:
    """What `check` says about a good configuration, at most 30 lines for ordinary lists."""
    rows = (*_story(policy), ("", ""), *_figures(policy))
    lines = [_row(label, text) for label, text in rows]
    if cautions := warnings(policy):
        lines += ["", *(_row("warning", text) for text in cautions)]
    return "\n".join(lines)


def _story(policy: Policy) -> tuple[tuple[str, str], ...]:
    delay = f"waits {_seconds(policy.takeover_delay_s)}, " if policy.takeover_delay_s else ""
    foreign = {
        Foreign.REPORT: "is reported and left alone",
        Foreign.STOP: "is stopped",
    }[policy.foreign_start]
    return (
        ("primary", f"{_any_of(policy.primary)}: an answer means that it lives"),
        ("references", f"{_any_of(policy.references)}: an answer proves our own network"),
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


def _checks(policy: Policy) -> str:
    count, length = policy.threshold, _seconds(policy.check_s)
    lengths = f"{count} checks of {length} in a row"
    if count == 1:
        lengths = f"one check of {_seconds(policy.last_check_s)}"
    elif policy.last_check_s != policy.check_s:
        lengths += f" (the last: {_seconds(policy.last_check_s)})"
    return (
        f"an echo round every {_seconds(policy.spacing_s)}; {lengths} without an answer from the"
        " primary and with one from a reference make the verdict"
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
        break_long_words=False,
        break_on_hyphens=False,
    )
