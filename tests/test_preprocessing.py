"""Augmentation flips and shifts as it says, and draws only from what it is given."""

import numpy as np
import pytest

from fer_utils.preprocessing import flip_and_shift

SIDE = 10
# Every pixel of the picture has its own value, so where a copy comes from can be read off.
PICTURE = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(1, SIDE, SIDE, 1)


def augmented(count=600, seed=0, **options):
    images = np.repeat(PICTURE, count, axis=0)
    return flip_and_shift(images, np.random.default_rng(seed), **options)


def origins(images, shift):
    """(mirrored, down, right) of every image: found by trying all that may be."""
    windows = {}
    for mirrored in (False, True):
        picture = PICTURE[0, :, ::-1] if mirrored else PICTURE[0]
        padded = np.pad(picture, ((shift, shift), (shift, shift), (0, 0)), mode="edge")
        for down in range(2 * shift + 1):
            for right in range(2 * shift + 1):
                window = padded[down : down + SIDE, right : right + SIDE]
                windows[window.tobytes()] = (mirrored, down - shift, right - shift)
    return np.array([windows[image.tobytes()] for image in images])  # KeyError: none of them


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_type_stay(channels):
    images = np.random.default_rng(0).integers(0, 256, (5, 48, 40, channels)).astype(np.uint8)
    changed = flip_and_shift(images, np.random.default_rng(0))
    assert changed.shape == images.shape
    assert changed.dtype == np.uint8
    assert changed.flags.c_contiguous


@pytest.mark.parametrize("options", [{}, {"flip": False}, {"shift": 0}])
def test_the_input_stays_as_it_is(options):
    images = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 1)).astype(np.uint8)
    before = images.copy()
    changed = flip_and_shift(images, np.random.default_rng(0), **options)
    np.testing.assert_array_equal(images, before)
    assert not np.shares_memory(changed, images)


def test_read_only_images_are_taken():
    images = np.repeat(PICTURE, 4, axis=0)
    images.flags.writeable = False  # as the memory-mapped data sets are
    assert flip_and_shift(images, np.random.default_rng(0)).shape == images.shape


def test_the_same_generator_gives_the_same_images_and_another_gives_others():
    np.testing.assert_array_equal(augmented(50, seed=3), augmented(50, seed=3))
    assert (augmented(50, seed=3) != augmented(50, seed=4)).any()


def test_half_are_mirrored_and_nothing_else_without_a_shift():
    mirrored = origins(augmented(4000, shift=0), 0)[:, 0]
    assert 0.46 < mirrored.mean() < 0.54


def test_nothing_is_mirrored_without_flip():
    assert not origins(augmented(flip=False, shift=2), 2)[:, 0].any()


def test_without_flip_and_shift_the_images_stay():
    np.testing.assert_array_equal(augmented(5, flip=False, shift=0), np.repeat(PICTURE, 5, axis=0))


@pytest.mark.parametrize("shift", [1, 3])
def test_every_move_up_to_the_bound_occurs_along_both_axes_and_none_beyond(shift):
    found = origins(augmented(shift=shift), shift)
    every = set(range(-shift, shift + 1))
    assert set(found[:, 1].tolist()) == every
    assert set(found[:, 2].tolist()) == every
    assert len(np.unique(found[:, 1:], axis=0)) == len(every) ** 2  # the axes are independent


def test_images_are_moved_by_four_pixels_at_most_unless_told():
    found = origins(augmented(), 4)
    assert np.abs(found[:, 1:]).max() == 4
