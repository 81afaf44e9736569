"""The work of one worker: a shard of the plan becomes files of faces and errors, and an entry in the manifest.

OUTPUT/plan.parquet                 the shards of this run
OUTPUT/faces/0000012.parquet        faces of shard 12
OUTPUT/errors/0000012.parquet       its pictures that failed, if any
OUTPUT/done/0000012.json            written last: shard 12 is finished
OUTPUT/tries/0000012                a byte for each worker that has begun it; away when it is finished
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from runtime.archives.settings import Settings
from runtime.archives.shard import Counts, Item
from runtime.errors import FaceMeshError
from runtime.serving.face_service import FaceService, Picture
from runtime.storage.json_documents import document_bytes, load_document
from runtime.storage.whole_files import remove_quietly, unique_name, whole_file, write_error
from runtime.types import FaceMesh

FOLDERS = ("faces", "errors", "done", "tries")
MOST_TRIES = 3  # of one shard, and of one worker to start, that end with the worker's death


class ShardWorker:
    """One pipeline that does one shard after the other."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        """Open the plan in ``folder`` and the model. Raises `FaceMeshError`."""
        from runtime.archives.plan import Plan

        self._folder = folder
        self._settings = settings
        self._plan = Plan(folder)
        settings.check_files()
        with ExitStack() as opened:
            runner = opened.enter_context(settings.open_runner())
            detector = opened.enter_context(settings.open_detector())
            service = FaceService(runner, detector, min_confidence=settings.min_confidence)
            self._service = opened.enter_context(service)
            self._opened = opened.pop_all()

    def __call__(self, number: int) -> Counts:
        """Do shard ``number``, unless it is finished: then return its counts.

        A second worker that does the same shard at the same time writes the same files. Raises `FaceMeshError`, also
        for a shard at which workers have died again and again.
        """
        if (counts := finished(self._folder, number)) is not None:
            return counts
        place = f"at part {number} ({self._plan[number].source})"
        with counted_try(self._folder, f"{number:07d}", place):
            return self._do(number)

    def _do(self, number: int) -> Counts:
        from runtime.archives.face_rows import RowFiles

        shard, start_s = self._plan[number], time.process_time()
        pictures, faces, errors = 0, 0, 0
        name = f"{number:07d}.parquet"
        vertex_count = self._service.vertex_count if self._settings.vertices else None
        with RowFiles(shard, self._folder / "faces" / name, self._folder / "errors" / name, vertex_count) as rows:
            for item, found in self._results(number):
                pictures += 1
                if isinstance(found, FaceMeshError):
                    errors += 1
                    rows.add_error(item, found)
                else:
                    faces += len(found)
                    rows.add_faces(item, found)
        counts = Counts(pictures, faces, errors, time.process_time() - start_s)
        done = done_path(self._folder, number)
        with whole_file(done, unique_name(done)) as file:
            file.write(document_bytes(counts))
        return counts

    def close(self) -> None:
        """Free the model."""
        self._opened.close()

    def _results(self, number: int) -> Iterator[tuple[Item, list[FaceMesh] | FaceMeshError]]:
        """Yield every picture with its faces or its error."""
        from runtime.archives.pictures import pictures_of

        shard = self._plan[number]
        is_last = number + 1 == len(self._plan) or self._plan[number + 1].source != shard.source
        unread: list[tuple[Item, FaceMeshError]] = []
        asked: deque[Item] = deque()

        def pictures() -> Iterator[Picture]:
            for item in pictures_of(shard, is_last, self._settings.column, self._settings.every):
                if isinstance(item.content, FaceMeshError):
                    unread.append((item, item.content))
                else:
                    asked.append(item)
                    yield Picture(item.content, item.key or f"frame {item.frame}")

        for found in self._service(pictures(), dense=self._settings.vertices):
            yield asked.popleft(), found
            yield from unread
            unread.clear()
        yield from unread


@contextmanager
def counted_try(folder: Path, name: str, place: str) -> Iterator[None]:
    """Leave a byte in a file of ``folder`` / tries for a process that dies within the ``with``.

    Raises `FaceMeshError` if several have died there before, or if the file cannot be written.
    """
    path = folder / "tries" / name
    try:
        with open(path, "ab") as file:
            if file.tell() >= MOST_TRIES:
                problem = f"workers were killed {MOST_TRIES} times {place}, most often for lack of memory"
                raise FaceMeshError(f"{problem}; give each of them more, or leave out what ends them")
            file.write(b".")
    except OSError as error:
        raise write_error(path, error) from None
    try:
        yield
    finally:
        remove_quietly(path)


def done_path(folder: Path, number: int) -> Path:
    """Return the path of a shard's entry in the manifest."""
    return folder / "done" / f"{number:07d}.json"


def finished(folder: Path, number: int) -> Counts | None:
    """Return the counts of a finished shard, None if it is not finished."""
    path = done_path(folder, number)
    if not path.exists():
        return None
    try:
        return load_document(Counts, path, "entry of a finished part", "python -m runtime.batch")
    except FaceMeshError as error:
        raise FaceMeshError(f"{error}, once this file is removed") from None
