"""Two hundred bad configurations, made from good ones by a seed: each is refused, and says where.

Rule: whether a mutant is good is known to whoever makes it, from tables of his own; the product is
never asked.  A mutant that happens to be good must be accepted, and is not counted.
"""

import copy
import functools
import json
import os
import random
import re
import string
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import failover_monitor
from failover_monitor import cli, config, daemon
from failover_monitor.config import ConfigError, load
from failover_monitor.files import Paths
from failover_monitor.loader import Loaded, UnusableError

SEED = 20261121  # another one: pytest --seed NUMBER
REFUSED, EACH = 200, 10  # so many; one of ten goes through processes of its own, too
OWN = "203.0.113.77"
MARK = "@@here@@"
ROOT = Path(failover_monitor.__file__).parent.parent
PROBLEM = re.compile(
    r"(?P<line>\d+):(?P<column>\d+): (?P<key>.+?): (?P<what>.+); right: (?P<right>.+)"
)

FIVE: dict[str, Any] = {
    "gateway_ip": "198.51.100.1",
    "active_ip": "198.51.100.2",
    "ping_interval": 3,
    "ping_fail_threshold": 3,
    "services_to_manage": ["app.service", "web"],
}
FULL = FIVE | {
    "active_ip": ["198.51.100.2", "203.0.113.2"],
    "retry_interval": 1.5,
    "ping_timeout": 0.8,
    "witness_ips": ["198.51.100.9", "fd00::9"],
    "references_required": 2,
    "neighbour_evidence": "references",
    "recovery_threshold": 2,
    "failback": "delayed",
    "recovery_delay": 30,
    "takeover_delay": 4,
    "startup_grace": 60,
    "foreign_start": "stop",
    "flap_window": 3600,
    "max_takeovers": 4,
    "service_checks": [
        {"type": "tcp", "host": "198.51.100.2", "port": 80, "interval": 2, "trigger": True},
        {"type": "http", "url": "http://198.51.100.2/health", "status": [200], "verify": False},
        {"type": "command", "command": ["/usr/bin/true", "-x"], "pass": [0], "fail": [1]},
        {"type": "unit", "host": "198.51.100.2", "unit": "app.service", "identity": "/etc/key"},
    ],
    "fence": {"command": ["/usr/sbin/fence_x"], "options": {"ip": "198.51.100.40"}, "timeout": 9},
}
GUARDED = FIVE | {
    "retry_interval": 1.5,
    "guard": {"deadline": 5, "stop_limit": 5},
    "fence": {"command": ["/usr/sbin/off"], "retries": 1, "on_failure": "wait_for_guard"},
}
PRIMARY = {
    "role": "primary",
    "gateway_ip": "198.51.100.1",
    "standby_ip": ["198.51.100.3"],
    "services_to_manage": ["app.service"],
    "guard": {"deadline": 4, "stop_limit": 6, "boot_hold": 30},
}
LEASED = FIVE | {
    "lease": {
        "endpoints": ["https://198.51.100.11:2379", "https://198.51.100.12:2379"],
        "name": "pair",
        "holder": "standby",
        "ttl": 20,
        "ca": "/etc/ca.pem",
        "cert": "/etc/cert.pem",
        "key": "/etc/key.pem",
    }
}
BASES: Sequence[dict[str, Any]] = (FIVE, FULL, GUARDED, PRIMARY, LEASED)

NUMBERS: dict[str, tuple[float, float]] = {
    "ping_interval": (0.1, 3600),
    "ping_fail_threshold": (1, 100),
    "retry_interval": (0.05, 3),
    "ping_timeout": (0.05, 60),
    "references_required": (1, 3),
    "recovery_threshold": (1, 100),
    "recovery_delay": (0, 86_400),
    "takeover_delay": (0, 3600),
    "startup_grace": (0, 3600),
    "flap_window": (0, 86_400),
    "max_takeovers": (1, 100),
    "service_checks.port": (1, 65_535),
    "service_checks.interval": (0.1, 3600),
    "service_checks.status": (100, 599),
    "service_checks.pass": (0, 255),
    "service_checks.fail": (0, 255),
    "fence.timeout": (0.1, 600),
    "fence.retries": (0, 100),
    "guard.deadline": (1, 600),
    "guard.stop_limit": (3, 600),
    "guard.boot_hold": (0.1, 3600),
    "lease.ttl": (5, 600),
}
# Any number of the range is good, whatever the other keys say.
FREE = ("recovery_delay", "startup_grace", "ping_timeout", "flap_window", "service_checks.interval")
WHOLE = ("ping_fail_threshold", "recovery_threshold", "max_takeovers", "fence.retries")
ADDRESSES = ("gateway_ip", "active_ip", "standby_ip", "witness_ips")
BAD_ADDRESSES = (
    *("gateway.lan", "", "300.1.1.1", "198.51.100.01", "198.51.100.1/24", "192.0.2.7"),
    *("224.0.0.18", "127.0.0.1", "::1", "0.0.0.9", "255.255.255.255", "::ffff:198.51.100.8"),
    *(
        "fe80::1",
        "fd00::1%eth0",
        "198.51.100.1 ",
        "\N{FULLWIDTH DIGIT ONE}98.51.100.8",
        "198。51。100。8",
    ),
)
BAD_UNITS = (
    *("", "../x", "-x", "a b.service", "nginx.servcie", "x@.service", "x.slice", "*.service"),
    *(
        "failover-monitor",
        "dbus.service",
        "sshd",
        "multi-user.target",
        "\N{CYRILLIC SMALL LETTER A}pp\u200b.service",
        "a/b",
    ),
)
BAD_WORDS = {
    "failback": ("Auto", "later", ""),
    "neighbour_evidence": ("ALL", "reference", ""),
    "foreign_start": ("Stop", "kill", ""),
    "role": ("Primary", "secondary", ""),
    "fence.on_failure": ("wait", "Hold", ""),
    "fence.command": ("fence_x", "usr/sbin/x", ""),
    "service_checks.type": ("TCP", "ping", ""),
    "service_checks.host": ("two words", "300.1.1.1", "-h"),
    "service_checks.url": ("198.51.100.2/health", "ftp://198.51.100.2/", "http://"),
    "service_checks.unit": ("../x", "-x", "a b"),
    "service_checks.identity": ("key", "/a b", "~/.ssh/id"),
    "lease.endpoints": ("198.51.100.11:2379", "https://198.51.100.11:2379/v3", "http://a b"),
    "lease.name": ("a b", "", "/x"),
    "lease.holder": ("a b", "/x", "é"),
    "lease.ca": ("ca.pem", "~/ca.pem", "./ca"),
    "lease.cert": ("cert.pem", "~/c", "./c"),
    "lease.key": ("key.pem", "~/k", "./k"),
}
REQUIRED = {
    *("gateway_ip", "active_ip", "standby_ip", "services_to_manage", "fence.command"),
    *("service_checks.type", "service_checks.host", "service_checks.port", "service_checks.url"),
    *("service_checks.command", "service_checks.unit", "service_checks.identity"),
    "lease.endpoints",
}
LOOK_ALIKES = {
    "a": "\N{CYRILLIC SMALL LETTER A}",
    "e": "\N{CYRILLIC SMALL LETTER IE}",
    "o": "\N{CYRILLIC SMALL LETTER O}",
    "p": "\N{CYRILLIC SMALL LETTER ER}",
    "c": "\N{CYRILLIC SMALL LETTER ES}",
    "i": "\N{CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I}",
    "s": "\N{CYRILLIC SMALL LETTER DZE}",
    "x": "\N{CYRILLIC SMALL LETTER HA}",
}

Location = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A text, and what its maker knows of it."""

    how: str
    text: str
    good: bool = False
    key: str = ""  # that must be named; "" = any that stands in the text
    line: int = 0  # where it must be found; 0 = anywhere
    column: int = 0


# Good configurations, taken apart.


def rendered(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def leaves(value: Any, at: Location = ()) -> Iterator[tuple[Location, Any]]:
    """Every text, number and truth value, with its place."""
    if isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for step, entry in entries:
            yield from leaves(entry, (*at, step))
    else:
        yield at, value


def kind_of(location: Location) -> str:
    """The key, or key.inner, without the number in a list."""
    return ".".join(step for step in location if isinstance(step, str))


def name_of(location: Location) -> str:
    """As the program writes it: key, key[0], key.inner, key[0].inner[1]."""
    first, *rest = location
    return str(first) + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in rest)


def with_value(base: Any, location: Location, value: object) -> Any:
    document = copy.deepcopy(base)
    place = document
    for step in location[:-1]:
        place = place[step]
    place[location[-1]] = value
    return document


def with_text(how: str, base: Any, location: Location, literal: str, **more: Any) -> Mutant:
    """The value at a place replaced by what is no JSON, or by any JSON; its place is known."""
    before, _, after = rendered(with_value(base, location, MARK)).partition(f'"{MARK}"')
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    given: dict[str, Any] = {"key": name_of(location), "line": line, "column": column} | more
    return Mutant(how=how, text=before + literal + after, **given)


def replaced(how: str, base: Any, location: Location, value: object, **more: Any) -> Mutant:
    return with_text(how, base, location, json.dumps(value, ensure_ascii=False), **more)


def chosen(
    rng: random.Random, base: Any, fits: Callable[[str, Any], bool] = lambda kind, value: True
) -> Location | None:
    """A leaf that fits, if there is one."""
    found = [at for at, value in leaves(base) if fits(kind_of(at), value)]
    return rng.choice(found) if found else None


def nearest_key(text: str, line: int) -> str:
    """The key that stands on a line of a rendered text, or above it."""
    for above in reversed(text.splitlines()[:line]):
        if found := re.match(r'\s*"([^"]+)":', above):
            return found[1]
    return ""


# Mutations: each gives a mutant, or None where the base has nothing to mutate.

Mutation = Callable[[random.Random, dict[str, Any]], Mutant | None]


def wrong_type(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base, lambda kind, _: not kind.startswith("fence.options"))
    if at is None:
        return None
    value = functools.reduce(lambda place, step: place[step], at, base)  # type: ignore[index]
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    wrong: list[Any] = [{}, None, [[1]]]
    wrong += ["3", True] if numeric else [7, 1.5]
    return replaced("wrong type", base, at, rng.choice(wrong))


def out_of_range(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base, lambda kind, _: kind in NUMBERS)
    if at is None:
        return None
    least, most = NUMBERS[kind_of(at)]
    fractional = isinstance(least, float)
    beyond = [least - 1, -most - 1, most + 1, most * 1000]
    return replaced("out of range", base, at, rng.choice([*beyond, most + 0.5][: 5 - fractional]))


def any_number(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    """Anywhere: in the range it is good."""
    at = chosen(rng, base, lambda kind, _: kind in FREE)
    if at is None:
        return None
    least, most = NUMBERS[kind_of(at)]
    number = round(10 ** rng.uniform(-3, 7) * rng.choice([1, 1, 1, -1]), 3)
    return replaced("any number", base, at, number, good=least <= number <= most)


def a_fraction(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base, lambda kind, _: kind in WHOLE)
    return replaced("a fraction", base, at, 2.5) if at else None


def absurd_number(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base, lambda kind, _: kind in NUMBERS)
    if at is None:
        return None
    literals = ("NaN", "Infinity", "-Infinity", "1e999", "9" * 400, "-1e308", "1e308")
    return with_text("absurd number", base, at, rng.choice(literals))


def malformed_number(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base, lambda kind, _: kind in NUMBERS)
    if at is None:
        return None
    literal = rng.choice(
        ["03", "+3", "0x10", "3.", ".5", "1_000", "3,5", "\N{FULLWIDTH DIGIT THREE}", "1e", "--1"]
    )
    last = [step for step in at if isinstance(step, str)][-1]
    return with_text("malformed number", base, at, literal, key=last, column=0)


def malformed_value(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base, lambda kind, value: isinstance(value, str))
    if at is None:
        return None
    literals = ("nul", "True", "None", "undefined", "“app”", "'app'", "app", '"app', '"\\q"', "")
    last = [step for step in at if isinstance(step, str)][-1]
    return with_text("malformed value", base, at, rng.choice(literals), key=last, line=0, column=0)


def bad_address(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base, lambda kind, _: kind in ADDRESSES)
    return replaced("bad address", base, at, rng.choice(BAD_ADDRESSES)) if at else None


def own_address(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base, lambda kind, _: kind in ADDRESSES)
    return replaced("own address", base, at, OWN) if at else None


def the_same_address(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base, lambda kind, _: kind in ADDRESSES and kind != "gateway_ip")
    return replaced("the same address", base, at, base["gateway_ip"]) if at else None


def bad_unit(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base, lambda kind, _: kind == "services_to_manage")
    return replaced("bad unit", base, at, rng.choice(BAD_UNITS)) if at else None


def the_same_unit(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    if len(base["services_to_manage"]) < 2:
        return None
    return replaced("the same unit", base, ("services_to_manage", 1), base["services_to_manage"][0])


def bad_word(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base, lambda kind, _: kind in BAD_WORDS)
    if at is None:
        return None
    kind = kind_of(at)
    if kind == "fence.command" and at[-1] != 0:
        return None
    named = at[:-1] if kind in ("fence.command", "service_checks.command") else at
    place = {} if named == at else {"key": name_of(named), "line": 0, "column": 0}
    return replaced("bad word", base, at, rng.choice(BAD_WORDS[kind]), **place)


def hostile_text(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    """Escapes that are good JSON, and no good text."""
    at = chosen(rng, base, lambda kind, _: kind in (*ADDRESSES, "services_to_manage"))
    if at is None:
        return None
    literals = ('"\\u0000"', '"\\ud800"', '"\\u001b[2J"', '"' + "x" * 5000 + '"', '"a\\nb"')
    return with_text("hostile text", base, at, rng.choice(literals))


def nothing(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base)
    return replaced("null", base, at, None) if at else None


def nested_deeply(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base)
    if at is None:
        return None
    depth = rng.choice([40, 1000, 30_000])
    last = [step for step in at if isinstance(step, str)][-1]
    literal = "[" * depth + "]" * depth
    return with_text("nested deeply", base, at, literal, key=last, column=0)


def wrong_object(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    """A whole list or object is something else."""
    keys = [key for key, value in base.items() if isinstance(value, dict | list)]
    key = rng.choice(keys)
    wrong = ["", 3, True, None] if isinstance(base[key], dict) else [{}, 3, True, None]
    return replaced(
        "wrong object", base, (key,), rng.choice([*wrong, {"a": []}]), key=key, column=0
    )


def misspelt_key(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base, lambda kind, _: not kind.startswith("fence.options"))
    if at is None:
        return None
    steps = [index for index, step in enumerate(at) if isinstance(step, str)]
    depth = rng.choice(steps)
    old = str(at[depth])
    if old == "type":
        return None  # without it nobody knows which keys belong here
    new = respelt(rng, old)
    return renamed("misspelt key", base, at[: depth + 1], new)


def respelt(rng: random.Random, old: str) -> str:
    index = rng.randrange(1, len(old))
    letter = rng.choice(string.ascii_lowercase)
    return rng.choice(
        (
            old[:index] + old[index + 1 :] + "_",
            old[:index] + letter + letter + old[index:],
            old.upper(),
            old.replace("_", "-") + "-",
            old + " ",
        )
    )


def look_alike(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base)
    if at is None:
        return None
    old = str(at[0])
    places = [index for index, letter in enumerate(old) if letter in LOOK_ALIKES]
    index = rng.choice(places)
    return renamed(
        "look-alike", base, at[:1], old[:index] + LOOK_ALIKES[old[index]] + old[index + 1 :]
    )


def renamed(how: str, base: dict[str, Any], location: Location, new: str) -> Mutant:
    """Another name for the key at a place."""
    text = rendered(renamed_in(base, location, MARK))
    before, _, after = text.partition(f'"{MARK}"')
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    shown = new if new.isidentifier() else json.dumps(new, ensure_ascii=False)
    above = f"{name_of(location[:-1])}." if len(location) > 1 else ""
    written = before + json.dumps(new, ensure_ascii=False) + after
    return Mutant(how=how, text=written, key=above + shown, line=line, column=column)


def renamed_in(value: Any, location: Location, new: str) -> Any:
    first, *rest = location
    if isinstance(value, list):
        return [
            renamed_in(entry, tuple(rest), new) if index == first else entry
            for index, entry in enumerate(value)
        ]
    pairs = {}
    for key, entry in value.items():
        if key != first:
            pairs[key] = entry
        elif rest:
            pairs[key] = renamed_in(entry, tuple(rest), new)
        else:
            pairs[new] = entry
    return pairs


def left_out(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    """A key is gone: good where nobody needs it."""
    at = chosen(rng, base, lambda kind, _: not kind.startswith(("fence.options", "lease.")))
    if at is None:
        return None
    steps = [index for index, step in enumerate(at) if isinstance(step, str)]
    location = at[: rng.choice(steps) + 1]
    kind = kind_of(location)
    if kind in ("role", "service_checks.type", "references_required", "retry_interval"):
        return None
    if kind in ("guard", "witness_ips"):
        return None  # others rest on them
    text = rendered(with_value(base, location, MARK))
    pattern = rf'(,\n\s*"{location[-1]}": "{MARK}")|("{location[-1]}": "{MARK}",?)'
    text = re.sub(pattern, "", text)
    text = re.sub(r"\{\s*\n\s*,", "{", text)
    return Mutant(how="left out", text=text, good=kind not in REQUIRED, key=name_of(location))


def twice(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    """A line of its own stands there again."""
    lines = rendered(base).splitlines()
    places = [i for i, text in enumerate(lines) if re.match(r'\s*"\w+": [^\[{]*$', text)]
    index = rng.choice(places)
    key = nearest_key("\n".join(lines), index + 1)
    lines.insert(index, lines[index].rstrip(",") + ",")
    text = "\n".join(lines) + "\n"
    return Mutant(how="twice", text=text, key=key, line=index + 2)


def without_comma(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    lines = rendered(base).splitlines()
    index = rng.choice([i for i, text in enumerate(lines) if text.endswith(",")])
    lines[index] = lines[index].removesuffix(",")
    text = "\n".join(lines) + "\n"
    key = nearest_key(text, index + 2)
    return Mutant(how="without comma", text=text, key=key, line=index + 2)


def one_comma_more(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    lines = rendered(base).splitlines()
    ends = [i for i, text in enumerate(lines) if i and text.strip()[:1] in ("}", "]")]
    index = rng.choice(ends) - 1
    if lines[index].rstrip()[-1] in "{[,":
        return None
    lines[index] += ","
    text = "\n".join(lines) + "\n"
    return Mutant(how="one comma more", text=text, line=index + 1)


def cut_off(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    text = rendered(base)
    begin = text.index("\n", text.index(":"))
    return Mutant(how="cut off", text=text[: rng.randrange(begin, text.rindex("}"))])


def a_byte_too_many(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    """NUL, a byte order mark, an escape or a space that is none, where a line begins."""
    lines = rendered(base).splitlines()
    index = rng.randrange(2, len(lines))
    stranger = rng.choice(["\0", "\ufeff", "\x1b", "\u00a0", "\u200b", "#", "/*", ";", "--"])
    lines[index] = stranger + lines[index]
    line = 0 if stranger == "/*" else index + 1
    return Mutant(how=f"stranger {stranger!r}", text="\n".join(lines) + "\n", line=line)


def nul_in_a_text(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    at = chosen(rng, base, lambda kind, value: isinstance(value, str))
    if at is None:
        return None
    last = [step for step in at if isinstance(step, str)][-1]
    return with_text("NUL in a text", base, at, '"a\0b"', key=last, column=0)


def only_dressed_up(rng: random.Random, base: dict[str, Any]) -> Mutant | None:
    """Comments, blanks and another order: still good."""
    keys = list(base)
    rng.shuffle(keys)
    text = rendered({key: base[key] for key in keys})
    comment = rng.choice(['// why, {not} "this"\n', "/* one\n two */", "\n\n\t", " "])
    return Mutant(how="dressed up", text=text.replace(",\n", f",{comment}\n"), good=True)


MUTATIONS: Sequence[Mutation] = (
    wrong_type,
    out_of_range,
    any_number,
    a_fraction,
    absurd_number,
    malformed_number,
    malformed_value,
    bad_address,
    own_address,
    the_same_address,
    bad_unit,
    the_same_unit,
    bad_word,
    hostile_text,
    nothing,
    nested_deeply,
    wrong_object,
    misspelt_key,
    look_alike,
    left_out,
    twice,
    without_comma,
    one_comma_more,
    cut_off,
    a_byte_too_many,
    nul_in_a_text,
    only_dressed_up,
)


@functools.cache
def mutants(seed: int) -> tuple[tuple[Mutant, ...], tuple[Mutant, ...]]:
    """Exactly REFUSED bad ones, of all sorts and bases; and the good ones met on the way."""
    rng = random.Random(seed)
    bad: dict[str, Mutant] = {}
    good: dict[str, Mutant] = {}
    turn = 0
    while len(bad) < REFUSED:
        mutation = MUTATIONS[turn % len(MUTATIONS)]
        turn += 1
        bases = rng.sample(BASES, len(BASES))
        made = next(filter(None, (mutation(rng, base) for base in bases)), None)
        if made:
            (good if made.good else bad)[made.text] = made
    return tuple(bad.values()), tuple(good.values())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each bad mutant of the seed."""
    if "mutant" in metafunc.fixturenames:
        seed = metafunc.config.getoption("--seed") or SEED
        bad, _ = mutants(seed)
        assert len(bad) == REFUSED
        names = [f"{seed}-{number}: {mutant.how}" for number, mutant in enumerate(bad)]
        metafunc.parametrize("mutant", bad, ids=names)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    chosen_seed: int = request.config.getoption("--seed") or SEED
    print(f"seed {chosen_seed}")
    return chosen_seed


@pytest.fixture(autouse=True)
def _own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """One address is this host's, whatever this machine's are."""
    monkeypatch.setattr(config, "HostAddresses", lambda: {OWN})
    monkeypatch.setattr(config, "UNIT_DIRS", ())


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode())
    return path


def blamed(path: Path, told: str, mutant: Mutant) -> None:
    """Every part of the promise: file, line, column, key, what is wrong, what would be right."""
    print(told)
    assert "Traceback" not in told
    prefix = f"{path}:"
    blocks = [line.removeprefix(prefix) for line in told.splitlines() if line.startswith(prefix)]
    problems = [PROBLEM.fullmatch(block) for block in blocks]
    assert problems
    assert all(problems), blocks
    found = [problem for problem in problems if problem]
    lines = mutant.text.split("\n")
    for problem in found:
        line, column = int(problem["line"]), int(problem["column"])
        assert 1 <= line <= len(lines)
        assert 1 <= column <= len(lines[line - 1]) + 1
    assert told.count("\n" + " " * 4) >= len(found)  # the source line, and a caret below it
    within = (mutant.key, f"{mutant.key}.", f"{mutant.key}[")  # it, or what it holds
    about = [p for p in found if p["key"] == mutant.key or p["key"].startswith(within[1:])]
    about = about if mutant.key else found
    assert about, [p["key"] for p in found]
    if mutant.line:
        about = [p for p in about if int(p["line"]) == mutant.line]
        assert about, [(p["line"], p["key"]) for p in found]
    if mutant.column:
        exact = [p for p in about if int(p["column"]) == mutant.column or p["key"] != mutant.key]
        assert exact, [p["column"] for p in about]


def test_check_refuses_each_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mutant: Mutant
) -> None:
    """78, all of it on stderr, nothing on stdout."""
    path = written(tmp_path, mutant.text)
    assert cli.main(["check", str(path)]) == os.EX_CONFIG
    told = capsys.readouterr()
    assert told.out == ""
    blamed(path, told.err, mutant)


def test_run_refuses_each_with_the_same_words(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    mutant: Mutant,
) -> None:
    """78, and nothing is left but the lock; the reader is in this process, to be quick."""

    def load_here(path: Path) -> Loaded:
        try:
            load(path)
        except ConfigError as error:
            raise UnusableError(str(error)) from None
        raise AssertionError("it is good")

    monkeypatch.setattr(daemon, "load_apart", load_here)
    path, paths = written(tmp_path, mutant.text), Paths(tmp_path / "root")
    assert daemon.run(path, paths) == os.EX_CONFIG
    told = capsys.readouterr()
    assert told.out == ""
    blamed(path, told.err, mutant)
    assert list(paths.run.iterdir()) == [paths.lock]
    assert not paths.history.exists()


def test_one_in_ten_is_refused_by_the_whole_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    """In processes of their own: `check` as users run it, and the reader that `run` starts."""
    bad = [mutant for mutant in mutants(seed)[0] if mutant.how != "own address"][::EACH]
    assert len(bad) >= REFUSED // EACH - 2
    for number, mutant in enumerate(bad):
        path = written(tmp_path, mutant.text)
        words = [sys.executable, "-m", "failover_monitor", "check", str(path)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (os.EX_CONFIG, "")
        blamed(path, done.stderr, mutant)
        assert daemon.run(path, Paths(tmp_path / f"root{number}")) == os.EX_CONFIG
        assert capsys.readouterr().err.endswith(done.stderr)


def test_what_happens_to_be_good_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    """The other side of the coin: whoever refuses everything would pass the tests above."""
    good = mutants(seed)[1]
    assert len(good) >= 6
    assert len({mutant.how for mutant in good}) >= 3
    for text in [mutant.text for mutant in good] + [rendered(base) for base in BASES]:
        path = written(tmp_path, text)
        assert cli.main(["check", str(path)]) == 0, text
        assert capsys.readouterr().err == ""


def test_every_sort_of_mutation_is_among_them(seed: int) -> None:
    """No sort is starved by the choice of bases."""
    bad, good = mutants(seed)
    sorts = {mutant.how.partition(" '")[0] for mutant in (*bad, *good)}
    assert len(sorts) == len(MUTATIONS)


# Files as a whole: there is no key, and where there is no text, no line either.


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ":1:1: the file is empty; right: one object"),
        (b" \n\t", ":1:1: the file is empty; right: one object"),
        (b"\xef\xbb\xbf{}", ":1:1: a byte order mark opens the file; right: UTF-8 without it"),
        (b"[1, 2]", ":1:1: the file holds no object; right: one object"),
        (b'"a"', ":1:1: the file holds no object; right: one object"),
        (b"null", ":1:1: the file holds no object; right: one object"),
        (b"\0" * 100, ":1:1: a value is expected here; right: "),
        (b'{\n"a\xff": 1}', ":2:3: byte 0xff is not UTF-8; right: a file in UTF-8"),
        ("{\n}".encode("utf-16"), ":1:1: byte 0xff is not UTF-8; right: a file in UTF-8"),
        (b"\x1f\x8b\x08\0", ":1:2: byte 0x8b is not UTF-8; right: a file in UTF-8"),
        (b"{" + b" " * (1 << 17), ": is too large; right: at most 131072 bytes"),
        (b"gateway_ip=1", ":1:1: a value is expected here; right: "),
        (b"[" * 100_000, ":1:34: nested too deeply; right: the keys stand directly"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    """`check` and `run` say the same, with the place where there is one."""
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert cli.main(["check", str(path)]) == os.EX_CONFIG
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"{path}{words}")
    assert daemon.run(path, Paths(tmp_path / "root")) == os.EX_CONFIG
    assert capsys.readouterr().err == told.err


@pytest.mark.parametrize(
    "what", ["missing", "a directory", "a FIFO", "below a file", "a long name"]
)
def test_a_configuration_that_is_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """Every command that reads it says so at once, with 78; a FIFO makes nobody wait."""
    path = tmp_path / "config.json"
    match what:
        case "a directory":
            path.mkdir()
        case "a FIFO":
            os.mkfifo(path)
        case "below a file":
            path.write_text("{}")
            path /= "config.json"
        case "a long name":
            path = tmp_path / ("x" * 300)
    for words in (["check", str(path)], ["doctor", "--config", str(path)]):
        assert cli.main(words) == os.EX_CONFIG
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith(f"{path}: ")
        assert "; right: " in told.err
        assert told.err.count("\n") == 1
    assert daemon.run(path, Paths(tmp_path / "root")) == os.EX_CONFIG
    assert capsys.readouterr().err == told.err
