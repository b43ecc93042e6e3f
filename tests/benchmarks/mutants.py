"""Change the verdict logic at one place at a time; lists the changes that no test notices.

    python tests/benchmarks/mutants.py                          all of it, half an hour of a core
    python tests/benchmarks/mutants.py comparison --in judge    one module, one function

A mutant has one comparison, operator, number, truth value, condition or order of two arguments
changed. Each meets the tests of its module in a process of its own, up to the first failure.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    "comparison": ["test_comparison.py"],
    "estimates": ["test_estimates.py"],
    "differences": ["test_differences.py"],
}
# Imported once, before the mutants: nothing of this package.
HEAVY = ("numpy", "pandas", "scipy.stats", "statsmodels.api", "pydantic", "cv2", "hypothesis")
SECONDS = 300  # a mutant that takes longer is caught in a loop

EVEN = (
    "max",
    "min",
    "np.hypot",
    "welch_satterthwaite",
)  # the order of two arguments does not matter
SWAPPED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", default=[], help=", ".join(MODULES))
    parser.add_argument("--in", dest="function", help="only what is inside this function")
    options = parser.parse_args()
    for name in HEAVY:
        importlib.import_module(name)
    survived = total = 0
    for module in options.modules or MODULES:
        path = ROOT / "fer_utils" / f"{module}.py"
        source = path.read_text(encoding="utf8")
        if not survives(f"fer_utils.{module}", ast.parse(source), MODULES[module]):
            sys.exit(f"{path.relative_to(ROOT)}: its tests fail as it is")
        for place, mutant in mutants(source, options.function):
            total += 1
            if survives(f"fer_utils.{module}", mutant, MODULES[module]):
                survived += 1
                print(f"{path.relative_to(ROOT)}:{place}  survives", flush=True)
    print(f"{total} mutants, {survived} survive")
    sys.exit(survived > 0)


def mutants(source: str, function: str | None = None) -> Iterator[tuple[str, ast.Module]]:
    """Every module that differs from `source` in one place, and where that is.

    Args:
        source: Python.
        function: left out, all of them; otherwise the one whose body is changed.
    """
    tree = ast.parse(source)
    for number, node in enumerate(ast.walk(tree)):
        node.number = number
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and function in (None, node.name)
    ]
    for outer in functions:
        for node in (n for statement in outer.body for n in ast.walk(statement)):
            for said, changed in changes(node):
                mutant = copy.deepcopy(tree)
                put(mutant, node.number, changed)
                yield f"{node.lineno}: {ast.unparse(node)[:60]} -> {said}", mutant


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What a node may be instead."""
    found = []
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            if type(operator) in SWAPPED:
                other = copy.deepcopy(node)
                other.ops[place] = SWAPPED[type(operator)]()
                found.append(other)
    elif isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in SWAPPED:
        other = copy.deepcopy(node)
        other.op = SWAPPED[type(node.op)]()
        found.append(other)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        found.append(node.operand)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        found.append(ast.Constant(node.value + 1))
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        found.append(ast.Constant(not node.value))
    elif isinstance(node, ast.IfExp):
        found += [node.body, node.orelse]
    elif isinstance(node, ast.If):
        for value in (True, False):
            other = copy.deepcopy(node)
            other.test = ast.Constant(value)
            found.append(other)
    elif isinstance(node, ast.Call) and len(node.args) == 2 and ast.unparse(node.func) not in EVEN:
        other = copy.deepcopy(node)
        other.args.reverse()
        found.append(other)
    for other in found:
        other.lineno, other.number = node.lineno, node.number
        told = other.test if isinstance(node, ast.If) else other
        yield ast.unparse(told)[:60], other


def put(tree: ast.Module, number: int, changed: ast.AST) -> None:
    """Put a node in the place of the one with that number."""

    class Place(ast.NodeTransformer):
        def visit(self, node):
            if getattr(node, "number", None) == number:
                return changed
            return self.generic_visit(node)

    Place().visit(tree)
    ast.fix_missing_locations(tree)


def survives(module: str, mutant: ast.Module, tests: list[str]) -> bool:
    """Whether the tests pass with the mutant in the place of the module."""
    pid = os.fork()
    if pid == 0:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        import signal

        signal.alarm(SECONDS)
        sys.meta_path.insert(0, Instead(module, mutant))
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        os._exit(int(pytest.main([*options, *(str(ROOT / "tests" / name) for name in tests)])))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class Instead(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Loads a mutant under the name of its module."""

    def __init__(self, module: str, mutant: ast.Module) -> None:
        self.module, self.mutant = module, mutant

    def find_spec(self, name, path, target=None):
        if name != self.module:
            return None
        file = ROOT / f"{name.replace('.', '/')}.py"
        return importlib.util.spec_from_file_location(name, file, loader=self)

    def get_filename(self, name):
        return str(ROOT / f"{name.replace('.', '/')}.py")

    def get_data(self, path):
        return b""

    def source_to_code(self, data, path, *, _optimize=-1):
        return compile(self.mutant, path, "exec", dont_inherit=True)

    def path_stats(self, path):
        raise OSError  # no byte code is read or written


if __name__ == "__main__":
    main()
