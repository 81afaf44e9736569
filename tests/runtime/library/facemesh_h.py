"""Ctypes over ``runtime/native/include/facemesh.h``: the library as another language sees it."""

from __future__ import annotations

import ctypes as c
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.types import FaceMesh, Pose

LANDMARKS = 68
OK, BAD_ARGUMENT, BAD_FILE, NO_BACKEND, FAILED = 0, -1, -2, -3, -4


class Image(c.Structure):
    _fields_ = [("pixels", c.c_void_p), ("width", c.c_int), ("height", c.c_int), ("row_bytes", c.c_ssize_t),
                ("colours", c.c_int)]  # fmt: skip


class Detection(c.Structure):
    _fields_ = [("box", c.c_float * 4), ("score", c.c_float), ("roll", c.c_float)]


class Face(c.Structure):
    _fields_ = [("landmarks", c.c_float * 3 * LANDMARKS), ("box", c.c_float * 4), ("yaw", c.c_float),
                ("pitch", c.c_float), ("roll", c.c_float), ("score", c.c_float), ("confidence", c.c_float),
                ("track", c.c_int), ("vertices", c.c_void_p)]  # fmt: skip


class ModelParams(c.Structure):
    _fields_ = [("threads", c.c_int), ("max_batch", c.c_int), ("spec", c.c_char_p), ("topology", c.c_char_p),
                ("landmarks_from", c.c_void_p), ("reuse_landmarks", c.c_int)]  # fmt: skip


class DetectorParams(c.Structure):
    _fields_ = [("score_threshold", c.c_float), ("side", c.c_int), ("threads", c.c_int), ("box_map", c.c_char_p)]


class TrackerParams(c.Structure):
    _fields_ = [
        ("max_faces", c.c_int),
        ("redetect_s", c.c_float),
        ("vertices", c.c_int),
        ("smooth", c.c_int),
        ("cutoff_hz", c.c_float),
        ("beta", c.c_float),
        ("speed_cutoff_hz", c.c_float),
    ]


# Function -> type of its result; the others return int.
RESULTS = {
    "error": c.c_char_p,
    "version": c.c_char_p,
    "backends": c.c_char_p,
    "warnings": c.c_char_p,
    "model_default_params": ModelParams,
    "detector_default_params": DetectorParams,
    "tracker_default_params": TrackerParams,
    "model_open": c.c_void_p,
    "tracker_new": c.c_void_p,
    "decoder_open": c.c_void_p,
    "detector_open": c.c_void_p,
    "input_count": c.c_size_t,
    "output_count": c.c_size_t,
    "triangles": c.POINTER(c.c_int32),
    "texture_coordinates": c.POINTER(c.c_float),
    "landmark_vertices": c.POINTER(c.c_int32),
}


class Library:
    """The functions without their prefix; handles come as integers and go as pointers."""

    def __init__(self, path: Path) -> None:
        self._library = c.CDLL(str(path))

    def __getattr__(self, name: str):
        function = getattr(self._library, f"facemesh_{name}")
        function.restype = RESULTS.get(name, c.c_int)

        def call(*args):
            return function(*(c.c_void_p(arg) if isinstance(arg, int) and arg > 2**31 else arg for arg in args))

        return call

    def message(self) -> str:
        return self.error().decode()


def image_of(picture: NDArray[np.uint8], colours: int = 0) -> Image:
    """Describe a picture (H, W, 3), which must stay alive."""
    height, width = picture.shape[:2]
    return Image(picture.ctypes.data, width, height, picture.strides[0], colours)


def floats(array: NDArray[np.float32]):
    return array.ctypes.data_as(c.POINTER(c.c_float))


def doubles(array: NDArray[np.float64]):
    return array.ctypes.data_as(c.POINTER(c.c_double))


class Faces:
    """Room for ``count`` faces with ``vertex_count`` vertices each; 0 leaves the vertices out."""

    def __init__(self, count: int, vertex_count: int = 0) -> None:
        self.array = (Face * count)()
        self.vertices = np.zeros((count, vertex_count, 3), np.float32)
        for face, vertices in zip(self.array, self.vertices, strict=True):
            face.vertices = vertices.ctypes.data if vertex_count else None

    def meshes(self, count: int) -> list[FaceMesh]:
        return [self._mesh(number) for number in range(count)]

    def _mesh(self, number: int) -> FaceMesh:
        face = self.array[number]
        landmarks, box = np.array(face.landmarks, np.float32), np.array(face.box, np.float32)
        confidence = None if face.confidence < 0 else face.confidence
        pose = Pose(face.yaw, face.pitch, face.roll)
        return FaceMesh(self.vertices[number].copy(), landmarks, box, face.score, pose, confidence, face.track or None)
