"""Figures of graphs, worked out by hand; and the measure of differences."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import helper

from export.graphs.summary import summarise, table
from export.graphs.verify import compare, require_live, run_model, verification_images
from runtime.errors import FaceMeshError
from runtime.tensors import InputSpec
from tests.export.small_graphs import conv_graph, weights


def test_arithmetic_of_every_weighted_operator():
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], group=2, strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["a", "v"], ["b"], strides=[2, 2]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "m"], ["d"], transB=1),
        helper.make_node("MatMul", ["d", "n"], ["position_map"]),
    ]
    constants = {"w": weights(6, 2, 3, 3), "v": weights(6, 5, 2, 2), "m": weights(7, 720), "n": weights(7, 8)}
    summary = summarise(conv_graph(nodes, constants))
    conv, transposed = 6 * 6 * 6 * 2 * 9, 6 * 6 * 6 * 5 * 4
    assert summary.gflop * 1e9 == pytest.approx(2 * (conv + transposed + 720 * 7 + 7 * 8))
    assert summary.parameters == 6 * 2 * 9 + 6 * 5 * 4 + 7 * 720 + 56
    assert summary.operators == {"Conv": 1, "ConvTranspose": 1, "Flatten": 1, "Gemm": 1, "MatMul": 1}
    lines = table({"before": summary, "after": summary}).splitlines()
    assert lines[0].split() == ["before", "after"]
    assert lines[1].split() == ["nodes", "5", "5"]
    assert len({len(line) for line in lines}) == 1


def test_unknown_shapes_are_not_called_zero():
    nodes = [
        helper.make_node("Shape", ["image"], ["s"]),
        helper.make_node("Reshape", ["image", "dims"], ["r"]),
        helper.make_node("NonZero", ["r"], ["z"]),
        helper.make_node("Cast", ["z"], ["f"], to=1),
        helper.make_node("MatMul", ["f", "w"], ["position_map"]),
    ]
    summary = summarise(conv_graph(nodes, {"dims": np.array([-1, 12]), "w": weights(5, 5)}))
    assert summary.gflop is None
    assert "–" in table({"model": summary})


def test_difference_is_measured_in_crop_pixels(make_spec):
    spec = make_spec(map_size=64)
    maps = np.random.default_rng(0).random((2, 3, 64, 64)).astype(np.float32)
    moved = maps + np.array([3, 4, 0], np.float32)[:, None, None] / np.float32(spec.output.scale)
    difference = compare(maps, moved, spec)
    for value in (difference.mean_px, difference.p99_px, difference.max_px, difference.landmarks_px):
        assert value == pytest.approx(5, rel=1e-4)
    assert difference.largest == pytest.approx(4 / spec.output.scale, rel=1e-4)


@pytest.mark.parametrize(("layout", "value_range"), [("NCHW", (0.0, 1.0)), ("NHWC", (-1.0, 1.0))])
def test_pictures_are_a_face_and_noise_in_the_models_own_form(layout, value_range):
    images = verification_images(InputSpec("image", 128, layout, "RGB", value_range), 1.5)
    assert images.shape == ((4, 3, 128, 128) if layout == "NCHW" else (4, 128, 128, 3))
    assert images.min() >= value_range[0]
    assert images.max() <= value_range[1]
    assert all(np.abs(one - other).mean() > 0.02 for one, other in zip(images, images[1:], strict=False))
    other = verification_images(
        InputSpec("image", 128, "NHWC" if layout == "NCHW" else "NCHW", "RGB", value_range), 1.5
    )
    np.testing.assert_array_equal(
        images, other.transpose(0, 3, 1, 2) if layout == "NCHW" else other.transpose(0, 2, 3, 1)
    )


@pytest.mark.parametrize(
    ("outputs", "message"), [(np.full((4, 3, 64, 64), 0.5), "hardly depends"), (np.full((4, 3, 64, 64), np.nan), "NaN")]
)
def test_dead_outputs_are_refused(make_spec, outputs, message):
    with pytest.raises(FaceMeshError, match=message):
        require_live(outputs.astype(np.float32), make_spec(), "model.pt")


def test_model_of_a_fixed_batch_gets_portions():
    model = conv_graph([helper.make_node("Conv", ["image", "w"], ["position_map"])], {"w": weights(4, 4, 3, 3)})
    images = np.random.default_rng(0).normal(size=(5, 4, 12, 12)).astype(np.float32)
    expected = run_model(model, images, "position_map")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    np.testing.assert_allclose(run_model(model, images, "position_map"), expected, atol=1e-6)
