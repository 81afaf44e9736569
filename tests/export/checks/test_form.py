"""The form of the picture is checked on the shipped photograph, and read off files that scale pictures themselves."""

from __future__ import annotations

import dataclasses

import cv2
import pytest

pytest.importorskip("onnx")

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.__main__ import main
from export.checks.agreement import check_form
from export.checks.contact_sheet import TEXT_HEIGHT_PX, TILE_PX, write_contact_sheet
from export.graphs.own_range import own_colour_order, own_value_range
from runtime.errors import FaceMeshError
from runtime.models.shipped import SHIPPED_MODEL
from runtime.models.spec import ModelSpec, load_spec

EDGE_RANGE = (-127.5 / 128, 127.5 / 128)


def with_form(spec: ModelSpec, **changes) -> ModelSpec:
    return dataclasses.replace(spec, input=dataclasses.replace(spec.input, **changes))


def test_a_wrong_value_range_is_refused_and_the_right_one_named():
    spec = load_spec(SHIPPED_MODEL)
    model = onnx.load(SHIPPED_MODEL)
    assert check_form(model, spec).startswith("landmarks are 0.0 % of the box away")
    with pytest.raises(FaceMeshError, match=r"in RGB 0 to 255 give landmarks \d\d % .* in BGR -0\.99.* to 0\.99"):
        check_form(model, with_form(spec, colour_order="RGB", value_range=(0.0, 255.0)))
    assert "in BGR -0.996094 to 0.996094 0.0 %: look at --contact-sheet" in check_form(
        model, with_form(spec, colour_order="RGB")
    )


def test_a_model_that_finds_no_face_is_a_warning():
    model, spec = onnx.load(SHIPPED_MODEL), load_spec(SHIPPED_MODEL)
    text = check_form(model, dataclasses.replace(spec, crop_scale=4.0))
    assert text.startswith("warning: landmarks are ")
    assert "in every form of the picture; is it trained, and is --arch right?" in text


def test_contact_sheet_has_five_meshes(tmp_path):
    path = tmp_path / "sheet.png"
    write_contact_sheet(SHIPPED_MODEL, load_spec(SHIPPED_MODEL), path)
    sheet = cv2.imread(str(path))
    assert sheet.shape == (TILE_PX + TEXT_HEIGHT_PX, 5 * TILE_PX, 3)
    for tile in np.split(sheet[:TILE_PX], 5, axis=1):
        blue, green, _ = tile.astype(int).transpose(2, 0, 1)
        assert (green - blue > 60).sum() > 20  # lines of landmarks
    assert list(tmp_path.iterdir()) == [path]


def scaled(*steps: tuple[str, np.ndarray], constants_as_nodes: bool = False) -> onnx.ModelProto:
    """Return a model of arithmetic steps before a convolution."""
    nodes, tensors, name = [], [], "image"
    for index, (operator, value) in enumerate(steps):
        tensor = numpy_helper.from_array(np.float32(value), f"k{index}")
        if constants_as_nodes:
            nodes.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
        else:
            tensors.append(tensor)
        nodes.append(helper.make_node(operator, [name, tensor.name], [f"x{index}"]))
        name = f"x{index}"
    tensors.append(numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w"))
    nodes.append(helper.make_node("Conv", [name, "w"], ["y"]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("image", "y")]
    return helper.make_model(helper.make_graph(nodes, "scaled", values[:1], values[1:], tensors))


MEAN, STD = (np.float32(value).reshape(1, 3, 1, 1) for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
FILES = {
    "plain": ((), EDGE_RANGE, None),
    "of one": ((("Mul", 1.0),), EDGE_RANGE, None),
    "by 255": ((("Div", 255.0),), (0.0, 1.0), (0.0, 255.0)),
    "times 1/255": ((("Mul", 1 / 255),), (0.0, 1.0), (0.0, 255.0)),
    "3DDFA's": ((("Sub", 127.5), ("Div", 128.0)), EDGE_RANGE, (0.0, 255.0)),
    "3DDFA's, other constants": ((("Div", 127.5), ("Add", -1.0)), EDGE_RANGE, (0.0, 255.0)),
    "of 0 to 1": ((("Mul", 2.0), ("Sub", 1.0)), EDGE_RANGE, (0.0, 1.0)),
    "of -1 to 1": ((("Add", 1.0), ("Div", 2.0)), (0.0, 1.0), (-1.0, 1.0)),
    "ImageNet's on bytes": ((("Div", 255.0), ("Sub", MEAN), ("Div", STD)), (0.0, 1.0), (0.0, 255.0)),
    "something else": ((("Mul", 5.0),), (0.0, 1.0), None),
}


@pytest.mark.parametrize("constants_as_nodes", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_own_range(name, constants_as_nodes):
    steps, wanted, expected = FILES[name]
    assert own_value_range(scaled(*steps, constants_as_nodes=constants_as_nodes), wanted) == expected


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (FILES["ImageNet's on bytes"][0], "RGB"),
        ((("Sub", np.float32([103.9, 116.8, 123.7]).reshape(1, 3, 1, 1)),), "BGR"),
        ((("Sub", 127.5), ("Div", 128.0)), None),
        ((("Sub", np.float32([0.5, 0.5, 0.5]).reshape(1, 3, 1, 1)),), None),
        ((), None),
    ],
)
def test_own_colour_order(steps, expected):
    assert own_colour_order(scaled(*steps)) == expected


@pytest.mark.slow
def test_a_file_that_scales_pictures_itself_comes_in(tmp_path, capsys):
    """The shipped model with its normalisation inside: the command notices, and the meshes are the same."""
    model = onnx.load(SHIPPED_MODEL)
    name = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["normalised" if one == name else one for one in node.input]
    model.graph.initializer.extend(
        numpy_helper.from_array(np.float32(value), key) for key, value in (("own_mean", 127.5), ("own_scale", 128))
    )
    own = [
        helper.make_node("Sub", [name, "own_mean"], ["centred"], "own_sub"),
        helper.make_node("Div", ["centred", "own_scale"], ["normalised"], "own_div"),
    ]
    nodes = [*own, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "own.onnx")
    sheet = tmp_path / "sheet.jpg"
    arguments = ["--weights", tmp_path / "own.onnx", "--arch", "edge", "-o", tmp_path / "out.onnx"]
    assert main(["onnx", *map(str, arguments), "--contact-sheet", str(sheet)]) == 0
    out = capsys.readouterr().out
    assert "the file scales pictures itself: it takes 0 to 255, not --arch edge's range" in out
    assert "landmarks are 0.0 % of the box away from the shipped model's" in out
    assert ModelSpec.load(tmp_path / "out.onnx.json").input.value_range == (0.0, 255.0)
    assert sheet.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "mb05"], "the spec beside it is not that of --arch mb05 (family position_map instead of coeff"),
        (["--arch", "prnet"], "the spec beside it is not that of --arch prnet (input size 128 instead of 256, "),
        (["--value-range", "0", "1"], "--value-range: the spec beside it has it already; leave it out"),
        (["--whitening", "mean.npz"], "the spec beside it has mean and std of its numbers; leave --whitening"),
        (["--contact-sheet", "sheet.tiff"], "sheet.tiff: the contact sheet must become a .jpg or .png"),
        (["-o", "model.engine"], "then 'python -m export engine MODEL.onnx -o model.engine' builds the engine"),
    ],
)
def test_contradictions_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["onnx", "--weights", str(SHIPPED_MODEL), "-o", "out.onnx", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("mb05", "position_map has the shape (batch, 3, 64, 64), which is no output of --arch mb05; 62 numbers are"),
        ("2dasl", "a square of 4 channels with a fixed side is wanted"),
        ("prnet", "no network of --arch prnet (input size 128 instead of 256, output size 64 instead of 256)"),
    ],
)
def test_a_bare_file_of_another_network_is_refused(tmp_path, capsys, arch, message):
    bare = tmp_path / "bare.onnx"
    bare.write_bytes(SHIPPED_MODEL.read_bytes())
    assert main(["onnx", "--weights", str(bare), "--arch", arch, "-o", str(tmp_path / "out.onnx")]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
