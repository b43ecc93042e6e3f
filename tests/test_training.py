"""Training gives the same numbers again, and survives being killed at any moment."""

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from fer_utils.preprocessing import flip_and_shift
from fer_utils.training import checkpoints, keras_loop
from fer_utils.training.checkpoints import CheckpointError, load_state, save_state

TRAIN, VAL = np.arange(48), np.arange(48, 64)
BATCHES = 6  # of 8 images an epoch


def network(seed=0):
    """Small and quick, with what a run must not lose: batch statistics, dropout, Adam's moments."""
    keras_loop.prepare(seed)
    images = keras.Input((48, 48, 1))
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = layers.AveragePooling2D(8)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(8, use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.Dropout(0.3)(x)
    model = keras.Model(images, layers.Dense(3, activation="softmax")(x))
    adam = keras.optimizers.Adam(0.01)
    model.compile(adam, "categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    return model


def train(faces, folder, *, model=None, **changes):
    """Four epochs with augmentation; the history but its seconds, the choice, probabilities."""
    model = model or network()
    options = {"epochs": 4, "batch_size": 8, "seed": 0, "augment": flip_and_shift, **changes}
    fit = keras_loop.fit(model, faces.subset(TRAIN), faces.subset(VAL), folder=folder, **options)
    history = {name: values for name, values in fit.history.items() if name != "seconds"}
    return history, fit.best_epoch, keras_loop.predict(model, faces.images).tolist()


@pytest.fixture(scope="module")
def undisturbed(faces, tmp_path_factory):
    """A run from beginning to end, and its folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return train(faces, folder), folder


def names(folder):
    return {path.name for path in folder.iterdir()}


# ---- seeds -------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_numbers(undisturbed, faces, tmp_path):
    assert train(faces, tmp_path) == undisturbed[0]


def test_another_seed_gives_other_numbers(undisturbed, faces, tmp_path):
    history, _, probabilities = train(faces, tmp_path, model=network(1), seed=1)
    assert history != undisturbed[0][0]
    assert probabilities != undisturbed[0][2]


def test_the_seed_makes_the_first_weights():
    first, again, other = (network(seed).get_weights()[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_order_and_dropout_depend_on_seed_and_epoch_alone(faces, tmp_path):
    def draws(folder, seed):
        """Images as two epochs see them, and the dropout layer's state at their beginning."""
        model, seen = network(), []
        (dropout,) = (layer for layer in model.layers if isinstance(layer, layers.Dropout))

        def watch(images, rng):
            seen.append((images.copy(), dropout.seed_generator.state.numpy()))
            return images

        train(faces, tmp_path / folder, model=model, epochs=2, seed=seed, augment=watch)
        return seen

    first, again, other = draws("first", 0), draws("again", 0), draws("other", 1)
    for epoch in range(2):
        for a, b in zip(first[epoch], again[epoch], strict=True):
            np.testing.assert_array_equal(a, b)
    for one, two in ((first[0], first[1]), (first[0], other[0]), (first[1], other[1])):
        for a, b in zip(one, two, strict=True):
            assert (a != b).any()
    every = sorted(image.tobytes() for image in faces.images[TRAIN])
    for images, _ in first:
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


def test_what_augmentation_returns_is_what_is_learnt(undisturbed, faces, tmp_path):
    history, _, _ = train(faces, tmp_path, augment=lambda images, rng: np.zeros_like(images))
    assert max(history["accuracy"]) < 0.6  # all pictures are alike, a third of each expression
    assert max(undisturbed[0][0]["accuracy"]) > 0.6


def test_the_learning_rate_of_each_epoch_is_the_one_asked_for(faces, tmp_path):
    model, rates = network(), []
    before = [weight.numpy().copy() for weight in model.trainable_weights]

    def zero_then_falling(history):
        return [0.0, 0.1, 0.01][len(history["loss"])]

    def watch(*arguments, **options):
        rates.append(float(model.optimizer.learning_rate))
        if len(rates) == 1:
            for weight, old in zip(model.trainable_weights, before, strict=True):
                np.testing.assert_array_equal(weight.numpy(), old)
        return {"loss": 1.0, "accuracy": 0.5}

    model.evaluate = watch
    train(faces, tmp_path, model=model, epochs=3, learning_rate=zero_then_falling)
    assert rates == pytest.approx([0.0, 0.1, 0.01])


def test_targets_are_the_labels_or_what_the_set_says(faces):
    from dataclasses import replace

    np.testing.assert_array_equal(
        keras_loop.one_hot(replace(faces, labels=np.array([2, 0]))), [[0, 0, 1], [1, 0, 0]]
    )
    votes = np.array([[0.2, 0.3, 0.5], [1, 0, 0]], np.float32)
    told = replace(faces, labels=np.array([2, 0]), targets=votes)
    np.testing.assert_array_equal(keras_loop.one_hot(told), votes)
    with pytest.raises(ValueError, match="ck48: images without a label"):
        keras_loop.one_hot(replace(faces, labels=np.array([2, -1])))


# ---- which epoch -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("select", "accuracies", "chosen"),
    [
        ("val_accuracy", [0.25, 0.75, 0.5, 0.75], 2),  # the earlier one of two
        ("last", [0.25, 0.75, 0.5, 0.25], 4),
    ],
)
def test_the_model_ends_with_the_weights_of_the_chosen_epoch(
    faces, tmp_path, select, accuracies, chosen
):
    model, weights = network(), []

    def evaluate(*arguments, **options):
        weights.append(model.get_weights())
        return {"loss": 1.0, "accuracy": accuracies[len(weights) - 1]}

    model.evaluate = evaluate
    _, best_epoch, _ = train(faces, tmp_path, model=model, select=select)
    assert best_epoch == chosen
    for kept, expected in zip(model.get_weights(), weights[chosen - 1], strict=True):
        np.testing.assert_array_equal(kept, expected)


@pytest.mark.parametrize(
    ("select", "words"),
    [("val_accuracy", "highest accuracy on the validation part"), ("last", "last epoch")],
)
def test_the_record_gets_the_rule_in_words_and_the_seconds(faces, tmp_path, select, words):
    model = network()
    model.run_eagerly = True
    options = {"epochs": 2, "batch_size": 24, "seed": 0, "folder": tmp_path, "select": select}
    fit = keras_loop.fit(model, faces.subset(TRAIN), faces.subset(VAL), **options)
    assert fit.selection == words
    assert len(fit.history["seconds"]) == 2
    assert min(fit.history["seconds"]) > 0


def test_an_unknown_rule_is_refused_before_anything_is_written(faces, tmp_path):
    with pytest.raises(ValueError, match="'test_accuracy': one of val_accuracy, last"):
        train(faces, tmp_path / "run", select="test_accuracy")
    assert not (tmp_path / "run").exists()


# ---- killed and started again ------------------------------------------------------------------


class Interrupted(Exception):
    pass


def test_an_interrupted_run_carries_on_to_the_numbers_of_an_undisturbed_one(
    undisturbed, faces, tmp_path
):
    calls = []

    def interrupted(images, rng):
        calls.append("first")
        if len(calls) == 2:
            raise Interrupted
        return flip_and_shift(images, rng)

    def counted(images, rng):
        calls.append("second")
        return flip_and_shift(images, rng)

    with pytest.raises(Interrupted):
        train(faces, tmp_path, augment=interrupted)
    assert train(faces, tmp_path, augment=counted) == undisturbed[0]
    assert calls.count("second") == 3, "a finished epoch was trained again"
    assert names(tmp_path) == names(undisturbed[1])


def test_a_finished_run_started_again_trains_nothing_and_gives_the_same(undisturbed, faces):
    def never(images, rng):
        raise AssertionError

    result, folder = undisturbed
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    assert train(faces, folder, augment=never) == result
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before


def test_the_best_epoch_survives_an_interruption(faces, tmp_path):
    weights = []

    def evaluations(model, accuracies):
        def evaluate(*arguments, **options):
            weights.append(model.get_weights())
            if not accuracies:
                raise Interrupted
            return {"loss": 1.0, "accuracy": accuracies.pop(0)}

        return evaluate

    first, second = network(), network()
    first.evaluate = evaluations(first, [0.9, 0.1])
    with pytest.raises(Interrupted):
        train(faces, tmp_path, model=first)
    second.evaluate = evaluations(second, [0.2, 0.9])
    _, best_epoch, _ = train(faces, tmp_path, model=second)
    assert best_epoch == 1
    for kept, expected in zip(second.get_weights(), weights[0], strict=True):
        np.testing.assert_array_equal(kept, expected)


def test_the_schedule_of_learning_rates_goes_on_where_it_was(faces, tmp_path):
    epochs = []

    def schedule(history):
        epochs.append(len(history["loss"]))
        if epochs == [0, 1]:
            raise Interrupted
        return 0.01

    with pytest.raises(Interrupted):
        train(faces, tmp_path, learning_rate=schedule)
    train(faces, tmp_path, learning_rate=schedule)
    assert epochs == [0, 1, 1, 2, 3]


def test_a_schedule_ends_the_training_and_the_end_is_kept(faces, tmp_path):
    def twice(history):
        assert set(history) == set(checkpoints.FIGURES)
        return 0.01 if len(history["loss"]) < 2 else None

    history, _, weights = train(faces, tmp_path, learning_rate=twice)
    assert len(history["loss"]) == 2
    assert history["learning_rate"] == pytest.approx([0.01, 0.01])
    again, _, same = train(faces, tmp_path, learning_rate=twice)
    assert again == history
    for kept, expected in zip(same, weights, strict=True):
        np.testing.assert_array_equal(kept, expected)


def test_more_epochs_go_on_from_a_finished_run(undisturbed, faces, tmp_path):
    short = tmp_path / "two"
    train(faces, short, epochs=2)
    assert checkpoints.extend(short, tmp_path / "four", 4)
    started, epochs = [], len(undisturbed[0][0]["loss"])
    assert epochs == 4
    history, best, weights = train(
        faces,
        tmp_path / "four",
        learning_rate=lambda history: started.append(len(history["loss"])) or 0.01,
    )
    assert started == [2, 3]
    expected, expected_best, expected_weights = undisturbed[0]
    assert history["val_accuracy"] == expected["val_accuracy"]
    assert best == expected_best
    for kept, wanted in zip(weights, expected_weights, strict=True):
        np.testing.assert_array_equal(kept, wanted)


def test_an_unfinished_or_absent_run_is_not_gone_on_from(faces, tmp_path):
    assert not checkpoints.extend(tmp_path / "absent", tmp_path / "four", 4)
    with pytest.raises(Interrupted):
        train(faces, tmp_path / "cut", epochs=3, learning_rate=interrupted_after(1))
    assert not checkpoints.extend(tmp_path / "cut", tmp_path / "four", 4)
    assert not (tmp_path / "four").exists()


def interrupted_after(epochs):
    def schedule(history):
        if len(history["loss"]) == epochs:
            raise Interrupted
        return 0.01

    return schedule


MID_EPOCH, HALF_WRITTEN = "in the middle of an epoch", "with half a file of weights written"


def be_killed(moment, folder, faces):
    """Train until `moment` and die as the kernel kills; for a process of its own."""

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    class Bar(keras_loop.tqdm):
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
        keras_loop.tqdm = Bar
    else:
        keras_loop.save_state = half_written
    train(pickle.loads(Path(faces).read_bytes()), Path(folder))


KILLED = "import sys, test_training; test_training.be_killed(*sys.argv[1:])"


@pytest.mark.parametrize("moment", [MID_EPOCH, HALF_WRITTEN])
def test_a_killed_run_carries_on_to_the_numbers_of_an_undisturbed_one(
    undisturbed, faces, tmp_path, moment
):
    pickled, folder = tmp_path / "faces.pickle", tmp_path / "run"
    pickled.write_bytes(pickle.dumps(faces))
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, moment, str(folder), str(pickled)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert json.loads((folder / "state.json").read_text())["epoch"] == 2
    assert train(faces, folder) == undisturbed[0]
    assert names(folder) == names(undisturbed[1])


# ---- checkpoints -------------------------------------------------------------------------------

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


def test_a_finished_training_leaves_the_state_and_at_most_two_files_of_weights(undisturbed):
    (_, best_epoch, _), folder = undisturbed
    assert names(folder) == {"state.json", "epoch-0004.keras", f"epoch-{best_epoch:04}.keras"}


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


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"epochs": 5}, "epochs"),
        ({"batch_size": 16}, "batch_size"),
        ({"seed": 1}, "seed"),
        ({"select": "last"}, "select"),
    ],
)
def test_training_refuses_the_folder_of_another_run(undisturbed, faces, changes, told):
    _, folder = undisturbed
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    with pytest.raises(CheckpointError, match=rf"another {told}$"):
        train(faces, folder, **changes)
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before


def test_training_refuses_the_folder_of_other_images(undisturbed, faces):
    _, folder = undisturbed
    few = faces.subset(TRAIN[:40])
    with pytest.raises(CheckpointError, match=r"another images$"):
        keras_loop.fit(
            network(),
            few,
            faces.subset(VAL),
            epochs=4,
            batch_size=8,
            seed=0,
            folder=folder,
        )


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
