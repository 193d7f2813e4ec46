"""Many hours of a lossy network in virtual time, on the production detector.

`python -m tests.simulation --hours 10000 --loss 10` counts false verdicts: a verdict on a primary
that is alive.  `--blackouts 100000` counts verdicts on blackouts shorter than V - 0.26 s.
Each worker's seed is printed; `--seed N --workers 1` replays one.
`--faults guard --count 1000000` (or `lease`) plays faults of a whole pair, `tests.pair_simulation`,
and counts seconds with two active sides; `--seed N --count 1 --trace` tells one of them.

A steady round that the primary answers leaves the detector as it was, only later: no suspicion, no
count, no verdict (`test_simulation` plays both ways and compares).  So the simulation draws how
many such rounds follow, lets them pass, and plays only what comes then, echo by echo.
"""

import argparse
import math
import multiprocessing
import random
import sys
import time
from dataclasses import dataclass

from failover_monitor.detector import Detector
from failover_monitor.model import Answer, Notice, Policy, Round, Verdict
from tests import pair_simulation

PRIMARY, GATEWAY = "198.51.100.2", "198.51.100.1"
RTT_S = 0.001
AT_ONCE = 1000  # faults that a worker plays before it reports
SHOWN = 3  # failures that are shrunk and told


@dataclass
class Tally:
    """What happened in some simulated time."""

    hours: float = 0.0
    suspicions: int = 0
    false_verdicts: int = 0
    longest_s: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.hours + other.hours,
            self.suspicions + other.suspicions,
            self.false_verdicts + other.false_verdicts,
            max(self.longest_s, other.longest_s),
        )


class Network:
    """Answers rounds after RTT_S; each echo is lost by itself with probability `loss`."""

    def __init__(self, loss: float, seed: int) -> None:
        self.loss = loss
        self.rng = random.Random(seed)

    def play(self, detector: Detector, round_: Round, *, answers: bool) -> None:
        """One round: the gateway answers by chance, the primary if it `answers`."""
        detector.sent(round_, {})
        sent_s, now_s = round_.sent_s, round_.sent_s + RTT_S
        if self.carried():
            detector.answered(Answer(GATEWAY, round_.number, sent_s), now_s)
        if answers:
            detector.answered(Answer(PRIMARY, round_.number, sent_s), now_s)

    def carried(self) -> bool:
        return self.rng.random() >= self.loss

    def answered_rounds(self) -> int:
        """How many rounds in a row the primary answers before it leaves one unanswered."""
        return int(math.log(1.0 - self.rng.random()) / math.log(1.0 - self.loss))


def lossy(policy: Policy, hours: float, loss: float, seed: int, *, skip: bool = True) -> Tally:
    """Simulated `hours` with the primary alive and `loss` of all echoes."""
    network, tally = Network(loss, seed), Tally(hours=hours)
    detector = Detector(policy, 0.0)
    end_s, skipped_s, calm = hours * 3600, 0.0, False
    while (now_s := detector.due_s) + skipped_s < end_s:
        answers = network.carried()
        if skip and calm:
            skipped_s += network.answered_rounds() * policy.interval_s
            answers = False
        if round_ := detector.tick(now_s):
            network.play(detector, round_, answers=answers)
            calm = answers
        count(detector, tally)
    return tally


def blackouts(policy: Policy, number: int, seed: int) -> Tally:
    """`number` blackouts of the primary shorter than V - 0.26 s, at random phases."""
    network, tally = Network(0.0, seed), Tally()
    detector = Detector(policy, 0.0)
    longest_s = policy.verdict_s - 0.26
    for _ in range(number):
        begin_s = detector.due_s + network.rng.random() * policy.interval_s
        end_s = begin_s + network.rng.random() * longest_s
        while (now_s := detector.due_s) < end_s + policy.interval_s:
            if round_ := detector.tick(now_s):
                network.play(detector, round_, answers=not begin_s <= now_s < end_s)
            count(detector, tally)
        tally.hours += (end_s - begin_s) / 3600
    return tally


def count(detector: Detector, tally: Tally) -> None:
    for told in detector.told:
        tally.suspicions += told.notice is Notice.SUSPECT
        tally.longest_s = max(tally.longest_s, told.gap_s)
        tally.false_verdicts += told.subject == Verdict.DOWN
    detector.told.clear()


def crashes(policy: Policy, number: int, seed: int) -> list[float]:
    """The seconds from a crash at a random phase to the verdict, `number` times."""
    network, found = Network(0.0, seed), []
    for _ in range(number):
        detector = Detector(policy, 0.0)
        crash_s = (1 + network.rng.random()) * policy.interval_s
        while detector.verdict is not Verdict.DOWN:
            now_s = detector.due_s
            if round_ := detector.tick(now_s):
                network.play(detector, round_, answers=now_s < crash_s)
        found.append(detector.verdict_since_s - crash_s)
    return found


def shipped() -> Policy:
    return Policy(
        primary=(PRIMARY,),
        references=(GATEWAY,),
        services=("app.service",),
        interval_s=3.0,
        retry_interval_s=1.5,
    )


Tallies = dict[str, pair_simulation.Tally]


def lossy_part(hours: float, loss: float, seed: int) -> tuple[Tally, float]:
    begun_s = time.process_time()
    return lossy(shipped(), hours, loss, seed), time.process_time() - begun_s


def faults_part(kind: str, first: int, count: int) -> tuple[float, Tallies, list[int]]:
    begun_s = time.process_time()
    tallies, failed = pair_simulation.part_of(kind, first, count)
    return time.process_time() - begun_s, tallies, failed


def pair_faults(kind: str, count: int, seed: int, workers: int) -> int:
    """Play `count` faults of a pair and print what came of them, by fault; 1 if any failed."""
    jobs = [
        (kind, first, min(AT_ONCE, seed + count - first))
        for first in range(seed, seed + count, AT_ONCE)
    ]
    all_of: Tallies = {}
    failed: list[int] = []
    cpu_s, begun_s, done, said = 0.0, time.monotonic(), 0, 0
    with multiprocessing.Pool(workers) as pool:
        for used_s, tallies, seeds in pool.imap_unordered(faults_job, jobs):
            for name, tally in tallies.items():
                all_of.setdefault(name, pair_simulation.Tally()).add(tally)
                done += tally.runs
            failed, cpu_s = failed + seeds, cpu_s + used_s
            if 20 * done // count > said:
                said = 20 * done // count
                print(f"{done} of {count}: {len(failed)} failed", file=sys.stderr, flush=True)
    total = pair_simulation.Tally()
    for name, tally in sorted(all_of.items()):
        print(f"{name + ':':<18}{tally}")
        total.add(tally)
    print(
        f"class {kind}, seeds {seed} to {seed + count - 1}: {total};"
        f" {1000 * cpu_s / count:.2f} ms of CPU a fault, {time.monotonic() - begun_s:.0f} s"
    )
    for number in sorted(failed)[:SHOWN]:
        print(f"\n{pair_simulation.case_of(kind, number).shrunk().told()}")
    return 1 if failed else 0


def faults_job(job: tuple[str, int, int]) -> tuple[float, Tallies, list[int]]:
    return faults_part(*job)


def main() -> int:
    """Print one line of results; 1 when there was a false verdict, or two sides were active."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--hours", type=float, default=10_000, help="simulated hours")
    parser.add_argument("--loss", type=float, default=10, help="percent of echoes lost")
    parser.add_argument("--blackouts", type=int, default=0)
    parser.add_argument("--faults", choices=sorted(pair_simulation.CLASSES), help="of a pair")
    parser.add_argument("--count", type=int, default=1000, help="how many of them")
    parser.add_argument("--trace", action="store_true", help="tell the first of them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    options = parser.parse_args()
    if options.faults and options.trace:
        print(pair_simulation.case_of(options.faults, options.seed).told())
        return 0
    if options.faults:
        return pair_faults(options.faults, options.count, options.seed, options.workers)
    if options.blackouts:
        tally = blackouts(shipped(), options.blackouts, options.seed)
        print(
            f"{options.blackouts} blackouts shorter than V - 0.26 s (seed {options.seed}):"
            f" {tally.false_verdicts} verdicts, longest silence {tally.longest_s:.2f} s"
        )
        return 1 if tally.false_verdicts else 0
    return lossy_hours(options.hours, options.loss, options.seed, options.workers)


def lossy_hours(hours: float, loss: float, seed: int, workers: int) -> int:
    chunks = max(workers, int(hours / 10_000))
    jobs = [(hours / chunks, loss / 100, seed + k) for k in range(chunks)]
    total, cpu_s, begun_s = Tally(), 0.0, time.monotonic()
    with multiprocessing.Pool(workers) as pool:
        for tally, used_s in pool.starmap(lossy_part, jobs):
            total, cpu_s = total + tally, cpu_s + used_s
    print(
        f"{total.hours:.0f} simulated hours at {loss:g} % loss (seeds {seed} to"
        f" {seed + chunks - 1}): {total.false_verdicts} false verdicts,"
        f" {total.suspicions} suspicions, longest silence {total.longest_s:.2f} s;"
        f" {total.hours / cpu_s:.0f} simulated hours per CPU-second,"
        f" {time.monotonic() - begun_s:.0f} s"
    )
    return 1 if total.false_verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
