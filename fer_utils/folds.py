"""How many folds a protocol has: what a plan of runs asks, without the libraries that draw them.

`splits.py` draws the folds with scikit-learn, whose import takes longer than a plan of all runs.
"""

from __future__ import annotations

from fer_utils.manifests import load_manifest

SUBJECT_KFOLD = 5


def number_of_folds(protocol: str | None, dataset: str | None) -> int:
    """How many folds a protocol has on a data set; 1 where it has none.

    Args:
        protocol: of `experiments.load_parts`.
        dataset: a manifest's name.

    Raises:
        ValueError: subjects are left out one by one and the manifest does not count them.
    """
    if protocol == "subject_kfold":
        return SUBJECT_KFOLD
    if protocol == "leave_one_subject_out":
        group = load_manifest(dataset).groups.get("subject")
        if group is None or group.count is None:
            raise ValueError(f"{dataset}: its manifest counts no subjects to leave out")
        return group.count
    return 1
