"""The house rules that a machine can hold: who imports whom, and how long things get."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import failover_monitor

PACKAGE = Path(failover_monitor.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))
LINES, COLUMNS = 70, 100

MAY_IMPORT = {
    "__init__": "",
    "__main__": "cli",
    "model": "",
    "jsonc": "",
    "text": "",
    "safety": "model",
    "timing": "model safety",
    "detector": "model",
    "contact": "model",
    "table": "model",
    "services": "model table",
    "machine": "model table",
    "guard": "model table",
    "decision": "model table services machine guard",
    "orders": "model text",
    "events": "model table orders",
    "units": "model",
    "samples": "model",
    "status": "model detector contact samples",
    "probes": "model probes.icmp",
    "probes.icmp": "model probes.neighbour",
    "probes.neighbour": "",
    "health": "model",
    "commands": "text",
    "checks": "model checks.tcp checks.http checks.command checks.unit",
    "checks.runner": "model checks",
    "checks.tcp": "model commands",
    "checks.http": "model checks.tcp",
    "checks.command": "model commands",
    "checks.unit": "model commands units",
    "fence": "model commands",
    "leases": "model leases.keeper leases.etcd",
    "leases.keeper": "model",
    "leases.etcd": "model leases leases.keeper",
    "ownership": "",
    "hooks": "model commands events ownership",
    "protections": "model health checks.runner fence hooks leases leases.keeper",
    "bus": "",
    "cgroups": "",
    "unit_files": "",
    "systemd": "model bus units unit_files cgroups",
    "journal": "",
    "files": "events",
    "settings": "model safety",
    "config": "model jsonc settings safety text unit_files veil",
    "veil": "settings",
    "loader": "model config",
    "monitor": "model detector contact decision table services protections"
    " events files orders probes samples status",
    "daemon": "__init__ events files journal loader model monitor probes protections systemd",
    "dry_run": "commands daemon events files hooks leases.keeper model monitor protections systemd"
    " units",
    "cli": "__init__ files",
    "console": "",
    "console.check": "config decision model ownership timing",
    "console.status": "files text",
    "console.control": "files orders systemd console.lines console.status",
    "console.records": "files",
    "console.simulate": "config model rehearsal.moves rehearsal.outcome rehearsal.script"
    " rehearsal.story",
    "rehearsal": "",
    "rehearsal.toys": "commands fence health hooks leases.keeper model protections rehearsal.world",
    "rehearsal.world": "events model monitor protections rehearsal.toys",
    "rehearsal.moves": "model rehearsal.toys rehearsal.world",
    "rehearsal.script": "model rehearsal.moves text",
    "rehearsal.story": "events model rehearsal.script rehearsal.toys rehearsal.world",
    "rehearsal.outcome": "model rehearsal.story",
    "console.lines": "text",
    "console.history": "files console.records console.lines console.status",
    "console.why": "files console.records console.lines console.history",
    "console.picture": "files console.records console.lines console.history console.prose",
    "console.recommend": "config files model text timing console.records console.lines"
    " console.history",
    "console.story": "console.records",
    "console.plots": "console.story",
    "console.prose": "console.lines console.story model text",
    "console.report": "__init__ config console.lines console.plots console.prose console.records"
    " console.story files model text timing",
    "console.agent": "config settings agent.service agent.notify agent.words",
    "agent": "",
    "agent.follow": "files",
    "agent.conditions": "model",
    "agent.outbox": "agent.conditions",
    "agent.words": "agent.outbox model text",
    "agent.notify": "agent.words",
    "agent.courier": "agent.outbox agent.words model",
    "agent.metrics": "agent.conditions files model",
    "agent.service": "agent agent.conditions agent.courier agent.follow agent.metrics"
    " agent.outbox files model",
    "console.doctor": "config files model console.doctor_ask console.doctor_checks"
    " console.doctor_facts console.doctor_files console.doctor_paths",
    "console.doctor_facts": "model",
    "console.doctor_checks": "model units console.doctor_facts console.lines",
    "console.doctor_paths": "model timing console.doctor_facts",
    "console.doctor_files": "files model ownership console.doctor_facts console.status",
    "console.doctor_ask": "bus commands model probes timing checks.runner leases.etcd"
    " console.doctor_checks console.doctor_facts",
}
PURE = {
    "model": "dataclasses enum typing",
    "detector": "collections.abc dataclasses math",
    "contact": "collections.abc",
    "table": "collections.abc dataclasses",
    "services": "collections.abc dataclasses",
    "machine": "",
    "guard": "",
    "decision": "dataclasses",
    "orders": "dataclasses enum json math typing",  # json for what files say
    "health": "collections.abc dataclasses",
    "safety": "collections.abc dataclasses enum math",
    "leases.keeper": "dataclasses enum math",
    "timing": "collections.abc dataclasses math textwrap typing",
    "events": "collections.abc dataclasses enum json logging",  # logging for its levels
    "samples": "dataclasses typing",
    "text": "itertools",
    "veil": "re",
    "console.story": "bisect collections.abc dataclasses itertools logging math re",
    "units": "collections.abc os",  # os for CLD_EXITED
    "agent.conditions": "collections.abc dataclasses enum logging typing",
    "agent.outbox": "dataclasses typing",
    "console.doctor_facts": "collections.abc dataclasses enum typing",
    "console.doctor_checks": "collections.abc",
    "console.doctor_paths": "collections.abc urllib.parse",
}
OUTSIDE = {  # each library has one door
    "pydantic": "config settings",
    "pydantic_core": "config settings",
    "icmplib": "probes.icmp",
    "dbus_fast": "bus systemd",
    "jinja2": "console.report",
    "markupsafe": "console.report",
    "systemd": "journal",
    "aiohttp": "leases.etcd checks.http",
    "yarl": "checks.http",
    "rich": "console.lines console.status",
    "apprise": "agent.notify",
    "prometheus_client": "agent.metrics",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            module = node.module or ""
            for alias in node.names:
                inner = PACKAGE.parent / f"{module}.{alias.name}".replace(".", "/")
                is_module = inner.with_suffix(".py").exists() or inner.is_dir()
                yield f"{module}.{alias.name}" if is_module else module


def ours(path: Path) -> set[str]:
    names = set()
    for name in imported(path):
        head, _, rest = name.partition(".")
        if head == "failover_monitor":
            names.add(rest or "__init__")
    return names


def others(path: Path) -> set[str]:
    return {name for name in imported(path) if name.partition(".")[0] != "failover_monitor"}


every_file = pytest.mark.parametrize("path", FILES, ids=name_of)


def test_the_table_of_imports_is_complete() -> None:
    """Every module is in it, and nothing else."""
    assert {name_of(path) for path in FILES} == MAY_IMPORT.keys()


@every_file
def test_a_module_imports_what_its_room_allows(path: Path) -> None:
    """The rooms of the design: what decides knows nothing of what acts."""
    assert ours(path) <= set(MAY_IMPORT[name_of(path)].split())


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_imports_nothing_that_touches_the_world(name: str) -> None:
    """No clock, no socket, no file."""
    assert others(PACKAGE / f"{name.replace('.', '/')}.py") <= set(PURE[name].split())


@pytest.mark.parametrize("name", ["events", "units"])
def test_what_a_pure_module_takes_from_the_world_is_constants(name: str) -> None:
    """`logging` for its levels, `os` for a number; neither is called."""
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    called = [
        node.func.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
    ]
    assert not {"os", "logging"} & set(called)


@pytest.mark.parametrize("library", OUTSIDE)
def test_a_library_has_one_door(library: str) -> None:
    """What it costs, and what replaces it, is decided in one place."""
    users = {
        name_of(path)
        for path in FILES
        if library in {name.partition(".")[0] for name in others(path)}
    }
    assert users == set(OUTSIDE[library].split())


@pytest.mark.parametrize("module", ["daemon", "cli"])
def test_the_daemon_does_not_carry_the_reader_of_its_configuration(module: str) -> None:
    """What reads it would stay in its memory for ever."""
    script = (
        f"import failover_monitor.{module}, sys;"
        "sys.exit(any(name.partition('.')[0].startswith('pydantic') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


@every_file
def test_functions_fit_on_a_screen(path: Path) -> None:
    """Seventy lines at most, a hundred columns."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < LINES, node.name
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert len(line) <= COLUMNS, number


@pytest.mark.parametrize(
    "path",
    [*FILES, *sorted((ROOT / "tests").rglob("*.py"))],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_a_module_opens_with_what_it_is_for(path: Path) -> None:
    """On its first line, as a sentence."""
    first = path.read_text().split("\n", 1)[0]
    assert first.startswith('"""')
    assert first.rstrip('"')[-1] in ".:,;" or first[3:4].isupper()


@every_file
def test_names_say_what_is_meant(path: Path) -> None:
    """Predicates are statements, not errands; there is no drawer for everything else."""
    banned = ("check_", "handle_", "process_", "do_", "_check_", "_handle_", "_process_", "_do_")
    commands = {"check_config"}  # the command is called `check`
    lengths = ("_s",)  # a check is a thing, too, and has a length in seconds
    assert path.stem not in ("utils", "helpers", "common", "misc")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (
                node.name in commands
                or node.name.endswith(lengths)
                or not node.name.startswith(banned)
            ), node.name


@every_file
def test_nothing_is_left_for_later(path: Path) -> None:
    """No reminders in the code: a thing is done, or it is not in."""
    text = path.read_text()
    assert not [word for word in ("TODO", "FIXME", "XXX", "NotImplemented") if word in text]
