"""The loop in PyTorch gives the same numbers again, and survives being killed at any moment."""

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from fer_utils.preprocessing import crop_and_flip
from fer_utils.training import checkpoints, torch_loop
from fer_utils.training.checkpoints import CheckpointError, save_state

TRAIN, VAL = np.arange(48), np.arange(48, 64)
BATCHES = 6  # of 8 images an epoch


class Centre(nn.Module):
    def forward(self, images):
        return images[:, :, -40:, -40:].float() / 255


def network(seed=0, precision="float32", optimizer=torch.optim.SGD):
    """Small and quick, with what a run must not lose: batch statistics, dropout, momentum."""
    torch_loop.prepare(seed, threads=1)
    layers = nn.Sequential(
        Centre(),
        nn.AvgPool2d(4),
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(72, 3),
    )
    momentum = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    return torch_loop.Trainable(layers, optimizer(layers.parameters(), 0.02, **momentum), precision)


def train(faces, folder, *, model=None, **changes):
    """Four epochs with augmentation; the history but its seconds, the choice, probabilities."""
    model = model or network()
    options = {"epochs": 4, "batch_size": 8, "seed": 0, "augment": crop_and_flip, **changes}
    fit = torch_loop.fit(model, faces.subset(TRAIN), faces.subset(VAL), folder=folder, **options)
    history = {name: values for name, values in fit.history.items() if name != "seconds"}
    return history, fit.best_epoch, torch_loop.predict(model, faces.images).tolist()


@pytest.fixture(scope="module")
def undisturbed(faces, tmp_path_factory):
    """A run from beginning to end, and its folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return train(faces, folder), folder


def names(folder):
    return {path.name for path in folder.iterdir()}


def weights(model):
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, msg=name)


# ---- seeds -------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_numbers(undisturbed, faces, tmp_path):
    assert train(faces, tmp_path) == undisturbed[0]


def test_another_seed_gives_other_numbers(undisturbed, faces, tmp_path):
    history, _, probabilities = train(faces, tmp_path, model=network(1), seed=1)
    assert history != undisturbed[0][0]
    assert probabilities != undisturbed[0][2]


def test_the_seed_makes_the_first_weights():
    first, again, other = (weights(network(seed)) for seed in (0, 0, 1))
    assert_same(first, again)
    assert (first["2.weight"] != other["2.weight"]).any()


def test_order_augmentation_and_dropout_depend_on_seed_and_epoch_alone(faces, tmp_path):
    def draws(folder, seed):
        """Images as two epochs see them, and what dropout lets through in their first step."""
        model, seen, kept = network(), [], []
        dropout = model.network[7]
        dropout.register_forward_hook(
            lambda layer, inputs, output: kept.append(output == 0) if layer.training else None
        )

        def watch(images, rng):
            seen.append(images.copy())
            return images

        train(faces, tmp_path / folder, model=model, epochs=2, seed=seed, augment=watch)
        return [(seen[epoch], kept[epoch * BATCHES].numpy()) for epoch in range(2)]

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


def test_loss_and_accuracy_of_an_epoch_are_means_over_its_images(faces, tmp_path):
    """Rate 0: every step sees the same weights, so they can be computed in one go."""
    model = network()
    model.network[3].eval()
    model = replace(model, network=nn.Sequential(*list(model.network)[:3], *model.network[5:7]))
    model.network.append(nn.Linear(72, 3))
    optimizer = torch.optim.SGD(model.network.parameters(), 0.0)
    model = replace(model, optimizer=optimizer)
    history, _, probabilities = train(faces, tmp_path, model=model, augment=None, batch_size=20)
    found, labels = np.array(probabilities)[TRAIN], faces.labels[TRAIN]
    loss = -np.log(found[np.arange(48), labels]).mean()
    assert history["loss"] == pytest.approx([loss] * 4, rel=1e-5)
    assert history["accuracy"] == pytest.approx([(found.argmax(1) == labels).mean()] * 4)


def test_the_learning_rate_of_each_epoch_is_the_one_asked_for(faces, tmp_path):
    model, seen = network(), []
    rates = [0.0, 0.1, 0.01]

    def watch(images, rng):
        seen.append((model.optimizer.param_groups[0]["lr"], weights(model)["2.weight"]))
        return images

    history, _, _ = train(
        faces,
        tmp_path,
        model=model,
        epochs=3,
        augment=watch,
        learning_rate=lambda history: rates[len(history["loss"])],
    )
    assert [rate for rate, _ in seen] == rates == history["learning_rate"]
    assert torch.equal(seen[0][1], seen[1][1]), "trained at a rate of 0"
    assert not torch.equal(seen[1][1], seen[2][1])


def test_a_schedule_ends_the_training_and_the_end_is_kept(faces, tmp_path):
    def twice(history):
        assert set(history) == set(checkpoints.FIGURES)
        return 0.01 if len(history["loss"]) < 2 else None

    first = train(faces, tmp_path, learning_rate=twice)
    assert first[0]["learning_rate"] == [0.01, 0.01]
    assert train(faces, tmp_path, learning_rate=twice) == first


def test_a_model_without_an_optimizer_is_measured_and_stays_as_it_is(faces, tmp_path):
    model = replace(network(), optimizer=None)
    model.network.eval().train = lambda mode=True: model.network
    before = weights(model)
    history, best_epoch, _ = train(
        faces,
        tmp_path,
        model=model,
        learning_rate=lambda history: None if history["loss"] else 0.0,
    )
    assert best_epoch == 1
    assert {len(values) for values in history.values()} == {1}
    assert_same(weights(model), before)


def test_targets_are_the_labels_or_what_the_set_says(faces):
    np.testing.assert_array_equal(
        torch_loop.one_hot(replace(faces, labels=np.array([2, 0]))), [[0, 0, 1], [1, 0, 0]]
    )
    votes = np.array([[0.2, 0.3, 0.5], [1, 0, 0]], np.float32)
    told = replace(faces, labels=np.array([2, 0]), targets=votes)
    np.testing.assert_array_equal(torch_loop.one_hot(told), votes)
    with pytest.raises(ValueError, match="images without a label"):
        torch_loop.one_hot(replace(faces, labels=np.array([2, -1])))


# ---- precision and views -----------------------------------------------------------------------


def test_bfloat16_rounds_the_products_and_keeps_the_weights(undisturbed, faces, tmp_path):
    model = network(precision="bfloat16")
    history, _, probabilities = train(faces, tmp_path, model=model)
    assert {value.dtype for value in model.network.parameters()} == {torch.float32}
    assert history["loss"] != undisturbed[0][0]["loss"]
    assert history["loss"][0] == pytest.approx(undisturbed[0][0]["loss"][0], abs=0.05)
    np.testing.assert_allclose(np.sum(probabilities, axis=1), 1, atol=1e-5)


def test_predictions_do_not_depend_on_the_size_of_the_batch(faces):
    model = network()
    whole = torch_loop.predict(model, faces.images[:10])
    assert whole.shape == (10, 3)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(
        torch_loop.predict(model, faces.images[:10], batch_size=3), whole, atol=1e-6
    )


def test_the_probabilities_of_all_views_of_an_image_are_averaged(faces):
    model, images = network(), faces.images[:5]
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    both = torch_loop.predict(
        model, images, batch_size=2, views=lambda batch: np.stack([batch, batch[:, :, ::-1]], 1)
    )
    one, two = torch_loop.predict(model, images), torch_loop.predict(model, mirrored)
    assert np.abs(one - two).max() > 1e-4
    np.testing.assert_allclose(both, (one + two) / 2, atol=1e-6)


# ---- which epoch -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("select", "accuracies", "chosen"),
    [
        ("val_accuracy", [0.25, 0.75, 0.5, 0.75], 2),  # the earlier one of two
        ("last", [0.25, 0.75, 0.5, 0.25], 4),
    ],
)
def test_the_model_ends_with_the_weights_of_the_chosen_epoch(
    faces, tmp_path, monkeypatch, select, accuracies, chosen
):
    seen = []

    def score(model, images, targets):
        seen.append(weights(model))
        return 1.0, accuracies[len(seen) - 1]

    monkeypatch.setattr(torch_loop, "_score", score)
    model = network()
    _, best_epoch, _ = train(faces, tmp_path, model=model, select=select)
    assert best_epoch == chosen
    assert_same(weights(model), seen[chosen - 1])


@pytest.mark.parametrize(
    ("select", "words"),
    [("val_accuracy", "highest accuracy on the validation part"), ("last", "last epoch")],
)
def test_the_record_gets_the_rule_in_words_and_the_seconds(faces, tmp_path, select, words):
    options = {"epochs": 2, "batch_size": 24, "seed": 0, "folder": tmp_path, "select": select}
    fit = torch_loop.fit(network(), faces.subset(TRAIN), faces.subset(VAL), **options)
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


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_interrupted_run_carries_on_to_the_numbers_of_an_undisturbed_one(
    faces, tmp_path, precision, optimizer
):
    calls = []

    def interrupted(images, rng):
        calls.append("first")
        if len(calls) == 2:
            raise Interrupted
        return crop_and_flip(images, rng)

    def counted(images, rng):
        calls.append("second")
        return crop_and_flip(images, rng)

    def run(folder, augment):
        model = network(precision=precision, optimizer=optimizer)
        return train(faces, tmp_path / folder, model=model, augment=augment)

    with pytest.raises(Interrupted):
        run("cut", interrupted)
    assert run("cut", counted) == run("whole", crop_and_flip)
    assert calls.count("second") == 3, "a finished epoch was trained again"
    assert names(tmp_path / "cut") == names(tmp_path / "whole")


def test_a_finished_run_started_again_trains_nothing_and_gives_the_same(undisturbed, faces):
    def never(images, rng):
        raise AssertionError

    result, folder = undisturbed
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    assert train(faces, folder, augment=never) == result
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before


def test_more_epochs_go_on_from_a_finished_run(undisturbed, faces, tmp_path):
    train(faces, tmp_path / "two", epochs=2)
    assert checkpoints.extend(tmp_path / "two", tmp_path / "four", 4)
    seen = []

    def counted(images, rng):
        seen.append(len(images))
        return crop_and_flip(images, rng)

    assert train(faces, tmp_path / "four", augment=counted) == undisturbed[0]
    assert len(seen) == 2


MID_EPOCH, HALF_WRITTEN = "in the middle of an epoch", "with half a file of weights written"


def be_killed(moment, folder, faces):
    """Train until `moment` and die as the kernel kills; for a process of its own."""

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    class Bar(torch_loop.tqdm):
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
        torch_loop.tqdm = Bar
    else:
        torch_loop.save_state = half_written
    train(pickle.loads(Path(faces).read_bytes()), Path(folder))


KILLED = "import sys, test_torch_loop; test_torch_loop.be_killed(*sys.argv[1:])"


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


def test_a_checkpoint_is_one_file_of_tensors_with_the_momentum(undisturbed):
    (_, best_epoch, _), folder = undisturbed
    assert names(folder) == {
        "state.json",
        "epoch-0004.safetensors",
        f"epoch-{best_epoch:04}.safetensors",
    }
    with safe_open(folder / "epoch-0004.safetensors", "pt") as file:
        keys = set(file.keys())
    assert {"network.2.weight", "network.3.running_mean", "network.8.bias"} <= keys
    assert sum(key.startswith("optimizer.") and "momentum_buffer" in key for key in keys) == 8


def test_training_refuses_the_folder_of_another_run(undisturbed, faces):
    _, folder = undisturbed
    with pytest.raises(CheckpointError, match=r"another batch_size, seed$"):
        train(faces, folder, seed=1, batch_size=16)


def test_threads_are_those_asked_for_or_all():
    before = torch.get_num_threads()
    torch_loop.prepare(0, threads=1)
    assert torch.get_num_threads() == 1
    torch_loop.prepare(0)
    assert torch.get_num_threads() == os.cpu_count()
    torch.set_num_threads(before)
