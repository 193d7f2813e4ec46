"""Would a failover work right now?  `failover-monitor doctor` looks at everything it rests on.

Rule: safe at any time beside a running monitor.  It changes nothing, sends nothing but echoes, the
configured service checks and reads of the lease, and ends in time whatever hangs.
"""

import argparse
import asyncio
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from failover_monitor.config import Config, ConfigError, load
from failover_monitor.console import doctor_ask, doctor_checks, doctor_files, doctor_paths
from failover_monitor.console.doctor_ask import UnansweredError
from failover_monitor.console.doctor_facts import Facts, Finding, Level, failure, ok
from failover_monitor.files import Paths
from failover_monitor.model import Policy

READ_S = 2.5  # limit of reading the configuration
LOOK_S = 8.0  # of every look; all of them begin at once
WIDTH = 24

T = TypeVar("T")
Look = Callable[[Paths, Policy], Awaitable[Any]]
Check = Callable[[Facts], Iterator[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One look at the world, and what is made of it and of the looks before it."""

    field: str  # of `Facts`: where the look goes
    subject: str
    look: Look
    checks: tuple[Check, ...]
    hint: str  # when there is no answer


async def apart(function: Callable[..., T], *given: object) -> T:
    """Do what may hang in a thread; nobody waits for one that does."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # it is a T where there is no error

    def work() -> None:
        result, error = None, None
        try:
            result = function(*given)
        except Exception as raised:  # noqa: BLE001 - raised again where it is waited for
            error = raised
        with suppress(RuntimeError):  # the loop has ended without us
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, daemon=True).start()
    return await done


STAGES = (
    Stage(
        field="host",
        subject="host",
        look=lambda paths, _: apart(doctor_files.look_at_host, paths),
        checks=(
            doctor_checks.doctor_is_root,
            doctor_checks.clock_is_good,
            doctor_checks.room_is_left,
            doctor_checks.log_is_kept,
        ),
        hint="a disk may hang: dmesg",
    ),
    Stage(
        field="monitor",
        subject="monitor",
        look=lambda paths, _: apart(doctor_files.look_at_monitor, paths),
        checks=(
            doctor_checks.monitor_runs,
            doctor_checks.configuration_in_use,
            doctor_checks.monitor_has_its_capability,
            doctor_checks.phase_is_known,
            doctor_checks.nothing_is_held,
            doctor_checks.attention_is_paid,
        ),
        hint="a disk may hang: dmesg",
    ),
    Stage(
        field="systemd",
        subject="systemd",
        look=lambda _, policy: doctor_ask.ask_systemd(policy),
        checks=(
            doctor_checks.systemd_is_well,
            doctor_checks.monitor_starts_at_boot,
            doctor_checks.units_exist,
            doctor_checks.units_do_not_start_by_themselves,
            doctor_checks.units_rest,
            doctor_checks.units_stop_in_time,
            doctor_checks.units_are_read_again,
        ),
        hint="systemctl status; is this host booted with systemd, and you are root?",
    ),
    Stage(
        field="tried",
        subject="systemd-analyze",
        look=lambda _, policy: doctor_ask.try_units(policy),
        checks=(doctor_checks.units_are_well_written, doctor_checks.conditions_are_met),
        hint="systemd-analyze verify UNIT",
    ),
    Stage(
        field="bus_trouble",
        subject="D-Bus",
        look=lambda _, policy: doctor_ask.ask_bus(policy),
        checks=(doctor_checks.bus_answers,),
        hint="systemctl status dbus",
    ),
    Stage(
        field="echoes",
        subject="echoes",
        look=lambda _, policy: doctor_ask.ask_paths(policy),
        checks=(
            doctor_paths.echoes_are_permitted,
            doctor_paths.primary_answers,
            doctor_paths.standby_answers,
            doctor_paths.references_answer,
            doctor_paths.references_are_fast_enough,
            doctor_paths.references_test_the_same_way,
            doctor_paths.primary_is_on_our_link,
            doctor_paths.references_are_other_hosts,
        ),
        hint="ip addr; ip route",
    ),
    Stage(
        field="files",
        subject="files",
        look=lambda paths, policy: apart(doctor_files.look_at_files, paths, policy),
        checks=(
            doctor_paths.enforcement_is_prepared,
            doctor_paths.gate_follows_the_guard,
            doctor_paths.kernel_is_watched,
            doctor_paths.files_can_be_used,
            doctor_paths.hooks_can_be_run,
        ),
        hint="a disk may hang: dmesg",
    ),
    Stage(
        field="checks",
        subject="service checks",
        look=lambda _, policy: doctor_ask.ask_services(policy),
        checks=(doctor_paths.services_are_well,),
        hint="see to the commands of the checks",
    ),
    Stage(
        field="lease",
        subject="lease",
        look=lambda _, policy: doctor_ask.ask_lease(policy),
        checks=(
            doctor_paths.lease_members_answer,
            doctor_paths.lease_members_are_elsewhere,
            doctor_paths.lease_is_held_by_the_primary,
        ),
        hint="see to ca, cert and key of the lease",
    ),
)


def doctor(options: argparse.Namespace) -> int:
    """Print each finding as it comes; 0, 1 with a failure, 78 for a bad configuration."""
    found: list[Finding] = []

    def tell(finding: Finding) -> None:
        found.append(finding)
        if not options.json:
            print(in_words(finding), flush=True)

    try:
        asyncio.run(examine(options.config, options.paths, tell))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return os.EX_CONFIG
    failed = [finding for finding in found if finding.level is Level.FAILURE]
    if options.json:
        document = {"failover_would_work": not failed, "findings": [asdict(f) for f in found]}
        print(json.dumps(document, indent=1))
    else:
        print(conclusion(found))
    return 1 if failed else 0


async def examine(config_path: Path, paths: Paths, tell: Callable[[Finding], None]) -> None:
    """Look at everything at once; tell in order.  Raises ConfigError."""
    try:
        async with asyncio.timeout(READ_S):
            config: Config = await apart(load, config_path)
    except TimeoutError:
        what = f"cannot be read: no answer within {READ_S:g} s"
        tell(failure("configuration", f"{config_path} {what}", "a disk may hang: dmesg"))
        return
    tell(ok("configuration", f"{config_path} is good"))
    facts = Facts(policy=config.policy, config_path=str(config_path), config_text=config.text)
    looks = [asyncio.create_task(looked(stage, paths, config.policy)) for stage in STAGES]
    for stage, look in zip(STAGES, looks, strict=True):
        for finding in findings(stage, facts, *(await look)):
            tell(finding)


async def looked(stage: Stage, paths: Paths, policy: Policy) -> tuple[Any, str]:
    """What a look has seen, or why it has not."""
    try:
        async with asyncio.timeout(LOOK_S):
            return await stage.look(paths, policy), ""
    except TimeoutError:
        return None, f"no answer within {LOOK_S:g} s"
    except (UnansweredError, OSError, ValueError) as error:
        return None, str(error)


def findings(stage: Stage, facts: Facts, seen: Any, trouble: str) -> Iterator[Finding]:
    """What one look amounts to, with those before it."""
    setattr(facts, stage.field, seen)
    if trouble:
        yield failure(stage.subject, f"cannot be looked at: {trouble}", stage.hint)
    for check in stage.checks:
        yield from check(facts)


def in_words(finding: Finding) -> str:
    line = f"{finding.level:<8} {finding.subject:<{WIDTH}} {finding.what}"
    return f"{line}\n{'':<8} hint: {finding.hint}" if finding.hint else line


def conclusion(found: list[Finding]) -> str:
    counts = {level: sum(finding.level is level for finding in found) for level in Level}
    verdict = "NOT sure to work" if counts[Level.FAILURE] else "sure to work, by all that is known"
    numbers = ", ".join(f"{count} {level}" for level, count in counts.items())
    return f"\nA failover now is {verdict}: {numbers}."
