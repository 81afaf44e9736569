"""All commands behind outputs that are closed, that know ASCII alone, and behind Ctrl-C while they import."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from runtime.models.shipped import SHIPPED_PICTURE

COMMANDS = (
    *("runtime --help", "runtime --version", "runtime.run --help", "runtime.swap --help", "export --help"),
    *("export onnx --help", "calibration --help", "calibration pack --help", "training --help", "benchmarks --help"),
)


def start(command: str, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", *command.split()], text=True, **options)


@pytest.mark.parametrize("command", COMMANDS)
def test_ascii_and_closed_outputs(command):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    process = start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.isascii()
    process = start(command, stderr=subprocess.PIPE, preexec_fn=lambda: os.close(1))
    assert "Traceback" not in process.communicate(timeout=120)[1]  # argparse prints its help there
    assert process.returncode == 0


def test_run_with_ascii_outputs_and_names_beyond(tmp_path):
    picture = tmp_path / "gesicht_ä_顔.jpg"
    picture.write_bytes(SHIPPED_PICTURE.read_bytes())
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "runtime.run", "--source", str(picture), "--output", str(tmp_path / "öut")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("command", ["runtime.run --help", "export --help", "benchmarks --help"])
def test_interrupt_while_importing(tmp_path, interruptible, command):
    """A cv2 that takes its time stands in for a slow disk."""
    (tmp_path / "cv2.py").write_text("import os, time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    process = start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout.readline() == "importing\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "stopped\n")


def test_a_library_leaves_signals_alone(interruptible):
    code = "import signal, runtime; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "True\n"
