"""Figures of a robustness run: a row per condition and kind of boxes, and how well faces known as right are right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.robustness.conditions import CLEAN, Condition
from benchmarks.robustness.measure import Certainty, FalseFaces, Observation
from runtime.geometry.nme import mean_or_nan

LARGE_NME = 10.0  # %, of a face that a user calls wrong
GOOD_NME = 8.0  # %, below it the landmarks are right: the confidence of a model is the probability of that
NO_FACE = "no face"
CLASSES = 10  # of confidence


def condition_rows(
    conditions: Sequence[Condition], observations: Sequence[Observation], kinds: Sequence[str]
) -> list[dict[str, Any]]:
    """Return one row per condition and kind of boxes.

    ``nme`` and ``median`` are in % over the faces found, ``over_10`` is the share of them above 10 %, ``ratio`` is
    ``nme`` over that of the clean row, ``spread`` the standard deviation of ``nme`` between seeds.
    """
    clean: dict[str, float] = {}
    rows = []
    for condition in conditions:
        for boxes in kinds:
            mine = [one for one in observations if one.condition == condition.number and one.boxes == boxes]
            nme = np.array([one.nme for one in mine])
            found = np.isfinite(nme)
            mean = mean_or_nan(nme[found])
            if condition.kind is CLEAN:
                clean[boxes] = mean
            rows.append(
                {
                    "kind": condition.kind.name,
                    "level": condition.level,
                    "condition": condition.label,
                    "boxes": boxes,
                    "faces": len(mine),
                    "found": int(found.sum()),
                    "nme": mean,
                    "median": float(np.median(nme[found])) if found.any() else math.nan,
                    "spread": _spread(nme, np.array([one.seed for one in mine])),
                    "ratio": mean / clean[boxes],
                    "over_10": mean_or_nan(nme[found] > LARGE_NME),
                    **_means([one.certainty for one in mine]),
                }
            )
    return rows


def no_face_rows(false_faces: FalseFaces, kinds: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row per kind of boxes: ``faces`` pictures without a face, ``found`` faces in them all the same."""
    rows = []
    for boxes in kinds:
        certainties = false_faces.found if boxes == "detected" else false_faces.given
        row = {"kind": NO_FACE, "level": 0.0, "condition": NO_FACE, "boxes": boxes, "faces": false_faces.pictures}
        row |= {"found": len(certainties), **dict.fromkeys(("nme", "median", "spread", "ratio", "over_10"), math.nan)}
        rows.append(row | _means(certainties))
    return rows


def certainty_rows(
    observations: Sequence[Observation], false_faces: FalseFaces, kinds: Sequence[str]
) -> list[dict[str, Any]]:
    """Return how well score and confidence tell right landmarks (NME below 8 %) from wrong ones and from no face.

    One row per kind of boxes and certainty that is known. ``roc_area`` is the probability that a right one has the
    higher value. ``calibration`` is the mean difference between value and share of right ones in ten classes.
    """
    rows = []
    for boxes in kinds:
        found = [one for one in observations if one.boxes == boxes and math.isfinite(one.nme)]
        wrong = false_faces.found if boxes == "detected" else false_faces.given
        is_good = np.array([one.nme < GOOD_NME for one in found] + [False] * len(wrong), bool)
        for name in ("score", "confidence"):
            values = np.array([getattr(one, name) for one in (*(one.certainty for one in found), *wrong)])
            known = np.isfinite(values)
            if known.any():
                quality = {"roc_area": roc_area(values[known], is_good[known])}
                quality["calibration"] = calibration_error(values[known], is_good[known])
                counts = {"faces": int(known.sum()), "right": int(is_good[known].sum())}
                rows.append({"certainty": name, "boxes": boxes, **counts, **quality})
    return rows


def roc_area(values: NDArray[np.floating], is_good: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve; equal values count half, NaN without good or without bad ones."""
    bad, good = np.sort(values[~is_good]), values[is_good]
    if not len(bad) or not len(good):
        return math.nan
    below = np.searchsorted(bad, good, "left") + np.searchsorted(bad, good, "right")
    return float(below.mean() / 2 / len(bad))


def calibration_error(values: NDArray[np.floating], is_good: NDArray[np.bool_]) -> float:
    """Return the expected calibration error of probabilities (N,), over ten equal classes of them.

    Naeini, Cooper, Hauskrecht, AAAI 2015.
    """
    classes = np.minimum((values * CLASSES).astype(int), CLASSES - 1)
    gaps = [abs(values[classes == one].sum() - is_good[classes == one].sum()) for one in range(CLASSES)]
    return float(sum(gaps) / len(values))


def _spread(nme: NDArray[np.float64], seeds: NDArray[np.integer]) -> float:
    """Return the standard deviation of the seeds' means; NaN for one seed."""
    means = [mean_or_nan(nme[(seeds == seed) & np.isfinite(nme)]) for seed in np.unique(seeds)]
    return float(np.std(means, ddof=1)) if len(means) > 1 else math.nan


def _means(certainties: Sequence[Certainty]) -> dict[str, float]:
    """Return mean score and confidence of those that are known."""
    means = {}
    for name in ("score", "confidence"):
        values = np.array([getattr(one, name) for one in certainties])
        means[name] = mean_or_nan(values[np.isfinite(values)])
    return means
