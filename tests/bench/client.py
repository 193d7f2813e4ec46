"""A client of the service: ten times a second it connects, and notes which host answered.

Rule: it knows nothing of the programs that are compared.  It sits in a network namespace of its
own, opens a TCP connection to each address, and a connection counts as served when the name of a
host came back within half a second.
"""

import errno
import selectors
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.lab.network import Namespace

INTERVAL_S = 0.1
PATIENCE_S = 0.5  # shorter than TCP's first repetition: a lost SYN is a failed connection
STALLED_S = 0.5  # a client that looked so seldom has seen nothing that can be relied upon


@dataclass(frozen=True, slots=True)
class Look:
    """One round of connections, all begun at the same moment."""

    began_s: float
    names: dict[str, str] = field(default_factory=dict)  # address -> the host that answered there


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a span of looks comes to."""

    nobody_s: float
    both_s: float
    stalled: int  # how often the client itself was late


class Client:
    """Looks from the moment it is entered until it is left."""

    def __init__(self, namespace: Namespace, addresses: Sequence[str], port: int) -> None:
        self.looks: list[Look] = []
        self._addresses = tuple(addresses)
        self._port = port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=namespace.inside, args=(self._watch,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def known(self, since_s: float, until_s: float) -> list[Look]:
        """The looks of a span, once the last of them has had its time."""
        time.sleep(max(0.0, until_s + PATIENCE_S + 2 * INTERVAL_S - time.monotonic()))
        return [look for look in self.looks if since_s <= look.began_s < until_s]

    def _watch(self) -> None:
        waiting: dict[socket.socket, tuple[Look, str]] = {}
        due_s = time.monotonic()
        with selectors.DefaultSelector() as selector:
            while not self._ended.is_set():
                now_s = time.monotonic()
                if now_s >= due_s:
                    self._look(now_s, selector, waiting)
                    due_s = max(due_s + INTERVAL_S, now_s)
                for connection in _overdue(waiting, now_s):
                    _end(connection, selector, waiting)
                for key, _ in selector.select(max(0.0, min(due_s - now_s, INTERVAL_S))):
                    _hear(key.data, waiting)
                    _end(key.data, selector, waiting)
            for connection in list(waiting):
                _end(connection, selector, waiting)

    def _look(
        self,
        now_s: float,
        selector: selectors.BaseSelector,
        waiting: dict[socket.socket, tuple[Look, str]],
    ) -> None:
        look = Look(now_s)
        for address in self._addresses:
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            connection.setblocking(False)
            if connection.connect_ex((address, self._port)) not in (0, errno.EINPROGRESS):
                connection.close()
                continue
            selector.register(connection, selectors.EVENT_READ, connection)
            waiting[connection] = (look, address)
        self.looks.append(look)


def _overdue(waiting: dict[socket.socket, tuple[Look, str]], now_s: float) -> list[socket.socket]:
    return [one for one, (look, _) in waiting.items() if now_s - look.began_s > PATIENCE_S]


def _hear(connection: socket.socket, waiting: dict[socket.socket, tuple[Look, str]]) -> None:
    look, address = waiting[connection]
    try:
        name = connection.recv(64).decode()
    except OSError:  # refused, reset or unreachable
        return
    if name:
        look.names[address] = name


def _end(
    connection: socket.socket,
    selector: selectors.BaseSelector,
    waiting: dict[socket.socket, tuple[Look, str]],
) -> None:
    selector.unregister(connection)
    connection.close()
    del waiting[connection]


def judge(looks: Sequence[Look], hosts: Sequence[str], address: str, until_s: float) -> Seen:
    """Judge each look for the time until the next.

    `hosts` are the hosts' own addresses; `address` is the one that clients use, "" = either host's.
    Both serve when both answer on their own addresses, whatever a client would see of it; with an
    address of their own that leads to neither, nobody serves at the same time.
    """
    nobody_s = both_s = 0.0
    stalled = 0
    ends_s = [look.began_s for look in looks[1:]] + [until_s]
    for look, end_s in zip(looks, ends_s, strict=True):
        span_s = end_s - look.began_s
        served = [host for host in hosts if host in look.names]
        if address not in look.names if address else not served:
            nobody_s += span_s
        if len(served) > 1:
            both_s += span_s
        stalled += span_s > STALLED_S
    return Seen(nobody_s=nobody_s, both_s=both_s, stalled=stalled)
