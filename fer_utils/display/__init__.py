"""Tables and sentences of a chapter, that read the same in the book and in JupyterLab.

cells      what every table is made of
figures    the numbered figures of papers, and where ours are
images     data sets, and what is done to them before training
measured   copies and detectors, as measured on the real images
models     networks
trained    recorded runs
papers     what papers printed, beside our runs
costs      what runs took, and what others would
steps      what moves a number
sentences  what a chapter says of its own numbers
"""

from fer_utils.display.cells import NO_RUN, badge, interval, note, table
from fer_utils.display.costs import costs
from fer_utils.display.figures import figures
from fer_utils.display.images import (
    balanced,
    data_card,
    dropped,
    not_found,
    shared_with_train,
)
from fer_utils.display.measured import (
    detectors,
    on_faces,
    ties,
    where_both_find,
    without_copies,
)
from fer_utils.display.models import model_sizes, networks, sizes
from fer_utils.display.papers import (
    above_one_half,
    changes,
    expressions,
    findings,
    headlines,
    improvements,
    introduced,
    learning_rates,
    open_details,
    overview,
    rounded,
    settings,
    side_by_side,
    tally,
    verdicts,
)
from fer_utils.display.sentences import (
    beside,
    compute,
    discussion,
    judged,
    kept_apart,
    on_other_part,
    repeated,
)
from fer_utils.display.steps import moved, points, repeats, spreads
from fer_utils.display.trained import (
    before_first_fall,
    by_rule,
    by_settings,
    contradicted,
    devices,
    epochs_and_parts,
    fusions_with_members,
    outputs_above_one_half,
    paired,
    parts_and_figures,
    reached,
    rules,
    runs,
    scores,
    validation_by,
)
