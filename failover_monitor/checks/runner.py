"""Asks all service checks, each in a task of its own and at its own pace.

Rule: a question ends after `timeout_s`, whatever it waits for, and the next one of the same check
begins when nothing of it is left.  So no check ever asks twice at once, and none is silent for
longer than `interval_s` (in a hurry: a second) and twice `timeout_s`, plus what it takes to kill
a command.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from failover_monitor.checks import KINDS, Asker
from failover_monitor.model import CheckSeen, Outcome, ServiceCheck

# Between two questions, at most, while somebody waits for the answer: of a command, of the rest.
HURRY_S, QUICK_HURRY_S = 1.0, 0.25
QUICK = frozenset({"tcp", "http"})  # they start no process
LATE_S = 0.5  # a limit that comes later than this tells of us, not of who was asked
KEPT = 16  # answers per check that wait to be received; then the oldest are dropped

log = logging.getLogger("failover_monitor")


class Runner:
    """The service checks of one pair.  `changed` is called when there is something to receive."""

    def __init__(
        self,
        checks: Sequence[ServiceCheck],
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._askers = [(check, KINDS[check.kind](check)) for check in checks]
        self._clock = clock
        self._changed = changed
        self._heard: deque[CheckSeen] = deque(maxlen=max(1, KEPT * len(checks)))
        self._hurry = False
        self._hurried = asyncio.Event()  # a new one each time that a hurry begins

    @property
    def hurry(self) -> bool:
        """True: ask at once, and then every second or at the check's own, shorter interval."""
        return self._hurry

    @hurry.setter
    def hurry(self, hurry: bool) -> None:
        if hurry and not self._hurry:
            self._hurried.set()
            self._hurried = asyncio.Event()
        self._hurry = hurry

    def receive(self) -> list[CheckSeen]:
        """The answers since the last call, oldest first."""
        heard = list(self._heard)
        self._heard.clear()
        return heard

    async def run(self) -> None:
        """Ask for ever; cancelling it ends what is being asked."""
        async with asyncio.TaskGroup() as group:
            for check, asker in self._askers:
                group.create_task(self._keep_asking(check, asker))
            await asyncio.Event().wait()  # also when there is no check

    async def _keep_asking(self, check: ServiceCheck, asker: Asker) -> None:
        while True:
            # Taken before the question: a hurry that begins while it is asked has not had it.
            hurried = self._hurried
            began_s = self._clock()
            await self._ask(check, asker, began_s)
            soon_s = QUICK_HURRY_S if check.kind in QUICK else HURRY_S
            spacing_s = min(check.interval_s, soon_s) if self._hurry else check.interval_s
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, began_s + spacing_s - self._clock())):
                    await hurried.wait()

    async def _ask(self, check: ServiceCheck, asker: Asker, began_s: float) -> None:
        asking = asyncio.create_task(asker.ask())
        try:
            await asyncio.wait({asking}, timeout=check.timeout_s)
            ended_s = self._clock()
            outcome, why = self._answer(check, asker, asking, ended_s - began_s)
            self._heard.append(CheckSeen(check.name, outcome, why, began_s, ended_s))
            self._changed()
        finally:
            asking.cancel()
            try:
                await asyncio.wait({asking})
            except asyncio.CancelledError:
                asking.cancel()  # told twice, a command is killed without more ado
                raise

    def _answer(
        self,
        check: ServiceCheck,
        asker: Asker,
        asking: asyncio.Task[tuple[Outcome, str]],
        took_s: float,
    ) -> tuple[Outcome, str]:
        if not asking.done() and took_s > check.timeout_s + LATE_S:
            return Outcome.UNKNOWN, f"this host stood still: the limit came after {took_s:.1f} s"
        if not asking.done():
            return asker.silence, f"no answer within {check.timeout_s:g} s"
        if asking.cancelled():
            return Outcome.UNKNOWN, "the question was given up"
        error = asking.exception()
        if error is None:
            return asking.result()
        # A fault of ours, or of a library that a service has confused: no reason to stop watching.
        log.error("service check %s: cannot ask", check.name, exc_info=error)
        return Outcome.UNKNOWN, f"cannot ask: {type(error).__name__}: {error}"
