"""The few files we keep: state word, status, intent, events, log.

Rule: nothing here can stop the watch.  Small files are written whole (temporary file, then rename).
What lies in /run is written at once; everything that may sit on a disk goes through one writer
thread behind a bounded queue, so that a full, read-only or hanging disk costs lines, not decisions.
"""

import errno
import fcntl
import json
import logging
import math
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from failover_monitor.events import Event

log = logging.getLogger("failover_monitor")

LOCK_TRIES, LOCK_PAUSE_S = 5, 0.05
QUEUE_LINES = 10_000  # waiting for the disk; more are dropped and counted
EVENTS_BYTES = 2_000_000  # then events.jsonl becomes events.jsonl.1
SAMPLES_BYTES = 5_000_000  # likewise; 7 days of four addresses fit into the predecessor alone
LEFT_BYTES = 1 << 20  # of a request or a pause; a command line has no word that makes it longer
# What every version has written; what came later has a default where it is read.
INTENT_KEYS = frozenset(
    {"boot_id", "phase", "since_s", "settled", "seen", "ours", "services"}
    | {"verdict", "verdict_since_s", "why"}
)
# What reading back a value of another shape raises; a number may be too large for its type.
ODD = (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)
FAR_S = 1e11  # no clock shows it; a moment beyond it is not one
LOG_FORMAT = "%(asctime)s [%(levelname)s] %(message)s"


@dataclass(frozen=True, slots=True)
class Paths:
    """Where everything is (README: what you will see); `root` moves all of it for tests."""

    root: Path = Path("/")
    apart: str = ""  # a directory of its own, for whoever must not be taken for the monitor

    @property
    def dry_run(self) -> "Paths":
        """Where a dry run leaves everything that the monitor leaves elsewhere."""
        return replace(self, apart="dry-run")

    @property
    def state_word(self) -> Path:
        if self.apart:
            return self.run / "failover_monitor_state"
        return self.root / "var/run/failover_monitor_state"

    @property
    def log(self) -> Path:
        """The lines of a dry run are on its standard output, and nobody would turn over a file."""
        return Path(os.devnull) if self.apart else self.root / "var/log/failover_monitor.log"

    @property
    def run(self) -> Path:
        return self.root / "run/failover-monitor" / self.apart

    @property
    def history(self) -> Path:
        return self.root / "var/lib/failover-monitor" / self.apart

    @property
    def config(self) -> Path:
        return self.root / "opt/failover-monitor/config.json"

    @property
    def status(self) -> Path:
        return self.run / "status.json"

    @property
    def lock(self) -> Path:
        return self.run / "lock"

    def request(self, order: str) -> Path:
        """What an operator asks for; only root can leave it, and it is taken once."""
        return self.run / f"{order}.request"

    def pause(self) -> tuple[Path, Path]:
        """What holds now, and what a reboot leaves of it."""
        return (self.run / "pause.json", self.history / "pause.json")

    @property
    def permit(self) -> Path:
        """It exists: managed services may start here (ConditionPathExists= in their drop-ins)."""
        return self.run / "permit"

    @property
    def armed(self) -> Path:
        """It exists: services may run here, so a dead monitor resets this host."""
        return self.run / "armed"

    def drop_ins(self, gated: Iterable[str]) -> Iterable[Path]:
        """What install.sh puts where stopping is enforced, also beside each of these units."""
        units = self.root / "etc/systemd/system"
        yield units / "failover-monitor.service.d/50-guard.conf"
        for unit in gated:
            yield units / f"{unit}.d/50-failover-monitor-gate.conf"

    @property
    def serve_until(self) -> Path:
        return self.run / "serve-until"

    @property
    def events(self) -> Path:
        return self.history / "events.jsonl"

    @property
    def samples(self) -> Path:
        """A line about each minute: echoes sent and answered, round-trip times, silences."""
        return self.history / "samples.jsonl"

    def intent(self) -> Iterable[Path]:
        return (self.run / "intent.json", self.history / "intent.json")

    def last_good_config(self) -> Iterable[Path]:
        return (self.run / "config.last-good.json", self.history / "config.last-good.json")


def replace_file(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a small file whole.  Raises OSError; the old content stays when it does."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write_whole(temporary, text, mode)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):  # what there is of it may be all that is left of the disk
            temporary.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        data = text.encode()
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_if(path: Path, text: str | None) -> None:
    """Remove a file that still says this.  Raises OSError."""
    try:
        found = read_left(path)
    except FileNotFoundError:
        return
    if found == text:
        path.unlink(missing_ok=True)


def read_left(path: Path) -> str:
    """What an operator has left, the beginning of it; a pipe or a flood makes no turn wait.

    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, LEFT_BYTES).decode(errors="replace")
    finally:
        os.close(descriptor)


def read_first(paths: Iterable[Path]) -> str | None:
    """The text of the first file that can be read."""
    for path in paths:
        try:
            return path.read_text()
        except (OSError, UnicodeDecodeError):
            continue
    return None


def load_intent(paths: Paths) -> dict[str, Any] | None:
    """What the last process wrote down, of this boot or an earlier one.

    Where a full file system has left one copy behind, the other one is newer.
    """
    found = [intent for path in paths.intent() if (intent := read_intent(path))]
    same_boot = (intent for intent in found if intent["boot_id"] == found[0]["boot_id"])
    newest = max(same_boot, key=written_s, default=None)
    if newest:
        newest.pop("written_s", None)
    return newest


def read_intent(path: Path) -> dict[str, Any] | None:
    try:
        intent = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    complete = isinstance(intent, dict) and intent.keys() >= INTENT_KEYS
    return intent if complete else None


def written_s(intent: dict[str, Any]) -> float:
    """When it was written, as CLOCK_BOOTTIME; 0 where an older version did not say."""
    stamp = intent.get("written_s")
    return stamp if isinstance(stamp, float) else 0.0


def moment(value: Any) -> float:
    """A time that a clock may show, in seconds.  Raises what is in ODD."""
    seconds = float(value)
    if not 0 <= seconds < FAR_S:
        raise ValueError(f"{seconds} s is no time")
    return seconds


def take_lock(path: Path) -> int | None:
    """Take the lock that says "somebody watches"; None when it is taken.  Held until exit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)  # flock needs no more than to read: nobody else may
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_S)  # `locked` holds it for an instant
        else:
            return descriptor
    os.close(descriptor)
    return None


def locked(path: Path) -> bool:
    """Somebody watches: the lock is held.  Who may not look is told yes: the age must say it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class Writer:
    """One thread that does what may block: jobs in order, dropped and counted when it is stuck."""

    def __init__(self) -> None:
        self.lost = 0
        self._jobs: queue.Queue[Callable[[], object] | None] = queue.Queue(QUEUE_LINES)
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], object]) -> None:
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self.lost += 1

    def close(self, timeout_s: float) -> None:
        """Finish what waits, but never for longer than `timeout_s`."""
        try:
            self._jobs.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:  # noqa: BLE001, a line that cannot be written must not end the others
                self.lost += 1
                traceback.print_exc()


class ThroughWriter(logging.Handler):
    """Hands every record to other handlers, on the writer's thread."""

    def __init__(self, writer: Writer, handlers: Iterable[logging.Handler]) -> None:
        super().__init__()
        self._writer, self._handlers = writer, tuple(handlers)

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.submit(lambda: self._deliver(record))

    def _deliver(self, record: logging.LogRecord) -> None:
        for handler in self._handlers:
            handler.handle(record)


class Lines:
    """Appends lines to a file that others may move, delete, or fill the disk under.

    With `most_bytes` a file that has grown larger becomes its own predecessor, `.1`.
    """

    def __init__(self, path: Path, most_bytes: float = math.inf) -> None:
        self.lost = 0
        self._path = path
        self._most_bytes = most_bytes
        self._descriptor = -1
        self._inode = (0, 0)
        self._torn = False  # the last line was written only in part
        self._failing = False  # and it has been said

    def append(self, line: str) -> None:
        """Write one line; what cannot be written is counted and said once."""
        try:
            self._append(line)
        except OSError as error:
            self.lost += 1
            if not self._failing:  # said through the writer's queue, so to the journal as well
                self._failing = True
                log.warning("cannot write %s: %s", self._path, error.strerror)
            return
        if self._failing:
            self._failing = False
            log.warning("%s can be written again, %d lines are lost", self._path, self.lost)

    def _append(self, line: str) -> None:
        self._reopen_if_moved()
        data = (("\n" if self._torn else "") + line + "\n").encode(errors="replace")
        self._torn = os.write(self._descriptor, data) < len(data)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _reopen_if_moved(self) -> None:
        try:
            found = self._path.stat()
            if found.st_size > self._most_bytes:
                with suppress(OSError):
                    self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            elif self._descriptor >= 0 and (found.st_dev, found.st_ino) == self._inode:
                return
        except FileNotFoundError:
            pass
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o644)
        found = os.fstat(self._descriptor)
        self._inode = (found.st_dev, found.st_ino)
        # An earlier process may have filled the disk, or died in the middle of a line.
        end = os.pread(self._descriptor, 1, max(0, found.st_size - 1))
        self._torn = end not in (b"", b"\n")


class LogHandler(logging.Handler):
    """The log that operators know."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(LOG_FORMAT))
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


class EventsHandler(logging.Handler):
    """events.jsonl: what must be explainable later."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        event: Event | None = getattr(record, "event", None)
        if event is None or event.level < logging.INFO:
            return
        document = {
            "at": logging.Formatter().formatTime(record),
            "at_s": round(record.created, 3),
            "kind": event.kind.name.lower(),
            "level": record.levelname,
            "what": event.sentence,
            **event.fields,
        }
        self._lines.append(json.dumps(document))


class Recorder:
    """All that leaves a trace: events, samples, state word, status, intent."""

    def __init__(self, paths: Paths, journal: logging.Handler, *, debug: bool = False) -> None:
        self.paths = paths
        self.writer = Writer()
        self._word = ""
        self._requests: dict[str, Path] = {}
        self._held = paths.pause()[0]
        self._pause: tuple[tuple[int, int, int], str] | None = None  # as last read
        self._failing: set[Path] = set()
        lines, history = Lines(paths.log), Lines(paths.events, EVENTS_BYTES)
        self._samples = Lines(paths.samples, SAMPLES_BYTES)
        self._lines = (lines, history, self._samples)
        handlers = (LogHandler(lines), EventsHandler(history), journal)
        self._root = ThroughWriter(self.writer, handlers)
        log.setLevel(logging.DEBUG if debug else logging.INFO)
        log.addHandler(self._root)
        for directory in (paths.run, paths.history):
            self._attempt(directory, partial(directory.mkdir, parents=True, exist_ok=True))

    @property
    def lost(self) -> int:
        """Lines that did not reach the log, the history or the samples."""
        return self.writer.lost + sum(lines.lost for lines in self._lines)

    def tell(self, event: Event) -> None:
        extra = {"event": event, "message_id": event.kind.value, "fields": event.fields}
        log.log(event.level, "%s", event.sentence, extra=extra)

    def state_word(self, word: str) -> None:
        if word != self._word:
            path = self.paths.state_word
            if self._attempt(path, partial(replace_file, path, f"{word}\n")):
                self._word = word

    def sample(self, document: dict[str, Any]) -> None:
        line = json.dumps(document, separators=(",", ":"))
        self.writer.submit(partial(self._samples.append, line))

    def status(self, document: dict[str, Any]) -> None:
        text = json.dumps(document, indent=1) + "\n"
        self._attempt(self.paths.status, partial(replace_file, self.paths.status, text))

    def intent(self, document: dict[str, Any]) -> bool:
        """Before anything acts on a decision it lies in /run; history follows when it can."""
        stamp = {"written_s": time.clock_gettime(time.CLOCK_BOOTTIME)}
        return self._keep(self.paths.intent(), json.dumps(document | stamp) + "\n")

    def flag(self, path: Path, *, raised: bool) -> None:
        """A file that means something by being there."""
        if raised:
            if not path.exists():
                self._attempt(path, partial(replace_file, path, ""))
        else:
            self._attempt(path, partial(path.unlink, missing_ok=True))

    def keep_time(self, until_s: float) -> None:
        """When services here must stop, for the next process of this boot."""
        path = self.paths.serve_until
        self._attempt(path, partial(replace_file, path, f"{until_s!r}\n"))

    def kept_time(self) -> float | None:
        try:
            return float(self.paths.serve_until.read_text())
        except (OSError, ValueError):
            return None

    def take_request(self, order: str) -> str | None:
        """Take what an operator has left, if there is something; nobody else will find it."""
        path = self._requests.get(order)
        if path is None:
            path = self._requests[order] = self.paths.request(order)
        if not os.access(path, os.F_OK):  # four of them in every turn: no exception for nothing
            return None
        try:
            text = read_left(path)
        except OSError:
            return None
        return text if self._attempt(path, path.unlink) else None

    def pause_text(self) -> str | None:
        """What the file of the pause in /run says; it is read again only when it is another."""
        path = self._held
        if not os.access(path, os.F_OK):
            self._pause = None
            return None
        try:
            found = path.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._pause is None or self._pause[0] != stamp:
                self._pause = stamp, read_left(path)
        except OSError:
            self._pause = None
        return self._pause[1] if self._pause else None

    def recall_pause(self) -> None:
        """After a reboot a pause goes on; before anybody watches, for this may wait for a disk."""
        volatile, lasting = self.paths.pause()
        if not volatile.exists() and (text := read_first((lasting,))):
            self._attempt(volatile, partial(replace_file, volatile, text))

    def end_pause(self) -> None:
        """Remove both files; but not a pause that somebody has begun meanwhile."""
        volatile, lasting = self.paths.pause()
        text = self._pause[1] if self._pause else None
        self._attempt(volatile, partial(remove_if, volatile, text))
        self.writer.submit(partial(self._attempt, lasting, partial(remove_if, lasting, text)))

    def last_good_config(self, text: str) -> None:
        self._keep(self.paths.last_good_config(), text, mode=0o640)

    def close(self) -> None:
        log.removeHandler(self._root)
        self.writer.close(timeout_s=2.0)

    def _keep(self, places: Iterable[Path], text: str, *, mode: int = 0o644) -> bool:
        volatile, lasting = places
        write = partial(replace_file, lasting, text, mode=mode)
        self.writer.submit(partial(self._attempt, lasting, write))
        return self._attempt(volatile, partial(replace_file, volatile, text, mode=mode))

    def _attempt(self, path: Path, write: Callable[[], object]) -> bool:
        """Write; say once when it begins to fail, and once when it works again."""
        try:
            write()
        except OSError as error:
            if path not in self._failing:
                self._failing.add(path)
                log.warning("cannot write %s: %s", path, error.strerror)
            return False
        if path in self._failing:
            self._failing.discard(path)
            log.warning("%s can be written again", path)
        return True
