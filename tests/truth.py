"""Every fault of the truth table, played in virtual time under any configuration.

Rule: a play knows nothing of `safety`.  The world is `pair_world`'s, with the production `Monitor`
on every standby, and on the primary where a guard or a lease wants one; elsewhere the primary is a
host that serves while it is up.  What is seen is classified from who really ran services when.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from failover_monitor.health import Health
from failover_monitor.model import (
    GUARD_INTERVAL_S,
    INF,
    CheckSeen,
    Effect,
    Evidence,
    FenceFailure,
    GuardPolicy,
    Outcome,
    Policy,
    Role,
    Round,
    Unit,
    Verb,
)
from failover_monitor.model import Answer as Reply
from failover_monitor.monitor import Monitor
from failover_monitor.protections import Protections
from failover_monitor.rehearsal.toys import Toy, ToyFence, ToyRunner
from failover_monitor.safety import Result
from tests import pair_world
from tests.pair_simulation import links_of
from tests.pair_world import ADDRESSES, ENGINE, EVERYBODY, TICK_S, Clock, Managed
from tests.safety_table import CABLE, GATEWAY, PRIMARY, STANDBY, WITNESS

PLACES = {PRIMARY: "P", CABLE: "C", STANDBY: "S", GATEWAY: "G", WITNESS: "W"}  # C: P's second card
STEADY_S = 20.0  # all is well for so long before the fault
FAULT_S = 70.0  # and so long does it last
AFTER_S = 25.0
BRIEF_S = 4.0  # both serve until the primary is heard or refused its lease, and one has stopped
LASTING_S = 30.0
DOWN_S = 60.0  # without service for longer is an outage that nobody ends
FENCING_S = 2.0
HUNG_BEFORE_S = GUARD_INTERVAL_S + 0.1  # its deadline counts from an answer before the fault
AMOUNT_S = 1e-6  # of overlap that is none: sums of floats


# Hosts.


class Around:
    """What the toys of one host ask: its clock, and what becomes of their questions."""

    def __init__(self, host: "Host") -> None:
        self.host = host

    @property
    def now_s(self) -> float:
        return self.host.now_s()

    @property
    def says(self) -> dict[str, str]:
        heard = self.host.pair.heard_of_service(self.host.name)
        return {check.name: heard for check in self.host.policy.service_checks}

    @property
    def fence_plan(self) -> tuple[str, float]:
        """Where a fence may fail it does."""
        fence = self.host.policy.fence
        may_fail = fence is not None and fence.on_failure is FenceFailure.WAIT_FOR_GUARD
        return ("fails" if may_fail or self.host.pair.fence_fails else "succeeds", FENCING_S)

    def power_off(self) -> None:
        """The fence obeys: it does not need the network that has broken."""
        primary = self.host.pair.hosts["P"]
        primary.down(INF)
        self.host.pair.vanish("P")
        primary.plan()

    def note(self, what: str) -> None:
        self.host.pair.say(self.host, what)


class Runner(ToyRunner):
    """Connections to a port: silence is a failure, as for the real one."""

    def receive(self) -> list[CheckSeen]:
        unknown, fail = Outcome.UNKNOWN, Outcome.FAIL
        return [
            replace(seen, outcome=fail if seen.outcome is unknown else seen.outcome)
            for seen in super().receive()
        ]


class Doors(Protections):
    """The production class; service checks and fence are toys, the lease is the world's."""

    def __init__(self, host: "Host") -> None:
        policy, around = host.policy, Around(host)
        bare = replace(policy, service_checks=(), fence=None)
        super().__init__(bare, host.now_s, lambda: None)
        self.policy = policy
        host.toys = []
        if policy.service_checks:
            self.health = Health(policy.service_checks)
            runner = Runner(around, policy.service_checks)  # type: ignore[arg-type]
            self.runner = runner
            host.toys.append(runner)
        if policy.fence:
            fence = ToyFence(around, policy.fence)  # type: ignore[arg-type]
            self.fence = fence
            host.toys.append(fence)


class Protected(Monitor):
    """The production monitor with these doors."""

    def __init__(self, policy: Policy, **settings: Any) -> None:
        super().__init__(policy, protections=Doors(settings["probe"]), **settings)


class Host(pair_world.Host):
    """A host with toys, and with a network card more."""

    def __init__(self, pair: "Pair", name: str, policy: Policy, clock: Clock) -> None:
        super().__init__(pair, name, policy, clock)
        self.pair = pair
        self.toys: list[Toy] = []

    def send(self, address: str, round_: Round) -> str:
        pair, target = self.pair, PLACES[address]
        there_s = pair.carried(self.name, target)
        back_s = pair.carried(target, self.name)
        if there_s is None or back_s is None or not pair.answered(self, target):
            return ""
        pair.count += 1
        mid_s = pair.now_s + there_s
        answer = Reply(address, round_.number, round_.sent_s)
        self.flying.append((mid_s + back_s, pair.count, mid_s, target, answer))
        self.flying.sort()
        return ""

    def plan(self) -> float:
        next_s = super().plan()
        if self.monitor and self.toys and self.paused_until_s == -INF:
            toy_s = self.clock.true(min(toy.due_s() for toy in self.toys)) + TICK_S
            next_s = self.next_s = min(next_s, max(toy_s, self.frozen_until_s))
        return next_s

    def _turn_due(self, now_s: float) -> bool:
        fired = [toy for toy in self.toys if toy.due_s() <= self.now_s()]
        for toy in fired:
            toy.advance()
        return bool(fired) or super()._turn_due(now_s)


class Bare(Host):
    """A primary without a guard: it serves while it is up."""

    def begin(self) -> None:
        self.begins_s = INF

    def start(self, unit: Managed) -> None:
        self.become(unit, Unit.STARTING, unit.starts_in_s, Unit.RUNNING)


# The pair.


class Pair(pair_world.World):
    """A pair, or one with two standbys, under the policy of its standby.  The fault is at 0."""

    def __init__(self, policy: Policy, *, seed: int, standbys: int = 1) -> None:
        policies = policies_of(policy, standbys)
        super().__init__(policies, seed=seed, monitor_class=Protected)
        self.hosts = {
            name: (Bare if name == "P" and not guarded(policy) else Host)(
                self, name, its, self.hosts[name].clock
            )
            for name, its in policies.items()
        }
        self.two_paths = len(policy.primary) > 1
        self.filtered: set[str] = set()  # who drops the echo requests of others
        self.deaf: set[str] = set()  # and the answers to its own
        self.fence_fails = False
        self.dead = False  # the primary, or its service, by the fault itself
        self.overlaps_s: list[float] = []
        self.started: list[tuple[str, bool]] = []  # which standby did, and was the primary dead?
        self.stopped = False  # somebody stopped the primary's service, or its host
        self.down_s: list[float] = []  # how long nobody served although a host was up
        self._down_since_s: float | None = None
        self.ran: set[str] = set()  # whose services did
        self._running: set[str] = set()

    # What is asked of the network.

    def carried(self, source: str, target: str) -> float | None:
        """What the primary sends itself may leave, and be answered, by its second card."""
        takes_s = super().carried(source, target)
        if (
            takes_s is not None
            or not self.two_paths
            or {source, target} & ADDRESSES.keys() != {"P"}
        ):
            return takes_s
        second = ("C" if name == "P" else name for name in (source, target))
        return super().carried(*second)

    def answered(self, asker: pair_world.Host, target: str) -> bool:
        """Whether an echo that arrives is answered, or else the neighbour's question."""
        host = {"C": "P"}.get(target, target)
        if not self.answers(host):
            return False
        if host not in self.filtered and asker.name not in self.deaf:
            return True
        seen = asker.policy.neighbour_evidence
        return seen is Evidence.ALL or (seen is Evidence.REFERENCES and host not in self.hosts)

    def heard_of_service(self, name: str) -> str:
        """What a connection to the primary's service does now; it goes the way of the echoes."""
        primary = self.hosts["P"]
        there = self.carried(name, "P") is not None and self.carried("P", name) is not None
        if not (there and self.answers("P")):
            return "hangs"
        return "passes" if primary.units[0].state is Unit.RUNNING else "fails"

    # What is seen.

    def changed(self, host: pair_world.Host) -> None:
        super().changed(host)
        if not hasattr(self, "_running"):
            return  # the base class still makes the hosts
        running = {name for name, host in self.hosts.items() if host.up and host.active}
        self.started += [(name, self.dead) for name in running - self._running - {"P"}]
        self._running = running
        self.ran |= running
        awake = any(h.up and self.now_s >= h.paused_until_s for h in self.hosts.values())
        served = any(h.serves and self.now_s >= h.paused_until_s for h in self.hosts.values())
        if served or not awake:
            self.close_down()
        elif self._down_since_s is None:
            self._down_since_s = self.now_s

    def close_down(self) -> None:
        if self._down_since_s is not None:
            self.down_s.append(self.now_s - self._down_since_s)
            self._down_since_s = None

    def close_dual(self) -> None:
        if self.dual_since_s is not None:
            self.overlaps_s.append(self.now_s - self.dual_since_s)
        super().close_dual()

    def asked(self, host: pair_world.Host, effect: Effect) -> None:
        super().asked(host, effect)
        self.stopped |= host.name == "P" and effect.verb is not Verb.START

    def watch_from_now(self) -> None:
        """What was before does not count."""
        self.close_dual()
        self.overlaps_s.clear()
        self.down_s.clear()
        self.started.clear()
        self.stopped = False
        self.ran = set(self._running)
        self.changed(self.hosts["P"])

    def seen(self) -> Result:
        """What has happened since the fault.

        TWO_ACTIVE: services ran on two hosts for half a minute and more, until the fault ended.
        BRIEFLY: they did for a few seconds at most, while the fault went on.
        STAYS_DOWN: for a minute nobody served, and a host was up.
        TAKEOVER: a standby started services, always while the primary or its service was dead.
        HOLDS: no standby ran anything, and nobody stopped the primary.
        SAFE: none of these: a living primary was stopped or found the standby serving, and no
        service ran on two hosts at any moment.
        """
        self.close_dual()
        self.close_down()
        longest_s = max(self.overlaps_s, default=0.0)
        if longest_s > AMOUNT_S:
            assert longest_s <= BRIEF_S or longest_s >= LASTING_S, f"overlap of {longest_s:.2f} s"
            return Result.TWO_ACTIVE if longest_s >= LASTING_S else Result.BRIEFLY
        if max(self.down_s, default=0.0) > DOWN_S:
            return Result.STAYS_DOWN
        if self.started and all(dead for _, dead in self.started):
            return Result.TAKEOVER
        return Result.HOLDS if self.ran <= {"P"} and not self.stopped else Result.SAFE

    # Moves.

    def run_for(self, for_s: float) -> None:
        self.run_until(self.now_s + for_s)

    def host_dies(self) -> None:
        self.dead = True
        self.hosts["P"].down(INF)
        self.vanish("P")

    def host_returns(self) -> None:
        self.dead = False
        primary = self.hosts["P"]
        if not primary.up:
            primary.boots_s = self.now_s

    def service_dies(self) -> None:
        self.dead = True
        primary = self.hosts["P"]
        primary.become(primary.units[0], Unit.FAILED)

    def service_returns(self) -> None:
        """Somebody starts it there, where that is still possible."""
        primary = self.hosts["P"]
        self.dead = not primary.up
        if primary.up:
            primary.start(primary.units[0])


def guarded(policy: Policy) -> bool:
    return policy.guard is not None or policy.lease is not None


def policies_of(policy: Policy, standbys: int) -> dict[str, Policy]:
    """The policies of all hosts, from the standby's."""

    def lease_of(name: str) -> Any:
        return policy.lease and replace(policy.lease, engine=ENGINE, holder=name)

    primary = Policy(
        role=Role.PRIMARY,
        primary=(),
        standby=(STANDBY,),
        references=policy.references,
        services=policy.services,
        guard=policy.guard or GuardPolicy(),
        lease=lease_of("P"),
    )
    names = ("S", "S2")[:standbys]
    return {"P": primary} | {name: replace(policy, lease=lease_of(name)) for name in names}


def steady(policy: Policy, seed: int, *, standbys: int = 1) -> Pair:
    """The primary serves and the standby watches."""
    pair = Pair(policy, seed=seed, standbys=standbys)
    pair.now_s = -STEADY_S
    primary = pair.hosts["P"]
    for name, host in pair.hosts.items():
        host.begins_s = pair.now_s + pair.rng.random() + 3.0 * (name != "P") * pair.rng.random()
    for unit in primary.units:
        primary.become(unit, Unit.RUNNING)
    pair.run_until(0.0)
    assert primary.serves and not pair.hosts["S"].active
    pair.watch_from_now()
    return pair


# Plays.  Each lets one fault begin, last and end.

Play = Callable[[Pair], None]


def lasting(pair: Pair, links: list[tuple[str, str]]) -> None:
    """These links carry nothing, until they do again."""
    pair.cut(links)
    pair.run_for(FAULT_S)
    pair.heal(links)
    pair.run_for(AFTER_S)


def second_card(others: Iterable[str]) -> list[tuple[str, str]]:
    """The links of the primary's second card with them."""
    return [link for name in others for link in ((name, "C"), ("C", name))]


def host_dies(pair: Pair) -> None:
    pair.host_dies()
    pair.run_for(FAULT_S)


def cut_off(pair: Pair) -> None:
    lasting(pair, [*links_of("P"), *second_card(EVERYBODY)])


def cable_out(pair: Pair) -> None:
    """A second one leads to everybody."""
    lasting(pair, links_of("P"))


def standby_cut_off(pair: Pair) -> None:
    lasting(pair, [*links_of("S"), *second_card("S")])


def gateway_dies(pair: Pair) -> None:
    pair.silent.add("G")
    pair.run_for(FAULT_S)
    pair.silent.discard("G")
    pair.run_for(AFTER_S)


def gateway_then_primary(pair: Pair) -> None:
    pair.silent.add("G")
    pair.run_for(10.0)
    host_dies(pair)


def path_breaks(pair: Pair) -> None:
    lasting(pair, [("P", "S"), ("S", "P")])


def gateway_filters(pair: Pair) -> None:
    """It never answers an echo, only ARP."""
    pair.filtered.add("G")
    pair.run_for(30.0)
    host_dies(pair)


def primary_drops_icmp(pair: Pair) -> None:
    """The echoes of others; its own are answered."""
    pair.filtered.add("P")
    pair.run_for(FAULT_S)
    pair.filtered.clear()
    pair.run_for(AFTER_S)


def service_dies(pair: Pair) -> None:
    pair.service_dies()
    pair.run_for(FAULT_S)


def service_comes_back(pair: Pair) -> None:
    pair.service_dies()
    pair.run_for(40.0)
    pair.watch_from_now()
    pair.service_returns()
    pair.run_for(FAULT_S)


def guard_hangs(pair: Pair) -> None:
    """Just before its deadline: so the watchdog bites as late as can be."""
    links = [*links_of("P"), *second_card(EVERYBODY)]
    pair.cut(links)
    pair.run_for(GuardPolicy().deadline_s - HUNG_BEFORE_S)
    pair.hosts["P"].frozen_until_s = INF
    pair.run_for(FAULT_S)
    pair.heal(links)
    pair.run_for(AFTER_S)


def service_ignores_the_stop(pair: Pair) -> None:
    pair.hosts["P"].units[0].deaf = True
    cut_off(pair)


def service_ignores_the_kill(pair: Pair) -> None:
    pair.hosts["P"].units[0].immortal = True
    cut_off(pair)


def paused_and_resumed(pair: Pair, *, clock: bool = False) -> None:
    pair.hosts["P"].pause(FAULT_S, clock=clock)
    pair.run_for(FAULT_S + AFTER_S + LASTING_S)


def paused_and_its_clock_goes_on(pair: Pair) -> None:
    paused_and_resumed(pair, clock=True)


def primary_returns(pair: Pair) -> None:
    host_dies(pair)
    pair.watch_from_now()
    pair.host_returns()
    pair.run_for(FAULT_S)


def primary_returns_unseen(pair: Pair) -> None:
    """The standby serves and is cut off: nothing tells it."""
    host_dies(pair)
    pair.watch_from_now()
    links = [*links_of("S"), *second_card("S")]
    pair.cut(links)
    pair.host_returns()
    pair.run_for(FAULT_S)
    pair.heal(links)
    pair.run_for(AFTER_S)


def power_returns(pair: Pair) -> None:
    """To both at once; the standby is up sooner."""
    for host in pair.hosts.values():
        host.down(20.0 if host.name == "S" else 50.0)
        pair.vanish(host.name)
    pair.watch_from_now()
    pair.dead = True
    pair.run_for(50.0)
    pair.dead = False
    pair.run_for(FAULT_S)


# Fault -> its plays; where there are several, the worst counts.
PLAYS: dict[str, tuple[Play, ...]] = {
    "the primary host dies": (host_dies,),
    "the primary is cut off from everybody": (cut_off,),
    "one cable of the primary is out": (cable_out,),
    "the standby is cut off": (standby_cut_off,),
    "the gateway dies, the primary lives": (gateway_dies,),
    "the gateway dies, then the primary": (gateway_then_primary,),
    "only the path between the two breaks": (path_breaks,),
    "the gateway never answers ICMP, and the primary dies": (gateway_filters,),
    "the primary begins to drop ICMP": (primary_drops_icmp,),
    "the host is up, its service is dead": (service_dies,),
    "a dead service that made us take over comes back": (service_comes_back,),
    "cut off, and the guard hangs or a service will not stop": (
        guard_hangs,
        service_ignores_the_stop,
        service_ignores_the_kill,
    ),
    "the primary is a virtual machine, paused and resumed": (
        paused_and_resumed,
        paused_and_its_clock_goes_on,
    ),
    "the primary returns while we serve": (primary_returns,),
    "we serve and are cut off, and the primary returns": (primary_returns_unseen,),
    "two standbys watch one primary": (host_dies,),
    "power returns to both hosts": (power_returns,),
}
TWO_STANDBYS = frozenset({"two standbys watch one primary"})
WORST_LAST = (
    Result.HOLDS,
    Result.TAKEOVER,
    Result.SAFE,
    Result.STAYS_DOWN,
    Result.BRIEFLY,
    Result.TWO_ACTIVE,
)


def played(fault: str, policy: Policy, seed: int) -> Iterator[tuple[str, Pair]]:
    """Every play of a fault, after it has been played."""
    for play in PLAYS[fault]:
        pair = steady(policy, seed, standbys=1 + (fault in TWO_STANDBYS))
        pair.timeline = []
        play(pair)
        yield play.__name__, pair


def result(fault: str, policy: Policy, seed: int = 0) -> Result:
    """What a fault leads to; the worst of its plays."""
    seen = [pair.seen() for _, pair in played(fault, policy, seed)]
    return max(seen, key=WORST_LAST.index)
