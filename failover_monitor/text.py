"""Text for people: one line that cannot do anything, and lengths of time.

Rule: pure.
"""

from itertools import pairwise

SIZES = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
DAYS_S = 2 * 86_400  # from here on a length is told in days


def one_line(text: str) -> str:
    """What others wrote, for a line of ours: it neither breaks the line nor draws on a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


def span(seconds: float) -> str:
    """Whole units that are over, the two largest: "12 s", "5 min 3 s", "3 h 12 min", "4 d 2 h"."""
    whole = max(0, int(seconds))
    for (unit, size), (smaller, part) in pairwise(SIZES):
        if whole >= (DAYS_S if unit == "d" else size):
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def length(seconds: float) -> str:
    """What was measured: "4.50 s", "12.3 s"; from a minute on a `span`."""
    if seconds >= 60:
        return span(seconds)
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
