"""The interface of a peer: it turns a photograph and a face's box into a mesh, timed stage by stage."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from benchmarks.records.measured_faces import Face


class Peer(Protocol):
    """One row group of the table."""

    name: str
    note: str  # the parts of it that were run
    vertices: int
    stages: tuple[str, ...]

    def run(self, face: Face) -> tuple[list[float], NDArray | None]:
        """Do one face and return the seconds of each stage, and the landmarks (68, 2 or 3) in px.

        Seconds are NaN if it did not find the face. Landmarks are None if it has not these 68.
        """
        ...

    def close(self) -> None:
        """Free everything."""
        ...


@dataclass(frozen=True, eq=False)
class StagedPeer:
    """A peer inside this process: each step takes the result of the one before, the first one the `Face`.

    Steps of one name are one stage. A picture of several ``faces`` has a box for each, (N, 4), and yields landmarks
    (N, 68, 2 or 3); its seconds are those of one face.
    """

    name: str
    note: str
    vertices: int
    steps: tuple[tuple[str, Callable[[Any], Any]], ...]
    landmarks: Callable[[Any], NDArray]  # from what the last step returned; outside the timing
    on_close: Callable[[], None] = field(default=lambda: None)
    faces: int = 1

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the steps."""
        return tuple(dict.fromkeys(name for name, _ in self.steps))

    def run(self, face: Face) -> tuple[list[float], NDArray | None]:
        """Do the steps, each timed; see `Peer.run`."""
        seconds = dict.fromkeys(self.stages, 0.0)
        value: Any = face
        gc.disable()
        try:
            for name, step in self.steps:
                start = time.perf_counter()
                value = step(value)
                seconds[name] += time.perf_counter() - start
        finally:
            gc.enable()
        return [total / self.faces for total in seconds.values()], self.landmarks(value)

    def find(self, face: Face) -> NDArray:
        """Do the steps by no clock; return the landmarks."""
        value: Any = face
        for _, step in self.steps:
            value = step(value)
        return self.landmarks(value)

    def close(self) -> None:
        """Free everything."""
        self.on_close()
