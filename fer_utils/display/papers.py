"""Tables on what papers printed, beside what our runs gave."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from IPython.display import HTML, Markdown

from fer_utils import differences
from fer_utils.arithmetic import elementwise_from, thresholded_accuracy
from fer_utils.audit import Finding
from fer_utils.comparison import Comparison, select, within_rounding
from fer_utils.display.cells import JOINED, badge, interval, table
from fer_utils.estimates import METRICS, Estimate, estimate
from fer_utils.manifests import (
    Improvement,
    OpenDetail,
    PublishedCell,
    PublishedPaper,
    load_manifest,
    load_published,
)
from fer_utils.records import RESULTS, RunRecord


def verdicts(
    comparisons: Iterable[Comparison],
    cited: bool = False,
    *,
    tables: Collection[str] | None = None,
    figures: Collection[str] | None = None,
) -> HTML:
    """Published cells beside ours, with the verdict on each.

    Args:
        comparisons: of one paper; accuracies come first, counts of multiplications last.
        cited: show what the paper cites of other methods too, below its own; what it cites of data
            sets, such as their sizes, is left out.
        tables: of which tables; None for all.
        figures: of which metrics; None for all.
    """

    def place(found: Comparison) -> tuple[bool, bool]:
        return found.verdict is None, found.cell.metric == "multiplications"

    rows: list[dict | str] = []
    above = None
    for found in sorted(comparisons, key=place):
        if tables is not None and found.table not in tables:
            continue
        if figures is not None and found.cell.metric not in figures:
            continue
        of_others = found.cell.kind == "cited" and found.cell.metric in METRICS
        if found.verdict is None and not (cited and of_others):
            continue
        if found.table != above:
            rows.append(escape(above := found.table))
        rows += _lines(found)
    return table(rows, name="verdicts")


def headlines(comparisons: Iterable[Comparison], reports: str) -> HTML:
    """The results that the abstracts are about, and what was measured beside them; where several of
    a paper have no runs, they stand in one line with what it prints.

    Args:
        comparisons: of all papers.
        reports: beginning of the address of a paper's report, such as "chapters/report-".
    """
    by_paper: dict[str, list[Comparison]] = {}
    for found in comparisons:
        if found.cell.id in load_published(found.paper).headline:
            by_paper.setdefault(found.paper, []).append(found)
    rows = []
    for paper, every in by_paper.items():
        waiting = [found for found in every if found.ours is None]
        shown = every if len(waiting) == 1 else [found for found in every if found.ours]
        lines = []
        for found in shown:
            first, *beside = _lines(found)
            if found.ours and found.ours.seeds == 1:
                first["Verdict"] += "<br><small>from one seed</small>"
            lines += [first, *beside]
        if len(waiting) > 1:
            badges = " ".join(
                badge(verdict) for verdict in dict.fromkeys(found.verdict for found in waiting)
            )
            told = escape(_printed([found.cell for found in waiting]))
            lines.append({"Result": told, "Verdict": badges, "Published": "", "Ours": "–"})
        columns = ("Result", "Verdict", "Published", "Ours")
        link = f'<strong><a href="{reports}{paper}.html">{paper}</a></strong>'
        note = load_published(paper).headline_note
        rows.append(f"{link}<br><small>{escape(note)}</small>" if note else link)
        rows += [{name: line[name] for name in columns} for line in lines]
    # On a page of prose, too, it looks as what a cell of code puts out.
    inside = f'<div class="output text_html">{table(rows, name="verdicts headlines").data}</div>'
    return HTML(f'<div class="cell_output">{inside}</div>')


def _printed(cells: Sequence[PublishedCell]) -> str:
    """What cells print, by row or by column, whichever are fewer: "20 Epochs: A 53%, B 54%"."""
    rows = {cell.row: cell.row.partition(",")[0] for cell in cells}
    if len(set(rows.values())) < len(rows):  # what stands behind the comma tells them apart
        rows = {row: row for row in rows}
    by_row = len(rows) < len({cell.column for cell in cells})
    groups: dict[str, list[str]] = {}
    for cell in cells:
        names = (rows[cell.row], cell.column)
        first, second = names if by_row else names[::-1]
        groups.setdefault(first, []).append(f"{second} {cell.printed}")
    return "; ".join(f"{name}: {', '.join(told)}" for name, told in groups.items())


def introduced(papers: Iterable[PublishedPaper], folder: str) -> HTML:
    """Every paper in a line, with the way to its report and to its chapter.

    Args:
        papers: as published.
        folder: beginning of the addresses of both, such as "chapters/".
    """
    items = [
        f"<li>{escape(', '.join(paper.authors))}: <em>{escape(paper.title)}</em>, {paper.year} "
        f'(<a href="{folder}report-{paper.paper}.html">report</a>, '
        f'<a href="{folder}{paper.paper}.html">chapter</a>)</li>'
        for paper in papers
    ]
    return HTML(f"<ul>{''.join(items)}</ul>")


def _lines(found: Comparison) -> list[dict[str, object]]:
    """A published cell beside ours, and a line for each estimate beside it."""
    cell, ours = found.cell, found.ours
    margin = f" ± {cell.margin:g}".replace(" ", "\N{NO-BREAK SPACE}") if cell.margin else ""
    published = escape(cell.printed) + margin
    # The verdict beside the result: on a narrow screen the numbers are a swipe away.
    first = {
        "Result": escape(found.result),
        "Verdict": badge(found.verdict),
        "Published": published,
        "Ours": interval(ours, cell.unit) if found.verdict else "",
        "Runs": len(ours.runs) if ours and ours.runs else "",
    }
    return [first] + [
        {
            "Result": f"<em>{escape(label)}</em>" + (f" {badge('stale')}" if other.stale else ""),
            "Verdict": JOINED,
            "Published": JOINED,
            "Ours": interval(other, cell.unit),
            "Runs": len(other.runs),
        }
        for label, other in found.beside.items()
    ]


def side_by_side(comparisons: Sequence[Comparison]) -> HTML:
    """A published table as printed, each column followed by what our runs give.

    Args:
        comparisons: the cells of one table; those with a verdict count.
    """
    judged = [found for found in comparisons if found.verdict]
    labels: dict[str, dict[str, None]] = {}
    for found in judged:
        labels.setdefault(found.cell.column, {}).update(dict.fromkeys(found.cell.also))
    recorded = {(found.cell.column, label) for found in judged for label in found.also}
    rows: dict[str, dict[str, str]] = {}
    for found in judged:
        cell = found.cell
        row = rows.setdefault(cell.row, {"Setting": escape(cell.row)})
        row[f"{cell.column}, printed"] = escape(cell.printed)
        row[f"{cell.column}, ours"] = interval(found.ours, cell.unit)
        for label in labels[cell.column]:
            if (cell.column, label) in recorded:
                row[f"{cell.column}, {escape(label)}"] = interval(found.also.get(label), cell.unit)
    return table(list(rows.values()), name="compact")


def changes(
    comparisons: Sequence[Comparison],
    reference: Comparison,
    recorded: Sequence[RunRecord],
    folder: Path = RESULTS,
) -> HTML:
    """How far each row of a published table lies from one of its rows, printed and ours.

    Ours are of the same test images, with the interval of the difference. A row whose runs lack a
    fold that those of the reference have, or share no seed with them, has none; where they share
    only some, these are named.

    Args:
        comparisons: accuracies of one table and column.
        reference: the row that the others are changes of; it is left out.
        recorded: the paper's records.
        folder: where the records' probabilities are.

    Raises:
        ValueError: two runs of one seed and fold were tested on different images, or probabilities
            are not beside their record.
    """

    def points(before: dict, after: dict | None) -> str:
        runs = select(recorded, before), select(recorded, after or {})
        pairs = differences.comparable(*runs)
        if after is None or not pairs[0]:
            return "–"
        found = differences.of_runs(*pairs, folder)
        ends = f"({found.low:+.1f} to {found.high:+.1f})".replace(" ", "\N{NO-BREAK SPACE}")
        shared, either = ({run.seed for run in of} for of in (pairs[0], [*runs[0], *runs[1]]))
        of_some = f", seed{'s' if len(shared) > 1 else ''} {', '.join(map(str, sorted(shared)))}"
        return f"{found.mean:+.1f} {ends}{of_some if shared < either else ''}"

    base = reference.cell
    scale = 100 if base.unit == "fraction" else 1
    rows = []
    for cell in [found.cell for found in comparisons if found.cell.select != base.select]:
        row = {"Setting": escape(cell.row)}
        row["Printed, points"] = f"{scale * (cell.value - base.value):+.2f}"
        row["Ours"] = points(base.select, cell.select)
        for label, fields in base.also.items():
            row[escape(label)] = points(fields, cell.also.get(label))
        rows.append(row)
    empty = [name for name in map(escape, base.also) if {row[name] for row in rows} == {"–"}]
    rows = [{name: told for name, told in row.items() if name not in empty} for row in rows]
    return table(rows, f"Against: {base.row}")


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
    captions = [
        f"{printed.id}: {printed.caption}"
        for found in comparisons[:1]
        for printed in load_published(found.paper).tables
        if printed.id == found.table
    ]
    return table(list(rows.values()), *captions)


def settings(
    comparisons: Iterable[Comparison],
    here: Mapping[str, object],
    recorded: Sequence[RunRecord] = (),
) -> HTML:
    """Printed values that no margin was set for, such as settings and counts, beside ours.

    Args:
        comparisons: of one paper; those without a verdict are shown.
        here: ours, by the id of a cell or by its figure.
        recorded: the paper's records; how many expressions they detect, and accuracies, are read
            from those that a cell names.
    """
    return table(
        [
            {
                "Where": escape(found.table),
                "What": f"{escape(found.cell.row)}, {escape(found.cell.column)}",
                "Printed": escape(found.cell.printed),
                "Here": escape(
                    str(here.get(found.cell.id, here.get(found.cell.metric, "")))
                    or _measured(found.cell, recorded)
                ),
                "Note": escape(found.cell.note or ""),
            }
            for found in comparisons
            if found.verdict is None and found.cell.kind == "own"
        ]
    )


def _measured(cell: PublishedCell, recorded: Sequence[RunRecord]) -> str:
    """A count or an accuracy that no verdict is on, from the runs that the cell names."""
    runs = select(recorded, cell.select) if cell.select else []
    if cell.metric == "accuracy":
        return interval(estimate(runs, "accuracy", cell.unit), cell.unit)
    rates = estimate(runs, "detection_rate", "fraction")
    if cell.metric == "expressions_detected" and rates:
        return ", ".join(str(round(rate * len(runs[0].data.classes))) for rate in rates.values)
    return "–"


def improvements(paper: str, comparisons: Iterable[Comparison]) -> HTML:
    """What a paper claims to add to the rows it cites, and what our results add to the same rows.

    Args:
        paper: whose claims; each names its number, the better cell and the other one.
        comparisons: of that paper.
    """
    cells = {found.cell.id: found for found in comparisons}

    def added(found: Comparison, base: PublishedCell) -> str:
        if found.ours is None or base.value is None:
            return "–"
        scale = 100 if found.cell.unit == "fraction" else 1
        printed = Estimate(base.value, base.value, base.value, (base.value,), 0)
        more = differences.of_estimates(printed, found.ours)
        mean, low, high = (scale * value for value in (more.mean, more.low, more.high))
        return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"

    rows = []
    for claim in load_published(paper).claims:
        if not isinstance(claim, Improvement) or claim.points is None:
            continue
        better, base = cells[claim.better], cells[claim.base].cell
        rows.append(
            {
                "Compared with": escape(f"{base.row}, {base.column}"),
                "Accuracy as cited": escape(base.printed),
                "Gain as printed": escape(cells[claim.points].cell.printed),
                "Gain with our result": added(better, base),
            }
        )
    return table(rows, "In points")


def open_details(
    details: Sequence[OpenDetail],
    recorded: Sequence[RunRecord],
    ours: Sequence[RunRecord],
    effects: Mapping[str, str] | None = None,
    profiles: Collection[str] = ("full",),
) -> HTML:
    """What a paper does not say, our choices, and what others do to the accuracy.

    Args:
        details: of the published file.
        recorded: the paper's runs.
        ours: the runs with all of our choices, of which a detail may name others.
        effects: by a detail's id, what the chapter itself has measured; None for nothing.
        profiles: which of the runs count.
    """
    rows, effects = [], effects or {}
    for detail in details:
        told = [effects[detail.id]] if detail.id in effects else []
        for label, fields in detail.other.items():
            if other := select(recorded, fields, profiles):
                own = select(recorded, detail.ours, profiles) if detail.ours else ours
                told.append(f"{label}: {_beside_ours(other, own)}")
        rows.append(
            {
                "The paper leaves open": escape(detail.detail),
                "Our choice": escape(detail.choice),
                "Why": escape(detail.reason).replace("/", "/<wbr>"),  # an address may break
                "Effect on accuracy, %": escape("; ".join(told)) or "not measured",
            }
        )
    return table(rows)


def _beside_ours(other: Sequence[RunRecord], ours: Sequence[RunRecord]) -> str:
    """Accuracies of two choices, and of how many images each is where those are not as many.

    Where the other choice has fewer seeds, ours is of these.
    """
    seeds = {run.seed for run in other}
    of_these = [run for run in ours if run.seed in seeds]
    fewer = 0 < len(of_these) < len(ours)
    if fewer:
        ours = of_these
    found = [estimate(runs, "accuracy", "percent") for runs in (other, ours)]
    told = [interval(one) for one in found]
    if all(found) and found[0].n_test != found[1].n_test:
        told = [f"{words} of {one.n_test:,} images" for words, one in zip(told, found, strict=True)]
    same = f" with the same seed{'s' if len(seeds) > 1 else ''}" if fewer else ""
    return f"{told[0]}, ours{same}: {told[1]}"


def learning_rates(printed: Sequence[PublishedCell], schedule: Mapping[int, float]) -> HTML:
    """A published schedule of learning rates beside the one that training follows.

    Args:
        printed: a cell a step, in order; the row names its epochs.
        schedule: first epoch of a step, counted from 0 -> rate from there on.
    """
    return table(
        [
            {
                "Epochs": escape(cell.row.removeprefix("epochs ")),
                "Printed": escape(cell.printed),
                "Here, from epoch": start,
                "Here": f"{rate:g}",
            }
            for cell, (start, rate) in zip(printed, schedule.items(), strict=True)
        ]
    )


def above_one_half(cells: Sequence[PublishedCell], meant: Mapping[str, float]) -> HTML:
    """The accuracies that follow where recall and precision count all outputs above one half.

    Args:
        cells: of one table; rows with an accuracy, a recall and a precision count.
        meant: id of a misprinted cell -> the fraction to take for it, to four digits.
    """

    def ends(cell: PublishedCell) -> tuple[float, float]:
        value = meant.get(cell.id, cell.value)
        return value - 0.00005, value + 0.00005  # as far as rounding goes

    def told(found: tuple[float, float]) -> str:
        return f"{found[0]:.4f} to {found[1]:.4f}"

    by_row: dict[str, dict[str, PublishedCell]] = {}
    for cell in cells:
        by_row.setdefault(cell.row, {})[cell.metric] = cell
    rows = []
    for label, row in by_row.items():
        if not {"accuracy", "balanced_accuracy", "macro_precision"} <= row.keys():
            continue
        accuracy = row["accuracy"]
        recall, precision = row["balanced_accuracy"], row["macro_precision"]
        classes = len(load_manifest(accuracy.dataset).class_names)
        rows.append(
            {
                "Model": escape(label),
                "Recall": escape(recall.printed),
                "Precision": escape(precision.printed),
                "Element-wise accuracy that follows": told(
                    elementwise_from(ends(recall), ends(precision), classes)
                ),
                "Accuracy printed": escape(accuracy.printed),
                "Top-1 accuracy, from recall and precision": told(
                    thresholded_accuracy(ends(recall), ends(precision))
                ),
            }
        )
    return table(rows)


def tally(compared: Mapping[str, Sequence[Comparison]], reports: str) -> HTML:
    """How often each verdict was given, paper by paper.

    A number that a paper prints in several tables is one result; it counts once, and the cells
    that have it stand in brackets where they are more. Told apart is what rests on one seed alone,
    and what a program counts without a run, such as multiplications.

    Args:
        compared: each paper's cells.
        reports: beginning of the address of a paper's report, such as "report-".
    """
    counts: dict[tuple[str, str], dict[str, list[tuple]]] = {}
    for paper, cells in compared.items():
        for found in cells:
            if found.verdict is None:
                continue
            basis = ""
            if found.ours and not found.ours.runs:
                basis = " by counting, without a run"
            elif found.ours and found.ours.seeds == 1:
                basis = " from one seed"
            by_paper = counts.setdefault((found.verdict, basis), {})
            by_paper.setdefault(paper, []).append(_once(found.cell))

    def told(results: Sequence[tuple]) -> str:
        once = len(set(results))
        return f"{once} ({len(results)})" if once < len(results) else str(once)

    return table(
        [
            {"Verdict": badge(verdict) + basis}
            | {
                f'<a href="{reports}{paper}.html">{paper}</a>': told(by_paper.get(paper, ()))
                for paper in compared
            }
            for (verdict, basis), by_paper in sorted(counts.items())
        ]
    )


def _once(cell: PublishedCell) -> tuple:
    """The same for the cells of several tables that have one number."""
    return cell.metric, cell.expression, cell.printed, str(cell.select), cell.dataset


def rounded(compared: Iterable[Comparison]) -> Markdown:
    """How many verdicts depend on how a printed number was rounded.

    Args:
        compared: cells of any papers; each number counts once.
    """
    verdicts = {
        (found.paper, _once(found.cell)): within_rounding(found.cell, found.ours)
        for found in compared
        if found.verdict and found.ours and found.ours.runs and not found.ours.stale
    }
    moved = [found for found in verdicts.values() if len(found) > 1]
    told = (
        f"Allowing for the digits that rounding or cutting off took away, {len(moved)} of "
        f"{len(verdicts)} verdicts could differ"
    )
    if moved and all("inconclusive" in found and len(found) == 2 for found in moved):
        told += ", each between *inconclusive* and one other"
    return Markdown(f"Printed numbers are taken as exact. {told}.")


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
            "Published": [
                escape(row["printed"]) + (f" ± {row['margin']:g}" if row["margin"] else "")
                for row in rows
            ],
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


def findings(found: Sequence[Finding], named: bool = False) -> HTML:
    """The findings of an audit, a card each: claim, test, result, how sure, what it means.

    Args:
        found: of any papers.
        named: each card has its paper's name.
    """
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
        title = f"{finding.paper}: {finding.kind}" if named else finding.kind
        cards.append(
            f'<div class="finding" data-confidence="{sure}"><p><strong>{escape(title)}'
            f'</strong> <span class="confidence">{sure}</span></p><dl>{rows}</dl></div>'
        )
    return HTML("".join(cards))
