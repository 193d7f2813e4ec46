"""The words this program thinks in.

Every module may import this one; this one imports nothing of ours and does nothing: no clock, no
socket, no file.  A word that is missing here is missing from the README too.

All times are seconds.  A moment (`now_s`, `since_s`, ...) is a reading of CLOCK_BOOTTIME, which
counts suspend and never steps; the wall clock appears only in what people read.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What the evidence says about the primary."""

    UP = "up"  # it answers
    DOWN = "down"  # N checks in a row failed while our own network was proven to work
    UNKNOWN = "unknown"  # no verdict yet, or our own network does not answer


class Role(StrEnum):
    """Which side of the pair this host is."""

    STANDBY = "standby"  # it watches the primary and stands in for it
    PRIMARY = "primary"  # it guards its own services: they stop when this host is cut off


class Outcome(StrEnum):
    """The three answers of whoever is asked."""

    PASS = "pass"  # noqa: S105 - yes
    FAIL = "fail"  # no, and that is certain
    UNKNOWN = "unknown"  # could not be asked, or gave no clear answer: never evidence


class Phase(StrEnum):
    """Where the pair stands, seen from this host; the last four are the guard's on the primary."""

    UNKNOWN = "unknown"  # not enough evidence: leave the services as they are
    STANDBY = "standby"  # the primary serves
    CLAIM = "claim"  # the primary is down; fence, lease and `pre_takeover` come first
    TAKEOVER = "takeover"  # the primary is down; our services are being started
    ACTIVE = "active"  # all our services run in the primary's place
    FAILBACK = "failback"  # the primary is back; our services are being stopped
    GATED = "gated"  # the services are held back until this host may serve
    OPENING = "opening"  # it may: the services are being started
    SERVING = "serving"  # the services may run here
    CLOSING = "closing"  # it may no more: the services are being stopped, then killed


SERVING = frozenset({Phase.TAKEOVER, Phase.ACTIVE})  # we stand in for the primary
ARMED = SERVING | {Phase.FAILBACK, Phase.OPENING, Phase.SERVING, Phase.CLOSING}  # services may run
ENDING = frozenset({Phase.FAILBACK, Phase.CLOSING})  # they are being stopped


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
AT_REST = frozenset({Unit.STOPPED, Unit.FAILED, Unit.FINISHED})  # serves nobody
INF = float("inf")
BY_HAND = "an operator asked for it"
RESUMED = "the pause is over"  # why a verdict is given up then: no fault of anything
RHO = 1e-3  # two clocks run apart by at most this; crystals 1e-4, NTP slews by 5e-4
SLACK_S = 2.0  # eps: a late turn, or two restarts of this process
ROUND_TRIP_S = 0.1  # d: the longest round trip that the inequalities allow for
RENEWALS = 6  # of a lease in one term: so many may be lost in a row, less two
KILL_BEFORE_S = 1.0  # so long before the stop limit what still runs is killed
GUARD_INTERVAL_S = 0.5  # between two echo rounds of the guard
BY_HAND_S = 60.0  # an operator still looks
PATIENCE_S = 10.0  # a service that changes for longer is told of, and the next one is asked


class Verb(StrEnum):
    """What an effect asks of a service."""

    START = "start"
    STOP = "stop"
    KILL = "kill"  # SIGKILL to everything in the service's cgroup


class Failback(StrEnum):
    """When services go back to a primary that answers again."""

    AUTO = "auto"  # at once
    DELAYED = "delayed"  # after it has answered without a gap for `recovery_delay_s`
    MANUAL = "manual"  # when an operator asks for it


class Foreign(StrEnum):
    """What to do about a service that somebody else starts while the primary answers."""

    REPORT = "report"  # say so, leave it alone
    STOP = "stop"


class Evidence(StrEnum):
    """Whose answers to ARP or neighbour solicitations count as answers to echoes."""

    NONE = "none"
    REFERENCES = "references"  # of a reference that has never answered an echo
    ALL = "all"  # and of the primary: wrong where something answers ARP for a dead host


class Fencing(StrEnum):
    """How far the fence command has come."""

    IDLE = "idle"  # not asked
    RUNNING = "running"  # under way, or between two tries
    DONE = "done"  # it succeeded: the primary is off
    FAILED = "failed"  # it failed; tried again every now and then


class Hooking(StrEnum):
    """How far the command of a hook has come."""

    IDLE = "idle"  # not asked
    RUNNING = "running"  # under way, or waiting for its turn
    DONE = "done"  # it ended with status 0
    FAILED = "failed"  # anything else; where it is a veto, tried again every now and then


class FenceFailure(StrEnum):
    """What follows when the fence command fails."""

    HOLD = "hold"  # no takeover
    WAIT_FOR_GUARD = "wait_for_guard"  # takeover after `takeover_delay`: the guard has stopped all


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCheck:
    """A question to the primary's service, beside the echo."""

    kind: str  # a key of `checks.KINDS`
    name: str  # for people; unique
    options: dict[str, Any]  # what the kind needs, validated, as JSON has it
    interval_s: float = 5.0
    timeout_s: float = 2.0
    trigger: bool = False  # failing alone causes a takeover
    threshold: int = 3  # failures in a row that do
    gates_failback: bool = True  # a delayed failback waits for it

    @property
    def gates(self) -> bool:
        """Whether a failback waits for it: for a trigger always, it would be undone at once."""
        return self.gates_failback or self.trigger


@dataclass(frozen=True, slots=True)
class CheckSeen:
    """One run of a service check."""

    name: str
    outcome: Outcome
    why: str
    began_s: float
    ended_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FencePolicy:
    """A command that must succeed before a takeover."""

    command: tuple[str, ...]  # argument list; never a shell's
    options: dict[str, str]  # written to its standard input, one `key=value` a line
    timeout_s: float = 60.0
    retries: int = 2
    on_failure: FenceFailure = FenceFailure.HOLD


@dataclass(frozen=True, slots=True)
class FenceSeen:
    """The fence command, as things stand."""

    state: Fencing = Fencing.IDLE
    tries: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookPolicy:
    """An operator's command that is run at one moment of a failover."""

    command: tuple[str, ...]  # argument list; never a shell's
    timeout_s: float = 30.0
    veto: bool = False  # of `pre_takeover`: its failure holds the takeover
    level: int = 30  # of `on_event`: less serious ones are not passed on; as `logging` counts


@dataclass(frozen=True, slots=True, kw_only=True)
class HooksPolicy:
    """The commands, by the moment at which they are run."""

    pre_takeover: HookPolicy | None = None
    post_takeover: HookPolicy | None = None
    pre_failback: HookPolicy | None = None
    post_failback: HookPolicy | None = None
    on_event: HookPolicy | None = None


@dataclass(frozen=True, slots=True)
class HookSeen:
    """A hook that something waits for, as things stand."""

    state: Hooking = Hooking.IDLE
    since_s: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookTold:
    """What became of one hook, for people."""

    name: str  # a field of `HooksPolicy`
    state: Hooking
    why: str = ""  # why it failed; else its last line
    took_s: float = 0.0
    holds: bool = False  # its failure holds the takeover
    dropped: int = 0  # events that were not passed on, since this was told last


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePolicy:
    """A lease in a store that both hosts reach: only its holder serves."""

    engine: str  # a key of `leases.KINDS`
    endpoints: tuple[str, ...]
    name: str
    holder: str  # what this host calls itself there; unique among all that share the lease
    ttl_s: float = 15.0
    ca: str = ""  # files for TLS
    cert: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPolicy:
    """The guard on the primary: the numbers that both hosts must agree on."""

    deadline_s: float = 5.0  # F: no answer to an echo sent within the last F: stop
    stop_limit_s: float = 5.0  # t_stop: then everything is gone, or the host is reset
    boot_hold_s: float = 0.0  # references must answer for so long before the services start


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How sure, how patient and how automatic the pair is: the configuration, as the core sees it.

    The names, defaults and ranges of the keys behind it are in `config.py`.
    """

    primary: tuple[str, ...]  # addresses; an answer from any of them means alive
    references: tuple[str, ...]  # gateway first, then witnesses: they prove our own network
    services: tuple[str, ...]  # unit names, in the order in which they start
    role: Role = Role.STANDBY
    standby: tuple[str, ...] = ()  # addresses; the guard on the primary echoes them
    references_required: int = 1  # k of n: so many must answer in a check
    neighbour_evidence: Evidence = Evidence.NONE
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
    service_checks: tuple[ServiceCheck, ...] = ()
    guard: GuardPolicy | None = None  # on the standby: the primary is known to run one
    fence: FencePolicy | None = None
    lease: LeasePolicy | None = None
    flap_window_s: float = 0.0  # takeovers closer than this are flapping; 0: never
    max_takeovers: int = 3  # so many in one window: no more before an operator's `ack`
    hooks: HooksPolicy | None = None

    @property
    def pre_takeover(self) -> HookPolicy | None:
        """The command that a takeover waits for."""
        return self.hooks.pre_takeover if self.hooks else None

    @property
    def pre_failback(self) -> HookPolicy | None:
        """The command that a failback waits for; never where stopping is enforced."""
        return self.hooks.pre_failback if self.hooks and not self.enforced else None

    @property
    def enforced(self) -> bool:
        """Somebody counts on our services being gone in time: stop, then kill, then reset."""
        return self.role is Role.PRIMARY or self.guard is not None or self.lease is not None

    @property
    def stop_limit_s(self) -> float:
        """t_stop: where stopping is enforced, everything is gone so long after it began."""
        return self.limits.stop_limit_s

    @property
    def limits(self) -> GuardPolicy:
        """The guard's numbers; where none is configured, those that it would have."""
        return self.guard or GuardPolicy()

    @property
    def triggered(self) -> bool:
        """A dead service alone is a reason for a takeover."""
        return any(check.trigger for check in self.service_checks)

    @property
    def fence_holds(self) -> bool:
        """Every takeover comes after a fence that succeeded."""
        return self.fence is not None and self.fence.on_failure is FenceFailure.HOLD

    @property
    def by_hand_limit_s(self) -> float:
        """So long an operator's takeover waits for what must come first, then it is given up."""
        fence_s = self.fence.timeout_s * (self.fence.retries + 1) if self.fence else 0.0
        hook_s = self.pre_takeover.timeout_s if self.pre_takeover else 0.0
        return BY_HAND_S + fence_s + hook_s + self.takeover_delay_s

    @property
    def waits_for_guard(self) -> bool:
        """After a fence that failed, the takeover delay makes sure of the primary."""
        return self.fence is not None and not self.fence_holds

    @property
    def watched(self) -> tuple[str, ...]:
        """Every address that gets an echo in a round."""
        return (*self.primary, *self.standby, *self.references)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One check that has ended, in numbers."""

    failed: bool  # else it proves nothing
    began_s: float
    ended_s: float
    planned: int  # echo rounds that the schedule put into it
    sent: int  # of these, really sent
    silent: tuple[str, ...]  # the primary's addresses: none of them has answered one
    answered: tuple[tuple[str, int], ...]  # each reference, and how many of its echoes it answered
    in_time: tuple[str, ...]  # the references whose answers count


@dataclass(frozen=True, slots=True)
class Told:
    """One notice, with its evidence in words."""

    notice: Notice
    why: str
    subject: str = ""  # a reference's address, or the new verdict
    gap_s: float = 0.0  # how long the primary had been silent
    check: Judged | None = None  # the one that this is about


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
    takeovers: tuple[float, ...] = ()  # when the latest ones began
    flapping: bool = False  # too many of them: none before an operator's `ack`
    fenced: bool = False  # the primary was switched off, and has not answered since
    by_hand: str = ""  # who asked for this takeover, while no evidence has made it an ordinary one
    ending_s: float = 0.0  # when the present stop should have begun
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
    takeover_asked: str = ""  # by whom; "" = nobody asks now
    paused: str = ""  # hands off, in an operator's words; "" = no
    acknowledged: bool = False  # an operator has seen that it flaps
    listening: bool = False  # after a restart or a pause: is the primary back? not heard yet
    vetoes: tuple[str, ...] = ()  # why a silent primary may yet serve
    service: Verdict = Verdict.UNKNOWN  # of the checks that may trigger a takeover
    service_since_s: float = 0.0
    healthy_since_s: float | None = None  # the checks that gate a failback pass since then
    fence: FenceSeen = FenceSeen()  # frozen
    serve_until_s: float = INF  # then our services must begin to stop
    pre_takeover: HookSeen = HookSeen()  # frozen, as the next one
    pre_failback: HookSeen = HookSeen()


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of phase, and the sentence that explains it."""

    source: Phase
    target: Phase
    because: str
    when: str  # the name of the row's condition


@dataclass(frozen=True, slots=True)
class Moment:
    """How the pair stands when a hook is asked for: what its environment says."""

    phase: Phase
    verdict: Verdict
    why: str
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The machine's answer to one observation."""

    state: PairState
    transition: Transition | None = None
    effects: tuple[Effect, ...] = field(default=())
