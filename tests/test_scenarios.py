"""Every file in scenarios/ is one test: a story, a script, and the expected timeline.

When a change of behaviour is meant, run `pytest --rewrite` and read the diff: only commit the lines
that you can explain.
"""

from pathlib import Path

import pytest

from failover_monitor.rehearsal import script, story

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path, request: pytest.FixtureRequest) -> None:
    """The story comes out as it is told."""
    text = path.read_text()
    scenario = script.parse(text, path.name)
    timeline = story.timeline(story.play(scenario).world)
    if request.config.getoption("--rewrite"):
        rule = f"{script.RULE}\n"
        path.write_text(text.partition(rule)[0] + rule + timeline)
    else:
        assert timeline == scenario.expected
