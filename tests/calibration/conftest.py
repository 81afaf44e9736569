"""Files of a small network and of labelled pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import pytest

from runtime.models.spec import ModelSpec
from runtime.storage.whole_files import file_sha256
from tests.calibration.small import SPEC, small_network, write_face_set


@pytest.fixture
def write_network(tmp_path: Path) -> Callable[..., Path]:
    """``write_network(model, name)``: the ONNX file with its spec."""

    def write(model: onnx.ModelProto | None = None, name: str = "small.onnx", **changes) -> Path:
        path = tmp_path / name
        onnx.save(model or small_network(), path)
        dataclasses.replace(SPEC, **{"onnx_sha256": file_sha256(path), **changes}).save(ModelSpec.path_for(path))
        return path

    return write


@pytest.fixture
def write_faces(tmp_path: Path) -> Callable[..., Path]:
    """`tests.calibration.small.write_face_set` in a folder of this test."""
    return partial(write_face_set, tmp_path)
