"""Every schedule of a few faults on a small grid of time, on the production pair.

Rule: nothing is drawn by chance.  The states of a breadth-first search are the production objects
themselves (pair states, contact, detector, keeper, and the world around them); an edge is one move
of the adversary, or none, and one tick of the grid, within which everything happens at its own
moment.  States that differ only in when they are reached are one.

`python -m tests.model_check --protocol guard` prints how many states there are; `--faults 3` or
`--tick 0.5` make it larger.
"""

import argparse
import copy
import heapq
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from itertools import islice, product
from typing import Any

from failover_monitor.model import INF, RHO, SLACK_S, Phase, Unit
from failover_monitor.monitor import Monitor
from tests import pair_simulation
from tests.pair_simulation import Fault, Shape, at_rest
from tests.pair_world import ARBITERS, Clock, Host, World

SETTLED_S = 20.0  # what is longer ago than this makes no difference: no timer here is longer
GRAIN = 2  # digits of a second by which states are told apart
NEVER_S = 1e5  # a moment is above, a length of time below


class Fixed:
    """In the place of chance: nothing is drawn."""

    def random(self) -> float:
        return 1.0

    def uniform(self, least: float, most: float) -> float:
        return min(least, most)

    def choice(self, some: Any) -> Any:
        return some[0]


# Twins: a world that goes another way.


def twin(value: Any) -> Any:
    """A copy that shares nothing mutable."""
    if isinstance(value, dict):
        return {key: twin(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [twin(entry) for entry in value]
    if isinstance(value, set):
        return set(value)
    if is_dataclass(value) and not isinstance(value, type):
        if value.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            return value
        other = copy.copy(value)
        for entry in fields(value):
            setattr(other, entry.name, twin(getattr(value, entry.name)))
        return other
    return value


def twin_of_object(value: Any) -> Any:
    other = copy.copy(value)
    for name, entry in vars(value).items():
        if isinstance(entry, dict | list | set) or is_dataclass(entry):
            setattr(other, name, twin(entry))
    return other


def twin_of_monitor(monitor: Monitor, host: Host) -> Monitor:
    other = copy.copy(monitor)
    other.probe, other.services = host, host
    other.recorder = host.recorder  # type: ignore[assignment]
    other.clock = other.wall = host.now_s
    other._alive = host.alive
    other.detector = twin_of_object(monitor.detector)
    other._arrived = list(monitor._arrived)
    other.protections = copy.copy(monitor.protections)
    if monitor.protections.keeper:
        other.protections.keeper = copy.copy(monitor.protections.keeper)
        other.protections.engine = host.engine
    return other


def twin_of_host(host: Host, world: World) -> Host:
    other = copy.copy(host)
    other.world = world
    other.clock = copy.copy(host.clock)
    other.units = tuple(copy.copy(unit) for unit in host.units)
    other.recorder = copy.copy(host.recorder)
    other.recorder.raised = set(host.recorder.raised)
    other.flying = list(host.flying)
    if host.engine:
        other.engine = copy.copy(host.engine)
        other.engine.host = other
        other.engine._replies = list(host.engine._replies)
    if host.monitor:
        other.monitor = twin_of_monitor(host.monitor, other)
    return other


def twin_of_world(world: World) -> World:
    other = copy.copy(world)
    other.cuts = dict(world.cuts)
    other.silent = set(world.silent)
    other.store = copy.copy(world.store)
    if other.store:
        other.store.world = other
        other.store.held = copy.copy(other.store.held)
    other.hosts = {name: twin_of_host(host, other) for name, host in world.hosts.items()}
    doors = {host.engine: other.hosts[name].engine for name, host in world.hosts.items()}
    other.mail = [(at_s, n, (doors[door], *rest)) for at_s, n, (door, *rest) in world.mail]
    heapq.heapify(other.mail)
    return other


# What a state is.

FORGOTTEN = frozenset(  # counters that only grow, what people read, and who holds whom
    {
        *("number", "told", "status", "probe", "services", "recorder", "clock", "wall", "wake"),
        *("_alive", "policy", "_policy", "_intent", "_moments", "_key", "_told_of", "_arrived"),
        *("_rtt_s", "why", "_seen", "takeovers", "_by_the_wall", "_heard"),
        *("_held", "_streak_number"),
        *("_status_due_s", "_status_written_s", "_summary_due_s", "_attention_due_s"),
        *("petted_s", "turn_s", "rounds", "answered", "_answered_s", "_boot_id", "found", "health"),
        *("_misses", "_references", "_turned_s", "_last", "_won", "_again_s", "_attention"),
    }
)


def key_of(value: Any, now_s: float) -> Any:
    """What of a value can make a difference; moments become distances."""
    if isinstance(value, float):
        if value in (INF, -INF) or abs(value) < NEVER_S:
            return value
        return round(max(-SETTLED_S, value - now_s), GRAIN)
    if isinstance(value, Enum) or value is None or isinstance(value, str | int):
        return value
    if isinstance(value, tuple | list):
        return tuple(key_of(entry, now_s) for entry in value)
    if isinstance(value, set | frozenset):
        return tuple(sorted(value))
    if isinstance(value, dict):
        return tuple((name, key_of(entry, now_s)) for name, entry in value.items())
    if is_dataclass(value):
        names = [entry.name for entry in fields(value)]
        return tuple(key_of(getattr(value, n), now_s) for n in names if n not in FORGOTTEN)
    return tuple(key_of(v, now_s) for n, v in vars(value).items() if n not in FORGOTTEN)


def key_of_host(host: Host) -> Any:
    now_s, true_s = host.now_s(), host.world.now_s
    monitor = host.monitor
    mind = None
    if monitor:
        last = monitor.protections.keeper and monitor.protections.keeper._last
        mind = (
            key_of(monitor.state, now_s),
            key_of(monitor.detector, now_s),
            key_of(monitor.protections.keeper, now_s) if last else None,
            last and (last.verb, last.settled, round(last.sent_s - now_s, GRAIN)),
            key_of(monitor.protections.lease_stop_s, now_s),
            key_of(monitor.protections.leased_since_s, now_s),
            round(max(-SETTLED_S, monitor._proven_until_s - now_s), GRAIN),
            round(max(-SETTLED_S, host.turn_s - true_s), GRAIN),
            len(host.flying),
        )
    ends_s = (host.begins_s, host.boots_s, host.halts_s, host.watchdog_s, host.frozen_until_s)
    return (
        mind,
        host.up,
        host.host_stopping,
        host.torn,
        tuple(distance(at_s, true_s) for at_s in ends_s),
        tuple(sorted(host.recorder.raised)),
        tuple((u.state, u.immortal, u.deaf, u.left, distance(u.due_s, true_s)) for u in host.units),
        host.monitor is None and host.recorder.last_intent and host.recorder.last_intent["phase"],
    )


def distance(at_s: float, now_s: float) -> float:
    return at_s if at_s in (INF, -INF) else round(max(0.0, at_s - now_s), GRAIN)


def key_of_world(world: World) -> Any:
    store, now_s = world.store, world.now_s
    held = store and store.held and now_s < store.held.expires_s and store.held
    return (
        tuple(key_of_host(host) for host in world.hosts.values()),
        tuple(sorted(world.cuts)),
        store and (store.settled, distance(store.down_until_s, now_s)),
        held and (held.holder, held.boot, distance(held.expires_s, now_s)),
        tuple((distance(at_s, now_s), letter[3].verb) for at_s, _, letter in world.mail),
    )


# The moves.

Deed = Callable[[World], object]
BOTH = ("P", "S")


def deed(what: str, who: str, amount: float = 0.0) -> Deed:
    return lambda world: pair_simulation.DEEDS[what](world, Fault(0.0, what, who, amount=amount))


def cutting(links: list[tuple[str, str]]) -> Deed:
    return lambda world: world.cut(links)


def arbiter_links(name: str, *, there: bool) -> list[tuple[str, str]]:
    return [(name, other) if there else (other, name) for other in ARBITERS]


def crash(world: World) -> None:
    """Power off, until the adversary says otherwise."""
    world.hosts["P"].down(INF)
    world.vanish("P")


def slow_store(world: World) -> None:
    assert world.store
    world.store.slow_s = 1.3 - world.store.slow_s  # and back again


GUARD_MOVES: dict[str, Deed] = {
    "isolate P": cutting(pair_simulation.links_of("P")),
    "crash P": crash,
    "kill P's guard": deed("kill", "P", 0.9),
    "kill S's monitor": deed("kill", "S", 0.9),
    "hang P's guard": deed("hang", "P", 60.0),
    "hang P's guard for 1.5 s": deed("hang", "P", 1.5),
}
LEASE_MOVES: dict[str, Deed] = {
    "cut P-S": cutting([("P", "S"), ("S", "P")]),
    "cut P to arbiters": cutting(arbiter_links("P", there=True)),
    "cut arbiters to P": cutting(arbiter_links("P", there=False)),
    "cut S to arbiters": cutting(arbiter_links("S", there=True)),
    "cut arbiters to S": cutting(arbiter_links("S", there=False)),
    "isolate P": cutting(pair_simulation.links_of("P")),
    "crash P": crash,
    "kill P's guard": deed("kill", "P", 0.9),
    "kill S's monitor": deed("kill", "S", 0.9),
    "hang P's guard": deed("hang", "P", 60.0),
    "hang S's monitor": deed("hang", "S", 60.0),
    "the store forgets": deed("store forgets", ""),
    "the store is slow": slow_store,
}
MOVES = {"guard": GUARD_MOVES, "lease": LEASE_MOVES}


def sensible(world: World, name: str) -> bool:
    """Whether the move can change anything, and is within what the protocol promises."""
    host = world.hosts["S" if "S's" in name else "P"]
    if "kill" in name or "hang" in name:
        return host.monitor is not None and not any(unit.immortal for unit in host.units)
    if "crash" in name:
        return host.up
    return not (world.cuts and ("cut" in name or "isolate" in name))


def endings(world: World) -> dict[str, Deed]:
    """What lasts may end: a move that costs nothing."""
    found: dict[str, Deed] = {}
    if world.cuts:
        found["heal"] = lambda other: other.cuts.clear()
    if not world.hosts["P"].up and world.hosts["P"].boots_s == INF:
        found["power"] = lambda other: setattr(other.hosts["P"], "boots_s", other.now_s)
    return found


# The search.


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much is searched."""

    tick_s: float = 1.0
    faults: int = 2  # moves that cost something
    ticks: int = 60
    beginnings: int = 12  # of these so many, the worst first


@dataclass(slots=True)
class Found:
    """What a search came to."""

    states: int = 0
    edges: int = 0
    ends: int = 0  # of these everything is over, and the pair at rest
    violation: tuple[str, ...] = ()  # the moves that lead to two active sides
    overlap_s: float = 0.0


@dataclass(slots=True)
class Node:
    """One state, and how it was reached."""

    world: World
    left: int  # faults
    path: tuple[str, ...]


def beginnings(shape: Shape) -> Iterator[Node]:
    """Clocks apart by the most in both ways, phases, and how the units end."""
    phases = (0.05, 0.05 + shape.interval_s / 2)
    ends = ("by a reset only", "by force", "in order")
    for phase_s, rate, end in product(phases, (-RHO, RHO), ends):
        clocks = {"P": Clock(1e6, 1.0 + rate), "S": Clock(2e6, 1.0 - rate)}
        world = World(shape.policies(), seed=0, clocks=clocks)
        world.rng = Fixed()  # type: ignore[assignment]
        world.reset_takes_s = SLACK_S
        primary, standby = world.hosts["P"], world.hosts["S"]
        for unit in primary.units:
            unit.state, unit.deaf, unit.immortal = Unit.RUNNING, end != ends[2], end == ends[0]
        for unit in standby.units:
            unit.deaf = end != ends[2]
        primary.begins_s, standby.begins_s = -4.0, -shape.interval_s + phase_s
        world.now_s = -5.0
        world.changed(primary)
        world.run_until(0.0)
        assert primary.phase is Phase.SERVING
        assert standby.phase is Phase.STANDBY
        yield Node(world, 0, (f"P's clock {rate:+}, S at {phase_s:g} s, units end {end}",))


def search(protocol: str, shape: Shape, bounds: Bounds) -> Found:
    """Breadth first; ends with the first violation."""
    found, visited = Found(), set()
    level = list(islice(beginnings(shape), bounds.beginnings))
    for node in level:
        node.left = bounds.faults
    for tick in range(bounds.ticks):
        following: list[Node] = []
        for node in level:
            for after in successors(node, MOVES[protocol], (tick + 1) * bounds.tick_s):
                found.edges += 1
                world = after.world
                if world.dual_s > 0.0 or world.dual_since_s is not None:
                    found.violation = after.path
                    found.overlap_s = world.dual_s
                    return found
                key = (after.left, key_of_world(world))
                if key in visited:
                    continue
                visited.add(key)
                found.states += 1
                if not after.left and not world.cuts and at_rest(world):
                    found.ends += 1
                else:
                    following.append(after)
        level = following
    return found


def successors(node: Node, moves: dict[str, Deed], until_s: float) -> Iterator[Node]:
    """Every move, and none, then one tick; none comes last and takes the node itself."""
    world = node.world
    free = endings(world)
    costly = {name: do for name, do in moves.items() if node.left and sensible(world, name)}
    for name, do in (*free.items(), *costly.items()):
        other = twin_of_world(world)
        do(other)
        other.run_until(until_s)
        path = (*node.path, f"{world.now_s:g} s: {name}")
        yield Node(other, node.left - (name in costly), path)
    world.run_until(until_s)
    yield Node(world, node.left, node.path)


SHAPES = {
    "guard": Shape(
        interval_s=1.0, check_s=1.0, threshold=2, deadline_s=2.0, stop_limit_s=2.0, witness=False
    ),
    "lease": Shape(
        interval_s=1.0,
        check_s=1.0,
        threshold=2,
        deadline_s=2.0,
        stop_limit_s=2.0,
        ttl_s=6.0,
        witness=False,
    ),
}


def main() -> int:
    """Print what was searched; 1 when two sides were active."""
    parser = argparse.ArgumentParser(prog="python -m tests.model_check", description=__doc__)
    parser.add_argument("--protocol", choices=sorted(MOVES), default="guard")
    parser.add_argument("--faults", type=int, default=2, help="in one run")
    parser.add_argument("--tick", type=float, default=1.0, help="seconds between two moves")
    parser.add_argument("--short", type=float, default=0.0, help="takeover too early by so much")
    options = parser.parse_args()
    shape = replace(SHAPES[options.protocol], short_s=options.short)
    bounds = Bounds(tick_s=options.tick, faults=options.faults, ticks=int(60 / options.tick))
    begun_s = time.process_time()
    found = search(options.protocol, shape, bounds)
    print(
        f"{options.protocol}: {found.states} states, {found.edges} edges, {found.ends} at rest,"
        f" {time.process_time() - begun_s:.1f} s of CPU"
    )
    if found.violation:
        print("two active sides:", *found.violation, sep="\n  ")
    return bool(found.violation)


if __name__ == "__main__":
    sys.exit(main())
