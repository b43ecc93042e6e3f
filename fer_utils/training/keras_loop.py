"""The training loop for the chapters in Keras."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from fer_utils import complexity
from fer_utils.datasets import FaceDataset
from fer_utils.training.checkpoints import history_of, load_state, save_state

FRAMEWORK = "Keras"
Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Schedule = Callable[[dict[str, list[float]]], float | None]


@dataclass(frozen=True)
class Fit:
    """A finished training.

    Args:
        history: loss, accuracy, val_loss, val_accuracy (fractions), learning_rate and seconds of
            every epoch.
        best_epoch: 1-based; the epoch whose weights the model now has.
        selection: the rule that chose it, in words for the record.
    """

    history: dict[str, list[float]]
    best_epoch: int
    selection: str


def prepare(seed: int, threads: int = 0) -> None:
    """Fix what can vary before a model is built: seeds, and the operations' own order.

    Args:
        seed: of the first weights; epochs draw from (seed, epoch), see `fit`.
        threads: cores that TensorFlow may use, 0 for all; only before its first operation.

    Raises:
        RuntimeError: another number of threads after TensorFlow's first operation.
    """
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if threads != tf.config.threading.get_intra_op_parallelism_threads():
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        tf.config.experimental.enable_op_determinism()


def fit(
    model: keras.Model,
    train: FaceDataset,
    val: FaceDataset,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    folder: Path,
    augment: Augment | None = None,
    select: str = "val_accuracy",
    learning_rate: Schedule | None = None,
) -> Fit:
    """Train, keep the chosen epoch's weights, and carry on where an earlier call was cut off.

    Everything an epoch draws (order, augmentation, dropout) depends on (seed, epoch) alone, so a
    run that was killed and started again ends with the numbers of an undisturbed one.

    Args:
        model: compiled; its loss sees targets float32 (N, K).
        train: images to learn from; `targets` where the set has them, else one-hot labels.
        val: images that choose the epoch; the test part only where that is what is to be shown.
        epochs: how many in all, those of an earlier call included; at least 1.
        batch_size: images a step.
        seed: of order, augmentation and dropout.
        folder: where the checkpoints are and go.
        augment: from uint8 (N, H, W, 1) and a generator to the same shape; None for none.
        select: "val_accuracy" keeps the earliest epoch with the highest, "last" the last one.
        learning_rate: from the history so far (empty lists before the first epoch) to the next
            epoch's rate, or to None, which ends the training; left out, the optimizer's own.

    Returns:
        The history and the chosen epoch; `model` has its weights.

    Raises:
        CheckpointError: `folder` belongs to a run with other settings, or is damaged.
        ValueError: `select` is neither rule, or images without a label.
    """
    if select not in ("val_accuracy", "last"):
        raise ValueError(f"select {select!r}: one of val_accuracy, last")
    run = {
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "select": select,
        "images": len(train),
    }
    state = load_state(folder, run) or {"run": run, "epoch": 0, "history": {}, "best": None}
    if state["epoch"]:
        restore(model, folder / state["last"])
    targets, val_targets = one_hot(train), one_hot(val)

    batches = -(-len(train) // batch_size)
    bar = tqdm(
        total=epochs * batches, initial=state["epoch"] * batches, unit="batch", mininterval=2
    )
    for epoch in range(state["epoch"], epochs):
        started = time.perf_counter()
        if learning_rate is not None:
            if (rate := learning_rate(history_of(state))) is None:
                break
            model.optimizer.learning_rate = rate
        bar.set_description(f"epoch {epoch + 1}/{epochs}")
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(train))
        images = train.images[order]
        _seed_dropout(model, rng)
        logs = model.fit(
            images if augment is None else augment(images, rng),
            targets[order],
            batch_size=batch_size,
            shuffle=False,
            verbose=0,
            callbacks=[
                keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: bar.update())
            ],
        ).history
        scored = model.evaluate(
            val.images, val_targets, batch_size=256, verbose=0, return_dict=True
        )
        figures = {
            "loss": logs["loss"][0],
            "accuracy": logs["accuracy"][0],
            "val_loss": scored["loss"],
            "val_accuracy": scored["accuracy"],
            "learning_rate": float(model.optimizer.learning_rate),
            "seconds": time.perf_counter() - started,
        }
        history = history_of(state)
        accuracy, earlier = figures["val_accuracy"], history["val_accuracy"]
        state["history"] = {key: [*history[key], float(value)] for key, value in figures.items()}
        state["epoch"] = epoch + 1
        best = select == "last" or not earlier or accuracy > max(earlier)
        state = save_state(folder, state, model.save, best=best, suffix=".keras")
        bar.set_postfix(val_accuracy=f"{accuracy:.4f}", best=f"{max([*earlier, accuracy]):.4f}")
    bar.close()

    restore(model, folder / state["best"])
    best_epoch = int(state["best"].removeprefix("epoch-").removesuffix(".keras"))
    rules = {"val_accuracy": "highest accuracy on the validation part", "last": "last epoch"}
    return Fit(state["history"], best_epoch, rules[select])


def size(model: keras.Model, images: np.ndarray) -> tuple[int, int]:
    """Weights of a model, moving averages included, and its multiply-accumulates for one image.

    Raises:
        ValueError: a layer whose multiply-accumulates are not known.
    """
    return model.count_params(), complexity.multiply_accumulates(model)


def predict(model: keras.Model, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Probabilities float32 (N, K) of images uint8 (N, H, W, 1)."""
    return np.asarray(model.predict(images, batch_size=batch_size, verbose=0), dtype=np.float32)


def settle(
    model: keras.Model, images: np.ndarray, batch_size: int = 64, left: float = 1e-3
) -> None:
    """Let batch normalization forget the averages it began with; no weight is trained.

    It predicts with moving averages, which after few steps still hold part of their first values:
    a share of momentum ** steps. Passes in training mode move them on.

    Args:
        model: without dropout before a batch normalization, whose averages it would disturb; one
            without batch normalization stays as it is.
        images: uint8 (N, H, W, 1), those that it was trained on.
        batch_size: images a step.
        left: the share of the averages so far that may remain.

    The rows come in their order, which in the sets read here is that of the expressions: most
    batches show one alone, so what differs between expressions is missing from the variance.

    Source:
        wu2021, section 3, who average over batches instead.
    """
    layers = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    if not layers:
        return
    momentum = max(layer.momentum for layer in layers)
    for step in range(math.ceil(math.log(left) / math.log(momentum))):
        rows = np.arange(step * batch_size, (step + 1) * batch_size) % len(images)
        model(images[rows].astype(np.float32), training=True)


def one_hot(data: FaceDataset) -> np.ndarray:
    """Targets float32 (N, K): the set's own distributions, or its labels as 0 and 1.

    Raises:
        ValueError: an image has neither.
    """
    targets = getattr(data, "targets", None)
    if targets is not None:
        return targets
    if data.labels.min(initial=0) < 0:
        raise ValueError(f"{data.name}: images without a label cannot be trained on")
    return np.eye(len(data.class_names), dtype=np.float32)[data.labels]


def restore(model: keras.Model, path: Path | str) -> None:
    """Put weights and optimizer state of a `.keras` file into a compiled model."""
    model.optimizer.build(model.trainable_variables)  # or its state would be left out
    model.load_weights(os.fspath(path))


def _seed_dropout(model: keras.Model, rng: np.random.Generator) -> None:
    """Give every dropout layer a state drawn from `rng`: `.keras` files do not keep it."""
    for layer in model.layers:
        if (generator := getattr(layer, "seed_generator", None)) is not None:
            generator.state.assign(rng.integers(0, 2**31, 2))
