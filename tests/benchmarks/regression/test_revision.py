"""Revisions side by side: exported, built once, and ``compare --against`` on a repository of stand-ins."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.records.measured_faces import Face
from benchmarks.records.provenance import commit
from benchmarks.regression import compare, interleave, revision
from benchmarks.regression.revision import RevisionError, build, export_revision, export_working_tree, source_key
from tests.benchmarks.stand_in import write_runtime

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(repository: Path, *command: str) -> None:
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    environment = {**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", "-C", repository, *command], check=True, env=environment, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One commit with a decode of 100 microseconds."""
    root = write_runtime(tmp_path / "repository", 100)
    (root / "pyproject.toml").write_text('[project]\nname = "stand-in"\nversion = "1"\n')
    (root / ".gitignore").write_text("build/\n")
    (root / "README.md").write_text("first")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    return root


def make_slower(repository: Path, decode: float) -> None:
    shutil.rmtree(repository / "runtime")
    write_runtime(repository, decode)


def exported(export, *arguments, to: Path) -> Path:
    to.mkdir()
    export(*arguments, to)
    return to


def test_a_revision_is_exported_as_it_was(repository, tmp_path):
    make_slower(repository, 500)
    folder = exported(export_revision, repository, "HEAD", to=tmp_path / "old")
    assert "busy(100)" in (folder / "runtime" / "__init__.py").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "repository"]


def test_the_working_tree_is_exported_as_it_lies(repository, tmp_path):
    make_slower(repository, 500)
    (repository / "runtime" / "new" / "deep").mkdir(parents=True)
    (repository / "runtime" / "new" / "deep" / "fresh.py").write_text("")
    (repository / "build").mkdir()
    (repository / "build" / "ignored.py").write_text("")
    (repository / "README.md").unlink()
    folder = exported(export_working_tree, repository, to=tmp_path / "new")
    assert "busy(500)" in (folder / "runtime" / "__init__.py").read_text()
    assert (folder / "runtime" / "new" / "deep" / "fresh.py").is_file()
    assert not (folder / "build").exists()
    assert not (folder / "README.md").exists()


@pytest.mark.parametrize("name", ["nowhere", "HEAD~1", "--help", ""])
def test_revisions_that_there_are_not(repository, tmp_path, name):
    with pytest.raises(RevisionError, match="is no revision here") as error:
        exported(export_revision, repository, name, to=tmp_path / "old")
    assert error.value.name == name


def test_outside_of_git_no_revision_is_expected(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(RevisionError, match="main is no revision here") as error:
        export_revision(tmp_path, "main", tmp_path / "old")
    assert error.value.is_absent


def test_keys_tell_what_matters(repository, tmp_path):
    old = exported(export_revision, repository, "HEAD", to=tmp_path / "old")
    (repository / "README.md").write_text("second")
    same = exported(export_working_tree, repository, to=tmp_path / "same")
    (same / "runtime" / "__pycache__").mkdir()
    (same / "runtime" / "__pycache__" / "crop.pyc").write_text("compiled")
    assert source_key(old, False) == source_key(same, False) != source_key(same, True)
    make_slower(repository, 101)
    assert source_key(exported(export_working_tree, repository, to=tmp_path / "other"), False) != source_key(old, False)
    (old / "runtime" / "crop.py").rename(old / "runtime" / "crops.py")
    assert source_key(old, False) != source_key(same, False)
    (old / "runtime" / "crops.py").rename(old / "runtime" / "crop.py")
    (old / "pyproject.toml").write_text("[project]")
    assert source_key(old, False) != source_key(same, False)


@pytest.fixture
def pip(monkeypatch):
    """Stand in for pip: copy ``runtime``, or fail with the text in ``pip.errors``; ``pip.commands`` logs the calls."""

    class Pip:
        commands: list[list[str]] = []
        errors: str | None = None

        def __call__(self, command, timeout, **options):
            assert timeout > 60
            assert options == {"capture_output": True, "text": True}
            self.commands.append(command)
            if self.errors is not None:
                return subprocess.CompletedProcess(command, 1, "", self.errors)
            target, source = Path(command[command.index("--target") + 1]), Path(command[command.index("--target") + 2])
            shutil.copytree(source / "runtime", target / "runtime")
            return subprocess.CompletedProcess(command, 0, "", "")

    stand_in, real = Pip(), subprocess.run
    stand_in.commands = []
    monkeypatch.setattr(
        revision.subprocess, "run", lambda command, **rest: (stand_in if "pip" in command else real)(command, **rest)
    )
    return stand_in


def test_a_revision_is_built_once(repository, tmp_path, pip):
    folder, cache = exported(export_revision, repository, "HEAD", to=tmp_path / "old"), tmp_path / "build" / "cache"
    root = build(folder, "HEAD", False, cache)
    assert (root / "runtime" / "crop.py").is_file()
    assert build(folder, "HEAD", False, cache) == root
    assert len(pip.commands) == 1
    assert any("FACEMESH_CUDA=OFF" in option for option in pip.commands[0])
    assert build(folder, "HEAD", True, cache) != root
    assert not any("FACEMESH_CUDA" in option for option in pip.commands[1])
    assert {path.suffix for path in cache.iterdir()} == {""}


def test_a_revision_that_cannot_be_built_says_why_and_leaves_nothing(repository, tmp_path, pip):
    folder = exported(export_revision, repository, "HEAD", to=tmp_path / "old")
    lines = ("error: subprocess-exited-with-error", "× Building wheel did not run")
    pip.errors = "\n".join([*lines, "  decode.cpp:7: error: 'x' was not declared"])
    with pytest.raises(RevisionError, match=r"^HEAD cannot be built: decode\.cpp:7: error: 'x' was not declared$"):
        build(folder, "HEAD", False, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("errors", "why"),
    [
        ("", "pip failed"),
        ("\n  no space left \nbye\n", "no space left"),
        ("Error: " + 500 * "x", "Error: " + 293 * "x"),
    ],
)
def test_the_reason_is_one_short_line(repository, tmp_path, pip, errors, why):
    folder = exported(export_revision, repository, "HEAD", to=tmp_path / "old")
    pip.errors = errors
    with pytest.raises(RevisionError, match=f"^HEAD cannot be built: {why}$"):
        build(folder, "HEAD", False, tmp_path / "cache")


@pytest.mark.parametrize("error", [OSError("no more processes"), subprocess.TimeoutExpired("pip", 900)])
def test_a_build_that_does_not_start_or_end_is_told(repository, tmp_path, monkeypatch, error):
    folder = exported(export_revision, repository, "HEAD", to=tmp_path / "old")

    def run(*_, **__):
        raise error

    monkeypatch.setattr(revision.subprocess, "run", run)
    with pytest.raises(RevisionError) as told:
        build(folder, "HEAD", False, tmp_path / "cache")
    assert str(told.value) == f"HEAD cannot be built: {error}"


@pytest.mark.parametrize("has_filters", [True, False])
def test_archives_are_unpacked_with_a_filter_where_python_has_one(repository, tmp_path, monkeypatch, has_filters):
    """Python has had them since 3.10.12 and 3.11.4."""
    if has_filters:
        monkeypatch.setattr(tarfile, "data_filter", print, raising=False)
    else:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    options = []
    monkeypatch.setattr(tarfile.TarFile, "extractall", lambda archive, folder, **rest: options.append(rest))
    exported(export_revision, repository, "HEAD", to=tmp_path / "old")
    assert options == [{"filter": "data"} if has_filters else {}]


def test_commit_and_whether_files_were_changed(repository, tmp_path):
    clean = commit(repository)
    assert len(clean["revision"]) == 40
    assert clean["dirty"] is False
    (repository / "benchmarks" / "results").mkdir(parents=True)
    (repository / "benchmarks" / "results" / "new.json").write_text("{}")
    (repository / "notes.txt").write_text("of no matter")
    assert commit(repository) == clean
    (repository / "new_module.py").write_text("")
    assert commit(repository) == {**clean, "dirty": True}
    (repository / "new_module.py").unlink()
    make_slower(repository, 500)
    assert commit(repository) == {**clean, "dirty": True}
    assert commit(tmp_path) is None


@pytest.fixture
def here(repository, tmp_path, monkeypatch, pip):
    """``compare`` on the repository of stand-ins, quickly."""
    monkeypatch.setattr(compare, "REPOSITORY", repository)
    monkeypatch.setattr(
        compare, "build", lambda folder, name, with_cuda: build(folder, name, with_cuda, tmp_path / "cache")
    )
    monkeypatch.setattr(
        compare,
        "load_measured_faces",
        lambda source: [Face(np.zeros((4, 5, 3), np.uint8), np.array([0, 0, 2, 2], np.float32))] * 2,
    )
    monkeypatch.setattr(interleave, "PAIRS", 30)
    return repository


@pytest.mark.slow
def test_against_a_revision_finds_the_slowdown(here, capsys, tmp_path):
    make_slower(here, 130)
    assert main(["compare", "--against", "HEAD", "--seconds", "20", "--json", str(tmp_path / "out.json")]) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "failed: decode slower by more than 10 %"
    assert "pairs of blocks by turns" in out
    assert (tmp_path / "out.json").is_file()


@pytest.mark.slow
def test_against_the_same_revision_passes(here, capsys):
    assert main(["compare", "--against", "HEAD", "--seconds", "20", "--stages", "crop,decode"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("passed")
    assert "network" not in out


def test_what_two_workers_measured_is_judged_told_and_written(here, capsys, tmp_path, monkeypatch):
    crop = np.random.default_rng(0).normal(50, 1, (240, 2))
    asked = []

    def measured(openers, stages, seconds, rng):
        sides = [(name, (root / "runtime" / "__init__.py").read_text()) for name, root, _ in (o.args for o in openers)]
        asked.append(([(name, "busy(130)" in text) for name, text in sides], stages, seconds))
        return {"crop": crop, "decode": crop * (1.3, 1)}

    monkeypatch.setattr(compare, "run_interleaved", measured)
    make_slower(here, 130)
    record = tmp_path / "out.json"
    options = ["--gate", "--stages", "crop,decode", "--seconds", "7", "--threads", "2", "--json", str(record)]
    assert main(["compare", "--against", "HEAD", *options]) == 1
    assert asked == [([("the working tree", True), ("HEAD", False)], ["crop", "decode"], 7)]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["crop", "decode"]
    assert lines[3] == "240 pairs of blocks by turns, 2 core(s)"
    assert lines[-1] == "failed: decode slower by more than 10 %"
    document = json.loads(record.read_text())
    assert document["against"] == "HEAD"
    assert (document["settings"]["pairs"], document["settings"]["threads"]) == (240, 2)
    assert document["settings"]["source"]["pictures"] == 1
    assert [row["verdict"] for row in document["stages"]] == ["as fast", "slower"]
    assert document["stages"][1]["ratio"]["estimate"] == pytest.approx(1.3, abs=0.01)


def test_a_gate_measures_only_where_the_runtime_changed(here, capsys, pip):
    (here / "README.md").write_text("second")
    assert main(["compare", "--against", "HEAD", "--gate"]) == 0
    assert capsys.readouterr().out == "gate passed: the runtime is the same as in HEAD\n"
    assert pip.commands == []


def without_previous_commit(here, pip):
    return "HEAD~1", "HEAD~1 is no revision here"


def without_a_build(here, pip):
    make_slower(here, 130)
    (here / "runtime" / "crop.py").write_text("syntax error")
    git(here, "commit", "--quiet", "--all", "-m", "broken")
    make_slower(here, 100)
    return "HEAD", "HEAD cannot be measured: SyntaxError"


@pytest.mark.parametrize("case", [without_previous_commit, without_a_build])
def test_a_gate_without_a_usable_revision_is_skipped_and_anything_else_fails(here, capsys, pip, case):
    name, why = case(here, pip)
    assert main(["compare", "--against", name, "--gate"]) == 0
    assert capsys.readouterr().out.startswith(f"gate skipped: {why}")
    assert main(["compare", "--against", name]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {why}")
    assert error.count("\n") == 1


def test_a_gate_fails_for_a_revision_that_should_be_there(here, capsys):
    assert main(["compare", "--against", "mian", "--gate"]) == 1
    assert capsys.readouterr().err.startswith("error: mian is no revision here: misspelled, not fetched")


def test_a_gate_is_skipped_before_the_first_push_and_beyond_a_shallow_one(here, capsys, tmp_path, monkeypatch):
    assert main(["compare", "--against", "0" * 40, "--gate"]) == 0
    git(here, "commit", "--quiet", "--allow-empty", "-m", "second")
    git(tmp_path, "clone", "--quiet", "--depth", "1", here.as_uri(), "shallow")
    monkeypatch.setattr(compare, "REPOSITORY", tmp_path / "shallow")
    assert main(["compare", "--against", "mian", "--gate"]) == 0
    assert capsys.readouterr().out.count("gate skipped: ") == 2


def test_a_gate_fails_where_the_working_tree_does_not_run(here, capsys):
    (here / "runtime" / "crop.py").write_text("syntax error")
    assert main(["compare", "--against", "HEAD", "--gate"]) == 1
    assert capsys.readouterr().err.startswith("error: the working tree cannot be measured: SyntaxError")


def test_missing_engine(here, capsys):
    assert main(["compare", "--against", "HEAD", "--engine", "nowhere.onnx"]) == 1
    assert "nowhere.onnx" in capsys.readouterr().err
