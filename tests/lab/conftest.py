"""Fixtures of the lab ring.  A machine that cannot run a lab fails these tests; it never skips."""

import os
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from tests.lab.enter import RUN_VARIABLE, shortcomings
from tests.lab.hosts import Lab, SystemdHost
from tests.lab.pair import LOG, Pair, pair

FAILED = pytest.StashKey[bool]()


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
def lab(_machine_can: None, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab of the test's own, with nothing in it."""
    with Lab() as made:
        yield made
        if request.node.stash.get(FAILED, False):
            for host in made.hosts.values():
                if isinstance(host, SystemdHost):
                    _tell(host)


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
