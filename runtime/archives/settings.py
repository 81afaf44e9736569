"""Settings of a run over an archive."""

from __future__ import annotations

from dataclasses import asdict, dataclass

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

    def document(self) -> dict[str, object]:
        """Return the settings as JSON has them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def open_runner(self) -> Runner:
        """Open the model. Raises `FaceMeshError`, also for another file than the one that the run began with."""
        runner = open_runner(self.model, threads=1, precision=self.precision, face_model=self.face_model)
        path = self.model or shipped_model(self.precision)
        if file_sha256(path) != self.model_sha256:
            runner.close()
            raise FaceMeshError(f"{path}: another file than where the run was begun; copy the same one to all machines")
        return runner
