"""``python -m benchmarks accuracy``: the error of landmarks and dense vertices on labelled photographs.

NME in % of sqrt(width × height) of the box of the labelled landmarks, mean over points, then over faces:

    68 points 2D                 distance in x and y, against the labels as published
    68 points 2D, re-annotated   the same against the second annotation, if the data have one, normalised by its own box
    68 points 3D, dense 3D       distance in x, y and z; the mean z of prediction is made equal to that of the label,
                                 nothing else is aligned
    dense 2D                     x and y of every vertex; the label is the face model of the labels at the vertex's
                                 place on the UV map, or for a network of coefficients its own vertex

``balanced`` is the mean of the three yaw bins, which papers report for AFLW2000-3D; ``mean`` is over all faces. The
crops of "detected" come from the detector's landmark box that overlaps the labelled box best. If none reaches an IoU of
0.2, the face is missed: counted, named and left out of the mean.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.arguments import LANDMARKS_FROM_HELP, add_data_arguments
from benchmarks.accuracy.labelled_faces import DenseTruth, FaceSet, load_faces
from benchmarks.accuracy.nme import Score, summarise
from benchmarks.records.provenance import check_writable, provenance, text_table, two_digits, write_json
from runtime.console.arguments import positive_int
from runtime.errors import FaceMeshError
from runtime.geometry.boxes import SAME_FACE_IOU, box_iou
from runtime.geometry.nme import YAW_BINS_DEG, box_size, point_nme
from runtime.storage.label_values import check_names
from runtime.storage.npz_files import read_npz

BOXES = ("ground-truth", "detected")
POINTS_2D = "68 points 2D"
POINTS_3D = "68 points 3D"
REANNOTATED = "68 points 2D, re-annotated"
DENSE_2D = "dense 2D"
DENSE_3D = "dense 3D"
LARGEST_PX = 1_000_000  # of predicted points
MOST_NAMES = 50  # of missed faces in the text

Errors = dict[str, NDArray[np.float64]]  # measure -> (N,) NME in %, NaN where the face was missed


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``python -m benchmarks accuracy``."""
    parser = subparsers.add_parser(
        "accuracy",
        help="error of landmarks and vertices on labelled photographs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    add = parser.add_argument
    rows_help = "which rows of the data (default: all)"
    add("--rows", choices=("all", "training", "validation"), default="all", help=rows_help)
    add("--limit", type=positive_int, metavar="N", help="measure N faces only, evenly spread over the rows")
    add("--engine", type=Path, metavar="MODEL.onnx", help="default: the shipped model")
    add("--landmarks-from", type=Path, metavar="MODEL", help=LANDMARKS_FROM_HELP)
    boxes_help = f"source of the crops: {','.join(BOXES)} (default: both)"
    add("--boxes", type=_box_kinds, default=BOXES, metavar="KIND,...", help=boxes_help)
    predictions_help = "score these landmarks, not a network's: names (N,) and --key"
    add("--predictions", type=Path, metavar="FILE.npz", help=predictions_help)
    key_help = "array (N, 68, 2 or 3) of --predictions, px; NaN where missed (default: pts68)"
    add("--key", default="pts68", help=key_help)
    add("--json", type=Path, metavar="FILE", help="write the table and where it comes from")
    parser.set_defaults(func=run_command)


def _box_kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    if unknown := [kind for kind in kinds if kind not in BOXES]:
        raise argparse.ArgumentTypeError(f"no such kind {unknown[0]!r}, there are {','.join(BOXES)}")
    return kinds


def run_command(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    check_writable(args.json)

    # Errors by kind of boxes, of given landmarks or of a network.
    faces = load_faces(args.data, args.face_model, args.rows, args.limit)
    if args.predictions:
        subject = {"predictions": args.predictions.name, "key": args.key}
        errors = {"given": prediction_errors(faces, args.predictions, args.key)}
    else:
        subject, errors = network_errors(faces, args.engine, args.boxes, args.landmarks_from)

    # Summary, and the names of missed faces.
    rows = table_rows(faces, errors)
    missed = {}
    for boxes, measures in errors.items():
        missed[boxes] = faces.labels.names[np.isnan(measures[POINTS_2D])].tolist()
    print(f"{', '.join(f'{key} {value}' for key, value in subject.items())}; {len(faces)} faces of {args.data.name}")
    print(format_rows(rows))
    for boxes, names in missed.items():
        if names:
            more = ", … all of them in the --json file" if len(names) > MOST_NAMES else ""
            print(f"missed with {boxes} boxes: {len(names)} ({', '.join(names[:MOST_NAMES])}{more})")
    if args.json:
        data = {"faces": len(faces), "rows": args.rows, "sha256": faces.sha256}
        write_json(args.json, {**provenance(), "subject": subject, "data": data, "table": rows, "missed": missed})


def network_errors(
    faces: FaceSet, engine: Path | None, kinds: tuple[str, ...], landmarks_from: Path | None = None
) -> tuple[dict[str, str], dict[str, Errors]]:
    """Run the network on every face, with the crops of each kind of boxes; returns its identity and its errors."""
    from runtime.console.progress import progress_bar
    from runtime.detection.yunet import YuNetDetector
    from runtime.inference.open_runner import open_runner
    from runtime.models.shipped import shipped_model
    from runtime.pipeline import FaceMeshPipeline

    # An empty dictionary stands for a missed face.
    errors: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    with open_runner(engine, max_batch=1, landmarks_from=landmarks_from) as runner:
        pipeline = FaceMeshPipeline(runner, topology=faces.topology_for(runner.spec))
        detector = YuNetDetector()
        truth = DenseTruth(faces.model, pipeline.family.topology)
        for row in progress_bar(range(len(faces)), len(faces), "face"):
            image = faces.images[row]
            vertices = truth(faces.labels, row)
            for kind in kinds:
                box = faces.labels.box[row]
                if kind == "detected":
                    box = best_match(box, detector(image).boxes_xyxy)
                if box is None:
                    errors[kind].append({})
                    continue
                mesh = pipeline.from_boxes(image, box[None])[0]
                errors[kind].append(face_errors(faces, row, mesh.landmarks, (mesh.vertices, vertices)))
        spec = runner.spec
    subject = {"model": spec.name, "file": (engine or shipped_model()).name, "sha256": spec.onnx_sha256}
    if landmarks_from is not None:
        subject["landmarks from"] = landmarks_from.name
    return subject, {kind: _columns(listed) for kind, listed in errors.items()}


def best_match(box_xyxy: NDArray, candidates_xyxy: NDArray) -> NDArray | None:
    """Return the candidate (4,) of (N, 4) that overlaps the box (4,) best, None if it cannot be the same face."""
    overlap = box_iou(box_xyxy, candidates_xyxy)
    return candidates_xyxy[overlap.argmax()] if overlap.max(initial=0) >= SAME_FACE_IOU else None


def prediction_errors(faces: FaceSet, path: Path, key: str) -> Errors:
    """Return the errors of landmarks from a file; faces that the file does not name count as missed."""
    arrays = read_npz(path, ("names", key), what="predicted landmarks")
    names, points = arrays["names"].ravel().tolist(), arrays[key]
    if points.shape[:2] != (len(names), 68) or points.shape[2:] not in ((2,), (3,)):
        expected = f"expected ({len(names)}, 68, 2 or 3)"
        raise FaceMeshError(f"{path}: {key} has shape {points.shape}, {expected}; choose the array with --key")
    if points.dtype.kind not in "iuf" or not ((np.abs(points) <= LARGEST_PX) | np.isnan(points)).all():
        raise FaceMeshError(f"{path}: {key} must be px up to {LARGEST_PX:,}, NaN where a face was missed; correct it")
    try:
        check_names(arrays["names"])
    except ValueError as error:
        raise FaceMeshError(f"{path}: {error}; leave one of them out") from None
    row_of = {name: row for row, name in enumerate(names)}
    given = [row_of.get(name) for name in faces.labels.names.tolist()]
    if all(row is None for row in given):
        problem = f"none of its {len(names)} names is in the data"
        raise FaceMeshError(f"{path}: {problem}; are they predictions for these photographs?")
    return _columns([{} if row is None else face_errors(faces, i, points[row]) for i, row in enumerate(given)])


def face_errors(
    faces: FaceSet, row: int, landmarks: NDArray, dense: tuple[NDArray, NDArray] | None = None
) -> dict[str, float]:
    """Return the NME in % of one face by measure.

    ``landmarks`` are (68, 2 or 3); ``dense`` is a pair of the vertices (V, 3) and the true ones.
    """
    truth = faces.labels.pts68[row]
    box = faces.labels.box[row]
    pairs = {POINTS_2D: (landmarks[:, :2], truth[:, :2], box)}
    if faces.reannotated is not None:
        points = faces.reannotated[row]
        pairs[REANNOTATED] = (landmarks[:, :2], points, np.concatenate([points.min(axis=0), points.max(axis=0)]))
    if landmarks.shape[1] == 3:
        pairs[POINTS_3D] = (landmarks, truth, box)
    if dense is not None:
        vertices, true_vertices = dense
        pairs |= {DENSE_2D: (vertices[:, :2], true_vertices[:, :2], box), DENSE_3D: (vertices, true_vertices, box)}
    found = {}
    for measure, (predicted, true, true_box) in pairs.items():
        found[measure] = float(point_nme(predicted[None], true[None], box_size(true_box[None]))[0])
    return found


def _columns(listed: list[dict[str, float]]) -> Errors:
    """Turn errors per face into errors per measure; an empty dictionary is a missed face."""
    measures = dict.fromkeys(measure for face in listed for measure in face) or (POINTS_2D,)
    return {measure: np.array([face.get(measure, math.nan) for face in listed]) for measure in measures}


def table_rows(faces: FaceSet, errors: dict[str, Errors]) -> list[dict[str, Any]]:
    """Return a dictionary per line of the table; with several sources, the 2D landmarks once more by source."""
    sources = np.unique(faces.labels.source)
    rows = []
    for boxes, measures in errors.items():
        for measure, values in measures.items():
            rows.append(_row(boxes, measure, summarise(values, faces.bins)))
        for source in sources if len(sources) > 1 else ():
            mine = faces.labels.source == source
            score = summarise(measures[POINTS_2D][mine], faces.bins[mine])
            rows.append(_row(boxes, f"{POINTS_2D}, {source}", score))
    return rows


def _row(boxes: str, measure: str, score: Score) -> dict[str, Any]:
    return {"boxes": boxes, "measure": measure, **dataclasses.asdict(score)}


def format_rows(rows: list[dict[str, Any]]) -> str:
    """Return the table as fixed-width text."""
    lines = [("boxes", "NME %", "faces", "mean", *YAW_BINS_DEG, "balanced")]
    for row in rows:
        figures = (row["mean"], *row["bins"], row["balanced"])
        lines.append((row["boxes"], row["measure"], str(row["faces"]), *map(two_digits, figures)))
    return text_table(lines, left=2)
