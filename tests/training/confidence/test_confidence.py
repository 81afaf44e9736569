"""The confidence head: learned from a network's own errors, calibrated, and without influence on the map."""

from __future__ import annotations

import io
import json
import re
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from runtime.models.shipped import SHIPPED_MODEL
from runtime.storage.whole_files import file_sha256
from tests.training.toy import coordinate_pictures, dot_pictures, toy_face_model, toy_labels, write_toy_set
from training.__main__ import main
from training.confidence.error_samples import NO_FACE_NME, ErrorSamples, hard_crops, measure_errors
from training.confidence.fit_head import calibrate, fit_head
from training.confidence.reliability import judge_confidence, report_of
from training.confidence.reliability_diagram import draw_reliability
from training.data.backgrounds import _beside_face, background_crop
from training.networks.confidence import LIMIT_NME, ConfidenceHead
from training.networks.edge import EdgeNet
from training.networks.folded import load_edge
from training.networks.inputs import image_tensor
from training.uv.targets import PositionMapLoss, PositionMapTargets
from training.uv.uv_layout import build_topology, region_weights


def toy_measures() -> tuple[PositionMapTargets, PositionMapLoss]:
    model = toy_face_model()
    topology = build_topology(model)
    loss = PositionMapLoss(region_weights(topology), topology, 64, 1.0)
    return PositionMapTargets(model, topology, 64), loss


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    labels = toy_labels(toy_face_model(), 24)
    return write_toy_set(tmp_path_factory.mktemp("data"), labels, dot_pictures(labels))


def synthetic(count: int, noise: float = 0.3, seed: int = 0) -> ErrorSamples:
    """Samples whose log error is bent round 8 %: by number 3 of the latent vector and feature 5, off their middles."""
    generator = torch.Generator().manual_seed(seed)
    latent = 30 + 0.1 * torch.randn(count, 8, generator=generator)
    pooled = torch.rand(count, 16, generator=generator) * 4
    bend = 6 * (latent[:, 3] - 30).abs() + 0.5 * (pooled[:, 5] - 2).abs()
    log_error = np.log(LIMIT_NME) - 1 + bend + noise * torch.randn(count, generator=generator)
    return ErrorSamples(latent, pooled, log_error.exp(), torch.ones(count, dtype=torch.bool))


@pytest.mark.slow
def test_margin_is_learned_from_latent_and_features():
    torch.manual_seed(0)
    head, samples = ConfidenceHead(8, 16), synthetic(4000)
    fit_head(head, samples, steps=1500)
    fresh = synthetic(1000, noise=0.0, seed=1)
    with torch.no_grad():
        margin = head.margin(fresh.latent, fresh.pooled)[:, 0]
        neither = (
            head.margin(fresh.latent.flip(0), fresh.pooled)[:, 0],
            head.margin(fresh.latent, fresh.pooled.flip(0))[:, 0],
        )
    wanted = np.log(LIMIT_NME) - fresh.nme.log()
    assert (margin - wanted).abs().mean() < 0.2
    assert wanted.std() > 0.4
    for shuffled in neither:
        assert (shuffled - wanted).abs().mean() > 0.3


def test_calibrated_confidence_is_a_probability():
    torch.manual_seed(0)
    head = ConfidenceHead(8, 16)
    fit_head(head, synthetic(4000), steps=1000)
    raw = judge_confidence(head, synthetic(4000, seed=2))
    calibrate(head, synthetic(4000, seed=1))
    report = judge_confidence(head, synthetic(4000, seed=2))
    assert report.calibration < 0.03 < raw.calibration
    assert report.brier < raw.brier
    assert report.auc == pytest.approx(raw.auc)
    assert report.auc > 0.85


def test_report_of_known_confidences():
    """Six crops, the last of no face; the fourth and the fifth are equally sure, one is good and one is not."""
    confidence = np.array([0.95, 0.9, 0.62, 0.3, 0.3, 0.04])
    good = np.array([True, True, False, True, False, False])
    report = report_of(confidence, good, np.arange(6) < 5)
    assert (report.crops, report.good) == (6, 0.5)
    assert report.auc == pytest.approx((3 + 3 + 1.5) / 9)
    assert report.auc_faces == pytest.approx((2 + 2 + 0.5) / 6)
    assert report.brier == pytest.approx(np.square(confidence - good).mean())
    assert report.calibration == pytest.approx((2 * 0.075 + 0.62 + 2 * 0.2 + 0.04) / 6)
    assert (report.kept, report.no_face_refused) == (pytest.approx(2 / 3), 1.0)
    assert [entry.crops for entry in report.classes] == [1, 0, 0, 2, 0, 0, 1, 0, 0, 2]
    assert [entry.no_face for entry in report.classes] == [1] + [0] * 9
    assert (report.classes[3].confidence, report.classes[3].good) == (pytest.approx(0.3), 0.5)
    assert report.classes[1].confidence is None


def test_sure_of_everything_is_in_the_last_class():
    report = report_of(np.ones(3), np.ones(3, bool), np.ones(3, bool))
    assert report.classes[-1].crops == 3
    assert np.isnan(report.auc)


def test_diagram_shows_what_was_measured():
    confidence, is_face = np.linspace(0.05, 0.95, 200), np.arange(200) < 150
    sure, lying = (report_of(confidence, confidence > limit, is_face) for limit in (0.5, 0.9))
    pictures = []
    for report in (sure, sure, lying):
        file = io.BytesIO()
        draw_reliability(report, file)
        pictures.append(cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR))
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_errors_are_those_of_the_network():
    """A network that always answers the target of one face is right on its crop."""
    labels = toy_labels(toy_face_model(), 8)
    targets, loss = toy_measures()
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
    assert samples.latent.shape == (48, 128)
    assert samples.pooled.shape == (48, 256)


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


@pytest.mark.parametrize("latent", [128, 20])
def test_head_does_not_move_map_or_encoder(latent):
    torch.manual_seed(0)
    network = EdgeNet(latent)
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


def test_head_reads_the_samples_of_its_network():
    """The probability of the network is that of the numbers that `measure_errors` collects."""
    labels, measures = toy_labels(toy_face_model(), 8), toy_measures()
    network = EdgeNet(20).eval()
    crops = hard_crops(network, labels, coordinate_pictures(labels), np.arange(8), seed=0)
    head = network.add_confidence()
    samples = measure_errors(network, crops, *measures, 1)
    batch = crops[0]
    with torch.no_grad():
        _, confidence = network(image_tensor(network, torch.from_numpy(batch.images)))
        expected = torch.sigmoid(head.margin(samples.latent, samples.pooled))
    torch.testing.assert_close(confidence[samples.is_face], expected[samples.is_face], atol=1e-5, rtol=0)


@pytest.fixture
def run_fit(tmp_path, monkeypatch):
    """``run_fit(data, *options)``: the exit code of the command with few crops and few steps."""
    monkeypatch.setattr("training.confidence.fit_head.fit_head", partial(fit_head, steps=100))

    def run(data, *options):
        command = ["fit-confidence", "--weights", SHIPPED_MODEL, "--data", data, "--samples", 96, *options]
        return main([str(word) for word in command])

    return run


@pytest.mark.slow
def test_command_keeps_the_map_and_calibrates_on_validation_rows_alone(run_fit, data, tmp_path, capsys):
    """Other labels in the validation rows change the last layer alone, by a factor and an offset."""
    arrays = dict(np.load(f"{data}.npz"))
    moved = arrays["translation"] + 9
    arrays["translation"] = np.where(arrays["is_val"][:, None], moved, arrays["translation"]).astype(np.float32)
    np.savez(tmp_path / "moved.npz", **arrays)
    (tmp_path / "moved.tar").write_bytes(Path(f"{data}.tar").read_bytes())
    (tmp_path / "face_model.npz").write_bytes((data.parent / "face_model.npz").read_bytes())
    states = []
    for stem in (data, tmp_path / "moved"):
        output = tmp_path / f"{stem.name}.pt"
        assert run_fit(stem, "-o", output) == 0
        states.append(torch.load(output, weights_only=True)["network"])
    assert "no_face_refused" in capsys.readouterr().out
    for name, value in states[0].items():
        if not name.startswith("confidence.out."):
            assert torch.equal(value, states[1][name]), name
    first, second = (state["confidence.out.weight"] for state in states)
    assert torch.allclose(second / first, (second / first).mean(), rtol=1e-3)
    for name, value in load_edge(SHIPPED_MODEL).state_dict().items():
        assert torch.equal(states[0][name], value), name
    network = EdgeNet()
    network.adapt_to(states[0])
    network.load_state_dict(states[0])
    assert network.confidence is not None


@pytest.mark.slow
def test_report_of_the_command(run_fit, data, tmp_path, capsys):
    assert run_fit(data, "-o", tmp_path / "sure.pt", "--report", tmp_path / "edge.v2") == 0
    record = json.loads((tmp_path / "edge.v2.json").read_text())
    assert record["sha256"] == file_sha256(SHIPPED_MODEL)
    assert f"auc {record['auc']:.3f}" in capsys.readouterr().out
    assert sum(entry["crops"] for entry in record["classes"]) == record["crops"] == 48
    good = sum(entry["crops"] * entry["good"] for entry in record["classes"] if entry["crops"])
    assert good / record["crops"] == pytest.approx(record["good"])
    assert cv2.imread(str(tmp_path / "edge.v2.png")) is not None
    assert {path.name for path in tmp_path.iterdir()} == {"sure.pt", "edge.v2.json", "edge.v2.png"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "{}/none/sure.pt"), r"none/sure\.pt: there is no folder .*none; create it .* with -o"),
        (("-o", "{}"), "is a folder; create it or choose another place with -o"),
        (("-o", "{}/sure.pt", "--report", "{}/none/stem"), r"none/stem: there is no folder .* with --report"),
    ],
)
def test_places_that_cannot_be_written_are_refused_at_once(
    run_fit, data, tmp_path, capsys, monkeypatch, options, message
):
    monkeypatch.setattr("training.confidence.fit_confidence.load_sets", lambda *_: pytest.fail("work was begun"))
    assert run_fit(data, *(option.format(tmp_path) for option in options)) == 1
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_report_without_matplotlib_is_refused_at_once(run_fit, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("training.confidence.fit_confidence.load_sets", lambda *_: pytest.fail("work was begun"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "training.confidence.reliability_diagram", raising=False)
    assert run_fit(data, "-o", tmp_path / "sure.pt", "--report", tmp_path / "stem") == 1
    assert (
        "this needs matplotlib, which is not installed: pip install 'facemesh-edge[bench]'" in capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_report_that_cannot_be_written_leaves_no_checkpoint(run_fit, data, tmp_path, capsys):
    (tmp_path / "stem.png").mkdir()
    assert run_fit(data, "-o", tmp_path / "sure.pt", "--report", tmp_path / "stem") == 1
    assert "stem.png: cannot be written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["stem.png"]
