"""ONNX files in and out: any model that fits the runtime, checked at the door, and a model with its spec written whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from runtime.errors import FaceMeshError
from runtime.models.spec import ModelSpec, load_spec
from runtime.storage.json_documents import document_bytes
from runtime.storage.whole_files import whole_file

OPSET = 17  # the newest that TensorRT 8.6 reads whole
LEAST_OPSET = 13
STANDARD = ("", "ai.onnx")  # the two names of the same domain


def load_onnx(path: Path) -> onnx.ModelProto:
    """The model in ``path`` with its external data, as opset 13..17.

    Raises `FaceMeshError` when it is missing or damaged, keeps data outside its folder, or uses operators outside the ONNX standard.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
        if not model.graph.node:
            raise FaceMeshError(f"{path}: not an ONNX model, or an empty one; give an .onnx file or a checkpoint")
        _load_external_data(model, path)
    except FileNotFoundError:
        raise FaceMeshError(f"{path}: no such file; --weights takes a checkpoint or an .onnx file") from None
    except (OSError, DecodeError, ValueError) as error:
        raise FaceMeshError(f"{path}: cannot be read as an ONNX model ({_one_line(error)}); get the file again") from None
    if strangers := {node.op_type for node in model.graph.node if not _is_standard(node, model)}:
        raise FaceMeshError(f"{path}: operators outside the ONNX standard: {', '.join(sorted(strangers))}; export the model without them")
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker and shape inference raise types of their own
        raise FaceMeshError(f"{path}: not a valid ONNX model ({_one_line(error)}); export it again") from None
    return at_opset(with_unique_names(model))


def with_unique_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every node has a name of its own: passes derive names of new nodes from those of the old ones,
    and ONNX Runtime refuses a model with two nodes of the same name.
    """
    named = onnx.ModelProto()
    named.CopyFrom(model)
    taken, given = {node.name for node in named.graph.node}, {""}
    for index, node in enumerate(named.graph.node):
        if node.name in given:
            stem = name = node.name or f"{node.op_type}_{index}"
            count = 0
            while name in taken:
                count += 1
                name = f"{stem}_{count}"
            node.name = name
            taken.add(name)
        given.add(node.name)
    return named


def at_opset(model: onnx.ModelProto, opset: int = OPSET) -> onnx.ModelProto:
    """``model`` under a version of the operator set that every TensorRT since 8.6 reads; changed in place where possible.

    Most operators mean the same in 17 and 18; PyTorch's exporter writes 18, and the converter of the onnx package refuses to go back over Pad.
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
        reason = _one_line(error)
        raise FaceMeshError(
            f"the model is of opset {entry.version} and cannot be brought to {opset} ({reason}); export it with opset {opset}"
        ) from None


def derive_spec(model: onnx.ModelProto, path: Path, like: ModelSpec | None) -> ModelSpec:
    """The spec of a model that came as ONNX: the one beside it, or the graph's names and sizes with the rest from ``like``.

    The precision is the graph's. Raises `FaceMeshError` when there is neither, the two contradict each other, or the
    graph is no network from a square picture to a square map of fixed sizes.
    """
    if ModelSpec.path_for(path).is_file():
        spec = load_spec(path)
        if like is not None:
            _refuse_contradiction(spec, like, path)
    elif like is None:
        raise FaceMeshError(f"{path}: no spec beside it; add --arch to say which network it is, or write {ModelSpec.path_for(path).name}")
    else:
        initialisers = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in initialisers]
        if len(inputs) != 1 or len(model.graph.output) != 1:
            raise FaceMeshError(f"{path}: {len(inputs)} inputs and {len(model.graph.output)} outputs; a network of one picture and one map is wanted")
        layout, size = _layout_and_side(inputs[0], path)
        given = dataclasses.replace(like.input, name=inputs[0].name, size=size, layout=layout)
        output = model.graph.output[0]
        try:
            wanted = like.output.fitted(output.name, _dims(output)[1:], layout)
        except ValueError as error:
            raise FaceMeshError(f"{path}: {output.name} has the shape {_shape_text(output)}; {error}") from None
        spec = dataclasses.replace(like, input=given, output=wanted)
    check_interface(model, spec, path)
    return dataclasses.replace(spec, precision=precision_of(model))


def write_model(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> ModelSpec:
    """Write ``path`` and the spec beside it, which gets the file's SHA-256; both or, on an error, neither."""
    content = model.SerializeToString(deterministic=True)
    spec = dataclasses.replace(spec, onnx_sha256=hashlib.sha256(content).hexdigest())
    with whole_file(ModelSpec.path_for(path)) as spec_file, whole_file(path) as model_file:
        spec_file.write(document_bytes(spec))
        spec_file.flush()
        model_file.write(content)
    return spec


def precision_of(model: onnx.ModelProto) -> str:
    """``int8`` with quantised tensors, else ``fp16`` with any half precision, else ``fp32``: a strongly typed engine has the types of its graph."""
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return "int8"
    casts = {attribute.i for node in model.graph.node if node.op_type == "Cast" for attribute in node.attribute if attribute.name == "to"}
    halves = onnx.TensorProto.FLOAT16 in casts or any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in all_tensors(model.graph))
    return "fp16" if halves else "fp32"


def all_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All tensors that the graph and the branches inside it hold."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for branch in (attribute.g, *attribute.graphs):
                yield from all_tensors(branch)


def _load_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Read tensors kept in other files, which must lie in the model's folder."""
    folder = path.parent.resolve()
    for tensor in model.graph.initializer:
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), None)
        if location is not None and not (folder / location).resolve().is_relative_to(folder):
            raise FaceMeshError(f"{path}: the data of {tensor.name} is said to lie in {location}, outside the model's folder; move it there")
    try:
        onnx.load_external_data_for_model(model, str(folder))
    except (OSError, onnx.checker.ValidationError) as error:
        raise FaceMeshError(f"{path}: its external data cannot be read ({_one_line(error)}); copy all files of the model") from None


def _refuse_contradiction(spec: ModelSpec, like: ModelSpec, path: Path) -> None:
    """The spec beside ``path`` against that of the network it is said to be."""
    figures = {"input size": (spec.input.size, like.input.size), "crop scale": (spec.crop_scale, like.crop_scale)}
    for field in dataclasses.fields(like.output):
        held, wanted = (getattr(one.output, field.name, math.nan) for one in (spec, like))
        if isinstance(wanted, (int, float)):
            figures[f"output {field.name}"] = (held, wanted)
    if faults := [f"{name} {held:g} instead of {wanted:g}" for name, (held, wanted) in figures.items() if not math.isclose(held, wanted)]:
        raise FaceMeshError(
            f"{path}: the spec beside it is not that of --arch {like.name} ({', '.join(faults)}); leave --arch out, or give the right one"
        )


def _is_standard(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    opset = next((entry.version for entry in model.opset_import if entry.domain in STANDARD), 0)
    return node.domain in STANDARD and onnx.defs.has(node.op_type, max_inclusive_version=opset)


def _means_the_same(node: onnx.NodeProto, newer: int, older: int) -> bool:
    """The operator did not change between the two versions, or only by what the node does not use."""
    if node.op_type == "Pad" and newer <= 18 and len(node.input) < 4:
        return True  # 18 added the input that names axes
    if not onnx.defs.has(node.op_type, max_inclusive_version=older):
        return False
    return onnx.defs.get_schema(node.op_type, newer).since_version == onnx.defs.get_schema(node.op_type, older).since_version


def _layout_and_side(value: onnx.ValueInfoProto, path: Path) -> tuple[str, int]:
    """("NCHW" or "NHWC", side) of a (N, 3, S, S) or (N, S, S, 3) float32 tensor."""
    dims = _dims(value)
    for layout, channels, sides in (("NCHW", 1, (2, 3)), ("NHWC", 3, (1, 2))):
        if len(dims) == 4 and dims[channels] == 3 and dims[sides[0]] == dims[sides[1]] > 0:
            return layout, dims[sides[0]]
    raise FaceMeshError(
        f"{path}: {value.name} has the shape {_shape_text(value)}; a square of 3 channels with a fixed side is wanted, only the batch may be free"
    )


def check_interface(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> None:
    """Names, sizes and types are those of the spec."""
    sides = (("input", spec.input.name, spec.input.shape, model.graph.input), ("output", spec.output.name, spec.output_shape, model.graph.output))
    for kind, name, shape, values in sides:
        value = next((value for value in values if value.name == name), None)
        if value is None:
            raise FaceMeshError(f"{path}: its spec names the {kind} {name}, the model has {', '.join(value.name for value in values)}")
        if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            raise FaceMeshError(f"{path}: the {kind} {value.name} is not float32; export the model with float32 inputs and outputs")
        if _dims(value)[1:] != shape:
            wanted = f"(N, {', '.join(map(str, shape))})"
            found = f"{path}: the {kind} {name} has the shape {_shape_text(value)}, its spec wants {wanted}"
            raise FaceMeshError(f"{found}; export the model with these sizes, only the batch may be free")


def _dims(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Return the dimensions of a tensor, 0 for a free one."""
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _shape_text(value: onnx.ValueInfoProto) -> str:
    return f"({', '.join(dim.dim_param or (str(dim.dim_value) if dim.HasField('dim_value') else '?') for dim in value.type.tensor_type.shape.dim)})"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
