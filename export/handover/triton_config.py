"""Texts of ``config.pbtxt``: Triton's configuration of a model, a ModelConfig in protobuf's text format.

https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from runtime.models.spec import ModelSpec
from runtime.serving.triton_tensors import ENCODED, INPUTS, Tensor, outputs

LARGEST_QUEUE = 512  # requests that wait; more are refused at once instead of filling the memory
WARM_UP_FILE = "portrait"


class Word(str):
    """A value without quotes: the name of an enumeration's member."""


Fields = Sequence[tuple[str, object]]


class Network(NamedTuple):
    """The plain network as Triton runs it."""

    spec: ModelSpec
    backend: str  # "onnxruntime" or "tensorrt"
    batch: int  # the largest; fixed: the only one
    fixed: bool
    files: Mapping[str, str]  # compute capability -> file name, of engines; empty for an ONNX file
    default_file: str | None  # None: no engine runs on devices that none names


def network_config(name: str, network: Network) -> str:
    """Return the configuration of the plain network: crops in, the network's own outputs out."""
    spec = network.spec
    lead = (network.batch,) if network.fixed else ()
    fields: list[tuple[str, object]] = [
        ("name", name),
        *([("platform", "tensorrt_plan")] if network.backend == "tensorrt" else [("backend", network.backend)]),
        ("max_batch_size", 0 if network.fixed else network.batch),
        *([("default_model_filename", network.default_file)] if network.default_file else []),
        *(("cc_model_filenames", _pair(*entry)) for entry in sorted(network.files.items())),
        ("input", _tensor(Tensor(spec.input.name, "TYPE_FP32", lead + spec.input.shape))),
        *(("output", _tensor(Tensor(key, "TYPE_FP32", lead + shape))) for key, shape in spec.outputs.items()),
    ]
    if not network.fixed and network.batch > 1:
        fields.append(("dynamic_batching", _queue()))
    return config_text(fields)


def service_config(name: str, vertex_count: int, *, on_gpu: bool, instances: int, workers: int, batch: int) -> str:
    """Return the configuration of the Python model: pictures in, faces out."""
    warm_up = [("data_type", Word(ENCODED.data_type)), ("dims", 1), ("input_data_file", WARM_UP_FILE)]
    kind = Word("KIND_GPU" if on_gpu else "KIND_CPU")
    fields: list[tuple[str, object]] = [
        ("name", name),
        ("backend", "python"),
        ("max_batch_size", batch),
        *(("input", [*_tensor(tensor), ("optional", True), ("allow_ragged_batch", True)]) for tensor in INPUTS),
        *(("output", _tensor(tensor)) for tensor in outputs(vertex_count)),
        ("dynamic_batching", _queue()),
        ("instance_group", [("kind", kind), ("count", instances)]),  # so many on every GPU
        ("parameters", _pair("workers", [("string_value", str(workers))])),
        ("model_warmup", [("name", "face"), ("batch_size", 1), ("inputs", _pair(ENCODED.name, warm_up)), ("count", 2)]),
    ]
    return config_text(fields)


def interface_of(config: str) -> list[str]:
    """Return the inputs and outputs in the text of a configuration, each on one line."""
    blocks, lines = [], iter(config.splitlines())
    for line in lines:
        if line.split("{")[0].strip() in ("input", "output"):
            block = [line.strip()]
            while block[-1] != "}":
                block.append(next(lines, "}").strip())
            blocks.append(" ".join(block))
    return blocks


def config_text(fields: Fields, indent: str = "") -> str:
    """Return a message in protobuf's text format, one field a line."""
    lines = []
    for name, value in fields:
        if isinstance(value, list):
            lines += [f"{indent}{name} {{\n{config_text(value, indent + '  ')}{indent}}}\n"]
        else:
            lines += [f"{indent}{name}: {_scalar(value)}\n"]
    return "".join(lines)


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, Word)):
        return str(value)
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def _tensor(tensor: Tensor) -> Fields:
    dims = [("dims", side) for side in tensor.shape]
    return [("name", tensor.name), ("data_type", Word(tensor.data_type)), *dims]


def _pair(key: str, value: object) -> Fields:
    return [("key", key), ("value", value)]


def _queue() -> Fields:
    return [("default_queue_policy", [("max_queue_size", LARGEST_QUEUE)])]
