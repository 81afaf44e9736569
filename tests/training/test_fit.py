"""The commands from labels to a running model, on a toy face set."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from export.checkpoints.checkpoint import load_checkpoint
from tests.training.toy import dot_pictures, toy_face_model, toy_labels, write_toy_set
from training.__main__ import main
from training.compression import head_after
from training.fit import parse_source_weights
from training.networks import create_network


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Stem of toy.npz and toy.tar, with face_model.npz beside them."""
    labels = toy_labels(toy_face_model(), 16)
    return write_toy_set(tmp_path_factory.mktemp("data"), labels, dot_pictures(labels))


def fit(data: Path, run: Path, *options: str) -> int:
    return main(["fit", "--data", str(data), "--run", str(run), "--batch-size", "4", "--workers", "0", *options])


@pytest.mark.slow
def test_a_run_is_resumed_with_a_longer_schedule(data, tmp_path, capsys):
    assert fit(data, tmp_path, "--epochs", "1") == 0
    assert fit(data, tmp_path, "--epochs", "2", "--source-weights", "left=2") == 0
    assert "going on after epoch 1" in capsys.readouterr().out
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert state["epoch"] == 2


@pytest.mark.slow
def test_two_sets_and_points_by_hand(data, tmp_path):
    marked = dataclasses.replace(toy_labels(toy_face_model(), 8, seed=1), source=np.full(8, "marked"))
    hand68 = marked.pts68[..., :2] + np.float32([0, 4])
    other = write_toy_set(tmp_path, dataclasses.replace(marked, hand68=hand68), dot_pictures(marked), "marked")
    options = (
        "--data",
        str(other),
        "--hand-weight",
        "1",
        "--any-roll",
        "0.2",
        "--cut",
        "0.5",
        "--learning-rate",
        "1e-3",
    )
    assert fit(data, tmp_path / "run", "--epochs", "1", *options) == 0
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    offsets = state["loss"]["hand_loss.offsets"]
    assert offsets.shape == (1, 68, 2)  # of the one source with points
    assert offsets.abs().max() > 0
    header, row = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert "marked" in header.split(",")
    assert float(row.split(",")[header.split(",").index("train_loss")]) > 0
    # Offsets go on with the run
    assert fit(data, tmp_path / "run", "--epochs", "2", *options) == 0
    later = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["loss"]["hand_loss.offsets"]
    assert (later - offsets).abs().max() > 0


@pytest.mark.slow
def test_a_trained_network_is_shrunk(data, tmp_path, capsys):
    torch.manual_seed(0)
    torch.save({"network": create_network("edge").state_dict()}, tmp_path / "best.pt")
    command = [
        "shrink",
        "--weights",
        str(tmp_path / "best.pt"),
        "--data",
        str(data),
        "--samples",
        "192",
        "-o",
        str(tmp_path / "small.pt"),
    ]
    assert main([*command, "--latent", "48"]) == 0
    assert "latent 128 -> 48" in capsys.readouterr().out
    assert load_checkpoint("edge", tmp_path / "small.pt").squeeze.out_channels == 48
    assert load_checkpoint("edge", tmp_path / "small.pt").confidence is None
    assert main([*command, "--latent", "200"]) == 1
    assert "cannot be shrunk" in capsys.readouterr().err


@pytest.mark.slow
def test_a_confidence_head_outlives_shrinking(data, tmp_path):
    network = create_network("edge")
    torch.nn.init.normal_(network.add_confidence().out.weight)
    torch.save({"network": network.state_dict()}, tmp_path / "best.pt")
    command = ["shrink", "--weights", tmp_path / "best.pt", "--data", data, "--samples", 192, "--latent", 24]
    assert main([str(part) for part in [*command, "-o", tmp_path / "small.pt"]]) == 0
    small = load_checkpoint("edge", tmp_path / "small.pt")
    assert small.squeeze.out_channels == 24
    assert small.confidence.from_latent.weight.shape == (64, 24)
    for name, value in network.confidence.state_dict().items():
        if not name.startswith("from_latent"):
            torch.testing.assert_close(small.confidence.state_dict()[name], value)


@pytest.mark.slow
@torch.no_grad()
def test_a_confidence_head_reads_the_new_latent_vector_as_the_old_one():
    """Where the new one holds all of the old one, here halved, moved and mixed, the head's answers stay."""
    torch.manual_seed(0)
    network, small, images = create_network("edge").eval(), create_network("edge").eval(), torch.rand(200, 3, 128, 128)
    head, mix = network.add_confidence(), torch.linalg.qr(torch.randn(128, 128))[0] / 2
    small.encoder.load_state_dict(network.encoder.state_dict())
    small.squeeze.weight.copy_(torch.einsum("nk,kchw->nchw", mix, network.squeeze.weight))
    small.squeeze.bias.copy_(mix @ network.squeeze.bias + 0.3)
    small.add_confidence().load_state_dict(head_after(head.state_dict(), network, small, images))
    features = network.encoder(images)
    old, new = (part.squeeze(features).flatten(1) for part in (network, small))
    torch.testing.assert_close(small.confidence.from_latent(new), head.from_latent(old), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source-weights", "nowhere=2"], "no source nowhere"),
        (["--start-at", "missing.pt"], "missing.pt"),
        (["--face-model", "missing.npz"], "missing.npz"),
    ],
)
def test_bad_input_is_one_line(data, tmp_path, capsys, options, message):
    assert fit(data, tmp_path, *options) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_checkpoint_of_another_network_is_refused(data, tmp_path, capsys):
    torch.save({"training": {"weight": torch.zeros(3)}, "network": {"weight": torch.zeros(3)}}, tmp_path / "last.pt")
    assert fit(data, tmp_path) == 1
    assert "belongs to another run" in capsys.readouterr().err
    assert fit(data, tmp_path / "fresh", "--start-at", str(tmp_path / "last.pt")) == 1
    assert "weights of another network" in capsys.readouterr().err
    (tmp_path / "last.pt").write_bytes(b"\0 is no checkpoint")
    assert fit(data, tmp_path) == 1
    assert "neither a PyTorch nor" in capsys.readouterr().err


def test_data_without_validation_rows_are_refused(data, tmp_path, capsys):
    arrays = dict(np.load(f"{data}.npz"))
    arrays["is_val"][:] = False
    np.savez(tmp_path / "toy.npz", **arrays)
    (tmp_path / "toy.tar").write_bytes(Path(f"{data}.tar").read_bytes())
    assert fit(tmp_path / "toy", tmp_path / "run", "--face-model", str(data.parent / "face_model.npz")) == 1
    assert "0 validation rows" in capsys.readouterr().err


def test_source_weights_are_parsed():
    assert parse_source_weights("aflw=0.5,helen=2") == {"aflw": 0.5, "helen": 2.0}
    with pytest.raises(Exception, match="NAME=WEIGHT"):
        parse_source_weights("aflw")
