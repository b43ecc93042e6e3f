"""Networks as pictures: two ways to draw boxes and arrows, and with them each paper's network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from fer_utils.plots import BLUE, GREY, ORANGE, finished


def yengikand2023(widths: Sequence[int], perceptron: int) -> Figure:
    """Pairs of a normal and a separable block, two attentions side by side, a perceptron.

    Args:
        widths: channels of each pair; every pair after the first halves the map of 48x48.
        perceptron: its units.
    """
    pairs = [(n, 48 // 2**n, width) for n, width in enumerate(widths, start=1)]
    columns = [[("image", "48x48x1")]]
    for n, side, width in pairs:
        columns += [[(f"normal {n}", f"{side}x{side}x{width}")]]
        columns += [[(f"separable {n}", f"{side}x{side}x{width}")]]
    columns += [
        [("multiplied", "36x64"), ("added", "36x64")],
        [("merged", "192")],
        [("perceptron", f"{perceptron}")],
        [("softmax", "7")],
    ]
    along = [column[0][0] for column in columns]
    last = along.index("multiplied") - 1
    arrows = list(pairwise(along[: last + 1]))
    for attention in ("multiplied", "added"):
        arrows += [(along[last], attention), (attention, "merged")]
    arrows += [("merged", "perceptron"), ("perceptron", "softmax")]
    arrows += [(f"normal {n}", f"separable {n}", "skip") for n, _, _ in pairs]
    return blocks(columns, arrows)


def wang2023(widths: tuple[int, int, int]) -> Figure:
    """Three residual modules with pooling between them.

    Args:
        widths: channels of each module; the first is that of the stem too.
    """
    first, second, third = widths
    columns = [
        [("image", "48x48x1")],
        [("conv, pool", f"24x24x{first}")],
        [("SE", f"24x24x{first}")],
        [("module 1", f"24x24x{first}")],
        [("pool 1", f"12x12x{first}")],
        [("module 2", f"12x12x{second}")],
        [("pool 2", f"6x6x{second}")],
        [("module 3", f"6x6x{third}")],
        [("average", f"{third}")],
        [("dense, softmax", "7 or 8")],
    ]
    return blocks(columns, list(pairwise(column[0][0] for column in columns)))


def wang2023_module() -> Figure:
    """Four branches beside each other, what follows them, and the skip connection over all."""
    along = {"input": 0, "joined": 3.9, "conv, BN": 5.4, "SE": 6.6, "sum": 7.6}
    boxes = {name: (x, 0) for name, x in along.items()}
    arrows = [*pairwise(["joined", "conv, BN", "SE", "sum"]), ("input", "sum", "skip")]
    for row, scale in enumerate(["1x1", "3x3", "5x5", "pool, 1x1"]):
        name = f"{scale}\nBN, ReLU, SE"
        boxes[name] = (1.9, 1.8 - 1.2 * row)
        arrows += [("input", name), (name, "joined")]
    return diagram(boxes, arrows)


def rahman2021() -> Figure:
    """ResNet18 above, VGG19 below, and the layer that joins their outputs; on 40x40 crops."""
    columns = [
        [("image", "40x40x1")],
        [("stem", "10x10x64"), ("block 1", "20x20x64")],
        [("stage 1", "10x10x64"), ("block 2", "10x10x128")],
        [("stage 2", "5x5x128"), ("block 3", "5x5x256")],
        [("stage 3", "3x3x256"), ("block 4", "2x2x512")],
        [("stage 4", "2x2x512"), ("block 5", "1x1x512")],
        [("average", "512"), ("perceptron", "4096, 4096")],
        [("ResNet18", "7"), ("VGG19", "7")],
        [("layer", "7")],
    ]
    rows = [[column[k][0] for column in columns[1:-1]] for k in (0, 1)]
    arrows = [("image", row[0]) for row in rows] + [(row[-1], "layer") for row in rows]
    arrows += [pair for row in rows for pair in pairwise(row)]
    return blocks(columns, arrows)


def nouisser2023(separable: Sequence[tuple[int, int]]) -> Figure:
    """MobileNet at 48x48 with a skip connection around each of its separable blocks.

    Args:
        separable: filters and stride of each block.
    """
    side, columns = 24, [[("image", "48x48x1")], [("normal", "24x24x32")]]
    for n, (filters, stride) in enumerate(separable, start=1):
        side //= stride
        columns.append([(f"separable {n}", f"{side}x{side}x{filters}")])
    columns += [[("pooling", f"{separable[-1][0]}")], [("softmax", "7")]]
    along = [column[0][0] for column in columns]
    skips = [(*pair, "skip") for pair in pairwise(along[1:-2])]
    return blocks(columns, [*pairwise(along), *skips])


def blocks(columns: Sequence[Sequence[tuple[str, str]]], arrows: Sequence[tuple]) -> Figure:
    """A network as upright boxes from left to right.

    Args:
        columns: for each step the boxes below each other, (name, shape).
        arrows: pairs of box names; a third element "skip" bends the arrow over what it skips.
    """
    figure, axis = plt.subplots(figsize=(0.72 * len(columns), 3.6), layout="constrained")
    axis.set(xlim=(-0.45, len(columns) - 0.55), ylim=(-2.3, 2.6))
    axis.axis("off")
    at = {}
    for x, boxes in enumerate(columns):
        for k, (name, shape) in enumerate(boxes):
            half = 1.4 if len(boxes) == 1 else 1.0
            y = 1.15 * (len(boxes) - 1) - 2.3 * k
            at[name] = (x, y, half)
            edge = BLUE if "normal" in name else ORANGE if "separable" in name else GREY
            axis.add_patch(
                FancyBboxPatch(
                    (x - 0.3, y - half),
                    0.6,
                    2 * half,
                    boxstyle="round,pad=0.02,rounding_size=0.08",
                    facecolor=(edge, 0.09),
                    edgecolor=edge,
                )
            )
            words = {"ha": "center", "va": "center", "rotation": 90}
            axis.text(x - 0.12, y, name, fontsize=10, **words)
            axis.text(x + 0.15, y, shape, fontsize=8.5, color=GREY, **words)
    for start, end, *skip in arrows:
        (x0, y0, half0), (x1, y1, half1) = at[start], at[end]
        axis.add_patch(
            FancyArrowPatch(
                (x0, y0 + half0) if skip else (x0 + 0.32, y0),
                (x1 + 0.2, y1 + half1) if skip else (x1 - 0.32, y1),
                arrowstyle="-|>",
                mutation_scale=10,
                shrinkA=1,
                shrinkB=1,
                color=GREY,
                connectionstyle="arc3,rad=-0.6" if skip else "arc3,rad=0",
            )
        )
    return finished(figure)


def diagram(boxes: dict[str, tuple[float, float]], arrows: Sequence[tuple]) -> Figure:
    """Named boxes at given places, with arrows from left to right.

    Args:
        boxes: name (lines split by "\\n") to its centre (x, y).
        arrows: pairs of names; a third element "skip" leads the arrow over everything between.
    """
    half = {name: (0.07 * max(map(len, name.split("\n"))) + 0.12, 0.42) for name in boxes}
    right = max(x + half[name][0] for name, (x, _) in boxes.items())
    top = max(y for _, y in boxes.values())
    bottom = min(y for _, y in boxes.values())
    figure, axis = plt.subplots(
        figsize=(1.05 * right + 0.6, 0.75 * (top - bottom) + 1.6), layout="constrained"
    )
    axis.set(xlim=(-0.6, right + 0.1), ylim=(bottom - 0.6, top + 1.1))
    axis.axis("off")
    for name, (x, y) in boxes.items():
        wide, high = half[name]
        axis.add_patch(
            FancyBboxPatch(
                (x - wide, y - high),
                2 * wide,
                2 * high,
                boxstyle="round,pad=0.02,rounding_size=0.08",
                facecolor=(BLUE, 0.09),
                edgecolor=BLUE,
            )
        )
        axis.text(x, y, name, ha="center", va="center", fontsize=9.5)
    line = {"arrowstyle": "-|>", "mutation_scale": 10, "color": GREY}
    for start, end, *skip in arrows:
        (x0, y0), (x1, y1) = boxes[start], boxes[end]
        if skip:
            over = top + 0.8
            axis.plot([x0, x0, x1], [y0 + half[start][1], over, over], color=GREY, linewidth=1)
            points = (x1, over), (x1, y1 + half[end][1])
        else:
            points = (x0 + half[start][0], y0), (x1 - half[end][0], y1)
        axis.add_patch(FancyArrowPatch(*points, shrinkA=1, shrinkB=1, **line))
    return finished(figure)
