"""The plan of a run: the shards of its sources, kept as ``plan.parquet`` so that a second run has the same ones."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from runtime.archives.places import (
    ARROW_ERRORS,
    absolute,
    identity,
    is_remote,
    is_web,
    list_files,
    open_place,
    suffix_of,
)
from runtime.archives.shard import Shard
from runtime.errors import FaceMeshError, reason
from runtime.sources.address import VIDEO_SUFFIXES
from runtime.sources.film import open_film
from runtime.sources.photos import PHOTO_SUFFIXES, RAW_SUFFIXES
from runtime.storage.picture_tar import tar_members
from runtime.storage.whole_files import whole_file

NAME = "plan.parquet"
SETTINGS = b"facemesh"
SEGMENT_S = 60.0  # of a film
_SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("source", pa.binary()),  # names of files are bytes
        ("photos", pa.list_(pa.binary())),
        ("first", pa.float64()),
        ("end", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Found:
    """The files of the sources, by kind."""

    photos: list[str]
    films: list[str]
    tars: list[str]
    parquets: list[str]
    others: list[str]  # of folders: left out


def find_files(sources: Sequence[str], recursive: bool) -> Found:
    """Return the files of all sources, each once. Raises `FaceMeshError` for a source of no known kind."""
    found = Found([], [], [], [], [])
    seen: set[str] = set()
    for source in map(absolute, sources):
        files = None if is_web(source) else list_files(source, recursive)
        for file in [source] if files is None else files:
            if (same := identity(file)) in seen:
                continue
            seen.add(same)
            kind = _list_for(found, file)
            if kind is found.others and files is None:
                forms = "a photo, a folder, a film, a .tar or a .parquet file"
                raise FaceMeshError(f"{file}: is none of {forms}; check --source")
            kind.append(file)
    if not (found.photos or found.films or found.tars or found.parquets):
        where = "" if recursive else " (--recursive searches subfolders, too)"
        raise FaceMeshError(
            f"{', '.join(sources)}: no pictures there{where}; give photos, films, .tar or .parquet files"
        )
    return found


def make_shards(found: Found, pictures: int) -> Iterator[Shard]:
    """Yield the shards of the files, of about ``pictures`` pictures each; films are cut by the minute.

    Files that cannot be opened become a shard, too: the worker reports them.
    """
    for start in range(0, len(found.photos), pictures):
        photos = found.photos[start : start + pictures]
        yield Shard("photos", photos[0].rpartition("/")[0], tuple(photos))
    for film in found.films:
        for start in range(_segments(film)):
            yield Shard("film", film, (), start * SEGMENT_S, (start + 1) * SEGMENT_S)
    for tar in found.tars:
        for start in range(0, _members(tar) or 1, pictures):
            yield Shard("tar", tar, (), start, start + pictures)
    for file in found.parquets:
        for group in range(_row_groups(file)):
            yield Shard("parquet", file, (), group, group + 1)


def save_plan(shards: Sequence[Shard], settings: dict[str, object], folder: Path) -> None:
    """Write ``plan.parquet``, one row group for each shard. Raises `FaceMeshError`."""
    schema = _SCHEMA.with_metadata({SETTINGS: json.dumps(settings, sort_keys=True)})
    table = pa.Table.from_pylist([_row_of(shard) for shard in shards], schema)
    with whole_file(folder / NAME) as file:
        parquet.write_table(table, file, row_group_size=1, compression="zstd")


class Plan:
    """A plan that was saved; shards are read one by one, however many there are."""

    def __init__(self, folder: Path) -> None:
        """Open ``plan.parquet``. Raises `FaceMeshError` for a file that is none."""
        try:
            self._file = parquet.ParquetFile(folder / NAME)
            self.settings = json.loads(self._file.schema_arrow.metadata[SETTINGS])
        except (*ARROW_ERRORS, TypeError, KeyError) as error:
            fault = f"cannot be read as the plan of a run ({reason(error)})"
            raise FaceMeshError(
                f"{folder / NAME}: {fault}; choose another --output, or remove it to start anew"
            ) from None

    def __len__(self) -> int:
        return self._file.num_row_groups

    def __getitem__(self, number: int) -> Shard:
        (row,) = self._file.read_row_group(number).to_pylist()
        names = {"source": os.fsdecode(row["source"]), "photos": tuple(map(os.fsdecode, row["photos"]))}
        return Shard(**{**row, **names})


def _row_of(shard: Shard) -> dict[str, object]:
    return {**vars(shard), "source": os.fsencode(shard.source), "photos": [*map(os.fsencode, shard.photos)]}


def _list_for(found: Found, file: str) -> list[str]:
    suffix = suffix_of(file)
    if suffix in PHOTO_SUFFIXES | RAW_SUFFIXES:
        return found.photos
    if suffix in VIDEO_SUFFIXES:
        return found.films
    return {".tar": found.tars, ".parquet": found.parquets, ".pq": found.parquets}.get(suffix, found.others)


def _segments(film: str) -> int:
    """Return the minutes of a film, 1 if its header does not tell; its last segment goes on to the real end."""
    if is_remote(film):
        return 1
    try:
        opened = open_film(Path(film))
    except FaceMeshError:
        return 1
    try:
        duration_s = opened.duration_s or (opened.frame_count or 0) / opened.facts.rate_hz
    finally:
        opened.close()
    return max(1, int(-(-duration_s // SEGMENT_S)))


def _members(tar: str) -> int:
    try:
        with open_place(tar) as file:
            return sum(1 for _ in tar_members(file, file.size()))
    except (FaceMeshError, *ARROW_ERRORS):
        return 0


def _row_groups(file: str) -> int:
    try:
        with open_place(file) as opened:
            return parquet.ParquetFile(opened).num_row_groups
    except (FaceMeshError, *ARROW_ERRORS):
        return 1
