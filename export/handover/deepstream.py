"""Configurations of DeepStream's nvinfer for a model: YuNet finds faces, the network reads their crops.

    FOLDER/primary.txt      YuNet on whole frames; its tensors go to a pad probe, which makes objects of them
    FOLDER/secondary.txt    the network on the objects' rectangles; its tensors go to another pad probe
    FOLDER/*.onnx, *.json   what both need, and the parsers of libfacemesh beside them

Both networks have network-type=100 and output-tensor-meta=1: nvinfer runs them and parses nothing.
Keys: Gst-nvinfer, DeepStream's plugin manual.
"""

from __future__ import annotations

import contextlib
import filecmp
import glob
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.detection.box_map import BOX_MAP
from runtime.errors import FaceMeshError
from runtime.families.table import open_family
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import ASSETS, YUNET, is_asset
from runtime.models.spec import ModelSpec, load_spec
from runtime.storage.bounded_files import open_bounded
from runtime.storage.whole_files import whole_files, write_error

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


@dataclass(frozen=True)
class Written:
    """Result of `write_configurations`."""

    files: tuple[Path, ...]
    batch: int  # faces in one run: those of the options, or as many as the network takes


def write_configurations(model: Path, output: Path, options: PipelineOptions) -> Written:
    """Write the folder ``output`` for an .onnx file; its files appear whole or not at all.

    Raises `FaceMeshError` for a model that nvinfer or the parsers do not take, for a place that cannot be written, and
    for one that holds another model, or engines of another network.
    """
    if model.suffix.lower() != ".onnx":
        raise FaceMeshError(
            f"{model}: no .onnx file; give the one that the engine is built from, nvinfer builds its own"
        )
    if not model.is_file():
        raise FaceMeshError(f"{model}: no model file there; check the path")
    spec = load_spec(model)
    _check_spec(model, spec)
    options = replace(options, batch=_usable_batch(model, options.batch))
    texts = {
        **({SCALES: SCALES_TEXT} if spec.precision == "int8" else {}),
        PRIMARY: _text("YuNet on whole frames", _primary(options)),
        SECONDARY: _text(f"{spec.name} on faces", _secondary(model.name, spec, options)),
    }
    sources = (model, ModelSpec.path_for(model), _topology_file(model, spec), YUNET, BOX_MAP)
    copies = {path.name: path for path in sources}
    if len(copies) < len(sources) or copies.keys() & texts.keys():
        raise FaceMeshError(f"{model}: has the name of another file in that folder; rename the model or its topology")
    place = Path(os.path.realpath(output))
    _check_place(output, place, copies)
    for name in (*copies, *texts):
        if (place / name).is_dir():
            raise FaceMeshError(f"{output / name}: a folder has this name; move it away, or choose another -o")
    try:
        _write(place, copies, texts)
    except OSError as error:
        raise write_error(output, error) from error
    return Written(tuple(output / name for name in sorted({*copies, *texts})), options.batch)


def _check_spec(model: Path, spec: ModelSpec) -> None:
    if spec.family != "position_map":
        problem = f"a model of the family {spec.family}, whose output the parsers of libfacemesh do not decode"
        raise FaceMeshError(f"{model}: {problem}; give a position-map model")
    if spec.input.landmark_channel:
        problem = "takes landmarks beside the picture, which nvinfer does not give"
        raise FaceMeshError(f"{model}: {problem}; give a network of the picture alone")
    if spec.untrained:
        problem = "is untrained: its weights are random, for timing, and its meshes mean nothing"
        raise FaceMeshError(f"{model}: {problem}; give a trained model")


def _topology_file(model: Path, spec: ModelSpec) -> Path:
    """Return the file of the topology. Raises `FaceMeshError` for one that libfacemesh does not read."""
    path = ASSETS / spec.topology if is_asset(spec.topology) else Path(spec.topology)
    if path.is_dir():
        remedy = f"name an .npz in {ModelSpec.path_for(model).name}, training.uv.uv_layout.save_topology writes one"
        raise FaceMeshError(f"{path}: a uv-data folder, and libfacemesh reads .npz alone; {remedy}")
    open_family(spec)
    return path


def _usable_batch(model: Path, batch: int) -> int:
    """Return the batch that the network runs with; raises `FaceMeshError` for one that no engine can be built from."""
    from export.engines.engine_source import open_source

    open_source(model)
    with open_runner(model, batch) as runner:
        return runner.max_batch


def _check_place(output: Path, place: Path, copies: Mapping[str, Path]) -> None:
    if not place.parent.is_dir():
        raise FaceMeshError(f"{output.parent}: no such folder; make it first or choose another place with -o")
    if place.exists() and not place.is_dir():
        raise FaceMeshError(f"{output}: is no folder; give one for the configurations with -o")
    older = [path.name for path in place.glob("*.onnx.json") if path.name not in copies]
    for name in filter(_is_network, copies):
        engines = [path.name for path in place.glob(f"{glob.escape(name)}_b*.engine")]
        if engines and not ((place / name).is_file() and filecmp.cmp(place / name, copies[name], shallow=False)):
            older += engines
    if older:
        problem = f"holds what belongs to another network ({', '.join(sorted(older))})"
        raise FaceMeshError(f"{output}: {problem}; remove that, or choose another folder with -o")


def _is_network(name: str) -> bool:
    return name.lower().endswith(".onnx")


def _write(place: Path, copies: Mapping[str, Path], texts: Mapping[str, str]) -> None:
    """Write all files or none: the configurations last, so that what they name is there."""
    is_new = not place.exists()
    place.mkdir(exist_ok=True)
    try:
        with whole_files(*(place / name for name in (*copies, *texts))) as files:
            for path, file in zip(copies.values(), files, strict=False):
                with open_bounded(path, None) as source:
                    shutil.copyfileobj(source, file)
            for text, file in zip(texts.values(), files[len(copies) :], strict=True):
                file.write(text.encode())
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):
                place.rmdir()
        raise


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
