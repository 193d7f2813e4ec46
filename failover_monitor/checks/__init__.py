"""Service checks ask the primary's service itself, beside the echo that asks the host.

A kind is one file and one line in KINDS; its library is loaded when the first check of that kind
is made, so that nobody carries what the configuration does not use.

Rule: three answers.  PASS and FAIL are the service's own, or its silence; whatever goes wrong on
our side of the question is UNKNOWN.
"""

from collections.abc import Callable
from typing import Protocol

from failover_monitor.model import Outcome, ServiceCheck

__all__ = ["KINDS", "Asker"]


class Asker(Protocol):
    """Asks one service check's question, as often as it is told to."""

    silence: Outcome  # what it means, just now, when `ask` has not ended after `timeout_s`

    async def ask(self) -> tuple[Outcome, str]:
        """The answer, and why in a few words.  It has no limit of its own and never raises."""
        ...


def _tcp(check: ServiceCheck) -> Asker:
    from failover_monitor.checks.tcp import TcpAsker

    return TcpAsker(check)


def _http(check: ServiceCheck) -> Asker:
    from failover_monitor.checks.http import HttpAsker

    return HttpAsker(check)


def _command(check: ServiceCheck) -> Asker:
    from failover_monitor.checks.command import CommandAsker

    return CommandAsker(check)


def _unit(check: ServiceCheck) -> Asker:
    from failover_monitor.checks.unit import UnitAsker

    return UnitAsker(check)


KINDS: dict[str, Callable[[ServiceCheck], Asker]] = {
    "tcp": _tcp,
    "http": _http,
    "command": _command,
    "unit": _unit,
}
