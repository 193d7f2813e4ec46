"""The detector at its edges: what a mutant would do unseen otherwise (docs/mutation.md)."""

import pytest

from failover_monitor.detector import Check, Detector
from failover_monitor.model import Answer
from tests.test_detector import Bench, shipped
from tests.world import policy_of


def test_placeholder_of_imports() -> None:
    """x."""
    assert Check and Detector and Answer and Bench and shipped and policy_of and pytest
