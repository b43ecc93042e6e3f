"""Estimates are sums done twice, and people count where they are known."""

from math import inf, sqrt

import numpy as np
import pytest
from scipy import stats

from fer_utils.estimates import (
    METRICS,
    Drawn,
    binomial_error,
    drawn_people,
    errors_expected,
    errors_taken_for,
    estimate,
    person_error,
    whole,
)

Z = stats.norm.ppf(0.95)


def drawn(share, number):
    """Standard error of a share, with two right and two wrong images added."""
    adjusted = (share * number + 2) / (number + 4)
    return sqrt(adjusted * (1 - adjusted) / (number + 4))


def test_one_run_has_the_error_of_its_test_part(make_record):
    found = estimate([make_record("a-1", correct=30, n=40)], "accuracy", "percent")
    half = 100 * Z * drawn(0.75, 40)
    assert found.mean == 75
    assert (found.low, found.high) == pytest.approx((75 - half, 75 + half))
    assert found.values == (75,)
    assert (found.n_test, found.runs, found.stale) == (40, ("a-1",), False)
    assert (found.df, found.persons) == (inf, None)


def test_seeds_add_their_spread_to_the_error_of_the_test_part(make_record):
    correct = [30, 34, 26]
    runs = [make_record(f"a-{s}", correct=c, seed=s) for s, c in enumerate(correct)]
    found = estimate(runs, "accuracy", "percent")
    spread = sqrt(((0 + 0.1**2 + 0.1**2) / 2) / 3)  # of the mean of .75, .85 and .65
    error = sqrt(spread**2 + drawn(0.75, 40) ** 2)
    df = error**4 / (spread**4 / 2)
    half = 100 * stats.t(df).ppf(0.95) * error
    assert found.values == pytest.approx((75, 85, 65))
    assert found.mean == pytest.approx(75)
    assert found.standard_error == pytest.approx(100 * error)
    assert found.df == pytest.approx(df)
    assert (found.low, found.high) == pytest.approx((75 - half, 75 + half))
    assert found.runs == ("a-0", "a-1", "a-2")


def test_the_interval_holds_the_truth_as_often_as_it_says(make_record):
    """Seeds that scatter by 2 points around 60 %, each on its own draw of 400 images."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        shares = rng.normal(0.6, 0.02, 3)
        runs = [
            make_record(f"a-{s}", correct=int(rng.binomial(400, share)), n=400, seed=s)
            for s, share in enumerate(shares)
        ]
        found = estimate(runs, "accuracy", "fraction")
        held += found.low <= 0.6 <= found.high
    assert 0.87 < held / 300 <= 1


def test_folds_of_one_seed_are_pooled_image_by_image(make_record):
    folds = [(10, 10, 0), (30, 50, 0), (8, 12, 1), (40, 48, 1)]
    runs = [
        make_record(f"a-{k}", correct=correct, n=n, seed=seed, fold=k % 2)
        for k, (correct, n, seed) in enumerate(folds)
    ]
    found = estimate(runs, "accuracy", "fraction")
    assert found.values == pytest.approx((40 / 60, 48 / 60))  # not the means of the folds
    assert found.mean == pytest.approx(44 / 60)
    assert found.n_test == 60
    spread = (8 / 60) / 2  # half the distance of two values
    assert found.standard_error == pytest.approx(sqrt(drawn(44 / 60, 60) ** 2 + spread**2))


def test_the_smallest_test_part_counts(make_record):
    runs = [make_record("a-0", n=400, correct=300), make_record("a-1", n=40, correct=30, seed=1)]
    found = estimate(runs, "accuracy", "fraction")
    assert found.n_test == 40
    assert found.high - found.low == pytest.approx(2 * Z * drawn(0.75, 40))


@pytest.mark.parametrize(("correct", "unit", "limit"), [(4, "percent", 100), (4, "fraction", 1)])
def test_an_interval_stays_within_what_is_possible(make_record, correct, unit, limit):
    runs = [make_record(f"a-{s}", correct=c, n=4, seed=s) for s, c in enumerate((correct, 3))]
    assert estimate(runs, "accuracy", unit).high == limit
    runs = [make_record(f"a-{s}", correct=c, n=4, seed=s) for s, c in enumerate((0, 1))]
    assert estimate(runs, "accuracy", unit).low == 0


def test_all_right_is_not_beyond_doubt(make_record):
    found = estimate([make_record(correct=40, n=40)], "accuracy", "fraction")
    assert found.mean == 1
    assert found.low < 0.97


def test_percent_is_a_hundred_times_the_fraction(make_record):
    runs = [make_record(f"a-{s}", correct=c, seed=s) for s, c in enumerate((20, 24))]
    percent = estimate(runs, "accuracy", "percent")
    fraction = estimate(runs, "accuracy", "fraction")
    for name in ("mean", "low", "high", "standard_error", "values"):
        scaled = np.multiply(100, getattr(fraction, name))
        assert getattr(percent, name) == pytest.approx(scaled)


def test_one_stale_run_makes_the_estimate_so(make_record):
    fresh, old = make_record("a-1"), make_record("a-2", seed=1)
    assert not estimate([fresh, old], "accuracy", "percent", stale={"b-1"}).stale
    assert estimate([fresh, old], "accuracy", "percent", stale={"a-2"}).stale


def test_nothing_is_estimated_without_runs_or_of_another_metric(make_record):
    assert estimate([], "accuracy", "percent") is None
    with pytest.raises(ValueError, match="'log_loss'"):
        estimate([make_record()], "log_loss", "percent")


# ---- people --------------------------------------------------------------------------------------


def test_people_and_not_their_frames_are_drawn(make_record):
    """Ten people of twelve frames, each all right or all wrong: ten draws, not 120."""
    persons = {"numbers": [*range(10)], "images": [12] * 10, "correct": [12] * 7 + [0] * 3}
    run = make_record(correct=84, n=120, persons=persons)
    found = estimate([run], "accuracy", "fraction")
    ten = sqrt(0.7 * 0.3 / 9)  # of the mean of ten zeros and ones
    assert found.standard_error == pytest.approx(ten)
    assert (found.persons, found.df) == (10, 9)
    assert found.low == pytest.approx(0.7 - stats.t(9).ppf(0.95) * ten)


def test_people_with_unequal_numbers_of_images_follow_the_ratio_estimator(make_record):
    images, correct = np.array([3, 9, 6, 12, 3]), np.array([3, 4, 6, 11, 0])
    persons = {"numbers": [*range(5)], "images": images.tolist(), "correct": correct.tolist()}
    run = make_record(correct=int(correct.sum()), n=int(images.sum()), persons=persons)
    found = estimate([run], "accuracy", "fraction")
    share = correct.sum() / images.sum()
    residuals = correct - share * images
    expected = sqrt(5 / 4 * (residuals**2).sum()) / images.sum()
    assert found.standard_error == pytest.approx(expected)


def test_people_of_all_folds_are_counted_and_never_narrow_the_interval(make_record):
    drawn_from = [
        {"numbers": numbers, "images": [5, 5], "correct": correct}
        for numbers, correct in (([0, 2], [3, 2]), ([1, 3], [4, 4]))
    ]
    one = make_record("a-0", correct=5, n=10, fold=0, persons=drawn_from[0])
    two = make_record("a-1", correct=8, n=10, fold=1, persons=drawn_from[1])
    found = estimate([one, two], "accuracy", "fraction")
    assert found.persons == 4
    assert found.standard_error >= drawn(13 / 20, 20)


def test_a_person_in_the_test_parts_of_two_seeds_is_one_person(make_record, of_another_split):
    """Two seeds, 3 people each, of whom two are in both parts: four people, not six."""
    seeds = [([0, 1, 2], [4, 1, 3]), ([1, 2, 7], [2, 4, 0])]
    runs = [
        of_another_split(
            make_record(
                f"a-{seed}",
                correct=sum(right),
                n=12,
                seed=seed,
                persons={"numbers": numbers, "images": [4] * 3, "correct": right},
            )
        )
        for seed, (numbers, right) in enumerate(seeds)
    ]
    found = estimate(runs, "accuracy", "fraction")
    assert found.persons == 4
    together = person_error([4, 8, 8, 4], [4, 3, 7, 0])
    assert found.drawn.together == pytest.approx(together)
    assert found.drawn.df == 3


def test_people_enlarge_the_error_of_every_figure_as_that_of_the_accuracy(make_record):
    people = {"numbers": [0, 1, 2, 3], "images": [100] * 4, "correct": [95, 90, 90, 15]}
    matrix = [[130, 70], [40, 160]]
    alone, known = make_record(matrix=matrix), make_record(matrix=matrix, persons=people)
    errors = [person_error(people["images"], people["correct"]), drawn(290 / 400, 400)]
    for figure in ("macro_f1", "recall", "accuracy", "elementwise_accuracy"):
        options = {"expression": "anger"} if figure == "recall" else {}
        before, after = (estimate([run], figure, "fraction", **options) for run in (alone, known))
        assert after.standard_error / before.standard_error == pytest.approx(errors[0] / errors[1])
        assert (before.persons, after.persons) == (None, 4)
    before, after = (errors_taken_for([run], "anger", ["happiness"]) for run in (alone, known))
    assert after.standard_error > 2 * before.standard_error
    assert estimate([known], "accuracy", "fraction", part="val").persons is None


def test_one_person_tells_nothing_of_another(make_record):
    alone = {"numbers": [3], "images": [40], "correct": [30]}
    found = estimate([make_record(n=40, correct=30, persons=alone)], "accuracy", "fraction")
    assert found == estimate([make_record(n=40, correct=30)], "accuracy", "fraction")


# ---- errors --------------------------------------------------------------------------------------


def expected(make_record, *matrices):
    """Of errors on anger, the share to expect at disgust; a seed a matrix."""
    runs = [
        make_record(f"a-{seed}", seed=seed, matrix=matrix, classes=("anger", "disgust", "fear"))
        for seed, matrix in enumerate(matrices)
    ]
    return errors_expected(runs, "anger", ["disgust"])


def test_errors_are_expected_where_images_of_others_are_taken_for_them(make_record):
    """30 of 200 images of fear are taken for disgust, 10 of 100 of disgust for fear."""
    matrix = [[80, 10, 10], [20, 70, 10], [50, 30, 120]]
    found = expected(make_record, matrix)
    assert found.mean == pytest.approx(100 * 0.15 / (0.15 + 0.10))
    assert found.n_test == 40


def test_a_seed_without_other_errors_tells_nothing_of_what_to_expect(make_record):
    some, none = [[80, 10, 10], [20, 70, 10], [50, 30, 120]], [[80, 10, 10], [0, 9, 0], [0, 0, 9]]
    assert expected(make_record, some, none).values == expected(make_record, some).values
    assert expected(make_record, none) is None


def test_an_expression_that_is_taken_for_anger_alone_is_expected_for_nothing(make_record):
    """All images of fear are called anger: they count among those that disgust might have got."""
    found = expected(make_record, [[80, 100, 20], [20, 160, 20], [200, 0, 0]])
    assert found.mean == 0


# ---- each seed its own test part -----------------------------------------------------------------


@pytest.fixture
def of_another_split():
    """A function that gives a record the split of its seed, drawn from the 100 images there are."""

    def change(run):
        split = run.split.model_copy(update={"sha256": f"{run.seed:064}"})
        return run.model_copy(update={"split": split})

    return change


def test_the_draw_of_a_test_part_counts_once_where_each_seed_has_its_own(
    make_record, of_another_split
):
    """40 images of 100: two parts share 40 % of their images, so much of the draw is one."""
    runs = [
        make_record(f"a-{seed}", correct=right, seed=seed)
        for seed, right in enumerate((30, 34, 26))
    ]
    error, spread = drawn(0.75, 40), 0.1 / sqrt(3)
    own = estimate([of_another_split(run) for run in runs], "accuracy", "fraction")
    one_part = estimate(runs, "accuracy", "fraction")
    assert one_part.standard_error == pytest.approx(sqrt(error**2 + spread**2))
    together = error**2 * (1 + 2 * 0.4) / 3
    networks = spread**2 - error**2 * (1 - 0.4) / 3
    assert own.drawn.together == pytest.approx(sqrt(together))
    assert own.standard_error == pytest.approx(sqrt(together + networks))
    assert own.df == pytest.approx((together + networks) ** 2 / (spread**4 / 2))
    assert own.standard_error < one_part.standard_error


def test_seeds_that_scatter_less_than_their_draws_have_the_error_of_the_draws(
    make_record, of_another_split
):
    runs = [of_another_split(make_record(f"a-{s}", correct=30, seed=s)) for s in range(3)]
    found = estimate(runs, "accuracy", "fraction")
    assert found.standard_error == pytest.approx(drawn(0.75, 40) * sqrt(1.8 / 3))
    assert found.df == inf


def test_one_seed_has_the_error_of_its_part_whatever_the_split(make_record, of_another_split):
    run = make_record(correct=30)
    of_both = (estimate([one], "accuracy", "fraction") for one in (run, of_another_split(run)))
    assert next(of_both).standard_error == next(of_both).standard_error == drawn(0.75, 40)


@pytest.mark.parametrize("apart", [False, True], ids=["by image", "by person"])
def test_intervals_of_people_hold_the_truth_as_often_as_they_say(apart):
    """Three networks on 118 people of 3 to 15 images, as CK+48 has them.

    By image, each seed tests 147 images of its own draw; by person, all of them in folds. What is
    true is the mean over people and networks; with one part's whole error on top of the spread, the
    intervals by image would hold it in 99 of 100 cases.
    """
    rng = np.random.default_rng(0)

    def chance(people):
        return 1 / (1 + np.exp(-people))

    truth = chance(rng.normal(3, np.hypot(1.5, 0.1), 1_000_000)).mean()
    held = 0
    for _ in range(400):
        person = np.repeat(np.arange(118), 3 * rng.integers(1, 6, 118))
        easy = rng.normal(3, 1.5, 118)[person]
        shares, seeds = [], []
        for _ in range(3):
            tested = np.arange(len(person)) if apart else rng.permutation(len(person))[:147]
            right = rng.random(len(tested)) < chance(easy[tested] + rng.normal(0, 0.1))
            images = np.bincount(person[tested])
            seen = np.flatnonzero(images)
            correct = np.bincount(person[tested], weights=right)[seen]
            shares.append(right.mean())
            seeds.append((seen, images[seen], correct))
        images = Drawn.of_images(
            binomial_error(np.mean(shares), len(tested)), 3, len(tested) / len(person)
        )
        largest = max(images, drawn_people(seeds), key=lambda found: found.together)
        error, df = largest.with_seeds(shares)
        held += abs(np.mean(shares) - truth) <= stats.t.ppf(0.95, df) * error
    assert 0.85 < held / 400 < 0.96


# ---- other figures -------------------------------------------------------------------------------

MATRIX = [[30, 10], [5, 15]]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("accuracy", 45 / 60),
        ("balanced_accuracy", (30 / 40 + 15 / 20) / 2),
        ("macro_precision", (30 / 35 + 15 / 25) / 2),
        ("macro_f1", (60 / 75 + 30 / 45) / 2),
        ("detection_rate", 1.0),
        ("elementwise_accuracy", 0.875),
    ],
)
def test_figures_of_the_confusion_matrix(make_record, metric, expected):
    found = estimate([make_record(matrix=MATRIX)], metric, "fraction")
    assert found.mean == pytest.approx(expected)
    assert found.low <= found.mean <= found.high
    assert metric in METRICS


def test_recall_is_of_an_expression_and_its_images(make_record):
    found = estimate([make_record(matrix=MATRIX)], "recall", "percent", expression="happiness")
    assert (found.mean, found.n_test) == (75, 20)
    assert found.standard_error == pytest.approx(100 * drawn(0.75, 20))
    with pytest.raises(ValueError, match="no contempt among anger, happiness"):
        estimate([make_record()], "recall", "percent", expression="contempt")


def test_a_seed_without_images_of_an_expression_says_nothing_of_its_recall(make_record):
    """It used to count as one that recognises none."""
    some, none = make_record("a-0", matrix=MATRIX), make_record("a-1", seed=1)
    found = estimate([some, none], "recall", "percent", expression="happiness")
    assert found == estimate([some], "recall", "percent", expression="happiness")
    assert found.runs == ("a-0",)
    assert estimate([none], "recall", "percent", expression="happiness") is None


def test_the_bootstrap_finds_the_error_that_a_formula_gives(make_record):
    """Balanced accuracy: two independent recalls, each half of the mean."""
    found = estimate([make_record(matrix=[[300, 100], [50, 150]])], "balanced_accuracy", "fraction")
    exact = sqrt(0.75 * 0.25 / 400 + 0.75 * 0.25 / 200) / 2
    assert found.standard_error == pytest.approx(exact, rel=0.1)
    again = estimate([make_record(matrix=[[300, 100], [50, 150]])], "balanced_accuracy", "fraction")
    assert again == found


def test_a_rare_expression_makes_balanced_accuracy_uncertain(make_record):
    """Its images count as much as all others: far more error than that of a share."""
    found = estimate([make_record(matrix=[[90, 10], [5, 5]])], "balanced_accuracy", "fraction")
    exact = sqrt(0.9 * 0.1 / 100 + 0.5 * 0.5 / 10) / 2
    assert found.standard_error == pytest.approx(exact, rel=0.1)
    assert found.standard_error > 1.5 * drawn(0.7, 110)


def test_seeds_do_not_make_the_test_part_larger(make_record):
    """Two networks that err alike on the same images are no more certain than one."""
    matrix = [[300, 100], [50, 150]]
    one, two = (
        estimate(
            [make_record(f"a-{seed}", seed=seed, matrix=matrix) for seed in range(count)],
            "macro_f1",
            "fraction",
        )
        for count in (1, 2)
    )
    assert two.standard_error == pytest.approx(one.standard_error, rel=0.05)


def test_the_outputs_of_an_image_err_together(make_record):
    """The error of an element-wise accuracy is that of as many images, not of as many outputs."""
    found = estimate([make_record(matrix=MATRIX)], "elementwise_accuracy", "fraction")
    assert found.standard_error == pytest.approx(drawn(0.875, 60))


def test_one_image_of_an_expression_is_a_recall(make_record):
    run = make_record(matrix=[[39, 0], [0, 1]])
    assert estimate([run], "recall", "percent", expression="happiness").mean == 100


def test_a_seed_that_lacks_a_fold_does_not_count(make_record):
    def runs(seed, folds, **fields):
        names = {"protocol": "subject_kfold", "dataset": "ck48", **fields}
        return [make_record(f"{seed}-{k}", seed=seed, fold=k, **names) for k in folds]

    every, some = runs(0, range(5)), runs(1, range(4))
    assert estimate([*every, *some], "accuracy", "percent").runs == tuple(run.run for run in every)
    assert estimate(some, "accuracy", "percent") is None
    left_out = runs(2, range(9), protocol="leave_one_subject_out", dataset="jaffe")
    assert whole(left_out) == []
    left_out += runs(2, [9], protocol="leave_one_subject_out", dataset="jaffe")
    assert whole(left_out) == left_out
