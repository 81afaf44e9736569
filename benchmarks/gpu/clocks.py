"""How `benchmarks.gpu.gpu_report` takes times: series of calls, and devices that time or leave out a part of what the runtime asks of them.

Each of these devices is a `runtime.cuda.interface.Cuda` round another one, so that what is measured is the runtime's own road and no copy of it.
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
Row = dict[str, Any]  # what `row` makes
Facts = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """How long a series is: so many samples, or what so many seconds give where that is less; after calls that are not counted."""

    frames: int
    seconds: float = math.inf
    warm_up_s: float = 0.5


def series(sample: Callable[[], float], effort: Effort) -> NDArray[np.float64]:
    """What ``sample`` returns, again and again: milliseconds (frames,). No garbage is collected meanwhile."""
    start, count = time.monotonic(), 0
    while count < LEAST_WARM_UP or time.monotonic() < start + effort.warm_up_s:
        sample()
        count += 1
    gc.collect()
    gc.disable()
    try:
        until, times = time.monotonic() + effort.seconds, []
        while not times or (len(times) < effort.frames and time.monotonic() < until):
            times.append(sample())
    finally:
        gc.enable()
    return np.array(times, np.float64)


def row(name: str, milliseconds: NDArray[np.float64], **more: Any) -> Row:
    """A series as a line of the report."""
    figures = {key: round(value, 5) for key, value in summarise(milliseconds).items()}
    samples = (1000 * thin(milliseconds, MOST_SAMPLES)).round(2).tolist()
    return {"name": name, "frames": len(milliseconds), **figures, **more, "samples_us": samples}


def wall(call: Callable[[], object]) -> Callable[[], float]:
    """A sample of how long the host needs for a call."""

    def sample() -> float:
        start = clock()
        call()
        return (clock() - start) / 1e6

    return sample


class Wrapped:
    """A device that does what ``cuda`` does."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cuda, name)


class WithoutGraphs(Wrapped):
    """Makes no graph, so that the runtime launches every step by itself."""

    def capture(self, stream: Stream, enqueue: Callable[[], object]) -> None:
        raise CudaError("capture", "", "left out on purpose")


class WithoutTransfers(Wrapped):
    """Copies nothing between host and device once ``skipping`` is set; the device goes on with what it has by then."""

    skipping = False

    def upload(self, *arguments: Any) -> None:
        if not self.skipping:
            self._cuda.upload(*arguments)

    def download(self, *arguments: Any) -> None:
        if not self.skipping:
            self._cuda.download(*arguments)


class WaitClock(Wrapped):
    """Counts the time that the host spends waiting for events."""

    waited_ns = 0

    def event(self, **options: Any) -> _TimedEvent:
        return _TimedEvent(self._cuda.event(**options), self)


class _TimedEvent:
    def __init__(self, event: Event, owner: WaitClock) -> None:
        self._event, self._owner = event, owner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._event, name)

    def synchronize(self) -> None:
        start = clock()
        self._event.synchronize()
        self._owner.waited_ns += clock() - start


class StageClock(WithoutGraphs):
    """Records an event after every copy and kernel; what lies between the crop or the upload and what follows the network is the network."""

    def __init__(self, cuda: Cuda) -> None:
        super().__init__(cuda)
        self._streams: dict[int, Stream] = {}
        self._pool: list[Event] = []
        self._marks: list[str] = []  # of this frame; the events are the first of the pool
        self.kernels = cuda.kernels and SimpleNamespace(
            crop=partial(self._kernel, "crop", cuda.kernels.crop), decode=partial(self._kernel, "decode", cuda.kernels.decode)
        )

    def begin(self) -> None:
        """The next frame starts."""
        self._marks.clear()

    def stages(self) -> dict[str, float]:
        """Milliseconds of the frame's stages, which must be finished."""
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
