"""Fixtures for all tests."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.families.position_map import PositionMapOutput
from runtime.families.uv_topology import UVTopology, load_topology
from runtime.models.spec import ModelSpec
from runtime.tensors import InputSpec

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collection_finish() -> None:
    """Exempt the modules of all tests from garbage collection, so that a test's own ``gc.collect()`` is quick."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with photographs and labels that is not part of the repository; the test is skipped where it is not
    there."""
    path = REPOSITORY.parent / "shared" / "data"
    if not (path / "README.md").is_file():
        pytest.skip("needs ../shared/data, which is not here")
    return path


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt and SIGTERM and SIGHUP end a process, here and in processes of the test, even if
    the tests run as a job that ignores them."""
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def broken_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """``broken_module(name, source)``: a library is installed whose import runs ``source``, which fails."""

    def install(name: str, source: str) -> None:
        folder = tmp_path / "broken"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return install


@pytest.fixture(scope="session")
def topology() -> UVTopology:
    """The shipped UV layout."""
    return load_topology()


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., ModelSpec]:
    """``make_spec(map_size=64, input_size=128, layout="NCHW", colour_order="BGR", value_range=(-1.0, 1.0))``: a spec
    without a model."""

    def make(
        map_size: int = 64,
        input_size: int = 128,
        layout: str = "NCHW",
        colour_order: str = "BGR",
        value_range: tuple[float, float] = (-1.0, 1.0),
    ) -> ModelSpec:
        return ModelSpec(
            name="test",
            family="position_map",
            input=InputSpec("image", input_size, layout, colour_order, value_range),
            output=PositionMapOutput("position_map", map_size, input_size * 1.1),
            crop_scale=1.6,
            topology="uv_topology.npz",
            precision="fp32",
            onnx_sha256="0" * 64,
        )

    return make


@pytest.fixture(scope="session")
def edge_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the edge network with live random weights, as training writes it."""
    torch = pytest.importorskip("torch", reason="needs torch")
    from tests.standins.networks import live_edge

    path = tmp_path_factory.mktemp("edge") / "last.pt"
    torch.save({"network": live_edge().state_dict()}, path)
    return path


@pytest.fixture(scope="session")
def sure_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of such a network with a confidence head, `tests.standins.networks.sure_edge`."""
    torch = pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("onnxsim", reason="needs onnxsim")
    from export.__main__ import main
    from tests.standins.networks import sure_edge

    folder = tmp_path_factory.mktemp("sure_onnx")
    torch.save({"network": sure_edge().state_dict()}, folder / "sure.pt")
    assert main(["onnx", "--arch", "edge", "--weights", str(folder / "sure.pt"), "-o", str(folder / "sure.onnx")]) == 0
    return folder / "sure.onnx"


@pytest.fixture(scope="session")
def edge_onnx(edge_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file that ``python -m export onnx`` makes of that checkpoint, once for all tests; copy it before a
    change."""
    pytest.importorskip("onnxsim", reason="needs onnxsim")
    from export.__main__ import main

    path = tmp_path_factory.mktemp("edge_onnx") / "edge.onnx"
    assert main(["onnx", "--arch", "edge", "--weights", str(edge_checkpoint), "-o", str(path)]) == 0
    return path
