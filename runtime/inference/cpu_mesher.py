"""From frames to meshes on the CPU, round any runner."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from runtime.families.family import Family
from runtime.geometry.crop import crop_into, draw_landmarks
from runtime.inference.interface import Landmarks, MeshedFace, Runner, landmarks_for, unusable_vertices


class CpuMesher:
    """`runtime.inference.interface.Mesher` over ``runner.input`` and ``runner.infer``; `submit` does all the work."""

    depth = 1

    def __init__(self, runner: Runner, family: Family, dense: bool = True) -> None:
        """Take the decoder from ``family``; ``dense`` False leaves the vertices out."""
        self._runner = runner
        self._decode = family.decoder(dense)
        self._done: deque[list[MeshedFace]] = deque()

    def submit(
        self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]], landmarks: Landmarks = ()
    ) -> None:
        self._done.append(self.again(image, matrices, landmarks))

    def collect(self) -> list[MeshedFace]:
        return self._done.popleft()

    def again(
        self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]], landmarks: Landmarks = ()
    ) -> list[MeshedFace]:
        runner = self._runner
        known = landmarks_for(runner.spec, matrices, landmarks)
        faces: list[MeshedFace] = []
        for start in range(0, len(matrices), runner.max_batch):
            batch = matrices[start : start + runner.max_batch]
            with runner.lock:
                for slot, matrix in zip(runner.input, batch, strict=False):
                    crop_into(image, matrix, runner.spec.input, slot)
                for slot, matrix, points in zip(runner.input, batch, known[start:], strict=False):
                    draw_landmarks(points, matrix, slot)
                outputs = runner.infer(len(batch))
                confidence = repeat(None) if runner.confidence is None else runner.confidence.tolist()
                meshes = self._decode.batch(outputs, batch)
            for vertices, _ in meshes:
                numbers = vertices.ravel()
                if not math.isfinite(numbers.dot(numbers)):  # a fifth of the time of numpy.isfinite
                    raise unusable_vertices()
            faces += [MeshedFace(*mesh, probability) for mesh, probability in zip(meshes, confidence, strict=False)]
        return faces

    def discard(self) -> None:
        self._done.clear()

    def frame_buffer(self, height: int, width: int) -> None:
        return None

    def next_frame(self, image: NDArray[np.uint8]) -> None:
        return None

    def last_frame(self, image: NDArray[np.uint8]) -> None:
        return None
