"""The primary's decision: may this host serve, or is it cut off and somebody else will?

Rule: the services run here only while there is fresh proof that this host is not cut off
(`Observation.serve_until_s`: from the send time of an answered echo, or of a granted lease).  When
the proof is too old they are stopped, then killed; if even that fails nobody pets the watchdog, and
systemd resets the host.  What is stopped here starts again only through the gate.  Pure, as
`machine` is.
"""

from failover_monitor.model import Phase, Unit
from failover_monitor.table import (
    Facts,
    Row,
    all_at_rest,
    all_running,
    time_over,
)


def proven(facts: Facts) -> bool:
    """An echo was answered, or the lease was granted, since this process watches."""
    return facts.seen.answering_since_s is not None


def gate_open(facts: Facts) -> bool:
    """The proof has held without a gap for so long that the standby has stopped its services.

    With a lease nobody needs to wait: who holds it is the only one.
    """
    since_s, guard = facts.seen.answering_since_s, facts.policy.guard
    if since_s is None or time_over(facts) or facts.seen.host_stopping:
        return False
    hold_s = guard.boot_hold_s if guard and not facts.policy.lease else 0.0
    return facts.seen.now_s - since_s >= hold_s


def running_and_proven(facts: Facts) -> bool:
    """A guard that is new here leaves alone what already runs; a start that waits is none."""
    return proven(facts) and any(unit.state is Unit.RUNNING for unit in facts.seen.units)


TABLE = (
    Row(Phase.UNKNOWN, all_at_rest, Phase.GATED, "nothing runs here yet"),
    Row(Phase.UNKNOWN, running_and_proven, Phase.SERVING, "services ran here before the guard"),
    Row(Phase.UNKNOWN, time_over, Phase.CLOSING, "services run here without any proof"),
    #
    Row(Phase.GATED, gate_open, Phase.OPENING, "this host may serve"),
    #
    Row(Phase.OPENING, time_over, Phase.CLOSING, "this host may serve no longer"),
    Row(Phase.OPENING, all_running, Phase.SERVING, "all services run here"),
    #
    Row(Phase.SERVING, time_over, Phase.CLOSING, "this host may serve no longer"),
    #
    Row(Phase.CLOSING, all_at_rest, Phase.GATED, "all services are stopped here"),
)
