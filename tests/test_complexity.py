"""Costs counted by the program are those counted by hand."""

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

from fer_utils import complexity
from fer_utils.models import nouisser2023, rahman2021, yengikand2023


def test_the_paper_s_own_example():
    shapes = {"outputs": (8, 8), "kernel": (5, 5), "channels": 3, "filters": 256}
    assert complexity.convolution_multiplications(**shapes) == 1_228_800
    assert complexity.separable_multiplications(**shapes) == (4_800, 49_152)
    assert sum(complexity.separable_multiplications(**shapes)) == 53_952


# Attention and perceptron of yengikand2023: 36 tokens of 64 features, three of them side by side.
HEAD = (
    2 * 36 * 128 * 64  # query and value projections
    + 2 * 36 * 36 * (64 + 64)  # two attentions: a score a pair, then the weighted sum
    + 3 * 64 * 128  # perceptron
    + 128 * 7  # logits
)
NORMAL_BLOCKS = 48 * 48 * 9 * 1 * 32 + 24 * 24 * 9 * 32 * 64 + 12 * 12 * 9 * 64 * 128
SEPARABLE_BLOCKS = {
    "depthwise": (
        24 * 24 * (9 * 32 + 32 * 32) + 12 * 12 * (9 * 64 + 64 * 64) + 6 * 6 * (9 * 128 + 128 * 128)
    ),
    "spatial": (3 + 3) * (24 * 24 * 32 * 32 + 12 * 12 * 64 * 64 + 6 * 6 * 128 * 128),
    "normal": 9 * (24 * 24 * 32 * 32 + 12 * 12 * 64 * 64 + 6 * 6 * 128 * 128),
}


@pytest.mark.parametrize("convolution", SEPARABLE_BLOCKS)
def test_multiply_accumulates_of_yengikand2023_are_those_counted_by_hand(convolution):
    model = yengikand2023.build(convolution=convolution)
    expected = NORMAL_BLOCKS + SEPARABLE_BLOCKS[convolution] + HEAD
    assert complexity.multiply_accumulates(model) == expected


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.Conv2D(6, 3), 8 * 10 * 9 * 4 * 6),
        (layers.Conv2D(6, (3, 1), strides=2, padding="same"), 5 * 6 * 3 * 4 * 6),
        (layers.Conv2D(6, 3, groups=2), 8 * 10 * 9 * 2 * 6),
        (layers.SeparableConv2D(6, 3), 8 * 10 * (9 * 4 + 4 * 6)),
        (layers.DepthwiseConv2D(3), 8 * 10 * 9 * 4),
        (layers.Dense(5), 10 * 12 * 4 * 5),  # at every position
        (layers.BatchNormalization(), 0),
        (layers.MaxPooling2D(), 0),
        (layers.Flatten(), 0),
    ],
    ids=lambda value: value.name if isinstance(value, layers.Layer) else str(value),
)
def test_multiply_accumulates_of_one_layer(layer, expected):
    images = keras.Input((10, 12, 4))
    model = keras.Model(images, layer(images))
    assert complexity.multiply_accumulates(model) == expected


@pytest.mark.parametrize("layer", [layers.Attention(), layers.AdditiveAttention()])
def test_attention_counts_scores_and_weighted_sum(layer):
    query, value, key = keras.Input((5, 8)), keras.Input((7, 8)), keras.Input((7, 8))
    model = keras.Model([query, value, key], layer([query, value, key]))
    assert complexity.multiply_accumulates(model) == 5 * 7 * 8 + 5 * 7 * 8


def test_a_layer_with_weights_that_is_not_known_is_refused_by_name():
    images = keras.Input((8, 8, 2))
    upwards = layers.Conv2DTranspose(3, 3, name="upwards")
    model = keras.Model(images, upwards(images))
    with pytest.raises(ValueError, match=r"upwards.*Conv2DTranspose"):
        complexity.multiply_accumulates(model)


def test_latency_is_the_median_of_the_timed_calls_alone(monkeypatch):
    seconds = iter([0, 1, 10, 12, 20, 120])  # calls of 1, 2 and 100 seconds
    batches = []
    with monkeypatch.context() as clock:
        clock.setattr(complexity.time, "perf_counter", lambda: next(seconds))
        image = np.zeros((48, 48, 1), np.uint8)
        median = complexity.latency(batches.append, image, repeats=3)
    assert median == 2
    assert len(batches) > 3, "no warm-up"
    assert {(batch.shape, batch.dtype) for batch in batches} == {((1, 48, 48, 1), image.dtype)}


def test_latency_of_real_work_is_positive():
    image = np.ones((48, 48, 1), np.uint8)
    assert complexity.latency(lambda batch: np.sort(batch, axis=None), image, repeats=3) > 0


@pytest.mark.parametrize("value_dim", [None, 5])
def test_multi_head_attention_counts_projections_scores_and_sums(value_dim):
    query, value = keras.Input((5, 8)), keras.Input((7, 6))
    layer = layers.MultiHeadAttention(num_heads=3, key_dim=4, value_dim=value_dim)
    model = keras.Model([query, value], layer(query, value))
    each = value_dim or 4
    projections = 5 * 8 * 3 * 4 + 7 * 6 * 3 * 4 + 7 * 6 * 3 * each + 5 * 3 * each * 8
    assert complexity.multiply_accumulates(model) == projections + 3 * 5 * 7 * (4 + each)


def test_multiply_accumulates_of_mobilenet_are_those_of_its_convolutions():
    model = nouisser2023.build()
    expected, side, channels = 24 * 24 * 9 * 3 * 32, 24, 32
    for filters, stride in nouisser2023.BLOCKS:
        side //= stride
        expected += side * side * channels * (9 + filters)
        channels = filters
    assert complexity.multiply_accumulates(model) == expected + 1024 * 7


# ---- PyTorch -----------------------------------------------------------------------------------


def test_networks_in_torch_are_counted_as_they_run():
    network = nn.Sequential(
        nn.Conv2d(2, 8, 3, stride=2, padding=1),  # 5x5
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, (3, 1), groups=2),  # 3x5
        nn.Flatten(),
        nn.Linear(60, 7),
    ).train()
    image = np.zeros((10, 10, 2), np.uint8)
    before = network[1].running_mean.clone()
    network.insert(0, ToFloat())
    found = complexity.torch_multiply_accumulates(network, image)
    assert found == 25 * 8 * 9 * 2 + 15 * 4 * 3 * 4 + 60 * 7
    assert network.training
    assert torch.equal(network[2].running_mean, before), "counting must not train"
    assert complexity.torch_multiply_accumulates(network, image) == found, "a hook stayed behind"


class ToFloat(nn.Module):
    def forward(self, images):
        return images.float()


def test_a_layer_in_torch_with_unknown_costs_is_refused():
    network = nn.Sequential(ToFloat(), nn.PReLU())
    with pytest.raises(ValueError, match="of a PReLU layer are not known"):
        complexity.torch_multiply_accumulates(network, np.zeros((4, 4, 1), np.uint8))
    network(torch.zeros(1, 1, 4, 4))  # and counts no longer


@pytest.mark.parametrize(
    ("model", "products"), [("resnet18", 1_814_073_344), ("vgg19", 19_632_062_464)]
)
def test_the_published_networks_cost_what_is_known_of_them(model, products):
    with torch.device("meta"):  # shapes alone
        network = rahman2021.build(1000, model=model, side=224, channels=3)
    image = np.zeros((224, 224, 3), np.uint8)
    assert complexity.torch_multiply_accumulates(network, image) == products
