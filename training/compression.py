"""Making trained networks smaller without training them again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.errors import FaceMeshError, one_line
from runtime.families.face_model import FaceModel
from runtime.geometry.crop import longer_side_crop_matrix
from runtime.storage.whole_files import whole_file
from training.checkpoints import read_checkpoint, write_checkpoint
from training.coefficients.face_numbers import FaceNumbers
from training.coefficients.start import recorded_whitening
from training.data.augment import Augmentation
from training.data.dataset import FaceCrops
from training.data.labels import FaceLabels
from training.networks.e2far import E2far
from training.networks.edge import EdgeNet
from training.networks.folded import confidence_state, load_edge
from training.networks.inputs import image_tensor
from training.networks.low_rank import reduce_layers

BATCH = 64
FRESH_BATCHES = 2  # for the comparison
LabelledPictures = tuple[FaceModel, FaceLabels, Sequence[NDArray[np.uint8]]]


@dataclass(frozen=True)
class Reduction:
    """The outcome of `reduce_checkpoint`."""

    lost: dict[str, float]  # share that each layer loses, by its name
    weights: tuple[int, int]  # before and after
    shift_px: tuple[float, float] | None  # of landmarks on crops that were not used, mean and largest, crop px

    def shift_text(self) -> str:
        """Return the end of a line on the outcome, nothing if the shift was not measured."""
        if self.shift_px is None:
            return ""
        mean, largest = self.shift_px
        return f"; the landmarks move by {mean:.3f} px of the crop, at most {largest:.2f}"


def shrink_checkpoint(
    weights: Path, labels: FaceLabels, pictures: Sequence[NDArray[np.uint8]], latent: int, samples: int, output: Path
) -> tuple[int, float, float]:
    """Shrink a checkpoint by `EdgeNet.shrunk` on ``samples`` training crops that are perturbed as in training.

    A confidence head reads the old latent vector as the new one tells it. Return the latent size before, and the mean
    and largest shift of map points in crop px on crops that were not used. Raises `FaceMeshError` for weights of
    another network and numbers that do not fit together.
    """
    # Read the network and check the numbers
    network = load_edge(weights)
    before = network.squeeze.out_channels
    if not 1 <= latent < before < samples:
        raise FaceMeshError(
            f"{weights}: cannot be shrunk from {before} to {latent} with {samples} samples; "
            f"give --latent < {before} < --samples"
        )
    # Draw crops: some for the principal components, fresh ones for the comparison
    rows, depth_ignored = np.flatnonzero(~labels.is_val), np.zeros(len(labels), np.float32)
    crops = FaceCrops(
        labels, pictures, depth_ignored, rows, network.input_size, network.crop_scale, BATCH, Augmentation()
    )
    batches = -(-samples // BATCH) + FRESH_BATCHES
    images = torch.cat([image_tensor(network, torch.from_numpy(crops[index].images)) for index in range(batches)])
    known, fresh = images[: -FRESH_BATCHES * BATCH], images[-FRESH_BATCHES * BATCH :]
    # Shrink, compare, write
    small = network.shrunk(known, latent)
    with torch.no_grad():
        shift_px = ((small(fresh) - network(fresh)) * network.output_scale).norm(dim=1)
    if head := confidence_state(weights):
        small.add_confidence().load_state_dict(head_after(head, network, small, known))
    with whole_file(output) as file:
        write_checkpoint(small, file)
    return before, shift_px.mean().item(), shift_px.max().item()


@torch.no_grad()
def head_after(head: dict[str, Tensor], network: EdgeNet, small: EdgeNet, images: Tensor) -> dict[str, Tensor]:
    """Return the state of a confidence head of ``network`` for ``small``: the old latent vector by least squares."""
    features = network.encoder(images)
    old, new = (part.squeeze(features).flatten(1).double() for part in (network, small))
    line = torch.linalg.lstsq(torch.cat([new, torch.ones(len(new), 1, dtype=new.dtype)], dim=1), old).solution.float()
    weight, bias = head["from_latent.weight"], head["from_latent.bias"]
    return head | {"from_latent.weight": weight @ line[:-1].T, "from_latent.bias": bias + weight @ line[-1]}


def reduce_checkpoint(
    weights: Path, rank: int, samples: int, faces: LabelledPictures | None, output: Path
) -> Reduction:
    """Reduce the rank of UH-E2FAR's large layers by `training.networks.low_rank` and write it.

    With ``faces`` the rank is reduced by what matters on ``samples`` training crops that are perturbed as in training.
    Raises `FaceMeshError` for weights of another network and numbers that do not fit together.
    """
    # Read the network and check the numbers
    state = read_checkpoint(weights)
    network = load_e2far(weights, state)
    if faces is not None and samples <= rank:
        raise FaceMeshError(f"--samples {samples}: fewer crops than --rank {rank} decide nothing; give more of them")
    before = sum(parameter.numel() for parameter in network.parameters())
    # Reduce, and compare on fresh crops
    shift_px = None
    if faces is None:
        lost = reduce_layers(network, rank)
    else:
        model, labels, pictures = faces
        network.whitening = recorded_whitening(weights, state, network.count)
        crops = _perturbed(network, labels, pictures, -(-samples // BATCH) + FRESH_BATCHES)
        fresh = [next(crops) for _ in range(FRESH_BATCHES)]
        expected = _landmarks(network, model, fresh)
        lost = reduce_layers(network, rank, crops)
        distance = (_landmarks(network, model, fresh) - expected).norm(dim=2)
        shift_px = (distance.mean().item(), distance.max().item())
    if not lost:
        raise FaceMeshError(f"{weights}: its layers have rank {rank} or less already; give a smaller --rank")
    # Write
    with whole_file(output) as file:
        write_checkpoint(network, file, **({"whitening": state["whitening"]} if "whitening" in state else {}))
    return Reduction(lost, (before, sum(parameter.numel() for parameter in network.parameters())), shift_px)


def load_e2far(path: Path, state: dict[str, object]) -> E2far:
    """Return the network of a checkpoint in eval mode. Raises `FaceMeshError` for other networks."""
    weights = state.get("network")
    try:
        with torch.device("meta"):
            network = E2far()
            network.adapt_to(weights)
        network.load_state_dict(weights, assign=True)
    except (AttributeError, RuntimeError, TypeError) as error:
        reason = one_line(error, 200)
        raise FaceMeshError(f"{path}: not a network e2far ({reason}); give best.pt of its run") from None
    return network.eval()


def _perturbed(
    network: E2far, labels: FaceLabels, pictures: Sequence[NDArray[np.uint8]], batches: int
) -> Iterator[Tensor]:
    """Yield batches of training crops, perturbed as in training, in the network's value range."""
    rows, depth_ignored = np.flatnonzero(~labels.is_val), np.zeros(len(labels), np.float32)
    faces = (labels, pictures, depth_ignored, rows, network.input_size, network.crop_scale, BATCH)
    crops = FaceCrops(*faces, Augmentation(), crops_per_epoch=batches * BATCH, rule=longer_side_crop_matrix)
    for index in range(batches):
        yield image_tensor(network, torch.from_numpy(crops[index].images))


@torch.no_grad()
def _landmarks(network: E2far, model: FaceModel, batches: Sequence[Tensor]) -> Tensor:
    """Return the landmarks (N, 68, 2) crop px."""
    numbers = FaceNumbers(model, network)
    rows = torch.cat([network(images) for images in batches])
    no_pose, unmirrored = torch.zeros(len(rows), 3, 4), torch.zeros(len(rows), dtype=torch.bool)
    return numbers.points(rows, no_pose, unmirrored)[0][:, :, :2]
