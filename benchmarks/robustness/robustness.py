"""``python -m benchmarks robustness``: faces found and error of the landmarks under perturbations of photographs.

Every face of a labelled set is measured clean and under every level of every kind:

    roll          picture turned clockwise, degrees           size       face, px
    blur          Gaussian, sigma in % of the face            motion     length of a motion blur in % of the face
    gain          factor of the grey levels                   gamma      exponent of the grey levels; above 1 darker
    contrast      factor of the distance to mid grey          noise      Gaussian, sigma in grey levels
    jpeg          quality                                     occlusion  share of the face's box covered, %
    cut-top …     share of the face beyond that side of the picture, %
    aspect        factor that x is stretched by

The face is sqrt(width × height) of the tight box of its 68 landmarks, the unit of the NME too. A face counts as found
if the box of the landmarks of some face found overlaps the labelled box with an IoU of at least 0.2; the best one is
measured. Missed faces are in no mean. "no face": pictures from beside the faces, found are false faces; with
ground-truth boxes the whole picture is taken as a face. Each seed draws other faces, and the places, directions and
noise anew. Score and confidence are judged over all conditions together: see `certainty` in the JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.arguments import LANDMARKS_FROM_HELP, add_data_arguments
from benchmarks.accuracy.labelled_faces import FaceSet, load_faces
from benchmarks.records.provenance import check_writable, provenance, text_table, two_digits, write_json
from benchmarks.robustness.conditions import CLEAN, KINDS, conditions
from benchmarks.robustness.measure import draw_rows, find_false_faces, no_face_picture, observe_face
from benchmarks.robustness.scores import certainty_rows, condition_rows, no_face_rows
from runtime.console.arguments import positive_int, whole_number

MOST_PICTURES = 1_000_000


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``python -m benchmarks robustness``."""
    parser = subparsers.add_parser(
        "robustness",
        help="faces found and error under rolls, blur, cuts and so on",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    add = parser.add_argument
    rows_help = "which rows of the data (default: all)"
    add("--rows", choices=("all", "training", "validation"), default="all", help=rows_help)
    add("--faces", type=positive_int, default=40, metavar="N", help="faces per seed (default: 40)")
    add("--seeds", type=positive_int, default=3, metavar="N", help="draws of faces and of chance (default: 3)")
    only_help = f"some of {','.join(kind.name for kind in KINDS if kind is not CLEAN)} (default: all)"
    add("--only", type=_kinds, metavar="KIND,...", help=only_help)
    add("--non-faces", type=whole_number(0, MOST_PICTURES), default=200, metavar="N", help="without a face (200)")
    add("--model", type=Path, metavar="MODEL", help=".onnx or .engine (default: the shipped model)")
    add("--landmarks-from", type=Path, metavar="MODEL", help=LANDMARKS_FROM_HELP)
    detector_help = "none: ground-truth boxes alone (default: yunet)"
    add("--detector", choices=("yunet", "none"), default="yunet", help=detector_help)
    add("-o", "--output", type=Path, metavar="STEM", help="write STEM.json with the table and STEM.png with charts")
    parser.set_defaults(func=run_command)


def _kinds(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    known = [kind.name for kind in KINDS if kind is not CLEAN]
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"no kind {unknown[0]!r}, there are {','.join(known)}")
    return names


def run_command(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    check_writable(args.output)
    if args.output:
        from benchmarks.robustness.chart import draw_robustness  # before the measurement, as matplotlib may be missing
    faces = load_faces(args.data, args.face_model, args.rows)
    subject, table, certainty = measure_robustness(
        faces,
        args.model,
        args.only,
        faces_per_seed=args.faces,
        seeds=args.seeds,
        no_faces=args.non_faces,
        detects=args.detector != "none",
        landmarks_from=args.landmarks_from,
    )
    title = f"{subject['model']}, {min(args.faces, len(faces))} faces of {args.data.name}, seeds: {args.seeds}"
    print(title)
    print(format_rows(table))
    for row in certainty:
        area, gap = two_digits(row["roc_area"]), two_digits(row["calibration"])
        counts = f"{row['right']} of {row['faces']} right"
        print(f"{row['certainty']}, {row['boxes']} boxes: {counts}, area under the ROC {area}, calibration error {gap}")
    if args.output:
        data = {"name": args.data.name, "rows": args.rows, "sha256": faces.sha256}
        run = {"faces": args.faces, "seeds": args.seeds, "detector": args.detector}
        record = {"kind": "robustness", "subject": subject, "data": data, **run, "table": table, "certainty": certainty}
        draw_robustness(table, title, Path(f"{args.output}.png"))
        write_json(Path(f"{args.output}.json"), {**provenance(), **record})


def measure_robustness(
    faces: FaceSet,
    model: Path | None,
    only: tuple[str, ...] | None,
    *,
    faces_per_seed: int,
    seeds: int,
    no_faces: int,
    detects: bool,
    landmarks_from: Path | None = None,
) -> tuple[dict[str, str], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the model's identity, the rows of conditions and of pictures without a face, and those of certainty."""
    from runtime.console.progress import progress_bar
    from runtime.detection.yunet import YuNetDetector
    from runtime.inference.open_runner import open_runner
    from runtime.models.shipped import SHIPPED_MODEL
    from runtime.pipeline import FaceMeshPipeline

    chosen = conditions(only)
    kinds = ("detected", "ground-truth") if detects else ("ground-truth",)
    draws = [(seed, int(row)) for seed in range(seeds) for row in draw_rows(len(faces), faces_per_seed, seed)]
    observations = []
    with open_runner(model, landmarks_from=landmarks_from) as runner:
        spec = runner.spec
        detector = YuNetDetector() if detects else None
        pipeline = FaceMeshPipeline(runner, detector, faces.topology_for(spec), dense=False)
        for seed, row in progress_bar(draws, len(draws), "face"):
            observations += observe_face(pipeline, faces, row, chosen, seed, detects)
        pictures = (no_face_picture(faces, number) for number in range(no_faces))
        false_faces = find_false_faces(pipeline, progress_bar(pictures, no_faces, "picture"), spec.crop_scale, detects)
    subject = {"model": spec.name, "file": (model or SHIPPED_MODEL).name, "sha256": spec.onnx_sha256}
    if landmarks_from is not None:
        subject["landmarks from"] = landmarks_from.name
    table = condition_rows(chosen, observations, kinds)
    if no_faces:
        table += no_face_rows(false_faces, kinds)
    return subject, table, certainty_rows(observations, false_faces, kinds)


def format_rows(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table as fixed-width text."""
    head = ("condition", "boxes", "faces", "found", "NME %", "median", "± seeds", "× clean", "> 10 %")
    lines = [(*head, "score", "confidence")]
    for row in rows:
        keys = ("nme", "median", "spread", "ratio", "over_10", "score", "confidence")
        figures = map(two_digits, (row[key] for key in keys))
        lines.append((row["condition"], row["boxes"], str(row["faces"]), str(row["found"]), *figures))
    return text_table(lines, left=2)
