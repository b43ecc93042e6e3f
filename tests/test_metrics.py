"""Metrics agree with sums done by hand and with scikit-learn."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from fer_utils.metrics import confusion_matrix, elementwise_accuracy, score

NAMES = ("anger", "fear", "happiness", "sadness")


def sure(predictions, num_classes, top=0.7):
    """Probabilities with `top` at the predicted class and the rest shared evenly."""
    rest = (1 - top) / (num_classes - 1)
    return np.where(np.eye(num_classes, dtype=bool)[predictions], top, rest)


# Three of class 0 (two right, one called 1), two of class 1 (one right, one called 2), one of 2.
LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([0, 0, 1, 1, 2, 2])


def test_confusion_matrix_has_a_row_for_each_true_class():
    matrix = confusion_matrix(LABELS, PREDICTIONS, 3)
    np.testing.assert_array_equal(matrix, [[2, 1, 0], [0, 1, 1], [0, 0, 1]])


def test_score_agrees_with_the_sums_done_by_hand():
    scored = score(LABELS, sure(PREDICTIONS, 3), NAMES[:3])
    assert (scored["n"], scored["correct"]) == (6, 4)
    assert scored["accuracy"] == pytest.approx(4 / 6)
    assert scored["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert scored["macro_f1"] == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    assert scored["log_loss"] == pytest.approx(-(4 * np.log(0.7) + 2 * np.log(0.15)) / 6)
    assert scored["elementwise_accuracy"] == pytest.approx(14 / 18)  # a wrong image: 2 of 3 wrong
    assert scored["confusion_matrix"] == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert scored["per_class"] == {
        "anger": pytest.approx({"recall": 2 / 3, "precision": 1, "f1": 4 / 5, "support": 3}),
        "fear": pytest.approx({"recall": 1 / 2, "precision": 1 / 2, "f1": 1 / 2, "support": 2}),
        "happiness": pytest.approx({"recall": 1, "precision": 1 / 2, "f1": 2 / 3, "support": 1}),
    }


def test_score_is_ready_for_json():
    scored = score(LABELS, sure(PREDICTIONS, 3).astype(np.float32), NAMES[:3])
    assert json.loads(json.dumps(scored)) == scored


def test_a_class_neither_present_nor_predicted_has_no_figures_and_moves_no_mean():
    three = score(LABELS, sure(PREDICTIONS, 3), NAMES[:3])
    four = score(LABELS, sure(PREDICTIONS, 4), NAMES)
    nothing = {"recall": None, "precision": None, "f1": None, "support": 0}
    assert four["per_class"]["sadness"] == nothing
    for mean in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert four[mean] == three[mean]


def test_a_class_predicted_without_being_present_has_precision_alone():
    scored = score(np.array([0, 0, 1]), sure([0, 2, 1], 3), NAMES[:3])
    absent = {"recall": None, "precision": 0.0, "f1": None, "support": 0}
    assert scored["per_class"]["happiness"] == absent
    assert scored["balanced_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
    assert scored["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_a_class_present_without_being_predicted_has_no_precision():
    scored = score(np.array([0, 1]), sure([0, 0], 2), NAMES[:2])
    assert scored["per_class"]["fear"] == {"recall": 0, "precision": None, "f1": 0, "support": 1}
    assert scored["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_log_loss_of_an_impossible_class_is_finite():
    scored = score(np.array([0]), np.array([[0.0, 1.0]]), NAMES[:2])
    assert scored["log_loss"] == pytest.approx(-np.log(1e-12))


@pytest.mark.parametrize("num_classes", [3, 7, 8])
def test_predicting_nothing_scores_elementwise_1_minus_1_over_k(num_classes):
    labels = np.arange(20) % num_classes
    nothing = np.full((20, num_classes), 1 / num_classes)
    assert elementwise_accuracy(labels, nothing) == pytest.approx(1 - 1 / num_classes)
    assert elementwise_accuracy(labels, np.eye(num_classes)[labels]) == 1


def test_an_output_of_exactly_one_half_predicts_nothing():
    assert elementwise_accuracy(np.array([2]), np.array([[0.5, 0.5, 0.0]])) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("labels", "shape", "message"),
    [
        ([], (0, 3), "0 labels"),
        ([0, 1], (3, 3), r"\(3, 3\) probabilities for 2 labels"),
        ([0, 1], (2, 4), r"\(2, 4\) probabilities for 2 labels, 3 classes"),
        ([0, 3], (2, 3), r"labels 0\.\.3, expected 0\.\.2"),
        ([-1, 0], (2, 3), r"labels -1\.\.0, expected 0\.\.2"),
    ],
)
def test_score_refuses_what_cannot_be_scored(labels, shape, message):
    with pytest.raises(ValueError, match=message):
        score(np.array(labels, int), np.full(shape, 1 / 3), NAMES[:3])


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60), num_classes=st.integers(2, 8))
def test_score_agrees_with_scikit_learn(seed, n, num_classes):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, n)
    probabilities = rng.dirichlet(np.full(num_classes, 0.5), n)
    predictions = probabilities.argmax(1)
    names = tuple(f"class{k}" for k in range(num_classes))
    scored = score(labels, probabilities, names)

    classes, present = np.arange(num_classes), np.unique(labels)
    expected_matrix = sklearn_metrics.confusion_matrix(labels, predictions, labels=classes)
    np.testing.assert_array_equal(scored["confusion_matrix"], expected_matrix)
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, predictions, labels=classes, zero_division=np.nan
    )
    for k, figures in enumerate(scored["per_class"].values()):
        assert figures["support"] == support[k]
        for name, expected in (("precision", precision), ("recall", recall)):
            if np.isnan(expected[k]):
                assert figures[name] is None
            else:
                assert figures[name] == pytest.approx(expected[k])
        if k in present:
            assert figures["f1"] == pytest.approx(f1[k])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of predictions that are no label
        balanced = sklearn_metrics.balanced_accuracy_score(labels, predictions)
    assert scored["balanced_accuracy"] == pytest.approx(balanced)
    assert scored["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predictions))
    macro_f1 = sklearn_metrics.f1_score(
        labels, predictions, labels=present, average="macro", zero_division=0
    )
    assert scored["macro_f1"] == pytest.approx(macro_f1)
    clipped = np.clip(probabilities, 1e-12, 1)
    log_loss = sklearn_metrics.log_loss(
        labels, clipped / clipped.sum(1, keepdims=True), labels=classes
    )
    assert scored["log_loss"] == pytest.approx(log_loss, rel=1e-6)
