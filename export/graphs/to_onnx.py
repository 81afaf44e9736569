"""A network of `training.networks` -> ONNX, as plain as the exporter writes it."""

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
from export.graphs.network_spec import CONFIDENCE_NAME, INPUT_NAME, has_confidence, has_landmark_channel, output_name

EXPORTER_OPSET = 18  # the lowest that PyTorch's exporter writes by itself


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
    output_names = [output_name(network), *([CONFIDENCE_NAME] if has_confidence(network) else [])]
    example = torch.zeros(2, 4 if has_landmark_channel(network) else 3, network.input_size, network.input_size)
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
