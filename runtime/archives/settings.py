"""Settings of a run over an archive."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from runtime.detection.open_detector import open_detector
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.inference.interface import Runner
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import shipped_model
from runtime.storage.whole_files import file_sha256


@dataclass(frozen=True)
class Settings:
    """Options of a run, the same for all of its shards; kept in the plan."""

    sources: tuple[str, ...]
    model: str | None  # path; None: the shipped one
    model_sha256: str
    face_model: str | None
    precision: str | None  # of the shipped model
    vertices: bool
    min_confidence: float | None
    column: str | None  # of Parquet files
    every: int  # of the frames of films
    shard: int  # pictures
    recursive: bool
    detector: str | None = None  # path; None: the shipped one
    detector_sha256: str | None = None

    def document(self) -> dict[str, object]:
        """Return the settings as JSON has them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def open_runner(self) -> Runner:
        """Open the model. Raises `FaceMeshError`, also for another file than the one that the run began with."""
        _check_same(self.model or shipped_model(self.precision), self.model_sha256)
        return open_runner(self.model, threads=1, precision=self.precision, face_model=self.face_model)

    def open_detector(self) -> YuNetDetector:
        """Open the detector. Raises `FaceMeshError` as `open_runner`."""
        if self.detector is not None:
            _check_same(self.detector, self.detector_sha256)
        return open_detector(self.detector)


def _check_same(path: str | Path, sha256: str | None) -> None:
    """Raise `FaceMeshError` for another file than the one of that digest; one that is missing is told when opened."""
    if Path(path).is_file() and file_sha256(path) != sha256:
        raise FaceMeshError(f"{path}: another file than where the run was begun; copy the same one to all machines")
