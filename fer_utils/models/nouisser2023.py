"""MobileNet with skip connections and multi-head self-attention (nouisser2023), in Keras 3.

Reference:
    A. Nouisser, R. Zouari, M. Kherallah: Deep Learning Based Mobilenet and Multi-Head Attention
    Model for Facial Expression Recognition. IAJIT 20(3A), 2023.

MobileNet itself is that of howard2017 as `keras.applications` has it, layer names included, so
that its ImageNet weights fit. Where skips go and how attention joins is not in the text; Figures 7
and 8 may show it. Choices made here are marked OPEN, and the chapter lists them.
"""

from __future__ import annotations

from itertools import pairwise

import keras
from keras import layers

# Filters and stride of the 13 depthwise-separable blocks (howard2017, Table 1).
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
    *((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((1024, 2), (1024, 1)),
)
HEADS, UNITS = 8, 64  # section 4.2
# OPEN, from scratch only: a depthwise filter has 9 inputs. Keras' usual start counts those of all
# channels, and the outputs then vary less than batch normalization can tell from nothing.
NINE_INPUTS = keras.initializers.VarianceScaling(2.0, mode="fan_out")

# The three models of Table 3 by name, as arguments of `build`, and the weights of each, trained
# and not, with 7 classes; the paper prints no count. 3,228,864 of them are MobileNet's own.
VARIANTS = {
    "mobilenet": {},
    "skips": {"skips": True},
    "attention": {"skips": True, "attention": True},
}
PARAMETERS = {"mobilenet": 3_236_039, "skips": 3_942_343, "attention": 11_937_735}


def build(
    num_classes: int = 7,
    *,
    skips: bool = False,
    attention: bool = False,
    attention_from: int | None = None,
    weights: str | None = None,
    input_shape: tuple[int, int, int] = (48, 48, 1),
) -> keras.Model:
    """One of the three models of Table 3.

    Args:
        num_classes: K, the expressions told apart.
        skips: a skip connection around each depthwise-separable block.
        attention: multi-head self-attention on the output of each block.
        attention_from: the largest side of a map that gets attention; None for all maps, as the
            paper says. At 48x48 the sides are 24, 12, 6 and 3, and that of 24 alone costs more
            than all the rest.
        weights: "imagenet" for those that Keras fetches, or the path of such a file (.h5 without
            the top). MobileNet's own layers then hold them and are frozen, batch normalization
            included; skips, attentions and the last layer learn. None: random weights, and
            nothing is frozen.
        input_shape: (H, W, 1), grey; H and W at least 32.

    Returns:
        An uncompiled model from images uint8 or float (N, H, W, 1), 0-255, to probabilities
        float32 (N, K). Parameters by default: PARAMETERS of the variant.
    """
    images = keras.Input(input_shape, name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="to_unit_range")(images)
    x = layers.Concatenate(name="three_channels")([x, x, x])  # 48x48x3

    x = layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False, name="conv1")(x)
    x = _normalized_relu(x, "conv1")  # 24x24x32
    for number, (filters, stride) in enumerate(BLOCKS, start=1):
        before = x
        x = _separable_block(x, filters, stride, number)  # 24x24x64 ... 1x1x1024
        # OPEN: a map of one position is left out, where there is nothing to attend to.
        if attention and 1 < x.shape[1] <= (attention_from or x.shape[1]):
            x = _attend(x, number)  # same shape
        if skips:
            x = _skip(before, x, stride, number)  # same shape

    x = layers.GlobalAveragePooling2D(name="average_pooling")(x)  # 1024
    logits = layers.Dense(num_classes, name="logits")(x)  # K
    model = keras.Model(images, layers.Softmax(name="probabilities")(logits), name="nouisser2023")
    if weights is not None:
        _load_and_freeze(model, weights)
    return model


def _separable_block(x, filters: int, stride: int, number: int):
    """Depthwise, then pointwise convolution, each with batch normalization and ReLU6."""
    if stride == 2:  # at the right and lower edge, as the ImageNet weights were trained
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{number}")(x)
    padding = "valid" if stride == 2 else "same"
    x = layers.DepthwiseConv2D(
        3,
        strides=stride,
        padding=padding,
        depthwise_initializer=NINE_INPUTS,
        use_bias=False,
        name=f"conv_dw_{number}",
    )(x)
    x = _normalized_relu(x, f"conv_dw_{number}")
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"conv_pw_{number}")(x)
    return _normalized_relu(x, f"conv_pw_{number}")


def _normalized_relu(x, name: str):
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def _attend(x, number: int):
    """Multi-head self-attention over the positions, equations 2 and 3, added to its input.

    OPEN: the text does not tell how the result joins. Equation 3 ends with the concatenated heads;
    Keras projects them back to the block's channels (vaswani2017), a quarter of the weights here.
    The equation has no offsets, and no position codes are mentioned.
    """
    _, height, width, channels = x.shape
    tokens = layers.Reshape((height * width, channels), name=f"tokens_{number}")(x)
    attended = layers.MultiHeadAttention(HEADS, UNITS, use_bias=False, name=f"attention_{number}")(
        tokens, tokens
    )
    attended = layers.Reshape((height, width, channels), name=f"attended_{number}")(attended)
    return layers.Add(name=f"with_attention_{number}")([x, attended])


def _skip(before, after, stride: int, number: int):
    """What went into a block, added to what came out of it.

    OPEN: section 3.3 has them "between successive depthwise and pointwise convolution layers".
    Where shapes differ, a 1x1 convolution matches them, as in residual networks (he2016).
    """
    if stride == 2:  # the block's windows are centred on positions 1, 3, 5, ...
        before = layers.Cropping2D(((1, 0), (1, 0)), name=f"skip_{number}_crop")(before)
    if before.shape != after.shape:
        filters = after.shape[-1]
        before = layers.Conv2D(
            filters, 1, strides=stride, use_bias=False, name=f"skip_{number}_conv"
        )(before)
        before = layers.BatchNormalization(name=f"skip_{number}_bn")(before)
    return layers.Add(name=f"skip_{number}")([before, after])


def _load_and_freeze(model: keras.Model, weights: str) -> None:
    """Put MobileNet's trained weights where they belong and keep training from moving them."""
    height, width = model.input.shape[1:3]
    source = keras.applications.MobileNet(
        include_top=False, weights=weights, input_shape=(height, width, 3)
    )
    for layer in source.layers:
        if layer.weights:
            frozen = model.get_layer(layer.name)
            frozen.set_weights(layer.get_weights())
            frozen.trainable = False


def compile_model(model: keras.Model, learning_rate: float = 0.001) -> keras.Model:
    """Adam and categorical cross-entropy, section 4.2; returns the same model."""
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def layout() -> tuple[list, list]:
    """Columns and arrows for `drawings.blocks`: MobileNet at 48x48 with skips as we read them."""
    side, columns = 24, [[("image", "48x48x1")], [("normal", "24x24x32")]]
    for n, (filters, stride) in enumerate(BLOCKS, start=1):
        side //= stride
        columns.append([(f"separable {n}", f"{side}x{side}x{filters}")])
    columns += [[("pooling", f"{BLOCKS[-1][0]}")], [("softmax", "7")]]
    along = [column[0][0] for column in columns]
    skips = [(*pair, "skip") for pair in pairwise(along[1:-2])]
    return columns, [*pairwise(along), *skips]


def attention_layout() -> tuple[dict, list]:
    """Boxes and arrows for `drawings.diagram`: attention on a block's output, equations 2 and 3."""
    query, key, value = (f"{name}\n{HEADS} x {UNITS}" for name in ("query", "key", "value"))
    scores, weighed, joined = "scaled\nproducts", "weighted\nsum", f"{HEADS} heads\njoined"
    projected = "projection\n(ours)"
    boxes = {
        "block": (0, 0),
        query: (1.7, 1.2),
        key: (1.7, 0),
        value: (1.7, -1.2),
        scores: (3.4, 0.6),
        "softmax": (4.9, 0.6),
        weighed: (6.5, 0),
        joined: (8.1, 0),
        projected: (9.9, 0),
        "sum": (11.5, 0),
    }
    arrows = [("block", name) for name in (query, key, value)]
    arrows += [(query, scores), (key, scores), (scores, "softmax"), ("softmax", weighed)]
    arrows += [(value, weighed), (weighed, joined), (joined, projected), (projected, "sum")]
    arrows += [("block", "sum", "skip")]
    return boxes, arrows
