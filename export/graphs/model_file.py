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
from export.graphs.foreign import prepare, with_unique_names
from runtime.errors import FaceMeshError
from runtime.models.detector_spec import AnySpec
from runtime.models.spec import CONFIDENCE_SHAPE, ModelSpec, load_spec


def load_onnx(path: Path, like: ModelSpec | None = None) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return the model in ``path`` as it came, with its external data, and the same as `foreign.prepare` brings it in.

    ``like`` is the spec that says what the graph leaves open. Raises `FaceMeshError` for a file that is missing or
    damaged, for data outside its folder, and for what cannot be brought in.
    """
    _, came = read_onnx(path)
    with sound_model(path):
        read_external_data(came, path)
        named = with_unique_names(came)
        try:
            return named, prepare(came, like)
        except FaceMeshError as error:
            raise FaceMeshError(f"{path}: {error}") from None


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


def check_interface(model: onnx.ModelProto, spec: AnySpec, path: Path) -> None:
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
    if isinstance(spec, ModelSpec):
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
        problem = f"{output.name} has the shape {_shape_text(output)}, which is no output of --arch {like.name}"
        raise FaceMeshError(f"{path}: {problem}; {error}") from None
    spec = dataclasses.replace(like, input=given, output=wanted, confidence=others[0].name if others else None)
    if other := _other_sizes(spec, like):
        remedy = f"give another --arch, or describe the network in {ModelSpec.path_for(path).name}"
        raise FaceMeshError(f"{path}: no network of --arch {like.name} ({other}); {remedy}")
    return spec


def _refuse_contradiction(spec: ModelSpec, like: ModelSpec, path: Path) -> None:
    """Raise `FaceMeshError` if the spec beside ``path`` has another form than the network ``like``."""
    if spec.family != like.family:
        other = f"family {spec.family} instead of {like.family}"
    else:
        figures = {**_figures(spec, like), "crop scale": (spec.crop_scale, like.crop_scale)}
        for end, (held, wanted) in enumerate(zip(spec.input.value_range, like.input.value_range, strict=True)):
            figures[("black", "white")[end]] = (held, wanted)
        other = _differences(figures)
        if spec.input.colour_order != like.input.colour_order:
            other = f"{other}, colour order {spec.input.colour_order} instead of {like.input.colour_order}".lstrip(", ")
    if other:
        problem = f"the spec beside it is not that of --arch {like.name} ({other})"
        raise FaceMeshError(f"{path}: {problem}; leave --arch out, or give the right one")


def _other_sizes(spec: ModelSpec, like: ModelSpec) -> str:
    """Return in words where the sizes of a graph are not those of the network ``like``; empty: nowhere."""
    sizes = {name: pair for name, pair in _figures(spec, like).items() if all(isinstance(one, int) for one in pair)}
    return _differences(sizes)


def _figures(spec: ModelSpec, like: ModelSpec) -> dict[str, tuple[float, float]]:
    """Return the figures of input and output in both specs."""
    figures: dict[str, tuple[float, float]] = {"input size": (spec.input.size, like.input.size)}
    for field in dataclasses.fields(like.output):
        held, wanted = (getattr(one.output, field.name, math.nan) for one in (spec, like))
        if isinstance(wanted, (int, float)):
            figures[f"output {field.name}"] = (held, wanted)
    return figures


def _differences(figures: dict[str, tuple[float, float]]) -> str:
    other = {name: pair for name, pair in figures.items() if not math.isclose(*pair)}
    return ", ".join(f"{name} {held:g} instead of {wanted:g}" for name, (held, wanted) in other.items())


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
