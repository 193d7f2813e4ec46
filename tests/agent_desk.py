"""A monitor's files as a test writes them, targets that remember, and an agent between them.

No clock but the test's own moves here, unless a test starts the agent's threads.
"""

import json
from pathlib import Path
from typing import Any

from failover_monitor.agent.outbox import Pace
from failover_monitor.agent.service import Agent, Clock, Target
from failover_monitor.agent.words import Message
from failover_monitor.files import Paths
from failover_monitor.model import Role

BEGIN_S = 2_000_000_000.0  # later than any day on which this runs
DOWN = {"kind": "verdict", "level": "WARNING", "what": "verdict down: silent", "SUBJECT": "down"}
UP = {"kind": "verdict", "level": "INFO", "what": "verdict up: it answered", "SUBJECT": "up"}
NOT_SENT = "it is away"


def transition(source: str, target: str) -> dict[str, Any]:
    what = f"{source} -> {target}: because"
    return {"kind": "transition", "level": "WARNING", "what": what, "FROM": source, "TO": target}


TAKEOVER = (DOWN, transition("standby", "takeover"), transition("takeover", "active"))
FAILBACK = (UP, transition("active", "failback"), transition("failback", "standby"))
TWO = {
    "kind": "foreign",
    "level": "CRITICAL",
    "what": "possibly two active: app.service runs here while the primary answers",
    "UNIT": "app.service",
}


def reference(*, silent: bool) -> dict[str, Any]:
    notice, word = ("reference_silent", "silent") if silent else ("reference_back", "back")
    level = "WARNING" if silent else "INFO"
    what = f"reference 198.51.100.1 is {word}"
    return {"kind": "reference", "level": level, "what": what, "NOTICE": notice,
            "SUBJECT": "198.51.100.1"}  # fmt: skip


class FakeSender:
    """A target: keeps what it gets; away while `reachable` is off."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.reachable = True
        self.tries = 0

    def send(self, message: Message, thread: int) -> str:
        self.tries += 1
        if not self.reachable:
            return NOT_SENT
        self.got.append(message)
        return ""

    @property
    def subjects(self) -> list[str]:
        """Without the host's name."""
        return [message.subject.partition("] ")[2] for message in self.got]


class Desk:
    """Everything that one agent sees, and a clock that only the test moves."""

    def __init__(
        self,
        root: Path,
        *levels: str,
        textfile: Path | None = None,
        role: Role = Role.STANDBY,
    ) -> None:
        self.paths = Paths(root / "monitor")
        self.home = root / "agent"
        self.now_s = BEGIN_S
        self.textfile = textfile
        self.role = role
        self.levels = levels or ("warning",)
        self.senders = [FakeSender() for _ in self.levels]
        self.pace = Pace()
        for directory in (self.paths.run, self.paths.history, self.home):
            directory.mkdir(parents=True, exist_ok=True)
        self.paths.events.touch()
        self.paths.samples.touch()
        self.status()
        self.agent = self.new_agent()

    @property
    def sender(self) -> FakeSender:
        return self.senders[0]

    def new_agent(self) -> Agent:
        targets = tuple(
            Target(name=f"target {number}", level=level, sender=sender)
            for number, (level, sender) in enumerate(zip(self.levels, self.senders, strict=True))
        )
        clock = Clock(wall=lambda: self.now_s, boot=lambda: self.now_s, awake=lambda: self.now_s)
        return Agent(
            self.paths,
            self.home,
            targets,
            self.textfile,
            role=self.role,
            pace=self.pace,
            clock=clock,
        )

    def restart(self) -> None:
        self.agent = self.new_agent()

    def line(self, event: dict[str, Any]) -> str:
        return json.dumps({"at": "", "at_s": self.now_s, **event}) + "\n"

    def tell(self, *events: dict[str, Any]) -> None:
        """What the monitor records now."""
        with self.paths.events.open("a") as file:
            file.writelines(self.line(event) for event in events)

    def turn_over(self) -> None:
        self.paths.events.replace(self.paths.events.with_suffix(".jsonl.1"))

    def status(self, **keys: Any) -> None:
        """What the monitor says of now."""
        document = {
            "at_s": self.now_s,
            "stale_after_s": 45.0,
            "role": "standby",
            "phase": "standby",
            "phase_since": "2026-11-21T03:12:09+0000",
            "verdict": "up",
            "suspicious": False,
            "attention": [],
            "references": [{"address": "198.51.100.1"}],
            "quiet_references": [],
            "units": [{"name": "app.service", "state": "stopped"}],
        }
        self.paths.status.write_text(json.dumps(document | keys))

    def turn(self) -> None:
        """One look, and one message for each target whose turn it is."""
        self.agent.turn()
        for courier in self.agent.couriers:
            courier.deliver_one()

    def run(self, for_s: float, *, step_s: float = 1.0, watched: bool = True, **keys: Any) -> None:
        """Let time go by; `keys` are of the status that the monitor writes meanwhile."""
        end_s = self.now_s + for_s
        while self.now_s < end_s:
            self.now_s += step_s
            if watched:
                self.status(**keys)
            self.turn()
