"""Every schedule of a few faults on a small grid, on the production pair: never two active sides;
and the search finds the schedule as soon as an inequality is broken by one tick.
"""

from dataclasses import replace

import pytest

from failover_monitor.leases.keeper import Keeper
from tests.model_check import SHAPES, Bounds, search

SMALL = Bounds(tick_s=1.0, faults=1, ticks=45)
CLOCKS = {"guard": 3, "lease": 1}  # beginnings: clocks, phases and ends of units


@pytest.mark.parametrize("protocol", ["guard", "lease"])
def test_no_schedule_leads_to_two_active_sides(
    protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One fault at any tick, its end at any later one, and the worst clocks."""
    found = search(protocol, SHAPES[protocol], replace(SMALL, beginnings=CLOCKS[protocol]))
    with capsys.disabled():
        print(f"\n{protocol}: {found.states} states, {found.edges} edges, {found.ends} at rest")
    assert found.violation == ()
    assert found.states > 1000
    assert found.ends > 10


def test_one_tick_less_of_takeover_delay_is_found() -> None:
    """Inequality (1) and (2) broken by one tick: a shortest schedule leads to two active sides."""
    short = replace(SHAPES["guard"], short_s=SMALL.tick_s)
    found = search("guard", short, SMALL)
    assert found.violation
    assert len(found.violation) == 2, "one beginning and one fault"
    assert found.overlap_s > 0.0 or found.violation[1].endswith("isolate P")


def test_one_tick_more_of_lease_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inequality (4) broken by one tick: the holder believes in its lease for longer."""
    granted = Keeper._granted

    def longer(self: Keeper, reply: object, now_s: float) -> None:
        granted(self, reply, now_s)  # type: ignore[arg-type]
        if self.until_s > now_s:
            self.until_s += SMALL.tick_s
            self._ours_s += SMALL.tick_s

    monkeypatch.setattr(Keeper, "_granted", longer)
    assert search("lease", SHAPES["lease"], SMALL).violation
