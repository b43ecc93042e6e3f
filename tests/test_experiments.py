"""A run leaves a record that says what was done, and probabilities that bear its numbers out."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import trees

from fer_utils import datasets, experiments, locks, metrics, provenance, records
from fer_utils.complexity import multiply_accumulates
from fer_utils.experiments import label, load_parts, plan, profile_of
from fer_utils.manifests import DataError, DataMissing, load_manifest
from fer_utils.models import yengikand2023
from fer_utils.parameters import ChapterParameters, ParameterError
from fer_utils.preprocessing import flip_and_shift
from fer_utils.splits import Split
from fer_utils.training import checkpoints, keras_loop

ENTRY_POINTS = ("fer_utils.models.yengikand2023:build", "fer_utils.metrics:score")
PARAMETERS = {
    "dataset": "ck48",
    "protocol": "stratified",
    "fold": None,
    "dropout": 0.1,
    "epochs": 2,
    "batch_size": 8,
    "select": "val_accuracy",
    "seed": 3,
}
SPLIT = Split(
    "by hand",
    train=np.arange(40),
    val=np.arange(40, 52),
    test=np.arange(52, 64),
    seed=7,
    description="the first rows train",
)


def build():
    return yengikand2023.compile_model(yengikand2023.build(3, dropout=0.1, widths=(2, 2, 4)))


def run(data, work, **changes):
    what = {
        "paper": "yengikand2023",
        "profile": "trial",
        "parameters": PARAMETERS,
        "split": SPLIT,
        "build": build,
        "entry_points": ENTRY_POINTS,
        "augment": flip_and_shift,
        "loop": keras_loop,
        "named": ("dropout",),
    }
    return experiments.run(data=data, work=work, **{**what, **changes})


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def done(faces, work):
    return run(faces, work)


def test_the_record_says_what_was_run(done):
    record = done.record
    assert (record.paper, record.profile, record.seed) == ("yengikand2023", "trial", 3)
    assert record.parameters == PARAMETERS
    assert record.run.startswith("ck48-stratified-dropout0.1-seed3-")
    assert record.created.endswith("+00:00")


def test_the_record_says_on_which_data_and_rows(done, faces):
    record = done.record
    assert record.data.name == "ck48"
    assert record.data.images == 64
    assert record.data.classes == ("anger", "happiness", "neutral")
    assert record.data.sources == faces.hashes
    assert record.data.sha256 == datasets.array_hash(faces.images, faces.labels)
    assert (record.split.name, record.split.seed) == ("by hand", 7)
    assert record.split.description == "the first rows train"
    assert record.split.sizes == {"train": 40, "val": 12, "test": 12}
    assert record.split.sha256 == datasets.array_hash(SPLIT.train, SPLIT.val, SPLIT.test)


def test_the_record_says_with_which_code_libraries_and_device(done):
    record = done.record
    assert record.code.entry_points == ENTRY_POINTS
    assert record.code.sha256 == provenance.code_hash(ENTRY_POINTS)
    as_in_the_manifest = record.data.model_copy(update={"loaded": load_manifest("ck48").arrays[0]})
    assert records.stale([record.model_copy(update={"data": as_in_the_manifest})]) == set()
    assert record.code.model_dump(include={"commit", "modified"}) == provenance.commit()
    assert record.versions == provenance.versions()
    assert record.device == {**provenance.device(), "threads": 0}


def test_the_record_has_the_size_of_the_model(done):
    assert record_size(done) == (done.model.count_params(), multiply_accumulates(done.model))


def record_size(done):
    return done.record.model.parameters, done.record.model.multiply_accumulates


def test_the_record_has_the_history_the_choice_and_the_seconds(done):
    record = done.record
    assert {len(values) for values in record.history.values()} == {2}
    assert set(record.history) == set(checkpoints.FIGURES)
    assert record.selection.rule == "highest accuracy on the validation part"
    assert record.selection.epoch == 1 + int(np.argmax(record.history["val_accuracy"]))
    chosen = record.history["val_accuracy"][record.selection.epoch - 1]
    assert record.metrics["val"]["accuracy"] == pytest.approx(chosen)
    assert record.timings["training"] == pytest.approx(sum(record.history["seconds"]))
    assert record.timings["epoch"] == pytest.approx(np.median(record.history["seconds"]))
    assert record.timings["this_call"] > 0
    assert record.timings["prediction"] > 0


def test_the_record_s_metrics_are_those_of_its_probabilities(done, faces):
    assert done.probabilities.shape == (12, 3)
    np.testing.assert_array_equal(done.labels, faces.labels[SPLIT.test])
    scored = metrics.score(done.labels, done.probabilities, faces.class_names)
    assert done.record.metrics["test"] == scored
    assert done.record.metrics["val"]["n"] == 12
    assert set(scored["per_class"]) == set(faces.class_names)
    assert np.sum(scored["confusion_matrix"]) == 12


def test_the_model_is_the_one_that_was_scored(done, faces):
    probabilities = np.asarray(done.model(faces.images[SPLIT.test], training=False))
    np.testing.assert_allclose(probabilities, done.probabilities, atol=1e-6)


def test_the_written_record_and_its_probabilities_bear_each_other_out(done, tmp_path):
    path = records.write(done.record, done.probabilities, done.labels, tmp_path)
    record = records.read(path)
    probabilities, labels = records.read_probabilities(record, tmp_path)
    right = probabilities.argmax(axis=1) == labels
    assert right.mean() == record.metrics["test"]["accuracy"]
    assert record.history == done.record.history


def test_the_same_run_again_trains_nothing_and_gives_the_same_numbers(done, faces, work):
    def never(images, rng):
        raise AssertionError

    again = run(faces, work, augment=never)
    assert again.record.run == done.record.run
    assert again.record.metrics == done.record.metrics
    assert again.record.history == done.record.history
    np.testing.assert_array_equal(again.probabilities, done.probabilities)


def test_the_test_part_moves_neither_training_nor_choice(done, faces, work):
    """Other pictures under other labels in the test part: only its own figures change."""
    images, labels = faces.images.copy(), faces.labels.copy()
    images[SPLIT.test] = 255 - images[SPLIT.test]
    labels[SPLIT.test] = (labels[SPLIT.test] + 1) % 3
    other = run(replace(faces, images=images, labels=labels), work)
    assert other.record.run != done.record.run, "the checkpoints of other data were picked up"
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert other.record.history[name] == done.record.history[name]
    assert other.record.selection == done.record.selection
    assert other.record.metrics["val"] == done.record.metrics["val"]
    assert other.record.metrics["test"] != done.record.metrics["test"]


class Stopped(Exception):
    pass


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": {**PARAMETERS, "dropout": 0.2}},
        {"parameters": {**PARAMETERS, "seed": 4}},
        {"parameters": {**PARAMETERS, "pretraining": "another run"}},
        {"entry_points": ENTRY_POINTS[:1]},
        {"split": replace(SPLIT, val=SPLIT.test, test=SPLIT.val)},
    ],
)
def test_a_run_made_otherwise_picks_up_no_checkpoint_of_this_one(done, faces, work, changes):
    def trains(images, rng):
        raise Stopped

    with pytest.raises(Stopped):
        run(faces, work, augment=trains, **changes)


def test_a_paper_that_is_not_on_file_stops_before_training(faces, tmp_path):
    with pytest.raises(ValueError, match=r"^paper = 'smith204': one of .*yengikand2023$"):
        run(faces, tmp_path / "work", paper="smith204")
    assert not (tmp_path / "work").exists()


def test_an_entry_point_that_does_not_exist_stops_before_training(faces, tmp_path):
    with pytest.raises(ValueError, match="no such definition"):
        run(faces, tmp_path / "work", entry_points=("fer_utils.metrics:scores",))
    assert not (tmp_path / "work").exists()


def test_a_network_that_predicts_no_numbers_has_no_accuracy(faces, tmp_path):
    def nothing(model, images):
        return np.full((len(images), 3), np.nan, np.float32)

    with pytest.raises(ValueError, match="predicts no probabilities; its training has diverged"):
        run(faces, tmp_path, parameters={**PARAMETERS, "epochs": 1}, predict=nothing)


def test_a_run_whose_loss_ends_as_no_number_has_diverged_whatever_it_predicts(
    faces, tmp_path, monkeypatch
):
    whole_fit = keras_loop.fit

    def fit(*args, **more):
        done = whole_fit(*args, **more)
        return replace(done, history=done.history | {"loss": [*done.history["loss"][:-1], np.nan]})

    monkeypatch.setattr(keras_loop, "fit", fit)
    with pytest.raises(ValueError, match="its losses are no numbers; its training has diverged"):
        run(faces, tmp_path, parameters={**PARAMETERS, "epochs": 1})


def test_further_parts_are_scored_where_asked_for(faces, tmp_path):
    def first_half(train):
        return train.subset(np.arange(20))

    done = run(
        faces,
        tmp_path,
        parameters={**PARAMETERS, "epochs": 1},
        prepare_train=first_half,
        score_also=("train", "trained_on"),
    )
    sizes = {part: score["n"] for part, score in done.record.metrics.items()}
    assert sizes == {"val": 12, "test": 12, "train": 40, "trained_on": 20}
    assert done.record.split.trained_on == 20
    assert done.record.split.sizes["train"] == 40


@pytest.mark.slow
def test_more_epochs_go_on_from_a_finished_run_of_fewer(faces, tmp_path):
    run(faces, tmp_path, parameters={**PARAMETERS, "epochs": 1})
    longer = run(faces, tmp_path, shorter=(1,), augment=no_more_than_one_epoch()).record
    whole = run(faces, tmp_path / "apart").record
    assert longer.run == whole.run
    assert longer.metrics == whole.metrics


@pytest.mark.slow
def test_epochs_of_other_libraries_are_made_anew(faces, tmp_path, monkeypatch, capsys):
    first = run(faces, tmp_path)
    monkeypatch.setattr(provenance, "versions", lambda: {**first.record.versions, "keras": "0.1"})
    calls = []

    def counted(images, rng):
        calls.append(len(images))
        return flip_and_shift(images, rng)

    again = run(faces, tmp_path, augment=counted)
    keras_now = first.record.versions["keras"]
    assert f"its checkpoints are of keras {keras_now}, now 0.1." in capsys.readouterr().out
    assert len(calls) == 2
    assert again.record.metrics == first.record.metrics
    assert again.record.versions["keras"] == "0.1"


def test_a_framework_that_moves_no_number_leaves_the_checkpoints(faces, tmp_path, monkeypatch):
    def never(images, rng):
        raise AssertionError

    first = run(faces, tmp_path)
    monkeypatch.setattr(provenance, "versions", lambda: {**first.record.versions, "torch": "0.1"})
    assert run(faces, tmp_path, augment=never).record.metrics == first.record.metrics


@pytest.mark.slow
def test_two_that_train_the_same_wait_for_each_other(faces, tmp_path, capfd):
    name = run(faces, tmp_path / "apart").record.run
    (tmp_path / name).mkdir()
    with ThreadPoolExecutor() as pool, locks.alone_in(tmp_path / name):
        other = pool.submit(run, faces, tmp_path)
        while "Waiting for another process" not in capfd.readouterr().out:
            assert not other.done()
            time.sleep(0.05)
        assert not (tmp_path / name / "state.json").exists()
    assert other.result().record.run == name
    assert (tmp_path / name / "state.json").exists()


def test_an_epoch_chosen_on_the_test_part_is_a_contrast_and_says_so(faces, tmp_path):
    with pytest.raises(ValueError, match="contrast"):
        run(faces, tmp_path, choose_on="test")
    named = {**PARAMETERS, "contrast": "epoch chosen on the test part"}
    record = run(faces, tmp_path, choose_on="test", parameters=named).record
    assert record.selection.rule == "highest accuracy on the test part"
    assert record.metrics["test"]["accuracy"] == pytest.approx(max(record.history["val_accuracy"]))


def no_more_than_one_epoch():
    """`flip_and_shift`, once."""
    calls = iter([flip_and_shift])
    return lambda images, rng: next(calls)(images, rng)


# ---- devices -----------------------------------------------------------------------------------

GPU = {"kind": "gpu", "gpu": "a fast one", "model": "a processor", "cores": 16}
CORE = {"kind": "cpu", "model": "a processor", "cores": 2}


@pytest.fixture
def train_on(faces, tmp_path, monkeypatch):
    """A function that trains on a device, without computing, and may be stopped; the record."""

    def train_on(device, epochs=2, *, stop_after=None, **changes):
        def fit(model, train, val, *, epochs, folder, **_):
            run = {"epochs": epochs}
            start = {"run": run, "epoch": 0, "history": {}, "best": ""}
            state = checkpoints.load_state(folder, run) or start
            for epoch in range(state["epoch"] + 1, epochs + 1):
                if stop_after in (0, epoch - 1):
                    raise Stopped
                history = {figure: [1.0] * epoch for figure in checkpoints.FIGURES}
                state = {**state, "epoch": epoch, "history": history}
                state = checkpoints.save_state(folder, state, Path.touch, best=True, suffix=".none")
            return keras_loop.Fit(checkpoints.history_of(state), epochs, "last epoch")

        loop = SimpleNamespace(
            FRAMEWORK="Keras",
            prepare=lambda seed, threads: None,
            fit=fit,
            predict=lambda model, images: np.full((len(images), 3), 1 / 3, np.float32),
            size=lambda model, images: (1, 1),
        )
        monkeypatch.setattr(provenance, "device", lambda: device)
        changes = {"parameters": {**PARAMETERS, "epochs": epochs}, "threads": 1, **changes}
        return run(faces, tmp_path, loop=loop, build=lambda: None, **changes).record

    return train_on


def test_a_run_that_went_on_elsewhere_names_both_devices(train_on, tmp_path):
    with pytest.raises(Stopped):
        train_on(GPU, stop_after=1)
    with pytest.raises(Stopped):
        train_on({**CORE, "model": "not at work"}, stop_after=0)
    record = train_on(CORE)
    both = [{**GPU, "threads": 1}, {**CORE, "threads": 1}]
    mixed = {"kind": "mixed", "model": "a fast one and a processor", "calls": both}
    assert record.device == mixed
    assert records.read(records.write(record, None, None, tmp_path)).device == mixed
    assert train_on(CORE, 3, shorter=(2,)).device == mixed


@pytest.mark.parametrize(
    ("device", "threads", "model"),
    [({**CORE, "model": "another"}, 1, "a processor and another"), (CORE, 0, "a processor")],
)
def test_a_run_that_went_on_on_another_processor_or_on_more_cores_says_so(
    train_on, device, threads, model
):
    with pytest.raises(Stopped):
        train_on(CORE, stop_after=1)
    both = [{**CORE, "threads": 1}, {**device, "threads": threads}]
    told = train_on(device, threads=threads).device
    assert told == {"kind": "cpu", "model": model, "calls": both}


def test_a_run_that_went_on_where_it_began_names_one_device(train_on):
    with pytest.raises(Stopped):
        train_on(CORE, stop_after=1)
    assert train_on(CORE).device == train_on(CORE).device == {**CORE, "threads": 1}


def test_epochs_that_were_dropped_have_no_device(train_on, monkeypatch):
    with pytest.raises(Stopped):
        train_on(GPU, stop_after=1)
    now = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: {**now, "keras": "0.1"})
    assert train_on(CORE).device == {**CORE, "threads": 1}


# ---- names and profiles ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "ck48-stratified-dropout0.1-seed3"),
        ({"protocol": "subject_kfold", "fold": 0}, "ck48-subject_kfold0-dropout0.1-seed3"),
        ({"convolution": "normal"}, "ck48-stratified-normal-dropout0.1-seed3"),
    ],
)
def test_a_run_is_called_by_what_tells_it_from_others(changes, expected):
    named = ("convolution", "dropout") if "convolution" in changes else ("dropout",)
    assert label({**PARAMETERS, **changes}, named) == expected


def test_a_name_shows_only_what_the_run_has():
    told = "named = 'widht': one of dataset, protocol, fold, dropout, epochs, .*, seed"
    with pytest.raises(ValueError, match=told):
        label(PARAMETERS, ("widht",))


@pytest.mark.parametrize(
    ("dataset", "as_published", "profile"),
    [
        ("synthetic", True, "smoke"),
        ("synthetic", False, "smoke"),
        ("fer2013", True, "full"),
        ("fer2013", False, "trial"),
    ],
)
def test_the_profile_follows_from_the_data_and_the_settings(dataset, as_published, profile):
    assert profile_of(dataset, as_published) == profile
    assert profile_of(dataset, as_published, profile) == profile
    for asked in {"smoke", "trial", "full"} - {profile}:
        with pytest.raises(ParameterError, match=f"'{asked}': .* it is a {profile} run"):
            profile_of(dataset, as_published, asked)


# ---- parts -------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Small CK+48 and FER2013, and a cache of their own."""
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "cache"))
    trees.fer2013(tmp_path / "root")
    return trees.ck48(tmp_path / "root", 70)


def parts(root, dataset, protocol, **options):
    return load_parts(dataset, protocol, seed=0, root=root, complete=False, **options)


def test_the_official_parts_are_those_of_the_source(root):
    data, split = parts(root, "fer2013", "official")
    assert (len(data), split.name) == (40, "official")
    assert split.sizes() == {"train": 32, "val": 4, "test": 4}


def test_a_split_by_image_is_drawn_by_the_seed(root):
    _, first = parts(root, "ck48", "stratified")
    _, other = load_parts("ck48", "stratified", seed=1, root=root, complete=False)
    assert first.sizes() == {"train": 168, "val": 21, "test": 21}
    assert first.test.tolist() != other.test.tolist()


def test_the_folds_of_whole_subjects_are_told_apart_by_number(root):
    found = [parts(root, "ck48", "subject_kfold", fold=fold) for fold in range(5)]
    tested = np.concatenate([split.test for _, split in found])
    assert sorted(tested) == list(range(210))
    for data, split in found:
        assert not set(data.subjects[split.train]) & set(data.subjects[split.test])


def test_each_subject_is_a_fold_of_its_own(root):
    data, split = parts(root, "ck48", "leave_one_subject_out", fold=34)
    assert set(data.subjects[split.test]) == {"S035"}


@pytest.mark.parametrize(
    ("protocol", "fold", "told"),
    [
        ("stratified", 0, "no folds"),
        ("stratified", 1, "no folds"),
        ("subject_kfold", None, "folds 0 to 4"),
        ("subject_kfold", 5, "folds 0 to 4"),
        ("leave_one_subject_out", 35, "folds 0 to 34"),
    ],
)
def test_a_fold_that_a_protocol_does_not_have_is_refused_with_those_it_has(
    root, protocol, fold, told
):
    with pytest.raises(ParameterError, match=told):
        parts(root, "ck48", protocol, fold=fold)


def test_official_parts_that_a_set_has_not_are_a_wrong_parameter(root):
    with pytest.raises(ParameterError, match="protocol = 'official': ck48 has no official parts"):
        parts(root, "ck48", "official")


def test_data_that_are_absent_are_told_as_such(tmp_path):
    with pytest.raises(DataMissing):
        load_parts("jaffe", "leave_one_subject_out", seed=0, fold=0, root=tmp_path)
    assert issubclass(DataMissing, DataError)


# ---- what a chapter is asked to run -------------------------------------------------------------

PAPER = {"fer2013": (20, 32), "ck48": (20, 64)}


class Chosen(ChapterParameters):
    dataset: str | None = None
    protocol: str | None = None
    fold: int | None = None
    images: int = 300


def planned(as_published=True, **told):
    return plan(
        Chosen(**told),
        PAPER,
        (8, 16),
        protocols={"ck48": "subject_kfold"},
        lengths=(30,),
        as_published=as_published,
    )


def test_what_is_not_told_is_the_papers_own():
    nothing = planned()
    assert (nothing.dataset, nothing.protocol, nothing.fold) == ("synthetic", "official", None)
    assert (nothing.epochs, nothing.batch_size, nothing.profile) == (8, 16, "smoke")
    first = planned(profile="full")
    assert (first.dataset, first.epochs, first.batch_size) == ("fer2013", 20, 32)
    folds = planned(dataset="ck48")
    assert (folds.protocol, folds.fold, folds.profile) == ("subject_kfold", 0, "full")
    assert planned(dataset="ck48", protocol="stratified").fold is None


@pytest.mark.parametrize(
    ("told", "profile"),
    [
        ({"epochs": 30}, "full"),  # the paper has that length too
        ({"epochs": 29}, "trial"),
        ({"batch_size": 64}, "trial"),
        ({"protocol": "official"}, "full"),
        ({"protocol": "stratified"}, "trial"),  # fer2013 has official parts
        ({"dataset": "ck48", "protocol": "stratified"}, "full"),  # ck48 has none
        ({"as_published": False}, "trial"),
        ({"epochs": 2, "profile": "reduced"}, "reduced"),
        ({"dataset": "ferplus", "epochs": 8, "batch_size": 16}, "trial"),  # not in the paper
    ],
)
def test_a_run_is_full_only_with_the_papers_own_settings(told, profile):
    assert planned(**{"dataset": "fer2013", **told}).profile == profile


def test_a_run_whose_record_would_not_be_kept_stops_before_it_is_trained():
    results = str(records.RESULTS)
    with pytest.raises(
        ParameterError, match="takes full and reduced runs, and this is a trial run"
    ):
        planned(dataset="fer2013", epochs=2, records_dir=results)
    for told in ({"epochs": 20}, {"epochs": 2, "profile": "reduced"}):
        assert planned(dataset="fer2013", records_dir=results, **told).profile in records.KEPT
    assert planned(records_dir="elsewhere").profile == "smoke"


def test_settings_name_every_choice_and_the_number_of_drawn_faces():
    settings = planned(dataset="ck48", fold=2, seed=5).settings(dropout=0.1)
    assert settings == {
        "dataset": "ck48",
        "protocol": "subject_kfold",
        "fold": 2,
        "dropout": 0.1,
        "epochs": 20,
        "batch_size": 64,
        "select": "val_accuracy",
        "seed": 5,
    }
    assert planned().settings()["images"] == 300


class Rated(Chosen):
    learning_rate: float = 0.01
    choose_on: str = "val"


def rated(**told):
    return plan(Rated(**told), PAPER, (8, 16))


def test_a_run_that_does_not_name_what_the_chapter_was_told_is_refused(monkeypatch):
    """It would be taken for a run with another value, which then trains nothing."""
    monkeypatch.setattr(experiments, "run", lambda **how: how["parameters"])

    def asked(plan, **own):
        return plan.run(None, None, parameters=plan.settings(**own))

    with pytest.raises(ValueError, match=r"^learning_rate = 0.1: .* give it to plan.settings$"):
        asked(rated(learning_rate=0.1))
    assert asked(rated(learning_rate=0.1), learning_rate=0.1)["learning_rate"] == 0.1
    assert "learning_rate" not in asked(rated())  # told nothing, it is the usual one
    # These move no number, or the run keeps them otherwise.
    folders = {"output_dir": "a", "records_dir": "b", "data_root": "c"}
    asked(rated(profile="smoke", threads=1, images=400, choose_on="test", **folders))
    asked(rated(dataset="fer2013", images=400))


def test_a_plan_loads_its_parts_as_the_paper_draws_them(tmp_path):
    drawn = planned(protocol="stratified", images=300)
    data, split = drawn.load_parts(like="ferplus", fractions=(0.7, 0.15, 0.15))
    assert data.class_names == load_manifest("ferplus").class_names
    assert [len(rows) for rows in split.parts().values()] == [210, 45, 45]
    assert len(drawn.load_data()) == 300
    with pytest.raises(DataMissing):
        planned(dataset="fer2013", data_root=str(tmp_path)).load_data()


def test_what_stands_beside_the_records_is_found_by_name(done, tmp_path):
    told = {"votes": {"fear": 3}}
    here = planned(records_dir=str(tmp_path))
    here.write(done)
    here.write_beside(done, "contradicted", told)
    here.write_beside(done, "contradicted", [1], "other")
    found = experiments.found_beside("yengikand2023", "contradicted", tmp_path)
    assert found == {done.record.run: told, "other": [1]}
    assert [run.run for run in records.read_all("yengikand2023", tmp_path)] == [done.record.run]
    assert experiments.found_beside("yengikand2023", "nothing", tmp_path) == {}


def test_the_same_predictions_are_scored_again_on_some_images(done):
    kept = np.arange(len(done.labels)) % 2 == 0
    again = experiments.scored_again(done, {"test_some": kept})
    right = (done.probabilities.argmax(axis=1) == done.labels)[kept]
    assert again.record.metrics["test_some"]["n"] == kept.sum()
    assert again.record.metrics["test_some"]["accuracy"] == pytest.approx(right.mean())
    assert again.record.metrics["test"] == done.record.metrics["test"]
    assert "test_some" not in done.record.metrics


def test_other_predictions_of_the_test_part_are_scored_besides(done):
    perfect = np.eye(3, dtype=np.float32)[done.labels]
    again = experiments.scored_besides(done, "test_other", perfect)
    assert again.record.metrics["test_other"]["accuracy"] == 1
    assert again.record.metrics["test"] == done.record.metrics["test"]
    assert again.probabilities is done.probabilities


def test_contradicted_predictions_are_the_surest_wrong_ones_with_their_votes(done):
    probabilities = np.array([[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0.4, 0, 0.6], [0, 0, 1]])
    labels = np.array([1, 0, 0, 2])  # the last one is right
    votes = np.zeros((10, 2), int)
    votes[[7, 4]] = [[0, 10], [3, 7]]
    made = replace(done, probabilities=probabilities, labels=labels)
    rows = np.array([7, 4, 2, 1])
    found = experiments.contradicted(made, rows, votes, ("anger", "unknown"), count=2)
    assert [told["row"] for told in found] == [7, 4]
    assert (found[0]["label"], found[0]["predicted"]) == ("happiness", "anger")
    assert [told["probability"] for told in found] == [0.9, 0.7]
    assert [told["votes"] for told in found] == [{"unknown": 10}, {"anger": 3, "unknown": 7}]
    every = experiments.contradicted(made, rows, votes, ("anger", "unknown"))
    assert [told["row"] for told in every] == [7, 4, 2]
