# Two commands do everything: `make demo` and `make test`. Both make what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# torch first and alone: with no torch present other packages drag in builds nobody asked for
TORCH ?= torch==2.13.0
PORT ?= 8188
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# processes that share the test files, each about 2 GB: one for each core, or as many as WORKERS says; 0: this one alone
WORKERS ?= logical
SHARED := -n $(WORKERS) --maxprocesses 8 --dist loadfile

.PHONY: setup setup-dev demo test test-engine test-cluster test-faults fuzz lint bench gpu-report release-check comfy comfy-env clean

setup: $(VENV)/.ready
$(VENV)/.ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q "$(TORCH)"
	$(BIN)/pip install -q -r requirements.txt
	touch $@

setup-dev: $(VENV)/.ready-dev
$(VENV)/.ready-dev: $(VENV)/.ready requirements-dev.txt
	$(BIN)/pip install -q -r requirements-dev.txt
	touch $@

demo: setup
	$(BIN)/python -m engine demo --out demo

comfy-env: setup-dev
	$(BIN)/python tests/comfy/setup_comfy.py

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test-engine: setup-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest $(SHARED) tests/engine tests/parity tests/layouts

test: lint comfy-env
	OMP_NUM_THREADS=1 $(BIN)/pytest $(SHARED) tests

# job files, and a real Ray of two nodes on this machine; `make test` has them too
test-cluster: setup-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/cluster

# bad values of every flag (half an hour); kills, signals, small disks and little memory at random: ROUNDS rounds of about ten minutes, from the seed SEED on
ROUNDS ?= 1
SEED ?= 0
test-faults: setup-dev
	GS4D_FAULT_ROUNDS=$(ROUNDS) GS4D_FAULT_SEED=$(SEED) OMP_NUM_THREADS=1 $(BIN)/pytest tests/faults

# mutated inputs of every parser and settings of every step, for FUZZ_SECONDS from the seed SEED on
FUZZ_SECONDS ?= 300
fuzz: setup-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) --seed $(SEED)

bench: setup
	$(BIN)/python benchmarks/rasterizer.py --json
	$(BIN)/python benchmarks/fit.py --json
	$(BIN)/python benchmarks/edit.py --json --quick

# what an NVIDIA GPU does with this project, in at most ten minutes: build/gpu_report.json and .md
gpu-report: setup-dev
	$(BIN)/python benchmarks/gpu_report.py

release-check:
	$(PYTHON) tools/release_check.py

comfy: comfy-env
	$(BIN)/python tests/comfy/launch.py --port $(PORT)

clean:
	rm -rf $(VENV) .venv-comfy demo build
