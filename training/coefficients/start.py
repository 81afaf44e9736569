"""Start of a run of a coefficient network: the scale of its numbers, and published weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runtime.errors import FaceMeshError
from runtime.families.face_model import FaceModel
from runtime.storage.npz_files import read_npz
from training.checkpoints import read_checkpoint
from training.coefficients.face_numbers import FaceNumbers, measure_whitening
from training.data.dataset import FaceCrops
from training.networks.coefficients import CoefficientNetwork, Whitening

MEASURED_FACES = 1024
CONTAINERS = ("res_state_dict", "state_dict")  # keys of the state dict in checkpoints of 2DASL and 3DDFA_V2


def set_whitening(
    network: CoefficientNetwork, start: Path | None, given: Path | None, run: Path, model: FaceModel, crops: FaceCrops
) -> None:
    """Give ``network`` the mean and standard deviation of its numbers.

    They are those of the checkpoint in ``run`` or, for a new run, of the file ``given``, of the checkpoint ``start``,
    or of the training crops. Raises `FaceMeshError` if they do not belong to the network.
    """
    last = run / "last.pt"
    if last.exists():
        network.whitening = recorded_whitening(last, read_checkpoint(last), network.count)
    elif given is not None:
        arrays = read_npz(given, ("mean", "std"), what="mean and std of a network's numbers")
        network.whitening = checked_whitening(given, arrays, network.count)
    elif start is not None and start.suffix != ".onnx":
        state = read_checkpoint(start)
        if hasattr(network, "load_trunk") and "network" not in state:
            network.whitening = crops_whitening(network, model, crops)
            return
        if "whitening" not in state:
            raise FaceMeshError(
                f"{start}: does not say mean and std of its numbers; give its param_mean_std file by --whitening"
            )
        network.whitening = recorded_whitening(start, state, network.count)
    else:
        network.whitening = crops_whitening(network, model, crops)


def crops_whitening(network: CoefficientNetwork, model: FaceModel, crops: FaceCrops) -> Whitening:
    """Return the statistics of the numbers in `MEASURED_FACES` training crops."""
    numbers = FaceNumbers(model, network)
    batches = (crops[index] for index in range(max(1, MEASURED_FACES // crops.batch_size)))
    coefficients = torch.from_numpy(crops.labels.coefficients.astype(np.float32))
    return measure_whitening(numbers, coefficients, batches)


def recorded_whitening(path: Path, state: Mapping[str, Any], count: int) -> Whitening:
    """Return the whitening in a checkpoint of `python -m training fit`. Raises `FaceMeshError` if there is none."""
    record = state.get("whitening")
    is_sound = isinstance(record, Mapping) and all(isinstance(record.get(name), Tensor) for name in ("mean", "std"))
    if not is_sound:
        raise FaceMeshError(f"{path}: belongs to another run (its numbers have no mean and std); give another --run")
    return checked_whitening(path, {name: record[name].numpy() for name in ("mean", "std")}, count)


def checked_whitening(path: Path, arrays: Mapping[str, np.ndarray], count: int) -> Whitening:
    """Return mean and std, ``count`` finite numbers each and std above 0. Raises `FaceMeshError` for others."""
    mean, std = (np.asarray(arrays[name]).ravel() for name in ("mean", "std"))
    if {mean.size, std.size} != {count}:
        raise FaceMeshError(
            f"{path}: {mean.size} numbers in mean and {std.size} in std, the network puts out {count}; "
            "give the file of this network"
        )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and std.min() > 0):
        raise FaceMeshError(f"{path}: mean and std must be finite and std above 0; give the file of this network")
    return Whitening(mean.astype(np.float32), std.astype(np.float32))


def published_state(network: CoefficientNetwork, state: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """Return the weights in a checkpoint of 2DASL's or 3DDFA_V2's authors, by their names here; None in another."""
    found = next((state[key] for key in CONTAINERS if isinstance(state.get(key), Mapping)), None)
    if found is None:
        return None
    weights = {name.removeprefix("module."): value for name, value in found.items()}
    return {name: value for name, value in weights.items() if not name.startswith(network.training_only or ("\0",))}
