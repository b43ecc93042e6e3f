"""What the report page of a paper shows: its claims judged, the runs behind them, what is open."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import get_args

from IPython.display import HTML, Markdown

from fer_utils import audit, comparison, display
from fer_utils.claims import Judged, Printed, place
from fer_utils.comparison import Comparison, Verdict, split_of_ours
from fer_utils.display.trained import kind, training_seconds
from fer_utils.gaps import balanced
from fer_utils.grid import READING, Run, read_chapter, still_open
from fer_utils.manifests import PublishedPaper, load_manifest, load_published
from fer_utils.records import VARYING, RunRecord


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


def claims(judged: Sequence[Judged]) -> HTML:
    """Claims with their outcome and why, each followed by the cells behind it.

    Args:
        judged: of `claims.judge`.
    """
    head = "".join(f"<th>{name}</th>" for name in ("Claim", "Printed", "Ours, 90 %", "Outcome"))
    bodies = "".join(_claim(found) for found in judged)
    return HTML(f'<table class="dataframe claims"><thead><tr>{head}</tr></thead>{bodies}</table>')


def _claim(found: Judged) -> str:
    """The rows of one claim."""
    once = any(cell.ours and cell.ours.runs and cell.ours.seeds == 1 for cell in found.cells)
    firm = found.outcome in ("reproduced", "exceeded", "not reproduced")
    basis = "<br><small>from one seed</small>" if firm and once else ""
    rows = (
        f'<tr><th scope="rowgroup" colspan="3">{escape(found.claim.says)}'
        f"<p>{escape(found.sentence)}</p></th><td>{display.badge(found.outcome)}{basis}</td></tr>"
    )
    for cell in found.cells:
        if cell.verdict:
            ours = display.interval(cell.ours, cell.cell.unit)
            told = (
                escape(place(cell)),
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


# ---- in short, and what was done ---------------------------------------------------------------


def scope(headline: Sequence[Comparison]) -> HTML:
    """The results to be reproduced, those with the same margin and reason in one line."""
    lines: dict[tuple[float | None, str], list[Comparison]] = {}
    for found in headline:
        why = found.cell.margin_reason or found.reason
        lines.setdefault((found.cell.margin, why), []).append(found)
    return display.table(
        [
            {
                "Result, printed": "<br>".join(
                    f"{escape(place(one))}: {escape(one.cell.printed)}" for one in found
                ),
                "Margin": "none" if margin is None else f"± {margin:g}",
                "Why this margin": escape(why),
            }
            for (margin, why), found in lines.items()
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
    on_runs = [found for found in judged if found.on_runs]
    by_image = sum(any(split_of_ours(cell.cell) for cell in found.cells) for found in on_runs)
    as_printed = [found.outcome for found in judged if not found.on_runs]
    of_one_seed = sum(found.ours is not None and found.ours.seeds == 1 for found in headline)
    waiting = [run for run in still_open(plan) if _from_imagenet(run)]
    without = sum(
        found.ours is None and any(answers(run, place(found)) for run in waiting)
        for found in headline
    )
    lines = {
        "Paper": f"<em>{escape(paper.title)}</em>, {escape(paper.venue)}, {paper.year}",
        "Headline results": _counted([found.verdict for found in headline if found.verdict])
        + _in_brackets(
            f"{of_one_seed} of them from one seed" if of_one_seed else "",
            f"runs of {without} of them start from {IMAGENET}" if without else "",
        ),
        "Claims put to our runs": _counted([found.outcome for found in on_runs])
        + _in_brackets(_behind(on_runs), f"{by_image} of them split by image" if by_image else ""),
        "Claims put to arithmetic": _counted(as_printed),
        "Recorded": _recorded(recorded),
        "Open": _open(plan) or "nothing",
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


def _in_brackets(*told: str) -> str:
    words = "; ".join(filter(None, told))
    return f" ({words})" if words else ""


def _behind(judged: Sequence[Judged]) -> str:
    """How few results of ours several claims rest on: the same numbers, asked again."""
    told = []
    for outcome in get_args(Verdict):
        claims = [found for found in judged if found.outcome == outcome != "not attempted"]
        results = {
            (cell.ours.runs, cell.cell.metric, cell.cell.part, cell.cell.expression)
            for found in claims
            for cell in found.cells
            if cell.ours
        }
        if len(results) < len(claims):
            told.append(f"the {len(claims)} {outcome} rest on {len(results)} of our results")
    return ", ".join(told)


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _recorded(recorded: Sequence[RunRecord]) -> str:
    """How many runs of each kind are recorded, and what their training took."""
    kinds: dict[str, list[RunRecord]] = {}
    for run in sorted(recorded, key=lambda run: KINDS.index(kind(run))):
        kinds.setdefault(kind(run), []).append(run)
    told = [f"{len(found)} {name} ({_training(found)})" for name, found in kinds.items()]
    return f"{_runs(len(recorded))} and their training: {', '.join(told)}" if told else "no run"


KINDS = ("full", "reduced", "contrast")


def code(paper: PublishedPaper) -> Markdown:
    """Where the code is whose numbers these are."""
    chapter = read_chapter(paper.paper)
    named = [f"`{name.removeprefix('fer_utils.')}`" for name in chapter.entry_points]
    functions = ", ".join(named) or "all of the package"
    details = f"{len(paper.open)} detail{'' if len(paper.open) == 1 else 's'}"
    return Markdown(
        f"Rebuilt in {paper.framework} from the text: the network in "
        f"`fer_utils/models/{paper.paper}.py`, the recipe in `notebooks/{paper.paper}.ipynb`. The "
        f"numbers come from {functions}; the hash of that code begins `{chapter.code[:8]}`. The "
        f"text leaves {details} open, each with our choice in the chapter."
    )


def data(plan: Sequence[Run], recorded: Sequence[RunRecord]) -> HTML:
    """The data sets that the paper's numbers ask for.

    Args:
        plan: all of its runs.
        recorded: its records, which tell how many images they really used.
    """
    rows = []
    for name in dict.fromkeys(run.dataset for run in plan):
        manifest = load_manifest(name)
        parts = [f"{part} {told.count:,}" for part, told in manifest.splits.items() if told.count]
        runs = [run for run in plan if run.dataset == name]
        passed_on = "yes" if manifest.licence.redistribution else "no"
        if manifest.licence.redistribution and not manifest.faces.shown:
            passed_on = "the labels yes, the images no"
        rows.append(
            {
                "Data set": f"{escape(manifest.title)} (<code>{name}</code>)",
                "Images by the manifest": ", ".join(parts),
                "Images in the recorded runs": "<br>".join(_used(name, recorded)) or "none yet",
                "Licence": escape(manifest.licence.name),
                "May be passed on": passed_on,
                "Runs asked for": len(runs),
                "Of them recorded": sum(run.state == "recorded" for run in runs),
            }
        )
    return display.table(rows)


def _used(dataset: str, recorded: Sequence[RunRecord]) -> list[str]:
    """How many images the recorded runs of each protocol had in each part, its folds together."""
    groups: dict[tuple, list[RunRecord]] = {}
    for run in recorded:
        if run.data.name == dataset:
            sizes = run.parameters.get("fold") is None and tuple(run.split.sizes.values())
            groups.setdefault((run.parameters.get("protocol") or "", sizes), []).append(run)
    told = []
    for (protocol, _), found in groups.items():
        parts = []
        for part in found[0].split.sizes:
            parts.append(f"{part} {_span(run.split.sizes[part] for run in found)}")
            other = [run for run in found if balanced(run)] if part == "train" else []
            if other:
                parts[-1] += f" (balanced: {_span(run.split.trained_on for run in other)})"
        words = f"{protocol.replace('_', ' ')}: " if protocol else ""
        told.append(words + ", ".join(parts))
    return told


def _span(counts: Iterable[int]) -> str:
    """Such as "705 to 708"."""
    found = sorted(set(counts))
    return f"{found[0]:,}" + (f" to {found[-1]:,}" if len(found) > 1 else "")


def runs(recorded: Sequence[RunRecord]) -> HTML | Markdown:
    """The recorded runs, a line for those that differ in seed and fold alone, with their cost.

    Args:
        recorded: of one paper.
    """
    if not recorded:
        return display.note("No run is recorded.")
    groups: dict[str, list[RunRecord]] = {}
    for run in recorded:
        same = {key: value for key, value in run.parameters.items() if key not in VARYING}
        groups.setdefault(json.dumps([run.profile, same], sort_keys=True), []).append(run)
    names = _told_apart([group[0] for group in groups.values()])
    rows = [
        {
            "Data": group[0].data.name,
            "Protocol": group[0].parameters.get("protocol", "").replace("_", " "),
            "Run": escape(name),
            "Kind": kind(group[0]),
            "Epochs": len(group[0].history["loss"]),
            "Seeds": len({run.seed for run in group}),
            "Runs": len(group),
            "Training": _training(group),
        }
        for name, group in zip(names, groups.values(), strict=True)
    ]
    empty = dict.fromkeys(("Protocol", "Run", "Kind", "Epochs", "Seeds"), "")
    rows.append({"Data": "all", **empty, "Runs": len(recorded), "Training": _training(recorded)})
    told = f"Trained on {display.devices(recorded)}"
    if training_seconds(recorded) < sum(training_seconds(group) for group in groups.values()) - 1:
        told += (
            ". A run that went on from one with fewer epochs has the time of those in its line, "
            "too; in the sum they count once"
        )
    return display.table(rows, told)


def _training(runs: Sequence[RunRecord]) -> str:
    return duration(training_seconds(runs))


def _variant(run: RunRecord) -> str:
    """What a run's name says beside data, protocol and seed, in words that a line may break at."""
    words = re.sub(r"-seed\d+-[0-9a-f]+$", "", run.run)
    beside = re.sub(rf"^{run.data.name}-{run.parameters.get('protocol', '')}\d*-?", "", words)
    return re.sub(r"(?<!\de)-|_", " ", beside)


def _told_apart(runs: Sequence[RunRecord]) -> list[str]:
    """The variant of each run, why it is not judged, and where else its namesakes differ.

    Args:
        runs: one of each line.
    """
    lines = [
        (run.data.name, run.parameters.get("protocol"), _variant(run), kind(run)) for run in runs
    ]
    told = []
    for run, line in zip(runs, lines, strict=True):
        namesakes = [one.parameters for one, its in zip(runs, lines, strict=True) if its == line]
        own, departs = run.parameters, ("contrast", "reading")
        names = sorted({name for one in namesakes for name in one} - {*VARYING, *departs})
        apart = [name for name in names if any(one.get(name) != own.get(name) for one in namesakes)]
        words = [f"{name.replace('_', ' ')} {own.get(name)}" for name in apart]
        why = (own.get(name) for name in departs if run.profile != "full" or name == "contrast")
        why = [word for word in why if word and word.replace("_", " ") not in _variant(run)]
        told.append(", ".join([_variant(run), *why, *words]))
    return told


def other_part(paper: PublishedPaper, headline: Sequence[Comparison]) -> Markdown | None:
    """What the verdicts would be on another part, where the audit says that theirs is not it.

    Args:
        paper: as published.
        headline: the cells that its abstract is about.

    Returns:
        A list; None where the audit says no such thing.
    """
    findings = [one for one in audit.audit(paper) if one.kind == "accuracy by class"]
    told, means = [], {}
    for found in headline:
        about = [one.means for one in findings if found.cell.id in one.cells]
        for label, ours in found.also.items():
            if not about or found.ours is None or not _same_runs(found, label):
                continue
            means |= dict.fromkeys(about)
            verdict, reason = comparison.judge(found.cell, ours)
            here = display.interval(ours, found.cell.unit)
            told.append(
                f"- {place(found)}: above *{found.verdict}*. {label[0].upper()}{label[1:]}, the "
                f"same runs give {here}: *{verdict}*, {reason}."
            )
    if not told:
        return None
    words = f"The audit: {' '.join(means)} The same runs on another part, against the same margin:"
    return Markdown(f"{words}\n\n" + "\n".join(told))


def _same_runs(found: Comparison, label: str) -> bool:
    """Whether what stands beside a cell is the same figure of its own runs on another part."""
    fields = found.cell.also[label]
    own = {key: value for key, value in fields.items() if key not in READING}
    return own == found.cell.select and {*READING} & fields.keys() == {"part"}


# ---- what is open ------------------------------------------------------------------------------


def finish(paper: PublishedPaper, plan: Sequence[Run]) -> Markdown:
    """The one command that makes every run that is open, and what it is expected to cost.

    Args:
        paper: as published.
        plan: all of its runs.
    """
    if not (told := _open(plan)):
        return Markdown("Nothing: every run that the paper's numbers ask for is recorded.")
    left = still_open(plan)
    sets = ", ".join(dict.fromkeys(run.dataset for run in left))
    needed, weights = f"the data in place ({sets})", ""
    if count := sum(map(_from_imagenet, left)):
        needed += " and those weights at hand"
        start = "start" if count > 1 else "starts"
        weights = (
            f" {count} of them {start} from {IMAGENET}: Keras downloads them where there is a "
            "network; else the chapter reads them from a file (`-p weights FILE`)."
        )
    return Markdown(
        f"{told}.{weights} With {needed}, one command makes them and then this book:"
        f"\n\n```\n{command(paper.paper)}\n```"
    )


IMAGENET = "ImageNet weights, which are not part of this project"


def _from_imagenet(run: Run) -> bool:
    return run.parameters.get("weights") == "imagenet"


def _open(plan: Sequence[Run]) -> str:
    """How many runs are not recorded, and what it takes to make them; empty if there is none."""
    left = still_open(plan)
    again = sum(run.state == "recorded" for run in left)
    if not left:
        return ""
    told = f"{len(left) - again} of {len(plan)} runs are not recorded"
    if again:
        told += (
            f"; {again} recorded {'run is' if again == 1 else 'runs are'} made again, for weights "
            f"that others start from: {len(left)} to make"
        )
    if all(run.seconds is None for run in left):
        return f"{told}, at a cost that is not known yet"
    return f"{told}, at an expected {cost(left)} on one core"


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
            "Runs to make": len(found),
            "Expected, on one core": cost(found),
            "Command": f"<code>{escape(command(paper.paper, table))}</code>",
        }

    rows = [
        row(place(found), found.cell.id, lambda run, found=found: answers(run, place(found)))
        for found in headline
    ]
    rows.append(row("What the paper leaves open", "open", lambda run: answers(run, "open")))
    rows.append(row("All, other tables included", None, lambda run: True))
    caption = (
        "A run that several lines need is counted in each; one that is recorded counts where "
        "others start from its weights."
    )
    return display.table([row for row in rows if row["Runs to make"]], caption)


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
