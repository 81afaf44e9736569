"""Configurations of DeepStream's nvinfer for a model: YuNet finds faces, the network reads their crops.

    FOLDER/primary.txt      YuNet on whole frames; its tensors go to a pad probe, which makes objects of them
    FOLDER/secondary.txt    the network on the objects' rectangles; its tensors go to another pad probe
    FOLDER/*.onnx, *.json   what both need, and the parsers of libfacemesh beside them

Both networks have network-type=100 and output-tensor-meta=1: nvinfer runs them and parses nothing.
Keys: Gst-nvinfer, DeepStream's plugin manual.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.detection.box_map import BOX_MAP
from runtime.errors import FaceMeshError
from runtime.models.shipped import ASSETS, YUNET, is_asset
from runtime.models.spec import ModelSpec, load_spec
from runtime.storage.whole_files import write_error

PRIMARY, SECONDARY = "primary.txt", "secondary.txt"
PRIMARY_ID, SECONDARY_ID = 1, 2
NETWORK_MODES = {"fp32": 0, "int8": 1, "fp16": 2}  # of nvinfer
YUNET_SIDE = 640  # px, fixed in the file of OpenCV's model zoo
COLOUR_FORMATS = {"RGB": 0, "BGR": 1}
INPUT_ORDERS = {"NCHW": 0, "NHWC": 1}
LEAST_OBJECT_PX = 16  # smaller faces have nothing to read
# nvinfer builds an INT8 network only where a file of scales is named, and falls back to FP16 elsewhere. TensorRT takes
# the scales of Q/DQ from the ONNX file and reads no other.
SCALES, SCALES_TEXT = "no_scales.calib", "# The scales are in the ONNX file.\n"


@dataclass(frozen=True)
class PipelineOptions:
    """Options of the configurations."""

    batch: int = 8  # faces in one run of the network
    interval: int = 0  # frames that YuNet leaves out after each one that it sees


def write_configurations(model: Path, output: Path, options: PipelineOptions) -> tuple[Path, ...]:
    """Write the folder ``output`` for an .onnx file; its files appear whole or not at all. Returns what was written.

    Raises `FaceMeshError` for a model that the parsers do not take, and for a place that cannot be written.
    """
    if model.suffix.lower() != ".onnx":
        raise FaceMeshError(
            f"{model}: no .onnx file; give the one that the engine is built from, nvinfer builds its own"
        )
    spec = load_spec(model)
    _check_spec(model, spec)
    if not output.absolute().parent.is_dir():
        raise FaceMeshError(f"{output.parent}: no such folder; make it first or choose another place with -o")
    if output.exists() and not output.is_dir():
        raise FaceMeshError(f"{output}: is no folder; give one for the configurations with -o")
    texts = {
        PRIMARY: _text("YuNet on whole frames", _primary(options)),
        SECONDARY: _text(f"{spec.name} on faces", _secondary(model.name, spec, options)),
        **({SCALES: SCALES_TEXT} if spec.precision == "int8" else {}),
    }
    topology = ASSETS / spec.topology if is_asset(spec.topology) else Path(spec.topology)
    copies = [model, ModelSpec.path_for(model), topology, YUNET, BOX_MAP]
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.absolute().parent) as temporary:
            for name, text in texts.items():
                Path(temporary, name).write_text(text, encoding="utf-8")
            for path in copies:
                shutil.copy(path, temporary)
            output.mkdir(exist_ok=True)
            names = sorted(os.listdir(temporary))
            for name in names:
                os.replace(Path(temporary, name), output / name)
    except OSError as error:
        raise write_error(output, error) from error
    return tuple(output / name for name in names)


def _check_spec(model: Path, spec: ModelSpec) -> None:
    if spec.family != "position_map":
        problem = f"a model of the family {spec.family}, whose output the parsers of libfacemesh do not decode"
        raise FaceMeshError(f"{model}: {problem}; give a position-map model")
    if spec.input.landmark_channel:
        problem = "takes landmarks beside the picture, which nvinfer does not give"
        raise FaceMeshError(f"{model}: {problem}; give a network of the picture alone")


def _primary(options: PipelineOptions) -> dict[str, object]:
    return {
        "gie-unique-id": PRIMARY_ID,
        "process-mode": 1,
        "onnx-file": YUNET.name,
        "model-engine-file": f"{YUNET.name}_b1_gpu0_fp16.engine",
        "batch-size": 1,  # the file has no other
        "interval": options.interval,
        "network-mode": NETWORK_MODES["fp16"],
        "infer-dims": f"3;{YUNET_SIDE};{YUNET_SIDE}",
        "network-input-order": INPUT_ORDERS["NCHW"],
        "net-scale-factor": 1,
        "model-color-format": COLOUR_FORMATS["BGR"],
        "maintain-aspect-ratio": 1,
        "symmetric-padding": 0,
        **_tensors_alone(),
    }


def _secondary(name: str, spec: ModelSpec, options: PipelineOptions) -> dict[str, object]:
    low, high = spec.input.value_range
    scale = (high - low) / 255
    side, offset = spec.input.size, -low / scale
    dims = (3, side, side) if spec.input.layout == "NCHW" else (side, side, 3)
    return {
        "gie-unique-id": SECONDARY_ID,
        "process-mode": 2,
        "operate-on-gie-id": PRIMARY_ID,
        "onnx-file": name,
        "model-engine-file": f"{name}_b{options.batch}_gpu0_{spec.precision}.engine",
        "batch-size": options.batch,
        "network-mode": NETWORK_MODES[spec.precision],
        **({"int8-calib-file": SCALES} if spec.precision == "int8" else {}),
        "infer-dims": ";".join(map(str, dims)),
        "network-input-order": INPUT_ORDERS[spec.input.layout],
        "net-scale-factor": f"{scale:.9g}",
        "offsets": ";".join([f"{offset:.9g}"] * 3),
        "model-color-format": COLOUR_FORMATS[spec.input.colour_order],
        "output-blob-names": ";".join(spec.outputs),
        "maintain-aspect-ratio": 1,
        "symmetric-padding": 0,
        "input-object-min-width": LEAST_OBJECT_PX,
        "input-object-min-height": LEAST_OBJECT_PX,
        "secondary-reinfer-interval": 0,
        **_tensors_alone(),
    }


def _tensors_alone() -> dict[str, object]:
    return {"network-type": 100, "output-tensor-meta": 1, "gpu-id": 0}


def _text(title: str, keys: Mapping[str, object]) -> str:
    lines = [f"# {title}; written by python -m export deepstream", "[property]"]
    return "\n".join(lines + [f"{key}={value}" for key, value in keys.items()]) + "\n"
