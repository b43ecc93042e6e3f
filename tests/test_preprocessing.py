"""Augmentation flips and shifts as it says, and draws only from what it is given."""

import numpy as np
import pytest
from scipy import stats

from fer_utils import preprocessing, synthetic
from fer_utils.preprocessing import crop_and_flip, flip_and_shift, ten_crops

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


# ---- shift_rotate_zoom: what Keras' ImageDataGenerator does -------------------------------------

FACES = synthetic.generate(count=40).images
DRAWS = 3000


@pytest.fixture(scope="module")
def generator():
    """The tool that wang2023 names, with its parameters; it survives in Keras for old code."""
    legacy = pytest.importorskip("keras.src.legacy.preprocessing.image")
    return legacy.ImageDataGenerator(
        width_shift_range=0.05, height_shift_range=0.05, rotation_range=10, zoom_range=0.3
    )


def parameters(monkeypatch, side=48):
    """What shift_rotate_zoom draws for many images, one column each."""
    drawn = {}

    def keep(images, degrees, shifts, zooms):
        drawn.update(theta=degrees, tx=shifts[:, 0], ty=shifts[:, 1])
        drawn.update(zx=zooms[:, 0], zy=zooms[:, 1])
        return images

    monkeypatch.setattr(preprocessing, "transform", keep)
    images = np.zeros((DRAWS, side, side, 1), np.uint8)
    preprocessing.shift_rotate_zoom(images, np.random.default_rng(0))
    return drawn


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # Keras' old code
def test_the_same_parameters_give_the_image_of_keras_own_generator(generator):
    rng = np.random.default_rng(0)
    count = len(FACES)
    degrees = rng.uniform(-10, 10, count)
    shifts = rng.uniform(-2.4, 2.4, (count, 2))
    zooms = rng.uniform(0.7, 1.3, (count, 2))
    ours = preprocessing.transform(FACES, degrees, shifts, zooms).astype(float)
    theirs = np.stack(
        [
            generator.apply_transform(
                face.astype(np.float32),
                {"theta": angle, "tx": x, "ty": y, "zx": zoom_x, "zy": zoom_y},
            )
            for face, angle, (x, y), (zoom_x, zoom_y) in zip(
                FACES, degrees, shifts, zooms, strict=True
            )
        ]
    )
    assert np.abs(theirs - FACES).mean() > 10  # they do change
    assert np.abs(ours - theirs).max() < 5  # grey values: rounding, and 1/32 of a pixel
    assert np.abs(ours - theirs).mean() < 0.5


@pytest.mark.parametrize("name", ["theta", "tx", "ty", "zx", "zy"])
def test_parameters_are_drawn_as_keras_own_generator_draws_them(generator, monkeypatch, name):
    ours = parameters(monkeypatch)[name]
    np.random.seed(1)  # noqa: NPY002 - what the generator draws from
    theirs = [generator.get_random_transform((48, 48, 1))[name] for _ in range(DRAWS)]
    assert stats.ks_2samp(ours, theirs).pvalue > 0.01


def test_height_and_width_are_drawn_apart(monkeypatch):
    drawn = parameters(monkeypatch)
    assert abs(np.corrcoef(drawn["zx"], drawn["zy"])[0, 1]) < 0.1
    assert abs(np.corrcoef(drawn["tx"], drawn["ty"])[0, 1]) < 0.1


def test_shifts_are_shares_of_the_side(monkeypatch):
    assert 4.9 < np.abs(parameters(monkeypatch, side=100)["tx"]).max() <= 5


def test_without_shift_rotation_and_zoom_the_images_stay():
    options = {"shift": 0, "rotation": 0, "zoom": 0}
    same = preprocessing.shift_rotate_zoom(FACES, np.random.default_rng(0), **options)
    np.testing.assert_array_equal(same, FACES)
    assert not np.shares_memory(same, FACES)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_channel_is_transformed_alike(channels):
    images = np.repeat(FACES[:5], channels, axis=3)
    images.flags.writeable = False  # as the memory-mapped data sets are
    changed = preprocessing.shift_rotate_zoom(images, np.random.default_rng(0))
    assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
    np.testing.assert_array_equal(changed, np.repeat(changed[..., :1], channels, axis=3))


def test_the_same_generator_moves_faces_alike_and_another_does_not():
    def moved(seed):
        return preprocessing.shift_rotate_zoom(FACES, np.random.default_rng(seed))

    np.testing.assert_array_equal(moved(3), moved(3))
    assert (moved(3) != moved(4)).any()


# ---- rahman2021 --------------------------------------------------------------------------------

FACE = np.arange(1, 12 * 12 + 1, dtype=np.uint8).reshape(1, 12, 12, 1)  # no pixel is black


def cropped(count=2000, seed=0, **options):
    images = np.repeat(FACE, count, axis=0)
    return crop_and_flip(images, np.random.default_rng(seed), **options)


def crop_origins(images, size, padding):
    """(mirrored, down, right) of every crop: found by trying all that may be."""
    padded = np.pad(FACE[0], ((padding, padding), (padding, padding), (0, 0)))
    windows = {}
    for down in range(len(padded) - size + 1):
        for right in range(len(padded) - size + 1):
            window = padded[down : down + size, right : right + size]
            for mirrored in (False, True):
                seen = window[:, ::-1] if mirrored else window
                windows[seen.tobytes()] = (mirrored, down, right)
    return np.array([windows[image.tobytes()] for image in images])  # KeyError: none of them


@pytest.mark.parametrize("padding", [0, 2])
def test_crops_come_from_everywhere_and_half_of_them_are_mirrored(padding):
    images = cropped(size=8, padding=padding)
    assert images.shape == (2000, 8, 8, 1)
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous
    mirrored, down, right = crop_origins(images, 8, padding).T
    assert mirrored.mean() == pytest.approx(0.5, abs=0.05)
    for places in (down, right):
        counts = np.bincount(places, minlength=5 + 2 * padding)
        assert len(counts) == 5 + 2 * padding
        assert counts.min() > 0.6 * 2000 / len(counts)
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.1
    assert abs(np.corrcoef(mirrored, right)[0, 1]) < 0.1


def test_the_border_of_a_padded_crop_is_black():
    images = cropped(size=12, padding=3)
    _, down, right = crop_origins(images, 12, 3).T
    black = (images == 0).sum(axis=(1, 2, 3))
    inside = (12 - np.abs(down - 3)) * (12 - np.abs(right - 3))
    np.testing.assert_array_equal(black, 144 - inside)


def test_crops_draw_from_what_they_are_given_and_leave_it_alone():
    images = np.repeat(FACE, 5, axis=0)
    before = images.copy()
    first = crop_and_flip(images, np.random.default_rng(3), size=8)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(crop_and_flip(images, np.random.default_rng(3), size=8), first)
    assert (crop_and_flip(images, np.random.default_rng(4), size=8) != first).any()


def test_ten_crops_are_corners_and_centre_and_those_of_the_mirror_image():
    faces = np.concatenate([FACE, FACE[:, ::-1]])
    crops = ten_crops(faces, 8)
    assert crops.shape == (2, 10, 8, 8, 1)
    places = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]  # the order of torchvision's TenCrop
    for face, found in zip(faces, crops, strict=True):
        for number, (top, left) in enumerate(places):
            expected = face[top : top + 8, left : left + 8]
            np.testing.assert_array_equal(found[number], expected)
            # A corner of the mirror image is the opposite corner, mirrored.
            opposite = face[top : top + 8, 4 - left : 12 - left]
            np.testing.assert_array_equal(found[number + 5], opposite[:, ::-1])
