"""The graph of imports between modules, and the size of folders.

1. No modules import each other in a circle, imports in functions and for type checkers included.
2. The rooms of runtime import in one direction, given by `LAYERS`.
3. No folder holds more than 14 source files.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter

from tests.test_import_rules import MAY_IMPORT, ROOT, parsed

# Rooms and modules of runtime, lowest first: each imports from its own line and from those above alone.
LAYERS = (
    ("runtime.cores", "runtime.errors", "runtime.models.shipped", "runtime.tensors", "runtime.types"),
    ("runtime.native.missing_tools", "runtime.native.examples"),
    ("runtime.compiled", "runtime.console", "runtime.storage"),
    ("runtime.cuda", "runtime.geometry"),
    ("runtime.expressions", "runtime.families", "runtime.rendering", "runtime.sources"),
    ("runtime.models", "runtime.outputs", "runtime.viewer"),
    ("runtime.detection", "runtime.inference"),
    ("runtime.tracking",),
    ("runtime.pipeline",),
    ("runtime.serving",),
    ("runtime.archives",),
    ("runtime.batch", "runtime.run", "runtime.swap"),
    ("runtime.__main__",),
)
LARGEST_FOLDER = 14
SOURCES = {".py", ".cpp", ".h", ".cu"}


def imported_modules(tree: ast.AST, known: Iterable[str]) -> Iterator[str]:
    """Yield the modules of ``known`` that the tree imports: at its top, in functions, for type checkers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if name in known else node.module for name in submodules]
        else:
            continue
        yield from (name for name in found if name in known)


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of one circle of imports, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def layer(module: str) -> int:
    """Return the place in `LAYERS` of the longest name that the module has or lies in."""
    places = {name: place for place, names in enumerate(LAYERS) for name in names}
    fitting = [name for name in places if module == name or module.startswith(f"{name}.")]
    assert fitting, f"{module} is not in LAYERS; add its room where it belongs"
    return places[max(fitting, key=len)]


def layer_faults(graph: dict[str, set[str]]) -> list[str]:
    """Return the imports of runtime from a higher layer; ``runtime`` itself, the public names, belongs to none."""
    edges = [(module, name) for module in graph for name in graph[module] if module.startswith("runtime.")]
    return [f"{module} imports {name}" for module, name in edges if name != "runtime" and layer(module) < layer(name)]


@cache
def import_graph() -> dict[str, set[str]]:
    """Return module -> modules of the five packages that it imports."""
    trees = parsed()
    return {module: {*imported_modules(tree, trees)} - {module} for module, tree in trees.items()}


def test_nothing_imports_in_a_circle():
    assert circle(import_graph()) == []


def test_rooms_of_runtime_import_in_one_direction():
    assert layer_faults(import_graph()) == []


def test_graph_rules_find_what_breaks_them():
    known = {"runtime.x", "runtime.y", "runtime.errors", "runtime.run"}
    lazy = "def f():\n    from runtime import y"
    type_only = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from runtime.x import X"
    graph = {"runtime.x": {*imported_modules(ast.parse(lazy), known)}}
    assert (circle(graph), graph) == ([], {"runtime.x": {"runtime.y"}})
    graph["runtime.y"] = {*imported_modules(ast.parse(type_only), known)}
    assert {*circle(graph)} == {"runtime.x", "runtime.y"}
    upwards = {"runtime.errors": {*imported_modules(ast.parse("import runtime.run"), known)}}
    assert layer_faults(upwards) == ["runtime.errors imports runtime.run"]
    assert layer_faults({"runtime.run": {"runtime.errors", "runtime"}}) == []


def test_folders_are_small():
    sources = [path for package in MAY_IMPORT for path in (ROOT / package).rglob("*") if path.suffix in SOURCES]
    counts = Counter(str(path.parent.relative_to(ROOT)) for path in sources if path.name != "__init__.py")
    assert {folder: count for folder, count in counts.items() if count > LARGEST_FOLDER} == {}
