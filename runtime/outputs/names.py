"""Names of output files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

from runtime.storage.whole_files import remove_quietly
from runtime.types import Frame

MOST_BYTES = 160  # of a picture's part in names; file systems take 255 bytes, endings need the rest
# Temporary names of a run that was killed; unfinished files of other programs have other names.
_LEFT_OVER = re.compile(
    r"(?:(?:results|cameras|expressions)\.jsonl|landmarks\.csv|faces\.npz|\.facemesh"
    r"|.+_(?:overlay|face\d+|person\d+|depth|normals|pncc|visibility)(?:_\w+)?(?:\.\w+)?)\.part(?:\.mp4)?",
    re.ASCII,
)


class OutputNames:
    """Names of the files that belong to one picture.

    Two pictures never share a name, not even on a file system that ignores case.
    """

    def __init__(self, folder: Path, numbered: bool) -> None:
        """Take the output ``folder``; ``numbered`` adds the frame's number, for videos."""
        self._folder = folder
        self._numbered = numbered
        self._base_of: dict[str, str] = {}
        self._copies: dict[str, int] = {}  # name with suffix -> the last number that was tried behind it
        self._taken: set[str] = set()

    def face(self, frame: Frame, face_index: int, ending: str) -> Path:
        """Return ``name_face0ENDING`` or, for frame 12 of a video, ``name_000012_face0ENDING``."""
        return self.picture(frame, f"_face{face_index}{ending}")

    def picture(self, frame: Frame, ending: str) -> Path:
        """Return ``nameENDING`` or, for frame 12 of a video, ``name_000012ENDING``."""
        number = f"_{frame.index:06d}" if self._numbered else ""
        return self._folder / f"{self._base(frame.source)}{number}{ending}"

    def source(self, frame: Frame, ending: str) -> Path:
        """Return ``nameENDING``, one for all frames of a source."""
        return self._folder / f"{self._base(frame.source)}{ending}"

    def _base(self, source: str) -> str:
        """Return the stem of ``source``.

        If another picture has it already, the suffix is added (``a.png`` beside ``a.jpg``: ``a_png``), then a number.
        """
        if source not in self._base_of:
            path = Path(source.replace(":", "_"))  # camera:0
            base = _short(path.stem)
            if not self._take(base):
                base = whole = _short(path.name.replace(".", "_"))
                while not self._take(base):
                    self._copies[whole] = self._copies.get(whole, 1) + 1
                    base = f"{whole}_{self._copies[whole]}"
            self._base_of[source] = base
        return self._base_of[source]

    def _take(self, name: str) -> bool:
        """Take a name; False if another picture has it."""
        is_free = name.casefold() not in self._taken
        self._taken.add(name.casefold())
        return is_free


def _short(stem: str) -> str:
    """Return ``stem``, cut and marked by its hash if it leaves no room for the ending of a file's name."""
    name = os.fsencode(stem)
    if len(name) <= MOST_BYTES:
        return stem
    return name[:MOST_BYTES].decode("utf-8", "ignore") + "-" + hashlib.sha256(name).hexdigest()[:8]


def remove_left_overs(folder: Path) -> None:
    """Remove unfinished files of a killed run from ``folder``, locked for this run."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _LEFT_OVER.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                remove_quietly(Path(entry.path))
