"""Input and output of every network, without PyTorch: the networks inherit their forms.

For exporting a file that is ONNX already the form is all that is needed of a network.
"""

from __future__ import annotations

from typing import ClassVar

from training.networks.coefficients import CoefficientNetwork

Span = tuple[float, float]
CENTRED: Span = (-127.5 / 128, 127.5 / 128)


class MapForm:
    """A network of position maps: output x ``output_scale`` = px of the crop."""

    input_size: ClassVar[int]
    output_size: ClassVar[int]
    output_scale: ClassVar[float]
    crop_scale: ClassVar[float]
    colour_order: ClassVar[str]
    value_range: ClassVar[Span]


class PRNetForm(MapForm):
    """Form of `training.networks.prnet.PRNet`."""

    input_size = 256
    output_size = 256
    output_scale = 256 * 1.1
    crop_scale = 1.6
    colour_order = "RGB"
    value_range = (0.0, 1.0)


class EdgeForm(MapForm):
    """Form of `training.networks.edge.EdgeNet`."""

    input_size = 128
    output_size = 64
    output_scale = 128 * 1.1
    crop_scale = 1.5
    colour_order = "BGR"
    value_range = CENTRED


class Mb05Form(CoefficientNetwork):
    """Form of `training.networks.mb05.Mb05`."""

    input_size = 120
    crop_scale = 2**0.5
    colour_order = "BGR"
    value_range = CENTRED
    pose_count = 12
    shape_count = 40
    expression_count = 10
    origin = (0.0, 120.0)


class TwoDASLForm(Mb05Form):
    """Form of `training.networks.two_dasl.TwoDASL`."""

    origin = (0.0, 121.0)
    landmark_channel = True


class EdgeCoefficientsForm(Mb05Form):
    """Form of `training.networks.edge_coefficients.EdgeCoefficients`."""

    input_size = 128
    crop_scale = 1.45  # of the longer side of the box; for a face as wide as high, about the crop of the edge network
    origin = (0.0, 127.0)


class E2farForm(Mb05Form):
    """Form of `training.networks.e2far.E2far`."""

    input_size = 180
    crop_scale = 1.8  # "enlarged by 0.8"
    colour_order = "RGB"
    value_range = (-127.5, 127.5)
    origin = (0.0, 180.0)


FORMS = {
    "edge": EdgeForm,
    "prnet": PRNetForm,
    "mb05": Mb05Form,
    "2dasl": TwoDASLForm,
    "2dasl-quarter": TwoDASLForm,
    "edge-coefficients": EdgeCoefficientsForm,
    "e2far": E2farForm,
}
