"""Loss of picture quality."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.degradation import KINDS, degrade, gaussian_blur, low_resolution, motion_blur, noise


@pytest.fixture
def image() -> np.ndarray:
    """Random colours: every loss of detail shows."""
    return np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)


def contrast(image: np.ndarray) -> float:
    """Return the mean difference between neighbours."""
    return float(np.abs(np.diff(image.astype(int), axis=1)).mean())


@pytest.mark.parametrize("kind", [*KINDS, degrade])
def test_form_stays_and_the_picture_changes(kind, image):
    before = image.copy()
    for seed in range(10):
        changed = kind(np.random.default_rng(seed), image)
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8
        assert not np.array_equal(changed, image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("kind", [gaussian_blur, motion_blur, low_resolution])
def test_detail_is_lost_and_brightness_kept(kind, image):
    for seed in range(10):
        changed = kind(np.random.default_rng(seed), image)
        assert contrast(changed) < 0.9 * contrast(image)
        assert changed.mean() == pytest.approx(image.mean(), abs=3)


def test_noise_is_bounded():
    grey = np.full((64, 64, 3), 128, np.uint8)
    for seed in range(20):
        change = noise(np.random.default_rng(seed), grey).astype(int) - 128
        assert 4 <= np.abs(change).max() <= 32
        assert abs(change.mean()) < 2


def test_a_flat_picture_stays_flat_but_for_noise():
    grey = np.full((64, 64, 3), 128, np.uint8)
    for kind in KINDS:
        if kind is not noise:
            assert np.abs(kind(np.random.default_rng(3), grey).astype(int) - 128).max() <= 1
