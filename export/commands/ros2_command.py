"""``python -m export ros2``: a package with a node for ROS 2."""

from __future__ import annotations

import argparse

from export.handover.ros2_package import NAME, write_package
from runtime.console.arguments import some_path

DESCRIPTION = "A ROS 2 package whose node takes sensor_msgs/Image and publishes hri_msgs/FacialLandmarks (REP 155)."


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``ros2`` and its arguments."""
    parser = subparsers.add_parser("ros2", help="an example package for ROS 2", description=DESCRIPTION)
    output_help = f"folder of the package, such as src/{NAME} in a workspace; must not be there"
    parser.add_argument("-o", "--output", type=some_path, required=True, metavar="DIR", help=output_help)
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> None:
    """Write the package and tell how it is built."""
    write_package(args.output)
    print(f"{args.output}: colcon build --packages-select {NAME}; ros2 launch {NAME} face_mesh.launch.py image:=TOPIC")
