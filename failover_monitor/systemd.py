"""The only door to systemd's units: ask for a start or a stop, and see what came of it.

Rule: the caller never waits and never gets an error.  `ask` returns at once, `seen` tells the
latest look, and whatever cannot be seen is UNKNOWN.

Units are read and asked over D-Bus, which also tells when something changes.  When D-Bus is not
usable, `systemctl` does both: as root it talks to systemd directly (/run/systemd/private).  Whether
processes are left, and that they be killed, needs neither: that is between us and the kernel.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbus_fast import Message

from failover_monitor.bus import SYSTEMD, UNIT, Bus, RefusedError, SystemdError, systemctl
from failover_monitor.cgroups import Cgroups
from failover_monitor.model import AT_REST, Effect, Unit, UnitSeen, Verb
from failover_monitor.unit_files import own_names
from failover_monitor.units import (
    MOVING,
    OF_KIND,
    RESTING,
    RESTS,
    SHOWN,
    blocks_of_show,
    unit_seen,
)

SHOW_S = 5.0  # limit of a look through systemctl
WISH_S = 10.0  # limit of all tries for one wish; afterwards whatever the look shows is the truth
AGAIN_S = 0.5  # between two tries for one wish
TRIES = 3  # systemd re-executing itself is away for less than TRIES * AGAIN_S
RECONNECT_S = 1.0  # between two connections to the bus
LOOK_S, LOOK_SOON_S, LOOK_BLIND_S = 30.0, 2.0, 1.0  # between two looks: calm, busy, without D-Bus
BUSY_S = 60.0  # so long after an ask
COUNT_S, COUNT_SOON_S = 1.0, 0.1  # between two looks at what is left in the cgroups: calm, busy

# Each of these, started or being started, makes SystemState "stopping" or "maintenance".  Unlike
# that property they are told of by signals, and are read in one call with the units.
HOST = ("shutdown.target", "rescue.target", "emergency.target")

CHANGING = frozenset({Unit.STARTING, Unit.STOPPING, Unit.UNKNOWN})
TELLING = frozenset({"ActiveState", "Job", *MOVING, "ConditionTimestampMonotonic"})

log = logging.getLogger("failover_monitor")


@dataclass(slots=True, eq=False)
class Wish:
    """One effect on its way."""

    effect: Effect
    asked_s: float
    over: bool = False  # answered, refused or given up: the next look shows the outcome
    task: asyncio.Task[None] | None = field(default=None)

    @property
    def unit(self) -> UnitSeen:
        """How the unit is shown until the outcome has been seen."""
        state = Unit.STARTING if self.effect.verb is Verb.START else Unit.STOPPING
        return UnitSeen(self.effect.service, state, self.asked_s)


def boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Systemd:
    """The managed units: asks for starts and stops, and sees what came of it."""

    def __init__(
        self,
        units: Sequence[str],
        changed: Callable[[], None],
        *,
        clock: Callable[[], float] = boottime_s,
        strict: bool = False,
        cgroups: Cgroups | None = None,
    ) -> None:
        self._counting = asyncio.Event()
        self.strict = strict
        self.host_stopping = False  # systemd is stopping, or in maintenance
        self._names = tuple(units)
        self._changed = changed
        self._clock = clock
        self._cgroups = cgroups or Cgroups()
        self._own_names = own_names(units)
        self._bus: Bus | None = None
        self._bus_tried = asyncio.Event()
        self._bus_lost = False  # and it has been said
        self._wake = asyncio.Event()
        self._looked = asyncio.Event()
        self._looked_s = 0.0  # when the latest look began
        self._asked_s = -BUSY_S
        self._shown: dict[str, dict[str, str]] = {}
        self._units: dict[str, UnitSeen] = {}
        self._told: dict[str, dict[str, Any]] = {}  # by object path: the latest signal
        self._stale: set[str] = set()  # units whose details must be read again
        self._wishes: dict[str, Wish] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def strict(self) -> bool:
        """A unit is at rest only when no process of it is left."""
        return self._counting.is_set()

    @strict.setter
    def strict(self, strict: bool) -> None:
        if strict:
            self._counting.set()
        else:
            self._counting.clear()

    async def run(self) -> None:
        """Watch the units for ever."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._stay_connected())
                group.create_task(self._keep_looking())
                group.create_task(self._keep_counting())
        finally:
            for task in self._tasks:
                task.cancel()
            if self._bus:
                self._bus.close()

    async def first_look(self, timeout_s: float) -> None:
        """Return when the units have been seen, or after `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._looked.wait()

    def watch(self, units: Sequence[str]) -> None:
        """From now on these units."""
        self._names = tuple(units)
        self._own_names = own_names(units) | self._own_names
        self._wake.set()

    def seen(self) -> tuple[UnitSeen, ...]:
        """The units, in order.  What was asked shows as under way until a later look has ended."""
        now_s = self._clock()
        return tuple(self._seen(name, now_s) for name in self._names)

    def populated(self, name: str) -> bool | None:
        """Whether a process of the unit exists, by the kernel's word; None: it cannot be seen."""
        return self._cgroups.populated(self._own_names.get(name, name))

    def _seen(self, name: str, now_s: float) -> UnitSeen:
        unit = self._told_of(name, now_s)
        if not self.strict or unit.state not in AT_REST:
            return unit
        left = self.populated(name)
        if left is False:
            return unit
        why = "processes left" if left else "its processes cannot be counted"
        return UnitSeen(name, Unit.STOPPING, unit.since_s, why)

    def _told_of(self, name: str, now_s: float) -> UnitSeen:
        unit = self._units.get(name, UnitSeen(name, Unit.UNKNOWN))
        wish = self._wishes.get(name)
        if wish is None:
            return unit
        if now_s - wish.asked_s < WISH_S:
            return wish.unit
        return unit if self._looked_s > wish.asked_s else UnitSeen(name, Unit.UNKNOWN)

    # Asking.

    def ask(self, effect: Effect) -> None:
        """Send the wish on its way; an older one for the same unit ends here.

        A kill is done when this returns.  It adds itself to a stop, and takes back a start.
        """
        older = self._wishes.get(effect.service)
        killed = effect.verb is Verb.KILL
        if older and older.task and not (killed and older.effect.verb is Verb.STOP):
            older.task.cancel()
            older.over = True  # a task that has not begun yet would not say so
        if killed:
            self._kill(effect.service)
            return
        wish = Wish(effect, self._clock())
        self._asked_s = wish.asked_s
        self._wishes[effect.service] = wish
        wish.task = self._keep(asyncio.create_task(self._deliver(wish)))

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _kill(self, name: str) -> None:
        """Through the kernel and through systemd: either may be out of order."""
        self._asked_s = self._clock()
        if self._bus:
            self._bus.tell("KillUnit", "ssi", name, "all", int(signal.SIGKILL))
        trouble = self._cgroups.kill(self._own_names.get(name, name))
        if trouble:
            log.warning("cannot kill %s: %s", name, trouble)
        if not self._bus:
            self._keep(asyncio.create_task(kill_by_systemctl(name)))
        self._wake.set()

    async def _deliver(self, wish: Wish) -> None:
        effect = wish.effect
        alone = self._locks.setdefault(effect.service, asyncio.Lock())
        try:
            async with asyncio.timeout(WISH_S), alone:
                await self._send(effect)
        except TimeoutError:
            log.warning("cannot %s %s: no answer within %g s", effect.verb, effect.service, WISH_S)
        except SystemdError as error:
            log.warning("cannot %s %s: %s", effect.verb, effect.service, error)
        finally:
            wish.over = True
            self._wake.set()

    async def _send(self, effect: Effect) -> None:
        """Over D-Bus; when that is not to be had through systemctl; a few times."""
        for left in reversed(range(TRIES)):
            try:
                if self._bus:
                    return await send_by_bus(self._bus, effect)
            except RefusedError as error:
                if error.name.startswith(SYSTEMD):
                    raise
            except SystemdError:
                pass
            try:
                return await send_by_systemctl(effect)
            except SystemdError:
                if not left:
                    raise
            await asyncio.sleep(AGAIN_S)
        return None

    # Looking.

    async def _keep_looking(self) -> None:
        await self._bus_tried.wait()
        while True:
            self._wake.clear()
            await self._look()
            if self._bus is None:
                await asyncio.sleep(LOOK_BLIND_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()

    async def _keep_counting(self) -> None:
        """Say so when the last process of a unit goes: nobody else would."""
        before: dict[str, bool | None] = {}
        while True:
            await self._counting.wait()
            left = {name: self.populated(name) for name in self._names}
            if left != before:
                self._changed()
            before = left
            await asyncio.sleep(COUNT_SOON_S if self._busy() else COUNT_S)

    def _pause_s(self) -> float:
        return LOOK_SOON_S if self._busy() else LOOK_S

    def _busy(self) -> bool:
        asked = self._clock() - self._asked_s < BUSY_S
        return asked or any(unit.state in CHANGING for unit in self.seen())

    async def _look(self) -> None:
        began_s = self._clock()
        names = tuple(dict.fromkeys((*self._names, *HOST)))
        over = [wish for wish in self._wishes.values() if wish.over]
        try:
            shown = await self._read(names)
        except SystemdError:
            shown = {}
        before = self.seen(), self.host_stopping
        self._take(shown)
        self._looked_s = began_s
        for wish in over:
            if self._wishes.get(wish.effect.service) is wish:
                del self._wishes[wish.effect.service]
        if shown:
            self._looked.set()
        if over or (self.seen(), self.host_stopping) != before:
            self._changed()

    def _take(self, shown: dict[str, dict[str, str]]) -> None:
        offset_s = self._clock() - time.monotonic()
        self._units = {
            name: self._units[name]
            if name in self._units and properties == self._shown.get(name)
            else unit_seen(name, properties, offset_s)
            for name, properties in shown.items()
        }
        self._shown = shown
        if shown:
            states = (self._units[name].state for name in HOST)
            self.host_stopping = any(state in (Unit.RUNNING, Unit.STARTING) for state in states)

    async def _read(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        if self._bus:
            with suppress(SystemdError):
                return await self._read_by_bus(self._bus, names)
        return await read_by_systemctl(names)

    async def _read_by_bus(self, bus: Bus, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """One cheap call for all; details only of what has changed."""
        stale, self._stale = self._stale, set()
        (rows,) = await bus.call("ListUnitsByNames", "as", list(names))
        if len(rows) != len(names):
            raise SystemdError("cannot list the units: systemd left some out")
        # A unit may go by an alias; systemd shows it, and tells of it, under its own name.
        if await bus.watch({row[6]: row[0] for row in rows}):
            self._wake.set()
        self._own_names |= {name: row[0] for name, row in zip(names, rows, strict=True)}
        await bus.hold({row[0] for row in rows if row[2] == "loaded"})
        shown = {}
        for name, row in zip(names, rows, strict=True):
            brief = {"LoadState": row[2], "ActiveState": row[3], "JobType": row[8]}
            known = self._shown.get(name, {})
            if row[6] in stale or not brief.items() <= known.items():
                known = await details(bus, name, row[6], row[3])
            shown[name] = known | brief
        return shown

    def _heard(self, message: Message) -> None:
        path = message.path
        if message.member != "PropertiesChanged" or not self._bus or path not in self._bus.watched:
            return
        told = {name: value.value for name, value in message.body[1].items() if name in TELLING}
        if told != self._told.get(path):  # systemd repeats itself, above all after daemon-reload
            self._told[path] = told
            self._stale.add(path)
            self._wake.set()

    async def _stay_connected(self) -> None:
        while True:
            try:
                bus = await Bus.connect()
            except SystemdError as error:
                self._say_lost(str(error))
            else:
                bus.hear(self._heard)
                self._told.clear()
                self._bus = bus
                if self._bus_lost:
                    log.info("D-Bus answers again")
                self._bus_lost = False
                self._bus_tried.set()
                self._shown = {}  # nobody told what changed meanwhile: read all of it again
                self._wake.set()
                await bus.closed()
                self._bus = None
                self._say_lost(bus.why)
            self._bus_tried.set()
            self._wake.set()
            await asyncio.sleep(RECONNECT_S)

    def _say_lost(self, why: str) -> None:
        if not self._bus_lost:
            log.warning("D-Bus is not usable (%s): units go through systemctl", why)
        self._bus_lost = True


async def send_by_bus(bus: Bus, effect: Effect) -> None:
    if effect.reset_failed:
        with suppress(RefusedError):
            await bus.call("ResetFailedUnit", "s", effect.service)
    member = "StartUnit" if effect.verb is Verb.START else "StopUnit"
    await bus.call(member, "ss", effect.service, "replace")


async def send_by_systemctl(effect: Effect) -> None:
    if effect.reset_failed:
        with suppress(SystemdError):
            await systemctl("reset-failed", "--", effect.service)
    await systemctl("--no-block", effect.verb, "--", effect.service)


async def kill_by_systemctl(name: str) -> None:
    with suppress(SystemdError, TimeoutError):
        async with asyncio.timeout(WISH_S):
            await systemctl("--kill-whom=all", "--signal=SIGKILL", "kill", "--", name)


async def read_by_systemctl(names: Sequence[str]) -> dict[str, dict[str, str]]:
    try:
        async with asyncio.timeout(SHOW_S):
            text = await systemctl("show", f"--property={','.join(SHOWN)}", "--", *names)
    except TimeoutError:
        raise SystemdError(f"cannot look: no answer within {SHOW_S:g} s") from None
    blocks = blocks_of_show(text)
    if len(blocks) != len(names):
        raise SystemdError("cannot look: systemctl left some units out")
    return dict(zip(names, blocks, strict=True))


async def details(bus: Bus, name: str, path: str, active: str) -> dict[str, str]:
    if active not in RESTS:
        return await bus.read(path, UNIT, MOVING)
    kind = name.rpartition(".")[2]
    shown = await bus.read(path, UNIT, RESTING)
    if kind in OF_KIND:
        shown |= await bus.read(path, f"{SYSTEMD}.{kind.capitalize()}", OF_KIND[kind])
    return shown


def booted_s() -> float:
    """When PID 1 started, which in a container is not when the kernel did."""
    after_name = Path("/proc/1/stat").read_text().rpartition(")")[2].split()
    return int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # field 22, proc(5)


def boot_id() -> str:
    """Another one after each boot of this host.

    In a container our own /proc (ProtectProc=) shows the machine's; PID 1 is the container's.
    """
    kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{kernel} {booted_s():.2f}"
