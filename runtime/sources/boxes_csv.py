"""The ``--boxes`` file: CSV with the header ``path,x1,y1,x2,y2``, one line per face."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.console.terminal import print_line
from runtime.errors import FaceMeshError, one_line, reason
from runtime.geometry.boxes import check_box
from runtime.storage.bounded_files import read_bounded
from runtime.storage.limits import DOCUMENT_BYTES

MOST_NAMES = 10  # of pictures in one line
COLUMNS = ("path", "x1", "y1", "x2", "y2")


def read_boxes(path: Path, pictures: Sequence[Path]) -> dict[str, NDArray[np.float32]]:
    """Return the boxes_xyxy (N, 4) float32 px of every one of ``pictures``, by path; N = 0 for pictures without a line.

    A box is the tight box of the 68 landmarks. A path in the file is taken relative to the folder of the pictures or to
    the current folder. Raises `FaceMeshError` naming the line for anything that is not a box of one of ``pictures``.
    """
    known = {os.path.realpath(picture): str(picture) for picture in pictures}
    folder = pictures[0].parent if pictures else Path()
    boxes: dict[str, list[list[float]]] = {str(picture): [] for picture in pictures}
    for line, row in _rows(path):
        where = f"{path} line {line}"
        if len(row) != len(COLUMNS):
            form = ",".join(COLUMNS)
            raise FaceMeshError(f"{where}: {len(row)} columns instead of {len(COLUMNS)}; every line is {form}")
        name = row[0].strip()
        places = [] if "\0" in name else [os.path.realpath(place) for place in (str(folder / name), name)]
        picture = next((known[place] for place in places if place in known), None)
        if picture is None:
            remedy = "give paths relative to the source's folder or the current one"
            raise FaceMeshError(f"{where}: {one_line(repr(name), 200)} is not a picture of the source; {remedy}")
        boxes[picture].append(_box(row[1:], where))
    return {picture: np.array(rows, np.float32).reshape(-1, 4) for picture, rows in boxes.items()}


def tell_of_few_boxes(path: Path, boxes: Mapping[str, NDArray[np.float32]]) -> None:
    """Print one line if a file has boxes for a part of the pictures alone."""
    without = [Path(name).name for name, rows in boxes.items() if not len(rows)]
    if without:
        names = ", ".join(without[:MOST_NAMES]) + (" …" if len(without) > MOST_NAMES else "")
        covered = f"boxes for {len(boxes) - len(without)} of {len(boxes)} pictures"
        print_line(f"note: {path}: {covered}; no face is looked for in the others: {names}")


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return (line number, fields) of every line that is not blank; check the header and leave it out."""
    try:
        text = read_bounded(path, DOCUMENT_BYTES).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""))
        rows = [(reader.line_num, row) for row in reader if any(field.strip() for field in row)]
    except OSError as error:
        raise FaceMeshError(f"{path}: cannot be read ({reason(error)}); give --boxes a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        fault = f"no CSV text ({reason(error)})"
        raise FaceMeshError(f"{path}: {fault}; its first line must be {','.join(COLUMNS)}") from error
    if not rows or tuple(field.strip().lower() for field in rows[0][1]) != COLUMNS:
        raise FaceMeshError(f"{path}: the header line is missing or different; it must be {','.join(COLUMNS)}")
    return rows[1:]


def _box(fields: Sequence[str], where: str) -> list[float]:
    """Return the four numbers of one line, checked as far as it goes without the picture."""
    try:
        box = [_number(field) for field in fields]
    except ValueError as error:
        raise FaceMeshError(f"{where}: {one_line(error, 200)}; x1,y1,x2,y2 are pixels of the picture") from None
    try:
        check_box(box, least_side_px=1)
    except FaceMeshError as error:
        raise FaceMeshError(f"{where}: {error}") from None
    return box


def _number(text: str) -> float:
    """Return a number in ASCII digits; `float` also knows 1_50 and digits of other scripts."""
    if "_" in text or not text.strip().isascii():
        raise ValueError(f"{text!r} is no number in digits from 0 to 9")
    return float(text)
