"""From frame to mesh on the GPU: upload, crop, network, decode and download in one CUDA graph, two frames in turn."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.errors import CudaError
from runtime.cuda.interface import Cuda, Graph
from runtime.cuda.staged_buffer import StagedBuffer
from runtime.families.family import GpuDecoder
from runtime.geometry.crop import check_image, check_matrix
from runtime.inference.interface import Landmarks, MeshedFace, landmarks_for
from runtime.inference.trt.engine import Engine
from runtime.inference.trt.network_stream import NetworkStream
from runtime.inference.trt.result_buffer import ResultBuffer
from runtime.types import LANDMARK_COUNT

MATRIX_NBYTES, POINT_NBYTES = 48, 12
LANDMARKS_NBYTES = LANDMARK_COUNT * POINT_NBYTES


class _Batch(NamedTuple):
    """At most ``max_batch`` faces."""

    matrices: Sequence[NDArray[np.float64]]
    landmarks: Sequence[NDArray[np.float32]]  # none for a network without a landmark channel


class GpuMesher:
    """`runtime.inference.interface.Mesher` on the device: the host writes matrices and reads points, nothing else.

    Two frame slots take turns, so that a frame is uploaded while the one before is computed. When a slot meets a batch
    size for the second time, its work is captured as a CUDA graph and replayed from then on.
    """

    depth = 2

    def __init__(
        self,
        engine: Engine,
        cuda: Cuda,
        decoder: GpuDecoder,
        max_batch: int,
        *,
        blocking: bool = False,
        mapped: bool = False,
    ) -> None:
        """Allocate for ``max_batch`` faces; ``blocking`` waits asleep, ``mapped`` shares memory with the host."""
        shared = _SharedBuffers(engine, cuda, decoder, max_batch, blocking, mapped)
        self._slots: tuple[_FrameSlot, ...] = _FrameSlot(shared), _FrameSlot(shared)
        self._max_batch = max_batch
        self._spec = engine.spec
        self._in_flight: deque[tuple[_FrameSlot, list[_Batch]]] = deque()
        self._collected = self._slots[0]  # of the frame collected last; its pixels stay until the slot's next frame

    def submit(
        self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]], landmarks: Landmarks = ()
    ) -> None:
        if len(self._in_flight) == self.depth:
            raise RuntimeError(f"{self.depth} frames are in flight: collect one first")
        slot = self._next_slot()
        self._in_flight.append((slot, self._start(slot, image, matrices, landmarks)))
        self._slots = self._slots[::-1]

    def collect(self) -> list[MeshedFace]:
        self._collected, batches = self._in_flight.popleft()
        return _finish(self._collected, batches)

    def again(
        self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]], landmarks: Landmarks = ()
    ) -> list[MeshedFace]:
        return _finish(self._collected, self._start(self._collected, image, matrices, landmarks))

    def discard(self) -> None:
        self._in_flight.clear()

    def frame_buffer(self, height: int, width: int) -> NDArray[np.uint8]:
        return self._next_slot().frame(height, width)

    def close(self) -> None:
        for slot in self._slots:
            slot.close()
        self._slots = ()
        self._in_flight.clear()

    def _start(
        self,
        slot: _FrameSlot,
        image: NDArray[np.uint8],
        matrices: Sequence[NDArray[np.float64]],
        landmarks: Landmarks,
    ) -> list[_Batch]:
        """Set ``slot`` to work on the first batch of a frame's faces; return all batches."""
        known = landmarks_for(self._spec, matrices, landmarks)
        slot.load(image, matrices)
        most = self._max_batch
        starts = range(0, len(matrices), most)
        batches = [_Batch(matrices[start : start + most], known[start : start + most]) for start in starts]
        if batches:
            slot.start(batches[0])
        return batches

    def _next_slot(self) -> _FrameSlot:
        if not self._slots:  # its memory is gone: touching it would end the process
            raise RuntimeError("the runner is closed: open another, and make a pipeline with that")
        return self._slots[0]


@dataclass
class _SharedBuffers:
    """The things that both slots use."""

    engine: Engine
    cuda: Cuda
    decoder: GpuDecoder
    max_batch: int
    blocking: bool
    mapped: bool
    capturing: bool = True  # until a capture fails

    def stop_capturing(self, error: CudaError) -> None:
        self.capturing = False
        warnings.warn(
            f"no CUDA graph can be made ({error}); every step is launched by itself, which takes longer",
            RuntimeWarning,
            stacklevel=2,
        )


class _FrameSlot:
    """The memory and stream of one frame, from its pixels to its points."""

    def __init__(self, shared: _SharedBuffers) -> None:
        engine, cuda, most = shared.engine, shared.cuda, shared.max_batch
        count = shared.decoder.point_count
        self._shared = shared
        # Matrices first: the landmarks behind them are there for a network with a landmark channel alone.
        self._landmarks_start = most * MATRIX_NBYTES
        self._has_channel = engine.spec.input.landmark_channel
        landmarks_nbytes = most * LANDMARKS_NBYTES if self._has_channel else 0
        self._params = StagedBuffer(cuda, self._landmarks_start + landmarks_nbytes, shared.mapped)
        self._matrices = self._params.array[: self._landmarks_start].view(np.float64).reshape(most, 2, 3)
        self._landmarks = self._params.array[self._landmarks_start :].view(np.float32).reshape(-1, LANDMARK_COUNT, 3)
        self._input = cuda.device_buffer(most * engine.input_nbytes)
        self._output = cuda.device_buffer(most * engine.output_nbytes)
        self._result = ResultBuffer(engine, cuda, most, count * POINT_NBYTES, shared.mapped)
        self._points = self._result.faces.view(np.float32).reshape(most, count, 3)
        addresses = engine.addresses(self._input.pointer, self._output.pointer, self._result.confidence_pointer)
        self._network = NetworkStream(engine, cuda, addresses, shared.blocking)
        self._network.context(engine.padded(1, most))  # now, so that the first frame need not wait for it
        self._frame: StagedBuffer | None = None
        self._pixels = np.empty((0, 0, 3), np.uint8)  # the frame's memory on the host
        self._met: set[int] = set()  # sizes of batch that this size of frame has come with
        self._graphs: dict[int, Graph] = {}

    def load(self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]]) -> None:
        """Copy the parts under the crops to the frame's memory, unless the picture lies there already."""
        check_image(image)
        height, width = image.shape[:2]
        pixels = self.frame(height, width)
        if _address(image) == _address(pixels) and image.strides == pixels.strides:
            return
        if np.may_share_memory(image, pixels):  # a part of it, which copying would change on the way
            image = image.copy()
        for matrix in matrices:
            region = crop_region(matrix, self._shared.engine.spec.input.size, height, width)
            pixels[region] = image[region]

    def start(self, faces: _Batch) -> None:
        """Set the device to work on some faces of the frame."""
        batch = self._shared.engine.padded(len(faces.matrices), self._shared.max_batch)
        for row in range(batch):
            face = min(row, len(faces.matrices) - 1)
            self._matrices[row] = faces.matrices[face]
            if self._has_channel:
                self._landmarks[row] = faces.landmarks[face]
        self._network.context(batch)  # made where it is not there yet, which must not happen while capturing
        graph = self._graphs.get(batch) or self._capture(batch)
        if graph is None:
            self._enqueue(batch)
        else:
            graph.launch(self._network.stream)
        self._network.mark()

    def finish(self, n: int) -> list[MeshedFace]:
        """Wait, and return the first ``n`` faces of the work started."""
        self._network.wait()
        count, found = self._shared.decoder.vertex_count, self._result.confidence
        confidence = repeat(None) if found is None else found.tolist()
        return [
            MeshedFace(points[:count].copy(), points[count:].copy(), probability)
            for points, probability in zip(self._points[:n], confidence, strict=False)
        ]

    def frame(self, height: int, width: int) -> NDArray[np.uint8]:
        """The frame's memory, for frames of this size."""
        if self._pixels.shape[:2] != (height, width):
            self._resize(height, width)
        return self._pixels

    def close(self) -> None:
        self._network.close()
        self._drop_graphs()

    def _enqueue(self, batch: int) -> None:
        """Queue upload, crop, network, decode and download."""
        shared, stream = self._shared, self._network.stream
        engine, spec = shared.engine, shared.engine.spec.input
        height, width = self._pixels.shape[:2]
        low, high = spec.value_range
        assert self._frame is not None  # `submit` has filled it
        assert shared.cuda.kernels is not None
        self._frame.upload(self._pixels.nbytes, stream)
        if self._has_channel:
            self._params.upload(self._landmarks_start + batch * LANDMARKS_NBYTES, stream)
        else:
            self._params.upload(batch * MATRIX_NBYTES, stream)
        shared.cuda.kernels.crop(
            frame=self._frame.pointer,
            height=height,
            width=width,
            row_stride=3 * width,
            matrices=self._params.pointer,
            n=batch,
            out=self._input.pointer,
            size=spec.size,
            channels_last=spec.layout == "NHWC",
            swap_colours=spec.colour_order == "RGB",
            low=low,
            high=high,
            half=engine.input_dtype == np.float16,
            stream=stream.handle,
            landmarks=self._params.pointer + self._landmarks_start if self._has_channel else 0,
        )
        self._network.context(batch).enqueue(stream)
        shared.decoder.enqueue(self._output.pointer, self._params.pointer, batch, self._result.faces_pointer, stream)
        self._result.download(batch, stream)

    def _capture(self, batch: int) -> Graph | None:
        """Capture the work as a CUDA graph when a batch size is seen for the second time."""
        if batch not in self._met or not self._shared.capturing:
            self._met.add(batch)
            return None
        try:
            self._graphs[batch] = self._shared.cuda.capture(self._network.stream, lambda: self._enqueue(batch))
        except CudaError as error:
            if error.lost:
                raise
            self._shared.stop_capturing(error)
        return self._graphs.get(batch)

    def _resize(self, height: int, width: int) -> None:
        """Drop the graphs: they hold sizes and addresses. Keep the memory for smaller frames: locking pages is slow."""
        self._network.stream.synchronize()  # a frame that nobody collected may be at work
        self._drop_graphs()
        self._pixels = self._pixels[:0, :0]
        nbytes = 3 * height * width
        if self._frame is None or nbytes > self._frame.nbytes:
            if self._frame is not None:
                self._frame.close()
                self._frame = None
            self._frame = StagedBuffer(self._shared.cuda, nbytes, self._shared.mapped)
        self._pixels = self._frame.array[:nbytes].reshape(height, width, 3)

    def _drop_graphs(self) -> None:
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()
        self._met.clear()


def _finish(slot: _FrameSlot, batches: list[_Batch]) -> list[MeshedFace]:
    """Wait for the batch that was started, and run the others."""
    faces: list[MeshedFace] = []
    for number, batch in enumerate(batches):
        if number > 0:
            slot.start(batch)
        faces += slot.finish(len(batch.matrices))
    return faces


def crop_region(matrix: NDArray[np.float64], size: int, height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns of a (height, width) frame under a crop of ``size`` px, with a pixel to spare.

    ``matrix`` is (2, 3), frame px -> crop px. Raises `ValueError` for one that is singular or not finite.
    """
    check_matrix(matrix)
    (a, b, x), (c, d, y) = matrix.tolist()
    determinant = a * d - b * c
    corners = [(u - x, v - y) for u in (-0.5, size - 0.5) for v in (-0.5, size - 0.5)]
    xs = [(d * u - b * v) / determinant for u, v in corners]
    ys = [(a * v - c * u) / determinant for u, v in corners]
    return _span(ys, height), _span(xs, width)


def _span(ends: list[float], length: int) -> slice:
    """Return the pixels between two ends, one more for bilinear sampling and one for rounding."""
    first, last = max(0.0, min(ends) - 1), min(length - 1.0, max(ends) + 2)
    return slice(math.floor(first), math.ceil(last) + 1) if first <= last else slice(0)


def _address(array: NDArray[np.uint8]) -> int:
    return array.__array_interface__["data"][0]
