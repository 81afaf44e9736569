"""The training loop on a toy face set: it learns, it resumes, it says what is wrong."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.toy import dot_pictures, toy_face_model, toy_labels
from training.data.augment import Augmentation
from training.data.dataset import FaceCrops
from training.loop import Trainer
from training.networks.inputs import keep_narrow_layers_float32
from training.schedule import Schedule
from training.uv.map_objective import MapObjective
from training.uv.targets import PositionMapLoss, PositionMapTargets, lowest_z
from training.uv.uv_layout import build_topology, region_weights
from training.validation import nme_table


class TinyNet(nn.Module):
    """Enough of a network for the loop."""

    input_size, output_size, output_scale = 32, 16, 32 * 1.1
    crop_scale, colour_order, value_range = 1.5, "RGB", (0.0, 1.0)

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(16 * 64, 3 * 256)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(image)).unflatten(1, (3, 16, 16))


@pytest.fixture(scope="module")
def toy() -> tuple:
    model = toy_face_model()
    labels = toy_labels(model, 128)
    return model, labels, dot_pictures(labels), lowest_z(model, labels), build_topology(model)


def start(
    toy: tuple, folder: Path, epochs: int, hand_weight: float = 0.0, **options
) -> tuple[Trainer, FaceCrops, FaceCrops]:
    model, labels, pictures, floor, topology = toy
    torch.manual_seed(0)
    network = TinyNet()
    targets = PositionMapTargets(model, topology, 16)
    map_loss = PositionMapLoss(region_weights(topology), topology, 16, 1.0)
    objective = MapObjective(network, targets, map_loss, labels, hand_weight=hand_weight)
    rows = np.arange(len(labels.names))
    training = FaceCrops(
        labels,
        pictures,
        floor,
        rows[~labels.is_val],
        32,
        1.5,
        8,
        Augmentation(rotation_deg=5.0, occlusion=0.0, degradation=0.0),
    )
    validation = FaceCrops(labels, pictures, floor, rows[labels.is_val], 32, 1.5, 8)
    trainer = Trainer(
        network, objective, labels, Schedule(epochs=epochs, learning_rate=3e-3, halve_every=100, **options), folder
    )
    return trainer, training, validation


def log_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_learns_and_writes_its_files(toy, tmp_path):
    trainer, training, validation = start(toy, tmp_path, 12)
    trainer.fit(training, validation, workers=0)
    rows = log_rows(tmp_path)
    assert [int(row["epoch"]) for row in rows] == list(range(1, 13))
    assert float(rows[-1]["train_loss"]) < 0.5 * float(rows[0]["train_loss"])
    assert float(rows[-1]["balanced"]) < 0.6 * float(rows[0]["balanced"])
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["best"] == pytest.approx(min(float(row["balanced"]) for row in rows), abs=1e-3)
    assert (tmp_path / "best.pt").stat().st_size < 0.4 * (tmp_path / "last.pt").stat().st_size
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(toy, tmp_path):
    whole, training, validation = start(toy, tmp_path / "whole", 3)
    whole.fit(training, validation, workers=0)

    first, training, validation = start(toy, tmp_path / "cut", 3)
    first.schedule = Schedule(epochs=1, learning_rate=3e-3, halve_every=100)
    first.fit(training, validation, workers=0)
    second, training, validation = start(toy, tmp_path / "cut", 3)
    assert second.resume()
    assert second.epoch == 1
    second.fit(training, validation, workers=0)

    assert len(log_rows(tmp_path / "cut")) == 3
    for name, value in whole.averaged.module.state_dict().items():
        torch.testing.assert_close(second.averaged.module.state_dict()[name], value, msg=name)


def test_statistics_of_the_averaged_weights_are_those_of_the_data(toy, tmp_path):
    trainer, training, validation = start(toy, tmp_path, 1)
    trainer.network.trunk[1].momentum = trainer.averaged.module.trunk[1].momentum = (
        1e-3  # PRNet's: far behind after so few steps
    )
    trainer.fit(training, validation, workers=0)
    images = torch.cat([trainer.objective.images(training[index]) for index in range(len(training))])
    expected = trainer.averaged.module.trunk[0](images).mean((0, 2, 3))
    torch.testing.assert_close(trainer.averaged.module.trunk[1].running_mean, expected, rtol=1e-3, atol=1e-4)


def test_a_diverging_run_stops_and_keeps_its_last_checkpoint(toy, tmp_path):
    trainer, training, validation = start(toy, tmp_path, 2)
    with torch.no_grad():
        trainer.network.head.weight.fill_(math.nan)
    with pytest.raises(Exception, match="not finite"):
        trainer.fit(training, validation, workers=0)
    assert not (tmp_path / "last.pt").exists()


def test_bfloat16_leaves_narrow_convolutions_in_float32():
    network = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3), nn.ConvTranspose2d(32, 3, 3))
    keep_narrow_layers_float32(network)
    seen = []
    for layer in network:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.randn(2, 3, 16, 16)).sum().backward()
        assert torch.is_autocast_enabled("cpu")
    assert seen == [torch.float32, torch.bfloat16, torch.float32]


def test_rates_of_the_schedules():
    step = Schedule(learning_rate=1e-4, halve_every=5)
    assert [step.rate(epoch) for epoch in (0, 4.9, 5, 10)] == pytest.approx([1e-4, 1e-4, 5e-5, 2.5e-5])
    cosine = Schedule(epochs=10, learning_rate=1e-3, decay="cosine")
    assert cosine.rate(0) < cosine.rate(1) > cosine.rate(5) > cosine.rate(9.9) > 0
    assert cosine.rate(10) == pytest.approx(0, abs=1e-9)


def test_table_of_errors_by_yaw_and_source(toy):
    labels = toy[1]
    rows = np.array([0, 1, 2, 3])
    table = nme_table(np.array([1.0, 2.0, 3.0, 4.0]), labels, rows)
    assert table["mean"] == 2.5
    assert table["right"] == 2.0
    assert table["left"] == 3.0
    inside = np.abs(labels.yaw_deg[rows]) < 30
    assert table["yaw_0_30"] == pytest.approx(np.array([1.0, 2.0, 3.0, 4.0])[inside].mean())


class Killed(Exception):
    """Stands for the end of the process."""


def test_a_run_killed_within_an_epoch_goes_on_from_its_last_batches(toy, tmp_path, monkeypatch):
    whole, training, validation = start(toy, tmp_path / "whole", 1)
    whole.fit(training, validation, workers=0)

    cut, training, validation = start(toy, tmp_path / "cut", 1, checkpoint_minutes=0.0)
    steps = []

    def step_until_killed(batch, batches, step=cut._step):
        if len(steps) == 5:
            raise Killed
        steps.append(step(batch, batches))

    monkeypatch.setattr(cut, "_step", step_until_killed)
    with pytest.raises(Killed):
        cut.fit(training, validation, workers=0)
    again, training, validation = start(toy, tmp_path / "cut", 1)
    assert again.resume()
    assert (again.epoch, again.batch) == (0, 5)
    again.fit(training, validation, workers=0)
    assert log_rows(tmp_path / "cut")[0]["train_loss"] == log_rows(tmp_path / "whole")[0]["train_loss"]
    for name, value in whole.averaged.module.state_dict().items():
        torch.testing.assert_close(again.averaged.module.state_dict()[name], value, msg=name)


def test_an_interrupted_first_epoch_is_kept(toy, tmp_path, monkeypatch, capsys, interruptible):
    whole, training, validation = start(toy, tmp_path / "whole", 1)
    whole.fit(training, validation, workers=0)
    cut, training, validation = start(toy, tmp_path / "cut", 1)
    steps = []

    def step_and_interrupt(batch, batches, step=cut._step):
        step(batch, batches)
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(cut, "_step", step_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        cut.fit(training, validation, workers=0)
    assert "stopped in epoch 1 after batch 3 of " in capsys.readouterr().out
    again, training, validation = start(toy, tmp_path / "cut", 1)
    assert again.resume()
    assert (again.epoch, again.batch) == (0, 3)
    again.fit(training, validation, workers=0)
    assert log_rows(tmp_path / "cut")[0]["train_loss"] == log_rows(tmp_path / "whole")[0]["train_loss"]


@pytest.mark.slow
def test_offsets_of_hand_points_are_learned_and_resumed(toy, tmp_path):
    """Hand points are the labels, moved 3 px down in one of two sources: its offset alone grows."""
    model, labels, pictures, floor, topology = toy
    hand = labels.pts68[..., :2].copy()
    hand[labels.source == "left"] += (0, 3)
    labels = dataclasses.replace(labels, hand68=hand, visible68=np.full((len(labels), 68), 2, np.uint8))
    trainer, training, validation = start((model, labels, pictures, floor, topology), tmp_path, 8, hand_weight=1.0)
    assert trainer.objective.hand_loss.sources == ["left", "right"]
    trainer.fit(training, validation, workers=0)
    down = trainer.objective.hand_loss.symmetric_offsets()[:, 17:, 1].mean(1)
    assert down[0] > down[1] + 0.005
    assert abs(down[1]) < 0.003
    assert float(log_rows(tmp_path)[-1]["hand"]) < float(log_rows(tmp_path)[0]["hand"])
    again, *_ = start((model, labels, pictures, floor, topology), tmp_path, 9, hand_weight=1.0)
    assert again.resume()
    torch.testing.assert_close(again.objective.hand_loss.offsets, trainer.objective.hand_loss.offsets)


def test_label_weights_leave_sources_out_of_the_map_loss(toy, tmp_path):
    trainer, training, _ = start(toy, tmp_path, 1)
    batch, whole, network = training[0], trainer.objective, trainer.network.eval()
    objective = MapObjective(network, whole.targets, whole.map_loss, toy[1], {"left": 0.0})
    maps = network(whole.images(batch)) * network.output_scale
    per_crop = whole.map_loss(maps, *whole.target(batch), torch.from_numpy(batch.box_size_px))
    expected = (per_crop * torch.from_numpy(toy[1].source[batch.rows] == "right")).sum() / len(batch.rows)
    torch.testing.assert_close(objective.loss(network, batch, 0), expected)
