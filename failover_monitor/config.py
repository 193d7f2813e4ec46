"""config.json -> a policy, or every problem with its place.

Rule: all or nothing.  A configuration is understood completely or refused with everything that is
wrong in it.  Nothing here touches a service or the network.  What one key may be is in `settings`.
"""

import difflib
import os
import re
import socket
import stat
import unicodedata
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

from pydantic import (
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from failover_monitor import jsonc, safety
from failover_monitor.model import (
    RENEWALS,
    Failback,
    FenceFailure,
    FencePolicy,
    GuardPolicy,
    LeasePolicy,
    Policy,
    Role,
    ServiceCheck,
)
from failover_monitor.safety import (
    boot_hold_needed_s,
    lease_margin_s,
    takeover_delay_needed_s,
)
from failover_monitor.settings import (
    CHECKS,
    HOOKS,
    SERVICE_LIMIT,
    TTL_LIMIT_S,
    VALUE_LIMIT,
    FenceKeys,
    GuardKeys,
    HooksKeys,
    Keys,
    LeaseKeys,
    MetricsKeys,
    NotifyKeys,
    Settings,
    address,
    shown,
    unit,
)
from failover_monitor.text import one_line
from failover_monitor.unit_files import UNIT_DIRS, aliases
from failover_monitor.veil import is_secret, veiled

FILE_LIMIT = 1 << 17  # bytes; a hundred of the longest names fit five times
PROBLEM_LIMIT = 100  # of one sort
SOURCE_LIMIT = 100  # characters of a source line shown under a problem

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

OF_STANDBY = (  # keys that say nothing on the primary
    *("active_ip", "ping_interval", "ping_fail_threshold", "ping_timeout", "retry_interval"),
    *("recovery_threshold", "failback", "recovery_delay", "takeover_delay", "startup_grace"),
    *("foreign_start", "service_checks", "fence", "flap_window", "max_takeovers"),
    "references_required",
)
OF_PRIMARY = ("standby_ip",)
GATEWAY_AND_HOST = ({"gateway_ip", "active_ip"}, {"gateway_ip", "standby_ip"})
OF_BOTH = ("on_event",)  # among the hooks; the others are about the standby's phases
NESTED: dict[str, type[Keys]] = {
    "guard": GuardKeys,
    "fence": FenceKeys,
    "lease": LeaseKeys,
    "hooks": HooksKeys,
    "metrics": MetricsKeys,
}

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
    # For the agent alone: the core neither needs nor gets them.
    notify: tuple[NotifyKeys, ...] = ()
    metrics: MetricsKeys | None = None


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
    "bool_type": "{value} is neither true nor false",
    "dict_type": "{value} is not an object",
    "model_type": "{value} is not an object",
    "model_attributes_type": "{value} is not an object",
    "string_too_long": "the text is too long",
    "string_unicode": "{value} holds half a character",
    "union_tag_invalid": "{value} is no type of service check",
    "union_tag_not_found": "is missing",
}


# The whole.


def no_fault(_command: Sequence[str]) -> str:
    return ""


def load(path: Path, *, distrust: Callable[[Sequence[str]], str] = no_fault) -> Config:
    """Read and understand a configuration, or raise `ConfigError`.

    `distrust` says why a hook must not be run, "" = it may.  The monitor asks before each run
    instead: a file that is not as it should be must not end the watch.
    """
    return parse(
        _read(path),
        path,
        host_addresses=HostAddresses(),
        unit_dirs=UNIT_DIRS,
        distrust=distrust,
    )


def parse(
    text: str,
    path: Path,
    *,
    host_addresses: Container[str] = (),
    unit_dirs: Sequence[Path] = (),
    distrust: Callable[[Sequence[str]], str] = no_fault,
) -> Config:
    """Understand a text, or raise `ConfigError`.

    `host_addresses` are this host's own; aliases of units are links in `unit_dirs`; `distrust`
    as for `load`.
    """
    try:
        document = jsonc.read(_json_alone(text))
    except jsonc.JsoncError as fault:
        key = jsonc.key_before(text, fault.offset)
        key = _shown_key(key) if key else ""
        problem = _problem(veiled(text), fault.offset, key, fault.what, fault.right)
        raise ConfigError(path, [problem]) from None
    draft = _Draft(text, document)
    problems = [
        *draft.repeated(),
        *draft.unknown(),
        *draft.clashing_addresses(host_addresses),
        *draft.clashing_units(unit_dirs),
        *draft.clashing_times(),
        *draft.clashing_roles(),
        *draft.clashing_names(),
    ]
    try:
        settings = Settings.model_validate(draft.known)
    except ValidationError as error:
        details = error.errors(include_url=False)[:PROBLEM_LIMIT]
        problems += [problem for detail in details for problem in draft.wrong(detail)]
        raise ConfigError(path, problems) from None
    problems += [*draft.unsafe(settings), *draft.unsafe_hooks(settings.policy, distrust)]
    if problems:
        raise ConfigError(path, problems)
    return Config(
        path=path,
        text=text,
        policy=settings.policy,
        notify=settings.notify,
        metrics=settings.metrics,
    )


class _Draft:
    """A document on its way to settings.  Each method finds one sort of problem."""

    def __init__(self, text: str, document: jsonc.Document) -> None:
        self.text = veiled(text)  # for people
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
        unknown = (key for key in self.keys if key not in self.known)
        for key in islice(unknown, PROBLEM_LIMIT):
            offset = self.document.member((key,)).key_at
            right = _meant(key, Settings)
            yield _problem(self.text, offset, _shown_key(key), "is not a key", right)

    def wrong(self, detail: ErrorDetails) -> Iterator[Problem]:
        """What pydantic found."""
        found, sort, context = detail["loc"], detail["type"], detail.get("ctx", {})
        tagged = found[0] == "service_checks" and len(found) > 2  # pydantic puts the kind there
        location = (*found[:2], *found[3:]) if tagged else found
        if sort.startswith("union_tag"):
            location = (*location, "type")
        keys, field = keys_at(found)
        value: Any = self.known
        for step in location:
            value = inside(value, step)
        if sort == "missing" and not isinstance(self.document.data, dict):
            return
        if sort == "too_short" and value != []:
            return  # its entries are wrong, and have their own problems
        if sort == "extra_forbidden":
            yield self._unknown(location, keys)
            return
        told = "it" if is_secret(*location) else veiled(shown(value))
        what = _WHAT.get(sort, "{value} is not known here").format(value=told)
        right = field.description or "" if field else ""
        if sort.startswith("union_tag"):
            right = f"one of {', '.join(CHECKS)}"
        elif found[0] == "service_checks" and len(found) == 2:
            right = f'an object with "type": one of {", ".join(CHECKS)}'
        yield self._at(location, context.get("what", what), context.get("right", right))

    def _unknown(self, location: Location, keys: type[Keys]) -> Problem:
        key = str(location[-1])
        offset = self.document.member(location).key_at
        where = f"{self._name(location[:-1])}.{_shown_key(key)}"
        return _problem(self.text, offset, where, "is not a key", _meant(key, keys))

    def clashing_addresses(self, host_addresses: Container[str]) -> Iterator[Problem]:
        """Good addresses that are this host's own, or stand twice."""
        first: dict[str, Location] = {}
        for location, text in self._entries("gateway_ip", "active_ip", "standby_ip", "witness_ips"):
            try:
                found = address(text)
            except PydanticCustomError:
                continue
            if found in host_addresses:
                what = f"{found} is this host's own address"
                right = "another host's"
                if location[0] == "active_ip":
                    right += ', or "role": "primary" and standby_ip, if this is the primary'
                yield self._at(location, what, right)
            if found not in first:
                first[found] = location
            elif {location[0], first[found][0]} in GATEWAY_AND_HOST:
                yield self._at(
                    location,
                    f"{found} is gateway_ip as well",
                    "two hosts: the gateway has to answer when the other one does not",
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
                f"{shown(retry)} is longer than ping_interval ({shown(interval)})",
                f"a number from 0.05 to {shown(interval)}",
            )

    def clashing_roles(self) -> Iterator[Problem]:
        """Keys that say nothing in this role, and the one address that it needs."""
        if not isinstance(self.document.data, dict):
            return
        role = self.known.get("role", "standby")
        if role not in list(Role):
            return
        foreign: tuple[str, ...] = OF_PRIMARY
        needed = "active_ip"
        if role == Role.PRIMARY:
            foreign, needed = OF_STANDBY, "standby_ip"
        for key in foreign:
            if key in self.known:
                other = "standby" if role == Role.PRIMARY else "primary"
                yield self._at(
                    (key,),
                    f'says nothing with "role": "{role}"',
                    f'only on the {other}, with "role": "{other}"',
                )
        if needed not in self.known:
            right = Settings.model_fields[needed].description or ""
            yield self._at((needed,), "is missing", right)

    def clashing_names(self) -> Iterator[Problem]:
        """Two targets of one name: what went to which could not be told."""
        targets = self.known.get("notify")
        names: set[str] = set()
        for index, target in enumerate(targets if isinstance(targets, list) else ()):
            name = inside(target, "name")
            if not isinstance(name, str) or not name:
                continue
            if name in names:
                what = f"{shown(name)} is another target's name already"
                yield self._at(("notify", index, "name"), what, "each name once")
            names.add(name)

    def unsafe(self, settings: Settings) -> Iterator[Problem]:
        """Claims of safety that the numbers do not carry; the inequalities are in `safety`."""
        policy = settings.policy
        if policy.references_required > len(policy.references):
            what = f"{policy.references_required} of only {len(policy.references)} references"
            right = f"a whole number from 1 to {len(policy.references)}"
            yield self._at(("references_required",), what, right)
        if policy.guard and not policy.lease:
            yield from self._unsafe_guard(policy, policy.guard)
        if policy.lease:
            yield from self._unsafe_lease(policy.lease, policy.stop_limit_s)
        for index, name in enumerate(policy.services if policy.enforced else ()):
            if not name.endswith(".service"):
                what = f"{name} cannot be stopped in time: what it starts is not in its own cgroup"
                yield self._at(("services_to_manage", index), what, "the .service that it starts")
        if policy.fence:
            yield from self._unsafe_fence(policy.fence, guarded=policy.guard is not None)
        for index, check in enumerate(policy.service_checks):
            yield from self._unsafe_check(("service_checks", index), check, policy)

    def _unsafe_fence(self, fence: FencePolicy, *, guarded: bool) -> Iterator[Problem]:
        if fence.on_failure is FenceFailure.WAIT_FOR_GUARD and not guarded:
            right = '"hold", or a guard on the primary and its numbers in "guard"'
            yield self._at(("fence", "on_failure"), "there is no guard to wait for", right)
        if "/fence_" not in fence.command[0]:
            return
        if fence.options and len(fence.command) > 1:
            what = "fence-agents with arguments do not read their standard input"
            yield self._at(("fence", "options"), what, "arguments or options, not both")
        action = fence.options.get("action", "reboot")  # the agents' own default
        if action not in ("off", "reboot"):
            what = f"{shown(action)} is no fence"
            yield self._at(("fence", "options", "action"), what, '"off" or "reboot"')

    def unsafe_hooks(
        self, policy: Policy, distrust: Callable[[Sequence[str]], str]
    ) -> Iterator[Problem]:
        for name in HOOKS:
            hook = getattr(policy.hooks, name, None)
            if hook is None:
                continue
            if policy.role is Role.PRIMARY and name not in OF_BOTH:
                what = 'says nothing with "role": "primary"'
                yield self._at(("hooks", name), what, 'only on the standby, or "on_event"')
            if fault := distrust(hook.command):
                right = "files and directories that root owns and nobody else may write"
                yield self._at(("hooks", name, "command"), fault, right)

    def _unsafe_check(
        self, place: Location, check: ServiceCheck, policy: Policy
    ) -> Iterator[Problem]:
        if check.trigger and policy.lease:
            what = "never takes over: the primary's guard holds the lease for its host"
            yield self._at((*place, "trigger"), what, "false, or no lease")
        elif check.trigger and policy.guard:
            what = "the guard's gate opens while this host still waits for the service"
            yield self._at((*place, "trigger"), what, "false, or no guard")
        both = set(check.options.get("pass", ())) & set(check.options.get("fail", ()))
        if check.kind == "command" and both:
            what = f"exit code {min(both)} means both"
            yield self._at((*place, "fail"), what, "each code in one of pass and fail")

    def _unsafe_guard(self, policy: Policy, guard: GuardPolicy) -> Iterator[Problem]:
        standby = policy.role is Role.STANDBY
        least_s = takeover_delay_needed_s(policy.verdict_s, guard)
        if standby and not policy.fence_holds and policy.takeover_delay_s < least_s:
            what = (
                f"{policy.takeover_delay_s:g} s is too short: the primary's services may run for"
                f" {guard.deadline_s:g} s (deadline) and {guard.stop_limit_s:g} s (stop_limit) more"
            )
            yield self._at(("takeover_delay",), what, f"at least {least_s:g}, or leave it out")
        if standby and policy.recovery_threshold > 1:
            what = "the primary serves again before so many rounds are sure to have been answered"
            yield self._at(("recovery_threshold",), what, "1, or a lease")
        if standby and policy.failback is not Failback.AUTO:
            what = f'with "{policy.failback}" the primary serves again while this host still does'
            yield self._at(("failback",), what, '"auto", or a lease')
        interval_s, rounds = policy.serving_interval_s, policy.recovery_threshold
        if not standby:
            interval_s, rounds = safety.SERVING_INTERVAL_S, 1
        hold_s = boot_hold_needed_s(guard.stop_limit_s, interval_s, rounds)
        if guard.boot_hold_s < hold_s:
            what = f"{guard.boot_hold_s:g} s is too short for the standby to see it and to stop"
            yield self._at(("guard", "boot_hold"), what, f"at least {hold_s:g}, on both hosts")

    def _unsafe_lease(self, lease: LeasePolicy, limit_s: float) -> Iterator[Problem]:
        if lease_margin_s(lease.ttl_s, limit_s) < 2 * lease.ttl_s / RENEWALS:
            least_s = safety.ttl_needed_s(limit_s)
            what = f"{lease.ttl_s:g} s leaves no time to stop ({limit_s:g} s) after a lost renewal"
            right = f"at least {least_s:g}, or a shorter stop_limit"
            if least_s > TTL_LIMIT_S:
                right = "a shorter stop_limit in guard"
            yield self._at(("lease", "ttl"), what, right)
        if bool(lease.cert) is not bool(lease.key):
            yield self._at(("lease",), "cert and key belong together", "both or neither")

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
        """A location in words, as far as the file has it: key, key[0], key.inner, key[0].inner."""
        key, *steps = location
        name, value = str(key), self.known.get(str(key))
        for step in steps:
            if isinstance(value, list):
                name += f"[{step}]"
            elif isinstance(value, dict):
                name += f".{_shown_key(str(step))}"
            value = inside(value, step)
        return name

    def _at(self, location: Location, what: str, right: str) -> Problem:
        offset = self.document.member(location).value_at
        return _problem(self.text, offset, self._name(location), what, right)


def inside(value: object, step: str | int) -> object:
    """One step into an object or a list; None where there is nothing."""
    if isinstance(value, dict):
        return value.get(step)
    return value[step] if isinstance(value, list) and isinstance(step, int) else None


def keys_at(location: Location) -> tuple[type[Keys], FieldInfo | None]:
    """The class that a location of pydantic's lies in, and its field."""
    keys: type[Keys] = Settings
    first, *rest = location
    if first == "service_checks" and len(rest) > 1:
        keys, rest = CHECKS[str(rest[1])], rest[2:]
    elif first == "hooks" and len(rest) > 1:
        keys, rest = HOOKS[str(rest[0])], rest[1:]
    elif first in NESTED and rest:
        keys = NESTED[str(first)]
    elif first == "notify" and len(rest) > 1:
        keys, rest = NotifyKeys, rest[1:]
    else:
        rest = [first]
    fields = {field.alias or name: field for name, field in keys.model_fields.items()}
    return keys, fields.get(str(rest[0])) if rest else None


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
        problem = _problem(veiled(good), len(good), "", what, "a file in UTF-8")
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
    shown = one_line(problem.source[begin : begin + SOURCE_LIMIT])
    before = shown[: problem.column - 1 - begin]
    width = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in before)
    return (
        f"{path}:{problem.line}:{problem.column}:{says}\n    {shown.rstrip()}\n    {' ' * width}^"
    )


def _meant(key: str, keys: type[Keys]) -> str:
    """What would be right instead of a key that there is not."""
    names = tuple(field.alias or name for name, field in keys.model_fields.items())
    close = difflib.get_close_matches(key.lower().replace("-", "_"), names, 1)
    return f"did you mean {close[0]}?" if close else f"one of {', '.join(names)}"


def _shown_key(key: str) -> str:
    return key if key.isidentifier() and len(key) <= VALUE_LIMIT else shown(key)
