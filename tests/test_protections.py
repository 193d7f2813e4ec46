"""What stands between a verdict and a takeover is asked, looked at and never waited for."""

import subprocess
import sys
from dataclasses import replace

import pytest

from failover_monitor.leases.keeper import held_for_s
from failover_monitor.model import (
    INF,
    SLACK_S,
    FencePolicy,
    FenceSeen,
    Fencing,
    LeasePolicy,
    Policy,
    ServiceCheck,
    Verdict,
)
from failover_monitor.protections import Protections
from failover_monitor.rehearsal.toys import OTHER
from tests.world import World, policy_of

LEASE = LeasePolicy(engine="toy", endpoints=(), name="pair", holder="us", ttl_s=15.0)
FENCE = FencePolicy(command=("fence",), options={})
CHECK = ServiceCheck(kind="toy", name="tcp", options={}, trigger=True, threshold=2)
WITHOUT = """
import sys
from failover_monitor.model import Policy
from failover_monitor.protections import Protections
Protections(Policy(primary=(), references=(), services=()), lambda: 0.0, lambda: None)
print(*[name for name in sys.modules if name.startswith("failover_monitor.")])
"""


class Stage:
    """Protections alone in a world without a monitor."""

    def __init__(self, policy: Policy) -> None:
        self.world = World(policy)
        self.protections = self.world.protections()
        self.silent = False  # the primary leaves echoes unanswered
        self.proven_s = 0.0

    def pass_time(self, for_s: float) -> None:
        """A look every tenth of a second."""
        for _ in range(round(for_s * 10)):
            self.world.now_s = round(self.world.now_s + 0.1, 6)
            for toy in self.world.toys:
                toy.advance()
            now_s = self.world.now_s
            self.proven_s = self.proven_s if self.silent else now_s
            self.protections.look(now_s, proven={"198.51.100.2": self.proven_s}, silent=self.silent)

    def fencing(self) -> Fencing:
        return self.protections.fence_seen.state

    def service(self) -> Verdict:
        return self.protections.health.service[0]

    def want(self, *, lease: bool = False, fence: bool = False, hurry: bool = False) -> None:
        self.protections.want(lease=lease, fence=fence, hurry=hurry)


def test_what_is_not_configured_is_not_imported() -> None:
    """No fence, lease, hook and service check: none of their modules, and no library of theirs."""
    shown = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True
    )
    for name in (
        "fence",
        "commands",
        "checks",
        "leases.etcd",
        "leases.keeper",
        "hooks",
        "ownership",
    ):
        assert f"failover_monitor.{name}" not in shown.stdout.split()


def test_what_is_not_configured_stands_in_nobodys_way() -> None:
    """No lease is one that never ends; no check vetoes, none triggers."""
    protections = Protections(policy_of(), lambda: 0.0, lambda: None)
    protections.look(5.0, proven={"198.51.100.2": 4.0}, silent=False)
    protections.want(lease=True, fence=True, hurry=True)
    assert protections.lease_until_s == INF
    assert protections.due_s == INF
    assert protections.fence_seen == FenceSeen()
    assert protections.health.vetoes(0.0) == ()
    assert protections.health.service[0] is Verdict.UNKNOWN
    protections.leave()


def test_services_on_a_lease_stop_so_early_that_they_are_gone_when_it_ends() -> None:
    """The stop limit and the slack before its end, counted from the sending of the last renewal."""
    stage = Stage(policy_of(lease=LEASE))
    stage.want(lease=True)
    stage.pass_time(10.0)
    limit_s = stage.world.policy.stop_limit_s
    stop_s, ends_s = stage.protections.lease_until_s, stage.world.store.until_s
    assert stop_s + limit_s + SLACK_S <= ends_s
    stage.world.store.obey("unreachable")
    stage.pass_time(60.0)
    last_sent_s = ends_s - LEASE.ttl_s
    expected_s = last_sent_s + held_for_s(LEASE.ttl_s) - limit_s - SLACK_S
    assert stage.protections.lease_until_s == pytest.approx(expected_s)
    assert stage.protections.leased_since_s is None


def test_a_lease_that_is_lost_ends_now() -> None:
    """Not when it would have ended: somebody else may have it."""
    stage = Stage(policy_of(lease=LEASE))
    stage.want(lease=True)
    stage.pass_time(10.0)
    assert stage.protections.lease_until_s > stage.world.now_s
    stage.world.store.obey("refused")
    stage.pass_time(3.0)
    assert stage.protections.lease_until_s <= stage.world.now_s
    assert stage.protections.lease_why == f"{OTHER} holds it"


def test_a_lease_that_is_not_wanted_is_given_back() -> None:
    """So that the other host need not wait for its end."""
    stage = Stage(policy_of(lease=LEASE))
    stage.want(lease=True)
    stage.pass_time(5.0)
    since_s = stage.protections.leased_since_s
    assert since_s is not None
    stage.want(lease=False)
    stage.pass_time(1.0)
    assert stage.world.store.held_by(stage.world.now_s) == ""
    assert stage.protections.leased_since_s is None


def test_a_wish_that_is_taken_back_ends_the_fence_and_forgets_its_result() -> None:
    """What was done for one verdict is no answer for the next."""
    stage = Stage(policy_of(fence=FENCE))
    stage.want(fence=True)
    stage.pass_time(5.0)
    assert stage.fencing() is Fencing.DONE
    stage.want(fence=False)
    assert stage.fencing() is Fencing.IDLE


def test_the_next_policy_goes_on_with_what_stays_the_same() -> None:
    """A reload neither drops the lease nor forgets what the checks said."""
    policy = policy_of(lease=LEASE, fence=FENCE, service_checks=(CHECK,))
    stage = Stage(policy)
    stage.want(lease=True, fence=True)
    stage.world.says["tcp"] = "fails"
    stage.pass_time(20.0)
    before = stage.protections
    after = Protections(
        replace(policy, interval_s=1.0), lambda: stage.world.now_s, lambda: None, before=before
    )
    before.leave(after)
    assert after.lease_until_s == before.lease_until_s > stage.world.now_s
    assert after.leased_since_s == before.leased_since_s
    assert after.fence_seen.state is Fencing.DONE
    assert after.health.service[0] is Verdict.DOWN


def test_what_the_next_policy_does_without_is_ended() -> None:
    """A fence that nobody wants any more must not go on."""
    policy = policy_of(lease=LEASE, fence=FENCE)
    stage = Stage(policy)
    stage.want(lease=True, fence=True)
    stage.pass_time(1.0)
    before = stage.protections
    after = Protections(
        replace(policy, fence=None, lease=None), lambda: 0.0, lambda: None, before=before
    )
    before.leave(after)
    assert before.fence_seen.state is Fencing.IDLE
    assert after.lease_until_s == INF


def test_a_hurry_asks_at_once_and_often() -> None:
    """While somebody waits for the answer, an interval of five seconds is too long."""
    stage = Stage(policy_of(service_checks=(CHECK,)))
    stage.pass_time(2.0)
    began_s = stage.world.now_s
    stage.want(hurry=True)
    stage.world.says["tcp"] = "fails"
    stage.pass_time(1.5)
    verdict, since_s = stage.protections.health.service
    assert verdict is Verdict.DOWN
    assert since_s - began_s < 1.5


def test_a_failure_counts_only_beside_an_answered_echo() -> None:
    """Where the primary is silent it may be the path that fails, not the service."""
    stage = Stage(policy_of(service_checks=(CHECK,)))
    stage.pass_time(6.0)
    assert stage.service() is Verdict.UP
    stage.silent = True
    stage.world.says["tcp"] = "fails"
    stage.pass_time(60.0)
    assert stage.service() is Verdict.UNKNOWN
    stage.silent = False
    stage.pass_time(11.0)
    assert stage.service() is Verdict.DOWN


def test_without_protection_nothing_is_armed_that_an_earlier_process_armed() -> None:
    """It was killed, and the configuration changed: no reason for a reset."""
    world = World(policy_of())
    world.recorder.raised.add("armed")
    world.begin()
    world.run_until(1.0)
    assert world.recorder.raised == set()


def test_a_reload_that_takes_the_lease_away_disarms_the_host() -> None:
    """Nothing has to end in time any more: no reason for a reset."""
    world = World(policy_of(lease=LEASE))
    world.begin()
    world.run_until(10.0)
    world.hosts["198.51.100.2"].up = False
    world.store.holder = ""
    world.run_until(60.0)
    assert "armed" in world.recorder.raised
    assert world.monitor
    world.policy = policy_of()
    world.monitor.reload(world.policy, world.monitor.probe)
    world.run_until(70.0)
    assert world.recorder.raised == set()
