"""What an operator asks of the monitor: a file that only root can leave, taken once.

Rule: no listener and no signal.  Who may write to the monitor's directory in /run may ask.
"""

import argparse
import os
import sys
from pathlib import Path

from failover_monitor.console.status import NOT_RUNNING, read_status
from failover_monitor.files import locked, replace_file


def failback(options: argparse.Namespace) -> int:
    if not locked(options.paths.lock):
        print("cannot fail back: failover-monitor is not running", file=sys.stderr)
        return NOT_RUNNING
    document = read_status(options.paths)
    if document and document.get("role") == "primary":
        print("cannot fail back: this host is the primary; ask on the standby", file=sys.stderr)
        return 1
    if document is None or document["phase"] not in ("takeover", "active"):
        phase = document["phase"] if document else "unknown"
        print(f"cannot fail back: we do not serve, the phase is {phase}", file=sys.stderr)
        return 1
    if document["verdict"] != "up":
        print("cannot fail back: the primary does not answer", file=sys.stderr)
        return 1
    return left_request(options.paths.failback_request, "fail back")


def ack(options: argparse.Namespace) -> int:
    if not locked(options.paths.lock):
        print("cannot acknowledge: failover-monitor is not running", file=sys.stderr)
        return NOT_RUNNING
    document = read_status(options.paths)
    if document is None or not document.get("flapping"):
        print("cannot acknowledge: takeovers are not held", file=sys.stderr)
        return 1
    return left_request(options.paths.ack_request, "acknowledge")


def left_request(path: Path, what: str) -> int:
    """Leave a request for the monitor; only root may write there."""
    try:
        replace_file(path, f"{os.environ.get('SUDO_USER', 'root')}\n")
    except OSError as error:
        hint = "\nhint: only root may ask; use sudo" if isinstance(error, PermissionError) else ""
        where = f"{error.filename}: " if error.filename else f"{path}: "
        print(f"cannot {what}: {where}{error.strerror}{hint}", file=sys.stderr)
        return 1
    print("asked for; watch it with: failover-monitor status")
    return 0
