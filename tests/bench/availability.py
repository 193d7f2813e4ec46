"""How many seconds a client is without service, and how many seconds both hosts serve.

Every program and every event has a lab of its own, made for it and thrown away; the programs take
turns within one event, so that a busy minute of the machine is not one program's alone.
"""

import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.bench import serving
from tests.bench.client import PATIENCE_S, Client, Seen, judge
from tests.bench.pacemaker import PACEMAKER
from tests.bench.serving import BROKEN, CLIENT, GATEWAY, PORT, Both, Keeper
from tests.bench.tables import Report, Target, table
from tests.lab import rootfs
from tests.lab.hosts import Lab, wait_until
from tests.lab.network import LabError
from tests.lab.pair import APP

KEEPERS: tuple[Keeper, ...] = (
    serving.LOOP_OF_PING,
    serving.NOTIFIED,
    serving.TRACKED,
    PACEMAKER,
    serving.ECHO,
    serving.CHECKS,
    serving.GUARDED,
)
READY_S = 120.0
STEADY_S = 5.0  # the primary alone has served for so long when an event begins
PHASE_S = 3.0  # ... and up to so long more, so that no program is always met at the same moment
AWAY_S = 60.0
SHORT_AWAY_S = 10.0
EXTRA_START_S = 20.0
AFTER_RETURN_S = 60.0
FLAPS = 5
LONG_FLAP_S = 120.0
SLOW = f"[Service]\nExecStartPre=/usr/bin/sleep {EXTRA_START_S:g}\n"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens to the primary, and how long the client looks."""

    name: str
    prepare: Callable[[Both], None]
    happen: Callable[[Both], tuple[float, float]]  # from, until


@dataclass(frozen=True, slots=True)
class Outcome:
    """One event as one program's clients saw it; None and why, where there is none."""

    keeper: Keeper
    event: Event
    seen: Seen | None
    fault: str = ""


def events(flap_s: float) -> tuple[Event, ...]:
    """The columns of the table; `flap_s` is how long a flapping primary is up, and is down."""
    return (
        Event(f"crash, away {AWAY_S:g} s", _nothing, _crash),
        Event(
            f"crash, away {SHORT_AWAY_S:g} s, service {EXTRA_START_S:g} s after its kernel",
            _slow_boot,
            _slow_return,
        ),
        Event(f"service dead {AWAY_S:g} s, host alive", _nothing, _service_dies),
        Event(
            f"{FLAPS} x {flap_s:g} s down, {flap_s:g} s up",
            _nothing,
            lambda both: _flap(both, flap_s),
        ),
    )


def availability(
    keys: Sequence[str], times: int, flap_s: float, at_once: int, say: Callable[[str], None]
) -> Report:
    """Every event with every program named (none = all), so many times each."""
    keepers = [keeper for keeper in KEEPERS if not keys or keeper.key in keys]
    product = [rootfs.installed_tree()]
    jobs = [
        (event, keeper)
        for event in events(flap_s)
        for number in range(times)
        for keeper in (*keepers[number % len(keepers) :], *keepers[: number % len(keepers)])
    ]

    def run(job: tuple[Event, Keeper]) -> Outcome:
        event, keeper = job
        outcome = _outcome(event, keeper, product)
        say(_told(outcome))
        return outcome

    with ThreadPoolExecutor(at_once) as pool:
        outcomes = list(pool.map(run, jobs))
    return _report(keepers, events(flap_s), outcomes)


def _outcome(event: Event, keeper: Keeper, product: Sequence[Path]) -> Outcome:
    try:
        with Lab() as lab:
            return Outcome(keeper, event, *_measure(event, keeper, lab, product))
    except (AssertionError, LabError, OSError, subprocess.SubprocessError) as error:
        return Outcome(keeper, event, None, str(error).splitlines()[0])


def _measure(event: Event, keeper: Keeper, lab: Lab, product: Sequence[Path]) -> tuple[Seen, str]:
    lab.plain("gateway", GATEWAY)
    person = lab.plain("client", CLIENT)
    both = keeper.serve(lab, product)
    hosts = (both.primary.address, both.standby.address)
    addresses = (*hosts, both.address) if both.address else hosts
    with Client(person.namespace, addresses, PORT) as client:
        wait_until(lambda: _steady(client, both), READY_S, f"{keeper.name}: the primary serves")
        event.prepare(both)
        time.sleep(random.uniform(0, PHASE_S))
        since_s, until_s = event.happen(both)
        looks = client.known(since_s, until_s)
    seen = judge(looks, hosts, both.address, until_s)
    return seen, f"the client was late {seen.stalled} times" if seen.stalled else ""


def _steady(client: Client, both: Both) -> bool:
    """Whether the primary, and nobody else, has been seen to serve for long enough."""
    until_s = time.monotonic() - PATIENCE_S
    since_s = until_s - STEADY_S
    if not client.looks or client.looks[0].began_s > since_s:
        return False
    wanted = dict.fromkeys({both.primary.address, both.address} - {""}, both.primary.name)
    looks = [look for look in client.looks if since_s <= look.began_s < until_s]
    return bool(looks) and all(look.names == wanted for look in looks)


# --- what happens to the primary -----------------------------------------------------------------


def _nothing(both: Both) -> None:
    del both


def _slow_boot(both: Both) -> None:
    """From its next boot on, the primary's service needs longer than its kernel."""
    both.primary.write(f"/etc/systemd/system/{APP}.d/slow.conf", SLOW)


def _crash(both: Both) -> tuple[float, float]:
    crashed_s = both.lose_power()
    return crashed_s, _sleep_until(crashed_s + AWAY_S)


def _slow_return(both: Both) -> tuple[float, float]:
    crashed_s = both.lose_power()
    _sleep_until(crashed_s + SHORT_AWAY_S)
    return crashed_s, _sleep_until(both.primary.start() + AFTER_RETURN_S)


def _service_dies(both: Both) -> tuple[float, float]:
    """Kill the service; whoever starts it there again fails."""
    both.primary.write(BROKEN, "")
    died_s = both.primary.signal(APP)
    return died_s, _sleep_until(died_s + AWAY_S)


def _flap(both: Both, flap_s: float) -> tuple[float, float]:
    began_s = until_s = time.monotonic()
    for number in range(FLAPS):
        crashed_s = both.lose_power()
        began_s = began_s if number else crashed_s
        _sleep_until(crashed_s + flap_s)
        until_s = _sleep_until(both.primary.start() + flap_s)
    return began_s, until_s


def _sleep_until(moment_s: float) -> float:
    time.sleep(max(0.0, moment_s - time.monotonic()))
    return moment_s


# --- what is said of it --------------------------------------------------------------------------


def _told(outcome: Outcome) -> str:
    seen = outcome.seen
    what = f"nobody {seen.nobody_s:.1f} s, both {seen.both_s:.1f} s" if seen else "no result"
    fault = f" ({outcome.fault})" if outcome.fault else ""
    return f"{outcome.event.name}: {outcome.keeper.name}: {what}{fault}"


def _report(
    keepers: Sequence[Keeper], happened: Sequence[Event], outcomes: Sequence[Outcome]
) -> Report:
    heads = ["seconds nobody served / both served", *(event.name for event in happened), "faults"]
    rows = []
    for keeper in keepers:
        cells = [_cell(_seen(outcomes, keeper, event)) for event in happened]
        own = [outcome for outcome in outcomes if outcome.keeper is keeper]
        faults = dict.fromkeys(outcome.fault for outcome in own if outcome.fault)
        rows.append([keeper.name, *cells, "; ".join(faults) or "none"])
    targets = [one for event in happened for one in _targets(keepers, event, outcomes)]
    return Report([table(heads, rows)], targets)


def _seen(outcomes: Sequence[Outcome], keeper: Keeper, event: Event) -> list[Seen]:
    return [
        outcome.seen
        for outcome in outcomes
        if outcome.seen and outcome.keeper is keeper and outcome.event.name == event.name
    ]


def _cell(seen: Sequence[Seen]) -> str:
    """Medians, and the worst where there are several."""
    if not seen:
        return "-"
    cells = []
    for values in ([one.nobody_s for one in seen], [one.both_s for one in seen]):
        worst = f" (≤ {max(values):.1f})" if len(values) > 1 else ""
        cells.append(f"{statistics.median(values):.1f}{worst}")
    return " / ".join(cells)


def _targets(
    keepers: Sequence[Keeper], event: Event, outcomes: Sequence[Outcome]
) -> Iterator[Target]:
    """No longer without service than the best of the peers; and what a guard is there for."""
    seen = {keeper: _seen(outcomes, keeper, event) for keeper in keepers}
    nobody_s = {
        keeper: statistics.median(one.nobody_s for one in found)
        for keeper, found in seen.items()
        if found
    }
    peers = [keeper for keeper in nobody_s if not isinstance(keeper, serving.Ours)]
    own, guard = serving.CHECKS, serving.GUARDED
    if own in nobody_s and peers:
        best = min(peers, key=lambda peer: nobody_s[peer])
        text = f"{event.name}: {own.name} {nobody_s[own]:.1f} s without service"
        met = nobody_s[own] <= nobody_s[best]
        yield Target(met, f"{text} ({best.name}: {nobody_s[best]:.1f})")
    if guard in nobody_s:
        both_s = max(one.both_s for one in seen[guard])
        yield Target(
            both_s == 0, f"{event.name}: {guard.name}, both hosts served for {both_s:.1f} s (0)"
        )
