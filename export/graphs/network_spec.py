"""The `ModelSpec` of a network of `training.networks`, or of its form alone."""

from __future__ import annotations

from typing import Any

from runtime.families.coefficients import CoefficientOutput
from runtime.families.position_map import PositionMapOutput
from runtime.models.spec import ModelSpec
from runtime.tensors import InputSpec
from training.networks.coefficients import CoefficientNetwork

FACE_MODEL = "face_model.npz"  # what users call it, unless they say otherwise
INPUT_NAME, CONFIDENCE_NAME = "image", "confidence"


def network_spec(network: Any, name: str) -> ModelSpec:
    """Return the spec of an FP32 export of ``network``, or of its form alone (`training.networks.forms`).

    The SHA-256 is filled in when the file is written. A network of coefficients must have its whitening.
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
            landmark_channel=has_landmark_channel(network),
        ),
        output=_map_output(network) if is_map else _coefficient_output(network),
        crop_scale=network.crop_scale,
        topology="uv_topology.npz" if is_map else FACE_MODEL,
        precision="fp32",
        onnx_sha256="",
        confidence=CONFIDENCE_NAME if has_confidence(network) else None,
    )


def _map_output(network: Any) -> PositionMapOutput:
    return PositionMapOutput(output_name(network), network.output_size, network.output_scale)


def _coefficient_output(network: CoefficientNetwork) -> CoefficientOutput:
    return CoefficientOutput(
        name=output_name(network),
        pose_count=network.pose_count,
        shape_count=network.shape_count,
        expression_count=network.expression_count,
        mean=tuple(network.whitening.mean.tolist()),
        std=tuple(network.whitening.std.tolist()),
        origin=network.origin,
    )


def output_name(network: Any) -> str:
    """Return the name of the mesh's output."""
    return "coefficients" if isinstance(network, CoefficientNetwork) else "position_map"


def has_landmark_channel(network: Any) -> bool:
    """Return True for a network that takes landmarks beside the picture."""
    return getattr(network, "landmark_channel", False)


def has_confidence(network: Any) -> bool:
    """Return True for a network with a confidence head."""
    return getattr(network, "confidence", None) is not None
