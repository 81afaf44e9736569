"""YuNet on the GPU, in an engine of TensorRT: reduction, network and choice of faces in one CUDA graph."""

from __future__ import annotations

import atexit
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.cuda.errors import CudaError
from runtime.cuda.interface import Cuda, DeviceFrame, Graph, HostBuffer, Stream
from runtime.cuda.open_cuda import open_cuda
from runtime.cuda.staged_buffer import StagedBuffer
from runtime.detection.fixed_size import CpuSubstitute
from runtime.detection.pictures import HostPicture, reduced_size, turn_matrix
from runtime.detection.yunet_rows import ROW, face_rows
from runtime.errors import FaceMeshError
from runtime.inference.trt.engine import Engine
from runtime.inference.trt.engine_file import EngineFile, read_engine
from runtime.inference.trt.frame_memory import FrameMemory
from runtime.inference.trt.network_stream import NetworkStream
from runtime.models.detector_spec import DetectorSpec, detector_spec

# Places that may pass before any is suppressed, for one download: 116 do for the 14 faces of a group photo. If more
# pass, the outputs themselves are downloaded, so that the faces never depend on the order in which threads came.
MOST_ROWS = 512
ROW_NBYTES = 64  # a row and its place
# Of the memory that goes up and down: the frame's place and size, the matrix, the count with a row's room, the rows.
MATRIX_START, COUNT_START, ROWS_START = 64, 128, 192


class DetectorEngine(Engine):
    """An `Engine` with the tensors of a detector, for one picture at a time."""

    spec: DetectorSpec

    def __init__(self, file: EngineFile) -> None:
        """Load the file as `Engine` does. Raises `FaceMeshError` for the engine of a face network, too."""
        spec = detector_spec(file.spec, file.path)
        super().__init__(file)
        kinds = set(self.output_dtypes.values())
        if self.batches[0] != 1 or len(kinds) != 1:
            problem = f"must take one picture and give one type, takes {self.batches[0]} and gives {len(kinds)}"
            self.close()
            raise FaceMeshError(f"{self.path}: a detector's engine {problem}; build it again with '{file.command}'")
        self.level_dtype = kinds.pop()
        self.levels = {name: spec.outputs[name] for name in spec.levels}  # names and shapes, by stride


def open_gpu_yunet(path: Path, score_threshold: float, sync: str = "spin", trust_engine: bool = False) -> GpuYuNet:
    """Open an engine that its manifest (or ``trust_engine``) lets in. Raises `FaceMeshError`."""
    file = read_engine(path, trust_engine)
    detector_spec(file.spec, path)
    with ExitStack() as stack:
        cuda = stack.enter_context(open_cuda(spin=sync == "spin"))
        engine = stack.enter_context(DetectorEngine(file))
        network = GpuYuNet(engine, cuda, score_threshold, blocking=sync == "block")
        stack.pop_all()
        return network


class GpuYuNet:
    """`runtime.detection.pictures.YuNetNetwork` over an engine, in a stream of its own.

    Searches are crop matrices: reduced and turned pictures are never made on the host. Pictures beyond the engine's
    size are searched by the CPU's network.
    """

    on_device = True

    def __init__(self, engine: DetectorEngine, cuda: Cuda, score_threshold: float, *, blocking: bool = False) -> None:
        """Take over ``engine`` and ``cuda``, and capture the graph; ``blocking`` waits asleep."""
        if cuda.kernels is None:
            problem = "the detector's engine needs kernels for this device, of compute capability 7.5 or newer"
            raise FaceMeshError(f"{engine.path}: {problem}; leave --detector out, the CPU then detects")
        self._kernels = cuda.kernels
        self._engine = engine
        self._cuda = cuda
        self._threshold = score_threshold
        self.size_wh = engine.spec.input.width, engine.spec.input.height
        self.substitute = CpuSubstitute(engine.path, self.size_wh, score_threshold)
        self._lock = Lock()
        self._closed = False
        self._numbers = StagedBuffer(cuda, ROWS_START + MOST_ROWS * ROW_NBYTES, mapped=False)
        numbers = self._numbers.array
        self._view_address = numbers.ctypes.data
        self._matrix = numbers[MATRIX_START : MATRIX_START + 48].view(np.float64).reshape(2, 3)
        self._count = numbers[COUNT_START : COUNT_START + 4].view(np.int32)
        self._rows = numbers[ROWS_START:].view(np.float32).reshape(MOST_ROWS, ROW_NBYTES // 4)
        self._input = cuda.device_buffer(engine.input_nbytes)
        nbytes = {name: int(np.prod(shape)) * engine.level_dtype.itemsize for name, shape in engine.levels.items()}
        self._levels = {name: cuda.device_buffer(count) for name, count in nbytes.items()}
        self._level_copies: dict[str, HostBuffer] = {}
        addresses = {name: buffer.pointer for name, buffer in self._levels.items()}
        addresses[engine.spec.input.name] = self._input.pointer
        self._network = NetworkStream(engine, cuda, addresses, blocking)
        self._memory = FrameMemory(cuda, mapped=False)  # for pictures that no mesher has
        self._held: object = None  # the picture in it
        self._graph: Graph | None = None
        self._prepare()
        atexit.register(self.close)  # before the device, which registered itself earlier, takes its context away

    def picture(self, image: NDArray[np.uint8], frame: DeviceFrame | None = None) -> DevicePicture:
        """Return ``image`` (H, W, 3) uint8 BGR as a `Picture`; ``frame`` is the same on the device."""
        height, width = image.shape[:2]
        own = frame or _OwnFrame(self, image)
        host = HostPicture(image, self.substitute)
        return DevicePicture(self, own, np.eye(3), (width, height), lambda: host)

    def rows_of(self, frame: DeviceFrame, matrix: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the rows (N, 15) of a frame by ``matrix`` (2, 3), frame px -> px of the input, in these."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the detector is closed: open another")
            self._cuda.make_current()
            stream = self._network.stream
            address = frame.upload(stream)
            native.pack_frame_view(self._view_address, address, frame.height, frame.width, 3 * frame.width)
            self._matrix[:] = matrix
            self._count[0] = 0
            if self._graph is None:
                self._enqueue()
            else:
                self._graph.launch(stream)
            self._network.mark()
            self._network.wait()
            count = int(self._count[0])
            if count > MOST_ROWS:
                return face_rows(self._download_levels(), self._threshold)
            found = self._rows[:count]
            order = np.argsort(found.view(np.int32)[:, ROW])  # by place: threads come in any order
            return native.best_faces(found[order, :ROW], self._threshold)

    def upload(self, owner: object, image: NDArray[np.uint8], stream: Stream) -> int:
        """Bring a picture that no mesher has to the device, unless it was the last one; return its address."""
        if self._held is not owner:
            self._held = None
            self._memory.forget()
        address = self._memory.load_whole(image, stream)
        self._held = owner
        return address

    def close(self) -> None:
        """Wait for the device and free all; the network cannot be used afterwards."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        with suppress(CudaError):  # a lost device
            self._cuda.make_current()
        with ExitStack() as closing:  # all of it, whatever fails; from the last to the first
            closing.callback(self._cuda.close)
            closing.callback(self._engine.close)
            if self._graph is not None:
                closing.callback(self._graph.close)
            closing.callback(self._network.close)

    def _prepare(self) -> None:
        """Make the context, run everything once and capture it."""
        stream = self._network.stream
        context = self._network.context(1)
        black = np.zeros((8, 8, 3), np.uint8)
        address = self.upload(None, black, stream)
        native.pack_frame_view(self._view_address, address, 8, 8, 24)
        self._matrix[:] = np.eye(2, 3)
        self._count[0] = 0
        self._enqueue()  # so that the driver has loaded every kernel
        stream.synchronize()
        reason = context.why_not_capturable(stream)
        try:
            if not reason:
                self._graph = self._cuda.capture(stream, self._enqueue)
        except CudaError as error:
            if error.lost:
                raise
            reason = str(error)
        if reason:
            problem = f"no CUDA graph of the detector can be made ({reason})"
            warnings.warn(
                f"{problem}; every step is launched by itself, which takes longer", RuntimeWarning, stacklevel=2
            )

    def _enqueue(self) -> None:
        """Queue reduction, network, choice of faces and download of the frame that is loaded."""
        engine, stream, (width, height) = self._engine, self._network.stream, self.size_wh
        low, high = engine.spec.input.value_range
        self._numbers.upload(ROWS_START, stream)
        self._kernels.crop(
            view=self._numbers.pointer,
            frame=0,
            height=0,
            width=0,
            row_stride=0,
            matrices=self._numbers.pointer + MATRIX_START,
            n=1,
            out=self._input.pointer,
            out_height=height,
            out_width=width,
            channels_last=False,
            swap_colours=False,
            low=low,
            high=high,
            half=engine.input_dtype == np.float16,
            stream=stream.handle,
        )
        self._network.context(1).enqueue(stream)
        stride_8, stride_16, stride_32 = (buffer.pointer for buffer in self._levels.values())
        self._kernels.face_rows(
            stride_8=stride_8,
            stride_16=stride_16,
            stride_32=stride_32,
            half=engine.level_dtype == np.float16,
            height=height,
            width=width,
            threshold=self._threshold,
            most=MOST_ROWS,
            out=self._numbers.pointer + COUNT_START,
            stream=stream.handle,
        )
        self._numbers.download(self._numbers.nbytes, stream)

    def _download_levels(self) -> list[NDArray[np.floating]]:
        """Return the network's outputs as they are, (1, 16, H / stride, W / stride) each."""
        stream, levels = self._network.stream, []
        for name, shape in self._engine.levels.items():
            buffer = self._levels[name]
            if name not in self._level_copies:
                self._level_copies[name] = self._cuda.host_buffer(buffer.nbytes)
            copy = self._level_copies[name]
            self._cuda.download(copy.pointer, buffer.pointer, buffer.nbytes, stream)
            levels.append(copy.array.view(self._engine.level_dtype).reshape(1, *shape))
        stream.synchronize()
        return levels


class DevicePicture:
    """`runtime.detection.pictures.Picture` as a matrix over a frame on the device."""

    def __init__(
        self,
        network: GpuYuNet,
        frame: DeviceFrame,
        matrix: NDArray[np.float64],
        size_wh: tuple[int, int],
        host: Callable[[], HostPicture],
    ) -> None:
        """Take ``matrix`` (3, 3), frame px -> px of this picture; ``host`` makes the picture for the CPU."""
        self.size_wh = size_wh
        self._network = network
        self._frame = frame
        self._matrix = matrix
        self._host = host

    def reduced(self, side: int) -> DevicePicture:
        """See `Picture`."""
        size_wh = reduced_size(self.size_wh, side)
        if size_wh == self.size_wh:
            return self
        (x, y), change = np.divide(size_wh, self.size_wh), np.eye(3)
        change[:2] = [[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]]  # corners to corners, as OpenCV resizes
        return self._changed(change, size_wh, lambda: self._host().reduced(side))

    def turned(self, roll_deg: float) -> DevicePicture:
        """See `Picture`."""
        matrix, size_wh = turn_matrix(self.size_wh, roll_deg)
        return self._changed(np.vstack([matrix, [0, 0, 1]]), size_wh, lambda: self._host().turned(roll_deg))

    def rows(self) -> NDArray[np.float32]:
        """See `Picture`; beyond the engine's size the CPU looks."""
        if self._network.substitute.is_needed(self.size_wh):
            return self._host().rows()
        return self._network.rows_of(self._frame, self._matrix[:2])

    def _changed(
        self, change: NDArray[np.float64], size_wh: tuple[int, int], host: Callable[[], HostPicture]
    ) -> DevicePicture:
        return DevicePicture(self._network, self._frame, change @ self._matrix, size_wh, host)


class _OwnFrame:
    """`runtime.cuda.interface.DeviceFrame` of a picture in the network's own memory."""

    def __init__(self, network: GpuYuNet, image: NDArray[np.uint8]) -> None:
        self.height, self.width = image.shape[:2]
        self._network = network
        self._image = image
        self._key = object()

    def start(self) -> None:
        """Leave it to `upload`: between two uploads the memory may hold another picture."""

    def upload(self, stream: Stream) -> int:
        return self._network.upload(self._key, self._image, stream)
