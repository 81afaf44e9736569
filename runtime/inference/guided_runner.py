"""Networks that are given landmarks beside the picture: a first, cheap network finds those."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.interface import DeviceFrame
from runtime.errors import FaceMeshError
from runtime.families.family import Family
from runtime.families.table import open_family
from runtime.inference.interface import Landmarks, MeshedFace, Mesher, Runner, no_landmark_source

# Of the landmarks, of usual aspect: the mean of its sides is 0.965 of the longer one, as on faces of all yaws.
REFERENCE_BOX = np.array([0.0, 0.0, 93.0, 100.0])


class GuidedRunner:
    """`runtime.inference.interface.Runner` of a network with a landmark channel; its mesher asks ``first`` for them."""

    def __init__(self, runner: Runner, first: Runner, reuse_landmarks: bool = False) -> None:
        """Take over both runners.

        ``reuse_landmarks``: where the landmarks of a face's last frame are given, they spare the first network. Raises
        `FaceMeshError` if ``runner`` takes no landmarks, or ``first`` does.
        """
        if not runner.spec.input.landmark_channel:
            raise FaceMeshError(f"{runner.spec.name} takes no landmarks beside the picture; leave --landmarks-from out")
        if first.spec.input.landmark_channel:
            raise FaceMeshError(
                f"--landmarks-from: {first.spec.name} takes landmarks itself; give a network that needs none, "
                "such as the shipped runtime/assets/edge.onnx"
            )
        self._runner = runner
        self._first = first
        self._reuse_landmarks = reuse_landmarks
        self.spec = runner.spec
        self.max_batch = runner.max_batch
        self.lock = runner.lock

    @property
    def input(self) -> NDArray[np.float32]:
        """Crops of the network itself, with their landmark channels."""
        return self._runner.input

    @property
    def confidence(self) -> NDArray[np.float32] | None:
        return self._runner.confidence

    def infer(self, n: int) -> NDArray[np.float32]:
        """Run the network alone."""
        return self._runner.infer(n)

    def mesher(self, family: Family, dense: bool = True) -> GuidedMesher:
        """Return a mesher that finds the landmarks first, where they are not given."""
        first_family = open_family(self._first.spec)
        first = self._first.mesher(first_family, dense=False)
        mesher = self._runner.mesher(family, dense)
        return GuidedMesher(mesher, first, crop_change(family, first_family), self._reuse_landmarks)

    def close(self) -> None:
        try:
            self._runner.close()
        finally:
            self._first.close()

    def __enter__(self) -> GuidedRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class GuidedMesher:
    """`runtime.inference.interface.Mesher` of two: the landmarks of the first are drawn for the second.

    The first one's frame is waited for in `submit`, so it takes part in no overlap.
    """

    def __init__(self, mesher: Mesher, first: Mesher, change: NDArray[np.float64], reuse_landmarks: bool) -> None:
        """Take two meshers and the `crop_change` between their networks; ``reuse_landmarks`` as in `GuidedRunner`."""
        self._mesher = mesher
        self._first = first
        self._change = change
        self._reuse_landmarks = reuse_landmarks
        self.depth = mesher.depth

    def submit(
        self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]], landmarks: Landmarks = ()
    ) -> None:
        def find(wanted: list[NDArray[np.float64]]) -> list[MeshedFace]:
            self._first.submit(image, wanted)
            return self._first.collect()

        self._mesher.submit(image, matrices, self._completed(matrices, landmarks, find))

    def collect(self) -> list[MeshedFace]:
        return self._mesher.collect()

    def again(
        self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]], landmarks: Landmarks = ()
    ) -> list[MeshedFace]:
        known = self._completed(matrices, landmarks, lambda wanted: self._first.again(image, wanted))
        return self._mesher.again(image, matrices, known)

    def discard(self) -> None:
        self._first.discard()
        self._mesher.discard()

    def frame_buffer(self, height: int, width: int) -> NDArray[np.uint8] | None:
        return self._mesher.frame_buffer(height, width)

    def next_frame(self, image: NDArray[np.uint8]) -> DeviceFrame | None:
        return self._mesher.next_frame(image)

    def last_frame(self, image: NDArray[np.uint8]) -> DeviceFrame | None:
        return self._mesher.last_frame(image)

    def _completed(
        self,
        matrices: Sequence[NDArray[np.float64]],
        landmarks: Landmarks,
        find: Callable[[list[NDArray[np.float64]]], list[MeshedFace]],
    ) -> list[NDArray[np.float32]]:
        """Return the landmarks of every face, from the first network unless those that are given count."""
        known: list[Any] = (list(landmarks) if self._reuse_landmarks else []) or [None] * len(matrices)
        missing = [face for face, points in enumerate(known) if points is None]
        if missing:
            found = find([self._first_matrix(matrices[face]) for face in missing])
            for face, result in zip(missing, found, strict=True):
                known[face] = result.landmarks
        return known

    def _first_matrix(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the first network's crop matrix; factor by factor, so that a crop without rotation stays one."""
        first = self._change[0, 0] * matrix
        first[:, 2] += self._change[:, 2]
        return first


def crop_change(family: Family, first: Family) -> NDArray[np.float64]:
    """Return the (2, 3) map from crop px of one family's network to crop px of another's, for one and the same face.

    Families measure boxes differently; for a box of the usual aspect the map is exact, for others off by a few percent
    in scale.
    """
    matrix, first_matrix = family.crop_matrix(REFERENCE_BOX), first.crop_matrix(REFERENCE_BOX)
    scale = first_matrix[0, 0] / matrix[0, 0]
    return np.column_stack([scale * np.eye(2), first_matrix[:, 2] - scale * matrix[:, 2]])


def check_landmark_source(runner: Runner) -> None:
    """Raise `FaceMeshError` for a network with a landmark channel that nothing finds landmarks for."""
    if runner.spec.input.landmark_channel and not isinstance(runner, GuidedRunner):
        raise no_landmark_source(runner.spec)
