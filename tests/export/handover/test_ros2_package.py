"""The example package for ROS 2: its files are what colcon and ROS look for."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from export.__main__ import main
from tests.test_import_rules import ROOT

# `make test-slow` makes it; FACEMESH_COLCON_PYTHON names another one.
COLCON_PYTHON = Path(os.environ.get("FACEMESH_COLCON_PYTHON", Path(sys.prefix, "colcon", "bin", "python")))
READ_DESCRIPTION = """
import sys
from catkin_pkg.package import parse_package
warnings = []
package = parse_package(sys.argv[1], warnings=warnings)
print(package.package_format, package.get_build_type(), *sorted(each.name for each in package.exec_depends), *warnings)
"""


@pytest.fixture
def package(tmp_path):
    assert main(["ros2", "-o", str(tmp_path / "facemesh_ros2")]) == 0
    return tmp_path / "facemesh_ros2"


def test_names_in_all_files_agree(package, tmp_path):
    description = ElementTree.parse(package / "package.xml").getroot()
    assert description.find("name").text == "facemesh_ros2"
    assert description.find("export/build_type").text == "ament_python"
    assert {each.text for each in description.findall("exec_depend")} == {"rclpy", "sensor_msgs", "hri_msgs"}
    assert (package / "resource" / "facemesh_ros2").exists()
    for path in package.rglob("*.py"):
        ast.parse(path.read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["facemesh_ros2"]
    launch = (package / "launch" / "face_mesh.launch.py").read_text()
    assert 'package="facemesh_ros2"' in launch
    assert 'executable="face_mesh"' in launch


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("setuptools") is None, reason="needs setuptools")
def test_setuptools_installs_it_where_ros_looks(package, tmp_path):
    """As colcon does for ament_python: the program goes to lib/PACKAGE, launch file and marker to share."""
    command = [sys.executable, "setup.py", "install", "--prefix", tmp_path / "install"]
    command += ["--single-version-externally-managed", "--record", tmp_path / "record.txt"]
    subprocess.run(command, cwd=package, check=True, capture_output=True)
    program = tmp_path / "install" / "lib" / "facemesh_ros2" / "face_mesh"
    assert program.is_file()
    share = tmp_path / "install" / "share"
    assert (share / "ament_index" / "resource_index" / "packages" / "facemesh_ros2").is_file()
    assert (share / "facemesh_ros2" / "launch" / "face_mesh.launch.py").is_file()
    (packages,) = (tmp_path / "install").rglob("site-packages")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), str(ROOT), *filter(None, sys.path)])}
    run = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True)
    assert (run.returncode, len(run.stderr.splitlines())) == (1, 1)
    assert "the node needs" in run.stderr


@pytest.mark.slow
@pytest.mark.skipif(not COLCON_PYTHON.is_file(), reason="needs colcon: make test-slow, or FACEMESH_COLCON_PYTHON")
def test_colcon_builds_it(package, tmp_path):
    """The description is one of REP 149 to ROS's reader; what is built is found in the environment that colcon sets."""
    options = {"env": {**os.environ, "PYTHONPATH": ""}, "capture_output": True, "text": True}
    read = subprocess.run([COLCON_PYTHON, "-c", READ_DESCRIPTION, package / "package.xml"], check=True, **options)
    assert read.stdout == "3 ament_python hri_msgs rclpy sensor_msgs\n"
    built = subprocess.run([COLCON_PYTHON.with_name("colcon"), "build"], cwd=tmp_path, **options)
    assert built.returncode == 0, built.stdout + built.stderr
    ask = "import importlib.metadata as m; print(*m.entry_points(group='console_scripts', name='face_mesh'))"
    command = f'. install/setup.sh && echo $AMENT_PREFIX_PATH && {COLCON_PYTHON} -c "{ask}"'
    found = subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, **options).stdout.splitlines()
    assert found[0] == str(tmp_path / "install" / "facemesh_ros2")
    assert "facemesh_ros2.face_mesh:main" in found[1]
    share = tmp_path / "install" / "facemesh_ros2" / "share"
    assert (share / "ament_index" / "resource_index" / "packages" / "facemesh_ros2").is_file()
    assert (share / "facemesh_ros2" / "launch" / "face_mesh.launch.py").is_file()
    assert os.access(tmp_path / "install" / "facemesh_ros2" / "lib" / "facemesh_ros2" / "face_mesh", os.X_OK)


def test_a_link_to_another_file_system(tmp_path, other_file_system):
    (tmp_path / "package").symlink_to(other_file_system / "real")
    assert main(["ros2", "-o", str(tmp_path / "package")]) == 0
    assert (other_file_system / "real" / "package.xml").is_file()
    assert [path.name for path in other_file_system.iterdir()] == ["real"]


def test_an_empty_path_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["ros2", "-o", ""])
    assert ended.value.code == 2
    assert "is empty; an unset variable?" in capsys.readouterr().err


def test_what_is_there_is_left_alone(package, tmp_path, capsys):
    for place, reason in (
        (package, "is there already"),
        (tmp_path / "no" / "package", "no such folder; make it first"),
    ):
        assert main(["ros2", "-o", str(place)]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert reason in lines[0]
