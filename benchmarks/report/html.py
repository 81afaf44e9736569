"""The pieces that sections of a report are put together from: figures, legends, tables, numbers in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from benchmarks.records.record import Record

PRECISION_COLOURS = {"fp16": 0, "int8": 1, "fp32": 2}


def figure(content: str, caption: str) -> str:
    """A plot under its caption."""
    return f"<figure><figcaption>{escape(caption)}</figcaption>{content}</figure>"


def plots(figures: Iterable[str]) -> str:
    """Figures side by side where there is room."""
    return f"<div class=plots>{''.join(figures)}</div>"


def legend(items: Iterable[tuple[str, int]], style: str = "c") -> str:
    """Names with the squares of their colours, or with style ``m`` the lines that mark them."""
    return f"<p class=legend>{''.join(f'<span><i class={style}{number}></i>{escape(name)}</span>' for name, number in items)}</p>"


def table(rows: Sequence[Sequence[str]], caption: str) -> str:
    """The first row is the head; it scrolls where it is wider than the page, while the first column stays."""
    head, *body = rows
    lines = (f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in body)
    names = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f"<div class=scroll><table><caption>{escape(caption)}</caption><tr>{names}</tr>{''.join(lines)}</table></div>"


def source(record: Record, is_measured: bool = True) -> str:
    """Where the figures below it come from; what is computed comes from no machine."""
    command = record.document.get("command")
    code = f" · <code>{escape(command)}</code>" if isinstance(command, str) else ""
    return f"<p class=source>{f'{escape(record.machine)} · ' if is_measured else ''}{escape(record.name)}{code}</p>"


def of_kind(records: Sequence[Record], kind: str) -> list[Record]:
    """The records of one kind."""
    return [record for record in records if record.kind == kind]


def ms(value: float | None) -> str:
    """Milliseconds without the unit."""
    return decimals(value, 3 if value is not None and value < 1 else 2 if value is not None and value < 100 else 0)


def decimals(value: float | None, places: int = 2) -> str:
    """A number, – where there is none."""
    return "–" if value is None else f"{value:,.{places}f}"
