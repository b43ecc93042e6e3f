"""What the loop in Keras has to itself; test_loops.py holds what it shares."""

import keras
import numpy as np
import pytest
import tiny_keras
from tiny_training import assert_same, fit, in_a_process_of_its_own

from fer_utils.training import keras_loop


def test_a_checkpoint_is_one_file_that_keras_opens_with_the_moments(faces, tmp_path):
    """And `restore` brings back all of it, into a model whose optimizer has no moments yet."""
    fit(tiny_keras, faces, tmp_path, epochs=1)
    opened = keras.models.load_model(tmp_path / "epoch-0001.keras")
    restored = tiny_keras.network(1)
    keras_loop.restore(restored, tmp_path / "epoch-0001.keras")
    assert_same(tiny_keras.weights(restored), tiny_keras.weights(opened))
    state, expected = (
        [variable.numpy() for variable in model.optimizer.variables] for model in (restored, opened)
    )
    assert len(expected) == 2 + 2 * len(opened.trainable_weights)  # steps, rate; two moments each
    assert opened.optimizer.iterations == 6
    assert_same(state, expected)


def test_settled_averages_are_those_of_the_images_and_no_weight_moves():
    shape = (4, 4, 1)
    model = keras.Sequential(
        [
            keras.layers.Input(shape),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    images = np.random.default_rng(0).integers(100, 200, (30, *shape)).astype(np.uint8)
    weights = [weight.numpy() for weight in model.trainable_weights]
    keras_loop.settle(model, images, batch_size=30, left=1e-4)
    mean, variance = (value.numpy()[0] for value in model.layers[0].non_trainable_weights)
    assert mean == pytest.approx(images.mean(), rel=1e-3)
    assert variance == pytest.approx(images.var(), rel=1e-3)
    assert_same([weight.numpy() for weight in model.trainable_weights], weights)
    keras_loop.settle(model, images[:7], batch_size=16, left=0.5)  # batches longer than the images


def test_a_network_without_batch_normalization_has_nothing_to_settle():
    model = keras.Sequential([keras.layers.Input((4, 4, 1)), keras.layers.Flatten()])
    keras_loop.settle(model, np.zeros((3, 4, 4, 1), np.uint8))


THREADS = """
import tensorflow
from fer_utils.training import keras_loop

def told():
    threading = tensorflow.config.threading
    between = threading.get_inter_op_parallelism_threads()
    print(threading.get_intra_op_parallelism_threads(), between)

for number in (3, 0, 2):
    keras_loop.prepare(0, threads=number)
    told()
tensorflow.zeros(1) + 1
keras_loop.prepare(0, threads=2)
told()
"""


def test_threads_are_those_asked_for_or_all():
    """TensorFlow takes their number before its first operation, and the same again after it."""
    done = in_a_process_of_its_own(THREADS)
    assert done.stdout.split("\n")[:-1] == ["3 3", "0 0", "2 2", "2 2"], done.stderr
