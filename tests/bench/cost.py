"""What it costs the standby to watch a healthy primary: processor, memory, packets.

Every standby has a copy of the root file system to itself: hosts that share one also share the
pages of their programs, and each of them would seem to need less memory than it does alone.
"""

import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench import contestants
from tests.bench.before import entrants
from tests.bench.contestants import Contestant
from tests.bench.tables import Report, Target, ratio, table
from tests.lab import rootfs
from tests.lab.hosts import Lab, SystemdHost

WARM_UP_S = 15.0
COPIES = Path("/run/bench")  # on the tmpfs of the room


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One contestant's cost."""

    contestant: Contestant
    cpu_ms_min: float
    rss_mb: float
    pss_mb: float
    to_primary_min: float
    from_primary_min: float


@dataclass(frozen=True, slots=True)
class Bench:
    """One contestant in its lab."""

    contestant: Contestant
    lab: Lab
    standby: SystemdHost


def cost(seconds: float, before: str, say: Callable[[str], None]) -> Report:
    """Everybody side by side, for so long."""
    everybody, tree = entrants(contestants.ALL, before), rootfs.tree()
    with ExitStack() as labs, ThreadPoolExecutor(len(everybody)) as pool:
        benches = []
        for number, (who, installed) in enumerate(everybody):
            lab = labs.enter_context(Lab())
            layers = [_copy(path, COPIES / str(number)) for path in (installed, tree)]
            benches.append(Bench(who, lab, who.pair(lab, layers)[1]))
        say(f"everybody watches; measuring for {seconds:g} s")
        time.sleep(WARM_UP_S)
        costs = list(pool.map(lambda bench: _measure(bench, seconds), benches))
    return _report(costs)


def _copy(path: Path, where: Path) -> Path:
    copy = where / path.name
    where.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", str(path), str(copy)], check=True)
    return copy


def _measure(bench: Bench, seconds: float) -> Cost:
    """Frames are counted at the primary's switch port, by direction and not by address."""
    who, lab, standby = bench.contestant, bench.lab, bench.standby
    port, namespace = lab.hosts["primary"].port.name, lab.switch.namespace.path
    dumps = [
        subprocess.Popen(
            [
                "nsenter",
                f"--net={namespace}",
                "tcpdump",
                "-Z",
                "root",
                "-i",
                port,
                "-Q",
                direction,
                "-w",
                "/dev/null",
                "ip or arp",
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for direction in ("out", "in")  # as the switch sees it: out = to the primary
    ]
    time.sleep(1)
    group = standby.cgroup(who.service)
    began_s, used_us = time.monotonic(), _usage_us(group)
    time.sleep(seconds)
    minutes = (time.monotonic() - began_s) / 60
    used_us = _usage_us(group) - used_us
    memory = _memory_kb(standby, who.service)
    counted = []
    for dump in dumps:
        dump.send_signal(signal.SIGINT)
        match = re.search(r"(\d+) packets? captured", dump.communicate()[1])
        counted.append(int(match[1]) / minutes if match else float("nan"))
    return Cost(
        contestant=who,
        cpu_ms_min=used_us / 1000 / minutes,
        rss_mb=memory["Rss"] / 1024,
        pss_mb=memory["Pss"] / 1024,
        to_primary_min=counted[0],
        from_primary_min=counted[1],
    )


def _usage_us(group: Path) -> int:
    """Processor time of a unit, its children that have ended included."""
    return int((group / "cpu.stat").read_text().split()[1])


def _memory_kb(standby: SystemdHost, service: str) -> dict[str, int]:
    total = {"Rss": 0, "Pss": 0}
    for pid in standby.pids(service):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for name in total:
            match = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
            total[name] += int(match[1]) if match else 0
    return total


def _report(costs: Sequence[Cost]) -> Report:
    loop = next(one for one in costs if one.contestant is contestants.LOOP_OF_PING)
    rows = [
        [
            one.contestant.name,
            f"{one.cpu_ms_min:.1f}",
            ratio(one.cpu_ms_min, loop.cpu_ms_min),
            f"{one.rss_mb:.1f}",
            f"{one.pss_mb:.1f}",
            f"{one.to_primary_min:.1f}",
            f"{one.from_primary_min:.1f}",
        ]
        for one in costs
    ]
    heads = (
        "steady",
        "CPU ms/min",
        "x loop",
        "RSS MB",
        "PSS MB",
        "packets/min to primary",
        "from it",
    )
    targets = []
    for one in costs:
        if one.contestant in (contestants.FIVE_KEYS, contestants.SHIPPED):
            name = one.contestant.name
            targets += [
                Target(one.cpu_ms_min <= 20, f"{name}: {one.cpu_ms_min:.1f} ms/min of CPU (20)"),
                Target(one.pss_mb <= 30, f"{name}: PSS {one.pss_mb:.1f} MB (30)"),
                Target(
                    one.to_primary_min <= loop.to_primary_min,
                    f"{name}: {one.to_primary_min:.1f} packets/min to the primary"
                    f" (loop: {loop.to_primary_min:.1f})",
                ),
            ]
    return Report([table(heads, rows)], targets)
