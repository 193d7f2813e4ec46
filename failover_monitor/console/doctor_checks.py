"""What `doctor` makes of the monitor, of this host, and of the units it manages.

Rule: pure, and one question in each function.  A function that has not been given what it needs
says nothing: that it could not be seen has been said already.
"""

from collections.abc import Iterator, Mapping

from failover_monitor.console import lines
from failover_monitor.console.doctor_facts import (
    Facts,
    Finding,
    RoomSeen,
    failure,
    ok,
    warning,
)
from failover_monitor.model import KILL_BEFORE_S
from failover_monitor.units import RUNS

CAP_NET_RAW = 1 << 13  # linux/capability.h
FULL_BYTES, TIGHT_BYTES = 1 << 20, 16 << 20  # of a file system: no room, little room
LOG_BYTES = 200 << 20  # a log this long is not rotated
BOOT_STATES = frozenset({"enabled", "enabled-runtime"})
SHIPPED_LOGROTATE = "run install.sh again"
RELOAD = "systemctl reload failover-monitor"
START = "systemctl start failover-monitor; then failover-monitor status"
MONITOR = "monitor"
SYSTEMD = "systemd"


# The monitor.


def monitor_runs(facts: Facts) -> Iterator[Finding]:
    seen = facts.monitor
    if seen is None:
        return
    if not seen.running:
        yield failure(MONITOR, "is not running: nobody watches", START)
        return
    if seen.status is None:
        what = "holds its lock, and has left no status that can be read"
        yield failure(MONITOR, what, "journalctl -u failover-monitor -n 50")
        return
    if not facts.fresh:
        what = f"is stale: it last wrote {seen.age_s:.0f} s ago"
        yield failure(MONITOR, what, "systemctl restart failover-monitor; the services stay")
        return
    yield ok(MONITOR, f"runs; it wrote {seen.age_s:.1f} s ago")


def monitor_starts_at_boot(facts: Facts) -> Iterator[Finding]:
    if facts.systemd is None:
        return
    state = facts.systemd.monitor.get("UnitFileState", "")
    if facts.systemd.monitor.get("LoadState") == "not-found":
        yield failure("boot", "there is no failover-monitor.service", "run install.sh")
    elif state not in BOOT_STATES:
        what = f"the monitor is not started at boot: it is {state or 'not enabled'}"
        cure = "systemctl unmask" if state.startswith("masked") else "systemctl enable"
        yield failure("boot", what, f"{cure} failover-monitor")
    else:
        yield ok("boot", "the monitor is started at boot")


def configuration_in_use(facts: Facts) -> Iterator[Finding]:
    seen = facts.monitor
    if seen is None or not seen.running or seen.config_in_use is None:
        return
    if seen.config_in_use == facts.config_text:
        yield ok("in use", f"the monitor runs with {facts.config_path} as it is now")
        return
    role = facts.status.get("role")
    what = f"{facts.config_path} has changed since the monitor read it"
    if role is not None and role != facts.policy.role:
        yield failure("in use", f"{what}, and is now a {facts.policy.role}'s", "run install.sh")
    else:
        yield warning("in use", what, RELOAD)


def monitor_has_its_capability(facts: Facts) -> Iterator[Finding]:
    seen = facts.monitor
    if seen is None or seen.capabilities is None:
        return
    if seen.capabilities & CAP_NET_RAW:
        yield ok("privileges", "the monitor has CAP_NET_RAW")
    else:
        hint = "systemctl cat failover-monitor; run install.sh again"
        yield failure("privileges", "the monitor has no CAP_NET_RAW: it cannot echo", hint)


def nothing_is_held(facts: Facts) -> Iterator[Finding]:
    """What an operator, or too many takeovers, have forbidden; and what waits right now."""
    if not facts.fresh:
        return
    status = facts.status
    pause = status.get("paused")
    if status.get("flapping"):
        what = "no takeover will happen: there were too many of them"
        yield failure("held", what, "find out why the primary comes and goes; failover-monitor ack")
    if pause:
        yield failure(
            "held", "no takeover will happen: a pause is in force", "failover-monitor resume"
        )
    if facts.claiming:
        what = "a takeover has begun and waits: nobody serves now"
        yield failure("held", what, "see what it waits for: failover-monitor status")
    if not status.get("flapping") and not pause and not facts.claiming:
        yield ok("held", "nobody holds a takeover back")


def attention_is_paid(facts: Facts) -> Iterator[Finding]:
    if not facts.fresh:
        return
    told = facts.status.get("attention")
    for words in told if isinstance(told, list) else ():
        yield warning("attention", str(words), "failover-monitor status")


def phase_is_known(facts: Facts) -> Iterator[Finding]:
    if not facts.fresh:
        return
    phase, verdict = facts.status.get("phase"), facts.status.get("verdict")
    if verdict == "unknown":
        why = facts.status.get("why") or "not enough evidence yet"
        what = f"the monitor has no verdict: {why}"
        yield warning("phase", what, "wait a minute; then see what is said of the echoes")
    else:
        yield ok("phase", f"{phase}, and the verdict is {verdict}")


# This host.


def doctor_is_root(facts: Facts) -> Iterator[Finding]:
    if facts.host and not facts.host.root:
        yield failure("rights", "you are not root: half of this cannot be seen", "use sudo")
    elif facts.host:
        yield ok("rights", "you are root")


def clock_is_good(facts: Facts) -> Iterator[Finding]:
    if facts.host is None:
        return
    if not facts.host.boottime_works:
        yield failure("clock", "CLOCK_BOOTTIME does not go on", "the monitor needs a Linux kernel")
    elif facts.host.synchronised is False:
        what = "the system clock is not synchronised: logs of two hosts will not fit together"
        yield warning("clock", what, "timedatectl; systemctl status systemd-timesyncd chrony ntp")
    else:
        yield ok("clock", "goes on" + (", and is synchronised" if facts.host.synchronised else ""))


def room_is_left(facts: Facts) -> Iterator[Finding]:
    for room in facts.host.rooms if facts.host else ():
        yield room_finding(room)


def room_finding(room: RoomSeen) -> Finding:
    free = f"{room.free_bytes / (1 << 20):.1f} MiB free"
    if room.read_only:
        return failure("space", f"{room.path} is read-only", f"mount -o remount,rw on {room.path}")
    if room.free_files == 0:
        return failure("space", f"{room.path} has no inode left", f"make room in {room.path}")
    if room.free_bytes < FULL_BYTES:
        what = f"{room.path} is full: {free}; what is decided cannot be written down"
        return failure("space", what, f"du -x {room.path} | sort -n | tail; make room")
    if room.free_bytes < TIGHT_BYTES:
        return warning("space", f"{room.path} is nearly full: {free}", "make room")
    return ok("space", f"{room.path}: {free}")


def log_is_kept(facts: Facts) -> Iterator[Finding]:
    host = facts.host
    if host is None:
        return
    if host.log_trouble:
        yield failure("log", host.log_trouble, "see to its directory; the monitor makes the file")
    elif host.rotation_trouble:
        yield warning("log", f"is not rotated: {host.rotation_trouble}", SHIPPED_LOGROTATE)
    elif host.log_bytes > LOG_BYTES:
        what = f"is {host.log_bytes >> 20} MiB long: nobody rotates it"
        yield warning("log", what, "systemctl status logrotate.timer")
    else:
        yield ok("log", "can be written, and is rotated")


# systemd.


def systemd_is_well(facts: Facts) -> Iterator[Finding]:
    if facts.systemd is None:
        return
    state = facts.systemd.state
    match state:
        case "running":
            yield ok(SYSTEMD, "runs")
        case "degraded":
            failed = ", ".join(facts.systemd.failed) or "some unit"
            yield warning(SYSTEMD, f"is degraded, failed: {failed}", "systemctl --failed")
        case "initializing" | "starting":
            yield warning(SYSTEMD, "is still booting this host", "systemctl list-jobs")
        case "stopping" | "maintenance":
            what = f"is in state {state}: nothing is started now"
            yield failure(SYSTEMD, what, "systemctl list-jobs; journalctl -b")
        case _:
            yield failure(SYSTEMD, f"its state is {state or 'not known'}", "systemctl status")


def bus_answers(facts: Facts) -> Iterator[Finding]:
    if facts.bus_trouble:
        what = f"{facts.bus_trouble}; the monitor would go through systemctl, and be slower"
        yield failure("D-Bus", what, "systemctl status dbus; systemctl restart dbus; or reboot")
    elif facts.bus_trouble == "":
        yield ok("D-Bus", "answers")


# The managed units.


def units_exist(facts: Facts) -> Iterator[Finding]:
    for name, shown in managed(facts):
        match shown.get("LoadState", ""):
            case "loaded":
                yield ok(name, "exists")
            case "not-found":
                yield failure(
                    name, "does not exist on this host", f"install it: systemctl cat {name}"
                )
            case "masked":
                yield failure(name, "is masked: it can never start", f"systemctl unmask {name}")
            case state:
                what = f"cannot be loaded: {state or 'systemd does not say why'}"
                yield failure(name, what, f"systemd-analyze verify {name}")


def units_do_not_start_by_themselves(facts: Facts) -> Iterator[Finding]:
    """On a guarded primary they may: the gate holds them."""
    if facts.guarded:
        return
    for name, shown in loaded(facts):
        state = shown.get("UnitFileState", "")
        starters = [other for other in starters_of(shown) if starts(facts, other)]
        if state in BOOT_STATES:
            what = f"is {state}: the boot of this host starts it beside the primary's"
            yield failure(name, what, f"systemctl disable {name}")
        elif starters:
            what = f"is started by {', '.join(starters)}, whoever serves"
            yield failure(name, what, f"systemctl disable --now {starters[0]}, or cut their tie")
        else:
            yield ok(name, "nothing but the monitor starts it")


def starters_of(shown: Mapping[str, str]) -> tuple[str, ...]:
    """Units that start this one when they start, or when something happens to them."""
    ties = ("TriggeredBy", "WantedBy", "RequiredBy", "UpheldBy", "BoundBy")
    return tuple(dict.fromkeys(" ".join(shown.get(tie, "") for tie in ties).split()))


def starts(facts: Facts, name: str) -> bool:
    """Whether a unit that is not ours is there, or will be after a boot."""
    if facts.systemd is None or name in facts.policy.services:
        return False
    shown = facts.systemd.starters.get(name, {})
    return shown.get("ActiveState") in RUNS or shown.get("UnitFileState") in BOOT_STATES


def units_rest(facts: Facts) -> Iterator[Finding]:
    """While the primary serves nothing of it runs here, and the last run left no failure."""
    for name, shown in loaded(facts):
        state = shown.get("ActiveState", "")
        if state == "failed":
            why = shown.get("Result") or "failed"
            hint = f"systemctl status {name}"
            yield warning(name, f"ended badly the last time: {why}", hint)
        elif facts.guarded or facts.serving or state not in RUNS:
            yield ok(name, f"is {state}")
        elif facts.fresh and facts.status.get("verdict") == "up":
            what = "runs here while the primary answers: possibly two active"
            yield failure(name, what, f"systemctl stop {name}, here or there")
        else:
            yield warning(name, "runs here already", "failover-monitor status")


def units_stop_in_time(facts: Facts) -> Iterator[Finding]:
    for name, shown in loaded(facts):
        limit_s = span_s(shown.get("TimeoutStopUSec", ""))
        if limit_s is None:
            continue
        least_s = facts.policy.stop_limit_s - KILL_BEFORE_S
        if facts.policy.enforced and limit_s > least_s:
            what = f"may take {told(limit_s)} to stop, and is killed after {least_s:g} s"
            yield warning(
                name, what, f"TimeoutStopSec={least_s:g} in {name}, or a longer stop_limit"
            )
        elif limit_s == float("inf"):
            what = "may take for ever to stop: the services would never go back"
            yield warning(name, what, f"TimeoutStopSec=30 in {name}")
        else:
            yield ok(name, f"stops within {told(limit_s)}")


def units_are_read_again(facts: Facts) -> Iterator[Finding]:
    for name, shown in loaded(facts):
        if shown.get("NeedDaemonReload") == "yes":
            what = "its file has changed since systemd read it"
            yield warning(name, what, "systemctl daemon-reload")


def units_are_well_written(facts: Facts) -> Iterator[Finding]:
    for name, tried in (facts.tried or {}).items():
        if tried.errors is None or not exists(facts, name):
            continue
        if tried.errors:
            what = f"systemd-analyze finds: {tried.errors[0]}"
            yield failure(name, what, f"systemd-analyze verify {name}")
        else:
            yield ok(name, "systemd-analyze finds no error")


def conditions_are_met(facts: Facts) -> Iterator[Finding]:
    """The first unit of the list must be able to start now; it may make the others able to."""
    for name, tried in (facts.tried or {}).items():
        if tried.unmet is None or not exists(facts, name):
            continue
        unmet = [words for words in tried.unmet if not (facts.guarded and "/permit" in words)]
        hint = f"systemctl cat {name}; make it true on this host"
        if not unmet:
            yield ok(name, "its conditions are met")
        elif name == facts.policy.services[0]:
            yield failure(name, f"would not start now: {unmet[0]}", hint)
        else:
            what = f"would not start now, unless a service before it changes that: {unmet[0]}"
            yield warning(name, what, hint)


def managed(facts: Facts) -> tuple[tuple[str, Mapping[str, str]], ...]:
    return tuple(facts.systemd.units.items()) if facts.systemd else ()


def loaded(facts: Facts) -> tuple[tuple[str, Mapping[str, str]], ...]:
    return tuple((name, unit) for name, unit in managed(facts) if unit.get("LoadState") == "loaded")


def exists(facts: Facts, name: str) -> bool:
    """Whether systemd has the unit, as far as it was asked: what is missing is said only once."""
    return facts.systemd is None or name in dict(loaded(facts))


def span_s(text: str) -> float | None:
    """A limit as systemd prints it, in seconds; None: it is none."""
    if text == "infinity":
        return float("inf")
    try:
        return lines.span_s(text)
    except ValueError:
        return None


def told(length_s: float) -> str:
    return "for ever" if length_s == float("inf") else f"{length_s:g} s"
