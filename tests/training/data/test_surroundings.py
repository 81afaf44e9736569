"""Pixels of a crop beyond its picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.data.surroundings import KINDS, SHARES, draw_kind, fill_outside, random_part

SIZE = 64
# The picture covers the right half of the crop: its column 0 lies at x = 32
MATRIX = np.array([[1.0, 0.0, 32.0], [0.0, 1.0, 0.0]])


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (SIZE, SIZE, 3), np.uint8)


def fill(kind: str, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the crop as it is and as it is filled."""
    image = cv2.warpAffine(picture, MATRIX, (SIZE, SIZE))
    other = np.full((80, 90, 3), 77, np.uint8)
    return image, fill_outside(np.random.default_rng(1), kind, image, picture, MATRIX, other)


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture_itself_stays(kind, picture):
    image, filled = fill(kind, picture)
    np.testing.assert_array_equal(filled[:, 32:], image[:, 32:])
    assert filled.shape == image.shape
    assert filled.dtype == np.uint8


def test_the_outside_is_what_the_kind_says(picture):
    outside = {kind: fill(kind, picture)[1][:, :32] for kind in KINDS}
    assert not outside["black"].any()
    np.testing.assert_array_equal(outside["replicated"], np.repeat(picture[:, :1], 32, axis=1))
    np.testing.assert_array_equal(outside["reflected"], picture[:, :32][:, ::-1])
    assert len(np.unique(outside["colour"].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(outside["noise"].reshape(-1, 3), axis=0)) > 100
    assert (outside["photograph"] == 77).all()


def test_a_crop_inside_its_picture_is_not_touched(picture):
    filled = fill_outside(np.random.default_rng(1), "noise", picture, picture, np.eye(2, 3))
    np.testing.assert_array_equal(filled, picture)


def test_kinds_come_by_their_shares():
    generator = np.random.default_rng(0)
    drawn = [draw_kind(generator) for _ in range(2000)]
    np.testing.assert_allclose([drawn.count(kind) / 2000 for kind in KINDS], SHARES, atol=0.04)


def test_a_part_of_a_photograph_lies_inside_it():
    photograph = np.dstack([*np.mgrid[:100, :150], np.full((100, 150), 9)]).astype(np.uint8)
    generator = np.random.default_rng(0)
    for _ in range(20):
        part = random_part(generator, photograph, 32)
        assert part.shape == (32, 32, 3)
        assert (part[..., 2] == 9).all()
        assert 45 <= np.ptp(part[..., 0].astype(int)) <= 100
