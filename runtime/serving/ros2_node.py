"""A node of ROS 2: pictures of a camera in, tracked faces with landmarks out. Home module of ROS."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import rclpy
from hri_msgs.msg import FacialLandmarks, IdsList, NormalizedPointOfInterest2D, NormalizedRegionOfInterest2D
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from runtime.detection.open_detector import open_detector
from runtime.errors import FaceMeshError
from runtime.inference.open_runner import open_runner, require_trained
from runtime.pipeline import FaceMeshPipeline
from runtime.serving.ros2_messages import TRACKED, face_id, landmark_points, picture_of, region, seconds, topic
from runtime.tracking.options import Tracking
from runtime.types import Frame

# As cameras publish; pictures that come while one is being done replace each other.
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
SILENCE_S = 5.0  # between two lines on the same kind of fault


class FaceMeshNode(Node):  # type: ignore[misc]
    """Subscribes to ``image``, publishes the faces of its newest picture as REP 155 has it.

    Parameters: ``model`` and ``detector`` (paths, "": the shipped ones), ``max_faces`` (0: all), ``min_confidence``.
    Raises `FaceMeshError` like `open_runner`, `require_trained`, `open_detector` and `FaceMeshPipeline`.
    """

    def __init__(self) -> None:
        super().__init__("facemesh")
        model = self.declare_parameter("model", "").value
        detector_file = self.declare_parameter("detector", "").value
        max_faces = self.declare_parameter("max_faces", 0).value
        least = self.declare_parameter("min_confidence", 0.5).value
        with ExitStack() as stack:
            runner = stack.enter_context(open_runner(model or None))
            require_trained(runner.spec)
            wanted = least if runner.spec.confidence is not None else None
            detector = stack.enter_context(open_detector(detector_file or None))
            tracking = Tracking(max_faces=max_faces or None)
            self._pipeline = FaceMeshPipeline(runner, detector, dense=False, min_confidence=wanted, tracking=tracking)
            self._opened = stack.pop_all()
        self._frames = 0
        self._publishers_of: dict[str, tuple[Any, Any]] = {}  # face -> of its region, of its landmarks
        self._tracked = self.create_publisher(IdsList, TRACKED, 1)
        self.create_subscription(Image, "image", self.on_image, NEWEST)

    def on_image(self, message: Any) -> None:
        """Find the faces of one picture and publish them."""
        try:
            image = picture_of(message)
            faces = self._pipeline(Frame(image, self._frames, seconds(message.header.stamp), "image"))
        except FaceMeshError as error:
            if error.is_fatal:
                raise
            self.get_logger().error(str(error), throttle_duration_sec=SILENCE_S)
            return
        self._frames += 1
        found = {face_id(face.track_id): face for face in faces if face.track_id is not None}
        for gone in self._publishers_of.keys() - found.keys():
            for publisher in self._publishers_of.pop(gone):
                self.destroy_publisher(publisher)
        for identifier, face in found.items():
            self._publish(identifier, face, message)
        self._tracked.publish(IdsList(header=message.header, ids=list(found)))

    def destroy_node(self) -> None:
        """Free the model."""
        self._opened.close()
        super().destroy_node()

    def _publish(self, identifier: str, face: Any, message: Any) -> None:
        if identifier not in self._publishers_of:
            self._publishers_of[identifier] = (
                self.create_publisher(NormalizedRegionOfInterest2D, topic(identifier, "roi"), 1),
                self.create_publisher(FacialLandmarks, topic(identifier, "landmarks"), 1),
            )
        of_region, of_landmarks = self._publishers_of[identifier]
        height, width = message.height, message.width
        of_region.publish(NormalizedRegionOfInterest2D(header=message.header, **region(face, height, width)))
        points = [NormalizedPointOfInterest2D(**point) for point in landmark_points(face, height, width)]
        of_landmarks.publish(FacialLandmarks(header=message.header, landmarks=points, height=height, width=width))


def spin(arguments: list[str] | None) -> None:
    """Run the node until ROS or Ctrl-C ends it."""
    rclpy.init(args=arguments)
    try:
        node = FaceMeshNode()
        try:
            rclpy.spin(node)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        finally:
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
