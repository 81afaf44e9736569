"""ONNX files at the door, and files that appear whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.precision.model_file import write_model
from export.graphs.foreign import at_opset
from export.graphs.model_file import derive_spec, load_onnx
from runtime.errors import FaceMeshError
from runtime.families.position_map import PositionMapOutput
from runtime.models.spec import ModelSpec
from runtime.storage.whole_files import file_sha256
from runtime.tensors import InputSpec

SPEC = ModelSpec(
    name="toy",
    family="position_map",
    input=InputSpec("image", 16, "NCHW", "RGB", (0.0, 1.0)),
    output=PositionMapOutput("position_map", 16, 17.6),
    crop_scale=1.6,
    topology="uv_topology.npz",
    precision="fp32",
    onnx_sha256="",
)


def toy(shape=("N", 3, 16, 16), opset=17, op="Sigmoid", domain="", output_shape=None):
    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "w")
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], "conv"),
        helper.make_node(op, ["c"], ["position_map"], "last", domain=domain),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
        for name, dims in (("image", shape), ("position_map", output_shape or shape))
    ]
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(
        helper.make_graph(nodes, "toy", ends[:1], ends[1:], [weight]), opset_imports=imports, ir_version=8
    )


def saved(tmp_path, model, **options):
    path = tmp_path / "model.onnx"
    onnx.save(model, str(path), **options)
    return path


def test_written_model_comes_back_with_its_spec(tmp_path):
    path = tmp_path / "model.onnx"
    spec = write_model(toy(), SPEC, path)
    assert spec.onnx_sha256 == file_sha256(path)
    assert ModelSpec.load(ModelSpec.path_for(path)) == spec
    model = load_onnx(path)[1]
    assert derive_spec(model, path, None) == spec


@pytest.mark.parametrize("content", [b"", b"not a model at all" * 9, b"\x08\x08\x12"], ids=["empty", "text", "cut off"])
def test_file_that_is_no_model(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(FaceMeshError, match=r"model.onnx: (not an|cannot be read as an) ONNX model"):
        load_onnx(path)
    with pytest.raises(FaceMeshError, match="no such file"):
        load_onnx(tmp_path / "other.onnx")


@pytest.mark.parametrize(("op", "domain"), [("FusedConv", "com.microsoft"), ("Unheard", ""), ("Sigmoid", "my.own")])
def test_operators_outside_the_standard_are_named(tmp_path, op, domain):
    with pytest.raises(FaceMeshError, match=f"outside the ONNX standard: {op}"):
        load_onnx(saved(tmp_path, toy(op=op, domain=domain)))


@pytest.mark.parametrize("name", ["", "same"])
def test_nodes_get_names_of_their_own(tmp_path, name):
    model = toy()
    for node in model.graph.node:
        node.name = name
    names = [node.name for node in load_onnx(saved(tmp_path, model))[1].graph.node]
    assert all(names)
    assert len({*names}) == 2


@pytest.mark.parametrize("held", ["fp32", "fp16"])
def test_precision_is_that_of_the_graph_whatever_the_spec_says(tmp_path, held):
    model = toy()
    if held == "fp16":
        weight = model.graph.initializer[0]
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), "w_half"))
        model.graph.node.insert(0, helper.make_node("Cast", ["w_half"], ["w"], "cast", to=TensorProto.FLOAT))
    path = saved(tmp_path, model)
    other = dataclasses.replace(SPEC, precision="fp16" if held == "fp32" else "fp32")
    assert derive_spec(load_onnx(path)[1], path, other).precision == held


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input": dataclasses.replace(SPEC.input, size=32)}, "input size 16 instead of 32"),
        ({"output": dataclasses.replace(SPEC.output, size=32)}, "output size 16 instead of 32"),
        ({"output": dataclasses.replace(SPEC.output, scale=16.0)}, "output scale 17.6 instead of 16"),
        ({"crop_scale": 1.5}, "crop scale 1.6 instead of 1.5"),
    ],
    ids=["input", "output", "scale", "crop"],
)
def test_spec_and_architecture_that_contradict_each_other_are_refused(tmp_path, change, words):
    path = tmp_path / "model.onnx"
    spec = write_model(toy(), SPEC, path)
    assert derive_spec(toy(), path, SPEC) == spec
    with pytest.raises(FaceMeshError, match=words):
        derive_spec(toy(), path, dataclasses.replace(SPEC, **change))


def test_invalid_graph_is_refused(tmp_path):
    model = toy()
    model.graph.node[1].input[0] = "nowhere"
    with pytest.raises(FaceMeshError, match="not a valid ONNX model"):
        load_onnx(saved(tmp_path, model))


def test_external_data_in_the_folder_is_read(tmp_path):
    path = saved(tmp_path, toy(), save_as_external_data=True, location="weights.bin", size_threshold=0)
    weight = numpy_helper.to_array(load_onnx(path)[1].graph.initializer[0])
    np.testing.assert_array_equal(weight.reshape(3, 3), np.eye(3))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(FaceMeshError, match="external data cannot be read"):
        load_onnx(path)


@pytest.mark.parametrize("how", ["parent", "absolute", "link"])
def test_external_data_outside_the_folder_is_refused(tmp_path, how):
    folder = tmp_path / "model"
    folder.mkdir()
    path = saved(folder, toy(), save_as_external_data=True, location="weights.bin", size_threshold=0)
    secret = tmp_path / "secret.bin"
    (folder / "weights.bin").rename(secret)
    if how == "link":
        (folder / "weights.bin").symlink_to(secret)
    else:
        model = onnx.load(str(path), load_external_data=False)
        entry = next(entry for entry in model.graph.initializer[0].external_data if entry.key == "location")
        entry.value = str(secret) if how == "absolute" else "../secret.bin"
        path.write_bytes(model.SerializeToString())
    with pytest.raises(FaceMeshError, match="outside the model's folder"):
        load_onnx(path)


@pytest.mark.parametrize(
    "shape", [("N", 3, "H", "W"), ("N", 3, 16, None), ("N", 1, 16, 16), ("N", 3, 16, 8), (3, 16, 16)], ids=str
)
def test_sizes_that_are_free_or_odd_are_refused(tmp_path, shape):
    if shape[1] != 3:
        model = toy()
        del model.graph.input[0].type.tensor_type.shape.dim[:]
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, shape))
    else:
        model = toy(shape)
    with pytest.raises(FaceMeshError, match=r"image has the shape \(.*only the batch may be free"):
        derive_spec(model, tmp_path / "model.onnx", SPEC)


def test_spec_of_a_model_without_one(tmp_path):
    path = saved(tmp_path, toy())
    with pytest.raises(FaceMeshError, match="no spec beside it; add --arch"):
        derive_spec(toy(), path, None)
    like = dataclasses.replace(
        SPEC, input=InputSpec("other", 16, "NCHW", "BGR", (-1.0, 1.0)), output=PositionMapOutput("map", 16, 99.0)
    )
    derived = derive_spec(toy(), path, like)
    assert derived.input == InputSpec("image", 16, "NCHW", "BGR", (-1.0, 1.0))
    assert derived.output == PositionMapOutput("position_map", 16, 99.0)
    channels_last = derive_spec(toy_channels_last(), path, like)
    assert (channels_last.input.layout, channels_last.input.size) == ("NHWC", 16)
    larger = dataclasses.replace(like, input=InputSpec("other", 256, "NCHW", "BGR", (-1.0, 1.0)))
    with pytest.raises(FaceMeshError, match=r"no network of --arch toy .input size 16 instead of 256."):
        derive_spec(toy(), path, larger)


def toy_channels_last():
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 16, 16, 3]) for name in ("image", "position_map")
    ]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["image"], ["position_map"])], "toy", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_spec_of_another_model_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    write_model(toy(), SPEC, path)
    path.write_bytes(toy(op="Tanh").SerializeToString())
    with pytest.raises(FaceMeshError, match="SHA-256"):
        derive_spec(load_onnx(path)[1], path, None)


@pytest.mark.parametrize(
    "change",
    [{"input": dataclasses.replace(SPEC.input, name="picture")}, {"output": dataclasses.replace(SPEC.output, size=32)}],
    ids=["name", "size"],
)
def test_spec_that_does_not_fit_the_graph_is_refused(tmp_path, change):
    path = tmp_path / "model.onnx"
    write_model(toy(), dataclasses.replace(SPEC, **change), path)
    with pytest.raises(FaceMeshError, match=r"its spec (names|wants)"):
        derive_spec(toy(), path, None)


def with_confidence(shape=("N", 1), kind=TensorProto.FLOAT, first=False):
    """`toy` with a second output."""
    model = toy()
    nodes = [
        helper.make_node("ReduceMean", ["position_map"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["mean"], ["sure"], axes=[1], keepdims=1),
    ]
    model.graph.node.extend(nodes)
    ends = [*model.graph.output, helper.make_tensor_value_info("sure", kind, shape)]
    del model.graph.output[:]
    model.graph.output.extend(ends[::-1] if first else ends)
    return model


def test_confidence_of_a_graph(tmp_path):
    path, spec = tmp_path / "model.onnx", dataclasses.replace(SPEC, confidence="sure")
    assert derive_spec(with_confidence(), path, SPEC) == spec  # without a spec beside it
    write_model(with_confidence(), spec, path)
    assert derive_spec(with_confidence(), path, None).confidence == "sure"
    assert derive_spec(with_confidence(), path, SPEC).confidence == "sure"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (toy(), "its spec names the output sure, the model has position_map"),
        (with_confidence(("N", 2)), r"the output sure has the shape \(N, 2\), its spec wants \(N, 1\)"),
        (with_confidence(kind=TensorProto.FLOAT16), "the output sure is not float32"),
        (with_confidence(first=True), "its outputs are sure, position_map; position_map must come first"),
    ],
    ids=["missing", "shape", "type", "order"],
)
def test_confidence_that_is_not_as_the_spec_says(tmp_path, model, message):
    path = tmp_path / "model.onnx"
    write_model(model, dataclasses.replace(SPEC, confidence="sure"), path)
    with pytest.raises(FaceMeshError, match=message):
        derive_spec(model, path, None)


def test_second_output_that_is_no_confidence(tmp_path):
    with pytest.raises(FaceMeshError, match=r"1 inputs and 2 outputs; .* one map is wanted, a confidence \(N, 1\) may"):
        derive_spec(with_confidence(("N", 2)), tmp_path / "model.onnx", SPEC)


@pytest.mark.parametrize("opset", [13, 17, 18, 12])
def test_opset_ends_between_13_and_17(opset):
    model = at_opset(toy(opset=opset))
    assert model.opset_import[0].version == (13 if opset == 13 else 17)
    onnx.checker.check_model(model, full_check=True)


def test_padding_of_opset_18_without_axes_means_the_same():
    pads = numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 0, 0, 0]), "pads")
    model = toy(opset=18)
    model.graph.initializer.append(pads)
    model.graph.node[1].CopyFrom(helper.make_node("Pad", ["c", "pads"], ["position_map"]))
    assert at_opset(model).opset_import[0].version == 17
    model.opset_import[0].version = 18
    model.graph.node[1].input.extend(["", "axes"])
    model.graph.initializer.append(numpy_helper.from_array(np.arange(4), "axes"))
    assert at_opset(model).opset_import[0].version == 18


@pytest.mark.parametrize("victim", ["model.onnx", "model.onnx.json"])
def test_full_disk_leaves_what_was_there(tmp_path, victim):
    path = tmp_path / "model.onnx"
    write_model(toy(), SPEC, path)
    before = {file.name: hashlib.sha256(file.read_bytes()).digest() for file in tmp_path.iterdir()}

    (tmp_path / f"{victim}.part").symlink_to("/dev/full")
    with pytest.raises(FaceMeshError, match="No space left"):
        write_model(toy(op="Tanh"), SPEC, path)
    assert {file.name: hashlib.sha256(file.read_bytes()).digest() for file in tmp_path.iterdir()} == before
