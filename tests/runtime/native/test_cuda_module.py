"""What the native module does besides computing: arguments it refuses, the devices it is built for, and graphs on a
real GPU."""

from __future__ import annotations

import os
import re
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
from runtime.models.shipped import KERNELS_PTX
from tests.programs.kernel_memory import real_device
from tests.programs.kernel_ptx import compiled, find_nvcc, sources_sha256

CAPTURED = {"capture_output": True, "text": True, "check": True}
CROP = {
    "frame": 4096,
    "height": 8,
    "width": 8,
    "row_stride": 24,
    "matrices": 4096,
    "n": 1,
    "out": 4096,
    "out_height": 8,
    "out_width": 8,
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
DECODE |= {"resolution": 8, "out": 4096, "not_finite": 4096, "stream": 0}
FACE_ROWS = {"stride_8": 4096, "stride_16": 4096, "stride_32": 4096, "half": False, "height": 32, "width": 64}
FACE_ROWS |= {"threshold": 0.6, "most": 5, "out": 4096, "stream": 0}
KERNELS = {"crop": CROP, "decode": DECODE, "face_rows": FACE_ROWS}


@pytest.mark.parametrize(
    ("kernel", "change", "message"),
    [
        *(("crop", {name: 0}, f"{name} is a null pointer") for name in ("frame", "matrices", "out")),
        *(
            ("decode", {name: 0}, f"{name} is a null pointer")
            for name in ("map", "matrices", "indices", "out", "not_finite")
        ),
        *(
            ("crop", {name: value}, f"{name} must be 1..")
            for name in ("height", "width", "n", "out_height", "out_width")
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
        ("crop", {"view": 4, "frame": 0}, "view must lie on a 8-byte boundary"),
        *(("crop", {"row_stride": value}, "row_stride must be at least") for value in (23, 0, -24)),
        ("crop", {"row_stride": 2**28}, "smaller than 2 GiB"),
        ("crop", {"low": float("nan")}, "low must be finite"),
        ("crop", {"high": float("inf")}, "high must be finite"),
        ("decode", {"scale": float("nan")}, "scale must be finite"),
        *(
            ("face_rows", {name: 0}, f"{name} is a null pointer")
            for name in ("stride_8", "stride_16", "stride_32", "out")
        ),
        *(("face_rows", {name: 0}, f"{name} must be 1..") for name in ("height", "width", "most")),
        *(("face_rows", {name: 48}, "must be multiples of 32") for name in ("height", "width")),
        *(("face_rows", change, "byte boundary") for change in ({"stride_16": 4098}, {"out": 4098})),
        ("face_rows", {"threshold": float("nan")}, "threshold must be finite"),
    ],
)
def test_impossible_arguments_are_refused(kernel, change, message):
    """By the same code for the host twins and the device."""
    with pytest.raises(ValueError, match=message):
        getattr(_native.host_kernels, kernel)(**KERNELS[kernel] | change)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 4096, 8, 8, 24), "out is a null pointer"),
        ((4096, 0, 8, 8, 24), "frame is a null pointer"),
        ((4096, 4097, 8, 8, 24), "4-byte boundary"),
        ((4096, 4096, 0, 8, 24), "height must be 1.."),
        ((4096, 4096, 8, 8, 23), "row_stride must be at least"),
        ((4096, 4096, 8, 8, 2**28), "smaller than 2 GiB"),
    ],
)
def test_impossible_frames_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        _native.pack_frame_view(*numbers)


def test_ptx_is_that_of_the_sources():
    """Installations without a CUDA compiler have no other kernels; `python -m tests.programs.kernel_ptx` makes it."""
    text = KERNELS_PTX.read_text()
    assert text.startswith(f"// sources {sources_sha256()}\n"), "run python -m tests.programs.kernel_ptx"
    assert ".version 6.3\n.target sm_75\n" in text
    assert sorted(re.findall(r"\.entry (\w+)", text)) == [
        "facemesh_crop",
        "facemesh_decode",
        "facemesh_decode_coefficients",
        "facemesh_face_rows",
    ]


@pytest.mark.slow
def test_ptx_is_what_the_compiler_makes_of_the_sources():
    if find_nvcc() is None or "release 13.0" not in subprocess.run([find_nvcc(), "--version"], **CAPTURED).stdout:
        pytest.skip("needs nvcc 13.0, which made the file")
    assert KERNELS_PTX.read_text().partition("\n")[2] == compiled()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_importing_needs_no_driver():
    source = "from runtime import _native; print('libcuda' in open('/proc/self/maps').read())"
    assert (
        subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )


def test_without_a_driver_the_module_says_so():
    if find_device() is not None:
        pytest.skip("there is a GPU")
    from runtime.cuda.shared import kernel_images

    images = kernel_images()
    calls = [_native.driver.Context, _native.driver.Stream, lambda: _native.driver.begin_capture(0)]
    calls += [lambda: _native.KernelModule(images), _native.driver.memory_info, _native.driver.spin_while_waiting]
    for call in calls:
        with pytest.raises(CudaError, match=r"^loading libcuda\.so\.1 failed: install the NVIDIA driver"):
            call()


def test_kernels_are_built_for_all_devices_that_the_compiler_knows():
    nvcc = os.environ.get("CUDACXX") or shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    listing = nvcc and subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True)
    if not listing or listing.returncode != 0:
        pytest.skip("needs nvcc")
    if "CUDAARCHS" in os.environ:
        pytest.skip("CUDAARCHS says what to build for")
    wanted = [
        name for name in ("75", "86", "87", "89", "90", "110", "120") if f"compute_{name}" in listing.stdout.split()
    ]
    assert _native.has_cuda, f"{nvcc} works, but there is no machine code of the kernels: install again"
    assert _native.cuda_architectures.split() == [
        *(f"{name}-real" for name in wanted),
        f"{wanted[0]}-virtual",
        f"{wanted[-1]}-virtual",
    ]
    cuobjdump = shutil.which("cuobjdump") or shutil.which("cuobjdump", path=Path(nvcc).resolve().parent)
    if cuobjdump is not None:
        fatbin = Path(_native.__file__).with_name("kernels.fatbin")
        objects = subprocess.run([cuobjdump, "--list-elf", fatbin], capture_output=True, text=True, check=True).stdout
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
                at = {"map": 0, "matrices": 64, "indices": 112, "out": 128, "not_finite": 140}
                arguments = DECODE | {name: device.pointer + offset for name, offset in at.items()}
                cuda.kernels.decode(**arguments | {"map_size": 1, "resolution": 1, "count": 1, "stream": stream.handle})
                cuda.download(host.pointer + 128, device.pointer + 128, 12, stream)

            yield numbers[2:3], enqueue, numbers[34:35]

    def test_a_graph_does_again_what_was_captured(self, stream, decode_once):
        z, enqueue, result = decode_once
        _native.driver.begin_capture(stream.handle)
        z[:] = 3
        enqueue()
        graph = _native.driver.Graph(stream.handle)
        stream.synchronize()
        assert result == 0  # recorded, not done
        for value in (5, 7):
            z[:] = value
            graph.launch(stream.handle)
            stream.synchronize()
            assert result == value
        graph.close()
        graph.close()
        with pytest.raises(CudaError, match="the graph is closed"):
            graph.launch(stream.handle)

    def test_after_a_failed_capture_the_stream_works(self, stream, decode_once):
        z, enqueue, result = decode_once
        _native.driver.begin_capture(stream.handle)
        enqueue()
        with pytest.raises(CudaError, match="CAPTURE"):
            stream.synchronize()  # what a capture forbids
        with pytest.raises(CudaError, match="cuStreamEndCapture failed with CUDA_ERROR_STREAM_CAPTURE"):
            _native.driver.Graph(stream.handle)
        z[:] = 9
        enqueue()
        stream.synchronize()
        assert result == 9

    def test_misuse_is_refused(self, stream):
        with pytest.raises(CudaError, match="cuStreamBeginCapture failed"):
            _native.driver.begin_capture(0)  # the default stream
        with pytest.raises(CudaError, match="cuStreamEndCapture failed"):
            _native.driver.Graph(stream.handle)
        _native.driver.begin_capture(stream.handle)
        with pytest.raises(CudaError, match="cuStreamBeginCapture failed"):
            _native.driver.begin_capture(stream.handle)
        with suppress(CudaError):  # whether that spoilt the capture is up to the driver
            _native.driver.Graph(stream.handle).close()
        stream.synchronize()
