"""Frames through ONNX Runtime's providers for GPUs: the network there, crop and decode on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.clocks import Row, SeriesLength, record_row, take_series, time_on_host
from benchmarks.gpu.scene import PartSkipped, face_matrices, frame
from runtime.errors import FaceMeshError
from runtime.families.table import open_family
from runtime.inference.open_runner import open_runner


def provider_frames(model: str, provider: str, face_model: str | None, length: SeriesLength) -> Iterator[Row]:
    """Measure a 720p frame with one face, and the network alone with its copies, through ``provider``."""
    try:
        runner = open_runner(model, max_batch=1, provider=provider, face_model=face_model)
    except ModuleNotFoundError as error:
        raise PartSkipped(f"{error.name} is not installed") from error
    except FaceMeshError as error:
        raise PartSkipped(str(error)) from error
    with runner:
        family = open_family(runner.spec)
        mesher = runner.mesher(family)
        picture, matrices = frame(), face_matrices(1, family)

        def run() -> None:
            mesher.submit(picture, matrices)
            mesher.collect()

        yield record_row(f"whole frame through {provider}", take_series(time_on_host(run), length))
        yield record_row(f"network through {provider}", take_series(time_on_host(lambda: runner.infer(1)), length))
