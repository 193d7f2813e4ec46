"""Alert rules and dashboard: tried with promtool, and with the figures that really exist."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent_desk import TAKEOVER
from tests.test_metrics import PROMTOOL, figures, new_desk, sample

DIRECTORY = Path(__file__).parent.parent / "docs/prometheus"
RULES, TESTS, DASHBOARD = (
    DIRECTORY / name for name in ("alerts.yml", "alerts_test.yml", "dashboard.json")
)
NAME = re.compile(r"\bfailover_monitor_\w+")


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROMTOOL, *words], cwd=DIRECTORY, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every figure that the agent writes, with the labels that it has."""
    desk = new_desk(tmp_path_factory.mktemp("known"))
    sample(desk)
    desk.tell(*TAKEOVER)
    desk.run(20, phase="active", verdict="down")
    found: dict[str, set[str]] = {}
    for name in figures(desk):
        head, _, labels = name.partition("{")
        found.setdefault(f"failover_monitor_{head}", set()).update(re.findall(r"(\w+)=\"", labels))
    return found


def expressions() -> Iterator[str]:
    """What the dashboard asks for; its variables stand for anything."""
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield re.sub(r"label_values\((.*), \w+\)", r"\1", variable["query"])


def test_the_rules_are_good_and_keep_their_own_tests() -> None:
    """Promtool reads them, and each of them rings when it should and not before."""
    good = promtool("check", "rules", "--lint-fatal", RULES.name)
    assert good.returncode == 0, good.stdout + good.stderr
    tried = promtool("test", "rules", TESTS.name)
    assert tried.returncode == 0, tried.stdout + tried.stderr


def test_every_rule_is_tried_both_ways() -> None:
    """In the tests each alert rings at least once and is silent at least once."""
    names = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    text = TESTS.read_text()
    assert set(re.findall(r"alertname: (\w+), exp_alerts: \[\]", text)) == names
    assert set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n", text)) == names


def test_rules_and_dashboard_name_only_figures_that_exist(known: dict[str, set[str]]) -> None:
    """A figure that was renamed would be an alarm that never rings."""
    used = set(NAME.findall(RULES.read_text())) | set(NAME.findall(TESTS.read_text()))
    for expression in expressions():
        used |= set(NAME.findall(expression))
    assert used <= known.keys()


def test_labels_in_the_dashboard_exist(known: dict[str, set[str]]) -> None:
    """Those of Prometheus' own, and those of the figure."""
    own = {"instance", "job"}
    dashboard = json.loads(DASHBOARD.read_text())
    for target in (target for panel in dashboard["panels"] for target in panel["targets"]):
        have = own.union(*(known[name] for name in NAME.findall(target["expr"])))
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= have, target
        assert set(re.findall(r"(\w+)=~?\"", target["expr"])) <= have, target


def test_every_expression_of_the_dashboard_is_understood(tmp_path: Path) -> None:
    """As a rule, so that promtool parses each with the parser of Prometheus."""
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$instance", ".*")}
        for number, expression in enumerate(expressions())
    ]
    assert len(rules) > 15
    assert parsed(tmp_path, rules)
    assert not parsed(tmp_path, [*rules, {"record": "panel:bad", "expr": "rate(x[5m"}])


def parsed(directory: Path, rules: list[dict[str, str]]) -> bool:
    path = directory / "panels.yml"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    return promtool("check", "rules", str(path)).returncode == 0


def test_the_dashboard_can_be_imported() -> None:
    """Ids are unique, panels lie beside each other, and the data source is the reader's choice."""
    dashboard = json.loads(DASHBOARD.read_text())
    panels: list[dict[str, Any]] = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}"
    assert dashboard["templating"]["list"][0]["name"] == "datasource"
