"""``EngineManifest``: content and requirements of an engine file, kept as JSON beside it.

Deserialising an engine runs code, and a foreign one may crash the process. So the manifest is read first: its hash ties
it to the engine, the rest says if this machine can run it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.console.extras import REPAIR
from runtime.console.extras import remedy as install_remedy
from runtime.cuda.driver import Device, platform_name
from runtime.errors import FaceMeshError
from runtime.models.detector_spec import AnySpec, spec_type
from runtime.storage.json_documents import load_document
from runtime.storage.whole_files import file_sha256

LIBRARIES = ("tensorrt", "tensorrt-rtx")
# Version-compatible engines go forward, across these major versions alone
# (TensorRT 11.4.1, support matrix, engine portability).
NEXT_MAJOR = {8: 10, 10: 11}


@dataclass(frozen=True)
class EngineManifest:
    """Contract between an engine file and the runtime; ``+`` after a version or capability includes newer ones."""

    spec: AnySpec  # of the ONNX file that the engine was built from: its SHA-256 and the precision are here
    engine_sha256: str
    library: str  # one of LIBRARIES
    version: str  # of the library, "10.3.0" or "10.3.0+"
    batch: tuple[int, int, int]  # smallest, the one it is fastest at, largest
    compute_capabilities: tuple[str, ...]  # of the devices it runs on, "8.7" or "8.0+"
    device: str | None  # name of the device it was built on; None: built without one
    dla_core: int | None  # None: runs on the GPU
    created: str  # UTC, ISO 8601
    command: str  # that builds it again
    platform: str | None = None  # `runtime.cuda.driver.platform_name` of the build; None: an older build does not tell
    multiprocessors: int | None = None  # of the device; the names of Jetsons do not tell 8 from 16

    @staticmethod
    def path_for(engine: str | os.PathLike[str]) -> Path:
        """``model.engine`` -> ``model.engine.json``."""
        return Path(f"{os.fspath(engine)}.json")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EngineManifest:
        """Read and check the JSON file ``path``; raises `FaceMeshError` that names the field at fault."""
        return load_document(cls, path, "engine manifest", "python -m export engine")

    @classmethod
    def load_for(cls, engine: str | os.PathLike[str], sha256: str | None = None) -> EngineManifest:
        """The manifest beside an engine, once it is sure that they belong together; raises `FaceMeshError`.

        ``sha256`` is the hash of what was read from the file, for who goes on with just that.
        """
        if not Path(engine).is_file():
            raise FaceMeshError(
                f"{engine}: no engine file there; 'python -m export engine' makes one from an ONNX file"
            )
        manifest = cls.load(cls.path_for(engine))
        if (found := sha256 or file_sha256(engine)) != manifest.engine_sha256:
            raise FaceMeshError(
                f"{engine}: its SHA-256 {found[:12]}… is not the {manifest.engine_sha256[:12]}… "
                f"of {cls.path_for(engine).name}; "
                f"it is damaged or another engine, build it again with '{manifest.command}'"
            )
        return manifest

    @classmethod
    def document_types(cls, document: dict[str, Any]) -> dict[str, type]:
        """Return the types of fields that depend on others: the spec says itself of which kind it is."""
        return {"spec": spec_type(document.get("spec"))}

    @property
    def version_compatible(self) -> bool:
        """True if newer versions of the library run it too; such an engine brings host code along."""
        return self.version.endswith("+")

    def why_not(self, version: str | None, device: Device | None, fault: str | None = None) -> str | None:
        """Return one line on the obstacle to running this engine on a machine, None if there is none.

        ``version`` is the library's on that machine, None if it is not installed, or does not load: ``fault`` then
        tells why. The line tells the engine's origin, the machine's equipment and, if it has a device, the remedy.
        """
        reasons = []
        if version is None:
            reasons.append(fault or f"{self.library} is not installed here")
        elif not self._takes_version(version):
            reasons.append(f"this is {self.library} {version}")
        if device is None:
            reasons.append("no CUDA device is found here")
        elif not self.runs_on(device):
            reasons.append(f"this is {device.name} of compute capability {device.compute_capability}")
        elif self.platform not in (None, here := platform_name(device)):
            reasons.append(f"this is {here}")
        if not reasons:
            return None
        wanted = f"{self.library} {self.version}, compute capability {', '.join(self.compute_capabilities)}"
        wanted += f" on {self.platform}" if self.platform else ""
        built = f"on {self.device}" if self.device else "without a device"
        if version:
            remedy = f"build it here with '{self.command}'"
        else:
            remedy = REPAIR if fault else install_remedy(self.library.replace("-", "_"))
        return f"built {built} for {wanted}; {' and '.join(reasons)}{f'; {remedy}' if device else ''}"

    def runs_on(self, device: Device) -> bool:
        """Return True if the engine was built for this kind of device."""
        return any(_reaches(device.compute_capability, wanted) for wanted in self.compute_capabilities)

    def doubt(self, device: Device | None) -> str | None:
        """Return one line on a device that runs this engine and may run it badly, None without doubt."""
        if device is None or self.multiprocessors is None or device.multiprocessors in (0, self.multiprocessors):
            return None
        other = f"built on {self.multiprocessors} multiprocessors, this {device.name} has {device.multiprocessors}"
        return f"{other}: it may be slow or fail; build it here with '{self.command}'"

    def _takes_version(self, version: str) -> bool:
        built, here = (int(text.rstrip("+").split(".")[0]) for text in (self.version, version))
        return _reaches(version, self.version) and here in (built, NEXT_MAJOR.get(built))

    def __post_init__(self) -> None:
        if self.library not in LIBRARIES:
            raise ValueError(f"field library must be one of {', '.join(LIBRARIES)}, is {self.library!r}")
        if not 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]:
            raise ValueError(f"field batch must be three numbers from 1 on that do not fall, is {list(self.batch)}")
        if not self.compute_capabilities:
            raise ValueError("field compute_capabilities must name one at least")
        for field, texts in (("version", (self.version,)), ("compute_capabilities", self.compute_capabilities)):
            for text in texts:
                if len(text) > 64 or not re.fullmatch(r"\d+(\.\w+)*\+?", text, re.ASCII):
                    raise ValueError(f"field {field} must be numbers with dots between, is {text[:200]!r}")


def _reaches(found: str, wanted: str) -> bool:
    """Return True if a dotted version is the wanted one; with ``+`` a newer one will do."""
    if not wanted.endswith("+"):
        return found == wanted
    return _numbers(found) >= _numbers(wanted[:-1])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
