"""A stand-in for a CUDA device, over host memory: `FakeCuda` is a `runtime.cuda.interface.Cuda`.

Work on a stream is only queued; a wait (of the stream, or of an event recorded on it) does it. So results are not there
before a wait, and every buffer starts as `GARBAGE`. Each copy and kernel must stay inside buffers that are open when it
runs: host sides of copies in page-locked memory, device sides in device or mapped memory. Nothing may wait or allocate
while a graph is captured, no garbage is collected then, and calls come from threads that called `make_current`, as with
the real device.

``log`` lists the calls as (name, details), names as in `CALLS`; ``live`` are the resources not closed; ``fail`` makes
calls fail.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from runtime.cuda.errors import CudaError
from runtime.cuda.shared import Resource, close_all, no_collection

GARBAGE = 0xA5
ALIGNMENT = 256  # bytes, of every allocation of a device
TOTAL_MEMORY = 8 << 30
CALLS = {
    *(
        "stream",
        "event",
        "host_buffer",
        "device_buffer",
        "memory_info",
        "upload",
        "download",
        "crop",
        "decode",
        "face_rows",
        "enqueue",
    ),
    *("record", "hold", "synchronize", "done", "elapsed_ms", "capture", "launch", "close", "context"),
}
NOT_WHILE_CAPTURING = CALLS - {"upload", "download", "crop", "decode", "face_rows", "enqueue", "record", "hold"}
Work = Callable[[], object]
FRAME_VIEW = np.dtype([("pixels", "u8"), ("height", "i4"), ("width", "i4"), ("row_stride", "i4"), ("unused", "i4")])


def check_open(resource: Resource) -> None:
    """Assert that ``resource`` is open.

    No `CudaError`, because callers may ignore one: PyCUDA's object is gone by then, and cuda-python hands a dead handle
    to the driver.
    """
    assert resource in resource._live, f"{type(resource).__name__} is used after its close"


class FakeStream(Resource):
    def __init__(self, cuda: FakeCuda, handle: int) -> None:
        super().__init__(cuda.live, self._destroy)
        self.handle = handle
        self._cuda = cuda
        self.queue: deque[Work] = deque()
        self.captured: list[Work] | None = None  # while capturing

    def _destroy(self) -> None:
        self._cuda.called("close", what="stream", stream=self.handle)
        self.run()  # the device finishes what is queued

    def add(self, work: Work) -> None:
        (self.queue if self.captured is None else self.captured).append(work)

    def run(self, until: Work | None = None) -> None:
        """Do the queued work, all of it or up to and including ``until``; nothing if ``until`` is not queued."""
        if until is not None and until not in self.queue:
            return
        while self.queue:
            work = self.queue.popleft()
            work()
            if work is until:
                return

    def synchronize(self) -> None:
        check_open(self)
        self._cuda.called("synchronize", stream=self.handle)
        self.run()


class FakeEvent(Resource):
    """An event. Its first `done` after a `record` with work before it returns False, the next does the work."""

    def __init__(self, cuda: FakeCuda, blocking: bool, timing: bool) -> None:
        super().__init__(cuda.live, lambda: cuda.called("close", what="event"))
        self.blocking = blocking
        self.timing = timing
        self._cuda = cuda
        self._stream: FakeStream | None = None
        self._mark: Work | None = None
        self._polled = False
        self.finished: float | None = None

    def record(self, stream: FakeStream) -> None:
        check_open(self)
        check_open(stream)
        self._cuda.called("record", stream=stream.handle)
        self._stream = stream
        self._mark = lambda: self._finish()
        self._polled = False
        self.finished = None
        stream.add(self._mark)

    def hold(self, stream: FakeStream) -> None:
        check_open(self)
        check_open(stream)
        self._cuda.called("hold", stream=stream.handle)
        if self._stream is not None:
            recorded, mark = self._stream, self._mark
            stream.add(lambda: recorded.run(mark))

    def _finish(self) -> None:
        self.finished = next(self._cuda.clock)

    def synchronize(self) -> None:
        check_open(self)
        self._cuda.called("synchronize", stream=self._stream and self._stream.handle)
        if self._stream is not None:
            self._stream.run(self._mark)

    def done(self) -> bool:
        self._cuda.called("done", stream=self._stream and self._stream.handle)
        if self._stream is not None and self._polled:
            self._stream.run(self._mark)
        self._polled = True
        return self._stream is None or self._mark not in self._stream.queue

    def elapsed_ms(self, since: FakeEvent) -> float:
        self._cuda.called("elapsed_ms")
        if not (self.timing and since.timing) or self._stream is None or since._stream is None:
            raise CudaError("elapsed_ms", "CUDA_ERROR_INVALID_HANDLE")
        if self.finished is None or since.finished is None:
            raise CudaError("elapsed_ms", "CUDA_ERROR_NOT_READY")
        return self.finished - since.finished


class FakeBuffer(Resource):
    """Host or device memory.

    Mapped host memory has a ``device_pointer``; it may differ from ``pointer`` on real devices.
    """

    def __init__(self, cuda: FakeCuda, nbytes: int, kind: str, mapped: bool = False) -> None:
        if not 0 < nbytes <= TOTAL_MEMORY:
            raise CudaError(kind, "CUDA_ERROR_OUT_OF_MEMORY" if nbytes > 0 else "CUDA_ERROR_INVALID_VALUE")
        self._memory = _aligned(nbytes)
        self._memory[:] = GARBAGE
        super().__init__(cuda.live, self._free)
        self._cuda = cuda
        self.kind = kind
        self.nbytes = nbytes
        self.mapped = mapped
        self.pointer = self._memory.ctypes.data
        if kind == "host_buffer":
            self.array = self._memory
            self.device_pointer = self.pointer if mapped else 0

    def _free(self) -> None:
        self._cuda.called("close", what=self.kind, nbytes=self.nbytes)
        self._cuda.run_all()  # freeing waits for the device
        if self.kind == "host_buffer":
            self.array = np.empty(0, np.uint8)  # arrays taken before own the memory
        else:
            self._memory[:] = GARBAGE  # so that later use is noticed

    def holds(self, pointer: int, nbytes: int) -> bool:
        return self.pointer <= pointer and pointer + nbytes <= self.pointer + self.nbytes


def _aligned(nbytes: int) -> np.ndarray:
    memory = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + nbytes]


class FakeGraph(Resource):
    def __init__(self, cuda: FakeCuda, work: list[Work]) -> None:
        super().__init__(cuda.live, lambda: cuda.called("close", what="graph"))
        self._cuda = cuda
        self.work = work

    def launch(self, stream: FakeStream) -> None:
        self._cuda.called("launch", stream=stream.handle)
        stream.queue.extend(self.work)


class FakeKernels:
    """`runtime._native.host_kernels`, queued; their arguments are checked against the buffers when they run."""

    def __init__(self, cuda: FakeCuda, native: Any) -> None:
        self._cuda = cuda
        self._native = native.host_kernels
        self._points_of_a_mark = native.POINTS_OF_A_MARK

    def crop(self, *, stream: int, **arguments: Any) -> None:
        n, view = arguments["n"], arguments.get("view", 0)
        height, width = arguments["out_height"], arguments["out_width"]
        channels = 4 if arguments.get("landmarks") else 3
        self._cuda.called("crop", stream=stream, n=n, size_wh=(width, height))
        ranges = [
            (arguments["matrices"], n * 48),
            (arguments["out"], n * channels * height * width * (2 if arguments["half"] else 4)),
        ]
        if arguments.get("landmarks"):
            ranges.append((arguments["landmarks"], n * 68 * 12))
        if view:
            ranges.append((view, FRAME_VIEW.itemsize))
        else:
            ranges.append(_frame_range(*(arguments[name] for name in ("frame", "height", "width", "row_stride"))))

        def work() -> None:
            if view:
                self._cuda.check_device(*_frame_range(*read_frame_view(view)))
            self._native.crop(**arguments, stream=0)

        self._queue(stream, ranges, work)

    def decode(self, *, stream: int, **arguments: Any) -> None:
        n, count = arguments["n"], arguments["count"]
        self._cuda.called("decode", stream=stream, n=n, count=count)
        ranges = [
            (arguments["map"], n * 3 * arguments["map_size"] ** 2 * (2 if arguments["half"] else 4)),
            (arguments["matrices"], n * 48),
            (arguments["indices"], count * 4),
            (arguments["out"], n * count * 12),
            (arguments["not_finite"], n * -(-count // self._points_of_a_mark)),
        ]
        self._queue(stream, ranges, lambda: self._native.decode(**arguments, stream=0))

    def decode_coefficients(self, *, stream: int, **arguments: Any) -> None:
        n, count, columns = arguments["n"], arguments["count"], arguments["coefficient_count"]
        numbers = arguments["pose_count"] + columns
        self._cuda.called("decode", stream=stream, n=n, count=count)
        ranges = [
            (arguments["output"], n * numbers * (2 if arguments["half"] else 4)),
            (arguments["constants"], (2 * numbers + 18) * 4),
            (arguments["mean"], count * 12),
            (arguments["basis"], columns * count * 3 * (2 if arguments["basis_half"] else 4)),
            (arguments["matrices"], n * 48),
            (arguments["out"], n * count * 12),
            (arguments["not_finite"], n * -(-count // self._points_of_a_mark)),
        ]
        self._queue(stream, ranges, lambda: self._native.decode_coefficients(**arguments, stream=0))

    def face_rows(self, *, stream: int, **arguments: Any) -> None:
        height, width, most = arguments["height"], arguments["width"], arguments["most"]
        self._cuda.called("face_rows", stream=stream, size_wh=(width, height))
        item = 2 if arguments["half"] else 4
        ranges = [
            (arguments[f"stride_{stride}"], 16 * (height // stride) * (width // stride) * item)
            for stride in (8, 16, 32)
        ]
        ranges.append((arguments["out"], 64 * (1 + most)))
        self._queue(stream, ranges, lambda: self._native.face_rows(**arguments, stream=0))

    def _queue(self, stream: int, ranges: list[tuple[int, int]], work: Work) -> None:
        def checked() -> None:
            for pointer, nbytes in ranges:
                self._cuda.check_device(pointer, nbytes)
            work()

        self._cuda.stream_of(stream).add(checked)


def read_frame_view(address: int) -> tuple[int, int, int, int]:
    """Return address, height, width and row stride of a frame, as `runtime._native.pack_frame_view` wrote them."""
    view = np.frombuffer((ctypes.c_uint8 * FRAME_VIEW.itemsize).from_address(address), FRAME_VIEW)[0]
    return tuple(view.item()[:4])


def _frame_range(frame: int, height: int, width: int, row_stride: int) -> tuple[int, int]:
    return frame, (height - 1) * row_stride + width * 3


class FakeCuda:
    """See the module. ``kernels=False`` is a device that is too old for the kernels."""

    def __init__(
        self, name: str = "Orin", compute_capability: str = "8.7", integrated: bool = True, kernels: bool = True
    ) -> None:
        self.name = name
        self.compute_capability = compute_capability
        self.integrated = integrated
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.logging = True  # False: for tests that count Python objects
        self.live: dict[Resource, None] = {}
        self.clock = itertools.count(1.0)  # ms
        self.closed = False
        self._same_device = [self]
        self._faults: dict[str, tuple[int, str]] = {}
        self._counts: Counter[str] = Counter()
        self._lost: str | None = None
        self._capturing = False
        self._handles = itertools.count(0x5000)
        self._threads = {threading.get_ident()}
        self.kernels = None
        if kernels:
            from runtime import _native

            self.kernels = FakeKernels(self, _native)

    # What tests use

    def fail(self, call: str, nth: int = 1, status: str = "CUDA_ERROR_OUT_OF_MEMORY") -> None:
        """Let the ``nth`` call of this name from now on fail, and all after it.

        After a status of a lost device every call of any name fails.
        """
        assert call in CALLS, f"{call} is not one of {sorted(CALLS)}"
        self._faults[call] = (self._counts[call] + nth, status)

    def heal(self) -> None:
        """Let no call fail any more."""
        self._faults.clear()
        self._lost = None

    def beside(self) -> FakeCuda:
        """Return another `FakeCuda` of this device, with one log and the same faults; each closes what it made."""
        other = FakeCuda(self.name, self.compute_capability, self.integrated, self.kernels is not None)
        for name in ("log", "clock", "_handles", "_faults", "_counts", "_same_device"):
            setattr(other, name, getattr(self, name))
        self._same_device.append(other)
        return other

    def calls(self, *names: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the log, or its entries with one of these names."""
        return [entry for entry in self.log if not names or entry[0] in names]

    def enqueue(self, stream_handle: int, work: Work, **details: Any) -> None:
        """Queue a function, for the network of a stand-in inference library."""
        self.called("enqueue", stream=stream_handle, **details)
        self.stream_of(stream_handle).add(work)

    def check_device(self, pointer: int, nbytes: int) -> None:
        """Assert that the device may use this memory."""
        self._check(
            pointer, nbytes, [buffer for buffer in self._buffers() if buffer.kind == "device_buffer" or buffer.mapped]
        )

    def buffer_at(self, pointer: int) -> FakeBuffer | None:
        """Return the open buffer that holds this address."""
        return next((buffer for buffer in self._buffers() if buffer.holds(pointer, 1)), None)

    # What the parts above use

    def called(self, call: str, **details: Any) -> None:
        """Log the call; raises `CudaError` if it is to fail."""
        if self.logging:
            self.log.append((call, details))
        if threading.get_ident() not in self._threads:
            raise CudaError(call, "CUDA_ERROR_INVALID_CONTEXT")
        self._counts[call] += 1
        nth, status = self._faults.get(call, (0, ""))
        if nth and self._counts[call] >= nth:
            error = CudaError(call, status)
            self._lost = self._lost or (status if error.lost else None)
            raise error
        if self._lost:
            raise CudaError(call, self._lost)
        if self._capturing and call in NOT_WHILE_CAPTURING:
            raise CudaError(call, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")

    def stream_of(self, handle: int) -> FakeStream:
        for stream in self._streams():
            if stream.handle == handle:
                return stream
        raise CudaError("stream", "CUDA_ERROR_INVALID_HANDLE")

    def run_all(self) -> None:
        for stream in self._streams():
            stream.run()

    def _streams(self) -> list[FakeStream]:
        return [each for cuda in self._same_device for each in cuda.live if isinstance(each, FakeStream)]

    def _buffers(self) -> list[FakeBuffer]:
        return [each for cuda in self._same_device for each in cuda.live if isinstance(each, FakeBuffer)]

    def _check(self, pointer: int, nbytes: int, allowed: list[FakeBuffer]) -> None:
        assert any(buffer.holds(pointer, nbytes) for buffer in allowed), (
            f"{nbytes} bytes at {pointer:#x} are not in an open buffer of the right kind"
        )

    # Cuda

    def make_current(self) -> None:
        self._threads.add(threading.get_ident())

    def stream(self) -> FakeStream:
        handle = next(self._handles)
        self.called("stream", stream=handle)
        return FakeStream(self, handle)

    def event(self, *, blocking: bool = False, timing: bool = False) -> FakeEvent:
        self.called("event", blocking=blocking, timing=timing)
        return FakeEvent(self, blocking, timing)

    def host_buffer(self, nbytes: int, *, mapped: bool = False) -> FakeBuffer:
        self.called("host_buffer", nbytes=nbytes, mapped=mapped)
        return FakeBuffer(self, nbytes, "host_buffer", mapped)

    def device_buffer(self, nbytes: int) -> FakeBuffer:
        self.called("device_buffer", nbytes=nbytes)
        return FakeBuffer(self, nbytes, "device_buffer")

    def upload(self, device_pointer: int, host_pointer: int, nbytes: int, stream: FakeStream) -> None:
        self.called("upload", stream=stream.handle, nbytes=nbytes)
        stream.add(lambda: self._copy(device_pointer, host_pointer, nbytes, device=device_pointer, host=host_pointer))

    def download(self, host_pointer: int, device_pointer: int, nbytes: int, stream: FakeStream) -> None:
        self.called("download", stream=stream.handle, nbytes=nbytes)
        stream.add(lambda: self._copy(host_pointer, device_pointer, nbytes, device=device_pointer, host=host_pointer))

    def _copy(self, to: int, source: int, nbytes: int, *, device: int, host: int) -> None:
        self.check_device(device, nbytes)
        self._check(host, nbytes, [buffer for buffer in self._buffers() if buffer.kind == "host_buffer"])
        ctypes.memmove(to, source, nbytes)

    def capture(self, stream: FakeStream, enqueue: Callable[[], object]) -> FakeGraph:
        self.called("capture", stream=stream.handle)
        stream.captured = []
        self._capturing = True
        collected = []
        with no_collection():
            gc.callbacks.append(lambda phase, info: collected.append(phase))
            try:
                enqueue()
                return FakeGraph(self, stream.captured)
            finally:
                gc.callbacks.pop()
                stream.captured = None
                self._capturing = False
                assert not collected, "garbage was collected while a graph was captured"

    def memory_info(self) -> tuple[int, int]:
        self.called("memory_info")
        return TOTAL_MEMORY - sum(buffer.nbytes for buffer in self._buffers()), TOTAL_MEMORY

    def close(self) -> None:
        close_all(self.live)
        self.closed = True

    def __enter__(self) -> FakeCuda:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
