"""``python -m benchmarks library``: whole frames of a film in the C library and in Python, by turns.

Both follow the same film on the same core, each in a process of its own: track, crop, network, decode, smooth, with
all vertices; the detector looks at its usual times. Blocks of frames take turns, and two neighbouring blocks make a
pair. The film goes to and fro. The last column is the largest difference of landmarks at the end of blocks.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.latency.arguments import FACE_MODEL_HELP
from benchmarks.library.building import build_program
from benchmarks.records.latency_statistics import paired_ratio, summarise
from benchmarks.records.provenance import REPOSITORY, check_writable, provenance, text_table, two_digits, write_json
from runtime.console.arguments import positive_int, positive_number
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import SHIPPED_PICTURE, YUNET_ONNX, shipped_model
from runtime.pipeline import FaceMeshPipeline
from runtime.sources.frame_source import FrameSource
from runtime.tracking.options import Tracking
from runtime.types import Frame

BLOCK = 15  # frames
LEAST_PAIRS = 4
WARM_UP = 2  # blocks of each that do not count
RATE = 25.0  # frames a second
ERROR = 0.025  # beyond each end of the interval
Images = list[NDArray[np.uint8]]
Block = tuple[list[float], NDArray[np.float64]]  # milliseconds by frame, and landmarks (N,) of the last one


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``python -m benchmarks library``."""
    parser = subparsers.add_parser(
        "library",
        help="whole frames in the C library and in Python",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--engine", type=Path, metavar="MODEL", help=".onnx (default: the shipped model)")
    add("--face-model", type=Path, metavar="FILE.npz", help=FACE_MODEL_HELP)
    add("--source", metavar="FILM", help="film, photo or folder (default: the shipped photo, swaying)")
    add("--frames", type=positive_int, default=50, metavar="N", help="of the film, kept in memory (50)")
    add("--seconds", type=positive_number, default=20.0, help="of measuring (20)")
    add("--threads", type=positive_int, default=1, metavar="N", help="of the network, in both (1)")
    build_help = "where CMake builds the library (build/library-benchmark)"
    add("--build", type=Path, default=REPOSITORY / "build" / "library-benchmark", metavar="FOLDER", help=build_help)
    add("--json", type=Path, metavar="FILE", help="write the figures and where they come from")
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> None:
    """Build, measure, print and write."""
    check_writable(args.json)
    engine = args.engine or shipped_model()
    images = swaying_portrait(args.frames) if args.source is None else read_film(args.source, args.frames)
    program = build_program(args.build)
    with tempfile.TemporaryDirectory() as folder, one_place(args.threads):
        film = Path(folder) / "film"
        film.write_bytes(b"".join(image.tobytes() for image in images))
        height, width = images[0].shape[:2]
        words: list[Any] = [program, engine, YUNET_ONNX, args.threads, film, width, height, len(images)]
        if args.face_model is not None:
            words.append(args.face_model)
        with (
            open_runner(engine, threads=args.threads, face_model=args.face_model) as runner,
            Program(list(map(str, words))) as library,
        ):
            pipeline = FaceMeshPipeline(runner, YuNetDetector(), tracking=Tracking())
            times, ratio, difference = measure(library, PythonFilm(pipeline, images), args.seconds)
            facts = {"engine": runner.spec.name, "precision": runner.spec.precision, "file": engine.name}
    print(format_table(times, difference))
    print(f"C / Python: {ratio.estimate:.3f}, 95 % interval {ratio.low:.3f}..{ratio.high:.3f}")
    if args.json is not None:
        source = None if args.source is None else Path(args.source).name
        document = {
            "kind": "library",
            **provenance(),
            **facts,
            **{"source": source, "frames": len(images), "size_wh": [width, height]},
            "threads": args.threads,
            "frame": {name: {**summarise(values), "count": len(values)} for name, values in times.items()},
            "ratio": {"estimate": ratio.estimate, "low": ratio.low, "high": ratio.high},
            "largest_difference_px": difference,
        }
        write_json(args.json, document)


def swaying_portrait(count: int) -> Images:
    """Return frames of the shipped photo, its face sliding and turning by some degrees."""
    photo, frames = cv2.imread(str(SHIPPED_PICTURE)), []
    for number in range(count):
        matrix = cv2.getRotationMatrix2D((220, 140), 8 * math.sin(number / 6), 1.0)
        matrix[0, 2] += 40 * math.sin(number / 9)
        frames.append(cv2.warpAffine(photo, matrix, photo.shape[1::-1]))
    return frames


def read_film(source: str, count: int) -> Images:
    """Return the first frames of a source. Raises `FaceMeshError` if there are not two of one size."""
    with FrameSource(source) as frames:
        images = [np.ascontiguousarray(frame.image) for frame in islice(frames, count)]
    images = [image for image in images if image.shape == images[0].shape]
    if len(images) < 2:
        raise FaceMeshError(f"{source}: two frames of one size at least are wanted; give a film")
    return images


@contextmanager
def one_place(threads: int) -> Iterator[None]:
    """Keep this process and its children on as many cores as they have threads."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[-threads:])
    cv2.setNumThreads(threads)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Program:
    """The C library in its process; a context manager."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )

    def run(self, frames: int) -> Block:
        """Measure the next frames. Raises `FaceMeshError` with the program's line if it ends."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{frames}\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = ""
        if not answer.endswith("\n"):
            told = process.communicate()[1].strip().splitlines()
            raise FaceMeshError(told[-1] if told else "the program over the C library has ended; build it anew")
        document = json.loads(answer)
        return [time_ns / 1e6 for time_ns in document["ns"]], np.array(document["landmarks"])

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class PythonFilm:
    """The same in this process: a pipeline that follows the film to and fro."""

    def __init__(self, pipeline: FaceMeshPipeline, images: Images) -> None:
        self._pipeline = pipeline
        self._images = images
        self._number = 0

    def run(self, frames: int) -> Block:
        """Measure the next frames."""
        taken: list[float] = []
        gc.collect()
        gc.disable()
        try:
            for _ in range(frames):
                frame = self._next()
                start = time.perf_counter_ns()
                faces = self._pipeline(frame)
                taken.append((time.perf_counter_ns() - start) / 1e6)
        finally:
            gc.enable()
        return taken, faces[0].landmarks.ravel().astype(np.float64) if faces else np.empty(0)

    def _next(self) -> Frame:
        last = len(self._images) - 1
        place = self._number % (2 * last)
        frame = Frame(self._images[min(place, 2 * last - place)], self._number, self._number / RATE, "film")
        self._number += 1
        return frame


def measure(library: Program, python: PythonFilm, seconds: float) -> tuple[dict[str, list[float]], Any, float]:
    """Run blocks by turns, ABBA, until the time is up.

    Returns the milliseconds of all frames by name, the ratio C / Python with its interval, and the largest difference
    of landmarks, px.
    """
    ways = {"C": library, "Python": python}
    times: dict[str, list[float]] = {name: [] for name in ways}
    medians: dict[str, list[float]] = {name: [] for name in ways}
    difference, pairs, until = 0.0, -WARM_UP, math.inf
    while pairs < LEAST_PAIRS or pairs % 2 or time.monotonic() < until:
        if pairs == 0:
            until = time.monotonic() + seconds
        last = {}
        for name in ("C", "Python") if pairs % 2 == 0 else ("Python", "C"):
            taken, last[name] = ways[name].run(BLOCK)
            if pairs >= 0:
                times[name] += taken
                medians[name].append(float(np.median(taken)))
        if last["C"].shape != last["Python"].shape:
            raise FaceMeshError("the C library and Python find different faces in the film; give another one")
        difference = max(difference, float(np.abs(last["C"] - last["Python"]).max(initial=0.0)))
        pairs += 1
    if not last["C"].size:
        raise FaceMeshError("there is no face in the film; give one that shows a face")
    return times, paired_ratio(medians["C"], medians["Python"], ERROR, np.random.default_rng(0)), difference


def format_table(times: dict[str, list[float]], difference: float) -> str:
    """Return the table of milliseconds per frame."""
    rows = [("frame", "p50 ms", "p90 ms", "p99 ms", "frames", "differ by px")]
    for name, values in times.items():
        found = summarise(values)
        cells = [two_digits(found[key]) for key in ("p50_ms", "p90_ms", "p99_ms")]
        rows.append((name, *cells, str(len(values)), f"{difference:.1g}"))
    return text_table(rows, left=1)
