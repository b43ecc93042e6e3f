"""Which runs are recorded already, and what the others are expected to cost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fer_utils import records
from fer_utils.grid.asked import has
from fer_utils.grid.chapters import read_chapter
from fer_utils.grid.inputs import checked_data, data_key, other_versions, versions
from fer_utils.grid.needs import fits
from fer_utils.grid.runs import Run, done_file
from fer_utils.manifests import Speed, load_manifest, load_published


class Recorded:
    """The records, by what a run is looked up with."""

    def __init__(self, root: Path, results: Path, table: Any) -> None:
        if table is None:
            from fer_utils.summary import summary

            table = summary(results, root / "build" / "summary.jsonl")
        self.root = root
        # pandas has made a number of what is missing, which counts as true.
        self.rows = table.astype(object).where(table.notna(), None).to_dict("records")
        self.stale = _stale(self.rows)
        self.by_key: dict[tuple, list[dict]] = {}
        for row in self.rows:
            self.by_key.setdefault(_key(row["paper"], row["parameters"]), []).append(row)

    def told(self, run: Run) -> Run:
        """A run with its state, why, and what it is expected to cost."""
        run = replace(run, seconds=self._seconds(run))
        matching = [
            row
            for row in self.by_key.get(_key(run.paper, run.fields), [])
            if row["profile"] in run.profiles
            # These answer only who asks for them.
            and has(row["parameters"], records.APART | run.fields)
        ]
        reasons = [self._reason(run, row) for row in matching]
        if "" in reasons:
            current = [row for row, why in zip(matching, reasons, strict=True) if not why]
            found = max(current, key=lambda row: row["created"])["run"]
            return replace(run, state="recorded", why=found)
        if done_file(run, self.root).exists() and not self._lost(run):
            return replace(run, state="done", why="run here; its record is in build/grid")
        if run.dataset != "synthetic" and data_key(run.dataset) is None:
            return replace(run, state="absent", why=f"{run.dataset} is not under FER_DATA")
        return replace(run, state="to run", why=reasons[-1] if reasons else "no record")

    def _lost(self, run: Run) -> bool:
        """Whether a run was made here and its record is gone since."""
        made = json.loads(done_file(run, self.root).read_text()).get("run")
        return all(row["run"] != made for row in self.rows)

    def _reason(self, run: Run, row: dict) -> str:
        """Why a record is not the run's any more; empty where it is."""
        if row["run"] in self.stale:
            return "its code or data have changed"
        checked = checked_data(run.dataset, self.root)
        if checked.exists() and _other_data(json.loads(checked.read_text()), row):
            return "its data have changed"
        framework = read_chapter(run.paper, self.root).framework
        return other_versions(row["device"], row["versions"], versions(framework), framework)

    def _seconds(self, run: Run) -> float | None:
        """Seconds of the record that is most alike, in proportion to epochs, training images and
        the speeds that the paper's published file names for both.
        """
        complete = {**read_chapter(run.paper, self.root).parameters, **run.fields}
        speed = _speed(run.paper, complete)
        if speed and speed.seconds:
            return speed.seconds
        rate = speed and speed.images_per_second
        images = _training_images(run.fields)
        alike = [
            row
            for row in self.rows
            if row["paper"] == run.paper
            and row["training"]
            and row["trained_on"]
            # What is expected is said of one core; a run of several devices names no threads.
            and row["device"].get("kind") == "cpu"
            and row["device"].get("threads") == 1
        ]
        if alike:

            def likeness(row: dict) -> tuple:
                shared = sum(row["parameters"].get(key) == value for key, value in complete.items())
                return row["dataset"] == run.dataset, shared

            best = max(alike, key=likeness)
            if best["dataset"] == run.dataset:
                images = best["trained_on"]
            epochs = run.fields.get("epochs") or best["epochs"]
            per_image = best["training"] / best["epochs"] / best["trained_on"]
            its_speed = _speed(run.paper, best["parameters"])
            if rate and its_speed and its_speed.images_per_second:
                per_image *= its_speed.images_per_second / rate
            return per_image * epochs * (images or best["trained_on"]) + (best["prediction"] or 0)
        if rate and images and complete.get("epochs"):
            return images * complete["epochs"] / rate
        return None


def _other_data(checked: dict, row: dict) -> bool:
    """Whether a record's data are not those that a check found: the same arrays may come from
    other files; where the check has none, files are compared.
    """
    if arrays := checked.get("arrays"):
        return arrays != (row["loaded"] or row["data"])
    return bool(checked["sources"]) and checked["sources"] != row["sources"]


def _speed(paper: str, fields: dict) -> Speed | None:
    """The first speed of the paper's published file that is about these parameters."""
    return next(
        (rule for rule in load_published(paper).runs.speed if fits(rule.fits, fields)), None
    )


def _key(paper: str, fields: dict) -> tuple:
    return paper, fields.get("dataset"), fields.get("fold"), fields.get("seed")


def _stale(rows: list[dict]) -> set[str]:
    """`records.stale` over the lines of a summary, which have all that it looks at."""
    by_paper: dict[str, list] = {}
    for row in rows:
        by_paper.setdefault(row["paper"], []).append(
            SimpleNamespace(
                run=row["run"],
                paper=row["paper"],
                profile=row["profile"],
                parameters=row["parameters"],
                seed=row["seed"],
                created=row["created"],
                metrics=row["metrics"],
                data=SimpleNamespace(name=row["dataset"], sha256=row["data"], loaded=row["loaded"]),
                split=SimpleNamespace(sha256=row["split"]),
                code=SimpleNamespace(sha256=row["code"], entry_points=tuple(row["entry_points"])),
            )
        )
    return {name for runs in by_paper.values() for name in records.stale(runs)}


def _training_images(fields: dict) -> int | None:
    """How many images one epoch sees, by the manifest."""
    splits = load_manifest(fields["dataset"]).splits
    if "train" in splits:
        return splits["train"].count
    whole = splits["all"].count if "all" in splits else None
    return whole and int(0.8 * whole)
