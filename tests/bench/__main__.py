"""`tests/bench/run`: the parts, one after the other, inside one lab run."""

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Callable

from tests.bench import tables
from tests.bench.availability import KEEPERS, LONG_FLAP_S, availability
from tests.bench.cost import cost
from tests.bench.failover import failover
from tests.bench.loss import loss
from tests.bench.tables import Load, Report

PARTS = ("failover", "availability", "cost", "loss", "simulation")
_begun_s = time.monotonic()


def main() -> int:
    options = _options()
    parts: dict[str, Callable[[], Report]] = {
        "failover": lambda: failover(options.cuts, options.before, say),
        "availability": lambda: availability(
            options.of,
            options.times,
            LONG_FLAP_S if options.long else options.flap,
            options.at_once,
            say,
        ),
        "cost": lambda: cost(options.seconds, options.before, say),
        "loss": lambda: loss(options.loss, options.hosts, options.minutes, say),
        "simulation": lambda: simulation(options.hours),
    }
    command = shlex.join(["tests/bench/run", *sys.argv[1:]])
    missed = 0
    for name in options.parts or PARTS:
        say(f"part: {name}")
        load = Load()
        report = parts[name]()
        text = report.text(command, load.machine())
        print(f"\n## {name}\n\n{text}\n", flush=True)
        missed += sum(not target.met for target in report.targets)
        if options.write:
            tables.write(name, text)
    say(f"{missed} targets missed" if missed else "every target met")
    return 1 if missed else 0


def simulation(hours: float) -> Report:
    """What the simulation prints, as it is."""
    words = [sys.executable, "-m", "tests.simulation", "--hours", f"{hours:g}", "--loss", "10"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    printed = f"```\n{(done.stdout + done.stderr).strip()}\n```"
    told = f"`python {shlex.join(words[1:])}` ended with {done.returncode} (0)"
    return Report([printed], [tables.Target(done.returncode == 0, told)])


def say(text: str) -> None:
    """Tell the person at the terminal how far it is."""
    print(f"[{time.monotonic() - _begun_s:6.0f} s] {text}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; none = all")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/measured.md")
    parser.add_argument("--before", default="", help="failover and cost: a commit beside this")
    parser.add_argument("--cuts", type=int, default=15, help="of each contestant (15)")
    parser.add_argument("--seconds", type=float, default=180, help="of the cost part (180)")
    parser.add_argument(
        "--loss",
        type=lambda text: [float(word) for word in text.split(",")],
        default="10,20,30",
        help="percentages of frames lost each way (10,20,30)",
    )
    parser.add_argument("--hosts", type=int, default=8, help="standbys of a loss cell (8)")
    parser.add_argument("--minutes", type=float, default=15, help="of each percentage (15)")
    parser.add_argument("--hours", type=float, default=10_000, help="of the simulation (10000)")
    _add_availability(parser)
    options = parser.parse_args()
    if unknown := set(options.of) - {keeper.key for keeper in KEEPERS}:
        parser.error(f"nobody is called {', '.join(sorted(unknown))}")
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return options


def _add_availability(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--times", type=int, default=1, help="each event of availability (1)")
    parser.add_argument("--flap", type=float, default=30, help="seconds up, seconds down (30)")
    parser.add_argument(
        "--long", action="store_true", help=f"flaps of {LONG_FLAP_S:g} s, which takes an hour"
    )
    parser.add_argument("--at-once", type=int, default=2, help="labs of availability (2)")
    parser.add_argument(
        "--of",
        type=lambda text: text.split(","),
        default=[],
        help=f"programs of availability: {','.join(keeper.key for keeper in KEEPERS)} (all)",
    )


if __name__ == "__main__":
    sys.exit(main())
