"""Summary of the normalised mean error (NME) of a set of faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.geometry.nme import balanced_mean, bin_means, mean_or_nan


@dataclass(frozen=True)
class Score:
    """NME in % of a set of faces. An empty bin is NaN and makes ``balanced`` NaN."""

    faces: int
    mean: float  # over all faces
    bins: tuple[float, float, float]  # mean of each yaw bin, see runtime.geometry.nme.YAW_BINS_DEG
    balanced: float  # mean of the three bins: the number papers give for AFLW2000-3D


def summarise(nme: NDArray[np.float64], bins: NDArray[np.integer]) -> Score:
    """Summarise NME (N,) % by bins (N,); missed faces, with an NME of NaN, are left out."""
    found = np.isfinite(nme)
    nme = nme[found]
    means = bin_means(nme, bins[found])
    return Score(faces=len(nme), mean=mean_or_nan(nme), bins=means, balanced=balanced_mean(means))
