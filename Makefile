# Each target makes what it needs: on a machine with Python 3.11 or newer, make and npm, each is one command.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SEEDS  ?= 10000
JOBS   ?= 2
UNITS  := $(addprefix tests/,backends causality couchdb documents fields gossip laws query wire)
CORES  ?= $(shell getconf _NPROCESSORS_ONLN)

.PHONY: demo test suite check units lint docs bench soak lock clean
.DEFAULT_GOAL := test

$(VENV)/.ready: requirements/dev.lock pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
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

lint: $(VENV)/.ready    ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.ready $(NODE_MODULES)/.ready $(BENCH_MODULES)/.ready    ## everything that must hold, lint beside the tests
	$(MAKE) --no-print-directory --jobs=2 lint suite

suite: $(VENV)/.ready $(NODE_MODULES)/.ready $(BENCH_MODULES)/.ready
	$(BIN)/pytest -n $(JOBS) $(PYTEST)

check: $(VENV)/.ready    ## the inner loop: lint, types, layers and the tests that start no process
	$(MAKE) --no-print-directory --jobs=2 lint units

units: $(VENV)/.ready
	$(BIN)/pytest -n $(JOBS) -q -m "not soak and not processes" $(UNITS) $(PYTEST)

soak: $(VENV)/.ready $(NODE_MODULES)/.ready    ## more seeds, more kills, longer cuts, on all cores: SEEDS=100000
	CRDTDB_SOAK_SEEDS=$(SEEDS) $(BIN)/pytest -n $(CORES) -m soak --timeout 0 $(PYTEST)

bench: $(VENV)/.ready $(BENCH_MODULES)/.ready   ## measure beside what people would use instead: BENCH="--scale quick"
	$(BIN)/python -m benchmarks run $(BENCH)

docs: $(VENV)/.ready    ## the documentation as a site in site/, with the index of decisions
	$(BIN)/python docs/decisions/make_index.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: $(VENV)/.ready    ## choose the newest versions again
	$(BIN)/python requirements/lock.py

clean:
	rm -rf $(VENV) $(NODE_MODULES) $(BENCH_MODULES) site build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
