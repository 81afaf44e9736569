"""``python -m benchmarks roofline``: the least and the expected time of a network on many GPUs.

MODEL is an .onnx file (FP32, FP16 or with Q/DQ) or a network on file: prnet, edge, mb05, or another with published
measurements. A plain model is taken as converted whole to each precision. Times are of the network alone, without crop
and decode; --whole-frame predicts a 720p frame with one face from memory to memory, tracked and with detection
(`benchmarks.roofline.whole_frame`). Devices that cannot run it are named, with the reason.

The least time is arithmetic: `benchmarks.roofline.least_time` has the rules. The expected time is a prediction from
published measurements of other networks, not a measurement: `benchmarks.roofline.expected_time` has the formula,
`measured_times.json` the sources. Power modes below the full clock make every figure worse.
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
from benchmarks.roofline.gpu_figures import PRECISIONS, GpuFigures, find_gpus
from benchmarks.roofline.layers import Layer, read_layers
from benchmarks.roofline.least_time import CHANNEL_BLOCK, LayerTime, LeastTime, least_time
from benchmarks.roofline.measured_times import measured_ms, network_layers, network_names
from benchmarks.roofline.whole_frame import FrameTime, frame_figures, frame_table, frame_time
from runtime.console.arguments import positive_int
from runtime.errors import FaceMeshError

GOAL_MS = 10.0  # per face, the promise of the project


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
        """Heading of the table in Markdown; a device without FP16 stands there with FP32."""
        return f"{self.network.name}, {'INT8' if self.least.precision == 'int8' else 'FP16'}"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``python -m benchmarks roofline``."""
    parser = subparsers.add_parser(
        "roofline",
        help="least and expected time on many GPUs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help=".onnx file or network on file")
    parser.add_argument("--precision", choices=(*PRECISIONS, "both"), default="both", help="(default: both)")
    devices_help = "jetson, discrete or ids such as orin-nano (default: all)"
    parser.add_argument("--devices", nargs="+", default=[], metavar="ID", help=devices_help)
    batch_help = "pictures at a time (default: 1)"
    parser.add_argument("--batch", type=positive_int, default=1, metavar="N", help=batch_help)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--whole-frame", action="store_true", help="predict whole frames of one face")
    form.add_argument("--layers", action="store_true", help="a line per layer; for one device")
    parser.add_argument("--markdown", action="store_true", help="the tables of docs/devices.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures; with --layers those of every layer")
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> None:
    """Compute, print and write."""
    check_writable(args.json)
    devices = find_gpus(args.devices)
    precisions = PRECISIONS if args.precision == "both" else (args.precision,)
    if args.layers and len(devices) > 1:
        remedy = "add --devices orin-nano or another"
        raise FaceMeshError(f"--layers prints one device and {len(devices)} are chosen; {remedy}")
    if args.layers and args.markdown:
        raise FaceMeshError("--layers has no form in Markdown; leave out one of the two")
    if args.whole_frame and args.batch != 1:
        raise FaceMeshError("--whole-frame predicts one face; leave out --batch")
    networks = [open_network(model) for model in args.models]
    rows = [row for network in networks for row in roofline(network, devices, precisions, args.batch)]
    frames = predict_frames(networks, devices, precisions) if args.whole_frame else {}
    if frames:
        print_frames(frames, args.markdown)
    elif args.markdown:
        print(markdown_table(rows))
    else:
        for network in networks:
            own = [row for row in rows if row.network is network]
            print("\n".join(report_lines(own, network, args.layers)))
    if not args.markdown:
        print("\n".join(cannot_run_lines(devices)))
    if args.json:
        figures = {
            "batch": args.batch,
            "fit": dataclasses.asdict(default_fit()),
            "rows": [row_figures(row, args.layers) for row in rows],
            "frames": [frame_figures(name, time) for name, times in frames.items() for time in times],
        }
        write_json(args.json, {**provenance(), "kind": "roofline", **figures})


def open_network(model: str) -> Network:
    """Open an .onnx file, or a network on file by its name, in spite of folders called so. Raises `FaceMeshError`."""
    path = Path(model)
    if path.is_dir() and model not in network_names():
        names = ", ".join(network_names())
        raise FaceMeshError(f"{model}: this is a folder; give an .onnx file in it or one of {names}")
    if path.is_file() or (path.suffix == ".onnx" and not path.exists()):
        return Network(path.stem, read_layers(path))
    return Network(model, network_layers(model))


def predict_frames(
    networks: Sequence[Network], devices: Sequence[GpuFigures], precisions: Sequence[str]
) -> dict[str, list[FrameTime]]:
    """Predict whole frames by the networks' names, for devices that can run them."""
    able = [device for device in devices if device.cannot_run is None]
    found = {}
    for network in networks:
        times = (frame_time(network.layers, device, precision) for device in able for precision in precisions)
        found[network.name] = [time for time in times if time is not None]
    return found


def print_frames(frames: dict[str, list[FrameTime]], markdown: bool) -> None:
    """Print a table of predicted frames for every network."""
    for number, (name, times) in enumerate(frames.items()):
        table = frame_table(name, times, _short)
        if markdown:
            lines = [table[0], ("---",) * len(table[0]), *table[1:]]
            print("\n" * bool(number) + "\n".join(f"| {' | '.join(line)} |" for line in lines))
        else:
            print(f"{name}: a 720p frame with one face, milliseconds, a prediction\n{text_table(table, 1)}")


def cannot_run_lines(devices: Sequence[GpuFigures]) -> list[str]:
    """Return a line for every device that cannot run it on its GPU."""
    return [f"{device.name}: cannot run it on the GPU: {device.cannot_run}" for device in devices if device.cannot_run]


def roofline(network: Network, devices: Sequence[GpuFigures], precisions: Sequence[str], batch: int = 1) -> list[Row]:
    """Compute a row for each device, and for each precision that the device has."""
    leasts = [least_time(network.layers, device, precision, batch) for device in devices for precision in precisions]
    return [Row(network, least, default_fit().expect(least)) for least in leasts if least is not None]


def report_lines(rows: Sequence[Row], network: Network, with_layers: bool) -> list[str]:
    """Return the tables for a terminal."""
    lines = [_network_line(network)]
    if with_layers:
        for row in rows:
            lines.append(f"{row.least.device.name}, {row.least.precision.upper()}")
            lines.append(_layer_table(row.least.layers))
    heads = ("arithmetic ms", "traffic ms", "least ms", "if cached ms", "expected ms", "band ms")
    table = [("device", "precision", *heads)]
    for row in rows:
        least = row.least
        times = (least.arithmetic_ms, least.traffic_ms, least.least_ms, least.cached_ms, row.expected.ms)
        band = f"{three_digits(row.expected.low_ms)}–{three_digits(row.expected.high_ms)}"
        table.append((least.device.name, least.precision.upper(), *map(three_digits, times), band))
    return [*lines, text_table(table, 2), f"expected: a prediction, not a measurement: {default_fit()}"]


def _network_line(network: Network) -> str:
    """Return the name and the size of a network."""
    total = sum(layer.multiply_adds for layer in network.layers)
    weights = sum(layer.weights for layer in network.layers)
    padded = []
    for name in PRECISIONS:
        count = sum(layer.multiply_adds_by_blocks(CHANNEL_BLOCK[name]) for layer in network.layers)
        padded.append(f"{name.upper()} {count / 1e9:.2f}")
    size = f"{len(network.layers)} layers, {total / 1e9:.2f} GMAC"
    return f"{network.name}: {size} (as tensor cores pad channels: {', '.join(padded)}), {weights / 1e6:.2f} M weights"


def _layer_table(times: Sequence[LayerTime]) -> str:
    table = [("layer", "operator", "channels", "M MAC", "arithmetic µs", "traffic µs", "least µs", "bound by")]
    for time in times:
        layer = time.layer
        groups = f" /{layer.groups}" if layer.groups > 1 else ""
        channels = f"{layer.groups * layer.channels_in}→{layer.groups * layer.channels_out}{groups}"
        figures = (f"{1000 * ms:.2f}" for ms in (time.arithmetic_ms, time.traffic_ms, time.least_ms))
        bound = "arithmetic" if time.arithmetic_ms > time.traffic_ms else "traffic"
        table.append((layer.name, layer.operator, channels, f"{layer.multiply_adds / 1e6:.2f}", *figures, bound))
    return text_table(table, 3)


def markdown_table(rows: Sequence[Row]) -> str:
    """Return a table with a line per device, a cell per network and precision, and a verdict on 10 ms."""
    columns = list(dict.fromkeys(row.column for row in rows))
    by_device: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_device.setdefault(row.least.device.name, {})[row.column] = row
    lines = [("device", *columns, f"{GOAL_MS:g} ms"), ("---",) * (len(columns) + 2)]
    for device, cells in by_device.items():
        texts = [_cell(cells[column]) if column in cells else "–" for column in columns]
        lines.append((device, *texts, _verdicts(cells.values())))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: Row) -> str:
    """Return ``*measured* 1.2`` or ``*predicted* 0.8–1.6``, and the least time."""
    measured = measured_ms(row.network.name, row.least.device, row.least.precision)
    time = f"*predicted* {_short(row.expected.low_ms)}–{_short(row.expected.high_ms)}"
    if measured is not None:
        time = f"*measured* {_short(measured)}"
    precision = ", FP32" if row.least.precision == "fp32" else ""
    return f"{time} (≥ {three_digits(row.least.least_ms)}{precision})"


def _verdicts(rows: Iterable[Row]) -> str:
    """Return ``yes`` if every network keeps to the goal, else a word for each; on some devices nothing runs."""
    rows = list(rows)
    if rows[0].least.device.cannot_run:
        return f"cannot run it: {rows[0].least.device.cannot_run}"
    best: dict[str, str] = {}
    for row in rows:
        if best.get(row.network.name) != "yes":
            best[row.network.name] = _verdict(row)
    if set(best.values()) == {"yes"}:
        return "yes"
    return ", ".join(f"{name} {verdict}" for name, verdict in best.items())


def _verdict(row: Row) -> str:
    if row.least.least_ms > GOAL_MS:
        return "impossible"
    return "yes" if row.expected.high_ms <= GOAL_MS else "perhaps"


def row_figures(row: Row, with_layers: bool) -> dict[str, Any]:
    """Return the JSON object of one network, device and precision."""
    least = row.least
    device = least.device
    figures = {
        "network": row.network.name,
        "device": device.id,
        "device_name": device.name,
        "family": device.family,
        "precision": least.precision,
        "arithmetic_ms": least.arithmetic_ms,
        "traffic_ms": least.traffic_ms,
        "least_ms": least.least_ms,
        "cached_ms": least.cached_ms,
        "expected_ms": row.expected.ms,
        "expected_low_ms": row.expected.low_ms,
        "expected_high_ms": row.expected.high_ms,
        "measured_ms": measured_ms(row.network.name, device, least.precision),
    }
    if with_layers:
        figures["layers"] = [_layer_figures(time) for time in least.layers]
    return figures


def _layer_figures(time: LayerTime) -> dict[str, Any]:
    return {
        "name": time.layer.name,
        "operator": time.layer.operator,
        "precision": time.precision,
        "multiply_adds": time.layer.multiply_adds,
        "arithmetic_ms": time.arithmetic_ms,
        "traffic_ms": time.traffic_ms,
        "least_ms": time.least_ms,
    }


def three_digits(value: float) -> str:
    """Format milliseconds with three digits behind the point below one, fewer above."""
    if value < 1:
        return f"{value:.3f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _short(value: float) -> str:
    """Format a number with the two digits that count."""
    if value >= 9.95:
        return f"{value:.0f}"
    if value >= 0.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.0995 else f"{value:.3f}"
