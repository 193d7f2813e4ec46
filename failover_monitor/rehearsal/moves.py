"""Everything that can happen in a story: its words, and what they do to the toy world.

Rule: one table.  What can be performed is what can be read, and what a mistake is compared with.
Words in capitals stand for something that a reader of `READERS` understands.
"""

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from failover_monitor.model import (
    INF,
    Failback,
    FenceFailure,
    Foreign,
    GuardPolicy,
    HooksPolicy,
    LeasePolicy,
    Policy,
    Unit,
)
from failover_monitor.rehearsal.toys import OTHER
from failover_monitor.rehearsal.world import Service, World

MANY = 10**6  # more starts than any story asks for
MENDED_S = 0.02
HOOK_S = 1.0  # how long a hook takes where the story does not say
FENCE_S = 2.0  # how long a fence takes where the story does not say
HOSTS: dict[str, Callable[[Policy], tuple[str, ...]]] = {  # addresses, by what a host is to us
    "primary": lambda policy: policy.primary,
    "cable": lambda policy: policy.primary[1:2],
    "gateway": lambda policy: policy.references[:1],
    "witness": lambda policy: policy.references[1:2],
    "second": lambda policy: policy.references[2:3],
    "references": lambda policy: policy.references,
    "standby": lambda policy: policy.standby,
}
LACKING = {  # what a configuration would have to say for such a host
    "primary": 'this story is about a standby; the configuration says "role": "primary"',
    "cable": 'the primary has one address; a second path is one more in "active_ip"',
    "gateway": 'no reference is configured; it is "gateway_ip"',
    "witness": 'no witness is configured; it is named in "witness_ips"',
    "second": 'no second witness is configured; it is named in "witness_ips"',
    "references": 'no reference is configured; it is "gateway_ip"',
    "standby": 'this story is about a guarded primary; that is "role": "primary"',
}
SETTINGS = {
    "interval": "interval_s",
    "threshold": "threshold",
    "timeout": "timeout_s",
    "retry": "retry_interval_s",
    "recovery": "recovery_threshold",
    "recovery_delay": "recovery_delay_s",
    "takeover_delay": "takeover_delay_s",
    "grace": "startup_grace_s",
    "failback": "failback",
    "foreign_start": "foreign_start",
    "references_required": "references_required",
    "flap_window": "flap_window_s",
    "max_takeovers": "max_takeovers",
}
OF_GUARD = {"deadline": "deadline_s", "stop_limit": "stop_limit_s", "boot_hold": "boot_hold_s"}
OF_FENCE = {"timeout": "timeout_s", "retries": "retries", "on_failure": "on_failure"}
OF_LEASE = {"ttl": "ttl_s"}
OF_HOOK = {"hook_timeout": "timeout_s", "veto": "veto"}
OF_CHECK = {
    "threshold": "threshold",
    "interval": "interval_s",
    "timeout": "timeout_s",
    "gates_failback": "gates_failback",
}
LEAST = {  # as in a configuration; seconds, or a count
    "interval": 0.1,
    "retry": 0.05,
    "timeout": 0.05,
    "hook_timeout": 0.1,
    "ttl": 5,
    "threshold": 1,
    "recovery": 1,
    "references_required": 1,
    "max_takeovers": 1,
    "deadline": 1,
    "stop_limit": 3,
    "boot_hold": 0.1,
}
WHOLE = ("threshold", "recovery", "references_required", "max_takeovers", "retries")


class WordError(ValueError):
    """One thing that is not understood: what, and what would be right."""

    def __init__(self, what: str, right: str) -> None:
        super().__init__(what)
        self.what, self.right = what, right


# What stands in for the words in capitals.


def number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value < INF:
        raise WordError(f"{word!r} is no number", "a number of 0 or more")
    return value


def whole_number(word: str) -> int:
    if not word.isdecimal():
        raise WordError(f"{word!r} is no whole number", "a whole number")
    return int(word)


def amount(key: str, word: str) -> float:
    """What stands behind `key=`, and is no smaller than a configuration may have it."""
    value = whole_number(word) if key in WHOLE else number(word)
    least = LEAST.get(key, 0)
    if value < least:
        raise WordError(f"{word!r} is too small for {key}", f"a number of {least:g} or more")
    return value


def one_of(words: Sequence[str]) -> Callable[[str], str]:
    """A reader of one word out of these."""

    def read(word: str) -> str:
        if word in words:
            return word
        close = difflib.get_close_matches(word, words, 1)
        right = f"did you mean {close[0]!r}?" if close else f"one of {', '.join(words)}"
        raise WordError(f"{word!r} is not known here", right)

    return read


def unit(word: str) -> str:
    """A unit's name, or `service` for the first one of the configuration, or `services`."""
    if word in ("service", "services") or "." in word:
        return word
    right = "a unit's name as systemd has it, or 'service' (the first) or 'services' (all)"
    raise WordError(f"{word!r} is no unit", right)


def setting(pair: str, known: dict[str, str]) -> tuple[str, Any]:
    """One `key=value` as a policy has it."""
    key, _, value = pair.partition("=")
    name = known[one_of(tuple(known))(key)]
    match key:
        case "failback":
            return name, Failback(one_of(tuple(Failback))(value))
        case "foreign_start":
            return name, Foreign(one_of(tuple(Foreign))(value))
        case "on_failure":
            return name, FenceFailure(one_of(tuple(FenceFailure))(value))
        case "gates_failback" | "veto":
            return name, one_of(("yes", "no"))(value) == "yes"
        case _:
            return name, amount(key, value)


def settings(pairs: Sequence[str], known: dict[str, str]) -> dict[str, Any]:
    return dict(setting(pair, known) for pair in pairs)


CHOICES: dict[str, tuple[str, ...]] = {
    "HOST": tuple(HOSTS),
    "ANSWERS": ("passes", "fails", "unknown", "hangs"),
    "ENDS": ("succeeds", "fails", "hangs"),
    "NAME": tuple(field.name for field in fields(HooksPolicy)),
    "STORE": ("granted", "refused", "wanted", "lost", "unreachable"),
    "SETTING": tuple(f"{key}=" for key in SETTINGS),
}
READERS: dict[str, Callable[[str], Any]] = {
    "HOST": one_of(CHOICES["HOST"]),
    "UNIT": unit,
    "SECONDS": number,
    "PERCENT": number,
    "TIMES": whole_number,
    "CHECK": str,
    "NAME": one_of(CHOICES["NAME"]),
    "ANSWERS": one_of(CHOICES["ANSWERS"]),
    "ENDS": one_of(CHOICES["ENDS"]),
    "STORE": one_of(CHOICES["STORE"]),
    "SETTING...": lambda pair: setting(pair, SETTINGS),
    "TTL": lambda word: amount("ttl", word),
    "UNIT...": unit,
}


# What happens.


def set_up(world: World, name: str, *, up: bool) -> None:
    if name == "primary" and up:
        world.dead = False
    for address in HOSTS[name](world.policy):
        world.hosts[address].up = up


def die(world: World) -> None:
    """The primary loses power: no echo, no service, and its lease runs out by itself."""
    set_up(world, "primary", up=False)
    world.dead = True
    set_checks(world, "fails")
    if lease := world.policy.lease:
        world.store.holder, world.store.until_s = OTHER, world.now_s + lease.ttl_s


def come_back(world: World) -> None:
    set_up(world, "primary", up=True)
    set_checks(world, "passes")


def set_lit(world: World, *, lit: bool) -> None:
    for address in HOSTS["cable"](world.policy):
        world.hosts[address].reachable = lit


def units(world: World, name: str) -> tuple[str, ...]:
    """The units that a story's word means."""
    listed = world.policy.services
    return {"service": listed[:1], "services": listed}.get(name, (name,))


def services(world: World, name: str) -> Iterator[Service]:
    return (world.systemd.services[found] for found in units(world, name))


def become(world: World, name: str, **changes: Any) -> None:
    """Let services behave otherwise from now on."""
    for service in services(world, name):
        for what, value in changes.items():
            setattr(service, what, value)


def reload(world: World, **changes: Any) -> None:
    """The configuration is read again."""
    world.policy = replace(world.policy, **changes)
    if world.monitor:
        world.monitor.reload(world.policy, world.wire)


def lease_for(ttl_s: float = 15.0) -> LeasePolicy:
    return LeasePolicy(engine="toy", endpoints=(), name="pair", holder="us", ttl_s=ttl_s)


def guard_of(pairs: Sequence[str]) -> GuardPolicy:
    return GuardPolicy(**{"boot_hold_s": 7.0} | settings(pairs, OF_GUARD))


def each(act: Callable[[World, str], None]) -> Callable[[World, str], None]:
    """The same for every unit that is meant."""

    def every(world: World, name: str) -> None:
        for found in units(world, name):
            act(world, found)

    return every


def restart(world: World, name: str, after_s: float) -> None:
    for found in units(world, name):
        world.systemd.restart(found, after_s)


def set_checks(world: World, how: str) -> None:
    for check in world.policy.service_checks:
        world.says[check.name] = how


Act = Callable[..., object]
MOVES: dict[str, Act] = {
    # Hosts and networks.
    "HOST up": lambda world, name: set_up(world, name, up=True),
    "HOST silent": lambda world, name: set_up(world, name, up=False),
    "primary dies": die,
    "primary returns": come_back,
    "cable dark": lambda world: set_lit(world, lit=False),
    "cable lit": lambda world: set_lit(world, lit=True),
    "standby unplugged": lambda world: setattr(world, "plugged", False),
    "standby plugged": lambda world: setattr(world, "plugged", True),
    "network lost": lambda world: setattr(world, "network", False),
    "network back": lambda world: setattr(world, "network", True),
    "latency SECONDS": lambda world, s: setattr(world, "latency_s", s),
    "loss PERCENT": lambda world, percent: setattr(world, "loss", percent / 100),
    # Protections.
    "check CHECK ANSWERS": lambda world, name, how: world.says.update({name: how}),
    "checks ANSWERS": set_checks,
    "fence ENDS": lambda world, how: setattr(world, "fence_plan", (how, FENCE_S)),
    "fence ENDS after SECONDS": lambda world, how, s: setattr(world, "fence_plan", (how, s)),
    "hook NAME ENDS": lambda world, name, how: world.hook_plan.update({name: (how, HOOK_S)}),
    "hook NAME ENDS after SECONDS": lambda world, name, how, s: world.hook_plan.update(
        {name: (how, s)}
    ),
    "lease STORE": lambda world, how: world.store.obey(how),
    "lease ttl TTL": lambda world, s: reload(world, lease=lease_for(s)),
    # The operator.
    "ack": lambda world: world.recorder.ask("ack"),
    "takeover": lambda world: world.recorder.ask("takeover"),
    "failback": lambda world: world.recorder.ask("failback"),
    "resume": lambda world: world.recorder.ask("resume"),
    "pause SECONDS": lambda world, s: world.recorder.pause_for(s),
    "reload SETTING...": lambda world, *pairs: reload(world, **dict(pairs)),
    "list UNIT...": lambda world, *names: reload(world, services=names),
    # This host and its monitor.
    "kill": World.kill,
    "stop monitor SECONDS": lambda world, s: world.kill(away_s=s),
    "reboot SECONDS": lambda world, s: world.reboot(takes_s=s),
    "freeze SECONDS": World.freeze,
    "suspend SECONDS": World.suspend,
    "shutdown": lambda world: setattr(world.systemd, "host_stopping", True),
    "systemd gone": lambda world: setattr(world.systemd, "gone", True),
    "systemd back": lambda world: setattr(world.systemd, "gone", False),
    "end": lambda _world: None,
    # Services.
    "UNIT starts": each(lambda world, name: world.systemd.start(name)),
    "UNIT stops": each(lambda world, name: world.systemd.stop(name)),
    "UNIT dies": each(lambda world, name: world.systemd.die(name)),
    "UNIT runs": each(
        lambda world, name: world.systemd.become(world.systemd.services[name], Unit.RUNNING)
    ),
    "UNIT restarts SECONDS": restart,
    "UNIT fails TIMES": lambda world, name, times: become(world, name, fails=times),
    "UNIT ignores SIGTERM": lambda world, name: become(world, name, stops_in_s=INF),
    "UNIT hangs in the kernel": lambda world, name: become(
        world, name, stops_in_s=INF, immortal=True
    ),
    "UNIT hangs in start": lambda world, name: become(world, name, starts_in_s=INF),
    "UNIT starts in SECONDS": lambda world, name, s: become(world, name, starts_in_s=s),
    "UNIT stops in SECONDS": lambda world, name, s: become(world, name, stops_in_s=s),
    "UNIT is a oneshot": lambda world, name: become(world, name, oneshot=True),
    "UNIT has an unmet condition": lambda world, name: become(world, name, fails=MANY),
    "UNIT is mended": lambda world, name: become(world, name, fails=0, starts_in_s=MENDED_S),
}


@dataclass(frozen=True, slots=True)
class Move:
    """One thing that happens."""

    pattern: str  # a key of MOVES
    values: tuple[Any, ...]  # for the words in capitals
    words: str  # as written

    def perform(self, world: World) -> None:
        MOVES[self.pattern](world, *self.values)


def read_move(words: str) -> Move:
    """Understand one move.  Raises WordError."""
    told = words.split()
    complaint: WordError | None = None
    for pattern in MOVES:
        expected = pattern.split()
        if expected[-1].endswith("..."):
            expected += expected[-1:] * (len(told) - len(expected))
        fixed = [word for word in expected if word.rstrip(".") not in CAPITALS]
        pairs = list(zip(expected, told, strict=False))
        kept = [word for want, word in pairs if want.rstrip(".") not in CAPITALS]
        if len(expected) != len(told) or kept != fixed:
            continue
        try:
            read = ((READERS[want], word) for want, word in pairs if want in READERS)
            return Move(pattern, tuple(reader(word) for reader, word in read), words)
        except WordError as error:
            complaint = complaint or error
    if complaint:
        raise complaint
    near = [
        " ".join(
            word if want in READERS else want
            for want, word in zip(pattern.split(), told, strict=True)
        )
        for pattern in MOVES
        if len(pattern.split()) == len(told)
    ]
    close = difflib.get_close_matches(words, near, 1)
    right = f"did you mean {close[0]!r}?" if close else "one of those that simulate --list shows"
    raise WordError(f"{words!r} is nothing that can happen", right)


CAPITALS = {name.rstrip(".") for name in READERS}


def lacking(move: Move, policy: Policy, listed: frozenset[str]) -> str:
    """What the configuration has not, and this move needs; "" where all is there.

    `listed`: units that the story itself puts on the list.
    """
    wanted = [word for word in move.pattern.split() if word in READERS]
    told = dict(zip(wanted, move.values, strict=False))
    if (name := told.get("HOST")) and not HOSTS[name](policy):
        return LACKING[name]
    if move.pattern.startswith("primary ") and not policy.primary:
        return LACKING["primary"]
    if move.pattern.startswith("cable ") and not HOSTS["cable"](policy):
        return LACKING["cable"]
    name = told.get("UNIT")
    if name and "." in name and name not in {*policy.services, *listed}:
        return f"{name!r} is none of the services: {', '.join(policy.services)}"
    if move.pattern.startswith("check"):
        names = [check.name for check in policy.service_checks]
        if not names:
            return 'no service check is configured; they are in "service_checks"'
        if told.get("CHECK", names[0]) not in names:
            return f"{told['CHECK']!r} is none of the service checks: {', '.join(names)}"
    if move.pattern.startswith("fence ") and not policy.fence:
        return 'no fence is configured; it is "fence"'
    if move.pattern == "lease STORE" and not policy.lease:
        return 'no lease is configured; it is "lease"'
    return ""
