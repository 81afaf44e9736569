"""The moving average is the formula of its docstring, the mean of runs that of their exported weights."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from runtime.models.shipped import SHIPPED_MODEL
from training.__main__ import main
from training.averaging import averaged_model
from training.networks.edge import EdgeNet
from training.networks.folded import load_edge


def test_average_of_known_weights():
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    averaged = averaged_model(network, 0.5)
    values, mean = [3.0, 5.0, -1.0, 4.0, 2.0, 7.0, 0.0, 1.0, 6.0, 2.0, 9.0, -3.0], None
    for step, value in enumerate(values):
        with torch.no_grad():
            network[0].weight.fill_(value)
            network[1].running_mean.fill_(10 * value)
        network[1].num_batches_tracked += 1
        averaged.update_parameters(network)
        keep = min(0.5, (step + 1) / (step + 10))
        mean = value if mean is None else keep * mean + (1 - keep) * value
    assert abs(averaged.module[0].weight.item() - mean) < 1e-5
    assert abs(averaged.module[1].running_mean.item() - 10 * mean) < 1e-4
    assert averaged.module[1].num_batches_tracked.item() == len(values)  # counters are taken over
    assert network[0].weight.item() == values[-1]


def scaled(factor: float, path):
    """The shipped model with all weights and offsets times a factor."""
    model = onnx.load(SHIPPED_MODEL)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > 3:
            tensor.CopyFrom(numpy_helper.from_array((factor * values).astype(np.float32), tensor.name))
    onnx.save(model, path)
    return path


def test_mean_of_runs_by_their_shares(tmp_path):
    files = [SHIPPED_MODEL, scaled(3.0, tmp_path / "other.onnx")]
    assert main(["average", "--weights", *map(str, files), "--shares", "3,1", "-o", str(tmp_path / "mean.pt")]) == 0
    network, images = load_edge(tmp_path / "mean.pt"), 2 * torch.rand(2, 3, 128, 128) - 1
    expected = load_edge(scaled(1.5, tmp_path / "expected.onnx"))
    with torch.no_grad():
        torch.testing.assert_close(network(images), expected(images), rtol=1e-3, atol=1e-4)
        assert not torch.allclose(network(images), load_edge(files[0])(images), atol=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{shipped}"], "1 files and 1 shares"),
        (["{shipped}", "{shipped}", "--shares", "1"], "2 files and 1 shares"),
        (["{shipped}", "{run}"], "best.pt: cannot be read as ONNX"),
        (["{shipped}", "gone.onnx"], "gone.onnx: no such file"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, arguments, message):
    torch.save({"network": EdgeNet().state_dict()}, tmp_path / "best.pt")
    paths = {"shipped": SHIPPED_MODEL, "run": tmp_path / "best.pt"}
    target = tmp_path / "mean.pt"
    assert main(["average", "--weights", *[text.format(**paths) for text in arguments], "-o", str(target)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not target.exists()


@pytest.mark.parametrize("shares", ["0,1", "a,b", "-1,2", ""])
def test_shares_that_are_none(tmp_path, shares, capsys):
    with pytest.raises(SystemExit):
        main(["average", "--weights", "a", "b", f"--shares={shares}", "-o", str(tmp_path / "mean.pt")])
    assert "no list of positive numbers" in capsys.readouterr().err


def test_another_latent_size_is_refused(tmp_path, capsys):
    model = onnx.load(SHIPPED_MODEL)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name in ("squeeze.weight", "squeeze.bias"):
            tensor.CopyFrom(numpy_helper.from_array(values[:40].copy(), tensor.name))
        elif tensor.name == "expand.weight":
            tensor.CopyFrom(numpy_helper.from_array(values[:, :40].copy(), tensor.name))
    onnx.save(model, tmp_path / "smaller.onnx")
    files = [str(SHIPPED_MODEL), str(tmp_path / "smaller.onnx")]
    assert main(["average", "--weights", *files, "-o", str(tmp_path / "mean.pt")]) == 1
    assert "smaller.onnx: another shape than" in capsys.readouterr().err
