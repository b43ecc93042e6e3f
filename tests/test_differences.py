"""Differences are paired where the images are the same, and hold the truth as often as they say."""

from functools import cache
from math import hypot, inf, sqrt

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit
from statsmodels.stats.contingency_tables import mcnemar

from fer_utils.differences import comparable, of_estimates, of_part, of_runs, of_scores, of_values
from fer_utils.estimates import Drawn, Estimate, estimate

Z = stats.norm.ppf(0.95)


def test_numbers_of_different_images_add_their_variances():
    before = Estimate(60.0, 59.0, 61.0, (60.0,), 100, standard_error=3.0, df=4.0)
    after = Estimate(70.0, 69.0, 71.0, (70.0,), 100, standard_error=4.0, df=8.0)
    found = of_estimates(before, after)
    df = 5**4 / (3**4 / 4 + 4**4 / 8)
    assert (found.mean, found.standard_error) == (10, 5)
    assert found.df == pytest.approx(df)
    half = stats.t(df).ppf(0.95) * 5
    assert (found.low, found.high) == pytest.approx((10 - half, 10 + half))


def test_two_figures_of_the_same_networks_spread_as_their_difference_does(make_record):
    """What one recall gains in a seed, the other loses: their difference scatters twice as much."""
    runs = [
        make_record(f"a-{seed}", matrix=[[right, 40 - right], [right, 40 - right]], seed=seed)
        for seed, right in enumerate((15, 20, 25))
    ]
    anger, happiness = (
        estimate(runs, "recall", "percent", expression=name) for name in ("anger", "happiness")
    )
    found = of_estimates(anger, happiness)
    drawn = hypot(anger.drawn.together, happiness.drawn.together)
    assert anger.values == happiness.values[::-1] != happiness.values
    assert found.standard_error == pytest.approx(hypot(drawn, 25 / sqrt(3)))
    assert found.df == pytest.approx(found.standard_error**4 / ((25 / sqrt(3)) ** 4 / 2))


def test_what_both_figures_of_the_same_networks_share_does_not_part_them():
    values = (60.0, 70.0, 80.0)
    alike = Estimate(70, 60, 80, values, 50, ("a", "b", "c"), False, 7.0, 3.0, Drawn(3.0, 3.0))
    found = of_estimates(alike, alike)
    assert (found.mean, found.standard_error) == (0, pytest.approx(hypot(3, 3)))


def test_only_images_on_which_two_scores_disagree_count():
    """6 images gained and 2 lost of 100, by the formula of paired proportions."""
    before = np.r_[np.zeros(6), np.ones(2), np.ones(92)]
    after = np.r_[np.ones(6), np.zeros(2), np.ones(92)]
    found = of_scores([before], [after])
    gained, lost = 7 / 102, 3 / 102
    error = sqrt((gained + lost - (gained - lost) ** 2) / 102)
    assert (found.mean, found.df) == (pytest.approx(4), inf)
    assert found.standard_error == pytest.approx(100 * error)
    assert (found.low, found.high) == pytest.approx((4 - 100 * Z * error, 4 + 100 * Z * error))


def test_scores_that_agree_everywhere_are_not_known_to_be_equal_for_ever():
    found = of_scores([np.ones(50)], [np.ones(50)])
    assert found.mean == 0
    assert found.low < 0 < found.high


def test_a_share_of_an_image_may_be_gained():
    """Element-wise accuracies are shares of the outputs."""
    found = of_scores([np.array([0.0, 1.0])], [np.array([0.5, 1.0])])
    assert found.mean == 25
    assert found.standard_error == pytest.approx(100 * np.std([0.5, 0, 1, -1]) / 2)


def test_seeds_add_the_spread_of_their_differences():
    """What each image gains, over the seeds: 10 of 100 gain 1/2, 10 of them 1."""
    before = [np.r_[np.ones(50), np.zeros(50)], np.r_[np.ones(50), np.zeros(50)]]
    after = [np.r_[np.ones(60), np.zeros(40)], np.r_[np.ones(70), np.zeros(30)]]
    found = of_scores(before, after)
    assert found.mean == pytest.approx(15)
    images = [100 * np.std([*[0] * 80, *[0.5] * 10, *[1] * 10, 1, -1]) / sqrt(102)]
    seeds = [100 * np.std([*[0] * (100 - n), *[1] * n, 1, -1]) / sqrt(102) for n in (10, 20)]
    anew = np.mean(np.square(seeds)) - images[0] ** 2  # of one seed's error, what the mean loses
    assert found.standard_error == pytest.approx(sqrt(images[0] ** 2 + 5**2 - anew))
    assert found.df == pytest.approx(found.standard_error**4 / 5**4)  # one degree, of two seeds


def test_other_images_in_each_seed_are_not_averaged_over_the_seeds():
    """Row by row they would cancel: gains of the one are losses of the other."""
    before, after = np.r_[np.ones(40), np.zeros(40)], np.r_[np.zeros(40), np.ones(40)]
    same = of_scores([before, after], [after, before])
    others = of_scores([before, after], [after, before], shared=0.2)
    assert same.standard_error < others.standard_error
    assert others.standard_error == pytest.approx(100 / sqrt(82) * sqrt((1 + 0.2) / 2))


def test_a_paired_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        easy = rng.random(300)
        before, after = easy < 0.6, (easy + rng.normal(0, 0.1, 300)) < 0.65
        truth = 100 * (_share_after() - 0.6)
        found = of_scores([before], [after])
        held += found.low <= truth <= found.high
    assert 0.86 < held / 400 < 0.95


@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_so_does_one_of_several_seeds_on_one_test_part(spread):
    """What networks do to single images by chance is not counted twice: that held 99 of 100."""
    rng = np.random.default_rng(1)

    def right(logits):
        """Of three networks, each with its own luck on the whole part and on every image."""
        return [rng.random(500) < expit(logits + rng.normal(0, spread)) for _ in range(3)]

    held = 0
    for _ in range(400):
        easy = rng.normal(0.4, 2, 500)
        found = of_scores(right(easy), right(easy + rng.normal(0, 0.6, 500)))
        held += found.low <= 100 * _gain() <= found.high
    assert 0.86 < held / 400 < 0.97


@cache
def _gain():
    """What wider logits cost on average, by quadrature; the networks' luck moves it little."""
    z, weights = np.polynomial.hermite_e.hermegauss(60)
    mean = [weights @ expit(0.4 + width * z) / weights.sum() for width in (2, hypot(2, 0.6))]
    return mean[1] - mean[0]


def _share_after():
    """P(u + 0.1 z < 0.65) for u uniform on 0-1 and z normal."""
    u = (np.arange(100_000) + 0.5) / 100_000
    return stats.norm.cdf((0.65 - u) / 0.1).mean()


def drawn(right, number):
    share = (right + 2) / (number + 4)
    return sqrt(share * (1 - share) / (number + 4))


def test_what_is_left_out_moves_the_number_by_its_share():
    """20 of 100 images left out, of which 19 are right; of the rest 40 are."""
    found = of_part([(59, 100)], [(40, 80)])
    assert found.mean == pytest.approx(50 - 59)
    assert found.standard_error == pytest.approx(100 * 0.2 * hypot(drawn(40, 80), drawn(19, 20)))


def test_one_image_may_be_left_out():
    assert of_part([(50, 100)], [(50, 99)]).mean == pytest.approx(50 / 0.99 - 50)


@pytest.mark.parametrize("kept", [(59, 100), (0, 0)])
def test_something_is_left_out_and_something_kept(kept):
    with pytest.raises(ValueError, match="some have to be left out"):
        of_part([(59, 100)], [kept])


def test_differences_of_runs_by_themselves_have_the_interval_of_their_mean():
    found = of_values([1.0, 2.0, 3.0])
    half = stats.t(2).ppf(0.95) / sqrt(3)
    assert (found.mean, found.df) == (2, 2)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))


# ---- two ways to train -------------------------------------------------------------------------


def test_two_ways_to_train_are_compared_image_by_image(make_predictions, tmp_path):
    before = np.r_[np.ones(30), np.zeros(10)]
    after = np.r_[np.zeros(4), np.ones(36)]
    runs = [
        make_predictions("a-0", before),
        make_predictions("b-0", after),
    ]
    found = of_runs(runs[:1], runs[1:], tmp_path)
    assert found == of_scores([before], [after])
    assert found.mean == pytest.approx(15)
    table = [[26, 4], [10, 0]]
    assert (found.low > 0) == (mcnemar(table, exact=False).pvalue < 0.1)


def test_folds_of_a_seed_are_pooled_in_their_order(make_predictions, tmp_path):
    wrong, right = np.zeros(10), np.ones(30)
    before = [
        make_predictions(f"a-{fold}", scores, fold=fold)
        for fold, scores in enumerate((right, wrong))
    ]
    after = [
        make_predictions(f"b-{fold}", scores, fold=fold)
        for fold, scores in enumerate((right, np.ones(10)))
    ]
    found = of_runs(before, after[::-1], tmp_path)
    assert found.mean == pytest.approx(25)
    assert found == of_scores([np.r_[right, wrong]], [np.ones(40)])


def test_only_on_one_split_are_images_averaged_over_the_seeds(make_predictions, tmp_path):
    before, after = np.r_[np.ones(40), np.zeros(40)], np.r_[np.zeros(40), np.ones(40)]

    def apart(*splits):
        """The same two seeds, on splits of these hashes."""

        def runs(name, *scores):
            made = [
                make_predictions(f"{name}-{seed}", right, seed=seed)
                for seed, right in enumerate(scores)
            ]
            return [
                run.model_copy(update={"split": run.split.model_copy(update={"sha256": split})})
                for run, split in zip(made, splits, strict=True)
            ]

        return of_runs(runs("a", before, after), runs("b", after, before), tmp_path)

    one, two = apart("one", "one"), apart("one", "two")
    assert one == of_scores([before, after], [after, before])
    assert two.standard_error > 2 * one.standard_error


def test_people_count_where_they_are_known(make_predictions, tmp_path):
    """All the 10 gained images show one of 4 people: less sure than 10 images of anybody."""
    before, after = np.r_[np.ones(30), np.zeros(10)], np.ones(40)
    persons = [
        {"numbers": [0, 1, 2, 3], "images": [10] * 4, "correct": right}
        for right in ([10, 10, 10, 0], [10] * 4)
    ]
    runs = [
        make_predictions(name, scores, persons=found)
        for name, scores, found in zip("ab", (before, after), persons, strict=True)
    ]
    found = of_runs(runs[:1], runs[1:], tmp_path)
    assert found.mean == pytest.approx(25)
    assert found.standard_error > 2 * of_scores([before], [after]).standard_error
    assert found.df == 3
    assert found.low < 0 < found.high


def test_only_seeds_with_the_same_folds_can_be_compared(make_record):
    def runs(name, *made):
        return [make_record(f"{name}-{s}-{f}", seed=s, fold=f) for s, f in made]

    before = runs("a", (0, 0), (0, 1), (1, 0), (1, 1), (2, 0))
    after = runs("b", (0, 1), (0, 0), (1, 0), (3, 0))
    kept = [[run.run for run in found] for found in comparable(before, after)]
    assert kept == [["a-0-0", "a-0-1"], ["b-0-1", "b-0-0"]]
    assert comparable(before, []) == ([], [])


def test_runs_on_other_images_are_refused(make_predictions, tmp_path):
    one = make_predictions("a-0", np.ones(4))
    other_seed = make_predictions("a-1", np.ones(4), seed=1)
    other_fold = make_predictions("a-2", np.ones(4), fold=1)
    for other in (other_seed, other_fold):
        with pytest.raises(ValueError, match="not tested on the same images"):
            of_runs([one], [other], tmp_path)
