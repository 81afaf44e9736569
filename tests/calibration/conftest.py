"""Files of a small network and of labelled pictures."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from runtime.spec import ModelSpec, file_sha256
from tests.calibration.small import SPEC, small_network


def smooth_picture(generator: np.random.Generator, side: int = 80) -> np.ndarray:
    """(side, side, 3) uint8 BGR of blobs."""
    return cv2.resize(generator.integers(0, 256, (6, 6, 3), np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)


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
    """``write_faces(count, name, **arrays)``: a set of pictures in a tar with their arrays; every fourth row is for validation. Returns the stem."""

    def write(count: int = 24, name: str = "faces", **arrays) -> Path:
        generator = np.random.default_rng(2)
        names = np.array([f"{index:03}.png" for index in range(count)])
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            for member in names:
                content = cv2.imencode(".png", smooth_picture(generator))[1].tobytes()
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        points = generator.uniform(20, 60, (count, 68, 3)).astype(np.float32)
        points[:, 0, :2], points[:, 1, :2] = 20, 60
        given = {
            "names": names,
            "box": np.concatenate([points[..., :2].min(axis=1), points[..., :2].max(axis=1)], axis=1),
            "yaw_deg": np.linspace(-85, 85, count, dtype=np.float32),
            "is_val": np.arange(count) % 4 == 3,
            "pts68": points,
        }
        np.savez(tmp_path / f"{name}.npz", **{key: value for key, value in (given | arrays).items() if value is not None})
        return tmp_path / name

    return write
