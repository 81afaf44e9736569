"""A shard: a part of an archive that one worker does at once, and that is finished as a whole."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError

KINDS = ("photos", "film", "tar", "parquet")


@dataclass(frozen=True)
class Shard:
    """A part of an archive, as the plan keeps it."""

    kind: str  # one of KINDS
    source: str  # path or URI of the film, tar or Parquet file; of photos the folder
    photos: tuple[str, ...] = ()  # paths or URIs
    first: float = 0.0  # member of the tar, row group of the Parquet file, or second of the film
    end: float = 0.0  # the first one that is not of this shard


@dataclass(frozen=True, eq=False)
class Item:
    """One picture of a shard, or the reason that it cannot be read."""

    key: str  # path of a photo, member of a tar, row of a Parquet file; "" for a film
    content: bytes | NDArray[np.uint8] | FaceMeshError
    frame: int = 0  # of a film
    time_s: float = 0.0


@dataclass(frozen=True)
class Counts:
    """Result of a finished shard, or the sum of several."""

    pictures: int = 0
    faces: int = 0
    errors: int = 0
    core_s: float = 0.0  # processor time

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))
