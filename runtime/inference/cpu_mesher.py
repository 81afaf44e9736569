"""From a frame and crop matrices to meshes: the `Mesher` protocol, and the one that crops and decodes on the CPU round any runner."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from runtime.families.position_map import Decoder
from runtime.families.uv_topology import UVTopology, landmarks_alone
from runtime.geometry.crop import crop_into
from runtime.inference.interface import Mesh

if TYPE_CHECKING:
    from runtime.inference.interface import Runner


class CpuMesher:
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
