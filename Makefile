# Everything runs in .venv, which `make install` makes; nothing is installed outside it.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO ?= demo

.DEFAULT_GOAL := help
.PHONY: help install demo test faults cluster check format bench docs clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

install: $(VENV)/.installed  ## make .venv with Mergery in it

demo: $(VENV)/.installed  ## breed a model out of tiny experts, and show what it can do
	$(BIN)/mergery demo --out $(DEMO)

test: $(VENV)/.tools  ## run the tests
	$(BIN)/python -m pytest -n auto --cov --cov-report=term-missing:skip-covered --cov-fail-under=90

faults: $(VENV)/.tools  ## kill a merge at each of its moments, fill its disk, interrupt it (ten minutes)
	$(BIN)/python -m pytest -n auto tests/faults

cluster: $(VENV)/.tools  ## install Ray, merge and search on a cluster of this machine, with PostgreSQL where it is
	$(PIP) --editable '.[dev,ray,postgresql]'
	$(BIN)/python -m pytest tests/cluster

check: $(VENV)/.tools  ## lint, types, layers and the size laws
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/laws.py

format: $(VENV)/.tools  ## put the code into the house's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.tools  ## measure, and write bench/results/
	$(BIN)/python -m bench

docs: $(VENV)/.tools  ## write the pages that are made from the code
	$(BIN)/python tools/pages.py

clean:  ## remove what make made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage*

# torch first and by itself, at the version pinned: anything looser takes several GB of CUDA packages.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $$(grep '^torch==' constraints.txt)
	$(PIP) --editable .
	@touch $@

$(VENV)/.tools: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	@touch $@
