"""Would the tests notice?  Small lies are put into the deciding modules, one at a time.

Rule: nothing in the checkout is changed.  The tree is copied once; a mutant exists only in the
memory of the process that tests it, which an import hook gives it to.

`python -m tests.mutation` tries every module of PLAN, `--module machine` one of them, `--sample
100` so many mutants of each.  Docstrings, annotations and sentences are left as they are.
"""

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = "failover_monitor"
ROOT = Path(__file__).parent.parent
TABLES = ("tests/test_machine.py", "tests/test_guard.py", "tests/test_scenarios.py")
PLAN = {
    "detector": ("tests/test_detector.py", "tests/test_detector_edges.py"),
    "contact": ("tests/test_contact.py", "tests/test_scenarios.py"),
    "machine": TABLES,
    "guard": TABLES,
    "decision": TABLES,
    "services": TABLES,
    "table": TABLES,
    "orders": ("tests/test_orders.py", "tests/test_scenarios.py"),
}
PRELOADED = ["pytest", "pytest_asyncio", "hypothesis.stateful", "pydantic", "asyncio"]
EVERY_NTH = "17"  # turn of the exhaustive tests; prime, and so that every row fires
MEMORY = 2 << 30
KILLERS = 12  # so many of the tests that killed last are asked first
LATER: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
UNTOUCHED = ("annotation", "returns", "decorator_list", "bases")


# The mutants.


@dataclass(frozen=True)
class Mutant:
    """One lie, and the module that tells it."""

    module: str
    line: int
    change: str
    source: str


@dataclass
class Slot:
    """A place in the tree where a node hangs."""

    owner: ast.AST
    name: str
    index: int | None

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.owner, self.name, node)
        else:
            getattr(self.owner, self.name)[self.index] = node


def mutants(module: str, source: str, enums: dict[str, list[str]]) -> Iterator[Mutant]:
    """Every mutant of one module, in the order of its lines."""
    tree = ast.parse(source)
    plain, told = ast.unparse(tree), set()
    for slot, node, function in slots(tree, None):
        for lie in lies(node, slot, function, enums):
            slot.put(ast.fix_missing_locations(ast.copy_location(lie, node)))
            text = ast.unparse(tree)
            if text not in told and text != plain:
                told.add(text)
                change = shown_change(node, lie)
                yield Mutant(module, getattr(node, "lineno", 0), change, text)
            slot.put(node)


def shown_change(node: ast.AST, lie: ast.AST) -> str:
    if isinstance(node, ast.Tuple | ast.Set) and isinstance(lie, ast.Tuple | ast.Set):
        return f"without {shown(next(e for e in node.elts if e not in lie.elts))}"
    return f"{shown(node)}  ->  {shown(lie)}"


def shown(node: ast.AST) -> str:
    """On one line."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 120 else f"{text[:120]} ..."


def slots(
    node: ast.AST, function: ast.FunctionDef | None
) -> Iterator[tuple[Slot, ast.AST, ast.FunctionDef | None]]:
    """Every node that may be replaced, with the function it is in."""
    if isinstance(node, ast.JoinedStr):
        return  # a sentence
    inside = node if isinstance(node, ast.FunctionDef) else function
    for name, value in ast.iter_fields(node):
        if name in UNTOUCHED:
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.expr | ast.stmt | ast.keyword):
                yield Slot(node, name, index if isinstance(value, list) else None), child, inside
                yield from slots(child, inside)


def lies(
    node: ast.AST, slot: Slot, function: ast.FunctionDef | None, enums: dict[str, list[str]]
) -> Iterator[ast.AST]:
    """What may stand in the place of this node."""
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Attribute(value=ast.Name(id=name), attr=attr) if attr in enums.get(name, ()):
            members = enums[name]
            after = members[(members.index(attr) + 1) % len(members)]
            yield ast.Attribute(node.value, after, ast.Load())
        case ast.Name(id=name) if name in NAMES and isinstance(slot.owner, ast.Call):
            yield ast.Name(NAMES[name], ast.Load())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.expr():
            yield from lies_of_expression(node, slot, function)
        case ast.stmt():
            yield from lies_of_statement(node, function)


def lies_of_expression(  # noqa: C901, one case for each kind
    node: ast.expr, slot: Slot, function: ast.FunctionDef | None
) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(left=left, ops=[op], comparators=right):
            yield from (ast.Compare(left, [new()], right) for new in LATER.get(type(op), ()))
        case ast.Compare(left=left, ops=ops, comparators=right):
            for i, op in enumerate(ops):
                for new in LATER.get(type(op), ()):
                    yield ast.Compare(left, [*ops[:i], new(), *ops[i + 1 :]], right)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for rest in but_one(values):
                yield rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from (left, right)
        case ast.BinOp(left=left, op=op, right=right):
            yield from (ast.BinOp(left, new(), right) for new in LATER.get(type(op), ()))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Tuple(elts=elements) | ast.Set(elts=elements) if len(elements) > 1:
            if function is None or isinstance(slot.owner, ast.Compare):
                yield from (type(node)(rest) for rest in but_one(elements))
        case ast.Call():
            yield from lies_of_call(node)


def lies_of_call(node: ast.Call) -> Iterator[ast.AST]:
    match node:
        case ast.Call(func=ast.Name(id="min" | "max"), args=args, keywords=[]) if len(args) > 1:
            for rest in but_one(args):
                yield rest[0] if len(rest) == 1 else ast.Call(node.func, rest, [])
        case ast.Call(func=ast.Name(id="reversed"), args=[argument]):
            yield argument
        case ast.Call(func=ast.Name(), args=args, keywords=keywords) if keywords:
            yield from (ast.Call(node.func, args, rest) for rest in but_one(keywords))


def lies_of_statement(node: ast.stmt, function: ast.FunctionDef | None) -> Iterator[ast.AST]:
    match node:
        case ast.Expr(value=ast.Constant()):
            return
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            truth = function and function.returns and ast.unparse(function.returns) == "bool"
            answers = (True, False) if truth else (None,)
            yield from (ast.Return(ast.Constant(answer)) for answer in answers)
        case ast.If(body=body, orelse=orelse):
            yield ast.If(ast.Constant(True), body, orelse)
            yield ast.If(ast.Constant(False), body, orelse)
        case ast.Assign(targets=[ast.Name() | ast.Tuple()]):
            return  # the next line would not even run
        case ast.AugAssign(target=target, op=op, value=value):
            yield from (ast.AugAssign(target, new(), value) for new in LATER.get(type(op), ()))
            yield ast.Pass()
        case ast.Expr() | ast.Assign() | ast.Continue() | ast.Return():
            yield ast.Pass()


def but_one(some: list[Any]) -> Iterator[list[Any]]:
    for i in range(len(some)):
        yield [*some[:i], *some[i + 1 :]]


def enums_of(package: Path) -> dict[str, list[str]]:
    """The members of every enumeration of the package, in their order."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and "Enum" in " ".join(map(ast.unparse, node.bases)):
                assigns = [n for n in node.body if isinstance(n, ast.Assign)]
                found[node.name] = [ast.unparse(n.targets[0]) for n in assigns]
    return found


# One mutant's process.


class Lie(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module another source."""

    def __init__(self, module: str, source: str) -> None:
        self.module, self.source = module, source

    def find_spec(
        self, fullname: str, path: object, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.module:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.source, f"<{self.module}>", "exec"), module.__dict__)  # noqa: S102


@dataclass
class Tried:
    """What became of the tests of one mutant."""

    killer: str = ""  # the test that failed; "" = none did
    took_s: dict[str, float] = field(default_factory=dict)


class Watcher:
    """A plugin: the quickest tests first, but before them what killed others."""

    def __init__(self, order: list[str]) -> None:
        self.rank = {name: rank for rank, name in enumerate(order)}
        self.tried = Tried()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items.sort(key=lambda item: self.rank.get(item.nodeid, 0))

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call":
            self.tried.took_s[report.nodeid] = report.duration
        if report.failed:
            self.tried.killer = report.nodeid


def try_one(
    tree: str, lie: tuple[str, str], tests: Sequence[str], order: list[str], cpu_s: int, out: Any
) -> None:
    """In a process of its own: run the tests of a mutant and say what became of them."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.chdir(tree)
    os.environ["TURNS_EVERY"] = EVERY_NTH
    silence = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(silence, descriptor)
    for name in list(sys.modules):
        if name.split(".")[0] in ("tests", PACKAGE):
            del sys.modules[name]
    sys.path[:] = [tree, *(entry for entry in sys.path if entry not in ("", tree, str(ROOT)))]
    sys.dont_write_bytecode = False  # the copy is compiled once
    sys.meta_path.insert(0, Lie(*lie))
    import hypothesis
    import pytest

    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("same", derandomize=True, database=None, phases=phases)
    hypothesis.settings.load_profile("same")
    watcher = Watcher(order)
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist"]
    status = pytest.main([*options, *tests], plugins=[watcher])
    if status and not watcher.tried.killer:
        watcher.tried.killer = "(it does not even load)"
    out.send((watcher.tried.killer, watcher.tried.took_s))
    os._exit(0)


class Laboratory:
    """A copy of the tree, and a server that forks a process for each mutant."""

    def __init__(self, root: Path, tests: Sequence[str]) -> None:
        self._room = tempfile.TemporaryDirectory(prefix="mutation-")
        self.tree = Path(self._room.name)
        self.tests = tests
        for name in (PACKAGE, "tests"):
            shutil.copytree(root / name, self.tree / name)
        if (root / "pyproject.toml").exists():
            shutil.copy(root / "pyproject.toml", self.tree)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOADED)
        self.cpu_s = 600
        self.took_s: dict[str, float] = {}
        self.killers: list[str] = []
        self.lock = threading.Lock()

    def close(self) -> None:
        self._room.cleanup()

    def begin(self, module: str) -> None:
        """What is true passes; how long that takes sets the limit for a lie."""
        began_s = time.monotonic()
        source = (self.tree / PACKAGE / f"{module}.py").read_text()
        tried = self.ask(Mutant(module, 0, "nothing", source))
        if tried.killer:
            raise SystemExit(f"cannot begin: {tried.killer} fails without any mutant")
        self.took_s = tried.took_s
        self.cpu_s = 20 + 5 * int(sum(tried.took_s.values()))
        print(
            f"{module}: {len(tried.took_s)} tests, {time.monotonic() - began_s:.1f} s", flush=True
        )

    def ask(self, mutant: Mutant) -> Tried:
        with self.lock:
            quick = sorted(self.took_s, key=self.took_s.__getitem__)
            order = [*dict.fromkeys([*reversed(self.killers[-KILLERS:]), *quick])]
        ours, theirs = self.context.Pipe(duplex=False)
        lie = f"{PACKAGE}.{mutant.module}", mutant.source
        arguments = (str(self.tree), lie, self.tests, order, self.cpu_s, theirs)
        process = self.context.Process(target=try_one, args=arguments)
        process.start()
        theirs.close()
        tried = heard(ours, 20.0 * self.cpu_s)
        process.kill()
        process.join()
        if tried.killer in self.took_s:
            with self.lock:
                self.killers.append(tried.killer)
        return tried


def heard(ours: "Connection[Any, Any]", limit_s: float) -> Tried:
    """What the process says; one that says nothing has gone on for ever, or filled its memory."""
    try:
        if ours.poll(limit_s):
            return Tried(*ours.recv())
    except EOFError:
        pass
    return Tried("(time or memory ran out)")


# All of them.


def survivors(
    root: Path,
    module: str,
    tests: Sequence[str],
    *,
    sample: int | None = None,
    seed: int = 0,
    workers: int = 2,
) -> tuple[int, list[Mutant]]:
    """How many mutants were tried, and those that no test noticed."""
    source = (root / PACKAGE / f"{module}.py").read_text()
    chosen = list(mutants(module, source, enums_of(root / PACKAGE)))
    if sample is not None and sample < len(chosen):
        picked = sorted(random.Random(seed).sample(range(len(chosen)), sample))
        chosen = [chosen[i] for i in picked]
    laboratory = Laboratory(root, tests)
    try:
        laboratory.begin(module)
        with ThreadPoolExecutor(workers) as pool:
            tried = pool.map(laboratory.ask, chosen)
            left = []
            for mutant, fate in zip(chosen, tried, strict=True):
                if not fate.killer:
                    left.append(mutant)
                    print(told(mutant), flush=True)
    finally:
        laboratory.close()
    return len(chosen), left


def told(mutant: Mutant) -> str:
    return f"{PACKAGE}/{mutant.module}.py:{mutant.line}: {mutant.change}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--module", action="append", choices=PLAN)
    parser.add_argument("--sample", type=int, help="so many mutants of each module; absent: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    scores = {}
    for module in options.module or PLAN:
        count, left = survivors(
            ROOT,
            module,
            PLAN[module],
            sample=options.sample,
            seed=options.seed,
            workers=options.workers,
        )
        scores[module] = count, len(left)
        print(f"{module}: {count - len(left)} of {count} mutants were noticed", flush=True)
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
