"""What a monitor would have recorded: events from the toy world, samples from a script.

The events are those of the production monitor; only the wall clock is made up, so that a test knows
every moment.  It begins at BASE_S, which is 2026-11-21 03:00:00 UTC.
"""

import json
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from failover_monitor import cli
from failover_monitor.events import Event
from failover_monitor.files import Paths
from failover_monitor.model import Policy
from tests.world import World

BASE_S = 1_795_230_000.0  # 2026-11-21 03:00:00 UTC
MINUTE_S = 60.0
Done = subprocess.CompletedProcess[str]
PRIMARY, GATEWAY = "198.51.100.2", "198.51.100.1"


def line_of(at_s: float, event: Event) -> dict[str, Any]:
    """An event as `EventsHandler` writes it."""
    return {
        "at": "",
        "at_s": round(BASE_S + at_s, 3),
        "kind": event.kind.name.lower(),
        "level": logging.getLevelName(event.level),
        "what": event.sentence,
        **event.fields,
    }


def record(paths: Paths, world: World) -> None:
    """Write down what the world's monitor has told so far, as the real recorder would."""
    told = [(at_s, event) for at_s, event in world.recorder.told if event.level >= logging.INFO]
    write(paths.events, (line_of(at_s, event) for at_s, event in told))


def write(path: Path, documents: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(document)}\n" for document in documents))


def story(policy: Policy, *script: tuple[float, Callable[[World], None]], end_s: float) -> World:
    """Let a world live: at each moment something is done to it."""
    world = World(policy)
    world.begin()
    for at_s, change in script:
        world.run_until(at_s)
        change(world)
    world.run_until(end_s)
    return world


def silent(*addresses: str) -> Callable[[World], None]:
    """These hosts answer no more."""

    def change(world: World) -> None:
        for address in addresses:
            world.hosts[address].up = False

    return change


def back(*addresses: str) -> Callable[[World], None]:
    def change(world: World) -> None:
        for address in addresses:
            world.hosts[address].up = True

    return change


@dataclass
class Minute:
    """One sample to come; a fault is what is said of it."""

    phase: str = "standby"
    verdict: str = "up"
    rtt_ms: dict[str, float] = field(default_factory=dict)  # the mean; absent: 0.3
    loss: dict[str, float] = field(default_factory=dict)  # 0 to 1; absent: none
    gaps_s: tuple[float, ...] = ()
    sent: int = 20


def sample(at_s: float, minute: Minute, roles: dict[str, str]) -> dict[str, Any]:
    """A sample as it lies on the disk; `at_s` counts from BASE_S."""
    paths = {}
    for address, role in roles.items():
        answered = round(minute.sent * (1 - minute.loss.get(address, 0.0)))
        mean_ms = minute.rtt_ms.get(address, 0.3)
        rtt_ms = [mean_ms * 0.5, mean_ms, mean_ms * 2] if answered else None
        paths[address] = {
            "role": role,
            "sent": minute.sent,
            "answered": answered,
            "rtt_ms": rtt_ms,
        }
    return {
        "at_s": BASE_S + at_s,
        "length_s": MINUTE_S,
        "phase": minute.phase,
        "verdict": minute.verdict,
        "paths": paths,
        "gaps_s": list(minute.gaps_s),
    }


ROLES = {PRIMARY: "primary", GATEWAY: "reference"}


def record_minutes(
    paths: Paths,
    minutes: Iterable[Minute | None],
    *,
    roles: dict[str, str] | None = None,
    begin_s: float = 0.0,
) -> None:
    """One sample a minute, the first ending at `begin_s` + 60; None: nobody watched."""
    ends = ((begin_s + MINUTE_S * n, minute) for n, minute in enumerate(minutes, 1))
    found = (sample(at_s, minute, roles or ROLES) for at_s, minute in ends if minute)
    write(paths.samples, found)


def lossy_days(days: float, *, seed: int = 1, longest_s: float = 0.9) -> list[Minute | None]:
    """Days of a network that loses an echo now and then; one silence is the longest."""
    rng = random.Random(seed)
    minutes: list[Minute | None] = [
        Minute(gaps_s=(round(rng.uniform(0.1, longest_s / 2), 3),) if rng.random() < 0.05 else ())
        for _ in range(round(days * 1440))
    ]
    minutes[len(minutes) // 2] = Minute(gaps_s=(longest_s,))
    return minutes


def room(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paths]:
    """A place where the commands find their files, in a zone where every moment is known."""
    paths = Paths(root)
    paths.run.mkdir(parents=True)
    paths.history.mkdir(parents=True)
    monkeypatch.setattr(cli, "PATHS", paths)
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield paths
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def at(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the wall clock stand still, so long after BASE_S."""
    monkeypatch.setattr(time, "time", lambda: BASE_S + seconds)


def as_a_user(root: Path, *words: str, stdout: Any = subprocess.PIPE) -> Done:
    """Run a command in a process of its own, on the record below `root`."""
    script = (
        "import sys; from pathlib import Path; from failover_monitor import cli;"
        "from failover_monitor.files import Paths;"
        "cli.PATHS = Paths(Path(sys.argv[1])); status = cli.main(sys.argv[2:]);"
        "print(sorted({'rich', 'pydantic'} & set(sys.modules)), file=sys.stderr); sys.exit(status)"
    )
    return subprocess.run(
        [sys.executable, "-c", script, str(root), *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )


def on_a_terminal(root: Path, *words: str) -> str:
    """What the command writes where people sit."""
    ours, its = os.openpty()
    written = b""
    try:
        try:
            done = as_a_user(root, *words, stdout=its)
        finally:
            os.close(its)
        assert "Traceback" not in done.stderr, done.stderr
        with suppress(OSError):  # nobody has the other end open any more
            while data := os.read(ours, 65_536):
                written += data
        return written.decode()
    finally:
        os.close(ours)
