"""``python -m calibration pack FACES -o STEM``: pictures and their boxes as a set of two files, to calibrate on again.

STEM.npz    names (N,) text: member of the tar; box (N, 4) px: tight box of the 68 landmarks; is_val (N,): judging;
            yaw_deg (N,) and pts68 (N, 68, 2) px where they are known
STEM.tar    the pictures, upright, under these names
"""

from __future__ import annotations

import argparse
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from calibration.face_sources import JPEG, load_faces
from calibration.faces import Faces, set_apart
from runtime.console.arguments import share_below_one
from runtime.console.exit_codes import exit_code_of
from runtime.errors import FaceMeshError
from runtime.sources.photos import decode_photo, read_bytes
from runtime.storage.picture_tar import beside
from runtime.storage.whole_files import require_writable, whole_file

JUDGING_SHARE = 0.25


def main(argv: Sequence[str] | None = None) -> int:
    """Pack one set; return the exit code."""
    return exit_code_of(lambda: run_command(_parser().parse_args(argv)))


def run_command(args: argparse.Namespace) -> None:
    """Find the faces, write both files, print their numbers."""
    paths = [beside(args.output, suffix) for suffix in (".npz", ".tar")]
    for path in paths:
        if not path.absolute().parent.is_dir():
            raise FaceMeshError(f"{path}: there is no folder {path.parent}; create it or choose another place with -o")
        require_writable(path)
    faces = load_faces(args.faces, args.boxes)
    if faces.is_archive:
        raise FaceMeshError(f"{args.faces}: it is a set already; give a folder of pictures or a film")
    faces = set_apart(faces, args.judging)
    pictures = write_set(faces, *paths)
    kept = int(faces.is_val.sum())
    print(f"{paths[0]}, {paths[1]}: {len(faces)} faces in {pictures} pictures, {kept} of them for judging")


def write_set(faces: Faces, labels: Path, archive: Path) -> int:
    """Write both files of a set, whole or not at all; return the number of pictures."""
    members = _member_names(faces)
    arrays = {
        "names": np.array([members[name] for name in faces.names.tolist()]),
        "box": faces.boxes_xyxy,
        "is_val": faces.is_val,
    }
    if np.isfinite(faces.yaw_deg).any():
        arrays["yaw_deg"] = faces.yaw_deg
    if faces.landmarks_xy is not None:
        arrays["pts68"] = faces.landmarks_xy
    with whole_file(labels) as label_file, whole_file(archive) as archive_file:
        with tarfile.open(fileobj=archive_file, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for name, member in members.items():
                content = _upright(faces, name)
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        np.savez(label_file, **arrays)
    return len(members)


def _member_names(faces: Faces) -> dict[str, str]:
    """Return name in the archive by name of the picture: its place in the folder, or that of a film's frame."""
    members = {}
    for name in dict.fromkeys(faces.names.tolist()):
        path = Path(name)
        inside = path.is_relative_to(faces.origin)
        members[name] = path.relative_to(faces.origin).as_posix() if inside else path.name
    return members


def _upright(faces: Faces, name: str) -> bytes:
    """Return an encoded picture whose stored pixels are upright: readers of archives do not turn them."""
    if faces.encoded is not None:
        return faces.encoded[name]
    content = read_bytes(Path(name))
    upright = decode_photo(content, name)
    stored = decode_photo(content, name, cv2.IMREAD_IGNORE_ORIENTATION)
    if upright.shape == stored.shape and np.array_equal(upright, stored):
        return content
    return cv2.imencode(".jpg", upright, JPEG)[1].tobytes()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m calibration pack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    faces_help = "a folder of pictures, a film, or a folder of 300W-LP"
    parser.add_argument("faces", type=Path, metavar="FACES", help=faces_help)
    boxes_help = "path,x1,y1,x2,y2 per face of a folder (default: the detector's boxes)"
    parser.add_argument("--boxes", type=Path, metavar="FILE.csv", help=boxes_help)
    judging_help = f"of the pictures, kept for judging (default: {JUDGING_SHARE:.0%})".replace("%", "%%")
    parser.add_argument("--judging", type=share_below_one, default=JUDGING_SHARE, metavar="SHARE", help=judging_help)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="STEM", help="STEM.npz and STEM.tar")
    return parser
