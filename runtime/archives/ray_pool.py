"""Workers on a Ray cluster, or on this machine alone: a pool of actors of Ray Data. Home module of Ray."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send reports to its makers
import ray
import ray.data
import ray.exceptions

from runtime.archives.settings import Settings
from runtime.archives.shard import Counts
from runtime.archives.work import ShardWorker
from runtime.errors import FaceMeshError, one_line

LOCAL = "local"
STORE_BYTES = 100 << 20  # of the object store on this machine: only numbers of shards go through it
MOST_BLOCKS = 4000


@dataclass(frozen=True)
class Pool:
    """Size and place of the workers."""

    address: str = LOCAL  # of a cluster; LOCAL: a small one on this machine for this run alone
    workers: int | None = None  # None: one for each GPU or core of the cluster
    gpus: float = 0  # of one worker


def run_shards(numbers: Sequence[int], folder: Path, settings: Settings, pool: Pool) -> Iterator[Counts]:
    """Do the shards and yield the counts of each as it is finished, in any order.

    Ray gives the shards of a worker or a node that dies to others. Raises `FaceMeshError` without a cluster, without
    the wanted GPUs, and for a fault that no other shard would be spared.
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
                yield Counts(int(row["pictures"]), int(row["faces"]), int(row["errors"]), float(row["core_s"]))
        except ray.exceptions.RayError as error:
            raise FaceMeshError(_reason(error)) from None


class _Worker:
    """A `ShardWorker` as Ray Data calls it: rows of shards in, rows of counts out."""

    def __init__(self, folder: str, settings: Settings) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        import cv2

        cv2.setNumThreads(1)
        self._work = ShardWorker(Path(folder), settings)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        counts = [self._work(int(number)) for number in batch["shard"]]
        return {field.name: [getattr(each, field.name) for each in counts] for field in fields(Counts)}


@contextlib.contextmanager
def _connected(pool: Pool) -> Iterator[None]:
    """Join the cluster, or start one of this process on 127.0.0.1."""
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if pool.address == LOCAL:
        options |= {"include_dashboard": False, "object_store_memory": STORE_BYTES, "_node_ip_address": "127.0.0.1"}
        options |= {"num_cpus": pool.workers} if pool.workers else {}
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        ray.init(address=pool.address, **options)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _no_cluster(pool.address, error) from None
    try:
        yield
    finally:
        ray.shutdown()


def check_address(address: str) -> None:
    """Raise `FaceMeshError` at once where nobody listens: Ray itself tries for minutes."""
    if address == LOCAL:
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise FaceMeshError(f"--address {address}: must be HOST:PORT of a Ray cluster's head, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None


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
    """Return the line of a worker's own error out of Ray's report on it."""
    text = str(error)
    own = re.findall(r"(?:^|\s)(?:[\w.]*\.)?FaceMeshError: ([^\n]+)", text)
    lines = text.strip().splitlines() or [type(error).__name__]
    return own[-1] if own else f"the workers failed ({one_line(lines[-1])})"
