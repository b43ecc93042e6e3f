"""Every model has the shape and size it states, learns, and survives saving and other backends."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import keras
import numpy as np
import pytest

from fer_utils.models import yengikand2023


@dataclass(frozen=True)
class Case:
    """One architecture in Keras.

    Args:
        build: the uncompiled model, from `num_classes` and `dropout`.
        compile_model: as the paper trains it.
        parameters: all weights with 7 classes.
    """

    build: Callable[..., keras.Model]
    compile_model: Callable[[keras.Model], keras.Model]
    parameters: int


CASES = {
    f"yengikand2023-{convolution}": Case(
        partial(yengikand2023.build, convolution=convolution),
        yengikand2023.compile_model,
        parameters,
    )
    for convolution, parameters in yengikand2023.PARAMETERS.items()
}
every_model = pytest.mark.parametrize("name", CASES)
BATCH = 8
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (BATCH, 48, 48, 1)).astype(np.uint8)
TARGETS = np.eye(7, dtype=np.float32)[RNG.permutation(np.arange(BATCH) % 7)]


@cache
def trained(name: str) -> tuple[keras.Model, list[float]]:
    """A model after a few steps on one batch, and the loss before each step.

    Without dropout, so that the losses are of one function; no test may change the model.
    """
    keras.utils.set_random_seed(0)
    model = CASES[name].compile_model(CASES[name].build(dropout=0.0))
    losses = []
    for _ in range(6):
        model.reset_metrics()
        losses.append(float(model.train_on_batch(IMAGES, TARGETS)[0]))
    return model, losses


def logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    before_softmax = keras.Model(model.input, model.get_layer("logits").output)
    return np.asarray(before_softmax(images, training=False))


@every_model
def test_probabilities_of_each_image_sum_to_one(name):
    model, _ = trained(name)
    probabilities = np.asarray(model(IMAGES, training=False))
    assert probabilities.shape == (BATCH, 7)
    assert probabilities.dtype == np.float32
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@every_model
def test_the_number_of_weights_is_the_one_stated(name):
    model, _ = trained(name)
    assert model.count_params() == CASES[name].parameters


@every_model
def test_the_last_layer_follows_the_number_of_classes(name):
    model = CASES[name].build(8)
    features = model.get_layer("logits").input.shape[-1]
    assert model.output.shape == (None, 8)
    assert model.count_params() == CASES[name].parameters + features + 1


@every_model
def test_every_trainable_weight_has_a_gradient(name):
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    model = CASES[name].build()
    with tf.GradientTape() as tape:
        probabilities = model(IMAGES, training=True)
        loss = tf.reduce_mean(keras.losses.categorical_crossentropy(TARGETS, probabilities))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    still = [
        weight.path
        for weight, gradient in zip(model.trainable_weights, gradients, strict=True)
        if gradient is None or not np.abs(gradient).max() > 0
    ]
    assert still == []


@every_model
def test_a_few_steps_lower_the_loss_of_a_fixed_batch(name):
    _, losses = trained(name)
    assert losses[1] < losses[0]
    assert losses[-1] < losses[1]


@every_model
def test_the_dropout_rate_reaches_every_dropout_layer(name):
    model = CASES[name].build(dropout=0.3)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates
    assert set(rates) == {0.3}


@every_model
def test_dropout_is_off_in_prediction_and_on_in_training(name):
    model = CASES[name].build(dropout=0.3)
    first, second = (np.asarray(model(IMAGES, training=False)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    first, second = (np.asarray(model(IMAGES, training=True)) for _ in range(2))
    assert (first != second).any()


@every_model
def test_a_saved_model_reads_back_safely_with_the_same_outputs(name, tmp_path):
    model, _ = trained(name)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(
        np.asarray(again(IMAGES, training=False)), np.asarray(model(IMAGES, training=False))
    )


ON_TORCH = """
import sys
import keras
import numpy as np
assert keras.backend.backend() == "torch"
images = np.load(sys.argv[1])
for path in sys.argv[2:]:
    model = keras.saving.load_model(path)
    logits = keras.Model(model.input, model.get_layer("logits").output)(images, training=False)
    np.save(path + ".npy", keras.ops.convert_to_numpy(logits))
"""


def test_the_same_weights_give_the_same_logits_on_the_torch_backend(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    paths = {name: str(tmp_path / f"{name}.keras") for name in CASES}
    for name, path in paths.items():
        trained(name)[0].save(path)
    subprocess.run(  # Keras chooses its backend when it is imported
        [sys.executable, "-c", ON_TORCH, str(tmp_path / "images.npy"), *paths.values()],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        check=True,
    )
    for name, path in paths.items():
        here = logits(trained(name)[0], IMAGES)
        assert np.ptp(here) > 0.1, "logits that are all alike compare nothing"
        np.testing.assert_allclose(np.load(f"{path}.npy"), here, rtol=0, atol=1e-4, err_msg=name)


# ---- yengikand2023 -----------------------------------------------------------------------------


def test_the_weights_of_yengikand2023_counted_by_hand():
    normal = 9 * 1 * 32 + 9 * 32 * 64 + 9 * 64 * 128
    separable = (9 * 32 + 32 * 32) + (9 * 64 + 64 * 64) + (9 * 128 + 128 * 128)
    batch_normalization = 2 * 4 * (32 + 64 + 128)  # six of them; scale, offset, mean, variance
    projections = 2 * (128 * 64 + 64)
    attention_scales = 1 + 64  # one number for the product, one a feature for the sum
    perceptron = 3 * 64 * 128 + 128
    logits = 128 * 7 + 7
    expected = (
        normal
        + separable
        + batch_normalization
        + projections
        + attention_scales
        + perceptron
        + logits
    )
    assert yengikand2023.PARAMETERS["depthwise"] == expected
    assert yengikand2023.build().count_params() == expected


def test_an_unknown_convolution_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match="'dilated': one of depthwise, spatial, normal"):
        yengikand2023.build(convolution="dilated")


def test_bytes_and_floats_of_the_same_picture_give_the_same_probabilities():
    model, _ = trained("yengikand2023-depthwise")
    np.testing.assert_array_equal(
        np.asarray(model(IMAGES, training=False)),
        np.asarray(model(IMAGES.astype(np.float32), training=False)),
    )


@pytest.mark.parametrize("num_classes", [7, 8])
def test_transfer_copies_every_weight_but_those_of_the_last_layer(num_classes):
    old, _ = trained("yengikand2023-depthwise")
    new = yengikand2023.transfer(old, num_classes, dropout=0.1)
    assert new.output.shape == (None, num_classes)
    assert new.get_layer("dropout_features").rate == 0.1
    for layer in new.layers:
        pairs = list(zip(layer.get_weights(), old.get_layer(layer.name).get_weights(), strict=True))
        if layer.name == "logits":
            assert any(a.shape != b.shape or (a != b).any() for a, b in pairs)
        else:
            for a, b in pairs:
                np.testing.assert_array_equal(a, b, err_msg=layer.name)


def test_transfer_leaves_the_old_model_its_own_weights():
    old, _ = trained("yengikand2023-depthwise")
    before = [weight.copy() for weight in old.get_weights()]
    new = yengikand2023.transfer(old, 7)
    new.set_weights([weight + 1 for weight in new.get_weights()])
    for a, b in zip(old.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_transfer_refuses_another_convolution():
    old, _ = trained("yengikand2023-depthwise")
    with pytest.raises(ValueError):  # noqa: PT011 - Keras words it
        yengikand2023.transfer(old, 7, convolution="normal")


def test_training_is_adam_with_the_rate_asked_for():
    model = yengikand2023.build(widths=(2, 2, 2))
    assert yengikand2023.compile_model(model, 0.01) is model
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    assert model.loss == "categorical_crossentropy"
