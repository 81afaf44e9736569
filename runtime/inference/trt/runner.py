"""Runner for engines of TensorRT, its lean runtime and TensorRT-RTX."""

from __future__ import annotations

import atexit
import warnings
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.errors import CudaError
from runtime.cuda.interface import Cuda
from runtime.cuda.open_cuda import open_cuda
from runtime.cuda.staged_buffer import StagedBuffer
from runtime.families.family import Family
from runtime.inference.cpu_mesher import CpuMesher
from runtime.inference.interface import Mesher, RunnerOptions
from runtime.inference.trt.engine_file import read_engine
from runtime.inference.trt.gpu_mesher import GpuMesher
from runtime.inference.trt.mesh_engine import MeshEngine
from runtime.inference.trt.network_stream import NetworkStream
from runtime.inference.trt.result_buffer import ResultBuffer

SYNC = ("spin", "block")
MEMORY = ("copy", "mapped")


def open_model(path: Path, options: RunnerOptions) -> TensorRTRunner:
    """Open an engine that its manifest (or ``options.trust_engine``) lets in. Raises `FaceMeshError`."""
    file = read_engine(path, options.trust_engine, options.face_model)
    with ExitStack() as stack:
        cuda = stack.enter_context(open_cuda(spin=options.sync == "spin"))
        engine = stack.enter_context(MeshEngine(file))
        runner = TensorRTRunner(engine, cuda, options.max_batch, options.sync, options.memory)
        stack.pop_all()
        return runner


class TensorRTRunner:
    """`runtime.inference.interface.Runner` over an engine.

    Its `mesher` works on the device from frame to mesh; ``input`` and `infer` run the network alone.
    """

    def __init__(
        self, engine: MeshEngine, cuda: Cuda, max_batch: int = 8, sync: str = "spin", memory: str | None = None
    ) -> None:
        """Take over ``engine`` and ``cuda``.

        ``sync`` "spin" waits for the device with the least delay, "block" leaves the core to others. ``memory`` "copy"
        copies frames and points, "mapped" maps frames, and landmarks alone, into host and device; None maps if both
        share their memory. Vertices are always copied by the device: their memory is lent to whoever reads them.
        """
        if sync not in SYNC or memory not in (None, *MEMORY):
            raise ValueError(f"sync must be one of {SYNC} and memory of {MEMORY}, are {sync!r} and {memory!r}")
        self.spec = engine.spec
        self.lock = Lock()
        self.max_batch = engine.padded(max_batch, max_batch)
        self._engine = engine
        self._cuda = cuda
        self._make_current = cuda.make_current  # threads may take turns
        self._blocking = sync == "block"
        self._mapped = cuda.integrated if memory is None else memory == "mapped"
        self._meshers: list[GpuMesher] = []
        self._closed = False
        atexit.register(self.close)  # before the device, which registered itself earlier, takes its context away

    @property
    def input(self) -> NDArray[np.float32]:
        """Page-locked memory (max_batch, *spec.input.shape): write the crops here."""
        return self._network.input

    @property
    def confidence(self) -> NDArray[np.float32] | None:
        """Confidences (max_batch,) of the last `infer`; None: the model has no such output."""
        return None if self.spec.confidence is None else self._network.confidence

    def infer(self, n: int) -> NDArray[np.float32]:
        """Run the first ``n`` crops in ``input``; a view that the next call overwrites."""
        if not 1 <= n <= self.max_batch:
            raise ValueError(f"n must be 1..{self.max_batch}, is {n}")
        self._make_current()
        return self._network.infer(n)

    def mesher(self, family: Family, dense: bool = True) -> Mesher:
        """Return a mesher on the device, its graphs made; without kernels, crop and decode run on the CPU."""
        half = self._engine.output_dtype == np.float16
        decoder = None if self._cuda.kernels is None else family.gpu_decoder(self._cuda, half, dense)
        if decoder is None:
            reason = "there are no kernels for this device, which need compute capability 7.5"
            if self._cuda.kernels is not None:
                reason = f"models of the family {self.spec.family} have no CUDA kernel"
            warnings.warn(f"{reason}: crop and decode run on the CPU; it takes longer", RuntimeWarning, stacklevel=2)
            return CpuMesher(self, family, dense)
        mesher = GpuMesher(
            self._engine, self._cuda, decoder, self.max_batch, blocking=self._blocking, mapped=self._mapped
        )
        self._meshers.append(mesher)
        mesher.warm_up()
        return mesher

    def close(self) -> None:
        """Wait for the device and free all; neither the runner nor its meshers can be used afterwards."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        with suppress(CudaError):  # a lost device
            self._make_current()
        with ExitStack() as closing:  # all of it, whatever fails; from the last to the first
            closing.callback(self._cuda.close)
            closing.callback(self._engine.close)
            for part in (*self._meshers, *filter(None, [vars(self).pop("_network", None)])):
                closing.callback(part.close)

    def __enter__(self) -> TensorRTRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def _network(self) -> _Network:
        """Buffers of `infer`, made when first used: a `GpuMesher` needs none of them."""
        if self._closed:
            raise RuntimeError("the runner is closed: open another")
        self._make_current()
        return _Network(self._engine, self._cuda, self.max_batch, self._blocking, self._mapped)


class _Network:
    """The network between arrays of the host."""

    def __init__(self, engine: MeshEngine, cuda: Cuda, max_batch: int, blocking: bool, mapped: bool) -> None:
        self._engine = engine
        self._max_batch = max_batch
        self._input = StagedBuffer(cuda, max_batch * engine.input_nbytes, mapped)
        self._output = ResultBuffer(engine, cuda, max_batch, engine.output_nbytes, mapped)
        addresses = engine.addresses(self._input.pointer, self._output.faces_pointer, self._output.confidence_pointer)
        self._stream = NetworkStream(engine, cuda, addresses, blocking)
        self._staged_input = self._input.array.view(engine.input_dtype).reshape(max_batch, *engine.input_shape)
        self._staged_output = self._output.faces.view(engine.output_dtype).reshape(max_batch, *engine.output_shape)
        self.input = self._staged_input.astype(np.float32, copy=False)  # itself, unless the engine takes float16
        self._result = self._staged_output.astype(np.float32, copy=False)
        staged = self._output.confidence
        self.confidence = None if staged is None else staged.astype(np.float32, copy=False)
        self.input[:] = 0
        self._stream.context(engine.padded(1, max_batch))

    def infer(self, n: int) -> NDArray[np.float32]:
        batch, stream = self._engine.padded(n, self._max_batch), self._stream.stream
        if self.input is not self._staged_input:
            self._staged_input[:n] = self.input[:n]
        self._input.upload(batch * self._engine.input_nbytes, stream)
        self._stream.context(batch).enqueue(stream)
        self._output.download(batch, stream)
        self._stream.mark()
        self._stream.wait()
        if self._result is not self._staged_output:
            self._result[:n] = self._staged_output[:n]
        staged = self._output.confidence
        if self.confidence is not None and staged is not None and self.confidence is not staged:
            self.confidence[:n] = staged[:n]
        return self._result[:n]

    def close(self) -> None:
        self._stream.close()
