"""What systemd makes of a failed monitor where stopping is enforced, and what a kill reaches.

The rule it keeps: the unit files are the product's own.  Behind them stands a process that fails in
exactly one way and is quick about it, so that what is measured is systemd's part.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from tests.lab import rootfs, units
from tests.lab.hosts import Lab, SystemdHost, wait_until
from tests.lab.pair import APP, MONITOR

RESET, AGAIN = "failover-monitor-reset.service", "failover-monitor-again.service"
ARMED, PERMIT = "/run/failover-monitor/armed", "/run/failover-monitor/permit"
ORDERS = "/etc/stand-in"
PETS_S = 0.5  # the stand-in's watchdog
NOISE_S = 4.0  # what a busy machine may add
CALM_S = 3.0  # so long after a fault that must not reset the host, it has not
STUBBORN = "stubborn.service"
STAND_IN = f"""\
#!/usr/bin/python3
import os, signal, socket, sys, time

def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])

def leave(*_):
    if os.path.exists("{ARMED}"):
        os.unlink("{ARMED}")
    sys.exit()

verb, number = open("{ORDERS}").read().split()
if verb == "exit":
    sys.exit(int(number))
if verb == "refuse":
    os.unlink("{ARMED}")
    sys.exit(int(number))
if verb == "hang":
    time.sleep(600)
signal.signal(signal.SIGTERM, leave)
notify("WATCHDOG_USEC={int(PETS_S * 1e6)}\\nREADY=1")
while True:
    notify("WATCHDOG=1")
    time.sleep(0.05)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A way to fail: what brings it about (the moment it did), and what systemd needs to see it."""

    begin: Callable[[SystemdHost], float]
    seen_s: float
    running: bool = True  # it befalls a monitor that runs


def stopped(host: SystemdHost) -> float:
    return host.signal(MONITOR, signal.SIGSTOP)


def frozen(host: SystemdHost) -> float:
    stamp = time.monotonic()
    (host.cgroup(MONITOR) / "cgroup.freeze").write_text("1")
    return stamp


def program_gone(host: SystemdHost) -> float:
    host.path("/usr/local/bin/failover-monitor").unlink()
    return host.signal(MONITOR, signal.SIGKILL)


def ordered(verb: str, number: int = 0) -> Callable[[SystemdHost], float]:
    """Start a stand-in that has these orders."""

    def begin(host: SystemdHost) -> float:
        host.write(ORDERS, f"{verb} {number}")
        stamp = time.monotonic()
        host.systemctl("start", "--no-block", MONITOR)
        return stamp

    return begin


FAILURES = {
    "stopped": Failure(begin=stopped, seen_s=PETS_S),
    "frozen": Failure(begin=frozen, seen_s=PETS_S),
    "program-gone": Failure(begin=program_gone, seen_s=0.1),
    "dies-in-each-start": Failure(begin=ordered("exit", 1), seen_s=3.0, running=False),
    "never-ready": Failure(begin=ordered("hang"), seen_s=10.0, running=False),
}


@pytest.fixture
def guarded(lab: Lab) -> SystemdHost:
    """A host whose monitor is the stand-in, with services that may run."""
    return new_host(lab)


def new_host(lab: Lab, services: Mapping[str, str] | None = None) -> SystemdHost:
    directory = "/etc/systemd/system"
    own = {
        f"{directory}/{name}": (rootfs.CHECKOUT / name).read_text()
        for name in (MONITOR, RESET, AGAIN)
    }
    guard = (rootfs.CHECKOUT / "failover-monitor-guard.conf").read_text()
    told = {APP: units.APP, STUBBORN: units.IGNORES_SIGTERM} | dict(services or {})
    host = lab.systemd(
        "guarded",
        2,
        files=own
        | {f"{directory}/{name}": text for name, text in told.items()}
        | {
            f"{directory}/{MONITOR}.d/50-guard.conf": guard,
            "/usr/local/bin/failover-monitor": STAND_IN,
            ORDERS: "pet 0",
        },
    )
    host.run("chmod", "0755", "/usr/local/bin/failover-monitor")
    return host


def arm(host: SystemdHost) -> None:
    """Services may run here: and one does that does not heed SIGTERM."""
    host.systemctl("start", STUBBORN)
    host.write(ARMED, "")


def begin(host: SystemdHost, failure: Failure) -> float:
    if failure.running:
        host.systemctl("start", MONITOR)
    return failure.begin(host)


def rests(host: SystemdHost, seconds: float = CALM_S) -> None:
    """The host goes on as it is."""
    init = host.init
    time.sleep(seconds)
    assert host.init == init
    assert host.path("/proc/1").exists()


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_monitor_that_cannot_guard_resets_a_host_whose_services_may_run(
    guarded: SystemdHost, failure: Failure, record_property: Callable[[str, object], None]
) -> None:
    """At once, though a service ignores SIGTERM; and the new boot is not armed."""
    arm(guarded)
    stamp = begin(guarded, failure)
    took_s = guarded.wait_for_boot(failure.seen_s + NOISE_S + 10) - stamp
    record_property("reset_ms", round(1000 * took_s))
    print(f"reset after {1000 * took_s:.0f} ms")
    assert took_s < failure.seen_s + NOISE_S
    assert not guarded.exists(ARMED)
    assert not guarded.running(STUBBORN)


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_where_no_service_may_run_a_failed_monitor_is_started_again(
    guarded: SystemdHost, failure: Failure
) -> None:
    """Nothing is reset, and nobody has to come: as soon as it can run it does."""
    begin(guarded, failure)
    init = guarded.init
    old = guarded.pids(MONITOR)
    wait_until(lambda: guarded.unit(MONITOR)["Result"] != "success", 20, "the monitor has failed")
    guarded.write(ORDERS, "pet 0")
    guarded.write("/usr/local/bin/failover-monitor", STAND_IN, 0o755)
    wait_until(lambda: is_up(guarded) and guarded.pids(MONITOR) != old, 20, "it runs again")
    assert guarded.init == init
    assert guarded.unit(RESET)["ConditionResult"] == "no"


def is_up(host: SystemdHost) -> bool:
    return host.unit(MONITOR)["SubState"] == "running"


def test_a_killed_monitor_is_only_started_again(guarded: SystemdHost) -> None:
    """It goes on with the deadline that was written down; that is not systemd's business."""
    arm(guarded)
    guarded.systemctl("start", MONITOR)
    old = guarded.pid_of(MONITOR)
    stamp = guarded.signal(MONITOR, signal.SIGKILL)
    wait_until(lambda: guarded.pids(MONITOR) not in ([], [old]), 5, "another process")
    wait_until(lambda: is_up(guarded), 5, "it runs")
    print(f"runs again after {1000 * (guarded.active_since(MONITOR) - stamp):.0f} ms")
    rests(guarded)
    assert guarded.running(STUBBORN)


def test_stop_and_restart_reset_nothing(guarded: SystemdHost) -> None:
    """An operator's stop is a success, also while services run, and also six times in a row."""
    arm(guarded)
    guarded.systemctl("start", MONITOR)
    guarded.systemctl("restart", MONITOR)
    assert not guarded.exists(ARMED)
    guarded.write(ARMED, "")
    guarded.systemctl("stop", MONITOR)
    rests(guarded)
    for _ in range(6):
        guarded.systemctl("restart", MONITOR, check=False)
    wait_until(lambda: is_up(guarded), 10, "it runs in the end")
    assert guarded.running(STUBBORN)


def test_a_stop_that_hangs_is_a_failure_that_resets_nothing_once_disarmed(
    guarded: SystemdHost,
) -> None:
    """Who has lowered the flag may need longer for its stop than systemd allows."""
    arm(guarded)
    guarded.write(ORDERS, "pet 0")
    slow = STAND_IN.replace("    sys.exit()", "    time.sleep(60)")
    guarded.write("/usr/local/bin/failover-monitor", slow, 0o755)
    guarded.systemctl("start", MONITOR)
    guarded.write(ARMED, "")
    guarded.systemctl("stop", MONITOR, check=False)
    rests(guarded)
    assert guarded.running(STUBBORN)


def test_bad_configuration_resets_nothing_and_is_not_tried_again(guarded: SystemdHost) -> None:
    """A monitor that lowers the flag before it exits with 78 stays down until somebody mends it."""
    arm(guarded)
    ordered("refuse", 78)(guarded)
    wait_until(lambda: guarded.unit(MONITOR)["ActiveState"] == "failed", 5, "it has failed")
    rests(guarded)
    assert guarded.unit(MONITOR)["ExecMainStatus"] == "78"
    assert guarded.unit(MONITOR)["ActiveState"] == "failed"
    assert guarded.read("/run/failover_monitor_state") == "unknown\n"


# The gate.

RESTARTS_AT_BOOT = units.RESTARTS + "[Install]\nWantedBy=multi-user.target\n"


def test_nothing_passes_a_closed_gate(lab: Lab) -> None:
    """Neither the boot nor an operator nor the unit's own Restart= starts it; an open gate does."""
    host = new_host(lab, {"again.service": RESTARTS_AT_BOOT})
    gate = (rootfs.CHECKOUT / "failover-monitor-gate.conf").read_text()
    host.write("/etc/systemd/system/again.service.d/50-failover-monitor-gate.conf", gate)
    host.systemctl("enable", "again.service")
    host.reboot()
    assert host.unit("again.service")["ConditionResult"] == "no"
    host.systemctl("start", "again.service")
    assert not host.running("again.service")
    host.write(PERMIT, "")
    host.systemctl("start", "again.service")
    assert host.running("again.service")
    host.path(PERMIT).unlink()
    host.signal("again.service", signal.SIGKILL)
    wait_until(lambda: host.unit("again.service")["ActiveState"] == "inactive", 5, "held back")
    assert not host.running("again.service")


# The kill, from inside the monitor's own sandbox.

KILLER = """\
import asyncio, pathlib, time
from failover_monitor.journal import notify
from failover_monitor.model import Effect, Verb
from failover_monitor.systemd import Systemd

RUN = pathlib.Path("/run")

async def main():
    door = Systemd(["left.service"], lambda: None, strict=True)
    watch = asyncio.create_task(door.run())
    await door.first_look(5)
    notify("WATCHDOG_USEC=60000000\\nREADY=1")
    while True:
        if (RUN / "kill").exists():
            (RUN / "kill").unlink()
            door.ask(Effect(Verb.KILL, "left.service"))
        (unit,) = door.seen()
        (RUN / "told.new").write_text(f"{unit.state} {unit.why} {door.populated('left.service')}")
        (RUN / "told.new").rename(RUN / "told")
        await asyncio.sleep(0.02)

asyncio.run(main())
"""
# Its main process ends with the unit; its children stay, under another user.
LEAVES = """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
User=nobody
KillMode=process
ExecStart=/bin/sh -c '(trap "" TERM; sleep 600) & (sleep 600) & exec sleep 600'
"""


@pytest.fixture
def killer(lab: Lab) -> SystemdHost:
    """A host where the product's door to systemd waits in the product's sandbox."""
    host = lab.systemd(
        "killer",
        2,
        layers=[rootfs.installed_tree()],
        files={
            "/etc/killer.py": KILLER,
            "/etc/systemd/system/left.service": LEAVES,
            f"/etc/systemd/system/{MONITOR}.d/50-guard.conf": (
                rootfs.CHECKOUT / "failover-monitor-guard.conf"
            ).read_text(),
            f"/etc/systemd/system/{MONITOR}.d/60-killer.conf": (
                "[Service]\nExecStart=\nExecStart="
                "/opt/failover-monitor/current/venv/bin/python -I /etc/killer.py\n"
            ),
        },
    )
    host.systemctl("start", "left.service")
    host.systemctl("start", MONITOR)
    return host


def told(host: SystemdHost) -> str:
    """What the killer said last; "" while it is ready and has said nothing yet."""
    return host.read("/run/told") if host.exists("/run/told") else ""


def test_a_unit_whose_processes_outlive_it_is_not_at_rest(killer: SystemdHost) -> None:
    """By systemd's word it is inactive; it is shown as stopping until the last process is gone."""
    wait_until(lambda: told(killer) == "running  True", 5, "it runs")
    killer.systemctl("stop", "left.service")
    assert killer.unit("left.service")["ActiveState"] == "inactive"
    wait_until(lambda: told(killer) == "stopping processes left True", 5, "they are seen")
    killer.signal(MONITOR, signal.SIGKILL)
    wait_until(lambda: is_up(killer), 10, "another monitor")
    wait_until(lambda: told(killer) == "stopping processes left True", 5, "and still are")
    killer.write("/run/kill", "")
    wait_until(lambda: told(killer) == "stopped  False", 5, "they are gone")
    assert not killer.running("left.service")


@pytest.mark.parametrize("trouble", ["none", "bus", "systemd"])
def test_a_kill_needs_neither_systemd_nor_its_bus(killer: SystemdHost, trouble: str) -> None:
    """With both of them stopped every process of the unit is gone, and that is known."""
    wait_until(lambda: told(killer) == "running  True", 5, "it runs")
    if trouble == "bus":
        killer.signal("dbus.service", signal.SIGSTOP)
    if trouble == "systemd":
        os.kill(killer.init, signal.SIGSTOP)
    try:
        stamp = time.monotonic()
        killer.path("/run").joinpath("kill").touch()
        wait_until(lambda: not killer.running("left.service"), 5, "its processes are gone")
        print(f"killed after {1000 * (time.monotonic() - stamp):.0f} ms")
        wait_until(lambda: told(killer).endswith(" False"), 5, "the kernel's word is known")
    finally:
        os.kill(killer.init, signal.SIGCONT)
        if trouble == "bus":
            killer.signal("dbus.service", signal.SIGCONT)


def test_the_sandbox_stays_as_tight_as_killing_allows(killer: SystemdHost) -> None:
    """Exposure 2.1 at most; the threshold is given in tenths."""
    killer.run("systemd-analyze", "security", "--threshold=21", MONITOR)
    killer.run("systemd-analyze", "verify", f"/etc/systemd/system/{MONITOR}")
