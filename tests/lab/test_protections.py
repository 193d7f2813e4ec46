"""Service checks, fence and the limit of takeovers, on a real pair."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab import units
from tests.lab.hosts import Host, Lab, SystemdHost, wait_until
from tests.lab.network import LAN
from tests.lab.overlap import Overlap
from tests.lab.pair import APP, Pair, pair
from tests.lab.wire import Way

pytestmark = pytest.mark.timeout(200)

PORT = 8080
VERDICT_S = 2.5  # of the quick profile, at most
CHECK = {"type": "tcp", "host": f"{LAN}2", "port": PORT, "interval": 1, "timeout": 0.5}
SERVER = f"""\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
ExecStart=/usr/bin/python3 -m http.server {PORT}
"""
FENCE = "/usr/local/bin/fence"
# What a fence does in these tests is written into a file beside it: an exit status, or "hang".
FENCE_TEXT = """\
#!/bin/sh
cat >> /run/fence.asked; echo "$@" >> /run/fence.asked
answer=$(cat /run/fence.answer)
test "$answer" = hang && exec sleep infinity
echo "the board says $answer" >&2
exit "$answer"
"""


@contextmanager
def service_of(primary: Host) -> Iterator["subprocess.Popen[str]"]:
    """The primary's service, as clients see it: something that takes connections."""
    server = primary.popen(
        "python3", "-m", "http.server", str(PORT), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield server
    finally:
        server.kill()
        server.wait()


def fenced(lab: Lab, answer: str, **keys: Any) -> Pair:
    made = pair(lab, watch=False, fence={"command": [FENCE, "off"], "timeout": 2, **keys})
    made.standby.write(FENCE, FENCE_TEXT, 0o755)
    answers(made, answer)
    made.standby.watch()
    return made


def answers(p: Pair, answer: str) -> None:
    p.standby.write("/run/fence.answer", answer + "\n")


def deaf(primary: Host) -> None:
    """The primary begins to drop ICMP; everything else works."""
    rules = """
        table inet deaf { chain input {
            type filter hook input priority 0
            icmp type echo-request drop
        }
        }
    """
    primary.namespace.run("nft", "-f", "-", feed=rules)


def test_a_primary_that_drops_icmp_but_serves_is_not_taken_over(lab: Lab) -> None:
    """The veto: silent for echoes, and its service answers; then it dies, too."""
    p = pair(lab, watch=False, service_checks=[CHECK])
    with service_of(p.primary) as server:
        p.standby.watch()
        deaf(p.primary)
        p.standby.wait_for_log("no takeover: tcp", 15)
        time.sleep(3)
        assert not p.standby.running(APP)
        assert p.standby.status()["attention"]
        server.kill()
        p.standby.wait_for(APP, "active", 15)


def test_a_service_check_does_not_delay_a_takeover(lab: Lab) -> None:
    """A host that is gone is gone for the check, too: it is asked at once, and fails in time."""
    p = pair(lab, watch=False, service_checks=[CHECK | {"interval": 60}])
    with service_of(p.primary):
        p.standby.watch()
        assert p.takeover() <= VERDICT_S + 1.5


def test_a_dead_service_on_a_living_host_is_taken_over_by_a_trigger(lab: Lab) -> None:
    """Three failures in a row; given back when the service passes again."""
    p = pair(lab, watch=False, service_checks=[CHECK | {"trigger": True}])
    with service_of(p.primary):
        p.standby.watch()
        time.sleep(2)
        assert not p.standby.running(APP)
    p.standby.wait_for(APP, "active", 20)
    assert p.standby.state() == "active_alive"
    with service_of(p.primary):
        p.standby.wait_for(APP, "inactive", 15)


def test_a_delayed_failback_waits_for_the_service(lab: Lab) -> None:
    """The primary's kernel answers long before its service does; clients hardly notice."""
    p = pair(lab, watch=False, service_checks=[CHECK], failback="delayed", recovery_delay=0)
    with service_of(p.primary):
        p.standby.watch()
        p.takeover()
    p.primary.heal()
    time.sleep(4)
    assert p.standby.running(APP)
    with service_of(p.primary):
        p.standby.wait_for(APP, "inactive", 10)


def test_a_takeover_comes_after_a_fence_that_succeeds(lab: Lab) -> None:
    """It is asked once, with its arguments, and its success is told."""
    p = fenced(lab, "0", options={"plug": "7"})
    p.takeover()
    assert p.standby.read("/run/fence.asked") == "plug=7\noff\n"
    log = p.standby.log()
    assert log.index("the fence succeeded") < log.index("claim -> takeover")


@pytest.mark.parametrize("answer", ["1", "hang"])
def test_no_takeover_without_the_fence(lab: Lab, answer: str) -> None:
    """It fails, or hangs: nobody starts anything, it is said, and tried again."""
    p = fenced(lab, answer, retries=1)
    p.primary.cut()
    p.standby.wait_for_log("the fence failed", 25)
    assert not p.standby.running(APP)
    wait_until(
        lambda: any("fence" in words for words in p.standby.status()["attention"]),
        3,
        "the status says so",
    )


def test_a_fence_that_fails_gives_way_to_the_guards_time(lab: Lab) -> None:
    """`wait_for_guard`: after takeover_delay the primary's guard has stopped everything."""
    guard = {"deadline": 2, "stop_limit": 3}
    p = fenced_with_guard(lab, guard)
    stamp = p.primary.cut()
    p.standby.wait_for(APP, "active", 25)
    assert p.standby.active_since(APP) - stamp >= 7.0


def fenced_with_guard(lab: Lab, guard: dict[str, Any]) -> Pair:
    made = pair(
        lab,
        watch=False,
        guard=guard,
        fence={"command": [FENCE], "retries": 0, "on_failure": "wait_for_guard"},
    )
    made.standby.write(FENCE, FENCE_TEXT, 0o755)
    answers(made, "1")
    made.standby.watch()
    return made


def test_the_primary_answers_while_the_fence_hangs_and_nothing_happens(lab: Lab) -> None:
    """The fence is called off, and no process of it is left."""
    p = fenced(lab, "hang", timeout=30)
    p.primary.cut()
    p.standby.wait_for_log("standby -> claim", 15)
    p.primary.heal()
    p.standby.wait_for_log("claim -> standby", 15)
    wait_until(lambda: len(p.standby.pids("failover-monitor.service")) == 1, 10, "no fence runs")
    assert not p.standby.running(APP)


def test_a_flapping_primary_is_left_alone_until_an_operator_has_looked(lab: Lab) -> None:
    """Two takeovers in the window, and no third before `ack`; a reboot forgets nothing."""
    p = pair(lab, flap_window=600, max_takeovers=2)
    p.takeover()
    p.failback()
    p.takeover()
    p.failback()
    assert any("ack" in words for words in p.standby.status()["attention"])
    p.standby.reboot()
    p.standby.wait_for_state("active_alive", 20)
    p.primary.cut()
    p.standby.wait_for_log("no takeover: 2 takeovers within 600 s", 15)
    assert not p.standby.running(APP)
    p.standby.run("failover-monitor", "ack")
    p.standby.wait_for(APP, "active", 15)


def test_two_active_is_said_as_soon_as_it_is_seen(lab: Lab) -> None:
    """Only the path of the echoes is broken when we take over; then the service answers."""
    p = pair(lab, watch=False, wired=True, service_checks=[CHECK | {"timeout": 0.3}])
    broken = Way(dropped_pairs=((p.primary.address, p.standby.address),))
    with service_of(p.primary):
        p.standby.watch()
        p.standby.wire.be(broken)
        p.standby.wait_for(APP, "active", 15)
        deaf(p.primary)
        p.standby.wire.fine()
        p.standby.wait_for_log("[CRITICAL] two active: app.service runs here", 10)


def test_the_port_of_a_real_unit_is_what_the_check_sees(lab: Lab) -> None:
    """A systemd primary whose unit stops: the same trigger, the whole way."""
    lab.plain("gateway", 1)
    files = {"/etc/systemd/system/server.service": SERVER}
    primary = lab.add(SystemdHost(lab, "primary", 2, files=files))
    primary.systemctl("start", "server.service")
    services = {APP: units.APP}
    p = pair(lab, primary=primary, services=services, service_checks=[CHECK | {"trigger": True}])
    with Overlap(APP, (p.standby,)) as seen:
        time.sleep(3)
    assert seen.idle_s > 2
    primary.systemctl("stop", "server.service")
    p.standby.wait_for(APP, "active", 20)
