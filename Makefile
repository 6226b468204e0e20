# Needs Python >= 3.11 and make; every target sets up the environment first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadgroup
CONFIG ?= examples/nyc_weather.yaml

.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow check audit format bench ui lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## create .venv and install the lock into it

# pip installs torch with what its build needs (a CUDA build lists libraries that the lock leaves out): pip knows the indexes
# and wheels that the user has configured. The rest of the lock is complete, so nothing is resolved: uv installs it in
# parallel, and pip does where uv does not reach the package index.
# Bytecode decides how fast prefect, mlflow and torch start, so it is compiled here, once.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lstm needs Python >= 3.11, but $(PYTHON) is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	@echo "Setting up $(VENV): once, some minutes, most of them for torch."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "  torch"
	@grep -E '^(torch|uv)==' requirements.lock > $(VENV)/first.txt
	@$(PIP) --no-compile --constraint requirements.lock -r $(VENV)/first.txt
	@echo "  the other packages of requirements.lock"
	@$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python -r requirements.lock || \
	  $(PIP) --no-deps --no-compile -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@echo "  bytecode"
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib flows tasks lstm || true
	@touch $@

run: $(READY)  ## train, evaluate and register on hourly weather (CONFIG=FILE: on your data)
	@$(BIN)/lstm train $(CONFIG)

test: $(READY)  ## run the default tests
	@$(BIN)/python -m pytest $(PARALLEL)

test-slow: $(READY)  ## run the slow tests and those that start servers
	@$(BIN)/python -m pytest -m "slow or service" --numprocesses 2 --dist loadfile

check: $(READY)  ## check format, lint, types and imports
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

audit: $(READY)  ## look up known vulnerabilities of the locked packages
	@$(BIN)/python .ci/audit

format: $(READY)  ## format the code and fix lint
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY)  ## run the benchmarks, write benchmarks/README.md
	@$(BIN)/python benchmarks/run_split.py

ui: $(READY)  ## open the MLflow UI on the local stores
	@echo "MLflow: http://127.0.0.1:5000 (Ctrl-C ends it)"
	@MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --host 127.0.0.1 --port 5000 \
	  --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$${LSTM_HOME:-mlruns}/mlflow.db}"

lock: $(READY)  ## resolve requirements.lock from pyproject.toml
	@echo 'torch==2.13.0' | $(BIN)/uv pip compile --universal --python-version 3.11 --extra dev --upgrade --quiet \
	  --no-emit-index-url --no-header --constraint - --output-file requirements.lock pyproject.toml

clean:  ## remove .venv and caches, not mlruns/ with your models
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
