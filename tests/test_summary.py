"""A list of all records: each read once, and again when its file has changed."""

import json
import os

import pytest

from fer_utils import comparison, estimates, records
from fer_utils import summary as summaries
from fer_utils.manifests import published_papers
from fer_utils.summary import recorded

PAPER = "yengikand2023"


@pytest.fixture(autouse=True)
def another_process():
    """What a process keeps in memory is gone."""
    summaries._known.cache_clear()
    summaries._whole.cache_clear()


@pytest.fixture
def folder(make_record, tmp_path):
    for seed in (0, 1):
        record = make_record(f"made-{seed}", seed=seed, dataset="fer2013", epochs=2)
        record = record.model_copy(update={"timings": {"training": 1.25, "prediction": 0.5}})
        records.write(record, None, None, tmp_path / "results")
    return tmp_path


@pytest.fixture
def read(monkeypatch):
    """Names of the records that are read whole."""
    names, real = [], records.read
    monkeypatch.setattr(records, "read", lambda path: names.append(path.name) or real(path))
    return names


def test_a_line_says_what_the_record_says(folder, make_record):
    first, line = recorded(PAPER, folder / "results", cache=None)
    assert (first.run, line.run) == ("made-0", "made-1")
    assert (line.paper, line.seed, line.profile) == (PAPER, 1, "full")
    assert line.parameters == {"dataset": "fer2013", "epochs": 2}
    assert (line.metrics["test"]["n"], line.metrics["val"]["accuracy"]) == (40, 0.75)
    assert (line.epochs, line.selection.epoch, line.split.sizes["train"]) == (2, 2, 40)
    assert line.timings == {"training": 1.25, "prediction": 0.5}
    assert line.path == folder / "results" / PAPER / "made-1.json"
    assert line.code.sha256 == records.read(line.path).code.sha256


def test_the_cache_gives_the_same_and_reads_no_record(folder, monkeypatch):
    cache = folder / "build" / "summary.jsonl"
    first = recorded(PAPER, folder / "results", cache)
    summaries._known.cache_clear()
    monkeypatch.setattr(records, "read", None)  # whoever calls it fails
    assert recorded(PAPER, folder / "results", cache) == first


def test_a_record_that_changed_came_or_went_is_seen(folder, make_record, monkeypatch):
    cache, results = folder / "summary.jsonl", folder / "results"
    recorded(PAPER, results, cache)
    path = results / PAPER / "made-0.json"
    record = json.loads(path.read_text())
    status = path.stat()
    path.write_text(json.dumps(record | {"profile": "reduced"}))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    records.write(make_record("made-2", seed=2), None, None, results)
    (results / PAPER / "made-1.json").unlink()
    summaries._known.cache_clear()

    read, real = [], records.read
    monkeypatch.setattr(records, "read", lambda path: read.append(path.name) or real(path))
    profiles = {line.run: line.profile for line in recorded(PAPER, results, cache)}
    assert profiles == {"made-0": "reduced", "made-2": "full"}
    assert read == ["made-0.json", "made-2.json"]


@pytest.mark.parametrize(
    "damage", ["", "no JSON\n", '{"key": 1}\n', "[]\n", '{"key": [1, "a"], "told": {}}\n']
)
def test_a_damaged_cache_is_done_without(folder, damage):
    cache = folder / "summary.jsonl"
    cache.write_text(damage)
    assert len(recorded(PAPER, folder / "results", cache)) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.pop("persons"),
        lambda told: told["split"].pop("trained_on"),
        lambda told: told.update(code="0" * 64),
        lambda told: told.update(history={}),
        lambda told: told["data"].update(more=1),
    ],
    ids=["a field", "a field of a part", "a part", "a field too many", "one of a part too many"],
)
def test_a_line_of_an_older_format_is_made_anew_from_its_record(folder, read, change):
    results, cache = folder / "results", folder / "summary.jsonl"
    first = recorded(PAPER, results, cache)
    told, *others = map(json.loads, cache.read_text().splitlines())
    change(told["told"])
    cache.write_text("".join(f"{json.dumps(line)}\n" for line in (told, *others)))
    summaries._known.cache_clear()
    read.clear()
    assert recorded(PAPER, results, cache) == first
    assert read == ["made-0.json"]
    assert [json.loads(line) for line in cache.read_text().splitlines()] != [told, *others]


def test_no_records_and_what_is_no_record(tmp_path):
    assert recorded(PAPER, tmp_path, cache=None) == []
    (tmp_path / PAPER).mkdir()
    (tmp_path / PAPER / "broken.json").write_text("{}")
    with pytest.raises(records.RecordError, match=r"broken\.json: not a run record"):
        recorded(PAPER, tmp_path, cache=None)


@pytest.mark.parametrize("paper", published_papers())
def test_lines_of_the_committed_records_give_what_the_records_give(paper, tmp_path):
    whole = records.read_all(paper)
    cache = tmp_path / "summary.jsonl"
    recorded(paper, cache=cache)
    summaries._known.cache_clear()
    lines = recorded(paper, cache=cache)
    assert [line.run for line in lines] == [run.run for run in whole]
    for line, run in zip(lines, whole, strict=True):
        for name in ("parameters", "seed", "persons", "device", "timings", "probabilities"):
            assert getattr(line, name) == getattr(run, name), (run.run, name)
        for name in summaries.PARTS:
            assert vars(getattr(line, name)) == dict(getattr(run, name)), (run.run, name)
        assert (line.history, line.model) == (run.history, run.model)
    assert records.stale(lines) == records.stale(whole)
    assert [run.run for run in records.latest(lines)] == [run.run for run in records.latest(whole)]
    for metric in estimates.METRICS:
        if metric != "recall":
            told, expected = (
                [estimates.estimate([run], metric, "percent", part="test") for run in found]
                for found in (lines, whole)
            )
            assert told == expected


def test_a_page_reads_lines_and_a_whole_record_once_when_it_asks(folder, read):
    results, cache = folder / "results", folder / "summary.jsonl"
    recorded(PAPER, results, cache)
    summaries._known.cache_clear()
    read.clear()
    first, second = recorded(PAPER, results, cache)
    assert [run.epochs for run in comparison.select([first, second], {"epochs": 2})] == [2, 2]
    assert estimates.estimate([first, second], "accuracy", "percent").mean == 75
    assert read == []
    assert first.history["loss"] == [1.5, 0.1 + 0.2]
    assert recorded(PAPER, results, cache)[0].model.parameters == 10
    assert read == ["made-0.json"]


def test_a_process_reads_each_record_once_for_all_comparisons(folder, read):
    results, cache = folder / "results", folder / "summary.jsonl"
    for _ in range(3):
        assert len(recorded(PAPER, results, cache)) == 2
    assert sorted(read) == ["made-0.json", "made-1.json"]


def test_records_elsewhere_do_not_join_the_projects_cache(folder, monkeypatch):
    cache = folder / "project.jsonl"
    monkeypatch.setattr(summaries, "CACHE", cache)
    recorded(PAPER, folder / "results", cache)
    comparison.compare(PAPER, folder / "results")
    assert not cache.exists()


def test_seeds_that_stopped_early_at_other_epochs_are_one_line(make_record, tmp_path):
    for seed, epochs in enumerate((62, 75, 62)):
        made = make_record(f"fer2013-seed{seed}", seed=seed, epochs=100)
        made = made.model_copy(update={"history": {"loss": [1.0] * epochs}})
        records.write(made, None, None, tmp_path)
    (row,) = summaries.variants(recorded(PAPER, tmp_path))
    assert (row["Epochs"], row["Seeds"]) == ("62 to 75", 3)


def test_runs_that_differ_in_seed_and_fold_are_one_line_over_all_images(make_record, tmp_path):
    folds = [
        (f"ck48-kfold{fold}-seed{seed}-0000000{seed}", {"protocol": "kfold", "fold": fold}, seed)
        for fold in (0, 1)
        for seed in (0, 1)
    ]
    others = [
        ("ck48-official-seed0-0000000a", {"protocol": "official", "fold": None, "rate": 1}, 0),
        ("ck48-official-seed0-0000000b", {"protocol": "official", "fold": None, "rate": 2}, 0),
    ]
    for correct, (name, parameters, seed) in enumerate([*folds, *others], start=20):
        images = 80 if parameters["fold"] == 1 else 40  # (20 + 21 + 22 + 23) of 240 are right
        made = make_record(name, seed=seed, correct=correct, n=images, **parameters)
        records.write(made, None, None, tmp_path)
    rows = summaries.variants(recorded(PAPER, tmp_path))
    assert [(row["Run"], row["Seeds"], row["Runs"], row["Test"]) for row in rows] == [
        ("ck48-kfold", 2, 4, "35.83"),
        ("ck48-official, rate 1", 1, 1, "60.00"),
        ("ck48-official, rate 2", 1, 1, "62.50"),
    ]
