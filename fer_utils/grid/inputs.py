"""What a run is made of beside its code: the files of its data, and versions of libraries."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from fer_utils import provenance
from fer_utils.datasets import data_root, is_there
from fer_utils.grid.runs import BUILD
from fer_utils.manifests import MANIFESTS, load_manifest


@cache
def data_key(dataset: str) -> str | None:
    """What tells whether the files of a data set are still the ones of before: names, sizes, times.

    Args:
        dataset: a manifest's name.

    Returns:
        16 hexadecimal digits; None where there is nothing; of synthetic faces the hash of the code
        that draws them.
    """
    if dataset == "synthetic":
        return provenance.code_hash(("fer_utils.synthetic:generate",))[:16]
    if not is_there(dataset):
        return None
    manifest = load_manifest(dataset)
    lines = []
    for directory in manifest.directories:
        folder = data_root() / directory
        for path in sorted(_files(folder)):
            status = path.stat()
            lines.append(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns}")
    if not lines:
        return None
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def no_data(dataset: str) -> str:
    """Why a run of a data set waits."""
    return f"{dataset} is not under FER_DATA"


def _files(folder: Path) -> Iterator[Path]:
    """All below it, also in folders that are links, as the loaders find them; each folder once."""
    seen = set()
    for path, folders, files in os.walk(folder, followlinks=True):
        where = os.path.realpath(path)
        if where in seen:  # links in a circle
            folders.clear()
            continue
        seen.add(where)
        yield from (found for name in files if (found := Path(path, name)).is_file())


def data_state(dataset: str) -> list[str | None]:
    """What names a data set as it is now: its files and its manifest."""
    manifest = MANIFESTS / "datasets" / f"{dataset}.yaml"
    return [data_key(dataset), hashlib.sha256(manifest.read_bytes()).hexdigest()]


def checked_data(dataset: str) -> Path:
    """Where the workflow leaves what its check of a data set found.

    A check is of these very files, with this manifest and by this loader.
    """
    made_of = json.dumps([*data_state(dataset), _loader()])
    return BUILD / "data" / f"{dataset}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.json"


@cache
def _loader() -> str:
    return provenance.code_hash(("fer_utils.datasets:load", "fer_utils.datasets:array_hash"))


@cache
def versions(framework: str) -> dict[str, str]:
    """Public versions of the libraries that can move a chapter's numbers."""
    return provenance.relevant(provenance.versions(), framework)


def other_versions(device: dict, made: dict, now: dict, framework: str) -> str:
    """Why the versions of now ask for a record to be repeated; empty where they do not.

    Args:
        device, made: the record's device and versions.
        now: versions.
        framework: of the record's chapter.
    """
    if device.get("kind") != "cpu":  # a GPU's builds have versions of their own
        return ""
    differ = provenance.differing(made, now, framework)
    return f"made with {differ[0]}" if differ else ""
