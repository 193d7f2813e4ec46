"""Does the service take a TCP connection?

PASS: the connection was made.  FAIL: it was refused, reset, or not made in time.  UNKNOWN: it
could not be asked; our own side said so (no route, no descriptor, no permission, no such name),
or the address turned out to be one of this host.

"Not in time" is a FAIL because a service that hangs, or lies behind a rule that drops its packets,
shows nothing else.  It does not tell that from a broken path, though: whoever acts on a FAIL must
have proof from elsewhere that the path is good, as the answer to an echo is.  "No route to host"
is not a FAIL: it is our own kernel's word when nobody answered its ARP request, or a router's.

Options: `host`, an address or a name, and `port`.
"""

import asyncio
import errno
import os
import socket
from ipaddress import ip_address

from failover_monitor.commands import run_command
from failover_monitor.model import Outcome, ServiceCheck

# What comes back over the network, from the other end of the connection or for the lack of one.
FROM_AFAR = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT})
LOOKUP_S = 60.0  # of a name; the limit of the whole question is shorter

OURSELVES = "the address is one of this host: that says nothing of the primary"


class TcpAsker:
    """Makes a connection and closes it again."""

    silence = Outcome.FAIL

    def __init__(self, check: ServiceCheck) -> None:
        self._host: str = check.options["host"]
        self._port: int = check.options["port"]

    async def ask(self) -> tuple[Outcome, str]:
        self.silence = Outcome.UNKNOWN  # of those who look up names for us
        hosts = await addresses(self._host)
        self.silence = Outcome.FAIL
        if not hosts:
            return Outcome.UNKNOWN, f"cannot look up {self._host}"
        if any(is_ours(host, self._port) for host in hosts):
            return Outcome.UNKNOWN, OURSELVES
        answers = []
        for host in hosts:
            outcome, why = await connect(host, self._port)
            if outcome is Outcome.PASS:
                return outcome, why
            answers.append((outcome, why))
        # A name with several addresses fails when all of them do.
        return next((a for a in answers if a[0] is Outcome.UNKNOWN), answers[0])


async def connect(host: str, port: int) -> tuple[Outcome, str]:
    """Ask one address."""
    try:
        family, where = socket_address(host, port)
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, where)
    except OSError as error:
        return outcome_of(error), f"{host} port {port}: {reason_of(error)}"
    return Outcome.PASS, f"{host} port {port} takes connections"


def outcome_of(error: OSError) -> Outcome:
    """Whether an error is an answer, or the lack of a question."""
    return Outcome.FAIL if error.errno in FROM_AFAR else Outcome.UNKNOWN


def reason_of(error: OSError) -> str:
    """The system's words, without asyncio's around them."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


def is_ours(host: str, port: int) -> bool:
    """Whether an address is one of this host: it may have come over with a takeover.

    A loopback address is somebody's choice: what listens there may lead to the primary.
    """
    try:
        family, where = socket_address(host, port)
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(where)  # sends nothing: the kernel only chooses our end
            here = ip_address(str(sock.getsockname()[0]).partition("%")[0])
    except OSError:
        return False
    return not here.is_loopback and here == ip_address(str(where[0]))


def socket_address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str | int, ...]]:
    """An address as sockets take it, without a look-up.  Raises OSError."""
    found = socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)[0]
    text, *rest = found[4]
    return found[0], (str(text).partition("%")[0], *rest)  # the scope is in the rest, too


async def addresses(host: str) -> list[str]:
    """An address as it is, a name looked up; empty when that is not possible.

    Looking up may take longer than we want to wait.  A program that does it can be ended; a
    thread that does it cannot.
    """
    try:
        ip_address(host)
    except ValueError:
        ended = await run_command(["getent", "ahosts", "--", host], timeout_s=LOOKUP_S)
        if ended.status:
            return []
        return list(dict.fromkeys(line.split()[0] for line in ended.output.splitlines() if line))
    return [host]
