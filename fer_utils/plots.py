"""Every figure of the book but the networks. Each function draws and returns one figure.

Where nothing is recorded, or no face may be shown, a sentence says so in the figure's place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fer_utils.arithmetic import RULES, Printed, is_share, room
from fer_utils.audit import Column, candidate_parts
from fer_utils.comparison import Comparison
from fer_utils.data_report import LabelNoise
from fer_utils.datasets import FaceDataset
from fer_utils.detection import Detections, crop_to_landmarks, resize_with_padding
from fer_utils.display import NO_RUN, note
from fer_utils.gaps import Step
from fer_utils.manifests import load_manifest
from fer_utils.records import APART, RunRecord

# Wong's palette: told apart by readers who do not see red and green.
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#6e7781"


def use_style() -> None:
    """The book's look, for every figure drawn after it."""
    sns.set_theme(context="notebook", style="whitegrid", palette=[BLUE, ORANGE, GREEN])
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.bbox": "tight",
            "figure.facecolor": "white",
            "axes.titleweight": "bold",
            "axes.titlesize": "medium",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#e6e8eb",
        }
    )


def finished(figure: Figure) -> Figure:
    """A notebook shows a cell's last value; an open figure would be shown once more."""
    plt.close(figure)
    return figure


def faces(images: np.ndarray, titles: Sequence[str], columns: int = 7) -> Figure:
    """Images in a grid, each under its title.

    Args:
        images: uint8 (N, H, W) or (N, H, W, 1).
        titles: N words.
        columns: images in a row.
    """
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.35 * columns, 1.6 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(np.squeeze(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set_title(title, fontsize="small", fontweight="normal")
    return finished(figure)


def examples(data: FaceDataset, each: int = 2) -> Figure:
    """The first images of every expression, a column an expression; white where there are fewer."""
    white = np.full(data.images.shape[1:], 255, np.uint8)
    rows = [np.flatnonzero(data.labels == k)[:each] for k in range(len(data.class_names))]
    images = [
        data.images[found[take]] if take < len(found) else white
        for take in range(each)
        for found in rows
    ]
    titles = [*data.class_names, *[""] * (len(images) - len(data.class_names))]
    return faces(np.stack(images), titles, columns=len(data.class_names))


def first_faces(data: FaceDataset) -> Figure:
    """The first seven images of a set, each under its expression."""
    some = data.subset(np.arange(min(7, len(data))))
    return faces(some.images, _expressions(some))


def changed_faces(
    data: FaceDataset, change: Callable[[np.ndarray], np.ndarray], count: int = 7
) -> Figure:
    """The first images of a set under their expressions, and below each what becomes of it.

    Args:
        data: at least one image.
        change: from images uint8 (N, H, W, C) to as many of the same shape.
        count: images in a row.
    """
    some = data.subset(np.arange(min(count, len(data))))
    images = np.concatenate([some.images, change(some.images)])
    return faces(images, [*_expressions(some), *[""] * len(some)], columns=len(some))


def _expressions(data: FaceDataset) -> list[str]:
    return [data.class_names[label] for label in data.labels]


def permitted(data: FaceDataset, draw: Callable[[FaceDataset], Figure]) -> Figure | Markdown:
    """Faces where the set's manifest lets them be shown, and of nobody but whom it names.

    Args:
        data: any images of a set.
        draw: what draws those that may be shown.

    Returns:
        The figure, or why there is none.
    """
    rules = load_manifest(data.name).faces
    may = np.full(len(data), rules.shown)
    if rules.subjects:
        may &= np.isin(data.subjects, rules.subjects)
    if not may.any():
        return note(f"No faces are shown. {rules.wording}")
    return draw(data.subset(may))


def class_counts(parts: dict[str, FaceDataset]) -> Figure:
    """How many images of each expression each part holds.

    Args:
        parts: by name; the first three are drawn, all with the same classes.
    """
    figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
    names = next(iter(parts.values())).class_names
    left = np.zeros(len(names))
    for (part, data), colour in zip(parts.items(), (BLUE, ORANGE, GREEN), strict=False):
        counts = np.bincount(data.labels, minlength=len(names))
        axis.barh(names, counts, left=left, label=part, color=colour, edgecolor="white")
        left += counts
    for k, total in enumerate(left):
        axis.text(total, k, f" {int(total):,}", va="center", fontsize="small")
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("images")
    axis.legend(frameon=False)
    return finished(figure)


def learning_curves(
    runs: Sequence[RunRecord], titles: Sequence[str] | str = "", loss: str = "loss, nats"
) -> Figure | Markdown:
    """Accuracy and loss of each epoch, training and validation, and the epoch that was chosen.

    Args:
        runs: a colour each, those of one title the same.
        titles: of the runs, or a pattern for all with names of parameters, such as "seed {seed}";
            empty for the runs' own names.
        loss: what the loss is.
    """
    if not runs:
        return note(NO_RUN)
    if isinstance(titles, str):
        titles = [titles.format(**run.parameters | {"seed": run.seed}) or run.run for run in runs]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    named = list(dict.fromkeys(titles))
    palette = sns.color_palette([BLUE, ORANGE, GREEN, "#cc79a7", "#e69f00", "#56b4e9"], len(named))
    colours = dict(zip(named, palette, strict=True))
    for run, title in zip(runs, titles, strict=True):
        colour = colours[title]
        epochs = np.arange(1, len(run.history["loss"]) + 1)
        for axis, key, scale in ((axes[0], "accuracy", 100), (axes[1], "loss", 1)):
            axis.plot(epochs, scale * np.array(run.history[key]), "--", color=colour, alpha=0.6)
            values = scale * np.array(run.history[f"val_{key}"])
            axis.plot(epochs, values, "-", color=colour, label=title)
            chosen = run.selection.epoch
            axis.plot(chosen, values[chosen - 1], "o", color=colour, markersize=6)
    for axis, label in zip(axes, ("accuracy, %", loss), strict=True):
        axis.set(xlabel="epoch", ylabel=label)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_title("dashed: training, solid: validation, dot: chosen epoch", fontsize="small")
    handles, labels = axes[1].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes[1].legend(once.values(), once.keys(), frameon=False, fontsize="small")
    return finished(figure)


def confusion(runs: Sequence[RunRecord], title: str = "") -> Figure | Markdown:
    """The confusion matrix of a test part, each row in percent of the images of that expression.

    Args:
        runs: on the same expressions; their matrices are added up.
        title: above the figure.
    """
    if not runs:
        return note(NO_RUN)
    figure, axis = plt.subplots(figsize=(5.6, 4.6), layout="constrained")
    names = runs[0].data.classes
    _percent_of_rows(axis, _added_up(runs), names, names)
    axis.set(xlabel="predicted", ylabel="true", title=title)
    return finished(figure)


def confusions(groups: Mapping[str, Sequence[RunRecord]]) -> Figure | Markdown:
    """Confusion matrices beside each other, each row in percent of the images of its expression.

    Args:
        groups: runs by title, at least one each, all on the same expressions; the matrices of a
            group are added up.
    """
    if not groups:
        return note(NO_RUN)
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(3.1 * columns + 0.6, 3.6 * rows + 0.3),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    for axis in axes.flat[len(groups) :]:
        axis.remove()
    for axis, (title, runs) in zip(axes.flat, groups.items(), strict=False):
        names = runs[0].data.classes
        small = {"annot_kws": {"size": 8}, "cbar": False, "square": True}
        _percent_of_rows(axis, _added_up(runs), names, names, **small)
        axis.set_title(fill(title, 36), fontsize="small")
        axis.tick_params(axis="x", rotation=60, labelsize="small")
        axis.tick_params(axis="y", rotation=0, labelsize="small")
    figure.supxlabel("predicted", fontsize="small")
    figure.supylabel("true", fontsize="small")
    return finished(figure)


def _added_up(runs: Sequence[RunRecord]) -> np.ndarray:
    """Counts (K, K) on the test part, rows true, of all runs together."""
    return sum(np.array(run.metrics["test"]["confusion_matrix"]) for run in runs)


def _percent_of_rows(
    axis: Axes,
    matrix: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    **look: object,
) -> None:
    """Counts as a heat map, each row in percent of its sum."""
    matrix = np.asarray(matrix, dtype=float)
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    sns.heatmap(
        share,
        annot=True,
        fmt=".0f",
        cmap="Blues",
        vmin=0,
        vmax=100,
        xticklabels=columns,
        yticklabels=rows,
        cbar_kws={"label": "% of the row"},
        linewidths=0.5,
        ax=axis,
        **look,
    )
    axis.tick_params(axis="x", rotation=40)


def against_paper(comparisons: Sequence[Comparison]) -> Figure | Markdown:
    """Published numbers with their margins beside our intervals.

    Args:
        comparisons: cells in percent or fractions; those without runs of their own or beside them
            are left out, and so is what stands apart, such as another reading, which would widen
            the axis for all.
    """
    to_percent = {"percent": 1, "fraction": 100}
    several = len({found.paper for found in comparisons}) > 1
    lines = []
    for found in comparisons:
        beside = {
            label: other
            for label, other in found.also.items()
            if other and APART.keys().isdisjoint(found.cell.also.get(label, {}))
        }
        if not (found.ours or beside) or found.cell.unit not in to_percent:
            continue
        scale = to_percent[found.cell.unit]
        name = f"{found.cell.row}, {found.cell.column}"
        name = f"{found.paper}: {name}" if several else name
        lines.append((name, found.ours, found.cell, scale, BLUE))
        lines += [(label, other, None, scale, ORANGE) for label, other in beside.items()]
    if not lines:
        return note("No full run is recorded.")
    figure, axis = plt.subplots(figsize=(7.5, 0.9 + 0.5 * len(lines)), layout="constrained")
    for y, (_, ours, cell, scale, colour) in enumerate(lines):
        if cell is not None and cell.margin is not None:
            edges = [scale * (cell.value - cell.margin), scale * (cell.value + cell.margin)]
            axis.fill_betweenx([y - 0.35, y + 0.35], *edges, color=GREY, alpha=0.25, linewidth=0)
        if cell is not None and cell.value is not None:
            axis.plot([scale * cell.value] * 2, [y - 0.35, y + 0.35], color="#24292f", linewidth=2)
        if ours is None:
            continue
        axis.plot([scale * ours.low, scale * ours.high], [y, y], color=colour, linewidth=2)
        values = scale * np.array(ours.values)
        axis.plot(values, [y] * len(values), "|", color=colour, markersize=9)
        axis.plot(scale * ours.mean, y, "o", color=colour)
    axis.set_yticks(range(len(lines)), [fill(line[0], 40) for line in lines])
    axis.set(ylim=(len(lines) - 0.4, -0.6), xlabel="accuracy, %")
    axis.set_title(
        "black: published, grey: margin; dot and line: our mean and 90 % interval, ticks: seeds",
        fontsize="small",
        fontweight="normal",
    )
    axis.grid(axis="y", visible=False)
    return finished(figure)


def moves(steps: Mapping[str, Sequence[Step]]) -> Figure | Markdown:
    """How many points each change is worth, a row a change; a dot with its interval a set of runs.

    Args:
        steps: of `gaps`, by what the row is called; rows without any are left out.
    """
    rows = {name: found for name, found in steps.items() if found}
    if not rows:
        return note(NO_RUN)
    papers = sorted({step.paper for found in rows.values() for step in found})
    colours = dict(
        zip(papers, sns.color_palette([BLUE, ORANGE, GREEN, GREY], len(papers)), strict=True)
    )
    figure, axis = plt.subplots(figsize=(9, 0.7 * len(rows) + 1.2), layout="constrained")
    for row, found in enumerate(rows.values()):
        for place, step in zip(np.linspace(-0.3, 0.3, len(found) + 2)[1:-1], found, strict=True):
            ends, colour = (step.difference.low, step.difference.high), colours[step.paper]
            axis.plot(ends, [row + place] * 2, color=colour, linewidth=1.2, alpha=0.7)
            axis.plot(step.difference.mean, row + place, "o", color=colour, markersize=4)
    axis.axvline(0, color=GREY, linewidth=1)
    axis.set_yticks(range(len(rows)), rows)
    axis.invert_yaxis()
    axis.set_xlabel("points that the change adds")
    dots = [plt.Line2D([], [], marker="o", linestyle="", color=colours[paper]) for paper in papers]
    axis.legend(dots, papers, loc="best", fontsize="small")
    return finished(figure)


def label_noise(noise: LabelNoise) -> Figure:
    """FER2013's labels against the taggers' first choice, each row in percent."""
    figure, axis = plt.subplots(figsize=(7.6, 4.4), layout="constrained")
    _percent_of_rows(axis, noise.matrix, noise.labels, noise.votes)
    axis.set(xlabel="first choice of ten taggers (FER+)", ylabel="label in FER2013")
    return finished(figure)


def sizes_that_fit(figures: Sequence[Printed], largest: int, known: Mapping[int, str]) -> Figure:
    """How many of a table's figures are shares of n images, for every n.

    Args:
        figures: accuracies on the same images.
        largest: the largest n.
        known: sizes to mark, with a label, at least one up to `largest`; those on which all figures
            fit are named.
    """
    sizes = np.arange(1, largest + 1)
    fitting = np.max(
        [np.sum([is_share(one, sizes, rule) for one in figures], axis=0) for rule in RULES], axis=0
    )
    figure, axis = plt.subplots(figsize=(7.8, 3.4), layout="constrained")
    axis.vlines(sizes, 0, fitting, color=GREY, alpha=0.35, linewidth=0.8)
    axis.plot(sizes, fitting, ".", color=GREY, markersize=3, label="any number of images")
    marked = [n for n in known if n <= largest]
    axis.plot(marked, fitting[np.array(marked) - 1], "o", color=ORANGE, label="known sizes")
    for n in marked:
        if fitting[n - 1] == len(figures):
            axis.annotate(
                f"{n}: {known[n]}",
                (n, fitting[n - 1]),
                xytext=(0, 8),
                textcoords="offset points",
                ha="center" if n > 0.15 * largest else "left",
                fontsize="small",
            )
    axis.set(xlabel="images n", ylabel="figures that are some k/n", xlim=(0, largest))
    axis.set_ylim(0, len(figures) + 1.2)
    axis.set_yticks(range(0, len(figures) + 1, 2))
    figure.legend(frameon=False, loc="outside upper right", ncols=2, fontsize="small")
    return finished(figure)


def room_for_accuracy(columns: Sequence[Column]) -> Figure:
    """The overall accuracies that recalls leave on each part, beside the printed one.

    Args:
        columns: of one data set; recalls are taken as rounded half to even, and one
            without a number may be any. A cross stands where a recall is no
            count of a part's images.
    """
    parts = candidate_parts(columns[0].cell.dataset)
    figure, axis = plt.subplots(figsize=(7.8, 0.9 + 0.55 * len(columns)), layout="constrained")
    for y, column in enumerate(columns):
        printed = 100 * column.printed.value
        for k, (colour, supports) in enumerate(
            zip((BLUE, ORANGE, GREEN), parts.values(), strict=False)
        ):
            left = room(column.recalls, supports, "half even")
            at = y + 0.24 * (k - (len(parts) - 1) / 2)
            ends = [100 * left.low - printed, 100 * left.high - printed]
            axis.plot(ends, [at, at], color=colour, linewidth=4, solid_capstyle="butt")
            if left.impossible:
                axis.plot(np.mean(ends), at, "x", color="#24292f", markersize=7, markeredgewidth=2)
    for colour, label in zip((BLUE, ORANGE, GREEN), parts, strict=False):
        axis.plot([], [], color=colour, linewidth=4, label=label)
    axis.axvline(0, color="#24292f", linewidth=1.5)
    axis.set_yticks(
        range(len(columns)), [f"{column.label}: {column.printed} %" for column in columns]
    )
    axis.set(
        ylim=(len(columns) - 0.5, -0.5),
        xlabel="points from the printed accuracy",
    )
    axis.grid(axis="y", visible=False)
    figure.legend(frameon=False, loc="outside upper center", ncols=len(parts), fontsize="small")
    return finished(figure)


def detected(images: np.ndarray, detections: Detections) -> Figure:
    """Faces with box and landmarks, the same cropped and padded, and images without a face.

    Args:
        images: uint8 (N, H, W, 1), at least one with a face.
        detections: what was found in them.
    """
    columns = 7
    kept = np.flatnonzero(detections.found)[:columns]
    lost = np.flatnonzero(~detections.found)[:columns]
    figure, axes = plt.subplots(3, columns, figsize=(1.35 * columns, 4.4), layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "nearest"}
    for column, row in enumerate(kept):
        image, points = images[row, ..., 0], detections.landmarks[row]
        left, top, right, bottom = detections.boxes[row]
        axes[0, column].imshow(image, **grey)
        axes[0, column].plot(*points.T, ".", color=ORANGE, markersize=2)
        axes[0, column].add_patch(
            plt.Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, ec=BLUE)
        )
        axes[1, column].imshow(resize_with_padding(crop_to_landmarks(image, points)), **grey)
    for column, row in enumerate(lost):
        axes[2, column].imshow(images[row, ..., 0], **grey)
    for axis, title in zip(axes[:, 0], ("found", "cropped, padded", "dropped"), strict=True):
        axis.set_title(title, fontsize="small", fontweight="normal", loc="left")
    return finished(figure)
