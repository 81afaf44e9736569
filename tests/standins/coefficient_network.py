"""A small network of the coefficient family: its pose and coefficients vary with the picture, its faces are a sheet."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from runtime.families.coefficients import CoefficientOutput
from runtime.families.face_model import FaceModel, quantise_basis
from runtime.models.spec import ModelSpec
from runtime.storage.whole_files import file_sha256
from runtime.tensors import InputSpec
from tests.training.toy import toy_face_model

SIZE = 40
# The sheet is 2 units wide and high; in the crop it is 20 px, its landmarks fill about half of it.
POSE = np.array([[10.0, 0, 0, 20], [0, 10, 0, 20], [0, 0, 10, 0]])


def save_face_model(path: Path, precision: str = "fp32", model: FaceModel | None = None) -> Path:
    """Write a face model, the sheet of `tests.training.toy` unless another one is given."""
    model = toy_face_model() if model is None else model
    arrays = {key: getattr(model, key) for key in ("mean", "triangles", "uv", "keypoints68", "symmetry")}
    basis = model.basis.astype(np.float16 if precision == "fp16" else np.float32)
    if precision == "int8":
        basis, arrays["basis_scale"] = quantise_basis(model.basis)
    shape, expression = np.split(basis, [model.shape_count], axis=1)
    np.savez(path, **arrays, shape_basis=shape, exp_basis=expression)
    return path


def wide_face_model() -> FaceModel:
    """The sheet with 40 + 10 columns, as 3DDFA's networks want them: bumps that depend on the place."""
    model = toy_face_model()
    x, y, _ = model.mean.T
    numbers = np.arange(1, 51)
    bumps = 0.02 * np.sin(numbers * x[:, None] + numbers[::-1] * y[:, None])
    basis = np.zeros((len(x), 3, 50), np.float32)
    basis[np.arange(len(x))[:, None], numbers % 3, numbers - 1] = bumps
    return dataclasses.replace(model, basis=basis.reshape(-1, 50), shape_count=40)


def toy_output(pose_count: int = 12) -> CoefficientOutput:
    """The output of the network, 2 + 1 coefficients; an output of 0 is `POSE` and the mean face."""
    mean = [*POSE.ravel()[:pose_count], 0.0, 0.0, 0.0]
    std = [*np.repeat(1.5, pose_count), 1.0, 1.0, 1.0]
    return CoefficientOutput("coefficients", pose_count, 2, 1, tuple(mean), tuple(std), (0.0, float(SIZE)))


def toy_spec(
    face_model: Path | str = "face_model.npz", pose_count: int = 12, landmark_channel: bool = False
) -> ModelSpec:
    """The network's spec, without a hash."""
    return ModelSpec(
        name="toy",
        family="coefficients",
        input=InputSpec("image", SIZE, "NCHW", "BGR", (-1.0, 1.0), landmark_channel),
        output=toy_output(pose_count),
        crop_scale=2**0.5,
        topology=str(face_model),
        precision="fp32",
        onnx_sha256="",
    )


def toy_network(count: int = 15, seed: int = 3, planes: int = 3) -> onnx.ModelProto:
    """Make a network of two convolutions and a matrix product."""
    generator = np.random.default_rng(seed)
    constants = {
        "first": generator.normal(size=(8, planes, 3, 3)) / 3,
        "second": generator.normal(size=(16, 8, 3, 3)) / 4,
        "last": generator.normal(size=(16, count)),
        "last_b": np.zeros(count),
    }
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["a"], "first", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], "first_relu"),
        helper.make_node("Conv", ["b", "second"], ["c"], "second", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"], "second_relu"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "pool"),
        helper.make_node("Flatten", ["e"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "last", "last_b"], ["coefficients"], "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", planes, SIZE, SIZE])],
        [helper.make_tensor_value_info("coefficients", onnx.TensorProto.FLOAT, ["N", count])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def write_toy_model(
    folder: Path, precision: str = "fp32", pose_count: int = 12, landmark_channel: bool = False, name: str = "toy"
) -> Path:
    """Write toy.onnx with its spec and face_model.npz into ``folder``; return the model's path."""
    path = folder / f"{name}.onnx"
    onnx.save(toy_network(pose_count + 3, planes=4 if landmark_channel else 3), path)
    save_face_model(folder / "face_model.npz", precision)
    spec = toy_spec(pose_count=pose_count, landmark_channel=landmark_channel)
    spec = dataclasses.replace(spec, onnx_sha256=file_sha256(path))
    spec.save(ModelSpec.path_for(path))
    return path
