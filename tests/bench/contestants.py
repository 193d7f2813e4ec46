"""Who is compared: this product under four configurations, a loop of `ping -c1`, and keepalived.

Rule: all of them watch the same primary, from hosts that are made alike, and start and stop the
same unit with `systemctl start` and `systemctl stop`, or what amounts to it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.lab import units
from tests.lab.hosts import Host, Lab, LightHost, SystemdHost, wait_until
from tests.lab.network import LAN
from tests.lab.pair import APP, CONFIG, MONITOR, QUICK, Standby

WITNESS = 4
FIRST_LIGHT = 11
LOOP_SOURCE = Path(__file__).with_name("loop.py")
LOOP = ("/usr/bin/python3", "-I", "/opt/loop.py", f"{LAN}1", f"{LAN}2", APP)
KEEPALIVED_CONF = "/etc/keepalived/keepalived.conf"
CALLS = "/var/lib/systemctl-calls"

# On a host without systemd this stands in its place: it notes what is asked, and shows it.
SYSTEMCTL = f"""\
#!/bin/sh
[ "$1" = --no-ask-password ] && shift
[ "$1" = --no-block ] && shift
case $1 in
start) echo "start $(cut -d' ' -f1 /proc/uptime)" >> {CALLS}; : > /run/app-runs;;
stop) echo "stop $(cut -d' ' -f1 /proc/uptime)" >> {CALLS}; rm -f /run/app-runs;;
show)
    shift 3
    for unit; do
        state=inactive
        [ "$unit" = {APP} ] && [ -e /run/app-runs ] && state=active
        echo "LoadState=loaded"
        echo "ActiveState=$state"
        echo
    done;;
esac
"""


class Contestant(Protocol):
    """One program with one configuration."""

    @property
    def name(self) -> str: ...

    @property
    def steady_s(self) -> float:
        """How often it looks while all is well: the cuts are spread evenly over this."""

    @property
    def serving_s(self) -> float:
        """How often it looks while the primary is dark: the returns are spread over this."""

    @property
    def exact(self) -> bool:
        """Whether it works in milliseconds, so that nothing else may run while it is measured."""

    @property
    def service(self) -> str:
        """The unit of its own daemon."""

    def pair(self, lab: Lab, layers: Sequence[Path]) -> tuple[Host, SystemdHost]:
        """A primary and a standby that watches it."""

    def light(self, lab: Lab, count: int, layers: Sequence[Path]) -> list[LightHost]:
        """So many standbys without an init, all watching one primary; none hears another."""


@dataclass(frozen=True, kw_only=True)
class Ours:
    """The product; `keys` go beside gateway, primary and services, None takes a default."""

    name: str
    keys: Mapping[str, Any]
    steady_s: float
    serving_s: float = 0.5
    exact: bool = False
    service: str = MONITOR

    def configuration(self) -> dict[str, Any]:
        keys = {**QUICK, "retry_interval": None, "startup_grace": None, **self.keys}
        return {key: value for key, value in keys.items() if value is not None}

    def pair(self, lab: Lab, layers: Sequence[Path]) -> tuple[Host, SystemdHost]:
        primary = _surroundings(lab)
        keys = dict.fromkeys(QUICK) | self.configuration()
        standby = lab.add(Standby(lab, keys=keys, layers=layers))
        standby.watch()
        return primary, standby

    def light(self, lab: Lab, count: int, layers: Sequence[Path]) -> list[LightHost]:
        _surroundings(lab)
        files = {CONFIG: _json(self.configuration())}
        hosts = _light_hosts(lab, count, files, layers)
        for host in hosts:
            _background(host, "failover-monitor", "run")
        state = "/run/failover_monitor_state"
        for host in hosts:
            wait_until(
                lambda host=host: host.exists(state) and "alive" in host.read(state),  # type: ignore[misc]
                60,
                f"{host.name}: {self.name} watches",
            )
        return hosts


@dataclass(frozen=True, kw_only=True)
class Loop:
    """`loop.py` as a unit, or in the background."""

    name: str = "loop of `ping -c1`"
    steady_s: float = 3.0
    serving_s: float = 4.0  # the pause, and the second that ping waits
    exact: bool = False
    service: str = "loop.service"

    def pair(self, lab: Lab, layers: Sequence[Path]) -> tuple[Host, SystemdHost]:
        del layers
        primary = _surroundings(lab)
        unit = f"[Service]\nExecStart={' '.join(LOOP)}\n"
        files = {"/opt/loop.py": LOOP_SOURCE.read_text()}
        return primary, _systemd_standby(lab, files, {self.service: unit})

    def light(self, lab: Lab, count: int, layers: Sequence[Path]) -> list[LightHost]:
        del layers
        _surroundings(lab)
        files = {"/opt/loop.py": LOOP_SOURCE.read_text()}
        hosts = _light_hosts(lab, count, files, ())
        for host in hosts:
            _background(host, *LOOP)
        return hosts


@dataclass(frozen=True, kw_only=True)
class Keepalived:
    """Debian's keepalived on both hosts, its notify scripts starting and stopping the unit."""

    name: str
    steady_s: float  # between two adverts
    serving_s: float = field(default=1.0)
    exact: bool = False
    service: str = "keepalived.service"

    def pair(self, lab: Lab, layers: Sequence[Path]) -> tuple[Host, SystemdHost]:
        del layers
        lab.plain("gateway", 1)
        serving = _systemd_host(
            lab, "primary", 2, {KEEPALIVED_CONF: self.configuration([51], primary=True)}
        )
        standby = _systemd_standby(
            lab, {KEEPALIVED_CONF: self.configuration([51])}, {}, self.service
        )
        serving.systemctl("start", self.service)
        serving.wait_for(APP, "active", 20)
        wait_until(lambda: not standby.running(APP), 20, "the standby stands by")
        return serving, standby

    def light(self, lab: Lab, count: int, layers: Sequence[Path]) -> list[LightHost]:
        del layers
        lab.plain("gateway", 1)
        # One virtual router for each standby, so that none of them hears of another's mistakes.
        routers = range(51, 51 + count)
        serving = lab.light(
            "primary",
            2,
            files={
                KEEPALIVED_CONF: self.configuration(routers, primary=True),
                "/usr/bin/systemctl": SYSTEMCTL,
            },
        )
        serving.run("chmod", "755", "/usr/bin/systemctl")
        hosts = _light_hosts(lab, count, {}, ())
        for host, router in zip(hosts, routers, strict=True):
            host.write(KEEPALIVED_CONF, self.configuration([router]))
        for host in [serving, *hosts]:
            _background(host, "keepalived", "--dont-fork", "--vrrp", "--log-console")
        wait_until(lambda: serving.exists("/run/app-runs"), 20, "the primary is master")
        return hosts

    def configuration(self, routers: Sequence[int], *, primary: bool = False) -> str:
        """Defaults, but for the advert; those below a second need version 3."""
        version = "vrrp_version 3\n" if self.steady_s < 1 else ""
        instances = "".join(
            f"""
vrrp_instance pair{router} {{
    state {"MASTER" if primary else "BACKUP"}
    interface eth0
    virtual_router_id {router}
    priority {150 if primary else 100}
    advert_int {self.steady_s:g}
    virtual_ipaddress {{
        {LAN}{router + 49}
    }}
    notify_master "/usr/bin/systemctl start {APP}"
    notify_backup "/usr/bin/systemctl stop {APP}"
    notify_fault "/usr/bin/systemctl stop {APP}"
}}
"""
            for router in routers
        )
        return f"global_defs {{\nscript_user root\n{version}}}\n{instances}"


FIVE_KEYS = Ours(name="five keys alone", steady_s=3, keys={"ping_interval": 3})
SHIPPED = Ours(
    name="shipped example",
    steady_s=3,
    keys={"ping_interval": 3, "retry_interval": 1.5, "witness_ips": [f"{LAN}{WITNESS}"]},
)
FAST = Ours(
    name="fast profile",
    steady_s=1,
    keys={"ping_interval": 1, "retry_interval": 0.75},
)
SUB_SECOND = Ours(
    name="sub-second profile",
    steady_s=0.1,
    serving_s=0.1,
    exact=True,
    keys={"ping_interval": 0.1, "ping_timeout": 0.05, "retry_interval": 0.075},
)
LOOP_OF_PING = Loop()
KEEPALIVED = Keepalived(name="keepalived, default (1 s)", steady_s=1)
KEEPALIVED_FAST = Keepalived(
    name="keepalived, adverts each 0.1 s", steady_s=0.1, serving_s=0.1, exact=True
)
ALL: tuple[Contestant, ...] = (
    FIVE_KEYS,
    SHIPPED,
    FAST,
    SUB_SECOND,
    LOOP_OF_PING,
    KEEPALIVED,
    KEEPALIVED_FAST,
)


def _surroundings(lab: Lab) -> Host:
    """Gateway, witness and primary: kernels that answer."""
    lab.plain("gateway", 1)
    lab.plain("witness", WITNESS)
    return lab.plain("primary", 2)


def _systemd_host(
    lab: Lab,
    name: str,
    number: int,
    files: Mapping[str, str],
    more_units: Mapping[str, str] | None = None,
) -> SystemdHost:
    all_units = {APP: units.APP, "pin.service": units.pin(APP)} | dict(more_units or {})
    unit_files = {f"/etc/systemd/system/{unit}": text for unit, text in all_units.items()}
    host = lab.systemd(name, number, files=unit_files | dict(files))
    host.systemctl("start", "pin.service")
    return host


def _systemd_standby(
    lab: Lab, files: Mapping[str, str], more_units: Mapping[str, str], service: str = ""
) -> SystemdHost:
    standby = _systemd_host(lab, "standby", 3, files, more_units)
    standby.systemctl("start", service or next(iter(more_units)))
    return standby


def _light_hosts(
    lab: Lab, count: int, files: Mapping[str, str], layers: Sequence[Path]
) -> list[LightHost]:
    hosts = []
    for number in range(FIRST_LIGHT, FIRST_LIGHT + count):
        host = lab.light(
            f"s{number}", number, layers=layers, files={**files, "/usr/bin/systemctl": SYSTEMCTL}
        )
        host.run("chmod", "755", "/usr/bin/systemctl")
        # Standbys hear the others of their switch, but not each other.
        lab.switch.namespace.run("bridge", "link", "set", "dev", host.port.name, "isolated", "on")
        hosts.append(host)
    return hosts


def _background(host: LightHost, *words: str) -> None:
    """Start a daemon, at the niceness that our unit file gives to ours."""
    log = (host.home / "daemon").open("wb")
    host.popen("nice", "-n", "-10", *words, stdout=log, stderr=log)


def _json(keys: Mapping[str, Any]) -> str:
    return json.dumps(keys, indent=2) + "\n"
