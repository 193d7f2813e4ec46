"""Running commands: real processes of every temper, and nothing of them is left."""

import asyncio
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from failover_monitor import commands
from failover_monitor.commands import Child, Ended, plain, run_command

LONG_S = 60.0  # a limit that no test reaches
SOON_S = 10.0  # until then what must end has ended, also on a busy machine


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def children() -> set[int]:
    """Our own children, the dead ones among them."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread may end meanwhile
            found |= {int(word) for word in (task / "children").read_text().split()}
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def protection(value: str) -> str:
    """Change our own oom_score_adj; what it was."""
    path = Path("/proc/self/oom_score_adj")
    before = path.read_text()
    path.write_text(value)
    return before


async def until(condition: object, what: str) -> None:
    """Let the loop go on until something is so."""
    assert callable(condition)
    begun_s = time.monotonic()
    while not condition():
        assert time.monotonic() - begun_s < SOON_S, what
        await asyncio.sleep(0.01)


@pytest_asyncio.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    """After each test: no child, no descriptor and no thread more than before."""
    await asyncio.sleep(0)
    before = descriptors(), children(), threading.active_count()
    yield
    await until(lambda: not Child.stuck, "a command is stuck")
    await until(lambda: threading.active_count() <= before[2], "a thread is left")
    await until(lambda: children() <= before[1], "a child is left")
    assert descriptors() <= before[0]


async def test_status_output_and_input_of_a_command() -> None:
    """It reads what it is fed, and both of its outputs are kept in their order."""
    ended = await run_command(
        shell("cat; echo err >&2; echo out; exit 3"), timeout_s=LONG_S, feed="a=b\nc=d\n"
    )
    assert ended == Ended(3, "a=b\nc=d\nerr\nout\n", "it ended with status 3")
    assert (ended.first_line, ended.last_line) == ("a=b", "out")
    assert await run_command(["/bin/true"], timeout_s=LONG_S) == Ended(0)


async def test_without_a_feed_a_command_reads_the_end_of_its_input() -> None:
    """It never waits for a person, and has no terminal to ask one."""
    script = "cat; (: </dev/tty) 2>/dev/null || echo no terminal"
    assert (await run_command(shell(script), timeout_s=LONG_S)).output == "no terminal\n"


async def test_arguments_are_never_a_shells() -> None:
    """What a shell would read as more arrives as it is."""
    words = ["/usr/bin/printf", "%s|", "$(id)", "a b", ";", "-x"]
    assert (await run_command(words, timeout_s=LONG_S)).output == "$(id)|a b|;|-x|"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["/nowhere/at-all"], "cannot start it: No such file or directory"),
        (["/etc/passwd"], "cannot start it: Permission denied"),
        (["/etc"], "cannot start it: Permission denied"),
        (["/bin/true", "a\0b"], "cannot start it: embedded null byte"),
        (["/bin/true", "x" * 3_000_000], "cannot start it: Argument list too long"),
        ([], "cannot start it: "),
    ],
)
async def test_a_command_that_cannot_be_started_is_a_value(words: list[str], why: str) -> None:
    """Missing, not a program, too long: said, not raised."""
    ended = await run_command(words, timeout_s=LONG_S, feed="x" * 1_000_000)
    assert (ended.status, ended.output) == (None, "")
    assert ended.why.startswith(why)


async def test_a_file_without_a_format_cannot_be_started(tmp_path: Path) -> None:
    """A script without its first line is no program."""
    path = tmp_path / "script"
    path.write_text("echo hello\n")
    path.chmod(0o755)
    ended = await run_command([str(path)], timeout_s=LONG_S)
    assert ended == Ended(None, "", "cannot start it: Exec format error")


async def test_without_descriptors_a_command_cannot_be_started() -> None:
    """Our own shortage is a value, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        ended = await run_command(["/bin/true"], timeout_s=LONG_S)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ended.status is None
    assert "Too many open files" in ended.why


async def test_a_signal_is_not_an_exit_status() -> None:
    """Killed is something else than ended."""
    ended = await run_command(shell("echo last words; kill -9 $$"), timeout_s=LONG_S)
    assert ended == Ended(-9, "last words\n", "it was killed by signal 9")


async def test_a_command_that_takes_too_long_is_asked_to_end() -> None:
    """SIGTERM comes first, and what it still says is kept."""
    script = 'trap "echo asked; exit 0" TERM; echo begun; sleep 600 & wait'
    ended = await run_command(shell(script), timeout_s=2)
    assert ended == Ended(None, "begun\nasked\n", "it did not end within 2 s")


async def test_a_command_that_ignores_sigterm_is_killed_with_all_its_group(tmp_path: Path) -> None:
    """The whole group ignores it, and none of it is there afterwards."""
    script = f"""
        trap "" TERM
        sleep 600 & echo $! >{tmp_path}/child
        echo $$ >{tmp_path}/self
        while :; do sleep 600; done
    """
    ended = await run_command(shell(script), timeout_s=2)
    assert ended.status is None
    for name in ("self", "child"):
        pid = int((tmp_path / name).read_text())
        await until(lambda pid=pid: not alive(pid), f"{name} lives")


async def test_a_child_that_keeps_the_output_open_holds_nobody_up(tmp_path: Path) -> None:
    """The command's own end counts; what it left in its group is killed."""
    script = f"sleep 600 & echo $! >{tmp_path}/child; echo done"
    begun_s = time.monotonic()
    ended = await run_command(shell(script), timeout_s=LONG_S)
    assert ended == Ended(0, "done\n")
    assert time.monotonic() - begun_s < SOON_S
    child = int((tmp_path / "child").read_text())
    await until(lambda: not alive(child), "the child lives")


async def test_a_child_that_left_the_group_holds_nobody_up(tmp_path: Path) -> None:
    """It is out of reach, but neither its output nor its life is waited for."""
    leave = f"setsid sh -c 'echo $$ >{tmp_path}/child; exec sleep 600' &"
    script = f"{leave} until [ -s {tmp_path}/child ]; do sleep 0.01; done"
    ended = await run_command(shell(script), timeout_s=LONG_S)
    assert ended.status == 0
    child = int((tmp_path / "child").read_text())
    assert alive(child)
    os.kill(child, signal.SIGKILL)


async def test_output_without_end_is_read_and_dropped() -> None:
    """A gigabyte goes by, the last of it is kept, and the loop turns all the while."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    script = "head -c 1000000000 /dev/zero | tr '\\0' x; echo; echo the end"
    ended = await run_command(shell(script), timeout_s=5 * LONG_S, output_limit=1000)
    turning.cancel()
    assert ended.status == 0
    assert len(ended.output) == 1000
    assert ended.output.endswith("x\nthe end\n")
    assert turns > 1000


async def test_all_output_of_a_command_that_has_ended_is_read() -> None:
    """Also what was still in the pipe."""
    for _ in range(20):
        ended = await run_command(shell("head -c 60000 /dev/zero"), timeout_s=LONG_S)
        assert len(ended.output) == 60000


async def test_a_long_feed_goes_to_whoever_reads_it_and_to_nobody_else() -> None:
    """More than a pipe holds; and a command that closes its input is no trouble."""
    feed = "x" * 1_000_000
    ended = await run_command(["/usr/bin/wc", "-c"], timeout_s=LONG_S, feed=feed)
    assert ended.output == "1000000\n"
    assert await run_command(shell("exec <&-; sleep 0.1"), timeout_s=LONG_S, feed=feed) == Ended(0)
    assert await run_command(["/bin/true"], timeout_s=LONG_S, feed=feed) == Ended(0)


async def test_cancelling_ends_the_command(tmp_path: Path) -> None:
    """Whoever no longer wants the outcome does not leave the command behind."""
    trap = f'trap "echo asked >{tmp_path}/asked; exit" TERM'
    script = f"{trap}; sleep 600 & echo $$ >{tmp_path}/self; wait"
    task = asyncio.create_task(run_command(shell(script), timeout_s=LONG_S))
    await until((tmp_path / "self").exists, "it runs")
    await until((tmp_path / "self").read_text, "it has said who it is")
    pid = int((tmp_path / "self").read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(pid)
    assert (tmp_path / "asked").exists()


async def test_cancelling_waits_for_the_end_of_a_stubborn_command(tmp_path: Path) -> None:
    """It is asked, then killed, and only then is the cancellation over."""
    script = f'trap "" TERM; echo $$ >{tmp_path}/self; while :; do sleep 600; done'
    task = asyncio.create_task(run_command(shell(script), timeout_s=LONG_S))
    await until((tmp_path / "self").exists, "it runs")
    await until((tmp_path / "self").read_text, "it has said who it is")
    pid = int((tmp_path / "self").read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(pid)


async def test_cancelling_waits_for_a_start_that_is_not_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command runs already, and the thread that started it does not know its number yet."""

    class Late(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            time.sleep(0.3)

    monkeypatch.setattr(subprocess, "Popen", Late)
    script = f"echo $$ >{tmp_path}/self; exec sleep 600"
    task = asyncio.create_task(run_command(shell(script), timeout_s=LONG_S))
    await until(lambda: (tmp_path / "self").exists() and (tmp_path / "self").read_text(), "it runs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(int((tmp_path / "self").read_text()))


async def test_cancelling_twice_kills_at_once(tmp_path: Path) -> None:
    """A daemon that is told to end does not wait for a stubborn command."""
    script = f'trap "" TERM; echo $$ >{tmp_path}/self; while :; do sleep 600; done'
    task = asyncio.create_task(run_command(shell(script), timeout_s=LONG_S))
    await until(lambda: (tmp_path / "self").exists() and (tmp_path / "self").read_text(), "it runs")
    pid = int((tmp_path / "self").read_text())
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not alive(pid), "it lives")


def test_the_end_of_the_loop_ends_the_commands(tmp_path: Path) -> None:
    """What runs when the daemon ends is ended with it."""

    async def daemon() -> None:
        script = f'trap "" TERM; echo $$ >{tmp_path}/self; while :; do sleep 600; done'
        task = asyncio.create_task(run_command(shell(script), timeout_s=LONG_S))
        await until((tmp_path / "self").exists, "it runs")
        await until((tmp_path / "self").read_text, "it has said who it is")
        assert not task.done()

    asyncio.run(daemon())
    pid = int((tmp_path / "self").read_text())
    begun_s = time.monotonic()
    while alive(pid):
        assert time.monotonic() - begun_s < SOON_S
        time.sleep(0.01)


async def test_a_program_that_hangs_while_it_is_started_holds_nobody_up(tmp_path: Path) -> None:
    """As on a disk that no longer answers: the loop turns, the limit holds, and so many is enough.

    A write lease on the program makes the kernel hold up its exec until we give the lease back.
    """
    program = tmp_path / "program"
    shutil.copy("/bin/true", program)
    with program.open("r+b") as file:
        before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # the kernel's wish to have it back
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        running = [run_command([str(program)], timeout_s=0.3) for _ in range(commands.STUCK_LIMIT)]
        for ended in await asyncio.gather(*running):
            assert ended == Ended(None, "", "it did not end within 0.3 s")
        assert len(Child.stuck) == commands.STUCK_LIMIT
        refused = await run_command(["/bin/true"], timeout_s=LONG_S)
        assert refused.why == "cannot start it: 16 others were killed and do not end"
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        await until(lambda: not Child.stuck, "they have ended")
        signal.signal(signal.SIGIO, before)
    assert await run_command(["/bin/true"], timeout_s=LONG_S) == Ended(0)


async def test_an_end_that_nobody_knows_is_no_success() -> None:
    """With SIGCHLD ignored the kernel forgets the status at once; Python makes a 0 of that."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        ended = await run_command(shell("exit 1"), timeout_s=LONG_S)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert ended == Ended(None, "", "nobody knows how it ended")


async def test_a_command_inherits_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor, no ignored signal, no way to speak to systemd in our name."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("PLUGIN_OPTION", "kept")
    shell_ignores = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)  # some, in a background job
    before = {number: signal.signal(number, signal.SIG_DFL) for number in shell_ignores}
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    script = """
        ls /proc/self/fd | tr '\\n' ' '
        echo "$NOTIFY_SOCKET,$PLUGIN_OPTION,$PWD"
        grep SigIgn /proc/self/status
    """
    ended = await run_command(shell(script), timeout_s=LONG_S)
    for number, handler in before.items():
        signal.signal(number, handler)
    os.close(reading)
    os.close(writing)
    assert ended.output == "0 1 2 3 ,kept,/\nSigIgn:\t0000000000000000\n"  # 3 is the directory


async def test_a_command_is_not_protected_from_the_kernels_search_for_memory() -> None:
    """The monitor is, and a plugin that eats the memory must be found before everybody else."""
    before = protection("100")
    try:
        script = "until [ $(cat /proc/self/oom_score_adj) = 0 ]; do sleep 0.01; done"
        assert await run_command(shell(script), timeout_s=LONG_S) == Ended(0)
    finally:
        protection(before)


async def test_many_commands_run_side_by_side() -> None:
    """A hundred at once are a hundred values."""
    running = [run_command(shell(f"exit {number}"), timeout_s=LONG_S) for number in range(100)]
    assert [ended.status for ended in await asyncio.gather(*running)] == list(range(100))


def test_the_words_of_others_are_fit_for_a_line() -> None:
    """Neither escape sequences nor lengths of theirs reach the log."""
    assert plain("a\x1b[31mb\tc\u202e") == "a?[31mb c?"
    assert len(plain("x" * 1000)) == commands.WHY_LIMIT
    assert Ended(1).first_line == Ended(1, "\n\n").last_line == ""
