# Every target does its own set-up: Python 3.11 or newer, git and make are all it needs.
# The first of these that runs, is new enough and can make a virtual environment.
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3; do \
	$$each -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$each && break; done)
BIN := .venv/bin
OUT := out

.PHONY: demo test test-long bench lint clean

demo: .venv/installed
	@rm -rf $(OUT)
	$(BIN)/pixano-annotate detect sample_data -o $(OUT)/boxes.json -o $(OUT)/boxes.parquet --store $(OUT)/store
	$(BIN)/pixano-annotate segment sample_data -o $(OUT)/masks.json -o $(OUT)/masks.parquet --store $(OUT)/store
	@$(BIN)/python sample_data/draw.py $(OUT)/masks.json sample_data $(OUT)/pictures
	@echo
	@echo "Look at: $(OUT)/pictures/              the photographs with their masks and boxes drawn"
	@echo "         $(OUT)/boxes.json, .parquet   what detect wrote"
	@echo "         $(OUT)/masks.json, .parquet   what segment wrote"

test: .venv/installed-test lint
	$(BIN)/python -m pytest

test-long: .venv/installed-test
	$(BIN)/python -m pytest -m long

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-test
	$(BIN)/python tests/benchmarks/run.py

clean:
	rm -rf .venv $(OUT) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed: make PYTHON=/path/to/it"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/installed-test: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@ .venv/installed
