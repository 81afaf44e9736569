"""Crops and the poses that go with them, checked on pictures with colours that tell the place of a pixel."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.training.toy import coordinate_pictures, toy_face_model, toy_labels
from training.data.augment import Augmentation
from training.data.dataset import CropBatch, FaceCrops
from training.uv.targets import PositionMapTargets, lowest_z
from training.uv.uv_layout import build_topology

GEOMETRY_ONLY = Augmentation(colour=(1.0, 1.0), occlusion=0.0, degradation=0.0)


@pytest.fixture(scope="module")
def toy() -> tuple:
    model = toy_face_model()
    labels = toy_labels(model, 24)
    return model, labels, coordinate_pictures(labels), lowest_z(model, labels)


def crops(toy: tuple, augmentation: Augmentation | None, seed: int = 0) -> FaceCrops:
    _, labels, pictures, floor = toy
    return FaceCrops(labels, pictures, floor, np.arange(len(labels.names)), 128, 1.5, 8, augmentation, seed=seed)


def target_landmarks(toy: tuple, batch: CropBatch) -> tuple[np.ndarray, np.ndarray]:
    model, labels, _, _ = toy
    targets = PositionMapTargets(model, build_topology(model), 64)
    arrays = labels.coefficients[batch.rows], batch.poses, batch.mirrored
    maps, landmarks = targets(*(torch.from_numpy(array) for array in arrays))
    return maps.numpy(), landmarks.numpy()


def count_right_places(toy: tuple, batch: CropBatch) -> int:
    """Return the number of target landmarks on the photograph; under each lies the colour of its place."""
    model, labels, _, _ = toy
    partner = {vertex: index for index, vertex in enumerate(model.keypoints68)}
    _, landmarks = target_landmarks(toy, batch)
    count = 0
    for row, image, points, mirrored in zip(batch.rows, batch.images, landmarks, batch.mirrored, strict=True):
        for number, (x, y) in enumerate(points[:, :2]):
            wanted = partner.get(model.symmetry[model.keypoints68[number]]) if mirrored else number
            if wanted is None or not (1 <= x <= 126 and 1 <= y <= 126):
                continue
            colour = image[round(float(y)), round(float(x))]
            if colour[2] < 199:  # outside the photograph
                continue
            # A pixel of the crop is up to 1.2 px of the picture, UV pixels are rounded, colours too.
            assert np.abs(colour[:2] - labels.pts68[row, wanted, :2]).max() < 2.5
            count += 1
    return count


def test_colours_under_the_target_landmarks_tell_their_place_in_the_photograph(toy):
    """Turn, mirror, jitter and crop must move picture and label alike."""
    mirrored_seen = set()
    for index in range(3):
        batch = crops(toy, GEOMETRY_ONLY)[index]
        mirrored_seen |= set(batch.mirrored.tolist())
        assert count_right_places(toy, batch) > 0.5 * 68 * 8
    assert mirrored_seen == {True, False}


def test_labels_stay_right_with_any_roll_and_cut_pictures(toy, monkeypatch):
    """The outside stays black here, so that every other colour under a landmark must be that of its place."""
    monkeypatch.setattr("training.data.dataset.draw_kind", lambda generator: "black")
    monkeypatch.setattr("training.data.augment.UPSIDE_DOWN_TRANSLATION", 0.0)  # keep the landmarks in the crop
    places = {}
    for cut in (0.0, 1.0):
        augmentation = dataclasses.replace(GEOMETRY_ONLY, any_roll=1.0, cut=cut)
        places[cut] = sum(count_right_places(toy, crops(toy, augmentation)[index]) for index in range(3))
    assert 0.5 * 68 * 24 < places[1.0] < places[0.0]


def test_a_batch_depends_on_seed_epoch_and_index_alone(toy):
    first, again, other_seed = (
        crops(toy, Augmentation()),
        crops(toy, Augmentation()),
        crops(toy, Augmentation(), seed=1),
    )
    again[0]  # order of access must not matter
    np.testing.assert_array_equal(first[1].images, again[1].images)
    assert not np.array_equal(first[1].images, other_seed[1].images)
    again.epoch = 1
    assert not np.array_equal(first[1].images, again[1].images)


def test_validation_crops_are_unperturbed_and_cover_every_row_once(toy):
    batches = [crops(toy, None)[index] for index in range(3)]
    assert np.concatenate([batch.rows for batch in batches]).tolist() == list(range(24))
    assert not any(batch.mirrored.any() for batch in batches)
    _, landmarks = target_landmarks(toy, batches[0])
    centre = (landmarks[..., :2].min(1) + landmarks[..., :2].max(1)) / 2
    np.testing.assert_allclose(centre, 63.5, atol=0.8)


def test_box_size_is_that_of_the_landmarks_in_the_crop(toy):
    batch = crops(toy, GEOMETRY_ONLY)[0]
    _, landmarks = target_landmarks(toy, batch)
    extent = np.ptp(landmarks[..., :2], axis=1)
    np.testing.assert_allclose(batch.box_size_px, np.sqrt(extent.prod(1)), rtol=0.03)


def test_source_weights_decide_how_often_rows_are_drawn(toy):
    _, labels, pictures, floor = toy
    rows = np.arange(24)
    weights = np.where(labels.source == "left", 1.0, 0.0)
    batch = FaceCrops(labels, pictures, floor, rows, 128, 1.5, 64, GEOMETRY_ONLY, weights)[0]
    assert set(labels.source[batch.rows]) == {"left"}


def test_occlusion_and_colour_change_pictures_but_not_poses(toy):
    plain, strong = crops(toy, GEOMETRY_ONLY)[0], crops(toy, Augmentation(occlusion=1.0, degradation=1.0))[0]
    np.testing.assert_array_equal(plain.poses[0], strong.poses[0])  # the first row, before the draws of its picture
    assert np.abs(plain.images[0].astype(int) - strong.images[0]).mean() > 5
