"""What every lab test is asked when it ends, whatever it was about; and its timeline.

Rule: the world is asked, not the program.  Processes are counted in the kernel's cgroups, files are
read from the hosts' disks, and what the monitor says of itself must agree with both.  A finding is
a sentence; what may still be in motion is looked at again for a second before it is one.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.lab.hosts import Host, Lab, SystemdHost, TreeHost, resolved
from tests.lab.network import LabError, Namespace, Port, Switch
from tests.lab.pair import CONFIG, EVENTS, MONITOR, STATE, STATUS, Standby
from tests.lab.wire import Way, Wire

WORDS = ("active_alive\n", "active_dead\n", "unknown\n")
HISTORY, RUN = "/var/lib/failover-monitor", "/run/failover-monitor"
JSON_FILES = (STATUS, f"{RUN}/intent.json", f"{HISTORY}/intent.json")
MOST_FILES, MOST_THREADS, MOST_CHILDREN = 40, 8, 4  # of one monitor, at rest
LOOKS, PAUSE_S = 11, 0.1  # what is in motion comes to rest within a second
BUGS = ("Traceback", "was never retrieved", "was never awaited", "ResourceWarning")
# In which phases what is asked of systemd makes sense.
ASKED_IN = {
    "start": {"takeover", "active", "opening", "serving"},
    "stop": {"failback", "gated", "closing"},
    "kill": {"gated", "closing"},
}


def findings(lab: Lab, *, two_active: bool = False) -> list[str]:
    """What is wrong at the end of a test; `two_active`: that two hosts serve is its very point."""
    hosts = [host for host in lab.hosts.values() if isinstance(host, SystemdHost)]
    watching = [host for host in hosts if resolved(host.tree, CONFIG).exists()]
    found = [] if two_active else at_rest(lambda: served_twice(watching, hosts))
    for host in watching:
        try:
            found += [f"{host.name}: {sentence}" for sentence in of_host(host)]
        except LabError:
            if is_on(host):  # else it has gone off just now, and cannot be asked
                raise
    return found


def at_rest(look: Callable[[], list[str]]) -> list[str]:
    """Look again for a second, for as long as there is something; what is found at last."""
    found = look()
    for _ in range(LOOKS - 1):
        if not found:
            break
        time.sleep(PAUSE_S)
        found = look()
    return found


# Two active.


def managed(hosts: Iterable[SystemdHost]) -> list[str]:
    """Every unit that a monitor on these hosts was told to manage."""
    names: dict[str, None] = {}
    for host in hosts:
        keys = host.keys if isinstance(host, Standby) else _json(host, CONFIG)
        names |= dict.fromkeys((keys or {}).get("services_to_manage", ()))
    return list(names)


def served_twice(watching: Iterable[SystemdHost], hosts: Iterable[SystemdHost]) -> list[str]:
    """Managed units with processes on more than one host, whatever systemd says of them."""
    found = []
    for unit in managed(watching):
        where = [host.name for host in hosts if populated(host, unit)]
        if len(where) > 1:
            found.append(f"{unit} has processes on {' and '.join(where)}")
    return found


def populated(host: SystemdHost, unit: str) -> bool:
    """Whether anything of a unit is alive, below its cgroup as well."""
    try:
        return "populated 1" in (host.cgroup(unit) / "cgroup.events").read_text()
    except OSError:  # there is no such cgroup, or no longer
        return False


# One host.


def of_host(host: SystemdHost) -> list[str]:
    """What is wrong on one host that has the product."""
    found = leftovers(host, HISTORY) + events_unreadable(host)
    if not is_on(host):
        return found
    journal = journal_of(host, "-u", MONITOR)
    messages = [str(entry.get("MESSAGE", "")) for entry in journal]
    found += [f"the journal has {word!r}" for word in BUGS if word in "\n".join(messages)]
    found += leftovers(host, RUN) + leftovers(host, "/run", "failover_monitor_state")
    found += files_unreadable(host)
    if not any(f"cannot write {EVENTS}" in message for message in messages):
        found += broken_chain(events_of(host))
    found += at_rest(lambda: contradicted(host, journal))
    pid = monitor_of(host)
    return found + (at_rest(lambda: leaked(pid)) if pid else [])


def is_on(host: SystemdHost) -> bool:
    """Whether it has booted and has not been switched off since."""
    return host._up and host._nspawn is not None and host._nspawn.poll() is None


def monitor_of(host: SystemdHost) -> int:
    """The monitor's process on a host; 0 = none."""
    for pid in host.pids(MONITOR):
        try:
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == host.init:
            return pid
    return 0


def leftovers(host: SystemdHost, directory: str, about: str = "") -> list[str]:
    """Temporary files that stay: of every file, or of those whose name has `about` in it."""

    def look() -> list[str]:
        try:
            names = [path.name for path in _place(host, directory).iterdir()]
        except OSError:
            return []
        odd = [name for name in names if name.startswith(".") or name.endswith((".tmp", "~"))]
        return [f"{directory}/{name} is left behind" for name in odd if about in name]

    return at_rest(look)


def files_unreadable(host: SystemdHost) -> list[str]:
    """Files that readers find half-written, or with words that they do not know."""
    found = []
    for path in JSON_FILES:
        text = _text(host, path)
        if text is not None and _parsed(text) is None:
            found.append(f"{path} is no JSON object: {text[-80:]!r}")
    word = _text(host, STATE)
    if word is not None and word not in WORDS:
        found.append(f"the state word is {word!r}")
    return found


def events_unreadable(host: SystemdHost) -> list[str]:
    """Lines of the history that nobody can read; an empty one is the end of one cut short."""

    def look() -> list[str]:
        lines = (_text(host, EVENTS) or "").splitlines()
        bad = [line for line in lines if line and _parsed(line) is None]
        return [f"{EVENTS} has a line that is no JSON object: {line[:80]!r}" for line in bad]

    return at_rest(look)


def events_of(host: SystemdHost) -> list[dict[str, Any]]:
    """The history of a host, oldest first, without what cannot be read."""
    lines = (_text(host, EVENTS) or "").splitlines()
    return [event for line in lines if (event := _parsed(line)) is not None]


def broken_chain(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """Transitions that do not begin where the last one ended, and asks that fit no phase."""
    found = []
    phase = ""  # not known after a start, since a process may go on where another one was
    for event in events:
        match event["kind"]:
            case "started":
                phase = ""
            case "transition":
                if phase not in ("", event["FROM"]):
                    found.append(f"in {phase}, and then {event['what']!r}")
                phase = event["TO"]
            case "asked":
                if phase and phase not in ASKED_IN.get(event["VERB"], {phase}):
                    found.append(f"in {phase} it asked for {event['what']!r}")
    return found


def contradicted(host: SystemdHost, journal: Iterable[Mapping[str, Any]]) -> list[str]:
    """Where status, state word, history and journal tell different stories."""
    status, word, events = _json(host, STATUS) or {}, _text(host, STATE), events_of(host)
    found = [
        f"{path['address']} answered more than it was asked: {path}"
        for path in (*status.get("primary", ()), *status.get("references", ()))
        if path["answered"] > path["sent"]
    ]
    told = [event["what"] for event in events if event["kind"] == "transition"]
    noted = [str(entry["MESSAGE"]) for entry in journal if "TO" in entry and "FROM" in entry]
    if not (is_part(noted, told) or is_part(told, noted)):
        found.append(f"the history has the transitions {told}, the journal {noted}")
    if not monitor_of(host):
        return found
    if status and word is not None and status["state"] != word.strip():
        found.append(f"the state word is {word!r}, status.json has {status['state']!r}")
    began = max((k for k, event in enumerate(events) if event["kind"] == "started"), default=0)
    life = [event["TO"] for event in events[began:] if event["kind"] == "transition"]
    if life and status and status["phase"] != life[-1]:
        found.append(f"status.json has the phase {status['phase']!r}, the history {life[-1]!r}")
    return found


def is_part(some: list[str], of: list[str]) -> bool:
    """Whether all of these stand there, in this order; others may lie between."""
    rest = iter(of)
    return all(any(sentence == other for other in rest) for sentence in some)


def leaked(pid: int) -> list[str]:
    """What a monitor holds that it should have let go."""
    process = Path(f"/proc/{pid}")
    try:
        files = len(list((process / "fd").iterdir()))
        threads = len(list((process / "task").iterdir()))
        text = " ".join(path.read_text() for path in process.glob("task/*/children"))
        children = [Path(f"/proc/{child}/stat").read_text() for child in text.split()]
    except OSError:  # a process that has just ended holds nothing
        return []
    dead = [stat for stat in children if stat.rpartition(")")[2].split()[0] == "Z"]
    counted = {
        f"holds {files} files": files > MOST_FILES,
        f"has {threads} threads": threads > MOST_THREADS,
        f"has {len(children)} children": len(children) > MOST_CHILDREN,
        f"has {len(dead)} dead children that nobody has waited for": bool(dead),
    }
    return [f"the monitor {words}" for words, too_many in counted.items() if too_many]


def journal_of(host: SystemdHost, *words: str) -> list[dict[str, Any]]:
    """Entries of a host's journal, of all its boots, oldest first."""
    wanted = "MESSAGE,FROM,TO,UNIT,_SYSTEMD_UNIT,SYSLOG_IDENTIFIER"
    command = ("journalctl", "--no-pager", "-o", "json", f"--output-fields={wanted}", *words)
    lines = host.run(*command, check=False).stdout.splitlines()
    return [entry for line in lines if (entry := _parsed(line)) is not None]


def _place(host: SystemdHost, path: str) -> Path:
    """Where a file lies for us; of a host that is off, on its disk."""
    return resolved(Path(f"/proc/{host.init}/root") if is_on(host) else host.tree, path)


def _text(host: SystemdHost, path: str) -> str | None:
    try:
        return _place(host, path).read_text(errors="replace")
    except OSError:
        return None


def _json(host: SystemdHost, path: str) -> dict[str, Any] | None:
    return _parsed(_text(host, path) or "")


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


# The timeline.


class Timeline:
    """What a test did to its lab, and what its hosts made of it, in one order.

    Moments are CLOCK_MONOTONIC.  The history has the wall clock of its host: in a test that shifts
    that clock, its lines stand where the clock says.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._began_s = time.monotonic()
        self._done: list[tuple[float, str, str]] = []  # when, to whom, what

    def follow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take down what the test does from now on."""
        recorded: list[tuple[type, str]] = [
            *((Port, name) for name in ("cut", "heal", "lose")),
            *((Switch, name) for name in ("part", "join")),
            *((TreeHost, name) for name in ("freeze", "thaw", "write")),
            *((SystemdHost, name) for name in ("_boot", "halt", "signal", "systemctl")),
            (Wire, "be"),
            (Standby, "configure"),
            (Namespace, "ip"),
            (Namespace, "run"),
        ]
        for kind, name in recorded:
            monkeypatch.setattr(kind, name, self._recording(name, getattr(kind, name)))

    def _recording(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(subject: Any, *words: Any, **options: Any) -> Any:
            told = [*map(_in_words, words), *(f"{k}={_in_words(v)}" for k, v in options.items())]
            if not _only_looks(name, words):
                what = f"{name.strip('_')} {' '.join(told)}".rstrip()
                self._done.append((time.monotonic(), self._whose(subject), what))
            return method(subject, *words, **options)

        return recorded

    def _whose(self, subject: Any) -> str:
        for host in self._lab.hosts.values():
            if subject in (host, host.port, host.namespace, host.port.wire):
                return host.name
        return str(getattr(subject, "name", "a wire"))

    def lines(self) -> Iterator[str]:
        """All of it as text, each line with its seconds since the lab was made."""
        entries = [(when, who, f"<- {what}") for when, who, what in self._done]
        for host in self._lab.hosts.values():
            entries += _told_by(host)
        for when, who, what in sorted(entries, key=lambda entry: entry[0]):
            yield f"{when - self._began_s:9.3f}  {who:<12} {what}"

    def write(self, directory: Path, test: str, remarks: Iterable[str] = ()) -> Path:
        """Write it to a file that is named after the test."""
        directory.mkdir(parents=True, exist_ok=True)
        name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in test)
        path = directory / f"{name[-200:]}.txt"
        path.write_text("\n".join([test, *self.lines(), *remarks]) + "\n")
        return path


def _only_looks(name: str, words: tuple[Any, ...]) -> bool:
    """Whether a call changes nothing, or is the building of a host."""
    if name == "ip":
        return len(words) > 1 or "type " in words[0]
    looks = ("show", "status", "is-", "list-", "daemon-reload")
    return name == "systemctl" and str(words[0]).startswith(looks)


def _in_words(value: Any) -> str:
    if isinstance(value, Way):
        given = {
            field.name: getattr(value, field.name)
            for field in fields(value)
            if field.default is MISSING or getattr(value, field.name) != field.default
        }
        return f"({', '.join(f'{k}={v}' for k, v in given.items())})"
    text = " ".join(str(value).split())
    return text if len(text) < 160 else f"{text[:150]} ..."


def _told_by(host: Host) -> Iterator[tuple[float, str, str]]:
    """The history of a host, and what its systemd has to say of the units in question."""
    if not isinstance(host, SystemdHost):
        return
    behind_s = time.time() - time.monotonic()
    sentences = set()
    for event in events_of(host):
        at = datetime.strptime(f"{event['at']}+0000", "%Y-%m-%d %H:%M:%S,%f%z")
        sentences.add(event["what"])
        yield at.timestamp() - behind_s, host.name, f"{event['kind']}: {event['what']}"
    if not is_on(host):
        yield time.monotonic(), host.name, "it is off: its journal cannot be read"
        return
    units = {MONITOR, *managed(h for h in host.lab.hosts.values() if isinstance(h, SystemdHost))}
    for entry in journal_of(host, "-n", "5000"):
        message = str(entry.get("MESSAGE", ""))
        of_units = units & {str(entry.get("UNIT")), str(entry.get("_SYSTEMD_UNIT"))}
        if of_units and message not in sentences:
            who = entry.get("SYSLOG_IDENTIFIER", "journal")
            yield int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6, host.name, f"{who}: {message}"
