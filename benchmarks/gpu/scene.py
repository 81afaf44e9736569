"""The scene of all parts of `benchmarks.gpu.gpu_report`: a picture, faces in it, a position map, and a timed device."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.cuda.errors import CudaError
from runtime.cuda.interface import Cuda, Event, Graph, Stream
from runtime.cuda.open_cuda import open_cuda
from runtime.errors import FaceMeshError
from runtime.families.family import Family
from runtime.models.shipped import SHIPPED_PICTURE
from runtime.models.spec import ModelSpec

HEIGHT, WIDTH = 720, 1280
NO_KERNELS = "runtime._native has no CUDA kernels for this device: install again where the CUDA toolkit (nvcc) is"


class PartSkipped(FaceMeshError):
    """A part that this machine cannot do; this is no failure."""


def frame_720p() -> NDArray[np.uint8]:
    """Return a picture (720, 1280, 3) uint8 BGR with texture everywhere."""
    photo = cv2.imread(str(SHIPPED_PICTURE))
    square = cv2.resize(photo, (WIDTH, WIDTH), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(square[100 : 100 + HEIGHT])


def face_matrices(count: int, family: Family) -> list[NDArray[np.float64]]:
    """Return crop matrices (2, 3) float64 of faces of 150 to 250 px all over that frame."""
    rng = np.random.default_rng(0)
    sides = rng.uniform(150, 250, count)
    places = rng.uniform((0, 0), (WIDTH - 250, HEIGHT - 250), (count, 2))
    matrices = []
    for side, (x, y) in zip(sides, places, strict=True):
        matrices.append(family.crop_matrix(np.array((x, y, x + side, y + side))))
    return matrices


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
