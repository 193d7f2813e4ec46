"""The configuration is read by a child process, and its answer is a policy, or every problem.

Rule: the child is the real one.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from failover_monitor import loader
from failover_monitor.config import parse
from failover_monitor.loader import UnansweredError, UnusableError, load_apart
from failover_monitor.model import (
    FenceFailure,
    FencePolicy,
    GuardPolicy,
    LeasePolicy,
    Role,
    ServiceCheck,
)

STANDBY: dict[str, Any] = {
    "gateway_ip": "198.51.100.1",
    "active_ip": "198.51.100.2",
    "services_to_manage": ["app.service"],
    "service_checks": [
        {"type": "command", "command": ["/bin/x", "-y"], "pass": [0, 1]},
        {"type": "http", "url": "http://198.51.100.2/"},
    ],
    "fence": {"command": ["/bin/off"], "options": {"ip": "198.51.100.4"}},
    "lease": {"endpoints": ["http://198.51.100.11:2379"], "holder": "b"},
}
PRIMARY: dict[str, Any] = {
    "role": "primary",
    "gateway_ip": "198.51.100.1",
    "standby_ip": "198.51.100.3",
    "services_to_manage": ["app.service"],
}


@pytest.mark.parametrize("keys", [STANDBY, PRIMARY], ids=["standby", "primary"])
def test_the_policy_arrives_as_it_was_made(tmp_path: Path, keys: dict[str, Any]) -> None:
    """With every protection, in the core's own types; and the text, to keep."""
    path = tmp_path / "config.json"
    text = f"// mine\n{json.dumps(keys)}"
    path.write_text(text)
    loaded = load_apart(path)
    assert loaded.text == text
    policy = loaded.policy
    assert policy == parse(text, path).policy
    assert isinstance(policy.role, Role)
    assert isinstance(policy.services, tuple)
    if policy.role is Role.PRIMARY:
        assert isinstance(policy.guard, GuardPolicy)
        assert (policy.lease, policy.fence, policy.service_checks) == (None, None, ())
        return
    assert isinstance(policy.lease, LeasePolicy)
    assert isinstance(policy.fence, FencePolicy)
    assert policy.fence.on_failure is FenceFailure.HOLD
    assert all(isinstance(check, ServiceCheck) for check in policy.service_checks)
    assert isinstance(policy.lease.endpoints, tuple)


def test_every_problem_arrives(tmp_path: Path) -> None:
    """As people read them."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(PRIMARY | {"guard": {"deadlin": 1}, "fence": {}}))
    with pytest.raises(UnusableError) as refused:
        load_apart(path)
    assert not isinstance(refused.value, UnansweredError)
    for words in (
        "guard.deadlin: is not a key",
        "fence: says nothing",
        "fence.command: is missing",
    ):
        assert words in str(refused.value)


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    """The child has answered: another start would not help."""
    with pytest.raises(UnusableError, match="No such file") as refused:
        load_apart(tmp_path / "missing")
    assert not isinstance(refused.value, UnansweredError)


def test_a_child_that_does_not_answer_says_nothing_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs, it breaks, or it cannot even be started: the old configuration stays."""
    hangs = tmp_path / "hangs"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    monkeypatch.setattr(loader, "READ_S", 0.1)
    for program, words in {
        os.fspath(hangs): "timed out",
        "/bin/false": "the reader ended with 1",
        "/bin/true": "the reader ended with 0",
        os.fspath(tmp_path / "missing"): "No such file",
    }.items():
        if "hangs" not in program:
            monkeypatch.setattr(loader, "READ_S", 20.0)
        monkeypatch.setattr(sys, "executable", program)
        with pytest.raises(UnansweredError, match=words):
            load_apart(tmp_path / "config.json")
