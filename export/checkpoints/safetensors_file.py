"""Read safetensors files: named tensors and nothing that could run. Home module of safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load

from runtime.errors import FaceMeshError, one_line, reason
from runtime.storage.bounded_files import read_bounded

if TYPE_CHECKING:
    from torch import Tensor


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return tensors by name, on the CPU. Raises `FaceMeshError` for missing and damaged files."""
    try:
        return load(read_bounded(path))
    except FileNotFoundError:
        raise FaceMeshError(f"{path}: no such file; give the .safetensors of a network") from None
    except OSError as error:
        raise FaceMeshError(f"{path}: cannot be read ({reason(error)}); give the file of a checkpoint") from None
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        text = one_line(error, 160)
        raise FaceMeshError(f"{path}: no safetensors file, or a damaged one ({text}); fetch or save it again") from None
