"""The extras of this distribution by the libraries that they install, and the words for a library that is missing."""

from __future__ import annotations

import platform

# Optional library -> the extra of this distribution that installs it.
EXTRA_OF = {
    "onnxruntime": "cpu",
    "tqdm": "cpu",
    "av": "video",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxscript": "train",
    "onnxsim": "export",
    "torch": "train",
    "jinja2": "bench",
    "matplotlib": "bench",
    "pygltflib": "glb",
    "pynvml": "bench",
    "pytest": "bench",
    "scipy": "bench",
    "safetensors": "train",
    "skimage": "peers",
    "threadpoolctl": "peers",
    "tensorrt": "trt",
    "tensorrt_lean": "trt",
    "pyarrow": "batch",
    "pycuda": "pycuda",
    "ray": "batch",
    "cuda": "cuda-python",
    "tensorrt_rtx": "rtx",
    "tritonclient": "triton",
}

# For a library that is installed but does not load.
REPAIR = "install it again, or its missing part"


def remedy(library: str) -> str:
    """Return the remedy for a missing library of EXTRA_OF: the command that installs it here, or its substitute."""
    extra = EXTRA_OF[library]
    if extra == "trt" and is_jetson():
        return "JetPack brings it: 'sudo apt install nvidia-jetpack', and python3 -m venv --system-site-packages"
    if extra == "rtx" and is_jetson():
        return "there is none for Jetsons; take TensorRT"
    older = " ('[trt-cu12]' for drivers before 580)" if extra == "trt" else ""
    return f"pip install 'facemesh-edge[{extra}]'{older}"


def is_jetson() -> bool:
    """Return True on NVIDIA's kernels for Jetsons, in containers, too."""
    return "tegra" in platform.release()
