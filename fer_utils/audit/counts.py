"""Printed numbers of images against official ones, and sums against their parts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from fer_utils.audit.cells import find_cell, half_unit, number_of, together
from fer_utils.audit.findings import Finding, Outcome, Passed, either, joined
from fer_utils.manifests import (
    AtMost,
    OfficialCounts,
    PublishedPaper,
    Total,
    load_manifest,
)


def official_counts(paper: PublishedPaper, claim: OfficialCounts) -> Outcome:
    """Printed numbers of images against those of the official parts, taken together."""
    manifest = load_manifest(claim.dataset)
    named = {**claim.counts, **({"images": claim.images} if claim.images is not None else {})}
    printed = {name: number_of(paper, value) for name, value in named.items()}
    official = together(claim.dataset, claim.splits)
    wrong = [name for name, count in printed.items() if count != official[name]]
    if not wrong:
        return Passed(paper.paper, "counts", (claim.id,))
    listed = [
        f"{name}: {printed[name]:,.0f} printed, {official[name]:,} official" for name in wrong
    ]
    told = f"{len(printed) - len(wrong)} of {len(printed)} are."
    others = [
        joined([manifest.splits[split].source or split for split in splits], "and")
        for splits in _subsets(tuple(manifest.splits))
        if all(printed[name] == together(claim.dataset, splits)[name] for name in printed)
    ]
    if others:
        told += f" All {len(printed)} are the counts of {either(others)}."
    slips = [
        name
        for name in wrong
        if name in claim.counts and _one_digit_apart(printed[name], official[name])
    ]
    if slips:
        told += f" One digit differs: {joined(slips)}."
    means = "Images were added, left out or labelled otherwise, or a number is misprinted."
    if others:
        means = "The counts are of other parts than the text says."
    elif slips == wrong:
        means = "Probably a misprint."
    return Finding(
        paper=paper.paper,
        kind="counts",
        cells=(claim.id, *claim.cells),
        claim=claim.says,
        test=f"Are they the official counts of {manifest.title}, {joined(claim.splits)}?",
        result=told,
        details=tuple(listed),
        confidence="certain",
        means=claim.means or means,
        does_not_mean="That the experiments used other images than they should have.",
    )


def _subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    return [chosen for size in range(1, len(names) + 1) for chosen in combinations(names, size)]


def _one_digit_apart(first: float, second: float) -> bool:
    a, b = f"{first:.0f}", f"{second:.0f}"
    return len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) == 1


def total(paper: PublishedPaper, claim: Total) -> Outcome:
    """Whether parts add up to their total; shares within what rounding every cell allows."""
    parts = [find_cell(paper, part) for part in claim.parts]
    found, expected = sum(part.value for part in parts), number_of(paper, claim.total)
    # A total that is no cell, such as 100 %, is not rounded.
    cells = [*parts, *([find_cell(paper, claim.total)] if isinstance(claim.total, str) else [])]
    slack = sum(half_unit(cell.printed) for cell in cells if cell.unit in ("percent", "fraction"))
    if abs(found - expected) <= slack + 1e-9:
        return Passed(paper.paper, "counts", (claim.id,))
    return Finding(
        paper=paper.paper,
        kind="counts",
        cells=(claim.id, *claim.parts),
        claim=claim.says,
        test=f"Do the {len(parts)} parts add up to {expected:,.12g}?",
        result=f"They add up to {found:,.12g}: a difference of {found - expected:+,.12g}.",
        confidence="certain",
        means=claim.means
        or "A part or the total is misprinted, or something was left out or counted twice.",
        does_not_mean="Which of the numbers is the wrong one.",
    )


def at_most(paper: PublishedPaper, claim: AtMost) -> Outcome:
    """Whether a part is no larger than its whole."""
    smaller, larger = number_of(paper, claim.smaller), number_of(paper, claim.larger)
    if smaller <= larger:
        return Passed(paper.paper, "counts", (claim.id,))
    return Finding(
        paper=paper.paper,
        kind="counts",
        cells=(claim.id, *claim.cells),
        claim=claim.says,
        test="Is the part at most as large as the whole?",
        result=f"{smaller:,.12g} are said to be some of {larger:,.12g}.",
        confidence="certain",
        means=claim.means or "The two count different things, or one is misprinted.",
        does_not_mean="That the experiments used more images than there are.",
    )
