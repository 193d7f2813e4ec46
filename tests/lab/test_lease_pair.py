"""The lease between real hosts: whoever serves holds it, whatever breaks between them.

Three etcd members on hosts of their own; the samples are of the kernel's cgroups on every host.
"""

import time
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.arbiters import Arbiters, arbiters
from tests.lab.hosts import Lab, wait_until
from tests.lab.overlap import Overlap
from tests.lab.pair import APP, MONITOR, Guarded, Standby

pytestmark = pytest.mark.timeout(240)

TTL_S = 10.0
GUARD = {"deadline": 2, "stop_limit": 3}
ENDS_S = TTL_S + 1.0  # after the last renewal nothing runs on its holder
TAKEN_S = 25.0  # verdict, the end of the old lease, and a busy machine


@dataclass(frozen=True)
class Leased:
    """A pair that shares a lease."""

    store: Arbiters
    primary: Guarded
    standby: Standby

    def apart(self, lab: Lab) -> None:
        lab.part("primary", "standby")


def leased(lab: Lab, *, second: bool = False, **keys: Any) -> Leased:
    """A primary that serves and a standby that watches; the gateway answers both.

    `keys` are of the first standby's configuration.
    """
    store = arbiters(lab)
    lab.plain("gateway", 1)
    lease: dict[str, Any] = {"endpoints": list(store.endpoints), "name": "pair", "ttl": TTL_S}
    primary = lab.add(Guarded(lab, "primary", 2, keys={"guard": GUARD, "lease": lease}))
    primary.serves(within=40)
    made = Leased(store, primary, new_standby(lab, "standby", 3, lease, **keys))
    if second:
        new_standby(lab, "second", 4, lease)
    return made


def new_standby(lab: Lab, name: str, number: int, lease: dict[str, Any], **keys: Any) -> Standby:
    standby = lab.add(Standby(lab, name, number, keys={"guard": GUARD, "lease": lease} | keys))
    standby.watch()
    return standby


def test_a_crash_is_taken_over_when_the_lease_has_run_out(lab: Lab) -> None:
    """Crash, takeover, return: nobody overlaps, and the primary gets its lease back."""
    p = leased(lab)
    with Overlap(APP, (p.primary, p.standby)) as seen:
        p.primary.crash()
        p.standby.wait_for(APP, "active", TAKEN_S)
        p.primary.start()
        p.standby.wait_for(APP, "inactive", 30)
        p.primary.wait_for(APP, "active", 30)
    assert seen.seconds == 0, seen.told()
    assert "standby -> claim" in p.standby.log()
    assert "claim -> takeover" in p.standby.log()


def test_only_the_path_between_the_two_breaks_and_the_primary_goes_on(lab: Lab) -> None:
    """What no guard can close: the standby asks for the lease and is refused."""
    p = leased(lab)
    with Overlap(APP, (p.primary, p.standby)) as seen:
        p.apart(lab)
        wait_until(lambda: "the takeover waits for lease" in p.standby.log(), 15, "it is refused")
        time.sleep(TTL_S)
    assert seen.seconds == 0, seen.told()
    assert seen.idle_s == 0, seen.told()
    assert p.primary.running(APP)


def test_a_primary_that_is_cut_off_stops_before_its_lease_ends(lab: Lab) -> None:
    """And the standby starts only afterwards."""
    p = leased(lab)
    with Overlap(APP, (p.primary, p.standby)) as seen:
        stamp = p.primary.cut()
        wait_until(lambda: not p.primary.running(APP), 20, "nothing runs on the primary")
        assert time.monotonic() - stamp <= ENDS_S
        p.standby.wait_for(APP, "active", TAKEN_S)
        p.primary.heal()
        p.primary.wait_for(APP, "active", 30)
    assert seen.seconds == 0, seen.told()


def test_of_two_standbys_exactly_one_serves(lab: Lab) -> None:
    """Both have their verdict, both ask for the lease."""
    p = leased(lab, second=True)
    second = lab.hosts["second"]
    assert isinstance(second, Standby)
    hosts = (p.primary, p.standby, second)
    with Overlap(APP, hosts) as seen:
        p.primary.crash()
        wait_until(lambda: any(h.running(APP) for h in hosts[1:]), TAKEN_S, "a standby serves")
        time.sleep(TTL_S)
        assert sum(host.running(APP) for host in hosts[1:]) == 1
        winner = next(host for host in hosts[1:] if host.running(APP))
        winner.crash()
        (other,) = (host for host in hosts[1:] if host is not winner)
        wait_until(lambda: other.running(APP), TAKEN_S, "the other one takes over")
    assert seen.seconds == 0, seen.told()


def test_a_standby_that_serves_and_is_cut_off_from_the_store_stops(lab: Lab) -> None:
    """Its lease runs out while it serves; the primary, back by then, serves again."""
    p = leased(lab)
    with Overlap(APP, (p.primary, p.standby)) as seen:
        p.primary.crash()
        p.standby.wait_for(APP, "active", TAKEN_S)
        stamp = p.standby.cut()
        wait_until(lambda: not p.standby.running(APP), 20, "nothing runs on the standby")
        assert time.monotonic() - stamp <= ENDS_S
        p.primary.start()
        p.primary.wait_for(APP, "active", 40)
    assert seen.seconds == 0, seen.told()
    assert "our lease is running out" in p.standby.log()


def test_without_most_of_the_arbiters_nobody_serves_and_with_them_the_primary_does(
    lab: Lab,
) -> None:
    """One lost arbiter changes nothing; two end the lease; their return gives it back."""
    p = leased(lab)
    with Overlap(APP, (p.primary, p.standby)) as seen:
        p.store.hosts[11].crash()
        time.sleep(TTL_S)
        assert seen.idle_s == 0, seen.told()
        p.store.hosts[12].crash()
        wait_until(lambda: not p.primary.running(APP), 20, "nothing runs on the primary")
        p.store.hosts[11].start()
        p.store.hosts[12].start()
        p.primary.wait_for(APP, "active", 60)
    assert seen.seconds == 0, seen.told()


def test_arbiters_that_lost_their_disks_know_nothing_and_the_lease_is_won_anew(lab: Lab) -> None:
    """All at once: a new store grants to whoever asks, so its first holder waits a term."""
    p = leased(lab)
    with Overlap(APP, (p.primary, p.standby)) as seen:
        for host in p.store.hosts.values():
            host.kill()
            host.lose_disk()
        p.apart(lab)  # both want it now
        for host in p.store.hosts.values():
            host.serve()
        wait_until(lambda: not p.primary.running(APP), 30, "the primary has seen it")
        running = (p.primary, p.standby)
        wait_until(lambda: any(h.running(APP) for h in running), 60, "one of them serves")
        time.sleep(TTL_S)
        assert sum(host.running(APP) for host in running) == 1
    assert seen.seconds == 0, seen.told()


def kill_guard(primary: Guarded) -> None:
    """SIGKILL; returns when the next process holds the lease."""
    known = len(primary.log())
    primary.signal(MONITOR)
    wait_until(lambda: "the lease is ours" in primary.log()[known:], 10, "the next one holds it")


def test_a_guard_that_is_killed_keeps_its_lease(lab: Lab) -> None:
    """SIGKILL: the next process asks in the same name, and the service runs on."""
    p = leased(lab)
    with Overlap(APP, (p.primary, p.standby)) as seen:
        for _ in range(3):
            kill_guard(p.primary)
    assert seen.seconds == 0, seen.told()
    assert seen.idle_s == 0, seen.told()


def test_slow_arbiters_end_no_lease(lab: Lab) -> None:
    """Frozen for a moment, one after the other: renewals are late, none is lost."""
    p = leased(lab)
    with Overlap(APP, (p.primary, p.standby)) as seen:
        for host in p.store.hosts.values():
            host.freeze()
            time.sleep(1.5)
            host.thaw()
            time.sleep(1.5)
    assert seen.idle_s == 0, seen.told()
    assert seen.seconds == 0, seen.told()


def test_a_standby_that_a_hook_holds_gives_the_lease_back(lab: Lab) -> None:
    """It has the lease while its hook vetoes; a primary that is back gets it, and serves."""
    p = leased(lab, hooks={"pre_takeover": {"command": ["/bin/false"], "veto": True}})
    with Overlap(APP, (p.primary, p.standby)) as seen:
        p.primary.cut()
        p.standby.wait_for_log("it holds the takeover", TAKEN_S)
        wait_until(lambda: not p.primary.running(APP), 20, "nothing runs on the primary")
        p.primary.heal()
        p.primary.wait_for(APP, "active", 30)
        p.standby.wait_for_log("claim -> standby", 10)
    assert seen.seconds == 0, seen.told()
    assert "start app.service" not in p.standby.log()
