"""What `doctor` asks of others: systemd, D-Bus, the network, the primary's service, the lease.

Rule: it changes nothing, and whatever does not answer costs a few seconds and no more.  Programs go
through `run_command`, which ends them in time whatever they do.
"""

import asyncio
import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from failover_monitor.bus import Bus, SystemdError
from failover_monitor.checks.runner import Runner
from failover_monitor.commands import Ended, run_command
from failover_monitor.console.doctor_checks import starters_of
from failover_monitor.console.doctor_facts import (
    EchoesSeen,
    LeaseSeen,
    PathSeen,
    SystemdSeen,
    UnitTried,
)
from failover_monitor.model import CheckSeen, Policy, Round
from failover_monitor.probes import KINDS, Probe, ProbeError
from failover_monitor.timing import slowest_reference_s

MONITOR = "failover-monitor.service"
ASK_S = 3.0  # limit of one program
QUESTION_S = 5.0  # of a service check, where its own is longer; of the lease's members
AT_ONCE = 8  # programs
ECHOES, SPACING_S = 5, 0.2
CALM_S = 0.3  # until what begins beside the echoes has begun: it would count as round-trip time
LATEST_S = 3.0  # no answer is waited for any longer
PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "UnitFileState", "Result", "NeedDaemonReload"),
    *("TriggeredBy", "WantedBy", "RequiredBy", "UpheldBy", "BoundBy", "TimeoutStopUSec"),
)


class UnansweredError(Exception):
    """Nobody answered, or with something else."""


# systemd.


async def ask_systemd(policy: Policy) -> SystemdSeen:
    """As root this needs no D-Bus.  Raises UnansweredError."""
    state, failed, watchdog, units = await asyncio.gather(
        said("systemctl", "is-system-running", fine=range(1, 16)),
        said("systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"),
        said("systemctl", "show", "--value", "--property=RuntimeWatchdogUSec"),
        shown((MONITOR, *policy.services)),
    )
    monitor = units.pop(MONITOR)
    others = {name for unit in units.values() for name in starters_of(unit)} - units.keys()
    return SystemdSeen(
        state=state.strip(),
        failed=tuple(line.split()[0] for line in failed.splitlines() if line.strip()),
        monitor=monitor,
        units=units,
        starters=await shown(sorted(others)) if others else {},
        watchdog=watchdog.strip(),
    )


async def shown(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Properties of units, by the name that was asked for."""
    wanted = list(names)
    words = ("systemctl", "show", "--no-pager", f"--property={','.join(PROPERTIES)}", "--")
    blocks = (await said(*words, *wanted)).strip().split("\n\n")
    if len(blocks) != len(wanted):
        raise UnansweredError("systemctl show left some units out")
    told = [dict(line.split("=", 1) for line in b.splitlines() if "=" in line) for b in blocks]
    return dict(zip(wanted, told, strict=True))


async def try_units(policy: Policy) -> dict[str, UnitTried]:
    """What systemd-analyze, which starts nothing, makes of each managed unit."""
    few = asyncio.Semaphore(AT_ONCE)

    async def attempt(name: str) -> UnitTried:
        async with few:
            words = ("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", "--", name)
            verified = await run_command(words, timeout_s=ASK_S)
            tested = await run_command(
                ("systemd-analyze", "condition", f"--unit={name}"), timeout_s=ASK_S
            )
        return UnitTried(errors=errors_in(verified), unmet=unmet_in(tested, name))

    tried = await asyncio.gather(*(attempt(name) for name in policy.services))
    return dict(zip(policy.services, tried, strict=True))


def errors_in(ended: Ended) -> tuple[str, ...] | None:
    """What `systemd-analyze verify` counts as an error; what it only ignores comes last."""
    if ended.status == 0:
        return ()
    lines = ended.output.strip().splitlines()
    if ended.status is None or not lines or "unrecognized option" in ended.output:
        return None  # older than 250, or not installed
    return tuple(sorted(lines, key=lambda line: line.endswith("ignoring.")))


def unmet_in(ended: Ended, name: str) -> tuple[str, ...] | None:
    if ended.status == 0:
        return ()
    lines = [line.removeprefix(f"{name}: ") for line in ended.output.splitlines()]
    unmet = tuple(
        line.removesuffix(" failed.")
        for line in lines
        if line.endswith(" failed.") and line not in ("Conditions failed.", "Asserts failed.")
    )
    return unmet or None


async def ask_bus(policy: Policy) -> str:
    """Why systemd is not to be reached over D-Bus, which is how the monitor asks; "" = it is."""
    try:
        bus = await Bus.connect()
    except SystemdError as error:
        return str(error)
    bus.close()
    return ""


async def said(*words: str, fine: Iterable[int] = ()) -> str:
    """What a program printed.  Raises UnansweredError."""
    ended = await run_command(words, timeout_s=ASK_S)
    if ended.status is None or (ended.status and ended.status not in fine):
        why = f"{' '.join(words[:2])}: {ended.why}: {ended.last_line}"
        raise UnansweredError(why.removesuffix(": "))
    return ended.output


# The network.


async def ask_paths(policy: Policy) -> EchoesSeen:
    """A few echoes to every address, and what the kernel then knows of the way there."""
    try:
        probe = KINDS["icmp"](policy.watched, clock=now_s)
    except ProbeError as error:
        return EchoesSeen(impossible=str(error), paths={})
    try:
        await asyncio.sleep(CALM_S)
        refused, rtts_s = await echo(probe, policy)
    finally:
        probe.close()
    ways = dict(zip(policy.watched, await routes(policy.watched), strict=True))
    macs = await neighbours()
    paths = {}
    for address, way in ways.items():
        link, router = str(way.get("dev", "")), str(way.get("gateway", ""))
        paths[address] = PathSeen(
            sent=ECHOES,
            rtts_s=tuple(rtts_s[address]),
            refused=refused[address],
            link=link,
            router=router,
            mac=macs.get((link, router or bare(address)), ""),
            ours=way.get("type") == "local",
        )
    return EchoesSeen(impossible="", paths=paths)


async def echo(probe: Probe, policy: Policy) -> tuple[dict[str, str], dict[str, list[float]]]:
    """By address: why the last echo could not be sent, and the round-trip times of the others."""
    refused = dict.fromkeys(policy.watched, "")
    rtts_s: dict[str, list[float]] = {address: [] for address in policy.watched}
    complete = asyncio.Event()

    def arrived() -> None:
        for answer in probe.receive():
            if not answer.error:
                rtts_s[answer.address].append(now_s() - answer.sent_s)
        if all(refused[a] or len(rtts_s[a]) == ECHOES for a in policy.watched):
            complete.set()

    loop = asyncio.get_running_loop()
    for number in probe.filenos():
        loop.add_reader(number, arrived)
    try:
        for number in range(ECHOES):
            round_ = Round(number, now_s(), repair=False)
            refused = {address: probe.send(address, round_) for address in policy.watched}
            await asyncio.sleep(SPACING_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(min(LATEST_S, max(1.0, slowest_reference_s(policy)))):
                await complete.wait()
    finally:
        for number in probe.filenos():
            loop.remove_reader(number)
    return refused, rtts_s


async def routes(addresses: Iterable[str]) -> list[dict[str, Any]]:
    few = asyncio.Semaphore(AT_ONCE)

    async def way(address: str) -> dict[str, Any]:
        _, _, scope = address.partition("%")
        async with few:
            words = ["ip", "-j", "route", "get", bare(address), *(["oif", scope] if scope else [])]
            return next(iter(await listed(*words)), {})

    return await asyncio.gather(*(way(address) for address in addresses))


async def neighbours() -> dict[tuple[str, str], str]:
    """Hardware addresses by interface and address."""
    entries = await listed("ip", "-j", "neigh", "show")
    return {
        (str(entry.get("dev")), str(entry.get("dst"))): str(entry["lladdr"])
        for entry in entries
        if "lladdr" in entry
    }


async def listed(*words: str) -> list[dict[str, Any]]:
    """What `ip -j` printed; nothing where it cannot tell."""
    ended = await run_command(words, timeout_s=ASK_S)
    with suppress(ValueError):
        found = json.loads(ended.output or "[]")
        if isinstance(found, list):
            return [entry for entry in found if isinstance(entry, dict)]
    return []


def bare(address: str) -> str:
    return address.partition("%")[0]


def now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# Protections.


async def ask_services(policy: Policy) -> tuple[CheckSeen, ...]:
    """Every service check, once."""
    once = [
        replace(check, interval_s=3600.0, timeout_s=min(check.timeout_s, QUESTION_S))
        for check in policy.service_checks
    ]
    heard = asyncio.Event()
    runner = Runner(once, now_s, heard.set)
    running = asyncio.create_task(runner.run())
    found: dict[str, CheckSeen] = {}
    try:
        while len(found) < len(once):
            await heard.wait()
            heard.clear()
            found |= {seen.name: seen for seen in runner.receive()}
    finally:
        running.cancel()
        await asyncio.wait({running})
    return tuple(found[check.name] for check in once)


async def ask_lease(policy: Policy) -> LeaseSeen | None:
    """Reads only.  Raises OSError where a file for TLS is no use."""
    if policy.lease is None:
        return None
    from failover_monitor.leases.etcd import look_around

    endpoints, holder = await look_around(policy.lease, QUESTION_S)
    return LeaseSeen(endpoints=endpoints, holder=holder)
