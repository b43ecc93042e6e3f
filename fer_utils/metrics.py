"""What a set of predictions is worth; NumPy only."""

from __future__ import annotations

import numpy as np


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """How often class i (row, true) was called class j (column).

    Args:
        labels: int (N,), 0..K-1.
        predictions: int (N,), 0..K-1.
        num_classes: K.

    Returns:
        int64 (K, K); its sum is N.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    pairs = labels * num_classes + predictions
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def elementwise_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The accuracy that `binary_accuracy` prints: each of N x K outputs against 0.5.

    It rewards every class that is rightly not predicted: predicting nothing scores 1 - 1/K.

    Args:
        labels: int (N,), 0..K-1.
        probabilities: float (N, K), 0-1.

    Returns:
        A fraction.

    Source:
        Equation 3 of yengikand2023 ("true positives + true negatives") read literally.
    """
    truth = np.eye(probabilities.shape[1], dtype=bool)[labels]
    return float(np.mean((probabilities > 0.5) == truth))


def score(labels: np.ndarray, probabilities: np.ndarray, class_names: tuple[str, ...]) -> dict:
    """Every figure that a record keeps of one part of the data.

    Args:
        labels: int (N,), 0..K-1; N at least 1.
        probabilities: float (N, K), rows summing to 1; the prediction is the largest.
        class_names: the K names.

    Returns:
        n, correct, accuracy, balanced_accuracy and macro_f1 (means over the classes present),
        log_loss (nats), elementwise_accuracy, confusion_matrix (rows true), and per_class with
        recall, precision, f1 and support. None: recall and f1 of an expression without images,
        precision of one that is never predicted. Fractions, not percent; JSON-ready.

    Raises:
        ValueError: no images, labels outside 0..K-1, or shapes that do not match.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    num_classes = len(class_names)
    if probabilities.shape != (len(labels), num_classes) or len(labels) == 0:
        raise ValueError(
            f"{probabilities.shape} probabilities for {len(labels)} labels, {num_classes} classes"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels {labels.min()}..{labels.max()}, expected 0..{num_classes - 1}")
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), num_classes)
    right, support, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    present = support > 0
    recall = right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(support + predicted, 1)
    likelihood = np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1)
    return {
        "n": len(labels),
        "correct": int(right.sum()),
        "accuracy": float(right.sum() / len(labels)),
        "balanced_accuracy": float(recall[present].mean()),
        "macro_f1": float(f1[present].mean()),
        "log_loss": float(-np.log(likelihood).mean()),
        "elementwise_accuracy": elementwise_accuracy(labels, probabilities),
        "per_class": {
            name: {
                "recall": float(recall[k]) if support[k] else None,
                "precision": float(right[k] / predicted[k]) if predicted[k] else None,
                "f1": float(f1[k]) if support[k] else None,
                "support": int(support[k]),
            }
            for k, name in enumerate(class_names)
        },
        "confusion_matrix": matrix.tolist(),
    }


# Figures of a confusion matrix, or of many; arguments and results as `accuracy` has them.


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Share of images whose most probable expression is the true one.

    Args:
        matrix: counts (..., K, K), rows true.

    Returns:
        Fractions (...).
    """
    return _right(matrix).sum(axis=-1) / matrix.sum(axis=(-2, -1))


def balanced_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Mean recall of the expressions that occur ("macro recall")."""
    return _mean_of_present(_right(matrix) / np.maximum(matrix.sum(axis=-1), 1), matrix)


def macro_precision(matrix: np.ndarray) -> np.ndarray:
    """Mean precision of the expressions that occur; 0 for one that is never predicted."""
    return _mean_of_present(_right(matrix) / np.maximum(matrix.sum(axis=-2), 1), matrix)


def macro_f1(matrix: np.ndarray) -> np.ndarray:
    """Mean F1 of the expressions that occur."""
    both = matrix.sum(axis=-1) + matrix.sum(axis=-2)
    return _mean_of_present(2 * _right(matrix) / np.maximum(both, 1), matrix)


def detection_rate(matrix: np.ndarray) -> np.ndarray:
    """Share of the expressions that occur whose most frequent prediction is right.

    Of equally frequent ones the first counts.

    Source:
        "Emotion detection rate" under Tables 5.1-5.5 of rahman2021: 5 of 7 is 71.42 %.
    """
    classes = np.arange(matrix.shape[-1])
    return _mean_of_present(matrix.argmax(axis=-1) == classes, matrix)


def _right(matrix: np.ndarray) -> np.ndarray:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _mean_of_present(figures: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    present = matrix.sum(axis=-1) > 0
    return np.where(present, figures, 0).sum(axis=-1) / present.sum(axis=-1)
