"""The roofline: hand-computed layers, real graphs, the devices' data, the fit, and the command."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from benchmarks.__main__ import main
from benchmarks.roofline.expected_time import default_fit, fit, left_out_ratios
from benchmarks.roofline.gpu_figures import GpuFigures, all_gpus, find_gpus
from benchmarks.roofline.layers import Layer, model_layers, read_layers
from benchmarks.roofline.least_time import layer_time, least_time
from benchmarks.roofline.measured_times import Measurement, measurements, network_layers, network_names
from benchmarks.roofline.roofline import markdown_table, open_network, roofline
from benchmarks.roofline.whole_frame import frame_time
from export.graphs.summary import summarise
from tests.standins.networks import live_mb05
from training.networks import create_network

# 10 TFLOPS FP16, 20 TOPS INT8, 1 TFLOPS on plain cores, 100 GB/s
ROUND = GpuFigures("round", "Round numbers", "discrete", "0.0", 1.0, 10.0, 20.0, 100.0, True, "made up")
PLAIN = dataclasses.replace(ROUND, id="plain", family="jetson", fp16_tflops=2.0, int8_tops=None, tensor_cores=False)


def convolution(channels_in: int, channels_out: int, kernel: int, side: int, groups: int = 1) -> Layer:
    """Stride 1, SAME padding."""
    pixels = side * side
    weights = channels_out * channels_in // groups * kernel * kernel
    sizes = {"weights": weights, "inputs": channels_in * pixels, "outputs": channels_out * pixels}
    return Layer("c", "Conv", groups, channels_in // groups, channels_out // groups, pixels * kernel * kernel, **sizes)


def test_a_convolution_bound_by_arithmetic():
    time = layer_time(convolution(64, 128, 3, 32), ROUND, "fp16")
    # 32·32·9·64·128 = 75,497,472 multiply-adds; 73,728 weights, 65,536 + 131,072 activations of 2 bytes
    assert time.arithmetic_ms == pytest.approx(2 * 75_497_472 / 10e12 * 1e3)
    assert time.weights_ms == pytest.approx(73_728 * 2 / 100e9 * 1e3)
    assert time.traffic_ms == pytest.approx(270_336 * 2 / 100e9 * 1e3)
    assert time.least_ms == time.cached_ms == time.arithmetic_ms


def test_tensor_cores_pad_channels_and_plain_cores_do_not():
    layer = convolution(3, 16, 4, 256)  # 256·256·16 = 1,048,576 positions
    assert layer_time(layer, ROUND, "fp16").arithmetic_ms == pytest.approx(2 * 1_048_576 * 8 * 16 / 10e12 * 1e3)
    assert layer_time(layer, ROUND, "int8").arithmetic_ms == pytest.approx(2 * 1_048_576 * 32 * 32 / 20e12 * 1e3)
    assert layer_time(layer, ROUND, "fp32").arithmetic_ms == pytest.approx(2 * 1_048_576 * 3 * 16 / 1e12 * 1e3)
    assert layer_time(layer, PLAIN, "fp16").arithmetic_ms == pytest.approx(2 * 1_048_576 * 3 * 16 / 2e12 * 1e3)
    assert layer_time(layer, ROUND, "int8").traffic_ms == pytest.approx((768 + 19 * 65_536) / 100e9 * 1e3)  # not padded


def test_a_matrix_product_bound_by_its_weights():
    layer = Layer("g", "Gemm", 1, 512, 12_288, 1, weights=512 * 12_288, inputs=512, outputs=12_288)
    one, eight = (layer_time(layer, ROUND, "fp16", batch) for batch in (1, 8))
    assert one.least_ms == pytest.approx(2 * (6_291_456 + 12_800) / 100e9 * 1e3)
    assert one.cached_ms == pytest.approx(2 * 6_291_456 / 100e9 * 1e3)
    assert eight.traffic_ms == pytest.approx(2 * (6_291_456 + 8 * 12_800) / 100e9 * 1e3)  # weights once
    assert eight.arithmetic_ms == pytest.approx(8 * one.arithmetic_ms)


def test_depthwise_layers_run_on_plain_cores_without_padding():
    layer = convolution(256, 256, 3, 8, groups=256)
    for precision in ("fp16", "int8"):
        assert layer_time(layer, ROUND, precision).arithmetic_ms == pytest.approx(2 * 8 * 8 * 9 * 256 / 1e12 * 1e3)


def test_a_sum_over_layers_takes_the_longer_of_both_in_each():
    layers = [convolution(64, 128, 3, 32), convolution(3, 3, 1, 256)]
    least = least_time(layers, ROUND, "fp16")
    assert least.least_ms == pytest.approx(least.layers[0].arithmetic_ms + least.layers[1].traffic_ms)
    assert least.least_ms > max(least.arithmetic_ms, least.traffic_ms)
    assert least.cached_ms < least.least_ms
    assert least_time(layers, PLAIN, "int8") is None
    assert least_time(layers, dataclasses.replace(PLAIN, fp16_tflops=None), "fp16").precision == "fp32"


def small_model(kind: int = TensorProto.FLOAT, side: int | None = 16) -> onnx.ModelProto:
    """(N, 6, 16, 16): depthwise 3×3, transposed 4×4 of stride 2 to 8 channels, flattened, Gemm to 5."""
    shapes = {"depthwise": (6, 1, 3, 3), "transposed": (6, 8, 4, 4), "gemm": (5, 8 * 32 * 32)}
    held = [
        numpy_helper.from_array(np.zeros(shape, helper.tensor_dtype_to_np_dtype(kind)), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["image", "depthwise"], ["a"], name="depthwise", group=6, pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("ConvTranspose", ["b", "transposed"], ["c"], name="transposed", strides=[2, 2], pads=[1] * 4),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "gemm"], ["result"], name="gemm", transB=1),
    ]
    values = [
        helper.make_tensor_value_info("image", kind, ["N", 6, side or "H", side or "W"]),
        helper.make_tensor_value_info("result", kind, None),
    ]
    graph = helper.make_graph(nodes, "small", values[:1], values[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def quantised(model: onnx.ModelProto, *names: str) -> onnx.ModelProto:
    """Q/DQ before both inputs of the named layers."""
    nodes = []
    for node in model.graph.node:
        for i in (0, 1) if node.name in names else ():
            nodes.append(helper.make_node("QuantizeLinear", [node.input[i], "scale", "zero"], [f"{node.name}_q{i}"]))
            nodes.append(
                helper.make_node("DequantizeLinear", [f"{node.name}_q{i}", "scale", "zero"], [f"{node.name}_dq{i}"])
            )
            node.input[i] = f"{node.name}_dq{i}"
        nodes.append(node)
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.int8(0), "zero")]
    )
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return model


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_layers_are_read_from_a_graph(kind):
    assert model_layers(small_model(kind), "small") == [
        Layer("depthwise", "Conv", 6, 1, 1, 16 * 16 * 9, weights=54, inputs=1536, outputs=1536),
        Layer("transposed", "ConvTranspose", 1, 6, 8, 16 * 16 * 16, weights=768, inputs=1536, outputs=8192),
        Layer("gemm", "Gemm", 1, 8192, 5, 1, weights=40_960, inputs=8192, outputs=5),
    ]


def test_the_arithmetic_is_that_of_inspect():
    model = small_model()
    assert 2 * sum(layer.multiply_adds for layer in model_layers(model, "small")) / 1e9 == pytest.approx(
        summarise(model).gflop
    )


def test_layers_without_quantisers_stay_float_in_a_quantised_model():
    layers = model_layers(quantised(small_model(), "transposed", "gemm"), "small")
    assert [layer.is_quantised for layer in layers] == [False, True, True]
    assert [layer.weights for layer in layers] == [54, 768, 40_960]
    assert [time.precision for time in least_time(layers, ROUND, "int8").layers] == ["fp16", "int8", "int8"]
    assert [time.precision for time in least_time(layers, ROUND, "fp16").layers] == ["fp16"] * 3


FIELD_NOTES_MS = {  # least time of PRNet in FP16 (FP32 on the GTX 1080), computed independently of this code
    **{
        "nano": 17.8,
        "tx2": 6.4,
        "xavier-nx": 1.8,
        "agx-xavier": 0.94,
        "orin-nano": 1.4,
        "orin-nano-super": 0.91,
        "orin-nx": 0.95,
    },
    **{"agx-orin": 0.43, "thor": 0.29, "gtx-1080": 1.05, "rtx-3060": 0.27, "rtx-4090": 0.08, "h200": 0.018},
}


@pytest.mark.parametrize(("device", "ms"), FIELD_NOTES_MS.items())
def test_prnet_takes_what_was_computed_before(device, ms):
    least = least_time(network_layers("prnet"), find_gpus([device])[0], "fp16")
    assert least.least_ms == pytest.approx(ms, rel=0.03)
    assert least.cached_ms < least.least_ms


def test_prnet_on_file_is_the_network():
    with torch.device("meta"):  # shapes without numbers
        network, image = create_network("prnet").eval(), torch.zeros(1, 3, 256, 256)
    traced = []

    def trace(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        pixels = (inputs[0] if isinstance(module, nn.ConvTranspose2d) else output)[0, 0].numel()
        positions = pixels * module.kernel_size[0] ** 2
        traced.append((module.in_channels, module.out_channels, positions, module.weight.numel(), inputs[0].numel()))

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(trace)
    with torch.no_grad():
        network(image)
    on_file = [
        (layer.channels_in, layer.channels_out, layer.positions, layer.weights, layer.inputs)
        for layer in network_layers("prnet")
    ]
    assert sorted(on_file) == sorted(traced)


def test_the_edge_model_on_file_is_the_shipped_one(repository):
    shipped = read_layers(repository / "runtime" / "assets" / "edge.onnx")
    nameless = [
        sorted(dataclasses.astuple(layer)[1:] for layer in layers) for layers in (shipped, network_layers("edge"))
    ]
    assert nameless[0] == nameless[1]


@pytest.mark.slow
def test_mb05_on_file_is_the_network(tmp_path):
    onnx = pytest.importorskip("onnx")
    from export.graphs.to_onnx import to_onnx

    onnx.save(to_onnx(live_mb05(), "mb05"), tmp_path / "mb05.onnx")
    exported = read_layers(tmp_path / "mb05.onnx")
    nameless = [
        sorted(dataclasses.astuple(layer)[1:] for layer in layers) for layers in (exported, network_layers("mb05"))
    ]
    assert nameless[0] == nameless[1]


@pytest.mark.parametrize(
    ("network", "gmac", "parameters_m"),
    [
        *[
            ("prnet", 4.13, 13.35),
            ("resnet18", 1.81, 11.7),
            ("resnet50", 4.09, 25.6),
            ("mobilenet_v1", 0.569, 4.2),
            ("mobilenet_v2", 0.30, 3.5),
        ],
        *[("yolov8n", 8.7 / 2, 3.2), ("yolo11n", 6.5 / 2, 2.6), ("yolo11s", 21.5 / 2, 9.4), ("yolox_s", 26.8 / 2, 9.0)],
    ],
)
def test_networks_on_file_have_the_published_size(network, gmac, parameters_m):
    layers = network_layers(network)
    assert sum(layer.multiply_adds for layer in layers) / 1e9 == pytest.approx(gmac, rel=0.02)
    assert sum(layer.weights for layer in layers) / 1e6 == pytest.approx(parameters_m, rel=0.02)


@pytest.mark.parametrize("device", all_gpus(), ids=lambda device: device.id)
def test_throughput_follows_from_units_and_clock(device):
    """The products in the sources: plain cores × 2 × GHz, or multiprocessors × operations per clock × GHz.

    Sparse figures would be twice that.
    """
    units = re.search(r"(\d+)(?: cores)? x (\d+) x ([\d.]+) GHz", device.source)
    if units:  # one says: as another device
        expected = float(units[1]) * float(units[2]) * float(units[3]) / 1000
        assert (device.fp16_tflops if device.tensor_cores else device.fp32_tflops) == pytest.approx(expected, rel=0.03)
    if device.tensor_cores:
        assert device.int8_tops == pytest.approx(2 * device.fp16_tflops, rel=0.02)
    assert device.family in ("jetson", "discrete")
    assert device.source
    assert device.gigabytes_per_s > 20


def test_devices_are_found_by_id_and_family():
    assert [device.id for device in find_gpus(["t4", "nano"])] == ["nano", "t4"]
    assert {device.family for device in find_gpus(["jetson"])} == {"jetson"}
    assert len(find_gpus(["jetson"])) == 9
    assert find_gpus([]) == list(all_gpus())


def made_up_measurements(slower: str | None = None) -> list[Measurement]:
    """Return times by the formula: efficiencies 0.5 and 0.25, 0.02 and 0.005 ms per layer, 0.7 ms for a Python loop.

    The device ``slower`` takes twice as long.
    """
    devices, found = [], []
    for base, family, i in itertools.product((ROUND, PLAIN), ("jetson", "discrete"), range(2)):
        devices.append(dataclasses.replace(base, id=f"{base.id}{i}", family=family, gigabytes_per_s=100.0 / (i + 1)))
    for device in devices:
        for layers in ([convolution(64, 128, 3, 32)] * 9, [convolution(16, 16, 3, 64)] * 40):
            least = least_time(layers, device, "fp16")
            ms = least.least_ms / (0.25 if device.tensor_cores else 0.5) + len(layers) * (
                0.02 if device.family == "jetson" else 0.005
            )
            ms *= 2 if device.id == slower else 1
            found.append(Measurement("made up", ms, least))
            if not device.tensor_cores:
                found.append(Measurement("made up", ms + 0.7, least, in_python=True))
    return found


def test_the_fit_finds_the_numbers_behind_the_times():
    found = made_up_measurements()
    result = fit(found)
    assert (result.plain_efficiency, result.tensor_efficiency) == pytest.approx((0.5, 0.25))
    assert (result.jetson_layer_ms, result.discrete_layer_ms) == pytest.approx((0.02, 0.005))
    assert result.python_loop_ms == pytest.approx(0.7)
    assert (result.lowest_ratio, result.highest_ratio) == pytest.approx((1, 1))
    expected = result.expect(found[0].least)
    assert (expected.low_ms, expected.ms, expected.high_ms) == pytest.approx((found[0].ms,) * 3)


def test_the_band_shows_a_device_that_the_others_do_not_predict():
    found = made_up_measurements(slower="round0")
    slow = {m.least.device for m in found if m.least.device.id == "round0"}
    assert all(ratio > 1.5 for device in slow for ratio in left_out_ratios(found, device) if device.family == "jetson")
    assert fit(found).highest_ratio > 1.5


def test_every_published_time_is_above_the_least_and_near_the_expected():
    found, result = measurements(), default_fit()
    assert len(found) == 49
    assert len({m.least.device for m in found}) == 11
    for m in found:
        expected = result.expect(m.least)
        ms = m.ms - (result.python_loop_ms if m.in_python else 0)
        assert m.least.least_ms < m.ms, (m.network, m.least.device.id)
        assert expected.low_ms <= ms <= expected.high_ms, (m.network, m.least.device.id)
    assert 0.45 < result.lowest_ratio < 1 < result.highest_ratio < 2.2


def test_times_through_loops_in_python_have_a_constant_of_their_own():
    """A cost of a layer that had to explain them, too, would be twice as high."""
    found = measurements()
    assert sum(m.in_python for m in found) == 17
    blind = fit([dataclasses.replace(m, in_python=False) for m in found])
    assert default_fit().python_loop_ms > 0.5
    assert blind.jetson_layer_ms > 1.5 * default_fit().jetson_layer_ms


def test_yunet_on_file_is_the_shipped_one(repository):
    shipped = read_layers(repository / "runtime" / "assets" / "face_detection_yunet_2023mar.onnx")
    nameless = [
        sorted(dataclasses.astuple(layer)[1:] for layer in layers) for layers in (shipped, network_layers("yunet"))
    ]
    assert nameless[0] == nameless[1]


@pytest.mark.parametrize("device", [device for device in all_gpus() if device.cannot_run is None], ids=lambda d: d.id)
def test_a_whole_frame_is_the_sum_of_its_parts(device):
    time = frame_time(network_layers("edge"), device, "fp16")
    shares_memory = device.family == "jetson"
    assert (time.copies_ms == 0) == shares_memory == (device.host_gigabytes_per_s is None)
    assert time.tracked.ms == pytest.approx(time.network.ms + time.kernels.ms + time.copies_ms + time.host_ms)
    assert time.detected.ms == pytest.approx(time.tracked.ms + time.detection.ms)
    assert 0 < time.kernels.ms < time.network.ms < time.tracked.ms < time.detected.ms
    if time.host_detection_ms is not None:
        assert time.detected_on_host.high_ms == pytest.approx(time.tracked.high_ms + time.host_detection_ms[1])


def test_the_copies_of_a_card_are_those_of_its_slot():
    """320 rows of 1280 pixels up, 43,935 points of three floats down, at 80 % of 63 GB/s."""
    time = frame_time(network_layers("prnet"), find_gpus(["h200"])[0], "fp16")
    assert time.copies_ms == pytest.approx((320 * 1280 * 3 + 43_935 * 12) / (0.8 * 63e9) * 1e3)


def test_whole_frames_are_printed_and_written(tmp_path, capsys):
    written = tmp_path / "frames.json"
    command = ["roofline", "edge", "--whole-frame", "--devices", "nano", "orin-nano", "h200"]
    assert main([*command, "--json", str(written)]) == 0
    out = capsys.readouterr().out
    assert "tracked" in out
    assert "Jetson Nano: cannot run it on the GPU: JetPack 4.6" in out
    frames = json.loads(written.read_text())["frames"]
    assert [(frame["device"], frame["precision"]) for frame in frames] == [
        (device, precision) for device in ("orin-nano", "h200") for precision in ("fp16", "int8")
    ]
    assert frames[0]["tracked_ms"][1] < frames[0]["detected_ms"][1] < frames[0]["detected_on_host_ms"][1]


def test_a_network_on_file_is_found_beside_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edge").mkdir()
    assert len(open_network("edge").layers) == len(network_layers("edge"))


def test_a_device_that_cannot_run_it_says_so():
    verdicts = {device.id: device.cannot_run for device in all_gpus() if device.cannot_run}
    assert set(verdicts) == {"nano", "tx2", "xavier-nx", "agx-xavier", "gtx-1080"}
    rows = roofline(open_network("edge"), find_gpus(["xavier-nx", "orin-nano"]), ("fp16",))
    table = markdown_table(rows).splitlines()
    assert "cannot run it: JetPack 5.1" in table[2]
    assert table[3].endswith("| yes |")


def test_a_cost_per_layer_is_what_makes_left_out_devices_predictable():
    """Without it the same data scatter half as much again."""
    found = [m for m in measurements() if not m.in_python]
    tensor = [m for m in found if m.least.device.tensor_cores]
    bare = [np.log(m.ms / m.least.least_ms) for m in tensor]
    with_layers = [
        np.log(ratio) for device in {m.least.device for m in tensor} for ratio in left_out_ratios(found, device)
    ]
    assert np.std(bare) > 1.4 * np.std(with_layers)


def test_an_expectation_is_never_below_the_least_time():
    least = least_time(network_layers("prnet"), find_gpus(["nano"])[0], "fp16")
    eager = dataclasses.replace(default_fit(), plain_efficiency=1.0, jetson_layer_ms=0.0, lowest_ratio=0.5)
    assert eager.expect(least).low_ms == least.least_ms


def test_the_markdown_marks_cells_and_says_what_is_impossible():
    networks = [open_network(name) for name in ("prnet", "edge", "resnet50")]
    rows = [
        row
        for network in networks
        for row in roofline(network, find_gpus(["nano", "gtx-1080", "t4"]), ("fp16", "int8"))
    ]
    header, _, nano, t4, gtx = [
        line.strip("| ").split(" | ")
        for line in sorted(markdown_table(rows).splitlines(), key=lambda line: "GTX" in line)
    ]
    cells = dict(zip(header, nano, strict=True))
    assert header[0] == "device"
    assert nano[0] == "Jetson Nano"
    assert t4[0] == "T4"
    assert re.fullmatch(r"\*predicted\* \d+–\d+ \(≥ 17\.8\)", cells["prnet, FP16"])
    assert cells["prnet, INT8"] == "–"
    assert cells["10 ms"] == "cannot run it: JetPack 4.6 ends at Python 3.6 and TensorRT 8.2"
    able = [dataclasses.replace(device, cannot_run=None) for device in find_gpus(["nano"])]
    rows = [row for network in networks for row in roofline(network, able, ("fp16",))]
    assert markdown_table(rows).splitlines()[2].split(" | ")[-1].startswith("prnet impossible, edge yes")
    assert dict(zip(header, t4, strict=True))["resnet50, FP16"].startswith("*measured* 1.3")
    assert "FP32" in dict(zip(header, gtx, strict=True))["edge, FP16"]


def test_the_table_of_the_docs_is_what_the_command_prints(repository, capsys):
    page = (repository / "docs" / "devices.md").read_text(encoding="utf-8")
    commands = re.findall(r"`python -m benchmarks (roofline [^`]* --markdown)`", page)
    assert len(commands) == 2
    for command in commands:
        assert main(command.split()) == 0
        assert capsys.readouterr().out in page


def test_the_command_prints_and_writes(tmp_path, capsys):
    model, written = tmp_path / "small.onnx", tmp_path / "roofline.json"
    onnx.save(small_model(), model)
    assert (
        main(["roofline", str(model), "--devices", "orin-nano", "--layers", "--batch", "2", "--json", str(written)])
        == 0
    )
    out = capsys.readouterr().out
    assert "transposed" in out
    assert "a prediction, not a measurement" in out
    document = json.loads(written.read_text())
    assert document["kind"] == "roofline"
    assert document["batch"] == 2
    assert [(row["precision"], len(row["layers"])) for row in document["rows"]] == [("fp16", 3), ("int8", 3)]
    row = document["rows"][0]
    assert row["least_ms"] == pytest.approx(sum(layer["least_ms"] for layer in row["layers"]))
    assert row["expected_ms"] > row["least_ms"]
    assert row["measured_ms"] is None


def test_every_network_on_file_has_a_roofline(capsys):
    assert main(["roofline", *network_names(), "--devices", "t4"]) == 0
    assert capsys.readouterr().out.count("expected: a prediction") == len(network_names())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no network of this name"),
        (["text.onnx"], "cannot be read as an ONNX model"),
        (["gone.onnx"], "no such file"),
        (["free.onnx"], "fixed picture sizes"),
        (["relu.onnx"], "is it a network"),
        (["prnet", "--devices", "orin"], "no device 'orin'"),
        (["prnet", "--layers"], "add --devices"),
        (["prnet", "--layers", "--markdown", "--devices", "t4"], "no form in Markdown"),
        (["prnet", "--whole-frame", "--batch", "2"], "leave out --batch"),
        (["mb05", "--whole-frame"], "no position map"),
        (["folder"], "this is a folder; give an .onnx file"),
        (["folder.onnx"], "this is a folder; give an .onnx file"),
        (["prnet", "--json", "none/figures.json"], "no folder"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.onnx").write_text("this is not a model")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.onnx").mkdir()
    onnx.save(small_model(side=None), "free.onnx")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("x", "y")]
    onnx.save(
        helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])),
        "relu.onnx",
    )
    assert main(["roofline", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("folder", "folder.onnx", "free.onnx", "relu.onnx", "text.onnx")
    ]
