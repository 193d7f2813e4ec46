"""Leases: only who holds the lease serves.  An engine is one file and one line in KINDS.

An engine is imported when it is made: what its store needs is not carried by those who use none.
"""

from collections.abc import Callable
from typing import Protocol

from failover_monitor.leases.keeper import Ask, Keeper, Reply
from failover_monitor.model import LeasePolicy

__all__ = ["KINDS", "Ask", "Engine", "Keeper", "Kind", "Reply"]


class Engine(Protocol):
    """Asks a store on behalf of a Keeper; it judges nothing, never blocks and never raises.

    Every request ends within a fifth of the ttl, with UNKNOWN when nothing is certain by then.
    PASS means that the store keeps the lease for us for one ttl from no earlier than the sending.
    """

    def send(self, ask: Ask) -> None:
        """Begin a request; one that is still under way is given up."""
        ...

    def receive(self) -> list[Reply]:
        """The answers since the last call; `changed` is called when there is one."""
        ...

    def close(self) -> None:
        """Give up what is under way.  The lease is left to expire."""
        ...


class Kind(Protocol):
    """Makes an engine; `changed` is called when there is something to receive."""

    def __call__(self, policy: LeasePolicy, changed: Callable[[], None]) -> Engine: ...


def _etcd(policy: LeasePolicy, changed: Callable[[], None]) -> Engine:
    from failover_monitor.leases.etcd import EtcdLease

    return EtcdLease(policy, changed)


KINDS: dict[str, Kind] = {"etcd": _etcd}
