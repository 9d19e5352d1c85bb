# The commands of README and CONTRIBUTING. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LAB ?= stoker
# What tools/demo.py and tools/images.py read; the heads of these files say what each is.
export CONTEXT REGISTRY KEEP INSECURE_REGISTRY BUILDER PYTHON_IMAGE GOLANG_IMAGE WHEELS VERSITYGW DISTRIBUTION BUILDCTL PYPI_MIRROR

.DEFAULT_GOAL := help
.PHONY: help demo test unit lint generate images lab-up lab-down clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# The venv is made anew when pyproject.toml changes; pip's own output is shown only when it fails.
$(BIN)/.ready: pyproject.toml
	@tools/venv.sh "$(PYTHON)" "$(VENV)"
	@touch $@

demo: $(BIN)/.ready ## a real cluster, a pool that grows from zero, a training run, its outputs (KEEP=1, CONTEXT=, REGISTRY=)
	@$(BIN)/python tools/demo.py

test: $(BIN)/.ready ## every test, the end-to-end ones on a real cluster included (Linux, root)
	@tools/needs-root.sh "make test"
	@$(BIN)/python -m lab announce
	@$(BIN)/python tools/suite.py

unit: $(BIN)/.ready ## the quick tests: no cluster (no root, macOS and Linux, a minute or two)
	@$(BIN)/python -m pytest tests/unit

lint: $(BIN)/.ready ## format, lint, types, import directions, generated files
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python tools/generate.py --check

generate: $(BIN)/.ready ## render CRDs, schemas and reference pages from operator/stoker/api
	@$(BIN)/python tools/generate.py

images: $(BIN)/.ready ## build and push Stoker's images: make images REGISTRY=registry.example.com/stoker
	@$(BIN)/python tools/images.py build --registry "$(REGISTRY)"

lab-up: $(BIN)/.ready ## start the embedded cluster with one node and leave it running
	@$(BIN)/python -m lab up --name $(LAB) --nodes 1

lab-down: $(BIN)/.ready ## end the embedded cluster
	@$(BIN)/python -m lab down --name $(LAB)

clean: ## remove what the commands made inside the checkout
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
