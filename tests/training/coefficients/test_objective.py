"""The trainer of coefficients: every loss can be switched, runs learn, resume exactly, and see no validation row."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.coefficients.tiny import Tiny, TinyWithChannel, TinyWithoutPose, toy_crops, whitened
from tests.training.toy import dot_pictures, toy_face_model, toy_labels, write_toy_set
from training import start
from training.__main__ import main
from training.coefficients.losses import LOSSES
from training.coefficients.objective import CoefficientObjective, LossPlan, draw_channels
from training.data.labels import FaceLabels
from training.data.landmark_noise import draw_noise
from training.loop import Trainer
from training.schedule import Schedule

SUPERVISED = ("coefficients", "vertices", "landmarks", "consistency3d", "offsets")


def objective_for(
    network: Tiny, labels: FaceLabels, weights: dict[str, float], label_weights: dict[str, float] | None = None, **plan
) -> CoefficientObjective:
    torch.manual_seed(1)  # of the critic
    return CoefficientObjective(network, toy_face_model(), labels, LossPlan(weights, **plan), label_weights)


def prepared(kind: type[Tiny] = TinyWithChannel, noise: float = 0.0):
    torch.manual_seed(0)
    network = kind()
    crops = toy_crops(network, noise=noise)
    return whitened(network, crops), crops


def gradients(network: Tiny, objective: CoefficientObjective, batch) -> tuple[float, torch.Tensor]:
    network.zero_grad()
    loss = objective.loss(network, batch, 0)
    loss.backward()
    return loss.item(), torch.cat([parameter.grad.ravel() for parameter in network.parameters()])


@pytest.mark.parametrize("name", LOSSES)
def test_a_switched_loss_adds_its_own_gradient(name):
    network, crops = prepared()
    batch, base = crops[0], {"landmarks": 1.0} if name != "landmarks" else {"vertices": 1.0}
    network.eval()  # so that the second pass of the cycle leaves the statistics alone
    _, without = gradients(network, objective_for(network, crops.labels, base), batch)
    _, together = gradients(network, objective_for(network, crops.labels, base | {name: 0.5}), batch)
    _, alone = gradients(network, objective_for(network, crops.labels, {name: 1.0}), batch)
    assert alone.abs().max() > 0
    torch.testing.assert_close(together - without, 0.5 * alone, rtol=1e-3, atol=1e-5)


def test_central_weight_turns_the_gradient():
    network, crops = prepared()
    batch = crops[0]
    for name in ("landmarks", "consistency2d", "consistency3d", "cycle"):
        plain, central = (
            gradients(network.eval(), objective_for(network, crops.labels, {name: 1.0}, central_weight=w), batch)[1]
            for w in (1.0, 5.0)
        )
        assert torch.cosine_similarity(plain, central, dim=0) < 0.9999, name


def test_values_of_consistency_and_cycle():
    """The picture's channel shows the label's landmarks, that of the second pass the predicted ones."""
    network, crops = prepared()
    network.eval()
    batch = crops[0]
    weights = {"consistency2d": 1.0, "cycle": 1.0}
    objective = objective_for(network, crops.labels, weights)
    arrays = (crops.labels.coefficients[batch.rows], batch.poses, batch.mirrored)
    faces = tuple(map(torch.from_numpy, arrays))
    size = torch.from_numpy(batch.box_size_px)
    truth = objective.numbers.true_points(*faces)[0]
    pictures = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float() * (2 / 255) - 1
    images = torch.cat([pictures, torch.from_numpy(draw_channels(truth[..., :2].numpy(), 32))], 1)
    torch.testing.assert_close(objective.images(batch), images)
    landmarks = objective.numbers.points(network(images), *faces[1:])[0][..., :2]
    again = torch.cat([pictures, torch.from_numpy(draw_channels(landmarks.detach().numpy(), 32))], 1)
    back = objective.numbers.points(network(again), *faces[1:])[0][..., :2]
    drawn = [17, 19, 21, 22, 24, 26, 36, 39, 42, 45, 31, 30, 35, 48, 54]
    distance = (landmarks - truth[..., :2]).norm(dim=2) / size[:, None]
    pairs = ((37, 40), (43, 46), (62, 66))
    middles = [(landmarks[:, p] - truth[:, p, :2]).mean(1).norm(dim=1) / size for p in map(list, pairs)]
    consistency = torch.cat([distance[:, drawn], torch.stack(middles, 1)], 1).mean()
    cycle = ((back - truth[..., :2]).norm(dim=2) / size[:, None]).mean()
    assert objective.loss(network, batch, 0).item() == pytest.approx((consistency + cycle).item(), rel=1e-3)


def test_noise_moves_the_drawn_points_alone():
    network, crops = prepared(noise=0.1)
    objective = objective_for(network, crops.labels, {"landmarks": 1.0})
    batch = crops[0]
    quiet = dataclasses.replace(batch, noise68=np.zeros_like(batch.noise68))
    noisy_images, images = objective.images(batch), objective.images(quiet)
    assert torch.equal(noisy_images[:, :3], images[:, :3])
    assert not torch.equal(noisy_images[:, 3], images[:, 3])
    assert np.array_equal(crops[0].noise68, batch.noise68)  # a batch depends on its place alone
    assert not np.array_equal(crops[1].noise68, batch.noise68)
    assert np.array_equal(toy_crops(network)[0].images, batch.images)
    noise = draw_noise(np.random.default_rng(0), 4000, 0.05)
    assert np.linalg.norm(noise, axis=2).mean() == pytest.approx(0.05, rel=0.02)
    assert np.linalg.norm(noise.mean(1), axis=1).mean() > 0.02  # faces are off as a whole


def by_hand(labels: FaceLabels) -> FaceLabels:
    """Labels of the source "left" get points by hand, 2 px off; a half of them is not visible."""
    hand = np.where((labels.source == "left")[:, None, None], labels.pts68[..., :2] + 2, np.nan).astype(np.float32)
    visible = np.tile(np.uint8([2, 0]), (len(labels), 34))
    return dataclasses.replace(labels, hand68=hand, visible68=visible)


def test_faces_of_points_alone_learn_from_consistency_alone():
    torch.manual_seed(0)
    network = TinyWithChannel()
    crops = toy_crops(network, by_hand(toy_labels(toy_face_model(), 64)))
    whitened(network, crops).eval()
    batch = crops[0]
    left = crops.labels.source[batch.rows] == "left"
    assert left.any()
    assert not left.all()
    off = {"left": 0.0}
    for name in SUPERVISED:
        objective = objective_for(network, crops.labels, {name: 1.0}, off)
        whole = objective_for(network, crops.labels, {name: 1.0})
        assert objective.loss(network, batch, 0) < whole.loss(network, batch, 0), name
        rows = network(objective.images(batch)).detach().requires_grad_()
        objective.loss(lambda _, rows=rows: rows, batch, 0).backward()
        assert rows.grad[left].abs().max() == 0, name
        assert rows.grad[~left].abs().max() > 0, name
    # Their known points are the inner visible ones by hand
    objective = objective_for(network, crops.labels, {"cycle": 1.0}, off)
    truth = objective._truth(batch)[1]
    points, known = objective._points_2d(batch, truth)
    assert known[~left].all()
    assert not known[left][:, :17].any()
    assert known[left][:, 17:].float().mean() == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(points[left][known[left]], torch.from_numpy(batch.hand68)[left][known[left]])
    for name in ("consistency2d", "cycle"):
        objective = objective_for(network, crops.labels, {name: 1.0}, off)
        _, gradient = gradients(network, objective, batch)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


def test_a_network_without_pose_is_given_the_labels():
    network, crops = prepared(TinyWithoutPose)
    objective = objective_for(network, crops.labels, {"coefficients": 1.0, "vertices": 10.0})
    batch = crops[0]
    true_rows = objective._truth(batch)[0]
    assert true_rows.shape == (8, 3)
    landmarks, truth = objective.landmarks(lambda _: true_rows, batch)
    torch.testing.assert_close(landmarks, truth, rtol=0, atol=2e-3)
    assert objective.loss(lambda _: true_rows, batch, 0).item() == pytest.approx(10 * 1e-4, abs=2e-3)
    assert gradients(network, objective, batch)[1].abs().max() > 0


def test_the_second_stage_has_losses_of_its_own():
    network, crops = prepared()
    network.eval()
    plan = {"second_weights": {"vertices": 1.0}, "second_stage": 2}
    both = objective_for(network, crops.labels, {"coefficients": 1.0}, **plan)
    batch = crops[0]
    first, second = (
        objective_for(network, crops.labels, {name: 1.0}).loss(network, batch, 0)
        for name in ("coefficients", "vertices")
    )
    assert [both.loss(network, batch, epoch).item() for epoch in (0, 1, 2, 5)] == [
        pytest.approx(value.item()) for value in (first, first, second, second)
    ]


ALL_LOSSES = {"coefficients": 1.0, "vertices": 5.0, "consistency2d": 1.0, "cycle": 1.0, "critic": 0.1}


def trainer_for(folder: Path, weights: dict[str, float] = ALL_LOSSES, kind=TinyWithChannel, epochs: int = 2, **options):
    network, crops = prepared(kind, noise=0.02)
    plan = {"central_weight": 2.0, "second_weights": {"vertices": 5.0, "critic": 0.1}, "second_stage": 1}
    objective = objective_for(network, crops.labels, weights, **plan)
    schedule = Schedule(epochs=epochs, learning_rate=2e-3, halve_every=100, **options)
    return Trainer(network, objective, crops.labels, schedule, folder), crops, toy_crops(network, crops.labels, None)


@pytest.mark.slow
def test_it_learns(tmp_path):
    trainer, crops, validation = trainer_for(tmp_path, {"coefficients": 1.0, "landmarks": 5.0}, Tiny, 12)
    trainer.objective.plan = LossPlan({"coefficients": 1.0, "landmarks": 5.0})
    before = trainer.validate(validation, 0)["balanced"]
    trainer.fit(crops, validation, workers=0)
    assert trainer.best < 0.65 * before


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_by_bit(tmp_path, monkeypatch):
    """Critic, cycle and both stages included; the kill falls into the second stage."""
    whole, crops, validation = trainer_for(tmp_path / "whole")
    whole.fit(crops, validation, workers=0)
    cut, crops, validation = trainer_for(tmp_path / "cut", checkpoint_minutes=0.0)
    steps = []

    def step_until_killed(batch, batches, step=cut._step):
        if len(steps) == 9:
            raise Killed
        steps.append(step(batch, batches))

    monkeypatch.setattr(cut, "_step", step_until_killed)
    with pytest.raises(Killed):
        cut.fit(crops, validation, workers=0)
    again, crops, validation = trainer_for(tmp_path / "cut")
    with torch.no_grad():
        for parameter in again.objective.parameters():
            parameter.add_(1.0)  # nothing of the fresh critic may stay
    assert again.resume()
    assert (again.epoch, again.batch) == (1, 3)
    again.fit(crops, validation, workers=0)
    for name, value in whole.averaged.module.state_dict().items():
        assert torch.equal(again.averaged.module.state_dict()[name], value), name
    for name, value in whole.objective.named_parameters():
        assert torch.equal(dict(again.objective.named_parameters())[name], value), name


def test_checkpoints_hold_the_whitening(tmp_path):
    trainer, crops, validation = trainer_for(tmp_path, {"coefficients": 1.0}, Tiny, 1)
    trainer.objective.plan = LossPlan({"coefficients": 1.0})
    trainer.fit(crops, validation, workers=0)
    record = torch.load(tmp_path / "best.pt", weights_only=True)["whitening"]
    np.testing.assert_array_equal(record["mean"], trainer.network.whitening.mean)
    np.testing.assert_array_equal(record["std"], trainer.network.whitening.std)


# The command. Its networks want 40 + 10 coefficients, the toy face has 2 + 1: a tiny one stands in for them.


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    labels = toy_labels(toy_face_model(), 24)
    return write_toy_set(tmp_path_factory.mktemp("data"), labels, dot_pictures(labels))


@pytest.fixture
def tiny(monkeypatch):
    networks = {"mb05": Tiny, "2dasl": TinyWithChannel}
    monkeypatch.setattr(start, "create_network", lambda name: networks[name]())


def fit(data: Path, run: Path, *options: str, network: str = "2dasl") -> int:
    command = ["fit", "--network", network, "--data", str(data), "--run", str(run), "--batch-size", "6"]
    return main([*command, "--workers", "0", *(options if "--epochs" in options else (*options, "--epochs", "1"))])


@pytest.mark.slow
def test_the_command_with_all_losses_and_both_stages(data, tmp_path, tiny, capsys):
    losses = ",".join(f"{name}=0.5" for name in LOSSES)
    options = ("--losses", losses, "--central-weight", "3", "--second-stage", "1", "--second-losses", "vertices=1")
    assert fit(data, tmp_path / "run", *options, "--epochs", "2") == 0
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert math.isfinite(state["best"])
    assert any(name.startswith("critic.") for name in state["loss"])
    # Another run begins with its weights and their whitening
    assert fit(data, tmp_path / "next", "--start-at", str(tmp_path / "run" / "best.pt")) == 0
    later = torch.load(tmp_path / "next" / "last.pt", weights_only=True)
    assert torch.equal(later["whitening"]["mean"], state["whitening"]["mean"])
    assert fit(data, tmp_path / "next", "--epochs", "2") == 0
    assert "going on after epoch 1" in capsys.readouterr().out


def test_published_checkpoints_are_starts(data, tmp_path, tiny):
    torch.manual_seed(0)
    weights = {f"module.{name}": value for name, value in TinyWithChannel().state_dict().items()}
    torch.save({"res_state_dict": weights}, tmp_path / "authors.pth.tar")
    whitening = tmp_path / "param_mean_std.npz"
    np.savez(whitening, mean=np.zeros(15, np.float32), std=np.full(15, 2, np.float32))
    options = ("--start-at", str(tmp_path / "authors.pth.tar"), "--whitening", str(whitening))
    assert fit(data, tmp_path / "run", *options, "--learning-rate", "1e-9") == 0
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert state["whitening"]["std"].tolist() == [2.0] * 15
    torch.testing.assert_close(state["training"]["head.weight"], weights["module.head.weight"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "network", "message"),
    [
        (["--losses", "nonsense=1"], "2dasl", "no loss is called 'nonsense'"),
        (["--losses", "cycle=1"], "mb05", "takes no landmarks"),
        (["--losses", "coefficients=1"], "edge", "--network edge puts out a position map"),
        (["--second-stage", "1"], "2dasl", "belong together"),
        (["--second-stage", "5", "--second-losses", "vertices=1"], "2dasl", "between 1 and --epochs 1"),
        (["--central-weight", "-2"], "2dasl", "--central-weight must be"),
        (["--whitening", "missing.npz"], "2dasl", "missing.npz: no such file"),
        (["--start-at", "authors.pth"], "2dasl", "--whitening"),
        (["--start-at", "split.pt"], "2dasl", "15 numbers|weights of another network"),
        (["--whitening", "split.npz"], "2dasl", "3 numbers in mean and 3 in std, the network puts out 15"),
        (["--start-at", "model.onnx"], "2dasl", "ONNX can be the start of the edge network and"),
    ],
)
def test_bad_input_is_one_line(data, tmp_path, tiny, monkeypatch, capsys, options, network, message):
    weights = {f"module.{name}": value for name, value in Tiny().state_dict().items()}
    torch.save({"res_state_dict": weights}, tmp_path / "authors.pth")
    whitening = {"mean": torch.zeros(15), "std": torch.ones(15)}
    torch.save({"network": Tiny().state_dict(), "whitening": whitening}, tmp_path / "split.pt")
    np.savez(tmp_path / "split.npz", mean=np.zeros(3), std=np.ones(3))
    (tmp_path / "model.onnx").write_bytes(b"no model")
    if network == "edge":
        monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert fit(data, tmp_path / "run", *options, network=network) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert any(part in error for part in message.split("|")), error
    assert error.count("\n") == 1
    assert not (tmp_path / "run" / "last.pt").exists()


def test_a_face_model_that_does_not_fit_is_one_line(data, tmp_path, capsys):
    assert fit(data, tmp_path / "run", network="mb05") == 1
    error = capsys.readouterr().err
    assert "2 + 1 coefficients of shape and expression, the network 40 + 10" in error
    assert error.count("\n") == 1


def test_a_run_of_position_maps_is_refused(data, tmp_path, tiny, capsys):
    torch.save({"training": {}, "network": {}}, tmp_path / "last.pt")
    assert fit(data, tmp_path) == 1
    assert "belongs to another run" in capsys.readouterr().err


@pytest.mark.slow
def test_validation_rows_leave_no_trace(data, tmp_path, tiny):
    """Weights, critic and whitening are the same, byte for byte, if the validation rows are poisoned."""
    labels = toy_labels(toy_face_model(), 24)
    rows = labels.is_val
    poisoned = dataclasses.replace(
        labels,
        coefficients=np.where(rows[:, None], 1000, labels.coefficients).astype(np.float32),
        pts68=np.where(rows[:, None, None], labels.pts68 / 3, labels.pts68).astype(np.float32),
        box=np.where(rows[:, None], labels.box / 3, labels.box).astype(np.float32),
        translation=np.where(rows[:, None], 1e4, labels.translation).astype(np.float32),
    )
    pairs = zip(dot_pictures(labels), rows, strict=True)
    black = [np.zeros_like(picture) if row else picture for picture, row in pairs]
    (tmp_path / "poisoned").mkdir()
    other = write_toy_set(tmp_path / "poisoned", poisoned, black)
    states = []
    for stem in (data, other):
        run = tmp_path / f"run_{stem.parent.name}"
        assert fit(stem, run, "--losses", "coefficients=1,cycle=1,critic=0.1") == 0
        states.append(torch.load(run / "last.pt", weights_only=True))
    clean, seen = states
    assert clean["best"] != seen["best"]  # validation itself does see them
    for part in ("training", "network", "loss", "whitening"):
        for name, value in clean[part].items():
            assert torch.equal(value, seen[part][name]), name
