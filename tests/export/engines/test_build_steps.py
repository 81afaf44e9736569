"""Progress, messages and the command line of builds, without a library."""

from __future__ import annotations

import sys

import pytest

from export.__main__ import main
from export.engines.build_steps import Progress
from runtime.inference.trt.messages import Messages
from runtime.models.manifest import LIBRARIES
from tests.export.small_models import write_small_model


def phases(progress):
    progress.start("Building engine", None, 4)
    progress.step("Building engine", 0)
    progress.start("Timing tactics", "Building engine", 9)
    progress.step("Timing tactics", 2)


def test_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)
    progress = Progress()
    phases(progress)
    progress._bar.refresh()
    shown = capsys.readouterr().err
    progress.close()
    assert "Building engine: 1/4" in shown
    assert shown.rstrip().endswith("Timing tactics 3/9")


def test_silence_elsewhere(capsys):
    progress = Progress()
    phases(progress)
    progress.close()
    assert capsys.readouterr().err == ""


def test_a_cancelled_build_stops_at_its_next_step():
    progress = Progress()
    assert progress.step("Building engine", 0)
    progress.cancelled = True
    assert not progress.step("Building engine", 1)


def test_errors_are_whole_and_of_this_step_alone():
    messages = Messages()
    messages.add("INTERNAL_ERROR", "of an earlier step")
    messages.forget()
    for severity, text in (
        ("ERROR", "first\n  line  two"),
        ("VERBOSE", "chatter"),
        ("ERROR", "second"),
        ("ERROR", "second"),
    ):
        messages.add(severity, text)
    assert str(messages.failure("m.onnx: it failed")) == "m.onnx: it failed: first line two; second"
    assert str(Messages().failure("m.onnx: it failed")) == "m.onnx: it failed: the library gives no reason"


@pytest.mark.parametrize("command", [[], ["onnx"], ["engine"], ["inspect"]])
def test_help_is_plain_and_true_of_both_libraries(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "`" not in text
    assert "for this device" not in text


@pytest.mark.parametrize("backend", LIBRARIES)
def test_library_that_is_there_but_does_not_load(tmp_path, capsys, monkeypatch, broken_module, backend):
    name = backend.replace("-", "_")
    broken_module(name, "raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, f"export.engines.{name.removeprefix('tensorrt_')}_builder", raising=False)
    model = write_small_model(tmp_path / "m.onnx")
    assert main(["engine", str(model), "-o", str(tmp_path / "m.engine"), "--backend", backend]) == 1
    assert f"error: {backend} is installed but does not load (libnvinfer.so.10" in capsys.readouterr().err
