"""A limit on memory and time for readers of damaged files: a bomb fails here instead of filling the machine."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import FaceMeshError

MEMORY_BYTES = 512 << 20
SECONDS = 60  # of processor time: other work on the machine does not count


@contextmanager
def bounded_run() -> Iterator[None]:
    """Raise MemoryError beyond 512 MB more than now, and TimeoutError after a minute of processor time."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY_BYTES, before[1]))
    handler = signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s of processor time")


def is_refused(read: Callable[..., object], *arguments: object) -> bool:
    """Call ``read`` within the bounds; return True if it raises the project's error, which must be one line."""
    text = ""
    with bounded_run():
        try:
            read(*arguments)
        except FaceMeshError as error:
            text = str(error)
    assert "\n" not in text
    assert len(text) < 1500
    return bool(text)
