"""The confidence head: learned from a network's own errors, calibrated, and without influence on the map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from runtime.models.shipped import SHIPPED_MODEL
from tests.training.toy import coordinate_pictures, dot_pictures, toy_face_model, toy_labels, write_toy_set
from training.__main__ import main
from training.confidence import (
    NO_FACE_NME,
    ErrorSamples,
    calibrate,
    fit_head,
    hard_crops,
    judge_confidence,
    measure_errors,
)
from training.data.backgrounds import _beside_face, background_crop
from training.networks.confidence import LIMIT_NME, ConfidenceHead
from training.networks.edge import EdgeNet
from training.networks.folded import load_edge
from training.uv.targets import PositionMapLoss, PositionMapTargets
from training.uv.uv_layout import build_topology, region_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    labels = toy_labels(toy_face_model(), 24)
    return write_toy_set(tmp_path_factory.mktemp("data"), labels, dot_pictures(labels))


def synthetic(count: int, noise: float = 0.3, seed: int = 0) -> ErrorSamples:
    """Samples whose log error is 0.8 times feature 3, bent, around 8 %."""
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.rand(count, 16, generator=generator) * 4
    log_error = (
        np.log(LIMIT_NME) + 0.8 * (pooled[:, 3] - 2).abs() - 0.8 + noise * torch.randn(count, generator=generator)
    )
    return ErrorSamples(pooled, log_error.exp(), torch.ones(count, dtype=torch.bool))


def test_log_error_is_learned_from_features():
    torch.manual_seed(0)
    head, samples = ConfidenceHead(16), synthetic(4000)
    fit_head(head, samples, steps=1500)
    fresh = synthetic(1000, noise=0.0, seed=1)
    with torch.no_grad():
        difference = head.log_error(fresh.pooled)[:, 0] - fresh.nme.log()
    assert difference.abs().mean() < 0.15  # of a spread of 0.46


def test_calibrated_confidence_is_a_probability():
    torch.manual_seed(0)
    head = ConfidenceHead(16)
    fit_head(head, synthetic(4000), steps=1000)
    raw = judge_confidence(head, synthetic(4000, seed=2))
    calibrate(head, synthetic(4000, seed=1))
    report = judge_confidence(head, synthetic(4000, seed=2))
    assert report.calibration < 0.03
    assert report.brier <= raw.brier
    assert report.auc > 0.85


def test_report_of_known_confidences():
    head = ConfidenceHead(features=1, hidden=1)
    with torch.no_grad():  # the log error is the feature
        head.hidden.weight.fill_(1), head.hidden.bias.fill_(9)
        head.out.weight.fill_(1), head.out.bias.fill_(-9)
    log_errors = torch.tensor([-4.0, -3.0, -2.0, -1.0])
    samples = ErrorSamples(
        log_errors[:, None], torch.tensor([0.01, 0.2, 0.01, NO_FACE_NME]), torch.tensor([True, True, True, False])
    )
    report = judge_confidence(head, samples)
    assert (report.samples, report.good) == (4, 0.5)
    assert report.auc == 0.75  # three of four pairs are in order
    assert (report.kept, report.no_face_refused) == (0.5, 1.0)


def test_errors_are_those_of_the_network():
    """A network that always answers the target of one face is right on its crop."""
    model = toy_face_model()
    labels = toy_labels(model, 8)
    topology = build_topology(model)
    targets, loss = (
        PositionMapTargets(model, topology, 64),
        PositionMapLoss(region_weights(topology), topology, 64, 1.0),
    )
    network = EdgeNet().eval()
    crops = hard_crops(network, labels, coordinate_pictures(labels), np.array([2]), seed=0)
    batch = crops[0]
    coefficients = torch.from_numpy(labels.coefficients[batch.rows])
    maps, _ = targets(coefficients, torch.from_numpy(batch.poses), torch.from_numpy(batch.mirrored))
    with torch.no_grad():
        network.expand.weight.zero_()
        network.expand.bias.copy_(maps[5].flatten() / network.output_scale)
    samples = measure_errors(network, crops, targets, loss, 1)
    assert (samples.nme[~samples.is_face] == NO_FACE_NME).all()
    assert 2 <= (~samples.is_face).sum() <= 20
    if samples.is_face[5]:
        assert samples.nme[5] < 0.02
    assert samples.nme[samples.is_face].median() > 0.05
    assert samples.pooled.shape == (48, 512)


def test_backgrounds_lie_beside_the_face():
    """The face is a white square that in a dark picture."""
    box = np.float32([20, 20, 100, 100])
    picture = np.full((240, 240, 3), 40, np.uint8)
    picture[21:100, 21:100] = 255
    generator = np.random.default_rng(0)
    found = [_beside_face(generator, picture, box, 32) for _ in range(200)]
    crops = [crop for crop in found if crop is not None]
    assert 20 < len(crops) < 200
    assert max(crop.max() for crop in crops) == 40
    assert min(crop.max() for crop in crops) == 40  # none lies outside altogether
    wanted = [background_crop(generator, [picture], box[None], np.array([0]), 32) for _ in range(20)]
    assert len({crop.tobytes() for crop in wanted}) == 20
    assert {crop.shape for crop in wanted} == {(32, 32, 3)}


def test_head_does_not_move_map_or_encoder():
    torch.manual_seed(0)
    network = EdgeNet()
    images = torch.randn(4, 3, 128, 128)
    with torch.no_grad():
        alone = network.eval()(images)
    network.add_confidence()
    position_map, confidence = network.eval()(images)
    assert torch.equal(position_map, alone)
    assert confidence.shape == (4, 1)
    assert ((confidence > 0) & (confidence < 1)).all()
    confidence.sum().backward()
    assert all(value.grad is None for name, value in network.named_parameters() if not name.startswith("confidence."))


def test_command_keeps_the_map_and_calibrates_on_validation_rows_alone(data, tmp_path, capsys):
    """Other labels in the validation rows may change slope and bias, and nothing else."""
    arrays = dict(np.load(f"{data}.npz"))
    arrays["translation"] = np.where(
        arrays["is_val"][:, None], arrays["translation"] + 9, arrays["translation"]
    ).astype(np.float32)
    np.savez(tmp_path / "moved.npz", **arrays)
    (tmp_path / "moved.tar").write_bytes(Path(f"{data}.tar").read_bytes())
    states = []
    for stem in (data, tmp_path / "moved"):
        output = tmp_path / f"{stem.name}.pt"
        command = [
            "fit-confidence",
            "--weights",
            str(SHIPPED_MODEL),
            "--data",
            str(stem),
            "--samples",
            "96",
            "-o",
            str(output),
        ]
        assert main([*command, "--face-model", str(data.parent / "face_model.npz")]) == 0
        states.append(torch.load(output, weights_only=True)["network"])
    assert "no_face_refused" in capsys.readouterr().out
    for name, value in states[0].items():
        if name not in ("confidence.slope", "confidence.bias"):
            assert torch.equal(value, states[1][name]), name
    for name, value in load_edge(SHIPPED_MODEL).state_dict().items():
        assert torch.equal(states[0][name], value), name
    network = EdgeNet()
    network.adapt_to(states[0])
    network.load_state_dict(states[0])
    assert network.confidence is not None
