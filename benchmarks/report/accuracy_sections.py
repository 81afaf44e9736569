"""Sections about error: by yaw, against time, perturbed, in INT8. Each returns blocks of all records with its data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.report.content import (
    PRECISION_COLOURS,
    Block,
    Figure,
    Point,
    ScatterChart,
    Span,
    SpanChart,
    Table,
    decimals,
    ms,
    of_kind,
    source,
)
from benchmarks.report.record_files import Record
from benchmarks.report.speed import whole_frames

BINS = ("0–30°", "30–60°", "60–90°", "balanced")
MAIN_MEASURE, MAIN_BOXES = "68 points 2D", "ground-truth"
PEER_COLOUR = 4
LARGEST_NME = 20.0  # %, of a bar of robustness


def accuracy_by_yaw(records: Sequence[Record]) -> list[Block]:
    """Return the error of the 68 points by the yaw of the head."""
    return [_accuracy_block(record) for record in of_kind(records, "accuracy")]


def _accuracy_block(record: Record) -> Block:
    lines = record.document["table"]
    kinds = list(dict.fromkeys(line["boxes"] for line in lines))
    shown = [line for line in lines if line["measure"] == MAIN_MEASURE] or lines[:1]
    # One span per bin and kind of boxes.
    spans = []
    for place, name in enumerate(BINS):
        for line in shown:
            value = [*line["bins"], line["balanced"]][place]
            if value is not None:
                spans.append(Span(name, 0, value, kinds.index(line["boxes"]), value=decimals(value)))
    high = 1.15 * max((span.high for span in spans), default=1)
    legend = tuple((f"{kind} boxes", colour) for colour, kind in enumerate(kinds))
    chart = SpanChart(tuple(spans), "NME, % of √(width × height)", 0, high, legend=legend)
    # All measures stand in the table.
    rows = []
    for line in lines:
        errors = (line["mean"], *line["bins"], line["balanced"])
        rows.append((line["boxes"], line["measure"], f"{line['faces']:,}", *map(decimals, errors)))
    return Block(
        heading=subject(record),
        sources=(source(record),),
        figures=(Figure(f"{shown[0]['measure']}, by yaw", chart),),
        tables=(Table("NME in %", ("boxes", "measure", "faces", "mean", *BINS), rows),),
    )


def accuracy_against_latency(records: Sequence[Record]) -> list[Block]:
    """Return error over time per face of engines and peers.

    An engine appears if it has a record of each kind, matched by the SHA-256 of the engine or of its model.
    """
    points = _engine_points(records) + _peer_points(records)
    if not points:
        return []
    # The chart, with a legend of the colours in use.
    used = {point.colour for point in points}
    names = [(name.upper(), colour) for name, colour in PRECISION_COLOURS.items()]
    names.append(("other programs", PEER_COLOUR))
    legend = tuple((name, colour) for name, colour in names if colour in used)
    chart = ScatterChart(tuple(points), "ms per face, median", "NME of 68 points, %", legend)
    # The same points as a table.
    kind_of = {colour: name for name, colour in names}
    rows = [(point.label, kind_of[point.colour], ms(point.x), decimals(point.y)) for point in points]
    note = (
        "Lower left is better. Every error is that of its own record: other programs were measured on fewer faces "
        "than engines."
    )
    return [
        Block(
            note=note,
            figures=(Figure("error against time per face", chart),),
            tables=(Table("points of the chart", ("", "kind", "ms per face", "NME %"), rows),),
        )
    ]


def _engine_points(records: Sequence[Record]) -> list[Point]:
    errors = {}
    for record in of_kind(records, "accuracy"):
        if sha256 := record.document["subject"].get("sha256"):
            errors[sha256] = (subject(record), main_error(record))
    points = []
    for record in of_kind(records, "latency"):
        engine, stages = record.document["engine"], record.document["stages"]
        name, error = errors.get(engine.get("sha256")) or errors.get(engine.get("model_sha256")) or ("", None)
        time = stages[whole_frames(stages)[0]]["p50_ms"]
        if error and time:
            colour = PRECISION_COLOURS.get(engine.get("precision", ""), PRECISION_COLOURS["fp32"])
            points.append(Point(time, error, name, colour))
    return points


def _peer_points(records: Sequence[Record]) -> list[Point]:
    """Return the points of the first comparison without pauses."""
    comparisons = [record for record in of_kind(records, "peers") if not record.document["interval_ms"]]
    points = []
    for record in comparisons[:1]:
        for peer in record.document["peers"]:
            time = list(peer["stages"].values())[-1]["median_ms"]
            error = (peer.get("nme") or {}).get("mean")
            if time and error:
                points.append(Point(time, error, peer["name"], PEER_COLOUR))
    return points


def robustness(records: Sequence[Record]) -> list[Block]:
    """Return the error and the faces found under perturbations of the photographs."""
    return [_robustness_block(record) for record in of_kind(records, "robustness")]


def _robustness_block(record: Record) -> Block:
    lines = record.document["table"]
    kinds = list(dict.fromkeys(line["boxes"] for line in lines))
    legend = tuple((f"{kind} boxes", colour) for colour, kind in enumerate(kinds))
    # One chart per kind of perturbation, the larger errors cut off.
    figures = []
    for name in dict.fromkeys(line["kind"] for line in lines if line["nme"] is not None):
        spans = []
        for line in (line for line in lines if line["kind"] == name):
            if line["nme"] is not None:
                missed = f", {line['faces'] - line['found']} missed" if line["found"] < line["faces"] else ""
                high = min(line["nme"], LARGEST_NME)
                text = f"{decimals(line['nme'], 1)}{missed}"
                spans.append(Span(line["condition"], 0, high, kinds.index(line["boxes"]), value=text))
        chart = SpanChart(tuple(spans), "NME, %", 0, 1.6 * LARGEST_NME, legend=legend)
        figures.append(Figure(name, chart))
    rows = []
    for line in lines:
        keys = ("nme", "median", "spread", "ratio", "over_10", "score", "confidence")
        counts = (f"{line['faces']:,}", f"{line['found']:,}")
        rows.append((line["condition"], line["boxes"], *counts, *(decimals(line[key]) for key in keys)))
    head = ("", "boxes", "faces", "found", "NME %", "median", "± seeds", "× clean", "> 10 %", "score", "confidence")
    return Block(
        heading=subject(record),
        sources=(source(record),),
        note=f"Bars end at {LARGEST_NME:g} %. Missed faces are in no mean.",
        figures=tuple(figures),
        tables=(Table("faces found and their error", head, rows),),
    )


def int8(records: Sequence[Record]) -> list[Block]:
    """Return the error of INT8 by the method that chose the ranges."""
    return [_int8_block(record) for record in of_kind(records, "int8")]


def _int8_block(record: Record) -> Block:
    lines = sorted(record.document["table"], key=lambda line: line["method"])
    targets = list(dict.fromkeys(line["target"] for line in lines))
    spans = [_int8_span(line, targets) for line in lines]
    high = 1.15 * max(span.high for span in spans) or 1
    legend = tuple((f"form for {target}", colour) for colour, target in enumerate(targets))
    chart = SpanChart(tuple(spans), "NME, % (tick: FP32)", 0, high, legend=legend)
    rows = []
    for line in lines:
        figures = (decimals(line[key]) for key in ("fp32_nme", "int8_nme", "shift_px", "size"))
        rows.append((line["target"], line["method"], *figures))
    caption = "mean NME in %; shift of the landmarks; size of the file, FP32 = 1"
    return Block(
        sources=(source(record),),
        figures=(Figure(f"{lines[0]['model']} in INT8", chart),),
        tables=(Table(caption, ("form", "ranges", "FP32", "INT8", "shift px", "size"), rows),),
    )


def _int8_span(line: dict[str, Any], targets: Sequence[str]) -> Span:
    error = line["int8_nme"]
    return Span(line["method"], 0, error or 0, targets.index(line["target"]), line["fp32_nme"], value=decimals(error))


def main_error(record: Record) -> float | None:
    """Return the mean NME that stands for an accuracy record, in percent."""
    lines = record.document["table"]
    for line in lines:
        if (line["measure"], line["boxes"]) == (MAIN_MEASURE, MAIN_BOXES):
            return line["mean"]
    return lines[0]["mean"]


def subject(record: Record) -> str:
    """Return the name of the model or file that an accuracy record is about."""
    named = record.document["subject"]
    return str(named.get("file") or named.get("predictions") or named.get("model") or record.name)
