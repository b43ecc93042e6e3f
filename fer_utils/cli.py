"""The command line: `fer-utils data`, `fer-utils runs`, `fer-utils results`, `fer-utils audit`."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where it is used: `--help` need not wait for it
    from fer_utils.comparison import Comparison
    from fer_utils.estimates import Estimate
    from fer_utils.summary import Recorded


# Images and labels as `fer-utils data check` loads them.
AS_RECORDED = {
    True: "as in the recorded runs",
    False: "other images or labels than in the recorded runs",
    None: "",
}


@contextmanager
def for_a_reader() -> Iterator[None]:
    """Print what a terminal can show, to whoever reads as far as he likes.

    Signs that the encoding of the output lacks become escapes; a reader that has gone away, as in
    `fer-utils results | head`, is no error.
    """
    if sys.stdout is None:  # closed from the first: print does nothing
        yield
        return
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    finally:
        try:
            sys.stdout.flush()
        except OSError:  # told above; Python would tell it again when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@for_a_reader()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 fine, 1 where a data set on disk is corrupt, what was named is not
        there, or a file cannot be read or written.

    Raises:
        SystemExit: wrong usage, with status 2; or help was asked for, with 0.
    """
    parser = argparse.ArgumentParser(prog="fer-utils", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    data = commands.add_parser("data", help="the data sets").add_subparsers(
        required=True, metavar="command"
    )
    check = data.add_parser("check", help="what is there, and whether it is what it should be")
    check.add_argument("--root", type=_named, help="folder of the data (FER_DATA, else data/)")
    check.add_argument("--json", action="store_true", help="for programs")
    check.set_defaults(run=_data_check)

    report = data.add_parser("report", help="copies, labels, leakage, faces of the real images")
    report.add_argument("--root", type=_named, help="folder of the data (FER_DATA, else data/)")
    report.add_argument("--write", action="store_true", help="into results/data.json, for the book")
    report.set_defaults(run=_data_report)

    runs = commands.add_parser("runs", help="recorded runs side by side, your own first of all")
    runs.add_argument("folder", nargs="?", type=_named, help="of records (build/smoke/records)")
    runs.set_defaults(run=_runs)

    results = commands.add_parser("results", help="published numbers beside reproduced ones")
    results.add_argument("--paper", help="one paper alone")
    form = results.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--markdown", action="store_true", help="the verdicts alone, as in README")
    results.set_defaults(run=_results)

    audit = commands.add_parser("audit", help="what printed numbers can and cannot be")
    audit.add_argument(
        "files", nargs="*", type=_named, metavar="FILE", help="YAML; none: all papers"
    )
    audit.add_argument("--json", action="store_true", help="for programs")
    audit.set_defaults(run=_audit)

    options = parser.parse_args(arguments)
    try:
        status = options.run(options)
        if sys.stdout:
            sys.stdout.flush()  # a full disk is told here
        return status
    except ValueError as error:  # data, records and manifests all say what is wrong in one line
        print(f"fer-utils: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0
    except OSError as error:
        told = f"{error.filename}: {error.strerror}" if error.filename else error
        print(f"fer-utils: {told}", file=sys.stderr)
        return 1


def table(rows: list[Sequence[object]], header: Sequence[str]) -> str:
    """Columns aligned, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[k]) for row in [list(header), *cells]) for k in range(len(header))]
    numeric = [all(_is_number(row[k]) for row in cells) for k in range(len(header))]
    lines = []
    for row in [list(header), ["-" * width for width in widths], *cells]:
        parts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def markdown(found: Sequence[Comparison]) -> str:
    """Headline results with their verdicts, as README shows them, of papers that have a record.

    A paper that no run has been recorded of is left out: adding one changes nothing here.
    """
    from fer_utils.manifests import load_published

    recorded = {comparison.paper for comparison in found if _recorded(comparison)}
    lines = [
        "| Paper | Table | Result | Published | Ours, 90 % interval | Runs | Verdict |",
        "|---|---|---|--:|--:|--:|---|",
    ]
    for comparison in found:
        cell, ours = comparison.cell, comparison.ours
        headline = load_published(comparison.paper).headline
        if comparison.paper not in recorded or cell.id not in headline:
            continue
        lines.append(
            f"| {comparison.paper} | {comparison.table} | {comparison.result} "
            f"| {cell.printed} | {_told(ours, cell.unit)} | {len(ours.runs) if ours else 0} "
            f"| {comparison.verdict} |"
        )
        lines += [
            f"| | | *{label}* | | {_told(other, cell.unit)} | {len(other.runs)} "
            f"| {'stale ' if other.stale else ''}|"
            for label, other in comparison.beside.items()
        ]
    return "\n".join(lines)


def _named(word: str) -> Path:
    """A path; an empty word, most often a variable that is not set, would be the folder at work."""
    if not word:
        raise argparse.ArgumentTypeError("a path, not an empty word")
    return Path(word)


def _recorded(comparison: Comparison) -> bool:
    return any(ours.runs for ours in (comparison.ours, *comparison.also.values()) if ours)


def _told(ours: Estimate | None, unit: str) -> str:
    """Mean and interval, such as "60.27, 58.90 to 61.64"."""
    if ours is None:
        return "–"
    digits = _digits(unit)
    return f"{ours.mean:.{digits}f}, {ours.low:.{digits}f} to {ours.high:.{digits}f}"


def _digits(unit: str) -> int:
    return 4 if unit == "fraction" else 2


def _is_number(text: str) -> bool:
    return text in ("", "-") or text.replace(",", "").replace(".", "").lstrip("+-").isdigit()


def _data_check(options: argparse.Namespace) -> int:
    from fer_utils.datasets import check

    statuses = check(options.root)
    corrupt = any(status.state == "corrupt" for status in statuses)
    if options.json:
        print(json.dumps([status.as_dict() for status in statuses], indent=1))
        return int(corrupt)
    rows = [
        (
            status.name,
            status.state,
            sum(sum(part.values()) for part in status.counts.values()) or "",
            status.variant or "",
            AS_RECORDED[status.as_recorded],
            status.folder or "",
        )
        for status in statuses
    ]
    print(table(rows, ("data set", "state", "images", "form", "arrays", "folder")))
    for status in statuses:
        if status.state == "corrupt":
            print(f"\n{status.name} is corrupt. {status.problem}")
        elif status.state == "absent":
            print(f"\n{status.name} is absent. {status.obtain}")
    return int(corrupt)


def _data_report(options: argparse.Namespace) -> int:
    from fer_utils import data_report
    from fer_utils.detection import DetectionError

    try:
        found = data_report.measure(options.root)
    except DetectionError as error:
        raise ValueError(error) from None
    if options.write:
        print(data_report.write(found))
    else:
        print(found.model_dump_json(indent=1))
    return 0


def _runs(options: argparse.Namespace) -> int:
    from fer_utils.manifests import published_papers
    from fer_utils.records import RESULTS
    from fer_utils.summary import recorded

    folder = options.folder or RESULTS.parent / "build" / "smoke" / "records"
    if options.folder and not folder.is_dir():
        if str(folder) in published_papers():
            raise ValueError(
                f"{folder}: a paper; a folder of records belongs here, such as results"
            )
        raise ValueError(f"{folder}: no such folder of records")
    if _of_one_paper(folder):
        above = os.path.normpath(folder / os.pardir)
        raise ValueError(f"{folder}: the records of one paper; name the folder above: {above}")
    inside = sorted(path for path in folder.glob("*") if path.is_dir())
    found = [run for path in inside for run in recorded(path.name, folder)]
    if not found:
        below = [path for path in inside if any(map(_of_one_paper, path.glob("*")))]
        told = f"records are in {below[0]}" if below else "run a chapter first"
        raise ValueError(f"{folder}: no record is here; {told}")
    apart = _apart(found)
    rows = [
        (
            run.paper,
            run.run,
            run.profile,
            run.epochs,
            f"{100 * run.metrics['val']['accuracy']:.2f}",
            f"{100 * run.metrics['test']['accuracy']:.2f}",
            run.code.sha256[:8],
            run.created[:16].replace("T", " "),
            apart[run.path],
        )
        for run in sorted(found, key=lambda run: run.created)
    ]
    header = ("paper", "run", "profile", "epochs", "validation", "test", "code", "made (UTC)")
    print(table(rows, (*header, "apart from its namesakes")))
    return 0


def _of_one_paper(folder: Path) -> bool:
    """Whether records lie in a folder itself, which is called by their paper then."""
    from fer_utils.records import RecordError, read

    for path in sorted(folder.glob("*.json")):
        try:
            return bool(read(path))
        except RecordError:
            continue
    return False


def _apart(runs: Sequence[Recorded]) -> dict[Path, str]:
    """The parameters in which each run differs from those of its label, by its record's path."""
    namesakes: dict[tuple[str, str], list[Recorded]] = {}
    for run in runs:
        namesakes.setdefault((run.paper, _unhashed(run.run)), []).append(run)
    told = {}
    for group in namesakes.values():
        for name in dict.fromkeys(name for run in group for name in run.parameters):
            values = [_unhashed(run.parameters.get(name)) for run in group]
            for run, value in zip(group, values, strict=True):
                if len(set(values)) > 1:
                    told.setdefault(run.path, []).append(f"{name} {value}")
    return {run.path: ", ".join(told.get(run.path, ())) for run in runs}


def _unhashed(value: object) -> str:
    """A label or a parameter as a word, names of runs in it without the hash at their end."""
    return re.sub(r"-[0-9a-f]{8}\b", "", str(value))


def _results(options: argparse.Namespace) -> int:
    from fer_utils.comparison import compare
    from fer_utils.manifests import published_papers

    papers = published_papers()
    if options.paper is not None and options.paper not in papers:
        raise ValueError(f"paper {options.paper!r}: one of {', '.join(papers)}")
    found = [
        comparison
        for paper in (papers if options.paper is None else [options.paper])
        for comparison in compare(paper)
    ]
    if options.json:
        print(json.dumps([comparison.as_dict() for comparison in found], indent=1))
        return 0
    if options.markdown:
        print(markdown(found))
        return 0
    rows = []
    for comparison in found:
        cell, ours = comparison.cell, comparison.ours
        if comparison.verdict is None:
            ours_told = ("", "", "", "")
        elif ours is None:
            ours_told = ("", "", "", comparison.verdict)
        else:
            digits = _digits(cell.unit)
            low, high = f"{ours.low:.{digits}f}", f"{ours.high:.{digits}f}"
            interval = "" if ours.low == ours.high else f"{low} to {high}"
            exact = cell.unit == "multiplications"
            number = f"{ours.mean:,.0f}" if exact else f"{ours.mean:.{digits}f}"
            ours_told = (number, interval, len(ours.runs) or "", comparison.verdict)
        rows.append(
            (comparison.paper, comparison.table, cell.row, cell.column, cell.printed, *ours_told)
        )
        rows += [
            (
                "",
                "",
                f"  {label}",
                "",
                "",
                *_told(other, cell.unit).split(", "),
                len(other.runs),
                "stale" if other.stale else "",
            )
            for label, other in comparison.beside.items()
        ]
    header = ("paper", "table", "row", "column", "published", "ours", "90 %", "runs", "verdict")
    print(table(rows, header))
    return 0


def _audit(options: argparse.Namespace) -> int:
    from fer_utils.audit import Finding, outcomes, tally
    from fer_utils.manifests import load_published, published_papers, read_published

    papers = [read_published(path) for path in options.files] or [
        load_published(paper) for paper in published_papers()
    ]
    checked = [(paper.paper, outcomes(paper)) for paper in papers]
    if options.json:
        told = [
            {
                "paper": paper,
                "checks": tally(found),
                "findings": [one.as_dict() for one in found if isinstance(one, Finding)],
            }
            for paper, found in checked
        ]
        print(json.dumps(told, indent=1))
        return 0
    rows = [
        (paper, kind, counts["consistent"], counts["cannot tell"], counts["findings"])
        for paper, found in checked
        for kind, counts in tally(found).items()
    ]
    print(table(rows, ("paper", "check", "consistent", "cannot tell", "findings")))
    for paper, found in checked:
        for finding in (one for one in found if isinstance(one, Finding)):
            print(f"\n{paper}: {finding.kind}")
            lines = {
                "claim": finding.claim,
                "test": finding.test,
                "result": finding.result,
                "how sure": finding.confidence,
                "means": finding.means,
                "does not mean": finding.does_not_mean,
            }
            for name, words in lines.items():
                print(textwrap.fill(f"  {name:<15}{words}", 100, subsequent_indent=" " * 17))
                for detail in finding.details if name == "result" else ():
                    indents = {"initial_indent": " " * 17 + "- ", "subsequent_indent": " " * 19}
                    print(textwrap.fill(detail, 100, **indents))
    return 0


if __name__ == "__main__":
    sys.exit(main())
