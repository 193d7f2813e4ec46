"""The README does not lie: its tables are the code's."""

import argparse
import json
import re
import subprocess
from pathlib import Path

import pytest

from failover_monitor.cli import parser
from failover_monitor.events import Kind
from failover_monitor.guard import TABLE as GUARD_TABLE
from failover_monitor.machine import TABLE
from failover_monitor.settings import PROTECTIONS, Keys, MetricsKeys, NotifyKeys, Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def cells(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading line."""
    rows = []
    for line in README[README.index(heading) :].splitlines()[1:]:
        if line.startswith("|"):
            rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
        elif rows:
            break
    return rows[2:]


def test_the_decision_table_is_the_program() -> None:
    """Every row of the table stands in the README, in order, with its sentence."""
    told = [tuple(row) for row in cells("The core reads in this order")]
    rows = [(r.source, r.target, r.when.__name__.replace("_", " "), r.because) for r in TABLE]
    assert told == rows


def test_the_diagram_is_the_table() -> None:
    """The diagrams are what `explain --mermaid` prints: of the standby, and of the guard."""
    safety = (ROOT / "docs/safety.md").read_text()
    for page, table in ((README, TABLE), (safety, GUARD_TABLE)):
        drawn = re.findall(r"^    (\w+) --> (\w+): (.+)$", page, re.MULTILINE)
        assert drawn == [(r.source, r.target, r.because) for r in table]


def test_every_setting_is_in_the_settings_table() -> None:
    """Each key of the configuration has its line, with its default."""
    told = {row[0]: row[1] for row in cells("## Settings")}
    assert set(told) == set(Settings.model_fields)
    for key, field in Settings.model_fields.items():
        if field.is_required() or key == "active_ip":
            assert told[key] == "required", key
        elif told[key] != "absent":
            default = field.get_default()
            assert json.loads(told[key]) == (list(default) if default == () else default), key


@pytest.mark.parametrize("keys", PROTECTIONS)
def test_every_setting_of_a_protection_is_told(keys: type[Keys]) -> None:
    """Each key inside one of them stands in the page about them."""
    page = (ROOT / "docs/settings.md").read_text()
    for name, field in keys.model_fields.items():
        assert f"| `{field.alias or name}` |" in page, name


@pytest.mark.parametrize("keys", [NotifyKeys, MetricsKeys])
def test_every_setting_of_the_agent_is_told(keys: type[Keys]) -> None:
    """Each key inside notify and metrics stands in the page about them."""
    page = (ROOT / "docs/notifications.md").read_text()
    for name in keys.model_fields:
        assert f"| `{name}` |" in page, name


def test_every_command_is_told() -> None:
    """Each command of the program has its line."""
    told = {row[0].split()[1] for row in cells("status failover-monitor` say more")}
    (commands,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert told == set(commands.choices)


def test_message_ids_are_the_events() -> None:
    """What the README lets journalctl look for is what the monitor sends."""
    told = re.findall(r"MESSAGE_ID=([0-9a-f]{32})", README)
    assert told == [Kind.TRANSITION.value, Kind.FOREIGN.value]


def test_the_two_commands_exist() -> None:
    """What the README tells a newcomer to run can be run."""
    for command in ("tests/demo", "tests/run"):
        assert f"\n{command} " in README
        subprocess.run(["bash", "-n", ROOT / command], check=True)


def test_links_lead_somewhere() -> None:
    """Every relative link in README and docs names a file that exists."""
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
