"""The half of `tests.standins.fake_tensorrt` that runs engines.

ONNX Runtime computes the network of the plan, on the memory of a `tests.standins.fake_cuda.FakeCuda`. A plan of
`make_plan` is an ONNX file with a few words before it; `write_engine` puts one on disk with its manifest. `make`
returns the module of one version of TensorRT, its lean runtime or TensorRT-RTX, with exactly the attributes of the
real classes. It refuses the same inputs: plans that are damaged or not for it, shapes out of range, a capture before
the first run, a context that is made during a capture or has no scratch memory, two contexts that use one scratch
memory at the same time, and, of TensorRT-RTX, the capture of an engine that was built without REQUIRE_USER_ALLOCATION.
Weights are device buffers of the FakeCuda: its ``live`` shows memory that is not released, ``late`` memory that is
released too late.
"""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import json
import math
import traceback
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from runtime.cuda.errors import CudaError
from runtime.models.detector_spec import load_any_spec
from runtime.models.manifest import EngineManifest
from runtime.models.spec import ModelSpec
from runtime.storage.json_documents import save_document
from runtime.storage.whole_files import file_sha256
from tests.standins import fake_tensorrt
from tests.standins.fake_cuda import ALIGNMENT, FakeCuda

MAGIC = b"plan of the stand-in "
DTYPES = {"FLOAT": np.float32, "HALF": np.float16}
SCRATCH = 1 << 16  # bytes, of every network
VERSIONS = {
    "tensorrt-8.6": "8.6.1",
    "tensorrt-10.3": "10.3.0",
    "tensorrt-10.16": "10.16.1.11",
    "tensorrt-11.4": "11.4.0.106",
    "lean-10.16": "10.16.1.11",
    "lean-11.4": "11.4.0.106",
    "rtx-1.7": "1.7.1.116",
}
MODULES = {"tensorrt": "tensorrt", "lean": "tensorrt_lean", "rtx": "tensorrt_rtx"}


def make_plan(
    onnx: bytes,
    batch: tuple[int, int] = (1, 8),
    input_type: str = "FLOAT",
    output_type: str = "FLOAT",
    confidence_type: str = "FLOAT",
    **words: Any,
) -> bytes:
    """Return a plan for the network ``onnx``; ``confidence_type`` is that of its other outputs, if it has any.

    ``words``: ``version_compatible``, ``rtx``, ``user_allocation`` (RTX), ``shares_profile`` (8.6), ``outputs`` (one
    more), ``vectorised``.
    """
    head = {"batch": batch, "types": [input_type, output_type, *[confidence_type] * 2], **words}
    return MAGIC + json.dumps(head).encode() + b"\n" + onnx + b"end"


def write_engine(
    path: Path,
    model: Path,
    changes: dict[str, Any] | None = None,
    batch: tuple[int, int, int] = (1, 1, 8),
    **words: Any,
) -> Path:
    """The plan of the ONNX file ``model`` and its manifest: of TensorRT 10.3 on an Orin, but for ``changes``."""
    path.write_bytes(make_plan(model.read_bytes(), (batch[0], batch[2]), **words))
    manifest = EngineManifest(
        spec=load_any_spec(ModelSpec.path_for(model)),
        engine_sha256=file_sha256(path),
        library="tensorrt",
        version="10.3.0",
        batch=batch,
        compute_capabilities=("8.7",),
        device="Orin",
        dla_core=None,
        created="2026-11-20T12:00:00+00:00",
        command=f"python -m export engine {model.name} -o {path.name}",
    )
    save_document(dataclasses.replace(manifest, **(changes or {})), EngineManifest.path_for(path))
    return path


class Memory:
    """A device buffer of the library's own, released with its owner."""

    def __init__(self, trt: Any, nbytes: int) -> None:
        self._trt, self._cuda = trt, trt.cuda
        self._buffer = trt.cuda.device_buffer(nbytes)

    def __del__(self) -> None:
        if hasattr(self, "_buffer"):
            if self._cuda.closed:
                self._trt.late.append(self._buffer.nbytes)
            with suppress(CudaError):  # the real destructors do no more than log it
                self._buffer.close()


def allocate(trt: Any, nbytes: int, logger: Any) -> Memory | None:
    try:
        if trt.failing == "memory":
            raise CudaError("cudaMalloc", "CUDA_ERROR_OUT_OF_MEMORY")
        return Memory(trt, nbytes)
    except CudaError as error:
        traceback.clear_frames(error.__traceback__)  # they hold what the real library would not
        logger.log(trt.ILogger.Severity.ERROR, str(error))
        return None


def make(label: str, cuda: FakeCuda) -> Any:
    """Return the module of ``label``, a column of the table.

    Beside the attributes of `fake_tensorrt.make` it has ``cuda``; ``late``, sizes of memory released after ``cuda`` was
    closed; ``contexts``, the shapes of contexts that were run. ``failing`` may be "start", "load", "memory", "shape",
    "run", "capture" or "warn".
    """
    trt = fake_tensorrt.make(label, VERSIONS[label])
    trt.__name__ = MODULES[label.partition("-")[0]]
    trt.cuda, trt.late, trt.contexts = cuda, [], []
    trt.users = weakref.WeakKeyDictionary()  # scratch memory -> the stream that uses it
    Strict, names = trt.Strict, trt.names
    for name in (
        *("DataType", "TensorIOMode", "CudaGraphStrategy", "DynamicShapesKernelSpecializationStrategy"),
        "ExecutionContextAllocationStrategy",
    ):
        if name not in names:
            continue
        members = [entry.partition(".")[2] for entry in sorted(names) if entry.startswith(f"{name}.")]
        setattr(trt, name, enum.IntEnum(name, members, start=0))

    class Runtime(Strict):
        def __init__(self, logger: Any) -> None:
            if trt.failing == "start":
                logger.log(trt.ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
                raise TypeError("factory function returned nullptr")
            self._logger, self._host_code = logger, False

        engine_host_code_allowed = property(
            lambda self: self._host_code, lambda self, allowed: object.__setattr__(self, "_host_code", allowed)
        )
        DLA_core = property(lambda self: -1, lambda self, core: None)

        def deserialize_cuda_engine(self, plan: bytes) -> ICudaEngine | None:
            head, fault = read_plan(plan)
            if trt.failing == "load":
                fault = "Error Code 1: Serialization (Serialization assertion\nmagicTagRead == kMAGIC_TAG failed.)"
            elif head and head.get("rtx", False) != (trt.__name__ == "tensorrt_rtx"):
                fault = "The engine plan file was not generated by this library"
            elif head and head.get("version_compatible") and not self._host_code:
                fault = "Engine contains host executable code, which is not allowed"
            elif head and trt.__name__ == "tensorrt_lean" and not head.get("version_compatible"):
                fault = "The engine plan file is not version-compatible"
            if fault:
                self._logger.log(trt.ILogger.Severity.ERROR, fault)
            memory = None if fault else allocate(trt, len(plan), self._logger)
            if memory is None:
                return None
            if trt.failing == "warn":
                self._logger.log(
                    trt.ILogger.Severity.WARNING,
                    "Using an engine plan file across different models of devices\nis not recommended",
                )
            return ICudaEngine(self._logger, head, plan.partition(b"\n")[2].removesuffix(b"end"), memory)

    class ICudaEngine(Strict):
        def __init__(self, logger: Any, head: dict, onnx: bytes, memory: Memory) -> None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
            self._logger, self._head, self._session, self._memory = logger, head, session, memory
            tensors = [*session.get_inputs(), *session.get_outputs()]
            self._tensors = {
                tensor.name: (tensor, "HALF" if tensor.type == "tensor(float16)" else kind)
                for tensor, kind in zip(tensors, head["types"], strict=False)
            }
            self._has_profile = False  # a context has it

        num_io_tensors = property(lambda self: len(self._tensors) + self._head.get("outputs", 0))

        def get_tensor_name(self, index: int) -> str:
            return [*self._tensors, "another_output"][index]

        def get_tensor_mode(self, name: str) -> Any:
            return trt.TensorIOMode.INPUT if name == self._session.get_inputs()[0].name else trt.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return trt.DataType[self._tensors[name][1] if name in self._tensors else "FLOAT"]

        def get_tensor_vectorized_dim(self, name: str) -> int:
            return 1 if self._head.get("vectorised") else -1

        def get_tensor_shape(self, name: str) -> list[int]:
            shape = self._tensors[name][0].shape if name in self._tensors else [1]
            return [side if isinstance(side, int) else -1 for side in shape]

        def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
            assert profile == 0
            least, most = self._head["batch"]
            return [[batch, *self.get_tensor_shape(name)[1:]] for batch in (least, least, most)]

        device_memory_size = device_memory_size_v2 = SCRATCH

        def create_execution_context(self, how: Any) -> IExecutionContext | None:
            runtime_config = how if isinstance(how, IRuntimeConfig) else None
            strategy = how if runtime_config is None else how._strategy
            assert strategy == trt.ExecutionContextAllocationStrategy.USER_MANAGED
            return self._new_context(runtime_config)

        def create_execution_context_without_device_memory(self) -> IExecutionContext | None:
            return self._new_context(None)

        def _new_context(self, runtime_config: Any) -> IExecutionContext | None:
            try:
                if trt.failing == "memory":
                    raise CudaError("cudaMalloc", "CUDA_ERROR_OUT_OF_MEMORY")
                trt.cuda.called("context")  # which allocates
            except CudaError as error:
                traceback.clear_frames(error.__traceback__)
                self._logger.log(trt.ILogger.Severity.ERROR, str(error))
                return None
            return IExecutionContext(self, runtime_config)

        def create_runtime_config(self) -> Any:
            return IRuntimeConfig()

    class IExecutionContext(Strict):
        device_memory = property(
            lambda self: self._scratch[0],
            lambda self, pointer: object.__setattr__(self, "_scratch", (pointer, SCRATCH)),
        )

        def __init__(self, engine: ICudaEngine, runtime_config: Any) -> None:
            self._engine, self._runtime_config = engine, runtime_config
            self._scratch: tuple[int, int] | None = None
            self._addresses: dict[str, int] = {}
            self._shape: tuple[int, ...] | None = None
            self._warm: set[tuple[int, ...]] = set()
            shared = label != "tensorrt-8.6" or engine._head.get("shares_profile", False)
            self._profile = 0 if shared or not engine._has_profile else -1
            engine._has_profile = True

        active_optimization_profile = property(lambda self: self._profile)

        def set_device_memory(self, pointer: int, nbytes: int) -> None:
            assert pointer % ALIGNMENT == 0
            self._scratch = pointer, nbytes

        def is_stream_capturable(self, stream: int) -> bool:
            return self._engine._head.get("user_allocation", False)

        def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
            return self._fail("Profile 0 has been chosen by another IExecutionContext.")

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            least, most = self._engine._head["batch"]
            batch, *sides = self._engine.get_tensor_shape(name)
            fits = least <= shape[0] <= most and batch in (-1, shape[0]) and list(shape[1:]) == sides
            if trt.failing == "shape" or self._profile != 0 or not fits:
                return self._fail(f"Set dimensions {list(shape)} for tensor {name} are out of range")
            self._shape = tuple(shape)
            return True

        def set_tensor_address(self, name: str, address: int) -> bool:
            self._addresses[name] = address
            return True

        def infer_shapes(self) -> list[str]:
            return [] if self._shape else [self._engine.get_tensor_name(0)]

        def execute_async_v3(self, stream: int) -> bool:
            capturing = trt.cuda.stream_of(stream).captured is not None
            if self._scratch is None or self._scratch[1] < SCRATCH:
                return self._fail("The context has no device memory")
            if capturing and label.startswith("rtx") and not self.is_stream_capturable(stream):
                return self._fail("stream is in capturing mode, but this TRT engine is not stream capturable")
            if trt.users.setdefault(trt.cuda.buffer_at(self._scratch[0]), stream) != stream:
                return self._fail("device memory is in use by a context of another stream")
            if trt.failing == "run" or (capturing and (trt.failing == "capture" or self._shape not in self._warm)):
                return self._fail(
                    "Cuda Runtime (operation not permitted when stream is capturing)"
                    if capturing
                    else "Cuda Runtime (launch failed)"
                )
            session, tensors = self._engine._session, self._engine._tensors
            shape, addresses, scratch = self._shape, dict(self._addresses), self._scratch

            def work() -> None:
                trt.cuda.check_device(*scratch)
                run(session, tensors, shape, addresses)

            try:
                trt.cuda.enqueue(stream, work, batch=shape[0])
            except CudaError as error:
                traceback.clear_frames(error.__traceback__)
                return self._fail(str(error))
            self._warm.add(shape)
            trt.contexts.append(shape)
            if self._runtime_config is not None:
                self._runtime_config._cache._kernels.add(shape)
            return True

        def _fail(self, reason: str) -> bool:
            self._engine._logger.log(trt.ILogger.Severity.ERROR, reason)
            return False

    class IRuntimeConfig(Strict):
        dynamic_shapes_kernel_specialization_strategy = cuda_graph_strategy = _strategy = None

        def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
            self._strategy = strategy

        def create_runtime_cache(self) -> Any:
            return IRuntimeCache()

        def set_runtime_cache(self, cache: Any) -> bool:
            self._cache = cache
            return True

    class IRuntimeCache(Strict):
        def __init__(self) -> None:
            self._kernels: set[tuple[int, ...]] = set()

        def serialize(self) -> bytes:
            return b"compiled" + json.dumps(sorted(self._kernels)).encode()

        def deserialize(self, content: bytes) -> bool:
            if not content.startswith(b"compiled"):
                return False
            self._kernels = set(map(tuple, json.loads(content.removeprefix(b"compiled"))))
            trt.calls.append(("IRuntimeCache.deserialize", self._kernels))
            return True

    def run(
        session: onnxruntime.InferenceSession, tensors: dict, shape: tuple[int, ...], addresses: dict[str, int]
    ) -> None:
        (given, given_type), *results = tensors.values()
        crops = array_at(trt.cuda, addresses[given.name], shape, DTYPES[given_type])
        wanted = np.float16 if given.type == "tensor(float16)" else np.float32
        outputs = session.run([result.name for result, _ in results], {given.name: crops.astype(wanted)})
        for (result, result_type), values in zip(results, outputs, strict=True):
            assert addresses[result.name] % ALIGNMENT == 0, f"TensorRT wants {result.name} at 256 bytes"
            array_at(trt.cuda, addresses[result.name], values.shape, DTYPES[result_type])[:] = values

    for cls in (Runtime, ICudaEngine, IExecutionContext, IRuntimeConfig, IRuntimeCache):
        if cls.__name__ in names:
            setattr(trt, cls.__name__, cls)
    return trt


def read_plan(plan: bytes) -> tuple[dict[str, Any] | None, str]:
    if not (plan.startswith(MAGIC) and plan.endswith(b"end")):
        return (
            None,
            "Error Code 1: Serialization (Serialization assertion stdArchiveReader failed. "
            "Plan file is truncated or damaged.)",
        )
    return json.loads(plan.removeprefix(MAGIC).partition(b"\n")[0]), ""


def array_at(cuda: FakeCuda, address: int, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    cuda.check_device(address, nbytes)
    return np.frombuffer((ctypes.c_uint8 * nbytes).from_address(address), dtype).reshape(shape)
