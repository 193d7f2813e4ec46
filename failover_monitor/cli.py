"""The commands: what can be said on the command line, and where each of them lives.

Rule: a command is imported when it runs, so that the daemon pays for none of them.

Exit codes: 0 fine, 1 trouble, 2 wrong use, 3 not running or stale, 78 bad configuration.
"""

import argparse
import errno
import io
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TextIO

from failover_monitor import __version__
from failover_monitor.files import Paths

PATHS = Paths()
INTERRUPTED = 130  # as a shell has it after Ctrl-C


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives the exit status."""
    furnish_streams()
    try:
        return obeyed(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        silence(sys.stdout)
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        silence(sys.stdout)
        print(f"cannot write the answer: {error.strerror}", file=sys.stderr)
        return 1


def obeyed(arguments: list[str] | None) -> int:
    try:
        options = parser().parse_args(arguments)
        module, _, name = options.command.partition(":")
        command = getattr(import_module(f"failover_monitor.{module}"), name)
        status: int = command(options)
        return status
    finally:
        sys.stdout.flush()  # here, where a reader that has gone is no traceback; also of --help


def furnish_streams() -> None:
    """Whatever the caller has closed, and whatever its locale: what is printed is no traceback."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # closed; a file opened later must not get its number
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
            setattr(sys, name, os.fdopen(descriptor, "w", closefd=False))
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def silence(stream: TextIO) -> None:
    """Nothing more is said there, not even when the interpreter flushes it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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
    top.set_defaults(paths=PATHS)
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run = commands.add_parser("run", parents=[config], help="watch (systemd starts this)")
    run.add_argument("--debug", action="store_true", help="log each check")
    run.set_defaults(command="daemon:run_command_line")

    check = commands.add_parser(
        "check", parents=[config], help="validate the configuration and say what it will do"
    )
    check.add_argument("path", nargs="?", type=Path, metavar="PATH")
    check.add_argument("--json", action="store_true")
    check.set_defaults(command="console.check:check")

    status = commands.add_parser("status", parents=[config], help="how things stand")
    status.add_argument("--json", action="store_true")
    status.set_defaults(command="console.status:status")

    doctor = commands.add_parser(
        "doctor", parents=[config], help="would a failover work right now?"
    )
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(command="console.doctor:doctor")

    explain = commands.add_parser("explain", parents=[config], help="print the decision table")
    explain.add_argument("--mermaid", action="store_true", help="as a diagram")
    explain.add_argument("--guard", action="store_true", help="the table of the primary's guard")
    explain.set_defaults(command="console.check:explain")

    failback = commands.add_parser(
        "failback", parents=[config], help="give the services back to a primary that answers"
    )
    failback.set_defaults(command="console.control:failback")

    ack = commands.add_parser(
        "ack", parents=[config], help="allow takeovers again after too many of them"
    )
    ack.set_defaults(command="console.control:ack")
    return top
