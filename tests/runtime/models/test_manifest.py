"""The manifest of an engine: read back as written, refused by the name of its field, and the judge of what runs
where."""

from __future__ import annotations

import dataclasses
import json

import pytest

from runtime.console.extras import remedy
from runtime.cuda.driver import Device, platform_name
from runtime.errors import FaceMeshError
from runtime.models.manifest import EngineManifest
from runtime.storage.json_documents import save_document
from runtime.storage.whole_files import file_sha256

ORIN = Device("Orin", "8.7")


@pytest.fixture
def make_manifest(make_spec):
    def make(**changes):
        manifest = EngineManifest(
            spec=make_spec(),
            engine_sha256="0" * 64,
            library="tensorrt",
            version="10.3.0",
            batch=(1, 2, 8),
            compute_capabilities=("8.7",),
            device="Orin",
            dla_core=None,
            created="2026-11-20T12:00:00+00:00",
            command="python -m export engine m.onnx -o m.engine",
        )
        return dataclasses.replace(manifest, **changes)

    return make


@pytest.fixture
def engine(tmp_path, make_manifest):
    path = tmp_path / "m.engine"
    path.write_bytes(b"an engine")
    save_document(make_manifest(engine_sha256=file_sha256(path)), EngineManifest.path_for(path))
    return path


@pytest.mark.parametrize(
    "changes",
    [{}, {"device": None, "dla_core": 1, "compute_capabilities": ("8.0", "12.1"), "version": "10.13.3.9.post1+"}],
)
def test_round_trip(engine, make_manifest, changes):
    manifest = make_manifest(engine_sha256=file_sha256(engine), **changes)
    save_document(manifest, EngineManifest.path_for(engine))
    assert EngineManifest.load_for(engine) == manifest
    assert sorted(path.name for path in engine.parent.iterdir()) == ["m.engine", "m.engine.json"]


def test_engine_that_is_not_there(tmp_path):
    with pytest.raises(FaceMeshError, match=r"gone\.engine: no engine file there"):
        EngineManifest.load_for(tmp_path / "gone.engine")


def test_engine_without_a_manifest(engine):
    EngineManifest.path_for(engine).unlink()
    with pytest.raises(FaceMeshError, match=r"m\.engine\.json: no engine manifest there.*python -m export engine"):
        EngineManifest.load_for(engine)


@pytest.mark.parametrize("content", [b"", b"an engin", b"an engine!"])
def test_engine_truncated_or_swapped(engine, content):
    engine.write_bytes(content)
    with pytest.raises(
        FaceMeshError,
        match=r"m\.engine: its SHA-256 .* is not the .*build it again with "
        r"'python -m export engine m\.onnx -o m\.engine'",
    ):
        EngineManifest.load_for(engine)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("library", "onnxruntime", "library must be one of tensorrt, tensorrt-rtx"),
        ("version", "new", "version must be numbers with dots"),
        ("version", None, "version must be str"),
        ("batch", [1, 2], "batch must be tuple"),
        ("batch", [0, 1, 2], "batch must be three numbers from 1 on"),
        ("batch", [1, 4, 2], "batch must be three numbers from 1 on that do not fall"),
        ("batch", [1, float("inf"), 2], "batch must be int"),
        ("compute_capabilities", [], "compute_capabilities must name one"),
        ("compute_capabilities", ["8.x "], "compute_capabilities must be numbers"),
        ("compute_capabilities", "8.7", "compute_capabilities must be tuple"),
        ("dla_core", "1", "dla_core must be int"),
        ("device", 5, "device must be str"),
        ("spec", {}, "spec lacks fields"),
        ("extra", 1, "unknown fields: extra"),
    ],
)
def test_bad_field_is_named(engine, field, value, message):
    path = EngineManifest.path_for(engine)
    document = json.loads(path.read_text())
    document[field] = value
    path.write_text(json.dumps(document))
    with pytest.raises(FaceMeshError, match=message) as caught:
        EngineManifest.load_for(engine)
    assert "m.engine.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_version_of_64_characters_is_the_longest(make_manifest):
    longest = "10." + 61 * "1"
    assert make_manifest(version=longest).version == longest
    with pytest.raises(ValueError, match=rf"field version must be numbers with dots between, is '{longest}1'$"):
        make_manifest(version=longest + "1")


def test_an_error_line_quotes_at_most_200_characters(make_manifest):
    with pytest.raises(ValueError, match=rf"between, is '{'1' * 200}'$"):
        make_manifest(version="1" * 201)


def test_sums_that_differ_are_told_by_twelve_digits(engine):
    with pytest.raises(FaceMeshError, match=r"its SHA-256 0123456789ab… is not the [0-9a-f]{12}… of m\.engine\.json;"):
        EngineManifest.load_for(engine, sha256="0123456789abcdef" * 4)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_what_is_no_manifest_is_refused(engine, content):
    EngineManifest.path_for(engine).write_bytes(content)
    with pytest.raises(FaceMeshError, match=r"m\.engine\.json"):
        EngineManifest.load_for(engine)


@pytest.mark.parametrize(
    ("built", "here", "runs"),
    [
        ("10.3.0", "10.3.0", True),
        ("10.3.0", "10.3.0.26", False),
        ("10.3.0", "10.4.0", False),
        ("10.3.0+", "10.3.0", True),
        ("10.3.0+", "10.16.1.11", True),
        ("10.3.0+", "10.2.9", False),
        ("10.3.0+", "11.0.0.114", True),
        ("8.6.1+", "10.3.0", True),
        ("8.6.1+", "11.4.0.106", False),
        ("11.0.0+", "10.16.1.11", False),
        ("10+", "10.16.1.11", True),
        ("10+", "9.3.0", False),
        ("10.13+", "10.9.1", False),
        ("10.13+", "10.13", True),
    ],
)
def test_versions(make_manifest, built, here, runs):
    assert (make_manifest(version=built).why_not(here, ORIN) is None) == runs


@pytest.mark.parametrize(
    ("wanted", "here", "runs"),
    [
        (("8.7",), "8.7", True),
        (("8.7",), "8.6", False),
        (("8.0", "8.6", "12.0"), "12.0", True),
        (("8.0+",), "8.0", True),
        (("8.0+",), "12.1", True),
        (("8.0+",), "7.5", False),
    ],
)
def test_compute_capabilities(make_manifest, wanted, here, runs):
    assert (make_manifest(compute_capabilities=wanted).why_not("10.3.0", Device("GPU", here)) is None) == runs


def test_a_mismatch_says_what_was_built_where_what_is_here_and_how_to_build_it(make_manifest):
    reason = make_manifest().why_not("10.16.1.11", Device("NVIDIA GeForce RTX 4090", "8.9"))
    assert reason == (
        "built on Orin for tensorrt 10.3.0, compute capability 8.7; "
        "this is tensorrt 10.16.1.11 and this is NVIDIA GeForce RTX 4090 of compute "
        "capability 8.9; build it here with 'python -m export engine m.onnx -o m.engine'"
    )


def test_a_machine_without_library_and_device(make_manifest):
    reason = make_manifest(device=None).why_not(None, None)
    assert (
        reason == "built without a device for tensorrt 10.3.0, compute capability 8.7; "
        "tensorrt is not installed here and no CUDA device is found here"
    )


def test_a_device_without_the_library_gets_the_command_that_installs_it(make_manifest):
    reason = make_manifest(library="tensorrt-rtx").why_not(None, ORIN)
    assert reason == (
        "built on Orin for tensorrt-rtx 10.3.0, compute capability 8.7; tensorrt-rtx is not installed here; "
        f"{remedy('tensorrt_rtx')}"
    )


def test_an_engine_of_another_platform_is_refused(make_manifest):
    """Plans are bound to the operating system and the processor, and a Jetson's to Tegra."""
    here = platform_name(ORIN)
    assert make_manifest(platform=here).why_not("10.3.0", ORIN) is None
    assert make_manifest(platform=None).why_not("10.3.0", ORIN) is None  # of an older build
    foreign = make_manifest(platform="plan9-mips").why_not("10.3.0", ORIN)
    assert foreign == (
        f"built on Orin for tensorrt 10.3.0, compute capability 8.7 on plan9-mips; this is {here}; "
        "build it here with 'python -m export engine m.onnx -o m.engine'"
    )
    assert platform_name(dataclasses.replace(ORIN, integrated=True)) == f"{here}-tegra"


def test_a_device_of_another_size_is_doubtful(make_manifest):
    """An Orin Nano and an AGX Orin have the same name and compute capability, and 8 and 16 multiprocessors."""
    nano = dataclasses.replace(ORIN, multiprocessors=8)
    assert "this Orin has 8: it may be slow or fail" in make_manifest(multiprocessors=16).doubt(nano)
    for manifest, device in (
        (make_manifest(multiprocessors=8), nano),
        (make_manifest(), nano),
        (make_manifest(multiprocessors=16), ORIN),
        (make_manifest(multiprocessors=16), None),
    ):
        assert manifest.doubt(device) is None
