"""Train for so many minutes, stop between epochs, pack what was made. For a machine that is lent.

    python tools/within.py --minutes 50 --paper rahman2021 --pack home.tar.gz

Makes the runs of the grid in the order of their value, as many as fit. What does not fit stops
after a whole epoch and goes on from there when the same command is given again, here, or wherever
the archive of `--checkpoints` was unpacked; so does what starts from a run that was finished here.
A GPU is used where one is seen.
At home:

    tar xzf home.tar.gz --exclude=build --skip-old-files        in the project's folder
    tar xzf home.tar.gz --exclude=results
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from execute import (
    ROOT,
    at_least,
    die_with_parent,
    end_as_by_ctrl_c,
    from_anywhere,
    how_far,
)
from jobs import Busy, cores, locked
from reproduce import check_data, slow_here
from train import beside, sentence

from fer_utils import grid, locks, records
from fer_utils.cli import for_a_reader
from fer_utils.manifests import DataError

ENOUGH = 60  # seconds that have to be left for a run to be started at all
PACKED_A_SECOND = 35e6  # bytes; weights, at gzip's usual level, were 38e6 on one core


@dataclass
class Training:
    """A run that is being made, or what is prepared before it.

    Args:
        run: of the grid.
        process: tools/train.py or tools/prepare.py.
        log: what its chapter says; a preparation tells of no epochs.
        epoch: such as "4/20".
        since: when that epoch began.
        seconds: how long the longest whole epoch took; None before the first.
    """

    run: grid.Run | grid.Preparation
    process: subprocess.Popen
    log: Path
    epoch: str | None = None
    since: float = field(default_factory=time.monotonic)
    seconds: float | None = None

    def look(self) -> bool:
        """Whether an epoch has just ended, its checkpoint written."""
        epoch = how_far(self.log).partition("epoch ")[2]
        if not epoch or epoch == self.epoch:
            return False
        now, began = time.monotonic(), self.epoch is not None
        if began:
            self.seconds = max(self.seconds or 0, now - self.since)
        self.epoch, self.since = epoch, now
        return began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=minutes, required=True, help="in all, packing included")
    parser.add_argument("--paper", help="one or several; left out: every paper with a chapter")
    parser.add_argument("--table", help='such as "Table 5.1"; "open" for what papers leave open')
    parser.add_argument("--seeds", help='such as "0 1 2", which is what it is when left out')
    parser.add_argument(
        "--only", nargs="*", default=[], help="beginnings of names; see make reproduce"
    )
    parser.add_argument("--smoke", action="store_true", help="short runs on synthetic faces")
    parser.add_argument("--at-once", type=at_least(1), default=1, help="trainings side by side")
    parser.add_argument(
        "--threads", type=at_least(0), default=0, help="cores of each; 0: all, shared"
    )
    parser.add_argument("--pack", type=Path, help="archive of all records that were made here")
    parser.add_argument(
        "--checkpoints",
        action="store_true",
        help="pack unfinished runs, too, and finished ones that others start from",
    )
    options = parser.parse_args()
    from_anywhere()
    if options.checkpoints and not options.pack:
        parser.error("--checkpoints: needs --pack, the archive that they go into")
    if options.pack and (problem := refusal(options.pack)):
        parser.error(f"--pack: {options.pack} cannot be written: {problem}")
    deadline = time.monotonic() + 60 * options.minutes
    failed: set[str] = set()
    build = ROOT / "build" / ("smoke-grid" if options.smoke else "grid")
    try:
        words = (options.paper, options.table, options.seeds, options.smoke)
        runs = grid.chosen(*words, only=" ".join(options.only) if options.only else None)
        with locked(ROOT / "build" / "grid.lock", "make reproduce"):
            if check_data(runs):
                runs = grid.chosen(*words, only=" ".join(options.only) if options.only else None)
            every = None
            if options.checkpoints:
                # What is left out here may be made elsewhere. Both: a run that is there only
                # because another starts from it has another name where a table asks for it.
                whole = grid.chosen(options.paper, seeds=options.seeds, smoke=options.smoke)
                every = [*runs, *whole]
            if options.pack:
                deadline -= seconds_to_pack(build, options, every)
            to_make = runs_to_make(runs, build)
            if not to_make:
                print("Nothing is left to make: each run that was asked for has its record.")
            print("".join(f"{line}\n" for line in slow_here(to_make)), end="", flush=True)
            left = train(to_make, build, options, deadline, failed)
        if left:
            print(f"{left} left; the same command goes on.", flush=True)
    except (grid.GridError, records.RecordError, DataError, Busy, OSError) as error:
        sys.exit(sentence(error))
    if options.pack:
        try:
            pack(options.pack, build, results_of(options), every)
        except OSError as error:
            sys.exit(f"{options.pack} was not packed: {sentence(error)}.")
    if failed:
        sys.exit("Something failed; see above. The same command tries it again.")


def minutes(word: str) -> float:
    """A time above zero that ends."""
    with suppress(ValueError):
        if 0 < (told := float(word)) < math.inf:
            return told
    raise argparse.ArgumentTypeError(f"a number above 0, not {word!r}")


def refusal(archive: Path) -> str | None:
    """Why an archive is not left there; None where it can be."""
    folder = archive.parent
    if not (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)):
        return f"{folder} is no folder that files can be written to"
    if os.path.islink(archive) or (os.path.exists(archive) and not os.path.isfile(archive)):
        return "what is there is no plain file"  # /dev/null would be replaced
    return None


def runs_to_make(runs: list[grid.Run], build: Path) -> list[grid.Run]:
    """Those that are not recorded, in their order, each after the one it starts from."""
    chosen = [run for run in runs if grid.is_to_run(run)]
    for run in chosen:  # of a run whose record is gone; the short ones' lie elsewhere
        grid.done_file(run).unlink(missing_ok=True)
    return [run for run in chosen if not (build / run.paper / run.name / "done.json").exists()]


def results_of(options: argparse.Namespace) -> Path:
    """The folder that the records join."""
    return ROOT / ("build/smoke-grid/records" if options.smoke else "results")


def train(
    waiting: list[grid.Run],
    build: Path,
    options: argparse.Namespace,
    deadline: float,
    failed: set[str] | None = None,
) -> int:
    """Make runs until the time is up; how many are left.

    Args:
        waiting: each after the run whose weights it starts from.
        build, options: where and how.
        deadline: as `time.monotonic` tells it.
        failed: grows by the names of what failed; what is stopped or not started has not.
    """
    failed = set() if failed is None else failed
    active: list[Training] = []
    stopped = 0
    lost: set[str] = set()  # whose weights there will not be
    try:
        while waiting or active:
            time_left = deadline - time.monotonic()
            started = {training.run.name for training in active}
            busy = {*started, *(run.name for run in waiting)}
            ready = [run for run in waiting if busy.isdisjoint(run.first + run.after)]
            step = next_step(ready, started)
            if (
                step
                and len(active) < options.at_once
                and time_left > min(ENOUGH, 60 * options.minutes / 2)
            ):
                if isinstance(step, grid.Run):
                    waiting.remove(step)
                active.append(start(step, build, options))
            elif not active:
                break
            time.sleep(0.3)
            for training in list(active):
                if training.process.poll() is not None:
                    active.remove(training)
                    if training.process.returncode:
                        lost.add(training.run.name)
                        failed.add(training.run.name)
                        stopped += isinstance(training.run, grid.Run)
                    elif (left := checkpoints_of(training.run, build)) and options.checkpoints:
                        deadline -= packing([left])  # others may start from it
                    continue
                time_left = deadline - time.monotonic()
                ended = training.look()
                if time_left <= 0 or (ended and time_left < 1.1 * training.seconds):
                    stop(training)
                    print(f"  {training.run.name}  stopped {reached(training, ended)}", flush=True)
                    active.remove(training)
                    if isinstance(training.run, grid.Run):
                        lost.add(training.run.name)
                        stopped += 1
            still = without(waiting, lost)
            stopped += len(waiting) - len(still)
            waiting = still
    finally:
        for training in active:
            stop(training)
    return len(waiting) + stopped


def without(waiting: list[grid.Run], lost: set[str]) -> list[grid.Run]:
    """The runs that can still be made, in their order; `lost` grows by those that cannot.

    Args:
        waiting: each after the run whose weights it starts from.
        lost: names of runs and preparations that failed, and of runs that were stopped.
    """
    still = []
    for run in waiting:
        if missed := [name for name in run.first if name in lost]:
            print(
                f"  {run.name}  not started: {missed[0]}, whose weights it needs, is not made",
                flush=True,
            )
        if missed or lost.intersection(run.prepared):
            lost.add(run.name)
        else:
            still.append(run)
    return still


def next_step(ready: list[grid.Run], at_work: set[str]) -> grid.Run | grid.Preparation | None:
    """The first run that can start, or what is still to be prepared before it."""
    for run in ready:
        missing = [
            made for made in grid.preparations(run) if not grid.prepared_file(made.name).exists()
        ]
        if not missing:
            return run
        for made in missing:
            if made.name not in at_work:
                return made
    return None


def start(run: grid.Run | grid.Preparation, build: Path, options: argparse.Namespace) -> Training:
    """Start a run or a preparation in a process group of its own, which dies with this process."""
    print(f"  {run.name}  started", flush=True)
    # Side by side with all cores each, they would wait for one another.
    share = 0 if options.at_once == 1 else max(1, cores() // options.at_once)
    words = [json.dumps(asdict(run)), "--threads", str(options.threads or share)]
    if isinstance(run, grid.Run):
        words += ["--build", str(build), "--results", str(results_of(options))]
        tool, log = "train.py", build / run.paper / run.name / "running.log"
    else:
        out = grid.prepared_file(run.name)
        words.append(str(out))
        tool, log = "prepare.py", out.with_suffix(".log")
    command = [sys.executable, str(ROOT / "tools" / tool), *words]
    process = subprocess.Popen(
        command, cwd=ROOT, process_group=0, preexec_fn=die_with_parent, stderr=subprocess.STDOUT
    )
    return Training(run, process, log)


def reached(training: Training, ended: bool) -> str:
    """Where a training was stopped, in words."""
    if isinstance(training.run, grid.Preparation):
        return "before all was prepared"
    where = "after a whole epoch, before" if ended else "within an epoch:"
    return f"{where} {training.epoch or 'its first'}"


def stop(training: Training) -> None:
    """End a run and what it started; its checkpoints are whole at any moment."""
    os.killpg(training.process.pid, signal.SIGTERM)
    try:
        training.process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(training.process.pid, signal.SIGKILL)
        training.process.wait()


def made_here(build: Path) -> dict[Path, dict]:
    """What done.json says, by the folder of the run."""
    return {path.parent: json.loads(path.read_text()) for path in build.glob("*/*/done.json")}


def records_made(done: dict[Path, dict], results: Path) -> list[Path]:
    """Of the runs that were made here; a record may be gone since."""
    made = [results / folder.parent.name / f"{told['run']}.json" for folder, told in done.items()]
    return [record for record in made if record.exists()]


def to_pack(build: Path, results: Path, every: list[grid.Run] | None) -> list[Path]:
    """Files of the records made here and, where asked for, folders of checkpoints.

    Args:
        build, results: where they are.
        every: runs of the grid; None for no checkpoints. They are packed of runs that are not
            finished, and of those that an open one starts from: elsewhere it would make them again.
    """
    done = made_here(build)
    made = records_made(done, results)
    files = []
    for record in made:
        files += [path for path in (record, record.with_suffix(".npz")) if path.exists()]
    for paper in {folder.parent.name for folder in done}:
        files += beside(results / paper)
    if every is None:
        return files
    still_open = [
        run for run in every if run.state != "recorded" and build / run.paper / run.name not in done
    ]
    needed = {name for run in still_open for name in run.first + run.after}
    needed = {told["run"] for folder, told in done.items() if folder.name in needed}
    finished = {record.stem for record in made} - needed
    for folder in build.glob("*/runs/*"):
        if folder.name not in finished and (folder / "state.json").exists():
            files.append(folder)
    return files


def checkpoints_of(run: grid.Run | grid.Preparation, build: Path) -> Path | None:
    """The folder of a run that has ended; None of what has none."""
    if not isinstance(run, grid.Run):
        return None
    folder = build / run.paper / run.name
    done = folder / "done.json"
    return folder.parent / "runs" / json.loads(done.read_text())["run"] if done.exists() else None


def seconds_to_pack(
    build: Path, options: argparse.Namespace, every: list[grid.Run] | None
) -> float:
    """For what is there, and ten seconds for what each of the trainings will leave."""
    return 10 * options.at_once + packing(to_pack(build, results_of(options), every))


def packing(paths: list[Path]) -> float:
    """Seconds for these files and folders."""
    size = sum(file.stat().st_size for path in paths for file in (path, *path.rglob("*")))
    return size / PACKED_A_SECOND


def pack(archive: Path, build: Path, results: Path, every: list[grid.Run] | None) -> None:
    """One archive with what `to_pack` names, as it lies below the project's folder."""
    unfinished = archive.with_name(f".{archive.name}.part")
    try:
        with tarfile.open(unfinished, "w:gz") as packed:
            for path in to_pack(build, results, every):
                packed.add(path, path.relative_to(ROOT), filter=no_lock)
        unfinished.replace(archive)
    finally:
        unfinished.unlink(missing_ok=True)
    size = archive.stat().st_size / 2**20
    made = len(records_made(made_here(build), results))
    print(f"{archive}: {made} runs, {size:.1f} MiB", flush=True)


def no_lock(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """What is packed: a lock may not replace that of who is at work where it is unpacked."""
    return None if Path(member.name).name == locks.NAME else member


if __name__ == "__main__":
    end_as_by_ctrl_c()
    try:
        with for_a_reader():
            main()
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; the same command goes on from the last whole epochs.")
