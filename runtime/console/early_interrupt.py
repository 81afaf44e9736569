"""Ctrl-C while a command of the project is still importing: exit code 130 without a traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading

PACKAGES = ("runtime", "export", "calibration", "training", "benchmarks")
SCRIPT = "facemesh"


def end_imports_quietly() -> None:
    """Let SIGINT end this process at once, if it runs a command of the project; a library leaves signals alone.

    `restore_interrupt` ends that.
    """
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default and _runs_command() and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _end)


def restore_interrupt() -> None:
    """Give Ctrl-C back its `KeyboardInterrupt`."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _runs_command() -> bool:
    """Return True for ``python -m PACKAGE…`` and for the installed script."""
    if os.path.basename(sys.argv[0] if sys.argv else "") == SCRIPT:
        return True
    words = sys.orig_argv
    following = words[words.index("-m") + 1 :] if "-m" in words else []
    return bool(following) and following[0].partition(".")[0] in PACKAGES


def _end(*_: object) -> None:
    os.write(2, b"stopped\n")
    os._exit(128 + signal.SIGINT)
