"""What an operator asks of the monitor, and the pause: what the files say, and what became of it.

Rule: pure, and nothing waits for a better day.  A request is taken once, soon after it was left,
and either moves something then or is dropped and said; but a failback may wait for as long as the
primary answers.  A pause has an end that no clock can move away.
"""

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from failover_monitor.model import (
    BY_HAND,
    INF,
    SERVING,
    Observation,
    PairState,
    Phase,
    Role,
    Transition,
    Verdict,
)
from failover_monitor.text import one_line

FRESH_S = 15.0  # a request older than this was left for nobody: a turn is at most 3 s away
LONGEST_S = 30 * 86400.0  # a pause
REMIND_S = 600.0  # a pause is told again so often
SOON_OVER_S = 300.0  # and so long before it ends
UNREADABLE = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
AHEAD_S = 60.0  # what was written after this turn began, or before a clock was stepped


class Order(StrEnum):
    """What can be asked for; the name of the request's file."""

    TAKEOVER = "takeover"
    FAILBACK = "failback"
    ACK = "ack"
    RESUME = "resume"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One wish of one person."""

    by: str  # login user
    at_s: float  # seconds since 1970
    reason: str = ""

    @property
    def fields(self) -> dict[str, str]:
        """For the journal."""
        return {"BY": self.by, "REASON": self.reason}

    def __str__(self) -> str:
        return f"{self.by}: {self.reason}" if self.reason else self.by


@dataclass(frozen=True, slots=True)
class Boot:
    """Which boot of this host this is, and when it was, as CLOCK_BOOTTIME."""

    id: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Hands off for a while."""

    request: Request
    length_s: float
    boot_id: str  # of the boot in which it began
    began_s: float  # CLOCK_BOOTTIME of that boot
    until: str  # its end, for people

    def end_s(self, now_s: float, wall_s: float, boot: Boot) -> float:
        """When it ends, as CLOCK_BOOTTIME: at its end by the wall clock.

        But within a boot never later than its length, however the wall clock is stepped: in the
        boot in which it began counted from then, in a later one from the boot.
        """
        by_the_wall_s = now_s + self.request.at_s + self.length_s - wall_s
        began_s = self.began_s if boot.id == self.boot_id else boot.at_s
        return min(by_the_wall_s, began_s + self.length_s)

    @property
    def words(self) -> str:
        return f"paused by {self.request.by} until {self.until}: {self.request.reason}"


def read_request(text: str) -> Request | None:
    """What a request's file says; None: it cannot be understood."""
    try:
        found = json.loads(text)
        by, reason = one_line(str(found["by"])), one_line(str(found["reason"]))
        request = Request(by=by, at_s=float(found["at_s"]), reason=reason)
    except UNREADABLE:
        return None
    return request if math.isfinite(request.at_s) and request.by else None


def read_pause(text: str) -> Pause | None:
    """What the file of a pause says; None: it cannot be understood, and must hold nobody."""
    request = read_request(text)
    if request is None:
        return None
    try:
        found = json.loads(text)
        pause = Pause(
            request=request,
            length_s=float(found["length_s"]),
            boot_id=str(found["boot_id"]),
            began_s=float(found["began_s"]),
            until=one_line(str(found["until"])),
        )
    except UNREADABLE:
        return None
    bounded = 0 < pause.length_s <= LONGEST_S and math.isfinite(pause.began_s)
    return pause if bounded else None


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a wish, for the record."""

    sentence: str
    fields: dict[str, str]
    paused: bool = False  # it is about the pause
    calm: bool = True  # it went as it was asked for


class Orders:
    """What has been asked and not had yet; and the pause, while there is one."""

    def __init__(self, boot: Boot, role: Role) -> None:
        self.pause: Pause | None = None
        self.ended = False  # a pause has; the caller takes and clears it
        self.due_s = INF  # when the present one ends, as the clocks stand now
        self.pending: dict[Order, Request] = {}
        self.told: list[Told] = []  # the caller takes and clears them
        self.answer: dict[str, Any] | None = None  # what became of the latest request
        self._boot, self._role = boot, role
        self._granted: dict[Order, Request] = {}  # the latest of each that was not dropped
        self._text: str | None = None  # of the pause's file
        self._remind_s = -INF

    # Requests.

    def take(self, order: Order, text: str, wall_s: float) -> None:
        """Take what was left in the file of a request."""
        request = read_request(text)
        if request is None:
            self._tell(f"a request for {order} is not understood, and dropped", {}, calm=False)
            return
        if not -AHEAD_S <= wall_s - request.at_s <= FRESH_S:
            age = f"it is {wall_s - request.at_s:.0f} s old"
            self._drop(order, request, age)
            return
        self._tell(f"{order} asked for by {request}", request.fields | {"ORDER": order.value})
        self.pending[order] = request

    def asked(self, order: Order) -> str:
        """Who asks for it now; "" = nobody."""
        request = self.pending.get(order)
        return request.by if request else ""

    def fields(self, transition: Transition) -> dict[str, str]:
        """Who asked for this transition, and why; nothing if nobody did."""
        if transition.because != BY_HAND:
            return {}
        order = Order.FAILBACK if transition.target is Phase.FAILBACK else Order.TAKEOVER
        claimed = transition.source is Phase.CLAIM
        request = (self._granted if claimed else self.pending).get(order)
        return request.fields if request else {}

    def settle(self, transition: Transition | None, state: PairState, seen: Observation) -> None:
        """See what became of each request in one decision."""
        moved = transition is not None and transition.because == BY_HAND
        source, target = (transition.source, transition.target) if transition else (None, None)
        if request := self.pending.get(Order.TAKEOVER):
            if moved and source is not Phase.CLAIM and target is not Phase.FAILBACK:
                self._done(Order.TAKEOVER, request)
            else:
                self._drop(Order.TAKEOVER, request, why_no_takeover(state, seen))
        if request := self.pending.get(Order.FAILBACK):
            if moved and target is Phase.FAILBACK:
                self._done(Order.FAILBACK, request)
            elif why := why_no_failback(state, seen):
                self._drop(Order.FAILBACK, request, why)
        if request := self.pending.get(Order.ACK):
            if seen.acknowledged:
                self._done(Order.ACK, request)
                self._tell(f"takeovers are allowed again, says {request}", request.fields)
            else:
                self._drop(Order.ACK, request, "takeovers are not held")

    def _done(self, order: Order, request: Request) -> None:
        self.pending.pop(order, None)
        self._granted[order] = request
        self.answer = {"order": order.value, "at_s": request.at_s, "dropped": ""}

    def _drop(self, order: Order, request: Request, why: str) -> None:
        self.pending.pop(order, None)
        self.answer = {"order": order.value, "at_s": request.at_s, "dropped": why}
        sentence = f"the {order} that {request.by} asked for is dropped: {why}"
        fields = request.fields | {"ORDER": order.value, "WHY": why}
        self._tell(sentence, fields, calm=False)

    def document(self) -> dict[str, Any]:
        """For status.json: the pause, and what became of the latest request."""
        pause = self.pause
        return {
            "paused": pause
            and {
                "by": pause.request.by,
                "reason": pause.request.reason,
                "until": pause.until,
                "at_s": pause.request.at_s,
            },
            "request": self.answer,
        }

    # The pause.

    def heed(self, text: str | None, now_s: float, wall_s: float) -> bool:
        """Go by what the file of the pause says now; says whether it is to be removed."""
        if text != self._text:
            self._text, self.due_s = text, INF
            self._begin(text, now_s)
        if self.pause is None:
            if request := self.pending.get(Order.RESUME):
                self._drop(Order.RESUME, request, "nothing is paused")
            return text is not None
        end_s = self.pause.end_s(now_s, wall_s, self._boot)
        if request := self.pending.get(Order.RESUME):
            self._done(Order.RESUME, request)
            self._end(f"resumed by {request}", request)
        elif now_s >= end_s:
            self._end("the pause has reached its end", self.pause.request)
        elif now_s >= self._remind_s:
            self._remind(self.pause, now_s, end_s)
        self.due_s = end_s if self.pause else INF
        return self.pause is None

    def _begin(self, text: str | None, now_s: float) -> None:
        """Understand a file that is new here."""
        before, self.pause = self.pause, None
        pause = read_pause(text) if text is not None else None
        if text is None:
            if before:
                self._end("the file of the pause was taken away", before.request)
        elif pause is None or (pause.boot_id == self._boot.id and pause.began_s > now_s + AHEAD_S):
            self._tell("the file of the pause is not understood: no pause", {}, calm=False)
            if before:
                self._end("the pause before it is over", before.request)
        elif self._role is Role.PRIMARY:
            self._tell("no pause: the guard of a primary is never paused", {}, calm=False)
        else:
            self.pause, self._remind_s = pause, -INF

    def _remind(self, pause: Pause, now_s: float, end_s: float) -> None:
        """Say that it lasts: when it begins, every so often, and before it ends."""
        soon_s = end_s - SOON_OVER_S
        self._remind_s = min(now_s + REMIND_S, soon_s) if now_s < soon_s else INF
        fields = pause.request.fields | {"PAUSE": "lasts"}
        self._tell(f"{pause.words}; no takeover will happen", fields, paused=True)

    def _end(self, how: str, request: Request) -> None:
        self.pause, self.ended = None, True
        fields = request.fields | {"PAUSE": "over"}
        self._tell(f"{how}: hands on again, after fresh checks", fields, paused=True)

    def _tell(
        self, sentence: str, fields: dict[str, str], *, paused: bool = False, calm: bool = True
    ) -> None:
        self.told.append(Told(sentence, fields, paused, calm))


def why_no_takeover(state: PairState, seen: Observation) -> str:
    """Why an operator's takeover cannot begin."""
    if seen.paused:
        return f"{seen.paused}; resume first"
    if seen.host_stopping:
        return "this host is shutting down"
    if state.phase in (*SERVING, Phase.CLAIM):
        return f"one is under way already, the phase is {state.phase}"
    return f"the phase is {state.phase}"


def why_no_failback(state: PairState, seen: Observation) -> str:
    """Why an operator's failback has no reason any more; "" = it may wait."""
    if seen.paused:
        return f"{seen.paused}; resume first"
    if state.phase not in SERVING:
        return f"we do not serve, the phase is {state.phase}"
    if seen.verdict is not Verdict.UP:
        return "the primary does not answer"
    return ""
