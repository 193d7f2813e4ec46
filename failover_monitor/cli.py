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
MOST = 10**6  # lines, decisions: more than a history holds


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


def count(text: str) -> int:
    """How many; more than there can be is a slip of the pen."""
    number = int(text)
    if not 1 <= number <= MOST:
        raise argparse.ArgumentTypeError(f"must be from 1 to {MOST}")
    return number


def of_configuration() -> argparse.ArgumentParser:
    """Which configuration."""
    config = argparse.ArgumentParser(add_help=False)
    config.add_argument(
        "--config", type=Path, default=PATHS.config, metavar="PATH", help=f"default: {PATHS.config}"
    )
    return config


def of_dry_run() -> argparse.ArgumentParser:
    """Whose files, for commands that read what was written."""
    whose = argparse.ArgumentParser(add_help=False)
    whose.add_argument(
        "--dry-run",
        dest="paths",
        action="store_const",
        const=PATHS.dry_run,
        default=PATHS,
        help="of the dry run, not of the monitor",
    )
    return whose


def parser() -> argparse.ArgumentParser:
    config, whose = of_configuration(), of_dry_run()
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
    run.add_argument(
        "--dry-run",
        dest="command",
        action="store_const",
        const="dry_run:run_command_line",
        help="decide on real traffic, act on nothing, say what would have been done",
    )
    run.set_defaults(command="daemon:run_command_line")

    check = commands.add_parser(
        "check", parents=[config], help="validate the configuration and say what it will do"
    )
    check.add_argument("path", nargs="?", type=Path, metavar="PATH")
    check.add_argument("--json", action="store_true")
    check.set_defaults(command="console.check:check")

    status = commands.add_parser("status", parents=[config, whose], help="how things stand")
    how = status.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="for programs: docs/status.schema.json")
    how.add_argument("--watch", action="store_true", help="draw it each second, until Ctrl-C")
    status.set_defaults(command="console.status:status")

    add_readers(commands, [config, whose])
    add_rehearsals(commands, config)
    add_orders(commands, config)
    add_agent(commands, config)
    return top


def add_rehearsals(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", config: argparse.ArgumentParser
) -> None:
    """What tells beforehand how it would go."""
    doctor = commands.add_parser(
        "doctor", parents=[config], help="would a failover work right now?"
    )
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(command="console.doctor:doctor")

    explain = commands.add_parser("explain", parents=[config], help="print the decision table")
    explain.add_argument("--mermaid", action="store_true", help="as a diagram")
    explain.add_argument("--guard", action="store_true", help="the table of the primary's guard")
    explain.set_defaults(command="console.check:explain")

    simulate = commands.add_parser(
        "simulate",
        help="play a story: what would the monitor do?",
    )
    simulate.add_argument(
        "scenario", nargs="?", metavar="SCENARIO|FILE", help="a name of --list, or a file"
    )
    simulate.add_argument(
        "--config", type=Path, metavar="PATH", help=f"whose numbers; default: {PATHS.config}"
    )
    simulate.add_argument("--list", action="store_true", help="the shipped scenarios")
    simulate.add_argument("--json", action="store_true")
    simulate.set_defaults(command="console.simulate:simulate")


def add_orders(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", config: argparse.ArgumentParser
) -> None:
    """What an operator may ask of the monitor."""
    pause = commands.add_parser("pause", parents=[config], help="hands off for a while: watch only")
    pause.add_argument("--for", dest="span", default="2h", help="30m, 1h 30min; default: 2h")
    pause.set_defaults(command="console.control:pause")
    resume = commands.add_parser("resume", parents=[config], help="end a pause now")
    resume.set_defaults(command="console.control:resume")
    takeover = commands.add_parser(
        "takeover", parents=[config], help="serve here, although no evidence asks for it"
    )
    takeover.add_argument("--yes", action="store_true", help="the risk is known: do not ask")
    takeover.set_defaults(command="console.control:takeover")
    failback = commands.add_parser(
        "failback", parents=[config], help="give the services back to a primary that answers"
    )
    failback.set_defaults(command="console.control:failback")
    ack = commands.add_parser(
        "ack", parents=[config], help="allow takeovers again after too many of them"
    )
    ack.set_defaults(command="console.control:ack")
    for command in (pause, resume, takeover, failback, ack):
        command.add_argument(
            "--reason", default="", required=command is pause, help="is recorded with your name"
        )


def add_readers(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    shared: list[argparse.ArgumentParser],
) -> None:
    """What reads the record of the last days."""
    history = commands.add_parser("history", parents=shared, help="what has happened, newest last")
    history.add_argument(
        "-n", type=count, dest="lines", metavar="N", help="the last N events; default: 20"
    )
    history.add_argument("--since", metavar="SPAN", help="such as 30m, 2h, 7d: all since then")
    history.add_argument(
        "--level",
        choices=("info", "warning", "error", "critical"),
        default="info",
        help="these and what is more serious",
    )
    history.add_argument("--json", action="store_true")
    history.set_defaults(command="console.history:history")

    why = commands.add_parser(
        "why", parents=shared, help="the evidence and the row behind a decision"
    )
    which = why.add_mutually_exclusive_group()
    which.add_argument(
        "-n", type=count, dest="number", metavar="K", default=1, help="the K-th latest; default: 1"
    )
    which.add_argument("--at", metavar="TIME", help="the latest at that time, such as 03:12")
    why.add_argument("--json", action="store_true")
    why.set_defaults(command="console.why:why")

    picture = commands.add_parser("picture", parents=shared, help="the last hour, drawn")
    picture.add_argument("--hours", type=float, default=1.0, metavar="H", help="default: 1")
    picture.set_defaults(command="console.picture:picture")

    recommend = commands.add_parser(
        "recommend", parents=shared, help="which retry_interval would have been safe"
    )
    recommend.add_argument("--days", type=float, default=7.0, metavar="D", help="default: 7")
    recommend.add_argument("--json", action="store_true")
    recommend.set_defaults(command="console.recommend:recommend")

    report = commands.add_parser(
        "report", parents=shared, help="a page for a post-mortem: timeline, plots, events"
    )
    report.add_argument("--html", required=True, metavar="FILE", help="- for standard output")
    report.add_argument("--since", default="24h", metavar="LENGTH|TIME", help="default: 24h")
    report.add_argument("--until", metavar="LENGTH|TIME", help="default: now")
    report.set_defaults(command="console.report:report")


def add_agent(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", config: argparse.ArgumentParser
) -> None:
    """The process that talks."""
    agent = commands.add_parser(
        "agent", parents=[config], help="tell people and Prometheus (systemd starts this)"
    )
    agent.add_argument("--test", action="store_true", help="send every target a message, and end")
    agent.add_argument(
        "--last-good", type=Path, metavar="PATH", help="used while the configuration is bad"
    )
    agent.add_argument(
        "--link", type=Path, metavar="DIR", help="make the metrics' file a link into DIR, and end"
    )
    agent.add_argument("--unlink", type=Path, metavar="DIR", help="take that link away, and end")
    agent.set_defaults(command="console.agent:agent")
