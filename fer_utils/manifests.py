"""What the data sets are and what the papers printed: the YAML under `data_manifests/`, checked."""

from __future__ import annotations

from pathlib import Path


class DataError(ValueError):
    """Data that are missing or not what their manifest says: one sentence naming file and row.

    Args:
        path: the file or folder at fault.
        problem: what is wrong with it.
        row: 1-based data row; the sentence also gives the line, which counts the header.
        expected: what should stand there.
        found: what stands there.
        header: lines before the first data row.
    """

    def __init__(
        self,
        path: Path | str,
        problem: str,
        *,
        row: int | None = None,
        expected: object = None,
        found: object = None,
        header: int = 1,
    ) -> None:
        self.path, self.problem, self.row = Path(path), problem, row
        self.expected, self.found = expected, found
        where = f"{path}" if row is None else f"{path}, row {row} (line {row + header})"
        compared = "" if expected is None else f": expected {expected}, found {found}"
        super().__init__(f"{where}: {problem}{compared}")
