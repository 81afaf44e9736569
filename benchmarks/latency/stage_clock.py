"""Time the public parts of the runtime: a frame stage by stage, and as a whole."""

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
class StageGroup:
    """Stages that follow each other: ``time_face`` does them for one face and returns nanoseconds by stage."""

    stages: tuple[str, ...]
    time_face: Callable[[Face], Sequence[int]]


@dataclass(frozen=True)
class StopAfter:
    """The length of a measurement: so many frames of a group, or so many seconds, whichever comes first."""

    frames: float
    seconds: float


def open_groups(runner: Runner) -> list[StageGroup]:
    """Return everything that can be measured with this runner.

    ``frame`` is `FaceMeshPipeline.from_boxes`, ``frame+detection`` the call of a pipeline.
    """
    detector = YuNetDetector(max_faces=1)
    pipeline = FaceMeshPipeline(runner, detector)
    groups = [StageGroup(("crop", "network", "decode", "pose"), _time_stages(runner, pipeline))]
    if pipeline.overlaps:
        groups.append(StageGroup(("enqueue", "device"), _time_device(runner, pipeline)))
    return [
        *groups,
        StageGroup(("detection",), _time_call(lambda face: detector(face.image))),
        StageGroup(("frame",), _time_call(lambda face: pipeline.from_boxes(face.image, face.box_xyxy[None]))),
        StageGroup(("frame+detection",), _time_call(lambda face: pipeline(face.image))),
    ]


def choose_groups(groups: list[StageGroup], wanted: Sequence[str] | None) -> list[StageGroup]:
    """Choose the groups that have one of the stages wanted; None chooses all.

    Raises `FaceMeshError` for a stage that this engine has not.
    """
    have = [stage for group in groups for stage in group.stages]
    if missing := [stage for stage in wanted or () if stage not in have]:
        raise FaceMeshError(f"no stage {', '.join(missing)} with this engine; there are {','.join(have)}")
    return [group for group in groups if wanted is None or set(wanted) & set(group.stages)]


def measure_groups(
    groups: list[StageGroup], faces: list[Face], stop_after: StopAfter, warm_up_s: float
) -> dict[str, NDArray[np.float64]]:
    """Measure every stage; returns milliseconds (frames,).

    The groups take turns, so that a disturbance meets all. No garbage is collected meanwhile.
    """
    # Warm up each group.
    pictures = cycle(faces)
    for group in groups:
        until = time.monotonic() + warm_up_s
        while time.monotonic() < until:
            group.time_face(next(pictures))

    # Measure blocks by turns, until each group has enough.
    times: list[list[Sequence[int]]] = [[] for _ in groups]
    seconds = [0.0] * len(groups)
    pending = list(range(len(groups)))
    while pending:
        for place in pending:
            count = int(min(BLOCK, stop_after.frames - len(times[place])))
            rows, taken = _time_block(groups[place], list(islice(pictures, count)))
            times[place] += rows
            seconds[place] += taken
        pending = [
            place for place in pending if len(times[place]) < stop_after.frames and seconds[place] < stop_after.seconds
        ]

    # Rows of frames to columns of stages.
    columns = {}
    for group, rows in zip(groups, times, strict=True):
        columns |= dict(zip(group.stages, np.array(rows, np.float64).T / 1e6, strict=True))
    return columns


def measure_after_idle(group: StageGroup, faces: list[Face], idle_s: float, runs: int) -> list[float]:
    """Measure the first frame after a rest, ``runs`` times; returns milliseconds."""
    found = []
    for face in islice(cycle(faces), runs):
        time.sleep(idle_s)
        found.append(sum(group.time_face(face)) / 1e6)
    return found


def measure_allocations(group: StageGroup, faces: list[Face]) -> dict[str, Any]:
    """Measure Python's memory per frame: the bytes and blocks left behind, and the most held meanwhile.

    Counts everything that goes through Python's allocators, NumPy's arrays among it, but not memory that libraries
    take from the system themselves.
    """
    pictures = list(islice(cycle(faces), ALLOCATION_FRAMES))
    peaks = np.zeros(len(pictures))
    tracemalloc.start()
    try:
        # Fill caches that fill once: they are no leak.
        for face in pictures:
            group.time_face(face)
        gc.collect()

        # Measure each frame.
        before = tracemalloc.get_traced_memory()[0]
        blocks = sys.getallocatedblocks()
        for place, face in enumerate(pictures):
            tracemalloc.reset_peak()
            held = tracemalloc.get_traced_memory()[0]
            group.time_face(face)
            peaks[place] = tracemalloc.get_traced_memory()[1] - held
        gc.collect()
        bytes_left = tracemalloc.get_traced_memory()[0] - before
        blocks_left = sys.getallocatedblocks() - blocks
    finally:
        tracemalloc.stop()
    count = len(pictures)
    return {
        "frames": count,
        "blocks_left": blocks_left / count,
        "bytes_left": bytes_left / count,
        "peak_bytes": float(peaks.max()),
    }


def _time_block(group: StageGroup, pictures: list[Face]) -> tuple[list[Sequence[int]], float]:
    """Return the times of every picture, and the seconds that all of them took."""
    gc.collect()
    gc.disable()
    started = time.monotonic()
    try:
        rows = [group.time_face(face) for face in pictures]
        return rows, time.monotonic() - started
    finally:
        gc.enable()


def _time_call(call: Callable[[Face], object]) -> Callable[[Face], Sequence[int]]:
    def time_face(face: Face) -> Sequence[int]:
        start = clock()
        call(face)
        return (clock() - start,)

    return time_face


def _time_stages(runner: Runner, pipeline: FaceMeshPipeline) -> Callable[[Face], Sequence[int]]:
    """Time crop, network and decode through the host's memory, and the pose."""
    spec = runner.spec
    family = pipeline.family
    decode = family.decoder()
    estimate_pose = PoseEstimator(family.topology)

    def time_face(face: Face) -> Sequence[int]:
        start = clock()
        matrix = family.crop_matrix(face.box_xyxy)
        crop_into(face.image, matrix, spec.input, runner.input[0])
        cropped = clock()
        maps = runner.infer(1)
        inferred = clock()
        _, landmarks = decode(maps[0], matrix)
        decoded = clock()
        estimate_pose(landmarks)
        return cropped - start, inferred - cropped, decoded - inferred, clock() - decoded

    return time_face


def _time_device(runner: Runner, pipeline: FaceMeshPipeline) -> Callable[[Face], Sequence[int]]:
    """Time the work on the device: until the host has handed it over, and until the mesh is there."""
    family = pipeline.family
    mesher = runner.mesher(family)

    def time_face(face: Face) -> Sequence[int]:
        start = clock()
        mesher.submit(face.image, [family.crop_matrix(face.box_xyxy)])
        submitted = clock()
        mesher.collect()
        return submitted - start, clock() - start

    return time_face
