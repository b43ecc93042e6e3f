"""What the report page of a paper shows: its claims judged, the runs behind them, what is open.

A claim is an entry of `claims` in data_manifests/published. One that orders results is judged on
our runs; any other, on the printed numbers alone, by the audit.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Literal, get_args

from IPython.display import HTML, Markdown

from fer_utils import audit, display
from fer_utils.comparison import Comparison, Verdict
from fer_utils.differences import Difference, of_estimates
from fer_utils.estimates import Estimate
from fer_utils.grid import Run, read_chapter
from fer_utils.manifests import (
    Claim,
    Highest,
    Improvement,
    PublishedPaper,
    load_manifest,
    load_published,
)
from fer_utils.records import RunRecord

Printed = Literal["fits", "does not fit", "cannot tell"]
BY_CLAIM = ("counts", "improvement", "text and tables")  # the audit's checks that a claim asks for


def discussion(paper: str) -> Markdown:
    """What was easy, what was hard and what we believe.

    It is MyST Markdown: the cell that shows it needs the metadata
    `mystnb: {markdown_format: myst}`.

    Args:
        paper: one of `manifests.published_papers()`.
    """
    report = load_published(paper).report
    if report is None:
        return display.note("Not written yet.")
    told = {
        "What was easy": report.easy,
        "What was hard": report.hard,
        "What we believe": report.believe,
    }
    return Markdown("\n\n".join(f"**{title}.** {text}" for title, text in told.items()))


# ---- claims -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """A claim and what came of it.

    Args:
        claim: as in the published file.
        outcome: a verdict where it was put to our runs, else whether the printed numbers fit it.
        sentence: why, as text.
        cells: those that it names.
    """

    claim: Claim
    outcome: Verdict | Printed
    sentence: str
    cells: tuple[Comparison, ...]

    @property
    def on_runs(self) -> bool:
        return self.outcome in get_args(Verdict)


def judge(paper: PublishedPaper, compared: Sequence[Comparison]) -> list[Judged]:
    """Every claim of a paper, those that our runs can tell of first.

    Args:
        paper: as published.
        compared: all of its cells.
    """
    cells = {found.cell.id: found for found in compared}
    checked = audit.outcomes(paper)
    judged = []
    for claim in paper.claims:
        printed, told = _as_printed(claim, checked)
        ours = _on_runs(claim, cells)
        if ours:
            printed_too = f" As printed: {told}" if printed != "fits" else ""
            outcome, sentence = ours[0], ours[1] + printed_too
        else:
            outcome, sentence = printed, told
        behind = tuple(cells[name] for name in claim.cells)
        judged.append(Judged(claim, outcome, sentence, behind))
    return sorted(judged, key=lambda found: not found.on_runs)


def _on_runs(claim: Claim, cells: dict[str, Comparison]) -> tuple[Verdict, str] | None:
    """The verdict on a claim that one result is above others; None for any other claim."""
    if isinstance(claim, Improvement):
        best, others = cells[claim.better], [cells[claim.base]]
    elif isinstance(claim, Highest):
        best, others = cells[claim.best], [cells[other] for other in claim.others]
    else:
        return None
    if best.verdict is None:
        return None
    tested = [best, *(found for found in others if found.verdict)]
    for found in tested:
        if found.verdict == "not comparable":
            return "not comparable", f"{_name(found)}: {found.reason}."
    if missing := [_name(found) for found in tested if found.ours is None]:
        return "not attempted", f"No full run is recorded of {'; '.join(missing)}."
    if any(found.ours.stale for found in tested):
        return "stale", "The code or the data of a run have changed since; run it again."
    apart = [(_points(best, other), other) for other in others]
    points, other = min(apart, key=lambda found: found[0].mean)
    whose = "in our runs" if other.verdict else "as printed"
    nearest = "the highest of them, " if len(others) > 1 else ""
    told = (
        f"Our result less {nearest}{_name(other)} ({whose}), "
        f"is {points.mean:+.2f} points, {points.low:+.2f} to {points.high:+.2f}"
    )
    if points.low > 0:
        return "reproduced", f"{told}: above it."
    if points.high < 0:
        return "not reproduced", f"{told}: below it."
    return "inconclusive", f"{told}: the runs do not tell which is higher."


def _points(best: Comparison, other: Comparison) -> Difference:
    """Our result less another, ours or else as printed, in points."""
    value = other.cell.value
    found = of_estimates(other.ours or Estimate(value, value, value, (value,), 0), best.ours)
    scale = 100 if best.cell.unit == "fraction" else 1
    return replace(found, **{end: scale * getattr(found, end) for end in ("mean", "low", "high")})


def _as_printed(claim: Claim, checked: Sequence[audit.Outcome]) -> tuple[Printed, str]:
    """Whether the printed numbers fit a claim, and the audit's words for it."""
    told: dict[Printed, list[str]] = {"does not fit": [], "cannot tell": [], "fits": []}
    for outcome in checked:
        if claim.id not in outcome.cells or outcome.kind not in BY_CLAIM:
            continue
        if isinstance(outcome, audit.Passed):
            told["cannot tell" if outcome.vacuous else "fits"].append("")
        elif outcome.claim == claim.says:
            sure = outcome.confidence in ("certain", "likely")
            told["does not fit" if sure else "cannot tell"].append(
                f"{outcome.test} {outcome.result} {outcome.means} How sure: {outcome.confidence}."
            )
        else:  # one finding on several claims, with a line for each that it is about
            lines = [line for line in outcome.details if line.startswith(f"{claim.says}: ")]
            for line in lines:
                printed = line.removeprefix(f"{claim.says}: ")
                told["cannot tell"].append(f"{printed}: not told from chance.")
            if not lines:
                told["fits"].append("")
    outcome = next((word for word, found in told.items() if found), "cannot tell")
    words = {"fits": "The printed numbers fit it.", "cannot tell": "Nothing printed tells."}
    return outcome, " ".join(filter(None, told[outcome])) or words[outcome]


def claims(judged: Sequence[Judged]) -> HTML:
    """Claims with their outcome and why, each followed by the cells behind it.

    Args:
        judged: of `judge`.
    """
    head = "".join(f"<th>{name}</th>" for name in ("Claim", "Printed", "Ours, 90 %", "Outcome"))
    bodies = "".join(_claim(found) for found in judged)
    return HTML(f'<table class="dataframe claims"><thead><tr>{head}</tr></thead>{bodies}</table>')


def _claim(found: Judged) -> str:
    """The rows of one claim."""
    rows = (
        f'<tr><th scope="rowgroup" colspan="3">{escape(found.claim.says)}'
        f"<p>{escape(found.sentence)}</p></th><td>{display.badge(found.outcome)}</td></tr>"
    )
    for cell in found.cells:
        if cell.verdict:
            ours = display.interval(cell.ours, cell.cell.unit)
            told = (
                escape(_name(cell)),
                escape(cell.cell.printed),
                ours,
                display.badge(cell.verdict),
            )
            rows += f"<tr>{''.join(f'<td>{word}</td>' for word in told)}</tr>"
    if others := [cell for cell in found.cells if not cell.verdict]:
        rows += f'<tr><td colspan="4">{escape(_listed(others))}</td></tr>'
    return f'<tbody data-claim="{found.claim.id}">{rows}</tbody>'


def _listed(cells: Sequence[Comparison]) -> str:
    """Cells that nothing of ours stands beside, with what they print, by table."""
    tables: dict[str, list[str]] = {}
    for found in cells:
        told = f"{found.cell.row}, {found.cell.column}: {found.cell.printed}"
        tables.setdefault(found.table, []).append(told)
    return "; ".join(f"{table}: {'; '.join(told)}" for table, told in tables.items())


def _name(found: Comparison) -> str:
    """Where a cell stands in its paper."""
    return f"{found.table}: {found.cell.row}, {found.cell.column}"


# ---- in short, and what was done ---------------------------------------------------------------


def scope(headline: Sequence[Comparison]) -> HTML:
    """The results to be reproduced, each with the margin fixed before any run, and why."""
    return display.table(
        [
            {
                "Result": escape(_name(found)),
                "Printed": escape(found.cell.printed),
                "Margin": "none" if found.cell.margin is None else f"± {found.cell.margin:g}",
                "Why this margin": escape(found.cell.margin_reason or found.reason),
            }
            for found in headline
        ]
    )


def summary(
    paper: PublishedPaper,
    headline: Sequence[Comparison],
    judged: Sequence[Judged],
    recorded: Sequence[RunRecord],
    plan: Sequence[Run],
) -> HTML:
    """The page in a few lines.

    Args:
        paper: as published.
        headline: the cells that the paper's abstract is about.
        judged: its claims.
        recorded: its records.
        plan: all runs that its numbers ask for, as `grid.plan` gives them.
    """
    on_runs = [found.outcome for found in judged if found.on_runs]
    as_printed = [found.outcome for found in judged if not found.on_runs]
    left = still_open(plan)
    lines = {
        "Paper": f"<em>{escape(paper.title)}</em>, {escape(paper.venue)}, {paper.year}",
        "Headline results": _counted([found.verdict for found in headline if found.verdict]),
        "Claims put to our runs": _counted(on_runs),
        "Claims put to arithmetic": _counted(as_printed),
        "Recorded": f"{_runs(len(recorded))}, {_training(recorded)} of training",
        "Open": f"{_runs(len(left))}, expected {cost(left)} of one core" if left else "nothing",
    }
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td style="text-align: left">{told}</td></tr>'
        for name, told in lines.items()
    )
    return HTML(f'<table class="dataframe"><tbody>{rows}</tbody></table>')


def _counted(outcomes: Sequence[str]) -> str:
    """How many of each, in the order in which verdicts are defined."""
    order = [*get_args(Verdict), *get_args(Printed)]
    counts = sorted(Counter(outcomes).items(), key=lambda found: order.index(found[0]))
    return " ".join(f"{count} {display.badge(word)}" for word, count in counts) or "none"


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def code(paper: PublishedPaper) -> Markdown:
    """Where the code is whose numbers these are."""
    chapter = read_chapter(paper.paper)
    named = [f"`{name.removeprefix('fer_utils.')}`" for name in chapter.entry_points]
    functions = ", ".join(named) or "all of the package"
    return Markdown(
        f"Rebuilt in {paper.framework} from the text: the network in "
        f"`fer_utils/models/{paper.paper}.py`, the recipe in `notebooks/{paper.paper}.ipynb`. The "
        f"numbers come from {functions}; the hash of that code begins `{chapter.code[:8]}`. The "
        f"text leaves {len(paper.open)} details open, each with our choice in the chapter."
    )


def data(plan: Sequence[Run]) -> HTML:
    """The data sets that the paper's numbers ask for.

    Args:
        plan: all of its runs.
    """
    rows = []
    for name in dict.fromkeys(run.dataset for run in plan):
        manifest = load_manifest(name)
        parts = [f"{part} {told.count:,}" for part, told in manifest.splits.items() if told.count]
        runs = [run for run in plan if run.dataset == name]
        rows.append(
            {
                "Data set": f"{escape(manifest.title)} (<code>{name}</code>)",
                "Images": ", ".join(parts),
                "Licence": escape(manifest.licence.name),
                "May be passed on": "yes" if manifest.licence.redistribution else "no",
                "Runs asked for": len(runs),
                "Recorded": sum(run.state == "recorded" for run in runs),
            }
        )
    return display.table(rows)


def runs(recorded: Sequence[RunRecord]) -> HTML | Markdown:
    """The recorded runs, a line for those that differ in seed and fold alone, with their cost.

    Args:
        recorded: of one paper.
    """
    if not recorded:
        return display.note("No run is recorded.")
    groups: dict[str, list[RunRecord]] = {}
    for run in recorded:
        varying = ("seed", "fold", "pretraining")
        same = {key: value for key, value in run.parameters.items() if key not in varying}
        groups.setdefault(json.dumps([run.profile, same], sort_keys=True), []).append(run)
    rows = [
        {
            "Data": group[0].data.name,
            "Protocol": group[0].parameters.get("protocol", "").replace("_", " "),
            "Run": escape(_variant(group[0])),
            "Kind": "contrast" if "contrast" in group[0].parameters else group[0].profile,
            "Epochs": len(group[0].history["loss"]),
            "Seeds": len({run.seed for run in group}),
            "Runs": len(group),
            "Training": _training(group),
        }
        for group in groups.values()
    ]
    empty = dict.fromkeys(("Protocol", "Run", "Kind", "Epochs", "Seeds"), "")
    rows.append({"Data": "all", **empty, "Runs": len(recorded), "Training": _training(recorded)})
    devices = dict.fromkeys(_device(run) for run in recorded)
    return display.table(rows, f"Trained on {'; '.join(devices)}")


def _training(runs: Sequence[RunRecord]) -> str:
    return duration(sum(run.timings.get("training", 0) for run in runs))


def _variant(run: RunRecord) -> str:
    """What a run's name says beside data, protocol and seed, in words that a line may break at."""
    words = re.sub(r"-seed\d+-[0-9a-f]+$", "", run.run)
    beside = re.sub(rf"^{run.data.name}-{run.parameters.get('protocol', '')}\d*-?", "", words)
    return re.sub(r"(?<!\de)-|_", " ", beside)


def _device(run: RunRecord) -> str:
    """Such as "Intel Xeon, 2 cores"."""
    name = run.device.get("gpu") or run.device.get("model") or run.device.get("kind", "unknown")
    used = run.device.get("threads") or run.device.get("cores")
    if run.device.get("kind") != "cpu" or not used:
        return name
    return f"{name}, {used} core{'' if used == 1 else 's'}"


# ---- what is open ------------------------------------------------------------------------------


def still_open(plan: Sequence[Run], chosen: Callable[[Run], bool] = lambda run: True) -> list[Run]:
    """The runs that are not recorded, and those whose weights they start from.

    Weights are in no record: to go on from them, a recorded run has to be made again.

    Args:
        plan: of `grid.plan`.
        chosen: which of them count.
    """
    by_name = {run.name: run for run in plan}
    waiting = [run for run in plan if run.state != "recorded" and chosen(run)]
    needed: dict[str, Run] = {}
    while waiting:
        run = waiting.pop()
        if run.name not in needed:
            needed[run.name] = run
            waiting += [by_name[name] for name in run.first if name in by_name]
    return [run for run in plan if run.name in needed]


def finish(paper: PublishedPaper, plan: Sequence[Run]) -> Markdown:
    """The one command that makes every run that is open, and what it is expected to cost.

    Args:
        paper: as published.
        plan: all of its runs.
    """
    left = still_open(plan)
    if not left:
        return Markdown("Nothing: every run that the paper's numbers ask for is recorded.")
    again = sum(run.state == "recorded" for run in left)
    sets = ", ".join(dict.fromkeys(run.dataset for run in left))
    told = (
        f"{len(left) - again} of {len(plan)} runs are not recorded. With the data in place "
        f"({sets}), one command makes them and then this book, at an expected {cost(left)} of one "
        "core"
    )
    if again:
        told += f"; {_runs(again)} among them repeated, for weights that others start from"
    return Markdown(f"{told}:\n\n```\n{command(paper.paper)}\n```")


def by_result(paper: PublishedPaper, headline: Sequence[Comparison], plan: Sequence[Run]) -> HTML:
    """What is open of each headline result and of the open details, with a command for each.

    Args:
        paper: as published.
        headline: the cells that its abstract is about.
        plan: all of its runs.
    """

    def row(what: str, table: str | None, chosen: Callable[[Run], bool]) -> dict[str, object]:
        found = still_open(plan, chosen)
        return {
            "Open": escape(what),
            "Runs": len(found),
            "Expected, of one core": cost(found),
            "Command": f"<code>{escape(command(paper.paper, table))}</code>",
        }

    rows = [
        row(_name(found), found.cell.id, lambda run, found=found: answers(run, _name(found)))
        for found in headline
    ]
    rows.append(row("What the paper leaves open", "open", lambda run: answers(run, "open")))
    rows.append(row("All, other tables included", None, lambda run: True))
    caption = "A run that several lines need is counted in each."
    return display.table([row for row in rows if row["Runs"]], caption)


def answers(run: Run, what: str) -> bool:
    """Whether a run is for a cell, for what stands beside it, or for an open detail."""
    return any(told == what or told.startswith((f"{what}, ", f"{what}: ")) for told in run.answers)


def command(paper: str, table: str | None = None) -> str:
    """What makes the runs of a paper, or of one of its tables or cells."""
    return f"make reproduce PAPER={paper}" + (f" TABLE={table}" if table else "")


def cost(runs: Iterable[Run]) -> str:
    """What runs are expected to take on one core, such as "3.4 h"."""
    seconds = [run.seconds for run in runs]
    known = [found for found in seconds if found is not None]
    unknown = _runs(len(seconds) - len(known)) + " of unknown cost"
    if not known:
        return unknown
    return duration(sum(known)) + (f" and {unknown}" if len(known) < len(seconds) else "")


def duration(seconds: float) -> str:
    """In minutes, hours or days."""
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
