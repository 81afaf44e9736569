"""Decoded faces of a batch: on the device, and on the host in page-locked blocks that are lent to whoever reads them.

So the host does not touch the vertices: the kernels tell whether they are finite, and a copy of half a megabyte per
face would be most of its work.
"""

from __future__ import annotations

import sys
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.cuda.interface import Cuda, Stream
from runtime.families.family import GpuDecoder
from runtime.inference.interface import MeshedFace, unusable_vertices
from runtime.inference.trt.mesh_engine import MeshEngine

POINT_NBYTES, ALIGNMENT = 12, 16
SPARE_BLOCKS = 4  # for readers, who get copies when all are lent


class ResultLayout:
    """Places in a block: confidences, marks of points that are not finite, points; for ``max_batch`` faces."""

    def __init__(self, engine: MeshEngine, decoder: GpuDecoder, max_batch: int) -> None:
        self.max_batch = max_batch
        self.vertex_count, self.point_count = decoder.vertex_count, decoder.point_count
        self.marks = -(-self.point_count // native.POINTS_OF_A_MARK)  # of one face
        self.confidence_dtype = engine.confidence_dtype
        self.confidence_nbytes = 0 if self.confidence_dtype is None else max_batch * self.confidence_dtype.itemsize
        self.marks_start = self.confidence_nbytes
        self.points_start = -(-(self.marks_start + max_batch * self.marks) // ALIGNMENT) * ALIGNMENT

    def nbytes(self, faces: int) -> int:
        """Return the size of a block up to the points of the first ``faces``."""
        return self.points_start + faces * self.point_count * POINT_NBYTES


class _Block:
    """Page-locked memory with a batch's results."""

    def __init__(self, cuda: Cuda, layout: ResultLayout, mapped: bool) -> None:
        most = layout.max_batch
        buffer = cuda.host_buffer(layout.nbytes(most), mapped=mapped)
        self.pointer, self.device_pointer = buffer.pointer, buffer.device_pointer
        self._memory = memory = np.frombuffer(buffer.array.data, np.uint8)  # what views of it refer to
        self.confidence: NDArray[np.floating] | None = None
        if layout.confidence_dtype is not None:
            self.confidence = memory[: layout.confidence_nbytes].view(layout.confidence_dtype)
        self.marks = memory[layout.marks_start :][: most * layout.marks].reshape(most, layout.marks)
        self.points = memory[layout.points_start :].view(np.float32).reshape(most, layout.point_count, 3)
        del memory
        self._unlent = sys.getrefcount(self._memory)

    def is_lent(self) -> bool:
        """Return True while somebody holds a view of it."""
        return sys.getrefcount(self._memory) > self._unlent


class SpareBlocks:
    """The blocks that take the place of lent ones."""

    def __init__(self, cuda: Cuda, layout: ResultLayout) -> None:
        """Allocate them; none where there are no vertices, as landmarks are small."""
        self._blocks = [_Block(cuda, layout, mapped=False) for _ in range(SPARE_BLOCKS if layout.vertex_count else 0)]

    def exchange(self, block: _Block) -> _Block | None:
        """Return a block that nobody holds and keep ``block`` in its place; None: all are lent."""
        for place, spare in enumerate(self._blocks):
            if not spare.is_lent():
                self._blocks[place] = block
                return spare
        return None

    def close(self) -> None:
        """Let go of all of them; readers keep theirs."""
        self._blocks.clear()


class FaceResults:
    """The results of one frame slot."""

    def __init__(self, cuda: Cuda, layout: ResultLayout, spares: SpareBlocks, mapped: bool) -> None:
        """Allocate; ``mapped``: landmarks without vertices are shared with the device instead of downloaded."""
        is_mapped = mapped and not layout.vertex_count
        self._cuda = cuda
        self._layout = layout
        self._spares = spares
        self._block = _Block(cuda, layout, is_mapped)
        self._device = None if is_mapped else cuda.device_buffer(layout.nbytes(layout.max_batch))
        # On the device; confidences lie first.
        self.pointer = self._block.device_pointer if self._device is None else self._device.pointer
        self.marks_pointer = self.pointer + layout.marks_start
        self.points_pointer = self.pointer + layout.points_start

    def download(self, batch: int, stream: Stream) -> None:
        """Queue one copy of the first ``batch`` faces to the host."""
        if self._device is not None:
            self._cuda.download(self._block.pointer, self._device.pointer, self._layout.nbytes(batch), stream)

    def take(self, n: int) -> list[MeshedFace]:
        """Return the first ``n`` faces of the last download; raises `FaceMeshError` for points that are not finite.

        The vertices lie in the block, which is lent with them.
        """
        block, count = self._block, self._layout.vertex_count
        if np.count_nonzero(block.marks[:n]):
            raise unusable_vertices()
        points = block.points[:n]
        vertices, landmarks = points[:, :count], points[:, count:].copy()
        spare = self._spares.exchange(block)
        if spare is None:
            vertices = vertices.copy()
        else:
            self._block = spare
        confidence = repeat(None) if block.confidence is None else block.confidence.tolist()
        return [MeshedFace(*face) for face in zip(vertices, landmarks, confidence, strict=False)]
