"""What does a program of the operator's say of the service?

PASS and FAIL are the exit statuses that the operator names; a plugin of Nagios' kind has 0 for OK
and 2 for CRITICAL, and so have we unless told otherwise.  Every other status is UNKNOWN, as are
1 (WARNING), 3, a signal, the time limit and a program that cannot be started.

Options: `command`, a list of words (no shell); `pass` and `fail`, lists of exit statuses.
"""

from failover_monitor.commands import run_command
from failover_monitor.model import Outcome, ServiceCheck


class CommandAsker:
    """Runs the program once for each question."""

    silence = Outcome.UNKNOWN

    def __init__(self, check: ServiceCheck) -> None:
        self._words: list[str] = check.options["command"]
        self._pass = frozenset(check.options.get("pass", [0]))
        self._fail = frozenset(check.options.get("fail", [2]))
        self._timeout_s = check.timeout_s

    async def ask(self) -> tuple[Outcome, str]:
        ended = await run_command(self._words, timeout_s=self._timeout_s)
        why = ended.first_line or ended.why or "it ended with status 0"
        if ended.status is None:
            return Outcome.UNKNOWN, ended.why
        if ended.status in self._pass:
            return Outcome.PASS, why
        if ended.status in self._fail:
            return Outcome.FAIL, why
        return Outcome.UNKNOWN, f"{ended.why}: {ended.first_line}".removesuffix(": ")
