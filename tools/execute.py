"""One notebook through papermill, and whether to believe it. Used by build_book.py and train.py."""

import argparse
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
# Jupyter looks for free ports and leaves them for its kernel to take: of several kernels that start
# at once, one may find its port taken. This is said before any cell has run.
NOT_STARTED = "Kernel died before replying to kernel_info"


class Failed(Exception):
    """A notebook that did not run to its end; the reason in one sentence without a full stop."""


def execute(
    notebook: Path,
    running: Path,
    parameters: dict,
    sentinel: Path,
    *,
    cell_seconds: int | None = None,
    threads: int = 0,
    progress: str | None = None,
) -> dict:
    """Execute one notebook in a process of its own.

    Args:
        notebook: as committed.
        running: where the executed one is written, cell by cell; its log goes beside it.
        parameters: of the notebook.
        sentinel: JSON that its last cell writes; one of an earlier execution is deleted first.
        cell_seconds: a cell that takes longer is an error; None for no limit.
        threads: of every numeric library in it, 0 for as many as each likes.
        progress: shown with how far it is; None shows nothing.

    Returns:
        What the sentinel says.

    Raises:
        Failed: papermill, its kernel or a cell failed, or the sentinel was not written; a kernel
            that dies before the first cell is started three times in all.
    """
    for stale in (sentinel, running):
        stale.unlink(missing_ok=True)
    for folder in (running.parent, sentinel.parent):
        folder.mkdir(parents=True, exist_ok=True)
    asked = running.with_suffix(".yaml")
    asked.write_text(yaml.safe_dump(parameters))  # words on the command line would lose their types
    # The project's folder is the kernel's: what is relative to it stands in the page.
    command = [sys.executable, "-m", "papermill", notebook, running, "-f", asked, "--cwd", ROOT]
    command += ["--progress-bar", "--log-output"]
    if cell_seconds:
        command += ["--execution-timeout", str(cell_seconds)]
    words, log = list(map(str, command)), running.with_suffix(".log")
    try:
        for _ in range(3):
            status, said = _run(words, log, threads, progress)
            if not status or NOT_STARTED not in said:
                break
    finally:
        asked.unlink(missing_ok=True)

    # papermill's metadata calls every cell completed when a kernel was killed: believe only its
    # exit status and the sentinel.
    if status and shutil.disk_usage(running.parent).free < 2**20:
        # What else is told was cut off by the same lack of room.
        raise Failed(f"no space left on the disk of {shown(running.parent)}")
    errors = errors_in(running) if running.exists() else []
    if errors:
        raise Failed(errors[0].rstrip("."))  # it would render as a result, without a warning
    if status or not running.exists():
        last = (said.strip().splitlines() or ["no message"])[-1]
        raise Failed(f"papermill ended with status {status}: {last}".rstrip("."))
    try:
        return json.loads(sentinel.read_text())
    except (OSError, ValueError):
        raise Failed(f"its last cell did not write {shown(sentinel)}") from None


def _run(command: list[str], log_path: Path, threads: int, progress: str | None) -> tuple[int, str]:
    environment = {
        "KERAS_BACKEND": "tensorflow",  # else the reader's ~/.keras/keras.json decides
        "PYTHONHASHSEED": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_PLATFORM_DIRS": "1",
        **os.environ,
    }
    if threads:
        environment |= dict.fromkeys(THREADS, str(threads))
    terminal = sys.stderr.isatty()
    started, spoke = time.monotonic(), 0.0
    with log_path.open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=ROOT, env=environment, preexec_fn=die_with_parent
        )
        try:
            while process.poll() is None:
                time.sleep(0.2)
                now = time.monotonic()
                if progress and now - spoke > (0.5 if terminal else 20):
                    spoke = now
                    show(f"{progress}  {clock(now - started)}  {how_far(log_path)}")
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if progress:
        show("")
    return process.returncode, log_path.read_text(errors="replace")


def end_as_by_ctrl_c() -> None:
    """For a main: whoever stops it, or closes its terminal, stops what it started, too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, _hang_up)


def _hang_up(number: int, _) -> None:
    # A shell passes on what the terminal has sent already, into the midst of the stopping.
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def die_with_parent() -> None:
    """For a child before it starts its program: whoever is killed takes what it started along.

    A kernel needs no such thing: it ends by itself within a second of its papermill.
    """
    if sys.platform == "linux":
        _libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def errors_in(notebook: Path) -> list[str]:
    """Every stored error output as 'In [7]: ValueError: ...'."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf8"))["cells"]
    except ValueError:  # papermill was killed or the disk was full while it was written
        return []
    return [
        f"In [{cell['execution_count']}]: {output['ename']}: " + output["evalue"].split("\n")[0]
        for cell in cells
        for output in cell.get("outputs", [])
        if output["output_type"] == "error"
    ]


def how_far(log: Path) -> str:
    """Such as "cell 12/31, epoch 4/20", from a log that papermill is writing."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            tail = file.read().decode(errors="replace")
    except OSError:
        return "starting"
    cells = re.findall(r"Executing:[^\r\n]*?\| (\d+/\d+) \[", tail)
    epochs = re.findall(r"epoch (\d+/\d+)", tail)
    told = [f"cell {cells[-1]}"] if cells else []
    told += [f"epoch {epochs[-1]}"] if epochs else []
    return ", ".join(told) or "starting"


def from_anywhere() -> None:
    """Name the folders of data and cache from the root: what is started works in the project."""
    for name in ("FER_DATA", "FER_CACHE"):
        if named := os.environ.get(name):
            with suppress(RuntimeError):  # no such home folder, which whoever reads it tells
                os.environ[name] = str(Path(named).expanduser().absolute())


def at_least(least: int) -> Callable[[str], int]:
    """What reads a whole number that is not below `least`."""

    def read(word: str) -> int:
        with suppress(ValueError):
            if (told := int(word)) >= least:
                return told
        raise argparse.ArgumentTypeError(f"a whole number from {least}, not {word!r}")

    return read


def from_json(*names: str) -> Callable[[str], dict]:
    """What reads an object of JSON that has these fields."""

    def read(word: str) -> dict:
        with suppress(ValueError):
            told = json.loads(word)
            if isinstance(told, dict) and told.keys() >= set(names):
                return told
        raise argparse.ArgumentTypeError(f"JSON with {', '.join(names)}, not {word[:60]!r}")

    return read


def show(line: str) -> None:
    """A line of progress: the last line of a terminal, else a line of a log; "" ends it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{f'  {line}'[:100] if line else ''}", end="", file=sys.stderr, flush=True)
    elif line:
        print(f"  {line}", file=sys.stderr, flush=True)


def shown(path: Path) -> str:
    """A path for people: relative to the project's folder where it lies in it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def clock(seconds: float) -> str:
    """Minutes and seconds, such as "61:05"."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes}:{seconds:02d}"
