"""Making trained networks smaller without training them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.errors import FaceMeshError
from runtime.storage.whole_files import whole_file
from training.checkpoints import write_checkpoint
from training.data.augment import Augmentation
from training.data.dataset import FaceCrops
from training.data.labels import FaceLabels
from training.networks.edge import EdgeNet
from training.networks.folded import confidence_state, load_edge
from training.networks.inputs import image_tensor

BATCH = 64
FRESH_BATCHES = 2  # for the comparison


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
