"""Exported edge networks as starting points: their convolutions hold the normalisation, weights keep their names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from runtime.errors import FaceMeshError, one_line, reason
from runtime.storage.bounded_files import read_bounded
from training.checkpoints import read_checkpoint
from training.networks.edge import EdgeNet


def load_edge(path: Path) -> EdgeNet:
    """Return the network of a checkpoint or of its ONNX, in eval mode and without confidence head.

    Raises `FaceMeshError` for other files.
    """
    network = EdgeNet()
    if path.suffix == ".onnx":
        load_folded(network, path)
        return network.eval()
    state = read_checkpoint(path).get("network", {})
    try:
        network.adapt_to(state)
        network.load_state_dict(state)
    except (AttributeError, RuntimeError) as error:
        reason = one_line(error, 200)
        raise FaceMeshError(f"{path}: not an edge network ({reason}); give best.pt of its run") from None
    network.confidence = None
    return network.eval()


def confidence_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint's confidence head; none for a checkpoint without one, and for ONNX."""
    state = {} if path.suffix == ".onnx" else read_checkpoint(path).get("network", {})
    prefix = "confidence."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def load_folded(network: EdgeNet, path: Path) -> None:
    """Load ``path``, ONNX of `python -m export onnx`, into ``network``, in eval mode the same function.

    Batch normalisations become identities but for their offset: mean 0, variance 1 - eps, scale 1. So the network must
    not be trained before `renormalise`. The latent size is that of the file. A confidence head is left out: it belongs
    to the weights before training.
    Raises `FaceMeshError` for a file that is no such model.
    """
    graph = _read_graph(path)
    try:
        values = {
            tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
            for tensor in graph.initializer
            if not tensor.name.startswith("confidence.")
        }
    except Exception as error:  # of a tensor whose type, shape and bytes do not fit; onnx raises a dozen types
        raise _no_export(path, one_line(error, 200)) from None
    convolutions = [node.input for node in graph.node if node.op_type == "Conv" and len(node.input) == 3]
    biases = {weight: values.get(bias) for _, weight, bias in convolutions}
    network.adapt_to(values)
    # Weights keep their names in an export; what has none is normalisation, now part of a convolution's bias
    state = network.state_dict()
    normalisations = _normalisations(network)
    for name, old in state.items():
        if name in values:
            state[name] = values[name]
        elif name.rpartition(".")[0] in normalisations:
            state[name] = _identity(network, name, old, biases)
        elif name.endswith("weight"):
            raise _no_export(path, f"it lacks {name}")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise _no_export(path, one_line(error, 200)) from None


def _read_graph(path: Path) -> onnx.GraphProto:
    try:
        return onnx.load_model_from_string(read_bounded(path)).graph
    except FileNotFoundError:
        raise FaceMeshError(f"{path}: no such file; give the .onnx of an edge network") from None
    except Exception as error:  # protobuf and onnx raise types without a common base
        raise FaceMeshError(f"{path}: cannot be read as ONNX ({reason(error)}); export the model again") from None


def _no_export(path: Path, reason: str) -> FaceMeshError:
    remedy = "give an FP32 model of 'python -m export onnx --arch edge'"
    return FaceMeshError(f"{path}: no export of the edge network ({reason}); {remedy}")


@torch.no_grad()
def renormalise(network: nn.Module, images: Iterable[Tensor]) -> None:
    """Give batch normalisations the statistics of their inputs on ``images`` and undo them by scale and offset.

    ``images`` are batches (N, 3, S, S). In eval mode the network computes what it did; in training mode, with
    statistics of the batch, nearly so. Scale and offset must have been those of `load_folded` or of any other network
    in eval mode.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    sums = {norm: [0, 0.0, 0.0] for norm in norms}

    def add(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        pixels = x.numel() // x.shape[1]
        variance, mean = (value.double() for value in torch.var_mean(x, (0, 2, 3), correction=0))
        sums[norm][0] += pixels
        sums[norm][1] = sums[norm][1] + pixels * mean
        sums[norm][2] = sums[norm][2] + pixels * (variance + mean.square())

    # Measure. One pass is enough: no normalisation changes its output, so inputs of later ones stay.
    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    training = network.training
    network.eval()
    for batch in images:
        network(batch)
    network.train(training)
    for hook in hooks:
        hook.remove()
    # Replace the statistics, keep the function
    for norm, (count, total, squares) in sums.items():
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        offset = norm.bias.double() - norm.running_mean.double() * scale
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.bias.copy_(offset + mean * scale)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def _normalisations(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}


def _identity(network: nn.Module, name: str, old: Tensor, biases: dict[str, Tensor | None]) -> Tensor:
    """Return a tensor of a batch normalisation that adds the bias of its convolution and does nothing else."""
    place, _, field = name.rpartition(".")
    convolution = f"{place.replace('bn', 'conv')}.weight"
    bias = biases.get(convolution)
    values = {
        "weight": torch.ones_like(old),
        "bias": torch.zeros_like(old) if bias is None else bias,
        "running_mean": torch.zeros_like(old),
        "running_var": torch.full_like(old, 1 - _normalisations(network)[place].eps),
    }
    return values.get(field, old)
