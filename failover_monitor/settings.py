"""The keys of config.json: their types, ranges, defaults, and what they become.

Rule: one key at a time.  What two keys together make impossible, and where in the file anything
stands, is `config`'s.  Only these two modules import pydantic.
"""

import difflib
import json
import logging
import re
import socket
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from failover_monitor.model import (
    Evidence,
    Failback,
    FenceFailure,
    FencePolicy,
    Foreign,
    GuardPolicy,
    HookPolicy,
    HooksPolicy,
    LeasePolicy,
    Policy,
    Role,
    ServiceCheck,
)
from failover_monitor.safety import boot_hold_needed_s, takeover_delay_needed_s

ADDRESS_LIMIT = 16  # of the primary, and of the witnesses
TARGET_LIMIT = 16  # of notifications
SERVICE_LIMIT = 100
CHECK_LIMIT = 16
WORD_LIMIT = 100  # of a command
TTL_LIMIT_S = 600
NAME_LIMIT = 255  # systemd's UNIT_NAME_MAX, without the closing NUL
VALUE_LIMIT = 60  # characters of a wrong value shown in a problem

EXAMPLE_NET = IPv4Network("192.0.2.0/24")  # RFC 5737 TEST-NET-1: what the shipped file uses
RESERVED_NET = IPv4Network("240.0.0.0/4")  # RFC 1112 §4, with the broadcast address
THIS_NET = IPv4Network("0.0.0.0/8")  # RFC 1122 §3.2.1.3

KINDS = ("service", "socket", "timer", "path", "mount", "target")
OTHER_KINDS = frozenset({"device", "automount", "swap", "slice", "scope", "snapshot"})
UNIT_NAME = re.compile(r"[A-Za-z0-9:_\\][A-Za-z0-9:_.\\@-]*")  # unit-name.c, without "-x" and ".x"
SCOPE = re.compile(r"[A-Za-z0-9_.:-]{1,15}")  # an interface: IFNAMSIZ, without the closing NUL
APPRISE_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/].*")
LEASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,99}")
USER_NAME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?")
MISTYPED_IPV4 = re.compile(r"[0-9.]+")
USER_INFO = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:%-]*")  # RFC 3986 §3.2.1
OPTION_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
SSH_PATH = re.compile(r"/[A-Za-z0-9_./@+-]{1,1000}")  # no word of ssh's own: %, ~, $, spaces


def shown(value: object) -> str:
    """A value as JSON writes it, short and safe to print."""
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        text = json.dumps(value)
    return text if len(text) <= VALUE_LIMIT else f"{text[: VALUE_LIMIT - 3]}..."


# Single values.


def _wrong(what: str, right: str) -> PydanticCustomError:
    return PydanticCustomError("wrong", "{what}; right: {right}", {"what": what, "right": right})


def address(text: str) -> str:
    """The canonical form of one host's address."""
    try:
        found = ip_address(text)
    except ValueError:
        raise _wrong(
            f"{shown(text)} is not an address",
            "an IPv4 or IPv6 address, not a name: DNS may be down exactly when it matters",
        ) from None
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        raise _wrong(f"{shown(text)} is an IPv4 address in disguise", str(found.ipv4_mapped))
    if isinstance(found, IPv4Address) and found in EXAMPLE_NET:
        raise _wrong(f"{text} is still the example", "the address of a host of yours")
    if what := _no_host(found):
        raise _wrong(f"{shown(text)} is {what}", "the address of one host")
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
            f"{shown(text)} names an interface",
            "an interface (%eth0) with link-local addresses only",
        )
    if not SCOPE.fullmatch(found.scope_id):
        raise _wrong(f"{shown(text)} does not name an interface", "for instance fe80::2%eth0")


def unit(text: str) -> str:
    """The full name of a unit that can be managed; a bare name means a service."""
    kind = text.rpartition(".")[2] if "." in text else ""
    kinds = ", ".join(KINDS)
    if kind in OTHER_KINDS:
        raise _wrong(f"{shown(text)}: a {kind} cannot be managed", f"a unit of type {kinds}")
    name = text if kind in KINDS else f"{text}.service"
    stem = name.rpartition(".")[0]
    if name != "-.mount" and not (UNIT_NAME.fullmatch(stem) and len(name) <= NAME_LIMIT):
        what = "a unit name is empty" if not text else f"{shown(text)} is not a unit name"
        raise _wrong(what, "a name as in `systemctl list-units`: letters, digits and :-_.\\@")
    if kind not in KINDS and (close := difflib.get_close_matches(kind.lower(), KINDS, 1, 0.8)):
        raise _wrong(f"{shown(text)} has no known type", f"did you mean .{close[0]}?")
    if stem.endswith("@") and stem.count("@") == 1:
        raise _wrong(f"{name} is a template", f"an instance of it: {stem}NAME.{kind or 'service'}")
    return name


def _listed(value: object) -> object:
    """One address is a list of one."""
    return [value] if isinstance(value, str) else value


# The keys.

Address = Annotated[str, AfterValidator(address)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(_listed)]
Unit = Annotated[str, AfterValidator(unit)]


def _count(default: int) -> Any:
    return Field(default, ge=1, le=100, description="a whole number from 1 to 100")


def _seconds(default: float, least: float, most: float) -> Any:
    words = f"a number from {least:g} to {most:g}"
    return Field(default, ge=least, le=most, description=words)


def _list(words: str, *, least: int = 1, most: int = ADDRESS_LIMIT, default: Any = ...) -> Any:
    return Field(default, strict=False, min_length=least, max_length=most, description=words)


class Keys(BaseModel):
    """What the objects below have in common; a description says what would be right."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


# Service checks: one class for each kind, with the options that the kind needs.


def host_name(text: str) -> str:
    """An address, or a name: a name that cannot be resolved is no evidence."""
    try:
        found = ip_address(text)
    except ValueError:
        if not HOST_NAME.fullmatch(text) or MISTYPED_IPV4.fullmatch(text):
            raise _wrong(f"{shown(text)} is no host", "an address or a host name") from None
        return text
    if not found.is_loopback and (what := _no_host(found)):
        raise _wrong(f"{shown(text)} is {what}", "the address of one host")
    if isinstance(found, IPv6Address):
        _fit_scope(found, text)
        if found.scope_id and not HOST_NAME.fullmatch(found.scope_id):
            raise _wrong(f"{shown(text)} is no host", "for instance fe80::2%eth0")
    return str(found)


def url(text: str) -> str:
    """A URL whose host is one: what this lets through no library stumbles over."""
    try:
        parts = urlsplit(text)
        who = USER_INFO.fullmatch(parts.netloc.rpartition("@")[0])
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and who
    except ValueError:
        good = False
    if not good or not text.isprintable() or " " in text:
        raise _wrong("it is no URL", "http://HOST[:PORT]/PATH or https://...")
    host_name(str(parts.hostname))
    return text


def endpoint(text: str) -> str:
    """A URL of a host and a port alone."""
    parts = urlsplit(url(text))
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise _wrong("it is more than a host and a port", "http(s)://HOST:PORT")
    return text


def absolute(text: str) -> str:
    if not text.startswith("/") or not text.isprintable():
        raise _wrong(f"{shown(text)} is no absolute path", "a path that begins with /")
    return text


def ssh_path(text: str) -> str:
    if not SSH_PATH.fullmatch(text):
        raise _wrong(f"{shown(text)} is no path for ssh", "/ and letters, digits and ._/@+-")
    return text


def remote_unit(text: str) -> str:
    name = unit(text)
    if name.startswith("-"):
        raise _wrong(f"{shown(text)} cannot be asked for", "a service, such as app.service")
    return name


def word(text: str) -> str:
    """What can be an argument, or be looked for in a page."""
    if "\0" in text:
        raise _wrong(f"{shown(text)} holds a NUL", "a text without it")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _wrong(f"{shown(text)} holds half a character", "a text without it")
    return text


def line(text: str) -> str:
    if not text.isprintable():
        raise _wrong("it is more than a line", "printable text on one line")
    return text


def option_name(text: str) -> str:
    """What stands before the = on the command's standard input."""
    if not OPTION_NAME.fullmatch(text):
        raise _wrong(f"{shown(text)} is no name of an option", "letters, digits and ._-")
    return text


def user_name(text: str) -> str:
    if not USER_NAME.fullmatch(text):
        raise _wrong(f"{shown(text)} is no user", "a user name, such as monitor")
    return text


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if value:
        absolute(value[0])
    return value


Host = Annotated[str, AfterValidator(host_name)]
File = Annotated[str, AfterValidator(absolute)]
SshFile = Annotated[str, AfterValidator(ssh_path)]
RemoteUnit = Annotated[str, AfterValidator(remote_unit)]
Url = Annotated[str, AfterValidator(url)]
Endpoint = Annotated[str, AfterValidator(endpoint)]
Word = Annotated[str, AfterValidator(word)]
Line = Annotated[str, AfterValidator(line)]
OptionName = Annotated[str, AfterValidator(option_name)]
COMMAND = f"a list of 1 to {WORD_LIMIT} words: an absolute path and its arguments, no shell"
Command = Annotated[tuple[Word, ...], AfterValidator(_command)]
STATUSES = "a list of exit codes from 0 to 255"
Status = Annotated[int, Field(ge=0, le=255)]
HttpStatus = Annotated[int, Field(ge=100, le=599)]
PORT = "a whole number from 1 to 65535"


class CheckKeys(Keys):
    """What every service check has."""

    name: Line = Field("", max_length=60, description="a short text for people")
    interval: float = _seconds(5.0, 0.1, 3600)
    timeout: float = _seconds(2.0, 0.05, 60)
    trigger: bool = Field(False, description="true or false")
    threshold: int = _count(3)
    gates_failback: bool = Field(True, description="true or false")

    @property
    def target(self) -> str:
        """What it asks, in a few words."""
        return ""

    def check(self, name: str) -> ServiceCheck:
        """The check as the core knows it; what only its kind understands are its options."""
        kind = str(self.type)  # type: ignore[attr-defined]
        options = self.model_dump(
            mode="json", by_alias=True, exclude={"type", *CheckKeys.model_fields}
        )
        return ServiceCheck(
            kind=kind,
            name=name,
            options=options,
            interval_s=self.interval,
            timeout_s=self.timeout,
            trigger=self.trigger,
            threshold=self.threshold,
            gates_failback=self.gates_failback,
        )


class TcpCheck(CheckKeys):
    """A connection to a port."""

    type: Literal["tcp"]
    host: Host = Field(description="an address or a host name")
    port: int = Field(ge=1, le=65535, description=PORT)

    @property
    def target(self) -> str:
        return f"{self.host}:{self.port}"


class HttpCheck(CheckKeys):
    """A page: its status, and a text in it."""

    type: Literal["http"]
    url: Url = Field(description="http://... or https://...")
    status: tuple[HttpStatus, ...] = _list("a list of status codes", default=(200,))
    body: Word = Field("", max_length=1000, description="a text that the page must hold")
    verify: bool = Field(True, description="true or false")
    ca: File = Field("", description="the absolute path of a file")

    @property
    def target(self) -> str:
        return re.sub("//[^/?#]*@", "//", self.url)  # a password is nobody's business


class CommandCheck(CheckKeys):
    """A command of the operator's own, such as a Nagios plugin."""

    type: Literal["command"]
    command: Command = _list(COMMAND, most=WORD_LIMIT)
    # `pass` is a word of Python's.
    passes: tuple[Status, ...] = Field(
        (0,), alias="pass", strict=False, min_length=1, max_length=256, description=STATUSES
    )
    fail: tuple[Status, ...] = _list(STATUSES, least=0, most=256, default=(2,))

    @property
    def target(self) -> str:
        return self.command[0].rpartition("/")[2]


class UnitCheck(CheckKeys):
    """A unit on the primary, asked over ssh."""

    type: Literal["unit"]
    host: Host = Field(description="an address or a host name")
    unit: RemoteUnit = Field(description="the name of a unit on the primary")
    user: Annotated[str, AfterValidator(user_name)] = Field("root", description="a user name")
    port: int = Field(22, ge=1, le=65535, description=PORT)
    identity: SshFile = Field(description="the absolute path of a private key without passphrase")
    known_hosts: SshFile = Field(
        "/etc/failover-monitor/known_hosts", description="the absolute path of a known_hosts file"
    )

    @property
    def target(self) -> str:
        return f"{self.unit} on {self.host}"


CHECKS: dict[str, type[CheckKeys]] = {
    "tcp": TcpCheck,
    "http": HttpCheck,
    "command": CommandCheck,
    "unit": UnitCheck,
}
Check = Annotated[TcpCheck | HttpCheck | CommandCheck | UnitCheck, Field(discriminator="type")]


# Guard, fence, lease.


class GuardKeys(Keys):
    """The guard on the primary; the same numbers on both hosts."""

    deadline: float = _seconds(5.0, 1, 600)
    stop_limit: float = _seconds(5.0, 3, 600)
    boot_hold: float = Field(0.0, ge=0.1, le=3600, description="a number from 0.1 to 3600")

    @property
    def policy(self) -> GuardPolicy:
        hold_s = self.boot_hold or boot_hold_needed_s(self.stop_limit)
        return GuardPolicy(
            deadline_s=self.deadline, stop_limit_s=self.stop_limit, boot_hold_s=hold_s
        )


class FenceKeys(Keys):
    """A command that must succeed before a takeover."""

    command: Command = _list(COMMAND, most=WORD_LIMIT)
    options: dict[OptionName, Line] = Field({}, description='an object of texts: {"ip": "..."}')
    timeout: float = _seconds(60.0, 0.1, 600)
    retries: int = Field(2, ge=0, le=100, description="a whole number from 0 to 100")
    on_failure: FenceFailure = Field(
        FenceFailure.HOLD, strict=False, description='"hold" or "wait_for_guard"'
    )

    @property
    def policy(self) -> FencePolicy:
        return FencePolicy(
            command=self.command,
            options=dict(self.options),
            timeout_s=self.timeout,
            retries=self.retries,
            on_failure=self.on_failure,
        )


def _lease_name(text: str) -> str:
    if not LEASE_NAME.fullmatch(text):
        raise _wrong(f"{shown(text)} is no name", "letters, digits and ._/-")
    return text


LeaseName = Annotated[str, AfterValidator(_lease_name)]


class LeaseKeys(Keys):
    """A lease in a store that both hosts reach."""

    engine: Literal["etcd"] = Field("etcd", description='"etcd"')
    endpoints: tuple[Endpoint, ...] = _list("a list of URLs, such as http://198.51.100.11:2379")
    name: LeaseName = Field("failover-monitor", description="letters, digits and ._/-")
    holder: LeaseName = Field("", description="this host's name in the store, unlike the other's")
    ttl: float = _seconds(15.0, 5, TTL_LIMIT_S)
    ca: File = Field("", description="the absolute path of a file")
    cert: File = Field("", description="the absolute path of a file")
    key: File = Field("", description="the absolute path of a file")

    @property
    def policy(self) -> LeasePolicy:
        return LeasePolicy(
            engine=self.engine,
            endpoints=self.endpoints,
            name=self.name,
            holder=self.holder or socket.gethostname(),
            ttl_s=self.ttl,
            ca=self.ca,
            cert=self.cert,
            key=self.key,
        )


class HookKeys(Keys):
    """A command that is run at one moment."""

    command: Command = _list(COMMAND, most=WORD_LIMIT)
    timeout: float = _seconds(30.0, 0.1, 600)

    @property
    def policy(self) -> HookPolicy:
        return HookPolicy(command=self.command, timeout_s=self.timeout)


class TakeoverHookKeys(HookKeys):
    """The one that a takeover waits for."""

    veto: bool = Field(False, description="true or false")

    @property
    def policy(self) -> HookPolicy:
        return replace(super().policy, veto=self.veto)


class EventHookKeys(HookKeys):
    """The one that hears of events."""

    level: Literal["info", "warning", "error", "critical"] = Field(
        "warning", description='"info", "warning", "error" or "critical"'
    )

    @property
    def policy(self) -> HookPolicy:
        return replace(super().policy, level=logging.getLevelNamesMapping()[self.level.upper()])


HOOKS: dict[str, type[HookKeys]] = {
    "pre_takeover": TakeoverHookKeys,
    "post_takeover": HookKeys,
    "pre_failback": HookKeys,
    "post_failback": HookKeys,
    "on_event": EventHookKeys,
}


# What the agent reads; the monitor never does.


def _apprise_url(text: str) -> str:
    """What apprise knows as a target; whether it knows this scheme is seen when it is tried."""
    if not APPRISE_URL.fullmatch(text) or not text.isprintable():
        raise _wrong("it is no URL", NOTIFY_URL)
    return text


def _textfile(text: str) -> str:
    if not absolute(text).endswith(".prom"):
        raise _wrong(f"{shown(text)} is not read by node_exporter", "a path that ends in .prom")
    return text


NOTIFY_URL = "an apprise URL, such as mailtos://USER:PASSWORD@HOST or json://HOST/PATH"


class NotifyKeys(Keys):
    """Somebody who is told: mail, chat, webhook."""

    url: Annotated[str, AfterValidator(_apprise_url)] = Field(
        max_length=2000, description=NOTIFY_URL, repr=False
    )
    level: Literal["info", "warning", "error", "critical"] = Field(
        "warning", description='"info", "warning", "error" or "critical"'
    )
    name: Line = Field("", max_length=60, description="a short text for people; unique")

    @property
    def scheme(self) -> str:
        """All of the URL that anybody may see."""
        return self.url.partition("://")[0].lower()


class MetricsKeys(Keys):
    """Where Prometheus' node_exporter finds our figures."""

    textfile: Annotated[str, AfterValidator(_textfile)] = Field(
        description="the absolute path of a .prom file in node_exporter's textfile directory"
    )


def _given(value: object) -> object:
    """An object that is there: nobody should think that null switches something on."""
    if value is None:
        raise PydanticCustomError("model_type", "null is not an object")
    return value


GIVEN = BeforeValidator(_given)


HOOK = "an object: command, timeout"


class HooksKeys(Keys):
    """Commands around a takeover and a failback, and for events."""

    pre_takeover: Annotated[TakeoverHookKeys | None, GIVEN] = Field(
        None, description=f"{HOOK}, veto"
    )
    post_takeover: Annotated[HookKeys | None, GIVEN] = Field(None, description=HOOK)
    pre_failback: Annotated[HookKeys | None, GIVEN] = Field(None, description=HOOK)
    post_failback: Annotated[HookKeys | None, GIVEN] = Field(None, description=HOOK)
    on_event: Annotated[EventHookKeys | None, GIVEN] = Field(None, description=f"{HOOK}, level")

    @property
    def policy(self) -> HooksPolicy | None:
        given = {name: keys.policy for name in HOOKS if (keys := getattr(self, name))}
        return HooksPolicy(**given) if given else None


PROTECTIONS: tuple[type[Keys], ...] = (
    *(GuardKeys, FenceKeys, LeaseKeys, HooksKeys),
    *(*CHECKS.values(), *HOOKS.values()),
)


class Settings(Keys):
    """The keys of config.json."""

    role: Role = Field(Role.STANDBY, strict=False, description='"standby" or "primary"')
    gateway_ip: Address = Field(description="the address of the gateway")
    active_ip: Addresses = _list(
        f"the primary's address, or a list of 1 to {ADDRESS_LIMIT} of its addresses", default=()
    )
    standby_ip: Addresses = _list(
        f"the standby's address, or a list of 1 to {ADDRESS_LIMIT} of its addresses", default=()
    )
    services_to_manage: tuple[Unit, ...] = _list(
        f"a list of 1 to {SERVICE_LIMIT} unit names", most=SERVICE_LIMIT
    )
    ping_interval: float = _seconds(3.0, 0.1, 3600)
    ping_fail_threshold: int = _count(3)
    ping_timeout: float = _seconds(1.0, 0.05, 60)
    retry_interval: float = Field(
        0.0,  # absent
        ge=0.05,
        description="a number from 0.05 to ping_interval",
    )
    witness_ips: tuple[Address, ...] = _list(
        f"a list of up to {ADDRESS_LIMIT} addresses", least=0, default=()
    )
    references_required: int = _count(1)
    neighbour_evidence: Evidence = Field(
        Evidence.NONE, strict=False, description='"none", "references" or "all"'
    )
    recovery_threshold: int = _count(1)
    failback: Failback = Field(
        Failback.AUTO, strict=False, description='"auto", "delayed" or "manual"'
    )
    recovery_delay: float = _seconds(60.0, 0, 86_400)
    takeover_delay: float = _seconds(0.0, 0, 3600)  # absent: what the guard needs
    startup_grace: float = _seconds(120.0, 0, 3600)
    foreign_start: Foreign = Field(Foreign.REPORT, strict=False, description='"report" or "stop"')

    service_checks: tuple[Check, ...] = _list(
        f"a list of up to {CHECK_LIMIT} objects", least=0, most=CHECK_LIMIT, default=()
    )
    guard: Annotated[GuardKeys | None, GIVEN] = Field(
        None, description="an object: deadline, stop_limit, boot_hold"
    )
    fence: Annotated[FenceKeys | None, GIVEN] = Field(
        None, description="an object: command, options, timeout, ..."
    )
    lease: Annotated[LeaseKeys | None, GIVEN] = Field(
        None, description="an object: endpoints, name, ttl, ..."
    )
    flap_window: float = _seconds(0.0, 0, 86_400)
    max_takeovers: int = _count(3)
    hooks: Annotated[HooksKeys | None, GIVEN] = Field(
        None, description=f"an object: {', '.join(HOOKS)}"
    )
    notify: tuple[NotifyKeys, ...] = _list(
        f"a list of up to {TARGET_LIMIT} objects", least=0, most=TARGET_LIMIT, default=()
    )
    metrics: Annotated[MetricsKeys | None, GIVEN] = Field(
        None, description='an object: {"textfile": "/.../failover_monitor.prom"}'
    )

    @property
    def policy(self) -> Policy:
        policy = self._policy
        waits = policy.guard and not policy.lease and not policy.fence_holds
        chosen = policy.role is Role.PRIMARY or "takeover_delay" in self.model_fields_set
        if waits and not chosen:
            delay_s = takeover_delay_needed_s(policy.verdict_s, policy.limits)
            policy = replace(policy, takeover_delay_s=delay_s)
        return policy

    @property
    def _guard(self) -> GuardPolicy | None:
        if self.guard:
            return self.guard.policy
        return GuardKeys().policy if self.role is Role.PRIMARY else None

    @property
    def _policy(self) -> Policy:
        return Policy(
            primary=self.active_ip,
            references=(self.gateway_ip, *self.witness_ips),
            services=self.services_to_manage,
            role=self.role,
            standby=self.standby_ip,
            references_required=self.references_required,
            neighbour_evidence=self.neighbour_evidence,
            service_checks=named(self.service_checks),
            guard=self._guard,
            fence=self.fence.policy if self.fence else None,
            lease=self.lease.policy if self.lease else None,
            flap_window_s=self.flap_window,
            max_takeovers=self.max_takeovers,
            hooks=self.hooks.policy if self.hooks else None,
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


def named(checks: tuple[CheckKeys, ...]) -> tuple[ServiceCheck, ...]:
    """Every check by a name of its own."""
    found: list[ServiceCheck] = []
    for keys in checks:
        name = wanted = keys.name or f"{keys.type} {keys.target}"  # type: ignore[attr-defined]
        number = 1
        while name in {check.name for check in found}:
            number += 1
            name = f"{wanted} ({number})"
        found.append(keys.check(name))
    return tuple(found)
