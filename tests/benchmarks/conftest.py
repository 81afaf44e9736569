"""A labelled set whose faces are known exactly, and a model that puts out exactly that face."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.families.face_model import FaceModel
from runtime.geometry.crop import crop_matrix
from runtime.models.spec import ModelSpec
from runtime.storage.whole_files import file_sha256
from tests.runtime.conftest import engine, gpu_machine, live_model, portrait, sure_model, write_model  # noqa: F401  (fixtures)
from tests.training.toy import toy_face_model, toy_labels
from training.data.labels import FaceLabels
from training.uv.uv_layout import build_topology, sample_uv, save_topology

COUNT, CROP_SIZE, MAP_SIZE, CROP_SCALE = 6, 128, 64, 1.6


@dataclasses.dataclass(frozen=True)
class ToySet:
    """A labelled set with the stem ``data``, the face model beside it.

    Every row is the same face, a third of them in each yaw bin.
    """

    folder: Path
    model: FaceModel
    labels: FaceLabels

    @property
    def data(self) -> Path:
        return self.folder / "toy"


@pytest.fixture(scope="session")
def toy_set(tmp_path_factory: pytest.TempPathFactory) -> ToySet:
    folder, model = tmp_path_factory.mktemp("toy"), toy_face_model()
    labels = toy_labels(model, COUNT).select(np.zeros(COUNT, int))
    labels = dataclasses.replace(
        labels, names=np.array([f"{i}.png" for i in range(COUNT)]), is_val=np.arange(COUNT) % 2 == 1
    )
    arrays = {
        field.name: getattr(labels, field.name)
        for field in dataclasses.fields(labels)
        if getattr(labels, field.name) is not None
    }
    coefficients = arrays.pop("coefficients")
    arrays |= {"shape": coefficients[:, :2], "exp": coefficients[:, 2:], "bin": np.arange(COUNT) % 3}
    np.savez(folder / "toy.npz", **arrays)
    shape_basis, exp_basis = np.split(model.basis, [model.shape_count], axis=1)
    model_arrays = {name: getattr(model, name) for name in ("mean", "triangles", "uv", "keypoints68", "symmetry")}
    np.savez(folder / "face_model.npz", shape_basis=shape_basis, exp_basis=exp_basis, **model_arrays)
    save_topology(build_topology(model), folder / "topology.npz")
    with tarfile.open(folder / "toy.tar", "w") as archive:
        for i, side in enumerate(labels.size.tolist()):
            picture = cv2.imencode(".png", np.full((side, side, 3), 20 * i, np.uint8))[1].tobytes()
            member = tarfile.TarInfo(f"{i}.png")
            member.size = len(picture)
            archive.addfile(member, io.BytesIO(picture))
    return ToySet(folder, model, labels)


@pytest.fixture(scope="session")
def write_oracle(toy_set: ToySet, make_spec: Callable[..., ModelSpec]) -> Callable[..., Path]:
    """Return ``write_oracle(name, shift_px)`` for a model that answers every crop with the labelled face.

    The face is moved by shift_px (3,) of the crop.
    """
    onnx = pytest.importorskip("onnx", reason="needs onnx to make a model")

    def write(name: str, shift_px: tuple[float, float, float] = (0, 0, 0)) -> Path:
        helper, kind, labels = onnx.helper, onnx.TensorProto.FLOAT, toy_set.labels
        spec = make_spec(map_size=MAP_SIZE, input_size=CROP_SIZE)
        surface = (
            labels.scale[0] * toy_set.model.vertices(labels.coefficients[0]) @ labels.rotation[0].T
            + labels.translation[0]
        )
        matrix = crop_matrix(labels.box[0], CROP_SCALE, CROP_SIZE)
        surface = matrix[0, 0] * surface + (*matrix[:, 2], 0) + shift_px
        face = cv2.resize(
            sample_uv(toy_set.model, surface.astype(np.float32)), (MAP_SIZE, MAP_SIZE), interpolation=cv2.INTER_AREA
        )
        face = face.transpose(2, 0, 1)[None] / spec.output.scale
        nodes = [
            helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "face"], ["position_map"]),
        ]
        constants = {"zero": np.zeros(1, np.float32), "face": face.astype(np.float32)}
        graph = helper.make_graph(
            nodes,
            "oracle",
            [helper.make_tensor_value_info("image", kind, ["N", 3, CROP_SIZE, CROP_SIZE])],
            [helper.make_tensor_value_info("position_map", kind, ["N", 3, MAP_SIZE, MAP_SIZE])],
            [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()],
        )
        path = toy_set.folder / name
        onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
        topology = str(toy_set.folder / "topology.npz")
        dataclasses.replace(spec, onnx_sha256=file_sha256(path), crop_scale=CROP_SCALE, topology=topology).save(
            ModelSpec.path_for(path)
        )
        return path

    return write
