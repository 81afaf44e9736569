"""Makes ``runtime/assets/kernels.ptx`` out of the kernels' sources: ``python -m tests.programs.kernel_ptx``.

Builds without a CUDA compiler have no other kernels. The file is PTX for compute capability 7.5, in the oldest version
of the language that knows it: drivers since CUDA 10 read that, and compile it for their device. It tells its sources'
hash, so that a test finds it out of date. Needs nvcc.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from runtime.models.shipped import KERNELS_PTX

NATIVE = Path(__file__).resolve().parents[2] / "runtime" / "native"
SOURCES = NATIVE / "gpu"
ARCHITECTURE = "75"
LANGUAGE = "6.3"  # the first that knows sm_75; ptxas refuses what is newer


def sources_sha256() -> str:
    """Return the hash of all sources of the kernels, without what only the host compiles."""
    digest = hashlib.sha256()
    for path in sorted([*SOURCES.glob("*_body.h"), *(SOURCES / name for name in ("kernel_bodies.h", "half.h"))]):
        digest.update(path.read_bytes())
    digest.update((SOURCES / "kernels.cu").read_bytes())
    return digest.hexdigest()


def find_nvcc() -> str | None:
    return shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def compiled() -> str:
    """Return the PTX of the sources, in LANGUAGE; raises `subprocess.CalledProcessError` where ptxas refuses it."""
    nvcc = find_nvcc()
    assert nvcc, "needs nvcc"
    with tempfile.TemporaryDirectory() as folder:
        ptx = Path(folder) / "kernels.ptx"
        options = ["-std=c++17", f"-I{NATIVE}", f"-arch=compute_{ARCHITECTURE}"]
        subprocess.run([nvcc, *options, "-ptx", "-o", ptx, SOURCES / "kernels.cu"], check=True)
        text = re.sub(r"^\.version .*$", f".version {LANGUAGE}", ptx.read_text(), count=1, flags=re.MULTILINE)
        ptx.write_text(text)
        cubin = Path(folder) / "kernels.cubin"
        subprocess.run([nvcc, f"-arch=sm_{ARCHITECTURE}", "-cubin", "-o", cubin, ptx], check=True)
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("//")) + "\n"


def main() -> None:
    KERNELS_PTX.write_text(f"// sources {sources_sha256()}\n{compiled()}")
    print(f"{KERNELS_PTX}: {KERNELS_PTX.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
