"""A network of `training.networks` -> ONNX, as plain as the exporter writes it, and its `ModelSpec`."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from export.graphs.foreign import at_opset
from export.graphs.heavy_weights import put_back, take_out_of_program
from runtime.families.coefficients import CoefficientOutput
from runtime.families.position_map import PositionMapOutput
from runtime.models.spec import ModelSpec
from runtime.tensors import InputSpec
from training.networks.coefficients import CoefficientNetwork

FACE_MODEL = "face_model.npz"  # what users call it, unless they say otherwise
EXPORTER_OPSET = 18  # the lowest that PyTorch's exporter writes by itself
INPUT_NAME, CONFIDENCE_NAME = "image", "confidence"


def to_onnx(network: nn.Module, name: str) -> onnx.ModelProto:
    """Export ``network``: input ``image`` (N, 3, S, S) float32, N free; with a landmark channel (N, 4, S, S).

    The output is ``position_map`` (N, 3, M, M) float32, or ``coefficients`` (N, P) float32 by the network's kind.
    A network with a confidence head has a second output, ``confidence`` (N, 1) float32 in 0..1.
    The same weights give the same bytes: nothing of the exporting machine is left in the model.
    """
    model, heavy = to_light_onnx(network, name)
    return put_back(model, heavy)


def to_light_onnx(network: nn.Module, name: str) -> tuple[onnx.ModelProto, dict[str, NDArray[np.float32]]]:
    """Export as `to_onnx` does; return the model and its heavy weights, see `export.graphs.heavy_weights`."""
    network = network.eval().to(memory_format=torch.contiguous_format)
    output_names = [_output_name(network), *([CONFIDENCE_NAME] if _has_confidence(network) else [])]
    example = torch.zeros(2, 4 if _has_landmark_channel(network) else 3, network.input_size, network.input_size)
    with _quiet():
        program = torch.onnx.export(
            network,
            (example,),
            input_names=[INPUT_NAME],
            output_names=output_names,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},),
            opset_version=EXPORTER_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    heavy = take_out_of_program(program.model)
    model = program.model_proto
    model.graph.name = name
    _forget_origin(model)
    return at_opset(model), heavy


def network_spec(network: nn.Module, name: str) -> ModelSpec:
    """Return the spec of an FP32 export of ``network``; the SHA-256 is filled in when the file is written.

    A network of coefficients must have its whitening.
    """
    is_map = not isinstance(network, CoefficientNetwork)
    return ModelSpec(
        name=name,
        family="position_map" if is_map else "coefficients",
        input=InputSpec(
            name=INPUT_NAME,
            size=network.input_size,
            layout="NCHW",
            colour_order=network.colour_order,
            value_range=tuple(network.value_range),
            landmark_channel=_has_landmark_channel(network),
        ),
        output=_map_output(network) if is_map else _coefficient_output(network),
        crop_scale=network.crop_scale,
        topology="uv_topology.npz" if is_map else FACE_MODEL,
        precision="fp32",
        onnx_sha256="",
        confidence=CONFIDENCE_NAME if _has_confidence(network) else None,
    )


def _output_name(network: nn.Module) -> str:
    return "coefficients" if isinstance(network, CoefficientNetwork) else "position_map"


def _map_output(network: nn.Module) -> PositionMapOutput:
    return PositionMapOutput(_output_name(network), network.output_size, network.output_scale)


def _coefficient_output(network: CoefficientNetwork) -> CoefficientOutput:
    return CoefficientOutput(
        name=_output_name(network),
        pose_count=network.pose_count,
        shape_count=network.shape_count,
        expression_count=network.expression_count,
        mean=tuple(network.whitening.mean.tolist()),
        std=tuple(network.whitening.std.tolist()),
        origin=network.origin,
    )


def export_difference(
    network: nn.Module, images: NDArray[np.float32], exported: Mapping[str, NDArray[np.float32]]
) -> float:
    """Return the largest difference, output units, of ``network`` on ``images`` (N, …) to its export's outputs.

    ``exported`` has them by name, in the order of the network's.
    """
    with torch.no_grad():
        outputs = network(torch.from_numpy(images))
    pairs = zip(outputs if isinstance(outputs, tuple) else (outputs,), exported.values(), strict=True)
    return max(float(np.abs(found - expected.numpy()).max()) for expected, found in pairs)


def _has_landmark_channel(network: nn.Module) -> bool:
    return getattr(network, "landmark_channel", False)


def _has_confidence(network: nn.Module) -> bool:
    return getattr(network, "confidence", None) is not None


def _forget_origin(model: onnx.ModelProto) -> None:
    """Remove the traces of source files that the exporter leaves."""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    for item in [*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]:
        item.doc_string = ""
        del item.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's progress and remarks; its errors arrive as exceptions."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
