"""What came of a story, in figures and in one plain sentence.

Rule: only what the story can know.  A silent primary may be dead or merely cut off, and what a host
without a network sees of the others says nothing: then that is said, and no number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from failover_monitor.model import Policy, Role
from failover_monitor.rehearsal.story import Played, Scene

FEW_S = 0.05  # shorter than this is nothing in a timeline
Span = tuple[float, float, Scene]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Who served, as far as the story knows."""

    served_here: tuple[tuple[float, float], ...]  # every service, from when to when
    ends_s: float
    out_s: float  # the primary served nobody, for certain
    away_s: float  # it did not answer, dead or alive
    nobody_s: float | None  # neither it nor this host served, if it was dead; None: not known
    perhaps_both_s: float  # something ran here while it was away: if it was alive, both served
    some_s: float  # at least one service ran here, or had not stopped yet
    both_s: float  # and the primary answered meanwhile
    cut_off_s: float  # our own network was lost


def outcome_of(played: Played) -> Outcome:
    ends_s = played.world.now_s
    guarded = played.world.policy.role is Role.PRIMARY
    moments = [at_s for at_s, _ in played.scenes[1:]] + [ends_s]
    spans = [
        (at_s, end_s, scene) for (at_s, scene), end_s in zip(played.scenes, moments, strict=True)
    ]
    served: list[tuple[float, float]] = []
    for at_s, end_s, scene in spans:
        if scene.all_here and served and served[-1][1] == at_s:
            served[-1] = served[-1][0], end_s
        elif scene.all_here and end_s > at_s:
            served.append((at_s, end_s))
    cut_off_s = total(spans, lambda scene: not scene.linked)
    nobody_s = total(spans, lambda scene: not (scene.primary or scene.all_here))
    return Outcome(
        served_here=tuple(span for span in served if span[1] - span[0] > FEW_S),
        ends_s=ends_s,
        out_s=total(spans, lambda scene: scene.out),
        away_s=total(spans, lambda scene: not (scene.primary or scene.out)),
        perhaps_both_s=total(
            spans, lambda scene: scene.some_here and not (scene.primary or scene.out)
        ),
        nobody_s=None if guarded or cut_off_s > FEW_S else nobody_s,
        some_s=total(spans, lambda scene: scene.some_here),
        both_s=total(spans, lambda scene: scene.primary and scene.some_here),
        cut_off_s=cut_off_s,
    )


def total(spans: Sequence[Span], holds: Callable[[Scene], bool]) -> float:
    """For how long something held."""
    return sum(end_s - at_s for at_s, end_s, scene in spans if holds(scene))


def sentence(outcome: Outcome, policy: Policy) -> str:
    """What happened, in plain words."""
    if policy.role is Role.PRIMARY:
        return " ".join((where(outcome, policy), *of_a_guard(outcome)))
    return " ".join((where(outcome, policy), *of_a_standby(outcome)))


def where(outcome: Outcome, policy: Policy) -> str:
    """When the services ran here."""
    names = policy.services
    who = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    if not outcome.served_here:
        some = "all " if outcome.some_s > FEW_S and len(names) > 1 else ""
        return f"{who} did not {some}run here."
    times = [
        f"from {begin_s:.1f} s {'on' if end_s >= outcome.ends_s else f'to {end_s:.1f} s'}"
        for begin_s, end_s in outcome.served_here
    ]
    return f"{who} ran here {' and '.join(times)}."


def of_a_standby(outcome: Outcome) -> list[str]:
    """The time without service, and with two."""
    told = []
    if outcome.out_s > FEW_S:
        told.append(f"The primary served nobody for {outcome.out_s:.1f} s.")
    if outcome.nobody_s is None:
        told.append(
            "How long nobody served cannot be known: for"
            f" {outcome.cut_off_s:.1f} s this host's own network was lost."
        )
    elif outcome.away_s > FEW_S:
        told.append(
            f"The primary was away for {outcome.away_s:.1f} s, dead or alive: if it was dead,"
            f" nobody served for {outcome.nobody_s:.1f} s{if_alive(outcome)}."
        )
    elif outcome.out_s > FEW_S:
        told.append(f"Nobody served for {outcome.nobody_s:.1f} s.")
    else:
        told.append("The primary served all the time.")
    if outcome.both_s > FEW_S:
        told.append(f"For {outcome.both_s:.1f} s both hosts may have served.")
    return told


def if_alive(outcome: Outcome) -> str:
    both_s = outcome.perhaps_both_s
    return f"; if it was alive, both hosts served for {both_s:.1f} s" if both_s > FEW_S else ""


def of_a_guard(outcome: Outcome) -> list[str]:
    """What the other host did meanwhile, this story does not know."""
    here_s = sum(end_s - begin_s for begin_s, end_s in outcome.served_here)
    away_s = outcome.ends_s - here_s
    if away_s <= FEW_S:
        return []
    return [
        f"For {away_s:.1f} s they did not; what the standby did then, this story does not know."
    ]
