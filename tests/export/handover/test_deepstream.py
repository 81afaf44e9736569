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

# Keys of the group [property] that the manual of Gst-nvinfer (DeepStream 6 to 9) lists, with the kind of their values.
DOCUMENTED = {
    **dict.fromkeys(
        ["batch-size", "gie-unique-id", "gpu-id", "infer-raw-output-gpu-id", "input-object-min-height",
         "input-object-min-width", "interval", "maintain-aspect-ratio", "model-color-format", "network-input-order",
         "network-mode", "network-type", "operate-on-gie-id", "output-tensor-meta", "process-mode",
         "secondary-reinfer-interval", "symmetric-padding"],
        r"\d+",
    ),
    "net-scale-factor": r"[\d.e-]+",
    "offsets": r"-?[\d.]+(;-?[\d.]+){2}",
    "infer-dims": r"\d+;\d+;\d+",
    "onnx-file": r"[^/]+\.onnx",
    "model-engine-file": r"[^/]+\.engine",
    "output-blob-names": r"\w+(;\w+)*",
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
    found = properties(written[0] / name)
    assert {key: value for key, value in found.items() if not re.fullmatch(DOCUMENTED.get(key, "-"), value)} == {}
    assert (written[0] / found["onnx-file"]).is_file()
    assert (found["network-type"], found["output-tensor-meta"]) == ("100", "1")


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
