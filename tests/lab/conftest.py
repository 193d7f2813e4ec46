"""Fixtures of the lab ring.  A machine that cannot run a lab fails these tests; it never skips.

Every test is audited when it ends (`audit.py`); one that failed leaves its timeline in a file.
"""

import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.audit import Timeline, findings
from tests.lab.enter import RUN_VARIABLE, shortcomings
from tests.lab.hosts import Lab, SystemdHost
from tests.lab.pair import LOG, Pair, pair

FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Heard where pytest is given this directory, or something in it."""
    parser.addoption("--timelines", metavar="DIR", help="write the timeline of every lab test")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "two_active: that two hosts serve at its end is its point")


@pytest.fixture(scope="session")
def _machine_can() -> None:
    missing = shortcomings()
    if missing:
        pytest.fail("cannot run the lab:\n  " + "\n  ".join(missing), pytrace=False)
    if RUN_VARIABLE not in os.environ:
        pytest.fail(
            "cannot run lab tests outside a lab run\nhint: python -m tests.lab.enter pytest ...",
            pytrace=False,
        )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each worker of xdist at most one slow test, and that first: they set the ring's time."""
    slow = [item for item in items if item.path.name == "test_network_slow.py"]
    quick = [item for item in items if item not in slow]
    share = len(items) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    for number, item in enumerate(slow):
        quick.insert(number * share, item)
    items[:] = quick


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember for the fixtures that a test failed, so that they can say what its hosts saw."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture
def lab(
    _machine_can: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lab]:
    """A lab of the test's own, with nothing in it; audited at the end."""
    with Lab() as made:
        timeline = Timeline(made)
        timeline.follow(monkeypatch)
        yield made
        failed = request.node.stash.get(FAILED, False)
        two_active = request.node.get_closest_marker("two_active") is not None
        found = [f"audit: {what}" for what in findings(made, two_active=two_active)]
        asked_for = request.config.getoption("--timelines", None)
        if failed or found or asked_for:
            directory = Path(asked_for) if asked_for else timelines(request.config)
            print(f"--- timeline: {timeline.write(directory, request.node.nodeid, found)}")
        if failed:
            print(*found, sep="\n")
            for host in made.hosts.values():
                if isinstance(host, SystemdHost):
                    _tell(host)
        elif found:
            pytest.fail("\n".join(found), pytrace=False)


def timelines(config: pytest.Config) -> Path:
    """Where the timelines of failed tests go: beside what else pytest remembers of them."""
    cache: pytest.Cache | None = getattr(config, "cache", None)  # it can be turned off
    if cache is None:
        return Path(tempfile.gettempdir(), "failover-monitor-timelines")
    return cache.mkdir("timelines")


@pytest.fixture
def make_pair(lab: Lab) -> Callable[..., Pair]:
    """`make_pair(**keys)`: gateway, primary and a standby whose monitor watches."""

    def make(**keys: Any) -> Pair:
        return pair(lab, **keys)

    return make


def _tell(host: SystemdHost) -> None:
    """Print what a host saw, for the report of a failed test."""
    try:
        print(f"--- {host.name}: journal\n{host.journal(lines=80)}")
        if host.exists(LOG):
            print(f"--- {host.name}: log\n" + "\n".join(host.read(LOG).splitlines()[-60:]))
    except Exception as error:  # noqa: BLE001 - a host that is off must not hide the test's failure
        print(f"--- {host.name}: {error}")
