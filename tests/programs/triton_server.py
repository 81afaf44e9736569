"""The Triton server of the wheel nvidia-pytriton, for tests: on free ports of 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from runtime.compiled import native

ROOT = Path(__file__).resolve().parents[2]


def triton_python() -> Path | None:
    """Return the Python of the environment that has the server and its clients, None where there is none.

    ``make test-slow`` makes it; FACEMESH_TRITON_PYTHON names another one.
    """
    python = Path(os.environ.get("FACEMESH_TRITON_PYTHON", Path(sys.prefix, "triton", "bin", "python")))
    return python if python.is_file() else None


class TritonServer:
    """A running server with a model repository; models are loaded when they are asked for."""

    def __init__(self, python: Path, repository: Path, folder: Path, *arguments: str) -> None:
        """Start the server and wait until it is ready; ``folder`` takes its log and its backend."""
        self.log = folder / "server.log"
        packages = next(python.parents[1].glob("lib/python3.*/site-packages"))
        server = packages / "pytriton" / "tritonserver"
        backend = shutil.copytree(server / "backends" / "python", folder / "backends" / "python")
        stub = server / "python_backend_stubs" / packages.parent.name.removeprefix("python")
        shutil.copy(stub / "triton_python_backend_stub", backend)
        for program in (backend / "triton_python_backend_stub", server / "bin" / "tritonserver"):
            program.chmod(0o755)
        self.http, self.grpc, self.metrics = (f"127.0.0.1:{port}" for port in _free_ports(3))
        command: list[str | Path] = [
            *(server / "bin" / "tritonserver", "--model-repository", repository),
            *("--backend-directory", backend.parent, "--model-control-mode", "explicit", "--exit-timeout-secs", "5"),
        ]
        for name in ("http", "grpc", "metrics"):
            command += [f"--{name}-address", "127.0.0.1", f"--{name}-port", getattr(self, name).split(":")[1]]
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(_package(folder / "package")),
        }
        with self.log.open("wb") as log:
            streams = {"stdout": log, "stderr": log}
            self.process = subprocess.Popen([*command, *arguments], cwd=folder, env=environment, **streams)

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Wait; raises `AssertionError` with the log if the server ends or takes longer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"http://{self.http}/v2/health/ready", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError(self.log.read_text(errors="replace"))

    def repository(self, verb: str, model: str) -> str:
        """Load or unload a model; returns "" or the server's reason."""
        request = urllib.request.Request(f"http://{self.http}/v2/repository/models/{model}/{verb}", b"{}")
        try:
            urllib.request.urlopen(request, timeout=120).close()
        except urllib.error.HTTPError as error:
            return error.read().decode()
        return ""

    def metric(self, name: str) -> float:
        """Return the sum of a metric over all versions of the model ``facemesh``."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f'{name}{{model="facemesh"'))

    def close(self) -> None:
        """End the server."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _package(folder: Path) -> Path:
    """Make a folder with the package and its compiled module, for a Python in which it is not installed."""
    (folder / "runtime").mkdir(parents=True)
    compiled = Path(native.__file__)
    for path in {*(ROOT / "runtime").iterdir(), compiled}:
        if path.name != "__pycache__" and (path == compiled or path.suffix != compiled.suffix):
            (folder / "runtime" / path.name).symlink_to(path)
    return folder


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
