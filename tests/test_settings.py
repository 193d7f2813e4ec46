"""The keys of the protections: what they become, and how wrong ones are refused.

Rule: nothing is sent, no file is read.  Whatever a text says, it is understood completely or
refused with place, key and what would be right; a claim of safety is carried by its numbers.
"""

import json
import logging
import random
import re
import socket
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failover_monitor import timing
from failover_monitor.checks import KINDS
from failover_monitor.checks.unit import refusal
from failover_monitor.config import OF_STANDBY, ConfigError, Problem, parse
from failover_monitor.loader import policy_from
from failover_monitor.model import (
    RENEWALS,
    RHO,
    ROUND_TRIP_S,
    SLACK_S,
    Evidence,
    FenceFailure,
    FencePolicy,
    GuardPolicy,
    HookPolicy,
    HooksPolicy,
    LeasePolicy,
    Policy,
    Role,
    ServiceCheck,
)
from failover_monitor.ownership import distrust
from failover_monitor.safety import OPEN, lease_margin_s

PATH = Path("config.json")
DOCS = Path(__file__).parent.parent / "docs" / "settings.md"
MUTANTS = 250  # of each good configuration
WIDTH = 100
SAME = 1e-6  # sums of floats, and delays are rounded to tenths

FIVE: dict[str, Any] = {
    "gateway_ip": "198.51.100.1",
    "active_ip": "198.51.100.2",
    "ping_interval": 3,
    "ping_fail_threshold": 3,
    "services_to_manage": ["app.service"],
}
ENDPOINTS = [f"http://198.51.100.{host}:2379" for host in (11, 12, 13)]
TCP = {"type": "tcp", "host": "198.51.100.2", "port": 443}
HTTP = {"type": "http", "url": "http://198.51.100.2/health"}
COMMAND = {"type": "command", "command": ["/usr/lib/nagios/plugins/check_x", "-H", "h"]}
UNIT = {"type": "unit", "host": "198.51.100.2", "unit": "app", "identity": "/etc/fm/id"}
FENCE = {"command": ["/usr/sbin/fence_ipmilan"], "options": {"ip": "198.51.100.40"}}
EVERYTHING: dict[str, Any] = FIVE | {
    "role": "standby",
    "active_ip": ["198.51.100.2", "203.0.113.2"],
    "witness_ips": ["198.51.100.4", "198.51.100.5"],
    "references_required": 2,
    "neighbour_evidence": "references",
    "service_checks": [
        {**TCP, "name": "web", "timeout": 1, "interval": 2, "trigger": False, "threshold": 5}
        | {"gates_failback": False},
        {**HTTP, "status": [200, 204], "body": "ok", "verify": False, "ca": "/etc/ca.pem"},
        {**COMMAND, "pass": [0, 1], "fail": [2, 3]},
        {**UNIT, "user": "monitor", "port": 2222, "known_hosts": "/etc/fm/known_hosts"},
    ],
    "guard": {"deadline": 4, "stop_limit": 3, "boot_hold": 20},
    "fence": {**FENCE, "timeout": 30, "retries": 1, "on_failure": "wait_for_guard"},
    "takeover_delay": 60,
    "flap_window": 600,
    "max_takeovers": 2,
}
SERVES = {"gateway_ip": "198.51.100.1", "services_to_manage": ["app.service"]}
PRIMARY: dict[str, Any] = SERVES | {"role": "primary", "standby_ip": "198.51.100.3"}
LEASED: dict[str, Any] = PRIMARY | {
    "standby_ip": ["198.51.100.3", "203.0.113.3"],
    "guard": {"stop_limit": 4},
    "lease": {"engine": "etcd", "endpoints": ENDPOINTS, "name": "web/pair", "holder": "a.lan"}
    | {"ttl": 20, "ca": "/etc/ca.pem", "cert": "/etc/a.pem", "key": "/etc/a.key"},
}
PAIR: dict[str, Any] = FIVE | {"guard": {"deadline": 5, "stop_limit": 5}, "retry_interval": 1.5}
TRIGGERED: dict[str, Any] = FIVE | {
    "service_checks": [{**TCP, "trigger": True, "threshold": 2}, HTTP],
    "fence": {**FENCE, "on_failure": "hold"},
    "failback": "delayed",
}
HOOKED: dict[str, Any] = FIVE | {
    "hooks": {
        "pre_takeover": {"command": ["/opt/pre", "now"], "timeout": 20, "veto": True},
        "post_takeover": {"command": ["/opt/post"]},
        "pre_failback": {"command": ["/opt/back"], "timeout": 2.5},
        "post_failback": {"command": ["/opt/after"]},
        "on_event": {"command": ["/opt/tell"], "timeout": 5, "level": "error"},
    }
}
GOOD = {
    "hooked": HOOKED,
    "triggered": TRIGGERED,
    "everything": EVERYTHING,
    "leased primary": LEASED,
    "five keys": FIVE,
    "guarded standby": PAIR,
    "guarded primary": PRIMARY | {"guard": {"deadline": 5, "stop_limit": 5}},
}
every_good_one = pytest.mark.parametrize("keys", GOOD.values(), ids=GOOD)


def policy_of(keys: dict[str, Any], **more: Any) -> Policy:
    return parse(json.dumps(keys | more), PATH).policy


def checks_of(*checks: dict[str, Any]) -> tuple[ServiceCheck, ...]:
    return policy_of(FIVE, service_checks=checks).service_checks


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as refused:
        parse(text, PATH)
    return refused.value.problems


def only_problem(keys: dict[str, Any], **more: Any) -> Problem:
    (problem,) = problems_of(json.dumps(keys | more, indent=1))
    return problem


# What is accepted.


def test_every_protection_reaches_the_policy() -> None:
    """Each key sets its own field; what only its kind understands are a service check's options."""
    assert policy_of(EVERYTHING) == Policy(
        primary=("198.51.100.2", "203.0.113.2"),
        references=("198.51.100.1", "198.51.100.4", "198.51.100.5"),
        services=("app.service",),
        references_required=2,
        neighbour_evidence=Evidence.REFERENCES,
        takeover_delay_s=60,
        service_checks=(
            ServiceCheck(
                kind="tcp",
                name="web",
                options={"host": "198.51.100.2", "port": 443},
                interval_s=2,
                timeout_s=1,
                threshold=5,
                gates_failback=False,
            ),
            ServiceCheck(
                kind="http",
                name="http http://198.51.100.2/health",
                options={"url": HTTP["url"], "status": [200, 204], "body": "ok"}
                | {"verify": False, "ca": "/etc/ca.pem"},
            ),
            ServiceCheck(
                kind="command",
                name="command check_x",
                options={"command": COMMAND["command"], "pass": [0, 1], "fail": [2, 3]},
            ),
            ServiceCheck(
                kind="unit",
                name="unit app.service on 198.51.100.2",
                options={"host": "198.51.100.2", "unit": "app.service", "user": "monitor"}
                | {"port": 2222, "identity": "/etc/fm/id", "known_hosts": "/etc/fm/known_hosts"},
            ),
        ),
        guard=GuardPolicy(deadline_s=4, stop_limit_s=3, boot_hold_s=20),
        fence=FencePolicy(
            command=("/usr/sbin/fence_ipmilan",),
            options={"ip": "198.51.100.40"},
            timeout_s=30,
            retries=1,
            on_failure=FenceFailure.WAIT_FOR_GUARD,
        ),
        flap_window_s=600,
        max_takeovers=2,
    )


def test_the_primary_reads_the_same_keys() -> None:
    """Whom it echoes, how it stops, and its lease."""
    assert policy_of(LEASED) == Policy(
        primary=(),
        standby=("198.51.100.3", "203.0.113.3"),
        references=("198.51.100.1",),
        services=("app.service",),
        role=Role.PRIMARY,
        guard=GuardPolicy(deadline_s=5, stop_limit_s=4, boot_hold_s=6.7),
        lease=LeasePolicy(
            engine="etcd",
            endpoints=tuple(ENDPOINTS),
            name="web/pair",
            holder="a.lan",
            ttl_s=20,
            ca="/etc/ca.pem",
            cert="/etc/a.pem",
            key="/etc/a.key",
        ),
    )


def test_every_hook_reaches_the_policy() -> None:
    """With its limit; a veto and a level have only those that can."""
    assert policy_of(HOOKED).hooks == HooksPolicy(
        pre_takeover=HookPolicy(command=("/opt/pre", "now"), timeout_s=20, veto=True),
        post_takeover=HookPolicy(command=("/opt/post",)),
        pre_failback=HookPolicy(command=("/opt/back",), timeout_s=2.5),
        post_failback=HookPolicy(command=("/opt/after",)),
        on_event=HookPolicy(command=("/opt/tell",), timeout_s=5, level=logging.ERROR),
    )
    least = policy_of(FIVE, hooks={"on_event": {"command": ["/x"]}}).hooks
    assert least == HooksPolicy(on_event=HookPolicy(command=("/x",), level=logging.WARNING))


def test_the_example_of_hooks_is_a_good_one() -> None:
    """What an operator copies from docs/settings.md."""
    text = DOCS.read_text()
    begin = text.index('"hooks": {')
    example = json.loads("{" + text[begin : text.index("```", begin)] + "}")
    made = policy_of(FIVE, **example).hooks
    assert made
    assert made.pre_takeover
    assert (made.pre_takeover.veto, made.pre_takeover.timeout_s) == (True, 20)


def test_no_hook_is_no_policy_for_hooks() -> None:
    """So that nothing of them is loaded."""
    assert policy_of(FIVE, hooks={}).hooks is None


def test_five_keys_alone_have_no_protection() -> None:
    """Who asks for nothing gets what there was before there were protections."""
    policy = policy_of(FIVE)
    assert policy == Policy(
        primary=("198.51.100.2",), references=("198.51.100.1",), services=("app.service",)
    )
    assert (policy.role, policy.standby, policy.references_required) == (Role.STANDBY, (), 1)
    assert policy.neighbour_evidence is Evidence.NONE
    assert (policy.service_checks, policy.guard, policy.fence, policy.lease) == (
        (),
        None,
        None,
        None,
    )
    assert (policy.flap_window_s, policy.takeover_delay_s, policy.enforced) == (0, 0, False)


@pytest.mark.parametrize(
    ("check", "options"),
    [
        (TCP, {"host": "198.51.100.2", "port": 443}),
        (HTTP, {"url": HTTP["url"], "status": [200], "body": "", "verify": True, "ca": ""}),
        (COMMAND, {"command": COMMAND["command"], "pass": [0], "fail": [2]}),
        (
            UNIT,
            {"host": "198.51.100.2", "unit": "app.service", "user": "root", "port": 22}
            | {"identity": "/etc/fm/id", "known_hosts": "/etc/failover-monitor/known_hosts"},
        ),
    ],
)
def test_a_service_check_has_defaults(check: dict[str, Any], options: dict[str, Any]) -> None:
    """It holds a takeover, gates a failback and triggers nothing, every five seconds."""
    (made,) = checks_of(check)
    assert made == ServiceCheck(kind=check["type"], name=made.name, options=options)


def test_the_exit_codes_of_a_command_reach_the_one_who_judges() -> None:
    """Under the names by which it looks for them."""
    (check,) = checks_of({**COMMAND, "pass": [7], "fail": [8]})
    asker = KINDS["command"](check)
    assert (vars(asker)["_pass"], vars(asker)["_fail"]) == ({7}, {8})


def test_every_service_check_has_a_name_of_its_own() -> None:
    """Also two of the same target, and one that is called like another."""
    second = "tcp 198.51.100.2:443 (2)"
    checks = checks_of(
        TCP, TCP, {**TCP, "name": "web"}, {**TCP, "name": "web"}, {**TCP, "name": second}
    )
    names = [check.name for check in checks]
    assert names[:4] == ["tcp 198.51.100.2:443", second, "web", "web (2)"]
    assert len(set(names)) == len(names)


def test_a_password_in_a_url_is_no_part_of_the_name() -> None:
    """Names stand in logs and in a status that everybody may read."""
    (check,) = checks_of({"type": "http", "url": "https://me:secret@198.51.100.2/"})
    assert check.name == "http https://198.51.100.2/"
    assert check.options["url"] == "https://me:secret@198.51.100.2/"


def test_what_is_left_out_of_fence_and_lease_has_defaults() -> None:
    """A lease is held in the host's own name."""
    policy = policy_of(FIVE, fence={"command": ["/bin/off"]}, lease={"endpoints": ENDPOINTS[:1]})
    assert policy.fence == FencePolicy(command=("/bin/off",), options={})
    assert policy.fence.on_failure is FenceFailure.HOLD
    assert policy.lease == LeasePolicy(
        engine="etcd",
        endpoints=tuple(ENDPOINTS[:1]),
        name="failover-monitor",
        holder=socket.gethostname(),
    )


@pytest.mark.parametrize(
    ("keys", "delay_s", "hold_s"),
    [
        (PAIR | {"guard": {}}, 7.7, 7.7),  # as docs/safety.md works it through
        (PAIR | {"guard": {"deadline": 2, "stop_limit": 3}}, 2.7, 5.7),
        (FIVE | {"guard": {}}, 5.2, 7.7),
        (FIVE | {"guard": {}, "ping_interval": 60}, 0.0, 7.7),
        (FIVE | {"guard": {}, "takeover_delay": 9}, 9, 7.7),
        (FIVE | {"guard": {}, "fence": FENCE}, 0, 7.7),  # it waits for the fence instead
        (FIVE | {"guard": {}, "fence": FENCE | {"on_failure": "wait_for_guard"}}, 5.2, 7.7),
        (FIVE | {"guard": {}, "lease": {"endpoints": ENDPOINTS}}, 0, 7.7),
        (PRIMARY, 0, 7.7),
    ],
)
def test_what_the_guard_needs_is_computed(
    keys: dict[str, Any], delay_s: float, hold_s: float
) -> None:
    """takeover_delay and boot_hold, where nobody has given them and something needs them."""
    policy = policy_of(keys)
    assert policy.guard
    assert (policy.takeover_delay_s, policy.guard.boot_hold_s) == (delay_s, hold_s)
    assert policy.enforced


@every_good_one
def test_a_policy_survives_the_way_from_the_child(keys: dict[str, Any]) -> None:
    """The reader is another process, and its answer is JSON."""
    policy = policy_of(keys)
    assert policy_from(json.loads(json.dumps(asdict(policy)))) == policy


# What is refused.

BAD_CHECKS: list[tuple[dict[str, Any], str, str, str]] = [
    (TCP | {"port": 0}, ".port", "0 is out of range", "1 to 65535"),
    (TCP | {"port": "443"}, ".port", '"443" is not a whole number', "1 to 65535"),
    (TCP | {"port": True}, ".port", "true is not a whole number", "1 to 65535"),
    (TCP | {"host": "198.51.100.999"}, ".host", "is no host", "a host name"),
    (TCP | {"host": "fe80::1"}, ".host", "without interface", "%eth0"),
    (TCP | {"host": "fe80::1%a;b"}, ".host", "not name an interface", "%eth0"),
    (TCP | {"host": "fe80::1%a:b"}, ".host", "is no host", "%eth0"),
    (TCP | {"host": str(socket.inet_ntoa(bytes(4)))}, ".host", "unspecified", "of one host"),
    (TCP | {"host": "-oProxyCommand=x"}, ".host", "is no host", "a host name"),
    (TCP | {"host": 3}, ".host", "3 is not a text", "a host name"),
    (TCP | {"interval": 0}, ".interval", "0 is out of range", "0.1 to 3600"),
    (TCP | {"timeout": None}, ".timeout", "null is not a number", "0.05 to 60"),
    (TCP | {"trigger": 1}, ".trigger", "1 is neither true nor false", "true or false"),
    (TCP | {"threshold": 0}, ".threshold", "0 is out of range", "1 to 100"),
    (TCP | {"gates_failback": "no"}, ".gates_failback", "neither true nor", "true or false"),
    (TCP | {"name": "a\nb"}, ".name", "more than a line", "on one line"),
    (TCP | {"name": "x" * 61}, ".name", "the text is too long", "a short text"),
    (TCP | {"url": "http://h/"}, ".url", "is not a key", "one of name"),
    (TCP | {"treshold": 3}, ".treshold", "is not a key", "did you mean threshold?"),
    ({"type": "tcp", "host": "h"}, ".port", "is missing", "1 to 65535"),
    ({"host": "h", "port": 1}, ".type", "is missing", "one of tcp, http, command, unit"),
    (TCP | {"type": "tpc"}, ".type", '"tpc" is no type of service check', "one of tcp"),
    (TCP | {"type": []}, ".type", "[] is no type of service check", "one of tcp"),
    (HTTP | {"url": "198.51.100.2"}, ".url", "is no URL", "http://HOST"),
    (HTTP | {"url": "http://[::1"}, ".url", "is no URL", "http://HOST"),
    (HTTP | {"url": "http://a\\b@h/"}, ".url", "is no URL", "http://HOST"),
    (HTTP | {"url": "http://h:99999/"}, ".url", "is no URL", "http://HOST"),
    (HTTP | {"url": "http://h\\x/"}, ".url", "is no host", "a host name"),
    (HTTP | {"status": []}, ".status", "the list is empty", "status codes"),
    (HTTP | {"status": [200, 99]}, ".status[1]", "99 is out of range", "status codes"),
    (HTTP | {"body": "\ud800"}, ".body", "half a character", "a text"),
    (HTTP | {"ca": "ca.pem"}, ".ca", "is no absolute path", "begins with /"),
    (COMMAND | {"command": []}, ".command", "the list is empty", "an absolute path"),
    (COMMAND | {"command": "/x -y"}, ".command", "is not a list", "no shell"),
    (COMMAND | {"command": ["x"]}, ".command", "is no absolute path", "begins with /"),
    (COMMAND | {"command": ["/x", 3]}, ".command[1]", "3 is not a text", "no shell"),
    (COMMAND | {"command": ["/x", "\0"]}, ".command[1]", "holds a NUL", "without it"),
    (COMMAND | {"pass": [256]}, ".pass[0]", "256 is out of range", "0 to 255"),
    (COMMAND | {"passes": [1]}, ".passes", "is not a key", "did you mean pass?"),
    (COMMAND | {"pass": [1, 2]}, ".fail", "exit code 2 means both", "in one of pass and fail"),
    (UNIT | {"unit": "app@.service"}, ".unit", "is a template", "an instance"),
    (UNIT | {"unit": "-.mount"}, ".unit", "cannot be asked for", "app.service"),
    (UNIT | {"user": "-l"}, ".user", "is no user", "such as monitor"),
    (UNIT | {"identity": "/a b"}, ".identity", "is no path for ssh", "letters, digits"),
    (UNIT | {"known_hosts": "~/k"}, ".known_hosts", "is no path for ssh", "letters, digits"),
]


@pytest.mark.parametrize(("check", "key", "what", "right"), BAD_CHECKS)
def test_a_bad_service_check_is_refused(
    check: dict[str, Any], key: str, what: str, right: str
) -> None:
    """At its own place in the list, by its own key."""
    problem = only_problem(FIVE, service_checks=[TCP, check])
    assert problem.key == f"service_checks[1]{key}"
    assert what in problem.what
    assert right in problem.right


BAD: list[tuple[dict[str, Any], str, str, str]] = [
    ({"role": "secondary"}, "role", "is not known here", '"standby" or "primary"'),
    ({"role": None}, "role", "null is not known here", '"standby" or "primary"'),
    ({"references_required": 0}, "references_required", "0 is out of", "from 1 to 100"),
    ({"references_required": 2}, "references_required", "2 of only 1", "from 1 to 1"),
    ({"neighbour_evidence": True}, "neighbour_evidence", "true is not", '"references" or "all"'),
    ({"service_checks": {}}, "service_checks", "it is not a list", "up to 16 objects"),
    ({"service_checks": [3]}, "service_checks[0]", "it is not an object", '"type": one of tcp'),
    ({"service_checks": [TCP] * 17}, "service_checks", "too long", "up to 16 objects"),
    ({"guard": None}, "guard", "null is not an object", "deadline, stop_limit"),
    ({"guard": True}, "guard", "true is not an object", "deadline, stop_limit"),
    ({"guard": {"deadline": 0.9}}, "guard.deadline", "0.9 is out of range", "1 to 600"),
    ({"guard": {"stop_limit": "5"}}, "guard.stop_limit", "is not a number", "3 to 600"),
    ({"guard": {"boot_hold": 0}}, "guard.boot_hold", "0 is out of range", "0.1 to 3600"),
    ({"guard": {"deadlin": 5}}, "guard.deadlin", "is not a key", "did you mean deadline?"),
    ({"guard": {"a\nb": 5}}, 'guard."a\\nb"', "is not a key", "one of deadline"),
    ({"fence": None}, "fence", "null is not an object", "command, options"),
    ({"fence": {}}, "fence.command", "is missing", "an absolute path"),
    ({"fence": FENCE | {"command": ["/x", "\ud800"]}}, "fence.command[1]", "half a", "without"),
    ({"fence": FENCE | {"options": ["ip"]}}, "fence.options", "is not an object", '{"ip"'),
    ({"fence": FENCE | {"options": {"ip": 1}}}, "fence.options.ip", "it is not a text", '{"ip"'),
    ({"fence": FENCE | {"options": {"a": "x\ny"}}}, "fence.options.a", "than a line", "one line"),
    ({"fence": FENCE | {"options": {"a=b": "x"}}}, 'fence.options."a=b"', "no name", "digits"),
    ({"fence": FENCE | {"timeout": 0}}, "fence.timeout", "0 is out of range", "0.1 to 600"),
    ({"fence": FENCE | {"retries": 1.5}}, "fence.retries", "not a whole number", "0 to 100"),
    ({"fence": FENCE | {"on_failure": "go"}}, "fence.on_failure", "not known here", '"hold" or'),
    ({"fence": FENCE | {"retry": 1}}, "fence.retry", "is not a key", "did you mean retries?"),
    ({"lease": None}, "lease", "null is not an object", "endpoints, name"),
    ({"lease": {}}, "lease.endpoints", "is missing", "a list of URLs"),
    ({"lease": {"endpoints": []}}, "lease.endpoints", "the list is empty", "a list of URLs"),
    ({"lease": {"endpoints": ["h:1"]}}, "lease.endpoints[0]", "is no URL", "http://HOST"),
    ({"lease": {"endpoints": ["http://h:1/v3"]}}, "lease.endpoints[0]", "is more", "HOST:PORT"),
    ({"hooks": None}, "hooks", "null is not an object", "pre_takeover, post_takeover"),
    ({"hooks": {"pre_takover": {}}}, "hooks.pre_takover", "is not a key", "mean pre_takeover?"),
    ({"hooks": {"on_event": None}}, "hooks.on_event", "null is not an object", "command, timeout"),
    ({"hooks": {"on_event": {}}}, "hooks.on_event.command", "is missing", "no shell"),
    *(
        ({"hooks": {name: {"command": ["/x"]} | keys}}, f"hooks.{name}.{key}", what, right)
        for name, keys, key, what, right in (
            ("post_takeover", {"command": "x"}, "command", '"x" is not a list', "no shell"),
            ("post_takeover", {"command": []}, "command", "the list is empty", "no shell"),
            ("post_takeover", {"command": ["x"]}, "command", "no absolute path", "begins with /"),
            ("post_takeover", {"timeout": 0}, "timeout", "0 is out of range", "0.1 to 600"),
            ("post_takeover", {"veto": True}, "veto", "is not a key", "one of command, timeout"),
            ("pre_takeover", {"veto": 1}, "veto", "1 is neither true nor", "true or false"),
            ("pre_takeover", {"level": "info"}, "level", "is not a key", "one of command"),
            ("on_event", {"level": "debug"}, "level", "is not known here", '"info", "warning"'),
            ("on_event", {"levle": "info"}, "levle", "is not a key", "did you mean level?"),
        )
    ),
    ({"flap_window": -1}, "flap_window", "-1 is out of range", "0 to 86400"),
    ({"max_takeovers": 0}, "max_takeovers", "0 is out of range", "1 to 100"),
    *(
        ({"lease": {"endpoints": ENDPOINTS} | keys}, f"lease.{next(iter(keys))}", what, right)
        for keys, what, right in (
            ({"engine": "zookeeper"}, "is not known here", '"etcd"'),
            ({"name": "a b"}, "is no name", "letters, digits"),
            ({"holder": ""}, "is no name", "letters, digits"),
            ({"ttl": 4}, "4 is out of range", "5 to 600"),
            ({"ca": ""}, "is no absolute path", "begins with /"),
            ({"key": 3}, "3 is not a text", "absolute path"),
            ({"end_points": []}, "is not a key", "did you mean endpoints?"),
        )
    ),
]


@pytest.mark.parametrize(("keys", "key", "what", "right"), BAD)
def test_a_bad_protection_is_refused(keys: dict[str, Any], key: str, what: str, right: str) -> None:
    """With its dotted name, what is wrong and what would be right."""
    problem = only_problem(FIVE, **keys)
    assert problem.key == key
    assert what in problem.what
    assert right in problem.right


def test_a_problem_inside_has_its_own_line_and_column() -> None:
    """Of the value, or of the key that is none; what is missing has its object's."""
    text = json.dumps(EVERYTHING, indent=1)
    for inner, wrong, at in (
        ('"deadline": 4', '"deadline": 0', '"deadline": '),
        ('"deadline": 4', '"dedline": 4', ""),
        ('"port": 443', '"port": 0', '"port": '),
        ('"on_failure": "wait_for_guard"', '"on_failure": 3', '"on_failure": '),
    ):
        (problem,) = (p for p in problems_of(text.replace(inner, wrong)) if "missing" not in p.what)
        line = next(k for k, line in enumerate(text.splitlines()) if inner in line)
        assert problem.line == line + 1
        assert problem.column == text.splitlines()[line].index(inner) + len(at) + 1
    (missing,) = problems_of(text.replace('"host": "198.51.100.2",\n   "port": 443', '"port": 443'))
    assert (missing.key, missing.what) == ("service_checks[0].host", "is missing")
    assert missing.source.strip() == "{"


def test_a_repeated_inner_key_is_refused() -> None:
    """At its second place, wherever the object lies."""
    text = json.dumps(EVERYTHING)
    for key, value in (("deadline", 4), ("port", 443), ("ip", "198.51.100.40")):
        member = f'"{key}": {json.dumps(value)}'
        problem, *others = problems_of(text.replace(member, f"{member}, {member}", 1))
        assert (problem.key, problem.what) == (key, "stands here for the second time")
        assert problem.column == text.index(member) + len(member) + 3
        assert not others


@pytest.mark.parametrize("key", OF_STANDBY)
def test_the_primary_has_no_keys_of_the_standby(key: str) -> None:
    """A key that does nothing would be a promise that nobody keeps."""
    value = EVERYTHING.get(key, {"failback": "auto", "foreign_start": "report"}.get(key, 1))
    problem = only_problem(PRIMARY | {"witness_ips": EVERYTHING["witness_ips"]}, **{key: value})
    assert (problem.key, problem.right) == (key, 'only on the standby, with "role": "standby"')


def test_the_standby_has_no_keys_of_the_primary() -> None:
    """Nor does either do without the other's address."""
    problem = only_problem(FIVE, standby_ip="198.51.100.3")
    assert (problem.key, problem.right) == (
        "standby_ip",
        'only on the primary, with "role": "primary"',
    )
    problem = only_problem(SERVES, role="primary")
    assert (problem.key, problem.what) == ("standby_ip", "is missing")
    problem = only_problem(SERVES)
    assert (problem.key, problem.what) == ("active_ip", "is missing")


def test_the_primary_hears_of_events_alone() -> None:
    """It takes nothing over, and gives nothing back."""
    told = {"on_event": {"command": ["/opt/tell"]}}
    assert policy_of(PRIMARY, hooks=told).hooks
    problem = only_problem(PRIMARY, hooks=told | {"pre_takeover": {"command": ["/opt/pre"]}})
    assert (problem.key, problem.what) == (
        "hooks.pre_takeover",
        'says nothing with "role": "primary"',
    )


def test_a_hook_that_others_could_change_is_refused_with_its_path(tmp_path: Path) -> None:
    """Where `check` looks; what reads for the monitor does not, so that the watch begins."""
    script = tmp_path / "hook"
    script.touch()
    script.chmod(0o775)
    text = json.dumps(FIVE | {"hooks": {"on_event": {"command": ["/bin/sh", str(script)]}}})
    with pytest.raises(ConfigError) as refused:
        parse(text, PATH, distrust=distrust)
    (problem,) = refused.value.problems
    assert (problem.key, problem.what) == (
        "hooks.on_event.command",
        f"{script} can be written by its group",
    )
    assert parse(text, PATH).policy.hooks
    script.chmod(0o755)
    assert parse(text, PATH, distrust=distrust).policy.hooks
    assert parse(json.dumps(HOOKED), PATH, distrust=distrust).policy.hooks  # none of them is here


# Claims of safety that the numbers do not carry.

LEASE = {"endpoints": ENDPOINTS}
WAITS = FENCE | {"on_failure": "wait_for_guard"}


@pytest.mark.parametrize(
    ("keys", "key", "right"),
    [
        (PAIR | {"takeover_delay": 7.6}, "takeover_delay", "at least 7.7"),
        (PAIR | {"takeover_delay": 0}, "takeover_delay", "at least 7.7"),
        (PAIR | {"takeover_delay": 7.6, "fence": WAITS}, "takeover_delay", "at least 7.7"),
        (PAIR | {"failback": "manual"}, "failback", '"auto", or a lease'),
        (PAIR | {"failback": "delayed"}, "failback", '"auto", or a lease'),
        (PAIR | {"guard": {"boot_hold": 7.6}}, "guard.boot_hold", "at least 7.7"),
        (
            PAIR | {"recovery_threshold": 3, "guard": {"boot_hold": 20}},
            "recovery_threshold",
            "1, or a lease",
        ),
        (PRIMARY | {"guard": {"boot_hold": 7.6}}, "guard.boot_hold", "at least 7.7"),
        (FIVE | {"lease": LEASE | {"ttl": 10.5}}, "lease.ttl", "at least 10.6"),
        (PRIMARY | {"lease": LEASE | {"ttl": 10.5}}, "lease.ttl", "at least 10.6"),
        (FIVE | {"lease": LEASE, "guard": {"stop_limit": 8.5}}, "lease.ttl", "at least 15.8"),
        (
            FIVE | {"lease": LEASE | {"ttl": 600}, "guard": {"stop_limit": 500}},
            "lease.ttl",
            "a shorter stop_limit",
        ),
        (FIVE | {"lease": LEASE | {"cert": "/c"}}, "lease", "both or neither"),
        (TRIGGERED | {"lease": LEASE}, "service_checks[0].trigger", "false, or no lease"),
        (
            TRIGGERED | {"failback": "auto", "guard": {}},
            "service_checks[0].trigger",
            "false, or no guard",
        ),
        (FIVE | {"lease": LEASE | {"key": "/k"}}, "lease", "both or neither"),
        (FIVE | {"fence": WAITS}, "fence.on_failure", '"hold", or a guard'),
        (FIVE | {"fence": WAITS, "lease": LEASE}, "fence.on_failure", '"hold", or a guard'),
        (
            FIVE | {"fence": FENCE | {"command": ["/usr/sbin/fence_x", "-v"]}},
            "fence.options",
            "arguments or options, not both",
        ),
    ],
)
def test_a_claim_that_does_not_hold_is_refused(keys: dict[str, Any], key: str, right: str) -> None:
    """One problem, which says what would hold."""
    problem = only_problem(keys)
    assert problem.key == key
    assert problem.right.startswith(right)


@pytest.mark.parametrize(
    "keys",
    [
        PAIR | {"takeover_delay": 7.7},
        PAIR | {"takeover_delay": 0, "fence": FENCE},
        PAIR | {"takeover_delay": 0, "lease": LEASE},
        PAIR | {"failback": "manual", "lease": LEASE},
        PAIR | {"guard": {"boot_hold": 7.7}},
        FIVE | {"lease": LEASE | {"ttl": 10.6}},
        FIVE | {"lease": LEASE | {"cert": "/c", "key": "/k"}},
        FIVE | {"fence": WAITS, "guard": {}},
        FIVE | {"fence": {"command": ["/usr/sbin/fence_x", "-v"]}},
        FIVE | {"fence": FENCE | {"command": ["/usr/local/bin/off", "-v"]}},
    ],
)
def test_a_claim_that_just_holds_is_accepted(keys: dict[str, Any]) -> None:
    """What is refused a tenth of a second earlier; and what somebody else carries."""
    assert sane(policy_of(keys))


TENTHS = st.integers(1, 6000).map(lambda tenths: tenths / 10)
NUMBERS = st.fixed_dictionaries(
    {
        "ping_interval": st.integers(1, 100).map(lambda tenths: tenths / 10),
        "ping_fail_threshold": st.integers(1, 10),
        "guard": st.fixed_dictionaries(
            {},
            optional={
                "deadline": st.floats(1, 600),
                "stop_limit": st.floats(3, 600),
                "boot_hold": TENTHS,
            },
        ),
    },
    optional={
        "ping_timeout": st.floats(0.05, 5),
        "retry_interval": st.floats(0.05, 0.1),
        "recovery_threshold": st.just(1),
        "takeover_delay": TENTHS,
    },
)


def holds(policy: Policy) -> bool:
    """The inequalities of docs/safety.md, written out once more."""
    guard = policy.guard
    assert guard
    gone_s = (guard.deadline_s + SLACK_S + guard.stop_limit_s) * (1 + RHO) + ROUND_TRIP_S
    begins_s = (policy.verdict_s + policy.takeover_delay_s) * (1 - RHO)
    interval_s = min(policy.interval_s, 0.5)
    back_s = policy.recovery_threshold * interval_s + SLACK_S + guard.stop_limit_s
    released_s = back_s * (1 + RHO) + ROUND_TRIP_S
    safe_return = guard.boot_hold_s * (1 - RHO) >= released_s - SAME
    return safe_return and (policy.role is Role.PRIMARY or begins_s >= gone_s - SAME)


@settings(max_examples=300, deadline=None)
@given(numbers=NUMBERS)
def test_a_guard_without_a_lease_is_accepted_only_if_the_arithmetic_holds(
    numbers: dict[str, Any],
) -> None:
    """And what a refusal names is accepted."""
    keys = FIVE | numbers
    try:
        policy = policy_of(keys)
    except ConfigError as error:
        for problem in error.problems:
            least = re.match(r"at least ([0-9.]+)", problem.right)
            assert least, problem
            assert problem.key in ("takeover_delay", "guard.boot_hold")
            if problem.key == "takeover_delay":
                keys = keys | {"takeover_delay": float(least[1])}
            else:
                keys = keys | {"guard": keys["guard"] | {"boot_hold": float(least[1])}}
        policy = policy_of(keys)
    assert holds(policy)


@settings(max_examples=150, deadline=None)
@given(
    deadline=st.floats(1, 600),
    stop_limit=st.floats(3, 600),
    boot_hold=st.none() | TENTHS,
    ttl=st.none() | st.floats(5, 600),
)
def test_a_primary_is_accepted_only_if_the_arithmetic_holds(
    deadline: float, stop_limit: float, boot_hold: float | None, ttl: float | None
) -> None:
    """With the guard's numbers, or with the lease's; what a refusal names is accepted."""
    guard = {"deadline": deadline, "stop_limit": stop_limit}
    keys = PRIMARY | {"guard": guard | ({"boot_hold": boot_hold} if boot_hold else {})}
    if ttl:
        keys |= {"lease": LEASE | {"ttl": ttl}}
    try:
        policy = policy_of(keys)
    except ConfigError as error:
        (problem,) = error.problems
        least = re.match(r"at least ([0-9.]+)", problem.right)
        if not least:
            assert problem.right == "a shorter stop_limit in guard"
            return
        if problem.key == "lease.ttl":
            keys |= {"lease": LEASE | {"ttl": float(least[1])}}
        else:
            keys |= {"guard": guard | {"boot_hold": float(least[1])}}
        policy = policy_of(keys)
    if lease := policy.lease:
        assert lease_margin_s(lease.ttl_s, stop_limit) >= 2 * lease.ttl_s / RENEWALS - SAME
    else:
        assert holds(policy)


# What is accepted can be used.

NEARLY_NAMES = st.text(st.sampled_from("aZ09_.-:%@/ ;$'\"\\~+é\n\0"), min_size=1, max_size=8)
HOSTS = st.one_of(
    NEARLY_NAMES,
    NEARLY_NAMES.map(lambda text: f"fe80::1%{text}"),
    st.sampled_from(["a" * 253, "a" * 254, "2001:DB8::1", "198.51.100.2", "1.2.3", "a..b", "_a"]),
)
PATHS = NEARLY_NAMES.map(lambda text: f"/{text}") | st.sampled_from(["/" + "a" * 1001, "/"])
UNITS = st.one_of(
    NEARLY_NAMES,
    NEARLY_NAMES.map(lambda text: f"{text}.service"),
    st.sampled_from(["-.mount", "a" * 250 + ".path", "a" * 247, "x.target", "-a.timer", "a.b.c"]),
)


@settings(max_examples=250, deadline=None)
@given(
    options=st.fixed_dictionaries(
        {},
        optional={"host": HOSTS, "unit": UNITS, "identity": PATHS, "known_hosts": PATHS}
        | {"user": NEARLY_NAMES, "port": st.integers(-1, 65537)},
    )
)
def test_a_unit_check_that_is_accepted_is_asked(options: dict[str, Any]) -> None:
    """What the configuration lets through is never refused later, by the one who would ask."""
    try:
        (check,) = checks_of(UNIT | options)
    except ConfigError:
        return
    assert refusal(check.options) == ""


@settings(max_examples=200, deadline=None)
@given(
    url=st.one_of(
        st.builds(
            "{}://{}{}".format, st.sampled_from(["http", "https", "HTTP"]), HOSTS, NEARLY_NAMES
        ),
        st.builds("http://[{}]/".format, HOSTS),
        st.builds("http://{}:{}/".format, HOSTS, st.integers(-1, 65537)),
        st.text().map(lambda text: f"http://{text}"),
        st.text(st.sampled_from("@\\:/?#[]%.aZ0-")).map(lambda text: f"http://{text}"),
    )
)
def test_a_url_that_is_accepted_can_be_fetched(url: str) -> None:
    """The library raises nothing when the check is made."""
    try:
        (check,) = checks_of({"type": "http", "url": url})
    except ConfigError:
        return
    KINDS["http"](check)


# Anything at all.

GARBAGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 1.5, 0.05, 1e9, 1e-9, 10**30, float("nan"), float("inf")),
    *("", "x", "standby", "primary", "all", "\0", "\ud800", "\u202e", "-.mount", "/", "http://["),
    *("198.51.100.2", "198.51.100.1", "fe80::1%x", "a" * 300, [], [[]], {}, {"": {}}),
    *({"type": "tcp"}, [None], ["/bin/x"], {"command": ["/bin/x"]}, ENDPOINTS),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every entry of every object and list in a value: its container and its key."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(entries):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


def mutated(good: dict[str, Any], dice: random.Random) -> str:
    """A text that was good until something happened to it."""
    keys = deepcopy(good)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        holder, key = dice.choice(list(places(keys)))
        match dice.randrange(6):
            case 0:
                del holder[key]
            case 1:
                holder[key] = deepcopy(dice.choice(GARBAGE))
            case 2 if isinstance(holder, dict) and len(key) > 1:
                at = dice.randrange(len(key) - 1)
                holder[key[:at] + key[at + 1] + key[at] + key[at + 2 :]] = holder.pop(key)
            case 3 if isinstance(holder[key], int | float):
                holder[key] *= dice.choice((0, -1, 0.5, 3, 1000))
            case 4 if isinstance(holder, list):
                holder.append(deepcopy(holder[key]))
            case _:  # something from elsewhere
                other, name = dice.choice(list(places(deepcopy(dice.choice(list(GOOD.values()))))))
                holder[key] = other[name]
        if not keys:
            break
    text = json.dumps(keys, indent=dice.choice((None, 1)))
    match dice.randrange(8):
        case 0:
            text = text[: dice.randrange(len(text))]
        case 1:  # a member twice
            members = re.findall(r'"\w+": [^\[\]{},]+,', text)
            member = dice.choice(members) if members else ""
            text = text.replace(member, f"{member} {member}", 1)
    return text


def sane(policy: Policy) -> bool:
    """Everything that reads a policy can live with this one; True, so that it can be asserted."""
    assert policy_from(json.loads(json.dumps(asdict(policy)))) == policy
    assert bool(policy.standby) is (policy.role is Role.PRIMARY) is not bool(policy.primary)
    assert 1 <= policy.references_required <= len(policy.references)
    assert 0.1 <= policy.interval_s <= 3600
    assert policy.verdict_s > 0
    names = [check.name for check in policy.service_checks]
    assert len(set(names)) == len(names)
    for check in policy.service_checks:
        KINDS[check.kind](check)
        assert check.kind != "unit" or refusal(check.options) == ""
    fence, lease = policy.fence, policy.lease
    delays = fence is None or fence.on_failure is FenceFailure.WAIT_FOR_GUARD
    if policy.guard and not lease and delays:
        assert holds(policy)
    if lease:
        margin_s = lease_margin_s(lease.ttl_s, policy.stop_limit_s)
        assert margin_s >= 2 * lease.ttl_s / RENEWALS
    json.loads(json.dumps(timing.facts(policy), allow_nan=False))
    lines = timing.report(policy).splitlines()
    assert max(map(len, lines)) <= WIDTH, max(lines, key=len)
    return True


def told_well(text: str, error: ConfigError) -> None:
    """Every problem has a place in the text, a key if the text is JSON, and a cure."""
    try:
        is_object = isinstance(json.loads(text), dict)
    except ValueError:
        is_object = False
    assert error.problems
    lines = text.split("\n")
    for problem in error.problems:
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        assert problem.what
        assert problem.right
        assert problem.key or not is_object
        assert "value_error" not in problem.what
    assert str(error).replace("\n", "").isprintable()
    assert f"right: {error.problems[0].right}" in str(error)


@every_good_one
def test_any_mutant_of_a_good_configuration_is_understood_or_refused(keys: dict[str, Any]) -> None:
    """Deleted, repeated, misspelt, retyped, moved; numbers out of range, texts cut."""
    accepted = 0
    for seed in range(MUTANTS):
        text = mutated(keys, random.Random(seed))
        try:
            policy = parse(text, PATH).policy
        except ConfigError as error:
            told_well(text, error)
        else:
            accepted += sane(policy)
    assert 0 < accepted < MUTANTS / 2


@every_good_one
def test_a_value_of_a_wrong_type_is_refused_at_every_depth(keys: dict[str, Any]) -> None:
    """By the name of the key it stands under."""
    other: dict[type, tuple[Any, ...]] = {
        str: (None, True, {}),
        bool: (None, 3, "true", []),
        int: (None, True, "3", []),
        float: (None, True, "3", []),
        list: (None, True, 3, {}),
        dict: (None, True, 3, "x", []),
    }
    for holder, key in places(deepcopy(keys)):
        value = holder[key]
        for wrong in other[type(value)]:
            changed = deepcopy(keys)
            for at, name in places(changed):
                if name == key and at == holder:
                    at[name] = wrong
                    break
            text = json.dumps(changed, indent=1)
            found = {
                problem.key.rpartition(".")[2].partition("[")[0] for problem in problems_of(text)
            }
            assert not isinstance(key, str) or key in found, (key, wrong)


# What `check` says.

REPORTS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "five keys": (FIVE, ("not safe against", "only the path between the two breaks: two active")),
    "guard": (
        PAIR,
        (
            "waits 7.7 s, starts app.service",
            "stopping is enforced here, too: stops all of them at once, kills what is left after 4",
            "(1)(2) earliest takeover 12.2 s",
            "12.19 >= 12.11",
            "(3) the primary waits 7.7 s",
            "only the path between the two breaks: two active; closed by a second path, a lease",
        ),
    ),
    "everything": (
        EVERYTHING,
        (
            "answers from 2 references make the verdict",
            "any of 198.51.100.1, 198.51.100.4, 198.51.100.5: 2 of them must answer",
            "web, every 2 s: its answer holds a takeover http http://198.51.100.2/health, every 5",
            "an answer of a reference that never answered an echo counts",
            "2 tries of at most 30 s, must succeed before a takeover; if it fails the takeover",
            "begins 60 s after the verdict",
            "on the verdict starts app.service",
            "each takeover of the last 600 s",
            "two standbys watch one primary: two active; closed by a lease",
        ),
    ),
    "triggered": (
        TRIGGERED,
        (
            "its answer holds a takeover; 2 failures in a row are a takeover; a delayed failback",
            "if it fails nothing starts",
        ),
    ),
    "fence alone": (
        FIVE | {"fence": {"command": ["/bin/off"], "retries": 0}},
        ("/bin/off, one try of at most 60 s", "if it fails nothing starts"),
    ),
    "lease": (
        FIVE | {"lease": LEASE | {"holder": "b"}},
        (
            '"failover-monitor" for 15 s at a time, as "b", from etcd at http://198.51.100.11:2379',
            "only its holder serves",
            "(4)(5) a lease of 15 s is renewed every 2.5 s",
        ),
    ),
    "hooks": (
        HOOKED,
        (
            "pre_takeover, /opt/pre: a takeover waits for it for at most 20 s; if it fails nothing",
            "post_takeover, /opt/post: runs for at most 30 s, nothing waits for it",
            "pre_failback, /opt/back: the stops wait for it for at most 2.5 s",
            "on_event, /opt/tell: runs for at most 5 s",
            "crash to takeover 7 s to 10 s, then the hook (up to 20 s)",
        ),
    ),
    "hooks and a guard": (
        PAIR | {"hooks": {n: HOOKED["hooks"][n] for n in ("pre_failback", "on_event")}},
        ("pre_failback, /opt/back: runs beside the stops, which are enforced here",),
    ),
    "hooks of the primary": (
        PRIMARY | {"hooks": {"on_event": {"command": ["/opt/tell"]}}},
        ("on_event, /opt/tell: runs for at most 30 s, nothing waits for it",),
    ),
    "guarded primary": (
        PRIMARY,
        (
            "starts app.service after 7.7 s of answers without a gap",
            "any of 198.51.100.3, 198.51.100.1: an answer proves",
            "no answer to an echo of the last 5 s: stops all of them at once",
            "(3) the primary waits 7.7 s",
            "it must not serve earlier than 12 s",
        ),
    ),
    "leased primary": (
        LEASED,
        (
            "starts app.service when this host holds the lease",
            "the lease is not renewed in time: stops all of them",
            "(4)(5) a lease of 20 s",
        ),
    ),
}


@pytest.mark.parametrize(("keys", "words"), REPORTS.values(), ids=REPORTS)
def test_the_report_says_what_is_protected_and_what_is_open(
    keys: dict[str, Any], words: tuple[str, ...]
) -> None:
    """In both roles, with the arithmetic, on one screen."""
    policy = policy_of(keys)
    assert sane(policy)
    flat = " ".join(timing.report(policy).split())
    for sentence in words:
        assert sentence in flat
    assert ("not safe against" in flat) is (policy.role is Role.STANDBY)


def test_a_word_that_is_too_long_is_broken() -> None:
    """A URL, or the name of a unit, may be longer than a line."""
    url = f"http://198.51.100.2/{'a' * 200}"
    long = "a" * 240 + ".service"
    assert sane(policy_of(FIVE, service_checks=[HTTP | {"url": url}], services_to_manage=[long]))


def test_the_facts_say_it_to_programs() -> None:
    """The same rows for the standby; on the primary when its services are gone."""
    facts = timing.facts(policy_of(PAIR))
    assert (facts["role"], facts["enforced"], facts["services"]) == (
        "standby",
        True,
        ["app.service"],
    )
    assert (facts["takeover_delay_s"], facts["detection_min_s"]) == (7.7, 4.5)
    assert {row["outcome"] for row in facts["open"]} <= {result.value for result in OPEN}
    assert all(row["cure"] and row["fault"] in timing_text(PAIR) for row in facts["open"])
    assert timing.facts(policy_of(FIVE))["enforced"] is False
    facts = timing.facts(policy_of(PRIMARY))
    assert facts == {"role": "primary", "enforced": True, "services": ["app.service"]} | {
        "gone_after_s": 12.0,
        "boot_hold_s": 7.7,
    }


def timing_text(keys: dict[str, Any]) -> str:
    return " ".join(timing.report(policy_of(keys)).split())
