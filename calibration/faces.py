"""Faces to calibrate on or to judge by: names of pictures, boxes, labels where there are some."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

YAW_EDGES_DEG = (15, 30, 45, 60, 75)


@dataclass(frozen=True, eq=False)
class Faces:
    """N faces in pictures that are not read yet; one picture may hold several."""

    origin: Path  # the folder, the tar archive, or the film
    names: NDArray[np.str_]  # (N,) paths of the pictures, or members of the archive
    boxes_xyxy: NDArray[np.float32]  # (N, 4) px, tight box of the 68 landmarks
    yaw_deg: NDArray[np.float32]  # (N,) NaN where unknown
    is_val: NDArray[np.bool_]  # (N,) kept for judging
    landmarks_xy: NDArray[np.float32] | None  # (N, 68, 2) px, labels
    encoded: dict[str, bytes] | None = None  # pictures by name, of a film; others lie in their files

    @property
    def is_archive(self) -> bool:
        """True for a set of ``.npz`` and ``.tar``, which has its own rows for validation."""
        return self.origin.suffix == ".tar"

    def __len__(self) -> int:
        return len(self.names)

    def select(self, rows: ArrayLike) -> Faces:
        """The rows given by a mask (N,) or by their numbers."""
        landmarks = None if self.landmarks_xy is None else self.landmarks_xy[rows]
        return dataclasses.replace(
            self,
            names=self.names[rows],
            boxes_xyxy=self.boxes_xyxy[rows],
            yaw_deg=self.yaw_deg[rows],
            is_val=self.is_val[rows],
            landmarks_xy=landmarks,
        )


def sample(faces: Faces, count: int, seed: int = 0) -> Faces:
    """Draw at most ``count`` faces by ``seed``, from all classes of |yaw| alike, in the order of ``faces``."""
    yaw_class = np.digitize(np.abs(faces.yaw_deg), YAW_EDGES_DEG)  # NaN comes last, a class of its own in effect
    order = np.random.default_rng(seed).permutation(len(faces))
    rank = np.zeros(len(faces), np.int64)  # of a face among those of its class
    for number in np.unique(yaw_class):
        mine = order[yaw_class[order] == number]
        rank[mine] = np.arange(len(mine))
    chosen = order[np.argsort(rank[order], kind="stable")[:count]]
    return faces.select(np.sort(chosen))


def set_apart(faces: Faces, share: float, seed: int = 0) -> Faces:
    """Return ``faces`` with the given share of their pictures kept for judging, drawn by ``seed``.

    It is one picture at least, and one is left for calibrating.
    """
    pictures = np.unique(faces.names)
    count = min(len(pictures) - 1, max(share > 0, round(share * len(pictures))))
    judging = np.random.default_rng(seed).permutation(pictures)[:count]
    return dataclasses.replace(faces, is_val=np.isin(faces.names, judging))
