"""The bindings over the stand-in for the driver.

`tests/runtime/cuda/test_open_cuda.py` runs this file in a process of its own, since a process has one libcuda.so.1.
FACEMESH_BINDING names the binding, FACEMESH_LIBCUDA the compiled stand-in.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest

pytest.register_assert_rewrite("tests.contracts.cuda_contract")
from runtime import _native  # noqa: E402
from runtime.cuda import shared  # noqa: E402
from runtime.cuda.driver import find_device  # noqa: E402
from runtime.cuda.errors import CudaError  # noqa: E402
from runtime.cuda.open_cuda import open_cuda  # noqa: E402
from tests.contracts.cuda_contract import CudaContract  # noqa: E402

BINDING = os.environ["FACEMESH_BINDING"]
driver = ctypes.CDLL(os.environ["FACEMESH_LIBCUDA"], ctypes.RTLD_GLOBAL)  # from now on the libcuda.so.1 of this process
driver.fake_log.restype = ctypes.c_char_p
sys.setdlopenflags(os.RTLD_LAZY)  # PyCUDA names more of the driver's functions than are called
OUT_OF_MEMORY, DEVICE_UNAVAILABLE, NO_DEVICE, LAUNCH_FAILED, DRIVER_MISMATCH = 2, 46, 100, 719, 803
NO_BINARY, UNSUPPORTED_PTX, CONTEXT_ACTIVE = 209, 222, 708
RELEASES = re.compile(
    "Destroy|Free|Unload|Release|PopCurrent|PushCurrent 2"
)  # page-locked memory is freed in its context


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
    assert BINDING == "native" or library[BINDING] in sys.modules
    assert not {*library.values()} - {library.get(BINDING)} & {*sys.modules}


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


def test_a_graph_is_uploaded_when_it_is_made(cuda):
    with cuda.stream() as stream:
        driver.fake_heal()
        with cuda.capture(stream, lambda: None):
            made = ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphDestroy"]
            assert calls() == [*made, "cuGraphUpload"]


def test_no_garbage_is_collected_while_capturing(cuda):
    seen = []
    with cuda.stream() as stream:
        cuda.capture(stream, lambda: seen.append(gc.isenabled())).close()
        assert seen == [False]
        assert gc.isenabled()
        gc.disable()
        try:
            cuda.capture(stream, lambda: None).close()
            assert not gc.isenabled()
        finally:
            gc.enable()


@pytest.mark.parametrize("spin", [False, True])
def test_waits_spin_on_demand(spin):
    """The flag must be there before the context is made."""
    driver.fake_heal()
    open_cuda(BINDING, spin=spin).close()
    made = [call for call in calls() if call.startswith("cuDevicePrimaryCtx") and "Release" not in call]
    assert made[0] == ("cuDevicePrimaryCtxSetFlags 1" if spin else "cuDevicePrimaryCtxRetain")


def test_another_library_that_has_made_the_context_has_chosen():
    fail("cuDevicePrimaryCtxSetFlags", CONTEXT_ACTIVE)
    open_cuda(BINDING).close()


def test_page_locked_memory_outlives_its_device():
    """An array over freed memory would be a crash, not an error."""
    cuda = open_cuda(BINDING)
    host = cuda.host_buffer(4096)
    host.array[:] = 7
    part, pointer = host.array[100:200], host.pointer
    host.close()
    assert host.array.size == 0
    cuda.close()
    assert driver.fake_live() == 2 + 0, "the memory and the context it is in"
    assert (part == 7).all()
    assert part.ctypes.data == pointer + 100
    del part, host
    gc.collect()
    assert driver.fake_live() == 0


def test_kernels_run(cuda):
    """A frame of one colour, cropped as it is, its size read on the device; then the same by a graph."""
    frame, matrix = np.full((16, 16, 3), (0, 51, 255), np.uint8), np.eye(2, 3)
    with cuda.stream() as stream, cuda.host_buffer(1024) as host, cuda.device_buffer(2048) as device:
        host.array[:768], host.array[768:816] = frame.ravel(), matrix.view(np.uint8).ravel()
        _native.pack_frame_view(host.pointer + 816, device.pointer, 16, 16, 48)

        def enqueue() -> None:
            cuda.upload(device.pointer, host.pointer, 1024, stream)
            cuda.kernels.crop(
                view=device.pointer + 816, frame=0, height=0, width=0, row_stride=0, matrices=device.pointer + 768, n=1,
                out=device.pointer + 1024, out_height=8, out_width=8, channels_last=False, swap_colours=False, low=0.0,
                high=1.0, half=False, stream=stream.handle,
            )  # fmt: skip
            cuda.download(host.pointer, device.pointer + 1024, 768, stream)

        driver.fake_heal()
        graph = cuda.capture(stream, enqueue)
        assert "cuLaunchKernel facemesh_crop 1 1 256" in calls()
        for _ in range(2):
            host.array[:768] = frame.ravel()
            graph.launch(stream)
            stream.synchronize()
            found = host.array[:768].view(np.float32).reshape(3, 64)
            np.testing.assert_allclose(found.T, [(0, 0.2, 1)] * 64, atol=1e-6)
        graph.close()


def use_everything() -> None:
    with open_cuda(BINDING) as cuda:  # which closes the rest
        stream, start, end = cuda.stream(), cuda.event(timing=True), cuda.event(timing=True)
        host, device = cuda.host_buffer(64, mapped=True), cuda.device_buffer(64)
        start.record(stream)
        cuda.upload(device.pointer, host.pointer, 64, stream)
        cuda.download(host.pointer, device.pointer, 64, stream)
        end.record(stream)
        end.hold(stream)
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
        "cuStreamWaitEvent",
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
    *("cuStreamEndCapture", "cuGraphInstantiate", "cuGraphUpload", "cuGraphLaunch"),
    *("cuDevicePrimaryCtxSetFlags", "cuModuleLoadData", "cuModuleGetFunction"),
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
    with pytest.raises(CudaError, match=rf"^{call}\w* failed with {meaning}[^\n]*$") as caught:
        use_everything()
    assert caught.value.lost


def test_device_lost_in_every_call():
    """The n-th call of each name, for every n of a whole run; nobody is told of those that release something."""
    driver.fake_heal()
    use_everything()
    counts = Counter(line.split()[0] for line in calls())
    assert sum(counts.values()) > 50
    silent = set()
    for call, count in counts.items():
        for nth in range(1, count + 1):
            driver.fake_heal()
            fail(call, LAUNCH_FAILED, nth)
            with contextlib.suppress(CudaError):
                use_everything()
                silent.add(f"{call} {nth}")
            assert driver.fake_live() == 0, f"{call} {nth}"
    assert [entry for entry in silent if not RELEASES.search(entry)] == []


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


@pytest.mark.parametrize(("status", "name"), [(NO_BINARY, "NO_BINARY_FOR_GPU"), (UNSUPPORTED_PTX, "UNSUPPORTED_PTX_")])
def test_kernels_that_do_not_fit_the_device(status, name):
    fail("cuModuleLoadData", status)
    refused = rf"^crop and decode run on the CPU: cuModuleLoadData failed with CUDA_ERROR_{name}\w*: t"
    with pytest.warns(UserWarning, match=refused):
        cuda = open_cuda(BINDING)
    with cuda:
        assert cuda.kernels is None
        cuda.capture(cuda.stream(), lambda: None)


def test_ptx_serves_where_the_machine_code_does_not_fit(monkeypatch):
    images = shared.kernel_images()
    monkeypatch.setattr(shared, "kernel_images", lambda: [b"machine code of another device", images[-1]])
    with open_cuda(BINDING) as cuda:
        assert cuda.kernels is not None
    assert len([call for call in calls() if call == "cuModuleLoadData"]) == 2


def test_device_lost_in_a_kernel(cuda):
    fail("cuLaunchKernel", LAUNCH_FAILED)
    arguments = dict.fromkeys(["frame", "matrices", "out"], 4096) | dict.fromkeys(
        ["height", "width", "n", "out_height", "out_width"], 1
    )
    arguments |= dict.fromkeys(["channels_last", "swap_colours", "half"], False) | {"low": 0.0, "high": 1.0}
    with cuda.stream() as stream, pytest.raises(CudaError, match=r"^crop failed with CUDA_ERROR_LAUNCH_FAILED: "):
        cuda.kernels.crop(**arguments, row_stride=3, stream=stream.handle)


def test_other_thread(cuda):
    """It is told; through the native module it may make the context its own, and leave the memory to be freed there."""
    caught, stream = [], cuda.stream()

    def use() -> None:
        with pytest.raises(CudaError, match=r"CUDA_ERROR_INVALID_CONTEXT: CUDA was used after close\(\), after"):
            cuda.device_buffer(8)
        caught.append(True)
        if BINDING == "native":
            cuda.make_current()
            with cuda.device_buffer(256) as device, cuda.host_buffer(256) as host:
                cuda.upload(device.pointer, host.pointer, 256, stream)
                stream.synchronize()
            caught.append(True)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(caught) == 1 + (BINDING == "native")


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
from runtime.cuda.open_cuda import open_cuda
cuda = open_cuda({BINDING!r})
cuda.host_buffer(8), cuda.stream(), cuda.event()
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
