"""`runtime.cuda.open_cuda`: the contract over the stand-in of the tests, over all bindings on a stand-in for the
driver, and on real hardware."""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest

from runtime.compiled import native
from runtime.cuda.driver import Device, find_device
from runtime.cuda.errors import CudaError
from runtime.cuda.open_cuda import open_cuda
from runtime.errors import FaceMeshError
from tests.contracts.cuda_contract import CudaContract
from tests.standins.fake_cuda import GARBAGE, FakeCuda

LIBRARIES = {"native": "runtime", "pycuda": "pycuda", "cuda-python": "cuda.bindings"}


def installed(binding: str) -> bool:
    try:
        return importlib.util.find_spec(LIBRARIES[binding]) is not None
    except ModuleNotFoundError:
        return False


class TestFake(CudaContract):
    @pytest.fixture
    def cuda(self):
        with FakeCuda() as cuda:
            yield cuda


@pytest.mark.gpu
@pytest.mark.parametrize("binding", LIBRARIES)
class TestHardware(CudaContract):
    @pytest.fixture
    def cuda(self, binding):
        device = find_device()
        if device is None:
            pytest.skip("needs an NVIDIA GPU")
        if not installed(binding):
            pytest.skip(f"needs {binding}")
        with open_cuda(binding) as cuda:
            assert (cuda.name, cuda.compute_capability) == (device.name, device.compute_capability)
            yield cuda


@pytest.fixture(scope="session")
def libcuda(tmp_path_factory, repository: Path) -> Path:
    """The stand-in for the driver, compiled."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    library = tmp_path_factory.mktemp("libcuda") / "libcuda.so.1"
    source = repository / "tests" / "standins" / "fake_libcuda" / "libcuda.cpp"
    native = repository / "runtime" / "native"
    options = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
    options += [f"-I{native}", "-Wno-unknown-pragmas"]
    subprocess.run([compiler, *options, "-o", library, source, native / "gpu" / "host_kernels.cpp"], check=True)
    return library


@pytest.mark.parametrize("binding", ["native", pytest.param("pycuda", marks=pytest.mark.slow), "cuda-python"])
def test_binding_over_the_stand_in_driver(binding, libcuda, repository):
    if not installed(binding):
        pytest.skip("needs PyCUDA: make pycuda" if binding == "pycuda" else f"needs {binding}")
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/standins/fake_libcuda/check_bindings.py",
        ],
        cwd=repository,
        env={**os.environ, "FACEMESH_BINDING": binding, "FACEMESH_LIBCUDA": str(libcuda)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "skipped" not in run.stdout


def test_no_driver(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(
        CudaError,
        match=r"^loading libcuda\.so\.1 failed: install the NVIDIA driver; in a container, start that [^\n]*$",
    ):
        open_cuda()


def test_a_binding_that_is_not_there(monkeypatch):
    def unimportable(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("runtime.cuda.open_cuda.query_device", lambda: None)
    monkeypatch.setattr("runtime.cuda.open_cuda.import_module", unimportable)
    with pytest.raises(FaceMeshError, match=r"^the binding pycuda for CUDA cannot be imported \(.*\); pip"):
        open_cuda("pycuda")
    monkeypatch.setenv("FACEMESH_CUDA_BINDING", "cupy")
    with pytest.raises(FaceMeshError, match=r"^FACEMESH_CUDA_BINDING=cupy: no such binding for CUDA; take nat"):
        open_cuda()


def test_driver_without_a_function(monkeypatch):
    pytest.importorskip("cuda.bindings", reason="needs cuda-python")
    from cuda.bindings import driver

    def cuInit(flags):
        raise RuntimeError('Function "cuInit" not found')

    monkeypatch.setattr(driver, "cuInit", cuInit)
    monkeypatch.setattr("runtime.cuda.open_cuda.query_device", lambda: Device("Orin", "8.7"))
    monkeypatch.setattr(native, "driver", SimpleNamespace(Context=MagicMock(), spin_while_waiting=lambda: None))
    with pytest.raises(
        CudaError,
        match=r"^cuInit failed with CUDA_ERROR_NOT_FOUND: the NVIDIA driver does not fit this CUDA software; update",
    ):
        open_cuda("cuda-python")


@pytest.mark.parametrize(
    ("argument", "variable", "expected"),
    [
        (None, None, "native_binding"),
        (None, "pycuda", "pycuda_binding"),
        ("cuda-python", "pycuda", "cuda_python_binding"),
    ],
)
@pytest.mark.parametrize("spin", [False, True])
def test_which_binding_is_taken(monkeypatch, argument, variable, expected, spin):
    class Binding:
        def __init__(self, name):
            self.open_device = lambda device, spin: (name, device, spin)

    if variable:
        monkeypatch.setenv("FACEMESH_CUDA_BINDING", variable)
    monkeypatch.setattr("runtime.cuda.open_cuda.query_device", lambda: "device")
    monkeypatch.setattr(
        "runtime.cuda.open_cuda.import_module", lambda name: Binding(name.removeprefix("runtime.cuda."))
    )
    assert open_cuda(argument, spin=spin) == (expected, "device", spin)


# The stand-in itself: what tests of its users rely on.


@pytest.fixture
def fake():
    with FakeCuda() as fake:
        yield fake


def test_fake_does_nothing_before_a_wait(fake):
    with fake.stream() as stream, fake.host_buffer(4) as host, fake.device_buffer(4) as device:
        fake.download(host.pointer, device.pointer, 4, stream)
        host.array[:] = 0
        assert host.array.tolist() == [0] * 4
        stream.synchronize()
        assert host.array.tolist() == [GARBAGE] * 4


def test_fake_checks_every_address_when_it_is_used(fake):
    with (
        fake.stream() as stream,
        fake.host_buffer(8) as host,
        fake.device_buffer(8) as device,
        fake.host_buffer(8, mapped=True) as mapped,
    ):
        for arguments in [
            (device.pointer, host.pointer, 9),
            (device.pointer, device.pointer, 8),
            (host.pointer, mapped.pointer, 8),
        ]:
            fake.upload(*arguments, stream)
            with pytest.raises(AssertionError, match="not in an open buffer"):
                stream.synchronize()
        fake.upload(mapped.device_pointer, host.pointer, 8, stream)
        stream.synchronize()
        graph = fake.capture(stream, lambda: fake.upload(device.pointer, host.pointer, 8, stream))
        device.close()
        graph.launch(stream)
        with pytest.raises(AssertionError, match="not in an open buffer"):
            stream.synchronize()


def test_fake_fails_on_demand(fake):
    fake.fail("device_buffer", nth=2)
    fake.device_buffer(8)
    for _ in range(2):
        with pytest.raises(CudaError, match="device_buffer failed with CUDA_ERROR_OUT_OF_MEMORY"):
            fake.device_buffer(8)
    stream = fake.stream()
    fake.fail("synchronize", status="CUDA_ERROR_LAUNCH_FAILED")
    with pytest.raises(CudaError, match="synchronize failed with CUDA_ERROR_LAUNCH_FAILED"):
        stream.synchronize()
    with pytest.raises(CudaError, match="event failed with CUDA_ERROR_LAUNCH_FAILED"):
        fake.event()
    assert len(fake.live) == 2
    fake.close()
    assert not fake.live


def test_fake_logs(fake):
    with fake.stream() as stream, fake.event() as event:
        event.record(stream)
        event.synchronize()
    assert [call for call, _ in fake.log] == ["stream", "event", "record", "synchronize", "close", "close"]
    assert fake.calls("record") == [("record", {"stream": stream.handle})]


def test_fake_notices_other_threads(fake):
    statuses = []

    def use() -> None:
        try:
            fake.stream()
        except CudaError as error:
            statuses.append(error.status)
        fake.make_current()
        fake.stream()

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert statuses == ["CUDA_ERROR_INVALID_CONTEXT"]


def test_fake_runs_the_host_kernels(fake):
    """A frame of one colour, cropped as it is, in BGR planes of 0..1."""
    frame, numbers = np.full((16, 16, 3), (0, 51, 255), np.uint8), np.array([1, 0, 0, 0, 1, 0], np.float64)
    stream, host = fake.stream(), fake.host_buffer(768)
    image, matrix, out = fake.device_buffer(768), fake.host_buffer(48, mapped=True), fake.device_buffer(768)
    host.array[:], matrix.array[:] = frame.ravel(), numbers.view(np.uint8)

    def crop(height: int) -> None:
        fake.kernels.crop(
            frame=image.pointer,
            height=height,
            width=16,
            row_stride=48,
            matrices=matrix.device_pointer,
            n=1,
            out=out.pointer,
            out_height=8,
            out_width=8,
            channels_last=False,
            swap_colours=False,
            low=0.0,
            high=1.0,
            half=False,
            stream=stream.handle,
        )

    fake.upload(image.pointer, host.pointer, 768, stream)
    crop(16)
    fake.download(host.pointer, out.pointer, 768, stream)
    stream.synchronize()
    np.testing.assert_allclose(host.array.view(np.float32).reshape(3, 64).T, [(0, 0.2, 1)] * 64, atol=1e-6)
    crop(17)
    with pytest.raises(AssertionError, match=r"^816 bytes at \w+ are not in an open buffer"):
        stream.synchronize()


def test_fake_without_kernels():
    with FakeCuda(kernels=False) as fake:
        assert fake.kernels is None


def test_fake_notices_garbage_that_is_collected_while_capturing(fake):
    with fake.stream() as stream:
        fake.capture(stream, lambda: None).close()
        with pytest.raises(AssertionError, match="garbage was collected while a graph was captured"):
            fake.capture(stream, gc.collect)


def test_fake_notices_a_context_that_is_made_while_capturing(fake, live_model):
    """A library allocates for it, which a capture forbids."""
    from tests.standins import fake_engine

    trt = fake_engine.make("tensorrt-10.3", fake)
    messages = []
    logger = SimpleNamespace(log=lambda severity, text: messages.append(text))
    engine = trt.Runtime(logger).deserialize_cuda_engine(fake_engine.make_plan(live_model.read_bytes()))
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    with fake.stream() as stream:
        made = []
        fake.capture(stream, lambda: made.append(engine.create_execution_context(strategy))).close()
        assert made == [None]
        assert "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" in messages[0]
        assert engine.create_execution_context(strategy) is not None
