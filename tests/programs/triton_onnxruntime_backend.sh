#!/usr/bin/env bash
# Build Triton's ONNX Runtime backend for the CPU, for tests/export/handover/test_triton_network.py.
#
#     tests/programs/triton_onnxruntime_backend.sh SOURCES INCLUDE LIBRARY FOLDER
#
# SOURCES: checkouts of triton-inference-server's core, common, backend and onnxruntime_backend, at the server's release;
# INCLUDE: onnxruntime_c_api.h (.ci/onnxruntime_headers) and rapidjson (Debian's rapidjson-dev: /usr/include);
# LIBRARY: libonnxruntime.so.* of the onnxruntime wheel; FOLDER: takes the backend.
set -euo pipefail
sources=$(cd "$1" && pwd) include=$2 library=$3
mkdir -p "$4"
folder=$(cd "$4" && pwd)
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
flags="-std=c++17 -O2 -fPIC -w -DTRITON_ENABLE_LOGGING -isystem $include"
for part in core common backend; do flags+=" -I$sources/$part/include"; done
printf '%s\n' "$sources"/backend/src/backend_*.cc "$sources"/onnxruntime_backend/src/*.cc \
    "$sources"/common/src/{async_work_queue,error,thread_pool}.cc |
    xargs -P "$(nproc)" -I{} sh -c "${CXX:-c++} $flags -c {} -o $work/\$(basename {}).o"
cp "$library" "$folder/libonnxruntime.so.1"
ln -s "$folder/libonnxruntime.so.1" "$work/libonnxruntime.so"
"${CXX:-c++}" -shared -o "$folder/libtriton_onnxruntime.so" "$work"/*.o -L"$work" -lonnxruntime -Wl,-rpath,'$ORIGIN' \
    -Wl,--version-script="$sources/onnxruntime_backend/src/libtriton_onnxruntime.ldscript"
