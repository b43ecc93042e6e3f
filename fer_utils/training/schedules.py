"""Learning rates as pure functions of the history, so that a resumed run goes on exactly.

Each function here returns the `learning_rate` of a loop's `fit`: from the history so far to the
next epoch's rate, or to None, which ends the training.
"""

from __future__ import annotations

from collections.abc import Callable

Schedule = Callable[[dict[str, list[float]]], float | None]


def plateau(
    start: float,
    *,
    factor: float = 0.5,
    patience: int = 5,
    stop_after: int = 15,
    monitor: str = "val_loss",
) -> Schedule:
    """Multiply the rate where learning stagnates, and stop where it stagnates for long.

    What `ReduceLROnPlateau` and `EarlyStopping` of Keras do together with `min_delta=0`.

    Args:
        start: the first epochs' rate.
        factor: what the rate is multiplied by.
        patience: epochs without a new lowest `monitor` after which it is, each time anew.
        stop_after: epochs without a new lowest `monitor` after which training ends.
        monitor: a figure of the history that gets smaller as the model gets better.

    Source:
        nouisser2023, section 4.2: 0.001, "reduced by a factor of 0.5 once learning stagnate", and
        early stopping; neither patience is told.
    """

    def learning_rate(history: dict[str, list[float]]) -> float | None:
        rate, lowest, since = start, float("inf"), 0
        for value in history[monitor]:
            since = 0 if value < lowest else since + 1
            lowest = min(lowest, value)
            if since and since % patience == 0:
                rate *= factor
        return None if since >= stop_after else rate

    return learning_rate


def stepwise(rates: dict[int, float]) -> Schedule:
    """A rate from each of some epochs on.

    Args:
        rates: by the number of finished epochs from which a rate holds; 0 must be among them.

    Source:
        wang2023, Table 1.
    """

    def learning_rate(history: dict[str, list[float]]) -> float:
        finished = len(history["loss"])
        return rates[max(start for start in rates if start <= finished)]

    return learning_rate
