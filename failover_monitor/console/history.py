"""What has happened: the recorded events, newest last.

Rule: one line for one event, in the words in which it was told.
"""

import argparse
import json
import sys
import time
from collections import deque
from pathlib import Path

from failover_monitor.console import records
from failover_monitor.console.lines import STYLES, Line, day_and_time, fault, iso, show, span_s
from failover_monitor.console.records import Recorded
from failover_monitor.console.status import NOT_RUNNING
from failover_monitor.files import Paths, locked

LEVELS = ("INFO", "WARNING", "ERROR", "CRITICAL")
LINES = 20  # without `-n` and `--since`
SOON = "the monitor runs, and writes it down once a minute at least: look again then"


def history(options: argparse.Namespace) -> int:
    paths: Paths = options.paths
    since_s, many = 0.0, options.lines
    if options.since is not None:
        try:
            since_s = time.time() - span_s(options.since)
        except ValueError as error:
            fault(f"show the history: --since {error}", "such as 30m, 2h, 7d or '1h 30min'")
            return 2
    elif many is None:
        many = LINES
    levels = LEVELS[LEVELS.index(options.level.upper()) :]
    found = deque(
        (event for event in records.events(paths, since_s) if event.level in levels),
        maxlen=many,
    )
    if status := missing(paths, paths.events, "show the history"):
        return status
    if options.json:
        print(json.dumps([as_document(event) for event in found], indent=1))
        return 0
    show(line(event) for event in found)
    if not found:
        print("nothing like that was recorded", file=sys.stderr)
    return 0


def missing(paths: Paths, record: Path, what: str) -> int:
    """Say on stderr what a reader should know of a record; 0, or the status of having none."""
    trouble, running = records.trouble(record), locked(paths.lock)
    who, start = "failover-monitor", "systemctl start failover-monitor"
    if paths.apart:
        who, start = "the dry run", "failover-monitor run --dry-run"
    if not next(records.documents(record), None):
        fault(
            f"{what}: {trouble or f'{record} is empty'}",
            SOON if running else start,
        )
        return 1 if running else NOT_RUNNING
    if trouble:
        print(f"note: {trouble}", file=sys.stderr)
    if not running:
        print(f"note: {who} is not running, nobody watches now", file=sys.stderr)
    return 0


def line(event: Recorded) -> Line:
    style = STYLES.get(event.level, "")
    return (
        (f"{day_and_time(event.at_s)}  ", "dim"),
        (f"{event.level:<8}  ", style),
        (event.what, style),
    )


def as_document(event: Recorded) -> dict[str, object]:
    """An event for programs; `fields` are those of the journal."""
    return {
        "at": iso(event.at_s),
        "at_s": event.at_s,
        "kind": event.kind,
        "level": event.level,
        "what": event.what,
        "fields": event.fields,
    }
