"""ONNX Runtime's providers for GPUs, on stand-ins for its other packages."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from runtime.errors import FaceMeshError
from runtime.inference.onnx_providers import PLUGIN, PROVIDERS
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import SHIPPED_MODEL
from runtime.run import main

RTX = PROVIDERS["nv-tensorrt-rtx"].name


class StandInSession:
    """A session on the CPU that says that its providers are ``claimed``, or the ones that were asked for."""

    claimed: list[str] | None = None
    opened: list[dict]

    def __init__(self, path, options, providers=None, provider_options=None, **more):
        self._session = REAL(path, options, providers=["CPUExecutionProvider"])
        self._providers = self.claimed or providers or [RTX, "CPUExecutionProvider"]
        StandInSession.opened.append({"providers": providers, "settings": (provider_options or [None])[0], **more})

    def get_providers(self):
        return self._providers

    def __getattr__(self, name):
        return getattr(self._session, name)


REAL = onnxruntime.InferenceSession


@pytest.fixture
def gpu_package(monkeypatch):
    """``gpu_package("CUDAExecutionProvider", …)``: an ONNX Runtime with these providers; returns what is opened."""

    def install(*names, claimed=None):
        StandInSession.opened = []
        monkeypatch.setattr(StandInSession, "claimed", claimed)
        monkeypatch.setattr(onnxruntime, "InferenceSession", StandInSession)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*names, "CPUExecutionProvider"])
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
        return StandInSession.opened

    return install


@pytest.fixture
def plugin(monkeypatch):
    """``plugin(devices)``: a plug-in of TensorRT-RTX with so many devices; returns the libraries registered."""

    def install(count):
        module = ModuleType(PLUGIN)
        module.get_ep_name = lambda: "nv_tensorrt_rtx"
        module.get_library_path = lambda: "/plugin.so"
        monkeypatch.setitem(sys.modules, PLUGIN, module)
        registered = []

        def register(name, library):
            registered.append((name, library))

        devices = [SimpleNamespace(ep_name="nv_tensorrt_rtx")] * count
        monkeypatch.setattr(onnxruntime, "register_execution_provider_library", register)
        monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: devices if registered else [])
        return registered

    return install


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_provider_gives_the_same_as_the_cpu(gpu_package, live_model, name, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with open_runner(live_model, max_batch=4) as runner:
        runner.input[:] = np.linspace(-1, 1, 4)[:, None, None, None]
        expected = runner.infer(4).copy()
    opened = gpu_package(PROVIDERS[name].name)
    with open_runner(live_model, max_batch=4, provider=name) as runner:
        runner.input[:] = np.linspace(-1, 1, 4)[:, None, None, None]
        np.testing.assert_array_equal(runner.infer(4), expected)
        given = runner.spec.input
    assert len(opened) == 1  # never opened again for more cores
    assert opened[0]["providers"] == [PROVIDERS[name].name, "CPUExecutionProvider"]
    assert opened[0]["enable_fallback"] is False
    if name == "tensorrt":
        settings = opened[0]["settings"]
        sides = "x".join(map(str, given.shape))
        assert settings["trt_profile_min_shapes"] == f"{given.name}:1x{sides}"
        assert settings["trt_profile_max_shapes"] == f"{given.name}:4x{sides}"
        assert settings["trt_engine_cache_path"].startswith(str(tmp_path))


def test_the_shipped_model_is_fp16_there(gpu_package):
    gpu_package("CUDAExecutionProvider")
    with open_runner(provider="cuda", max_batch=1) as runner:
        assert runner.spec.precision == "fp16"


def test_the_plug_in_is_registered_once_and_given_its_device(gpu_package, plugin, live_model, monkeypatch):
    opened, registered = gpu_package(), plugin(2)
    given = []

    def add(_, devices, settings):
        given.append((devices, settings))

    monkeypatch.setattr(onnxruntime.SessionOptions, "add_provider_for_devices", add)
    for _ in range(2):
        open_runner(live_model, provider="nv-tensorrt-rtx").close()
    assert registered == [("nv_tensorrt_rtx", "/plugin.so")]
    assert len(opened) == len(given) == 2
    devices, settings = given[0]
    assert len(devices) == 1
    assert settings["nv_profile_max_shapes"].count(":8x") == 1


@pytest.mark.parametrize(
    ("names", "claimed", "provider", "message"),
    [
        ([], None, "cuda", "comes without it; pip uninstall onnxruntime, pip install onnxruntime-gpu"),
        ([], None, "tensorrt", "comes without it; pip uninstall onnxruntime"),
        ([], None, "nv-tensorrt-rtx", f"{PLUGIN} is not installed; pip install 'onnxruntime>=1.24'"),
        (["CUDAExecutionProvider"], ["CPUExecutionProvider"], "cuda", "given up by ONNX Runtime for CPUExecutionProv"),
        ([], None, "rocm", "no provider 'rocm'; choose from cuda, tensorrt, nv-tensorrt-rtx"),
    ],
)
def test_a_missing_provider_is_one_line(gpu_package, names, claimed, provider, message, monkeypatch):
    gpu_package(*names, claimed=claimed)
    monkeypatch.setitem(sys.modules, PLUGIN, None)
    with pytest.raises(FaceMeshError, match=r".") as caught:
        open_runner(SHIPPED_MODEL, provider=provider)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plug_in_without_a_device_is_one_line(gpu_package, plugin):
    gpu_package()
    plugin(0)
    with pytest.raises(FaceMeshError, match="finds no device; it needs an NVIDIA driver"):
        open_runner(SHIPPED_MODEL, provider="nv-tensorrt-rtx")


def test_a_plug_in_without_a_driver_is_one_line(gpu_package, plugin, monkeypatch):
    """On a machine without an NVIDIA driver the plug-in's library cannot be loaded at all."""
    gpu_package()
    plugin(0)

    def register(name, library):
        raise RuntimeError("Failed to load library: libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", register)
    with pytest.raises(FaceMeshError, match=r"cannot be loaded \(.*libcuda.*\); it needs an NVIDIA driver"):
        open_runner(SHIPPED_MODEL, provider="nv-tensorrt-rtx")


def test_the_command_tells_of_a_missing_provider(repository, tmp_path, capfd):
    picture = str(repository / "runtime" / "assets" / "astronaut.jpg")
    assert main(["--source", picture, "--output", str(tmp_path / "out"), "--provider", "cuda"]) == 1
    err = capfd.readouterr().err
    assert "no provider cuda here" in err
    assert err.count("\n") == 1


def test_an_engine_takes_no_provider(tmp_path):
    engine = tmp_path / "face.engine"
    engine.write_bytes(b"plan")
    with pytest.raises(FaceMeshError, match=r"this is an engine.*leave --provider out"):
        open_runner(engine, provider="cuda")
