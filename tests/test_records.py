"""Records are written once, whole or not at all, and say so when they cannot be read."""

import json
import multiprocessing
import os
import re
import shutil
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from pydantic import ValidationError

from fer_utils import locks, metrics, records
from fer_utils.manifests import published_papers
from fer_utils.records import RecordError
from fer_utils.summary import recorded

PROBABILITIES = np.random.default_rng(0).dirichlet(np.ones(2), 40).astype(np.float32)
LABELS = np.arange(40) % 2


def files(folder):
    """Every file below a folder, hidden ones too, and what is in it; not the lock."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != locks.NAME)
    return {path.name: path.read_bytes() for path in found}


# ---- writing and reading -----------------------------------------------------------------------


def test_a_record_reads_back_as_it_was_written(make_record, tmp_path):
    record = make_record(convolution="depthwise", dropout=0.1, folds=[1, 2])
    path = records.write(record, PROBABILITIES, LABELS, tmp_path)
    assert path == tmp_path / "yengikand2023" / "made-00000000.json"
    read = records.read(path)
    assert read.model_copy(update={"probabilities": None}) == record
    probabilities, labels = records.read_probabilities(read, tmp_path)
    np.testing.assert_array_equal(probabilities, PROBABILITIES)
    np.testing.assert_array_equal(labels, LABELS)
    assert (probabilities.dtype, labels.dtype) == (np.float32, np.int64)
    assert set(files(tmp_path)) == {"made-00000000.json", "made-00000000.npz"}


def test_a_record_may_come_without_probabilities(make_record, tmp_path):
    path = records.write(make_record(), None, None, tmp_path)
    assert records.read(path).probabilities is None
    assert set(files(tmp_path)) == {"made-00000000.json"}


def test_the_file_is_plain_json_for_people_and_programs(make_record, tmp_path):
    path = records.write(make_record(), None, None, tmp_path)
    text = path.read_text()
    assert text.endswith("}\n")
    assert json.loads(text)["history"]["val_accuracy"] == [0.5, 1 / 3]


def test_all_records_of_a_paper_are_read_in_the_order_of_their_names(make_record, tmp_path):
    for run in ("b-2", "a-1", "c-3"):
        records.write(make_record(run), None, None, tmp_path)
    records.write(make_record("d-4", paper="other2024"), None, None, tmp_path)
    (tmp_path / "yengikand2023" / ".c-4.json.17.part").write_text("{")  # of a run that was killed
    found = records.read_all("yengikand2023", tmp_path)
    assert [record.run for record in found] == ["a-1", "b-2", "c-3"]
    assert records.read_all("nothing2025", tmp_path) == []


def test_a_record_cannot_be_changed_and_takes_no_unknown_field(make_record):
    record = make_record()
    with pytest.raises(ValidationError, match="frozen"):
        record.seed = 1
    with pytest.raises(ValidationError, match="acuracy"):
        records.RunRecord.model_validate({**record.model_dump(), "acuracy": 0.9})


# ---- append-only -------------------------------------------------------------------------------


def test_what_a_smoke_run_of_an_earlier_version_left_makes_way(make_record, tmp_path):
    smoke = partial(make_record, data="synthetic", profile="smoke")
    path = records.write(smoke(), None, None, tmp_path)
    before = path.read_bytes()
    path.write_bytes(before.replace(b'"persons": null', b'"persons": {"images": [40]}'))
    with pytest.raises(RecordError, match="not a run record"):
        records.read(path)
    assert records.write(smoke(), None, None, tmp_path) == path
    assert records.read(path) == smoke()
    with pytest.raises(RecordError, match="exists with other metrics"):
        records.write(smoke(correct=20), None, None, tmp_path)


def test_another_outcome_under_the_same_name_is_refused_and_the_first_stays(make_record, tmp_path):
    records.write(make_record(correct=30), PROBABILITIES, LABELS, tmp_path)
    before = files(tmp_path)
    with pytest.raises(RecordError, match=r"made-00000000\.json exists .* never overwritten"):
        records.write(make_record(correct=31), PROBABILITIES[::-1], LABELS, tmp_path)
    assert files(tmp_path) == before


def test_the_same_outcome_again_leaves_the_first_record_as_it_is(make_record, tmp_path):
    path = records.write(make_record(), PROBABILITIES, LABELS, tmp_path)
    before = files(tmp_path)
    again = make_record().model_copy(update={"timings": {"training": 99.0}})
    assert records.write(again, PROBABILITIES, LABELS, tmp_path) == path
    assert files(tmp_path) == before


def write_many(barrier, won, record, runs, folder):
    barrier.wait()
    for run in runs:
        try:
            named = record.model_copy(update={"run": run})
            records.write(named, PROBABILITIES, LABELS, folder)
            won.put((run, record.metrics["test"]["correct"]))
        except RecordError:
            pass


def test_of_two_processes_that_write_the_same_records_one_wins_each(make_record, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(2), context.Queue()
    runs = [f"run-{number:02}" for number in range(20)]
    workers = [
        context.Process(
            target=write_many, args=(barrier, won, make_record(correct=correct), runs, tmp_path)
        )
        for correct in (30, 31)
    ]
    for worker in workers:
        worker.start()
    winners = [won.get(timeout=300) for _ in runs]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert sorted(run for run, _ in winners) == runs
    assert won.empty()
    found = {record.run: record for record in records.read_all("yengikand2023", tmp_path)}
    assert {name: found[name].metrics["test"]["correct"] for name in found} == dict(winners)
    for record in found.values():
        records.read_probabilities(record, tmp_path)
    assert len(files(tmp_path)) == 2 * len(runs)


def write_slowly(passed_check, other_is_done, record, folder):
    """Lets another process write the same record while this one packs its probabilities."""
    pack = np.savez_compressed

    def slowly(*arguments, **arrays):
        passed_check.set()
        other_is_done.wait(2)
        pack(*arguments, **arrays)

    np.savez_compressed = slowly
    with suppress(RecordError):
        records.write(record, PROBABILITIES[::-1], LABELS, folder)


def test_the_loser_of_a_race_leaves_the_winner_s_probabilities_alone(make_record, tmp_path):
    context = multiprocessing.get_context("spawn")
    passed_check, other_is_done = context.Event(), context.Event()
    slow = context.Process(
        target=write_slowly, args=(passed_check, other_is_done, make_record(correct=31), tmp_path)
    )
    slow.start()
    assert passed_check.wait(300)
    with suppress(RecordError):
        records.write(make_record(correct=30), PROBABILITIES, LABELS, tmp_path)
    other_is_done.set()
    slow.join()
    assert slow.exitcode == 0
    (record,) = records.read_all("yengikand2023", tmp_path)
    probabilities, _ = records.read_probabilities(record, tmp_path)
    expected = PROBABILITIES if record.metrics["test"]["correct"] == 30 else PROBABILITIES[::-1]
    np.testing.assert_array_equal(probabilities, expected)


@pytest.mark.parametrize("step", ["replace", "link", "fsync"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_no_record_and_can_be_repeated(
    make_record, tmp_path, monkeypatch, step, failure
):
    def fail(*arguments):
        raise failure

    with monkeypatch.context() as broken:
        broken.setattr(os, step, fail)
        with pytest.raises(type(failure)):
            records.write(make_record(), PROBABILITIES, LABELS, tmp_path)
    left = set(files(tmp_path))
    assert left <= {"made-00000000.npz"}  # complete, and without a record that names it
    assert records.read_all("yengikand2023", tmp_path) == []
    path = records.write(make_record(), PROBABILITIES, LABELS, tmp_path)
    records.read_probabilities(records.read(path), tmp_path)


# ---- profiles ----------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder that stands for results/."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


@pytest.mark.parametrize("profile", ["smoke", "trial"])
@pytest.mark.parametrize("way", ["results", "results/deeper", "away/../results", "link", "real"])
def test_smoke_and_trial_runs_cannot_be_written_into_results_by_any_way(
    make_record, results, profile, way, tmp_path
):
    (tmp_path / "real").mkdir()
    (tmp_path / "away").mkdir()
    results.symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "link").symlink_to(results, target_is_directory=True)
    with pytest.raises(RecordError, match=f"a {profile} run may not be written into results/"):
        records.write(make_record(profile=profile), None, None, tmp_path / way)
    assert list((tmp_path / "real").iterdir()) == []


def test_a_full_run_is_written_into_results(make_record, results):
    assert records.write(make_record(profile="full"), None, None, results).is_file()


@pytest.mark.parametrize("profile", ["smoke", "trial", "full"])
def test_any_run_is_written_elsewhere(make_record, results, tmp_path, profile):
    assert records.write(make_record(profile=profile), None, None, tmp_path / "work").is_file()


@pytest.mark.parametrize("profile", ["trial", "full"])
def test_a_run_on_synthetic_faces_is_a_smoke_run_and_nothing_else(make_record, profile):
    with pytest.raises(ValidationError, match="a run on synthetic faces is a smoke run"):
        make_record(data="synthetic", profile=profile)
    assert make_record(data="synthetic", profile="smoke").profile == "smoke"


# ---- damage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"seed": 0', '"seed": "zero"'),
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: text.replace('"name": "fer2013"', '"name": "synthetic"'),
    ],
    ids=["cut short", "empty", "a list", "wrong type", "another format", "against a rule"],
)
def test_a_damaged_record_is_refused_in_one_line_that_names_the_file(make_record, tmp_path, damage):
    path = records.write(make_record(), None, None, tmp_path)
    whole = path.read_text()
    path.write_text(damage(whole))
    assert path.read_text() != whole
    for read in (lambda: records.read(path), lambda: records.read_all("yengikand2023", tmp_path)):
        with pytest.raises(RecordError) as caught:
            read()
        assert str(caught.value).startswith(f"{path}: not a run record")
        assert "\n" not in str(caught.value)


def scores(**changes):
    """A record with other scores of the test part."""
    return lambda told: told["metrics"]["test"].update(changes)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (scores(confusion_matrix=[[30, 10]]), "test: confusion_matrix: not 2 rows of 2 numbers"),
        (scores(confusion_matrix=[[30], [10]]), "test: confusion_matrix: not 2 rows of 2 numbers"),
        (scores(confusion_matrix=None), "test: confusion_matrix: not 2 rows of 2 numbers"),
        (scores(confusion_matrix=[[30, 10.5], [0, 0]]), "not whole numbers of images"),
        (scores(confusion_matrix=[[30, 11], [-1, 0]]), "not whole numbers of images"),
        (scores(confusion_matrix=[[30, 11], [0, 0]]), "confusion_matrix: 41 images, n is 40"),
        (scores(n="40"), "confusion_matrix: 40 images, n is 40"),
        (scores(n=0, confusion_matrix=[[0, 0], [0, 0]]), "confusion_matrix: 0 images, n is 0"),
        (scores(correct=31), "correct is 31, confusion_matrix has 30 right"),
        (scores(accuracy=0.76), "accuracy is 0.76, 30 of 40 are right"),
        (scores(accuracy=75.0), "accuracy is 75.0, 30 of 40 are right"),
        (scores(accuracy=float("nan")), "accuracy is nan, 30 of 40 are right"),
        (scores(macro_f1=1.2), "macro_f1 is 1.2"),
        (scores(log_loss=float("inf")), "log_loss is inf"),
        (lambda told: told["metrics"].pop("val"), "metrics: no val part"),
        (lambda told: told["metrics"].update(test_any={}), "metrics.test_any: confusion_matrix"),
        (
            lambda told: told["split"]["sizes"].update(test=41),
            "metrics.test: 40 images, 41 in the split",
        ),
        (
            lambda told: told["split"]["sizes"].pop("val"),
            "metrics.val: 40 images, None in the split",
        ),
        (lambda told: told["history"]["loss"].append(1.0), "not the same epochs in all lists: 3"),
        (lambda told: told["history"].pop("loss"), "history: no loss"),
        (lambda told: told["history"].update(loss=[1.0, float("nan")]), "history.loss.1: Input"),
        (lambda told: told["history"].update(seconds=[1.0, -1.0]), "history.seconds: an epoch"),
        (lambda told: told["timings"].update(training=-1.0), "timings.training: Input should be"),
        (lambda told: told["persons"].update(images=[20, 19]), "persons: other images or right"),
        (lambda told: told["persons"].update(correct=[20, 11]), "persons: other images or right"),
        (
            lambda told: told["persons"].pop("correct"),
            "persons: not a number, images and right ones",
        ),
        (
            lambda told: told["persons"].pop("numbers"),
            "persons: not a number, images and right ones",
        ),
        (lambda told: told["persons"].update(numbers=[4, 4]), "persons: not a number, images and"),
        (lambda told: told["persons"].update(correct=[21, 9]), "persons: more right than there"),
        (lambda told: told["persons"].update(correct=[30]), "persons: not a number, images and"),
        (
            lambda told: told["persons"].update(images=[40, 0], correct=[30, 0]),
            "persons: one without images",
        ),
    ],
)
def test_a_record_whose_figures_cannot_be_is_refused_and_says_which(
    make_record, tmp_path, change, why
):
    made = make_record(persons={"numbers": [4, 9], "images": [20, 20], "correct": [20, 10]})
    path = records.write(made, None, None, tmp_path)
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    with pytest.raises(RecordError, match=re.escape(why)) as caught:
        records.read(path)
    assert str(caught.value).startswith(f"{path}: not a run record (")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("copy", ["yengikand2023/made-1.json", "wang2023/made-0.json"])
def test_a_copy_of_a_record_is_refused_by_name(make_record, tmp_path, copy):
    first, second = records.write(make_record("made-0"), None, None, tmp_path), tmp_path / copy
    second.parent.mkdir(exist_ok=True)
    shutil.copy(first, second)
    told = rf"{copy}: a copy, which .* belongs at yengikand2023/made-0\.json"
    for read_all in (records.read_all, recorded):
        with pytest.raises(RecordError, match=told):
            read_all(second.parent.name, tmp_path)
    assert records.read(first).run == "made-0"


def test_a_missing_record_is_refused_by_name(tmp_path):
    with pytest.raises(RecordError, match=r"none\.json: No such file"):
        records.read(tmp_path / "none.json")


def test_probabilities_of_another_run_or_missing_ones_are_refused_by_name(make_record, tmp_path):
    path = records.write(make_record("one"), PROBABILITIES, LABELS, tmp_path)
    other = records.write(make_record("two"), PROBABILITIES[::-1], LABELS, tmp_path)
    record, beside = records.read(path), path.with_suffix(".npz")
    os.replace(other.with_suffix(".npz"), beside)
    with pytest.raises(RecordError, match=r"one\.npz: not the file that the record one was"):
        records.read_probabilities(record, tmp_path)
    beside.unlink()
    with pytest.raises(RecordError, match=r"one\.npz: No such file"):
        records.read_probabilities(record, tmp_path)


# ---- names and hashes --------------------------------------------------------------------------

MADE_OF = {"label": "fer2013-seed0", "parameters": {"epochs": 20, "dropout": 0.1}}
HASHES = {"data": "a" * 64, "split": "b" * 64, "code": "c" * 64}


@pytest.mark.parametrize(
    "changed",
    [
        {"label": "fer2013-seed1"},
        {"parameters": {"epochs": 21, "dropout": 0.1}},
        {"parameters": {"epochs": 20, "dropout": 0.1, "batch_size": 32}},
        {"parameters": {"epochs": 20}},
        {"data": "d" * 64},
        {"split": "d" * 64},
        {"code": "d" * 64},
        {"data": HASHES["split"], "split": HASHES["data"]},
    ],
)
def test_the_name_of_a_run_changes_with_whatever_makes_it(changed):
    assert records.run_name(**MADE_OF, **HASHES) != records.run_name(
        **{**MADE_OF, **HASHES, **changed}
    )


def test_the_name_of_a_run_is_its_label_and_eight_digits_whatever_the_order_of_parameters():
    name = records.run_name(**MADE_OF, **HASHES)
    label, _, digits = name.rpartition("-")
    assert label == "fer2013-seed0"
    assert len(digits) == 8
    assert int(digits, 16) >= 0
    turned = dict(reversed(MADE_OF["parameters"].items()))
    assert records.run_name("fer2013-seed0", turned, **HASHES) == name


def test_a_record_is_stale_when_its_code_has_changed_or_is_gone(make_record):
    fresh, old = make_record("fresh"), make_record("old", stale=True, dropout=0.2)
    code = fresh.code.model_copy(update={"entry_points": ("fer_utils.metrics:gone",)})
    gone = make_record("gone").model_copy(update={"code": code})
    assert records.stale([fresh, old, gone]) == {"old", "gone"}
    assert records.stale([]) == set()


def test_a_run_repeated_with_the_same_numbers_shows_that_a_change_moved_none(make_record):
    old = make_record("old", stale=True, dropout=0.2)
    sibling = make_record("sibling", stale=True, dropout=0.3)
    again = make_record("again", dropout=0.2)
    assert records.stale([old, sibling]) == {"old", "sibling"}
    assert records.stale([old, sibling, again]) == set()


@pytest.mark.parametrize("changes", [{"correct": 31}, {"dropout": 0.1}, {"seed": 1}])
def test_another_number_or_another_run_shows_nothing(make_record, changes):
    old = make_record("old", stale=True, dropout=0.2)
    other = make_record("other", **{"dropout": 0.2, **changes})
    assert records.stale([old, other]) == {"old"}


def test_changes_shown_one_after_the_other_add_up(make_record):
    def made(run, sha256, **parameters):
        record = make_record(run, **parameters)
        return record.model_copy(update={"code": record.code.model_copy(update={"sha256": sha256})})

    first, second = made("a", "1" * 64, dropout=0.1), made("b", "2" * 64, dropout=0.1)
    third, now = made("c", "2" * 64, dropout=0.2), make_record("d", dropout=0.2)
    assert records.stale([first, second]) == {"a", "b"}
    assert records.stale([first, second, third, now]) == set()
    assert records.stale([first, third, now]) == {"a"}


def test_a_record_is_stale_when_its_data_are_no_longer_the_manifests(make_record, monkeypatch):
    from types import SimpleNamespace

    made = make_record("made")
    run = made.model_copy(update={"data": made.data.model_copy(update={"sha256": "b" * 64})})
    whole = run.data.model_copy(update={"loaded": "d" * 64})
    cropped = run.model_copy(update={"run": "cropped", "data": whole})
    for arrays, expected in (
        ((), set()),
        (("b" * 64, "d" * 64), set()),
        (("d" * 64,), {"made"}),
        (("e" * 64,), {"made", "cropped"}),
    ):
        manifest = SimpleNamespace(arrays=arrays)
        monkeypatch.setattr(records, "load_manifest", lambda name, found=manifest: found)
        assert records.stale([run, cropped]) == expected


def test_a_repeated_run_counts_once_as_it_was_made_last(make_record):
    def at(time, run, **parameters):
        return make_record(run, **parameters).model_copy(update={"created": time})

    first = at("2026-01-01T00:00:00+00:00", "a", dropout=0.1)
    again = at("2026-01-02T00:00:00+00:00", "b", dropout=0.1)
    other = at("2026-01-01T00:00:00+00:00", "c", dropout=0.2)
    seed = at("2026-01-01T00:00:00+00:00", "d", dropout=0.1, seed=1)
    assert [run.run for run in records.latest([again, other, first, seed])] == ["b", "c", "d"]
    split = again.split.model_copy(update={"sha256": "d" * 64})
    moved = again.model_copy(update={"run": "e", "split": split, "created": "2026-01-03"})
    assert [run.run for run in records.latest([again, moved, other])] == ["e", "c"]


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ({"pretraining": "fer-seed0-00000001"}, {"pretraining": "fer-seed0-00000002"}),
        ({"members": ["a-00000001", "b-00000001"]}, {"members": ["a-00000002", "b-00000003"]}),
    ],
)
def test_a_run_from_weights_that_were_made_again_is_a_repeated_one(make_record, first, again):
    """Its record names theirs, with their hashes: both counted, or the earlier one stayed stale."""
    one = make_record("a", **first).model_copy(update={"created": "2026-01-01T00:00:00+00:00"})
    two = make_record("b", **again).model_copy(update={"created": "2026-01-02T00:00:00+00:00"})
    assert [run.run for run in records.latest([one, two])] == ["b"]
    other = make_record("c", pretraining="none")
    assert [run.run for run in records.latest([two, other])] == ["b", "c"]
    assert len(records.repeated([one, two])) == 2, "other weights may give other numbers"


def test_a_record_made_under_a_clock_that_was_ahead_is_not_the_latest(make_record):
    ahead, again = (
        make_record(name).model_copy(update={"created": created})
        for name, created in (("a", "2999-01-01T00:00:00+00:00"), ("b", records.now()))
    )
    assert [run.run for run in records.latest([ahead, again])] == ["b"]
    assert [run.run for run in records.latest([ahead])] == ["a"]


def test_a_chapter_that_ends_leaves_a_sign_that_names_its_run(make_record, tmp_path):
    records.finish(make_record(), tmp_path / "made.json", tmp_path / "new" / "folder")
    sign = json.loads((tmp_path / "new" / "folder" / "yengikand2023.done.json").read_text())
    assert sign == {"run": "made-00000000", "record": str(tmp_path / "made.json")}


# ---- the committed ones ------------------------------------------------------------------------


def committed():
    return [run for paper in published_papers() for run in records.read_all(paper)]


def test_no_two_choices_are_one_training():
    """A parameter that reaches nothing shows itself: two of its values learn the very same, and
    keep the same epoch of it.
    """
    seen = {}
    for run in committed():
        if losses := (*run.history["loss"], *run.history["val_accuracy"]):
            other = seen.setdefault((run.paper, losses, run.selection.epoch), run)
            assert other.parameters == run.parameters, (other.run, run.run)
    assert seen


def test_every_figure_of_the_test_part_is_that_of_the_probabilities_beside_it():
    for run in committed():
        probabilities, labels = records.read_probabilities(run)
        found = metrics.score(labels, probabilities, run.data.classes)
        kept, told = (
            json.loads(json.dumps(one), parse_float=lambda text: round(float(text), 9))
            for one in (run.metrics["test"], found)
        )
        assert kept == told, run.run
