"""Faces and landmarks are found where they are, and nothing is found twice or lost."""

import json

import cv2
import dlib
import numpy as np
import pytest
import skimage.data

from fer_utils import detection, records, synthetic
from fer_utils.datasets import FaceDataset
from fer_utils.manifests import load_manifest

# A real face that may be shown: NASA's portrait of Eileen Collins, which scikit-image carries.
PORTRAIT = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)[20:260, 100:340]
HEAD = (slice(37, 175), slice(51, 191))
NOSE = (123, 104)  # x and y of its tip in the portrait, read off the picture
SMALL = cv2.resize(PORTRAIT[HEAD], (48, 48), interpolation=cv2.INTER_AREA)
NOISE = np.random.default_rng(0).integers(0, 256, (48, 48)).astype(np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def drawn() -> FaceDataset:
    """24 drawn faces, between them 6 pictures of noise at rows 0, 5, 10, ..."""
    faces = synthetic.generate(24, expressions=("anger", "happiness", "neutral"))
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (6, 48, 48, 1)).astype(np.uint8)
    images = np.insert(faces.images, [0, 4, 8, 12, 16, 20], noise, axis=0)
    labels = np.insert(faces.labels, [0, 4, 8, 12, 16, 20], 2)
    split = np.array(["train", "val", "test"])[np.arange(30) % 3]
    return FaceDataset("synthetic", images, labels, faces.class_names, split)


@pytest.mark.parametrize("detector", ["hog", "haar"])
def test_the_face_of_a_portrait_is_found(detector):
    left, top, right, bottom = detection.find_face(PORTRAIT, detector)
    assert left < NOSE[0] < right
    assert top < NOSE[1] < bottom
    assert 60 < right - left < 180


@pytest.mark.parametrize("detector", ["hog", "haar"])
def test_nothing_is_found_in_noise(detector):
    assert detection.find_face(NOISE, detector) is None


def test_a_face_of_48_pixels_is_found_because_the_image_is_doubled():
    assert len(dlib.get_frontal_face_detector()(SMALL, 0)) == 0
    assert detection.find_face(SMALL) is not None


def test_the_largest_face_counts():
    small = cv2.resize(PORTRAIT[HEAD], (70, 70))
    both = np.hstack([np.pad(small, ((0, 68), (0, 0)), mode="edge"), PORTRAIT[HEAD]])
    assert len(dlib.get_frontal_face_detector()(both, detection.UPSAMPLE)) == 2
    left, _, right, _ = detection.find_face(both)
    assert left > 70
    assert right - left > 60


def test_an_unknown_detector_is_refused_with_what_there_is():
    with pytest.raises(detection.DetectionError, match="'cnn': one of hog, haar"):
        detection.find_face(NOISE, "cnn")


@pytest.mark.parametrize("detector", ["hog", "haar"])
def test_landmarks_lie_on_the_parts_of_the_face(detector):
    points = detection.find_landmarks(PORTRAIT, detection.find_face(PORTRAIT, detector))
    assert points.shape == (68, 2)
    assert np.abs(points[30] - NOSE).max() < 12  # the tip of the nose
    (brows, eyes, nose, mouth, chin) = (
        points[part, 1].mean()
        for part in (slice(17, 27), slice(36, 48), slice(31, 36), slice(48, 68), slice(7, 10))
    )
    assert brows < eyes < nose < mouth < chin
    assert points[36:42, 0].max() < points[42:48, 0].min()


def test_without_the_landmark_model_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(detection.importlib.util, "find_spec", lambda name: None)
    detection._predictor.cache_clear()
    with pytest.raises(detection.DetectionError, match="pip install face_recognition_models"):
        detection.detect(NOISE[None, ..., None])


# ---- cropping and padding ---------------------------------------------------------------------


def landmarks(left, top, right, bottom) -> np.ndarray:
    """68 points whose smallest rectangle has these outermost pixels."""
    points = np.random.default_rng(0).integers((left, top), (right + 1, bottom + 1), (68, 2))
    points[:2] = (left, top), (right, bottom)
    return points.astype(np.int16)


@pytest.mark.parametrize(
    ("corners", "rows", "columns"),
    [
        ((4, 7, 40, 30), slice(7, 31), slice(4, 41)),
        ((-5, -9, 20, 60), slice(0, 48), slice(0, 21)),
        ((60, 10, 70, 20), slice(10, 21), slice(47, 48)),  # beside the image: its last column
        ((-9, -9, -2, -2), slice(0, 1), slice(0, 1)),
    ],
)
def test_the_crop_is_the_rectangle_around_the_landmarks_within_the_image(corners, rows, columns):
    crop = detection.crop_to_landmarks(NOISE, landmarks(*corners))
    np.testing.assert_array_equal(crop, NOISE[rows, columns])


def test_crops_of_many_images_are_those_of_each():
    corners = [(4, 7, 40, 30), (-5, -9, 20, 60), (60, 10, 70, 20), (-9, -9, -2, -2)]
    points = np.stack([landmarks(*box) for box in corners])
    found = detection.crop_corners(points)
    assert found.tolist()[0] == [4, 7, 41, 31]
    for (left, top, right, bottom), one in zip(found.tolist(), points, strict=True):
        crop = detection.crop_to_landmarks(NOISE, one)
        np.testing.assert_array_equal(NOISE[top:bottom, left:right], crop)


def test_overlap_is_what_both_boxes_have_of_what_one_of_them_has():
    first = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 4, 4], [0, 0, 4, 4]])
    second = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [4, 0, 8, 4], [6, 6, 8, 8]])
    assert detection.overlap(first, second).tolist() == [1, 50 / 150, 0, 0]


def test_a_box_is_cut_at_the_edge_of_the_image():
    boxes = np.array([[-3, 5, 50, 60], [48, 2, 51, 9]])
    assert detection.within(boxes).tolist() == [[0, 5, 48, 48], [47, 2, 48, 9]]


@pytest.mark.parametrize(("shape", "bar"), [((10, 20), 12), ((30, 60), 12), ((36, 48), 6)])
def test_padding_keeps_the_aspect_ratio_and_is_black_on_both_sides(shape, bar):
    square = detection.resize_with_padding(np.full(shape, 200, np.uint8))
    expected = np.zeros((48, 48), np.uint8)
    expected[bar : 48 - bar] = 200
    np.testing.assert_array_equal(square, expected)
    upright = detection.resize_with_padding(np.full(shape[::-1], 200, np.uint8))
    np.testing.assert_array_equal(upright, expected.T)


def test_a_circle_stays_a_circle():
    tall = np.zeros((80, 40), np.uint8)
    cv2.circle(tall, (20, 40), 15, 255, -1)
    rows, columns = np.nonzero(detection.resize_with_padding(tall) > 127)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 1
    assert abs(np.ptp(rows) - 30 * 48 / 80) <= 2


def test_an_image_of_the_right_size_is_left_as_it_is():
    np.testing.assert_array_equal(detection.resize_with_padding(NOISE), NOISE)


def test_the_thinnest_crop_still_has_a_pixel():
    assert detection.resize_with_padding(np.full((1, 200), 9, np.uint8)).max() == 9


# ---- many images ------------------------------------------------------------------------------


def test_several_processes_find_what_one_finds(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(detection, "PIECE", 8)
    alone = detection.detect(drawn.images, workers=1)
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "other"))
    together = detection.detect(drawn.images, workers=2)
    np.testing.assert_array_equal(alone.boxes, together.boxes)
    np.testing.assert_array_equal(alone.landmarks, together.landmarks)
    for image, box, points in zip(drawn.images, alone.boxes, alone.landmarks, strict=True):
        found = detection.find_face(image[..., 0])
        if found is None:
            assert (box == -1).all()
            assert (points == -1).all()
        else:
            assert tuple(box) == found
            np.testing.assert_array_equal(points, detection.find_landmarks(image[..., 0], found))


def test_what_was_found_is_not_looked_for_again(drawn, monkeypatch):
    first = detection.detect(drawn.images, workers=1)
    monkeypatch.setattr(detection, "find_face", lambda *_: pytest.fail("looked again"))
    again = detection.detect(drawn.images, workers=1)
    np.testing.assert_array_equal(first.landmarks, again.landmarks)
    assert not any(first.found[[0, 5, 10, 15, 20, 25]])


def test_work_that_was_cut_off_goes_on_where_it_was(drawn, cache, monkeypatch):
    monkeypatch.setattr(detection, "PIECE", 10)
    whole, seen = detection._detect_piece, []

    def killed(images, detector):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(images)
        return whole(images, detector)

    with monkeypatch.context() as first:
        first.setattr(detection, "_detect_piece", killed)
        with pytest.raises(KeyboardInterrupt):
            detection.detect(drawn.images, workers=1)
    assert len(list(cache.rglob("*.npy"))) == 2
    left = []
    monkeypatch.setattr(
        detection, "_detect_piece", lambda *work: left.append(work[0]) or whole(*work)
    )
    resumed = detection.detect(drawn.images, workers=1)
    assert [piece.tolist() for piece in left] == [drawn.images[20:].tolist()]
    assert [path.suffix for path in cache.rglob("*") if path.is_file()] == [".npy"] * 3
    monkeypatch.setenv("FER_CACHE", str(cache / "undisturbed"))
    undisturbed = detection.detect(drawn.images, workers=1)
    np.testing.assert_array_equal(resumed.landmarks, undisturbed.landmarks)


def test_a_damaged_piece_is_found_anew(drawn, cache):
    first = detection.detect(drawn.images[:6], workers=1)
    (piece,) = cache.rglob("*.npy")
    for damaged in (b"", piece.read_bytes()[:100], piece.read_bytes()[:-100]):
        piece.write_bytes(damaged)
        again = detection.detect(drawn.images[:6], workers=1)
        np.testing.assert_array_equal(first.landmarks, again.landmarks)


def test_other_images_and_another_detector_are_not_taken_from_the_cache(drawn, cache):
    detection.detect(drawn.images[:4], workers=1)
    detection.detect(drawn.images[:4], "haar", workers=1)
    changed = drawn.images[:4].copy()
    changed[3, 0, 0] ^= 1
    detection.detect(changed, workers=1)
    assert len(list(cache.iterdir())) == 3


def test_a_cache_that_cannot_be_written_costs_a_warning_alone(drawn, cache):
    cache.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="not cached"):
        found = detection.detect(drawn.images[:3], workers=1)
    assert len(found.boxes) == 3


def test_no_images_give_no_detections():
    found = detection.detect(np.empty((0, 48, 48, 1), np.uint8))
    assert found.boxes.shape == (0, 4)
    assert found.landmarks.shape == (0, 68, 2)


# ---- a data set -------------------------------------------------------------------------------


def test_images_with_a_face_are_kept_in_order_with_their_labels(drawn):
    kept, found = detection.preprocess(drawn, workers=1)
    rows = np.flatnonzero(found.found)
    assert len(rows) > 12, "faces must be left to look at"
    assert not set(rows) & {0, 5, 10, 15, 20, 25}
    np.testing.assert_array_equal(kept.labels, drawn.labels[rows])
    np.testing.assert_array_equal(kept.split, drawn.split[rows])
    assert kept.images.shape == (len(rows), 48, 48, 1)
    assert kept.images.dtype == np.uint8
    for image, row in zip(kept.images, rows, strict=True):
        face = detection.crop_to_landmarks(drawn.images[row, ..., 0], found.landmarks[row])
        np.testing.assert_array_equal(image[..., 0], detection.resize_with_padding(face))


def test_dropped_images_are_counted_by_part_and_expression(drawn):
    kept, found = detection.preprocess(drawn, workers=1)
    told = detection.dropped(drawn, found)
    assert json.loads(json.dumps(told)) == told
    for part, classes in told.items():
        for name, numbers in classes.items():
            label = drawn.class_names.index(name)
            before = np.sum((drawn.split == part) & (drawn.labels == label))
            after = np.sum((kept.split == part) & (kept.labels == label))
            assert numbers == {"images": before, "dropped": before - after}
    assert sum(row["dropped"] for rows in told.values() for row in rows.values()) >= 6


PREPARED = sorted((records.RESULTS / "nouisser2023" / "preparation").glob("fer2013-*.json"))


@pytest.mark.skipif(not PREPARED, reason="no preparation of FER2013 is recorded: run the chapter")
def test_recorded_counts_are_of_the_whole_of_fer2013():
    for path in PREPARED:
        told = json.loads(path.read_text())["dropped"] or {}
        for part, classes in told.items():
            images = {name: numbers["images"] for name, numbers in classes.items()}
            assert images == load_manifest("fer2013").splits[part].classes, path.name
