"""Offsets that were put in are learned, for both sides of the face and in its own axes."""

from __future__ import annotations

import numpy as np

from training.labelling.definition_offsets import DefinitionOffsets, learn_offsets, no_offsets
from training.labelling.point_model import MIRROR, MIRROR68


def some_offsets() -> DefinitionOffsets:
    table = np.random.default_rng(0).normal(0, 0.02, (5, 89, 2))
    table[0] = (table[0] + table[0][MIRROR] * (-1, 1)) / 2
    return DefinitionOffsets(table)


def test_mirror_is_its_own_inverse():
    np.testing.assert_array_equal(MIRROR[MIRROR], np.arange(89))
    assert MIRROR68[[0, 36, 48, 8, 31]].tolist() == [16, 45, 54, 8, 35]


def test_mirrored_face_has_mirrored_offsets():
    offsets = some_offsets()
    right, left = offsets.at(np.array([0.6])), offsets.at(np.array([-0.6]))
    np.testing.assert_allclose(left, right[:, MIRROR] * (-1, 1))


def test_offsets_turn_and_grow_with_the_face():
    offsets, zero = some_offsets(), np.zeros((1, 89, 2))
    upright = offsets.apply(zero, np.zeros(1), np.zeros(1), np.ones(1))
    turned = offsets.apply(zero, np.zeros(1), np.array([np.pi / 2]), np.array([100.0]))
    np.testing.assert_allclose(turned[..., 0], -100 * upright[..., 1], atol=1e-9)
    np.testing.assert_allclose(turned[..., 1], 100 * upright[..., 0], atol=1e-9)


def test_known_offsets_are_learned():
    generator, known, count = np.random.default_rng(1), some_offsets(), 4000
    yaw, roll, scale = (
        generator.uniform(-1.57, 1.57, count),
        generator.uniform(-0.5, 0.5, count),
        generator.uniform(80, 120, count),
    )
    hand = generator.normal(size=(count, 89, 2)) * 100
    label = known.apply(hand, yaw, roll, scale)
    hand[::3, 5] = np.nan
    learned = learn_offsets(label, hand, yaw, roll, scale)
    np.testing.assert_allclose(learned.table, known.table, atol=0.005)


def test_nodes_without_faces_follow_their_neighbours_and_outliers_count_little():
    count = 200
    hand = np.zeros((count, 89, 2))
    label = np.full((count, 89, 2), 0.03) * (0, 1)
    label[:4] += 5
    learned = learn_offsets(label, hand, np.full(count, 0.1), np.zeros(count), np.ones(count))
    np.testing.assert_allclose(learned.table[..., 1], 0.03, atol=0.003)
    assert np.isfinite(learned.table).all()


def test_points_never_seen_have_no_offset():
    hand = np.full((10, 89, 2), np.nan)
    assert not learn_offsets(hand, hand, np.zeros(10), np.zeros(10), np.ones(10)).table.any()
    assert not no_offsets().table.any()
