"""Two revisions by turns: the worker's protocol, its failures, and the comparison.

On stand-ins for ``runtime``, in real processes.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.records.latency_statistics import Interval
from benchmarks.regression import interleave
from benchmarks.regression.interleave import FAMILY_ERROR, Worker, compare_pairs, run_interleaved, worker_settings
from benchmarks.regression.revision import RevisionError
from runtime.errors import FaceMeshError
from tests.benchmarks.stand_in import write_runtime

STAGES = ["crop", "network", "decode", "frame"]


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    np.save(tmp_path / "picture.npy", np.zeros((4, 5, 3), np.uint8))
    return worker_settings(tmp_path / "model.onnx", tmp_path / "picture.npy", [0, 0, 2, 2], threads=1)


@pytest.fixture
def opener(tmp_path: Path, settings: dict[str, Any]) -> Callable[..., Callable[[], Worker]]:
    """``opener(name, decode)``: opens a worker on a stand-in whose decode takes so many microseconds."""

    def make(name: str, decode: float = 100) -> Callable[[], Worker]:
        return partial(Worker, name, write_runtime(tmp_path / name, decode), settings)

    return make


def test_a_worker_times_its_revision(opener):
    with opener("new", 300)() as worker:
        times = worker.run(20)
    assert list(times) == list(worker.first) == STAGES
    assert [len(column) for column in worker.first.values()] == [5] * 4
    assert [len(column) for column in times.values()] == [20] * 4
    assert 50 <= min(times["crop"]) < 150
    assert 200 <= min(times["network"]) < 300
    assert 300 <= min(times["decode"]) < 400
    assert 500 <= min(times["frame"]) < 700


def test_a_worker_ends_with_its_context(opener):
    with opener("new")() as worker:
        process = worker._process
        assert process.poll() is None
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda root: (root / "runtime" / "crop.py").unlink(), r"ModuleNotFoundError: No module named 'runtime\.crop'"),
        (
            lambda root: (root / "runtime" / "crop.py").write_text("crop_into = None"),
            "ImportError: cannot import name 'crop_matrix'",
        ),
        (lambda root: (root / "runtime" / "__init__.py").write_text("raise OSError"), "OSError$"),
        (
            lambda root: (root / "runtime" / "__init__.py").write_text("import os; os._exit(3)"),
            "its process ended with code 3",
        ),
    ],
)
def test_a_revision_that_lacks_something_is_named(opener, tmp_path, spoil, why):
    open_worker = opener("v0.1")
    spoil(tmp_path / "v0.1")
    with pytest.raises(RevisionError, match=rf"^v0\.1 cannot be measured: .*{why}") as error:
        open_worker()
    assert error.value.name == "v0.1"


def test_libraries_are_looked_for_in_folders_but_the_current_one(tmp_path, monkeypatch):
    (tmp_path / "archive.zip").write_bytes(b"")
    monkeypatch.setattr("sys.path", ["", str(tmp_path / "archive.zip"), str(tmp_path / "gone"), str(tmp_path)])
    assert interleave.library_paths() == [str(tmp_path)]


def test_nothing_stays_of_a_worker_that_does_not_open(opener, tmp_path, monkeypatch):
    started = []

    class Process(subprocess.Popen):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Process)
    open_worker = opener("v0.1")
    (tmp_path / "v0.1" / "runtime" / "crop.py").unlink()
    with pytest.raises(RevisionError):
        open_worker()
    (process,) = started
    assert process.returncode == 0
    assert process.stdin.closed
    assert process.stdout.closed


def test_another_runtime_is_not_measured_by_mistake(tmp_path, settings):
    """An empty folder, and a ``runtime`` elsewhere on the path: that of this repository, where it is installed."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(RevisionError, match=r"empty cannot be measured: (ImportError|ModuleNotFoundError)"):
        Worker("empty", tmp_path / "empty", settings)


def test_a_worker_that_dies_is_named(opener):
    with opener("new")() as worker:
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(RevisionError, match="new cannot be measured: its process ended with code -9"):
            worker.run(1)


def test_workers_stay_on_the_cores_they_are_given(settings):
    if hasattr(os, "sched_getaffinity"):
        assert settings["cores"] == [max(os.sched_getaffinity(0))]


def test_the_last_usable_cores_are_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", {0: {3, 0, 9, 7, 5}}.get, raising=False)
    assert worker_settings(tmp_path / "model.onnx", tmp_path / "picture.npy", [0, 0, 2, 2], 2)["cores"] == [7, 9]


def test_cores_are_counted_where_a_system_does_not_tell_them(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert worker_settings(tmp_path / "model.onnx", tmp_path / "picture.npy", [0, 0, 2, 2], 3)["cores"] == [0, 1, 2]


@pytest.mark.slow
def test_a_slower_decode_is_caught_and_nothing_else(opener, monkeypatch):
    monkeypatch.setattr(interleave, "PAIRS", 30)
    rng = np.random.default_rng(0)
    pairs = run_interleaved([opener("new", 120), opener("baseline", 100)], None, 30, rng)
    assert list(pairs) == STAGES
    assert len(pairs["decode"]) >= 4 * 30
    rows = {row.stage: row for row in compare_pairs(pairs, 0.1, rng)}
    assert rows["decode"].verdict == "slower"
    assert rows["decode"].ratio.estimate == pytest.approx(1.2, abs=0.05)
    assert rows["decode"].new_us == pytest.approx(120, rel=0.1)
    assert [rows[stage].verdict for stage in ("crop", "network")] == ["as fast"] * 2
    assert rows["frame"].ratio.estimate == pytest.approx(370 / 350, abs=0.05)


def test_stages_that_there_are_not(opener, monkeypatch):
    monkeypatch.setattr(interleave, "PAIRS", 2)
    with pytest.raises(FaceMeshError, match="no stage pose by turns; there are crop,network,decode,frame"):
        run_interleaved([opener("new"), opener("baseline")], ["pose"], 1, np.random.default_rng(0))


class FakeWorker:
    """Times of a known distribution, and a log of the order of runs."""

    log: list[str] = []

    def __init__(self, name: str, slow: float = 1.0, noise: float = 0.0) -> None:
        self.name = name
        self._slow = slow
        self._noise = noise
        self._rng = np.random.default_rng(len(self.log))
        self.log.append(f"open {name}")
        self.first = self.run(1)

    def run(self, frames: int) -> dict[str, list[float]]:
        self.log.append(self.name)
        return {
            stage: (100 * self._slow * np.exp(self._noise * self._rng.standard_normal(frames))).tolist()
            for stage in STAGES
        }

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.log.append(f"close {self.name}")


class SteadyWorker:
    """Frames of one block take 100, 110, 120 … parts of ``unit_us``; ``asked`` holds the frames of each block."""

    def __init__(self, unit_us: float) -> None:
        self.unit_us = unit_us
        self.asked: list[int] = []
        self.first = {stage: [100 * unit_us] * 5 for stage in STAGES}

    def run(self, frames: int) -> dict[str, list[float]]:
        self.asked.append(frames)
        return {stage: [self.unit_us * (100 + 10 * number) for number in range(frames)] for stage in STAGES}

    def __enter__(self) -> SteadyWorker:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("unit_us", "frames", "fast_us"),
    [(1, 10, 109), (15, 5, 15 * 104), (25, 3, 25 * 102), (1000, 3, 102000)],
)
def test_a_block_has_three_to_ten_frames_and_its_fastest_tenth_stands_for_it(unit_us, frames, fast_us):
    """As many as take 30 ms; four starts with 60 pairs of blocks each are enough where there is no noise."""
    workers = [SteadyWorker(unit_us), SteadyWorker(2 * unit_us)]
    pairs = run_interleaved([lambda: workers[0], lambda: workers[1]], None, 1e9, np.random.default_rng(0))
    assert [set(worker.asked) for worker in workers] == [{frames}] * 2
    assert {stage: times.shape for stage, times in pairs.items()} == dict.fromkeys(STAGES, (240, 2))
    assert all(np.allclose(times, (fast_us, 2 * fast_us), rtol=1e-12) for times in pairs.values())


@pytest.fixture
def log(monkeypatch):
    monkeypatch.setattr(FakeWorker, "log", found := [])
    return found


def test_turns_alternate_and_processes_are_renewed(log):
    run_interleaved([partial(FakeWorker, "new"), partial(FakeWorker, "old")], None, 10, np.random.default_rng(0))
    one_start = [
        "open new",
        "new",
        "open old",
        "old",
        *["old", "new", "new", "old"] * (interleave.PAIRS // 2),
        "close old",
        "close new",
    ]
    assert log == one_start * interleave.STARTS


def test_noise_is_met_with_more_starts_until_the_time_is_up(log):
    rng = np.random.default_rng(0)
    pairs = run_interleaved(
        [partial(FakeWorker, "new", 1, 0.5), partial(FakeWorker, "old", 1, 0.5)], ["crop"], 1e9, rng
    )
    assert len(pairs["crop"]) > interleave.STARTS * interleave.PAIRS
    log.clear()
    run_interleaved([partial(FakeWorker, "new", 1, 0.5), partial(FakeWorker, "old", 1, 0.5)], ["crop"], 1e-9, rng)
    assert log.count("open new") == interleave.STARTS


def test_another_start_is_made_if_it_ends_in_time(log, monkeypatch):
    """A start takes 10 s here: the sixth ends within 65 s, a seventh would not."""
    monkeypatch.setattr(interleave, "time", SimpleNamespace(monotonic=lambda: 1000 + 10 * log.count("open old")))
    noisy = [partial(FakeWorker, name, 1, 0.5) for name in ("new", "old")]
    run_interleaved(noisy, None, 65, np.random.default_rng(0))
    assert log.count("open new") == 6


@pytest.mark.slow
def test_error_rates_of_a_whole_comparison():
    """By simulation: slowdowns of exactly the limit alarm as seldom as designed, a fifth more always, none never."""
    rng = np.random.default_rng(0)

    def alarms(slowdown: float, comparisons: int) -> int:
        count = 0
        for _ in range(comparisons):
            blocks = np.percentile(np.exp(0.2 * rng.standard_normal((4, 240, 2, 10))), 10, axis=3) * [slowdown, 1]
            count += any(
                row.verdict == "slower" for row in compare_pairs(dict(zip(STAGES, blocks, strict=True)), 0.1, rng)
            )
        return count

    assert FAMILY_ERROR == 0.01
    assert alarms(1.1, 100) <= 5  # one is expected
    assert alarms(1.0, 20) == 0
    assert alarms(1.2, 20) == 20


def test_a_judgement_is_plain_data():
    (row,) = compare_pairs({"crop": np.full((80, 2), 5.0)}, 0.1, np.random.default_rng(0))
    assert dataclasses.asdict(row) == {
        "stage": "crop",
        "new_us": 5.0,
        "baseline_us": 5.0,
        "ratio": {"estimate": 1.0, "low": 1.0, "high": 1.0},
        "verdict": "as fast",
    }


def test_the_error_is_shared_among_the_stages(monkeypatch):
    """Where more pairs are asked for, and where they are judged."""
    asked = []

    def ratio(new: np.ndarray, baseline: np.ndarray, error: float, rng: np.random.Generator) -> Interval:
        asked.append((new[0], baseline[0], error))
        return Interval(1.2, 1.2, 1.2)

    monkeypatch.setattr(interleave, "paired_ratio", ratio)
    workers = [SteadyWorker(1.2), SteadyWorker(1)]
    pairs = run_interleaved([lambda: workers[0], lambda: workers[1]], None, 1e9, np.random.default_rng(0))
    compare_pairs(pairs, 0.1, np.random.default_rng(0))
    assert asked == [(pytest.approx(1.2 * 109), 109, 0.01 / 4)] * 8
