"""``python -m tests.programs.mutants [MODULE …] [--most N]``: change one place of a module, run its tests.

A mutant that no test notices is named, with the line before and after: either a test is missing, or the change has no
effect. Tests run in a process of their own for each mutant; the tree stays as it is.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.util
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2  # noqa: F401 - these take long to import, and no mutant changes them
import numpy  # noqa: F401
import onnx  # noqa: F401
import onnxruntime  # noqa: F401
import pytest

# Module -> the tests that shall notice what is wrong with it.
MODULES = {
    "runtime.geometry.crop": ["tests/runtime/geometry/test_crop.py", "tests/runtime/families/test_coefficients.py"],
    "runtime.geometry.pose": ["tests/runtime/geometry/test_pose.py"],
    "runtime.geometry.camera": ["tests/runtime/geometry/test_camera.py"],
    "runtime.geometry.nme": ["tests/runtime/geometry/test_nme.py"],
    "runtime.geometry.boxes": ["tests/runtime/geometry", "tests/runtime/test_pipeline.py"],
    "runtime.families.position_map": [
        "tests/runtime/families/test_position_map.py",
        "tests/runtime/models/test_spec.py",
        "tests/runtime/test_pipeline.py",
        "tests/runtime/inference/trt/test_gpu_mesher.py",
    ],
    "runtime.models.detector_spec": ["tests/runtime/models/test_detector_spec.py"],
    "calibration.detectors.scenes": ["tests/calibration/detectors/test_scenes.py"],
    "calibration.detectors.judge": ["tests/calibration/detectors/test_judge.py"],
    "runtime.families.uv_topology": [
        "tests/runtime/families/test_uv_grid.py",
        "tests/runtime/families/test_uv_files.py",
        "tests/runtime/families/test_uv_topology.py",
        "tests/runtime/rendering",
        "tests/runtime/outputs/test_sinks.py",
    ],
    "runtime.models.manifest": ["tests/runtime/models", "tests/runtime/inference/trt/test_runner.py"],
    "calibration.accuracy.gate": ["tests/calibration/accuracy", "tests/calibration/test_command.py"],
    "benchmarks.regression.baseline": ["tests/benchmarks/regression"],
    "benchmarks.regression.compare": ["tests/benchmarks/regression"],
    "benchmarks.regression.interleave": ["tests/benchmarks/regression"],
    "benchmarks.regression.revision": ["tests/benchmarks/regression"],
    "benchmarks.regression.frame_worker": ["tests/benchmarks/regression"],
}
LONGEST_S = 300
COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
COMPARED |= {ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}
COMPUTED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}
COMPUTED |= {ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr}


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in the place of a node."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        yield _with(node, ops=[COMPARED[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, ast.BinOp) and type(node.op) in COMPUTED:
        yield _with(node, op=COMPUTED[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.And() if isinstance(node.op, ast.Or) else ast.Or())
        yield node.values[0]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield node.body
        yield node.orelse
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        yield ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.If):
        yield _with(node, test=ast.Constant(False))
        yield _with(node, test=ast.Constant(True))
    elif isinstance(node, (ast.Raise, ast.AugAssign)) or (
        isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
    ):
        yield ast.Pass()


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def places_of(source: str) -> list[tuple[int, int]]:
    """Return every mutant as the number of its node and of the change."""
    tree = ast.parse(source)
    parents = _parents(tree)
    nodes = [(number, node) for number, node in enumerate(ast.walk(tree)) if node in parents]
    free = [(number, node) for number, node in nodes if not _is_annotation(node, parents)]
    return [(number, change) for number, node in free for change in range(len(list(changes(node))))]


def mutant(source: str, number: int, change: int) -> tuple[ast.Module, int, str, str]:
    """Return a mutant as its tree, with line number and the statement before and after."""
    tree = ast.parse(source)
    parents = _parents(tree)
    node = list(ast.walk(tree))[number]
    new = ast.copy_location(list(changes(node))[change], node)
    statement = node
    while not isinstance(statement, ast.stmt):
        statement = parents[statement]
    before = ast.unparse(statement).splitlines()[0]
    _replace(parents[node], node, new)
    after = ast.unparse(new if statement is node else statement).splitlines()[0]
    return ast.fix_missing_locations(tree), node.lineno, before, after


def _parents(tree: ast.Module) -> dict[ast.AST, ast.AST]:
    return {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}


def _is_annotation(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    while node in parents:
        parent = parents[node]
        if node in (getattr(parent, "annotation", None), getattr(parent, "returns", None)):
            return True
        if node in getattr(parent, "decorator_list", ()):
            return True
        node = parent
    return False


def _replace(parent: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for name, value in ast.iter_fields(parent):
        if value is old:
            setattr(parent, name, new)
        elif isinstance(value, list) and old in value:
            value[value.index(old)] = new


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module, changed."""

    def __init__(self, name: str, tree: ast.Module, path: Path) -> None:
        self._name, self._tree, self._path = name, tree, path

    def find_spec(self, name, path, target=None):
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._path, loader=self)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(compile(self._tree, str(self._path), "exec"), module.__dict__)


def start_changed(tree: ast.Module, path: Path, folder: str) -> None:
    """Let Python processes whose script is the module run a changed copy of it."""
    script = Path(folder, path.name)
    script.write_text(ast.unparse(tree))
    start = subprocess.Popen.__init__

    def start_copy(self, args, *rest, **options):
        if isinstance(args, list):
            args = [script if str(word) == str(path.resolve()) else word for word in args]
        start(self, args, *rest, **options)

    subprocess.Popen.__init__ = start_copy


def is_noticed(name: str, tree: ast.Module, path: Path, tests: list[str]) -> bool:
    """Run the tests with the changed module in a process of their own; True if one fails or takes too long."""
    with tempfile.TemporaryDirectory() as folder:
        return _is_noticed(name, tree, path, tests, folder)


def _is_noticed(name: str, tree: ast.Module, path: Path, tests: list[str], folder: str) -> bool:
    child = os.fork()
    if child == 0:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        sys.meta_path.insert(0, Finder(name, tree, path))
        start_changed(tree, path, folder)
        code = 1
        with contextlib.suppress(BaseException):
            code = pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests])
        os._exit(int(code))
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) != 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def main() -> int:
    """Try the mutants of some modules; the exit code is 1 if one survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.programs.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(MODULES))
    parser.add_argument("--most", type=int, default=0, help="mutants of each module, at random (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lines", type=int, nargs="*", default=[], help="of the module; default: all")
    args = parser.parse_args()
    tried = survived = 0
    for name in args.modules:
        path = Path(name.replace(".", "/") + ".py")
        source = path.read_text()
        found = [place for place in places_of(source) if not args.lines or mutant(source, *place)[1] in args.lines]
        chosen = random.Random(args.seed).sample(found, min(args.most or len(found), len(found)))
        if is_noticed(name, ast.parse(source), path, MODULES[name]):
            raise SystemExit(f"{name}: its tests fail without a change")
        for place in sorted(chosen):
            tree, line, before, after = mutant(source, *place)
            tried += 1
            if not is_noticed(name, tree, path, MODULES[name]):
                survived += 1
                print(f"{path}:{line}: {before}\n    survives as: {after}", flush=True)
        print(f"{name}: {len(chosen)} of {len(found)} mutants tried", flush=True)
    print(f"{tried - survived} of {tried} mutants noticed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
