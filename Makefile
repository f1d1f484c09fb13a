# Every target runs in .venv and makes it first. Another Python: make PYTHON=python3.12 test
PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv quickstart test test-shuffled corpus lint typecheck docs

help:
	@echo 'make quickstart  fine-tune, score and tag with the included corpus and encoder, offline'
	@echo 'make test        run the tests'
	@echo 'make test-shuffled  the same in random order; SEED=N repeats one'
	@echo 'make corpus      validate Khabar and write it as JSON lines'
	@echo 'make lint        check style, formatting and the layers of imports'
	@echo 'make typecheck   check types'
	@echo 'make docs        build the documentation site in build/docs'
	@echo 'make venv        install into $(VENV), and nothing else'

venv: $(STAMP)

# constraints.txt pins the versions, torch above all.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

quickstart: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/musamma quickstart

# Two processes of one thread each: more threads than cores slow each other down.
test: $(STAMP)
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

# Only the order is random; `random` and NumPy are not reseeded.
test-shuffled: $(STAMP)
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadgroup \
		-p randomly --randomly-dont-reset-seed $(if $(SEED),--randomly-seed=$(SEED))

corpus: $(STAMP)
	$(BIN)/musamma check data/corpora/khabar/articles --schema khabar
	$(BIN)/python -m musamma.data.corpora.release

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

typecheck: $(STAMP)
	$(BIN)/mypy

# What the site needs is installed here and not by `make venv`. -W: a broken link or a page outside the navigation fails.
docs: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs build/docs
	@echo 'build/docs/index.html'
