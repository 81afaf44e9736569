"""``python -m benchmarks soak``: does it stay as fast and as small as it starts? Exit code 1, with the reason, where it certainly does not.

Frames (one face, detection included) run without a pause, or at the pace of --fps. A line a second, fewer in long runs, is kept: the latencies, the
memory of the process, temperature and power. The first tenth of the time is not judged: caches fill and the machine warms up. A leak or a drift is
a slope whose whole confidence interval (99.9 %, Sen 1968, on medians of twenty stretches) lies beyond the limit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.latency.arguments import add_subject_arguments
from benchmarks.latency.soak_trends import BATCHES, WARMING_UP, Line, Trend, judge
from benchmarks.records.latency_record import describe_engine
from benchmarks.records.latency_statistics import batch_medians
from benchmarks.records.machine import Watch, doubts, memory_mb, state
from benchmarks.records.measured_faces import Face, describe_source, load_subjects
from benchmarks.records.provenance import check_writable, plain, provenance, write_json
from runtime.console.arguments import positive_number
from runtime.console.terminal import quiet_libraries
from runtime.detection.yunet import YuNetDetector
from runtime.inference.open_runner import open_runner
from runtime.pipeline import FaceMeshPipeline

KIND = "soak"
INTERVAL_S, MOST_LINES = 1.0, 2000  # of a line; longer where there would be too many
SENSORS_EVERY_S = 10.0  # jetson-stats takes a second to answer
LEAK = 10.0  # MB per hour
DRIFT = 10.0  # percent of the median latency, from the beginning to the end
COLUMNS = {"p50_ms": "median ms", "p99_ms": "p99 ms", "memory_mb": "memory MB", "temperature_c": "hottest °C", "power_w": "power W"}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """``python -m benchmarks soak``."""
    parser = subparsers.add_parser(
        "soak", help="drift of latency and memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_subject_arguments(parser)
    parser.add_argument("--minutes", type=positive_number, required=True, metavar="N", help="how long; an hour or more finds small leaks")
    parser.add_argument("--fps", type=positive_number, metavar="N", help="frames per second, as from a camera (default: as many as it can)")
    parser.add_argument("--leak", type=positive_number, default=LEAK, metavar="MB", help="growth tolerated per hour (default: %(default)g)")
    parser.add_argument("--drift", type=positive_number, default=DRIFT, metavar="PERCENT", help="of the latency, tolerated (default: %(default)g)")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the lines")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record")
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    for path in (args.json, args.plot):
        check_writable(path)
    if args.plot:
        from benchmarks.latency.soak_chart import draw_soak  # before the hours, not after them
    watch, faces = Watch(), load_subjects(args.source)
    if args.threads:
        cv2.setNumThreads(args.threads)
    with quiet_libraries(), open_runner(args.engine, max_batch=1, threads=args.threads) as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector(max_faces=1))
        lines = list(soak(pipeline, faces, 60 * args.minutes, args.fps))
        engine = describe_engine(args.engine, runner)
    conditions, trends = watch.finish(), judge(lines, args.leak, args.drift)
    document = {
        **provenance(),
        "kind": KIND,
        "engine": engine,
        "settings": {"source": describe_source(args.source, faces), "threads": args.threads, "minutes": args.minutes, "fps": args.fps},
        "lines": [asdict(line) for line in lines],
        "trends": {name: asdict(trend) for name, trend in trends.items()},
        "conditions": conditions,
        "warnings": doubts(conditions),
    }
    print(format_soak(lines, trends, document["warnings"]))
    if args.plot:
        draw_soak(lines, args.plot)
    if args.json:
        write_json(args.json, document)
    if sys.stdout.isatty():
        document = {**document, "lines": len(lines)}
    print(json.dumps(plain(document), allow_nan=False))
    return 1 if any(trend.problem for trend in trends.values()) else 0


def soak(pipeline: Any, faces: list[Face], seconds: float, fps: float | None) -> Iterator[Line]:
    """Call ``pipeline`` with picture after picture for so long, and give a line for every interval."""
    pictures, interval = itertools.cycle(faces), max(INTERVAL_S, seconds / MOST_LINES)
    start = due = time.monotonic()
    sensors, sensors_at = {}, -SENSORS_EVERY_S
    while (begun := time.monotonic() - start) < seconds:
        if begun - sensors_at >= SENSORS_EVERY_S:
            sensors, sensors_at = _sensors(), begun
        taken = []
        while (now := time.monotonic() - start) < min(begun + interval, seconds) or not taken:
            if fps:
                due = max(due + 1 / fps, start + now)
                time.sleep(max(0.0, due - time.monotonic()))
            started = time.perf_counter()
            pipeline(next(pictures).image)
            taken.append(1000 * (time.perf_counter() - started))
        p50, p99 = np.percentile(taken, (50, 99)).tolist()
        yield Line((begun + now) / 2, len(taken), p50, p99, memory_mb(), **sensors)


def _sensors() -> dict[str, float | None]:
    found = state()
    degrees = [*found.get("temperatures_c", {}).values(), *([found["gpu_c"]] if "gpu_c" in found else [])]
    rails = found.get("power_w", {})
    watts = next((rails[name] for name in ("total", "VDD_IN", "POM_5V_IN") if name in rails), found.get("gpu_w"))
    return {"temperature_c": max(degrees, default=None), "power_w": watts}


def format_soak(lines: list[Line], trends: dict[str, Trend], warnings: list[str]) -> str:
    """For people; the last line is the verdict."""
    units = {"memory_mb": "MB", "p50_ms": "ms"}
    text = [f"{sum(line.frames for line in lines)} frames in {lines[-1].time_s / 60:.1f} minutes; after warming up and at the end:"]
    for name, label in COLUMNS.items():
        values = [getattr(line, name) for line in lines[round(WARMING_UP * len(lines)) :]]
        if None not in values:
            first, *_, last = batch_medians(values, BATCHES)
            text.append(f"{label}: {first:.2f}, {last:.2f}")
    for name, trend in trends.items():
        slope = trend.per_hour
        text.append(f"trend of {name}: {slope.estimate:+.3g} {units[name]} per hour ({slope.low:+.3g} … {slope.high:+.3g})")
    text += [f"warning: {warning}" for warning in warnings]
    problems = [trend.problem for trend in trends.values() if trend.problem]
    return "\n".join([*text, f"failed: {'; '.join(problems)}" if problems else "passed: no leak and no drift beyond the limits"])
