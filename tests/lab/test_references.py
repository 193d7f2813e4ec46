"""Who tells us that our own network works: several references, k of n of them, and their habits."""

from collections.abc import Callable

import pytest

from tests.lab.hosts import Host, Lab
from tests.lab.network import LAN
from tests.lab.pair import APP, Pair, pair
from tests.lab.test_network import (
    INTERVAL_S,
    SLACK_S,
    SPACING_S,
    VERDICT_S,
    nothing_was_done,
    stays,
    told,
    watched_throughout,
)

pytestmark = pytest.mark.timeout(120)

MakePair = Callable[..., Pair]
WITNESSES = [f"{LAN}11", f"{LAN}12"]
SOON_S = INTERVAL_S + VERDICT_S + SLACK_S


def filtered(host: Host, rules: str) -> None:
    """Replace what a host's packet filter does with what comes in; none ends it."""
    script = "table inet deaf {};\ndelete table inet deaf;\n"
    if rules:
        hook = "type filter hook input priority 0;"
        script += f"table inet deaf {{ chain c {{ {hook}\n{rules}\n}}; }}\n"
    host.namespace.run("nft", "-f", "-", feed=script)


def deaf(host: Host) -> None:
    """A host that drops every echo, and still answers ARP and solicitations."""
    filtered(host, "icmp type echo-request drop; icmpv6 type echo-request drop;")


def taken_over_once(hosts: Pair) -> None:
    """One takeover so far, with one start, and nothing else."""
    hosts.standby.wait_for_state("active_dead", 2)
    assert told(hosts.standby, "asked") == [f"start {APP}"]
    watched_throughout(hosts.standby)


def test_a_witness_stands_in_for_a_dead_gateway(lab: Lab) -> None:
    """First the gateway dies, later the primary: the witness proves our network, in time."""
    lab.plain("witness", 11)
    hosts = pair(lab, witness_ips=WITNESSES[:1])
    hosts.gateway.cut()
    stays(hosts.standby, "active_alive", 4)
    nothing_was_done(hosts.standby)
    assert VERDICT_S - SPACING_S < hosts.takeover() < SOON_S
    taken_over_once(hosts)


def test_two_of_three_references_must_answer(lab: Lab) -> None:
    """One is dead: takeover, and the log says who answered; a second one too: nothing."""
    for number, name in enumerate(("first", "second"), 11):
        lab.plain(name, number)
    hosts = pair(lab, witness_ips=WITNESSES, references_required=2)
    hosts.gateway.cut()
    lab.hosts["first"].cut()
    hosts.primary.cut()
    hosts.standby.wait_for_state("unknown", 10)
    stays(hosts.standby, "unknown", 4)
    nothing_was_done(hosts.standby)
    stamp = lab.hosts["first"].heal()
    hosts.standby.wait_for(APP, "active", 10)
    assert hosts.standby.active_since(APP) - stamp < SOON_S + 1  # until its address is known again
    assert "each check with answers from 2 of 3 references" in hosts.standby.log()
    taken_over_once(hosts)


def test_a_gateway_that_never_answers_holds_everything_and_is_told(lab: Lab) -> None:
    """It drops ICMP from the start: no takeover, and the log says why and what helps."""
    gateway = lab.plain("gateway", 1)
    deaf(gateway)
    hosts = pair(lab)
    hosts.standby.wait_for_log("it has never answered, it may filter ICMP", 25)
    hosts.standby.wait_for_log("hint: name a host that answers in witness_ips", 1)
    hosts.primary.cut()
    hosts.standby.wait_for_state("unknown", 10)
    stays(hosts.standby, "unknown", 4)
    nothing_was_done(hosts.standby)


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_a_gateway_that_drops_icmp_counts_as_a_neighbour_where_that_was_chosen(
    lab: Lab, family: str
) -> None:
    """Its answers to ARP or solicitations prove our network; without it the proof is gone."""
    gateway = lab.plain("gateway", 1)
    deaf(gateway)
    hosts = pair(lab, watch=False, neighbour_evidence="references")
    if family == "IPv6":
        primary = hosts.primary.address6
        hosts.standby.configure(gateway_ip=gateway.address6, active_ip=primary)
    hosts.standby.watch()
    stays(hosts.standby, "active_alive", 3)
    gateway.cut()
    hosts.primary.cut()
    hosts.standby.wait_for_state("unknown", 10)
    stays(hosts.standby, "unknown", 4)
    nothing_was_done(hosts.standby)
    stamp = gateway.heal()
    hosts.standby.wait_for(APP, "active", 10)
    assert hosts.standby.active_since(APP) - stamp < SOON_S
    taken_over_once(hosts)


def test_a_gateway_that_limits_icmp_delays_no_takeover(make_pair: MakePair) -> None:
    """It answers half of the echoes of a suspicion: every check still has its answer."""
    hosts = make_pair()
    rate = round(1 / SPACING_S / 2)
    filtered(
        hosts.gateway,
        f"icmp type echo-request limit rate over {rate}/second burst 1 packets drop;",
    )
    stays(hosts.standby, "active_alive", 4)
    nothing_was_done(hosts.standby)
    assert VERDICT_S - SPACING_S < hosts.takeover() < SOON_S
    taken_over_once(hosts)


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_a_primary_that_begins_to_drop_icmp_is_alive_where_neighbours_count(
    lab: Lab, family: str
) -> None:
    """With neighbour_evidence = all its answers as a neighbour are life; its end is still seen."""
    hosts = pair(lab, watch=False, neighbour_evidence="all")
    if family == "IPv6":
        hosts.standby.configure(gateway_ip=hosts.gateway.address6, active_ip=hosts.primary.address6)
    hosts.standby.watch()
    stays(hosts.standby, "active_alive", 2)
    deaf(hosts.primary)
    stays(hosts.standby, "active_alive", 8)
    nothing_was_done(hosts.standby)
    assert VERDICT_S - SPACING_S < hosts.takeover() < SOON_S
    taken_over_once(hosts)
    hosts.failback()
    hosts.standby.wait_for_state("active_alive", 5)
