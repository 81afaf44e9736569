"""The plan of a set of turned copies: how far each copy turns its photograph."""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError

MIN_TURN_DEG = 5.0  # a smaller turn would add next to nothing to its photograph
MAX_AZIMUTH_DEG = 90.0
PITCH_JITTER_DEG = 4.0  # standard deviation
MAX_PITCH_JITTER_DEG = 8.0


@dataclass(frozen=True)
class YawBand:
    """Copies with |azimuth| uniform in a band."""

    low_deg: float
    high_deg: float
    weight: float  # relative share of the copies


@dataclass(frozen=True, eq=False)
class TurnPlan:
    """N copies, sorted by photograph."""

    rows: NDArray[np.int64]  # (N,) row of the photograph
    azimuth_deg: NDArray[np.float64]  # (N,) after the turn, > 0: the nose points to the image right
    pitch_change_deg: NDArray[np.float64]  # (N,)


def parse_yaw_band(text: str) -> YawBand:
    """Return the band of ``LOW-HIGH`` or ``LOW-HIGH:WEIGHT`` (degrees). Type of an argument."""
    match = re.fullmatch(r"([\d.]+)-([\d.]+)(?::([\d.]+))?", text)
    try:
        low, high, weight = (float(group or 1) for group in match.groups())
    except (AttributeError, ValueError):
        raise argparse.ArgumentTypeError(f"must be LOW-HIGH or LOW-HIGH:WEIGHT, is {text!r}") from None
    if not (0 <= low < high <= MAX_AZIMUTH_DEG and 0 < weight < math.inf):
        limits = f"0 <= LOW < HIGH <= {MAX_AZIMUTH_DEG:g} and WEIGHT > 0"
        raise argparse.ArgumentTypeError(f"needs {limits}, is {text!r}")
    return YawBand(low, high, weight)


def plan_turns(azimuth_deg: NDArray[np.floating], bands: list[YawBand], count: int, seed: int) -> TurnPlan:
    """Return ``count`` turns of photographs whose faces point to ``azimuth_deg`` (N,).

    A face turns on to its own side, by `MIN_TURN_DEG` at least: the surface it shows then was visible before.
    The photograph with the fewest copies so far takes the next turn, chance decides between equals.
    Raises `FaceMeshError` if no photograph allows a turn.
    """
    generator = np.random.default_rng(seed)
    targets = generator.permutation(draw_targets(bands, count, generator))
    start = np.abs(azimuth_deg)
    used = np.zeros(len(start), np.int64)
    rows = np.zeros(count, np.int64)
    for index, target in enumerate(targets):
        allowed = np.flatnonzero(start + MIN_TURN_DEG <= target)
        if len(allowed) == 0:
            problem = f"no photograph can be turned on to {target:.0f} degrees"
            raise FaceMeshError(f"--yaw: {problem}; give higher yaws or more frontal photographs")
        rows[index] = allowed[np.argmin(used[allowed] + generator.random(len(allowed)) * 0.5)]
        used[rows[index]] += 1
    pitch = np.clip(generator.normal(0, PITCH_JITTER_DEG, count), -MAX_PITCH_JITTER_DEG, MAX_PITCH_JITTER_DEG)
    signed = targets * np.where(azimuth_deg[rows] < 0, -1, 1)
    order = np.lexsort([targets, rows])
    return TurnPlan(rows[order], signed[order], pitch[order])


def draw_targets(bands: list[YawBand], count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return (count,) absolute azimuths in degrees, ascending, stratified over the bands by their weights."""
    weights = np.array([band.weight for band in bands])
    ends = np.concatenate([[0], np.cumsum(weights / weights.sum())])
    ends[-1] = 1
    place = (np.arange(count) + generator.random(count)) / count
    band = np.clip(np.searchsorted(ends, place, side="right") - 1, 0, len(bands) - 1)
    inside = (place - ends[band]) / (ends[band + 1] - ends[band])
    low, high = (np.array([getattr(item, name) for item in bands])[band] for name in ("low_deg", "high_deg"))
    return low + inside * (high - low)
