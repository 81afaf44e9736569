"""Settings of tracking and smoothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runtime.errors import FaceMeshError


@dataclass(frozen=True)
class OneEuro:
    """Parameters of a One-Euro filter (Casiez, Roussel, Vogel, CHI 2012).

    The cutoff frequency is ``cutoff_hz`` at rest and grows by ``beta`` Hz for a speed of one size of the face per
    second. Lower ``cutoff_hz``: less jitter at rest; higher ``beta``: less lag in motion. ``speed_cutoff_hz`` is that
    of the speed's own low pass. Raises `FaceMeshError` for values that are not positive and finite; ``beta`` may be 0.
    """

    cutoff_hz: float
    beta: float
    speed_cutoff_hz: float

    def __post_init__(self) -> None:
        if not (0 < self.cutoff_hz < math.inf and 0 < self.speed_cutoff_hz < math.inf and 0 <= self.beta < math.inf):
            raise FaceMeshError(
                f"a filter's cutoffs must be above 0 Hz and its beta at least 0, are {self.cutoff_hz:g}, "
                f"{self.speed_cutoff_hz:g} and {self.beta:g}; give values such as 1, 2 and 10"
            )


USUAL_FILTER = OneEuro(cutoff_hz=0.5, beta=20.0, speed_cutoff_hz=2.0)


@dataclass(frozen=True)
class Smoothing:
    """Filters of every track. The defaults lie on the knee of the curves of ``python -m benchmarks jitter``."""

    points: OneEuro = USUAL_FILTER
    crop: OneEuro = USUAL_FILTER


USUAL_SMOOTHING = Smoothing()


@dataclass(frozen=True)
class Tracking:
    """Settings of `runtime.FaceMeshPipeline` for films and cameras.

    ``max_faces`` people are tracked at most; None: all. The detector looks for newcomers every ``redetect_s`` seconds.
    ``smoothing`` None leaves points and crops as they are. Raises `FaceMeshError` for values out of range.
    """

    max_faces: int | None = None
    redetect_s: float = 3.0
    smoothing: Smoothing | None = USUAL_SMOOTHING

    def __post_init__(self) -> None:
        if self.max_faces is not None and self.max_faces < 1:
            raise FaceMeshError(f"max_faces must be at least 1, is {self.max_faces}; None tracks all")
        if not 0 < self.redetect_s < math.inf:
            raise FaceMeshError(f"redetect_s must be above 0 seconds, is {self.redetect_s:g}; give a value such as 3")
