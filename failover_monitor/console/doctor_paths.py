"""What `doctor` makes of the paths to the primary and the references, and of the protections.

Rule: pure, and one question in each function, as in `doctor_checks`.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from failover_monitor.console.doctor_facts import (
    Facts,
    Finding,
    PathSeen,
    failure,
    ok,
    warning,
)
from failover_monitor.model import Outcome
from failover_monitor.timing import slowest_reference_s

QUORUM = 3  # members that a lease should have
NEAR = 0.5  # part of the longest useful round trip that is still comfortable
GATEWAY_HINT = "allow ICMP echoes there, or choose another reference (gateway_ip, witness_ips)"


# Echoes.


def echoes_are_permitted(facts: Facts) -> Iterator[Finding]:
    if facts.echoes is None:
        return
    if facts.echoes.impossible:
        why, _, hint = facts.echoes.impossible.partition("\nhint: ")
        yield failure("echoes", why, hint or "run it as root; see ip addr, nft list ruleset")
        return
    refused = {path.refused for path in facts.echoes.paths.values() if path.refused}
    everywhere = all(path.refused for path in facts.echoes.paths.values())
    if refused and everywhere:
        what = f"no echo can leave this host: {', '.join(sorted(refused))}"
        yield failure("echoes", what, "ip addr; ip route; nft list ruleset (outgoing ICMP)")
    else:
        yield ok("echoes", "can be sent")


def primary_answers(facts: Facts) -> Iterator[Finding]:
    if facts.guarded:
        return
    paths = seen(facts, facts.policy.primary)
    silent = [address for address, path in paths if not path.rtts_s]
    for address, path in paths:
        subject = f"primary {address}"
        if path.rtts_s:
            yield answered(subject, path)
        elif facts.serving:
            words = "a takeover is under way" if facts.claiming else "we serve in its place"
            yield warning(subject, f"{silence(path)}; {words}")
        elif len(silent) < len(paths):
            what = f"{silence(path)}; another path to it does answer"
            yield warning(subject, what, "see to this path: cable, address, firewall")
        else:
            hint = "is the primary up, is active_ip right, does it answer ping?"
            yield failure(subject, silence(path), hint)


def references_answer(facts: Facts) -> Iterator[Finding]:
    paths = seen(facts, facts.policy.references)
    live = sum(bool(path.rtts_s) for _, path in paths)
    needed = 1 if facts.guarded else facts.policy.references_required
    for address, path in paths:
        subject = f"reference {address}"
        if path.rtts_s:
            yield answered(subject, path)
        elif live >= needed:
            yield warning(subject, silence(path), GATEWAY_HINT)
        else:
            what = "no takeover can happen without it"
            if facts.guarded:
                what = "the services here run only while the standby answers"
            yield failure(subject, f"{silence(path)}: {what}", GATEWAY_HINT)


def standby_answers(facts: Facts) -> Iterator[Finding]:
    """What keeps a guarded primary serving, beside its references."""
    for address, path in seen(facts, facts.policy.standby) if facts.guarded else ():
        subject = f"standby {address}"
        if path.rtts_s:
            yield answered(subject, path)
        else:
            hint = "is the standby up, is standby_ip right, does it answer ping?"
            yield warning(subject, f"{silence(path)}: nobody would stand in", hint)


def references_are_fast_enough(facts: Facts) -> Iterator[Finding]:
    """One that answers later than a check is long proves nothing."""
    if facts.guarded:
        return
    limit_s = slowest_reference_s(facts.policy)
    for address, path in seen(facts, facts.policy.references):
        if not path.rtts_s:
            continue
        subject, worst_s = f"reference {address}", max(path.rtts_s)
        if worst_s >= limit_s:
            what = f"answers in {worst_s * 1000:.0f} ms; a check ends after {limit_s * 1000:.0f} ms"
            yield failure(subject, what, "a nearer reference, or a longer retry_interval")
        elif worst_s >= NEAR * limit_s:
            what = f"answers in {worst_s * 1000:.0f} ms of {limit_s * 1000:.0f} ms that it may take"
            yield warning(subject, what, "a nearer reference, or a longer retry_interval")


def references_test_the_same_way(facts: Facts) -> Iterator[Finding]:
    """An interface that leads to the primary alone looks, when it breaks, like a dead primary."""
    if facts.guarded:
        return
    tested = {path.link for _, path in seen(facts, facts.policy.references) if path.link}
    for address, path in seen(facts, facts.policy.primary):
        if not path.link or not tested:
            continue
        if path.link in tested:
            yield ok("way", f"{address} and a reference are reached through {path.link}")
        else:
            what = (
                f"{address} is reached through {path.link}, the references through"
                f" {', '.join(sorted(tested))}: a fault of {path.link} looks like a dead primary"
            )
            yield warning("way", what, f"a witness behind {path.link} (witness_ips)")


def primary_is_on_our_link(facts: Facts) -> Iterator[Finding]:
    """Through a router the echo may go where nobody thought of, a default route above all."""
    for address, path in () if facts.guarded else seen(facts, facts.policy.primary):
        if path.router:
            what = f"{address} is reached through the router {path.router}, not on our own link"
            hint = "meant so? else see to this host's address and netmask: ip addr; ip route"
            yield warning("way", what, hint)


def references_are_other_hosts(facts: Facts) -> Iterator[Finding]:
    """One on this host, or on the primary, proves nothing when the primary dies."""
    others = facts.policy.standby if facts.guarded else facts.policy.primary
    macs = {
        path.mac: address for address, path in seen(facts, others) if path.mac and not path.router
    }
    for address, path in seen(facts, facts.policy.references):
        subject = f"reference {address}"
        if path.ours:
            yield warning(subject, "is this host: it proves nothing", "another host's address")
        elif path.mac in macs and not path.router:
            what = f"has the hardware address of {macs[path.mac]}: the same host proves nothing"
            yield warning(subject, what, "a reference on a host of its own")


def seen(facts: Facts, addresses: tuple[str, ...]) -> list[tuple[str, PathSeen]]:
    """The paths to these addresses, where echoes could be tried at all."""
    if facts.echoes is None or facts.echoes.impossible:
        return []
    paths = facts.echoes.paths
    return [(address, paths[address]) for address in addresses if address in paths]


def answered(subject: str, path: PathSeen) -> Finding:
    shortest_s, longest_s = min(path.rtts_s), max(path.rtts_s)
    count = f"answered {len(path.rtts_s)} of {path.sent} echoes"
    what = f"{count} in {shortest_s * 1000:.1f} to {longest_s * 1000:.1f} ms"
    if len(path.rtts_s) < path.sent:
        return warning(subject, what, "echoes are lost: see to cable, switch and load")
    return ok(subject, what)


def silence(path: PathSeen) -> str:
    if path.refused:
        return f"cannot be asked: {path.refused}"
    return f"answered none of {path.sent} echoes"


# Protections.


def enforcement_is_prepared(facts: Facts) -> Iterator[Finding]:
    if facts.files is None or not facts.policy.enforced:
        return
    missing = facts.files.missing_drop_ins
    if missing:
        what = f"stopping cannot be enforced: no {', '.join(missing)}"
        yield failure("enforcement", what, "run install.sh again")
    else:
        yield ok("enforcement", "the drop-ins of install.sh are in place")


def gate_follows_the_guard(facts: Facts) -> Iterator[Finding]:
    """On a guarded primary services start only where the permit is."""
    if facts.files is None or not facts.guarded or not facts.fresh:
        return
    phase = facts.status.get("phase")
    if phase == "serving" and not facts.files.permit:
        hint = "failover-monitor status; journalctl -u failover-monitor"
        yield failure("gate", "the guard says serving, and the gate is closed", hint)
    elif phase == "serving":
        yield ok("gate", "is open, and the guard says serving")
    else:
        hint = "failover-monitor status"
        yield warning("gate", f"the services here are held back: the phase is {phase}", hint)


def kernel_is_watched(facts: Facts) -> Iterator[Finding]:
    if facts.host is None or facts.systemd is None or not facts.policy.enforced:
        return
    hint = "RuntimeWatchdogSec=10 in /etc/systemd/system.conf; systemctl daemon-reexec"
    if not facts.host.watchdog_device:
        what = "there is no /dev/watchdog: a frozen kernel is not covered"
        yield warning("watchdog", what, f"a hardware or virtual watchdog, and {hint}")
    elif facts.systemd.watchdog in ("", "0", "infinity"):
        what = "RuntimeWatchdogSec is off: a frozen kernel is not covered"
        yield warning("watchdog", what, hint)
    else:
        yield ok("watchdog", f"resets a frozen kernel after {facts.systemd.watchdog}")


def files_can_be_used(facts: Facts) -> Iterator[Finding]:
    for file in facts.files.named if facts.files else ():
        if file.trouble:
            hint = f"ls -l {file.path}; the monitor's sandbox hides /home, /root and /tmp"
            yield failure(file.what, f"{file.path} {file.trouble}", hint)
        else:
            yield ok(file.what, f"{file.path} can be used")


def hooks_can_be_run(facts: Facts) -> Iterator[Finding]:
    """Each is refused when it is due, too; one that may veto then holds every takeover."""
    for name, trouble in facts.files.hooks.items() if facts.files else ():
        subject = f"hook {name}"
        if not trouble:
            yield ok(subject, "can be run")
            continue
        first = facts.policy.pre_takeover
        if name == "pre_takeover" and first and first.veto:
            trouble += "; it would hold every takeover"
        yield failure(subject, trouble, "root's own, writable by root alone: see docs/settings.md")


def services_are_well(facts: Facts) -> Iterator[Finding]:
    triggers = {check.name for check in facts.policy.service_checks if check.trigger}
    for check in facts.checks or ():
        subject = f"check {check.name}"
        match check.outcome:
            case Outcome.PASS:
                yield ok(subject, f"passes: {check.why}")
            case Outcome.FAIL if facts.serving:
                yield warning(subject, f"fails: {check.why}; we serve in the primary's place")
            case Outcome.FAIL:
                follows = "a takeover follows" if check.name in triggers else "it holds no takeover"
                hint = "see to the service on the primary"
                yield failure(subject, f"fails: {check.why}; {follows}", hint)
            case Outcome.UNKNOWN:
                hint = "a check that cannot tell protects nobody: see to its key or its options"
                yield warning(subject, f"cannot tell: {check.why}", hint)


def lease_members_answer(facts: Facts) -> Iterator[Finding]:
    if facts.lease is None:
        return
    endpoints = facts.lease.endpoints
    live = sum(not why for why in endpoints.values())
    for endpoint, why in endpoints.items():
        if not why:
            yield ok("lease", f"{endpoint} answers, with a majority behind it")
        elif live:
            yield warning("lease", f"{endpoint}: {why}", "see to this member")
        else:
            what = f"{endpoint}: {why}; without the lease nobody takes over"
            yield failure("lease", what, "see to the members: a majority must answer")


def lease_members_are_elsewhere(facts: Facts) -> Iterator[Finding]:
    lease = facts.policy.lease
    if lease is None:
        return
    if len(lease.endpoints) < QUORUM:
        what = f"has {len(lease.endpoints)} endpoints: the loss of one member may end it"
        yield warning("lease", what, "three members on three hosts")
    both = (*facts.policy.primary, *facts.policy.standby)
    for endpoint in lease.endpoints:
        if urlsplit(endpoint).hostname in both:
            what = f"{endpoint} is on the other host of this pair: it dies with it"
            yield warning("lease", what, "members on hosts of their own")


def lease_is_held_by_the_primary(facts: Facts) -> Iterator[Finding]:
    """Only both hosts together know who holds it; the store is where they meet."""
    lease, found = facts.policy.lease, facts.lease
    if lease is None or found is None or facts.serving or all(found.endpoints.values()):
        return
    if facts.guarded and found.holder == lease.holder:
        yield ok("lease", f"is held by this host, {lease.holder}")
    elif facts.guarded:
        whose = found.holder or "nobody"
        yield warning("lease", f"is held by {whose}, not by this host", "failover-monitor status")
    elif found.holder == lease.holder:
        what = f"is held by {lease.holder}, which is this host's name: do both hosts use it?"
        yield warning("lease", what, '"holder" must differ on the two hosts')
    elif found.holder:
        yield ok("lease", f"is held by {found.holder}")
    else:
        what = "nobody holds it: the guard on the primary does not renew it"
        yield warning("lease", what, "failover-monitor doctor on the primary")
