#!/usr/bin/env bash
# Install PyCUDA for the tests of its binding: build_pycuda.sh PYTHON. Nothing is optimised and cuRAND is left out, so that
# this takes two minutes of one core. Needs nvcc on PATH for CUDA's headers; no driver: tests load a stand-in.
set -euo pipefail
python=$1
command -v nvcc >/dev/null || { echo "PyCUDA is not built, and its tests are skipped: nvcc is not on PATH" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
headers=$(echo '#include <cuda.h>' | nvcc -M -x cu - | grep -oE '[^ ]+/cuda\.h' | xargs dirname)
"$python" -m pip download --quiet --no-deps --no-binary pycuda --dest "$work" pycuda==2026.1
tar -xzf "$work"/pycuda-*.tar.gz -C "$work" --strip-components 1
# What the linker takes for the driver's library.
mkdir "$work/driver"
echo | c++ -shared -x c++ - -Wl,-soname,libcuda.so.1 -o "$work/driver/libcuda.so"
cat >"$work/siteconf.py" <<END
CUDA_ENABLE_CURAND = False
CUDA_INC_DIR = ["$headers"]
CUDADRV_LIB_DIR = ["$work/driver"]
CXXFLAGS = ["-O0", "-g0", "-w"]
END
"$python" -m pip install --quiet "$work"
