# Needs Python >= 3.10 with venv and a C++ compiler; everything else comes through pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# An environment knows its own place: after a move of this folder it is made anew.
MOVED := $(shell [ -f $(VENV)/place ] && [ "$$(cat $(VENV)/place)" != "$$(pwd)" ] && rm -rf $(VENV) && echo moved)

# The installed package is editable: Python files are used where they lie, native sources trigger a new build.
BUILD_INPUTS := pyproject.toml CMakeLists.txt $(wildcard runtime/native/*/*)

# The tests need the CPU alone, and PyPI's PyTorch brings gigabytes of CUDA libraries on Linux. A CPU build of this version
# (2.13.0+cpu) comes before it where pip finds one (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL); TORCH may be its .whl.
TORCH ?= torch==2.13.0

# What `make gate` compares with, and the slowdown that it tolerates.
BASE ?= HEAD~1
MAX_REGRESSION ?= 10%

# As many tests at a time as there are cores, each on one; the tests of a file run in their order. Compiled Python is
# kept, also where the environment forbids it: every worker, and every program that a test starts, would compile all anew.
PYTEST := env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --durations=10

.PHONY: demo test test-slow test-all fuzz faults pycuda sanitize sanitize-threads gate int8 lint clean

demo: $(VENV)/demo.stamp
	$(BIN)/python -m runtime.run --source runtime/assets/astronaut.jpg --output out/demo --save overlay,json,obj,ply
	@echo "The overlay, the mesh (.obj, .ply) and results.jsonl are in out/demo:"
	@ls -l out/demo

# Without the tests marked slow: trainings, exports of large networks, real servers, trials of the gate.
test: lint
	$(PYTEST) -m 'not slow'

test-slow: $(VENV)/test.stamp $(VENV)/triton.stamp $(VENV)/pycuda.stamp $(VENV)/colcon.stamp
	$(PYTEST) -m slow

test-all: test test-slow

# Compare the speed of the runtime with that of BASE: both are built and run by turns; skipped if there is no such revision.
gate: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks compare --against $(BASE) --max-regression $(MAX_REGRESSION) --seconds 90 --gate

# The shipped model in INT8 for CPUs, from a checkpoint or the FP32 file; a confidence head in a checkpoint is kept.
WEIGHTS ?= runtime/assets/edge.onnx
DATA ?= ../shared/data/train
int8: $(VENV)/test.stamp
	mkdir -p build
	$(BIN)/python -m training shrink --weights $(WEIGHTS) --data $(DATA) --latent 24 -o build/edge-int8.pt
	$(BIN)/python -m export onnx --arch edge --weights build/edge-int8.pt --precision int8 --target cpu --crops $(DATA) \
		--max-nme-increase 0.01 -o runtime/assets/edge-int8.onnx

# Damaged files for every reader, each for SECONDS, with another seed at every run.
SECONDS ?= 20
fuzz: $(VENV)/test.stamp
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

# Every open, read, write, rename, fsync, buffer, call of ONNX Runtime and of the stand-in device fails once: 3100 of them
# in 25 minutes of processor time, on all cores.
faults: $(VENV)/test.stamp
	$(BIN)/python -m tests.faults

# PyCUDA, for the tests of its binding over a stand-in for the driver.
pycuda: $(VENV)/pycuda.stamp

# The compiled module under AddressSanitizer and UndefinedBehaviourSanitizer, with its tests; without CUDA. Python itself
# keeps memory until the end, so leaks are not looked for.
SANITIZERS := -O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-lto
LIBRARIES = $(foreach name,asan ubsan stdc++,$(shell $(CXX) -print-file-name=lib$(name).so))
sanitize: $(VENV)/test.stamp
	$(BIN)/python -m pip install --quiet cmake nanobind
	$(BIN)/cmake -S . -B build/sanitize -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="$(SANITIZERS)" -DFACEMESH_CUDA=OFF \
		-DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" -Dnanobind_DIR="$$($(BIN)/python -m nanobind --cmake_dir)"
	$(BIN)/cmake --build build/sanitize --parallel 2 --target _native
	LD_PRELOAD="$(LIBRARIES)" ASAN_OPTIONS=detect_leaks=0 $(BIN)/python -m tests.programs.sanitized_tests \
		build/sanitize/_native*.so tests/runtime/native tests/runtime/geometry --ignore tests/runtime/native/test_cuda_module.py

# What threads share in the compiled module, in eight of them under ThreadSanitizer, without Python.
sanitize-threads:
	mkdir -p build
	$(CXX) -std=c++17 -O1 -g -fsanitize=thread -fopenmp-simd -Wno-unknown-pragmas '-DFACEMESH_MULTIVERSION=' -Iruntime/native \
		tests/programs/native_threads.cpp $(foreach room,cpu geometry rendering,$(wildcard runtime/native/$(room)/*.cpp)) \
		-o build/native_threads -pthread
	build/native_threads

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build out .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) runtime/native/missing_tools.py
	$(PYTHON) -m venv $(VENV)
	@pwd > $(VENV)/place

$(VENV)/demo.stamp: $(BUILD_INPUTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[cpu,video]'
	touch $@

# A real Triton server and its clients, which want an older NumPy. Without them their tests are skipped.
$(VENV)/triton.stamp: | $(BIN)/python
	-$(PYTHON) -m venv $(VENV)/triton && \
		$(VENV)/triton/bin/python -m pip install --quiet 'numpy<2' 'opencv-python-headless<4.12' onnxruntime 'tritonclient[grpc,http]' && \
		$(VENV)/triton/bin/python -m pip install --quiet --no-deps nvidia-pytriton==0.7.0 && touch $@

# Without it its tests are skipped.
$(VENV)/pycuda.stamp: | $(BIN)/python
	-tests/programs/build_pycuda.sh $(BIN)/python && touch $@

# What builds packages of ROS 2; it wants an older setuptools. Without it its test is skipped.
$(VENV)/colcon.stamp: | $(BIN)/python
	-$(PYTHON) -m venv $(VENV)/colcon && $(VENV)/colcon/bin/python -m pip install --quiet colcon-core colcon-ros && touch $@

$(VENV)/test.stamp: $(BUILD_INPUTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet '$(TORCH)'
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/demo.stamp
