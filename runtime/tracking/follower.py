"""Faces of a film: the next crop comes from the last landmarks, the detector looks only now and then."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.interface import DeviceFrame
from runtime.detection.interface import Detector, device_detector
from runtime.families.family import Family
from runtime.geometry.crop import landmark_box
from runtime.geometry.pose import PoseEstimator
from runtime.inference.detection_crop import detection_crop, sure_faces
from runtime.inference.interface import MeshedFace, Mesher
from runtime.inference.second_look import Look, SecondLook
from runtime.tracking.clock import Clock
from runtime.tracking.options import Tracking
from runtime.tracking.scene import Scene
from runtime.tracking.track import SURE, Track
from runtime.tracking.tracker import Tracker
from runtime.types import Detections, FaceMesh

SAME_SHAPE = 0.02  # relative difference of two frames' aspect ratios


class FaceFollower:
    """Tracks the faces of one source. `begin` starts on a frame, `finish` returns its faces; one frame at a time."""

    def __init__(
        self,
        mesher: Mesher,
        second_look: SecondLook,
        family: Family,
        detector: Detector,
        settings: Tracking,
        has_confidence: bool,
    ) -> None:
        """Follow faces through ``mesher``; ``has_confidence``: its network tells when a crop holds no face."""
        self.detections = 0  # frames that the detector has looked at
        self._mesher = mesher
        self._second_look = second_look
        self._family = family
        self._detector = detector
        self._device_detector = device_detector(detector)
        self._settings = settings
        self._has_confidence = has_confidence
        self._pose = PoseEstimator(family.topology)
        self.forget()

    def forget(self) -> None:
        """Start anew, with a film that has nothing to do with the one before."""
        self._tracker = Tracker(self._family, self._settings, self._has_confidence)
        self._clock = Clock()
        self._scene = Scene()
        self._size_wh: tuple[int, int] | None = None

    def begin(self, image: NDArray[np.uint8], timestamp_s: float | None) -> None:
        """Start on a frame (H, W, 3); the detector, where it is due, looks while a GPU computes the tracked faces."""
        self._clock.tick(timestamp_s)
        self._resize(image.shape[1::-1])
        self._image = image
        self._crops = self._tracker.crops(self._clock.time_s, image.shape[1::-1])
        is_due = self._tracker.wants_detection(self._clock.time_s, self._clock.step_s)
        frame = self._mesher.next_frame(image) if is_due and self._device_detector is not None else None
        if frame is not None:
            frame.start()  # before the crops, which need no upload of their own then
        self._mesher.submit(image, self._crops, self._tracker.landmarks())
        try:
            self._scene.look(image)
            self._found = self._detect(frame) if is_due else None
        except BaseException:
            self._mesher.discard()
            raise

    def finish(self) -> list[FaceMesh]:
        """Return the faces of the frame, by the age of their tracks."""
        meshed = self._mesher.collect()
        tracker, clock = self._tracker, self._clock
        count = len(tracker.seen)
        looks = self._second_look(self._image, meshed[:count], self._crops[:count])
        back = [self._sure_look(face, crop) for face, crop in zip(meshed[count:], self._crops[count:], strict=True)]
        wants_detection = tracker.see(
            looks, back, self._image, clock.time_s, clock.step_s, clock.has_jumped, self._scene.is_cut
        )
        if self._found is None and wants_detection:
            on_device = self._device_detector is not None
            self._found = self._detect(self._mesher.last_frame(self._image) if on_device else None)
        if self._found is not None:
            self._meet(self._found)
        return [self._face(track) for track in tracker.seen]

    def _detect(self, frame: DeviceFrame | None) -> Detections:
        self.detections += 1
        if self._device_detector is None:
            return self._detector(self._image)
        return self._device_detector(self._image, frame)

    def _resize(self, size_wh: tuple[int, int]) -> None:
        before, self._size_wh = self._size_wh, size_wh
        if before is None or before == size_wh:
            return
        factor = size_wh[0] / before[0]
        is_same_shape = abs(size_wh[1] / before[1] / factor - 1) < SAME_SHAPE
        self._tracker.rescale(factor if is_same_shape else None)

    def _sure_look(self, face: MeshedFace, crop: NDArray[np.float64]) -> Look | None:
        """Return the look at the place where a lost face may be, None if the network is not sure of it."""
        if face.confidence is None or face.confidence < SURE:
            return None
        (look,) = self._second_look(self._image, [face], [crop])
        return look

    def _meet(self, found: Detections) -> None:
        """Mesh the detections that no track accounts for, and settle who they are."""
        clock = self._clock
        chosen = self._tracker.match(found, clock.time_s)
        looks, scores = [], []
        if chosen:
            crops = [detection_crop(self._family, found, number) for number in chosen]
            looks = self._second_look(self._image, self._mesher.again(self._image, crops), crops)
            kept = sure_faces([look.face.confidence for look in looks], found.rolls_deg is not None)
            looks, scores = [looks[number] for number in kept], found.scores[chosen][kept].tolist()
        self._tracker.admit(looks, scores, self._image, clock.time_s, clock.step_s, self._scene.is_cut)

    def _face(self, track: Track) -> FaceMesh:
        look = track.look
        vertices, landmarks = track.smooth(self._clock.step_s)
        box, pose = look.box_xyxy, look.pose
        if self._settings.smoothing is not None:
            box = landmark_box(landmarks)
            pose = self._pose(landmarks)
        return FaceMesh(vertices, landmarks, box, track.score, pose, look.face.confidence, track.number)
