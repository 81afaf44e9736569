"""Models opened and closed again and again: memory, open files and threads stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.records.machine import memory_mb

WARMING_UP = 0.1  # of the opens
TOLERATED_MB = 10.0  # caches of the allocator fill slowly


@dataclass(frozen=True)
class Held:
    """Memory and open files of a process; None if the system does not tell."""

    memory_mb: float | None
    descriptors: int | None
    threads: int | None


def held() -> Held:
    """Return what this process holds now."""
    process = Path("/proc/self")
    if not process.is_dir():
        return Held(memory_mb(), None, None)
    return Held(memory_mb(), len(list((process / "fd").iterdir())), len(list((process / "task").iterdir())))


def soak_opens(open_and_close: Callable[[], None], count: int) -> dict[str, Any]:
    """Call ``open_and_close`` so often; return what was held after the first tenth and at the end, and the problem."""
    first = max(1, round(WARMING_UP * count))
    for _ in range(first):
        open_and_close()
    before = held()
    for _ in range(count - first):
        open_and_close()
    after = held()
    return {"opens": count, "before": asdict(before), "after": asdict(after), "problem": problem_of(before, after)}


def problem_of(before: Held, after: Held) -> str | None:
    """Return what has grown, None if nothing has."""
    problems = [
        f"{name} grow from {first} to {last}"
        for name, first, last in (
            ("open files", before.descriptors, after.descriptors),
            ("threads", before.threads, after.threads),
        )
        if first is not None and last is not None and last > first
    ]
    if before.memory_mb is not None and after.memory_mb is not None:
        grown = after.memory_mb - before.memory_mb
        if grown > TOLERATED_MB:
            problems.append(f"memory grows by {grown:.1f} MB, {TOLERATED_MB:g} are tolerated")
    return "; ".join(problems) or None
