"""The weights that a run begins with."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from runtime.errors import FaceMeshError, one_line
from training.checkpoints import read_checkpoint
from training.coefficients.start import published_state
from training.data.dataset import FaceCrops
from training.networks import create_network
from training.networks.coefficients import CoefficientNetwork
from training.networks.edge import EdgeNet
from training.networks.edge_coefficients import EdgeCoefficients
from training.networks.folded import load_folded, renormalise
from training.networks.inputs import image_tensor
from training.networks.two_dasl import TwoDASL
from training.uv.targets import PositionMapTargets

STATISTICS_CROPS = 768


def create_seeded(name: str, seed: int) -> nn.Module:
    """Return a network of `training.networks` whose initial weights depend on ``seed`` alone."""
    torch.manual_seed(seed)
    return create_network(name)


def start_network(
    network: nn.Module, start: Path | None, run: Path, crops: FaceCrops, targets: PositionMapTargets | None = None
) -> None:
    """Give ``network`` its first weights, from ``start`` or random ones; ``targets`` are for position maps.

    If ``run`` holds a checkpoint, its weights are loaded later; the network only takes over their sizes.
    """
    last = run / "last.pt"
    if last.exists():
        adapt(network, read_checkpoint(last).get("training", {}))
        return
    # An export: fixed weights, statistics of its own
    if start is not None and start.suffix == ".onnx":
        start_at_export(network, start, crops)
        return
    # Random weights, a checkpoint over them
    if hasattr(network, "fit_expansion"):
        network.fit_expansion(sample_maps(network, crops, targets, max(1, 1024 // crops.batch_size)))
    if start is not None:
        load_weights(network, start)


def start_at_export(network: nn.Module, start: Path, crops: FaceCrops) -> None:
    """Load an export of the edge network; `EdgeCoefficients` takes its encoder and latent vector."""
    if not hasattr(network, "encoder"):
        problem = "ONNX can be the start of the edge network and of edge-coefficients alone"
        raise FaceMeshError(f"{start}: {problem}; choose --network edge or give a checkpoint")
    edge = EdgeNet() if isinstance(network, EdgeCoefficients) else network
    load_folded(edge, start)
    batches = max(1, STATISTICS_CROPS // crops.batch_size)
    renormalise(edge, (image_tensor(edge, torch.from_numpy(crops[index].images)) for index in range(batches)))
    if edge is not network:
        network.start_at(edge)


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a checkpoint of `python -m training fit`, of a coefficient network's authors, of VGG-16, or of 3DDFA_V2.

    The last one's small network is a start for networks with ``load_mb05``.

    A confidence head is left out: it belongs to the weights before training.
    """
    state = read_checkpoint(path)
    try:
        if "network" in state:
            weights = {name: value for name, value in state["network"].items() if not name.startswith("confidence.")}
            adapt(network, weights)
            if not (isinstance(network, TwoDASL) and network.widen(weights)):
                network.load_state_dict(weights)
        elif hasattr(network, "load_trunk"):
            network.load_trunk(state.get("state_dict", state))
        elif "state_dict" in state and hasattr(network, "load_mb05"):
            network.load_mb05(state["state_dict"])
        elif isinstance(network, CoefficientNetwork) and (published := published_state(network, state)):
            network.load_state_dict(published)
        else:
            raise FaceMeshError(f"{path}: has neither the weights of a run nor those of this network's authors")
    except RuntimeError as error:
        reason = one_line(error, 200)
        raise FaceMeshError(f"{path}: weights of another network ({reason}); choose --network to fit") from None


def adapt(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Take over the latent size of a state dict, if the network has one."""
    if hasattr(network, "adapt_to"):
        network.adapt_to(state)


def sample_maps(network: nn.Module, crops: FaceCrops, targets: PositionMapTargets, batches: int) -> Tensor:
    """Return (N, 3, M, M) target maps in units of the network's output."""
    maps = []
    for index in range(batches):
        batch = crops[index]
        coefficients = torch.from_numpy(crops.labels.coefficients[batch.rows])
        maps.append(targets(coefficients, torch.from_numpy(batch.poses), torch.from_numpy(batch.mirrored))[0])
    return torch.cat(maps) / network.output_scale
