"""Validation rows judge INT8 and take no part in its ranges: poisoned ones leave the calibration table as it was,
byte for byte."""

from __future__ import annotations

import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.__main__ import main
from export.__main__ import main as export


def poison(stem: Path) -> None:
    """Make pictures of validation rows black, in place; their member sizes stay."""
    is_val = np.load(stem.with_suffix(".npz"))["is_val"]
    black = cv2.imencode(".png", np.zeros((80, 80, 3), np.uint8))[1].tobytes()
    content = bytearray(stem.with_suffix(".tar").read_bytes())
    with tarfile.open(stem.with_suffix(".tar")) as archive:
        members = archive.getmembers()
    assert len(members) == len(is_val)
    for member, row in zip(members, is_val, strict=True):
        if row:
            # A PNG decoder ignores bytes behind the end of the picture.
            assert len(black) <= member.size
            content[member.offset_data : member.offset_data + member.size] = black + bytes(member.size - len(black))
    stem.with_suffix(".tar").write_bytes(content)


@pytest.mark.parametrize("command", ["calibration", "export"])
def test_calibration_table(write_network, write_faces, tmp_path, command):
    model, stem = write_network(), write_faces()
    tables = []
    for name in ("clean", "poisoned"):
        table, output = tmp_path / f"{name}.json", tmp_path / f"{name}.onnx"
        options = ["--crops", str(stem), "--table", str(table), "--max-nme-increase", "1000", "-o", str(output)]
        if command == "calibration":
            assert main([str(model), *options]) == 0
        else:
            assert export(["onnx", "--weights", str(model), "--precision", "int8", *options]) == 0
        tables.append(table.read_bytes())
        poison(stem)
    assert tables[0] == tables[1]
