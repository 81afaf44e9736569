"""Bring ONNX models that others wrote under the rules that the passes and the runtime count on.

Nothing is converted that need not be, and the file as it came stays the reference of every check:

    local functions                  inlined
    initialisers listed as inputs    not listed
    batch of -1 or 0                 a free batch
    free sides of the input          those that the spec or --arch names
    outputs without a shape          the shape that inference, or else a run, finds
    opset below 13                   17; Upsample and Resize keep what they meant
    opset above 17                   17 if every operator means the same there, else up to 21 as it is
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, inliner

from export.graphs.verify import run_feeds
from runtime.errors import FaceMeshError, one_line
from runtime.models.spec import ModelSpec

OPSET = 17  # the newest that TensorRT 8.6 reads whole
LEAST_OPSET = 13
NEWEST_OPSET = 21  # of IR 10, the newest that ONNX Runtime 1.18 reads
STANDARD = ("", "ai.onnx")  # the two names of the same domain
BATCH = "batch"
RENAMED_VALUES = {"GridSample": 20}  # opset since which the values of its attributes have other names


def prepare(came: onnx.ModelProto, like: ModelSpec | None) -> onnx.ModelProto:
    """Return a copy of the model ``came``, in which nothing but the above is changed.

    ``like`` says the sides of an input that the graph leaves open. Raises `FaceMeshError` that names the operator, for
    operators outside the standard, for layers in training mode, and for what cannot be brought to an opset in between.
    """
    model = with_unique_names(inliner.inline_local_functions(came) if came.functions else came)
    if strangers := {node.op_type for node in model.graph.node if not _is_standard(node, model)}:
        problem = f"operators outside the ONNX standard: {one_line(', '.join(sorted(strangers)), 200)}"
        raise FaceMeshError(f"{problem}; export the model without them")
    _refuse_training(model.graph)
    _list_pictures_alone(model)
    for value in (*model.graph.input, *model.graph.output):
        _free_batch(value)
    if like is not None and len(model.graph.input) == 1:
        _close_sides(model.graph.input[0], like.input.shape)
    _find_shapes(model, came)
    onnx.checker.check_model(model, full_check=True)
    model = at_opset(model)
    model.ir_version = max(8, helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True))
    return model


def with_unique_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with a name of its own for every node.

    Passes derive names of new nodes from those of the old ones, and ONNX Runtime refuses a model with two nodes of the
    same name.
    """
    named = _copy(model)
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


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators."""
    return next((entry.version for entry in model.opset_import if entry.domain in STANDARD), 1)


def at_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``model`` under opset 13 to 17, or if its operators have no form there under one up to 21.

    The model is changed in place if possible: most operators mean the same in two versions. Raises `FaceMeshError`.
    """
    opset = opset_of(model)
    if LEAST_OPSET <= opset <= OPSET:
        return model
    if opset < LEAST_OPSET:
        return _converted(model, opset)
    for target in (OPSET, min(opset, NEWEST_OPSET)):
        others = {node.op_type for node in _all_nodes(model.graph) if not _means_the_same(node, opset, target)}
        if not others:
            next(entry for entry in model.opset_import if entry.domain in STANDARD).version = target
            return model
    problem = f"{', '.join(sorted(others))} of opset {opset} mean something else in {NEWEST_OPSET}"
    raise FaceMeshError(f"{problem}, the newest that every supported ONNX Runtime reads; export it with that opset")


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _all_nodes(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    """Yield the nodes of a graph and of the branches in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for branch in (attribute.g, *attribute.graphs):
                yield from _all_nodes(branch)


def _is_standard(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    return node.domain in STANDARD and onnx.defs.has(node.op_type, max_inclusive_version=opset_of(model))


def _refuse_training(graph: onnx.GraphProto) -> None:
    """Refuse layers whose results depend on the other faces of the batch."""
    for node in _all_nodes(graph):
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        trains = node.op_type == "BatchNormalization" and (attributes.get("training_mode") or len(node.output) > 1)
        if trains:
            problem = f"the {node.op_type} {node.name or node.output[0]} is in training mode"
            raise FaceMeshError(f"{problem}: results depend on the other faces of a batch; export after model.eval()")


def _list_pictures_alone(model: onnx.ModelProto) -> None:
    """Take initialisers off the inputs, where IR 3 had to list them."""
    constants = {tensor.name for tensor in (*model.graph.initializer, *model.graph.sparse_initializer)}
    pictures = [value for value in model.graph.input if value.name not in constants]
    if len(pictures) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(pictures)


def _free_batch(value: onnx.ValueInfoProto) -> None:
    """Give a batch of -1 or 0 a name."""
    dims = value.type.tensor_type.shape.dim
    if dims and not dims[0].dim_param and dims[0].dim_value <= 0:
        dims[0].dim_param = BATCH


def _close_sides(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    """Set the sides (all but the batch) that the graph leaves open."""
    dims = list(value.type.tensor_type.shape.dim)[1:]
    if len(dims) == len(shape):
        for dim, side in zip(dims, shape, strict=True):
            if dim.dim_value <= 0:
                dim.dim_value = side


def _find_shapes(model: onnx.ModelProto, came: onnx.ModelProto) -> None:
    """Fill in the shapes of outputs, where the graph says none or names for sides."""
    if all(_has_sides(value) for value in model.graph.output):
        return
    for value in model.graph.output:
        if value.type.HasField("tensor_type") and not _has_sides(value):
            value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
    for value, found in zip(model.graph.output, inferred, strict=True):
        value.CopyFrom(found)
    if all(_has_sides(value) for value in model.graph.output) or not all(map(_has_sides, model.graph.input)):
        return
    # A run knows all sides.
    batches = [value.type.tensor_type.shape.dim[0] for value in model.graph.input]
    feeds = {}
    for value in model.graph.input:
        batch, *sides = (dim.dim_value for dim in value.type.tensor_type.shape.dim)
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feeds[value.name] = np.zeros((max(batch, 1), *sides), kind)
    names = [value.name for value in model.graph.output]
    for value, array in zip(model.graph.output, run_feeds(came, feeds, names), strict=True):
        sides = list(array.shape)
        if sides and batches and batches[0].dim_value <= 0:
            sides[0] = batches[0].dim_param or BATCH
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, sides))


def _has_sides(value: onnx.ValueInfoProto) -> bool:
    """Return True if all dimensions but the batch are numbers."""
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(dim.dim_value > 0 for dim in list(tensor.shape.dim)[1:])


def _converted(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Return a model of an old opset under OPSET."""
    try:
        converted = onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:  # RuntimeError of C++, without a type of its own
        problem = f"the model is of opset {opset} and cannot be brought to {OPSET} ({one_line(error, 200)})"
        raise FaceMeshError(f"{problem}; export it with opset {OPSET}") from None
    if opset < 11:
        # Upsample, and Resize before 11, count from the corner of a pixel; the converter leaves the new default, its
        # middle.
        for node in converted.graph.node:
            if node.op_type == "Resize":
                _set(node, "coordinate_transformation_mode", "asymmetric")
                _set(node, "nearest_mode", "floor")
    return converted


def _set(node: onnx.NodeProto, name: str, value: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def _means_the_same(node: onnx.NodeProto, newer: int, older: int) -> bool:
    """Return True if the operator did not change between two versions, or by nothing that this node makes use of."""
    if not onnx.defs.has(node.op_type, max_inclusive_version=older):
        return False
    new, old = (onnx.defs.get_schema(node.op_type, version) for version in (newer, older))
    if new.since_version == old.since_version:
        return True
    if old.since_version < RENAMED_VALUES.get(node.op_type, 0):
        return False
    given = {attribute.name for attribute in node.attribute}
    left_out = old.attributes.keys() - given
    return (
        given <= old.attributes.keys()
        and len(node.input) <= old.max_input
        and all(name in new.attributes and _default(new, name) == _default(old, name) for name in left_out)
    )


def _default(schema: onnx.defs.OpSchema, attribute: str) -> str:
    return str(schema.attributes[attribute].default_value)
