"""Fitting the confidence head of a trained edge network; the rest of the network stays as it is.

The network is run once over crops: of faces, perturbed beyond what it was trained on, and of no face. Its features and
its own errors become a small regression problem that takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from runtime.storage.whole_files import whole_file
from training.data.augment import Augmentation
from training.data.backgrounds import background_crop
from training.data.dataset import FaceCrops
from training.data.labels import FaceLabels
from training.networks.confidence import LIMIT_NME, ConfidenceHead
from training.networks.edge import EdgeNet
from training.networks.inputs import image_tensor
from training.uv.targets import PositionMapLoss, PositionMapTargets

BATCH = 48
NO_FACE_SHARE = 0.2
NO_FACE_NME = 0.5
# Faces as a tracker may lose them: wrongly rolled, out of the box, degraded, cut, covered.
HARD = Augmentation(translation=0.3, scale=(0.6, 1.7), occlusion=0.5, degradation=0.6, any_roll=0.25, cut=0.4)
STEPS = 3000


@dataclass(frozen=True, eq=False)
class ErrorSamples:
    """N crops as the head sees them."""

    pooled: Tensor  # (N, F) float32, mean features of the encoder
    nme: Tensor  # (N,) float32, fraction of the face
    is_face: Tensor  # (N,) bool


@dataclass(frozen=True)
class ConfidenceReport:
    """Quality of the confidence on validation crops."""

    samples: int
    good: float  # share of crops with an NME below the limit
    auc: float  # probability that a good crop has a higher confidence than a bad one
    brier: float  # mean squared difference between confidence and outcome
    calibration: (
        float  # mean absolute difference between confidence and share of good crops, over ten classes of confidence
    )
    kept: float  # share of good crops with a confidence of at least 0.5
    no_face_refused: float  # share of crops without a face below 0.5


@torch.no_grad()
def measure_errors(
    network: EdgeNet, crops: FaceCrops, targets: PositionMapTargets, loss: PositionMapLoss, batches: int
) -> ErrorSamples:
    """Run the network on ``batches`` batches of ``crops``, each with a share of crops beside the faces."""
    labels = crops.labels
    pooled, errors, is_face = [], [], []
    for index in range(batches):
        batch = crops[index]
        generator = np.random.default_rng((crops.seed, index, 1))
        empty = np.flatnonzero(generator.random(len(batch.rows)) < NO_FACE_SHARE)
        for place in empty:
            batch.images[place] = background_crop(generator, crops.images, labels.box, crops.rows, crops.size)
        features = network.encoder(image_tensor(network, torch.from_numpy(batch.images)))
        maps = network.expand(network.squeeze(features).flatten(1)).unflatten(
            1, (3, network.output_size, network.output_size)
        )
        coefficients = torch.from_numpy(labels.coefficients[batch.rows])
        _, wanted = targets(coefficients, torch.from_numpy(batch.poses), torch.from_numpy(batch.mirrored))
        distance = (loss.landmarks(maps * network.output_scale) - wanted)[..., :2].norm(dim=2).mean(1)
        nme = distance / torch.from_numpy(batch.box_size_px)
        nme[empty] = NO_FACE_NME
        face = torch.ones(len(nme), dtype=torch.bool)
        face[empty] = False
        pooled.append(features.mean((2, 3)))
        errors.append(nme)
        is_face.append(face)
    return ErrorSamples(torch.cat(pooled), torch.cat(errors), torch.cat(is_face))


def fit_head(head: ConfidenceHead, samples: ErrorSamples, steps: int = STEPS, seed: int = 0) -> None:
    """Fit the logarithm of the NME by mean absolute difference: the head predicts the median.

    Features are standardised meanwhile.
    """
    torch.manual_seed(seed)
    for layer in (head.hidden, head.out):
        layer.reset_parameters()
    mean, spread = samples.pooled.mean(0), samples.pooled.std(0) + 1e-3
    inputs, wanted = (samples.pooled - mean) / spread, samples.nme.clamp(1e-3, NO_FACE_NME).log()[:, None]
    optimiser = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.3)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        chosen = torch.randint(len(inputs), (512,))
        loss = (head.log_error(inputs[chosen]) - wanted[chosen]).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
    with torch.no_grad():
        head.hidden.bias -= head.hidden.weight @ (mean / spread)
        head.hidden.weight /= spread


def calibrate(head: ConfidenceHead, samples: ErrorSamples) -> None:
    """Set slope and bias of the sigmoid by logistic regression (Platt, 1999) of NME < 8 % on the predicted margin."""
    with torch.no_grad():
        margin = np.log(LIMIT_NME) - head.log_error(samples.pooled)[:, 0].double()
    is_good = samples.nme < LIMIT_NME
    # Platt's targets instead of 1 and 0: with few crops of a kind the line stays finite.
    wanted = torch.where(is_good, 1 - 1 / (is_good.sum() + 2), 1 / ((~is_good).sum() + 2)).double()
    line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([line], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = nn.functional.binary_cross_entropy_with_logits(line[0] * margin + line[1], wanted)
        value.backward()
        return value

    optimiser.step(loss)
    head.slope.fill_(line[0].item())
    head.bias.fill_(line[1].item())


@torch.no_grad()
def judge_confidence(head: ConfidenceHead, samples: ErrorSamples) -> ConfidenceReport:
    """Compare the confidence with what happened."""
    confidence = head(samples.pooled[:, :, None, None])[:, 0].double().numpy()
    good, is_face = (samples.nme < LIMIT_NME).numpy(), samples.is_face.numpy()
    rank = confidence.argsort().argsort() + 1
    pairs = max(1, good.sum() * (~good).sum())
    classes = np.minimum((confidence * 10).astype(int), 9)
    gaps = [np.abs(confidence[classes == number].sum() - good[classes == number].sum()) for number in range(10)]
    return ConfidenceReport(
        samples=len(good),
        good=float(good.mean()),
        auc=float((rank[good].sum() - good.sum() * (good.sum() + 1) / 2) / pairs),
        brier=float(np.square(confidence - good).mean()),
        calibration=float(sum(gaps) / len(good)),
        kept=_share(confidence[good] >= 0.5),
        no_face_refused=_share(confidence[~is_face] < 0.5),
    )


def _share(chosen: NDArray[np.bool_]) -> float:
    return float(chosen.mean()) if len(chosen) else float("nan")


def hard_crops(
    network: EdgeNet, labels: FaceLabels, images: Sequence[NDArray[np.uint8]], rows: NDArray[np.int64], seed: int
) -> FaceCrops:
    """Return crops of ``rows`` perturbed by HARD; depth is ignored."""
    return FaceCrops(
        labels,
        images,
        np.zeros(len(labels), np.float32),
        rows,
        network.input_size,
        network.crop_scale,
        BATCH,
        HARD,
        seed=seed,
    )


def save_network(network: EdgeNet, path: Path) -> None:
    """Write a checkpoint for `python -m export onnx`."""
    with whole_file(path) as file:
        torch.save({"network": network.state_dict()}, file)
