"""Memory of the C library: none is taken in the steady state, and damaged files do not reach beyond it."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from runtime.models.shipped import ASSETS, SHIPPED
from tests.runtime.library.building import PROGRAM, SANITIZERS, Build, build_library, run
from tests.runtime.library.standins import RTX, TENSORRT_10, compile_standins

pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnx")
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS
from tests.runtime.library.checking import check, check_arguments
from tests.standins.coefficient_network import save_face_model, write_toy_model
from tests.standins.fake_engine import write_engine

pytestmark = pytest.mark.slow
OTHER_ROUNDING_PX = 1e-3  # without optimisation products and sums are not fused


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> list[str]:
    """Those of check_faces."""
    return check_arguments(tmp_path_factory.mktemp("check"))


def test_the_steady_state_takes_no_memory(build: Build, arguments, tmp_path):
    """Of the library's own; a tracker makes small lists when the detector looks or a face is remembered."""
    program = tmp_path / "allocations"
    include = f"-I{PROGRAM.parents[3] / 'runtime' / 'native' / 'include'}"
    links = [f"-L{build.folder}", "-lfacemesh", f"-Wl,-rpath,{build.folder}", "-ldl"]
    links.append(f"-Wl,-rpath-link,{build.folder}/onnxruntime")
    run(["c++", "-std=c++17", include, PROGRAM.with_name("check_allocations.cpp"), "-o", program, *links])
    fp32, yunet, picture, width, height, _, toy, guided = arguments
    for model, first in ((fp32, ""), (toy, ""), (guided, fp32)):
        boxes, found, tracked = map(int, run([program, model, yunet, first, picture, width, height]).split())
        assert (boxes, found) == (0, 0)
        if model == fp32:  # the toys' faces jump about, so that the detector looks at every frame
            assert tracked < 100  # in 200 frames


@pytest.fixture(scope="module")
def standins(tmp_path_factory) -> Path:
    """Folder of stand-ins for the driver, TensorRT and TensorRT-RTX, under sanitizers too."""
    return tmp_path_factory.mktemp("standins")


@pytest.fixture(scope="module")
def sanitized(repository: Path, standins: Path) -> Build:
    """The library with all backends."""
    options = compile_standins(standins, [TENSORRT_10, RTX], SANITIZERS.split())
    options += ["-DCMAKE_BUILD_TYPE=None", f"-DCMAKE_CXX_FLAGS=-O1 {SANITIZERS}"]
    return build_library(repository / "build" / "library-sanitized", options)


def sanitizer_options(folder: Path) -> dict[str, str]:
    """An environment; a file that claims much must not make the library take much."""
    (folder / "leaks").write_text("leak:libonnxruntime\n")
    return {
        **os.environ,
        "ASAN_OPTIONS": "max_allocation_size_mb=400",
        "LSAN_OPTIONS": f"suppressions={folder / 'leaks'}",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


@pytest.fixture(scope="module")
def checking(sanitized: Build, tmp_path_factory) -> Path:
    """check_faces under sanitizers."""
    return sanitized.program(PROGRAM, tmp_path_factory.mktemp("checking") / "check", SANITIZERS.split())


def test_sanitizers(checking: Path, arguments, tmp_path):
    run(check(checking, arguments, OTHER_ROUNDING_PX), env=sanitizer_options(tmp_path))


def test_engines_under_sanitizers(checking: Path, standins: Path, arguments, tmp_path):
    """The same network as an engine of TensorRT and as one of TensorRT-RTX."""
    shutil.copy(ASSETS / "uv_topology.npz", tmp_path)
    changes = {"library": "tensorrt-rtx", "version": "1.7.1.116"}
    engines = [
        write_engine(tmp_path / "m.engine", SHIPPED["fp32"]),
        write_engine(tmp_path / "rtx.engine", SHIPPED["fp32"], changes, rtx=True, user_allocation=True),
    ]
    environment = {**sanitizer_options(tmp_path), "LD_LIBRARY_PATH": str(standins)}
    for engine in engines:
        run([checking, engine, *arguments[1:6], "1e-4"], env=environment)


@pytest.fixture(scope="module")
def reader(sanitized: Build, tmp_path_factory) -> Path:
    """The program that opens damaged files, under sanitizers."""
    target = tmp_path_factory.mktemp("reader") / "readers"
    return sanitized.program(PROGRAM.with_name("check_readers.c"), target, SANITIZERS.split())


def face_models(folder: Path) -> list[bytes]:
    return [save_face_model(folder / "seed.npz", precision).read_bytes() for precision in ("fp32", "fp16", "int8")]


def member_of_a_face_model(folder: Path) -> list[bytes]:
    """The array `shape_basis` by itself, for `face_model_with`."""
    with zipfile.ZipFile(save_face_model(folder / "seed.npz")) as archive:
        return [archive.read("shape_basis.npy"), archive.read("uv.npy")]


def face_model_with(folder: Path, name: str, member: bytes) -> bytes:
    """A face model with another content of one array; the checksums fit."""
    with zipfile.ZipFile(save_face_model(folder / "seed.npz")) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for filename, content in members.items():
            archive.writestr(filename, member if filename == name else content)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["face model", "basis", "uv", "spec", "map spec", "topology"])
def test_damaged_files_under_sanitizers(reader, tmp_path, kind):
    """The cases of `tests.fuzz`, as many as FACEMESH_FUZZ_CASES says, by seed FACEMESH_FUZZ_SEED."""
    cases, seed = (int(os.environ.get(f"FACEMESH_FUZZ_{name}", usual)) for name, usual in (("CASES", 150), ("SEED", 1)))
    toy = write_toy_model(tmp_path)
    specs, models = {False: Path(f"{toy}.json"), True: Path(f"{SHIPPED['fp32']}.json")}, tmp_path / "face_model.npz"
    whole = {False: models, True: ASSETS / "uv_topology.npz"}
    is_map, is_spec, suffix = kind in ("map spec", "topology"), "spec" in kind, ".json" if "spec" in kind else ".npz"
    seeds = {
        "face model": lambda: face_models(tmp_path),
        "basis": lambda: member_of_a_face_model(tmp_path)[:1],
        "uv": lambda: member_of_a_face_model(tmp_path)[1:],
        "topology": TARGETS["topology"].seeds,
    }.get(kind, lambda: [specs[is_map].read_bytes()])()
    lines, paths = [], []
    for number in range(cases + 1):
        content = mutated(seeds, seed, number) if number else seeds[0]  # the first one is sound
        if kind in ("basis", "uv"):
            content = face_model_with(tmp_path, "shape_basis.npy" if kind == "basis" else "uv.npy", content)
        paths.append(tmp_path / f"case{number}{suffix}")
        paths[-1].write_bytes(content)
        pair = (paths[-1], whole[is_map]) if is_spec else (specs[is_map], paths[-1])
        lines.append("\t".join(map(str, pair)))
    answers = run([reader], input="\n".join(lines) + "\n", env=sanitizer_options(tmp_path)).splitlines()
    assert len(answers) == cases + 1
    assert answers[0] == "opens"
    refused = [(path, answer) for path, answer in zip(paths, answers, strict=True) if answer != "opens"]
    assert len(refused) > cases / 4
    assert [answer for path, answer in refused if not is_line_of(answer, path, whole[is_map])] == []


def is_line_of(answer: str, path: Path, whole: Path) -> bool:
    """Place and remedy; a damaged spec may fit its file no more."""
    return "; " in answer and answer.startswith((f"{path}: ", f"{whole}: "))
