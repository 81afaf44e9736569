"""Style rules that a program can count: columns, first words of docstrings, modules that know a position map."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_import_graph import SOURCES
from tests.test_import_rules import MAY_IMPORT, ROOT, modules

COLUMNS = 120
FIRST_WORDS = re.compile(r"(What|Which|Where|Whether|How|That)\b")
RELATIVE_WORDS = re.compile(r"\b(what|who|which|where|those)\b", re.IGNORECASE)
LARGEST_SHARE = 0.06
POSITION_MAP = re.compile(r"output\.size|output\.scale|face_indices|UVTopology|Decoder\(")
FAMILIES = ROOT / "runtime" / "families"
MOST_FILES = 8


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield line number and first paragraph of every docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text.split("\n\n")[0]


def located(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def all_docstrings() -> dict[str, str]:
    """Return place -> first paragraph, of every docstring of the five packages."""
    found = [(path, docstrings(path.read_text(encoding="utf-8"))) for path in modules().values()]
    return {located(path, line): paragraph for path, each in found for line, paragraph in each}


def long_lines(source: str) -> list[int]:
    return [number for number, line in enumerate(source.splitlines(), 1) if len(line) > COLUMNS]


def test_lines_end_before_column_120():
    files = [path for package in MAY_IMPORT for path in (ROOT / package).rglob("*") if path.suffix in SOURCES]
    assert [located(path, line) for path in files for line in long_lines(path.read_text(encoding="utf-8"))] == []


def test_docstrings_begin_with_a_verb_or_a_noun():
    assert [place for place, text in all_docstrings().items() if FIRST_WORDS.match(text)] == []


def test_few_docstrings_lean_on_relative_words():
    found = all_docstrings()
    leaning = [place for place, text in found.items() if RELATIVE_WORDS.search(text)]
    assert len(leaning) <= LARGEST_SHARE * len(found), leaning


def test_few_modules_know_a_position_map():
    outside = [path for path in modules().values() if FAMILIES not in path.parents]
    knowing = [path for path in outside if POSITION_MAP.search(path.read_text(encoding="utf-8"))]
    assert len(knowing) <= MOST_FILES, sorted(located(path, 1) for path in knowing)


@pytest.mark.parametrize(
    ("docstring", "begins", "leans"),
    [
        ("Return the size.", False, False),
        ("What is left.", True, True),
        ("Howl at the moon.", False, False),
        ("The files, those of today.", False, True),
        ("Return the size.\n\nOf what lies where.", False, False),
    ],
)
def test_the_rules_find_what_breaks_them(docstring, begins, leans):
    ((line, text),) = docstrings(f'def f():\n    """{docstring}"""\n')
    assert (line, bool(FIRST_WORDS.match(text)), bool(RELATIVE_WORDS.search(text))) == (2, begins, leans)


def test_long_lines_are_found():
    assert long_lines(f"{'x' * 120}\n{'x' * 121}\n") == [2]
