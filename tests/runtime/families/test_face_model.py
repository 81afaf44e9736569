"""The face model: what it computes, and what is refused at the door."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.families.face_model import load_face_model


def tiny_model(vertices=80, shape_columns=3, expression_columns=2):
    """Arrays of a small random model, as the file holds them."""
    rng = np.random.default_rng(0)
    return {
        "mean": rng.normal(size=(vertices, 3)).astype(np.float32),
        "shape_basis": rng.normal(size=(3 * vertices, shape_columns)).astype(np.float16),
        "exp_basis": rng.normal(size=(3 * vertices, expression_columns)).astype(np.float16),
        "triangles": rng.integers(0, vertices, (40, 3)).astype(np.int32),
        "uv": rng.random((vertices, 2)).astype(np.float32),
        "keypoints68": np.arange(68, dtype=np.int32),
        "symmetry": np.arange(vertices, dtype=np.int32),
    }


def save(path, arrays):
    np.savez(path, **arrays)
    return path


def test_vertices_are_the_mean_plus_the_weighted_basis(tmp_path):
    arrays = tiny_model()
    model = load_face_model(save(tmp_path / "model.npz", arrays))
    coefficients = np.array([0.5, -1, 2, 0.25, -0.75])
    expected = arrays["mean"].astype(float)
    for vertex in range(80):
        for axis in range(3):
            row = np.concatenate(
                [arrays["shape_basis"][3 * vertex + axis], arrays["exp_basis"][3 * vertex + axis]]
            ).astype(float)
            expected[vertex, axis] += row @ coefficients
    assert (model.shape_count, model.expression_count) == (3, 2)
    np.testing.assert_allclose(model.vertices(coefficients), expected, atol=1e-5)
    np.testing.assert_allclose(model.landmarks(coefficients[None])[0], expected[model.keypoints68], atol=1e-5)


def test_arrays_are_read_only(tmp_path):
    model = load_face_model(save(tmp_path / "model.npz", tiny_model()))
    with pytest.raises(ValueError, match="read-only"):
        model.mean[0] = 0


def test_the_full_model_may_have_any_number_of_columns(tmp_path):
    model = load_face_model(save(tmp_path / "model.npz", tiny_model(shape_columns=199, expression_columns=29)))
    assert model.basis.shape == (240, 228)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mean", np.zeros((79, 3), np.float32), "mean has shape"),
        ("exp_basis", np.zeros((3, 10), np.float32), "exp_basis has shape"),
        ("uv", np.float32(0), "has shape"),
        ("mean", np.full((80, 3), np.nan, np.float32), "mean must be finite"),
        ("uv", np.full((80, 2), 1.5, np.float32), "uv must lie in 0..1"),
        ("triangles", np.full((5, 3), 80), "triangles must be vertex numbers below 80"),
        ("keypoints68", np.full(68, -1), "keypoints68 must be vertex numbers"),
        ("symmetry", np.zeros(80), "symmetry must be vertex numbers"),
    ],
)
def test_unfit_arrays_are_named(tmp_path, key, value, message):
    path = save(tmp_path / "model.npz", {**tiny_model(), key: value})
    with pytest.raises(FaceMeshError, match=message) as error:
        load_face_model(path)
    assert str(path) in str(error.value)


def test_unreadable_files_are_named(tmp_path):
    arrays = tiny_model()
    whole = save(tmp_path / "whole.npz", arrays).read_bytes()
    (tmp_path / "truncated.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "single.npy", arrays["mean"])
    del arrays["uv"]
    save(tmp_path / "lacking.npz", arrays)
    for name in ("truncated.npz", "empty.npz", "text.npz", "single.npy", "lacking.npz", "absent.npz", ""):
        with pytest.raises(FaceMeshError, match=str(tmp_path / name)):
            load_face_model(tmp_path / name)


def test_the_published_model_fits_its_own_symmetry(shared_data):
    model = load_face_model(shared_data / "face_model.npz")
    mirrored = model.mean[model.symmetry] * (-1, 1, 1)
    assert (model.shape_count, model.expression_count) == (40, 10)
    assert (
        np.linalg.norm(mirrored - model.mean, axis=1).max() < 2000
    )  # of 180,000: the face is 2 mm from symmetric at most
