"""``python -m export onnx`` from end to end, on the edge network."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("onnxsim")

import numpy as np
import onnx
import torch

import export.commands.onnx_command
import export.graphs.rewrite
from export.__main__ import main
from export.graphs.verify import run_model, verification_images
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import SHIPPED
from runtime.models.spec import ModelSpec
from runtime.storage.whole_files import file_sha256
from tests.standins.networks import live_edge, sure_edge


def run_cli(*arguments):
    return main(["onnx", *map(str, arguments)])


def test_checkpoint_becomes_a_model_that_computes_the_same(edge_onnx):
    spec = ModelSpec.load(ModelSpec.path_for(edge_onnx))
    assert (spec.name, spec.precision, spec.onnx_sha256) == ("edge", "fp32", file_sha256(edge_onnx))
    images = verification_images(spec.input, spec.crop_scale)
    with torch.no_grad():
        expected = live_edge()(torch.from_numpy(images)).numpy()
    assert expected.std(0).max() * spec.output.scale > 1
    with open_runner(edge_onnx, max_batch=4) as runner:
        runner.input[:] = images
        np.testing.assert_allclose(runner.infer(4), expected, atol=1e-5)
    assert not list(edge_onnx.parent.glob("*.part"))


@pytest.mark.slow
def test_the_same_weights_give_the_same_bytes(edge_onnx, edge_checkpoint, tmp_path):
    again = tmp_path / "again.onnx"
    assert run_cli("--arch", "edge", "--weights", edge_checkpoint, "-o", again) == 0
    assert again.read_bytes() == edge_onnx.read_bytes()
    assert str(edge_checkpoint.parent).encode() not in edge_onnx.read_bytes()
    assert b".py" not in edge_onnx.read_bytes()


@pytest.mark.slow
def test_fp16_from_onnx(edge_onnx, tmp_path, capsys):
    """Any ONNX file goes in; here one with its spec beside it."""
    half = tmp_path / "half.onnx"
    last = [node.name for node in onnx.load(str(edge_onnx)).graph.node if node.op_type == "Conv"][-1]
    assert run_cli("--weights", edge_onnx, "-o", half, "--precision", "fp16", "--keep", last) == 0
    spec = ModelSpec.load(ModelSpec.path_for(half))
    assert spec.precision == "fp16"
    assert half.stat().st_size < 0.8 * edge_onnx.stat().st_size
    table = capsys.readouterr().out
    for word in ("nodes", "parameters", "GFLOP", "Conv", "px mean"):
        assert word in table
    images = verification_images(spec.input, spec.crop_scale)
    difference = np.abs(
        run_model(onnx.load(str(half)), images, "position_map")
        - run_model(onnx.load(str(edge_onnx)), images, "position_map")
    )
    assert 0 < difference.max() * spec.output.scale < 1


@pytest.mark.slow
def test_confidence_head_becomes_a_second_output(sure_onnx):
    spec = ModelSpec.load(ModelSpec.path_for(sure_onnx))
    assert spec.confidence == "confidence"
    images = verification_images(spec.input, spec.crop_scale)
    with torch.no_grad():
        expected_map, expected = (output.numpy() for output in sure_edge()(torch.from_numpy(images)))
    assert expected.std() > 0.02
    with open_runner(sure_onnx, max_batch=4) as runner:
        runner.input[:] = images
        np.testing.assert_allclose(runner.infer(4), expected_map, atol=1e-5)
        np.testing.assert_allclose(runner.confidence, expected[:, 0], atol=1e-5)


@pytest.mark.slow
def test_fp16_keeps_the_confidence(sure_onnx, tmp_path, capsys):
    half = tmp_path / "half.onnx"
    assert run_cli("--weights", sure_onnx, "-o", half, "--precision", "fp16") == 0
    assert "half.onnx: its confidence differs by " in capsys.readouterr().out
    spec = ModelSpec.load(ModelSpec.path_for(half))
    assert (spec.precision, spec.confidence) == ("fp16", "confidence")
    head = {tensor.name: tensor for tensor in onnx.load(half).graph.initializer if "confidence" in tensor.name}
    assert len(head) == 6
    assert {tensor.data_type for tensor in head.values()} == {onnx.TensorProto.FLOAT}
    images = verification_images(spec.input, spec.crop_scale)
    found, expected = (run_model(onnx.load(path), images, "confidence") for path in (half, sure_onnx))
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert (found != expected).any()


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_confidence_that_is_no_probability(tmp_path, capsys, value):
    model = onnx.load(SHIPPED["fp32"])
    last = next(node for node in model.graph.node if "confidence" in node.output)
    last.op_type = "Identity"
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "confidence.out.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.float32([value]), bias.name))
    odd = tmp_path / "odd.onnx"
    onnx.save(model, odd)
    spec = ModelSpec.load(ModelSpec.path_for(SHIPPED["fp32"]))
    dataclasses.replace(spec, onnx_sha256=file_sha256(odd)).save(ModelSpec.path_for(odd))
    assert run_cli("--weights", odd, "-o", tmp_path / "out.onnx") == 1
    error = capsys.readouterr().err
    assert "odd.onnx: its confidence is " in error
    assert "a probability is wanted; give other weights" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.onnx").exists()


def test_onnx_without_spec_takes_the_rest_from_the_architecture(edge_onnx, tmp_path, capsys):
    bare = tmp_path / "bare.onnx"
    bare.write_bytes(edge_onnx.read_bytes())
    assert run_cli("--weights", bare, "-o", tmp_path / "out.onnx") == 1
    assert "no spec beside it; add --arch" in capsys.readouterr().err
    assert run_cli("--weights", bare, "--arch", "edge", "--no-rewrite", "-o", tmp_path / "out.onnx") == 0
    assert ModelSpec.load(tmp_path / "out.onnx.json").crop_scale == live_edge().crop_scale


@pytest.mark.slow
def test_half_precision_model_without_spec_is_called_that(edge_onnx, tmp_path, capsys):
    from export.engines.engine_source import open_source

    half, bare, out = tmp_path / "half.onnx", tmp_path / "bare.onnx", tmp_path / "out.onnx"
    assert run_cli("--weights", edge_onnx, "-o", half, "--precision", "fp16") == 0
    bare.write_bytes(half.read_bytes())
    assert run_cli("--weights", bare, "--arch", "edge", "-o", out) == 0
    assert open_source(out).spec.precision == "fp16"
    capsys.readouterr()
    assert run_cli("--weights", half, "--precision", "fp16", "-o", tmp_path / "again.onnx") == 1
    assert "in half precision already" in capsys.readouterr().err
    assert not list(tmp_path.glob("again*"))


def test_architecture_must_fit_the_spec_beside_the_model(edge_onnx, tmp_path, capsys):
    out = tmp_path / "out.onnx"
    assert run_cli("--weights", edge_onnx, "--arch", "prnet", "-o", out) == 1
    error = capsys.readouterr().err
    assert "not that of --arch prnet (input size 128 instead of 256, " in error
    assert "output size 64 instead of 256, output scale 140.8 instead of 281.6" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
    assert run_cli("--weights", edge_onnx, "--arch", "edge", "--no-rewrite", "-o", out) == 0


def test_error_in_the_last_comparison_leaves_nothing(edge_onnx, tmp_path, capsys):
    given = tmp_path / "given.onnx"
    given.write_bytes(edge_onnx.read_bytes())
    spec = ModelSpec.load(ModelSpec.path_for(edge_onnx))
    dataclasses.replace(spec, topology="nope.npz").save(ModelSpec.path_for(given))
    assert run_cli("--weights", given, "-o", tmp_path / "out.onnx") == 1
    assert "nope.npz" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("allowed", "said"), [(1e-5, ""), (3e-5, "rewrites may differ by 3e-05 here instead of 1e-05")]
)
def test_wider_tolerance_is_said(capsys, allowed, said):
    export.commands.onnx_command._print_steps([export.graphs.rewrite.Step("fold_constants", 2e-6, allowed)])
    out = capsys.readouterr().out
    assert "fold_constants: largest difference 2e-06" in out
    assert ("may differ" in out) == bool(said)
    assert said in out


def test_help_is_plain_text(capsys):
    with pytest.raises(SystemExit):
        run_cli("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "A checkpoint, or a model that is ONNX already, becomes" in text
    assert "one position map (N,3,S,S) or (N,S,S,3)" in text
    assert "``" not in text


def test_dropped_rewrite_is_a_warning(edge_onnx, tmp_path, capsys, monkeypatch):
    def crash(graph):
        raise RuntimeError("made to fail")

    monkeypatch.setattr(export.graphs.rewrite.fold_constants, "run", crash)
    assert run_cli("--weights", edge_onnx, "-o", tmp_path / "out.onnx") == 0
    assert "warning: the rewrite fold_constants is left out: RuntimeError: made to fail" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "prnet"], "last.pt"),
        ([], "Add --arch"),
        (["--arch", "edge", "--keep", "conv"], "add --precision fp16"),
        (["--arch", "edge", "-o", "nowhere/model.onnx"], "folder that exists"),
        (["--arch", "edge", "-o", "model.engine"], "must become an .onnx file"),
    ],
    ids=["wrong architecture", "no architecture", "keep without fp16", "no folder", "suffix"],
)
def test_bad_input_is_one_line_and_leaves_nothing(edge_checkpoint, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run_cli("-o", "model.onnx", "--weights", edge_checkpoint, *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_a_model_does_not_replace_what_it_is_made_from(edge_onnx, tmp_path, capsys):
    path = tmp_path / "model.onnx"
    path.write_bytes(edge_onnx.read_bytes())
    assert run_cli("--weights", path, "--arch", "edge", "-o", tmp_path / "." / "model.onnx") == 1
    assert "would replace what it is made from" in capsys.readouterr().err
    assert path.read_bytes() == edge_onnx.read_bytes()


def test_unknown_node_to_keep_is_one_line_and_leaves_nothing(edge_onnx, tmp_path, capsys):
    arguments = ["--precision", "fp16", "--keep", "no_such_node", "-o", tmp_path / "model.onnx"]
    assert run_cli("--weights", edge_onnx, "--no-rewrite", *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "no node is called no_such_node" in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_dead_network_is_refused(tmp_path, capsys):
    from training.networks import create_network

    path = tmp_path / "fresh.pt"
    torch.save({"network": create_network("edge").state_dict()}, path)
    assert run_cli("--arch", "edge", "--weights", path, "-o", tmp_path / "model.onnx") == 1
    assert "hardly depends on the picture" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["fresh.pt"]


@pytest.mark.slow
def test_untrained_network_is_marked(tmp_path, capsys):
    path = tmp_path / "edge.onnx"
    assert run_cli("--untrained", "--arch", "edge", "-o", path) == 0
    spec = ModelSpec.load(ModelSpec.path_for(path))
    assert spec.untrained
    with open_runner(path) as runner:
        assert runner.spec.untrained
    half = tmp_path / "half.onnx"
    assert run_cli("--weights", path, "-o", half, "--precision", "fp16", "--max-shift", 5) == 0
    assert ModelSpec.load(ModelSpec.path_for(half)).untrained
    capsys.readouterr()
    assert run_cli("--untrained", "-o", tmp_path / "out.onnx") == 1
    assert "--untrained: which network is wanted? Add --arch {edge,prnet," in capsys.readouterr().err
