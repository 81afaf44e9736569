"""Several sets of faces as one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from tests.training.toy import dot_pictures, toy_face_model, toy_labels, write_toy_set
from training.data.face_sets import concatenate_labels, load_sets


def test_two_sets_are_one_after_the_other(tmp_path):
    model = toy_face_model()
    generator = np.random.default_rng(0)
    plain = toy_labels(model, 5)
    hand68 = generator.uniform(0, 160, (3, 68, 2)).astype(np.float32)
    marked = dataclasses.replace(toy_labels(model, 3, seed=1), hand68=hand68, visible68=np.full((3, 68), 2, np.uint8))
    sets = []
    for name, labels in (("plain", plain), ("marked", marked)):
        sets.append(write_toy_set(tmp_path, labels, dot_pictures(labels), name))
    labels, images = load_sets(sets, model)

    assert len(labels) == len(images) == 8
    np.testing.assert_array_equal(labels.pts68, np.concatenate([plain.pts68, marked.pts68]))
    np.testing.assert_array_equal(labels.is_val, np.concatenate([plain.is_val, marked.is_val]))
    assert np.isnan(labels.hand68[:5]).all()
    np.testing.assert_array_equal(labels.hand68[5:], hand68)
    assert labels.visible68.tolist() == [[0] * 68] * 5 + [[2] * 68] * 3
    assert labels.hand21 is None
    for row, picture in enumerate([*dot_pictures(plain), *dot_pictures(marked)]):
        assert np.abs(images[row].astype(int) - picture).mean() < 8  # JPEG


def test_no_set_is_refused():
    with pytest.raises(FaceMeshError, match="no set of faces"):
        concatenate_labels([])
