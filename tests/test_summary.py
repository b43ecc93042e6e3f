"""A table of all records: each read once, and again when its file has changed."""

import json
import os

import pytest

from fer_utils import records
from fer_utils.summary import summary


@pytest.fixture
def folder(make_record, tmp_path):
    for seed in (0, 1):
        record = make_record(f"made-{seed}", seed=seed, dataset="fer2013", epochs=2)
        record = record.model_copy(update={"timings": {"training": 1.25, "prediction": 0.5}})
        records.write(record, None, None, tmp_path / "results")
    return tmp_path


def test_a_line_says_what_the_record_says(folder, make_record):
    table = summary(folder / "results", cache=None)
    assert list(table["run"]) == ["made-0", "made-1"]
    line = table.iloc[1]
    assert (line["paper"], line["seed"], line["profile"]) == ("yengikand2023", 1, "full")
    assert line["parameters"] == {"dataset": "fer2013", "epochs": 2}
    assert (line["n"], line["accuracy"], line["val_accuracy"]) == (40, 0.75, 0.75)
    assert (line["epochs"], line["epoch"], line["trained_on"]) == (2, 2, 40)
    assert (line["training"], line["prediction"]) == (1.25, 0.5)
    assert line["file"] == "yengikand2023/made-1.json"
    assert line["code"] == records.read(folder / "results" / line["file"]).code.sha256


def test_the_cache_gives_the_same_and_reads_no_record(folder, monkeypatch):
    cache = folder / "build" / "summary.jsonl"
    first = summary(folder / "results", cache)
    monkeypatch.setattr(records, "read", None)  # whoever calls it fails
    again = summary(folder / "results", cache)
    assert again.to_dict("records") == first.to_dict("records")


def test_a_record_that_changed_came_or_went_is_seen(folder, make_record, monkeypatch):
    cache, results = folder / "summary.jsonl", folder / "results"
    summary(results, cache)
    path = results / "yengikand2023" / "made-0.json"
    record = json.loads(path.read_text())
    status = path.stat()
    path.write_text(json.dumps(record | {"profile": "reduced"}))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    records.write(make_record("made-2", seed=2), None, None, results)
    (results / "yengikand2023" / "made-1.json").unlink()

    read, real = [], records.read
    monkeypatch.setattr(records, "read", lambda path: read.append(path.name) or real(path))
    table = summary(results, cache)
    assert dict(zip(table["run"], table["profile"], strict=True)) == {
        "made-0": "reduced",
        "made-2": "full",
    }
    assert read == ["made-0.json", "made-2.json"]


@pytest.mark.parametrize("damage", ["", "no JSON\n", '{"key": 1}\n', "[]\n"])
def test_a_damaged_cache_is_done_without(folder, damage):
    cache = folder / "summary.jsonl"
    cache.write_text(damage)
    assert len(summary(folder / "results", cache)) == 2


def test_no_records_and_what_is_no_record(tmp_path):
    assert summary(tmp_path, cache=None).empty
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "broken.json").write_text("{}")
    with pytest.raises(records.RecordError, match=r"broken\.json: not a run record"):
        summary(tmp_path, cache=None)
