"""Clocks of `benchmarks.gpu.gpu_report`: series of calls, and devices that time or leave out some of their work.

Each of these devices is a `runtime.cuda.interface.Cuda` round another one. So the runtime's own code is measured and no
copy of it.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.records.latency_statistics import summarise, thin
from runtime.cuda.errors import CudaError
from runtime.cuda.interface import Cuda, Event, Stream

MOST_SAMPLES = 250  # kept of every series, evenly spread
LEAST_WARM_UP = 8  # calls: the runtime captures its graphs at the third and fourth frame
clock = time.perf_counter_ns
Row = dict[str, Any]  # made by `record_row`
Facts = dict[str, Any]


@dataclass(frozen=True)
class SeriesLength:
    """Length of a series: ``frames`` samples, fewer after ``seconds``; warm-up calls before are not counted."""

    frames: int
    seconds: float = math.inf
    warm_up_s: float = 0.5


def take_series(sample: Callable[[], float], length: SeriesLength) -> NDArray[np.float64]:
    """Call ``sample`` again and again and return its results (frames,), milliseconds.

    Python collects no garbage meanwhile.
    """
    # Warm up.
    start, count = time.monotonic(), 0
    while count < LEAST_WARM_UP or time.monotonic() < start + length.warm_up_s:
        sample()
        count += 1
    # Measure.
    gc.collect()
    gc.disable()
    try:
        until = time.monotonic() + length.seconds
        times: list[float] = []
        while not times or (len(times) < length.frames and time.monotonic() < until):
            times.append(sample())
    finally:
        gc.enable()
    return np.array(times, np.float64)


def record_row(name: str, milliseconds: NDArray[np.float64], **more: Any) -> Row:
    """Return a series as a row of the report, with percentiles and thinned samples."""
    figures = {key: round(value, 5) for key, value in summarise(milliseconds).items()}
    samples = (1000 * thin(milliseconds, MOST_SAMPLES)).round(2).tolist()
    return {"name": name, "frames": len(milliseconds), **figures, **more, "samples_us": samples}


def time_on_host(call: Callable[[], object]) -> Callable[[], float]:
    """Return a sample of the host's time for a call, in milliseconds."""

    def sample() -> float:
        start = clock()
        call()
        return (clock() - start) / 1e6

    return sample


class Wrapped:
    """A device that passes everything on to ``cuda``."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cuda, name)


class WithoutGraphs(Wrapped):
    """A device without CUDA graphs: the runtime launches every step by itself."""

    def capture(self, stream: Stream, enqueue: Callable[[], object]) -> None:
        raise CudaError("capture", "", "left out on purpose")


class WithoutTransfers(Wrapped):
    """A device that copies nothing from or to the host once ``skipping`` is set, and goes on with its old data."""

    skipping = False

    def upload(self, *arguments: Any) -> None:
        if not self.skipping:
            self._cuda.upload(*arguments)

    def download(self, *arguments: Any) -> None:
        if not self.skipping:
            self._cuda.download(*arguments)


class WaitClock(Wrapped):
    """A device that counts the host's time in waits for events, in nanoseconds."""

    waited_ns = 0

    def event(self, **options: Any) -> _TimedEvent:
        return _TimedEvent(self._cuda.event(**options), self)


class _TimedEvent:
    def __init__(self, event: Event, owner: WaitClock) -> None:
        self._event = event
        self._owner = owner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._event, name)

    def synchronize(self) -> None:
        start = clock()
        self._event.synchronize()
        self._owner.waited_ns += clock() - start


class StageClock(WithoutGraphs):
    """A device that records an event after every copy and kernel.

    The network's time is the gap between the crop (or upload) and the next event.
    """

    def __init__(self, cuda: Cuda) -> None:
        super().__init__(cuda)
        self._streams: dict[int, Stream] = {}
        self._pool: list[Event] = []
        self._marks: list[str] = []  # of this frame; the events are the first of the pool
        self.kernels = cuda.kernels and SimpleNamespace(
            crop=partial(self._kernel, "crop", cuda.kernels.crop),
            decode=partial(self._kernel, "decode", cuda.kernels.decode),
            decode_coefficients=partial(self._kernel, "decode", cuda.kernels.decode_coefficients),
        )

    def begin(self) -> None:
        """Start the next frame."""
        self._marks.clear()

    def stages(self) -> dict[str, float]:
        """Return the milliseconds of the stages of a finished frame."""
        found: dict[str, float] = {}
        for place, name in enumerate(self._marks[1:], 1):
            found[name] = found.get(name, 0.0) + self._pool[place].elapsed_ms(self._pool[place - 1])
        return found

    def stream(self) -> Stream:
        stream = self._cuda.stream()
        self._streams[stream.handle] = stream
        return stream

    def upload(self, device_pointer: int, host_pointer: int, nbytes: int, stream: Stream) -> None:
        self._start(stream)
        self._cuda.upload(device_pointer, host_pointer, nbytes, stream)
        self._mark("upload", stream)

    def download(self, host_pointer: int, device_pointer: int, nbytes: int, stream: Stream) -> None:
        self._end_network(stream)
        self._cuda.download(host_pointer, device_pointer, nbytes, stream)
        self._mark("download", stream)

    def _kernel(self, name: str, launch: Callable[..., None], **arguments: Any) -> None:
        stream = self._streams[arguments["stream"]]
        self._start(stream)
        if name == "decode":
            self._end_network(stream)
        launch(**arguments)
        self._mark(name, stream)

    def _start(self, stream: Stream) -> None:
        if not self._marks:
            self._mark("start", stream)

    def _end_network(self, stream: Stream) -> None:
        if self._marks and "network" not in self._marks:
            self._mark("network", stream)

    def _mark(self, name: str, stream: Stream) -> None:
        if len(self._marks) == len(self._pool):
            self._pool.append(self._cuda.event(timing=True))
        self._pool[len(self._marks)].record(stream)
        self._marks.append(name)
