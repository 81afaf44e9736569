"""A trained checkpoint -> the network that it belongs to: `load_checkpoint`. Nothing in a checkpoint is ever executed.

Read are PyTorch state dicts wherever they lie in a checkpoint (`export.checkpoints.state_dicts`), the same as
safetensors, and, for networks that know the names of their variables there (``tensorflow_names``), TensorFlow
checkpoints (`export.checkpoints.tensorflow_variables`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from export.checkpoints.state_dicts import weights_of_network
from export.checkpoints.tensor_bundle import TensorBundle, bundle_prefix, index_path
from export.checkpoints.tensorflow_variables import choose_variables
from runtime.console.terminal import print_line
from runtime.errors import FaceMeshError
from training.checkpoints import read_pickle
from training.networks import NETWORK_NAMES, create_network

LOSSLESS = (torch.float32, torch.float16, torch.bfloat16)  # types whose every value float32 has too
COUNTER = "num_batches_tracked"  # ends the names of buffers that training alone reads
SHOWN = 10  # names in an error, of each kind
SAFETENSORS = ".safetensors"


def load_checkpoint(arch: str, path: Path, on_note: Callable[[str], None] = print_line) -> nn.Module:
    """The network ``arch`` (see `training.networks`) with the weights of ``path``: float32, on the CPU, in eval mode.

    ``path`` is a PyTorch or safetensors file, or a TensorFlow checkpoint by its .index, its .data-… or its prefix.
    Weights in half precision become float32, which has all their values. ``on_note`` gets one line if the file holds
    several sets of weights. Raises `FaceMeshError` when the file is missing, damaged or would run code, when tensors
    are missing, unknown, of another shape or type, or hold NaN or infinity.
    """
    if arch not in NETWORK_NAMES:
        raise FaceMeshError(f"no network is called {arch!r}; there are {', '.join(NETWORK_NAMES)}")
    with torch.device("meta"):  # without memory: the weights themselves take their place
        network = create_network(arch)
    prefix = bundle_prefix(path)
    if prefix is None:
        state, remark = _pytorch_state(network, arch, path)
    else:
        state, remark = _tensorflow_state(network, arch, prefix)
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
    if remark:
        on_note(f"note: {path}: {remark}")
    return network.eval()


def _tensorflow_state(network: nn.Module, arch: str, prefix: Path) -> tuple[dict[str, Tensor], str]:
    """Return the state dict and a remark on the choice of its variables."""
    path = index_path(prefix)
    if not hasattr(network, "tensorflow_names"):
        raise FaceMeshError(
            f"{path}: TensorFlow checkpoints are read for --arch prnet, not for {arch!r}; give a PyTorch state dict"
        )
    bundle = TensorBundle(prefix)
    places, own = network.tensorflow_names(), network.state_dict()
    wanted = {name: tuple(own[key].shape[axis] for axis in np.argsort(axes)) for key, (name, axes) in places.items()}
    shapes = {name: entry.shape for name, entry in bundle.entries.items()}
    chosen, others, remark = choose_variables(shapes, wanted)
    found = {name: shapes[stored] for name, stored in chosen.items()} | {name: shapes[name] for name in others}
    _compare(path, arch, wanted, found)
    types = {name: bundle.entries[chosen[name]].type_name for name in wanted}
    _refuse_types(path, {name: kind for name, kind in types.items() if kind not in ("float32", "float16")})
    state = {
        key: torch.from_numpy(np.ascontiguousarray(bundle[chosen[name]].transpose(axes)))
        for key, (name, axes) in places.items()
    }
    return state, remark


def _pytorch_state(network: nn.Module, arch: str, path: Path) -> tuple[dict[str, Tensor], str]:
    """Return the state dict and a remark on its place."""
    state, remark = _state_dict(network, path, _content(path))
    unused = getattr(network, "training_only", ())
    given = {n: value for n, value in state.items() if not n.startswith(unused)}
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
    return found, remark


def _content(path: Path) -> object:
    if path.suffix.lower() == SAFETENSORS:
        from export.checkpoints.safetensors_file import read_safetensors

        return read_safetensors(path)
    return read_pickle(path)


def _state_dict(network: nn.Module, path: Path, content: object) -> tuple[dict[str, Tensor], str]:
    """Return the state dict of a file by the network's names, and a remark on the choice."""
    if not isinstance(content, Mapping) or not content:
        kind = getattr(content, "origin", type(content).__name__)
        raise FaceMeshError(f"{path}: holds no state dict but {kind}; save network.state_dict()")
    wanted = [name for name in network.state_dict() if not name.endswith(COUNTER)]
    try:
        state, remark = weights_of_network(content, wanted, getattr(network, "own_names", dict))
    except ValueError as error:
        raise FaceMeshError(f"{path}: holds {error}; save one of the networks alone") from None
    if not state:  # weights of something else, which `_compare` describes
        state = max(map(_tensors, [content, *content.values()]), key=len)
    if strange := [
        str(name) for name, value in (state or content).items() if not (isinstance(name, str) and _is_tensor(value))
    ]:
        raise FaceMeshError(
            f"{path}: holds no state dict, not tensors are {_listed(strange)}; save network.state_dict()"
        )
    return state, remark


def _tensors(content: object) -> dict[str, Tensor]:
    """Return a mapping of nothing but tensors, and none for anything else."""
    is_state = isinstance(content, Mapping) and all(map(_is_tensor, content.values()))
    return {name: value for name, value in content.items() if isinstance(name, str)} if is_state else {}


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


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
