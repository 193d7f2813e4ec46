"""The standby's decision: is the primary gone, and may we stand in for it?

Rule 1: every reason to start or stop anything is a row of TABLE.  To learn what the program will
do, read the table; to change it, edit the table.
Rule 2: nothing here touches the world.  No await, no clock, no log: time is `Observation.now_s`,
and what should happen is returned, not done (`decision.decide`).
"""

from failover_monitor.model import (
    BY_HAND,
    Failback,
    Fencing,
    Foreign,
    Phase,
    Unit,
    Verdict,
)
from failover_monitor.table import (
    Facts,
    Row,
    all_at_rest,
    all_running,
    any_running,
    listed,
    prepared,
    runs,
    time_over,
)

FLAP_FACTOR = 3  # the evidence for a flapping primary lasts up to so many V longer


# Is the primary gone?


def primary_up(facts: Facts) -> bool:
    return facts.seen.verdict is Verdict.UP


def primary_unknown(facts: Facts) -> bool:
    return facts.seen.verdict is Verdict.UNKNOWN


def primary_down(facts: Facts) -> bool:
    """Silent for long enough, and sure to serve no more."""
    return silent(facts) and sure(facts)


def service_down(facts: Facts) -> bool:
    """It answers, its service has been dead for long enough; and it is sure to serve no more."""
    return service_dead(facts) and sure(facts)


def primary_gone(facts: Facts) -> bool:
    """One of the two, but it may yet serve."""
    return (silent(facts) or service_dead(facts)) and not held_back(facts)


def gone_for_sure(facts: Facts) -> bool:
    return primary_down(facts) or service_down(facts)


def silent(facts: Facts) -> bool:
    if facts.seen.verdict is not Verdict.DOWN or facts.seen.vetoes:
        return False
    waited_s = facts.seen.now_s - facts.seen.verdict_since_s
    # The delay that a guard needs begins with the verdict, but only a failed fence needs it.
    delay_s = 0.0 if facts.policy.waits_for_guard else facts.policy.takeover_delay_s
    return waited_s >= delay_s + flap_delay_s(facts)


def service_dead(facts: Facts) -> bool:
    dead = facts.seen.service is Verdict.DOWN and facts.seen.verdict is Verdict.UP
    return dead and facts.seen.now_s - facts.seen.service_since_s >= flap_delay_s(facts)


def held_back(facts: Facts) -> bool:
    return facts.seen.host_stopping or facts.state.flapping


def flap_delay_s(facts: Facts) -> float:
    """A primary that came and went lately must stay away for longer: one V more each time."""
    return facts.policy.verdict_s * min(len(recent(facts)), FLAP_FACTOR)


def recent(facts: Facts) -> tuple[float, ...]:
    """The takeovers that began within the flap window."""
    since_s = facts.seen.now_s - facts.policy.flap_window_s
    return tuple(at_s for at_s in facts.state.takeovers if at_s > since_s)


# Is it sure to serve no more?


def sure(facts: Facts) -> bool:
    return certain(facts) and prepared(facts)


def certain(facts: Facts) -> bool:
    return fenced(facts) and not time_over(facts) and not held_back(facts)


def fenced(facts: Facts) -> bool:
    if facts.policy.fence is None or facts.state.fenced:
        return True
    waited_s = facts.seen.now_s - facts.seen.verdict_since_s
    failed = facts.seen.fence.state is Fencing.FAILED and facts.seen.verdict is Verdict.DOWN
    return failed and facts.policy.waits_for_guard and waited_s >= facts.policy.takeover_delay_s


def spoken_for(facts: Facts) -> bool:
    """The primary answers, or its service does, after all."""
    if by_hand(facts):
        return False
    alive = facts.seen.verdict is Verdict.UP and facts.seen.service is not Verdict.DOWN
    return alive or (facts.seen.verdict is Verdict.DOWN and bool(facts.seen.vetoes))


# Does an operator want it?


def paused(facts: Facts) -> bool:
    return facts.seen.paused != ""


def takeover_asked(facts: Facts) -> bool:
    """Whatever the evidence says, and also when too many takeovers hold the next one."""
    return facts.seen.takeover_asked != "" and not facts.seen.host_stopping


def asked_and_sure(facts: Facts) -> bool:
    return takeover_asked(facts) and sure_by_hand(facts)


def by_hand_and_sure(facts: Facts) -> bool:
    return by_hand(facts) and sure_by_hand(facts)


def by_hand(facts: Facts) -> bool:
    """An operator's claim, while somebody still looks."""
    waited_s = facts.seen.now_s - facts.state.since_s
    return facts.state.by_hand != "" and waited_s < facts.policy.by_hand_limit_s


def sure_by_hand(facts: Facts) -> bool:
    return certain_by_hand(facts) and prepared(facts)


def certain_by_hand(facts: Facts) -> bool:
    """Fence, lease and the guard of a silent primary have their say all the same."""
    ready = fenced(facts) and guard_done(facts)
    return ready and not time_over(facts) and not facts.seen.host_stopping


def guard_done(facts: Facts) -> bool:
    """A primary that is silent has been so for as long as its guard needs."""
    if facts.policy.guard is None or facts.seen.verdict is not Verdict.DOWN or facts.state.fenced:
        return True
    return facts.seen.now_s - facts.seen.verdict_since_s >= facts.policy.takeover_delay_s


def cut_off(facts: Facts) -> bool:
    return primary_unknown(facts) and not by_hand(facts)


def given_up(facts: Facts) -> bool:
    """Nobody looks any more, and what is seen calls for no takeover."""
    return facts.state.by_hand != "" and not by_hand(facts) and not primary_gone(facts)


# Is the hook before a takeover next?


def hook_first(facts: Facts) -> bool:
    """All else has said yes."""
    gone = (silent(facts) or service_dead(facts)) and certain(facts)
    return gone and facts.policy.pre_takeover is not None


def hook_next(facts: Facts) -> bool:
    """The same in a claim: of evidence, or of an operator."""
    asked = by_hand(facts) and certain_by_hand(facts)
    return hook_first(facts) or (asked and facts.policy.pre_takeover is not None)


def hook_ended(facts: Facts) -> bool:
    """It was all that a takeover waited for."""
    alone = facts.policy.fence is None and facts.policy.lease is None
    return facts.policy.pre_takeover is not None and alone and gone_for_sure(facts)


# Is it back?


def primary_back(facts: Facts) -> bool:
    """One that was never away does not come back: what an operator moved stays."""
    if facts.state.by_hand or not healthy(facts):
        return False
    match facts.policy.failback:
        case Failback.AUTO:
            return True
        case Failback.DELAYED:
            return answered_for(facts.policy.recovery_delay_s, facts)
        case Failback.MANUAL:
            return False


def healthy(facts: Facts) -> bool:
    """It answers; and what may trigger a takeover must be sure that the service does."""
    return primary_up(facts) and (not facts.policy.triggered or facts.seen.service is Verdict.UP)


def answered_for(delay_s: float, facts: Facts) -> bool:
    """Echoes, and the service checks that gate a failback, for so long without a gap."""
    gates = any(check.gates for check in facts.policy.service_checks)
    begun_s = (facts.seen.answering_since_s, facts.seen.healthy_since_s)[: 1 + gates]
    return all(at_s is not None and facts.seen.now_s - at_s >= delay_s for at_s in begun_s)


def operator_asked(facts: Facts) -> bool:
    """Not while a trigger says that the service there is dead: it would be taken over at once."""
    return primary_up(facts) and facts.seen.failback_asked and not service_dead(facts)


# The services here.


def one_not_running(facts: Facts) -> bool:
    down = (
        unit.state is not Unit.UNKNOWN and not runs(unit, facts.state) for unit in listed(facts)
    )
    return any(down) and not facts.seen.host_stopping


def running_at_boot(facts: Facts) -> bool:
    return primary_up(facts) and not facts.state.settled and any_running(facts)


def foreign_unwanted(facts: Facts) -> bool:
    wanted = facts.policy.foreign_start is Foreign.STOP
    return wanted and primary_up(facts) and any_running(facts)


# First match wins, so the order of rows is part of the meaning.
TABLE = (
    Row(Phase.UNKNOWN, primary_down, Phase.TAKEOVER, "the primary does not answer"),
    Row(Phase.UNKNOWN, hook_first, Phase.CLAIM, "first run the hook pre_takeover"),
    Row(Phase.UNKNOWN, primary_gone, Phase.CLAIM, "first make sure that the primary is gone"),
    Row(Phase.UNKNOWN, asked_and_sure, Phase.TAKEOVER, BY_HAND),
    Row(Phase.UNKNOWN, takeover_asked, Phase.CLAIM, BY_HAND),
    Row(Phase.UNKNOWN, running_at_boot, Phase.FAILBACK, "services ran here before the first look"),
    Row(Phase.UNKNOWN, primary_up, Phase.STANDBY, "the primary answers"),
    #
    Row(Phase.STANDBY, primary_down, Phase.TAKEOVER, "the primary stopped answering"),
    Row(Phase.STANDBY, service_down, Phase.TAKEOVER, "the primary's service is dead"),
    Row(Phase.STANDBY, hook_first, Phase.CLAIM, "first run the hook pre_takeover"),
    Row(Phase.STANDBY, primary_gone, Phase.CLAIM, "first make sure that the primary is gone"),
    Row(Phase.STANDBY, asked_and_sure, Phase.TAKEOVER, BY_HAND),
    Row(Phase.STANDBY, takeover_asked, Phase.CLAIM, BY_HAND),
    Row(Phase.STANDBY, primary_unknown, Phase.UNKNOWN, "no verdict on the primary any more"),
    Row(Phase.STANDBY, running_at_boot, Phase.FAILBACK, "services ran here before the first look"),
    Row(Phase.STANDBY, foreign_unwanted, Phase.FAILBACK, "somebody started a service here"),
    #
    Row(Phase.CLAIM, paused, Phase.UNKNOWN, "an operator paused it"),
    Row(Phase.CLAIM, by_hand_and_sure, Phase.TAKEOVER, BY_HAND),
    Row(Phase.CLAIM, hook_ended, Phase.TAKEOVER, "the hook pre_takeover has ended"),
    Row(Phase.CLAIM, gone_for_sure, Phase.TAKEOVER, "the primary is sure to serve no more"),
    Row(Phase.CLAIM, spoken_for, Phase.STANDBY, "the primary, or its service, answers after all"),
    Row(Phase.CLAIM, cut_off, Phase.UNKNOWN, "no verdict on the primary any more"),
    Row(Phase.CLAIM, given_up, Phase.UNKNOWN, "it could not be done while the operator waited"),
    #
    Row(Phase.TAKEOVER, time_over, Phase.FAILBACK, "our lease is running out"),
    Row(Phase.TAKEOVER, operator_asked, Phase.FAILBACK, BY_HAND),
    Row(Phase.TAKEOVER, primary_back, Phase.FAILBACK, "the primary came back first"),
    Row(Phase.TAKEOVER, all_running, Phase.ACTIVE, "all services run here"),
    #
    Row(Phase.ACTIVE, time_over, Phase.FAILBACK, "our lease is running out"),
    Row(Phase.ACTIVE, operator_asked, Phase.FAILBACK, BY_HAND),
    Row(Phase.ACTIVE, primary_back, Phase.FAILBACK, "the primary is back"),
    Row(Phase.ACTIVE, one_not_running, Phase.TAKEOVER, "a service stopped"),
    #
    Row(Phase.FAILBACK, gone_for_sure, Phase.TAKEOVER, "the primary is away again"),
    Row(Phase.FAILBACK, all_at_rest, Phase.STANDBY, "all services are stopped here"),
)
