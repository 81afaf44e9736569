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
    """Counts what was done and says what was not."""

    def __init__(self) -> None:
        self.pictures = self.faces = self.failures = 0
        self.note = ""  # to the time per face
        self._seconds = 0.0  # in which this program was busy finding faces, or waited for them

    def inside(self, items: Iterable[T]) -> Iterator[T]:
        """``items``; the time that it takes to get them counts."""
        return self._timed(items, 1)

    def outside(self, items: Iterable[T]) -> Iterator[T]:
        """``items``; the time that it takes to get them, as a part of what `inside` counts, does not."""
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

    def written(self, faces: list[FaceMesh]) -> None:
        self.pictures += 1
        self.faces += len(faces)

    def failed(self, error: FaceMeshError) -> None:
        self.failures += 1
        print_line(f"error: {error}")

    def print_summary(self, output: Path) -> None:
        if not self.pictures:
            return
        parts = [count_noun(self.pictures, "picture"), count_noun(self.faces, "face")]
        if self.faces:
            parts.append(f"{1000 * self._seconds / self.faces:.1f} ms per face{self.note}")
        if self.failures:
            parts.append(count_noun(self.failures, "failure"))
        print(f"{', '.join(parts)}; results in {output}")


def count_noun(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
