"""What `doctor` reads from files and from the kernel of this host.

Rule: it only reads.  Any of it may hang on a bad disk, so the caller does it in a thread.
"""

import ctypes
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

from failover_monitor.console.doctor_facts import (
    FileSeen,
    FilesSeen,
    HostSeen,
    MonitorSeen,
    RoomSeen,
)
from failover_monitor.console.status import read_status
from failover_monitor.files import Paths, locked, read_first
from failover_monitor.model import HooksPolicy, Policy
from failover_monitor.ownership import unfit

HIDDEN = re.compile(r"/(home|root|run/user|tmp|var/tmp)(/|$)")  # ProtectHome=, PrivateTmp=
TIMEX_BYTES = 512  # struct timex of adjtimex(2) is shorter
TIME_ERROR = 5  # its answer when the clock is not synchronised
WATCHDOG = Path("/dev/watchdog")
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def look_at_host(paths: Paths) -> HostSeen:
    """Raises OSError."""
    log_bytes, log_trouble = log_of(paths)
    places = (paths.run, paths.history, paths.log.parent)
    rooms = {found.stat().st_dev: room(found) for found in map(there, places)}
    boottime_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return HostSeen(
        root=os.geteuid() == 0,
        synchronised=synchronised(),
        boottime_works=boottime_s >= time.clock_gettime(time.CLOCK_MONOTONIC) - 1,
        rooms=tuple(rooms.values()),
        log_trouble=log_trouble,
        log_bytes=log_bytes,
        rotation_trouble=rotation_trouble(paths),
        watchdog_device=WATCHDOG.is_char_device(),
    )


def synchronised() -> bool | None:
    """Whether the system clock is kept right, by the kernel's word; asked without a change."""
    state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    return None if state < 0 else state != TIME_ERROR


def there(path: Path) -> Path:
    """The path, or what there is above it."""
    return next(place for place in (path, *path.parents) if place.exists())


def room(path: Path) -> RoomSeen:
    seen = os.statvfs(path)
    return RoomSeen(
        path=str(path),
        free_bytes=seen.f_bavail * seen.f_frsize,
        free_files=seen.f_favail if seen.f_files else None,
        read_only=bool(seen.f_flag & os.ST_RDONLY),
    )


def log_of(paths: Paths) -> tuple[int, str]:
    """Its length, and why it cannot be written."""
    place = paths.log.parent
    if not place.is_dir():
        return 0, f"cannot be written: there is no directory {place}"
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return 0, f"cannot be written: {place} is read-only"
    try:
        found = paths.log.stat()
    except FileNotFoundError:
        return 0, ""
    if not stat.S_ISREG(found.st_mode):
        return 0, f"cannot be written: {paths.log} is not a file"
    return found.st_size, ""


def rotation_trouble(paths: Paths) -> str:
    rule = paths.root / "etc/logrotate.d/failover-monitor"
    if not rule.exists():
        return f"there is no {rule}"
    program = shutil.which("logrotate", path=f"{os.environ.get('PATH', '')}:{SBIN}")
    return "" if program else "logrotate is not installed"


def look_at_monitor(paths: Paths) -> MonitorSeen:
    running = locked(paths.lock)
    status = read_status(paths)
    at_s = status["at_s"] if status else 0.0
    holder = lock_holder(paths.lock) if running else None
    return MonitorSeen(
        running=running,
        status=status,
        age_s=time.clock_gettime(time.CLOCK_BOOTTIME) - at_s,
        config_in_use=read_first(paths.last_good_config()),
        capabilities=capabilities(holder) if holder else None,
    )


def lock_holder(path: Path) -> int | None:
    """The process that holds the lock, as proc_locks(5) tells it."""
    with suppress(OSError, ValueError):
        found = path.stat()
        major, minor = os.major(found.st_dev), os.minor(found.st_dev)
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if words[1] == "FLOCK" and words[5] == f"{major:02x}:{minor:02x}:{found.st_ino}":
                return int(words[4])
    return None


def capabilities(pid: int) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        text = Path(f"/proc/{pid}/status").read_text()
        return int(text.partition("CapEff:")[2].split()[0], 16)
    return None


def look_at_files(paths: Paths, policy: Policy) -> FilesSeen:
    """The files that a policy names, as the monitor sees them: from within its sandbox."""
    holder = lock_holder(paths.lock)
    root = Path(f"/proc/{holder}/root") if holder else Path("/")
    if not os.access(root, os.X_OK):  # somebody else's process, or none any more
        root = Path("/")
    named = dict.fromkeys(named_files(policy))
    drop_ins = paths.drop_ins(policy.services) if policy.enforced else ()
    return FilesSeen(
        named=tuple(
            FileSeen(
                path=path, what=what, trouble=trouble(root, path, run=what.endswith("command"))
            )
            for what, path in named
        ),
        missing_drop_ins=tuple(str(path) for path in drop_ins if not path.exists()),
        permit=paths.permit.exists(),
        hooks=hook_troubles(policy),
    )


def hook_troubles(policy: Policy) -> dict[str, str]:
    """By hook: why it cannot, or must not, be run.  They run outside of the monitor's sandbox."""
    found = {}
    for hook in fields(HooksPolicy) if policy.hooks else ():
        if wanted := getattr(policy.hooks, hook.name):
            try:
                found[hook.name] = unfit(wanted.command)
            except OSError as error:
                found[hook.name] = f"cannot look at {error.filename}: {error.strerror}"
    return found


def named_files(policy: Policy) -> Iterator[tuple[str, str]]:
    """What each is for, and its path; what ends with "command" must be a program."""
    if policy.fence:
        yield "fence command", policy.fence.command[0]
    if policy.lease:
        for name in ("ca", "cert", "key"):
            if path := getattr(policy.lease, name):
                yield f"lease {name}", path
    for check in policy.service_checks:
        options: Mapping[str, object] = check.options
        for name in ("identity", "known_hosts", "ca"):
            if path := options.get(name):
                yield f"{check.kind} check {name}", str(path)
        command = options.get("command")
        if isinstance(command, list | tuple):
            yield "check command", str(command[0])


def trouble(root: Path, path: str, *, run: bool) -> str:
    """Why root without further rights cannot read this file, or run it; "" = it can."""
    if root == Path("/") and HIDDEN.match(path):
        return "is hidden from the monitor by its sandbox"
    place = root / path.lstrip("/")
    try:
        above = list(reversed(place.parents))[len(root.parts) :]
        closed = next((parent for parent in above if not allowed(parent.stat(), 0o1)), None)
        found = place.stat()
    except OSError as error:
        return f"cannot be used: {error.strerror}"
    if closed:
        return f"cannot be reached: /{closed.relative_to(root)} is closed to the monitor"
    if not stat.S_ISREG(found.st_mode):
        return "is not a file"
    if run and not found.st_mode & 0o111:
        return "is not executable"
    return "" if run or allowed(found, 0o4) else "cannot be read: it is not root's to read"


def allowed(found: os.stat_result, right: int) -> bool:
    """By the mode alone: in its sandbox root has no rights beyond those of a file's owner."""
    if found.st_uid == 0:
        right <<= 6
    elif found.st_gid == 0:
        right <<= 3
    return bool(found.st_mode & right)
