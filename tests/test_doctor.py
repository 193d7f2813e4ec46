"""`doctor`: each finding both ways, in a world of plain values; and a report that always ends.

Rule: nothing is sent, and nothing of this machine is looked at but what the test made.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from failover_monitor.commands import Ended
from failover_monitor.console import doctor, doctor_ask, doctor_checks, doctor_files, doctor_paths
from failover_monitor.console.doctor import STAGES, Stage
from failover_monitor.console.doctor_facts import (
    EchoesSeen,
    Facts,
    FileSeen,
    FilesSeen,
    Finding,
    HostSeen,
    LeaseSeen,
    Level,
    MonitorSeen,
    PathSeen,
    RoomSeen,
    SystemdSeen,
    UnitTried,
    failure,
    ok,
)
from failover_monitor.files import Paths, take_lock
from failover_monitor.model import (
    Answer,
    CheckSeen,
    FencePolicy,
    GuardPolicy,
    HookPolicy,
    HooksPolicy,
    LeasePolicy,
    Outcome,
    Policy,
    Role,
    Round,
    ServiceCheck,
)

OK, WARNING, FAILURE = Level.OK, Level.WARNING, Level.FAILURE
GATEWAY, PRIMARY, STANDBY, SECOND = "198.51.100.1", "198.51.100.2", "198.51.100.3", "203.0.113.2"
APP, DATA = "app.service", "data.mount"
TEXT = "{}"
ENDPOINTS = tuple(f"http://198.51.100.1{number}:2379" for number in (1, 2, 3))
GUARD = GuardPolicy(boot_hold_s=8)
LEASE = LeasePolicy(engine="etcd", endpoints=ENDPOINTS, name="pair", holder="standby")
CHECK = ServiceCheck(kind="tcp", name="web", options={"host": PRIMARY, "port": 80})

POLICY = Policy(primary=(PRIMARY,), references=(GATEWAY,), services=(APP, DATA))
GUARDED = Policy(
    primary=(),
    references=(GATEWAY,),
    services=(APP, DATA),
    role=Role.PRIMARY,
    standby=(STANDBY,),
    guard=GUARD,
)

UNIT = {
    "LoadState": "loaded",
    "ActiveState": "inactive",
    "UnitFileState": "disabled",
    "TimeoutStopUSec": "1min 30s",
    "NeedDaemonReload": "no",
}
STATUS: dict[str, Any] = {
    "stale_after_s": 45.0,
    "role": "standby",
    "phase": "standby",
    "verdict": "up",
    "why": "the primary answers",
    "attention": [],
    "flapping": False,
}
HOST = HostSeen(
    root=True,
    synchronised=True,
    boottime_works=True,
    rooms=(RoomSeen(path="/run", free_bytes=1 << 30, free_files=1000, read_only=False),),
    log_trouble="",
    log_bytes=1000,
    rotation_trouble="",
    watchdog_device=True,
)
MONITOR = MonitorSeen(
    running=True, status=STATUS, age_s=2.0, config_in_use=TEXT, capabilities=1 << 13
)
SYSTEMD = SystemdSeen(
    state="running",
    failed=(),
    monitor={"LoadState": "loaded", "UnitFileState": "enabled"},
    units={APP: UNIT, DATA: UNIT},
    starters={},
    watchdog="10s",
)
TRIED = {name: UnitTried(errors=(), unmet=()) for name in (APP, DATA)}
QUICK = (0.001, 0.002, 0.001, 0.001, 0.003)
PATHS = {
    PRIMARY: PathSeen(sent=5, rtts_s=QUICK, link="eth0", mac="02:00:00:00:00:02"),
    GATEWAY: PathSeen(sent=5, rtts_s=QUICK, link="eth0", mac="02:00:00:00:00:01"),
    STANDBY: PathSeen(sent=5, rtts_s=QUICK, link="eth0", mac="02:00:00:00:00:03"),
}
FILES = FilesSeen(
    named=(FileSeen(path="/usr/sbin/fence_x", what="fence command", trouble=""),),
    missing_drop_ins=(),
    permit=True,
)


def seen(outcome: Outcome) -> tuple[CheckSeen, ...]:
    return (CheckSeen("web", outcome, "as it said", 0.0, 1.0),)


def healthy(**changes: Any) -> Facts:
    """A standby where all is well, and what is different."""
    given: dict[str, Any] = {
        "policy": POLICY,
        "config_path": "/opt/failover-monitor/config.json",
        "config_text": TEXT,
        "host": HOST,
        "monitor": MONITOR,
        "systemd": SYSTEMD,
        "tried": TRIED,
        "bus_trouble": "",
        "echoes": EchoesSeen(impossible="", paths=PATHS),
        "files": FILES,
        "checks": seen(Outcome.PASS),
        "lease": LeaseSeen(endpoints=dict.fromkeys(ENDPOINTS, ""), holder="primary"),
    }
    return Facts(**{**given, **changes})


def guarded(**changes: Any) -> Facts:
    """A guarded primary that serves."""
    status = STATUS | {"role": "primary", "phase": "serving"}
    return healthy(**{"policy": GUARDED, "monitor": replace(MONITOR, status=status), **changes})


def host(**changes: Any) -> dict[str, Any]:
    return {"host": replace(HOST, **changes)}


def space(**changes: Any) -> dict[str, Any]:
    return host(rooms=(replace(HOST.rooms[0], **changes),))


def monitor(**changes: Any) -> dict[str, Any]:
    return {"monitor": replace(MONITOR, **changes)}


def status(**changes: Any) -> dict[str, Any]:
    return monitor(status=STATUS | changes)


def systemd(**changes: Any) -> dict[str, Any]:
    return {"systemd": replace(SYSTEMD, **changes)}


def unit(_starters: dict[str, dict[str, str]] | None = None, **changes: str) -> dict[str, Any]:
    """The first unit is different."""
    return systemd(units={APP: UNIT | changes, DATA: UNIT}, starters=_starters or {})


def tried(name: str = APP, **changes: Any) -> dict[str, Any]:
    return {"tried": TRIED | {name: replace(TRIED[name], **changes)}}


def path(address: str, **changes: Any) -> dict[str, Any]:
    return {"echoes": EchoesSeen(impossible="", paths=paths(address, **changes))}


def paths(address: str, **changes: Any) -> dict[str, PathSeen]:
    return PATHS | {address: replace(PATHS.get(address, PATHS[PRIMARY]), **changes)}


def policy(**changes: Any) -> dict[str, Any]:
    return {"policy": replace(POLICY, **changes)}


def files(**changes: Any) -> dict[str, Any]:
    return {"files": replace(FILES, **changes)}


def leased(**changes: Any) -> dict[str, Any]:
    endpoints = dict.fromkeys(ENDPOINTS, "")
    found = {"endpoints": endpoints, "holder": "primary"} | changes
    return {"policy": replace(POLICY, lease=LEASE), "lease": LeaseSeen(**found)}


@dataclass(frozen=True)
class Case:
    """A world, the question, and the finding that must be among the answers."""

    check: Callable[[Facts], Iterable[Finding]]
    facts: Facts
    level: Level
    words: str
    hint: str = ""


SERVES = status(phase="active", verdict="down")
LOST = {"rtts_s": ()}
c, p = doctor_checks, doctor_paths
CASES = [
    Case(c.doctor_is_root, healthy(), OK, "you are root"),
    Case(c.doctor_is_root, healthy(**host(root=False)), FAILURE, "not root", "sudo"),
    Case(c.clock_is_good, healthy(), OK, "is synchronised"),
    Case(c.clock_is_good, healthy(**host(synchronised=None)), OK, "goes on"),
    Case(c.clock_is_good, healthy(**host(synchronised=False)), WARNING, "not sync", "timedatectl"),
    Case(c.clock_is_good, healthy(**host(boottime_works=False)), FAILURE, "BOOTTIME", "Linux"),
    Case(c.room_is_left, healthy(), OK, "/run: 1024.0 MiB free"),
    Case(c.room_is_left, healthy(**space(free_bytes=0)), FAILURE, "is full", "make room"),
    Case(c.room_is_left, healthy(**space(free_bytes=9 << 20)), WARNING, "nearly full", "room"),
    Case(c.room_is_left, healthy(**space(free_files=0)), FAILURE, "no inode", "make room"),
    Case(c.room_is_left, healthy(**space(free_files=None)), OK, "free"),
    Case(c.room_is_left, healthy(**space(read_only=True)), FAILURE, "read-only", "remount"),
    Case(c.log_is_kept, healthy(), OK, "is rotated"),
    Case(c.log_is_kept, healthy(**host(log_trouble="cannot")), FAILURE, "cannot", "directory"),
    Case(c.log_is_kept, healthy(**host(rotation_trouble="no x")), WARNING, "no x", "install.sh"),
    Case(c.log_is_kept, healthy(**host(log_bytes=1 << 30)), WARNING, "1024 MiB", "logrotate"),
    Case(c.monitor_runs, healthy(), OK, "runs; it wrote 2.0 s ago"),
    Case(c.monitor_runs, healthy(**monitor(running=False)), FAILURE, "not running", "start"),
    Case(c.monitor_runs, healthy(**monitor(status=None)), FAILURE, "no status", "journalctl"),
    Case(c.monitor_runs, healthy(**monitor(age_s=46.0)), FAILURE, "stale", "restart"),
    Case(c.monitor_runs, healthy(**monitor(age_s=-5.0)), FAILURE, "stale", "restart"),
    Case(c.monitor_runs, healthy(**status(stale_after_s=None)), FAILURE, "stale", "restart"),
    Case(c.monitor_starts_at_boot, healthy(), OK, "started at boot"),
    Case(
        c.monitor_starts_at_boot,
        healthy(**systemd(monitor={"LoadState": "loaded", "UnitFileState": "disabled"})),
        FAILURE,
        "is disabled",
        "systemctl enable",
    ),
    Case(
        c.monitor_starts_at_boot,
        healthy(**systemd(monitor={"LoadState": "masked", "UnitFileState": "masked"})),
        FAILURE,
        "is masked",
        "systemctl unmask",
    ),
    Case(
        c.monitor_starts_at_boot,
        healthy(**systemd(monitor={"LoadState": "not-found"})),
        FAILURE,
        "no failover-monitor.service",
        "install.sh",
    ),
    Case(c.configuration_in_use, healthy(), OK, "as it is now"),
    Case(
        c.configuration_in_use,
        healthy(**monitor(config_in_use="{ }")),
        WARNING,
        "has changed",
        "systemctl reload",
    ),
    Case(
        c.configuration_in_use,
        healthy(**monitor(config_in_use="{ }", status=STATUS | {"role": "primary"})),
        FAILURE,
        "is now a standby's",
        "install.sh",
    ),
    Case(c.monitor_has_its_capability, healthy(), OK, "CAP_NET_RAW"),
    Case(
        c.monitor_has_its_capability,
        healthy(**monitor(capabilities=0)),
        FAILURE,
        "no CAP_NET_RAW",
        "install.sh",
    ),
    Case(c.phase_is_known, healthy(), OK, "standby, and the verdict is up"),
    Case(c.phase_is_known, healthy(**status(verdict="unknown")), WARNING, "no verdict", "wait"),
    Case(c.nothing_is_held, healthy(), OK, "nobody holds"),
    Case(c.nothing_is_held, healthy(**status(phase="claim")), FAILURE, "nobody serves", "status"),
    Case(c.nothing_is_held, healthy(**status(flapping=True)), FAILURE, "too many", "ack"),
    Case(c.nothing_is_held, healthy(**status(paused={"why": "x"})), FAILURE, "pause", "resume"),
    Case(c.attention_is_paid, healthy(**status(attention=["odd"])), WARNING, "odd", "status"),
    Case(c.systemd_is_well, healthy(), OK, "runs"),
    Case(
        c.systemd_is_well,
        healthy(**systemd(state="degraded", failed=("x.service",))),
        WARNING,
        "failed: x.service",
        "--failed",
    ),
    Case(c.systemd_is_well, healthy(**systemd(state="starting")), WARNING, "booting", "list-jobs"),
    Case(c.systemd_is_well, healthy(**systemd(state="stopping")), FAILURE, "stopping", "journal"),
    Case(c.systemd_is_well, healthy(**systemd(state="maintenance")), FAILURE, "mainten", "jobs"),
    Case(c.systemd_is_well, healthy(**systemd(state="offline")), FAILURE, "offline", "status"),
    Case(c.bus_answers, healthy(), OK, "answers"),
    Case(c.bus_answers, healthy(bus_trouble="no answer"), FAILURE, "no answer; the", "dbus"),
    Case(c.units_exist, healthy(), OK, "exists"),
    Case(c.units_exist, healthy(**unit(LoadState="not-found")), FAILURE, "does not", "install"),
    Case(c.units_exist, healthy(**unit(LoadState="masked")), FAILURE, "is masked", "unmask app"),
    Case(c.units_exist, healthy(**unit(LoadState="bad-setting")), FAILURE, "bad-setting", "verify"),
    Case(c.units_do_not_start_by_themselves, healthy(), OK, "nothing but the monitor"),
    Case(
        c.units_do_not_start_by_themselves,
        healthy(**unit(UnitFileState="enabled")),
        FAILURE,
        "is enabled",
        "systemctl disable app.service",
    ),
    Case(
        c.units_do_not_start_by_themselves,
        healthy(**unit({"app.socket": {"ActiveState": "active"}}, TriggeredBy="app.socket")),
        FAILURE,
        "started by app.socket",
        "disable --now app.socket",
    ),
    Case(
        c.units_do_not_start_by_themselves,
        healthy(**unit({"app.timer": {"UnitFileState": "enabled"}}, TriggeredBy="app.timer")),
        FAILURE,
        "started by app.timer",
        "app.timer",
    ),
    Case(
        c.units_do_not_start_by_themselves,
        healthy(**unit({"boss.service": {"ActiveState": "active"}}, WantedBy="boss.service")),
        FAILURE,
        "started by boss.service",
        "boss.service",
    ),
    Case(
        c.units_do_not_start_by_themselves,
        healthy(**unit({"app.path": {"ActiveState": "inactive"}}, TriggeredBy="app.path")),
        OK,
        "nothing but the monitor",
    ),
    Case(
        c.units_do_not_start_by_themselves,
        healthy(**unit({DATA: {"ActiveState": "active"}}, RequiredBy=DATA)),
        OK,
        "nothing but the monitor",
    ),
    Case(c.units_rest, healthy(), OK, "is inactive"),
    Case(
        c.units_rest,
        healthy(**unit(ActiveState="failed", Result="exit-code")),
        WARNING,
        "exit-code",
        "systemctl status",
    ),
    Case(
        c.units_rest, healthy(**unit(ActiveState="active")), FAILURE, "two active", "systemctl stop"
    ),
    Case(
        c.units_rest,
        healthy(**unit(ActiveState="active"), **status(verdict="unknown")),
        WARNING,
        "runs here already",
        "status",
    ),
    Case(c.units_rest, healthy(**unit(ActiveState="active"), **SERVES), OK, "is active"),
    Case(c.units_rest, guarded(**unit(ActiveState="active")), OK, "is active"),
    Case(c.units_stop_in_time, healthy(), OK, "stops within 90 s"),
    Case(
        c.units_stop_in_time,
        healthy(**unit(TimeoutStopUSec="infinity")),
        WARNING,
        "for ever",
        "TimeoutStopSec=30",
    ),
    Case(
        c.units_stop_in_time,
        healthy(**policy(guard=GUARD)),
        WARNING,
        "90 s to stop, and is killed after 4 s",
        "TimeoutStopSec=4",
    ),
    Case(
        c.units_stop_in_time,
        healthy(
            **policy(guard=GUARD), **systemd(units={APP: UNIT | {"TimeoutStopUSec": "3s 500ms"}})
        ),
        OK,
        "stops within 3.5 s",
    ),
    Case(c.units_are_read_again, healthy(**unit(NeedDaemonReload="yes")), WARNING, "cha", "reload"),
    Case(c.units_are_well_written, healthy(), OK, "no error"),
    Case(c.units_are_well_written, healthy(**tried(errors=("x:1: bad",))), FAILURE, "bad", "verif"),
    Case(c.conditions_are_met, healthy(), OK, "are met"),
    Case(
        c.conditions_are_met,
        healthy(**tried(unmet=("ConditionX=/y",))),
        FAILURE,
        "ConditionX",
        "cat",
    ),
    Case(
        c.conditions_are_met,
        healthy(**tried(DATA, unmet=("ConditionX=/y",))),
        WARNING,
        "unless a service before it",
        "cat",
    ),
    Case(
        c.conditions_are_met,
        guarded(**tried(unmet=("ConditionPathExists=/run/failover-monitor/permit",))),
        OK,
        "are met",
    ),
    Case(p.echoes_are_permitted, healthy(), OK, "can be sent"),
    Case(
        p.echoes_are_permitted,
        healthy(echoes=EchoesSeen(impossible="cannot open\nhint: it needs it", paths={})),
        FAILURE,
        "cannot open",
        "it needs it",
    ),
    Case(
        p.echoes_are_permitted,
        healthy(
            echoes=EchoesSeen(
                impossible="",
                paths={a: PathSeen(sent=5, rtts_s=(), refused="not permitted") for a in PATHS},
            )
        ),
        FAILURE,
        "no echo can leave this host: not permitted",
        "nft",
    ),
    Case(p.primary_answers, healthy(), OK, "answered 5 of 5 echoes in 1.0 to 3.0 ms"),
    Case(p.primary_answers, healthy(**path(PRIMARY, **LOST)), FAILURE, "none of 5", "active_ip"),
    Case(p.primary_answers, healthy(**path(PRIMARY, rtts_s=(0.1,))), WARNING, "1 of 5", "lost"),
    Case(p.primary_answers, healthy(**path(PRIMARY, **LOST), **SERVES), WARNING, "we serve"),
    Case(
        p.primary_answers,
        healthy(**path(PRIMARY, **LOST), **status(phase="claim")),
        WARNING,
        "a takeover is under way",
    ),
    Case(
        p.primary_answers,
        healthy(**policy(primary=(PRIMARY, SECOND)), **path(SECOND, **LOST)),
        WARNING,
        "another path",
        "cable",
    ),
    Case(p.references_answer, healthy(), OK, "answered 5 of 5"),
    Case(p.references_answer, healthy(**path(GATEWAY, **LOST)), FAILURE, "no takeover", "ICMP"),
    Case(
        p.references_answer,
        healthy(**path(GATEWAY, rtts_s=(), refused="no route")),
        FAILURE,
        "cannot be asked: no route",
        "ICMP",
    ),
    Case(
        p.references_answer,
        healthy(**policy(references=(GATEWAY, SECOND)), **path(SECOND, **LOST)),
        WARNING,
        "none of 5",
        "ICMP",
    ),
    Case(
        p.references_answer,
        healthy(
            **policy(references=(GATEWAY, SECOND), references_required=2), **path(SECOND, **LOST)
        ),
        FAILURE,
        "no takeover",
        "ICMP",
    ),
    Case(p.references_answer, guarded(**path(GATEWAY, **LOST)), FAILURE, "only while the", "ICMP"),
    Case(p.standby_answers, guarded(), OK, "answered 5 of 5"),
    Case(
        p.standby_answers, guarded(**path(STANDBY, **LOST)), WARNING, "nobody would", "standby_ip"
    ),
    Case(
        p.references_are_fast_enough,
        healthy(**path(GATEWAY, rtts_s=(0.1, 1.2))),
        FAILURE,
        "1200 ms; a check ends after 1000 ms",
        "nearer",
    ),
    Case(
        p.references_are_fast_enough,
        healthy(**path(GATEWAY, rtts_s=(0.1, 0.7))),
        WARNING,
        "700 ms of 1000 ms",
        "nearer",
    ),
    Case(p.references_test_the_same_way, healthy(), OK, "reached through eth0"),
    Case(
        p.references_test_the_same_way,
        healthy(**path(PRIMARY, link="eth1")),
        WARNING,
        "a fault of eth1 looks like",
        "witness behind eth1",
    ),
    Case(
        p.primary_is_on_our_link,
        healthy(**path(PRIMARY, router=GATEWAY)),
        WARNING,
        f"the router {GATEWAY}",
        "netmask",
    ),
    Case(p.references_are_other_hosts, healthy(**path(GATEWAY, ours=True)), WARNING, "this", "ano"),
    Case(
        p.references_are_other_hosts,
        healthy(**path(GATEWAY, mac=PATHS[PRIMARY].mac)),
        WARNING,
        f"the hardware address of {PRIMARY}",
        "its own",
    ),
    Case(
        p.references_are_other_hosts,
        guarded(**path(GATEWAY, mac=PATHS[STANDBY].mac)),
        WARNING,
        f"the hardware address of {STANDBY}",
        "its own",
    ),
    Case(p.enforcement_is_prepared, guarded(), OK, "in place"),
    Case(
        p.enforcement_is_prepared,
        guarded(**files(missing_drop_ins=("/etc/x.conf",))),
        FAILURE,
        "no /etc/x.conf",
        "install.sh",
    ),
    Case(p.gate_follows_the_guard, guarded(), OK, "is open"),
    Case(p.gate_follows_the_guard, guarded(**files(permit=False)), FAILURE, "is closed", "status"),
    Case(
        p.gate_follows_the_guard,
        guarded(**status(role="primary", phase="gated")),
        WARNING,
        "held back: the phase is gated",
        "status",
    ),
    Case(p.kernel_is_watched, guarded(), OK, "after 10s"),
    Case(
        p.kernel_is_watched, guarded(**host(watchdog_device=False)), WARNING, "/dev/watch", "hard"
    ),
    Case(p.kernel_is_watched, guarded(**systemd(watchdog="0")), WARNING, "is off", "RuntimeW"),
    Case(p.files_can_be_used, healthy(), OK, "fence_x can be used"),
    Case(
        p.files_can_be_used,
        healthy(**files(named=(FileSeen(path="/root/k", what="lease key", trouble="is hidden"),))),
        FAILURE,
        "/root/k is hidden",
        "sandbox",
    ),
    Case(p.hooks_can_be_run, healthy(**files(hooks={"on_event": ""})), OK, "can be run"),
    Case(
        p.hooks_can_be_run,
        healthy(
            **policy(hooks=HooksPolicy(pre_takeover=HookPolicy(command=("/h",), veto=True))),
            **files(hooks={"pre_takeover": "/h does not exist"}),
        ),
        FAILURE,
        "/h does not exist; it would hold every takeover",
        "settings.md",
    ),
    Case(p.services_are_well, healthy(), OK, "passes: as it said"),
    Case(
        p.services_are_well,
        healthy(checks=seen(Outcome.FAIL)),
        FAILURE,
        "holds no takeover",
        "prim",
    ),
    Case(
        p.services_are_well,
        healthy(
            checks=seen(Outcome.FAIL), **policy(service_checks=(replace(CHECK, trigger=True),))
        ),
        FAILURE,
        "a takeover follows",
        "service",
    ),
    Case(p.services_are_well, healthy(checks=seen(Outcome.FAIL), **SERVES), WARNING, "we serve"),
    Case(
        p.services_are_well,
        healthy(checks=seen(Outcome.UNKNOWN)),
        WARNING,
        "cannot tell",
        "options",
    ),
    Case(p.lease_members_answer, healthy(**leased()), OK, "answers, with a majority"),
    Case(
        p.lease_members_answer,
        healthy(**leased(endpoints={ENDPOINTS[0]: "refused", ENDPOINTS[1]: ""})),
        WARNING,
        "refused",
        "this member",
    ),
    Case(
        p.lease_members_answer,
        healthy(**leased(endpoints={ENDPOINTS[0]: "refused"})),
        FAILURE,
        "nobody takes over",
        "majority",
    ),
    Case(
        p.lease_members_are_elsewhere,
        healthy(**policy(lease=replace(LEASE, endpoints=ENDPOINTS[:1]))),
        WARNING,
        "has 1 endpoints",
        "three",
    ),
    Case(
        p.lease_members_are_elsewhere,
        healthy(**policy(lease=replace(LEASE, endpoints=(f"http://{PRIMARY}:2379",)))),
        WARNING,
        "it dies with it",
        "hosts of their own",
    ),
    Case(p.lease_is_held_by_the_primary, healthy(**leased()), OK, "held by primary"),
    Case(p.lease_is_held_by_the_primary, healthy(**leased(holder="")), WARNING, "nobody", "doctor"),
    Case(
        p.lease_is_held_by_the_primary,
        healthy(**leased(holder="standby")),
        WARNING,
        "this host's name",
        "holder",
    ),
    Case(
        p.lease_is_held_by_the_primary,
        guarded(policy=replace(GUARDED, lease=replace(LEASE, holder="primary"))),
        OK,
        "held by this host",
    ),
    Case(
        p.lease_is_held_by_the_primary,
        guarded(policy=replace(GUARDED, lease=LEASE)),
        WARNING,
        "held by primary, not by this host",
        "status",
    ),
]
CHECKS = [check for stage in STAGES for check in stage.checks]


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.check.__name__}: {case.level} {case.words}"
)
def test_each_question_is_answered_both_ways(case: Case) -> None:
    """The finding is there, with its cure, and nothing worse stands beside it."""
    found = list(case.check(case.facts))
    matching = next((f for f in found if case.words in f.what and f.level is case.level), None)
    assert matching is not None, found
    assert bool(matching.hint) is bool(case.hint)
    assert case.hint in matching.hint
    order = list(Level)
    assert max(order.index(f.level) for f in found) == order.index(case.level)


def test_every_question_has_a_good_and_a_bad_day() -> None:
    """No check is left out of the table above; what warns of nothing may say nothing."""
    silent = {
        c.attention_is_paid,
        c.units_are_read_again,
        p.references_are_fast_enough,
        p.primary_is_on_our_link,
        p.references_are_other_hosts,
        p.lease_members_are_elsewhere,
    }
    assert {case.check for case in CASES} == set(CHECKS)
    assert {case.check for case in CASES if case.level is not OK} == set(CHECKS)
    assert {case.check for case in CASES if case.level is OK} == set(CHECKS) - silent
    for check in silent:
        assert not list(check(healthy(**leased())))


@pytest.mark.parametrize("facts", [healthy(), guarded(), healthy(**leased())])
def test_a_healthy_host_is_all_well(facts: Facts) -> None:
    """Not one warning on a standby, nor on a primary, nor with a lease."""
    found = [finding for check in CHECKS for finding in check(facts)]
    bad = [finding for finding in found if finding.level is not OK]
    stops_late = facts.policy.enforced  # the units of this world may take 90 s
    assert [f for f in bad if not (stops_late and "is killed after" in f.what)] == []
    assert len(found) >= 20


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_what_was_not_seen_is_no_finding(check: Callable[[Facts], Iterable[Finding]]) -> None:
    """A look that failed says so once; no question guesses, and none stumbles."""
    for chosen in (
        POLICY,
        GUARDED,
        replace(POLICY, lease=LEASE, fence=FencePolicy(command=("/x",), options={})),
    ):
        facts = Facts(policy=chosen, config_path="x", config_text="")
        found = [f for f in check(facts) if check is not p.lease_members_are_elsewhere]
        assert found == []


@pytest.mark.parametrize("changes", [{"running": False}, {"age_s": 46.0}, {"status": None}])
def test_what_the_monitor_said_once_is_no_finding(changes: dict[str, Any]) -> None:
    """Its phase, its verdict and what it holds are told only while it is fresh."""
    old = healthy(monitor=replace(MONITOR, **changes))
    assert not old.fresh
    assert not old.serving
    for check in (c.phase_is_known, c.nothing_is_held, c.attention_is_paid):
        assert list(check(old)) == []
        assert list(check(healthy(**status(attention=["odd"]))))
    assert [f.level for f in p.primary_answers(with_silence(old))] == [FAILURE]


def with_silence(facts: Facts) -> Facts:
    """The primary has fallen silent."""
    facts.echoes = EchoesSeen(impossible="", paths=paths(PRIMARY, **LOST))
    return facts


def test_a_status_of_another_version_is_understood_as_far_as_it_goes() -> None:
    """Keys that are missing, or of another shape, are no traceback."""
    documents: tuple[dict[str, Any], ...] = (
        {},
        {"at_s": 1},
        {"attention": None, "phase": 7, "verdict": [], "paused": 0},
    )
    for document in documents:
        facts = healthy(monitor=replace(MONITOR, status=document))
        for check in CHECKS:
            list(check(facts))


@pytest.mark.parametrize(
    ("text", "length_s"),
    [
        ("1min 30s", 90.0),
        ("5s", 5.0),
        ("1.500000s", 1.5),
        ("200ms", 0.2),
        ("2h 1min", 7260.0),
        ("infinity", float("inf")),
        ("", None),
        ("soon", None),
        ("3 parsecs", None),
    ],
)
def test_spans_of_time_are_read_as_systemd_prints_them(text: str, length_s: float | None) -> None:
    """And what is none is none."""
    found = doctor_checks.span_s(text)
    assert found == (pytest.approx(length_s) if length_s is not None else None)


# What it reads from this host.


def test_a_file_is_judged_by_what_root_may_in_the_sandbox(tmp_path: Path) -> None:
    """Root there has no rights beyond those of the owner."""
    good = tmp_path / "etc" / "good"
    good.parent.mkdir()
    good.write_text("x")
    good.chmod(0o640)

    def told(path: str, *, run: bool = False) -> str:
        return doctor_files.trouble(tmp_path, path, run=run)

    os.chown(good, 0, 0)
    assert told("/etc/good") == ""
    assert told("/etc/good", run=True) == "is not executable"
    good.chmod(0o750)
    assert told("/etc/good", run=True) == ""
    assert told("/etc/none") == "cannot be used: No such file or directory"
    assert told("/etc") == "is not a file"
    good.chmod(0o600)
    os.chown(good, 1000, 1000)
    assert told("/etc/good") == "cannot be read: it is not root's to read"
    good.chmod(0o604)
    assert told("/etc/good") == ""
    os.chown(good.parent, 1000, 1000)
    good.parent.chmod(0o700)
    assert told("/etc/good") == "cannot be reached: /etc is closed to the monitor"


def test_the_sandbox_hides_homes_also_when_the_monitor_does_not_run() -> None:
    """Its unit says so: ProtectHome=, PrivateTmp=."""
    for path in ("/root/.ssh/known_hosts", "/home/a/key", "/tmp/x", "/run/user/0/x"):
        assert "hidden" in doctor_files.trouble(Path("/"), path, run=False)
    assert doctor_files.trouble(Path("/"), "/bin/sh", run=True) == ""
    assert "hidden" not in doctor_files.trouble(Path("/"), "/rooted/x", run=False)


def test_every_file_of_a_protection_is_named() -> None:
    """Fence, lease, keys of checks, commands."""
    found = list(
        doctor_files.named_files(
            replace(
                POLICY,
                fence=FencePolicy(command=("/f",), options={}),
                lease=replace(LEASE, ca="/ca", cert="/cert", key="/key"),
                service_checks=(
                    replace(CHECK, kind="unit", options={"identity": "/i", "known_hosts": "/k"}),
                    replace(CHECK, kind="command", options={"command": ["/c", "x"]}),
                    CHECK,
                ),
            )
        )
    )
    assert [path for _, path in found] == ["/f", "/ca", "/cert", "/key", "/i", "/k", "/c"]
    assert [what for what, _ in found if what.endswith("command")] == [
        "fence command",
        "check command",
    ]


def test_every_hook_is_looked_at_as_before_a_run() -> None:
    """Outside of the sandbox, since it runs there; by name."""
    policy = HooksPolicy(
        pre_takeover=HookPolicy(command=("/bin/true",)),
        on_event=HookPolicy(command=("/no/such/hook",)),
    )
    assert doctor_files.hook_troubles(replace(POLICY, hooks=policy)) == {
        "pre_takeover": "",
        "on_event": "/no/such/hook does not exist",
    }
    assert doctor_files.hook_troubles(POLICY) == {}


def test_the_holder_of_the_lock_is_found(tmp_path: Path) -> None:
    """By the kernel's own list, so that its capabilities and its sandbox can be seen."""
    paths_ = Paths(tmp_path)
    assert doctor_files.lock_holder(paths_.lock) is None
    lock = take_lock(paths_.lock)
    assert lock is not None
    try:
        assert doctor_files.lock_holder(paths_.lock) == os.getpid()
        assert doctor_files.look_at_monitor(paths_).running
    finally:
        os.close(lock)
    assert doctor_files.lock_holder(paths_.lock) is None
    assert doctor_files.capabilities(os.getpid()) is not None
    assert doctor_files.capabilities(2**30) is None


def test_the_host_is_looked_at(tmp_path: Path) -> None:
    """Rooms that are there, the log, its rotation."""
    paths_ = Paths(tmp_path)
    (tmp_path / "var/log").mkdir(parents=True)
    found = doctor_files.look_at_host(paths_)
    assert found.boottime_works
    assert found.log_trouble == ""
    assert "logrotate.d" in found.rotation_trouble
    assert [room.path for room in found.rooms]
    paths_.log.mkdir()
    assert "is not a file" in doctor_files.look_at_host(paths_).log_trouble
    rule = tmp_path / "etc/logrotate.d/failover-monitor"
    rule.parent.mkdir(parents=True)
    rule.write_text("")
    assert "logrotate.d" not in doctor_files.rotation_trouble(paths_)
    assert "no directory" in doctor_files.log_of(Paths(tmp_path / "elsewhere"))[1]


# What it asks of programs.


@pytest.mark.parametrize(
    ("status", "output", "errors"),
    [
        (0, "x.service:2: Unknown key 'Foo' in section [Unit], ignoring.\n", ()),
        (1, "x:2: Unknown key, ignoring.\nx.service: Command /y is not executable\n", 2),
        (1, "systemd-analyze: unrecognized option '--recursive-errors=no'\n", None),
        (None, "", None),
    ],
)
def test_what_verify_says(status: int | None, output: str, errors: Any) -> None:
    """Errors first; a systemd-analyze that is too old says nothing."""
    found = doctor_ask.errors_in(Ended(status, output))
    if errors == 2:
        assert found is not None
        assert found[0] == "x.service: Command /y is not executable"
        assert len(found) == 2
    else:
        assert found == errors


@pytest.mark.parametrize(
    ("status", "output", "unmet"),
    [
        (0, "x.service: ConditionPathExists=|/y failed.\n", ()),
        (
            1,
            "x.service: ConditionPathExists=/y failed.\nConditions failed.\n",
            ("ConditionPathExists=/y",),
        ),
        (1, "Unit x.service not found.\n", None),
        (None, "", None),
    ],
)
def test_what_condition_says(status: int | None, output: str, unmet: Any) -> None:
    """One line for each condition that does not hold."""
    assert doctor_ask.unmet_in(Ended(status, output), "x.service") == unmet


async def test_systemd_is_asked_without_a_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units, and what starts them, in the order that was asked for."""
    units = {
        "failover-monitor.service": {"Id": "failover-monitor.service"},
        APP: {"Id": APP, "TriggeredBy": "app.socket"},
        DATA: {"Id": DATA, "RequiredBy": APP},
        "app.socket": {"Id": "app.socket", "ActiveState": "active"},
    }

    async def run_command(words: Iterable[str], *, timeout_s: float) -> Ended:
        given = list(words)
        if "show" in given and "--" in given:
            asked = given[given.index("--") + 1 :]
            blocks = ("\n".join(f"{k}={v}" for k, v in units[name].items()) for name in asked)
            return Ended(0, "\n\n".join(blocks) + "\n")
        if "is-system-running" in given:
            return Ended(1, "degraded\n", "it ended with status 1")
        return Ended(0, "x.service loaded failed failed X\n" if "list-units" in given else "10s\n")

    monkeypatch.setattr(doctor_ask, "run_command", run_command)
    found = await doctor_ask.ask_systemd(POLICY)
    assert (found.state, found.failed, found.watchdog) == ("degraded", ("x.service",), "10s")
    assert found.units == {APP: units[APP], DATA: units[DATA]}
    assert found.starters == {"app.socket": units["app.socket"]}
    assert found.monitor == units["failover-monitor.service"]


async def test_a_systemd_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the program's own words."""

    async def run_command(words: Iterable[str], *, timeout_s: float) -> Ended:
        return Ended(None, "", "it did not end within 3 s")

    monkeypatch.setattr(doctor_ask, "run_command", run_command)
    with pytest.raises(doctor_ask.UnansweredError, match="did not end"):
        await doctor_ask.ask_systemd(POLICY)


class EchoingProbe:
    """Answers every echo to those who live, through a pipe that becomes readable."""

    def __init__(self, alive: set[str], refused: str = "") -> None:
        self.reader, self.writer = os.pipe()
        self.alive, self.refused = alive, refused
        self.sent: list[str] = []
        self.waiting: list[Answer] = []

    def send(self, address: str, round_: Round) -> str:
        assert not round_.repair
        self.sent.append(address)
        if address in self.alive:
            self.waiting.append(Answer(address, round_.number, round_.sent_s))
            os.write(self.writer, b"x")
        return "" if address in self.alive else self.refused

    def receive(self) -> list[Answer]:
        os.read(self.reader, 1000)
        taken, self.waiting = self.waiting, []
        return taken

    def filenos(self) -> list[int]:
        return [self.reader]

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


async def test_echoes_are_counted_and_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few to each address, and what was refused; it does not wait for who is refused."""
    monkeypatch.setattr(doctor_ask, "SPACING_S", 0.001)
    probe = EchoingProbe({PRIMARY}, refused="no route")
    began_s = time.monotonic()
    refused, rtts_s = await doctor_ask.echo(probe, POLICY)
    probe.close()
    assert time.monotonic() - began_s < doctor_ask.LATEST_S
    assert refused == {PRIMARY: "", GATEWAY: "no route"}
    assert len(rtts_s[PRIMARY]) == doctor_ask.ECHOES
    assert all(0 <= rtt_s < 1 for rtt_s in rtts_s[PRIMARY])
    assert rtts_s[GATEWAY] == []
    assert probe.sent.count(GATEWAY) == doctor_ask.ECHOES


async def test_the_way_there_is_read_from_ip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interface, router, hardware address; a scope is asked with its interface."""
    asked: list[list[str]] = []

    async def run_command(words: Iterable[str], *, timeout_s: float) -> Ended:
        asked.append(list(words))
        if "neigh" in asked[-1]:
            return Ended(0, '[{"dst":"fe80::2","dev":"eth1","lladdr":"02:1"},{"dst":"x"}]')
        if "fe80::2" in asked[-1]:
            return Ended(0, '[{"dst":"fe80::2","dev":"eth1"}]')
        return Ended(2, "RTNETLINK answers: Network is unreachable")

    monkeypatch.setattr(doctor_ask, "run_command", run_command)
    assert await doctor_ask.routes(["fe80::2%eth1", GATEWAY]) == [
        {"dst": "fe80::2", "dev": "eth1"},
        {},
    ]
    assert asked[0][-3:] == ["fe80::2", "oif", "eth1"]
    assert await doctor_ask.neighbours() == {("eth1", "fe80::2"): "02:1"}


async def test_service_checks_are_run_once_each() -> None:
    """All three answers come back, in order, and a slow one is given up."""
    commands = {"passes": "true", "fails": "exit 2", "hangs": "sleep 60"}
    checks = tuple(
        ServiceCheck(
            kind="command",
            name=name,
            options={"command": ["/bin/sh", "-c", text], "pass": [0], "fail": [2]},
            interval_s=0.1,
            timeout_s=0.5 if name == "hangs" else 20.0,
        )
        for name, text in commands.items()
    )
    found = await doctor_ask.ask_services(replace(POLICY, service_checks=checks))
    outcomes = [Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN]
    assert [(seen.name, seen.outcome) for seen in found] == list(
        zip(commands, outcomes, strict=True)
    )
    assert await doctor_ask.ask_services(POLICY) == ()
    assert await doctor_ask.ask_lease(POLICY) is None


# The command.


def stage(look: Any, *checks: Any, field: str = "checks") -> Stage:
    return Stage(field=field, subject="thing", look=look, checks=checks, hint="do this")


async def empty(*_given: object) -> tuple[()]:
    return ()


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    config = tmp_path / "config.json"
    keys = {"gateway_ip": GATEWAY, "active_ip": PRIMARY, "services_to_manage": [APP]}
    config.write_text(json.dumps(keys))
    return argparse.Namespace(config=config, paths=Paths(tmp_path), json=False)


def test_the_report_tells_level_subject_what_and_hint(
    options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure makes it 1, and the last line says how it stands."""
    told = stage(empty, lambda _: iter([ok("a", "good"), failure("b", "bad", "mend it")]))
    monkeypatch.setattr(doctor, "STAGES", (told,))
    assert doctor.doctor(options) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["ok", "a", "good"]
    assert lines[2].split() == ["failure", "b", "bad"]
    assert lines[3].strip() == "hint: mend it"
    assert lines[-1] == "A failover now is NOT sure to work: 2 ok, 0 warning, 1 failure."


def test_no_failure_is_zero_also_with_warnings(
    options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A warning is for working hours."""
    told = stage(empty, lambda _: iter([Finding(WARNING, "a", "odd")]))
    monkeypatch.setattr(doctor, "STAGES", (told,))
    assert doctor.doctor(options) == 0
    assert "is sure to work" in capsys.readouterr().out


def test_the_report_for_programs(
    options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One document, the same exit status."""
    options.json = True
    told = stage(empty, lambda _: iter([failure("b", "bad", "mend it")]))
    monkeypatch.setattr(doctor, "STAGES", (told,))
    assert doctor.doctor(options) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["failover_would_work"] is False
    assert document["findings"][1] == {
        "level": "failure",
        "subject": "b",
        "what": "bad",
        "hint": "mend it",
    }


async def hangs(*_given: object) -> None:
    await asyncio.sleep(3600)


async def hangs_in_a_thread(*_given: object) -> None:
    never = threading.Event()
    await doctor.apart(never.wait)


async def refuses(*_given: object) -> None:
    raise doctor_ask.UnansweredError("it said no")


@pytest.mark.parametrize(
    ("look", "words"),
    [(hangs, "no answer within"), (hangs_in_a_thread, "no answer within"), (refuses, "it said no")],
)
def test_what_hangs_is_a_finding_and_costs_little(
    options: argparse.Namespace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    look: Any,
    words: str,
) -> None:
    """All looks begin at once, each has its limit, and those after it are still told."""
    monkeypatch.setattr(doctor, "LOOK_S", 0.2)
    after = stage(empty, lambda _: iter([ok("later", "is told")]), field="lease")
    monkeypatch.setattr(doctor, "STAGES", (stage(look), stage(look, field="host"), after))
    began_s = time.monotonic()
    assert doctor.doctor(options) == 1
    assert time.monotonic() - began_s < 5
    told = capsys.readouterr().out
    assert told.count(f"cannot be looked at: {words}") == 2
    assert "is told" in told
    assert "hint: do this" in told


def test_a_configuration_on_a_hanging_disk_is_a_finding(
    options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the only one: everything else follows from it."""
    monkeypatch.setattr(doctor, "READ_S", 0.1)
    never = threading.Event()
    monkeypatch.setattr(doctor, "load", lambda path: never.wait())
    assert doctor.doctor(options) == 1
    assert "cannot be read: no answer within" in capsys.readouterr().out


def test_a_bad_configuration_is_78_with_its_problems(
    options: argparse.Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `check` says them; nothing is looked at."""
    options.config.write_text('{"gateway_ip": 3}')
    assert doctor.doctor(options) == os.EX_CONFIG
    told = capsys.readouterr()
    assert "gateway_ip" in told.err
    assert told.out == ""


def test_all_limits_together_are_less_than_fifteen_seconds() -> None:
    """Reading, then all looks at once, then a moment to end what hangs."""
    grace_s = 2.0  # of a command that cannot be killed
    assert doctor.READ_S + doctor.LOOK_S + grace_s < 15
    beside_s = doctor_ask.CALM_S + doctor_ask.ECHOES * doctor_ask.SPACING_S
    assert beside_s + doctor_ask.LATEST_S + 2 * doctor_ask.ASK_S > doctor_ask.QUESTION_S
    assert beside_s + doctor_ask.LATEST_S + doctor_ask.ASK_S < doctor.LOOK_S
    assert doctor_ask.QUESTION_S + grace_s < doctor.LOOK_S


def test_ctrl_c_in_the_middle_is_130_and_no_traceback(tmp_path: Path) -> None:
    """What was asked is ended with it: no command of a check runs on."""
    mark = tmp_path / "began"
    script = f"""
import asyncio, signal, sys
from failover_monitor import cli
from failover_monitor.console import doctor
from failover_monitor.commands import run_command
async def look(*given):
    await run_command(["/bin/sh", "-c", "echo $$ > {mark}; exec sleep 60"], timeout_s=60)
stage = doctor.Stage(field="host", subject="x", look=look, checks=(), hint="")
doctor.STAGES = (stage,)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(cli.main(["doctor", "--config", "{tmp_path}/config.json"]))
"""
    keys = {"gateway_ip": GATEWAY, "active_ip": PRIMARY, "services_to_manage": [APP]}
    (tmp_path / "config.json").write_text(json.dumps(keys))
    with subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        until_s = time.monotonic() + 20
        while not (mark.exists() and mark.read_text()) and time.monotonic() < until_s:
            time.sleep(0.02)
        process.send_signal(2)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, "")
    assert "is good" in out
    assert not Path(f"/proc/{mark.read_text().strip()}").exists()
