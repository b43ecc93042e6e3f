"""Tables and sentences of a chapter, that read the same in the book and in JupyterLab.

cells      what every table is made of
images     data sets, and what is done to them before training
measured   copies and detectors, as measured on the real images
models     networks
trained    recorded runs
papers     what papers printed, beside our runs
sentences  what a chapter says of its own numbers
"""

from fer_utils.display.cells import NO_RUN, badge, interval, note, table
from fer_utils.display.images import (
    balanced,
    data_card,
    dropped,
    not_found,
    shared_with_train,
)
from fer_utils.display.measured import detectors, where_both_find, without_copies
from fer_utils.display.models import model_sizes, networks, sizes
from fer_utils.display.papers import (
    above_one_half,
    changes,
    costs,
    expressions,
    findings,
    flat,
    headlines,
    learning_rates,
    open_details,
    overview,
    side_by_side,
    verdicts,
)
from fer_utils.display.sentences import beside, compute, discussion, judged, kept_apart, repeated
from fer_utils.display.trained import (
    PARTS,
    RULES,
    by_rule,
    contradicted,
    devices,
    epochs_and_parts,
    fusions_with_members,
    paired,
    parts_and_figures,
    rules,
    runs,
    scores,
    validation_by,
)

__all__ = [
    "NO_RUN",
    "PARTS",
    "RULES",
    "above_one_half",
    "badge",
    "balanced",
    "beside",
    "by_rule",
    "changes",
    "compute",
    "contradicted",
    "costs",
    "data_card",
    "detectors",
    "devices",
    "discussion",
    "dropped",
    "epochs_and_parts",
    "expressions",
    "findings",
    "flat",
    "fusions_with_members",
    "headlines",
    "interval",
    "judged",
    "kept_apart",
    "learning_rates",
    "model_sizes",
    "networks",
    "not_found",
    "note",
    "open_details",
    "overview",
    "paired",
    "parts_and_figures",
    "repeated",
    "rules",
    "runs",
    "scores",
    "shared_with_train",
    "side_by_side",
    "sizes",
    "table",
    "validation_by",
    "verdicts",
    "where_both_find",
    "without_copies",
]
