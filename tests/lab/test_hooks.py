"""Hooks on real hosts: their order, a veto, and what they may do to the watch (nothing)."""

import re
import time
from typing import Any

import pytest

from tests.lab import rootfs
from tests.lab.hosts import Lab, SystemdHost, wait_until
from tests.lab.pair import APP, MONITOR, Pair, Standby, pair

pytestmark = pytest.mark.timeout(200)

HOOK = "/usr/local/sbin/hook"
RUNS = "/etc/hook.runs"  # where nothing in the monitor's sandbox may write
NAMES = ("pre_takeover", "post_takeover", "pre_failback", "post_failback")
# What a hook does in these tests, beside noting what it saw, is written into a file of its name.
TEXT = f"""\
#!/bin/sh
echo "$FAILOVER_HOOK $FAILOVER_PHASE $(systemctl is-active {APP})" >> {RUNS}
test ! -e "/etc/hook.$FAILOVER_HOOK" || . "/etc/hook.$FAILOVER_HOOK"
"""
VERDICT_S = 2.5  # of the quick profile, at most
SLACK_S = 2.0  # for systemd to start and to end a unit, on a busy machine


def hooked(lab: Lab, *names: str, moods: dict[str, str] | None = None, **keys: Any) -> Pair:
    """A pair with these hooks; `keys` go to each of them."""
    hooks = {name: {"command": [HOOK], "timeout": 5} | keys for name in names}
    made = pair(lab, watch=False, hooks=hooks)
    made.standby.write(HOOK, TEXT, 0o755)
    for name, script in (moods or {}).items():
        mood(made, name, script)
    made.standby.watch()
    return made


def mood(p: Pair, name: str, script: str) -> None:
    p.standby.write(f"/etc/hook.{name}", script + "\n")


def runs(p: Pair) -> list[str]:
    return p.standby.read(RUNS).splitlines() if p.standby.exists(RUNS) else []


def units_left(host: SystemdHost) -> str:
    return host.systemctl(
        "list-units", "--all", "--plain", "--no-legend", "failover-monitor-hook-*"
    )


def memory_kb(standby: Standby) -> int:
    """What the monitor's process holds."""
    status = standby.path(f"/proc/{standby.systemctl('show', MONITOR, '--value', '-p', 'MainPID')}")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", (status / "status").read_text())[0])


def test_hooks_stand_around_a_takeover_and_a_failback_outside_of_the_sandbox(lab: Lab) -> None:
    """Each sees the services as they should be; it may write to /etc and set an address."""
    address = "203.0.113.9/32 dev lo"
    moods = {"post_takeover": f"ip address add {address}"}
    moods["pre_failback"] = f"ip address del {address}"
    p = hooked(lab, *NAMES, moods=moods)
    p.takeover()
    wait_until(lambda: len(runs(p)) == 2, 10, "both hooks of the takeover ran")
    wait_until(lambda: "203.0.113.9" in p.standby.run("ip", "address").stdout, 5, "the address")
    p.failback()
    wait_until(lambda: len(runs(p)) == 4, 10, "both hooks of the failback ran")
    assert runs(p) == [
        "pre_takeover claim inactive",
        "post_takeover active active",
        "pre_failback failback active",
        "post_failback standby inactive",
    ]
    assert "203.0.113.9" not in p.standby.run("ip", "address").stdout
    assert "hook failed" not in re.sub(r"hook \w+", "hook", p.standby.log())
    wait_until(lambda: units_left(p.standby) == "", 5, "no unit of a hook is left")


def test_a_veto_holds_the_takeover_and_status_says_why(lab: Lab) -> None:
    """Until the hook succeeds: it is tried again every 30 s."""
    p = hooked(lab, "pre_takeover", veto=True, moods={"pre_takeover": "echo no replica; exit 3"})
    p.primary.cut()
    p.standby.wait_for_log("it holds the takeover", VERDICT_S + SLACK_S + 5)
    why = "it ended with status 3: no replica"

    def said() -> bool:
        shown = p.standby.run("failover-monitor", "status", check=False).stdout
        return f"the takeover waits for hook pre_takeover: failed, {why}" in shown

    wait_until(said, 10, "status says why")
    time.sleep(3)
    assert not p.standby.running(APP)
    mood(p, "pre_takeover", "exit 0")
    p.standby.wait_for(APP, "active", 40)


def test_a_hook_that_hangs_delays_neither_verdict_nor_failback_beyond_its_limit(lab: Lab) -> None:
    """Nor does what it has started outlive it, in a session of its own and deaf to SIGTERM."""
    hang = "setsid sh -c \"trap '' TERM; sleep 777; sleep 777\" & trap '' TERM; wait; sleep 888"
    moods = dict.fromkeys(("pre_takeover", "pre_failback"), hang)
    p = hooked(lab, *moods, moods=moods, timeout=3)
    stamp = p.primary.cut()
    p.standby.wait_for_state("active_dead", VERDICT_S + 5)
    assert time.monotonic() - stamp <= VERDICT_S + 1
    p.standby.wait_for(APP, "active", 20)
    assert p.standby.active_since(APP) - stamp <= VERDICT_S + 3 + 1 + SLACK_S
    assert p.failback() <= 0.5 + 3 + SLACK_S
    p.standby.wait_for_log("hook pre_failback failed: it did not end within 3 s", 10)
    assert "hook pre_takeover failed: it did not end within 3 s" in p.standby.log()
    assert p.standby.run("pgrep", "-f", "sleep 777", check=False).stdout == ""


def test_what_a_hook_leaves_running_ends_with_it(lab: Lab) -> None:
    """A hook that forks away has ended: nothing waits for its children, and they are ended."""
    moods = {"pre_takeover": "setsid sleep 777 & exit 0"}
    p = hooked(lab, *moods, moods=moods, timeout=60)
    assert p.takeover() <= VERDICT_S + SLACK_S
    gone = ("pgrep", "-f", "sleep 777")
    wait_until(lambda: not p.standby.run(*gone, check=False).stdout, 5, "its child is gone")


def test_a_gigabyte_of_output_costs_neither_memory_nor_the_watch(lab: Lab) -> None:
    """The primary returns while it pours: seen at once. Only the last line is kept."""
    moods = {"post_takeover": "head -c 1000000000 /dev/zero | tr '\\0' x; echo; echo the end"}
    p = hooked(lab, *moods, moods=moods, timeout=60)
    before_kb = memory_kb(p.standby)
    p.takeover()
    wait_until(lambda: runs(p), 10, "it pours")
    assert p.failback() <= 2.0
    p.standby.wait_for_log("hook post_takeover ended after", 60)
    assert memory_kb(p.standby) - before_kb < 4096
    (line,) = (line for line in p.standby.log().splitlines() if "ended after" in line)
    assert line.endswith(" s: the end")
    assert "evidence dropped" not in p.standby.log()


def test_a_script_that_its_group_may_write_is_refused_with_its_path(lab: Lab) -> None:
    """By `check`, and before a run; the monitor watches all the same, and takes over."""
    p = hooked(lab, "pre_takeover", "on_event")
    p.standby.run("chmod", "775", HOOK)
    checked = p.standby.run("failover-monitor", "check", check=False)
    assert checked.returncode == 78
    assert f"hooks.pre_takeover.command: {HOOK} can be written by its group" in checked.stderr
    p.standby.systemctl("restart", MONITOR)
    p.standby.wait_for_state("active_alive", 10)
    assert p.takeover() <= VERDICT_S + SLACK_S
    told = f"hook pre_takeover failed: {HOOK} can be written by its group"
    assert told in p.standby.log()
    assert runs(p) == []


def test_a_restart_ends_the_hook_that_runs_and_runs_it_again(lab: Lab) -> None:
    """One at a time, also across two processes of the monitor."""
    moods = {"post_takeover": "test $(wc -l < /etc/hook.runs) -ge 2 || exec sleep 777"}
    p = hooked(lab, *moods, moods=moods, timeout=60)
    p.takeover()
    wait_until(lambda: len(runs(p)) == 1, 10, "it hangs")
    p.standby.signal(MONITOR)
    p.standby.wait_for_log("hook post_takeover ended after", 20)
    assert len(runs(p)) == 2
    assert p.standby.run("pgrep", "-f", "sleep 777", check=False).stdout == ""


def test_events_are_passed_on(lab: Lab) -> None:
    """In order, as JSON, by a command of the operator's."""
    note = 'echo "$FAILOVER_EVENT" >> /etc/hook.events'
    p = hooked(lab, "on_event", moods={"on_event": note})
    p.takeover()
    events = "/etc/hook.events"
    wait_until(lambda: p.standby.exists(events), 10, "an event was passed on")
    wait_until(lambda: p.standby.read(events).count("\n") >= 3, 10, "three were")
    kinds = re.findall(r'"kind": "(\w+)"', p.standby.read(events))
    assert kinds[:3] == ["verdict", "transition", "transition"]


def test_a_systemd_that_is_executed_anew_is_no_success_of_a_hook(lab: Lab) -> None:
    """An upgrade of systemd amid a takeover: what it waits for has really ended first."""
    moods = {"pre_takeover": "sleep 4; touch /etc/hook.done"}
    p = hooked(lab, *moods, moods=moods, veto=True, timeout=20)
    p.primary.cut()
    wait_until(lambda: runs(p), 10, "the hook runs")
    p.standby.systemctl("daemon-reexec", within=30)
    p.standby.wait_for(APP, "active", 60)
    assert p.standby.exists("/etc/hook.done")
    done_s = p.standby.path("/etc/hook.done").stat().st_mtime
    began = re.findall(r"^(\S+ \S+),\d+ .* start app.service", p.standby.log(), re.MULTILINE)
    assert time.mktime(time.strptime(began[0], "%Y-%m-%d %H:%M:%S")) >= int(done_s)


def test_a_hook_is_tried_by_hand_as_the_page_says(lab: Lab) -> None:
    """The command of docs/settings.md, word for word."""
    page = (rootfs.CHECKOUT / "docs/settings.md").read_text()
    (line,) = re.findall(r"^systemd-run --wait .*$", page, re.MULTILINE)
    p = pair(lab, watch=False)
    p.standby.write("/usr/local/sbin/tell-us", TEXT, 0o755)
    p.standby.run("sh", "-c", line)
    assert runs(p) == ["post_takeover  inactive"]
