"""How things stand, read from what the monitor wrote down."""

import argparse
import json
import sys
import time
from typing import Any

from failover_monitor.files import Paths, locked

NOT_RUNNING = 3
# What every version has written; what came later has a default where it is read.
KEYS = frozenset(
    {"at", "at_s", "stale_after_s", "phase", "phase_since", "verdict", "verdict_since", "why"}
    | {"state", "attention", "quiet_references", "next_check_s", "primary", "references", "units"}
)


def read_status(paths: Paths) -> dict[str, Any] | None:
    """What the monitor wrote last; None where there is nothing that can be understood."""
    try:
        document: dict[str, Any] = json.loads(paths.status.read_text())
        return document if document["at_s"] >= 0 and document.keys() >= KEYS else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def status(options: argparse.Namespace) -> int:
    document = read_status(options.paths)
    if document is None:
        print(
            "failover-monitor is not running: it has left no status\n"
            "hint: systemctl start failover-monitor",
            file=sys.stderr,
        )
        return NOT_RUNNING
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - document["at_s"]
    running = locked(options.paths.lock)
    stale = not running or not 0 <= age_s <= document["stale_after_s"]
    if options.json:
        print(json.dumps({**document, "age_s": round(age_s, 1), "running": running}, indent=1))
    else:
        print(in_words(document, age_s=age_s, running=running))
    return NOT_RUNNING if stale else 0


def in_words(document: dict[str, Any], *, age_s: float, running: bool) -> str:
    """The status document as a person reads it."""
    lines = []
    if not running:
        lines.append("NOT RUNNING: nobody watches.  What was last seen:")
    elif not 0 <= age_s <= document["stale_after_s"]:
        lines.append("STALE: the monitor has stopped writing.  What was last seen:")
    lines += [f"attention   {words}" for words in document["attention"]]
    if len(document["quiet_references"]) == len(document["references"]):
        what = "no takeover can happen"
        if document.get("role") == "primary":
            what = "the services run only while the standby answers"
        lines.append(f"attention   no reference answers: {what}")
    lines += [
        f"phase       {document['phase']} since {document['phase_since']}",
        f"verdict     {document['verdict']} since {document['verdict_since']}: {document['why']}",
        f"state word  {document['state']}",
    ]
    for role in ("primary", "standby", "reference"):
        # Older versions know no standby's paths.
        for path in document.get("references" if role == "reference" else role, ()):
            answer = "has not answered yet"
            if path["last_answer"]:
                answer = f"last answer {path['last_answer']} in {path['rtt_ms']} ms"
            lines.append(f"{role:<11} {path['address']}: {answer}")
    for unit in document["units"]:
        why = f" ({unit['why']})" if unit["why"] else ""
        lines.append(f"service     {unit['name']} {unit['state']}{why}")
    lines.append(f"written     {document['at']}, {age_s:.1f} s ago")
    lines.append(f"next check  {document['next_check_s']} s after that")
    return "\n".join(lines)
