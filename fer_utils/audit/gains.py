"""Claimed improvements: from the cells, in images, and against chance."""

from __future__ import annotations

from collections.abc import Iterator

from fer_utils.arithmetic import (
    Printed,
    difference_by_chance,
    least_p_on_same_images,
)
from fer_utils.audit.cells import figure, find_cell, half_unit
from fer_utils.audit.findings import Finding, Outcome, Passed
from fer_utils.manifests import (
    Improvement,
    PublishedPaper,
)

LEVEL = 0.05  # a difference that chance alone makes more often than this proves nothing


def improvements(paper: PublishedPaper) -> Iterator[Outcome]:
    """Claimed differences: recomputed from the cells, in images, and against chance."""
    claims = [claim for claim in paper.claims if isinstance(claim, Improvement)]
    for claim in claims:
        if claim.points is not None:
            yield _recomputed(paper, claim)
    falls = []
    for claim in claims:
        better, base = _shares(paper, claim)
        if better.value < base.value:
            falls.append(claim)
            yield _not_above(paper, claim)
    by_size: dict[int, list[Improvement]] = {}
    for claim in claims:
        if claim.n_test and claim not in falls:
            by_size.setdefault(claim.n_test, []).append(claim)
    for n, group in by_size.items():
        yield _against_chance(paper, n, group)


def _shares(paper: PublishedPaper, claim: Improvement) -> tuple[Printed, Printed]:
    """What is said to be better, and what it is better than, as printed."""
    return figure(find_cell(paper, claim.better)), figure(find_cell(paper, claim.base))


def _not_above(paper: PublishedPaper, claim: Improvement) -> Finding:
    better, base = _shares(paper, claim)
    return Finding(
        paper=paper.paper,
        kind="improvement",
        cells=(claim.id, *claim.cells),
        claim=claim.says,
        test="Is the better of the two printed numbers the larger one?",
        result=f"{better} % is printed for it, {base} % for the other.",
        confidence="certain",
        means=claim.means or "One of the two is misprinted, or the claim is of other numbers.",
        does_not_mean="That the better model is not the better one.",
    )


def _recomputed(paper: PublishedPaper, claim: Improvement) -> Outcome:
    better, base = _shares(paper, claim)
    found, points = 100 * (better.value - base.value), find_cell(paper, claim.points)
    # All three may be rounded: the difference may have been taken before the two were.
    slack = half_unit(points.printed) + sum(50 / cell.scale for cell in (better, base))
    if abs(found - points.value) <= slack + 1e-9:
        return Passed(paper.paper, "improvement", (claim.id,))
    return Finding(
        paper=paper.paper,
        kind="improvement",
        cells=(claim.id, *claim.cells),
        claim=claim.says,
        test="Is the improvement the difference of the two cells?",
        result=f"{better} - {base} = {found:.2f} points; {points.printed} is printed.",
        confidence="certain",
        means=claim.means
        or "The difference or one of the two accuracies is misprinted, or it is "
        "relative and not in points.",
        does_not_mean="That there is no improvement.",
    )


def _against_chance(paper: PublishedPaper, n: int, claims: list[Improvement]) -> Outcome:
    ids = tuple(claim.id for claim in claims)
    told, images = [], []
    for claim in claims:
        better, base = _shares(paper, claim)
        right = (round(better.value * n), round(base.value * n))
        p = difference_by_chance(right, n)
        if p > LEVEL:
            images.append(right[0] - right[1])
            told.append(
                f"{claim.says}: {better} against {base} %, {_images(images[-1])}, p = {p:.2f}"
            )
    if not told:
        return Passed(paper.paper, "improvement", ids)
    hopeless = sum(least_p_on_same_images(m) > LEVEL for m in images)
    same = "A paired test on the same images can be sharper, but it needs the predictions."
    if hopeless:
        same += (
            f" For {hopeless} of these it would not help: so few images show nothing even if the "
            "better model is right wherever the other is."
        )
    called = "results are called better than others"
    if len(claims) == 1:
        called = "result is called better than another"
    return Finding(
        paper=paper.paper,
        kind="improvement",
        cells=ids,
        claim=f"{len(claims)} {called}.",
        test=f"How many images is each difference, if both are on {n:,}, and how often would two "
        "equally good models differ as much (Fisher's exact test)?",
        result=f"{len(told)} of {len(claims)} cannot be told from chance at the {100 * LEVEL:g} % "
        f"level. {same}",
        details=tuple(told),
        confidence="certain" if hopeless == len(told) else "likely",
        means="One run each on so many images does not rank these models.",
        does_not_mean="That the better number is not the better model: only that these runs do not "
        "show it.",
    )


def _images(number: int) -> str:
    return f"{number:,} image{'' if abs(number) == 1 else 's'}"
