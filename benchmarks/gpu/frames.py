"""Parts of `benchmarks.gpu.gpu_report`: a 720p frame in host memory to landmarks and vertices in host memory.

The runtime's own code runs the frames. ``engine`` is the path of an engine, of an ONNX file that PyTorch runs
(`benchmarks.gpu.without_tensorrt.torch_network`), or None: without one a position map that was made on the host takes
the place of the network's output, so that crop, decode, copies and launches can be measured.
"""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.clocks import (
    Facts,
    Row,
    SeriesLength,
    StageClock,
    WaitClock,
    WithoutGraphs,
    WithoutTransfers,
    clock,
    record_row,
    take_series,
    time_on_host,
)
from benchmarks.gpu.no_network import NoNetwork
from benchmarks.gpu.scene import NO_KERNELS, PartSkipped, face_map, face_matrices, mean_landmarks
from benchmarks.gpu.scene import frame as make_picture
from benchmarks.gpu.settings import SETTINGS, Setting
from benchmarks.records.ranges import named_range
from runtime.cuda.interface import Cuda
from runtime.cuda.open_cuda import open_cuda
from runtime.errors import FaceMeshError
from runtime.families.family import Family, Mesh
from runtime.families.table import FAMILIES, open_family
from runtime.inference.cpu_mesher import CpuMesher
from runtime.inference.interface import MeshedFace, Runner
from runtime.inference.open_runner import open_runner
from runtime.inference.trt.engine_file import read_engine
from runtime.inference.trt.mesh_engine import MeshEngine
from runtime.inference.trt.runner import TensorRTRunner
from runtime.models.spec import ModelSpec

# By precision, in crops of about 300 px. INT8 is held to its NME, elsewhere.
MOST_DIFFERENCE_PX = {"map": 0.01, "fp32": 0.5, "fp16": 1.0, "int8": math.inf}


def frames(engine: str | None, setting: str, length: SeriesLength) -> Iterator[Row]:
    """Measure one frame at a time by one of SETTINGS, from the call to the points."""
    chosen = SETTINGS[setting]
    wrap: Callable[[Cuda], Cuda] = (lambda cuda: cuda) if chosen.graph else WithoutGraphs
    if not chosen.transfers:
        wrap = WithoutTransfers
    with _opened_runner(engine, chosen, wrap) as (runner, cuda, family):
        frame = _Frame(runner, family, chosen)
        for _ in range(2):  # either slot of a mesher has its frame, and no graph yet
            frame.run()
        if isinstance(cuda, WithoutTransfers):
            cuda.skipping = True
        sample = rested(time_on_host(frame.run), chosen.rest_s)
        yield record_row(setting, take_series(sample, length), faces=chosen.faces)


def newcomers(engine: str | None, most: int = 8) -> Iterator[Row]:
    """Measure the first four frames of every number of faces up to ``most``, after frames with one face.

    Contexts and graphs that are made only then are part of these frames.
    """
    setting = Setting(faces=most)
    with _opened_runner(engine, setting) as (runner, _, family):
        frame = _Frame(runner, family, setting)
        frame.counts = itertools.repeat(1)
        for _ in range(8):
            frame.run()
        times = []
        for count in range(2, most + 1):
            frame.counts = itertools.repeat(count)
            times += [time_on_host(frame.run)() for _ in range(4)]
        yield record_row(f"first frames with 2 to {most} faces", np.array(times), faces=most)


def rested(sample: Callable[[], float], rest_s: float) -> Callable[[], float]:
    """Return ``sample`` after ``rest_s`` seconds of sleep, which it does not count."""
    if not rest_s:
        return sample

    def rest_and_sample() -> float:
        time.sleep(rest_s)
        return sample()

    return rest_and_sample


def throughput(engine: str | None, length: SeriesLength) -> Iterator[Row]:
    """Measure the time from one result to the next, one frame at a time and two in flight."""
    for name, depth in (("one frame at a time", 1), ("two frames in flight", 2)):
        with _opened_runner(engine, Setting()) as (runner, _, family):
            frame = _Frame(runner, family, Setting())
            if depth > frame.mesher.depth:
                warnings.warn("without CUDA kernels there is one frame at a time", RuntimeWarning, stacklevel=2)
                break
            times = take_series(_between_results(frame, depth), length)
            rate = 1000 / max(float(times.mean()), 1e-6)
            yield record_row(name, times, frames_per_s=round(rate, 1))


def host_work(engine: str | None, length: SeriesLength) -> Iterator[Row]:
    """Measure the host's time per frame without its waits for the GPU, with the frame copied and in place."""
    for name, setting in (("host's work", Setting()), ("host's work, frame in place", Setting(in_place=True))):
        with _opened_runner(engine, setting, WaitClock) as (runner, cuda, family):
            frame = _Frame(runner, family, setting)

            def sample(frame: _Frame = frame, cuda: WaitClock = cuda) -> float:
                cuda.waited_ns = 0
                start = clock()
                frame.run()
                return (clock() - start - cuda.waited_ns) / 1e6

            yield record_row(name, take_series(sample, length))


def stages(engine: str | None, length: SeriesLength) -> Iterator[Row]:
    """Measure the device's time for every step of a frame, launched step by step between events."""
    samples: dict[str, list[float]] = {}
    setting = Setting(memory="copy", graph=False)
    with _opened_runner(engine, setting, StageClock) as (runner, cuda, family):
        frame = _Frame(runner, family, setting)

        def sample() -> float:
            cuda.begin()
            frame.run()
            found = cuda.stages()
            if engine is None:
                found.pop("network", None)
            for name, milliseconds in found.items():
                samples.setdefault(name, []).append(milliseconds)
            return sum(found.values())

        total = take_series(sample, length)
    yield from (record_row(name, np.array(times[-len(total) :])) for name, times in samples.items())
    yield record_row("sum of the stages", total)


def check(engine: str | None, model: str | None) -> Facts:
    """Return the largest distance of the points from the CPU's for the same frame and ONNX file.

    Raises `FaceMeshError` beyond MOST_DIFFERENCE_PX.
    """
    with _opened_runner(engine, Setting()) as (runner, _, family):
        spec = runner.spec
        frame = _Frame(runner, family, Setting(faces=2))
        found = [frame.run() for _ in range(4)][-1]  # by a graph, if one can be made
    expected = _on_cpu(frame, spec, family, model)
    differences = []
    for face, reference in zip(found, expected, strict=True):
        for points, others in zip((face.vertices, face.landmarks), reference, strict=True):
            differences.append(float(np.abs(points - others).max()))
    difference = float(np.max(differences))
    most = MOST_DIFFERENCE_PX["map" if engine is None else spec.precision]
    if not difference <= most:
        raise FaceMeshError(
            f"the points are up to {difference:.3g} px from the CPU's, at most {most:g} may be: "
            "the times below are worth nothing"
        )
    return {"largest_difference_px": round(difference, 6)}


def _on_cpu(frame: _Frame, spec: ModelSpec, family: Family, model: str | None) -> list[Mesh]:
    if model is None:
        decode = family.decoder()
        return [decode(face_map(spec), matrix) for matrix in frame.matrices]
    if find_spec("onnxruntime") is None:
        raise PartSkipped("ONNX Runtime is not installed, so there is nothing to hold the points against")
    face_model = spec.topology if FAMILIES[spec.family].has_face_model else None
    with open_runner(model, face_model=face_model) as runner:
        mesher = CpuMesher(runner, family)
        mesher.submit(frame.image, frame.matrices, frame.landmarks)
        return [(face.vertices, face.landmarks) for face in mesher.collect()]


class _Frame:
    """The picture with its faces, run through a mesher again and again."""

    def __init__(self, runner: Runner, family: Family, setting: Setting) -> None:
        self.mesher = runner.mesher(family, setting.dense)
        self.image = make_picture(setting.height, setting.width)
        self.matrices = face_matrices(setting.faces, family, setting.height, setting.width, setting.sides)
        self.landmarks = mean_landmarks(runner.spec, family, self.matrices)
        self.counts: Iterator[int] = itertools.cycle(setting.counts)
        self._filled: set[int] = set()  # addresses of the mesher's memory that hold the picture
        self._in_place = setting.in_place

    def run(self) -> list[MeshedFace]:
        """Return the faces."""
        self.submit()
        with named_range("collect"):
            return self.mesher.collect()

    def submit(self) -> None:
        """Start a frame; the mesher collects it."""
        count = next(self.counts)
        faces = (self.matrices[:count], self.landmarks[:count])
        with named_range("submit"):
            self.mesher.submit(self._pixels() if self._in_place else self.image, *faces)

    def _pixels(self) -> NDArray[np.uint8]:
        pixels = self.mesher.frame_buffer(*self.image.shape[:2])
        if pixels is None:
            raise PartSkipped("a frame is cropped where it lies: there is no memory to put it into")
        if pixels.ctypes.data not in self._filled:
            pixels[:] = self.image
            self._filled.add(pixels.ctypes.data)
        return pixels


def _between_results(frame: _Frame, depth: int) -> Callable[[], float]:
    """Return a sample of the time between two results with ``depth`` frames in flight, in milliseconds."""
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
def _opened_runner(
    engine: str | None, setting: Setting, wrap: Callable[[Cuda], Cuda] = lambda cuda: cuda
) -> Iterator[tuple[TensorRTRunner, Cuda, Family]]:
    """Open a runner of the engine on the device inside ``wrap``; yield runner, wrapped device and family."""
    warnings.filterwarnings("ignore", ".*left out on purpose")
    with ExitStack() as stack:
        cuda = stack.enter_context(open_cuda())
        if engine is None and cuda.kernels is None:
            raise PartSkipped(NO_KERNELS)
        network = stack.enter_context(_open_network(engine, cuda))
        wrapped = wrap(_captured_by_torch(cuda) if _is_torch(engine) else cuda)
        runner = TensorRTRunner(network, wrapped, setting.faces, setting.sync, setting.memory)
        stack.pop_all()
    with runner:
        yield runner, wrapped, open_family(runner.spec)


def _is_torch(engine: str | None) -> bool:
    return engine is not None and engine.endswith(".onnx")


def _open_network(engine: str | None, cuda: Cuda) -> Any:
    """Return a `MeshEngine`, or its substitute."""
    if engine is None:
        return NoNetwork(cuda)
    if not _is_torch(engine):
        return MeshEngine(read_engine(Path(engine)))
    from benchmarks.gpu.without_tensorrt.torch_network import TorchNetwork, require_cuda

    require_cuda()
    return TorchNetwork(Path(engine))


def _captured_by_torch(cuda: Cuda) -> Cuda:
    from benchmarks.gpu.without_tensorrt.torch_network import TorchCapture

    return TorchCapture(cuda)
