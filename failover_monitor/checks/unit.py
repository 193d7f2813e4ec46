"""Does systemd on the primary say that the unit runs?

The system's own ssh asks `systemctl show` there.  PASS: the unit is active or reloading.  FAIL:
systemd has the unit, and it is inactive or failed.  UNKNOWN: everything else, above all that
ssh(1) did not get through; also a unit that is just being started or stopped, and one that does
not exist or is masked there (`systemctl is-active` would call it inactive).

The key, the known host key and nothing else let us in: no password is asked for, no agent and no
configuration file of ssh is read.  Options become arguments only if they look like what they are,
so that none is taken for an option of ssh, nor for more than one word by the shell over there.

Options: `host`, `unit`, `identity` and `known_hosts` (files), `user` ("root"), `port` (22).
"""

import re
import shlex
from collections.abc import Mapping
from ipaddress import ip_address
from math import ceil
from typing import Any

from failover_monitor.commands import run_command
from failover_monitor.model import Outcome, ServiceCheck
from failover_monitor.units import RESTS, RUNS

SSH_FAILED = 255  # ssh(1): an error occurred

NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
SHAPES = {
    "user": re.compile(r"[a-z_][a-z0-9_.-]{0,31}"),
    "unit": re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,250}\.[a-z]{4,9}"),
    "identity": re.compile(r"/[A-Za-z0-9_./@+-]{1,1000}"),
    "known_hosts": re.compile(r"/[A-Za-z0-9_./@+-]{1,1000}"),
}


def refusal(options: Mapping[str, Any]) -> str:
    """Why these options are not safe to become arguments; "" = they are."""
    host = options.get("host", "")
    if not isinstance(host, str) or not (NAME.fullmatch(host) or _is_address(host)):
        return f"host {host!r} is neither an address nor a name"
    for name, shape in SHAPES.items():
        value = options.get(name, "root" if name == "user" else "")
        if not isinstance(value, str) or not shape.fullmatch(value):
            return f"{name} {value!r} has characters that are not allowed there"
    port = options.get("port", 22)
    if not isinstance(port, int) or not 1 <= port <= 65535:
        return f"port {port!r} is not a port"
    return ""


def arguments(options: Mapping[str, Any], timeout_s: float) -> list[str]:
    """The words of the command, for options that `refusal` has nothing against."""
    settings = (
        "BatchMode=yes",
        f"ConnectTimeout={max(1, ceil(timeout_s))}",
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={options['known_hosts']}",
        "UpdateHostKeys=no",
        "IdentitiesOnly=yes",
        "LogLevel=ERROR",
    )
    words = ["ssh", "-F", "none", "-T"]
    for setting in settings:
        words += ["-o", setting]
    words += ["-i", options["identity"], "-p", str(options.get("port", 22))]
    words += ["-l", options.get("user", "root"), "--", options["host"]]
    remote = ("systemctl", "show", "--property=LoadState,ActiveState", "--", options["unit"])
    return [*words, shlex.join(remote)]


class UnitAsker:
    """Runs ssh once for each question."""

    silence = Outcome.UNKNOWN

    def __init__(self, check: ServiceCheck) -> None:
        self._refusal = refusal(check.options)
        self._words = [] if self._refusal else arguments(check.options, check.timeout_s)
        self._timeout_s = check.timeout_s

    async def ask(self) -> tuple[Outcome, str]:
        if self._refusal:
            return Outcome.UNKNOWN, f"cannot ask: {self._refusal}"
        ended = await run_command(self._words, timeout_s=self._timeout_s)
        if ended.status == SSH_FAILED:
            return Outcome.UNKNOWN, f"ssh: {ended.last_line or 'it failed without a word'}"
        if ended.status != 0:
            return Outcome.UNKNOWN, f"ssh: {ended.complaint}"
        return judged(ended.output)


def judged(output: str) -> tuple[Outcome, str]:
    """What `systemctl show` says, among whatever else the login may have printed."""
    told = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    load, active = told.get("LoadState", ""), told.get("ActiveState", "")
    if active in RUNS:
        return Outcome.PASS, f"it is {active}"
    if load != "loaded":
        return Outcome.UNKNOWN, f"the primary says: {load or 'nothing of this unit'}"
    if active in RESTS:
        return Outcome.FAIL, f"it is {active}"
    return Outcome.UNKNOWN, f"it is {active}"


def _is_address(text: str) -> bool:
    address, _, scope = text.partition("%")
    try:
        ip_address(address)
    except ValueError:
        return False
    return address == text or bool(NAME.fullmatch(scope))
