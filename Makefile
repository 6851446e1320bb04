# Every target does its own set-up: Python 3.11 or newer, git and make are all it needs.
# The first of these that runs, is new enough and can make a virtual environment.
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3; do \
	$$each -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$each && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TORCH := torch==2.13.0
OUT := out

# What runs a command as root here, where apt-get installs packages: sudo only if it asks nothing.
ROOT = $(shell command -v apt-get >/dev/null && { \
	if [ "$$(id -u)" = 0 ]; then echo env; \
	elif sudo -n true 2>/dev/null; then echo sudo -n env; fi; })

.PHONY: demo test test-long bench lint clean postgresql redis ffmpeg libgl

demo: .venv/installed libgl
	@rm -rf $(OUT)
	$(BIN)/pixano-annotate detect sample_data -o $(OUT)/boxes.json -o $(OUT)/boxes.parquet --store $(OUT)/store
	$(BIN)/pixano-annotate segment sample_data -o $(OUT)/masks.json -o $(OUT)/masks.parquet --store $(OUT)/store
	$(BIN)/pixano-annotate segment-video sample_data/pan.mp4 --fps 6 -o $(OUT)/tracks.json --preview $(OUT)/videos --store $(OUT)/store
	@$(BIN)/python sample_data/draw.py $(OUT)/masks.json sample_data $(OUT)/pictures
	@echo
	@echo "Look at: $(OUT)/pictures/              the photographs with their masks and boxes drawn"
	@echo "         $(OUT)/boxes.json, .parquet   what detect wrote"
	@echo "         $(OUT)/masks.json, .parquet   what segment wrote"
	@echo "         $(OUT)/videos/                a video with its masks and tracks drawn"
	@echo "         $(OUT)/tracks.json            what segment-video wrote"

test: .venv/installed-test lint postgresql ffmpeg libgl
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-long: .venv/installed-test postgresql redis ffmpeg libgl
	$(BIN)/python -m pytest -m long

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-test libgl
	$(BIN)/python tests/benchmarks/run.py

# The tests start servers of their own. Without a program they leave out what needs it, or fail if
# PIXANO_TEST_POSTGRESQL=required.
define apt_get
	test -z "$(ROOT)" || { \
		echo "Installing $(1) for the tests"; \
		install="install -y -qq --no-install-recommends $(1)"; \
		apt_get="$(ROOT) DEBIAN_FRONTEND=noninteractive apt-get"; \
		$$apt_get $$install >/dev/null 2>&1 || \
		{ $$apt_get update -qq && $$apt_get $$install >/dev/null; } || \
		echo "$(1) could not be installed"; \
	}
endef

postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || \
	$(call apt_get,postgresql)

# For ffprobe, with which the tests compare what is read of videos.
ffmpeg:
	@command -v ffprobe >/dev/null || $(call apt_get,ffmpeg)

# What OpenCV, which the tracker is built on, wants on Linux.
libgl:
	@test "$$(uname)" != Linux || ldconfig -p | grep -q libGL.so.1 || \
	$(call apt_get,libgl1 libglib2.0-0)

redis:
	@command -v redis-server >/dev/null || $(call apt_get,redis-server)

clean:
	rm -rf .venv .venv-* $(OUT) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed: make PYTHON=/path/to/it"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(PIP) -e .
	@touch $@

# sam2 comes as source, whose build wants the torch that it is to run with: the one for processors.
.venv/installed-test: .venv/bin/python pyproject.toml
	$(PIP) -e '.[test]' editables hatchling setuptools wheel
	$(PIP) $(TORCH)
	SAM2_BUILD_CUDA=0 $(PIP) --no-build-isolation -e '.[sam2]' $(TORCH)
	@touch $@ .venv/installed
