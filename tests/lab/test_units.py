"""Units of every kind and temper, on real hosts: what systemd does with them, and what we do then."""

from collections.abc import Callable

from tests.lab.pair import Pair


def test_smoke(make_pair: Callable[..., Pair]) -> None:
    """x."""
    pair = make_pair()
    print(pair.takeover())
    print(pair.failback())
    print(pair.standby.log())
    print(pair.standby.events()[:3])
    print(pair.standby.status())
