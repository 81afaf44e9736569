"""The command over real Ray clusters on 127.0.0.1: a node killed, a run killed, nothing lost and nothing twice."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from runtime.__main__ import main
from runtime.archives.work import ShardWorker
from tests.test_import_rules import ROOT

pytest.importorskip("onnxruntime")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'facemesh-edge[batch]'")

PICTURES = 48
# In each process of a cluster: the file FAULT names an action and a part of the paths that it meets.
FAULTS = """
import errno, os, sys
def meet(event, arguments):
    if event != "open" or not isinstance(arguments[0], str) or arguments[0] == os.environ["FAULT"]:
        return
    with open(os.environ["FAULT"]) as file:
        action, part = file.read().split()
    if part in arguments[0]:
        if action == "kill":
            os.kill(os.getpid(), 9)
        raise OSError(getattr(errno, action), os.strerror(getattr(errno, action)), arguments[0])
sys.addaudithook(meet)
"""
# So that Ray takes 127.0.0.1 as the address of its nodes, and not the one of the machine.
LOOPBACK = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture
def has_ray():
    pytest.importorskip("ray", reason="needs Ray: pip install 'facemesh-edge[batch]'")


@pytest.fixture
def photos(tmp_path, portrait):
    """Many photos, every eighth broken."""
    folder = tmp_path / "photos"
    folder.mkdir()
    content = portrait.read_bytes()
    for number in range(PICTURES):
        (folder / f"{number:03d}.jpg").write_bytes(content[:2000] if number % 8 == 7 else content)
    return folder


def start(photos: Path, output: Path, *arguments: str, cwd: Path = ROOT) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "runtime.batch",
        "--source",
        photos,
        "--output",
        output,
        "--shard",
        "4",
        *arguments,
    ]
    environment = {**LOOPBACK, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def wait_for_parts(output: Path, count: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 180
    while len(list((output / "done").glob("*.json"))) < count:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)


def lines_of_ours(told: str) -> list[str]:
    """Return the lines without those of Ray on workers that died, of an earlier run in the same cluster, too."""
    return [line for line in told.splitlines() if "raylet" not in line]


def check_all_once(output: Path) -> None:
    """Every good picture has one face, every bad one an error, and nothing else is there."""
    faces = Counter(Path(row["key"]).stem for row in parquet.read_table(output / "faces").to_pylist())
    errors = Counter(Path(row["key"]).stem for row in parquet.read_table(output / "errors").to_pylist())
    assert faces == {f"{number:03d}": 1 for number in range(PICTURES) if number % 8 != 7}
    assert errors == {f"{number:03d}": 1 for number in range(PICTURES) if number % 8 == 7}
    assert sorted(path.stem for path in (output / "done").iterdir()) == [f"{n:07d}" for n in range(PICTURES // 4)]
    assert not list(output.rglob(".*"))


@pytest.mark.slow
def test_a_node_of_two_is_killed_in_the_middle(has_ray, photos, tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "tests.programs.ray_cluster"]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    cluster = subprocess.Popen(command, cwd=ROOT, env=LOOPBACK, text=True, **streams)
    try:
        address = cluster.stdout.readline().strip()
        assert address.startswith("127.0.0.1:")
        run = start(photos, output, "--address", address)
        wait_for_parts(output, 4, run)
        cluster.stdin.write("kill\n")
        cluster.stdin.flush()
        assert cluster.stdout.readline() == "killed\n"
        assert f"{PICTURES} pictures" in finish(run)
        check_all_once(output)
    finally:
        cluster.stdin.close()
        cluster.wait(60)


@pytest.fixture(scope="module")
def faulty_cluster(tmp_path_factory):
    """A cluster in whose processes ``meet("kill", "part of a path")`` has its way: (meet, address)."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'facemesh-edge[batch]'")
    folder = tmp_path_factory.mktemp("faults")
    (folder / "sitecustomize.py").write_text(FAULTS)

    def meet(action: str, part: str) -> None:
        (folder / "next").write_text(f"{action} {part}")
        (folder / "next").replace(folder / "fault")

    meet("none", "/no/such/path")
    environment = {**LOOPBACK, "FAULT": str(folder / "fault"), "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-m", "tests.programs.ray_cluster"]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    cluster = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **streams)
    yield meet, cluster.stdout.readline().strip()
    cluster.stdin.close()
    cluster.wait(60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "part", "expected"),
    [
        ("ENOSPC", "out/faces/", r"worker on 127\.0\.0\.1: .*/faces/\d+\.parquet: cannot be written \(No space left"),
        ("EACCES", "out/tries/", r"worker on 127\.0\.0\.1: .*out/tries/.*: cannot be written \(Permission denied\)"),
        ("ENOENT", "assets/edge", r"worker on 127\.0\.0\.1: .*assets/edge.*: cannot be read \(No such file"),
        ("kill", "assets/edge", r"workers were killed 3 times at its start"),
        ("kill", "faces/.0000001", r"workers were killed 3 times at part 1 \(.*photos\)"),
    ],
)
def test_what_a_worker_lacks_is_told_in_one_line(faulty_cluster, photos, tmp_path, fault, part, expected):
    """No traceback of Ray; what other workers finished stays, and the run goes on when the fault is gone."""
    meet, address = faulty_cluster
    output = tmp_path / "out"
    meet(fault, part)
    told, _ = (run := start(photos, output, "--address", address)).communicate(timeout=240)
    lines = [line for line in lines_of_ours(told) if "parts, " not in line]
    assert (run.returncode, len(lines)) == (1, 1), told
    assert re.search(f"^error: .*{expected}", lines[0])
    assert "Traceback" not in told
    meet("none", "/no/such/path")
    if part == "faces/.0000001":
        assert f"{PICTURES} pictures" in finish(start(photos, output, "--address", address))
        check_all_once(output)
        assert not (output / "tries").exists()


@pytest.mark.slow
def test_a_worker_without_the_model_is_told_in_one_line(faulty_cluster, photos, tmp_path):
    """The path leads to this process's own folder, as a disk that other machines do not have."""
    (tmp_path / "model").mkdir()
    for suffix in (".onnx", ".onnx.json"):
        (tmp_path / f"edge{suffix}").write_bytes((ROOT / "runtime" / "assets" / f"edge{suffix}").read_bytes())
        (tmp_path / "model" / f"edge{suffix}").symlink_to(f"/proc/self/cwd/edge{suffix}")
    model, output = tmp_path / "model" / "edge.onnx", tmp_path / "out"
    run = start(photos, output, "--address", faulty_cluster[1], "--engine", str(model), cwd=tmp_path)
    told, _ = run.communicate(timeout=240)
    assert run.returncode == 1
    (line,) = lines_of_ours(told)
    assert re.fullmatch(rf"error: worker on 127\.0\.0\.1: {re.escape(str(model))}: no model file there; .*", line)


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(has_ray, photos, tmp_path):
    output = tmp_path / "out"
    run = start(photos, output, "--workers", "2")
    wait_for_parts(output, 3, run)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    time.sleep(2)  # Ray's processes notice
    before = {path: path.stat().st_mtime_ns for path in (output / "done").glob("*.json")}
    assert 3 <= len(before) < PICTURES // 4
    told = finish(start(photos, output, "--workers", "2"))
    assert f"{len(before)} of {PICTURES // 4} parts were finished before" in told
    assert {path: path.stat().st_mtime_ns for path in before} == before
    check_all_once(output)
    assert "12 of 12 parts were finished before" in finish(start(photos, output, "--workers", "2"))
    refused = start(photos, output, "--vertices")
    assert "a run with another vertices was begun here" in refused.communicate()[0]
    assert refused.returncode == 1


@pytest.mark.slow  # Ray is imported
def test_a_worker_that_begins_too_late_is_no_error(has_ray, photos, tmp_path, capsys, monkeypatch):
    """When all parts are done Ray ends it wherever it is; what it has begun stays for a while or for ever."""
    output = tmp_path / "out"

    def run_shards(numbers, folder, settings, pool):
        worker = ShardWorker(folder, settings)
        yield from map(worker, numbers)
        worker.close()
        (folder / "tries" / "worker-late").write_bytes(b".")
        (folder / "faces" / ".0000001.parquet.0.part").write_bytes(b"half")

    monkeypatch.setattr("runtime.archives.ray_pool.run_shards", run_shards)
    assert main(["batch", "--source", str(photos), "--output", str(output), "--shard", "4"]) == 0
    assert "12 of 12 parts, 48 pictures, 42 faces, 6 errors" in capsys.readouterr().err
    assert not (output / "tries").exists()
    check_all_once(output)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_was_finished(has_ray, photos, tmp_path, number, code):
    output = tmp_path / "out"
    run = start(photos, output, "--workers", "1")
    wait_for_parts(output, 1, run)
    run.send_signal(number)
    told, _ = run.communicate(timeout=60)
    assert (run.returncode, told.splitlines()[-1]) == (code, "stopped; what was finished is kept")
    for path in (output / "done").glob("*.json"):
        assert json.loads(path.read_text())["pictures"] == 4


@pytest.mark.slow  # Ray is imported
@pytest.mark.parametrize(("answer", "reason"), [(b"", "timed out"), (b"HTTP/1.0 404 no\r\n", "something else listens")])
def test_a_port_of_something_else_is_no_cluster(has_ray, photos, tmp_path, capsys, monkeypatch, answer, reason):
    """Ray's own client would wait there for minutes."""
    monkeypatch.setattr("runtime.archives.ray_pool.ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)
                ended.wait(60 if not answer else 0)

        ended = threading.Event()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        address, output = f"127.0.0.1:{server.getsockname()[1]}", tmp_path / "out"
        assert main(["batch", "--source", str(photos), "--output", str(output), "--address", address]) == 1
        ended.set()
        thread.join(10)
    assert re.fullmatch(rf"error: no Ray cluster answers at {address} \({reason}.*\n", capsys.readouterr().err)
    assert not output.exists()


@pytest.mark.slow  # Ray is imported
def test_bad_input_ends_in_one_line_and_writes_nothing(has_ray, photos, tmp_path, capsys):
    output = tmp_path / "out"
    (tmp_path / "file").write_text("x")
    untrained = tmp_path / "random.onnx"
    untrained.write_bytes((ROOT / "runtime" / "assets" / "edge.onnx").read_bytes())
    spec = json.loads((ROOT / "runtime" / "assets" / "edge.onnx.json").read_text())
    untrained.with_name("random.onnx.json").write_text(json.dumps({**spec, "untrained": True}))
    for arguments, reason in (
        (["--address", "127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
        (["--address", "somewhere"], "must be HOST:PORT of a Ray cluster's head"),
        (["--engine", str(tmp_path / "none.onnx")], "no model file there"),
        (["--engine", str(tmp_path / "none.engine")], "no model file there"),
        (["--engine", str(photos / "000.jpg")], "no runner for .jpg"),
        (["--detector", str(tmp_path / "none.engine")], "none.engine: no engine file there"),
        (["--detector", str(ROOT / "runtime" / "assets" / "edge.onnx")], "a face network, which finds no faces"),
        (["--source", str(tmp_path / "none")], "no such file or folder"),
        (["--engine", str(untrained)], "its weights are random"),
        (["--output", str(tmp_path / "file")], "cannot be written"),
    ):
        assert main(["batch", "--source", str(photos), "--output", str(output), *arguments]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert reason in lines[0]
    assert not output.exists()
    with pytest.raises(SystemExit, match="2"):
        main(["batch", "--source", str(photos), "--output", "s3://bucket/out"])


@pytest.mark.slow  # Ray is imported
def test_the_same_words_in_another_folder_are_another_run(has_ray, photos, tmp_path, capsys, monkeypatch):
    """Sources are kept from the root."""
    monkeypatch.setattr("runtime.archives.ray_pool.run_shards", lambda *_: iter(()))
    monkeypatch.chdir(photos)
    assert main(["batch", "--source", ".", "--output", str(tmp_path / "out")]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["batch", "--source", ".", "--output", str(tmp_path / "out")]) == 1
    assert "a run with another sources was begun here" in capsys.readouterr().err
    assert main(["batch", "--source", "photos", "--output", str(tmp_path / "out")]) == 0


@pytest.mark.slow  # Ray is imported
def test_a_small_detector_is_told_of(has_ray, photos, tmp_path, capsys, monkeypatch, fixed_detector):
    monkeypatch.setattr("runtime.archives.ray_pool.run_shards", lambda *_: iter(()))
    for size in (320, 640):
        detector = fixed_detector(size, size)
        output = str(tmp_path / str(size))
        assert main(["batch", "--source", str(photos), "--output", output, "--detector", str(detector)]) == 0
        assert ("does not fit 320 x 320 px" in capsys.readouterr().err) == (size == 320)
