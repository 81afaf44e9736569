"""Quality of a confidence on crops whose errors are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.confidence.error_samples import ErrorSamples
from training.networks.confidence import LIMIT_NME, ConfidenceHead

CLASSES = 10


@dataclass(frozen=True)
class ConfidenceClass:
    """The crops with a confidence in one tenth of 0..1."""

    crops: int
    no_face: int  # of them
    confidence: float | None  # mean; None without crops
    good: float | None  # share with an NME below the limit


@dataclass(frozen=True)
class ConfidenceReport:
    """Quality of the confidence on validation crops."""

    crops: int
    good: float  # share with an NME below the limit
    auc: float  # probability that a good crop has a higher confidence than a bad one
    auc_faces: float  # the same among crops of faces
    brier: float  # mean squared difference between confidence and outcome
    calibration: float  # mean absolute difference between confidence and share of good crops, over the classes
    kept: float  # share of good crops with a confidence of at least 0.5
    no_face_refused: float  # share of crops without a face below 0.5
    classes: tuple[ConfidenceClass, ...]  # 0 to 0.1 first

    def __str__(self) -> str:
        figures = {name: value for name, value in vars(self).items() if isinstance(value, float)}
        return f"{self.crops} crops  " + "  ".join(f"{name} {value:.3f}" for name, value in figures.items())


def judge_confidence(head: ConfidenceHead, samples: ErrorSamples) -> ConfidenceReport:
    """Compare the confidence with the errors."""
    with torch.no_grad():
        confidence = torch.sigmoid(head.margin(samples.latent, samples.pooled))[:, 0].double().numpy()
    return report_of(confidence, (samples.nme < LIMIT_NME).numpy(), samples.is_face.numpy())


def report_of(confidence: NDArray[np.float64], good: NDArray[np.bool_], is_face: NDArray[np.bool_]) -> ConfidenceReport:
    """Return the figures of N crops: confidence 0..1, whether the NME is below the limit, whether it is a face."""
    numbers = np.minimum((confidence * CLASSES).astype(int), CLASSES - 1)
    classes = []
    for number in range(CLASSES):
        held = numbers == number
        means = (float(confidence[held].mean()), float(good[held].mean())) if held.any() else (None, None)
        classes.append(ConfidenceClass(int(held.sum()), int((held & ~is_face).sum()), *means))
    gaps = [entry.crops * abs(entry.confidence - entry.good) for entry in classes if entry.crops]
    return ConfidenceReport(
        crops=len(good),
        good=float(good.mean()),
        auc=_auc(confidence, good),
        auc_faces=_auc(confidence[is_face], good[is_face]),
        brier=float(np.square(confidence - good).mean()),
        calibration=sum(gaps) / len(good),
        kept=_share(confidence[good] >= 0.5),
        no_face_refused=_share(confidence[~is_face] < 0.5),
        classes=tuple(classes),
    )


def _auc(confidence: NDArray[np.float64], good: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve by the rank sum (Mann and Whitney, 1947); NaN without good or bad crops."""
    if good.all() or not good.any():
        return float("nan")
    _, places, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # equal confidences share their mean rank
    return float((ranks[good].sum() - good.sum() * (good.sum() + 1) / 2) / (good.sum() * (~good).sum()))


def _share(chosen: NDArray[np.bool_]) -> float:
    return float(chosen.mean()) if len(chosen) else float("nan")
