"""What systemd shows of a unit, in our words.

Rule: pure.  Property names and values are those of `systemctl show`, whichever way they came, plus
JobType: what the unit's queued job is about ("" = none).
"""

import os
from collections.abc import Mapping

from failover_monitor.model import Unit, UnitSeen

RUNS = frozenset({"active", "reloading", "refreshing"})
RESTS = frozenset({"inactive", "failed"})
UNLOADABLE = frozenset({"masked", "not-found", "bad-setting", "error"})

MOVING = ("ActiveEnterTimestampMonotonic", "StateChangeTimestampMonotonic")
RESTING = (
    "StateChangeTimestampMonotonic",
    "InactiveEnterTimestampMonotonic",
    "ConditionResult",
    "ConditionTimestampMonotonic",
    "AssertResult",
    "AssertTimestampMonotonic",
)
OF_SERVICE = ("Result", "Type", "RemainAfterExit", "ExecMainCode")
OF_KIND = {  # of units at rest, beside RESTING; a target has no Result
    "service": OF_SERVICE,
    "socket": ("Result",),
    "timer": ("Result",),
    "path": ("Result",),
    "mount": ("Result",),
}
SHOWN = ("LoadState", "ActiveState", "Job", *dict.fromkeys((*MOVING, *RESTING, *OF_SERVICE)))


def unit_seen(name: str, shown: Mapping[str, str], offset_s: float) -> UnitSeen:
    """One unit in our words.  `offset_s` takes systemd's CLOCK_MONOTONIC to CLOCK_BOOTTIME."""
    state, since, why = reading(shown)
    return UnitSeen(name, state, since / 1e6 + offset_s if since else 0.0, why)


def reading(shown: Mapping[str, str]) -> tuple[Unit, int, str]:
    """State, since when (µs of CLOCK_MONOTONIC, 0 = not known), why."""
    active, job = shown.get("ActiveState", ""), shown.get("JobType", "")
    changed = stamp(shown, "StateChange")
    if active not in RESTS and job == "stop":
        return Unit.STOPPING, changed, ""
    if job == "restart" or (job == "start" and active not in RUNS) or active == "activating":
        return Unit.STARTING, changed, ""
    if active == "deactivating":
        return Unit.STOPPING, changed, ""
    if active in RUNS:
        return Unit.RUNNING, stamp(shown, "ActiveEnter"), ""
    if active not in RESTS:
        return Unit.UNKNOWN, 0, active
    if shown.get("LoadState") in UNLOADABLE:
        return Unit.FAILED, changed, shown["LoadState"]
    if active == "failed":
        return Unit.FAILED, changed, shown.get("Result", "failed")
    return reading_inactive(shown)


def reading_inactive(shown: Mapping[str, str]) -> tuple[Unit, int, str]:
    """Why it does not run: refused at the last start, ended well, or merely stopped."""
    ended = stamp(shown, "InactiveEnter")
    for what, why in (("Condition", "condition not met"), ("Assert", "assertion not met")):
        if shown.get(f"{what}Result") == "no" and stamp(shown, what) > ended:
            return Unit.FAILED, stamp(shown, what), why
    if shown.get("Result") == "exec-condition":
        return Unit.FAILED, ended, "condition not met"
    finished = (
        shown.get("Type") == "oneshot"
        and shown.get("RemainAfterExit") == "no"
        and shown.get("Result") == "success"
        and shown.get("ExecMainCode") == str(os.CLD_EXITED)
    )
    return Unit.FINISHED if finished else Unit.STOPPED, ended, ""


def stamp(shown: Mapping[str, str], what: str) -> int:
    return int(shown.get(f"{what}TimestampMonotonic") or 0)


def blocks_of_show(text: str) -> list[dict[str, str]]:
    """What `systemctl show` printed, a dict for each unit; only there a job has no type."""
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in text.strip().split("\n\n")
    ]
    for block in blocks:
        queued = block.pop("Job", "") not in ("", "0")
        block["JobType"] = "start" if queued and block.get("ActiveState") in RESTS else ""
    return blocks
