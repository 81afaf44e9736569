"""``python -m benchmarks compare``: find stages that have become slower. Exit code 1 if one certainly has.

NEW.json and BASELINE.json are records of 'python -m benchmarks run' from the same machine, engine and settings; others
are refused. Their intervals cover the noise within each run, not changes of the machine from one day to the other.
--against REVISION avoids that: it builds the revision and the files as they lie, and runs both by turns on the same
cores. Prefer it on a machine that has other things to do.

A stage is "slower" if its whole confidence interval lies beyond --max-regression, and "undecided" if the limit lies
inside the interval: then measure longer or calm the machine. If every stage is slower by exactly the limit, the chance
of an alarm is 1 %. Without a change it is next to none.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.latency.arguments import stage_list
from benchmarks.records.latency_statistics import median_ratio
from benchmarks.records.machine import Watch, doubts
from benchmarks.records.measured_faces import Face, describe_source, load_measured_faces
from benchmarks.records.provenance import REPOSITORY, check_writable, provenance, text_table, write_json
from benchmarks.regression.baseline import Run, differences, load_run
from benchmarks.regression.interleave import (
    FAMILY_ERROR,
    Pairs,
    StageComparison,
    Worker,
    compare_pairs,
    run_interleaved,
    verdict,
    worker_settings,
)
from benchmarks.regression.revision import RevisionError, build, export_revision, export_working_tree, source_key
from runtime.console.arguments import positive_int, positive_number, share_below_one
from runtime.errors import FaceMeshError
from runtime.models.shipped import SHIPPED_PICTURE, shipped_model
from runtime.storage.whole_files import file_sha256

SECONDS = 120.0
WORKING_TREE = "the working tree"
USAGE = """python -m benchmarks compare NEW.json BASELINE.json [--max-regression 10%%] [--stages LIST] [--json FILE]
       python -m benchmarks compare --against REVISION [--engine MODEL] [--source FILE] [--threads N] [--seconds S]
                                    [--gate] …"""

Compared = tuple[list[StageComparison], dict[str, Any]]  # by stage, and facts about the comparison


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``python -m benchmarks compare``."""
    parser = subparsers.add_parser(
        "compare",
        help="regression gate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=USAGE,
    )
    add = parser.add_argument
    add("new", nargs="?", type=Path, metavar="NEW.json", help="what is judged")
    add("baseline", nargs="?", type=Path, metavar="BASELINE.json", help="what it is compared with")
    limit_help = "tolerated slowdown, such as 5%% or 0.05 (default: 10%%)"
    add("--max-regression", type=share_below_one, default=0.1, metavar="SHARE", help=limit_help)
    add("--stages", type=stage_list, metavar="LIST", help="all (default), or some of them with commas between")
    add("--json", type=Path, metavar="FILE", help="write the judgement and where it comes from")

    # The arguments of a comparison by turns.
    add = parser.add_argument_group("with --against").add_argument
    add("--against", metavar="REVISION", help="of git, to build and to run by turns with the files as they lie")
    add("--engine", type=Path, metavar="MODEL", help="that both run; default: the shipped model as it lies")
    source_help = "photo or film whose first face is measured (default: the shipped photo)"
    add("--source", type=Path, default=SHIPPED_PICTURE, metavar="FILE", help=source_help)
    threads_help = "of network and OpenCV, on as many cores (default: 1)"
    add("--threads", type=positive_int, default=1, metavar="N", help=threads_help)
    seconds_help = f"to measure at most (default: {SECONDS:g})"
    add("--seconds", type=positive_number, default=SECONDS, metavar="S", help=seconds_help)
    gate_help = "for continuous integration: where there is nothing to compare, say so and pass"
    add("--gate", action="store_true", help=gate_help)
    parser.set_defaults(func=partial(run_command, parser))


def run_command(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Compare, print, and return the exit code."""
    if (args.new is None) != (args.baseline is None) or (args.new is None) == (args.against is None):
        parser.error("give NEW.json and BASELINE.json, or --against REVISION")
    check_writable(args.json)
    rng = np.random.default_rng(0)

    # Compare. A gate passes if there can be nothing to compare; a revision that is misspelled is a failure.
    if args.against:
        try:
            compared = compare_revision(args, rng)
        except RevisionError as error:
            if not (args.gate and error.name == args.against and error.is_absent):
                raise
            print(f"gate skipped: {error}")
            return 0
        if compared is None:
            print(f"gate passed: the runtime is the same as in {args.against}")
            return 0
    else:
        compared = compare_runs(load_run(args.new), load_run(args.baseline), args.stages, args.max_regression, rng)

    # Print, write and conclude.
    stages, about = compared
    print(format_comparison(stages))
    for note in about["notes"]:
        print(note)
    if args.json:
        rows = [{**vars(row), "ratio": vars(row.ratio)} for row in stages]
        document = {**provenance(), "kind": "comparison", "max_regression": args.max_regression, **about}
        write_json(args.json, {**document, "stages": rows})
    return _conclude(stages, args.max_regression)


def compare_runs(new: Run, baseline: Run, stages: list[str] | None, limit: float, rng: np.random.Generator) -> Compared:
    """Compare two runs by their samples. Raises `FaceMeshError` if they cannot be compared."""
    paths = f"{new.record.path} and {baseline.record.path}"
    if reasons := list(differences(new, baseline)):
        raise FaceMeshError(f"{paths} cannot be compared: {'; '.join(reasons)}")

    # The stages that both have, and those that are missing in one.
    common = [stage for stage in baseline.stages if stage in new.stages and (stages is None or stage in stages)]
    wanted = stages or list(dict.fromkeys([*baseline.stages, *new.stages]))
    missing = [stage for stage in wanted if stage not in common]
    if not common or (stages and missing):
        names = ", ".join(missing)
        raise FaceMeshError(f"{paths}: not both have measured {names}; run both with the same --stages")

    # One interval per stage; the error is shared among them.
    found = []
    for stage in common:
        new_us = new.stages[stage]
        baseline_us = baseline.stages[stage]
        ratio = median_ratio(new_us, baseline_us, FAMILY_ERROR / len(common), rng)
        medians = float(np.median(new_us)), float(np.median(baseline_us))
        found.append(StageComparison(stage, medians[0], medians[1], ratio, verdict(ratio, limit)))
    notes = [f"note: {', '.join(missing)}: only in one of the two, not compared"] if missing else []
    notes += _version_notes(new.record.versions, baseline.record.versions)
    return found, {"new": new.record.name, "baseline": baseline.record.name, "notes": notes}


def _version_notes(new: dict[str, str], baseline: dict[str, str]) -> list[str]:
    changed = [name for name in {**baseline, **new} if baseline.get(name) != new.get(name)]
    return [f"note: {name} is {new.get(name)}, the baseline's was {baseline.get(name)}" for name in changed]


def compare_revision(args: argparse.Namespace, rng: np.random.Generator) -> Compared | None:
    """Build, run by turns and compare; with --gate None if the runtime of both is the same.

    Raises `RevisionError` that names the side that cannot be run.
    """
    engine = args.engine or shipped_model()
    faces = load_measured_faces(args.source)[:1]
    if not engine.is_file():
        raise FaceMeshError(f"{engine}: no model file there; check the path given to --engine")
    watch = Watch()
    pairs = _measure_pairs(args, engine, faces[0], rng)
    if pairs is None:
        return None
    conditions = watch.finish()
    count = len(next(iter(pairs.values())))
    notes = [f"{count} pairs of blocks by turns, {args.threads} core(s)"]
    about = {
        "against": args.against,
        "engine": {"file": engine.name, "sha256": file_sha256(engine)},
        "settings": {"source": describe_source(args.source, faces), "threads": args.threads, "pairs": count},
        "conditions": conditions,
        "notes": [*notes, *(f"warning: {doubt}" for doubt in doubts(conditions))],
    }
    return compare_pairs(pairs, args.max_regression, rng), about


def _measure_pairs(args: argparse.Namespace, engine: Path, face: Face, rng: np.random.Generator) -> Pairs | None:
    """Export and build both sides, and measure them; None if --gate is given and both are the same."""
    with_cuda = engine.suffix.lower() != ".onnx"
    names = (WORKING_TREE, args.against)
    with tempfile.TemporaryDirectory() as scratch:
        # Export both sides.
        folders = [Path(scratch) / "new", Path(scratch) / "baseline"]
        for folder in folders:
            folder.mkdir()
        export_revision(REPOSITORY, args.against, folders[1])
        export_working_tree(REPOSITORY, folders[0])
        if args.gate and len({source_key(folder, with_cuda) for folder in folders}) == 1:
            return None

        # Build them, and run them by turns.
        roots = [build(folder, name, with_cuda) for folder, name in zip(folders, names, strict=True)]
        picture = Path(scratch) / "picture.npy"
        np.save(picture, face.image)
        settings = worker_settings(engine, picture, face.box_xyxy.tolist(), args.threads)
        openers = [partial(Worker, name, root, settings) for name, root in zip(names, roots, strict=True)]
        return run_interleaved(openers, args.stages, args.seconds, rng)


def format_comparison(stages: list[StageComparison]) -> str:
    """Return the table, a line per stage."""
    level = 100 * (1 - 2 * FAMILY_ERROR / len(stages))
    lines = [("stage", "baseline µs", "new µs", "change %", f"{level:.1f} % interval", "verdict")]
    for row in stages:
        ratios = (row.ratio.estimate, row.ratio.low, row.ratio.high)
        change, low, high = (f"{100 * (value - 1):+.1f}" for value in ratios)
        times = (f"{row.baseline_us:.1f}", f"{row.new_us:.1f}")
        lines.append((row.stage, *times, change, f"{low} … {high}", row.verdict))
    return text_table(lines, left=1)


def _conclude(stages: list[StageComparison], limit: float) -> int:
    """Print the last line and return the exit code."""
    slower = [row.stage for row in stages if row.verdict == "slower"]
    undecided = [row.stage for row in stages if row.verdict == "undecided"]
    if slower:
        print(f"failed: {', '.join(slower)} slower by more than {100 * limit:g} %")
        return 1
    doubt = f"; undecided for want of quiet: {', '.join(undecided)}" if undecided else ""
    print(f"passed: no stage is certainly slower by more than {100 * limit:g} %{doubt}")
    return 0
