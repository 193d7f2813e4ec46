"""What the monitor leaves behind, and what it does when it cannot: files, log, journal, commands.

A disk, a journal or a reader that misbehaves costs lines, never a decision nor half a word.
"""

import json
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab.hosts import wait_until
from tests.lab.pair import APP, CONFIG, EVENTS, LOG, MONITOR, STATE, STATUS, Pair, Standby

pytestmark = pytest.mark.timeout(180)
MakePair = Callable[..., Pair]

T, V = 1.0, 1.5  # of the quick profile: the interval, and from first silence to the verdict
SLACK_S = 1.0
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[(INFO|WARNING|ERROR|CRITICAL)\] (.*)")
HISTORY = "/var/lib/failover-monitor"
ROTATION = "/etc/logrotate.d/failover-monitor"
JOURNAL, KEPT = "/var/log/journal", "/run/journal-kept"
DISKS = "/run/disks"
JOURNALD = (
    "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
    "systemd-journald-audit.socket",
    "systemd-journald.service",
)
FLOOD = """
import socket
queue = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
queue.setblocking(False)
queue.connect("/run/systemd/journal/socket")
sent = 0
try:
    while True:
        queue.send(b"MESSAGE=flood")
        sent += 1
except BlockingIOError:
    print(sent)
"""
TRANSITION = "fb93f77cceaa44ad9627940f7bc52481"
# A failover in half a second, to have many of them.
FAST: dict[str, Any] = {"ping_interval": 0.2, "retry_interval": 0.1, "ping_timeout": 0.2}


def quick_takeover(made: Pair) -> None:
    """The primary dies: the takeover comes within the usual time."""
    assert made.takeover() <= T + V + SLACK_S


def quick_failback(made: Pair) -> None:
    """The primary returns: the service goes back within the usual time."""
    assert made.failback() <= T + SLACK_S
    wait_until(lambda: made.standby.status()["phase"] == "standby", 3, "the phase is standby")


def journal_says(standby: Standby, words: str, within: float = 5) -> None:
    wait_until(lambda: words in standby.journal(MONITOR), within, f"the journal says {words!r}")


def reload(standby: Standby) -> None:
    """Make the monitor say one line."""
    standby.systemctl("reload", MONITOR)


def has_status_line(standby: Standby, line: str) -> None:
    """Wait until `systemctl status` shows this line."""
    shown = f'Status: "{line}"'
    wait_until(
        lambda: shown in standby.systemctl("status", "--no-pager", MONITOR), 3, f"it shows {shown}"
    )


def asked(standby: Standby) -> list[str]:
    return [event["what"] for event in standby.events() if event["kind"] == "asked"]


# A journal, a disk, a log that fails.


def test_a_takeover_does_not_wait_for_a_frozen_journald(make_pair: MakePair) -> None:
    """The journal stands still: takeover and failback at the usual time, and the log has them."""
    made = make_pair()
    standby = made.standby
    standby.signal("systemd-journald.service", signal.SIGSTOP)
    quick_takeover(made)
    quick_failback(made)
    standby.wait_for_log("failback -> standby", 2)
    wait_until(lambda: len(asked(standby)) == 2, 2, "the history has both")
    assert asked(standby) == ["start app.service", "stop app.service"]
    standby.signal("systemd-journald.service", signal.SIGCONT)
    reload(standby)
    journal_says(standby, "was read again")


def test_a_takeover_does_not_wait_for_a_full_journal_queue(make_pair: MakePair) -> None:
    """The journal has stood still until its queue is full: the takeover is not later for it."""
    made = make_pair()
    standby = made.standby
    standby.signal("systemd-journald.service", signal.SIGSTOP)
    assert int(standby.run("python3", "-c", FLOOD).stdout) > 0
    quick_takeover(made)
    standby.wait_for_log("takeover -> active", 3)
    standby.signal("systemd-journald.service", signal.SIGCONT)
    quick_failback(made)
    journal_says(standby, "failback -> standby")


def test_a_takeover_does_not_need_journald(make_pair: MakePair) -> None:
    """The journal is stopped: takeover and failback at the usual time, and the log has them."""
    made = make_pair()
    standby = made.standby
    old = standby.pid_of(MONITOR)
    standby.systemctl("stop", *JOURNALD, check=False)
    assert not standby.running("systemd-journald.service")
    quick_takeover(made)
    standby.wait_for_log("takeover -> active", 2)
    quick_failback(made)
    assert asked(standby) == ["start app.service", "stop app.service"]
    assert not standby.running("systemd-journald.service")
    assert standby.pid_of(MONITOR) == old
    standby.systemctl("start", *JOURNALD, check=False)
    reload(standby)
    journal_says(standby, "was read again")


def mounted(made: Pair, *places: str) -> Standby:
    """Let these directories be small disks of their own before the monitor starts.

    The journal stays on the disk it was on: it is where the test reads what the log cannot say.
    """
    standby = made.standby
    standby.up()
    standby.run("mkdir", "-p", KEPT, *places)
    standby.run("mount", "--bind", JOURNAL, KEPT)
    for place in places:
        disk = f"{DISKS}{place}"
        standby.run("mkdir", "-p", disk)
        standby.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "tmpfs", disk)
        standby.run("mount", "--bind", disk, place)
    standby.run("mkdir", "-p", JOURNAL)
    standby.run("mount", "--bind", KEPT, JOURNAL)
    return standby


def fill(standby: Standby, *paths: str) -> None:
    """Append to these files until the disk is full: the last page of a log has room, too."""
    for path in paths:
        # One by one, as only the byte that does not fit any more makes it an error.
        script = f"yes '' | dd of={path} bs=1k iflag=fullblock oflag=append conv=notrunc; "
        script += f"yes '' | dd of={path} bs=1 oflag=append conv=notrunc"
        assert "No space left" in standby.run("sh", "-c", script, check=False).stderr


def test_a_full_disk_delays_no_takeover(make_pair: MakePair) -> None:
    """No room for log and history: the usual times, said in the journal; and lines come again."""
    made = make_pair(watch=False)
    places = ("/var/log", HISTORY)
    standby = mounted(made, *places)
    standby.watch()
    standby.wait_for_log("unknown -> standby", 2)
    for place, file in ((places[0], LOG), (places[1], EVENTS)):
        fill(standby, f"{place}/ballast", file)
    quick_takeover(made)
    quick_failback(made)
    for path in (LOG, EVENTS, f"{HISTORY}/intent.json"):
        journal_says(standby, f"cannot write {path}: No space left")
    journal_says(standby, "failback -> standby")
    assert standby.journal(MONITOR).count(f"cannot write {LOG}") == 1
    assert "takeover" not in standby.log() + standby.read(EVENTS)
    assert standby.state() == "active_alive"
    for place in places:
        standby.run("rm", f"{place}/ballast")
    quick_takeover(made)
    standby.wait_for_log("takeover -> active", 2)
    standby.wait_for_log(f"{LOG} can be written again", 2)
    wait_until(lambda: '"active"' in standby.read(f"{HISTORY}/intent.json"), 2, "intent is kept")
    history = standby.read(EVENTS)
    assert "takeover -> active" in history
    assert all(json.loads(line) for line in history.splitlines() if line)


def test_killed_with_a_full_run_it_still_knows_what_it_started(make_pair: MakePair) -> None:
    """The copy of its intent in /run was left behind: the one on the disk is newer."""
    made = make_pair(watch=False)
    place = "/run/failover-monitor"
    standby = mounted(made, place)
    standby.watch()
    standby.wait_for_log("unknown -> standby", 2)
    wait_until(lambda: '"standby"' in standby.read(f"{place}/intent.json"), 2, "it is written")
    fill(standby, f"{place}/ballast")
    quick_takeover(made)
    journal_says(standby, f"cannot write {place}/intent.json: No space left")
    wait_until(lambda: '"active"' in standby.read(f"{HISTORY}/intent.json"), 2, "intent is kept")
    assert '"standby"' in standby.read(f"{place}/intent.json")
    made.primary.heal()
    standby.signal(MONITOR)
    standby.wait_for(APP, "inactive", 20)


def test_a_read_only_log_delays_no_takeover(make_pair: MakePair) -> None:
    """/var/log cannot be written: the usual times, said in the journal; and lines come again."""
    made = make_pair(watch=False)
    standby = mounted(made, "/var/log")
    # Not its place in the tree: the monitor's own view of that would stay as it began.
    standby.run("mount", "-o", "remount,ro", f"{DISKS}/var/log")
    standby.watch()
    quick_takeover(made)
    quick_failback(made)
    journal_says(standby, f"cannot write {LOG}: Read-only file system")
    journal_says(standby, "failback -> standby")
    assert asked(standby) == ["start app.service", "stop app.service"]
    assert standby.log() == ""
    standby.run("mount", "-o", "remount,rw", f"{DISKS}/var/log")
    quick_takeover(made)
    standby.wait_for_log("takeover -> active", 2)


def test_the_log_goes_on_after_rotation_and_deletion(make_pair: MakePair) -> None:
    """Rotated by the shipped rules, then deleted: each time the next line begins a new file."""
    standby = make_pair().standby
    standby.wait_for_log("unknown -> standby", 2)
    standby.run("logrotate", "-f", ROTATION)
    assert "unknown -> standby" in standby.read(f"{LOG}.1")
    reload(standby)
    standby.wait_for_log("was read again", 10)
    assert standby.path(LOG).stat().st_mode & 0o777 == 0o644
    assert "was read again" not in standby.read(f"{LOG}.1")

    standby.run("rm", LOG)
    reload(standby)
    standby.wait_for_log("was read again", 10)
    assert len(standby.log().splitlines()) == 1
    assert standby.path(LOG).stat().st_mode & 0o777 == 0o644


# What others read.


class Reader(threading.Thread):
    """Reads a small file as often as it can, and keeps what was not whole."""

    def __init__(self, path: Path, whole: Callable[[str], object]) -> None:
        super().__init__()
        self.reads, self.torn = 0, list[str]()
        self._path, self._whole, self._over = path, whole, threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.001):
            text = self._path.read_text()
            self.reads += 1
            try:
                if self._whole(text):
                    continue
            except ValueError:
                pass
            self.torn.append(text)

    def end(self) -> None:
        self._over.set()
        self.join()


def test_no_reader_sees_half_a_file(make_pair: MakePair) -> None:
    """State word and status are whole at every moment of many transitions.

    Who has the old file open keeps all of it: a new one takes its place, nothing is overwritten.
    """
    made = make_pair(**FAST)
    standby = made.standby
    words = {"unknown\n", "active_alive\n", "active_dead\n"}
    readers = [
        Reader(standby.path(STATE), lambda text: text in words),
        Reader(standby.path(STATUS), lambda text: text.endswith("}\n") and json.loads(text)),
    ]
    with standby.path(STATE).open() as word, standby.path(STATUS).open() as status:
        old_word, old_status = word.read(), status.read()
        for reader in readers:
            reader.start()
        try:
            for _ in range(5):
                made.takeover()
                made.failback()
        finally:
            for reader in readers:
                reader.end()
        word.seek(0)
        status.seek(0)
        assert (word.read(), status.read()) == (old_word, old_status)
    assert standby.status()["at_s"] != json.loads(old_status)["at_s"]
    for reader in readers:
        assert reader.torn == []
        assert reader.reads > 100


def test_files_have_the_modes_that_readers_need(make_pair: MakePair) -> None:
    """Word, status and log are root's and readable by all; config.json keeps the mode it had."""
    made = make_pair(watch=False)
    standby = made.standby
    standby.up()
    standby.run("chmod", "0600", CONFIG)
    standby.watch()
    made.takeover()
    reload(standby)
    standby.wait_for_log("was read again", 10)
    for path, mode in ((STATE, 0o644), (STATUS, 0o644), (LOG, 0o644), (CONFIG, 0o600)):
        # The host's own stat: its user ids and ours are the same, its links are not.
        shown = standby.run("stat", "-L", "-c", "%a %U %G", path).stdout.strip()
        assert shown == f"{mode:o} root root", path
    for place in ("/run/failover-monitor", HISTORY):
        kept = standby.run("stat", "-c", "%a", f"{place}/config.last-good.json").stdout.strip()
        assert kept == "640"  # no more readable than the configuration it came from at installation


def test_status_says_by_its_exit_code_whether_it_can_be_trusted(make_pair: MakePair) -> None:
    """0 while the monitor runs, 3 when it has stopped writing or was stopped; `--json`, too."""
    standby = make_pair().standby

    def status(*words: str) -> tuple[int, str]:
        done = standby.run("failover-monitor", "status", *words, check=False)
        return done.returncode, done.stdout

    code, text = status()
    assert code == 0
    assert "phase       standby" in text
    assert "attention" not in text
    code, text = status("--json")
    shown = json.loads(text)
    assert code == 0
    assert (shown["phase"], shown["verdict"], shown["running"]) == ("standby", "up", True)
    assert shown["age_s"] < 16

    standby.signal(MONITOR, signal.SIGSTOP)
    frozen = standby.status()
    standby.write(STATUS, json.dumps(frozen | {"at_s": frozen["at_s"] - 46}))
    code, text = status()
    assert code == 3
    assert "STALE" in text
    assert status("--json")[0] == 3
    standby.signal(MONITOR, signal.SIGCONT)
    wait_until(lambda: status()[0] == 0, 18, "it is fresh again")

    standby.systemctl("stop", MONITOR)
    code, text = status()
    assert code == 3
    assert "NOT RUNNING" in text
    code, text = status("--json")
    assert (code, json.loads(text)["running"]) == (3, False)
    standby.run("rm", STATUS)
    assert status()[0] == 3


def test_failback_by_command_waits_for_the_operator(make_pair: MakePair) -> None:
    """`manual`: services stay when the primary returns, and go back on `failback`, not before."""
    made = make_pair(failback="manual")
    standby = made.standby

    def failback() -> tuple[int, str]:
        done = standby.run("failover-monitor", "failback", check=False)
        return done.returncode, done.stdout + done.stderr

    assert failback() == (1, "cannot fail back: we do not serve, the phase is standby\n")
    made.takeover()
    wait_until(lambda: standby.status()["phase"] == "active", 3, "the phase is active")
    assert failback() == (1, "cannot fail back: the primary does not answer\n")
    made.primary.heal()
    standby.wait_for_state("active_alive", 3)
    time.sleep(T + V)
    assert standby.status()["phase"] == "active"
    assert asked(standby) == ["start app.service"]
    stamp = time.monotonic()
    assert failback()[0] == 0
    standby.wait_for(APP, "inactive", 3)
    assert standby.inactive_since(APP) - stamp <= T + SLACK_S
    wait_until(lambda: standby.status()["phase"] == "standby", 3, "the phase is standby")
    # The wish is used up: the next takeover stays until it is asked for again.
    made.takeover()
    made.primary.heal()
    standby.wait_for_state("active_alive", 3)
    time.sleep(T + V)
    assert standby.running(APP)
    standby.systemctl("stop", MONITOR)
    assert failback()[0] == 3


def test_journal_log_and_history_tell_the_same(make_pair: MakePair) -> None:
    """Each sentence stands in all three; transitions are found in the journal by MESSAGE_ID."""
    made = make_pair()
    standby = made.standby
    has_status_line(standby, "standby: the primary answers; app.service stopped")
    made.takeover()
    has_status_line(standby, "active: the primary is down; app.service running")
    made.failback()
    standby.wait_for_log("failback -> standby", 3)
    journal_says(standby, "failback -> standby")

    words = ("journalctl", "-b", "-o", "json", "--no-pager", "-u", MONITOR)
    found = standby.run(*words, f"MESSAGE_ID={TRANSITION}").stdout.splitlines()
    moves = [json.loads(line) for line in found]
    assert [(move["FROM"], move["TO"]) for move in moves] == [
        ("unknown", "standby"),
        ("standby", "takeover"),
        ("takeover", "active"),
        ("active", "failback"),
        ("failback", "standby"),
    ]
    takeover = moves[1]
    assert takeover["MESSAGE"] == "standby -> takeover: the primary stopped answering"
    assert takeover["BECAUSE"] == "the primary stopped answering"
    assert "3 checks in a row failed" in takeover["EVIDENCE"]
    assert takeover["PRIORITY"] == "4"
    assert takeover["_SYSTEMD_UNIT"] == MONITOR

    told = [json.loads(line) for line in standby.run(*words).stdout.splitlines()]
    in_journal = [entry["MESSAGE"] for entry in told if entry["_COMM"] != "systemd"]
    in_log = [LINE.fullmatch(line) for line in standby.log().splitlines()]
    assert [match and match[2] for match in in_log] == in_journal
    assert [event["what"] for event in standby.events()] == in_journal
    assert len(in_journal) > 10


# What it costs, and what it may do.


def test_the_sandbox_is_tight(make_pair: MakePair) -> None:
    """The unit's exposure, as systemd itself judges it, is 2.0 or better."""
    standby = make_pair().standby
    said = standby.run("systemd-analyze", "security", "--no-pager", MONITOR).stdout
    exposure = float(re.findall(r"Overall exposure level for \S+: ([\d.]+)", said)[0])
    print(f"exposure {exposure}")
    assert exposure <= 2.0


def test_nothing_leaks(make_pair: MakePair) -> None:
    """After twenty failovers and twenty reloads it holds as many files and threads as before."""
    made = make_pair(**FAST)
    standby = made.standby
    addresses = [made.primary.address, [made.primary.address, made.primary.address6]]

    def held() -> tuple[int, int]:
        process = Path(f"/proc/{pid}")
        files = len(list((process / "fd").iterdir()))
        files -= standby.exists(f"{HISTORY}/samples.jsonl")  # opened after a minute, and kept
        return files, len(list((process / "task").iterdir()))

    def once(number: int) -> None:
        made.takeover()
        made.failback()
        # Other addresses are other sockets; every second time the first ones are back.
        standby.configure(active_ip=addresses[(number + 1) % 2])
        reload(standby)
        wait_until(
            lambda: len(standby.status()["primary"]) == 2 - number % 2, 3, "the addresses changed"
        )

    pid = standby.pid_of(MONITOR)
    once(0)
    once(1)
    before = held()
    for number in range(2, 20):
        once(number)
    wait_until(lambda: held() == before, 5, f"it holds {before} files and threads as before")
    assert standby.pid_of(MONITOR) == pid
    print(f"{before[0]} files, {before[1]} threads")
