"""PyTorch checkpoints, read without running any code in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from runtime.errors import FaceMeshError


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the dictionary that `torch.save` wrote, on the CPU. Raises `FaceMeshError` for anything else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FaceMeshError(f"{path}: no such file; give a PyTorch checkpoint") from None
    except Exception as error:  # torch raises a dozen types for files that are no checkpoints
        raise FaceMeshError(
            f"{path}: no PyTorch checkpoint ({type(error).__name__}); give one of a run, or 3DDFA_V2's"
        ) from None
    if not isinstance(state, dict):
        raise FaceMeshError(f"{path}: holds a {type(state).__name__}, no checkpoint; give one of a run, or 3DDFA_V2's")
    return state
