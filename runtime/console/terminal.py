"""Lines of a command on the terminal: its own alone, one each, above a running progress bar."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from runtime.errors import printable


def print_line(line: str) -> None:
    """Print ``line`` on stderr, above the bar if there is one; without stderr nowhere."""
    if sys.stderr is None:
        return
    line = printable(line)
    try:
        from runtime.console.progress import print_above_bar
    except ModuleNotFoundError:
        print(line, file=sys.stderr)
    else:
        print_above_bar(line)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the remarks of image, video and inference libraries off file descriptor 2.

    Only lines of this program reach the terminal; its warnings become such lines.
    """
    with warnings.catch_warnings(), _without_descriptor_2():
        warnings.showwarning = lambda message, *_: print_line(f"warning: {message}")
        yield


@contextmanager
def _without_descriptor_2() -> Iterator[None]:
    try:
        kept = os.dup(2)
    except OSError:  # there is no descriptor 2
        yield
        return
    stderr = sys.stderr
    if _is_descriptor_2(stderr):
        sys.stderr = os.fdopen(kept, "w", buffering=1, encoding=stderr.encoding, errors=stderr.errors, closefd=False)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        if sys.stderr is not stderr:
            sys.stderr.flush()
            sys.stderr = stderr
        os.dup2(kept, 2)
        os.close(kept)


def _is_descriptor_2(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() == 2
    except (OSError, ValueError):  # replaced by something that is no file, or closed
        return False
