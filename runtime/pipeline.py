"""The public API: pictures in, face meshes out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import wraps
from threading import RLock
from typing import ParamSpec, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.detection.interface import Detector, device_detector
from runtime.errors import FaceMeshError
from runtime.families.table import open_family
from runtime.geometry.boxes import check_boxes, real_numbers
from runtime.geometry.crop import check_image
from runtime.inference.detection_crop import detection_crop, sure_faces
from runtime.inference.guided_runner import check_landmark_source
from runtime.inference.interface import Runner
from runtime.inference.second_look import MOST_LOOKS, Look, SecondLook
from runtime.models.spec import ModelSpec
from runtime.tracking.follower import FaceFollower
from runtime.tracking.options import Tracking
from runtime.types import Detections, FaceMesh, Frame, MeshTopology

ErrorHandler = Callable[[FaceMeshError], None]
P = ParamSpec("P")
T = TypeVar("T")


def _in_turns(method: Callable[P, T]) -> Callable[P, T]:
    """Let one thread at a time call a method of a pipeline; the others wait."""

    @wraps(method)
    def call(*args: P.args, **options: P.kwargs) -> T:
        with _lock_of(args[0]):
            return method(*args, **options)

    return call


def _lock_of(pipeline: object) -> AbstractContextManager[object]:
    return cast(FaceMeshPipeline, pipeline)._lock


def _steps_in_turns(method: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """Let one thread at a time take a step of a pipeline's generator; the others wait."""

    @wraps(method)
    def steps(*args: P.args, **options: P.kwargs) -> Iterator[T]:
        lock, generator = _lock_of(args[0]), cast(Generator[T, None, None], method(*args, **options))
        try:
            while True:
                with lock:
                    try:
                        item = next(generator)
                    except StopIteration:
                        return
                yield item
        finally:
            with lock:
                generator.close()

    return steps


class FaceMeshPipeline:
    """Detect, crop, run the network and decode, all faces of a picture at once.

    ``runner`` comes from `runtime.open_runner` and stays the caller's to close. ``detector`` may be left out if boxes
    are given. ``topology`` None is the one that the model's spec names. ``dense`` False leaves the vertices out of the
    faces; they are (0, 3) then. ``min_confidence`` 0..1 leaves out the faces with a lower confidence; ``left_out``
    counts them. Raises `FaceMeshError` if the model has no confidence. ``tracking`` follows people from frame to frame:
    calls and `stream` then take the frames of one film or camera in their order, and each face has a ``track_id``.
    Threads may share a pipeline, a runner and a detector: their calls take turns. Faster are pipelines with runners of
    their own.
    """

    def __init__(
        self,
        runner: Runner,
        detector: Detector | None = None,
        topology: MeshTopology | None = None,
        *,
        dense: bool = True,
        min_confidence: float | None = None,
        tracking: Tracking | None = None,
    ) -> None:
        _check_min_confidence(min_confidence, runner.spec)
        check_landmark_source(runner)
        self.family = open_family(runner.spec, topology)
        self.left_out = 0  # faces below ``min_confidence`` so far
        self._min_confidence = min_confidence
        self._lock = RLock()
        self._detector = detector
        self._mesher = runner.mesher(self.family, dense)
        self.overlaps = self._mesher.depth > 1  # `stream` reads and detects while the device computes
        # Random meshes would ask for further looks at random.
        looks = 1 if runner.spec.untrained else MOST_LOOKS
        self._second_look = SecondLook(self._mesher, self.family, runner.spec.input.size, looks)
        self._in_flight: deque[_Submitted] = deque()  # every frame that the mesher has
        self._follower: FaceFollower | None = None
        self._is_tracking = False  # a stream, whose tracks no other call may disturb
        if tracking is not None:
            detect, has_confidence = self._need_detector(), runner.spec.confidence is not None
            self._follower = FaceFollower(
                self._mesher, self._second_look, self.family, detect, tracking, has_confidence
            )

    @_in_turns
    def __call__(self, frame: Frame | NDArray[np.uint8]) -> list[FaceMesh]:
        """Find the faces of a frame or (H, W, 3) uint8 BGR picture, in its pixels; best first, or tracked ones by age.

        With tracking it is the frame that follows the one before; a bare picture comes at the usual time.
        """
        self._need_detector()
        self._refuse_two_at_once()
        try:
            self._submit_next(frame)
            return self._collect()
        finally:
            self._forget()

    @_in_turns
    def from_boxes(
        self, image: Frame | NDArray[np.uint8], boxes_xyxy: ArrayLike, scores: ArrayLike | None = None
    ) -> list[FaceMesh]:
        """Return the faces inside known boxes.

        ``boxes_xyxy`` (N, 4) px are tight boxes of the 68 landmarks, ``scores`` (N,) are 1 if left out.
        Raises `FaceMeshError` for a box that is not finite, is reversed, or lies outside the picture.
        """
        image = _picture(image)
        return self.from_detections(image, _given(image, boxes_xyxy, scores))

    @_in_turns
    def from_detections(self, image: Frame | NDArray[np.uint8], found: Detections) -> list[FaceMesh]:
        """Return the faces that a detector has found in this picture already."""
        self._refuse_two_at_once()
        try:
            self._submit(_picture(image), found)
            return self._collect()
        finally:
            self._forget()

    @_steps_in_turns
    def stream(
        self,
        frames: Iterable[Frame],
        boxes_of: Callable[[Frame], ArrayLike] | None = None,
        on_error: ErrorHandler | None = None,
        *,
        ahead: bool = True,
    ) -> Iterator[tuple[Frame, list[FaceMesh]]]:
        """Yield every frame with its faces, in order; while the GPU works on one, the next is read and detected.

        So a frame comes out when the next one has gone in (on the CPU at once). With ``ahead`` False it comes out when
        it is done, as a live picture should. ``boxes_of`` gives known boxes (N, 4) of a frame instead of detection. A
        frame that fails raises; with ``on_error`` it is handed the error and the next frame follows. Fatal errors
        always raise.
        """
        self._refuse_two_at_once()
        if boxes_of is None:
            self._need_detector()
        self.forget_tracks()
        self._is_tracking = self._follower is not None
        waiting: deque[Frame] = deque()
        depth = self._mesher.depth if ahead else 1
        try:
            for frame in frames:
                if self._follower is not None and waiting:  # its faces tell where to look in this frame
                    yield from self._finished(waiting.popleft(), on_error)
                with _reported(frame, on_error):
                    if boxes_of is None:
                        self._submit_next(frame)
                    else:
                        image = _picture(frame)
                        self._submit(image, _given(image, boxes_of(frame)))
                    waiting.append(frame)
                while len(waiting) >= depth:
                    yield from self._finished(waiting.popleft(), on_error)
            while waiting:
                yield from self._finished(waiting.popleft(), on_error)
        finally:
            self._is_tracking = False
            self._forget()

    def frame_buffer(self, height: int, width: int) -> NDArray[np.uint8] | None:
        """Return an (H, W, 3) array for the next frame, so that a GPU's runner need not copy it; None on a CPU.

        Two of them take turns: one's pixels last until the buffer of the frame after the next is asked for.
        """
        return self._mesher.frame_buffer(height, width)

    def forget_tracks(self) -> None:
        """Start tracking anew, with another film or camera; a `stream` does so itself."""
        if self._follower is not None:
            self._follower.forget()

    @property
    def detections(self) -> int | None:
        """Frames that the detector has looked at while tracking; None without tracking."""
        return None if self._follower is None else self._follower.detections

    def _finished(self, frame: Frame, on_error: ErrorHandler | None) -> Iterator[tuple[Frame, list[FaceMesh]]]:
        """Yield the frame submitted first, nothing if it failed."""
        faces = None
        with _reported(frame, on_error):
            faces = self._collect()
        if faces is not None:
            yield frame, faces

    def _submit_next(self, frame: Frame | NDArray[np.uint8]) -> None:
        """Start on a frame whose faces are to be found."""
        image = _picture(frame)
        if self._follower is None:
            self._submit(image, self._detect(image))
        else:
            self._follower.begin(image, frame.timestamp_s if isinstance(frame, Frame) else None)
            self._in_flight.append(_Submitted(image, None, [], False))

    def _detect(self, image: NDArray[np.uint8]) -> Detections:
        """Find the faces of the next frame; a detector on the mesher's device uploads it for both."""
        detector = self._need_detector()
        on_device = device_detector(detector)
        return detector(image) if on_device is None else on_device(image, self._mesher.next_frame(image))

    def _submit(self, image: NDArray[np.uint8], found: Detections) -> None:
        matrices = [detection_crop(self.family, found, number) for number in range(len(found))]
        self._mesher.submit(image, matrices)
        self._in_flight.append(_Submitted(image, matrices, found.scores.tolist(), found.rolls_deg is not None))

    def _collect(self) -> list[FaceMesh]:
        submitted = self._in_flight.popleft()
        if self._follower is not None and submitted.matrices is None:
            found = self._follower.finish()
        else:
            looks = self._second_look(submitted.image, self._mesher.collect(), submitted.matrices or [])
            found = [_face_mesh(look, score) for look, score in zip(looks, submitted.scores, strict=True)]
        found = [found[number] for number in sure_faces([face.confidence for face in found], submitted.turned)]
        least = self._min_confidence or 0.0
        kept = [face for face in found if face.confidence is None or face.confidence >= least]
        self.left_out += len(found) - len(kept)
        return kept

    def _need_detector(self) -> Detector:
        if self._detector is None:
            raise FaceMeshError("this pipeline has no detector: make it with YuNetDetector(), or call from_boxes()")
        return self._detector

    def _refuse_two_at_once(self) -> None:
        if self._in_flight or self._is_tracking:
            raise FaceMeshError(
                "a stream() of this pipeline is under way: "
                "finish or close it before the next call, or make another pipeline"
            )

    def _forget(self) -> None:
        """Whatever ended a call, the next one starts afresh."""
        self._in_flight.clear()
        self._mesher.discard()


@dataclass(frozen=True, eq=False)
class _Submitted:
    """A frame that the mesher has."""

    image: NDArray[np.uint8]
    matrices: list[NDArray[np.float64]] | None  # None: the follower has them
    scores: list[float]
    turned: bool  # by the detector, to find its faces


def _face_mesh(look: Look, score: float) -> FaceMesh:
    vertices, landmarks, confidence = look.face
    return FaceMesh(vertices, landmarks, look.box_xyxy, score, look.pose, confidence)


@contextmanager
def _reported(frame: Frame, on_error: ErrorHandler | None) -> Iterator[None]:
    """Hand errors within to ``on_error``. Fatal ones are raised: no other frame would succeed."""
    try:
        yield
    except FaceMeshError as error:
        if on_error is None or error.is_fatal:
            raise
        on_error(FaceMeshError(f"{frame.source}: {error}"))


def _check_min_confidence(wanted: float | None, spec: ModelSpec) -> None:
    """Raise `FaceMeshError` for a least confidence outside 0..1, or that this model cannot be held to."""
    if wanted is None:
        return
    if not 0 <= wanted <= 1:
        raise FaceMeshError(f"min_confidence must be from 0 to 1, is {wanted}; give a probability such as 0.5")
    if spec.confidence is None:
        raise FaceMeshError(
            f"min_confidence (--min-confidence) needs a model that tells its confidence, {spec.name} does not; "
            "leave it out, or fit one with 'python -m training fit-confidence'"
        )


def _picture(frame: Frame | NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = frame.image if isinstance(frame, Frame) else frame
    try:
        check_image(image)
    except ValueError as error:
        raise FaceMeshError(f"{error}: runtime.sources.photos.read_photo reads files so") from None
    return image


def _given(image: NDArray[np.uint8], boxes_xyxy: ArrayLike, scores: ArrayLike | None = None) -> Detections:
    """Return known boxes as detections; raise `FaceMeshError` if they cannot be boxes of this picture."""
    boxes = check_boxes(boxes_xyxy, image.shape[1::-1])
    confidences = np.ones(len(boxes)) if scores is None else real_numbers(scores, "scores")
    if confidences.shape != (len(boxes),):
        raise FaceMeshError(f"scores must be ({len(boxes)},), one per box, are {confidences.shape}")
    if scores is not None and not np.isfinite(confidences).all():
        raise FaceMeshError("scores must be finite, are not; leave them out where they are not known")
    return Detections(boxes, confidences)
