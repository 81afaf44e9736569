"""Parts of `benchmarks.gpu.gpu_report`: a 720p frame in the host's memory to landmarks and vertices in the host's memory, on the runtime's own road.

A road is the path of an engine, or None: then a position map that was made on the host lies where a network would write it, so that crop,
decode, copies and launches are measured without one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.clocks import Effort, Facts, Row, StageClock, WaitClock, WithoutGraphs, WithoutTransfers, clock, row, series, wall
from benchmarks.gpu.scene import NO_KERNELS, LeftOut, face_map, face_matrices, frame_720p
from runtime.cuda.interface import Cuda, Stream
from runtime.cuda.open_cuda import open_cuda
from runtime.errors import FaceMeshError
from runtime.families.family import Family
from runtime.families.table import open_family
from runtime.inference.cpu_mesher import CpuMesher
from runtime.inference.interface import Mesh, Mesher
from runtime.inference.open_runner import open_runner
from runtime.inference.trt.engine import Engine
from runtime.inference.trt.engine_file import read_engine
from runtime.inference.trt.runner import TensorRTRunner
from runtime.models.shipped import SHIPPED_MODEL
from runtime.models.spec import ModelSpec, load_spec

MOST_DIFFERENCE_PX = {"map": 0.01, "fp32": 0.5, "fp16": 1.0, "int8": math.inf}  # in crops of about 300 px; INT8 is judged by its NME, elsewhere


@dataclass(frozen=True)
class Setting:
    """One way to run frames; ``memory`` None is what the runtime chooses for the device."""

    faces: int = 1
    dense: bool = True
    sync: str = "spin"
    memory: str | None = None
    graph: bool = True
    transfers: bool = True
    in_place: bool = False  # the frame lies in the mesher's own memory, so that the host copies nothing


SETTINGS = {
    "whole frame": Setting(),
    "without graph": Setting(graph=False),
    "without transfers": Setting(memory="copy", transfers=False),
    "frame in place": Setting(in_place=True),
    "copied memory": Setting(memory="copy"),
    "mapped memory": Setting(memory="mapped"),
    "mapped memory, frame in place": Setting(memory="mapped", in_place=True),
    "blocking wait": Setting(sync="block"),
    "68 landmarks alone": Setting(dense=False),
    "4 faces": Setting(faces=4),
    "16 faces": Setting(faces=16),
}


def frames(road: str | None, setting: str, effort: Effort) -> Iterator[Row]:
    """One frame at a time by one of SETTINGS: from the call to the points."""
    chosen = SETTINGS[setting]
    wrap: Callable[[Cuda], Cuda] = (lambda cuda: cuda) if chosen.graph else WithoutGraphs
    if not chosen.transfers:
        wrap = WithoutTransfers
    with _opened(road, chosen, wrap) as (runner, cuda, family):
        frame = _Frame(runner.mesher(family, chosen.dense), runner.spec, chosen)
        for _ in range(2):  # either slot of a mesher has its frame, and no graph yet
            frame.run()
        if isinstance(cuda, WithoutTransfers):
            cuda.skipping = True
        yield row(setting, series(wall(frame.run), effort), faces=chosen.faces)


def throughput(road: str | None, effort: Effort) -> Iterator[Row]:
    """Time between the results of one frame and of the next, one frame at a time and two in flight."""
    for name, depth in (("one frame at a time", 1), ("two frames in flight", 2)):
        with _opened(road, Setting()) as (runner, _, family):
            mesher = runner.mesher(family)
            if depth > mesher.depth:
                warnings.warn("without CUDA kernels there is one frame at a time", RuntimeWarning, stacklevel=2)
                break
            times = series(_between_results(_Frame(mesher, runner.spec, Setting()), depth), effort)
            yield row(name, times, frames_per_s=round(1000 / max(float(times.mean()), 1e-6), 1))


def host_work(road: str | None, effort: Effort) -> Iterator[Row]:
    """What of a frame is not waiting for the device: the host's own work, with the frame to be copied and with the frame in place."""
    for name, setting in (("host's work", Setting()), ("host's work, frame in place", Setting(in_place=True))):
        with _opened(road, setting, WaitClock) as (runner, cuda, family):
            frame = _Frame(runner.mesher(family), runner.spec, setting)

            def sample(frame: _Frame = frame, cuda: WaitClock = cuda) -> float:
                cuda.waited_ns, start = 0, clock()
                frame.run()
                return (clock() - start - cuda.waited_ns) / 1e6

            yield row(name, series(sample, effort))


def stages(road: str | None, effort: Effort) -> Iterator[Row]:
    """Times of the device between events round every step of a frame, which is launched step by step for it."""
    samples: dict[str, list[float]] = {}
    setting = Setting(memory="copy", graph=False)
    with _opened(road, setting, StageClock) as (runner, cuda, family):
        frame = _Frame(runner.mesher(family), runner.spec, setting)

        def sample() -> float:
            cuda.begin()
            frame.run()
            found = cuda.stages()
            if road is None:
                found.pop("network", None)
            for name, milliseconds in found.items():
                samples.setdefault(name, []).append(milliseconds)
            return sum(found.values())

        total = series(sample, effort)
    yield from (row(name, np.array(times[-len(total) :])) for name, times in samples.items())
    yield row("sum of the stages", total)


def check(road: str | None, model: str | None) -> Facts:
    """How far the points are from what the CPU makes of the same frame and the same ONNX file; FaceMeshError where that is too far."""
    with _opened(road, Setting()) as (runner, _, family):
        frame, spec = _Frame(runner.mesher(family), runner.spec, Setting(faces=2)), runner.spec
        found = [frame.run() for _ in range(4)][-1]  # by a graph where there is one
    expected = _on_cpu(frame, spec, family, model)
    difference = max(float(np.abs(a - b).max()) for pair in zip(found, expected, strict=True) for a, b in zip(*pair, strict=True))
    most = MOST_DIFFERENCE_PX["map" if road is None else spec.precision]
    if not difference <= most:
        raise FaceMeshError(f"the points are up to {difference:.3g} px from the CPU's, at most {most:g} may be: the times below are worth nothing")
    return {"largest_difference_px": round(difference, 6)}


def _on_cpu(frame: _Frame, spec: ModelSpec, family: Family, model: str | None) -> list[Mesh]:
    if model is None:
        decode = family.decoder()
        return [decode(face_map(spec), matrix) for matrix in frame.matrices]
    if find_spec("onnxruntime") is None:
        raise LeftOut("ONNX Runtime is not installed, so there is nothing to hold the points against")
    with open_runner(model) as runner:
        mesher = CpuMesher(runner, family)
        mesher.submit(frame.image, frame.matrices)
        return mesher.collect()


class _Frame:
    """The picture with its faces, run through a mesher again and again."""

    def __init__(self, mesher: Mesher, spec: ModelSpec, setting: Setting) -> None:
        self.mesher, self.image, self.matrices = mesher, frame_720p(), face_matrices(setting.faces, spec)
        self._filled: set[int] = set()  # addresses of the mesher's memory that hold the picture
        self._in_place = setting.in_place

    def run(self) -> list[Mesh]:
        self.submit()
        return self.mesher.collect()

    def submit(self) -> None:
        self.mesher.submit(self._pixels() if self._in_place else self.image, self.matrices)

    def _pixels(self) -> NDArray[np.uint8]:
        pixels = self.mesher.frame_buffer(*self.image.shape[:2])
        if pixels is None:
            raise LeftOut("a frame is cropped where it lies: there is no memory to put it into")
        if pixels.ctypes.data not in self._filled:
            pixels[:] = self.image
            self._filled.add(pixels.ctypes.data)
        return pixels


def _between_results(frame: _Frame, depth: int) -> Callable[[], float]:
    for _ in range(depth - 1):
        frame.submit()
    last = clock()

    def sample() -> float:
        nonlocal last
        frame.submit()
        frame.mesher.collect()
        before, last = last, clock()
        return (last - before) / 1e6

    return sample


@contextmanager
def _opened(
    road: str | None, setting: Setting, wrap: Callable[[Cuda], Cuda] = lambda cuda: cuda
) -> Iterator[tuple[TensorRTRunner, Cuda, Family]]:
    """The runner of the road, on the device as ``wrap`` shows it, which comes with it."""
    warnings.filterwarnings("ignore", ".*left out on purpose")
    with ExitStack() as stack:
        cuda = stack.enter_context(open_cuda())
        if road is None and cuda.kernels is None:
            raise LeftOut(NO_KERNELS)
        engine = stack.enter_context(NoNetwork(cuda) if road is None else Engine(read_engine(Path(road))))
        wrapped = wrap(cuda)
        runner = TensorRTRunner(engine, wrapped, setting.faces, setting.sync, setting.memory)
        stack.pop_all()
    with runner:
        yield runner, wrapped, open_family(runner.spec)


class NoNetwork:
    """An engine that computes nothing: its output lies there already.

    Takes the place of a `runtime.inference.trt.engine.Engine` of the shipped model, and of its contexts.
    """

    def __init__(self, cuda: Cuda) -> None:
        self.spec, self._cuda = load_spec(SHIPPED_MODEL), cuda
        self.input_dtype = self.output_dtype = np.dtype(np.float32)
        self._map = face_map(self.spec)
        self.input_nbytes, self.output_nbytes = 3 * 4 * self.spec.input.size**2, self._map.nbytes

    def padded(self, n: int, most: int) -> int:
        return min(1 << (n - 1).bit_length(), most)

    def context(self, batch: int, input_pointer: int, output_pointer: int, stream: Stream) -> NoNetwork:
        with self._cuda.host_buffer(batch * self._map.nbytes) as host:
            host.array.reshape(batch, -1)[:] = self._map.view(np.uint8).ravel()
            self._cuda.upload(output_pointer, host.pointer, batch * self._map.nbytes, stream)
            stream.synchronize()
        return self

    def enqueue(self, stream: Stream) -> None:
        pass

    def close(self) -> None:
        pass

    def __enter__(self) -> NoNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        pass
