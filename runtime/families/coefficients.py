"""Networks that regress a pose and coefficients of a linear face model: 3DDFA (Zhu et al., CVPR 2016) and its heirs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.compiled import native
from runtime.cuda.interface import Cuda, DeviceBuffer, Stream
from runtime.errors import FaceMeshError
from runtime.families.face_model import FaceModel
from runtime.families.family import Decode, Mesh, NetworkSpec
from runtime.families.model_topology import FaceModelTopology, load_model_topology
from runtime.geometry.crop import check_matrix, longer_side_crop_matrix
from runtime.tensors import OutputSpec

POSE_COUNT = 12  # numbers of a (3, 4) matrix
NO_VERTICES = np.empty((0, 3), np.float32)
BITS = {"fp32": 32, "fp16": 16, "int8": 8}  # of the basis in a decoder, by its precision in the file


@dataclass(frozen=True)
class CoefficientOutput(OutputSpec):
    """One row of numbers: pose, shape, expression, all whitened: number = output * std + mean.

    The pose is a (3, 4) matrix row by row. It takes a point of the model to (a, b, c): in the crop x is
    ``origin[0] + a``, y is ``origin[1] - b``, and c is the depth in px.
    """

    pose_count: int  # 12, or 0 for a network without pose: its faces look straight ahead and fill their box
    shape_count: int
    expression_count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: tuple[float, float]  # crop px

    def __post_init__(self) -> None:
        if self.pose_count not in (0, POSE_COUNT):
            raise ValueError(f"field output.pose_count must be {POSE_COUNT} or 0, is {self.pose_count}")
        if min(self.shape_count, self.expression_count) < 0 or self.shape_count + self.expression_count == 0:
            found = f"{self.shape_count} and {self.expression_count}"
            raise ValueError(f"fields output.shape_count and expression_count must be counts, not both 0, are {found}")
        for field in ("mean", "std"):
            values = getattr(self, field)
            if len(values) != self.count or not all(map(math.isfinite, values)):
                problem = f"must be {self.count} finite numbers ({self.describe()})"
                raise ValueError(f"field output.{field} {problem}, are {len(values)}")
        if min(self.std) <= 0:
            raise ValueError(f"field output.std must be positive numbers, the least is {min(self.std)}")
        if not all(map(math.isfinite, self.origin)):
            raise ValueError(f"field output.origin must be two finite numbers, is {list(self.origin)}")

    @property
    def count(self) -> int:
        """Length of the row."""
        return self.pose_count + self.shape_count + self.expression_count

    def shape(self, layout: str) -> tuple[int, ...]:
        """Return (P,), whatever the layout of the picture."""
        return (self.count,)

    def fitted(self, name: str, shape: tuple[int, ...], layout: str) -> CoefficientOutput:
        """Return a copy for the tensor ``name``. Raises `ValueError` for another shape than (P,)."""
        if shape != (self.count,):
            raise ValueError(f"{self.count} numbers are wanted: {self.describe()}")
        return dataclasses.replace(self, name=name)

    def describe(self) -> str:
        """Return the split of the numbers."""
        return f"{self.pose_count} pose + {self.shape_count} shape + {self.expression_count} expression"


class CoefficientFamily:
    """`runtime.families.family.Family` of face-model coefficients."""

    output_type: ClassVar[type[OutputSpec]] = CoefficientOutput
    has_face_model: ClassVar[bool] = True

    def __init__(self, spec: NetworkSpec, topology: FaceModelTopology | None = None) -> None:
        """Take the spec; the face model that it names is loaded when it is first needed, unless one is given."""
        self._spec = spec
        self._given = topology

    @cached_property
    def topology(self) -> FaceModelTopology:
        """Mesh of the face model. Raises `FaceMeshError` if there is none or if it does not fit the network."""
        topology = _load(self._spec.topology) if self._given is None else self._given
        if not isinstance(topology, FaceModelTopology):
            raise FaceMeshError(
                f"a network of coefficients needs a FaceModelTopology, not a {type(topology).__name__}; "
                "make one from its face model"
            )
        wanted, model = _output(self._spec), topology.model
        found = (model.shape_count, model.expression_count)
        if found != (wanted.shape_count, wanted.expression_count):
            raise FaceMeshError(
                f"{'the face model' if self._given else self._spec.topology}: its {found[0]} + {found[1]} coefficients "
                f"of shape and expression are not the network's {wanted.shape_count} + {wanted.expression_count}; "
                "give the face model that it was trained with"
            )
        return topology

    def crop_matrix(self, box_xyxy: ArrayLike) -> NDArray[np.float64]:
        """Return 3DDFA's landmark crop of a box, see `runtime.geometry.crop.longer_side_crop_matrix`."""
        return longer_side_crop_matrix(box_xyxy, self._spec.crop_scale, self._spec.input.size)

    def decoder(self, dense: bool = True) -> Decode:
        """Return the native decoder; ``dense`` False touches no other rows of the basis than the landmarks'."""
        return Decoder(self.topology.model, self._spec) if dense else _LandmarkDecoder(self.topology.model, self._spec)

    def gpu_decoder(self, cuda: Cuda, half: bool, dense: bool = True) -> CoefficientGpuDecoder | None:
        """Return a decoder over the kernels of ``cuda``, None without kernels; ``half``: the numbers are float16."""
        model = self.topology.model
        return None if cuda.kernels is None else CoefficientGpuDecoder(model, self._spec, cuda, half, dense)


class Decoder(Decode):
    """Coefficients -> dense vertices and landmarks in frame pixels, for one face model and one network.

    z is counted from the far side of the mean face's sphere, so that it is positive, turns with the head and needs no
    second look at the vertices.
    """

    def __init__(self, model: FaceModel, spec: NetworkSpec) -> None:
        """Arrange the basis for the processor; it stays in the precision of its file."""
        self._landmarks = model.keypoints68
        self._open(model, spec, np.arange(len(model.mean)), BITS[model.precision])

    def _open(self, model: FaceModel, spec: NetworkSpec, rows: NDArray[np.integer], bits: int) -> None:
        self._native = _native_decoder(model, spec, rows, bits)
        self._shape = spec.output.shape(spec.input.layout)
        self._points_shape = (len(rows), 3)

    def __call__(self, output: NDArray[np.float32], matrix: NDArray[np.float64]) -> Mesh:
        """Decode one face.

        ``output`` is the (P,) float32 row of the network, ``matrix`` the (2, 3) float64 crop matrix. Returns fresh
        (V, 3) vertices and (68, 3) landmarks, float32, frame px. Raises `ValueError` for other shapes or dtypes and for
        a singular matrix.
        """
        # As in `runtime.geometry.crop.crop_into`: the native function checks by itself, here are the words.
        points = np.empty(self._points_shape, np.float32)
        try:
            self._native.decode_one(output, matrix, points)
        except (TypeError, ValueError):
            self._check(output.dtype, output.shape, output.flags.c_contiguous)
            check_matrix(matrix)
            raise
        return self._mesh(points)

    def batch(self, outputs: NDArray[np.float32], matrices: Sequence[NDArray[np.float64]]) -> list[Mesh]:
        """Decode several faces, (N, P) and N matrices; two of them at a time share a read of the basis."""
        if len(outputs) == 1:
            return [self(outputs[0], matrices[0])]
        self._check(outputs.dtype, outputs.shape[1:], outputs.flags.c_contiguous)
        for matrix in matrices:
            check_matrix(matrix)
        return [self._mesh(points) for points in self._native(outputs, np.stack(matrices))] if len(outputs) else []

    def _mesh(self, points: NDArray[np.float32]) -> Mesh:
        return points, points[self._landmarks]

    def _check(self, dtype: np.dtype, shape: tuple[int, ...], is_contiguous: bool) -> None:
        if shape != self._shape or dtype != np.float32 or not is_contiguous:
            raise ValueError(f"a face's output must be contiguous float32 {self._shape}, is {dtype} of shape {shape}")


class _LandmarkDecoder(Decoder):
    """A `Decoder` of the 68 landmarks alone; the vertices are (0, 3)."""

    def __init__(self, model: FaceModel, spec: NetworkSpec) -> None:
        # The landmarks of an INT8 basis come from many blocks of vertices, whose scales differ.
        self._open(model, spec, model.keypoints68, max(16, BITS[model.precision]))

    def batch(self, outputs: NDArray[np.float32], matrices: Sequence[NDArray[np.float64]]) -> list[Mesh]:
        """Decode one face after the other: so small a basis stays in the caches."""
        return Decode.batch(self, outputs, matrices)

    def _mesh(self, points: NDArray[np.float32]) -> Mesh:
        return NO_VERTICES, points


class CoefficientGpuDecoder:
    """`runtime.families.family.GpuDecoder` over ``cuda.kernels.decode_coefficients``; the basis lies on the device.

    It is float16 there, unless the file of the face model is float32.
    """

    def __init__(self, model: FaceModel, spec: NetworkSpec, cuda: Cuda, half: bool, dense: bool) -> None:
        """Upload mean and basis of the vertices (with ``dense``) and of the landmarks. ``cuda`` frees them."""
        output = _output(spec)
        assert cuda.kernels is not None  # `gpu_decoder` has looked
        self._kernels = cuda.kernels
        self._half = half
        self._basis_half = model.precision != "fp32"
        self._pose_count = output.pose_count
        self._coefficient_count = model.basis.shape[1]
        self.vertex_count = len(model.mean) if dense else 0
        rows = np.concatenate([np.arange(self.vertex_count), model.keypoints68])
        self.point_count = len(rows)

        # One axis of all points after the other: neighbouring threads read neighbouring numbers.
        basis = model.basis.reshape(len(model.mean), 3, -1)[rows].transpose(2, 1, 0)
        pose = np.zeros((3, 4)) if output.pose_count else frontal_pose(model, spec)
        constants = (output.mean, output.std, pose.ravel(), output.origin, mean_sphere(model))
        self._basis = _uploaded(cuda, basis, np.float16 if self._basis_half else np.float32)
        self._mean = _uploaded(cuda, model.mean[rows].T, np.float32)
        self._constants = _uploaded(cuda, np.concatenate(constants), np.float32)

    def enqueue(self, output: int, matrices: int, batch: int, result: int, marks: int, stream: Stream) -> None:
        """Queue the kernel, see `runtime.families.family.GpuDecoder.enqueue`."""
        self._kernels.decode_coefficients(
            output=output,
            half=self._half,
            pose_count=self._pose_count,
            coefficient_count=self._coefficient_count,
            constants=self._constants.pointer,
            mean=self._mean.pointer,
            basis=self._basis.pointer,
            basis_half=self._basis_half,
            matrices=matrices,
            n=batch,
            count=self.point_count,
            out=result,
            not_finite=marks,
            stream=stream.handle,
        )


def _uploaded(cuda: Cuda, values: NDArray[Any], kind: type[np.floating]) -> DeviceBuffer:
    """Return memory of the device that holds ``values``; the page-locked memory on the way is freed."""
    content = np.ascontiguousarray(values, kind)
    device = cuda.device_buffer(content.nbytes)
    with cuda.host_buffer(content.nbytes) as host, cuda.stream() as stream:
        host.array.view(kind)[:] = content.ravel()
        cuda.upload(device.pointer, host.pointer, content.nbytes, stream)
        stream.synchronize()
    return device


def _native_decoder(
    model: FaceModel, spec: NetworkSpec, rows: NDArray[np.integer], bits: int
) -> native.CoefficientDecoder:
    """Return the compiled decoder of the vertices ``rows``."""
    output = _output(spec)
    return native.CoefficientDecoder(
        mean=model.mean[rows],
        basis=model.basis.reshape(len(model.mean), 3, -1)[rows].reshape(3 * len(rows), -1),
        bits=bits,
        pose_count=output.pose_count,
        number_mean=np.array(output.mean),
        number_std=np.array(output.std),
        fixed_pose=np.zeros((3, 4)) if output.pose_count else frontal_pose(model, spec),
        origin=output.origin,
        sphere=mean_sphere(model),
    )


def frontal_pose(model: FaceModel, spec: NetworkSpec) -> NDArray[np.float64]:
    """Return the (3, 4) pose of a face that looks straight ahead and fills its box, for networks without a pose.

    The box of the mean face's landmarks has its centre in the middle of the crop; the crop is ``crop_scale`` times as
    large as the longer side.
    """
    points = model.mean[model.keypoints68, :2].astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    size, (right, top) = spec.input.size, _output(spec).origin
    scale = size / spec.crop_scale / (high - low).max()
    pose = np.zeros((3, 4))
    pose[:, :3] = scale * np.eye(3)
    middle = np.array([(size - 1) / 2 - right, top - (size - 1) / 2])
    pose[:2, 3] = middle - scale * (low + high) / 2
    return pose


def mean_sphere(model: FaceModel) -> NDArray[np.float64]:
    """Return centre and radius of a sphere round the mean face, (4,), model units."""
    centre = model.mean.astype(np.float64).mean(axis=0)
    return np.append(centre, np.linalg.norm(model.mean - centre, axis=1).max())


def decode_numpy(output: NDArray[np.float32], matrix: NDArray[np.float64], model: FaceModel, spec: NetworkSpec) -> Mesh:
    """Compute the same as `Decoder` in NumPy and float64: the definition, not the fast way."""
    numbers = output.astype(np.float64) * _output(spec).std + _output(spec).mean
    count = _output(spec).pose_count
    pose = numbers[:count].reshape(3, 4) if count else frontal_pose(model, spec)
    points = model.mean + (model.basis.astype(np.float64) @ numbers[count:]).reshape(-1, 3)
    moved = points @ pose[:, :3].T
    crop_xy = np.array(_output(spec).origin) + (moved[:, :2] + pose[:2, 3]) * (1, -1)
    *centre, radius = mean_sphere(model)
    depth = moved[:, 2] - pose[2, :3] @ centre + np.linalg.norm(pose[2, :3]) * radius
    frame_xy = (crop_xy - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    vertices = np.column_stack([frame_xy, depth / check_matrix(matrix)]).astype(np.float32)
    return vertices, vertices[model.keypoints68]


def _load(path: str) -> FaceModelTopology:
    if not Path(path).is_file():
        raise FaceMeshError(
            f"{path}: no such file; a network of coefficients needs the face model that it was trained with: "
            "give it by --face-model FILE.npz, 'python -m export face-model' makes one"
        )
    return load_model_topology(path)


def _output(spec: NetworkSpec) -> CoefficientOutput:
    """Return the spec's output part, of this family's type."""
    return cast(CoefficientOutput, spec.output)
