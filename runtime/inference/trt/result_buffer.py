"""Memory for the results of a batch that one download brings to the host: confidences first, then the faces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.interface import Cuda, Stream
from runtime.cuda.staged_buffer import StagedBuffer
from runtime.inference.trt.mesh_engine import MeshEngine

ALIGNMENT = 256  # bytes, of a tensor that TensorRT writes


class ResultBuffer:
    """Confidences and faces of at most ``max_batch`` faces. A model without confidence has the faces alone."""

    def __init__(self, engine: MeshEngine, cuda: Cuda, max_batch: int, face_nbytes: int, mapped: bool) -> None:
        """Allocate ``face_nbytes`` per face and a confidence where ``engine`` has one."""
        confidence_nbytes = 0 if engine.confidence_dtype is None else max_batch * engine.confidence_dtype.itemsize
        self._start = -(-confidence_nbytes // ALIGNMENT) * ALIGNMENT
        self._face_nbytes = face_nbytes
        self._memory = StagedBuffer(cuda, self._start + max_batch * face_nbytes, mapped)
        # On the host: (max_batch,) float32 or float16 as the engine has it, and (max_batch, face_nbytes) uint8.
        self.confidence: NDArray[np.floating] | None = None
        if engine.confidence_dtype is not None:
            self.confidence = self._memory.array[:confidence_nbytes].view(engine.confidence_dtype)
        self.faces = self._memory.array[self._start :].reshape(max_batch, face_nbytes)
        # On the device.
        self.confidence_pointer = self._memory.pointer
        self.faces_pointer = self._memory.pointer + self._start

    def download(self, batch: int, stream: Stream) -> None:
        """Queue one copy of the first ``batch`` faces and all confidences to the host."""
        self._memory.download(self._start + batch * self._face_nbytes, stream)
