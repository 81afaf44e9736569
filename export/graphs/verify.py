"""Compare the outputs of two models, in output units and in pixels of the crop. Runs ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from runtime.errors import FaceMeshError, one_line
from runtime.families.table import open_family
from runtime.families.uv_topology import load_topology
from runtime.geometry.crop import crop_into, crop_matrix, draw_landmarks
from runtime.inference.onnx_runner import session_options
from runtime.models.shipped import SHIPPED_PICTURE
from runtime.models.spec import ModelSpec
from runtime.sources.photos import read_photo
from runtime.tensors import InputSpec

PHOTOGRAPH_BOX = (179.2, 88.4, 270.2, 176.2)  # tight box of the 68 landmarks, px
VIEWS = (
    (1.0, 0, 0),
    (1.25, 9, -6),
    (0.85, -7, 8),
)  # side of the box relative to the tight one, shift right and down in px
NOISE_CELL_PX = 16
Outputs = Mapping[str, NDArray[np.float32]]  # name of an output -> (N, …)
SAME = 1e-4  # of the range of an output: another order of sums, not another result
LEAST_SPREAD_PX = 0.1  # between the outputs of a live network; every check passes on a dead one


@dataclass(frozen=True)
class Difference:
    """The distance between the outputs of two models on the same pictures."""

    largest: float  # of any number of the position map, output units
    mean_px: float  # distances of vertices in space, pixels of the crop
    p99_px: float
    max_px: float
    landmarks_px: float  # mean distance of the 68 landmarks

    def __str__(self) -> str:
        vertices = f"vertices {self.mean_px:.2g} px mean, {self.p99_px:.2g} p99, {self.max_px:.2g} max; "
        vertices += f"landmarks {self.landmarks_px:.2g} mean"
        return f"{self.largest:.2g} in output units; {vertices}"


def verification_images(spec: InputSpec, crop_scale: float) -> NDArray[np.float32]:
    """(4, 3 or 4, S, S) or (4, S, S, 3) by the spec: three views of the shipped photograph's face, and noise.

    A landmark channel shows the mean face where the photograph's is.
    """
    photograph = read_photo(SHIPPED_PICTURE)
    images = np.zeros((len(VIEWS) + 1, *spec.shape), np.float32)
    x1, y1, x2, y2 = PHOTOGRAPH_BOX
    for image, (factor, right, down) in zip(images, VIEWS, strict=False):
        centre, half = (
            np.array([(x1 + x2) / 2 + right, (y1 + y2) / 2 + down]),
            factor * np.array([x2 - x1, y2 - y1]) / 2,
        )
        matrix = crop_matrix((*(centre - half), *(centre + half)), crop_scale, spec.size)
        crop_into(photograph, matrix, spec, image)
        if spec.landmark_channel:
            draw_landmarks(frontal_landmarks(PHOTOGRAPH_BOX), matrix, image)
    cells = -(-spec.size // NOISE_CELL_PX)
    coarse = np.random.default_rng(0).uniform(*spec.value_range, (cells, cells, 3)).astype(np.float32)
    noise = coarse.repeat(NOISE_CELL_PX, 0).repeat(NOISE_CELL_PX, 1)[: spec.size, : spec.size]
    if spec.layout == "NHWC":
        images[-1] = noise
    else:
        images[-1, :3] = noise.transpose(2, 0, 1)
        images[-1, 3:] = images[0, 3:]
    return images


def frontal_landmarks(box_xyxy: tuple[float, float, float, float]) -> NDArray[np.float32]:
    """Return the landmarks (68, 3) of the mean face, frontal, that fill a box, px."""
    topology = load_topology()
    points = topology.canonical_vertices[topology.landmark_vertices].astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    corner, opposite = np.array(box_xyxy[:2]), np.array(box_xyxy[2:])
    points[:, :2] = corner + (points[:, :2] - low[:2]) / (high - low)[:2] * (opposite - corner)
    return points.astype(np.float32)


def run_model(
    model: onnx.ModelProto, images: NDArray[np.float32], output: str, *, optimised: bool = True
) -> NDArray[np.float32]:
    """Return `run_outputs` of one output."""
    return run_outputs(model, images, [output], optimised=optimised)[output]


def run_outputs(
    model: onnx.ModelProto,
    images: NDArray[np.float32],
    outputs: Iterable[str],
    *,
    optimised: bool = True,
    heavy: Mapping[str, NDArray] | None = None,
) -> Outputs:
    """Run ``model`` on ``images`` (N, …) in ONNX Runtime with or without its own optimisations; return the ``outputs``.

    A model of a fixed batch size gets the images in portions; ``heavy`` are the weights that it takes as inputs, see
    `export.graphs.heavy_weights`. Raises `FaceMeshError` when it does not load or run.
    """
    try:
        session = _session(model, optimised)
        weights = dict(heavy or {})
        (tensor,) = (entry for entry in session.get_inputs() if entry.name not in weights)
        is_fixed = isinstance(tensor.shape[0], int) and tensor.shape[0] > 0
        portion = tensor.shape[0] if is_fixed else 1 if heavy else len(images)
        filled = np.resize(images, (-(-len(images) // portion) * portion, *images.shape[1:]))
        names = list(outputs)
        portions = [
            session.run(names, {tensor.name: filled[start : start + portion], **weights})
            for start in range(0, len(filled), portion)
        ]
    except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
        raise _does_not_run(error) from error
    arrays = (np.concatenate(parts)[: len(images)] for parts in zip(*portions, strict=True))
    return dict(zip(names, arrays, strict=True))


def run_feeds(model: onnx.ModelProto, feeds: Outputs, names: Sequence[str]) -> list[NDArray]:
    """Run ``model`` once, as it is; return the outputs ``names``. Raises `FaceMeshError` like `run_outputs`."""
    try:
        return _session(model, optimised=True).run(list(names), dict(feeds))
    except Exception as error:
        raise _does_not_run(error) from error


def has_free_batch(model: onnx.ModelProto) -> bool:
    """Return True if the picture's batch has no number."""
    return not model.graph.input[0].type.tensor_type.shape.dim[0].dim_value


def _session(model: onnx.ModelProto, optimised: bool) -> onnxruntime.InferenceSession:
    options = session_options(threads=0)  # all cores
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _does_not_run(error: Exception) -> FaceMeshError:
    return FaceMeshError(f"the model does not run in ONNX Runtime ({one_line(error)}); export it in another way")


def require_same(expected: Outputs, found: Outputs, what: str) -> None:
    """Raise `FaceMeshError`, which says ``what``, unless ``found`` equal ``expected`` to 1e-4 of their range."""
    for name, values in expected.items():
        spread = max(float(np.ptp(values)), 1e-6)
        difference = float(np.abs(found[name] - values).max())
        if not difference <= SAME * spread:
            raise FaceMeshError(f"{what} ({name} differs by {difference:.2g}, its range is {spread:.2g})")


def require_independent(model: onnx.ModelProto, images: NDArray[np.float32], expected: Outputs) -> None:
    """Raise `FaceMeshError` if results for a picture depend on how many others are run with it, and on which."""
    try:
        alone = [run_outputs(model, images[number : number + 1], expected) for number in range(len(images))]
    except FaceMeshError:
        raise FaceMeshError(
            f"its batch is free, yet it runs {len(images)} faces and not one; export it with a free batch"
        ) from None
    joined = {name: np.concatenate([one[name] for one in alone]) for name in expected}
    require_same(expected, joined, "results depend on the other faces of a batch; export it after model.eval()")


def largest_difference(expected: Outputs, found: Outputs) -> float:
    """Return the largest difference of any number, output units; NaN if either holds one."""
    return float(np.max([np.abs(found[name] - values).max() for name, values in expected.items()]))


def require_sound(outputs: Outputs, spec: ModelSpec, what: str) -> None:
    """Raise `FaceMeshError` unless the mesh's output is live and the confidence, if there is one, is from 0 to 1."""
    require_live(outputs[spec.output.name], spec, what)
    if spec.confidence is not None:
        low, high = float(outputs[spec.confidence].min()), float(outputs[spec.confidence].max())
        if not 0 <= low <= high <= 1:
            problem = f"its confidence is {low:.3g} to {high:.3g} on ordinary pictures, a probability is wanted"
            raise FaceMeshError(f"{what}: {problem}; give other weights")


def require_live(outputs: NDArray[np.float32], spec: ModelSpec, what: str) -> None:
    """Raise `FaceMeshError` unless outputs (N, …) are finite and vary between pictures by `LEAST_SPREAD_PX`."""
    if not np.all(np.isfinite(outputs)):
        raise FaceMeshError(f"{what}: the network puts out NaN or infinity on ordinary pictures; give other weights")
    spread = max(float(points.std(0).max()) for points in decode_all(outputs, spec))
    if spread < LEAST_SPREAD_PX:
        raise FaceMeshError(
            f"{what}: the output hardly depends on the picture ({spread:.2g} px), so no check would mean anything; "
            "is it trained?"
        )


def compare(expected: NDArray[np.float32], outputs: NDArray[np.float32], spec: ModelSpec) -> Difference:
    """The difference between two stacks of outputs (N, …), decoded by the spec's family."""
    pairs = zip(decode_all(expected, spec), decode_all(outputs, spec), strict=True)
    vertices, landmarks = (np.linalg.norm(one - other, axis=2) for one, other in pairs)
    return Difference(
        largest=float(np.abs(expected - outputs).max()),
        mean_px=float(vertices.mean()),
        p99_px=float(np.quantile(vertices, 0.99)),
        max_px=float(vertices.max()),
        landmarks_px=float(landmarks.mean()),
    )


def decode_all(outputs: NDArray[np.float32], spec: ModelSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Decode outputs (N, …) to vertices (N, V, 3) and landmarks (N, 68, 3) in crop px."""
    decode = open_family(spec).decoder()
    vertices, landmarks = zip(*(decode(np.ascontiguousarray(output), np.eye(2, 3)) for output in outputs), strict=True)
    return np.stack(vertices), np.stack(landmarks)
