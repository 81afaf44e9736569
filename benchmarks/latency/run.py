"""``python -m benchmarks run``: latency of every stage and of whole frames on this machine.

One face per frame. ``crop``, ``network``, ``decode`` and ``pose`` go through the host's memory. Engines on a GPU have
besides ``enqueue`` (the host hands a frame over) and ``device`` (from there to the mesh, all on the GPU). ``frame``
starts from a known box, ``frame+detection`` from the picture. The last line of stdout is the record as one JSON
document; on a terminal it comes without the samples, which --json keeps.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.latency.arguments import add_measurement_arguments, stage_list
from benchmarks.latency.cold_start import cold_starts
from benchmarks.latency.stage_clock import (
    StageGroup,
    StopAfter,
    choose_groups,
    measure_after_idle,
    measure_allocations,
    measure_groups,
    open_groups,
)
from benchmarks.records.latency_record import (
    LatencyMeasurement,
    describe_engine,
    format_record,
    latency_document,
    without_samples,
)
from benchmarks.records.machine import Watch, peak_memory_mb
from benchmarks.records.measured_faces import Face, describe_source, load_measured_faces
from benchmarks.records.provenance import check_writable, plain, write_json
from runtime.console.arguments import positive_int, positive_number
from runtime.console.terminal import quiet_libraries
from runtime.errors import FaceMeshError
from runtime.families.table import FAMILIES
from runtime.inference.interface import Runner
from runtime.inference.open_runner import open_runner

FRAMES = 1000  # of every stage, or
SECONDS = 10.0  # of every group, whichever comes first
WARM_UP_S = 0.5  # of every group of stages
IDLE_S = 5.0  # of rest before a frame,
IDLE_RUNS = 3  # so many times
COLD_RUNS = 3


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``python -m benchmarks run``."""
    parser = subparsers.add_parser(
        "run",
        help="latency by stage",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_measurement_arguments(parser)
    stages_help = "all (default), or some of them with commas between"
    parser.add_argument("--stages", type=stage_list, metavar="LIST", help=stages_help)
    detection_help = "only frames with detection, or without (default: both)"
    parser.add_argument("--detection", action=argparse.BooleanOptionalAction, help=detection_help)
    length = parser.add_mutually_exclusive_group()
    frames_help = f"of every stage (default: {FRAMES}, or {SECONDS:g} s of them)"
    length.add_argument("--frames", type=positive_int, metavar="N", help=frames_help)
    seconds_help = "spent on every stage or group of stages, instead of --frames"
    length.add_argument("--seconds", type=positive_number, metavar="S", help=seconds_help)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record")
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    check_writable(args.json)
    with quiet_libraries():
        document = latency_document(measure_latency(args))
    print(format_record(document))
    if args.json:
        write_json(args.json, document)
    if sys.stdout.isatty():
        document = without_samples(document)
    print(json.dumps(plain(document), allow_nan=False))


def measure_latency(args: argparse.Namespace) -> LatencyMeasurement:
    """Measure stages, whole frames and cold starts."""
    watch = Watch()
    faces = load_measured_faces(args.source)
    model = None if args.engine is None else str(args.engine.resolve())
    keywords = {"model": model, "max_batch": 1, "threads": args.threads, "face_model": args.face_model}
    if args.threads:
        cv2.setNumThreads(args.threads)

    # In this process: the stages, and the last group once more after a rest and for its memory.
    with open_runner(**keywords) as runner:
        groups = _wanted_groups(runner, args)
        columns = measure_groups(groups, faces, _stop_after(args), WARM_UP_S)
        conditions = watch.finish()
        whole = groups[-1]
        after_idle_ms = measure_after_idle(whole, faces, IDLE_S, IDLE_RUNS)
        allocations = measure_allocations(whole, faces)
        memory_mb = peak_memory_mb()
        engine = describe_engine(args.engine, runner)
        if FAMILIES[runner.spec.family].has_face_model:
            keywords["face_model"] = str(Path(runner.spec.topology).resolve())  # other processes have another folder

    # In fresh processes.
    starts = _measure_cold_starts(faces[0], keywords)
    source = describe_source(args.source, faces)
    return LatencyMeasurement(
        engine=engine,
        settings={"source": source, "threads": args.threads, "warm_up_s": WARM_UP_S},
        stages={stage: times for stage, times in columns.items() if args.stages is None or stage in args.stages},
        cold_starts=starts,
        whole_frame="+".join(whole.stages),
        idle_s=IDLE_S,
        after_idle_ms=after_idle_ms,
        allocations=allocations,
        peak_memory_mb=memory_mb,
        conditions=conditions,
    )


def _wanted_groups(runner: Runner, args: argparse.Namespace) -> list[StageGroup]:
    left_out = _left_out(args.detection)
    groups = [group for group in choose_groups(open_groups(runner), args.stages) if not set(group.stages) & left_out]
    if not groups:
        raise FaceMeshError(
            "nothing is left to measure: --stages names only what --detection or --no-detection leaves out"
        )
    return groups


def _left_out(detection: bool | None) -> set[str]:
    """Return the stages that --detection (True) or --no-detection (False) leaves out."""
    if detection is None:
        return set()
    return {"frame"} if detection else {"detection", "frame+detection"}


def _stop_after(args: argparse.Namespace) -> StopAfter:
    if args.frames:
        return StopAfter(args.frames, math.inf)
    if args.seconds:
        return StopAfter(math.inf, args.seconds)
    return StopAfter(FRAMES, SECONDS)


def _measure_cold_starts(face: Face, keywords: dict[str, Any]) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.npy"
        np.save(picture, face.image)
        return cold_starts(picture, keywords, COLD_RUNS)
