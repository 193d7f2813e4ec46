"""What one target still has to be told, in order.

Rule: pure, and bounded.  The end of what was told is always told; whatever else does not fit is
counted, and the count is told.  What is still waiting is put together, never sent in pieces.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from failover_monitor.agent.conditions import News, Sort

ENTRIES = 200
LINES = 8  # of one message: the first ones and the latest
MATTERS = 500
HOUR_S = 3600.0
STALE_S = HOUR_S  # older messages are summed up in one
SUMMED = 50  # lines of such a sum
SUM = "meanwhile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How patient a target's post is; tests are in more of a hurry."""

    settle_s: float = 2.0  # so long a message waits for what belongs to it
    remind_s: float = HOUR_S  # what goes on is told again so often, with a count
    first_pause_s: float = 5.0  # after a failure; doubled each time
    longest_pause_s: float = 600.0
    window_s: float = 600.0
    messages: int = 20  # so many in one window; more wait, and are put together


@dataclass(slots=True, kw_only=True)
class Entry:
    """One message that waits."""

    key: str
    over: bool  # it tells an end
    step: bool  # its matter has been told of before
    level: int
    since_s: float
    queued_s: float
    lines: list[list[Any]]  # [at_s, sentence]
    left_out: int = 0  # lines
    repeats: int = 0
    dropped: int = 0  # messages before this one

    @property
    def last_s(self) -> float:
        return float(self.lines[-1][0])

    def add(self, lines: list[list[Any]]) -> None:
        """More of the same; the middle is left out when it gets too long."""
        self.lines += lines
        most = SUMMED if self.key == SUM else LINES
        while len(self.lines) > most:
            del self.lines[most // 2]
            self.left_out += 1


@dataclass(slots=True, kw_only=True)
class Told:
    """A matter that this target has been told of."""

    level: int
    since_s: float
    queued_s: float
    lasts: bool  # it will have an end
    repeats: int = 0
    last: list[Any] = field(default_factory=list)


class Outbox:
    """The messages for one target."""

    def __init__(self, level: int, pace: Pace, kept: dict[str, Any] | None = None) -> None:
        """`level`: what is below it is not told; `kept`: what `document` gave earlier."""
        kept = kept or {}
        self.level, self.pace = level, pace
        self.sent = int(kept.get("sent", 0))
        self.failed = int(kept.get("failed", 0))
        self.dropped = int(kept.get("dropped", 0))
        self._untold = int(kept.get("untold", 0))  # dropped, and not said yet
        self._entries = [Entry(**entry) for entry in kept.get("entries", ())]
        self._told = {key: Told(**told) for key, told in kept.get("told", {}).items()}
        self._sent_s: list[float] = list(kept.get("sent_s", ()))
        self._under_way: Entry | None = None

    @property
    def document(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "failed": self.failed,
            "dropped": self.dropped,
            "untold": self._untold,
            "entries": [asdict(entry) for entry in self._entries],
            "told": {key: asdict(told) for key, told in self._told.items()},
            "sent_s": self._sent_s,
        }

    @property
    def waiting(self) -> int:
        return len(self._entries)

    def accept(self, news: News, now_s: float) -> None:
        """Something new; whether and when it is told is decided here."""
        told = self._told.get(news.key)
        if news.sort is Sort.ENDS:
            if told:
                del self._told[news.key]
                self._queue(news, now_s, since_s=told.since_s, repeats=told.repeats)
            return
        if news.level < self.level:
            return
        lasts = news.sort is not Sort.HAPPENED
        step = news.sort is Sort.BEGINS
        if told and not step and told.level >= news.level and self._recent(told.queued_s, now_s):
            told.repeats += 1
            told.last = [news.at_s, news.sentence]
            return
        since_s = told.since_s if told and told.lasts else news.at_s
        repeats = told.repeats if told else 0
        self._told[news.key] = Told(
            level=max(news.level, told.level if told else 0),
            since_s=since_s,
            queued_s=now_s,
            lasts=lasts,
        )
        self._queue(news, now_s, since_s=since_s, repeats=repeats, step=told is not None)
        self._forget_some()

    def tick(self, now_s: float) -> None:
        """Tell again what has been repeated for long; forget what only happened."""
        for key, told in tuple(self._told.items()):
            if self._recent(told.queued_s, now_s):
                continue
            if told.repeats:
                at_s, sentence = told.last
                sort = Sort.LASTS if told.lasts else Sort.HAPPENED
                again = News(
                    key=key, sort=sort, level=told.level, at_s=at_s, sentence=str(sentence)
                )
                self._queue(again, now_s, since_s=told.since_s, repeats=told.repeats)
                told.repeats, told.queued_s = 0, now_s
            elif not told.lasts:
                del self._told[key]

    def next(self, now_s: float) -> Entry | None:
        """The message whose turn it is; `delivered` or `not_delivered` must follow."""
        if not self._entries or 0 <= now_s - self._entries[0].queued_s < self.pace.settle_s:
            return None
        self._sent_s = [s for s in self._sent_s if 0 <= now_s - s < self.pace.window_s]
        if len(self._sent_s) >= self.pace.messages:
            return None
        self._sum_up(now_s)
        self._under_way = self._entries[0]
        self._under_way.dropped = self._untold
        return self._under_way

    def delivered(self, now_s: float) -> None:
        entry = self._entries.pop(0)
        self._untold -= entry.dropped
        self._under_way = None
        self.sent += 1
        self._sent_s.append(now_s)

    def not_delivered(self) -> None:
        self._under_way = None
        self.failed += 1

    def _recent(self, queued_s: float, now_s: float) -> bool:
        return 0 <= now_s - queued_s < self.pace.remind_s

    def _queue(
        self, news: News, now_s: float, *, since_s: float, repeats: int, step: bool = True
    ) -> None:
        entry = Entry(
            key=news.key,
            over=news.sort is Sort.ENDS,
            step=step,
            level=news.level,
            since_s=since_s,
            queued_s=now_s,
            lines=[[news.at_s, news.sentence]],
            repeats=repeats,
        )
        mine = [e for e in self._entries if e.key == news.key and e is not self._under_way]
        if mine and mine[-1].over is entry.over:
            self._join(mine[-1], entry)
            return
        if entry.over and mine and mine[-1].step:  # the last steps are part of the end
            mine[-1].over, mine[-1].queued_s = True, now_s
            self._join(mine[-1], entry)
            return
        if len(mine) > 1:  # it came and went and came: its latest turn stays a message of its own
            mine[1].lines[:0] = mine[0].lines
            mine[1].since_s = min(mine[0].since_s, mine[1].since_s)
            mine[1].left_out += mine[0].left_out
            mine[1].add([])
            self._entries.remove(mine[0])
        self._entries.append(entry)
        if len(self._entries) > ENTRIES:
            self._drop()

    @staticmethod
    def _join(entry: Entry, more: Entry) -> None:
        entry.add(more.lines)
        entry.level = max(entry.level, more.level)
        entry.repeats += more.repeats

    def _drop(self) -> None:
        """The oldest that tells no end; ends are few: one for each matter."""
        free = [entry for entry in self._entries if entry is not self._under_way]
        self._entries.remove(next((entry for entry in free if not entry.over), free[0]))
        self.dropped += 1
        self._untold += 1

    def _forget_some(self) -> None:
        if len(self._told) > MATTERS:
            passing = (key for key, told in self._told.items() if not told.lasts)
            del self._told[next(passing, next(iter(self._told)))]

    def _sum_up(self, now_s: float) -> None:
        """Make one message of all that is stale, if that is more than one."""
        stale = 0
        for entry in self._entries:
            if now_s - entry.last_s < STALE_S:
                break
            stale += 1
        if stale < 2:
            return
        old, self._entries = self._entries[:stale], self._entries[stale:]
        total = Entry(
            key=SUM,
            over=all(entry.over for entry in old),
            step=False,
            level=max(entry.level for entry in old),
            since_s=old[0].lines[0][0],
            queued_s=old[0].queued_s,
            lines=[],
        )
        for entry in old:
            total.left_out += entry.left_out
            total.add([[at_s, _marked(entry, text)] for at_s, text in entry.lines])
        self._entries.insert(0, total)


def _marked(entry: Entry, sentence: str) -> str:
    return f"over: {sentence}" if entry.over and not sentence.startswith("over: ") else sentence
