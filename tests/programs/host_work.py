"""What the host does for a frame on the GPU road beside waiting: ``python -m tests.programs.host_work``.

One face, a 720p frame that lies in the page-locked buffer, no detection. The driver is the stand-in, which here forgets
its work instead of doing it, so that it leaves the CPU's caches alone as a GPU would.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np

from benchmarks.records.measured_faces import load_measured_faces
from runtime.cuda.driver import Device
from runtime.families.uv_topology import load_topology
from runtime.geometry.crop import crop_matrix, landmark_box
from runtime.geometry.pose import PoseEstimator
from runtime.inference.open_runner import open_runner
from runtime.inference.trt.network_stream import NetworkStream
from runtime.models.shipped import SHIPPED_MODEL, SHIPPED_PICTURE
from runtime.pipeline import FaceMeshPipeline
from runtime.types import Detections
from tests.standins import fake_engine
from tests.standins.fake_cuda import FakeCuda, FakeStream

BOX = np.array([[500, 200, 700, 420]], np.float32)
WARM_UP = 10


def measure(model: Path = SHIPPED_MODEL, frames: int = 1000, dense: bool = True) -> np.ndarray:
    """(frames,) microseconds outside the wait."""
    with _opened(model, dense) as (pipeline, waits), forgetful():
        return _times(waits, [lambda: pipeline(pipeline.frame_buffer(720, 1280))] * frames)


@contextmanager
def _opened(model: Path, dense: bool = True) -> Iterator[tuple[FaceMeshPipeline, list[float]]]:
    """A pipeline that finds a face at BOX, its frame's memory filled; and the seconds of its waits."""
    found, waits, wait = Detections(BOX, np.ones(1, np.float32)), [], NetworkStream.wait

    def timed_wait(lane: NetworkStream) -> None:
        start = time.perf_counter()
        wait(lane)
        waits.append(time.perf_counter() - start)

    with _stand_in(model) as engine, open_runner(engine) as runner, patch.object(NetworkStream, "wait", timed_wait):
        pipeline = FaceMeshPipeline(runner, lambda image: found, dense=dense)
        picture = _picture()
        for _ in range(WARM_UP):
            buffer = pipeline.frame_buffer(720, 1280)
            buffer[:] = picture
            pipeline(buffer)
        yield pipeline, waits


def measure_changes(model: Path = SHIPPED_MODEL, frames: int = 40) -> np.ndarray:
    """(3,) microseconds that the first frame with another number of faces takes longer than the median of its kind.

    One face, three, one and five, ``frames`` of each, outside the wait.
    """
    boxes = np.repeat(BOX, 5, axis=0)
    with _opened(model) as (pipeline, waits):

        def run(count: int) -> None:
            pipeline.from_boxes(pipeline.frame_buffer(720, 1280), boxes[:count])

        for _ in range(WARM_UP):  # so that all memory has five faces to show
            run(5)
        with forgetful():
            times = _times(waits, [partial(run, count) for count in np.repeat((1, 3, 1, 5), frames)])
    per_count = times.reshape(4, frames)
    return (per_count[:, 0] - np.median(per_count, axis=1))[1:]


def _times(waits: list[float], calls: list[Callable[[], object]]) -> np.ndarray:
    """Return the microseconds of each call, its waits left out."""
    seconds = []
    for call in calls:
        waits.clear()
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start - sum(waits))
    return 1e6 * np.array(seconds)


def forgetful() -> AbstractContextManager[object]:
    """Let streams forget their work."""
    return patch.object(FakeStream, "run", lambda stream, until=None: stream.queue.clear())


def _picture() -> np.ndarray:
    """(720, 1280, 3): the shipped photograph's face at BOX. Its mesh lies upright in the crop, so one look does."""
    face = load_measured_faces(SHIPPED_PICTURE)[0]
    (x0, y0, x1, y1), (u0, v0, u1, v1) = face.box_xyxy, BOX[0]
    scale = float(np.sqrt((u1 - u0) * (v1 - v0) / ((x1 - x0) * (y1 - y0))))
    shift = (u0 + u1 - scale * (x0 + x1)) / 2, (v0 + v1 - scale * (y0 + y1)) / 2
    return cv2.warpAffine(face.image, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]]), (1280, 720))


def unavoidable(frames: int = 1000) -> float:
    """Microseconds of what the host cannot leave out: crop matrix, box and pose."""
    topology = load_topology()
    landmarks = topology.canonical_vertices[topology.landmark_vertices]
    pose = PoseEstimator(topology)
    steps: list[Callable[[], object]] = [
        lambda: crop_matrix(BOX[0], 1.6, 128),
        lambda: landmark_box(landmarks),
        lambda: pose(landmarks),
    ]
    return sum(np.median([_time(step) for _ in range(frames)]) for step in steps)


def _time(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return 1e6 * (time.perf_counter() - start)


@contextmanager
def _stand_in(model: Path) -> Iterator[Path]:
    """An engine of ``model``, and the machine that runs it."""
    cuda = FakeCuda(integrated=False)
    cuda.logging = False
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.dict(sys.modules, {"tensorrt": fake_engine.make("tensorrt-10.3", cuda)}),
        patch("runtime.inference.trt.engine_file.find_device", lambda: Device("Orin", "8.7")),
        patch("runtime.inference.trt.runner.open_cuda", lambda **_: cuda),
    ):
        yield fake_engine.write_engine(Path(folder) / "m.engine", model)


def main() -> None:
    warnings.simplefilter("ignore")
    for dense, what in ((True, "43,867 vertices"), (False, "landmarks alone")):
        p50, p90, p99 = np.percentile(measure(dense=dense), (50, 90, 99))
        print(f"{what}: {p50:.0f} us a frame outside the wait (p90 {p90:.0f}, p99 {p99:.0f})")
    print(f"1, 3, 1 and 5 faces: the first frame with another number takes {measure_changes().max():.0f} us longer")
    print(f"crop matrix, box and pose alone: {unavoidable():.0f} us")


if __name__ == "__main__":
    main()
