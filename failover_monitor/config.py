"""config.json -> a policy, or every problem with its place.

Rule: all or nothing.  A configuration is understood completely or refused with everything that is
wrong in it.  Nothing here touches a service or the network.  No other module imports pydantic.
"""

import difflib
import json
import os
import re
import socket
import stat
import unicodedata
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from failover_monitor import jsonc
from failover_monitor.model import Failback, Foreign, Policy

FILE_LIMIT = 1 << 17  # bytes; a hundred of the longest names fit five times
PROBLEM_LIMIT = 100  # of one sort
ADDRESS_LIMIT = 16  # of the primary, and of the witnesses
SERVICE_LIMIT = 100
NAME_LIMIT = 255  # systemd's UNIT_NAME_MAX, without the closing NUL
ALIAS_LIMIT = 8  # links followed from one unit name to the next
SOURCE_LIMIT = 100  # characters of a source line shown under a problem
VALUE_LIMIT = 60  # characters of a wrong value shown in a problem

EXAMPLE_NET = IPv4Network("192.0.2.0/24")  # RFC 5737 TEST-NET-1: what the shipped file uses
RESERVED_NET = IPv4Network("240.0.0.0/4")  # RFC 1112 §4, with the broadcast address
THIS_NET = IPv4Network("0.0.0.0/8")  # RFC 1122 §3.2.1.3

KINDS = ("service", "socket", "timer", "path", "mount", "target")
OTHER_KINDS = frozenset({"device", "automount", "swap", "slice", "scope", "snapshot"})
UNIT_NAME = re.compile(r"[A-Za-z0-9:_\\][A-Za-z0-9:_.\\@-]*")  # unit-name.c, without "-x" and ".x"
SCOPE = re.compile(r"[A-Za-z0-9_.:-]{1,15}")  # an interface: IFNAMSIZ, without the closing NUL

UNIT_DIRS = tuple(
    Path(path)
    for path in (  # systemd.unit(5), the first that has a name wins
        "/etc/systemd/system",
        "/run/systemd/system",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    )
)
OUR_UNIT = "failover-monitor.service"
NOT_THE_HOSTS = ("systemd-nspawn@*",)  # containers: exceptions from the patterns below
HOST_UNITS = (  # what the host itself stands on; name without its type
    *("systemd-*", "dbus", "dbus-broker", "messagebus", "init"),
    *("ssh", "sshd", "ssh@*", "sshd@*", "sshd-*", "dropbear"),
    *("NetworkManager", "NetworkManager-*", "networking", "network", "network-*", "networkd-*"),
    *("ifup@*", "ifupdown-*", "ifupdown2", "netplan-*", "netctl", "netctl@*", "netctl-*"),
    *("wicked", "wickedd", "wickedd-*", "connman", "connman-*", "dhcpcd", "dhcpcd@*"),
    *("dhclient", "dhclient@*", "wpa_supplicant", "wpa_supplicant@*", "wpa_supplicant-*", "iwd"),
    *("getty@*", "serial-getty@*", "console-getty", "container-getty@*", "autovt@*"),
    *("user@*", "user-runtime-dir@*", "initrd-*", "emergency", "rescue"),
)
HOST_MOUNTS = re.compile(
    r"""(- | boot | boot-efi | efi | etc | opt | tmp | usr | var | var-lib | var-log
    | (dev | proc | run | sys)(-.*)?)\.mount""",
    re.VERBOSE,
)
HOST_TARGETS = re.compile(  # systemd.special(7)
    r"""(basic | boot-complete | ctrl-alt-del | default | emergency | exit | factory-reset | final
    | first-boot-complete | graphical | halt | hibernate | hybrid-sleep | initrd | initrd-.*
    | kexec | machines | multi-user | network-online | nss-lookup | nss-user-lookup | paths
    | poweroff | reboot | remote-veritysetup | rescue | rpcbind | runlevel[0-6] | shutdown | sigpwr
    | sleep | slices | sockets | soft-reboot | suspend | suspend-then-hibernate | swap | sysinit
    | system-update(-.*)? | time-set | time-sync | timers | umount
    | (cryptsetup | getty | integritysetup | local-fs | network | remote-cryptsetup | remote-fs
    | veritysetup)(-pre)?)\.target""",
    re.VERBOSE,
)

Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, and where."""

    line: int  # from 1; 0 = the file as a whole
    column: int
    key: str  # "" = no particular key
    what: str
    right: str  # what would be right
    source: str = ""  # the line it stands in


class ConfigError(Exception):
    """A configuration that cannot be used; its text is every problem, one block each."""

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        super().__init__("\n".join(_block(path, problem) for problem in self.problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A configuration that was understood completely."""

    path: Path
    text: str  # verbatim, so that the last good one can be kept
    policy: Policy


# Single values.


def _wrong(what: str, right: str) -> PydanticCustomError:
    return PydanticCustomError("wrong", "{what}; right: {right}", {"what": what, "right": right})


def address(text: str) -> str:
    """The canonical form of one host's address."""
    try:
        found = ip_address(text)
    except ValueError:
        raise _wrong(
            f"{_shown(text)} is not an address",
            "an IPv4 or IPv6 address, not a name: DNS may be down exactly when it matters",
        ) from None
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        raise _wrong(f"{_shown(text)} is an IPv4 address in disguise", str(found.ipv4_mapped))
    if isinstance(found, IPv4Address) and found in EXAMPLE_NET:
        raise _wrong(f"{text} is still the example", "the address of a host of yours")
    if what := _no_host(found):
        raise _wrong(f"{_shown(text)} is {what}", "the address of one host")
    if isinstance(found, IPv6Address):
        _fit_scope(found, text)
    return str(found)


def _no_host(found: IPv4Address | IPv6Address) -> str:
    """Why no single other host can have this address, or nothing."""
    if found.is_multicast:
        return "a multicast address"
    if found.is_loopback:
        return "a loopback address"
    if found.is_unspecified:
        return "the unspecified address"
    if found == IPv4Address("255.255.255.255"):
        return "the broadcast address"
    return "a reserved address" if found in RESERVED_NET or found in THIS_NET else ""


def _fit_scope(found: IPv6Address, text: str) -> None:
    """A link-local address needs its interface; no other address may have one."""
    if found.is_link_local and found.scope_id is None:
        raise _wrong(f"{text} is link-local, without interface", f"for instance {found}%eth0")
    if found.scope_id is None:
        return
    if not found.is_link_local:
        raise _wrong(
            f"{_shown(text)} names an interface",
            "an interface (%eth0) with link-local addresses only",
        )
    if not SCOPE.fullmatch(found.scope_id):
        raise _wrong(f"{_shown(text)} does not name an interface", "for instance fe80::2%eth0")


def unit(text: str) -> str:
    """The full name of a unit that can be managed; a bare name means a service."""
    kind = text.rpartition(".")[2] if "." in text else ""
    kinds = ", ".join(KINDS)
    if kind in OTHER_KINDS:
        raise _wrong(f"{_shown(text)}: a {kind} cannot be managed", f"a unit of type {kinds}")
    name = text if kind in KINDS else f"{text}.service"
    stem = name.rpartition(".")[0]
    if name != "-.mount" and not (UNIT_NAME.fullmatch(stem) and len(name) <= NAME_LIMIT):
        what = "a unit name is empty" if not text else f"{_shown(text)} is not a unit name"
        raise _wrong(what, "a name as in `systemctl list-units`: letters, digits and :-_.\\@")
    if kind not in KINDS and (close := difflib.get_close_matches(kind.lower(), KINDS, 1, 0.8)):
        raise _wrong(f"{_shown(text)} has no known type", f"did you mean .{close[0]}?")
    if stem.endswith("@") and stem.count("@") == 1:
        raise _wrong(f"{name} is a template", f"an instance of it: {stem}NAME.{kind or 'service'}")
    return name


def _listed(value: object) -> object:
    """One address is a list of one."""
    return [value] if isinstance(value, str) else value


# The keys.

Address = Annotated[str, AfterValidator(address)]
Unit = Annotated[str, AfterValidator(unit)]


def _count(default: int) -> Any:
    return Field(default, ge=1, le=100, description="a whole number from 1 to 100")


def _seconds(default: float, least: float, most: float) -> Any:
    words = f"a number from {least:g} to {most:g}"
    return Field(default, ge=least, le=most, description=words)


class Settings(BaseModel):
    """The keys of config.json; a description says what would be right."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    gateway_ip: Address = Field(description="the address of the gateway")
    active_ip: Annotated[tuple[Address, ...], BeforeValidator(_listed)] = Field(
        strict=False,  # JSON knows lists only
        min_length=1,
        max_length=ADDRESS_LIMIT,
        description=f"the primary's address, or a list of 1 to {ADDRESS_LIMIT} of its addresses",
    )
    services_to_manage: tuple[Unit, ...] = Field(
        strict=False,
        min_length=1,
        max_length=SERVICE_LIMIT,
        description=f"a list of 1 to {SERVICE_LIMIT} unit names",
    )
    ping_interval: float = _seconds(3.0, 0.1, 3600)
    ping_fail_threshold: int = _count(3)
    ping_timeout: float = _seconds(1.0, 0.05, 60)
    retry_interval: float = Field(
        0.0,  # absent
        ge=0.05,
        description="a number from 0.05 to ping_interval",
    )
    witness_ips: tuple[Address, ...] = Field(
        (),
        strict=False,
        max_length=ADDRESS_LIMIT,
        description=f"a list of up to {ADDRESS_LIMIT} addresses",
    )
    recovery_threshold: int = _count(1)
    failback: Failback = Field(
        Failback.AUTO, strict=False, description='"auto", "delayed" or "manual"'
    )
    recovery_delay: float = _seconds(60.0, 0, 86_400)
    takeover_delay: float = _seconds(0.0, 0, 3600)
    startup_grace: float = _seconds(120.0, 0, 3600)
    foreign_start: Foreign = Field(Foreign.REPORT, strict=False, description='"report" or "stop"')

    @property
    def policy(self) -> Policy:
        return Policy(
            primary=self.active_ip,
            references=(self.gateway_ip, *self.witness_ips),
            services=self.services_to_manage,
            interval_s=self.ping_interval,
            threshold=self.ping_fail_threshold,
            timeout_s=self.ping_timeout,
            retry_interval_s=self.retry_interval or None,
            recovery_threshold=self.recovery_threshold,
            failback=self.failback,
            recovery_delay_s=self.recovery_delay,
            takeover_delay_s=self.takeover_delay,
            startup_grace_s=self.startup_grace,
            foreign_start=self.foreign_start,
        )


_WHAT = {  # pydantic's error types in our words
    "missing": "is missing",
    "int_type": "{value} is not a whole number",
    "float_type": "{value} is not a number",
    "finite_number": "{value} is not a finite number",
    "greater_than_equal": "{value} is out of range",
    "less_than_equal": "{value} is out of range",
    "string_type": "{value} is not a text",
    "tuple_type": "{value} is not a list",
    "too_short": "the list is empty",
    "too_long": "the list is too long",
}


# The whole.


def load(path: Path) -> Config:
    """Read and understand a configuration, or raise `ConfigError`."""
    return parse(_read(path), path, host_addresses=HostAddresses(), unit_dirs=UNIT_DIRS)


def parse(
    text: str,
    path: Path,
    *,
    host_addresses: Container[str] = (),
    unit_dirs: Sequence[Path] = (),
) -> Config:
    """Understand a text, or raise `ConfigError`.

    `host_addresses` are this host's own; aliases of units are links in `unit_dirs`.
    """
    try:
        document = jsonc.read(_json_alone(text))
    except jsonc.JsoncError as fault:
        problem = _problem(text, fault.offset, "", fault.what, fault.right)
        raise ConfigError(path, [problem]) from None
    draft = _Draft(text, document)
    problems = [
        *draft.repeated(),
        *draft.unknown(),
        *draft.clashing_addresses(host_addresses),
        *draft.clashing_units(unit_dirs),
        *draft.clashing_times(),
    ]
    try:
        settings = Settings.model_validate(draft.known)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [problem for detail in details for problem in draft.wrong(detail)]
        raise ConfigError(path, problems) from None
    if problems:
        raise ConfigError(path, problems)
    return Config(path=path, text=text, policy=settings.policy)


class _Draft:
    """A document on its way to settings.  Each method finds one sort of problem."""

    def __init__(self, text: str, document: jsonc.Document) -> None:
        self.text = text
        self.document = document
        self.keys = document.data if isinstance(document.data, dict) else {}
        self.known = {
            key: value for key, value in self.keys.items() if key in Settings.model_fields
        }

    def repeated(self) -> Iterator[Problem]:
        for key, offset in self.document.repeated[:PROBLEM_LIMIT]:
            what = "stands here for the second time"
            yield _problem(self.text, offset, _shown_key(key), what, "each key once")

    def unknown(self) -> Iterator[Problem]:
        if not isinstance(self.document.data, dict):
            what, right = "the file holds no object", "one object: { ... }"
            yield _problem(self.text, self.document.start, "", what, right)
        names = tuple(Settings.model_fields)
        unknown = (key for key in self.keys if key not in self.known)
        for key in islice(unknown, PROBLEM_LIMIT):
            close = difflib.get_close_matches(key.lower().replace("-", "_"), names, 1)
            right = f"did you mean {close[0]}?" if close else f"one of {', '.join(names)}"
            offset = self.document.member((key,)).key_at
            yield _problem(self.text, offset, _shown_key(key), "is not a key", right)

    def wrong(self, detail: ErrorDetails) -> Iterator[Problem]:
        """What pydantic found."""
        location, sort, context = detail["loc"], detail["type"], detail.get("ctx", {})
        key, *indices = location
        value = self.known.get(str(key))
        for index in indices:
            value = value[int(index)] if isinstance(value, list) else value
        if sort == "missing" and not isinstance(self.document.data, dict):
            return
        if sort == "too_short" and value != []:
            return  # its entries are wrong, and have their own problems
        what = _WHAT.get(sort, "{value} is not known here").format(value=_shown(value))
        right = Settings.model_fields[str(key)].description or ""
        yield self._at(location, context.get("what", what), context.get("right", right))

    def clashing_addresses(self, host_addresses: Container[str]) -> Iterator[Problem]:
        """Good addresses that are this host's own, or stand twice."""
        first: dict[str, Location] = {}
        for location, text in self._entries("gateway_ip", "active_ip", "witness_ips"):
            try:
                found = address(text)
            except PydanticCustomError:
                continue
            if found in host_addresses:
                yield self._at(location, f"{found} is this host's own address", "another host's")
            if found not in first:
                first[found] = location
            elif {location[0], first[found][0]} == {"gateway_ip", "active_ip"}:
                yield self._at(
                    location,
                    f"{found} is gateway_ip as well",
                    "two hosts: the gateway has to answer when the primary does not",
                )
            else:
                what = f"{found} stands in {self._name(first[found])} already"
                yield self._at(location, what, "each address once")

    def clashing_units(self, unit_dirs: Sequence[Path]) -> Iterator[Problem]:
        """Good unit names that are not ours to manage, or mean the same unit twice."""
        needed = _host_units_by_alias(unit_dirs)
        first: dict[str, tuple[Location, str]] = {}
        for location, text in self._entries("services_to_manage"):
            try:
                name = unit(text)
            except PydanticCustomError:
                continue
            names = aliases(name, unit_dirs)
            also = f" ({name} is an alias of it)"
            if OUR_UNIT in names:
                what = f"{OUR_UNIT} is this monitor{also if name != OUR_UNIT else ''}"
                yield self._at(location, what, "a unit of yours")
            elif basis := next((n for n in names if n in needed or of_the_host(n)), None):
                what = f"the host itself stands on {basis}{also if name != basis else ''}"
                yield self._at(location, what, "a unit of yours, which may stop at any time")
            if names[-1] not in first:
                first[names[-1]] = location, name
                continue
            earlier, earlier_name = first[names[-1]]
            same = "" if name == earlier_name else f" as {earlier_name}, the same unit"
            what = f"{name} stands in {self._name(earlier)} already{same}"
            yield self._at(location, what, "each unit once")

    def clashing_times(self) -> Iterator[Problem]:
        interval: Any = self.known.get(
            "ping_interval", Settings.model_fields["ping_interval"].default
        )
        retry: Any = self.known.get("retry_interval")
        both = (interval, retry)
        if any(type(number) not in (int, float) or not isfinite(number) for number in both):
            return
        if retry > interval:
            yield self._at(
                ("retry_interval",),
                f"{_shown(retry)} is longer than ping_interval ({_shown(interval)})",
                f"a number from 0.05 to {_shown(interval)}",
            )

    def _entries(self, *keys: str) -> Iterator[tuple[Location, str]]:
        """The texts under the keys, whether in a list or alone."""
        for key in keys:
            value = self.known.get(key)
            if isinstance(value, str):
                yield (key,), value
            elif isinstance(value, list):
                for index, entry in enumerate(value[:SERVICE_LIMIT]):
                    if isinstance(entry, str):
                        yield (key, index), entry

    def _name(self, location: Location) -> str:
        """A location in words: key, or key[index] if the file has a list there."""
        key, *indices = location
        if not isinstance(self.known.get(str(key)), list):
            return str(key)
        return f"{key}{''.join(f'[{index}]' for index in indices)}"

    def _at(self, location: Location, what: str, right: str) -> Problem:
        offset = self.document.member(location).value_at
        return _problem(self.text, offset, self._name(location), what, right)


# Units and their aliases.


def of_the_host(name: str) -> bool:
    """Whether the host itself stands on a unit of this name."""
    if HOST_MOUNTS.fullmatch(name) or HOST_TARGETS.fullmatch(name):
        return True
    stem, _, kind = name.rpartition(".")
    if kind in {"mount", "target"} or _matches(stem, NOT_THE_HOSTS):
        return False
    return _matches(stem, HOST_UNITS)


def _matches(stem: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(stem, pattern) for pattern in patterns)


def aliases(name: str, unit_dirs: Sequence[Path]) -> tuple[str, ...]:
    """The name and those it leads to; the last is the unit's own."""
    names = [name]
    while len(names) <= ALIAS_LIMIT:
        target = _link(names[-1], unit_dirs)
        if not target or target in names:
            break
        names.append(target)
    return tuple(names)


def _link(name: str, unit_dirs: Sequence[Path]) -> str:
    """The unit that the first file of this name links to, or nothing."""
    stem, _, kind = name.rpartition(".")
    prefix, at, instance = stem.partition("@")
    template = f"{prefix}@.{kind}"
    for candidate in (name, template) if at else (name,):
        for directory in unit_dirs:
            file = directory / candidate
            try:
                target = file.readlink().name
            except OSError:
                if os.path.lexists(file):
                    return ""  # a file of its own
                continue
            target_stem = target.removesuffix(f".{kind}")
            if target_stem == target:
                return ""  # /dev/null, or a unit of another type
            return f"{target_stem}{instance}.{kind}" if target_stem.endswith("@") else target
    return ""


def _host_units_by_alias(unit_dirs: Sequence[Path]) -> frozenset[str]:
    """Units that carry one of the host's names on this host: dbus.service may be any broker."""
    names = (name for name in HOST_UNITS if "*" not in name)
    services = (f"{name}.{kind}" for name in names for kind in ("service", "socket"))
    return frozenset(aliases(service, unit_dirs)[-1] for service in services)


# The outside world.


class HostAddresses:
    """The addresses of this host; `in` asks the kernel.  Nothing is sent."""

    def __contains__(self, address: object) -> bool:
        """The kernel reaches an address of this host from that address itself."""
        family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                place = socket.getaddrinfo(
                    str(address), 9, family, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST
                )[0][4]
                probe.connect(place)
                return bool(probe.getsockname()[0] == place[0])
        except OSError:
            return False


def _read(path: Path) -> str:
    """The text of the file; a pipe or a device never makes us wait."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(path, [_file_problem("is not a file", "a regular file")])
            content = file.read(FILE_LIMIT + 1)
    except IsADirectoryError:
        raise ConfigError(path, [_file_problem("is a directory", "a regular file")]) from None
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        problem = _file_problem(f"cannot be read: {why}", "a file that root can read")
        raise ConfigError(path, [problem]) from None
    if len(content) > FILE_LIMIT:
        problem = _file_problem("is too large", f"at most {FILE_LIMIT} bytes")
        raise ConfigError(path, [problem])
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        good = content[: error.start].decode()
        what = f"byte 0x{content[error.start]:02x} is not UTF-8"
        problem = _problem(good, len(good), "", what, "a file in UTF-8")
        raise ConfigError(path, [problem]) from None


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _json_alone(text: str) -> str:
    if text.startswith("\ufeff"):
        raise jsonc.JsoncError(0, "a byte order mark opens the file", "UTF-8 without it")
    if not text.strip():
        raise jsonc.JsoncError(0, "the file is empty", "one object: { ... }")
    return text


# Words.


def _file_problem(what: str, right: str) -> Problem:
    return Problem(line=0, column=0, key="", what=what, right=right)


def _problem(text: str, offset: int, key: str, what: str, right: str) -> Problem:
    start = text.rfind("\n", 0, offset) + 1
    return Problem(
        line=text.count("\n", 0, offset) + 1,
        column=offset - start + 1,
        key=key,
        what=what,
        right=right,
        source=text[start:].partition("\n")[0],
    )


def _block(path: Path, problem: Problem) -> str:
    """A problem as people read it: one line, the source line, and a caret below the place."""
    key = f" {problem.key}:" if problem.key else ""
    says = f"{key} {problem.what}; right: {problem.right}"
    if not problem.line:
        return f"{path}:{says}"
    begin = 0
    if len(problem.source) > SOURCE_LIMIT:
        begin = max(0, problem.column - 1 - SOURCE_LIMIT // 2)
    shown = "".join(
        letter if letter.isprintable() else " " if letter.isspace() else "\ufffd"
        for letter in problem.source[begin : begin + SOURCE_LIMIT]
    )
    before = shown[: problem.column - 1 - begin]
    width = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in before)
    return (
        f"{path}:{problem.line}:{problem.column}:{says}\n    {shown.rstrip()}\n    {' ' * width}^"
    )


def _shown(value: object) -> str:
    """A value as JSON writes it, short and safe to print."""
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        text = json.dumps(value)
    return text if len(text) <= VALUE_LIMIT else f"{text[: VALUE_LIMIT - 3]}..."


def _shown_key(key: str) -> str:
    return key if key.isidentifier() and len(key) <= VALUE_LIMIT else _shown(key)
