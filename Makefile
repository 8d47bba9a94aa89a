# The only task vocabulary: people, hooks and CI call these words.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/ready

# Each stage is a process: one that compiles all it imports takes three seconds longer, and its validation ten.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check format lock bench setup
.DEFAULT_GOAL := setup

setup: $(READY)  ## an environment with exactly what the lock file names

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "uv>=0.9,<1"
	VIRTUAL_ENV=.venv $(BIN)/uv pip sync --quiet --compile-bytecode requirements.lock || $(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

demo: $(READY)  ## the whole path on generated data: raw text to a registered model
	$(BIN)/hiraku release gpt-demo

test: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations=25 --durations-min=5

check: $(READY)  ## style, types, import contracts, and that dvc.yaml is what the recipes say
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hiraku graph --check

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)  ## beside peers and baselines, each in an environment of its own: benchmarks/results/
	$(BIN)/hiraku release gpt-demo
	$(BIN)/python -m benchmarks all

lock:  ## resolve pyproject.toml again; the lock names no index
	$(BIN)/uv pip compile pyproject.toml --group dev --python-version 3.11 --no-emit-index-url --no-header --quiet --output-file requirements.lock
	$(BIN)/uv pip compile benchmarks/peers/transformers.in --constraint requirements.lock --python-version 3.11 --no-emit-index-url --no-header --quiet --output-file benchmarks/peers/transformers.lock
	$(BIN)/uv pip compile benchmarks/peers/trl.in --constraint requirements.lock --python-version 3.11 --no-emit-index-url --no-header --quiet --output-file benchmarks/peers/trl.lock
	$(BIN)/uv pip compile benchmarks/peers/open_clip.in --constraint requirements.lock --python-version 3.11 --no-emit-index-url --no-header --quiet --output-file benchmarks/peers/open_clip.lock
