"""Learning rates that follow from the history are those that Keras' own callbacks set."""

import keras
import numpy as np
import pytest

from fer_utils.training import schedules


def by_keras(losses, *, patience, stop_after):
    """Rate of each epoch by ReduceLROnPlateau, cut off where EarlyStopping stops."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.001), "mse")
    reduce = keras.callbacks.ReduceLROnPlateau(
        factor=0.5, patience=patience, min_delta=0, monitor="val_loss"
    )
    stop = keras.callbacks.EarlyStopping(patience=stop_after, monitor="val_loss")
    rates = []
    for callback in (reduce, stop):
        callback.set_model(model)
        callback.on_train_begin()
    for epoch, loss in enumerate(losses):
        rates.append(float(model.optimizer.learning_rate))
        for callback in (reduce, stop):
            callback.on_epoch_end(epoch, {"val_loss": loss})
        if model.stop_training:
            break
    return rates


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("patience", "stop_after"), [(2, 7), (5, 15), (3, 3)])
def test_plateau_does_what_the_two_callbacks_do(seed, patience, stop_after):
    rng = np.random.default_rng(seed)
    losses = np.round(2 - 0.03 * np.arange(60) + rng.normal(0, 0.2, 60), 2).tolist()
    schedule = schedules.plateau(0.001, patience=patience, stop_after=stop_after)
    rates, history = [], {"val_loss": []}
    for loss in losses:
        if (rate := schedule(history)) is None:
            break
        rates.append(rate)
        history["val_loss"].append(loss)
    assert rates == pytest.approx(by_keras(losses, patience=patience, stop_after=stop_after))
    assert min(rates) < 0.001 or stop_after == patience, "nothing was reduced: compares nothing"


def test_a_rate_ends_at_a_quarter_before_a_training_that_learns_no_more_is_stopped():
    schedule = schedules.plateau(0.001)
    rates = [schedule({"val_loss": [1.0] * epochs}) for epochs in range(17)]
    assert rates == [0.001] * 6 + [0.0005] * 5 + [0.00025] * 5 + [None]


def test_the_figure_to_watch_can_be_chosen():
    schedule = schedules.plateau(1.0, factor=0.1, patience=1, monitor="loss")
    assert schedule({"loss": [3.0, 2.0, 2.0], "val_loss": [3.0, 2.0, 1.0]}) == pytest.approx(0.1)
