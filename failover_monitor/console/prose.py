"""The story in words: times, lengths, shares, and a sentence for everything that matters.

Rule: it only says what the story holds.  Times are local, and lengths have their unit.
"""

import logging
import time
from collections.abc import Iterator

from failover_monitor.console.lines import time_of_day
from failover_monitor.console.story import Episode, Story, Watched, rank
from failover_monitor.model import Role
from failover_monitor.text import length

SOME = 3  # takeovers that the first sentences tell of


def clock(at_s: float) -> str:
    return time.strftime("%a %d %b %Y, %H:%M:%S", time.localtime(at_s))


def zone(begin_s: float, end_s: float) -> str:
    """Such as "CET (UTC+01:00)"; two of them where the clocks were changed."""
    found = []
    for at_s in (begin_s, end_s):
        local = time.localtime(at_s)
        minutes = local.tm_gmtoff // 60
        sign = "-" if minutes < 0 else "+"
        hours, minutes = divmod(abs(minutes), 60)
        found.append(f"{local.tm_zone} (UTC{sign}{hours:02d}:{minutes:02d})")
    return ", then ".join(dict.fromkeys(found))


def percent(share: float) -> str:
    """A loss that is not zero never looks like zero."""
    if 0 < share < 0.0001:
        return "under\N{NO-BREAK SPACE}0.01\N{NO-BREAK SPACE}%"
    return f"{share * 100:.2f}".rstrip("0").rstrip(".") + "\N{NO-BREAK SPACE}%"


def counted(count: int, what: str) -> str:
    many = "es" if what.endswith(("ch", "o")) else "s"
    return f"{count:,} {what}{'' if count == 1 else many}"


def title(one: Episode) -> str:
    return f"{one.kind[0].upper()}{one.number}: {one.kind} on {clock(one.began_s)}"


def sentences(story: Story, role: str, limit_s: float | None) -> Iterator[str]:
    """The story, one sentence after the other."""
    what = "closing" if role == Role.PRIMARY else "takeover"
    if not story.episodes:
        yield f"No {what} is recorded."
    for one in story.episodes[:SOME]:
        yield episode_in_words(one)
    if len(story.episodes) > SOME:
        yield f"{counted(len(story.episodes) - SOME, f'more {what}')} below."
    yield from losses(story)
    if story.gaps:
        at_s, gap_s = max(story.gaps, key=lambda gap: gap[1])
        text = f"The longest silence that ended by itself took {length(gap_s)} ({clock(at_s)})"
        if limit_s:
            text += f"; with today's configuration {length(limit_s)} and more can make a verdict"
        yield f"{text}."
    if (unknown_s := story.time_in("unknown")) and role == Role.STANDBY:
        yield f"For {length(unknown_s)} the phase was unknown: everything was left as it was."
    if story.unwatched:
        total_s = sum(hole.length_s for hole in story.unwatched)
        stretches = counted(len(story.unwatched), "stretch")
        yield f"Nobody watched for {length(total_s)}, in {stretches}."
    bad = sum(rank(event.level) >= logging.ERROR for event in story.events)
    if bad:
        yield f"Errors or worse in the list of events: {bad:,}."


def losses(story: Story) -> Iterator[str]:
    """How many echoes stayed unanswered, a sentence for each side."""
    for name, which in (
        ("primary", "primary"),
        ("standby", "standby"),
        ("references", "reference"),
    ):
        paths = [path for path in story.paths if path.role == which and path.sent]
        if paths and all(path.sent <= path.answered for path in paths):
            yield f"Every echo to the {name} was answered."
        elif paths:
            sent = sum(path.sent for path in paths)
            lost = sum(max(0, path.sent - path.answered) for path in paths)
            yield (
                f"Of {counted(sent, 'echo')} to the {name} {lost:,} stayed unanswered"
                f" ({percent(lost / sent)})."
            )


def episode_in_words(one: Episode) -> str:
    """One takeover in one sentence."""
    text = title(one)
    if one.silent_since_s is not None:
        text += f", after a silence of {length(one.began_s - one.silent_since_s)}"
    if one.kind == "closing":
        return text + ("; open again at " + clock(one.over_s) if one.over_s else "") + "."
    if one.serving_s is None:
        text += "; not all services came to run"
    else:
        since = "the first unanswered echo" if one.silent_since_s is not None else "the decision"
        text += f"; all services ran here {length(one.to_serving_s or 0.0)} after {since}"
    if one.failback_s is not None:
        after = length(one.failback_s - one.began_s)
        text += f"; failback after {after}, at {time_of_day(one.failback_s)}"
    elif one.over_s is not None:
        text += f"; it ended without a failback at {time_of_day(one.over_s)}"
    else:
        text += "; its end is not recorded"
    return f"{text}."


def figures(story: Story, role: str) -> list[tuple[str, str, str]]:
    """The numbers at the top: name, value, remark."""
    guarded = role == Role.PRIMARY
    took_s = [one.to_serving_s for one in story.episodes if one.to_serving_s is not None]
    served_s = story.time_in("serving") if guarded else story.time_in("takeover", "active")
    main = [path for path in story.paths if path.role == ("standby" if guarded else "primary")]
    sent = sum(path.sent for path in main)
    lost = sum(max(0, path.sent - path.answered) for path in main)
    longest_s = max((gap_s for _, gap_s in story.gaps), default=None)
    unwatched_s = sum(hole.length_s for hole in story.unwatched)
    found = [
        (
            "Closings" if guarded else "Takeovers",
            str(len(story.episodes)),
            "as far as recorded" * bool(story.unwatched),
        ),
        ("Served here", length(served_s) if served_s else "never", ""),
    ]
    if took_s and not guarded:
        shortest, longest = length(min(took_s)), length(max(took_s))
        value = longest if shortest == longest else f"{shortest} to {longest}"
        found.append(("Time to takeover", value, f"{since_when(story)} to all services running"))
    if story.samples:
        told = "none" if longest_s is None else length(longest_s)
        found.append(("Longest silence", told, "that ended by itself"))
    if sent:
        to = "standby" if guarded else "primary"
        found.append(("Loss", percent(lost / sent), f"of {sent:,} echoes to the {to}"))
    found.append(("Nobody watched", length(unwatched_s) if unwatched_s else "never", ""))
    return found


def since_when(story: Story) -> str:
    """From when on the times to takeover count, of those whose services came to run."""
    ran = [one for one in story.episodes if one.serving_s is not None]
    exact = sum(one.silent_since_s is not None for one in ran)
    if exact == len(ran):
        return "from the first unanswered echo"
    if exact:
        return "from the first unanswered echo, or the decision where none is recorded,"
    return "from the decision"


def milliseconds(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def path_words(path: Watched) -> str:
    rtt_ms = path.rtt_ms
    times = "no answer"
    if rtt_ms:
        shortest, mean, longest = (milliseconds(value) for value in rtt_ms)
        times = f"shortest {shortest} ms, mean {mean} ms, longest {longest} ms"
    return f"{times}; {percent(path.loss)} of {path.sent:,} echoes lost"
