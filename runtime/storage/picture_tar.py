"""Pictures kept in a tar archive beside the arrays that describe them: ``faces.npz`` and ``faces.tar``."""

from __future__ import annotations

import tarfile
from collections.abc import Collection
from pathlib import Path

from runtime.errors import FaceMeshError


def beside(path: Path, suffix: str) -> Path:
    """``faces``, ``faces.npz`` or ``faces.tar`` -> the same with ``suffix``."""
    stem = path.with_suffix("") if path.suffix in (".npz", ".tar") else path
    return stem.with_name(stem.name + suffix)


def read_tar(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """Name -> content of the members that are wanted. Raises `FaceMeshError` where one is missing or the archive is damaged."""
    wanted, found = set(names), {}
    try:
        with tarfile.open(path, "r|") as archive:  # streaming: one pass without seeking
            for member in archive:
                if member.isfile() and member.name in wanted:
                    found[member.name] = archive.extractfile(member).read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise FaceMeshError(f"{path}: cannot be read as a tar archive ({error}); copy it again") from None
    if missing := sorted(wanted - found.keys()):
        what = f"{len(missing)} of the {len(wanted)} pictures that the labels name, first {missing[0]}"
        raise FaceMeshError(f"{path}: lacks {what}; labels and archive must belong together")
    return found
