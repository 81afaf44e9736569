"""The CUDA device is asked of the driver."""

from __future__ import annotations

import ctypes
import re
import subprocess

import pytest

from runtime.cuda import driver as device
from runtime.cuda.driver import Device, find_device, query_device
from runtime.cuda.errors import CudaError


class FakeDriver:
    """What `find_device` calls of ``libcuda``; the function in ``failing`` returns an error."""

    def __init__(self, failing: str = "") -> None:
        self._failing = failing

    def _done(self, call: str) -> int:
        return 100 if call == self._failing else 0

    def cuInit(self, flags):
        return self._done("cuInit")

    def cuDeviceGet(self, place, ordinal):
        place._obj.value = 0
        return self._done("cuDeviceGet")

    def cuDeviceGetName(self, buffer, size, handle):
        buffer.value = b"Orin"
        return self._done("cuDeviceGetName")

    def cuDeviceGetAttribute(self, place, attribute, handle):
        place._obj.value = {16: 8, 18: 1, 75: 8, 76: 7}[attribute]
        return self._done("cuDeviceGetAttribute")

    def cuGetErrorName(self, status, place):
        place._obj.value = {100: b"CUDA_ERROR_NO_DEVICE"}[status]
        return 0


def test_device_is_found(monkeypatch):
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: FakeDriver())
    assert find_device() == Device("Orin", "8.7", integrated=True, multiprocessors=8)


@pytest.mark.parametrize("failing", ["cuInit", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute"])
def test_driver_without_a_device(monkeypatch, failing):
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: FakeDriver(failing))
    assert find_device() is None
    with pytest.raises(
        CudaError, match=f"^{failing} failed with CUDA_ERROR_NO_DEVICE: no CUDA device can be seen; check nvidia-smi"
    ):
        query_device()


def test_machine_without_a_driver(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert find_device() is None


def told_by_nvidia_smi() -> tuple[str, str] | None:
    """Return name and compute capability of the first device; None without the program, or if it does not know."""
    query = ["nvidia-smi", "--id=0", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    name, _, capability = done.stdout.strip().partition(", ")
    return (name, capability) if re.fullmatch(r"\d+\.\d", capability) else None


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("NVIDIA H200, 9.0", ("NVIDIA H200", "9.0")),
        ("Orin (nvgpu), [N/A]", None),
        ("No devices were found", None),
        (None, None),
    ],
)
def test_nvidia_smi_of_a_jetson_is_not_taken_for_the_device(tmp_path, monkeypatch, said, told):
    if said is not None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\necho '{said}'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert told_by_nvidia_smi() == told


@pytest.mark.gpu
def test_this_machine():
    found = find_device()
    if found is None:
        pytest.skip("needs an NVIDIA GPU")
    assert re.fullmatch(r"\d+\.\d", found.compute_capability)
    assert found.multiprocessors > 0
    told = told_by_nvidia_smi()
    if told is not None and not found.integrated:  # a Jetson's nvidia-smi has names of its own
        assert (found.name, found.compute_capability) == told
