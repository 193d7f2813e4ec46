"""Programs that we run for the operator: fence agents, plugins and the like.

Rule: whatever a command does, running it gives a value, in time, and leaves nothing behind.  It
has a session and a process group of its own, which is told to end with SIGTERM and is killed
`GRACE_S` later; what is left of the group when the command itself has ended is killed at once.
Only what leaves the group by setsid(2) goes on, until the monitor's unit is stopped.

A program is read from a disk that may hang, and the end of one that was killed may wait for such a
disk, too.  A thread for each command waits for both, so that the event loop waits for neither.
"""

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from failover_monitor.text import one_line

GRACE_S = 1.0  # from SIGTERM to SIGKILL, and from there to the moment when we go on without it
OUTPUT_LIMIT = 64 * 1024  # bytes of output that are kept: the last ones
CHUNK = 64 * 1024
PIPE_LIMIT = 1024 * 1024  # pipe(7): what a pipe can hold when nobody has asked for more
STUCK_LIMIT = 16  # so many that cannot be ended, and no other one is started
WHY_LIMIT = 200  # characters of a command's own words in a sentence

# A child of vfork(2) would hold up all our threads, not only its own, while its exec hangs.  The
# name is in the documentation of `subprocess`, for this use.
subprocess._USE_VFORK = False  # type: ignore[misc]  # noqa: SLF001

# What systemd tells us, and nobody else: a command must not speak in our name.
OURS = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}
)


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a command."""

    status: int | None  # its exit status; -N: killed by signal N; None: time limit, not started
    output: str = ""  # the end of what it wrote to standard output and error
    why: str = ""  # "" when it exited with 0

    @property
    def first_line(self) -> str:
        """What it said first, fit for a sentence."""
        return plain(next(iter(self.output.strip().splitlines()), ""))

    @property
    def last_line(self) -> str:
        """What it said last, fit for a sentence."""
        return plain(next(reversed(self.output.strip().splitlines()), ""))

    @property
    def complaint(self) -> str:
        """Why it failed, in our words and its own last ones."""
        return f"{self.why}: {self.last_line}".removesuffix(": ")


async def run_command(
    words: Sequence[str],
    *,
    timeout_s: float,
    feed: str = "",
    output_limit: int = OUTPUT_LIMIT,
) -> Ended:
    """Run a program with arguments (no shell) in `/`, with `feed` as its standard input.

    Raises nothing but the caller's own cancellation, which ends the command as the limit does.
    Either takes up to `GRACE_S` longer with one that ignores SIGTERM or whose start hangs, and
    twice that with one that cannot even be killed.
    """
    child = Child(words, feed.encode(errors="replace"), output_limit)
    refused = child.start()
    if refused:
        return Ended(None, why=refused)
    try:
        if not await within(timeout_s, child.over):
            await child.end()
            return Ended(None, child.text(), f"it did not end within {timeout_s:g} s")
    except asyncio.CancelledError:
        await child.end()
        raise
    finally:
        child.leave()
    return child.outcome()


async def within(limit_s: float, *events: asyncio.Event) -> bool:
    """Wait for all of these events.  Returns whether they came in time.

    Unlike `asyncio.timeout`, which in a task that is being cancelled ends with a cancellation
    instead of a timeout (Python before 3.11.3), it may be used to tidy up.
    """
    waiting = {asyncio.create_task(event.wait()) for event in events}
    try:
        return not (await asyncio.wait(waiting, timeout=limit_s))[1]
    finally:
        for task in waiting:
            task.cancel()


class Child:
    """One command, from its start until the kernel has forgotten it.

    `_live` runs in a thread of its own, everything else in the event loop.
    """

    stuck: ClassVar[set["Child"]] = set()  # nobody waits for them, and they are not over

    def __init__(self, words: Sequence[str], feed: bytes, output_limit: int) -> None:
        self.over = asyncio.Event()  # it has ended, or could not be started
        self._started = asyncio.Event()  # it runs, or could not be started
        self._words = list(words)
        self._feed = memoryview(feed)
        self._limit = output_limit
        self._loop = asyncio.get_running_loop()
        self._pipes: dict[str, int] = {}  # our ends, while they are open
        self._closed = asyncio.Event()  # nobody has the other end of its output
        self._output = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        self._refused = ""
        self._status: int | None = None
        self._left = False  # nobody wants it any more

    def start(self) -> str:
        """Send it on its way.  Returns "" or why it cannot be started."""
        if len(self.stuck) >= STUCK_LIMIT:
            return f"cannot start it: {len(self.stuck)} others were killed and do not end"
        with ExitStack() as theirs:
            try:
                stdin, self._pipes["in"] = os.pipe()
                theirs.callback(os.close, stdin)
                self._pipes["out"], stdout = os.pipe()
                theirs.callback(os.close, stdout)
                for pipe in self._pipes.values():
                    os.set_blocking(pipe, False)
                self._loop.add_reader(self._pipes["out"], self._read)
                self._loop.add_writer(self._pipes["in"], self._write)
                threading.Thread(target=self._live, args=(stdin, stdout), daemon=True).start()
            except (OSError, RuntimeError) as error:  # no more descriptors, no more threads
                self._close()
                return f"cannot start it: {error}"
            theirs.pop_all()  # its thread closes them
        return ""

    async def end(self) -> None:
        """Ask it to end, then kill it.  Returns when it is gone, or when it will not go."""
        if not await within(GRACE_S, self._started):  # that hangs: there is nothing to end yet
            return
        self._signal(signal.SIGTERM)
        await within(GRACE_S, self.over, self._closed)
        self._signal(signal.SIGKILL)
        await within(GRACE_S, self.over)

    def leave(self) -> None:
        """Kill it and let it go; whenever it ends, it is buried."""
        self._left = True
        self._signal(signal.SIGKILL)
        if self.over.is_set():
            self._bury()
        else:
            self.stuck.add(self)
            self._close()

    def outcome(self) -> Ended:
        if self._status is None:
            return Ended(None, why=self._refused)
        if self._status < 0:
            return Ended(self._status, self.text(), f"it was killed by signal {-self._status}")
        why = f"it ended with status {self._status}" if self._status else ""
        return Ended(self._status, self.text(), why)

    def text(self) -> str:
        return self._output.decode(errors="replace")

    def _live(self, stdin: int, stdout: int) -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own words
                self._words,
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={name: value for name, value in os.environ.items() if name not in OURS},
                start_new_session=True,
            )
        except (OSError, ValueError, IndexError) as error:  # IndexError: no words at all
            self._refused = f"cannot start it: {getattr(error, 'strerror', None) or error}"
        else:
            self._process = process
            if self._left:
                self._signal(signal.SIGKILL)
            # Our own protection from the kernel's search for memory is not for what we start.
            with suppress(OSError):
                Path(f"/proc/{process.pid}/oom_score_adj").write_text("0")
        finally:
            os.close(stdin)
            os.close(stdout)
            with suppress(RuntimeError):  # the loop has been closed meanwhile
                self._loop.call_soon_threadsafe(self._started.set)
        if self._process:
            # Not reaped yet: until then nobody else gets the number of its group.
            try:
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:  # SIGCHLD is ignored, or somebody else was faster
                self._refused = "nobody knows how it ended"
        try:
            self._loop.call_soon_threadsafe(self._ended)
        except RuntimeError:  # the loop has been closed meanwhile
            self._reap()

    def _ended(self) -> None:
        self.over.set()
        if self._left:
            self._bury()

    def _bury(self) -> None:
        for _ in range(PIPE_LIMIT // CHUNK):
            if "out" not in self._pipes or not self._read():
                break
        self._close()
        self._reap()

    def _reap(self) -> None:
        self._signal(signal.SIGKILL)
        if self._process:
            status = self._process.wait()  # 0 also when it is not known
            self._status = None if self._refused else status
        self.stuck.discard(self)

    def _signal(self, number: int) -> None:
        """To all of its group, as long as the number means that group."""
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    # Its input and output.

    def _read(self) -> bool:
        """Take what is there.  Returns whether there may be more."""
        try:
            chunk = os.read(self._pipes["out"], CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            self._closed.set()
            self._loop.remove_reader(self._pipes["out"])
            return False
        self._output += chunk
        del self._output[: max(0, len(self._output) - self._limit)]
        return True

    def _write(self) -> None:
        with suppress(BlockingIOError):
            try:
                self._feed = self._feed[os.write(self._pipes["in"], self._feed) :]
            except BrokenPipeError:  # it does not want to hear it
                self._feed = self._feed[:0]
        if not self._feed:
            self._close("in")

    def _close(self, *names: str) -> None:
        for name in names or tuple(self._pipes):
            pipe = self._pipes.pop(name)
            self._loop.remove_reader(pipe)
            self._loop.remove_writer(pipe)
            os.close(pipe)


def plain(text: str) -> str:
    """Text of others, made fit for a line of ours."""
    line = one_line(text)
    return line if len(line) <= WHY_LIMIT else line[: WHY_LIMIT - 1] + "…"
