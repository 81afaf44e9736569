"""PyTorch checkpoints, read without running any code in them."""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
from torch import nn

from runtime.errors import FaceMeshError, reason
from runtime.storage.bounded_files import open_bounded
from runtime.storage.npz_files import open_zip

# Packages of classes for settings, paths, numbers and dates, which programs save beside weights. `Settings` stands in
# for every one of them. Scripts define such classes in ``__main__``.
SETTINGS_PACKAGES = {
    *("argparse", "pathlib", "collections", "datetime", "decimal", "enum", "types", "uuid", "__main__", "numpy"),
    *("omegaconf", "lightning", "pytorch_lightning", "lightning_fabric", "lightning_utilities"),
    *("yacs", "easydict", "addict", "mmengine", "mmcv", "ml_collections", "box"),
}
MOST_SETTINGS = 100  # classes in one file


class Settings(dict):
    """Stands in for objects of a class that a checkpoint names: a dictionary that runs nothing."""

    origin = ""  # name of the class

    def __new__(cls, *_: object, **__: object) -> Settings:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        """Forget the state."""

    __hash__ = object.__hash__  # paths and numbers may be keys


def write_checkpoint(network: nn.Module, file: BinaryIO, **more: Any) -> None:
    """Write the weights of a trained network, for `python -m export onnx`, and the rest of its checkpoint."""
    torch.save({"network": network.state_dict(), **more}, file)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the dictionary that ``torch.save`` wrote, on the CPU. Raises `FaceMeshError` for anything else."""
    state = read_pickle(path)
    if not isinstance(state, dict):
        raise FaceMeshError(
            f"{path}: holds a {type(state).__name__}, no checkpoint of this command; give best.pt of a run"
        )
    return state


def read_pickle(path: Path, mapped: bool = False) -> object:
    """Return the object that ``torch.save`` wrote, on the CPU: tensors and plain containers alone.

    Objects of settings become empty `Settings`. With ``mapped`` tensors take no memory until they are used. Raises
    `FaceMeshError` for missing and damaged files and for pickles that would run code.
    """
    try:
        with open_bounded(path) as file:
            mark = file.read(2)
            damaged = _damaged_part(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols; what they warn of is refused below
            keywords = {"map_location": "cpu", "weights_only": True, "mmap": mapped and zipfile.is_zipfile(path)}
            content = None if damaged or not mark else _load(path, keywords)
    except FileNotFoundError:
        raise FaceMeshError(
            f"{path}: no such file; give a PyTorch state dict, or a TensorFlow checkpoint by its .index or prefix"
        ) from None
    except OSError as error:
        raise FaceMeshError(f"{path}: cannot be read ({reason(error)}); give the file of a checkpoint") from None
    except UnpicklingError as error:
        called = re.search(r"GLOBAL ([\w.]+)", str(error))
        if not called and mark != b"PK" and not mark.startswith(b"\x80"):
            raise _no_checkpoint(path) from None
        what = f"would call {called[1]}" if called else "needs more than tensors and plain containers"
        raise FaceMeshError(
            f"{path}: refused, loading it {what}, and a checkpoint must not run code; save network.state_dict() alone"
        ) from None
    except Exception as error:  # torch raises a dozen types for files that are no checkpoints
        raise _no_checkpoint(path, str(error) if isinstance(error, (RuntimeError, ValueError)) else "") from None
    if damaged:
        raise FaceMeshError(f"{path}: damaged, the checksum of {damaged!r} in it does not fit; fetch or save it again")
    if not mark:
        raise FaceMeshError(f"{path}: empty; fetch or save it again")
    return content


def _load(path: Path, keywords: dict[str, Any]) -> object:
    """Load a file with `Settings` for classes of settings; the first try finds one that is not known yet."""
    known: dict[str, type] = {}
    while True:
        try:
            with torch.serialization.safe_globals([(kind, name) for name, kind in known.items()]):
                return torch.load(path, **keywords)
        except UnpicklingError as error:
            called = re.search(r"GLOBAL ([\w.]+)", str(error))
            name = called[1].rstrip(".") if called else ""
            is_settings = name.partition(".")[0] in SETTINGS_PACKAGES
            if not is_settings or name in known or len(known) == MOST_SETTINGS:
                raise
            known[name] = type("Settings", (Settings,), {"origin": name})


def _damaged_part(file: BinaryIO) -> str | None:
    """Return the name of the first part of a zip archive whose checksum does not fit; PyTorch does not look at them.

    Raises `ValueError` for parts that claim more than the file holds.
    """
    if not zipfile.is_zipfile(file):
        return None
    with open_zip(file) as archive:
        return archive.testzip()


def _no_checkpoint(path: Path, text: str = "") -> FaceMeshError:
    text = re.sub(r"^\[.*?\] \. ", "", " ".join(text.split())).partition(". ")[0][:160]
    cause = f" ({text})" if text else ""
    return FaceMeshError(
        f"{path}: neither a PyTorch nor a TensorFlow checkpoint, or a damaged one{cause}; fetch or save it again"
    )
