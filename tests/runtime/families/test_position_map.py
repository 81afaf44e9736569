"""The decoder: native against NumPy, both against first principles and against PRNet's own lines."""

from __future__ import annotations

import time
from contextlib import nullcontext
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from runtime import _native
from runtime.families import position_map
from runtime.families.position_map import Decoder, PositionMapFamily, PositionMapOutput, decode_numpy
from runtime.families.uv_topology import UVTopology
from runtime.geometry.crop import crop_matrix


def smooth_map(spec, seed: int = 0) -> np.ndarray:
    """A position map as a network gives it: smooth, values 0..1, in the spec's layout."""
    rng = np.random.default_rng(seed)
    side = spec.output.size
    grid = cv2.resize(
        rng.random((6, 6, 3), dtype=np.float32), (side, side), interpolation=cv2.INTER_CUBIC
    ) + 0.01 * rng.random((side, side, 3))
    return np.ascontiguousarray(grid if spec.input.layout == "NHWC" else grid.transpose(2, 0, 1), dtype=np.float32)


def similarity(box, size: int, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]]) @ crop_matrix(box, 1.6, size)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("map_size", [8, 64, 100, 128, 255, 256, 300, 512])
@pytest.mark.parametrize(
    ("box", "degrees"), [((310, 200, 470, 380), 0), ((500, 80, 620, 210), -37), ((4500, 4700, 4900, 4990), 110)]
)
def test_native_equals_numpy(topology, make_spec, layout, map_size, box, degrees):
    spec = make_spec(map_size=map_size, layout=layout)
    position_map, matrix = smooth_map(spec), similarity(box, spec.input.size, degrees)
    vertices, landmarks = Decoder(topology, spec)(position_map, matrix)
    expected_vertices, expected_landmarks = decode_numpy(position_map, matrix, topology, spec)
    one_place = np.spacing(np.abs(expected_vertices).max())  # float32 itself is coarser than 1e-4 px beyond 1024 px
    assert np.abs(vertices - expected_vertices).max() <= max(1e-4, one_place)
    assert np.abs(landmarks - expected_landmarks).max() <= max(1e-4, one_place)
    assert vertices.dtype == landmarks.dtype == np.float32
    assert vertices.shape == (43867, 3)
    assert landmarks.shape == (68, 3)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("map_size", [8, 16, 40])
def test_a_face_of_any_outline_and_a_mirrored_crop(make_spec, layout, map_size):
    """Rows that begin where the one above ends, with gaps and with single pixels; whole rows of the grid."""
    runs = [(0, 0, 5), (1, 5, 9), (2, 9, 16), (3, 0, 16), (4, 0, 16), (6, 2, 3), (6, 4, 7), (9, 7, 8), (15, 8, 16)]
    pixels = np.concatenate([np.arange(16 * row + first, 16 * row + end) for row, first, end in runs])
    landmarks = np.resize(pixels[::3], 68)
    topology = UVTopology(16, pixels, landmarks, np.zeros((0, 3), np.int32), np.zeros((len(pixels), 3)))
    spec = make_spec(map_size=map_size, layout=layout)
    upright = similarity((310, 200, 470, 380), spec.input.size, 20)
    for matrix in (upright, np.diag([-1.0, 1.0]) @ upright):
        found = Decoder(topology, spec)(smooth_map(spec), matrix)
        for points, expected in zip(found, decode_numpy(smooth_map(spec), matrix, topology, spec), strict=True):
            np.testing.assert_allclose(points, expected, atol=1e-3)


@pytest.mark.parametrize("map_size", [64, 100, 256])
def test_map_that_is_linear_in_its_grid_decodes_to_the_grid(topology, make_spec, map_size):
    """First principles: a map that says "UV pixel (u, v)" must give every vertex its own pixel, away from the
    clamped border."""
    spec = make_spec(map_size=map_size, input_size=256)
    centres = (np.arange(map_size) + 0.5) * 256 / map_size - 0.5
    u, v = np.meshgrid(centres, centres)
    position_map = (np.stack([u, v, u + v]) / spec.output.scale).astype(np.float32)
    vertices, _ = Decoder(topology, spec)(position_map, np.array([[2.0, 0, 30], [0, 2.0, -10]]))
    columns, rows = topology.face_indices % 256, topology.face_indices // 256
    border = 256 / map_size / 2
    inner = (np.minimum(columns, rows) >= border) & (np.maximum(columns, rows) <= 255 - border)
    expected = np.stack(
        [(columns - 30) / 2, (rows + 10) / 2, (columns + rows) / 2], axis=1
    )  # z is divided by the scale
    assert np.abs(vertices - expected)[inner].max() < 1e-3


def test_small_map_is_sampled_like_cv2_resize(topology, make_spec):
    spec = make_spec(map_size=64, layout="NHWC")
    position_map = smooth_map(spec)
    resized = cv2.resize(position_map * np.float32(spec.output.scale), (256, 256), interpolation=cv2.INTER_LINEAR)
    vertices, _ = Decoder(topology, spec)(position_map, np.eye(2, 3))
    assert np.abs(vertices - resized.reshape(-1, 3)[topology.face_indices]).max() < 1e-3


def prnet_lines(cropped_pos: np.ndarray, matrix: np.ndarray, topology) -> tuple[np.ndarray, np.ndarray]:
    """The lines of PRNet's ``api.py`` (process, get_landmarks, get_vertices), MIT, Copyright (c) 2018 Yao Feng."""
    tform = np.vstack([matrix, [0, 0, 1]])
    cropped_vertices = np.reshape(cropped_pos, [-1, 3]).T
    z = cropped_vertices[2, :].copy() / tform[0, 0]
    cropped_vertices[2, :] = 1
    vertices = np.dot(np.linalg.inv(tform), cropped_vertices)
    vertices = np.vstack((vertices[:2, :], z))
    pos = np.reshape(vertices.T, [256, 256, 3])
    kpt = pos[topology.landmark_indices // 256, topology.landmark_indices % 256, :]
    all_vertices = np.reshape(pos, [256**2, -1])
    return all_vertices[topology.face_indices, :], kpt


def test_agrees_with_prnet(topology, make_spec):
    spec = make_spec(map_size=256, input_size=256, layout="NHWC")
    position_map, matrix = smooth_map(spec), crop_matrix((310, 200, 470, 380), 1.6, 256)
    vertices, landmarks = Decoder(topology, spec)(position_map, matrix)
    expected_vertices, expected_landmarks = prnet_lines(position_map * spec.output.scale, matrix, topology)
    assert np.abs(vertices - expected_vertices).max() < 1e-3
    assert np.abs(landmarks - expected_landmarks).max() < 1e-3


def seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@pytest.mark.slow
@pytest.mark.parametrize("map_size", [64, 256])
def test_native_is_five_times_faster_than_prnets_lines(topology, make_spec, map_size):
    """Side by side, best of interleaved rounds: a busy machine slows both. PRNet's map is always 256 x 256."""
    spec, large = make_spec(map_size=map_size), make_spec(map_size=256, layout="NHWC")
    position_map, matrix = smooth_map(spec), crop_matrix((310, 200, 470, 380), 1.6, 128)
    decoder, prnet_map = Decoder(topology, spec), smooth_map(large)
    rounds = [
        (
            seconds(lambda: decoder(position_map, matrix)),
            seconds(lambda: prnet_lines(prnet_map.copy(), matrix, topology)),
        )
        for _ in range(60)
    ]
    native, prnet = (min(times) for times in zip(*rounds, strict=True))
    assert prnet / native >= 5, f"native {native * 1e3:.3f} ms, PRNet's lines {prnet * 1e3:.3f} ms"


def test_results_are_fresh_and_inputs_unchanged(topology, make_spec):
    spec = make_spec()
    position_map, matrix, decoder = (
        smooth_map(spec),
        crop_matrix((310, 200, 470, 380), 1.6, 128),
        Decoder(topology, spec),
    )
    before = position_map.copy()
    first, second = decoder(position_map, matrix), decoder(position_map, matrix)
    first[0][:] = 0
    first[1][:] = 0
    assert second[0].any()
    assert second[1].any()
    assert np.array_equal(position_map, before)


def test_arrays_outlive_the_decoder(topology, make_spec):
    spec = make_spec()
    vertices, _ = Decoder(topology, spec)(smooth_map(spec), np.eye(2, 3))
    expected, _ = decode_numpy(smooth_map(spec), np.eye(2, 3), topology, spec)
    assert np.abs(vertices - expected).max() < 1e-4


@pytest.mark.parametrize(
    "decode", [lambda t, s: Decoder(t, s), lambda t, s: lambda p, m: decode_numpy(p, m, t, s)], ids=["native", "numpy"]
)
@pytest.mark.parametrize(
    ("position_map", "matrix", "message"),
    [
        (np.zeros((64, 64, 3), np.float32), np.eye(2, 3), r"float32 \(3, 64, 64\)"),
        (np.zeros((3, 65, 64), np.float32), np.eye(2, 3), r"float32 \(3, 64, 64\)"),
        (np.zeros((3, 64, 64), np.float64), np.eye(2, 3), r"float32 \(3, 64, 64\)"),
        (np.zeros((3, 64, 128), np.float32)[..., ::2], np.eye(2, 3), "contiguous"),
        (np.zeros((3, 64, 64), np.float32), np.eye(3), r"must be \(2, 3\) float64"),
        (np.zeros((3, 64, 64), np.float32), np.eye(2, 3, dtype=np.float32), r"must be \(2, 3\) float64"),
        (np.zeros((3, 64, 64), np.float32), np.zeros((2, 3)), "singular"),
        (np.zeros((3, 64, 64), np.float32), np.array([[1.0, 2, 0], [2, 4, 0]]), "singular"),
        (np.zeros((3, 64, 64), np.float32), np.full((2, 3), np.nan), "singular or not finite"),
    ],
)
def test_wrong_arguments_are_refused(topology, make_spec, decode, position_map, matrix, message):
    with pytest.raises(ValueError, match=message):
        decode(topology, make_spec())(position_map, matrix)


def test_native_decoder_checks_its_indices():
    face, marks = np.array([3, 4, 9], np.int32), np.array([0, 2], np.int32)
    assert _native.Decoder(face, marks, 4, 4, False, 1.0)(np.zeros((3, 4, 4), np.float32), np.eye(2, 3))[0].shape == (
        3,
        3,
    )
    wrong = [
        (face, marks + 1, 4),
        (face[::-1].copy(), marks, 4),
        (face, marks, 3),
        (face - 4, marks, 4),
        (face, marks, 0),
    ]
    for bad_face, bad_marks, resolution in wrong:
        with pytest.raises(ValueError, match="decoder: "):
            _native.Decoder(bad_face, bad_marks, resolution, 4, False, 1.0)


@pytest.mark.parametrize(("layout", "shape"), [("NCHW", (3, 64, 64)), ("NHWC", (64, 64, 3))])
def test_an_output_is_fitted_to_a_square_map(layout, shape):
    output = PositionMapOutput("map", 256, 281.6)
    assert output.fitted("other", shape, layout) == PositionMapOutput("other", 64, 281.6)
    for wrong in (shape[::-1], shape[:2], (*shape, 1), (3, 64, 32), (64, 32, 3), (3, 3, 3), (4, 64, 64), ()):
        with pytest.raises(ValueError, match="a square map of 3 channels with a fixed side is wanted"):
            output.fitted("other", wrong, layout)


def test_bounds_of_an_output():
    for size, scale in ((8, 1e-6), (4096, 1.0)):
        assert PositionMapOutput("map", size, scale).shape("NCHW") == (3, size, size)
    for size, scale in ((7, 1.0), (4097, 1.0), (8, 0.0), (8, float("inf"))):
        with pytest.raises(ValueError, match=r"field output\.(size|scale) must be"):
            PositionMapOutput("map", size, scale)


def test_a_family_decodes_all_vertices_of_the_topology_it_is_given(make_spec):
    pixels = np.arange(68)
    topology = UVTopology(16, pixels, pixels, np.zeros((0, 3), np.int32), np.zeros((68, 3)))
    family = PositionMapFamily(make_spec(), topology)
    assert family.topology is topology
    face = smooth_map(make_spec())
    vertices, landmarks = family.decoder()(face, np.eye(2, 3))
    assert vertices.shape == (68, 3)
    without, alone = family.decoder(dense=False)(face, np.eye(2, 3))
    assert without.shape == (0, 3)
    np.testing.assert_array_equal(alone, landmarks)


def test_a_gpu_decoder_has_its_pixels_on_the_device_before_it_is_used(make_spec, topology, monkeypatch):
    log = []

    class Buffer:
        def __init__(self, cuda: object, nbytes: int, mapped: bool) -> None:
            self.array = np.zeros(nbytes, np.uint8)
            assert not mapped  # the kernel reads them for each face

        def upload(self, nbytes: int, stream: object) -> None:
            log.append(("upload", self.array.view(np.int32).copy()))

    stream = SimpleNamespace(synchronize=lambda: log.append(("synchronize", None)))
    cuda = SimpleNamespace(kernels=object(), stream=lambda: nullcontext(stream))
    monkeypatch.setattr(position_map, "StagedBuffer", Buffer)
    family = PositionMapFamily(make_spec(), topology)
    assert family.gpu_decoder(cuda, half=False).vertex_count == 43867
    (_, pixels), (after, _) = log
    assert after == "synchronize"
    np.testing.assert_array_equal(pixels, [*topology.face_indices, *topology.landmark_indices])
    assert family.gpu_decoder(SimpleNamespace(kernels=None), half=False) is None
