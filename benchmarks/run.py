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
from numpy.typing import NDArray

from benchmarks.cold_start import cold_starts
from benchmarks.face_data import positive
from benchmarks.machine import Watch, doubts, peak_memory_mb
from benchmarks.record import check_writable, plain, provenance, text_table, write_json
from benchmarks.stages import Enough, allocations, chosen, first_after_idle, measure, open_groups
from benchmarks.statistics import summarise, thin
from benchmarks.subjects import SHIPPED_PICTURE, describe_source, load_subjects
from runtime.errors import FaceMeshError
from runtime.runner import SHIPPED_MODEL, Runner, open_runner
from runtime.spec import file_sha256
from runtime.terminal import quiet_libraries

FORMAT = 1
KIND = "latency"
FRAMES, SECONDS = 1000, 10.0  # whichever comes first
WARM_UP_S = 0.5  # of every group of stages
IDLE_S, IDLE_RUNS = 5.0, 3
COLD_RUNS = 3
MOST_SAMPLES = 2000  # kept in the record
MOST_VARIATION = 0.05
HOST_BOUND = 0.8  # trtexec warns at the same share


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """``python -m benchmarks run``."""
    parser = subparsers.add_parser("run", help="latency by stage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_subject_arguments(parser)
    parser.add_argument("--stages", type=stage_list, metavar="LIST", help="all (default), or some of them with commas between")
    parser.add_argument("--detection", action=argparse.BooleanOptionalAction, help="only frames with detection, or without (default: both)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--frames", type=positive, metavar="N", help=f"of every stage (default: {FRAMES}, or {SECONDS:g} s of them)")
    length.add_argument("--seconds", type=positive_seconds, metavar="S", help="spent on every stage or group of stages, instead of --frames")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record")
    parser.set_defaults(func=_run)


def add_subject_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, on which picture and with how many threads: for every command that measures latencies."""
    parser.add_argument("--engine", type=Path, metavar="MODEL", help=".onnx or an engine; default: the shipped model")
    parser.add_argument("--source", type=Path, default=SHIPPED_PICTURE, metavar="FILE", help="photo, folder or film; default: the shipped picture")
    parser.add_argument("--threads", type=positive, metavar="N", help="of network and OpenCV (default: what they choose themselves)")


def stage_list(text: str) -> list[str] | None:
    """Type of ``--stages``; None is all."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise argparse.ArgumentTypeError("is empty; leave it out for all stages")
    return None if names == ["all"] else names


def positive_seconds(text: str) -> float:
    """Type of arguments that last."""
    if not 0 < (seconds := float(text)) < math.inf:
        raise argparse.ArgumentTypeError("must be above 0")
    return seconds


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


def describe_engine(path: Path | None, runner: Runner) -> dict[str, Any]:
    """Which file ran, and the ONNX file that it comes from."""
    file, spec = path or SHIPPED_MODEL, runner.spec
    return {"file": file.name, "sha256": file_sha256(file), "model": spec.name, "precision": spec.precision, "model_sha256": spec.onnx_sha256}


def stage_record(milliseconds: NDArray[np.float64]) -> dict[str, Any]:
    """What the record holds of one stage; samples are microseconds in the order in which they were taken."""
    figures = {name: round(value, 4) for name, value in summarise(milliseconds).items()}
    return {"frames": len(milliseconds), **figures, "samples_us": (1000 * thin(milliseconds, MOST_SAMPLES)).round(1).tolist()}


def spread_doubts(columns: dict[str, NDArray[np.float64]]) -> list[str]:
    """Why the latencies themselves (milliseconds by stage) say that they should not be trusted."""
    variations = {stage: summarise(times)["cv"] for stage, times in columns.items()}
    wide = [f"{stage} {100 * variation:.0f} %" for stage, variation in variations.items() if variation > MOST_VARIATION]
    found = [f"coefficient of variation above {100 * MOST_VARIATION:.0f} %: {', '.join(wide)}"] if wide else []
    if "enqueue" in columns and np.median(columns["enqueue"]) > HOST_BOUND * np.median(columns["device"]):
        found.append("handing a frame to the GPU takes nearly as long as the GPU needs for it: the host is what is measured")
    return found


def format_record(document: dict[str, Any]) -> str:
    """The record for people."""
    engine, settings, machine = document["engine"], document["settings"], document["machine"]
    source, held = settings["source"], document["allocations"]
    lines = [("stage", "frames", "p50 ms", "p90 ms", "p99 ms", "max ms", "CV %")]
    for stage, row in document["stages"].items():
        figures = (f"{row[key]:.3f}" for key in ("p50_ms", "p90_ms", "p99_ms", "max_ms"))
        lines.append((stage, str(row["frames"]), *figures, f"{100 * row['cv']:.1f}"))
    lines.append(("cold start", str(document["cold_start"]["runs"]), f"{document['cold_start_ms']:.1f}", "", "", "", ""))
    idle = document["first_after_idle"]
    lines.append((f"after {idle['idle_s']:g} s idle", str(len(idle["all_ms"])), f"{document['first_after_idle_ms']:.3f}", "", "", "", ""))
    memory = "unknown" if document["peak_memory_mb"] is None else f"{document['peak_memory_mb']:.0f} MB"
    return "\n".join(
        [
            f"{engine['file']} ({engine['precision']}) on {machine.get('board') or machine['cpu']}, {machine['cores']} cores"
            + (f", {machine['gpu']}" if "gpu" in machine else "")
            + f"; {source['pictures']} × {source['file']}, {source['size_wh'][0]} × {source['size_wh'][1]} px",
            text_table(lines, left=1),
            f"per {held['stage']}: {held['peak_bytes'] / 1e6:.2f} MB of Python's memory at most, {held['bytes_left']:.0f} bytes in "
            f"{held['blocks_left']:.2f} blocks left behind; the process held {memory} at most",
            *(f"warning: {warning}" for warning in document["warnings"]),
        ]
    )
