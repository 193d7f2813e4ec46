"""The lease over a network: three arbiters on hosts of their own."""

import pytest

from failover_monitor.leases.keeper import Wish
from failover_monitor.model import Outcome
from tests.etcd import Client
from tests.lab.arbiters import arbiters, on
from tests.lab.hosts import Lab

pytestmark = pytest.mark.timeout(180)
TTL_S = 20.0


def test_the_lease_survives_the_crash_of_one_arbiter(lab: Lab) -> None:
    """The leader's host loses power: the holder renews, the other is refused, and it comes back."""
    store = arbiters(lab)
    primary, standby = lab.plain("primary", 2), lab.plain("standby", 3)
    holder = Client(store.endpoints, "primary", ttl_s=TTL_S)
    other = Client(store.endpoints, "standby", ttl_s=TTL_S)
    assert on(primary, holder.sure(Wish.ACQUIRE)).outcome is Outcome.PASS
    victim = store.leader()
    store.hosts[victim].crash()
    assert on(primary, holder.sure(Wish.RENEW)).outcome is Outcome.PASS
    assert on(standby, other.sure(Wish.ACQUIRE)).holder == "primary"
    assert store.leader() != victim
    store.hosts[victim].start()
    store.serve(victim)
    assert on(primary, holder.sure(Wish.RENEW)).outcome is Outcome.PASS


def test_who_is_cut_off_from_the_arbiters_knows_nothing(lab: Lab) -> None:
    """Not that it lost, and not that it won; with its network back it goes on."""
    store = arbiters(lab)
    standby = lab.plain("standby", 3)
    client = Client(store.endpoints, ttl_s=TTL_S)
    assert on(standby, client.sure(Wish.ACQUIRE)).outcome is Outcome.PASS
    standby.cut()
    for verb in Wish:
        reply = on(standby, client.ask(verb))
        assert (reply.outcome, bool(reply.why)) == (Outcome.UNKNOWN, True)
    standby.heal()
    assert on(standby, client.sure(Wish.ACQUIRE)).outcome is Outcome.PASS


def test_a_leader_without_followers_renews_nothing(lab: Lab) -> None:
    """Parted from the others it may still think that it leads, and we reach it alone."""
    store = arbiters(lab)
    standby = lab.plain("standby", 3)
    leader = store.leader()
    client = Client((store.hosts[leader].endpoint,), ttl_s=TTL_S)
    assert on(standby, client.sure(Wish.ACQUIRE)).outcome is Outcome.PASS
    store.part(leader)
    for _ in range(3):
        assert on(standby, client.ask(Wish.RENEW)).outcome is Outcome.UNKNOWN
    store.join(leader)
    store.serve(leader)
    assert on(standby, client.sure(Wish.RENEW)).outcome is Outcome.PASS


def test_a_killed_arbiter_and_one_without_a_disk_are_no_majority(lab: Lab) -> None:
    """The third one grants nothing alone; with the killed one back, the lease is still known."""
    store = arbiters(lab)
    primary = lab.plain("primary", 2)
    holder = Client(store.endpoints, "primary", ttl_s=60.0)
    assert on(primary, holder.sure(Wish.ACQUIRE)).outcome is Outcome.PASS
    store.hosts[11].kill()
    store.hosts[12].kill()
    store.hosts[12].lose_disk()
    assert on(primary, holder.ask(Wish.RENEW)).outcome is Outcome.UNKNOWN
    store.hosts[11].serve()
    store.serve(11, 13)
    assert on(primary, holder.sure(Wish.RENEW)).outcome is Outcome.PASS
