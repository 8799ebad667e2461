# Every task of the repository. Needs Python 3.11 or newer on the machine, and nothing else;
# only the SMPP peers of `make test` want npm and, on Debian or Ubuntu, apt (no root).

# The pinned tool that makes the environment. It lives in its own small environment, beside the one it makes.
UV_VERSION := 0.13.9
UV         := .uv/bin/uv
BIN        := .venv/bin
# The first Python that is new enough; PYTHON=/path/to/python chooses another.
PYTHON     ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
                "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v "$$python" && break; done)
SOURCES    := $(wildcard libs/*/src services/*/src simulators/*/src cli/src)
TESTS      := $(wildcard libs/*/tests services/*/tests simulators/*/tests) cli/tests tests
# A folder with a hyphen is no package: its modules have bare names, which the next such folder has too.
TESTS_APART := $(foreach folder,$(TESTS),$(if $(findstring -,$(folder)),$(folder)))
GRPC_CODE  := services/ingress/src/harkara_ingress/grpc/gen
MEMBERS    := $(wildcard libs/*/pyproject.toml services/*/pyproject.toml simulators/*/pyproject.toml cli/pyproject.toml)
# The environment's own Python is the only one: none is downloaded, whatever the machine's settings say.
export UV_PYTHON_DOWNLOADS := never

.DEFAULT_GOAL := help
.PHONY: help setup up down test lint format docs bench chaos guards

help: ## Lists these tasks
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: .venv/.setup ## Makes the environment (.venv) from uv.lock; leaves .venv/bin/harkara

# The stamp is as new as the lock file it was made from, so that a second `make setup` does nothing.
.venv/.setup: uv.lock pyproject.toml $(MEMBERS) .uv/.version-$(UV_VERSION)
	$(UV) sync --all-packages --frozen --python .uv/bin/python
	@touch $@

# One that was broken off half way has no pip yet, and is made anew.
.uv/.version-$(UV_VERSION):
	@test -n "$(PYTHON)" || { echo "Harkara needs Python 3.11 or newer: install it, or name it with make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make environments: install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@.uv/bin/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@rm -f .uv/.version-* && touch $@

up: setup ## Starts the whole stack; Ctrl-C stops it
	@$(BIN)/harkara up

down: setup ## Stops a stack that was started with `harkara up --detach`
	@$(BIN)/harkara down

test: lint ## Runs every check and every test
	$(BIN)/pytest

lint: setup ## Checks style, types and the borders between services
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(SOURCES) bench conftest.py $(filter-out $(TESTS_APART),$(TESTS))
	for folder in $(TESTS_APART); do $(BIN)/mypy $$folder || exit 1; done
	$(BIN)/lint-imports

format: setup ## Formats the code and mends what can be mended by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: setup ## Writes what is generated: JSON Schemas, docs/asyncapi.json, docs/cli.md, the code of proto/
	$(BIN)/python -m harkara_contracts.asyncapi libs/contracts/schemas docs/asyncapi.json
	$(BIN)/typer harkara_cli.main utils docs --name harkara --title "The harkara command" --output docs/cli.md
	$(BIN)/python -m grpc_tools.protoc -I proto --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
		--python_out=$(GRPC_CODE) --mypy_out=quiet:$(GRPC_CODE) proto/harkara/v1/*.proto

bench: setup ## Measures the stack end to end
	$(BIN)/python -m bench

chaos: setup ## Breaks a stack under load, fault by fault, and counts; SOAK=30 breaks one for 30 minutes
	$(BIN)/python -m tests.chaos $(if $(SOAK),--soak $(SOAK))

guards: setup ## Takes out each guard against a trap of the bus, one at a time: a test has to fail
	$(BIN)/python -m tests.guards
