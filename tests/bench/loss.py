"""False takeovers while frames are lost at random at the standby's port, ARP included.

A cell is one contestant at one percentage: a switch of its own, one primary that is never cut, and
several standbys without an init whose hours add up.  Whatever is started there is a mistake.
Afterwards the loss ends and the primary really dies: a standby that does not see that was blind,
and its clean hours prove nothing.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import contestants
from tests.bench.contestants import CALLS, Contestant
from tests.bench.tables import Load, Report, Target, ratio, table
from tests.lab import rootfs
from tests.lab.hosts import Lab, LightHost

CONTESTANTS: tuple[Contestant, ...] = tuple(
    who for who in contestants.ALL if who is not contestants.FIVE_KEYS
)
SETTLE_S = 15.0
NOTICE_S = 20.0  # everybody takes over sooner than this


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One contestant at one percentage."""

    contestant: Contestant
    percent: float
    hours: float
    takeovers: tuple[int, ...]  # on each standby
    wrong_s: float  # summed over the standbys: started and not yet stopped
    frames_lost: int  # at their ports
    blind: tuple[str, ...] = ()  # the standbys that missed the real death

    @property
    def per_hour(self) -> float:
        return sum(self.takeovers) / self.hours


def loss(
    percents: Sequence[float], hosts: int, minutes: float, say: Callable[[str], None]
) -> Report:
    """All contestants side by side, one percentage after the other."""
    cells: list[Cell] = []
    loads = []
    for percent in percents:
        load = Load()
        cells += _row(percent, hosts, minutes, load, say)
        loads.append(f"{percent:g} %: {load.machine()}")
    return _report(cells, loads)


def _row(
    percent: float, hosts: int, minutes: float, load: Load, say: Callable[[str], None]
) -> list[Cell]:
    layers = [rootfs.installed_tree()]
    with ExitStack() as labs:
        switches = [labs.enter_context(Lab()) for _ in CONTESTANTS]
        standing = [
            (who, who.light(lab, hosts, layers))
            for who, lab in zip(CONTESTANTS, switches, strict=True)
        ]
        time.sleep(SETTLE_S)
        everyone = [host for _, standbys in standing for host in standbys]
        for host in everyone:
            host.write(CALLS, "")
        began_s = time.monotonic()
        for host in everyone:
            host.lose(percent)
        say(f"{percent:g} % loss each way at {len(everyone)} standbys, for {minutes:g} minutes")
        while (left_s := began_s + minutes * 60 - time.monotonic()) > 0:
            time.sleep(min(30.0, left_s))
            load.look()
        ended_s = float(Path("/proc/uptime").read_text().split()[0])
        hours = hosts * (time.monotonic() - began_s) / 3600
        cells = [_cell(who, percent, hours, standbys, ended_s) for who, standbys in standing]
        blind = _blind(switches, everyone)
    cells = [
        replace(cell, blind=tuple(host.name for host in standbys if host in blind))
        for cell, (_, standbys) in zip(cells, standing, strict=True)
    ]
    for cell in cells:
        name, wrong = cell.contestant.name, f"{cell.wrong_s:.1f} s wrong"
        seen = f"{cell.frames_lost} frames lost, {len(cell.blind)} blind at the end"
        say(f"{name} at {percent:g} %: {cell.takeovers}, {wrong}; {seen}")
    return cells


def _blind(switches: Sequence[Lab], everyone: Sequence[LightHost]) -> set[LightHost]:
    """The standbys that do not take over when the primary really dies on a good network."""
    for host in everyone:
        host.lose(0)
    time.sleep(SETTLE_S)
    for host in everyone:
        host.write(CALLS, "")
    for lab in switches:
        lab.hosts["primary"].cut()
    deadline_s = time.monotonic() + NOTICE_S
    waiting = set(everyone)
    while waiting and time.monotonic() < deadline_s:
        time.sleep(0.5)
        waiting = {host for host in waiting if "start" not in host.read(CALLS)}
    return waiting


def _cell(
    who: Contestant, percent: float, hours: float, standbys: Sequence[LightHost], ended_s: float
) -> Cell:
    calls = [host.read(CALLS) for host in standbys]
    return Cell(
        contestant=who,
        percent=percent,
        hours=hours,
        takeovers=tuple(text.count("start") for text in calls),
        wrong_s=sum(_wrong_s(text, ended_s) for text in calls),
        frames_lost=sum(host.port.lost() for host in standbys),
    )


def _wrong_s(calls: str, ended_s: float) -> float:
    """How long the unit ran, by the moments at which its start and stop were asked for."""
    total_s, since_s = 0.0, None
    for verb, stamp in (line.split() for line in calls.splitlines()):
        if verb == "start" and since_s is None:
            since_s = float(stamp)
        elif verb == "stop" and since_s is not None:
            total_s, since_s = total_s + float(stamp) - since_s, None
    return total_s + (0.0 if since_s is None else ended_s - since_s)


def _report(cells: Sequence[Cell], loads: Sequence[str]) -> Report:
    percents = list(dict.fromkeys(cell.percent for cell in cells))
    of = {(cell.contestant.name, cell.percent): cell for cell in cells}
    heads = ["false takeovers"]
    for percent in percents:
        heads += [f"{percent:g} %: count", "host-hours", "per hour", "x keepalived", "s wrongly on"]
    rows = []
    for who in CONTESTANTS:
        row = [who.name]
        for percent in percents:
            cell, peer = of[who.name, percent], of[_peer(who).name, percent]
            row += [
                str(sum(cell.takeovers)),
                f"{cell.hours:.1f}",
                f"{cell.per_hour:.2f}",
                ratio(cell.per_hour, peer.per_hour),
                f"{cell.wrong_s:.1f}",
            ]
        rows.append(row)
    return Report([table(heads, rows), "  \n".join(loads)], _targets(of, percents))


def _peer(who: Contestant) -> Contestant:
    """The keepalived that is as fast."""
    return contestants.KEEPALIVED_FAST if who.exact else contestants.KEEPALIVED


def _targets(of: dict[tuple[str, float], Cell], percents: Sequence[float]) -> list[Target]:
    targets = []
    for who in CONTESTANTS:
        if not isinstance(who, contestants.Ours):
            continue
        for percent in percents:
            cell, peer = of[who.name, percent], of[_peer(who).name, percent]
            count, others = sum(cell.takeovers), sum(peer.takeovers)
            allowed = 0 if percent <= 10 else others / 10
            targets.append(
                Target(
                    count <= allowed and cell.frames_lost > 0 and not cell.blind,
                    f"{who.name} at {percent:g} %: {count} false takeovers in {cell.hours:.1f}"
                    f" host-hours (at most {allowed:g}; {_peer(who).name}: {others}); afterwards"
                    f" {len(cell.takeovers) - len(cell.blind)} of {len(cell.takeovers)} standbys"
                    " noticed a real death",
                )
            )
    return targets
