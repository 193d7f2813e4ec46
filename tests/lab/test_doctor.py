"""`doctor` on real hosts: all well where all is well, and each real fault with its line and cure.

Every run is timed: whatever hangs, the report is there within 15 s.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.lab import units
from tests.lab.hosts import Lab, wait_until
from tests.lab.pair import APP, CONFIG, GUARD, MONITOR, STATUS, UNITS, Guarded, Pair, pair

pytestmark = pytest.mark.timeout(180)
MakePair = Callable[..., Pair]
LIMIT_S = 15.0
CLOCK = "the system clock is not synchronised"  # this machine's affair
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
PATIENT: dict[str, Any] = {"ping_fail_threshold": 100}  # no verdict while the test looks
SOCKET = "[Socket]\nListenStream=/run/app.sock\n"
NO_COMMAND = "[Service]\nType=exec\n"
NO_PROGRAM = units.APP.replace("/usr/bin/sleep", "/usr/bin/sleeep")
DROP = (
    "table inet own { chain out { type filter hook output priority 0; meta l4proto icmp drop; }; }"
)


def report(host: Any, *words: str) -> tuple[int, list[dict[str, str]]]:
    """Exit status and findings; in time."""
    begun_s = time.monotonic()
    done = host.run("failover-monitor", "doctor", "--json", *words, check=False, within=60)
    took_s = time.monotonic() - begun_s
    assert done.stderr == ""
    assert took_s < LIMIT_S, took_s
    document = json.loads(done.stdout)
    assert document["failover_would_work"] is (done.returncode == 0)
    print(f"doctor took {took_s:.1f} s")
    for finding in document["findings"]:
        print(*finding.values())
    return done.returncode, document["findings"]


def bad(findings: list[dict[str, str]]) -> list[dict[str, str]]:
    return [f for f in findings if f["level"] != "ok" and CLOCK not in f["what"]]


def test_a_freshly_installed_standby_is_all_well(make_pair: MakePair) -> None:
    """Not one warning, exit 0; and the monitor beside it has noticed nothing."""
    made = make_pair()
    settled = "unknown -> standby: the primary answers"  # its history is written a moment later
    wait_until(lambda: settled in [e["what"] for e in made.standby.events()], 5, settled)
    events = len(made.standby.events())
    code, findings = report(made.standby)
    assert (code, bad(findings)) == (0, [])
    subjects = {finding["subject"] for finding in findings}
    assert subjects >= {"configuration", "monitor", "in use", "systemd", "boot", APP, "D-Bus"}
    assert subjects >= {"echoes", "primary 198.51.100.2", "reference 198.51.100.1", "way", "held"}
    assert len(made.standby.events()) == events
    assert made.standby.state() == "active_alive"


def test_lines_appear_as_they_are_found(make_pair: MakePair) -> None:
    """The first is there long before the last: nobody stares at an empty screen."""
    made = make_pair()
    with made.standby.popen("failover-monitor", "doctor", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        stamps = [(time.monotonic(), line) for line in process.stdout]
    assert process.returncode == 0
    assert stamps[0][1].startswith("ok       configuration")
    assert stamps[-1][0] - stamps[0][0] > 0.5
    assert "is sure to work" in stamps[-1][1]


# Faults.


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is done to a healthy pair, and what must be said of it."""

    name: str
    do: Callable[[Pair], object]
    subject: str
    words: str
    hint: str
    level: str = "failure"
    keys: dict[str, Any] = field(default_factory=dict)
    unit: str = units.APP
    undo: Callable[[Pair], object] = lambda made: None


def unit_text(text: str) -> Callable[[Pair], object]:
    def do(made: Pair) -> None:
        made.standby.write(f"{UNITS}/{APP}", text)
        made.standby.systemctl("daemon-reload")

    return do


def without_unit(made: Pair) -> None:
    made.standby.run("rm", f"{UNITS}/{APP}")
    made.standby.systemctl("daemon-reload")


def masked(made: Pair) -> None:
    without_unit(made)
    made.standby.systemctl("mask", APP)


def with_socket(made: Pair) -> None:
    made.standby.write(f"{UNITS}/app.socket", SOCKET)
    made.standby.systemctl("daemon-reload")
    made.standby.systemctl("start", "app.socket")


def full(made: Pair) -> None:
    """What is to be kept lies on a disk without a byte left."""
    standby = made.standby
    standby.run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/var/lib/failover-monitor")
    ballast = "/var/lib/failover-monitor/ballast"
    standby.run("dd", "if=/dev/zero", f"of={ballast}", "bs=1k", check=False)


def filtered(made: Pair) -> None:
    made.standby.namespace.run("nft", "-f", "-", feed=DROP)


def stale(made: Pair) -> None:
    made.standby.signal(MONITOR, signal.SIGSTOP)
    document = made.standby.status()
    text = json.dumps(document | {"at_s": document["at_s"] - 400})
    made.standby.write(STATUS, text)


def flapping(made: Pair) -> None:
    made.takeover()
    made.failback()
    wait_until(lambda: made.standby.status()["flapping"], 5, "takeovers are held")


def frozen(name: str) -> tuple[Callable[[Pair], object], Callable[[Pair], object]]:
    return (
        lambda made: made.standby.signal(name, signal.SIGSTOP),
        lambda made: made.standby.signal(name, signal.SIGCONT),
    )


FREEZE_BUS, THAW_BUS = frozen("dbus.service")
_, THAW_MONITOR = frozen(MONITOR)
FAULTS = (
    Fault(
        name="unit masked",
        do=masked,
        subject=APP,
        words="is masked",
        hint="systemctl unmask app.service",
    ),
    Fault(
        name="unit enabled",
        do=lambda made: made.standby.systemctl("enable", APP),
        unit=units.ENABLED,
        subject=APP,
        words="is enabled: the boot of this host starts it",
        hint="systemctl disable app.service",
    ),
    Fault(
        name="unit missing",
        do=without_unit,
        subject=APP,
        words="does not exist on this host",
        hint="install it",
    ),
    Fault(
        name="unit cannot be loaded",
        do=unit_text(NO_COMMAND),
        subject=APP,
        words="cannot be loaded: bad-setting",
        hint="systemd-analyze verify app.service",
    ),
    Fault(
        name="program missing",
        do=unit_text(NO_PROGRAM),
        subject=APP,
        words="sleeep is not executable",
        hint="systemd-analyze verify app.service",
    ),
    Fault(
        name="condition not met",
        do=unit_text(units.UNMET_CONDITION),
        subject=APP,
        words="ConditionPathExists=/nowhere",
        hint="make it true",
    ),
    Fault(
        name="socket starts it",
        do=with_socket,
        subject=APP,
        words="is started by app.socket",
        hint="systemctl disable --now app.socket",
    ),
    Fault(
        name="gateway down",
        do=lambda made: made.gateway.cut(),
        subject="reference 198.51.100.1",
        words="answered none of 5 echoes: no takeover can happen without it",
        hint="allow ICMP echoes there",
    ),
    Fault(
        name="primary silent",
        do=lambda made: made.primary.cut(),
        keys=PATIENT,
        subject="primary 198.51.100.2",
        words="answered none of 5 echoes",
        hint="is the primary up",
    ),
    Fault(
        name="own cable out",
        do=lambda made: made.standby.cut(),
        subject="echoes",
        words="no carrier on eth0",
        hint="ip addr",
    ),
    Fault(
        name="outgoing ICMP dropped",
        do=filtered,
        subject="echoes",
        words="no echo can leave this host",
        hint="nft list ruleset",
    ),
    Fault(
        name="disk full",
        do=full,
        subject="space",
        words="/var/lib/failover-monitor is full",
        hint="make room",
    ),
    Fault(
        name="D-Bus frozen",
        do=FREEZE_BUS,
        undo=THAW_BUS,
        subject="D-Bus",
        words="no answer within 2 s",
        hint="systemctl restart dbus",
    ),
    Fault(
        name="monitor stopped",
        do=lambda made: made.standby.systemctl("stop", MONITOR),
        subject="monitor",
        words="is not running: nobody watches",
        hint="systemctl start failover-monitor",
    ),
    Fault(
        name="monitor hangs",
        do=stale,
        undo=THAW_MONITOR,
        subject="monitor",
        words="is stale: it last wrote 4",
        hint="systemctl restart failover-monitor",
    ),
    Fault(
        name="monitor not enabled",
        do=lambda made: made.standby.systemctl("disable", MONITOR),
        subject="boot",
        words="not started at boot: it is disabled",
        hint="systemctl enable failover-monitor",
    ),
    Fault(
        name="too many takeovers",
        do=flapping,
        keys={"flap_window": 600, "max_takeovers": 1},
        subject="held",
        words="no takeover will happen: there were too many",
        hint="failover-monitor ack",
    ),
    Fault(
        name="service check fails",
        do=lambda made: None,
        keys={"service_checks": [{"type": "tcp", "host": "198.51.100.2", "port": 81}]},
        subject="check tcp 198.51.100.2:81",
        words="fails: 198.51.100.2 port 81: Connection refused",
        hint="the service on the primary",
    ),
    Fault(
        name="fence command missing",
        do=lambda made: None,
        keys={"fence": {"command": ["/usr/sbin/fence_nobody_installed"]}},
        subject="fence command",
        words="cannot be used: No such file",
        hint="ls -l",
    ),
    Fault(
        name="key hidden by the sandbox",
        do=lambda made: made.standby.run("touch", "/root/key"),
        keys={
            "service_checks": [
                {"type": "unit", "host": "198.51.100.2", "unit": "a", "identity": "/root/key"}
            ]
        },
        subject="unit check identity",
        words="/root/key cannot be used",
        hint="sandbox hides",
    ),
    Fault(
        name="enforcement not prepared",
        do=lambda made: made.standby.run("rm", f"{UNITS}/{MONITOR}.d/50-guard.conf"),
        keys={"guard": GUARD},
        subject="enforcement",
        words="stopping cannot be enforced: no /etc/systemd/system/failover-monitor.service.d",
        hint="run install.sh again",
    ),
    Fault(
        name="systemd stopped answering",
        do=lambda made: os.kill(made.standby.init, signal.SIGSTOP),
        undo=lambda made: os.kill(made.standby.init, signal.SIGCONT),
        subject="systemd",
        words="cannot be looked at",
        hint="systemctl status",
    ),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_has_its_line_and_its_cure(make_pair: MakePair, fault: Fault) -> None:
    """And exit 1, within 15 s."""
    made = make_pair(services={APP: fault.unit}, **fault.keys)
    fault.do(made)
    try:
        code, findings = report(made.standby)
    finally:
        fault.undo(made)
    about = [f for f in findings if f["subject"] == fault.subject and fault.words in f["what"]]
    assert about, findings
    assert about[0]["level"] == fault.level
    assert fault.hint in about[0]["hint"]
    assert code == 1


def test_an_edited_configuration_is_a_warning_until_it_is_read(make_pair: MakePair) -> None:
    """What runs is not what stands there: it says so, and how to change that."""
    standby = make_pair().standby
    standby.configure(ping_fail_threshold=5)
    code, findings = report(standby)
    (warned,) = bad(findings)
    assert (code, warned["subject"]) == (0, "in use")
    assert warned["hint"] == "systemctl reload failover-monitor"
    standby.systemctl("reload", MONITOR)
    standby.wait_for_log("was read again", 5)
    assert bad(report(standby)[1]) == []


def test_a_standby_that_serves_is_no_fault(make_pair: MakePair) -> None:
    """The primary is silent, as everybody knows by now: a warning, and exit 0."""
    made = make_pair()
    made.takeover()
    wait_until(lambda: made.standby.status()["phase"] == "active", 3, "the phase is active")
    code, findings = report(made.standby)
    (warned,) = bad(findings)
    assert (code, warned["subject"]) == (0, "primary 198.51.100.2")
    assert "we serve in its place" in warned["what"]


def test_a_guarded_pair_is_well_on_both_sides(lab: Lab) -> None:
    """The gate, the drop-ins; what is warned of is a missing watchdog, and slow stops."""
    lab.plain("gateway", 1)
    quick = units.APP.replace("Type=exec", "Type=exec\nTimeoutStopSec=2")
    primary = lab.add(Guarded(lab, "primary", 2, services={APP: quick}))
    made = pair(lab, primary=primary, services={APP: quick}, watch=False, guard=dict(GUARD))
    primary.serves()
    made.standby.watch()
    for host, expected in ((primary, "gate"), (made.standby, "primary 198.51.100.2")):
        wait_until(lambda: host.status()["verdict"] == "up", 10, "it has a verdict")  # noqa: B023
        code, findings = report(host)
        assert code == 0
        assert {f["subject"] for f in bad(findings)} <= {"watchdog"}
        assert {"enforcement", expected} <= {f["subject"] for f in findings}


# Without rights.


def test_commands_without_rights_are_clear(make_pair: MakePair) -> None:
    """As nobody on an installed host: each a sentence, the right exit status, no traceback."""
    made = make_pair(failback="manual")
    standby = made.standby

    def nobody(*words: str) -> tuple[int, str]:
        done = standby.run(*NOBODY, "failover-monitor", *words, check=False)
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    code, told = nobody("status")
    assert code == 0
    assert "standby" in told
    for command in ("check", "doctor"):
        code, told = nobody(command)
        assert code == 78
        assert f"{CONFIG}: cannot be read: Permission denied; right: a file that root can" in told
    code, told = nobody("run")
    assert (code, told.partition("\n")[0]) == (
        1,
        "cannot start: /run/failover-monitor/lock: Permission denied",
    )
    assert nobody("ack")[0] == 1
    assert nobody("failback") == (1, "cannot fail back: we do not serve, the phase is standby\n")
    made.takeover()
    wait_until(lambda: standby.status()["phase"] == "active", 3, "the phase is active")
    made.primary.heal()
    standby.wait_for_state("active_alive", 5)
    code, told = nobody("failback")
    assert code == 1
    assert "Permission denied\nhint: " in told
    standby.run("chmod", "0644", CONFIG)
    code, told = nobody("doctor")
    assert code == 1
    assert "you are not root" in told
    made.primary.cut()
