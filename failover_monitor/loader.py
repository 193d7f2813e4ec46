"""Reads config.json in a process of its own and hands over the policy.

Rule: the daemon never imports what only reading needs.  pydantic would stay in its memory for ever
(10 MB), and a file on a hanging disk would stop its turns.  The child's answer is one JSON object.
"""

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from failover_monitor.model import Policy

READ_S = 20.0  # limit for the child


class UnusableError(Exception):
    """The configuration cannot be used; the message holds every problem."""


class UnansweredError(UnusableError):
    """The child did not answer: that says nothing about the configuration."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A good configuration: what the core needs, and its text, to keep."""

    policy: Policy
    text: str


def load_apart(path: Path) -> Loaded:
    """Read and validate in a child process.  Raises UnusableError, or UnansweredError."""
    command = [sys.executable, "-m", "failover_monitor.loader", str(path)]
    if sys.flags.isolated:
        command.insert(1, "-I")
    try:
        child = subprocess.run(  # noqa: S603, our own interpreter and module
            command, capture_output=True, text=True, timeout=READ_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnansweredError(f"cannot read {path}: {error}") from error
    try:
        answer = json.loads(child.stdout)
    except ValueError as error:
        last = child.stderr.strip().rpartition("\n")[2]
        status = f"the reader ended with {child.returncode}"
        raise UnansweredError(f"cannot read {path}: {status}: {last}") from error
    if "problems" in answer:
        raise UnusableError(answer["problems"])
    return Loaded(policy_from(answer["policy"]), answer["text"])


def policy_from(plain: dict[str, Any]) -> Policy:
    """A policy as JSON has it, made a policy again."""
    made: Policy = made_of(Policy, plain)
    return made


def made_of(kind: Any, plain: Any) -> Any:
    """A value of this type from what JSON made of one: dataclasses, tuples, enums, None."""
    if plain is None or kind is Any:
        return plain
    if isinstance(kind, UnionType):  # X | None
        return made_of(next(part for part in get_args(kind) if part is not NoneType), plain)
    if get_origin(kind) is tuple:
        return tuple(made_of(get_args(kind)[0], part) for part in plain)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        types = get_type_hints(kind)
        return kind(**{name: made_of(types[name], part) for name, part in plain.items()})
    return kind(plain) if isinstance(kind, type) and issubclass(kind, StrEnum) else plain


def main() -> int:
    """Be the child."""
    from failover_monitor.config import ConfigError, load

    try:
        config = load(Path(sys.argv[1]))
    except ConfigError as error:
        print(json.dumps({"problems": str(error)}))
        return os.EX_CONFIG
    print(json.dumps({"policy": dataclasses.asdict(config.policy), "text": config.text}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
