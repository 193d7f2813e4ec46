"""The commands.  Each imports what it needs when it runs: the daemon pays for nothing else.

Exit codes: 0 fine, 1 trouble, 2 wrong use, 3 not running or stale, 78 bad configuration.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from failover_monitor import __version__
from failover_monitor.files import Paths, locked, replace_file

PATHS = Paths()
NOT_RUNNING = 3


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives the exit status."""
    options = parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        status = command(options)
        sys.stdout.flush()  # here, where a reader that has gone is no traceback
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def parser() -> argparse.ArgumentParser:
    config = argparse.ArgumentParser(add_help=False)
    config.add_argument(
        "--config", type=Path, default=PATHS.config, metavar="PATH", help=f"default: {PATHS.config}"
    )
    top = argparse.ArgumentParser(
        prog="failover-monitor",
        description="Watches a primary host from its standby and moves systemd services between"
        " the two.",
    )
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run = commands.add_parser("run", parents=[config], help="watch (systemd starts this)")
    run.add_argument("--debug", action="store_true", help="log each check")
    run.set_defaults(command=run_daemon)

    check = commands.add_parser(
        "check", parents=[config], help="validate the configuration and say what it will do"
    )
    check.add_argument("path", nargs="?", type=Path, metavar="PATH")
    check.add_argument("--json", action="store_true")
    check.set_defaults(command=check_config)

    status = commands.add_parser("status", parents=[config], help="how things stand")
    status.add_argument("--json", action="store_true")
    status.set_defaults(command=show_status)

    explain = commands.add_parser("explain", parents=[config], help="print the decision table")
    explain.add_argument("--mermaid", action="store_true", help="as a diagram")
    explain.add_argument("--guard", action="store_true", help="the table of the primary's guard")
    explain.set_defaults(command=explain_table)

    failback = commands.add_parser(
        "failback", parents=[config], help="give the services back to a primary that answers"
    )
    failback.set_defaults(command=ask_failback)

    ack = commands.add_parser(
        "ack", parents=[config], help="allow takeovers again after too many of them"
    )
    ack.set_defaults(command=acknowledge)
    return top


def run_daemon(options: argparse.Namespace) -> int:
    from failover_monitor.daemon import run

    return run(options.config, PATHS, debug=options.debug)


def check_config(options: argparse.Namespace) -> int:
    from failover_monitor.config import ConfigError, load
    from failover_monitor.timing import facts, report

    path = options.path or options.config
    try:
        policy = load(path).policy
    except ConfigError as error:
        print(error, file=sys.stderr)
        return os.EX_CONFIG
    if options.json:
        print(json.dumps(facts(policy), indent=1))
    else:
        print(f"{path} is good.\n\n{report(policy)}")
    return 0


def read_status() -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(PATHS.status.read_text())
        return document if document["at_s"] >= 0 else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def show_status(options: argparse.Namespace) -> int:
    document = read_status()
    if document is None:
        print(
            "failover-monitor is not running: it has left no status\n"
            "hint: systemctl start failover-monitor",
            file=sys.stderr,
        )
        return NOT_RUNNING
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - document["at_s"]
    running = locked(PATHS.lock)
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


def explain_table(options: argparse.Namespace) -> int:
    from failover_monitor.decision import TABLES
    from failover_monitor.model import Role

    table = TABLES[Role.PRIMARY if options.guard else Role.STANDBY]
    if options.mermaid:
        print("stateDiagram-v2")
        for row in table:
            print(f"    {row.source} --> {row.target}: {row.because}")
        return 0
    print(f"{'from':<10}{'to':<10}{'when':<20}because")
    for row in table:
        when = row.when.__name__.replace("_", " ")
        print(f"{row.source:<10}{row.target:<10}{when:<20}{row.because}")
    print("\nThe first row that holds wins; no row: the phase stays.")
    return 0


def ask_failback(options: argparse.Namespace) -> int:
    del options
    if not locked(PATHS.lock):
        print("cannot fail back: failover-monitor is not running", file=sys.stderr)
        return NOT_RUNNING
    document = read_status()
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
    return left_request(PATHS.failback_request, "fail back")


def acknowledge(options: argparse.Namespace) -> int:
    del options
    if not locked(PATHS.lock):
        print("cannot acknowledge: failover-monitor is not running", file=sys.stderr)
        return NOT_RUNNING
    document = read_status()
    if document is None or not document.get("flapping"):
        print("cannot acknowledge: takeovers are not held", file=sys.stderr)
        return 1
    return left_request(PATHS.ack_request, "acknowledge")


def left_request(path: Path, what: str) -> int:
    """Leave a request for the monitor; only root may write there."""
    try:
        replace_file(path, f"{os.environ.get('SUDO_USER', 'root')}\n")
    except OSError as error:
        print(f"cannot {what}: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    print("asked for; watch it with: failover-monitor status")
    return 0
