"""A message, as somebody reads it who was asleep.

Rule: pure, plain text, and the next command stands in it.
"""

import logging
import time
from dataclasses import dataclass

from failover_monitor.agent.outbox import SUM, Entry
from failover_monitor.model import Role
from failover_monitor.text import span

LATE_S = 60.0  # a message that waited for longer says so
SUBJECT_LIMIT = 150
SENTENCE_LIMIT = 600
STATUS = "failover-monitor status"
LOOK = f"look at the primary; on this host: {STATUS}"

MATTERS = {  # what it is about, and what to do
    "primary": ("the primary is down", LOOK),
    "network": ("nobody can tell whether the primary lives", f"ping the gateway; {STATUS}"),
    "held": ("the primary is silent, and nothing is started", f"look at this network; {STATUS}"),
    "reference": (
        "a reference is silent",
        "see whether it may answer echoes; add one in witness_ips",
    ),
    "check": ("a service check fails", LOOK),
    "fence": ("the fence fails", "run its command by hand, then: failover-monitor check"),
    "watch": (
        "nobody watches",
        "systemctl status failover-monitor; journalctl -u failover-monitor -n 50",
    ),
    "service_failed": (
        "a service does not run here",
        "systemctl status SERVICE; journalctl -u SERVICE",
    ),
    "foreign": ("two may be active", "systemctl stop SERVICE here, or on the primary"),
    "two_active": ("two are active", "systemctl stop SERVICE here, or on the primary"),
    "failback_waits": ("two may be active", "failover-monitor failback"),
    "stop_overdue": ("two may be active", "systemctl status SERVICE; systemctl kill SERVICE"),
    "gated": ("the services are held back", STATUS),
    "veto": ("the primary is silent, its service is not", "see why it drops ICMP"),
    "flapping": ("takeovers are held", "mend the primary, then: failover-monitor ack"),
    "claim": ("a takeover waits", STATUS),
    "hook": ("a hook holds the takeover", f"{STATUS}; mend it, it is tried again every 30 s"),
    "paused": ("takeovers are paused", "when the work is done: failover-monitor resume"),
    "unenforced": ("stopping cannot be enforced", "run install.sh again"),
    "config_bad": (
        "the configuration is bad",
        "failover-monitor check; systemctl reload failover-monitor",
    ),
    SUM: ("what happened while no message could be sent", STATUS),
}
ON_PRIMARY = {  # there it is about this host's own contact
    "primary": ("this host is cut off", f"look at this host's network; {STATUS}"),
    "network": (
        "this host does not know whether it is in contact",
        f"ping the gateway; {STATUS}",
    ),
}
OTHER = ("news", "failover-monitor status")
WORDS = ((logging.CRITICAL, "CRITICAL"), (logging.ERROR, "ERROR"), (logging.WARNING, "WARNING"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What goes out."""

    subject: str
    body: str
    mood: str  # "good", "bad" or "worst": apprise paints it


def message(entry: Entry, host: str, role: Role, now_s: float) -> Message:
    """An entry in words; `host` is this host's name, `role` its side of the pair."""
    kind, _, name = entry.key.partition(":")
    matters = MATTERS | ON_PRIMARY if role is Role.PRIMARY else MATTERS
    title, cure = matters.get(kind, OTHER)
    if name and kind in MATTERS:
        title += f" ({name})"
    word = next((word for level, word in WORDS if entry.level >= level), "INFO")
    good = entry.over and entry.key != SUM
    if good:
        word, cure = "OVER", f"nothing; to make sure: {STATUS}"
    if entry.key == SUM:
        word = "LATE"
    latest = str(entry.lines[-1][1])
    subject = f"[{host}] {word}: {title}: {latest}"
    if kind == SUM:
        subject = f"[{host}] {word}: {title}"
    parts = [f"Host:   {host}", f"What:   {title}" + (" - it is over" if good else "")]
    parts.append(f"Since:  {moment(entry.since_s)} ({span(now_s - entry.since_s)} ago)")
    parts.append("Events:")
    parts += [f"  {moment(at_s)}  {str(text)[:SENTENCE_LIMIT]}" for at_s, text in entry.lines]
    if entry.left_out:
        parts.append(f"  ({entry.left_out} more between them)")
    if entry.repeats:
        parts.append(f"  (told {entry.repeats} times more)")
    parts.append(f"To do:  {cure}")
    if entry.key != SUM and now_s - entry.queued_s > LATE_S:
        parts.append(f"Late:   this message waited for {span(now_s - entry.queued_s)}")
    if entry.dropped:
        parts.append(f"Lost:   {entry.dropped} messages before this one did not fit")
    mood = "good" if good else "worst" if entry.level >= logging.ERROR else "bad"
    return Message(subject=subject[:SUBJECT_LIMIT], body="\n".join(parts) + "\n", mood=mood)


def trial(host: str) -> Message:
    """What `--test` sends."""
    body = (
        f"Host:   {host}\nWhat:   a test that somebody asked for\n"
        f"To do:  nothing; to make sure: {STATUS}\n"
    )
    return Message(subject=f"[{host}] TEST: failover-monitor can reach you", body=body, mood="good")


def moment(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(at_s))
