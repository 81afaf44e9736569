"""The command over real Ray clusters on 127.0.0.1: a node killed, a run killed, nothing lost and nothing twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from runtime.__main__ import main
from tests.test_import_rules import ROOT

pytest.importorskip("onnxruntime")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'facemesh-edge[batch]'")

PICTURES = 48
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


def start(photos: Path, output: Path, *arguments: str) -> subprocess.Popen:
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
    return subprocess.Popen(
        command, cwd=ROOT, env=LOOPBACK, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
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


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_finished(has_ray, photos, tmp_path):
    output = tmp_path / "out"
    run = start(photos, output, "--workers", "1")
    wait_for_parts(output, 1, run)
    run.send_signal(signal.SIGINT)
    told, _ = run.communicate(timeout=60)
    assert (run.returncode, told.splitlines()[-1]) == (130, "stopped; what was finished is kept")
    for path in (output / "done").glob("*.json"):
        assert json.loads(path.read_text())["pictures"] == 4


@pytest.mark.slow  # Ray is imported
def test_bad_input_ends_in_one_line_and_writes_nothing(has_ray, photos, tmp_path, capsys):
    output = tmp_path / "out"
    (tmp_path / "file").write_text("x")
    for arguments, reason in (
        (["--address", "127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
        (["--address", "somewhere"], "must be HOST:PORT of a Ray cluster's head"),
        (["--engine", str(tmp_path / "none.onnx")], "no model file there"),
        (["--engine", str(tmp_path / "none.engine")], "no model file there"),
        (["--engine", str(photos / "000.jpg")], "no runner for .jpg"),
        (["--source", str(tmp_path / "none")], "no such file or folder"),
        (["--output", str(tmp_path / "file")], "cannot be written"),
    ):
        assert main(["batch", "--source", str(photos), "--output", str(output), *arguments]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert reason in lines[0]
    assert not output.exists()
