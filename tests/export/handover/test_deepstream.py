"""Configurations of DeepStream's nvinfer: their keys are documented ones, their values are the spec's."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from export.__main__ import main
from export.handover.deepstream import PRIMARY, SECONDARY
from runtime.models.shipped import SHIPPED, YUNET
from runtime.models.spec import ModelSpec
from runtime.storage.whole_files import file_sha256
from tests.export.small_models import write_small_model, write_spec

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
    # The shipped INT8 form is one for CPUs.
    model = SHIPPED[request.param]
    if request.param == "int8":
        model = write_small_model(folder.parent / "small.onnx", precision="int8")
    assert main(["deepstream", str(model), "-o", str(folder), "--batch", "4", "--interval", "2"]) == 0
    return folder, ModelSpec.load(ModelSpec.path_for(model))


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
    shutil.copy(SHIPPED["fp32"], model)
    spec = json.loads(Path(f"{SHIPPED['fp32']}.json").read_text())
    Path(f"{model}.json").write_text(json.dumps({**spec, "input": {**spec["input"], "landmark_channel": True}}))
    assert "landmarks" in refused(capsys, model, "-o", output)
    Path(f"{model}.json").write_text(json.dumps(spec))
    assert "nowhere" in refused(capsys, model, "-o", tmp_path / "nowhere" / "out")
    (tmp_path / "file").touch()
    assert "no folder" in refused(capsys, model, "-o", tmp_path / "file")
    assert not output.exists()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_that_are_not_the_network_of_their_spec(capsys, tmp_path):
    """Their SHA-256 is the one in the spec beside them."""
    output, whole = tmp_path / "out", SHIPPED["fp32"].read_bytes()
    shipped = json.loads(ModelSpec.path_for(SHIPPED["fp32"]).read_text())
    for content in (whole[: len(whole) // 2], YUNET.read_bytes()):
        model = tmp_path / "m.onnx"
        model.write_bytes(content)
        ModelSpec.path_for(model).write_text(json.dumps({**shipped, "onnx_sha256": file_sha256(model)}))
        assert "m.onnx: " in refused(capsys, model, "-o", output)
    assert "uint8, a form for CPUs" in refused(capsys, SHIPPED["int8"], "-o", output)
    untrained = write_small_model(tmp_path / "u.onnx", untrained=True)
    assert "is untrained" in refused(capsys, untrained, "-o", output)
    assert not output.exists()


def test_a_fixed_batch_is_the_file_s(capsys, tmp_path):
    model = write_small_model(tmp_path / "two.onnx", batch=2)
    assert main(["deepstream", str(model), "-o", str(tmp_path / "out")]) == 0
    found = properties(tmp_path / "out" / SECONDARY)
    assert (found["batch-size"], found["model-engine-file"]) == ("2", "two.onnx_b2_gpu0_fp32.engine")
    assert "note: the network runs 2 faces at a time, not the 8 of --batch" in capsys.readouterr().out


def test_topologies_that_the_library_does_not_read(capsys, tmp_path):
    (tmp_path / "uv-data").mkdir()
    model = write_small_model(tmp_path / "m.onnx", topology="uv-data")
    assert "libfacemesh reads .npz alone; name an .npz in m.onnx.json" in refused(capsys, model, "-o", tmp_path / "out")
    write_spec(model, topology="lost.npz")
    assert "lost.npz" in (error := refused(capsys, model, "-o", tmp_path / "out"))
    assert "free some space" not in error
    assert not (tmp_path / "out").exists()


def test_names_of_other_files_are_refused(capsys, tmp_path):
    model = write_small_model(tmp_path / YUNET.name)
    assert "has the name of another file" in refused(capsys, model, "-o", tmp_path / "out")


def test_a_folder_is_written_whole_or_not_at_all(capsys, tmp_path, monkeypatch):
    model, output = SHIPPED["fp16"], tmp_path / "out"
    (output / SECONDARY).mkdir(parents=True)
    assert "a folder has this name" in refused(capsys, model, "-o", output)
    assert [path.name for path in output.iterdir()] == [SECONDARY]
    (output / SECONDARY).rmdir()
    (output / "mine.txt").write_text("mine")
    (output / PRIMARY).write_text("old")
    before, replace = tree(output), os.replace

    def fail_at_the_end(source, target):
        if Path(target).name == SECONDARY:
            raise OSError("no more")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_at_the_end)
    assert "no more" in refused(capsys, model, "-o", output)
    assert tree(output) == before
    assert "no more" in refused(capsys, model, "-o", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", [["deepstream", "", "-o", "out"], ["deepstream", "m.onnx", "-o", ""]])
def test_empty_paths_are_wrong_usage(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert "is empty; an unset variable?" in capsys.readouterr().err


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_to_another_file_system(tmp_path, other_file_system, is_there):
    place = other_file_system / "faces"
    if is_there:
        place.mkdir()
    (tmp_path / "out").symlink_to(place)
    assert main(["deepstream", str(SHIPPED["fp16"]), "-o", str(tmp_path / "out")]) == 0
    assert (place / SECONDARY).is_file()
    assert [path.name for path in other_file_system.iterdir()] == ["faces"]


def test_another_network_in_the_same_folder(capsys, tmp_path):
    output, model = tmp_path / "out", tmp_path / "a.onnx"
    write_small_model(model)
    assert main(["deepstream", str(model), "-o", str(output)]) == 0
    engine = output / "a.onnx_b8_gpu0_fp32.engine"
    engine.touch()
    (output / "mine.engine").touch()
    assert main(["deepstream", str(model), "-o", str(output), "--interval", "3"]) == 0  # the same network
    assert properties(output / PRIMARY)["interval"] == "3"
    before = tree(output)
    error = refused(capsys, write_small_model(tmp_path / "b.onnx"), "-o", output)
    assert "another network (a.onnx.json); remove that, or choose another folder" in error
    write_small_model(model, activation="Sigmoid")
    assert f"another network ({engine.name})" in refused(capsys, model, "-o", output)
    assert tree(output) == before
    engine.unlink()
    assert main(["deepstream", str(model), "-o", str(output)]) == 0
    assert (output / "a.onnx").read_bytes() == model.read_bytes()
