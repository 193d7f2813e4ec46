"""Scenario files: a story, a script, ----, a timeline.  Parses them and plays them in a world."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from failover_monitor.events import DEBUG, Event, Kind
from failover_monitor.model import (
    INF,
    Failback,
    FenceFailure,
    FencePolicy,
    Foreign,
    GuardPolicy,
    HookPolicy,
    HooksPolicy,
    LeasePolicy,
    Policy,
    Role,
    ServiceCheck,
    Unit,
)
from tests.world import Note, World, policy_of

RULE = "----\n"
PRIMARY, CABLE, GATEWAY, WITNESS = "198.51.100.2", "10.0.0.2", "198.51.100.1", "198.51.100.9"
SECOND, STANDBY = "198.51.100.10", "198.51.100.3"
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
    "deadline": "deadline_s",
    "stop_limit": "stop_limit_s",
    "boot_hold": "boot_hold_s",
    "retries": "retries",
    "on_failure": "on_failure",
    "ttl": "ttl_s",
    "gates_failback": "gates_failback",
    "hook_timeout": "timeout_s",
    "veto": "veto",
}
HOSTS = {
    "primary": PRIMARY,
    "cable": CABLE,
    "gateway": GATEWAY,
    "witness": WITNESS,
    "second": SECOND,
    "standby": STANDBY,
}
TOLD = {
    Kind.TRANSITION,
    Kind.ASKED,
    Kind.HELD,
    Kind.REFERENCE,
    Kind.FOREIGN,
    Kind.SERVICE_FAILED,
    Kind.STOP_OVERDUE,
    Kind.FAILBACK_WAITS,
    Kind.INTENT_ENDED,
    Kind.DOUBT,
    Kind.TWO_ACTIVE,
    Kind.VETO,
    Kind.CLAIM,
    Kind.FENCE,
    Kind.LEASE,
    Kind.SERVICE_CHECK,
    Kind.FLAPPING,
    Kind.GATED,
    Kind.HOOK,
}


@dataclass(frozen=True)
class Script:
    """A parsed scenario: what holds at the beginning, and what happens when."""

    policy: Policy
    moves: tuple[tuple[float, tuple[str, ...]], ...]
    booted_s: float


def parse(text: str) -> Script:
    settings: dict[str, Any] = {}
    moves: list[tuple[float, tuple[str, ...]]] = []
    booted_s = -1000.0
    for line in text.splitlines():
        match line.split():
            case ["policy", *pairs]:
                settings.update(read_settings(pairs))
            case ["services", *names]:
                settings["services"] = tuple(names)
            case ["cable"]:
                settings["primary"] = (PRIMARY, CABLE)
            case ["witness"]:
                settings["references"] = (GATEWAY, WITNESS)
            case ["witnesses"]:
                settings["references"] = (GATEWAY, WITNESS, SECOND)
            case ["booted", at_s]:
                booted_s = float(at_s)
            case ["at", at_s, *words]:
                told = " ".join(words).split(", ")
                moves.extend((float(at_s), tuple(move.split())) for move in told)
            case words:
                settings.update(read_protection(words, settings))
    return Script(policy_of(**settings), tuple(moves), booted_s)


def read_protection(words: list[str], settings: dict[str, Any]) -> dict[str, Any]:
    """What one line adds to the policy, if it is about a protection."""
    match words:
        case ["role", "primary"]:
            addresses = {"primary": (), "standby": (STANDBY,)}
            return addresses | {"role": Role.PRIMARY, "guard": GuardPolicy(boot_hold_s=7.0)}
        case ["guard", *pairs]:
            return {"guard": GuardPolicy(**{"boot_hold_s": 7.0} | dict(read_settings(pairs)))}
        case ["fence", *pairs]:
            values = dict(read_settings(pairs))
            return {"fence": FencePolicy(command=("fence",), options={}, **values)}
        case ["lease", *pairs]:
            values = dict(read_settings(pairs))
            lease = LeasePolicy(engine="toy", endpoints=(), name="pair", holder="us", **values)
            return {"lease": lease}
        case ["hook", name, *pairs]:
            hook = HookPolicy(command=(name,), **dict(read_settings(pairs)))
            return {"hooks": replace(settings.get("hooks", HooksPolicy()), **{name: hook})}
        case ["service_check", name, "trigger", *pairs]:
            return more_checks(name, {"trigger": True} | dict(read_settings(pairs)), settings)
        case ["service_check", name, *pairs]:
            return more_checks(name, dict(read_settings(pairs)), settings)
        case _:
            return {}


def more_checks(name: str, values: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    check = ServiceCheck(kind="toy", name=name, options={}, **values)
    return {"service_checks": (*settings.get("service_checks", ()), check)}


def read_settings(pairs: list[str]) -> Iterator[tuple[str, Any]]:
    for pair in pairs:
        key, value = pair.split("=")
        match key:
            case "failback":
                yield SETTINGS[key], Failback(value)
            case "foreign_start":
                yield SETTINGS[key], Foreign(value)
            case "on_failure":
                yield SETTINGS[key], FenceFailure(value)
            case "gates_failback" | "veto":
                yield SETTINGS[key], value == "yes"
            case "threshold" | "recovery" | "references_required" | "max_takeovers" | "retries":
                yield SETTINGS[key], int(value)
            case _:
                yield SETTINGS[key], float(value)


def play(script: Script) -> World:
    """Play a script to its end."""
    world = World(script.policy, booted_s=script.booted_s)
    begun = False
    for at_s, move in script.moves:
        if at_s > 0 and not begun:
            world.begin()
            begun = True
        world.run_until(at_s)
        perform(world, move)
        if move != ("end",) and begun:
            world.wake()
    return world


def timeline(world: World) -> str:
    """What was decided, said and asked, and the word in the state file."""
    lines = []
    for at_s, entry in world.log:
        if isinstance(entry, Event):
            if entry.kind in TOLD and entry.level > DEBUG:
                lines.append(f"{at_s:6.1f}  {entry.sentence}\n")
        elif isinstance(entry, Note):
            lines.append(f"{at_s:6.1f}  * {entry.what}\n")
        else:
            lines.append(f"{at_s:6.1f}  = {entry}\n")
    return "".join(lines)


def perform(world: World, move: tuple[str, ...]) -> None:  # noqa: C901, one line for each move
    services = world.systemd.services
    match move:
        case [who, ("up" | "silent") as how] if who in HOSTS:
            world.hosts[HOSTS[who]].up = how == "up"
        case ["check", name, how]:
            world.says[name] = how
        case ["fence", how]:
            world.fence_plan = how, 2.0
        case ["fence", how, "after", seconds]:
            world.fence_plan = how, float(seconds)
        case ["hook", name, how]:
            world.hook_plan[name] = how, 1.0
        case ["hook", name, how, "after", seconds]:
            world.hook_plan[name] = how, float(seconds)
        case ["lease", "ttl", seconds]:
            reload(world, read_protection(["lease", f"ttl={seconds}"], {}))
        case ["lease", how]:
            world.store.obey(how)
        case ["ack"]:
            world.recorder.paths.ack_request.asked = True
        case ["cable", ("dark" | "lit") as how]:
            world.hosts[CABLE].reachable = how == "lit"
        case ["standby", ("unplugged" | "plugged") as how]:
            world.plugged = how == "plugged"
        case ["network", ("lost" | "back") as how]:
            world.network = how == "back"
        case ["latency", seconds]:
            world.latency_s = float(seconds)
        case ["loss", percent]:
            world.loss = float(percent) / 100
        case ["kill"]:
            world.kill()
        case ["stop", "monitor", seconds]:
            world.kill(away_s=float(seconds))
        case ["reboot", seconds]:
            world.reboot(takes_s=float(seconds))
        case ["freeze", seconds]:
            world.freeze(float(seconds))
        case ["suspend", seconds]:
            world.suspend(float(seconds))
        case ["shutdown"]:
            world.systemd.host_stopping = True
        case ["failback"]:
            world.recorder.paths.failback_request.asked = True
        case ["reload", *pairs]:
            reload(world, dict(read_settings(list(pairs))))
        case ["list", *names]:
            reload(world, {"services": tuple(names)})
        case ["systemd", ("gone" | "back") as how]:
            world.systemd.gone = how == "gone"
        case ["end"]:
            pass
        case [name, "starts"]:
            world.systemd.start(name)
        case [name, "stops"]:
            world.systemd.stop(name)
        case [name, "dies"]:
            world.systemd.die(name)
        case [name, "runs"]:
            world.systemd.become(services[name], Unit.RUNNING)
        case [name, "restarts", seconds]:
            world.systemd.restart(name, float(seconds))
        case [name, "fails", times]:
            services[name].fails = int(times)
        case [name, "ignores", "SIGTERM"]:
            services[name].stops_in_s = INF
        case [name, "hangs", "in", "the", "kernel"]:
            services[name].stops_in_s, services[name].immortal = INF, True
        case [name, "hangs", "in", "start"]:
            services[name].starts_in_s = INF
        case [name, "starts", "in", seconds]:
            services[name].starts_in_s = float(seconds)
        case [name, "stops", "in", seconds]:
            services[name].stops_in_s = float(seconds)
        case [name, "is", "a", "oneshot"]:
            services[name].oneshot = True
        case [name, "has", "an", "unmet", "condition"]:
            services[name].fails = 10**6
        case [name, "is", "mended"]:
            services[name].fails, services[name].starts_in_s = 0, 0.02
        case _:
            raise ValueError(f"cannot perform {' '.join(move)!r}")


def reload(world: World, changes: dict[str, Any]) -> None:
    assert world.monitor
    world.policy = replace(world.policy, **changes)
    world.monitor.reload(world.policy, world.wire)


def read(path: Path) -> tuple[str, str]:
    script, expected = path.read_text().split(RULE)
    return script, expected
