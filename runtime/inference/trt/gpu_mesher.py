"""From frame to mesh on the GPU: crop, network and decode in one CUDA graph, two frames in turn."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.cuda.errors import CudaError
from runtime.cuda.interface import Cuda, DeviceFrame, Event, Graph, Stream
from runtime.cuda.staged_buffer import StagedBuffer
from runtime.families.family import GpuDecoder
from runtime.inference.interface import Landmarks, MeshedFace, landmarks_for
from runtime.inference.trt.face_results import FaceResults, ResultLayout, SpareBlocks
from runtime.inference.trt.frame_memory import FrameMemory
from runtime.inference.trt.mesh_engine import MeshEngine
from runtime.inference.trt.network_stream import NetworkStream
from runtime.types import LANDMARK_COUNT

MATRIX_NBYTES, LANDMARKS_NBYTES = 48, LANDMARK_COUNT * 12
VIEW_NBYTES = -(-native.FRAME_VIEW_NBYTES // 16) * 16
BLACK = np.zeros((8, 8, 3), np.uint8)


class _Batch(NamedTuple):
    """At most ``max_batch`` faces."""

    matrices: Sequence[NDArray[np.float64]]
    landmarks: Sequence[NDArray[np.float32]]  # none for a network without a landmark channel


class GpuMesher:
    """`runtime.inference.interface.Mesher` on the device: the host writes matrices and reads points, nothing else.

    Two frame slots take turns, so that a frame is uploaded while the one before is computed. `warm_up` captures the
    work of every size of batch as a CUDA graph. A graph reads place and size of the frame on the device, so it serves
    all frames.
    """

    depth = 2

    def __init__(
        self,
        engine: MeshEngine,
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
        self._make_current = cuda.make_current
        self._max_batch = max_batch
        self._spec = engine.spec
        self._in_flight: deque[tuple[_FrameSlot, list[_Batch]]] = deque()
        self._collected = self._slots[0]  # of the frame collected last; its pixels stay until the slot's next frame
        self._shown: NDArray[np.uint8] | None = None  # the next frame, to a detector

    def warm_up(self, sizes: Iterable[int] | None = None, height: int = 0, width: int = 0) -> None:
        """Make contexts and graphs for these numbers of faces, and memory for frames up to this size.

        Otherwise the first frame with another number of faces would wait for that. ``sizes`` None: all of them. Raises
        `FaceMeshError` if the library makes no context.
        """
        self._make_current()
        for slot in self._slots:
            for count in range(1, self._max_batch + 1) if sizes is None else sizes:
                slot.prepare(count)
            if height and width:
                slot.frame(height, width)

    def submit(
        self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]], landmarks: Landmarks = ()
    ) -> None:
        if len(self._in_flight) == self.depth:
            raise RuntimeError(f"{self.depth} frames are in flight: collect one first")
        slot = self._next_slot()
        if self._shown is not image:
            slot.forget()
        self._shown = None
        self._in_flight.append((slot, self._start(slot, image, matrices, landmarks)))
        self._slots = self._slots[::-1]

    def collect(self) -> list[MeshedFace]:
        self._make_current()
        self._collected, batches = self._in_flight.popleft()
        return _finish(self._collected, batches)

    def again(
        self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]], landmarks: Landmarks = ()
    ) -> list[MeshedFace]:
        return _finish(self._collected, self._start(self._collected, image, matrices, landmarks))

    def discard(self) -> None:
        self._in_flight.clear()
        self._shown = None

    def frame_buffer(self, height: int, width: int) -> NDArray[np.uint8]:
        self._make_current()
        return self._next_slot().frame(height, width)

    def next_frame(self, image: NDArray[np.uint8]) -> DeviceFrame:
        self._make_current()
        slot = self._next_slot()
        slot.forget()
        self._shown = image
        return _SlotFrame(slot, image)

    def last_frame(self, image: NDArray[np.uint8]) -> DeviceFrame:
        return _SlotFrame(self._collected, image)

    def close(self) -> None:
        for slot in self._slots:
            slot.wait()
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
        self._make_current()
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


class _SharedBuffers:
    """The things that both slots use."""

    def __init__(
        self, engine: MeshEngine, cuda: Cuda, decoder: GpuDecoder, max_batch: int, blocking: bool, mapped: bool
    ) -> None:
        self.engine = engine
        self.cuda = cuda
        self.decoder = decoder
        self.max_batch = max_batch
        self.blocking = blocking
        self.mapped = mapped
        self.capturing = True  # until a capture fails
        self.layout = ResultLayout(engine, decoder, max_batch)
        self.spares = SpareBlocks(cuda, self.layout)

    def stop_capturing(self, reason: str) -> None:
        self.capturing = False
        warnings.warn(
            f"no CUDA graph can be made ({reason}); every step is launched by itself, which takes longer",
            RuntimeWarning,
            stacklevel=2,
        )


class _FrameSlot:
    """The memory and stream of one frame, from its pixels to its points."""

    def __init__(self, shared: _SharedBuffers) -> None:
        engine, cuda, most = shared.engine, shared.cuda, shared.max_batch
        self._shared = shared
        # The frame's place and size, then matrices, then landmarks where the network has a channel for them.
        self._has_channel = engine.spec.input.landmark_channel
        matrices_end = VIEW_NBYTES + most * MATRIX_NBYTES
        landmarks_nbytes = most * LANDMARKS_NBYTES if self._has_channel else 0
        self._params = StagedBuffer(cuda, matrices_end + landmarks_nbytes, shared.mapped)
        numbers = self._params.array
        self._view_address = numbers.ctypes.data
        self._matrices = numbers[VIEW_NBYTES:matrices_end].view(np.float64).reshape(most, 2, 3)
        self._landmarks = numbers[matrices_end:].view(np.float32).reshape(-1, LANDMARK_COUNT, 3)
        self._matrices_pointer = self._params.pointer + VIEW_NBYTES
        self._landmarks_pointer = self._params.pointer + matrices_end
        self._input = cuda.device_buffer(most * engine.input_nbytes)
        self._output = cuda.device_buffer(most * engine.output_nbytes)
        self._results = FaceResults(cuda, shared.layout, shared.spares, shared.mapped)
        addresses = engine.addresses(self._input.pointer, self._output.pointer, self._results.pointer)
        self._network = NetworkStream(engine, cuda, addresses, shared.blocking)
        self._frame = FrameMemory(cuda, shared.mapped)
        self._uploaded: Event | None = None  # a whole picture
        self._sizes = [0, *(engine.padded(n, most) for n in range(1, most + 1))]  # of the batch, by number of faces
        self._graphs: dict[int, Graph] = {}
        self._whole_size = np.eye(2, 3)
        self.load(BLACK, [])

    def prepare(self, count: int) -> None:
        """Make the context and the graph for ``count`` faces."""
        batch = self._sizes[count]
        context, stream = self._network.context(batch), self._network.stream
        if batch in self._graphs or not self._shared.capturing:
            return
        if reason := context.why_not_capturable(stream):
            self._shared.stop_capturing(reason)
            return
        self._matrices[:] = self._whole_size
        self._enqueue(batch)  # so that the driver has loaded every kernel
        stream.synchronize()
        try:
            self._graphs[batch] = self._shared.cuda.capture(stream, lambda: self._enqueue(batch))
        except CudaError as error:
            if error.lost:
                raise
            self._shared.stop_capturing(str(error))

    def load(self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]]) -> None:
        """Queue the upload of the parts of a picture under the crops, and say what it is."""
        height, width = image.shape[:2]
        frame = self._frame.load(image, matrices, self._shared.engine.spec.input.size, self._network.stream)
        native.pack_frame_view(self._view_address, frame, height, width, 3 * width)

    def load_whole(self, image: NDArray[np.uint8]) -> int:
        """Queue the upload of a whole picture, once for a frame; return its address for the device."""
        address = self._frame.load_whole(image, self._network.stream)
        if self._uploaded is None:
            self._uploaded = self._shared.cuda.event()
        self._uploaded.record(self._network.stream)
        return address

    def hold(self, stream: Stream) -> None:
        """Let another stream wait for the upload."""
        assert self._uploaded is not None  # after `load_whole`
        self._uploaded.hold(stream)

    def forget(self) -> None:
        """Expect another picture."""
        self._frame.forget()

    def start(self, faces: _Batch) -> None:
        """Set the device to work on some faces of the frame."""
        count = len(faces.matrices)
        batch = self._sizes[count]
        for row in range(batch):
            face = min(row, count - 1)
            self._matrices[row] = faces.matrices[face]
            if self._has_channel:
                self._landmarks[row] = faces.landmarks[face]
        graph = self._graphs.get(batch)
        if graph is None:
            self._enqueue(batch)
        else:
            graph.launch(self._network.stream)
        self._results.download(batch, self._network.stream)
        self._network.mark()

    def finish(self, n: int) -> list[MeshedFace]:
        """Wait, and return the first ``n`` faces of the work started."""
        self._network.wait()
        return self._results.take(n)

    def frame(self, height: int, width: int) -> NDArray[np.uint8]:
        """The frame's memory, for frames of this size."""
        return self._frame.fit(height, width, self._network.stream)

    def wait(self) -> None:
        """Wait until the device has left the memory; the contexts go with the engine."""
        self._network.close()

    def close(self) -> None:
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()
        self._shared.spares.close()

    def _enqueue(self, batch: int) -> None:
        """Queue crop, network and decode of the frame that is loaded."""
        shared, stream = self._shared, self._network.stream
        engine, spec = shared.engine, shared.engine.spec.input
        low, high = spec.value_range
        assert shared.cuda.kernels is not None
        nbytes = VIEW_NBYTES + batch * MATRIX_NBYTES
        self._params.upload(self._params.nbytes if self._has_channel else nbytes, stream)
        shared.cuda.kernels.crop(
            view=self._params.pointer,
            frame=0,
            height=0,
            width=0,
            row_stride=0,
            matrices=self._matrices_pointer,
            n=batch,
            out=self._input.pointer,
            out_height=spec.size,
            out_width=spec.size,
            channels_last=spec.layout == "NHWC",
            swap_colours=spec.colour_order == "RGB",
            low=low,
            high=high,
            half=engine.input_dtype == np.float16,
            stream=stream.handle,
            landmarks=self._landmarks_pointer if self._has_channel else 0,
        )
        self._network.context(batch).enqueue(stream)
        results = self._results
        shared.decoder.enqueue(
            self._output.pointer, self._matrices_pointer, batch, results.points_pointer, results.marks_pointer, stream
        )


class _SlotFrame:
    """`runtime.cuda.interface.DeviceFrame` in a slot, whose own faces it is for, too."""

    def __init__(self, slot: _FrameSlot, image: NDArray[np.uint8]) -> None:
        self.height, self.width = image.shape[:2]
        self._slot = slot
        self._image = image
        self._address: int | None = None

    def start(self) -> None:
        if self._address is None:
            self._address = self._slot.load_whole(self._image)

    def upload(self, stream: Stream) -> int:
        self.start()
        assert self._address is not None
        self._slot.hold(stream)
        return self._address


def _finish(slot: _FrameSlot, batches: list[_Batch]) -> list[MeshedFace]:
    """Wait for the batch that was started, and run the others."""
    faces: list[MeshedFace] = []
    for number, batch in enumerate(batches):
        if number > 0:
            slot.start(batch)
        faces += slot.finish(len(batch.matrices))
    return faces
