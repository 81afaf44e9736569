"""The findings of `benchmarks.gpu.gpu_report` in words and rows: headline, verdicts, remarks, terminal text."""

from __future__ import annotations

from typing import Any

from benchmarks.records.provenance import text_table

AIM_MS = 1.0  # p99 of a whole frame
MOST_NAMES = 2  # of parts with the same remark
HEAD = ("µs", "p50", "p90", "p99", "max", "frames", "")
PERCENTILES = ("p50_ms", "p90_ms", "p99_ms", "max_ms")
WHOLE_FRAME = "whole frame"  # the setting of frames that is held against the aim
TESTS = "gpu"  # the part that runs the tests
WITHOUT_NETWORK = "Frames without a network"  # a group of parts
Part = dict[str, Any]  # of a document; see `benchmarks.gpu.worker.Result`


def text(document: dict[str, Any]) -> str:
    """Return the figures and everything that went wrong, for a terminal."""
    lines = []
    for group, parts in grouped(document).items():
        if rows := rows_of(parts):
            lines += ["", group, text_table([HEAD, *map(cells, rows)], left=1)]
    for heading, entries in remarks(document).items():
        lines += ["", f"{heading}:", *(f"  {entry}" for entry in entries)]
    return "\n".join([headline(document), *verdicts(document), *lines])


def headline(document: dict[str, Any]) -> str:
    """Return the machine in one line, with a word if the report is not complete."""
    device, machine = document["device"], document["machine"]
    words = [f"{device.get('name', '?')}, compute capability {device.get('compute_capability', '?')}"]
    if document.get("driver"):
        words.append(f"driver {document['driver']}")
    words += [machine.get("board") or machine["cpu"], f"{machine['cores']} cores"]
    words.append(f"through {device.get('binding', '?')}")
    length = f"{document['effort']['frames']} frames per figure" + (" (quick)" if document["quick"] else "")
    sentences = [", ".join(words), length]
    if not document["complete"]:
        sentences.append("NOT COMPLETE")
    return "; ".join(sentences)


def verdicts(document: dict[str, Any]) -> list[str]:
    """Return the outcome of tests and checks, and the whole frame of every engine against the aim."""
    found = []
    for part in document["parts"]:
        facts = part["facts"]
        if part["name"] == TESTS and facts:
            counts = ", ".join(f"{number} {outcome}" for outcome, number in facts.items())
            found.append(f"Tests marked gpu: {counts}")
        if "largest_difference_px" in facts:
            difference = f"{facts['largest_difference_px']:.3g} px"
            found.append(f"{part['group']}: points differ from the CPU's by {difference} at most")
        if "largest_box_difference_px" in facts:
            difference = f"{facts['largest_box_difference_px']:.3g} px"
            found.append(f"{part['group']}: boxes differ from the CPU's by {difference} at most")
        found += [_frame_verdict(part, row) for row in part["rows"] if row["name"] == WHOLE_FRAME]
    return found


def _frame_verdict(part: Part, row: dict[str, Any]) -> str:
    times = f"{row['p50_ms']:.3f} ms (p50), {row['p99_ms']:.3f} ms (p99)"
    if part["group"] == WITHOUT_NETWORK:
        aim = "the network's time is not in it"
    else:
        aim = f"{'below' if row['p99_ms'] < AIM_MS else 'ABOVE'} the aim of {AIM_MS:g} ms"
    return f"{part['group']}: 720p frame to landmarks and vertices in {times}: {aim}"


def remarks(document: dict[str, Any]) -> dict[str, list[str]]:
    """Return failures, parts left out and doubts by heading, each reason once with the parts that it is about."""
    said = [(part, part["outcome"], part["reason"]) for part in document["parts"] if part["outcome"] != "measured"]
    said += [(part, "remarks", note) for part in document["parts"] for note in part["notes"]]
    # Parts by heading and reason.
    found: dict[str, dict[str, list[str]]] = {"failed": {}, "left out": {}, "remarks": {}}
    for part, heading, reason in said:
        found[heading].setdefault(reason, []).append(f"{part['group']}, {part['name']}")
    # One line per reason; doubts about the machine come first.
    lines = {}
    for heading, reasons in found.items():
        lines[heading] = [f"{_some(names)}: {reason}" for reason, names in reasons.items()]
    lines["remarks"] = [*document["warnings"], *lines["remarks"]]
    return {heading.capitalize(): entries for heading, entries in lines.items() if entries}


def _some(names: list[str]) -> str:
    return "; ".join(names) if len(names) <= MOST_NAMES else f"{names[0]}; and {len(names) - 1} more parts"


def grouped(document: dict[str, Any]) -> dict[str, list[Part]]:
    """Return the parts by group, in their order."""
    groups: dict[str, list[Part]] = {}
    for part in document["parts"]:
        groups.setdefault(part["group"], []).append(part)
    return groups


def rows_of(parts: list[Part]) -> list[dict[str, Any]]:
    """Return the measured rows of all parts."""
    return [row for part in parts for row in part["rows"]]


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Format a measured row as a line of the table under HEAD, in microseconds."""
    extra = []
    if "gigabytes_per_s" in row:
        extra.append(f"{row['kilobytes']:g} kB, {row['gigabytes_per_s']:g} GB/s")
    if "frames_per_s" in row:
        extra.append(f"{row['frames_per_s']:,.0f} frames/s")
    if row.get("faces", 1) > 1:
        extra.append(f"{1000 * row['p50_ms'] / row['faces']:,.1f} per face")
    times = (f"{1000 * row[key]:,.1f}" for key in PERCENTILES)
    return (row["name"], *times, str(row["frames"]), "; ".join(extra))
