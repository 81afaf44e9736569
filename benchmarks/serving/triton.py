"""``python -m benchmarks triton``: requests per second and p99 of a Triton server, beside the pipeline in process.

Every client sends one encoded photo, waits for the landmarks, pose and confidence of its faces and sends the next. The
column "core ms" is processor time per request, of the server (with --pid) and of the pipeline. The
row "in process" is one thread that decodes the same photos and calls the pipeline while the server is idle. The rows
take turns, round by round.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.records.provenance import check_writable, provenance, text_table, two_digits, write_json
from benchmarks.serving.processor_time import processor_time_s
from runtime.console.arguments import address, positive_int, positive_number
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.inference.open_runner import open_runner
from runtime.pipeline import FaceMeshPipeline
from runtime.sources.photos import decode_photo, list_photos, read_bytes

IN_PROCESS = "in process"
# Times of all answers, s; the time that they took together, s; failed requests.
Measured = tuple[NDArray[np.float64], float, int]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``python -m benchmarks triton``."""
    parser = subparsers.add_parser(
        "triton",
        help="requests per second and p99 of a Triton server",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--source", type=Path, required=True, metavar="PATH", help="a photo or a folder of photos")
    add("--server", type=address("127.0.0.1"), default=("127.0.0.1", 8001), metavar="HOST:PORT", help="(8001)")
    add("--protocol", choices=("grpc", "http"), default="grpc", help="HTTP is usually on port 8000 (grpc)")
    add("--model", default="facemesh", metavar="NAME", help="in the server (facemesh)")
    add("--clients", type=positive_int, nargs="+", default=[1, 8, 64], metavar="N", help="at once (1 8 64)")
    add("--seconds", type=positive_number, default=3.0, help="of every row in a round (3)")
    add("--rounds", type=positive_int, default=3, metavar="N", help="(3)")
    add("--engine", type=Path, metavar="MODEL", help="in process, .onnx or .engine (default: the shipped model)")
    add(
        "--pid", type=positive_int, metavar="N", help="of a server on this machine: adds its processor time per request"
    )
    add("--json", type=Path, metavar="FILE", help="write the table and where it comes from")
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> int:
    """Measure, print and write; returns 1 if a request failed."""
    from benchmarks.serving.triton_load import Client, served_latencies

    check_writable(args.json)
    host, port = args.server
    server = f"{host}:{port}"
    photos = [read_bytes(path) for path in list_photos(args.source)]
    client = Client(args.protocol, server, args.model)
    client.check()
    client.close()
    ways: dict[str, Callable[[], Measured]] = {IN_PROCESS: lambda: _in_process(photos, args.engine, args.seconds)}
    for number in args.clients:
        ways[f"{number} client{'s' * (number > 1)}, {args.protocol}"] = partial(
            served_latencies, args.protocol, server, args.model, photos, number, args.seconds
        )
    measured: dict[str, list[Measured]] = {way: [] for way in ways}
    core_s = dict.fromkeys(ways, 0.0)
    for _ in range(args.rounds):
        for way, measure in ways.items():
            pid = os.getpid() if way == IN_PROCESS else args.pid
            before = processor_time_s(pid) if pid else math.nan
            measured[way].append(measure())
            core_s[way] += processor_time_s(pid) - before if pid else math.nan
    rows = [_row(way, rounds, core_s[way]) for way, rounds in measured.items()]
    print(text_table([tuple(rows[0]), *(tuple(map(_cell, row.values())) for row in rows)], left=1))
    if args.json is not None:
        write_json(args.json, {"kind": "triton", "rows": rows, "provenance": provenance()})
    return 1 if any(row["failed"] for row in rows) else 0


def _cell(value: object) -> str:
    return two_digits(value) if isinstance(value, float) else str(value)


def _in_process(photos: Sequence[bytes], engine: Path | None, seconds: float) -> Measured:
    latencies = []
    with open_runner(engine) as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector(), dense=False)
        pipeline(decode_photo(photos[0], "the first photo"))
        start = time.perf_counter()
        for photo in itertools.cycle(photos):
            begin = time.perf_counter()
            if begin - start > seconds:
                break
            pipeline(decode_photo(photo, "a photo"))
            latencies.append(time.perf_counter() - begin)
        return np.array(latencies), time.perf_counter() - start, 0


def _row(way: str, rounds: Sequence[Measured], core_s: float) -> dict[str, str | float | int]:
    latencies = np.concatenate([each[0] for each in rounds])
    if not len(latencies):
        raise FaceMeshError(f"{way}: no request succeeded; the server's log tells why")
    p50, p99 = (1000 * np.percentile(latencies, (50, 99))).tolist()
    rate, failed = len(latencies) / sum(each[1] for each in rounds), sum(each[2] for each in rounds)
    core_ms = 1000 * core_s / len(latencies)
    return {"way": way, "requests/s": rate, "p50 ms": p50, "p99 ms": p99, "core ms": core_ms, "failed": failed}
