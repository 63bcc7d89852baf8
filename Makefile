# Every target does its own set-up: a virtual environment in .venv, dependencies pinned by constraints.txt, data in the user cache.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DOCS   := $(VENV)/.docs-ready

PLUGIN := contrib/composed_world

# where arrays are what it is about, every annotated shape and type is checked at run time, which takes thrice as long
SHAPED := $(addprefix tests/,align codecs contracts dtw encoders fusion losses nn grounding)
CHECK_SHAPES := --jaxtyping-packages=sensorium,beartype.beartype

.PHONY: quickstart test test-fast test-slow check format docs bench clean

quickstart: $(READY)  ## fetch real data, train, measure, search
	$(BIN)/sensorium quickstart

test: $(READY)  ## every test, the slow ones too, in two processes of one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal --durations=25 tests $(PLUGIN)/tests $(SHAPED:%=--ignore=%)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal $(CHECK_SHAPES) $(SHAPED)

test-slow: $(READY)  ## the slow tests with 20 kills each and 500 fuzzed inputs of each kind: hours
	SENSORIUM_THOROUGH=1 SENSORIUM_FUZZ_EXAMPLES=500 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m slow tests $(PLUGIN)/tests
	SENSORIUM_FUZZ_EXAMPLES=500 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal tests/fuzz tests/dtw/test_dtw_magnitudes.py

test-fast: $(READY)  ## in a minute: the first case of each quick test function (tests/fast.py)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --fast tests $(PLUGIN)/tests

check: $(READY) $(DOCS)  ## formatting, lint, types, layers, spelling, doctests, docs
	$(BIN)/ruff format --check src tests benchmarks examples contrib
	$(BIN)/ruff check src tests benchmarks examples contrib
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .import_linter_cache
	$(BIN)/python docs/draw_imports.py --check
	$(BIN)/codespell src tests docs benchmarks recipes examples contrib README.md CHANGELOG.md CONTRIBUTING.md
	$(BIN)/python -m pytest -q --doctest-modules src/sensorium $(PLUGIN)/src -p no:cacheprovider
	$(BIN)/python benchmarks/render.py --check
	$(BIN)/mkdocs build --strict --quiet

format: $(READY)
	$(BIN)/ruff format src tests benchmarks examples contrib
	$(BIN)/ruff check --fix src tests benchmarks examples contrib

docs: $(READY) $(DOCS)
	$(BIN)/mkdocs build --strict

bench: $(READY)  ## every claim's script; figures go to benchmarks/results
	set -e; for name in loss search towers image_decode table_reads help_time dtw soft_dtw speech_alignment grounding fusion summary generation; do $(BIN)/sensorium bench $$name; done
	$(BIN)/python benchmarks/render.py

# torch first, by its pinned version: pip then finds the CPU build where one is at hand
$(READY): pyproject.toml $(PLUGIN)/pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "no venv: install python3-venv (Debian: apt-get install python3-venv)"; exit 1; }
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable $(PLUGIN)
	touch $(READY)

$(DOCS): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev,docs]"
	touch $(DOCS)

clean:
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
