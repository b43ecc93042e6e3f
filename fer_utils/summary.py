"""All records as one table, for pages and plans that look at thousands of them.

A record is some tens of kilobytes, most of them histories and confusion matrices. The table keeps
a line a record; a line is made once and stays in a cache until the record's file changes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd

from fer_utils import records
from fer_utils.training.checkpoints import write_atomically

CACHE = records.RESULTS.parent / "build" / "summary.jsonl"
FORMAT = 1  # of a line; another number makes all lines anew


def summary(folder: str | Path = records.RESULTS, cache: Path | None = CACHE) -> pd.DataFrame:
    """A line for each record below a folder.

    Args:
        folder: holds `<paper>/<run>.json`.
        cache: JSON lines that an earlier call has left; None reads every record anew. A cache that
            cannot be written is done without.

    Returns:
        Columns, in the order of the records' names:

        - paper, run, profile, seed, created (UTC, ISO 8601), file (below `folder`);
        - parameters (dict), dataset, protocol, fold, epochs (trained), epoch (chosen), trained_on
          (images);
        - n, accuracy, balanced_accuracy, macro_f1 of the test part and val_accuracy, fractions;
        - training, prediction (wall-clock seconds), device (dict), versions (dict);
        - code, data, split (sha256 of each), metrics (sha256 of each part's), loaded (of the data
          before any preprocessing), sources (dict), entry_points (list), commit.

    Raises:
        RecordError: a file that is no record.
    """
    folder = Path(folder)
    known = _read(cache)
    lines, changed = [], False
    for path in sorted(folder.glob("*/*.json")):
        status = path.stat()
        key = [FORMAT, str(path.resolve()), status.st_mtime_ns, status.st_size]
        line = known.get(key[1])
        if line is None or line["key"] != key:
            line = {"key": key, **_line(records.read(path), path.relative_to(folder).as_posix())}
            known[key[1]] = line
            changed = True
        lines.append(line)
    if changed and cache is not None:
        _write(cache, known)
    return pd.DataFrame(lines, columns=["key", *COLUMNS]).drop(columns="key")


COLUMNS = (
    *("paper", "run", "profile", "seed", "created", "file"),
    *("parameters", "dataset", "protocol", "fold", "epochs", "epoch", "trained_on"),
    *("n", "accuracy", "balanced_accuracy", "macro_f1", "val_accuracy"),
    *("training", "prediction", "device", "versions"),
    *("code", "data", "split", "metrics", "loaded", "sources", "entry_points", "commit"),
)


def _line(run: records.RunRecord, file: str) -> dict[str, Any]:
    test, val = run.metrics["test"], run.metrics["val"]
    return {
        "paper": run.paper,
        "run": run.run,
        "profile": run.profile,
        "seed": run.seed,
        "created": run.created,
        "file": file,
        "parameters": run.parameters,
        "dataset": run.data.name,
        "protocol": run.parameters.get("protocol"),
        "fold": run.parameters.get("fold"),
        "epochs": len(run.history["loss"]),
        "epoch": run.selection.epoch,
        "trained_on": run.split.trained_on or run.split.sizes.get("train"),
        "n": test["n"],
        "accuracy": test["accuracy"],
        "balanced_accuracy": test.get("balanced_accuracy"),
        "macro_f1": test.get("macro_f1"),
        "val_accuracy": val["accuracy"],
        "training": run.timings.get("training"),
        "prediction": run.timings.get("prediction"),
        "device": run.device,
        "versions": run.versions,
        "code": run.code.sha256,
        "data": run.data.sha256,
        "split": run.split.sha256,
        "metrics": {part: _hash(scores) for part, scores in run.metrics.items()},
        "loaded": run.data.loaded,
        "sources": run.data.sources,
        "entry_points": list(run.code.entry_points),
        "commit": run.code.commit,
    }


def _hash(scores: dict) -> str:
    return hashlib.sha256(json.dumps(scores, sort_keys=True).encode()).hexdigest()


def _read(cache: Path | None) -> dict[str, dict]:
    """The cached lines by their record's path; none where the cache is absent or damaged."""
    try:
        lines = [json.loads(line) for line in cache.read_text().splitlines()] if cache else []
        return {line["key"][1]: line for line in lines}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _write(cache: Path, known: dict[str, dict]) -> None:
    kept = [json.dumps(line) for path, line in known.items() if Path(path).exists()]
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cache, "".join(f"{line}\n" for line in kept).encode())
    except OSError:
        pass
