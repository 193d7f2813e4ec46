"""Random faults on a simulated pair, and the promise that at most one side is active.

Rule: a run is a seed.  A seed gives a pair (policies, clocks, phases), a script of faults, and so
one timeline; the script ends in calm, and the pair must come to rest with one side serving.
`python -m tests.simulation --faults guard --count 1000000` plays a class of faults;
`--seed N --count 1 --trace` plays one of them again and tells it.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from failover_monitor.model import (
    INF,
    RHO,
    ROUND_TRIP_S,
    SLACK_S,
    GuardPolicy,
    LeasePolicy,
    Phase,
    Policy,
    Role,
    Unit,
    Verdict,
)
from failover_monitor.monitor import Monitor
from tests.pair_world import ADDRESSES, ARBITERS, ENGINE, EVERYBODY, GATEWAY, WITNESS, Lean, World

SERVICES = ("app.service", "data.service")
HARMLESS_S = 1e-6  # of two active sides: sums of floats
PREPARED_S = -4.0  # the monitors start so long before the first fault, or later
REST_S = 150.0  # so long after the last fault one side serves, for good


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of a script."""

    at_s: float
    what: str
    who: str = ""
    for_s: float = 0.0
    amount: float = 0.0

    def __str__(self) -> str:
        words = [f"at {self.at_s:8.3f}", self.what, self.who]
        words += [f"for {self.for_s:.3f} s"] * (self.for_s > 0)
        words += [f"{self.amount:.3f}"] * (self.amount > 0)
        return " ".join(filter(None, words))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A pair that can be configured; the delays follow from the inequalities."""

    interval_s: float = 3.0
    check_s: float = 1.5
    threshold: int = 3
    deadline_s: float = 5.0
    stop_limit_s: float = 5.0
    ttl_s: float = 0.0  # 0: no lease
    witness: bool = True
    standbys: int = 1
    services: int = 1
    short_s: float = 0.0  # the takeover comes so much too early
    hold_short_s: float = 0.0  # and the boot gate opens so much too early

    @property
    def verdict_s(self) -> float:
        return self.threshold * self.check_s

    @property
    def takeover_delay_s(self) -> float:
        """(1) and (2), exactly."""
        if self.ttl_s:
            return 0.0
        gone_s = (self.deadline_s + self.stop_limit_s + SLACK_S) * (1 + RHO) + ROUND_TRIP_S
        return max(0.0, gone_s / (1 - RHO) - self.verdict_s) - self.short_s

    @property
    def boot_hold_s(self) -> float:
        """(3), exactly."""
        seen_s = min(self.interval_s, 0.5)
        gone_s = (seen_s + self.stop_limit_s + SLACK_S) * (1 + RHO) + ROUND_TRIP_S
        return gone_s / (1 - RHO) - self.hold_short_s

    def policies(self) -> dict[str, Policy]:
        references = (GATEWAY, WITNESS)[: 1 + self.witness]
        guard = GuardPolicy(
            deadline_s=self.deadline_s,
            stop_limit_s=self.stop_limit_s,
            boot_hold_s=self.boot_hold_s,
        )
        names = ("S", "S2")[: self.standbys]
        primary = Policy(
            role=Role.PRIMARY,
            primary=(),
            standby=tuple(ADDRESSES[name] for name in names),
            references=references,
            services=SERVICES[: self.services],
            guard=guard,
            lease=self.lease("P"),
        )
        found = {"P": primary}
        for name in names:
            found[name] = Policy(
                primary=(ADDRESSES["P"],),
                references=references,
                services=SERVICES[: self.services],
                interval_s=self.interval_s,
                retry_interval_s=self.check_s,
                threshold=self.threshold,
                takeover_delay_s=self.takeover_delay_s,
                startup_grace_s=0.0,
                guard=guard,
                lease=self.lease(name),
            )
        return found

    def lease(self, holder: str) -> LeasePolicy | None:
        if not self.ttl_s:
            return None
        return LeasePolicy(
            engine=ENGINE, endpoints=ARBITERS, name="pair", holder=holder, ttl_s=self.ttl_s
        )


@dataclass(slots=True)
class Outcome:
    """What came of one run."""

    dual_s: float = 0.0
    worst_s: float = 0.0
    takeovers: int = 0
    first_takeover_s: float = INF
    idle_s: float = 0.0  # nobody served
    unrest: str = ""  # it did not come to rest
    timeline: list[tuple[float, str]] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return self.dual_s > HARMLESS_S or bool(self.unrest)


# What a fault does to the world.  Each gives what ends it, or None.

Ending = Callable[[], None] | None


def links_of(name: str) -> list[tuple[str, str]]:
    others = [other for other in EVERYBODY if other != name]
    return [(name, other) for other in others] + [(other, name) for other in others]


def cut(world: World, links: list[tuple[str, str]]) -> Ending:
    world.cut(links)
    return lambda: world.heal(links)


def isolate(world: World, fault: Fault) -> Ending:
    return cut_off(world, fault, links_of(fault.who))


def deafen(world: World, fault: Fault) -> Ending:
    """Nothing reaches it; what it sends arrives."""
    return cut_off(world, fault, [link for link in links_of(fault.who) if link[1] == fault.who])


def mute(world: World, fault: Fault) -> Ending:
    """What it sends is lost."""
    return cut_off(world, fault, [link for link in links_of(fault.who) if link[0] == fault.who])


def cut_off(world: World, fault: Fault, links: list[tuple[str, str]]) -> Ending:
    primary = world.hosts["P"]
    away = primary.phase is not Phase.SERVING or not primary.up or bool(world.cuts)
    if fault.who != "P" and away and world.store is None and not world.unbounded:
        return None  # EXCEPTIONS: nothing stops a standby that is cut off while it serves
    return cut(world, links)


def part(world: World, fault: Fault) -> Ending:
    """`who` is a list such as "P>S,S>P"."""
    return cut(world, [(a, b) for a, b in (x.split(">") for x in fault.who.split(","))])


def crash(world: World, fault: Fault) -> Ending:
    world.hosts[fault.who].down(fault.amount)
    world.vanish(fault.who)
    return None


def reboot(world: World, fault: Fault) -> Ending:
    """In order: systemd stops the units, then the host goes, and is soon back."""
    host = world.hosts[fault.who]
    if host.up:
        world.rebooting_s = fault.amount
        host.host_stopping = True
        for unit in host.units:
            host.stop(unit)
        host.halts_s = world.now_s + 90.0 if host.active else world.now_s + 0.3
        host.turn()
    return None


def silence(world: World, fault: Fault) -> Ending:
    """A reference dies."""
    if fault.who in world.silent:
        return None
    world.silent.add(fault.who)
    return lambda: world.silent.discard(fault.who)


def kill(world: World, fault: Fault) -> Ending:
    host = world.hosts[fault.who]
    if host.up:
        host.kill(fault.amount)
    return None


def tear(world: World, fault: Fault) -> Ending:
    world.hosts[fault.who].torn = True
    return lambda: setattr(world.hosts[fault.who], "torn", False)


def hang(world: World, fault: Fault) -> Ending:
    """SIGSTOP, and SIGCONT if the watchdog does not come first."""
    world.hosts[fault.who].frozen_until_s = world.now_s + fault.amount
    return None


def starve(world: World, fault: Fault) -> Ending:
    world.hosts[fault.who].late_s = fault.amount
    return lambda: setattr(world.hosts[fault.who], "late_s", 0.0)


def pause(world: World, fault: Fault) -> Ending:
    if world.hosts[fault.who].up:
        world.hosts[fault.who].pause(fault.amount, clock=False)
    return None


def hold(world: World, fault: Fault) -> Ending:
    """An operator pauses the standby, for so long."""
    host = world.hosts[fault.who]
    at_s = host.now_s()
    boot = {"boot_id": str(host.boot), "began_s": at_s, "until": "later"}
    request = {"by": "alice", "at_s": at_s, "reason": "a test", "length_s": fault.amount}
    host.recorder.pause = json.dumps(request | boot)
    return None


def seize(world: World, fault: Fault) -> Ending:
    """An operator takes over by hand; and gives it back at the end."""
    host = world.hosts[fault.who]

    def ask(order: str) -> None:
        wish = {"by": "alice", "at_s": host.now_s(), "reason": "a test"}
        host.recorder.requests[order] = json.dumps(wish)

    ask("takeover")
    return lambda: ask("failback")


def suspend(world: World, fault: Fault) -> Ending:
    if world.hosts[fault.who].up:
        world.hosts[fault.who].pause(fault.amount, clock=True)
    return None


def slow(world: World, fault: Fault) -> Ending:
    for unit in world.hosts[fault.who].units:
        unit.stops_in_s = fault.amount
    return None


def stubborn(world: World, fault: Fault) -> Ending:
    """Its units ignore SIGTERM."""
    for unit in world.hosts[fault.who].units:
        unit.deaf = True

    def mend() -> None:
        for unit in world.hosts[fault.who].units:
            unit.deaf = False

    return mend


def immortal(world: World, fault: Fault) -> Ending:
    """Nothing but a reset of the host ends them."""
    host = world.hosts[fault.who]
    if host.active:
        host.units[0].immortal = True
    return None


def leave(world: World, fault: Fault) -> Ending:
    """Their children outlive a stop (KillMode=process)."""
    for unit in world.hosts[fault.who].units:
        unit.leaves = True
    return None


def lose(world: World, fault: Fault) -> Ending:
    """A share of all packets, of one host or of all, is lost."""
    names = frozenset({fault.who} if fault.who else EVERYBODY)
    entry = (names, fault.amount)
    world.losses.append(entry)
    return lambda: world.losses.remove(entry)


def delay(world: World, fault: Fault) -> Ending:
    """Packets of one host, or of all, take longer, each way by chance."""
    entry = (frozenset({fault.who} if fault.who else EVERYBODY), fault.amount)
    world.delays.append(entry)
    return lambda: world.delays.remove(entry)


def store_down(world: World, fault: Fault) -> Ending:
    if world.store:
        world.store.down_until_s = world.now_s + fault.amount
        world.store.restart(forgets=False)
    return None


def store_slow(world: World, fault: Fault) -> Ending:
    if world.store is None:
        return None
    world.store.slow_s = fault.amount
    return lambda: setattr(world.store, "slow_s", 0.0)


def store_forgets(world: World, fault: Fault) -> Ending:
    del fault
    if world.store:
        world.store.restart(forgets=True)
    return None


DEEDS: dict[str, Callable[[World, Fault], Ending]] = {
    "isolate": isolate,
    "deafen": deafen,
    "mute": mute,
    "part": part,
    "crash": crash,
    "reboot": reboot,
    "silence": silence,
    "kill": kill,
    "tear": tear,
    "hang": hang,
    "starve": starve,
    "pause": pause,
    "suspend": suspend,
    "hold": hold,
    "seize": seize,
    "slow": slow,
    "stubborn": stubborn,
    "immortal": immortal,
    "leave": leave,
    "lose": lose,
    "delay": delay,
    "store down": store_down,
    "store slow": store_slow,
    "store forgets": store_forgets,
}


# Scripts.

Draw = Callable[[random.Random, Shape, float], list[Fault]]


def within(rng: random.Random) -> float:
    """How long a fault lasts: often near the limits of the protocol."""
    return rng.choice((rng.uniform(0.1, 4.0), rng.uniform(2.0, 14.0), rng.uniform(10.0, 30.0)))


def away(rng: random.Random) -> float:
    """How long a host is gone."""
    return rng.choice((rng.uniform(0.5, 5.0), rng.uniform(3.0, 20.0), rng.uniform(15.0, 40.0)))


def stopping(rng: random.Random, shape: Shape, who: str) -> list[Fault]:
    """How the units of a host end."""
    limit_s = shape.stop_limit_s
    what = rng.random()
    if what < 0.3:
        return [Fault(-1.0, "slow", who, amount=limit_s - 1.0)]
    if what < 0.5:
        return [Fault(-1.0, "slow", who, amount=rng.uniform(0.01, 1.2 * limit_s))]
    if what < 0.65:
        return [Fault(-1.0, "stubborn", who, 90.0)]
    if what < 0.75:
        return [Fault(-1.0, "leave", who)]
    return [Fault(-1.0, "immortal", who)] if what < 0.85 and who == "P" else []


def of_crash(rng: random.Random, shape: Shape, at_s: float) -> list[Fault]:
    return [Fault(at_s, "crash", "P", amount=away(rng))]


def of_isolation(rng: random.Random, shape: Shape, at_s: float) -> list[Fault]:
    what = rng.choice(("isolate", "isolate", "deafen", "mute"))
    return [Fault(at_s, what, "P", within(rng)), *stopping(rng, shape, "P")]


def of_standby(rng: random.Random, shape: Shape, at_s: float) -> list[Fault]:
    what = rng.choice(("isolate", "deafen", "mute"))
    return [Fault(at_s, what, "S", within(rng))]


def of_gateway(rng: random.Random, shape: Shape, at_s: float) -> list[Fault]:
    found = [Fault(at_s, "silence", "G", within(rng))]
    if rng.random() < 0.6:
        then_s = at_s + rng.choice((0.0, rng.uniform(-5.0, 15.0)))
        found.append(Fault(max(0.0, then_s), "crash", "P", amount=away(rng)))
    return found


def of_process(rng: random.Random, shape: Shape, at_s: float) -> list[Fault]:
    """The guard's process dies, tears, hangs or is late; and the host is isolated as well."""
    found = []
    isolated_s = at_s + rng.uniform(-1.0, 1.0) * (shape.deadline_s + shape.stop_limit_s)
    isolated_s = max(0.0, isolated_s)
    match rng.choice(("kill", "hang", "tear", "starve")):
        case "kill":
            for _ in range(rng.choice((1, 1, 2, 3))):
                found.append(Fault(at_s, "kill", "P", amount=rng.uniform(0.1, 0.95)))
                at_s += rng.uniform(0.5, 4.0)
        case "hang":
            found.append(Fault(at_s, "hang", "P", amount=rng.uniform(0.2, 3 * shape.stop_limit_s)))
        case "tear":
            found.append(Fault(at_s, "tear", "P", 30.0))
        case "starve":
            found.append(Fault(at_s, "starve", "P", 30.0, rng.uniform(0.05, 0.9)))
    if rng.random() < 0.75:
        found.append(Fault(isolated_s, "isolate", "P", within(rng)))
        found += stopping(rng, shape, "P")
    return found


def of_reboot(rng: random.Random, shape: Shape, at_s: float) -> list[Fault]:
    found = [Fault(at_s, "reboot", "P", amount=rng.uniform(0.3, 12.0))]
    return found + stopping(rng, shape, rng.choice("PS"))


def of_return(rng: random.Random, shape: Shape, at_s: float) -> list[Fault]:
    """P is away for long enough, and comes back while S serves."""
    found = of_crash(rng, shape, at_s)
    if rng.random() < 0.4:
        found = [Fault(at_s, "isolate", "P", rng.uniform(12.0, 30.0))]
    return found + stopping(rng, shape, "S")


def of_loss(rng: random.Random, shape: Shape, at_s: float) -> list[Fault]:
    """Up to 30 % of all packets.  More can look like a broken path for as long as a verdict takes.

    At 48 % that was seen once in 100,000 such faults, and a guard does not help against it.
    """
    who = rng.choice(("", "P", "S"))
    return [Fault(at_s, "lose", who, within(rng), rng.uniform(0.01, 0.3))]


def of_delay(rng: random.Random, shape: Shape, at_s: float) -> list[Fault]:
    found = [Fault(at_s, "delay", "", within(rng), rng.uniform(0.001, 0.048))]
    return found + (of_isolation(rng, shape, at_s + rng.random()) if rng.random() < 0.5 else [])


def of_standby_process(rng: random.Random, shape: Shape, at_s: float) -> list[Fault]:
    what = rng.choice(("kill", "kill", "hang", "crash", "tear"))
    amount = {"hang": rng.uniform(0.2, 12.0), "crash": away(rng)}.get(what, rng.uniform(0.1, 0.95))
    found = [Fault(at_s, what, "S", 30.0 if what == "tear" else 0.0, amount)]
    if what != "hang" and rng.random() < 0.7:
        found.append(Fault(max(0.0, at_s - rng.uniform(0.0, 20.0)), "crash", "P", amount=away(rng)))
    return found


GUARD: dict[str, Draw] = {
    "crash": of_crash,
    "isolation of P": of_isolation,
    "isolation of S": of_standby,
    "gateway": of_gateway,
    "process": of_process,
    "reboot": of_reboot,
    "return": of_return,
    "loss": of_loss,
    "delay": of_delay,
    "standby": of_standby_process,
}


def of_partition(rng: random.Random, shape: Shape, at_s: float) -> list[Fault]:
    """Any links, each way by itself."""
    names = ["P", "S", "G", "W", *ARBITERS, *(["S2"] * (shape.standbys > 1))]
    links = [(a, b) for a in names[:2] for b in names if a != b]
    links += [(b, a) for a, b in links if b not in names[:2]]
    some = rng.sample(links, rng.randint(1, len(links) - 1))
    return [Fault(at_s, "part", ",".join(f"{a}>{b}" for a, b in some), within(rng))]


def of_path(rng: random.Random, shape: Shape, at_s: float) -> list[Fault]:
    """Only the path between the two."""
    links = rng.choice(("P>S,S>P", "P>S", "S>P"))
    return [Fault(at_s, "part", links, within(rng)), *stopping(rng, shape, "P")]


def of_store(rng: random.Random, shape: Shape, at_s: float) -> list[Fault]:
    match rng.choice(("down", "slow", "forgets", "both")):
        case "down":
            return [Fault(at_s, "store down", amount=rng.uniform(0.1, 30.0))]
        case "slow":
            return [Fault(at_s, "store slow", "", within(rng), rng.uniform(0.1, 5.0))]
        case "forgets":
            return [Fault(at_s, "store forgets")]
        case _:
            forgets = Fault(at_s + 0.01, "store forgets")
            return [Fault(at_s, "store down", amount=rng.uniform(0.1, 12.0)), forgets]


def of_loss_up_to_half(rng: random.Random, shape: Shape, at_s: float) -> list[Fault]:
    who = rng.choice(("", "P", "S"))
    return [Fault(at_s, "lose", who, within(rng), rng.uniform(0.01, 0.5))]


def of_standby_hang(rng: random.Random, shape: Shape, at_s: float) -> list[Fault]:
    hang = Fault(at_s, "hang", "S", amount=rng.uniform(0.2, 12.0))
    back_s = max(0.0, at_s - rng.uniform(0.0, 25.0))
    return [hang, Fault(back_s, "crash", "P", amount=away(rng)), *stopping(rng, shape, "S")]


LEASE: dict[str, Draw] = GUARD | {
    "partition": of_partition,
    "path P-S": of_path,
    "store": of_store,
    "loss": of_loss_up_to_half,
    "standby hang": of_standby_hang,
}
CLASSES: dict[str, dict[str, Draw]] = {"guard": GUARD, "lease": LEASE}


def shape_of(kind: str, rng: random.Random) -> Shape:
    """A pair of this class, as somebody might configure it."""
    shape = Shape(
        interval_s=rng.choice((1.0, 3.0)),
        check_s=rng.choice((1.0, 1.5)),
        threshold=rng.choice((2, 3)),
        deadline_s=rng.choice((2.0, 3.0, 5.0)),
        stop_limit_s=rng.choice((2.0, 3.0, 5.0)),
        witness=rng.random() < 0.7,
        services=1 + (rng.random() < 0.2),
    )
    if kind == "lease":
        ttl_s = shape.stop_limit_s + SLACK_S + rng.choice((4.0, 9.0))
        return replace(shape, ttl_s=ttl_s, standbys=1 + (rng.random() < 0.25))
    return shape


def script_of(kind: str, shape: Shape, rng: random.Random) -> tuple[str, list[Fault]]:
    """One fault, or a short sequence of them, and the name for the tally."""
    draws = CLASSES[kind]
    names: list[str] = []
    faults: list[Fault] = []
    at_s = 0.0
    for _ in range(rng.choices((1, 2, 3), (6, 3, 1))[0]):
        name = rng.choice(tuple(draws))
        if names and kind == "guard" and "loss" in (name, *names):
            continue  # EXCEPTIONS: loss while the primary comes or goes
        names.append(name)
        faults += draws[name](rng, shape, at_s)
        at_s += rng.choice((rng.uniform(0.0, 3.0), rng.uniform(0.0, 25.0)))
    return (names[0] if len(names) == 1 else "sequence"), sorted(faults, key=lambda f: f.at_s)


# Playing.


def prepared(shape: Shape, seed: int, **settings: Any) -> World:
    """P serves and S watches, at a random phase of both; the first fault is at 0."""
    world = World(shape.policies(), seed=seed, **settings)
    primary = world.hosts["P"]
    for unit in primary.units:
        unit.state = Unit.RUNNING
    primary.begins_s = PREPARED_S + world.rng.random()
    for name, host in world.hosts.items():
        if name != "P":
            host.begins_s = -0.1 - world.rng.random() * shape.interval_s
    world.now_s = PREPARED_S
    world.changed(primary)
    return world


def play(world: World, script: Sequence[Fault], *, rest_s: float = REST_S) -> Outcome:
    """Let it all happen, then calm; gives what came of it."""
    moments: list[tuple[float, int, Callable[[], None]]] = []
    for number, fault in enumerate(script):
        moments.append((fault.at_s, number, _beginning(world, fault, moments)))
    while moments:
        moments.sort(key=lambda moment: moment[:2], reverse=True)
        at_s, _, deed = moments.pop()
        world.run_until(at_s)
        deed()
    hosts = tuple(world.hosts.values())
    for host in hosts:
        for unit in host.units:
            unit.immortal = unit.immortal and host.active
    primary, end_s = world.hosts["P"], world.now_s + rest_s

    def over() -> bool:
        return primary.phase is Phase.SERVING and at_rest(world)  # the cheaper half first

    if not over():
        world.run_until(end_s, over)
    unrest = "" if over() else f"not at rest {rest_s:g} s after the last fault: {where(world)}"
    world.close_dual()
    if world.idle_since_s is not None:
        world.idle_s += world.now_s - world.idle_since_s
    return Outcome(
        world.dual_s,
        world.worst_s,
        world.takeovers,
        world.taken_over_s,
        world.idle_s,
        unrest,
        world.timeline or [],
    )


def _beginning(
    world: World, fault: Fault, moments: list[tuple[float, int, Callable[[], None]]]
) -> Callable[[], None]:
    def begin() -> None:
        world.say(None, f"*** {fault}")
        if ending := DEEDS[fault.what](world, fault):
            moments.append((world.now_s + fault.for_s, -1, _end(world, fault, ending)))

    return begin


def _end(world: World, fault: Fault, ending: Callable[[], None]) -> Callable[[], None]:
    def end() -> None:
        world.say(None, f"*** over: {fault.what} {fault.who}")
        ending()

    return end


def at_rest(world: World) -> bool:
    """P serves, the others watch it, and nothing is under way that could change that."""
    for name, host in world.hosts.items():
        monitor = host.monitor
        if monitor is None or host.host_stopping or host.boots_s < INF:
            return False
        if max(host.frozen_until_s, host.paused_until_s) > world.now_s:
            return False
        if monitor.detector.verdict is not Verdict.UP or monitor.detector.suspicious:
            return False
        served = host.phase is Phase.SERVING and host.serves
        idle = host.phase is Phase.STANDBY and not host.active
        if not (served if name == "P" else idle):
            return False
        if name == "P" and monitor.protections.lease_until_s <= host.now_s():
            return False
    return True


def where(world: World) -> str:
    return ", ".join(
        f"{name} {host.phase} {'/'.join(unit.state for unit in host.units)}"
        for name, host in world.hosts.items()
    )


@dataclass(frozen=True, slots=True)
class Case:
    """One seed of one class: a pair and its script."""

    kind: str
    seed: int
    shape: Shape
    name: str
    script: tuple[Fault, ...]

    def play(self, *, trace: bool = False, monitor_class: type[Monitor] = Lean) -> Outcome:
        world = prepared(self.shape, self.seed, monitor_class=monitor_class)
        if trace:
            world.timeline = []
        return play(world, self.script)

    def shrunk(self) -> "Case":
        """The shortest script that still fails, found by leaving out one line after the other."""
        case, before = self, None
        while case is not before:
            before = case
            for number in range(len(case.script)):
                script = case.script[:number] + case.script[number + 1 :]
                shorter = replace(case, script=script)
                if shorter.play().failed:
                    case = shorter
                    break
        return case

    def told(self) -> str:
        """The case in full, with its timeline."""
        outcome = self.play(trace=True)
        lines = [f"seed {self.seed} of class {self.kind}: {self.shape}"]
        lines += [f"  {fault}" for fault in self.script]
        lines += [f"{at_s:10.4f}  {words}" for at_s, words in outcome.timeline]
        lines.append(
            f"two active for {outcome.dual_s:.4f} s, {outcome.takeovers} takeovers,"
            f" {outcome.idle_s:.1f} s without service. {outcome.unrest}"
        )
        return "\n".join(lines)


def case_of(kind: str, seed: int) -> Case:
    rng = random.Random(f"{kind} {seed}")
    shape = shape_of(kind, rng)
    name, script = script_of(kind, shape, rng)
    return Case(kind, seed, shape, name, tuple(script))


@dataclass(slots=True)
class Tally:
    """Many runs of one kind."""

    runs: int = 0
    dual_s: float = 0.0
    worst_s: float = 0.0
    takeovers: int = 0
    idle_s: float = 0.0
    unrests: int = 0

    def count(self, outcome: Outcome) -> None:
        self.add(
            Tally(
                1,
                outcome.dual_s if outcome.dual_s > HARMLESS_S else 0.0,
                outcome.worst_s if outcome.dual_s > HARMLESS_S else 0.0,
                outcome.takeovers,
                outcome.idle_s,
                bool(outcome.unrest),
            )
        )

    def add(self, other: "Tally") -> None:
        self.runs += other.runs
        self.dual_s += other.dual_s
        self.worst_s = max(self.worst_s, other.worst_s)
        self.takeovers += other.takeovers
        self.idle_s += other.idle_s
        self.unrests += other.unrests

    def __str__(self) -> str:
        return (
            f"{self.runs} faults, {self.dual_s:.3f} dual-active seconds (worst"
            f" {self.worst_s:.3f}), {self.takeovers} takeovers,"
            f" {self.idle_s / max(1, self.runs):.2f} s without service on average,"
            f" {self.unrests} not at rest"
        )


def part_of(kind: str, first: int, count: int) -> tuple[dict[str, Tally], list[int]]:
    """Play the seeds from `first` on; gives tallies by fault and the seeds that failed."""
    tallies: dict[str, Tally] = {}
    failed = []
    for seed in range(first, first + count):
        case = case_of(kind, seed)
        outcome = case.play()
        tallies.setdefault(case.name, Tally()).count(outcome)
        if outcome.failed:
            failed.append(seed)
    return tallies, failed
