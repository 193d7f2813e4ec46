"""What an operator asks for is taken once or dropped and said; and no pause holds for ever."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from failover_monitor.model import BY_HAND, Observation, PairState, Phase, Role, Transition, Verdict
from failover_monitor.orders import (
    FRESH_S,
    LONGEST_S,
    Boot,
    Order,
    Orders,
    read_pause,
    read_request,
)

WALL_S, NOW_S = 1.8e9, 5000.0
DEEP = pytest.param("[" * 100_000, id="deeper than anybody reads")
HERE, LATER = Boot("one", 10.0), Boot("two", 20.0)
GIVEN_BACK = Transition(Phase.ACTIVE, Phase.FAILBACK, BY_HAND, "operator_asked")
TAKEN = Transition(Phase.STANDBY, Phase.TAKEOVER, BY_HAND, "asked_and_sure")


def request(**other: Any) -> str:
    return json.dumps({"by": "alice", "at_s": WALL_S, "reason": "new disk"} | other)


def pause(length_s: float = 3600.0, **other: Any) -> str:
    boot = {"boot_id": "one", "began_s": NOW_S, "until": "noon", "length_s": length_s}
    return request(**(boot | other))


def of(boot: Boot = HERE, role: Role = Role.STANDBY) -> Orders:
    return Orders(boot, role)


def sentences(orders: Orders) -> list[str]:
    return [told.sentence for told in orders.told]


def seen(**other: Any) -> Observation:
    return Observation(now_s=NOW_S, verdict=Verdict.UP, **other)


# Requests.


def test_a_request_is_taken_and_answered() -> None:
    """The event of the decision says who asked, and why."""
    orders = of()
    orders.take(Order.TAKEOVER, request(), WALL_S + 1)
    assert orders.asked(Order.TAKEOVER) == "alice"
    assert orders.fields(TAKEN) == {"BY": "alice", "REASON": "new disk"}
    assert orders.fields(GIVEN_BACK) == {}
    orders.settle(TAKEN, PairState(phase=Phase.TAKEOVER), seen(takeover_asked="alice"))
    assert orders.pending == {}
    assert orders.document()["request"] == {"order": "takeover", "at_s": WALL_S, "dropped": ""}
    assert sentences(orders) == ["takeover asked for by alice: new disk"]


def test_who_asks_while_a_claim_is_under_way_gets_no_credit_for_it() -> None:
    """It is the first one's; the second is told that it is under way already."""
    orders = of()
    claimed = Transition(Phase.STANDBY, Phase.CLAIM, BY_HAND, "takeover_asked")
    won = Transition(Phase.CLAIM, Phase.TAKEOVER, BY_HAND, "by_hand_and_sure")
    orders.take(Order.TAKEOVER, request(), WALL_S)
    orders.settle(claimed, PairState(phase=Phase.CLAIM), seen(takeover_asked="alice"))
    orders.take(Order.TAKEOVER, request(by="bob"), WALL_S)
    assert orders.fields(won)["BY"] == "alice"
    orders.settle(won, PairState(phase=Phase.TAKEOVER), seen(takeover_asked="bob"))
    assert "bob asked for is dropped: one is under way already" in sentences(orders)[-1]


@pytest.mark.parametrize("age_s", [FRESH_S + 1, -3600.0, math.inf])
def test_a_stale_request_is_dropped_and_said(age_s: float) -> None:
    """It was left for a monitor that did not run, or hung; nobody waits for it any more."""
    orders = of()
    orders.take(Order.FAILBACK, request(), WALL_S + age_s)
    assert orders.pending == {}
    (told,) = orders.told
    assert "failback that alice asked for is dropped" in told.sentence
    assert not told.calm


@pytest.mark.parametrize(
    ("age_s", "taken"), [(-60.5, False), (-60.0, True), (15.0, True), (15.5, False)]
)
def test_a_request_is_for_a_quarter_of_a_minute(age_s: float, taken: bool) -> None:
    """A clock may have been set back by a minute since; nobody waits for an answer longer."""
    orders = of()
    orders.take(Order.TAKEOVER, request(), WALL_S + age_s)
    assert (orders.asked(Order.TAKEOVER) == "alice") is taken


def test_the_record_says_who_asked_for_what_and_what_came_of_it() -> None:
    """Each line with its person, its reason and its order; only what went as asked is calm."""
    orders, alice = of(), {"BY": "alice", "REASON": "new disk"}
    orders.take(Order.TAKEOVER, request(), WALL_S)
    orders.settle(None, PairState(phase=Phase.ACTIVE), seen())
    orders.take(Order.TAKEOVER, "{", WALL_S)
    orders.take(Order.ACK, request(), WALL_S)
    orders.settle(None, PairState(), seen(acknowledged=True))
    orders.heed(pause(60.0), NOW_S, WALL_S)
    orders.heed(pause(60.0), NOW_S + 61, WALL_S + 61)
    orders.heed("{", NOW_S + 70, WALL_S + 70)
    why = "one is under way already, the phase is active"
    assert [(told.fields, told.paused, told.calm) for told in orders.told] == [
        (alice | {"ORDER": "takeover"}, False, True),
        (alice | {"ORDER": "takeover", "WHY": why}, False, False),
        ({}, False, False),
        (alice | {"ORDER": "ack"}, False, True),
        (alice, False, True),
        (alice | {"PAUSE": "lasts"}, True, True),
        (alice | {"PAUSE": "over"}, True, True),
        ({}, False, False),
    ]


BY_EVIDENCE = Transition(Phase.ACTIVE, Phase.FAILBACK, "the primary is back", "primary_back")
DOWN = Transition(Phase.STANDBY, Phase.TAKEOVER, "the primary stopped answering", "primary_down")


@pytest.mark.parametrize(
    ("order", "transition", "granted"),
    [
        *((Order.TAKEOVER, TAKEN, True), (Order.TAKEOVER, GIVEN_BACK, False)),
        *((Order.TAKEOVER, DOWN, False), (Order.TAKEOVER, None, False)),
        *((Order.FAILBACK, GIVEN_BACK, True), (Order.FAILBACK, TAKEN, False)),
        *((Order.FAILBACK, BY_EVIDENCE, False), (Order.FAILBACK, None, False)),
    ],
)
def test_only_its_own_transition_grants_a_request(
    order: Order, transition: Transition | None, granted: bool
) -> None:
    """What evidence did, or another order, was not asked for by this one."""
    orders = of()
    orders.take(order, request(), WALL_S)
    assert orders.fields(DOWN) == orders.fields(BY_EVIDENCE) == {}
    orders.settle(transition, PairState(phase=Phase.STANDBY), seen())
    answer = orders.document()["request"]
    assert (answer["dropped"] == "") is granted


def test_a_failback_that_was_asked_for_names_its_operator() -> None:
    """Not whoever asked for the takeover."""
    orders = of()
    orders.take(Order.FAILBACK, request(by="bob"), WALL_S)
    assert orders.fields(GIVEN_BACK)["BY"] == "bob"
    assert orders.fields(TAKEN) == {}


@pytest.mark.parametrize(
    "text", ["", DEEP, "root\n", "{", "[]", "7", "{}", request(at_s="x"), request(at_s=math.nan)]
)
def test_a_request_that_is_not_understood_moves_nothing(text: str) -> None:
    """Half a file, or somebody's `echo`."""
    orders = of()
    orders.take(Order.TAKEOVER, text, WALL_S)
    assert orders.pending == {}
    assert sentences(orders) == ["a request for takeover is not understood, and dropped"]


@pytest.mark.parametrize(
    ("state", "observed", "why"),
    [
        (
            PairState(phase=Phase.STANDBY),
            seen(paused="paused by bob"),
            "paused by bob; resume first",
        ),
        (PairState(phase=Phase.STANDBY), seen(host_stopping=True), "this host is shutting down"),
        (PairState(phase=Phase.ACTIVE), seen(), "one is under way already, the phase is active"),
        (PairState(phase=Phase.CLAIM), seen(), "one is under way already, the phase is claim"),
        (PairState(phase=Phase.FAILBACK), seen(), "the phase is failback"),
    ],
)
def test_a_takeover_that_cannot_begin_is_dropped_at_once(
    state: PairState, observed: Observation, why: str
) -> None:
    """It is never taken later."""
    orders = of()
    orders.take(Order.TAKEOVER, request(), WALL_S)
    orders.settle(None, state, observed)
    assert orders.asked(Order.TAKEOVER) == ""
    assert orders.document()["request"]["dropped"] == why


def test_a_failback_waits_for_its_service_and_ends_with_its_reason() -> None:
    """The primary answers, its service does not yet; then it is silent."""
    orders = of()
    orders.take(Order.FAILBACK, request(), WALL_S)
    active = PairState(phase=Phase.ACTIVE)
    orders.settle(None, active, seen())
    assert Order.FAILBACK in orders.pending
    orders.settle(None, active, Observation(now_s=NOW_S, verdict=Verdict.DOWN))
    assert orders.pending == {}
    assert orders.document()["request"]["dropped"] == "the primary does not answer"


@pytest.mark.parametrize(
    ("state", "observed", "why"),
    [
        (PairState(phase=Phase.ACTIVE), seen(paused="paused by bob"), "paused by bob"),
        (PairState(phase=Phase.STANDBY), seen(), "we do not serve"),
    ],
)
def test_a_failback_without_reason_is_dropped(
    state: PairState, observed: Observation, why: str
) -> None:
    """Paused, or over before it was taken."""
    orders = of()
    orders.take(Order.FAILBACK, request(), WALL_S)
    orders.settle(None, state, observed)
    assert why in orders.document()["request"]["dropped"]


@pytest.mark.parametrize("held", [True, False])
def test_an_ack_is_for_takeovers_that_are_held(held: bool) -> None:
    """Else it would allow the next ones, unseen."""
    orders = of()
    orders.take(Order.ACK, request(), WALL_S)
    orders.settle(None, PairState(), seen(acknowledged=held))
    assert orders.pending == {}
    assert (orders.document()["request"]["dropped"] == "") is held


# The pause.


def test_a_pause_is_told_when_it_begins_while_it_lasts_and_when_it_ends() -> None:
    """Every ten minutes, five minutes before its end, and then."""
    orders = of()
    told: list[tuple[float, str]] = []
    for passed_s in range(3602):
        over = orders.heed(pause(), NOW_S + passed_s, WALL_S + passed_s)
        told += [(passed_s, told.sentence) for told in orders.told]
        orders.told.clear()
        if over:
            break
    lasting = "paused by alice until noon: new disk; no takeover will happen"
    times = [0, 600, 1200, 1800, 2400, 3000, 3300]
    assert told[:-1] == [(at_s, lasting) for at_s in times]
    assert told[-1] == (3600, "the pause has reached its end: hands on again, after fresh checks")
    assert (orders.pause, orders.ended) == (None, True)


def test_resume_ends_a_pause_at_once() -> None:
    """And says who did."""
    orders = of()
    assert not orders.heed(pause(), NOW_S, WALL_S)
    orders.take(Order.RESUME, request(by="bob", reason=""), WALL_S)
    assert orders.heed(pause(), NOW_S + 1, WALL_S + 1)
    assert orders.pause is None
    assert sentences(orders)[-1] == "resumed by bob: hands on again, after fresh checks"
    assert not orders.heed(None, NOW_S + 2, WALL_S + 2)


def test_there_is_nothing_to_resume() -> None:
    """Who asks is told so."""
    orders = of()
    orders.take(Order.RESUME, request(), WALL_S)
    orders.heed(None, NOW_S, WALL_S)
    assert orders.document()["request"]["dropped"] == "nothing is paused"


def test_a_new_pause_replaces_the_old_one() -> None:
    """No end in between."""
    orders = of()
    orders.heed(pause(60.0), NOW_S, WALL_S)
    assert not orders.heed(pause(7200.0, began_s=NOW_S + 50), NOW_S + 50, WALL_S + 50)
    assert not orders.heed(pause(7200.0, began_s=NOW_S + 50), NOW_S + 70, WALL_S + 70)
    assert orders.pause is not None
    assert not orders.ended
    found = {"by": "alice", "reason": "new disk", "until": "noon", "at_s": WALL_S}
    assert orders.document()["paused"] == found


def test_a_pause_lasts_thirty_days_at_most_and_begins_within_a_minute() -> None:
    """The longest one that is understood, and the boot clock that may be ahead of its file."""
    assert read_pause(pause(30 * 86_400.0))
    assert read_pause(pause(0.5))
    assert read_pause(pause(30 * 86_400.0 + 0.5)) is None
    assert read_pause(pause(at_s=10**400)) is None
    assert read_pause(pause(by="")) is None
    for ahead_s, holds in ((60.0, True), (60.5, False)):
        orders = of()
        orders.heed(pause(began_s=NOW_S + ahead_s), NOW_S, WALL_S)
        assert (orders.pause is not None) is holds


def test_a_pause_whose_file_is_taken_away_is_over() -> None:
    """An operator's `rm` is understood."""
    orders = of()
    orders.heed(pause(), NOW_S, WALL_S)
    assert not orders.heed(None, NOW_S + 5, WALL_S + 5)
    assert (orders.pause, orders.ended) == (None, True)


BAD_PAUSES = (
    *("", DEEP, "{", "[]", "null", "\0\0", request()),
    *(pause(length_s) for length_s in (0.0, -1.0, LONGEST_S + 1, math.inf, math.nan)),
    *(pause(at_s=at_s) for at_s in (math.nan, math.inf, "soon")),
    *(pause(began_s=began_s) for began_s in (math.nan, math.inf, NOW_S + 1e9)),
)


@pytest.mark.parametrize("text", BAD_PAUSES)
def test_a_malformed_pause_holds_nobody(text: str) -> None:
    """It is said, and the file goes."""
    orders = of()
    assert orders.heed(text, NOW_S, WALL_S)
    assert orders.pause is None
    assert sentences(orders) == ["the file of the pause is not understood: no pause"]
    assert orders.heed(text, NOW_S + 1, WALL_S + 1), "a file that stays is to be removed again"
    assert len(orders.told) == 1


def test_a_malformed_pause_ends_the_one_before() -> None:
    """So that what was seen in it counts for nothing."""
    orders = of()
    orders.heed(pause(), NOW_S, WALL_S)
    assert orders.heed("{", NOW_S + 5, WALL_S + 5)
    assert (orders.pause, orders.ended) == (None, True)


def test_a_guard_is_never_paused() -> None:
    """The standby counts on it."""
    orders = of(role=Role.PRIMARY)
    assert orders.heed(pause(), NOW_S, WALL_S)
    assert orders.pause is None
    assert "never paused" in sentences(orders)[0]


def ends_after_s(orders: Orders, began_s: float, stepped_s: float) -> float:
    """How long it holds from `began_s` on, with the wall clock stepped by so much."""
    for passed_s in range(0, 10_000, 10):
        if orders.heed(pause(), began_s + passed_s, WALL_S + stepped_s + passed_s):
            return passed_s
    return math.inf


@pytest.mark.parametrize(
    ("stepped_s", "ends_s"), [(0.0, 3600), (600.0, 3000), (-600.0, 3600), (-9e8, 3600)]
)
def test_a_stepped_wall_clock_makes_no_pause_longer(stepped_s: float, ends_s: float) -> None:
    """It ends at its time of day; and never later than its length."""
    assert ends_after_s(of(), NOW_S, stepped_s) == ends_s


@pytest.mark.parametrize(("away_s", "ends_s"), [(600.0, 3000), (3600.0, 0), (9e6, 0), (-9e8, 3600)])
def test_a_pause_goes_on_after_a_reboot_until_its_time_of_day(away_s: float, ends_s: float) -> None:
    """Where the clock has lost its time, no longer than its length from the boot on."""
    assert ends_after_s(of(LATER), LATER.at_s, away_s) == ends_s


@given(
    some.dictionaries(some.text(max_size=9), some.integers() | some.floats() | some.text()),
    some.integers() | some.floats(),
    some.integers() | some.floats(),
)
def test_whatever_the_file_says_no_pause_holds_for_ever(
    other: dict[str, Any], began_s: float, at_s: float
) -> None:
    """Thirty days of this boot and a minute, at the longest."""
    text = json.dumps(other | json.loads(pause(LONGEST_S)) | {"began_s": began_s, "at_s": at_s})
    for boot in (HERE, LATER):
        orders = of(boot)
        orders.heed(text, NOW_S, WALL_S)
        orders.heed(text, NOW_S + LONGEST_S + 61, WALL_S)
        assert orders.pause is None


def test_a_reason_from_another_terminal_is_told_in_letters_that_everybody_takes() -> None:
    """An umlaut of Latin-1, a line's end: systemd and the journal would choke on them."""
    text = json.dumps(json.loads(pause(60.0)) | {"reason": "f\udcfcr\ndb", "by": "bj\udcf6rn"})
    found = read_pause(text)
    assert found
    assert (found.request.by, found.request.reason) == ("bj?rn", "f?r db")
    found.words.encode()


@given(some.text() | some.recursive(some.floats() | some.text(), some.lists).map(json.dumps))
def test_no_text_is_too_odd_to_read(text: str) -> None:
    """None, or what it says."""
    assert read_request(text) is None
    assert read_pause(text) is None
