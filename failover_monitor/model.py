"""The words this program thinks in.

Every module may import this one; this one imports nothing of ours and does nothing: no clock, no
socket, no file.  A word that is missing here is missing from the README too.

All times are seconds.  A moment (`now_s`, `since_s`, ...) is a reading of CLOCK_BOOTTIME, which
counts suspend and never steps; the wall clock appears only in what people read.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """What the evidence says about the primary."""

    UP = "up"  # it answers
    DOWN = "down"  # N checks in a row failed while our own network was proven to work
    UNKNOWN = "unknown"  # no verdict yet, or our own network does not answer


class Phase(StrEnum):
    """Where the pair stands."""

    UNKNOWN = "unknown"  # not enough evidence: leave the services as they are
    STANDBY = "standby"  # the primary serves
    TAKEOVER = "takeover"  # the primary is down; our services are being started
    ACTIVE = "active"  # all our services run in the primary's place
    FAILBACK = "failback"  # the primary is back; our services are being stopped


SERVING = frozenset({Phase.TAKEOVER, Phase.ACTIVE})  # we stand in for the primary


class Unit(StrEnum):
    """What one service (a managed systemd unit) looks like right now."""

    RUNNING = "running"  # active or reloading
    FINISHED = "finished"  # a oneshot that ended with success and does not remain active
    STARTING = "starting"  # a start is under way, or systemd is about to restart it by itself
    STOPPING = "stopping"  # a stop is under way
    STOPPED = "stopped"  # not running, and nothing is under way
    FAILED = "failed"  # failed, masked, missing, unloadable, or its Condition*= is not met
    UNKNOWN = "unknown"  # we could not look: never a reason to act


RUNS = frozenset({Unit.RUNNING, Unit.STARTING})  # serves, or is about to
PATIENCE_S = 10.0  # a service that changes for longer is told of, and the next one is asked


class Verb(StrEnum):
    """What an effect asks of a service."""

    START = "start"
    STOP = "stop"


class Failback(StrEnum):
    """When services go back to a primary that answers again."""

    AUTO = "auto"  # at once
    DELAYED = "delayed"  # after it has answered without a gap for `recovery_delay_s`
    MANUAL = "manual"  # when an operator asks for it


class Foreign(StrEnum):
    """What to do about a service that somebody else starts while the primary answers."""

    REPORT = "report"  # say so, leave it alone
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How sure, how patient and how automatic the pair is: the configuration, as the core sees it.

    The names, defaults and ranges of the keys behind it are in `config.py`.
    """

    primary: tuple[str, ...]  # addresses; an answer from any of them means alive
    references: tuple[str, ...]  # gateway first, then witnesses; any one proves our own network
    services: tuple[str, ...]  # unit names, in the order in which they start
    interval_s: float = 3.0  # T: one echo round this often, while all is well
    threshold: int = 3  # N: failed checks in a row that make the verdict
    timeout_s: float = 1.0  # an answer later than this is late
    retry_interval_s: float | None = None  # R: length of one check; None: the interval
    recovery_threshold: int = 1  # answered rounds in a row that mean: the primary is back
    failback: Failback = Failback.AUTO
    recovery_delay_s: float = 60.0
    takeover_delay_s: float = 0.0  # wait between the verdict and the takeover
    startup_grace_s: float = 120.0  # no verdict so soon after boot, unless the primary was seen
    foreign_start: Foreign = Foreign.REPORT

    @property
    def check_s(self) -> float:
        """R: the length of one check."""
        return self.interval_s if self.retry_interval_s is None else self.retry_interval_s

    @property
    def last_check_s(self) -> float:
        """The length of the check that makes the verdict."""
        if self.retry_interval_s is None:
            return min(self.timeout_s, self.interval_s)
        return self.retry_interval_s

    @property
    def verdict_s(self) -> float:
        """V: from the first unanswered echo to the verdict."""
        return (self.threshold - 1) * self.check_s + self.last_check_s

    @property
    def spacing_s(self) -> float:
        """g: between two echo rounds while suspicious; 18 rounds fit into three checks."""
        return min(0.25, self.check_s / 6)

    @property
    def serving_interval_s(self) -> float:
        """A: between two echo rounds while we serve, so that a return is seen within 0.5 s."""
        return min(self.interval_s, 0.5)


@dataclass(frozen=True, slots=True)
class Round:
    """One echo to every address of the primary and to every reference, at the same instant."""

    number: int
    sent_s: float
    repair: bool  # also ask the primary's neighbour entry anew (own ARP request or solicitation)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one echo: the echo's reply, or an error that names it."""

    address: str
    number: int  # of the round
    sent_s: float  # when the round was sent
    error: str = ""  # "" = a genuine reply; else the ICMP error, which is never evidence


class Notice(StrEnum):
    """What happened inside the detector that people may want to hear of."""

    SUSPECT = "suspect"  # the primary left a round unanswered
    CLEARED = "cleared"  # it answered after all
    FAILED = "failed"  # a check failed
    INCONCLUSIVE = "inconclusive"  # a check proved nothing
    DOUBT = "doubt"  # the evidence was dropped: we could not send or could not time
    VERDICT = "verdict"  # the verdict changed
    HELD = "held"  # silent for long, and still no verdict
    REFERENCE_SILENT = "reference_silent"
    REFERENCE_BACK = "reference_back"


@dataclass(frozen=True, slots=True)
class Told:
    """One notice, with its evidence in words."""

    notice: Notice
    why: str
    subject: str = ""  # a reference's address, or the new verdict
    gap_s: float = 0.0  # how long the primary had been silent


@dataclass(frozen=True, slots=True)
class UnitSeen:
    """One service, as systemd shows it."""

    name: str
    state: Unit
    since_s: float = 0.0  # when it entered that state; 0 = not known
    why: str = ""  # systemd's own words, for people: "masked", "exit-code", "condition not met"


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing the machine asks of systemd."""

    verb: Verb
    service: str
    reset_failed: bool = False  # forget the failure (and the start limit) first


@dataclass(frozen=True, slots=True)
class Memory:
    """What the machine remembers of one service."""

    name: str
    asked: Verb | None = None  # the last effect, since the phase that wanted it began
    asked_s: float = 0.0
    tries: int = 0  # failures in a row of what was asked
    retry_s: float = 0.0  # not asked again before this moment
    finished: bool = False  # a oneshot that ended well after we started it counts as running


@dataclass(frozen=True, slots=True, kw_only=True)
class PairState:
    """All that the machine remembers between two turns."""

    phase: Phase = Phase.UNKNOWN
    since_s: float = 0.0
    settled: bool = False  # the first verdict since boot has been dealt with
    services: tuple[Memory, ...] = ()
    leaving: tuple[str, ...] = ()  # taken off the list while they ran here: ours to stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """All that one turn saw of the world; the machine is told nothing else."""

    now_s: float
    verdict: Verdict
    verdict_since_s: float = 0.0
    answering_since_s: float | None = None  # the primary answers without a gap since then
    units: tuple[UnitSeen, ...] = ()
    host_stopping: bool = False  # systemd is stopping or in maintenance: start nothing
    failback_asked: bool = False  # an operator asked for it


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of phase, and the sentence that explains it."""

    source: Phase
    target: Phase
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The machine's answer to one observation."""

    state: PairState
    transition: Transition | None = None
    effects: tuple[Effect, ...] = field(default=())
