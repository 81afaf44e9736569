"""Interfaces that every inference backend implements: `Runner` and `Mesher`.

A backend is a module of `runtime.inference` with ``open_model(path, options) -> Runner``, listed by the suffix of its
files in `runtime.inference.open_runner.BACKENDS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.interface import DeviceFrame
from runtime.errors import FaceMeshError
from runtime.families.family import Family
from runtime.models.spec import ModelSpec
from runtime.storage.limits import BATCH

SYNC = ("spin", "block")
MEMORY = (None, "copy", "mapped")


@dataclass(frozen=True)
class RunnerOptions:
    """Options of `runtime.open_runner`; a backend ignores the options of others."""

    max_batch: int = 8  # faces of one run
    threads: int | None = None  # CPU; None: the backend chooses
    sync: str = "spin"  # GPU: wait with the least delay, or "block" and leave the core to others
    memory: str | None = None  # GPU: "copy" or "mapped" frames and landmarks alone; None: by the device
    trust_engine: bool = False  # load an engine without a fitting manifest
    provider: str | None = None  # ONNX Runtime: "cuda", "tensorrt" or "nv-tensorrt-rtx"; None: the CPU
    face_model: Path | None = None  # of a network of coefficients; None: the one that the model's spec names

    def __post_init__(self) -> None:
        if self.max_batch < 1 or (self.threads is not None and self.threads < 1):
            raise ValueError(f"max_batch and threads must be at least 1, are {self.max_batch} and {self.threads}")
        if excess := BATCH.excess(self.max_batch):
            raise ValueError(f"max_batch: {excess}")
        if self.sync not in SYNC or self.memory not in MEMORY:
            problem = f"sync must be one of {SYNC} and memory one of {MEMORY}"
            raise ValueError(f"{problem}, are {self.sync!r} and {self.memory!r}")


class MeshedFace(NamedTuple):
    """One face as a mesher returns it. Nobody else writes to its arrays for as long as they are held."""

    vertices: NDArray[np.float32]  # (V, 3), or (0, 3) where they are left out, frame px
    landmarks: NDArray[np.float32]  # (68, 3), frame px
    confidence: float | None  # probability that the landmarks are right; None: the model does not tell


# One entry for every face, or none at all: (68, 3) float32 frame px as they are known before the network runs. None
# where they are not known, for a mesher that finds them itself.
Landmarks = Sequence[NDArray[np.float32] | None]


class Mesher(Protocol):
    """Crop, network and decode of one frame after the other. It belongs to its runner and closes with it."""

    depth: int  # frames that may be in flight: submitted and not yet collected

    def submit(
        self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]], landmarks: Landmarks = ()
    ) -> None:
        """Start on a frame (H, W, 3) uint8 BGR, with one (2, 3) crop matrix (frame px -> crop px) for every face.

        The frame may change as soon as this returns, unless it is the array of `frame_buffer`. ``landmarks`` of every
        face are for networks with a landmark channel.
        """
        ...

    def collect(self) -> list[MeshedFace]:
        """Wait for the frame submitted first; return its faces in the order of its matrices."""
        ...

    def again(
        self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]], landmarks: Landmarks = ()
    ) -> list[MeshedFace]:
        """Return the faces of the frame collected last for other crop matrices, at once: frames in flight wait."""
        ...

    def discard(self) -> None:
        """Forget the frames in flight."""
        ...

    def frame_buffer(self, height: int, width: int) -> NDArray[np.uint8] | None:
        """Return an (H, W, 3) array for the next `submit`, so that it need not copy; None: nothing would be gained.

        It is valid until that frame is collected.
        """
        ...

    def next_frame(self, image: NDArray[np.uint8]) -> DeviceFrame | None:
        """Return the frame of the next `submit`, for a detector on the same device; None: nothing would be gained.

        What the detector uploads of it `submit` does not upload again.
        """
        ...

    def last_frame(self, image: NDArray[np.uint8]) -> DeviceFrame | None:
        """Return the frame collected last, as `next_frame` does; `again` does not upload it again."""
        ...


def landmarks_for(
    spec: ModelSpec, matrices: Sequence[NDArray[np.float64]], landmarks: Landmarks
) -> Sequence[NDArray[np.float32]]:
    """Return the landmarks of every face for a network with a landmark channel, none for others.

    Raises `FaceMeshError` if some are missing.
    """
    if not spec.input.landmark_channel:
        return ()
    known = [points for points in landmarks if points is not None]
    if len(known) != len(matrices) or len(landmarks) != len(matrices):
        raise no_landmark_source(spec)
    return known


def unusable_vertices() -> FaceMeshError:
    """Return the error of a network with vertices that are not finite."""
    fault = "the vertices are not finite: the model's output is unusable"
    return FaceMeshError(f"{fault}; check the engine with another picture")


def no_landmark_source(spec: ModelSpec) -> FaceMeshError:
    """Return the error of a network with a landmark channel that nobody gives landmarks."""
    return FaceMeshError(
        f"{spec.name} takes landmarks beside the picture, and nothing finds them; give a network that does by "
        "--landmarks-from (landmarks_from), such as the shipped runtime/assets/edge.onnx"
    )


class Runner(Protocol):
    """A network: crops in, outputs out. All buffers are allocated once, when it is opened; a context manager."""

    spec: ModelSpec
    max_batch: int
    lock: Lock  # held from writing ``input`` to reading outputs, so that meshers in several threads can share a runner

    @property
    def input(self) -> NDArray[np.float32]:
        """(max_batch, *spec.input.shape): write the crops here."""
        ...

    @property
    def confidence(self) -> NDArray[np.float32] | None:
        """(max_batch,) of the last `infer`; None: the model has no such output."""
        ...

    def infer(self, n: int) -> NDArray[np.float32]:
        """Run the first ``n`` crops of ``input``: (n, *spec.output_shape), a view that the next call overwrites."""
        ...

    def mesher(self, family: Family, dense: bool = True) -> Mesher:
        """Return the fastest way from frames to meshes; ``dense`` False: landmarks alone, (0, 3) vertices."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Runner: ...

    def __exit__(self, *_: object) -> None: ...
