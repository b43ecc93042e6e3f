"""Networks as pictures: two ways to draw boxes and arrows. A model file says which: `layout`."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from fer_utils.plots import BLUE, GREY, ORANGE, finished


def blocks(columns: Sequence[Sequence[tuple[str, str]]], arrows: Sequence[tuple]) -> Figure:
    """A network as upright boxes from left to right.

    Args:
        columns: for each step the boxes below each other, (name, shape).
        arrows: pairs of box names; a third element "skip" bends the arrow over what it skips.
    """
    half_height = 2.3 if any(len(boxes) > 1 for boxes in columns) else 1.6
    top = half_height + (0.4 if any(skip for _, _, *skip in arrows) else 0)
    figure, axis = plt.subplots(
        figsize=(0.72 * len(columns), 0.73 * (half_height + top)), layout="constrained"
    )
    axis.set(xlim=(-0.45, len(columns) - 0.55), ylim=(-half_height, top))
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
