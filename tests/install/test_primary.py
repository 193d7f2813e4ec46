"""What install.sh promises where stopping is enforced: a guarded primary, a standby with a lease.

The rule it keeps: as in `test_install`, only the real script on a real systemd.  What the guard
itself decides is tested in the lab; here it is what it finds, and what is left when it goes.
"""

import json
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.install.test_install import (
    BROKEN_MAIN,
    CONFIG,
    GOOD,
    SHIPPED,
    UNIT,
    files,
    install,
    installed,
    main_pid,
)
from tests.lab import rootfs, units
from tests.lab.hosts import Lab, SystemdHost, wait_until

ETC = "etc/systemd/system"
GUARD = {
    f"{ETC}/{UNIT}.d",
    f"{ETC}/{UNIT}.d/50-guard.conf",
    f"{ETC}/failover-monitor-reset.service",
    f"{ETC}/failover-monitor-again.service",
    f"{ETC}/failover-monitor-order.service",
}
ARMED, PERMIT = "/run/failover-monitor/armed", "/run/failover-monitor/permit"
ENABLED = units.RESTARTS + "[Install]\nWantedBy=multi-user.target\n"
PRIMARY: Mapping[str, Any] = {
    "role": "primary",
    "gateway_ip": "198.51.100.1",
    "standby_ip": "198.51.100.2",
    "services_to_manage": ["app.service", "worker.service"],
}


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A gateway and a standby that only have to answer."""
    with Lab() as lab:
        lab.plain("gateway", 1)
        lab.plain("standby", 2)
        yield lab


@pytest.fixture
def primary(lab: Lab) -> SystemdHost:
    """A bare primary whose service is enabled and runs, as before anybody thought of a guard."""
    binds = {str(rootfs.CHECKOUT): "/src", str(rootfs.wheelhouse()): "/wheels"}
    primary = lab.systemd("primary", 3, binds=binds)
    primary.install_units({"app.service": ENABLED, "worker.service": units.APP})
    primary.systemctl("enable", "--now", "app.service")
    configure(primary)
    return primary


def configure(host: SystemdHost, path: str = "/root/config.json", **keys: Any) -> None:
    host.write(path, json.dumps({**PRIMARY, **keys}), 0o640)


def gates(*names: str) -> set[str]:
    """The files and directories of these units' gates."""
    directories = {f"{ETC}/{name}.d" for name in names}
    return directories | {f"{path}/50-failover-monitor-gate.conf" for path in directories}


def enforcement(host: SystemdHost) -> set[str]:
    """What there is beside a unit or for a reset."""
    own = ("-reset.service", "-again.service", "-order.service")
    found = {path for path in files(host) if path.startswith(ETC)}
    return {path for path in found if ".d/" in path or path.endswith((".d", *own))}


def set_up(host: SystemdHost, *options: str) -> str:
    return installed(host, "--role", "primary", "--config", "/root/config.json", *options)


def test_a_primary_gets_its_guard_and_a_gate_for_every_service(primary: SystemdHost) -> None:
    """Once or twice, the same; and it is told what is beyond the guard's reach."""
    said = set_up(primary)
    assert "app.service is enabled at boot: the gate holds it back" in said
    assert "a frozen kernel is not covered" in said
    assert "ENABLED AT BOOT" not in said
    first = enforcement(primary)
    assert first == GUARD | gates("app.service", "worker.service")
    wait_until(lambda: primary.unit(UNIT)["ActiveState"] == "active", 10, "the guard runs")
    shown = primary.unit(UNIT)
    assert set(shown["OnFailure"].split()) >= {
        "failover-monitor-reset.service",
        "failover-monitor-again.service",
    }
    assert shown["Restart"] == "on-abort"
    assert "ExecStopPost" not in shown
    written = [f"/{path}" for path in first if path.endswith(".service")]
    primary.run("systemd-analyze", "verify", f"/{ETC}/{UNIT}", *written)
    said = installed(primary, "--role", "primary")
    assert said.count("unchanged") >= len([path for path in first if not path.endswith(".d")])
    assert enforcement(primary) == first


def test_a_live_primary_is_not_disturbed(primary: SystemdHost) -> None:
    """Nothing is stopped; and until the guard decides systemd may restart what crashes."""
    service = main_pid(primary, "app.service")
    set_up(primary, "--no-start")
    assert main_pid(primary, "app.service") == service
    assert primary.exists(PERMIT)
    assert not primary.exists(ARMED)
    primary.signal("app.service", signal.SIGKILL)
    wait_until(lambda: main_pid(primary, "app.service") not in {0, service}, 5, "restarted")


def test_an_idle_primary_starts_behind_a_closed_gate(primary: SystemdHost) -> None:
    """Where nothing runs nothing may start until the guard says so."""
    primary.systemctl("stop", "app.service")
    set_up(primary, "--no-start")
    assert not primary.exists(PERMIT)
    primary.systemctl("start", "app.service")
    assert not primary.running("app.service")


def test_upgrading_a_guard_resets_nothing(lab: Lab, primary: SystemdHost) -> None:
    """While it serves: another guard, the same service, the same boot."""
    set_up(primary)
    wait_until(lambda: primary.exists(ARMED), 10, "the guard serves")
    init, service, guard = primary.init, main_pid(primary, "app.service"), main_pid(primary, UNIT)
    for _ in range(2):
        installed(primary)
        assert main_pid(primary, UNIT) not in {0, guard}
        guard = main_pid(primary, UNIT)
    wait_until(lambda: primary.exists(ARMED) and primary.exists(PERMIT), 10, "it serves again")
    time.sleep(1)
    assert primary.init == init
    assert main_pid(primary, "app.service") == service


def test_gates_follow_the_list_and_the_role(primary: SystemdHost) -> None:
    """A unit off the list is free again; a host that is guarded no more has nothing left of it."""
    set_up(primary)
    configure(primary, CONFIG, services_to_manage=["app.service"])
    installed(primary)
    assert enforcement(primary) == GUARD | gates("app.service")
    primary.write(CONFIG, json.dumps(GOOD), 0o640)
    service = main_pid(primary, "app.service")
    said = installed(primary)
    assert enforcement(primary) == set()
    assert not primary.exists(PERMIT)
    assert "app.service is ENABLED AT BOOT" in said
    assert primary.unit(UNIT)["Restart"] == "always"
    assert main_pid(primary, "app.service") == service


def test_a_standby_with_a_lease_has_a_reset_and_an_order(primary: SystemdHost) -> None:
    """Its services must be gone in time, also when it goes down; only the monitor starts them."""
    lease = {"engine": "etcd", "endpoints": ["http://198.51.100.11:2379"]}
    primary.write("/root/config.json", json.dumps(GOOD | {"lease": lease}), 0o640)
    primary.systemctl("disable", "--now", "app.service")
    installed(primary, "--role", "standby", "--config", "/root/config.json", "--no-start")
    assert enforcement(primary) == GUARD | gates("app.service")
    (beside,) = (path for path in files(primary) if path.endswith("50-failover-monitor-gate.conf"))
    assert "Condition" not in primary.read(f"/{beside}")


def test_uninstalling_a_guard_leaves_its_services_free(primary: SystemdHost) -> None:
    """They run on, and may be started by anybody."""
    bare = files(primary)
    set_up(primary)
    wait_until(lambda: primary.exists(ARMED), 10, "the guard serves")
    init, service = primary.init, main_pid(primary, "app.service")
    installed(primary, "--uninstall", "--purge")
    assert files(primary) == bare
    assert not primary.exists("/run/failover-monitor")
    assert main_pid(primary, "app.service") == service
    primary.systemctl("restart", "app.service")
    assert main_pid(primary, "app.service") not in {0, service}
    assert primary.init == init


def test_a_guard_that_does_not_start_takes_its_gates_along(primary: SystemdHost) -> None:
    """A first installation that fails leaves services that run and can be started."""
    primary.run("sh", "-c", f"mkdir /new && cp -R {' '.join(f'/src/{n}' for n in SHIPPED)} /new/")
    primary.write("/new/failover_monitor/__main__.py", BROKEN_MAIN)
    init, service = primary.init, main_pid(primary, "app.service")
    done = install(primary, "--config", "/root/config.json", script="/new/install.sh")
    assert done.returncode == 1
    assert enforcement(primary) == set()
    assert main_pid(primary, "app.service") == service
    primary.systemctl("restart", "app.service")
    assert main_pid(primary, "app.service") not in {0, service}
    assert primary.init == init


@pytest.mark.parametrize(
    ("role", "keys", "words"),
    [
        ("primary", GOOD, 'add "role": "primary"'),
        ("standby", PRIMARY, "--role standby"),
        ("primary", {**PRIMARY, "services_to_manage": ["gone.service"]}, "does not exist"),
    ],
    ids=["no-role-in-it", "another-role", "no-such-service"],
)
def test_what_cannot_be_guarded_is_refused_before_anything_is_in_force(
    primary: SystemdHost, role: str, keys: Mapping[str, Any], words: str
) -> None:
    """The role that was asked for, and services that are there; else it says what to do."""
    primary.write("/root/config.json", json.dumps(keys), 0o640)
    done = install(primary, "--role", role, "--config", "/root/config.json")
    assert done.returncode not in {0, 2}
    assert words in done.stdout
    assert enforcement(primary) == set()
    assert primary.unit(UNIT)["LoadState"] == "not-found"


def test_a_role_that_does_not_exist_is_wrong_use(primary: SystemdHost) -> None:
    """As is a role beside --uninstall."""
    for options in (["--role", "witness"], ["--role"], ["--uninstall", "--role", "primary"]):
        done = install(primary, *options)
        assert done.returncode == 2
        assert "usage: install.sh" in done.stdout
