"""Clock of the stages of a run: each moment counts for the innermost stage that is under way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
MEMORY = 0.9  # share of the mean that a new frame leaves


class StageClock:
    """Mean times of stages per frame, newer frames counting more. One thread uses it."""

    def __init__(self) -> None:
        """Start without a stage."""
        self.means_ms: dict[str, float] = {}
        self.rate_hz = 0.0
        self._current: dict[str, float] = {}
        self._under_way: list[str] = []
        self._since = time.perf_counter()
        self._frame_began: float | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time within for ``name``, apart from that of stages inside it."""
        self._charge()
        self._under_way.append(name)
        try:
            yield
        finally:
            self._charge()
            self._under_way.pop()

    def timed(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """Pass ``items`` through; count the waiting for them for ``name``."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def timed_calls(self, name: str, function: Callable[..., T]) -> Callable[..., T]:
        """Return ``function`` with its time counted for ``name``."""
        return _TimedCalls(self, name, function)

    def frame_done(self) -> None:
        """Take the times since the last call as one frame."""
        self._charge()
        now = self._since
        for name in {*self.means_ms, *self._current}:
            spent = 1000 * self._current.get(name, 0.0)
            before = self.means_ms.get(name, spent)
            self.means_ms[name] = MEMORY * before + (1 - MEMORY) * spent
        self._current.clear()
        if self._frame_began is not None and now > self._frame_began:
            rate = 1 / (now - self._frame_began)
            self.rate_hz = rate if self.rate_hz == 0 else 1 / (MEMORY / self.rate_hz + (1 - MEMORY) / rate)
        self._frame_began = now

    def _charge(self) -> None:
        now = time.perf_counter()
        if self._under_way:
            name = self._under_way[-1]
            self._current[name] = self._current.get(name, 0.0) + now - self._since
        self._since = now


class _TimedCalls:
    """An object whose calls are timed and that is otherwise the one inside."""

    def __init__(self, clock: StageClock, name: str, inside: Callable[..., Any]) -> None:
        self._clock = clock
        self._name = name
        self._inside = inside

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        with self._clock.stage(self._name):
            return self._inside(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)
