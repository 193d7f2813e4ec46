"""Probes ask the world whether a host is there.  A kind is one file and one line in KINDS."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from failover_monitor.model import Answer, Round
from failover_monitor.probes.icmp import IcmpProbe, ProbeError

__all__ = ["KINDS", "Kind", "Probe", "ProbeError"]


class Probe(Protocol):
    """Sends echoes and hands over what came back; it judges nothing and never blocks.

    An echo is answered when its target proves to be alive; `Answer.address` is the address as it
    was configured.  Late answers count, so an echo is kept for a minute.  What arrives is taken for
    an enemy's: it is an answer, or it is nothing, and it never raises.  The descriptors stay the
    same for the life of a probe.
    """

    def send(self, address: str, round_: Round) -> str:
        """Send one echo.  Returns "" when it left, else why it could not, in a few words."""
        ...

    def receive(self) -> Iterable[Answer]:
        """Everything that has arrived by now, each echo's first outcome once."""
        ...

    def filenos(self) -> Iterable[int]:
        """Descriptors that become readable when something arrives."""
        ...

    def close(self) -> None: ...


class Kind(Protocol):
    """Makes a probe of one kind for all addresses of the process.

    `repair`: the addresses whose path a round with `Round.repair` should mend as well as test.
    `neighbours`: the addresses whose answers as neighbours on our own link count like those to
    echoes until they have answered an echo; `neighbours_always`: also afterwards.
    Raises ProbeError.
    """

    def __call__(
        self,
        addresses: Sequence[str],
        *,
        clock: Callable[[], float],
        repair: Collection[str] = (),
        neighbours: Collection[str] = (),
        neighbours_always: Collection[str] = (),
    ) -> Probe: ...


KINDS: dict[str, Kind] = {"icmp": IcmpProbe}
