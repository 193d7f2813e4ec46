"""Cut to unit active, return to unit stopped; and what our own verdict adds to the floor.

Every contestant has a lab of its own.  Those that need seconds are measured side by side; those
that need milliseconds, the one against the other, when nothing else runs.
"""

import random
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import contestants
from tests.bench.before import entrants
from tests.bench.contestants import Contestant
from tests.bench.tables import Report, Target, ratio, seconds, spread, table
from tests.lab.hosts import Host, Lab, SystemdHost, wait_until
from tests.lab.pair import APP, LOG

LONG_OUTAGE_S = 45.0  # longer than the kernel keeps a neighbour that does not answer
SHORT_OUTAGE_S = 1.5  # how long the unit serves before the primary returns
SETTLE_S = 2.0  # at least so long all is well before a cut
GIVE_UP_S = 30.0
ACTIVE_SOON_S = 0.3  # from the first process of a unit until systemd calls it active, and more
BARE_STARTS = 20
BARE_SOURCE = Path(__file__).with_name("bare_start.py")


@dataclass(slots=True)
class Run:
    """What was measured of one contestant; a time is missing where the thing never happened."""

    contestant: Contestant
    takeovers: list[float] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    after_long: tuple[float | None, float | None] = (None, None)
    since_verdict: list[float] = field(default_factory=list)  # verdict to unit active, ours alone
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One contestant in its lab, ready to be cut."""

    primary: Host
    standby: SystemdHost
    run: Run


def failover(cuts: int, before: str, say: Callable[[str], None]) -> Report:
    """Everybody, every cut; about ten minutes for 15 cuts."""
    everybody = entrants(contestants.ALL, before)
    groups = (
        [entrant for entrant in everybody if not entrant[0].exact],
        [entrant for entrant in everybody if entrant[0].exact],
    )
    runs: list[Run] = []
    bare: list[float] = []
    for group in groups:
        with ExitStack() as labs, ThreadPoolExecutor(len(group)) as pool:
            benches = [_bench(labs.enter_context(Lab()), who, [layer]) for who, layer in group]
            say(f"measuring side by side: {', '.join(who.name for who, _ in group)}")
            with_floor = [bench for bench in benches if bench.run.contestant.exact][:1]
            for bench in with_floor:
                bare += _bare_starts(bench)
            list(pool.map(lambda bench: _all_cuts(bench, cuts, say), benches))
            for bench in with_floor:
                bare += _bare_starts(bench)
            runs += [bench.run for bench in benches]
    return _report(runs, bare)


def _bench(lab: Lab, contestant: Contestant, layers: Sequence[Path]) -> Bench:
    primary, standby = contestant.pair(lab, layers)
    return Bench(primary=primary, standby=standby, run=Run(contestant))


def _all_cuts(bench: Bench, cuts: int, say: Callable[[str], None]) -> None:
    """Phases lie in strata, one for each cut, in random order: the extremes are really seen."""
    who = bench.run.contestant
    cut_phases = random.sample(range(cuts), cuts)
    heal_phases = random.sample(range(cuts), cuts)
    for number in range(cuts):
        rest_s = _phase(SETTLE_S, who.steady_s, cut_phases[number], cuts)
        serve_s = _phase(SHORT_OUTAGE_S, who.serving_s, heal_phases[number], cuts)
        _one_cut(bench, rest_s, serve_s, long=number == cuts // 2)
    say(f"done: {who.name}")


def _phase(least_s: float, interval_s: float, stratum: int, strata: int) -> float:
    """At least so long, and at a random moment of one stratum of the interval."""
    whole = interval_s * (int(least_s / interval_s) + (least_s % interval_s > 0))
    return whole + interval_s * (stratum + random.random()) / strata


def _one_cut(bench: Bench, rest_s: float, serve_s: float, *, long: bool) -> None:
    run, standby = bench.run, bench.standby
    time.sleep(rest_s)
    if standby.running(APP):
        run.faults.append("the unit ran before a cut")
        wait_until(lambda: not standby.running(APP), GIVE_UP_S, "the unit is stopped")
        time.sleep(rest_s)
    cut_s = bench.primary.cut()
    took_s = _seen(lambda: standby.running(APP), lambda: standby.active_since(APP) - cut_s)
    if took_s is None:
        run.faults.append("no takeover")
    else:
        run.takeovers.append(took_s)
        if verdict_s := _verdict_s(standby, cut_s):
            run.since_verdict.append(cut_s + took_s - verdict_s)
    time.sleep(max(serve_s, cut_s + LONG_OUTAGE_S - time.monotonic()) if long else serve_s)
    heal_s = bench.primary.heal()
    back_s = _seen(lambda: not standby.running(APP), lambda: standby.inactive_since(APP) - heal_s)
    if back_s is None:
        run.faults.append("no return")
        standby.systemctl("stop", APP)
    elif took_s is not None:
        run.returns.append(back_s)
    if long:
        run.after_long = took_s, back_s


def _seen(happened: Callable[[], bool], took: Callable[[], float]) -> float | None:
    """Look at the kernel alone until it has happened; ask systemd when it did only afterwards."""
    try:
        wait_until(happened, GIVE_UP_S, "it has happened")
    except AssertionError:
        return None
    time.sleep(ACTIVE_SOON_S)
    return took()


def _verdict_s(standby: SystemdHost, since_s: float) -> float | None:
    """When our monitor logged its latest verdict, on the clock of the cuts."""
    if not standby.exists(LOG):
        return None
    found = re.findall(r"^(\S+ \S+),(\d{3}) \[\w+\] verdict down", standby.read(LOG), re.MULTILINE)
    if not found:
        return None
    stamp = datetime.strptime(found[-1][0], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    verdict_s = stamp.timestamp() + int(found[-1][1]) / 1000 + time.monotonic() - time.time()
    return verdict_s if verdict_s > since_s else None


def _bare_starts(bench: Bench) -> list[float]:
    """StartUnit over a connection that is kept open, on the same host, our monitor being away."""
    standby, service = bench.standby, bench.run.contestant.service
    standby.systemctl("stop", service)
    standby.write("/opt/bare_start.py", BARE_SOURCE.read_text())
    python = "/opt/failover-monitor/current/venv/bin/python"
    words = (python, "-I", "/opt/bare_start.py", APP, str(BARE_STARTS))
    lines = standby.run(*words, within=120).stdout.split()
    standby.systemctl("start", service)
    time.sleep(2)
    return [float(line) for line in lines]


def _report(runs: Sequence[Run], bare: Sequence[float]) -> Report:
    loop = next(run for run in runs if run.contestant is contestants.LOOP_OF_PING)
    base, base_back = spread(loop.takeovers)[1], spread(loop.returns)[1]
    rows = []
    for run in runs:
        least, median, most = spread(run.takeovers)
        back_least, back_median, back_most = spread(run.returns)
        rows.append(
            [
                run.contestant.name,
                str(len(run.takeovers)),
                *map(seconds, (least, median, most)),
                ratio(median, base),
                *map(seconds, (back_least, back_median, back_most)),
                ratio(back_median, base_back),
                *map(seconds, run.after_long),
                "; ".join(run.faults) or "none",
            ]
        )
    heads = (
        "seconds",
        "cuts",
        "cut → active: min",
        "median",
        "max",
        "x loop",
        "return → stopped: min",
        "median",
        "max",
        "x loop",
        "45 s outage: active",
        "stopped",
        "faults",
    )
    floor = spread([value * 1000 for value in bare])[1]
    verdicts = [
        (run.contestant.name, spread([value * 1000 for value in run.since_verdict])[1])
        for run in runs
        if run.since_verdict
    ]
    floors = [["a bare D-Bus StartUnit", f"{floor:.1f}" if floor else "-", "1.00"]]
    floors += [
        [f"{name}: verdict → active", f"{ms:.1f}", ratio(ms, floor)] for name, ms in verdicts if ms
    ]
    tables = [table(heads, rows), table(("median", "ms", "x bare"), floors)]
    return Report(tables, _targets(runs, dict(verdicts), floor))


def _targets(
    runs: Sequence[Run], verdicts: dict[str, float | None], floor: float | None
) -> list[Target]:
    of = {run.contestant.name: run for run in runs}

    def most(who: Contestant) -> float:
        return spread(of[who.name].takeovers)[2] or float("inf")

    def median(who: Contestant) -> float:
        return spread(of[who.name].takeovers)[1] or float("inf")

    five, shipped = contestants.FIVE_KEYS, contestants.SHIPPED
    fast, sub = contestants.FAST, contestants.SUB_SECOND
    slow_peer, fast_peer = contestants.KEEPALIVED, contestants.KEEPALIVED_FAST
    ours = [run for run in runs if isinstance(run.contestant, contestants.Ours)]
    slowest_return = max(max(run.returns, default=float("inf")) for run in ours)
    overhead = (verdicts.get(sub.name) or float("inf")) / (floor or float("nan"))
    faults = sum(len(run.faults) for run in ours)
    return [
        Target(most(five) <= 10.2, f"five keys alone: {most(five):.2f} s at most (target 10.2)"),
        Target(median(shipped) <= 6.3, f"shipped example: median {median(shipped):.2f} s (6.3)"),
        Target(most(shipped) <= 7.7, f"shipped example: {most(shipped):.2f} s at most (7.7)"),
        Target(
            median(fast) <= median(slow_peer),
            f"fast profile: median {median(fast):.2f} s (keepalived: {median(slow_peer):.2f})",
        ),
        Target(
            median(sub) <= median(fast_peer),
            f"sub-second profile: median {median(sub):.3f} s (keepalived: {median(fast_peer):.3f})",
        ),
        Target(slowest_return <= 1.1, f"return → stopped: {slowest_return:.2f} s at most (1.1)"),
        Target(overhead <= 1.5, f"verdict → active: {overhead:.2f} x a bare StartUnit (1.5)"),
        Target(faults == 0, f"{faults} cuts of ours went wrong (0)"),
    ]
