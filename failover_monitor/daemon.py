"""The process around the monitors: lock, configuration, signals, READY and WATCHDOG.

Rule: nothing ends the watch but a stop.  A bad configuration, a lost bus or a full disk is said and
lived with; what is truly a bug crashes, systemd restarts us, and looking again loses nothing.
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from failover_monitor import __version__, events
from failover_monitor.events import Event, Kind
from failover_monitor.files import Paths, Recorder, load_intent, take_lock
from failover_monitor.journal import JournalHandler, notify
from failover_monitor.loader import Loaded, UnansweredError, UnusableError, load_apart
from failover_monitor.model import ARMED, Evidence, Policy
from failover_monitor.monitor import Monitor, Services
from failover_monitor.probes import KINDS, Probe, ProbeError
from failover_monitor.protections import DOORS, Doors, Protections
from failover_monitor.systemd import Systemd, boot_id, booted_s, boottime_s

ALIVE_S = 4.0  # WATCHDOG=1 at most so often; with TURN_S well below WatchdogSec=10
WATCHDOG_S = 10.0  # as in the unit; where stopping is enforced, the stop limit takes its place
FIRST_LOOK_S, HASTY_LOOK_S = 5.0, 0.5  # the latter when a deadline may already be over
NAG_S = 60.0  # a bad configuration is said again so often


def as_it_is(systemd: Systemd, _changed: Callable[[], None]) -> Services:
    return systemd


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What a process acts with, and where its lines go; those of a dry run are in `dry_run`."""

    journal: Callable[[], logging.Handler] = JournalHandler
    services: Callable[[Systemd, Callable[[], None]], Services] = as_it_is
    doors: Doors = DOORS


REAL = Hands()


def run_command_line(options: argparse.Namespace) -> int:
    """The command `run`."""
    return run(options.config, options.paths, debug=options.debug)


def run(config_path: Path, paths: Paths, *, debug: bool = False, hands: Hands = REAL) -> int:
    """Watch until stopped; gives the exit status."""
    try:
        lock = take_lock(paths.lock)
    except OSError as error:
        hint = ""
        if isinstance(error, PermissionError):
            hint = "\nhint: it needs root; systemd starts it: systemctl start failover-monitor"
        print(f"cannot start: {paths.lock}: {error.strerror}{hint}", file=sys.stderr)
        return 1
    if lock is None:
        print(f"cannot start: another monitor holds {paths.lock}", file=sys.stderr)
        return 1
    intent = load_intent(paths)
    problem = ""
    try:
        config = load_apart(config_path)
        probe = new_probe(config.policy)
    except (UnusableError, ProbeError) as error:
        ours = serving(intent)
        last_good = last_good_config(paths) if ours else None
        if last_good is None:
            print(error, file=sys.stderr)
            if ours or isinstance(error, UnansweredError | ProbeError):  # worth another start
                return 1
            paths.armed.unlink(missing_ok=True)  # nothing of ours runs: no reason for a reset
            return os.EX_CONFIG
        (config, probe), problem = last_good, str(error)
    recorder = Recorder(paths, hands.journal(), debug=debug)
    try:
        daemon = Daemon(config_path, config.policy, probe, recorder, hands)
        if problem:
            daemon.complain(problem)
        else:
            recorder.last_good_config(config.text)
        recorder.recall_pause()
        if intent:
            daemon.resume(intent)
        asyncio.run(daemon.run())
    finally:
        recorder.close()
        os.close(lock)
    return 0


def serving(intent: dict[str, object] | None) -> bool:
    """Services of ours run here since an earlier process of this boot."""
    return intent is not None and intent["boot_id"] == boot_id() and bool(intent["ours"])


def last_good_config(paths: Paths) -> tuple[Loaded, Probe] | None:
    for path in paths.last_good_config():
        try:
            config = load_apart(path)
            return config, new_probe(config.policy)
        except (UnusableError, ProbeError):
            continue
    return None


def slept_s() -> float:
    """How long this host has been suspended since it booted."""
    return boottime_s() - time.clock_gettime(time.CLOCK_MONOTONIC)


def new_probe(policy: Policy) -> Probe:
    evidence = policy.neighbour_evidence
    return KINDS["icmp"](
        policy.watched,
        repair=policy.watched,
        neighbours=() if evidence is Evidence.NONE else policy.references,
        neighbours_always=policy.primary if evidence is Evidence.ALL else (),
        clock=boottime_s,
    )


class Daemon:
    """One process: its monitor, its door to systemd, and the signals."""

    def __init__(
        self, config_path: Path, policy: Policy, probe: Probe, recorder: Recorder, hands: Hands
    ) -> None:
        self.config_path = config_path
        self.recorder = recorder
        self.stopping = asyncio.Event()
        self.systemd = Systemd(policy.services, self._changed, strict=policy.enforced)
        self.monitor = Monitor(
            policy,
            probe=probe,
            services=hands.services(self.systemd, self._changed),
            recorder=recorder,
            clock=boottime_s,
            slept=slept_s,
            boot_id=boot_id(),
            booted_s=booted_s(),
            alive=self._alive,
            protections=Protections(policy, boottime_s, self._changed, doors=hands.doors),
        )
        self._reading = asyncio.Lock()
        self._problem = ""
        self._alive_s, self._alive_every_s = 0.0, ALIVE_S
        self._shortened = False  # the watchdog, by a stop that an earlier process began
        self._line = ""
        self._protecting: asyncio.Task[None] | None = None

    def resume(self, intent: dict[str, Any]) -> None:
        """Go on where the last process was; what cannot be understood is said and left behind."""
        try:
            self.monitor.resume(intent)
        except (ValueError, TypeError, KeyError) as error:
            sentence = f"what the last process wrote down is not understood: {error!r}"
            self._tell(Kind.INTENT_ENDED, events.WARNING, sentence)

    async def run(self) -> None:
        """Watch until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        self._tell(Kind.STARTED, events.INFO, f"failover-monitor {__version__} watches")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.systemd.run())]
            loop.add_signal_handler(signal.SIGHUP, lambda: group.create_task(self.reload(group)))
            enforced = self.monitor.policy.enforced
            await self.systemd.first_look(HASTY_LOOK_S if enforced else FIRST_LOOK_S)
            self.monitor.turn()
            if self.monitor.policy.enforced:
                self._set_watchdog()
            notify("READY=1")
            self._protect(group)
            gc.freeze()  # what lives now lives for ever: no collection needs to look at it again
            tasks += [group.create_task(self.monitor.run()), group.create_task(self._nag())]
            await self.stopping.wait()
            for task in (*tasks, self._protecting):
                if task:
                    task.cancel()
            self.recorder.flag(self.recorder.paths.armed, raised=False)  # we are meant to go
            notify("STOPPING=1")
        self.monitor.protections.leave()
        self.monitor.keep_sample(boottime_s())
        self._tell_stopped()
        self.recorder.state_word("unknown")

    def _protect(self, group: asyncio.TaskGroup) -> None:
        """Keep the service checks of the present policy going."""
        if self._protecting:
            self._protecting.cancel()
        self._protecting = group.create_task(self.monitor.protections.run())

    def _set_watchdog(self) -> None:
        """Who enforces a stop limit is reset when it is over; see `Monitor.time_left_s`."""
        policy = self.monitor.policy
        limit_s, full_s = WATCHDOG_S, WATCHDOG_S
        if policy.enforced:
            limit_s, full_s = self.monitor.time_left_s, policy.stop_limit_s
        self._alive_every_s = min(ALIVE_S, full_s / 10)
        self._shortened = limit_s < full_s
        notify(f"WATCHDOG=1\nWATCHDOG_USEC={int(limit_s * 1e6)}")  # counted from now

    def _tell_stopped(self) -> None:
        sentence = "stopped; the services stay as they are"
        if self.monitor.policy.enforced and self.monitor.state.phase in ARMED:
            sentence = "stopped; the services run on, and nobody guards them"
            self._tell(Kind.STOPPED, events.WARNING, sentence)
            return
        self._tell(Kind.STOPPED, events.INFO, sentence)

    async def reload(self, group: asyncio.TaskGroup) -> None:
        """Read the configuration again; a bad one changes nothing."""
        async with self._reading:
            now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            notify(f"RELOADING=1\nMONOTONIC_USEC={now_us}")
            try:
                config = await asyncio.to_thread(load_apart, self.config_path)
                if self.stopping.is_set():
                    return
                if config.policy.role is not self.monitor.policy.role:
                    raise UnusableError("another role needs a restart, not a reload")
                probe = self._probe_for(config.policy)
            except (UnusableError, ProbeError, OSError) as error:  # OSError: no descriptor is free
                self.complain(str(error))
            else:
                self._problem = self.monitor.status.remark = ""
                self.monitor.reload(config.policy, probe)
                self.systemd.strict = config.policy.enforced
                self._set_watchdog()
                self._protect(group)
                self._look_at_enforcement()
                self.recorder.last_good_config(config.text)
                self._tell(Kind.CONFIG, events.INFO, f"{self.config_path} was read again")
            notify("READY=1")

    def _probe_for(self, new: Policy) -> Probe:
        old = self.monitor.policy
        same = old.watched == new.watched and old.neighbour_evidence is new.neighbour_evidence
        return self.monitor.probe if same else new_probe(new)

    def complain(self, problem: str) -> None:
        """Say that the configuration is bad and that the last good one goes on."""
        self._problem = problem
        self.monitor.status.remark = f"{self.config_path} is bad, the last good one goes on"
        places = "; ".join(line for line in problem.splitlines() if not line.startswith(" "))
        self._tell(Kind.CONFIG_BAD, events.ERROR, f"{self.monitor.status.remark}: {places}")
        self.monitor.refresh()

    async def _nag(self) -> None:
        while True:
            self._look_at_enforcement()
            await asyncio.sleep(NAG_S)
            if self._problem:
                self.complain(self._problem)

    def _look_at_enforcement(self) -> None:
        """Without the drop-ins of install.sh nobody resets this host, and nothing is gated."""
        policy = self.monitor.policy
        wanted = self.recorder.paths.drop_ins(policy.services) if policy.enforced else ()
        missing = [str(path) for path in wanted if not path.exists()]
        if self._problem:
            return
        self.monitor.status.remark = ""
        if missing:
            remark = f"stopping cannot be enforced, run install.sh again: no {', '.join(missing)}"
            self.monitor.status.remark = remark
            self._tell(Kind.UNENFORCED, events.CRITICAL, remark)

    def _changed(self) -> None:
        self.monitor.wake.set()

    def _alive(self, line: str, trusted: bool, new_limit: bool) -> None:
        now_s = boottime_s()
        if line != self._line:
            self._line = line
            notify(f"STATUS={line}")
        if new_limit or (trusted and self._shortened):
            self._set_watchdog()
        elif trusted and now_s - self._alive_s >= self._alive_every_s:
            self._alive_s = now_s
            notify("WATCHDOG=1")

    def _tell(self, kind: Kind, level: int, sentence: str) -> None:
        self.monitor.tell(Event(kind, level, sentence))
