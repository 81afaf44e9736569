"""No command lets validation rows into its result: poisoned ones leave it as it was, byte for byte."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.toy import dot_pictures, toy_face_model, toy_labels, write_toy_set
from training.__main__ import main
from training.fit_box_map import Matches, fit
from training.networks import create_network


@pytest.fixture(scope="module")
def stems(tmp_path_factory) -> tuple[Path, Path]:
    """The toy set, and the same with black pictures and absurd labels in its validation rows."""
    labels = toy_labels(toy_face_model(), 24)
    pictures = dot_pictures(labels)
    rows = labels.is_val
    poisoned = dataclasses.replace(
        labels,
        coefficients=np.where(rows[:, None], 1000, labels.coefficients).astype(np.float32),
        pts68=np.where(rows[:, None, None], labels.pts68 / 3, labels.pts68).astype(np.float32),
        box=np.where(rows[:, None], labels.box / 3, labels.box).astype(np.float32),
        translation=np.where(rows[:, None], 1e4, labels.translation).astype(np.float32),
    )
    black = [np.zeros_like(picture) if row else picture for picture, row in zip(pictures, rows, strict=True)]
    clean_folder, poisoned_folder = tmp_path_factory.mktemp("clean"), tmp_path_factory.mktemp("poisoned")
    return write_toy_set(clean_folder, labels, pictures), write_toy_set(poisoned_folder, poisoned, black)


@pytest.mark.slow
def test_fit(stems, tmp_path):
    states = []
    for stem in stems:
        run = tmp_path / stem.parent.name
        assert (
            main(
                ["fit", "--data", str(stem), "--run", str(run), "--epochs", "1", "--batch-size", "6", "--workers", "0"]
            )
            == 0
        )
        states.append(torch.load(run / "last.pt", weights_only=True))
    clean, poisoned = states
    assert clean["best"] != poisoned["best"]  # validation itself does see them
    for part in ("training", "network"):
        for name, value in clean[part].items():
            assert torch.equal(value, poisoned[part][name]), name


@pytest.mark.slow
def test_shrink(stems, tmp_path):
    torch.manual_seed(0)
    torch.save({"network": create_network("edge").state_dict()}, tmp_path / "best.pt")
    results = []
    for stem in stems:
        output = tmp_path / f"{stem.parent.name}.pt"
        command = [
            "shrink",
            "--weights",
            str(tmp_path / "best.pt"),
            "--data",
            str(stem),
            "--samples",
            "129",
            "--latent",
            "8",
        ]
        assert main([*command, "-o", str(output)]) == 0
        results.append(output.read_bytes())
    assert results[0] == results[1]


@pytest.mark.parametrize("constant", [False, True])
def test_fit_box_map(constant):
    generator = np.random.default_rng(0)
    rows = generator.uniform(50, 90, (60, 15)).astype(np.float32)
    boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
    is_val = np.arange(60) % 5 == 4
    source = np.where(np.arange(60) % 2, "aflw", "helen")
    results = []
    for poison in (0, np.nan):
        yaw_deg, sizes = generator.uniform(-90, 90, 60).astype(np.float32), np.full((60, 2), 400)
        given = Matches(rows.copy(), sizes, boxes.copy(), source, yaw_deg, is_val, np.arange(60) % 3 == 0)
        given.rows[is_val] += poison
        given.boxes_xyxy[is_val] += poison
        results.append(fit(given, constant).tobytes())
    assert results[0] == results[1]
