"""Interface of a family of networks: the rule of the crop, the decoding of the output, the mesh that comes out.

Everything outside this folder asks a `Family` and knows no kind of output. `runtime.families.table` lists the families.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.cuda.interface import Cuda, Stream
from runtime.tensors import InputSpec, OutputSpec
from runtime.types import MeshTopology

Mesh = tuple[NDArray[np.float32], NDArray[np.float32]]  # vertices (V, 3) or (0, 3), landmarks (68, 3), frame px


class Decode(Protocol):
    """Decoding on the CPU: from a network's output to meshes in fresh arrays."""

    def __call__(self, output: NDArray[np.float32], matrix: NDArray[np.float64]) -> Mesh:
        """Decode one face by its (2, 3) float64 crop matrix, frame px -> crop px."""

    def batch(self, outputs: NDArray[np.float32], matrices: Sequence[NDArray[np.float64]]) -> list[Mesh]:
        """Decode N faces, (N, …) and N matrices; a family may have a faster way than one after the other."""
        return [self(output, matrix) for output, matrix in zip(outputs, matrices, strict=True)]


class NetworkSpec(Protocol):
    """The part of a `runtime.models.spec.ModelSpec` that families read."""

    @property
    def family(self) -> str: ...

    @property
    def input(self) -> InputSpec: ...

    @property
    def output(self) -> OutputSpec: ...

    @property
    def crop_scale(self) -> float: ...

    @property
    def topology(self) -> str: ...


class GpuDecoder(Protocol):
    """Decoding on the device: constants lie there, `enqueue` queues one kernel. It can be captured into a graph."""

    vertex_count: int  # of one face in the result; the 68 landmarks follow
    point_count: int  # vertices and landmarks

    def enqueue(self, output: int, matrices: int, batch: int, result: int, marks: int, stream: Stream) -> None:
        """Queue the decoding of ``batch`` faces. All addresses are of the device.

        ``output`` is the network's, ``matrices`` (batch, 2, 3) float64 crop matrices, ``result`` takes
        (batch, point_count, 3) float32, frame px, and ``marks`` what `runtime.cuda.interface.Kernels.decode` writes to
        ``not_finite``.
        """


class Family(Protocol):
    """One network's family: made by `runtime.families.table.open_family` for the network's spec."""

    output_type: ClassVar[type[OutputSpec]]  # of the spec's output part
    has_face_model: ClassVar[bool]  # the spec's topology is a face model, which users bring along

    @property
    def topology(self) -> MeshTopology: ...

    def __init__(self, spec: NetworkSpec, topology: Any = None) -> None:
        """Load the topology that the spec names, unless one is given. Raises `FaceMeshError`."""

    def crop_matrix(self, box_xyxy: ArrayLike) -> NDArray[np.float64]:
        """Return the (2, 3) similarity, frame px -> crop px, for the tight box of a face's 68 landmarks."""

    def decoder(self, dense: bool = True) -> Decode:
        """Return the decoder on the CPU; ``dense`` False leaves the vertices out."""

    def gpu_decoder(self, cuda: Cuda, half: bool, dense: bool = True) -> GpuDecoder | None:
        """Return a decoder on the device, None if this family has no kernel; ``half``: the output is float16."""
