"""The scene of all parts of `benchmarks.gpu.gpu_report`: a picture, faces in it, a position map, and a timed device."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.settings import SMALL_FACES
from runtime.cuda.errors import CudaError
from runtime.cuda.interface import Cuda, Event, Graph, Stream
from runtime.cuda.open_cuda import open_cuda
from runtime.errors import FaceMeshError
from runtime.families.family import Family
from runtime.models.shipped import SHIPPED_PICTURE
from runtime.models.spec import ModelSpec
from runtime.sources.photos import read_photo

HEIGHT, WIDTH = 720, 1280
NO_KERNELS = "runtime._native has no CUDA kernels for this device: install again where the CUDA toolkit (nvcc) is"


class PartSkipped(FaceMeshError):
    """A part that this machine cannot do; this is no failure."""


def frame(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Return a picture (height, width, 3) uint8 BGR with texture everywhere; it is wider than high."""
    photo = read_photo(SHIPPED_PICTURE)
    square = cv2.resize(photo, (width, width), interpolation=cv2.INTER_CUBIC)
    top = width * 100 // WIDTH
    return np.ascontiguousarray(square[top : top + height])


def face_matrices(
    count: int,
    family: Family,
    height: int = HEIGHT,
    width: int = WIDTH,
    sides: tuple[float, float] = SMALL_FACES,
) -> list[NDArray[np.float64]]:
    """Return crop matrices (2, 3) float64 of faces between two ``sides`` px all over that frame."""
    rng = np.random.default_rng(0)
    largest = sides[1]
    places = rng.uniform((0, 0), (width - largest, height - largest), (count, 2))
    matrices = []
    for side, (x, y) in zip(rng.uniform(*sides, count), places, strict=True):
        matrices.append(family.crop_matrix(np.array((x, y, x + side, y + side))))
    return matrices


def mean_landmarks(spec: ModelSpec, family: Family, matrices: list[NDArray[np.float64]]) -> list[NDArray[np.float32]]:
    """Return the mean face in each crop, landmarks (68, 3) float32 frame px; none without a landmark channel."""
    if not spec.input.landmark_channel:
        return []
    topology = family.topology
    points = topology.canonical_vertices[topology.landmark_vertices].astype(np.float64)
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    points[:, :2] -= (low + high) / 2
    points *= spec.input.size / spec.crop_scale / (high - low).max()
    points[:, :2] += (spec.input.size - 1) / 2
    inverses = (np.linalg.inv(matrix[:, :2]) for matrix in matrices)
    return [
        np.column_stack([(points[:, :2] - matrix[:, 2]) @ inverse.T, points[:, 2]]).astype(np.float32)
        for matrix, inverse in zip(matrices, inverses, strict=True)
    ]


def face_map(spec: ModelSpec) -> NDArray[np.float32]:
    """Return a position map of a dome over the whole crop, float32 (3, M, M) or (M, M, 3) by the spec's layout."""
    side = max(spec.output_shape)
    across = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(across, across)
    planes = np.stack([x, y, np.sin(np.pi * x) * np.sin(np.pi * y)]) * spec.input.size / spec.output.scale
    return np.ascontiguousarray(planes if spec.input.layout == "NCHW" else planes.transpose(1, 2, 0), np.float32)


class TimedDevice:
    """The device with a stream and two events.

    A context manager: its end closes them and everything allocated through them.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> TimedDevice:
        self.cuda: Cuda = self._stack.enter_context(open_cuda())
        self.stream: Stream = self.cuda.stream()
        self.first: Event = self.cuda.event(timing=True)
        self.last: Event = self.cuda.event(timing=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def timed(self, enqueue: Callable[[], object]) -> Callable[[], float]:
        """Return a sample of the device's time for the work, in milliseconds."""

        def sample() -> float:
            self.first.record(self.stream)
            enqueue()
            self.last.record(self.stream)
            self.last.synchronize()
            return self.last.elapsed_ms(self.first)

        return sample

    def graph(self, enqueue: Callable[[], object]) -> Graph | None:
        """Capture the work as a graph; None with a warning if this is not possible."""
        enqueue()
        self.stream.synchronize()  # loaded, so that it can be captured
        try:
            return self.cuda.capture(self.stream, enqueue)
        except CudaError as error:
            if error.lost:
                raise
            warnings.warn(f"no CUDA graph can be made ({error})", RuntimeWarning, stacklevel=2)
            return None

    def uploaded(self, array: NDArray) -> int:
        """Copy an array to the device and return its address there."""
        content = np.ascontiguousarray(array).view(np.uint8).ravel()
        device = self.cuda.device_buffer(content.nbytes)
        with self.cuda.host_buffer(content.nbytes) as host:
            host.array[:] = content
            self.cuda.upload(device.pointer, host.pointer, content.nbytes, self.stream)
            self.stream.synchronize()
        return device.pointer
