"""The fence: real commands that succeed, fail, hang and are no longer wanted."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from failover_monitor import fence
from failover_monitor.fence import Fence
from failover_monitor.model import FencePolicy, Fencing

SOON_S = 10.0  # until then what must come has come, also on a busy machine

# An agent that adds a line to `runs` beside it for each run, and does what its options say.
AGENT = """#!/bin/sh
cd "${0%/*}"
cat >input
. ./mood
"""


class Primary:
    """What the agent did, and how the fence is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.agent = path / "agent"
        self.agent.write_text(AGENT)
        self.agent.chmod(0o755)
        self.changes = 0
        self.alone = asyncio.Lock()
        self.mood("exit 0")

    def mood(self, script: str, *, first: str = "") -> None:
        """What the agent does from now on, before and after it has noted that it runs."""
        (self.path / "mood").write_text(f"{first}\necho begin $$ >>runs\n{script}\n")

    def fence(self, **policy: Any) -> Fence:
        given: dict[str, Any] = {"command": (str(self.agent),), "options": {}, "timeout_s": 30.0}
        return Fence(FencePolicy(**(given | policy)), self._changed, self.alone)

    def _changed(self) -> None:
        self.changes += 1

    @property
    def runs(self) -> list[str]:
        path = self.path / "runs"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def primary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Primary:
    monkeypatch.setattr(fence, "PAUSES_S", (0.01, 0.02, 0.05))
    monkeypatch.setattr(fence, "AGAIN_S", 0.1)
    return Primary(tmp_path)


async def until(condition: Callable[[], object], what: str) -> None:
    begun_s = time.monotonic()
    while not condition():
        assert time.monotonic() - begun_s < SOON_S, what
        await asyncio.sleep(0.01)


async def test_a_fence_that_nobody_wants_does_nothing(primary: Primary) -> None:
    """Neither a new one nor one that is told so again."""
    made = primary.fence()
    made.want(False)
    await asyncio.sleep(0)
    assert (made.seen.state, primary.runs) == (Fencing.IDLE, [])


async def test_a_command_that_succeeds_is_run_once(primary: Primary) -> None:
    """However often it is wanted; its last words are kept."""
    primary.mood("echo Success: Powered OFF; exit 0")
    made = primary.fence()
    for _ in range(3):
        made.want(True)
        assert made.seen.state is Fencing.RUNNING
    await until(lambda: made.seen.state is Fencing.DONE, "it is done")
    made.want(True)
    assert (made.seen.tries, made.seen.why) == (1, "Success: Powered OFF")
    assert len(primary.runs) == 1
    assert primary.changes == 2  # it began, it ended


async def test_the_options_go_to_the_commands_input(primary: Primary) -> None:
    """One `key=value` a line, in their order, as Pacemaker gives them."""
    made = primary.fence(options={"ip": "198.51.100.9", "action": "off", "password": "a=b c"})
    made.want(True)
    await until(lambda: made.seen.state is Fencing.DONE, "it is done")
    given = (primary.path / "input").read_text()
    assert given == "ip=198.51.100.9\naction=off\npassword=a=b c\n"


@pytest.mark.parametrize("mood", ["exit 1", "exit 2", "kill -9 $$", "exit 255"])
async def test_only_the_status_zero_is_a_success(primary: Primary, mood: str) -> None:
    """Everything else is tried again, and then it has failed."""
    primary.mood(mood)
    made = primary.fence(retries=2)
    made.want(True)
    await until(lambda: made.seen.state is Fencing.FAILED, "it has failed")
    assert made.seen.tries == 3
    made.want(False)


async def test_a_failure_says_why(primary: Primary) -> None:
    """The status and the agent's own last words."""
    primary.mood("echo Unable to connect >&2; exit 1")
    made = primary.fence(retries=0)
    made.want(True)
    await until(lambda: made.seen.state is Fencing.FAILED, "it has failed")
    assert made.seen.why == "it ended with status 1: Unable to connect"
    made.want(False)


async def test_a_retry_that_succeeds_is_a_success(primary: Primary) -> None:
    """Between two tries it is still under way."""
    primary.mood("test $(wc -l <runs) -gt 3")
    made = primary.fence(retries=5)
    states = set()

    def done() -> bool:
        states.add(made.seen.state)
        return made.seen.state is Fencing.DONE

    made.want(True)
    await until(done, "it is done")
    assert states == {Fencing.RUNNING, Fencing.DONE}


async def test_after_its_retries_a_fence_is_still_tried_while_it_is_wanted(
    primary: Primary,
) -> None:
    """Failed is what it is meanwhile; a success then is one."""
    primary.mood("exit 1")
    made = primary.fence(retries=1)
    made.want(True)
    await until(lambda: made.seen.state is Fencing.FAILED, "it has failed")
    await until(lambda: made.seen.tries > 3, "it is tried again")
    assert made.seen.state is Fencing.FAILED
    primary.mood("exit 0")
    await until(lambda: made.seen.state is Fencing.DONE, "it is done")


async def test_a_command_that_hangs_has_failed(primary: Primary) -> None:
    """Its time limit ends it, and the next try comes after that."""
    primary.mood("sleep 600")
    made = primary.fence(timeout_s=0.2, retries=1)
    made.want(True)
    await until(lambda: made.seen.state is Fencing.FAILED, "it has failed")
    assert made.seen.why == "it did not end within 0.2 s"
    made.want(False)


async def test_a_command_that_cannot_be_started_has_failed(primary: Primary) -> None:
    """A missing agent never fences anybody."""
    made = primary.fence(command=("/nowhere/fence_none",), retries=0)
    made.want(True)
    await until(lambda: made.seen.state is Fencing.FAILED, "it has failed")
    assert made.seen.why == "cannot start it: No such file or directory"
    made.want(False)


async def test_a_fence_that_is_no_longer_wanted_is_ended(primary: Primary) -> None:
    """At once for whoever looks, and the command soon after; its outcome is nobody's."""
    primary.mood("sleep 600")
    made = primary.fence()
    made.want(True)
    await until(lambda: primary.runs, "it runs")
    pid = primary.runs[0].split()[1]
    made.want(False)
    assert (made.seen.state, made.seen.tries) == (Fencing.IDLE, 0)
    await until(lambda: not Path(f"/proc/{pid}").exists(), "it has ended")
    assert made.seen.state is Fencing.IDLE
    assert len(primary.runs) == 1


async def test_a_success_is_forgotten_with_the_wish(primary: Primary) -> None:
    """The primary may have been switched on again: the next time it is fenced anew."""
    made = primary.fence()
    for run in (1, 2):
        made.want(True)
        await until(lambda: made.seen.state is Fencing.DONE, "it is done")
        assert len(primary.runs) == run
        made.want(False)
        assert made.seen.state is Fencing.IDLE


async def test_a_fence_of_another_policy_waits_for_the_one_before(primary: Primary) -> None:
    """A reload: the old command is being ended, and the agent knows one switch at a time."""
    primary.mood("sleep 60 & wait", first="trap 'sleep 0.2; echo end >>runs; exit 1' TERM")
    before = primary.fence()
    before.want(True)
    await until(lambda: primary.runs, "the old one runs")
    primary.mood("echo end >>runs")
    after = primary.fence(timeout_s=20.0)
    before.want(False)
    after.want(True)
    await until(lambda: after.seen.state is Fencing.DONE, "the new one has ended")
    assert [line.split()[0] for line in primary.runs] == ["begin", "end", "begin", "end"]


async def test_a_fence_never_runs_twice_at_once(primary: Primary) -> None:
    """A wish that comes back waits until the command of the former one has really ended."""
    trap = "trap 'sleep 0.2; echo end $$ >>runs; exit 1' TERM"
    primary.mood("sleep 600 & wait", first=trap)
    made = primary.fence()
    made.want(True)
    await until(lambda: primary.runs, "it runs")
    for _ in range(3):
        made.want(False)
        await asyncio.sleep(0)
        made.want(True)
        await asyncio.sleep(0)
    await until(lambda: len(primary.runs) == 3, "the second one runs")
    first, ended, second = primary.runs
    assert ended == first.replace("begin", "end")
    assert second != first
    made.want(False)
    await until(lambda: len(primary.runs) == 4, "the second one has ended")
