"""From frames to meshes on the CPU, round any runner."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.families.family import Family, Mesh
from runtime.geometry.crop import crop_into
from runtime.inference.interface import Runner


class CpuMesher:
    """`runtime.inference.interface.Mesher` over ``runner.input`` and ``runner.infer``; `submit` does all the work."""

    depth = 1

    def __init__(self, runner: Runner, family: Family, dense: bool = True) -> None:
        """Take the decoder from ``family``; ``dense`` False leaves the vertices out."""
        self._runner = runner
        self._decode = family.decoder(dense)
        self._done: deque[list[Mesh]] = deque()

    def submit(self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]]) -> None:
        runner = self._runner
        meshes: list[Mesh] = []
        for start in range(0, len(matrices), runner.max_batch):
            batch = matrices[start : start + runner.max_batch]
            for slot, matrix in zip(runner.input, batch, strict=False):
                crop_into(image, matrix, runner.spec.input, slot)
            meshes += map(self._decode, runner.infer(len(batch)), batch)
        self._done.append(meshes)

    def collect(self) -> list[Mesh]:
        return self._done.popleft()

    def discard(self) -> None:
        self._done.clear()

    def frame_buffer(self, height: int, width: int) -> None:
        return None
