"""What `benchmarks.gpu.gpu_report` found, as a table for the terminal and as one HTML page."""

from __future__ import annotations

from html import escape
from typing import Any

from benchmarks.records.provenance import text_table
from benchmarks.report.html import figure, plots, table
from benchmarks.report.style import STYLE
from benchmarks.report.svg import Axis, Bar, bars

AIM_MS = 1.0  # p99 of a whole frame
MOST_NAMES = 2  # of parts to which the same happened
CHARTS = {"throughput": "Between results", "host's work": "The host's work", "stages": "Stages"}  # of frames, beside one by one
NOTES = {
    "Copies": "Times of the device between two events, those of the host's copy by its own clock.",
    "Kernels": "Times of the device; the mean of many launches in a row, by a graph.",
    "Launches": "Times of the host for crop and decode of one face; there and back is a decode of landmarks, from its launch to the end of the wait.",
    "Frames": "By the host's clock, from the call to the points: one face, a graph, a spinning wait and a frame in ordinary memory unless the name "
    "says otherwise; in place means that the frame lies in page-locked memory already. Stages are times of the device, launched one by one. "
    "No detection.",
}
HEAD = ("µs", "p50", "p90", "p99", "max", "frames", "")
WHOLE_FRAME = "whole frame"  # the setting of frames that is judged
TESTS = "gpu"  # the part that runs them
WITHOUT_NETWORK = "Frames without a network"  # the group in which there is none


def text(document: dict[str, Any]) -> str:
    """The figures and everything that went wrong."""
    lines = []
    for group, parts in grouped(document).items():
        if rows := rows_of(parts):
            lines += ["", group, text_table([HEAD, *map(cells, rows)], left=1)]
    for what, entries in remarks(document).items():
        lines += ["", f"{what}:", *(f"  {entry}" for entry in entries)]
    return "\n".join([headline(document), *verdicts(document), *lines])


def page(document: dict[str, Any]) -> str:
    """One HTML page that needs nothing but itself."""
    title = f"facemesh-edge on {document['device'].get('name', 'a CUDA device')}"
    body = [f"<h1>{escape(title)}</h1><p>{escape(headline(document))}</p>"]
    body += [f"<p><strong>{escape(verdict)}</strong></p>" for verdict in verdicts(document)]
    for what, entries in remarks(document).items():
        body.append(f"<h2>{escape(what)}</h2><ul class=warning>{''.join(f'<li>{escape(entry)}</li>' for entry in entries)}</ul>")
    for group, parts in grouped(document).items():
        if rows := rows_of(parts):
            note = next(note for start, note in NOTES.items() if group.startswith(start))
            figures = f"{_plots(parts)}{table([HEAD, *map(cells, rows)], 'microseconds')}"
            body.append(f"<section><h2>{escape(group)}</h2><p class=note>{escape(note)}</p>{figures}</section>")
    body.append(f"<section><h2>Machine</h2>{table([('', ''), *_machine(document)], 'what was measured where')}</section>")
    command = f"<p class=source><code>{escape(document['command'])}</code></p>"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}\n{OWN_STYLE}</style></head>\n<body>{''.join(body)}{command}</body></html>\n"
    )


OWN_STYLE = "section:last-of-type td { white-space: normal; text-align: left; overflow-wrap: anywhere }"


def headline(document: dict[str, Any]) -> str:
    """The machine in one line, and whether the report is all of it."""
    device, machine = document["device"], document["machine"]
    words = [f"{device.get('name', '?')}, compute capability {device.get('compute_capability', '?')}"]
    words += [f"driver {document['driver']}"] if document.get("driver") else []
    words += [machine.get("board") or machine["cpu"], f"{machine['cores']} cores", f"through {device.get('binding', '?')}"]
    length = f"{document['effort']['frames']} frames per figure" + (" (quick)" if document["quick"] else "")
    return "; ".join([", ".join(words), length, *([] if document["complete"] else ["NOT COMPLETE"])])


def verdicts(document: dict[str, Any]) -> list[str]:
    """What the tests and checks say, and the whole frame of every engine against the aim."""
    found = []
    for part in document["parts"]:
        facts, aim = part["facts"], "the network's time is not in it"
        if part["name"] == TESTS and facts:
            found.append(f"Tests marked gpu: {', '.join(f'{number} {what}' for what, number in facts.items())}")
        if "largest_difference_px" in facts:
            found.append(f"{part['group']}: points differ from the CPU's by {facts['largest_difference_px']:.3g} px at most")
        for row in (row for row in part["rows"] if row["name"] == WHOLE_FRAME):
            if part["group"] != WITHOUT_NETWORK:
                aim = f"{'below' if row['p99_ms'] < AIM_MS else 'ABOVE'} the aim of {AIM_MS:g} ms"
            times = f"{row['p50_ms']:.3f} ms (p50), {row['p99_ms']:.3f} ms (p99)"
            found.append(f"{part['group']}: 720p frame to landmarks and vertices in {times}: {aim}")
    return found


def remarks(document: dict[str, Any]) -> dict[str, list[str]]:
    """What failed, was left out or is doubtful, each reason once with the parts that it is about; a heading with nothing under it is left out."""
    said = [(part, part["outcome"], part["reason"]) for part in document["parts"] if part["outcome"] != "measured"]
    said += [(part, "remarks", note) for part in document["parts"] for note in part["notes"]]
    found: dict[str, dict[str, list[str]]] = {"failed": {}, "left out": {}, "remarks": {}}
    for part, heading, reason in said:
        found[heading].setdefault(reason, []).append(f"{part['group']}, {part['name']}")
    lines = {heading: [f"{_some(names)}: {reason}" for reason, names in reasons.items()] for heading, reasons in found.items()}
    lines["remarks"][:0] = document["warnings"]
    return {heading.capitalize(): entries for heading, entries in lines.items() if entries}


def _some(names: list[str]) -> str:
    return "; ".join(names) if len(names) <= MOST_NAMES else f"{names[0]}; and {len(names) - 1} more parts"


def grouped(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The parts by group, in their order."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for part in document["parts"]:
        groups.setdefault(part["group"], []).append(part)
    return groups


def rows_of(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for part in parts for row in part["rows"]]


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table."""
    extra = []
    if "gigabytes_per_s" in row:
        extra.append(f"{row['kilobytes']:g} kB, {row['gigabytes_per_s']:g} GB/s")
    if "frames_per_s" in row:
        extra.append(f"{row['frames_per_s']:,.0f} frames/s")
    if row.get("faces", 1) > 1:
        extra.append(f"{1000 * row['p50_ms'] / row['faces']:,.1f} per face")
    return (row["name"], *(f"{1000 * row[key]:,.1f}" for key in ("p50_ms", "p90_ms", "p99_ms", "max_ms")), str(row["frames"]), "; ".join(extra))


def _plots(parts: list[dict[str, Any]]) -> str:
    """A chart of each kind of figure: several faces, for instance, would make all else in one chart look like nothing."""
    charts: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        for row in part["rows"]:
            title = "Several faces" if row.get("faces", 1) > 1 else CHARTS.get(part["name"], "p50, with a tick at p99")
            charts.setdefault(title, []).append(row)
    return plots(figure(_bars(title, rows), f"{title}, µs") for title, rows in charts.items())


def _bars(title: str, rows: list[dict[str, Any]]) -> str:
    drawn = [Bar(row["name"], ((1000 * row["p50_ms"], 0),), f"{1000 * row['p50_ms']:,.1f}", mark=1000 * row["p99_ms"]) for row in rows]
    return bars(title, drawn, Axis(0, max(1000 * row["p99_ms"] for row in rows) or 1.0, "µs"))


def _machine(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Everything that is known of the machine, flat."""
    found: list[tuple[str, str]] = []

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{name} {key}".strip(), inner)
        elif value not in (None, "", []):
            found.append((name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value)))

    for name, value in (("", document["machine"]), ("device", document["device"]), ("", document["versions"]), ("", document["conditions"])):
        add(name, value)
    for part in (part for part in document["parts"] if part["facts"] != document["device"]):
        add(f"{part['group']}, {part['name']}:", part["facts"])
    add("commit", document["commit"])
    return found
