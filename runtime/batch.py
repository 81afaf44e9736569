"""``python -m runtime.batch``: the faces of whole archives as Parquet, on the cores or GPUs of one machine or many."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from runtime.archives.settings import Settings
from runtime.archives.shard import Counts
from runtime.console.arguments import not_empty, positive_int, probability, some_path
from runtime.console.exit_codes import exit_code_of
from runtime.console.terminal import print_line, quiet_libraries
from runtime.detection.yunet import DETECTION_SIDE
from runtime.errors import FaceMeshError
from runtime.inference.open_runner import require_trained
from runtime.models.detector_spec import detector_spec, load_detector_spec, mesh_spec
from runtime.models.file_kinds import ENGINE_SUFFIXES
from runtime.models.manifest import EngineManifest
from runtime.models.shipped import SHIPPED, shipped_model
from runtime.storage.folder_lock import FolderLock
from runtime.storage.whole_files import remove_quietly, write_error

if TYPE_CHECKING:
    from runtime.archives.plan import Found
    from runtime.archives.ray_pool import Pool

EPILOG = """\
Output: faces/*.parquet with one row per face, errors/*.parquet with one row per picture that cannot be read, done/ with
the finished parts, plan.parquet. The same command again goes on after the last finished part; files that came into the
sources meanwhile belong to another --output.
Exit code: 0 all parts are done, also if pictures failed (they are in errors/), 1 the run failed, 2 wrong usage, 130
stopped by Ctrl-C."""
PROGRESS_S = 5.0
MOST_NAMES = 20  # of other files in one line


def main(arguments: list[str] | None = None) -> int:
    """Run the command line ``arguments``; returns the exit code."""
    args = _parser().parse_args(arguments)
    with quiet_libraries():
        return exit_code_of(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    if args.address is None:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # without a cluster Ray stays on 127.0.0.1
    from runtime.archives.plan import NAME, find_files
    from runtime.archives.ray_pool import LOCAL, Pool, check_address

    settings, folder = _settings(args), args.output.absolute()
    on_gpu = _is_engine(settings.model) or _is_engine(settings.detector)
    pool = Pool(args.address or LOCAL, args.workers, 1 if on_gpu else 0)
    _check_models(settings)
    settings = settings.with_digests()
    check_address(pool.address)
    found = None if (folder / NAME).exists() else find_files(settings.sources, settings.recursive)
    _make_folders(folder)
    lock = FolderLock(folder)
    try:
        _prepare(folder, settings, found)
        _do(folder, settings, pool)
    finally:
        lock.release()


def _prepare(folder: Path, settings: Settings, found: Found | None) -> None:
    """Make the plan, or check that the plan in ``folder`` is of the same run; remove leftovers of killed workers."""
    from runtime.archives.plan import Plan, make_shards, save_plan

    _remove_leftovers(folder)
    document = settings.document()
    if found is None:
        begun = Plan(folder).settings
        if other := ", ".join(name for name in document if begun.get(name) != document[name]):
            problem = f"a run with another {other} was begun here"
            raise FaceMeshError(f"{folder}: {problem}; give the same options to go on, or another --output")
        return
    if found.others:
        names = [Path(name).name for name in found.others[:MOST_NAMES]]
        more = f" and {len(found.others) - MOST_NAMES} more" if len(found.others) > MOST_NAMES else ""
        print_line(f"note: no pictures, left out: {', '.join(names)}{more}")
    save_plan(list(make_shards(found, settings.shard)), document, folder)


def _do(folder: Path, settings: Settings, pool: Pool) -> None:
    """Do the shards that are left and print how far the run is."""
    from runtime.archives.plan import Plan
    from runtime.archives.ray_pool import run_shards
    from runtime.archives.work import finished

    total, before, left = len(Plan(folder)), Counts(), []
    for number in range(total):
        if (counts := finished(folder, number)) is None:
            left.append(number)
        else:
            before += counts
    if len(left) < total:
        print_line(f"note: {total - len(left)} of {total} parts were finished before")
    start = told = time.monotonic()
    now, done = Counts(), 0
    if left:
        for counts in run_shards(left, folder, settings, pool):
            now, done = now + counts, done + 1
            if time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                print_line(f"{total - len(left) + done} of {total} parts, {_told(before + now)}")
    seconds = time.monotonic() - start
    _remove_leftovers(folder)
    with contextlib.suppress(OSError):  # a worker that began too late is just ending
        (folder / "tries").rmdir()
    rate = ""
    if now.pictures:
        rate = f", {now.pictures / seconds:.1f} a second, {1000 * now.core_s / now.pictures:.1f} ms of a core each"
    print_line(f"{total} of {total} parts, {_told(before + now)}{rate}; faces in {folder / 'faces'}")


def _remove_leftovers(folder: Path) -> None:
    """Remove unfinished files and tries of workers that were killed, or ended with the run."""
    from runtime.archives.work import FOLDERS

    for name in FOLDERS:
        for path in (folder / name).glob("*" if name == "tries" else ".*.part"):
            remove_quietly(path)


def _told(counts: Counts) -> str:
    return f"{counts.pictures:,} pictures, {counts.faces:,} faces, {counts.errors:,} errors"


def _settings(args: argparse.Namespace) -> Settings:
    from runtime.archives.places import absolute

    path = shipped_model(args.precision) if args.engine is None else Path(args.engine)
    if not path.is_file():
        raise FaceMeshError(f"{path}: no model file there; check the path, or leave it out for the shipped model")
    return Settings(
        sources=tuple(map(absolute, args.source)),
        model=None if args.engine is None else str(path.absolute()),
        face_model=None if args.face_model is None else str(args.face_model.absolute()),
        precision=args.precision or (None if args.engine else _precision_of(path)),
        vertices=args.vertices,
        min_confidence=args.min_confidence,
        column=args.column,
        every=args.every,
        shard=args.shard,
        recursive=args.recursive,
        detector=None if args.detector is None else str(args.detector.absolute()),
    )


def _precision_of(path: Path) -> str:
    """Return the precision of a shipped file, so that all machines of a cluster take the same one."""
    return next(name for name, shipped in SHIPPED.items() if shipped == path)


def _check_models(settings: Settings) -> None:
    """Raise `FaceMeshError` for a file that cannot work, before workers are started; this machine may have no GPU."""
    from runtime.pipeline import FaceMeshPipeline

    if _is_engine(settings.model):
        require_trained(mesh_spec(EngineManifest.load_for(settings.model).spec, Path(settings.model)))
    else:
        with settings.open_runner() as runner:
            require_trained(runner.spec)
            FaceMeshPipeline(runner, min_confidence=settings.min_confidence)
    if settings.detector is not None:
        path = Path(settings.detector)
        if _is_engine(settings.detector):
            size = detector_spec(EngineManifest.load_for(path).spec, path).input
        else:
            settings.open_detector().close()
            size = load_detector_spec(path).input
        if min(size.width, size.height) < DETECTION_SIDE:
            here, wanted = f"{size.width} x {size.height}", f"{DETECTION_SIDE}x{DETECTION_SIDE}"
            problem = f"pictures whose search does not fit {here} px are searched by the shipped one on the CPU"
            print_line(f"note: {path}: {problem}; for all pictures make one of --size {wanted}")


def _is_engine(path: str | None) -> TypeGuard[str]:
    return path is not None and Path(path).suffix.lower() in ENGINE_SUFFIXES


def _make_folders(folder: Path) -> None:
    from runtime.archives.work import FOLDERS

    try:
        for name in FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtime.batch",
        description=__doc__.partition(": ")[2],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    source_help = "photos, folders, films, .tar and .parquet files of pictures; paths, or addresses such as s3://…"
    add("--source", nargs="+", required=True, type=not_empty, metavar="URI", help=source_help)
    output_help = "folder for faces and errors, which all machines of a cluster see"
    add("--output", required=True, type=_folder, metavar="DIR", help=output_help)
    add("--recursive", action="store_true", help="search the subfolders of folders, too")
    add("--column", metavar="NAME", help="of Parquet files: the one with pictures (default: found by type and name)")
    add("--every", type=positive_int, default=1, metavar="N", help="of films: every Nth frame (1)")
    add("--engine", metavar="MODEL", help=".onnx or .engine, at this path on all machines; default: the shipped model")
    add("--face-model", type=Path, metavar="FILE.npz", help="of a network of coefficients")
    detector_help = "an engine or .onnx of 'python -m export detector --size', as --engine (default: yunet, on the CPU)"
    add("--detector", type=some_path, metavar="FILE", help=detector_help)
    add("--precision", choices=tuple(SHIPPED), help="of the shipped model")
    add("--min-confidence", type=probability, metavar="P", help="leave out faces below (default: keep all)")
    add("--vertices", action="store_true", help="keep the dense meshes, too, as float16: 0.26 MB a face")
    add("--workers", type=positive_int, metavar="N", help="pipelines at once (default: a core or a GPU each)")
    add("--address", type=not_empty, metavar="HOST:PORT", help="of a Ray cluster (default: this machine)")
    add("--shard", type=positive_int, default=256, metavar="N", help="pictures of one part (256)")
    return parser


def _folder(text: str) -> Path:
    if "://" in text:
        raise argparse.ArgumentTypeError(f"must be a folder that all machines see, is the address {text}")
    return some_path(text)


if __name__ == "__main__":
    sys.exit(main())
