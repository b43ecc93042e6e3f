"""Both loops give the same numbers again, and survive being killed at any moment."""

import importlib
import inspect
import json
import os
import pickle
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_training import (
    BATCHES,
    TRAIN,
    VAL,
    Interrupted,
    assert_same,
    fit,
    in_a_process_of_its_own,
    names,
    train,
    train_interrupted,
)

from fer_utils.training import checkpoints
from fer_utils.training.checkpoints import CheckpointError, save_state

LOOPS = ("keras", "torch")


@pytest.fixture(scope="module", params=LOOPS)
def tiny(request):
    """A loop with a network for it."""
    return importlib.import_module(f"tiny_{request.param}")


@pytest.fixture(scope="module")
def undisturbed(tiny, faces, tmp_path_factory):
    """A run from beginning to end, and its folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return train(tiny, faces, folder), folder


def contents(folder):
    return {name: (folder / name).read_bytes() for name in names(folder)}


# ---- seeds -------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_numbers(tiny, undisturbed, faces, tmp_path):
    assert train(tiny, faces, tmp_path) == undisturbed[0]


def test_another_seed_gives_other_numbers(tiny, undisturbed, faces, tmp_path):
    history, _, probabilities = train(tiny, faces, tmp_path, model=tiny.network(1), seed=1)
    assert history != undisturbed[0][0]
    assert probabilities != undisturbed[0][2]


def test_the_seed_makes_the_first_weights(tiny):
    first, again, other = (tiny.weights(tiny.network(seed)) for seed in (0, 0, 1))
    assert_same(first, again)
    assert (first[0] != other[0]).any()


def test_order_augmentation_and_dropout_depend_on_seed_and_epoch_alone(
    tiny, faces, tmp_path, monkeypatch
):
    def draws(folder, seed):
        """Of two epochs: images as they are seen, a draw of augmentation's, dropout at first."""
        model, seen = tiny.network(), []
        dropped = tiny.watch_dropout(model)
        tiny.replace_validation(monkeypatch, model, lambda: 0.5)  # quicker, and draws nothing

        def watch(images, rng):
            seen.append((images.copy(), rng.random(3)))
            return images

        fit(tiny, faces, tmp_path / folder, model=model, epochs=2, seed=seed, augment=watch)
        firsts = dropped[:: len(dropped) // 2]
        return [(*drawn, first) for drawn, first in zip(seen, firsts, strict=True)]

    first, again, other = draws("first", 0), draws("again", 0), draws("other", 1)
    for epoch in range(2):
        assert_same(first[epoch], again[epoch])
    for one, two in ((first[0], first[1]), (first[0], other[0]), (first[1], other[1])):
        for a, b in zip(one, two, strict=True):
            assert (a != b).any()
    every = sorted(image.tobytes() for image in faces.images[TRAIN])
    for images, _, _ in first:
        assert sorted(image.tobytes() for image in images) == every


# ---- what an epoch does ------------------------------------------------------------------------


def test_training_learns_and_reports_every_epoch(undisturbed):
    history, best_epoch, _ = undisturbed[0]
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert {len(values) for values in history.values()} == {4}
    assert history["loss"][-1] < history["loss"][0]
    assert 1 <= best_epoch <= 4


def test_the_history_of_validation_is_that_of_the_chosen_weights(undisturbed, faces):
    history, best_epoch, probabilities = undisturbed[0]
    right = np.argmax(probabilities, axis=1) == faces.labels
    assert right[VAL].mean() == pytest.approx(history["val_accuracy"][best_epoch - 1])


def test_loss_and_accuracy_of_an_epoch_are_means_over_its_images(tiny, faces, tmp_path):
    """Rate 0: every step sees the same weights, so they can be computed in one go."""
    history, _, probabilities = train(
        tiny,
        faces,
        tmp_path,
        model=tiny.network(plain=True),
        batch_size=20,  # the last one is smaller
        augment=None,
        learning_rate=lambda history: 0.0,
    )
    found, every = np.array(probabilities), np.arange(64)
    losses, right = -np.log(found[every, faces.labels]), found.argmax(1) == faces.labels
    for part, rows in (("", TRAIN), ("val_", VAL)):
        assert history[part + "loss"] == pytest.approx([losses[rows].mean()] * 4, rel=1e-5)
        assert history[part + "accuracy"] == pytest.approx([right[rows].mean()] * 4)


def test_what_augmentation_returns_is_what_is_learnt(tiny, undisturbed, faces, tmp_path):
    blank = fit(tiny, faces, tmp_path, augment=lambda images, rng: np.zeros_like(images))
    assert max(blank.history["accuracy"]) < 0.6  # all are alike, a third of each expression
    assert max(undisturbed[0][0]["accuracy"]) > 0.6


def test_the_learning_rate_of_each_epoch_is_the_one_asked_for(tiny, faces, tmp_path, monkeypatch):
    model, seen = tiny.network(), []
    tiny.replace_validation(monkeypatch, model, lambda: 0.5)
    rates = [0.0, 1 / 8, 1 / 64]  # float32 has these exactly

    def watch(images, rng):
        seen.append((tiny.rate(model), tiny.trainable(model)))
        return images

    done = fit(
        tiny,
        faces,
        tmp_path,
        model=model,
        epochs=3,
        augment=watch,
        learning_rate=lambda history: rates[len(history["loss"])],
    )
    assert [rate for rate, _ in seen] == rates == done.history["learning_rate"]
    first, second, third = (weights for _, weights in seen)
    assert_same(first, second)  # at a rate of 0
    assert (second[0] != third[0]).any()


def test_targets_are_the_labels_or_what_the_set_says(tiny, faces):
    one_hot = tiny.loop.one_hot
    labelled = replace(faces, labels=np.array([2, 0]))
    np.testing.assert_array_equal(one_hot(labelled), [[0, 0, 1], [1, 0, 0]])
    votes = np.array([[0.2, 0.3, 0.5], [1, 0, 0]], np.float32)
    np.testing.assert_array_equal(one_hot(replace(labelled, targets=votes)), votes)
    with pytest.raises(ValueError, match="ck48: images without a label"):
        one_hot(replace(faces, labels=np.array([2, -1])))


# ---- which epoch -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("select", "accuracies", "chosen", "words"),
    [
        # the earlier one of two
        ("val_accuracy", [0.25, 0.75, 0.5, 0.75], 2, "highest accuracy on the validation part"),
        ("last", [0.25, 0.75, 0.5, 0.25], 4, "last epoch"),
    ],
    ids=["val_accuracy", "last"],
)
def test_the_model_ends_with_the_weights_of_the_chosen_epoch(
    tiny, faces, tmp_path, monkeypatch, select, accuracies, chosen, words
):
    """And the record gets the rule in words, and the seconds."""
    model, weights = tiny.network(), []

    def accuracy():
        weights.append(tiny.weights(model))
        return accuracies[len(weights) - 1]

    tiny.replace_validation(monkeypatch, model, accuracy)
    done = fit(tiny, faces, tmp_path, model=model, select=select)
    assert done.best_epoch == chosen
    assert_same(tiny.weights(model), weights[chosen - 1])
    assert done.selection == words
    assert len(done.history["seconds"]) == 4
    assert min(done.history["seconds"]) > 0


def test_an_unknown_rule_is_refused_before_anything_is_written(tiny, faces, tmp_path):
    with pytest.raises(ValueError, match="'test_accuracy': one of val_accuracy, last"):
        fit(tiny, faces, tmp_path / "run", select="test_accuracy")
    assert not (tmp_path / "run").exists()


# ---- killed and started again ------------------------------------------------------------------


def test_an_interrupted_run_carries_on_to_the_numbers_of_an_undisturbed_one(
    tiny, undisturbed, faces, tmp_path
):
    assert train_interrupted(tiny, faces, tmp_path, tiny.network) == undisturbed[0]
    assert names(tmp_path) == names(undisturbed[1])


def test_a_finished_run_started_again_trains_nothing_and_gives_the_same(tiny, undisturbed, faces):
    def never(images, rng):
        raise AssertionError

    result, folder = undisturbed
    before = contents(folder)
    assert train(tiny, faces, folder, augment=never) == result
    assert contents(folder) == before


def test_the_best_epoch_survives_an_interruption(tiny, faces, tmp_path, monkeypatch):
    weights = []

    def run(model, accuracies):
        def accuracy():
            weights.append(tiny.weights(model))
            if not accuracies:
                raise Interrupted
            return accuracies.pop(0)

        tiny.replace_validation(monkeypatch, model, accuracy)
        return fit(tiny, faces, tmp_path, model=model)

    with pytest.raises(Interrupted):
        run(tiny.network(), [0.9, 0.1])
    model = tiny.network()
    assert run(model, [0.2, 0.9]).best_epoch == 1
    assert_same(tiny.weights(model), weights[0])


def test_the_schedule_of_learning_rates_goes_on_where_it_was(tiny, faces, tmp_path, monkeypatch):
    epochs = []

    def schedule(history):
        epochs.append(len(history["loss"]))
        if epochs == [0, 1]:
            raise Interrupted
        return 0.01

    def run():
        model = tiny.network()
        tiny.replace_validation(monkeypatch, model, lambda: 0.5)
        fit(tiny, faces, tmp_path / "run", model=model, learning_rate=schedule)

    with pytest.raises(Interrupted):
        run()
    assert not checkpoints.extend(tmp_path / "run", tmp_path / "longer", 6)
    assert names(tmp_path) == {"run"}, "more epochs went on from an unfinished run"
    run()
    assert epochs == [0, 1, 1, 2, 3]


def test_a_schedule_ends_the_training_and_the_end_is_kept(tiny, faces, tmp_path):
    def twice(history):
        assert set(history) == set(checkpoints.FIGURES)
        return 1 / 64 if len(history["loss"]) < 2 else None

    first = train(tiny, faces, tmp_path, learning_rate=twice)
    assert {len(values) for values in first[0].values()} == {2}
    assert first[0]["learning_rate"] == [1 / 64, 1 / 64]
    assert train(tiny, faces, tmp_path, learning_rate=twice) == first


def test_more_epochs_go_on_from_a_finished_run(tiny, undisturbed, faces, tmp_path):
    fit(tiny, faces, tmp_path / "two", epochs=2)
    assert checkpoints.extend(tmp_path / "two", tmp_path / "four", 4)
    (rate,) = set(undisturbed[0][0]["learning_rate"])
    scheduled, augmented = [], []

    def schedule(history):
        scheduled.append(len(history["loss"]))
        return rate

    def counted(images, rng):
        augmented.append(len(images))
        return tiny.augment(images, rng)

    result = train(tiny, faces, tmp_path / "four", augment=counted, learning_rate=schedule)
    assert result == undisturbed[0]
    assert scheduled == [2, 3]
    assert len(augmented) == 2


MID_EPOCH, HALF_WRITTEN = "in the middle of an epoch", "with half a file of weights written"


def be_killed(loop, moment, folder, faces):
    """Train until `moment` and die as the kernel kills; for a process of its own."""
    tiny = importlib.import_module(f"tiny_{loop}")

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    class Bar(tiny.loop.tqdm):
        def update(self, n=1):
            super().update(n)
            if self.n == 2 * BATCHES + 3:
                die()

    def half_written(folder, state, write_weights, **options):
        def write(path):
            write_weights(path)
            if state["epoch"] == 3:
                content = path.read_bytes()
                path.write_bytes(content[: len(content) // 2])
                die()

        return save_state(folder, state, write, **options)

    if moment == MID_EPOCH:
        tiny.loop.tqdm = Bar
    else:
        tiny.loop.save_state = half_written
    train(tiny, pickle.loads(Path(faces).read_bytes()), Path(folder))


KILLED = "import sys, test_loops; test_loops.be_killed(*sys.argv[1:])"


@pytest.mark.parametrize("moment", [MID_EPOCH, HALF_WRITTEN])
def test_a_killed_run_carries_on_to_the_numbers_of_an_undisturbed_one(
    tiny, undisturbed, faces, tmp_path, moment
):
    pickled, folder = tmp_path / "faces.pickle", tmp_path / "run"
    pickled.write_bytes(pickle.dumps(faces))
    loop = tiny.__name__.removeprefix("tiny_")
    killed = in_a_process_of_its_own(KILLED, loop, moment, folder, pickled)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert json.loads((folder / "state.json").read_text())["epoch"] == 2
    assert train(tiny, faces, folder) == undisturbed[0]
    assert names(folder) == names(undisturbed[1])


# ---- checkpoints -------------------------------------------------------------------------------


def test_a_finished_training_leaves_the_state_and_at_most_two_files_of_weights(tiny, undisturbed):
    (_, best_epoch, _), folder = undisturbed
    weights = {f"epoch-{epoch:04}{tiny.SUFFIX}" for epoch in (best_epoch, 4)}
    assert names(folder) == {"state.json"} | weights


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"epochs": 5}, "epochs"),
        ({"batch_size": 16}, "batch_size"),
        ({"seed": 1}, "seed"),
        ({"select": "last"}, "select"),
        ({"seed": 1, "batch_size": 16}, "batch_size, seed"),
    ],
)
def test_training_refuses_the_folder_of_another_run(tiny, undisturbed, faces, changes, told):
    _, folder = undisturbed
    before = contents(folder)
    with pytest.raises(CheckpointError, match=rf"another {told}$"):
        fit(tiny, faces, folder, **changes)
    assert contents(folder) == before


def test_training_refuses_the_folder_of_other_images(tiny, undisturbed, faces):
    _, folder = undisturbed
    options = {"epochs": 4, "batch_size": 8, "seed": 0, "folder": folder}
    with pytest.raises(CheckpointError, match=r"another images$"):
        tiny.loop.fit(tiny.network(), faces.subset(TRAIN[:40]), faces.subset(VAL), **options)


# ---- what chapters call ------------------------------------------------------------------------


def test_predictions_do_not_depend_on_the_size_of_the_batch(tiny, faces):
    model = tiny.network()
    whole = tiny.loop.predict(model, faces.images[:10])
    assert whole.shape == (10, 3)
    assert whole.dtype == np.float32
    few = tiny.loop.predict(model, faces.images[:10], batch_size=3)
    np.testing.assert_allclose(few, whole, atol=1e-6)


def test_the_size_of_a_network_is_that_counted_by_hand(tiny, faces):
    assert tiny.loop.size(tiny.network(plain=True), faces.images) == tiny.SIZE


@pytest.mark.parametrize("name", ["prepare", "fit", "size", "predict"])
def test_the_loops_take_the_same_arguments(name):
    keras, torch = (
        {
            argument.name: (argument.kind, argument.default)
            for argument in inspect.signature(getattr(module.loop, name)).parameters.values()
        }
        for module in (importlib.import_module(f"tiny_{loop}") for loop in LOOPS)
    )
    if name == "predict":
        assert torch.pop("views") == (inspect.Parameter.POSITIONAL_OR_KEYWORD, None)
        assert keras.pop("batch_size")[0] == torch.pop("batch_size")[0]  # what fits in memory
    assert keras == torch
