"""Python backend of Triton: the model ``facemesh`` of the repositories that ``python -m export triton`` writes.

https://github.com/triton-inference-server/python_backend
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import triton_python_backend_utils as triton

from runtime.cores import usable_cores
from runtime.detection.open_detector import open_detector
from runtime.errors import FaceMeshError
from runtime.inference.open_runner import open_runner
from runtime.serving.face_service import FaceService, Picture
from runtime.serving.model_folder import DETECTOR, model_in, show_one_device
from runtime.serving.triton_tensors import BOXES, ENCODED, PIXELS, VERTICES, face_tensors, requested_pictures
from runtime.types import FaceMesh

COUNTERS = {
    "facemesh_pictures_total": "Pictures whose faces were returned",
    "facemesh_faces_total": "Faces that were returned",
    "facemesh_refused_total": "Requests that ended in an error",
}
Answer = list[list[FaceMesh]] | FaceMeshError  # faces of the pictures of one request


class TritonPythonModel:
    """One instance: a process with a runner of its own, on one GPU or on the CPU."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the model beside; an error becomes Triton's line on why the model is not loaded."""
        logging.basicConfig(format="%(name)s: %(message)s")
        _check_arrays()
        cv2.setNumThreads(1)  # the threads of the service share the cores out
        if args["model_instance_kind"] == "GPU":
            show_one_device(int(args["model_instance_device_id"]))
        config = json.loads(args["model_config"])
        workers = int(config["parameters"]["workers"]["string_value"]) or usable_cores()
        folder = Path(args["model_repository"], args["model_version"])
        with ExitStack() as stack:
            try:
                runner = stack.enter_context(open_runner(model_in(folder)))
                own = (folder / DETECTOR).is_dir()
                detector = stack.enter_context(open_detector(model_in(folder / DETECTOR))) if own else None
                self._service = stack.enter_context(FaceService(runner, detector, workers=workers))
            except (FaceMeshError, ModuleNotFoundError) as error:
                raise triton.TritonModelException(str(error)) from None
            self._opened = stack.pop_all()
        self._counters = Counters(args["model_name"], args["model_version"])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests of one batch, each with faces or with an error of its own."""
        asked = [_asked(request) for request in requests]
        wanted = [set(request.requested_output_names()) for request in requests]
        pictures = [picture for each in asked if isinstance(each, list) for picture in each]
        found = self._service(pictures, dense=any(VERTICES in names for names in wanted))
        try:
            answers = [_answer(each, found) for each in asked]
        except FaceMeshError as error:  # no picture can succeed any more
            answers = [error] * len(requests)
        return [self._response(answer, names) for answer, names in zip(answers, wanted, strict=True)]

    def finalize(self) -> None:
        """Free the model."""
        self._opened.close()

    def _response(self, answer: Answer, names: set[str]) -> Any:
        if isinstance(answer, FaceMeshError):
            self._counters.add("facemesh_refused_total", 1)
            code = triton.TritonError.INTERNAL if answer.is_fatal else triton.TritonError.INVALID_ARG
            return triton.InferenceResponse(error=triton.TritonError(str(answer), code))
        self._counters.add("facemesh_pictures_total", len(answer))
        self._counters.add("facemesh_faces_total", sum(map(len, answer)))
        arrays = face_tensors(answer, names, self._service.vertex_count)
        return triton.InferenceResponse([triton.Tensor(name, array) for name, array in arrays.items()])


def _asked(request: Any) -> list[Picture] | FaceMeshError:
    """Return the pictures of a request, or the error that is its answer."""
    if request.is_cancelled():
        return FaceMeshError("the request was cancelled by its client")
    arrays = (triton.get_input_tensor_by_name(request, tensor.name) for tensor in (ENCODED, PIXELS, BOXES))
    try:
        return requested_pictures(*(None if array is None else array.as_numpy() for array in arrays))
    except FaceMeshError as error:
        return error


def _answer(asked: list[Picture] | FaceMeshError, found: Any) -> Answer:
    """Take the results of a request's pictures from ``found``; the first error among them is its answer."""
    if isinstance(asked, FaceMeshError):
        return asked
    results = [next(found) for _ in asked]
    return next((result for result in results if isinstance(result, FaceMeshError)), results)


class Counters:
    """Counters among the metrics of the server."""

    def __init__(self, model: str, version: str) -> None:
        """Register them; a server that keeps no metrics gets none."""
        self._families: list[Any] = []  # a counter ends with its family
        self._counters: dict[str, Any] = {}
        with contextlib.suppress(triton.TritonModelException):
            for name, text in COUNTERS.items():
                self._families.append(
                    triton.MetricFamily(name=name, description=text, kind=triton.MetricFamily.COUNTER)
                )
                self._counters[name] = self._families[-1].Metric(labels={"model": model, "version": version})

    def add(self, name: str, number: int) -> None:
        """Add a number."""
        if name in self._counters:
            self._counters[name].increment(number)


def _check_arrays() -> None:
    """Raise `TritonModelException` if the server was built for an older NumPy: its arrays would be garbage."""
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        return
    numbers = np.arange(3, dtype=np.int32)
    if not np.array_equal(triton.Tensor.from_dlpack("probe", numbers).as_numpy(), numbers):
        problem = f"this server's Python backend does not read the arrays of NumPy {np.__version__}"
        raise triton.TritonModelException(f"{problem}; {sys.executable} -m pip install 'numpy<2'")
