"""Count results, failures and the time of a run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from runtime.console.terminal import print_line
from runtime.errors import FaceMeshError
from runtime.types import FaceMesh

T = TypeVar("T")


class Tally:
    """Counts of a run's results and failures, and its time per face."""

    def __init__(self) -> None:
        """Start from zero."""
        self.pictures = 0
        self.faces = 0
        self.left_out = 0  # faces below the least confidence
        self.failures = 0
        self.dropped = 0  # pictures of a camera that newer ones replaced
        self.note = ""  # printed after the time per face
        self._seconds = 0.0  # spent on finding faces or waiting for them

    def inside(self, items: Iterable[T]) -> Iterator[T]:
        """Pass ``items`` through; add the time spent waiting for them."""
        return self._timed(items, 1)

    def outside(self, items: Iterable[T]) -> Iterator[T]:
        """Pass ``items`` through; subtract the time spent waiting for them from the time that `inside` adds."""
        return self._timed(items, -1)

    def _timed(self, items: Iterable[T], sign: int) -> Iterator[T]:
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            item = next(iterator, None)
            self._seconds += sign * (time.perf_counter() - start)
            if item is None:
                return
            yield item

    def written(self, faces: list[FaceMesh], left_out: int) -> None:
        """Count one picture and its faces; ``left_out`` faces of all pictures so far were not sure enough."""
        self.pictures += 1
        self.left_out = left_out
        self.faces += len(faces)

    def failed(self, error: FaceMeshError) -> None:
        """Count and print a failure."""
        self.failures += 1
        print_line(f"error: {error}")

    def print_summary(self, output: Path) -> None:
        """Print the counts and the time per face in one line; nothing for a run that came to no picture."""
        if not self.pictures and not self.failures:
            return
        parts = [count_noun(self.pictures, "picture"), count_noun(self.faces, "face")]
        if self.left_out:
            parts.append(f"{self.left_out} more below --min-confidence")
        if self.dropped:
            parts.append(f"{self.dropped} dropped")
        if computed := self.faces + self.left_out:
            parts.append(f"{1000 * self._seconds / computed:.1f} ms per face{self.note}")
        if self.failures:
            parts.append(count_noun(self.failures, "failure"))
        print(f"{', '.join(parts)}; results in {output}")


def count_noun(number: int, noun: str) -> str:
    """Return "1 face" or "2 faces"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
