"""One target per reader of files: small seeds, a wrapper that makes checksums fit again, and the reader itself.

A case passes if the reader returns or raises `FaceMeshError`, within the bounds of `tests.standins.bounded_run`.
"""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from calibration.face_sources import load_faces
from export.checkpoints.tensor_bundle import TensorBundle, read_index
from export.face_models.pickled_arrays import read_pickle
from export.face_models.sources import read_arrays
from runtime.errors import FaceMeshError
from runtime.families.face_model import load_face_model
from runtime.families.uv_topology import _load
from runtime.models.detector_spec import DetectorInput, DetectorSpec, load_any_spec
from runtime.models.manifest import EngineManifest
from runtime.models.shipped import SHIPPED
from runtime.models.spec import ModelSpec
from runtime.sources.boxes_csv import read_boxes
from runtime.sources.photos import read_photo
from runtime.storage.mat_files import read_mat
from runtime.storage.picture_tar import read_tar
from tests.export.checkpoints.bundle_writer import HEADER, block, entry, table_bytes, write_bundle
from tests.training.toy import toy_face_model

ARRAYS = {"names": np.array(["a.jpg", "b.jpg"]), "box": np.array([[1, 2, 30, 40], [5, 6, 70, 80]], np.float32)}


@dataclass(frozen=True)
class Target:
    """A reader and what to feed it with."""

    suffix: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    wrap: Callable[[bytes], bytes] = lambda content: content  # made of the changed bytes, with fitting checksums


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _in_zip(name: str) -> Callable[[bytes], bytes]:
    def wrap(content: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
        return buffer.getvalue()

    return wrap


def _face_model() -> list[bytes]:
    model = toy_face_model()
    shape, expression = np.split(model.basis, [model.shape_count], axis=1)
    arrays = {"shape_basis": shape, "exp_basis": expression}
    names = ("mean", "triangles", "uv", "keypoints68", "symmetry")
    return [_npz(**arrays, **{name: getattr(model, name) for name in names})]


def _topology() -> list[bytes]:
    pixels = np.arange(68)
    arrays = {"face_indices": pixels, "landmark_indices": pixels, "triangles": np.array([[0, 1, 2]])}
    return [_npz(resolution=np.array(16), canonical_vertices=np.ones((68, 3), np.float32), **arrays)]


def _pictures(*suffixes: str) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
        encoded = []
        for suffix in suffixes:
            try:
                is_written, data = cv2.imencode(suffix, image)
            except cv2.error:  # not in this build
                continue
            if is_written:
                encoded.append(data.tobytes())
        return encoded

    return seeds


def _png_of(content: bytes) -> bytes:
    """Return a PNG whose chunks, kind and content, follow each other in ``content``, with their checksums."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    while len(content) >= 8:
        length, kind = struct.unpack(">I4s", content[:8])
        data = content[8 : 8 + min(length, 1 << 16)]
        parts.append(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
        content = content[12 + len(data) :]
    return b"".join(parts)


def _tars() -> list[bytes]:
    found = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
            for name in ("a.jpg", "b" * 90 + ".jpg", *(["c" * 130] if form != tarfile.USTAR_FORMAT else [])):
                member = tarfile.TarInfo(name)
                member.size = 20
                archive.addfile(member, io.BytesIO(bytes(20)))
        found.append(buffer.getvalue()[:6144])
    return found


def _tar_of(content: bytes) -> bytes:
    """Return ``content`` with the checksum of every block corrected as if it were a header."""
    blocks = []
    for start in range(0, len(content), 512):
        header = bytearray(content[start : start + 512])
        if header[257:262] == b"ustar":
            header[148:156] = b" " * 8
            header[148:156] = b"%06o\0 " % sum(header)
        blocks.append(bytes(header))
    return b"".join(blocks)


def _mat_element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(0 if kind == 15 else -len(content) % 8)


def _mat_variables() -> list[bytes]:
    def matrix(name: bytes, values: np.ndarray) -> bytes:
        parts = _mat_element(6, struct.pack("<II", 6, 0)) + _mat_element(5, struct.pack("<ii", *values.shape))
        return _mat_element(14, parts + _mat_element(1, name) + _mat_element(9, values.tobytes("F")))

    return [matrix(b"Pose_Para", np.ones((1, 7))), matrix(b"Exp_Para", np.ones((29, 1)))]


def _mat_of(content: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM" + content


def _spec_document() -> dict:
    return dataclasses.asdict(ModelSpec.load(ModelSpec.path_for(SHIPPED["fp32"])))


def _specs() -> list[bytes]:
    detector = DetectorSpec("yunet", DetectorInput("planes", 640, 384), "fp16", "0" * 64)
    return [json.dumps(document).encode() for document in (_spec_document(), dataclasses.asdict(detector))]


def _manifest() -> list[bytes]:
    document = {
        **{"spec": _spec_document(), "engine_sha256": "0" * 64, "library": "tensorrt", "version": "10.3.0+"},
        **{"batch": [1, 1, 8], "compute_capabilities": ["8.7"], "device": None, "dla_core": None},
        **{"created": "2026-01-01", "command": "x"},
    }
    return [json.dumps(document).encode()]


def _read_manifest(path: Path) -> None:
    manifest = EngineManifest.load(path)
    manifest.why_not("10.3.0", None)


def _index() -> list[bytes]:
    return [block([(b"", HEADER), *((b"w/%d" % n, entry((2, 3), 24 * n, 24, 0)) for n in range(6))])]


def _index_of(content: bytes) -> bytes:
    return table_bytes({b"x": content})


def _bundle_index() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder) / "a", {"w": np.ones((3, 4), np.float32), "b": np.ones(4, np.float32)})
        return [(Path(folder) / "a.index").read_bytes()]


def _read_values(path: Path) -> None:
    data = path.with_name(path.stem + ".data-00000-of-00001")
    if not data.exists():
        data.write_bytes(bytes(200))
    bundle = TensorBundle(path.with_suffix(""))
    for name in list(bundle)[:20]:
        try:
            _ = bundle[name]
        except FaceMeshError:  # the next one may be sound
            continue


@cache
def _onnx_seeds() -> list[bytes]:
    from tests.export.small_models import write_small_model

    found = []
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "fp16", "int8"):
            found.append(write_small_model(Path(folder) / f"{precision}.onnx", precision=precision).read_bytes())
    return found


def _inspect(path: Path) -> None:
    from export.commands.inspect_command import _onnx_lines

    _onnx_lines(path)


def _load_onnx(path: Path) -> None:
    from export.graphs.model_file import load_onnx

    load_onnx(path)


def _load_plain(path: Path) -> None:
    from calibration.precision.model_file import load_plain

    load_plain(path)


@cache
def _checkpoints() -> list[bytes]:
    import torch

    found = []
    for form in (True, False):
        buffer = io.BytesIO()
        torch.save({"network": {"a": torch.ones(3, 4)}}, buffer, _use_new_zipfile_serialization=form)
        found.append(buffer.getvalue())
    return found


def _read_checkpoint(path: Path) -> None:
    from training.checkpoints import read_checkpoint

    read_checkpoint(path)


def _read_set(path: Path) -> None:
    if not path.with_suffix(".tar").exists():
        path.with_suffix(".tar").touch()
    load_faces(path)


TARGETS = {
    "npz": Target(".npz", lambda: [_npz(**ARRAYS)], _read_set),
    "npy-in-npz": Target(".npz", lambda: [_npy(ARRAYS["box"]), _npy(ARRAYS["names"])], _read_set, _in_zip("box.npy")),
    "npy": Target(".npy", lambda: [_npy(ARRAYS["box"])], read_arrays),
    "wheel": Target(".whl", lambda: [_in_zip("a/u_shp.npy")(_npy(np.ones((9, 1))))], read_arrays),
    "topology": Target(".npz", _topology, _load.__wrapped__),  # without its cache
    "face-model": Target(".npz", _face_model, load_face_model),
    "tar": Target(".tar", _tars, lambda path: read_tar(path, ["a.jpg"])),
    "tar-headers": Target(".tar", _tars, lambda path: read_tar(path, ["a.jpg"]), _tar_of),
    "mat": Target(".mat", _mat_variables, read_mat, _mat_of),
    "mat-packed": Target(
        ".mat", _mat_variables, read_mat, lambda content: _mat_of(_mat_element(15, zlib.compress(content)))
    ),
    "jpeg": Target(".jpg", _pictures(".jpg"), read_photo),
    "png": Target(".png", _pictures(".png"), read_photo),
    "png-chunks": Target(".png", lambda: [_pictures(".png")()[0][8:]], read_photo, _png_of),
    "picture": Target(
        ".img", _pictures(".webp", ".tif", ".bmp", ".ppm", ".jp2", ".ras", ".hdr", ".gif", ".avif"), read_photo
    ),
    "spec": Target(".json", _specs, load_any_spec),
    "manifest": Target(".json", _manifest, _read_manifest),
    "boxes": Target(
        ".csv", lambda: [b"path,x1,y1,x2,y2\na.jpg,1,2,3,4\n"], lambda path: read_boxes(path, [Path("a.jpg")])
    ),
    "bundle": Target(".index", _bundle_index, read_index),
    "bundle-block": Target(".index", _index, _read_values, _index_of),
    "pickle": Target(
        ".pkl", lambda: [pickle.dumps({"u": np.ones((3, 1))}, 2)], lambda path: read_pickle(path, path.read_bytes())
    ),
    "checkpoint": Target(".pt", _checkpoints, _read_checkpoint),
    "onnx-inspect": Target(".onnx", _onnx_seeds, _inspect),
    "onnx-load": Target(".onnx", _onnx_seeds, _load_onnx),
    "onnx-quantise": Target(".onnx", lambda: _onnx_seeds()[:1], _load_plain),
}
