"""The findings of `benchmarks.gpu.gpu_report` as the content of an HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.gpu.summary import HEAD, Part, cells, grouped, headline, remarks, rows_of, verdicts
from benchmarks.report.content import Bar, BarChart, Block, Figure, Page, Section, Source, Table

CHARTS = {"throughput": "Between results", "host's work": "The host's work", "stages": "Stages"}  # by name of the part
ALL_OTHERS = "p50, with a tick at p99"
NOTES = {  # by the first word of the group
    "Copies": "Times of the device between two events, those of the host's copy by its own clock.",
    "Kernels": "Times of the device; the mean of many launches in a row, by a graph.",
    "Launches": "Times of the host for crop and decode of one face; there and back is a decode of landmarks, from its "
    "launch to the end of the wait.",
    "Frames": "By the host's clock, from the call to the points: one face, a graph, a spinning wait and a frame in "
    "ordinary memory unless the name says otherwise; in place means that the frame lies in page-locked memory "
    "already. Stages are times of the device, launched one by one. No detection.",
    "Detection": "By the host's clock, from a frame in ordinary memory to its face: copy and upload of the whole "
    "frame, one graph, and the host's choice among overlapping boxes. Meshes of this frame need no upload of their "
    "own.",
}


def make_page(document: dict[str, Any]) -> Page:
    """Return the content of the page: remarks, then charts and tables of every group, then the machine."""
    sections = []
    for heading, entries in remarks(document).items():
        sections.append(Section(heading, (Block(warnings=tuple(entries)),)))
    for group, parts in grouped(document).items():
        if rows := rows_of(parts):
            note = next(note for start, note in NOTES.items() if group.startswith(start))
            table = Table("microseconds", HEAD, [cells(row) for row in rows])
            sections.append(Section(group, (Block(note=note, figures=_figures(parts), tables=(table,)),)))
    origin = Source("gpu-report.json", "", document["command"])
    facts = Table("the measured machine", ("", ""), _machine(document), wraps=True)
    sections.append(Section("Machine", (Block(sources=(origin,), tables=(facts,)),)))
    return Page(
        title=f"facemesh-edge on {document['device'].get('name', 'a CUDA device')}",
        lead=headline(document),
        verdicts=tuple(verdicts(document)),
        sections=tuple(sections),
    )


def _figures(parts: Sequence[Part]) -> tuple[Figure, ...]:
    """Return one chart for each kind of time: several faces, for instance, would dwarf all else in one chart."""
    charts: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        for row in part["rows"]:
            title = CHARTS.get(part["name"], ALL_OTHERS)
            if row.get("faces", 1) > 1:
                title = "Several faces"
            charts.setdefault(title, []).append(row)
    return tuple(Figure(f"{title}, µs", _chart(rows)) for title, rows in charts.items())


def _chart(rows: Sequence[dict[str, Any]]) -> BarChart:
    bars = []
    for row in rows:
        median, late = 1000 * row["p50_ms"], 1000 * row["p99_ms"]
        bars.append(Bar(row["name"], ((median, 0),), f"{median:,.1f}", mark=late))
    return BarChart(tuple(bars), "µs")


def _machine(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Return everything that is known of the machine, as flat rows of a name and a value."""
    found: list[tuple[str, str]] = []

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{name} {key}".strip(), inner)
        elif value not in (None, "", []):
            words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            found.append((name.replace("_", " "), words))

    for name, key in (("", "machine"), ("device", "device"), ("", "versions"), ("", "conditions")):
        add(name, document[key])
    for part in document["parts"]:
        if part["facts"] != document["device"]:
            add(f"{part['group']}, {part['name']}:", part["facts"])
    add("commit", document["commit"])
    return found
