"""A loaded engine and its contexts: one API for TensorRT 8.6, 10 and 11, its lean runtime and TensorRT-RTX.

The library's own objects are held in attributes alone. A traceback would keep local variables alive beyond the device.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from runtime.cuda.errors import CudaError
from runtime.cuda.interface import DeviceBuffer, Stream
from runtime.errors import FaceMeshError
from runtime.inference.trt.engine_file import EngineFile
from runtime.inference.trt.messages import Messages, logger_for

E = TypeVar("E", bound="Engine")


class Engine:
    """An engine with the tensors of its spec, of either kind. It closes before the CUDA context that it needs."""

    def __init__(self, file: EngineFile) -> None:
        """Load the file. Raises `FaceMeshError` if the library refuses it or if it is not the network of the spec."""
        self.path = file.path
        self.spec = file.spec
        self._library = file.library
        self._messages = Messages()
        self._logger = logger_for(file.library, self._messages)
        self._contexts: list[Context] = []
        self._runtime: Any = None
        self._engine: Any = None
        self._rtx: Any = None  # of TensorRT-RTX: what its contexts share
        try:
            self._load(file)
            self._look_at_tensors()
        except BaseException:
            self.close()
            raise
        for text in self._messages.warnings():
            warnings.warn(f"{self.path}: {text}", RuntimeWarning, stacklevel=2)

    def context(
        self, batch: int, addresses: Mapping[str, int], stream: Stream, scratch: DeviceBuffer | None
    ) -> Context:
        """Make a context for ``batch`` inputs; ``addresses`` are of the device, by the names of all tensors.

        ``scratch`` has `scratch_nbytes` for the network's inner results. Contexts that share it must not run at the
        same time. Raises `FaceMeshError`.
        """
        self._messages.forget()
        self._contexts.append(Context(self, self._new_context()))
        try:
            self._contexts[-1].prepare(batch, addresses, stream, scratch)
        except BaseException:
            self._contexts.pop().close()
            raise
        if self._rtx is not None:
            self._rtx.save()
        return self._contexts[-1]

    def padded(self, n: int, most: int) -> int:
        """Return the batch size for ``n`` faces: the next of 1, 2, 3, 4, 6, 8, 12, 16 …, within the engine's limits.

        ``most`` is one, too. Five faces run as six: with powers of two alone every third network would run in vain.
        """
        smallest, largest = self.batches
        power = 1 << (n - 1).bit_length()
        return max(smallest, min(power * 3 // 4 if power > 2 and n <= power * 3 // 4 else power, most, largest))

    def failure(self, what: str) -> FaceMeshError:
        """Return the error of a failed step with the library's reasons."""
        return self._messages.failure(f"{self.path}: {self._library.__name__} {self._library.__version__} {what}")

    def run_failure(self) -> CudaError:
        return CudaError("execute_async_v3", "", f"{self.path}: {self._messages.reasons()}")

    def close(self) -> None:
        """Free the engine and its contexts; none may be at work."""
        for made in self._contexts:
            made.close()
        self._rtx = self._engine = self._runtime = None

    def __enter__(self: E) -> E:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self, file: EngineFile) -> None:
        trt = file.library
        try:
            self._runtime = trt.Runtime(self._logger)
        except (TypeError, RuntimeError) as error:  # pybind11: the factory gave nothing
            raise self.failure(f"does not start here ({error})") from None
        if file.host_code:
            self._runtime.engine_host_code_allowed = True
        if file.dla_core is not None:
            self._runtime.DLA_core = file.dla_core
        self._engine = self._runtime.deserialize_cuda_engine(file.data)
        if self._engine is None:
            raise self.failure(f"cannot load this engine, build it again here with '{file.command}'")
        if trt.__name__ == "tensorrt_rtx":
            from runtime.inference.trt.rtx_contexts import RtxContexts

            self._rtx = RtxContexts(trt, self._engine, file.path)
        self._shares = hasattr(trt, "ExecutionContextAllocationStrategy")  # 8.6 has other names for the same
        self.scratch_nbytes = self._engine.device_memory_size_v2 if self._shares else self._engine.device_memory_size

    def _new_context(self) -> Any:
        """Return a context of the library that is given its scratch memory, None if the library fails."""
        trt = self._library
        if self._rtx is not None:
            return self._rtx.create()
        if not self._shares:
            return self._engine.create_execution_context_without_device_memory()
        return self._engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)

    def _look_at_tensors(self) -> None:
        self.input_shape = self.spec.input.shape  # of one face or picture
        self._check_tensors()
        self.input_dtype = self._dtype(self.spec.input.name)
        self.output_dtypes = {name: self._dtype(name) for name in self.spec.outputs}
        self.input_nbytes = math.prod(self.input_shape) * self.input_dtype.itemsize
        self.dynamic, self.batches = self._batches()  # whether the batch is free; the smallest and the largest

    def _check_tensors(self) -> None:
        """Raise `FaceMeshError` unless input and outputs are the spec's."""
        trt = self._library
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        shapes: dict[str, tuple[int, ...]] = {self.spec.input.name: self.input_shape}
        wanted = {name: (trt.TensorIOMode.INPUT, shape) for name, shape in shapes.items()}
        wanted |= {name: (trt.TensorIOMode.OUTPUT, shape) for name, shape in self.spec.outputs.items()}
        fits = sorted(names) == sorted(wanted) and all(
            self._engine.get_tensor_mode(name) == mode
            and tuple(self._engine.get_tensor_shape(name))[1:] == shape
            and self._engine.get_tensor_dtype(name) in (trt.DataType.FLOAT, trt.DataType.HALF)
            and self._engine.get_tensor_vectorized_dim(name) == -1
            for name, (mode, shape) in wanted.items()
        )
        if not fits:
            found = ", ".join(
                f"{name} {self._engine.get_tensor_dtype(name).name} {list(self._engine.get_tensor_shape(name))}"
                for name in names
            )
            need = ", ".join(f"{name} {[-1, *shape]}" for name, (_, shape) in wanted.items())
            raise FaceMeshError(
                f"{self.path}: its spec wants {need}, FLOAT or HALF in plain order, "
                f"the engine has {found}; build it again"
            )

    def _dtype(self, name: str) -> np.dtype:
        trt = self._library
        return np.dtype(np.float16 if self._engine.get_tensor_dtype(name) == trt.DataType.HALF else np.float32)

    def _batches(self) -> tuple[bool, tuple[int, int]]:
        batch, *_ = self._engine.get_tensor_shape(self.spec.input.name)
        if batch != -1:
            return False, (batch, batch)
        smallest, _, largest = self._engine.get_tensor_profile_shape(self.spec.input.name, 0)
        return True, (smallest[0], largest[0])


class Context:
    """One size of batch at fixed addresses."""

    def __init__(self, owner: Engine, context: Any) -> None:
        self._owner = owner
        self._context = context

    def prepare(self, batch: int, addresses: Mapping[str, int], stream: Stream, scratch: DeviceBuffer | None) -> None:
        """Set sizes and addresses, once, and run once, because a library does a part of its work at the first run."""
        owner, spec = self._owner, self._owner.spec
        if self._context is None:
            raise owner.failure(f"makes no execution context for {batch} faces")
        self._scratch = scratch  # the library keeps its address alone
        if scratch is not None and owner._shares:
            self._context.set_device_memory(scratch.pointer, scratch.nbytes)
        elif scratch is not None:
            self._context.device_memory = scratch.pointer
        try:
            is_ready = (
                (not owner.dynamic or self._takes_profile(stream))
                and self._context.set_input_shape(spec.input.name, (batch, *owner.input_shape))
                and all(self._context.set_tensor_address(name, address) for name, address in addresses.items())
                and not self._context.infer_shapes()
            )
        except RuntimeError:
            is_ready = False
        if not is_ready:
            raise owner.failure(f"refuses to run {batch} faces")
        self.enqueue(stream)
        stream.synchronize()

    def _takes_profile(self, stream: Stream) -> bool:
        """Return False if another context holds the profile.

        TensorRT 8.6 shares profiles only if the engine was built with PROFILE_SHARING_0806.
        """
        return self._context.active_optimization_profile == 0 or self._context.set_optimization_profile_async(
            0, stream.handle
        )

    def why_not_capturable(self, stream: Stream) -> str:
        """Return the reason why a run on ``stream`` cannot be captured, "" if it can; TensorRT tells by failing."""
        if self._owner._rtx is None or self._context.is_stream_capturable(stream.handle):
            return ""
        return f"{self._owner.path}: this engine allocates while it runs; build it again with this version"

    def enqueue(self, stream: Stream) -> None:
        """Queue one run of the network. Raises `CudaError`."""
        if not self._context.execute_async_v3(stream.handle):
            raise self._owner.run_failure()

    def close(self) -> None:
        self._context = None
