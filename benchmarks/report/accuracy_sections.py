"""Sections about error: by yaw, against time, in INT8. Each takes all records and returns HTML, empty where none has its data."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.records.record import Record
from benchmarks.report.html import PRECISION_COLOURS, decimals, figure, legend, of_kind, plots, source, table
from benchmarks.report.speed import whole_frames
from benchmarks.report.svg import Axis, Point, Range, ranges, scatter

BINS = ("0–30°", "30–60°", "60–90°", "balanced")
MAIN_MEASURE, MAIN_BOXES = "68 points 2D", "ground-truth"
PEER_COLOUR = 4


def accuracy_by_yaw(records: Sequence[Record]) -> str:
    """Error of the 68 points by how far the head is turned."""
    return "".join(_one_accuracy(record) for record in of_kind(records, "accuracy"))


def _one_accuracy(record: Record) -> str:
    lines = record.document["table"]
    kinds = list(dict.fromkeys(line["boxes"] for line in lines))
    shown = [line for line in lines if line["measure"] == MAIN_MEASURE] or lines[:1]
    rows = []
    for place, name in enumerate(BINS):
        for line in shown:
            value = [*line["bins"], line["balanced"]][place]
            if value is not None:
                rows.append(Range(name, 0, value, kinds.index(line["boxes"]), value=decimals(value)))
    axis = Axis(0, 1.15 * max((row.high for row in rows), default=1), "NME, % of √(width × height)")
    plot = ranges("error by yaw", rows, axis) + legend((f"{kind} boxes", i) for i, kind in enumerate(kinds))
    body = [(line["boxes"], line["measure"], f"{line['faces']:,}", *map(decimals, (line["mean"], *line["bins"], line["balanced"]))) for line in lines]
    content = plots([figure(plot, f"{shown[0]['measure']}, by yaw")]) + table([("boxes", "measure", "faces", "mean", *BINS), *body], "NME in %")
    return f"<h3>{escape(subject(record))}</h3>{source(record)}{content}"


def accuracy_against_latency(records: Sequence[Record]) -> str:
    """Error over time per face: every engine with a record of each (told by the SHA-256 of the engine or its model), and the peers."""
    points = _engine_points(records) + _peer_points(records)
    if not points:
        return ""
    times, errors = [point.x for point in points], [point.y for point in points]
    axis = Axis(min(times) / 1.6, max(times) * 1.6, "ms per face, median", logarithmic=True)
    room = 0.15 * (max(errors) - min(errors)) or 0.1
    used = {point.colour for point in points}
    names = [*((name.upper(), colour) for name, colour in PRECISION_COLOURS.items()), ("other programs", PEER_COLOUR)]
    plot = scatter("error against time", points, axis, min(errors) - room, max(errors) + room, "NME of 68 points, %")
    plot += legend((name, colour) for name, colour in names if colour in used)
    note = "Lower left is better. Every error is that of its own record: other programs were measured on fewer faces than engines."
    return plots([figure(plot, "error against time per face")]) + f"<p class=note>{note}</p>"


def _engine_points(records: Sequence[Record]) -> list[Point]:
    found = of_kind(records, "accuracy")
    errors = {sha: (subject(record), main_error(record)) for record in found if (sha := record.document["subject"].get("sha256"))}
    points = []
    for record in of_kind(records, "latency"):
        engine, stages = record.document["engine"], record.document["stages"]
        name, error = errors.get(engine.get("sha256")) or errors.get(engine.get("model_sha256")) or ("", None)
        time = stages[whole_frames(stages)[0]]["p50_ms"]
        if error and time:
            points.append(Point(time, error, name, PRECISION_COLOURS.get(engine.get("precision", ""), PRECISION_COLOURS["fp32"])))
    return points


def _peer_points(records: Sequence[Record]) -> list[Point]:
    """Those of the first comparison without pauses."""
    points = []
    for record in [record for record in of_kind(records, "peers") if not record.document["interval_ms"]][:1]:
        for peer in record.document["peers"]:
            time, error = list(peer["stages"].values())[-1]["median_ms"], (peer.get("nme") or {}).get("mean")
            if time and error:
                points.append(Point(time, error, peer["name"], PEER_COLOUR))
    return points


def int8(records: Sequence[Record]) -> str:
    """What INT8 costs, by how the ranges were chosen."""
    parts = []
    for record in of_kind(records, "int8"):
        lines = sorted(record.document["table"], key=lambda line: line["method"])
        targets = list(dict.fromkeys(line["target"] for line in lines))
        rows = []
        for line in lines:
            rows.append(
                Range(line["method"], 0, line["int8_nme"] or 0, targets.index(line["target"]), line["fp32_nme"], value=decimals(line["int8_nme"]))
            )
        axis = Axis(0, 1.15 * max(row.high for row in rows) or 1, "NME, % (tick: FP32)")
        plot = ranges("error in INT8", rows, axis) + legend((f"form for {target}", i) for i, target in enumerate(targets))
        body = [("form", "ranges", "FP32", "INT8", "shift px", "size")]
        for line in lines:
            body.append((line["target"], line["method"], *(decimals(line[key]) for key in ("fp32_nme", "int8_nme", "shift_px", "size"))))
        caption = "mean NME in %; shift of the landmarks; size of the file, FP32 = 1"
        parts.append(source(record) + plots([figure(plot, f"{lines[0]['model']} in INT8")]) + table(body, caption))
    return "".join(parts)


def main_error(record: Record) -> float | None:
    """The mean NME that stands for an accuracy record."""
    lines = record.document["table"]
    return next((line["mean"] for line in lines if (line["measure"], line["boxes"]) == (MAIN_MEASURE, MAIN_BOXES)), lines[0]["mean"])


def subject(record: Record) -> str:
    """What an accuracy record is about."""
    named = record.document["subject"]
    return str(named.get("file") or named.get("predictions") or named.get("model") or record.name)
