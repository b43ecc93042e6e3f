"""Parameters, multiply-accumulates and latency: what a network costs."""

from __future__ import annotations

import time
from math import prod

import numpy as np


def convolution_multiplications(
    outputs: tuple[int, int], kernel: tuple[int, int], channels: int, filters: int
) -> int:
    """Multiplications of a normal convolution.

    Args:
        outputs: (height, width) of the result.
        kernel: (height, width) of a filter.
        channels: of the input.
        filters: channels of the result.

    Source:
        yengikand2023, section III.A.1: 256 * 3 * 5 * 5 * 8 * 8 = 1,228,800.
    """
    return prod(outputs) * prod(kernel) * channels * filters


def separable_multiplications(
    outputs: tuple[int, int], kernel: tuple[int, int], channels: int, filters: int
) -> tuple[int, int]:
    """Multiplications of the depthwise and of the pointwise half of a separable convolution.

    Args:
        outputs, kernel, channels, filters: see `convolution_multiplications`.

    Returns:
        (depthwise, pointwise).

    Source:
        yengikand2023, section III.A.2: 4,800 + 49,152 = 53,952.
    """
    return (
        prod(outputs) * prod(kernel) * channels,
        convolution_multiplications(outputs, (1, 1), channels, filters),
    )


def multiply_accumulates(model) -> int:
    """Multiply-accumulates of one image through a Keras model, counted layer by layer.

    Convolutions, dense layers and the products inside attention count; batch normalization,
    activations, pooling and additions do not, as is usual.

    Args:
        model: a built functional `keras.Model` with one input shape.

    Raises:
        ValueError: a layer with weights that this function does not know.
    """
    return sum(_of_layer(layer) for layer in model.layers)


def _of_layer(layer) -> int:
    kind = type(layer).__name__
    if kind in ("Conv2D", "SeparableConv2D", "DepthwiseConv2D"):
        _, height, width, filters = layer.output.shape
        channels = layer.input.shape[-1]
        if kind == "Conv2D":
            return convolution_multiplications(
                (height, width), layer.kernel_size, channels // layer.groups, filters
            )
        halves = separable_multiplications((height, width), layer.kernel_size, channels, filters)
        return sum(halves) if kind == "SeparableConv2D" else halves[0]
    if kind == "Dense":
        return prod(layer.output.shape[1:]) * layer.input.shape[-1]
    if kind in ("Attention", "AdditiveAttention"):
        (_, queries, units), (_, values, features) = (tensor.shape for tensor in layer.input[:2])
        return queries * values * (units + features)  # scores, then the weighted sum
    if kind == "MultiHeadAttention":
        (_, queries, channels), (_, values, features) = (tensor.shape for tensor in layer.input[:2])
        scored, summed = layer.num_heads * layer.key_dim, layer.num_heads * layer.value_dim
        projections = queries * channels * scored + values * features * (scored + summed)
        outputs = queries * summed * layer.output.shape[-1]
        return projections + queries * values * (scored + summed) + outputs
    if kind in ("BatchNormalization", "Rescaling", "Normalization") or not layer.weights:
        return 0
    raise ValueError(f"{layer.name}: multiply-accumulates of a {kind} layer are not known")


def latency(predict, image: np.ndarray, repeats: int = 50) -> float:
    """Median seconds that `predict` takes for one image, after a warm-up.

    Args:
        predict: from (1, H, W, C) to anything.
        image: (H, W, C), of the dtype that `predict` takes.
        repeats: how many times it is timed.
    """
    batch = image[None]
    for _ in range(5):
        predict(batch)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        predict(batch)
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def torch_multiply_accumulates(network, image: np.ndarray) -> int:
    """Multiply-accumulates of one image through a network in PyTorch, counted as it runs.

    Args:
        network: a `torch.nn.Module` from images (N, C, H, W) to anything.
        image: uint8 (H, W, C).

    Raises:
        ValueError: a layer with weights that this function does not know.
    """
    import torch
    from torch import nn

    counts = []

    def count(layer, inputs, output) -> None:
        if isinstance(layer, nn.Conv2d):
            counts.append(output[0, 0].numel() * layer.weight.numel())
        elif isinstance(layer, nn.Linear):
            counts.append(output[0].numel() * layer.in_features)
        elif not isinstance(layer, nn.BatchNorm2d) and [*layer.parameters(recurse=False)]:
            kind = type(layer).__name__
            raise ValueError(f"multiply-accumulates of a {kind} layer are not known")

    hooks = [layer.register_forward_hook(count) for layer in network.modules()]
    training, device = network.training, next(network.parameters()).device
    try:
        with torch.inference_mode():
            network.eval()(torch.from_numpy(image.transpose(2, 0, 1).copy())[None].to(device))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return sum(counts)
