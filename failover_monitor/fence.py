"""The fence: a command that switches the primary off, or says that it is off.

Rule: only an exit status of 0 is a success, and nothing is remembered of a wish that was taken
back.  A command is never run beside another one, also not beside one that is just being ended.

The options go to the command's standard input as Pacemaker gives them to its agents, one
`key=value` a line; so passwords are in nobody's list of processes.  An agent of that family reads
them only if it has no arguments.
"""

import asyncio
from collections.abc import Callable

from failover_monitor.commands import run_command
from failover_monitor.model import FencePolicy, FenceSeen, Fencing

PAUSES_S = (1.0, 2.0, 5.0)  # before the retries; the last one before all further ones, too
AGAIN_S = 30.0  # between two tries when all retries have failed


class Fence:
    """One primary's fence.  `changed` is called whenever `seen` has changed by itself."""

    def __init__(
        self,
        policy: FencePolicy,
        changed: Callable[[], None],
        alone: asyncio.Lock,
    ) -> None:
        """`alone` is held while a command runs; the fence of an earlier policy has the same."""
        self._policy = policy
        self._changed = changed
        self._seen = FenceSeen()
        self._wanted = False
        self._task: asyncio.Task[None] | None = None  # of the present wish
        self._tasks: set[asyncio.Task[None]] = set()  # and those that are being ended
        self._alone = alone

    @property
    def seen(self) -> FenceSeen:
        """How far it is; `tries` counts the commands that have been started for this wish."""
        return self._seen

    def want(self, wanted: bool) -> None:
        """Said as often as you like.  True: fence now.  False: end what runs, forget the result."""
        if wanted is self._wanted:
            return
        self._wanted = wanted
        if wanted:
            self._seen = FenceSeen(Fencing.RUNNING)
            self._task = asyncio.create_task(self._fence())
            self._tasks.add(self._task)
            self._task.add_done_callback(self._tasks.discard)
        elif self._task:
            self._seen = FenceSeen()
            self._task.cancel()

    async def _fence(self) -> None:
        async with self._alone:
            while not await self._try():
                failures = self._seen.tries
                if failures > self._policy.retries:
                    await asyncio.sleep(AGAIN_S)
                else:
                    await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S)) - 1])

    async def _try(self) -> bool:
        """Run the command once.  Returns whether it succeeded."""
        before = self._seen
        tries = before.tries + 1
        self._see(before.state, tries, before.why)
        ended = await run_command(
            self._policy.command,
            timeout_s=self._policy.timeout_s,
            feed="".join(f"{key}={value}\n" for key, value in self._policy.options.items()),
        )
        if ended.status == 0:
            self._see(Fencing.DONE, tries, ended.last_line or "it ended with status 0")
            return True
        why = ended.complaint
        self._see(Fencing.FAILED if tries > self._policy.retries else before.state, tries, why)
        return False

    def _see(self, state: Fencing, tries: int, why: str) -> None:
        self._seen = FenceSeen(state, tries, why)
        self._changed()
