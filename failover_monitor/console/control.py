"""What an operator asks of the monitor: a file that only root can leave, taken once.

Rule: no listener and no signal.  Who may write to the monitor's directory in /run may ask; the
monitor answers in status.json, and a command says what came of it before it ends.
"""

import argparse
import json
import os
import pwd
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from failover_monitor.console import lines
from failover_monitor.console.status import NOT_RUNNING, look, read_status
from failover_monitor.files import Paths, locked, replace_file
from failover_monitor.orders import LONGEST_S, Order

FINE, TROUBLE, WRONG_USE = 0, 1, 2
CONFIRM_S = 6.0  # a turn of the monitor is at most 3 s away
FOLLOW_S = 120.0  # how long the progress of a takeover or failback is told
LOOK_S = 0.1  # between two looks at status.json
NOBODY = 2**32 - 1  # the login user of what no login has started
STANDS_IN = ("takeover", "active")


class RefusedError(Exception):
    """Why a command cannot be obeyed: sentence, exit status, and a hint or ""."""

    def __init__(self, why: str, status: int = TROUBLE, hint: str = "") -> None:
        super().__init__(why)
        self.status, self.hint = status, hint


# The commands.


def pause(options: argparse.Namespace) -> int:
    return obeyed("pause", lambda: begin_pause(options.paths, options.span, options.reason))


def resume(options: argparse.Namespace) -> int:
    return obeyed("resume", lambda: end_pause(options.paths, options.reason))


def takeover(options: argparse.Namespace) -> int:
    return obeyed("take over", lambda: take_over(options.paths, options.yes, options.reason))


def failback(options: argparse.Namespace) -> int:
    return obeyed("fail back", lambda: give_back(options.paths, options.reason))


def ack(options: argparse.Namespace) -> int:
    return obeyed("acknowledge", lambda: acknowledge(options.paths, options.reason))


def obeyed(what: str, command: Callable[[], None]) -> int:
    """Run one command; what refuses it is said in one line, with a hint where we know the cure."""
    try:
        command()
    except RefusedError as refused:
        print(f"cannot {what}: {refused}", file=sys.stderr)
        if refused.hint:
            print(f"hint: {refused.hint}", file=sys.stderr)
        return refused.status
    except PermissionError as error:
        print(f"cannot {what}: {error.filename}: {error.strerror}", file=sys.stderr)
        print("hint: only root may; try it with sudo", file=sys.stderr)
        return TROUBLE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"cannot {what}: {where}{error.strerror}", file=sys.stderr)
        return TROUBLE
    except KeyboardInterrupt:
        print("\nwatch it with: failover-monitor status", file=sys.stderr)
        return TROUBLE
    return FINE


# Who asks, and for how long.


def who() -> str:
    """The login user, also behind sudo and su."""
    try:
        user = int(Path("/proc/self/loginuid").read_text())
    except (OSError, ValueError):
        user = NOBODY
    if user == NOBODY:
        if name := os.environ.get("SUDO_USER"):
            return name
        user = os.getuid()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"uid {user}"


def span_s(text: str) -> float:
    """Seconds of a span, such as "30m" or "1h 30min", that a pause may last."""
    hint = "such as 30m, 2h, 1d"
    try:
        length_s = lines.span_s(text)
    except ValueError as error:
        raise RefusedError(str(error), WRONG_USE, hint) from None
    if length_s <= 0:
        raise RefusedError(f"{text!r} is no time at all", WRONG_USE, hint)
    if length_s > LONGEST_S:
        raise RefusedError(f"{text!r} is longer than {LONGEST_S / 86400:g} days", WRONG_USE)
    return length_s


def wish(reason: str) -> dict[str, Any]:
    at_s = time.time()
    line = " ".join(reason.split())
    return {"by": who(), "at": in_words(at_s), "at_s": at_s, "reason": line}


def in_words(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))


# Pause and resume.


def begin_pause(paths: Paths, span: str, reason: str) -> None:
    length_s = span_s(span)
    if not reason.strip():
        raise RefusedError("say why", WRONG_USE, "--reason TEXT")
    document = read_status(paths)
    if document and document.get("role") == "primary":
        why = "this host is the primary, and the standby counts on its guard; pause the standby"
        raise RefusedError(why)
    words = wish(reason)
    at_s, until = words["at_s"], in_words(words["at_s"] + length_s)
    text = json.dumps({**words, "length_s": length_s, "until": until, **this_boot()}) + "\n"
    volatile, lasting = paths.pause()
    try:
        replace_file(lasting, text)
        lasting_is_there(lasting)
    except PermissionError:
        raise
    except OSError as error:
        with suppress(OSError):  # what was written of it
            lasting.with_name(f".{lasting.name}.tmp").unlink()
        raise RefusedError(f"{lasting}: {error.strerror}; nothing has changed") from None
    if not locked(paths.lock):
        if volatile.parent.exists():
            replace_file(volatile, text)
        print(f"paused until {until}; failover-monitor is not running, it holds from its start")
        return
    try:
        replace_file(volatile, text)
    except OSError:
        lasting.unlink(missing_ok=True)
        raise

    def heeded() -> bool:
        held = (read_status(paths) or {}).get("paused") or {}
        return bool(held.get("at_s") == at_s)

    if not comes(heeded):
        raise RefusedError(
            "the monitor has not said yet that it does", hint="failover-monitor status"
        )
    print(f"paused until {until}: nothing is started or stopped here, the watch goes on")
    warn_of_pause(read_status(paths) or {})
    print("end it with: failover-monitor resume")


def this_boot() -> dict[str, Any]:
    from failover_monitor.systemd import boot_id, boottime_s

    return {"boot_id": boot_id(), "began_s": boottime_s()}


def lasting_is_there(path: Path) -> None:
    """The name, too, survives a power cut."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def warn_of_pause(document: dict[str, Any]) -> None:
    if document.get("phase") not in STANDS_IN:
        return
    print("warning: this host serves, and goes on.  What dies here is not started again")
    if "lease" in document.get("protections", ()):
        print("warning: when the lease is lost the services are stopped, paused or not")
    else:
        print("warning: a primary that comes back is given nothing back: then both serve")


def end_pause(paths: Paths, reason: str) -> None:
    volatile, lasting = paths.pause()
    if not volatile.exists() and not lasting.exists():
        raise RefusedError("nothing is paused")
    if not locked(paths.lock):
        volatile.unlink(missing_ok=True)
        lasting.unlink(missing_ok=True)
        print("the pause is over; failover-monitor is not running")
        return
    if not volatile.exists():  # the monitor holds no pause: its next process would
        lasting.unlink(missing_ok=True)
        print("the pause is over")
        return
    ask(paths, Order.RESUME, reason)
    print("resumed: a takeover needs fresh checks from now on")
    if not comes(lambda: not lasting.exists()):
        why = f"{lasting} cannot be removed: after the next start it would hold again"
        raise RefusedError(why, hint=f"remove {lasting}")


# Takeover, failback, ack.


def take_over(paths: Paths, yes: bool, reason: str) -> None:
    document = running(paths)
    if document.get("paused"):
        raise RefusedError("paused", hint="failover-monitor resume first")
    phase = document["phase"]
    if phase in (*STANDS_IN, "claim"):
        why = f"a takeover is under way already, the phase is {phase}"
        raise RefusedError("; ".join((why, *waits_of(document))), hint=way_out(document))
    if phase not in ("standby", "unknown"):
        raise RefusedError(f"the phase is {phase}, wait until that is over")
    may_ask(paths)
    print("What a takeover by hand means now:")
    for risk in risks(document):
        print(f"- {risk}")
    confirmed("takeover", yes)
    ask(paths, Order.TAKEOVER, reason)
    follow(paths, goal="active", words="the services run here")


def waits_of(document: dict[str, Any]) -> list[str]:
    """What a takeover waits for, in the monitor's words."""
    return [words for words in document.get("attention", ()) if "waits for" in words]


def way_out(document: dict[str, Any]) -> str:
    """What moves a takeover on that a hook holds; an order is no way around it."""
    if any("waits for hook" in words for words in waits_of(document)):
        return "mend the hook; or take it out of the configuration, and reload failover-monitor"
    return "failover-monitor status"


def risks(document: dict[str, Any]) -> list[str]:
    """What may go wrong, from what is known now."""
    protections = document.get("protections", ())
    told = []
    if document["verdict"] == "up":
        told.append(
            "the primary answers: its services still run there unless you have stopped them;"
            " both would serve"
        )
        told.append("it stays here although the primary answers, until: failover-monitor failback")
    elif document["verdict"] == "unknown":
        told.append(
            "nobody knows whether the primary lives: there is no verdict, and our own network is"
            f" not proven ({document['why'] or 'no evidence yet'}); both may serve"
        )
    else:
        told.append(f"the primary is down: {document['why']}")
    if "fence" in protections:
        told.append("the fence must succeed first: it switches the primary off")
    if "lease" in protections:
        told.append("the lease must be free first: the primary keeps it while its guard serves")
    if "guard" in protections and document["verdict"] != "down":
        told.append("the guard on the primary stops nothing while it is in contact")
    if not {"fence", "lease"} & set(protections):
        told.append("nothing here makes sure that the primary serves no more: no fence, no lease")
    if document.get("flapping"):
        told.append("takeovers are held, there were too many of them: this one is not")
    told += [f"attention: {words}" for words in document["attention"]]
    return told


def give_back(paths: Paths, reason: str) -> None:
    document = running(paths)
    if document["phase"] not in STANDS_IN:
        raise RefusedError(f"we do not serve, the phase is {document['phase']}")
    if document.get("paused"):
        raise RefusedError("paused", hint="failover-monitor resume first")
    if document["verdict"] != "up":
        raise RefusedError("the primary does not answer")
    may_ask(paths)
    if document.get("by_hand"):
        print("this takeover was by hand: see to it that the services run on the primary again")
    ask(paths, Order.FAILBACK, reason)
    follow(paths, goal="standby", words="the services are stopped here")


def acknowledge(paths: Paths, reason: str) -> None:
    document = running(paths)
    if not document.get("flapping"):
        raise RefusedError("takeovers are not held")
    ask(paths, Order.ACK, reason)
    print("takeovers are allowed again")


# The way there and back.


def running(paths: Paths) -> dict[str, Any]:
    """The status of a monitor that runs, on a standby."""
    seen = look(paths)
    if not seen.running:
        why = "failover-monitor is not running"
        raise RefusedError(why, NOT_RUNNING, "systemctl start failover-monitor")
    if seen.document is None:
        raise RefusedError("failover-monitor has left no status yet", NOT_RUNNING)
    if seen.stale:
        raise RefusedError("the monitor has stopped writing its status", NOT_RUNNING)
    if seen.document.get("role") == "primary":
        raise RefusedError("this host is the primary; ask on the standby")
    return seen.document


def may_ask(paths: Paths) -> None:
    """Before anybody types anything."""
    if not os.access(paths.run, os.W_OK):
        raise PermissionError(13, os.strerror(13), str(paths.run))


def confirmed(word: str, yes: bool) -> None:
    """Let who asks type the word; where nobody can, `--yes` must have been said."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise RefusedError("nobody can be asked here", WRONG_USE, "--yes if the risk is known")
    try:
        answer = input(f"Type {word} to do it: ")
    except EOFError:
        answer = ""
    if answer.strip() != word:
        raise RefusedError("not confirmed, nothing was done")


def ask(paths: Paths, order: Order, reason: str) -> None:
    """Leave a request and wait until the monitor has taken it; raises when it was not."""
    path, words = paths.request(order), wish(reason)
    replace_file(path, json.dumps(words) + "\n")

    def answer() -> dict[str, Any]:
        found = (read_status(paths) or {}).get("request") or {}
        return found if found.get("at_s") == words["at_s"] else {}

    if not comes(lambda: bool(answer())):
        if path.exists():
            path.unlink(missing_ok=True)
            why = f"the monitor has not taken the request within {CONFIRM_S:g} s, it is withdrawn"
            raise RefusedError(why, NOT_RUNNING, "failover-monitor status")
        if order is Order.FAILBACK:
            print("it waits until the primary's service answers its checks")
            return
        raise RefusedError("the monitor took the request and gave no answer", hint="see its log")
    if dropped := answer()["dropped"]:
        raise RefusedError(dropped)


def follow(paths: Paths, *, goal: str, words: str) -> None:
    """Say what happens, until it is done, given up, or takes too long."""
    end_s = time.monotonic() + FOLLOW_S
    told: list[str] = []
    while time.monotonic() < end_s:
        document = read_status(paths) or {}
        phase = document.get("phase", "unknown")
        news = progress(document)
        for line in news:
            if line not in told:
                print(line, flush=True)
        told = news
        if phase == goal:
            print(f"done: {words}")
            return
        if goal == "active" and phase not in (*STANDS_IN, "claim"):
            raise RefusedError(f"it was given up, the phase is {phase}", hint="see the log")
        time.sleep(LOOK_S)
    raise RefusedError(f"not done after {FOLLOW_S:g} s", hint="failover-monitor status")


def progress(document: dict[str, Any]) -> list[str]:
    """What there is to say of it now."""
    units = [f"  {unit['name']} {unit['state']}" for unit in document.get("units", ())]
    waits = [f"  {words}" for words in waits_of(document)]
    # Seconds that are counted down are no news.
    waits = [re.sub(r" \(\d+ s more\)", "", words) for words in waits]
    return [f"phase {document.get('phase', 'unknown')}", *waits, *units]


def comes(what: Callable[[], bool]) -> bool:
    """Whether it comes true while we wait for the monitor."""
    end_s = time.monotonic() + CONFIRM_S
    while not what():
        if time.monotonic() >= end_s:
            return False
        time.sleep(LOOK_S)
    return True
