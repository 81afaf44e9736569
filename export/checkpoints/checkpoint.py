"""A trained checkpoint -> the network that it belongs to: `load_checkpoint`. Nothing in a checkpoint is ever executed.

Read are PyTorch state dicts (bare, as ``python -m training fit`` saves them, or under ``state_dict``, ``model`` or
``res_state_dict``) and, for networks that know the names of their variables there (``tensorflow_names``), TensorFlow
checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from export.checkpoints.tensor_bundle import TensorBundle, bundle_prefix, index_path
from runtime.errors import FaceMeshError
from training.checkpoints import read_pickle
from training.networks import NETWORK_NAMES, create_network

CONTAINERS = ("network", "state_dict", "res_state_dict", "model")  # keys of the state dict; the first is ours
LOSSLESS = (torch.float32, torch.float16, torch.bfloat16)  # types whose every value float32 has too
COUNTER = "num_batches_tracked"  # ends the names of buffers that training alone reads
SHOWN = 10  # names in an error, of each kind
# What training leaves beside the variables of a network: Adam's slots and decays, the number of steps.
TRAINING_STATE = re.compile(r"(.*/)?(Adam(_\d+)?|beta[12]_power(_\d+)?|global_step)")


def load_checkpoint(arch: str, path: Path) -> nn.Module:
    """The network ``arch`` (see `training.networks`) with the weights of ``path``: float32, on the CPU, in eval mode.

    ``path`` is a PyTorch file, or a TensorFlow checkpoint by its .index, its .data-… or its prefix. Weights in half
    precision become float32, which has all their values. Raises `FaceMeshError` when the file is missing, damaged or
    would run code, when tensors are missing, unknown, of another shape or type, or hold NaN or infinity.
    """
    if arch not in NETWORK_NAMES:
        raise FaceMeshError(f"no network is called {arch!r}; there are {', '.join(NETWORK_NAMES)}")
    with torch.device("meta"):  # without memory: the weights themselves take their place
        network = create_network(arch)
    prefix = bundle_prefix(path)
    state = _pytorch_state(network, arch, path) if prefix is None else _tensorflow_state(network, arch, prefix)
    if broken := [name for name, value in state.items() if value.numel() and not _is_finite(value)]:
        raise FaceMeshError(
            f"{path}: NaN or infinity in {_listed(broken)}; the training diverged, give an earlier checkpoint"
        )
    counters = {
        name: torch.zeros((), dtype=value.dtype)
        for name, value in network.state_dict().items()
        if name.endswith(COUNTER)
    }
    network.load_state_dict({name: value.float() for name, value in state.items()} | counters, assign=True)
    return network.eval()


def _tensorflow_state(network: nn.Module, arch: str, prefix: Path) -> dict[str, Tensor]:
    path = index_path(prefix)
    if not hasattr(network, "tensorflow_names"):
        raise FaceMeshError(
            f"{path}: TensorFlow checkpoints are read for --arch prnet, not for {arch!r}; give a PyTorch state dict"
        )
    bundle = TensorBundle(prefix)
    places, own = network.tensorflow_names(), network.state_dict()
    wanted = {name: tuple(own[key].shape[axis] for axis in np.argsort(axes)) for key, (name, axes) in places.items()}
    found = {name: entry.shape for name, entry in bundle.entries.items() if not TRAINING_STATE.fullmatch(name)}
    _compare(path, arch, wanted, found)
    types = {name: bundle.entries[name].type_name for name in wanted}
    _refuse_types(path, {name: kind for name, kind in types.items() if kind not in ("float32", "float16")})
    return {
        key: torch.from_numpy(np.ascontiguousarray(bundle[name].transpose(axes)))
        for key, (name, axes) in places.items()
    }


def _pytorch_state(network: nn.Module, arch: str, path: Path) -> dict[str, Tensor]:
    unused = getattr(network, "training_only", ())
    given = {n: value for n, value in _state_dict(path, read_pickle(path)).items() if not n.startswith(unused)}
    if hasattr(network, "own_names"):
        given = network.own_names(given)
    if hasattr(network, "adapt_to"):
        with torch.device("meta"):
            network.adapt_to(given)
    wanted = {n: tuple(value.shape) for n, value in network.state_dict().items() if not n.endswith(COUNTER)}
    found = {name: value for name, value in given.items() if not name.endswith(COUNTER)}
    _compare(path, arch, wanted, {name: tuple(value.shape) for name, value in found.items()})
    odd = {name: value for name, value in found.items() if not _is_plain(value)}
    _refuse_types(
        path,
        {
            name: f"{value.layout} {value.dtype} on {value.device.type}".replace("torch.", "")
            for name, value in odd.items()
        },
    )
    return found


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    """Return the state dict of a file, without the ``module.`` of wrappers before each name."""
    if isinstance(content, Mapping):
        content = next((content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        raise FaceMeshError(f"{path}: holds no state dict but {type(content).__name__}; save network.state_dict()")
    if strange := [
        str(name) for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))
    ]:
        raise FaceMeshError(
            f"{path}: holds no state dict, not tensors are {_listed(strange)}; save network.state_dict()"
        )
    state = {name.removeprefix("module."): value for name, value in content.items()}
    if len(state) < len(content):
        raise FaceMeshError(
            f"{path}: holds tensors both with and without 'module.' before the same name; "
            "save one of the networks alone"
        )
    return state


def _is_finite(value: Tensor) -> bool:
    """Look for NaN and infinity without a copy of the values."""
    return all(bound.isfinite() for bound in value.aminmax())


def _is_plain(value: Tensor) -> bool:
    return value.dtype in LOSSLESS and value.layout == torch.strided and value.device.type == "cpu"


def _compare(
    path: Path, arch: str, wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> None:
    """Compare two name -> shape. Raises `FaceMeshError` that lists missing, unknown and misshapen tensors."""
    kinds = {
        "missing": [name for name in wanted if name not in found],
        "unknown": [name for name in found if name not in wanted],
        "misshapen": [
            f"{name} {found[name]} instead of {shape}"
            for name, shape in wanted.items()
            if found.get(name, shape) != shape
        ],
    }
    if faults := [f"{len(names)} {kind}: {_listed(names)}" for kind, names in kinds.items() if names]:
        raise FaceMeshError(
            f"{path}: not the {len(wanted)} tensors of {arch!r}; {'; '.join(faults)}; "
            f"give weights of {arch!r}, or another --arch"
        )


def _refuse_types(path: Path, types: Mapping[str, str]) -> None:
    if types:
        listed = _listed([f"{name} ({kind})" for name, kind in types.items()])
        raise FaceMeshError(
            f"{path}: weights must be plain float32 or half precision, these are not: {listed}; "
            "convert them before saving"
        )


def _listed(names: Collection[str]) -> str:
    """On one line whatever characters they hold."""
    shown = [repr(name)[1:-1][:200] for name in list(names)[:SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
