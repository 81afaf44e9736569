"""The model spec: what is written is read back, and a bad file is refused by the name of its field."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from runtime.errors import FaceMeshError
from runtime.models.spec import ModelSpec, with_face_model
from runtime.storage.whole_files import file_sha256


@pytest.fixture
def document(make_spec) -> dict:
    return dataclasses.asdict(make_spec())


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_round_trip(tmp_path, make_spec):
    spec = make_spec(map_size=100, layout="NHWC", colour_order="RGB", value_range=(-0.99609375, 0.99609375))
    spec.save(tmp_path / "spec.json")
    assert ModelSpec.load(tmp_path / "spec.json") == spec
    assert [path.name for path in tmp_path.iterdir()] == ["spec.json"]  # no .part is left


def test_spec_lies_beside_the_model():
    assert ModelSpec.path_for("models/edge.onnx") == Path("models/edge.onnx.json")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FaceMeshError, match=r"gone\.json: no model spec there"):
        ModelSpec.load(tmp_path / "gone.json")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"null", b"[1, 2]"])
def test_what_is_no_spec_is_refused(tmp_path, content):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(FaceMeshError, match=r"bad\.json"):
        ModelSpec.load(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("family",), "faces", "family must be one of position_map"),
        (("name",), 5, "name must be str"),
        (("topology",), "a\x1b[31m\0", r"topology must be text without control characters, is 'a\\x1b\[31m\\x00'"),
        (("input", "layout"), "HWC", "input.layout must be one of NCHW, NHWC"),
        (("input", "colour_order"), "GRB", "input.colour_order must be one of RGB, BGR"),
        (("input", "size"), 4, r"input.size must be 8\.\.4096"),
        (("input", "size"), 128.5, "size must be int"),
        (("input", "size"), True, "size must be int"),
        (("input", "value_range"), [1.0, -1.0], "input.value_range must be two rising numbers"),
        (("input", "value_range"), [1.0], "value_range must be"),
        (("output", "size"), 100000, r"output.size must be 8\.\.4096"),
        (("output", "scale"), 0, "output.scale must be a positive number"),
        (("output", "scale"), "big", "scale must be float"),
        (("crop_scale",), -1.6, r"crop_scale must be 0\.1\.\.10\.0"),
        (("crop_scale",), float("nan"), r"crop_scale must be 0\.1\.\.10\.0"),
        (("precision",), "fp8", "precision must be one of fp32, fp16, int8"),
        (("input",), 7, "input must be a JSON object"),
        (("extra",), 1, "unknown fields: extra"),
        (("confidence",), 1, "confidence must be str"),
        (("confidence",), "", "confidence must be the name of an output of its own, is ''"),
        (("confidence",), "position_map", "confidence must be the name of an output of its own"),
        (("confidence",), "image", "confidence must be the name of an output of its own"),
    ],
)
def test_bad_field_is_named(tmp_path, document, where, value, message):
    *parents, last = where
    target = document
    for name in parents:
        target = target[name]
    target[last] = value
    with pytest.raises(FaceMeshError, match=message) as caught:
        ModelSpec.load(write(tmp_path / "spec.json", document))
    assert "spec.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", [("family",), ("output", "scale")])
def test_missing_field_is_named(tmp_path, document, where):
    *parents, last = where
    target = document
    for name in parents:
        target = target[name]
    del target[last]
    with pytest.raises(FaceMeshError, match=f"lacks fields: {last}"):
        ModelSpec.load(write(tmp_path / "spec.json", document))


def test_specs_older_than_confidence_are_valid(tmp_path, document):
    del document["confidence"]
    spec = ModelSpec.load(write(tmp_path / "spec.json", document))
    assert spec.confidence is None
    assert spec.outputs == {"position_map": (3, 64, 64)}


def test_confidence_is_an_output(tmp_path, document):
    spec = ModelSpec.load(write(tmp_path / "spec.json", document | {"confidence": "sure"}))
    assert spec.outputs == {"position_map": (3, 64, 64), "sure": (1,)}
    spec.save(tmp_path / "again.json")
    assert ModelSpec.load(tmp_path / "again.json") == spec


def test_whole_numbers_may_be_written_as_floats_and_back(tmp_path, document):
    document["input"]["size"] = 128.0
    document["crop_scale"] = 2
    spec = ModelSpec.load(write(tmp_path / "spec.json", document))
    assert spec.input.size == 128
    assert isinstance(spec.input.size, int)
    assert spec.crop_scale == 2.0


def test_file_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"face" * 1000)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"face" * 1000).hexdigest()


@pytest.mark.parametrize("topology", ["own.npz", "data/own.npz", "/gone/own.npz"])
def test_a_relative_topology_lies_in_the_folder_of_its_spec(tmp_path, make_spec, monkeypatch, topology):
    """A file of that name in the current folder is none of its business; a file beside the model is the last resort."""
    (tmp_path / "here" / "data").mkdir(parents=True)
    (tmp_path / "models" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    for folder in ("here", "here/data", "models", "models/data"):
        (tmp_path / folder / "own.npz").touch()
    spec = dataclasses.replace(make_spec(), topology=topology)
    placed = with_face_model(spec, tmp_path / "models" / "a.onnx").topology
    assert Path(placed) == tmp_path / "models" / ("own.npz" if topology.startswith("/gone") else topology)


def test_the_shipped_topology_stays_a_bare_name(make_spec, tmp_path):
    (tmp_path / "uv_topology.npz").touch()
    assert with_face_model(make_spec(), tmp_path / "a.onnx") == make_spec()


def test_a_position_map_has_no_face_model(make_spec, tmp_path):
    with pytest.raises(FaceMeshError, match=r"family position_map has no face model; leave .*own\.npz out"):
        with_face_model(make_spec(), tmp_path / "a.onnx", tmp_path / "own.npz")
