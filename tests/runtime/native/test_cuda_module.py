"""What the native module does besides computing: arguments it refuses, the devices it is built for, and graphs on a
real GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from runtime import _native
from runtime.cuda.driver import find_device
from runtime.cuda.errors import CudaError
from tests.programs.kernel_memory import real_device

CROP = {
    "frame": 4096,
    "height": 8,
    "width": 8,
    "row_stride": 24,
    "matrices": 4096,
    "n": 1,
    "out": 4096,
    "size": 8,
    "channels_last": False,
}
CROP |= {"swap_colours": False, "low": 0.0, "high": 1.0, "half": False, "stream": 0}
DECODE = {
    "map": 4096,
    "half": False,
    "map_size": 8,
    "channels_last": False,
    "scale": 1.0,
    "matrices": 4096,
    "n": 1,
    "indices": 4096,
    "count": 5,
}
DECODE |= {"resolution": 8, "out": 4096, "stream": 0}


@pytest.mark.parametrize("module", ["host_kernels", "cuda"])
@pytest.mark.parametrize(
    ("kernel", "change", "message"),
    [
        *(("crop", {name: 0}, f"{name} is a null pointer") for name in ("frame", "matrices", "out")),
        *(("decode", {name: 0}, f"{name} is a null pointer") for name in ("map", "matrices", "indices", "out")),
        *(
            ("crop", {name: value}, f"{name} must be 1..")
            for name in ("height", "width", "n", "size")
            for value in (0, -1, 2**30)
        ),
        *(
            ("decode", {name: value}, f"{name} must be 1..")
            for name in ("map_size", "n", "count", "resolution")
            for value in (0, -1, 2**30)
        ),
        *(
            ("crop", change, "byte boundary")
            for change in ({"frame": 4097}, {"matrices": 4100}, {"out": 4098}, {"out": 4097, "half": True})
        ),
        *(
            ("decode", change, "byte boundary")
            for change in ({"map": 4098}, {"map": 4097, "half": True}, {"indices": 4098}, {"out": 4098})
        ),
        *(("crop", {"row_stride": value}, "row_stride must be at least") for value in (23, 0, -24)),
        ("crop", {"row_stride": 2**28}, "smaller than 2 GiB"),
        ("crop", {"low": float("nan")}, "low must be finite"),
        ("crop", {"high": float("inf")}, "high must be finite"),
        ("decode", {"scale": float("nan")}, "scale must be finite"),
    ],
)
def test_impossible_arguments_are_refused(module, kernel, change, message):
    """Before anything is asked of a device, so that this holds without one."""
    if module == "cuda" and not _native.has_cuda:
        pytest.skip("runtime._native was built without CUDA kernels")
    with pytest.raises(ValueError, match=message):
        getattr(getattr(_native, module), kernel)(**(CROP if kernel == "crop" else DECODE) | change)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_importing_needs_no_driver():
    source = (
        "from runtime import _native; _native.host_kernels.check_device(); "
        "print('libcuda' in open('/proc/self/maps').read())"
    )
    assert (
        subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )


def test_without_a_driver_the_kernels_say_so():
    if not _native.has_cuda:
        pytest.skip("runtime._native was built without CUDA kernels")
    if find_device() is not None:
        pytest.skip("there is a GPU")
    calls = [_native.cuda.check_device, lambda: _native.cuda.begin_capture(0), lambda: _native.cuda.end_capture(0)]
    calls += [lambda: _native.cuda.crop(**CROP), lambda: _native.cuda.decode(**DECODE)]
    for call in calls:
        with pytest.raises(RuntimeError, match=r"^\w+: cudaError\w+: "):
            call()


def test_kernels_are_built_for_all_devices_that_the_compiler_knows():
    nvcc = os.environ.get("CUDACXX") or shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    listing = nvcc and subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True)
    if not listing or listing.returncode != 0:
        pytest.skip("needs nvcc")
    if "CUDAARCHS" in os.environ:
        pytest.skip("CUDAARCHS says what to build for")
    wanted = [
        name
        for name in ("72", "75", "86", "87", "89", "90", "110", "120")
        if f"compute_{name}" in listing.stdout.split()
    ]
    assert _native.has_cuda, f"{nvcc} works, but runtime._native was built without CUDA kernels: install again"
    assert _native.cuda.architectures.split() == [
        *(f"{name}-real" for name in wanted),
        f"{wanted[0]}-virtual",
        f"{wanted[-1]}-virtual",
    ]
    cuobjdump = shutil.which("cuobjdump") or shutil.which("cuobjdump", path=Path(nvcc).resolve().parent)
    if cuobjdump is not None:
        objects = subprocess.run(
            [cuobjdump, "--list-elf", _native.__file__], capture_output=True, text=True, check=True
        ).stdout
        assert all(f".sm_{name}.cubin" in objects for name in wanted), objects


@pytest.mark.gpu
class TestGraph:
    @pytest.fixture
    def cuda(self):
        with real_device() as cuda:
            yield cuda

    @pytest.fixture
    def stream(self, cuda):
        with cuda.stream() as stream:
            yield stream

    @pytest.fixture
    def decode_once(self, cuda, stream):
        """(the map's z as a writable number, enqueue, result): one point, upload to download."""
        with cuda.host_buffer(256) as host, cuda.device_buffer(256) as device:
            numbers = host.array.view(np.float32)
            numbers[:] = 0
            host.array[64:112].view(np.float64)[:] = np.eye(2, 3).ravel()

            def enqueue() -> None:
                cuda.upload(device.pointer, host.pointer, 128, stream)
                at = {"map": 0, "matrices": 64, "indices": 112, "out": 128}
                arguments = DECODE | {name: device.pointer + offset for name, offset in at.items()}
                _native.cuda.decode(**arguments | {"map_size": 1, "resolution": 1, "count": 1, "stream": stream.handle})
                cuda.download(host.pointer + 128, device.pointer + 128, 12, stream)

            yield numbers[2:3], enqueue, numbers[34:35]

    def test_a_graph_does_again_what_was_captured(self, stream, decode_once):
        z, enqueue, result = decode_once
        _native.cuda.begin_capture(stream.handle)
        z[:] = 3
        enqueue()
        graph = _native.cuda.end_capture(stream.handle)
        stream.synchronize()
        assert result == 0  # recorded, not done
        for value in (5, 7):
            z[:] = value
            graph.launch(stream.handle)
            stream.synchronize()
            assert result == value
        graph.close()
        graph.close()
        with pytest.raises(RuntimeError, match="launch: the graph is closed"):
            graph.launch(stream.handle)

    def test_after_a_failed_capture_the_stream_works(self, stream, decode_once):
        z, enqueue, result = decode_once
        _native.cuda.begin_capture(stream.handle)
        enqueue()
        with pytest.raises(CudaError, match="CAPTURE"):
            stream.synchronize()  # what a capture forbids
        with pytest.raises(RuntimeError, match="end_capture: cudaErrorStreamCapture"):
            _native.cuda.end_capture(stream.handle)
        z[:] = 9
        enqueue()
        stream.synchronize()
        assert result == 9

    def test_misuse_is_refused(self, stream):
        with pytest.raises(RuntimeError, match="begin_capture: cudaError"):
            _native.cuda.begin_capture(0)  # the default stream
        with pytest.raises(RuntimeError, match="end_capture: cudaError"):
            _native.cuda.end_capture(stream.handle)
        _native.cuda.begin_capture(stream.handle)
        with pytest.raises(RuntimeError, match="begin_capture: cudaError"):
            _native.cuda.begin_capture(stream.handle)
        with suppress(RuntimeError):  # whether that spoilt the capture is up to the driver
            _native.cuda.end_capture(stream.handle).close()
        stream.synchronize()
