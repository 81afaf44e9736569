"""``python -m benchmarks soak``: find leaks of memory and drifts of latency. Exit code 1 if there are some.

The model is opened and closed --opens times: open files, threads and memory must not grow. Then frames (one face,
detection included) run without a pause, or at the pace of --fps. A line a second is kept, fewer in long runs: the
latencies, the memory of the process, temperature and power. The first tenth of the time does not count: caches fill and
the machine warms up. A leak or a drift is a slope whose whole confidence interval (99.9 %, Sen 1968, on medians of
twenty stretches) lies beyond the limit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.latency.arguments import add_measurement_arguments
from benchmarks.latency.soak_opens import held as held_now
from benchmarks.latency.soak_opens import problem_of, soak_opens
from benchmarks.latency.soak_trends import BATCHES, WARMING_UP, Line, Trend, find_trends
from benchmarks.records.latency_record import describe_engine
from benchmarks.records.latency_statistics import batch_medians
from benchmarks.records.machine import Watch, doubts, memory_mb, state
from benchmarks.records.measured_faces import Face, describe_source, load_measured_faces
from benchmarks.records.provenance import check_writable, plain, provenance, write_json
from runtime.console.arguments import positive_int, positive_number
from runtime.console.terminal import quiet_libraries
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.inference.interface import Runner
from runtime.inference.open_runner import open_runner
from runtime.pipeline import FaceMeshPipeline

KIND = "soak"
INTERVAL_S = 1.0  # of a line; longer if there would be more lines than
MOST_LINES = 240
SENSORS_EVERY_S = 10.0  # jetson-stats takes a second to answer
LEAK = 10.0  # MB per hour
DRIFT = 10.0  # percent of the median latency, from the beginning to the end
COLUMNS = {
    "p50_ms": "median ms",
    "p99_ms": "p99 ms",
    "memory_mb": "memory MB",
    "temperature_c": "hottest °C",
    "power_w": "power W",
}
SETTINGS = ("threads", "minutes", "frames", "fps")  # options that are part of the record
UNITS = {"memory_mb": "MB", "p50_ms": "ms"}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``python -m benchmarks soak``."""
    parser = subparsers.add_parser(
        "soak",
        help="drift of latency and memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_measurement_arguments(parser)
    add = parser.add_argument
    minutes_help = "how long; an hour or more finds small leaks"
    add("--minutes", type=positive_number, required=True, metavar="N", help=minutes_help)
    fps_help = "frames per second, as from a camera (default: as many as it can)"
    add("--fps", type=positive_number, metavar="N", help=fps_help)
    frames_help = "and then as long as it takes to so many frames (default: %(default)s)"
    add("--frames", type=positive_int, default=1, metavar="N", help=frames_help)
    opens_help = "open and close the model so often, and then for the frames (default: %(default)s)"
    add("--opens", type=positive_int, default=1, metavar="N", help=opens_help)
    leak_help = "growth tolerated per hour (default: %(default)g)"
    add("--leak", type=positive_number, default=LEAK, metavar="MB", help=leak_help)
    drift_help = "of the latency, tolerated (default: %(default)g)"
    add("--drift", type=positive_number, default=DRIFT, metavar="PERCENT", help=drift_help)
    add("--plot", type=Path, metavar="FILE.png", help="draw the lines")
    add("--json", type=Path, metavar="FILE", help="write the record")
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> int:
    """Soak, print, draw, write, and return the exit code."""
    # Everything that can be missing, before the hours and not after them.
    for path in (args.json, args.plot):
        check_writable(path)
    from benchmarks.latency import sen_slope  # noqa: F401

    if args.plot:
        from benchmarks.latency.soak_chart import draw_soak
    _require_long_enough(args.minutes)

    # Soak.
    watch = Watch()
    faces = load_measured_faces(args.source)
    opened = soak_opens(lambda: _open_and_close(args, faces), args.opens)
    lines, engine, running = _soak_engine(args, faces)
    conditions = watch.finish()
    trends = find_trends(lines, args.leak, args.drift)
    source = describe_source(args.source, faces)
    document = {
        **provenance(),
        "kind": KIND,
        "engine": engine,
        "settings": {"source": source, **{name: getattr(args, name) for name in SETTINGS}},
        "lines": [asdict(line) for line in lines],
        "opened": opened,
        "running": running,
        "trends": {name: asdict(trend) for name, trend in trends.items()},
        "conditions": conditions,
        "warnings": doubts(conditions),
    }

    # Print, draw and write.
    held = [opened["problem"], running["problem"]]
    print(format_soak(lines, trends, document["warnings"], [problem for problem in held if problem]))
    if args.plot:
        draw_soak(lines, args.plot)
    if args.json:
        write_json(args.json, document)
    if sys.stdout.isatty():
        document = {**document, "lines": len(lines)}
    print(json.dumps(plain(document), allow_nan=False))
    return int(any(held) or any(trend.problem for trend in trends.values()))


def _require_long_enough(minutes: float) -> None:
    """Refuse a time that gives too few lines to see a trend in."""
    least = INTERVAL_S * 2 * BATCHES / (1 - WARMING_UP) / 60
    if minutes < least:
        problem = f"--minutes {minutes:g}: too short to see a trend in"
        raise FaceMeshError(f"{problem}; {least + 0.05:.1f} are the least, an hour or more finds small leaks")


def _soak_engine(args: argparse.Namespace, faces: list[Face]) -> tuple[list[Line], dict[str, Any], dict[str, Any]]:
    """Return the lines, the description of the engine, and the files and threads held first and last."""
    with quiet_libraries(), _open_runner(args) as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector(max_faces=1))
        pipeline(faces[0].image)
        before = replace(held_now(), memory_mb=None)  # its trend is judged
        lines = list(soak(pipeline, faces, 60 * args.minutes, args.fps, args.frames))
        after = replace(held_now(), memory_mb=None)
        running = {"before": asdict(before), "after": asdict(after), "problem": problem_of(before, after)}
        return lines, describe_engine(args.engine, runner), running


def _open_and_close(args: argparse.Namespace, faces: list[Face]) -> None:
    with quiet_libraries(), _open_runner(args) as runner:
        FaceMeshPipeline(runner, YuNetDetector(max_faces=1))(faces[0].image)


def _open_runner(args: argparse.Namespace) -> Runner:
    if args.threads:
        cv2.setNumThreads(args.threads)
    return open_runner(args.engine, max_batch=1, threads=args.threads, face_model=args.face_model)


def soak(pipeline: Any, faces: list[Face], seconds: float, fps: float | None, frames: int = 1) -> Iterator[Line]:
    """Call ``pipeline`` for so long and with so many pictures, one after the other; yield a line for every interval."""
    pictures = itertools.cycle(faces)
    interval = max(INTERVAL_S, seconds / MOST_LINES)
    start = due = time.monotonic()
    done = 0
    sensors: dict[str, float | None] = {}
    sensors_at = -SENSORS_EVERY_S
    while (begun := time.monotonic() - start) < seconds or done < frames:
        # Read the sensors now and then.
        if begun - sensors_at >= SENSORS_EVERY_S:
            sensors = _read_sensors()
            sensors_at = begun

        # Time frames until the interval is over.
        taken = []
        end = begun + interval if done < frames else min(begun + interval, seconds)
        while (now := time.monotonic() - start) < end or not taken:
            if fps:
                due = max(due + 1 / fps, start + now)
                time.sleep(max(0.0, due - time.monotonic()))
            started = time.perf_counter()
            pipeline(next(pictures).image)
            taken.append(1000 * (time.perf_counter() - started))
        done += len(taken)
        p50, p99 = np.percentile(taken, (50, 99)).tolist()
        yield Line((begun + now) / 2, len(taken), p50, p99, memory_mb(), **sensors)


def _read_sensors() -> dict[str, float | None]:
    """Return the temperature of the hottest sensor, and the power of the whole board or the GPU."""
    found = state()
    degrees = list(found.get("temperatures_c", {}).values())
    if "gpu_c" in found:
        degrees.append(found["gpu_c"])
    rails = found.get("power_w", {})
    watts = next((rails[name] for name in ("total", "VDD_IN", "POM_5V_IN") if name in rails), found.get("gpu_w"))
    return {"temperature_c": max(degrees, default=None), "power_w": watts}


def format_soak(lines: list[Line], trends: dict[str, Trend], warnings: list[str], held: Sequence[str] = ()) -> str:
    """Return the text for people; ``held`` is what has grown. The last line is the verdict."""
    frames = sum(line.frames for line in lines)
    minutes = lines[-1].time_s / 60
    text = [f"{frames} frames in {minutes:.1f} minutes; after warming up and at the end:"]
    for name, label in COLUMNS.items():
        values = [getattr(line, name) for line in lines[round(WARMING_UP * len(lines)) :]]
        if None not in values:
            first, *_, last = batch_medians(values, BATCHES)
            text.append(f"{label}: {first:.2f}, {last:.2f}")
    for name, trend in trends.items():
        slope = trend.per_hour
        interval = f"({slope.low:+.3g} … {slope.high:+.3g})"
        text.append(f"trend of {name}: {slope.estimate:+.3g} {UNITS[name]} per hour {interval}")
    text += [f"warning: {warning}" for warning in warnings]
    problems = [*held, *(trend.problem for trend in trends.values() if trend.problem)]
    text.append(f"failed: {'; '.join(problems)}" if problems else "passed: no leak and no drift beyond the limits")
    return "\n".join(text)
