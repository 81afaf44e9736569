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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.machine import Watch, doubts, memory_mb, state
from benchmarks.peer import Face
from benchmarks.record import check_writable, plain, provenance, write_json
from benchmarks.run import add_subject_arguments, describe_engine, positive_seconds
from benchmarks.statistics import Interval, batch_medians, sen_slope
from benchmarks.subjects import describe_source, load_subjects
from runtime.detector import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.pipeline import FaceMeshPipeline
from runtime.runner import open_runner
from runtime.terminal import quiet_libraries

KIND = "soak"
INTERVAL_S, MOST_LINES = 1.0, 2000  # of a line; longer where there would be too many
SENSORS_EVERY_S = 10.0  # jetson-stats takes a second to answer
WARMING_UP = 0.1  # of the time
BATCHES = 20
ERROR = 0.0005  # of each end of an interval
LEAK = 10.0  # MB per hour
DRIFT = 10.0  # percent of the median latency, from the beginning to the end
COLUMNS = {"p50_ms": "median ms", "p99_ms": "p99 ms", "memory_mb": "memory MB", "temperature_c": "hottest °C", "power_w": "power W"}


@dataclass(frozen=True)
class Line:
    """What is kept of one interval."""

    time_s: float  # its middle, since the start
    frames: int
    p50_ms: float
    p99_ms: float
    memory_mb: float | None
    temperature_c: float | None  # of the hottest sensor
    power_w: float | None


@dataclass(frozen=True)
class Trend:
    """How a quantity went, and why that is too much (None: it is not)."""

    per_hour: Interval
    problem: str | None


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """``python -m benchmarks soak``."""
    parser = subparsers.add_parser(
        "soak", help="drift of latency and memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_subject_arguments(parser)
    parser.add_argument("--minutes", type=positive_seconds, required=True, metavar="N", help="how long; an hour or more finds small leaks")
    parser.add_argument("--fps", type=positive_seconds, metavar="N", help="frames per second, as from a camera (default: as many as it can)")
    parser.add_argument("--leak", type=positive_seconds, default=LEAK, metavar="MB", help="growth tolerated per hour (default: %(default)g)")
    parser.add_argument("--drift", type=positive_seconds, default=DRIFT, metavar="PERCENT", help="of the latency, tolerated (default: %(default)g)")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the lines")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record")
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    for path in (args.json, args.plot):
        check_writable(path)
    if args.plot:
        from benchmarks.soak_chart import draw_soak  # before the hours, not after them
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


def judge(lines: list[Line], leak: float, drift: float) -> dict[str, Trend]:
    """The trends of memory and latency. Tolerated are ``leak`` MB per hour and ``drift`` percent of the median latency."""
    judged = lines[round(WARMING_UP * len(lines)) :]
    if len(judged) < 2 * BATCHES:
        raise FaceMeshError(f"{len(lines)} lines are too few to see a trend in, {2 * BATCHES} are needed after the first tenth; soak for longer")
    hours = np.array([line.time_s for line in judged]) / 3600
    trends = {}
    if all(line.memory_mb is not None for line in judged):
        slope = _slope(hours, [line.memory_mb for line in judged])
        problem = f"memory leaks: {slope.estimate:+.1f} MB per hour, at least {slope.low:.1f}; {leak:g} are tolerated"
        trends["memory_mb"] = Trend(slope, problem if slope.low > leak else None)
    latency = _slope(hours, [line.p50_ms for line in judged])
    span, middle = float(hours[-1] - hours[0]), float(np.median([line.p50_ms for line in judged]))
    gained, least = (100 * value * span / middle for value in (latency.estimate, latency.low))
    problem = f"latency drifts: {gained:+.1f} % in this time, at least {least:.1f}; {drift:g} are tolerated"
    trends["p50_ms"] = Trend(latency, problem if least > drift else None)
    return trends


def _slope(hours: np.ndarray, values: list[float]) -> Interval:
    return sen_slope(batch_medians(hours, BATCHES), batch_medians(values, BATCHES), ERROR)


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
