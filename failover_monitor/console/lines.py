"""What all readers of the record share: lines for people, moments, spans of time.

Rule: piped is plain.  Colours only on a terminal, and only there is the library loaded for them;
what others wrote into a sentence never reaches a terminal as a command to it.
"""

import io
import re
import sys
import time
from collections.abc import Iterable

from failover_monitor.text import one_line

Line = tuple[tuple[str, str], ...]  # pieces of text, each with a style of rich

UNITS_S = {
    **dict.fromkeys(("us", "usec"), 1e-6),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("s", "sec", "second", "seconds", ""), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604_800.0),
}  # systemd.time(7), as far as anybody looks back or ahead
PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*")
STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


def show(lines: Iterable[Line]) -> None:
    """Print lines, in colours where there is a terminal for them."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if not sys.stdout.isatty():
        for line in lines:
            print("".join(one_line(text) for text, _ in line).rstrip())
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in lines:
        pieces = ((one_line(text), style) for text, style in line)
        console.print(Text.assemble(*pieces), soft_wrap=True)


def plain(text: str) -> Line:
    return ((text, ""),)


def day_and_time(at_s: float) -> str:
    """The local date and time of a moment (seconds since 1970), to the millisecond."""
    return f"{time.strftime('%Y-%m-%d', time.localtime(at_s))} {time_of_day(at_s)}"


def time_of_day(at_s: float) -> str:
    """The local time of a moment, to the millisecond."""
    milliseconds = int(at_s * 1000 + 0.5)
    seconds, rest = divmod(milliseconds, 1000)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest:03d}"


def iso(at_s: float) -> str:
    """The same for programs, with the offset from UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(at_s))


def span_s(text: str) -> float:
    """Seconds of a span as systemd has it: "30m", "2h 30min", "7d" or "90".  Raises ValueError."""
    parts, unread = PART.findall(text), PART.sub("", text.strip())
    if not parts or unread or any(unit not in UNITS_S for _, unit in parts):
        raise ValueError(f"{text!r} is no span of time")
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)


def fault(what: str, hint: str = "") -> None:
    """Say on stderr what cannot be done, and the cure where it is known."""
    print(f"cannot {one_line(what)}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
