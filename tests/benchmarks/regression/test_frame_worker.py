"""The worker of a comparison by turns, in this process: what it times, and that it can time this runtime."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

import runtime
from benchmarks.regression import frame_worker
from benchmarks.regression.interleave import worker_settings
from runtime.models.shipped import SHIPPED_MODEL


def test_frames_are_timed_after_a_warm_up_with_collected_garbage_and_without_the_collector(monkeypatch):
    """On a clock of ours: the warm-up lasts 0.3 s, and the first two frames of a block do not count."""
    seconds = iter([5, 5.1, 5.2, 5.29, 5.31])
    frames = []

    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    garbage = weakref.ref(Cycle())

    def frame() -> tuple[int, ...]:
        frames.append((gc.isenabled(), garbage()))
        return tuple(1000 * len(frames) * part for part in (0, 1, 3, 6, 10))

    monkeypatch.setattr(frame_worker, "time", SimpleNamespace(perf_counter=partial(next, seconds)))
    monkeypatch.setattr(frame_worker, "import_revision", lambda settings: None)
    monkeypatch.setattr(frame_worker, "_open_frame", lambda settings: ("runner", frame))
    runner, measure = frame_worker.open_revision({})
    assert runner == "runner"
    assert len(frames) == 3

    frames.clear()
    garbage = weakref.ref(Cycle())
    assert measure(2) == {"crop": [3, 4], "network": [6, 8], "decode": [9, 12], "frame": [12, 16]}
    assert frames == [(False, None)] * 4
    assert gc.isenabled()


def test_a_revision_comes_before_all_libraries(monkeypatch):
    """Also on a system that does not bind processes to cores."""
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    monkeypatch.setattr(sys, "path", found := ["builtin"])
    root = str(Path(runtime.__path__[0]).parent)
    frame_worker.import_revision({"cores": [0], "paths": ["libraries"], "root": root})
    assert found == [root, "builtin", "libraries"]


def test_this_runtime_can_be_measured(tmp_path, monkeypatch):
    threads = []
    monkeypatch.setattr(cv2, "setNumThreads", threads.append)
    np.save(tmp_path / "picture.npy", np.zeros((240, 320, 3), np.uint8))
    settings = worker_settings(SHIPPED_MODEL, tmp_path / "picture.npy", [60, 60, 180, 180], threads=1)
    runner, frame = frame_worker._open_frame({**settings, "cores": [0, 1, 2]})
    with runner:
        readings = frame()
    assert len(readings) == 5
    assert sorted(set(readings)) == list(readings)
    assert 3 in threads


def test_the_worker_needs_nothing_of_this_package():
    """It runs beside revisions that may have no ``benchmarks`` at all."""
    source = Path(frame_worker.__file__).read_text()
    assert "from benchmarks" not in source
    assert "import benchmarks" not in source
