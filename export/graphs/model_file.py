"""Take ONNX models that come from elsewhere: check them against the runtime's contract and derive their spec.

`calibration.precision.model_file` has the reader and the writer of files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import onnx

from calibration.precision.graph_view import Graph
from calibration.precision.model_file import check_outputs, read_external_data, read_onnx, sound_model
from runtime.errors import FaceMeshError, one_line
from runtime.models.spec import CONFIDENCE_SHAPE, ModelSpec, load_spec

OPSET = 17  # the newest that TensorRT 8.6 reads whole
LEAST_OPSET = 13
STANDARD = ("", "ai.onnx")  # the two names of the same domain


def load_onnx(path: Path) -> onnx.ModelProto:
    """Return the model in ``path`` with its external data, as opset 13..17.

    Raises `FaceMeshError` for a file that is missing or damaged, for data outside its folder, and for operators outside
    the ONNX standard.
    """
    _, model = read_onnx(path)
    with sound_model(path):
        return _checked(model, path)


def _checked(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    read_external_data(model, path)
    if strangers := {node.op_type for node in model.graph.node if not _is_standard(node, model)}:
        problem = f"operators outside the ONNX standard: {one_line(', '.join(sorted(strangers)), 200)}"
        raise FaceMeshError(f"{path}: {problem}; export the model without them")
    onnx.checker.check_model(model, full_check=True)
    return at_opset(with_unique_names(model))


def with_unique_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with a name of its own for every node.

    Passes derive names of new nodes from those of the old ones, and ONNX Runtime refuses a model with two nodes of the
    same name.
    """
    named = onnx.ModelProto()
    named.CopyFrom(model)
    taken = {node.name for node in named.graph.node}
    given = {""}
    for index, node in enumerate(named.graph.node):
        if node.name in given:
            stem = node.name or f"{node.op_type}_{index}"
            name = stem
            count = 0
            while name in taken:
                count += 1
                name = f"{stem}_{count}"
            node.name = name
            taken.add(name)
        given.add(node.name)
    return named


def at_opset(model: onnx.ModelProto, opset: int = OPSET) -> onnx.ModelProto:
    """Return ``model`` under a version of the operator set that every TensorRT since 8.6 reads.

    The model is changed in place if possible: most operators mean the same in 17 and 18. PyTorch's exporter writes 18,
    and the converter of the onnx package refuses to go back over Pad. Raises `FaceMeshError` if neither works.
    """
    entry = next(entry for entry in model.opset_import if entry.domain in STANDARD)
    if LEAST_OPSET <= entry.version <= opset:
        return model
    if entry.version > opset and all(_means_the_same(node, entry.version, opset) for node in model.graph.node):
        entry.version = opset
        return model
    try:
        return onnx.version_converter.convert_version(model, opset)
    except Exception as error:  # RuntimeError of C++, without a type of its own
        problem = f"the model is of opset {entry.version} and cannot be brought to {opset} ({one_line(error, 200)})"
        raise FaceMeshError(f"{problem}; export it with opset {opset}") from None


def derive_spec(model: onnx.ModelProto, path: Path, like: ModelSpec | None) -> ModelSpec:
    """Return the spec of a model that came as ONNX.

    It is the one beside the file, or the graph's names and sizes with the rest from ``like``. The precision is the
    graph's. Raises `FaceMeshError` if there is neither, if the two contradict each other, and if the graph is no
    network from a square picture to a square map of fixed sizes.
    """
    if ModelSpec.path_for(path).is_file():
        spec = load_spec(path)
        if like is not None:
            _refuse_contradiction(spec, like, path)
    elif like is None:
        remedy = f"add --arch to say which network it is, or write {ModelSpec.path_for(path).name}"
        raise FaceMeshError(f"{path}: no spec beside it; {remedy}")
    else:
        spec = _spec_of_graph(model, path, like)
    check_interface(model, spec, path)
    return dataclasses.replace(spec, precision=precision_of(model))


def check_interface(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> None:
    """Compare names, sizes and types of input and outputs with the spec. Raises `FaceMeshError`."""
    ends = [("input", spec.input.name, spec.input.shape, model.graph.input)]
    ends += [("output", name, shape, model.graph.output) for name, shape in spec.outputs.items()]
    for kind, name, shape, values in ends:
        value = next((value for value in values if value.name == name), None)
        if value is None:
            names = ", ".join(value.name for value in values)
            raise FaceMeshError(f"{path}: its spec names the {kind} {name}, the model has {names}")
        if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            remedy = "export the model with float32 inputs and outputs"
            raise FaceMeshError(f"{path}: the {kind} {name} is not float32; {remedy}")
        if _dims(value)[1:] != shape:
            wanted = f"(N, {', '.join(map(str, shape))})"
            problem = f"the {kind} {name} has the shape {_shape_text(value)}, its spec wants {wanted}"
            raise FaceMeshError(f"{path}: {problem}; export the model with these sizes, only the batch may be free")
    check_outputs(Graph(model), spec, path)


def precision_of(model: onnx.ModelProto) -> str:
    """Return ``int8`` with quantised tensors, else ``fp16`` with any half precision, else ``fp32``.

    A strongly typed engine has the types of its graph.
    """
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return "int8"
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    kinds = {attribute.i for node in casts for attribute in node.attribute if attribute.name == "to"}
    kinds |= {tensor.data_type for tensor in all_tensors(model.graph)}
    return "fp16" if onnx.TensorProto.FLOAT16 in kinds else "fp32"


def all_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield all tensors that the graph and the branches inside it hold."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for branch in (attribute.g, *attribute.graphs):
                yield from all_tensors(branch)


def _spec_of_graph(model: onnx.ModelProto, path: Path, like: ModelSpec) -> ModelSpec:
    """Return ``like`` with the names, the sizes and the layout of the graph."""
    initialisers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initialisers]
    output, *others = model.graph.output
    if len(inputs) != 1 or [_dims(value)[1:] for value in others] not in ([], [CONFIDENCE_SHAPE]):
        problem = f"{len(inputs)} inputs and {1 + len(others)} outputs"
        wanted = "a network of one picture and one map is wanted, a confidence (N, 1) may follow"
        raise FaceMeshError(f"{path}: {problem}; {wanted}")
    layout, size = _layout_and_side(inputs[0], 4 if like.input.landmark_channel else 3, path)
    given = dataclasses.replace(like.input, name=inputs[0].name, size=size, layout=layout)
    try:
        wanted = like.output.fitted(output.name, _dims(output)[1:], layout)
    except ValueError as error:
        raise FaceMeshError(f"{path}: {output.name} has the shape {_shape_text(output)}; {error}") from None
    return dataclasses.replace(like, input=given, output=wanted, confidence=others[0].name if others else None)


def _refuse_contradiction(spec: ModelSpec, like: ModelSpec, path: Path) -> None:
    """Raise `FaceMeshError` if the spec beside ``path`` has other figures than the network ``like``."""
    figures = {"input size": (spec.input.size, like.input.size)}
    for field in dataclasses.fields(like.output):
        held, wanted = (getattr(one.output, field.name, math.nan) for one in (spec, like))
        if isinstance(wanted, (int, float)):
            figures[f"output {field.name}"] = (held, wanted)
    figures["crop scale"] = (spec.crop_scale, like.crop_scale)
    other = {name: pair for name, pair in figures.items() if not math.isclose(*pair)}
    if other:
        faults = ", ".join(f"{name} {held:g} instead of {wanted:g}" for name, (held, wanted) in other.items())
        problem = f"the spec beside it is not that of --arch {like.name} ({faults})"
        raise FaceMeshError(f"{path}: {problem}; leave --arch out, or give the right one")


def _is_standard(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    opset = next((entry.version for entry in model.opset_import if entry.domain in STANDARD), 0)
    return node.domain in STANDARD and onnx.defs.has(node.op_type, max_inclusive_version=opset)


def _means_the_same(node: onnx.NodeProto, newer: int, older: int) -> bool:
    """Return True if the operator did not change between two versions, or only by features that the node lacks."""
    if node.op_type == "Pad" and newer <= 18 and len(node.input) < 4:
        return True  # 18 added the input that names axes
    if not onnx.defs.has(node.op_type, max_inclusive_version=older):
        return False
    schemas = [onnx.defs.get_schema(node.op_type, version) for version in (newer, older)]
    return schemas[0].since_version == schemas[1].since_version


def _layout_and_side(value: onnx.ValueInfoProto, planes: int, path: Path) -> tuple[str, int]:
    """Return ("NCHW" or "NHWC", side) of a float32 tensor (N, C, S, S) or (N, S, S, C) of so many ``planes``."""
    dims = _dims(value)
    for layout, channels, sides in (("NCHW", 1, (2, 3)), ("NHWC", 3, (1, 2))):
        if len(dims) == 4 and dims[channels] == planes and dims[sides[0]] == dims[sides[1]] > 0:
            return layout, dims[sides[0]]
    problem = f"{value.name} has the shape {_shape_text(value)}"
    remedy = f"a square of {planes} channels with a fixed side is wanted, only the batch may be free"
    raise FaceMeshError(f"{path}: {problem}; {remedy}")


def _dims(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Return the dimensions of a tensor, 0 for a free one."""
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _shape_text(value: onnx.ValueInfoProto) -> str:
    dims = value.type.tensor_type.shape.dim
    return f"({', '.join(dim.dim_param or (str(dim.dim_value) if dim.HasField('dim_value') else '?') for dim in dims)})"
