"""Plays a script in the toy world, and tells what was decided, said and asked.

Rule: the story is only played.  What it finds is the production monitor's doing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from failover_monitor.events import DEBUG, Event, Kind
from failover_monitor.model import AT_REST, Outcome, Phase, Policy, Unit
from failover_monitor.rehearsal.script import Script, Step
from failover_monitor.rehearsal.toys import SAYS
from failover_monitor.rehearsal.world import Note, Turn, World

TOLD = {
    Kind.TRANSITION,
    Kind.ASKED,
    Kind.HELD,
    Kind.REFERENCE,
    Kind.FOREIGN,
    Kind.SERVICE_FAILED,
    Kind.STOP_OVERDUE,
    Kind.FAILBACK_WAITS,
    Kind.INTENT_ENDED,
    Kind.DOUBT,
    Kind.TWO_ACTIVE,
    Kind.VETO,
    Kind.CLAIM,
    Kind.FENCE,
    Kind.HOOK,
    Kind.PAUSED,
    Kind.OPERATOR,
    Kind.LEASE,
    Kind.SERVICE_CHECK,
    Kind.FLAPPING,
    Kind.GATED,
}
SERVES = (Unit.RUNNING, Unit.FINISHED)
PATIENCE_S = 60.0  # beyond all that a configuration makes us wait for
MARKS = {"said": "", "note": "* ", "word": "= ", "story": "> "}


@dataclass(frozen=True, slots=True)
class Scene:
    """Who could serve at one moment."""

    primary: bool  # it answers, and no service check of it fails
    out: bool  # it serves nobody, for certain: it has no power, or answers and fails a check
    all_here: bool  # every service runs here
    some_here: bool  # at least one may: it runs, or has not stopped yet
    linked: bool  # our own network works


@dataclass(slots=True)
class Played:
    """A story that has been played."""

    world: World
    scenes: list[tuple[float, Scene]] = field(default_factory=list)  # only changes
    in_vain: list[str] = field(default_factory=list)  # what was waited for, and never came

    def look(self) -> None:
        scene = scene_of(self.world)
        if not self.scenes or self.scenes[-1][1] != scene:
            self.scenes.append((self.world.now_s, scene))

    def run_until(self, until_s: float) -> None:
        while self.world.now_s < until_s:
            self.world.step(until_s)
            self.look()


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a timeline."""

    at_s: float
    kind: str  # a key of MARKS
    what: str

    def __str__(self) -> str:
        return f"{self.at_s:6.1f}  {MARKS[self.kind]}{self.what}\n"


def scene_of(world: World) -> Scene:
    policy, known = world.policy, world.systemd.services
    listed = [known[name].state for name in policy.services if name in known]
    answers = any(world.hosts[address].up for address in policy.primary)
    said = {SAYS.get(world.says.get(check.name, "passes")) for check in policy.service_checks}
    return Scene(
        primary=answers and Outcome.FAIL not in said,
        out=world.dead or (answers and Outcome.FAIL in said),
        all_here=all(state in SERVES for state in listed),
        some_here=any(state not in AT_REST for state in listed),
        linked=world.plugged and world.network,
    )


def play(script: Script, policy: Policy | None = None) -> Played:
    """Play a script to its end, with its own policy or with another one."""
    chosen = policy or script.policy
    if chosen is None:
        raise ValueError("a script without a policy of its own is played with another one")
    world = World(chosen, booted_s=script.booted_s)
    played = Played(world)
    played.look()
    begun = False
    for step in script.steps:
        until_s = step.moment.seconds(chosen) if step.moment else world.now_s
        if step.anchor == "after":
            until_s += world.now_s
        if not begun and (until_s > 0 or step.phase):
            world.begin()
            begun = True
        played.run_until(until_s)
        if step.phase:
            wait_for(played, step.phase, step)
        for move in step.moves:
            if move.words != "end":
                world.log.append((world.now_s, Turn(move.words)))
            move.perform(world)
            if move.words != "end" and begun:
                world.wake()
            played.look()
    return played


def wait_for(played: Played, phase: Phase, step: Step) -> None:
    """Let time pass until the phase comes, or nothing that is configured would explain the wait."""
    world = played.world
    limit_s = world.now_s + patience_s(world.policy)
    while phase_of(world) is not phase and world.now_s < limit_s:
        world.step(limit_s)
        played.look()
    if phase_of(world) is not phase:
        waited_s = patience_s(world.policy)
        what = f"the story waits for {waited_s:.0f} s, and the phase is not {phase}"
        played.in_vain.append(f"{what} but {phase_of(world) or 'not known'} (line {step.line})")
        world.note(played.in_vain[-1])


def phase_of(world: World) -> Phase | None:
    return world.monitor.state.phase if world.monitor else None


def patience_s(policy: Policy) -> float:
    """How long a phase may be in coming, at most, when all goes well."""
    guard, lease, fence = policy.limits, policy.lease, policy.fence
    waits_s = [PATIENCE_S, 3 * policy.verdict_s, policy.takeover_delay_s, policy.recovery_delay_s]
    waits_s += [guard.deadline_s, guard.stop_limit_s, guard.boot_hold_s, policy.startup_grace_s]
    waits_s += [3 * lease.ttl_s] if lease else []
    waits_s += [(fence.retries + 1) * (fence.timeout_s + PATIENCE_S)] if fence else []
    return sum(waits_s)


def lines(world: World) -> Iterator[Line]:
    """What the story let happen, what was decided, said and asked, and the word in the file."""
    for at_s, entry in world.log:
        match entry:
            case Event():
                if entry.kind in TOLD and entry.level > DEBUG:
                    yield Line(at_s, "said", entry.sentence)
            case Note():
                yield Line(at_s, "note", entry.what)
            case Turn():
                yield Line(at_s, "story", entry.what)
            case _:
                yield Line(at_s, "word", entry)


def timeline(world: World) -> str:
    """What the monitor did, as it stands after the rule of a scenario's file."""
    return "".join(str(line) for line in lines(world) if line.kind != "story")
