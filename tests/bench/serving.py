"""Pairs of hosts that can both serve, each kept by one of the programs that are compared.

Rule: primary and standby are booted hosts with the same service; every program keeps the service on
the primary while that lives, and brings it back there (nobody runs with failback switched off).
Where a program manages an address of its own, clients use it; else they try both hosts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.bench.contestants import KEEPALIVED_CONF, LOOP, LOOP_SOURCE, SHIPPED, WITNESS
from tests.lab.hosts import Lab, SystemdHost
from tests.lab.network import LAN
from tests.lab.pair import APP, MONITOR, QUICK, Guarded, Standby

GATEWAY, PRIMARY, STANDBY, CLIENT = 1, 2, 3, 5
PORT = 8080
VIRTUAL = f"{LAN}100"
BROKEN = "/run/broken"  # while a host has this, the service cannot start there
SOURCE = Path(__file__).with_name("serve.py")
SERVICE = f"""\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
ExecStartPre=/usr/bin/test ! -e {BROKEN}
ExecStart=/usr/bin/python3 -I -S /opt/serve.py {PORT}
[Install]
WantedBy=multi-user.target
"""
PROGRAM = {"/opt/serve.py": SOURCE.read_text()}
FILES = PROGRAM | {f"/etc/systemd/system/{APP}": SERVICE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """A pair that serves."""

    primary: SystemdHost
    standby: SystemdHost
    address: str = ""  # the one that clients use; "" = either host's own

    def lose_power(self) -> float:
        """Crash the primary; the moment it went dark."""
        stamp = self.primary.crash()
        # The lab's namespaces outlive their hosts; what a program added there would not.
        self.primary.namespace.ip(f"addr flush dev eth0 to {VIRTUAL}/32")
        return stamp


class Keeper(Protocol):
    """One program with one configuration."""

    @property
    def key(self) -> str:
        """Its short name, for the command line."""

    @property
    def name(self) -> str: ...

    def serve(self, lab: Lab, product: Sequence[Path]) -> Both:
        """Both hosts, the primary about to serve; `product` are the layers that hold ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """`loop.py` on the standby; the primary starts the service at boot, as ever."""

    key: str = "loop"
    name: str = "loop of `ping -c1`"

    def serve(self, lab: Lab, product: Sequence[Path]) -> Both:
        del product
        loop = f"[Service]\nExecStart={' '.join(LOOP)}\n"
        files = {"/opt/loop.py": LOOP_SOURCE.read_text(), "/etc/systemd/system/loop.service": loop}
        primary = _independent(lab)
        standby = lab.systemd("standby", STANDBY, files=FILES | files)
        standby.systemctl("start", "loop.service")
        return Both(primary=primary, standby=standby)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalived:
    """Debian's keepalived on both hosts, at its defaults; it moves a virtual address.

    Either the notify scripts start and stop the service on both hosts.  Or the primary starts it at
    boot, and a track script, at its defaults too, gives the address away while it does not run:
    then no notify script may touch it there, since a service that waits for the address, which
    waits for the service, would never come up.
    """

    key: str
    name: str
    tracks: bool

    def serve(self, lab: Lab, product: Sequence[Path]) -> Both:
        del product
        configuration = self._configuration("MASTER", 150, tracks=self.tracks)
        primary = lab.systemd("primary", PRIMARY, files=FILES | {KEEPALIVED_CONF: configuration})
        configuration = self._configuration("BACKUP", 100, tracks=False)
        standby = lab.systemd("standby", STANDBY, files=FILES | {KEEPALIVED_CONF: configuration})
        if self.tracks:
            primary.systemctl("enable", "--now", APP)
        for host in (primary, standby):
            host.systemctl("enable", "--now", "keepalived.service")
        return Both(primary=primary, standby=standby, address=VIRTUAL)

    @staticmethod
    def _configuration(state: str, priority: int, *, tracks: bool) -> str:
        script = f'vrrp_script runs {{\nscript "/usr/bin/systemctl is-active --quiet {APP}"\n}}\n'
        notify = "\n".join(
            f'notify_{event} "/usr/bin/systemctl {verb} {APP}"'
            for event, verb in (("master", "start"), ("backup", "stop"), ("fault", "stop"))
        )
        return f"""\
global_defs {{
script_user root
}}
{script if tracks else ""}
vrrp_instance pair {{
    state {state}
    interface eth0
    virtual_router_id 51
    priority {priority}
    virtual_ipaddress {{
        {VIRTUAL}
    }}
    {"track_script { runs }" if tracks else notify}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ours:
    """The product on the standby and, with a guard, on the primary."""

    key: str
    name: str
    keys: Mapping[str, Any]  # beside the gateway, the primary and the service
    guard: Mapping[str, Any] = field(default_factory=dict)  # {} = nothing runs on the primary

    def serve(self, lab: Lab, product: Sequence[Path]) -> Both:
        lab.plain("witness", WITNESS)
        primary = self._guarded(lab, product) if self.guard else _independent(lab)
        keys: dict[str, Any] = dict.fromkeys(QUICK) | {
            "gateway_ip": f"{LAN}{GATEWAY}",
            "active_ip": f"{LAN}{PRIMARY}",
            "services_to_manage": [APP],
            **self.keys,
        }
        if self.guard:
            keys["guard"] = dict(self.guard)
        standby = Standby(lab, keys=keys, services={APP: SERVICE}, files=PROGRAM, layers=product)
        lab.add(standby).watch()
        return Both(primary=primary, standby=standby)

    def _guarded(self, lab: Lab, product: Sequence[Path]) -> SystemdHost:
        primary = Guarded(
            lab,
            "primary",
            PRIMARY,
            keys={"guard": dict(self.guard), "witness_ips": [f"{LAN}{WITNESS}"]},
            services={APP: SERVICE},
            files=PROGRAM,
            layers=product,
        )
        lab.add(primary).systemctl("enable", "--now", MONITOR, within=60)
        return primary


def _independent(lab: Lab) -> SystemdHost:
    """A primary that starts the service at boot and knows of nothing else."""
    primary = lab.systemd("primary", PRIMARY, files=FILES)
    primary.systemctl("enable", "--now", APP)
    return primary


CHECK = {
    "type": "tcp",
    "host": f"{LAN}{PRIMARY}",
    "port": PORT,
    "interval": 0.25,
    "timeout": 0.5,
    "trigger": True,
    "threshold": 2,
}
FAST = {"ping_interval": 0.5, "retry_interval": 0.5, "witness_ips": [f"{LAN}{WITNESS}"]}
CHECKED = FAST | {"service_checks": [CHECK], "failback": "delayed", "recovery_delay": 0}
GUARD = {"deadline": 2, "stop_limit": 3}
LOOP_OF_PING = Loop()
NOTIFIED = Keepalived(key="keepalived", name="keepalived, notify scripts", tracks=False)
TRACKED = Keepalived(key="tracked", name="keepalived, track script", tracks=True)
ECHO = Ours(key="echo", name="shipped example", keys=SHIPPED.keys)
CHECKS = Ours(key="checks", name="half-second profile, service check", keys=CHECKED)
GUARDED = Ours(key="guard", name="half-second profile, guard", keys=FAST, guard=GUARD)
