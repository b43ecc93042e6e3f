"""A small copy of the project: the real workflow around a paper whose runs take seconds.

Its chapter trains by softmax regression in NumPy, with the real checkpoints, records and data
loaders, on a made tree of JAFFE, so that kills, full disks and clocks can be tried on all of it.
"""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import nbformat
import trees
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent
PAPER = "tiny2026"

LOOP = """
import os
import time
from types import SimpleNamespace

import numpy as np
from tqdm import tqdm

from fer_utils.training.checkpoints import history_of, load_state, save_state


FRAMEWORK = "Keras"


def prepare(seed, threads=0):
    return None


def build():
    return SimpleNamespace(weights=np.zeros((2304, 7)))


def predict(model, images):
    logits = features(images) @ model.weights
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def features(images):
    return images.reshape(len(images), -1) / 255 - 0.5


def size(model, images):
    return model.weights.size, model.weights.size


def fit(model, train, val, *, epochs, batch_size, seed, folder, **_):
    run = {"epochs": epochs, "seed": seed, "images": len(train)}
    state = load_state(folder, run) or {"run": run, "epoch": 0, "history": {}, "best": None}
    if state["epoch"]:
        model.weights = np.load(folder / state["last"])
    bar = tqdm(total=epochs, initial=state["epoch"])
    for epoch in range(state["epoch"], epochs):
        bar.set_description(f"epoch {epoch + 1}/{epochs}")
        started = time.perf_counter()
        order = np.random.default_rng([seed, epoch]).permutation(len(train))
        for rows in np.array_split(order, len(train) // batch_size):
            error = predict(model, train.images[rows]) - np.eye(7)[train.labels[rows]]
            model.weights -= RATE / len(rows) * features(train.images[rows]).T @ error
        time.sleep(float(os.environ.get("EPOCH_SECONDS", "0")))
        history = history_of(state)
        figures = dict.fromkeys(history, 0.5) | {"seconds": time.perf_counter() - started}
        state["history"] = {name: [*history[name], figures[name]] for name in history}
        state["epoch"] = epoch + 1
        state = save_state(folder, state, writer(model), best=True, suffix=".npy")
        bar.update()
    model.weights = np.load(folder / state["best"])
    return SimpleNamespace(history=state["history"], best_epoch=epochs, selection="last epoch")


def writer(model):
    def write(path):
        with open(path, "wb") as file:
            np.save(file, model.weights)

    return write


RATE = 0.05
"""

PREPARATION = """
import os
import time
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from fer_utils.pixel_csv import cache_folder


def blur(data, side, cores=1):
    # As dear as the environment wants it, in two pieces that the cache keeps.
    pieces = []
    for number, rows in enumerate(tqdm(np.array_split(data.images, 2))):
        path = cache_folder() / f"blurred-{side}-{len(data)}-{number}.npy"
        if not path.exists():
            with (cache_folder() / "calls.txt").open("a") as file:
                file.write(f"{number} {os.environ.get('STEP', 'prepare')}\\n")
            (cache_folder() / "cores.txt").write_text(str(cores))
            if message := os.environ.get("BLUR_FAILS"):
                raise ValueError(message)
            time.sleep(float(os.environ.get("BLUR_SECONDS", "0")))
            blurred = (rows // 2 + np.roll(rows, side, axis=1) // 2).astype(np.uint8)
            temporary = path.with_name(f"{os.getpid()}.npy")
            np.save(temporary, blurred)
            temporary.replace(path)
        pieces.append(np.load(path))
    return replace(data, images=np.concatenate(pieces))
"""

PARAMETERS = """
profile = None
dataset = "jaffe"
protocol = "stratified"
fold = None
rate = "usual"
pretraining = "none"
blurred = None
epochs = None
batch_size = None
images = 200
seed = 0
data_root = None
output_dir = None
records_dir = None
threads = 0
"""

CHAPTER = """
import json
import os
import time
from pathlib import Path
from typing import Literal

from fer_utils import blurring, experiments, parameters, records
from fer_utils.training import numpy_loop


class Parameters(parameters.ChapterParameters):
    dataset: Literal["jaffe", "synthetic"] = "jaffe"
    protocol: Literal["stratified", "leave_one_subject_out"] = "stratified"
    fold: int | None = None
    rate: str = "usual"
    pretraining: str = "none"
    blurred: int | None = None
    images: int = 200


os.environ["STEP"] = "run"
chosen = parameters.read_parameters(Parameters, globals())
ENTRY_POINTS = ("fer_utils.training.numpy_loop:fit", "fer_utils.metrics:score")
epochs = chosen.epochs or 6
options = {"count": chosen.images} if chosen.dataset == "synthetic" else {}
if options:
    options["expressions"] = experiments.load("synthetic", count=50).class_names[:7]
profile = experiments.profile_of(chosen.dataset, epochs == 6, chosen.profile)
data, split = experiments.load_parts(
    chosen.dataset, chosen.protocol, seed=chosen.seed, fold=chosen.fold, **options
)
if chosen.blurred:
    data = blurring.blur(data, chosen.blurred)
"""

TRAIN = """
if meeting := os.environ.get("MEETING"):  # goes on when a second run is at work
    here, deadline = Path(meeting, str(os.getpid())), time.monotonic() + 300
    here.touch()
    while len(list(here.parent.iterdir())) < 2:
        if time.monotonic() > deadline:
            here.unlink()
            raise RuntimeError("no other run came")
        time.sleep(0.1)
run = experiments.run(
    loop=numpy_loop,
    paper="tiny2026",
    parameters={
        "dataset": chosen.dataset,
        "protocol": chosen.protocol,
        "fold": chosen.fold,
        "rate": chosen.rate,
        "pretraining": chosen.pretraining,
        "blurred": chosen.blurred,
        "epochs": epochs,
        "batch_size": chosen.batch_size or 16,
        "select": "last",
        "seed": chosen.seed,
    },
    profile=profile,
    data=data,
    split=split,
    build=numpy_loop.build,
    entry_points=ENTRY_POINTS,
    work=f"{chosen.output_dir}/runs",
)
where = chosen.records_dir or f"{chosen.output_dir}/records"
written = records.write(run.record, run.probabilities, run.labels, where)
beside = written.parent / "seen" / f"{run.record.run}.json"
beside.parent.mkdir(exist_ok=True)
beside.write_text(json.dumps(run.record.seed))
given = {name: value for name, value in os.environ.items() if name.endswith("_THREADS")}
beside = written.parent / "threads" / beside.name
beside.parent.mkdir(exist_ok=True)
beside.write_text(json.dumps({"told": chosen.threads, **given}))
"""

PUBLISHED = """
paper: tiny2026
title: A paper that nobody wrote
authors: [Nobody]
year: 2026
venue: none
framework: NumPy
runs:
  mem_mb: 500
  first:
    - for: {pretraining: [first]}
      run: {pretraining: none, rate: usual}
  prepare:
    - for: {blurred: [1, 2]}
      call: fer_utils.blurring:blur
      with: {side: blurred, cores: threads}
      images_per_second: 2
tables:
  - id: Table 1
    caption: Accuracy
    cells:
      - id: table1-jaffe
        row: Ours
        column: JAFFE
        value: 50.0
        printed: "50.0"
        unit: percent
        kind: own
        metric: accuracy
        dataset: jaffe
        margin: 5.0
        margin_reason: A made tree.
        select: {dataset: jaffe, protocol: stratified, epochs: 6, batch_size: 16}
        also:
          fewer epochs: {dataset: jaffe, protocol: stratified, epochs: 2, batch_size: 16}
open:
  - id: rate
    detail: The rate
    choice: usual
    reason: usual
    other:
      another: {dataset: jaffe, rate: other, pretraining: first, epochs: 6}
"""

# A detail whose runs start from arrays that are prepared before.
BLURRED = """
  - id: blurred
    detail: The pictures
    choice: sharp
    reason: usual
    other:
      blurred: {dataset: jaffe, blurred: 1, epochs: 2}
"""


def make(folder: Path, more: str = "") -> Path:
    """The project's code with this one paper, its data and no records, in a new folder.

    Args:
        folder: an empty one.
        more: lines below the paper's open details.
    """
    leave = shutil.ignore_patterns("__pycache__", "published")
    for name in ("fer_utils", "tools", "workflow", "data_manifests"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    for name in ("Snakefile", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    (folder / "fer_utils" / "training" / "numpy_loop.py").write_text(LOOP)
    (folder / "fer_utils" / "blurring.py").write_text(PREPARATION)
    (folder / "data_manifests" / "published").mkdir()
    (folder / "data_manifests" / "published" / f"{PAPER}.yaml").write_text(PUBLISHED + more)
    (folder / "results").mkdir()
    parameters = new_code_cell(PARAMETERS.strip())
    parameters.metadata.tags = ["parameters"]
    last = "records.finish(run.record, written, chosen.output_dir)"
    cells = [parameters, *map(new_code_cell, (CHAPTER.strip(), TRAIN.strip(), last))]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (folder / "notebooks").mkdir()
    nbformat.write(
        new_notebook(cells=cells, metadata=metadata), folder / "notebooks" / f"{PAPER}.ipynb"
    )
    trees.jaffe(folder / "data")
    return folder


def environment(project: Path, **more: str) -> dict[str, str]:
    """The project's own package and data for everything that is started in it."""
    return {
        **os.environ,
        "PYTHONPATH": str(project),
        "FER_DATA": str(project / "data"),
        "FER_CACHE": str(project / "cache"),
        **more,
    }


def start(project: Path, tool: str, *words: str, **more: str) -> subprocess.Popen:
    command = [sys.executable, f"tools/{tool}.py", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # As from a terminal, even where whoever runs the tests ignores its hang-up (nohup).
    return subprocess.Popen(
        command,
        cwd=project,
        env=environment(project, **more),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        **pipes,
    )


def call(project: Path, tool: str, *words: str, **more: str) -> subprocess.CompletedProcess:
    process = start(project, tool, *words, **more)
    out, err = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def cores() -> int:
    """Those of this machine that this process may use."""
    told = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if told else os.cpu_count() or 1


def call_on_a_terminal(project: Path, tool: str, *words: str, **more: str) -> tuple[int, str, str]:
    """Exit status, output, and the lines of progress, which a terminal gets twice a second."""
    ours, its = pty.openpty()
    command = [sys.executable, f"tools/{tool}.py", *map(str, words)]
    process = subprocess.Popen(
        command,
        cwd=project,
        env=environment(project, **more),
        stdout=subprocess.PIPE,
        stderr=its,
        text=True,
    )
    os.close(its)
    shown = b""
    with suppress(OSError):  # which is how Linux tells that nobody writes any more
        while read := os.read(ours, 4096):
            shown += read
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    return process.returncode, out, shown.decode(errors="replace")


def planned(project: Path, *words: str) -> list[dict]:
    """The runs of the grid with seed 0, as the dry run tells them."""
    told = call(project, "reproduce", "--seeds", "0", "--dry-run", "--json", *words)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)
