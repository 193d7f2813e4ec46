"""Pacemaker and corosync on two hosts, as a peer: a group of an address and the service.

What is not a default is what two hosts need (`two_node`), what its manual asks for (a recurring
monitor), and the wish to be on the primary.  Fencing is off, as there is nothing to fence with:
that makes it faster than it may be where data are at stake, never slower.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.serving import FILES, PRIMARY, STANDBY, VIRTUAL, Both
from tests.lab import rootfs
from tests.lab.hosts import Lab, SystemdHost, wait_until
from tests.lab.network import LAN
from tests.lab.pair import APP

DAEMONS = ("corosync.service", "pacemaker.service")
JOIN_S = 90  # it waits 20 s for others before it elects
COROSYNC = f"""\
totem {{
    version: 2
    cluster_name: bench
    transport: knet
    crypto_cipher: none
    crypto_hash: none
}}
nodelist {{
    node {{
        name: primary
        nodeid: 1
        ring0_addr: {LAN}{PRIMARY}
    }}
    node {{
        name: standby
        nodeid: 2
        ring0_addr: {LAN}{STANDBY}
    }}
}}
quorum {{
    provider: corosync_votequorum
    two_node: 1
}}
logging {{
    to_logfile: yes
    logfile: /var/log/corosync/corosync.log
    to_syslog: no
}}
"""
GROUP = f"""\
<group id="served">
  <primitive id="address" class="ocf" provider="heartbeat" type="IPaddr2">
    <instance_attributes id="address-is">
      <nvpair id="address-is-ip" name="ip" value="{VIRTUAL}"/>
      <nvpair id="address-is-mask" name="cidr_netmask" value="24"/>
    </instance_attributes>
    <operations>
      <op id="address-monitor" name="monitor" interval="10s" timeout="20s"/>
    </operations>
  </primitive>
  <primitive id="app" class="systemd" type="{APP.removesuffix(".service")}">
    <operations>
      <op id="app-monitor" name="monitor" interval="10s" timeout="60s"/>
      <op id="app-start" name="start" interval="0s" timeout="100s"/>
      <op id="app-stop" name="stop" interval="0s" timeout="100s"/>
    </operations>
  </primitive>
</group>
"""
HOME = '<rsc_location id="home" rsc="served" node="primary" score="50"/>'


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacemaker:
    """Both hosts in one cluster; corosync's token and pacemaker's delays are the defaults."""

    key: str = "pacemaker"
    name: str = "pacemaker + corosync"

    def serve(self, lab: Lab, product: Sequence[Path]) -> Both:
        del product
        layers = [installed()]
        files = FILES | {"/etc/corosync/corosync.conf": COROSYNC}
        primary = lab.systemd("primary", PRIMARY, layers=layers, files=files)
        standby = lab.systemd("standby", STANDBY, layers=layers, files=files)
        for host in (primary, standby):
            host.systemctl("enable", "--now", *DAEMONS, within=60)
        wait_until(lambda: _joined(primary), JOIN_S, "both hosts are in the cluster")
        primary.run(
            *("crm_attribute", "--type", "crm_config"),
            *("--name", "stonith-enabled", "--update", "false"),
        )
        for scope, text in (("resources", GROUP), ("constraints", HOME)):
            primary.run("cibadmin", "--create", "--scope", scope, "--xml-text", text)
        return Both(primary=primary, standby=standby, address=VIRTUAL)


def installed() -> Path:
    """The layer that has it."""
    return rootfs.with_packages(
        "pacemaker", "pacemaker", "pacemaker-cli-utils", "corosync", "resource-agents"
    )


def _joined(host: SystemdHost) -> bool:
    shown = host.run("crm_mon", "--one-shot", check=False, within=30).stdout
    return "Online: [ primary standby ]" in shown


PACEMAKER = Pacemaker()

if __name__ == "__main__":
    print(installed())
