# From a clone to a trained model: make sandbox. `make help` lists the rest. Needs Python 3.11 or newer and nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FRAMEWORKS := .venv-frameworks
# What `pip install torch` would take by default brings gigabytes of CUDA; this version has a small build for CPUs.
TORCH ?= torch==2.13.0
# Test files that run at the same time: most of them wait more than they compute.
WORKERS ?= 2
ARGS ?=

.PHONY: help sandbox test test-browser test-docker test-frameworks test-node lint format bench bench-peers docs clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

sandbox: $(VENV)/.sandbox  ## a whole federation on this machine trains the digits project (ARGS="--exit --clients 8")
	$(BIN)/fedn sandbox $(ARGS)

test: $(VENV)/.test  ## all tests but those of a browser, Docker, Node.js, PyTorch, TensorFlow (ARGS="tests/unit -x")
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not frameworks and not docker and not browser and not node" $(ARGS)

test-node: $(VENV)/.test  ## the client in JavaScript in a real federation; needs Node.js 18.20 or newer, with npm
	@for program in node npm; do command -v $$program >/dev/null || { \
	  echo "$$program is not installed. The client in JavaScript needs Node.js 18.20 or newer, with npm:"; \
	  echo "on Debian and Ubuntu, apt-get install nodejs npm; elsewhere see nodejs.org. Then run make again."; \
	  exit 1; }; done
	$(BIN)/python -m pytest -m node tests/node $(ARGS)

test-browser: $(VENV)/.test  ## Chromium through every page of the dashboard; pictures into artefacts/dashboard
	$(BIN)/python -m pytest -m browser tests/browser $(ARGS)

test-docker: $(VENV)/.test  ## the sandbox in containers, on a real Docker engine, which is started where there is none (as root)
	$(PYTHON) .ci/docker_engine.py run $(BIN)/python -m pytest -m docker tests/docker $(ARGS)

test-frameworks: $(FRAMEWORKS)/.frameworks  ## the tests of PyTorch and TensorFlow, in an environment of their own
	$(FRAMEWORKS)/bin/python -m pytest -m frameworks tests/frameworks $(ARGS)

lint: $(VENV)/.dev  ## style, types, imports, generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python proto/generate.py --check

format: $(VENV)/.dev  ## writes the code as the style wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.test  ## measures the platform against this machine's own limits (ARGS="rounds")
	$(BIN)/python -m benchmarks $(ARGS)

bench-peers: $(VENV)/.test  ## the same rounds by Flower 1.8, NVFlare 2.9 and ours, in one run (ARGS="--params 1M --clients 2,10")
	$(BIN)/python -m benchmarks peers $(ARGS)

docs: $(VENV)/.docs  ## builds the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## removes everything that the other targets made
	rm -rf $(VENV) $(FRAMEWORKS) .venv-peers site build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	rm -rf .import_linter_cache fedn-sandbox fedn-sandbox-* artefacts
	find fedn tests benchmarks proto test-projects -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp a set of extras: a target installs only what it needs, and again only when pyproject.toml has changed.
SANDBOX_EXTRAS := .[sklearn]
TEST_EXTRAS := .[test,docs,bench]
DEV_EXTRAS := .[test,dev]
DOCS_EXTRAS := .[docs]
FRAMEWORK_EXTRAS := .[torch,keras,test]

define install
@echo "installing $(2) into $(1)"
@$(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2) || { \
  echo; \
  echo "The packages could not be installed: see what pip says above."; \
  echo "This step needs a package index. Check the network, or set PIP_INDEX_URL to a mirror, and run make again."; \
  exit 1; }
endef

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("fedn needs Python 3.11 or newer; name one: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.sandbox: $(VENV)/.made pyproject.toml
	$(call install,$(VENV),--editable '$(SANDBOX_EXTRAS)')
	@touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml
	$(call install,$(VENV),--editable '$(TEST_EXTRAS)')
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(call install,$(VENV),--editable '$(DEV_EXTRAS)')
	@touch $@

$(VENV)/.docs: $(VENV)/.made pyproject.toml
	$(call install,$(VENV),--editable '$(DOCS_EXTRAS)')
	@touch $@

# PyTorch first: asked for together with the rest, pip might take another build of it.
$(FRAMEWORKS)/.frameworks: pyproject.toml
	@test -d $(FRAMEWORKS) || $(PYTHON) -m venv $(FRAMEWORKS)
	$(call install,$(FRAMEWORKS),'$(TORCH)')
	$(call install,$(FRAMEWORKS),--editable '$(FRAMEWORK_EXTRAS)')
	@touch $@
