"""Perturbations: points move with what they mark, levels mean what their unit says, nothing near the face is lost."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks.robustness import perturbations
from benchmarks.robustness.conditions import CLEAN, KINDS, conditions
from benchmarks.robustness.perturbations import FacePicture
from runtime.errors import FaceMeshError

WIDTH, HEIGHT = 260, 210
LEVELS = [(kind.name, level) for kind in KINDS for level in kind.levels]
MOVING = {"clean", "roll", "size", "aspect", "cut-top", "cut-bottom", "cut-left", "cut-right"}
TINY = [("size", 16.0), ("size", 24.0), ("size", 32.0)]  # the spots run into each other
BY_NAME = {kind.name: kind for kind in KINDS}


def perturb(face, name, level, seed=0):
    return BY_NAME[name].perturb(face, level, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def dots():
    """68 smooth spots on dark grey, at fractions of pixels, in colours of their own."""
    generator = np.random.default_rng(3)
    column, row = np.meshgrid(np.arange(10), np.arange(7))
    points = np.stack([column.ravel() * 16 + 60, row.ravel() * 16 + 55], 1)[:68] + generator.uniform(-2, 2, (68, 2))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = np.full((HEIGHT, WIDTH, 3), 20.0)
    for number, point in enumerate(points):
        spot = np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * 1.8**2))
        image += spot[..., None] * np.array([210, 60 + 2 * number, 200 - 2 * number])
    return FacePicture(image.round().astype(np.uint8), points)


def spot_at(face, point, reach):
    """Return centroid (x, y) and colour of the spot around a point."""
    x, y = np.rint(point).astype(int)
    window = face.image[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].astype(float) - 20
    weight = np.clip(window.sum(axis=2), 0, None)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    centre = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    return centre + (max(0, x - reach), max(0, y - reach)), window.sum(axis=(0, 1)) / weight.sum()


@pytest.mark.parametrize(("name", "level"), [case for case in LEVELS if case[0] in MOVING and case not in TINY])
def test_points_move_with_the_picture(dots, name, level):
    moved = perturb(dots, name, level)
    scale = moved.image.shape[1] / dots.image.shape[1] if name in ("size", "aspect") else 1.0
    reach = max(2, round(5 * min(scale, 1 if name == "aspect" else scale)))
    height, width = moved.image.shape[:2]
    inside = ((moved.points > reach) & (moved.points < (width - 1 - reach, height - 1 - reach))).all(axis=1)
    assert inside.sum() >= (68 if name in ("clean", "roll", "size", "aspect") else 20)
    shifts = []
    for number in np.flatnonzero(inside):
        centre, colour = spot_at(moved, moved.points[number], reach)
        shifts.append(centre - moved.points[number])
        expected = np.array([210, 60 + 2 * number, 200 - 2 * number]) / 470
        np.testing.assert_allclose(colour, expected, atol=0.06)
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.03
    assert np.abs(shifts).max() < (0.3 if name == "aspect" else 0.05)  # stretched spots leave their windows


@pytest.mark.parametrize(("name", "level"), [case for case in LEVELS if case[0] not in MOVING])
def test_points_stay_where_pixels_do(dots, name, level):
    """For a spot in the middle of nothing: it stays the brightest, around the same place."""
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    cv2.circle(image, (130, 105), 15, (180, 180, 180), -1)
    face = FacePicture(image, dots.points)
    moved = perturb(face, name, level)
    assert moved.image.shape == image.shape
    np.testing.assert_array_equal(moved.points, dots.points)
    if name != "occlusion":
        grey = cv2.GaussianBlur(moved.image, (0, 0), 3).sum(axis=2).astype(float)
        weight = np.clip(grey - np.percentile(grey, 97), 0, None)
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        centre = (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()
        np.testing.assert_allclose(centre, (130, 105), atol=2.5)


@pytest.mark.parametrize("degrees", BY_NAME["roll"].levels)
def test_rolls_lose_nothing_and_turn_clockwise(dots, degrees):
    turned = perturb(dots, "roll", degrees)
    assert turned.image.sum(dtype=float) == pytest.approx(dots.image.sum(dtype=float), rel=0.01)
    before, after = (face.points[9] - face.points[0] for face in (dots, turned))  # along a row of spots
    clockwise = np.rad2deg(np.arctan2(after[1], after[0]) - np.arctan2(before[1], before[0])) % 360
    assert clockwise == pytest.approx(degrees, abs=1e-6)


def test_a_right_angle_is_exact(dots):
    turned = perturb(dots, "roll", 90.0)
    np.testing.assert_array_equal(turned.image, np.rot90(dots.image, -1))
    back = perturb(perturb(turned, "roll", 180.0), "roll", 90.0)
    np.testing.assert_array_equal(back.image, dots.image)
    np.testing.assert_allclose(back.points, dots.points)


@pytest.mark.parametrize("pixels", BY_NAME["size"].levels)
def test_size_is_that_of_the_face(dots, pixels):
    assert perturb(dots, "size", pixels).size_px == pytest.approx(pixels, rel=0.02)


def test_a_small_face_in_a_large_picture_is_refused_in_one_line():
    face = FacePicture(np.zeros((600, 600, 3), np.uint8), np.random.default_rng(0).uniform(0, 4, (68, 2)))
    with pytest.raises(
        FaceMeshError, match=r"600 x 600 px with a face of 4 px would become \d+ x \d+; leave 'size' out"
    ):
        perturb(face, "size", 400.0)


@pytest.mark.parametrize("factor", BY_NAME["aspect"].levels)
def test_aspect_stretches_x_alone(dots, factor):
    stretched = perturb(dots, "aspect", factor)
    width, height = (stretched.box_xyxy[2:] - stretched.box_xyxy[:2]) / (dots.box_xyxy[2:] - dots.box_xyxy[:2])
    assert (width, height) == (pytest.approx(factor, rel=0.01), pytest.approx(1))


def spread(name, level, points, seed=0):
    """Return the covariance (2, 2) px² of the light of one white pixel."""
    image = np.zeros((201, 201, 3), np.uint8)
    image[90:111, 90:111] = 255  # a square of known extent, bright enough after a wide blur
    blurred = perturb(FacePicture(image, points), name, level, seed).image[..., 0].astype(float)
    place = np.stack(np.mgrid[-100:101, -100:101][::-1], -1).reshape(-1, 2)
    covariance = np.cov(place.T, aweights=blurred.ravel())
    return covariance - np.eye(2) * (21**2 - 1) / 12


@pytest.mark.parametrize("percent", [2.0, 5.0, 8.0])
def test_blur_in_percent_of_the_face(percent):
    points = np.random.default_rng(0).uniform((40, 60), (160, 140), (68, 2))
    sigma = percent / 100 * FacePicture(np.zeros((1, 1, 3), np.uint8), points).size_px
    np.testing.assert_allclose(spread("blur", percent, points), np.eye(2) * sigma**2, atol=0.12 * sigma**2 + 0.3)


@pytest.mark.parametrize("percent", [10.0, 20.0, 30.0])
def test_motion_in_percent_of_the_face(percent):
    points = np.random.default_rng(0).uniform((40, 60), (160, 140), (68, 2))
    length = percent / 100 * FacePicture(np.zeros((1, 1, 3), np.uint8), points).size_px
    directions = []
    for seed in range(4):
        values, vectors = np.linalg.eigh(spread("motion", percent, points, seed))
        np.testing.assert_allclose(values, [0, length**2 / 12], atol=0.1 * length**2 / 12 + 0.5)
        directions.append(np.arctan2(*vectors[:, 1]) % np.pi)
    assert np.ptp(directions) > 0.3


def test_light():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    face = FacePicture(ramp, np.zeros((68, 2)))
    levels = np.arange(256.0)
    for name, level, expected in (
        ("gain", 0.25, levels / 4),
        ("gain", 4.0, np.minimum(4 * levels, 255)),
        ("gamma", 2.0, levels**2 / 255),
        ("gamma", 0.5, np.sqrt(levels * 255)),
        ("contrast", 0.5, 63.75 + levels / 2),
        ("contrast", 2.0, np.clip(2 * levels - 127.5, 0, 255)),
    ):
        np.testing.assert_allclose(perturb(face, name, level).image[0, :, 1], expected, atol=0.51)


def test_noise_in_grey_levels():
    grey = FacePicture(np.full((200, 200, 3), 128, np.uint8), np.zeros((68, 2)))
    difference = perturb(grey, "noise", 20.0).image.astype(float) - 128
    assert difference.std() == pytest.approx(20, rel=0.02)
    assert abs(difference.mean()) < 0.3
    assert abs(np.corrcoef(difference[..., 0].ravel(), difference[..., 1].ravel())[0, 1]) < 0.02


def test_jpeg_quality():
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8), (0, 0), 2)
    face = FacePicture(picture, np.zeros((68, 2)))
    losses = [np.abs(perturb(face, "jpeg", level).image - picture.astype(float)).mean() for level in (90.0, 30.0, 4.0)]
    assert losses == sorted(losses)
    assert losses[0] < 4 < losses[2]


@pytest.mark.parametrize("percent", BY_NAME["occlusion"].levels)
def test_occlusion_covers_a_share_of_the_box(dots, percent):
    x1, y1, x2, y2 = dots.box_xyxy
    starts = set()
    for seed in range(8):
        face = FacePicture(np.full((HEIGHT, WIDTH, 3), (1, 2, 3), np.uint8), dots.points)
        changed = (perturb(face, "occlusion", percent, seed).image != (1, 2, 3)).any(axis=2)
        assert changed.sum() == pytest.approx(percent / 100 * (x2 - x1) * (y2 - y1), rel=0.05)
        rows, columns = np.nonzero(changed)
        assert x1 - 1 <= columns.min() <= columns.max() <= x2 + 1
        assert y1 - 1 <= rows.min() <= rows.max() <= y2 + 1
        starts.add((columns.min(), rows.min()))
    assert len(starts) > 4


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
@pytest.mark.parametrize("percent", [10.0, 40.0])
def test_cut_takes_a_share_of_the_face(dots, side, percent):
    cut = perturb(dots, f"cut-{side}", percent)
    low, high = cut.box_xyxy[:2], cut.box_xyxy[2:]
    size = high - low
    beyond = {
        "top": (-0.5 - low[1]) / size[1],
        "bottom": (high[1] - cut.image.shape[0] + 0.5) / size[1],
        "left": (-0.5 - low[0]) / size[0],
        "right": (high[0] - cut.image.shape[1] + 0.5) / size[0],
    }
    assert beyond[side] == pytest.approx(percent / 100, abs=0.5 / size.min() + 1e-9)
    assert all(share <= 0 for name, share in beyond.items() if name != side)
    other = cut.image.shape[1] if side in ("top", "bottom") else cut.image.shape[0]
    assert other == (WIDTH if side in ("top", "bottom") else HEIGHT)


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_functions_leave_their_input_alone_and_follow_the_generator(dots, name, level):
    image, points = dots.image.copy(), dots.points.copy()
    first, second = perturb(dots, name, level, seed=5), perturb(dots, name, level, seed=5)
    np.testing.assert_array_equal(dots.image, image)
    np.testing.assert_array_equal(dots.points, points)
    np.testing.assert_array_equal(first.image, second.image)
    assert first.image.dtype == np.uint8
    assert first.image.flags.c_contiguous
    if name in ("motion", "noise", "occlusion"):
        assert (perturb(dots, name, level, seed=6).image != first.image).any()


def test_a_selection_of_kinds_keeps_the_numbers():
    everything = {(one.kind.name, one.level): one.number for one in conditions()}
    some = conditions(("blur", "roll"))
    assert [one.kind.name for one in some][:2] == ["clean", "roll"]
    assert {one.kind for one in some} == {CLEAN, BY_NAME["roll"], BY_NAME["blur"]}
    assert all(everything[one.kind.name, one.level] == one.number for one in some)
    assert len(set(everything.values())) == len(everything) == len(LEVELS)


def test_every_perturbation_is_a_kind():
    here = [
        value for value in vars(perturbations).values() if getattr(value, "__module__", "") == perturbations.__name__
    ]
    public = {value for value in here if not value.__name__.startswith("_")} - {FacePicture}
    assert public == {kind.perturb for kind in KINDS}
