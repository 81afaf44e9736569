"""Faces whose coefficients and pose are known are found again from their points."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.labelling.head import head_points, random_fits
from training.labelling.definition_offsets import no_offsets
from training.labelling.landmark_fit import FaceFit, FitSettings, fit_points, observed_vertices

EXACT = FitSettings(noise=1e-4, outline=False, steps=30)


def landmark_weights(count: int) -> np.ndarray:
    """(N, 89): the 68 points alone."""
    return np.tile(np.arange(89) < 68, (count, 1)).astype(float)


def vertex_error(found: FaceFit, truth: FaceFit) -> np.ndarray:
    """(N,) mean 2D distance of the landmarks in face sizes."""
    model = head_points()
    difference = found.project(model.points(found.latent)) - truth.project(model.points(truth.latent))
    return np.linalg.norm(difference[:, :68, :2], axis=2).mean(axis=1) / truth.scale


@pytest.mark.parametrize("yaw_deg", [20, 80])
def test_clean_points_give_the_face_back(yaw_deg):
    model, truth = head_points(), random_fits(12, yaw_deg)
    points = truth.project(model.points(truth.latent))[..., :2]
    found = fit_points(model, points, landmark_weights(12), no_offsets(), EXACT)
    np.testing.assert_allclose(found.scale, truth.scale, rtol=1e-3)
    np.testing.assert_allclose(found.rotation, truth.rotation, atol=5e-3)
    # From the front depth (number 2) shows little, from the side width (number 0).
    np.testing.assert_allclose(found.latent[:, [0, 2]], truth.latent[:, [0, 2]], atol=0.3)
    np.testing.assert_allclose(found.latent[:, [1, 3, 4]], truth.latent[:, [1, 3, 4]], atol=0.05)
    assert vertex_error(found, truth).max() < 1e-4


def test_21_points_give_the_face_back():
    model, truth = head_points(), random_fits(8, 30)
    points = truth.project(model.points(truth.latent))[..., :2]
    weights = np.zeros((8, 89))
    weights[:, 68:] = 1
    weights[:, [80, 84]] = 0  # ears
    found = fit_points(model, points, weights, no_offsets(), EXACT)
    assert vertex_error(found, truth).max() < 0.01


def test_outliers_are_outvoted():
    """A tenth of the points a third of the face away: Huber's fit stays far nearer than least squares."""
    model, truth = head_points(), random_fits(10, 40)
    points = truth.project(model.points(truth.latent))[..., :2]
    points[:, 20:68:7] += 0.3 * truth.scale[:, None, None]
    robust = fit_points(model, points, landmark_weights(10), no_offsets(), FitSettings(noise=0.005, outline=False))
    plain = fit_points(
        model, points, landmark_weights(10), no_offsets(), FitSettings(noise=0.005, huber=1e9, outline=False)
    )
    assert vertex_error(robust, truth).max() < 0.01
    assert vertex_error(plain, truth).mean() > 4 * vertex_error(robust, truth).mean()


def test_missing_points_do_not_matter():
    model, truth = head_points(), random_fits(6, 30)
    points = truth.project(model.points(truth.latent))[..., :2]
    weights = landmark_weights(6)
    points[:, 17:40:3], weights[:, 17:40:3] = np.nan, 0
    assert vertex_error(fit_points(model, points, weights, no_offsets(), EXACT), truth).max() < 1e-4


def test_outline_of_a_turned_head():
    """Contour points marked on the cheek's outline mislead a fit to vertices and not the fit to the outline."""
    model, truth = head_points(), random_fits(10, 1, seed=1)
    turn = np.deg2rad(45)
    turned = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]) @ truth.rotation
    truth = FaceFit(truth.scale, turned, truth.translation, truth.latent)
    seen, chosen = observed_vertices(model, truth)
    assert chosen[:, :4].max() == 0  # near side: the landmarks themselves
    assert chosen[:, 12:15].max(axis=1).min() > 0  # far side: on the way to the nose
    points, weights = seen[..., :2], landmark_weights(10)
    to_outline, to_vertices = (
        vertex_error(fit_points(model, points, weights, no_offsets(), FitSettings(outline=outline)), truth)
        for outline in (True, False)
    )
    assert to_outline.mean() < 0.01
    assert to_vertices.mean() > 2 * to_outline.mean()


def test_start_keeps_what_the_points_do_not_say():
    """With six points the latent numbers stay near the start's, without one near the prior's mean."""
    model, truth = head_points(), random_fits(6, 10)
    points = truth.project(model.points(truth.latent))[..., :2]
    weights = np.zeros((6, 89))
    weights[:, [20, 25, 36, 45, 48, 54]] = 1
    settings = FitSettings(noise=0.2, outline=False)
    alone, started = (fit_points(model, points, weights, no_offsets(), settings, start) for start in (None, truth))
    assert np.abs(started.latent - truth.latent).max() < 0.05
    assert np.abs(alone.latent - truth.latent).mean() > 0.3


def test_faces_do_not_depend_on_their_neighbours():
    """Alone, in another order and a second time: the same numbers."""
    model, truth = head_points(), random_fits(5, 60)
    points = truth.project(model.points(truth.latent))[..., :2]
    together = fit_points(model, points, landmark_weights(5), no_offsets())
    again = fit_points(model, points, landmark_weights(5), no_offsets())
    alone = fit_points(model, points[3:4], landmark_weights(1), no_offsets())
    np.testing.assert_array_equal(together.latent, again.latent)
    np.testing.assert_allclose(together.latent[3:4], alone.latent, atol=1e-6)
