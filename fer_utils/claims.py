"""Whether what a paper says of its own numbers holds: on our runs, or by arithmetic.

A claim is an entry of `claims` in data_manifests/published. One of a kind in `_on_runs` is judged
on our runs; any other, on the printed numbers alone, by the audit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from scipy import stats

from fer_utils import audit, comparison, differences
from fer_utils.comparison import Comparison, Verdict
from fer_utils.differences import Difference
from fer_utils.estimates import (
    LEVEL,
    Estimate,
    errors_expected,
    errors_taken_for,
    estimate,
)
from fer_utils.manifests import (
    AllAbove,
    Balance,
    Because,
    BetterRecognised,
    Claim,
    Confused,
    Highest,
    Improvement,
    LaterEpochs,
    PublishedPaper,
    Recognised,
    load_manifest,
)
from fer_utils.records import RESULTS, RunRecord

Printed = Literal["fits", "does not fit", "cannot tell"]
STALE = "The code or the data of a run have changed since; run it again."
ENOUGH_ERRORS = 5  # to expect, for fewer of them to mean anything
BY_CLAIM = ("counts", "improvement", "text and tables")  # the audit's checks that a claim asks for


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


@dataclass(frozen=True)
class Known:
    """Our runs, by name, and the folder with what they predicted."""

    runs: Mapping[str, RunRecord]
    folder: Path

    def of(self, found: Estimate | None) -> list[RunRecord]:
        """Those behind an estimate; none where one of them is not known."""
        names = found.runs if found else ()
        return [self.runs[name] for name in names] if self.runs.keys() >= set(names) else []


def judge(
    paper: PublishedPaper,
    compared: Sequence[Comparison],
    recorded: Sequence[RunRecord] = (),
    folder: Path = RESULTS,
) -> list[Judged]:
    """Every claim of a paper, those that our runs can tell of first.

    Args:
        paper: as published.
        compared: all of its cells.
        recorded: its records; without them no difference is of the same images, and claims that
            read runs themselves are not attempted.
        folder: where the records' probabilities are.

    Raises:
        RecordError: probabilities are not beside their record.
    """
    cells = {found.cell.id: found for found in compared}
    known = Known({run.run: run for run in recorded}, folder)
    checked = audit.outcomes(paper)
    judged = []
    for claim in paper.claims:
        outcome, sentence = _as_printed(claim, checked)
        if ours := _on_runs(claim, cells, known):
            untold = ours[0] in ("not comparable", "not attempted", "stale")
            if untold and outcome == "does not fit":
                sentence = f"{sentence} {ours[1]}"
            else:
                as_printed = _silent(claim) or outcome == "fits"
                sentence = ours[1] + ("" if as_printed else f" As printed: {sentence}")
                outcome = ours[0]
        behind = tuple(cells[name] for name in claim.cells)
        judged.append(Judged(claim, outcome, sentence, behind))
    return sorted(judged, key=lambda found: not found.on_runs)


# ---- on our runs ------------------------------------------------------------------------------


def _on_runs(
    claim: Claim, cells: Mapping[str, Comparison], known: Known
) -> tuple[Verdict, str] | None:
    """The verdict on a claim that runs can tell of, and why; None for any other claim."""
    own = [cells[name] for name in claim.cells if cells[name].verdict]
    match claim:
        case Improvement():
            others = [cells[name] for name in (claim.base, *claim.others)]
            return _above(cells[claim.better], others, known)
        case Highest():
            return _above(cells[claim.best], [cells[name] for name in claim.others], known)
        case Recognised():
            return _untold(own) or _recognised(cells[claim.number], cells[claim.rate])
        case AllAbove() if own:
            return _untold(own) or _all_above(own, claim.number)
        case BetterRecognised():
            return _untold(own) or _by_protocol(own[0], known, partial(_recalls, claim))
        case Confused():
            return _untold(own) or _by_protocol(own[0], known, partial(_confusions, claim))
        case LaterEpochs():
            return _untold(own) or _by_protocol(own[0], known, partial(_curves, claim))
        case Balance():
            return _untold(own) or _balance(claim, own[0], known)
        case Because():
            return _untold(own) or _because(claim, *own, known)
    return None


def _untold(tested: Sequence[Comparison]) -> tuple[Verdict, str] | None:
    """Why our runs do not tell of some results; None where they do."""
    for found in tested:
        if found.verdict == "not comparable":
            return "not comparable", f"{place(found)}: {found.reason}."
    if missing := [place(found) for found in tested if found.ours is None]:
        listed = "; ".join(missing)
        if len(missing) > 3:
            some = "any" if len(missing) == len(tested) else len(missing)
            listed = f"{some} of the {len(tested)} results"
        return "not attempted", f"No full run is recorded of {listed}."
    if any(found.ours.stale for found in tested):
        return "stale", STALE
    return None


def _above(
    best: Comparison, others: Sequence[Comparison], known: Known
) -> tuple[Verdict, str] | None:
    """Whether one of our results is above others, ours where they have a verdict, else printed."""
    if best.verdict is None:
        return None

    def minus(after: Estimate, before: Estimate | None, other: Comparison) -> _Minus:
        whose = f'ours in "{other.cell.row}"' if before else f'the printed "{other.cell.row}"'
        value = other.cell.value
        before = before or Estimate(value, value, value, (value,), 0)
        return _minus(before, after, (best, other), whose, known)

    def beside(differs: str, others: Sequence[Comparison]) -> str:
        """What other runs of ours tell, which differ in one field alone; not judged."""
        told = ""
        for label, fields in best.cell.also.items():
            after = best.also.get(label)
            if _differ(best, fields) != {differs} or not _known(after):
                continue
            there = [
                other for other in others if not other.verdict or _known(other.also.get(label))
            ]
            # Where one run stands for both, such as before a schedule's first step, none tells.
            if any(
                other.also.get(label) and other.also[label].runs == after.runs for other in there
            ):
                continue
            found = [minus(after, other.also.get(label), other) for other in there]
            told += f" {_capital(label)}, minus {_outcome(found)[1]}" if found else ""
        return told

    ours = [found for found in others if found.verdict]
    if untold := _untold([best, *ours]):
        verdict, told = untold
        return verdict, told + (beside("epochs", ours) if verdict == "not attempted" else "")
    verdict, told = _outcome([minus(best.ours, other.ours, other) for other in others])
    return verdict, f'Ours in "{best.cell.row}" minus {told}' + beside("protocol", others)


def _known(found: Estimate | None) -> bool:
    return found is not None and not found.stale


@dataclass(frozen=True)
class _Minus:
    """A result of ours less another, in points; what was taken from it, and how, in words."""

    points: Difference
    what: str
    how: str = ""


def _minus(
    before: Estimate,
    after: Estimate,
    results: Sequence[Comparison],
    what: str,
    known: Known,
    stored: bool = True,
) -> _Minus:
    """One number less another, on the same test images where both were tested on them.

    Args:
        before, after: each in the unit of its result.
        results: whose numbers they are: of `after`, and of `before` where it is another's.
        what: was taken, in words.
        stored: whether the runs' stored predictions are those that both numbers are of.
    """
    of_means = differences.of_estimates(_percent(before, results[-1]), _percent(after, results[0]))
    stored = stored and all(map(_top1, results))
    pairs = _pairs(known.of(before), known.of(after)) if stored else None
    if not pairs:
        return _Minus(of_means, what)
    seeds = len({run.seed for run in pairs[0]})
    how = f"same test images, {seeds} seed{'' if seeds == 1 else 's'}"
    if max(before.seeds, after.seeds) > seeds:
        how += f"; of all seeds that each has, {of_means.mean:+.2f}"
    return _Minus(differences.of_runs(*pairs, known.folder), what, how)


def _outcome(found: Sequence[_Minus], among: int = 0) -> tuple[Verdict, str]:
    """Whether all differences are above zero, and the one that tells so.

    Args:
        found: of the same result.
        among: how many there were to begin with; as many as are left unless told.

    One below zero is enough for a claim not to be reproduced, but among several one may be by
    chance: each then has its share of the 5 % (Bonferroni).
    """
    among = among or len(found)
    below = [one for one in found if one.points.high < 0]
    if below:
        nearest = min(below, key=lambda one: _upper(one.points, among))
        surely = _upper(nearest.points, among) < 0
        verdict = "not reproduced" if surely else "inconclusive"
        ending = "below it." if surely else f"below it, {_by_chance(among)}."
    else:
        nearest = min(found, key=lambda one: one.points.low)
        above = nearest.points.low > 0
        verdict = "reproduced" if above else "inconclusive"
        ending = "above it." if above else "the runs do not tell which is higher."
    of = f", the nearest of {among}" if among > 1 else ""
    how = f" ({nearest.how})" if nearest.how else ""
    return verdict, f"{nearest.what}{of}{how}: {_points(nearest.points)}; {ending}"


def _by_chance(among: int) -> str:
    return f"which among {among} may be chance"


def _upper(found: Difference | Estimate, among: int) -> float:
    """The upper end of an interval that has its share of the error of several."""
    quantile = stats.t.ppf(1 - (1 - LEVEL) / 2 / among, found.df)
    return found.mean + float(quantile) * found.standard_error


def _points(found: Difference) -> str:
    return f"{found.mean:+.2f} points, {found.low:+.2f} to {found.high:+.2f}"


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _percent(found: Estimate, result: Comparison) -> Estimate:
    """An estimate in percent that is in the unit of a result."""
    if result.cell.unit != "fraction":
        return found
    ends = ("mean", "low", "high", "standard_error")
    return replace(
        found,
        **{end: 100 * getattr(found, end) for end in ends},
        values=tuple(100 * value for value in found.values),
        drawn=found.drawn.times(100),
    )


def _top1(found: Comparison) -> bool:
    """Whether the stored predictions of the test part give the number."""
    return (found.cell.metric, found.cell.part) == ("accuracy", "test")


def _differ(found: Comparison, fields: Mapping) -> set[str]:
    """In what these runs differ from a cell's own."""
    select = found.cell.select
    return {key for key in {*select, *fields} if select.get(key) != fields.get(key)}


def _pairs(
    before: Sequence[RunRecord], after: Sequence[RunRecord]
) -> tuple[list[RunRecord], list[RunRecord]] | None:
    """The runs of two ways to train that were tested on the same images; None without any."""
    if not all(run.probabilities for run in (*before, *after)):
        return None
    first, second = differences.comparable(before, after)
    return (first, second) if first and _images(first) == _images(second) else None


def _images(runs: Sequence[RunRecord]) -> set[tuple]:
    """What tells whether runs were tested on the same images."""
    return {(run.seed, run.parameters.get("fold"), run.split.sha256) for run in runs}


def _all_above(tested: Sequence[Comparison], number: float) -> tuple[Verdict, str]:
    def scale(found: Comparison) -> float:
        return 100 if found.cell.unit == "fraction" else 1

    def percent(found: Comparison, end: str) -> float:
        return scale(found) * getattr(found.ours, end)

    def upper(found: Comparison) -> float:
        return scale(found) * _upper(found.ours, len(tested))

    # One that lies below decides whatever the others say, so it is the one to tell of.
    below = any(percent(found, "high") < number for found in tested)
    lowest = min(tested, key=upper if below else partial(percent, end="low"))
    ends = " to ".join(f"{percent(lowest, end):.2f}" for end in ("low", "high"))
    told = f"The lowest of ours is {lowest.cell.row}: {percent(lowest, 'mean'):.2f} %, {ends}"
    if below and upper(lowest) >= number:
        return "inconclusive", f"{told}; below {number:g} %, {_by_chance(len(tested))}."
    if below:
        return "not reproduced", f"{told}; below {number:g} %."
    if percent(lowest, "low") > number:
        return "reproduced", f"{told}; above {number:g} %."
    return "inconclusive", f"{told}; the runs do not tell whether it is above {number:g} %."


def _recognised(number: Comparison, rate: Comparison) -> tuple[Verdict, str]:
    """The number of the text against our rate, within the margin of the printed one."""
    classes = len(load_manifest(rate.cell.dataset).class_names)
    said = rate.cell.model_copy(update={"value": 100 * number.cell.value / classes})
    verdict, _ = comparison.judge(said, rate.ours)
    mean, low, high = (classes * getattr(rate.ours, end) / 100 for end in ("mean", "low", "high"))
    return verdict, (
        f"Ours: {mean:.1f} of {classes}, {low:.1f} to {high:.1f}; the margin of the printed rate "
        f"is {classes * rate.cell.margin / 100:.0f} expression."
    )


def _by_protocol(
    result: Comparison,
    known: Known,
    judged: Callable[[Sequence[RunRecord]], tuple[Verdict, str]],
) -> tuple[Verdict, str]:
    """The verdict on the runs of a result; what those of other protocols give is told alone."""
    verdict, sentence = judged(known.of(result.ours))
    for label, fields in result.cell.also.items():
        if _differ(result, fields) == {"protocol"} and _known(result.also.get(label)):
            told = judged(known.of(result.also[label]))[1]
            sentence += f" {_capital(label)}: {told[0].lower()}{told[1:]}"
    return verdict, sentence


def _recalls(claim: BetterRecognised, runs: Sequence[RunRecord]) -> tuple[Verdict, str]:
    """Whether some expressions are recognised better than others."""
    if not runs:
        return "not attempted", "The runs are not at hand."
    recall = {
        expression: estimate(runs, "recall", "percent", expression=expression)
        for expression in (*claim.better, *claim.worse)
    }
    if unseen := [expression for expression, ours in recall.items() if ours is None]:
        return "inconclusive", f"No test image of ours shows {unseen[0]}."
    found = [
        _Minus(differences.of_estimates(recall[worse], recall[better]), f"{better} minus {worse}")
        for better in claim.better
        for worse in claim.worse
    ]
    lowest = min(recall, key=lambda expression: recall[expression].mean)
    verdict, told = _outcome(found)
    return verdict, (
        f"The lowest recall of ours is that of {lowest}, {recall[lowest].mean:.1f} %. "
        f"{_capital(told)}"
    )


def _confusions(claim: Confused, runs: Sequence[RunRecord]) -> tuple[Verdict, str]:
    """Whether expressions are taken for those named more often than the other expressions are.

    A network that hardly ever predicts an expression takes hardly anything for it, so it is the
    errors on the other expressions that tell what to expect.
    """
    if not runs:
        return "not attempted", "The runs are not at hand."
    found, told, enough = [], [], []
    for expression, others in claim.taken_for.items():
        listed = " or ".join(others)
        share = errors_taken_for(runs, expression, others)
        if share is None:
            return "inconclusive", f"No run of ours mistakes an image of {expression}."
        expected = errors_expected(runs, expression, others)
        if expected is None:
            return "inconclusive", f"No run of ours mistakes an image of anything but {expression}."
        points = differences.of_estimates(expected, share)
        ends = {
            "low": max(points.low, 0.0 - expected.mean),
            "high": min(points.high, 100 - expected.mean),
        }
        points = replace(points, **ends)  # a share of few errors reaches to both ends
        enough.append(share.n_test * expected.mean / 100 >= ENOUGH_ERRORS)
        found.append(_Minus(points, f"{expression} for {listed}, minus {expected.mean:.1f} %"))
        told.append(f"{share.mean:.1f} % of our errors on {expression} are taken for {listed}")
    verdict, nearest = _outcome(found)
    rest = [one for one, many in zip(found, enough, strict=True) if many]
    if verdict == "not reproduced" and len(rest) < len(found):
        few = f"But fewer than {ENOUGH_ERRORS} such errors are to be expected, too few to tell."
        of_rest, words = _outcome(rest, len(found)) if rest else ("inconclusive", "")
        if of_rest == verdict:
            nearest = words
        else:
            verdict, nearest = "inconclusive", f"{nearest} {few}"
    return verdict, f"{'; '.join(told)}. {_capital(nearest)}"


def _curves(claim: LaterEpochs, runs: Sequence[RunRecord]) -> tuple[Verdict, str]:
    """Whether later epochs differ from earlier ones as told, in each run by itself."""
    if not runs:
        return "not attempted", "The runs are not at hand."
    (start, end), (first, last) = claim.earlier, claim.later
    if any(len(run.history[claim.curve]) < last for run in runs):
        return "not comparable", f"A run of ours ended before epoch {last}."
    points = "accuracy" in claim.curve
    unit, form = (" points", "+.2f") if points else ("", "+.4f")
    figure = np.mean if claim.of == "mean" else np.std

    def moved(run: RunRecord) -> float:
        curve = np.multiply(run.history[claim.curve], 100 if points else 1)
        return float(figure(curve[first - 1 : last]) - figure(curve[start - 1 : end]))

    curve = claim.curve.replace("val_", "validation ")
    what = (
        f"{_capital(claim.of)} of the {curve} over epochs {first} to {last} minus that over "
        f"epochs {start} to {end}"
    )
    each = [moved(run) for run in runs]
    if len(each) == 1:
        return "inconclusive", f"{what}: {each[0]:{form}}{unit} in one run, so without an interval."
    found = differences.of_values(each)
    told = f"{found.mean:{form}}{unit}, {found.low:{form}} to {found.high:{form}}"
    as_said = [end if claim.moves == "up" else -end for end in (found.low, found.high)]
    verdict = "inconclusive"
    if min(as_said) > 0:
        verdict = "reproduced"
    elif max(as_said) < 0:
        verdict = "not reproduced"
    return verdict, f"{what}, {len(each)} runs: {told}."


def _balance(claim: Balance, result: Comparison, known: Known) -> tuple[Verdict, str]:
    """Whether a network computes less than another and loses no more than the margin."""
    other = result.also.get(claim.against)
    runs, twins = known.of(result.ours), known.of(other)
    if not runs or not twins:
        return "not attempted", f"No run is recorded {claim.against}."
    if other.stale:
        return "stale", STALE
    ours, theirs = runs[0].model, twins[0].model
    products = theirs.multiply_accumulates / ours.multiply_accumulates
    weights = theirs.parameters / ours.parameters
    points = _minus(other, result.ours, (result,), claim.against, known).points
    margin = (100 if result.cell.unit == "fraction" else 1) * result.cell.margin
    told = (
        f"{_capital(claim.against)} the same network has {weights:.1f} times "
        f"the parameters and {products:.1f} times the multiply-accumulates; ours minus it: "
        f"{_points(points)}. The paper does not say how much accuracy it would give up; the margin "
        f"of the printed number, {margin:g} points, stands for that"
    )
    also = f" {claim.means}" if claim.means else ""
    if products <= 1 or points.high < -margin:
        return "not reproduced", f"{told}: not kept.{also}"
    if points.low >= -margin:
        return "reproduced", f"{told}: kept.{also}"
    return "inconclusive", f"{told}: the runs do not tell whether it is kept.{also}"


def _because(
    claim: Because, result: Comparison, than: Comparison, known: Known
) -> tuple[Verdict, str]:
    """Whether a result is above another, and no longer is without a part of the recipe.

    A label that begins as the claim's tells more: another protocol is not judged, but another
    reading of the runs without the part that comes to another verdict leaves none.
    """
    theirs = f'ours in "{place(than)}"'
    wholes = {result.cell.select.get("protocol"): result.ours}
    for label, fields in result.cell.also.items():
        if _differ(result, fields) == {"protocol"} and _known(result.also.get(label)):
            wholes[fields["protocol"]] = result.also[label]

    def judged(label: str) -> tuple[Verdict, str]:
        """By what the part adds, and by what is left without it beside the other result."""
        without, fields = result.also[label], result.cell.also[label]
        whole = wholes[fields.get("protocol")]
        stored = "part" not in fields
        left = _minus(than.ours, without, (result, than), theirs, known, stored).points
        added = _minus(without, whole, (result,), label, known, stored)
        verdict: Verdict = "inconclusive"
        if min(above.high, added.points.high) < 0 or left.low > 0:
            verdict = "not reproduced"
        elif min(above.low, added.points.low) > 0 > left.high:
            verdict = "reproduced"
        return verdict, (
            f"Ours minus ours {_outcome([added])[1]} Without it, minus the same: {_points(left)}."
        )

    if not _known(result.also.get(claim.against)):
        return "not attempted", f"No run is recorded {claim.against}."
    above = _minus(than.ours, result.ours, (result, than), theirs, known).points
    verdict, sentence = judged(claim.against)
    sentence = f"Our result, minus {theirs}: {_points(above)}. {sentence}"
    for label, fields in result.cell.also.items():
        more = label.startswith(f"{claim.against}, ") and _known(result.also.get(label))
        if more and fields.get("protocol") in wholes:
            otherwise, told = judged(label)
            sentence += f" {told}"
            if fields.get("protocol") == result.cell.select.get("protocol"):
                verdict = verdict if verdict == otherwise else "inconclusive"
    return verdict, f"{sentence} {claim.means}" if claim.means else sentence


# ---- by arithmetic ----------------------------------------------------------------------------


def _as_printed(claim: Claim, checked: Sequence[audit.Outcome]) -> tuple[Printed, str]:
    """Whether the printed numbers fit a claim, and the audit's words for it."""
    told: dict[Printed, list[str]] = {"does not fit": [], "cannot tell": [], "fits": []}
    for outcome in checked:
        if outcome.kind not in BY_CLAIM or not _is_about(outcome, claim):
            continue
        if isinstance(outcome, audit.Passed):
            told["cannot tell" if outcome.vacuous else "fits"].append("")
        elif outcome.claim == claim.says or claim.id not in outcome.cells:
            sure = outcome.confidence in ("certain", "likely")
            told["does not fit" if sure else "cannot tell"].append(
                f"{outcome.test} {outcome.result} {outcome.means} How sure: {outcome.confidence}."
            )
        else:  # one finding on several claims, with a line for each that it is about
            lines = [line for line in outcome.details if line.startswith(f"{claim.says}: ")]
            for line in lines:
                printed = line.removeprefix(f"{claim.says}: ")
                told["cannot tell"].append(f"{printed}: cannot be told from chance.")
            if not lines:
                told["fits"].append("")
    outcome = next((word for word, found in told.items() if found), "cannot tell")
    words = {"fits": "The printed numbers fit it.", "cannot tell": "Nothing printed tells."}
    return outcome, " ".join(filter(None, told[outcome])) or words[outcome]


def _is_about(outcome: audit.Outcome, claim: Claim) -> bool:
    """Whether a check is of a claim, or of both numbers that a claim says are one."""
    if isinstance(claim, Recognised):
        return {claim.number, claim.rate} <= set(outcome.cells)
    return claim.id in outcome.cells


def _silent(claim: Claim) -> bool:
    """Whether no printed number can tell of a claim, so that nothing is to be said of them."""
    return isinstance(claim, BetterRecognised | Confused | LaterEpochs | Balance | Because)


def place(found: Comparison) -> str:
    """Where a cell stands in its paper."""
    return f"{found.table}: {found.cell.row}, {found.cell.column}"
