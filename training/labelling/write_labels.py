"""Fitted labels on disk: ``STEM.npz``, the pictures in ``STEM.tar`` and the faces left out in ``STEM_dropped.csv``."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.storage.picture_tar import beside, read_tar
from runtime.storage.whole_files import whole_files
from training.labelling.hand_labels import HandLabels


def write_labels(output: Path, data: Path, hand: HandLabels, arrays: dict[str, NDArray], reasons: NDArray) -> None:
    """Write the three files, whole or not at all."""
    kept = np.flatnonzero(reasons == "")
    if not len(kept):
        raise FaceMeshError(
            f"{data}: none of the {len(hand)} faces has a good fit ({reasons[0]}); check the points and their shifts"
        )
    pictures = read_tar(beside(data, ".tar"), hand.names[kept].tolist())
    fields = ("names", "source", "size", "is_val", "hand68", "visible68", "hand21")
    arrays = {**arrays, **{name: getattr(hand, name) for name in fields}}
    paths = [beside(output, suffix) for suffix in ("_dropped.csv", ".npz", ".tar")]
    with whole_files(*paths) as (listing, table, archive):
        np.savez_compressed(table, **{name: array[kept] for name, array in arrays.items()})
        write_tar(archive, {name: pictures[name] for name in hand.names[kept].tolist()})
        dropped = np.flatnonzero(reasons != "")
        listing.write(
            "".join(f"{hand.names[row]},{reasons[row]}\n" for row in dropped).encode(errors="surrogateescape")
        )


def write_tar(file: BinaryIO, members: dict[str, bytes]) -> None:
    """Write name -> content as a tar archive, in the order given."""
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
