"""``python -m benchmarks run``: latency of every stage and of whole frames on this machine, with what is needed to believe it.

One face per frame. ``crop``, ``network``, ``decode`` and ``pose`` go through the host's memory; engines on a GPU have besides ``enqueue`` (the host
hands a frame over) and ``device`` (from there to the mesh, all on the GPU). ``frame`` starts from a known box, ``frame+detection`` from the picture.
The last line of stdout is the record as one JSON document; on a terminal it comes without the samples, which --json keeps.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.latency.arguments import add_subject_arguments, stage_list
from benchmarks.latency.cold_start import cold_starts
from benchmarks.latency.stage_clock import Enough, allocations, chosen, first_after_idle, measure, open_groups
from benchmarks.records.latency_record import FORMAT, KIND, describe_engine, format_record, spread_doubts, stage_record
from benchmarks.records.machine import Watch, doubts, peak_memory_mb
from benchmarks.records.measured_faces import describe_source, load_subjects
from benchmarks.records.provenance import check_writable, plain, provenance, write_json
from runtime.console.arguments import positive_int, positive_number
from runtime.console.terminal import quiet_libraries
from runtime.errors import FaceMeshError
from runtime.inference.open_runner import open_runner

FRAMES, SECONDS = 1000, 10.0  # whichever comes first
WARM_UP_S = 0.5  # of every group of stages
IDLE_S, IDLE_RUNS = 5.0, 3
COLD_RUNS = 3


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """``python -m benchmarks run``."""
    parser = subparsers.add_parser("run", help="latency by stage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_subject_arguments(parser)
    parser.add_argument("--stages", type=stage_list, metavar="LIST", help="all (default), or some of them with commas between")
    parser.add_argument("--detection", action=argparse.BooleanOptionalAction, help="only frames with detection, or without (default: both)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--frames", type=positive_int, metavar="N", help=f"of every stage (default: {FRAMES}, or {SECONDS:g} s of them)")
    length.add_argument("--seconds", type=positive_number, metavar="S", help="spent on every stage or group of stages, instead of --frames")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record")
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> None:
    check_writable(args.json)
    with quiet_libraries():
        document = measured(args)
    print(format_record(document))
    if args.json:
        write_json(args.json, document)
    if sys.stdout.isatty():
        document = {**document, "stages": {name: {**row, "samples_us": None} for name, row in document["stages"].items()}}
    print(json.dumps(plain(document), allow_nan=False))


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """The record of one run."""
    watch, faces = Watch(), load_subjects(args.source)
    keywords = {"model": None if args.engine is None else str(args.engine.resolve()), "max_batch": 1, "threads": args.threads}
    if args.threads:
        cv2.setNumThreads(args.threads)
    with open_runner(**keywords) as runner:
        groups = chosen(open_groups(runner), args.stages)
        groups = [group for group in groups if not (set(group.stages) & _left_out(args.detection))]
        if not groups:
            raise FaceMeshError("nothing is left to measure: --stages names only what --detection or --no-detection leaves out")
        columns = measure(groups, faces, _enough(args), WARM_UP_S)
        columns = {stage: times for stage, times in columns.items() if args.stages is None or stage in args.stages}
        conditions = watch.finish()
        whole = groups[-1]
        idle = first_after_idle(whole, faces, IDLE_S, IDLE_RUNS)
        held = allocations(whole, faces)
        memory = peak_memory_mb()
        engine = describe_engine(args.engine, runner)
    with tempfile.TemporaryDirectory() as folder:
        np.save(picture := Path(folder) / "picture.npy", faces[0].image)
        starts = cold_starts(picture, keywords, COLD_RUNS)
    middle = sorted(starts, key=lambda start: start["total"])[len(starts) // 2]
    return {
        **provenance(),
        "kind": KIND,
        "format": FORMAT,
        "engine": engine,
        "settings": {"source": describe_source(args.source, faces), "threads": args.threads, "warm_up_s": WARM_UP_S},
        "stages": {stage: stage_record(times) for stage, times in columns.items()},
        "cold_start_ms": round(middle["total"], 1),
        "cold_start": {"runs": len(starts), **{f"{part}_ms": round(ms, 1) for part, ms in middle.items()}},
        "first_after_idle_ms": round(statistics.median(idle), 4),
        "first_after_idle": {"stage": "+".join(whole.stages), "idle_s": IDLE_S, "all_ms": idle},
        "allocations": {"stage": "+".join(whole.stages), **held},
        "peak_memory_mb": memory,
        "conditions": conditions,
        "warnings": [*doubts(conditions), *spread_doubts(columns)],
    }


def _left_out(detection: bool | None) -> set[str]:
    return set() if detection is None else {"frame"} if detection else {"detection", "frame+detection"}


def _enough(args: argparse.Namespace) -> Enough:
    if args.frames:
        return Enough(args.frames, math.inf)
    return Enough(math.inf, args.seconds) if args.seconds else Enough(FRAMES, SECONDS)
