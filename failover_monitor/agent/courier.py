"""Takes the messages of one target to it: a thread of its own, with a patience of its own.

Rule: a target that hangs or refuses delays nobody else's post, and its own stays in order.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from failover_monitor.agent.outbox import Outbox
from failover_monitor.agent.words import Message, message
from failover_monitor.model import Role

log = logging.getLogger("failover_monitor.agent")

LOOK_S = 0.2  # how often an empty outbox is looked into


class Sends(Protocol):
    """What a courier needs of a sender."""

    def send(self, message: Message, thread: int) -> str:
        """Send it; "" = it went, else why not."""


class Courier(threading.Thread):
    """One target's."""

    def __init__(
        self,
        name: str,
        outbox: Outbox,
        sender: Sends,
        *,
        lock: threading.Lock,
        host: str,
        role: Role,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`lock` guards the outbox; it is never held while something is sent."""
        super().__init__(name=f"courier {name}", daemon=True)
        self.target, self.outbox = name, outbox
        self._sender, self._lock, self._clock = sender, lock, clock
        self._host, self._role = host, role
        self._over = threading.Event()
        self._pause_s = 0.0

    def run(self) -> None:
        while not self._over.wait(self._pause_s or LOOK_S):
            self.deliver_one()

    def stop(self) -> None:
        self._over.set()

    def deliver_one(self) -> None:
        """Send the message whose turn it is, if there is one."""
        with self._lock:
            now_s = self._clock()
            entry = self.outbox.next(now_s)
            text = message(entry, self._host, self._role, now_s) if entry else None
        if text is None:
            return
        why = self._sender.send(text, threading.get_ident())
        with self._lock:
            if why:
                self.outbox.not_delivered()
            else:
                self.outbox.delivered(self._clock())
        if not why:
            if self._pause_s:
                log.info("%s can be told again", self.target)
            self._pause_s = 0.0
            log.info("told %s: %s", self.target, text.subject)
            return
        pace = self.outbox.pace
        self._pause_s = min(self._pause_s * 2 or pace.first_pause_s, pace.longest_pause_s)
        log.warning("cannot tell %s: %s; again in %.0f s", self.target, why, self._pause_s)
