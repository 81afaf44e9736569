"""``python -m benchmarks roofline``: the least time of a network on many GPUs, and what may be expected of them.

MODEL is an .onnx file (FP32, FP16 or with Q/DQ) or a network on file: prnet, edge, or one of those that others measured. A plain model is
taken as converted whole to each precision. All times are of the network alone, without crop and decode.

The least time is arithmetic: `benchmarks.roofline.least_time` says what is counted. The expected time is a prediction from what others measured on
other networks, not a measurement: `benchmarks.roofline.expected_time` has the formula, `measured_times.json` the sources. Power modes below the
full clock make every figure worse.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.records.provenance import check_writable, provenance, text_table, write_json
from benchmarks.roofline.expected_time import Expectation, default_fit
from benchmarks.roofline.gpu_figures import PRECISIONS, Device, find_devices
from benchmarks.roofline.layers import Layer, read_layers
from benchmarks.roofline.least_time import CHANNEL_BLOCK, LayerTime, LeastTime, least_time
from benchmarks.roofline.measured_times import measured_ms, network_layers
from runtime.console.arguments import positive_int
from runtime.errors import FaceMeshError

GOAL_MS = 10.0  # what the project promises per face


@dataclass(frozen=True)
class Network:
    """A name for headings, and the layers."""

    name: str
    layers: list[Layer]


@dataclass(frozen=True)
class Row:
    """One network on one device in one precision."""

    network: Network
    least: LeastTime
    expected: Expectation

    @property
    def column(self) -> str:
        """Heading of the README's table; a device without FP16 stands there with FP32."""
        return f"{self.network.name}, {'INT8' if self.least.precision == 'int8' else 'FP16'}"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """``python -m benchmarks roofline``."""
    parser = subparsers.add_parser(
        "roofline", help="least and expected time on many GPUs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help=".onnx file or network on file")
    parser.add_argument("--precision", choices=(*PRECISIONS, "both"), default="both")
    parser.add_argument("--devices", nargs="+", default=[], metavar="ID", help="jetson, discrete or ids such as orin-nano (default: all)")
    parser.add_argument("--batch", type=positive_int, default=1, metavar="N", help="pictures at a time (default: 1)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--layers", action="store_true", help="a line per layer; for one device")
    form.add_argument("--markdown", action="store_true", help="the device table of the README")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures; with --layers those of every layer")
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> None:
    check_writable(args.json)
    devices, precisions = find_devices(args.devices), PRECISIONS if args.precision == "both" else (args.precision,)
    if args.layers and len(devices) > 1:
        raise FaceMeshError(f"--layers prints one device and {len(devices)} are chosen; add --devices orin-nano or another")
    networks = [open_network(model) for model in args.models]
    rows = [row for network in networks for row in roofline(network, devices, precisions, args.batch)]
    if args.markdown:
        print(markdown_table(rows))
    else:
        for network in networks:
            print("\n".join(report_lines([row for row in rows if row.network is network], network, args.layers)))
    if args.json:
        figures = {"batch": args.batch, "fit": dataclasses.asdict(default_fit()), "rows": [row_figures(row, args.layers) for row in rows]}
        write_json(args.json, {**provenance(), "kind": "roofline", **figures})


def open_network(model: str) -> Network:
    """An .onnx file, or a network on file by its name."""
    path = Path(model)
    if path.suffix == ".onnx" or path.exists():
        return Network(path.stem, read_layers(path))
    return Network(model, network_layers(model))


def roofline(network: Network, devices: Sequence[Device], precisions: Sequence[str], batch: int = 1) -> list[Row]:
    """A row per device and precision that the device has."""
    leasts = [least_time(network.layers, device, precision, batch) for device in devices for precision in precisions]
    return [Row(network, least, default_fit().expect(least)) for least in leasts if least is not None]


def report_lines(rows: Sequence[Row], network: Network, with_layers: bool) -> list[str]:
    """The tables for a terminal."""
    total = sum(layer.multiply_adds for layer in network.layers)
    blocks = {name: sum(layer.multiply_adds_by_blocks(CHANNEL_BLOCK[name]) for layer in network.layers) for name in PRECISIONS}
    padded = (f"{name.upper()} {count / 1e9:.2f}" for name, count in blocks.items())
    weights = sum(layer.weights for layer in network.layers)
    lines = [
        f"{network.name}: {len(network.layers)} layers, {total / 1e9:.2f} GMAC (as tensor cores pad channels: {', '.join(padded)}), "
        f"{weights / 1e6:.2f} M weights"
    ]
    if with_layers:
        lines += [f"{row.least.device.name}, {row.least.precision.upper()}\n{_layer_table(row.least.layers)}" for row in rows]
    table = [("device", "precision", "arithmetic ms", "traffic ms", "least ms", "if cached ms", "expected ms", "band ms")]
    for row in rows:
        times = (row.least.arithmetic_ms, row.least.traffic_ms, row.least.least_ms, row.least.cached_ms, row.expected.ms)
        band = f"{three_digits(row.expected.low_ms)}–{three_digits(row.expected.high_ms)}"
        table.append((row.least.device.name, row.least.precision.upper(), *map(three_digits, times), band))
    return [*lines, text_table(table, 2), f"expected: a prediction, not a measurement: {default_fit()}"]


def _layer_table(times: Sequence[LayerTime]) -> str:
    table = [("layer", "operator", "channels", "M MAC", "arithmetic µs", "traffic µs", "least µs", "bound by")]
    for time in times:
        layer = time.layer
        channels = f"{layer.groups * layer.channels_in}→{layer.groups * layer.channels_out}{f' /{layer.groups}' if layer.groups > 1 else ''}"
        figures = (f"{1000 * ms:.2f}" for ms in (time.arithmetic_ms, time.traffic_ms, time.least_ms))
        bound = "arithmetic" if time.arithmetic_ms > time.traffic_ms else "traffic"
        table.append((layer.name, layer.operator, channels, f"{layer.multiply_adds / 1e6:.2f}", *figures, bound))
    return text_table(table, 3)


def markdown_table(rows: Sequence[Row]) -> str:
    """A line per device, a cell per network and precision, and which networks keep to 10 ms."""
    columns = list(dict.fromkeys(row.column for row in rows))
    by_device: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_device.setdefault(row.least.device.name, {})[row.column] = row
    lines = [("device", *columns, f"{GOAL_MS:g} ms"), ("---",) * (len(columns) + 2)]
    for device, cells in by_device.items():
        lines.append((device, *(_cell(cells[column]) if column in cells else "–" for column in columns), _verdicts(cells.values())))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: Row) -> str:
    """``*measured* 1.2`` or ``*predicted* 0.8–1.6``, and the least time."""
    measured = measured_ms(row.network.name, row.least.device, row.least.precision)
    time = f"*predicted* {_short(row.expected.low_ms)}–{_short(row.expected.high_ms)}" if measured is None else f"*measured* {_short(measured)}"
    return f"{time} (≥ {three_digits(row.least.least_ms)}{', FP32' if row.least.precision == 'fp32' else ''})"


def _verdicts(rows: Iterable[Row]) -> str:
    """``yes`` where every network keeps to the goal, else a word for each."""
    best: dict[str, str] = {}
    for row in rows:
        verdict = "impossible" if row.least.least_ms > GOAL_MS else "yes" if row.expected.high_ms <= GOAL_MS else "perhaps"
        if best.get(row.network.name) != "yes":
            best[row.network.name] = verdict
    return "yes" if set(best.values()) == {"yes"} else ", ".join(f"{name} {verdict}" for name, verdict in best.items())


def row_figures(row: Row, with_layers: bool) -> dict[str, Any]:
    """What goes into the JSON for one network, device and precision."""
    least, device = row.least, row.least.device
    names = {"network": row.network.name, "device": device.id, "device_name": device.name, "family": device.family, "precision": least.precision}
    totals = {"arithmetic_ms": least.arithmetic_ms, "traffic_ms": least.traffic_ms, "least_ms": least.least_ms, "cached_ms": least.cached_ms}
    expected = {"expected_ms": row.expected.ms, "expected_low_ms": row.expected.low_ms, "expected_high_ms": row.expected.high_ms}
    measured = measured_ms(row.network.name, device, least.precision)
    layers = {"layers": [_layer_figures(time) for time in least.layers]} if with_layers else {}
    return {**names, **totals, **expected, "measured_ms": measured, **layers}


def _layer_figures(time: LayerTime) -> dict[str, Any]:
    layer = time.layer
    figures = {"name": layer.name, "operator": layer.operator, "precision": time.precision, "multiply_adds": layer.multiply_adds}
    return {**figures, "arithmetic_ms": time.arithmetic_ms, "traffic_ms": time.traffic_ms, "least_ms": time.least_ms}


def three_digits(value: float) -> str:
    """Milliseconds with three digits behind the point below one, fewer above."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _short(value: float) -> str:
    """Two digits that count."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2f}" if value >= 0.0995 else f"{value:.3f}"
