"""Revisions of this repository, built side by side: exported, compiled as a user would, and kept in a cache."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from benchmarks.records.provenance import REPOSITORY, git
from runtime.errors import FaceMeshError

CACHE = REPOSITORY / "build" / "revisions"  # git ignores it, 'make clean' removes it
INPUTS = ("runtime", "CMakeLists.txt", "pyproject.toml")  # they decide how fast a revision is
BUILD_TIMEOUT_S = 900


class RevisionError(FaceMeshError):
    """A revision is missing, or it cannot be built or run."""

    def __init__(self, name: str, problem: str, is_absent: bool = True) -> None:
        """Take the revision's name; ``is_absent`` False: it should be there, and no gate may pass without it."""
        super().__init__(f"{name} {problem}")
        self.name = name
        self.is_absent = is_absent


def export_revision(repository: Path, revision: str, folder: Path) -> None:
    """Write the files of a revision, as it was committed, into ``folder``."""
    try:
        git(repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except FaceMeshError:
        problem = "is no revision here: misspelled, not fetched, a shallow checkout, or no git repository at all"
        raise RevisionError(revision, problem, is_absent=_has_no_history(repository, revision)) from None
    archive = folder.with_suffix(".tar")
    git(repository, "archive", "--format=tar", f"--output={archive}", revision)
    with tarfile.open(archive) as files:
        files.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    archive.unlink()


def _has_no_history(repository: Path, revision: str) -> bool:
    """Return True if there can be no such revision: before the first commit, beyond a shallow one, outside of git."""
    if not revision.strip("0") or revision.startswith("HEAD"):
        return True
    try:
        return git(repository, "rev-parse", "--is-shallow-repository") == "true"
    except FaceMeshError:
        return True


def export_working_tree(repository: Path, folder: Path) -> None:
    """Copy the files as they lie into ``folder``: new ones too, but none that git ignores."""
    names = git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, names):
        if (source := repository / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)


def source_key(folder: Path, with_cuda: bool) -> str:
    """Return a key that two exports share if their runtime, machine and interpreter are the same."""
    digest = hashlib.sha256(f"{platform.machine()} {sys.implementation.cache_tag} {with_cuda}".encode())
    for path in sorted(path for name in INPUTS for path in _files(folder / name)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:16]


def build(folder: Path, name: str, with_cuda: bool, cache: Path = CACHE) -> Path:
    """Install an exported revision into a folder of its own; a second call finds it there.

    ``runtime`` can be imported from the folder. ``name`` is for errors. Raises `RevisionError`.
    """
    target = cache / source_key(folder, with_cuda)
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, suffix=".part") as part:
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--disable-pip-version-check"]
        command += ["--target", f"{part}/new", str(folder)]
        if not with_cuda:  # compiling the kernels takes minutes
            command += ["--config-settings=cmake.define.FACEMESH_CUDA=OFF"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RevisionError(name, f"cannot be built: {error}") from None
        if done.returncode != 0:
            raise RevisionError(name, f"cannot be built: {_reason(done.stderr)}")
        os.replace(f"{part}/new", target)
    return target


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [item for item in path.rglob("*") if item.is_file() and "__pycache__" not in item.parts]


def _reason(errors: str) -> str:
    """Choose the most telling line of pip's output."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    uninformative = ("error: subprocess-exited", "× ")
    telling = [line for line in lines if "error" in line.lower() and not line.startswith(uninformative)]
    return (telling or lines or ["pip failed"])[0][:300]
