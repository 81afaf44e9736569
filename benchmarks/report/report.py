"""``python -m benchmarks report RESULTS.json … -o report.html``: one page of plots and tables from measured records.

The page needs nothing but itself, reads on a phone, prints, and follows the dark mode of the device. Sections without
data are named at its end.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.records.provenance import check_writable
from benchmarks.report.accuracy_sections import accuracy_against_latency, accuracy_by_yaw, int8, robustness
from benchmarks.report.content import Listing, Page, Section
from benchmarks.report.films_sections import ablations, jitter, soak, tracking
from benchmarks.report.record_files import KINDS, Record, read_records
from benchmarks.report.speed import latency, library, peers, rewrites, roofline
from runtime.errors import FaceMeshError, one_line
from runtime.storage.whole_files import whole_file

SECTIONS = (  # title, the function that makes it, kinds of records that it needs
    ("Latency", latency, ("latency",)),
    ("Beside other programs", peers, ("peers",)),
    ("Accuracy by yaw", accuracy_by_yaw, ("accuracy",)),
    ("Accuracy against latency", accuracy_against_latency, ("accuracy", "latency")),
    ("Robustness", robustness, ("robustness",)),
    ("INT8", int8, ("int8",)),
    ("Films, tracked", tracking, ("tracking",)),
    ("Jitter and lag", jitter, ("jitter",)),
    ("Long runs", soak, ("soak",)),
    ("Trainings with parts left out", ablations, ()),
    ("Whole frames in C and Python", library, ("library",)),
    ("Rewritten graph", rewrites, ("rewrites",)),
    ("Roofline", roofline, ("roofline",)),
)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``python -m benchmarks report``."""
    parser = subparsers.add_parser(
        "report",
        help="one HTML page from measured records",
        description=__doc__,
        epilog=f"Kinds of records: {', '.join(kind.name for kind in KINDS)}.",
    )
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS.json", help="files that the other commands wrote with --json"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="REPORT.html", help="the page to write")
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> None:
    check_writable(args.output)
    html = _render(read_records(args.results)).encode(errors="replace")
    with whole_file(args.output) as file:
        file.write(html)
    print(f"{args.output}: {len(html) / 1000:.0f} kB from {len(args.results)} records")


def _render(records: Sequence[Record]) -> str:
    """Return the page as HTML. Raises `FaceMeshError` for a record that is damaged in a way its shape does not show."""
    from benchmarks.report.page import render

    try:
        return render(make_page(records))
    except (FaceMeshError, MemoryError):
        raise
    except Exception:  # whoever follows the names and numbers of a damaged record raises a dozen types
        for record in records:
            try:
                render(make_page([record]))
            except Exception as error:
                fault = f"not a sound {record.kind} record ({type(error).__name__}: {one_line(error, 200)})"
                raise FaceMeshError(f"{record.path}: {fault}; measure again") from None
        raise


def make_page(records: Sequence[Record]) -> Page:
    """Return the content of the page: sections with data, names of sections without, origins."""
    sections, missing = [], []
    for title, make_blocks, kinds in SECTIONS:
        if blocks := make_blocks(records):
            sections.append(Section(title, tuple(blocks)))
        else:
            missing.append(f"{title}: {_commands(kinds)}" if kinds else title)
    closings = [Listing("Where the figures come from", _origins(records))]
    if missing:
        closings.insert(0, Listing("Not in this report", tuple(missing), "No data were given for"))
    return Page("facemesh-edge: measurements", sections=tuple(sections), closings=tuple(closings))


def _commands(kinds: Sequence[str]) -> str:
    commands = {kind.name: kind.command for kind in KINDS}
    return " and ".join(f"python -m benchmarks {commands[kind]}" for kind in kinds)


def _origins(records: Sequence[Record]) -> tuple[str, ...]:
    """Return machines and versions behind the records, one line for all records that share them."""
    groups: dict[str, list[str]] = {}
    for record in records:
        versions = record.document.get("versions")
        words = [record.machine]
        if isinstance(versions, dict):
            words += [f"{name} {version}" for name, version in versions.items()]
        groups.setdefault(", ".join(words), []).append(f"{record.name}{_commit(record)}")
    return tuple(f"{', '.join(names)}: {origin}" for origin, names in groups.items())


def _commit(record: Record) -> str:
    """Return the measured revision in brackets, or nothing without one in the record."""
    commit = record.document.get("commit")
    if not isinstance(commit, dict):
        return ""
    return f" ({str(commit.get('revision'))[:10]}{' with changes' if commit.get('dirty') else ''})"
