"""The check of ``make`` before the build: what is missing stands in one line, as names of packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.native import missing_tools

ROOT = Path(__file__).resolve().parents[3]


def test_nothing_is_missing_where_the_tests_run(monkeypatch):
    monkeypatch.setattr(missing_tools, "find_spec", lambda name: name)
    monkeypatch.setattr(missing_tools.os.path, "isfile", lambda path: True)
    monkeypatch.setattr(missing_tools.shutil, "which", lambda name: name)
    assert missing_tools.main() is None


def test_packages_are_named_in_one_line(monkeypatch):
    monkeypatch.setattr(missing_tools, "find_spec", lambda name: None)
    monkeypatch.setattr(missing_tools.os.path, "isfile", lambda path: False)
    monkeypatch.setattr(missing_tools.shutil, "which", lambda name: None)
    monkeypatch.setattr(missing_tools.sys, "executable", "/usr/bin/python3")
    expected = "error: the build needs python3-venv python3-dev g++: sudo apt install python3-venv python3-dev g++"
    assert missing_tools.main() == expected


@pytest.mark.parametrize("version", [(3, 9), (3, 14)])
def test_other_pythons(monkeypatch, version):
    monkeypatch.setattr(missing_tools.sys, "version_info", version)
    assert "Python 3.10 to 3.13 is needed, this is 3." in missing_tools.main()


def test_it_runs_as_a_script_of_any_python():
    script = ROOT / "runtime" / "native" / "missing_tools.py"
    run = subprocess.run([sys.executable, "-I", script], capture_output=True, text=True, timeout=60)
    assert run.returncode == (0 if not run.stderr else 1)
    assert run.stderr == "" or run.stderr.startswith("error: the build needs ")
    assert run.stderr.count("\n") <= 1


def test_an_environment_is_made_anew_after_a_move(tmp_path):
    """Make is asked what it would do, and removes an environment that says it was made elsewhere."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    command = ["make", "--silent", "--dry-run", "demo", f"VENV={venv}"]
    (venv / "place").write_text(f"{ROOT}\n")
    assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60).returncode == 0
    assert venv.is_dir()
    (venv / "place").write_text("/somewhere/else\n")
    assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60).returncode == 0
    assert not venv.exists()
