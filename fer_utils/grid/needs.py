"""What a paper's published file says that its runs need before and while they train."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache

from fer_utils import provenance
from fer_utils.grid.chapters import Chapter, read_chapter
from fer_utils.grid.inputs import data_state, versions
from fer_utils.grid.runs import GridError, Preparation, Run
from fer_utils.manifests import load_manifest, load_published
from fer_utils.pixel_csv import require_cache_folder


def resources(run: Run) -> dict[str, int]:
    """Memory in MB and threads of a run."""
    needs = load_published(run.paper).runs
    return {"mem_mb": needs.mem_mb, "threads": needs.threads}


def slow_here(runs: Sequence[Run]) -> dict[str, tuple[int, str, float]]:
    """What runs take much longer than expected on this machine, by paper.

    Returns:
        Of each such paper: how many of its runs, the format of numbers that this processor has no
        instructions for, and how many times as long as expected they take without, at least.
    """
    from fer_utils.training import torch_loop  # takes seconds

    found = {}
    for paper in dict.fromkeys(run.paper for run in runs):
        rule = load_published(paper).runs.slow_without
        if rule is None or not torch_loop.in_software(rule.format):
            continue
        left_out = read_chapter(paper).parameters
        own = [{**left_out, **run.fields} for run in runs if run.paper == paper]
        if count := sum(fits(rule.fits, fields) for fields in own):
            found[paper] = (count, rule.format, rule.times)
    return found


def preparations(run: Run) -> list[Preparation]:
    """What has to be prepared before a run, in the order of its paper's published file."""
    return prepared_for(run.paper, read_chapter(run.paper), run.fields)


def prepared_for(paper: str, chapter: Chapter, fields: dict) -> list[Preparation]:
    """The preparations of a run of `chapter` with these parameters.

    Raises:
        GridError: one that calls what there is not, or with a parameter that no run has.
    """
    complete = {**chapter.parameters, **fields}
    found = []
    for rule in load_published(paper).runs.prepare:
        if not fits(rule.fits, complete):
            continue
        dataset = complete["dataset"]
        for told in rule.arguments.values():
            if told not in ("threads", *complete):
                raise GridError(f"{paper}, runs.prepare: its chapter has no parameter {told!r}")
        settings = {
            key: complete[told] for key, told in rule.arguments.items() if told != "threads"
        }
        made_of = [
            dataset,
            data_state(dataset),
            rule.call,
            _call_hash(paper, rule.call),
            settings,
            versions("any"),
            str(require_cache_folder()),
        ]
        digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:8]
        words = [dataset, rule.call.rpartition(":")[2], *map(str, settings.values())]
        label = "-".join(re.sub(r"[^\w.]+", "_", word) for word in words)
        images = sum(part.count or 0 for part in load_manifest(dataset).splits.values())
        rate = rule.images_per_second
        found.append(
            Preparation(
                name=f"{label}-{digest}",
                dataset=dataset,
                call=rule.call,
                settings=settings,
                threads=next(
                    (key for key, told in rule.arguments.items() if told == "threads"), None
                ),
                seconds=images / rate if rate and images else None,
            )
        )
    return found


@cache
def _call_hash(paper: str, call: str) -> str:
    try:
        return provenance.code_hash((call,))
    except ValueError as error:
        raise GridError(f"{paper}, runs.prepare: cannot call {call!r}: {error}") from None


def fits(condition: dict[str, tuple], fields: dict) -> bool:
    """Whether a rule that begins with `for` is about a run with these parameters."""
    return all(fields.get(key) in values for key, values in condition.items())
