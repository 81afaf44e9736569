"""An example package for ROS 2 (ament_python): a node that is started by name, its launch file and its parameters."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from runtime.errors import FaceMeshError
from runtime.storage.whole_files import write_error

NAME = "facemesh_ros2"
FILES = {
    "package.xml": f"""<?xml version="1.0"?>
<package format="3">
  <name>{NAME}</name>
  <version>0.1.0</version>
  <description>Landmarks of tracked faces as hri_msgs (REP 155), by facemesh-edge</description>
  <maintainer email="you@example.org">you</maintainer>
  <license>MIT</license>
  <exec_depend>rclpy</exec_depend>
  <exec_depend>sensor_msgs</exec_depend>
  <exec_depend>hri_msgs</exec_depend>
  <export>
    <build_type>ament_python</build_type>
  </export>
</package>
""",
    "setup.py": f'''"""The node itself is in the Python package facemesh-edge; this one makes it known to ROS."""

from setuptools import setup

setup(
    name="{NAME}",
    version="0.1.0",
    packages=["{NAME}"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/{NAME}"]),
        ("share/{NAME}", ["package.xml"]),
        ("share/{NAME}/launch", ["launch/face_mesh.launch.py"]),
    ],
    install_requires=["setuptools"],
    entry_points={{"console_scripts": ["face_mesh = {NAME}.face_mesh:main"]}},
)
''',
    "setup.cfg": f"""[develop]
script_dir=$base/lib/{NAME}
[install]
install_scripts=$base/lib/{NAME}
""",
    f"resource/{NAME}": "",
    f"{NAME}/__init__.py": "",
    f"{NAME}/face_mesh.py": '''"""Start the node: pictures in, /humans/faces out."""

from runtime.serving.ros2 import main

__all__ = ["main"]
''',
    "launch/face_mesh.launch.py": f'''"""The node on the pictures of image:=TOPIC."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue


def generate_launch_description():
    """Describe what is launched."""
    defaults = {{"image": "/image_raw", "model": "", "detector": "", "max_faces": "0"}}
    defaults["min_confidence"] = "0.5"
    types = {{"model": str, "detector": str, "max_faces": int, "min_confidence": float}}
    values = {{name: ParameterValue(LaunchConfiguration(name), value_type=kind) for name, kind in types.items()}}
    node = Node(
        package="{NAME}",
        executable="face_mesh",
        remappings=[("image", LaunchConfiguration("image"))],
        parameters=[values],
    )
    arguments = (DeclareLaunchArgument(name, default_value=text) for name, text in defaults.items())
    return LaunchDescription([*arguments, node])
''',
}


def write_package(output: Path) -> None:
    """Write the package as the folder ``output``, whole or not at all.

    Raises `FaceMeshError` if something is there already, or cannot be written.
    """
    if output.exists():
        raise FaceMeshError(f"{output}: is there already; choose another folder with -o, or remove it")
    place = Path(os.path.realpath(output))  # of a link the folder that it is to be, perhaps on another file system
    if not place.parent.is_dir():
        raise FaceMeshError(f"{output.parent}: no such folder; make it first or choose another place with -o")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as temporary:
            new = Path(temporary, "new")
            for name, text in FILES.items():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).write_text(text, encoding="utf-8")
            os.chmod(new, 0o755)
            os.rename(new, place)
    except OSError as error:
        raise write_error(output, error) from error
