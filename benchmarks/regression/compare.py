"""``python -m benchmarks compare``: is it slower than before? Exit code 1 where a stage certainly is, by more than --max-regression.

NEW.json and BASELINE.json are records of 'python -m benchmarks run' from the same machine, engine and settings; others are refused. Their
intervals know the noise within each run, not what changed on the machine from one day to the other. ``--against REVISION`` does: it builds that
revision and the files as they lie, and runs both by turns on the same cores. Prefer it on a machine that has other things to do.

A stage is "slower" where the whole confidence interval lies beyond the limit, "undecided" where the limit lies inside it: measure longer or calm
the machine. A comparison in which every stage is slower by exactly the limit raises an alarm with a chance of 1 %, one without a change with next
to none.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.latency.arguments import stage_list
from benchmarks.records.latency_statistics import median_ratio
from benchmarks.records.machine import Watch, doubts
from benchmarks.records.measured_faces import describe_source, load_subjects
from benchmarks.records.provenance import REPOSITORY, check_writable, provenance, text_table, write_json
from benchmarks.regression.baseline import Record, differences, load_record
from benchmarks.regression.interleave import FAMILY_ERROR, Judgement, Worker, judge, run_interleaved, verdict
from benchmarks.regression.revision import RevisionError, build, export_revision, export_working_tree, source_key
from runtime.console.arguments import positive_int, positive_number, share_below_one
from runtime.errors import FaceMeshError
from runtime.models.shipped import SHIPPED_MODEL, SHIPPED_PICTURE
from runtime.storage.whole_files import file_sha256

SECONDS = 120.0
WORKING_TREE = "the working tree"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """``python -m benchmarks compare``."""
    parser = subparsers.add_parser(
        "compare", help="regression gate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=USAGE
    )
    parser.add_argument("new", nargs="?", type=Path, metavar="NEW.json", help="what is judged")
    parser.add_argument("baseline", nargs="?", type=Path, metavar="BASELINE.json", help="what it is compared with")
    limit_help = "tolerated slowdown, such as 5%% or 0.05 (default: 10%%)"
    parser.add_argument("--max-regression", type=share_below_one, default=0.1, metavar="SHARE", help=limit_help)
    parser.add_argument("--stages", type=stage_list, metavar="LIST", help="all (default), or some of them with commas between")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the judgement and where it comes from")
    against = parser.add_argument_group("with --against")
    against.add_argument("--against", metavar="REVISION", help="of git, to build and to run by turns with the files as they lie")
    against.add_argument("--engine", type=Path, metavar="MODEL", help="that both run; default: the shipped model as it lies")
    against.add_argument("--source", type=Path, default=SHIPPED_PICTURE, metavar="FILE", help="photo or film whose first face is measured")
    against.add_argument("--threads", type=positive_int, default=1, metavar="N", help="of network and OpenCV, on as many cores (default: 1)")
    against.add_argument("--seconds", type=positive_number, default=SECONDS, metavar="S", help=f"to measure at most (default: {SECONDS:g})")
    against.add_argument("--gate", action="store_true", help="for continuous integration: where there is nothing to compare, say so and pass")
    parser.set_defaults(func=partial(_run, parser))


USAGE = """python -m benchmarks compare NEW.json BASELINE.json [--max-regression 10%%] [--stages LIST] [--json FILE]
       python -m benchmarks compare --against REVISION [--engine MODEL] [--source FILE] [--threads N] [--seconds S] [--gate] …"""


def _run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    if (args.new is None) != (args.baseline is None) or (args.new is None) == (args.against is None):
        parser.error("give NEW.json and BASELINE.json, or --against REVISION")
    check_writable(args.json)
    rng = np.random.default_rng(0)
    if args.against:
        try:
            compared = compare_revision(args, rng)
        except RevisionError as error:
            if not (args.gate and error.name == args.against):
                raise
            print(f"gate skipped: {error}")
            return 0
        if compared is None:
            print(f"gate passed: the runtime is the same as in {args.against}")
            return 0
        judgements, about = compared
    else:
        judgements, about = compare_records(load_record(args.new), load_record(args.baseline), args.stages, args.max_regression, rng)
    print(format_judgements(judgements))
    for note in about["notes"]:
        print(note)
    if args.json:
        rows = [{**vars(row), "ratio": vars(row.ratio)} for row in judgements]
        write_json(args.json, {**provenance(), "kind": "comparison", "max_regression": args.max_regression, **about, "stages": rows})
    return _conclude(judgements, args.max_regression)


def compare_records(
    new: Record, baseline: Record, stages: list[str] | None, limit: float, rng: np.random.Generator
) -> tuple[list[Judgement], dict[str, Any]]:
    """Judge two runs by their samples. Raises `FaceMeshError` where they cannot be compared."""
    if reasons := list(differences(new, baseline)):
        raise FaceMeshError(f"{new.path} and {baseline.path} cannot be compared: {'; '.join(reasons)}")
    common = [stage for stage in baseline.stages if stage in new.stages and (stages is None or stage in stages)]
    wanted = stages or [*baseline.stages, *(stage for stage in new.stages if stage not in baseline.stages)]
    missing = [stage for stage in wanted if stage not in common]
    if not common or (stages and missing):
        raise FaceMeshError(f"{new.path} and {baseline.path}: not both have measured {', '.join(missing)}; run both with the same --stages")
    judgements = []
    for stage in common:
        samples = new.stages[stage], baseline.stages[stage]
        ratio = median_ratio(*samples, FAMILY_ERROR / len(common), rng)
        judgements.append(Judgement(stage, *(float(np.median(one)) for one in samples), ratio, verdict(ratio, limit)))
    notes = [f"note: {', '.join(missing)}: only in one of the two, not compared"] if missing else []
    changed = [name for name in {**baseline.versions, **new.versions} if baseline.versions.get(name) != new.versions.get(name)]
    notes += [f"note: {name} is {new.versions.get(name)}, the baseline's was {baseline.versions.get(name)}" for name in changed]
    return judgements, {"new": new.path.name, "baseline": baseline.path.name, "notes": notes}


def compare_revision(args: argparse.Namespace, rng: np.random.Generator) -> tuple[list[Judgement], dict[str, Any]] | None:
    """Build, run by turns and judge; with --gate None where both are the same. Raises `RevisionError` that names the side that cannot be run."""
    engine, faces = args.engine or SHIPPED_MODEL, load_subjects(args.source)[:1]
    if not engine.is_file():
        raise FaceMeshError(f"{engine}: no model file there; check the path given to --engine")
    watch, with_cuda = Watch(), engine.suffix.lower() != ".onnx"
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / name for name in ("new", "baseline")]
        for folder in folders:
            folder.mkdir()
        export_revision(REPOSITORY, args.against, folders[1])
        export_working_tree(REPOSITORY, folders[0])
        if args.gate and len({source_key(folder, with_cuda) for folder in folders}) == 1:
            return None
        names = WORKING_TREE, args.against
        roots = [build(folder, name, with_cuda) for folder, name in zip(folders, names, strict=True)]
        np.save(picture := Path(scratch) / "picture.npy", faces[0].image)
        settings = worker_settings(engine, picture, faces[0].box_xyxy.tolist(), args.threads)
        openers = [partial(Worker, name, root, settings) for name, root in zip(names, roots, strict=True)]
        pairs = run_interleaved(openers, args.stages, args.seconds, rng)
    count, conditions = len(next(iter(pairs.values()))), watch.finish()
    about = {
        "against": args.against,
        "engine": {"file": engine.name, "sha256": file_sha256(engine)},
        "settings": {"source": describe_source(args.source, faces), "threads": args.threads, "pairs": count},
        "conditions": conditions,
        "notes": [f"{count} pairs of blocks by turns, {args.threads} core(s)", *(f"warning: {doubt}" for doubt in doubts(conditions))],
    }
    return judge(pairs, args.max_regression, rng), about


def worker_settings(engine: Path, picture: Path, box_xyxy: list[float], threads: int) -> dict[str, Any]:
    """What `Worker` is told; both get the same cores, the last ones that may be used."""
    cores = sorted(os.sched_getaffinity(0))[-threads:] if hasattr(os, "sched_getaffinity") else list(range(threads))
    return {"engine": str(engine.resolve()), "picture": str(picture), "box": box_xyxy, "threads": threads, "cores": cores}


def format_judgements(judgements: list[Judgement]) -> str:
    """The table."""
    level = 100 * (1 - 2 * FAMILY_ERROR / len(judgements))
    lines = [("stage", "baseline µs", "new µs", "change %", f"{level:.1f} % interval", "verdict")]
    for row in judgements:
        change, low, high = (f"{100 * (value - 1):+.1f}" for value in (row.ratio.estimate, row.ratio.low, row.ratio.high))
        lines.append((row.stage, f"{row.baseline_us:.1f}", f"{row.new_us:.1f}", change, f"{low} … {high}", row.verdict))
    return text_table(lines, left=1)


def _conclude(judgements: list[Judgement], limit: float) -> int:
    """The last line and the exit code."""
    slower = [row.stage for row in judgements if row.verdict == "slower"]
    undecided = [row.stage for row in judgements if row.verdict == "undecided"]
    if slower:
        print(f"failed: {', '.join(slower)} slower by more than {100 * limit:g} %")
        return 1
    doubt = f"; undecided for want of quiet: {', '.join(undecided)}" if undecided else ""
    print(f"passed: no stage is certainly slower by more than {100 * limit:g} %{doubt}")
    return 0
