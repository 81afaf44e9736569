"""Names of output files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from runtime.types import Frame

MOST_BYTES = 160  # of a picture's part in names; file systems take 255 bytes, endings need the rest


class OutputNames:
    """Names of the files that belong to one picture.

    Two pictures never share a name, not even on a file system that ignores case.
    """

    def __init__(self, folder: Path, numbered: bool) -> None:
        """Take the output ``folder``; ``numbered`` adds the frame's number, for videos."""
        self._folder = folder
        self._numbered = numbered
        self._base_of: dict[str, str] = {}
        self._taken: set[str] = set()

    def overlay(self, frame: Frame, suffix: str) -> Path:
        """Return ``name_overlay.jpg`` or, one for the whole video, ``name_overlay.mp4``."""
        return self._folder / f"{self._base(frame.source)}_overlay{suffix}"

    def mesh(self, frame: Frame, face_index: int, mesh_format: str) -> Path:
        """Return ``name_face0.obj`` or, for frame 12 of a video, ``name_000012_face0.obj``."""
        return self.face(frame, face_index, f".{mesh_format}")

    def face(self, frame: Frame, face_index: int, ending: str) -> Path:
        """Return ``name_face0ENDING`` or, for frame 12 of a video, ``name_000012_face0ENDING``."""
        return self.picture(frame, f"_face{face_index}{ending}")

    def picture(self, frame: Frame, ending: str) -> Path:
        """Return ``nameENDING`` or, for frame 12 of a video, ``name_000012ENDING``."""
        number = f"_{frame.index:06d}" if self._numbered else ""
        return self._folder / f"{self._base(frame.source)}{number}{ending}"

    def film(self, frame: Frame, ending: str) -> Path:
        """Return ``nameENDING``, one for all frames of a source."""
        return self._folder / f"{self._base(frame.source)}{ending}"

    def _base(self, source: str) -> str:
        """Return the stem of ``source``.

        If another picture has it already, the suffix is added (``a.png`` beside ``a.jpg``: ``a_png``), then a number.
        """
        if source not in self._base_of:
            path = Path(source.replace(":", "_"))  # camera:0
            candidates = [_short(path.stem), _short(path.name.replace(".", "_"))]
            candidates += [f"{candidates[1]}_{number}" for number in range(2, 3 + len(self._taken))]
            base = next(name for name in candidates if name.casefold() not in self._taken)
            self._taken.add(base.casefold())
            self._base_of[source] = base
        return self._base_of[source]


def _short(stem: str) -> str:
    """Return ``stem``, cut and marked by its hash if it leaves no room for the ending of a file's name."""
    name = os.fsencode(stem)
    if len(name) <= MOST_BYTES:
        return stem
    return name[:MOST_BYTES].decode("utf-8", "ignore") + "-" + hashlib.sha256(name).hexdigest()[:8]
