"""The drawn faces: reproducible, balanced as promised, and moved by their action units."""

import hashlib

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import nn

from fer_utils import synthetic
from fer_utils.synthetic import ACTION_UNITS, EXPRESSIONS, PROTOTYPES, draw, generate, prototype

SEVEN = EXPRESSIONS[:7]
SIZE = 192
PLAIN = {"bald": 1, "background": 0.5}  # no hair near the brows, nothing bright but eyes and teeth


@pytest.fixture(scope="module")
def faces():
    return generate(2400)


# -- the set --------------------------------------------------------------------------------------


def test_rows_have_the_promised_types_and_shapes(faces):
    assert faces.images.shape == (2400, 48, 48, 1)
    assert faces.images.dtype == np.uint8
    assert faces.labels.dtype == np.int64
    assert faces.class_names == EXPRESSIONS
    assert {len(column) for column in faces if isinstance(column, np.ndarray)} == {2400}


def test_same_seed_gives_the_same_bytes_and_another_seed_others():
    first, again, other = generate(60, seed=7), generate(60, seed=7), generate(60, seed=8)
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(first.images, other.images)
    assert not np.array_equal(first.labels, other.labels)


def test_bytes_are_those_of_the_records():
    """A change here changes the smoke data: intended or not, it belongs in the CHANGELOG."""
    digest = hashlib.sha256(generate(130).images.tobytes()).hexdigest()
    assert digest[:16] == "1da07ce38d9a6041"


@pytest.mark.parametrize("count", [1, 29, 131])
def test_a_smaller_set_is_the_beginning_of_a_larger_one(faces, count):
    for column, longer in zip(generate(count), faces, strict=True):
        if isinstance(column, np.ndarray):
            assert np.array_equal(column, longer[:count])


def test_classes_are_as_rare_as_in_fer2013():
    labels = _labels_alone(35887, SEVEN)
    expected = [synthetic.CLASS_WEIGHTS[e] for e in SEVEN]
    np.testing.assert_allclose(np.bincount(labels), expected, atol=40)
    share = np.mean(_labels_alone(35887, EXPRESSIONS) == EXPRESSIONS.index("contempt"))
    assert share == pytest.approx(0.006, abs=0.001)


def test_every_part_has_every_expression_of_fer2013_at_smoke_size():
    labels = _labels_alone(4000, SEVEN)
    parts = synthetic.PARTS[np.arange(4000) // 12 % 10]
    for part in ("train", "val", "test"):
        counts = np.bincount(labels[parts == part], minlength=7)
        assert counts.min() > 0
        assert counts[1] / counts.sum() == pytest.approx(547 / 35887, abs=0.01)


def _labels_alone(count, expressions):
    """Labels as `generate` gives them, without the drawing."""
    shares = synthetic._class_shares(expressions, None)
    starts = np.random.default_rng([0]).random(10)
    chunks = range(-(-count // 120))
    rng = [np.random.default_rng([0, chunk + 1]) for chunk in chunks]
    labels = [synthetic._labels(rng[c], c, starts, shares).ravel() for c in chunks]
    return np.repeat(np.concatenate(labels), 3)[:count]


def test_labels_alone_are_those_of_the_set(faces):
    assert np.array_equal(_labels_alone(2400, EXPRESSIONS), faces.labels)


def test_class_weights_are_followed():
    weights = {"happiness": 1, "neutral": 3, "fear": 0}
    labels = generate(360, expressions=tuple(weights), class_weights=weights).labels
    assert np.bincount(labels, minlength=3).tolist() == [90, 270, 0]


def test_split_is_80_10_10_and_shares_no_subject(faces):
    shares = [np.mean(faces.split == part) for part in ("train", "val", "test")]
    assert shares == [0.8, 0.1, 0.1]
    parts_of = {}
    for subject, part in zip(faces.subjects, faces.split, strict=True):
        parts_of.setdefault(subject, set()).add(part)
    assert all(len(parts) == 1 for parts in parts_of.values())


def test_a_sequence_is_three_frames_of_one_subject_and_one_label(faces):
    names, first, counts = np.unique(faces.sequences, return_index=True, return_counts=True)
    assert set(counts) == {3}
    assert len(names) == 800
    for start in first:
        rows = slice(start, start + 3)
        assert len(set(faces.sequences[rows])) == 1
        assert len(set(faces.subjects[rows])) == 1
        assert len(set(faces.labels[rows])) == 1


def test_a_sequence_rises_from_onset_to_apex():
    chunk = synthetic._chunk(0, 0, np.zeros(10), np.ones(1), ("happiness",), 3)
    smile = chunk.units["12"].mean(axis=0).reshape(40, 3)
    assert (np.diff(smile, axis=1) >= 0).all()
    assert smile[:, 2].mean() > 1.4 * smile[:, 0].mean()


def test_frames_may_be_one():
    faces = generate(24, frames=1)
    assert len(set(faces.sequences)) == 24
    assert len(set(faces.subjects)) == 6


def test_frames_of_a_sequence_are_alike_and_subjects_differ(faces):
    flat = faces.images.reshape(2400, -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    frames = np.sum(flat[0::3] * flat[1::3], axis=1)
    strangers = np.sum(flat[:-12] * flat[12:], axis=1)
    assert np.median(frames) > 0.85
    assert np.median(strangers) < 0.6


def test_images_use_the_range_of_grey_without_drowning_in_it(faces):
    assert np.percentile(faces.images, 1) < 40
    assert np.percentile(faces.images, 99) > 215
    assert faces.images.std(axis=(1, 2, 3)).min() > 5


# -- the action units -----------------------------------------------------------------------------


def _mouth(picture):
    return picture[int(0.66 * SIZE) : int(0.97 * SIZE), int(0.25 * SIZE) : int(0.75 * SIZE)]


def _line_height(picture, column):
    """Row of the darkest pixel of the mouth in one column, 0-1 from the left of the mouth box."""
    box = _mouth(picture)[: int(0.22 * SIZE)]
    return int(np.argmin(box[:, round(column * (box.shape[1] - 1))]))


def _brow_height(picture, place):
    """Row of the darkest pixel above the eye at `place`, 0 the inner end to 1 the outer one."""
    box = picture[int(0.2 * SIZE) : int(0.395 * SIZE)]
    return int(np.argmin(box[:, round((0.59 + 0.13 * place) * SIZE)]))


def test_jaw_drop_opens_a_dark_mouth():
    dark = [np.sum(_mouth(draw({"26": v}, size=SIZE)) < 50) for v in (0, 0.3, 0.6, 1)]
    assert dark == sorted(dark)
    assert dark[3] > 4 * max(dark[0], 50)


def test_a_smile_turns_the_corners_up_and_a_frown_down():
    smile, rest, frown = (draw(u, size=SIZE) for u in ({"12": 1}, {}, {"15": 1}))
    middle = _line_height(rest, 0.5)
    assert _line_height(smile, 0.22) < middle - 3 < middle < _line_height(frown, 0.22)
    assert _line_height(smile, 0.78) < middle - 3 < middle < _line_height(frown, 0.78)
    assert _line_height(smile, 0.5) > _line_height(smile, 0.22) + 5


def test_the_lip_stretcher_widens_the_mouth_and_the_tightener_narrows_it():
    def width(units):
        return np.ptp(np.flatnonzero((_mouth(draw(units, size=SIZE)) < 70).any(axis=0)))

    assert width({"23": 1}) < width({}) < width({"20": 1})


def test_parted_lips_of_a_smile_show_teeth():
    closed, parted = (draw({"12": 1, **u}, size=SIZE, traits=PLAIN) for u in ({}, {"25": 1}))
    assert np.sum(_mouth(closed) > 215) == 0
    assert np.sum(_mouth(parted) > 215) > 100


def test_brows_move_at_the_end_that_their_unit_names():
    def rise(unit):
        rest, moved = (draw(u, size=SIZE, traits=PLAIN) for u in ({}, {unit: 1}))
        return [_brow_height(rest, place) - _brow_height(moved, place) for place in (0, 1)]

    inner, outer = rise("1")
    assert inner > outer + 4 > 0
    inner, outer = rise("2")
    assert outer > inner + 4 > 0
    inner, outer = rise("4")
    assert inner < -4
    assert inner < outer


def test_lids_open_with_au5_and_narrow_with_au6_and_au7():
    def white(units):
        eyes = draw(units, size=SIZE, traits=PLAIN)[int(0.35 * SIZE) : int(0.5 * SIZE)]
        return np.sum(eyes > 215)

    assert white({"6": 1}) < white({"7": 1}) < white({}) < white({"5": 1})


def test_nose_wrinkles_darken_the_bridge():
    bridge = (slice(int(0.46 * SIZE), int(0.54 * SIZE)), slice(int(0.46 * SIZE), int(0.54 * SIZE)))
    assert draw({"9": 1}, size=SIZE)[bridge].min() < draw({}, size=SIZE)[bridge].min() - 20


def test_a_dimple_is_on_the_named_side_of_the_person():
    rest, right, left = (draw(u, size=SIZE).astype(int) for u in ({}, {"R14": 1}, {"L14": 1}))
    moved_right, moved_left = abs(right - rest), abs(left - rest)
    half = SIZE // 2
    # The person's right is on our left, as in a photograph.
    assert moved_right[:, :half].sum() > 4 * moved_right[:, half:].sum()
    assert moved_left[:, half:].sum() > 4 * moved_left[:, :half].sum()


@pytest.mark.parametrize("unit", ACTION_UNITS)
def test_every_unit_shows_and_grows_at_the_size_of_the_set(unit):
    rest = draw({}).astype(int)
    change = [abs(draw({unit: v}) - rest).sum() for v in (0.4, 1.0)]
    assert 0 < change[0] < change[1]


def test_prototypes_are_pairwise_distinct():
    pictures = np.stack([prototype(e) for e in EXPRESSIONS]).astype(int)
    apart = abs(pictures[:, None] - pictures[None]).mean(axis=(2, 3))
    assert apart[~np.eye(8, dtype=bool)].min() > 0.5


def test_prototypes_name_known_units_and_grades():
    assert set(PROTOTYPES) == set(EXPRESSIONS) == set(synthetic.CLASS_WEIGHTS)
    for units in PROTOTYPES.values():
        for unit, grade in units.items():
            assert unit.lstrip("RL") in ACTION_UNITS
            assert grade in synthetic.INTENSITIES


def test_a_prototype_without_intensity_is_the_neutral_face():
    assert np.array_equal(prototype("fear", intensity=0), prototype("neutral"))
    assert np.array_equal(prototype("fear"), draw(PROTOTYPES["fear"]))


def test_a_larger_picture_is_the_same_face():
    large = draw({"12": "E"}, size=192).reshape(48, 4, 48, 4).mean(axis=(1, 3))
    assert np.corrcoef(large.ravel(), draw({"12": "E"}).ravel())[0, 1] > 0.97


def test_windows_only_save_time(monkeypatch):
    expected = generate(30).images
    everything = (slice(None), slice(None))
    monkeypatch.setattr(synthetic._Pose, "pixels", lambda self, *box: everything)
    assert np.array_equal(generate(30).images, expected)


# -- how hard it is -------------------------------------------------------------------------------


def _standardised(images):
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / flat.std(axis=1, keepdims=True)


def _small_network():
    """28,543 parameters: four convolutions with pooling and a linear layer."""
    layers, inputs = [], 1
    for outputs in (8, 16, 32, 64):
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers += [conv, nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 9, 7))


def _network_accuracy(x, y, train, test, epochs):
    torch.manual_seed(0)
    x, y = torch.from_numpy(x).view(-1, 1, 48, 48), torch.from_numpy(y)
    train, test = torch.from_numpy(np.flatnonzero(train)), torch.from_numpy(test)
    network = _small_network()
    optimizer = torch.optim.Adam(network.parameters())
    steps = epochs * -(-len(train) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, steps)
    for _ in range(epochs):
        for rows in train[torch.randperm(len(train))].split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        return (network(x[test]).argmax(1) == y[test]).double().mean().item()


def _logistic_accuracy(x, y, train, test):
    # Means of 2x2 pixels and this penalty serve it best: 48.8 % where all pixels reach 45.6 %.
    pixels = x.reshape(-1, 24, 2, 24, 2).mean(axis=(2, 4)).reshape(len(x), -1)
    model = LogisticRegression(C=0.01, max_iter=60).fit(pixels[train], y[train])
    return model.score(pixels[test], y[test])


@pytest.fixture
def one_thread():
    """Threads that wait for each other cost more than they save at this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # stopped early
def test_a_network_learns_what_logistic_regression_cannot(one_thread):
    """About 15 s of one core: 4,000 images, 3 epochs, subjects apart."""
    faces = generate(4000, expressions=SEVEN)
    train, test = faces.split == "train", faces.split == "test"
    x, y = _standardised(faces.images), faces.labels
    network = _network_accuracy(x, y, train, test, epochs=3)
    logistic = _logistic_accuracy(x, y, train, test)
    majority = np.bincount(y[test]).max() / test.sum()
    print(f"network {network:.3f}, logistic regression {logistic:.3f}, majority {majority:.3f}")
    assert 0.60 < network < 0.98
    assert network > logistic + 0.15
    assert logistic > majority + 0.05


# -- bad arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count must be a whole number of at least 1"),
        ({"count": 2.5}, "count must be a whole number"),
        ({"seed": -1}, "seed must be"),
        ({"frames": 0}, "frames must be"),
        ({"expressions": ("joy",)}, "unknown expression 'joy'"),
        ({"expressions": ()}, "expressions must be"),
        ({"expressions": "fear"}, "expressions must be"),
        ({"expressions": ("fear", "fear")}, "named twice"),
        ({"class_weights": {"fear": 1}}, "no weight for 'anger'"),
        ({"expressions": ("fear",), "class_weights": {"fear": 0}}, "not all 0"),
        ({"expressions": ("fear",), "class_weights": {"fear": -1}}, "at least 0"),
        ({"expressions": ("fear",), "class_weights": {"fear": 1, "joy": 1}}, "names 'joy'"),
    ],
    ids=str,
)
def test_generate_explains_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(**{"count": 3, **arguments})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw({"3": 1}), "unknown action unit '3'"),
        (lambda: draw({"R": 1}), "unknown action unit 'R'"),
        (lambda: draw({"12": 1.2}), "intensity in 0-1 or A-E"),
        (lambda: draw({"12": "F"}), "intensity in 0-1 or A-E"),
        (lambda: draw({}, traits={"nose": 1}), "unknown trait 'nose'"),
        (lambda: draw({}, size=4), "size must be"),
        (lambda: prototype("joy"), "unknown expression 'joy'"),
        (lambda: prototype("fear", intensity=2), "intensity must be in 0-1"),
    ],
)
def test_draw_explains_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
