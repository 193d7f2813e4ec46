"""A dry run: decides on real traffic, acts on nothing, and says what it would have done.

Rule: nothing that is asked here reaches the world.  Why that holds:

- Units: what the monitor asks goes to `ImaginedUnits`, which never asks; the real door behind it
  is only looked through.  A stop or a kill leaves no trace but a line.
- Fence, lease, hooks: `ImaginedFence`, `ImaginedLease` and `ImaginedHooks` stand in their doors.
  No command is ever run, the store is never reached; all are imagined to succeed at once.
  Service checks are questions, and are really asked.
- Files: its `Paths` are apart (a directory of its own in /run and in /var/lib), and so are its
  lock, intent, state word, permit, armed and time flags, and the requests that it obeys.  Nobody
  else reads them, so nothing that enforces stopping goes by them.
- systemd hears nothing of it: without NOTIFY_SOCKET there is no word to the watchdog, and the
  lines go to standard output, without the MESSAGE_IDs that somebody may wait for.

The decision knows nothing of all this: it is the same monitor with other hands.
"""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from failover_monitor.commands import Ended
from failover_monitor.daemon import Hands, run
from failover_monitor.events import Event, Kind
from failover_monitor.files import LOG_FORMAT
from failover_monitor.hooks import Hooks, Run
from failover_monitor.leases.keeper import Ask, Reply, Wish
from failover_monitor.model import (
    AT_REST,
    Effect,
    FencePolicy,
    FenceSeen,
    Fencing,
    LeasePolicy,
    Outcome,
    Unit,
    UnitSeen,
    Verb,
)
from failover_monitor.monitor import Services
from failover_monitor.protections import Changed, Clock, Doors
from failover_monitor.systemd import boottime_s
from failover_monitor.units import UNLOADABLE

MARK = "dry run: "
WHY = "imagined"  # a unit is in this state; people read it beside the state
LATE_S = 10.0  # so late is seen what really becomes of a unit
IMAGINED = (Kind.FENCE, Kind.LEASE, Kind.HOOK)  # what is told of these has not happened

log = logging.getLogger("failover_monitor")


def run_command_line(options: argparse.Namespace) -> int:
    """The command `run --dry-run`."""
    os.environ.pop("NOTIFY_SOCKET", None)
    log.addFilter(mark)
    hands = Hands(
        journal=to_standard_output,
        services=imagined_units,
        doors=Doors(fence=ImaginedFence, engine=ImaginedLease, hooks=ImaginedHooks),
    )
    return run(options.config, options.paths.dry_run, debug=options.debug, hands=hands)


def to_standard_output() -> logging.Handler:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    return handler


def mark(record: logging.LogRecord) -> bool:
    """Every line, and every event that is kept, says what it is; lets all of them pass."""
    event: Event | None = getattr(record, "event", None)
    sentence = told(event) if event else record.getMessage()
    record.msg, record.args = f"{MARK}{sentence}", ()
    if event:
        record.event = replace(event, sentence=f"{MARK}{sentence}")
    return True


def told(event: Event) -> str:
    """What is only wished for, or imagined, is told as such."""
    if event.kind is Kind.ASKED:
        return f"would {event.sentence}"
    return f"imagined: {event.sentence}" if event.kind in IMAGINED else event.sentence


class ImaginedUnits:
    """The real units as they are seen, except for those that something has been asked of.

    Asked to start: it runs, unless it cannot be loaded.  Asked to stop: it is at rest, until the
    real one is as well; then what happens to that is seen again.

    A change of the real ones is seen late: what another monitor on this host has just started would
    not need to be started any more, and nobody would read that it would have been.
    """

    def __init__(self, real: Services, changed: Changed, clock: Clock) -> None:
        self._real = real
        self._changed = changed
        self._clock = clock
        self._imagined: dict[str, UnitSeen] = {}
        self._shown: dict[str, UnitSeen] = {}  # the real ones, as of LATE_S ago
        self._differ_s: dict[str, float] = {}  # since when the real ones are not as shown

    @property
    def host_stopping(self) -> bool:
        return self._real.host_stopping

    def seen(self) -> tuple[UnitSeen, ...]:
        real = tuple(self._late(unit) for unit in self._real.seen())
        for unit in real:
            known = self._imagined.get(unit.name)
            if known and known.state in AT_REST and unit.state in AT_REST:
                del self._imagined[unit.name]
        return tuple(self._imagined.get(unit.name, unit) for unit in real)

    def _late(self, unit: UnitSeen) -> UnitSeen:
        """What is shown of a real unit now."""
        if unit.state is Unit.UNKNOWN:
            return unit
        shown = self._shown.setdefault(unit.name, unit)
        if unit.state is shown.state:
            self._differ_s.pop(unit.name, None)
        elif self._clock() - self._differ_s.setdefault(unit.name, self._clock()) < LATE_S:
            return shown
        self._shown[unit.name] = unit
        return unit

    def ask(self, effect: Effect) -> None:
        name, now_s = effect.service, self._clock()
        if effect.verb is not Verb.START:
            self._imagined[name] = UnitSeen(name, Unit.STOPPED, now_s, WHY)
        elif not any(unit.name == name and unit.why in UNLOADABLE for unit in self._real.seen()):
            self._imagined[name] = UnitSeen(name, Unit.RUNNING, now_s, WHY)
        self._changed()

    def watch(self, units: Sequence[str]) -> None:
        self._real.watch(units)

    def populated(self, name: str) -> bool | None:
        """As it is seen: what is left of a real one is nobody's concern here."""
        states = [unit.state for unit in self.seen() if unit.name == name]
        return None if not states or states[0] is Unit.UNKNOWN else states[0] not in AT_REST


def imagined_units(real: Services, changed: Changed) -> Services:
    return ImaginedUnits(real, changed, boottime_s)


class ImaginedFence:
    """Runs no command; succeeds at once."""

    def __init__(self, policy: FencePolicy, changed: Changed, _alone: asyncio.Lock) -> None:
        self._policy = policy
        self._changed = changed
        self._wanted = False
        self._seen = FenceSeen()

    @property
    def seen(self) -> FenceSeen:
        return self._seen

    def want(self, wanted: bool) -> None:
        if wanted is self._wanted:
            return
        self._wanted = wanted
        self._seen = FenceSeen()
        if wanted:
            log.warning("would run the fence command %s", self._policy.command[0])
            self._seen = FenceSeen(Fencing.DONE, 1, "nothing was run")
        self._changed()


class ImaginedHooks(Hooks):
    """The production class; it runs no command, each is imagined to succeed at once."""

    def _begin(self) -> None:
        while found := self._next():
            job, hook = found
            log.info("would run the hook %s: %s", job.name, hook.command[0])
            self._ended(job, hook, Run(Ended(0)))


class ImaginedLease:
    """Reaches no store; what is asked of it is granted at once."""

    def __init__(self, policy: LeasePolicy, changed: Changed) -> None:
        self._policy = policy
        self._changed = changed
        self._replies: list[Reply] = []

    def send(self, ask: Ask) -> None:
        if ask.verb is not Wish.RENEW:
            log.info("would %s the lease %r", ask.verb.value, self._policy.name)
        holder = "" if ask.verb is Wish.RELEASE else self._policy.holder
        self._replies.append(Reply(ask.number, Outcome.PASS, holder))
        self._changed()

    def receive(self) -> list[Reply]:
        replies, self._replies = self._replies, []
        return replies

    def close(self) -> None:
        self._replies.clear()
