"""The part that all networks of face-model coefficients share: what their row of numbers means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Whitening:
    """Statistics of the numbers over the training set: number = output * std + mean."""

    mean: NDArray[np.float32]  # (P,)
    std: NDArray[np.float32]  # (P,)


class CoefficientNetwork:
    """(B, 3, S, S) float32 -> (B, P) float32, P = pose + shape + expression, whitened; a part of a network's class.

    With a landmark channel the input is (B, 4, S, S): the fourth plane is -1, and 1 where landmarks are.
    """

    pose_count: ClassVar[int]
    shape_count: ClassVar[int]
    expression_count: ClassVar[int]
    origin: ClassVar[tuple[float, float]]  # crop px, see runtime.families.coefficients.CoefficientOutput
    landmark_channel: ClassVar[bool] = False
    training_only: ClassVar[tuple[str, ...]] = ()  # beginnings of the names of weights that inference has no use for
    whitening: Whitening | None = None  # set when its file is read

    @property
    def count(self) -> int:
        """Length of the row."""
        return self.pose_count + self.shape_count + self.expression_count
