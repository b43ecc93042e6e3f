"""Tiny trainings, the same in every framework.

`tiny` is `tiny_keras` or `tiny_torch`: a loop, a network for it, and ways to look inside.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TRAIN, VAL = np.arange(48), np.arange(48, 64)
BATCHES = 6  # of 8 images an epoch


class Interrupted(Exception):
    pass


def fit(tiny, faces, folder, *, model=None, **changes):
    """Four epochs with augmentation."""
    options = {"epochs": 4, "batch_size": 8, "seed": 0, "augment": tiny.augment, **changes}
    return tiny.loop.fit(
        model or tiny.network(), faces.subset(TRAIN), faces.subset(VAL), folder=folder, **options
    )


def train(tiny, faces, folder, *, model=None, **changes):
    """The same; the history but its seconds, the choice, probabilities."""
    model = model or tiny.network()
    done = fit(tiny, faces, folder, model=model, **changes)
    history = {name: values for name, values in done.history.items() if name != "seconds"}
    return history, done.best_epoch, tiny.loop.predict(model, faces.images).tolist()


def train_interrupted(tiny, faces, folder, network):
    """The same, cut off in its second epoch and started again with a new `network()`."""
    begun, again = [], []

    def interrupted(images, rng):
        begun.append(len(images))
        if len(begun) == 2:
            raise Interrupted
        return tiny.augment(images, rng)

    def counted(images, rng):
        again.append(len(images))
        return tiny.augment(images, rng)

    with pytest.raises(Interrupted):
        train(tiny, faces, folder, model=network(), augment=interrupted)
    result = train(tiny, faces, folder, model=network(), augment=counted)
    assert len(again) == 3, "a finished epoch was trained again"
    return result


def names(folder):
    return {path.name for path in folder.iterdir()}


def assert_same(first, second):
    """Arrays equal to the last bit; one that is not a number equals nothing."""
    for number, (a, b) in enumerate(zip(first, second, strict=True)):
        assert a.dtype == b.dtype, number
        assert np.array_equal(a, b), number


def in_a_process_of_its_own(code, *arguments):
    """What became of `code`, which may import what the tests do."""
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
