"""Settings of a run over an archive."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from runtime.detection.open_detector import open_detector
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.inference.interface import Runner
from runtime.inference.open_runner import open_runner
from runtime.models.detector_spec import DetectorSpec
from runtime.models.shipped import shipped_model
from runtime.models.spec import ModelSpec
from runtime.storage.whole_files import file_sha256


@dataclass(frozen=True)
class Settings:
    """Options of a run, the same for all of its shards; kept in the plan."""

    sources: tuple[str, ...]
    model: str | None  # path; None: the shipped one
    face_model: str | None
    precision: str | None  # of the shipped model
    vertices: bool
    min_confidence: float | None
    column: str | None  # of Parquet files
    every: int  # of the frames of films
    shard: int  # pictures
    recursive: bool
    detector: str | None = None  # path; None: the shipped one
    sha256: dict[str, str] = field(default_factory=dict)  # of the files by what they are, see `with_digests`

    def document(self) -> dict[str, object]:
        """Return the settings as JSON has them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def open_runner(self) -> Runner:
        """Open the model. Raises `FaceMeshError`."""
        return open_runner(self.model, threads=1, precision=self.precision, face_model=self.face_model)

    def open_detector(self) -> YuNetDetector:
        """Open the detector. Raises `FaceMeshError`."""
        return open_detector(self.detector)

    def with_digests(self) -> Settings:
        """Return the settings with the digests of the files here. Raises `FaceMeshError` for one that is not there."""
        return replace(self, sha256={name: file_sha256(path) for name, path in self._files().items()})

    def check_files(self) -> None:
        """Raise `FaceMeshError` for another file than at the start of the run; a missing one is told when opened."""
        for name, path in self._files().items():
            if path.is_file() and file_sha256(path) != self.sha256.get(name):
                problem = "another file than where the run was begun"
                raise FaceMeshError(f"{path}: {problem}; copy the same one to all machines")

    def _files(self) -> dict[str, Path]:
        """Return the files that decide on the results; the shipped topologies and detector come with the package."""
        model = Path(self.model or shipped_model(self.precision))
        files = {"model": model, "model's .json": ModelSpec.path_for(model)}
        if self.face_model is not None:
            files["face model"] = Path(self.face_model)
        if self.detector is not None:
            detector = Path(self.detector)
            files |= {"detector": detector, "detector's .json": DetectorSpec.path_for(detector)}
        return files
