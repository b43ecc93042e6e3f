"""Make .venv hold what requirements.lock says, and this package in it. Run by the Makefile.

Costs nothing when it already does: .venv/set-up.done says what was installed, and for which
folder. A venv or an install that did not reach its end, and a checkout that has been moved (a venv
and an editable install name their folder), start from an empty .venv.
Standard library only: this runs before anything is installed.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin/python"
LOCK = ROOT / "requirements.lock"
DONE = VENV / "set-up.done"
UNFINISHED = VENV / "set-up.unfinished"
LOG = VENV / "set-up.log"
# Not in .venv, which is emptied:
TURN = ROOT / "build" / "set-up.lock"
HALF_MADE = ROOT / "build" / "set-up.unfinished"

ENVIRONMENT = {
    **os.environ,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_USER": "0",  # a user-wide `user = true` makes pip refuse to install into a venv
}


def fingerprint() -> str:
    """What .venv depends on: the folder, then the files."""
    files = LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    return f"{ROOT}\n{hashlib.sha256(files).hexdigest()}\n"


def works(*command: str) -> bool:
    """Whether .venv's Python is there and runs the command without an error."""
    if not PYTHON.exists():
        return False
    return subprocess.run([PYTHON, *command], capture_output=True).returncode == 0


def folder_of_done() -> str:
    """The checkout that .venv was made for."""
    return DONE.read_text().split("\n")[0]


def right_python() -> bool:
    """Whether .venv's Python is there, is its own and has the right version.

    Without its pyvenv.cfg it is the system's Python by another name, and pip would install there.
    """
    return works(
        "-c",
        "import os, sys; right = (3, 11) <= sys.version_info < (3, 13); "
        f"raise SystemExit(not (right and os.path.samefile(sys.prefix, {str(VENV)!r})))",
    )


def usable() -> bool:
    """Whether .venv can be brought up to date, or has to be made anew."""
    if HALF_MADE.exists() or UNFINISHED.exists():
        return False
    if DONE.exists() and folder_of_done() != str(ROOT):
        return False
    return right_python() and works("-m", "pip", "--version")


def make_venv() -> None:
    """A .venv with nothing but pip. Half a pip may answer, too: a mark stands until it is whole."""
    HALF_MADE.parent.mkdir(exist_ok=True)
    HALF_MADE.touch()
    DONE.unlink(missing_ok=True)
    command = [sys.executable, "-m", "venv", "--clear", VENV]
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if made.returncode or not works("-m", "pip", "--version"):
        said = made.stdout.strip().splitlines() or ["its pip does not work"]
        told = no_room(made.stdout) or f".venv could not be made: {said[-1].rstrip('.')}"
        sys.exit(f"Set-up failed: {told}.")
    HALF_MADE.unlink()


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """Let what a disk that cannot be written raises end the set-up in one sentence."""
    try:
        yield
    except OSError as error:
        told = error.strerror or str(error)
        told += "" if error.filename is None else f": {error.filename}"
        sys.exit(f"Set-up failed: {no_room(told) or told}.")


def no_room(said: str) -> str:
    """That the disk is full, if it is; venv keeps to itself what pip has said.

    Args:
        said: by what failed.
    """
    disk = VENV if VENV.exists() else ROOT
    full = os.strerror(errno.ENOSPC) in said or shutil.disk_usage(disk).free < 2**20
    return f"no space left on the disk of {disk}" if full else ""


def pip(*arguments: str, say=None) -> None:
    """Run pip with its output in the log. `say` turns the log so far into one line of progress."""
    terminal = sys.stderr.isatty()
    started, spoke = time.monotonic(), 0.0
    with LOG.open("a") as log:  # a wall of noise when all goes well
        process = subprocess.Popen(
            [PYTHON, "-m", "pip", *arguments], stdout=log, stderr=log, env=ENVIRONMENT, cwd=ROOT
        )
        try:
            while process.poll() is None:
                time.sleep(0.5)
                if say and time.monotonic() - spoke > (0.5 if terminal else 15):
                    spoke = time.monotonic()
                    minutes, seconds = divmod(int(spoke - started), 60)
                    line = f"  {minutes}:{seconds:02d}  {say()}"[:78]
                    line = f"\r\033[K{line}" if terminal else f"{line}\n"
                    print(line, end="", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            spare_untouched()
            raise
    if say and terminal:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if process.returncode:
        spare_untouched()
        said = LOG.read_text(errors="replace").splitlines()
        errors = [line[:300] for line in said if line.startswith("ERROR: ")] or said[-5:]
        sys.exit("\n".join([*errors, f"Set-up failed: pip could not do its part; see {LOG}"]))


def spare_untouched() -> None:
    """Where pip stopped before it changed anything, .venv need not start again from nothing."""
    if "Installing collected packages" not in LOG.read_text(errors="replace"):
        UNFINISHED.unlink()


def progress() -> str:
    """One line for the eye: how many of the lock's packages pip has come to, then installed."""
    total = sum(line[:1].isalnum() for line in LOCK.read_text().splitlines())
    log = LOG.read_text(errors="replace")
    if "Installing collected packages" in log:
        installed = sum(1 for _ in VENV.glob("lib/python*/site-packages/*.dist-info"))
        return f"unpacking  {min(installed, total)} of about {total} packages"
    names = re.findall(r"^(?:Collecting|Requirement already satisfied:) ([\w.-]+)", log, re.M)
    return f"fetching  {min(len(set(names)), total)} of about {total}  {names[-1] if names else ''}"


def version_of(name: str) -> str:
    """The version that requirements.lock pins.

    Raises:
        SystemExit: it pins none.
    """
    found = re.search(rf"^{re.escape(name)}==(\S+)", LOCK.read_text(), re.M)
    if not found:
        sys.exit(f"requirements.lock does not pin {name}.")
    return found[1]


def make_cv2_importable() -> None:
    """OpenCV's usual wheel wants libGL and libxcb, which a bare server lacks; its headless twin
    has all but the windows."""
    if works("-c", "import cv2"):
        return
    version = version_of("opencv-python")
    print(f"  no libGL here: opencv-python-headless {version} instead of opencv-python", flush=True)
    # Both own the folder cv2/: the twin must come after the other is gone, and without its
    # dependencies, which the lock has settled.
    pip("uninstall", "--yes", "opencv-python", "opencv-python-headless")
    pip("install", "--no-deps", f"opencv-python-headless=={version}")
    if not works("-c", "import cv2"):
        sys.exit("Set-up failed: OpenCV cannot be imported, not even without its windows.")


@contextmanager
def turn() -> Iterator[None]:
    """Wait for another set-up in this folder: each would empty .venv under the other."""
    TURN.parent.mkdir(exist_ok=True)
    with TURN.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another set-up of .venv to end", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    wanted = fingerprint()
    if VENV.is_symlink() and DONE.exists() and folder_of_done() != str(ROOT):
        # Maybe in use there: it would be emptied and filled for this folder.
        sys.exit(f".venv is a link to that of {folder_of_done()}; remove the link, and try again.")
    if DONE.exists() and DONE.read_text() == wanted and right_python():
        return

    if usable():
        print("Bringing .venv up to requirements.lock", flush=True)
    else:
        version = ".".join(map(str, sys.version_info[:3]))
        print(f"Setting up .venv with Python {version} (once; several minutes)", flush=True)
        make_venv()
    DONE.unlink(missing_ok=True)
    UNFINISHED.touch()
    LOG.write_text("")

    # Byte code for 20,000 files takes long, and few are ever imported: Python makes it for those.
    pip("install", "--no-compile", "--requirement", str(LOCK), say=progress)
    # The lock's setuptools builds it: a build of its own would fetch one that nobody pinned.
    pip("install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    make_cv2_importable()

    UNFINISHED.unlink()
    DONE.write_text(wanted)
    print("Set-up done.", flush=True)


if __name__ == "__main__":
    # Whoever stops this, or closes its terminal, stops what it started, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        with in_a_sentence(), turn():
            main()
    except KeyboardInterrupt:
        sys.exit("\nSet-up interrupted; the next call starts it again.")
