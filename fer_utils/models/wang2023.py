"""Multiscale convolutional attention residual network (wang2023), in Keras 3.

Reference:
    F. Wang, H. Zhang: Multiscale Convolutional Attention-based Residual Network Expression
    Recognition. Journal of Internet Technology 24(5), 2023.

The text gives no widths; its Figures 2 to 4, which draw the network, were not at hand. Choices made
here are marked OPEN; the chapter lists them all with their reasons.
"""

from __future__ import annotations

from itertools import pairwise

import keras
from keras import layers

WIDTHS = (24, 48, 96)  # OPEN: channels of the three residual modules
REDUCTION = 8  # r of section 2.1
# OPEN: fewer units behind a ReLU without a bias are often all dead in a new network: one in two.
# With these widths it is this number, and not r, that counts everywhere but behind the last
# module's own convolution.
LEAST_UNITS = 8

# Table 1, by the number of finished epochs. OPEN: its epochs are counted from 0.
SCHEDULE = {0: 1e-3, 81: 1e-4, 121: 1e-5, 161: 1e-6, 181: 5e-7}

# The rows of Table 3 as arguments of `build`, and the weights of each, trained and not, with 7
# classes; the paper prints no count.
VARIANTS = {
    "full": {},
    "no_se": {"se": False},
    "no_bn": {"bn": False},
    "plain": {"se": False, "bn": False},
}
PARAMETERS = {"full": 180_511, "no_se": 177_823, "no_bn": 180_007, "plain": 177_319}


def build(
    num_classes: int = 7,
    *,
    se: bool = True,
    bn: bool = True,
    widths: tuple[int, int, int] = WIDTHS,
    least_units: int = LEAST_UNITS,
    input_shape: tuple[int, int, int] = (48, 48, 1),
) -> keras.Model:
    """The network of Figure 4: convolution, SE, three residual modules, softmax.

    Args:
        num_classes: K, the expressions told apart.
        se, bn: whether the branches of the multiscale blocks have channel attention and batch
            normalization, Table 3; what stands outside the branches stays.
        widths: channels of the three residual modules, multiples of 4.
        least_units: what SE squeezes to at least; 1 for r = 8 in every block.
        input_shape: (H, W, 1), grey.

    Returns:
        An uncompiled model from images uint8 or float (N, H, W, 1), 0-255, to probabilities
        float32 (N, K). Parameters by default: PARAMETERS["full"].
    """
    images = keras.Input(input_shape, name="images")
    # Section 3.1: each image by its own mean and standard deviation, as ImageDataGenerator does.
    x = layers.LayerNormalization(
        axis=(1, 2, 3), epsilon=1e-6, center=False, scale=False, name="standardized"
    )(images)

    x = layers.Conv2D(widths[0], 3, padding="same", use_bias=False, name="stem_conv")(x)
    x = layers.MaxPooling2D(2, name="stem_pool")(x)  # 24x24x24
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.ReLU(name="stem_relu")(x)
    x = _squeeze_and_excite(x, least_units, "stem_se")

    for number, width in enumerate(widths, start=1):
        if number > 1:
            x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
        # 24x24x24, 12x12x48, 6x6x96
        x = _residual_module(x, width, se, bn, least_units, f"module{number}")

    x = layers.GlobalAveragePooling2D(name="pooled")(x)  # 96
    logits = layers.Dense(num_classes, name="logits")(x)  # K
    return keras.Model(images, layers.Softmax(name="probabilities")(logits), name="wang2023")


def _residual_module(x, width: int, se: bool, bn: bool, least_units: int, name: str):
    """Figure 3: multiscale block, convolution and BN, SE, and the skip connection around them."""
    skip = x
    if skip.shape[-1] != width:  # OPEN
        skip = layers.Conv2D(width, 1, use_bias=False, name=f"{name}_projection")(skip)
    x = _multiscale_block(x, width, se, bn, least_units, f"{name}_scale")
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    x = _squeeze_and_excite(x, least_units, f"{name}_se")
    x = layers.Add(name=f"{name}_skip")([skip, x])
    return layers.ReLU(name=f"{name}_relu")(x)


def _multiscale_block(x, width: int, se: bool, bn: bool, least_units: int, name: str):
    """Figure 2: the branches of an Inception module, a quarter of the channels each."""
    pooled = layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)
    quarter = width // 4
    return layers.Concatenate(name=f"{name}_joined")(
        [
            _branch(x, quarter, 1, se, bn, least_units, f"{name}1"),
            _branch(x, quarter, 3, se, bn, least_units, f"{name}3"),
            _branch(x, quarter, 5, se, bn, least_units, f"{name}5"),
            _branch(pooled, quarter, 1, se, bn, least_units, f"{name}_pooled"),
        ]
    )


def _branch(x, filters: int, kernel: int, se: bool, bn: bool, least_units: int, name: str):
    """One scale. OPEN: "in parallel" is read as in every one of the parallel branches alike."""
    x = layers.Conv2D(filters, kernel, padding="same", use_bias=not bn, name=f"{name}_conv")(x)
    if bn:
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
    x = layers.ReLU(name=f"{name}_relu")(x)
    return _squeeze_and_excite(x, least_units, f"{name}_se") if se else x


def _squeeze_and_excite(x, least_units: int, name: str):
    """Channel attention, equations 1 to 3: each channel times a weight between 0 and 1."""
    channels = x.shape[-1]
    squeezed = max(channels // REDUCTION, least_units)
    z = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)  # eq. 1
    z = layers.Dense(squeezed, "relu", use_bias=False, name=f"{name}_reduce")(z)
    s = layers.Dense(channels, "sigmoid", use_bias=False, name=f"{name}_excite")(z)  # eq. 2
    return layers.Multiply(name=f"{name}_scale")([x, s])  # eq. 3


def compile_model(model: keras.Model, learning_rate: float = 0.001) -> keras.Model:
    """Adam and the negative cosine similarity of equation 4; returns the same model.

    OPEN: the similarity is taken for each image and averaged. XLA is off: on a CPU it slows these
    small convolutions.
    """
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss=keras.losses.CosineSimilarity(),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def layout() -> tuple[list, list]:
    """Columns and arrows for `drawings.blocks`: Figure 4, the shape of what leaves each box."""
    first, second, third = WIDTHS
    columns = [
        [("image", "48x48x1")],
        [("conv, pool, BN, ReLU", f"24x24x{first}")],
        [("SE", f"24x24x{first}")],
        [("module 1", f"24x24x{first}")],
        [("pool 1", f"12x12x{first}")],
        [("module 2", f"12x12x{second}")],
        [("pool 2", f"6x6x{second}")],
        [("module 3", f"6x6x{third}")],
        [("average", f"{third}")],
        [("dense, softmax", "7 or 8")],
    ]
    return columns, list(pairwise(column[0][0] for column in columns))


def module_layout() -> tuple[dict, list]:
    """Boxes and arrows for `drawings.diagram`: the residual module of Figures 2 and 3."""
    along = {"input": 0, "joined": 3.9, "conv, BN": 5.4, "SE": 6.6, "sum,\nReLU": 7.6}
    boxes = {name: (x, 0) for name, x in along.items()}
    arrows = [*pairwise(list(along)[1:]), ("input", "sum,\nReLU", "skip")]
    for row, scale in enumerate(["1x1", "3x3", "5x5", "pool, 1x1"]):
        name = f"{scale}\nBN, ReLU, SE"
        boxes[name] = (1.9, 1.8 - 1.2 * row)
        arrows += [("input", name), (name, "joined")]
    return boxes, arrows
