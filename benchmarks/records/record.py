"""The record of a measurement: one JSON document in one file, as the commands write it with ``--json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import FaceMeshError, reason
from runtime.storage.json_documents import read_json


@dataclass(frozen=True)
class Record:
    """The document of one file, and its kind: "latency", "peers" and so on."""

    path: Path
    kind: str
    document: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the file, without its folder."""
        return self.path.name

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries; empty if the document has none."""
        versions = self.document.get("versions")
        return versions if isinstance(versions, dict) else {}

    @property
    def machine(self) -> str:
        """Board, GPU and CPU in words, as far as they are known."""
        machine = self.document.get("machine")
        if not isinstance(machine, dict):
            return machine if isinstance(machine, str) and machine else "unknown machine"
        words = [str(machine[key]) for key in ("board", "gpu", "cpu") if machine.get(key)]
        if machine.get("cores"):
            words.append(f"{machine['cores']} cores")
        return ", ".join(words) or "unknown machine"


def read_document(path: Path) -> Any:
    """Read the JSON document of a record; its content is not checked.

    Raises `FaceMeshError` if the file is missing or not strict JSON: NaN and infinity are no numbers there.
    """
    try:
        return read_json(path, parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise FaceMeshError(f"{path}: no such file; 'python -m benchmarks run --json FILE' writes one") from None
    except (OSError, ValueError) as error:
        raise FaceMeshError(f"{path}: cannot be read as JSON ({reason(error)}); measure again") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")
