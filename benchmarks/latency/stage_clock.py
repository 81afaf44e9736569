"""The clock round the public parts of the runtime: what a frame costs, stage by stage and as a whole."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.records.measured_faces import Face
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.geometry.crop import crop_into
from runtime.geometry.pose import PoseEstimator
from runtime.inference.interface import Runner
from runtime.pipeline import FaceMeshPipeline

BLOCK = 25  # frames of a group before the next one has its turn
ALLOCATION_FRAMES = 100
clock = time.perf_counter_ns


@dataclass(frozen=True, eq=False)
class Group:
    """Stages that follow each other: ``run`` times one face, in nanoseconds by stage."""

    stages: tuple[str, ...]
    run: Callable[[Face], Sequence[int]]


@dataclass(frozen=True)
class Enough:
    """A group has been measured when it has so many frames, or so many seconds have gone into it."""

    frames: float
    seconds: float


def open_groups(runner: Runner) -> list[Group]:
    """Everything that can be measured with this runner. ``frame`` is `FaceMeshPipeline.from_boxes`, ``frame+detection`` the call of a pipeline."""
    detector = YuNetDetector(max_faces=1)
    pipeline = FaceMeshPipeline(runner, detector)
    groups = [
        Group(("crop", "network", "decode", "pose"), _steps(runner, pipeline)),
        Group(("detection",), _timed(lambda face: detector(face.image))),
        Group(("frame",), _timed(lambda face: pipeline.from_boxes(face.image, face.box_xyxy[None]))),
        Group(("frame+detection",), _timed(lambda face: pipeline(face.image))),
    ]
    if pipeline.overlaps:
        groups.insert(1, Group(("enqueue", "device"), _device_steps(runner, pipeline)))
    return groups


def chosen(groups: list[Group], wanted: Sequence[str] | None) -> list[Group]:
    """The groups that have one of the stages wanted, None: all. Raises `FaceMeshError` for a stage that this engine has not."""
    have = [stage for group in groups for stage in group.stages]
    if missing := [stage for stage in wanted or () if stage not in have]:
        raise FaceMeshError(f"no stage {', '.join(missing)} with this engine; there are {','.join(have)}")
    return [group for group in groups if wanted is None or set(wanted) & set(group.stages)]


def measure(groups: list[Group], faces: list[Face], enough: Enough, warm_up_s: float) -> dict[str, NDArray[np.float64]]:
    """Milliseconds (frames,) of every stage. The groups take turns, so that a disturbance meets all; no garbage is collected meanwhile."""
    pictures = cycle(faces)
    for group in groups:
        until = time.monotonic() + warm_up_s
        while time.monotonic() < until:
            group.run(next(pictures))
    times: list[list[Sequence[int]]] = [[] for _ in groups]
    seconds = [0.0] * len(groups)
    pending = list(range(len(groups)))
    while pending:
        for place in pending:
            most = int(min(BLOCK, enough.frames - len(times[place])))
            rows, taken = _run_block(groups[place], list(islice(pictures, most)))
            times[place] += rows
            seconds[place] += taken
        pending = [place for place in pending if len(times[place]) < enough.frames and seconds[place] < enough.seconds]
    columns = {}
    for group, rows in zip(groups, times, strict=True):
        columns |= dict(zip(group.stages, np.array(rows, np.float64).T / 1e6, strict=True))
    return columns


def first_after_idle(group: Group, faces: list[Face], idle_s: float, runs: int) -> list[float]:
    """Milliseconds of the first frame after a rest, ``runs`` times."""
    found = []
    for face in islice(cycle(faces), runs):
        time.sleep(idle_s)
        found.append(sum(group.run(face)) / 1e6)
    return found


def allocations(group: Group, faces: list[Face]) -> dict[str, Any]:
    """Python's memory per frame: what a frame leaves behind once its result is gone, and the most that it holds meanwhile.

    Counts what goes through Python's allocators, NumPy's arrays among it, but not what libraries take from the system themselves.
    """
    pictures = list(islice(cycle(faces), ALLOCATION_FRAMES))
    peaks = np.zeros(len(pictures))
    tracemalloc.start()
    try:
        for face in pictures:  # caches that fill once are no leak
            group.run(face)
        gc.collect()
        before, blocks = tracemalloc.get_traced_memory()[0], sys.getallocatedblocks()
        for place, face in enumerate(pictures):
            tracemalloc.reset_peak()
            held, _ = tracemalloc.get_traced_memory()
            group.run(face)
            peaks[place] = tracemalloc.get_traced_memory()[1] - held
        gc.collect()
        after, left = tracemalloc.get_traced_memory()[0], sys.getallocatedblocks() - blocks
    finally:
        tracemalloc.stop()
    count = len(pictures)
    return {"frames": count, "blocks_left": left / count, "bytes_left": (after - before) / count, "peak_bytes": float(peaks.max())}


def _run_block(group: Group, pictures: list[Face]) -> tuple[list[Sequence[int]], float]:
    """The times of every picture, and the seconds that all of them took."""
    gc.collect()
    gc.disable()
    started = time.monotonic()
    try:
        return [group.run(face) for face in pictures], time.monotonic() - started
    finally:
        gc.enable()


def _timed(call: Callable[[Face], object]) -> Callable[[Face], Sequence[int]]:
    def run(face: Face) -> Sequence[int]:
        start = clock()
        call(face)
        return (clock() - start,)

    return run


def _steps(runner: Runner, pipeline: FaceMeshPipeline) -> Callable[[Face], Sequence[int]]:
    """Crop, network and decode through the host's memory, and the pose."""
    spec, decode = runner.spec, pipeline.family.decoder()
    estimate_pose = PoseEstimator(pipeline.family.topology)

    def run(face: Face) -> Sequence[int]:
        start = clock()
        matrix = pipeline.family.crop_matrix(face.box_xyxy)
        crop_into(face.image, matrix, spec.input, runner.input[0])
        cropped = clock()
        maps = runner.infer(1)
        inferred = clock()
        _, landmarks = decode(maps[0], matrix)
        decoded = clock()
        estimate_pose(landmarks)
        return cropped - start, inferred - cropped, decoded - inferred, clock() - decoded

    return run


def _device_steps(runner: Runner, pipeline: FaceMeshPipeline) -> Callable[[Face], Sequence[int]]:
    """Crop, network and decode on the device: how long the host takes to hand the work over, and how long until the mesh is there."""
    family, mesher = pipeline.family, runner.mesher(pipeline.family)

    def run(face: Face) -> Sequence[int]:
        start = clock()
        mesher.submit(face.image, [family.crop_matrix(face.box_xyxy)])
        submitted = clock()
        mesher.collect()
        return submitted - start, clock() - start

    return run
