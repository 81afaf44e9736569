"""Clients of a Triton server, for tests: one command, results as JSON on standard output.

Runs in the environment of `triton_server.triton_python`, with the package on PYTHONPATH.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import tritonclient.grpc
import tritonclient.http

LIBRARIES = {"grpc": tritonclient.grpc, "http": tritonclient.http}


class Faces:
    """A client that returns outputs by name, or the error's text."""

    def __init__(self, protocol: str, address: str) -> None:
        self.library = LIBRARIES[protocol]
        self.client = self.library.InferenceServerClient(address)

    def ask(self, outputs: tuple[str, ...] = ("faces", "landmarks"), **arrays: np.ndarray) -> dict:
        types = {"encoded": "BYTES", "pixels": "UINT8", "boxes": "FP32"}
        tensors = []
        for name, array in arrays.items():
            tensors.append(self.library.InferInput(name, list(array.shape), types[name]))
            tensors[-1].set_data_from_numpy(array)
        wanted = [self.library.InferRequestedOutput(name) for name in outputs]
        try:
            result = self.client.infer("facemesh", tensors, outputs=wanted)
        except Exception as error:
            return {"error": str(error)}
        response = result.get_response(as_json=True) if self.library is LIBRARIES["grpc"] else result.get_response()
        return {name: result.as_numpy(name).tolist() for name in outputs} | {"version": response["model_version"]}


def encoded(*contents: bytes) -> np.ndarray:
    return np.array([[content] for content in contents], object)


def forms(protocol: str, address: str, photo: str, boxes: str) -> dict:
    """Ask for the faces of one photo in every form of a request, and with every kind of fault."""
    content = Path(photo).read_bytes()
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    pixels, box = image[None], np.array(json.loads(boxes), np.float32)
    small = cv2.resize(image, None, fx=0.5, fy=0.75)[None]
    nothing = np.full_like(image, 127)[None]
    faces = Faces(protocol, address)
    every = ("faces", "landmarks", "face_boxes", "pose", "score", "confidence")
    padded = np.concatenate([box, np.full_like(box, np.nan)])
    return {
        "encoded": faces.ask(every, encoded=encoded(content)),
        "pixels": faces.ask(every, pixels=pixels),
        "boxes": faces.ask(every, pixels=pixels, boxes=box[None]),
        "padded": faces.ask(every, encoded=encoded(content, content), boxes=np.stack([padded, np.roll(padded, 1, 0)])),
        "ragged": faces.ask(encoded=encoded(content, cv2.imencode(".png", nothing[0])[1].tobytes(), content)),
        "small": faces.ask(pixels=small),
        "nothing": faces.ask(pixels=nothing),
        "vertices": faces.ask(("vertices",), encoded=encoded(content)),
        "empty": faces.ask(encoded=encoded(b"")),
        "no photo": faces.ask(encoded=encoded(b"no photo")),
        "huge": faces.ask(encoded=encoded(b"GIF89a" + 2 * b"\xff\x7f" + bytes(99))),
        "cut": faces.ask(encoded=encoded(content[:5000])),
        "second bad": faces.ask(encoded=encoded(content, b"?")),
        "both": faces.ask(encoded=encoded(content), pixels=pixels),
        "boxes alone": faces.ask(boxes=box[None]),
        "other boxes": faces.ask(encoded=encoded(content), boxes=np.stack([box, box])),
        "reversed box": faces.ask(encoded=encoded(content), boxes=box[None][..., ::-1].copy()),
        "five columns": faces.ask(encoded=encoded(content), boxes=np.zeros((1, 1, 5), np.float32)),
        "grey": faces.ask(pixels=pixels[..., :1].copy()),
    }


def crowd(protocol: str, address: str, photo: str, clients: str, requests: str) -> dict:
    """Let many clients ask at once, every fourth with a broken picture; count the distinct answers of each kind."""
    content = Path(photo).read_bytes()
    answers: dict[bool, list[str]] = {False: [], True: []}
    start = threading.Barrier(int(clients))

    def send(number: int) -> None:
        faces, broken = Faces(protocol, address), number % 4 == 3
        start.wait()
        for _ in range(int(requests)):
            answer = faces.ask(encoded=encoded(content[:3000] if broken else content))
            answers[broken].append(json.dumps(answer))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(int(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kinds = {"good": answers[False], "broken": answers[True]}
    return {
        kind: {"count": len(texts), "distinct": sorted(map(json.loads, set(texts)), key=str)}
        for kind, texts in kinds.items()
    }


def keep_asking(protocol: str, address: str, photo: str, at_once: str, stop: str) -> dict:
    """Send requests of ``at_once`` pictures until the file ``stop`` is there; count versions and errors."""
    content = Path(photo).read_bytes()
    faces, versions, errors = Faces(protocol, address), [], []
    for number in itertools.count():
        if Path(stop).exists():
            break
        answer = faces.ask(encoded=encoded(*[content] * int(at_once)))
        if "error" in answer:
            errors.append(answer["error"])
        else:
            versions.append(answer["version"])
        if number == 0:
            print("asking", flush=True)
        time.sleep(0.001)
    return {"versions": [(version, len([*run])) for version, run in itertools.groupby(versions)], "errors": errors}


def network(protocol: str, address: str, crops: str) -> dict:
    """Ask the plain network for its outputs of the crops in a .npy file."""
    array, library = np.load(crops), LIBRARIES[protocol]
    tensor = library.InferInput("image", list(array.shape), {"float32": "FP32", "float64": "FP64"}[array.dtype.name])
    tensor.set_data_from_numpy(array)
    try:
        answer = library.InferenceServerClient(address).infer("facemesh_network", [tensor])
    except Exception as error:
        return {"error": str(error)}
    is_grpc = library is tritonclient.grpc
    response = answer.get_response(as_json=True) if is_grpc else answer.get_response()
    outputs = {each["name"]: answer.as_numpy(each["name"]).tolist() for each in response["outputs"]}
    return {"version": response["model_version"], "outputs": outputs}


def config(path: str) -> dict:
    """Parse a config.pbtxt by Triton's own protobuf: unknown keys and wrong types raise."""
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    message = text_format.Parse(Path(path).read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


if __name__ == "__main__":
    commands = {"forms": forms, "crowd": crowd, "keep_asking": keep_asking, "network": network, "config": config}
    print(json.dumps(commands[sys.argv[1]](*sys.argv[2:])))
