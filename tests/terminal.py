"""A terminal for a program under test: what it draws is read back, what is typed reaches it."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]")
LEAVES = "\x1b[?1049l"  # xterm: back to the screen that was there before
POLL_S = 0.02


class Terminal:
    """One program on a terminal of its own; it is ended with the `with` block."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        columns: int = 120,
        rows: int = 40,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.drawn = ""
        self._master, slave = pty.openpty()
        self.resize(columns, rows)
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *words],  # not a group's leader: it becomes the program itself
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=kept | {"TERM": "xterm-256color", "LANG": "C.UTF-8"} | dict(env or {}),
            cwd=cwd,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # nobody has the other end open any more
                return
            if not data:
                return
            self.drawn += data.decode(errors="replace")

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, text: str) -> None:
        os.write(self._master, text.encode())

    @property
    def words(self) -> str:
        """All that was drawn so far, without colours and positions."""
        return SEQUENCE.sub("", self.drawn)

    @property
    def picture(self) -> str:
        """The last whole picture."""
        parts = self.drawn.split("\x1b[H")
        return SEQUENCE.sub("", parts[-2] if len(parts) > 2 else parts[-1])

    def wait_for(self, words: str, within: float = 20) -> None:
        """Until the last picture has these words."""
        self.wait_until(lambda: words in self.picture, repr(words), within)

    def wait_until(self, predicate: Callable[[], bool], what: str, within: float = 20) -> None:
        end_s = time.monotonic() + within
        while not predicate():
            assert self.process.poll() is None, f"it has ended:\n{self.words}"
            assert time.monotonic() < end_s, f"no {what} within {within} s:\n{self.words}"
            time.sleep(POLL_S)

    def end(self, within: float = 10) -> int:
        """Wait until the program has ended; its exit status."""
        code = self.process.wait(within)
        self._reader.join(within)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.end()
        os.close(self._master)
