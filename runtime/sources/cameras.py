"""Cameras on this machine, through OpenCV: by number, by GStreamer's pipeline, on a Jetson's CSI connector."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.sources.address import Address
from runtime.sources.video import positive

CSI_SIZE_WH = (1280, 720)
CSI_FPS = 30
# The newest frame alone waits for us; older ones are dropped.
APPSINK = "video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"


class Camera:
    """A camera that OpenCV reads."""

    def __init__(self, address: Address, newest_only: bool) -> None:
        """Open the camera; ``newest_only`` asks its driver to hold one frame.

        Raises `FaceMeshError` if none answers.
        """
        if address.kind == "camera":
            self._capture = cv2.VideoCapture(int(address.value))
            if newest_only:
                self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # drivers may refuse; then the reading thread drops
            remedy = "plug one in, close other programs that use it, or try another number"
        else:
            _need_gstreamer(address)
            self._capture = cv2.VideoCapture(gstreamer_pipeline(address), cv2.CAP_GSTREAMER)
            remedy = "try the pipeline with gst-launch-1.0, or see that nvargus-daemon runs"
        if not self._capture.isOpened():
            self._capture.release()
            raise FaceMeshError(f"{address.shown}: no camera answers there; {remedy}")
        # Files that GStreamer plays, and sources that were told to end.
        self.ends = address.kind == "gst" and bool(
            positive(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)) or "num-buffers" in address.value
        )
        self.fps = positive(self._capture.get(cv2.CAP_PROP_FPS))

    def read(self) -> NDArray[np.uint8] | None:
        """Wait for the next picture; None if the camera is lost."""
        read, image = self._capture.read()
        return image if read and image is not None and image.size else None

    def close(self) -> None:
        """Let go of the camera."""
        self._capture.release()


def gstreamer_pipeline(address: Address) -> str:
    """Return GStreamer's pipeline for a CSI camera, or the one given, with a sink for us if it has none."""
    if address.kind == "gst":
        if "appsink" in address.value:
            return address.value
        return f"{address.value} ! videoconvert ! {APPSINK}"
    width, height = CSI_SIZE_WH
    return (
        f"nvarguscamerasrc sensor-id={address.value} ! "
        f"video/x-raw(memory:NVMM),width={width},height={height},framerate={CSI_FPS}/1 ! "
        f"nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! {APPSINK}"
    )


def _need_gstreamer(address: Address) -> None:
    if cv2.CAP_GSTREAMER not in cv2.videoio_registry.getBackends():
        fault = f"this OpenCV ({cv2.__version__}) is built without GStreamer, as all of PyPI's are"
        remedy = "use the OpenCV of JetPack or Debian (a venv with --system-site-packages and no opencv wheel)"
        raise FaceMeshError(f"{address.shown}: {fault}; {remedy}")
