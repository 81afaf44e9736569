"""A second family of networks: three numbers place a rigid mean face.

It proves that nothing outside a family knows more.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from runtime.cuda.interface import Cuda
from runtime.families.family import Decode, Mesh, NetworkSpec
from runtime.families.uv_topology import UVTopology, load_topology
from runtime.geometry.crop import crop_matrix
from runtime.models.spec import ModelSpec
from runtime.storage.whole_files import file_sha256
from runtime.tensors import InputSpec, OutputSpec

SIZE = 32


@dataclass(frozen=True)
class RigidOutput(OutputSpec):
    """Centre x, y and width of the face."""

    unit_px: float  # of the crop

    def shape(self, layout: str) -> tuple[int, ...]:
        return (3,)

    def fitted(self, name: str, shape: tuple[int, ...], layout: str) -> RigidOutput:
        if shape != (3,):
            raise ValueError("three numbers are wanted")
        return dataclasses.replace(self, name=name)

    def describe(self) -> str:
        return f"3 numbers, x {self.unit_px:g} = px of the crop"


class RigidFamily:
    """`runtime.families.family.Family` without a kernel for GPUs."""

    output_type: ClassVar[type[OutputSpec]] = RigidOutput
    has_face_model: ClassVar[bool] = False

    def __init__(self, spec: NetworkSpec, topology: UVTopology | None = None) -> None:
        self._spec = spec
        self.topology = topology or load_topology(spec.topology)
        points = self.topology.canonical_vertices - self.topology.canonical_vertices.mean(axis=0)
        self._points = points / np.ptp(points[:, 0])

    def crop_matrix(self, box_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
        return crop_matrix(box_xyxy, self._spec.crop_scale, self._spec.input.size)

    def decoder(self, dense: bool = True) -> RigidDecoder:
        return RigidDecoder(self._points, self.topology.landmark_vertices, self._spec.output.unit_px, dense)

    def gpu_decoder(self, cuda: Cuda, half: bool, dense: bool = True) -> None:
        return None


class RigidDecoder(Decode):
    """Places the points; several faces are decoded one after the other."""

    def __init__(self, points: NDArray, landmarks: NDArray, unit_px: float, dense: bool) -> None:
        self._points = points
        self._landmarks = landmarks
        self._unit_px = unit_px
        self._dense = dense

    def __call__(self, output: NDArray[np.float32], matrix: NDArray[np.float64]) -> Mesh:
        x, y, width = output.astype(np.float64) * self._unit_px
        scale = matrix[0, 0]
        points = self._points * width / scale
        points[:, :2] += (np.array([x, y]) - matrix[:, 2]) / scale
        vertices = points.astype(np.float32)
        return vertices if self._dense else vertices[:0], vertices[self._landmarks]


def rigid_network(seed: int = 0) -> onnx.ModelProto:
    """Make a network of two convolutions and a matrix product; its three numbers vary with the picture."""
    generator = np.random.default_rng(seed)
    constants = {
        "first": generator.normal(size=(8, 3, 3, 3)) / 4,
        "second": generator.normal(size=(8, 8, 3, 3)) / 6,
        "last": generator.normal(size=(8, 3)) / 4,
        "last_b": np.array([0.5, 0.5, 0.6]),
    }
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["a"], "first", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], "first_relu"),
        helper.make_node("Conv", ["b", "second"], ["c"], "second", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["d"], "second_relu"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "pool"),
        helper.make_node("Flatten", ["e"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "last", "last_b"], ["placement"], "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "rigid",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("placement", onnx.TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def write_rigid_model(path: Path) -> Path:
    """Write the network and its spec; the family must be registered."""
    onnx.save(rigid_network(), path)
    spec = ModelSpec(
        name="rigid",
        family="rigid",
        input=InputSpec("image", SIZE, "NCHW", "RGB", (0.0, 1.0)),
        output=RigidOutput("placement", float(SIZE)),
        crop_scale=1.6,
        topology="uv_topology.npz",
        precision="fp32",
        onnx_sha256="",
    )
    return save_spec(spec, path)


def save_spec(spec: ModelSpec, path: Path) -> Path:
    """Write ``spec`` beside the model file as it is now; return the file's path."""
    dataclasses.replace(spec, onnx_sha256=file_sha256(path)).save(ModelSpec.path_for(path))
    return path
