"""Be told: messages to people, figures for Prometheus.

Rule: what is not configured is not loaded, and a URL is never shown: it may hold a password.
"""

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from failover_monitor.config import Config, ConfigError, load
from failover_monitor.settings import NotifyKeys

if TYPE_CHECKING:
    from failover_monitor.agent.notify import Sender

log = logging.getLogger("failover_monitor.agent")

HOME = Path("/var/lib/failover-monitor-agent")


def agent(options: argparse.Namespace) -> int:
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    if options.unlink:
        return unlink(options.unlink)
    try:
        config = read(options.config, options.last_good)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return os.EX_CONFIG
    if options.test:
        return trial(config)
    if options.link:
        return link(config, options.link)
    if not config.notify and not config.metrics:
        print(f'nothing to do: {config.path} has neither "notify" nor "metrics"')
        return 0
    return follow(config, options)


def read(path: Path, last_good: Path | None) -> Config:
    """The configuration; where it is bad, the one that the monitor goes on with."""
    try:
        return load(path)
    except ConfigError as error:
        if last_good is None:
            raise
        try:
            config = load(last_good)
        except ConfigError:
            raise error from None
        log.warning("%s is bad, the last good one goes on", path)
        return config


def follow(config: Config, options: argparse.Namespace) -> int:
    """Tell and count until SIGTERM."""
    from failover_monitor.agent.service import Agent, Target

    home = Path(os.environ.get("STATE_DIRECTORY", HOME))
    textfile = Path(config.metrics.textfile) if config.metrics else None
    targets = tuple(
        Target(name=name, level=keys.level, sender=sender)
        for (name, keys), sender in zip(named(config.notify), senders(config), strict=True)
    )
    if not home.is_dir():
        print(f"cannot begin: {home} is no directory", file=sys.stderr)
        print("hint: systemctl start failover-monitor-agent", file=sys.stderr)
        return 1
    made = Agent(options.paths, home, targets, textfile, role=config.policy.role)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: made.stop())
    told = ", ".join(target.name for target in targets) or "nobody"
    log.info("tells %s; figures in %s", told, textfile or "no file")
    made.run()
    return 0


def trial(config: Config) -> int:
    """Send one message to every target, and say of each whether it went."""
    from failover_monitor.agent.words import trial as words

    if not config.notify:
        print(f'cannot test: there is no "notify" in {config.path}', file=sys.stderr)
        return 1
    failed = 0
    for (name, _), sender in zip(named(config.notify), senders(config), strict=True):
        why = sender.send(words(socket.gethostname()), threading.get_ident())
        if why:
            failed += 1
            print(f"cannot tell {name}: {why}", file=sys.stderr)
        else:
            print(f"{name}: it went")
    return 1 if failed else 0


def senders(config: Config) -> list["Sender"]:
    """One for each target; apprise is loaded here."""
    if not config.notify:
        return []
    from failover_monitor.agent.notify import Sender, overhear

    overheard = overhear()
    return [Sender(keys.url, overheard) for keys in config.notify]


def named(targets: tuple[NotifyKeys, ...]) -> list[tuple[str, NotifyKeys]]:
    """Every target by a name of its own, which holds nothing secret."""
    found: dict[str, NotifyKeys] = {}
    taken = {keys.name for keys in targets}
    for keys in targets:
        name, number = keys.name or keys.scheme, 1
        while name in found or (not keys.name and name in taken):
            number += 1
            name = f"{keys.scheme} ({number})"
        found[name] = keys
    return list(found.items())


def link(config: Config, directory: Path) -> int:
    """Make the file for node_exporter a link into a directory that the agent may write to.

    Beside that directory, where only root may write, stands which link it is.
    """
    unlink(directory)
    if not config.metrics:
        return 0
    place = Path(config.metrics.textfile)
    try:
        point(place, directory / place.name)
        point(record(directory), place)
    except OSError as error:
        print(f"cannot link {place}: {error.strerror}", file=sys.stderr)
        print(f"hint: node_exporter reads {place.parent}, if it exists", file=sys.stderr)
        return 1
    return 0


def unlink(directory: Path) -> int:
    """Take that link away: for node_exporter a loose end would be an error."""
    try:
        place = record(directory).readlink()
        if place.is_symlink() and place.readlink().parent == directory:
            place.unlink()
        record(directory).unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        print(f"cannot take the link to {directory} away: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def record(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.link")


def point(place: Path, target: Path) -> None:
    """Make a link whole; whatever is there gives way."""
    fresh = place.with_name(f".{place.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(place)
