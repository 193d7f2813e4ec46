"""What `doctor` has seen of this host and of the pair: plain values, and what it makes of them.

Rule: pure.  Whatever could not be seen is None, and no finding rests on it; that it could not be
seen is a finding by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from failover_monitor.model import CheckSeen, Phase, Policy, Role

WITHOUT_PRIMARY = frozenset({Phase.CLAIM, Phase.TAKEOVER, Phase.ACTIVE, Phase.FAILBACK})


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # a failover would work; somebody should look at this
    FAILURE = "failure"  # it would not, or not as it should


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    subject: str  # what was looked at
    what: str
    hint: str = ""  # the cure, where one is known


def ok(subject: str, what: str) -> Finding:
    return Finding(Level.OK, subject, what)


def warning(subject: str, what: str, hint: str = "") -> Finding:
    return Finding(Level.WARNING, subject, what, hint)


def failure(subject: str, what: str, hint: str = "") -> Finding:
    return Finding(Level.FAILURE, subject, what, hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomSeen:
    """A file system that something is written to."""

    path: str
    free_bytes: int
    free_files: int | None  # None: it does not count them
    read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSeen:
    """The host we are on, beside systemd and the network."""

    root: bool
    synchronised: bool | None  # the system clock; None: the kernel does not tell
    boottime_works: bool
    rooms: tuple[RoomSeen, ...]
    log_trouble: str  # why the log cannot be written; "" = it can
    log_bytes: int
    rotation_trouble: str  # why the log is not rotated; "" = it is
    watchdog_device: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorSeen:
    """The monitor, by what it has left."""

    running: bool
    status: Mapping[str, Any] | None
    age_s: float  # of the status
    config_in_use: str | None  # the text that it read last; None: not to be had
    capabilities: int | None  # of its process, as the kernel has them; None: not to be had


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemdSeen:
    """What systemd says; units as `systemctl show` has them."""

    state: str  # running, degraded, ...
    failed: tuple[str, ...]
    monitor: Mapping[str, str]
    units: Mapping[str, Mapping[str, str]]  # the managed ones
    starters: Mapping[str, Mapping[str, str]]  # what may start one of them
    watchdog: str  # RuntimeWatchdogUSec


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitTried:
    """What systemd-analyze says of one unit; None: it did not answer."""

    errors: tuple[str, ...] | None
    unmet: tuple[str, ...] | None  # conditions and assertions that do not hold now


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSeen:
    """A few echoes to one address, and the way there."""

    sent: int
    rtts_s: tuple[float, ...]
    refused: str = ""  # why an echo could not be sent
    link: str = ""  # the interface; "" = not known
    router: str = ""  # the first one on the way; "" = on our own link, or not known
    mac: str = ""  # of the neighbour; "" = not known
    ours: bool = False  # the address is one of this host


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoesSeen:
    """All paths."""

    impossible: str  # why no echo can be sent at all; "" = it can
    paths: Mapping[str, PathSeen]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSeen:
    """A file that the configuration names."""

    path: str
    what: str  # what it is for
    trouble: str  # why the monitor cannot use it; "" = it can


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesSeen:
    """Files that protections need."""

    named: tuple[FileSeen, ...]
    missing_drop_ins: tuple[str, ...]  # of those that install.sh puts where stopping is enforced
    permit: bool
    hooks: Mapping[str, str] = field(default_factory=dict)  # why each cannot be run; "" = it can


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSeen:
    """The store of the lease."""

    endpoints: Mapping[str, str]  # by endpoint: why it did not answer; "" = it did
    holder: str  # "" = nobody, or nobody told


@dataclass(slots=True, kw_only=True)
class Facts:
    """Everything seen so far; None = not looked at, or no answer in time."""

    policy: Policy
    config_path: str
    config_text: str
    host: HostSeen | None = None
    monitor: MonitorSeen | None = None
    systemd: SystemdSeen | None = None
    tried: Mapping[str, UnitTried] | None = None
    bus_trouble: str | None = None  # "" = D-Bus answers
    echoes: EchoesSeen | None = None
    files: FilesSeen | None = None
    checks: tuple[CheckSeen, ...] | None = None
    lease: LeaseSeen | None = None

    @property
    def guarded(self) -> bool:
        """We are on the primary."""
        return self.policy.role is Role.PRIMARY

    @property
    def status(self) -> Mapping[str, Any]:
        """What the monitor wrote down, as far as it did."""
        return (self.monitor.status if self.monitor else None) or {}

    @property
    def fresh(self) -> bool:
        """What the monitor wrote down is about now."""
        if self.monitor is None or not self.monitor.running:
            return False
        limit_s = self.status.get("stale_after_s")
        return isinstance(limit_s, int | float) and 0 <= self.monitor.age_s <= limit_s

    @property
    def claiming(self) -> bool:
        """A takeover has begun, and waits: nobody serves yet."""
        return self.fresh and self.status.get("phase") == Phase.CLAIM

    @property
    def serving(self) -> bool:
        """A takeover is under way, or over: that the primary is silent is no news."""
        return self.fresh and self.status.get("phase") in WITHOUT_PRIMARY
