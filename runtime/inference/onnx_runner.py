"""The runner for ONNX files, on the CPU or through a provider for GPUs. Home module of ONNX Runtime."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from runtime.cores import has_byte_products, usable_cores
from runtime.errors import FaceMeshError
from runtime.families.family import Family
from runtime.inference.cpu_mesher import CpuMesher
from runtime.inference.interface import RunnerOptions
from runtime.inference.onnx_providers import open_on_gpu
from runtime.models.detector_spec import DetectorSpec
from runtime.models.spec import CONFIDENCE_SHAPE, ModelSpec, load_spec
from runtime.storage.limits import BATCH

MOST_THREADS = 4
# Runs shorter than this stay on one core: waking another one, operator by operator, costs what it gains.
SHORT_RUN_S = 0.005
TYPES = ("tensor(float)", "tensor(float16)")


def open_model(path: Path, options: RunnerOptions) -> OnnxRunner:
    """Open an .onnx file by the spec beside it. Raises `FaceMeshError`."""
    spec = load_spec(path, options.face_model)
    return OnnxRunner(path, spec, options.max_batch, options.threads, options.provider)


class OnnxRunner:
    """`runtime.inference.interface.Runner` over ONNX Runtime; input and outputs are arrays, never copied."""

    def __init__(
        self,
        path: Path,
        spec: ModelSpec,
        max_batch: int = 8,
        threads: int | None = None,
        provider: str | None = None,
    ) -> None:
        """Load a model and run it, with two faces, too, if its batch is free: some models are so in name alone.

        Such a model runs its faces one by one. ``provider`` is one of `runtime.inference.onnx_providers.PROVIDERS`,
        None the CPU. Raises `FaceMeshError` if it cannot be loaded or does not fit ``spec``.
        """
        self.spec = spec
        self.lock = threading.Lock()
        self._path = path
        cores = min(threads or 1, usable_cores())
        if provider is None:
            self._session = open_session(path, cores)
        else:
            self._session = open_on_gpu(path, provider, spec, max_batch, session_options(cores))
        self._fixed_batch = self._check_interface(path)
        self.max_batch = self._fixed_batch or max_batch
        if self._fixed_batch and (excess := BATCH.excess(self._fixed_batch)):
            raise FaceMeshError(f"{path}: {excess}; export the model with a free batch")
        self.input = np.zeros((self.max_batch, *spec.input.shape), np.float32)
        self._output = np.zeros((self.max_batch, *spec.output_shape), np.float32)
        self.confidence = None if spec.confidence is None else np.zeros(self.max_batch, np.float32)
        self._bindings: dict[int, onnxruntime.IOBinding] = {}
        self.infer(1)
        if self.max_batch > 1 and not self._fixed_batch and not self._runs(2):
            self.max_batch = 1
        if provider is None and threads is None and self._run_time() > SHORT_RUN_S:
            self._bindings.clear()
            self._session = open_session(path, min(MOST_THREADS, usable_cores()))

    def infer(self, n: int) -> NDArray[np.float32]:
        """Run the first ``n`` crops in ``input``; a view that the next call overwrites.

        Raises `FaceMeshError` if the model fails, or is closed.
        """
        if not 1 <= n <= self.max_batch:
            raise ValueError(f"n must be 1..{self.max_batch}, is {n}")
        if self._session is None:
            raise FaceMeshError(f"{self._path}: the runner is closed; open another")
        batch = self._fixed_batch or n
        try:
            if batch not in self._bindings:
                self._bindings[batch] = self._bind(batch)
            self._session.run_with_iobinding(self._bindings[batch])
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            fault = f"the model does not run with {batch} of its crops ({_first_line(error)})"
            raise FaceMeshError(f"{self._path}: {fault}; export the model again") from error
        return self._output[:n]

    def mesher(self, family: Family, dense: bool = True) -> CpuMesher:
        """Return a mesher that crops and decodes on the CPU."""
        return CpuMesher(self, family, dense)

    def close(self) -> None:
        """Free the model; the runner cannot be used afterwards."""
        self._bindings.clear()
        self._session = None

    def __enter__(self) -> OnnxRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _runs(self, n: int) -> bool:
        try:
            self.infer(n)
        except FaceMeshError:
            return False
        return True

    def _run_time(self) -> float:
        """Seconds of one run of one crop, the second one."""
        start = time.perf_counter()
        self.infer(1)
        return time.perf_counter() - start

    def _bind(self, batch: int) -> onnxruntime.IOBinding:
        spec, binding = self.spec, self._session.io_binding()
        binding.bind_input(
            spec.input.name, "cpu", 0, np.float32, (batch, *self.input.shape[1:]), self.input.ctypes.data
        )
        binding.bind_output(
            spec.output.name, "cpu", 0, np.float32, (batch, *self._output.shape[1:]), self._output.ctypes.data
        )
        if self.confidence is not None:
            shape = (batch, *CONFIDENCE_SHAPE)
            binding.bind_output(spec.confidence, "cpu", 0, np.float32, shape, self.confidence.ctypes.data)
        return binding

    def _check_interface(self, path: Path) -> int | None:
        """Check input and outputs against the spec; return the batch size, None if it is free."""
        spec, inputs, outputs = self.spec, self._session.get_inputs(), self._session.get_outputs()
        if not (len(inputs) == 1 and _fits(inputs[0], spec.input.name, spec.input.shape)):
            raise _misfit(path, "input", spec.input.name, spec.input.shape, inputs)
        for name, shape in spec.outputs.items():
            if not any(_fits(tensor, name, shape) for tensor in outputs):
                raise _misfit(path, "output", name, shape, outputs)
        batch = inputs[0].shape[0]
        return batch if isinstance(batch, int) else None


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return this project's options for ``threads`` cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong arrives as an exception
    # A spinning thread takes the core from crop, decode and detection, and waits a whole time slice for a partner
    # that is not scheduled.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not has_byte_products():
        # On x86 without such instructions sums of byte products saturate, unless this asks for slower exact ones.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def open_session(model: Path | bytes, threads: int) -> onnxruntime.InferenceSession:
    """Load a model file, or a serialised model, for ``threads`` CPU cores.

    Raises `FaceMeshError` when ONNX Runtime cannot load it.
    """
    try:
        content = model if isinstance(model, bytes) else str(model)
        return onnxruntime.InferenceSession(content, session_options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
        name = "the model" if isinstance(model, bytes) else model
        raise FaceMeshError(
            f"{name}: ONNX Runtime cannot load it ({_first_line(error)}); export the model again"
        ) from error


def open_detector_session(
    path: Path, spec: DetectorSpec, threads: int, provider: str | None = None
) -> onnxruntime.InferenceSession:
    """Load a detector of one size for up to ``threads`` cores; ``provider`` as for `OnnxRunner`.

    Raises `FaceMeshError` if it cannot be loaded or does not fit ``spec``.
    """
    cores = min(MOST_THREADS, threads, usable_cores())
    if provider is None:
        session = open_session(path, cores)
    else:
        session = open_on_gpu(path, provider, spec, 1, session_options(cores))
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if not (len(inputs) == 1 and _fits(inputs[0], spec.input.name, spec.input.shape, TYPES)):
        raise _misfit(path, "input", spec.input.name, spec.input.shape, inputs)
    for name, shape in spec.outputs.items():
        if not any(_fits(tensor, name, shape, TYPES) for tensor in outputs):
            raise _misfit(path, "output", name, shape, outputs)
    return session


def _fits(tensor: onnxruntime.NodeArg, name: str, sides: tuple[int, ...], types: tuple[str, ...] = TYPES[:1]) -> bool:
    """Dimensions without a number are free and fit anything."""
    return (
        tensor.name == name
        and tensor.type in types
        and len(tensor.shape) == 1 + len(sides)
        and all(not isinstance(have, int) or have == want for have, want in zip(tensor.shape[1:], sides, strict=True))
    )


def _misfit(
    path: Path, kind: str, name: str, sides: tuple[int, ...], found: list[onnxruntime.NodeArg]
) -> FaceMeshError:
    have = ", ".join(f"{tensor.name} {tensor.type} {tensor.shape}" for tensor in found)
    return FaceMeshError(
        f"{path}: its spec wants the {kind} {name} tensor(float) ['N', {', '.join(map(str, sides))}], "
        f"the model has {have}; export it again"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")
