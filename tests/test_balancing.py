"""Balanced sets have the numbers asked for, remember their origin, and stay within training."""

import numpy as np
import pytest

from fer_utils import balancing, detection, experiments, splits
from fer_utils.datasets import FaceDataset, data_root, load
from fer_utils.manifests import load_published

NAMES = ("anger", "disgust", "happiness")
TARGETS = {"anger": 30, "disgust": 30, "happiness": 25}


@pytest.fixture(scope="module")
def train() -> FaceDataset:
    """60 pictures of anger, 8 of disgust, 25 of happiness; 6x6, in mixed order."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], [60, 8, 25]))
    images = rng.integers(0, 256, (93, 6, 6, 1)).astype(np.uint8)
    images[:, 0, 0, 0] = 80 * labels
    return FaceDataset("fer2013", images, labels, NAMES, np.full(93, "train"))


@pytest.fixture(scope="module")
def balanced(train) -> balancing.BalancedFaces:
    return balancing.balance(train, TARGETS, seed=0)


def test_every_expression_has_its_number_of_images(train, balanced):
    assert balanced.counts() == {"train": TARGETS}
    assert balancing.counts(train, balanced) == {
        "anger": {"before": 60, "after": 30, "made": 0},
        "disgust": {"before": 8, "after": 30, "made": 22},
        "happiness": {"before": 25, "after": 25, "made": 0},
    }
    assert balanced.images.dtype == np.uint8


def test_kept_images_are_originals_and_none_is_kept_twice(train, balanced):
    kept = ~balanced.made
    rows = balanced.parents[kept, 0]
    np.testing.assert_array_equal(balanced.parents[kept, 1], rows)
    assert len(set(rows)) == len(rows)
    np.testing.assert_array_equal(balanced.images[kept], train.images[rows])
    np.testing.assert_array_equal(balanced.labels[kept], train.labels[rows])
    assert {*np.flatnonzero(train.labels == 1)} <= {*rows}, "the rare ones are all kept"


def test_a_made_image_lies_between_its_two_parents_which_show_its_expression(train, balanced):
    assert balanced.made.sum() == 22
    for image, label, (first, second) in zip(
        balanced.images[balanced.made],
        balanced.labels[balanced.made],
        balanced.parents[balanced.made],
        strict=True,
    ):
        assert train.labels[first] == train.labels[second] == label
        a, b, x = (
            pixels.astype(float).ravel()
            for pixels in (train.images[first], train.images[second], image)
        )
        u = (x - a) @ (b - a) / ((b - a) @ (b - a))
        assert 0 <= u <= 1
        assert np.abs(a + u * (b - a) - x).max() <= 1  # whole grey values


def test_the_second_parent_is_among_the_five_nearest_of_the_first(train, balanced):
    pixels = train.images.reshape(93, -1).astype(float)
    for first, second in balanced.parents[balanced.made]:
        same = np.flatnonzero(train.labels == train.labels[first])
        order = same[np.argsort(np.linalg.norm(pixels[same] - pixels[first], axis=1))]
        assert second in order[1:6]


def test_near_miss_keeps_what_its_two_steps_say(train, balanced):
    pixels = train.images.reshape(93, -1).astype(float)
    rare, many = np.flatnonzero(train.labels == 1), np.flatnonzero(train.labels == 0)
    apart = np.linalg.norm(pixels[many][:, None] - pixels[rare][None], axis=2)  # (60, 8)
    for m in range(1, 61):  # the smallest m that leaves 30
        pool = np.unique(np.argsort(apart, axis=0)[:m])
        if len(pool) >= 30:
            break
    average = np.sort(apart, axis=1)[:, :3].mean(axis=1)
    farthest = pool[np.argsort(average[pool])[-30:]]
    kept = balanced.parents[balanced.labels == 0, 0]
    assert set(kept) == set(many[farthest])
    assert len(pool) < 60, "the first step must leave something out to be seen"


def test_near_miss_takes_one_m_for_all_and_tells_what_each_step_leaves(train, monkeypatch):
    """Anger is to keep most of its images, and sets m for happiness, too."""
    targets, taken = {"anger": 50, "disgust": 30, "happiness": 10}, []
    near_miss = balancing.NearMiss
    monkeypatch.setattr(
        balancing,
        "NearMiss",
        lambda **options: taken.append(options["n_neighbors_ver3"]) or near_miss(**options),
    )
    balanced = balancing.balance(train, targets, seed=0)
    pixels = train.images.reshape(93, -1).astype(float)
    rare = pixels[train.labels == 1]
    order = {
        name: np.argsort(np.linalg.norm(pixels[train.labels == k][:, None] - rare, axis=2), axis=0)
        for k, name in enumerate(NAMES)
        if name != "disgust"
    }

    def left(name: str, m: int) -> int:
        return len(np.unique(order[name][:m]))

    def enough(name: str) -> int:
        return next(m for m in range(1, 61) if left(name, m) >= targets[name])

    assert enough("anger") > enough("happiness")
    m = enough("anger")
    assert taken == [m]
    assert balancing.near_miss_steps(train, targets) == {
        "m": m,
        "steps": {
            name: {
                "images": images,
                "first": left(name, m),
                "second": int(np.sum(balanced.labels == NAMES.index(name))),
                "own_m": enough(name),
                "first_own_m": left(name, enough(name)),
            }
            for name, images in (("anger", 60), ("happiness", 25))
        },
    }
    assert left("happiness", m) > left("happiness", enough("happiness"))


def test_near_miss_has_no_steps_where_no_expression_has_too_many_images(train):
    targets = {"anger": 60, "disgust": 30, "happiness": 25}
    assert balancing.near_miss_steps(train, targets) is None
    assert balancing.step_rows([{"faces": "hog", "near_miss": None}]) == []


def test_the_seed_draws_what_is_made_and_nothing_else(train, balanced):
    again, other = (balancing.balance(train, TARGETS, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(again.images, balanced.images)
    np.testing.assert_array_equal(again.parents, balanced.parents)
    assert (other.images[other.made] != balanced.images[balanced.made]).any()
    np.testing.assert_array_equal(other.images[~other.made], balanced.images[~balanced.made])


def test_a_set_with_the_right_numbers_stays_as_it_is(train):
    targets = {"anger": 60, "disgust": 8, "happiness": 25}
    same = balancing.balance(train, targets, seed=0)
    np.testing.assert_array_equal(same.images, train.images)
    assert not same.made.any()


def test_a_subset_keeps_origin_beside_image(balanced):
    rows = np.array([84, 0, 70])
    part = balanced.subset(rows)
    np.testing.assert_array_equal(part.parents, balanced.parents[rows])
    np.testing.assert_array_equal(part.made, balanced.made[rows])
    np.testing.assert_array_equal(part.images, balanced.images[rows])


# ---- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(("part", "told"), [("val", "of val"), ("test", "of test")])
def test_one_image_of_another_part_is_enough_to_refuse(train, part, told):
    split = train.split.astype("<U5").copy()
    split[17] = part
    mixed = FaceDataset("fer2013", train.images, train.labels, NAMES, split)
    with pytest.raises(balancing.BalancingError, match=f"only training images.*{told}.*split"):
        balancing.balance(mixed, TARGETS, seed=0)


def test_balanced_images_are_neither_balanced_again_nor_split(balanced):
    with pytest.raises(balancing.BalancingError, match="balanced already"):
        balancing.balance(balanced, TARGETS, seed=0)
    for protocol in (splits.stratified, splits.official):
        with pytest.raises(ValueError, match=r"is balanced: .* split first"):
            protocol(balanced)


def test_a_missing_target_names_the_expression(train):
    with pytest.raises(balancing.BalancingError, match="given for disgust"):
        balancing.balance(train, {"anger": 30, "happiness": 25}, seed=0)


def test_too_few_images_to_make_more_of_say_how_many_it_takes(train):
    few = train.subset(
        np.r_[np.flatnonzero(train.labels != 1), np.flatnonzero(train.labels == 1)[:5]]
    )
    with pytest.raises(balancing.BalancingError, match=r"5 images of disgust.*takes 6"):
        balancing.balance(few, TARGETS, seed=0)


# ---- the wrong protocol -----------------------------------------------------------------------


def test_balancing_before_the_split_shares_originals_between_the_parts(train):
    mixed = FaceDataset(
        "fer2013", train.images, train.labels, NAMES, np.array(["train", "val", "test"] * 31)
    )
    balanced, split = balancing.balance_before_split(mixed, TARGETS, seed=0)
    assert "WRONG" in split.description
    assert sum(split.sizes().values()) == len(balanced) == 85
    assert np.bincount(balanced.labels).tolist() == [30, 30, 25]
    shared = balancing.share_with_train(balanced, split)
    assert shared["test"] > 0.2  # of the 30 of disgust 22 are made from 8


def test_sharing_is_counted_by_image():
    parents = np.array([[0, 0], [1, 1], [2, 2], [1, 2], [3, 3], [4, 4]])
    pictures = np.zeros((6, 2, 2, 1), np.uint8)
    balanced = balancing.BalancedFaces(
        "fer2013", pictures, np.zeros(6, int), ("anger",), made=parents[:, 0] != parents[:, 1],
        parents=parents,
    )  # fmt: skip
    split = splits.Split("made", np.array([0, 1]), np.array([2, 4]), np.array([3, 5]))
    assert balancing.share_with_train(balanced, split) == {"val": 0.0, "test": 0.5}


# ---- what is recorded of FER2013 --------------------------------------------------------------

PREPARED = experiments.found_beside("nouisser2023", "preparation")


@pytest.mark.skipif(not PREPARED, reason="no preparation of FER2013 is recorded: run the chapter")
def test_recorded_steps_end_with_the_images_that_were_kept():
    for file, told in PREPARED.items():
        assert (told["near_miss"] is None) == (told["balancing"] != "train"), file
        if told["near_miss"]:
            steps = told["near_miss"]["steps"]
            kept = {
                name: (counts["before"], counts["after"] - counts["made"])
                for name, counts in told["balanced"].items()
                if counts["before"] > counts["after"]
            }
            assert {name: (of["images"], of["second"]) for name, of in steps.items()} == kept
            assert told["near_miss"]["m"] == max(of["own_m"] for of in steps.values())
            for of in steps.values():
                assert of["second"] <= of["first_own_m"] <= of["first"] <= of["images"]


@pytest.mark.skipif(not PREPARED, reason="no preparation of FER2013 is recorded: run the chapter")
def test_the_table_of_steps_has_all_that_is_recorded():
    hog = PREPARED["fer2013-hog-train"]
    title, *rows = balancing.step_rows([hog])
    assert title == f"hog, m = {hog['near_miss']['m']}"
    assert [tuple(row.values()) for row in rows] == [
        (name, *(of[key] for key in ("images", "first", "second", "own_m", "first_own_m")))
        for name, of in hog["near_miss"]["steps"].items()
    ]


@pytest.mark.slow
@pytest.mark.skipif(
    not (data_root() / "fer2013").is_dir(),
    reason="needs FER2013 under FER_DATA, see fer-utils data check",
)
@pytest.mark.parametrize("faces", ["none", "hog", "haar"])
def test_the_recorded_steps_are_what_the_images_give(faces):
    told = PREPARED[f"fer2013-{faces}-train"]
    data = load("fer2013")
    if faces != "none":
        data, _ = detection.preprocess(data, faces)
    targets = {
        cell.id.removeprefix("table1-after-"): int(cell.value)
        for cell in load_published("nouisser2023").cells
        if cell.id.startswith("table1-after-")
    }
    train = data.subset(data.split == "train")
    assert balancing.near_miss_steps(train, targets) == told["near_miss"]
