"""The part of ROS 2 that the node uses, as modules: messages know the fields of their definitions and no others."""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from types import ModuleType, SimpleNamespace
from typing import Any

# Type and name of every field, in the order of the .msg files: hri_msgs 2.2, std_msgs, sensor_msgs and
# builtin_interfaces of Humble.
DEFINITIONS = {
    "Time": "int32 sec, uint32 nanosec",
    "Header": "Time stamp, string frame_id",
    "Image": "Header header, uint32 height, uint32 width, string encoding, uint8 is_bigendian, uint32 step, "
    "uint8[] data",
    "IdsList": "Header header, string[] ids",
    "NormalizedPointOfInterest2D": "float32 x, float32 y, float32 c",
    "NormalizedRegionOfInterest2D": "Header header, float32 xmin, float32 ymin, float32 xmax, float32 ymax, float32 c",
    "FacialLandmarks": "Header header, NormalizedPointOfInterest2D[] landmarks, uint32 height, uint32 width",
}
PLAIN = {"string": str, "float32": float, "int32": int, "uint32": int, "uint8": int}


class Message:
    """A message: fields of the right types; like ROS's Python it refuses others."""

    fields: dict[str, str]

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            assert name in self.fields, f"{type(self).__name__} has no field {name}"
            check(self.fields[name], value)
            setattr(self, name, value)


def check(kind: str, value: Any) -> None:
    """Raise `AssertionError` for a value that ROS would not take in a field of type ``kind``."""
    if kind == "uint8[]":
        bytes(value)
    elif kind.endswith("[]"):
        for item in value:
            check(kind[:-2], item)
    elif kind in PLAIN:
        assert type(value) is PLAIN[kind], f"{value!r} is no {kind}"
        if kind == "float32":
            struct.pack("f", value)
        if kind.startswith("uint"):
            assert value >= 0
    else:
        assert type(value).__name__ == kind


MESSAGES = {
    name: type(name, (Message,), {"fields": {field: kind for kind, field in re.findall(r"(\S+) (\w+)(?:,|$)", text)}})
    for name, text in DEFINITIONS.items()
}


class Node:
    """A node whose publishers write into ``published`` (topic -> messages)."""

    parameters: dict[str, Any] = {}

    def __init__(self, name: str) -> None:
        self.name = name
        self.published: dict[str, list[Message]] = defaultdict(list)
        self.open: set[str] = set()
        self.subscriptions_of: dict[str, Any] = {}
        self.errors: list[str] = []
        self.destroyed = False

    def declare_parameter(self, name: str, default: Any) -> SimpleNamespace:
        return SimpleNamespace(value=self.parameters.get(name, default))

    def create_publisher(self, kind: type, topic: str, depth: int) -> SimpleNamespace:
        assert re.fullmatch(r"(/[A-Za-z_]\w*)+", topic), f"{topic} is no name of a topic"

        def publish(message: Message) -> None:
            assert type(message) is kind
            self.published[topic].append(message)

        self.open.add(topic)
        return SimpleNamespace(publish=publish, topic=topic)

    def destroy_publisher(self, publisher: SimpleNamespace) -> None:
        self.open.remove(publisher.topic)

    def create_subscription(self, kind: type, topic: str, callback: Any, qos: Any) -> None:
        assert (qos.depth, qos.reliability) == (1, "best effort")
        self.subscriptions_of[topic] = (kind, callback)

    def get_logger(self) -> SimpleNamespace:
        return SimpleNamespace(error=lambda text, throttle_duration_sec: self.errors.append(text))

    def destroy_node(self) -> None:
        self.destroyed = True


class ExternalShutdownException(Exception):
    """ROS is shut down from outside."""


def modules(spin: Any) -> dict[str, ModuleType]:
    """Return the modules by name; ``spin(node)`` takes the place of rclpy's."""
    state = SimpleNamespace(running=False)

    def init(args: Any) -> None:
        state.running = True

    def try_shutdown() -> None:
        state.running = False

    contents = {
        "rclpy": {"init": init, "spin": spin, "try_shutdown": try_shutdown, "state": state},
        "rclpy.node": {"Node": Node},
        "rclpy.qos": {"QoSProfile": SimpleNamespace, "ReliabilityPolicy": SimpleNamespace(BEST_EFFORT="best effort")},
        "rclpy.executors": {"ExternalShutdownException": ExternalShutdownException},
        "sensor_msgs": {},
        "sensor_msgs.msg": MESSAGES,
        "hri_msgs": {},
        "hri_msgs.msg": MESSAGES,
    }
    found = {}
    for name, attributes in contents.items():
        found[name] = ModuleType(name)
        vars(found[name]).update(attributes)
    return found
