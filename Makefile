.DEFAULT_GOAL := help
# A name on the path need not run (version managers leave stubs), so each is tried.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin

.PHONY: help test check docs lock
help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/.ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo 'kubewhy needs Python 3.11 or later on the path: install it, or say make PYTHON=/path/to/python3'; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q -r requirements.lock -e .
	@touch $@

test: check ## set up all it needs and run every check and test
	$(BIN)/python -m pytest

check: .venv/.ready ## lint, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: ## renew requirements.lock from pyproject.toml
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile -q pyproject.toml --all-extras --no-header --upgrade -o requirements.lock
