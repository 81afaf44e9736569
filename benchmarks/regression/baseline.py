"""Runs of ``python -m benchmarks run`` to be compared, and the reasons that forbid it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.records.latency_record import comparison_facts, read_latency_record, stage_samples
from benchmarks.records.record import Record

LEAST_FRAMES = 30  # fewer do not make an interval


@dataclass(frozen=True, eq=False)
class Run:
    """The parts of a latency record that a comparison needs."""

    record: Record
    facts: dict[str, Any]  # equal in both runs, by the name in messages
    stages: dict[str, NDArray[np.float64]]  # microseconds (frames,)


def load_run(path: Path) -> Run:
    """Load one run. Raises `FaceMeshError` with the fault of the file."""
    record = read_latency_record(path)
    return Run(record, comparison_facts(record), stage_samples(record, LEAST_FRAMES))


def differences(new: Run, baseline: Run) -> Iterator[str]:
    """Yield the reasons that forbid a comparison, a clause each."""
    for name, wanted in baseline.facts.items():
        if (found := new.facts[name]) != wanted:
            yield f"{name} is {_short(found)}, the baseline's is {_short(wanted)}"


def _short(value: Any) -> str:
    """Shorten SHA-256 sums; other values stay as they are."""
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text
