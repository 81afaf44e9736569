"""``python -m training turn-faces``: copies of labelled photographs, their faces turned out of plane to the profile.

Face profiling of Zhu et al. (CVPR 2016, section 4), as 300W-LP was made: a mesh through the fitted face and anchors on
the background, turned and drawn again. Shape and expression stay, the pose is the one that was drawn: labels are as
exact as those of the photographs.
"""

from __future__ import annotations

import argparse
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.console.arguments import positive_int
from runtime.errors import FaceMeshError
from runtime.families.face_model import FaceModel, load_face_model
from runtime.storage.label_values import check_values
from runtime.storage.npz_files import check_shapes, read_npz
from runtime.storage.picture_tar import beside
from runtime.storage.whole_files import whole_files
from training.data.labels import FaceLabels, load_labels, read_images
from training.turning.contact_sheet import ContactSheet
from training.turning.photo_turner import PhotoTurner, TurnedFace, turn_photos
from training.turning.turn_plan import YawBand, parse_yaw_band, plan_turns
from training.turning.turned_mesh import azimuths_deg

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_YAW = (YawBand(20.0, 90.0, 1.0),)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    help_line = "make copies of labelled photographs with their faces turned"
    parser = subparsers.add_parser("turn-faces", help=help_line, description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="STEM", help="common stem of .tar and .npz")
    model_help = "npz of the face model; default: face_model.npz beside the data"
    parser.add_argument("--face-model", type=Path, metavar="FILE.npz", help=model_help)
    parser.add_argument("--sources", default="lfpw,helen,afw", help="sources to turn; default: %(default)s")
    parser.add_argument("--count", type=positive_int, default=25000, help="copies to make; default: %(default)s")
    parser.add_argument(
        "--yaw",
        type=parse_yaw_band,
        nargs="+",
        default=list(DEFAULT_YAW),
        metavar="LOW-HIGH[:WEIGHT]",
        help="bands of |yaw| in degrees, copies spread evenly within each; default: 20-90",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    workers_help = "processes; the result is the same (default: 1)"
    parser.add_argument("--workers", type=positive_int, default=1, help=workers_help)
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="contact sheet, without and with labels")
    output_help = "common stem of the .tar and .npz to write"
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="STEM", help=output_help)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> None:
    """Plan the turns, draw the copies, write pictures and labels whole or not at all."""
    _check_output(args.output, args.data)
    model = load_face_model(args.face_model or args.data.parent / "face_model.npz")
    labels = load_labels(args.data, model)
    rows = _rows_of(labels, args.sources.split(","), args.data)
    fit_nme = None if args.data.is_dir() else _read_fit_nme(args.data, len(labels))
    chosen = labels.select(rows)
    plan = plan_turns(azimuths_deg(chosen.rotation), args.yaw, args.count, args.seed)
    turner = PhotoTurner(model, chosen, read_images(args.data, chosen))
    sheet = ContactSheet(model, args.count) if args.sheet else None

    sheets = [args.sheet] if sheet else []
    # Opened before the work, so that a place that cannot be written to is found at once.
    with whole_files(*sheets, beside(args.output, ".npz"), beside(args.output, ".tar")) as (*pictures, npz, tar):
        arrays = _write_pictures(tar, turn_photos(turner, plan, args.workers), model, sheet, args.count)
        arrays["is_val"] = chosen.is_val[plan.rows]
        if fit_nme is not None:
            arrays["fit_nme"] = fit_nme[rows][plan.rows]
        np.savez_compressed(npz, **arrays)
        for picture_file in pictures:
            picture_file.write(sheet.encode_png())
    bands = np.histogram(np.abs(arrays["yaw_deg"]), np.arange(0, 91, 10))[0]
    path, photographs = beside(args.output, ".npz"), len(np.unique(plan.rows))
    print(f"{path}: {args.count} copies of {photographs} photographs; per 10 degrees of |yaw|: {bands.tolist()}")


def _check_output(output: Path, data: Path) -> None:
    if output.resolve().is_relative_to(REPOSITORY) and (REPOSITORY / ".git").exists():
        problem = "lies in the repository, but the photographs' licences forbid that they get into it"
        raise FaceMeshError(f"{output}: {problem}; choose another place")
    if beside(output, ".npz").resolve() == beside(data, ".npz").resolve():
        raise FaceMeshError(f"{output}: is the set to read; choose another name for the copies")


def _rows_of(labels: FaceLabels, sources: list[str], data: Path) -> NDArray[np.int64]:
    known = np.unique(labels.source).tolist()
    if missing := [name for name in sources if name not in known]:
        raise FaceMeshError(
            f"{data}: has no source {', '.join(map(repr, missing))}; its sources are {', '.join(known)}"
        )
    return np.flatnonzero(np.isin(labels.source, sources))


def _read_fit_nme(data: Path, count: int) -> NDArray[np.float32] | None:
    """Return the residuals of the fits (N,), None if the labels have none."""
    path = beside(data, ".npz")
    fit_nme = read_npz(path, (), ("fit_nme",), what="face labels").get("fit_nme")
    if fit_nme is None:
        return None
    try:
        check_shapes({"fit_nme": fit_nme}, {"fit_nme": (count,)})
        check_values({"fit_nme": fit_nme})
    except ValueError as error:
        raise FaceMeshError(f"{path}: {error}; the file is damaged") from None
    return fit_nme


def _write_pictures(
    tar: io.BufferedIOBase, copies: Iterator[TurnedFace], model: FaceModel, sheet: ContactSheet | None, count: int
) -> dict[str, NDArray]:
    """Stream the pictures into the archive; returns the arrays of their labels."""
    from runtime.console.progress import progress_bar

    faces = []
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for copy in progress_bar(copies, count, unit="face"):
            member = tarfile.TarInfo(copy.name)
            member.size = len(copy.jpeg)
            archive.addfile(member, io.BytesIO(copy.jpeg))
            if sheet:
                sheet.add(len(faces), copy)
            faces.append(copy.without_picture())
    return _label_arrays(faces, model)


def _label_arrays(faces: list[TurnedFace], model: FaceModel) -> dict[str, NDArray]:
    """Return the arrays of an ``.npz`` of labels, except the ones copied from the photographs."""
    coefficients = np.stack([face.coefficients for face in faces])
    scale = np.array([face.pose.scale for face in faces])
    rotation = np.stack([face.pose.rotation for face in faces])
    translation = np.stack([face.pose.translation for face in faces])
    pts68 = scale[:, None, None] * model.landmarks(coefficients) @ rotation.transpose(0, 2, 1) + translation[:, None]
    flat = pts68[..., :2]
    numbers = {
        "scale": scale,
        "rotation": rotation,
        "translation": translation,
        "shape": coefficients[:, : model.shape_count],
        "exp": coefficients[:, model.shape_count :],
        "pts68": pts68,
        "hand68": np.full((len(faces), 68, 2), np.nan),
        "hand21": np.full((len(faces), 21, 2), np.nan),
        "box": np.concatenate([flat.min(axis=1), flat.max(axis=1)], axis=1),
        # Yaw as in the other sets (300W-LP): the nose's angle with the plane x = 0.
        "yaw_deg": np.rad2deg(np.arcsin(np.clip(rotation[:, 0, 2], -1, 1))),
    }
    texts = {"names": np.array([face.name for face in faces]), "source": np.array([face.source for face in faces])}
    sizes = {"size": np.array([face.side for face in faces], np.int32)}
    return texts | sizes | {key: value.astype(np.float32) for key, value in numbers.items()}
