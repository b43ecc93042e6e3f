"""One run of the grid: a chapter through papermill, its record checked and kept. Run by Snakefile.

    python tools/train.py '{"name": ..., "paper": ..., ...}' [--results results] [--threads 1]

build/grid/<paper>/<name>/   one run's folder
  notebook.ipynb             the executed chapter
  done.json                  written last: without it there is no result here
  failed.ipynb, failed.log   of an execution that failed, until the next one
build/grid/<paper>/runs/     checkpoints, shared: a run may start from the weights of another

A run that is cut off at any moment goes on from its last whole epoch when it is started again.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from execute import ROOT, Failed, end_as_by_ctrl_c, execute, from_json, shown

from fer_utils import grid, locks, records
from fer_utils.energy import Energy
from fer_utils.grid.inputs import other_versions
from fer_utils.training.checkpoints import write_atomically

RUN = ("name", "paper", "parameters", "fields", "profiles", "code")  # what is used of a run


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """Let what a full disk or a record that cannot be read raises be `Failed`."""
    try:
        yield
    except (OSError, records.RecordError) as error:
        raise Failed(sentence(error)) from None


def sentence(error: Exception) -> str:
    """What an error says, without its number and with the file only where it names one."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + ("" if error.filename is None else f": {error.filename}")
    return str(error)


@in_a_sentence()
def train(run: dict, build: Path, results: Path, runs: Path, threads: int) -> dict:
    """Execute a run's chapter and keep its record.

    Args:
        run: a `grid.Run` as a dict.
        build: such as build/grid.
        results: folder that the record joins.
        runs: folder of the checkpoints.
        threads: cores for the training.

    Returns:
        What done.json says.

    Raises:
        Failed: in one sentence; nothing is left that could be taken for a result.
    """
    folder = build / run["paper"] / run["name"]
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        clear(folder)
        work = folder / "work"
        work.mkdir()
        runs.mkdir(parents=True, exist_ok=True)
        (work / "runs").symlink_to(runs)
        parameters = {
            **run["parameters"],
            "output_dir": str(work),
            "records_dir": str(work / "records"),
            "threads": threads,
        }
        notebook = ROOT / "notebooks" / f"{run['paper']}.ipynb"
        running, sentinel = folder / "running.ipynb", work / f"{run['paper']}.done.json"
        if run["profiles"] == ["smoke"]:  # the same whatever data there are
            os.environ["FER_DATA"] = str(work / "no-data")
        started = time.monotonic()
        try:
            for profile in run["profiles"]:
                asked = {**parameters, "profile": profile}
                try:
                    with Energy() as energy:
                        told = execute(notebook, running, asked, sentinel, threads=threads)
                    break
                except Failed as failure:
                    # Only the chapter knows whether these parameters are the paper's own.
                    if f"profile = {profile!r}: with these" not in str(failure):
                        raise
                    refused = failure
            else:
                raise refused
            record = with_energy(read_record(run, Path(told["record"])), energy)
            said = (
                keep(record, work / "records", results),
                started_otherwise(record, work / "records", results),
            )
            clean(runs / record.run)
        except (Failed, OSError, records.RecordError):
            for name in ("running.ipynb", "running.log"):
                if (folder / name).exists():
                    (folder / name).replace(folder / name.replace("running", "failed"))
            shutil.rmtree(work)
            raise
        running.replace(folder / "notebook.ipynb")
        done = {
            "run": record.run,
            "profile": record.profile,
            "accuracy": record.metrics["test"]["accuracy"],
            "training": record.timings["training"],
            "seconds": time.monotonic() - started,
            "note": "; ".join(filter(None, said)),
        }
        shutil.rmtree(work)
        running.with_suffix(".log").unlink(missing_ok=True)
        write_atomically(folder / "done.json", json.dumps(done).encode())
    return done


def clear(folder: Path) -> None:
    """Take away what an execution that was cut off has left."""
    stays = ("notebook.ipynb", "done.json", locks.NAME)
    left = [path for path in folder.iterdir() if path.name not in stays]
    if any(path.name == "work" for path in left):
        time.sleep(2)  # the kernel of a papermill that was killed lives for a second more
    for path in [*left, folder / "done.json", folder / "notebook.ipynb"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def with_energy(record: records.RunRecord, energy: Energy) -> records.RunRecord:
    """A record that tells what the machine used meanwhile, where that is known and is the run's."""
    in_one_go = record.timings.get("this_call", 0) >= record.timings["training"]
    if not in_one_go or "calls" in record.device:
        return record  # some of its epochs are of an earlier call
    used = energy.used(record.device.get("kind", "cpu"))
    return record.model_copy(update={"device": record.device | used})


def read_record(run: dict, path: Path) -> records.RunRecord:
    """The record that an execution wrote.

    Raises:
        Failed: it cannot be read, or has other parameters, another profile or other code.
    """
    try:
        record = records.read(ROOT / path)
    except records.RecordError as error:
        raise Failed(str(error)) from None
    wrong = {
        key: record.parameters.get(key)
        for key, value in run["fields"].items()
        if record.parameters.get(key) != value
    }
    if wrong:
        raise Failed(
            f"{record.run} has {wrong}, asked for { ({k: run['fields'][k] for k in wrong}) }"
        )
    if record.profile not in run["profiles"]:
        raise Failed(f"{record.run} is a {record.profile} run")
    if set(record.code.entry_points) and run["code"] not in ("", record.code.sha256):
        raise Failed(f"{record.run} was made with other code than was planned; plan again")
    return record


def keep(record: records.RunRecord, folder: Path, results: Path) -> str:
    """Let a record join the others, and what lies beside it; the first one of its name stays.

    Unless the first was made with other versions, which its name does not tell: then the grid asks
    for the run until the record of these versions is there.

    Returns:
        What is to be said about it, mostly nothing.
    """
    probabilities = labels = None
    if record.probabilities:
        probabilities, labels = records.read_probabilities(record, folder)
    there = results / record.paper / f"{record.run}.json"
    there.parent.mkdir(parents=True, exist_ok=True)
    note = ""
    with locks.alone_in(there.parent):
        for cut_off in (*there.parent.glob(".*.part"), *there.parent.glob("*/.*.part")):
            shutil.rmtree(cut_off) if cut_off.is_dir() else cut_off.unlink()  # by a kill
        if there.exists():
            first = records.read(there)
            framework = grid.read_chapter(record.paper).framework
            note = other_versions(first.device, first.versions, record.versions, framework)
            told = f"repeated with accuracy {record.metrics['test']['accuracy']:.4f}; the record "
            told += f"that was there, {first.metrics['test']['accuracy']:.4f}"
            if note:
                note = f"{told}, {note}, is replaced; git has it"
            elif first.metrics != record.metrics:
                return f"{told}, stays"
        with TemporaryDirectory(".part", f".{record.run}.", there.parent) as made:
            # A disk that is full is full here, where nothing has been replaced yet.
            if note or not there.exists():
                records.write(record, probabilities, labels, Path(made))
            for path in beside(folder / record.paper):
                copy = Path(made) / path.relative_to(folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(copy, path.read_bytes())
            put(Path(made) / record.paper, there)
    return note


def started_otherwise(record: records.RunRecord, folder: Path, results: Path) -> str:
    """What is to be said where a member of this network came out here unlike its own record: this
    run does not stand on the network that is on record.
    """
    told = []
    for name in record.parameters.get("members", ()):
        paths = [place / record.paper / f"{name}.json" for place in (folder, results)]
        if all(path.exists() for path in paths):
            here, there = (records.read(path).metrics for path in paths)
            if here != there:
                pair = [run["test"]["accuracy"] for run in (here, there)]
                numbers = "{:.4f} here, {:.4f} on record".format(*pair)
                told.append(f"it starts from {name}, accuracy {numbers}")
    return "; ".join(told)


def put(made: Path, there: Path) -> None:
    """Move what was made into the place of a record and of what lies beside it."""
    copies = {path: there.parent / path.relative_to(made) for path in beside(made)}
    pair = {made / there.with_suffix(end).name: there.with_suffix(end) for end in (".npz", ".json")}
    new = [place for place in (copies | pair).values() if not place.exists()]
    try:
        for path, place in copies.items():
            place.parent.mkdir(exist_ok=True)
            path.replace(place)
        if (made / there.name).exists():
            there.unlink(missing_ok=True)  # first: a record that can be read is whole
            for path, place in pair.items():  # last the record: with it the run counts as made
                path.replace(place) if path.exists() else place.unlink(missing_ok=True)
    finally:
        if not there.exists():  # these belong to no record
            for place in new:
                place.unlink(missing_ok=True)


def clean(folder: Path) -> None:
    """Take away what a kill has left beside a finished run's checkpoints."""
    if not (folder / "state.json").exists():
        return
    with locks.alone_in(folder):
        state = json.loads((folder / "state.json").read_text())
        for path in (*folder.glob(".*.part"), *folder.glob("epoch-*")):
            if path.name not in (state["last"], state["best"]):
                path.unlink()


def beside(folder: Path) -> list[Path]:
    """What `Plan.write_beside` has written below a paper's records."""
    return sorted(folder.glob("*/*.json"))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep every other process away from a folder; the lock goes with the process."""
    with (folder / locks.NAME).open("a") as file:
        if not locks.take(file):
            raise Failed(f"another process is at work in {shown(folder)}")
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=from_json(*RUN), help="a run of the grid, as JSON")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "grid")
    parser.add_argument("--results", type=Path, default=records.RESULTS)
    parser.add_argument("--runs", type=Path, help="checkpoints of all papers, if not in BUILD")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    build, results = options.build.resolve(), options.results.resolve()
    paper = options.run["paper"]
    runs = (options.runs / paper if options.runs else build / paper / "runs").resolve()
    try:
        done = train(options.run, build, results, runs, options.threads)
    except Failed as failure:
        sys.exit(f"  {options.run['paper']} {options.run['name']}  failed: {failure}.")
    told = f"accuracy {100 * done['accuracy']:.2f} %, {done['seconds'] / 60:.1f} min"
    note = f"; {done['note']}" if done["note"] else ""
    print(f"  {options.run['paper']} {options.run['name']}  {told}{note}", flush=True)


if __name__ == "__main__":
    end_as_by_ctrl_c()
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
