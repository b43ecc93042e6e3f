"""What printed numbers can and cannot be: arithmetic on published tables, without any data.

A share of n images is k/n for a whole k; the accuracies of the expressions, weighted by their
images, make the overall accuracy; recall and precision leave an accuracy little room. What does not
fit becomes a `Finding`: what was claimed, what was tested, what came out, how sure that is, what it
means and what it does not mean. A finding is about numbers, not about people; most have an innocent
explanation, and it is named.

NumPy and the project's manifests are all it needs.

    sizes       which numbers of test images allow the accuracies
    counts      images against official counts, sums against parts
    by_class    recalls of the expressions against the accuracy
    rows        accuracy, recall and precision of one row
    matrices    confusion matrices
    gains       claimed improvements
    text        the text against the tables
"""

from __future__ import annotations

from collections.abc import Sequence

from fer_utils.audit.by_class import Column, accuracy_by_class, columns, share_of_draws
from fer_utils.audit.cells import candidate_parts, figure
from fer_utils.audit.counts import at_most, official_counts, total
from fer_utils.audit.findings import Finding, Kind, Outcome, Passed
from fer_utils.audit.gains import improvements
from fer_utils.audit.matrices import confusion
from fer_utils.audit.rows import accuracy_recall_precision, trios
from fer_utils.audit.sizes import granularity, known_sizes
from fer_utils.audit.text import all_above, classes_right, highest, same_number, same_result
from fer_utils.manifests import (
    AllAbove,
    AtMost,
    Highest,
    OfficialCounts,
    PublishedPaper,
    SameNumber,
    Total,
)

_BY_CLAIM = {
    OfficialCounts: official_counts,
    Total: total,
    AtMost: at_most,
    SameNumber: same_number,
    Highest: highest,
    AllAbove: all_above,
}


def outcomes(paper: PublishedPaper) -> list[Outcome]:
    """Every check of a paper, those that raised nothing included."""
    return [
        *granularity(paper),
        *accuracy_by_class(paper),
        *accuracy_recall_precision(paper),
        *(confusion(paper, matrix) for matrix in paper.matrices),
        *(_BY_CLAIM[type(c)](paper, c) for c in paper.claims if type(c) in _BY_CLAIM),
        *improvements(paper),
        *same_result(paper),
        *classes_right(paper),
    ]


def audit(paper: PublishedPaper) -> list[Finding]:
    """What the printed numbers of a paper show and the paper does not say.

    Args:
        paper: its published tables, see `manifests.load_published`.

    Returns:
        One `Finding` for each check that raised something; none for a paper whose numbers fit.
    """
    return [found for found in outcomes(paper) if isinstance(found, Finding)]


def tally(found: Sequence[Outcome]) -> dict[Kind, dict[str, int]]:
    """How many checks of each kind were consistent, could not tell, or raised a finding."""
    counts: dict[Kind, dict[str, int]] = {}
    for outcome in found:
        row = counts.setdefault(outcome.kind, {"consistent": 0, "cannot tell": 0, "findings": 0})
        if isinstance(outcome, Finding):
            row["findings"] += 1
        else:
            row["cannot tell" if outcome.vacuous else "consistent"] += 1
    return counts
