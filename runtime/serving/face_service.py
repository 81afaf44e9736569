"""``FaceService``: the faces of many pictures, each by itself: a bad one spoils no other."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.detection.interface import Detector
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError, one_line
from runtime.geometry.boxes import check_boxes
from runtime.geometry.crop import check_image
from runtime.inference.interface import Runner
from runtime.pipeline import FaceMeshPipeline
from runtime.sources.photos import decode_photo
from runtime.types import Detections, FaceMesh

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture to find faces in."""

    content: bytes | NDArray[np.uint8]  # an encoded photo, or (H, W, 3) BGR
    name: str  # in errors
    boxes_xyxy: NDArray[np.float32] | None = None  # (N, 4) px, tight boxes of the landmarks; None: they are detected


class FaceService:
    """Decode and detect in threads ahead of the network, which takes one picture after the other.

    ``runner`` stays the caller's to close, and so does ``detector``; None: one on the CPU for each thread. ``workers``
    pictures are decoded and searched at once; at most one more waits, so memory does not grow with the number of
    pictures. A context manager.
    """

    def __init__(
        self,
        runner: Runner,
        detector: Detector | None = None,
        *,
        workers: int = 1,
        min_confidence: float | None = None,
    ) -> None:
        """Start the threads. Raises `FaceMeshError` like `FaceMeshPipeline`."""
        self._shared_detector = detector
        self._pipelines = {
            dense: FaceMeshPipeline(runner, dense=dense, min_confidence=min_confidence) for dense in (False, True)
        }
        self._ahead = workers
        self._own = threading.local()  # a detector for each thread: in one they would take turns
        self._pool = ThreadPoolExecutor(workers, "detect")

    @property
    def vertex_count(self) -> int:
        """Vertices of one face."""
        return len(self._pipelines[True].family.topology.canonical_vertices)

    def __call__(self, pictures: Iterable[Picture], *, dense: bool = False) -> Iterator[list[FaceMesh] | FaceMeshError]:
        """Yield the faces of every picture, or its error, in order; ``dense`` True: with vertices.

        Raises `FaceMeshError` only if no other picture can succeed, for example on a failed GPU.
        """
        for picture, prepared in self._prepared(pictures):
            yield self._faces(picture, prepared, dense)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> FaceService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _faces(self, picture: Picture, prepared: Future[Any], dense: bool) -> list[FaceMesh] | FaceMeshError:
        try:
            return self._pipelines[dense].from_detections(*prepared.result())
        except FaceMeshError as error:
            if error.is_fatal:
                raise
            return _named(picture, str(error))
        except Exception as error:
            LOG.exception("picture %s", picture.name)
            return _named(picture, f"failed ({type(error).__name__}: {one_line(error, 200)}); the log tells where")

    def _prepared(self, pictures: Iterable[Picture]) -> Iterator[tuple[Picture, Future[Any]]]:
        waiting: deque[tuple[Picture, Future[Any]]] = deque()
        try:
            for picture in pictures:
                waiting.append((picture, self._pool.submit(self._prepare, picture)))
                if len(waiting) > self._ahead:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for _, future in waiting:
                future.cancel()

    def _prepare(self, picture: Picture) -> tuple[NDArray[np.uint8], Detections]:
        """Return the pixels of a picture and its detections."""
        image = _pixels(picture)
        if picture.boxes_xyxy is None:
            return image, self._detector(image)
        boxes = check_boxes(picture.boxes_xyxy, image.shape[1::-1])
        return image, Detections(boxes.astype(np.float32), np.ones(len(boxes), np.float32))

    @property
    def _detector(self) -> Detector:
        """The detector of this thread, or of all."""
        if self._shared_detector is not None:
            return self._shared_detector
        if not hasattr(self._own, "detector"):
            self._own.detector = YuNetDetector()
        return self._own.detector


def _pixels(picture: Picture) -> NDArray[np.uint8]:
    """Return (H, W, 3) BGR; raises `FaceMeshError` for a photo that cannot be decoded and beyond the limit."""
    if isinstance(picture.content, bytes):
        if not picture.content:
            raise FaceMeshError("the picture is empty (0 bytes); send the bytes of a JPEG or PNG file")
        return decode_photo(picture.content, picture.name)
    image = np.asarray(picture.content)
    try:
        check_image(image)
    except ValueError as error:
        raise FaceMeshError(f"{error}; send (H, W, 3) uint8 in the order BGR") from None
    return np.ascontiguousarray(image)


def _named(picture: Picture, text: str) -> FaceMeshError:
    """Return an error that begins with the name of its picture."""
    return FaceMeshError(text if text.startswith(f"{picture.name}: ") else f"{picture.name}: {text}")
