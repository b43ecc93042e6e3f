"""Tables of a chapter, as HTML that reads the same in the book and in JupyterLab."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd
from IPython.display import HTML

from fer_utils.comparison import Comparison, Estimate, estimate, select
from fer_utils.manifests import DatasetManifest, OpenDetail
from fer_utils.records import RunRecord


def table(rows: Sequence[dict], caption: str = "") -> HTML:
    """A table of rows with the same keys; values are text, numbers or HTML made by this module."""
    frame = pd.DataFrame(list(rows)).fillna("")
    text = frame.to_html(escape=False, index=False, border=0, classes="fer-table", justify="left")
    if caption:
        text = text.replace("<thead>", f"<caption>{escape(caption)}</caption><thead>", 1)
    return HTML(text)


def badge(verdict: str | None) -> str:
    """A verdict as the book shows it."""
    if verdict is None:
        return ""
    name = "verdict-" + verdict.replace(" ", "-")
    return f'<span class="verdict {name}" data-verdict="{verdict}">{verdict}</span>'


def interval(ours: Estimate | None, unit: str = "percent") -> str:
    """Mean and 90 % interval, such as "61.2 (60.1 to 62.3)"; a computed count alone."""
    if ours is None:
        return "–"
    if unit not in ("percent", "fraction"):
        return f"{ours.mean:,.0f}"
    return f"{ours.mean:.2f} ({ours.low:.2f} to {ours.high:.2f})"


def verdicts(comparisons: Sequence[Comparison], cited: bool = False) -> HTML:
    """Published cells beside ours, with the verdict on each.

    Args:
        comparisons: of one paper.
        cited: show the rows that the paper cites from others too.
    """
    rows = []
    for found in comparisons:
        if found.verdict is None and not (cited and found.cell.kind == "cited"):
            continue
        cell = found.cell
        rows.append(
            {
                "Table": found.table,
                "Row": escape(cell.row),
                "Column": escape(cell.column),
                "Published": escape(cell.printed),
                "Margin": "" if cell.margin is None else f"± {cell.margin:g}",
                "Ours (90 % interval)": interval(found.ours, cell.unit) if found.verdict else "",
                "Runs": len(found.ours.values) if found.ours else "",
                "Verdict": badge(found.verdict),
            }
        )
        rows += [
            {
                "Table": "",
                "Row": f"<em>{escape(label)}</em>",
                "Column": "",
                "Published": "",
                "Margin": "",
                "Ours (90 % interval)": interval(other, cell.unit),
                "Runs": len(other.values),
                "Verdict": "",
            }
            for label, other in found.also.items()
        ]
    return table(rows)


def data_card(manifest: DatasetManifest) -> HTML:
    """What the manifest says of a data set."""
    parts = ", ".join(
        f"{name} {part.count:,}" + (f" ({part.source})" if part.source else "")
        for name, part in manifest.splits.items()
        if part.count
    )
    shown = "yes" if manifest.faces.shown else "no"
    lines = {
        "Name": manifest.title,
        "About": manifest.about,
        "Images": f"{manifest.image.height}x{manifest.image.width} {manifest.image.mode}; {parts}",
        "Expressions": ", ".join(manifest.class_names),
        "Groups": "; ".join(
            f"{name}: {group.derived}" + (f" ({group.count})" if group.count else "")
            for name, group in manifest.groups.items()
        )
        or "none",
        "Licence": manifest.licence.name,
        "Faces shown here": f"{shown}. {manifest.faces.wording}",
        "How to get it": manifest.obtain,
        "Notes": " ".join(manifest.notes),
    }
    rows = [{"": f"<strong>{k}</strong>", " ": escape(v)} for k, v in lines.items() if v]
    frame = pd.DataFrame(rows)
    return HTML(
        frame.to_html(escape=False, index=False, header=False, border=0, classes="fer-card")
    )


def scores(run: RunRecord, part: str = "test") -> HTML:
    """Recall, precision and F1 of each expression, and the whole below, in percent."""
    found = run.metrics[part]

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.1f}"

    rows = [
        {
            "Expression": name,
            "Images": row["support"],
            "Recall": percent(row["recall"]),
            "Precision": percent(row["precision"]),
            "F1": percent(row["f1"]),
        }
        for name, row in found["per_class"].items()
    ]
    rows.append(
        {
            "Expression": "<strong>all</strong>",
            "Images": found["n"],
            "Recall": f"<strong>accuracy {percent(found['accuracy'])}</strong>",
            "Precision": f"balanced {percent(found['balanced_accuracy'])}",
            "F1": f"macro {percent(found['macro_f1'])}",
        }
    )
    return table(rows)


def runs(found: Sequence[RunRecord], fields: Sequence[str]) -> HTML:
    """A line a run: the parameters named, what was chosen, accuracies in percent and the cost."""
    return table(
        [
            {
                **{field: run.parameters.get(field) for field in fields},
                "Seed": run.seed,
                "Epoch chosen": f"{run.selection.epoch} of {len(run.history['loss'])}",
                "Validation": f"{100 * run.metrics['val']['accuracy']:.2f}",
                "Test": f"{100 * run.metrics['test']['accuracy']:.2f}",
                "Minutes": f"{run.timings['training'] / 60:.1f}",
                "Code": run.code.commit[:7] if run.code.commit else "",
            }
            for run in found
        ]
    )


def open_details(
    details: Sequence[OpenDetail],
    recorded: Sequence[RunRecord],
    ours: Estimate | None,
    effects: dict[str, str],
) -> HTML:
    """What a paper does not say, our choices, and what others do to the accuracy.

    Args:
        details: of the published file.
        recorded: the paper's full runs.
        ours: accuracy with all of our choices, in percent.
        effects: by a detail's id, what the chapter itself has measured.
    """
    rows = []
    for detail in details:
        told = [effects[detail.id]] if detail.id in effects else []
        for label, fields in detail.other.items():
            if other := estimate(select(list(recorded), fields), "accuracy", "percent"):
                told.append(f"{label}: {interval(other)}, ours: {interval(ours)}")
        rows.append(
            {
                "The paper leaves open": escape(detail.detail),
                "Our choice": escape(detail.choice),
                "Why": escape(detail.reason),
                "Effect on accuracy, %": escape("; ".join(told)) or "not measured",
            }
        )
    return table(rows)
