"""What the data report measured of the real images, beside our runs: copies, detectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from IPython.display import HTML, Markdown

from fer_utils.data_report import DataReport, with_any_leader, without_ties
from fer_utils.display.cells import note, table
from fer_utils.gaps import Step
from fer_utils.records import RESULTS, RunRecord

NO_REPORT = "The detectors were not compared; `fer-utils data report --write` does it."


def without_copies(steps: Sequence[Step]) -> Markdown:
    """What accuracies are without the test images that have a near copy in training, a line each.

    Args:
        steps: of `gaps.without_near_copies`.
    """
    if not steps:
        return note("No run is recorded on a test part whose copies were counted.")
    return Markdown("\n".join(f"- {_without_copies(step)}" for step in steps))


def _without_copies(step: Step) -> str:
    left_out = f"without the {step.among - step.images:,} that have a near copy in training"
    return _on_fewer_images(step, f"{left_out} ({step.images:,} images)")


def on_faces(steps: Sequence[Step]) -> Markdown:
    """What accuracies are on the test images in which a face is found, a line each.

    Args:
        steps: of `gaps.on_faces`.
    """
    told = "on the {:,} in which dlib's detector finds a face"
    lines = [f"- {_on_fewer_images(step, told.format(step.images))}" for step in steps]
    return Markdown("\n".join(lines)) if lines else note("No run is recorded on whole images.")


def _on_fewer_images(step: Step, which: str) -> str:
    seeds = f"{step.seeds} seed{'' if step.seeds == 1 else 's'}"
    found = step.difference
    return (
        f"`{step.runs}`, {seeds}: {step.before:.2f} % on the whole test part ({step.among:,} "
        f"images), {step.after:.2f} % {which}; {found.mean:+.2f} points "
        f"({found.low:+.2f} to {found.high:+.2f})."
    )


def ties(runs: Sequence[RunRecord], report: DataReport | None, folder: Path = RESULTS) -> Markdown:
    """How many images of FER+ several expressions lead, and what they do to accuracies.

    Args:
        runs: on FER+; those on other images or labels are left out.
        report: of the data.
        folder: where the records' probabilities are.
    """
    if report is None:
        return note("Ties were not counted; `fer-utils data report --write` does it.")
    counted = {part.part: part for part in report.ties.parts}
    train, test = counted["train"], counted["test"]
    lines = [
        f"{test.tied:,} of {test.images:,} test images "
        f"({100 * test.tied / test.images:.1f} %) and {train.tied:,} of {train.images:,} training "
        f"images ({100 * train.tied / train.images:.1f} %) have such a tie; {test.neutral:,} and "
        f"{train.neutral:,} of them are labelled neutral. For {test.no_expression:,} and "
        f'{train.no_expression:,} images, tied or not, more votes are for "unknown" or for '
        '"not a face" than for any expression.'
    ]
    for run in runs:
        if left := without_ties(run, report, folder):
            scored = (with_any_leader(run, report, folder), left)
            any_leader, without = (f"{100 * right / images:.2f} %" for right, images in scored)
            lines.append(
                f"- `{run.run}`: {100 * run.metrics['test']['accuracy']:.2f} % as labelled, "
                f"{any_leader} if any of the expressions that share the votes is right, {without} "
                "without these images."
            )
    return Markdown("\n".join([lines[0], "", *lines[1:]]))


def detectors(report: DataReport | None) -> HTML | Markdown:
    """How many images of FER2013 have a face for both detectors, for one of them and for none.

    Args:
        report: with both detectors on FER2013; None where there is none.
    """
    if report is None:
        return note(NO_REPORT)
    words = {
        "both": "Both",
        "hog_only": "HOG alone",
        "haar_only": "Haar alone",
        "none": "Neither",
    }
    parts = {part: found.model_dump() for part, found in report.detectors.found.items()}
    parts["all"] = {key: sum(found[key] for found in parts.values()) for key in words}
    rows = []
    for part, found in parts.items():
        images = sum(found.values())
        row = {"Part": part, "Images": f"{images:,}"}
        rows.append(row | {name: _share(found[key], images) for key, name in words.items()})
    return table(rows)


def where_both_find(report: DataReport | None) -> HTML | Markdown:
    """How far what two detectors find in the same images lies apart.

    Args:
        report: with both detectors on FER2013; None where there is none.
    """
    if report is None:
        return note(NO_REPORT)
    measured = report.detectors
    figures = {
        "Overlap of the boxes, intersection over union": (measured.boxes, "at most"),
        "Overlap of the crops, intersection over union": (measured.crops, "at most"),
        "Between the centres of the crops, pixels": (measured.centres, "at least"),
    }
    images = sum(found.both for found in measured.found.values())
    return table(
        [
            {
                f"{images:,} images with a face by both": name,
                "Median": f"{found.median:.2f}",
                "5 % of the images": f"{sign} {found.worst:.2f}",
            }
            for name, (found, sign) in figures.items()
        ]
    )


def _share(count: int, images: int) -> str:
    share = f"({100 * count / max(images, 1):.1f} %)".replace(" ", "\N{NO-BREAK SPACE}")
    return f"{count:,} {share}"
