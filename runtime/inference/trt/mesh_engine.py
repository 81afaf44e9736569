"""The engine of a face network: one face in, a mesh and perhaps a confidence out."""

from __future__ import annotations

import math

from runtime.inference.trt.engine import Engine
from runtime.inference.trt.engine_file import EngineFile
from runtime.models.detector_spec import mesh_spec
from runtime.models.spec import ModelSpec


class MeshEngine(Engine):
    """An `Engine` with the tensors of a face network by their meaning."""

    spec: ModelSpec

    def __init__(self, file: EngineFile) -> None:
        """Load the file as `Engine` does. Raises `FaceMeshError` for the engine of a detector, too."""
        spec = mesh_spec(file.spec, file.path)
        super().__init__(file)
        self.output_shape = spec.output_shape  # of one face
        self.output_dtype = self.output_dtypes[spec.output.name]
        self.output_nbytes = math.prod(self.output_shape) * self.output_dtype.itemsize
        self.confidence_dtype = None if spec.confidence is None else self.output_dtypes[spec.confidence]

    def addresses(self, input_pointer: int, output_pointer: int, confidence_pointer: int) -> dict[str, int]:
        """Return device addresses by the names of the tensors; a model without confidence takes no third one."""
        pointers = (input_pointer, output_pointer, confidence_pointer)
        return dict(zip([self.spec.input.name, *self.spec.outputs], pointers, strict=False))
