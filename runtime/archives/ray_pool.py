"""Workers on a Ray cluster, or on this machine alone: a pool of actors of Ray Data. Home module of Ray."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send reports to its makers
import ray
import ray.data
import ray.exceptions

from runtime.archives.places import as_text
from runtime.archives.settings import Settings
from runtime.archives.shard import Counts
from runtime.archives.work import ShardWorker, counted_try
from runtime.console.stop_signals import interruption
from runtime.errors import FaceMeshError, one_line

LOCAL = "local"
STORE_BYTES = 100 << 20  # of the object store on this machine: only numbers of shards go through it
MOST_BLOCKS = 4000
ANSWER_S = 10.0  # for a cluster's head
# The first bytes of HTTP/2, which Ray's head speaks, with empty settings; the answer is a frame of settings, too.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


@dataclass(frozen=True)
class Pool:
    """Size and place of the workers."""

    address: str = LOCAL  # of a cluster; LOCAL: a small one on this machine for this run alone
    workers: int | None = None  # None: one for each GPU or core of the cluster
    gpus: float = 0  # of one worker


def run_shards(numbers: Sequence[int], folder: Path, settings: Settings, pool: Pool) -> Iterator[Counts]:
    """Do the shards and yield the counts of each as it is finished, in any order.

    Ray gives the shards of a worker or a node that dies to others. Raises `FaceMeshError` without a cluster, without
    the wanted GPUs, for a worker that cannot start or write, and where workers die again and again.
    """
    with _connected(pool):
        workers = min(_workers(pool), len(numbers))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        rows = [{"shard": number} for number in numbers]
        counts = ray.data.from_items(rows, override_num_blocks=min(len(rows), MOST_BLOCKS)).map_batches(
            _Worker,
            fn_constructor_args=(str(folder), settings),
            batch_size=1,
            concurrency=(1, workers),
            num_cpus=1,
            num_gpus=pool.gpus or None,
        )
        try:
            for row in counts.iter_rows():
                if row["problem"]:
                    raise FaceMeshError(row["problem"])
                yield Counts(int(row["pictures"]), int(row["faces"]), int(row["errors"]), float(row["core_s"]))
        except ray.exceptions.RayError as error:
            raise FaceMeshError(_reason(error)) from None


class _Worker:
    """A `ShardWorker` as Ray Data calls it: rows of shards in, rows of counts out.

    A failure is a row, too: Ray would print a report on an exception, and would replace a worker that cannot start.
    """

    def __init__(self, folder: str, settings: Settings) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self._problem = ""
        try:
            import cv2

            cv2.setNumThreads(1)
            actor = ray.get_runtime_context().get_actor_id()  # the same after its death
            with counted_try(Path(folder), f"worker-{actor}", "at its start"):
                self._work = ShardWorker(Path(folder), settings)
        except Exception as error:
            self._problem = _told_by_worker(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        counts, problem = Counts(), self._problem
        if not problem:
            try:
                for number in batch["shard"]:
                    counts += self._work(int(number))
            except Exception as error:
                problem = _told_by_worker(error)
        return {name: [value] for name, value in asdict(counts).items()} | {"problem": [problem]}


def _told_by_worker(error: Exception) -> str:
    """Return the line on a failure for the run's machine; Ray's log of the worker gets the traceback."""
    traceback.print_exception(error)
    line = str(error) if isinstance(error, FaceMeshError) else f"{type(error).__name__}: {one_line(error)}"
    return as_text(f"worker on {ray.util.get_node_ip_address()}: {line}")


@contextlib.contextmanager
def _connected(pool: Pool) -> Iterator[None]:
    """Join the cluster, or start one of this process on 127.0.0.1."""
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if pool.address == LOCAL:
        options |= {"include_dashboard": False, "object_store_memory": STORE_BYTES, "_node_ip_address": "127.0.0.1"}
        options |= {"num_cpus": pool.workers} if pool.workers else {}
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        with _handlers_kept():
            ray.init(address=pool.address, **options)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _no_cluster(pool.address, error) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Put the handler of SIGTERM back: Ray's own calls `sys.exit`."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as exiting:
        raise interruption(signal.SIGTERM) from exiting
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def check_address(address: str) -> None:
    """Raise `FaceMeshError` at once if nobody listens: Ray itself tries for minutes."""
    if address == LOCAL:
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise FaceMeshError(f"--address {address}: must be HOST:PORT of a Ray cluster's head, such as 10.0.0.1:6379")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S) as connection:
            if not _speaks_http2(connection):
                raise OSError("something else listens there")
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None


def _speaks_http2(connection: socket.socket) -> bool:
    """Tell whether a server may be Ray's, whose clients wait on any other for minutes; TLS is not looked into."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return True
    connection.sendall(PREFACE)
    answer = b""
    while len(answer) < 9 and (received := connection.recv(9 - len(answer))):
        answer += received
    return len(answer) == 9 and answer[3] == 4


def _no_cluster(address: str, error: Exception) -> FaceMeshError:
    remedy = "start one with 'ray start --head', or leave --address out to use this machine"
    return FaceMeshError(f"no Ray cluster answers at {address} ({one_line(error, 120)}); {remedy}")


def _workers(pool: Pool) -> int:
    """Return the number of workers that the cluster has room for, or that was given."""
    found = ray.cluster_resources()
    if pool.gpus and found.get("GPU", 0) < pool.gpus:
        problem = "this model runs on GPUs, and the Ray cluster has none"
        raise FaceMeshError(f"{problem}; add nodes with GPUs, or give an .onnx model")
    room = int(found.get("GPU", 0) / pool.gpus) if pool.gpus else int(found.get("CPU", 1))
    return min(pool.workers or room, max(1, room))


def _reason(error: Exception) -> str:
    """Return one line on Ray's error about the workers."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"the workers failed ({one_line(lines[-1])}); Ray's logs of them may tell more, the same command goes on"
