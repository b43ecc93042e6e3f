"""Separable convolution network and attention (yengikand2023), in Keras 3.

Reference:
    A. Khani Yengikand, M. Farrokhi Afsharyan, P. Nejati: Facial Expression Recognition Based on
    Separable Convolution Network and Attention Mechanism. IJICTR, 2023.

The paper's text gives no widths, and leaves open where the shortcut goes and which tensors are its
"two outputs"; its figures are not in the copy used here. Choices made here are marked OPEN; the
chapter lists them all with their reasons.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import keras
from keras import layers

Convolution = Literal["depthwise", "spatial", "normal"]

# OPEN: the paper gives no widths. One width per resolution, doubled where pooling halves it.
WIDTHS = (32, 64, 128)
ATTENTION_UNITS = 64  # OPEN: the attentions without a size
PERCEPTRON_UNITS = 128  # OPEN: "multilayer perceptron" without a size

# The network's forms by name, as arguments of `build`, and the weights of each, trained and not,
# with 7 classes; the paper prints no count.
VARIANTS = {form: {"convolution": form} for form in ("depthwise", "spatial", "normal")}
PARAMETERS = {"depthwise": 159_944, "spatial": 265_448, "normal": 329_960}


def build(
    num_classes: int = 7,
    *,
    convolution: Convolution = "depthwise",
    dropout: float = 0.2,
    widths: tuple[int, int, int] = WIDTHS,
    input_shape: tuple[int, int, int] = (48, 48, 1),
) -> keras.Model:
    """The network of section IV: 6 blocks, two attentions, a perceptron, softmax.

    Args:
        num_classes: K, the expressions told apart.
        convolution: what the three separable blocks use: "depthwise" (section III, which
            counts its multiplications), "spatial" (a 3x1 then a 1x3 convolution, the words of
            section IV.A) or "normal" (the ablation the paper's claim is about).
        dropout: rate at both dropout layers; the paper searches {0.1, 0.2, 0.3}.
        widths: channels after each of the three pairs of blocks.
        input_shape: (H, W, 1), grey.

    Returns:
        An uncompiled model from images uint8 or float (N, H, W, 1), 0-255, to probabilities
        float32 (N, K). Parameters by default: PARAMETERS[convolution].
    """
    images = keras.Input(input_shape, name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="to_unit_range")(images)  # OPEN: -1..1

    # A. Feature extraction: 3 normal and 3 separable blocks, in pairs.    48x48x1
    for number, width in enumerate(widths, start=1):
        normal = _normal_block(x, width, f"normal{number}")  # 24x24x32, 12x12x64, 6x6x128
        x = _separable_block(normal, width, convolution, f"separable{number}")  # same shape

    # B. Feature composition. OPEN: the two outputs are those of the last two blocks, one from
    # normal and one from separable convolutions, so that each attention asks one with the other.
    query = _tokens(x, "query")  # 36x64
    value = _tokens(normal, "value")  # 36x64
    multiplied = layers.Attention(use_scale=True, name="normal_attention")([query, value])
    added = layers.AdditiveAttention(name="additive_attention")([query, value])  # eq. 2
    x = layers.Concatenate(name="composition")([multiplied, added, query])  # 36x192
    x = layers.GlobalAveragePooling1D(name="pooled_tokens")(x)  # 192

    # C. Classification: a perceptron, then softmax.
    x = layers.Dropout(dropout, name="dropout_features")(x)
    x = layers.Dense(PERCEPTRON_UNITS, activation="relu", name="perceptron")(x)  # 128
    x = layers.Dropout(dropout, name="dropout_perceptron")(x)
    logits = layers.Dense(num_classes, name="logits")(x)  # K
    return keras.Model(images, layers.Softmax(name="probabilities")(logits), name="yengikand2023")


def _normal_block(x, width: int, name: str):
    """Convolution, batch normalization, pooling; ReLU last, where it costs a quarter.

    ReLU after max-pooling gives the same numbers as before it.
    """
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    x = layers.MaxPooling2D(2, name=f"{name}_pool")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _separable_block(x, width: int, convolution: Convolution, name: str):
    """Separable convolution and batch normalization, with the residual shortcut around them.

    OPEN: section IV.A has a shortcut that "connects the output of one layer to several layers
    ahead"; here it spans each separable block, whose input and output have one shape.
    """
    shortcut = x
    options = {"padding": "same", "use_bias": False}
    if convolution == "depthwise":
        x = layers.SeparableConv2D(width, 3, **options, name=f"{name}_conv")(x)
    elif convolution == "spatial":
        x = layers.Conv2D(width, (3, 1), **options, name=f"{name}_conv_column")(x)
        x = layers.Conv2D(width, (1, 3), **options, name=f"{name}_conv_row")(x)
    elif convolution == "normal":
        x = layers.Conv2D(width, 3, **options, name=f"{name}_conv")(x)
    else:
        raise ValueError(f"convolution {convolution!r}: one of depthwise, spatial, normal")
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    x = layers.Add(name=f"{name}_shortcut")([shortcut, x])
    return layers.ReLU(name=f"{name}_relu")(x)


def _tokens(x, name: str):
    """One attention token of 64 features a position: (N, H, W, C) -> (N, H * W, 64)."""
    x = layers.Conv2D(ATTENTION_UNITS, 1, name=f"{name}_projection")(x)
    return layers.Reshape((-1, ATTENTION_UNITS), name=f"{name}_tokens")(x)


def compile_model(model: keras.Model, learning_rate: float = 0.001) -> keras.Model:
    """Adam (section V.B) and, OPEN, cross-entropy over softmax; returns the same model.

    XLA is off: on a CPU it halves the speed of these small convolutions (measured).
    """
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def transfer(trained: keras.Model, num_classes: int, **options) -> keras.Model:
    """The same network with `trained`'s weights and a new last layer, for fine-tuning.

    Section V.C trains on FER2013 first and then "again" on CK+ and JAFFE. OPEN: the last layer
    starts anew. CK+ has contempt and no neutral; JAFFE has the seven expressions of FER2013 and
    takes the same rule.

    Args:
        trained: a model of `build`.
        num_classes: K of the data set to fine-tune on.
        options: what `trained` was built with (convolution, dropout, ...).

    Returns:
        An uncompiled model; every layer but "logits" holds a copy of `trained`'s weights.
    """
    model = build(num_classes, **options)
    for layer in model.layers:
        if layer.name != "logits":
            layer.set_weights(trained.get_layer(layer.name).get_weights())
    return model


def layout() -> tuple[list, list]:
    """Columns and arrows for `drawings.blocks`: the network, the shape of what leaves each box."""
    pairs = [(n, 48 // 2**n, width) for n, width in enumerate(WIDTHS, start=1)]
    columns = [[("image", "48x48x1")]]
    for n, side, width in pairs:
        columns += [[(f"normal {n}", f"{side}x{side}x{width}")]]
        columns += [[(f"separable {n}", f"{side}x{side}x{width}")]]
    # Beside the block that it goes around; the queries' projection has no box of its own.
    columns[-1] += [("projected", f"{side}x{side}x{ATTENTION_UNITS}")]
    tokens = f"{side**2}x{ATTENTION_UNITS}"
    columns += [
        [("queries", tokens), ("values", tokens)],
        [("multiplied", tokens), ("added", tokens)],
        [("merged", f"{3 * ATTENTION_UNITS}")],
        [("perceptron", f"{PERCEPTRON_UNITS}")],
        [("softmax", "7")],
    ]
    along = [column[0][0] for column in columns]
    last = along.index("queries")
    normal = along[last - 2]
    arrows = list(pairwise(along[: last + 1]))
    arrows += [(normal, "projected"), ("projected", "values"), ("queries", "merged", "skip")]
    for attention in ("multiplied", "added"):
        arrows += [("queries", attention), ("values", attention), (attention, "merged")]
    arrows += [("merged", "perceptron"), ("perceptron", "softmax")]
    arrows += [(f"normal {n}", f"separable {n}", "skip") for n, _, _ in pairs]
    return columns, arrows
