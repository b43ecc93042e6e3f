"""The lock, its conda twin, pyproject.toml and what is installed say the same."""

import ast
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12")
FOLDERS = ("notebooks", "tests", "tools", "workflow")  # beside the package

# torch asks for these on its own where it was built for CUDA; a machine without a GPU wants none.
CUDA = re.compile(r"^(nvidia-.*|cuda-.*|triton)$")
# Set-up exchanges the one for the other where the system lacks libGL.
TWINS = {"opencv-python-headless": "opencv-python"}


def lock_lines() -> list[str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


LOCK = {canonicalize_name(Requirement(line).name): Requirement(line) for line in lock_lines()}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pinned(name: str) -> str:
    (specifier,) = LOCK[canonicalize_name(name)].specifier
    return specifier.version


def on(python: str) -> dict[str, str]:
    """The environment of pip's markers under another Python."""
    return {**default_environment(), "python_version": python, "python_full_version": f"{python}.1"}


def installed() -> dict[str, importlib.metadata.Distribution]:
    found = {
        canonicalize_name(distribution.metadata["Name"]): distribution
        for distribution in importlib.metadata.distributions()
    }
    return {TWINS.get(name, name): distribution for name, distribution in found.items()}


def declared(*extras: str) -> list[Requirement]:
    lines = PROJECT["dependencies"] + [line for extra in extras for line in EXTRAS[extra]]
    return [Requirement(line) for line in lines]


def test_lock_gives_one_exact_version_a_line():
    for requirement in map(Requirement, lock_lines()):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        assert Version(specifier.version).local is None, f"the usual index has no {requirement}"
        assert not requirement.url, requirement
        assert not CUDA.match(requirement.name), requirement


def test_lock_names_nothing_twice_and_is_sorted():
    names = [Requirement(line).name for line in lock_lines()]
    assert len(LOCK) == len(names)
    assert names == sorted(names, key=str.lower)


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_holds_everything_that_its_packages_ask_for(python):
    distributions = installed()
    missing = []
    for name, distribution in distributions.items():
        if name not in LOCK:
            continue
        for requirement in map(Requirement, distribution.requires or []):
            wanted = canonicalize_name(requirement.name)
            marker = requirement.marker
            if marker and not marker.evaluate({**on(python), "extra": ""}):
                continue
            if CUDA.match(wanted):
                continue
            if wanted not in LOCK or not requirement.specifier.contains(
                pinned(wanted), prereleases=True
            ):
                missing.append(f"{name} asks for {requirement}")
            elif LOCK[wanted].marker and not LOCK[wanted].marker.evaluate(on(python)):
                missing.append(f"{name} asks for {requirement}, absent on Python {python}")
    assert not missing


def test_lock_holds_nothing_that_nobody_asks_for():
    asked = {canonicalize_name(requirement.name) for requirement in declared(*EXTRAS)}
    for distribution in installed().values():
        asked |= {canonicalize_name(Requirement(r).name) for r in distribution.requires or []}
    asked |= {"setuptools"}  # builds this package
    here = {
        name for name, line in LOCK.items() if not line.marker or line.marker.evaluate(on("3.11"))
    }
    assert here <= asked


def test_lock_installs_on_the_oldest_pythons_in_use():
    oldest = ("3.11.2", "3.12.3")  # Debian 12's and Ubuntu 24.04's
    wants_later = [
        f"{name} wants Python {distribution.metadata['Requires-Python']}"
        for name, distribution in installed().items()
        for python in oldest
        if name in LOCK
        and not SpecifierSet(distribution.metadata["Requires-Python"] or "").contains(python)
    ]
    assert wants_later == []


def test_what_is_installed_is_what_the_lock_says():
    distributions = installed()
    wrong = {}
    for name, requirement in LOCK.items():
        if requirement.marker and not requirement.marker.evaluate():
            continue
        found = distributions[name].version if name in distributions else "absent"
        if found.split("+")[0] != pinned(name):
            wrong[name] = f"{found}, the lock says {pinned(name)}"
    assert not wrong, "run: make setup"


def test_lock_satisfies_pyproject():
    for requirement in declared(*EXTRAS):
        assert requirement.specifier.contains(pinned(requirement.name)), requirement


def conda_packages() -> dict[str, str]:
    """Names and versions in environment.yml, those under pip among them."""
    versions = {}
    for entry in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]:
        for line in entry["pip"] if isinstance(entry, dict) else [entry]:
            name, *version = re.split("==?", line)
            assert name not in versions, f"{name} is named twice"
            versions[name] = version[0] if version else ""
    return versions


def test_conda_twin_has_the_versions_of_the_lock():
    versions = conda_packages()
    assert versions.pop("python") in PYTHONS
    versions.pop("pip")
    assert versions == {name: pinned(name) for name in versions}


def test_conda_twin_has_every_package_that_the_project_names():
    names = {canonicalize_name(requirement.name) for requirement in declared(*EXTRAS)}
    assert names | {"setuptools", "python", "pip"} == set(conda_packages())


def modules_of(path: Path) -> set[str]:
    """Top-level modules that a script, a module or a notebook's code cells import."""
    source = path.read_text(encoding="utf8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(source)["cells"] if cell["cell_type"] == "code"]
        lines = "\n".join("".join(cell["source"]) for cell in cells).splitlines()
        source = "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))
    modules = set()
    for node in ast.walk(ast.parse(source, str(path))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module.split(".")[0])
    return modules


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("fer_utils", []), *((name, [*EXTRAS]) for name in FOLDERS)],
)
def test_everything_imported_is_declared_and_locked(folder, extras):
    allowed = {canonicalize_name(requirement.name) for requirement in declared(*extras)}
    # dlib's wheel declares its compiled half alone.
    providers = {**importlib.metadata.packages_distributions(), "dlib": ["dlib-bin"]}
    own = {path.stem for name in (folder, "tests") for path in (ROOT / name).rglob("*.py")}
    own |= {"fer_utils", "tools", "tests"}
    undeclared = {}
    for path in [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).glob("*.ipynb")]:
        for module in modules_of(path) - own - set(sys.stdlib_module_names):
            names = {canonicalize_name(name) for name in providers.get(module, [])}
            names = {TWINS.get(name, name) for name in names}
            if not names & allowed:
                undeclared.setdefault(module, []).append(str(path.relative_to(ROOT)))
    assert not undeclared, "add it to pyproject.toml, requirements.lock and environment.yml"


# ---- set-up ------------------------------------------------------------------------------------


def test_set_up_does_not_empty_the_venv_of_another_checkout(tmp_path):
    """A link to it is refused in one sentence, and what it leads to stays."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder in (theirs / ".venv", ours / "tools"):
        folder.mkdir(parents=True)
    (theirs / ".venv" / "set-up.done").write_text(f"{theirs}\nhash\n")
    (ours / ".venv").symlink_to(theirs / ".venv")
    for name in ("requirements.lock", "pyproject.toml", "tools/set_up.py"):
        shutil.copy(ROOT / name, ours / name)
    done = subprocess.run(
        [sys.executable, ours / "tools" / "set_up.py"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == f".venv is a link to that of {theirs}; remove the link, and try again.\n"
    assert [path.name for path in (theirs / ".venv").iterdir()] == ["set-up.done"]


def test_set_up_trusts_a_python_only_where_it_is_the_venvs_own(tmp_path, monkeypatch):
    """Without pyvenv.cfg the venv's Python is the system's, and pip would install there."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    set_up = importlib.import_module("set_up")
    venv = tmp_path / ".venv"
    monkeypatch.setattr(set_up, "VENV", venv)
    monkeypatch.setattr(set_up, "PYTHON", venv / "bin" / "python")
    assert not set_up.right_python()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    assert set_up.right_python()
    (venv / "pyvenv.cfg").unlink()
    assert not set_up.right_python()


def test_a_second_set_up_waits_for_the_first_and_finds_it_done(tmp_path, monkeypatch):
    """Else it empties .venv, in which the first is at work."""
    (tmp_path / "tools").mkdir()
    for name in ("requirements.lock", "pyproject.toml", "tools/set_up.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    monkeypatch.syspath_prepend(ROOT / "tools")
    first = importlib.import_module("set_up")
    for name in ("ROOT", "VENV", "DONE", "UNFINISHED", "TURN"):
        path = tmp_path / getattr(first, name).relative_to(ROOT)
        monkeypatch.setattr(first, name, path)
    with first.turn():
        first.UNFINISHED.touch()
        second = subprocess.Popen(
            [sys.executable, tmp_path / "tools" / "set_up.py"],
            env={**os.environ, "PIP_NO_INDEX": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert second.stdout.readline() == "Waiting for another set-up of .venv to end\n"
        first.UNFINISHED.unlink()
        first.DONE.write_text(first.fingerprint())
    assert second.communicate(timeout=60) == ("", None)
    assert second.returncode == 0
    ignored = subprocess.run(["git", "check-ignore", "-q", "build/set-up.lock"], cwd=ROOT)
    assert ignored.returncode != 1, "git shows the lock"


# Leaves a pip that answers whatever it is asked; the first time it is cut off there.
VENV = """
import os, subprocess, sys
from pathlib import Path
del os.environ["PYTHONPATH"]
folder = Path(sys.argv[-1])
subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
(packages,) = folder.glob("lib/python*/site-packages")
(packages / "pip").mkdir()
(packages / "pip" / "__main__.py").touch()
first = folder.with_name("first")
if not first.exists():
    first.touch()
    sys.exit("Error: pip was cut off.")
"""


def set_up_in(folder: Path, *modules: Path) -> subprocess.CompletedProcess:
    (folder / "tools").mkdir(exist_ok=True)
    for name in ("requirements.lock", "pyproject.toml", "tools/set_up.py"):
        shutil.copy(ROOT / name, folder / name)
    return subprocess.run(
        [sys.executable, folder / "tools" / "set_up.py"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, modules)), "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
    )


def test_set_up_makes_a_half_made_venv_anew(tmp_path):
    """Half a pip may tell its version and install nothing, for ever."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "venv.py").write_text(VENV)
    (modules / "cv2.py").touch()
    failed = set_up_in(tmp_path, modules)
    assert failed.returncode == 1
    assert failed.stderr == "Set-up failed: .venv could not be made: Error: pip was cut off.\n"
    made = set_up_in(tmp_path, modules)
    assert made.returncode == 0, made.stderr
    assert re.match(r"Setting up \.venv .*\nSet-up done\.\n$", made.stdout)
    assert set_up_in(tmp_path, modules).stdout == ""


def test_set_up_says_that_the_disk_is_full(tmp_path):
    size = ["-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path]
    if subprocess.run(["mount", *size], capture_output=True).returncode:
        pytest.skip("mounting a small file system takes root")
    try:
        for _ in range(2):
            full = set_up_in(tmp_path)
            assert full.returncode == 1
            assert full.stderr == (
                f"Set-up failed: no space left on the disk of {tmp_path / '.venv'}.\n"
            )
            assert full.stdout.startswith("Setting up .venv ")
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)
