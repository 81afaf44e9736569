"""Several sets of labelled faces as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.families.face_model import FaceModel
from training.data.labels import FaceLabels, JpegImages, load_labels, read_images


class ChainedImages(Sequence):
    """Pictures of several sets in one row of numbers; they stay JPEG bytes in memory."""

    def __init__(self, parts: Sequence[JpegImages]) -> None:
        self._parts = list(parts)
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._parts[part][row - int(self._starts[part])]


def load_sets(paths: Sequence[Path], model: FaceModel) -> tuple[FaceLabels, ChainedImages]:
    """Return labels and pictures of all sets, one after the other; paths as in `training.data.labels.load_labels`."""
    labels = [load_labels(path, model) for path in paths]
    images = [read_images(path, part) for path, part in zip(paths, labels, strict=True)]
    return concatenate_labels(labels), ChainedImages(images)


def concatenate_labels(parts: Sequence[FaceLabels]) -> FaceLabels:
    """Return the rows of all parts. Points by hand that a part does not have are NaN, their visibility is 0."""
    if not parts:
        raise FaceMeshError("--data: no set of faces; give at least one")
    columns = {}
    for field in dataclasses.fields(FaceLabels):
        arrays = [getattr(part, field.name) for part in parts]
        template = next((array for array in arrays if array is not None), None)
        if template is None:
            columns[field.name] = None
            continue
        empty = np.nan if template.dtype.kind == "f" else 0
        shape = template.shape[1:]
        filled = [
            np.full((len(part), *shape), empty, template.dtype) if array is None else array
            for part, array in zip(parts, arrays, strict=True)
        ]
        columns[field.name] = np.concatenate(filled)
    return FaceLabels(**columns)
