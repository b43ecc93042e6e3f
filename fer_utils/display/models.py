"""Tables on networks: weights, multiply-accumulates, latency."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from IPython.display import HTML

from fer_utils import complexity
from fer_utils.display.cells import table


def sizes(models: dict[str, object], image: np.ndarray, heading: str = "Convolution") -> HTML:
    """Parameters, multiply-accumulates and latency of networks, beside the last one's.

    Args:
        models: built models by name, in Keras or in PyTorch; the last is the one to compare with.
        image: uint8 (H, W, C), timed alone, as a webcam would send it.
        heading: of the column with the names.
    """
    found = [(name, *_measured(model, image)) for name, model in models.items()]
    base = found[-1]
    return table(
        [
            {
                heading: name,
                "Parameters": f"{parameters:,}",
                "Multiply-accumulates": f"{products:,}",
                f"Parameters against {base[0]}": f"{parameters / base[1]:.2f}",
                f"Multiply-accumulates against {base[0]}": f"{products / base[2]:.2f}",
                f"Latency against {base[0]}": f"{seconds / base[3]:.2f}",
            }
            for name, parameters, products, seconds in found
        ]
    )


def _measured(model: object, image: np.ndarray) -> tuple[int, int, float]:
    """Parameters, multiply-accumulates and seconds for one image (H, W, C) of a network."""
    if hasattr(model, "count_params"):  # Keras
        seconds = complexity.latency(partial(model, training=False), image.astype("float32"))
        return model.count_params(), complexity.multiply_accumulates(model), seconds
    import torch

    batch, training = torch.from_numpy(image.transpose(2, 0, 1).copy())[None], model.training
    model.eval()
    with torch.inference_mode():
        seconds = complexity.latency(lambda _: model(batch), image, 20)
    model.train(training)
    return _weights(model), complexity.torch_multiply_accumulates(model, image), seconds


def _weights(network) -> int:
    """Of a network in PyTorch."""
    return sum(weight.numel() for weight in network.parameters())


def model_sizes(models: dict[str, object]) -> HTML:
    """Parameters and multiply-accumulates of Keras models by name."""
    return table(
        [
            {
                "Network": name,
                "Parameters": f"{model.count_params():,}",
                "Multiply-accumulates": f"{complexity.multiply_accumulates(model):,}",
            }
            for name, model in models.items()
        ]
    )


def networks(
    builders: dict[str, Callable], image: np.ndarray, published: dict | None = None
) -> HTML:
    """Parameters, multiply-accumulates and latency of networks in PyTorch.

    Args:
        builders: by name, what returns an untrained network, as used here and, with `published`'s
            arguments, as its inventors described it.
        image: uint8 (H, W, C), timed alone, as a webcam would send it.
        published: arguments of the published size; None: there is none, and no column of it.
    """
    import torch

    found = []
    for name, build in builders.items():
        as_published = {}
        if published is not None:
            with torch.device("meta"):  # counted, never filled
                as_published = {"Parameters for ImageNet": f"{_weights(build(**published)):,}"}
        found.append((name, as_published, *_measured(build(), image)))
    return table(
        [
            {
                "Network": name,
                **as_published,
                "Parameters here": f"{here:,}",
                "Multiply-accumulates here": f"{products:,}",
                f"Latency against {found[0][0]}": f"{seconds / found[0][-1]:.2f}",
            }
            for name, as_published, here, products, seconds in found
        ]
    )
