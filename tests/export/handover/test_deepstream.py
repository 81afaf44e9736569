"""Configurations of DeepStream's nvinfer: their keys are documented ones, their values are the spec's."""

from __future__ import annotations

import configparser
import json
import re
import shutil
from pathlib import Path

import pytest

from export.__main__ import main
from export.handover.deepstream import PRIMARY, SECONDARY
from runtime.models.shipped import SHIPPED
from runtime.models.spec import ModelSpec

DOCUMENTED = json.loads(Path(__file__).with_name("nvinfer_keys.json").read_text())
# How GLib's key files read each kind.
FORMS = {
    "boolean": "0|1|true|false",
    "integer": r"-?\d+",
    "double": r"-?\d+(\.\d+)?(e-?\d+)?",
    "integer_list": r"-?\d+(;-?\d+)*",
    "double_list": r"-?\d+(\.\d+)?(;-?\d+(\.\d+)?)*",
    "string": r"[^;]+",
    "string_list": r"[^;]+(;[^;]+)*",
}
# Numbers of nvinfer's enumerations, and those that it refuses to be 0.
RANGES = {
    "process-mode": range(1, 3), "network-mode": range(3), "model-color-format": range(3),
    "network-input-order": range(2), "network-type": (0, 1, 2, 3, 100), "batch-size": range(1, 1025),
    "gie-unique-id": range(1, 1 << 31),
}  # fmt: skip


def properties(path: Path) -> dict[str, str]:
    """Read a configuration as GLib's key files are read: groups, keys, comments."""
    parser = configparser.ConfigParser(delimiters="=", comment_prefixes="#", interpolation=None)
    parser.read_string(path.read_text())
    assert parser.sections() == ["property"]
    return dict(parser["property"])


@pytest.fixture(scope="module", params=["fp32", "fp16", "int8"])
def written(request, tmp_path_factory) -> tuple[Path, ModelSpec]:
    folder = tmp_path_factory.mktemp("deepstream") / "faces"
    assert main(["deepstream", str(SHIPPED[request.param]), "-o", str(folder), "--batch", "4", "--interval", "2"]) == 0
    return folder, ModelSpec.load(ModelSpec.path_for(SHIPPED[request.param]))


@pytest.mark.parametrize("name", [PRIMARY, SECONDARY])
def test_keys_are_documented_and_files_are_there(written, name):
    found, kinds = properties(written[0] / name), DOCUMENTED["property"]
    assert not found.keys() - kinds.keys()
    for key, value in found.items():
        assert re.fullmatch(FORMS[kinds[key]], value), f"{key}={value} is no {kinds[key]}"
        assert int(value) in RANGES[key] if key in RANGES else True, f"{key}={value}"
    for key in ("onnx-file", "int8-calib-file"):
        assert key not in found or (written[0] / found[key]).is_file()
    assert (found["network-type"], found["output-tensor-meta"]) == ("100", "1")
    assert found["model-engine-file"].startswith(f"{found['onnx-file']}_b{found['batch-size']}_gpu{found['gpu-id']}_")


def test_scales_in_the_file_are_not_ignored(written):
    """nvinfer builds an INT8 network only where a calibration file is named; without one it falls back to FP16."""
    found = properties(written[0] / SECONDARY)
    assert ("int8-calib-file" in found) == (written[1].precision == "int8")


def test_secondary_is_the_spec(written):
    folder, spec = written
    found = properties(folder / SECONDARY)
    scale, offsets = float(found["net-scale-factor"]), [float(offset) for offset in found["offsets"].split(";")]
    for colour, value in zip((0, 255), spec.input.value_range, strict=True):
        assert [scale * (colour - offset) for offset in offsets] == pytest.approx([value] * 3, abs=1e-6)
    assert found["infer-dims"] == f"3;{spec.input.size};{spec.input.size}"
    assert found["network-mode"] == {"fp32": "0", "int8": "1", "fp16": "2"}[spec.precision]
    assert found["output-blob-names"].split(";") == list(spec.outputs)
    assert (found["process-mode"], found["operate-on-gie-id"], found["batch-size"]) == ("2", "1", "4")


def test_primary_is_yunet(written):
    found = properties(written[0] / PRIMARY)
    assert (found["process-mode"], found["gie-unique-id"], found["interval"]) == ("1", "1", "2")
    assert (found["infer-dims"], found["maintain-aspect-ratio"]) == ("3;640;640", "1")


def test_the_folder_holds_what_the_parsers_need(written):
    names = {path.name for path in written[0].iterdir()}
    assert {"uv_topology.npz", "yunet_box_map.json", PRIMARY, SECONDARY} <= names
    assert len([name for name in names if name.endswith(".onnx.json")]) == 1


def refused(capsys, *arguments) -> str:
    assert main(["deepstream", *map(str, arguments)]) != 0
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1, error
    return error


def test_bad_input(capsys, tmp_path):
    model, output = tmp_path / "m.onnx", tmp_path / "out"
    assert "model.engine" in refused(capsys, tmp_path / "model.engine", "-o", output)
    assert "m.onnx" in refused(capsys, model, "-o", output)
    shutil.copy(SHIPPED["int8"], model)
    spec = json.loads(Path(f"{SHIPPED['int8']}.json").read_text())
    Path(f"{model}.json").write_text(json.dumps({**spec, "input": {**spec["input"], "landmark_channel": True}}))
    assert "landmarks" in refused(capsys, model, "-o", output)
    Path(f"{model}.json").write_text(json.dumps(spec))
    assert "nowhere" in refused(capsys, model, "-o", tmp_path / "nowhere" / "out")
    (tmp_path / "file").touch()
    assert "no folder" in refused(capsys, model, "-o", tmp_path / "file")
    assert not output.exists()
