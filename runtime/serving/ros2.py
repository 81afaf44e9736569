"""``ros2 run facemesh_ros2 face_mesh``: the entry point of the ROS 2 package that ``python -m export ros2`` writes."""

from __future__ import annotations

import sys

from runtime.console.exit_codes import exit_code_of
from runtime.errors import FaceMeshError

PACKAGES = {"rclpy": "rclpy", "hri_msgs": "hri-msgs", "sensor_msgs": "sensor-msgs"}


def main(arguments: list[str] | None = None) -> int:
    """Run the node; returns the exit code. What is missing of ROS ends in one line."""
    return exit_code_of(lambda: _spin(arguments))


def _spin(arguments: list[str] | None) -> None:
    try:
        from runtime.serving.ros2_node import spin
    except ModuleNotFoundError as error:
        library = (error.name or "").split(".")[0]
        if library not in PACKAGES:
            raise
        remedy = f"sudo apt install ros-$ROS_DISTRO-{PACKAGES[library]}, and source /opt/ros/$ROS_DISTRO/setup.bash"
        raise FaceMeshError(f"the node needs {library} of ROS 2, which is not found; {remedy}") from None
    spin(arguments)


if __name__ == "__main__":
    sys.exit(main())
