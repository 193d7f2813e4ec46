"""The lease: never two holders, whatever clocks, networks, stores and operators do."""

import asyncio
import heapq
import itertools
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from failover_monitor.leases import KINDS, Ask, Keeper, Reply
from failover_monitor.leases.etcd import (
    ANSWER_BYTES,
    EtcdLease,
    Member,
    look_around,
    session_for,
)
from failover_monitor.leases.keeper import Wish
from failover_monitor.model import RHO, LeasePolicy, Outcome
from tests.etcd import Client, Cluster, Tls, etcd, gateway, key, until

TTL_S = 15.0
SPAN_S = TTL_S * (1 - 2 * RHO)
WAIT_S = TTL_S * (1 + 2 * RHO)
ROOT = Path(__file__).resolve().parents[1]


def lease(
    holder: str = "standby",
    *,
    ttl_s: float = TTL_S,
    endpoints: Sequence[str] = (),
    name: str = "pair",
) -> LeasePolicy:
    return LeasePolicy(
        engine="etcd", endpoints=tuple(endpoints), name=name, holder=holder, ttl_s=ttl_s
    )


# --- the keeper, alone -------------------------------------------------------------------------


class Story:
    """A keeper, and a clock that moves when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.keeper = Keeper(lease(), self.now_s)
        self.keeper.wanted = True

    def next(self) -> Ask:
        """The next request, when it is due."""
        while True:
            assert self.keeper.due_s < inf, "nothing is due"
            self.now_s = max(self.now_s, self.keeper.due_s)
            if ask := self.keeper.tick(self.now_s):
                return ask

    def reply(
        self,
        ask: Ask,
        outcome: Outcome = Outcome.PASS,
        *,
        after_s: float = 0.0,
        holder: str = "",
        fresh: bool = False,
    ) -> None:
        self.now_s += after_s
        self.keeper.replied(Reply(ask.number, outcome, holder, fresh, "told"), self.now_s)

    def win(self) -> Ask:
        ask = self.next()
        assert ask.verb is Wish.ACQUIRE
        self.reply(ask)
        assert self.held
        return ask

    @property
    def held(self) -> bool:
        return self.keeper.held(self.now_s)


def test_nothing_is_asked_for_a_lease_that_nobody_wants() -> None:
    """A keeper that was never told to want it stays silent for ever."""
    story = Story()
    story.keeper.wanted = False
    assert story.keeper.due_s == inf
    assert story.keeper.tick(story.now_s + 1e6) is None
    assert not story.held


def test_a_wanted_lease_is_asked_for_at_once_and_then_every_sixth_of_the_ttl() -> None:
    """A refusal is no reason to hurry, and none to give up."""
    story = Story()
    for number in range(5):
        ask = story.next()
        assert ask.verb is Wish.ACQUIRE
        assert ask.sent_s == pytest.approx(1000 + number * TTL_S / 6)
        story.reply(ask, Outcome.FAIL, after_s=0.1, holder="primary")
        assert story.keeper.holder == "primary"
        assert not story.held


def test_a_hold_counts_from_the_moment_its_request_was_sent() -> None:
    """However long the answer took: the store may have begun to count at once."""
    story = Story()
    ask = story.next()
    story.reply(ask, after_s=2.0)
    assert story.keeper.until_s == pytest.approx(ask.sent_s + SPAN_S)
    assert (story.held, story.keeper.holder) == (True, "standby")
    renewal = story.next()
    assert renewal.verb is Wish.RENEW
    assert renewal.sent_s == pytest.approx(ask.sent_s + TTL_S / 6)
    story.reply(renewal, after_s=2.5)
    assert story.keeper.until_s == pytest.approx(renewal.sent_s + SPAN_S)


def test_an_answer_that_took_longer_than_the_hold_gives_none() -> None:
    """It would be over by the time we hear of it."""
    story = Story()
    ask = story.next()
    story.reply(ask, after_s=TTL_S)
    assert not story.held
    assert story.next().verb is Wish.ACQUIRE


def test_one_request_at_a_time_and_an_unanswered_one_is_given_up() -> None:
    """After a fifth of the ttl the next one goes out, and the old one counts for nothing."""
    story = Story()
    first = story.next()
    assert story.keeper.tick(first.sent_s + TTL_S / 5 - 0.01) is None
    second = story.next()
    assert second.sent_s == pytest.approx(first.sent_s + TTL_S / 5)
    story.reply(first)
    assert not story.held
    story.reply(second)
    assert story.held


def test_an_answer_to_an_older_request_lengthens_nothing() -> None:
    """Whatever it says, what is believed follows from the newest request alone."""
    story = Story()
    story.win()
    old = story.next()
    newer = story.next()
    assert newer.number == old.number + 1
    before_s = story.keeper.until_s
    story.reply(old)
    assert story.keeper.until_s == before_s


def test_a_refused_renewal_ends_the_hold_at_once() -> None:
    """Also when it comes late, as long as it is about this hold."""
    for late in (False, True):
        story = Story()
        story.win()
        ask = story.next()
        if late:
            story.next()
        story.reply(ask, Outcome.FAIL, holder="primary")
        assert (story.keeper.until_s, story.keeper.holder) == (-inf, "primary")


def test_a_refusal_of_an_earlier_claim_does_not_end_a_hold_won_since() -> None:
    """It tells of the time before."""
    story = Story()
    refused = story.next()
    story.win()
    story.reply(refused, Outcome.FAIL, holder="primary")
    assert story.held


def test_no_answer_changes_nothing() -> None:
    """Neither the hold nor whom we saw hold it; and the next renewal goes out in time."""
    story = Story()
    story.win()
    before_s = story.keeper.until_s
    asks = []
    while story.keeper.due_s < before_s:
        asks.append(story.next())
        if asks[-1].verb is Wish.RENEW:
            story.reply(asks[-1], Outcome.UNKNOWN, after_s=0.2)
            assert story.keeper.until_s == before_s
    assert len([ask for ask in asks if ask.verb is Wish.RENEW]) >= 4
    assert story.keeper.holder == "standby"


def test_a_hold_that_ran_out_is_won_anew_and_never_renewed() -> None:
    """In between somebody else may have held it."""
    story = Story()
    story.win()
    while (ask := story.next()).verb is Wish.RENEW:
        last = ask
    assert ask.verb is Wish.ACQUIRE
    assert not story.held
    story.reply(last)
    assert not story.held
    assert "ran out" in story.keeper.why


def test_a_renewal_that_is_granted_after_the_hold_ran_out_revives_nothing() -> None:
    """Whoever stopped serving must win it again."""
    story = Story()
    story.win()
    asks = [story.next() for _ in range(4)]
    assert asks[-1].verb is Wish.RENEW
    story.now_s = story.keeper.until_s
    story.reply(asks[-1])
    assert not story.held
    assert story.next().verb is Wish.ACQUIRE


def test_the_winner_in_a_new_store_waits_for_those_it_does_not_know() -> None:
    """It renews meanwhile, and says that it still waits; then it holds at once, and says so.

    Until the store knows, this host's next process would have to wait anew.
    """
    story = Story()
    ask = story.next()
    story.reply(ask, after_s=1.0, fresh=True)
    from_s = story.now_s + WAIT_S
    while story.keeper.due_s < from_s:
        assert not story.held
        renewal = story.next()
        assert (renewal.verb, renewal.settled) == (Wish.RENEW, False)
        story.reply(renewal, after_s=0.1)
    assert story.keeper.due_s == pytest.approx(from_s)
    assert story.keeper.tick(from_s - 0.01) is None
    assert not story.held
    said = story.keeper.tick(from_s)
    assert story.keeper.held(from_s)
    assert said
    assert (said.verb, said.settled) == (Wish.RENEW, True)
    story.now_s = from_s
    story.reply(said, after_s=0.1)
    assert story.next().sent_s == pytest.approx(from_s + TTL_S / 6)


def test_a_refusal_while_waiting_in_a_new_store_ends_the_wait() -> None:
    """Nothing is held after it, whenever the wait would have ended."""
    story = Story()
    story.reply(story.next(), fresh=True)
    story.reply(story.next(), Outcome.FAIL, holder="primary")
    story.keeper.wanted = False
    story.now_s += 2 * TTL_S
    story.keeper.tick(story.now_s)
    assert not story.held


def test_what_is_not_wanted_any_more_is_given_back() -> None:
    """It counts as not held from the moment of the request, and is asked once when answered."""
    story = Story()
    story.win()
    story.keeper.wanted = False
    ask = story.next()
    assert (ask.verb, ask.sent_s) == (Wish.RELEASE, 1000.0)
    assert story.keeper.until_s == -inf
    story.reply(ask)
    assert story.keeper.due_s == inf
    assert story.keeper.holder == ""


def test_giving_back_is_tried_until_answered_or_expired() -> None:
    """After that the store keeps nothing for us."""
    story = Story()
    story.win()
    story.keeper.wanted = False
    asks = 0
    while story.keeper.due_s < inf:
        story.now_s = max(story.now_s, story.keeper.due_s)
        if ask := story.keeper.tick(story.now_s):
            assert ask.verb is Wish.RELEASE
            asks += 1
    assert asks >= 5
    assert story.now_s <= 1000 + 1.5 * TTL_S


def test_a_claim_without_an_answer_is_given_back_too() -> None:
    """The store may have granted it: whoever is refused now would wait for nothing."""
    story = Story()
    story.next()
    story.keeper.wanted = False
    assert story.next().verb is Wish.RELEASE


def test_wanted_again_while_it_is_given_back() -> None:
    """It is claimed as soon as that is answered, and never held in between."""
    story = Story()
    story.win()
    story.keeper.wanted = False
    release = story.next()
    story.keeper.wanted = True
    assert story.keeper.tick(story.now_s) is None
    story.reply(release, after_s=0.5)
    assert not story.held
    ask = story.next()
    assert (ask.verb, ask.sent_s) == (Wish.ACQUIRE, story.now_s)


# --- two keepers and a model of the store ------------------------------------------------------


@dataclass(slots=True)
class Store:
    """What etcd does for us: one holder, for one ttl from the receipt, on a clock of its own."""

    ttl_s: float
    holder: str = ""
    token: object = None
    until_s: float = -inf
    settled: bool = False

    def answer(self, ask: Ask, who: str, token: object, now_s: float) -> Reply:
        if self.until_s <= now_s:
            self.holder, self.token = "", None
        match ask.verb:
            case Wish.ACQUIRE if self.holder in ("", who):
                self.holder, self.token, self.until_s = who, token, now_s + self.ttl_s
                return Reply(ask.number, Outcome.PASS, who, fresh=not self.settled)
            case Wish.RENEW if self.token == token:
                self.until_s = now_s + self.ttl_s
                self.settled = self.settled or ask.settled
                return Reply(ask.number, Outcome.PASS, who)
            case Wish.RELEASE:
                if self.token == token:
                    self.until_s = -inf
                return Reply(ask.number, Outcome.PASS)
        return Reply(ask.number, Outcome.FAIL, self.holder)


@dataclass(slots=True)
class Claim:
    """One host: its keeper and its clock."""

    name: str
    rate: float
    keeper: Keeper = field(init=False)
    token: object = None
    asleep_s: float = -inf  # its process stands still until then

    def __post_init__(self) -> None:
        self.restart(0.0)

    def clock(self, now_s: float) -> float:
        return 500.0 + now_s * self.rate

    def restart(self, now_s: float) -> None:
        self.keeper = Keeper(lease(self.name), self.clock(now_s))

    def due_s(self, now_s: float) -> float:
        due_s = (self.keeper.due_s - 500.0) / self.rate
        # Never quite in the past: the world's clock and the host's are rounded differently.
        return max(due_s, self.asleep_s, now_s) + 1e-9


class World:
    """Hosts and store, with every request and every answer on its own way."""

    def __init__(self, rates: tuple[float, float, float], fates: Sequence[float | None]) -> None:
        self.now_s = 0.0
        self.store = Store(TTL_S / rates[2])
        self.claims = [Claim("primary", rates[0]), Claim("standby", rates[1])]
        self.fates = iter(fates)
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.serial = itertools.count()
        self.holds = 0
        self.older_s = -inf  # until then the stores before this one kept it for somebody

    def at(self, when_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (when_s, next(self.serial), call))

    def happen(self, claim: Claim, what: str) -> None:
        match what:
            case "want":
                claim.keeper.wanted = True
            case "leave":
                claim.keeper.wanted = False
            case "restart":
                wanted = claim.keeper.wanted
                claim.restart(self.now_s)
                claim.keeper.wanted = wanted
            case "sleep":
                claim.asleep_s = self.now_s + TTL_S * 0.9
            case "wipe":
                self.older_s = max(self.older_s, self.store.until_s)
                self.store = Store(self.store.ttl_s)
            case "elect":  # a new leader begins to count anew
                if self.store.until_s > self.now_s:
                    self.store.until_s = self.now_s + self.store.ttl_s

    def ask(self, claim: Claim, ask: Ask) -> None:
        if ask.verb is Wish.ACQUIRE:
            claim.token = object()
        keeper, token = claim.keeper, claim.token
        out_s, back_s = next(self.fates, 0.01), next(self.fates, 0.01)
        if out_s is None:
            return

        def arrive() -> None:
            reply = self.store.answer(ask, claim.name, token, self.now_s)
            if back_s is not None:
                self.at(self.now_s + back_s, lambda: come_back(reply))

        def come_back(reply: Reply) -> None:
            if claim.asleep_s > self.now_s:
                self.at(claim.asleep_s, lambda: come_back(reply))
            else:
                keeper.replied(reply, claim.clock(self.now_s))

        self.at(self.now_s + out_s, arrive)

    def play(self, end_s: float) -> None:
        while True:
            claim = min(self.claims, key=lambda claim: claim.due_s(self.now_s))
            due_s = claim.due_s(self.now_s)
            next_s = self.queue[0][0] if self.queue else inf
            if min(due_s, next_s) > end_s:
                return
            if next_s <= due_s:
                self.now_s, _, call = heapq.heappop(self.queue)
                call()
            else:
                self.now_s = due_s
                if ask := claim.keeper.tick(claim.clock(self.now_s)):
                    self.ask(claim, ask)
            self.judge()

    def judge(self) -> None:
        """Never two; and whoever holds it is kept by the store for longer than it believes."""
        held = [c for c in self.claims if c.keeper.held(c.clock(self.now_s))]
        assert len(held) < 2, f"both hold it at {self.now_s}"
        for claim in held:
            self.holds += 1
            believed_s = (claim.keeper.until_s - 500.0) / claim.rate
            if self.store.holder == claim.name and believed_s <= self.store.until_s:
                assert self.now_s >= self.older_s or believed_s <= self.older_s
            else:
                assert believed_s <= self.older_s, "only the holder believes in its hold"


RATES = st.floats(1 - RHO, 1 + RHO)
WAYS = st.one_of(
    st.just(0.01), st.floats(0.0, 1.0), st.floats(0.0, 2.2 * TTL_S), st.none()
)  # None: lost
DEEDS = st.sampled_from(["want", "leave", "restart", "sleep", "wipe", "elect"])


@settings(max_examples=400, deadline=None)
@given(
    rates=st.tuples(RATES, RATES, RATES),
    fates=st.lists(WAYS, max_size=60),
    deeds=st.lists(st.tuples(st.floats(0, 8 * TTL_S), st.integers(0, 1), DEEDS), max_size=10),
)
def test_two_never_hold_it_at_once(
    rates: tuple[float, float, float],
    fates: list[float | None],
    deeds: list[tuple[float, int, str]],
) -> None:
    """Whatever is lost, late or overtaken, and with every clock as wrong as it may be."""
    world = World(rates, fates)
    for claim in world.claims:
        world.happen(claim, "want")
    for when_s, number, what in deeds:
        world.at(when_s, lambda n=number, w=what: world.happen(world.claims[n], w))  # type: ignore[misc]
    world.play(8 * TTL_S)
    # Nothing is lost any more and one alone wants it: it gets it.
    world.fates = iter(())
    world.claims[0].keeper.wanted, world.claims[1].keeper.wanted = False, True
    world.play(world.now_s + 6 * TTL_S)
    assert world.claims[1].keeper.held(world.claims[1].clock(world.now_s))


def test_in_peace_one_of_two_holds_it_all_the_time() -> None:
    """The model grants, renews and refuses: the test above is not silent for want of holds."""
    world = World((1.0, 1.0, 1.0), ())
    for claim in world.claims:
        world.happen(claim, "want")
    world.play(WAIT_S + 1)
    held = [claim.keeper.held(claim.clock(world.now_s)) for claim in world.claims]
    assert held in ([True, False], [False, True])
    before = world.holds
    world.play(20 * TTL_S)
    assert world.holds > before + 100
    assert held == [claim.keeper.held(claim.clock(world.now_s)) for claim in world.claims]


# --- the engine on a real etcd -----------------------------------------------------------------


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Members that stay up; each test has a lease of its own name."""
    with etcd(tmp_path_factory.mktemp("calm")) as cluster:
        yield cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Members for one test, which may do to them what it likes."""
    with etcd(tmp_path) as made:
        yield made


async def test_a_lease_is_won_renewed_and_given_back(calm: Cluster) -> None:
    """One holds it, the other is refused by name, and gets it once it is given back."""
    one, other = (Client(calm.endpoints, who, name="simple") for who in ("primary", "standby"))
    reply = await one.sure(Wish.ACQUIRE)
    assert (reply.outcome, reply.holder, reply.fresh) == (Outcome.PASS, "primary", True)
    assert (await one.sure(Wish.RENEW)).outcome is Outcome.PASS
    refused = await other.sure(Wish.ACQUIRE)
    assert (refused.outcome, refused.holder) == (Outcome.FAIL, "primary")
    assert refused.why == "primary holds it"
    assert (await other.sure(Wish.RENEW)).outcome is Outcome.FAIL
    assert (await one.sure(Wish.RELEASE)).outcome is Outcome.PASS
    assert (await one.sure(Wish.RELEASE)).outcome is Outcome.PASS
    assert (await one.sure(Wish.RENEW)).outcome is Outcome.FAIL
    won = await other.sure(Wish.ACQUIRE)
    assert (won.outcome, won.fresh) == (Outcome.PASS, False)


async def test_a_new_store_stays_new_until_its_winner_has_waited(calm: Cluster) -> None:
    """A winner that is restarted, or replaced by another, before it has waited, waits anew."""
    client = Client(calm.endpoints, name="new")
    assert (await client.sure(Wish.ACQUIRE)).fresh
    assert (await client.sure(Wish.RENEW, settled=False)).outcome is Outcome.PASS
    assert (await Client(calm.endpoints, name="new").sure(Wish.ACQUIRE)).fresh
    last = Client(calm.endpoints, name="new")
    assert (await last.sure(Wish.ACQUIRE)).fresh
    assert (await last.sure(Wish.RENEW)).outcome is Outcome.PASS
    assert not (await Client(calm.endpoints, name="new").sure(Wish.ACQUIRE)).fresh


async def test_a_restarted_process_takes_over_its_own_lease_at_once(calm: Cluster) -> None:
    """And whatever the old one still has on its way can neither renew it nor end it."""
    old, new = (Client(calm.endpoints, name="restart") for _ in range(2))
    assert (await old.sure(Wish.ACQUIRE)).outcome is Outcome.PASS
    assert (await new.sure(Wish.ACQUIRE)).outcome is Outcome.PASS
    lost = await old.sure(Wish.RENEW)
    assert (lost.outcome, lost.why) == (Outcome.FAIL, "another process of this host took it")
    assert (await old.sure(Wish.RELEASE)).outcome is Outcome.PASS
    assert (await new.sure(Wish.RENEW)).outcome is Outcome.PASS
    term = gateway(calm.endpoints[0], "kv/range", {"key": key("restart/term")})["kvs"][0]
    assert int(term["version"]) == 3  # two wins, and once "settled"


async def test_two_hosts_of_one_name_are_told_apart(calm: Cluster) -> None:
    """The second one is refused, and the reason says what to look for."""
    one, other = (Client(calm.endpoints, "twin", name="twin", boot_id=boot) for boot in "ab")
    assert (await one.sure(Wish.ACQUIRE)).outcome is Outcome.PASS
    refused = await other.sure(Wish.ACQUIRE)
    assert refused.outcome is Outcome.FAIL
    assert "another host calls itself twin" in refused.why
    assert (await one.sure(Wish.RENEW)).outcome is Outcome.PASS


async def test_of_three_claimants_exactly_one_wins(calm: Cluster) -> None:
    """Twenty times, all at the same moment; the others learn who it was."""
    names = ("primary", "standby-1", "standby-2")
    clients = [Client(calm.endpoints, name, name="race") for name in names]
    for _ in range(20):
        replies = await asyncio.gather(*(client.sure(Wish.ACQUIRE) for client in clients))
        winners = [reply for reply in replies if reply.outcome is Outcome.PASS]
        assert len(winners) == 1
        assert {reply.holder for reply in replies} == {winners[0].holder}
        await clients[names.index(winners[0].holder)].sure(Wish.RELEASE)


@pytest.mark.parametrize("deed", ["revoked", "deleted", "overwritten"])
async def test_what_an_operator_takes_away_is_noticed_at_the_next_renewal(
    calm: Cluster, deed: str
) -> None:
    """A revoked lease, a deleted key and a foreign value all end the hold."""
    client = Client(calm.endpoints, name=deed)
    await client.sure(Wish.ACQUIRE)
    holder, endpoint = key(f"{deed}/holder"), calm.endpoints[0]
    found = gateway(endpoint, "kv/range", {"key": holder})["kvs"][0]
    if deed == "revoked":
        gateway(endpoint, "lease/revoke", {"ID": found["lease"]})
    elif deed == "deleted":
        gateway(endpoint, "kv/deleterange", {"key": holder})
    else:
        gateway(endpoint, "kv/put", {"key": holder, "value": key("by hand")})
    reply = await client.sure(Wish.RENEW)
    assert reply.outcome is Outcome.FAIL
    again = await client.sure(Wish.ACQUIRE)
    foreign = deed == "overwritten"  # nobody's to take: it is not ours, and does not expire
    assert again.outcome is (Outcome.FAIL if foreign else Outcome.PASS)
    assert ("another program" in again.why) is foreign


async def test_looking_around_only_reads(cluster: Cluster) -> None:
    """Each member answers for itself, the holder is named, and nothing is written."""
    client = Client(cluster.endpoints, name="seen")
    policy = client.engine._policy
    everybody = dict.fromkeys(cluster.endpoints, "")
    assert await look_around(policy, 5.0) == (everybody, "")
    await client.sure(Wish.ACQUIRE)

    def revision() -> int:
        return int(gateway(cluster.endpoints[0], "maintenance/status", {})["header"]["revision"])

    before = revision()
    assert await look_around(policy, 5.0) == (everybody, policy.holder)
    assert revision() == before
    cluster.kill(2)
    for _ in range(10):  # the two that are left may have to elect a leader first
        found, holder = await look_around(policy, 5.0)
        assert found[cluster.endpoints[2]].startswith("cannot connect: ")
        if holder:
            break
    assert holder == policy.holder
    cluster.kill(1)  # no majority is left, whatever the last member says
    found, holder = await look_around(policy, 1.0)
    assert all(found.values())
    assert holder == ""


async def test_a_claim_that_was_given_up_changes_nothing_when_it_arrives_late(
    calm: Cluster,
) -> None:
    """What it compares is long past, also when the key is free again."""
    late, other = Client(calm.endpoints, "late", name="late"), Client(calm.endpoints, name="late")
    async with session_for(late.engine._policy, late.engine._limit_s) as session:
        member = Member(session, calm.endpoints[0], "late")
        look = await member.look()
        assert await member.grant(77, 10) == 10
        await other.sure(Wish.ACQUIRE)
        await other.sure(Wish.RELEASE)
        after = await member.win(look, 77, {"holder": "late"}, {"count": 1})
        assert after is not None
        assert after.holder.revision == 0
        await member.revoke(77)
    assert (await other.sure(Wish.ACQUIRE)).outcome is Outcome.PASS


class Rival:
    """A keeper with its engine, on the real clock."""

    def __init__(self, holder: str, endpoints: Sequence[str], ttl_s: float, rivals: list["Rival"]):
        policy = lease(holder, ttl_s=ttl_s, endpoints=endpoints)
        self.wake = asyncio.Event()
        self.keeper = Keeper(policy, time.monotonic())
        self.engine = EtcdLease(policy, self.wake.set, boot_id=holder)
        self.outcomes: list[tuple[Wish, Outcome]] = []
        self._rivals = rivals

    @property
    def held(self) -> bool:
        return self.keeper.held(time.monotonic())

    def want(self, wanted: bool = True) -> None:
        self.keeper.wanted = wanted
        self.wake.set()

    async def live(self) -> None:
        verb = Wish.ACQUIRE
        while True:
            self.wake.clear()
            for reply in self.engine.receive():
                self.outcomes.append((verb, reply.outcome))
                self.keeper.replied(reply, time.monotonic())
                assert sum(rival.held for rival in self._rivals) <= 1, "two hold it"
            if ask := self.keeper.tick(time.monotonic()):
                verb = ask.verb
                self.engine.send(ask)
            left_s = max(self.keeper.due_s - time.monotonic(), 0.0)
            try:
                async with asyncio.timeout(min(left_s, 60.0)):
                    await self.wake.wait()
            except TimeoutError:
                continue

    async def gets_it(self, within_s: float = 60.0) -> None:
        await self.sees(lambda: self.held, within_s)

    async def loses_it(self, within_s: float = 60.0) -> None:
        await self.sees(lambda: not self.held, within_s)

    async def renews_it(self, within_s: float = 60.0) -> None:
        """Once more, by a request that is sent from now on."""
        from_s = time.monotonic()
        span_s = self.keeper._ttl_s * (1 - 2 * RHO)
        await self.sees(lambda: self.keeper.until_s - span_s >= from_s, within_s)

    async def sees(self, predicate: Callable[[], bool], within_s: float = 60.0) -> None:
        end_s = time.monotonic() + within_s
        while not predicate():
            assert time.monotonic() < end_s, f"{self.keeper.why}; {self.outcomes[-5:]}"
            await asyncio.sleep(0.01)


async def use(cluster: Cluster) -> None:
    """Have the store know the lease, so that its next winner has nobody to wait for."""
    earlier = Client(cluster.endpoints, "earlier")
    assert (await earlier.sure(Wish.ACQUIRE)).fresh
    assert (await earlier.sure(Wish.RENEW)).outcome is Outcome.PASS
    assert (await earlier.sure(Wish.RELEASE)).outcome is Outcome.PASS


@asynccontextmanager
async def rivals(cluster: Cluster, *names: str, ttl_s: float) -> AsyncIterator[list[Rival]]:
    """Hosts that may want the lease; that two hold it at once ends the test."""
    made: list[Rival] = []
    for name in names:
        made.append(Rival(name, cluster.endpoints, ttl_s, made))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(rival.live()) for rival in made]
        yield made
        for task in tasks:
            task.cancel()
    for rival in made:
        rival.engine.close()


async def test_a_second_claimant_wins_when_the_holder_is_silent(calm: Cluster) -> None:
    """Not before the first one's hold is over, and soon after."""
    silent = Client(calm.endpoints, "primary", ttl_s=8.0)
    sent_s = time.monotonic()
    assert (await silent.sure(Wish.ACQUIRE)).outcome is Outcome.PASS
    assert (await silent.sure(Wish.RENEW)).outcome is Outcome.PASS  # settled: nothing is new
    async with rivals(calm, "standby", ttl_s=8.0) as (standby,):
        standby.want()
        await standby.gets_it()
        assert time.monotonic() >= sent_s + 8.0
        assert (Wish.ACQUIRE, Outcome.FAIL) in standby.outcomes
        standby.want(False)
        await standby.loses_it()


@pytest.mark.parametrize("victim", ["a follower", "the leader"])
async def test_one_dead_member_ends_no_hold(cluster: Cluster, victim: str) -> None:
    """Nor does its return."""
    await use(cluster)
    async with rivals(cluster, "primary", "standby", ttl_s=12.0) as (primary, standby):
        primary.want()
        await primary.gets_it()
        standby.want()
        number = (cluster.leader() + (victim == "a follower")) % 3
        await asyncio.to_thread(cluster.kill, number)
        await primary.renews_it()
        await asyncio.to_thread(cluster.start, number)
        await primary.renews_it()
        assert (Wish.RENEW, Outcome.FAIL) not in primary.outcomes
        assert primary.held


async def test_without_a_majority_nothing_is_granted(cluster: Cluster) -> None:
    """Every answer is UNKNOWN, from every member; the hold ends by itself and comes back."""
    await use(cluster)
    async with rivals(cluster, "primary", "standby", ttl_s=5.0) as (primary, standby):
        primary.want()
        await primary.gets_it()
        standby.want()
        leader = cluster.leader()
        # The leader is the one that is left: it could still answer a keep-alive alone.
        await asyncio.to_thread(cluster.kill, (leader + 1) % 3, (leader + 2) % 3)
        from_s = time.monotonic()
        before = len(primary.outcomes) + 1  # what is under way may have been granted just before
        await primary.loses_it()
        assert all(o is Outcome.UNKNOWN for _, o in primary.outcomes[before:])
        assert time.monotonic() > from_s
        client = Client(cluster.endpoints, "primary")
        for verb in Wish:
            assert (await client.ask(verb)).outcome is Outcome.UNKNOWN
        await asyncio.to_thread(cluster.start)
        await primary.sees(lambda: primary.held or standby.held)


async def test_all_members_restart_and_nobody_else_gets_it(cluster: Cluster) -> None:
    """What is on the disks holds; the holder renews, the other is refused."""
    await use(cluster)
    async with rivals(cluster, "primary", "standby", ttl_s=20.0) as (primary, standby):
        primary.want()
        await primary.gets_it()
        await asyncio.to_thread(cluster.kill)
        standby.want()
        await asyncio.to_thread(cluster.start)
        await primary.renews_it()
        assert (Wish.RENEW, Outcome.FAIL) not in primary.outcomes
        assert (Wish.ACQUIRE, Outcome.PASS) not in standby.outcomes


async def test_a_store_that_lost_everything_grants_nothing_before_older_holds_are_over(
    cluster: Cluster,
) -> None:
    """The winner waits for one ttl: whoever held it by the old store may not know yet."""
    await use(cluster)
    async with rivals(cluster, "primary", "standby", ttl_s=5.0) as (primary, standby):
        primary.want()
        await primary.gets_it()
        await primary.renews_it()
        await asyncio.to_thread(cluster.kill)
        primary.engine.send = lambda ask: None  # type: ignore[method-assign]  # hears nothing more
        held_until_s = primary.keeper.until_s
        await asyncio.to_thread(cluster.lose_disk)
        await asyncio.to_thread(cluster.start)
        won_s = time.monotonic()
        standby.want()
        await standby.gets_it()
        assert time.monotonic() >= max(held_until_s, won_s + 5.0)


async def test_one_lost_disk_loses_nothing(cluster: Cluster) -> None:
    """A member that is replaced learns the lease from the others."""
    await use(cluster)
    async with rivals(cluster, "primary", "standby", ttl_s=12.0) as (primary, standby):
        primary.want()
        await primary.gets_it()
        standby.want()
        number = cluster.leader()
        await asyncio.to_thread(cluster.kill, number)
        await asyncio.to_thread(cluster.lose_disk, number)
        await asyncio.to_thread(cluster.replace, number)
        await primary.renews_it()
        assert (Wish.RENEW, Outcome.FAIL) not in primary.outcomes
    alone = Client((cluster.endpoints[number],), "standby")
    assert (await alone.sure(Wish.ACQUIRE)).holder == "primary"


async def test_a_member_that_stands_still_is_passed_over(cluster: Cluster) -> None:
    """The next one is asked within the same request, also when it was the leader."""
    client = Client(cluster.endpoints, ttl_s=20.0)
    assert (await client.sure(Wish.ACQUIRE)).outcome is Outcome.PASS
    leader = cluster.leader()
    for number in ((leader + 1) % 3, leader):
        cluster.freeze(number)
        client.engine._endpoints.sort(key=lambda e, n=number: e != cluster.endpoints[n])  # type: ignore[misc]
        assert (await client.sure(Wish.RENEW)).outcome is Outcome.PASS
        assert client.engine._endpoints[0] != cluster.endpoints[number]
        cluster.thaw(number)
        until(cluster.members[number].serves, "it serves again")


async def test_a_leader_that_was_deposed_while_it_stood_still_renews_nothing(
    cluster: Cluster,
) -> None:
    """Its keep-alive may be granted and be heard of by nobody: the store must know our hold."""
    ttl_s = 20.0
    for _ in range(3):
        old = cluster.leader()
        client = Client((cluster.endpoints[old],), ttl_s=ttl_s)
        assert (await client.sure(Wish.ACQUIRE)).outcome is Outcome.PASS
        cluster.freeze(old)
        others = [cluster.members[n] for n in range(3) if n != old]
        until(lambda members=others: any(m.serves() for m in members), "another leads")  # type: ignore[misc]
        await asyncio.sleep(2.5)  # the later the request, the less of it the new leader knows
        sent_s = time.monotonic()
        asking = asyncio.create_task(client.ask(Wish.RENEW))
        await asyncio.sleep(0.2)
        cluster.thaw(old)
        reply = await asking
        left_s = cluster.lease_left_s("pair")
        if reply.outcome is Outcome.PASS:  # a grant that reached the new leader is a good one
            # `left_s` is whole seconds, rounded down.
            assert left_s + 1 >= sent_s + ttl_s - time.monotonic()
        assert (await client.sure(Wish.RENEW)).outcome is Outcome.PASS
        assert (await client.sure(Wish.RELEASE)).outcome is Outcome.PASS


# --- members that are none ---------------------------------------------------------------------


@asynccontextmanager
async def answering(text: bytes) -> AsyncIterator[str]:
    """A server that says the same to everybody, or nothing and keeps the line open."""
    open_lines: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_lines.append(writer)
        await reader.read(1)
        writer.write(text)
        await writer.drain()
        if text:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        for line in open_lines:
            line.close()
        server.close()


def said(body: object, status: str = "200 OK") -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text


HEADER = {"member_id": "1", "raft_term": "2"}
NONSENSE = {
    "silence": b"",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "not JSON": said(b"<html>"),
    "not UTF-8": said(b'{"a": "\xff"}'),
    "not an object": said([1]),
    "an empty object": said({}),
    "deep nesting": said(b"[" * 60_000),
    "half an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
    "too long an answer": said(b" " * (2 * ANSWER_BYTES)),
    "an error": said({"error": "etcdserver: no leader", "code": 14}, "503 Unavailable"),
    "an error that is none": said({"error": {"a": 1}}, "500 Oh"),
    "a redirect": b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "responses that are none": said({"header": HEADER, "responses": [1, 2]}),
    "keys that are none": said(
        {"header": HEADER, "responses": [{"response_range": {"kvs": [1]}}] * 2}
    ),
    "revisions that are none": said(
        {"header": HEADER, "responses": [{"response_range": {"kvs": [{"lease": "x"}]}}] * 2}
    ),
    "no member": said({"responses": [{"response_range": {}}] * 2}),
}


@pytest.mark.parametrize("what", NONSENSE)
async def test_nonsense_is_no_answer(what: str) -> None:
    """Whatever a server says instead of etcd's words, a claim and a renewal stay UNKNOWN."""
    async with answering(NONSENSE[what]) as endpoint:
        client = Client((endpoint,), ttl_s=2.0)
        reply = await client.ask(Wish.ACQUIRE)
        assert reply.outcome is Outcome.UNKNOWN
        assert endpoint in reply.why
        assert (await client.ask(Wish.RENEW)).outcome is Outcome.UNKNOWN


class Fake:
    """A member that grants everything; its keep-alive may come from somebody else."""

    def __init__(self, *, keeps_alive: str, left_s: int = 10) -> None:
        self.asked: list[str] = []
        self._keeps_alive = {"member_id": keeps_alive, "raft_term": "2"}
        self._left = str(left_s)
        self._lease = "0"

    async def answer(self, request: web.Request) -> web.Response:
        method = request.path.removeprefix("/v3/")
        self.asked.append(method)
        body = await request.json()
        if method == "lease/grant":
            self._lease = body["ID"]
            return web.json_response({"header": HEADER, "ID": self._lease, "TTL": "10"})
        if method == "lease/keepalive":
            result = {"header": self._keeps_alive, "ID": self._lease, "TTL": self._left}
            return web.json_response({"result": result})
        if "compare" in body:
            return web.json_response({"header": HEADER, "succeeded": True})
        kept = {"mod_revision": "7", "lease": self._lease}
        shown = {"kvs": [kept] if self._lease != "0" else []}
        return web.json_response(
            {"header": HEADER, "succeeded": True, "responses": [{"response_range": shown}] * 2}
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v3/{method:.*}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield site.name
        finally:
            await runner.cleanup()


@pytest.mark.parametrize(
    ("fake", "outcome"),
    [
        (Fake(keeps_alive="1"), Outcome.PASS),
        (Fake(keeps_alive="3"), Outcome.UNKNOWN),  # one address for several members
        (Fake(keeps_alive="1", left_s=0), Outcome.UNKNOWN),
        (Fake(keeps_alive="1", left_s=9), Outcome.UNKNOWN),
    ],
)
async def test_a_keep_alive_counts_only_between_two_looks_of_one_member(
    fake: Fake, outcome: Outcome
) -> None:
    """The first proves that it knows the leader, the second that the key is ours still."""
    async with fake.serving() as endpoint:
        client = Client((endpoint,))
        assert (await client.sure(Wish.ACQUIRE)).outcome is Outcome.PASS
        fake.asked.clear()
        assert (await client.ask(Wish.RENEW, settled=False)).outcome is outcome
        assert fake.asked == ["kv/txn", "lease/keepalive", "kv/txn"]


async def test_an_answer_comes_also_when_every_member_is_silent() -> None:
    """Within a fifth of the ttl, however many there are."""
    async with answering(b"") as one, answering(b"") as two:
        client = Client((one, two, "http://127.0.0.1:9", "http://[::1]:9"), ttl_s=5.0)
        from_s = time.monotonic()
        reply = await client.ask(Wish.ACQUIRE)
        assert reply.outcome is Outcome.UNKNOWN
        assert time.monotonic() - from_s > 0.3
        assert reply.why.count(";") == 3


async def test_closing_gives_up_what_is_under_way() -> None:
    """No answer comes after it, and nothing is left open."""
    async with answering(b"") as endpoint:
        client = Client((endpoint,), ttl_s=60.0)
        client.engine.send(Ask(1, Wish.ACQUIRE, 0.0))
        await asyncio.sleep(0.05)
        client.engine.close()
        await asyncio.sleep(0.05)
        assert client.engine.receive() == []
        assert len(asyncio.all_tasks()) <= 3


async def test_members_are_spoken_to_over_tls(tmp_path: Path) -> None:
    """With the right files it works; without ours, or against another authority, it does not."""
    tls, strange = Tls(tmp_path / "tls"), Tls(tmp_path / "strange")
    with etcd(tmp_path, tls=tls) as cluster:
        plain = lease(endpoints=cluster.endpoints, ttl_s=10.0)

        def policy(ca: Path, cert: Path | str = "", own: Path | str = "") -> LeasePolicy:
            return LeasePolicy(
                engine="etcd",
                endpoints=plain.endpoints,
                name="pair",
                holder="standby",
                ttl_s=10.0,
                ca=str(ca),
                cert=str(cert),
                key=str(own),
            )

        good = Client((), policy=policy(tls.ca, tls.cert, tls.key))
        assert (await good.sure(Wish.ACQUIRE)).outcome is Outcome.PASS
        assert (await good.sure(Wish.RENEW)).outcome is Outcome.PASS
        for bad in (
            plain,
            policy(tls.ca),
            policy(strange.ca, tls.cert, tls.key),
            policy(tls.ca, strange.cert, strange.key),
            policy(tmp_path / "missing"),
        ):
            reply = await Client((), policy=bad).ask(Wish.ACQUIRE)
            assert reply.outcome is Outcome.UNKNOWN
            assert reply.why


def test_who_uses_no_lease_does_not_carry_its_client() -> None:
    """The engine's library is imported when an engine is made."""
    script = "import failover_monitor.leases, sys; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0
    assert "etcd" in KINDS
