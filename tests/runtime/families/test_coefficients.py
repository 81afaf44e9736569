"""Coefficients become meshes: the native decoder against its definition, splits, precisions, and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from runtime.compiled import native
from runtime.errors import FaceMeshError
from runtime.families.coefficients import (
    CoefficientFamily,
    CoefficientOutput,
    Decoder,
    decode_numpy,
    frontal_pose,
    mean_sphere,
)
from runtime.families.face_model import FaceModel, load_face_model
from runtime.families.model_topology import FaceModelTopology
from runtime.families.table import open_family
from runtime.models.spec import ModelSpec
from runtime.tensors import InputSpec
from tests.training.toy import toy_face_model

MATRICES = np.array(
    [
        [[0.43, 0.1, -50.3], [-0.1, 0.43, -88.1]],
        [[1.7, 0, 3], [0, 1.7, 5]],
        [[-0.2, 0.9, 800], [-0.9, -0.2, 4000]],
    ]
)


def random_model(vertices: int, shape_count: int, expression_count: int, precision: str = "fp32") -> FaceModel:
    """A face model of noise in 3DDFA's units and sizes."""
    rng = np.random.default_rng(vertices)
    columns = shape_count + expression_count
    return FaceModel(
        mean=rng.normal(scale=6e4, size=(vertices, 3)).astype(np.float32),
        basis=rng.normal(size=(3 * vertices, columns)).astype(np.float32),
        shape_count=shape_count,
        triangles=np.zeros((1, 3), np.int32),
        uv=np.zeros((vertices, 2), np.float32),
        keypoints68=rng.integers(0, vertices, 68).astype(np.int32),
        symmetry=np.arange(vertices, dtype=np.int32),
        precision=precision,
    )


def spec_for(model: FaceModel, pose_count: int = 12, seed: int = 0) -> ModelSpec:
    """A spec with whitening in 3DDFA's sizes: a face of about 80 px in a crop of 120."""
    rng = np.random.default_rng(seed)
    pose_mean = np.array([4e-4, 0, 0, 60, 0, 4e-4, 0, 65, 0, 0, 4e-4, -70])[:pose_count]
    pose_std = np.array([1e-4, 1e-4, 1e-4, 5, 1e-4, 1e-4, 1e-4, 5, 1e-4, 1e-4, 1e-4, 9])[:pose_count]
    columns = model.basis.shape[1]
    output = CoefficientOutput(
        name="p",
        pose_count=pose_count,
        shape_count=model.shape_count,
        expression_count=columns - model.shape_count,
        mean=(*pose_mean.tolist(), *rng.normal(scale=1e3, size=columns).tolist()),
        std=(*pose_std.tolist(), *rng.uniform(1e3, 1e4, columns).tolist()),
        origin=(0.25, 120.0),
    )
    image = InputSpec("image", 120, "NCHW", "BGR", (-1.0, 1.0))
    return ModelSpec("m", "coefficients", image, output, 2**0.5, "face_model.npz", "fp32", "")


def outputs_for(spec: ModelSpec, count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, spec.output.count)).astype(np.float32)


def error(meshes, outputs, matrices, model, spec) -> float:
    """The largest distance from the definition, frame px."""
    pairs = zip(outputs, matrices, meshes, strict=True)
    return max(np.abs(mesh[0] - decode_numpy(row, matrix, model, spec)[0]).max() for row, matrix, mesh in pairs)


@pytest.fixture
def portrait(repository: Path) -> Path:
    """The bundled photograph: one face, 512 x 512."""
    return repository / "runtime" / "assets" / "astronaut.jpg"


@pytest.mark.parametrize("split", [(40, 10), (199, 29), (1, 0), (0, 7), (3, 2)])
@pytest.mark.parametrize("pose_count", [12, 0])
def test_decoder_is_the_definition_for_any_split(split, pose_count):
    model = random_model(97, *split)
    spec = spec_for(model, pose_count)
    outputs = outputs_for(spec, 3)
    assert error(Decoder(model, spec).batch(outputs, list(MATRICES)), outputs, MATRICES, model, spec) < 2e-3


@pytest.mark.parametrize("vertices", [1, 15, 31, 32, 33, 63, 64, 65, 129, 200])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("vector_bytes", [64, 32, 16])
def test_any_number_of_vertices_in_any_precision(vertices, precision, vector_bytes, monkeypatch):
    """Blocks and vectors of every size end anywhere; shorter vectors than this machine's are tested, too."""
    monkeypatch.setattr(
        "runtime.families.coefficients.native.CoefficientDecoder",
        functools.partial(native.CoefficientDecoder, vector_bytes=vector_bytes),
    )
    model = random_model(vertices, 4, 2, precision)
    spec = spec_for(model)
    outputs = outputs_for(spec, 2)
    meshes = Decoder(model, spec).batch(outputs, list(MATRICES[:2]))
    assert [mesh[0].shape for mesh in meshes] == [(vertices, 3)] * 2
    # The largest entry of a block becomes 32767 or 127: half a step of each of the six products at most.
    numbers = np.abs(outputs * spec.output.std + spec.output.mean)[:, 12:]
    step = {"fp32": 0, "fp16": 1 / 65534, "int8": 1 / 254}[precision] * np.abs(model.basis).max()
    turned = 3 * 8e-4 / min(0.43, 1.7)  # model units -> frame px, at most
    assert error(meshes, outputs, MATRICES[:2], model, spec) < 2e-3 + numbers.sum(1).max() * step * turned


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("dense", [True, False])
def test_a_batch_is_its_faces(count, dense):
    model = random_model(150, 5, 3, "fp16")
    spec = spec_for(model)
    decode = CoefficientFamily(spec, FaceModelTopology(model)).decoder(dense)
    outputs, matrices = outputs_for(spec, count), [MATRICES[i % 3] for i in range(count)]
    together = decode.batch(outputs, matrices)
    alone = [decode(output, matrix) for output, matrix in zip(outputs, matrices, strict=True)]
    assert len(together) == count
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    if count > 1:
        assert np.abs(together[0][1] - together[1][1]).max() > 1


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_landmarks_alone_are_those_of_the_mesh(precision):
    model = random_model(150, 5, 3)
    if precision == "int8":  # as read from a file: the rounded basis is the basis
        from runtime.families.face_model import _by_row, quantise_basis

        integers, scale = quantise_basis(model.basis)
        model = dataclasses.replace(model, basis=integers * _by_row(scale, len(integers)))
    model = dataclasses.replace(model, precision=precision)
    spec = spec_for(model)
    family = CoefficientFamily(spec, FaceModelTopology(model))
    output = outputs_for(spec, 1)[0]
    vertices, landmarks = family.decoder(dense=False)(output, MATRICES[0])
    dense_vertices, dense_landmarks = family.decoder()(output, MATRICES[0])
    assert vertices.shape == (0, 3)
    np.testing.assert_array_equal(dense_landmarks, dense_vertices[model.keypoints68])
    np.testing.assert_allclose(landmarks, dense_landmarks, atol=1e-2 if precision == "fp16" else 1e-3)


def test_landmarks_alone_hold_no_other_rows():
    """A basis of NaN everywhere but at the landmarks does not show."""
    model = random_model(500, 5, 3)
    basis = np.full((500, 3, 8), np.nan, np.float32)
    basis[model.keypoints68] = model.basis.reshape(500, 3, 8)[model.keypoints68]
    spec = spec_for(model)
    spoilt = CoefficientFamily(spec, FaceModelTopology(dataclasses.replace(model, basis=basis.reshape(1500, 8))))
    whole = CoefficientFamily(spec, FaceModelTopology(model))
    output = outputs_for(spec, 1)[0]
    found = [family.decoder(dense=False)(output, MATRICES[0])[1] for family in (spoilt, whole)]
    np.testing.assert_array_equal(*found)


def test_published_decode_of_3ddfa():
    """x = a, y = size - b of ``v = A[:, :3] @ (mean + basis @ c) + A[:, 3:]``, in the crop."""
    model = random_model(80, 4, 2)
    spec = spec_for(model)
    spec = dataclasses.replace(spec, output=dataclasses.replace(spec.output, origin=(0.0, 120.0)))
    output = outputs_for(spec, 1)[0]
    numbers = output * np.array(spec.output.std) + spec.output.mean
    a = numbers[:12].reshape(3, 4)
    points = a[:, :3] @ (model.mean + (model.basis @ numbers[12:]).reshape(-1, 3)).T + a[:, 3:]
    vertices, _ = Decoder(model, spec)(output, np.eye(2, 3))
    np.testing.assert_allclose(vertices[:, 0], points[0], atol=1e-3)
    np.testing.assert_allclose(vertices[:, 1], 120 - points[1], atol=1e-3)
    np.testing.assert_allclose(np.diff(vertices[:, 2]), np.diff(points[2]), atol=1e-3)


def test_depth_of_the_mean_face_is_positive_whatever_its_pose():
    model = toy_face_model()
    spec = spec_for(model)
    rng = np.random.default_rng(0)
    centre_z = []
    for _ in range(20):
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(10, 30)
        pose = np.column_stack([rotation, rng.normal(size=3) * 9])
        numbers = np.concatenate([pose.ravel(), np.zeros(3)])
        output = ((numbers - spec.output.mean) / spec.output.std).astype(np.float32)
        vertices, _ = Decoder(model, spec)(output, np.eye(2, 3))
        assert vertices[:, 2].min() > -0.01
        centre_z.append(vertices[:, 2].mean() / np.linalg.norm(pose[2, :3]))
    np.testing.assert_allclose(centre_z, mean_sphere(model)[3], rtol=1e-3)  # it turns on the spot


def test_a_network_without_pose_gives_faces_that_look_ahead_and_fill_their_box():
    model = toy_face_model()
    spec = spec_for(model, pose_count=0)
    box = np.array([100.0, 200, 180, 260])
    family = CoefficientFamily(spec, FaceModelTopology(model))
    output = (-np.array(spec.output.mean) / spec.output.std).astype(np.float32)  # all coefficients 0
    _, landmarks = family.decoder(dense=False)(output, family.crop_matrix(box))
    low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    np.testing.assert_allclose((low + high) / 2, [140, 230], atol=0.01)
    np.testing.assert_allclose((high - low).max(), 80, atol=0.01)
    assert frontal_pose(model, spec)[0, 0] == frontal_pose(model, spec)[1, 1] > 0


def test_crop_is_a_square_round_the_longer_side():
    spec = spec_for(toy_face_model())
    matrix = open_family(spec).crop_matrix(np.array([100.0, 200, 180, 260]))
    side = 80 * 2**0.5
    corners = np.array([[140 - side / 2, 230 - side / 2], [140 + side / 2, 230 + side / 2]])
    np.testing.assert_allclose(corners @ matrix[:, :2].T + matrix[:, 2], [[-0.5, -0.5], [119.5, 119.5]], atol=1e-9)
    with pytest.raises(FaceMeshError, match="not a box"):
        open_family(spec).crop_matrix(np.array([5.0, 5, 5, 9]))


@pytest.mark.parametrize(
    ("output", "matrix", "problem"),
    [
        (np.zeros(19, np.float32), np.eye(2, 3), "must be contiguous float32"),
        (np.zeros(20), np.eye(2, 3), "must be contiguous float32"),
        (np.zeros((1, 20), np.float32), np.eye(2, 3), "must be contiguous float32"),
        (np.zeros(20, np.float32), np.zeros((2, 3)), "singular"),
        (np.zeros(20, np.float32), np.eye(2, 3, dtype=np.float32), "float64"),
    ],
)
def test_outputs_that_are_none_of_this_network(output, matrix, problem):
    model = random_model(80, 5, 3)
    with pytest.raises(ValueError, match=problem):
        Decoder(model, spec_for(model))(output, matrix)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("pose_count", 7, "pose_count must be 12 or 0"),
        ("mean", [0.0] * 14, r"mean must be 15 finite numbers \(12 pose \+ 2 shape \+ 1 expression\), are 14"),
        ("std", [1.0] * 14 + [0.0], "std must be positive"),
        ("std", [1.0] * 14 + [float("nan")], "std must be 15 finite numbers"),
        ("shape_count", 3, r"must be 16 finite numbers"),
        ("expression_count", -1, "must be counts"),
        ("origin", [0.0], "field origin"),
        ("origin", [0.0, float("inf")], "origin must be two finite"),
    ],
)
def test_specs_that_contradict_themselves(tmp_path, field, value, problem):
    pytest.importorskip("onnx")
    from tests.standins.coefficient_network import toy_spec

    path = tmp_path / "m.onnx.json"
    toy_spec().save(path)
    assert ModelSpec.load(path) == toy_spec()
    document = json.loads(path.read_text())
    document["output"][field] = value
    path.write_text(json.dumps(document))
    with pytest.raises(FaceMeshError, match=problem) as caught:
        ModelSpec.load(path)
    assert "\n" not in str(caught.value)


def test_face_model_of_another_network():
    family = CoefficientFamily(spec_for(random_model(80, 40, 10)), FaceModelTopology(random_model(80, 199, 29)))
    with pytest.raises(FaceMeshError, match=r"its 199 \+ 29 coefficients .* are not the network's 40 \+ 10"):
        family.decoder()


def test_a_uv_topology_is_no_face_model(topology):
    with pytest.raises(FaceMeshError, match="needs a FaceModelTopology, not a UVTopology"):
        _ = CoefficientFamily(spec_for(random_model(80, 4, 2)), topology).topology


def test_loss_of_the_published_basis_in_16_and_8_bits(shared_data):
    """Its file is float16. Of a face of 100 px, 16 bits move no vertex by 0.001 px, 8 bits none by 0.15, 0.01 on
    average."""
    model = load_face_model(shared_data / "face_model.npz")
    labels = np.load(shared_data / "aflw2000_dev.npz")
    coefficients = np.concatenate([labels["shape"], labels["exp"]], axis=1)[:40]
    spec = spec_for(model)
    pose = frontal_pose(model, dataclasses.replace(spec, crop_scale=1.2))  # 100 px
    plain = dataclasses.replace(spec.output, mean=(0.0,) * 62, std=(1.0,) * 62)
    spec = dataclasses.replace(spec, output=plain)
    outputs = np.concatenate([np.tile(pose.ravel(), (40, 1)), coefficients], axis=1).astype(np.float32)
    meshes = {}
    for precision in ("fp32", "fp16", "int8"):
        decode = Decoder(dataclasses.replace(model, precision=precision), spec)
        meshes[precision] = np.stack([mesh[0] for mesh in decode.batch(outputs, [np.eye(2, 3)] * 40)])
    moved = {key: np.linalg.norm(meshes[key] - meshes["fp32"], axis=2) for key in ("fp16", "int8")}
    assert model.precision == "fp16"
    assert 0 < moved["fp16"].max() < 0.001
    assert moved["int8"].max() < 0.15
    assert 0.001 < moved["int8"].mean() < 0.01


def test_command_runs_a_network_of_coefficients(tmp_path, portrait, capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from runtime.run import main
    from tests.standins.coefficient_network import write_toy_model

    model = write_toy_model(tmp_path)
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(f"path,x1,y1,x2,y2\n{portrait},179,88,270,176\n")
    arguments = ["--engine", str(model), "--source", str(portrait), "--boxes", str(boxes)]
    out = tmp_path / "out"
    assert main([*arguments, "--output", str(out), "--save", "overlay,json,obj,ply,npz,npy"]) == 0
    assert {path.suffix for path in out.iterdir()} == {".jpg", ".jsonl", ".obj", ".ply", ".npz", ".npy"}
    face = json.loads((out / "results.jsonl").read_text())["faces"][0]
    mesh = np.load(out / "astronaut_face0.npz")
    assert mesh["vertices"].shape == (289, 3)
    np.testing.assert_allclose(mesh["landmarks"], face["landmarks"], atol=0.01)
    assert 150 < mesh["landmarks"][:, 0].mean() < 300
    corners = np.load(out / "astronaut_face0.npy")[[0, 0, -1, -1], [0, -1, 0, -1]]  # of the map and of the sheet
    np.testing.assert_allclose(corners, mesh["vertices"][[0, 16, -17, -1]], atol=0.01)

    # The face model may lie elsewhere, and must be there.
    (tmp_path / "face_model.npz").rename(tmp_path / "other.npz")
    assert main([*arguments, "--output", str(tmp_path / "x"), "--save", "json"]) == 1
    error = capsys.readouterr().err
    assert "face_model.npz: no such file; a network of coefficients needs the face model" in error
    assert error.count("\n") == 1
    assert "--face-model FILE.npz" in error
    assert main([*arguments, "--output", str(out), "--face-model", str(tmp_path / "other.npz"), "--save", "json"]) == 0
    again = json.loads((out / "results.jsonl").read_text())["faces"][0]
    assert again["landmarks"] == face["landmarks"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"exp_basis": np.zeros((867, 10), np.float32)}, r"its 2 \+ 10 coefficients .* not the network's 2 \+ 1"),
        ({"exp_basis": np.full((867, 1), np.nan, np.float32)}, "exp_basis must be finite"),
        ({"mean": np.zeros((288, 3), np.float32)}, "mean has shape"),
    ],
)
def test_face_models_that_do_not_fit_are_one_line(tmp_path, portrait, capsys, change, problem):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from runtime.run import main
    from tests.standins.coefficient_network import write_toy_model

    model = write_toy_model(tmp_path)
    path = tmp_path / "face_model.npz"
    np.savez(path, **{**np.load(path), **change})
    assert main(["--engine", str(model), "--source", str(portrait), "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}")
    assert re.search(problem, error)
    assert error.count("\n") == 1


def test_a_position_map_has_no_face_model(tmp_path, portrait, capsys):
    pytest.importorskip("onnxruntime")
    from runtime.run import main

    arguments = ["--source", str(portrait), "--face-model", "face_model.npz", "--output", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "family position_map has no face model; leave face_model.npz out" in capsys.readouterr().err
