"""Snakemake as the other tools start it: one at a time, quiet, with one line of progress."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from execute import ROOT, clock, die_with_parent, how_far, show, shown

from fer_utils import locks

LOG = ROOT / "build" / "snakemake.log"  # of a Snakemake under no lock


class Busy(Exception):
    """Another process is at work in the same folder."""


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock that goes with the process, and with the Snakemake it started.

    Args:
        path: of the lock; the file stays, which means nothing.
        what: the command, for the sentence.

    Raises:
        Busy: somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    stop = path.with_suffix(".stop")
    with path.open("a+") as file:
        if not locks.take(file):
            file.seek(0)
            raise Busy(
                f"Another {what} is at work in this folder ({_who(file.read().strip(), stop)}): "
                "wait until it has finished, or stop it."
            )
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        os.set_inheritable(file.fileno(), True)
        HELD[file.fileno()] = stop
        try:
            yield
        finally:
            del HELD[file.fileno()]
            stop.unlink(missing_ok=True)


HELD: dict[int, Path] = {}  # locks, each with the file that tells how to stop its Snakemake


def _who(holder: str, stop: Path) -> str:
    """What holds a lock: a process, or the Snakemake of one that was killed."""
    process, _, machine = holder.partition(" on ")
    if machine != socket.gethostname():
        return f"process {holder}"
    with suppress(OSError, ValueError):
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return f"left behind by process {process}; this stops it: {stop.read_text()}"
    return f"process {process}"


def snakemake(
    arguments: list[str],
    *,
    running: Path,
    jobs: int,
    finished: Callable[[], int] | None = None,
    profile: str | None = None,
    gpu: int = 0,
) -> int:
    """Run Snakemake on the project's Snakefile; its own words go to a log, see `_own_log`.

    Args:
        arguments: targets and options.
        running: folder below which the jobs' logs grow, for the line of progress.
        jobs: how many there are.
        finished: how many of them are; None: not told.
        profile: a folder of options, such as workflow/profiles/slurm; None: this machine's cores.
        gpu: how much of that resource all jobs have together; 0: as much as they ask for.

    Returns:
        Its exit status.
    """
    command = [sys.executable, "-m", "snakemake", *arguments, "--nolock", "--rerun-incomplete"]
    command += ["--profile", profile or str(ROOT / "workflow" / "profiles" / "local")]
    if profile is None:
        # A resource without a limit limits nothing: every core would start a training on the GPU.
        limits = [f"mem_mb={_memory_mb()}"] + ([f"gpu={gpu}"] if gpu else [])
        command += ["--cores", str(cores()), "--resources", *limits]
    environment = {**os.environ, "XDG_CACHE_HOME": str(ROOT / "build" / "cache")}
    its_log = _own_log()
    its_log.parent.mkdir(parents=True, exist_ok=True)
    started, spoke = time.monotonic(), time.monotonic()
    every = 0.5 if sys.stderr.isatty() else 20
    with its_log.open("w") as log:
        # What the jobs say goes to stdout, what Snakemake says to stderr.
        process = subprocess.Popen(
            command,
            stderr=log,
            cwd=ROOT,
            env=environment,
            pass_fds=tuple(HELD),
            process_group=0,  # whole, so that an interrupt reaches every job once
            preexec_fn=_before_snakemake,
        )
        try:
            for stop in HELD.values():
                stop.write_text(f"kill {'-INT ' if profile else '-- -'}{process.pid}")
            while process.poll() is None:
                time.sleep(0.2)
                if time.monotonic() - spoke > every:
                    spoke = time.monotonic()
                    done = "" if finished is None else f"{finished()} of {jobs} done  "
                    at_work = [f"{_name(path)} ({_how_far(path)})" for path in logs(running)]
                    show(f"{clock(spoke - started)}  {done}{', '.join(at_work)}")
        except BaseException:
            _stop(process, profile, its_log)
            raise
    show("")
    if process.returncode:
        print(f"  Snakemake's own account: {shown(its_log)}", file=sys.stderr)
    return process.returncode


def _own_log() -> Path:
    """Beside the lock: a book may be built while a grid is on a cluster, and its log is needed."""
    for stop in HELD.values():
        return stop.with_name(f"{stop.stem}-snakemake.log")
    return LOG


def _before_snakemake() -> None:
    # What a script starts in the background ignores this signal, which _stop may send.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent()


def _stop(process: subprocess.Popen, profile: str | None, log: Path) -> None:
    """End Snakemake and its jobs, be they here or on a cluster."""
    if profile:
        # Only this makes it cancel what it has sent off; at SIGTERM it waits for that to finish.
        process.send_signal(signal.SIGINT)
        for patience in (5, 85):
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
            _cancel_forgotten(log)
        if process.poll() is not None:
            return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _cancel_forgotten(log: Path) -> None:
    """Cancel what Snakemake has left on SLURM: while it asks for its jobs' states it knows none."""
    for name in re.findall(r"SLURM run ID: (\S+)", log.read_text(errors="replace")):
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(["scancel", f"--name={name}"], capture_output=True, timeout=60)


def logs(running: Path) -> list[Path]:
    """Of the jobs at work below a folder, which may end and remove theirs while it is read."""
    # Not Path.rglob, which fails on a folder that has just gone; os.walk passes over it.
    found = [Path(folder) / name for folder, _, names in os.walk(running) for name in names]
    return sorted(p for p in found if p.suffix == ".log" and p.with_suffix(".yaml").exists())


def _name(log: Path) -> str:
    """Of the chapter or the run that writes a log."""
    return log.parent.name if log.stem == "running" else log.stem


def _how_far(log: Path) -> str:
    """As `how_far`; of a preparation the share that its bar shows."""
    if log.parent.name != "prepared":
        return how_far(log)
    with suppress(OSError):  # it has just ended
        if shares := re.findall(r"(\d+)%\|", log.read_text(errors="replace")):
            return f"{shares[-1]} %"
    return "preparing"


def cores() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_mb() -> int:
    """What can be had without swapping; a large number where the system does not tell."""
    try:
        with open("/proc/meminfo") as file:
            told = next(line for line in file if line.startswith("MemAvailable"))
        return int(told.split()[1]) // 1024
    except (OSError, StopIteration):
        return 1_000_000
