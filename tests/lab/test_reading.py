"""What an operator reads after a real takeover: `history`, `why`, `picture`, on the host itself.

Times are compared with systemd's own stamps, which the monitor has no hand in.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.hosts import wait_until
from tests.lab.pair import APP, EVENTS, Pair, Standby
from tests.recorded import GATEWAY, PRIMARY, ROLES, Minute, sample

pytestmark = pytest.mark.timeout(180)
MakePair = Callable[..., Pair]

T, R, V = 1.0, 0.5, 1.5  # of the quick profile: interval, check, first silence to verdict
ROUNDS = 6  # echo rounds in a check
NEAR_S = 0.15  # between what the monitor records and what systemd stamps, on a busy machine
SAMPLES = "/var/lib/failover-monitor/samples.jsonl"


def asked(standby: Standby, *words: str) -> str:
    return standby.run("failover-monitor", *words).stdout


def why(standby: Standby, *words: str) -> dict[str, Any]:
    return dict(json.loads(asked(standby, "why", "--json", *words)))


def by_the_wall(stamp_s: float) -> float:
    """A reading of CLOCK_MONOTONIC as seconds since 1970."""
    return stamp_s + time.time() - time.monotonic()


def step(told: dict[str, Any], words: str) -> float:
    """When a step of a decision happened, seconds since 1970."""
    [at_s] = [step["at_s"] for step in told["steps"] if step["what"].startswith(words)]
    return float(at_s)


@pytest.fixture
def lived(make_pair: MakePair) -> tuple[Pair, dict[str, float]]:
    """A pair after one takeover and one failback, and the moments of both, by the wall."""
    made = make_pair()
    standby = made.standby
    cut_s = by_the_wall(made.primary.cut())
    standby.wait_for(APP, "active", 10)
    active_s = by_the_wall(standby.active_since(APP))
    standby.wait_for_log("takeover -> active", 3)
    healed_s = by_the_wall(made.primary.heal())
    standby.wait_for(APP, "inactive", 10)
    inactive_s = by_the_wall(standby.inactive_since(APP))
    standby.wait_for_log("failback -> standby", 3)
    wait_until(lambda: "failback -> standby" in standby.read(EVENTS), 3, "the history has it")
    moments = {"cut": cut_s, "active": active_s, "healed": healed_s, "inactive": inactive_s}
    return made, moments


def test_why_explains_a_real_takeover(lived: tuple[Pair, dict[str, float]]) -> None:
    """The row, the echoes of each check, and the moments that systemd stamped, too."""
    made, moments = lived
    told = why(made.standby, "-n", "2")
    assert told["decision"] == ["standby", "takeover", "active"]
    rows = [(row["from"], row["when"], row["to"]) for row in told["rows"]]
    assert rows == [("standby", "primary_down", "takeover"), ("takeover", "all_running", "active")]
    assert told["rows"][0]["because"] == "the primary stopped answering"

    assert len(told["checks"]) == 3
    for check in told["checks"]:
        assert check["failed"] is True
        assert check["ended_s"] - check["began_s"] == pytest.approx(R, abs=0.01)
        assert ROUNDS / 2 <= check["sent"] <= check["planned"] == ROUNDS
        assert (check["silent"], check["in_time"]) == ([PRIMARY], [GATEWAY])
        assert 1 <= check["answered"][GATEWAY] <= ROUNDS

    first_s = step(told, "first unanswered echo")
    assert -0.1 <= first_s - moments["cut"] <= T + NEAR_S
    assert step(told, "verdict down") - first_s == pytest.approx(V, abs=NEAR_S)
    assert step(told, f"start {APP}") <= moments["active"] + 0.01
    assert step(told, f"{APP} is running") == pytest.approx(moments["active"], abs=NEAR_S)
    assert told["running"] is True

    words = asked(made.standby, "why", "-n", "2")
    assert "row        standby -> takeover, when primary down: the primary" in words
    assert words.count(f"check of {R:.2f} s failed: ") == 3


def test_why_explains_the_failback(lived: tuple[Pair, dict[str, float]]) -> None:
    """It is the latest decision; its stop is the one that systemd stamped."""
    made, moments = lived
    told = why(made.standby)
    assert told["decision"] == ["active", "failback", "standby"]
    assert [row["when"] for row in told["rows"]] == ["primary_back", "all_at_rest"]
    assert moments["healed"] <= step(told, "verdict up") <= moments["healed"] + T + NEAR_S
    assert step(told, f"stop {APP}") <= moments["inactive"] + 0.01
    assert step(told, f"{APP} is stopped") == pytest.approx(moments["inactive"], abs=NEAR_S)


def test_history_lists_them_in_order(lived: tuple[Pair, dict[str, float]]) -> None:
    """One line each, newest last, also for who is not root; and it says when nobody watches."""
    standby = lived[0].standby
    lines = asked(standby, "history", "-n", "99").splitlines()
    assert [line.split("  ", 2)[2].strip() for line in lines] == [
        event["what"] for event in standby.events()
    ]
    serious = asked(standby, "history", "--level", "warning", "--since", "5m").splitlines()
    assert [line.rpartition("WARNING")[2].split(":")[0].strip() for line in serious] == [
        "verdict down",
        "standby -> takeover",
        "takeover -> active",
        "active -> failback",
        "failback -> standby",
    ]
    nobody = standby.run(
        "setpriv", "--reuid=65534", "--clear-groups", "failover-monitor", "history"
    )
    assert nobody.stdout.splitlines()[-1] == lines[-1]
    standby.systemctl("stop", "failover-monitor.service")
    ended = standby.run("failover-monitor", "history", "-n", "1")
    assert "nobody watches now" in ended.stderr


def test_picture_shows_them(lived: tuple[Pair, dict[str, float]]) -> None:
    """Over the samples of the hour: the phases in their column, the events below."""
    standby = lived[0].standby
    now_s = time.time()
    lines = []
    for number in range(60):
        line = sample(0.0, Minute(), ROLES)
        lines.append(json.dumps(line | {"at_s": now_s - 60 * (59 - number)}))
    standby.write(SAMPLES, "\n".join(lines) + "\n")
    told = asked(standby, "picture").splitlines()
    assert max(len(line) for line in told) <= 80
    [phases] = [line for line in told if line.startswith("phase          ")]
    assert phases.endswith("sT")
    for words in (
        "standby -> takeover: the primary stopped answering",
        "failback -> standby: all services are stopped here",
        "primary 198.51.100.2: 0 % of 1200 echoes lost",
    ):
        assert any(words in line for line in told), words


def test_why_says_why_it_held_still(make_pair: MakePair) -> None:
    """The gateway is silent as well: the checks prove nothing, and nothing is started."""
    made = make_pair()
    standby = made.standby
    made.gateway.cut()
    made.primary.cut()
    standby.wait_for_log("held: the primary has been silent", 3 * V + 3 * T)
    wait_until(lambda: '"held"' in standby.read(EVENTS), 3, "the history has it")
    told = why(standby)
    assert told["decision"] == ["standby", "unknown"]
    assert told["rows"][0]["when"] == "primary_unknown"
    assert told["rows"][0]["because"] == "no verdict on the primary any more"
    last = told["checks"][-1]
    assert (last["failed"], last["answered"], last["in_time"]) == (False, {GATEWAY: 0}, [])
    held = [event for event in told["held_since"] if event["kind"] == "held"]
    assert "references answer in 0 of" in held[0]["what"]
    words = asked(standby, "why")
    assert "proved nothing: " in words
    assert "held still since then" in words
    assert not standby.running(APP)
    made.gateway.heal()
    made.primary.heal()
    standby.wait_for_state("active_alive", 5)
