#!/usr/bin/env bash
# Install each extra of pyproject.toml in a fresh environment and run what it is for. A command works, or ends with one
# line "error: ..." on what this machine lacks, which is shown; anything else, a traceback above all, fails the run.
#
#     tests/programs/extras.sh FOLDER [EXTRA ...]    # of the committed tree; without EXTRA all, one after the other
#
# All take a quarter of an hour on two cores, and 3 GB at a time in FOLDER. PYTHON makes the environments. TORCH is
# installed with what wants PyTorch, as by make. DATA, if there, are labelled faces to train on (docs/data.md). WHEEL
# is tried in place of one that is built here. A command may take LIMIT seconds.
set -uo pipefail
tree=$(cd "$(dirname "$0")/../.." && pwd)
data=$(realpath -m "${DATA:-$tree/../shared/data/train}")
mkdir -p "$1"
work=$(cd "$1" && pwd)
shift
bin=$work/env/bin
failures=0

report() { printf '%-12s %-8s %-60s %s\n' "$extra" "$1" "$2" "${3:-}"; }

# try works|lacks COMMAND...: run it in an empty folder; "lacks" takes a refusal in one line, too.
try() {
    local wanted=$1 code said shown
    shift
    shown=${*//$work\/}
    shown=${shown//env\/bin\/}
    (cd "$work/run" && timeout "${LIMIT:-1200}" "$@") >"$work/said" 2>&1 </dev/null
    code=$?
    said=$(grep '^error: ' "$work/said")
    if [ "$code" = 0 ]; then
        report works "$shown"
    elif [ "$wanted" = lacks ] && [ "$code" = 1 ] && [ "$(wc -l <<<"$said")" = 1 ] && [ "$said" ] &&
        ! grep -q '^Traceback' "$work/said"; then
        report lacks "$shown" "$said"
    else
        report FAILED "$shown" "exit code $code"
        tail -n 5 "$work/said"
        failures=$((failures + 1))
    fi
}

install() { "$bin/pip" install --quiet "$@" >"$work/said" 2>&1; }

# What TensorRT's extras bring but its libraries, which lie in NVIDIA's package index alone.
without_libraries() { install "$wheel[jetson]" && install --no-deps "$1" "$1-bindings"; }

fresh() {
    rm -rf "$work/env" "$work/run"
    mkdir "$work/run"
    "${PYTHON:-python3}" -m venv "$work/env"
    local torch=
    case $extra in train | dev) torch=${TORCH:-torch==2.13.0} ;; esac
    if install ${torch:+"$torch"} "$wheel[$extra]"; then
        report works "pip install"
        return
    fi
    local said
    said=$(sed -nE 's/^ *(The installation of .* failed)/\1/p; s/^ *(.*(fatal error|cannot find -l|No such file or directory: ).*)/\1/p; s/^ERROR: //p' "$work/said" | head -n 1)
    case $extra in
        trt) without_libraries tensorrt-cu13 ;;
        trt-cu12) without_libraries tensorrt-cu12 ;;
        *) false ;;
    esac && report lacks "pip install" "$said" && return
    case $extra in pycuda) report lacks "pip install" "$said" ;; *) false ;; esac || {
        report FAILED "pip install" "$said"
        failures=$((failures + 1))
    }
    return 1
}

film() {
    "$bin/python" -c 'import cv2, sys
film = cv2.VideoWriter("film.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 25, (512, 512))
for _ in range(5):
    film.write(cv2.imread(sys.argv[1]))
film.release()' "$picture"
}

engine() {
    try "$1" "$bin/python" -m export engine "$assets/edge.onnx" -o edge.engine --backend "$2"
    [ -e "$work/run/edge.engine" ] || echo damaged >"$work/run/edge.engine"
    try lacks "$bin/python" -m runtime.run --engine edge.engine --source "$picture" --output engine
    cp "$assets/edge.onnx.json" "$work/run/edge.onnx.json"
    try lacks "$bin/python" -m runtime.run --engine edge.engine --trust-engine --source "$picture" --output engine
}

# The commands that an extra is for.
commands() {
    case $1 in
        cpu) try works "$bin/facemesh" run --source "$picture" --precision fp32 --save json,obj --output fp32 ;;
        video)
            install "$wheel[cpu,video]"
            (cd "$work/run" && film)
            try works "$bin/facemesh" run --source film.mp4 --output film
            ;;
        glb)
            install "$wheel[cpu,glb]"
            try works "$bin/facemesh" run --source "$picture" --save glb --output glb
            ;;
        export)
            try works "$bin/python" -m export onnx --arch edge --weights "$assets/edge.onnx" -o edge.onnx
            try works "$bin/python" -m export inspect edge.onnx
            try lacks "$bin/python" -m export onnx --arch edge --weights best.pt -o edge.onnx
            ;;
        train)
            try works "$bin/python" -m training fit --help
            try works "$bin/python" -m export onnx --arch edge --untrained -o edge.onnx
            if [ -e "$data.npz" ]; then
                try works "$bin/python" -m training fit --data "$data" --run fit --epochs 1 --crops-per-epoch 16 --workers 0
                try works "$bin/python" -m export onnx --arch edge --weights fit/best.pt -o edge.onnx
            fi
            ;;
        peers)
            try works "$bin/python" -m benchmarks peers --help
            [ ! -e "$data.npz" ] || try works "$bin/python" -m benchmarks peers --data "$data" --faces 4 --threads 1
            ;;
        bench)
            try works "$bin/python" -m benchmarks run --frames 5
            try lacks "$bin/python" -m benchmarks gpu-report -o report --quick
            ;;
        trt | trt-cu12 | jetson) engine lacks tensorrt ;;
        rtx) case $(uname -r) in *tegra*) engine lacks tensorrt-rtx ;; *) engine works tensorrt-rtx ;; esac ;;
        pycuda | cuda-python)
            [ "$1" = pycuda ] || try works "$bin/python" -c 'import runtime.cuda.cuda_python_binding'
            install "$wheel[bench,$1]"
            try lacks env FACEMESH_CUDA_BINDING="$1" "$bin/python" -m benchmarks gpu-report -o report --quick
            ;;
        batch) try works "$bin/python" -m runtime.batch --source "$picture" --output batch --workers 1 ;;
        triton)
            install "$wheel[cpu,triton]"
            try lacks "$bin/python" -m benchmarks triton --source "$picture" --server localhost:9 --seconds 1 --rounds 1
            ;;
        dev)
            for part in cpu export peers bench batch train; do commands "$part"; done
            try works "$bin/ruff" check "$work/tree"
            ;;
        *)
            report FAILED "no command for this extra"
            failures=$((failures + 1))
            ;;
    esac
}

rm -rf "$work/tree" "$work/wheel"
if [ "${WHEEL:-}" ]; then
    ln -s "$tree" "$work/tree"
    wheel=$WHEEL
else
    mkdir "$work/tree"
    git -C "$tree" archive HEAD | tar -x -C "$work/tree"
    [ -x "$work/build/bin/pip" ] || "${PYTHON:-python3}" -m venv "$work/build"
    "$work/build/bin/pip" wheel --quiet --no-deps --wheel-dir "$work/wheel" "$work/tree" || exit 1
    wheel=$(echo "$work"/wheel/*.whl)
fi
assets=$work/tree/runtime/assets
picture=$assets/astronaut.jpg
[ $# -gt 0 ] || mapfile -t all < <("${PYTHON:-python3}" -c 'import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
metadata = wheel.read(next(name for name in wheel.namelist() if name.endswith("/METADATA"))).decode()
print(*(line.split()[1] for line in metadata.splitlines() if line.startswith("Provides-Extra:")), sep="\n")' "$wheel")

for extra in "${@:-${all[@]}}"; do
    fresh || continue
    try works "$bin/python" -c 'import runtime, runtime._native'
    try works "$bin/facemesh" --version
    wanted=lacks
    "$bin/python" -c 'import onnxruntime' 2>/dev/null && wanted=works
    try "$wanted" "$bin/python" -m runtime.run --source "$picture" --output out
    commands "$extra"
done
rm -rf "$work/env" "$work/run"
[ "$failures" = 0 ] || { echo "$failures failed"; exit 1; }
