"""A checkpoint is one whole epoch of its own run, whatever fails while it is written."""

import json
import os
from pathlib import Path

import pytest
from tiny_training import names

from fer_utils.training import checkpoints
from fer_utils.training.checkpoints import (
    CheckpointError,
    extend,
    keep_to_versions,
    load_state,
    save_state,
)

RUN = {"epochs": 5, "batch_size": 8, "seed": 0}


def write_epoch(folder, epoch, best_so_far, best):
    state = {"run": RUN, "epoch": epoch, "best": best_so_far}

    def write_weights(path):
        path.write_text(f"weights of epoch {epoch}")

    return save_state(folder, state, write_weights, best=best, suffix=".weights")


@pytest.fixture
def two_epochs(tmp_path):
    """A folder after two epochs, of which the first was the better one."""
    best = write_epoch(tmp_path / "run", 1, None, True)["best"]
    write_epoch(tmp_path / "run", 2, best, False)
    return tmp_path / "run"


def test_what_was_saved_last_is_read_back(two_epochs):
    state = load_state(two_epochs, RUN)
    assert state["epoch"] == 2
    assert (two_epochs / state["last"]).read_text() == "weights of epoch 2"
    assert (two_epochs / state["best"]).read_text() == "weights of epoch 1"


def test_a_folder_without_checkpoints_has_no_state(tmp_path):
    assert load_state(tmp_path, RUN) is None
    assert load_state(tmp_path / "nothing", RUN) is None


def test_only_the_last_and_the_best_weights_stay(tmp_path):
    best = None
    left = []
    for epoch, is_best in enumerate([True, False, False, True, False], start=1):
        best = write_epoch(tmp_path, epoch, best, is_best)["best"]
        assert "state.json" in names(tmp_path)
        left.append(sorted(int(name[6:10]) for name in names(tmp_path) - {"state.json"}))
    assert left == [[1], [1, 2], [1, 3], [4], [4, 5]]


@pytest.mark.parametrize("step", ["write", "replace", "fsync"])
@pytest.mark.parametrize("call", [1, 2])
def test_a_save_that_fails_leaves_the_state_before_it(two_epochs, monkeypatch, step, call):
    """Whichever of its steps fails, and the next one succeeds over what it left."""
    calls = []
    real = {"replace": os.replace, "fsync": os.fsync, "write": Path.write_text}[step]

    def fail(*arguments, **options):
        calls.append(step)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)

    steps_of_its_kind = {"write": 1, "replace": 2, "fsync": 1}[step]
    with monkeypatch.context() as broken:
        broken.setattr(
            Path if step == "write" else os, "write_text" if step == "write" else step, fail
        )
        if call <= steps_of_its_kind:
            with pytest.raises(OSError, match="No space left"):
                write_epoch(two_epochs, 3, "epoch-0001.weights", True)
            assert load_state(two_epochs, RUN)["epoch"] == 2
    write_epoch(two_epochs, 3, "epoch-0001.weights", True)
    assert load_state(two_epochs, RUN)["best"] == "epoch-0003.weights"
    assert names(two_epochs) == {"state.json", "epoch-0003.weights"}


def test_a_state_is_never_half_written(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    checkpoints.write_atomically(path, b"old")

    def fail(*arguments):
        assert path.read_bytes() == b"old"
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.write_atomically(path, b"new")
    assert names(tmp_path) == {"state.json"}
    assert path.read_bytes() == b"old"
    checkpoints.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1}, "another seed$"),
        ({"seed": 1, "batch_size": 16}, "another batch_size, seed$"),
        ({"dropout": 0.1}, "another dropout$"),
    ],
)
def test_checkpoints_of_another_run_are_refused_with_what_differs(two_epochs, change, told):
    with pytest.raises(CheckpointError, match=told) as caught:
        load_state(two_epochs, {**RUN, **change})
    assert str(two_epochs / "state.json") in str(caught.value)
    with pytest.raises(CheckpointError, match="another seed"):
        load_state(two_epochs, {key: value for key, value in RUN.items() if key != "seed"})


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '{"last": 3, "best": 4}'])
def test_a_damaged_state_is_refused_by_name(two_epochs, content):
    (two_epochs / "state.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"state\.json: no readable checkpoint .*; delete"):
        load_state(two_epochs, RUN)


@pytest.mark.parametrize("name", ["epoch-0001.weights", "epoch-0002.weights"])
def test_missing_weights_are_refused_by_name(two_epochs, name):
    (two_epochs / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing; delete"):
        load_state(two_epochs, RUN)


def test_a_finished_run_alone_becomes_the_beginning_of_a_longer_one(two_epochs, tmp_path):
    longer = tmp_path / "longer"
    assert not extend(tmp_path / "absent", longer, 8)
    assert not extend(two_epochs, longer, 8)  # two epochs of five
    assert names(tmp_path) == {"run"}
    for epoch in (3, 4, 5):
        write_epoch(two_epochs, epoch, "epoch-0001.weights", False)
    longer.mkdir()
    (longer / "epoch-0005.weights").write_text("half a")  # of a process that was killed
    assert extend(two_epochs, longer, 8)
    state = load_state(longer, {**RUN, "epochs": 8})
    assert (state["epoch"], state["best"]) == (5, "epoch-0001.weights")
    assert (longer / "epoch-0005.weights").read_text() == "weights of epoch 5"
    assert load_state(two_epochs, RUN)["epoch"] == 5
    write_epoch(longer, 6, "epoch-0001.weights", True)
    assert not extend(two_epochs, longer, 8)  # what it has by now stays
    assert names(longer) == {"state.json", "epoch-0006.weights"}
    assert names(tmp_path) == {"run", "longer"}


VERSIONS = {"keras": "3.1", "numpy": "2.0"}


def told_versions(folder):
    return json.loads((folder / "versions.json").read_text())


@pytest.mark.parametrize(
    "now",
    [
        VERSIONS,
        {"keras": "3.1+cpu", "numpy": "2.0", "torch": "9"},  # another build; no part in Keras
        {"keras": "3.1", "numpy": "2.0", "dlib-bin": "20"},  # was not there: took no part
        {"keras": "3.1"},
    ],
)
def test_checkpoints_of_the_same_versions_stay(tmp_path, now):
    folder = tmp_path / "run"
    folder.mkdir()
    assert keep_to_versions(folder, VERSIONS, "Keras") == ""
    write_epoch(folder, 1, None, True)
    assert keep_to_versions(folder, now, "Keras") == ""
    assert load_state(folder, RUN)["epoch"] == 1
    assert told_versions(folder) == {**VERSIONS, **now}


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (None, "untold versions"),
        ({**VERSIONS, "keras": "3.0"}, "keras 3.0, now 3.1"),
        ({"keras": "3.0", "numpy": "1.9", "torch": "1"}, "keras 3.0, now 3.1; numpy 1.9, now 2.0"),
    ],
)
def test_checkpoints_of_other_versions_go_and_what_differs_is_told(two_epochs, made, told):
    if made:
        checkpoints.write_atomically(two_epochs / "versions.json", json.dumps(made).encode())
    said = keep_to_versions(two_epochs, VERSIONS, "Keras")
    assert said == f"run starts again; its checkpoints are of {told}."
    assert names(two_epochs) == {"versions.json"}
    assert told_versions(two_epochs) == VERSIONS
    assert load_state(two_epochs, RUN) is None
    write_epoch(two_epochs, 1, None, True)
    assert keep_to_versions(two_epochs, VERSIONS, "Keras") == ""


def test_versions_that_cannot_be_read_are_refused_by_name(two_epochs):
    (two_epochs / "versions.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"versions\.json: not readable .*; delete"):
        keep_to_versions(two_epochs, VERSIONS, "Keras")
    assert load_state(two_epochs, RUN)["epoch"] == 2


def test_dropping_checkpoints_leaves_none_of_them_however_it_ends(two_epochs, monkeypatch):
    real = Path.unlink

    def fail(path, **options):
        real(path, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", fail)
        with pytest.raises(KeyboardInterrupt):
            keep_to_versions(two_epochs, VERSIONS, "Keras")
    assert load_state(two_epochs, RUN) is None
