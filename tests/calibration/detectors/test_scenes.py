"""Scenes for detectors: every face once, in many sizes, where its box says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from calibration.crops import FacePictures
from calibration.detectors.scenes import MOST_FACES, Scenes
from calibration.faces import Faces
from runtime.detection.yunet import YuNetDetector
from runtime.geometry.boxes import box_iou

BOX = (179.2, 88.4, 270.2, 176.2)  # of the portrait's face


def scenes_of(portrait, count, width=640, height=384, seed=0):
    boxes = np.tile(np.float32(BOX), (count, 1))
    names, nothing = np.full(count, str(portrait)), np.zeros(count, bool)
    return Scenes(
        FacePictures(Faces(portrait, names, boxes, np.zeros(count), nothing, None), None), width, height, seed
    )


def test_faces_are_where_their_boxes_are(portrait):
    scenes = scenes_of(portrait, 15)
    detector, overlaps = YuNetDetector(), []
    for planes, boxes in scenes:
        assert (planes.shape, planes.dtype) == ((1, 3, 384, 640), np.float32)
        found = detector(planes[0].transpose(1, 2, 0).astype(np.uint8)).boxes_xyxy
        overlaps += [box_iou(box, found).max(initial=0) for box in boxes]
    assert len(overlaps) == 15
    assert min(overlaps) > 0.8


@pytest.mark.parametrize("size", [(640, 384), (640, 640), (32, 32), (96, 640)])
def test_every_face_is_in_one_scene_and_sizes_are_many(portrait, size):
    scenes = scenes_of(portrait, 60, *size)
    boxes = [scene[1] for scene in scenes]
    assert sum(map(len, boxes)) == 60
    assert max(map(len, boxes)) <= MOST_FACES
    together = np.concatenate(boxes)
    assert (together[:, :2] > -0.5).all()
    assert (together[:, 2:] < np.array(size) - 0.5).all()
    sides = (together[:, 2:] - together[:, :2]).max(axis=1) / min(size)
    assert sides.min() < 0.12
    assert sides.max() > 0.4
    for cells in boxes:
        assert all(box_iou(box, np.delete(cells, row, axis=0)).max(initial=0) == 0 for row, box in enumerate(cells))


def test_scenes_are_the_same_every_time_and_others_with_another_seed(portrait):
    one, again, other = scenes_of(portrait, 6), scenes_of(portrait, 6), scenes_of(portrait, 6, seed=1)
    np.testing.assert_array_equal(one[1][0], again[1][0])
    assert not np.array_equal(one[1][1], other[1][1])
    assert one.sha256() == again.sha256()
    moved = dataclasses.replace(one.faces.faces, boxes_xyxy=one.faces.faces.boxes_xyxy + 1)
    assert Scenes(FacePictures(moved, None), 640, 384).sha256() != one.sha256()
    for number in (len(one), -1):
        with pytest.raises(IndexError):
            one[number]


def test_what_is_no_face_is_smooth(portrait):
    """And has colours of the picture; the first scene has one cell."""
    planes, _ = scenes_of(portrait, 1)[0]
    columns = np.abs(np.diff(planes[0], axis=2)).max(axis=(0, 1))
    ground = np.flatnonzero(columns < 12)
    assert len(ground) >= 640 - 384 - 2
    assert planes[0, :, :, ground].std() > 10
