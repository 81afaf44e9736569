"""``python -m benchmarks soak``: it finds leaks and drifts, not noise and steps, and leaves record and picture."""

from __future__ import annotations

import json
import mmap
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs SciPy for the trends")

from benchmarks.__main__ import main
from benchmarks.latency import soak
from benchmarks.latency.soak import format_soak
from benchmarks.latency.soak_opens import Held, problem_of, soak_opens
from benchmarks.latency.soak_trends import Line, find_trends
from benchmarks.records.measured_faces import Face
from runtime.errors import FaceMeshError

FACE = Face(np.zeros((2, 2, 3), np.uint8), np.array([0, 0, 1, 1], np.float32))


def an_hour(memory=lambda hours: 0.0, latency=lambda hours: 1.0, seed=0) -> list[Line]:
    rng, lines = np.random.default_rng(seed), []
    for second in range(3600):
        p50 = 2 * latency(second / 3600) * np.exp(0.05 * rng.standard_normal())
        megabytes = 150 + memory(second / 3600) + 0.3 * rng.random()
        lines.append(Line(second + 0.5, 400, p50, 2 * p50, megabytes, 50.0, None))
    return lines


def test_a_steady_hour_passes():
    for seed in range(20):
        trends = find_trends(an_hour(seed=seed), 1, 5)
        assert [trend.problem for trend in trends.values()] == [None, None]


def test_a_leak_is_found_and_measured():
    trends = find_trends(an_hour(memory=lambda hours: 30 * hours), 10, 10)
    assert trends["memory_mb"].per_hour.estimate == pytest.approx(30, rel=0.02)
    assert "memory leaks: +30" in trends["memory_mb"].problem
    assert trends["p50_ms"].problem is None


def test_a_tolerated_leak_passes():
    assert find_trends(an_hour(memory=lambda hours: 5 * hours), 10, 10)["memory_mb"].problem is None


@pytest.mark.parametrize("memory", [lambda hours: 40 * (hours > 0.5), lambda hours: 40 * (hours < 0.05)])
def test_a_step_is_no_leak(memory):
    assert find_trends(an_hour(memory=memory), 1, 10)["memory_mb"].problem is None


def test_a_drift_is_found_and_measured():
    problem = find_trends(an_hour(latency=lambda hours: 1 + 0.3 * hours), 10, 10)["p50_ms"].problem
    assert problem.startswith("latency drifts: +2")


def test_getting_faster_is_no_drift():
    assert find_trends(an_hour(latency=lambda hours: 1 - 0.5 * hours), 10, 10)["p50_ms"].problem is None


def test_memory_that_cannot_be_read_is_not_judged():
    lines = [Line(second, 1, 1.0, 1.0, None, None, None) for second in range(100)]
    assert list(find_trends(lines, 1, 1)) == ["p50_ms"]


def test_too_short_to_judge():
    with pytest.raises(FaceMeshError, match="soak for longer"):
        find_trends(an_hour()[:30], 1, 1)


def test_verdict_for_people():
    lines = an_hour(memory=lambda hours: 30 * hours)
    text = format_soak(lines, find_trends(lines, 10, 10), ["running on battery"])
    assert "1440000 frames in 60.0 minutes" in text
    assert "hottest °C: 50.00, 50.00" in text
    assert "power" not in text
    assert "warning: running on battery" in text
    assert text.splitlines()[-1].startswith("failed: memory leaks")


def test_lines_while_it_runs(monkeypatch):
    monkeypatch.setattr(soak, "INTERVAL_S", 0.1)
    monkeypatch.setattr(
        soak,
        "state",
        lambda: {"temperatures_c": {"cpu": 40, "gpu": 48}, "gpu_c": 45, "power_w": {"total": 7.5, "VDD_SOC": 2.0}},
    )
    lines = list(soak.soak(lambda image: time.sleep(0.005), [FACE], 0.5, None))
    assert 2 <= len(lines) <= 6
    assert all(line.p50_ms >= 5 and line.frames > 1 for line in lines)
    assert (lines[0].temperature_c, lines[0].power_w) == (48, 7.5)
    assert 0 < lines[0].time_s < lines[-1].time_s < 0.6


def test_as_long_as_it_takes_to_so_many_frames(monkeypatch):
    monkeypatch.setattr(soak, "INTERVAL_S", 0.05)
    lines = list(soak.soak(lambda image: time.sleep(0.005), [FACE], 0.01, None, 40))
    assert 40 <= sum(line.frames for line in lines) < 60
    assert len(lines) > 2


def test_at_the_pace_of_a_camera(monkeypatch):
    monkeypatch.setattr(soak, "INTERVAL_S", 0.1)
    stamps = []
    list(soak.soak(lambda image: stamps.append(time.monotonic()), [FACE], 0.5, 20))
    assert 6 <= len(stamps) <= 11
    assert np.median(np.diff(stamps)) == pytest.approx(0.05, abs=0.02)


@pytest.fixture
def leaking(monkeypatch):
    """A pipeline that keeps 100 kB of every frame, and lines enough in a few seconds."""
    monkeypatch.setattr(soak, "INTERVAL_S", 0.05)
    kept = []

    class Pipeline:
        def __init__(self, runner, detector):
            pass

        def __call__(self, image):
            time.sleep(0.005)
            kept.append(
                mmap.mmap(-1, 100_000)
            )  # malloc could give what earlier tests have freed, and the process would not grow
            kept[-1].write(b"x" * 100_000)

    monkeypatch.setattr(soak, "FaceMeshPipeline", Pipeline)


@pytest.mark.slow
def test_command_finds_a_leak(leaking, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    record, plot = tmp_path / "soak.json", tmp_path / "soak.png"
    assert main(["soak", "--minutes", "0.06", "--drift", "1000", "--json", str(record), "--plot", str(plot)]) == 1
    out = capsys.readouterr().out
    assert "failed: memory leaks" in out
    document = json.loads(record.read_text())
    assert json.loads(out.splitlines()[-1]) == document
    assert document["trends"]["memory_mb"]["per_hour"]["low"] > 10
    assert cv2.imread(str(plot)).shape[1] > 500


def test_command_passes(monkeypatch, capsys):
    monkeypatch.setattr(soak, "INTERVAL_S", 0.01)
    monkeypatch.setattr(soak, "FaceMeshPipeline", lambda runner, detector: lambda image: time.sleep(0.005))
    assert main(["soak", "--minutes", "0.015", "--drift", "1000", "--leak", "100000"]) == 0
    assert "passed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--engine", "nowhere.onnx"], "nowhere.onnx"),
        (["--plot", "nowhere/s.png"], "nowhere"),
        (["--minutes", "0.5"], "--minutes 0.5: too short to see a trend in; 0.8 are the least"),
    ],
)
def test_bad_input_is_one_line(capsys, options, what):
    assert main(["soak", "--minutes", "1", *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert what in error


def test_a_picture_of_a_machine_that_tells_little(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from benchmarks.latency.soak_chart import draw_soak

    both = []
    for name, line in (
        ("all", Line(1, 1, 2.0, 3.0, 100.0, 50.0, 7.0)),
        ("few", Line(1, 1, 2.0, 3.0, None, None, None)),
    ):
        draw_soak([line, SimpleNamespace(**{**vars(line), "time_s": 2.0})], tmp_path / f"{name}.png")
        both.append(cv2.imread(str(tmp_path / f"{name}.png")).shape[0])
    assert both[0] == pytest.approx(4 * both[1], rel=0.05)


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        (Held(109, 5, 3), None),
        (Held(100, 6, 3), "open files grow from 5 to 6"),
        (Held(100, 5, 4), "threads grow from 3 to 4"),
        (Held(111, 5, 3), "memory grows by 11.0 MB, 10 are tolerated"),
        (Held(None, None, None), None),
    ],
)
def test_what_may_be_held(after, problem):
    assert problem_of(Held(100, 5, 3), after) == problem


def test_files_left_open_are_found(tmp_path):
    kept = []
    report = soak_opens(lambda: kept.append(open(tmp_path / "file", "w")), 10)  # noqa: SIM115 - the leak
    for file in kept:
        file.close()
    assert report["problem"].startswith("open files grow")
    assert report["after"]["descriptors"] - report["before"]["descriptors"] == 9
    assert soak_opens(lambda: None, 10)["problem"] is None
