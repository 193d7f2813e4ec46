"""Markdown tables, the lines that say whether a target was met, and the document they go into."""

import os
import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/measured.md"


@dataclass(frozen=True, slots=True)
class Target:
    """Something that was to be reached, and whether it was."""

    met: bool
    text: str

    def __str__(self) -> str:
        return f"- {'met' if self.met else '**missed**'}: {self.text}"


@dataclass(slots=True)
class Report:
    """What one part has to say."""

    tables: list[str]
    targets: list[Target] = field(default_factory=list)

    def text(self, command: str, machine: str) -> str:
        targets = "\n".join(map(str, self.targets))
        lines = [*self.tables, targets, f"{machine}  \nMade by `{command}`."]
        return "\n\n".join(line for line in lines if line)


class Load:
    """How busy the machine was."""

    def __init__(self) -> None:
        self._seen = [os.getloadavg()[0]]
        self._ticks = _ticks()

    def look(self) -> None:
        self._seen.append(os.getloadavg()[0])

    def machine(self) -> str:
        """The machine, and how busy it was since the beginning."""
        self.look()
        busy, total = (now - then for now, then in zip(_ticks(), self._ticks, strict=True))
        return (
            f"Machine: {os.cpu_count()} cores, Linux {platform.release()},"
            f" {platform.freedesktop_os_release()['PRETTY_NAME']};"
            f" load {min(self._seen):.1f} to {max(self._seen):.1f},"
            f" processors busy {100 * busy / max(total, 1):.0f} % of the time."
        )


def _ticks() -> tuple[int, int]:
    """Busy ticks and all ticks of all processors since boot (proc_stat(5))."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return sum(numbers) - numbers[3] - numbers[4], sum(numbers)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def seconds(value: float | None) -> str:
    """Three digits that mean something."""
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def ratio(value: float | None, base: float | None) -> str:
    return "-" if value is None or not base else f"{value / base:.2f}"


def spread(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Minimum, median and maximum."""
    if not values:
        return None, None, None
    return min(values), statistics.median(values), max(values)


def write(part: str, text: str) -> None:
    """Put a part's text between its markers in the document."""
    document = DOCUMENT.read_text()
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    if begin not in document or end not in document:
        raise SystemExit(f"cannot write {part}: {DOCUMENT} has no markers for it")
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    DOCUMENT.write_text(pattern.sub(lambda _: f"{begin}\n\n{text}\n\n{end}", document))
