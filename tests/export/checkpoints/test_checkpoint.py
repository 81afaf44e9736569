"""`load_checkpoint`: the weights that go in come out, and whatever else goes in is refused in one line."""

from __future__ import annotations

import argparse
import datetime
import functools
import os
import pickle
import re
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.checkpoints.checkpoint import COUNTER, load_checkpoint
from export.checkpoints.tensor_bundle import read_index
from runtime.errors import FaceMeshError
from tests.export.checkpoints.bundle_writer import entry, write_bundle
from training.networks import create_network
from training.networks.prnet import ConvNorm, PRNet, SameConv

FIXTURES = Path(__file__).parent / "fixtures"


class TinyNet(nn.Module):
    """The network of the checkpoint ``tiny`` that TensorFlow wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(SameConv(3, 2, 1))

    def tensorflow_names(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {key: place for key, place in prnet_names().items() if key.startswith("stem.")}


class TinyNetOfNobody(nn.Module):
    """A network without counterpart in TensorFlow."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(SameConv(3, 2, 1))


@functools.cache
def prnet_names() -> dict[str, tuple[str, tuple[int, ...]]]:
    with torch.device("meta"):
        return PRNet().tensorflow_names()


@pytest.fixture
def tiny_net(monkeypatch):
    """Two channels stand in for PRNet, so that a test takes no time."""
    monkeypatch.setattr(
        "export.checkpoints.checkpoint.create_network", lambda name: {"prnet": TinyNet, "edge": TinyNetOfNobody}[name]()
    )


def random_state(network: nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return OrderedDict(
        (name, torch.rand(value.shape, generator=generator) if value.is_floating_point() else value + 7)
        for name, value in network.state_dict().items()
    )


def assert_holds(network: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    state = network.state_dict()
    assert not network.training
    for name, value in expected.items():
        if not name.endswith("num_batches_tracked"):
            assert state[name].dtype == torch.float32
            torch.testing.assert_close(state[name], value.float(), rtol=0, atol=0)
    assert state.keys() - expected.keys() <= {name for name in state if name.endswith("num_batches_tracked")}


# --- TensorFlow


def prnet_variables(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """As TensorFlow names and arranges them."""
    places = prnet_names().items()
    return {
        name: np.ascontiguousarray(state[key].numpy().transpose(np.argsort(axes)))
        for key, (name, axes) in places
        if key in state
    }


def test_full_size_checkpoint_as_published(tmp_path, shared_data):
    """All 13.4 M weights at the offsets of the published index, between the slots of Adam (holes here)."""
    published = read_index(shared_data / "reference" / "256_256_resfcn256_weight.index")
    state = random_state(PRNet())
    variables = prnet_variables(state)
    slots = {
        name: entry(tensor.shape, tensor.offset, tensor.size, tensor.checksum)
        for name, tensor in published.items()
        if name not in variables
    }
    assert len(slots) == 300
    assert sum(value.size for value in variables.values()) > 13.3e6
    write_bundle(tmp_path / "weights", variables, {name: tensor.offset for name, tensor in published.items()}, slots)
    written = read_index(tmp_path / "weights.index")
    assert {name: (tensor.shape, tensor.offset) for name, tensor in written.items()} == {
        name: (tensor.shape, tensor.offset) for name, tensor in published.items()
    }
    assert_holds(load_checkpoint("prnet", tmp_path / "weights.index"), state)


@pytest.mark.usefixtures("tiny_net")
@pytest.mark.parametrize("name", ["tiny", "tiny.index", "tiny.data-00000-of-00001"])
def test_checkpoint_that_tensorflow_wrote(name):
    network = load_checkpoint("prnet", FIXTURES / name)
    weight, norm = network.stem.conv.weight.detach().numpy(), network.stem.norm
    with np.load(FIXTURES / "tiny.npz") as variables:
        np.testing.assert_array_equal(norm.weight.detach(), variables["resfcn256/Conv/BatchNorm/gamma"])
        np.testing.assert_array_equal(norm.bias.detach(), variables["resfcn256/Conv/BatchNorm/beta"])
        np.testing.assert_array_equal(norm.running_mean, variables["resfcn256/Conv/BatchNorm/moving_mean"])
        np.testing.assert_array_equal(norm.running_var, variables["resfcn256/Conv/BatchNorm/moving_variance"])
        kernel = variables["resfcn256/Conv/weights"]
    for out, into, y, x in np.ndindex(weight.shape):
        assert weight[out, into, y, x] == kernel[y, x, into, out]
    assert not network.training


def test_wrong_tensorflow_checkpoint():
    with pytest.raises(FaceMeshError) as caught:
        load_checkpoint("prnet", FIXTURES / "tiny.index")
    message = str(caught.value)
    assert "tiny.index: not the 245 tensors of 'prnet'; 240 missing: resfcn256/resBlock/Conv/weights, " in message
    assert " and 230 more; 5 misshapen: resfcn256/Conv/weights (4, 4, 3, 2) instead of (4, 4, 3, 16), " in message
    assert "\n" not in message


@pytest.mark.usefixtures("tiny_net")
def test_unknown_variables_of_tensorflow_are_listed_but_not_its_training_state(tmp_path):
    with np.load(FIXTURES / "tiny.npz") as arrays:
        variables = dict(arrays)
    others = {"fc/weights": np.ones((2, 2), np.float32), "save_counter": np.array(3)}
    write_bundle(tmp_path / "more", variables | others)
    with pytest.raises(FaceMeshError, match=r"not the 5 tensors of 'prnet'; 1 unknown: fc/weights; give weights"):
        load_checkpoint("prnet", tmp_path / "more")


@pytest.mark.usefixtures("tiny_net")
@pytest.mark.parametrize(
    "slot",
    [
        *("{}/Momentum", "{}/RMSProp", "{}/RMSProp_1", "{}/Adam_1", "{}/Adagrad", "{}/Adadelta_1", "{}/Ftrl"),
        *("train/{}/Momentum", "{}/Adam/ExponentialMovingAverage"),
    ],
)
def test_slots_of_optimisers_are_left_alone(tmp_path, slot):
    variables = prnet_variables(random_state(TinyNet()))
    slots = {slot.format(name): value + 1 for name, value in variables.items()}
    steps = {"train/global_step": np.array(7), "learning_rate": np.array(0.1, np.float32)}
    write_bundle(tmp_path / "trained", variables | slots | steps)
    notes = []
    assert_holds(load_checkpoint("prnet", tmp_path / "trained", notes.append), random_state(TinyNet()))
    assert notes == []


@pytest.mark.usefixtures("tiny_net")
@pytest.mark.parametrize("scope", ["", "average/"])
def test_moving_averages_of_tensorflow_are_taken_if_every_weight_has_one(tmp_path, scope):
    state = random_state(TinyNet())
    variables = prnet_variables(state)
    weights = {name: value for name, value in variables.items() if "moving_" not in name}
    averages = {f"{scope}{name}/ExponentialMovingAverage": value / 2 for name, value in weights.items()}
    write_bundle(tmp_path / "trained", variables | averages)
    notes = []
    halved = {name: value if "running_" in name else value / 2 for name, value in state.items()}
    assert_holds(load_checkpoint("prnet", tmp_path / "trained", notes.append), halved)
    assert "ExponentialMovingAverage of the weights is taken" in notes[0]
    averages.popitem()
    write_bundle(tmp_path / "partly", variables | averages)
    assert_holds(load_checkpoint("prnet", tmp_path / "partly", notes.append), state)
    assert "the weights are taken; 1 of 3 have no ExponentialMovingAverage" in notes[1]


def test_tensorflow_checkpoint_for_a_network_without_counterpart_there():
    with pytest.raises(
        FaceMeshError, match=r"tiny\.index: TensorFlow checkpoints are read for --arch prnet, not for 'edge'"
    ):
        load_checkpoint("edge", FIXTURES / "tiny.index")


@pytest.mark.usefixtures("tiny_net")
def test_tensorflow_values_are_checked(tmp_path):
    variables = {name: value.astype(np.float16) for name, value in prnet_variables(random_state(TinyNet())).items()}
    variables["resfcn256/Conv/weights"] = variables["resfcn256/Conv/weights"].astype(np.int32)
    write_bundle(tmp_path / "typed", variables)
    with pytest.raises(
        FaceMeshError,
        match=r"typed\.index: weights must be .*, these are not: resfcn256/Conv/weights \(int32\); convert",
    ):
        load_checkpoint("prnet", tmp_path / "typed")
    variables["resfcn256/Conv/weights"] = variables["resfcn256/Conv/weights"].astype(np.float32)
    write_bundle(tmp_path / "typed", variables)
    assert load_checkpoint("prnet", tmp_path / "typed").stem.norm.weight.dtype == torch.float32
    variables["resfcn256/Conv/BatchNorm/beta"][1] = np.nan
    write_bundle(tmp_path / "typed", variables)
    with pytest.raises(FaceMeshError, match=r"typed: NaN or infinity in stem\.norm\.bias; the training diverged"):
        load_checkpoint("prnet", tmp_path / "typed")


@pytest.mark.usefixtures("tiny_net")
def test_index_and_data_apart(tmp_path):
    write_bundle(tmp_path / "bare", prnet_variables(random_state(TinyNet())))
    (tmp_path / "bare.data-00000-of-00001").rename(tmp_path / "elsewhere")
    with pytest.raises(
        FaceMeshError,
        match=r"bare\.data-00000-of-00001: no such file; the values of .* are in it: put it beside bare\.index",
    ):
        load_checkpoint("prnet", tmp_path / "bare.index")
    (tmp_path / "bare.index").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "bare.data-00000-of-00001")
    with pytest.raises(
        FaceMeshError,
        match=r"bare\.index: no such file; a TensorFlow checkpoint is an \.index and its \.data-… side by side",
    ):
        load_checkpoint("prnet", tmp_path / "bare.data-00000-of-00001")


# --- PyTorch


@pytest.mark.parametrize("arch", ["edge", "prnet"])
def test_networks_come_back_as_saved(tmp_path, arch):
    state = random_state(create_network(arch))
    torch.save(state, tmp_path / "weights.pt")
    assert_holds(load_checkpoint(arch, tmp_path / "weights.pt"), state)


@pytest.mark.usefixtures("tiny_net")
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("container", [None, "network", "state_dict", "model"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_the_forms_of_a_state_dict(tmp_path, prefix, container, is_zip):
    state = random_state(TinyNet())
    content = {prefix + name: value for name, value in state.items()}
    if container:
        content = {"epoch": 3, "optimiser": {"state": {}}, container: content}
    torch.save(content, tmp_path / "weights.pth", _use_new_zipfile_serialization=is_zip)
    assert_holds(load_checkpoint("edge", tmp_path / "weights.pth"), state)


class Options:
    """Settings of a script, as its checkpoints hold them."""

    def __init__(self) -> None:
        self.epochs = 3


@pytest.fixture(autouse=True)
def a_script(monkeypatch):
    """Make `Options` a class of ``__main__``, where scripts have theirs."""
    monkeypatch.setattr(Options, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Options", Options, raising=False)


def prefixed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in state.items()}


def doubled(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights that are not to be taken."""
    return {name: value * 2 for name, value in state.items()}


def without_buffers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if "running_" not in name and COUNTER not in name}


CHECKPOINTS = {
    "model_state_dict": (lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {0: {"step": 1}}}}, ""),
    "compiled": (lambda s: prefixed(s, "_orig_mod."), ""),
    "compiled and wrapped": (lambda s: {"model": prefixed(s, "module._orig_mod.")}, ""),
    "compiled inside": (lambda s: {n.replace("stem.", "stem._orig_mod."): v for n, v in s.items()}, ""),
    "any key": (lambda s: {"generator": {"weights": s}}, ""),
    "two deep": (lambda s: {"state": {"model": {"params": s}}}, ""),
    "Lightning": (
        lambda s: {
            "state_dict": prefixed(s, "model.") | {"criterion.weight": torch.ones(3)},
            "hyper_parameters": {"lr": 1e-3, "root": Path("/data"), "args": argparse.Namespace(depth=3)},
            "pytorch-lightning_version": "2.4",
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(1.0), "path": Path("x.ckpt")}},
        },
        r"the weights in state_dict\.model are taken; 1 other names are left out \(criterion\.weight\)",
    ),
    "Lightning, compiled": (lambda s: {"state_dict": prefixed(s, "net._orig_mod.")}, ""),
    "settings": (lambda s: {"model": s, "args": Options(), "best": np.float64(3.5), "when": datetime.date.today()}, ""),
    "average": (lambda s: {"model": doubled(s), "ema": s}, "the weights in ema are taken; not those in model"),
    "average first": (lambda s: {"state_dict_ema": s, "state_dict": doubled(s)}, "in state_dict_ema are taken; not"),
    "average of BasicSR": (lambda s: {"params": doubled(s), "params_ema": s}, "in params_ema are taken; not those in"),
    "average, torch's": (
        lambda s: {"model": doubled(s), "ema": {"n_averaged": torch.tensor(9), **prefixed(s, "module.")}},
        "in ema are taken",
    ),
    "average by prefix": (
        lambda s: {"state_dict": prefixed(doubled(s), "model.") | prefixed(s, "model_ema.module.")},
        r"in state_dict\.model_ema are taken; not those in state_dict\.model; \d+ other",
    ),
    "average without statistics": (
        lambda s: {
            "model": {n: v if "running_" in n else v * 2 for n, v in s.items()},
            "ema": {"decay": 0.999, "shadow": without_buffers(s)},
        },
        r"in ema\.shadow are taken; statistics of normalisations from model",
    ),
}


@pytest.mark.usefixtures("tiny_net")
@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints_of_training_programs(tmp_path, kind):
    state = random_state(TinyNet())
    make, remark = CHECKPOINTS[kind]
    torch.save(make(state), tmp_path / "weights.ckpt")
    notes = []
    assert_holds(load_checkpoint("edge", tmp_path / "weights.ckpt", notes.append), state)
    assert len(notes) == bool(remark)
    assert not remark or re.search(remark, notes[0])


@pytest.mark.usefixtures("tiny_net")
def test_an_average_of_part_of_the_weights_is_not_taken(tmp_path):
    state = random_state(TinyNet())
    torch.save({"model": state, "ema": {"stem.norm.bias": torch.ones(2)}}, tmp_path / "weights.pt")
    assert_holds(load_checkpoint("edge", tmp_path / "weights.pt"), state)


@pytest.mark.usefixtures("tiny_net")
def test_mappings_that_hold_each_other_end(tmp_path):
    """Each is looked at once, or this would take hours."""
    state = random_state(TinyNet())
    content = {"model": state}
    content |= {f"again{number}": content for number in range(3000)}
    torch.save(content, tmp_path / "weights.pt")
    assert_holds(load_checkpoint("edge", tmp_path / "weights.pt"), state)


def test_a_whole_network_is_named(tmp_path):
    torch.save(Options(), tmp_path / "weights.pt")
    with pytest.raises(FaceMeshError, match=r"holds no state dict but __main__\.Options; save network\.state_dict\(\)"):
        load_checkpoint("edge", tmp_path / "weights.pt")


@pytest.mark.usefixtures("tiny_net")
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_safetensors(tmp_path, prefix):
    library = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    state = random_state(TinyNet())
    path = tmp_path / "weights.safetensors"
    library.save_file(prefixed(state, prefix), path)
    assert_holds(load_checkpoint("edge", path), state)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FaceMeshError, match=r"weights\.safetensors: no safetensors file, or a damaged one \("):
        load_checkpoint("edge", path)
    path.unlink()
    with pytest.raises(FaceMeshError, match=r"no such file; give the \.safetensors"):
        load_checkpoint("edge", path)


@pytest.mark.usefixtures("tiny_net")
def test_what_a_state_dict_may_be_like(tmp_path):
    state = random_state(TinyNet())
    del state["stem.norm.num_batches_tracked"]
    state["stem.conv.weight"] = state["stem.conv.weight"].half().to(memory_format=torch.channels_last)
    state["stem.norm.bias"] = nn.Parameter(state["stem.norm.bias"].bfloat16())
    torch.save(state, tmp_path / "weights.pt")
    assert_holds(
        load_checkpoint("edge", tmp_path / "weights.pt"), {name: value.detach() for name, value in state.items()}
    )


@pytest.mark.usefixtures("tiny_net")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"stem.conv.weight": None},
            r"not the 5 tensors of 'edge'; 1 missing: stem\.conv\.weight; give weights of 'edge', or another --arch",
        ),
        ({"head.weight": torch.ones(2)}, r"1 unknown: head\.weight; give"),
        ({"line\nbreak": torch.ones(2)}, r"1 unknown: line\\nbreak; give"),
        ({"stem.norm.bias": torch.ones(3)}, r"1 misshapen: stem\.norm\.bias \(3,\) instead of \(2,\); give"),
        ({"stem.norm.bias": torch.ones(1).expand(2**40)}, r"1 misshapen: stem\.norm\.bias \(1099511627776,\)"),
        (
            {"stem.norm.bias": torch.ones(2, dtype=torch.int64)},
            r"these are not: stem\.norm\.bias \(strided int64 on cpu\)",
        ),
        (
            {"stem.norm.bias": torch.ones(2, dtype=torch.float64)},
            r"these are not: stem\.norm\.bias \(strided float64 on cpu\)",
        ),
        (
            {"stem.norm.bias": torch.ones(2).to_sparse()},
            r"these are not: stem\.norm\.bias \(sparse_coo float32 on cpu\)",
        ),
        (
            {"stem.norm.bias": torch.ones(2, device="meta")},
            r"these are not: stem\.norm\.bias \(strided float32 on meta\)",
        ),
        (
            {"stem.norm.bias": torch.tensor([1, torch.nan])},
            r"NaN or infinity in stem\.norm\.bias; the training diverged",
        ),
        ({"stem.conv.weight": torch.full((2, 3, 4, 4), -torch.inf)}, r"NaN or infinity in stem\.conv\.weight"),
        (
            {"stem.norm.bias": [1, 2]},
            r"holds no state dict, not tensors are stem\.norm\.bias; save network\.state_dict\(\)",
        ),
        ({"module.stem.norm.bias": torch.ones(2)}, r"both with and without 'module\.'"),
    ],
)
def test_what_a_state_dict_may_not_be_like(tmp_path, change, reason):
    state = {name: value for name, value in (random_state(TinyNet()) | change).items() if value is not None}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(FaceMeshError, match=rf"weights\.pt: .*{reason}") as caught:
        load_checkpoint("edge", tmp_path / "weights.pt")
    assert "\n" not in str(caught.value)


def test_weights_of_another_network(tmp_path):
    torch.save(create_network("edge").state_dict(), tmp_path / "edge.pt")
    with pytest.raises(
        FaceMeshError,
        match=r"not the 245 tensors of 'prnet'; 245 missing: stem.* and 235 more; \d+ unknown: .* more; give",
    ) as caught:
        load_checkpoint("prnet", tmp_path / "edge.pt")
    assert len(str(caught.value)) < 1500
    with pytest.raises(FaceMeshError, match="no network is called 'resnet'; there are edge, prnet"):
        load_checkpoint("resnet", tmp_path / "edge.pt")


@pytest.mark.parametrize(
    "content",
    [{}, [], torch.ones(2), {"network": {}}, {1: torch.ones(2)}, {"network": torch.ones(1), "epoch": 3}],
    ids=str,
)
def test_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(FaceMeshError, match=r"weights\.pt: holds no state dict.*; save network\.state_dict\(\)"):
        load_checkpoint("edge", tmp_path / "weights.pt")


class Malicious:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_no_code_is_run(tmp_path, form, protocol, recwarn):
    content = {"network": {"stem.norm.bias": Malicious(tmp_path / "executed")}}
    if form == "pickle":
        (tmp_path / "weights.pt").write_bytes(pickle.dumps(content, protocol))
    else:
        torch.save(
            content, tmp_path / "weights.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=form == "zip"
        )
    with pytest.raises(FaceMeshError) as caught:
        load_checkpoint("edge", tmp_path / "weights.pt")
    assert not (tmp_path / "executed").exists()
    assert not recwarn.list
    if protocol in (2, 3):  # what torch.save writes, and the like
        assert "refused, loading it would call posix.mkdir, and a checkpoint must not run code" in str(caught.value)
    if protocol > 3:
        assert "refused, loading it needs more than tensors and plain containers" in str(caught.value)
    pickle.loads(pickle.dumps(content, protocol))
    assert (tmp_path / "executed").exists()  # it was no dud


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused(tmp_path):
    torch.jit.save(torch.jit.trace(nn.Linear(3, 3), torch.zeros(1, 3)), tmp_path / "weights.pt")
    with pytest.raises(FaceMeshError, match=r"neither a PyTorch nor a TensorFlow checkpoint.*TorchScript"):
        load_checkpoint("edge", tmp_path / "weights.pt")


def damage(path: Path, kind: str) -> None:
    data = path.read_bytes()
    values = data.find(b"\x01\x02\x03\x04" * 8)
    assert values > 0
    path.write_bytes(
        {
            "empty": b"",
            "short": data[:1],
            "cut": data[: len(data) // 2],
            "cut by a byte": data[:-1],
            "a value changed": data[:values] + b"\xff" + data[values + 1 :],
            "noise": np.random.default_rng(0).bytes(5000),
            "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 53434\n",
            "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
        }[kind]
    )


@pytest.mark.usefixtures("tiny_net")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "empty; fetch or save it again"),
        ("short", "neither a PyTorch nor a TensorFlow checkpoint"),
        ("cut", r"or a damaged one \(PytorchStreamReader failed reading zip archive.*\); fetch or save it again"),
        ("cut by a byte", r"or a damaged one \(PytorchStreamReader failed"),
        ("a value changed", "damaged, the checksum of '.*' in it does not fit; fetch or save it again"),
        ("noise", "neither a PyTorch nor a TensorFlow checkpoint, or a damaged one; fetch"),
        ("text", "neither a PyTorch nor a TensorFlow checkpoint, or a damaged one; fetch"),
        ("png", "neither a PyTorch nor a TensorFlow checkpoint, or a damaged one; fetch"),
    ],
)
def test_damaged_files(tmp_path, kind, reason):
    state = random_state(TinyNet())
    state["stem.conv.weight"] = torch.frombuffer(bytearray(b"\x01\x02\x03\x04" * 96), dtype=torch.float32).reshape(
        2, 3, 4, 4
    )
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    assert_holds(load_checkpoint("edge", path), state)
    damage(path, kind)
    with pytest.raises(FaceMeshError, match=rf"weights\.pt: .*{reason}"):
        load_checkpoint("edge", path)


def test_files_that_are_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    for path, reason in (
        (tmp_path / "some.zip", "neither a PyTorch nor a TensorFlow checkpoint"),
        (
            tmp_path / "gone.pt",
            "no such file; give a PyTorch state dict, or a TensorFlow checkpoint by its .index or prefix",
        ),
        (tmp_path, r"cannot be read \(Is a directory\); give the file of a checkpoint"),
    ):
        with pytest.raises(FaceMeshError, match=rf"{path.name}: {reason}"):
            load_checkpoint("edge", path)
