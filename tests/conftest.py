"""Options of the test run."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="accept the timelines as they are now")
    parser.addoption("--seed", type=int, help="replay one random life")
