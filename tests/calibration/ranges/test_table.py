"""The table as a file, and the collection that fills it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import numpy_helper

from calibration.precision.graph_view import Graph
from calibration.precision.placement import calibrated_tensors
from calibration.ranges.collect import collect
from calibration.ranges.table import CalibrationTable, ChannelValues, TensorRange, choose_ranges
from runtime.errors import FaceMeshError
from tests.calibration.small import SIZE, small_network

TABLE = CalibrationTable(
    *("ab" * 32, "cd" * 32, 5, "mse", "cpu"),
    equalisation=(ChannelValues("relu", "1 0.5"),),
    means=(ChannelValues("image", "0.2 -0.1 0"),),
    ranges=(TensorRange("image", 1.0, 0.0), TensorRange("relu", 2.5, -0.5)),
)


def test_round_trip(tmp_path):
    TABLE.save(tmp_path / "t.json")
    assert CalibrationTable.load(tmp_path / "t.json", "ab" * 32) == TABLE


def test_table_of_another_model(tmp_path):
    TABLE.save(tmp_path / "t.json")
    with pytest.raises(
        FaceMeshError, match=r"t\.json: it was made for another model \(abababababab…, this one is efefefefefef…\)"
    ):
        CalibrationTable.load(tmp_path / "t.json", "ef" * 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["ranges"][1].update(amax=-1), "the range of relu must be finite and not negative, is -1"),
        (lambda d: d["ranges"][1].update(name="image"), "a tensor is named twice"),
        (lambda d: d.update(method="guess"), "field method must be one of"),
        (lambda d: d["ranges"][0].pop("amax"), "lacks fields: amax"),
        (
            lambda d: d["equalisation"][0].update(values="1 0"),
            "the channels of relu must have numbers, and in equalisation positive ones",
        ),
        (lambda d: d["equalisation"][0].update(values="1 x"), "the channels of relu must have numbers"),
        (lambda d: d["means"][0].update(values="1 inf 2"), "the channels of image must have numbers"),
    ],
)
def test_edited_tables_are_checked(tmp_path, change, message):
    TABLE.save(tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text())
    change(document)
    (tmp_path / "t.json").write_text(json.dumps(document))
    with pytest.raises(FaceMeshError, match=message):
        CalibrationTable.load(tmp_path / "t.json", "ab" * 32)


def test_collected_extremes_are_those_of_the_tensors():
    model = small_network()
    crops = [np.random.default_rng(seed).random((1, 3, SIZE, SIZE), np.float32) for seed in range(3)]
    collected = collect(
        model, ["image", "stem_relu_y", "outer_y"], crops, 3, averaged=["image", "shuffle_y"], threads=1
    )
    histograms = collected.histograms
    assert histograms["image"].maximum == max(crop.max() for crop in crops)
    assert histograms["stem_relu_y"].minimum == 0
    assert histograms["outer_y"].minimum < 0
    assert histograms["outer_y"].counts.sum() == 3 * 8 * 16 * 16
    assert [entry.name for entry in choose_ranges(histograms, "minmax", "cpu")] == ["image", "stem_relu_y", "outer_y"]
    np.testing.assert_allclose(collected.means["image"], np.concatenate(crops).mean(axis=(0, 2, 3)), rtol=1e-6)
    assert collected.means["shuffle_y"].shape == (8,)


def test_all_tensors_that_the_target_reads_are_calibrated():
    assert calibrated_tensors(Graph(small_network()), "cpu") == [
        *(
            "image",
            "stem_relu_y",
            "depth_relu_y",
            "point_relu_y",
            "inner_relu_y",
            "outer_y",
            "sum_relu_y",
            "phases_relu_y",
            "wide_relu_y",
        ),
    ]


def test_nan_activations_name_the_first_tensor():
    model = small_network()
    for tensor in model.graph.initializer:
        if tensor.name == "inner_b":
            tensor.CopyFrom(numpy_helper.from_array(np.full(8, np.nan, np.float32), "inner_b"))
    crops = [np.zeros((1, 3, SIZE, SIZE), np.float32)]
    with pytest.raises(FaceMeshError, match="crop 0: the tensor outer_y holds NaN or infinity"):
        collect(model, ["image", "point_relu_y", "outer_y"], crops, 1, threads=1)
