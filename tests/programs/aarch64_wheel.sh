#!/usr/bin/env bash
# Build the aarch64 wheel on x86-64 and try it in an emulated Debian: install, import, tests of the compiled module,
# one photo. As root, on Debian with: g++-aarch64-linux-gnu qemu-user-static debootstrap python3-venv.
#
#     tests/programs/aarch64_wheel.sh FOLDER     # 1.5 GB; half an hour, most of it for the system in FOLDER/root
#
# PYTHON is the x86-64 Python that builds: of the version of the emulated system (bookworm: 3.11). EXTRAS, such as
# "cpu video export", are then installed there in fresh environments and tried as by tests/programs/extras.sh. With DATA
# a network is trained there, too: the first step alone takes eleven minutes, so give LIMIT.
set -euo pipefail
tree=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1"
work=$(cd "$1" && pwd)
root=$work/root
suite=${SUITE:-bookworm}
version=$("${PYTHON:-python3}" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# Programs of aarch64 go to the emulator. Without an init system nobody has told the kernel yet.
formats=/proc/sys/fs/binfmt_misc
if [ ! -e "$formats/qemu-aarch64" ]; then
    mountpoint -q "$formats" || mount -t binfmt_misc binfmt_misc "$formats"
    cat /usr/lib/binfmt.d/qemu-aarch64.conf >"$formats/register"
fi

# A system for aarch64.
if [ ! -e "$root/srv/ready" ]; then
    debootstrap --arch=arm64 --foreign --variant=minbase \
        --include=ca-certificates,python3,python3-dev,python3-pip,python3-venv "$suite" "$root" ${MIRROR:+"$MIRROR"}
    chroot "$root" /debootstrap/debootstrap --second-stage
    touch "$root/srv/ready"
fi
[ -e "$root/usr/include/python$version/Python.h" ] || { echo "error: $root has no Python $version; set PYTHON" >&2; exit 1; }

# The wheel, by the cross compiler. Python's pyconfig.h for aarch64 lies beside the C library's headers, which must not
# come along.
mkdir -p "$work/include/aarch64-linux-gnu"
ln -sfn "$root/usr/include/aarch64-linux-gnu/python$version" "$work/include/aarch64-linux-gnu/python$version"
[ -x "$work/build/bin/pip" ] || "${PYTHON:-python3}" -m venv "$work/build"
"$work/build/bin/pip" install --quiet 'scikit-build-core>=0.10' 'nanobind>=2.2' cmake ninja
tag=cpython-${version/./}-aarch64-linux-gnu
rm -f "$work"/wheel/*.whl
env _PYTHON_HOST_PLATFORM=linux-aarch64 SETUPTOOLS_EXT_SUFFIX=.$tag.so CXX=aarch64-linux-gnu-g++ \
    CXXFLAGS="-I$work/include" \
    CMAKE_ARGS="-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DPython_INCLUDE_DIR=$root/usr/include/python$version -DFACEMESH_CUDA=OFF" \
    "$work/build/bin/pip" wheel --quiet --no-deps --no-build-isolation --wheel-dir "$work/wheel" "$tree"

# Try it there.
rm -rf "$root/srv/tree" && mkdir "$root/srv/tree"
cp -r "$tree/tests" "$tree/pyproject.toml" "$root/srv/tree"
cp "$work"/wheel/*.whl "$root/srv/tree"
# Its libraries are fetched from here: an emulated pip is slow, and knows nothing of this machine's proxies. Markers are
# read as on the other machine, or PyTorch would bring CUDA's libraries for x86-64.
pip='import platform, runpy; platform.machine = lambda: "aarch64"; runpy.run_module("pip", run_name="__main__")'
platforms=(--platform manylinux2014_aarch64 --platform linux_aarch64)
for glibc in $(seq 17 36); do platforms+=(--platform "manylinux_2_${glibc}_aarch64"); done
download() {
    "$work/build/bin/python" -c "$pip" download --quiet --only-binary=:all: --implementation cp \
        --python-version "$version" "${platforms[@]}" --find-links "$root/srv/wheels" --dest "$root/srv/wheels" "$@"
}
download numpy opencv-python-headless onnxruntime onnx tqdm pytest packaging
chroot "$root" /bin/bash -euc '
    cd /srv/tree
    [ -x ../env/bin/pip ] || python3 -m venv ../env
    ../env/bin/pip install --quiet --force-reinstall --no-deps ./*.whl
    ../env/bin/pip install --quiet --no-index --find-links ../wheels numpy opencv-python-headless onnxruntime onnx tqdm pytest packaging
    ../env/bin/python -c "import platform, runtime; from runtime import _native; print(platform.machine(), _native.__name__)"
    ../env/bin/python -m pytest -q tests/runtime/native --ignore tests/runtime/native/test_cuda_module.py \
        --ignore tests/runtime/native/test_missing_tools.py # of the tree, which a wheel leaves out
    ../env/bin/facemesh run --source "$(../env/bin/python -c "from runtime.models.shipped import SHIPPED_PICTURE; print(SHIPPED_PICTURE)")" --output out
    head -c 300 out/results.jsonl
'

[ "${EXTRAS:-}" ] || exit 0
wheel=$(cd "$work/wheel" && echo ./*.whl)
torch=${TORCH:-torch==2.10.0} # later wheels for aarch64 bring CUDA: gigabytes
# What the index has as sources alone: for any machine, or to be compiled there.
"$work/build/bin/pip" wheel --quiet --no-deps --wheel-dir "$root/srv/wheels" \
    tensorrt-rtx tensorrt-rtx-cu13 tensorrt-cu13 'tensorrt-cu12<10.13.2'
"$work/build/bin/pip" download --quiet --no-deps --no-binary pycuda --dest "$root/srv/wheels" pycuda
for extra in $EXTRAS; do
    case $extra in
        train | dev) download "$torch" "$work/wheel/$wheel[$extra]" ;;
        # The libraries lie in NVIDIA's package index alone.
        trt) download tensorrt-cu13-bindings "$work/wheel/$wheel[jetson]" ;;
        trt-cu12) download tensorrt-cu12-bindings "$work/wheel/$wheel[jetson]" ;;
        pycuda) download numpy setuptools wheel mako platformdirs pytools ;;
        *) download "$work/wheel/$wheel[$extra]" ;;
    esac
done
rm -rf "$root/srv/data"
[ ! "${DATA:-}" ] || install -Dt "$root/srv/data" "$DATA".* "$(dirname "$DATA")/face_model.npz"
rm -rf "$root/srv/whole" && mkdir "$root/srv/whole"
git -C "$tree" archive HEAD | tar -x -C "$root/srv/whole"
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc" # for Ray
trap 'umount "$root/proc"' EXIT
chroot "$root" env PIP_NO_INDEX=1 PIP_FIND_LINKS=/srv/wheels WHEEL="/srv/tree/$wheel" \
    DATA="/srv/data/$(basename "${DATA:-none}")" TORCH="$torch" /srv/whole/tests/programs/extras.sh /srv/extras $EXTRAS
