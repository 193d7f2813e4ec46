"""Who serves when: samples the cgroups of a service on several hosts while a block runs.

The kernel is asked, not systemd: a service whose unit is "inactive" may still have processes.
"""

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.lab.hosts import SystemdHost

SAMPLE_S = 0.01


@dataclass
class Overlap:
    """`seconds` in which the service ran on more than one host, and `idle_s` when on none."""

    unit: str
    hosts: Sequence[SystemdHost]
    seconds: float = 0.0
    idle_s: float = 0.0
    longest_idle_s: float = 0.0
    samples: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)  # at each change

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def _follow(self) -> None:
        serving = tuple(host.name for host in self.hosts if host.running(self.unit))
        last_s, idle_s = time.monotonic(), 0.0
        for turn in itertools.count():
            now_s = time.monotonic()
            if len(serving) > 1:
                self.seconds += now_s - last_s
            idle_s = idle_s + now_s - last_s if not serving else 0.0
            self.idle_s += (now_s - last_s) * (not serving)
            self.longest_idle_s = max(self.longest_idle_s, idle_s)
            last_s = now_s
            found = tuple(host.name for host in self.hosts if host.running(self.unit))
            if found != serving or not turn:
                serving = found
                self.samples.append((now_s, found))
            if self._over.wait(SAMPLE_S):
                return

    def told(self) -> str:
        """The changes, for a failed test."""
        first_s = self.samples[0][0]
        lines = (f"{at - first_s:8.3f}  {', '.join(who) or '-'}" for at, who in self.samples)
        return "\n".join(lines)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        if kind is None:
            return
        print(f"--- {self.unit} ran on\n{self.told()}")
