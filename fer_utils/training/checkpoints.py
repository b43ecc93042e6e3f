"""Checkpoints that survive a kill at any moment; every training loop keeps its own in one folder.

A folder holds `state.json`, which names the two weight files that count (the last epoch's and the
best one's), those files, and the versions of the libraries that made them. The state is replaced in
one step after its files are complete, so that whatever is read back is one whole epoch.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from fer_utils import provenance


class CheckpointError(RuntimeError):
    """A folder whose checkpoints belong to another run or cannot be read."""


def load_state(folder: Path, run: dict) -> dict | None:
    """The state saved last, or None where there is none.

    Args:
        folder: a folder of `save_state`, or one that does not exist yet.
        run: what the caller is about to train, compared with what the folder was made for.

    Raises:
        CheckpointError: the folder belongs to another run, or is damaged.
    """
    path = folder / "state.json"
    if not path.exists():
        return None
    try:
        state = json.loads(path.read_text())
        missing = [name for name in (state["last"], state["best"]) if not (folder / name).is_file()]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: no readable checkpoint ({error}); delete {folder}"
        ) from None
    if missing:
        raise CheckpointError(f"{path}: {missing[0]} is missing; delete {folder} to start again")
    if state["run"] != run:
        different = sorted(
            key for key in {*run, *state["run"]} if run.get(key) != state["run"].get(key)
        )
        raise CheckpointError(f"{path}: made by a run with another {', '.join(different)}")
    return state


FIGURES = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")


def history_of(state: dict) -> dict[str, list[float]]:
    """What each epoch so far gave, by figure; empty lists before the first."""
    return {figure: list(state["history"].get(figure, ())) for figure in FIGURES}


def save_state(
    folder: Path, state: dict, write_weights: Callable[[Path], None], *, best: bool, suffix: str
) -> dict:
    """Write this epoch's weights, then the state that names them, then drop what it replaces.

    Args:
        folder: made if it does not exist.
        state: JSON-ready, with "run", "epoch" (epochs finished) and, unless this is the best,
            "best".
        write_weights: writes the weights to the path it is given.
        best: whether this epoch is the best so far.
        suffix: ending of the weight files, such as ".keras".

    Returns:
        The state as written, with "last" and "best" file names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    last = f"epoch-{state['epoch']:04d}{suffix}"
    unfinished = folder / f"unfinished{suffix}"
    write_weights(unfinished)
    os.replace(unfinished, folder / last)
    state = {**state, "last": last, "best": last if best else state["best"]}
    write_atomically(folder / "state.json", json.dumps(state, indent=1).encode())
    for path in folder.glob(f"epoch-*{suffix}"):
        if path.name not in (state["last"], state["best"]):
            path.unlink()
    return state


def extend(shorter: Path, folder: Path, epochs: int) -> bool:
    """Make a finished run's checkpoints the beginning of the same run with more epochs.

    Args:
        shorter: checkpoints of a run that differs from the new one in its epochs alone.
        folder: the new run's; left alone where it has checkpoints.
        epochs: of the new run.

    Returns:
        Whether it did; not where `folder` has checkpoints, or `shorter` has none or is not
        finished.

    Raises:
        ValueError: the state of `shorter` cannot be read.
    """
    if (folder / "state.json").exists() or not (shorter / "state.json").exists():
        return False
    state = json.loads((shorter / "state.json").read_text())
    if state["epoch"] != state["run"]["epochs"]:
        return False
    shutil.copytree(
        shorter, folder, ignore=shutil.ignore_patterns("state.json"), dirs_exist_ok=True
    )
    state["run"]["epochs"] = epochs
    write_atomically(folder / "state.json", json.dumps(state, indent=1).encode())
    return True


def keep_to_versions(folder: Path, versions: dict[str, str], framework: str) -> str:
    """Drop checkpoints of other or untold versions of libraries: all epochs are of the same.

    Args:
        folder: of a run; it exists.
        versions: library -> version.
        framework: of the run; see `provenance.differing` for what counts.

    Returns:
        What is to be said about it; empty where nothing was dropped.

    Raises:
        CheckpointError: what tells the versions cannot be read.
    """
    path, state = folder / "versions.json", folder / "state.json"
    try:
        made = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise CheckpointError(f"{path}: not readable ({error}); delete {folder}") from None
    differ = provenance.differing(made, versions, framework) if made else ["untold versions"]
    said = ""
    if differ and state.exists():
        said = f"{folder.name} starts again; its checkpoints are of {'; '.join(differ)}."
        state.unlink()  # first: what it does not name is no checkpoint
        for left in folder.glob("epoch-*"):
            left.unlink()
    together = versions if differ else {**made, **versions}
    if together != made:
        write_atomically(path, json.dumps(together, indent=1).encode())
    return said


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step: a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
