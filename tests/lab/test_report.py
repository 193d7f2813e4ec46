"""The report of a real takeover: on the standby where it happened, by the installed program."""

import time
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from tests.lab.hosts import wait_until
from tests.lab.pair import APP, CONFIG, MONITOR, Pair

pytestmark = pytest.mark.timeout(180)
MakePair = Callable[..., Pair]

T, V = 1.0, 1.5  # of the quick profile: the interval, and from first silence to the verdict
DAY_S = 86_400.0
NEAR_S = 0.5  # between what systemd says and what the monitor saw of it, on a busy machine
FILE = "/root/report.html"
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


class Steps(HTMLParser):
    """The rows of the takeovers' tables: time of day in seconds, and what happened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[tuple[float, str]] = []
        self._cells: list[str] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._inside = ("class", "episode") in attrs
        elif tag == "tr":
            self._cells = []
        elif tag == "td":
            self._cells.append("")

    def handle_data(self, data: str) -> None:
        if self._cells:
            self._cells[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr" and self._inside and self._cells:
            hours, minutes, seconds = self._cells[0].split(":")
            at_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
            self.rows.append((at_s, self._cells[2].strip()))
        if tag == "table":
            self._inside = False

    def at_s(self, words: str) -> float:
        """When this happened; there must be one such row."""
        (found,) = [at_s for at_s, what in self.rows if what.startswith(words)]
        return found


def after_s(stamp: float, day_s: float) -> float:
    """From a reading of CLOCK_MONOTONIC to a time of the day (UTC), whatever the date."""
    stamp_s = stamp + time.time() - time.monotonic()
    return (day_s - stamp_s + DAY_S / 2) % DAY_S - DAY_S / 2


def test_a_takeover_stands_in_the_report_at_its_time(make_pair: MakePair) -> None:
    """Silence, serving and failback are where the cut, systemd and the return have them."""
    made = make_pair()
    standby = made.standby
    cut = made.primary.cut()
    standby.wait_for(APP, "active", 20)
    active = standby.active_since(APP)
    healed = made.primary.heal()
    standby.wait_for(APP, "inactive", 20)
    wait_until(lambda: standby.status()["phase"] == "standby", 5, "the phase is standby")
    standby.wait_for_log("failback -> standby", 5)
    standby.run("failover-monitor", "report", "--html", FILE, "--since", "10m")
    page = standby.read(FILE)
    assert "(UTC+00:00)" in page
    steps = Steps(page)
    assert -0.05 <= after_s(cut, steps.at_s("the first echo that stayed unanswered")) <= T + NEAR_S
    assert V - 0.05 <= after_s(cut, steps.at_s("standby -> takeover")) <= T + V + NEAR_S
    assert abs(after_s(active, steps.at_s("takeover -> active"))) <= NEAR_S
    assert 0 <= after_s(healed, steps.at_s("active -> failback")) <= T + NEAR_S
    assert "T1: takeover on" in page
    assert "T2" not in page
    assert standby.run("stat", "-c", "%a", FILE).stdout == "644\n"


def test_whoever_may_read_the_record_gets_a_report(make_pair: MakePair) -> None:
    """Without the right to read the configuration, or to write where it was asked to."""
    standby = make_pair().standby
    made = standby.run(*NOBODY, "failover-monitor", "report", "--html", "-")
    assert made.stdout.startswith("<!doctype html>")
    assert "verdict up" in made.stdout
    refused = standby.run(*NOBODY, "failover-monitor", "report", "--html", FILE, check=False)
    assert refused.returncode == 1
    assert refused.stderr == f"cannot write '{FILE}': Permission denied\n"


def test_a_report_needs_no_monitor_and_no_configuration(make_pair: MakePair) -> None:
    """The monitor is stopped and its configuration is gone: the record is enough."""
    standby = make_pair().standby
    standby.systemctl("stop", MONITOR)
    standby.run("rm", CONFIG)
    page = standby.run("failover-monitor", "report", "--html", "-", "--since", "5m").stdout
    assert "No takeover is recorded." in page
    assert "unknown -&gt; standby: the primary answers" in page
