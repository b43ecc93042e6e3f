"""Every step compares the runs it says, and a step that no run shows is not there."""

import made_papers
import numpy as np
import pytest

from fer_utils import gaps, records
from fer_utils.data_report import ScoredPart, read
from fer_utils.manifests import published_papers


def with_parts(run, **scores):
    """The record with (correct, n) of further parts."""
    parts = {
        part: {
            "n": n,
            "correct": right,
            "accuracy": right / n,
            "elementwise_accuracy": right / n,
            "confusion_matrix": [[right, n - right], [0, 0]],
        }
        for part, (right, n) in scores.items()
    }
    return run.model_copy(update={"metrics": {**run.metrics, **parts}})


def test_runs_are_grouped_over_seeds_folds_and_the_weights_they_start_from(make_record):
    fields = {"protocol": "kfold", "dropout": 0.1}
    runs = [
        make_record("ck48-kfold0-a-seed0-1", **fields, fold=0, pretraining="x"),
        make_record("ck48-kfold1-a-seed1-2", **fields, fold=1, seed=1, pretraining="y"),
        make_record("ck48-kfold0-b-seed0-3", protocol="kfold", dropout=0.2, fold=0),
        make_record("ck48-kfold0-a-seed0-4", **fields, fold=0, paper="wang2023"),
    ]
    found = list(gaps.groups(runs))
    assert [[run.run[-1] for run in group] for _, group in found] == [["1", "2"], ["3"], ["4"]]
    assert [name for name, _ in found] == ["ck48-kfold-a", "ck48-kfold-b", "ck48-kfold-a"]
    assert gaps.seeds(found[0][1]) == 2


def test_groups_of_one_name_are_told_apart(make_record):
    runs = [
        make_record("fer2013-a-seed0-1", dropout=0.1, augmentation="flip"),
        make_record("fer2013-a-seed0-2", dropout=0.1, augmentation="none"),
    ]
    names = [name for name, _ in gaps.groups(runs)]
    assert names == ["fer2013-a, augmentation flip", "fer2013-a, augmentation none"]


def test_both_accuracies_are_of_the_same_predictions(make_predictions, tmp_path):
    """Unsure predictions of two expressions: what is wrong by top-1 is wrong in both outputs."""
    runs = [
        make_predictions(f"a-seed{seed}", np.arange(10) < 6 + seed, seed=seed) for seed in (0, 1)
    ]
    (step,) = gaps.which_accuracy(runs, tmp_path)
    assert (step.before, step.after) == (pytest.approx(65), pytest.approx(65))
    assert step.difference.mean == 0
    assert (step.seeds, step.images) == (2, 10)


def test_an_output_below_one_half_counts_for_the_expression_that_is_not_there(
    make_predictions, tmp_path
):
    """Right with a probability of .5: top-1 may be right, element-wise half of it."""
    run = make_predictions("a-seed0", np.ones(4), prediction=0.5)
    (step,) = gaps.which_accuracy([run], tmp_path)
    assert (step.before, step.after) == (100, 50)


def test_only_runs_that_scored_their_training_images_show_them(make_record):
    plain = make_record("a-seed0", correct=20, n=40)
    assert gaps.training_part([plain]) == []
    (step,) = gaps.training_part([with_parts(plain, train=(90, 100))])
    assert (step.before, step.after) == (50, 90)
    assert step.difference.mean == pytest.approx(40)


def test_images_that_nothing_balanced_are_no_balanced_ones(make_record):
    plain = with_parts(
        make_record("a-seed0", correct=20, n=40), train=(90, 100), trained_on=(95, 100)
    )

    def told(trained_on):
        split = plain.split.model_copy(update={"trained_on": trained_on})
        steps = gaps.training_part([plain.model_copy(update={"split": split})])
        return [(step.what, step.after) for step in steps]

    as_they_were = [("training images", 90)]
    assert told(None) == told(plain.split.sizes["train"]) == as_they_were
    assert told(60) == [*as_they_were, ("balanced training images", 95)]


def test_validation_stands_beside_the_test_part_only_where_it_chose_the_epoch(make_record):
    def told(rule=gaps.ON_VALIDATION, **fields):
        run = with_parts(make_record("a-seed0", correct=20, n=40, **fields), val=(30, 50))
        selection = run.selection.model_copy(update={"rule": rule})
        steps = gaps.validation_part([run.model_copy(update={"selection": selection})])
        return [(step.before, step.after) for step in steps]

    assert told() == [(50, 60)]
    assert told(rule="last epoch") == told(fold=0) == []


def test_the_rule_that_records_name_is_known():
    """Another wording in the loops would empty the table."""
    rules = {run.selection.rule for paper in published_papers() for run in records.read_all(paper)}
    assert gaps.ON_VALIDATION in rules


def test_an_epoch_chosen_on_the_test_part_is_held_against_its_twin(make_predictions, tmp_path):
    fields = {"fold": 0, "epochs": 20}
    wrong_way = {**fields, "contrast": gaps.CHOSEN_ON_TEST, "pretraining": "other"}
    right = make_predictions("a-seed0", np.arange(10) < 5, **fields)
    wrong = make_predictions("b-seed0", np.arange(10) < 7, **wrong_way)
    other = make_predictions("c-seed1", np.ones(10), seed=1, **wrong_way)
    (step,) = gaps.what_chose_the_epoch([right, wrong, other], tmp_path)
    assert (step.before, step.after, step.seeds) == (50, 70, 1)
    assert gaps.what_chose_the_epoch([wrong, other], tmp_path) == []


def test_only_seeds_whose_twins_have_every_fold_are_held_against_them(
    make_predictions, tmp_path, monkeypatch
):
    monkeypatch.setattr("fer_utils.estimates.number_of_folds", lambda protocol, dataset: 2)
    wrong_way = {"contrast": gaps.CHOSEN_ON_TEST}

    def runs(name, right, folds, **fields):
        return [
            make_predictions(
                f"{name}-{seed}-{fold}", np.arange(10) < right, seed=seed, fold=fold, **fields
            )
            for seed, fold in folds
        ]

    wrong = runs("w", 7, [(0, 0), (0, 1), (1, 0), (1, 1)], **wrong_way)
    (step,) = gaps.what_chose_the_epoch(
        [*wrong, *runs("a", 5, [(0, 0), (0, 1)]), *runs("b", 1, [(1, 0)])], tmp_path
    )
    assert (step.before, step.after, step.seeds) == (50, 70, 1)
    assert step.difference.mean == pytest.approx(20)
    assert gaps.what_chose_the_epoch([*wrong, *runs("c", 1, [(1, 0)])], tmp_path) == []


def test_a_rule_about_votes_is_held_against_all_test_images(make_record):
    run = make_record("a-seed0", correct=60, n=100, paper="wang2023")
    run = with_parts(run, test_any=(60, 100), test_majority=(56, 80))
    (step,) = gaps.which_labels([run])
    assert step.what == "majority"
    assert (step.before, step.after, step.images) == (60, pytest.approx(70), 80)
    assert step.among == 100
    assert step.difference.mean == pytest.approx(10)


def test_the_spread_of_seeds_is_a_standard_deviation_with_a_wide_interval(make_record):
    runs = [
        make_record(f"a-seed{seed}", correct=correct, n=100, seed=seed)
        for seed, correct in enumerate((58, 60, 62))
    ]
    (spread,) = gaps.over_seeds([*runs, make_record("b-seed0", epochs=3)])
    assert spread.values == pytest.approx((58, 60, 62))
    assert spread.deviation == pytest.approx(2)
    # chi-square with 2 degrees of freedom has its quantiles at -2 ln(1 - p)
    ends = [2 * np.sqrt(2 / (-2 * np.log(1 - share))) for share in (0.95, 0.05)]
    assert (spread.low, spread.high) == pytest.approx(ends)


def test_liberties_start_from_the_honest_number(make_predictions, tmp_path):
    fields = {"variant": "mobilenet"}
    assert gaps.towards_a_printed_number([], fields, tmp_path) == []
    honest = make_predictions("a-seed0", np.arange(10) < 4, balancing="train", **fields)
    wrong = {**fields, "balancing": "before_split", "contrast": gaps.BEFORE_SPLIT}
    runs = [honest, make_predictions("b-seed0", np.arange(10) < 8, **wrong)]
    steps = gaps.towards_a_printed_number(runs, fields, tmp_path)
    assert steps[0][1].mean == 40
    assert steps[0][2] is None
    assert all(step[2] is not None for step in steps[1:])
    balanced = next(step for step in steps if "balanced before the split" in step[0])
    assert balanced[1].mean == 80
    assert balanced[2].mean == pytest.approx(40)


def test_liberties_start_from_runs_that_differ_in_their_seed_alone(make_predictions, tmp_path):
    runs = [
        make_predictions(f"a{epochs}-seed0", np.ones(10), balancing="train", epochs=epochs)
        for epochs in (2, 3)
    ]
    with pytest.raises(ValueError, match="differ in more than their seed: a2-seed0, a3-seed0"):
        gaps.towards_a_printed_number(runs, {}, tmp_path)


def test_people_kept_apart_are_held_against_a_split_by_image(make_record, monkeypatch):
    monkeypatch.setattr("fer_utils.estimates.number_of_folds", lambda protocol, dataset: 1)
    fields = {"dataset": "fer2013", "model": "new"}
    apart = {"subjects kept apart": fields | {"protocol": "subject_kfold"}}
    beside = apart | {"in fewer epochs": fields | {"protocol": "stratified", "epochs": 2}}
    published = made_papers.paper(
        select=fields | {"protocol": "stratified"},
        also=beside,
        # The same numbers again, where no headline asks for them.
        more=(made_papers.cell("twin", 80.0, select=fields, also=apart),),
    )
    monkeypatch.setattr(gaps, "load_published", lambda paper: published)
    by_image = make_record("image-seed0-1", correct=80, n=100, protocol="stratified", **fields)
    by_person = make_record("person-seed0", correct=30, n=50, protocol="subject_kfold", **fields)
    assert gaps.by_person([by_image], "yengikand2023") == []
    assert gaps.by_person([by_person], "yengikand2023") == []
    another = make_record("other", correct=1, paper="wang2023", protocol="stratified", **fields)
    (step,) = gaps.by_person([another, by_image, by_person], "yengikand2023")
    assert (step.what, step.runs) == ("subjects kept apart", "image")
    assert (step.before, step.after) == (pytest.approx(80), pytest.approx(60))
    assert (step.seeds, step.images) == (1, 50)
    # Standard errors of 82 of 104 and of 32 of 54, 4.005 and 6.686 points, are 7.794 together;
    # 1.645 of them to either side.
    assert step.difference.mean == pytest.approx(-20)
    assert step.difference.low == pytest.approx(-32.82, abs=0.01)
    assert step.difference.high == pytest.approx(-7.18, abs=0.01)


def test_near_copies_are_left_out_of_every_seed(make_predictions, tmp_path):
    """Ten images, the last two copies; the seeds have 6 and 8 right, 2 and 1 of them copies."""
    runs = [
        make_predictions("a-seed0", [1, 1, 1, 1, 0, 0, 0, 0, 1, 1]),
        make_predictions("a-seed1", [1, 1, 1, 1, 1, 1, 1, 0, 1, 0], seed=1),
    ]
    part = ScoredPart(
        name="made", sha256=runs[0].data.sha256, test=10, copied=(8, 9), faceless=(4, 5)
    )
    report = read().model_copy(update={"scored": (part,)})
    (step,) = gaps.on_faces(runs, report, tmp_path)
    assert (step.after, step.images, step.among) == (pytest.approx(100 * (6 + 6) / 16), 8, 10)
    assert gaps.on_faces(runs, None, tmp_path) == []
    (step,) = gaps.without_near_copies(runs, report, tmp_path)
    assert (step.before, step.after) == (pytest.approx(70), pytest.approx(100 * (4 + 7) / 16))
    assert step.difference.mean == pytest.approx(step.after - step.before)
    assert (step.seeds, step.images, step.among) == (2, 8, 10)


def test_near_copies_are_left_out_only_where_they_are_counted(make_record):
    run = make_record("a-seed0", data="ck48")
    assert gaps.without_near_copies([run], read()) == []
    assert gaps.without_near_copies([run], None) == []


def test_a_run_made_twice_gives_the_same_figures_or_another_number(make_record):
    def made(name, day, **fields):
        return make_record(name, **fields).model_copy(update={"created": f"2026-11-{day}"})

    runs = [
        made("a-seed0-2", 22, correct=30),
        made("a-seed0-1", 21, correct=30),
        made("a-seed1-1", 21, seed=1, correct=20),
        made("a-seed1-2", 22, seed=1, correct=10),
        made("b-seed0-1", 21, dropout=0.2),
    ]
    found = {repeat.run: (repeat.values, repeat.same) for repeat in gaps.repeats(runs)}
    assert found == {"a-seed0": ((75.0, 75.0), True), "a-seed1": ((50.0, 25.0), False)}


def test_the_page_names_the_one_run_that_came_out_otherwise():
    """gaps.ipynb tells of it in words."""
    every = [run for paper in published_papers() for run in records.read_all(paper)]
    other = [repeat.run for repeat in gaps.repeats(every) if not repeat.same]
    assert other == ["fer2013-official-depthwise-dropout0.2-seed1"]
