"""The code hash moves when a number could have, and not before; the rest names no machine."""

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from fer_utils import provenance
from fer_utils.provenance import code_hash, commit, versions

PACKAGE = {
    "__init__": "",
    "work": '''
"""A module."""
from typing import Literal

from fer_utils import tools
from fer_utils.deep.layers import double as twice
from fer_utils.tools import LIMIT, never_used

Kind = Literal["one", "two"]
SCALE = 3
TABLE: dict[str, int] = {"offset": 1}
low, high = 0, 9


def decorate(times):
    return lambda function: function


class Base:
    start = 4


class Counter(Base):
    """A class."""

    def step(self):
        """A method."""
        return self.start + 1


@decorate(2)
def entry(x: Kind = "one", y=high) -> int:
    """What it does."""
    # why it does it
    from fer_utils.late import lazily

    return helper(x) * SCALE + TABLE["offset"] + tools.by_module(x) + twice(y) + lazily(Counter())


def helper(x):
    return min(x, LIMIT)


def unrelated(x):
    return x - 1
''',
    "tools": """
LIMIT = 7
INSIDE = 5


def by_module(x):
    return x + INSIDE


def never_used():
    return 11
""",
    "late": """
def lazily(counter):
    return counter.step() ** 2
""",
    "deep/__init__": "",
    "deep/layers": """
def double(x):
    return 2 * x
""",
    "other": """
CONSTANT = 1
""",
}
ENTRY = ("fer_utils.work:entry",)


@pytest.fixture
def hash_of(tmp_path):
    """A function from (module, old text, new text) to the hash of the package so changed."""
    numbers = count()

    def make(module="work", old="", new="", entry_points=ENTRY):
        source = tmp_path / str(next(numbers))  # modules are read once a folder
        for name, text in PACKAGE.items():
            path = source / "fer_utils" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            if name == module and old:
                assert text.count(old) == 1, f"{old!r} does not name one place"
                text = text.replace(old, new)
            path.write_text(text)
        return code_hash(entry_points, source)

    return make


def test_the_hash_is_the_same_wherever_the_package_lies(hash_of):
    assert hash_of() == hash_of()
    assert len(hash_of()) == 64


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("work", "# why it does it", "# for another reason"),
        ("work", '"""What it does."""', '"""What it does, in other words."""'),
        ("work", '    """What it does."""\n', ""),
        ("work", '"""A class."""', '"""A counter."""'),
        ("work", '"""A method."""', '"""A step."""'),
        ("work", '"""A module."""', '"""Another text."""'),
        ("work", "return x - 1", "return x - 2"),
        ("work", "x: Kind", "x: str"),
        ("work", "x: Kind", "x"),
        ("work", ") -> int:", ") -> float:"),
        ("work", ") -> int:", "):"),
        ("work", 'Literal["one", "two"]', 'Literal["one"]'),
        ("work", "import LIMIT, never_used", "import LIMIT"),
        ("work", "helper(x) * SCALE", "(\n        helper(x)\n        * SCALE\n    )"),
        ("work", '"offset": 1', "'offset': 1"),
        ("work", '"offset": 1', '"offset": 0x1'),
        ("tools", "return 11", "return 12"),
        ("other", "CONSTANT = 1", "CONSTANT = 2"),
    ],
)
def test_what_moves_no_number_leaves_the_hash(hash_of, module, old, new):
    assert hash_of(module, old, new) == hash_of()


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("work", "* SCALE", "+ SCALE"),
        ("work", "SCALE = 3", "SCALE = 4"),
        ("work", '"offset": 1', '"offset": 2'),
        ("work", "low, high = 0, 9", "low, high = 0, 8"),
        ("work", "min(x, LIMIT)", "max(x, LIMIT)"),
        ("work", 'Kind = "one"', 'Kind = "two"'),
        ("work", "lambda function: function", "lambda function: None"),
        ("work", "@decorate(2)\n", ""),
        ("work", "@decorate(2)", "@decorate(3)"),
        ("work", "self.start + 1", "self.start + 2"),
        ("work", "start = 4", "start = 5"),
        ("work", "tools.by_module(x)", "tools.by_module(y)"),
        ("tools", "LIMIT = 7", "LIMIT = 8"),
        ("tools", "x + INSIDE", "x - INSIDE"),
        ("tools", "INSIDE = 5", "INSIDE = 6"),
        ("late", "** 2", "** 3"),
        ("deep/layers", "2 * x", "3 * x"),
    ],
)
def test_what_can_move_a_number_moves_the_hash(hash_of, module, old, new):
    assert hash_of(module, old, new) != hash_of()


def test_the_hash_depends_on_which_functions_a_run_calls(hash_of):
    both = (*ENTRY, "fer_utils.work:unrelated")
    assert hash_of(entry_points=both) != hash_of()
    assert hash_of(entry_points=both) == hash_of(entry_points=both[::-1])
    assert hash_of("work", "x - 1", "x - 2", both) != hash_of(entry_points=both)


@pytest.mark.parametrize(
    ("entry_point", "message"),
    [
        ("fer_utils.work:gone", "fer_utils.work:gone: no such definition"),
        ("fer_utils.gone:entry", "fer_utils.gone: no such module"),
    ],
)
def test_an_entry_point_that_does_not_exist_is_refused(hash_of, entry_point, message):
    with pytest.raises(ValueError, match=message):
        hash_of(entry_points=(entry_point,))


@pytest.mark.parametrize("new", ["from .late import lazily", "from . import late"])
def test_an_import_that_the_hash_would_not_follow_is_refused(hash_of, new):
    """At the top of a module or inside a function: either way a change behind it would be lost."""
    with pytest.raises(ValueError, match="work: an import with a dot"):
        hash_of("work", "from fer_utils.late import lazily", new)


HASHES = """
import ast, json
from fer_utils.provenance import SOURCE, code_hash
hashes = {}
for path in sorted((SOURCE / "fer_utils").rglob("*.py")):
    module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            entry = f"{module}:{node.name}"
            hashes[entry] = code_hash((entry,))
print(json.dumps(hashes))
"""


def hashes_under(python: str) -> dict[str, str]:
    run = subprocess.run(
        [python, "-c", HASHES],
        env={**os.environ, "PYTHONPATH": str(provenance.SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout)


def test_every_supported_python_gives_the_same_hash_of_every_definition():
    other = "python3.12" if sys.version_info[:2] == (3, 11) else "python3.11"
    python = shutil.which(other)
    if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"{other} is not installed, nothing to compare with")
    here = hashes_under(sys.executable)
    assert len(here) > 50
    assert hashes_under(python) == here


def test_versions_are_those_of_python_and_of_what_is_installed():
    import numpy as np

    found = versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["numpy"] == np.__version__
    assert {"keras", "tensorflow", "torch", "imbalanced-learn", "opencv-python"} <= set(found)


def test_a_library_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(provenance, "LIBRARIES", ("numpy", "no-such-library"))
    assert set(versions()) == {"python", "numpy"}


def test_opencv_without_windows_is_opencv(monkeypatch):
    installed = {"opencv-python-headless": "4.14", "imbalanced-learn": "0.14"}

    def version(name):
        if name not in installed:
            raise metadata.PackageNotFoundError
        return installed[name]

    monkeypatch.setattr(provenance.metadata, "version", version)
    monkeypatch.setattr(provenance, "LIBRARIES", ("opencv-python", "imbalanced-learn"))
    of_both = {"python": versions()["python"], "opencv-python": "4.14", "imbalanced-learn": "0.14"}
    assert versions() == of_both
    installed["opencv-python"] = "4.13"
    assert versions() == {**of_both, "opencv-python": "4.13"}


def test_the_commit_is_told_and_whether_tracked_files_differ_from_it(tmp_path):
    def git(*words):
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        run = ["git", "-C", tmp_path, *identity, *words]
        return subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "one")
    here = {"commit": git("rev-parse", "HEAD"), "modified": False}
    assert commit(tmp_path) == here
    (tmp_path / "result").write_text("made by the run")
    assert commit(tmp_path) == here
    (tmp_path / "file").write_text("two")
    assert commit(tmp_path) == {**here, "modified": True}


def test_without_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit(tmp_path) == {"commit": None, "modified": None}
    monkeypatch.setenv("PATH", "")
    assert commit(Path(provenance.SOURCE)) == {"commit": None, "modified": None}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("model name\t: a core\nflags\t\t: fpu avx2 avx512f\n", ("a core", "AVX-512")),
        ("model name\t: a core\nflags\t\t: fpu avx avx2\n", ("a core", "AVX2")),
        ("model name\t: a core\nFeatures\t: fp asimd\n", ("a core", "Neon")),
        ("model name\t: a: core\nflags\t\t: fpu\n", ("a: core", None)),
    ],
)
def test_a_processor_has_the_widest_of_its_instructions_named(monkeypatch, told, expected):
    monkeypatch.setattr(Path, "read_text", lambda self: told)
    found = provenance.device()
    assert (found["model"], found.get("instructions")) == expected


def test_a_gpu_in_use_is_named_and_one_that_is_not_there_is_not(monkeypatch):
    def cuda(available):
        return SimpleNamespace(
            cuda=SimpleNamespace(
                is_available=lambda: available, get_device_name=lambda: "a fast one"
            )
        )

    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setitem(sys.modules, "torch", cuda(True))
    found = provenance.device()
    assert (found["kind"], found["gpu"]) == ("gpu", "a fast one")
    monkeypatch.setitem(sys.modules, "torch", cuda(False))
    assert provenance.device()["kind"] == "cpu"
    assert "gpu" not in provenance.device()
