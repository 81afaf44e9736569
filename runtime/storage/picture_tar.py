"""Sets of pictures: ``faces.npz`` with one row per picture and ``faces.tar`` with the pictures, side by side."""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path

from numpy.typing import NDArray

from runtime.errors import FaceMeshError, one_line
from runtime.storage.npz_files import check_shapes, read_npz

RowShapes = Mapping[str, tuple[int, ...]]  # name of an array -> shape of one row, -1 for any length


def beside(path: Path, suffix: str) -> Path:
    """Return ``path`` with another suffix; it is given as ``faces``, ``faces.npz`` or ``faces.tar``."""
    stem = path.with_suffix("") if path.suffix in (".npz", ".tar") else path
    return stem.with_name(stem.name + suffix)


def read_rows(path: Path, required: RowShapes, optional: RowShapes, *, what: str) -> dict[str, NDArray]:
    """Return the arrays of a set, by name; the set is given by its stem, its ``.npz`` or its ``.tar``.

    The array ``names`` must be among ``required``: it has one entry per row. Raises `FaceMeshError` for a set with a
    missing half, a damaged file and an array of another shape; ``what`` names the content in the texts ("face labels").
    """
    labels, archive = beside(path, ".npz"), beside(path, ".tar")
    for half in (labels, archive):
        if not half.is_file():
            form = f"a folder, or as {labels.name} and {archive.name} side by side"
            raise FaceMeshError(f"{half}: no such file; give {what} as {form}")
    arrays = read_npz(labels, tuple(required), tuple(optional), what=what)
    count = arrays["names"].size
    shapes = {**required, **optional}
    try:
        check_shapes(arrays, {key: (count, *shapes[key]) for key in arrays})
    except ValueError as error:
        raise FaceMeshError(f"{labels}: {error}; the file is damaged or of another kind") from None
    return arrays


def read_tar(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """Return the contents of the members ``names``, by name.

    Raises `FaceMeshError` for a missing member and for a damaged archive.
    """
    wanted = set(names)
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|") as archive:  # streaming: one pass without seeking
            for member in archive:
                if member.isfile() and member.name in wanted:
                    found[member.name] = archive.extractfile(member).read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise FaceMeshError(f"{path}: cannot be read as a tar archive ({one_line(error)}); copy it again") from None
    missing = sorted(wanted - found.keys())
    if missing:
        lack = f"{len(missing)} of the {len(wanted)} pictures that the labels name, first {missing[0]}"
        raise FaceMeshError(f"{path}: lacks {lack}; labels and archive must belong together")
    return found
