"""Commands that calls are made to fail in: what goes in, what is called, what must come out."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from runtime.models.shipped import SHIPPED

ASSETS = SHIPPED["fp32"].parent


@dataclass(frozen=True)
class Scenario:
    """A command over the folder ``given``, into the folder ``made``."""

    prepare: Callable[[Path], None]
    run: Callable[[Path, Path], int]


def _faces() -> list[np.ndarray]:
    """Return five pictures (160, 160, 3) uint8 BGR of one face."""
    photo = cv2.imread(str(ASSETS / "astronaut.jpg"))[0:320, 64:384]
    face = cv2.resize(photo, (160, 160), interpolation=cv2.INTER_AREA)
    return [face, face[:, ::-1].copy(), face // 2, np.roll(face, 12, axis=1), cv2.GaussianBlur(face, (0, 0), 1)]


def _write_pictures(given: Path) -> None:
    for number, picture in enumerate(_faces()):
        cv2.imwrite(str(given / f"{number}.{'jpg' if number % 2 else 'png'}"), picture)


def _run_pictures(given: Path, made: Path) -> int:
    from runtime.run import main

    saved = ["--save", "overlay,json,npz,csv"]
    return main(["--source", str(given), "--output", str(made), *saved, "--threads", "1", "--precision", "fp32"])


def _write_film(given: Path) -> None:
    from tests.standins.films import write_film

    face = _faces()[0]
    write_film(given / "film.mp4", [np.roll(face, 2 * number, axis=1) for number in range(10)])


def _run_film(given: Path, made: Path) -> int:
    from runtime.run import main

    saved = ["--save", "overlay,json,faces", "--max-faces", "1"]
    return main(["--source", str(given / "film.mp4"), "--output", str(made), *saved, "--threads", "1"])


def _write_model(given: Path) -> None:
    from tests.export.small_models import write_small_model

    write_small_model(given / "small.onnx")


def _export(given: Path, made: Path) -> int:
    from export.__main__ import main

    return main(["onnx", "--weights", str(given / "small.onnx"), "-o", str(made / "model.onnx")])


def _write_network(given: Path) -> None:
    import onnx

    from runtime.models.spec import ModelSpec
    from runtime.storage.whole_files import file_sha256
    from tests.calibration.small import SPEC, small_network, write_face_set

    path = given / "small.onnx"
    onnx.save(small_network(), path)
    dataclasses.replace(SPEC, onnx_sha256=file_sha256(path)).save(ModelSpec.path_for(path))
    write_face_set(given, 8)


def _calibrate(given: Path, made: Path) -> int:
    from calibration.__main__ import main

    model, crops = str(given / "small.onnx"), str(given / "faces")
    options = ["--samples", "4", "--target", "cpu", "--max-nme-increase", "1", "--table", str(made / "table.json")]
    return main([model, "--crops", crops, *options, "-o", str(made / "int8.onnx")])


def _write_engine(given: Path) -> None:
    from tests.standins.fake_engine import write_engine

    _write_pictures(given)
    folder = given.with_name("engine")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_engine(folder / "edge.engine", SHIPPED["fp32"])


def _run_engine(given: Path, made: Path) -> int:
    from runtime.run import main

    engine = given.with_name("engine") / "edge.engine"
    return main(["--source", str(given), "--engine", str(engine), "--output", str(made), "--save", "overlay,json,npz"])


SCENARIOS = {
    "pictures": Scenario(_write_pictures, _run_pictures),
    "film": Scenario(_write_film, _run_film),
    "export": Scenario(_write_model, _export),
    "calibration": Scenario(_write_network, _calibrate),
    "engine": Scenario(_write_engine, _run_engine),
}
