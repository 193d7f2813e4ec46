"""Every file in scenarios/ is one test: a story, a script, and the expected timeline.

When a change of behaviour is meant, run `pytest --rewrite` and read the diff: only commit the lines
that you can explain.
"""

from pathlib import Path

import pytest

from tests import story

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path, request: pytest.FixtureRequest) -> None:
    """The story comes out as it is told."""
    script, expected = story.read(path)
    timeline = story.timeline(story.play(story.parse(script)))
    if request.config.getoption("--rewrite"):
        path.write_text(script + story.RULE + timeline)
    else:
        assert timeline == expected
