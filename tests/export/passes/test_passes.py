"""Every pass keeps live outputs and leaves alone what it cannot rewrite exactly."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx_ir")

import onnx_ir as ir
from onnx import helper

from export.passes import (
    absorb_crop,
    absorb_padding,
    block_narrow,
    flip_transposed,
    fold_batch_norm,
    fold_constants,
    split_batch_norm,
    subpixel_transposed,
)
from tests.export.small_graphs import (
    assert_pass_is_exact,
    assert_pass_leaves_alone,
    conv_graph,
    norm_node,
    normalisation,
    weights,
)

node = helper.make_node
FAR = np.iinfo(np.int64).max


def padded(amounts, fill=0.0, stride=1, mode="constant", own=(0, 0, 0, 0)):
    constants = {"w": weights(5, 4, 4, 4), "pads": np.array(amounts), "fill": np.array(fill, np.float32)}
    conv = node("Conv", ["p", "w"], ["position_map"], strides=[stride, stride], pads=own)
    return conv_graph([node("Pad", ["image", "pads", "fill"], ["p"], mode=mode), conv], constants)


@pytest.mark.parametrize(("after", "stride"), [(1, 2), (2, 1)])
def test_same_padding_moves_into_the_convolution(after, stride):
    assert_pass_is_exact(absorb_padding, padded([0, 0, 1, 1, 0, 0, after, after], stride=stride), gone=["Pad"])


def test_uneven_padding_adds_to_the_convolutions_own():
    model = assert_pass_is_exact(absorb_padding, padded([0, 0, 1, 0, 0, 0, 2, 3], own=[1, 2, 0, 1]), gone=["Pad"])
    (pads,) = (list(attribute.ints) for attribute in model.graph.node[0].attribute if attribute.name == "pads")
    assert pads == [2, 2, 2, 4]


@pytest.mark.parametrize(
    "model",
    [
        padded([0, 0, 1, 1, 0, 0, 2, 2], fill=0.5),
        padded([0, 0, 1, 1, 0, 0, 2, 2], mode="reflect"),
        padded([0, 0, -1, 1, 0, 0, 2, 2]),
    ],
    ids=["another value", "reflection", "crop"],
)
def test_other_padding_stays(model):
    assert_pass_leaves_alone(absorb_padding, model)


def transposed(stride, pads=(0, 0, 0, 0), crops=(), kernel=4, bias=True, relu=False, **attributes):
    """ConvTranspose, then Slices given as (starts, ends, axes)."""
    constants = {"w": weights(4, 5, kernel, kernel), "b": weights(5)}
    nodes = [
        node("ConvTranspose", ["image", "w", *["b"][:bias]], ["t0"], strides=[stride, stride], pads=pads, **attributes)
    ]
    for index, bounds in enumerate(crops):
        names = [f"{name}{index}" for name in ("starts", "ends", "axes")]
        constants.update({name: np.array(values) for name, values in zip(names, bounds, strict=True)})
        nodes.append(node("Slice", [f"t{index}", *names], [f"t{index + 1}"]))
    nodes.append(node("Relu" if relu else "Tanh", [f"t{len(crops)}"], ["last"]))
    nodes.append(node("Tanh", ["last"], ["position_map"]))
    return conv_graph(nodes, constants)


@pytest.mark.parametrize(
    "crops",
    [
        [([0], [-1], [2]), ([0], [-1], [3])],
        [([1, 1], [FAR, -2], [2, 3])],
        [([-13], [FAR], [-1])],
        [([0, 2], [12, 2**31 - 1], [2, 3])],
    ],
    ids=["one axis after the other", "uneven", "counted from the end", "absolute"],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_crop_becomes_padding_of_the_transposed_convolution(stride, crops):
    assert_pass_is_exact(absorb_crop, transposed(stride, crops=crops), gone=["Slice"])


@pytest.mark.parametrize("crops", [[([0], [4], [1])], [([0], [-1], [0])]], ids=["channels", "batch"])
def test_cut_of_other_axes_stays(crops):
    assert_pass_leaves_alone(absorb_crop, transposed(1, crops=crops))


def test_crop_stays_where_somebody_else_reads_the_whole():
    nodes = [node("ConvTranspose", ["image", "w"], ["t"]), node("Slice", ["t", "s", "e", "a"], ["c"])]
    nodes += [node("ReduceMean", ["t"], ["m"], axes=[2, 3]), node("Add", ["c", "m"], ["position_map"])]
    constants = {"w": weights(4, 5, 4, 4), "s": np.array([0]), "e": np.array([-1]), "a": np.array([2])}
    assert_pass_leaves_alone(absorb_crop, conv_graph(nodes, constants))


@pytest.mark.parametrize(
    ("pads", "kernel", "bias"), [((1, 1, 1, 1), 4, False), ((1, 0, 2, 3), 4, True), ((0, 0, 0, 0), 3, True)]
)
def test_transposed_convolution_of_stride_1_becomes_a_convolution(pads, kernel, bias):
    assert_pass_is_exact(flip_transposed, transposed(1, pads, kernel=kernel, bias=bias), gone=["ConvTranspose"])


@pytest.mark.parametrize("options", [{"dilations": [2, 2]}, {"pads": (4, 0, 0, 0)}, {"stride": 2}], ids=str)
def test_other_transposed_convolutions_are_not_flipped(options):
    assert_pass_leaves_alone(flip_transposed, transposed(**{"stride": 1, **options}))


@pytest.mark.parametrize(("rewrite", "stride"), [(flip_transposed, 1), (subpixel_transposed, 2)])
def test_groups_of_a_transposed_convolution_stay(rewrite, stride):
    """Their weights (4, 3, 4, 4) read two channels each, in place of (4, 6, 4, 4)."""
    layer = node("ConvTranspose", ["image", "w"], ["position_map"], group=2, strides=[stride, stride])
    assert_pass_leaves_alone(rewrite, conv_graph([layer], {"w": weights(4, 3, 4, 4)}))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("stride", "kernel", "pads"),
    [(2, 4, (1, 1, 1, 1)), (2, 4, (0, 0, 0, 0)), (2, 4, (0, 1, 2, 3)), (2, 2, (0, 0, 0, 0)), (3, 6, (1, 2, 2, 1))],
)
def test_transposed_convolution_of_larger_stride_becomes_phases(stride, kernel, pads, relu):
    model = assert_pass_is_exact(
        subpixel_transposed, transposed(stride, pads, kernel=kernel, relu=relu), gone=["ConvTranspose"]
    )
    types = [item.op_type for item in model.graph.node]
    assert types[:2] == (["Conv", "Relu"] if relu else ["Conv", "Reshape"])


@pytest.mark.parametrize("options", [{"kernel": 3}, {"output_padding": [1, 1]}, {"stride": 1}], ids=str)
def test_other_transposed_convolutions_are_not_split(options):
    assert_pass_leaves_alone(subpixel_transposed, transposed(**{"stride": 2, **options}))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("layer", "shape", "groups"),
    [
        ("Conv", (6, 4, 3, 3), 1),
        ("Conv", (6, 2, 3, 3), 2),
        ("ConvTranspose", (4, 6, 3, 3), 1),
        ("ConvTranspose", (4, 3, 3, 3), 2),
    ],
)
def test_normalisation_folds_into_the_layer_before(layer, shape, groups, bias):
    nodes = [node(layer, ["image", "w", *["b"][:bias]], ["c"], group=groups), norm_node("c", "position_map")]
    assert_pass_is_exact(
        fold_batch_norm,
        conv_graph(nodes, {"w": weights(*shape), "b": weights(6), **normalisation(6)}),
        gone=["BatchNormalization"],
    )


def test_layers_that_share_a_weight_are_folded_apart():
    nodes = [
        node("Conv", ["image", "w"], ["c1"]),
        norm_node("c1", "n1", "n"),
        node("Conv", ["n1", "w"], ["c2"]),
        norm_node("c2", "position_map", "m"),
    ]
    constants = {"w": weights(4, 4, 3, 3), **normalisation(4, "n", 1), **normalisation(4, "m", 2)}
    assert_pass_is_exact(fold_batch_norm, conv_graph(nodes, constants), gone=["BatchNormalization"])


def test_normalisation_stays_where_the_layer_has_another_reader():
    nodes = [node("Conv", ["image", "w"], ["c"]), norm_node("c", "n"), node("Add", ["c", "n"], ["position_map"])]
    assert_pass_leaves_alone(fold_batch_norm, conv_graph(nodes, {"w": weights(4, 4, 3, 3), **normalisation(4)}))


def residual(identity=False, shared=False):
    nodes = [node("Conv", ["image", "w"], ["a"]), node("Conv", ["image", "v", "c"], ["b"], pads=[0, 0, 0, 0])]
    right = "image" if identity else "a" if shared else "b"
    nodes = nodes[:1] if identity or shared else nodes
    constants = {"w": weights(4, 4, 1, 1), "v": weights(4, 4, 1, 1, seed=3), "c": weights(4), **normalisation(4)}
    return conv_graph([*nodes, node("Add", ["a", right], ["s"]), norm_node("s", "position_map")], constants)


def test_normalisation_is_split_over_the_two_convolutions_of_a_sum():
    assert_pass_is_exact(split_batch_norm, residual(), gone=["BatchNormalization"])


@pytest.mark.parametrize("options", [{"identity": True}, {"shared": True}], ids=str)
def test_normalisation_of_other_sums_stays(options):
    assert_pass_leaves_alone(split_batch_norm, residual(**options))


def narrow(
    kernels=((4, (2, 2, 1, 1)), (4, (2, 1, 1, 2)), (3, (1, 1, 1, 1))), relu=True, channels=3, bias=True, side=12
):
    nodes, constants, source, channels_in = [], {}, "image", 4
    for index, (kernel, pads) in enumerate(kernels):
        constants |= {
            f"w{index}": 2 * weights(channels, channels_in, kernel, kernel, seed=index),
            f"b{index}": weights(channels, seed=index),
        }
        nodes.append(node("Conv", [source, f"w{index}", *[f"b{index}"][:bias]], [f"c{index}"], pads=pads))
        if relu:
            nodes.append(node("Relu", [f"c{index}"], [f"r{index}"]))
        source, channels_in = nodes[-1].output[0], channels
    return conv_graph([*nodes, node("Tanh", [source], ["position_map"])], constants, side=side)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_narrow_convolutions_compute_blocks(count, relu, bias):
    kernels = ((4, (2, 2, 1, 1)), (4, (2, 1, 1, 2)), (3, (1, 1, 1, 1)))[:count]
    model = assert_pass_is_exact(block_narrow, narrow(kernels, relu, bias=bias))
    assert [item.op_type for item in model.graph.node].count("Transpose") == 2


@pytest.mark.parametrize("options", [{"channels": 5}, {"side": 13}, {"kernels": ((4, (0, 0, 0, 0)),)}], ids=str)
def test_other_convolutions_do_not(options):
    assert_pass_leaves_alone(block_narrow, narrow(**options))


def test_computed_padding_becomes_a_constant():
    """As exporters write F.pad: amounts by dimension from the last, turned round by reshape, reversal and transpose."""
    constants = {
        "amounts": np.array([1, 2, 1, 2, 0, 0, 0, 0]),
        "two": np.array([-1, 2]),
        "flat": np.array([-1]),
        "w": weights(4, 4, 4, 4),
    }
    constants |= {"start": np.array([-1]), "end": np.array([-FAR]), "axis": np.array([0]), "step": np.array([-1])}
    nodes = [
        node("Reshape", ["amounts", "two"], ["rows"]),
        node("Slice", ["rows", "start", "end", "axis", "step"], ["reversed"]),
        node("Transpose", ["reversed"], ["columns"], perm=[1, 0]),
        node("Reshape", ["columns", "flat"], ["pads"]),
        node("Identity", ["image"], ["same"]),
        node("Pad", ["same", "pads"], ["p"]),
        node("Conv", ["p", "w"], ["position_map"]),
    ]
    model = assert_pass_is_exact(
        fold_constants, conv_graph(nodes, constants), gone=["Reshape", "Slice", "Transpose", "Identity"]
    )
    assert_pass_is_exact(absorb_padding, model, gone=["Pad"])


@pytest.mark.parametrize(
    "random",
    [
        node("RandomNormal", [], ["random"], shape=[1, 4, 1, 1]),
        node("RandomUniform", [], ["random"], shape=[1, 4, 1, 1]),
        node("RandomNormalLike", ["half"], ["random"]),
        node("RandomUniformLike", ["half"], ["random"]),
        node("Bernoulli", ["half"], ["random"]),
        node("Multinomial", ["half"], ["random"]),
    ],
    ids=lambda random: random.op_type,
)
def test_random_numbers_are_not_drawn_once_for_all(random):
    """All their inputs are constants, and yet every run has others."""
    nodes = [random, node("Add", ["image", "random"], ["position_map"])]
    model = ir.from_proto(conv_graph(nodes, {"half": np.full((1, 4, 1, 1), 0.5, np.float32)}))
    assert not fold_constants.run(model)
    assert [node.op_type for node in model.graph] == [random.op_type, "Add"]


def test_scalars_stay_scalars_when_folded():
    nodes = [
        node("Neg", ["minus"], ["one"]),
        node("Unsqueeze", ["one", "first"], ["start"]),
        node("Slice", ["image", "start", "far", "rows"], ["position_map"]),
    ]
    constants = {"minus": np.array(-1), "first": np.array([0]), "far": np.array([FAR]), "rows": np.array([2])}
    model = assert_pass_is_exact(fold_constants, conv_graph(nodes, constants), gone=["Neg", "Unsqueeze"])
    assert len(model.graph.node) == 1
