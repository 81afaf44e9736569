"""The GPU report as a whole, on stand-ins for the device and for TensorRT, and what becomes of it when parts fail."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.gpu import frames as gpu_frames
from benchmarks.gpu import gpu_report, hardware_tests
from benchmarks.gpu import worker as gpu_worker
from benchmarks.gpu.clocks import SeriesLength, StageClock, WaitClock, record_row, take_series
from benchmarks.gpu.gpu_report import PROVIDERS
from benchmarks.gpu.settings import QUICK_SETTINGS
from benchmarks.gpu.worker import OUT_OF_TIME, Task, run_apart, work
from runtime.cuda.driver import Device
from runtime.cuda.errors import CudaError
from tests.standins.fake_cuda import FakeCuda

ORIN = Device("Orin", "8.7", integrated=True)
QUICK = ["--quick", "--frames", "3"]
SETTINGS = list(QUICK_SETTINGS)
NEWCOMERS = "first frames with 2 to 8 faces"
TORCH_DETECTION = "Detection with PyTorch, an upper bound for TensorRT"
ABSENT = {
    ("PyTorch", "version"),
    (TORCH_DETECTION, "check"),
    (TORCH_DETECTION, "frames"),
    *(("Frames: edge-fp16 through ONNX Runtime", name) for name in PROVIDERS),
}


class LenientCuda(FakeCuda):
    """As real devices do, it copies from any memory of the host."""

    def _copy(self, to: int, source: int, nbytes: int, *, device: int, host: int) -> None:
        self.check_device(device, nbytes)
        ctypes.memmove(to, source, nbytes)


class Machine:
    """What opens the device of the stand-ins: every time a new one, as if in a new process."""

    def __init__(self) -> None:
        self.cudas: list[FakeCuda] = []
        self.library: Any = None
        self.options: dict[str, Any] = {}
        self.prepare: Callable[[FakeCuda], object] = lambda cuda: None  # what happens to the next device

    def open_cuda(self) -> FakeCuda:
        cuda = LenientCuda(**self.options)
        if self.library is not None:
            self.library.cuda = cuda
        self.prepare(cuda)
        self.cudas.append(cuda)
        return cuda


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with a device and no TensorRT, and a checkout with GPU tests; all parts run in this process."""
    machine = Machine()
    for module in ("scene", "detection", "device_and_copies", "frames"):
        monkeypatch.setattr(f"benchmarks.gpu.{module}.open_cuda", machine.open_cuda)
    for where in (
        "runtime.inference.trt.engine_file",
        "runtime.cuda.driver",
        "benchmarks.gpu.device_and_copies",
        "benchmarks.records.machine",
    ):
        monkeypatch.setattr(f"{where}.find_device", lambda: ORIN)
    monkeypatch.setattr(gpu_report, "query_device", lambda: ORIN)
    monkeypatch.setattr(gpu_report, "run_apart", work_on)
    monkeypatch.setattr(gpu_report, "REPOSITORY", tmp_path / "checkout")
    monkeypatch.setattr(hardware_tests, "REPOSITORY", tmp_path / "checkout")
    monkeypatch.setattr(gpu_report, "QUICK_WARM_UP_S", 0.0)
    monkeypatch.setattr(gpu_report, "QUICK_SECONDS", 600.0)  # a busy machine shall take all frames too
    monkeypatch.setattr("benchmarks.gpu.kernels.REPEATS", 2)
    monkeypatch.setattr("benchmarks.gpu.kernels.BATCHES", (1, 3))
    monkeypatch.setattr("benchmarks.gpu.clocks.LEAST_WARM_UP", 4)
    monkeypatch.setattr("benchmarks.gpu.clocks.gc.collect", lambda: 0)  # takes long among the objects of all tests
    for name in ("tensorrt", "tensorrt_lean", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    forget_homes()
    yield machine
    forget_homes()
    assert all(cuda.closed and not cuda.live for cuda in machine.cudas), "a part left something open"


@pytest.fixture
def tensorrt(machine, monkeypatch):
    """TensorRT on that machine: what it builds it can run."""
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime, which the stand-in runs engines with")
    from tests.standins import fake_engine

    machine.library = fake_engine.make("tensorrt-10.3", FakeCuda())
    monkeypatch.setitem(sys.modules, "tensorrt", machine.library)
    tensorrt_builder = importlib.import_module("export.engines.tensorrt_builder")
    plan = lambda source, *_: memoryview(fake_engine.make_plan(source.data, (1, 16)))  # noqa: E731
    monkeypatch.setattr(tensorrt_builder, "run_build", plan)
    return machine.library


def forget_homes() -> None:
    for home in ("export.engines.tensorrt_builder", "export.engines.rtx_builder"):
        sys.modules.pop(home, None)


def work_on(tasks, until):
    """`run_apart` without processes, and without an end."""
    done = 0
    while done < len(tasks):
        for result in work(tasks[done:]):
            done += 1
            yield result


@pytest.fixture
def few(monkeypatch):
    """No more than a few settings of frames, for tests that are about something else."""
    monkeypatch.setattr(gpu_report, "QUICK_SETTINGS", SETTINGS[:2])


def checkout(tmp_path: Path, *tests: str) -> None:
    (tmp_path / "checkout" / "tests").mkdir(parents=True)
    lines = ["import pytest", *(f"@pytest.mark.gpu\ndef test_{i}(): {test}" for i, test in enumerate(tests))]
    (tmp_path / "checkout" / "tests" / "test_it.py").write_text("\n".join(lines))


def report(tmp_path: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON and HTML of the command."""
    code = main(["gpu-report", "-o", str(tmp_path / "out"), *QUICK, *options])
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == ["gpu-report.html", "gpu-report.json"]
    html = (tmp_path / "out" / "gpu-report.html").read_text()
    Balanced().feed(html)
    return code, json.loads((tmp_path / "out" / "gpu-report.json").read_text()), html


class Balanced(HTMLParser):
    """Every element is closed by its own end, and nothing comes from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[str] = []

    def handle_starttag(self, tag, attrs):
        assert not {"src", "href"} & dict(attrs).keys() or dict(attrs).get("href", "").startswith("#")
        if tag not in ("meta", "rect", "line", "circle", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("rect", "line", "circle"):
            assert self._open.pop() == tag


def rows(document, group: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for part in document["parts"] if part["group"] == group for row in part["rows"]}


def outcomes(document, outcome: str) -> dict[tuple[str, str], str]:
    return {(part["group"], part["name"]): part["reason"] for part in document["parts"] if part["outcome"] == outcome}


@pytest.mark.slow
def test_everything(machine, tensorrt, tmp_path, capsys):
    checkout(tmp_path, "pass", "pass", "pytest.skip('no hardware')")
    code, document, html = report(tmp_path)
    stdout = capsys.readouterr().out
    assert (code, outcomes(document, "failed"), document["complete"]) == (0, {}, True)
    assert outcomes(document, "left out").keys() == ABSENT
    assert (document["kind"], document["device"]["name"], document["device"]["libraries"]["tensorrt"]) == (
        "gpu-report",
        "Orin",
        ["tensorrt 10.3.0"],
    )
    facts = {part["name"]: part["facts"] for part in document["parts"]}
    assert facts["gpu"] == {"passed": 2, "skipped": 1}
    assert facts["edge-fp16 with tensorrt"]["batch"] == [1, 1, 16]
    for group in ("Frames without a network", "Frames: edge-fp16 with tensorrt 10.3.0"):
        found = rows(document, group)
        assert {
            *SETTINGS,
            NEWCOMERS,
            "host's work",
            "one frame at a time",
            "two frames in flight",
            "upload",
            "crop",
            "decode",
            "download",
        } < found.keys()
        assert ("network" in found) == (group != "Frames without a network")
        for name, figures in found.items():
            assert figures["frames"] == (28 if name == NEWCOMERS else 3), name
            assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"] <= figures["max_ms"], name
        assert found["host's work"]["p50_ms"] < found["whole frame"]["p50_ms"]
    assert {"frame up, pinned", "frame up, pageable"} < rows(document, "Copies").keys()
    assert len(rows(document, "Kernels")) == 12
    assert rows(document, "Detection with tensorrt 10.3.0")["720p frame to faces"]["frames"] == 3
    (found,) = (
        part["facts"]
        for part in document["parts"]
        if part["group"] == "Detection with tensorrt 10.3.0" and part["facts"]
    )
    assert found["faces"] == 1
    assert found["largest_box_difference_px"] < 2
    assert rows(document, "Launches")["host: launched as a graph"]["frames"] == 3
    for name in (*SETTINGS, "two frames in flight", "decode, landmarks, 3 faces"):
        assert name in html
        assert name in stdout
    assert stdout.splitlines()[-1] == f"{tmp_path}/out/gpu-report.json {tmp_path}/out/gpu-report.html"
    assert "edge-fp16 with tensorrt 10.3.0: 720p frame to landmarks and vertices in" in html
    assert str(tmp_path) not in html + json.dumps(document)


@pytest.mark.slow
@pytest.mark.parametrize("landmark_channel", [False, True])
def test_network_of_coefficients(machine, tensorrt, few, tmp_path, landmark_channel):
    from tests.standins.coefficient_network import save_face_model, wide_face_model, write_toy_model

    model, elsewhere = write_toy_model(tmp_path, landmark_channel=landmark_channel), tmp_path / "elsewhere.npz"
    (tmp_path / "face_model.npz").rename(elsewhere)
    code, document, _ = report(tmp_path, "--models", str(model), "--face-model", str(elsewhere))
    assert (code, outcomes(document, "failed")) == (0, {})
    group = "Frames: toy with tensorrt 10.3.0"
    assert {*SETTINGS[:2], "crop", "network", "decode", "two frames in flight"} < rows(document, group).keys()
    (check,) = (part["facts"] for part in document["parts"] if (part["group"], part["name"]) == (group, "check"))
    assert check["largest_difference_px"] < 0.5
    # Without it, or with another one, one part says so, and the rest is measured.
    code, document, _ = report(tmp_path, "--models", str(model))
    ((where, reason),) = outcomes(document, "failed").items()
    assert (code, where) == (1, ("Engines", "toy with tensorrt"))
    assert "face_model.npz: no such file" in reason
    other = save_face_model(tmp_path / "other.npz", model=wide_face_model())
    code, document, _ = report(tmp_path, "--models", str(model), "--face-model", str(other))
    ((_, reason),) = outcomes(document, "failed").items()
    assert "its 40 + 10 coefficients of shape and expression are not the network's 2 + 1" in reason


def test_without_tensorrt_the_rest_is_measured(machine, tmp_path, capsys):
    code, document, html = report(tmp_path)
    left_out = outcomes(document, "left out")
    assert (code, outcomes(document, "failed")) == (0, {})
    assert left_out.keys() == {("Engines", "build"), ("Tests", "gpu"), *ABSENT}
    assert left_out["Engines", "build"].startswith("neither TensorRT nor TensorRT-RTX is installed")
    assert {*SETTINGS} < rows(document, "Frames without a network").keys()
    assert "neither TensorRT nor TensorRT-RTX" in html
    assert "neither TensorRT nor TensorRT-RTX" in capsys.readouterr().out


def test_without_kernels_the_network_is_measured(machine, tensorrt, tmp_path):
    machine.options = {"kernels": False}
    code, document, _ = report(tmp_path)
    assert (code, outcomes(document, "failed")) == (0, {})
    left_out = outcomes(document, "left out")
    assert {key[0] for key in left_out} == {
        "Tests",
        "Kernels",
        "Launches",
        "Frames without a network",
        "Frames: edge-fp16 with tensorrt 10.3.0",
        "Detection with tensorrt 10.3.0",
        *(group for group, _ in ABSENT),
    }
    assert "has no CUDA kernels for this device" in left_out["Kernels", "all"]
    found = rows(document, "Frames: edge-fp16 with tensorrt 10.3.0")
    assert {
        "whole frame",
        "4K",
        "4 faces",
        "one frame at a time",
        "upload",
        "network",
        "download",
    } < found.keys()
    assert not {"crop", "decode", "two frames in flight", "frame in place"} & found.keys()


def test_a_device_lost_in_one_part_costs_that_part_alone(machine, few, tmp_path, capsys):
    def lose(cuda: FakeCuda) -> None:
        if len(machine.cudas) == 5:
            cuda.fail("launch", 2, "CUDA_ERROR_LAUNCH_FAILED")

    machine.prepare = lose
    code, document, html = report(tmp_path)
    ((where, reason),) = outcomes(document, "failed").items()
    assert (code, where[0]) == (1, "Frames without a network")
    assert "CUDA_ERROR_LAUNCH_FAILED: the device is lost" in reason
    assert {"throughput", "stages", "host's work"} <= {
        part["name"] for part in document["parts"] if part["outcome"] == "measured"
    }
    assert "CUDA_ERROR_LAUNCH_FAILED" in html
    assert "Failed:" in capsys.readouterr().out


def test_points_that_differ_from_the_cpus_are_told(machine, few, tmp_path, monkeypatch):
    numbers = iter(range(99))
    monkeypatch.setattr(gpu_frames, "face_map", lambda spec: np.full((3, 64, 64), next(numbers), np.float32))
    code, document, _ = report(tmp_path)
    assert code == 1
    assert re.match(
        r"the points are up to [\d.e+]+ px from the CPU's",
        outcomes(document, "failed")["Frames without a network", "check"],
    )


def test_an_engine_that_cannot_be_built(machine, tensorrt, few, tmp_path, monkeypatch):
    def bug(*_):
        raise TypeError("a bug\nin two lines")

    monkeypatch.setattr(sys.modules["export.engines.tensorrt_builder"], "run_build", bug)
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"not a model")
    code, document, _ = report(tmp_path, "--models", str(bad))
    failed = outcomes(document, "failed")
    assert (code, len(failed)) == (1, 3)
    assert re.fullmatch(
        r"TypeError: a bug in two lines \(test_gpu_report.py:\d+\)", failed["Engines", "edge-fp16 with tensorrt"]
    )
    assert "bad.onnx: cannot be read as an ONNX model" in failed["Engines", "bad with tensorrt"]
    assert "whole frame" in rows(document, "Frames without a network")


def test_tests_that_fail(machine, tmp_path, monkeypatch):
    checkout(tmp_path, "assert 1 == 2", "pass")
    result = hardware_tests.gpu_tests(60)
    assert (result["outcome"], result["facts"]) == ("failed", {"failed": 1, "passed": 1})
    assert result["reason"].startswith("pytest ended with 1: 1 failed, 1 passed")
    assert result["notes"][0].startswith("FAILED tests/test_it.py::test_0")
    checkout(tmp_path / "slow", "import time; time.sleep(60)")
    monkeypatch.setattr(hardware_tests, "REPOSITORY", tmp_path / "slow" / "checkout")
    result = hardware_tests.gpu_tests(0.5)
    assert (result["outcome"], result["reason"][:24]) == ("failed", "not done within 0.5 s, s")


def test_no_part_begins_when_the_time_is_over():
    """The first task is a process's start, the others are left out; the process ends with it."""
    tasks = [Task("Group", f"part {number}", "torch_version", {}, 60) for number in range(3)]
    results = list(run_apart(tasks, until=time.monotonic() + 0.01))
    assert [result["name"] for result in results] == ["part 0", "part 1", "part 2"]
    assert [result["reason"] for result in results[1:]] == [OUT_OF_TIME] * 2
    assert [result["reason"] for result in run_apart(tasks, until=0)] == [OUT_OF_TIME] * 3


def error_of(capsys, *options: str) -> str:
    assert main(["gpu-report", *options]) == 1
    stdout, stderr = capsys.readouterr()
    assert not stdout
    assert re.fullmatch(r"error: [^\n]+\n", stderr)
    return stderr


def test_no_device(tmp_path, capsys, monkeypatch):
    def none():
        raise CudaError("cuInit", "CUDA_ERROR_NO_DEVICE")

    monkeypatch.setattr(gpu_report, "query_device", none)
    assert "no CUDA device can be seen" in error_of(capsys, "-o", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_device_that_cannot_be_opened(machine, tmp_path, capsys):
    machine.prepare = lambda cuda: cuda.fail("memory_info")
    assert "the GPU's memory is full" in error_of(capsys, "-o", str(tmp_path))
    assert not list(tmp_path.iterdir())
    machine.prepare(machine.cudas[0])


def test_folders_and_models_that_are_not_there(machine, tmp_path, capsys):
    assert "create it" in error_of(capsys, "-o", str(tmp_path / "no" / "out"))
    (tmp_path / "file").write_text("")
    assert "cannot be written" in error_of(capsys, "-o", str(tmp_path / "file"))
    absent = str(tmp_path / "no.npz")
    assert "no face model there" in error_of(capsys, "-o", str(tmp_path / "out"), "--face-model", absent)
    assert "no model file there" in error_of(capsys, "-o", str(tmp_path / "out"), "--models", str(tmp_path / "no.onnx"))


def test_folder_that_goes_away(machine, tmp_path, capsys, monkeypatch):
    def tests_that_remove_it(limit_s):
        for path in (tmp_path / "out").iterdir():
            path.unlink()
        (tmp_path / "out").rmdir()
        return hardware_tests.new_result("Tests", "gpu", "left out", "gone")

    monkeypatch.setattr(gpu_report, "gpu_tests", tests_that_remove_it)
    assert main(["gpu-report", "-o", str(tmp_path / "out"), *QUICK]) == 1
    assert re.search(
        r"^error: .*gpu-report.json: cannot be written \(No such file or directory\)", capsys.readouterr().err
    )


def test_stopped_in_the_middle(machine, tmp_path, monkeypatch):
    def stop(limit_s):
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu_report, "gpu_tests", stop)
    code, document, html = report(tmp_path)
    assert (code, document["complete"], [part["name"] for part in document["parts"]]) == (130, False, ["device"])
    assert "NOT COMPLETE" in html


# ---- processes


PROGRAM = """
import os, signal, sys
from benchmarks.gpu import worker as gpu_worker
from runtime.cuda.errors import CudaError

def act(what):
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        sys.exit("no more of this")
    if what == "hang":
        signal.pause()
    if what == "lost":
        raise CudaError("cuMemAlloc", "CUDA_ERROR_ILLEGAL_ADDRESS")
    print("libraries print", flush=True)
    return {"did": what, "process": os.getpid(), "nan": float("nan")}

gpu_worker.PARTS["act"] = act
gpu_worker.main()
"""


def test_processes_that_end_cost_one_part_each(monkeypatch, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setattr(gpu_worker, "COMMAND", [sys.executable, str(tmp_path / "program.py")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [os.getcwd(), *sys.path])))
    whats = ["a", "b", "die", "c", "exit", "lost", "d", "hang", "e"]
    results = list(
        run_apart([Task("group", what, "act", {"what": what}, 0.5 if what == "hang" else 60) for what in whats])
    )
    assert [result["name"] for result in results] == whats
    reasons = {result["name"]: result["reason"] for result in results if result["outcome"] == "failed"}
    assert reasons.keys() == {"die", "exit", "lost", "hang"}
    assert reasons["die"] == "its process was ended by SIGKILL: libraries print"
    assert reasons["exit"] == "its process ended with exit code 1: no more of this"
    assert reasons["hang"] == "no result within 0.5 s, so it was stopped"
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in reasons["lost"]
    processes = {result["name"]: result["facts"]["process"] for result in results if result["outcome"] == "measured"}
    assert processes["a"] == processes["b"] != processes["c"] != processes["d"] != processes["e"]
    assert results[0]["facts"]["nan"] is None


def test_the_real_worker_says_why_there_is_no_device(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (result,) = run_apart([Task("Machine", "device", "describe_device", {}, 60)])
    assert result["outcome"] == "failed"
    assert re.match("loading libcuda.so.1 failed|cuInit failed with CUDA_ERROR", result["reason"])


# ---- clocks


def test_series():
    numbers = iter(range(100))
    assert take_series(lambda: next(numbers), SeriesLength(5, warm_up_s=0)).tolist() == [8, 9, 10, 11, 12]
    assert len(take_series(lambda: 1.0, SeriesLength(10**9, 0.02, 0))) < 10**9
    found = record_row("x", np.arange(1001.0), faces=2)
    assert (found["p50_ms"], found["p90_ms"], found["p99_ms"], found["max_ms"], found["frames"]) == (
        500,
        900,
        990,
        1000,
        1001,
    )
    assert (len(found["samples_us"]), found["faces"]) == (250, 2)


def test_stage_clock_tells_the_stages_apart():
    """The stand-in's clock counts the events, so every stage lasts one millisecond for each event in it."""
    with FakeCuda() as inner:
        cuda = StageClock(inner)
        stream, host, device = cuda.stream(), cuda.host_buffer(64), cuda.device_buffer(64)
        for _ in range(3):
            cuda.begin()
            for _ in range(2):
                cuda.upload(device.pointer, host.pointer, 64, stream)
            cuda.download(host.pointer, device.pointer, 64, stream)
            stream.synchronize()
            assert cuda.stages() == {"upload": 2, "network": 1, "download": 1}
        assert len(inner.calls("event")) == 5
        with pytest.raises(CudaError, match="left out on purpose"):
            cuda.capture(stream, lambda: None)


def test_wait_clock_counts_waits():
    with FakeCuda() as inner:
        cuda = WaitClock(inner)
        stream, event = cuda.stream(), cuda.event()
        event.record(stream)
        assert cuda.waited_ns == 0
        event.synchronize()
        assert cuda.waited_ns > 0
