"""A configuration is understood completely, or refused with every problem and its place.

Rule: nothing is sent; files only below pytest's own directory.
"""

import json
import os
import random
import socket
import subprocess
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from failover_monitor import config, timing
from failover_monitor.config import (
    Config,
    ConfigError,
    HostAddresses,
    Problem,
    load,
    parse,
)
from failover_monitor.model import Failback, Foreign, Policy
from failover_monitor.unit_files import aliases

SHIPPED = Path(__file__).parent.parent / "config.json"
PATH = Path("config.json")
FIVE: dict[str, Any] = {
    "gateway_ip": "192.168.1.1",
    "active_ip": "192.168.1.2",
    "ping_interval": 3,
    "ping_fail_threshold": 3,
    "services_to_manage": ["cloudflared.service"],
}
SEED_README = """\
{
  "gateway_ip": "192.168.1.1",           // 네트워크 게이트웨이 IP
  "active_ip": "192.168.1.2",          // Primary 서버 IP
  "ping_interval": 3,                    // ping 체크 간격 (초)
  "ping_fail_threshold": 3,              // 장애 판정 임계값
  "services_to_manage": [                // 관리할 서비스 목록
    "cloudflared.service"
  ]
}
"""


def policy_of(**keys: Any) -> Policy:
    return parse(json.dumps(FIVE | keys), PATH).policy


def problems_of(text: str, **more: Any) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as refused:
        parse(text, PATH, **more)
    assert str(refused.value)
    return refused.value.problems


def only_problem(keys: dict[str, Any], **more: Any) -> Problem:
    (problem,) = problems_of(json.dumps(FIVE | keys, indent=1), **more)
    return problem


def make_policy(**more: Any) -> Policy:
    services = ("a.service", "b.service")
    return Policy(
        **{"primary": ("198.51.100.2",), "references": ("198.51.100.1",), "services": services}
        | more
    )


# What is accepted.


def test_the_seeds_own_example_loads() -> None:
    """Five keys with // comments are complete, and every default keeps the seed's meaning."""
    assert parse(SEED_README, PATH) == Config(
        path=PATH,
        text=SEED_README,
        policy=Policy(
            primary=("192.168.1.2",),
            references=("192.168.1.1",),
            services=("cloudflared.service",),
        ),
    )


def test_every_key_reaches_the_policy() -> None:
    """Each key of the table sets its own field."""
    policy = policy_of(
        active_ip=["192.168.1.2", "FE80:0::2%eth1"],
        witness_ips=["2001:DB8:51:100::0009", "10.0.0.9"],
        services_to_manage=["b", "a.timer", "mnt-data.mount", "systemd-nspawn@web", r"x\x2dy.path"],
        ping_interval=1,
        ping_fail_threshold=5,
        ping_timeout=0.5,
        retry_interval=0.75,
        recovery_threshold=2,
        failback="delayed",
        recovery_delay=30,
        takeover_delay=4.5,
        startup_grace=0,
        foreign_start="stop",
    )
    assert policy == Policy(
        primary=("192.168.1.2", "fe80::2%eth1"),
        references=("192.168.1.1", "2001:db8:51:100::9", "10.0.0.9"),
        services=(
            "b.service",
            "a.timer",
            "mnt-data.mount",
            "systemd-nspawn@web.service",
            r"x\x2dy.path",
        ),
        interval_s=1,
        threshold=5,
        timeout_s=0.5,
        retry_interval_s=0.75,
        recovery_threshold=2,
        failback=Failback.DELAYED,
        recovery_delay_s=30,
        takeover_delay_s=4.5,
        startup_grace_s=0,
        foreign_start=Foreign.STOP,
    )


def test_comments_do_not_reach_into_texts() -> None:
    """A // inside a text is text; comments may stand anywhere, also over several lines."""
    text = json.dumps(FIVE).replace(",", ", /* one,\n two */ ")
    assert parse(f"// first\n{text}// last", PATH).policy == policy_of()
    (problem,) = problems_of(json.dumps(FIVE | {"services_to_manage": ["a//b"]}))
    assert '"a//b"' in problem.what


@pytest.mark.parametrize(
    ("key", "least", "most", "whole"),
    [
        ("ping_interval", 0.1, 3600, False),
        ("ping_timeout", 0.05, 60, False),
        ("retry_interval", 0.05, 3, False),
        ("recovery_delay", 0, 86_400, False),
        ("takeover_delay", 0, 3600, False),
        ("startup_grace", 0, 3600, False),
        ("ping_fail_threshold", 1, 100, True),
        ("recovery_threshold", 1, 100, True),
    ],
)
def test_ranges_include_their_ends_and_nothing_more(
    key: str, least: float, most: float, whole: bool
) -> None:
    """Both ends are accepted; what lies beyond, or is no number, is refused."""
    step = 1 if whole else 0.001
    for good in (least, most):
        policy_of(**{"retry_interval": 0.1, key: good})
    bad: Any
    for bad in (least - step, most + step, -1, "3", True, None, [3], {}, float("nan"), 1e999):
        problem = only_problem({key: bad})
        assert problem.key == key
        assert problem.what.startswith(json.dumps(bad))
        assert f"from {least:g} to " in problem.right
    if whole:
        assert only_problem({key: 3.0}).what == "3.0 is not a whole number"


# Values that are refused.


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("gateway.lan", "not an address"),
        ("", "not an address"),
        (" 10.0.0.1", "not an address"),
        ("300.1.1.1", "not an address"),
        ("10.0.0.01", "not an address"),
        ("10.0.0.1/24", "not an address"),
        ("10.0.0.1:80", "not an address"),
        ("1", "not an address"),
        ("\ud800", "not an address"),
        ("fe80::1%", "not an address"),
        ("192.0.2.7", "still the example"),
        ("224.0.0.18", "multicast"),
        ("ff02::1", "multicast"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        (str(IPv4Address(0)), "unspecified"),
        ("::", "unspecified"),
        ("0.0.0.9", "reserved"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::ffff:10.0.0.1", "IPv4 address in disguise"),
        ("fe80::1", "without interface"),
        ("fe80::1%a b", "does not name an interface"),
        ("2001:db8::1%eth0", "names an interface"),
        (3, "not a text"),
        (["10.0.0.1"], "not a text"),
        (None, "not a text"),
    ],
)
def test_an_address_is_the_address_of_one_host(value: Any, words: str) -> None:
    """The same rules hold for the gateway, the primary and every witness."""
    assert words in only_problem({"gateway_ip": value}).what
    assert only_problem({"active_ip": ["10.0.0.9", value]}).key == "active_ip[1]"
    assert only_problem({"witness_ips": [value]}).key == "witness_ips[0]"
    if isinstance(value, str):
        assert words in only_problem({"active_ip": value}).what


def test_a_name_is_refused_with_the_reason() -> None:
    """People want to know why they may not write a name."""
    problem = only_problem({"active_ip": "db.lan"})
    assert "DNS may be down exactly when it matters" in problem.right


@pytest.mark.parametrize(
    ("keys", "key", "words"),
    [
        ({"active_ip": "192.168.1.1"}, "active_ip", "192.168.1.1 is gateway_ip as well"),
        ({"active_ip": ["10.0.0.1", "10.0.0.1"]}, "active_ip[1]", "stands in active_ip[0] already"),
        ({"witness_ips": ["192.168.1.1"]}, "witness_ips[0]", "stands in gateway_ip already"),
        ({"witness_ips": ["192.168.1.2"]}, "witness_ips[0]", "stands in active_ip already"),
        (
            {"active_ip": "fd00::1", "witness_ips": ["FD00:0::1"]},
            "witness_ips[0]",
            "fd00::1 stands in active_ip already",
        ),
        ({"services_to_manage": ["a", "b", "a.service"]}, "services_to_manage[2]", "[0] already"),
    ],
)
def test_nothing_stands_twice(keys: dict[str, Any], key: str, words: str) -> None:
    """Duplicates are found after normalisation, within and between the lists."""
    problem = only_problem(keys)
    assert problem.key == key
    assert words in problem.what


def test_an_address_of_this_host_is_refused() -> None:
    """The primary and the references are other hosts."""
    problem = only_problem({"active_ip": "FD00::0:5"}, host_addresses={"fd00::5", "10.0.0.3"})
    assert problem.what == "fd00::5 is this host's own address"


def test_the_kernel_knows_the_addresses_of_this_host() -> None:
    """What `in` asks is answered for own, foreign, unroutable and impossible addresses."""
    own = HostAddresses()
    assert "127.0.0.1" in own
    assert "198.51.100.77" not in own
    assert "fe80::1%nosuch0" not in own
    assert "no address" not in own
    if socket.has_ipv6 and Path("/proc/net/if_inet6").read_text():
        assert "::1" in own


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "a unit name is empty"),
        ("../x", "not a unit name"),
        ("-x", "not a unit name"),
        ("--now.service", "not a unit name"),
        (".service", "not a unit name"),
        ("a b.service", "not a unit name"),
        ("a/b.mount", "not a unit name"),
        ("*.service", "not a unit name"),
        ("한.service", "not a unit name"),
        ("a\n", "not a unit name"),
        ("@x.service", "not a unit name"),
        ("a" * 248 + ".service", "not a unit name"),
        ("x@.service", "is a template"),
        ("x@", "is a template"),
        ("nginx.servcie", "no known type"),
        ("nginx.Service", "no known type"),
        ("x.slice", "a slice cannot be managed"),
        ("init.scope", "a scope cannot be managed"),
        ("dev-sda2.swap", "a swap cannot be managed"),
        ("dev-sda.device", "a device cannot be managed"),
        ("home.automount", "a automount cannot be managed"),
        ("failover-monitor", "is this monitor"),
        ("failover-monitor.service", "is this monitor"),
        *(
            (name, "the host itself stands on")
            for line in (
                "dbus dbus.socket dbus-broker systemd-journald systemd-networkd.socket",
                " systemd-logind.service ssh sshd.service ssh.socket sshd@4.service",
                " NetworkManager NetworkManager-wait-online networking wicked connman ifup@eth0",
                " getty@tty1 user@1000 -.mount usr.mount dev-hugepages.mount",
                " sysinit.target basic.target multi-user.target graphical.target default.target",
                " network.target network-online.target local-fs.target local-fs-pre.target",
                " shutdown.target reboot.target poweroff.target rescue.target emergency.target",
                " runlevel5.target sockets.target emergency.service",
            )
            for name in line.split()
        ),
        (3, "not a text"),
        (None, "not a text"),
    ],
)
def test_a_service_is_a_unit_that_may_be_stopped(name: Any, words: str) -> None:
    """No unit name may hurt the host, or mean something else to systemd."""
    problem = only_problem({"services_to_manage": ["good.service", name]})
    assert words in problem.what
    assert problem.key == "services_to_manage[1]"


@pytest.mark.parametrize(
    "name",
    [
        "a" * 247 + ".service",
        "php8.2-fpm",
        "app@one",
        "app@one@two.service",
        "network.mount",
        "mysql.target",
        "systemd-nspawn@dbus.service",
        "srv-data.mount",
        "sshguard",
        "backup.timer",
    ],
)
def test_ordinary_units_are_accepted(name: str) -> None:
    """A name that only resembles a forbidden one is fine, and keeps its type."""
    (service,) = policy_of(services_to_manage=[name]).services
    assert service.startswith(name)
    assert service.endswith((".service", ".mount", ".target", ".timer"))


def test_aliases_are_seen_through(tmp_path: Path) -> None:
    """Links in the unit directories count: of instances, in chains, and of the host's own names."""
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    for directory in (etc, lib):
        directory.mkdir()
    (lib / "ssh.service").touch()
    (lib / "my-bus.service").touch()
    (lib / "web.service").touch()
    (lib / "own.service").touch()
    (lib / "dbus.service").symlink_to("my-bus.service")
    for name, target in {
        "remote.service": "/x/secure.service",
        "secure.service": "ssh.service",
        "watch.service": "failover-monitor.service",
        "www.service": "../lib/web.service",
        "box@.service": "systemd-networkd@.service",
        "loop.service": "pool.service",
        "pool.service": "loop.service",
        "gone.service": "/dev/null",
        "own.service": "ssh.service",
    }.items():
        (etc / name).symlink_to(target)
    dirs = (etc, lib)

    def what(*services: str) -> str:
        return only_problem({"services_to_manage": services}, unit_dirs=dirs).what

    assert what("remote") == (
        "the host itself stands on ssh.service (remote.service is an alias of it)"
    )
    assert what("my-bus") == "the host itself stands on my-bus.service"
    assert what("watch").startswith("failover-monitor.service is this monitor (watch.service")
    assert what("web", "www") == (
        "www.service stands in services_to_manage[0] already as web.service, the same unit"
    )
    assert "systemd-networkd@one.service" in what("box@one")
    assert aliases("loop.service", dirs) == ("loop.service", "pool.service")
    assert aliases("gone.service", dirs) == ("gone.service",)
    assert aliases("own.service", (lib, etc)) == ("own.service",)
    fine = json.dumps(FIVE | {"services_to_manage": ["web", "loop", "gone"]})
    assert parse(fine, PATH, unit_dirs=dirs).policy.services[0] == "web.service"


@pytest.mark.parametrize(
    ("keys", "key", "what"),
    [
        ({"services_to_manage": []}, "services_to_manage", "the list is empty"),
        ({"services_to_manage": "a"}, "services_to_manage", '"a" is not a list'),
        (
            {"services_to_manage": [f"a{i}" for i in range(101)]},
            "services_to_manage",
            "the list is too long",
        ),
        ({"active_ip": []}, "active_ip", "the list is empty"),
        ({"active_ip": 3}, "active_ip", "3 is not a list"),
        ({"witness_ips": "10.0.0.9"}, "witness_ips", '"10.0.0.9" is not a list'),
        ({"failback": "Auto"}, "failback", '"Auto" is not known here'),
        ({"foreign_start": True}, "foreign_start", "true is not known here"),
        ({"retry_interval": 3.5}, "retry_interval", "3.5 is longer than ping_interval (3)"),
        (
            {"ping_interval": 1, "retry_interval": 2},
            "retry_interval",
            "2 is longer than ping_interval (1)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(keys: dict[str, Any], key: str, what: str) -> None:
    """Lists, words and pairs of numbers."""
    problem = only_problem(keys)
    assert (problem.key, problem.what) == (key, what)


def test_a_hundred_services_are_accepted() -> None:
    """The limit of the list is part of it."""
    assert len(policy_of(services_to_manage=[f"a{i}" for i in range(100)]).services) == 100


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("active_pi", "did you mean active_ip?"),
        ("ping-intervall", "did you mean ping_interval?"),
        ("Failback", "did you mean failback?"),
        ("witness_ip", "did you mean witness_ips?"),
    ],
)
def test_a_misspelt_key_is_refused_with_a_guess(key: str, right: str) -> None:
    """The place is the key itself."""
    problem = only_problem({key: 1})
    assert (problem.key.strip('"'), problem.what, problem.right) == (key, "is not a key", right)
    assert problem.source[problem.column - 1 :].startswith(f'"{key}"')


@pytest.mark.parametrize(
    "key", ["", "\ud800", "x" * 10_000, "\x1b[2J", "__class__", "model_config"]
)
def test_a_strange_key_is_refused_and_safe_to_print(key: str) -> None:
    """What a terminal or a log must not see is escaped."""
    with pytest.raises(ConfigError) as refused:
        parse(json.dumps(FIVE | {key: 1}), PATH)
    assert "is not a key" in str(refused.value)
    assert str(refused.value).replace("\n", "").isprintable()
    assert len(str(refused.value)) < 800


@pytest.mark.parametrize("key", FIVE)
def test_each_of_the_five_keys_is_required(key: str) -> None:
    """Only addresses and services are: the two numbers have the seed's values as defaults."""
    keys = {name: value for name, value in FIVE.items() if name != key}
    if key.startswith("ping_"):
        assert parse(json.dumps(keys), PATH).policy == policy_of()
    else:
        (problem,) = problems_of(f"\n  {json.dumps(keys)}")
        assert (problem.key, problem.what, problem.line, problem.column) == (
            key,
            "is missing",
            2,
            3,
        )


# Texts that are refused.


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", (1, 1), "the file is empty"),
        (" \n\t\n", (1, 1), "the file is empty"),
        ("// only words\n", (2, 1), "the file ends too early"),
        ("[]", (1, 1), "the file holds no object"),
        ("/* a */ 3", (1, 9), "the file holds no object"),
        ("null", (1, 1), "the file holds no object"),
        ("\ufeff{}", (1, 1), "a byte order mark opens the file"),
        ('{"a": 1\n "b": 2}', (2, 2), "a comma is missing before this"),
        ('{"a": 1,\n}', (1, 8), "nothing follows this comma"),
        ('{"a": [1, 2, // x\n ]}', (1, 12), "nothing follows this comma"),
        ('{"a" 1}', (1, 6), "a colon is missing before this"),
        ('{"a": tru}', (1, 7), "a value is expected here"),
        ("{a: 1}", (1, 2), "a key is expected here"),
        ("{'a': 1}", (1, 2), "single quotes do not enclose a text"),
        ('{"a": 1} # x', (1, 10), "# does not begin a comment"),
        ('{"a": 1 /* x }', (1, 9), "this is no comment, or one without its end"),
        ('{"a": "x\n"}', (1, 9), "a line break or control character in a text"),
        ('{"a": "x', (1, 7), "the closing quote is missing"),
        ('{"a": "\\q"}', (1, 8), "the backslash begins no known escape"),
        ('{"a": "\\u12"}', (1, 9), "the backslash begins no known escape"),
        ('{"a": 1', (1, 8), "the file ends too early"),
        ("{", (1, 2), "the file ends too early"),
        ("{} {}", (1, 4), "something follows the end"),
        ("[" * 100_000, (1, 34), "nested too deeply"),
        ('{"a":' * 5000, (1, 166), "nested too deeply"),
    ],
)
def test_what_is_not_json_is_refused_at_its_place(
    text: str, place: tuple[int, int], what: str
) -> None:
    """Comments are all that is added to JSON."""
    (problem,) = problems_of(text)
    assert (problem.what, problem.line, problem.column) == (what, *place)


@pytest.mark.parametrize("piece", ['"a":1,', '"\\\\', "/*", '"a', '{"a":[', "//", "\\\\", "[1,"])
def test_a_hostile_file_is_refused_quickly(piece: str) -> None:
    """The daemon reads the file too, and must not be held up: time grows with the size only."""
    text = "{" + piece * (config.FILE_LIMIT // len(piece) - 1)
    start_s = time.process_time()
    assert len(problems_of(text + '"a":1}')) <= 3 * config.PROBLEM_LIMIT
    numbered = ",".join(f'"key{i}": 1, "key{i}": 2' for i in range(4000))
    assert len(problems_of(f"{{{numbered}}}")) <= 3 * config.PROBLEM_LIMIT
    assert time.process_time() - start_s < 2


def test_absurd_numbers_are_refused() -> None:
    """Thousands of digits are a number out of range, not a fault of ours."""
    text = json.dumps(FIVE).replace('"ping_interval": 3', f'"ping_interval": {"9" * 5000}')
    assert [problem.key for problem in problems_of(text)] == ["ping_interval"]
    text = json.dumps(FIVE).replace('threshold": 3', f'threshold": {"9" * 40}')
    assert [problem.key for problem in problems_of(text)] == ["ping_fail_threshold"]


def test_a_repeated_key_is_refused_at_its_second_place() -> None:
    """Both of two repetitions are told; the first value is the one that is judged."""
    text = '{"ping_interval": 0, "x": {"y": 1, "y": 2},\n "ping_interval": 1}'
    found = [(p.line, p.column, p.key) for p in problems_of(text) if "second time" in p.what]
    assert found == [(1, 36, "y"), (2, 2, "ping_interval")]
    assert any(p.what == "0 is out of range" for p in problems_of(text))


def test_every_problem_is_reported_at_once_and_in_order() -> None:
    """Mistakes of every sort, in one go, sorted as they stand in the file."""
    found = problems_of(
        """{
 "gateway_ip": "gw",
 "active_ip": ["192.168.1.2", "192.168.1.2", 7],
 "ping_intervall": 3,
 "ping_timeout": 0, "ping_timeout": 1,
 "failback": "never",
 "services_to_manage": ["a", "sshd", "a.service", "x@.service"]
}""",
    )
    assert [(problem.line, problem.key) for problem in found] == [
        (2, "gateway_ip"),
        (3, "active_ip[1]"),
        (3, "active_ip[2]"),
        (4, "ping_intervall"),
        (5, "ping_timeout"),
        (5, "ping_timeout"),
        (6, "failback"),
        (7, "services_to_manage[1]"),
        (7, "services_to_manage[2]"),
        (7, "services_to_manage[3]"),
    ]


def test_a_problem_reads_well() -> None:
    """One line, the source line, and a caret, also after tabs and wide letters."""
    with pytest.raises(ConfigError) as refused:
        parse(SEED_README.replace('interval": 3', 'interval": 0'), PATH)
    assert str(refused.value) == (
        "config.json:4:20: ping_interval: 0 is out of range; right: a number from 0.1 to 3600\n"
        '      "ping_interval": 0,                    // ping 체크 간격 (초)\n'
        "                       ^"
    )
    narrow = SEED_README.replace('  "ping_interval": 3', '\t/* 네\t네 */ "ping_interval": 0')
    with pytest.raises(ConfigError) as refused:
        parse(narrow, PATH)
    _, source, caret = str(refused.value).split("\n")
    assert source.startswith('     /* 네 네 */ "ping_interval": 0,')
    assert caret == " " * (source.index("0") + 2) + "^"  # two letters are two columns wide


def test_a_long_line_is_shown_around_its_place() -> None:
    """A file on one line does not flood the terminal."""
    services = [f"service-number-{i}" for i in range(90)]
    with pytest.raises(ConfigError) as refused:
        parse(json.dumps(FIVE | {"services_to_manage": [*services, "sshd"]}), PATH)
    _, source, caret = str(refused.value).split("\n")
    assert len(source) < 110
    assert source[len(caret) - 1 :].startswith('"sshd"')


# Files.


def test_a_file_is_loaded_with_its_text(tmp_path: Path) -> None:
    """The text is kept verbatim, so that the last good one can be saved."""
    file = tmp_path / "config.json"
    text = SEED_README.replace("192.168.1", "198.51.100").replace("\n", "\r\n")
    file.write_bytes(text.encode())
    loaded = load(file)
    assert (loaded.path, loaded.text) == (file, text)
    assert loaded.policy.primary == ("198.51.100.2",)


def test_loading_knows_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own addresses are asked from the kernel; the shipped example is refused."""
    with pytest.raises(ConfigError) as refused:
        load(SHIPPED)
    assert [problem.key for problem in refused.value.problems] == [
        "gateway_ip",
        "active_ip",
        "witness_ips[0]",
    ]
    assert all("still the example" in problem.what for problem in refused.value.problems)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(FIVE))
    monkeypatch.setattr(config, "HostAddresses", lambda: {"192.168.1.2"})
    with pytest.raises(ConfigError, match="this host's own address"):
        load(file)


def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    """Whatever stands at the path, the answer is a sentence and never a wait."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "large").write_bytes(b" " * config.FILE_LIMIT + b"{}")
    (tmp_path / "latin").write_bytes(b'{\n "a": "\xe9"}')
    (tmp_path / "wide").write_bytes("{}".encode("utf-16"))
    (tmp_path / "zeros").write_bytes(bytes(10))
    for name, words in {
        ".": "is a directory",
        "pipe": "is not a file",
        "missing": "cannot be read: No such file or directory",
        "missing/below": "cannot be read: No such file or directory",
        "large/below": "cannot be read: Not a directory",
        "loop": "cannot be read: Too many levels of symbolic links",
        "nul\0": "cannot be read: embedded null byte",
        "large": "is too large",
        "latin": ":2:8: byte 0xe9 is not UTF-8",
        "wide": ":1:1: byte 0xff is not UTF-8",
        "zeros": ":1:1: a value is expected here",
    }.items():
        with pytest.raises(ConfigError) as refused:
            load(tmp_path / name)
        assert len(refused.value.problems) == 1
        assert words in str(refused.value), name
    with pytest.raises(ConfigError, match="is not a file"):
        load(Path("/dev/null"))


def test_the_shipped_file_is_strict_json_and_good_with_real_addresses() -> None:
    """The seed's `python3 -m json.tool` passes, and only the addresses have to be changed."""
    subprocess.run([sys.executable, "-m", "json.tool", SHIPPED], check=True, capture_output=True)
    policy = parse(SHIPPED.read_text().replace("192.0.2.", "192.168.1."), PATH).policy
    assert (policy.interval_s, policy.threshold, policy.retry_interval_s) == (3, 3, 1.5)
    assert timing.detection(policy) == timing.Detection(shortest_s=4.5, mean_s=6.0, longest_s=7.5)


def test_nothing_else_imports_pydantic() -> None:
    """The figures can be had without its memory."""
    code = "import sys, failover_monitor.timing; sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=SHIPPED.parent)


# Anything at all.

TEXTS = (SEED_README.encode(), SHIPPED.read_bytes().replace(b"192.0.2.", b"192.168.1."))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["10.0.0.1", "fe80::1%eth0", "a.service", "sshd", "auto", 0.1, 3, 100]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([*FIVE, "witness_ips", "retry_interval", "ping_timeout", "failback"])


def loads_or_tells(text: str) -> None:
    try:
        good = parse(text, PATH, host_addresses={"10.0.0.1"})
    except ConfigError as refused:
        assert refused.problems
        assert all(problem.line >= 1 and problem.column >= 1 for problem in refused.problems)
        assert str(refused).encode()
        return
    assert good.policy.services
    assert timing.report(good.policy)


@settings(max_examples=100, deadline=None)
@given(keys=st.dictionaries(KEYS | st.text(), VALUES, max_size=6), dropped=st.sets(KEYS))
@example(keys={"\ud800": 1}, dropped=set())
def test_any_values_load_or_are_refused(keys: dict[str, Any], dropped: set[str]) -> None:
    """Keys dropped, renamed and replaced: never anything but a policy or problems with places."""
    whole = {key: value for key, value in (FIVE | keys).items() if key not in dropped}
    loads_or_tells(json.dumps(whole))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 6), source=st.sampled_from(TEXTS))
def test_any_damage_loads_or_is_refused(seed: int, count: int, source: bytes) -> None:
    """Bytes flipped, cut and repeated in a good file."""
    dice, content = random.Random(seed), bytearray(source)
    for _ in range(count):
        at = dice.randrange(len(content))
        match dice.randrange(4):
            case 0:
                content[at] ^= 1 << dice.randrange(8)
            case 1:
                del content[at : at + dice.randrange(1, 30)]
            case 2:
                content[at:at] = content[dice.randrange(len(content)) :][: dice.randrange(60)]
            case _:
                content[at] = dice.choice(b'{}[],:"\\/*#0.-e\n\t')
        content = content or bytearray(b" ")
    loads_or_tells(content.decode(errors="replace"))


@settings(max_examples=100, deadline=None)
@given(text=st.text())
def test_any_text_is_refused_or_understood(text: str) -> None:
    """Texts that were never JSON."""
    loads_or_tells(text)


# The figures.


def test_the_figures_of_the_three_profiles() -> None:
    """What the README promises: five keys alone, the shipped example, and a fast profile."""
    five, shipped = make_policy(), make_policy(retry_interval_s=1.5)
    fast = make_policy(interval_s=1, retry_interval_s=0.75)
    assert timing.detection(five) == timing.Detection(shortest_s=7, mean_s=8.5, longest_s=10)
    assert timing.outage_survived_s(five) == 6.75
    assert timing.outage_survived_s(shipped) == 4.25
    assert timing.rounds_before_verdict(five) == 28
    assert timing.rounds_before_verdict(shipped) == timing.rounds_before_verdict(fast) == 18
    assert timing.slowest_reference_s(five) == 1
    assert timing.slowest_reference_s(shipped) == 1.5
    assert timing.slowest_reference_s(fast) == pytest.approx(0.75)
    assert timing.return_seen_s(five) == 0.5
    assert timing.return_seen_s(make_policy(recovery_threshold=4)) == 2


@pytest.mark.parametrize(
    ("loss", "rounds"),
    [(0.01, 6), (0.05, 8), (0.1, 11), (0.2, 15), (0.3, 20), (0.4, 26), (0.5, 34)],
)
def test_the_tolerated_loss_agrees_with_the_study(loss: float, rounds: int) -> None:
    """Table E: so many echoes bear this loss, and one fewer does not."""
    enough, fewer = (
        make_policy(threshold=1, retry_interval_s=count / 4) for count in (rounds, rounds - 1)
    )
    if rounds > 6:  # below, the spacing is not the 0.25 s of the table
        assert timing.rounds_before_verdict(enough) == rounds
        assert timing.loss_tolerated(fewer) < loss
    assert timing.loss_tolerated(enough) >= loss


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"retry_interval_s": 0.1, "interval_s": 0.3}, "the verdict takes only 0.3 s"),
        ({"retry_interval_s": 0.04}, "must answer within 0.04 s"),
        ({"timeout_s": 2.5, "retry_interval_s": 1.5}, "ping_timeout (2.5 s) is longer"),
        ({"startup_grace_s": 0}, "startup_grace is 0"),
    ],
)
def test_what_is_risky_is_said(keys: dict[str, Any], words: str) -> None:
    """A careful configuration has no warning, and each risk its own."""
    careful = {"primary": ("198.51.100.2", "10.9.9.2"), "references": ("10.0.0.1", "10.0.0.2")}
    assert timing.warnings(make_policy(**careful)) == ()
    risky = make_policy(**careful | keys)
    assert any(words in text for text in timing.warnings(risky))
    assert "warning" in timing.report(risky)


def test_the_report_says_what_will_happen() -> None:
    """Starts in order, stops in reverse, and the numbers; on one screen."""
    text = timing.report(
        make_policy(retry_interval_s=1.5, failback=Failback.DELAYED, takeover_delay_s=5)
    )
    flat = " ".join(text.split())
    assert "waits 5 s, starts a.service, then b.service" in flat
    assert "60 s without a gap stops b.service, then a.service" in flat
    assert "Order is not dependence" in flat
    assert "4.5 s to 7.5 s, mean 6 s" in flat
    assert "18 echo rounds, all unanswered; with random loss of up to 27 %" in flat
    assert "`failover-monitor failback`" in timing.report(make_policy(failback=Failback.MANUAL))


def test_the_report_fits_on_a_screen() -> None:
    """Also with as many services and addresses as may be."""
    full = make_policy(
        primary=tuple(f"2001:db8:1111:2222:3333:4444:5555:{i:x}" for i in range(16)),
        services=tuple(f"some-service-with-a-long-name-{i}.service" for i in range(100)),
        threshold=1,
        timeout_s=0.2,
        startup_grace_s=0,
    )
    for policy in (full, make_policy(retry_interval_s=1.5)):
        lines = timing.report(policy).splitlines()
        assert len(lines) <= (64 if policy is full else 45)
        assert max(map(len, lines)) <= 100
    assert "95 more" in timing.report(full)


def test_the_numbers_are_those_of_the_report() -> None:
    """Programs read the same figures, under names that carry their units."""
    numbers = timing.numbers(make_policy(retry_interval_s=1.5))
    assert numbers["detection_max_s"] == 7.5
    assert numbers["echo_rounds"] == 18
    assert json.loads(json.dumps(numbers)) == numbers
