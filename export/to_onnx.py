"""A trained network -> ONNX with its `ModelSpec` beside it. Home of ``onnx``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from runtime.errors import FaceMeshError
from runtime.runner import open_runner
from runtime.spec import InputSpec, ModelSpec, OutputSpec, file_sha256
from training.networks import create_network

OPSET = 17  # the newest that TensorRT 8.6 reads whole


def export_checkpoint(arch: str, weights: Path, path: Path) -> float:
    """Load a checkpoint of ``python -m training fit`` into ``arch``, export it and compare; returns the largest difference in crop px.

    The comparison runs on noise of several grain sizes, on which outputs must vary.
    """
    network = create_network(arch)
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)["network"]
        network.load_state_dict(state)
    except FileNotFoundError:
        raise FaceMeshError(f"{weights}: no such file; --weights takes last.pt or best.pt of a training run") from None
    except Exception as error:  # torch raises a dozen types for files that are no checkpoints
        reason = " ".join(str(error).split())[:200]
        raise FaceMeshError(f"{weights}: not a checkpoint of a training run of {arch!r} ({reason})") from None
    spec = to_onnx(network, path, arch)
    images = _noise(spec.input.size, *spec.input.value_range)
    with open_runner(path, max_batch=len(images)) as runner, torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
        runner.input[:] = images
        difference = np.abs(runner.infer(len(images)) - expected).max() * spec.output.scale
    if expected.std(0).max() * spec.output.scale < 0.1:
        raise FaceMeshError(f"{weights}: the network's output hardly depends on its input; it is not trained")
    return float(difference)


def to_onnx(network: nn.Module, path: Path, name: str) -> ModelSpec:
    """Export ``network`` (see `training.networks`) with a dynamic batch and write ``path`` and its spec, each whole or not at all.

    Input ``image`` (N, 3, S, S) float32, output ``position_map`` (N, 3, M, M) float32.
    """
    network = network.eval().to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, 3, network.input_size, network.input_size)
    temporary = Path(f"{path}.part")
    program = torch.onnx.export(
        network,
        (example,),
        input_names=["image"],
        output_names=["position_map"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    model = program.model_proto
    model.graph.name = name
    for node in model.graph.node:  # traces of the exporting machine's source files
        node.doc_string = ""
        del node.metadata_props[:]
    for value in model.graph.value_info:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    try:
        onnx.checker.check_model(model, full_check=True)
        temporary.write_bytes(model.SerializeToString())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FaceMeshError(f"{path}: cannot be written ({error.strerror}); choose another place with -o") from None
    spec = ModelSpec(
        name=name,
        family="position_map",
        input=InputSpec("image", network.input_size, "NCHW", network.colour_order, tuple(network.value_range)),
        output=OutputSpec("position_map", network.output_size, network.output_scale),
        crop_scale=network.crop_scale,
        topology="uv_topology.npz",
        precision="fp32",
        onnx_sha256=file_sha256(path),
    )
    spec.save(ModelSpec.path_for(path))
    return spec


def _noise(size: int, low: float, high: float) -> np.ndarray:
    """(4, 3, S, S) float32 between low and high: noise in cells of 1, 4, 16 and 64 px."""
    generator = np.random.default_rng(0)
    images = []
    for cell in (1, 4, 16, 64):
        coarse = generator.uniform(low, high, (3, -(-size // cell), -(-size // cell)))
        images.append(coarse.repeat(cell, 1).repeat(cell, 2)[:, :size, :size])
    return np.stack(images).astype(np.float32)
