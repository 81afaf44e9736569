"""The crop rule, its antialiasing, and the native path against the OpenCV one."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from runtime import _native
from runtime.errors import FaceMeshError
from runtime.geometry.crop import (
    check_matrix,
    crop_into,
    crop_matrix,
    crop_roll_deg,
    draw_landmarks,
    landmark_box,
    longer_side_crop_matrix,
    turned_crop,
    upright_box,
    warp_crop,
)
from runtime.models.shipped import ASSETS


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return cv2.imread(str(ASSETS / "astronaut.jpg"))


@pytest.fixture(scope="module")
def frame(photo) -> np.ndarray:
    """A 720p frame with a lot of texture."""
    return np.ascontiguousarray(cv2.resize(photo, (1280, 1280), interpolation=cv2.INTER_CUBIC)[100:820])


def rotated(matrix: np.ndarray, degrees: float) -> np.ndarray:
    """``matrix`` followed by a turn around the crop's origin."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]]) @ matrix


def as_levels(tensor: np.ndarray, spec) -> np.ndarray:
    """Network input -> (S, S, 3) in 0..255, BGR."""
    low, high = spec.value_range
    levels = (tensor - low) * 255 / (high - low)
    levels = levels if spec.layout == "NHWC" else levels.transpose(1, 2, 0)
    return levels if spec.colour_order == "BGR" else levels[..., ::-1]


def test_crop_matrix_is_prnets_rule():
    """PRNet's api.py estimates a similarity from three corners of the square to (0, 0), (0, S-1), (S-1, 0)."""
    x1, y1, x2, y2 = 100.0, 50.0, 180.0, 170.0
    side, cx, cy = 1.6 * (80 + 120) / 2, 140.0, 110.0
    corners = np.float32(
        [[cx - side / 2, cy - side / 2], [cx - side / 2, cy + side / 2], [cx + side / 2, cy - side / 2]]
    )
    expected = cv2.getAffineTransform(corners, np.float32([[0, 0], [0, 255], [255, 0]]))
    assert crop_matrix((x1, y1, x2, y2), 1.6, 256) == pytest.approx(expected, abs=1e-9)


def test_longer_side_rule_is_3ddfas():
    """The square has 1.5 times the longer side, 60, round the middle (40, 60): its edges go to those of the crop."""
    matrix = longer_side_crop_matrix([10, 40, 70, 80], 1.5, 30)
    for corner, expected in (((-5, 15), (-0.5, -0.5)), ((85, 105), (29.5, 29.5)), ((40, 60), (14.5, 14.5))):
        np.testing.assert_allclose(matrix @ [*corner, 1], expected, atol=1e-12)


def test_scale_of_a_matrix_that_turns():
    for roll in (0.0, 0.4, 2.0):
        turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        assert check_matrix(np.column_stack([0.5 * turn, [3, 4]])) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "box",
    [
        (10, 10, 10, 20),
        (10, 10, 20, 10),
        (20, 10, 10, 20),
        (0, 0, np.nan, 5),
        (0, 0, np.inf, 5),
        (-np.inf, 0, 5, 5),
        (0, 0, 1e9, 1e9),
    ],
    ids=["no width", "no height", "reversed", "nan", "inf", "-inf", "absurd"],
)
def test_degenerate_boxes_are_refused(box):
    with pytest.raises(FaceMeshError, match=r"not a box, .*; give x1,y1,x2,y2 in pixels"):
        crop_matrix(box, 1.6, 128)


def test_box_of_wrong_shape_is_a_programming_error():
    with pytest.raises(ValueError, match=r"must have shape \(4,\)"):
        crop_matrix([1, 2, 3], 1.6, 128)


def test_identity_crop_copies_pixels_and_pads_with_black(photo):
    crop = warp_crop(photo, np.array([[1.0, 0, -480], [0, 1.0, -10]]), 64)
    assert np.array_equal(crop[:, :32], photo[10:74, 480:512])
    assert not crop[:, 32:].any()


@pytest.mark.parametrize("shrink", [2, 3, 5, 8])
def test_shrinking_averages_whole_blocks(photo, shrink):
    """Where the crop's pixels are blocks of n x n frame pixels, each is their mean."""
    matrix = np.array([[1 / shrink, 0, -(shrink - 1) / 2 / shrink], [0, 1 / shrink, -(shrink - 1) / 2 / shrink]])
    blocks = photo[: 48 * shrink, : 48 * shrink].reshape(48, shrink, 48, shrink, 3).mean(axis=(1, 3))
    assert np.abs(warp_crop(photo, matrix, 48) - blocks).max() <= 0.51


def by_the_rule(image: np.ndarray, shrink: float, samples: int, offset: float) -> np.ndarray:
    """The crop (16, 16, 3) in NumPy: means of n x n bilinear samples at the centres of equal parts of a pixel."""
    parts = (np.arange(samples) + 0.5) / samples - 0.5
    places = ((np.arange(16)[:, None] + parts - offset) * shrink).ravel()
    down, across = (np.maximum(0, 1 - np.abs(places[:, None] - np.arange(side))) for side in image.shape[:2])
    channels = np.moveaxis(image.astype(np.float64), 2, 0)  # black outside
    fine = np.stack([down @ channel @ across.T for channel in channels], axis=2)
    return fine.reshape(16, samples, 16, samples, 3).mean(axis=(1, 3))


def crop_of_levels(image: np.ndarray, shrink: float, offset: float, make_spec) -> np.ndarray:
    spec = dataclasses.replace(make_spec(layout="NHWC", colour_order="BGR", value_range=(0.0, 255.0)).input, size=16)
    out = np.empty((16, 16, 3), np.float32)
    crop_into(image, np.array([[1 / shrink, 0, offset], [0, 1 / shrink, offset]]), spec, out)
    return out


@pytest.mark.parametrize(("shrink", "samples"), [(1.4, 1), (1.6, 2), (3.2, 3), (8.4, 8), (13.0, 8)])
def test_a_crop_pixel_is_the_mean_of_as_many_samples_as_the_rule_says(make_spec, shrink, samples):
    """n = round(shrink), at most 8."""
    noise = np.random.default_rng(0).integers(0, 256, (260, 260, 3), np.uint8)
    expected = by_the_rule(noise, shrink, samples, 1.3)
    matrix = np.array([[1 / shrink, 0, 1.3], [0, 1 / shrink, 1.3]])
    assert np.abs(warp_crop(noise, matrix, 16) - expected).max() < 8  # OpenCV places samples in 1/32 of a pixel
    out = crop_of_levels(noise, shrink, 1.3, make_spec)
    np.testing.assert_allclose(out, expected, atol=0.1)
    assert np.abs(out - np.rint(out)).max() > 0.1  # nothing was rounded to levels in between


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8, 9])
def test_crops_of_tiny_pictures_follow_the_rule(make_spec, height, width):
    """Pictures that are smaller than the window of a crop pixel."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    for shrink, samples in ((0.4, 1), (1.6, 2), (2.3, 2), (3.2, 3), (4.4, 4)):
        for offset in (-0.7, 0.0, 1.3, 7.5):
            out = crop_of_levels(noise, shrink, offset, make_spec)
            np.testing.assert_allclose(out, by_the_rule(noise, shrink, samples, offset), atol=0.1)


@pytest.mark.parametrize("size", range(1, 18))
def test_a_crop_of_any_side_fills_its_planes_alone(photo, make_spec, size):
    """Planes are written in blocks of eight pixels, where they are as long, and pixels one by one."""
    planes, pixels = (
        dataclasses.replace(make_spec(layout=layout, colour_order="BGR", value_range=(0.0, 255.0)).input, size=size)
        for layout in ("NCHW", "NHWC")
    )
    matrix = crop_matrix((200, 50, 300, 150), 1.6, max(size, 2))
    memory, expected = np.full(3 * size * size + 32, 999, np.float32), np.empty((size, size, 3), np.float32)
    out = memory[16:-16].reshape(3, size, size)
    crop_into(photo, matrix, planes, out)
    crop_into(photo, matrix, pixels, expected)
    np.testing.assert_allclose(out.transpose(1, 2, 0), expected, atol=0.1)
    assert (memory[:16] == 999).all()
    assert (memory[-16:] == 999).all()


@pytest.mark.parametrize("colour_order", ["BGR", "RGB"])
def test_a_landmark_channel_is_drawn_beside_the_colours(photo, make_spec, colour_order):
    plain = make_spec(layout="NCHW", colour_order=colour_order).input
    spec = dataclasses.replace(plain, landmark_channel=True)
    matrix = crop_matrix((200, 50, 300, 150), 1.6, spec.size)
    out, colours = np.full(spec.shape, 7, np.float32), np.empty(plain.shape, np.float32)
    crop_into(photo, matrix, spec, out)
    crop_into(photo, matrix, plain, colours)
    np.testing.assert_array_equal(out[:3], colours)
    assert (out[3] == 7).all()
    landmarks = np.random.default_rng(0).uniform(210, 290, (68, 3)).astype(np.float32)
    draw_landmarks(landmarks, matrix, out)
    single = [17, 19, 21, 22, 24, 26, 36, 39, 42, 45, 31, 30, 35, 48, 54]
    pairs = [(37, 40), (43, 46), (62, 66)]  # lids and lips: their middle
    points = np.array([*landmarks[single, :2], *(landmarks[[a, b], :2].mean(axis=0) for a, b in pairs)])
    columns, rows = np.clip(np.floor(points @ matrix[:, :2].T + matrix[:, 2] + 0.5), 1, spec.size - 1).astype(int).T
    expected = np.full(out[3].shape, -1, np.float32)
    expected[rows, columns] = 1
    np.testing.assert_array_equal(out[3], expected)
    np.testing.assert_array_equal(out[:3], colours)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((4, 5, 3), np.float32), r"is float32 of shape \(4, 5, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), r"is uint8 of shape \(0, 5, 3\)"),
        (None, "is NoneType"),
    ],
    ids=["floats", "empty", "none"],
)
def test_warp_crop_refuses_what_is_no_picture(image, found):
    with pytest.raises(ValueError, match=rf"the image must be \(H, W, 3\) uint8 BGR and not empty, {found}"):
        warp_crop(image, np.eye(2, 3), 8)


def test_out_of_warp_crop_is_filled(photo):
    for width in (40, 200):
        out = np.zeros((64, 64, 3), np.uint8)
        matrix = crop_matrix((200, 50, 200 + width, 50 + width), 1.6, 64)
        assert np.array_equal(warp_crop(photo, matrix, 64, out), warp_crop(photo, matrix, 64))
        assert np.array_equal(out, warp_crop(photo, matrix, 64))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("colour_order", ["BGR", "RGB"])
@pytest.mark.parametrize("width", [40, 85, 150, 300, 520, 900])
@pytest.mark.parametrize("centre", [(660, 300), (20, 700), (1270, 5)], ids=["inside", "left bottom", "right top"])
def test_native_crop_agrees_with_opencv(frame, make_spec, layout, colour_order, width, centre):
    spec = make_spec(layout=layout, colour_order=colour_order, value_range=(-0.5, 2.0)).input
    cx, cy = centre
    matrix = crop_matrix((cx - width / 2, cy - width / 2, cx + width / 2, cy + width / 2), 1.6, spec.size)
    out = np.full((3, 128, 128) if layout == "NCHW" else (128, 128, 3), np.nan, np.float32)
    crop_into(frame, matrix, spec, out)
    difference = np.abs(as_levels(out, spec) - warp_crop(frame, matrix, spec.size))
    assert np.quantile(difference, 0.999) <= 1.0
    assert difference.mean() < 0.35  # OpenCV rounds twice; a shift by a tenth of a pixel would show here


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("colour_order", ["BGR", "RGB"])
def test_rotated_crop_is_opencvs_in_the_specs_form(frame, make_spec, layout, colour_order):
    spec = make_spec(layout=layout, colour_order=colour_order).input
    matrix = rotated(crop_matrix((500, 200, 560, 270), 1.6, spec.size), 20)
    out = np.empty((3, 128, 128) if layout == "NCHW" else (128, 128, 3), np.float32)
    crop_into(frame, matrix, spec, out)
    difference = np.abs(as_levels(out, spec) - warp_crop(frame, matrix, 128))
    assert difference.max() <= 1.001  # OpenCV before 5 takes its samples at 1/32 px
    assert difference.mean() < 0.3


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("colour_order", ["BGR", "RGB"])
@pytest.mark.parametrize("degrees", [13, 45, -100, 180])
@pytest.mark.parametrize("box", [(500, 200, 700, 420), (400, 100, 900, 600), (-60, 500, 200, 760)])
def test_rotated_crop_that_shrinks_is_the_rules_but_for_sharp_edges(
    frame, make_spec, layout, colour_order, degrees, box
):
    """It takes other samples; where the picture has no finer structure than they, no level differs."""
    spec = make_spec(layout=layout, colour_order=colour_order).input
    matrix = rotated(crop_matrix(box, 1.6, spec.size), degrees)
    out = np.empty((3, 128, 128) if layout == "NCHW" else (128, 128, 3), np.float32)
    inside = warp_crop(np.full_like(frame, 255), matrix, 128).min(axis=2) == 255
    for picture, mean, most in ((frame, 2.0, 120.0), (cv2.GaussianBlur(frame, (0, 0), 8), 0.4, 3.0)):
        crop_into(picture, matrix, spec, out)
        difference = np.abs(as_levels(out, spec) - warp_crop(picture, matrix, 128))
        inner = cv2.erode(inside.astype(np.uint8), np.ones((5, 5))).astype(bool)
        assert difference[inner].sum() <= mean * difference[inner].size
        assert difference[inner].max(initial=0) < most
    outside = cv2.dilate(warp_crop(np.full_like(frame, 255), matrix, 128).max(axis=2), np.ones((5, 5))) == 0
    assert (np.abs(as_levels(out, spec))[outside] < 1e-3).all()


def test_rotated_crops_in_threads_do_not_share_memory(frame, make_spec):
    spec = make_spec().input
    matrices = [rotated(crop_matrix((500 + 9 * n, 200, 700 + 9 * n, 420), 1.6, spec.size), 20 + n) for n in range(8)]

    def cropped(matrix):
        out = np.empty((3, 128, 128), np.float32)
        for _ in range(10):
            crop_into(frame, matrix, spec, out)
        return out

    expected = [cropped(matrix) for matrix in matrices]
    with ThreadPoolExecutor(4) as pool:
        for out, other in zip(pool.map(cropped, matrices), expected, strict=True):
            np.testing.assert_array_equal(out, other)


def test_value_range_meets_its_ends(make_spec):
    spec = make_spec(input_size=16, value_range=(-0.99609375, 0.99609375)).input
    out = np.empty((3, 16, 16), np.float32)
    for level, value in ((0, -0.99609375), (255, 0.99609375)):
        crop_into(np.full((40, 40, 3), level, np.uint8), crop_matrix((10, 10, 20, 20), 1.0, 16), spec, out)
        assert out == pytest.approx(value, abs=1e-4)


def test_box_outside_the_picture_gives_black(frame, make_spec):
    spec = make_spec(value_range=(-1.0, 1.0)).input
    out = np.empty((3, 128, 128), np.float32)
    for box in ((5000, 5000, 5200, 5200), (-900, 0, -500, 300), (-1e6, -1e6, -9e5, -9e5)):
        crop_into(frame, crop_matrix(box, 1.6, 128), spec, out)
        assert np.all(out == -1)


def test_tiny_and_strided_pictures(frame, make_spec):
    spec = make_spec().input
    out, region = np.empty((2, 3, 128, 128), np.float32), frame[10:500, 30:900]
    crop_into(np.full((1, 1, 3), 200, np.uint8), crop_matrix((-1, -1, 1, 1), 1.6, 128), spec, out[0])
    assert out[0].max() == pytest.approx(200 * 2 / 255 - 1, abs=0.05)  # no crop pixel hits its centre
    matrix = crop_matrix((200, 100, 400, 330), 1.6, 128)
    for picture in (region, region[:, ::-1], region[::-1]):  # a view with far rows, backward pixels, backward rows
        crop_into(picture, matrix, spec, out[0])
        crop_into(np.ascontiguousarray(picture), matrix, spec, out[1])
        assert np.array_equal(out[0], out[1])


@pytest.mark.parametrize(
    ("image", "out", "matrix", "message"),
    [
        (
            np.zeros((9, 9), np.uint8),
            np.zeros((3, 128, 128), np.float32),
            np.eye(2, 3),
            r"image must be \(H, W, 3\) uint8",
        ),
        (
            np.zeros((9, 9, 4), np.uint8),
            np.zeros((3, 128, 128), np.float32),
            np.eye(2, 3),
            r"image must be \(H, W, 3\) uint8",
        ),
        (
            np.zeros((9, 9, 3), np.uint16),
            np.zeros((3, 128, 128), np.float32),
            np.eye(2, 3),
            r"image must be \(H, W, 3\) uint8",
        ),
        (np.zeros((0, 9, 3), np.uint8), np.zeros((3, 128, 128), np.float32), np.eye(2, 3), "not empty"),
        (
            np.zeros((9, 9, 3), np.uint8),
            np.zeros((3, 128, 128), np.float64),
            np.eye(2, 3),
            "contiguous writable float32",
        ),
        (
            np.zeros((9, 9, 3), np.uint8),
            np.zeros((3, 128, 256), np.float32)[..., ::2],
            np.eye(2, 3),
            "contiguous writable float32",
        ),
        (np.zeros((9, 9, 3), np.uint8), np.zeros((3, 64, 64), np.float32), np.eye(2, 3), r"float32 \(3, 128, 128\)"),
        (np.zeros((9, 9, 3), np.uint8), np.zeros((128, 128, 3), np.float32), np.eye(2, 3), r"float32 \(3, 128, 128\)"),
        (np.zeros((9, 9, 3), np.uint8), np.zeros((3, 128, 128), np.float32), np.zeros((2, 3)), "singular"),
        (
            np.zeros((9, 9, 3), np.uint8),
            np.zeros((3, 128, 128), np.float32),
            np.full((2, 3), np.nan),
            "singular or not finite",
        ),
        (np.zeros((9, 9, 3), np.uint8), np.zeros((3, 128, 128), np.float32), np.eye(3), r"must be \(2, 3\) float64"),
        (
            np.zeros((9, 9, 3), np.uint8),
            np.zeros((3, 128, 128), np.float32),
            np.eye(2, 3, dtype=np.float32),
            r"must be \(2, 3\) float64",
        ),
    ],
)
def test_crop_into_refuses_what_does_not_fit(make_spec, image, out, matrix, message):
    with pytest.raises(ValueError, match=message):
        crop_into(image, matrix, make_spec().input, out)


@pytest.mark.parametrize("degrees", [0, 30])
def test_a_crop_is_not_written_into_what_is_read_only(make_spec, degrees):
    out = np.zeros((3, 128, 128), np.float32)
    out.setflags(write=False)
    with pytest.raises(ValueError, match=r"out must be a contiguous writable float32 \(3, 128, 128\)"):
        crop_into(np.zeros((9, 9, 3), np.uint8), rotated(np.eye(2, 3), degrees), make_spec().input, out)


@pytest.mark.parametrize("shift", [(np.inf, 0), (0, -np.inf), (np.nan, 0), (np.inf, -np.inf), (np.inf, np.inf)])
def test_a_matrix_that_shifts_to_infinity_is_refused(shift):
    with pytest.raises(ValueError, match="the crop matrix is singular or not finite"):
        check_matrix(np.column_stack([np.eye(2), shift]))


def test_native_functions_check_for_themselves():
    image, out = np.zeros((9, 9, 3), np.uint8), np.zeros((3, 8, 8), np.float32)
    for matrix in (np.zeros((2, 3)), -np.eye(2, 3), np.array([[1, 0.1, 0], [0, 1, 0]])):
        assert not _native.crop_axis_aligned(image, matrix, 1, out, False, False, 0.0, 1.0)
    for matrix in (np.array([[1, 0, np.nan], [0, 1, 0]]), 1e-200 * np.eye(2, 3), np.inf * np.ones((2, 3))):
        matrix[0, 1] = matrix[1, 0] = 0
        with pytest.raises(ValueError, match="crop_axis_aligned: the matrix must be finite"):
            _native.crop_axis_aligned(image, matrix, 1, out, False, False, 0.0, 1.0)
    assert not out.any()
    with pytest.raises(ValueError, match="samples"):
        _native.crop_axis_aligned(image, np.eye(2, 3), 0, out, False, False, 0.0, 1.0)
    with pytest.raises(ValueError, match="out must be"):
        _native.finish_crop(image, out, True, False, 0.0, 1.0)
    with pytest.raises(ValueError, match="same side"):
        _native.finish_crop(image, out, False, False, 0.0, 1.0)
    with pytest.raises(TypeError):
        _native.finish_crop(image.astype(np.float32), out, False, False, 0.0, 1.0)


@pytest.mark.parametrize("roll", [-170, -90, 30, 90, 180])
def test_turned_crop_shows_a_turned_face_upright(photo, roll):
    """The photograph is turned clockwise about a pixel of it; the crop turned about the same pixel shows the same."""
    centre = (225.0, 133.0)
    turn = cv2.getRotationMatrix2D(centre, -roll, 1.0)
    upright = crop_matrix((180, 85, 270, 180), 1.5, 128)
    turned = turned_crop(upright, centre, roll)
    expected = warp_crop(photo, upright, 128).astype(int)
    found = warp_crop(cv2.warpAffine(photo, turn, photo.shape[1::-1], flags=cv2.INTER_CUBIC), turned, 128)
    assert np.abs(found[16:112, 16:112] - expected[16:112, 16:112]).mean() < 4
    assert crop_roll_deg(turned) == pytest.approx(roll)
    points = np.array([[200.0, 100], [250, 170]])
    on_turned = points @ turn[:, :2].T + turn[:, 2]
    flat = np.column_stack([on_turned, np.zeros(2)]).astype(np.float32)
    middle, width, height = upright_box(flat, roll)
    np.testing.assert_allclose(middle, on_turned.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose([width, height], np.ptp(points, axis=0), rtol=1e-5)
    np.testing.assert_allclose(landmark_box(flat), [*on_turned.min(axis=0), *on_turned.max(axis=0)], rtol=1e-6)
    np.testing.assert_allclose(
        on_turned @ turned[:, :2].T + turned[:, 2], points @ upright[:, :2].T + upright[:, 2], atol=1e-9
    )


def test_crop_that_is_not_turned_stays_the_same_matrix():
    """So that it keeps its native path."""
    matrix = crop_matrix((180, 85, 270, 180), 1.5, 128)
    assert turned_crop(matrix, (3, 4), 0) is matrix
    assert crop_roll_deg(matrix) == 0
