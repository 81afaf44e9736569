"""Arrays whose headers claim more than the file holds, and archives that would unpack to more than they justify."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.storage import limits
from runtime.storage.npz_files import read_npy, read_npz
from tests.standins.bounded_run import bounded_run, is_refused


def npy(header: str | bytes, values: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """Return an .npy with any header."""
    text = header.encode() if isinstance(header, str) else header
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + values


def header(shape: object, dtype: str = "'<f4'") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n"


def archive(path: Path, content: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("a.npy", content)
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
        np.zeros((0, 3), np.float32),
        np.array("Ωx"),
        np.array(7),
        np.array([True, False]),
    ],
    ids=["3d", "fortran", "empty", "text", "scalar", "bool"],
)
def test_arrays_are_those_of_numpy(tmp_path, array, compressed):
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", a=array)
    found = read_npz(tmp_path / "a.npz", ["a"], what="x")["a"]
    assert (found.dtype, found.shape, found.flags.writeable) == (array.dtype, array.shape, True)
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (npy(header((10**12,))), "does not fit the 0 bytes"),
        (npy(header((2**62, 4))), "does not fit"),
        (npy(header((-1, -4)), bytes(16)), "no shape of an array"),
        (npy(header("9" * 5000 + ",")), "no header of an array"),
        (npy(header("(" * 3000 + ")" * 3000)), "no header of an array"),
        (npy(header("-" * 5000 + "1,")), "no header of an array"),
        (npy(b"\x00" * 100), "no header of an array"),
        (npy("{'descr': '<f4', (", b""), "no header of an array"),
        (npy(header((2,), "'|O'"), bytes(16)), "neither numbers nor text"),
        (npy(header((2,), "[('x', '<f4')]"), bytes(8)), "neither numbers nor text"),
        (npy(header((10**9,), "'<U0'")), "does not fit"),
        (npy(header((1,), "'<U1'"), b"\xff\xff\xff\x7f"), "characters that do not exist"),
        (npy(header((4,)), bytes(15)), "does not fit the 15 bytes"),
        (npy(header((4,)), bytes(16), (9, 9)), "its format version is 9.9"),
        (npy(header((1,) * 40), bytes(4)), "no shape of an array"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "no header of an array"),
        (b"", "no header of an array"),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_claims_are_compared_with_the_bytes(tmp_path, content, problem, method):
    path = archive(tmp_path / "a.npz", content, method)
    with bounded_run(), pytest.raises(FaceMeshError, match=problem) as caught:
        read_npz(path, ["a"], what="x")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=problem):
        read_npy(tmp_path / "a.npy")


def test_what_unpacks_to_too_much_is_refused_and_can_be_let_in(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "SMALL_BYTES", 1000)
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(1_000_000, np.uint8))
    with pytest.raises(FaceMeshError, match=r"would unpack to 1,000,128; .*FACEMESH_MAX_EXPANSION"):
        read_npz(tmp_path / "a.npz", ["a"], what="x")
    monkeypatch.setenv("FACEMESH_MAX_EXPANSION", "2000")
    assert read_npz(tmp_path / "a.npz", ["a"], what="x")["a"].size == 1_000_000


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_without_a_bound_are_refused(tmp_path, method):
    path = archive(tmp_path / "a.npz", npy(header((1,)), bytes(4)), method)
    with pytest.raises(FaceMeshError, match=f"compressed by method {method}, not deflate"):
        read_npz(path, ["a"], what="x")


def test_sizes_in_the_directory_are_claims_too(tmp_path):
    """A stored member that says 2 GB, in both directories."""
    path = archive(tmp_path / "a.npz", npy(header((2**29,))))
    size = struct.pack("<I", zipfile.ZipFile(path).infolist()[0].file_size)
    path.write_bytes(path.read_bytes().replace(size * 2, struct.pack("<I", 2**31 - 1) * 2))
    with bounded_run(), pytest.raises(FaceMeshError, match=r"would unpack to 2,147,483,647"):
        read_npz(path, ["a"], what="x")


def test_damaged_archives_are_one_line(tmp_path):
    """Bytes changed at random; a fault is whatever is no FaceMeshError."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.arange(50.0), names=np.array(["x", "yy"]))
    sound, chance, path = buffer.getvalue(), np.random.default_rng(0), tmp_path / "a.npz"
    refused = 0
    for _ in range(300):
        content = bytearray(sound)
        for place in chance.integers(0, len(sound), chance.integers(1, 6)):
            content[place] = chance.integers(256)
        path.write_bytes(content[: chance.integers(1, len(sound) + 200)])
        refused += is_refused(lambda: read_npz(path, ["a", "names"], what="x"))
    assert refused > 200
