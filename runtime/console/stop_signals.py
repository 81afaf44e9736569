"""SIGINT, SIGTERM and SIGHUP: the first ends a run after its frame, with whole files; a second one ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, handled as Ctrl-C is: files are finished or taken away."""

    def __init__(self, number: int) -> None:
        """Keep the ``number`` of the signal."""
        super().__init__()
        self.number = number


def interruption(number: int) -> KeyboardInterrupt:
    """Return the exception for a signal: `KeyboardInterrupt` for SIGINT, `Terminated` for the others."""
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)


class _Handlers(AbstractContextManager[Any]):
    """Handlers of signals for a while. Signals that the process ignores stay ignored, as nohup wants it."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = numbers
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Any:
        if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
            for number in self._numbers:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        raise interruption(number)


class TerminationHandler(_Handlers):
    """SIGTERM and SIGHUP raise `Terminated`, so that ``with`` and ``finally`` are gone through."""

    def __init__(self) -> None:
        """Leave SIGINT alone: Python handles it itself."""
        super().__init__(signal.SIGTERM, signal.SIGHUP)


class StopSignals(_Handlers):
    """The first SIGINT, SIGTERM or SIGHUP calls ``stop``, a second one raises."""

    def __init__(self, stop: Callable[[], None]) -> None:
        """``stop`` asks the work to end soon; it must not wait for anything."""
        super().__init__(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._stop = stop
        self._received: int | None = None

    def raise_received(self) -> None:
        """Raise the interruption that was asked for, if one was."""
        if self._received is not None:
            raise interruption(self._received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            super()._handle(number, frame)
        self._received = number
        self._stop()
