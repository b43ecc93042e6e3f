"""Balancing as a chapter asks for it: the training part alone, nothing, or all before the split."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fer_utils import display, experiments, preparation, records
from fer_utils.datasets import load
from fer_utils.manifests import load_manifest, load_published

NAMES = ("anger", "disgust", "fear")


@pytest.fixture(scope="module")
def data():
    return load("synthetic", count=400, expressions=NAMES)


def test_printed_numbers_are_scaled_to_the_size_of_the_training_part(data):
    share = np.sum(data.split == "train") / load_manifest("fer2013").splits["train"].count
    printed = {"anger": 4000, "disgust": 3000}
    alone = preparation.in_proportion(printed, data, "fer2013", "train")
    assert alone == {name: round(share * images) for name, images in printed.items()}
    whole = preparation.in_proportion(printed, data, "fer2013", "before_split")
    assert whole["anger"] == round(share / 0.8 * 4000) > alone["anger"]


def test_only_the_training_part_is_balanced_and_by_the_run_itself(data):
    targets = dict.fromkeys(NAMES, 90)
    ready = preparation.prepare(data, targets, "train", seed=0)
    assert ready.data is data
    train = data.subset(ready.split.train)
    np.testing.assert_array_equal(ready.prepare_train(train).images, ready.balanced.images)
    assert {told["after"] for told in ready.counts.values()} == {90}
    assert {name: told["before"] for name, told in ready.counts.items()} == {
        name: int(np.sum(train.labels == k)) for k, name in enumerate(NAMES)
    }
    assert ready.share_with_train is None


def test_nothing_is_balanced_where_nothing_is_asked_for(data):
    ready = preparation.prepare(data, dict.fromkeys(NAMES, 90), "none", seed=0)
    assert ready.data is data
    assert (ready.prepare_train, ready.balanced, ready.counts) == (None, None, None)


def test_the_wrong_order_balances_everything_and_tells_what_the_parts_share(data):
    data = replace(data, loaded="a" * 64, hashes={"made.csv": "b" * 64})
    ready = preparation.prepare(data, dict.fromkeys(NAMES, 150), "before_split", seed=0)
    assert ready.prepare_train is None
    assert ready.data is ready.balanced
    assert len(ready.data) == sum(map(len, ready.split.parts().values())) == 450
    assert ready.split.name.startswith("balanced-before-")
    assert (ready.data.loaded, ready.data.hashes) == (data.loaded, data.hashes)
    assert 0 < ready.share_with_train["test"] <= 1


def test_what_is_kept_beside_a_record_is_read_back_by_the_chapter(data, make_record):
    targets = dict.fromkeys(NAMES, 150)
    record = make_record(dataset="made", faces="hog", balancing="before_split", epochs=3)
    wrong = preparation.prepare(data, targets, "before_split", seed=0)
    told = preparation.told(record, wrong, {"test": {"fear": {"images": 8, "dropped": 2}}})
    assert json.loads(json.dumps(told)) == told
    assert (told["dataset"], told["faces"], told["balancing"]) == ("made", "hog", "before_split")
    right = preparation.told(record, preparation.prepare(data, targets, "none", seed=0), None)
    share = 100 * wrong.share_with_train["test"]
    assert display.shared_with_train([right, told]).data.startswith(f"{share:.1f} % of the test")
    assert display.shared_with_train([right]).data == "*No count is recorded.*"
    assert display.not_found(told["dropped"]) == "no face in 2 of 8 images (25.0 %)"
    assert display.not_found(right["dropped"]) == ""


def test_recorded_runs_were_balanced_to_the_numbers_that_table_1_prints_today():
    """No hash of a record covers them: they come from the published file."""
    (table,) = (found for found in load_published("nouisser2023").tables if found.id == "Table 1")
    printed = {
        cell.id.removeprefix("table1-after-"): int(cell.value)
        for cell in table.cells
        if cell.id.startswith("table1-after-")
    }
    told = experiments.found_beside("nouisser2023", "preparation").values()
    balanced = [one for one in told if one["balanced"]]
    assert {one["balancing"] for one in balanced} == {"train", "before_split"}
    for one in balanced:
        share = 0.8 if one["balancing"] == "before_split" else 1
        wanted = {name: round(images / share) for name, images in printed.items()}
        assert {name: counts["after"] for name, counts in one["balanced"].items()} == wanted
    for run in records.read_all("nouisser2023"):
        if run.parameters["balancing"] == "train":
            assert run.split.trained_on == sum(printed.values()), run.run
