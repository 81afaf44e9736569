"""Sections about films, long runs and trainings: tracking, jitter, soak, ablations. Each returns blocks of records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.report.content import (
    Bar,
    BarChart,
    Block,
    Figure,
    Point,
    ScatterChart,
    Table,
    decimals,
    ms,
    of_kind,
    source,
)
from benchmarks.report.record_files import Record

OURS, OTHERS = 0, 4  # colours
OUR_METHODS = ("detected", "tracked")  # beginnings of names
LEAST_LAG = 0.01  # frames, on a logarithmic axis


def tracking(records: Sequence[Record]) -> list[Block]:
    """Return faces missed, error, changes of numbers and time of tracked films beside detection in every frame."""
    return [_tracking_block(record) for record in of_kind(records, "tracking")]


def _tracking_block(record: Record) -> Block:
    lines = record.document["table"]
    bars = tuple(Bar(line["film"], ((line["ratio"] or 0, OURS),), decimals(line["ratio"])) for line in lines)
    head = (
        *("film", "frames", "missed", "missed, detected", "NME %", "NME %, detected", "detector in %", "id changes"),
        *("ms per frame", "ms of faces"),
    )
    rows = []
    for line in lines:
        counts = (decimals(line["frames"], 0), decimals(line["missed"], 1), decimals(line["missed_detected"], 1))
        errors = (decimals(line["nme"]), decimals(line["nme_detected"]), decimals(line["detector"], 1))
        rows.append(
            (line["film"], *counts, *errors, decimals(line["changes"], 1), ms(line["ms"]), ms(line["ms_faces"]))
        )
    return Block(
        heading=str(record.document["model"]),
        sources=(source(record),),
        figures=(Figure("time of a tracked frame over that of its faces alone", BarChart(bars, "ratio")),),
        tables=(Table("films tracked, and detected in every frame", head, rows, wraps=True),),
    )


def jitter(records: Sequence[Record]) -> list[Block]:
    """Return jitter at rest against lag in motion, beside other programs."""
    return [_jitter_block(record) for record in of_kind(records, "jitter")]


def _jitter_block(record: Record) -> Block:
    lines = record.document["methods"]
    points, rows = [], []
    for line in lines:
        ours = line["method"].startswith(OUR_METHODS)
        lag = max(LEAST_LAG, abs(line["lag"] or 0))
        points.append(Point(lag, line["jitter"] or 0, line["method"], OURS if ours else OTHERS))
        rows.append((line["method"], decimals(line["jitter"], 3), decimals(line["lag"]), decimals(line["closing"])))
    legend = (("this runtime", OURS), ("others", OTHERS))
    chart = ScatterChart(tuple(points), "lag, frames (magnitude)", "jitter at rest, % of the box", legend)
    equal = [
        (line["method"], decimals(line["lag"]), decimals(line["jitter"], 3), decimals(line["our_jitter"], 3))
        for line in record.document["equal_lag"]
    ]
    return Block(
        heading=str(record.document["model"]),
        sources=(source(record),),
        figures=(Figure("jitter against lag", chart),),
        tables=(
            Table("methods", ("method", "jitter %", "lag, frames", "eye closing kept"), rows),
            Table("at equal lag", ("method", "lag, frames", "its jitter %", "ours %"), equal),
        ),
    )


def soak(records: Sequence[Record]) -> list[Block]:
    """Return drift of latency and growth of memory in long runs."""
    return [_soak_block(record) for record in of_kind(records, "soak")]


def _soak_block(record: Record) -> Block:
    lines = record.document["lines"]
    points = tuple(Point(max(1.0, line["time_s"]), line["p50_ms"] or 0, "", OURS) for line in _thinned(lines))
    rows = []
    for name, trend in record.document["trends"].items():
        slope = trend["per_hour"]
        span = f"{decimals(slope['low'])} … {decimals(slope['high'])}"
        rows.append((name, decimals(slope["estimate"]), span, trend["problem"] or "none"))
    return Block(
        sources=(source(record),),
        figures=(Figure("median of a frame over time", ScatterChart(points, "seconds", "ms")),),
        tables=(Table("trend per hour", ("of", "estimate", "99.9 %", "problem"), rows),),
        warnings=tuple(record.document.get("warnings", ())),
    )


def _thinned(lines: Sequence[Any], most: int = 60) -> Sequence[Any]:
    return lines[:: max(1, len(lines) // most)]


def ablations(records: Sequence[Record]) -> list[Block]:
    """Return the last epoch of every arm of a training with parts left out."""
    return [_ablation_block(record) for record in of_kind(records, "ablation")]


def _ablation_block(record: Record) -> Block:
    arms = record.document["arms"]
    names = [name for name in arms[0] if name != "epochs"]
    bars, rows = [], []
    for arm in arms:
        settings = tuple(str(arm.get(name, "")) for name in names)
        last = arm["epochs"][-1]
        label = ", ".join(f"{name} {value}" for name, value in zip(names, settings, strict=True))
        bars.append(Bar(label, ((float(last["balanced"]), OURS),), str(last["balanced"])))
        rows.append((*settings, str(len(arm["epochs"])), str(last["mean"]), str(last["balanced"])))
    head = (*names, "epochs", "NME %", "balanced")
    return Block(
        heading=record.name,
        sources=(source(record),),
        note=f"Base: {record.document['base']}. Arms: {record.document['arm']}.",
        figures=(Figure("balanced NME of the validation rows", BarChart(tuple(bars), "%")),),
        tables=(Table("last epoch of each arm", head, rows),),
    )
