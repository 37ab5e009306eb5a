.DEFAULT_GOAL := help
# A name on the path need not run (version managers leave stubs), and Debian parts venv from Python, so each is tried.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help run test check bench testbed fleet golden docs lock
help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-10s %s\n", $$1, $$2}'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'kubewhy needs Python 3.11 or later with venv on the path (Debian: python3-venv): install it, or say make PYTHON=/path/to/python3'; exit 1; }
	$(PYTHON) -m venv .venv

# What kubewhy itself needs; and all that its tests need too. Both at the versions of the lock file.
.venv/.installed: requirements.lock pyproject.toml | $(BIN)/python
	$(PIP) install -q -c requirements.lock -e .
	@touch $@

.venv/.ready: requirements.lock pyproject.toml | $(BIN)/python
	$(PIP) install -q -r requirements.lock -e '.[dev,testbed,backends,sinks,kafka,msk]'
	@touch $@ .venv/.installed

run: .venv/.installed ## watch the cluster of your kubeconfig; without one, replay a broken shop
	@$(BIN)/python -m infra.watch_or_replay

test: check ## set up all that is needed, then every check and every test
	$(BIN)/python -m infra.testbed build
	$(BIN)/python -m pytest -n auto -m 'not live'
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m live

check: .venv/.ready ## lint, formats, types, layers, and whether generated files are current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_docs.py

bench: .venv/.ready ## measure, and print a table
	$(BIN)/python -m infra.testbed build
	$(BIN)/python -m benchmarks

testbed: .venv/.ready ## start a control plane to play with
	$(BIN)/python -m infra.testbed up

fleet: .venv/.ready ## run a fleet that breaks and is mended: two clusters, Kafka, and all roles
	$(BIN)/python -m infra.testbed build
	$(BIN)/python -m infra.fleet

golden: .venv/.ready ## renew the golden files; read the difference before you commit it
	KUBEWHY_GOLDEN=write $(BIN)/python -m pytest -q -m 'not live'

docs: .venv/.ready ## renew what is generated in docs/reference, docs/pictures and infra/athena
	$(BIN)/kubewhy rules -o markdown > docs/reference/rules.md
	$(BIN)/python -m kubewhy.schemas docs/reference/schemas
	$(BIN)/python -m kubewhy.asyncapi docs/reference/asyncapi.yaml
	$(BIN)/python -m infra.metrics > docs/reference/metrics.md
	$(BIN)/python -m infra.pictures docs/pictures
	$(BIN)/python -m infra.athena infra/athena

lock: .venv/.ready ## renew requirements.lock from pyproject.toml
	$(PIP) install -q uv
	$(BIN)/uv pip compile -q pyproject.toml --all-extras --universal --python-version 3.11 --no-header --no-emit-index-url --upgrade -o requirements.lock
