"""Model repositories for Triton: files, configurations, versions, and everything that is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest

from export.__main__ import main
from export.handover.triton_config import config_text, interface_of
from export.handover.triton_repository import versions
from runtime.models.detector_spec import DetectorSpec
from runtime.models.manifest import EngineManifest
from runtime.models.shipped import SHIPPED
from runtime.models.spec import ModelSpec
from runtime.storage.whole_files import file_sha256
from tests.programs.triton_server import ROOT, triton_python

MODEL = str(SHIPPED["fp32"])


def write(output, *arguments) -> int:
    return main(["triton", *map(str, arguments or (MODEL,)), "-o", str(output)])


def tree(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def write_engine(tmp_path):
    """``write_engine(name, capabilities, **changes of the manifest)``: a file that stands for an engine."""

    def write(name: str, capabilities: tuple[str, ...] = ("8.7",), **changes):
        path = tmp_path / name
        path.write_bytes(f"engine {name}".encode())
        manifest = EngineManifest(
            spec=ModelSpec.load(ModelSpec.path_for(SHIPPED["fp16"])),
            engine_sha256=file_sha256(path),
            library="tensorrt",
            version="10.3.0",
            batch=(1, 1, 8),
            compute_capabilities=capabilities,
            device="Orin",
            dla_core=None,
            created="2026-11-27T00:00:00+00:00",
            command="python -m export engine",
        )
        path.with_name(name + ".json").write_text(
            json.dumps(dataclasses.asdict(dataclasses.replace(manifest, **changes)))
        )
        return path

    return write


def test_an_onnx_model_becomes_both_models(tmp_path, capsys):
    assert write(tmp_path / "models") == 0
    assert "facemesh and facemesh_network, version 1" in capsys.readouterr().out
    files = tree(tmp_path / "models")
    assert sorted(files) == [
        "facemesh/1/model.onnx",
        "facemesh/1/model.onnx.json",
        "facemesh/1/model.py",
        "facemesh/config.pbtxt",
        "facemesh/warmup/portrait",
        "facemesh_network/1/model.onnx",
        "facemesh_network/config.pbtxt",
    ]
    assert files["facemesh/1/model.onnx"] == files["facemesh_network/1/model.onnx"] == SHIPPED["fp32"].read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    assert os.stat(tmp_path / "models").st_mode & 0o777 == 0o755


@pytest.mark.slow
@pytest.mark.skipif(triton_python() is None, reason="needs tritonclient: make test-slow, or FACEMESH_TRITON_PYTHON")
def test_configurations_are_what_triton_documents(tmp_path, write_engine):
    """Parsed by Triton's own protobuf: it refuses unknown keys and values of another type."""
    assert write(tmp_path / "onnx", MODEL, "--instances", "3", "--workers", "2", "--batch", "32") == 0
    engines = (
        write_engine("a.engine", ("8.7",)),
        write_engine("b.engine", ("8.9", "12.0")),
        write_engine("c.engine", ("8.0+",)),
    )
    assert write(tmp_path / "trt", *engines, "--name", "mesh") == 0

    def parsed(path):
        command = [triton_python(), "-m", "tests.programs.triton_client", "config", tmp_path / path / "config.pbtxt"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return json.loads(run.stdout)

    service = parsed("onnx/facemesh")
    assert (service["backend"], service["max_batch_size"]) == ("python", 32)
    assert service["instance_group"] == [{"kind": "KIND_CPU", "count": 3}]
    assert service["parameters"] == {"workers": {"string_value": "2"}}
    assert all(each["optional"] and each["allow_ragged_batch"] for each in service["input"])
    assert service["output"][-1] == {"name": "vertices", "data_type": "TYPE_FP32", "dims": ["43867", "3"]}
    assert service["model_warmup"][0]["inputs"]["encoded"]["input_data_file"] == "portrait"
    network = parsed("onnx/facemesh_network")
    assert (network["backend"], network["max_batch_size"]) == ("onnxruntime", 32)
    assert network["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": ["3", "128", "128"]}]
    assert [each["name"] for each in network["output"]] == ["position_map", "confidence"]
    network = parsed("trt/mesh_network")
    assert (network["platform"], network["max_batch_size"]) == ("tensorrt_plan", 8)
    assert network["cc_model_filenames"] == {
        "8.7": "model_87.plan",
        "8.9": "model_89_120.plan",
        "12.0": "model_89_120.plan",
    }
    assert network["default_model_filename"] == "model_80up.plan"
    assert parsed("trt/mesh")["instance_group"] == [{"kind": "KIND_GPU", "count": 1}]
    assert EngineManifest.load_for(tmp_path / "trt" / "mesh" / "1" / "model_89_120.plan").compute_capabilities == (
        "8.9",
        "12.0",
    )


def test_a_detector_of_its_own_lies_in_a_folder_beside_the_network(tmp_path, write_engine, capsys):
    """An engine of one wants a GPU, whatever runs the network; files of the wrong kind are refused."""
    yunet, models = tmp_path / "yunet.onnx", tmp_path / "models"
    assert main(["detector", "--size", "640x384", "-o", str(yunet)]) == 0
    spec = DetectorSpec.load(DetectorSpec.path_for(yunet))
    engines = write_engine("a.engine", ("8.7",), spec=spec), write_engine("b.engine", ("8.9+",), spec=spec)
    assert write(models, MODEL, "--detector", yunet) == 0
    assert tree(models / "facemesh" / "1" / "detector") == {
        "model.onnx": yunet.read_bytes(),
        "model.onnx.json": DetectorSpec.path_for(yunet).read_bytes(),
    }
    assert "kind: KIND_CPU" in (models / "facemesh" / "config.pbtxt").read_text()
    assert write(models, MODEL, "--detector", *engines) == 0
    assert sorted(tree(models / "facemesh" / "2" / "detector")) == [
        "model_87.plan",
        "model_87.plan.json",
        "model_89up.plan",
        "model_89up.plan.json",
    ]
    assert "kind: KIND_GPU" in (models / "facemesh" / "config.pbtxt").read_text()
    assert sorted(tree(models / "facemesh_network" / "2")) == ["model.onnx"]
    before = tree(models)
    for detectors, reason in (
        ((MODEL,), "a face network, which finds no faces"),
        ((write_engine("mesh.engine"),), "a face network, which finds no faces"),
        ((tmp_path / "none.onnx",), "no detector there"),
        ((yunet, yunet), "several files must be engines"),
        ((engines[0], write_engine("twin.engine", spec=spec)), "the second engine for compute capability 8.7"),
    ):
        capsys.readouterr()
        assert write(models, MODEL, "--detector", *detectors) == 1
        output = capsys.readouterr().err
        assert reason in output
        assert len(output.splitlines()) == 1
    assert tree(models) == before


def test_text_of_a_configuration_is_quoted_and_nested():
    text = config_text([("name", 'a "b"\\\n'), ("output", [("name", "x"), ("dims", -1)]), ("optional", True)])
    assert text == 'name: "a \\"b\\"\\\\\\n"\noutput {\n  name: "x"\n  dims: -1\n}\noptional: true\n'
    assert interface_of(text) == ['output { name: "x" dims: -1 }']


def test_a_fixed_batch_is_part_of_the_networks_shape(tmp_path, write_engine):
    assert write(tmp_path / "models", write_engine("four.engine", batch=(4, 4, 4))) == 0
    text = (tmp_path / "models" / "facemesh_network" / "config.pbtxt").read_text()
    assert "max_batch_size: 0\n" in text
    assert 'name: "image"\n  data_type: TYPE_FP32\n  dims: 4\n  dims: 3\n' in text
    assert "dynamic_batching" not in text


def test_a_repository_gets_versions_and_keeps_what_else_is_in_it(tmp_path, capsys):
    models = tmp_path / "models"
    (models / "resnet" / "1").mkdir(parents=True)
    (models / "resnet" / "config.pbtxt").write_text("theirs")
    assert write(models) == 0
    assert write(models, SHIPPED["int8"]) == 0
    assert (versions(models / "facemesh"), versions(models / "facemesh_network")) == ([1, 2], [1, 2])
    assert (models / "facemesh" / "2" / "model.onnx").read_bytes() == SHIPPED["int8"].read_bytes()
    assert (models / "resnet" / "config.pbtxt").read_text() == "theirs"
    capsys.readouterr()
    assert write(models, MODEL, "--instances", "2") == 0
    assert "config.pbtxt was another one before" in capsys.readouterr().out
    assert "count: 1\n" in (models / "facemesh" / "config.pbtxt.before").read_text()
    assert "count: 2\n" in (models / "facemesh" / "config.pbtxt").read_text()
    assert write(models, MODEL, "--name", "other") == 0
    assert versions(models / "other") == [1]
    assert not [path for path in tmp_path.iterdir() if path != models]


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda place: place.write_text("x"), "is no folder; give one for the model repository with -o"),
        (lambda place: (place / "1").mkdir(parents=True), "is a model, not a repository; give the folder round it"),
        (
            lambda place: [place.mkdir(), (place.parent / "config.pbtxt").touch()],
            "is in a model's folder; give the repository round that with -o",
        ),
        (lambda place: (place / "facemesh").mkdir(parents=True), "is there and no model of Triton; move it away"),
        (
            lambda place: [
                (place / "facemesh" / "1").mkdir(parents=True),
                (place / "facemesh" / "config.pbtxt").write_text(""),
            ],
            "the model there has other inputs or outputs, its clients would fail; choose another --name",
        ),
    ],
)
def test_wrong_places_are_left_as_they_are(tmp_path, capsys, prepare, reason):
    place = tmp_path / "models"
    prepare(place)
    before = sorted(map(str, tmp_path.rglob("*")))
    assert write(place) == 1
    output = capsys.readouterr().err
    assert reason in output
    assert len(output.splitlines()) == 1
    assert sorted(map(str, tmp_path.rglob("*"))) == before


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a second file system")
def test_a_repository_may_lie_on_another_file_system(tmp_path):
    """Behind a link, or mounted at its own folder."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        (tmp_path / "models").symlink_to(Path(other, "models"))
        assert write(tmp_path / "models") == 0
        assert versions(Path(other, "models", "facemesh")) == [1]
        assert [path.name for path in Path(other).iterdir()] == ["models"]
    name = f"test-{uuid.uuid4().hex}"
    try:
        assert write("/dev/shm", MODEL, "--name", name) == 0
        assert versions(Path("/dev/shm", f"{name}_network")) == [1]
    finally:
        for folder in (name, f"{name}_network"):
            shutil.rmtree(Path("/dev/shm", folder))


def test_nothing_stays_of_a_version_that_could_not_be_finished(tmp_path, capsys, monkeypatch):
    models = tmp_path / "models"
    assert write(models) == 0
    before = tree(models)
    rename = os.rename

    def fail_for_the_second(source, target):
        if str(target).endswith("facemesh/2"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_for_the_second)
    assert write(models) == 1
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    assert tree(models) == before
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_wrong_models_are_refused_in_one_line(tmp_path, capsys, write_engine):
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(SHIPPED["fp32"].read_bytes()[:-10])
    damaged.with_name("damaged.onnx.json").write_bytes(ModelSpec.path_for(SHIPPED["fp32"]).read_bytes())
    bare = tmp_path / "bare.onnx"
    bare.write_bytes(SHIPPED["fp32"].read_bytes())
    orin, twin = write_engine("a.engine"), write_engine("twin.engine")
    rtx = write_engine("rtx.engine", library="tensorrt-rtx")
    large = write_engine("large.engine", ("8.9",), batch=(2, 4, 8))
    other = write_engine("other.engine", ("8.9",), batch=(1, 1, 4))
    newer = write_engine("b.engine", ("8.0+",)), write_engine("c.engine", ("8.9+",))
    two_dasl = dataclasses.replace(ModelSpec.load(ModelSpec.path_for(SHIPPED["fp16"])))
    two_dasl = dataclasses.replace(two_dasl, input=dataclasses.replace(two_dasl.input, landmark_channel=True))
    landmarks = write_engine("landmarks.engine", spec=two_dasl)
    random = write_engine("random.engine", spec=dataclasses.replace(two_dasl, untrained=True))
    cases = [
        ((tmp_path / "none.onnx",), "no model file there"),
        ((tmp_path / "none.engine",), "no engine file there"),
        ((tmp_path / "model.pt",), "no kind of model that Triton runs here; give an .onnx or .engine files"),
        ((MODEL, orin), "several files must be engines"),
        ((MODEL, MODEL), "several files must be engines"),
        ((bare,), "no model spec there"),
        ((damaged,), "export the model again"),
        ((rtx,), "an engine of tensorrt-rtx, which Triton has no backend for"),
        ((large,), "runs no fewer than 2 faces, and Triton sends one"),
        ((orin, twin), "the second engine for compute capability 8.7"),
        ((orin, other), "not the network of"),
        (newer, "several engines for newer devices, too"),
        ((random,), "its weights are random"),
        ((landmarks,), "takes landmarks beside the picture"),
    ]
    for models, reason in cases:
        assert write(tmp_path / "models", *models) == 1
        output = capsys.readouterr().err
        assert reason in output
        assert len(output.splitlines()) == 1
    assert not (tmp_path / "models").exists()
    assert write(tmp_path / "no" / "models") == 1
    assert "no such folder; make it first" in capsys.readouterr().err


def test_a_path_that_triton_does_not_start_in_is_told(tmp_path, capsys):
    assert write(tmp_path / "two words") == 0
    assert "move it to a path without spaces" in capsys.readouterr().out
    assert write(tmp_path / "words") == 0
    assert "move it" not in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        write("")


def test_names_that_are_no_names_are_wrong_usage(tmp_path):
    for name in ("", "../up", ".hidden", "a b", "x" * 65):
        with pytest.raises(SystemExit, match="2"):
            write(tmp_path / "models", MODEL, "--name", name)
