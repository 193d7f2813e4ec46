"""The tool that tries the tests is tried itself, on a module of one line."""

import ast
from pathlib import Path

from tests.mutation import PACKAGE, PLAN, ROOT, enums_of, mutants, survivors

TINY = '''"""Grown up, or rich."""


def welcome(age: int, rich: bool) -> bool:
    return age >= 18 or rich
'''
TESTS = '''"""Nobody asks about the eighteenth birthday."""

from failover_monitor.tiny import welcome


def test_welcome():
    assert welcome(19, False)
    assert welcome(10, True)
    assert not welcome(10, False)
'''


def test_a_lie_is_noticed_where_a_test_looks_and_only_there(tmp_path: Path) -> None:
    """The boundary that no test tries survives; every other change dies."""
    for name, text in ((f"{PACKAGE}/tiny.py", TINY), ("tests/test_tiny.py", TESTS)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).parent.joinpath("__init__.py").touch()
        (tmp_path / name).write_text(text)
    count, left = survivors(tmp_path, "tiny", ("tests/test_tiny.py",))
    assert [mutant.change for mutant in left] == [
        "age >= 18  ->  age > 18",
        "18  ->  19",
        "18  ->  17",
    ]
    assert count == len(left) + 6
    assert (tmp_path / PACKAGE / "tiny.py").read_text() == TINY


def test_every_mutant_is_another_program() -> None:
    """None is the module itself, none is tried twice, and each can be compiled."""
    enums = enums_of(ROOT / PACKAGE)
    assert enums["Verb"] == ["START", "STOP", "KILL"]
    for module in PLAN:
        source = (ROOT / PACKAGE / f"{module}.py").read_text()
        sources = [mutant.source for mutant in mutants(module, source, enums)]
        assert len({ast.unparse(ast.parse(source)), *sources}) == len(sources) + 1
        for text in sources[::10]:
            compile(text, module, "exec")
