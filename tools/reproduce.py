"""Make the runs that the published numbers ask for, then the book. Run by the Makefile.

    make reproduce           every run that is not recorded yet
    make reproduce DRY=1     list them, with their cost and what they would change
    make reproduce PAPER=yengikand2023 TABLE="Table II" SEEDS="0 1" HOURS=2
    make reproduce ONLY="ck48-stratified ck48-subject_kfold0"

Interrupted at any moment, the same command goes on from the last whole epoch of each run.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from typing import Any

import build_book
from execute import ROOT, at_least, end_as_by_ctrl_c, from_anywhere
from jobs import Busy, cores, locked, snakemake
from train import sentence

from fer_utils import grid, records
from fer_utils.cli import for_a_reader, table
from fer_utils.manifests import DataError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paper", help="one or several; left out: every paper with a chapter")
    parser.add_argument("--table", help='such as "Table II"; "open" for what papers leave open')
    parser.add_argument("--seeds", help='such as "0 1 2", which is what it is when left out')
    parser.add_argument(
        "--only", help="runs whose names begin so, and those whose weights they start from"
    )
    parser.add_argument("--hours", help="leave out what takes longer, with what it starts from")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and make none")
    parser.add_argument("--json", action="store_true", help="with --dry-run: for programs")
    parser.add_argument("--smoke", action="store_true", help="short runs on synthetic faces")
    parser.add_argument(
        "--gpu",
        type=at_least(0),
        default=0,
        help="GPUs a training takes; on this machine one training then waits for the other",
    )
    parser.add_argument("--profile", help="a folder of Snakemake options, for a cluster")
    parser.add_argument("--no-book", action="store_true", help="stop when the runs are made")
    options = parser.parse_args()
    from_anywhere()
    if options.json and not options.dry_run:
        parser.error("--json is for --dry-run")
    # A name alone may be one of Snakemake's own profiles.
    if "/" in (options.profile or "") and not (ROOT / options.profile).is_dir():
        parser.error(f"--profile: {options.profile} is no folder")
    words = {key: getattr(options, key) for key in ("paper", "table", "seeds", "only")}
    try:
        grid.to_make([], options.hours)  # refuses what is no limit before anything is read
        runs = grid.chosen(**words, smoke=options.smoke)
        if options.dry_run:
            if check_data(runs):
                runs = grid.chosen(**words, smoke=options.smoke)
            print(for_programs(runs, options) if options.json else listing(runs, options))
            return
        with locked(ROOT / "build" / "grid.lock", "make reproduce"):
            if check_data(runs):
                runs = grid.chosen(**words, smoke=options.smoke)
            failed = make(runs, options, words)
        if failed:  # before the book, which may fail for itself
            told = "Some runs were not made; see above. The same command tries them again."
            print(told, file=sys.stderr, flush=True)
        if not options.no_book:
            with locked(ROOT / "build" / "book.lock", "make book"):
                build_book.book("smoke")
    except (grid.GridError, records.RecordError, DataError, Busy, OSError) as error:
        if options.dry_run and isinstance(error, BrokenPipeError):
            raise  # nothing is cut off but the list
        sys.exit(sentence(error))
    if failed:
        sys.exit(1)


def check_data(runs: list[grid.Run]) -> bool:
    """Look at files that no check has seen: records may be of other data. Whether any were new.

    What is wrong with them is said by the check of the workflow, if a run is to be made of them.
    """
    sets = {run.dataset for run in runs if run.state == "recorded" and grid.data_key(run.dataset)}
    new = [name for name in sorted(sets) if not grid.checked_data(name).exists()]
    for name in new:
        command = [sys.executable, str(ROOT / "tools" / "check_data.py"), name]
        subprocess.run([*command, grid.checked_data(name)], capture_output=True, check=False)
    return bool(new)


def make(runs: list[grid.Run], options: argparse.Namespace, words: dict) -> int:
    """Make what is to be made; 0 where all was, else another number."""
    print(listing(runs, options), flush=True)
    to_do = grid.to_make(runs, options.hours)
    if not to_do:
        return 0
    for run in to_do:  # of a run whose record is gone
        grid.done_file(run).unlink(missing_ok=True)
    given = {**words, "hours": options.hours, "gpu": options.gpu or None}
    given["smoke"] = "true" if options.smoke else None
    given["checks"] = None if options.profile else 0  # a wrong file is told once
    told = [f"{key}={value}" for key, value in given.items() if value is not None]
    config = ["--config", *told] if told else []
    build = ROOT / "build" / ("smoke-grid" if options.smoke else "grid")

    def finished() -> int:
        return sum((build / run.paper / run.name / "done.json").exists() for run in to_do)

    def targets(some: list[grid.Run]) -> list[str]:
        return [f"{build.relative_to(ROOT)}/{run.paper}/{run.name}/done.json" for run in some]

    progress = {"jobs": len(to_do), "finished": finished, "profile": options.profile}
    lost = set() if options.profile else prepare(to_do, config, **progress)
    left = [run for run in to_do if run.name not in lost]
    arguments = [*(targets(left) if lost else ["runs"]), *config]
    first = [run for run in left if run.rank == 0]
    if 0 < len(first) < len(left):  # the published numbers themselves come first
        arguments += ["--prioritize", *targets(first)]
    status = snakemake(arguments, running=build, gpu=options.gpu, **progress) if left else 1
    made = finished()
    print(f"{made} of {len(to_do)} runs made.", flush=True)
    return status or len(lost) or len(to_do) - made


def prepare(runs: list[grid.Run], config: list[str], **progress: Any) -> set[str]:
    """Prepare what runs start from, on several cores, before the first of them begins.

    Beside trainings, which take one core each, there are never two free at once.

    Args:
        runs: to be made, each after those it starts from.
        config, progress: for Snakemake.

    Returns:
        Names of the runs that cannot be made because something failed, which it has said.
    """
    needed = {name for run in runs for name in run.prepared}
    missing = {name for name in needed if not grid.prepared_file(name).exists()}
    if not missing:
        return set()
    files = [str(grid.prepared_file(name).relative_to(ROOT)) for name in sorted(missing)]
    # More than eight would take memory that the rule does not ask for, to gain some seconds.
    arguments = [*files, *config, "--set-threads", f"prepare={min(8, cores())}"]
    snakemake(arguments, running=ROOT / "build" / "grid" / "prepared", **progress)
    failed = {name for name in missing if not grid.prepared_file(name).exists()}
    sets = {run.dataset for run in runs if missing.intersection(run.prepared)}
    wrong = {name for name in sets if not grid.checked_data(name).exists()}
    lost: set[str] = set()
    for run in runs:
        if (
            run.dataset in wrong
            or failed.intersection(run.prepared)
            or lost.intersection(run.first)
        ):
            lost.add(run.name)
    return lost


def listing(runs: list[grid.Run], options: argparse.Namespace) -> str:
    """What would be run, what each run costs and which published numbers it is for."""
    to_do = grid.to_make(runs, options.hours)
    verdicts = verdicts_of({run.paper for run in runs})
    rows = [
        (run.paper, run.label, told(run.seconds), run.why, purpose(run, verdicts)) for run in to_do
    ]
    lines = []
    if rows:
        lines += [table(rows, ("paper", "run", "expected", "why", "what it would change")), ""]
    known = [seconds for run in to_do if (seconds := own_seconds(run, to_do)) is not None]
    unknown = len(to_do) - len(known)
    if to_do and not known:
        lines.append(f"{len(to_do)} to run, at a cost that is not known yet")
    elif to_do:
        side_by_side = 1 if options.gpu and not options.profile else max(1, cores())
        longest = max(run.seconds for run in to_do if run.seconds is not None)
        lines.append(
            f"{len(to_do)} to run: {told(sum(known))} of one core, about "
            f"{told(max(longest, sum(known) / side_by_side))} with {side_by_side} at once"
            + (f"; the cost of {unknown} is not known" if unknown else "")
        )
    else:
        lines.append("Nothing to run.")
    lines += preparing(to_do)
    if not options.profile and not options.gpu:
        lines += slow_here(to_do)
    counted = Counter(run.state for run in runs)
    if counted["recorded"] + counted["done"]:
        lines.append(f"{counted['recorded'] + counted['done']} are recorded already")
    for dataset, count in Counter(run.why for run in runs if run.state == "absent").items():
        lines.append(f"{count} wait for data: {dataset}")
    longer = [run for run in runs if run.state == "to run" and run not in to_do]
    if longer:
        cost = told(sum(own_seconds(run, longer) or 0 for run in longer))
        lines.append(
            f"{len(longer)} left open, over {options.hours} hours with the runs they start from, "
            f"or of unknown cost: {cost} or more"
        )
    return "\n".join(lines)


def for_programs(runs: list[grid.Run], options: argparse.Namespace) -> str:
    """The runs as JSON; what the hours leave out is "left open"."""
    to_do = {run.name for run in grid.to_make(runs, options.hours)}
    left = {"state": "left open"}
    return json.dumps(
        [
            asdict(run) | (left if run.state == "to run" and run.name not in to_do else {})
            for run in runs
        ]
    )


def own_seconds(run: grid.Run, to_do: list[grid.Run]) -> float | None:
    """What a run costs beyond the shorter one of these that it goes on from."""
    shorter = [other.seconds or 0 for other in to_do if other.name in run.after]
    return None if run.seconds is None else max(0.0, run.seconds - max(shorter, default=0))


def preparing(to_do: list[grid.Run]) -> list[str]:
    """What is prepared before the runs, what it costs and for how many of them, a line each."""
    found = {made.name: made for run in to_do for made in grid.preparations(run)}
    needed = Counter(name for run in to_do for name in run.prepared)
    return [
        f"Prepared once before {needed[name]} of them: {made.label}, cost {told(made.seconds)} "
        "of one core, less where the cache has it"
        for name, made in found.items()
        if not grid.prepared_file(name).exists()
    ]


def slow_here(runs: list[grid.Run]) -> list[str]:
    """What to know before runs that this processor is slow at, a line a paper."""
    return [
        f"{count} runs of {paper} multiply in {numbers}, for which this processor has no "
        f"instructions: here they take {times:g} times as long as expected or longer"
        for paper, (count, numbers, times) in grid.slow_here(runs).items()
    ]


def verdicts_of(papers: set[str]) -> dict[tuple[str, str], str]:
    """What is known today of each published number, by paper and cell."""
    from fer_utils.comparison import compare

    return {
        (paper, found.cell.id): f"{found.cell.printed}, now {found.verdict}"
        for paper in papers
        for found in compare(paper)
        if found.verdict
    }


def purpose(run: grid.Run, verdicts: dict[tuple[str, str], str]) -> str:
    """The first number that a run is for, and how many more."""
    cells = [verdicts[run.paper, cell] for cell in run.cells if (run.paper, cell) in verdicts]
    if run.why == grid.FOR_WEIGHTS:  # what it is recorded for stays as it is
        return "nothing by itself"
    first = run.answers[0] + (f" ({cells[0]})" if cells else "")
    more = len(run.answers) - 1
    return first + (f" and {more} more" if more else "")


def told(seconds: float | None) -> str:
    """A time in minutes or hours, for people."""
    if seconds is None:
        return "not known"
    if seconds < 3600:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    end_as_by_ctrl_c()
    try:
        with for_a_reader():
            main()
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; the same command goes on from the last whole epochs.")
