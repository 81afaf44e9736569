"""The spec of a detector: read back as written, refused by the name of its field, and told from a face network's."""

from __future__ import annotations

import dataclasses
import json

import pytest

from runtime.errors import FaceMeshError
from runtime.models.detector_spec import (
    DetectorInput,
    DetectorSpec,
    detector_spec,
    load_any_spec,
    load_detector_spec,
    load_spec_of,
    mesh_spec,
)
from runtime.models.manifest import EngineManifest
from runtime.models.spec import ModelSpec
from runtime.storage.json_documents import save_document
from runtime.storage.whole_files import file_sha256

SPEC = DetectorSpec("yunet", DetectorInput("planes", 640, 384), "fp16", "0" * 64)


def written(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_round_trip(tmp_path):
    SPEC.save(tmp_path / "spec.json")
    assert DetectorSpec.load(tmp_path / "spec.json") == load_any_spec(tmp_path / "spec.json") == SPEC
    assert json.loads((tmp_path / "spec.json").read_text())["kind"] == "detector"


def test_shapes_are_those_of_the_levels():
    assert SPEC.input.shape == (3, 384, 640)
    assert SPEC.outputs == {"stride_8": (16, 48, 80), "stride_16": (16, 24, 40), "stride_32": (16, 12, 20)}


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("kind",), "mesh", "field kind must be detector"),
        (("precision",), "bf16", "field precision must be one of fp32, fp16, int8"),
        (("strides",), [8, 16, 64], r"field strides must be \[8, 16, 32\]"),
        (("strides",), [8, 16], r"field strides must be \[8, 16, 32\]"),
        (("levels",), ["a", "b", "b"], "field levels must be 3 names of their own"),
        (("levels",), ["a", "b", "planes"], "field levels must be 3 names of their own"),
        (("levels",), ["a", "b"], "field levels must be 3 names of their own"),
        (("levels",), ["a", "b", "c", ""], "field levels must be 3 names of their own"),
        (("input", "name"), "", "field levels must be 3 names of their own"),
        (("input", "width"), 656, r"field input\.width must be a multiple of 32 up to 4096, is 656"),
        (("input", "height"), 0, r"field input\.height must be a multiple of 32"),
        (("input", "height"), -32, r"field input\.height must be a multiple of 32"),
        (("input", "width"), 4128, r"field input\.width must be a multiple of 32"),
        (("input", "colour_order"), "RGB", r"field input must take BGR of \[0, 255\], takes RGB"),
        (("input", "value_range"), [0, 1], r"takes BGR of \[0\.0, 1\.0\]"),
        (("surplus",), 1, "unknown fields: surplus"),
    ],
)
def test_a_bad_field_is_named(tmp_path, where, value, message):
    document = dataclasses.asdict(SPEC)
    part = document
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    with pytest.raises(FaceMeshError, match=rf"bad\.json: .*{message}.*export detector"):
        DetectorSpec.load(written(tmp_path / "bad.json", document))


def test_one_kind_in_the_place_of_the_other(tmp_path, make_spec):
    SPEC.save(tmp_path / "detector.json")
    make_spec().save(tmp_path / "mesh.json")
    assert load_any_spec(tmp_path / "mesh.json") == make_spec()
    with pytest.raises(FaceMeshError, match=r"detector\.json: the spec of a detector, .* to --detector"):
        ModelSpec.load(tmp_path / "detector.json")
    with pytest.raises(FaceMeshError, match=r"mesh\.json: the spec of a face network, .* to --engine"):
        DetectorSpec.load(tmp_path / "mesh.json")
    with pytest.raises(FaceMeshError, match="d: a detector, which makes no meshes"):
        mesh_spec(SPEC, "d")
    with pytest.raises(FaceMeshError, match="m: a face network, which finds no faces"):
        detector_spec(make_spec(), "m")
    assert (mesh_spec(make_spec(), "m"), detector_spec(SPEC, "d")) == (make_spec(), SPEC)


@pytest.mark.parametrize("content", ["", "{", "[1]", '"detector"'])
def test_what_is_no_spec_of_any_kind(tmp_path, content):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(FaceMeshError, match=r"bad\.json: "):
        load_any_spec(tmp_path / "bad.json")


@pytest.mark.parametrize("side", [32, 4096])
def test_smallest_and_largest_size(side):
    assert DetectorInput("planes", side, side).shape == (3, side, side)
    assert dataclasses.replace(SPEC, input=DetectorInput("planes", side, side)).outputs["stride_32"][1] == side // 32


def test_spec_beside_a_file_of_either_kind(tmp_path, make_spec):
    for name, spec in (("d.onnx", SPEC), ("m.onnx", make_spec())):
        model = tmp_path / name
        model.write_bytes(b"a model")
        with pytest.raises(FaceMeshError, match=r"no model spec there"):
            load_spec_of(model)
        spec = dataclasses.replace(spec, onnx_sha256=file_sha256(model))
        spec.save(ModelSpec.path_for(model))
        assert load_spec_of(model) == spec
        model.write_bytes(b"another")
        with pytest.raises(FaceMeshError, match=rf"{name}: its SHA-256"):
            load_spec_of(model)


def test_spec_of_another_file(tmp_path):
    model = tmp_path / "yunet.onnx"
    model.write_bytes(b"a model")
    spec = dataclasses.replace(SPEC, onnx_sha256=file_sha256(model))
    spec.save(DetectorSpec.path_for(model))
    assert load_detector_spec(model) == spec
    model.write_bytes(b"another")
    with pytest.raises(FaceMeshError, match=r"yunet\.onnx: its SHA-256 .* make it again with"):
        load_detector_spec(model)


def test_manifest_of_either_kind(tmp_path, make_spec):
    for spec in (SPEC, make_spec()):
        manifest = EngineManifest(
            spec, "0" * 64, "tensorrt", "10.3.0", (1, 1, 1), ("8.7",), "Orin", None, "2026-11-20", "export engine"
        )
        save_document(manifest, tmp_path / "m.json")
        assert EngineManifest.load(tmp_path / "m.json") == manifest
    for damaged in ("detector", None, {"kind": "detector"}, {"kind": ["detector"]}):
        document = dataclasses.asdict(manifest) | {"spec": damaged}
        with pytest.raises(FaceMeshError, match=r"d\.json: "):
            EngineManifest.load(written(tmp_path / "d.json", document))
