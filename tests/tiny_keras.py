"""A network in Keras, small and quick, and what the tests of both loops see of it."""

import keras
from keras import layers

from fer_utils.preprocessing import flip_and_shift
from fer_utils.training import keras_loop as loop

augment = flip_and_shift
SUFFIX = ".keras"
# Of the plain network, by hand: 36 means to 8 units without a bias, and these to 3 with one.
SIZE = (36 * 8 + 8 * 3 + 3, 36 * 8 + 8 * 3)


def network(seed=0, *, plain=False):
    """With what a run must not lose: batch statistics, dropout, Adam's moments; plain: without."""
    loop.prepare(seed)
    images = keras.Input((48, 48, 1))
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = layers.AveragePooling2D(8)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(8, use_bias=False)(x)
    x = x if plain else layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = x if plain else layers.Dropout(0.3)(x)
    model = keras.Model(images, layers.Dense(3, activation="softmax")(x))
    adam = keras.optimizers.Adam(0.01)
    model.compile(adam, "categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    return model


def weights(model):
    """All that prediction needs; the first is a kernel."""
    return [value.copy() for value in model.get_weights()]


def trainable(model):
    return [weight.numpy().copy() for weight in model.trainable_weights]


def rate(model):
    return float(model.optimizer.learning_rate)


def watch_dropout(model):
    """A list that gets, as each epoch begins, the state from which dropout draws."""
    (dropout,) = (layer for layer in model.layers if isinstance(layer, layers.Dropout))
    states, fit = [], model.fit

    def watched(*arguments, **options):
        states.append(dropout.seed_generator.state.numpy().copy())
        return fit(*arguments, **options)

    model.fit = watched
    return states


def replace_validation(monkeypatch, model, accuracy):
    """Let `accuracy()` say what each validation finds."""

    def evaluate(*arguments, **options):
        return {"loss": 1.0, "accuracy": accuracy()}

    monkeypatch.setattr(model, "evaluate", evaluate)
