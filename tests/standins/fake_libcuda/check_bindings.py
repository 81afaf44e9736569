"""The bindings over the stand-in for the driver.

`tests/runtime/cuda/test_open_cuda.py` runs this file in a process of its own, since a process has one libcuda.so.1.
FACEMESH_BINDING names the binding, FACEMESH_LIBCUDA the compiled stand-in.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

pytest.register_assert_rewrite("tests.contracts.cuda_contract")
from runtime import _native  # noqa: E402
from runtime.cuda.driver import find_device  # noqa: E402
from runtime.cuda.errors import CudaError  # noqa: E402
from runtime.cuda.open_cuda import open_cuda  # noqa: E402
from tests.contracts.cuda_contract import CudaContract  # noqa: E402

BINDING = os.environ["FACEMESH_BINDING"]
driver = ctypes.CDLL(os.environ["FACEMESH_LIBCUDA"], ctypes.RTLD_GLOBAL)  # from now on the libcuda.so.1 of this process
driver.fake_log.restype = ctypes.c_char_p
sys.setdlopenflags(os.RTLD_LAZY)  # PyCUDA names more of the driver's functions than are called
OUT_OF_MEMORY, DEVICE_UNAVAILABLE, NO_DEVICE, LAUNCH_FAILED, DRIVER_MISMATCH = 2, 46, 100, 719, 803


class Graph:
    def __init__(self, handle: int) -> None:
        self._handle = handle

    def launch(self, stream: int) -> None:
        ask("cuGraphLaunch", self._handle, stream)

    def close(self) -> None:
        driver.cuGraphDestroy(ctypes.c_void_p(self._handle))


def ask(call: str, handle: int, *arguments: object) -> None:
    """As the native module does: RuntimeError with the name that the runtime API has for the status."""
    if getattr(driver, call)(ctypes.c_void_p(handle), *map(ctypes.c_void_p, arguments)) != 0:
        raise RuntimeError(f"{call}: cudaErrorLaunchFailure: unspecified launch failure")


def end_capture(stream: int) -> Graph:
    graph = ctypes.c_void_p()
    ask("cuStreamEndCapture", stream, ctypes.addressof(graph))
    return Graph(graph.value)


def crop(*arguments: object) -> None:
    ask("cuGraphLaunch", 0, 0)


@pytest.fixture(autouse=True)
def native(monkeypatch):
    """In place of the native module's part that needs a device."""
    module = SimpleNamespace(
        check_device=lambda: None, crop=crop, decode=crop, decode_coefficients=crop, end_capture=end_capture
    )
    module.begin_capture = lambda stream: ask("cuStreamBeginCapture_v2", stream, 0)
    monkeypatch.setattr(_native, "has_cuda", True, raising=False)
    monkeypatch.setattr(_native, "cuda", module, raising=False)
    return module


@pytest.fixture(autouse=True)
def nothing_survives():
    driver.fake_heal()
    yield
    assert driver.fake_live() == 0


@pytest.fixture
def cuda(nothing_survives):
    with open_cuda(BINDING) as cuda:
        yield cuda


def fail(call: str, status: int, nth: int = 1) -> None:
    driver.fake_fail(call.encode(), nth, status)


def calls() -> list[str]:
    return driver.fake_log().decode().splitlines()


class TestContract(CudaContract):
    pass


def test_the_binding_is_the_one_asked_for(cuda):
    library = {"pycuda": "pycuda.driver", "cuda-python": "cuda.bindings.driver"}
    assert library[BINDING] in sys.modules
    assert not {*library.values()} - {library[BINDING]} & {*sys.modules}


def test_the_device_is_the_one_that_engines_are_checked_against(cuda):
    device = find_device()
    assert (device.name, device.compute_capability, device.integrated) == ("Stand-in", "8.7", True)
    assert (cuda.name, cuda.compute_capability, cuda.integrated) == ("Stand-in", "8.7", True)


def test_flags(cuda):
    """Non-blocking streams, page-locked memory mapped on demand, events that time or block on demand."""
    driver.fake_heal()
    (
        cuda.stream(),
        cuda.event(),
        cuda.event(blocking=True),
        cuda.event(timing=True),
        cuda.host_buffer(8),
        cuda.host_buffer(9, mapped=True),
    )
    made = [call for call in calls() if "GetDevicePointer" not in call]
    assert made == [
        "cuStreamCreate 1",
        "cuEventCreate 2",
        "cuEventCreate 3",
        "cuEventCreate 0",
        "cuMemHostAlloc 8 0",
        "cuMemHostAlloc 9 2",
    ]


def test_one_driver_call_each(cuda):
    """Every operation of a frame costs the driver's calls and no more."""
    with cuda.stream() as stream, cuda.event() as event, cuda.capture(stream, lambda: None) as graph:
        driver.fake_heal()
        graph.launch(stream)
        event.record(stream)
        event.synchronize()
        assert calls() == ["cuGraphLaunch", "cuEventRecord", "cuEventSynchronize"]


def use_everything() -> None:
    with open_cuda(BINDING) as cuda:  # which closes the rest
        stream, start, end = cuda.stream(), cuda.event(timing=True), cuda.event(timing=True)
        host, device = cuda.host_buffer(64, mapped=True), cuda.device_buffer(64)
        start.record(stream)
        cuda.upload(device.pointer, host.pointer, 64, stream)
        cuda.download(host.pointer, device.pointer, 64, stream)
        end.record(stream)
        end.done()
        end.synchronize()
        stream.synchronize()
        end.elapsed_ms(start)
        cuda.memory_info()
        graph = cuda.capture(stream, lambda: cuda.upload(device.pointer, host.pointer, 64, stream))
        graph.launch(stream)


CALLS = [
    *(
        "cuInit",
        "cuDeviceGet",
        "cuDeviceGetName",
        "cuDeviceGetAttribute",
        "cuDevicePrimaryCtxRetain",
        "cuCtxPushCurrent",
        "cuStreamCreate",
    ),
    *(
        "cuEventCreate",
        "cuMemHostAlloc",
        "cuMemHostGetDevicePointer",
        "cuMemAlloc",
        "cuEventRecord",
        "cuMemcpyHtoDAsync",
        "cuMemcpyDtoHAsync",
    ),
    *(
        "cuEventQuery",
        "cuEventSynchronize",
        "cuStreamSynchronize",
        "cuEventElapsedTime",
        "cuMemGetInfo",
        "cuStreamBeginCapture",
    ),
    *("cuStreamEndCapture", "cuGraphLaunch"),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED: the device is lost to this process; start it again"),
        (DEVICE_UNAVAILABLE, "CUDA_ERROR_DEVICE_UNAVAILABLE: another process holds the device"),
    ],
)
def test_device_lost_in_any_call(call, status, meaning):
    """The call that met it raises, later ones while closing are silent, and all is released."""
    fail(call, status)
    if call.startswith(("cuGraph", "cuStreamBegin", "cuStreamEnd")):  # made by the native module
        meaning = "CUDA_ERROR_LAUNCH_FAILED: the device is lost"
    with pytest.raises(CudaError, match=rf"^{call}\w* failed with {meaning}[^\n]*$") as caught:
        use_everything()
    assert caught.value.lost


@pytest.mark.parametrize("call", ["cuStreamDestroy", "cuEventDestroy", "cuMemFreeHost", "cuMemFree"])
def test_device_lost_while_closing(call):
    """Nobody is left to tell: every frame was waited for."""
    cuda = open_cuda(BINDING)
    resources = [cuda.stream(), cuda.event(), cuda.host_buffer(8), cuda.device_buffer(8)]
    fail(call, LAUNCH_FAILED)
    for resource in resources:
        resource.close()
    cuda.close()


@pytest.mark.parametrize(
    "call", ["cuDevicePrimaryCtxRetain", "cuStreamCreate", "cuEventCreate", "cuMemHostAlloc", "cuMemAlloc"]
)
def test_out_of_memory(call):
    fail(call, OUT_OF_MEMORY)
    with pytest.raises(
        CudaError, match=f"^{call} failed with CUDA_ERROR_OUT_OF_MEMORY: the GPU's memory is full"
    ) as caught:
        use_everything()
    assert not caught.value.lost


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (NO_DEVICE, "cuInit failed with CUDA_ERROR_NO_DEVICE: no CUDA device can be seen; check nvidia-smi"),
        (
            DRIVER_MISMATCH,
            "cuInit failed with CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: the NVIDIA driver does not fit this CUDA software; ",
        ),
        (34, "cuInit failed with CUDA_ERROR_STUB_LIBRARY: the libcuda.so.1 found is the stub"),
        (77, "cuInit failed with status 77"),
    ],
)
def test_no_usable_driver(status, line):
    fail("cuInit", status)
    with pytest.raises(CudaError, match=rf"^{line}[^\n]*$"):
        open_cuda(BINDING)
    assert find_device() is None


def test_status_that_only_the_driver_explains(cuda):
    with pytest.raises(CudaError, match=r"^cuMemcpyHtoDAsync failed with CUDA_ERROR_INVALID_VALUE: invalid argument$"):
        cuda.upload(0x1000, cuda.host_buffer(8).pointer, 8, cuda.stream())


@pytest.mark.parametrize(
    "answer",
    [
        "cudaErrorNoKernelImageForDevice: no kernel image is available for execution on the device",
        "cudaErrorInvalidDeviceFunction: x",
    ],
)
def test_kernels_that_do_not_fit_the_device(native, answer):
    def unfit() -> None:
        raise RuntimeError(f"check_device: {answer}")

    native.check_device = unfit
    with pytest.warns(
        UserWarning,
        match=r"^crop and decode run on the CPU: check_device failed with CUDA_ERROR_NO_BINARY_FOR_GPU: there are no",
    ):
        cuda = open_cuda(BINDING)
    with cuda:
        assert cuda.kernels is None
        with pytest.raises(CudaError, match=r"^capture failed: runtime\._native has no CUDA kernels"):
            cuda.capture(cuda.stream(), lambda: None)


def test_device_lost_in_a_kernel(cuda):
    fail("cuGraphLaunch", LAUNCH_FAILED)
    with pytest.raises(CudaError, match="the device is lost"):
        cuda.kernels.crop()


def test_device_lost_while_loading_the_kernels(native):
    native.check_device = crop
    fail("cuGraphLaunch", LAUNCH_FAILED)
    with pytest.raises(CudaError, match="cuGraphLaunch failed with CUDA_ERROR_LAUNCH_FAILED"):
        open_cuda(BINDING)


def test_native_module_without_cuda(monkeypatch):
    monkeypatch.setattr(_native, "has_cuda", False)
    with open_cuda(BINDING) as cuda:
        assert cuda.kernels is None


def test_other_thread(cuda):
    caught = []

    def use() -> None:
        with pytest.raises(
            CudaError, match=r"failed with CUDA_ERROR_INVALID_CONTEXT: CUDA was used after close\(\), in another thread"
        ):
            cuda.device_buffer(8)
        caught.append(True)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert caught


def test_context_stack_after_closing():
    before = driver.fake_depth()
    open_cuda(BINDING).close()
    assert driver.fake_depth() == before + (BINDING == "pycuda")  # PyCUDA leaves the released context on it


def test_process_that_never_closes():
    """Ends as if it had."""
    script = f"""
import ctypes, os, sys
sys.setdlopenflags(os.RTLD_LAZY)
ctypes.CDLL({os.environ["FACEMESH_LIBCUDA"]!r}, ctypes.RTLD_GLOBAL)
from runtime import _native
from runtime.cuda.open_cuda import open_cuda
_native.has_cuda = False
cuda = open_cuda({BINDING!r})
cuda.host_buffer(8), cuda.stream(), cuda.event()
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
