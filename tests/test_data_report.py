"""What is measured of the real images: copies, label noise, leakage; and scores without copies."""

from dataclasses import replace

import numpy as np
import pytest
import trees

from fer_utils import data_report, records, splits
from fer_utils.datasets import FaceDataset, data_root, ferplus_votes
from fer_utils.manifests import DataError


def random_faces(count: int, labels, **columns) -> FaceDataset:
    images = np.random.default_rng(1).integers(0, 256, (count, 48, 48, 1)).astype(np.uint8)
    names = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    return FaceDataset("fer2013", images, np.array(labels), names, **columns)


def test_copies_are_counted_as_images_of_the_second_part():
    data = random_faces(8, [0, 1, 2, 1, 0, 1, 1, 2], split=np.array(["train"] * 5 + ["test"] * 3))
    data.images[5] = data.images[0]  # a copy with another label
    data.images[6] = data.images[1]  # a copy with the same label
    data.images[7] = data.images[2, :, ::-1]  # mirrored
    data.images[3] = data.images[1]  # two images of training, one of test
    split = splits.Split("by hand", np.arange(5), np.array([], int), np.arange(5, 8), None, "")
    found = splits.leakage(data, split, data_report.THRESHOLD)
    copies = data_report._copies(data, split, found, "train", "test")
    assert (copies.exact, copies.near, copies.other_label) == (2, 3, 1)


def test_label_noise_is_the_label_beside_the_first_choice():
    data = random_faces(3, [0, 6, 3])
    votes = np.zeros((3, 10), np.uint8)
    votes[0, 4] = 6  # anger, as labelled
    votes[1, 7] = 5  # contempt, labelled neutral
    votes[2, 9] = 9  # not a face, labelled happiness
    noise = data_report._noise(data, votes)
    assert (noise.images, noise.agree, noise.no_expression) == (3, 1, 1)
    matrix = np.array(noise.matrix)
    assert matrix.sum() == 3
    for label, choice in (("anger", "anger"), ("neutral", "contempt"), ("happiness", "not a face")):
        assert matrix[noise.labels.index(label), noise.votes.index(choice)] == 1


def test_leakage_counts_test_images_whose_person_or_video_is_in_training():
    people = np.array(["a", "a", "b", "a", "b", "c"])
    videos = np.array(["a1", "a2", "b1", "a1", "b2", "c1"])
    data = replace(random_faces(6, [0] * 6, subjects=people, sequences=videos), name="ck48")
    split = splits.Split("by hand", np.arange(3), np.array([], int), np.arange(3, 6), 0, "made")
    found = data_report._leakage(data, split)
    assert (found.test, found.same_person, found.same_video, found.near) == (3, 2, 1, 0)


def test_votes_stand_in_the_row_order_of_the_images(tmp_path):
    trees.fer2013(tmp_path)
    trees.ferplus(tmp_path)
    with pytest.raises(DataError):  # the made tables are not the whole set
        ferplus_votes(tmp_path)


def test_a_score_without_copies_leaves_their_images_out(make_record, tmp_path, monkeypatch):
    labels = np.array([0, 1, 0, 1])
    probabilities = np.eye(2, dtype=np.float32)[[0, 1, 1, 0]]  # right, right, wrong, wrong
    path = records.write(make_record(n=4, correct=2), probabilities, labels, tmp_path)
    run = records.read(path)
    monkeypatch.setattr(
        records,
        "read_probabilities",
        lambda run, read=records.read_probabilities: read(run, tmp_path),
    )
    report = data_report.DataReport(
        arrays={"fer2013": run.data.sha256, "ck48": "0" * 64},
        threshold=0.97,
        copies=(),
        copied_test=(0, 3),
        noise=data_report._noise(random_faces(1, [0]), np.ones((1, 10), np.uint8)),
        leakage=(),
    )
    assert data_report.without_copies(run, report) == (1, 2)
    other = report.model_copy(update={"arrays": {"fer2013": "1" * 64}})
    assert data_report.without_copies(run, other) is None


def test_the_report_reads_back_and_is_of_the_data_in_the_manifests(tmp_path):
    from fer_utils.manifests import load_manifest

    report = data_report.read()
    assert data_report.read(data_report.write(report, tmp_path / "data.json")) == report
    assert data_report.read(tmp_path / "absent.json") is None
    for name, sha256 in report.arrays.items():
        assert sha256 in load_manifest(name).arrays
    assert sum(map(sum, report.noise.matrix)) == report.noise.images


@pytest.mark.skipif(
    not (data_root() / "fer2013").is_dir() or not (data_root() / "CK+48").is_dir(),
    reason="needs FER2013, FER+ and the 48x48 CK+ under FER_DATA, see fer-utils data check",
)
def test_the_committed_report_is_what_the_data_give():
    assert data_report.measure() == data_report.read()
