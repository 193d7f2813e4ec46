"""What install.sh promises, seen on bare hosts that have no network to the outside and no compiler.

The rule it keeps: only the real script, on a real systemd, with the real product; the locked
libraries come from a folder of wheels, as they would on a host without a way out.
"""

import json
import os
import re
import signal
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.lab import rootfs, units
from tests.lab.hosts import HOST_ENVIRONMENT, Lab, LightHost, SystemdHost, TreeHost, wait_until

UNIT = "failover-monitor.service"
AGENT = "failover-monitor-agent.service"
HOME = "/opt/failover-monitor"
CONFIG = f"{HOME}/config.json"
STATE = "/run/failover_monitor_state"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
GOOD = {
    "gateway_ip": "198.51.100.1",
    "active_ip": "198.51.100.2",
    "ping_interval": 1,
    "retry_interval": 0.5,
    "startup_grace": 0,
    "services_to_manage": ["app.service"],
}
TOLD = GOOD | {"notify": [{"url": "json://user:hunter2@198.51.100.9/x", "name": "hook"}]}
OURS = ("opt/failover-monitor", "etc/systemd/system", "etc/logrotate.d", "usr/local/bin")


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A gateway and a primary that only have to answer."""
    with Lab() as lab:
        lab.plain("gateway", 1)
        lab.plain("primary", 2)
        yield lab


@pytest.fixture
def standby(lab: Lab) -> SystemdHost:
    """A bare standby with the service that is to be moved."""
    return new_standby(lab)


@pytest.fixture
def watching(lab: Lab) -> SystemdHost:
    """A standby on which an installed monitor runs and sees the primary."""
    watching = new_standby(lab, rootfs.installed_tree())
    watching.write(CONFIG, json.dumps(GOOD), 0o640)
    watching.systemctl("enable", "--now", UNIT)
    wait_until(lambda: state(watching) == "active_alive\n", 10, "the primary is seen")
    return watching


def new_standby(lab: Lab, *layers: Path) -> SystemdHost:
    binds = {str(rootfs.CHECKOUT): "/src", str(rootfs.wheelhouse()): "/wheels"}
    standby = lab.systemd("standby", 3, layers=layers, binds=binds)
    standby.install_units({"app.service": units.APP})
    standby.write("/root/good.json", json.dumps(GOOD))
    return standby


def install(
    host: TreeHost, *options: str, script: str = "/src/install.sh"
) -> subprocess.CompletedProcess[str]:
    """Run install.sh on a host; stdout carries both streams."""
    words = ("sh", "-c", 'exec "$@" 2>&1', "sh", script, *options)
    return host.run(*words, check=False, within=120, env=OFFLINE)


def installed(host: TreeHost, *options: str) -> str:
    """Run install.sh, which must end well; what it printed."""
    done = install(host, *options)
    assert done.returncode == 0, done.stdout
    return done.stdout


def main_pid(host: SystemdHost, name: str) -> int:
    return int(host.unit(name)["MainPID"])


def state(host: TreeHost) -> str:
    return host.read(STATE)


def mode(host: TreeHost, path: str) -> int:
    return stat.S_IMODE(host.path(path).stat().st_mode)


def files(host: TreeHost) -> set[str]:
    """Every file below the directories that the installation writes to."""
    shell = "cd / && find " + " ".join(OURS) + " 2>/dev/null; true"
    return set(host.run("sh", "-c", shell).stdout.split())


def releases(host: TreeHost) -> list[str]:
    return sorted(path.name for path in host.path(f"{HOME}/releases").iterdir())


def test_a_bare_host_gets_everything_and_the_example_does_not_start(standby: SystemdHost) -> None:
    """Nine steps, each said; the shipped example is installed, refused kindly and not started."""
    assert standby.run("sh", "-c", "command -v cc gcc", check=False).returncode != 0
    said = installed(standby)
    assert re.findall(r"^\[(\d)/9\]", said, re.MULTILINE) == list("123456789")
    assert "still the example" in said
    assert "systemctl enable --now failover-monitor" in said
    assert standby.unit(UNIT)["ActiveState"] == "inactive"
    assert standby.unit(UNIT)["UnitFileState"] == "disabled"
    assert standby.read(CONFIG) == (rootfs.CHECKOUT / "config.json").read_text()
    assert mode(standby, CONFIG) == 0o640
    assert standby.run("failover-monitor", "check", check=False).returncode == 78
    standby.run("failover-monitor", "--help")
    standby.run("logrotate", "--debug", "/etc/logrotate.d/failover-monitor")
    standby.run("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}")


def test_the_edited_example_starts_with_the_command_that_was_told(standby: SystemdHost) -> None:
    """What the installation says is left to do is all that is left to do."""
    installed(standby)
    standby.write(CONFIG, json.dumps(GOOD), 0o640)
    standby.systemctl("enable", "--now", "failover-monitor")
    wait_until(lambda: state(standby) == "active_alive\n", 10, "the primary is seen")


def test_a_good_configuration_starts_in_a_sandbox(standby: SystemdHost) -> None:
    """It runs, sees the primary, is enabled at boot, and may do little else."""
    said = installed(standby, "--config", "/root/good.json")
    assert "it runs" in said
    assert standby.unit(UNIT)["ActiveState"] == "active"
    assert standby.unit(UNIT)["UnitFileState"] == "enabled"
    wait_until(lambda: state(standby) == "active_alive\n", 10, "the primary is seen")
    standby.run("failover-monitor", "status")
    assert "Traceback" not in standby.journal(UNIT)
    assert standby.unit(AGENT)["UnitFileState"] == "disabled"
    assert standby.unit(AGENT)["ActiveState"] == "inactive"
    # Exposure 2.0 at most; the threshold is given in tenths.
    standby.run("systemd-analyze", "security", "--threshold=20", UNIT)


def test_the_agent_comes_and_goes_with_its_keys(standby: SystemdHost) -> None:
    """Enabled and started when somebody is to be told; renewed, switched off, and removed."""
    bare = files(standby)
    standby.write("/root/told.json", json.dumps(TOLD))
    said = installed(standby, "--config", "/root/told.json")
    assert "failover-monitor agent --test" in said
    wait_until(lambda: standby.unit(AGENT)["ActiveState"] == "active", 10, "the agent runs")
    assert standby.unit(AGENT)["UnitFileState"] == "enabled"
    standby.run("systemd-analyze", "verify", f"/etc/systemd/system/{AGENT}")
    tried = standby.run("failover-monitor", "agent", "--test", check=False)
    assert tried.returncode == 1
    assert "cannot tell hook" in tried.stderr
    before = main_pid(standby, AGENT)
    installed(standby)
    assert main_pid(standby, AGENT) not in {0, before}

    standby.write(CONFIG, json.dumps(GOOD), 0o640)
    assert f"{AGENT} is off" in installed(standby)
    assert standby.unit(AGENT)["ActiveState"] == "inactive"
    assert standby.unit(AGENT)["UnitFileState"] == "disabled"

    standby.write(CONFIG, json.dumps(TOLD), 0o640)
    installed(standby)
    assert standby.exists("/var/lib/private/failover-monitor-agent/state.json")
    kept = [line for line in installed(standby, "--uninstall").splitlines() if "kept:" in line]
    assert kept[-1].endswith(", /var/lib/failover-monitor-agent")
    assert standby.exists("/var/lib/private/failover-monitor-agent/state.json")
    installed(standby, "--uninstall", "--purge")
    assert files(standby) == bare
    assert standby.unit(AGENT)["LoadState"] == "not-found"
    assert not standby.run("sh", "-c", "ls -d /var/lib/*/failover* || true").stdout
    assert not standby.running(AGENT)


def test_an_upgrade_leaves_the_services_and_the_configuration_alone(
    lab: Lab, watching: SystemdHost
) -> None:
    """While it serves: another monitor, the same service; then the primary returns to it all.

    The new one runs the hooks that the configuration has got meanwhile.
    """
    lab.hosts["primary"].cut()
    watching.wait_for("app.service", "active", 15)
    hooks = {"post_failback": {"command": ["/usr/bin/touch", "/run/given-back"]}}
    edited = json.dumps(GOOD | {"hooks": hooks}, indent=4) + "\n\n"
    watching.write(CONFIG, edited, 0o600)
    monitor, service = main_pid(watching, UNIT), main_pid(watching, "app.service")

    said = installed(watching, "--config", "/root/good.json")

    assert "was not installed: there is one already" in said
    assert main_pid(watching, "app.service") == service
    assert main_pid(watching, UNIT) not in {0, monitor}
    assert watching.read(CONFIG) == edited
    assert mode(watching, CONFIG) == 0o600
    assert len(releases(watching)) == 1
    wait_until(lambda: state(watching) == "active_dead\n", 10, "it still serves")
    lab.hosts["primary"].heal()
    watching.wait_for("app.service", "inactive", 15)
    wait_until(lambda: watching.exists("/run/given-back"), 15, "the hook has run")


def test_a_dry_run_changes_nothing(standby: SystemdHost) -> None:
    """Neither on a bare host nor on an installed one, and it says every step."""
    bare = files(standby)
    assert installed(standby, "--dry-run").count("/9]") == 9
    assert files(standby) == bare
    installed(standby, "--config", "/root/good.json")
    before, monitor = files(standby), main_pid(standby, UNIT)
    assert installed(standby, "--dry-run").count("/9]") == 9
    assert installed(standby, "--uninstall", "--purge", "--dry-run").count("/4]") == 4
    assert files(standby) == before
    assert main_pid(standby, UNIT) == monitor


def test_uninstalling_keeps_what_is_the_operators_and_purging_does_not(
    lab: Lab, standby: SystemdHost
) -> None:
    """Configuration, history and log survive the first; a service that runs survives both."""
    bare = files(standby)
    installed(standby, "--config", "/root/good.json")
    wait_until(lambda: state(standby) == "active_alive\n", 10, "the primary is seen")
    lab.hosts["primary"].cut()
    standby.wait_for("app.service", "active", 15)
    service = main_pid(standby, "app.service")

    installed(standby, "--uninstall")
    left = {"opt/failover-monitor", "opt/failover-monitor/config.json"}
    assert files(standby) - bare == left
    assert standby.exists("/var/lib/failover-monitor/events.jsonl")
    assert standby.exists("/var/log/failover_monitor.log")
    assert not standby.exists(STATE)
    assert standby.unit(UNIT)["LoadState"] == "not-found"

    installed(standby, "--uninstall", "--purge")
    assert files(standby) == bare
    assert not standby.exists("/var/lib/failover-monitor")
    assert not standby.exists("/var/log/failover_monitor.log")
    assert main_pid(standby, "app.service") == service


def test_without_systemd_it_installs_and_says_what_is_left(lab: Lab) -> None:
    """In a chroot or an image build there is nothing to start, and that is no failure."""
    host: LightHost = lab.light("image", 4)
    for name, source in (("src", rootfs.CHECKOUT), ("wheels", rootfs.wheelhouse())):
        copied = host.path("/") / name
        host.run("mkdir", f"/{name}")
        subprocess.run(["cp", "-R", *_shipped(source), str(copied)], check=True)
    host.write("/root/good.json", json.dumps(GOOD))
    said = installed(host, "--config", "/root/good.json")
    assert "systemd is not running here" in said
    assert "systemctl enable --now failover-monitor" in said
    host.run("failover-monitor", "check")


def _shipped(source: Path) -> list[str]:
    """What of a directory an installation needs: not the tools' own directories."""
    return [str(path) for path in source.iterdir() if not path.name.startswith((".", "tests"))]


def test_interrupted_at_any_step_the_old_monitor_is_whole(watching: SystemdHost) -> None:
    """Ctrl-C in an upgrade: the monitor runs, nothing half-made is left, the next run finishes."""
    monitor = main_pid(watching, UNIT)
    for step in range(1, 9):
        upgrade = started(watching)
        until_step(upgrade, step)
        said = interrupted(upgrade)
        assert upgrade.returncode != 0
        assert "interrupted" in said
        assert main_pid(watching, UNIT) == monitor
        left = files(watching)
        assert not [path for path in left if path.endswith(".new")], left
        for name in releases(watching):
            assert watching.exists(f"{HOME}/releases/{name}/complete")
        watching.run("failover-monitor", "check")
    installed(watching)
    assert watching.unit(UNIT)["ActiveState"] == "active"
    assert len(releases(watching)) == 1


def started(host: SystemdHost, *options: str) -> "subprocess.Popen[str]":
    """Start install.sh as the leader of a process group, as a terminal does."""
    return host.popen(
        "/src/install.sh",
        *options,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=HOST_ENVIRONMENT | OFFLINE,
    )


def interrupted(run: "subprocess.Popen[str]") -> str:
    """Ctrl-C, and again: bash loses one that comes just as a command of its own has ended."""
    for _ in range(60):
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return run.communicate(timeout=1)[0]
    raise AssertionError("install.sh goes on after Ctrl-C")


def until_step(run: "subprocess.Popen[str]", step: int) -> None:
    """Read on until a step is announced."""
    assert run.stdout
    for line in run.stdout:
        if line.startswith(f"[{step}/9]"):
            return
    raise AssertionError(f"install.sh ended before step {step}")


def test_killed_half_way_the_next_run_finishes(standby: SystemdHost) -> None:
    """Nothing that install.sh could do at its end is needed: SIGKILL leaves no lock and no ruin."""
    first = started(standby, "--config=/root/good.json")
    until_step(first, 4)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate(timeout=10)
    assert "never finished" in installed(standby, "--config=/root/good.json")
    assert standby.unit(UNIT)["ActiveState"] == "active"
    assert len(releases(standby)) == 1


def test_two_at_once_do_not_mix(standby: SystemdHost) -> None:
    """The second says that another one is at work, and changes nothing."""
    first = started(standby)
    until_step(first, 1)
    second = install(standby)
    assert second.returncode == 1
    assert "another install.sh is at work" in second.stdout
    first.communicate(timeout=60)
    assert first.returncode == 0


def test_a_bad_configuration_is_told_and_the_running_monitor_goes_on(watching: SystemdHost) -> None:
    """An upgrade over a spoilt config.json must not turn the watch off."""
    monitor = main_pid(watching, UNIT)
    watching.write(CONFIG, json.dumps(GOOD | {"ping_intervall": 3}), 0o640)
    done = install(watching)
    assert done.returncode == 78
    assert "ping_intervall" in done.stdout
    assert main_pid(watching, UNIT) == monitor
    mentions = json.dumps(GOOD | {"ping_intervall": 3}) + "\n// not 192.0.2.1 any more\n"
    watching.write(CONFIG, mentions, 0o640)
    assert install(watching).returncode == 78
    watching.write(CONFIG, json.dumps(GOOD), 0o640)
    installed(watching)
    assert len(releases(watching)) == 1


def test_a_configuration_that_the_sandbox_hides_is_told(watching: SystemdHost) -> None:
    """Root may read any file; the sandboxed monitor only its own, and would die of it at night."""
    monitor = main_pid(watching, UNIT)
    watching.run("chown", "65534:65534", CONFIG)
    done = install(watching)
    assert done.returncode == 78
    assert f"chown root:root {CONFIG}" in done.stdout
    assert main_pid(watching, UNIT) == monitor


def test_a_release_that_does_not_start_gives_way_to_the_one_before(watching: SystemdHost) -> None:
    """The monitor that is known to work is back in force before install.sh ends."""
    before = watching.run("readlink", f"{HOME}/current").stdout
    words = f"mkdir /new && cp -R {' '.join(f'/src/{n}' for n in SHIPPED)} /new/"
    watching.run("sh", "-c", words)
    watching.write("/new/failover_monitor/__main__.py", BROKEN_MAIN)
    done = install(watching, script="/new/install.sh")
    assert done.returncode == 1
    assert "is in force again" in done.stdout
    assert watching.run("readlink", f"{HOME}/current").stdout == before
    wait_until(lambda: watching.unit(UNIT)["ActiveState"] == "active", 10, "the old one runs")


SHIPPED = (
    *("install.sh", "failover_monitor", "requirements.lock", "config.json"),
    *(UNIT, "failover-monitor.logrotate", "failover-monitor-guard.conf"),
    *("failover-monitor-reset.service", "failover-monitor-again.service"),
    *("failover-monitor-gate.conf", "failover-monitor-order.conf"),
    AGENT,
    "failover-monitor-order.service",
)
BROKEN_MAIN = """\
import sys

from failover_monitor.cli import main

sys.exit(1 if "run" in sys.argv else main())
"""


def test_units_that_would_spoil_a_takeover_are_told(standby: SystemdHost) -> None:
    """Enabled at boot, masked, missing: each is said loudly, and none stops the installation."""
    services = ["app.service", "early.service", "hidden.service", "nowhere.service"]
    standby.install_units({"early.service": units.ENABLED})
    standby.systemctl("enable", "early.service")
    standby.systemctl("mask", "hidden.service")
    standby.write("/root/good.json", json.dumps(GOOD | {"services_to_manage": services}))
    said = installed(standby, "--config", "/root/good.json")
    assert "early.service is ENABLED AT BOOT" in said
    assert "hidden.service is MASKED" in said
    assert "nowhere.service DOES NOT EXIST" in said
    assert "app.service is" not in said


def test_no_start_leaves_the_monitor_as_it_is(standby: SystemdHost) -> None:
    """Neither a first start nor a restart, and the release that still runs is kept."""
    installed(standby, "--config", "/root/good.json", "--no-start")
    assert standby.unit(UNIT)["ActiveState"] == "inactive"
    standby.systemctl("enable", "--now", UNIT)
    monitor = main_pid(standby, UNIT)
    installed(standby, "--no-start")
    assert main_pid(standby, UNIT) == monitor
    assert len(releases(standby)) == 2


def test_nobody_watching_means_unknown(watching: SystemdHost) -> None:
    """Stopped or killed leaves `unknown`; but not over the word of a monitor that runs by hand."""
    watching.signal(UNIT, signal.SIGKILL)
    wait_until(lambda: state(watching) == "unknown\n", 10, "unknown when it has died")
    assert main_pid(watching, UNIT) == 0, "before it is started again"
    wait_until(lambda: state(watching) == "active_alive\n", 10, "it was started again")
    watching.systemctl("stop", UNIT)
    assert state(watching) == "unknown\n"
    assert mode(watching, STATE) == 0o644

    by_hand = watching.popen("failover-monitor", "run", stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    wait_until(lambda: state(watching) == "active_alive\n", 10, "the one by hand sees it")
    assert watching.run("systemctl", "start", UNIT, check=False).returncode != 0
    watching.systemctl("stop", UNIT)
    assert state(watching) == "active_alive\n"
    os.killpg(by_hand.pid, signal.SIGTERM)
    by_hand.wait(10)


def test_wrong_use_is_told_before_anything_happens(standby: SystemdHost) -> None:
    """Unknown options, options that do not go together, a missing file, not being root."""
    bare = files(standby)
    for options in (["--bogus"], ["--purge"], ["--config"], ["--uninstall", "--config", "/x"]):
        done = install(standby, *options)
        assert done.returncode == 2
        assert "usage: install.sh" in done.stdout
    assert "cannot read '/nowhere'" in install(standby, "--config", "/nowhere").stdout
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/src/install.sh")
    done = standby.run(*nobody, check=False)
    assert done.returncode == 1
    assert "not root" in done.stderr
    assert "Nothing on this host was changed." in done.stderr
    assert files(standby) == bare
    assert "usage: install.sh" in installed(standby, "--help")


def test_the_locks_hold_what_the_project_asks_for() -> None:
    """Each dependency is locked in a version that fits, by hash, and from no particular index."""
    project = tomllib.loads((rootfs.CHECKOUT / "pyproject.toml").read_text())
    asked = {
        "requirements.lock": project["project"]["dependencies"],
        "tests/requirements.lock": project["dependency-groups"]["dev"],
    }
    for name, requirements in asked.items():
        text = (rootfs.CHECKOUT / name).read_text()
        locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)(?= .*\\\n    --hash=)", text, re.MULTILINE))
        assert len(locked) == text.count("==") - text.count(" == ")
        assert "://" not in text
        for requirement in map(Requirement, requirements):
            if requirement.name == "systemd-python":
                assert requirement.name not in locked  # the operating system's: needs no compiler
            else:
                assert requirement.specifier.contains(locked[requirement.name])
