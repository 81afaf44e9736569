"""``python -m benchmarks report RESULTS.json … -o report.html``: one page of plots and tables from measured records.

The page needs nothing but itself, reads on a phone, prints, and follows the dark mode of the device. Sections without data are named at its end.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from html import escape
from pathlib import Path

from benchmarks.report.accuracy_sections import accuracy_against_latency, accuracy_by_yaw, int8
from benchmarks.report.record_files import KINDS, Record, read_records
from benchmarks.report.speed import latency, peers, rewrites, roofline
from benchmarks.report.style import STYLE
from runtime.errors import FaceMeshError
from runtime.storage.whole_files import whole_file

SECTIONS = (  # title, what makes it, kinds of records that it needs
    ("Latency", latency, ("latency",)),
    ("Beside other programs", peers, ("peers",)),
    ("Accuracy by yaw", accuracy_by_yaw, ("accuracy",)),
    ("Accuracy against latency", accuracy_against_latency, ("accuracy", "latency")),
    ("INT8", int8, ("int8",)),
    ("Rewritten graph", rewrites, ("rewrites",)),
    ("Roofline", roofline, ("roofline",)),
)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """``python -m benchmarks report``."""
    kinds = ", ".join(kind.name for kind in KINDS)
    parser = subparsers.add_parser("report", help="one HTML page from measured records", description=__doc__, epilog=f"Kinds of records: {kinds}.")
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS.json", help="files that the other commands wrote with --json")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="REPORT.html")
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> None:
    if not args.output.parent.is_dir():
        raise FaceMeshError(f"{args.output}: there is no folder {args.output.parent}; create it or choose another place")
    page = render(read_records(args.results))
    with whole_file(args.output) as file:
        file.write(page.encode())
    print(f"{args.output}: {len(page.encode()) / 1000:.0f} kB from {len(args.results)} records")


def render(records: Sequence[Record]) -> str:
    """The page as HTML."""
    contents = [(title, needs, section(records)) for title, section, needs in SECTIONS]
    present = [(title, content) for title, _, content in contents if content]
    links = "".join(f'<a href="#s{i}">{escape(title)}</a>' for i, (title, _) in enumerate(present))
    body = "".join(f'<section id="s{i}"><h2>{escape(title)}</h2>{content}</section>' for i, (title, content) in enumerate(present))
    missing = "".join(f"<li>{escape(title)}: {escape(_wanted(needs))}</li>" for title, needs, content in contents if not content)
    absent = f"<section><h2>Not in this report</h2><p>No data were given for</p><ul>{missing}</ul></section>" if missing else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>facemesh-edge: measurements</title><style>{STYLE}</style></head>\n"
        f"<body><h1>facemesh-edge: measurements</h1><nav>{links}</nav>{body}{absent}{_origins(records)}</body></html>\n"
    )


def _wanted(kinds: Sequence[str]) -> str:
    commands = {kind.name: kind.command for kind in KINDS}
    return " and ".join(f"python -m benchmarks {commands[kind]}" for kind in kinds)


def _origins(records: Sequence[Record]) -> str:
    """Machines and versions behind the records, for whoever wants to measure again."""
    groups: dict[str, list[str]] = {}
    for record in records:
        versions = record.document.get("versions")
        words = [record.machine, *(f"{name} {version}" for name, version in (versions if isinstance(versions, dict) else {}).items())]
        groups.setdefault(", ".join(words), []).append(f"{record.name}{_commit(record)}")
    lines = "".join(f"<li>{escape(', '.join(names))}: {escape(origin)}</li>" for origin, names in groups.items())
    return f"<section><h2>Where the figures come from</h2><ul class=source>{lines}</ul></section>"


def _commit(record: Record) -> str:
    """The revision that was measured, in brackets, where the record has it."""
    commit = record.document.get("commit")
    if not isinstance(commit, dict):
        return ""
    return f" ({str(commit.get('revision'))[:10]}{' with changes' if commit.get('dirty') else ''})"
