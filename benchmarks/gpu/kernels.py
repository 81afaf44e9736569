"""Parts of `benchmarks.gpu.gpu_report`: the kernels by themselves, and the cost of launching them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from benchmarks.gpu.clocks import Row, SeriesLength, clock, record_row, take_series, time_on_host
from benchmarks.gpu.scene import (
    HEIGHT,
    NO_KERNELS,
    WIDTH,
    PartSkipped,
    TimedDevice,
    face_map,
    face_matrices,
    frame,
)
from runtime.compiled import native
from runtime.cuda.interface import Event
from runtime.detection.gpu_yunet import MOST_ROWS
from runtime.families.family import GpuDecoder
from runtime.families.table import open_family
from runtime.models.detector_spec import STRIDES
from runtime.models.shipped import SHIPPED_MODEL
from runtime.models.spec import load_spec

BATCHES = (1, 4, 16)
DETECTOR_WH = 640, 384  # px of its input
REPEATS = 20  # of a kernel between two events; their resolution is about half a microsecond


def kernels(length: SeriesLength) -> Iterator[Row]:
    """Measure crop, decode and a detector's kernels: the mean of REPEATS in a row, by a graph if one can be made."""
    with TimedDevice() as device:
        for name, launch in _SharedBuffers(device).variants().items():
            repeat = _repeated(device, launch)
            yield record_row(name, take_series(device.timed(repeat), length) / REPEATS, repeats=REPEATS)


def launches(length: SeriesLength) -> Iterator[Row]:
    """Measure the host's time to launch crop and decode, and the least kernel from its launch to the end of a wait."""
    with TimedDevice() as device:
        variants = _SharedBuffers(device).variants()
        crop, decode = variants["crop, 1 face"], variants["decode, vertices, 1 face"]
        least = variants["decode, landmarks, 1 face"]

        # Launches alone: the wait after them is not counted.
        def both() -> None:
            crop()
            decode()

        graph = device.graph(both)
        yield record_row("host: launched one by one", take_series(_time_of_launch(device, both), length))
        if graph is not None:
            launch = _time_of_launch(device, lambda: graph.launch(device.stream))
            yield record_row("host: launched as a graph", take_series(launch, length))

        # From a launch to the end of the wait.
        def wait_for_least(event: Event) -> None:
            least()
            event.record(device.stream)
            event.synchronize()

        for name, event in (("spinning", device.last), ("blocking", device.cuda.event(blocking=True))):
            there_and_back = time_on_host(lambda event=event: wait_for_least(event))
            yield record_row(f"there and back, {name}", take_series(there_and_back, length))


def _time_of_launch(device: TimedDevice, launch: Callable[[], object]) -> Callable[[], float]:
    """Return a sample of the host's time for ``launch``, in milliseconds; it waits for the device afterwards."""

    def sample() -> float:
        start = clock()
        launch()
        taken = clock() - start
        device.stream.synchronize()
        return taken / 1e6

    return sample


def _repeated(device: TimedDevice, launch: Callable[[], object]) -> Callable[[], object]:
    """Return a call that does the same work REPEATS times."""

    def launch_all() -> None:
        for _ in range(REPEATS):
            launch()

    graph = device.graph(launch_all)
    return launch_all if graph is None else lambda: graph.launch(device.stream)


class _SharedBuffers:
    """Device memory of all launches: a frame, matrices, and position maps in place of a network's."""

    def __init__(self, device: TimedDevice) -> None:
        if device.cuda.kernels is None:
            raise PartSkipped(NO_KERNELS)
        self._device = device
        self._spec = load_spec(SHIPPED_MODEL)
        most = BATCHES[-1]
        family = open_family(self._spec)
        # Inputs, filled once; True is half precision.
        maps = np.stack([face_map(self._spec)] * most)
        self._frame = device.uploaded(frame())
        self._matrices = device.uploaded(np.array(face_matrices(most, family)))
        self._maps = {False: device.uploaded(maps), True: device.uploaded(maps.astype(np.float16))}
        # Decoders by half precision and by dense vertices.
        self._decoders: dict[tuple[bool, bool], GpuDecoder] = {}
        for half, dense in product((False, True), repeat=2):
            self._decoders[half, dense] = family.gpu_decoder(device.cuda, half, dense)
        # Outputs.
        points = self._decoders[False, True].point_count
        self._crops = device.cuda.device_buffer(most * 3 * 4 * self._spec.input.size**2).pointer
        self._result = device.cuda.device_buffer(most * points * 12).pointer
        self._marks = device.cuda.device_buffer(most * -(-points // native.POINTS_OF_A_MARK)).pointer
        # Of a detector: a reduced frame, and levels in which few places pass.
        (width, height), levels = DETECTOR_WH, []
        self._planes = device.cuda.device_buffer(3 * 2 * width * height).pointer
        self._reduction = device.uploaded(np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]]))
        for stride in STRIDES:
            level = np.zeros((16, height // stride, width // stride), np.float16)
            level[:2] = -9
            level[:2, 1, 1:4] = 3
            levels.append(device.uploaded(level))
        self._levels = levels
        self._rows = device.uploaded(np.zeros((1 + MOST_ROWS, 16), np.float32))

    def variants(self) -> dict[str, Callable[[], None]]:
        """Return the launches to measure, by their names in the report."""
        found: dict[str, Callable[[], None]] = {}
        for n in BATCHES:
            faces = f"{n} face{'s' * (n > 1)}"
            found[f"crop, {faces}"] = lambda n=n: self._crop(n, half=False)
            found[f"crop to half, {faces}"] = lambda n=n: self._crop(n, half=True)
            found[f"decode, vertices, {faces}"] = lambda n=n: self._decode(n, half=False)
            found[f"decode half, vertices, {faces}"] = lambda n=n: self._decode(n, half=True)
            found[f"decode, landmarks, {faces}"] = lambda n=n: self._decode(n, half=False, dense=False)
        found["a detector's reduction, to half"] = self._reduce
        found["a detector's faces, half"] = self._collect
        return found

    def _reduce(self) -> None:
        width, height = DETECTOR_WH
        self._device.cuda.kernels.crop(
            frame=self._frame,
            height=HEIGHT,
            width=WIDTH,
            row_stride=3 * WIDTH,
            matrices=self._reduction,
            n=1,
            out=self._planes,
            out_height=height,
            out_width=width,
            channels_last=False,
            swap_colours=False,
            low=0.0,
            high=255.0,
            half=True,
            stream=self._device.stream.handle,
        )

    def _collect(self) -> None:
        (width, height), (stride_8, stride_16, stride_32) = DETECTOR_WH, self._levels
        self._device.cuda.kernels.face_rows(
            stride_8=stride_8,
            stride_16=stride_16,
            stride_32=stride_32,
            half=True,
            height=height,
            width=width,
            threshold=0.6,
            most=MOST_ROWS,
            out=self._rows,
            stream=self._device.stream.handle,
        )

    def _crop(self, n: int, half: bool) -> None:
        given = self._spec.input
        low, high = given.value_range
        self._device.cuda.kernels.crop(
            frame=self._frame,
            height=HEIGHT,
            width=WIDTH,
            row_stride=3 * WIDTH,
            matrices=self._matrices,
            n=n,
            out=self._crops,
            out_height=given.size,
            out_width=given.size,
            channels_last=given.layout == "NHWC",
            swap_colours=given.colour_order == "RGB",
            low=low,
            high=high,
            half=half,
            stream=self._device.stream.handle,
        )

    def _decode(self, n: int, half: bool, dense: bool = True) -> None:
        decoder = self._decoders[half, dense]
        decoder.enqueue(self._maps[half], self._matrices, n, self._result, self._marks, self._device.stream)
