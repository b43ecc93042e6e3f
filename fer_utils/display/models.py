"""Tables on networks: weights, multiply-accumulates, latency."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from IPython.display import HTML

from fer_utils import complexity
from fer_utils.display.cells import table


def sizes(models: dict[str, object], image: np.ndarray) -> HTML:
    """Parameters, multiply-accumulates and latency of Keras models, beside the last one's.

    Args:
        models: built models by name; the last is the one to compare with.
        image: uint8 (H, W, C), timed alone, as a webcam would send it.
    """
    found = [
        (
            name,
            model.count_params(),
            complexity.multiply_accumulates(model),
            complexity.latency(partial(model, training=False), image.astype("float32")),
        )
        for name, model in models.items()
    ]
    base = found[-1]
    return table(
        [
            {
                "Convolution": name,
                "Parameters": f"{parameters:,}",
                "Multiply-accumulates": f"{products:,}",
                f"Parameters against {base[0]}": f"{parameters / base[1]:.2f}",
                f"Multiply-accumulates against {base[0]}": f"{products / base[2]:.2f}",
                f"Latency against {base[0]}": f"{seconds / base[3]:.2f}",
            }
            for name, parameters, products, seconds in found
        ]
    )


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


def networks(builders: dict[str, Callable], image: np.ndarray, published: dict) -> HTML:
    """Parameters, multiply-accumulates and latency of networks in PyTorch.

    Args:
        builders: by name, what returns an untrained network, as used here and, with `published`'s
            arguments, as its inventors described it.
        image: uint8 (H, W, C), timed alone, as a webcam would send it.
        published: arguments of the published size.
    """
    import torch

    def weights(network) -> int:
        return sum(weight.numel() for weight in network.parameters())

    batch = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    found = []
    for name, build in builders.items():
        network = build().eval()
        with torch.inference_mode():
            seconds = complexity.latency(lambda _, network=network: network(batch), image, 20)
        with torch.device("meta"):  # counted, never filled
            as_published = weights(build(**published))
        products = complexity.torch_multiply_accumulates(network, image)
        found.append((name, as_published, weights(network), products, seconds))
    return table(
        [
            {
                "Network": name,
                "Parameters for ImageNet": f"{as_published:,}",
                "Parameters here": f"{here:,}",
                "Multiply-accumulates here": f"{products:,}",
                f"Latency against {found[0][0]}": f"{seconds / found[0][-1]:.2f}",
            }
            for name, as_published, here, products, seconds in found
        ]
    )
