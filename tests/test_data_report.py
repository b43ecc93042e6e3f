"""What is measured of the real images: copies, label noise, leakage; and scores without copies."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import trees

from fer_utils import data_report, datasets, experiments, records, splits
from fer_utils.datasets import FaceDataset, data_root, ferplus_votes
from fer_utils.detection import Detections
from fer_utils.manifests import DataError, load_manifest


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


def test_ties_are_scored_as_labelled_with_any_leader_and_without(make_record, tmp_path):
    split = np.array(["train"] * 2 + ["test"] * 5)
    data = random_faces(7, [0] * 7, split=split)
    votes = np.zeros((7, 10), np.uint8)
    votes[0, [1, 3]] = 5  # of training: happiness and sadness
    votes[1, 4] = 8
    votes[2, 9] = 10  # no vote for an expression
    votes[3, [0, 3]] = 4  # neutral and sadness
    votes[4, [2, 6, 9]] = 2, 2, 6  # surprise and fear, but no face for most
    votes[5, 1] = 9
    votes[6, 4] = 7
    ties = data_report._ties(data, votes)
    counts = {
        part.part: (part.images, part.tied, part.neutral, part.no_expression) for part in ties.parts
    }
    assert counts == {"train": (2, 1, 0, 0), "val": (0, 0, 0, 0), "test": (4, 2, 1, 1)}
    assert (ties.test, ties.leaders) == ((0, 1), ((0, 3), (2, 6)))

    labels = np.array([0, 2, 1, 4])
    predicted = np.array([3, 5, 1, 0])  # another leader; neither; right; wrong
    run = make_record(correct=1, n=4)
    run = run.model_copy(update={"data": run.data.model_copy(update={"sha256": ties.sha256})})
    probabilities = np.eye(8, dtype=np.float32)[predicted]
    run = records.read(records.write(run, probabilities, labels, tmp_path))
    report = data_report.read().model_copy(update={"ties": ties})
    assert data_report.with_any_leader(run, report, tmp_path) == (2, 4)
    assert data_report.without_ties(run, report, tmp_path) == (1, 2)
    drawn = run.model_copy(update={"split": run.split.model_copy(update={"name": "stratified"})})
    for other in (drawn, make_record(correct=1, n=4)):
        assert data_report.without_ties(other, report, tmp_path) is None
        assert data_report.with_any_leader(other, report, tmp_path) is None


def test_leakage_counts_test_images_whose_person_or_video_is_in_training():
    people = np.array(["a", "a", "b", "a", "b", "c"])
    videos = np.array(["a1", "a2", "b1", "a1", "b2", "c1"])
    data = replace(random_faces(6, [0] * 6, subjects=people, sequences=videos), name="ck48")
    split = splits.Split("by hand", np.arange(3), np.array([], int), np.arange(3, 6), 0, "made")
    found = data_report._leakage(data, split)
    assert (found.test, found.same_person, found.same_video, found.near) == (3, 2, 1, 0)


def test_votes_stand_in_the_row_order_of_the_images(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "ROWS_TO_TELL", 30)
    path = trees.ferplus(tmp_path) / "fer2013" / "fer2013new.csv"
    with pytest.raises(DataError, match=r"fer2013\.csv"):  # the made tables are not the whole set
        ferplus_votes(tmp_path)

    some = partial(datasets._fer2013, complete=False)
    monkeypatch.setattr(datasets, "_fer2013", some)
    faces, names = some(tmp_path), load_manifest("ferplus").class_names
    chosen = ferplus_votes(tmp_path)[:-1, :8].argmax(axis=1)  # the last row is no face
    assert [names[vote] for vote in chosen] == [faces.class_names[row] for row in faces.labels[:-1]]

    header, *rows = path.read_text().splitlines()  # the first 32 are all of one part
    path.write_text("\n".join([header, *rows[1:32], rows[0], *rows[32:]]) + "\n")
    with pytest.raises(DataError, match="another order"):
        ferplus_votes(tmp_path)


def some_copies() -> tuple[FaceDataset, splits.Split]:
    """Images 0-3 train, 4-7 test; 4 is a copy of 0, 5 of 1 mirrored, 7 of 2 and 3."""
    split = np.array(["train"] * 4 + ["test"] * 4)
    data = random_faces(8, [0, 1, 2, 1, 0, 1, 1, 2], split=split)
    data.images[3] = data.images[2]
    data.images[4], data.images[5] = data.images[0], data.images[1, :, ::-1]
    data.images[7] = data.images[2]
    return data, splits.official(data)


def test_what_a_run_leaves_out_moves_the_positions_of_copies():
    data, split = some_copies()
    pairs = data_report.copied_rows(data.images, split)
    assert set(zip(*(rows.tolist() for rows in pairs), strict=True)) == {
        (0, 4),
        (1, 5),
        (2, 7),
        (3, 7),
    }
    faces = np.array([False] * 4 + [True, False, True, False])
    part = partial(data_report.scored_part, split=split, pairs=pairs, faces=faces)
    everything = part("all", data, np.ones(8, bool))
    assert (everything.test, everything.copied) == (4, (0, 1, 3))
    assert everything.faceless == (1, 3)
    assert everything.sha256 == datasets.array_hash(data.images, data.labels)

    # Without row 5 the last image moves up; row 2 is gone from training, its equal 3 is not.
    kept = np.array([True, True, False, True, True, False, True, True])
    some = part("some", data.subset(kept), kept)
    assert (some.test, some.copied) == (3, (0, 2))
    assert some.faceless == (2,)
    assert some.sha256 == datasets.array_hash(data.images[kept], data.labels[kept])


def test_a_test_image_is_no_copy_where_its_double_was_not_trained_on():
    data, split = some_copies()
    kept = np.array([False, True, True, True, True, True, True, True])
    pairs = data_report.copied_rows(data.images, split)
    found = data_report.scored_part(
        "some", data.subset(kept), kept, split=split, pairs=pairs, faces=kept
    )
    assert found.copied == (1, 3)
    assert found.faceless == ()


def test_two_images_of_the_same_single_grey_are_copies():
    data, split = some_copies()
    data.images[0] = data.images[6] = 7
    pairs = data_report.copied_rows(data.images, split)
    assert (0, 6) in set(zip(*(rows.tolist() for rows in pairs), strict=True))


def found_at(*corners: tuple[int, int, int, int] | None) -> Detections:
    """Boxes, with landmarks in their corners and between; None: no face."""
    boxes = np.array([box or (-1, -1, -1, -1) for box in corners], np.int16)
    landmarks = np.full((len(corners), 68, 2), -1, np.int16)
    for points, box in zip(landmarks, corners, strict=True):
        if box:
            points[:34], points[34:] = box[:2], np.subtract(box[2:], 1)
    return Detections(boxes, landmarks)


def test_detectors_are_compared_where_both_find_a_face():
    data = random_faces(5, [0] * 5, split=np.array(["train", "train", "test", "test", "test"]))
    hog = found_at((0, 0, 10, 10), None, (10, 10, 20, 20), (0, 0, 8, 8), None)
    haar = found_at((0, 0, 10, 20), (1, 1, 5, 5), (13, 14, 23, 24), None, None)
    found = data_report.compare_detectors(data, hog, haar)
    counts = {part: tuple(of.model_dump().values()) for part, of in found.found.items()}
    assert counts == {"train": (1, 0, 1, 0), "test": (1, 1, 0, 1)}
    # Image 0: 100 of 200 pixels, centres (5, 5) and (5, 10). Image 2: 7 x 6 of 158, 3 and 4 apart.
    one, other = 0.5, 42 / 158
    for overlap in (found.boxes, found.crops):
        assert overlap.median == pytest.approx((one + other) / 2, abs=1e-4)
        assert overlap.worst == pytest.approx(other + 0.05 * (one - other), abs=1e-4)
    assert (found.centres.median, found.centres.worst) == (5, 5)


def test_a_score_without_some_images_leaves_them_out(make_record, tmp_path):
    labels = np.array([0, 1, 0, 1])
    probabilities = np.eye(2, dtype=np.float32)[[0, 1, 1, 0]]  # right, right, wrong, wrong
    path = records.write(make_record(n=4, correct=2), probabilities, labels, tmp_path)
    run = records.read(path)
    report = data_report.read()

    def knowing(**fields):
        part = {"name": "made", "sha256": run.data.sha256, "test": 4}
        part |= {"copied": (0, 3), "faceless": (1,)}
        return report.model_copy(update={"scored": (data_report.ScoredPart(**{**part, **fields}),)})

    assert data_report.without_copies(run, knowing(), tmp_path) == (1, 2)
    assert data_report.without_copies(run, knowing(sha256="1" * 64), tmp_path) is None
    assert data_report.without_copies(run, knowing(test=5), tmp_path) is None
    assert data_report.with_a_face(run, knowing(), tmp_path) == (1, 3)
    assert data_report.with_a_face(run, knowing(faceless=()), tmp_path) is None
    assert data_report.with_a_face(run, knowing(test=5), tmp_path) is None


def test_the_report_reads_back_and_is_of_the_data_in_the_manifests(tmp_path):
    report = data_report.read()
    assert data_report.read(data_report.write(report, tmp_path / "data.json")) == report
    assert data_report.read(tmp_path / "absent.json") is None
    for name, sha256 in report.arrays.items():
        assert sha256 in load_manifest(name).arrays
    assert sum(map(sum, report.noise.matrix)) == report.noise.images


def test_the_report_knows_the_test_parts_of_the_recorded_runs():
    """Whatever is trained on FER2013's official parts, with the labels of FER2013 or FER+."""
    report = data_report.read()
    runs = [
        run
        for paper in ("nouisser2023", "rahman2021", "wang2023", "yengikand2023")
        for run in records.read_all(paper)
        if run.data.name in ("fer2013", "ferplus") and run.split.name == "official"
    ]
    assert {run.data.name for run in runs} == {"fer2013", "ferplus"}
    sizes = {part.sha256: part.test for part in report.scored}
    assert {
        run.run for run in runs if sizes.get(run.data.sha256) != run.split.sizes["test"]
    } == set()
    for run in runs:
        right, number = data_report.without_copies(run, report)
        assert 0 < right < number < run.split.sizes["test"]
    (hog,) = (part for part in report.scored if part.name == "fer2013, faces hog")
    on_faces = {
        data_report.with_a_face(run, report)[1]
        for run in runs
        if run.data.name == "fer2013" and run.split.sizes["test"] == 3589
    }
    assert on_faces == {hog.test}


def test_the_report_knows_the_ties_behind_the_labels_of_the_recorded_runs():
    ties = data_report.read().ties
    assert len(ties.test) == next(part.tied for part in ties.parts if part.part == "test")
    scored = []
    for run in records.read_all("wang2023"):
        if run.data.name != "ferplus":
            continue
        score = run.metrics["test"]
        right, images = data_report.with_any_leader(run, data_report.read())
        assert (images, right > score["correct"]) == (score["n"], True)
        right, images = data_report.without_ties(run, data_report.read())
        assert (images, right < score["correct"]) == (score["n"] - len(ties.test), True)
        labels = records.read_probabilities(run)[1]
        assert [leaders[0] for leaders in ties.leaders] == labels[list(ties.test)].tolist()
        scored.append(run)
    assert scored


def test_the_report_counts_the_faces_that_the_runs_had():
    report = data_report.read()
    told = experiments.found_beside("nouisser2023", "preparation").values()
    told = [one for one in told if one["faces"] != "none"]  # whole images
    assert {one["faces"] for one in told} == {"hog", "haar"}
    for one in told:
        for part, classes in one["dropped"].items():
            found = report.detectors.found[part].model_dump()
            images, dropped = (
                sum(of[key] for of in classes.values()) for key in ("images", "dropped")
            )
            assert sum(found.values()) == images
            assert found["both"] + found[f"{one['faces']}_only"] == images - dropped


@pytest.mark.slow
@pytest.mark.skipif(
    not (data_root() / "fer2013").is_dir() or not (data_root() / "CK+48").is_dir(),
    reason="needs FER2013, FER+ and the 48x48 CK+ under FER_DATA, see fer-utils data check",
)
def test_the_committed_report_is_what_the_data_give():
    assert data_report.measure() == data_report.read()
