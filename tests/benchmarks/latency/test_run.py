"""``python -m benchmarks run``: the clock, the record and its warnings, bad input."""

from __future__ import annotations

import gc
import json
import math
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.latency import run, stage_clock
from benchmarks.latency.cold_start import cold_starts
from benchmarks.latency.stage_clock import (
    StageGroup,
    StopAfter,
    _time_device,
    choose_groups,
    measure_after_idle,
    measure_allocations,
    measure_groups,
)
from benchmarks.records.latency_record import spread_doubts
from benchmarks.records.measured_faces import Face
from runtime.errors import FaceMeshError
from runtime.storage.whole_files import file_sha256

FACES = [Face(np.full((2, 2, 3), shade, np.uint8), np.array([0, 0, 1, 1], np.float32)) for shade in (1, 2)]


@pytest.fixture(scope="module", autouse=True)
def settled():
    """What earlier tests have left is not collected before every block."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def quick(monkeypatch):
    for name, value in {"WARM_UP_S": 0.01, "IDLE_S": 0.01, "IDLE_RUNS": 1, "COLD_RUNS": 1}.items():
        monkeypatch.setattr(run, name, value)
    monkeypatch.setattr(stage_clock, "ALLOCATION_FRAMES", 10)


def test_command(quick, tmp_path, capsys):
    path = tmp_path / "out.json"
    assert main(["run", "--frames", "30", "--json", str(path)]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    document = json.loads(path.read_text())
    assert json.loads(last) == document
    assert list(document["stages"]) == ["crop", "network", "decode", "pose", "detection", "frame", "frame+detection"]
    for row in document["stages"].values():
        assert row["frames"] == len(row["samples_us"]) == 30
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] <= row["max_ms"] < 10_000
        assert max(row["samples_us"]) == pytest.approx(1000 * row["max_ms"], abs=0.11)
    parts = document["cold_start"]
    assert (
        parts["total_ms"] == document["cold_start_ms"] > parts["import_ms"] + parts["open_ms"] + parts["first_face_ms"]
    )
    assert document["first_after_idle_ms"] > 0
    assert document["kind"] == "latency"
    assert len(document["engine"]["sha256"]) == len(document["engine"]["model_sha256"]) == 64
    assert document["settings"]["source"]["file"] == "astronaut.jpg"
    assert document["peak_memory_mb"] > 20
    assert document["allocations"]["peak_bytes"] > 0
    assert {"before", "after"} <= document["conditions"].keys()
    assert document["commit"] is None or len(document["commit"]["revision"]) == 40
    assert "first_face_ms" in last
    text = "\n".join(table)
    assert "cold start" in text
    assert "frame+detection" in text
    for secret in (str(tmp_path), str(Path.home()) + "/"):
        assert secret not in last


def test_network_of_coefficients(quick, tmp_path, capsys, monkeypatch):
    """The face model is named by the command, or relative to a folder that the fresh processes do not run in."""
    pytest.importorskip("onnx")
    from tests.standins.coefficient_network import write_toy_model

    model, elsewhere = write_toy_model(tmp_path), tmp_path / "elsewhere" / "model.npz"
    arguments = ["run", "--frames", "2", "--stages", "decode,frame", "--engine", str(model)]
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 0
    elsewhere.parent.mkdir()
    (tmp_path / "face_model.npz").rename(elsewhere)
    assert main(arguments) == 1
    assert "face_model.npz: no such file" in capsys.readouterr().err
    assert main([*arguments, "--face-model", "elsewhere/model.npz"]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(document["stages"]) == ["decode", "frame"]
    assert document["engine"]["face_model_sha256"] == file_sha256(elsewhere)
    assert main(["run", "--face-model", str(elsewhere)]) == 1
    assert "a model of the family position_map has no face model" in capsys.readouterr().err


def test_terminals_are_spared_the_samples(quick, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["run", "--frames", "2", "--stages", "decode"]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["stages"]["decode"]["samples_us"] is None
    assert list(document["stages"]) == ["decode"]


@pytest.mark.parametrize(
    ("option", "gone"), [("--no-detection", {"detection", "frame+detection"}), ("--detection", {"frame"})]
)
def test_with_or_without_detection(quick, capsys, option, gone):
    assert main(["run", "--frames", "1", option]) == 0
    stages = set(json.loads(capsys.readouterr().out.splitlines()[-1])["stages"])
    assert stages == {"crop", "network", "decode", "pose", "detection", "frame", "frame+detection"} - gone


def test_film_as_source(quick, repository, tmp_path, capsys):
    picture = cv2.imread(str(repository / "runtime/assets/astronaut.jpg"))
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"MJPG"), 25, (512, 512))
    for shift in (0, 10, 20):
        writer.write(np.roll(picture, shift, axis=1))
    writer.release()
    assert main(["run", "--frames", "3", "--stages", "crop", "--source", str(film)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["settings"]["source"]["pictures"] == 3


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--engine", "nowhere.onnx"], "nowhere.onnx"),
        (["--source", "nowhere.jpg"], "nowhere.jpg"),
        (["--source", "camera:0"], "film"),
        (["--source", "grey.png"], "no face"),
        (["--stages", "crop,decoding"], "no stage decoding"),
        (["--stages", "detection", "--no-detection"], "nothing is left"),
        (["--json", "nowhere/out.json"], "nowhere"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, options, what):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("grey.png", np.full((64, 64, 3), 127, np.uint8))
    assert main(["run", *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert what in error


@pytest.mark.parametrize(
    "options", ["--frames 0", "--seconds 0", "--seconds nan", "--stages ,", "--frames 1 --seconds 1"]
)
def test_usage_errors(options):
    with pytest.raises(SystemExit) as exit_code:
        main(["run", *options.split()])
    assert exit_code.value.code == 2


def test_groups_take_turns_until_each_has_enough():
    order = []

    def group(name, milliseconds):
        def run_face(face):
            order.append(name)
            time.sleep(milliseconds / 1000)
            return [1000 * int(face.image[0, 0, 0])]

        return StageGroup((name,), run_face)

    times = measure_groups([group("quick", 0), group("slow", 10)], FACES, StopAfter(60, 0.45), warm_up_s=0)
    assert len(times["quick"]) == 60
    assert len(times["slow"]) in (25, 50)  # its time was up
    assert order[:75] == ["quick"] * 25 + ["slow"] * 25 + ["quick"] * 25
    assert set(times["quick"]) == {0.001, 0.002}  # both pictures


def test_frames_of_a_block_are_not_disturbed_by_the_collector():
    seen = []
    measure_groups(
        [StageGroup(("x",), lambda face: seen.append(gc.isenabled()) or [1])],
        FACES,
        StopAfter(3, math.inf),
        warm_up_s=0,
    )
    assert seen == [False] * 3
    assert gc.isenabled()


def test_first_after_idle_rests_before_every_frame():
    stamps = []
    group = StageGroup(("x",), lambda face: stamps.append(time.monotonic()) or [2_000_000])
    started = time.monotonic()
    assert measure_after_idle(group, FACES, 0.05, 2) == [2, 2]
    assert stamps[0] - started >= 0.05
    assert stamps[1] - stamps[0] >= 0.05


def test_allocations_find_what_a_frame_leaves_behind():
    kept = []

    def leak(face):
        bytearray(100_000)
        kept.append(bytearray(1000))
        return [1]

    held = measure_allocations(StageGroup(("x",), leak), FACES)
    assert 1000 <= held["bytes_left"] < 1300
    assert 1 <= held["blocks_left"] < 3
    assert 100_000 < held["peak_bytes"] < 110_000
    clean = measure_allocations(StageGroup(("x",), lambda face: [len(bytearray(5000))]), FACES)
    assert clean["bytes_left"] < 100
    assert clean["blocks_left"] < 1


def test_a_device_is_timed_from_the_handing_over_to_the_mesh():
    class Mesher:
        def submit(self, image, matrices, landmarks=()):
            time.sleep(0.002)
            assert matrices[0].shape == (2, 3)

        def collect(self):
            time.sleep(0.01)

    family = SimpleNamespace(crop_matrix=lambda box_xyxy: np.eye(2, 3))
    runner = SimpleNamespace(mesher=lambda family: Mesher())
    enqueue, device = _time_device(runner, SimpleNamespace(family=family))(FACES[0])
    assert enqueue >= 2e6
    assert device >= enqueue + 10e6


def test_engines_on_a_gpu_have_stages_of_their_own(quick, engine, gpu_machine, monkeypatch, capsys):
    machine = gpu_machine()
    monkeypatch.setattr(
        run,
        "cold_starts",
        lambda picture, keywords, runs: [{"total": 3.0, "import": 1.0, "open": 1.0, "first_face": 1.0}],
    )
    assert main(["run", "--frames", "3", "--engine", str(engine), "--no-detection"]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(document["stages"]) == ["crop", "network", "decode", "pose", "enqueue", "device", "frame"]
    assert document["stages"]["enqueue"]["p50_ms"] < document["stages"]["device"]["p50_ms"]
    assert document["engine"]["file"] == "live.engine"
    assert document["engine"]["sha256"] != document["engine"]["model_sha256"]
    assert not machine.cuda.live


def test_stages_of_this_engine_alone():
    groups = [StageGroup(("crop", "network"), len), StageGroup(("frame",), len)]
    assert choose_groups(groups, None) == groups
    assert choose_groups(groups, ["network"]) == groups[:1]
    with pytest.raises(FaceMeshError, match="no stage device with this engine; there are crop,network,frame"):
        choose_groups(groups, ["device", "crop"])


def test_doubts_about_the_latencies():
    steady, jumpy = np.full(100, 2.0), np.tile([1.0, 3.0], 50)
    assert spread_doubts({"crop": steady}) == []
    assert "decode 50 %" in spread_doubts({"crop": steady, "decode": jumpy})[0]
    assert spread_doubts({"enqueue": 0.5 * steady, "device": steady}) == []
    assert "host" in spread_doubts({"enqueue": 0.9 * steady, "device": steady})[0]


def test_a_cold_start_that_fails_says_why(tmp_path):
    np.save(tmp_path / "picture.npy", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(FaceMeshError, match=r"cold start failed: .*gone\.onnx"):
        cold_starts(tmp_path / "picture.npy", {"model": str(tmp_path / "gone.onnx")}, 1)
