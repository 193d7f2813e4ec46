"""A scenario's text, understood: a story, what holds, what happens when, what should come of it.

Rule: all or nothing, as for a configuration.  A scenario is understood completely, or refused with
every line that is wrong, and what would be right.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from failover_monitor.model import (
    FencePolicy,
    HookPolicy,
    HooksPolicy,
    Phase,
    Policy,
    Role,
    ServiceCheck,
)
from failover_monitor.rehearsal.moves import (
    CHOICES,
    OF_CHECK,
    OF_FENCE,
    OF_HOOK,
    OF_LEASE,
    SETTINGS,
    Move,
    WordError,
    guard_of,
    lacking,
    lease_for,
    number,
    one_of,
    read_move,
    settings,
)
from failover_monitor.text import one_line

RULE = "----"
PRIMARY, CABLE, GATEWAY, WITNESS = "198.51.100.2", "10.0.0.2", "198.51.100.1", "198.51.100.9"
SECOND, STANDBY = "198.51.100.10", "198.51.100.3"
LONG_AGO_S = -1000.0  # when the host booted, where the story does not say
DAY_S = 86400.0  # takes a quarter of a minute to play
# Letters of a moment: lengths of time that depend on the configuration.
LENGTHS: dict[str, Callable[[Policy], float]] = {
    "T": lambda policy: policy.interval_s,
    "V": lambda policy: policy.verdict_s,
    "D": lambda policy: policy.takeover_delay_s,
    "R": lambda policy: policy.recovery_delay_s,
    "F": lambda policy: policy.limits.deadline_s,
    "S": lambda policy: policy.stop_limit_s,
    "H": lambda policy: policy.limits.boot_hold_s,
    "L": lambda policy: policy.lease.ttl_s if policy.lease else 0.0,
}
TERM = re.compile(rf"(\d+(?:\.\d+)?)?([{''.join(LENGTHS)}])?")
USAGE = (
    "policy KEY=VALUE..., services UNIT..., cable, witness, witnesses, role primary,"
    " guard KEY=VALUE..., fence KEY=VALUE..., lease ttl=SECONDS, hook NAME KEY=VALUE...,"
    " service_check NAME [trigger] KEY=VALUE..."
)
ANCHORS = ("at", "after", "once")
ANOTHER = "another configuration (--config), or another story"
OPENINGS = (
    *("policy", "services", "cable", "witness", "witnesses", "booted", "role", "guard", "fence"),
    *("lease", "hook", "service_check", *ANCHORS),
)

PHASES = {  # in which each of the two can be
    Role.PRIMARY: (Phase.UNKNOWN, Phase.GATED, Phase.OPENING, Phase.SERVING, Phase.CLOSING),
    Role.STANDBY: (
        *(Phase.UNKNOWN, Phase.STANDBY, Phase.CLAIM),
        *(Phase.TAKEOVER, Phase.ACTIVE, Phase.FAILBACK),
    ),
}
OF_HOSTS: dict[str, dict[str, Any]] = {  # lines that say who is there
    "cable": {"primary": (PRIMARY, CABLE)},
    "witness": {"references": (GATEWAY, WITNESS)},
    "witnesses": {"references": (GATEWAY, WITNESS, SECOND)},
    "role primary": {
        "role": Role.PRIMARY,
        "primary": (),
        "standby": (STANDBY,),
        "guard": guard_of(()),
    },
}


@dataclass(frozen=True, slots=True)
class Moment:
    """A length of time: seconds, and so many times the lengths of a configuration."""

    terms: tuple[tuple[float, str], ...]  # "" = seconds

    def seconds(self, policy: Policy) -> float:
        return sum(
            times * (LENGTHS[letter](policy) if letter else 1.0) for times, letter in self.terms
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of the script: wait, then let things happen."""

    line: int
    source: str
    anchor: str  # one of ANCHORS
    moment: Moment | None = None
    phase: Phase | None = None  # with "once"
    moves: tuple[Move, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A scenario that was understood completely."""

    story: str
    policy: Policy | None  # None: that of whoever plays it
    steps: tuple[Step, ...]
    booted_s: float
    expected: str | None  # the timeline that should come of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One line that is wrong."""

    line: int  # from 1; 0 = the whole
    column: int
    what: str
    right: str
    source: str = ""


class ScenarioError(Exception):
    """A scenario that cannot be played; its text is every problem, one block each."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(block(name, problem) for problem in self.problems))


def block(name: str, problem: Problem) -> str:
    """One line, the source line, and a caret below the place."""
    says = f"{problem.what}; right: {problem.right}"
    if not problem.line:
        return f"{name}: {says}"
    source = one_line(problem.source)
    caret = f"{' ' * (problem.column - 1)}^"
    return f"{name}:{problem.line}:{problem.column}: {says}\n    {source}\n    {caret}"


def parse(text: str, name: str = "scenario") -> Script:
    """Understand a scenario.  Raises ScenarioError with every problem."""
    script, rule, expected = f"\n{text}".partition(f"\n{RULE}\n")
    lines = script[1:].split("\n")
    begin = end_of_story(lines)
    draft = Draft(begin)
    for at, line in enumerate(lines[begin:], begin + 1):
        if line.strip() and not line.startswith("#"):
            draft.read(at, line)
    if not draft.steps and not draft.problems:
        what, right = "nothing happens", "lines such as: at 10 primary silent"
        draft.problems.append(Problem(line=0, column=1, what=what, right=right))
    if draft.problems:
        raise ScenarioError(name, draft.problems)
    return Script(
        story="\n".join(lines[:begin]).strip(),
        policy=policy_of(**draft.policy) if draft.policy else None,
        steps=tuple(draft.steps),
        booted_s=draft.booted_s,
        expected=expected if rule else None,
    )


def end_of_story(lines: Sequence[str]) -> int:
    """How many lines the story takes: all before the first empty one."""
    if lines[0].partition(" ")[0] in OPENINGS:
        return 0
    return next((at for at, line in enumerate(lines) if not line.strip()), len(lines))


def policy_of(**changes: Any) -> Policy:
    """What a scenario's own policy is, where it does not say otherwise: one of everything."""
    least = {"primary": (PRIMARY,), "references": (GATEWAY,), "services": ("app.service",)}
    return Policy(**{"startup_grace_s": 0.0} | least | changes)


class Draft:
    """A scenario while it is read."""

    def __init__(self, story: int) -> None:
        self.story = story
        self.policy: dict[str, Any] = {}
        self.steps: list[Step] = []
        self.booted_s = LONG_AGO_S
        self.problems: list[Problem] = []

    def read(self, at: int, line: str) -> None:
        """Take one line, or what is wrong with it."""
        words = line.split()
        try:
            if words[0] in ANCHORS:
                self.steps.append(step(at, line))
            elif words[0] == "booted":
                if len(words) != 2:
                    raise WordError("'booted' takes one moment", "booted -10")
                sign = -1.0 if words[1].startswith("-") else 1.0
                self.booted_s = sign * number(words[1].removeprefix("-"))
            else:
                self.policy.update(own_policy(words, self.policy))
        except WordError as error:
            quoted = re.search(r"'([^']+)'", error.what)
            found = line.find(quoted[1]) if quoted else -1
            column = max(0, found) + 1
            self.problems.append(
                Problem(line=at, column=column, what=error.what, right=error.right, source=line)
            )


def own_policy(words: Sequence[str], known: dict[str, Any]) -> dict[str, Any]:
    """What one line adds to the scenario's own policy.  Raises WordError."""
    if (hosts := OF_HOSTS.get(" ".join(words))) is not None:
        return hosts
    match words:
        case ["policy", *pairs]:
            return settings(pairs, SETTINGS)
        case ["services", *names] if names:
            return {"services": tuple(names)}
        case ["guard", *pairs]:
            return {"guard": guard_of(pairs)}
        case ["fence", *pairs]:
            return {
                "fence": FencePolicy(command=("fence",), options={}, **settings(pairs, OF_FENCE))
            }
        case ["lease", *pairs]:
            return {"lease": lease_for(**settings(pairs, OF_LEASE))}
        case ["hook", name, *pairs]:
            hook = HookPolicy(command=(name,), **settings(pairs, OF_HOOK))
            hooks = known.get("hooks", HooksPolicy())
            return {"hooks": replace(hooks, **{one_of(CHOICES["NAME"])(name): hook})}
        case ["service_check", name, "trigger", *pairs]:
            return one_check_more(name, {"trigger": True} | settings(pairs, OF_CHECK), known)
        case ["service_check", name, *pairs]:
            return one_check_more(name, settings(pairs, OF_CHECK), known)
    one_of(OPENINGS)(words[0])
    raise WordError(f"{words[0]!r} is not used like this", USAGE)


def one_check_more(name: str, values: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    check = ServiceCheck(kind="toy", name=name, options={}, **values)
    return {"service_checks": (*known.get("service_checks", ()), check)}


def step(at: int, line: str) -> Step:
    """One line that begins with an anchor.  Raises WordError."""
    anchor, *rest = line.split(None, 2)
    if not rest:
        raise WordError(f"{anchor!r} says neither when nor what", "at 10 primary silent")
    told = rest[1].split(",") if len(rest) > 1 else []
    moves = tuple(read_move(" ".join(words.split())) for words in told)
    if anchor == "once":
        phase = Phase(one_of(tuple(Phase))(rest[0]))
        return Step(line=at, source=line, anchor=anchor, phase=phase, moves=moves)
    if not moves:
        raise WordError(f"{rest[0]!r} is followed by nothing", "a move, such as: primary silent")
    return Step(line=at, source=line, anchor=anchor, moment=moment(rest[0]), moves=moves)


def moment(word: str) -> Moment:
    """`10`, `2V`, `V+1.5`.  Raises WordError."""
    terms = []
    for term in word.split("+"):
        found = TERM.fullmatch(term)
        if not term or not found:
            letters = ", ".join(LENGTHS)
            right = f"seconds, or times of the configuration ({letters}), such as 10 or 2V+5"
            raise WordError(f"{word!r} is no moment", right)
        terms.append((float(found[1] or 1.0), found[2] or ""))
    return Moment(tuple(terms))


def missing(script: Script, policy: Policy) -> Iterator[Problem]:
    """What the script needs, and this policy has not."""
    moves = [move for step in script.steps for move in step.moves]
    listed = frozenset(
        name for move in moves if move.pattern.startswith("list ") for name in move.values
    )
    leased = any(move.pattern == "lease ttl TTL" for move in moves)
    last_s = 0.0
    for step in script.steps:
        if step.moment and step.moment.seconds(policy) > DAY_S:
            when = step.source.split()[1]
            yield lacks(step, when, f"{when!r} is longer than a day", "at most 86400 s in one line")
        if step.anchor == "at" and step.moment:
            if step.moment.seconds(policy) < last_s:
                when = step.source.split()[1]
                yield lacks(step, when, f"{when!r} is before the line above", "moments in order")
            last_s = max(last_s, step.moment.seconds(policy))
        if step.phase and step.phase not in PHASES[policy.role]:
            what = f"no {policy.role} is ever {step.phase.value!r}"
            yield lacks(step, step.phase.value, what)
        for move in step.moves:
            if leased and move.pattern == "lease STORE":
                continue
            if what := lacking(move, policy, listed):
                yield lacks(step, move.words.split()[0], f"{move.words!r} cannot happen: {what}")


def lacks(step: Step, word: str, what: str, right: str = ANOTHER) -> Problem:
    column = step.source.find(word) + 1
    return Problem(line=step.line, column=column, what=what, right=right, source=step.source)
