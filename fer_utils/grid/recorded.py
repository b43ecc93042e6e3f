"""Which runs are recorded already, and what the others are expected to cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from fer_utils import records
from fer_utils.grid.asked import has
from fer_utils.grid.chapters import read_chapter
from fer_utils.grid.inputs import checked_data, data_key, no_data, other_versions, versions
from fer_utils.grid.needs import fits
from fer_utils.grid.runs import NO_RECORD, Run, done_file
from fer_utils.manifests import Speed, load_manifest, load_published
from fer_utils.summary import Recorded


class Records:
    """The records, by what a run is looked up with.

    Args:
        recorded: runs of any papers.
    """

    def __init__(self, recorded: Sequence[Recorded]) -> None:
        self.every = recorded
        self.by_key: dict[tuple, list[Recorded]] = {}
        by_paper: dict[str, list[Recorded]] = {}
        for found in recorded:
            key = _key(found.paper, found.parameters)
            self.by_key.setdefault(key, []).append(found)
            by_paper.setdefault(found.paper, []).append(found)
        self.stale, self.of_other_code = (
            {name for runs in by_paper.values() for name in records.stale(runs, data)}
            for data in (True, False)
        )

    def told(self, run: Run) -> Run:
        """A run with its state, why, and what it is expected to cost."""
        run = replace(run, seconds=self._seconds(run))
        matching = [
            found
            for found in self.by_key.get(_key(run.paper, run.fields), [])
            if found.profile in run.profiles
            # These answer only who asks for them.
            and has(found.parameters, records.APART | run.fields)
        ]
        reasons = [self._reason(run, found) for found in matching]
        if "" in reasons:
            current = [found for found, why in zip(matching, reasons, strict=True) if not why]
            last = max(current, key=lambda found: found.created)
            return replace(run, state="recorded", why=last.run)
        if done_file(run).exists() and not self._lost(run):
            return replace(run, state="done", why="run here; its record is in build/grid")
        if run.dataset != "synthetic" and data_key(run.dataset) is None:
            return replace(run, state="absent", why=no_data(run.dataset))
        return replace(run, state="to run", why=reasons[-1] if reasons else NO_RECORD)

    def _lost(self, run: Run) -> bool:
        """Whether a run was made here and its record is gone since."""
        try:
            made = json.loads(done_file(run).read_text()).get("run")
        except ValueError:  # nothing that the workflow left
            return True
        return all(found.run != made for found in self.every)

    def _reason(self, run: Run, found: Recorded) -> str:
        """Why a record is not the run's any more; empty where it is."""
        checked = checked_data(run.dataset)
        # What is here counts, also where it is not what the manifest knows.
        if found.run in (self.of_other_code if checked.exists() else self.stale):
            return "its code or data have changed"
        if checked.exists() and _other_data(json.loads(checked.read_text()), found):
            return "its data have changed"
        framework = read_chapter(run.paper).framework
        return other_versions(found.device, found.versions, versions(framework), framework)

    def _seconds(self, run: Run) -> float | None:
        """Seconds of the records that are most alike, the middle one of them, in proportion to
        epochs, training images and the speeds that the paper's published file names for both.
        """
        complete = {**read_chapter(run.paper).parameters, **run.fields}
        speed = _speed(run.paper, complete)
        if speed and speed.seconds:
            return speed.seconds
        rate = speed and speed.images_per_second
        images = _training_images(run.fields)
        alike = [
            found
            for found in self.every
            if found.paper == run.paper
            and found.timings.get("training")
            and _seen(found)
            # What is expected is said of one core; a run of several devices names no threads.
            and found.device.get("kind") == "cpu"
            and found.device.get("threads") == 1
        ]
        if alike:

            def likeness(found: Recorded) -> tuple:
                shared = sum(
                    found.parameters.get(key) == told
                    for key, told in complete.items()
                    if key not in records.VARYING  # no seed takes longer than another
                )
                return found.data.name == run.dataset, shared

            def expected(best: Recorded) -> float:
                seen = _seen(best)
                to_see = seen if best.data.name == run.dataset else images or seen
                epochs = run.fields.get("epochs") or best.epochs
                per_image = best.timings["training"] / best.epochs / seen
                its_speed = _speed(run.paper, best.parameters)
                if rate and its_speed and its_speed.images_per_second:
                    per_image *= its_speed.images_per_second / rate
                return per_image * epochs * to_see + best.timings.get("prediction", 0)

            most = max(map(likeness, alike))
            return median(expected(found) for found in alike if likeness(found) == most)
        if rate and images and complete.get("epochs"):
            return images * complete["epochs"] / rate
        return None


def _other_data(checked: dict, found: Recorded) -> bool:
    """Whether a record's data are none of those that a check found: the same arrays may come from
    other files; where the check has none, files are compared.
    """
    if arrays := checked.get("arrays"):
        return (found.data.loaded or found.data.sha256) not in arrays
    return bool(checked["sources"]) and checked["sources"] != found.data.sources


def _speed(paper: str, fields: dict) -> Speed | None:
    """The first speed of the paper's published file that is about these parameters."""
    return next(
        (rule for rule in load_published(paper).runs.speed if fits(rule.fits, fields)), None
    )


def _key(paper: str, fields: dict) -> tuple:
    return paper, fields.get("dataset"), fields.get("fold"), fields.get("seed")


def _seen(found: Recorded) -> int | None:
    """How many images one epoch of a recorded run saw."""
    return found.split.trained_on or found.split.sizes.get("train")


def _training_images(fields: dict) -> int | None:
    """How many images one epoch sees, by the manifest."""
    splits = load_manifest(fields["dataset"]).splits
    if "train" in splits:
        return splits["train"].count
    whole = splits["all"].count if "all" in splits else None
    return whole and int(0.8 * whole)
