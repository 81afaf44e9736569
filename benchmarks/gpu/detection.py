"""Parts of `benchmarks.gpu.gpu_report`: the faces of a 720p frame in host memory, by YuNet in an engine.

``engine`` is the path of an engine, or of an ONNX file that PyTorch runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.gpu.clocks import Facts, Row, SeriesLength, record_row, take_series, time_on_host
from benchmarks.gpu.scene import NO_KERNELS, PartSkipped, frame
from runtime.cuda.open_cuda import open_cuda
from runtime.detection.gpu_yunet import DetectorEngine, GpuYuNet
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.inference.trt.engine_file import read_engine
from runtime.models.detector_spec import DetectorInput, DetectorSpec
from runtime.models.shipped import YUNET_ONNX

SIZE_WH = 640, 384
SCORE = 0.6
MOST_DIFFERENCE_PX = 2.0  # of a box in the frame: one pixel of the input


def make_detector(output: str) -> Facts:
    """Write YuNet in FP16 for SIZE_WH and its spec; return its facts."""
    from calibration.precision.model_file import read_onnx, write_model
    from export.graphs.fp16 import to_fp16
    from export.graphs.yunet import PLANES, fixed_yunet

    _, model = read_onnx(YUNET_ONNX)
    half, _ = to_fp16(fixed_yunet(model, *SIZE_WH), set(), alike=True)
    spec = DetectorSpec("yunet", DetectorInput(PLANES, *SIZE_WH), "fp16", "")
    write_model(half, spec, Path(output))
    return {"model": Path(output).name, "precision": "fp16", "size": list(SIZE_WH)}


def detection(engine: str, length: SeriesLength) -> Iterator[Row]:
    """Measure a frame with one face, from the call to its box; it is copied and uploaded as a whole."""
    image = frame()
    with _opened_network(engine) as network:
        detector = YuNetDetector(network=network)
        detector(image)
        yield record_row("720p frame to faces", take_series(time_on_host(lambda: detector(image)), length))


def detection_check(engine: str) -> Facts:
    """Return the largest distance of the boxes from the CPU's. Raises `FaceMeshError` beyond MOST_DIFFERENCE_PX."""
    image = frame()
    expected = YuNetDetector(SCORE)(image).boxes_xyxy
    with _opened_network(engine) as network:
        found = YuNetDetector(network=network)(image).boxes_xyxy
    if len(found) != len(expected) or not len(expected):
        raise FaceMeshError(
            f"{len(found)} faces are found, and {len(expected)} on the CPU: the times are worth nothing"
        )
    difference = float(np.abs(found - expected).max())
    if not difference <= MOST_DIFFERENCE_PX:
        raise FaceMeshError(
            f"boxes are up to {difference:.3g} px from the CPU's, at most {MOST_DIFFERENCE_PX:g} may be: "
            "the times are worth nothing"
        )
    return {"faces": len(found), "largest_box_difference_px": round(difference, 3)}


@contextmanager
def _opened_network(engine: str) -> Iterator[GpuYuNet]:
    with ExitStack() as stack:
        cuda = stack.enter_context(open_cuda())
        if cuda.kernels is None:
            raise PartSkipped(NO_KERNELS)
        if engine.endswith(".onnx"):
            if find_spec("torch") is None:
                raise PartSkipped("PyTorch is not installed")
            from benchmarks.gpu.without_tensorrt.torch_network import TorchCapture, TorchDetector, require_cuda

            require_cuda()
            network = GpuYuNet(stack.enter_context(TorchDetector(Path(engine))), TorchCapture(cuda), SCORE)
        else:
            network = GpuYuNet(stack.enter_context(DetectorEngine(read_engine(Path(engine)))), cuda, SCORE)
        stack.pop_all()
    try:
        yield network
    finally:
        network.close()
