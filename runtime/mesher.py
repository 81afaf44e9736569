"""From a frame and crop matrices to meshes: the `Mesher` protocol, and the one that crops and decodes on the CPU round any runner."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.crop import crop_into
from runtime.decode import Decoder
from runtime.topology import UVTopology

if TYPE_CHECKING:
    from runtime.runner import Runner

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


class HostMesher:
    """`Mesher` round ``runner.input`` and ``runner.infer``: what it does is done when `submit` returns."""

    depth = 1

    def __init__(self, runner: Runner, topology: UVTopology, dense: bool = True) -> None:
        """``dense`` False leaves the vertices out."""
        self._runner, self._dense = runner, dense
        self._decode = Decoder(topology if dense else landmarks_alone(topology), runner.spec)
        self._done: deque[list[Mesh]] = deque()

    def submit(self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]]) -> None:
        runner, meshes = self._runner, []
        for start in range(0, len(matrices), runner.max_batch):
            batch = matrices[start : start + runner.max_batch]
            for slot, matrix in zip(runner.input, batch, strict=False):
                crop_into(image, matrix, runner.spec.input, slot)
            meshes += map(self._decode, runner.infer(len(batch)), batch)
        self._done.append(meshes if self._dense else [(vertices[:0], landmarks) for vertices, landmarks in meshes])

    def collect(self) -> list[Mesh]:
        return self._done.popleft()

    def discard(self) -> None:
        self._done.clear()

    def frame_buffer(self, height: int, width: int) -> None:
        return None


def landmarks_alone(topology: UVTopology) -> UVTopology:
    """The same layout with no other vertices than the landmarks."""
    pixels = np.unique(topology.landmark_indices)
    vertices = topology.canonical_vertices[np.searchsorted(topology.face_indices, pixels)]
    return UVTopology(topology.resolution, pixels, topology.landmark_indices, np.empty((0, 3), np.int32), vertices)
