"""Faces of a film by DeepStream: python deepstream_probes.py FOLDER file:///film.mp4

FOLDER is what ``python -m export deepstream`` wrote. Two pad probes over libfacemesh: behind the primary nvinfer
YuNet's tensors become objects, behind the secondary one the tensors of the network become landmarks. It needs
DeepStream's Python bindings, and libfacemesh.so on the path of the loader.
"""

from __future__ import annotations

import configparser
import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def tell(kind: type[BaseException], error: BaseException, _trace: object) -> None:
    """Print an error as one line, also of the imports below; Python then ends with 1."""
    remedy = "; install PyGObject, GStreamer and DeepStream's Python bindings" if issubclass(kind, ImportError) else ""
    print(f"error: {' '.join(str(error).split()) or kind.__name__}{remedy}", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print("usage: python deepstream_probes.py FOLDER file:///film.mp4", file=sys.stderr)
        sys.exit(2)
    sys.excepthook = tell

import gi  # noqa: E402
import pyds  # noqa: E402

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

LANDMARKS, MOST_FACES, YUNET_TENSORS, YUNET_SIDE = 68, 32, 12, 640
WIDTH, HEIGHT = 1920, 1080  # px of nvstreammux: objects lie in its frames
PRIMARY_ID, SECONDARY_ID = 1, 2
Floats = ctypes.POINTER(ctypes.c_float)


class Detection(ctypes.Structure):
    """``struct facemesh_detection``."""

    _fields_ = [("box", ctypes.c_float * 4), ("score", ctypes.c_float), ("roll", ctypes.c_float)]


class Face(ctypes.Structure):
    """``struct facemesh_face``."""

    _fields_ = [
        ("landmarks", ctypes.c_float * 3 * LANDMARKS),
        ("box", ctypes.c_float * 4),
        *((name, ctypes.c_float) for name in ("yaw", "pitch", "roll", "score", "confidence")),
        ("track", ctypes.c_int),
        ("vertices", ctypes.c_void_p),
    ]


class ModelParams(ctypes.Structure):
    """``struct facemesh_model_params``."""

    _fields_ = [("threads", ctypes.c_int), ("max_batch", ctypes.c_int), ("spec", ctypes.c_char_p),
                ("topology", ctypes.c_char_p), ("landmarks_from", ctypes.c_void_p),
                ("reuse_landmarks", ctypes.c_int)]  # fmt: skip


class Parsers:
    """The parsers of one folder of configurations."""

    def __init__(self, folder: Path) -> None:
        """Open them. Raises `RuntimeError` with the library's message, `OSError` without the library or the folder."""
        self._library = ctypes.CDLL("libfacemesh.so")
        for name in ("model_default_params", "decoder_open", "yunet_parser_open", "error", "yunet_tensor"):
            types = {"model_default_params": ModelParams, "error": ctypes.c_char_p, "yunet_tensor": ctypes.c_char_p}
            getattr(self._library, f"facemesh_{name}").restype = types.get(name, ctypes.c_void_p)
        secondary = configparser.ConfigParser(delimiters="=", interpolation=None)
        secondary.read_string((folder / "secondary.txt").read_text())
        spec = folder / f"{secondary['property']['onnx-file']}.json"
        params = self._library.facemesh_model_default_params()
        self._model = ctypes.c_void_p(self._checked(self._library.facemesh_decoder_open(bytes(spec), params)))
        box_map = bytes(folder / "yunet_box_map.json")
        parser = self._library.facemesh_yunet_parser_open(box_map, ctypes.c_float(0.6))
        self._parser = ctypes.c_void_p(self._checked(parser))
        self._names = [self._library.facemesh_yunet_tensor(number).decode() for number in range(YUNET_TENSORS)]

    def detections(self, tensors: dict[str, int], width: int, height: int) -> list[Detection]:
        """Return the faces of a frame by the addresses of YuNet's tensors."""
        addresses = (Floats * YUNET_TENSORS)(*(ctypes.cast(tensors[name], Floats) for name in self._names))
        found = (Detection * MOST_FACES)()
        parse = self._library.facemesh_yunet_parse
        count = parse(self._parser, addresses, YUNET_SIDE, width, height, found, MOST_FACES)
        return found[: self._sound(count)]

    def rectangle(self, detection: Detection) -> list[float]:
        """Return left, top, width and height of the object that the secondary is to crop."""
        rectangle = (ctypes.c_float * 4)()
        self._sound(self._library.facemesh_object_rectangle(self._model, detection.box, rectangle))
        return list(rectangle)

    def face(self, output: int, rectangle: list[float], width: int, height: int) -> Face:
        """Return the face of an object by the address of the network's tensor."""
        matrix, face = (ctypes.c_double * 6)(), Face()
        sides = (ctypes.c_float * 4)(*rectangle)
        self._sound(self._library.facemesh_object_matrix(self._model, sides, width, height, matrix))
        self._sound(self._library.facemesh_decode(self._model, ctypes.c_void_p(output), matrix, ctypes.byref(face)))
        return face

    def _checked(self, handle: int | None) -> int:
        if handle is None:
            raise RuntimeError(self._library.facemesh_error().decode())
        return handle

    def _sound(self, status: int) -> int:
        if status < 0:
            raise RuntimeError(self._library.facemesh_error().decode())
        return status


def items(first: Any) -> Any:
    """Yield the data of DeepStream's linked lists."""
    while first is not None:
        yield first.data
        first = first.next


def tensors_of(user_metas: Any, gie: int) -> dict[str, int] | None:
    """Return name -> address of the tensors that one nvinfer attached, None if it did not."""
    for user_meta in map(pyds.NvDsUserMeta.cast, items(user_metas)):
        if user_meta.base_meta.meta_type == pyds.NvDsMetaType.NVDSINFER_TENSOR_OUTPUT_META:
            meta = pyds.NvDsInferTensorMeta.cast(user_meta.user_meta_data)
            if meta.unique_id == gie:
                layers = (pyds.get_nvds_LayerInfo(meta, number) for number in range(meta.num_output_layers))
                return {layer.layerName: pyds.get_ptr(layer.buffer) for layer in layers}
    return None


def frames_of(info: Any) -> Any:
    """Yield the batch and each of its frames."""
    batch = pyds.gst_buffer_get_nvds_batch_meta(hash(info.get_buffer()))
    for frame in map(pyds.NvDsFrameMeta.cast, items(batch.frame_meta_list)):
        yield batch, frame


def make_objects(info: Any, parsers: Parsers) -> None:
    """Turn YuNet's tensors into objects that the secondary nvinfer crops."""
    for batch, frame in frames_of(info):
        tensors = tensors_of(frame.frame_user_meta_list, PRIMARY_ID)
        if tensors is None:
            continue
        for face in parsers.detections(tensors, WIDTH, HEIGHT):
            thing = pyds.nvds_acquire_obj_meta_from_pool(batch)
            thing.unique_component_id, thing.confidence, thing.class_id = PRIMARY_ID, face.score, 0
            place = thing.rect_params
            place.left, place.top, place.width, place.height = parsers.rectangle(face)
            pyds.nvds_add_obj_meta_to_frame(frame, thing, None)


def read_faces(info: Any, parsers: Parsers) -> None:
    """Print the pose and the nose of every object that the network has read."""
    for _, frame in frames_of(info):
        for thing in map(pyds.NvDsObjectMeta.cast, items(frame.obj_meta_list)):
            tensors = tensors_of(thing.obj_user_meta_list, SECONDARY_ID)
            if tensors is None:
                continue
            place = thing.rect_params
            rectangle = [place.left, place.top, place.width, place.height]
            output = tensors.get("position_map") or next(iter(tensors.values()))
            face = parsers.face(output, rectangle, WIDTH, HEIGHT)
            x, y, _ = face.landmarks[30]
            print(f"frame {frame.frame_num}: nose {x:.1f},{y:.1f} yaw {face.yaw:.0f} pitch {face.pitch:.0f}")


def main(folder: Path, film: str) -> None:
    """Run the film through both networks. Raises `RuntimeError` for the first fault of a probe or of the pipeline."""
    Gst.init(None)
    pipeline = Gst.parse_launch(
        f"nvstreammux name=mux batch-size=1 width={WIDTH} height={HEIGHT}"
        f' ! nvinfer name=primary config-file-path="{folder}/primary.txt"'
        f' ! nvinfer name=secondary config-file-path="{folder}/secondary.txt" ! fakesink'
        f' uridecodebin uri="{film}" ! mux.sink_0'
    )
    parsers = Parsers(folder)
    loop, bus = GLib.MainLoop(), pipeline.get_bus()
    faults: list[str] = []

    def stop(fault: str) -> None:
        faults.append(fault)
        loop.quit()

    def probed(_pad: Any, info: Any, probe: Callable[[Any, Parsers], None]) -> Any:
        try:
            probe(info, parsers)
        except Exception as error:  # GStreamer would print it and go on
            stop(f"{probe.__name__}: {error!r}")
        return Gst.PadProbeReturn.OK

    for name, probe in (("primary", make_objects), ("secondary", read_faces)):
        pad = pipeline.get_by_name(name).get_static_pad("src")
        pad.add_probe(Gst.PadProbeType.BUFFER, probed, probe)
    bus.add_signal_watch()
    bus.connect("message::eos", lambda *_: loop.quit())
    bus.connect("message::error", lambda _, message: stop(message.parse_error()[0].message))
    pipeline.set_state(Gst.State.PLAYING)
    loop.run()
    pipeline.set_state(Gst.State.NULL)
    if faults:
        raise RuntimeError(faults[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
