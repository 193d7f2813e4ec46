"""Text for people."""

import pytest

from failover_monitor.text import length, one_line, span

HOUR_S, DAY_S = 3600.0, 86_400.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((-3.0, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60.0, "1 min"), (3599.0, "59 min 59 s")),
        *((HOUR_S, "1 h"), (HOUR_S + 59, "1 h"), (DAY_S, "24 h"), (DAY_S + 100, "24 h 1 min")),
        *((2 * DAY_S - 1, "47 h 59 min"), (2 * DAY_S, "2 d"), (3.2 * DAY_S, "3 d 4 h")),
    ],
)
def test_a_span_has_two_units_at_most(seconds: float, words: str) -> None:
    """Only what is over is counted: nothing is older than it is."""
    assert span(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.3, "0.30 s"),
        (9.994, "9.99 s"),
        (12.34, "12.3 s"),
        (59.96, "60.0 s"),
        (750.9, "12 min 30 s"),
    ],
)
def test_a_short_length_is_exact(seconds: float, words: str) -> None:
    """Up to a minute fractions of seconds count."""
    assert length(seconds) == words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("as it is: ä, 日本", "as it is: ä, 日本"),
        ("two\nlines\tand\u2028more", "two lines and more"),
        ("\x1b[2J\x00\u202e\udc80", "?[2J???"),
    ],
)
def test_a_line_neither_breaks_nor_draws(text: str, shown: str) -> None:
    """Also where it is what another terminal meant by its bytes."""
    assert one_line(text) == shown
