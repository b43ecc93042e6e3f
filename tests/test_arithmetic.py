"""What a printed number can be, against counting every case."""

from fractions import Fraction
from itertools import product
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fer_utils import arithmetic, metrics
from fer_utils.arithmetic import RULES, Printed

ROUND = {  # three ways to drop digits, each from its definition
    "half up": lambda x: floor(x + Fraction(1, 2)),
    "half even": round,  # Python's own, exact for fractions
    "cut off": floor,
}


def shown(k, n, scale, rule):
    """k of n images, as printed."""
    return Printed(ROUND[rule](Fraction(k * scale, n)), scale)


printed_shares = st.builds(
    lambda scale, part: Printed(round(part * scale), scale),
    st.sampled_from([100, 1000, 10_000]),
    st.floats(0, 1),
)


# ---- printed shares ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "unit", "digits", "scale", "told"),
    [
        ("65.32", "percent", 6532, 10_000, "65.32"),
        ("65.32%", "percent", 6532, 10_000, "65.32"),
        ("0.6532", "fraction", 6532, 10_000, "65.32"),
        (".5", "fraction", 5, 10, "50"),
        ("4%", "percent", 4, 100, "4"),
        ("73.00", "percent", 7300, 10_000, "73.00"),
        ("100", "percent", 100, 100, "100"),
    ],
)
def test_a_share_is_read_with_the_digits_that_were_printed(text, unit, digits, scale, told):
    read = arithmetic.read(text, unit)
    assert read == (digits, scale)
    assert str(read) == told


@pytest.mark.parametrize("text", ["", "%", "null", "5e-07", "65.32 ± 2", "1,000", "."])
def test_what_is_no_plain_number_is_refused(text):
    with pytest.raises(ValueError, match="not a plain number"):
        arithmetic.read(text, "percent")


@given(printed_shares, st.integers(1, 200), st.sampled_from(RULES))
def test_right_counts_are_those_that_print_as_the_figure(printed, n, rule):
    found = [k for k in range(n + 1) if shown(k, n, printed.scale, rule) == printed]
    low, high = arithmetic.right_counts(printed, n, rule)
    assert list(range(low, high + 1)) == found
    assert bool(arithmetic.is_share(printed, n, rule)) == bool(found)


def test_ties_go_both_ways_only_where_the_rules_differ():
    eighth = Printed(12, 100)  # 12.5 % of 8 images: up gives 13, even gives 12
    assert not arithmetic.is_share(eighth, 8, "half up")
    assert arithmetic.is_share(eighth, 8, "half even")
    assert arithmetic.is_share(eighth, 8, "cut off")


@given(printed_shares, st.integers(1, 500), st.sampled_from(RULES))
def test_bounds_hold_every_share_that_prints_as_the_figure(printed, n, rule):
    low, high = printed.bounds
    for k in range(n + 1):
        if shown(k, n, printed.scale, rule) == printed:
            assert low <= k / n <= high


# ---- granularity -------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.integers(1, 80), st.sampled_from(RULES), st.data())
def test_possible_sizes_hold_the_true_one_and_no_impossible_one(n, rule, data):
    counts = data.draw(st.lists(st.integers(0, n), min_size=1, max_size=5))
    figures = [shown(k, n, 10_000, rule) for k in counts]
    found = arithmetic.possible_sizes(figures, 100, rule).tolist()
    assert n in found
    by_hand = [
        m
        for m in range(1, 101)
        if all(any(shown(k, m, 10_000, rule) == f for k in range(m + 1)) for f in figures)
    ]
    assert found == by_hand


def test_misfits_are_counted_under_the_rule_that_suits_best():
    cut = [shown(k, 147, 10_000, "cut off") for k in (131, 132, 140, 146)]
    assert arithmetic.misfits(cut, 147) == (0, "cut off")
    number, rule = arithmetic.misfits([*cut, Printed(5, 10_000)], 147)
    assert (number, rule) == (1, "cut off")  # 0.05 % of 147 images is less than one


@pytest.mark.parametrize("n", [1, 7, 50, 98])
def test_chance_adds_up_the_shares_of_printable_figures_that_are_counts(n):
    for rule in RULES:
        fitting = sum(bool(arithmetic.is_share(Printed(p, 100), n, rule)) for p in range(101))
        assert fitting == n + 1
    once = (n + 1) / 101
    fitting_any = sum(
        any(arithmetic.is_share(Printed(p, 100), n, rule) for rule in RULES) for p in range(101)
    )
    one = arithmetic.chance([Printed(50, 100)], n)
    assert one == pytest.approx(min(1, 2 * once))
    assert one >= fitting_any / 101 - 1e-9
    two = arithmetic.chance([Printed(50, 100), Printed(60, 100)], n)
    assert two == pytest.approx(min(1, 2 * once**2))
    assert arithmetic.chance([Printed(50, 100)] * 3, n) == arithmetic.chance([Printed(50, 100)], n)


def test_every_figure_fits_as_many_images_as_there_are_figures():
    assert arithmetic.chance([Printed(6532, 10_000)], 10_000) == 1
    assert all(
        arithmetic.is_share(Printed(p, 100), 100, rule) for p in range(101) for rule in RULES
    )


# ---- accuracy by class -------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 7), min_size=2, max_size=3),
    st.sampled_from(RULES),
    st.sampled_from([10, 100]),
    st.data(),
)
def test_room_is_what_all_counts_with_these_recalls_leave(supports, rule, scale, data):
    sizes = dict(enumerate(supports))
    share = st.builds(Printed, st.integers(0, scale), st.just(scale))
    recalls = {c: data.draw(st.none() | share) for c in sizes}
    found = arithmetic.room(recalls, sizes, rule)
    accuracies = [
        sum(counts) / sum(supports)
        for counts in product(*(range(n + 1) for n in supports))
        if all(recalls[c] in (None, shown(k, sizes[c], scale, rule)) for c, k in enumerate(counts))
    ]
    if accuracies:
        assert found.impossible == ()
        assert found.low == pytest.approx(min(accuracies))
        assert found.high == pytest.approx(max(accuracies))
    else:
        assert found.impossible


def test_a_recall_without_a_number_may_be_any():
    found = arithmetic.room({"a": None, "b": Printed(50, 100)}, {"a": 100, "b": 100}, "half up")
    assert (found.low, found.high) == (0.25, 0.75)
    assert found.impossible == ()


# ---- accuracy, recall and precision ------------------------------------------------------------

matrices = st.integers(2, 4).flatmap(
    lambda k: st.lists(
        st.lists(st.integers(0, 6), min_size=k, max_size=k), min_size=k, max_size=k
    ).filter(lambda m: all(map(sum, m)) and all(row[c] for c, row in enumerate(m)))
)


def figures_of(matrix):
    """Supports, accuracy, mean recall and mean precision."""
    matrix = np.array(matrix)
    right, supports = np.diag(matrix), matrix.sum(axis=1)
    return (
        supports,
        right.sum() / supports.sum(),
        float(np.mean(right / supports)),
        float(np.mean(right / matrix.sum(axis=0))),
    )


@settings(max_examples=100)
@given(matrices)
def test_accuracy_lies_in_the_range_that_mean_recall_leaves(matrix):
    supports, accuracy, recall, _ = figures_of(matrix)
    low, high = arithmetic.accuracy_range(supports, (recall, recall))
    assert low - 1e-9 <= accuracy <= high + 1e-9


@settings(max_examples=30)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=4), st.integers(0, 4))
def test_the_range_is_reached_where_whole_expressions_are_lost(supports, lost):
    lost = min(lost, len(supports))
    recall = 1 - lost / len(supports)
    reached = [
        sum(counts) / sum(supports)
        for counts in product(*(range(n + 1) for n in supports))
        if sum(k / n for k, n in zip(counts, supports, strict=True))
        == pytest.approx(len(supports) * recall)
    ]
    low, high = arithmetic.accuracy_range(supports, (recall, recall))
    assert low == pytest.approx(min(reached))
    assert high == pytest.approx(max(reached))


@settings(max_examples=100)
@given(matrices)
def test_a_matrix_that_exists_is_never_called_impossible(matrix):
    supports, accuracy, recall, precision = figures_of(matrix)
    near = [(value - 1e-9, value + 1e-9) for value in (accuracy, recall, precision)]
    assert arithmetic.one_matrix(supports, *near) is not False


def test_one_matrix_tells_possible_impossible_and_unknown_apart():
    supports = (467, 56, 496, 895, 653, 415, 607)
    recall = (0.60, 0.60)
    low, high = arithmetic.accuracy_range(supports, recall)
    middle = ((low + high) / 2,) * 2
    assert arithmetic.one_matrix(supports, middle, recall, (0.58, 0.64)) is True
    assert arithmetic.one_matrix(supports, (high + 0.01, 1.0), recall, (0.0, 1.0)) is False
    assert arithmetic.one_matrix(supports, (0.0, low - 0.01), recall, (0.0, 1.0)) is False
    assert arithmetic.one_matrix(supports, middle, recall, (0.99, 1.0)) is None


@settings(max_examples=100)
@given(st.integers(0, 30), st.integers(0, 50), st.floats(0.02, 0.5))
def test_with_two_expressions_accuracy_and_recall_fix_the_precision(first, second, off):
    supports = (30, 50)
    if first + second == 0:
        return
    right, missed = np.array([first, second]), np.array([30 - first, 50 - second])
    precision = float(np.mean(right / np.maximum(right + missed[::-1], 1e-12)))
    accuracy, recall = (first + second) / 80, (first / 30 + second / 50) / 2
    exact = [(value - 1e-9, value + 1e-9) for value in (accuracy, recall)]
    assert arithmetic.one_matrix(supports, *exact, (precision - 1e-6, precision + 1e-6)) is True
    assert arithmetic.one_matrix(supports, *exact, (precision + off, 2.0)) is None
    assert arithmetic.one_matrix(supports, *exact, (-1.0, precision - off)) is None


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.floats(0.2, 8))
def test_recall_and_precision_above_one_half_bound_top1_and_fix_elementwise(seed, k, sharpness):
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=200)
    logits = sharpness * (rng.normal(size=(200, k)) + np.eye(k)[labels])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    above, truth = probabilities > 0.5, np.eye(k, dtype=bool)[labels]
    if not (above & truth).any():
        return
    recall = ((above & truth).sum() / 200,) * 2
    precision = ((above & truth).sum() / above.sum(),) * 2
    top1 = np.mean(probabilities.argmax(axis=1) == labels)
    low, high = arithmetic.thresholded_accuracy(recall, precision)
    assert low - 1e-9 <= top1 <= high + 1e-9
    elementwise = metrics.elementwise_accuracy(labels, probabilities)
    assert arithmetic.elementwise_from(recall, precision, k) == pytest.approx((elementwise,) * 2)


def test_intervals_of_recall_and_precision_widen_what_follows_from_them():
    wide = arithmetic.elementwise_from((0.7, 0.8), (0.75, 0.85), 7)
    for recall, precision in product((0.7, 0.75, 0.8), (0.75, 0.8, 0.85)):
        (value, _) = arithmetic.elementwise_from((recall,) * 2, (precision,) * 2, 7)
        assert wide[0] - 1e-12 <= value <= wide[1] + 1e-12
    assert arithmetic.thresholded_accuracy((0.7, 0.8), (0.75, 0.85)) == pytest.approx(
        (0.7, 1 - 0.7 * 0.15 / 0.85)
    )


@given(st.integers(0, 50), st.integers(2, 9))
def test_top1_behind_an_elementwise_accuracy_of_one_hot_predictions(wrong, k):
    labels = np.zeros(50, int)
    predictions = np.where(np.arange(50) < wrong, 1, 0)
    elementwise = metrics.elementwise_accuracy(labels, np.eye(k)[predictions])
    top1 = arithmetic.top1_from_elementwise((elementwise, elementwise), k)
    assert top1 == pytest.approx((1 - wrong / 50,) * 2)


# ---- differences -------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(1, 60), st.data())
def test_difference_by_chance_is_fishers_exact_test(n, data):
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, n))
    independent = stats.fisher_exact([[a, n - a], [b, n - b]]).pvalue
    assert arithmetic.difference_by_chance((a, b), n) == pytest.approx(independent, abs=1e-9)


@pytest.mark.parametrize("difference", [0, 1, 3, 5, 6, -6, 14])
def test_least_p_is_a_sign_test_in_which_all_differ_one_way(difference):
    images = abs(difference)
    expected = stats.binomtest(images, images).pvalue if images else 1.0
    assert arithmetic.least_p_on_same_images(difference) == pytest.approx(expected)
