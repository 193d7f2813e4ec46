"""The door to systemd: what is read from units, and that nothing behind it can hold us up."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from failover_monitor import bus, systemd
from failover_monitor.cgroups import Cgroups
from failover_monitor.journal import JournalHandler, notify
from failover_monitor.model import Effect, Unit, UnitSeen, Verb
from failover_monitor.systemd import Systemd, boot_id, booted_s, boottime_s
from failover_monitor.units import blocks_of_show, reading, unit_seen

START, STOP, KILL = (Effect(verb, "app.service") for verb in (Verb.START, Verb.STOP, Verb.KILL))

INACTIVE = {
    "LoadState": "loaded",
    "ActiveState": "inactive",
    "Result": "success",
    "Type": "exec",
    "RemainAfterExit": "no",
    "ExecMainCode": "0",
    "InactiveEnterTimestampMonotonic": "5000000",
    "ConditionResult": "yes",
    "ConditionTimestampMonotonic": "4000000",
    "AssertResult": "yes",
    "AssertTimestampMonotonic": "4000000",
}
ONCE = {"Type": "oneshot", "ExecMainCode": "1"}


@pytest.mark.parametrize(
    ("shown", "state", "why"),
    [
        ({"ActiveState": "active"}, Unit.RUNNING, ""),
        ({"ActiveState": "reloading"}, Unit.RUNNING, ""),
        ({"ActiveState": "refreshing"}, Unit.RUNNING, ""),
        ({"ActiveState": "active", "LoadState": "masked"}, Unit.RUNNING, ""),
        ({"ActiveState": "active", "JobType": "reload"}, Unit.RUNNING, ""),
        ({"ActiveState": "active", "JobType": "start"}, Unit.RUNNING, ""),
        ({"ActiveState": "active", "JobType": "restart"}, Unit.STARTING, ""),
        ({"ActiveState": "active", "JobType": "stop"}, Unit.STOPPING, ""),
        ({"ActiveState": "activating"}, Unit.STARTING, ""),
        ({"ActiveState": "activating", "JobType": "stop"}, Unit.STOPPING, ""),
        ({"ActiveState": "deactivating"}, Unit.STOPPING, ""),
        ({"ActiveState": "deactivating", "JobType": "restart"}, Unit.STARTING, ""),
        ({"ActiveState": "inactive", "JobType": "start"}, Unit.STARTING, ""),
        ({"ActiveState": "failed", "JobType": "start"}, Unit.STARTING, ""),
        ({"ActiveState": "failed", "Result": "exit-code"}, Unit.FAILED, "exit-code"),
        ({"ActiveState": "failed", "LoadState": "masked"}, Unit.FAILED, "masked"),
        ({"ActiveState": "maintenance"}, Unit.UNKNOWN, "maintenance"),
        ({}, Unit.UNKNOWN, ""),
        (INACTIVE, Unit.STOPPED, ""),
        (INACTIVE | {"LoadState": "masked"}, Unit.FAILED, "masked"),
        (INACTIVE | {"LoadState": "not-found"}, Unit.FAILED, "not-found"),
        (INACTIVE | {"LoadState": "bad-setting"}, Unit.FAILED, "bad-setting"),
        (INACTIVE | {"Result": "exec-condition"}, Unit.FAILED, "condition not met"),
        (INACTIVE | ONCE, Unit.FINISHED, ""),
        (INACTIVE | ONCE | {"RemainAfterExit": "yes"}, Unit.STOPPED, ""),
        (INACTIVE | ONCE | {"ExecMainCode": "2"}, Unit.STOPPED, ""),  # it was killed
        (INACTIVE | ONCE | {"ExecMainCode": "0"}, Unit.STOPPED, ""),  # it never ran
        (INACTIVE | {"ExecMainCode": "1"}, Unit.STOPPED, ""),  # no oneshot
    ],
)
def test_every_state_of_a_unit_has_our_word(shown: dict[str, str], state: Unit, why: str) -> None:
    """Whatever systemd shows is one of our seven words, with systemd's own reason."""
    seen = unit_seen("app.service", shown, 0.0)
    assert (seen.state, seen.why) == (state, why)


@pytest.mark.parametrize(
    ("what", "why"), [("Condition", "condition not met"), ("Assert", "assertion not met")]
)
def test_a_refused_start_is_a_failure_until_the_unit_has_run_again(what: str, why: str) -> None:
    """An unmet condition counts when it is newer than the unit's last run, and only then."""
    refused = INACTIVE | {f"{what}Result": "no"}
    stamp = f"{what}TimestampMonotonic"
    assert reading(refused | {stamp: "6000000"}) == (Unit.FAILED, 6000000, why)
    assert reading(refused | {stamp: "4000000"})[0] is Unit.STOPPED
    never_tried = refused | {stamp: "0", "InactiveEnterTimestampMonotonic": "0"}
    assert reading(never_tried) == (Unit.STOPPED, 0, "")


def test_moments_are_told_on_the_clock_that_counts_suspend() -> None:
    """Systemd's microseconds of CLOCK_MONOTONIC become seconds of CLOCK_BOOTTIME; 0 stays 0."""
    running = {"ActiveState": "active", "ActiveEnterTimestampMonotonic": "2500000"}
    assert unit_seen("app.service", running, 100.0).since_s == 102.5
    assert unit_seen("app.service", {"ActiveState": "active"}, 100.0).since_s == 0.0


def test_systemctl_shows_a_queued_start_though_not_its_kind() -> None:
    """A job on a resting unit is a start; on a running one it is not known, so the unit runs."""
    text = "ActiveState=inactive\nJob=7\n\nActiveState=active\nJob=8\n\nActiveState=failed\nJob=\n"
    states = [reading(block)[0] for block in blocks_of_show(text)]
    assert states == [Unit.STARTING, Unit.RUNNING, Unit.FAILED]


def test_the_host_booted_before_this_process_and_has_a_boot_id() -> None:
    """PID 1 started in the past, and the boot has a name."""
    assert 0.0 <= booted_s() < boottime_s()
    kernel, _, init = boot_id().partition(" ")
    assert len(kernel) == 36
    assert float(init) == pytest.approx(booted_s(), abs=0.01)


# The door without D-Bus, before a systemctl of our own making.

SYSTEMCTL = """#!/bin/sh
echo "$@" >> {log}
case "$*" in *show*) ;; *start*) {start} ;; *stop*) {stop} ;; esac
case "$*" in *show*) {show} ;; esac
"""
SHOW = """
for unit in app.service other.service shutdown.target rescue.target emergency.target; do
    if [ $unit = app.service ]; then state=$(cat {state}); else state=inactive; fi
    printf 'LoadState=loaded\\nActiveState=%s\\nResult=success\\n\\n' "$state"
done
"""


class Host:
    """A host whose D-Bus is gone and whose systemctl is a script."""

    def __init__(self, room: Path) -> None:
        self.room = room
        self.log = room / "asked"
        self.state = room / "state"
        self.state.write_text("inactive")
        self.systemctl()
        self.changed = asyncio.Event()
        self.home = room / "cgroup/system.slice/app.service"
        self.home.mkdir(parents=True)
        (room / "cgroup/cgroup.controllers").touch()
        (room / "init").write_text("0::/init.scope\n")
        (self.home / "cgroup.kill").touch()
        self.holds(0)
        names = ("app.service", "other.service")
        kernel = Cgroups(room / "cgroup", room / "init")
        self.door = Systemd(names, self.changed.set, cgroups=kernel)

    def holds(self, number: int) -> None:
        """Let the unit's cgroup have processes, or none (0)."""
        (self.home / "cgroup.events").write_text(f"populated {min(number, 1)}\n")

    @property
    def killed(self) -> bool:
        return (self.home / "cgroup.kill").read_text() == "1"

    def systemctl(
        self,
        start: str = "echo active > {state}",
        stop: str = "echo inactive > {state}",
        show: str = SHOW,
    ) -> None:
        script = SYSTEMCTL.format(log=self.log, start=start, stop=stop, show=show)
        new = self.room / "new"
        new.write_text(script.replace("{state}", str(self.state)))
        new.chmod(0o755)
        new.rename(self.room / "systemctl")

    def asked(self) -> list[str]:
        lines = self.log.read_text().splitlines()
        return [line.removeprefix("--no-ask-password ") for line in lines if " show " not in line]

    @property
    def app(self) -> UnitSeen:
        return self.door.seen()[0]

    def shows(self, state: Unit) -> bool:
        return self.app.state is state

    async def wait_for(self, state: Unit) -> None:
        while not self.shows(state):
            self.changed.clear()
            await self.changed.wait()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    for name in (
        *("LOOK_S", "LOOK_SOON_S", "LOOK_BLIND_S", "AGAIN_S", "RECONNECT_S"),
        *("COUNT_S", "COUNT_SOON_S"),
    ):
        monkeypatch.setattr(systemd, name, 0.02)
    return Host(tmp_path)


async def test_without_dbus_units_are_asked_and_seen_through_systemctl(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing bus costs no wish, and is complained of once."""
    watch = asyncio.create_task(host.door.run())
    await host.door.first_look(10)
    assert host.shows(Unit.STOPPED)
    host.door.ask(START)
    assert host.shows(Unit.STARTING)
    await host.wait_for(Unit.RUNNING)
    host.door.ask(STOP)
    assert host.shows(Unit.STOPPING)
    await host.wait_for(Unit.STOPPED)
    host.door.ask(Effect(Verb.START, "app.service", reset_failed=True))
    await host.wait_for(Unit.RUNNING)
    await ended(watch)
    assert host.asked() == [
        "--no-block start -- app.service",
        "--no-block stop -- app.service",
        "reset-failed -- app.service",
        "--no-block start -- app.service",
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_later_wish_ends_an_earlier_one_that_hangs(host: Host) -> None:
    """Stop wins: the start that systemd does not answer is taken back, and its process ended."""
    pipe = host.room / "pid"
    os.mkfifo(pipe)
    host.systemctl(start=f"echo $$ > {pipe}; exec sleep 60")
    watch = asyncio.create_task(host.door.run())
    await host.door.first_look(10)
    host.door.ask(START)
    pid = int(await asyncio.to_thread(pipe.read_text))
    host.door.ask(Effect(Verb.START, "app.service"))
    host.door.ask(STOP)
    assert host.shows(Unit.STOPPING)
    await host.wait_for(Unit.STOPPED)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await ended(watch)
    assert [line.split()[1] for line in host.asked()] == ["start", "stop"]


async def test_a_refused_start_shows_the_truth_and_is_told(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """What systemd refuses again and again is over, and said in its words."""
    host.systemctl(start="echo Unit app.service is masked. >&2; exit 1")
    watch = asyncio.create_task(host.door.run())
    await host.door.first_look(10)
    host.door.ask(START)
    await host.wait_for(Unit.STOPPED)
    await ended(watch)
    assert caplog.messages[-1] == "cannot start app.service: Unit app.service is masked."


async def test_a_start_that_nobody_answers_is_not_under_way_for_ever(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After its limit a lost wish makes way for what can be seen."""
    monkeypatch.setattr(systemd, "WISH_S", 0.2)
    host.systemctl(start="exec sleep 60")
    watch = asyncio.create_task(host.door.run())
    await host.door.first_look(10)
    host.door.ask(START)
    assert host.shows(Unit.STARTING)
    await host.wait_for(Unit.STOPPED)
    await ended(watch)
    assert caplog.messages[-1].startswith("cannot start app.service: no answer")


async def test_units_that_cannot_be_looked_at_are_unknown(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A systemctl that fails or hangs tells nothing: never the last thing that was seen."""
    watch = asyncio.create_task(host.door.run())
    await host.door.first_look(10)
    host.systemctl(show="exit 1")
    await host.wait_for(Unit.UNKNOWN)
    host.systemctl()
    await host.wait_for(Unit.STOPPED)
    monkeypatch.setattr(systemd, "SHOW_S", 0.1)
    host.systemctl(show="exec sleep 60")
    await host.wait_for(Unit.UNKNOWN)
    await ended(watch)


async def test_a_host_that_shuts_down_is_seen(host: Host) -> None:
    """A queued shutdown.target means that nothing may be started."""
    watch = asyncio.create_task(host.door.run())
    await host.door.first_look(10)
    assert not host.door.host_stopping
    shutdown = SHOW.replace(
        "'LoadState", '"$(test $unit = shutdown.target && echo Job=9)\\n"\'LoadState'
    )
    host.systemctl(show=shutdown)
    while not host.door.host_stopping:
        host.changed.clear()
        await host.changed.wait()
    await ended(watch)


async def test_a_silent_bus_is_given_up(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bus that takes the connection and then says nothing holds nobody up, and leaks nothing."""
    monkeypatch.setattr(bus, "ANSWER_S", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(f"{tmp_path}/no-bus")
        silent.listen()
        watch = asyncio.create_task(host.door.run())
        await host.door.first_look(10)
        before = open_files()
        host.door.ask(START)
        await host.wait_for(Unit.RUNNING)
        await ended(watch)
        assert open_files() <= before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# Where stopping is enforced.


async def test_a_unit_is_at_rest_when_its_last_process_is_gone(host: Host) -> None:
    """Strict: until then it is being stopped, and the end is told though systemd says nothing."""
    host.door.strict = True
    host.holds(1)
    watch = asyncio.create_task(host.door.run())
    await host.door.first_look(10)
    assert (host.app.state, host.app.why) == (Unit.STOPPING, "processes left")
    assert host.door.seen()[1].state is Unit.STOPPED
    host.holds(0)
    await host.wait_for(Unit.STOPPED)
    assert host.door.populated("app.service") is False
    await ended(watch)


async def test_processes_that_cannot_be_counted_are_not_gone(host: Host) -> None:
    """Whoever must know that nothing runs is not told so by a kernel that says nothing."""
    host.door.strict = True
    watch = asyncio.create_task(host.door.run())
    await host.door.first_look(10)
    assert host.shows(Unit.STOPPED)
    (host.room / "init").unlink()
    assert (host.app.state, host.app.why) == (Unit.STOPPING, "its processes cannot be counted")
    assert host.door.populated("app.service") is None
    await ended(watch)


async def test_where_nothing_is_enforced_systemds_word_is_enough(host: Host) -> None:
    """A unit may leave processes behind on purpose (KillMode=process); a reload may change that."""
    host.holds(1)
    watch = asyncio.create_task(host.door.run())
    await host.door.first_look(10)
    assert host.shows(Unit.STOPPED)
    host.door.strict = True
    await host.wait_for(Unit.STOPPING)
    host.door.strict = False
    await host.wait_for(Unit.STOPPED)
    await ended(watch)


async def test_a_kill_is_done_at_once_and_asked_of_systemd_as_well(host: Host) -> None:
    """By two ways, either of which may be out of order; the look shows what came of it."""
    host.state.write_text("active")
    watch = asyncio.create_task(host.door.run())
    await host.door.first_look(10)
    host.door.ask(KILL)
    assert host.killed
    assert host.shows(Unit.RUNNING)
    host.state.write_text("failed")
    await host.wait_for(Unit.FAILED)
    await asyncio.to_thread(wait_for_text, host.log, " kill ")
    await ended(watch)
    assert host.asked() == ["--kill-whom=all --signal=SIGKILL kill -- app.service"]


def wait_for_text(file: Path, text: str) -> None:
    end_s = time.monotonic() + 30
    while text not in file.read_text():
        assert time.monotonic() < end_s, f"{file} does not say {text!r}"
        time.sleep(0.01)


async def test_a_kill_adds_itself_to_a_stop_and_takes_back_a_start(host: Host) -> None:
    """Without the stop systemd might start again what was killed; a start would."""
    host.systemctl(start="exec sleep 60", stop="sleep 0.2; echo inactive > {state}")
    host.state.write_text("active")
    watch = asyncio.create_task(host.door.run())
    await host.door.first_look(10)
    host.door.ask(STOP)
    host.door.ask(KILL)
    assert host.shows(Unit.STOPPING)
    await host.wait_for(Unit.STOPPED)
    host.door.ask(START)
    host.door.ask(KILL)
    await host.wait_for(Unit.STOPPED)
    await ended(watch)


async def test_the_kernels_word_needs_no_systemd(host: Host) -> None:
    """While nobody else answers, a kill works and it is known that nothing runs."""
    host.systemctl(show="exec sleep 60", start="exec sleep 60", stop="exec sleep 60")
    host.door.strict = True
    host.holds(2)
    watch = asyncio.create_task(host.door.run())
    await asyncio.sleep(0)
    host.door.ask(KILL)
    assert host.killed
    assert host.door.populated("app.service") is True
    host.changed.clear()
    host.holds(0)
    await host.changed.wait()
    assert host.door.populated("app.service") is False
    await ended(watch)


# The journal and the service manager.


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.settimeout(5)
        yield listening


def stall(receiver: socket.socket) -> None:
    """Fill its queue, as everybody's records do when journald hangs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as filler:
        filler.connect(receiver.getsockname())
        try:
            while True:
                filler.send(b"x")
        except BlockingIOError:
            return


def record(text: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("failover_monitor", logging.WARNING, __file__, 1, text, None, None)
    made.__dict__.update(extra)
    return made


def test_a_record_reaches_the_journal_with_its_fields(receiver: socket.socket) -> None:
    """Priority, identifier, MESSAGE_ID and our own fields, in the upper case that it asks for."""
    sent: list[tuple[str, dict[str, object]]] = []
    handler = JournalHandler(
        address=receiver.getsockname(), send=lambda text, **fields: sent.append((text, fields))
    )
    handler.emit(record("it is down", message_id="a" * 32, fields={"verdict": "down"}))
    handler.emit(record("plain"))
    (text, fields), (plain, plain_fields) = sent
    assert (text, plain) == ("it is down", "plain")
    assert fields["MESSAGE_ID"] == "a" * 32
    assert fields["VERDICT"] == "down"
    assert fields["PRIORITY"] == "4"
    assert fields["SYSLOG_IDENTIFIER"] == "failover-monitor"
    assert "MESSAGE_ID" not in plain_fields
    assert handler.dropped == 0


def test_the_journal_library_takes_what_we_send(receiver: socket.socket) -> None:
    """The real library accepts every field; where no journald runs it sends nowhere."""
    handler = JournalHandler(address=receiver.getsockname())
    handler.emit(record("a test of the journal handler", message_id="a" * 32, fields={"a": "b\nc"}))
    assert handler.dropped == 0


def test_a_stalled_journal_costs_records_not_time(receiver: socket.socket) -> None:
    """The first record waits a little, those behind it not at all; afterwards all is well."""
    sent: list[str] = []
    handler = JournalHandler(
        wait_s=0.05, address=receiver.getsockname(), send=lambda text, **_: sent.append(text)
    )
    stall(receiver)
    began_s = time.monotonic()
    for number in range(100):
        handler.emit(record(f"lost {number}"))
    assert time.monotonic() - began_s < 1.0
    assert handler.dropped == 100
    receiver.recv(1)
    handler.emit(record("heard"))
    assert sent == ["heard"]


def test_a_journal_that_is_gone_costs_records_not_time(tmp_path: Path) -> None:
    """No socket, no waiting."""
    handler = JournalHandler(wait_s=60.0, address=str(tmp_path / "nobody"))
    handler.emit(record("lost"))
    assert handler.dropped == 1


def test_the_service_manager_hears_of_us(
    receiver: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state goes to NOTIFY_SOCKET as it is."""
    monkeypatch.setenv("NOTIFY_SOCKET", receiver.getsockname())
    notify("READY=1\nSTATUS=fine")
    assert receiver.recv(100) == b"READY=1\nSTATUS=fine"
    notify("STATUS=no letter of ours: \udcfc")
    assert receiver.recv(100) == b"STATUS=no letter of ours: ?"


def test_a_stalled_service_manager_does_not_hold_us_up(
    receiver: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full queue, no socket, no manager: nothing happens, at once."""
    monkeypatch.setenv("NOTIFY_SOCKET", receiver.getsockname())
    stall(receiver)
    notify("WATCHDOG=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nobody/listens")
    notify("WATCHDOG=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("WATCHDOG=1")
