"""Interfaces that every inference backend implements: `Runner` and `Mesher`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.models.spec import ModelSpec

if TYPE_CHECKING:
    from runtime.families.uv_topology import UVTopology
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtime.families.uv_topology import UVTopology

Mesh = tuple[NDArray[np.float32], NDArray[np.float32]]  # vertices (V, 3) or (0, 3), landmarks (68, 3), frame px


class Mesher(Protocol):
    """Crop, network and decode of one frame after the other. It belongs to its runner, which closes it."""

    depth: int  # frames that may be in flight: submitted and not yet collected

    def submit(self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]]) -> None:
        """Start on a frame (H, W, 3) uint8 BGR, with one (2, 3) crop matrix (frame px -> crop px) for every face.

        The frame may change as soon as this returns, unless it is the array of `frame_buffer`.
        """
        ...

    def collect(self) -> list[Mesh]:
        """Wait for the frame submitted first; its meshes in the order of its matrices, in arrays that are the caller's."""
        ...

    def discard(self) -> None:
        """Forget the frames in flight."""
        ...

    def frame_buffer(self, height: int, width: int) -> NDArray[np.uint8] | None:
        """(H, W, 3) array of the next `submit`, which spares it a copy; valid until that frame is collected. None: nothing would be gained."""
        ...


class Runner(Protocol):
    """Crops in, position maps out. All buffers are allocated once, when it is opened; a context manager."""

    spec: ModelSpec
    max_batch: int
    input: NDArray[np.float32]  # (max_batch, 3, S, S) or (max_batch, S, S, 3) by spec.input.layout: write the crops here

    def infer(self, n: int) -> NDArray[np.float32]:
        """Run the first ``n`` crops of ``input``: (n, 3, M, M) or (n, M, M, 3), a view that the next call overwrites."""
        ...

    def mesher(self, topology: UVTopology, dense: bool = True) -> Mesher:
        """From frames to meshes the fastest way that this runner has; ``dense`` False: landmarks alone, (0, 3) vertices."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Runner: ...

    def __exit__(self, *_: object) -> None: ...
