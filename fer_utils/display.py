"""Tables of a chapter, as HTML that reads the same in the book and in JupyterLab."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from html import escape

import numpy as np
from IPython.display import HTML, Markdown
from statsmodels.stats.contingency_tables import mcnemar

from fer_utils import complexity, metrics
from fer_utils.audit import Finding
from fer_utils.comparison import Comparison, select
from fer_utils.estimates import Estimate, estimate
from fer_utils.manifests import DatasetManifest, OpenDetail
from fer_utils.records import RunRecord, read_probabilities


def table(rows: Sequence[dict], caption: str = "") -> HTML:
    """A table; columns of numbers stand right, words left.

    Args:
        rows: with the same keys, the header; values are numbers, text or HTML of this module.
        caption: above the table.
    """
    names = list(rows[0]) if rows else []
    sides = ["right" if all(_is_number(row[name]) for row in rows) else "left" for name in names]

    def line(kind: str, values: Sequence) -> str:
        cells = "".join(
            f'<{kind} style="text-align: {side}">{"" if value is None else value}</{kind}>'
            for value, side in zip(values, sides, strict=True)
        )
        return f"<tr>{cells}</tr>"

    body = "".join(line("td", [row[name] for name in names]) for row in rows)
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = f"<thead>{line('th', names)}</thead>"
    return HTML(f'<table class="dataframe">{told}{head}<tbody>{body}</tbody></table>')


def _is_number(value: object) -> bool:
    """Whether a cell is a number, or an interval or a sign that stands for one."""
    text = re.sub(r"<[^>]*>|\bto\b|[-–+±().,%\s]", "", "" if value is None else str(value))
    return not text or text.isdigit()


def note(text: str) -> Markdown:
    """A sentence where a table or a figure would stand."""
    return Markdown(f"*{text}*")


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
    digits = 4 if unit == "fraction" else 2
    ends = f"({ours.low:.{digits}f} to {ours.high:.{digits}f})".replace(" ", "\N{NO-BREAK SPACE}")
    return f"{ours.mean:.{digits}f} {ends}"


def verdicts(comparisons: Sequence[Comparison], cited: bool = False) -> HTML:
    """Published cells beside ours, with the verdict on each.

    Args:
        comparisons: of one paper; accuracies come first, counts of multiplications last.
        cited: show the rows that the paper cites from others too.
    """
    rows = []
    for found in sorted(comparisons, key=lambda found: found.cell.metric == "multiplications"):
        if found.verdict is None and not (cited and found.cell.kind == "cited"):
            continue
        cell, ours = found.cell, found.ours
        published = escape(cell.printed) + (f" ± {cell.margin:g}" if cell.margin else "")
        rows.append(
            {
                "Table": escape(found.table),
                "Result": f"{escape(cell.row)}, {escape(cell.column)}",
                "Published": published,
                "Ours": interval(ours, cell.unit) if found.verdict else "",
                "Runs": len(ours.runs) if ours and ours.runs else "",
                "Verdict": badge(found.verdict),
            }
        )
        rows += [
            {
                "Table": "",
                "Result": f"<em>{escape(label)}</em>",
                "Published": "",
                "Ours": interval(other, cell.unit),
                "Runs": len(other.runs),
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
        "Images": f"{manifest.image.height}x{manifest.image.width} {manifest.image.mode}"
        + (f"; {parts}" if parts else ""),
        "Expressions": ", ".join(manifest.class_names),
        "Groups": "; ".join(
            f"{name}: {group.derived}" + (f" ({group.count})" if group.count else "")
            for name, group in manifest.groups.items()
        )
        or "none",
        "Licence": manifest.licence.name,
        "May faces be shown?": f"{shown}. {manifest.faces.wording}",
        "How to get it": manifest.obtain,
        "Notes": " ".join(manifest.notes),
    }
    rows = "".join(
        f'<tr><th scope="row" style="text-align: left; white-space: nowrap">{name}</th>'
        f'<td style="text-align: left">{escape(told)}</td></tr>'
        for name, told in lines.items()
        if told
    )
    return HTML(f'<table class="dataframe"><tbody>{rows}</tbody></table>')


def scores(run: RunRecord, part: str = "test") -> HTML:
    """Recall, precision and F1 of each expression, and the whole above, in percent."""
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
    caption = (
        f"{found['n']:,} images: accuracy {percent(found['accuracy'])} %, "
        f"balanced accuracy {percent(found['balanced_accuracy'])} %, "
        f"macro F1 {percent(found['macro_f1'])} %"
    )
    return table(rows, caption)


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


def sizes(models: dict[str, object], image: np.ndarray) -> HTML:
    """Parameters, multiply-accumulates and latency of Keras models, beside the last one's.

    Args:
        models: built models by name; the last is the one to compare with.
        image: uint8 (H, W, C), timed alone, as a webcam would send it.
    """
    found = [
        (
            name,
            model.count_params(),
            complexity.multiply_accumulates(model),
            complexity.latency(partial(model, training=False), image.astype("float32")),
        )
        for name, model in models.items()
    ]
    base = found[-1]
    return table(
        [
            {
                "Convolution": name,
                "Parameters": f"{parameters:,}",
                "Multiply-accumulates": f"{products:,}",
                f"Parameters against {base[0]}": f"{parameters / base[1]:.2f}",
                f"Multiply-accumulates against {base[0]}": f"{products / base[2]:.2f}",
                f"Latency against {base[0]}": f"{seconds / base[3]:.2f}",
            }
            for name, parameters, products, seconds in found
        ]
    )


def epochs_and_parts(runs: Sequence[RunRecord]) -> dict[str, str]:
    """What the choice of epoch, of test part and of accuracy does, in words for `open_details`.

    Args:
        runs: full runs with the chapter's own choices, one a seed; none: nothing is told.
    """
    if not runs:
        return {}

    def mean(part: str, figure: str) -> str:
        return f"{100 * np.mean([run.metrics[part][figure] for run in runs]):.2f}"

    last = f"{100 * np.mean([run.history['val_accuracy'][-1] for run in runs]):.2f}"
    chosen = mean("val", "accuracy")
    return {
        "epoch": f"validation accuracy of the last epoch {last}, of the chosen one {chosen}",
        "test-part": f"on the validation part, which chose the epoch: {chosen}",
        "accuracy": f"element-wise, same predictions: {mean('test', 'elementwise_accuracy')}",
    }


def overview(comparisons: Sequence[Comparison]) -> HTML:
    """Every cell of every paper, to be sorted, filtered and taken along as CSV or JSON.

    Args:
        comparisons: of any papers, cited cells included; those with a verdict come first.
    """
    import itables
    import pandas as pd
    from itables.javascript import init_notebook_mode

    rows = [flat(found) for found in sorted(comparisons, key=lambda found: not found.verdict)]
    frame = pd.DataFrame(rows)
    links = " ".join(
        f'<a class="fer-download" download="results.{kind}" href="data:{mime};base64,'
        f'{base64.b64encode(text.encode()).decode()}">{kind.upper()}</a>'
        for kind, mime, text in (
            ("csv", "text/csv", frame.to_csv(index=False)),
            ("json", "application/json", json.dumps(rows, indent=1, ensure_ascii=False)),
        )
    )
    shown = pd.DataFrame(
        {
            "Paper": [escape(row["paper"]) for row in rows],
            "Table": [escape(row["table"]) for row in rows],
            "Result": [escape(f"{row['row']}, {row['column']}") for row in rows],
            "Published": [escape(row["printed"]) for row in rows],
            "Ours": ["" if row["ours"] is None else f"{row['ours']:g}" for row in rows],
            "90 %": [f"{row['low']:g} to {row['high']:g}" if row["runs"] else "" for row in rows],
            "Runs": [row["runs"] or "" for row in rows],
            "Verdict": [
                f'<span title="{escape(row["reason"])}">{told}</span>'
                for row in rows
                for told in [badge(row["verdict"]) or row["kind"]]
            ],
        }
    )
    init_notebook_mode(all_interactive=False, connected=False)
    interactive = itables.to_html_datatable(
        shown,
        connected=False,
        showIndex=False,
        allow_html=True,
        maxBytes=0,
        column_filters="header",
        classes="display compact",
        pageLength=25,
        lengthMenu=[10, 25, 100, {"label": "all", "value": -1}],
    )
    return HTML(f"<p>Every cell, as a file: {links}</p>{interactive}")


def flat(found: Comparison) -> dict:
    """A comparison as one row of plain values, for tables and files."""
    cell, ours = found.cell, found.ours
    digits = 4 if cell.unit == "fraction" else 2
    return {
        "paper": found.paper,
        "table": found.table,
        "id": cell.id,
        "row": cell.row,
        "column": cell.column,
        "kind": cell.kind,
        "dataset": cell.dataset,
        "metric": cell.metric,
        "expression": cell.expression,
        "part": cell.part,
        "unit": cell.unit,
        "printed": cell.printed,
        "value": cell.value,
        "margin": cell.margin,
        "ours": ours and round(ours.mean, digits),
        "low": ours and round(ours.low, digits),
        "high": ours and round(ours.high, digits),
        "p_equivalence": found.p_value and round(found.p_value, 4),
        "runs": len(ours.runs) if ours else 0,
        "n_test": ours and ours.n_test,
        "persons": ours and ours.persons,
        "verdict": found.verdict,
        "reason": found.reason,
    }


def model_sizes(models: dict[str, object]) -> HTML:
    """Parameters and multiply-accumulates of Keras models by name."""
    return table(
        [
            {
                "Network": name,
                "Parameters": f"{model.count_params():,}",
                "Multiply-accumulates": f"{complexity.multiply_accumulates(model):,}",
            }
            for name, model in models.items()
        ]
    )


def networks(builders: dict[str, Callable], image: np.ndarray, published: dict) -> HTML:
    """Parameters, multiply-accumulates and latency of networks in PyTorch.

    Args:
        builders: by name, what returns an untrained network, as used here and, with `published`'s
            arguments, as its inventors described it.
        image: uint8 (H, W, C), timed alone, as a webcam would send it.
        published: arguments of the published size.
    """
    import torch

    def weights(network) -> int:
        return sum(weight.numel() for weight in network.parameters())

    batch = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    found = []
    for name, build in builders.items():
        network = build().eval()
        with torch.inference_mode():
            seconds = complexity.latency(lambda _, network=network: network(batch), image, 20)
        with torch.device("meta"):  # counted, never filled
            as_published = weights(build(**published))
        products = complexity.torch_multiply_accumulates(network, image)
        found.append((name, as_published, weights(network), products, seconds))
    return table(
        [
            {
                "Network": name,
                "Parameters as published": f"{as_published:,}",
                "Parameters here": f"{here:,}",
                "Multiply-accumulates": f"{products:,}",
                f"Latency against {found[0][0]}": f"{seconds / found[0][-1]:.2f}",
            }
            for name, as_published, here, products, seconds in found
        ]
    )


def expressions(comparisons: Sequence[Comparison], recorded: Sequence[RunRecord]) -> HTML:
    """Recall of each expression and what its images are most often called, printed and ours.

    Args:
        comparisons: the cells of one table; those of recall and of the most frequent prediction
            count, and belong together by row and by the runs they are compared with.
        recorded: the paper's records.
    """
    rows: dict[str, dict[str, str]] = {}
    words = {
        (found.cell.row, str(found.cell.select)): found.cell.printed
        for found in comparisons
        if found.cell.metric == "most_frequent_prediction"
    }
    for found in comparisons:
        cell = found.cell
        if cell.metric != "recall":
            continue
        word = words.get((cell.row, str(cell.select)))
        row = rows.setdefault(cell.row, {"Expression": escape(cell.row)})
        row[cell.column] = escape(f"{cell.printed}, {word}" if word else cell.printed)
        ours = "–"
        if runs := select(recorded, cell.select):
            names = runs[0].data.classes
            matrix = sum(np.array(run.metrics["test"]["confusion_matrix"]) for run in runs)
            counts = matrix[names.index(cell.expression)]
            recall = 100 * counts[names.index(cell.expression)] / counts.sum()
            ours = f"{recall:.0f}%, {names[counts.argmax()]}"
        row[f"{cell.column}, ours"] = ours
    return table(list(rows.values()))


def findings(found: Sequence[Finding]) -> HTML:
    """The findings of an audit, a card each: claim, test, result, how sure, what it means."""
    cards = []
    for finding in found:
        lines = {
            "Claim": finding.claim,
            "Test": finding.test,
            "Result": finding.result,
            "It means": finding.means,
            "It does not mean": finding.does_not_mean,
        }
        told = {name: escape(words) for name, words in lines.items()}
        if finding.details:
            listed = "".join(f"<li>{escape(detail)}</li>" for detail in finding.details)
            told["Result"] += f"<ul>{listed}</ul>"
        rows = "".join(f"<dt>{name}</dt><dd>{html}</dd>" for name, html in told.items())
        sure = finding.confidence
        cards.append(
            f'<div class="finding" data-confidence="{sure}"><p><strong>{escape(finding.kind)}'
            f'</strong> <span class="confidence">{sure}</span></p><dl>{rows}</dl></div>'
        )
    return HTML("".join(cards))


def side_by_side(comparisons: Sequence[Comparison]) -> HTML:
    """A published table as printed, each column followed by what our runs give.

    Args:
        comparisons: the cells of one table; those with a verdict count.
    """
    judged = [found for found in comparisons if found.verdict]
    labels: dict[str, dict[str, None]] = {}
    for found in judged:
        labels.setdefault(found.cell.column, {}).update(dict.fromkeys(found.also))
    rows: dict[str, dict[str, str]] = {}
    for found in judged:
        cell = found.cell
        row = rows.setdefault(cell.row, {"Setting": escape(cell.row)})
        row[cell.column] = escape(cell.printed)
        row[f"{cell.column}, ours"] = interval(found.ours, cell.unit)
        for label in labels[cell.column]:
            row[f"{cell.column}, {escape(label)}"] = interval(found.also.get(label), cell.unit)
    return table(list(rows.values()))


def dropped(counts: dict[str, dict[str, dict[str, dict[str, int]]]]) -> HTML:
    """How many images of each expression and part have no face that was found.

    Args:
        counts: of `detection.dropped`, by detector.
    """
    parts = {
        f"{part}, {detector}": classes
        for detector, told in counts.items()
        for part, classes in told.items()
    }
    names = list(next(iter(parts.values())))
    rows = []
    for name in [*names, "all"]:
        row = {"Expression": name}
        for part, classes in parts.items():
            chosen = classes.values() if name == "all" else [classes[name]]
            images, lost = (sum(found[key] for found in chosen) for key in ("images", "dropped"))
            row[part] = f"{lost:,} of {images:,} ({100 * lost / max(images, 1):.1f} %)"
        rows.append(row)
    return table(rows)


def balanced(counts: dict[str, dict[str, dict[str, int]]], printed: dict | None = None) -> HTML:
    """Images of each expression before and after balancing, and how many of them were made.

    Args:
        counts: of `balancing.counts`, by label.
        printed: expression -> what a paper prints, before and after; None for nothing.
    """
    names = list(next(iter(counts.values()), printed))
    rows = []
    for name in names:
        row = {"Expression": name}
        if printed:
            row |= {"Printed, before": printed[name][0], "Printed, after": printed[name][1]}
        for label, told in counts.items():
            row |= {f"{label}, {key}": told[name][key] for key in ("before", "after", "made")}
        rows.append(row)
    return table(rows)


# What a record's parts are, in the order from the honest number to the easiest one.
PARTS = {
    "test": "private test",
    "val": "validation, which chose the epoch",
    "train": "training images",
    "trained_on": "training images as balanced",
}


def parts_and_figures(
    runs: Sequence[RunRecord], fields: Sequence[str], against: float | None = None
) -> HTML:
    """What the same networks score on each part and in each figure; percent, mean over seeds.

    Args:
        runs: records; those that agree in `fields` stand in one line a part.
        fields: parameters that the lines name.
        against: a published accuracy in percent; two columns then tell what is missing to it.
    """
    groups: dict[tuple, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(tuple(run.parameters.get(field) for field in fields), []).append(run)
    rows = []
    for values, group in groups.items():
        for part, words in PARTS.items():
            scored = [run.metrics[part] for run in group if part in run.metrics]
            if not scored:
                continue
            precision = [metrics.macro_precision(np.array(s["confusion_matrix"])) for s in scored]
            top1, element = (
                100 * np.mean([s[figure] for s in scored])
                for figure in ("accuracy", "elementwise_accuracy")
            )
            row = {
                **dict(zip((field.capitalize() for field in fields), values, strict=True)),
                "Scored on": words,
                "Seeds": len(scored),
                "Accuracy": f"{top1:.2f}",
                "Recall": f"{100 * np.mean([s['balanced_accuracy'] for s in scored]):.2f}",
                "Precision": f"{100 * np.mean(precision):.2f}",
                "Element-wise accuracy": f"{element:.2f}",
            }
            if against is not None:
                row |= {
                    "Accuracy, to the printed": f"{against - top1:+.2f}",
                    "Element-wise, to the printed": f"{against - element:+.2f}",
                }
            rows.append(row)
    return table(rows)


def paired(pairs: Sequence[tuple[RunRecord, RunRecord]]) -> HTML:
    """Two models on the same test images: what one of them alone gets right, and McNemar's test.

    Args:
        pairs: recorded runs with their probabilities, scored on the same images.
    """
    rows = []
    for first, second in pairs:
        right = []
        for run in (first, second):
            probabilities, labels = read_probabilities(run)
            right.append(probabilities.argmax(axis=1) == labels)
        one, other = right
        counts = np.array([[(a & b).sum() for b in (other, ~other)] for a in (one, ~one)])
        rows.append(
            {
                "Model": first.parameters["model"],
                "Against": second.parameters["model"],
                "Epochs": first.parameters["epochs"],
                "Seed": first.seed,
                "It alone right": counts[0, 1],
                "The other alone right": counts[1, 0],
                "Points": f"{100 * (one.mean() - other.mean()):+.2f}",
                "p": f"{mcnemar(counts, exact=True).pvalue:.3f}",
            }
        )
    return table(rows)


def costs(comparisons: Sequence[Comparison], recorded: Sequence[RunRecord]) -> HTML:
    """What the runs behind each published number cost, and all of them together.

    A run that several numbers are read from is counted with each, and once in the last line.

    Args:
        comparisons: of one paper or of several; those without runs are left out.
        recorded: the runs, of the same papers.
    """
    by_name = {run.run: run for run in recorded}
    rows, every = [], {}
    for found in comparisons:
        own = {name: by_name[name] for name in found.ours.runs} if found.ours else {}
        if own:
            result = f"{escape(found.cell.row)}, {escape(found.cell.column)}"
            place = {"Paper": found.paper, "Table": escape(found.table), "Result": result}
            rows.append(place | _cost(list(own.values())))
            every |= own
    if not rows:
        return table([])
    return table([*rows, {"Paper": "all", "Table": "", "Result": ""} | _cost(list(every.values()))])


def _cost(found: Sequence[RunRecord]) -> dict[str, object]:
    """Seconds, devices and energy of some runs, as cells of a table."""
    devices = {}
    for run in found:
        device = run.device
        used = device.get("threads") or device.get("cores")
        cores = f", {used} core{'' if used == 1 else 's'}" if device.get("kind") == "cpu" else ""
        name = device.get("gpu") or device.get("model") or device.get("kind", "unknown")
        devices[f"{name}{cores}"] = None
    energy = [run.device.get("joules") for run in found]
    return {
        "Runs": len(found),
        "Training, s": f"{sum(run.timings.get('training', 0) for run in found):,.0f}",
        "Prediction, s": f"{sum(run.timings.get('prediction', 0) for run in found):,.1f}",
        "Device": escape("; ".join(devices)),
        "Energy, kJ": "not measured" if None in energy else f"{sum(energy) / 1000:,.1f}",
    }
