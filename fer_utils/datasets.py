"""Load every data set of the companion as one `FaceDataset`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class FaceDataset:
    """Images of faces with their expression labels, in the row order of the source.

    Args:
        name: name of the manifest the data came from.
        images: uint8 (N, H, W, 1), 0-255 grey.
        labels: int64 (N,), an index into `class_names`; -1 where the source has no label.
        class_names: the expressions in the manifest's order.
        split: str (N,) of "train", "val", "test"; None where the source defines no parts.
        subjects: str (N,), who is shown; None where the source does not say.
        sequences: str (N,), which video or burst a frame is from; None where there is none.
        votes: uint8 (N, V), how many taggers chose each of the V vote columns; None without votes.
        hashes: sha256 of every source file by its name, what a record keeps of the data.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    split: np.ndarray | None = None
    subjects: np.ndarray | None = None
    sequences: np.ndarray | None = None
    votes: np.ndarray | None = None
    hashes: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: np.ndarray) -> FaceDataset:
        """The rows at `rows`: int (M,) positions or bool (N,) mask."""
        cut = {
            key: value[rows]
            for key in ("images", "labels", "split", "subjects", "sequences", "votes")
            if (value := getattr(self, key)) is not None
        }
        return replace(self, **cut)
