# `make demo`, `make test`, `make lint`, `make bench`, `make chaos`, `make kills`, `make machines`, `make kube-test`: each makes
# the virtual environment that it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILD ?= docker
STAMP := $(VENV)/.made-from-lock
# Built once with Go, if there is none on the PATH; a test that needs it should not have to wait for that.
LIVEKIT_SERVER := $(BIN)/python -c 'from cluster.local.livekit_server import ensure_binary; ensure_binary(print)'

.PHONY: demo test lint bench chaos kills machines image kube-test format lock venv
.DEFAULT_GOAL := demo

demo: venv  ## an inbound and an outbound call on this machine, side by side
	@$(BIN)/ringmaster demo

# In two processes, since most tests wait for something; tests/conftest.py says which run beside each other.
test: venv  ## every test, with a real livekit-server
	@$(LIVEKIT_SERVER)
	@$(BIN)/pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder $(ARGS)

lint: venv
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

bench: venv  ## the numbers of the README, on this machine
	@$(LIVEKIT_SERVER)
	@$(BIN)/python -m tests.bench

chaos: venv  ## a thousand faults of Live connections in many calls, ten minutes
	@$(BIN)/python -m tests.chaos

kills: venv  ## a hundred calls whose process is killed in the middle, half an hour
	@$(LIVEKIT_SERVER)
	@$(BIN)/python -m tests.kills $(ARGS)

machines: venv  ## a million operations on money and leases in any order, about ten minutes
	@$(BIN)/python -m tests.budget.machines

image: venv  ## the container image for ray-cluster.yaml
	@$(BUILD) build --tag ringmaster:$$($(BIN)/ringmaster version) .

kube-test: venv  ## ray-cluster.yaml on a real KubeRay; tests/kube/__main__.py says what it needs
	@$(LIVEKIT_SERVER)
	@$(BIN)/python -m tests.kube

format: venv
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

# With the oldest Python that is supported, so that every version finds what is pinned.
lock: venv
	@$(BIN)/pip-compile --quiet --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links \
	  --no-emit-trusted-host --no-header --allow-unsafe --extra local --extra dev --output-file requirements.lock pyproject.toml

venv: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@echo "making the virtual environment, which takes a minute or two"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "PYTHON must be 3.11, 3.12 or 3.13")'
	@$(PYTHON) -m venv $(VENV)
	@# The lock is complete. Resolved again, a dependency with an extra would ask for a release that is not in it.
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements.lock
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
