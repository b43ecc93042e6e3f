"""Execute every chapter, then build the book. Run by the Makefile: `make book`.

    python tools/build_book.py [--profile smoke]

notebooks/<name>.ipynb   is executed by papermill with the parameters `profile` and `output_dir`;
                         its last cell writes <output_dir>/<name>.done.json
build/notebooks/         executed chapters, all of them whole
build/failed/            the partial notebook of a chapter that failed, for a look at the error
build/book_source/       what Jupyter Book is given: book/, the chapters, _config.yml, _toc.yml
build/book/_build/html/  the book

A chapter is executed again, and the book built again, only when something it depends on has other
contents: a fresh clone has arbitrary times, so contents decide.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
HTML = BUILD / "book" / "_build" / "html"
CELL_SECONDS = {"smoke": 900, "full": None}  # a cell that hangs must not hold a build for ever


def fingerprint(*paths: Path, also: str = "") -> str:
    """One hash over the names and contents of files and of all files in folders."""
    digest = hashlib.sha256(also.encode())
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                digest.update(f"{file.relative_to(ROOT)} {content}\n".encode())
    return digest.hexdigest()


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def errors_in(notebook: Path) -> list[str]:
    """Every stored error output as 'In [7]: ValueError: ...'."""
    cells = json.loads(notebook.read_text(encoding="utf8"))["cells"]
    return [
        f"In [{cell['execution_count']}]: {output['ename']}: " + output["evalue"].split("\n")[0]
        for cell in cells
        for output in cell.get("outputs", [])
        if output["output_type"] == "error"
    ]


def run_papermill(notebook: Path, target: Path, profile: str, output_dir: str) -> tuple[int, str]:
    """Execute one notebook in a process of its own, showing how far it is.

    Returns:
        papermill's exit status and what it printed.
    """
    command = [sys.executable, "-m", "papermill", shown(notebook), shown(target), "--progress-bar"]
    # Relative to the project's folder, which is the kernel's: the parameters stand in the page.
    command += ["-p", "profile", profile, "-p", "output_dir", output_dir, "--cwd", "."]
    if CELL_SECONDS[profile]:
        command += ["--execution-timeout", str(CELL_SECONDS[profile])]
    environment = {
        "KERAS_BACKEND": "tensorflow",  # else the reader's ~/.keras/keras.json decides
        "PYTHONHASHSEED": "0",
        **os.environ,
    }
    if profile == "smoke":
        # A smoke chapter comes out the same whatever data the reader has, and shows none of it.
        nowhere = BUILD / "no-data"
        nowhere.mkdir(parents=True, exist_ok=True)
        environment["FER_DATA"] = str(nowhere)
    log_path = target.with_suffix(".log")
    terminal = sys.stderr.isatty()
    started, spoke = time.monotonic(), 0.0
    with log_path.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environment)
        try:
            while process.poll() is None:
                time.sleep(0.2)
                now = time.monotonic()
                if now - spoke > (0.5 if terminal else 20):
                    spoke = now
                    cells = re.findall(r"(\d+/\d+) \[", log_path.read_text(errors="replace"))
                    line = f"  {notebook.stem}  {clock(now - started)}  "
                    line += f"cell {cells[-1]}" if cells else "starting"
                    line = f"\r\033[K{line}" if terminal else f"{line}\n"
                    print(line, end="", file=sys.stderr, flush=True)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if terminal:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return process.returncode, log_path.read_text(errors="replace")


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def execute(notebook: Path, profile: str) -> Path:
    """The executed chapter, from build/notebooks where nothing it depends on has changed.

    Raises:
        SystemExit: the chapter failed; build/notebooks holds no version of it.
    """
    name = notebook.stem
    executed = BUILD / "notebooks" / notebook.name
    stamp = executed.with_suffix(".json")
    failed = BUILD / "failed" / notebook.name
    running = BUILD / "running" / notebook.name
    output_dir = f"build/{profile}"
    record = ROOT / output_dir / f"{name}.done.json"

    inputs = fingerprint(
        notebook,
        ROOT / "fer_utils",
        ROOT / "data_manifests",
        ROOT / "results",
        ROOT / "requirements.lock",
        also=profile,
    )
    if stamp.exists() and executed.exists() and record.exists():
        expected = {"inputs": inputs, "executed": fingerprint(executed)}
        if json.loads(stamp.read_text()) == expected:
            print(f"  {name}  unchanged", flush=True)
            return executed

    for stale in (executed, stamp, failed, record):
        stale.unlink(missing_ok=True)
    for folder in (executed.parent, failed.parent, running.parent, record.parent):
        folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    status, said = run_papermill(notebook, running, profile, output_dir)

    # papermill's metadata calls every cell completed when a kernel was killed: believe only its
    # exit status and the record that the last cell writes.
    reason = ""
    if status or not running.exists():
        found = errors_in(running) if running.exists() else []
        last = (said.strip().splitlines() or ["no message"])[-1]
        reason = found[0] if found else f"papermill ended with status {status}: {last}"
    elif errors_in(running):
        reason = errors_in(running)[0]  # an error output renders as a result, without a warning
    else:
        try:
            json.loads(record.read_text())
        except (OSError, ValueError):
            reason = f"its last cell did not write {shown(record)}"
    if reason:
        kept = ""
        if running.exists():
            running.replace(failed)
            kept = f" As far as it came: {shown(failed)}"
        sys.exit(f"Chapter {name} failed: {reason.rstrip('.')}.{kept}")

    running.replace(executed)
    expected = {"inputs": inputs, "executed": fingerprint(executed)}
    stamp.write_text(json.dumps(expected))
    print(f"  {name}  executed in {clock(time.monotonic() - started)}", flush=True)
    return executed


def documents_in(toc: object) -> Iterable[str]:
    """Every page that _toc.yml names."""
    if isinstance(toc, dict):
        for key, value in toc.items():
            if key in ("file", "root"):
                yield str(value).removesuffix(".md").removesuffix(".ipynb")
            else:
                yield from documents_in(value)
    elif isinstance(toc, list):
        for item in toc:
            yield from documents_in(item)


def page_of(executed: Path, profile: str) -> str:
    """An executed chapter as the book gets it: its tags fit what it was executed on.

    The parameters that papermill injected stay out where the notebook hides its own; cells marked
    as synthetic lose the mark where the data were real.
    """
    notebook = json.loads(executed.read_text(encoding="utf8"))
    hidden = False
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "parameters" in tags:
            hidden = "remove-cell" in tags
        if "injected-parameters" in tags and hidden:
            tags.append("remove-cell")
        if profile != "smoke" and "synthetic" in tags:
            tags.remove("synthetic")
    return json.dumps(notebook)


def assemble(chapters: list[Path], source: Path, profile: str) -> None:
    """Lay out what Jupyter Book is given, and refuse a table of contents that does not match."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "book", source, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_*"))
    (source / "chapters").mkdir(exist_ok=True)
    for chapter in chapters:
        page = source / "chapters" / chapter.name
        page.write_text(page_of(chapter, profile), encoding="utf8")
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, source)

    listed = set(documents_in(yaml.safe_load((source / "_toc.yml").read_text(encoding="utf8"))))
    pages = {
        str(page.relative_to(source).with_suffix(""))
        for page in source.rglob("*")
        if page.suffix in (".md", ".ipynb") and "book_static" not in page.parts
    }
    if listed != pages:
        lines = [f"_toc.yml names {page}, which does not exist" for page in sorted(listed - pages)]
        lines += [f"_toc.yml does not name {page}" for page in sorted(pages - listed)]
        sys.exit("The book cannot be built: " + "; ".join(lines) + ".")


def build(source: Path) -> None:
    """Jupyter Book over the assembled source, warnings as errors. A failed build replaces nothing.

    Always from nothing: Sphinx repeats no warning for a page that it has read before, so a second
    build on top of a failed one would pass.
    """
    stamp = BUILD / "book" / "source.sha256"
    inputs = fingerprint(source, ROOT / "requirements.lock", Path(__file__))
    if stamp.exists() and stamp.read_text() == inputs and (HTML / "index.html").exists():
        print("  unchanged", flush=True)
        return
    started = time.monotonic()
    new = BUILD / "book.new"
    shutil.rmtree(new, ignore_errors=True)
    # -n: a reference without a target is an error; --keep-going: all of them in one go.
    options = ["-W", "-n", "--keep-going", "-q", "--path-output", str(new)]
    program = str(Path(sys.executable).with_name("jupyter-book"))
    done = subprocess.run([program, "build", str(source), *options], capture_output=True, text=True)
    if done.returncode or not (new / "_build" / "html" / "index.html").exists():
        told = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr)
        (BUILD / "book.log").write_text(told)
        # Jupyter Book lets a traceback of its own follow the warnings.
        warnings = told.split("Traceback (most recent call last)")[0]
        print(warnings.replace(f"{source}{os.sep}", "").strip(), file=sys.stderr)
        sys.exit("The book was not built: warnings count as errors. All it said: build/book.log")
    (new / stamp.name).write_text(inputs)
    shutil.rmtree(BUILD / "book", ignore_errors=True)
    new.replace(BUILD / "book")
    print(f"  built in {clock(time.monotonic() - started)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--profile",
        choices=sorted(CELL_SECONDS),
        default="smoke",
        help="smoke: the embedded synthetic faces, minutes; full: the data under FER_DATA, hours",
    )
    profile = parser.parse_args().profile

    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    print(f"Chapters ({profile} profile)", flush=True)
    chapters = [execute(notebook, profile) for notebook in notebooks]
    print("Book", flush=True)
    assemble(chapters, BUILD / "book_source", profile)
    build(BUILD / "book_source")
    print(f"Read it: {(HTML / 'index.html').as_uri()}", flush=True)


if __name__ == "__main__":
    # Whoever stops this stops what it started, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; what was finished is kept.")
