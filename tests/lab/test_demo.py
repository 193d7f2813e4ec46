"""The demo keeps its promises: it ends well, and Ctrl-C leaves nothing of it."""

import os
import pty
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.lab import rootfs
from tests.lab.demo import Outcome, Prediction, bar, is_echo_reply
from tests.lab.enter import RUN_VARIABLE, hierarchies
from tests.lab.hosts import wait_until

DEMO = str(rootfs.CHECKOUT / "tests/demo")
SHIPPED = Prediction(
    takeover_min_s=4.5, takeover_mean_s=6.0, takeover_max_s=7.5, failback_max_s=0.5
)


@pytest.mark.timeout(120)
def test_the_demo_shows_a_takeover_and_a_failback_as_predicted(_machine_can: None) -> None:
    """From bare hosts to the summary; without a terminal it prints plain lines."""
    done = subprocess.run(
        [DEMO, "--fast"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    assert "\033" not in said
    assert max(map(len, said.splitlines())) < 80
    assert re.findall(r"^  \[(\d)/9\]", said, re.MULTILINE) == list("123456789")
    for words in (
        "crash to verdict  4.5 s to 7.5 s, mean 6 s",
        "standby: active_alive (phase standby), app.service stopped",
        "primary: no power, app.service stopped",
        "log: check failed: check 3 of 3 failed",
        "log: standby -> takeover: the primary stopped answering",
        "standby: active_dead (phase active), app.service running",
        "log: active -> failback: the primary is back",
        "primary: up, app.service running",
        "standby: unknown (phase unknown), app.service stopped",
        "All as predicted",
    ):
        assert words in said
    assert re.search(r"^takeover +4\.5 - 6\.0 - 7\.5 s +[4-7]\.\d\d s ", said, re.MULTILINE)
    assert re.search(r"^failback +within 0\.5 s +0\.\d\d s ", said, re.MULTILINE)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("moment", ["Booting", "[4/9]", "of 3 failed"])
def test_ctrl_c_leaves_nothing_of_the_demo(_machine_can: None, moment: str) -> None:
    """While the hosts boot, install.sh works, or the standby suspects: all of it is gone."""
    master, terminal = pty.openpty()
    # A session of its own whose terminal this is: what is typed there reaches all of it.
    demo = subprocess.Popen(
        ["setsid", "--ctty", DEMO, "--fast"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(terminal)
    try:
        said = _read_until(master, moment)
        family = _descendants(demo.pid)
        assert len(family) >= 2, said
        os.write(master, b"\x03")
        said = _read_until(master, "the hosts are gone")
        assert demo.wait(15) == 130, said
    finally:
        demo.kill()
        demo.wait()
        os.close(master)
    wait_until(lambda: not _living(family), 5, "every process of the demo is gone")
    run = f"{os.environ[RUN_VARIABLE]}.{demo.pid}"
    assert not any((top / "lab" / run).exists() for top in hierarchies())


def test_the_demo_refuses_what_it_does_not_know() -> None:
    """A misspelt option is told before anything is built."""
    done = subprocess.run([DEMO, "--fats"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_only_what_was_predicted_counts_as_well() -> None:
    """Too early, too late, back too late, or alone: each is a fault with its reason."""
    good = Outcome(takeover_s=7.7, failback_s=0.7, started_alone=False)
    assert good.faults(SHIPPED) == []
    bad = (
        (Outcome(takeover_s=4.4, failback_s=0.4, started_alone=False), "before 4.5 s"),
        (Outcome(takeover_s=7.9, failback_s=0.4, started_alone=False), "later than 7.8 s"),
        (Outcome(takeover_s=6.0, failback_s=0.9, started_alone=False), "later than 0.8 s"),
        (Outcome(takeover_s=6.0, failback_s=0.4, started_alone=True), "its own cable"),
    )
    for outcome, reason in bad:
        (fault,) = outcome.faults(SHIPPED)
        assert reason in fault


def test_the_ruler_shows_the_predicted_window() -> None:
    """Marks stay readable under the time that has passed, which ends with the ruler."""
    empty, full = bar(SHIPPED, 0), bar(SHIPPED, 60)
    assert re.fullmatch(r"\.+\[\.+\|\.+\]\.+", empty)
    assert re.fullmatch(r">+\[>+\|>+\]>+", full)
    assert len(empty) == len(full) < 70


def test_an_echo_reply_is_told_from_other_frames() -> None:
    """Only an IPv4 frame with ICMP type 0; a short frame is none."""
    ethernet = bytes(12) + b"\x08\x00"
    header = bytes([0x45]) + bytes(8) + b"\x01" + bytes(10)
    assert is_echo_reply(ethernet + header + b"\x00\x00")
    assert not is_echo_reply(ethernet + header + b"\x08\x00")
    assert not is_echo_reply(bytes(12) + b"\x08\x06" + header + b"\x00\x00")
    assert not is_echo_reply(ethernet + header)
    assert not is_echo_reply(ethernet)


def _read_until(master: int, words: str, within: float = 40) -> str:
    """What the terminal shows, up to these words."""
    said, end_s = "", time.monotonic() + within
    os.set_blocking(master, False)
    while words not in said:
        assert time.monotonic() < end_s, said
        try:
            said += os.read(master, 65536).decode(errors="replace")
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:  # the demo has ended
            raise AssertionError(said) from None
    return said


def _descendants(pid: int) -> dict[int, str]:
    """A process and all below it, as ids with the moment each was started."""
    family = {pid: _started(pid)}
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return family
    for child in children:
        family |= _descendants(int(child))
    return family


def _living(family: dict[int, str]) -> list[int]:
    return [pid for pid, started in family.items() if started and _started(pid) == started]


def _started(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]
