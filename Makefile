# Localsmith: `make run` opens the chat, `make test` runs all tests. `make help` lists the rest.

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 8501
OPEN ?= 1
ARGS ?=
WORKERS ?= 2
TORCH_VERSION := $(shell sed -n 's/^torch==//p' constraints.txt)

# Undefined means "as last time", so that `make test` keeps the CUDA engine that `make run` built.
ENGINE := $(if $(filter undefined,$(origin LLAMA_CMAKE_ARGS)),,--llama-cmake-args="$(LLAMA_CMAKE_ARGS)")

.PHONY: help run test setup setup-dev setup-train setup-remote setup-mcp setup-telemetry check types constraints reference clean

help:
	@echo "make run          set up, pull the default model, open the chat   PORT=8501 OPEN=1 LLAMA_CMAKE_ARGS="
	@echo "make setup-train  add what training needs; also setup-remote, setup-mcp, setup-telemetry"
	@echo "make test         set up, run all tests                           ARGS=\"-k budget\" WORKERS=2"
	@echo "make check        linters, formatter, type checker, import directions"
	@echo "make types        links in build/types, for editors and type checkers"
	@echo "make constraints  resolve the newest dependencies into constraints.txt"
	@echo "make reference    write docs/reference from the code"
	@echo "make clean        remove the environment and build folders; models and documents stay"

run: setup
	@$(BIN)/localsmith setup --no-sandbox
	@$(BIN)/localsmith ui --port $(PORT) $(if $(filter 0 no false,$(OPEN)),--no-open,)

test: setup-dev
	@$(BIN)/python scripts/sandbox.py
	@browser="$$($(BIN)/python scripts/chromium.py)" && \
		LOCALSMITH_CHROMIUM="$$browser" $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

setup: python
	@$(PYTHON) scripts/setup.py --venv $(VENV) $(ENGINE)

setup-dev setup-train setup-remote setup-mcp setup-telemetry: setup-%: python
	@$(PYTHON) scripts/setup.py --venv $(VENV) --extra $* $(ENGINE)

.PHONY: python
python:
	@test -n "$(PYTHON)" || { echo "Localsmith needs Python 3.11 or newer. On Debian or Ubuntu:"; \
		echo "    sudo apt-get update && sudo apt-get install -y python3 python3-venv build-essential"; exit 1; } >&2

types:
	@mkdir -p build/types/localsmith
	@ln -sfn $(CURDIR)/localsmith/*.py $(CURDIR)/localsmith/py.typed build/types/localsmith/
	@for folder in core models retrieval agents training evaluation serving ui; do \
		ln -sfn $(CURDIR)/$$folder build/types/localsmith/$$folder; done

check: setup-dev types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=build/types $(BIN)/mypy -p localsmith
	MYPYPATH=build/types:scripts $(BIN)/mypy scripts
	$(BIN)/python -m pytest -q tests/test_layout.py

constraints: setup-dev
	$(BIN)/python scripts/constraints.py --torch $(TORCH_VERSION)

reference: setup-dev
	$(BIN)/python scripts/reference.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
