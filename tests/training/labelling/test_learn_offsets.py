"""Offsets between two copies of the same photographs, with hand points in one and labels in the other."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.training.labelling.head import SIGMA, head_model, head_points, random_fits, save_head_model
from training.__main__ import main
from training.labelling.definition import load_definition
from training.labelling.face_fits import label_arrays
from training.labelling.landmark_fit import FaceFit, observed_vertices
from training.labelling.write_labels import write_tar

PHOTOS, SIDE = 12, 220
LIFT = 0.03  # face sizes: labels lie that far above the hand's points


def texture(seed: int) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8: smooth noise, so that pictures can be registered."""
    noise = np.random.default_rng(seed).uniform(0, 255, (SIDE // 8, SIDE // 8, 3)).astype(np.float32)
    return cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def write_pairs(folder, unlike: bool = False):
    """Labelled views, and the same photographs moved and scaled with points of the hand; returns the stem."""
    save_head_model(folder / "face_model.npz")
    model, fits = head_points(), random_fits(PHOTOS, 20, seed=5)
    fits = FaceFit(fits.scale, fits.rotation, np.tile((110.0, -110.0), (PHOTOS, 1)), fits.latent)
    labels = label_arrays(fits, model, head_model())
    up = np.stack([-np.sin(fits.roll), np.cos(fits.roll)], axis=1)
    marked = observed_vertices(model, fits)[0][:, :68, :2] - LIFT * fits.scale[:, None, None] * up[:, None]
    move = np.array([[0.9, 0, 12], [0, 0.9, 7]])
    hand68 = (marked * (1, -1)) @ move[:, :2].T + move[:, 2]
    names = [f"lp/AFW_{i}_1_0.jpg" for i in range(PHOTOS)] + [f"afw/{i}_1.jpg" for i in range(PHOTOS)]
    arrays = {key: np.concatenate([value, value]) for key, value in labels.items()}
    arrays |= {
        "names": np.array(names),
        "source": np.repeat(["300wlp_afw", "afw"], PHOTOS),
        "size": np.full(2 * PHOTOS, SIDE, np.int32),
        "hand68": np.concatenate([np.full(hand68.shape, np.nan), hand68]).astype(np.float32),
    }
    np.savez(folder / "pairs.npz", **arrays)
    views = [texture(i) for i in range(PHOTOS)]
    copies = [
        cv2.warpAffine(texture(i + 100 * unlike), move, (SIDE, SIDE), flags=cv2.INTER_CUBIC) for i in range(PHOTOS)
    ]
    with open(folder / "pairs.tar", "wb") as file:
        encoded = [cv2.imencode(".jpg", image)[1].tobytes() for image in views + copies]
        write_tar(file, dict(zip(names, encoded, strict=True)))
    return folder / "pairs"


def learn(stem, *options):
    return main(["learn-offsets", "--data", str(stem), "-o", str(stem.with_name("offsets.npz")), *map(str, options)])


def test_offset_of_the_hand_is_learned(tmp_path, capsys):
    stem = write_pairs(tmp_path)
    assert learn(stem) == 0
    prior, offsets = load_definition(tmp_path / "offsets.npz", head_model())
    np.testing.assert_allclose(offsets.at(np.zeros(1))[0, :68, 1], LIFT, atol=0.006)
    np.testing.assert_allclose(offsets.at(np.zeros(1))[0, :68, 0], 0, atol=0.006)
    assert not offsets.table[:, 68:].any()
    assert np.linalg.norm(prior.factor, axis=1).max() < 3 * SIGMA
    assert f"{PHOTOS} of {PHOTOS} pairs registered" in capsys.readouterr().out


def test_second_annotation_of_the_same_pictures(tmp_path, capsys):
    """Points above those of the labels get offsets down; rows for validation, wrong on purpose, must not matter."""
    stem = write_pairs(tmp_path)
    assert learn(stem) == 0
    (tmp_path / "offsets.npz").rename(tmp_path / "base.npz")
    arrays = dict(np.load(tmp_path / "pairs.npz"))
    fits = random_fits(PHOTOS, 20, seed=5)
    up = np.stack([-np.sin(fits.roll), np.cos(fits.roll)], axis=1) * (1, -1)
    model, fits = head_points(), FaceFit(fits.scale, fits.rotation, np.tile((110.0, -110.0), (PHOTOS, 1)), fits.latent)
    points = observed_vertices(model, fits)[0][:, :68, :2] * (1, -1)
    hand68 = points + 0.02 * fits.scale[:, None, None] * up[:, None]
    is_val = np.arange(PHOTOS) < 3
    hand68[is_val] += 40
    np.savez(
        tmp_path / "second.npz",
        names=arrays["names"][:PHOTOS],
        size=arrays["size"][:PHOTOS],
        hand68=hand68.astype(np.float32),
        is_val=is_val,
    )
    capsys.readouterr()
    assert learn(stem, "--hand", tmp_path / "second", "--base", tmp_path / "base.npz") == 0
    _, offsets = load_definition(tmp_path / "offsets.npz", head_model())
    np.testing.assert_allclose(offsets.at(np.zeros(1))[0, :68], np.tile((0, -0.02), (68, 1)), atol=0.004)
    assert f"{PHOTOS - 3} pictures have labels and hand points" in capsys.readouterr().out


def test_second_annotation_that_cannot_be_used(tmp_path, capsys):
    stem = write_pairs(tmp_path)
    assert learn(stem, "--hand", stem) == 1
    assert "--hand has no prior of its own" in capsys.readouterr().err
    assert learn(stem) == 0
    (tmp_path / "offsets.npz").rename(tmp_path / "base.npz")
    arrays = dict(np.load(tmp_path / "pairs.npz"))
    points = np.where(np.isfinite(arrays["hand68"]), arrays["hand68"], 1).astype(np.float32)
    np.savez(tmp_path / "other.npz", names=np.char.add("x", arrays["names"]), size=arrays["size"], hand68=points)
    capsys.readouterr()
    assert learn(stem, "--hand", tmp_path / "other", "--base", tmp_path / "base.npz") == 1
    assert "other: shares 0 pictures" in capsys.readouterr().err
    assert not (tmp_path / "offsets.npz").exists()


def test_offsets_of_21_points_are_added(tmp_path):
    stem = write_pairs(tmp_path)
    assert learn(stem) == 0
    arrays = dict(np.load(tmp_path / "pairs.npz"))
    fits = random_fits(PHOTOS, 20, seed=5)
    up = np.tile(np.stack([-np.sin(fits.roll), np.cos(fits.roll)], axis=1), (2, 1))
    hand21 = np.full((2 * PHOTOS, 21, 2), np.nan)
    size = np.tile(fits.scale, 2)[:, None]
    hand21[:, 20] = arrays["pts68"][:, 8, :2] - 0.05 * size * up * (1, -1)  # too low by 0.05
    hand21[:, 14] = arrays["pts68"][:, 30, :2]
    np.savez(
        tmp_path / "fits.npz", **{**arrays, "hand21": hand21.astype(np.float32), "hand68": arrays["pts68"][..., :2]}
    )
    (tmp_path / "fits.tar").write_bytes((tmp_path / "pairs.tar").read_bytes())
    first = np.load(tmp_path / "offsets.npz")["offsets"]
    (tmp_path / "offsets.npz").rename(tmp_path / "base.npz")
    assert learn(stem, "--base", tmp_path / "base.npz", "--fits", tmp_path / "fits") == 0
    table = np.load(tmp_path / "offsets.npz")["offsets"]
    np.testing.assert_array_equal(table[:, :68], first[:, :68])
    np.testing.assert_allclose(table[0, 68 + 20], (0, 0.05), atol=0.003)
    np.testing.assert_allclose(table[0, 68 + 14], (0, 0), atol=0.003)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"hand68": None}, (), "have no hand68"),
        ({"is_val": np.ones(2 * PHOTOS, bool)}, (), "share 0 photographs"),
        ({}, ("--hand-source", "helen"), "share 0 photographs"),
        ({}, ("--base", "nothing.npz"), "nothing.npz: no such file"),
    ],
)
def test_data_without_pairs_are_refused(tmp_path, capsys, changes, options, message):
    stem = write_pairs(tmp_path)
    arrays = {**np.load(tmp_path / "pairs.npz"), **changes}
    np.savez(tmp_path / "pairs.npz", **{key: value for key, value in arrays.items() if value is not None})
    assert learn(stem, *options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "offsets.npz").exists()


def test_pictures_of_something_else_are_no_pairs(tmp_path, capsys):
    assert learn(write_pairs(tmp_path, unlike=True)) == 1
    assert "fewer than two pairs of pictures show the same photograph" in capsys.readouterr().err


def test_damaged_offsets_are_refused(tmp_path, capsys):
    stem = write_pairs(tmp_path)
    assert learn(stem) == 0
    good = dict(np.load(tmp_path / "offsets.npz"))
    for key, value in {
        "prior_factor": np.zeros((5, 5)),
        "offsets": np.zeros((5, 68, 2)),
        "prior_mean": np.full(5, np.nan),
    }.items():
        np.savez(tmp_path / "bad.npz", **{**good, key: value})
        assert (
            main(
                ["fit-labels", "--data", str(stem), "--offsets", str(tmp_path / "bad.npz"), "-o", str(tmp_path / "out")]
            )
            == 1
        )
        assert "bad.npz" in capsys.readouterr().err
