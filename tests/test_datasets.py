"""Every set loads as its manifest says, and bad input gets one clear error that names the place."""

import hashlib
import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_utils import datasets, ferplus, pixel_csv
from fer_utils.datasets import check, load
from fer_utils.manifests import (
    DataError,
    DataMissing,
    DatasetManifest,
    dataset_names,
    load_manifest,
)

REAL = Path(os.environ.get("FER_DATA") or "data").expanduser()


@pytest.fixture(autouse=True)
def own_cache(request, tmp_path, monkeypatch):
    """Small trees leave nothing in the user's cache; the real data use it as any run does."""
    if not request.node.name.startswith("test_real"):
        monkeypatch.setenv("FER_CACHE", str(tmp_path / "cache"))


def real(name):
    """Skips a test of the real data, saying how to get them, where they are absent."""
    manifest = load_manifest(name)
    try:
        datasets._find(manifest, REAL)
        absent = False
    except DataMissing:
        absent = True
    reason = f"{manifest.title} is not below FER_DATA={REAL}: {manifest.obtain}"
    return pytest.mark.skipif(absent, reason=reason)


SMALL = {
    "fer2013": (trees.fer2013, {"complete": False}),
    "ferplus": (trees.ferplus, {"complete": False}),
    "ck48": (lambda root: trees.ck48(root, 14), {"complete": False}),
    "ckplus": (lambda root: trees.ckplus(root, 14), {"complete": False, "crop": "centre"}),
    "jaffe": (lambda root: trees.jaffe(root, ["KA", "NA"]), {"complete": False}),
    "synthetic": (lambda root: root, {"count": 60}),
}


@pytest.mark.parametrize("name", dataset_names())
def test_every_set_loads_as_its_manifest_says(name, tmp_path):
    make, options = SMALL[name]
    manifest = load_manifest(name)
    data = load(name, make(tmp_path), **options)
    n = len(data)
    assert n > 0
    assert data.images.shape == (n, 48, 48, 1)
    assert data.images.dtype == np.uint8
    assert data.labels.dtype == np.int64
    assert data.class_names == manifest.class_names[: len(data.class_names)]
    assert set(data.labels) <= set(range(len(data.class_names)))
    assert (data.split is None) == ("all" in manifest.splits)
    assert (data.subjects is None) == ("subject" not in manifest.groups)
    assert (data.sequences is None) == ("sequence" not in manifest.groups)
    assert data.hashes
    assert all(len(digest) == 64 for digest in data.hashes.values())
    again = load(name, tmp_path, **options)
    np.testing.assert_array_equal(again.images, data.images)
    assert again.hashes == data.hashes


@pytest.mark.parametrize("name", [name for name in dataset_names() if name != "synthetic"])
def test_loading_and_checking_leave_the_data_as_they_are(name, tmp_path):
    make, options = SMALL[name]
    root = make(tmp_path / "root")

    def everything():
        return {path: path.is_file() and path.read_bytes() for path in root.rglob("*")}

    before = everything()
    load(name, root, **options)
    check(root)
    assert everything() == before


@pytest.mark.parametrize("name", [name for name in dataset_names() if name != "synthetic"])
def test_missing_data_say_how_to_get_them(name, tmp_path):
    with pytest.raises(DataMissing) as raised:
        load(name, tmp_path)
    assert load_manifest(name).obtain in str(raised.value)


def test_the_root_comes_from_the_environment(tmp_path, monkeypatch):
    trees.fer2013(tmp_path)
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    assert len(load("fer2013", complete=False)) == 40


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="ck48, ckplus, fer2013"):
        load("fer2012", tmp_path)


def test_a_subset_keeps_its_rows_together(tmp_path):
    data = load("ferplus", trees.ferplus(tmp_path), complete=False)
    rows = np.array([5, 2])
    part = data.subset(rows)
    for column in ("images", "labels", "split", "votes", "targets"):
        np.testing.assert_array_equal(getattr(part, column), getattr(data, column)[rows])
    assert part.hashes == data.hashes
    assert len(data.subset(data.split == "test")) == (data.split == "test").sum()


# ---- FER2013 ----------------------------------------------------------------------------------


def naive(table):
    """The usual way, as the truth to compare with."""
    return np.array([[int(number) for number in pixels.split()] for _, pixels, _ in table])


@pytest.mark.parametrize("variant", ["fer2013.csv", "icml_face_data.csv", "train.csv"])
def test_all_files_in_circulation_give_the_same_faces(variant, tmp_path):
    data = load("fer2013", trees.fer2013(tmp_path, variant=variant), complete=False)
    table = trees.fer2013_table()
    np.testing.assert_array_equal(data.images.reshape(40, -1), naive(table))
    train = data.split == "train"
    np.testing.assert_array_equal(data.labels[train], [row[0] for row in table[:32]])
    if variant == "train.csv":
        assert set(data.hashes) == {"train.csv", "test.csv"}
        assert (data.labels[~train] == -1).all()
        assert set(data.split) == {"train", "test"}
    else:
        names = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
        assert data.split.tolist() == [names[row[2]] for row in table]
        digest = hashlib.sha256((tmp_path / "fer2013" / variant).read_bytes()).hexdigest()
        assert data.hashes == {variant: digest}


@pytest.mark.parametrize(
    "folder",
    [
        "fer2013/fer2013",
        "challenges-in-representation-learning-facial-expression-recognition-challenge/fer2013",
    ],
)
def test_nested_folders_of_archives_are_found(folder, tmp_path):
    assert len(load("fer2013", trees.fer2013(tmp_path, folder=folder), complete=False)) == 40


def test_the_original_file_wins(tmp_path):
    trees.fer2013(tmp_path, variant="icml_face_data.csv")
    trees.fer2013(tmp_path)
    assert set(load("fer2013", tmp_path, complete=False).hashes) == {"fer2013.csv"}


def test_windows_line_ends_byte_order_mark_and_quotes_are_read(tmp_path):
    path = trees.fer2013(tmp_path) / "fer2013" / "fer2013.csv"
    text = path.read_text().replace("emotion,pixels,Usage", '"emotion","pixels","Usage"')
    path.write_bytes(b"\xef\xbb\xbf" + text.rstrip("\n").replace("\n", "\r\n").encode())
    data = load("fer2013", tmp_path, complete=False)
    np.testing.assert_array_equal(data.images.reshape(40, -1), naive(trees.fer2013_table()))


def damage(row, change):
    """A function that changes data row `row` of a table."""

    def apply(path):
        lines = path.read_text().splitlines()
        lines[row] = change(lines[row])
        path.write_text("\n".join(lines) + "\n")

    return apply


def whole(content):
    return lambda path: path.write_bytes(content)


def cut_last_row(path):
    path.write_bytes(path.read_bytes()[:-2000])


def first_pixel(value):
    return lambda line: ",".join([line[0], f"{value} {line.split(' ', 1)[1]}"])


BAD_TABLES = {
    "pixel missing": (damage(7, lambda line: line.replace(" ", "_", 1).replace("_", "")), 7, None),
    "too few pixels": (
        damage(3, lambda line: line[:2] + line.split(" ", 1)[1]),
        3,
        "wrong number of pixels: expected 2304, found 2303",
    ),
    "too many pixels": (
        damage(40, lambda line: line.replace(",", ",1 ", 1)),
        40,
        "wrong number of pixels: expected 2304, found 2305",
    ),
    "256": (damage(5, first_pixel(256)), 5, "expected 0 to 255, found '256'"),
    "999": (damage(5, first_pixel(999)), 5, "expected 0 to 255, found '999'"),
    "four digits": (damage(5, first_pixel("0012")), 5, "expected 0 to 255, found '0012'"),
    "negative": (damage(5, first_pixel(-1)), 5, "expected 0 to 255, found '-1'"),
    "fraction": (damage(5, first_pixel(1.5)), 5, "expected 0 to 255, found '1.5'"),
    "word": (damage(5, first_pixel("NaN")), 5, "expected 0 to 255, found 'NaN'"),
    "no pixels": (damage(5, lambda line: "0,,Training"), 5, "expected 2304, found 0"),
    "label 7": (damage(9, lambda line: "7" + line[1:]), 9, "unknown label: .* found '7'"),
    "label word": (damage(9, lambda line: "happy" + line[1:]), 9, "unknown label"),
    "usage": (
        damage(2, lambda line: line.replace("Training", "Test")),
        2,
        "unknown Usage: expected Training, PublicTest, PrivateTest, found 'Test'",
    ),
    "columns swapped": (
        damage(1, lambda line: ",".join(line.split(",")[::-1])),
        1,
        "unknown label",
    ),
    "blank line": (damage(20, lambda line: ""), 20, "too few columns"),
    "extra column": (damage(20, lambda line: line + ",1"), 20, "too many columns"),
    "cut off": (cut_last_row, 40, "too few columns: expected 3, found 2"),
    "empty": (whole(b""), None, "the file is empty"),
    "header only": (whole(b"emotion,pixels,Usage\n"), None, "there is a header but no row"),
    "another table": (whole(b"a,b\n1,2\n"), None, "not the header of a FER2013 table"),
    "no header": (whole(b"0,1 2 3,Training\n"), None, "not the header of a FER2013 table"),
    "an archive": (whole(b"PK\x03\x04" + bytes(range(256))), None, "not the header"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_names_file_and_row(case, tmp_path):
    spoil, row, message = BAD_TABLES[case]
    path = trees.fer2013(tmp_path) / "fer2013" / "fer2013.csv"
    spoil(path)
    with pytest.raises(DataError, match=message) as raised:
        load("fer2013", tmp_path, complete=False)
    assert str(raised.value).startswith(str(path))
    assert raised.value.row == row
    if row is not None:
        assert f"row {row} (line {row + 1})" in str(raised.value)
    assert not list((tmp_path / "cache").glob("*")), "a bad file leaves nothing in the cache"


def test_the_first_of_several_bad_rows_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(pixel_csv, "BLOCK", 20_000)  # two rows a block, so blocks race
    path = trees.fer2013(tmp_path) / "fer2013" / "fer2013.csv"
    damage(31, lambda line: "9" + line[1:])(path)
    damage(30, first_pixel(300))(path)
    damage(38, first_pixel(300))(path)
    with pytest.raises(DataError) as raised:
        load("fer2013", tmp_path, complete=False)
    assert raised.value.row == 30


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_wrong_byte_is_either_read_as_python_reads_it_or_refused(tmp_path, data):
    rows = [pixels for _, pixels, _ in trees.fer2013_table(3)]
    spoilt = bytearray(" ".join(rows).encode())
    position = data.draw(st.integers(0, len(spoilt) - 1))
    spoilt[position] = data.draw(st.sampled_from(b"0123456789 -.,x\t"))
    cells, start = [], 0
    for row in rows:
        cells.append(bytes(spoilt[start : start + len(row)]))
        start += len(row) + 1
    numbers = [cell.split(b" ") for cell in cells]
    numbers = [[n for n in row if n] for row in numbers]
    valid = all(
        len(row) == 2304 and all(n.isdigit() and len(n) <= 3 and int(n) <= 255 for n in row)
        for row in numbers
    )
    quick = pixel_csv._digits(cells)
    if valid:
        np.testing.assert_array_equal(quick, np.array(numbers, int))
    else:
        assert quick is None
        with pytest.raises(pixel_csv._BadRow):
            pixel_csv._refuse_bad_pixels(cells)


def test_a_set_cut_at_a_row_is_refused_unless_a_part_is_wanted(tmp_path):
    path = trees.fer2013(tmp_path) / "fer2013" / "fer2013.csv"
    with pytest.raises(DataError, match="cut short: expected 35887 rows, found 40") as raised:
        load("fer2013", tmp_path)
    assert raised.value.path == path


def test_a_copy_with_other_class_counts_is_refused(tmp_path):
    data = load("fer2013", trees.fer2013(tmp_path), complete=False)
    splits = load_manifest("fer2013").splits
    with pytest.raises(DataError, match="wrong number of anger images of Training: expected 3995"):
        datasets._check_counts(tmp_path, data, splits)


def test_a_folder_where_a_file_belongs_is_refused(tmp_path):
    (tmp_path / "fer2013" / "fer2013.csv").mkdir(parents=True)
    with pytest.raises(DataError, match=r"fer2013\.csv: a file belongs here, this is a folder"):
        load("fer2013", tmp_path)


def test_a_file_where_a_folder_belongs_is_refused(tmp_path):
    (tmp_path / "fer2013").write_text("an archive, say")
    with pytest.raises(DataError, match="fer2013: a folder belongs here"):
        load("fer2013", tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "fer2013").mkdir()
    os.mkfifo(tmp_path / "fer2013" / "fer2013.csv")  # reading it would wait for ever
    with pytest.raises(DataError, match="a regular file belongs here"):
        load("fer2013", tmp_path)


def test_a_link_to_a_file_that_has_gone_is_damage(tmp_path):
    path = trees.fer2013(tmp_path) / "fer2013" / "fer2013.csv"
    path.rename(tmp_path / "elsewhere.csv")
    path.symlink_to(tmp_path / "gone.csv")
    with pytest.raises(DataError, match=r"fer2013\.csv: no such file"):
        load("fer2013", tmp_path)


def test_a_folder_that_may_not_be_read_is_told_of_its_set_alone(tmp_path, monkeypatch):
    trees.jaffe(tmp_path)
    (tmp_path / "fer2013").mkdir()
    exists = Path.exists

    def refused(path):
        if path.parent.name == "fer2013":
            raise PermissionError(13, "Permission denied", str(path.parent))
        return exists(path)

    monkeypatch.setattr(Path, "exists", refused)
    states = {status.name: status for status in check(tmp_path)}
    told = f"{tmp_path / 'fer2013'}: reading it is not permitted"
    assert (states["fer2013"].state, states["fer2013"].problem) == ("corrupt", told)
    assert states["jaffe"].state == "structure right, hash unknown"


def test_labels_without_the_other_half_are_refused(tmp_path):
    trees.fer2013(tmp_path, variant="train.csv")
    (tmp_path / "fer2013" / "test.csv").unlink()
    with pytest.raises(DataError, match=r"test\.csv: no such file"):
        load("fer2013", tmp_path, complete=False)


# ---- the cache --------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["fer2013.csv", "icml_face_data.csv", "train.csv"])
@pytest.mark.parametrize("name", ["fer2013", "ferplus"])
def test_faces_without_the_column_of_labels_are_refused(name, variant, tmp_path):
    (trees.ferplus if name == "ferplus" else lambda root: root)(tmp_path)
    (tmp_path / "fer2013" / "fer2013.csv").unlink(missing_ok=True)
    path = trees.fer2013(tmp_path, variant=variant) / "fer2013" / variant
    path.write_text("".join(f"{row.partition(',')[2]}\n" for row in path.read_text().splitlines()))
    with pytest.raises(DataError, match="the column emotion is missing in line 1") as raised:
        load(name, tmp_path, complete=False)
    assert raised.value.path == path


@pytest.fixture
def cached(tmp_path):
    """A loaded tree: (root, the cache's files by suffix)."""
    load("fer2013", trees.fer2013(tmp_path), complete=False)
    found = {"".join(path.suffixes[-2:]): path for path in (tmp_path / "cache").iterdir()}
    assert len(found) == 3
    return tmp_path, {suffix.removeprefix(".csv"): path for suffix, path in found.items()}


def test_the_second_load_reads_the_cache_only(cached, monkeypatch):
    monkeypatch.setattr(pixel_csv, "_parse", lambda *_: pytest.fail("parsed again"))
    data = load("fer2013", cached[0], complete=False)
    np.testing.assert_array_equal(data.images.reshape(40, -1), naive(trees.fer2013_table()))
    assert not data.images.flags.writeable


def test_a_changed_file_is_parsed_anew(cached):
    root, _ = cached
    damage(1, first_pixel(254))(root / "fer2013" / "fer2013.csv")
    assert load("fer2013", root, complete=False).images[0, 0, 0, 0] == 254


@pytest.mark.parametrize("suffix", [".images.npy", ".codes.npy"])
@pytest.mark.parametrize("how", ["one byte", "cut", "gone"])
def test_a_damaged_cache_is_named_and_not_trusted(suffix, how, cached):
    root, files = cached
    path = next(path for path in files.values() if path.name.endswith(suffix))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    match how:
        case "one byte":
            path.write_bytes(content)
        case "cut":
            path.write_bytes(content[:-10])
        case "gone":
            path.unlink()
    with pytest.raises(DataError, match="the cache is damaged, delete it") as raised:
        load("fer2013", root, complete=False)
    assert raised.value.path == path


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"sha256": 1, "arrays": {}}'])
def test_a_damaged_sidecar_is_named_and_not_trusted(text, cached):
    root, files = cached
    sidecar = next(path for path in files.values() if path.suffix == ".json")
    sidecar.write_text(text)
    with pytest.raises(DataError, match="the cache is damaged, delete it"):
        load("fer2013", root, complete=False)


def test_the_cache_of_another_file_is_refused(cached):
    root, files = cached
    sidecar = next(path for path in files.values() if path.suffix == ".json")
    entry = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(entry | {"sha256": "0" * 64}))
    with pytest.raises(DataError, match="belongs to another file, delete it"):
        load("fer2013", root, complete=False)


def test_a_load_that_is_killed_leaves_no_half_cache(tmp_path, monkeypatch):
    trees.fer2013(tmp_path)
    save, calls = np.save, []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        save(*args, **kwargs)

    monkeypatch.setattr(np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        load("fer2013", tmp_path, complete=False)
    assert not list((tmp_path / "cache").glob("*.json"))
    assert not list((tmp_path / "cache").glob(".*"))
    assert len(load("fer2013", tmp_path, complete=False)) == 40


def test_a_place_that_cannot_be_written_costs_time_not_the_data(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "file" / "cache"))
    trees.fer2013(tmp_path)
    with pytest.warns(UserWarning, match="set FER_CACHE"):
        data = load("fer2013", tmp_path, complete=False)
    np.testing.assert_array_equal(data.images.reshape(40, -1), naive(trees.fer2013_table()))


# ---- FER+ -------------------------------------------------------------------------------------

# neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, not a face
HAND = {
    "clear": [0, 9, 0, 0, 0, 0, 0, 0, 1, 0],
    "outliers hide a majority": [5, 1, 1, 1, 1, 1, 0, 0, 0, 0],
    "half is no majority": [5, 5, 0, 0, 0, 0, 0, 0, 0, 0],
    "three leaders": [4, 3, 0, 3, 0, 0, 0, 0, 0, 0],
    "four equals": [2, 2, 2, 2, 0, 0, 0, 0, 2, 0],
    "unknown leads": [2, 0, 0, 0, 0, 0, 0, 0, 8, 0],
    "unknown in second place": [5, 0, 2, 0, 0, 0, 0, 0, 3, 0],
    "unknown ties": [5, 0, 0, 0, 0, 0, 0, 0, 5, 0],
    "no face": [0, 0, 0, 0, 0, 0, 0, 0, 0, 10],
    "all single": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
}
KEPT = {
    "majority": ["clear", "outliers hide a majority"],
    "probability": ["clear", "outliers hide a majority", "half is no majority", "three leaders"],
    "multi_target": [
        "clear",
        "outliers hide a majority",
        "half is no majority",
        "three leaders",
        "unknown in second place",
        "unknown ties",
    ],
    "any": [case for case in HAND if case != "no face"],
}


@pytest.mark.parametrize("keep", KEPT)
def test_rules_keep_what_they_say(keep):
    told = ferplus.vote_targets(np.array(list(HAND.values())), keep=keep)
    kept = [case for case, stays in zip(HAND, told.kept, strict=True) if stays]
    assert kept == KEPT[keep]


@pytest.mark.parametrize(
    ("mode", "case", "expected"),
    [
        ("majority", "three leaders", [1, 0, 0, 0, 0, 0, 0, 0]),
        ("probability", "outliers hide a majority", [1, 0, 0, 0, 0, 0, 0, 0]),
        ("probability", "three leaders", [0.4, 0.3, 0, 0.3, 0, 0, 0, 0]),
        ("crossentropy", "three leaders", [0.4, 0.3, 0, 0.3, 0, 0, 0, 0]),
        ("crossentropy", "half is no majority", [0.5, 0.5, 0, 0, 0, 0, 0, 0]),
        ("crossentropy", "unknown leads", [1, 0, 0, 0, 0, 0, 0, 0]),
        ("crossentropy", "all single", [1 / 8] * 8),
        ("multi_target", "three leaders", [1, 1, 0, 1, 0, 0, 0, 0]),
        ("multi_target", "unknown in second place", [1, 0, 0, 0, 0, 0, 0, 0]),
        ("multi_target", "all single", [1, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_targets_by_hand(mode, case, expected):
    told = ferplus.vote_targets(np.array([HAND[case]]), mode, "any")
    np.testing.assert_allclose(told.targets[0], expected, rtol=1e-6)
    assert told.targets.dtype == np.float32


VOTES = st.lists(st.integers(0, 9), min_size=10, max_size=10)


@given(VOTES, st.sampled_from(ferplus.MODES), st.sampled_from([None, *ferplus.KEEP]))
def test_a_target_is_a_distribution_that_peaks_at_the_label(votes, mode, keep):
    told = ferplus.vote_targets(np.array([votes]), mode, keep)
    if told.kept[0]:
        assert told.targets[0].max() == told.targets[0, told.labels[0]] > 0
        if mode != "multi_target":
            assert told.targets[0].sum() == pytest.approx(1)


@pytest.mark.parametrize("options", [{"mode": "median"}, {"keep": "half"}])
def test_unknown_modes_list_the_known_ones(options, tmp_path):
    with pytest.raises(ValueError, match="majority, probability"):
        load("ferplus", trees.ferplus(tmp_path), complete=False, **options)


def test_ferplus_joins_by_row_and_drops_what_is_no_face(tmp_path):
    root = trees.ferplus(tmp_path)
    faces = load("fer2013", root, complete=False)
    data = load("ferplus", root, complete=False)
    assert len(data) == 39
    np.testing.assert_array_equal(data.images, faces.images[:39])
    expected = [faces.class_names[label] for label in faces.labels[:39]]
    assert [data.class_names[label] for label in data.labels] == expected
    assert data.votes.shape == (39, 10)
    assert data.targets.shape == (39, 8)
    assert set(data.hashes) == {"fer2013.csv", "fer2013new.csv"}


BAD_VOTES = {
    "row missing": (lambda lines: lines[:-1], None, "expected 40 rows, found 39"),
    "parts differ": (
        lambda lines: [*lines[:32], lines[32].replace("Training", "PrivateTest"), *lines[33:]],
        32,
        "do not match fer2013.csv: expected Training, found 'PrivateTest'",
    ),
    "eleven votes": (
        lambda lines: [*lines[:4], lines[4][:-1] + "9", *lines[5:]],
        4,
        "impossible votes",
    ),
    "too long for a number": (
        lambda lines: [*lines[:4], lines[4][:-1] + "9" * 5000, *lines[5:]],
        4,
        "impossible votes: expected 10 at most",
    ),
    "no number": (lambda lines: [*lines[:4], lines[4][:-1] + "x", *lines[5:]], 4, "impossible"),
    "column missing": (lambda lines: [*lines[:4], lines[4][:-2], *lines[5:]], 4, "number of col"),
    "header": (lambda lines: ["a,b", *lines[1:]], None, "not the header of the FER"),
    "endless header": (lambda lines: ["x" * 200_000], None, "line 1 is not CSV: field larger"),
    "quote left open": (
        lambda lines: [*lines[:4], '"' + lines[4], *lines[5:], "x" * 200_000],
        4,
        "not CSV: field larger than field limit",
    ),
    "empty": (lambda lines: [], None, "the file is empty"),
}


@pytest.mark.parametrize("case", BAD_VOTES)
def test_votes_that_do_not_match_are_refused(case, tmp_path):
    spoil, row, message = BAD_VOTES[case]
    path = trees.ferplus(tmp_path) / "fer2013" / "fer2013new.csv"
    lines = spoil(path.read_text().splitlines())
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(DataError, match=message) as raised:
        load("ferplus", tmp_path, complete=False)
    assert raised.value.row == row
    assert str(path) in str(raised.value)


def test_images_in_another_order_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "ROWS_TO_TELL", 30)
    path = trees.ferplus(tmp_path) / "fer2013" / "fer2013.csv"
    assert len(load("ferplus", tmp_path, complete=False))
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *rows[1:32], rows[0], *rows[32:]]) + "\n")
    with pytest.raises(DataError, match="another order"):
        load("ferplus", tmp_path, complete=False)


def test_votes_need_the_column_usage(tmp_path):
    trees.ferplus(tmp_path)
    (tmp_path / "fer2013" / "fer2013.csv").unlink()
    trees.fer2013(tmp_path, variant="train.csv")
    with pytest.raises(DataError, match="need FER2013 with its Usage column"):
        load("ferplus", tmp_path, complete=False)


# ---- folders of images ------------------------------------------------------------------------


def test_ck48_knows_people_and_sequences(tmp_path):
    data = load("ck48", trees.ck48(tmp_path))
    assert len(data) == 981
    assert len(set(data.subjects)) == 118
    names, counts = np.unique(data.sequences, return_counts=True)
    assert len(names) == 327
    assert set(counts) == {3}
    for sequence in names:
        rows = data.sequences == sequence
        assert len(set(data.subjects[rows])) == len(set(data.labels[rows])) == 1


def test_ck48_without_a_picture_is_refused(tmp_path):
    path = trees.ck48(tmp_path) / "CK+48" / "fear"
    min(path.iterdir()).unlink()
    with pytest.raises(DataError, match="wrong number of fear images: expected 75, found 74"):
        load("ck48", tmp_path)


def with_manifest(monkeypatch, name, **changes):
    """The manifest of a set as somebody may have changed it."""
    raw = load_manifest(name).model_dump() | changes
    made = DatasetManifest.model_validate(raw)
    monkeypatch.setattr(datasets, "load_manifest", lambda _: made)


def test_a_group_that_is_not_read_of_a_set_is_refused_by_its_manifest(tmp_path, monkeypatch):
    with_manifest(monkeypatch, "jaffe", groups={"sequence": {"derived": "the name"}})
    with pytest.raises(DataError, match=r"jaffe\.yaml: groups: no sequence is read of JAFFE"):
        load("jaffe", trees.jaffe(tmp_path))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ck48", "anger: unknown label: expected 0, 1,.* found 'anger'"),
        ("jaffe", r"KA.AN1\S+: unknown label: expected 0, 1,.* found 'AN'"),
        ("ckplus", r"ckplus\.yaml: classes: none has the code 0, which is neutral"),
    ],
)
def test_codes_that_a_manifest_does_not_have_are_told_in_a_sentence(
    tmp_path, monkeypatch, name, told
):
    names = load_manifest(name).class_names
    codes = [
        {"name": name, "code": code} for code, name in enumerate(names, start=name == "ckplus")
    ]
    with_manifest(monkeypatch, name, classes=codes)
    make, options = SMALL[name]
    with pytest.raises(DataError, match=told):
        load(name, make(tmp_path), **options)


def test_what_a_file_manager_leaves_is_overlooked(tmp_path):
    folder = trees.ck48(tmp_path, 7) / "CK+48"
    for place in (folder, folder / "anger"):
        (place / ".DS_Store").write_bytes(b"x")
        (place / "Thumbs.db").write_bytes(b"x")
    assert len(load("ck48", tmp_path, complete=False)) == 21


def cut_png(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip_png(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def small_png(path):
    trees.save(path, np.zeros((32, 32), np.uint8))


def deep_png(path):
    trees.save(path, np.full((48, 48), 300, np.uint16))


BAD_PICTURES = {
    "no image": (lambda path: path.write_text("<html>not found</html>"), "no readable PNG image"),
    "cut": (cut_png, "no readable PNG image"),
    "flipped byte": (flip_png, "no readable PNG image"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "wrong size": (small_png, "wrong image size: expected 48x48, found 32x32"),
    "16 bits": (deep_png, "not read: expected 1, L, LA, P, RGB, RGBA, CMYK, YCbCr, found I;16"),
    "wrong name": (lambda path: path.rename(path.with_name("IMG_1.png")), "unexpected file name"),
    "unknown label": (lambda path: path.parent.rename(path.parents[1] / "bored"), "unknown label"),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_a_bad_picture_is_named(case, tmp_path):
    spoil, message = BAD_PICTURES[case]
    path = min((trees.ck48(tmp_path, 7) / "CK+48" / "anger").iterdir())
    spoil(path)
    with pytest.raises(DataError, match=message) as raised:
        load("ck48", tmp_path, complete=False)
    assert str(tmp_path / "CK+48") in str(raised.value)


def test_ckplus_takes_the_peak_of_labelled_sequences(tmp_path):
    data = load("ckplus", trees.ckplus(tmp_path), crop="centre")
    assert len(data) == 327
    assert len(set(data.subjects)) == 118
    assert data.class_names == load_manifest("ck48").class_names
    assert "S999" not in data.subjects
    assert data.counts() == {"all": load_manifest("ckplus").splits["all"].classes}


def test_ckplus_frames_neutral_and_order(tmp_path):
    root = trees.ckplus(tmp_path, 14)
    peak = load("ckplus", root, crop="centre", complete=False)
    three = load("ckplus", root, crop="centre", frames=3, complete=False)
    both = load("ckplus", root, crop="centre", neutral=True, complete=False)
    np.testing.assert_array_equal(three.images[2::3], peak.images)
    np.testing.assert_array_equal(three.labels, np.repeat(peak.labels, 3))
    assert both.class_names == (*peak.class_names, "neutral")
    np.testing.assert_array_equal(both.images[1::2], peak.images)
    assert (both.labels[::2] == 7).all()
    with pytest.raises(DataError, match="too few frames up to the peak: expected 5, found 4"):
        load("ckplus", root, frames=5, complete=False)


def test_ckplus_centre_is_cut_from_the_frame(tmp_path):
    data = load("ckplus", trees.ckplus(tmp_path, 7), crop="centre", complete=False)
    rng = np.random.default_rng(0)
    frames = [trees.picture(name, rng) for name in ["neutral", *["anger"] * 3]]
    np.testing.assert_array_equal(data.images[0, :, :, 0], frames[-1])


def test_ckplus_warns_where_no_face_is_found(tmp_path):
    with pytest.warns(UserWarning, match="no face found in 7 of 7 sequences"):
        data = load("ckplus", trees.ckplus(tmp_path, 7), complete=False)
    centre = load("ckplus", tmp_path, crop="centre", complete=False)
    np.testing.assert_array_equal(data.images, centre.images)


def test_ckplus_finds_the_face(tmp_path):
    """One real, publishable portrait: the crop must be the face, at any place in the frame."""
    portrait = pytest.importorskip("skimage.data").astronaut()
    root = trees.ckplus(tmp_path, 1)
    labelled = next((root / "ckplus" / "cohn-kanade-images" / "S001" / "001").glob("*4.png"))
    trees.save(labelled, np.pad(portrait, ((0, 0), (100, 28), (0, 0))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load("ckplus", root, complete=False).images[0, :, :, 0]
    face = datasets._to_square(
        np.array(datasets.Image.fromarray(portrait).convert("L")), (170, 60, 110, 110)
    )
    assert np.corrcoef(found.ravel(), face.ravel())[0, 1] > 0.6


def test_other_places_of_the_labels_are_found(tmp_path):
    folder = trees.ckplus(tmp_path, 7) / "ckplus"
    (folder / "Emotion_labels").mkdir()
    (folder / "Emotion").rename(folder / "Emotion_labels" / "Emotion")
    assert len(load("ckplus", tmp_path, crop="centre", complete=False)) == 7


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda label, frame: label.write_text("8.0"), "unknown label: .* found '8.0'"),
        (lambda label, frame: label.write_text("2.5"), "unknown label"),
        (lambda label, frame: label.write_text("happy"), "unknown label"),
        (lambda label, frame: label.write_text("9" * 6000), "unknown label: .* found '9{40}'$"),
        (lambda label, frame: label.write_text(""), "the file is empty"),
        (lambda label, frame: frame.unlink(), "no such file, but S001_001_00000004_emotion.txt"),
        (lambda label, frame: frame.write_text("x"), "no readable PNG image"),
    ],
)
def test_a_bad_sequence_is_named(spoil, message, tmp_path):
    folder = trees.ckplus(tmp_path, 7) / "ckplus"
    label = folder / "Emotion" / "S001" / "001" / "S001_001_00000004_emotion.txt"
    frame = folder / "cohn-kanade-images" / "S001" / "001" / "S001_001_00000004.png"
    spoil(label, frame)
    with pytest.raises(DataError, match=message) as raised:
        load("ckplus", tmp_path, crop="centre", complete=False)
    assert "S001_001_00000004" in str(raised.value)


def test_images_without_labels_say_how_to_get_them(tmp_path):
    folder = trees.ckplus(tmp_path, 7) / "ckplus"
    (folder / "Emotion").rename(folder / "elsewhere")
    with pytest.raises(DataMissing, match=r"Emotion_labels\.zip"):
        load("ckplus", tmp_path)


def test_jaffe_is_whole_and_knows_the_woman_called_na(tmp_path):
    data = load("jaffe", trees.jaffe(tmp_path))
    assert len(data) == 213
    assert len(set(data.subjects)) == 10
    assert (data.subjects == "NA").sum() == 21
    assert data.class_names == load_manifest("fer2013").class_names


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.rename(path.with_name("XX.AN1.1.tiff")), "unexpected file name"),
        (lambda path: path.rename(path.with_name("KA.XX1.1.tiff")), "unexpected file name"),
        (lambda path: path.write_text("x"), "no readable TIFF image"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "no readable TIFF image"),
        (lambda path: trees.save(path, np.zeros((64, 64), np.uint8)), "wrong image size"),
        (lambda path: trees.save(path, np.full((256, 256), 300, np.int32)), "YCbCr, found I"),
        (lambda path: trees.save(path, np.full((256, 256), 0.5, np.float32)), "YCbCr, found F"),
        (lambda path: path.unlink(), "wrong number of"),
    ],
)
def test_a_bad_portrait_is_named(spoil, message, tmp_path):
    trees.jaffe(tmp_path)
    spoil(min((tmp_path / "jaffe").glob("KA.AN*.tiff")))
    with pytest.raises(DataError, match=message):
        load("jaffe", tmp_path)


def test_unknown_crops_list_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="face, centre, whole"):
        load("jaffe", trees.jaffe(tmp_path, ["KA"]), complete=False, crop="square")


def test_synthetic_is_seeded_and_hashed():
    first, again = load("synthetic", count=30, seed=3), load("synthetic", count=30, seed=3)
    other = load("synthetic", count=30, seed=4)
    np.testing.assert_array_equal(first.images, again.images)
    assert first.hashes == again.hashes != other.hashes
    names = ("anger", "neutral")
    assert load("synthetic", count=30, expressions=names).class_names == names


# ---- check ------------------------------------------------------------------------------------


def states(root):
    return {status.name: status for status in check(root)}


def test_check_of_an_empty_root_says_how_to_get_everything(tmp_path):
    for name, status in states(tmp_path).items():
        assert status.state == ("verified" if name == "synthetic" else "absent")
        assert status.obtain == load_manifest(name).obtain


def test_check_tells_whole_sets_from_corrupt_ones(tmp_path):
    trees.ck48(tmp_path)
    trees.jaffe(tmp_path)
    trees.ckplus(tmp_path)
    trees.ferplus(tmp_path)
    damage(7, first_pixel(256))(tmp_path / "fer2013" / "fer2013.csv")
    found = states(tmp_path)
    for name in ("ck48", "jaffe", "ckplus"):
        assert found[name].state == "structure right, hash unknown"
        part = load_manifest(name).splits["all"]
        assert found[name].counts["all"] == part.classes
        assert len(found[name].files[0].sha256) == 64
    for name in ("fer2013", "ferplus"):  # the votes are of no use without their images
        status = found[name]
        assert status.state == "corrupt"
        assert status.path.endswith("fer2013.csv")
        assert (status.row, status.expected, status.found) == (7, "0 to 255", "'256'")
    json.dumps([status.as_dict() for status in found.values()])


def test_check_tells_whether_images_and_labels_are_those_of_the_recorded_runs(
    tmp_path, monkeypatch
):
    folder = trees.ck48(tmp_path) / "CK+48"
    data, manifest = load("ck48", tmp_path), load_manifest("ck48")
    arrays = (datasets.array_hash(data.images, data.labels),)
    known = manifest.model_copy(update={"arrays": arrays})
    unknown = manifest.model_copy(update={"arrays": ()})
    # A person's pictures of happiness and surprise change places: no count tells.
    happy, surprise = (min((folder / name).glob("S060_*")) for name in ("happy", "surprise"))

    def told(manifest):
        monkeypatch.setattr(datasets, "load_manifest", lambda name: manifest)
        return datasets._status(manifest, tmp_path).as_recorded

    assert (told(known), told(unknown)) == (True, None)
    content = happy.read_bytes()
    happy.write_bytes(surprise.read_bytes())
    surprise.write_bytes(content)
    assert (told(known), told(unknown)) == (False, None)


def test_check_verifies_a_file_whose_hash_is_known(tmp_path, monkeypatch):
    content = (trees.fer2013(tmp_path) / "fer2013" / "fer2013.csv").read_bytes()
    manifest = load_manifest("fer2013")
    data = load("fer2013", tmp_path, complete=False)

    def with_md5(md5):
        variant = manifest.variants[0]
        file = variant.files[0].model_copy(update={"md5": md5, "rows": len(data)})
        parts = {
            key: part.model_copy(update={"count": None, "classes": {}})
            for key, part in manifest.splits.items()
        }
        variant = variant.model_copy(update={"files": (file,)})
        return manifest.model_copy(update={"variants": (variant,), "splits": parts})

    for md5, state in (
        (hashlib.md5(content).hexdigest(), "verified"),
        ("0" * 32, "structure right, hash unknown"),
    ):
        small = with_md5(md5)
        monkeypatch.setattr(datasets, "load_manifest", lambda name, small=small: small)
        status = datasets._status(small, tmp_path)
        assert status.state == state
        assert status.files[0].expected == f"md5 {md5}"
        assert status.counts == data.counts()


def test_the_hash_of_arrays_sees_values_types_shapes_and_order():
    a = np.arange(6, dtype=np.int64)
    different = [
        (a,),
        (a + 1,),
        (a.view(np.uint64),),
        (a.reshape(2, 3),),
        (a.reshape(3, 2),),
        (a[:3], a[3:]),
        (a[3:], a[:3]),
    ]
    assert len({datasets.array_hash(*arrays) for arrays in different}) == len(different)
    turned = np.asfortranarray(a.reshape(2, 3))
    assert datasets.array_hash(turned) == datasets.array_hash(a.reshape(2, 3))


# ---- the real data ----------------------------------------------------------------------------


@real("fer2013")
def test_real_fer2013():
    data = load("fer2013", REAL)
    official = load_manifest("fer2013").splits
    assert data.counts() == {key: part.classes for key, part in official.items()}
    assert data.images.reshape(len(data), -1).std(1).max() > 50


@real("ferplus")
@pytest.mark.parametrize(
    ("mode", "keep", "sizes"),
    [
        ("majority", None, (25060, 3199, 3153)),
        ("probability", None, (27956, 3505, 3505)),
        ("crossentropy", None, (27956, 3505, 3505)),
        ("multi_target", None, (27671, 3472, 3472)),
        ("crossentropy", "plurality", (28389, 3553, 3546)),
        ("crossentropy", "any", (28559, 3579, 3573)),
    ],
)
def test_real_ferplus_sizes(mode, keep, sizes):
    data = load("ferplus", REAL, mode=mode, keep=keep)
    assert tuple((data.split == part).sum() for part in ("train", "val", "test")) == sizes
    assert (data.targets.max(1) > 0).all()


@real("ferplus")
def test_real_ferplus_arrays_are_those_in_the_manifest():
    kept = [load("ferplus", REAL, keep=keep) for keep in ferplus.KEEP]
    found = tuple(datasets.array_hash(data.images, data.labels) for data in kept)
    assert found == load_manifest("ferplus").arrays


@real("ck48")
def test_real_ck48():
    data = load("ck48", REAL)
    assert data.counts() == {"all": load_manifest("ck48").splits["all"].classes}
    assert len(set(data.subjects)) == 118
    assert len(set(data.sequences)) == 327


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no folder {REAL}")
def test_real_check_finds_nothing_corrupt():
    for status in check(REAL):
        assert status.state != "corrupt", status.problem
