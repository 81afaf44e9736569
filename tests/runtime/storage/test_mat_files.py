"""MATLAB files: what SciPy writes is read, and no damage ends the process."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.storage import limits
from runtime.storage.mat_files import read_mat
from tests.standins.bounded_run import bounded_run, is_refused

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01"


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    padding = 0 if kind == 15 else -len(content) % 8
    return struct.pack(order + "II", kind, len(content)) + content + bytes(padding)


def matrix(name: str, array: np.ndarray, order: str = "<", flags: int = 6) -> bytes:
    """Return a double array as an element."""
    parts = element(6, struct.pack(order + "II", flags, 0), order)
    parts += element(5, struct.pack(f"{order}{array.ndim}i", *array.shape), order)
    parts += element(1, name.encode(), order)
    return element(14, parts + element(9, array.astype(order + "f8").tobytes("F"), order), order)


def write(path: Path, content: bytes, order: str = "<") -> Path:
    path.write_bytes(HEADER + (b"IM" if order == "<" else b"MI") + content)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_those_of_scipy(tmp_path, compressed):
    io = pytest.importorskip("scipy.io", reason="needs SciPy to write files")
    chance = np.random.default_rng(0)
    numbers = {
        "double": chance.random((3, 5)),
        "single": chance.random((7, 1)).astype(np.float32),
        "whole": chance.integers(0, 9, (2, 3, 4)),
        "small": np.array([[1, 2]], np.uint8),
        "logical": np.array([[True, False]]),
        "none": np.zeros((0, 3)),
    }
    others = {"text": "hello", "cell": np.array([1, "a"], object), "complex": np.array([1 + 2j])}
    struct_of = {"model": {"shapeMU": chance.random((6, 1)), "tri": np.arange(6).reshape(3, 2), "name": "x"}}
    io.savemat(tmp_path / "a.mat", {**numbers, **others, **struct_of}, do_compression=compressed)
    found, expected = read_mat(tmp_path / "a.mat"), io.loadmat(tmp_path / "a.mat")
    assert found.keys() == {*numbers, "model"}
    for name in numbers:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(found[name], expected[name])
    assert found["model"].keys() == {"shapeMU", "tri"}
    np.testing.assert_array_equal(found["model"]["tri"], struct_of["model"]["tri"])


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(tmp_path, order):
    array = np.arange(6.0).reshape(2, 3)
    found = read_mat(write(tmp_path / "a.mat", matrix("a", array, order), order))
    np.testing.assert_array_equal(found["a"], array)


ARRAY = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (element(15, zlib.compress(matrix("a", ARRAY))[:-3]), "cut off"),
        (element(15, b"no zlib"), "cannot be unpacked"),
        (struct.pack("<II", 14, 2**32 - 1), r"claims 4,294,967,295 bytes of 0"),
        (struct.pack("<II", 14 | 5 << 16, 0), "a small element claims 5 bytes"),
        (b"abc", "ends within the tag"),
        (element(9, bytes(8)), "an element of type 9 is no variable"),
        (matrix("a", ARRAY, flags=200), "unknown class 200"),
        (matrix("a", ARRAY, flags=6 | 0xFF << 8), "attributes 0xff"),
        (
            matrix("a", ARRAY).replace(struct.pack("<ii", 2, 3), struct.pack("<ii", 2**31 - 1, 2**31 - 1)),
            "holds 6 values",
        ),
        (matrix("a", ARRAY).replace(struct.pack("<ii", 2, 3), struct.pack("<ii", -2, -3)), "no sound header"),
        (matrix("x" * 5000, ARRAY), "no sound header"),
        (matrix("a", ARRAY)[:-8], "claims"),
        (element(14, b""), "missing or of another type"),
        (matrix("a", ARRAY, flags=2), "missing or of another type|1 value|no sound"),
    ],
)
def test_damage_is_one_line(tmp_path, content, problem):
    path = write(tmp_path / "a.mat", content)
    if problem == "missing or of another type|1 value|no sound":  # a struct of several elements is left out
        assert read_mat(path) == {}
        return
    with bounded_run(), pytest.raises(FaceMeshError, match=rf"a\.mat: cannot be read as a MATLAB 5 file .*{problem}"):
        read_mat(path)


@pytest.mark.parametrize("content", [b"", b"MATLAB", bytes(200), b"\x89HDF\r\n\x1a\n" + bytes(200)])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(FaceMeshError, match="the mark in its header is missing"):
        read_mat(tmp_path / "a.mat")


def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "SMALL_BYTES", 1000)
    path = write(tmp_path / "a.mat", element(15, zlib.compress(matrix("a", np.zeros((1, 100_000))))))
    with pytest.raises(FaceMeshError, match="unpacks to more than"):
        read_mat(path)
    monkeypatch.setenv("FACEMESH_MAX_EXPANSION", "2000")
    assert read_mat(path)["a"].shape == (1, 100_000)


def test_bytes_changed_at_random_never_end_the_process(tmp_path):
    plain, packed = matrix("Pose_Para", ARRAY), element(15, zlib.compress(matrix("Exp_Para", ARRAY)))
    sound, chance, refused = HEADER + b"IM" + plain + packed, np.random.default_rng(0), 0
    for _ in range(500):
        content = bytearray(sound)
        for place in chance.integers(126, len(sound), chance.integers(1, 4)):
            content[place] = chance.integers(256)
        (tmp_path / "a.mat").write_bytes(content)
        refused += is_refused(read_mat, tmp_path / "a.mat")
    assert refused > 200
