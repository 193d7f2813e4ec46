"""What we tell systemd of ourselves: records to the journal, notes to the service manager.

Rule: never wait for either.  libsystemd sends with the interpreter's lock held, so a stalled
journald (or PID 1) would freeze every thread of the process as soon as its queue is full.  The
kernel is asked for room first; what finds none is dropped, and counted.
"""

import logging
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import cache

from systemd import journal

log = logging.getLogger("failover_monitor")

JOURNAL_SOCKET = "/run/systemd/journal/socket"  # systemd-journald.service(8)
IDENTIFIER = "failover-monitor"
PRIORITY = {  # syslog(3)
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


class JournalHandler(logging.Handler):
    """Sends records to the journal; for a thread of its own, because it waits up to `wait_s`.

    A record may carry `message_id` (32 hex digits) and `fields`, which become the journal's
    MESSAGE_ID= and fields of its own.
    """

    def __init__(
        self,
        wait_s: float = 1.0,
        address: str = JOURNAL_SOCKET,
        send: Callable[..., None] = journal.send,
    ) -> None:
        super().__init__()
        self.dropped = 0  # records that found no room, or no journald
        self._wait_s = wait_s
        self._address = address
        self._send = send
        self._stalled = False

    def emit(self, record: logging.LogRecord) -> None:
        # Only the first record waits for a stalled journald: the log file is behind us in line.
        before = self._stalled
        self._stalled = not room(self._address, 0.0 if before else self._wait_s)
        if self._stalled:
            self.dropped += 1
            if not before:  # said through the writer's queue, so in the log file
                log.warning("the journal takes nothing: look into the log file")
            return
        if before:
            log.warning("the journal takes lines again, %d were dropped", self.dropped)
        try:
            self._send(self.format(record), **fields_of(record))
        except OSError:
            self.dropped += 1


def fields_of(record: logging.LogRecord) -> dict[str, str | int]:
    """What the journal gets besides the message.  Lower-case names would be lost without a word."""
    own: dict[str, str] = getattr(record, "fields", None) or {}
    message_id: str | None = getattr(record, "message_id", None)
    return {
        **{name.upper(): value for name, value in own.items()},
        **({"MESSAGE_ID": message_id} if message_id else {}),
        "PRIORITY": str(PRIORITY.get(record.levelno, 6)),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "CODE_FILE": record.pathname,
        "CODE_LINE": record.lineno,
        "CODE_FUNC": record.funcName or "",
    }


def notify(state: str) -> None:
    """Tell the service manager, as sd_notify(3) does; nothing happens where none listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    if address:
        with suppress(OSError):  # nobody listens, or its queue is full
            _door().sendto(state.encode(errors="replace"), address)


@cache
def _door() -> socket.socket:
    """Open for good: without a free descriptor the watchdog must hear of us all the same."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)


def room(address: str, wait_s: float) -> bool:
    """Whether the datagram socket at `address` has, or gets within `wait_s`, room for one more."""
    try:
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    except OSError:  # no descriptor is free
        return False
    with probe:
        try:
            probe.connect(address)
        except OSError:
            return False
        poll = select.poll()
        poll.register(probe, select.POLLOUT)
        return any(event & select.POLLOUT for _, event in poll.poll(wait_s * 1000))
