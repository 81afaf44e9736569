"""A stand-in for an engine, for frames without a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from benchmarks.gpu.scene import face_map
from runtime.cuda.interface import Cuda, DeviceBuffer, Stream
from runtime.models.shipped import SHIPPED_MODEL
from runtime.models.spec import load_spec


class NoNetwork:
    """A stand-in for a `runtime.inference.trt.mesh_engine.MeshEngine` of the shipped model and for its contexts.

    Its output is uploaded once, when a context opens.
    """

    def __init__(self, cuda: Cuda) -> None:
        self.spec = dataclasses.replace(load_spec(SHIPPED_MODEL), confidence=None)
        self.input_dtype = np.dtype(np.float32)
        self.output_dtype = np.dtype(np.float32)
        self.confidence_dtype = None
        self._cuda = cuda
        self._map = face_map(self.spec)
        self.input_nbytes = 3 * 4 * self.spec.input.size**2
        self.output_nbytes = self._map.nbytes
        self.scratch_nbytes = 0

    def padded(self, n: int, most: int) -> int:
        return min(1 << (n - 1).bit_length(), most)

    def addresses(self, input_pointer: int, output_pointer: int, confidence_pointer: int) -> dict[str, int]:
        return {self.spec.input.name: input_pointer, self.spec.output.name: output_pointer}

    def context(
        self, batch: int, addresses: Mapping[str, int], stream: Stream, scratch: DeviceBuffer | None
    ) -> NoNetwork:
        with self._cuda.host_buffer(batch * self._map.nbytes) as host:
            host.array.reshape(batch, -1)[:] = self._map.view(np.uint8).ravel()
            self._cuda.upload(addresses[self.spec.output.name], host.pointer, batch * self._map.nbytes, stream)
            stream.synchronize()
        return self

    def why_not_capturable(self, stream: Stream) -> str:
        return ""

    def enqueue(self, stream: Stream) -> None:
        pass

    def close(self) -> None:
        pass

    def __enter__(self) -> NoNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        pass
