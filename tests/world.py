"""The toy world of rehearsals, as tests know it."""

from failover_monitor.rehearsal.script import policy_of
from failover_monitor.rehearsal.world import RESTART_S, World

__all__ = ["RESTART_S", "World", "policy_of"]
