"""Ends of a command: signals, a reader that goes away."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import cv2
import pytest

from runtime.console.exit_codes import exit_code_of
from runtime.console.progress import counting_bar, progress_bar
from runtime.console.stop_signals import StopSignals, Terminated
from runtime.console.terminal import print_line
from runtime.errors import FaceMeshError
from runtime.models.shipped import SHIPPED_MODEL, SHIPPED_PICTURE

TALK = """
import sys
from runtime.console.exit_codes import exit_code_of
def talk():
    for number in range(100000):
        print(number)
sys.exit(exit_code_of(talk))
"""


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_have_their_codes(number, code, capsys, interruptible):
    assert exit_code_of(lambda: send(number)) == code
    assert capsys.readouterr().err == "stopped; what was finished is kept\n"


@pytest.mark.parametrize("is_told", [False, True])
def test_a_signal_while_a_compiled_module_starts(capsys, is_told):
    """Such modules make an `ImportError` of it, and a caller one line on a library that does not load."""

    def start():
        try:
            raise ImportError("initialization failed") from KeyboardInterrupt()
        except ImportError:
            if is_told:
                raise FaceMeshError("it does not load") from None
            raise

    assert exit_code_of(start) == 130
    assert capsys.readouterr().err == "stopped; what was finished is kept\n"


def test_sigterm_goes_through_with_and_finally(interruptible):
    done = []

    def work():
        try:
            send(signal.SIGTERM)
        finally:
            done.append(True)

    before = signal.getsignal(signal.SIGTERM)
    assert exit_code_of(work) == 143
    assert done == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_ignored_signals_stay_ignored(capsys):
    """As nohup and shells without job control want it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert exit_code_of(lambda: send(signal.SIGTERM)) == 0
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_first_signal_asks_and_second_one_raises(number, interruptible):
    asked = []
    with StopSignals(lambda: asked.append(True)) as signals:
        signals.raise_received()
        send(number)
        assert asked == [True]
        with pytest.raises(KeyboardInterrupt):
            send(number)
        with pytest.raises(KeyboardInterrupt) as raised:
            signals.raise_received()
    assert isinstance(raised.value, Terminated) == (number != signal.SIGINT)


def test_reader_that_goes_away():
    process = subprocess.Popen([sys.executable, "-c", TALK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_reader_of_errors_that_goes_away():
    script = "import sys\nfrom runtime.console.exit_codes import exit_code_of\n"
    script += "sys.exit(exit_code_of(lambda: [print('x' * 999, file=sys.stderr, flush=True) for _ in range(10**6)]))"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    process.stderr.readline()
    process.stderr.close()
    assert process.wait(timeout=60) == 141


@pytest.mark.parametrize("command", [["runtime", "--help"], ["export", "inspect", SHIPPED_MODEL]])
def test_full_disk_behind_the_output(command):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", *command], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: nothing more can be written (No space left on device); make room\n"


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_outputs_hinder_nothing(tmp_path, closed):
    (tmp_path / "in").mkdir()
    shutil.copy(SHIPPED_PICTURE, tmp_path / "in" / "a.jpg")
    command = [sys.executable, "-m", "runtime.run", "--source", tmp_path / "in", "--output", tmp_path / "out"]
    done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *command, "--save", "json"], capture_output=True)
    assert done.returncode == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.jsonl"]


def test_a_bar_without_stderr_is_off(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert list(progress_bar([1, 2], 2, "picture")) == [1, 2]
    counting_bar(2, "steps").update(1)
    print_line("nowhere")


def test_names_do_not_steer_the_terminal(capsys):
    def fail():
        raise FaceMeshError("\x1b[31ma\nb\0\u202e: é, no such file")

    said = "\\x1b[31ma\\nb\\x00\\u202e: é, no such file\n"
    assert exit_code_of(fail) == 1
    print_line("note: \x1b[31ma\nb\0\u202e: é, no such file")
    assert capsys.readouterr().err == f"error: {said}note: {said}"


def refused_by_opencv():
    error = cv2.error("no memory")
    error.code = cv2.Error.StsNoMem
    return error


def wrapped_by_opencv():
    error = SystemError("<built-in function blur> returned a result with an exception set")
    error.__cause__ = MemoryError()
    return error


@pytest.mark.parametrize("error", [MemoryError(), refused_by_opencv(), wrapped_by_opencv()])
def test_lack_of_memory_is_one_line(error, capsys):
    def fail():
        raise error

    assert exit_code_of(fail) == 1
    said = capsys.readouterr().err
    assert said == "error: there is not enough memory; close other programs, or ask for less at once\n"


@pytest.mark.parametrize("error", [cv2.error("sizes differ"), SystemError("a bug"), ZeroDivisionError()])
def test_bugs_keep_their_traceback(error):
    def fail():
        raise error

    with pytest.raises(type(error)):
        exit_code_of(fail)


def test_failure_of_the_system_is_one_line(capsys):
    assert exit_code_of(lambda: os.stat("/nowhere")) == 1
    assert capsys.readouterr().err == "error: /nowhere: No such file or directory; check files, folders and disks\n"
