"""What we may believe about the lease: when to ask the store, and until when it is ours.

Rule: pure, and never longer than the store.  A hold is counted from the moment its request was
sent, on a clock that may be wrong by RHO, as the store's own may be; the store counts from the
receipt.  Nothing but a granted request lengthens a hold, and an expired one has to be won anew.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import inf

from failover_monitor.model import RENEWALS, RHO, LeasePolicy, Outcome

ANSWER_SHARE = 5  # a request that is unanswered after ttl / 5 is given up


class Wish(StrEnum):
    """What a request asks of the store."""

    ACQUIRE = "acquire"  # nobody holds it: make it ours
    RENEW = "renew"  # it is still ours, and for another ttl
    RELEASE = "release"  # it is nobody's any more


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to the store."""

    number: int
    verb: Wish
    sent_s: float
    settled: bool = True  # whoever held it in an earlier store has been waited out


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request."""

    number: int
    outcome: Outcome  # PASS: granted; FAIL: somebody else's, or ours is gone; UNKNOWN: no answer
    holder: str = ""  # who holds it; "" = nobody, or not known
    fresh: bool = False  # the store is new: whoever held it before is unknown to it
    why: str = ""


def held_for_s(ttl_s: float) -> float:
    """How long a granted request is good for, from its sending, on our clock."""
    return ttl_s * (1 - 2 * RHO)


def waited_out_s(ttl_s: float) -> float:
    """After so long on our clock, whoever held it before and could not renew holds it no more."""
    return ttl_s * (1 + 2 * RHO)


class Keeper:
    """Asks for the lease while it is wanted, keeps it, and gives it back.

    The caller sets `wanted`, calls `tick` at `due_s` and after every change, sends what it
    returns and hands the answer to `replied`.  One request is outstanding at a time; one that is
    given up counts for nothing but bad news.
    """

    def __init__(self, policy: LeasePolicy, now_s: float) -> None:
        self.wanted = False
        self.until_s = -inf  # we hold it until then; -inf = we do not
        self.holder = ""  # whom we last saw hold it; "" = nobody, or not known
        self.why = "not asked for"
        self._name = policy.holder
        self._ttl_s = policy.ttl_s
        self._again_s = policy.ttl_s / RENEWALS
        self._answer_s = policy.ttl_s / ANSWER_SHARE
        self._last = Ask(0, Wish.RELEASE, now_s)
        self._open = False  # the last request may still be answered
        self._won = 0  # the request that won the present hold
        self._ours_s = -inf  # the store keeps it for us until then
        self._newness_s = -inf  # in a new store: from then on nobody else can believe in a hold
        self._owed_s = -inf  # until then the store may count us as its holder

    def held(self, now_s: float) -> bool:
        """Whether it is ours at that moment."""
        return now_s < self.until_s

    @property
    def due_s(self) -> float:
        """When `tick` has something to do, if nothing else happens before; inf = never."""
        due_s = inf
        if self._open:
            due_s = self._last.sent_s + self._answer_s
        elif (verb := self._verb()) is not None:
            won_now = verb is Wish.RENEW and self._last.verb is Wish.ACQUIRE
            again = (verb is self._last.verb or won_now) and not self._unsaid
            due_s = self._last.sent_s + (self._again_s if again else 0.0)
        if self._ours_s > -inf:
            due_s = min(due_s, self._ours_s)
        if self._newness_s > -inf:
            due_s = min(due_s, self._newness_s)
        return due_s

    def tick(self, now_s: float) -> Ask | None:
        """What is to be asked now, if anything."""
        self._pass_time(now_s)
        if self._open or now_s < self.due_s or (verb := self._verb()) is None:
            return None
        if verb is Wish.RELEASE:
            self._drop()
            self.why = "given back"
        elif verb is Wish.ACQUIRE:
            self._owed_s = now_s + self._answer_s + waited_out_s(self._ttl_s)
        settled = self._newness_s == -inf
        self._last = Ask(self._last.number + 1, verb, now_s, settled)
        self._open = True
        return self._last

    def replied(self, reply: Reply, now_s: float) -> None:
        """Take in an answer."""
        self._pass_time(now_s)
        if not self._open or reply.number != self._last.number:
            # Too late to gain anything by: but what was lost while we held it is lost.
            if reply.outcome is Outcome.FAIL and reply.number > self._won and self._ours_s > -inf:
                self._lost(reply)
            return
        self._open = False
        match reply.outcome:
            case Outcome.PASS:
                self._granted(reply, now_s)
            case Outcome.FAIL:
                self._lost(reply)
            case Outcome.UNKNOWN:
                self.why = reply.why or "no answer"

    def _verb(self) -> Wish | None:
        if self.wanted:
            return Wish.RENEW if self._ours_s > -inf else Wish.ACQUIRE
        return Wish.RELEASE if self._owed_s > -inf else None

    @property
    def _unsaid(self) -> bool:
        """A new store is new no more, and does not know it: our next process would wait again."""
        return not self._last.settled and self._newness_s == -inf

    def _pass_time(self, now_s: float) -> None:
        """What comes true by waiting."""
        if self._open and now_s >= self._last.sent_s + self._answer_s:
            self._open = False
            self.why = "no answer in time"
        if -inf < self._ours_s <= now_s:
            self._drop()
            self.why = f"it ran out ({self.why})"
        if self._owed_s <= now_s:
            self._owed_s = -inf
        if -inf < self._newness_s <= now_s:
            self._newness_s = -inf
            self.until_s = self._ours_s
            self.why = "held"

    def _granted(self, reply: Reply, now_s: float) -> None:
        if self._last.verb is Wish.RELEASE:
            self._owed_s = -inf
            self.holder = reply.holder
            return
        self._owed_s = now_s + waited_out_s(self._ttl_s)
        self._ours_s = self._last.sent_s + held_for_s(self._ttl_s)
        self.holder = self._name
        if self._last.verb is Wish.ACQUIRE:
            self._won = self._last.number
            if reply.fresh:
                self._newness_s = now_s + waited_out_s(self._ttl_s)
        if self._newness_s > -inf:
            self.why = f"ours; the store is new: waiting {self._ttl_s:g} s for older holds"
        else:
            self.until_s = self._ours_s
            self.why = "held"

    def _lost(self, reply: Reply) -> None:
        self._drop()
        self._owed_s = -inf
        self.holder = reply.holder
        self.why = reply.why

    def _drop(self) -> None:
        self._ours_s = self.until_s = self._newness_s = -inf
        self._open = False  # what is under way was about this hold
