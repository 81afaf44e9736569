"""``python -m training fit-box-map``: from YuNet's box and points to the tight box of the 68 landmarks.

    plain (11)    = 1 and the five points relative to YuNet's box: (x - centre x) / width, (y - centre y) / height
    features (55) = plain, then plain times the nearness of the box to the left, upper, right and lower border
    features @ coefficients (55, 4) = shift of the centre x / width, y / height,
                                      ln(landmark box width / width), ln(height / height)

The coefficients minimise Huber's loss on training photographs, each as it is and with one side of the face cut off.
Every face counts a second time mirrored, so the map treats left and right alike. Squares and products of the points
were tried and gain 0.002 IoU on the validation rows; padding the tight pictures of AFLW was tried and loses faces.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.detection.box_map import FEATURES, box_features, landmark_boxes
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.families.face_model import load_face_model
from runtime.geometry.boxes import SAME_FACE_IOU, box_iou
from runtime.geometry.nme import YAW_BINS_DEG, yaw_bins
from runtime.storage.whole_files import whole_file
from training.data.labels import FaceLabels, load_labels, read_images

# Share of each source in the fit. Counted by rows, the warped pictures of 300W-LP (15 views of each of 337 faces) would
# decide; the profiles are in aflw, the untouched photographs with all their surroundings in the other three.
SOURCE_SHARES = {"300wlp_afw": 0.25, "aflw": 0.35, "afw": 0.10, "lfpw": 0.15, "helen": 0.15}
MIRRORED_BORDERS = [0, 3, 2, 1, 4]  # left <-> right border, behind the plain features
MIRRORED_POINTS = [1, 0, 2, 4, 3]  # right eye <-> left eye, nose, right <-> left corner of the mouth
FEATURE_NAMES = (
    "1, then for right eye, left eye, nose tip, right and left mouth corner: "
    "(x - box centre x) / box width, (y - box centre y) / box height; "
    "the same times the nearness to the left, upper, right and lower border of the picture"
)
MOST_CUT = 0.45  # of the face's width or height, drawn evenly
CUT_WEIGHT = 0.5  # of a cut photograph beside the whole one
TARGETS = "centre shift x / box width, centre shift y / box height, ln(width / box width), ln(height / box height)"


@dataclass(frozen=True, eq=False)
class Matches:
    """N photographs with the labelled face among YuNet's detections."""

    rows: NDArray[np.float32]  # (N, 15) of YuNet: x, y, w, h, five points, score; px
    size_wh: NDArray[np.int64]  # (N, 2) px of the photograph
    boxes_xyxy: NDArray[np.float32]  # (N, 4) px, the landmark boxes of the labels
    source: NDArray[np.str_]  # (N,)
    yaw_deg: NDArray[np.float32]  # (N,)
    is_val: NDArray[np.bool_]  # (N,)
    is_cut: NDArray[np.bool_]  # (N,)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "fit-box-map", help="fit the map from YuNet's boxes to landmark boxes", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="common stem of .tar and .npz, or a folder in the 300W-LP layout"
    )
    parser.add_argument(
        "--face-model", type=Path, help="npz of the face model; default: face_model.npz beside the data"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json", help="the map to write")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> None:
    """Fit, print the residuals and write the JSON that `runtime.detection.box_map.load_box_map` reads."""
    labels = load_labels(args.data, load_face_model(args.face_model or args.data.parent / "face_model.npz"))
    matches = match_faces(labels, args.data)
    coefficients = fit(matches)
    training, whole = ~matches.is_val, ~matches.is_cut
    print(f"YuNet finds {whole.sum()} of {len(labels)} faces, and {(~whole).sum()} once they are cut off")
    print(f"The fit uses the {training.sum()} of them for training")
    residuals = {"constant": report(matches, fit(matches, constant=True)), "fitted": report(matches, coefficients)}
    print_report(residuals)
    document = {
        "coefficients": (coefficients.round(5) + 0.0).tolist(),
        "features": FEATURE_NAMES,
        "targets": TARGETS,
        "command": shlex.join(["python", "-m", "training", *sys.argv[1:]]),
        "samples": int(training.sum()),
        "validation": residuals["fitted"]["all"],
        "validation_cut": residuals["fitted"]["cut"],
    }
    with whole_file(args.output) as file:
        file.write((json.dumps(document, indent=1) + "\n").encode())


def match_faces(labels: FaceLabels, path: Path) -> Matches:
    """Run YuNet over all photographs, whole and cut; leave out the ones without a detection on the labelled face."""
    from runtime.console.progress import progress_bar

    images, detector = read_images(path, labels), YuNetDetector()
    generator = np.random.default_rng(0)
    matches = []  # (row of YuNet, size of the picture, box, row of the labels, cut)
    for i in progress_bar(range(len(labels)), len(labels), unit="photo"):
        cut, offset = cut_face(images[i], labels.box[i], generator)
        for image, box, is_cut in ((images[i], labels.box[i], False), (cut, labels.box[i] - offset, True)):
            candidates = detector.find(image)
            corners = np.concatenate([candidates[:, :2], candidates[:, :2] + candidates[:, 2:4]], axis=1)
            overlap = box_iou(box, corners)
            if overlap.max(initial=0) >= SAME_FACE_IOU:
                matches.append((candidates[overlap.argmax()], image.shape[1::-1], box, i, is_cut))
    if not matches:
        raise FaceMeshError(
            f"{path}: YuNet finds none of the {len(labels)} labelled faces; are these the right photographs?"
        )
    rows, sizes, boxes, found, is_cut = (np.array(column) for column in zip(*matches, strict=True))
    return Matches(rows, sizes, boxes, labels.source[found], labels.yaw_deg[found], labels.is_val[found], is_cut)


def cut_face(
    image: NDArray[np.uint8], box_xyxy: NDArray[np.floating], generator: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return ``image`` without what lies beyond a line through the face, and the (4,) px to take off its boxes."""
    side, share = generator.integers(4), generator.uniform(0, MOST_CUT)
    height, width = image.shape[:2]
    area = np.array([0, 0, width, height])
    inwards = share * (box_xyxy[2:] - box_xyxy[:2])[side % 2]
    area[side] = round(float(box_xyxy[side] + (inwards if side < 2 else -inwards)))
    x0, y0, x1, y1 = np.clip(area, 0, (width, height, width, height))
    return np.ascontiguousarray(image[y0:y1, x0:x1]), np.array([x0, y0, x0, y0])


def fit(matches: Matches, constant: bool = False) -> NDArray[np.float64]:
    """Fit coefficients (55, 4) to the training rows; ``constant`` leaves all but the 1 out, for comparison."""
    chosen = ~matches.is_val
    features = box_features(matches.rows[chosen], matches.size_wh[chosen])
    targets = box_targets(matches.rows[chosen], matches.boxes_xyxy[chosen])
    if constant:
        features = features * (np.arange(features.shape[1]) == 0)
    design = np.concatenate([features, mirror_features(features)])
    targets = np.concatenate([targets, targets * (-1, 1, 1, 1)])
    weights = row_weights(matches.source[chosen]) * np.where(matches.is_cut[chosen], CUT_WEIGHT, 1)
    weights = np.tile(weights, 2)
    return np.stack([robust_least_squares(design, column, weights) for column in targets.T], axis=1)


def box_targets(rows: NDArray, boxes_xyxy: NDArray) -> NDArray[np.float64]:
    """Return the values to predict (N, 4), TARGETS, of YuNet's rows (N, 15) and landmark boxes (N, 4) px."""
    rows, boxes = rows.astype(np.float64), boxes_xyxy.astype(np.float64)
    size = rows[:, 2:4]
    shift = (boxes[:, :2] + boxes[:, 2:]) / 2 - (rows[:, :2] + size / 2)
    return np.concatenate([shift / size, np.log((boxes[:, 2:] - boxes[:, :2]) / size)], axis=1)


def mirror_features(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the features (N, 55) of the mirror images of faces with ``features`` (N, 55)."""
    groups = features.reshape(-1, 5, 11)[:, MIRRORED_BORDERS]
    points = groups[:, :, 1:].reshape(-1, 5, 5, 2)[:, :, MIRRORED_POINTS] * (-1, 1)
    return np.concatenate([groups[:, :, :1], points.reshape(-1, 5, 10)], axis=2).reshape(-1, FEATURES)


def row_weights(source: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return the weights of rows (N,): a source counts by its share, an unknown one as much as its rows do."""
    weights = np.ones(len(source))
    for name, share in SOURCE_SHARES.items():
        mine = source == name
        weights[mine] = share * len(source) / max(1, mine.sum())
    return weights


def robust_least_squares(
    design: NDArray[np.float64], target: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the least squares solution under Huber's loss, by re-weighting.

    Its knee 1.345 is 95 % efficient for normal residuals (Huber, 1981).
    """
    current = weights
    for _ in range(30):
        root = np.sqrt(current)
        solution = np.linalg.lstsq(design * root[:, None], target * root, rcond=None)[0]
        residual = np.abs(target - design @ solution)
        knee = 1.345 * 1.4826 * np.median(residual)
        current = weights * np.minimum(1, knee / np.maximum(residual, 1e-12))
    return solution


def report(matches: Matches, coefficients: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """Return residuals on the validation rows, all and by yaw, and of cut faces.

    IoU, centre and size of mapped against true boxes.
    """
    mapped = landmark_boxes(matches.rows, matches.size_wh, coefficients).astype(np.float64)
    truth = matches.boxes_xyxy.astype(np.float64)
    size = (truth[:, 2:] - truth[:, :2]).mean(axis=1)
    shift = (mapped - truth).reshape(-1, 2, 2).mean(axis=1) / size[:, None]
    scale = np.log((mapped[:, 2:] - mapped[:, :2]).mean(axis=1) / size)
    overlap, bins = box_iou(mapped, truth), yaw_bins(matches.yaw_deg)
    # By group of faces: means and spreads
    whole = ~matches.is_cut
    yaws = {f"yaw {name}": whole & (bins == number) for number, name in enumerate(YAW_BINS_DEG)}
    groups = {"all": whole, **yaws, "cut": matches.is_cut}
    result = {}
    for name, group in groups.items():
        if (rows := group & matches.is_val).any():
            columns = {
                "iou": overlap[rows],
                "shift_x": shift[rows, 0],
                "shift_y": shift[rows, 1],
                "log_scale": scale[rows],
            }
            result[name] = {"faces": int(rows.sum())}
            for key, values in columns.items():
                result[name] |= {
                    f"{key}_mean": round(float(values.mean()), 4),
                    f"{key}_std": round(float(values.std()), 4),
                }
    return result


def print_report(residuals: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print a fixed-width table; shifts in mean box sides, the scale as natural logarithm."""
    print(f"{'validation rows':<24}{'faces':>6}{'IoU':>8}{'shift x':>17}{'shift y':>17}{'ln scale':>17}")
    for name, groups in residuals.items():
        for group, values in groups.items():
            spread = (
                f"{values[f'{key}_mean']:+8.3f} ± {values[f'{key}_std']:.3f}"
                for key in ("shift_x", "shift_y", "log_scale")
            )
            columns = "".join(f"{text:>17}" for text in spread)
            print(f"{name + ', ' + group:<24}{values['faces']:>6}{values['iou_mean']:>8.3f}{columns}")
