"""What the network does for minutes: long outages, long loss.  Runs beside the quick tests."""

import time

import pytest

from tests.lab.hosts import Lab
from tests.lab.pair import APP, Standby, pair
from tests.lab.test_network import nothing_was_done, one_failover_and_back, stays

SHIPPED = {"ping_interval": 3, "retry_interval": 1.5}  # as in config.json; V = 4.5 s
LOSS_S = 300.0


@pytest.mark.timeout(480)
def test_heavy_loss_for_five_minutes_is_no_dead_primary(lab: Lab) -> None:
    """30 % of all frames each way, ARP among them, at the standby's or the primary's port.

    Four standbys side by side: two behind lossy ports, two of a primary behind a lossy port; of
    each two, one has the shipped example's numbers and one the quick ones.
    """
    lab.plain("gateway", 1)
    lab.plain("primary", 2)
    lossy = lab.plain("lossy", 4)
    standbys = [
        lab.add(Standby(lab, "own-quick", 11)),
        lab.add(Standby(lab, "own-shipped", 12, keys=SHIPPED)),
        lab.add(Standby(lab, "far-quick", 13, keys={"active_ip": lossy.address})),
        lab.add(Standby(lab, "far-shipped", 14, keys=SHIPPED | {"active_ip": lossy.address})),
    ]
    for standby in standbys:
        standby.watch()
    ports = [standbys[0], standbys[1], lossy]
    for host in ports:
        host.lose(30)
    end = time.monotonic() + LOSS_S
    while time.monotonic() < end:
        time.sleep(2)
        assert [standby.name for standby in standbys if standby.running(APP)] == []
    assert all(host.port.lost() > 100 for host in ports)
    for host in ports:
        host.lose(0)
    for standby in standbys:
        standby.wait_for_state("active_alive", 10)
        nothing_was_done(standby)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("way", ["carrier lost", "carrier kept"])
def test_a_minute_of_own_isolation_changes_nothing(lab: Lab, way: str) -> None:
    """Our own port or path is dead for 60 s: the word is unknown, nothing happens then or later."""
    standby = pair(lab, wired=way == "carrier kept").standby
    if way == "carrier lost":
        standby.cut()
    else:
        standby.wire.dead()
    standby.wait_for_state("unknown", 5)
    stays(standby, "unknown", 57)
    nothing_was_done(standby)
    if way == "carrier lost":
        standby.heal()
    else:
        standby.wire.fine()
    standby.wait_for_state("active_alive", 5)
    stays(standby, "active_alive", 10)
    nothing_was_done(standby)


@pytest.mark.timeout(150)
def test_a_return_after_45_seconds_is_seen_within_one(lab: Lab) -> None:
    """Neither side knows the other's hardware address any more: stopped after 1.1 s all the same.

    Three standbys of one primary, so that three phases of their rounds are seen.
    """
    primary = lab.plain("primary", 2)
    lab.plain("gateway", 1)
    standbys = [lab.add(Standby(lab, f"standby{k}", 10 + k)) for k in range(3)]
    for standby in standbys:
        standby.watch()
        time.sleep(0.17)
    cut = primary.cut()
    for standby in standbys:
        standby.wait_for(APP, "active", 10)
    time.sleep(cut + 45 - time.monotonic())
    for host in (primary, *standbys):
        host.namespace.ip("neigh flush dev eth0")
    stamp = primary.heal()
    for standby in standbys:
        standby.wait_for(APP, "inactive", 10)
    took = [standby.inactive_since(APP) - stamp for standby in standbys]
    print("return -> stopped:", *(f"{seconds:.3f}" for seconds in took))
    assert max(took) < 1.1 + 0.3
    for standby in standbys:
        one_failover_and_back(standby)
