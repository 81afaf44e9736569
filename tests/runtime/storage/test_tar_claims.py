"""Tars: the formats that programs write, and members that claim more than the archive holds."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.storage.picture_tar import read_tar
from tests.standins.bounded_run import bounded_run, is_refused

NAMES = ["a.jpg", "folder/" + "b" * 90 + ".jpg", "folder/" * 20 + "c.jpg", "ü" * 60 + ".jpg", "empty.jpg"]


def write(path: Path, members: dict[str, bytes], form: int = tarfile.PAX_FORMAT, **fields) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(content))
    return path


def patched(path: Path, place: int, field: bytes) -> Path:
    """Overwrite a field of the first header and correct its checksum."""
    content = bytearray(path.read_bytes())
    content[place : place + len(field)] = field
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_is_read(tmp_path, form):
    names = NAMES[:2] + NAMES[4:] if form == tarfile.USTAR_FORMAT else NAMES
    members = {name: name.encode() * 300 if name != "empty.jpg" else b"" for name in names}
    path = write(tmp_path / "a.tar", members, form)
    with tarfile.open(path, "a", format=form) as archive:
        archive.add(tmp_path, "folder", recursive=False)
        archive.addfile(tarfile.TarInfo("last.jpg"))
    assert read_tar(path, [*names, "last.jpg"]) == {**members, "last.jpg": b""}


@pytest.mark.parametrize(
    ("place", "field", "problem"),
    [
        (124, b"\x80" + (2**70).to_bytes(11, "big"), "claims 1,180,591,620,717,411,303,424 bytes"),
        (124, b"77777777777\0", "claims 8,589,934,591 bytes"),
        (124, b"\xff" * 12, "holds no numbers"),
        (124, b"-0000000512\0", "checksum|numbers"),
        (124, b"notanumber!\0", "holds no numbers"),
        (156, b"S", "sparse"),
    ],
)
def test_claims_of_a_header(tmp_path, place, field, problem):
    path = patched(write(tmp_path / "a.tar", {"a.jpg": b"x" * 700, "b.jpg": b"y"}), place, field)
    with bounded_run(), pytest.raises(FaceMeshError, match=problem):
        read_tar(path, ["b.jpg"])


def test_claims_of_pax_headers(tmp_path):
    for headers in ({"size": "99999999999999"}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}):
        path = tmp_path / "a.tar"
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            member = tarfile.TarInfo("a.jpg")
            member.pax_headers = headers
            archive.addfile(member)
        with pytest.raises(FaceMeshError, match="sparse or larger"):
            read_tar(path, ["a.jpg"])


def test_a_name_is_bounded(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tar", {"x" * 5000: b"1"}, tarfile.GNU_FORMAT)
    with pytest.raises(FaceMeshError, match=r"5,001 bytes in one name, the limit is 4,096"):
        read_tar(path, ["x" * 5000])
    monkeypatch.setenv("FACEMESH_MAX_NAME_BYTES", "5001")
    assert read_tar(path, ["x" * 5000]) == {"x" * 5000: b"1"}


def test_members_are_bounded(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tar", {f"{n}.jpg": b"" for n in range(6)})
    monkeypatch.setenv("FACEMESH_MAX_MEMBERS", "5")
    with pytest.raises(FaceMeshError, match=r"6 members .* the limit is 5"):
        read_tar(path, ["0.jpg"])


def test_a_name_that_is_missing_stays_on_its_line(tmp_path):
    with pytest.raises(FaceMeshError, match=r"first \\x1b\[31m b\\ud800; labels"):
        read_tar(write(tmp_path / "a.tar", {}), ["\x1b[31m\nb\ud800"])


def test_damaged_archives_are_one_line_or_lack_a_member(tmp_path):
    sound = write(tmp_path / "a.tar", {name: name.encode() for name in NAMES}).read_bytes()
    chance, refused = np.random.default_rng(0), 0
    for _ in range(300):
        content = bytearray(sound)
        for place in chance.integers(0, len(sound), chance.integers(1, 6)):
            content[place] = chance.integers(256)
        path = tmp_path / "b.tar"
        path.write_bytes(content[: chance.integers(1, len(sound))])
        refused += is_refused(read_tar, path, NAMES)
    assert refused > 200
