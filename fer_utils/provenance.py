"""Where a number comes from: versions, commit, machine, and a hash of the code that made it.

The code hash covers the functions that a run calls and whatever in `fer_utils` they reach, found
by reading the source. Comments, docstrings and functions that the run does not use leave it
unchanged, so a record goes stale when its number could have moved and not before.
"""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGE = "fer_utils"
SOURCE = Path(__file__).parents[1]
LIBRARIES = (
    *("keras", "tensorflow", "torch", "numpy", "scikit-learn", "imbalanced-learn"),
    *("opencv-python", "dlib-bin"),
)
# The same code under another name, which set-up installs where the system lacks libGL.
TWINS = {"opencv-python": "opencv-python-headless"}
# What /proc/cpuinfo calls instructions, the widest first.
WIDEST = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "Neon"}
# Libraries that do not move a chapter's numbers, by its framework.
OTHER_FRAMEWORK = {"Keras": {"torch"}, "PyTorch": {"keras", "tensorflow"}}


def code_hash(entry_points: tuple[str, ...], source: Path = SOURCE) -> str:
    """sha256 of every definition that the entry points reach inside the package.

    Args:
        entry_points: such as "fer_utils.models.yengikand2023:build"; a name alone after the colon.
        source: the folder that holds the package.

    Returns:
        64 hexadecimal digits, the same on every supported Python version.

    Raises:
        ValueError: an entry point that does not exist, or a module on the way with an import that
            begins with a dot.
    """
    reached: dict[str, str] = {}
    waiting = list(entry_points)
    while waiting:
        entry = waiting.pop()
        if entry in reached:
            continue
        module, _, name = entry.partition(":")
        definitions, imports = _module(source, module)
        if name not in definitions:
            raise ValueError(f"{entry}: no such definition in {module}")
        node = definitions[name]
        reached[entry] = _canonical(node)
        waiting += _references(node, module, definitions, imports, source)
    lines = [f"{entry} {text}" for entry, text in sorted(reached.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _references(node, module, definitions, imports, source) -> list[str]:
    """The package's definitions that a definition names, as entry points."""
    found = []
    for part in _walk(node):
        if isinstance(part, ast.Name):
            if part.id in definitions:
                found.append(f"{module}:{part.id}")
            elif part.id in imports and imports[part.id][1]:
                found.append("{}:{}".format(*imports[part.id]))
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            origin = imports.get(part.value.id)
            if origin and not origin[1] and part.attr in _module(source, origin[0])[0]:
                found.append(f"{origin[0]}:{part.attr}")
        elif isinstance(part, ast.ImportFrom) and (part.module or "").startswith(PACKAGE):
            for alias in part.names:
                if alias.name in _module(source, part.module)[0]:
                    found.append(f"{part.module}:{alias.name}")
    return found


def _walk(node):
    """Every node below, types of arguments and results left out: they move no number."""
    yield node
    for name, value in ast.iter_fields(node):
        if _is_type(node, name):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child)


def _is_type(node, field: str) -> bool:
    return field == "returns" or (field == "annotation" and isinstance(node, ast.arg))


@cache
def _module(source: Path, module: str) -> tuple[dict[str, ast.AST], dict[str, tuple[str, str]]]:
    """A module's top-level definitions, and what it imports from the package, by name."""
    base = source.joinpath(*module.split("."))
    path = base.with_suffix(".py") if base.with_suffix(".py").exists() else base / "__init__.py"
    if not path.exists():
        raise ValueError(f"{module}: no such module")
    tree = ast.parse(path.read_text())
    if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)):
        raise ValueError(f"{module}: an import with a dot, which the code hash does not follow")
    definitions: dict[str, ast.AST] = {}
    imports: dict[str, tuple[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        definitions[name.id] = node
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                inner = source.joinpath(*whole.split("."))
                is_module = inner.with_suffix(".py").exists() or inner.is_dir()
                imports[alias.asname or alias.name] = (
                    (whole, "") if is_module else (node.module, alias.name)
                )
    return definitions, imports


def _canonical(node) -> str:
    """A syntax tree as text, without docstrings and without what Python versions add empty."""
    if isinstance(node, ast.AST):
        fields = []
        for name, value in ast.iter_fields(node):
            if value is None or value == [] or name in ("ctx", "kind", "type_comment"):
                continue
            if _is_type(node, name):
                continue
            if name == "body" and isinstance(value, list) and _is_docstring(value[0]):
                value = value[1:]
            fields.append(f"{name}={_canonical(value)}")
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_canonical, node))}]"
    return repr(node)


def _is_docstring(node) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that can move a number."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        for name in (library, TWINS.get(library, library)):
            try:
                found.setdefault(library, metadata.version(name))
            except metadata.PackageNotFoundError:
                continue
    return found


def relevant(found: dict[str, str], framework: str) -> dict[str, str]:
    """Of `versions` those that can move a chapter's numbers, without what a build adds to them.

    Args:
        found: library -> version.
        framework: of the chapter, "Keras" or "PyTorch".
    """
    left_out = OTHER_FRAMEWORK.get(framework, set()) | {"python"}
    return {name: version.split("+")[0] for name, version in found.items() if name not in left_out}


def differing(made: dict[str, str], now: dict[str, str], framework: str) -> list[str]:
    """Libraries that can move a chapter's numbers and whose version is another one now.

    Args:
        made, now: library -> version. What one of the two lacks took no part in it.
        framework: see `relevant`.

    Returns:
        Such as "keras 3.14, now 3.15", one a library.
    """
    found = relevant(now, framework)
    return [
        f"{library} {version}, now {found[library]}"
        for library, version in relevant(made, framework).items()
        if found.get(library) not in (None, version)
    ]


def commit(source: Path = SOURCE) -> dict:
    """The git commit and whether tracked files differ from it; None where there is no git."""

    def git(*words: str) -> str:
        run = subprocess.run(["git", "-C", source, *words], capture_output=True, text=True)
        if run.returncode:
            raise OSError(run.stderr)
        return run.stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(changes)}
    except OSError:
        return {"commit": None, "modified": None}


def device() -> dict:
    """What computed: GPU if one was in use, processor, cores; without whose machine it is.

    "instructions" are the widest that the processor has, where it says so: frameworks choose their
    kernels by them, and other kernels round otherwise.
    """
    told = {}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told = dict(re.split(r"\s*:\s*", line, maxsplit=1) for line in lines if ":" in line)
    except OSError:
        pass
    model = told.get("model name") or platform.processor() or platform.machine()
    found = {"kind": "cpu", "model": model, "cores": os.cpu_count()}
    flags = (told.get("flags") or told.get("Features") or "").split()
    if widest := next((WIDEST[flag] for flag in WIDEST if flag in flags), None):
        found["instructions"] = widest
    if gpu := _gpu():
        found |= {"kind": "gpu", "gpu": gpu}
    return found


def _gpu() -> str | None:
    """The name of the GPU that a framework already in memory computes on."""
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if (tensorflow := sys.modules.get("tensorflow")) and (
        gpus := tensorflow.config.list_physical_devices("GPU")
    ):
        details = tensorflow.config.experimental.get_device_details(gpus[0])
        return details.get("device_name", gpus[0].name)
    return None
