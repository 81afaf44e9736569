"""The one command for everything."""

from __future__ import annotations

import subprocess
import sys

import pytest

import runtime
from runtime.__main__ import COMMANDS, main


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"facemesh-edge {runtime.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert "usage: python -m" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["walk"], 2), (["--help"], 0)])
def test_help_names_all_commands(arguments, code, capsys):
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert all(name in (err if code else out) for name in COMMANDS)


def test_exit_code_is_that_of_the_command(tmp_path, capsys):
    assert main(["run", "--source", str(tmp_path / "nothing.jpg"), "--output", str(tmp_path / "out")]) == 1
    assert "nothing.jpg" in capsys.readouterr().err


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "runtime", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("facemesh-edge ")
