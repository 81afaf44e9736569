"""Crop, decode and the detector's rows as the GPU runs them: on the CPU everywhere, and on the GPU where there is one.

Both run the same tests. With a GPU, run the memory checker over the real ones too (`compute-sanitizer` comes with the
CUDA toolkit):

    compute-sanitizer --tool memcheck --report-api-errors no --error-exitcode 1 python -m pytest -m gpu
    tests/runtime/native/test_kernels.py

and again with ``--tool racecheck`` and ``--tool initcheck``.
"""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from runtime import _native
from runtime.detection.yunet_rows import candidates
from runtime.families.position_map import Decoder, decode_numpy
from runtime.geometry.crop import crop_into, crop_matrix, draw_landmarks, warp_crop
from runtime.models.detector_spec import STRIDES
from runtime.models.shipped import ASSETS
from tests.programs.kernel_memory import Device, Host, marks_of, real_device, results_of


@pytest.fixture(scope="module", params=["host", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "host":
        yield Host()
    else:
        with real_device() as cuda:
            yield Device(cuda)


# ---- crop


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    """A 720p frame with a lot of texture."""
    photo = cv2.imread(str(ASSETS / "astronaut.jpg"))
    return np.ascontiguousarray(cv2.resize(photo, (1280, 1280), interpolation=cv2.INTER_CUBIC)[100:820])


def similarity(centre, width: float, size: int, degrees: float = 0) -> np.ndarray:
    """The crop of a box of that width around ``centre``, then turned around the crop's centre."""
    (cx, cy), (c, s) = centre, (np.cos(np.radians(degrees)), np.sin(np.radians(degrees)))
    matrix = crop_matrix((cx - width / 2, cy - width / 2, cx + width / 2, cy + width / 2), 1.6, size)
    middle = np.full(2, (size - 1) / 2)
    turned = np.array([[c, -s], [s, c]]) @ matrix
    turned[:, 2] += middle - np.array([[c, -s], [s, c]]) @ middle
    return turned if degrees else matrix


def crop(device, image, matrices, spec, half: bool = False) -> np.ndarray:
    """(n, ...) network input in the spec's layout."""
    matrices = np.ascontiguousarray(np.reshape(matrices, (-1, 2, 3)), np.float64)
    n, size, channels_last = len(matrices), spec.size, spec.layout == "NHWC"
    out = np.empty((n, size, size, 3) if channels_last else (n, 3, size, size), np.float16 if half else np.float32)
    return device.run(
        *("crop", {"out": out}, {"frame": image, "matrices": matrices}),
        **{"height": image.shape[0], "width": image.shape[1], "row_stride": image.strides[0], "n": n},
        **{"out_height": size, "out_width": size},
        **{"channels_last": channels_last, "swap_colours": spec.colour_order == "RGB", "half": half},
        **dict(zip(("low", "high"), spec.value_range, strict=True)),
    )[0]


def levels_spec(make_spec, size: int):
    """The network input that is the crop itself: (S, S, 3) BGR, 0..255."""
    return make_spec(input_size=size, layout="NHWC", colour_order="BGR", value_range=(0.0, 255.0)).input


def exact_crop(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The crop rule in float64 and without any rounding: the mean of n x n bilinear samples per pixel, black outside
    the picture."""
    scale = np.sqrt(np.linalg.det(matrix[:, :2]))
    n = min(8, max(1, round(1 / scale)))
    v, u = (np.mgrid[0 : n * size, 0 : n * size] - (n - 1) / 2) / n
    linear = np.linalg.inv(matrix[:, :2])
    x, y = np.tensordot(linear, np.stack([u - matrix[0, 2], v - matrix[1, 2]]), axes=1)
    padded = np.zeros((image.shape[0] + 4, image.shape[1] + 4, 3))
    padded[2:-2, 2:-2] = image
    x, y = np.clip(x, -2, image.shape[1] + 0.999) + 2, np.clip(y, -2, image.shape[0] + 0.999) + 2
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = (x - left)[..., None], (y - top)[..., None]
    upper = padded[top, left] * (1 - right) + padded[top, left + 1] * right
    lower = padded[top + 1, left] * (1 - right) + padded[top + 1, left + 1] * right
    return (upper * (1 - bottom) + lower * bottom).reshape(size, n, size, n, 3).mean(axis=(1, 3))


@pytest.mark.parametrize("degrees", [0, 20, -115])
@pytest.mark.parametrize("width", [20, 60, 100, 160, 230, 330, 600])
@pytest.mark.parametrize("centre", [(660, 300), (20, 700), (1270, 5)], ids=["inside", "left bottom", "right top"])
def test_crop_is_the_rule_and_opencvs(device, frame, make_spec, centre, width, degrees):
    matrix = similarity(centre, width, 64, degrees)
    (out,) = crop(device, frame, matrix, levels_spec(make_spec, 64))
    assert np.abs(out - exact_crop(frame, matrix, 64)).max() <= 0.02
    difference = np.abs(out - warp_crop(frame, matrix, 64))
    assert np.quantile(difference, 0.999) <= 1.0
    assert difference.mean() < 0.3  # OpenCV rounds twice; a shift by a tenth of a pixel would show here


def wide_crop(device, image, matrix, size_wh, half: bool = False) -> np.ndarray:
    """(3, height, width) BGR planes of 0..255, as a detector takes them."""
    width, height = size_wh
    out = np.empty((1, 3, height, width), np.float16 if half else np.float32)
    return device.run(
        *("crop", {"out": out}, {"frame": image, "matrices": np.ascontiguousarray(matrix)}),
        **{"height": image.shape[0], "width": image.shape[1], "row_stride": image.strides[0], "n": 1},
        **{"out_height": height, "out_width": width, "channels_last": False, "swap_colours": False, "half": half},
        **{"low": 0.0, "high": 255.0},
    )[0][0]


@pytest.mark.parametrize("degrees", [0, 20, 90, -115])
@pytest.mark.parametrize("size_wh", [(96, 64), (64, 160), (33, 7)])
def test_crop_of_any_shape_is_a_part_of_the_square_one(device, frame, make_spec, size_wh, degrees):
    """Which lies round the same middle."""
    matrix, side = similarity((660, 300), 300, 160, degrees), 160
    (square,) = crop(device, frame, matrix, levels_spec(make_spec, side))
    (left, top) = ((side - each) // 2 for each in size_wh)
    matrix[:, 2] -= left, top
    planes = wide_crop(device, frame, matrix, size_wh)
    wanted = square[top : top + size_wh[1], left : left + size_wh[0]]
    assert np.abs(planes.transpose(1, 2, 0) - wanted).max() <= 0.02


@pytest.mark.parametrize("half", [False, True], ids=["float", "half"])
def test_crop_is_the_detectors_reduction(device, frame, half):
    """720p in the upper left corner of 640 x 384, black below, as OpenCV reduces it."""
    planes = wide_crop(device, frame, np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]]), (640, 384), half)
    wanted = cv2.resize(frame, (640, 360), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
    assert np.abs(planes[:, :360].astype(np.float32) - wanted).max() <= (0.63 if half else 0.51)
    assert (planes[:, 360:] == 0).all()


@pytest.mark.parametrize("half", [False, True], ids=["float", "half"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("colour_order", ["BGR", "RGB"])
def test_crop_of_several_faces_is_crop_intos_in_every_form(device, frame, make_spec, layout, colour_order, half):
    spec = make_spec(layout=layout, colour_order=colour_order, value_range=(-0.5, 2.0), input_size=100).input
    matrices = [similarity((660, 300), 300, 100), similarity((20, 700), 85, 100), similarity((400, 300), 55, 100, 33)]
    out = crop(device, frame, matrices, spec, half)
    expected = np.empty(out.shape, np.float32)
    for matrix, target in zip(matrices, expected, strict=True):
        crop_into(frame, matrix, spec, target)
    level = 2.5 / 255
    assert np.abs(out[:2] - expected[:2]).max() <= 0.05 * level + (
        2.0**-11 if half else 0
    )  # half's steps around 1 are 2^-10
    assert np.quantile(np.abs(out[2] - expected[2]), 0.999) <= level
    assert np.array_equal(out[1], crop(device, frame, matrices[1], spec, half)[0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (3, 2), (2, 3), (4, 3), (5, 4), (7, 9), (64, 65)])
def test_crop_of_tiny_pictures(device, frame, make_spec, shape):
    image = np.ascontiguousarray(frame[300 : 300 + shape[0], 600 : 600 + shape[1]])
    for width, degrees in ((max(shape), 0), (max(shape), 50), (shape[1] / 3, 0), (40 * max(shape), 10)):
        matrix = similarity((shape[1] / 2, shape[0] / 2), width, 33, degrees)
        (out,) = crop(device, image, matrix, levels_spec(make_spec, 33))
        assert np.abs(out - exact_crop(image, matrix, 33)).max() <= 0.02


@pytest.mark.parametrize("columns", [slice(32, 900), slice(4, 905), slice(0, 1279)])
def test_crop_of_a_region(device, frame, make_spec, columns):
    """Rows that lie apart, on every kind of address."""
    region, spec = frame[10:500, columns], levels_spec(make_spec, 64)
    assert region.ctypes.data % 4 == 0
    for centre, width in (((300, 200), 60), ((region.shape[1] - 5, 480), 150)):
        matrix = similarity(centre, width, 64, 7)
        assert np.array_equal(
            crop(device, region, matrix, spec), crop(device, np.ascontiguousarray(region), matrix, spec)
        )


def test_crop_far_from_the_origin(device, make_spec):
    """The place in the frame costs no accuracy."""
    image = np.zeros((5200, 5200, 3), np.uint8)
    image[4800:, 4700:] = np.random.default_rng(0).integers(0, 256, (400, 500, 3), np.uint8)
    for degrees in range(0, 360, 45):
        matrix = similarity((4903.7, 5001.3), 90 + degrees / 7, 64, degrees)
        (out,) = crop(device, image, matrix, levels_spec(make_spec, 64))
        matrix[:, 2] += matrix[:, :2] @ (4700, 4800)
        assert np.abs(out - exact_crop(image[4800:, 4700:], matrix, 64)).max() <= 0.02


@pytest.mark.parametrize(
    "matrix",
    [
        *(similarity(centre, 100, 48) for centre in ((5000, 5000), (-900, 100), (100, -900), (-9e5, 9e5))),
        np.zeros((2, 3)),
        np.full((2, 3), np.nan),
        np.full((2, 3), np.inf),
        np.array([[1, 0, np.nan], [0, 1, 0]]),
        np.array([[1, 0, 1e300], [0, 1, 0]]),
        np.array([[1, 0, -1e12], [0, 1, 0]]),
        np.array([[1e-300, 0, 0], [0, 1e-300, 0]]),
        np.array([[1e-5, 0, 24], [0, 1e-5, 24]]),
        np.array([[1.0, 2, 0], [2, 4, 0]]),
        np.array([[1e30, 0, 9e33], [0, 1e30, 9e33]]),
    ],
)
def test_crop_of_nothing_is_black(device, frame, make_spec, matrix):
    """Outside the picture, singular, not finite, or of a scale at which there is nothing to see."""
    spec = make_spec(input_size=48, value_range=(-1.0, 1.0)).input
    assert np.all(crop(device, frame, matrix, spec) == -1)


def test_a_crop_pixel_of_thousands_of_frame_pixels_is_black(device, make_spec):
    """Steps of more than 16,000 px in all would not fit into 32 bits, even where a sample meets the picture."""
    image, spec = np.full((700, 700, 3), 255, np.uint8), levels_spec(make_spec, 16)
    for width, is_black in ((7000, False), (20_000, True), (400_000, True)):
        middle = 350 + width / 16  # of the crop pixel: the samples lie an eighth of its width apart
        shift = 8 - middle / width
        out = crop(device, image, np.array([[1 / width, 0, shift], [0, 1 / width, shift]]), spec)
        assert (not out.any()) == is_black, width


def test_value_range_meets_its_ends(device, make_spec):
    spec = make_spec(input_size=16, value_range=(-0.99609375, 0.99609375)).input
    for width in (10, 100, 300):
        for level, value in ((0, -0.99609375), (255, 0.99609375)):
            image = np.full((700, 700, 3), level, np.uint8)
            assert crop(device, image, similarity((350, 350), width, 16, 12), spec) == pytest.approx(value, abs=1e-6)


# A frame whose first byte is the first of its page, then one whose last byte is the last, with forbidden pages around.
READS = """
import ctypes, mmap, sys
import numpy as np
from runtime import _native

libc, page = ctypes.CDLL(None), mmap.PAGESIZE
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
for height, width, stride in ((4, page, 3 * page), (4, 5, 15), (8, 7, 21), (1, 4, 12), (4, 3, 11), (3, 4, 12), (5, 4,
16)):
    nbytes = (height - 1) * stride + 3 * width
    pages = -(-nbytes // page)
    memory = mmap.mmap(-1, (pages + 2) * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(start, page, 0) == libc.mprotect(start + (pages + 1) * page, page, 0) == 0
    for first in {start + page, start + (pages + 1) * page - (nbytes + 3) // 4 * 4}:
        for scale in (0.13, 0.3, 0.5, 1.0, 3.0):
            for shear in (0.0, 0.2 * scale):
                matrix, out = np.array([[scale, -shear, 0.2], [shear, scale, 0.3]]), np.empty((3, 96, 96), np.float32)
                _native.host_kernels.crop(first, height, width, stride, matrix.ctypes.data, 1, out.ctypes.data, 96,
                96, False, False, 0, 1, False, 0)
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
def test_crop_reads_the_frame_alone():
    """A byte too far would be the process's end."""
    run = subprocess.run([sys.executable, "-c", READS], capture_output=True, text=True, timeout=600)
    assert (run.returncode, run.stdout.strip()) == (0, "done"), run.stderr


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        *(
            (0.0, 0x0000),
            (-0.0, 0x8000),
            (1.0, 0x3C00),
            (-2.0, 0xC000),
            (65504.0, 0x7BFF),
            (1e9, 0x7C00),
            (-1e9, 0xFC00),
        ),
        *((65519.996, 0x7BFF), (65520.0, 0x7C00)),  # half-way to 2^16 rounds up, to infinity
        *((1 + 2.0**-11, 0x3C00), (1 + 3 * 2.0**-11, 0x3C02), (1 + 2.0**-11 + 2.0**-20, 0x3C01)),  # ties go to even
        *(
            (2.0**-14, 0x0400),
            (2.0**-14 - 2.0**-24, 0x03FF),
            (2.0**-24, 0x0001),
            (1.5 * 2.0**-24, 0x0002),
            (2.5 * 2.0**-24, 0x0002),
        ),
        *((2.0**-25, 0x0000), (2.0**-25 + 2.0**-40, 0x0001), (-(2.0**-24), 0x8001), (1e-30, 0x0000)),
    ],
)
def test_rounding_to_half(device, frame, make_spec, value, bits):
    """A black crop is the low end of the value range, rounded."""
    spec = make_spec(input_size=8, value_range=(value, value + 1)).input
    assert np.all(crop(device, frame, np.zeros((2, 3)), spec, half=True).view(np.uint16) == bits)


# ---- decode


def smooth_map(spec, n: int = 1) -> np.ndarray:
    """(n, ...) position maps as a network gives them: smooth, values 0..1, in the spec's layout."""
    rng, side = np.random.default_rng(0), spec.output.size
    maps = np.stack(
        [cv2.resize(rng.random((6, 6, 3), np.float32), (side, side), interpolation=cv2.INTER_CUBIC) for _ in range(n)]
    )
    maps += 0.01 * rng.random(maps.shape, np.float32)
    return np.ascontiguousarray(maps if spec.input.layout == "NHWC" else maps.transpose(0, 3, 1, 2))


def decode(device, maps, matrices, spec, indices, resolution: int) -> np.ndarray:
    """(n, count, 3) points, whose marks are right."""
    matrices = np.ascontiguousarray(np.reshape(matrices, (-1, 2, 3)), np.float64)
    outputs = results_of(len(matrices), len(indices))
    points, marks = device.run(
        *("decode", outputs, {"map": maps, "matrices": matrices, "indices": indices}),
        **{
            "half": maps.dtype == np.float16,
            "map_size": spec.output.size,
            "channels_last": spec.input.layout == "NHWC",
        },
        **{"scale": spec.output.scale, "n": len(matrices), "count": len(indices), "resolution": resolution},
    )
    assert marks.tolist() == marks_of(points)
    return points


PLACES = [((390, 290), 170, 0), ((560, 145), 120, -37), ((4700, 4850), 390, 110), ((2500, 2500), 1500, 5)]


@pytest.mark.parametrize("half", [False, True], ids=["float", "half"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("map_size", [8, 64, 100, 256, 300])
@pytest.mark.parametrize(("centre", "width", "degrees"), PLACES, ids=["upright", "turned", "far", "large"])
def test_decode_is_numpys_and_the_decoders(device, topology, make_spec, layout, map_size, half, centre, width, degrees):
    spec = make_spec(map_size=map_size, layout=layout)
    maps = smooth_map(spec).astype(np.float16 if half else np.float32)
    matrix = similarity(centre, width, spec.input.size, degrees)
    vertices, landmarks = (
        decode(device, maps, matrix, spec, i, topology.resolution)[0]
        for i in (topology.face_indices, topology.landmark_indices)
    )
    expected = decode_numpy(maps[0].astype(np.float32), matrix, topology, spec)
    for points, reference, native in zip(
        (vertices, landmarks), expected, Decoder(topology, spec)(maps[0].astype(np.float32), matrix), strict=True
    ):
        assert points.shape == reference.shape
        assert np.abs(points - reference).max() <= max(
            2e-4, 4 * np.spacing(np.abs(reference).max())
        )  # float32's own steps from 4096 px on are 5e-4
        assert np.abs(points - native).max() <= 1e-3


def test_decode_of_a_mirrored_crop(device, topology, make_spec):
    spec = make_spec()
    matrix = np.diag([-1.0, 1.0]) @ similarity((390, 290), 170, spec.input.size, 5)
    (points,) = decode(device, smooth_map(spec), matrix, spec, topology.landmark_indices, topology.resolution)
    expected = decode_numpy(smooth_map(spec)[0], matrix, topology, spec)[1]
    np.testing.assert_allclose(points, expected, atol=1e-3)


def test_decode_of_several_faces(device, topology, make_spec):
    spec = make_spec()
    maps, matrices = (
        smooth_map(spec, 4),
        np.stack([similarity(centre, width, 128, degrees) for centre, width, degrees in PLACES]),
    )
    points = decode(device, maps, matrices, spec, topology.landmark_indices, topology.resolution)
    for one_map, matrix, result in zip(maps, matrices, points, strict=True):
        assert np.array_equal(
            result, decode(device, one_map, matrix, spec, topology.landmark_indices, topology.resolution)[0]
        )
    assert len(np.unique(points[:, 0], axis=0)) == 4


def test_decode_reads_every_half(device, make_spec):
    """z with the identity is the map's value: all 65,536 of them, infinities and subnormals too."""
    spec = make_spec(map_size=256, input_size=256)
    spec = spec.__class__(**{**vars(spec), "output": spec.output.__class__(spec.output.name, 256, 1.0)})
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    maps = np.zeros((1, 3, 256, 256), np.float16)
    maps[0, 2] = halves.reshape(256, 256)
    z = decode(device, maps, np.eye(2, 3), spec, np.arange(65536, dtype=np.int32), 256)[0, :, 2]
    assert np.array_equal(z, halves.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_decode_at_the_border_reads_no_further(device, make_spec, layout):
    spec = make_spec(map_size=20, layout=layout)
    maps = smooth_map(spec)
    grid = maps[0] if layout == "NHWC" else maps[0].transpose(1, 2, 0)
    grid[0] = grid[:, 0] = np.nan  # what lies behind the last column and the last row
    points = decode(device, maps, np.eye(2, 3), spec, np.arange(1600, dtype=np.int32), 40)[0].reshape(40, 40, 3)
    assert np.all(np.isfinite(points[3:, 3:]))
    assert np.all(np.isnan(points[0]))


@pytest.mark.parametrize("count", [1, 255, 256, 257])
def test_decode_of_any_number_in_any_order(device, make_spec, count):
    spec = make_spec(map_size=20)
    indices = np.random.default_rng(1).permutation(40 * 40)[:count].astype(np.int32)
    maps, matrix = smooth_map(spec), similarity((300, 200), 90, 128, 15)
    every = decode(device, maps, matrix, spec, np.arange(1600, dtype=np.int32), 40)[0]
    assert np.array_equal(decode(device, maps, matrix, spec, indices, 40)[0], every[indices])


@pytest.mark.parametrize("place", [0, 255, 256, 511, 512, 599])
def test_a_point_that_is_not_finite_marks_its_block_alone(device, make_spec, place):
    """`decode` holds the marks against the points."""
    spec = make_spec(map_size=40)
    maps = np.concatenate([smooth_map(spec)] * 2)
    maps[1].reshape(3, -1)[place % 3, place] = np.inf
    points = decode(device, maps, [np.eye(2, 3)] * 2, spec, np.arange(600, dtype=np.int32), 40)
    assert np.argwhere(~np.isfinite(points).all(axis=2)).tolist() == [[1, place]]


# ---- landmark channel


def test_landmark_channel(device, frame, make_spec):
    """The kernel draws what the CPU draws, beside the colours that it gives without a channel."""
    size, generator = 72, np.random.default_rng(0)
    matrices = np.stack([similarity((500 + 60 * face, 400), 300, size, 25 * face) for face in range(3)])
    landmarks = generator.uniform((350, 250, -9), (700, 560, 9), (3, 68, 3)).astype(np.float32)
    landmarks[1, 17] = np.nan
    for half in (False, True):
        kind = np.float16 if half else np.float32
        given = {"height": frame.shape[0], "width": frame.shape[1], "row_stride": frame.strides[0], "n": 3}
        given |= {"out_height": size, "out_width": size, "channels_last": False, "swap_colours": False}
        given |= {"half": half, "low": -1.0, "high": 1.0}
        arrays = {"frame": frame, "matrices": matrices}
        plain = device.run("crop", {"out": np.empty((3, 3, size, size), kind)}, arrays, **given)[0]
        found = device.run(
            "crop", {"out": np.empty((3, 4, size, size), kind)}, arrays | {"landmarks": landmarks}, **given
        )[0]
        np.testing.assert_array_equal(found[:, :3], plain)
        for face in range(3):
            expected = np.zeros((4, size, size), np.float32)
            draw_landmarks(landmarks[face], matrices[face], expected)
            np.testing.assert_array_equal(found[face, 3], expected[3])
            assert 10 <= (expected[3] == 1).sum() <= 18
    with pytest.raises(ValueError, match="landmarks must be 0 for channels_last"):
        _native.host_kernels.crop(
            *(4096, 8, 8, 24, 4096, 1, 4096, 8, 8, True, False, 0.0, 1.0, False, 0), landmarks=4096
        )


# ---- faces of YuNet's network


def levels_of(size_wh, half: bool, seed: int = 0) -> list[np.ndarray]:
    """Outputs of a network of random numbers, in which one place of eight or so holds a face, and some are equal."""
    generator, (width, height) = np.random.default_rng(seed), size_wh
    levels = []
    for stride in STRIDES:
        level = generator.normal(0, 1, (16, height // stride, width // stride))
        level[:2] = np.round(generator.normal(-0.5, 2, level[:2].shape), 1)
        levels.append(level.astype(np.float16 if half else np.float32))
    return levels


def face_rows(device, levels, threshold: float, most: int) -> tuple[int, np.ndarray]:
    """The count and the rows (N, 15) in the order of their places."""
    (_, height, width), out = levels[0].shape, np.zeros((1 + most, 16), np.float32)
    arrays = {f"stride_{stride}": level for stride, level in zip(STRIDES, levels, strict=True)}
    numbers = {"half": levels[0].dtype == np.float16, "height": 8 * height, "width": 8 * width}
    (found,) = device.run("face_rows", {"out": out}, arrays, keep=True, threshold=threshold, most=most, **numbers)
    count = int(found.view(np.int32)[0, 0])
    rows = found[1 : 1 + min(count, most)]
    rows = rows[np.argsort(rows.view(np.int32)[:, 15])]
    assert (np.diff(rows.view(np.int32)[:, 15]) > 0).all(), "a place comes twice"
    return count, rows[:, :15]


@pytest.mark.parametrize("half", [False, True], ids=["float", "half"])
@pytest.mark.parametrize("size_wh", [(640, 384), (32, 32), (96, 320)])
@pytest.mark.parametrize("threshold", [0.6, 0.85, 0.0, 1.0])
def test_faces_are_those_of_the_cpu(device, size_wh, half, threshold):
    levels = levels_of(size_wh, half)
    expected = candidates([level[None] for level in levels], threshold)
    count, rows = face_rows(device, levels, threshold, 8000)
    assert count == len(rows) == len(expected)
    if threshold in (0.6, 0.0):
        assert count > 0
    np.testing.assert_allclose(rows, expected, rtol=3e-7, atol=3e-5)


def test_no_more_faces_are_written_than_there_is_room_for(device):
    """The count tells of the others."""
    levels = levels_of((320, 320), False)
    every = candidates([level[None] for level in levels], 0.6)
    count, rows = face_rows(device, levels, 0.6, 5)
    assert count == len(every) > 5
    assert len(rows) == 5
    assert all((np.abs(every - row).max(axis=1) < 1e-4).any() for row in rows)


def test_numbers_that_are_none_are_no_faces(device):
    levels = levels_of((64, 64), False)
    for level in levels:
        level[:2] = -20
    levels[0][:2, 3, 4] = np.nan, 20
    levels[1][:2, 1, 2] = 20, np.nan
    assert face_rows(device, levels, 0.6, 10)[0] == 0
    levels[2][:2, 1, 1] = np.inf
    assert face_rows(device, levels, 0.6, 10)[0] == 1
