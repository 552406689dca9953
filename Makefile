# Each target makes what it needs: on a machine with Python 3.11 or newer, make and npm, each is one command.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SEEDS  ?= 10000
JOBS   ?= 2
UNITS  := $(addprefix tests/,backends causality couchdb documents fields gossip laws query wire)
LOCK   ?= --upgrade
CORES  ?= $(shell getconf _NPROCESSORS_ONLN)

.PHONY: demo test suite check units lint docs bench soak lock clean
.DEFAULT_GOAL := test

# uv makes the environment where it is installed, and Python alone does elsewhere: `make UV=` chooses that.
UV ?= $(shell command -v uv)
ifeq ($(UV),)
create  = $(PYTHON) -m venv --clear $(VENV)
install = $(BIN)/pip install --quiet --disable-pip-version-check
else
create  = $(UV) venv --quiet --clear --python $(PYTHON) $(VENV)
install = $(UV) pip install --quiet --python $(BIN)/python
endif

# What the unit tests and the demo need; `.full` adds lint, documentation, and what interop tests and benchmarks need.
$(VENV)/.ready: requirements/test.lock pyproject.toml
	$(create)
	$(install) --require-hashes --requirement requirements/test.lock
	$(install) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.full: $(VENV)/.ready requirements/dev.lock
	$(install) --require-hashes --requirement requirements/dev.lock
	@touch $@

NODE_MODULES := tests/interop/node_modules
$(NODE_MODULES)/.ready: tests/interop/package-lock.json
	cd tests/interop && npm ci --silent --no-audit --no-fund
	@touch $@

BENCH_MODULES := benchmarks/node_modules
$(BENCH_MODULES)/.ready: benchmarks/package-lock.json
	cd benchmarks && npm ci --silent --no-audit --no-fund
	@touch $@

demo: $(VENV)/.ready    ## three real nodes, a partition, a SIGKILL, a conflict: under a minute
	$(BIN)/crdtdb demo $(DEMO)

lint: $(VENV)/.full    ## style, spelling, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.full $(NODE_MODULES)/.ready $(BENCH_MODULES)/.ready    ## everything that must hold, lint beside the tests
	$(MAKE) --no-print-directory --jobs=2 lint suite

suite: $(VENV)/.full $(NODE_MODULES)/.ready $(BENCH_MODULES)/.ready
	$(BIN)/pytest -n $(JOBS) $(PYTEST)

check: $(VENV)/.full    ## the inner loop: lint, types, layers and the tests that start no process
	$(MAKE) --no-print-directory --jobs=2 lint units

units: $(VENV)/.ready
	$(BIN)/pytest -n $(JOBS) -q -m "not soak and not processes" --hypothesis-profile check $(UNITS) $(PYTEST)

soak: $(VENV)/.full $(NODE_MODULES)/.ready    ## more seeds, examples and kills, longer cuts, on all cores: SEEDS=100000
	CRDTDB_SOAK_SEEDS=$(SEEDS) $(BIN)/pytest -n $(CORES) -m "soak or hypothesis" --hypothesis-profile soak --timeout 0 $(PYTEST)

bench: $(VENV)/.full $(BENCH_MODULES)/.ready   ## measure beside what people would use instead: BENCH="--scale quick"
	$(BIN)/python -m benchmarks run $(BENCH)

docs: $(VENV)/.full    ## the documentation as a site in site/, with the index of decisions
	$(BIN)/python docs/decisions/make_index.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: $(VENV)/.full    ## choose the newest versions; LOCK= adds what is new in pyproject.toml, and keeps the others
	$(BIN)/python requirements/lock.py $(LOCK)

clean:
	rm -rf $(VENV) $(NODE_MODULES) $(BENCH_MODULES) site build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
