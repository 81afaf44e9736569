"""Decoding of coefficients as the GPU runs it: on the CPU everywhere, and on the GPU where there is one.

`tests.runtime.native.test_kernels` says how to run a memory checker over it.
"""

from __future__ import annotations

import numpy as np
import pytest

from runtime import _native
from runtime.families.coefficients import Decoder, decode_numpy, frontal_pose, mean_sphere
from tests.programs.kernel_memory import Device, Host, marks_of, real_device, results_of
from tests.runtime.families.test_coefficients import MATRICES, outputs_for, random_model, spec_for


@pytest.fixture(scope="module", params=["host", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "host":
        yield Host()
    else:
        with real_device() as cuda:
            yield Device(cuda)


def decode(device, model, spec, outputs, matrices, half=False, basis_half=False, basis=None) -> np.ndarray:
    """(n, V, 3) points, whose marks are right."""
    output = spec.output
    fixed_pose = np.zeros(12) if output.pose_count else frontal_pose(model, spec).ravel()
    constants = np.concatenate([output.mean, output.std, fixed_pose, output.origin, mean_sphere(model)])
    count = len(model.mean)
    columns = model.basis if basis is None else basis
    by_axis = columns.reshape(count, 3, -1).transpose(2, 1, 0)
    arrays = {
        "output": outputs.astype(np.float16 if half else np.float32),
        "constants": constants.astype(np.float32),
        "mean": np.ascontiguousarray(model.mean.T),
        "basis": np.ascontiguousarray(by_axis, np.float16 if basis_half else np.float32),
        "matrices": np.ascontiguousarray(matrices, np.float64),
    }
    points, marks = device.run(
        *("decode_coefficients", results_of(len(outputs), count), arrays),
        **{"half": half, "basis_half": basis_half, "pose_count": output.pose_count, "n": len(outputs), "count": count},
        coefficient_count=columns.shape[1],
    )
    assert marks.tolist() == marks_of(points)
    return points


def exact(model, spec, outputs, matrices) -> np.ndarray:
    pairs = zip(outputs, matrices, strict=True)
    return np.stack([decode_numpy(output, matrix, model, spec)[0] for output, matrix in pairs])


@pytest.mark.parametrize("pose_count", [12, 0])
@pytest.mark.parametrize("split", [(40, 10), (1, 0), (199, 29)])
@pytest.mark.parametrize("half", [False, True], ids=["float", "half"])
def test_kernel_is_the_definition_and_the_decoder(device, pose_count, split, half):
    model = random_model(300, *split)
    spec = spec_for(model, pose_count)
    outputs = outputs_for(spec, 3)
    outputs = outputs.astype(np.float16).astype(np.float32) if half else outputs
    found = decode(device, model, spec, outputs, MATRICES, half)
    assert np.abs(found - exact(model, spec, outputs, MATRICES)).max() < 5e-3
    native = np.stack([mesh[0] for mesh in Decoder(model, spec).batch(outputs, list(MATRICES))])
    assert np.abs(found - native).max() < 5e-3


def test_basis_in_half_precision(device):
    model = random_model(70, 6, 2)
    spec = spec_for(model)
    outputs = outputs_for(spec, 2)
    found = decode(device, model, spec, outputs, MATRICES[:2], basis_half=True)
    rounded = model.basis.astype(np.float16).astype(np.float32)
    expected = decode(device, model, spec, outputs, MATRICES[:2], basis=rounded)
    np.testing.assert_array_equal(found, expected)
    assert 0 < np.abs(found - exact(model, spec, outputs, MATRICES[:2])).max() < 0.3


@pytest.mark.parametrize("faces", [1, 2, 3, 4, 5, 8, 9])
def test_faces_do_not_depend_on_their_neighbours(device, faces):
    model = random_model(130, 5, 3)
    spec = spec_for(model)
    outputs, matrices = outputs_for(spec, 9)[:faces], MATRICES[np.arange(faces) % 3]
    together = decode(device, model, spec, outputs, matrices)
    for face in range(faces):
        alone = decode(device, model, spec, outputs[face : face + 1], matrices[face : face + 1])
        np.testing.assert_array_equal(together[face], alone[0])
    assert len(np.unique(together[:, 0], axis=0)) == faces


@pytest.mark.parametrize("count", [1, 255, 256, 257, 600])
def test_any_number_of_points(device, count):
    model = random_model(count, 3, 1)
    spec = spec_for(model)
    outputs = outputs_for(spec, 5)
    matrices = MATRICES[[0, 1, 2, 0, 1]]
    found = decode(device, model, spec, outputs, matrices)
    assert np.abs(found - exact(model, spec, outputs, matrices)).max() < 5e-3


def test_far_from_the_origin(device):
    """The place in the frame costs no accuracy beyond float32's own steps."""
    model = random_model(64, 3, 1)
    spec = spec_for(model)
    outputs = outputs_for(spec, 1)
    for angle in range(0, 360, 45):
        cos, sin = 0.3 * np.cos(np.radians(angle)), 0.3 * np.sin(np.radians(angle))
        linear = np.array([[cos, -sin], [sin, cos]])
        matrix = np.column_stack([linear, [60, 60] - linear @ [4903.7, 5001.3]])[None]
        found = decode(device, model, spec, outputs, matrix)
        assert np.abs(found - exact(model, spec, outputs, matrix)).max() < 2e-3


BUFFERS = ("output", "constants", "mean", "basis", "matrices", "out")
GOOD = {
    **dict.fromkeys((*BUFFERS, "not_finite"), 64),
    "stream": 0,
    **{"half": False, "basis_half": False, "pose_count": 12, "coefficient_count": 50, "n": 1, "count": 1},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(({name: 0}, f"{name} is a null pointer") for name in (*BUFFERS, "not_finite")),
        *(({name: 66}, f"{name} must lie on a") for name in BUFFERS),
        ({"output": 65, "half": True}, "output must lie on a 2-byte boundary"),
        ({"basis": 65, "basis_half": True}, "basis must lie on a 2-byte boundary"),
        ({"pose_count": 6}, "pose_count must be 12 or 0, is 6"),
        ({"coefficient_count": 0}, "coefficient_count must be 1..512, is 0"),
        ({"coefficient_count": 513}, "coefficient_count must be 1..512, is 513"),
        ({"n": 0}, "n must be 1.."),
        ({"count": 0}, "count must be 1.."),
    ],
)
def test_impossible_arguments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        _native.host_kernels.decode_coefficients(**GOOD | change)
